/* Maps whose keys repeat: the dict of such a map is a copy of one with the same keys, with other values put in place.
 *
 * A list of records has the same keys in the same order, record after record. Where a map begins as one seen before, its
 * keys are compared with the input byte for byte, and neither looked up nor inserted: the copy brings the hash table along.
 * A key that differs ends it, and the map goes on as any other; so a map is never taken for another one.
 *
 * To put values in place, this file alone looks into a dict. It does so on the versions of CPython it was written for, and
 * only after a trial at import has shown that the layout is the expected one; else all maps are built key by key.
 *
 * Learning costs time that maps which never repeat do not pay back. So a shape is made of keys seen twice in a row, loses
 * its place when it misses more than it hits, and after a run of maps without any hit the cache stands aside for a while.
 */

#include "dicts.h"

enum {
    FRUITLESS_MAPS = 64, /* maps without a hit before the cache stands aside */
    ASLEEP_MAPS = 2048,  /* for how many maps it does */
    MOST_SCORE = 16,
    FIRST_SCORE = 4,
    MISS_COSTS = 2,
    LONGEST_KEY = 64, /* of a binary; longer ones are values rather than names */
};

void shape_release(Shape *shape)
{
    if (--shape->refs == 0) {
        Py_XDECREF(shape->template);
        PyMem_Free(shape->keys);
        PyMem_Free(shape->ends);
        PyMem_Free(shape->wire);
        PyMem_Free(shape);
    }
}

static void drop(State *state, ShapeSet *set)
{
    Shape *shape = set->shape;
    if (shape != NULL) {
        set->shape = NULL;
        state->shapes.held--;
        shape_release(shape);
    }
}

void shapes_clear(State *state)
{
    if (state->shapes.sets != NULL) {
        for (int index = 0; index < SHAPE_SETS; index++) {
            drop(state, &state->shapes.sets[index]);
        }
        PyMem_Free(state->shapes.sets);
        state->shapes.sets = NULL;
    }
}

ShapeSet *shape_set(State *state, const uint8_t *p, const uint8_t *end, uint32_t n, bool text)
{
    Shapes *shapes = &state->shapes;
    if (!shapes->enabled) {
        return NULL;
    }
    if (shapes->asleep) {
        shapes->asleep--;
        return NULL;
    }
    size_t size;
    if (*p == BINARY_EXT) {
        if (end - p < 5 || load_u32(p + 1) > LONGEST_KEY || end - p - 5 < (Py_ssize_t)load_u32(p + 1)) {
            return NULL;
        }
        size = 5 + load_u32(p + 1);
    }
    else {
        size = atom_size(p, end);
        if (size == 0 || size > ATOM_KEY_BYTES) {
            return NULL;
        }
    }
    if (++shapes->fruitless > FRUITLESS_MAPS) {
        shapes->fruitless = FRUITLESS_MAPS / 2;
        shapes->asleep = ASLEEP_MAPS;
    }
    uint64_t hash = hash_bytes(p, size, state->seed ^ (n * 2 + text));
    return shapes->sets + (hash & (SHAPE_SETS - 1));
}

void shape_missed(State *state, Shape *shape)
{
    state->shapes.misses++;
    shape->score -= MISS_COSTS;
}

/* The bytes of a key as a peer writes it that uses this tag for its atoms; 0 if a key is none of a shape's. */
static size_t key_bytes(State *state, PyObject *key, uint8_t atom_tag, bool text, uint8_t *out)
{
    const char *data;
    Py_ssize_t size;
    if ((PyObject *)Py_TYPE(key) == state->atom_type) {
        PyObject *name = SLOT(key, state->at.atom_name), *wire = SLOT(key, state->at.atom_wire);
        if (name == NULL || !PyUnicode_CheckExact(name) || wire == NULL || !PyBytes_CheckExact(wire)) {
            return 0;
        }
        if (atom_tag == ATOM_EXT && PyUnicode_KIND(name) == PyUnicode_1BYTE_KIND && PyUnicode_GET_LENGTH(name) < 256) {
            size = PyUnicode_GET_LENGTH(name);
            out[0] = ATOM_EXT;
            store_u16(out + 1, (uint16_t)size);
            memcpy(out + 3, PyUnicode_1BYTE_DATA(name), (size_t)size);
            return (size_t)size + 3;
        }
        size = PyBytes_GET_SIZE(wire);
        if (size > ATOM_KEY_BYTES) {
            return 0;
        }
        memcpy(out, PyBytes_AS_STRING(wire), (size_t)size);
        return (size_t)size;
    }
    if (PyBytes_CheckExact(key)) {
        data = PyBytes_AS_STRING(key);
        size = PyBytes_GET_SIZE(key);
    }
    else if (text && PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key)) {
        data = (const char *)PyUnicode_1BYTE_DATA(key);
        size = PyUnicode_GET_LENGTH(key);
    }
    else {
        return 0;
    }
    if (size > LONGEST_KEY) {
        return 0;
    }
    out[0] = BINARY_EXT;
    store_u32(out + 1, (uint32_t)size);
    memcpy(out + 5, data, (size_t)size);
    return (size_t)size + 5;
}

static Shape *shape_new(State *state, PyObject **pairs, uint32_t n, uint8_t atom_tag, bool text)
{
    uint8_t wire[SHAPE_MAX_KEYS * 300]; /* an atom takes 255 + 3 at most, in Latin-1 */
    size_t size = 0;
    Shape *shape = PyMem_Calloc(1, sizeof(Shape));
    if (shape == NULL) {
        return NULL;
    }
    shape->refs = 1;
    shape->score = FIRST_SCORE;
    shape->n = (int)n;
    shape->text = text;
    shape->ends = PyMem_Malloc(n * sizeof(uint32_t));
    shape->keys = PyMem_Malloc(n * sizeof(PyObject *));
    shape->template = PyDict_New();
    if (shape->ends == NULL || shape->keys == NULL || shape->template == NULL) {
        goto fail;
    }
    for (uint32_t index = 0; index < n; index++) {
        PyObject *key = pairs[2 * index];
        size_t taken = key_bytes(state, key, atom_tag, text, wire + size);
        if (taken == 0 || PyDict_SetItem(shape->template, key, Py_None) < 0) {
            goto fail;
        }
        size += taken;
        shape->ends[index] = (uint32_t)size;
        shape->keys[index] = key;
    }
    if (PyDict_GET_SIZE(shape->template) != (Py_ssize_t)n) {
        goto fail;
    }
    shape->wire = PyMem_Malloc(size);
    if (shape->wire == NULL) {
        goto fail;
    }
    memcpy(shape->wire, wire, size);
    /* Its keys are leaves and its values None: the collector has nothing to find here, nor in a fresh copy. */
    PyObject_GC_UnTrack(shape->template);
    return shape;

fail:
    PyErr_Clear(); /* a map is no worse for not being remembered */
    shape_release(shape);
    return NULL;
}

void shape_learn(State *state, ShapeSet *set, PyObject **pairs, uint32_t n, uint8_t first_tag, bool text)
{
    uint64_t seen = n;
    for (uint32_t index = 0; index < n; index++) {
        PyObject *key = pairs[2 * index];
        if ((PyObject *)Py_TYPE(key) == state->atom_type) {
            seen = (seen ^ (uint64_t)(uintptr_t)key) * UINT64_C(0x9E3779B97F4A7C15);
        }
        else if (PyBytes_CheckExact(key) || PyUnicode_CheckExact(key)) {
            seen = (seen ^ (uint64_t)PyObject_Hash(key)) * UINT64_C(0x9E3779B97F4A7C15);
        }
        else {
            return;
        }
        seen ^= seen >> 29;
    }
    if (set->seen != seen) {
        set->seen = seen;
        return;
    }
    if (set->shape != NULL && set->shape->score > 0) {
        set->shape->score -= MISS_COSTS;
        return;
    }
    Shape *shape = shape_new(state, pairs, n, first_tag, text);
    drop(state, set);
    set->shape = shape;
    state->shapes.held += shape != NULL;
}

#ifdef KNOWS_DICT

PyObject *shape_dict(State *state, Shape *shape, PyObject **values)
{
    PyObject *dict = PyDict_Copy(shape->template);
    if (dict == NULL) {
        return NULL;
    }
    PyDictKeysObject *keys = ((PyDictObject *)dict)->ma_keys;
    int n = shape->n;
    /* The copy holds None once for each key. */
    if (DK_IS_UNICODE(keys)) {
        PyDictUnicodeEntry *entries = DK_UNICODE_ENTRIES(keys);
        for (int index = 0; index < n; index++) {
            entries[index].me_value = values[index];
        }
    }
    else {
        PyDictKeyEntry *entries = DK_ENTRIES(keys);
        for (int index = 0; index < n; index++) {
            entries[index].me_value = values[index];
        }
    }
#if PY_VERSION_HEX < 0x030C0000
    Py_SET_REFCNT(Py_None, Py_REFCNT(Py_None) - n); /* immortal from 3.12 on */
#endif
    state->shapes.hits++;
    state->shapes.fruitless = 0;
    if (shape->score < MOST_SCORE) {
        shape->score++;
    }
    return dict;
}

/* Whether copies are laid out as `shape_dict` believes, by copies of every kind that it may meet. */
static bool trial(State *state)
{
    for (int round = 0; round < 4; round++) {
        int n = round % 2 ? 3 : SHAPE_MAX_KEYS;
        PyObject *template = PyDict_New(), *copy = NULL;
        bool right = template != NULL;
        for (int index = 0; right && index < n; index++) {
            PyObject *key = round < 2 ? PyBytes_FromFormat("%d", index) : PyUnicode_FromFormat("%d", index);
            right = key != NULL && PyDict_SetItem(template, key, Py_None) == 0;
            Py_XDECREF(key);
        }
        copy = right ? PyDict_Copy(template) : NULL;
        right = copy != NULL && ((PyDictObject *)copy)->ma_values == NULL
                && ((PyDictObject *)copy)->ma_keys != ((PyDictObject *)template)->ma_keys
                && ((PyDictObject *)copy)->ma_keys->dk_nentries == n && PyDict_GET_SIZE(copy) == n;
        if (right) {
            PyDictKeysObject *keys = ((PyDictObject *)copy)->ma_keys;
            PyObject *key, *value;
            Py_ssize_t at = 0;
            for (int index = 0; index < n; index++) {
                PyObject *held = DK_IS_UNICODE(keys) ? DK_UNICODE_ENTRIES(keys)[index].me_value
                                                     : DK_ENTRIES(keys)[index].me_value;
                PyObject *held_key = DK_IS_UNICODE(keys) ? DK_UNICODE_ENTRIES(keys)[index].me_key
                                                         : DK_ENTRIES(keys)[index].me_key;
                right = right && PyDict_Next(copy, &at, &key, &value) && held == Py_None && value == Py_None
                        && held_key == key;
            }
        }
        Py_XDECREF(template);
        Py_XDECREF(copy);
        if (!right) {
            return false;
        }
    }
    (void)state;
    return true;
}

#else

PyObject *shape_dict(State *state, Shape *shape, PyObject **values)
{
    (void)state, (void)shape, (void)values;
    PyErr_SetString(PyExc_SystemError, "no shape can exist in this build");
    return NULL;
}

static bool trial(State *state)
{
    (void)state;
    return false;
}

#endif

int shapes_init(State *state)
{
    state->shapes.works = trial(state);
    PyErr_Clear();
    state->shapes.enabled = state->shapes.works;
    state->shapes.sets = PyMem_Calloc(SHAPE_SETS, sizeof(ShapeSet));
    if (state->shapes.sets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}
