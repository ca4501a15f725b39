/* Frames put behind each other as the records of a capture, whose format `erlbridge/wire/capture.py` describes.

   `Records.add` runs in the loop of a node for every frame of every wire, so it does nothing but copy: checksums and the
   time of the wall come in later, by `seal_records`, while other threads run. */
#include "codec.h"

enum {
    HEADER_BYTES = 52,
    KIND_AT = 4,
    FLAGS_AT = 5,
    WIRE_AT = 8,
    NUMBER_AT = 12,
    MONOTONIC_AT = 20,
    WALL_AT = 28,
    SIZE_AT = 36,
    KEPT_AT = 40,
    CONTENT_SUM_AT = 44,
    HEADER_SUM_AT = 48,
    FRAME_KIND = 1,
    OUT_FLAG = 1,
    FIRST_ROOM = 1 << 16,
    MOST_SPARE_ROOM = 1 << 20,
    OTHERS_BYTES = 1 << 18, /* so much is worth letting other threads run meanwhile */
};

static const uint8_t MARKER[4] = {0xF5, 'r', 'e', 'c'};

typedef struct {
    PyObject_HEAD
    PyObject *wake, *now_ns;
    uint8_t *data;
    size_t used, room, most;
    size_t take_bytes;
    uint64_t number, frames, lost, lost_bytes;
    bool packed;
} Records;

/* -- bytes of numbers ----------------------------------------------------------------------------------------------- */

static void put(uint8_t *at, uint64_t value, int bytes)
{
    for (int index = 0; index < bytes; index++) {
        at[index] = (uint8_t)(value >> 8 * (bytes - 1 - index));
    }
}

static uint64_t get(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int index = 0; index < bytes; index++) {
        value = value << 8 | at[index];
    }
    return value;
}

/* -- CRC-32, as zlib's, which whoever builds this would need the headers of; eight bytes a step ------------------- */

static uint32_t crc_table[8][256]; /* whichever interpreter writes it, writes the same */

static void crc_init(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t sum = byte;
        for (int bit = 0; bit < 8; bit++) {
            sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
        }
        crc_table[0][byte] = sum;
    }
    for (int slice = 1; slice < 8; slice++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t before = crc_table[slice - 1][byte];
            crc_table[slice][byte] = before >> 8 ^ crc_table[0][before & 0xFF];
        }
    }
}

static uint32_t crc32(const uint8_t *data, size_t size)
{
    uint32_t sum = 0xFFFFFFFFu;
    for (; size >= 8; data += 8, size -= 8) {
        sum ^= (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        sum = crc_table[7][sum & 0xFF] ^ crc_table[6][sum >> 8 & 0xFF] ^ crc_table[5][sum >> 16 & 0xFF]
              ^ crc_table[4][sum >> 24] ^ crc_table[3][data[4]] ^ crc_table[2][data[5]] ^ crc_table[1][data[6]]
              ^ crc_table[0][data[7]];
    }
    for (; size; data++, size--) {
        sum = sum >> 8 ^ crc_table[0][(sum ^ *data) & 0xFF];
    }
    return ~sum;
}

/* -- Records --------------------------------------------------------------------------------------------------------- */

static PyObject *records_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t take_bytes, most;
    PyObject *wake, *now_ns;
    static char *names[] = {"take_bytes", "most_bytes", "wake", "now_ns", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nnOO", names, &take_bytes, &most, &wake, &now_ns)) {
        return NULL;
    }
    if (take_bytes < 0 || take_bytes > INT32_MAX || most < 0) {
        PyErr_SetString(PyExc_ValueError, "expected 0 <= take_bytes < 2 GiB and 0 <= most_bytes");
        return NULL;
    }
    Records *records = (Records *)type->tp_alloc(type, 0);
    if (records == NULL) {
        return NULL;
    }
    records->wake = Py_NewRef(wake);
    records->now_ns = Py_NewRef(now_ns);
    records->take_bytes = (size_t)take_bytes;
    records->most = (size_t)most;
    return (PyObject *)records;
}

static int records_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((Records *)object)->wake);
    Py_VISIT(((Records *)object)->now_ns);
    return 0;
}

static int records_clear(PyObject *object)
{
    Py_CLEAR(((Records *)object)->wake);
    Py_CLEAR(((Records *)object)->now_ns);
    return 0;
}

static void records_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    records_clear(object);
    PyMem_Free(((Records *)object)->data);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Whether there is room for so many more bytes; what there is no memory for is lost too. */
static bool make_room(Records *records, size_t more)
{
    size_t needed = records->used + more;
    if (needed > records->most && records->used) {
        return false;
    }
    if (needed <= records->room) {
        return true;
    }
    size_t room = records->room ? records->room : FIRST_ROOM;
    while (room < needed) {
        room *= 2;
    }
    uint8_t *data = PyMem_Realloc(records->data, room);
    if (data == NULL) {
        return false;
    }
    records->data = data;
    records->room = room;
    return true;
}

/* The time of the clock, or the one that is given. */
static int read_time(PyObject *clock, PyObject *given, int64_t *at_ns)
{
    PyObject *time = given == NULL || given == Py_None ? PyObject_CallNoArgs(clock) : Py_NewRef(given);
    if (time == NULL) {
        return -1;
    }
    *at_ns = PyLong_AsLongLong(time);
    Py_DECREF(time);
    return *at_ns == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Whether somebody has to be woken for it: it is the first that waits. */
static bool add(Records *records, uint32_t wire, bool out, const uint8_t *frame, size_t size, int64_t at_ns)
{
    size_t kept = size < records->take_bytes ? size : records->take_bytes;
    records->number++;
    bool first = records->used == 0 && !records->lost;
    if (records->lost || !make_room(records, HEADER_BYTES + kept)) { /* in order: the lost ones follow those that wait */
        records->lost++;
        records->lost_bytes += size;
        return first;
    }
    uint8_t *head = records->data + records->used;
    memset(head, 0, HEADER_BYTES);
    memcpy(head, MARKER, sizeof(MARKER));
    head[KIND_AT] = FRAME_KIND;
    head[FLAGS_AT] = out ? OUT_FLAG : 0;
    put(head + WIRE_AT, wire, 4);
    put(head + NUMBER_AT, records->number, 8);
    put(head + MONOTONIC_AT, (uint64_t)at_ns, 8);
    put(head + SIZE_AT, size, 4);
    put(head + KEPT_AT, kept, 4);
    memcpy(head + HEADER_BYTES, frame, kept);
    records->used += HEADER_BYTES + kept;
    records->frames++;
    records->packed = records->packed || (size > 1 && frame[1] == COMPRESSED);
    return first;
}

static PyObject *records_add(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    Records *records = (Records *)object;
    if (nargs < 3 || nargs > 4) {
        PyErr_Format(PyExc_TypeError, "add() takes 3 or 4 arguments (%zd given)", nargs);
        return NULL;
    }
    unsigned long wire = PyLong_AsUnsignedLong(args[0]);
    int64_t at_ns;
    if ((wire == (unsigned long)-1 && PyErr_Occurred())
        || read_time(records->now_ns, nargs == 4 ? args[3] : NULL, &at_ns) < 0) {
        return NULL;
    }
    int out = PyUnicode_Check(args[1]) ? PyUnicode_CompareWithASCIIString(args[1], "out") == 0 : -1;
    if (out < 0 || wire > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "expected the number of a wire and `in` or `out`");
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[2], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    bool first = add(records, (uint32_t)wire, out != 0, view.buf, (size_t)view.len, at_ns);
    PyBuffer_Release(&view);
    if (first) {
        PyObject *woken = PyObject_CallNoArgs(records->wake);
        if (woken == NULL) {
            return NULL;
        }
        Py_DECREF(woken);
    }
    Py_RETURN_NONE;
}

static PyObject *records_take(PyObject *object, PyObject *content)
{
    Records *records = (Records *)object;
    if (!PyByteArray_CheckExact(content)) {
        PyErr_SetString(PyExc_TypeError, "take() fills a bytearray");
        return NULL;
    }
    if (PyByteArray_Resize(content, (Py_ssize_t)records->used) < 0) {
        return NULL;
    }
    if (records->used) {
        memcpy(PyByteArray_AS_STRING(content), records->data, records->used);
    }
    const uint64_t number = records->number, frames = records->frames;
    const uint64_t lost = records->lost, lost_bytes = records->lost_bytes;
    const bool packed = records->packed;
    /* Emptied first: a new object may bring the collector, and the collector other threads, which add. */
    records->used = 0;
    records->frames = records->lost = records->lost_bytes = 0;
    records->packed = false;
    if (records->room > MOST_SPARE_ROOM) {
        PyMem_Free(records->data);
        records->data = NULL;
        records->room = 0;
    }
    return Py_BuildValue("KOKKK", (unsigned long long)frames, packed ? Py_True : Py_False,
                         (unsigned long long)number, (unsigned long long)lost, (unsigned long long)lost_bytes);
}

PyDoc_STRVAR(records_doc,
             "Records(take_bytes, most_bytes, wake, now_ns)\n"
             "--\n\n"
             "Frames as records that wait; as `erlbridge.wire.records.PureRecords`, which documents it.");

PyDoc_STRVAR(add_doc, "add($self, wire, direction, frame, at_ns=None, /)\n--\n\nA frame of now, or of that time.");

PyDoc_STRVAR(take_doc, "take($self, content, /)\n--\n\nFills a bytearray with what waits; nothing waits any more then.");

static PyMethodDef methods[] = {
    {"add", (PyCFunction)(void (*)(void))records_add, METH_FASTCALL, add_doc},
    {"take", records_take, METH_O, take_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)records_doc},         {Py_tp_new, (void *)records_new},
    {Py_tp_dealloc, (void *)records_dealloc}, {Py_tp_traverse, (void *)records_traverse},
    {Py_tp_clear, (void *)records_clear},     {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "erlbridge.codec._compiled.Records",
    .basicsize = sizeof(Records),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int records_init(PyObject *module)
{
    crc_init();
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int failed = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

/* -- sealing --------------------------------------------------------------------------------------------------------- */

/* How many bytes are left of the records when each is cut to `keep`; -1 if they are not whole. */
static Py_ssize_t seal(uint8_t *content, size_t size, int64_t offset_ns, size_t keep)
{
    size_t at = 0, to = 0;
    while (size - at >= HEADER_BYTES) {
        uint8_t *head = content + to;
        size_t waiting = (size_t)get(content + at + KEPT_AT, 4), kept = waiting < keep ? waiting : keep;
        if (memcmp(content + at, MARKER, sizeof(MARKER)) != 0 || waiting > size - at - HEADER_BYTES) {
            return -1;
        }
        if (at != to) {
            memmove(head, content + at, HEADER_BYTES + kept);
        }
        put(head + WALL_AT, get(head + MONOTONIC_AT, 8) + (uint64_t)offset_ns, 8);
        put(head + KEPT_AT, kept, 4);
        put(head + CONTENT_SUM_AT, crc32(head + HEADER_BYTES, kept), 4);
        put(head + HEADER_SUM_AT, crc32(head, HEADER_SUM_AT), 4);
        at += HEADER_BYTES + waiting;
        to += HEADER_BYTES + kept;
    }
    return at == size ? (Py_ssize_t)to : -1;
}

PyObject *seal_records(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "seal_records() takes exactly 3 arguments (%zd given)", nargs);
        return NULL;
    }
    int64_t offset_ns = PyLong_AsLongLong(args[1]);
    Py_ssize_t keep = PyLong_AsSsize_t(args[2]), left;
    if ((offset_ns == -1 || keep == -1) && PyErr_Occurred()) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    if (view.len < OTHERS_BYTES) {
        left = seal(view.buf, (size_t)view.len, offset_ns, (size_t)(keep < 0 ? 0 : keep));
    } else {
        Py_BEGIN_ALLOW_THREADS
        left = seal(view.buf, (size_t)view.len, offset_ns, (size_t)(keep < 0 ? 0 : keep));
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    if (left < 0) {
        PyErr_SetString(PyExc_ValueError, "expected whole records");
        return NULL;
    }
    return PyLong_FromSsize_t(left);
}
