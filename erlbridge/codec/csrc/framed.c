/* Maps that follow each other, each behind its length: stepped over, none looked into. */
#include "codec.h"

enum { LENGTH_BYTES = 4, HEAD_BYTES = LENGTH_BYTES + 2, LEAST_BYTES = 6 };

PyObject *count_maps(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "count_maps() takes exactly 3 arguments (%zd given)", nargs);
        return NULL;
    }
    Py_ssize_t at = PyLong_AsSsize_t(args[1]), most = PyLong_AsSsize_t(args[2]);
    if ((at == -1 || most == -1) && PyErr_Occurred()) {
        return NULL;
    }
    if (at < 0 || most < 0) {
        PyErr_SetString(PyExc_ValueError, "neither a place in the data nor a size is negative");
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const unsigned char *data = view.buf;
    Py_ssize_t count = 0;
    while (at <= view.len - HEAD_BYTES) {
        const unsigned char *head = data + at;
        uint32_t length = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
        if (head[4] != VERSION_MAGIC || head[5] != MAP_EXT || length < LEAST_BYTES || (uint64_t)length > (uint64_t)most) {
            break;
        }
        at += LENGTH_BYTES + (Py_ssize_t)length;
        count++;
    }
    PyBuffer_Release(&view);
    return Py_BuildValue("nn", count, at);
}
