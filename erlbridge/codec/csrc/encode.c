/* The encoder: one loop with a stack of its own, dispatching on exact types; what is of no exact type goes through
 * `terms.plain` first, as in the pure twin.
 *
 * `default`, and the methods of foreign mappings, may change any container while it is written. So an open container is
 * held by its frame, sizes are looked at again at each step, and a value is held wherever Python code may run.
 */

#include "encoder.h"
#include "dicts.h"

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

/* Whether no two keys of the dict can be one key in Erlang: all are of one type whose values Erlang tells apart too. */
static bool keys_differ(State *state, PyObject *dict)
{
    PyTypeObject *type = NULL;
    DictView view;
    if (state->shapes.works && dict_view(dict, &view)) {
        if (view.text) {
            return true;
        }
        for (Py_ssize_t at = 0; at < view.count; at++) {
            PyTypeObject *other = view.entries[at].me_value == NULL ? type : Py_TYPE(view.entries[at].me_key);
            if (other != type) {
                if (type != NULL) {
                    return false;
                }
                type = other;
            }
        }
    }
    else {
        Py_ssize_t at = 0;
        PyObject *key, *value;
        while (PyDict_Next(dict, &at, &key, &value)) {
            if (Py_TYPE(key) != type) {
                if (type != NULL) {
                    return false;
                }
                type = Py_TYPE(key);
            }
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
    const PyObject *const atom_type = state->atom_type;
    Py_ssize_t capacity = FIRST_FRAMES;
    Frame *frame = encoder->frames;
    PyObject *value = term;
    uint8_t *p = put_leaf(encoder, encoder->p, term, atom_type);

    if (p != NULL) {
        encoder->p = p;
        return 0;
    }
    goto not_leaf;

next:
    switch (frame->kind) {
    case ROOT:
        return 0;

    case LIST: {
        PyObject *owner = frame->owner;
        Py_ssize_t at = frame->at;
        p = encoder->p;
        while (at < PyList_GET_SIZE(owner)) {
            value = PyList_GET_ITEM(owner, at++);
            if (Py_TYPE(value) == &PyFloat_Type) {
                /* Floats come in runs. Nothing here can change the list, so its items may be walked as an array. */
                PyObject **item = ((PyListObject *)owner)->ob_item + at - 1;
                PyObject **last = ((PyListObject *)owner)->ob_item + PyList_GET_SIZE(owner);
                uint64_t bits;
                for (; item < last && Py_TYPE(*item) == &PyFloat_Type && encoder->limit - p >= 3 * HEADER_BYTES; item++) {
                    double number = PyFloat_AS_DOUBLE(*item);
                    memcpy(&bits, &number, 8);
                    if ((bits >> 52 & 0x7FF) == 0x7FF) {
                        break;
                    }
                    *p = NEW_FLOAT_EXT;
                    store_u64(p + 1, bits);
                    p += 9;
                }
                at = item - ((PyListObject *)owner)->ob_item;
                if (item == last) {
                    break;
                }
                value = *item;
                at++;
            }
            p = put_leaf(encoder, p, value, atom_type);
            if (p == NULL) {
                frame->at = at;
                goto not_leaf;
            }
            frame->at = at; /* for the guess of the whole's size */
        }
        encoder->p = p;
        if (PyList_GET_SIZE(owner) != frame->count) {
            refuse(encoder, PyUnicode_FromString("list changed while it was written"));
            encoder->depth--; /* the list's own place is told */
            raise_refusal(encoder, owner);
            encoder->depth++;
            return -1;
        }
        if (ensure(encoder, HEADER_BYTES) < 0) {
            return -1;
        }
        *encoder->p++ = NIL_EXT;
        break;
    }

    case TUPLE:
    case FLAT:
    case FUN: {
        PyObject *items = frame->kind == TUPLE ? frame->owner : frame->items;
        p = encoder->p;
        while (frame->at < frame->count) {
            value = PyTuple_GET_ITEM(items, frame->at++);
            p = put_leaf(encoder, p, value, atom_type);
            if (p == NULL) {
                goto not_leaf;
            }
        }
        encoder->p = p;
        if (frame->kind == FUN && close_fun(encoder, frame) < 0) {
            return -1;
        }
        break;
    }

    case DICT: {
        PyObject *key, *owner = frame->owner;
        Py_ssize_t at, left;
        DictView view = {0};
        p = encoder->p;
        if (frame->value_next) {
            frame->value_next = false;
            value = frame->held;
            p = put_leaf(encoder, p, value, atom_type);
            if (p == NULL) {
                goto not_leaf;
            }
        }
        if (PyDict_GET_SIZE(owner) != frame->size) {
            return changed(encoder, frame, "dictionary changed size during iteration");
        }
        at = frame->at;
        left = frame->count;
        bool viewed = state->shapes.works && dict_view(owner, &view);
        /* Nothing in this loop runs Python code: what the view looks at stays. */
        while (viewed ? dict_view_next(&view, &at, &key, &value) : PyDict_Next(owner, &at, &key, &value)) {
            if (left-- == 0) {
                return changed(encoder, frame, "dictionary keys changed during iteration");
            }
            p = (const PyObject *)Py_TYPE(key) == atom_type ? put_atom_at(encoder, p, key)
                                                            : put_leaf(encoder, p, key, atom_type);
            if (p == NULL) {
                frame->at = at;
                frame->count = left;
                Py_XSETREF(frame->held, Py_NewRef(value));
                frame->value_next = true;
                value = key;
                goto not_leaf;
            }
            p = put_leaf(encoder, p, value, atom_type);
            if (p == NULL) {
                frame->at = at;
                frame->count = left;
                goto not_leaf;
            }
        }
        encoder->p = p;
        break;
    }
    }
    pop(encoder);
    frame = &encoder->frames[encoder->depth];
    goto next;

not_leaf:
    if (encoder->put < 0) {
        goto refused;
    }

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
            int put = put_string(encoder, value);
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
    encoder.put = 0;
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
    Py_XDECREF(encoder.message);
    return result;
}
