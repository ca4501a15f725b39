/* Containers as the decoder completes them, and what becomes of those that it does not. */

#include "decoder.h"

enum { MAP_CROWD = 256 };

PyObject *map_of(State *state, const Frame *frame, Py_ssize_t n, Py_ssize_t pos)
{
    PyObject **pairs = frame->base;
    bool plain = true;
    if (n > MAP_CROWD) {
        /* Keys whose hash a peer can choose are looked at for collisions there. */
        for (Py_ssize_t index = 0; plain && index < n; index++) {
            PyObject *key = pairs[2 * index];
            plain = (PyObject *)Py_TYPE(key) == state->atom_type || PyBytes_CheckExact(key) || PyUnicode_CheckExact(key)
                    || key == Py_None;
        }
    }
    PyObject *map = NULL;
    if (plain) {
        map = PyDict_New();
        for (Py_ssize_t index = 0; map != NULL && index < n; index++) {
            if (PyDict_SetItem(map, pairs[2 * index], pairs[2 * index + 1]) < 0) {
                Py_CLEAR(map);
            }
        }
        if (map == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_RecursionError)) {
                return NULL;
            }
            PyErr_Clear(); /* a key that a dict refuses */
        }
        else if (PyDict_GET_SIZE(map) != n) {
            Py_CLEAR(map); /* keys that Python merges, or one key twice */
        }
    }
    if (map != NULL) {
        for (Py_ssize_t index = 0; index < 2 * n; index++) {
            Py_DECREF(pairs[index]);
        }
#if PY_VERSION_HEX < 0x030E0000
        /* Before 3.14, a dict of leaves is not tracked until something else is put into it. That is left out for keys
           whose type could be tracked; atoms are of such a type, yet hold text alone. */
        if (!frame->holds) {
            PyObject_GC_UnTrack(map);
        }
#endif
        return map;
    }
    PyObject *values = PyList_New(2 * n);
    if (values == NULL) {
        return NULL;
    }
    for (Py_ssize_t index = 0; index < 2 * n; index++) {
        PyList_SET_ITEM(values, index, Py_NewRef(pairs[index]));
    }
    map = PyObject_CallFunction(state->pure_map, "On", values, pos);
    Py_DECREF(values);
    if (map == NULL) {
        if (PyErr_ExceptionMatches(state->decode_error)) {
            PyErr_Clear();
        }
        return NULL;
    }
    for (Py_ssize_t index = 0; index < 2 * n; index++) {
        Py_DECREF(pairs[index]);
    }
    return map;
}

PyObject *fun_of(State *state, const uint8_t *begin, PyObject **held, Py_ssize_t n)
{
    PyObject *values = PyList_New(n);
    if (values == NULL) {
        return NULL;
    }
    for (Py_ssize_t index = 0; index < n; index++) {
        PyList_SET_ITEM(values, index, Py_NewRef(held[index]));
    }
    PyObject *fun = PyObject_CallFunction(state->pure_fun, "y#iO", begin, (Py_ssize_t)30, 0, values);
    Py_DECREF(values);
    if (fun == NULL) {
        if (PyErr_ExceptionMatches(state->decode_error)) {
            PyErr_Clear();
        }
        return NULL;
    }
    for (Py_ssize_t index = 0; index < n; index++) {
        Py_DECREF(held[index]);
    }
    return fun;
}

PyObject *text_or_bytes(const uint8_t *p, Py_ssize_t n)
{
    PyObject *value = PyUnicode_DecodeUTF8((const char *)p, n, NULL);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return PyBytes_FromStringAndSize((const char *)p, n);
    }
    return value;
}

PyObject **unshape(State *state, Frame *frame, Py_ssize_t done)
{
    Shape *shape = frame->shape;
    for (Py_ssize_t index = done; index--;) {
        frame->base[2 * index + 1] = frame->base[index];
        frame->base[2 * index] = Py_NewRef(shape->keys[index]);
    }
    frame->kind = MAP;
    shape_missed(state, shape);
    frame->shape = NULL;
    shape_release(shape);
    return frame->base + 2 * done;
}

PyObject *improper_of(State *state, Newborns *newborns, Frame *frame, PyObject *tail)
{
    if (PyList_GET_SIZE(frame->box) == 0) {
        Py_CLEAR(frame->box);
        return tail;
    }
    PyObject *value = ((PyTypeObject *)state->improper_type)->tp_alloc((PyTypeObject *)state->improper_type, 0);
    if (value == NULL) {
        Py_DECREF(tail);
        return NULL;
    }
    SLOT(value, state->at.improper_elements) = Py_NewRef(frame->box);
    SLOT(value, state->at.improper_tail) = tail;
    bool added = newborns_add(newborns, frame->box);
    Py_SETREF(frame->box, value);
    return added ? value : NULL;
}

PyObject *characters(State *state, const uint8_t *p, size_t n)
{
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t index = 0; list != NULL && index < n; index++) {
        PyList_SET_ITEM(list, index, Py_NewRef(state->small[p[index]]));
    }
    return list;
}

bool append_characters(State *state, PyObject *list, const uint8_t *p, size_t n)
{
    for (size_t index = 0; index < n; index++) {
        if (PyList_Append(list, state->small[p[index]]) < 0) {
            return false;
        }
    }
    return true;
}

Frame *more_frames(Frame *frames, const Frame *first, Py_ssize_t capacity)
{
    Frame *more = PyMem_Malloc((size_t)capacity * 2 * sizeof(Frame));
    if (more == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(more, frames, (size_t)capacity * sizeof(Frame));
    if (frames != first) {
        PyMem_Free(frames);
    }
    return more;
}

void drop_frames(Frame *frame, Py_ssize_t depth)
{
    for (; depth > 0; depth--, frame--) {
        if (frame->base != NULL) {
            for (PyObject **held = frame->base; held != frame->slot; held++) {
                Py_DECREF(*held);
            }
        }
        Py_XDECREF(frame->box);
        if (frame->shape != NULL) {
            shape_release(frame->shape);
        }
    }
}
