/* Rows as hashes in the form that Redis' RESTORE takes (and DUMP answers): a listpack in an RDB string.
 *
 * hashes(texts: list, each: int, fields: list[bytes], raws: list, most: int) -> list[bytes] | None
 *
 * Row by row the first item of `texts` is the value of the field _v, the other each - 1 and as many of `raws` as are
 * left for a row are the values of `fields`, in their order; a None is no field of its hash. Values are what str()
 * shows, in UTF-8 (surrogate escapes become the bytes that they stand for), bytes themselves. None as the answer: a
 * row's listpack is larger than `most` bytes, or has more than MOST_FIELDS fields.
 *
 * RDB type 16, RDB version 10: Redis 7.0 and later. A listpack: its bytes (4), its elements (2), the elements, 0xFF; an
 * element: its header with the text's length, the text, the length of both, to be read from behind. Numbers are
 * written as texts, which every reader of listpacks takes. Behind it all the RDB version (2) and a CRC-64 (8).
 */
#include "native.h"
#include <string.h>

enum { MOST_FIELDS = 64, MOST_BYTES = 4096 };

static int put_low_first(struct text *out, uint64_t value, int bytes)
{
    uint8_t data[8];
    for (int byte = 0; byte < bytes; byte++)
        data[byte] = (uint8_t)(value >> 8 * byte);
    return text_put(out, data, (size_t)bytes);
}

/* An element of a listpack. The text has fewer than MOST_BYTES. */
static int put_element(struct text *out, const char *data, size_t size)
{
    if (text_reserve(out, size + 4) < 0)
        return -1;
    uint8_t *to = out->data + out->size;
    const size_t whole = size + (size < 64 ? 1 : 2);
    if (size < 64) {
        *to++ = (uint8_t)(0x80 | size);
    } else {
        *to++ = (uint8_t)(0xE0 | size >> 8);
        *to++ = (uint8_t)size;
    }
    memcpy(to, data, size);
    to += size;
    if (whole > 127)
        *to++ = (uint8_t)(whole >> 7);
    *to++ = (uint8_t)(whole > 127 ? 0x80 | (whole & 127) : whole);
    out->size = (size_t)(to - out->data);
    return 0;
}

/* The same of a value. 1: it, or the listpack, is too large. */
static int put_value(struct text *out, PyObject *value, size_t most)
{
    struct shown shown;
    int done = show(&shown, value);
    if (!done)
        done = out->size + shown.size > most ? 1 : put_element(out, shown.data, shown.size);
    shown_done(&shown);
    return done;
}

struct row {
    PyObject *texts, *raws;
    Py_ssize_t text, each, raw, more; /* where its items start, and how many there are of each */
};

/* The elements of all fields' names, one behind the other, and where each ends. */
struct names {
    struct text text;
    size_t *ends;
};

static int put_names(struct names *names, PyObject *fields, Py_ssize_t many, size_t most)
{
    names->ends = PyMem_Malloc((size_t)(many + 1) * sizeof *names->ends);
    if (!names->ends) {
        PyErr_NoMemory();
        return -1;
    }
    if (put_element(&names->text, "_v", 2) < 0)
        return -1;
    names->ends[0] = names->text.size;
    for (Py_ssize_t place = 0; place < many; place++) {
        PyObject *field = PyList_GetItem(fields, place);
        int done = field ? put_value(&names->text, field, most) : -1;
        if (done)
            return done;
        names->ends[place + 1] = names->text.size;
    }
    return 0;
}

/* The elements of a row's hash; how many there are in `elements`. 1: too large. */
static int put_elements(struct text *out, const struct names *names, const struct row *row, size_t most, int *elements)
{
    *elements = 0;
    for (Py_ssize_t place = 0; place < row->each + row->more; place++) {
        PyObject *value = place < row->each ? PyList_GetItem(row->texts, row->text + place)
                                            : PyList_GetItem(row->raws, row->raw + place - row->each);
        if (!value)
            return -1;
        if (value == Py_None && place)
            continue;
        size_t start = place ? names->ends[place - 1] : 0, size = names->ends[place] - start;
        if (*elements == 2 * MOST_FIELDS || out->size + size > most)
            return 1;
        Py_INCREF(value);
        int done = text_put(out, names->text.data + start, size);
        if (!done)
            done = put_value(out, value, most);
        Py_DECREF(value);
        if (done)
            return done;
        *elements += 2;
    }
    return 0;
}

static int put_payload(struct text *out, const struct text *elements, int count)
{
    size_t size = 4 + 2 + elements->size + 1;
    uint8_t length[2] = {(uint8_t)(0x40 | size >> 8), (uint8_t)size};
    out->size = 0;
    if (text_put(out, "\x10", 1) < 0 || text_put(out, length, 2) < 0 || put_low_first(out, size, 4) < 0 ||
        put_low_first(out, (uint64_t)count, 2) < 0 || text_put(out, elements->data, elements->size) < 0 ||
        text_put(out, "\xFF\x0A\0", 3) < 0)
        return -1;
    return put_low_first(out, crc64_of(out->data, out->size), 8);
}

PyObject *hashes(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    (void)module;
    if (given != 5 || !PyList_Check(args[0]) || !PyList_Check(args[2]) || !PyList_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "hashes(texts: list, each, fields: list, raws: list, most)");
        return NULL;
    }
    Py_ssize_t each = PyLong_AsSsize_t(args[1]), most = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred())
        return NULL;
    Py_ssize_t many = PyList_Size(args[2]);
    struct row row = {args[0], args[3], 0, each, 0, many - (each - 1)};
    Py_ssize_t rows = each < 1 ? 0 : PyList_Size(args[0]) / each;
    if (each < 1 || row.more < 0 || most < 0 || most > MOST_BYTES || PyList_Size(args[0]) != rows * each ||
        PyList_Size(args[3]) != rows * row.more) {
        PyErr_SetString(PyExc_ValueError, "hashes() wants as many values for each row as there are fields");
        return NULL;
    }
    struct text elements = {0}, payload = {0};
    struct names names = {0};
    PyObject *answer = PyList_New(0);
    int done = answer ? put_names(&names, args[2], many, (size_t)most) : -1;
    for (Py_ssize_t place = 0; !done && place < rows; place++) {
        int count;
        elements.size = 0;
        row.text = place * each;
        row.raw = place * row.more;
        done = put_elements(&elements, &names, &row, (size_t)most, &count);
        if (!done)
            done = put_payload(&payload, &elements, count);
        if (!done) {
            PyObject *item = PyBytes_FromStringAndSize((char *)payload.data, (Py_ssize_t)payload.size);
            done = item ? PyList_Append(answer, item) : -1;
            Py_XDECREF(item);
        }
    }
    PyMem_Free(names.text.data);
    PyMem_Free(names.ends);
    PyMem_Free(elements.data);
    PyMem_Free(payload.data);
    if (done) {
        Py_CLEAR(answer);
        if (done > 0) {
            Py_INCREF(Py_None);
            answer = Py_None;
        }
    }
    return answer;
}
