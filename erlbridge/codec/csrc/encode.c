/* The encoder: one loop with a stack of its own, dispatching on exact types; what is of no exact type goes through
 * `terms.plain` first, as in the pure twin.
 *
 * `default`, and the methods of foreign mappings, may change any container while it is written. So an open container is
 * held by its frame, sizes are looked at again at each step, and a value is held wherever Python code may run.
 */

#include "codec.h"

#include <stdlib.h>

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
    bool whole_list; /* the refusal is of an integer in a list of integers, which is refused as a whole */
    Frame first_frames[FIRST_FRAMES];
    uint8_t first[FIRST_BYTES];
} Encoder;

/* -- output --------------------------------------------------------------------------------------------------------- */

static int grow(Encoder *encoder, size_t need)
{
    size_t used = (size_t)(encoder->p - encoder->start);
    size_t wanted = used + need;
    size_t room = wanted < (size_t)1 << 20 || need < used / 2 ? 2 * wanted : wanted + wanted / 16;
    /* The elements of the outermost list tell how long the whole will be, so that it is moved no more than twice. */
    if (encoder->depth > 0 && encoder->parts == NULL) {
        const Frame *outer = &encoder->frames[1];
        if ((outer->kind == LIST || outer->kind == TUPLE) && outer->at > 0 && outer->at < outer->count) {
            double whole = (double)used / (double)outer->at * (double)outer->count * 1.04 + 256;
            double most = (double)wanted * (outer->at >= 16 ? 256 : 16);
            double guess = whole < most ? whole : most;
            if (guess > (double)wanted && need < used) {
                room = (size_t)guess;
            }
        }
    }
    if (room > (size_t)PY_SSIZE_T_MAX / 2) {
        PyErr_NoMemory();
        return -1;
    }
    if (encoder->bytes == NULL) {
        encoder->bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
        if (encoder->bytes == NULL) {
            return -1;
        }
        memcpy(PyBytes_AS_STRING(encoder->bytes), encoder->start, used);
    }
    else if (_PyBytes_Resize(&encoder->bytes, (Py_ssize_t)room) < 0) {
        encoder->start = encoder->p = encoder->limit = encoder->first;
        return -1;
    }
    encoder->start = (uint8_t *)PyBytes_AS_STRING(encoder->bytes);
    encoder->p = encoder->start + used;
    encoder->limit = encoder->start + room;
    return 0;
}

static inline int ensure(Encoder *encoder, size_t need)
{
    return (size_t)(encoder->limit - encoder->p) < need ? grow(encoder, need) : 0;
}

/* What was written so far, as bytes; the encoder begins anew. */
static PyObject *take(Encoder *encoder)
{
    size_t used = (size_t)(encoder->p - encoder->start);
    PyObject *bytes = encoder->bytes;
    if (bytes == NULL) {
        bytes = PyBytes_FromStringAndSize((const char *)encoder->start, (Py_ssize_t)used);
    }
    else {
        encoder->bytes = NULL;
        if (_PyBytes_Resize(&bytes, (Py_ssize_t)used) < 0) {
            bytes = NULL;
        }
    }
    encoder->start = encoder->p = encoder->first;
    encoder->limit = encoder->first + FIRST_BYTES;
    return bytes;
}

/* The bytes so far become a part, and this object the one after it. */
static int part(Encoder *encoder, PyObject *data)
{
    size_t used = (size_t)(encoder->p - encoder->start);
    PyObject *bytes = take(encoder);
    if (bytes == NULL) {
        return -1;
    }
    int failed = PyList_Append(encoder->parts, bytes);
    Py_DECREF(bytes);
    if (failed || PyList_Append(encoder->parts, data) < 0) {
        return -1;
    }
    encoder->gone += used + (size_t)PyBytes_GET_SIZE(data);
    return 0;
}

/* -- values without terms in them ------------------------------------------------------------------------------------ */

static int refuse(Encoder *encoder, PyObject *message)
{
    encoder->message = message; /* NULL with an exception: that is raised as it is */
    return -1;
}

static int put_header(Encoder *encoder, uint8_t tag, size_t size)
{
    if (size > UINT32_MAX) {
        return refuse(encoder, PyUnicode_FromFormat("size %zu, limit %zu", size, (size_t)UINT32_MAX));
    }
    encoder->p[0] = tag;
    store_u32(encoder->p + 1, (uint32_t)size);
    encoder->p += 5;
    return 0;
}

/* A binary of more than a few bytes. The room for its header is there. */
static int put_binary(Encoder *encoder, PyObject *data)
{
    size_t size = (size_t)PyBytes_GET_SIZE(data);
    if (put_header(encoder, BINARY_EXT, size) < 0) {
        return -1;
    }
    if (encoder->parts != NULL && size >= PART_BYTES) {
        return part(encoder, data) < 0 ? -1 : 1;
    }
    if (ensure(encoder, size + HEADER_BYTES) < 0) {
        return -1;
    }
    memcpy(encoder->p, PyBytes_AS_STRING(data), size);
    encoder->p += size;
    return 1;
}

/* Text beyond ASCII, as UTF-8; 3 bytes at most for each character of two, 4 for each of four. */
static int put_text(Encoder *encoder, PyObject *text)
{
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(text) < 0) {
        return -1;
    }
#endif
    size_t length = (size_t)PyUnicode_GET_LENGTH(text);
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    bool ascii = PyUnicode_IS_ASCII(text);
    if (ensure(encoder, length * (ascii ? 1 : kind == PyUnicode_1BYTE_KIND ? 2 : kind == PyUnicode_2BYTE_KIND ? 3 : 4)
                            + 2 * HEADER_BYTES) < 0) {
        return -1;
    }
    uint8_t *begin = encoder->p;
    uint8_t *p = begin + 5;
    if (ascii) {
        memcpy(p, data, length);
        p += length;
    }
    else {
        for (size_t index = 0; index < length; index++) {
            Py_UCS4 point = PyUnicode_READ(kind, data, (Py_ssize_t)index);
            if (point < 0x80) {
                *p++ = (uint8_t)point;
            }
            else if (point < 0x800) {
                *p++ = (uint8_t)(0xC0 | point >> 6);
                *p++ = (uint8_t)(0x80 | (point & 0x3F));
            }
            else if (point < 0x10000) {
                if (point >= 0xD800 && point < 0xE000) {
                    return refuse(encoder, PyUnicode_FromFormat("str with a lone surrogate at index %zu", index));
                }
                *p++ = (uint8_t)(0xE0 | point >> 12);
                *p++ = (uint8_t)(0x80 | (point >> 6 & 0x3F));
                *p++ = (uint8_t)(0x80 | (point & 0x3F));
            }
            else {
                *p++ = (uint8_t)(0xF0 | point >> 18);
                *p++ = (uint8_t)(0x80 | (point >> 12 & 0x3F));
                *p++ = (uint8_t)(0x80 | (point >> 6 & 0x3F));
                *p++ = (uint8_t)(0x80 | (point & 0x3F));
            }
        }
    }
    if (put_header(encoder, BINARY_EXT, (size_t)(p - begin - 5)) < 0) {
        return -1;
    }
    encoder->p = p;
    if (encoder->parts != NULL && p - begin - 5 >= PART_BYTES) {
        PyObject *alone = PyBytes_FromStringAndSize((const char *)begin + 5, p - begin - 5);
        if (alone == NULL) {
            return -1;
        }
        encoder->p = begin + 5;
        int failed = part(encoder, alone);
        Py_DECREF(alone);
        return failed ? -1 : 1;
    }
    return 1;
}

static int put_big(Encoder *encoder, PyObject *number)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    uint8_t *p = encoder->p;
    if (!overflow) {
        if (value >= INT32_MIN && value <= INT32_MAX) {
            p[0] = INTEGER_EXT;
            store_u32(p + 1, (uint32_t)value);
            encoder->p += 5;
            return 1;
        }
        uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
        int size = 0;
        for (uint64_t rest = magnitude; rest; rest >>= 8) {
            p[3 + size++] = (uint8_t)rest;
        }
        p[0] = SMALL_BIG_EXT;
        p[1] = (uint8_t)size;
        p[2] = value < 0;
        encoder->p += 3 + size;
        return 1;
    }
    size_t bits = _PyLong_NumBits(number);
    size_t size = bits / 8 + (bits % 8 != 0);
    bool negative = overflow < 0;
    if (size > (size_t)encoder->state->max_integer_bytes) {
        encoder->whole_list = true;
        return refuse(encoder, PyUnicode_FromFormat("integer of %zu bytes, limit %zd", size,
                                                    encoder->state->max_integer_bytes));
    }
    if (ensure(encoder, size + 2 * HEADER_BYTES) < 0) {
        return -1;
    }
    p = encoder->p;
    if (size < 256) {
        p[0] = SMALL_BIG_EXT;
        p[1] = (uint8_t)size;
        p[2] = negative;
        p += 3;
    }
    else {
        p[0] = LARGE_BIG_EXT;
        store_u32(p + 1, (uint32_t)size);
        p[5] = negative;
        p += 6;
    }
    /* Two's complement, with a byte more for the sign, from which the magnitude is made in place. */
#if PY_VERSION_HEX >= 0x030D0000
    if (_PyLong_AsByteArray((PyLongObject *)number, p, size + 1, 1, 1, 1) < 0) {
#else
    if (_PyLong_AsByteArray((PyLongObject *)number, p, size + 1, 1, 1) < 0) {
#endif
        return -1;
    }
    if (negative) {
        unsigned carry = 1;
        for (size_t index = 0; index < size; index++) {
            carry += (uint8_t)~p[index];
            p[index] = (uint8_t)carry;
            carry >>= 8;
        }
    }
    encoder->p = p + size;
    return 1;
}

static inline bool compact(PyObject *number, long *value)
{
#if PY_VERSION_HEX >= 0x030C0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)number)) {
        return false;
    }
    *value = (long)PyUnstable_Long_CompactValue((PyLongObject *)number);
    return true;
#else
    Py_ssize_t size = Py_SIZE(number);
    if (size < -1 || size > 1) {
        return false;
    }
    *value = size ? (long)size * (long)((PyLongObject *)number)->ob_digit[0] : 0;
    return true;
#endif
}

static inline int put_integer(Encoder *encoder, PyObject *number)
{
    long value;
    if (!compact(number, &value)) {
        return put_big(encoder, number);
    }
    uint8_t *p = encoder->p;
    if (value >= 0 && value <= 255) {
        p[0] = SMALL_INTEGER_EXT;
        p[1] = (uint8_t)value;
        encoder->p += 2;
    }
    else {
        p[0] = INTEGER_EXT;
        store_u32(p + 1, (uint32_t)value);
        encoder->p += 5;
    }
    return 1;
}

static inline int put_float(Encoder *encoder, PyObject *number)
{
    double value = PyFloat_AS_DOUBLE(number);
    uint64_t bits;
    memcpy(&bits, &value, 8);
    if ((bits >> 52 & 0x7FF) == 0x7FF) {
        return refuse(encoder, PyUnicode_FromFormat("Erlang has no float %R", number));
    }
    encoder->p[0] = NEW_FLOAT_EXT;
    store_u64(encoder->p + 1, bits);
    encoder->p += 9;
    return 1;
}

/* 1: written. 0: none of the usual types without terms in them. -1: refused, or an exception is set. */
static inline int put_leaf(Encoder *encoder, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (ensure(encoder, HEADER_BYTES) < 0) {
        return -1;
    }
    if (type == &PyBytes_Type) {
        size_t size = (size_t)PyBytes_GET_SIZE(value);
        if ((size_t)(encoder->limit - encoder->p) < size + HEADER_BYTES || size >= PART_BYTES) {
            return put_binary(encoder, value);
        }
        uint8_t *p = encoder->p;
        p[0] = BINARY_EXT;
        store_u32(p + 1, (uint32_t)size);
        memcpy(p + 5, PyBytes_AS_STRING(value), size);
        encoder->p = p + 5 + size;
        return 1;
    }
    if ((PyObject *)type == encoder->state->atom_type) {
        PyObject *wire = SLOT(value, encoder->state->at.atom_wire);
        if (wire == NULL || !PyBytes_CheckExact(wire)) {
            PyErr_SetString(PyExc_SystemError, "an atom that its constructor did not make");
            return -1;
        }
        size_t size = (size_t)PyBytes_GET_SIZE(wire);
        if (ensure(encoder, size) < 0) {
            return -1;
        }
        memcpy(encoder->p, PyBytes_AS_STRING(wire), size);
        encoder->p += size;
        return 1;
    }
    if (type == &PyLong_Type) {
        return put_integer(encoder, value);
    }
    if (type == &PyFloat_Type) {
        return put_float(encoder, value);
    }
    if (type == &PyUnicode_Type) {
        size_t size;
        if (!PyUnicode_IS_COMPACT_ASCII(value) || (size = (size_t)PyUnicode_GET_LENGTH(value)) >= PART_BYTES) {
            return put_text(encoder, value);
        }
        if (ensure(encoder, size + HEADER_BYTES) < 0) {
            return -1;
        }
        uint8_t *p = encoder->p;
        p[0] = BINARY_EXT;
        store_u32(p + 1, (uint32_t)size);
        memcpy(p + 5, PyUnicode_1BYTE_DATA(value), size);
        encoder->p = p + 5 + size;
        return 1;
    }
    if (value == Py_None) {
        memcpy(encoder->p, "w\3nil", 5);
        encoder->p += 5;
        return 1;
    }
    if (type == &PyBool_Type) {
        if (value == Py_True) {
            memcpy(encoder->p, "w\4true", 6);
            encoder->p += 6;
        }
        else {
            memcpy(encoder->p, "w\5false", 7);
            encoder->p += 7;
        }
        return 1;
    }
    return 0;
}

/* -- containers -------------------------------------------------------------------------------------------------------- */

/* Writes a list of bytes as STRING_EXT; 0 if it is none. */
static int put_string(Encoder *encoder, PyObject *list)
{
    Py_ssize_t size = PyList_GET_SIZE(list);
    long value;
    if (size > STRING_LIMIT) {
        return 0;
    }
    if (ensure(encoder, (size_t)size + HEADER_BYTES) < 0) {
        return -1;
    }
    uint8_t *p = encoder->p + 3;
    for (Py_ssize_t index = 0; index < size; index++) {
        PyObject *element = PyList_GET_ITEM(list, index);
        if (!PyLong_CheckExact(element) || !compact(element, &value) || value < 0 || value > 255) {
            return 0;
        }
        *p++ = (uint8_t)value;
    }
    encoder->p[0] = STRING_EXT;
    store_u16(encoder->p + 1, (uint16_t)size);
    encoder->p = p;
    return 1;
}

static bool all_of(PyObject *list, PyTypeObject *type)
{
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(list); index++) {
        if (Py_TYPE(PyList_GET_ITEM(list, index)) != type) {
            return false;
        }
    }
    return true;
}

/* Whether no two keys of the dict can be one key in Erlang: all are of one type whose values Erlang tells apart too. */
static bool keys_differ(State *state, PyObject *dict)
{
    Py_ssize_t at = 0;
    PyObject *key, *value;
    PyTypeObject *type = NULL;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (Py_TYPE(key) != type) {
            if (type != NULL) {
                return false;
            }
            type = Py_TYPE(key);
        }
    }
    return type == NULL || (PyObject *)type == state->atom_type || type == &PyUnicode_Type || type == &PyBytes_Type
           || type == &PyLong_Type || type == &PyFloat_Type || type == &PyBool_Type;
}

static int by_address(const void *one, const void *two)
{
    uintptr_t a = (uintptr_t)*(PyObject *const *)one, b = (uintptr_t)*(PyObject *const *)two;
    return a < b ? -1 : a > b;
}

/* Refuses what nests too deep. Looks for cycles at each doubling of the depth, so that it costs next to nothing. */
static int check_depth(Encoder *encoder, PyObject *value)
{
    Py_ssize_t depth = encoder->depth;
    if (depth >= encoder->state->max_depth) {
        return refuse(encoder, PyUnicode_FromFormat("term nested deeper than %zd", encoder->state->max_depth));
    }
    if (depth & (depth - 1)) {
        return 0;
    }
    PyObject **owners = PyMem_Malloc((size_t)(depth + 1) * sizeof(PyObject *));
    if (owners == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t index = 0; index < depth; index++) {
        owners[index] = encoder->frames[index + 1].owner;
    }
    owners[depth] = value;
    qsort(owners, (size_t)depth + 1, sizeof(PyObject *), by_address);
    bool twice = false;
    for (Py_ssize_t index = 0; index < depth; index++) {
        twice = twice || owners[index] == owners[index + 1];
    }
    PyMem_Free(owners);
    if (!twice) {
        return 0;
    }
    PyObject *name = PyType_GetName(Py_TYPE(value));
    int refused = name == NULL ? -1 : refuse(encoder, PyUnicode_FromFormat("%U holds itself", name));
    Py_XDECREF(name);
    return refused;
}

static Frame *push(Encoder *encoder, Kind kind, PyObject *owner, Py_ssize_t *capacity)
{
    if (encoder->depth + 1 == *capacity) {
        size_t size = (size_t)*capacity * sizeof(Frame);
        Frame *more = PyMem_Malloc(2 * size);
        if (more == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memcpy(more, encoder->frames, size);
        if (encoder->frames != encoder->first_frames) {
            PyMem_Free(encoder->frames);
        }
        encoder->frames = more;
        *capacity *= 2;
    }
    Frame *frame = &encoder->frames[++encoder->depth];
    frame->kind = kind;
    frame->owner = Py_NewRef(owner);
    frame->items = NULL;
    frame->held = NULL;
    frame->value_next = false;
    frame->at = 0;
    frame->count = 0;
    return frame;
}

static void pop(Encoder *encoder)
{
    Frame *frame = &encoder->frames[encoder->depth--];
    PyObject *owner = frame->owner, *items = frame->items, *held = frame->held;
    Py_XDECREF(items);
    Py_XDECREF(held);
    Py_DECREF(owner);
}

/* The header of a fun, whose size is known at its end, is put into the place kept for it. */
static int close_fun(Encoder *encoder, Frame *frame)
{
    State *state = encoder->state;
    size_t total = encoder->gone + (size_t)(encoder->p - encoder->start);
    PyObject *uniq = SLOT(frame->owner, state->at.fun_uniq), *free_ = SLOT(frame->owner, state->at.fun_free);
    PyObject *arity = SLOT(frame->owner, state->at.fun_arity), *index = SLOT(frame->owner, state->at.fun_index);
    uint8_t *p = encoder->start;
    if (encoder->parts != NULL && PyList_GET_SIZE(encoder->parts) > frame->mark_part) {
        p = (uint8_t *)PyBytes_AS_STRING(PyList_GET_ITEM(encoder->parts, frame->mark_part));
    }
    p += frame->mark;
    if (uniq == NULL || !PyBytes_CheckExact(uniq) || PyBytes_GET_SIZE(uniq) != 16 || free_ == NULL
        || !PyTuple_CheckExact(free_) || arity == NULL || !PyLong_Check(arity) || index == NULL
        || !PyLong_Check(index)) {
        PyErr_SetString(PyExc_SystemError, "a fun with fields that its constructor refuses");
        return -1;
    }
    p[0] = NEW_FUN_EXT;
    store_u32(p + 1, (uint32_t)(total - frame->mark_total - 1));
    p[5] = (uint8_t)PyLong_AsUnsignedLongMask(arity);
    memcpy(p + 6, PyBytes_AS_STRING(uniq), 16);
    store_u32(p + 22, (uint32_t)PyLong_AsUnsignedLongMask(index));
    store_u32(p + 26, (uint32_t)PyTuple_GET_SIZE(free_));
    return 0;
}

/* -- refusals ------------------------------------------------------------------------------------------------------------ */

/* The open containers from the outermost on, for the place in a message. */
static PyObject *owners(Encoder *encoder, Py_ssize_t depth)
{
    PyObject *list = PyList_New(depth);
    for (Py_ssize_t index = 0; list != NULL && index < depth; index++) {
        PyList_SET_ITEM(list, index, Py_NewRef(encoder->frames[index + 1].owner));
    }
    return list;
}

static void raise_refusal(Encoder *encoder, PyObject *value)
{
    PyObject *message = encoder->message;
    Py_ssize_t depth = encoder->depth;
    if (message == NULL) {
        return;
    }
    encoder->message = NULL;
    if (encoder->whole_list && depth > 0 && encoder->frames[depth].kind == LIST
        && all_of(encoder->frames[depth].owner, &PyLong_Type)) {
        value = encoder->frames[depth].owner;
        depth--;
    }
    PyObject *places = owners(encoder, depth);
    if (places != NULL) {
        PyObject *error = PyObject_CallFunctionObjArgs(encoder->state->refusal, message, places, value, NULL);
        Py_DECREF(places);
        if (error != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        }
    }
    Py_DECREF(message);
}

/* What Python answers about a value. Its EncodeError gets the value's place, unless `default` may have raised it. */
static PyObject *ask(Encoder *encoder, PyObject *function, PyObject *value, PyObject *option)
{
    Py_INCREF(value);
    PyObject *answer = PyObject_CallFunctionObjArgs(function, value, option, NULL);
    if (answer == NULL && encoder->default_ == Py_None && PyErr_ExceptionMatches(encoder->state->encode_error)) {
        PyObject *type, *error, *trace;
        PyErr_Fetch(&type, &error, &trace);
        PyErr_NormalizeException(&type, &error, &trace);
        PyObject *places = owners(encoder, encoder->depth);
        PyObject *placed = places == NULL ? NULL : PyObject_CallFunctionObjArgs(encoder->state->located, error, places,
                                                                               value, NULL);
        Py_XDECREF(places);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(trace);
        if (placed != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(placed), placed);
            Py_DECREF(placed);
        }
    }
    Py_DECREF(value);
    return answer;
}

static int changed(Encoder *encoder, const Frame *frame, const char *cause)
{
    PyObject *name = PyType_GetName(Py_TYPE(frame->owner));
    if (name != NULL) {
        PyObject *text = PyUnicode_FromFormat("%U changed while it was written (%s)", name, cause);
        PyObject *error = text == NULL ? NULL : PyObject_CallOneArg(encoder->state->encode_error, text);
        if (error != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        }
        Py_XDECREF(text);
        Py_DECREF(name);
    }
    return -1;
}

/* -- the loop ------------------------------------------------------------------------------------------------------------ */

static int encode_into(Encoder *encoder, PyObject *term, bool deterministic)
{
    State *state = encoder->state;
    Py_ssize_t capacity = FIRST_FRAMES;
    Frame *frame = encoder->frames;
    PyObject *value = term;
    int put = put_leaf(encoder, term);

    if (put > 0) {
        return 0;
    }
    if (put < 0) {
        goto refused;
    }
    goto open;

next:
    switch (frame->kind) {
    case ROOT:
        return 0;

    case LIST:
        while (frame->at < PyList_GET_SIZE(frame->owner)) {
            value = PyList_GET_ITEM(frame->owner, frame->at++);
            put = put_leaf(encoder, value);
            if (put <= 0) {
                goto not_leaf;
            }
        }
        if (PyList_GET_SIZE(frame->owner) != frame->count) {
            refuse(encoder, PyUnicode_FromString("list changed while it was written"));
            if (encoder->message != NULL) {
                value = frame->owner;
                encoder->depth--; /* the list's own place is told */
                raise_refusal(encoder, value);
                encoder->depth++;
            }
            return -1;
        }
        if (ensure(encoder, HEADER_BYTES) < 0) {
            return -1;
        }
        *encoder->p++ = NIL_EXT;
        break;

    case TUPLE:
    case FLAT:
    case FUN: {
        PyObject *items = frame->kind == TUPLE ? frame->owner : frame->items;
        while (frame->at < frame->count) {
            value = PyTuple_GET_ITEM(items, frame->at++);
            put = put_leaf(encoder, value);
            if (put <= 0) {
                goto not_leaf;
            }
        }
        if (frame->kind == FUN && close_fun(encoder, frame) < 0) {
            return -1;
        }
        break;
    }

    case DICT: {
        PyObject *key;
        if (frame->value_next) {
            frame->value_next = false;
            value = frame->held;
            put = put_leaf(encoder, value);
            if (put <= 0) {
                goto not_leaf;
            }
        }
        for (;;) {
            if (PyDict_GET_SIZE(frame->owner) != frame->size) {
                return changed(encoder, frame, "dictionary changed size during iteration");
            }
            if (!PyDict_Next(frame->owner, &frame->at, &key, &value)) {
                break;
            }
            if (frame->count-- == 0) {
                return changed(encoder, frame, "dictionary keys changed during iteration");
            }
            put = put_leaf(encoder, key);
            if (put <= 0) {
                Py_XSETREF(frame->held, Py_NewRef(value));
                frame->value_next = true;
                value = key;
                goto not_leaf;
            }
            put = put_leaf(encoder, value);
            if (put <= 0) {
                goto not_leaf;
            }
        }
        break;
    }
    }
    pop(encoder);
    frame = &encoder->frames[encoder->depth];
    goto next;

not_leaf:
    if (put < 0) {
        goto refused;
    }

open:
    /* The room for a header is there: put_leaf made it. */
    if (PyDict_CheckExact(value)) {
        Py_ssize_t size = PyDict_GET_SIZE(value);
        if (put_header(encoder, MAP_EXT, (size_t)size) < 0
            || (encoder->depth >= CYCLE_DEPTH && check_depth(encoder, value) < 0)) {
            goto refused;
        }
        if (deterministic) {
            Py_INCREF(value);
            PyObject *items = ask(encoder, state->sorted_values, value, encoder->default_);
            frame = items == NULL ? NULL : push(encoder, FLAT, value, &capacity);
            Py_DECREF(value);
            if (frame == NULL) {
                Py_XDECREF(items);
                return -1;
            }
            frame->items = items;
            frame->count = PyTuple_GET_SIZE(items);
            goto next;
        }
        if (!keys_differ(state, value)) {
            Py_INCREF(value);
            PyObject *items = ask(encoder, state->sorted_values, value, encoder->default_);
            Py_XDECREF(items);
            if (items == NULL) {
                Py_DECREF(value);
                return -1;
            }
            frame = push(encoder, DICT, value, &capacity);
            Py_DECREF(value);
        }
        else {
            frame = push(encoder, DICT, value, &capacity);
        }
        if (frame == NULL) {
            return -1;
        }
        frame->count = frame->size = PyDict_GET_SIZE(frame->owner);
        goto next;
    }

    if (PyList_CheckExact(value)) {
        Py_ssize_t size = PyList_GET_SIZE(value);
        if (size == 0) {
            *encoder->p++ = NIL_EXT;
            goto next;
        }
        PyObject *first = PyList_GET_ITEM(value, 0);
        if (PyLong_CheckExact(first)) {
            put = put_string(encoder, value);
            if (put < 0) {
                goto refused;
            }
            if (put) {
                goto next;
            }
        }
        if (encoder->depth >= CYCLE_DEPTH) {
            /* A list of numbers is written in one piece and opens nothing. */
            PyTypeObject *type = Py_TYPE(first);
            bool flat = (type == &PyLong_Type || (type == &PyFloat_Type && size > 3)) && all_of(value, type);
            if (flat && type == &PyFloat_Type) {
                PyObject *answer = PyObject_CallFunctionObjArgs(state->run, value, NULL);
                if (answer == NULL) {
                    return -1;
                }
                flat = answer == Py_True;
                Py_DECREF(answer);
            }
            if (put_header(encoder, LIST_EXT, (size_t)size) < 0 || (!flat && check_depth(encoder, value) < 0)) {
                goto refused;
            }
        }
        else if (put_header(encoder, LIST_EXT, (size_t)size) < 0) {
            goto refused;
        }
        frame = push(encoder, LIST, value, &capacity);
        if (frame == NULL) {
            return -1;
        }
        frame->count = size;
        goto next;
    }

    if (PyTuple_CheckExact(value)) {
        Py_ssize_t size = PyTuple_GET_SIZE(value);
        if (size < 256) {
            encoder->p[0] = SMALL_TUPLE_EXT;
            encoder->p[1] = (uint8_t)size;
            encoder->p += 2;
        }
        else if (put_header(encoder, LARGE_TUPLE_EXT, (size_t)size) < 0) {
            goto refused;
        }
        if (encoder->depth >= CYCLE_DEPTH && check_depth(encoder, value) < 0) {
            goto refused;
        }
        frame = push(encoder, TUPLE, value, &capacity);
        if (frame == NULL) {
            return -1;
        }
        frame->count = size;
        goto next;
    }

    PyObject *type = (PyObject *)Py_TYPE(value);
    if (type == state->pid_type || type == state->reference_type || type == state->port_type
        || type == state->export_type || type == state->bitstring_type || type == state->local_type) {
        if (ensure(encoder, RARE_BYTES) < 0) {
            return -1;
        }
        Py_ssize_t size = write_rare(state, value, encoder->p);
        encoder->p += size;
        if (size == 0) {
            PyObject *bytes = ask(encoder, state->pure_write, value, NULL);
            if (bytes == NULL) {
                return -1;
            }
            size_t length = (size_t)PyBytes_GET_SIZE(bytes);
            if (ensure(encoder, length + HEADER_BYTES) < 0) {
                Py_DECREF(bytes);
                return -1;
            }
            memcpy(encoder->p, PyBytes_AS_STRING(bytes), length);
            encoder->p += length;
            Py_DECREF(bytes);
        }
        goto next;
    }

    if (encoder->depth >= CYCLE_DEPTH && check_depth(encoder, value) < 0) {
        goto refused;
    }
    Py_INCREF(value);
    PyObject *items;
    Kind kind = FLAT;
    size_t before = encoder->gone + (size_t)(encoder->p - encoder->start);
    if (type == state->termmap_type) {
        items = ask(encoder, state->term_map_values, value, deterministic ? Py_True : Py_False);
        if (items != NULL) {
            put_header(encoder, MAP_EXT, (size_t)PyTuple_GET_SIZE(items) / 2);
        }
    }
    else if (type == state->improper_type) {
        PyObject *elements = SLOT(value, state->at.improper_elements), *tail = SLOT(value, state->at.improper_tail);
        if (elements == NULL || !PyList_CheckExact(elements) || tail == NULL) {
            PyErr_SetString(PyExc_SystemError, "an improper list with fields that its constructor refuses");
            Py_DECREF(value);
            return -1;
        }
        Py_ssize_t size = PyList_GET_SIZE(elements);
        if (size == 0) {
            refuse(encoder, PyUnicode_FromString("improper list that was emptied"));
            raise_refusal(encoder, value);
            Py_DECREF(value);
            return -1;
        }
        items = PyTuple_New(size + 1);
        if (items != NULL && PyList_GET_SIZE(elements) != size) {
            /* The allocation let a finalizer run, and that one changed the list. */
            PyErr_SetString(state->encode_error, "ImproperList changed while it was written");
            Py_CLEAR(items);
        }
        if (items != NULL) {
            for (Py_ssize_t index = 0; index < size; index++) {
                PyTuple_SET_ITEM(items, index, Py_NewRef(PyList_GET_ITEM(elements, index)));
            }
            PyTuple_SET_ITEM(items, size, Py_NewRef(tail));
            put_header(encoder, LIST_EXT, (size_t)size);
        }
    }
    else if (type == state->fun_type) {
        PyObject *captured = SLOT(value, state->at.fun_free);
        PyObject *module = SLOT(value, state->at.fun_module), *pid = SLOT(value, state->at.fun_pid);
        PyObject *old_index = SLOT(value, state->at.fun_old_index), *old_uniq = SLOT(value, state->at.fun_old_uniq);
        if (captured == NULL || !PyTuple_CheckExact(captured) || !module || !pid || !old_index || !old_uniq) {
            PyErr_SetString(PyExc_SystemError, "a fun with fields that its constructor refuses");
            Py_DECREF(value);
            return -1;
        }
        Py_ssize_t size = PyTuple_GET_SIZE(captured);
        items = PyTuple_New(4 + size);
        if (items != NULL) {
            PyTuple_SET_ITEM(items, 0, Py_NewRef(module));
            PyTuple_SET_ITEM(items, 1, Py_NewRef(old_index));
            PyTuple_SET_ITEM(items, 2, Py_NewRef(old_uniq));
            PyTuple_SET_ITEM(items, 3, Py_NewRef(pid));
            for (Py_ssize_t index = 0; index < size; index++) {
                PyTuple_SET_ITEM(items, 4 + index, Py_NewRef(PyTuple_GET_ITEM(captured, index)));
            }
            if (ensure(encoder, 30 + HEADER_BYTES) < 0) {
                Py_CLEAR(items);
            }
            else {
                encoder->p += 30;
            }
        }
        kind = FUN;
    }
    else {
        PyObject *answer = ask(encoder, state->pure_plain, value, encoder->default_);
        items = answer == NULL ? NULL : PyTuple_Pack(1, answer);
        Py_XDECREF(answer);
    }
    frame = items == NULL ? NULL : push(encoder, kind, value, &capacity);
    Py_DECREF(value);
    if (frame == NULL) {
        Py_XDECREF(items);
        return -1;
    }
    frame->items = items;
    frame->count = PyTuple_GET_SIZE(items);
    if (kind == FUN) {
        frame->mark_part = encoder->parts == NULL ? 0 : PyList_GET_SIZE(encoder->parts);
        frame->mark = encoder->p - encoder->start - 30;
        frame->mark_total = before;
    }
    goto next;

refused:
    raise_refusal(encoder, value);
    return -1;
}

PyObject *encode(State *state, PyObject *term, bool deterministic, PyObject *default_, PyObject *parts)
{
    Encoder encoder;
    encoder.state = state;
    encoder.start = encoder.first;
    encoder.limit = encoder.first + FIRST_BYTES;
    encoder.first[0] = VERSION_MAGIC;
    encoder.p = encoder.first + 1;
    encoder.bytes = NULL;
    encoder.parts = parts;
    encoder.gone = 0;
    encoder.default_ = default_;
    encoder.message = NULL;
    encoder.frames = encoder.first_frames;
    encoder.depth = 0;
    encoder.whole_list = false;
    encoder.frames[0].kind = ROOT;
    encoder.frames[0].owner = NULL;
    if (PyBytes_CheckExact(term) && parts == NULL && PyBytes_GET_SIZE(term) > FIRST_BYTES) {
        /* One binary: its size is known to the byte. */
        encoder.bytes = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(term) + 6 + HEADER_BYTES);
        if (encoder.bytes == NULL) {
            return NULL;
        }
        encoder.start = (uint8_t *)PyBytes_AS_STRING(encoder.bytes);
        encoder.limit = encoder.start + PyBytes_GET_SIZE(encoder.bytes);
        encoder.start[0] = VERSION_MAGIC;
        encoder.p = encoder.start + 1;
    }
    PyObject *result = NULL;
    if (encode_into(&encoder, term, deterministic) == 0) {
        if (parts == NULL) {
            result = take(&encoder);
        }
        else if (encoder.p == encoder.start) {
            result = Py_NewRef(Py_None);
        }
        else {
            PyObject *last = take(&encoder);
            result = last == NULL || PyList_Append(parts, last) < 0 ? NULL : Py_NewRef(Py_None);
            Py_XDECREF(last);
        }
    }
    while (encoder.depth > 0) {
        pop(&encoder);
    }
    if (encoder.frames != encoder.first_frames) {
        PyMem_Free(encoder.frames);
    }
    Py_XDECREF(encoder.bytes);
    return result;
}
