/* The module: its names, its state, and where the neutral types keep their fields. */

#include "codec.h"

#include <structmember.h>

/* -- for tests and benchmarks ------------------------------------------------------------------------------------------------ */

static PyObject *shape_cache(PyObject *module, PyObject *enabled)
{
    State *state = PyModule_GetState(module);
    Shapes *shapes = &state->shapes;
    if (enabled != Py_None) {
        int on = PyObject_IsTrue(enabled);
        if (on < 0) {
            return NULL;
        }
        shapes->enabled = on && shapes->works;
        shapes->asleep = 0;
        shapes->fruitless = 0;
    }
    return Py_BuildValue("Onnn", shapes->enabled ? Py_True : Py_False, shapes->hits, shapes->misses, shapes->held);
}

static PyObject *disagreements(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    State *state = PyModule_GetState(module);
    return PyLong_FromSsize_t(state->disagreements);
}

/* -- the module ------------------------------------------------------------------------------------------------------------------ */

static int import_all(const char *module, ...)
{
    PyObject *from = PyImport_ImportModule(module);
    if (from == NULL) {
        return -1;
    }
    va_list names;
    va_start(names, module);
    const char *name;
    int failed = 0;
    while (!failed && (name = va_arg(names, const char *)) != NULL) {
        PyObject **place = va_arg(names, PyObject **);
        *place = PyObject_GetAttrString(from, name);
        failed = *place == NULL;
    }
    va_end(names);
    Py_DECREF(from);
    return failed ? -1 : 0;
}

/* Where the slot of this name stands in instances of the type. */
static int slot_of(PyObject *type, const char *name, Py_ssize_t *offset)
{
    PyObject *member = PyObject_GetAttrString(type, name);
    if (member == NULL) {
        return -1;
    }
    if (Py_TYPE(member) != &PyMemberDescr_Type || ((PyMemberDescrObject *)member)->d_member->type != T_OBJECT_EX) {
        PyErr_Format(PyExc_ImportError, "erlbridge.codec._compiled: %R has no slot %s", type, name);
        Py_DECREF(member);
        return -1;
    }
    *offset = ((PyMemberDescrObject *)member)->d_member->offset;
    Py_DECREF(member);
    return 0;
}

static int limit_of(PyObject *limits, const char *name, Py_ssize_t *value)
{
    PyObject *number = PyObject_GetAttrString(limits, name);
    if (number == NULL) {
        return -1;
    }
    *value = PyLong_AsSsize_t(number);
    Py_DECREF(number);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int find_slots(State *state)
{
    const struct {
        PyObject *type;
        const char *name;
        Py_ssize_t *offset;
    } slots[] = {
        {state->atom_type, "name", &state->at.atom_name},
        {state->atom_type, "wire", &state->at.atom_wire},
        {state->bitstring_type, "data", &state->at.bits_data},
        {state->bitstring_type, "bits", &state->at.bits_bits},
        {state->improper_type, "elements", &state->at.improper_elements},
        {state->improper_type, "tail", &state->at.improper_tail},
        {state->pid_type, "node", &state->at.pid_node},
        {state->pid_type, "id", &state->at.pid_id},
        {state->pid_type, "serial", &state->at.pid_serial},
        {state->pid_type, "creation", &state->at.pid_creation},
        {state->port_type, "node", &state->at.port_node},
        {state->port_type, "id", &state->at.port_id},
        {state->port_type, "creation", &state->at.port_creation},
        {state->reference_type, "node", &state->at.reference_node},
        {state->reference_type, "creation", &state->at.reference_creation},
        {state->reference_type, "ids", &state->at.reference_ids},
        {state->export_type, "module", &state->at.export_module},
        {state->export_type, "function", &state->at.export_function},
        {state->export_type, "arity", &state->at.export_arity},
        {state->fun_type, "arity", &state->at.fun_arity},
        {state->fun_type, "uniq", &state->at.fun_uniq},
        {state->fun_type, "index", &state->at.fun_index},
        {state->fun_type, "module", &state->at.fun_module},
        {state->fun_type, "old_index", &state->at.fun_old_index},
        {state->fun_type, "old_uniq", &state->at.fun_old_uniq},
        {state->fun_type, "pid", &state->at.fun_pid},
        {state->fun_type, "free", &state->at.fun_free},
        {state->local_type, "data", &state->at.local_data},
    };
    for (size_t index = 0; index < sizeof(slots) / sizeof(*slots); index++) {
        if (slot_of(slots[index].type, slots[index].name, slots[index].offset) < 0) {
            return -1;
        }
    }
    return 0;
}

static int module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    if (import_all("erlbridge.codec.atoms", "Atom", &state->atom_type, NULL) < 0
        || import_all("erlbridge.codec.terms", "BitString", &state->bitstring_type, "ImproperList",
                      &state->improper_type, "Pid", &state->pid_type, "Port", &state->port_type, "Reference",
                      &state->reference_type, "Export", &state->export_type, "Fun", &state->fun_type, "Local",
                      &state->local_type, "plain", &state->pure_plain, NULL) < 0
        || import_all("erlbridge.codec.order", "TermMap", &state->termmap_type, NULL) < 0
        || import_all("erlbridge.errors", "DecodeError", &state->decode_error, "EncodeError",
                      &state->encode_error, NULL) < 0
        || import_all("erlbridge.codec._pure_readers", "read_rare", &state->pure_read, NULL) < 0
        || import_all("erlbridge.codec._pure_decode", "decode_plain", &state->pure_decode, "inflate",
                      &state->pure_inflate, "make_map", &state->pure_map, "make_fun", &state->pure_fun, NULL) < 0
        || import_all("erlbridge.codec._pure_encode", "read_level", &state->pure_level, "squeeze",
                      &state->pure_squeeze, "sorted_values", &state->sorted_values, "term_map_values",
                      &state->term_map_values, "is_float_run", &state->run, NULL) < 0
        || import_all("erlbridge.codec._pure_writers", "write_rare", &state->pure_write, NULL) < 0
        || import_all("erlbridge.codec._pure_scan", "refuse", &state->pure_refuse, NULL) < 0
        || import_all("erlbridge.codec._pure_refusal", "refusal", &state->refusal, "located", &state->located, NULL) < 0
        || find_slots(state) < 0) {
        return -1;
    }
    PyObject *limits = PyImport_ImportModule("erlbridge.limits");
    Py_ssize_t atoms = 0;
    int failed = limits == NULL || limit_of(limits, "MAX_DEPTH", &state->max_depth) < 0
                 || limit_of(limits, "MAX_TERM_BYTES", &state->max_bytes) < 0
                 || limit_of(limits, "MAX_ATOM_CHARACTERS", &state->max_atom_characters) < 0
                 || limit_of(limits, "MAX_INTEGER_BYTES", &state->max_integer_bytes) < 0
                 || limit_of(limits, "MAX_ATOM_CACHE", &atoms) < 0;
    Py_XDECREF(limits);
    if (failed) {
        return -1;
    }
    for (int index = 0; index < 256; index++) {
        state->small[index] = PyLong_FromLong(index);
        if (state->small[index] == NULL) {
            return -1;
        }
    }
    const struct {
        PyObject **key;
        const char *name;
    } keys[] = {
        {&state->key_data, "data"},         {&state->key_max_depth, "max_depth"},
        {&state->key_max_bytes, "max_bytes"}, {&state->key_text, "text"},
        {&state->key_term, "term"},         {&state->key_compressed, "compressed"},
        {&state->key_default, "default"},   {&state->key_deterministic, "deterministic"},
        {&state->frombytes, "frombytes"},
    };
    for (size_t index = 0; index < sizeof(keys) / sizeof(*keys); index++) {
        *keys[index].key = PyUnicode_InternFromString(keys[index].name);
        if (*keys[index].key == NULL) {
            return -1;
        }
    }
    if (atoms_init(state, atoms) < 0 || shapes_init(state) < 0 || scan_init(module) < 0
        || records_init(module) < 0) {
        return -1;
    }
    return PyModule_AddStringConstant(module, "IMPLEMENTATION", "compiled");
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    if (state == NULL) {
        return 0;
    }
#define X(name) Py_VISIT(state->name);
    CODEC_OBJECTS(X)
#undef X
    return 0;
}

static int module_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    if (state == NULL) {
        return 0;
    }
#define X(name) Py_CLEAR(state->name);
    CODEC_OBJECTS(X)
#undef X
    for (int index = 0; index < 256; index++) {
        Py_CLEAR(state->small[index]);
    }
    atoms_clear(state);
    shapes_clear(state);
    return 0;
}

static void module_free(void *module) { module_clear(module); }

PyDoc_STRVAR(binary_to_term_doc,
             "binary_to_term($module, /, data, *, max_depth=10000, max_bytes=268435456, text=False)\n"
             "--\n\n"
             "The term that the bytes hold; as `erlbridge.codec._pure.binary_to_term`, which documents it.");

PyDoc_STRVAR(term_to_binary_doc,
             "term_to_binary($module, /, term, *, compressed=False, deterministic=False, default=None)\n"
             "--\n\n"
             "The term in External Term Format; as `erlbridge.codec._pure.term_to_binary`, which documents it.");

PyDoc_STRVAR(term_to_iovec_doc,
             "term_to_iovec($module, /, term, *, deterministic=False, default=None)\n"
             "--\n\n"
             "The term's bytes in parts, for os.writev; as `erlbridge.codec._pure.term_to_iovec`, which documents it.");

PyDoc_STRVAR(count_maps_doc,
             "count_maps($module, data, at, most_bytes, /)\n"
             "--\n\n"
             "Steps over framed maps; as `erlbridge.codec._pure.count_maps`, which documents it.");

PyDoc_STRVAR(holds_any_doc,
             "holds_any($module, data, words, but, /)\n"
             "--\n\n"
             "Whether a word stands in the data; as `erlbridge.codec._pure.holds_any`, which documents it.");

PyDoc_STRVAR(seal_records_doc,
             "seal_records($module, content, offset_ns, keep_bytes, /)\n"
             "--\n\n"
             "Puts in what records lack; as `erlbridge.wire.records.pure_seal_records`, which documents it.");

PyDoc_STRVAR(shape_cache_doc,
             "_shape_cache($module, enabled=None, /)\n"
             "--\n\n"
             "Whether the cache of map shapes is on, its hits, its misses, and how many shapes it holds; for tests.");

PyDoc_STRVAR(disagreements_doc,
             "_disagreements($module, /)\n"
             "--\n\n"
             "Inputs that this twin refused and the pure one took. Always 0; for tests.");

static PyObject *shape_cache_call(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1) {
        PyErr_SetString(PyExc_TypeError, "_shape_cache() takes at most 1 argument");
        return NULL;
    }
    return shape_cache(module, nargs ? args[0] : Py_None);
}

static PyMethodDef methods[] = {
    {"binary_to_term", (PyCFunction)(void (*)(void))binary_to_term, METH_FASTCALL | METH_KEYWORDS, binary_to_term_doc},
    {"term_to_binary", (PyCFunction)(void (*)(void))term_to_binary, METH_FASTCALL | METH_KEYWORDS, term_to_binary_doc},
    {"term_to_iovec", (PyCFunction)(void (*)(void))term_to_iovec, METH_FASTCALL | METH_KEYWORDS, term_to_iovec_doc},
    {"count_maps", (PyCFunction)(void (*)(void))count_maps, METH_FASTCALL, count_maps_doc},
    {"holds_any", (PyCFunction)(void (*)(void))holds_any, METH_FASTCALL, holds_any_doc},
    {"seal_records", (PyCFunction)(void (*)(void))seal_records, METH_FASTCALL, seal_records_doc},
    {"_shape_cache", (PyCFunction)(void (*)(void))shape_cache_call, METH_FASTCALL, shape_cache_doc},
    {"_disagreements", disagreements, METH_NOARGS, disagreements_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    /* All state is the module's own; each interpreter imports its own types and has its own caches. */
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    /* The caches are written without locks. */
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "erlbridge.codec._compiled",
    .m_doc = "The compiled twin of the codec, under the names that both twins share.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__compiled(void) { return PyModuleDef_Init(&definition); }
