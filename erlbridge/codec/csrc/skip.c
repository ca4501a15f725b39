/* Where terms end, found without building them: `Scan`, whose twin in `_pure_scan.py` documents it.
 *
 * All that a scan knows is kept in its object between two calls, and whenever Python is called: whatever runs then finds
 * it whole. Positions are 64 bits wide, so that no size that the bytes claim leads around; they may stand beyond the
 * data, and are compared with its size before anything is read. The stack grows by one word for each container opened,
 * which took two bytes of the data at least.
 */

#include "sizes.h"

enum { FIRST_LEVELS = 32, STARTS_AT_ONCE = 512 };

/* Limits and positions beyond it are as good as this one, and sums of two of them fit. */
#define FARTHEST (INT64_MAX / 2)

typedef struct {
    PyObject_HEAD
    int64_t pos;
    uint64_t left; /* values still due in the innermost container */
    bool in_list;
    int64_t max_depth, room; /* what the caller said, and how many levels may open here */
    int64_t level;           /* containers around the innermost */
    int64_t capacity;
    uint64_t *stack; /* of every outer container twice the values left, and one more for a list */
} Scan;

typedef enum { CUT, WHOLE, REFUSED, NO_MEMORY } Outcome;

/* -- the loop ------------------------------------------------------------------------------------------------------- */

static bool grow(Scan *scan)
{
    int64_t capacity = scan->capacity ? scan->capacity * 2 : FIRST_LEVELS;
    uint64_t *stack = PyMem_Realloc(scan->stack, (size_t)capacity * sizeof(uint64_t));
    if (stack == NULL) {
        return false;
    }
    scan->stack = stack;
    scan->capacity = capacity;
    return true;
}

/* Goes on as far as the data allow. */
static Outcome advance(const State *state, Scan *scan, const uint8_t *data, int64_t size)
{
    int64_t pos = scan->pos;
    uint64_t left = scan->left;
    bool in_list = scan->in_list;
    int64_t level = scan->level;
    Outcome outcome;

    for (;;) {
        while (left) {
            if (pos >= size) {
                outcome = CUT;
                goto stop;
            }
            uint8_t tag = data[pos];
            int64_t step = FIXED[tag];
            if (step) {
                do {
                    pos += step;
                    left--;
                } while (left && pos < size && data[pos] == tag);
                continue;
            }
            int64_t end;
            if (is_container(tag)) {
                uint64_t count = 0;
                if (level >= scan->room) {
                    outcome = REFUSED;
                    goto stop;
                }
                end = open_container(data, size, pos, &count);
                if (end >= 0) {
                    if (level == scan->capacity && !grow(scan)) {
                        outcome = NO_MEMORY;
                        goto stop;
                    }
                    scan->stack[level++] = (left - 1) * 2 + in_list;
                    left = count;
                    in_list = tag == LIST_EXT;
                    pos = end;
                    continue;
                }
            }
            else {
                end = end_of_value(state, data, size, pos);
                if (end >= 0) {
                    pos = end;
                    left--;
                    continue;
                }
            }
            outcome = end == END_CUT ? CUT : REFUSED;
            goto stop;
        }
        if (in_list) {
            if (pos >= size) {
                outcome = CUT;
                goto stop;
            }
            uint8_t tag = data[pos];
            if (tag == LIST_EXT) { /* a list as tail goes on in this one */
                if (size - pos < 5) {
                    outcome = CUT;
                    goto stop;
                }
                left = load_u32(data + pos + 1);
                pos += 5;
                continue;
            }
            if (tag == NIL_EXT) {
                pos += 1;
            }
            else if (tag == STRING_EXT) {
                if (size - pos < 3) {
                    outcome = CUT;
                    goto stop;
                }
                pos += 3 + load_u16(data + pos + 1);
            }
            else {
                left = 1;
            }
            in_list = false;
            if (left) {
                continue;
            }
        }
        if (level == 0) {
            outcome = pos <= size ? WHOLE : CUT;
            goto stop;
        }
        uint64_t outer = scan->stack[--level];
        left = outer >> 1;
        in_list = outer & 1;
    }
stop:
    scan->pos = pos;
    scan->left = left;
    scan->in_list = in_list;
    scan->level = level;
    return outcome;
}

/* -- the object ------------------------------------------------------------------------------------------------------ */

static State *state_of(PyObject *scan) { return PyType_GetModuleState(Py_TYPE(scan)); }

static int64_t number(PyObject *value)
{
    int overflow;
    long long read = PyLong_AsLongLongAndOverflow(value, &overflow);
    return overflow > 0 || read > FARTHEST ? FARTHEST : overflow < 0 || read < -FARTHEST ? -FARTHEST : read;
}

/* A position in `*pos`, or an error. */
static int read_position(PyObject *value, int64_t *pos)
{
    if (!PyLong_Check(value)) {
        PyErr_Format(PyExc_TypeError, "pos is an int, not %.200s", Py_TYPE(value)->tp_name);
        return -1;
    }
    int64_t read = number(value);
    if (read < 0) {
        PyErr_Format(PyExc_ValueError, "offset %R, expected 0 or more", value);
        return -1;
    }
    *pos = read;
    return 0;
}

static PyObject *scan_new(PyTypeObject *type, PyObject *args, PyObject *options)
{
    static char *names[] = {"pos", "max_depth", "depth", NULL};
    State *state = PyType_GetModuleState(type);
    PyObject *start, *max_depth = NULL, *depth = NULL;
    int64_t pos;
    if (!PyArg_ParseTupleAndKeywords(args, options, "O|$O!O!:Scan", names, &start, &PyLong_Type, &max_depth,
                                     &PyLong_Type, &depth)
        || read_position(start, &pos) < 0) {
        return NULL;
    }
    Scan *scan = (Scan *)type->tp_alloc(type, 0);
    if (scan == NULL) {
        return NULL;
    }
    scan->pos = pos;
    scan->left = 1;
    scan->max_depth = max_depth == NULL ? state->max_depth : number(max_depth);
    scan->room = scan->max_depth - (depth == NULL ? 0 : number(depth));
    return (PyObject *)scan;
}

static void scan_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyMem_Free(((Scan *)object)->stack);
    type->tp_free(object);
    Py_DECREF(type);
}

static void leave(Scan *scan, int64_t pos)
{
    scan->pos = pos;
    scan->left = 0;
    scan->in_list = false;
    scan->level = 0;
}

/* What a call gives after this outcome; of a refusal, the pure twin has text and offset. */
static PyObject *verdict(Scan *scan, PyObject *data, Outcome outcome)
{
    switch (outcome) {
    case CUT:
        Py_RETURN_FALSE;
    case WHOLE:
        Py_RETURN_TRUE;
    case NO_MEMORY:
        return PyErr_NoMemory();
    case REFUSED:
        break;
    }
    State *state = state_of((PyObject *)scan);
    PyObject *passed = PyObject_CallFunction(state->pure_refuse, "OLLL", data, (long long)scan->pos,
                                             (long long)scan->max_depth, (long long)(scan->room - scan->level));
    if (passed != NULL) {
        Py_DECREF(passed);
        state->disagreements++;
        PyErr_Format(PyExc_SystemError, "the pure twin takes what is refused at offset %lld", (long long)scan->pos);
    }
    return NULL;
}

static PyObject *scan_restart(PyObject *object, PyObject *value)
{
    int64_t pos;
    if (read_position(value, &pos) < 0) {
        return NULL;
    }
    leave((Scan *)object, pos);
    Py_RETURN_NONE;
}

static PyObject *scan_advance(PyObject *object, PyObject *data)
{
    Scan *scan = (Scan *)object;
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = verdict(scan, data, advance(state_of(object), scan, view.buf, view.len));
    PyBuffer_Release(&view);
    return result;
}

static PyObject *starts(Scan *scan, PyObject *data, const Py_buffer *view, Py_ssize_t most, PyObject *offsets)
{
    const State *state = state_of((PyObject *)scan);
    uint64_t found[STARTS_AT_ONCE];
    Outcome outcome = WHOLE;
    while (most > 0 && outcome == WHOLE) {
        Py_ssize_t count = 0;
        while (count < most && count < STARTS_AT_ONCE) {
            outcome = advance(state, scan, view->buf, view->len);
            if (outcome == WHOLE && scan->pos >= view->len) {
                outcome = CUT;
            }
            if (outcome != WHOLE) {
                break;
            }
            found[count++] = (uint64_t)scan->pos;
            scan->left = 1;
        }
        most -= count;
        if (count) {
            /* By an interned name: the interpreter's cache of methods keeps each that it has not seen. */
            PyObject *bytes = PyBytes_FromStringAndSize((const char *)found, count * (Py_ssize_t)sizeof(*found));
            PyObject *done = bytes == NULL ? NULL : PyObject_CallMethodOneArg(offsets, state->frombytes, bytes);
            Py_XDECREF(bytes);
            if (done == NULL) {
                leave(scan, (int64_t)found[0]); /* what was not told is found again */
                return NULL;
            }
            Py_DECREF(done);
        }
    }
    return verdict(scan, data, outcome);
}

static PyObject *scan_starts(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "starts() takes 3 arguments (%zd given)", nargs);
        return NULL;
    }
    Py_ssize_t most = PyNumber_AsSsize_t(args[1], NULL);
    if (most == -1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = starts((Scan *)object, args[0], &view, most, args[2]);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *scan_get_pos(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(((Scan *)object)->pos);
}

static int scan_set_pos(PyObject *object, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "pos cannot be deleted");
        return -1;
    }
    return read_position(value, &((Scan *)object)->pos);
}

static PyObject *scan_get_left(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((Scan *)object)->left);
}

PyDoc_STRVAR(scan_doc,
             "Scan(pos, *, max_depth=10000, depth=0)\n"
             "--\n\n"
             "Finds where terms end; as `erlbridge.codec._pure.Scan`, which documents it.");

PyDoc_STRVAR(advance_doc, "advance($self, data, /)\n--\n\nGoes as far as the data allow; whether `pos` is the end.");

PyDoc_STRVAR(restart_doc, "restart($self, pos, /)\n--\n\nLeaves the term at hand; the next begins at `pos`.");

PyDoc_STRVAR(starts_doc,
             "starts($self, data, most, offsets, /)\n"
             "--\n\n"
             "Appends to `offsets` where each of the `most` next terms begins; whether the data have them.");

static PyMethodDef methods[] = {
    {"advance", scan_advance, METH_O, advance_doc},
    {"restart", scan_restart, METH_O, restart_doc},
    {"starts", (PyCFunction)(void (*)(void))scan_starts, METH_FASTCALL, starts_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef fields[] = {
    {"pos", scan_get_pos, scan_set_pos, NULL, NULL},
    {"left", scan_get_left, NULL, "Values still due in the innermost container; each takes a byte at least.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)scan_doc},
    {Py_tp_new, (void *)scan_new},
    {Py_tp_dealloc, (void *)scan_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, fields},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "erlbridge.codec._compiled.Scan",
    .basicsize = sizeof(Scan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, /* no subclass: its state is found through the type */
    .slots = slots,
};

int scan_init(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int failed = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
