/* The items of GOODBYE, sorted and put into their places: the twin of `ChildTable.record` in catar/goodbye.py.
 * tests/test_catar/test_goodbye.py proves that both give the same.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_layouts.h"
#include "_numbers.h"

struct child {
    uint64_t hash;
    size_t index;
};

static int by_hash(const void *a, const void *b)
{
    const struct child *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* In-order walk of the left-complete tree: the next child in order goes to the next node in order. */
static void place(const struct child *sorted, size_t count, const uint64_t *starts, uint64_t offset, unsigned char *out)
{
    size_t stack[64], depth = 0, node = 0, rank = 0;
    while (depth || node < count) {
        while (node < count) {
            stack[depth++] = node;
            node = 2 * node + 1;
        }
        node = stack[--depth];
        size_t child = sorted[rank].index;
        uint64_t end = child + 1 < count ? starts[child + 1] : offset;
        unsigned char *item = out + CATAR_GOODBYE_ITEM_SIZE * node;
        store(item + CATAR_GOODBYE_ITEM_AT_OFFSET, offset - starts[child]);
        store(item + CATAR_GOODBYE_ITEM_AT_SIZE, end - starts[child]);
        store(item + CATAR_GOODBYE_ITEM_AT_HASH, sorted[rank].hash);
        rank++;
        node = 2 * node + 2;
    }
}

static PyObject *goodbye_items(PyObject *self, PyObject *args)
{
    uint64_t offset;
    Py_buffer starts, hashes;
    PyObject *out = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "O&y*y*", as_uint64, &offset, &starts, &hashes))
        return NULL;
    size_t count = (size_t)starts.len / 8;
    struct child *children = malloc((count + 1) * sizeof *children);
    if (starts.len != hashes.len || starts.len % 8) {
        PyErr_SetString(PyExc_ValueError, "starts and hashes must be as many");
        goto done;
    }
    out = children ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(CATAR_GOODBYE_ITEM_SIZE * count)) : PyErr_NoMemory();
    if (!out)
        goto done;
    const uint64_t *start = starts.buf;
    for (size_t i = 0; i < count; i++) {
        if (start[i] > (i + 1 < count ? start[i + 1] : offset)) {
            PyErr_SetString(PyExc_ValueError, "offsets must rise");
            Py_CLEAR(out);
            goto done;
        }
        memcpy(&children[i].hash, (const char *)hashes.buf + 8 * i, 8);
        children[i].index = i;
    }
    qsort(children, count, sizeof *children, by_hash);
    place(children, count, starts.buf, offset, (unsigned char *)PyBytes_AsString(out));
done:
    free(children);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&hashes);
    return out;
}

static PyMethodDef methods[] = {
    {"goodbye_items", goodbye_items, METH_VARARGS, "The items of GOODBYE; see catar.goodbye."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_goodbye", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__goodbye(void)
{
    return PyModule_Create(&module);
}
