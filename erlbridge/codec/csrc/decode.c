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

#include "codec.h"

enum { FIRST_FRAMES = 48, FIRST_SCRATCH = 256, FIRST_NEWBORNS = 64, MAP_CROWD = 256 };

typedef enum { ROOT, LIST, CHAIN, TAIL, TUPLE, MAP, SHAPED, FUN } Kind;

typedef struct {
    Kind kind;
    bool holds;        /* something in it may be tracked by the collector, now or later */
    PyObject *box;     /* the list or tuple that is filled */
    PyObject **slot, **slot_end;
    PyObject **base;   /* scratch memory, or NULL */
    Py_ssize_t owed;   /* values that this container owed when one inside it was opened */
    Py_ssize_t left;   /* CHAIN: elements to come */
    Shape *shape;
    ShapeSet *set;
    const uint8_t *begin;
} Frame;

typedef struct Chunk {
    struct Chunk *before;
    PyObject **top_before, **limit_before;
    PyObject *slots[];
} Chunk;

/* Scratch memory, taken and given back in order, whose addresses never change. */
typedef struct {
    PyObject **top, **limit;
    Chunk *chunk;
    PyObject *first[FIRST_SCRATCH];
} Scratch;

static PyObject **scratch_take(Scratch *scratch, size_t count)
{
    if ((size_t)(scratch->limit - scratch->top) < count) {
        size_t room = count > 1000 ? count : 1000;
        Chunk *chunk = PyMem_Malloc(sizeof(Chunk) + room * sizeof(PyObject *));
        if (chunk == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        chunk->before = scratch->chunk;
        chunk->top_before = scratch->top;
        chunk->limit_before = scratch->limit;
        scratch->chunk = chunk;
        scratch->top = chunk->slots;
        scratch->limit = chunk->slots + room;
    }
    PyObject **taken = scratch->top;
    scratch->top += count;
    return taken;
}

static void scratch_give_back(Scratch *scratch, PyObject **base)
{
    scratch->top = base;
    Chunk *chunk = scratch->chunk;
    if (chunk != NULL && base == chunk->slots) {
        scratch->chunk = chunk->before;
        scratch->top = chunk->top_before;
        scratch->limit = chunk->limit_before;
        PyMem_Free(chunk);
    }
}

/* Complete containers that the collector is yet to be shown. Each is held here, for what the pure twin makes of odd keys
 * need not hold all that it was given. */
typedef struct {
    PyObject **held;
    size_t count, room;
    PyObject *first[FIRST_NEWBORNS];
} Newborns;

static bool newborns_add(Newborns *newborns, PyObject *container)
{
    if (newborns->count == newborns->room) {
        size_t room = newborns->room * 2;
        PyObject **held = newborns->held == newborns->first ? NULL : newborns->held;
        held = PyMem_Realloc(held, room * sizeof(PyObject *));
        if (held == NULL) {
            PyErr_NoMemory();
            return false;
        }
        if (newborns->held == newborns->first) {
            memcpy(held, newborns->first, sizeof newborns->first);
        }
        newborns->held = held;
        newborns->room = room;
    }
    newborns->held[newborns->count++] = Py_NewRef(container);
    return true;
}

static void newborns_show(Newborns *newborns)
{
    for (size_t index = 0; index < newborns->count; index++) {
        PyObject_GC_Track(newborns->held[index]);
        Py_DECREF(newborns->held[index]);
    }
    if (newborns->held != newborns->first) {
        PyMem_Free(newborns->held);
    }
}

/* The dict of these pairs, whose references it takes, or what the pure twin makes of keys that no dict can hold. */
static PyObject *map_of(State *state, PyObject **pairs, Py_ssize_t n, Py_ssize_t pos)
{
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

/* The fun of these values: module, old index, old uniq, pid, and what it captured. */
static PyObject *fun_of(State *state, const uint8_t *begin, PyObject **held, Py_ssize_t n)
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

static PyObject *text_or_bytes(const uint8_t *p, Py_ssize_t n)
{
    PyObject *value = PyUnicode_DecodeUTF8((const char *)p, n, NULL);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return PyBytes_FromStringAndSize((const char *)p, n);
    }
    return value;
}

PyObject *decode(State *state, const uint8_t *data, Py_ssize_t size, Py_ssize_t max_depth, bool text)
{
    const uint8_t *p = data;
    const uint8_t *const end = data + size;
    Frame first_frames[FIRST_FRAMES];
    Frame *frames = first_frames;
    Py_ssize_t capacity = FIRST_FRAMES;
    Scratch scratch;
    scratch.top = scratch.first;
    scratch.limit = scratch.first + FIRST_SCRATCH;
    scratch.chunk = NULL;
    Newborns newborns;
    newborns.held = newborns.first;
    newborns.count = 0;
    newborns.room = FIRST_NEWBORNS;
    PyObject *root = NULL;
    PyObject **slot = &root, **slot_end = &root + 1;
    Py_ssize_t pending = 0; /* values owed by all open containers but the innermost */
    Py_ssize_t depth = 0;
    Frame *frame = frames;
    Kind kind = ROOT;
    PyObject *value;
    size_t n;

    memset(frame, 0, sizeof(Frame));

#define NEED(bytes)                                                                                                    \
    if (end - p < (Py_ssize_t)(bytes)) {                                                                               \
        goto fail;                                                                                                     \
    }

    /* A frame for a container that owes `values` more, while the one around it waits. */
#define OPEN(values)                                                                                                   \
    if (depth >= max_depth) {                                                                                          \
        goto fail;                                                                                                     \
    }                                                                                                                  \
    frame->slot = slot;                                                                                                \
    frame->owed = kind == CHAIN ? frame->left : (slot_end - slot - 1) + (kind == LIST);                                \
    if ((size_t)(end - p) < (size_t)(values) || end - p - (Py_ssize_t)(values) < pending + frame->owed) {              \
        goto fail;                                                                                                     \
    }                                                                                                                  \
    if (depth + 1 == capacity) {                                                                                       \
        Frame *more = PyMem_Malloc((size_t)capacity * 2 * sizeof(Frame));                                              \
        if (more == NULL) {                                                                                            \
            PyErr_NoMemory();                                                                                          \
            goto fail;                                                                                                 \
        }                                                                                                              \
        memcpy(more, frames, (size_t)capacity * sizeof(Frame));                                                        \
        if (frames != first_frames) {                                                                                  \
            PyMem_Free(frames);                                                                                        \
        }                                                                                                              \
        frames = more;                                                                                                 \
        capacity *= 2;                                                                                                 \
        frame = frames + depth;                                                                                        \
    }                                                                                                                  \
    frame->slot_end = slot_end;                                                                                        \
    pending += frame->owed;                                                                                            \
    depth++;                                                                                                           \
    frame++;                                                                                                           \
    frame->box = NULL;                                                                                                 \
    frame->base = NULL;                                                                                                \
    frame->shape = NULL;                                                                                               \
    frame->set = NULL;                                                                                                 \
    frame->holds = false;                                                                                              \
    frame->slot = slot = NULL

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
        for (;;) {
            NEED(2);
            value = Py_NewRef(state->small[p[1]]);
            p += 2;
            if (slot_end - slot < 2 || p == end || *p != SMALL_INTEGER_EXT || kind == SHAPED) {
                break;
            }
            *slot++ = value;
        }
        break;

    case INTEGER_EXT:
        for (;;) {
            NEED(5);
            value = PyLong_FromLong((int32_t)load_u32(p + 1));
            p += 5;
            if (slot_end - slot < 2 || p == end || *p != INTEGER_EXT || kind == SHAPED || value == NULL) {
                break;
            }
            *slot++ = value;
        }
        break;

    case NEW_FLOAT_EXT:
        for (;;) {
            NEED(9);
            uint64_t bits = load_u64(p + 1);
            if ((bits >> 52 & 0x7FF) == 0x7FF) {
                goto fail; /* NaN or an infinity */
            }
            double number;
            memcpy(&number, &bits, 8);
            value = PyFloat_FromDouble(number);
            p += 9;
            if (slot_end - slot < 2 || p == end || *p != NEW_FLOAT_EXT || kind == SHAPED || value == NULL) {
                break;
            }
            *slot++ = value;
        }
        break;

    case SMALL_BIG_EXT:
        NEED(3);
        n = p[1];
        NEED(3 + n);
        if (n <= 8 && n && end - p >= 11) {
            /* One load: the bytes beyond the number are shifted out. */
            uint64_t magnitude = __builtin_bswap64(load_u64(p + 3));
            magnitude = magnitude << (64 - 8 * n) >> (64 - 8 * n);
            value = !p[2]                       ? PyLong_FromUnsignedLongLong(magnitude)
                    : magnitude <= INT64_MAX ? PyLong_FromLongLong(-(int64_t)magnitude)
                                                : read_big(p + 3, n, true);
        }
        else {
            value = read_big(p + 3, n, p[2]);
        }
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
        value = PyList_New((Py_ssize_t)n);
        if (value == NULL) {
            goto fail;
        }
        for (size_t index = 0; index < n; index++) {
            PyList_SET_ITEM(value, index, Py_NewRef(state->small[p[index]]));
        }
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
            ShapeSet *set = frame->set = shape_set(state, p, end, (uint32_t)n, text);
            frame->begin = p;
            if (set != NULL && set->shape != NULL && set->shape->n == (int)n && set->shape->text == text) {
                size_t key = shape_key(set->shape, 0, p, end);
                if (key) {
                    frame->kind = kind = SHAPED;
                    frame->shape = set->shape;
                    frame->shape->refs++;
                    slot_end = slot + n;
                    p += key;
                }
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
        Shape *shape = frame->shape;
        Py_ssize_t done = slot - frame->base;
        size_t key = shape_key(shape, done, p, end);
        if (key) {
            p += key;
            goto read_value;
        }
        /* Another map after all: its keys so far join their values, from the last on, and it goes on as a plain one. */
        for (Py_ssize_t index = done; index--;) {
            frame->base[2 * index + 1] = frame->base[index];
            frame->base[2 * index] = Py_NewRef(shape->keys[index]);
        }
        slot = frame->base + 2 * done;
        slot_end = frame->base + 2 * shape->n;
        frame->kind = kind = MAP;
        shape_missed(state, shape);
        frame->shape = NULL;
        shape_release(shape);
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
        value = map_of(state, frame->base, (Py_ssize_t)n, p - data);
        if (value == NULL) {
            goto fail;
        }
#if PY_VERSION_HEX < 0x030E0000
        /* Before 3.14, a dict of leaves is not tracked until something else is put into it. That is left out for keys
           whose type could be tracked; atoms are of such a type, yet hold text alone. */
        if (!frame->holds) {
            PyObject_GC_UnTrack(value);
        }
#endif
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
        if (PyList_GET_SIZE(frame->box) == 0) { /* a list of no elements is its tail */
            Py_DECREF(frame->box);
            frame->box = NULL;
            value = tail;
        }
        else {
            value = ((PyTypeObject *)state->improper_type)->tp_alloc((PyTypeObject *)state->improper_type, 0);
            if (value == NULL) {
                Py_DECREF(tail);
                goto fail;
            }
            SLOT(value, state->at.improper_elements) = Py_NewRef(frame->box);
            SLOT(value, state->at.improper_tail) = tail;
            bool added = newborns_add(&newborns, frame->box);
            Py_SETREF(frame->box, value);
            if (!added) {
                goto fail;
            }
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
            for (size_t index = 0; index < n; index++) {
                if (PyList_Append(frame->box, state->small[p[index]]) < 0) {
                    goto fail;
                }
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
    /* The root's one value was stored if what failed is that more follows it. */
    Py_XDECREF(root);
    while (scratch.chunk != NULL) {
        Chunk *chunk = scratch.chunk;
        scratch.chunk = chunk->before;
        PyMem_Free(chunk);
    }
done:
    if (frames != first_frames) {
        PyMem_Free(frames);
    }
    return value;
}
