/* How many bytes a value takes, told from its first ones: for `skip.c`, which finds ends without building anything. Nothing
 * here reads beyond `size`; an end may lie there.
 */

#ifndef ERLBRIDGE_SIZES_H
#define ERLBRIDGE_SIZES_H

#include "codec.h"

/* By tag, how many bytes a value takes that always takes as many. */
static const uint8_t FIXED[256] = {
    [SMALL_INTEGER_EXT] = 2, [INTEGER_EXT] = 5, [NEW_FLOAT_EXT] = 9, [FLOAT_EXT] = 32, [NIL_EXT] = 1,
};

/* In place of an end: the data end before it can be told, or what stands there has none. */
enum { END_CUT = -1, END_NONE = -2 };

static inline int64_t end_of_atom(const uint8_t *data, int64_t size, int64_t pos)
{
    if (pos >= size) {
        return END_CUT;
    }
    switch (data[pos]) {
    case SMALL_ATOM_UTF8_EXT:
    case SMALL_ATOM_EXT:
        return size - pos < 2 ? END_CUT : pos + 2 + data[pos + 1];
    case ATOM_UTF8_EXT:
    case ATOM_EXT:
        return size - pos < 3 ? END_CUT : pos + 3 + load_u16(data + pos + 1);
    default:
        return END_NONE;
    }
}

static inline int64_t end_of_node(const uint8_t *data, int64_t size, int64_t pos, int64_t after)
{
    int64_t end = end_of_atom(data, size, pos);
    return end < 0 ? end : end + after;
}

static inline int64_t end_of_large_big(const State *state, const uint8_t *data, int64_t size, int64_t pos)
{
    if (size - pos < 5) {
        return END_CUT;
    }
    int64_t bytes = load_u32(data + pos + 1);
    return bytes > state->max_integer_bytes ? END_NONE : pos + 6 + bytes;
}

static inline int64_t end_of_export(const State *state, const uint8_t *data, int64_t size, int64_t pos)
{
    int64_t at = end_of_atom(data, size, pos + 1);
    if (at >= 0) {
        at = end_of_atom(data, size, at);
    }
    if (at < 0) {
        return at;
    }
    if (at >= size) {
        return END_CUT;
    }
    switch (data[at]) {
    case SMALL_INTEGER_EXT:
    case INTEGER_EXT:
        return at + FIXED[data[at]];
    case SMALL_BIG_EXT:
        return size - at < 2 ? END_CUT : at + 3 + data[at + 1];
    case LARGE_BIG_EXT:
        return end_of_large_big(state, data, size, at);
    default:
        return END_NONE;
    }
}

/* The end of the value at `pos`, which is inside of the data, neither of a fixed size nor a container. */
static inline int64_t end_of_value(const State *state, const uint8_t *data, int64_t size, int64_t pos)
{
    const uint8_t *p = data + pos;
    int64_t there = size - pos;
    switch (*p) {
    case BINARY_EXT:
        return there < 5 ? END_CUT : pos + 5 + (int64_t)load_u32(p + 1);
    case BIT_BINARY_EXT:
        return there < 5 ? END_CUT : pos + 6 + (int64_t)load_u32(p + 1);
    case SMALL_ATOM_UTF8_EXT:
    case SMALL_ATOM_EXT:
    case ATOM_UTF8_EXT:
    case ATOM_EXT:
        return end_of_atom(data, size, pos);
    case SMALL_BIG_EXT:
        return there < 2 ? END_CUT : pos + 3 + p[1];
    case LARGE_BIG_EXT:
        return end_of_large_big(state, data, size, pos);
    case STRING_EXT:
        return there < 3 ? END_CUT : pos + 3 + load_u16(p + 1);
    case PID_EXT:
        return end_of_node(data, size, pos + 1, 9);
    case NEW_PID_EXT:
    case V4_PORT_EXT:
        return end_of_node(data, size, pos + 1, 12);
    case PORT_EXT:
    case REFERENCE_EXT:
        return end_of_node(data, size, pos + 1, 5);
    case NEW_PORT_EXT:
        return end_of_node(data, size, pos + 1, 8);
    case NEW_REFERENCE_EXT:
    case NEWER_REFERENCE_EXT: {
        if (there < 3) {
            return END_CUT;
        }
        int64_t words = load_u16(p + 1);
        if (words < 1 || words > 5) {
            return END_NONE;
        }
        return end_of_node(data, size, pos + 3, (*p == NEW_REFERENCE_EXT ? 1 : 4) + 4 * words);
    }
    case EXPORT_EXT:
        return end_of_export(state, data, size, pos);
    default:
        return END_NONE;
    }
}

/* Where the first value of the container at `pos` is, and in `*count` how many it has (a list, without its tail). */
static inline int64_t open_container(const uint8_t *data, int64_t size, int64_t pos, uint64_t *count)
{
    const uint8_t *p = data + pos;
    int64_t there = size - pos;
    if (*p == SMALL_TUPLE_EXT) {
        if (there < 2) {
            return END_CUT;
        }
        *count = p[1];
        return pos + 2;
    }
    if (*p == NEW_FUN_EXT) {
        if (there < 30) {
            return END_CUT;
        }
        *count = 4 + (uint64_t)load_u32(p + 26);
        return *count > 4 + 255 ? END_NONE : pos + 30;
    }
    if (there < 5) {
        return END_CUT;
    }
    *count = (uint64_t)load_u32(p + 1) * (*p == MAP_EXT ? 2 : 1);
    return pos + 5;
}

static inline bool is_container(uint8_t tag)
{
    return tag == MAP_EXT || tag == LIST_EXT || tag == SMALL_TUPLE_EXT || tag == LARGE_TUPLE_EXT || tag == NEW_FUN_EXT;
}

#endif
