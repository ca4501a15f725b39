/* The floor under any decoder: the same Python objects, built from parts that lie ready, with nothing to parse.
 *
 * `build(term)` makes a term of the same shape: new containers, binaries and numbers, the same atoms. Plain use of the public
 * API, as a careful decoder would. Built and used by benchmarks/codec.py alone.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *build(PyObject *term)
{
    if (PyBytes_CheckExact(term)) {
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(term), PyBytes_GET_SIZE(term));
    }
    if (PyFloat_CheckExact(term)) {
        return PyFloat_FromDouble(PyFloat_AS_DOUBLE(term));
    }
    if (PyLong_CheckExact(term)) {
        int overflow;
        long long value = PyLong_AsLongLongAndOverflow(term, &overflow);
        return overflow ? Py_NewRef(term) : PyLong_FromLongLong(value);
    }
    if (PyList_CheckExact(term)) {
        Py_ssize_t size = PyList_GET_SIZE(term);
        PyObject *list = PyList_New(size);
        for (Py_ssize_t index = 0; list != NULL && index < size; index++) {
            PyObject *value = build(PyList_GET_ITEM(term, index));
            if (value == NULL) {
                Py_CLEAR(list);
                break;
            }
            PyList_SET_ITEM(list, index, value);
        }
        return list;
    }
    if (PyTuple_CheckExact(term)) {
        Py_ssize_t size = PyTuple_GET_SIZE(term);
        PyObject *tuple = PyTuple_New(size);
        for (Py_ssize_t index = 0; tuple != NULL && index < size; index++) {
            PyObject *value = build(PyTuple_GET_ITEM(term, index));
            if (value == NULL) {
                Py_CLEAR(tuple);
                break;
            }
            PyTuple_SET_ITEM(tuple, index, value);
        }
        return tuple;
    }
    if (PyDict_CheckExact(term)) {
        PyObject *dict = PyDict_New(), *key, *value;
        Py_ssize_t at = 0;
        while (dict != NULL && PyDict_Next(term, &at, &key, &value)) {
            PyObject *held = build(value);
            if (held == NULL || PyDict_SetItem(dict, key, held) < 0) {
                Py_CLEAR(dict);
            }
            Py_XDECREF(held);
        }
        return dict;
    }
    return Py_NewRef(term);
}

static PyObject *build_call(PyObject *module, PyObject *term)
{
    (void)module;
    return build(term);
}

static PyMethodDef methods[] = {{"build", build_call, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "floor", .m_methods = methods};

PyMODINIT_FUNC PyInit_floor(void) { return PyModule_Create(&definition); }
