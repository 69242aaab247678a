/* Values of rows, packed into the one argument that apply.lua cuts them from.
 *
 * texts(values: list, each: int, padding: int) -> tuple[bytes, bool] | None
 *
 * Every value as str() shows it, in UTF-8 (surrogate escapes become the bytes that they stand for), a NUL behind it;
 * behind `each` of them `padding` more NULs. The bool: whether a value is None. None as the answer: a value holds a NUL
 * itself. Says the same as apply.join_texts does in Python.
 */
#include "native.h"
#include <string.h>

/* 0; 1 where the value holds a NUL; -1 with an exception. */
static int put(struct text *out, PyObject *value)
{
    struct shown shown;
    int done = show(&shown, value);
    if (!done)
        done = memchr(shown.data, 0, shown.size) ? 1 : text_put(out, shown.data, shown.size);
    shown_done(&shown);
    return done;
}

PyObject *texts(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 3 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "texts(values: list, each, padding)");
        return NULL;
    }
    Py_ssize_t each = PyLong_AsSsize_t(args[1]), padding = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    if (each < 1 || padding < 0 || padding > 7) {
        PyErr_SetString(PyExc_ValueError, "texts() wants values for each row, and padding of at most 7");
        return NULL;
    }
    struct text out = {0};
    int done = 0, nulls = 0;
    /* What str() calls may change the list: its size is asked again each time. */
    for (Py_ssize_t place = 0; !done && place < PyList_Size(args[0]); place++) {
        PyObject *value = PyList_GetItem(args[0], place);
        Py_INCREF(value);
        nulls |= value == Py_None;
        done = put(&out, value);
        Py_DECREF(value);
        if (!done)
            done = text_put(&out, "\0\0\0\0\0\0\0\0", (size_t)((place + 1) % each ? 1 : 1 + padding));
    }
    PyObject *answer = NULL;
    if (!done) {
        PyObject *packed = PyBytes_FromStringAndSize((char *)out.data, (Py_ssize_t)out.size);
        answer = packed ? PyTuple_Pack(2, packed, nulls ? Py_True : Py_False) : NULL;
        Py_XDECREF(packed);
    } else if (done > 0) {
        Py_INCREF(Py_None);
        answer = Py_None;
    }
    PyMem_Free(out.data);
    return answer;
}
