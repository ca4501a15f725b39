/* The encoder's output, and the values whose writing takes more than a few instructions. */

#include "encoder.h"

/* -- output --------------------------------------------------------------------------------------------------------- */

int grow(Encoder *encoder, size_t need)
{
    size_t used = (size_t)(encoder->p - encoder->start);
    size_t wanted = used + need;
    size_t room = wanted < (size_t)1 << 20 || need < used / 2 ? 2 * wanted : wanted + wanted / 16;
    /* The elements of the outermost list tell how long the whole will be, so that it is moved no more than twice. */
    if (encoder->depth > 0 && encoder->parts == NULL) {
        const Frame *outer = &encoder->frames[1];
        if ((outer->kind == LIST || outer->kind == TUPLE) && outer->at > 0 && outer->at < outer->count) {
            double whole = (double)used / (double)outer->at * (double)outer->count * 1.04 + 256;
            /* A first element may be larger than all others: no guess is trusted far. */
            double most = (double)wanted * (outer->at < 16 ? 16 : wanted < 1 << 16 ? 256 : wanted < 1 << 20 ? 32 : 4);
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

PyObject *take(Encoder *encoder)
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

int refuse(Encoder *encoder, PyObject *message)
{
    encoder->message = message;
    return -1;
}

int put_header(Encoder *encoder, uint8_t tag, size_t size)
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
int put_binary(Encoder *encoder, PyObject *data)
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
int put_text(Encoder *encoder, PyObject *text)
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

int put_big(Encoder *encoder, PyObject *number)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    uint8_t *p = encoder->p;
    if (!overflow) {
        if (value >= 0 && value <= 255) {
            p[0] = SMALL_INTEGER_EXT;
            p[1] = (uint8_t)value;
            encoder->p += 2;
            return 1;
        }
        if (value >= INT32_MIN && value <= INT32_MAX) {
            p[0] = INTEGER_EXT;
            store_u32(p + 1, (uint32_t)value);
            encoder->p += 5;
            return 1;
        }
        encoder->p = put_magnitude(p, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0);
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

static bool small_value(PyObject *number, uint64_t *value, bool *negative)
{
    if (few_digits(number, value, negative)) {
        return true;
    }
    int overflow;
    long long whole = PyLong_AsLongLongAndOverflow(number, &overflow);
    *negative = whole < 0;
    *value = (uint64_t)whole;
    return !overflow;
}

/* Writes a list of bytes as STRING_EXT; 0 if it is none. */
int put_string(Encoder *encoder, PyObject *list)
{
    Py_ssize_t size = PyList_GET_SIZE(list);
    uint64_t value;
    bool negative;
    if (size > STRING_LIMIT) {
        return 0;
    }
    if (ensure(encoder, (size_t)size + HEADER_BYTES) < 0) {
        return -1;
    }
    uint8_t *p = encoder->p + 3;
    for (Py_ssize_t index = 0; index < size; index++) {
        PyObject *element = PyList_GET_ITEM(list, index);
        if (!PyLong_CheckExact(element) || !small_value(element, &value, &negative) || negative || value > 255) {
            return 0;
        }
        *p++ = (uint8_t)value;
    }
    encoder->p[0] = STRING_EXT;
    store_u16(encoder->p + 1, (uint16_t)size);
    encoder->p = p;
    return 1;
}

/* The header of a fun, whose size is known at its end, is put into the place kept for it. */
int close_fun(Encoder *encoder, Frame *frame)
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
