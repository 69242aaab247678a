/* What the files of syncbridge_native share. */
#ifndef SYNCBRIDGE_NATIVE_H
#define SYNCBRIDGE_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000 /* one wheel for Python 3.11 and later */
#include <Python.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers whose lowest byte comes first. */
static inline uint64_t number(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int byte = 0; byte < bytes; byte++)
        value |= (uint64_t)at[byte] << 8 * byte;
    return value;
}

/* CRC-32 as zlib's crc32(data, start), CRC-64 as Redis' dumps have it. */
void crc_prepare(void);
uint32_t crc32_of(uint32_t start, const uint8_t *data, size_t size);
uint64_t crc64_of(const uint8_t *data, size_t size);

/* Text that grows. After a failed call (-1, MemoryError is set) it is as before. */
struct text {
    uint8_t *data;
    size_t size, room;
};
int text_reserve(struct text *text, size_t more);
int text_put(struct text *text, const void *data, size_t size);

/* Writes the decimal digits of a value, at most 20, up to `end`; where they begin. */
char *digits_before(char *end, uint64_t value);

/* What str() shows of a value, in UTF-8; surrogate escapes become the bytes that they stand for. Bytes as they are.
 * Stays where it is until shown_done(), which follows a failed call (-1), too; the value must live as long. */
struct shown {
    const char *data;
    size_t size;
    PyObject *owner;
    char digits[24];
};
int show(struct shown *shown, PyObject *value);
void shown_done(struct shown *shown);

/* The functions of the module; their Python signatures stand with them. */
PyObject *transaction(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *rows(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *texts(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *hashes(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
