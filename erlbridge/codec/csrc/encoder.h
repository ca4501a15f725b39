/* The encoder's state and the values that are written in place; shared by encode.c, parts.c,
 * refusals.c and writer.c. */

#ifndef ERLBRIDGE_ENCODER_H
#define ERLBRIDGE_ENCODER_H

#include "codec.h"

enum { FIRST_FRAMES = 48, FIRST_BYTES = 2048, HEADER_BYTES = 16, CYCLE_DEPTH = 64, STRING_LIMIT = 65535 };

/* From this size on a binary is a part of its own in `term_to_iovec`. */
enum { PART_BYTES = 65536 };

typedef enum { ROOT, LIST, TUPLE, DICT, FLAT, FUN } Kind;

typedef struct {
    Kind kind;
    PyObject *owner; /* the container; NULL at the root */
    PyObject *items; /* the tuple whose values are written: the owner itself, or what was made of it */
    PyObject *held;  /* DICT: the value whose key is a container */
    bool value_next; /* DICT: it comes next */
    Py_ssize_t at, count; /* position and, at the opening, the number of elements; for a DICT the pairs to come */
    Py_ssize_t size; /* DICT: the number of pairs at the opening */
    Py_ssize_t mark_part, mark; /* FUN: where its header stands */
    size_t mark_total; /* FUN: and how far that is from the beginning */
} Frame;

typedef struct {
    State *state;
    uint8_t *p, *limit, *start;
    PyObject *bytes; /* what `start` points into, or NULL for `first` */
    PyObject *parts;
    size_t gone; /* bytes in parts */
    PyObject *default_;
    PyObject *message; /* why a value is refused */
    Frame *frames;
    Py_ssize_t depth;
    int put; /* why put_leaf gave nothing: 0, no leaf; -1, refused or an exception is set */
    bool whole_list; /* the refusal is of an integer in a list of integers, which is refused as a whole */
    Frame first_frames[FIRST_FRAMES];
    uint8_t first[FIRST_BYTES];
} Encoder;

/* -- writer.c: the output, and values that take more than a few instructions ------------------------------------------ */

/* Room for this many bytes more, from where little is left. */
int grow(Encoder *encoder, size_t need);

/* What was written so far, as bytes; the encoder begins anew. */
PyObject *take(Encoder *encoder);

/* Keeps the text of a refusal; NULL, with an exception, is raised as it is. Always -1. */
int refuse(Encoder *encoder, PyObject *message);

/* 1: written. 0: left to another. -1: refused, or an exception is set. */
int put_header(Encoder *encoder, uint8_t tag, size_t size);
int put_binary(Encoder *encoder, PyObject *data);
int put_text(Encoder *encoder, PyObject *text);
int put_big(Encoder *encoder, PyObject *number);
int put_string(Encoder *encoder, PyObject *list);
int close_fun(Encoder *encoder, Frame *frame);

static inline int ensure(Encoder *encoder, size_t need)
{
    return (size_t)(encoder->limit - encoder->p) < need ? grow(encoder, need) : 0;
}

/* The loops of the encoder are worth a copy each of what they write. */
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* memcpy for a few bytes, where a call costs more than the copy. */
static inline void copy_short(uint8_t *to, const uint8_t *from, size_t size)
{
    uint64_t low, high;
    if (size > 32) {
        memcpy(to, from, size);
    }
    else if (size >= 8) {
        memcpy(&high, from + size - 8, 8);
        for (size_t at = 0; at + 8 < size; at += 8) {
            memcpy(&low, from + at, 8);
            memcpy(to + at, &low, 8);
        }
        memcpy(to + size - 8, &high, 8);
    }
    else if (size >= 4) {
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + size - 4, 4);
        memcpy(to, &first, 4);
        memcpy(to + size - 4, &last, 4);
    }
    else {
        for (size_t at = 0; at < size; at++) {
            to[at] = from[at];
        }
    }
}

/* The magnitude and sign of an int of few digits; false for longer ones, and on versions whose ints look otherwise. */
static inline bool few_digits(PyObject *number, uint64_t *magnitude, bool *negative)
{
#if PYLONG_BITS_IN_DIGIT != 30 || PY_VERSION_HEX >= 0x030E0000
    (void)number, (void)magnitude, (void)negative;
    return false;
#else
#if PY_VERSION_HEX >= 0x030C0000
    uintptr_t tag = ((PyLongObject *)number)->long_value.lv_tag;
    const digit *digits = ((PyLongObject *)number)->long_value.ob_digit;
    size_t count = tag >> 3;
    *negative = (tag & 3) == 2;
#else
    Py_ssize_t size = Py_SIZE(number);
    const digit *digits = ((PyLongObject *)number)->ob_digit;
    *negative = size < 0;
    size_t count = (size_t)(size < 0 ? -size : size);
#endif
    if (count <= 1) {
        *magnitude = count ? digits[0] : 0;
        return true;
    }
    if (count == 2) {
        *magnitude = digits[0] | (uint64_t)digits[1] << 30;
        return true;
    }
    if (count == 3 && digits[2] < 16) { /* 64 bits at most */
        *magnitude = digits[0] | (uint64_t)digits[1] << 30 | (uint64_t)digits[2] << 60;
        return true;
    }
    return false;
#endif
}

/* SMALL_BIG_EXT of a magnitude that is not 0. Writes up to 7 bytes beyond. */
static inline uint8_t *put_magnitude(uint8_t *p, uint64_t magnitude, bool negative)
{
    int size = 8 - __builtin_clzll(magnitude) / 8; /* not a loop: sizes that change cannot be predicted */
    p[0] = SMALL_BIG_EXT;
    p[1] = (uint8_t)size;
    p[2] = negative;
    for (int index = 0; index < 8; index++) {
        p[3 + index] = (uint8_t)(magnitude >> 8 * index);
    }
    return p + 3 + size;
}

static inline uint8_t *put_slowly(Encoder *encoder, uint8_t *p, PyObject *value, int (*put)(Encoder *, PyObject *))
{
    encoder->p = p;
    if (put(encoder, value) > 0) {
        return encoder->p;
    }
    encoder->put = -1;
    return NULL;
}

INLINE uint8_t *put_atom_at(Encoder *encoder, uint8_t *p, PyObject *atom)
{
    PyObject *wire = SLOT(atom, encoder->state->at.atom_wire);
    if (wire == NULL || !PyBytes_CheckExact(wire)) {
        PyErr_SetString(PyExc_SystemError, "an atom that its constructor did not make");
        encoder->p = p;
        encoder->put = -1;
        return NULL;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(wire);
    if ((size_t)(encoder->limit - p) < size + HEADER_BYTES) {
        encoder->p = p;
        if (grow(encoder, size + HEADER_BYTES) < 0) {
            encoder->put = -1;
            return NULL;
        }
        p = encoder->p;
    }
    copy_short(p, (const uint8_t *)PyBytes_AS_STRING(wire), size);
    return p + size;
}

/* Writes a value that holds no terms at `p` and gives the place after it; `p` is a local of the caller's, since every byte
 * written could else be one of the encoder's own fields. NULL: not written, encoder->put says why, encoder->p is right.
 * Leaves room for a header. */
INLINE uint8_t *put_leaf(Encoder *encoder, uint8_t *p, PyObject *value, const PyObject *atom_type)
{
    const PyTypeObject *type = Py_TYPE(value);
    if (encoder->limit - p < 2 * HEADER_BYTES) {
        encoder->p = p;
        if (grow(encoder, 2 * HEADER_BYTES) < 0) {
            encoder->put = -1;
            return NULL;
        }
        p = encoder->p;
    }
    if (type == &PyBytes_Type) {
        size_t size = (size_t)PyBytes_GET_SIZE(value);
        if ((size_t)(encoder->limit - p) < size + 2 * HEADER_BYTES || size >= PART_BYTES) {
            return put_slowly(encoder, p, value, put_binary);
        }
        p[0] = BINARY_EXT;
        store_u32(p + 1, (uint32_t)size);
        copy_short(p + 5, (const uint8_t *)PyBytes_AS_STRING(value), size);
        return p + 5 + size;
    }
    if ((const PyObject *)type == atom_type) {
        return put_atom_at(encoder, p, value);
    }
    if (type == &PyLong_Type) {
        uint64_t magnitude;
        bool negative;
        if (!few_digits(value, &magnitude, &negative)) {
            return put_slowly(encoder, p, value, put_big);
        }
        if (magnitude <= 255 && !negative) {
            p[0] = SMALL_INTEGER_EXT;
            p[1] = (uint8_t)magnitude;
            return p + 2;
        }
        if (magnitude <= (uint64_t)INT32_MAX + negative) {
            p[0] = INTEGER_EXT;
            store_u32(p + 1, negative ? 0 - (uint32_t)magnitude : (uint32_t)magnitude);
            return p + 5;
        }
        return put_magnitude(p, magnitude, negative);
    }
    if (type == &PyFloat_Type) {
        double number = PyFloat_AS_DOUBLE(value);
        uint64_t bits;
        memcpy(&bits, &number, 8);
        if ((bits >> 52 & 0x7FF) == 0x7FF) {
            encoder->p = p;
            encoder->put = refuse(encoder, PyUnicode_FromFormat("Erlang has no float %R", value));
            return NULL;
        }
        p[0] = NEW_FLOAT_EXT;
        store_u64(p + 1, bits);
        return p + 9;
    }
    if (type == &PyUnicode_Type) {
        size_t size;
        if (!PyUnicode_IS_COMPACT_ASCII(value) || (size = (size_t)PyUnicode_GET_LENGTH(value)) >= PART_BYTES
            || (size_t)(encoder->limit - p) < size + 2 * HEADER_BYTES) {
            return put_slowly(encoder, p, value, put_text);
        }
        p[0] = BINARY_EXT;
        store_u32(p + 1, (uint32_t)size);
        copy_short(p + 5, PyUnicode_1BYTE_DATA(value), size);
        return p + 5 + size;
    }
    if (value == Py_None) {
        memcpy(p, "w\3nil", 5);
        return p + 5;
    }
    if (value == Py_True) {
        memcpy(p, "w\4true", 6);
        return p + 6;
    }
    if (value == Py_False) {
        memcpy(p, "w\5false", 7);
        return p + 7;
    }
    encoder->p = p;
    encoder->put = 0;
    return NULL;
}

/* -- parts.c ---------------------------------------------------------------------------------------------------------- */

/* A tuple of the values that this one is written as, their header written already; NULL with an exception. */
PyObject *parts_of(Encoder *encoder, PyObject *value, bool deterministic);

/* -- refusals.c --------------------------------------------------------------------------------------------------------- */

/* Whether a list, of one element at least, is one of numbers, which is written in one piece and opens nothing; -1 with an
 * exception. */
int is_run(State *state, PyObject *list);

/* Refuses what nests too deep. Looks for cycles at each doubling of the depth, so that it costs next to nothing. */
int check_depth(Encoder *encoder, PyObject *value);

/* Raises what `refuse` was told, with this value's place. Leaves any other exception as it is. */
void raise_refusal(Encoder *encoder, PyObject *value);

/* What Python answers about a value. Its EncodeError gets the value's place, unless `default` may have raised it. */
PyObject *ask(Encoder *encoder, PyObject *function, PyObject *value, PyObject *option);

/* Raises that the frame's container has changed; gives -1. */
int changed(Encoder *encoder, const Frame *frame, const char *cause);

#endif
