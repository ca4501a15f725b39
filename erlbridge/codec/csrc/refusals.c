/* What the encoder refuses, and how it says so: with the place in the term, told by the pure twin's words. */

#include "encoder.h"

#include <stdlib.h>

static bool all_of(PyObject *list, PyTypeObject *type)
{
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(list); index++) {
        if (Py_TYPE(PyList_GET_ITEM(list, index)) != type) {
            return false;
        }
    }
    return true;
}

/* The open containers from the outermost on, for the place in a message. */
static PyObject *owners(Encoder *encoder, Py_ssize_t depth)
{
    PyObject *list = PyList_New(depth);
    for (Py_ssize_t index = 0; list != NULL && index < depth; index++) {
        PyList_SET_ITEM(list, index, Py_NewRef(encoder->frames[index + 1].owner));
    }
    return list;
}

void raise_refusal(Encoder *encoder, PyObject *value)
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

PyObject *ask(Encoder *encoder, PyObject *function, PyObject *value, PyObject *option)
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

int changed(Encoder *encoder, const Frame *frame, const char *cause)
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

static int by_address(const void *one, const void *two)
{
    uintptr_t a = (uintptr_t)*(PyObject *const *)one, b = (uintptr_t)*(PyObject *const *)two;
    return a < b ? -1 : a > b;
}

int check_depth(Encoder *encoder, PyObject *value)
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

int is_run(State *state, PyObject *list)
{
    PyTypeObject *type = Py_TYPE(PyList_GET_ITEM(list, 0));
    bool numbers = type == &PyLong_Type || (type == &PyFloat_Type && PyList_GET_SIZE(list) > 3);
    if (!numbers || !all_of(list, type)) {
        return 0;
    }
    if (type == &PyLong_Type) {
        return 1;
    }
    PyObject *answer = PyObject_CallFunctionObjArgs(state->run, list, NULL);
    int run = answer == NULL ? -1 : answer == Py_True;
    Py_XDECREF(answer);
    return run;
}
