/* Native twin of casync_compat/fs/names.py: the names in a directory, sorted, in one call and without the GIL. */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct names {
    char *text; /* mark, name, NUL, one after another */
    size_t used, size, count;
};

static int grow(struct names *n, size_t more)
{
    if (n->size - n->used >= more)
        return 0;
    size_t size = 2 * n->size + more;
    char *text = realloc(n->text, size);
    if (!text)
        return -1;
    n->text = text;
    n->size = size;
    return 0;
}

static char mark_of(unsigned char type)
{
    return type == DT_DIR ? 'd' : type == DT_REG ? 'f' : type == DT_LNK ? 'l' : 'o';
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a + 1, *(char *const *)b + 1);
}

struct entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* Returns an errno, 0 when all names were read. */
static int read_names(int directory, struct names *n)
{
    char block[32768] __attribute__((aligned(8)));
    if (lseek(directory, 0, SEEK_SET) < 0)
        return errno;
    for (;;) {
        long got = syscall(SYS_getdents64, directory, block, sizeof block);
        if (got <= 0)
            return got < 0 ? errno : 0;
        for (long at = 0; at < got;) {
            const struct entry *e = (const struct entry *)(block + at);
            const char *name = e->name;
            at += e->length;
            if (name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0)))
                continue;
            size_t len = strlen(name);
            if (grow(n, len + 2) < 0)
                return ENOMEM;
            n->text[n->used] = mark_of(e->type);
            memcpy(n->text + n->used + 1, name, len + 1);
            n->used += len + 2;
            n->count++;
        }
    }
}

static int list_sorted(int directory, struct names *n, char ***order)
{
    int error = read_names(directory, n);
    if (error)
        return error;
    *order = malloc((n->count + 1) * sizeof **order);
    if (!*order)
        return ENOMEM;
    char *p = n->text;
    for (size_t i = 0; i < n->count; i++) {
        (*order)[i] = p;
        p += strlen(p) + 1;
    }
    qsort(*order, n->count, sizeof **order, by_name);
    return 0;
}

static PyObject *list_names(PyObject *self, PyObject *args)
{
    int directory, error;
    struct names n = {NULL, 0, 0, 0};
    char **order = NULL;
    PyObject *out = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "i", &directory))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = list_sorted(directory, &n, &order);
    Py_END_ALLOW_THREADS
    if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        out = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n.used);
    }
    if (out) {
        char *p = PyBytes_AsString(out);
        for (size_t i = 0; i < n.count; i++) {
            size_t len = strlen(order[i]) + 1;
            memcpy(p, order[i], len);
            p += len;
        }
    }
    free(order);
    free(n.text);
    return out;
}

static PyMethodDef methods[] = {
    {"list_names", list_names, METH_VARARGS, "The names in a directory, sorted; see names.py: list_names."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_names", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__names(void)
{
    return PyModule_Create(&module);
}
