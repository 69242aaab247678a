/* A transaction with one event of rows, found in the packets of a binlog dump.
 *
 * transaction(buffer: bytes, at: int, checksum: bool) -> tuple | None
 *
 * At `at` starts the packet of a GTID event. Where the events of its transaction are all in the buffer, and are as
 * usual (GTID, BEGIN on MySQL, TABLE_MAP, one event of rows, XID; checksums right), what they say:
 *
 *   (where the next packet starts, GTID, timestamp in seconds, commit time in microseconds or None,
 *    end position of the GTID event, its size, body of TABLE_MAP, table id of the rows,
 *    type of the event of rows, its end position, the event without checksum, end position of XID)
 *
 * Positions are those of the headers, 32 bits. None where anything is not as usual: reader.py decides then. It says the
 * same of the same bytes (`BinlogReader._transaction`), which is where the formats are explained.
 */
#include "native.h"
#include <string.h>

enum { QUERY = 2, XID = 16, TABLE_MAP = 19, MYSQL_GTID = 33, MARIADB_GTID = 162 };
enum { PREFIX = 5, HEADER = 19, MAX_PACKET = 0xFFFFFF, ARTIFICIAL = 0x20, STANDALONE = 0x01, PREPARED_XA = 0x40 };
static const uint64_t COMMIT_TIME = ((uint64_t)1 << 55) - 1;
static const uint32_t RESIDUE = 0x2144DF1C; /* CRC of any bytes followed by their own */

struct event {
    const uint8_t *start, *body;
    size_t size, body_size; /* the body's without checksum */
    size_t next;            /* where the next packet starts */
    int type;
    uint32_t position;
};

/* The event in the packet at `at`; 0 where it is not there, or not as usual. Its checksum is left to intact(). */
static int look(const uint8_t *buffer, size_t size, size_t at, int tail, struct event *event)
{
    if (at + PREFIX + HEADER + tail > size)
        return 0;
    size_t packet = number(buffer + at, 3);
    event->start = buffer + at + PREFIX;
    event->next = at + PREFIX - 1 + packet;
    if (packet == MAX_PACKET || packet < (size_t)1 + HEADER + tail || event->next > size || buffer[at + PREFIX - 1])
        return 0;
    event->size = packet - 1;
    event->body = event->start + HEADER;
    event->body_size = event->size - HEADER - tail;
    event->type = event->start[4];
    event->position = (uint32_t)number(event->start + 13, 4);
    return event->position && number(event->start + 9, 4) == event->size && !(event->start[17] & ARTIFICIAL);
}

static int intact(const struct event *event)
{
    return crc32_of(0, event->start, event->size) == RESIDUE;
}

static int is_begin(const struct event *event)
{
    if (event->type != QUERY || event->body_size < 13)
        return 0;
    size_t sql = 14 + event->body[8] + number(event->body + 11, 2);
    return event->body_size == sql + 5 && !memcmp(event->body + sql, "BEGIN", 5);
}

static PyObject *mysql_gtid(const uint8_t *body)
{
    char uuid[37], *to = uuid;
    for (int byte = 0; byte < 16; byte++) {
        if (byte == 4 || byte == 6 || byte == 8 || byte == 10)
            *to++ = '-';
        *to++ = "0123456789abcdef"[body[1 + byte] >> 4];
        *to++ = "0123456789abcdef"[body[1 + byte] & 15];
    }
    *to = 0;
    return PyUnicode_FromFormat("%s:%llu", uuid, (unsigned long long)number(body + 17, 8));
}

PyObject *transaction(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    char *buffer;
    Py_ssize_t length;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "transaction(buffer, at, checksum)");
        return NULL;
    }
    size_t at = PyLong_AsSize_t(args[1]);
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(args[0], &buffer, &length) < 0)
        return NULL;
    const uint8_t *data = (const uint8_t *)buffer;
    size_t size = (size_t)length;
    int tail = PyObject_IsTrue(args[2]) ? 4 : 0;

    struct event gtid, begin, map, rows, xid;
    if (at > size || !look(data, size, at, tail, &gtid))
        Py_RETURN_NONE;
    begin.next = gtid.next;
    if (gtid.type == MARIADB_GTID) {
        if (gtid.body_size < 13 || gtid.body[12] & (STANDALONE | PREPARED_XA))
            Py_RETURN_NONE;
    } else if (gtid.type != MYSQL_GTID || gtid.body_size + tail < 50 || gtid.body[25] != 2 ||
               !look(data, size, gtid.next, tail, &begin) || !is_begin(&begin)) {
        Py_RETURN_NONE;
    }
    if (!look(data, size, begin.next, tail, &map) || map.type != TABLE_MAP ||
        !look(data, size, map.next, tail, &rows) || rows.body_size < 8 || number(rows.body + 4, 2) ||
        !look(data, size, rows.next, tail, &xid) || xid.type != XID)
        Py_RETURN_NONE;
    if (tail && !(intact(&gtid) && (gtid.type == MARIADB_GTID || intact(&begin)) && intact(&map) && intact(&rows) &&
                  intact(&xid)))
        Py_RETURN_NONE;

    PyObject *found = PyTuple_New(12);
    if (!found)
        return NULL;
    const int mariadb = gtid.type == MARIADB_GTID;
    PyObject *commit_time = Py_None;
    if (mariadb)
        Py_INCREF(commit_time);
    else
        commit_time = PyLong_FromUnsignedLongLong(number(gtid.body + 42, 8) & COMMIT_TIME);
    PyObject *items[12] = {
        PyLong_FromSize_t(xid.next),
        mariadb ? PyUnicode_FromFormat("%u-%u-%llu", (unsigned)number(gtid.body + 8, 4),
                                       (unsigned)number(gtid.start + 5, 4),
                                       (unsigned long long)number(gtid.body, 8))
                : mysql_gtid(gtid.body),
        PyLong_FromUnsignedLong((unsigned long)number(gtid.start, 4)),
        commit_time,
        PyLong_FromUnsignedLong(gtid.position),
        PyLong_FromSize_t(gtid.size),
        PyBytes_FromStringAndSize((const char *)map.body, (Py_ssize_t)map.body_size),
        PyLong_FromUnsignedLong((unsigned long)number(rows.body, 4)),
        PyLong_FromLong(rows.type),
        PyLong_FromUnsignedLong(rows.position),
        PyBytes_FromStringAndSize((const char *)rows.start, (Py_ssize_t)(rows.size - tail)),
        PyLong_FromUnsignedLong(xid.position),
    };
    for (int place = 0; place < 12; place++)
        PyTuple_SetItem(found, place, items[place]); /* NULLs, too: they are looked for below */
    if (PyErr_Occurred()) {
        Py_DECREF(found);
        return NULL;
    }
    return found;
}
