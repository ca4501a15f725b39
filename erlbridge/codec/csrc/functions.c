/* The codec's functions as Python calls them: their arguments, and what is neither one plain term nor its bytes (compressed
 * ones, those of a Local, bytes that are no term).
 */

#include "codec.h"

/* -- arguments --------------------------------------------------------------------------------------------------------- */

/* Fills `values` from a call of one positional-or-keyword parameter and keyword-only ones; parameters left out stay. */
static int take_arguments(const char *function, PyObject *const *args, Py_ssize_t nargs, PyObject *names,
                          PyObject *const *keys, PyObject **values, int count)
{
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes 1 positional argument but %zd were given", function, nargs);
        return -1;
    }
    if (nargs) {
        values[0] = args[0];
    }
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t index = 0; index < named; index++) {
        PyObject *name = PyTuple_GET_ITEM(names, index);
        int found = -1;
        for (int key = 0; key < count && found < 0; key++) {
            if (name == keys[key] || PyUnicode_Compare(name, keys[key]) == 0) {
                found = key;
            }
        }
        if (found < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function, name);
            return -1;
        }
        if (found == 0 && nargs) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", function, name);
            return -1;
        }
        values[found] = args[nargs + index];
    }
    if (values[0] == NULL) {
        PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: '%U'", function, keys[0]);
        return -1;
    }
    return 0;
}

/* -- binary_to_term ------------------------------------------------------------------------------------------------------ */

static PyObject *local_of(State *state, const uint8_t *p, const uint8_t *end)
{
    return PyObject_CallFunction(state->local_type, "y#", p, (Py_ssize_t)(end - p));
}

/* What the pure twin says about bytes that are no term: it raises the error. */
static PyObject *ask_pure(State *state, PyObject *data, Py_ssize_t pos, Py_ssize_t max_depth, bool text)
{
    PyObject *value = PyObject_CallFunction(state->pure_decode, "OnnO", data, pos, max_depth, text ? Py_True : Py_False);
    if (value != NULL) {
        state->disagreements++;
    }
    return value;
}

/* A term from its tag on, in `data` after `pos`. */
static PyObject *decode_plain(State *state, const uint8_t *p, Py_ssize_t size, Py_ssize_t max_depth, bool text)
{
    if (size > 0 && *p == LOCAL_EXT) {
        return local_of(state, p + 1, p + size);
    }
    return decode(state, p, size, max_depth, text);
}

static PyObject *decode_compressed(State *state, PyObject *data, PyObject *max_bytes, Py_ssize_t max_depth, bool text)
{
    PyObject *plain = PyObject_CallFunctionObjArgs(state->pure_inflate, data, max_bytes, NULL);
    if (plain == NULL) {
        return NULL;
    }
    PyObject *value = decode_plain(state, (const uint8_t *)PyBytes_AS_STRING(plain), PyBytes_GET_SIZE(plain), max_depth,
                                   text);
    if (value == NULL && !PyErr_Occurred()) {
        value = ask_pure(state, plain, 0, max_depth, text);
    }
    Py_DECREF(plain);
    return value;
}

PyObject *binary_to_term(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    State *state = PyModule_GetState(module);
    PyObject *values[4] = {NULL, NULL, NULL, NULL};
    if (nargs == 1 && names == NULL) {
        values[0] = args[0];
    }
    else {
        PyObject *const keys[4] = {state->key_data, state->key_max_depth, state->key_max_bytes, state->key_text};
        if (take_arguments("binary_to_term", args, nargs, names, keys, values, 4) < 0) {
            return NULL;
        }
    }
    PyObject *data = values[0];
    Py_ssize_t max_depth = state->max_depth;
    if (values[1] != NULL) {
        if (!PyLong_Check(values[1])) {
            PyErr_Format(PyExc_TypeError, "max_depth is an int, not %.200s", Py_TYPE(values[1])->tp_name);
            return NULL;
        }
        int overflow;
        long long depth = PyLong_AsLongLongAndOverflow(values[1], &overflow);
        max_depth = overflow > 0 || depth > PY_SSIZE_T_MAX ? PY_SSIZE_T_MAX
                    : overflow < 0 || depth < 0            ? 0
                                                           : (Py_ssize_t)depth;
    }
    int text = values[3] == NULL ? 0 : PyObject_IsTrue(values[3]);
    if (text < 0) {
        return NULL;
    }

    Py_buffer view;
    PyObject *copy = NULL, *value = NULL;
    const uint8_t *p;
    Py_ssize_t size;
    view.obj = NULL;
    if (PyBytes_CheckExact(data)) {
        copy = Py_NewRef(data);
    }
    else if (PyByteArray_CheckExact(data) || PyMemoryView_Check(data)) {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            PyErr_Clear(); /* not contiguous, or released: a copy can be made, or says why not */
            view.obj = NULL;
            copy = PyObject_Bytes(data);
        }
    }
    else if (PyBytes_Check(data) || PyByteArray_Check(data)) {
        copy = PyObject_Bytes(data);
    }
    else {
        PyErr_Format(PyExc_TypeError, "binary_to_term takes bytes, not %s", _PyType_Name(Py_TYPE(data)));
        return NULL;
    }
    if (copy != NULL) {
        p = (const uint8_t *)PyBytes_AS_STRING(copy);
        size = PyBytes_GET_SIZE(copy);
    }
    else if (view.obj != NULL) {
        p = view.buf;
        size = view.len;
    }
    else {
        return NULL;
    }

    bool packed = size > 1 && p[0] == VERSION_MAGIC && p[1] == COMPRESSED;
    if (size > 0 && p[0] == VERSION_MAGIC && !packed) {
        value = decode_plain(state, p + 1, size - 1, max_depth, text);
    }
    if (value == NULL && !PyErr_Occurred()) {
        if (copy == NULL) {
            copy = PyBytes_FromStringAndSize((const char *)p, size);
        }
        if (copy == NULL) {
            ; /* no memory for it */
        }
        else if (packed) {
            PyObject *limit = values[2] == NULL ? PyLong_FromSsize_t(state->max_bytes) : Py_NewRef(values[2]);
            value = limit == NULL ? NULL : decode_compressed(state, copy, limit, max_depth, text);
            Py_XDECREF(limit);
        }
        else if (size > 0 && p[0] == VERSION_MAGIC) {
            value = ask_pure(state, copy, 1, max_depth, text);
        }
        else {
            PyObject *error = PyObject_CallFunction(state->decode_error, "si", "no version byte 131", 0);
            if (error != NULL) {
                PyErr_SetObject(state->decode_error, error);
                Py_DECREF(error);
            }
        }
    }
    if (view.obj != NULL) {
        PyBuffer_Release(&view);
    }
    Py_XDECREF(copy);
    return value;
}

/* -- term_to_binary -------------------------------------------------------------------------------------------------------- */

static PyObject *local_bytes(State *state, PyObject *term)
{
    PyObject *data = SLOT(term, state->at.local_data);
    if (data == NULL || !PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_SystemError, "a Local with data that its constructor refuses");
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(data) + 2);
    if (bytes != NULL) {
        memcpy(PyBytes_AS_STRING(bytes), "\203y", 2);
        memcpy(PyBytes_AS_STRING(bytes) + 2, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
    }
    return bytes;
}

PyObject *term_to_binary(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    State *state = PyModule_GetState(module);
    PyObject *values[4] = {NULL, Py_False, Py_False, Py_None};
    if (nargs == 1 && names == NULL) {
        values[0] = args[0];
    }
    else {
        PyObject *const keys[4] = {state->key_term, state->key_compressed, state->key_deterministic, state->key_default};
        if (take_arguments("term_to_binary", args, nargs, names, keys, values, 4) < 0) {
            return NULL;
        }
    }
    PyObject *level = NULL;
    if (values[1] != Py_False) {
        level = PyObject_CallOneArg(state->pure_level, values[1]);
        if (level == NULL) {
            return NULL;
        }
    }
    int deterministic = PyObject_IsTrue(values[2]);
    PyObject *bytes = NULL;
    if (deterministic >= 0) {
        bytes = (PyObject *)Py_TYPE(values[0]) == state->local_type
                    ? local_bytes(state, values[0])
                    : encode(state, values[0], deterministic, values[3], NULL);
    }
    if (bytes != NULL && level != NULL && PyBytes_AS_STRING(bytes)[1] != LOCAL_EXT) {
        Py_SETREF(bytes, PyObject_CallFunctionObjArgs(state->pure_squeeze, bytes, level, NULL));
    }
    Py_XDECREF(level);
    return bytes;
}

PyObject *term_to_iovec(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    State *state = PyModule_GetState(module);
    PyObject *values[3] = {NULL, Py_False, Py_None};
    PyObject *const keys[3] = {state->key_term, state->key_deterministic, state->key_default};
    if (take_arguments("term_to_iovec", args, nargs, names, keys, values, 3) < 0) {
        return NULL;
    }
    int deterministic = PyObject_IsTrue(values[1]);
    PyObject *parts = deterministic < 0 ? NULL : PyList_New(0);
    if (parts == NULL) {
        return NULL;
    }
    PyObject *done;
    if ((PyObject *)Py_TYPE(values[0]) == state->local_type) {
        done = local_bytes(state, values[0]);
        if (done != NULL && PyList_Append(parts, done) < 0) {
            Py_CLEAR(done);
        }
    }
    else {
        done = encode(state, values[0], deterministic, values[2], parts);
    }
    if (done == NULL) {
        Py_DECREF(parts);
        return NULL;
    }
    Py_DECREF(done);
    return parts;
}
