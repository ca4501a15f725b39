/* What a value of no common type is written as: the values of a map in order, the elements and the tail of an improper list,
 * what a fun has captured, or the plain value that stands for any other object.
 */

#include "encoder.h"

PyObject *parts_of(Encoder *encoder, PyObject *value, bool deterministic)
{
    State *state = encoder->state;
    PyObject *type = (PyObject *)Py_TYPE(value), *items;
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
            return NULL;
        }
        Py_ssize_t size = PyList_GET_SIZE(elements);
        if (size == 0) {
            refuse(encoder, PyUnicode_FromString("improper list that was emptied"));
            raise_refusal(encoder, value);
            return NULL;
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
            return NULL;
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
    }
    else {
        PyObject *answer = ask(encoder, state->pure_plain, value, encoder->default_);
        items = answer == NULL ? NULL : PyTuple_Pack(1, answer);
        Py_XDECREF(answer);
    }
    return items;
}
