/* Rows of a SELECT, from the packets of the text protocol to their JSON.
 *
 * rows(buffer: bytes, at: int, kinds: bytes, keys: bytes, start: int, out: list, hashes: list) -> int
 *
 * At `at` starts a packet. Each row that is there whole becomes the JSON array of its values, bytes in `out`, and the
 * number that its lane is found by in `hashes`: CRC-32 of the JSON of its key, `]` behind it, begun with `start`.
 * `kinds` has a letter for each column: i a number's digits, t text, b bytes (base64 in JSON), B a bit string. `keys`
 * has the key's columns, two bytes each, lowest first. The answer is where the packet starts that was left alone:
 * half a row, the part of a longer one, what follows the rows. A packet whose header is zeros goes to the buffer's end.
 *
 * Raises ValueError for what is no row of these columns. Says the same as packets.py and lanes.lane_finder do, which
 * is where the protocol is explained.
 */
#include "native.h"
#include <string.h>

enum { HEADER = 4, FULL = 0xFFFFFF, NO_ROW = 0xFE, ERROR = 0xFF, IS_NULL = 0xFB };

/* Bytes that JSON has a short name for, behind a backslash. */
static const char SHORT[] = "\"\\\b\f\n\r\t", SHORT_NAMES[] = "\"\\bfnrt";

struct span {
    size_t start, end;
};

static int broken(void)
{
    PyErr_SetString(PyExc_ValueError, "a row does not have the columns asked for");
    return -1;
}

/* Nearly every text is; a loop that compilers make fast, as it looks at every byte. */
static int is_plain(const uint8_t *data, size_t size)
{
    int other = 0;
    for (size_t at = 0; at < size; at++)
        other |= (data[at] < 0x20) | (data[at] >= 0x80) | (data[at] == '"') | (data[at] == '\\');
    return !other;
}

static int put_escaped(struct text *out, const uint8_t *data, size_t size)
{
    size_t escaped = 0;
    for (size_t at = 0; at < size; at++)
        escaped += (data[at] < 0x20) | (data[at] == '"') | (data[at] == '\\');
    if (text_reserve(out, size + 5 * escaped + 2) < 0)
        return -1;
    uint8_t *to = out->data + out->size;
    *to++ = '"';
    for (const uint8_t *end = data + size; data < end; data++) {
        uint8_t byte = *data;
        if (byte >= 0x20 && byte != '"' && byte != '\\') {
            *to++ = byte;
            continue;
        }
        *to++ = '\\';
        const char *found = byte ? strchr(SHORT, byte) : NULL;
        if (found) {
            *to++ = (uint8_t)SHORT_NAMES[found - SHORT];
            continue;
        }
        memcpy(to, "u00", 3);
        to[3] = "0123456789abcdef"[byte >> 4];
        to[4] = "0123456789abcdef"[byte & 15];
        to += 5;
    }
    *to++ = '"';
    out->size = (size_t)(to - out->data);
    return 0;
}

static int put_text(struct text *out, const uint8_t *data, size_t size)
{
    if (is_plain(data, size)) {
        if (text_reserve(out, size + 2) < 0)
            return -1;
        out->data[out->size] = out->data[out->size + size + 1] = '"';
        memcpy(out->data + out->size + 1, data, size);
        out->size += size + 2;
        return 0;
    }
    PyObject *decoded = PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)size, "replace");
    if (!decoded)
        return -1;
    Py_ssize_t length;
    const char *valid = PyUnicode_AsUTF8AndSize(decoded, &length);
    int done = valid ? put_escaped(out, (const uint8_t *)valid, (size_t)length) : -1;
    Py_DECREF(decoded);
    return done;
}

static int put_integer(struct text *out, const uint8_t *data, size_t size)
{
    size_t digits = size > 0 && *data == '-', at = digits;
    while (at < size && data[at] >= '0' && data[at] <= '9')
        at++;
    if (at < size || digits == size || (data[digits] == '0' && size > 1))
        return broken();
    return text_put(out, data, size);
}

static int put_base64(struct text *out, const uint8_t *data, size_t size)
{
    static const char *letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (text_reserve(out, size / 3 * 4 + 6) < 0)
        return -1;
    uint8_t *to = out->data + out->size;
    *to++ = '"';
    for (; size >= 3; data += 3, size -= 3) {
        *to++ = letters[data[0] >> 2];
        *to++ = letters[(data[0] & 3) << 4 | data[1] >> 4];
        *to++ = letters[(data[1] & 15) << 2 | data[2] >> 6];
        *to++ = letters[data[2] & 63];
    }
    if (size) {
        uint8_t second = size > 1 ? data[1] : 0;
        *to++ = letters[data[0] >> 2];
        *to++ = letters[(data[0] & 3) << 4 | second >> 4];
        *to++ = size > 1 ? letters[(second & 15) << 2] : '=';
        *to++ = '=';
    }
    *to++ = '"';
    out->size = (size_t)(to - out->data);
    return 0;
}

static int put_bits(struct text *out, const uint8_t *data, size_t size)
{
    uint64_t value = 0;
    if (size > 8)
        return broken();
    for (size_t at = 0; at < size; at++)
        value = value << 8 | data[at];
    char digits[20], *end = digits + sizeof digits, *first = digits_before(end, value);
    return text_put(out, first, (size_t)(end - first));
}

static int put_value(struct text *out, char kind, const uint8_t *data, size_t size)
{
    switch (kind) {
    case 'i': return put_integer(out, data, size);
    case 't': return put_text(out, data, size);
    case 'b': return put_base64(out, data, size);
    case 'B': return put_bits(out, data, size);
    }
    PyErr_Format(PyExc_ValueError, "no kind of column is called %d", (int)kind);
    return -1;
}

/* The row between `at` and `end` as JSON; `spans`: where in it each value stands. */
static int put_row(struct text *out, const uint8_t *at, const uint8_t *end, const char *kinds, size_t columns,
                   struct span *spans)
{
    out->size = 0;
    for (size_t column = 0; column < columns; column++) {
        if (text_put(out, column ? "," : "[", 1) < 0)
            return -1;
        spans[column].start = out->size;
        if (at >= end)
            return broken();
        uint64_t size = *at++;
        if (size == IS_NULL) {
            if (text_put(out, "null", 4) < 0)
                return -1;
        } else {
            if (size > IS_NULL) {
                int bytes = size == 0xFC ? 2 : size == 0xFD ? 3 : 8;
                if (end - at < bytes)
                    return broken();
                size = number(at, bytes);
                at += bytes;
            }
            if (size > (uint64_t)(end - at))
                return broken();
            if (put_value(out, kinds[column], at, (size_t)size) < 0)
                return -1;
            at += size;
        }
        spans[column].end = out->size;
    }
    if (at != end)
        return broken();
    return text_put(out, "]", 1);
}

static uint32_t row_hash(const struct text *row, const struct span *spans, const uint8_t *keys, size_t many,
                          uint32_t hash)
{
    for (size_t key = 0; key < many; key++) {
        const struct span *span = spans + number(keys + 2 * key, 2);
        hash = crc32_of(hash, row->data + span->start, span->end - span->start);
        hash = crc32_of(hash, (const uint8_t *)(key + 1 < many ? "," : "]"), 1);
    }
    return hash;
}

static int append(PyObject *list, PyObject *item)
{
    int done = item ? PyList_Append(list, item) : -1;
    Py_XDECREF(item);
    return done;
}

PyObject *rows(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    char *data, *kinds, *keys;
    Py_ssize_t size, columns, key_size;
    if (count != 7) {
        PyErr_SetString(PyExc_TypeError, "rows(buffer, at, kinds, keys, start, out, hashes)");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(args[0], &data, &size) < 0 || PyBytes_AsStringAndSize(args[2], &kinds, &columns) < 0 ||
        PyBytes_AsStringAndSize(args[3], &keys, &key_size) < 0)
        return NULL;
    Py_ssize_t at = PyLong_AsSsize_t(args[1]);
    uint32_t start = (uint32_t)PyLong_AsUnsignedLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    int wrong = at < 0 || !columns || key_size % 2;
    for (Py_ssize_t key = 0; key + 1 < key_size; key += 2)
        wrong |= number((uint8_t *)keys + key, 2) >= (uint64_t)columns;
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, "rows() wants columns and a key of these columns");
        return NULL;
    }
    struct text row = {0};
    struct span *spans = PyMem_Malloc((size_t)columns * sizeof *spans);
    int failed = !spans;
    if (failed)
        PyErr_NoMemory();
    while (!failed && size - at > HEADER) {
        const uint8_t *packet = (const uint8_t *)data + at, first = packet[HEADER];
        size_t length = (size_t)number(packet, 3);
        if (length == FULL || (first >= NO_ROW && (first == ERROR || packet[0])))
            break;
        Py_ssize_t end = length || packet[3] ? at + HEADER + (Py_ssize_t)length : size;
        if (end > size)
            break;
        failed = put_row(&row, packet + HEADER, (const uint8_t *)data + end, kinds, (size_t)columns, spans) < 0;
        if (failed)
            break;
        uint32_t hash = row_hash(&row, spans, (uint8_t *)keys, (size_t)key_size / 2, start);
        failed = append(args[5], PyBytes_FromStringAndSize((char *)row.data, (Py_ssize_t)row.size)) < 0 ||
                 append(args[6], PyLong_FromUnsignedLong(hash)) < 0;
        at = end;
    }
    PyMem_Free(spans);
    PyMem_Free(row.data);
    return failed ? NULL : PyLong_FromSsize_t(at);
}
