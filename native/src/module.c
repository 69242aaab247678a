/* syncbridge_native: hot steps of syncbridge in C. syncbridge/native.py says what it is good for. */
#include "native.h"

/* Of the functions' arguments and answers: syncbridge uses none but the version that it was written for. */
enum { VERSION = 1 };

static PyMethodDef functions[] = {
    {"transaction", (PyCFunction)(void (*)(void))transaction, METH_FASTCALL,
     "transaction(buffer, at, checksum): a transaction with one event of rows, see transaction.c"},
    {"rows", (PyCFunction)(void (*)(void))rows, METH_FASTCALL,
     "rows(buffer, at, kinds, keys, start, out, hashes): rows of a SELECT as JSON, see rows.c"},
    {"texts", (PyCFunction)(void (*)(void))texts, METH_FASTCALL,
     "texts(values, each, padding): values as one argument of apply.lua, see texts.c"},
    {"hashes", (PyCFunction)(void (*)(void))hashes, METH_FASTCALL,
     "hashes(texts, each, fields, raws, most): rows as RESTORE takes hashes, see hashes.c"},
    {NULL, NULL, 0, NULL},
};

static int prepare(PyObject *module)
{
    crc_prepare();
    return PyModule_AddIntConstant(module, "VERSION", VERSION);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)prepare}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "syncbridge_native", "Hot steps of syncbridge in C.", 0, functions, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_syncbridge_native(void)
{
    return PyModuleDef_Init(&definition);
}
