/* Writing what `terms_read.c` reads. Fields are read from the slots with every check, since Python can put anything there;
 * a value with an odd field is left to the pure twin.
 */

#include "codec.h"

/* The wire form of an Atom in a field; NULL, without an exception, if the field holds anything else. */
static uint8_t *put_atom(State *state, PyObject *atom, uint8_t *out)
{
    if (atom == NULL || (PyObject *)Py_TYPE(atom) != state->atom_type) {
        return NULL;
    }
    PyObject *wire = SLOT(atom, state->at.atom_wire);
    if (wire == NULL || !PyBytes_CheckExact(wire) || PyBytes_GET_SIZE(wire) > 1023) {
        return NULL;
    }
    memcpy(out, PyBytes_AS_STRING(wire), (size_t)PyBytes_GET_SIZE(wire));
    return out + PyBytes_GET_SIZE(wire);
}

/* A field that holds an int of at most `most`. */
static bool field(PyObject *number, uint64_t most, uint64_t *value)
{
    if (number == NULL || !PyLong_CheckExact(number)) {
        return false;
    }
    *value = PyLong_AsUnsignedLongLong(number);
    if (*value == UINT64_MAX && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return *value <= most;
}

Py_ssize_t write_rare(State *state, PyObject *value, uint8_t *out)
{
    PyObject *type = (PyObject *)Py_TYPE(value);
    uint8_t *p = out;
    uint64_t one, two, three;
    if (type == state->pid_type) {
        *p++ = NEW_PID_EXT;
        p = put_atom(state, SLOT(value, state->at.pid_node), p);
        if (p == NULL || !field(SLOT(value, state->at.pid_id), UINT32_MAX, &one)
            || !field(SLOT(value, state->at.pid_serial), UINT32_MAX, &two)
            || !field(SLOT(value, state->at.pid_creation), UINT32_MAX, &three)) {
            return 0;
        }
        store_u32(p, (uint32_t)one);
        store_u32(p + 4, (uint32_t)two);
        store_u32(p + 8, (uint32_t)three);
        return p + 12 - out;
    }
    if (type == state->reference_type) {
        PyObject *ids = SLOT(value, state->at.reference_ids);
        if (ids == NULL || !PyTuple_CheckExact(ids) || PyTuple_GET_SIZE(ids) > 5
            || !field(SLOT(value, state->at.reference_creation), UINT32_MAX, &one)) {
            return 0;
        }
        Py_ssize_t n = PyTuple_GET_SIZE(ids);
        *p++ = NEWER_REFERENCE_EXT;
        store_u16(p, (uint16_t)n);
        p = put_atom(state, SLOT(value, state->at.reference_node), p + 2);
        if (p == NULL) {
            return 0;
        }
        store_u32(p, (uint32_t)one);
        p += 4;
        for (Py_ssize_t index = 0; index < n; index++, p += 4) {
            if (!field(PyTuple_GET_ITEM(ids, index), UINT32_MAX, &two)) {
                return 0;
            }
            store_u32(p, (uint32_t)two);
        }
        return p - out;
    }
    if (type == state->port_type) {
        if (!field(SLOT(value, state->at.port_id), UINT64_MAX, &one)
            || !field(SLOT(value, state->at.port_creation), UINT32_MAX, &two)) {
            return 0;
        }
        bool wide = one >= UINT64_C(1) << 28; /* where the BEAM changes from NEW_PORT_EXT to V4_PORT_EXT */
        *p++ = wide ? V4_PORT_EXT : NEW_PORT_EXT;
        p = put_atom(state, SLOT(value, state->at.port_node), p);
        if (p == NULL) {
            return 0;
        }
        if (wide) {
            store_u64(p, one);
            p += 8;
        }
        else {
            store_u32(p, (uint32_t)one);
            p += 4;
        }
        store_u32(p, (uint32_t)two);
        return p + 4 - out;
    }
    if (type == state->export_type) {
        *p++ = EXPORT_EXT;
        p = put_atom(state, SLOT(value, state->at.export_module), p);
        p = p == NULL ? NULL : put_atom(state, SLOT(value, state->at.export_function), p);
        if (p == NULL || !field(SLOT(value, state->at.export_arity), 255, &one)) {
            return 0;
        }
        *p++ = SMALL_INTEGER_EXT;
        *p++ = (uint8_t)one;
        return p - out;
    }
    return 0;
}
