/* Reading values that hold no terms and are rare: old forms of atoms, big integers, bitstrings, identifiers, external
 * functions. Fields of the neutral types are written into their slots directly: what the wire can hold in a field is what
 * the type's constructor would take.
 */

#include "codec.h"

static PyObject *instance(PyObject *type)
{
    return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
}

PyObject *read_big(const uint8_t *p, size_t size, bool negative)
{
    while (size && p[size - 1] == 0) {
        size--;
    }
    if (size <= 8) {
        uint64_t magnitude = 0;
        for (size_t index = size; index--;) {
            magnitude = magnitude << 8 | p[index];
        }
        if (!negative) {
            return PyLong_FromUnsignedLongLong(magnitude);
        }
        if (magnitude <= INT64_MAX) {
            return PyLong_FromLongLong(-(int64_t)magnitude);
        }
    }
    PyObject *value = _PyLong_FromByteArray(p, size, 1, 0);
    if (negative && value != NULL) {
        Py_SETREF(value, PyNumber_Negative(value));
    }
    return value;
}

/* FLOAT_EXT and other text is left to Python, on a copy of no more than it can take. */
static PyObject *read_in_python(State *state, const uint8_t *p, size_t size, const uint8_t **stop)
{
    PyObject *pair = PyObject_CallFunction(state->pure_read, "y#i", p, (Py_ssize_t)size, 0);
    if (pair == NULL) {
        if (PyErr_ExceptionMatches(state->decode_error) || PyErr_ExceptionMatches(PyExc_IndexError)) {
            PyErr_Clear();
        }
        return NULL;
    }
    PyObject *value = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
    Py_ssize_t taken = PyLong_AsSsize_t(PyTuple_GET_ITEM(pair, 1));
    Py_DECREF(pair);
    *stop = p + taken;
    return value;
}

static PyObject *read_bits(State *state, const uint8_t *p, const uint8_t *end, const uint8_t **stop)
{
    if (end - p < 6) {
        return NULL;
    }
    size_t n = load_u32(p + 1);
    int bits = p[5];
    if ((size_t)(end - p - 6) < n) {
        return NULL;
    }
    *stop = p + 6 + n;
    if (n == 0 && bits == 0) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    if (n == 0 || bits < 1 || bits > 8) {
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize((const char *)p + 6, (Py_ssize_t)n);
    if (data == NULL || bits == 8) {
        return data;
    }
    uint8_t last = (uint8_t)(p[5 + n] & (0xFF << (8 - bits)));
    if (last != p[5 + n]) {
        /* One byte makes the interpreter's own shared object, which must not be written to. */
        if (n == 1) {
            Py_SETREF(data, PyBytes_FromStringAndSize((const char *)&last, 1));
            if (data == NULL) {
                return NULL;
            }
        }
        else {
            PyBytes_AS_STRING(data)[n - 1] = (char)last;
        }
    }
    PyObject *value = instance(state->bitstring_type);
    if (value == NULL) {
        Py_DECREF(data);
        return NULL;
    }
    SLOT(value, state->at.bits_data) = data;
    SLOT(value, state->at.bits_bits) = Py_NewRef(state->small[bits]);
    return value;
}

/* The node's name at `*p`, and `*p` after it. */
static PyObject *read_node(State *state, const uint8_t **p, const uint8_t *end)
{
    size_t size = atom_size(*p, end);
    if (size == 0) {
        return NULL;
    }
    PyObject *node = atom_itself(state, *p, size);
    *p += size;
    return node;
}

static PyObject *read_pid(State *state, const uint8_t *p, const uint8_t *end, const uint8_t **stop)
{
    bool wide = *p++ == NEW_PID_EXT;
    PyObject *node = read_node(state, &p, end);
    if (node == NULL) {
        return NULL;
    }
    if (end - p < (wide ? 12 : 9) || (!wide && p[8] > 3)) {
        Py_DECREF(node);
        return NULL;
    }
    PyObject *value = instance(state->pid_type);
    if (value == NULL) {
        Py_DECREF(node);
        return NULL;
    }
    SLOT(value, state->at.pid_node) = node;
    SLOT(value, state->at.pid_id) = PyLong_FromUnsignedLong(load_u32(p));
    SLOT(value, state->at.pid_serial) = PyLong_FromUnsignedLong(load_u32(p + 4));
    SLOT(value, state->at.pid_creation) = PyLong_FromUnsignedLong(wide ? load_u32(p + 8) : p[8]);
    if (PyErr_Occurred()) {
        Py_DECREF(value);
        return NULL;
    }
    *stop = p + (wide ? 12 : 9);
    return value;
}

static PyObject *read_port(State *state, const uint8_t *p, const uint8_t *end, const uint8_t **stop)
{
    uint8_t tag = *p++;
    PyObject *node = read_node(state, &p, end);
    if (node == NULL) {
        return NULL;
    }
    Py_ssize_t size = tag == V4_PORT_EXT ? 12 : tag == NEW_PORT_EXT ? 8 : 5;
    if (end - p < size || (tag == PORT_EXT && p[4] > 3)) {
        Py_DECREF(node);
        return NULL;
    }
    PyObject *value = instance(state->port_type);
    if (value == NULL) {
        Py_DECREF(node);
        return NULL;
    }
    uint64_t id = tag == V4_PORT_EXT ? load_u64(p) : load_u32(p);
    uint32_t creation = tag == V4_PORT_EXT ? load_u32(p + 8) : tag == NEW_PORT_EXT ? load_u32(p + 4) : p[4];
    SLOT(value, state->at.port_node) = node;
    SLOT(value, state->at.port_id) = PyLong_FromUnsignedLongLong(id);
    SLOT(value, state->at.port_creation) = PyLong_FromUnsignedLong(creation);
    if (PyErr_Occurred()) {
        Py_DECREF(value);
        return NULL;
    }
    *stop = p + size;
    return value;
}

static PyObject *read_reference(State *state, const uint8_t *p, const uint8_t *end, const uint8_t **stop)
{
    uint8_t tag = *p++;
    Py_ssize_t n = 1;
    if (tag != REFERENCE_EXT) {
        if (end - p < 2) {
            return NULL;
        }
        n = load_u16(p);
        p += 2;
        if (n < 1 || n > 5) {
            return NULL;
        }
    }
    PyObject *node = read_node(state, &p, end);
    if (node == NULL) {
        return NULL;
    }
    Py_ssize_t wide = tag == NEWER_REFERENCE_EXT ? 4 : 1;
    if (end - p < wide + 4 * n) {
        Py_DECREF(node);
        return NULL;
    }
    /* REFERENCE_EXT has its one word before the creation, the others after it. */
    const uint8_t *words = tag == REFERENCE_EXT ? p : p + wide;
    const uint8_t *place = tag == REFERENCE_EXT ? p + 4 : p;
    uint32_t creation = wide == 4 ? load_u32(place) : *place;
    if (wide == 1 && (creation > 3 || load_u32(words) >> 18)) {
        Py_DECREF(node);
        return NULL;
    }
    PyObject *value = instance(state->reference_type);
    if (value == NULL) {
        Py_DECREF(node);
        return NULL;
    }
    PyObject *ids = PyTuple_New(n);
    SLOT(value, state->at.reference_node) = node;
    SLOT(value, state->at.reference_ids) = ids;
    SLOT(value, state->at.reference_creation) = PyLong_FromUnsignedLong(creation);
    for (Py_ssize_t index = 0; ids != NULL && index < n; index++) {
        PyTuple_SET_ITEM(ids, index, PyLong_FromUnsignedLong(load_u32(words + 4 * index)));
    }
    if (PyErr_Occurred()) {
        Py_DECREF(value);
        return NULL;
    }
    *stop = p + wide + 4 * n;
    return value;
}

static PyObject *read_export(State *state, const uint8_t *p, const uint8_t *end, const uint8_t **stop)
{
    p++;
    PyObject *module = read_node(state, &p, end);
    if (module == NULL) {
        return NULL;
    }
    PyObject *function = read_node(state, &p, end);
    if (function == NULL) {
        goto refuse;
    }
    size_t size, head;
    if (end - p >= 2 && *p == SMALL_INTEGER_EXT) {
        head = 1;
        size = 1;
    }
    else if (end - p >= 5 && *p == INTEGER_EXT && p[1] == 0 && p[2] == 0 && p[3] == 0) {
        head = 4; /* the lowest byte stands last */
        size = 1;
    }
    else if (end - p >= 3 && *p == SMALL_BIG_EXT) {
        head = 3;
        size = p[1];
    }
    else if (end - p >= 6 && *p == LARGE_BIG_EXT) {
        head = 6;
        size = load_u32(p + 1);
        if (size > (size_t)state->max_integer_bytes) {
            goto refuse;
        }
    }
    else {
        goto refuse;
    }
    if ((size_t)(end - p) - head < size) {
        goto refuse;
    }
    const uint8_t *number = p + head;
    for (size_t index = 1; index < size; index++) {
        if (number[index]) {
            goto refuse;
        }
    }
    int arity = size ? number[0] : 0;
    if (arity && ((*p == SMALL_BIG_EXT && p[2]) || (*p == LARGE_BIG_EXT && p[5]))) {
        goto refuse; /* negative */
    }
    PyObject *value = instance(state->export_type);
    if (value == NULL) {
        goto refuse;
    }
    SLOT(value, state->at.export_module) = module;
    SLOT(value, state->at.export_function) = function;
    SLOT(value, state->at.export_arity) = Py_NewRef(state->small[arity]);
    *stop = number + size;
    return value;

refuse:
    Py_DECREF(module);
    Py_XDECREF(function);
    return NULL;
}

PyObject *read_rare(State *state, const uint8_t *p, const uint8_t *end, const uint8_t **stop)
{
    switch (*p) {
    case ATOM_UTF8_EXT:
    case SMALL_ATOM_EXT: {
        size_t size = atom_size(p, end);
        *stop = p + size;
        return size ? atom_value(state, p, size) : NULL;
    }
    case LARGE_BIG_EXT: {
        if (end - p < 6) {
            return NULL;
        }
        size_t size = load_u32(p + 1);
        if (size > (size_t)state->max_integer_bytes || (size_t)(end - p - 6) < size) {
            return NULL;
        }
        *stop = p + 6 + size;
        return read_big(p + 6, size, p[5]);
    }
    case FLOAT_EXT:
        return end - p < 32 ? NULL : read_in_python(state, p, 32, stop);
    case BIT_BINARY_EXT:
        return read_bits(state, p, end, stop);
    case NEW_PID_EXT:
    case PID_EXT:
        return read_pid(state, p, end, stop);
    case NEW_PORT_EXT:
    case PORT_EXT:
    case V4_PORT_EXT:
        return read_port(state, p, end, stop);
    case REFERENCE_EXT:
    case NEW_REFERENCE_EXT:
    case NEWER_REFERENCE_EXT:
        return read_reference(state, p, end, stop);
    case EXPORT_EXT:
        return read_export(state, p, end, stop);
    default:
        return NULL;
    }
}
