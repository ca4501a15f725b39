/* Whether one of some words stands in bytes, whatever the case of its letters: one pass for all words. */
#include "codec.h"

enum { BEGINNING = 3, BLOCK = 256, MOST_WORDS = 32, OTHERS_BYTES = 1 << 18 };

typedef struct {
    const uint8_t *text;
    Py_ssize_t size;
} Word;

static inline uint8_t lower(uint8_t byte) { return (uint8_t)(byte | (byte >= 'A' && byte <= 'Z') << 5); }

static bool stands(const Word *word, const uint8_t *at, const uint8_t *end)
{
    if (end - at < word->size) {
        return false;
    }
    for (Py_ssize_t index = 0; index < word->size; index++) {
        if (lower(at[index]) != word->text[index]) {
            return false;
        }
    }
    return true;
}

static bool one_stands(const Word *words, int count, const uint8_t *at, const uint8_t *end)
{
    for (int index = 0; index < count; index++) {
        if (words[index].text[0] == lower(*at) && stands(words + index, at, end)) {
            return true;
        }
    }
    return false;
}

/* Which places of a block begin as a word does, in its first bytes. Plain loops over bytes, for the compiler to make
   vectors of. */
static bool begun(const uint8_t *low, const Word *words, int count, uint8_t *places)
{
    memset(places, 0, BLOCK);
    for (int index = 0; index < count; index++) {
        const uint8_t first = words[index].text[0], second = words[index].text[1], third = words[index].text[2];
        if (index && memcmp(words[index].text, words[index - 1].text, BEGINNING) == 0) {
            continue;
        }
        for (int at = 0; at < BLOCK; at++) {
            places[at] |= (uint8_t)((low[at] == first) & (low[at + 1] == second) & (low[at + 2] == third));
        }
    }
    uint64_t any = 0, eight;
    for (int at = 0; at < BLOCK; at += 8) {
        memcpy(&eight, places + at, 8);
        any |= eight;
    }
    return any != 0;
}

static bool search(const uint8_t *data, Py_ssize_t size, const Word *words, int count, const Word *but, int but_count)
{
    uint8_t low[BLOCK + BEGINNING - 1], places[BLOCK];
    const uint8_t *end = data + size;
    for (Py_ssize_t start = 0; start < size; start += BLOCK) {
        Py_ssize_t here = size - start < (Py_ssize_t)sizeof(low) ? size - start : (Py_ssize_t)sizeof(low);
        for (Py_ssize_t at = 0; at < here; at++) {
            low[at] = lower(data[start + at]);
        }
        memset(low + here, 0, sizeof(low) - (size_t)here);
        if (!begun(low, words, count, places)) {
            continue;
        }
        for (Py_ssize_t at = 0; at < here && at < BLOCK; at++) {
            const uint8_t *place = data + start + at;
            if (places[at] && one_stands(words, count, place, end) && !one_stands(but, but_count, place, end)) {
                return true;
            }
        }
    }
    return false;
}

/* The words of a tuple, which are borrowed from it; -1 with an exception. */
static int words_of(PyObject *tuple, Word *words)
{
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) > MOST_WORDS) {
        PyErr_Format(PyExc_TypeError, "expected a tuple of at most %d words", MOST_WORDS);
        return -1;
    }
    int count = (int)PyTuple_GET_SIZE(tuple);
    for (int index = 0; index < count; index++) {
        PyObject *word = PyTuple_GET_ITEM(tuple, index);
        if (!PyBytes_Check(word)) {
            PyErr_SetString(PyExc_TypeError, "a word is bytes");
            return -1;
        }
        if (PyBytes_GET_SIZE(word) < BEGINNING) {
            PyErr_Format(PyExc_ValueError, "a word has at least %d bytes", BEGINNING);
            return -1;
        }
        words[index] = (Word){(const uint8_t *)PyBytes_AS_STRING(word), PyBytes_GET_SIZE(word)};
    }
    return count;
}

PyObject *holds_any(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Word words[MOST_WORDS], but[MOST_WORDS];
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "holds_any() takes exactly 3 arguments (%zd given)", nargs);
        return NULL;
    }
    int count = words_of(args[1], words), but_count = count < 0 ? -1 : words_of(args[2], but);
    if (but_count < 0) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    bool found;
    if (view.len < OTHERS_BYTES) {
        found = search(view.buf, view.len, words, count, but, but_count);
    } else {
        Py_BEGIN_ALLOW_THREADS
        found = search(view.buf, view.len, words, count, but, but_count);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    return PyBool_FromLong(found);
}
