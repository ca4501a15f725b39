/* The compiled twin of the codec: what its files share.
 *
 * The pure twin (`_pure_decode.py`, `_pure_encode.py`) is the reference: for every input this twin gives the same value,
 * or the same error. It decides alone whether bytes are a term. Once it has found that they are none, the pure twin is
 * asked for the error, so that both have one text and one offset without the fast path carrying either.
 */

#ifndef ERLBRIDGE_CODEC_H
#define ERLBRIDGE_CODEC_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    VERSION_MAGIC = 131,
    COMPRESSED = 80,
    SMALL_INTEGER_EXT = 97,
    INTEGER_EXT = 98,
    SMALL_BIG_EXT = 110,
    LARGE_BIG_EXT = 111,
    FLOAT_EXT = 99,
    NEW_FLOAT_EXT = 70,
    ATOM_EXT = 100,
    SMALL_ATOM_EXT = 115,
    ATOM_UTF8_EXT = 118,
    SMALL_ATOM_UTF8_EXT = 119,
    BINARY_EXT = 109,
    BIT_BINARY_EXT = 77,
    NIL_EXT = 106,
    STRING_EXT = 107,
    LIST_EXT = 108,
    SMALL_TUPLE_EXT = 104,
    LARGE_TUPLE_EXT = 105,
    MAP_EXT = 116,
    PID_EXT = 103,
    NEW_PID_EXT = 88,
    PORT_EXT = 102,
    NEW_PORT_EXT = 89,
    V4_PORT_EXT = 120,
    REFERENCE_EXT = 101,
    NEW_REFERENCE_EXT = 114,
    NEWER_REFERENCE_EXT = 90,
    NEW_FUN_EXT = 112,
    EXPORT_EXT = 113,
    LOCAL_EXT = 121,
};

/* An atom as it was read, tag included, and the value it stands for. Longer ones are made anew each time. */
enum { ATOM_KEY_BYTES = 111 };

typedef struct {
    uint64_t hash;
    PyObject *value; /* NULL: free */
    uint8_t size;
    uint8_t key[ATOM_KEY_BYTES];
} AtomEntry;

typedef struct Shape Shape;

enum { SHAPE_SETS = 256, SHAPE_MAX_KEYS = 32 };

typedef struct {
    Shape *shape;
    uint64_t seen; /* signature of the last plain map that could have been learned here */
} ShapeSet;

typedef struct {
    ShapeSet *sets;
    bool works;   /* the interpreter's dict is laid out as this build believes */
    bool enabled; /* switched by tests and benchmarks alone */
    int asleep;   /* maps to leave alone before trying again */
    int fruitless; /* maps looked at since the last hit */
    Py_ssize_t held, hits, misses;
} Shapes;

/* Objects that live as long as the module. */
#define CODEC_OBJECTS(X)                                                                                               \
    X(atom_type) X(bitstring_type) X(improper_type) X(pid_type) X(port_type) X(reference_type) X(export_type)          \
    X(fun_type) X(local_type) X(termmap_type) X(decode_error) X(encode_error) X(pure_decode) X(pure_inflate)           \
    X(pure_map) X(pure_fun) X(pure_read) X(pure_level) X(pure_squeeze) X(pure_plain) X(pure_write) X(sorted_values)    \
    X(pure_refuse) X(term_map_values) X(run) X(refusal) X(located) X(key_data) X(key_max_depth) X(key_max_bytes) X(key_text)          \
    X(key_term) X(key_compressed) X(key_deterministic) X(key_default) X(frombytes)

typedef struct {
#define X(name) PyObject *name;
    CODEC_OBJECTS(X)
#undef X
    PyObject *small[256]; /* the integers of SMALL_INTEGER_EXT */
    /* Where the slots of the neutral types stand in their instances. */
    struct {
        Py_ssize_t atom_name, atom_wire;
        Py_ssize_t bits_data, bits_bits;
        Py_ssize_t improper_elements, improper_tail;
        Py_ssize_t pid_node, pid_id, pid_serial, pid_creation;
        Py_ssize_t port_node, port_id, port_creation;
        Py_ssize_t reference_node, reference_creation, reference_ids;
        Py_ssize_t export_module, export_function, export_arity;
        Py_ssize_t fun_arity, fun_uniq, fun_index, fun_module, fun_old_index, fun_old_uniq, fun_pid, fun_free;
        Py_ssize_t local_data;
    } at;
    Py_ssize_t max_depth, max_bytes, max_atom_characters, max_integer_bytes;
    uint64_t seed;
    size_t atom_mask; /* pairs of entries, less one */
    AtomEntry *atoms;
    Shapes shapes;
    Py_ssize_t disagreements; /* inputs that this twin refused and the pure one took: always 0, and a test asks */
} State;

#define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

/* -- bytes ------------------------------------------------------------------------------------------------------- */

#if PY_BIG_ENDIAN
#define BIG16(value) (value)
#define BIG32(value) (value)
#define BIG64(value) (value)
#else
#define BIG16(value) __builtin_bswap16(value)
#define BIG32(value) __builtin_bswap32(value)
#define BIG64(value) __builtin_bswap64(value)
#endif

static inline uint16_t load_u16(const uint8_t *p)
{
    uint16_t value;
    memcpy(&value, p, sizeof value);
    return BIG16(value);
}

static inline uint32_t load_u32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return BIG32(value);
}

static inline uint64_t load_u64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return BIG64(value);
}

static inline void store_u16(uint8_t *p, uint16_t value)
{
    value = BIG16(value);
    memcpy(p, &value, sizeof value);
}

static inline void store_u32(uint8_t *p, uint32_t value)
{
    value = BIG32(value);
    memcpy(p, &value, sizeof value);
}

static inline void store_u64(uint8_t *p, uint64_t value)
{
    value = BIG64(value);
    memcpy(p, &value, sizeof value);
}

static inline uint64_t word(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, 8);
    return value;
}

static inline uint32_t half(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, 4);
    return value;
}

/* memcmp for keys of a few bytes, where a call costs more than the comparison. */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, size_t size)
{
    if (size >= 8) {
        size_t last = size - 8;
        for (size_t at = 0; at < last; at += 8) {
            if (word(a + at) != word(b + at)) {
                return false;
            }
        }
        return word(a + last) == word(b + last);
    }
    if (size >= 4) {
        return half(a) == half(b) && half(a + size - 4) == half(b + size - 4);
    }
    for (size_t at = 0; at < size; at++) {
        if (a[at] != b[at]) {
            return false;
        }
    }
    return true;
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    a = (a ^ (a >> 32)) * b;
    return a ^ (a >> 29);
#endif
}

/* A seeded hash. A table looked up by it must stay bounded in its probes all the same: it is quick, not proven. */
static inline uint64_t hash_bytes(const uint8_t *p, size_t size, uint64_t seed)
{
    uint64_t hash = seed ^ (size * UINT64_C(0x9E3779B97F4A7C15));
    while (size > 8) {
        hash = mix(hash ^ word(p), UINT64_C(0xA0761D6478BD642F) ^ seed);
        p += 8;
        size -= 8;
    }
    uint64_t tail = 0;
    if (size >= 4) {
        tail = (uint64_t)half(p) << 32 | half(p + size - 4);
    }
    else if (size) {
        tail = (uint64_t)p[0] << 16 | (uint64_t)p[size >> 1] << 8 | p[size - 1];
    }
    return mix(hash ^ tail, UINT64_C(0xE7037ED1A0B428DB) ^ seed);
}

/* -- atoms.c ------------------------------------------------------------------------------------------------------ */

int atoms_init(State *state, Py_ssize_t most);
void atoms_clear(State *state);

/* The value of an atom whose `size` bytes stand at `p`, tag included; slow, and remembers it. */
PyObject *atom_miss(State *state, const uint8_t *p, size_t size, uint64_t hash);

/* The same as an Atom even if it is `true`, `false` or `nil`. */
PyObject *atom_itself(State *state, const uint8_t *p, size_t size);

/* How many bytes the atom at `p` takes, tag included; 0 if none stands there or it ends beyond `end`. */
static inline size_t atom_size(const uint8_t *p, const uint8_t *end)
{
    size_t size;
    if (end - p < 3) {
        return end - p == 2 && (p[0] == SMALL_ATOM_UTF8_EXT || p[0] == SMALL_ATOM_EXT) && p[1] == 0 ? 2 : 0;
    }
    if (p[0] == SMALL_ATOM_UTF8_EXT || p[0] == SMALL_ATOM_EXT) {
        size = 2 + (size_t)p[1];
    }
    else if (p[0] == ATOM_EXT || p[0] == ATOM_UTF8_EXT) {
        size = 3 + (size_t)load_u16(p + 1);
    }
    else {
        return 0;
    }
    return size <= (size_t)(end - p) ? size : 0;
}

static inline PyObject *atom_value(State *state, const uint8_t *p, size_t size)
{
    uint64_t hash = hash_bytes(p, size, state->seed);
    AtomEntry *entry = state->atoms + 2 * (hash & state->atom_mask);
    if (entry->hash == hash && entry->value != NULL && entry->size == size && same_bytes(entry->key, p, size)) {
        return Py_NewRef(entry->value);
    }
    entry++;
    if (entry->hash == hash && entry->value != NULL && entry->size == size && same_bytes(entry->key, p, size)) {
        return Py_NewRef(entry->value);
    }
    return atom_miss(state, p, size, hash);
}

/* -- shapes.c ----------------------------------------------------------------------------------------------------- */

struct Shape {
    int refs;
    int score;
    int n;
    bool text;
    PyObject *template; /* a dict of these keys, each with the value None */
    PyObject **keys;    /* borrowed from the template */
    uint32_t *ends;     /* where each key ends in `wire` */
    uint8_t *wire;      /* the keys as they are read, one behind another */
};

int shapes_init(State *state);
void shapes_clear(State *state);
void shape_release(Shape *shape);
void shape_missed(State *state, Shape *shape);

/* The set of a map of `n` keys whose first key stands at `p`; NULL if the cache stands aside. */
ShapeSet *shape_set(State *state, const uint8_t *p, const uint8_t *end, uint32_t n, bool text);

/* Remembers the keys (at pairs[0], pairs[2], ...) of a map that was read key by key, once they are seen twice. */
void shape_learn(State *state, ShapeSet *set, PyObject **pairs, uint32_t n, uint8_t first_tag, bool text);

/* The dict of a shape's keys and these values, whose references it takes; not tracked. */
PyObject *shape_dict(State *state, Shape *shape, PyObject **values);

/* Whether the next key of the shape stands at `p`. */
static inline size_t shape_key(const Shape *shape, Py_ssize_t index, const uint8_t *p, const uint8_t *end)
{
    size_t from = index ? shape->ends[index - 1] : 0;
    size_t size = shape->ends[index] - from;
    return (size_t)(end - p) >= size && same_bytes(shape->wire + from, p, size) ? size : 0;
}

/* -- terms_read.c, terms_write.c ----------------------------------------------------------------------------------- */

/* The value of a tag that holds no terms and is rare, and in `*stop` where it ends. NULL without an exception: no term. */
PyObject *read_rare(State *state, const uint8_t *p, const uint8_t *end, const uint8_t **stop);

/* An integer of `size` bytes, lowest first. */
PyObject *read_big(const uint8_t *p, size_t size, bool negative);

/* Bytes of a value that holds no terms and is rare, at most RARE_BYTES; 0 if its type is none of these or a field is odd. */
enum { RARE_BYTES = 2100 };
Py_ssize_t write_rare(State *state, PyObject *value, uint8_t *out);

/* -- decode.c, encode.c -------------------------------------------------------------------------------------------- */

/* NULL without an exception: the bytes are no term. */
PyObject *decode(State *state, const uint8_t *data, Py_ssize_t size, Py_ssize_t max_depth, bool text);

/* `parts`: a list that takes the parts, or NULL; with it, the result is None. */
PyObject *encode(State *state, PyObject *term, bool deterministic, PyObject *default_, PyObject *parts);

/* -- functions.c ----------------------------------------------------------------------------------------------------- */

/* The methods of these names. */
PyObject *binary_to_term(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names);
PyObject *term_to_binary(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names);
PyObject *term_to_iovec(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names);

/* -- skip.c ---------------------------------------------------------------------------------------------------------- */

/* Adds the type `Scan` to the module. */
int scan_init(PyObject *module);

/* -- framed.c -------------------------------------------------------------------------------------------------------- */

/* The method of this name. */
PyObject *count_maps(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

/* -- records.c ------------------------------------------------------------------------------------------------------- */

/* Adds the type `Records` to the module. */
int records_init(PyObject *module);

/* The method of this name. */
PyObject *seal_records(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

/* -- search.c -------------------------------------------------------------------------------------------------------- */

/* The method of this name. */
PyObject *holds_any(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

#endif
