/* A look into a dict, where this build knows its layout: the entries as an array. Elsewhere there is none to be had, and
 * PyDict_Next serves. Valid until anything may change the dict. */

#ifndef ERLBRIDGE_DICTS_H
#define ERLBRIDGE_DICTS_H

#include "codec.h"

#if defined(__has_include)
#if __has_include("internal/pycore_dict.h") && PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000                \
    && !defined(Py_GIL_DISABLED)
#define KNOWS_DICT 1
#endif
#endif

#ifdef KNOWS_DICT

/* The interpreter's own headers, included from outside: 3.12 has a macro that stands in the way of a function there, and
 * what they do with their own deprecated fields is not ours to mend. */
#undef _PyGC_FINALIZED
#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#endif
#define Py_BUILD_CORE 1
#include "internal/pycore_dict.h"
#undef Py_BUILD_CORE
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif

typedef struct {
    PyDictKeyEntry *entries;
    PyDictUnicodeEntry *text_entries;
    Py_ssize_t count;
    bool text; /* every key is a str */
} DictView;

static inline bool dict_view(PyObject *dict, DictView *view)
{
    PyDictObject *object = (PyDictObject *)dict;
    if (object->ma_values != NULL) {
        return false; /* an instance's, whose values stand elsewhere */
    }
    PyDictKeysObject *keys = object->ma_keys;
    view->count = keys->dk_nentries;
    view->text = DK_IS_UNICODE(keys);
    if (view->text) {
        view->text_entries = DK_UNICODE_ENTRIES(keys);
        view->entries = NULL;
    }
    else {
        view->entries = DK_ENTRIES(keys);
        view->text_entries = NULL;
    }
    return true;
}

/* As PyDict_Next. */
static inline bool dict_view_next(const DictView *view, Py_ssize_t *at, PyObject **key, PyObject **value)
{
    while (*at < view->count) {
        Py_ssize_t index = (*at)++;
        *value = view->text ? view->text_entries[index].me_value : view->entries[index].me_value;
        if (*value != NULL) {
            *key = view->text ? view->text_entries[index].me_key : view->entries[index].me_key;
            return true;
        }
    }
    return false;
}

#else

typedef struct {
    PyObject *me_key, *me_value;
} DictEntry;

typedef struct {
    DictEntry *entries;
    Py_ssize_t count;
    bool text;
} DictView;

static inline bool dict_view(PyObject *dict, DictView *view)
{
    (void)dict, (void)view;
    return false;
}

static inline bool dict_view_next(const DictView *view, Py_ssize_t *at, PyObject **key, PyObject **value)
{
    (void)view, (void)at, (void)key, (void)value;
    return false;
}

#endif

/* Whether no two keys of the dict can be one key in Erlang: all are of one type whose values Erlang tells apart too. */
static inline bool keys_differ(State *state, PyObject *dict)
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

#endif
