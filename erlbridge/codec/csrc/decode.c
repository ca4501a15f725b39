/* The decoder: one loop over the bytes with a stack of its own, so that nesting costs no C stack.
 *
 * Values are stored through `slot` until it meets `slot_end`: straight into the items of an open list or tuple, or into
 * scratch memory for a map, whose dict is made at its end. The collector is shown the containers when the term is whole:
 * before, it would find some half filled, and none of the others could be garbage, as the term holds them. It runs as
 * often as ever meanwhile, and walks over each container once where it walked twice and thrice.
 *
 * Every value takes a byte at least. So what open containers still owe can never exceed the bytes that are left, and a
 * count that would make it so is refused before anything is allocated for it.
 */

#include "decoder.h"

PyObject *decode(State *state, const uint8_t *data, Py_ssize_t size, Py_ssize_t max_depth, bool text)
{
    const uint8_t *p = data;
    const uint8_t *const end = data + size;
    Frame first_frames[FIRST_FRAMES];
    Frame *frames = first_frames;
    Py_ssize_t capacity = FIRST_FRAMES;
    Scratch scratch;
    scratch_init(&scratch);
    Newborns newborns;
    newborns_init(&newborns);
    PyObject *root = NULL;
    PyObject **slot = &root, **slot_end = &root + 1;
    Py_ssize_t pending = 0; /* values owed by all open containers but the innermost */
    Py_ssize_t depth = 0;
    Frame *frame = frames;
    Kind kind = ROOT;
    PyObject *value;
    size_t n;

    memset(frame, 0, sizeof(Frame));

read_value:
    if (p >= end) {
        goto fail;
    }
    switch (*p) {
    case BINARY_EXT:
        NEED(5);
        n = load_u32(p + 1);
        p += 5;
        if ((size_t)(end - p) < n) {
            goto fail;
        }
        value = text ? text_or_bytes(p, (Py_ssize_t)n) : PyBytes_FromStringAndSize((const char *)p, (Py_ssize_t)n);
        p += n;
        break;

    case SMALL_ATOM_UTF8_EXT:
    case ATOM_EXT:
        n = atom_size(p, end);
        if (n == 0) {
            goto fail;
        }
        value = atom_value(state, p, n);
        p += n;
        break;

    case SMALL_INTEGER_EXT:
        RUN(SMALL_INTEGER_EXT, 2, Py_NewRef(state->small[p[1]]));
        break;

    case INTEGER_EXT:
        RUN(INTEGER_EXT, 5, PyLong_FromLong((int32_t)load_u32(p + 1)));
        break;

    case NEW_FLOAT_EXT:
        RUN(NEW_FLOAT_EXT, 9, float_of(p + 1));
        break;

    case SMALL_BIG_EXT:
        NEED(3);
        n = p[1];
        NEED(3 + n);
        value = n && n <= 8 && end - p >= 11 ? word_of(p + 3, n, p[2]) : read_big(p + 3, n, p[2]);
        p += 3 + n;
        break;

    case NIL_EXT:
        value = PyList_New(0);
        p += 1;
        frame->holds = true;
        break;

    case STRING_EXT:
        NEED(3);
        n = load_u16(p + 1);
        p += 3;
        NEED(n);
        value = characters(state, p, n);
        p += n;
        frame->holds = true;
        break;

    case SMALL_TUPLE_EXT:
        NEED(2);
        n = p[1];
        p += 2;
        goto open_tuple;

    case LARGE_TUPLE_EXT:
        NEED(5);
        n = load_u32(p + 1);
        p += 5;
    open_tuple:
        if (n == 0) {
            if (depth >= max_depth) {
                goto fail;
            }
            value = PyTuple_New(0);
            break;
        }
        OPEN(n);
        frame->kind = kind = TUPLE;
        frame->box = PyTuple_New((Py_ssize_t)n);
        if (frame->box == NULL) {
            goto fail;
        }
        PyObject_GC_UnTrack(frame->box);
        slot = ((PyTupleObject *)frame->box)->ob_item;
        slot_end = slot + n;
        goto read_value;

    case LIST_EXT:
        NEED(5);
        n = load_u32(p + 1);
        p += 5;
        OPEN(n + 1);
        frame->kind = kind = LIST;
        frame->box = PyList_New((Py_ssize_t)n);
        if (frame->box == NULL) {
            goto fail;
        }
        PyObject_GC_UnTrack(frame->box);
        slot = ((PyListObject *)frame->box)->ob_item;
        slot_end = slot + n;
        if (n == 0) {
            goto list_tail;
        }
        goto read_value;

    case MAP_EXT:
        NEED(5);
        n = load_u32(p + 1);
        p += 5;
        if (n == 0) {
            if (depth >= max_depth) {
                goto fail;
            }
            value = PyDict_New();
            frame->holds = true;
            break;
        }
        if ((size_t)(end - p) < n) {
            goto fail; /* before it is doubled */
        }
        OPEN(2 * n);
        frame->kind = kind = MAP;
        frame->base = slot = scratch_take(&scratch, 2 * n);
        if (slot == NULL) {
            goto fail;
        }
        slot_end = slot + 2 * n;
        if (n <= SHAPE_MAX_KEYS) {
            size_t key = open_shape(state, frame, p, end, n, text);
            if (key) {
                kind = SHAPED;
                slot_end = slot + n;
                p += key;
            }
        }
        goto read_value;

    case NEW_FUN_EXT:
        NEED(30);
        n = load_u32(p + 26);
        if (n > 255) {
            goto fail;
        }
        n += 4;
        {
            const uint8_t *begin = p;
            p += 30;
            OPEN(n);
            frame->begin = begin;
        }
        frame->kind = kind = FUN;
        frame->base = slot = scratch_take(&scratch, n);
        if (slot == NULL) {
            goto fail;
        }
        slot_end = slot + n;
        goto read_value;

    default:
        {
            const uint8_t *stop = end; /* so that `p` itself can stay in a register */
            value = read_rare(state, p, end, &stop);
            p = stop;
        }
        frame->holds = true;
        break;
    }
    if (value == NULL) {
        goto fail;
    }

store:
    *slot++ = value;
    if (slot != slot_end) {
        if (kind != SHAPED) {
            goto read_value;
        }
        Py_ssize_t done = slot - frame->base;
        size_t key = shape_key(frame->shape, done, p, end);
        if (key) {
            p += key;
            goto read_value;
        }
        slot_end = frame->base + 2 * frame->shape->n;
        slot = unshape(state, frame, done);
        kind = MAP;
        goto read_value;
    }

    /* The container is full. */
    switch (kind) {
    case ROOT:
        if (p != end) {
            goto fail;
        }
        value = root;
        newborns_show(&newborns);
        goto done;

    case TUPLE:
        value = frame->box;
        if (frame->holds) {
            if (!newborns_add(&newborns, value)) {
                goto fail;
            }
            frame[-1].holds = true;
        } /* else nothing in it can be part of a cycle, and the collector would untrack it in passing */
        break;

    case SHAPED:
        value = shape_dict(state, frame->shape, frame->base);
        if (value == NULL) {
            goto fail;
        }
        shape_release(frame->shape);
        frame->shape = NULL;
        scratch_give_back(&scratch, frame->base);
        frame->base = NULL;
        frame->box = value;
        if (frame->holds && !newborns_add(&newborns, value)) {
            goto fail;
        }
        frame[-1].holds = true;
        break;

    case MAP:
        n = (size_t)(slot_end - frame->base) / 2;
        if (frame->set != NULL) {
            shape_learn(state, frame->set, frame->base, (uint32_t)n, *frame->begin, text);
        }
        frame->slot = slot;
        value = map_of(state, frame, (Py_ssize_t)n, p - data);
        if (value == NULL) {
            goto fail;
        }
        scratch_give_back(&scratch, frame->base);
        frame->base = NULL;
        frame->box = value;
        if (PyDict_CheckExact(value) && PyObject_GC_IsTracked(value)) {
            PyObject_GC_UnTrack(value);
            if (!newborns_add(&newborns, value)) {
                goto fail;
            }
        }
        frame[-1].holds = true;
        break;

    case FUN:
        frame->slot = slot;
        value = fun_of(state, frame->begin, frame->base, slot_end - frame->base);
        if (value == NULL) {
            goto fail;
        }
        frame[-1].holds = true;
        scratch_give_back(&scratch, frame->base);
        break;

    case CHAIN:
        value = slot[-1];
        slot = frame->base;
        if (PyList_Append(frame->box, value) < 0) {
            Py_DECREF(value);
            goto fail;
        }
        Py_DECREF(value);
        if (--frame->left) {
            goto read_value;
        }
        goto list_tail;

    case TAIL: {
        PyObject *tail = slot[-1];
        scratch_give_back(&scratch, frame->base);
        frame->base = NULL;
        slot = NULL;
        value = improper_of(state, &newborns, frame, tail);
        if (value == NULL) {
            goto fail;
        }
        frame[-1].holds = true;
        break;
    }

    case LIST:
    list_tail:
        NEED(1);
        if (*p == NIL_EXT) {
            p++;
        }
        else if (*p == STRING_EXT) {
            NEED(3);
            n = load_u16(p + 1);
            p += 3;
            NEED(n);
            if (!append_characters(state, frame->box, p, n)) {
                goto fail;
            }
            p += n;
        }
        else {
            if (frame->base == NULL) {
                frame->base = scratch_take(&scratch, 1);
                if (frame->base == NULL) {
                    goto fail;
                }
            }
            slot = frame->base;
            slot_end = slot + 1;
            frame->slot = slot;
            if (*p == LIST_EXT) { /* a list as tail goes on in this one, so that a chain of them stays linear */
                NEED(5);
                n = load_u32(p + 1);
                p += 5;
                if (end - p < (Py_ssize_t)n + 1 + pending) {
                    goto fail;
                }
                frame->left = (Py_ssize_t)n;
                frame->kind = kind = CHAIN;
                if (n == 0) {
                    goto list_tail;
                }
            }
            else {
                frame->kind = kind = TAIL;
            }
            goto read_value;
        }
        value = frame->box;
        if (frame->base != NULL) {
            scratch_give_back(&scratch, frame->base);
            frame->base = NULL;
        }
        if (!newborns_add(&newborns, value)) {
            goto fail;
        }
        frame[-1].holds = true;
        break;
    }
    depth--;
    frame--;
    slot = frame->slot;
    slot_end = frame->slot_end;
    kind = frame->kind;
    pending -= frame->owed;
    goto store;

fail:
    frame->slot = slot;
    value = NULL;
    newborns_show(&newborns); /* also here: a traceback may hold what Python code was given */
    drop_frames(frame, depth);
    /* The root's one value was stored if what failed is that more follows it. */
    Py_XDECREF(root);
    scratch_free(&scratch);
done:
    if (frames != first_frames) {
        PyMem_Free(frames);
    }
    return value;
}
