/* Atoms: from their bytes to the one object of their name, by a cache of fixed size.
 *
 * The cache has pairs of entries; a name can stand in one pair alone, and the older of the two gives way. So a lookup is
 * two comparisons at most whatever a peer sends, and ever new atoms cost time but never memory. The seed keeps a peer from
 * choosing which atoms push each other out.
 */

#include "codec.h"

int atoms_init(State *state, Py_ssize_t most)
{
    size_t pairs = 1;
    while ((Py_ssize_t)(pairs * 4) <= most) {
        pairs *= 2;
    }
    /* Two of the interpreter's own hashes, which are seeded from the system's randomness unless PYTHONHASHSEED says else. */
    PyObject *text = PyUnicode_FromString("erlbridge.codec atoms");
    if (text == NULL) {
        return -1;
    }
    PyObject *bytes = PyBytes_FromString("another word for the seed");
    if (bytes == NULL) {
        Py_DECREF(text);
        return -1;
    }
    state->seed = mix((uint64_t)PyObject_Hash(text) | 1, (uint64_t)PyObject_Hash(bytes) | 1);
    Py_DECREF(text);
    Py_DECREF(bytes);
    state->atom_mask = pairs - 1;
    state->atoms = PyMem_Calloc(pairs * 2, sizeof(AtomEntry));
    if (state->atoms == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void atoms_clear(State *state)
{
    if (state->atoms != NULL) {
        for (size_t index = 0; index < (state->atom_mask + 1) * 2; index++) {
            Py_CLEAR(state->atoms[index].value);
        }
        PyMem_Free(state->atoms);
        state->atoms = NULL;
    }
}

/* The name in an atom's bytes; NULL without an exception if it is no text or too long. */
static PyObject *atom_name(State *state, const uint8_t *p, size_t size)
{
    bool utf8 = p[0] == SMALL_ATOM_UTF8_EXT || p[0] == ATOM_UTF8_EXT;
    size_t head = p[0] == SMALL_ATOM_UTF8_EXT || p[0] == SMALL_ATOM_EXT ? 2 : 3;
    const char *text = (const char *)p + head;
    Py_ssize_t n = (Py_ssize_t)(size - head);
    PyObject *name = utf8 ? PyUnicode_DecodeUTF8(text, n, NULL) : PyUnicode_DecodeLatin1(text, n, NULL);
    if (name == NULL) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
        }
        return NULL;
    }
    if (PyUnicode_GET_LENGTH(name) > state->max_atom_characters) {
        Py_DECREF(name);
        return NULL;
    }
    return name;
}

PyObject *atom_itself(State *state, const uint8_t *p, size_t size)
{
    if (size <= ATOM_KEY_BYTES) {
        PyObject *value = atom_value(state, p, size);
        if (value == NULL || Py_TYPE(value) == (PyTypeObject *)state->atom_type) {
            return value;
        }
        Py_DECREF(value); /* True, False or None */
    }
    PyObject *name = atom_name(state, p, size);
    if (name == NULL) {
        return NULL;
    }
    PyObject *atom = PyObject_CallOneArg(state->atom_type, name);
    Py_DECREF(name);
    return atom;
}

PyObject *atom_miss(State *state, const uint8_t *p, size_t size, uint64_t hash)
{
    PyObject *name = atom_name(state, p, size);
    if (name == NULL) {
        return NULL;
    }
    PyObject *value;
    if (PyUnicode_CompareWithASCIIString(name, "nil") == 0) {
        value = Py_NewRef(Py_None);
    }
    else if (PyUnicode_CompareWithASCIIString(name, "true") == 0) {
        value = Py_NewRef(Py_True);
    }
    else if (PyUnicode_CompareWithASCIIString(name, "false") == 0) {
        value = Py_NewRef(Py_False);
    }
    else {
        value = PyObject_CallOneArg(state->atom_type, name);
    }
    Py_DECREF(name);
    if (value == NULL || size > ATOM_KEY_BYTES) {
        return value;
    }
    /* Only now: the call above runs Python code, which may have decoded atoms of its own. */
    AtomEntry *entry = state->atoms + 2 * (hash & state->atom_mask);
    PyObject *dropped = entry[1].value;
    entry[1] = entry[0];
    entry->hash = hash;
    entry->size = (uint8_t)size;
    memcpy(entry->key, p, size);
    entry->value = Py_NewRef(value);
    Py_XDECREF(dropped);
    return value;
}
