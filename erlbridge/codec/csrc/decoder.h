/* What the decoder's loop works with: frames of open containers, scratch memory, and the containers that are complete; shared
 * by decode.c and containers.c.
 */

#ifndef ERLBRIDGE_DECODER_H
#define ERLBRIDGE_DECODER_H

#include "codec.h"

enum { FIRST_FRAMES = 48, FIRST_SCRATCH = 256, FIRST_NEWBORNS = 64 };

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

static inline void scratch_init(Scratch *scratch)
{
    scratch->top = scratch->first;
    scratch->limit = scratch->first + FIRST_SCRATCH;
    scratch->chunk = NULL;
}

static inline PyObject **scratch_take(Scratch *scratch, size_t count)
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

static inline void scratch_give_back(Scratch *scratch, PyObject **base)
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

static inline void scratch_free(Scratch *scratch)
{
    while (scratch->chunk != NULL) {
        Chunk *chunk = scratch->chunk;
        scratch->chunk = chunk->before;
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

static inline void newborns_init(Newborns *newborns)
{
    newborns->held = newborns->first;
    newborns->count = 0;
    newborns->room = FIRST_NEWBORNS;
}

static inline bool newborns_add(Newborns *newborns, PyObject *container)
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

static inline void newborns_show(Newborns *newborns)
{
    for (size_t index = 0; index < newborns->count; index++) {
        PyObject_GC_Track(newborns->held[index]);
        Py_DECREF(newborns->held[index]);
    }
    if (newborns->held != newborns->first) {
        PyMem_Free(newborns->held);
    }
}

/* A float of the wire; NULL without an exception for NaN or an infinity. */
static inline PyObject *float_of(const uint8_t *p)
{
    uint64_t bits = load_u64(p);
    if ((bits >> 52 & 0x7FF) == 0x7FF) {
        return NULL;
    }
    double number;
    memcpy(&number, &bits, 8);
    return PyFloat_FromDouble(number);
}

/* An integer of at most 8 bytes, lowest first, where 8 may be read in one load: those beyond the number are shifted out. */
static inline PyObject *word_of(const uint8_t *p, size_t size, bool negative)
{
    uint64_t magnitude = __builtin_bswap64(load_u64(p));
    magnitude = magnitude << (64 - 8 * size) >> (64 - 8 * size);
    return !negative                ? PyLong_FromUnsignedLongLong(magnitude)
           : magnitude <= INT64_MAX ? PyLong_FromLongLong(-(int64_t)magnitude)
                                    : read_big(p, size, true);
}

/* The keys of the map at `p` may be those of a shape: then the frame has it, and the size of the first key is given; 0 if not,
 * or if another key stands there. */
static inline size_t open_shape(State *state, Frame *frame, const uint8_t *p, const uint8_t *end, size_t n, bool text)
{
    ShapeSet *set = frame->set = shape_set(state, p, end, (uint32_t)n, text);
    frame->begin = p;
    if (set == NULL || set->shape == NULL || set->shape->n != (int)n || set->shape->text != text) {
        return 0;
    }
    size_t key = shape_key(set->shape, 0, p, end);
    if (key) {
        frame->kind = SHAPED;
        frame->shape = set->shape;
        frame->shape->refs++;
    }
    return key;
}

/* -- containers.c ------------------------------------------------------------------------------------------------------- */

/* Twice as many frames; the old ones are freed unless they are the first. NULL with an exception, and the old ones stay. */
Frame *more_frames(Frame *frames, const Frame *first, Py_ssize_t capacity);

/* Lets go of all that `depth` frames hold, from this one down. */
void drop_frames(Frame *frame, Py_ssize_t depth);

/* The dict of the frame's pairs, whose references it takes, or what the pure twin makes of keys that no dict can hold. */
PyObject *map_of(State *state, const Frame *frame, Py_ssize_t n, Py_ssize_t pos);

/* The shape of the map in this frame, of which `done` keys were as expected, does not fit: its keys so far join their values,
 * from the last on, and it goes on as a plain map. Gives where its next value goes. */
PyObject **unshape(State *state, Frame *frame, Py_ssize_t done);

/* The fun of these values, whose references it takes: module, old index, old uniq, pid, and what it captured. */
PyObject *fun_of(State *state, const uint8_t *begin, PyObject **held, Py_ssize_t n);

/* The list in the frame's box with this tail, whose reference it takes; a list of no elements is its tail. */
PyObject *improper_of(State *state, Newborns *newborns, Frame *frame, PyObject *tail);

/* The integers of these bytes as a list. */
PyObject *characters(State *state, const uint8_t *p, size_t n);

/* The integers of these bytes, put behind those that the list has. */
bool append_characters(State *state, PyObject *list, const uint8_t *p, size_t n);

PyObject *text_or_bytes(const uint8_t *p, Py_ssize_t n);

/* -- steps of the loop in decode.c, by its own variables ---------------------------------------------------------------- */

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
        Frame *more = more_frames(frames, first_frames, capacity);                                                     \
        if (more == NULL) {                                                                                            \
            goto fail;                                                                                                 \
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

/* Values of one tag and size come in runs, which go on without a look at anything else. */
#define RUN(tag, bytes, made)                                                                                          \
    for (;;) {                                                                                                         \
        NEED(bytes);                                                                                                   \
        value = made;                                                                                                  \
        p += bytes;                                                                                                    \
        if (slot_end - slot < 2 || p == end || *p != tag || kind == SHAPED || value == NULL) {                         \
            break;                                                                                                     \
        }                                                                                                              \
        *slot++ = value;                                                                                               \
    }

#endif
