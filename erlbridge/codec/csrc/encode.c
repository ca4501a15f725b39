/* The encoder: one loop with a stack of its own, dispatching on exact types; what is of no exact type goes through
 * `terms.plain` first, as in the pure twin.
 *
 * `default`, and the methods of foreign mappings, may change any container while it is written. So an open container is
 * held by its frame, sizes are looked at again at each step, and a value is held wherever Python code may run.
 */

#include "encoder.h"
#include "dicts.h"

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
            int flat = is_run(encoder->state, value);
            if (flat < 0) {
                return -1;
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
    Kind kind = type == state->fun_type ? FUN : FLAT;
    size_t before = encoder->gone + (size_t)(encoder->p - encoder->start);
    PyObject *items = parts_of(encoder, value, deterministic);
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
