/* Values as texts. */
#include "native.h"

static int show_str(struct shown *shown, PyObject *value)
{
    Py_ssize_t size;
    shown->data = PyUnicode_AsUTF8AndSize(value, &size);
    if (!shown->data) {
        PyErr_Clear();
        shown->owner = PyUnicode_AsEncodedString(value, "utf-8", "surrogateescape");
        if (!shown->owner || PyBytes_AsStringAndSize(shown->owner, (char **)&shown->data, &size) < 0)
            return -1;
    }
    shown->size = (size_t)size;
    return 0;
}

static int show_number(struct shown *shown, int negative, unsigned long long value)
{
    char *end = shown->digits + sizeof shown->digits, *first = digits_before(end, value);
    if (negative)
        *--first = '-';
    shown->data = first;
    shown->size = (size_t)(end - first);
    return 0;
}

static int show_other(struct shown *shown, PyObject *value)
{
    Py_ssize_t size;
    if (PyBytes_CheckExact(value)) {
        if (PyBytes_AsStringAndSize(value, (char **)&shown->data, &size) < 0)
            return -1;
        shown->size = (size_t)size;
        return 0;
    }
    PyObject *text = PyObject_Str(value);
    if (!text)
        return -1;
    int done = show_str(shown, text);
    if (shown->owner)
        Py_DECREF(text); /* the bytes made of it stay */
    else
        shown->owner = text;
    return done;
}

int show(struct shown *shown, PyObject *value)
{
    shown->owner = NULL;
    if (PyUnicode_CheckExact(value))
        return show_str(shown, value);
    if (PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (!overflow)
            return show_number(shown, number < 0, number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number);
    }
    return show_other(shown, value);
}

void shown_done(struct shown *shown)
{
    Py_XDECREF(shown->owner);
}
