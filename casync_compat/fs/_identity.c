/*
 * What tells whether files changed, for many at once: the native twin of `_identity_python` in identity.py, which says
 * what a row holds. Limited API of CPython 3.11; the GIL is not held while the kernel is asked.
 */

#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "../_layouts.h"

/* Fields in the order of their size, so that there is nothing between them; all in the machine's byte order. */
typedef struct {
    uint64_t device, inode, rdev, size, mtime, ctime;
    uint32_t mode, uid, gid, zero;
} row;

#define STANDS(field, declared) (offsetof(row, field) == CASYNC_CACHE_IDENTITY_AT_##declared)

_Static_assert(sizeof(row) == CASYNC_CACHE_IDENTITY_SIZE && STANDS(device, DEVICE) && STANDS(inode, INODE) &&
                   STANDS(rdev, SPECIAL_DEVICE) && STANDS(size, SIZE) && STANDS(mtime, MTIME) && STANDS(ctime, CTIME) &&
                   STANDS(mode, MODE) && STANDS(uid, UID) && STANDS(gid, GID) && STANDS(zero, ZERO),
               "a row is what casync_compat/schema.py declares");

/* Modulo 2^64, so that times before 1970 and after 2262 differ from others, too. */
static uint64_t nanoseconds(struct timespec time) {
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

static void look(int directory, const char *name, row *out) {
    struct stat st;
    memset(out, 0, sizeof *out);
    if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return;
    out->device = st.st_dev;
    out->inode = st.st_ino;
    out->rdev = st.st_rdev;
    out->size = (uint64_t)st.st_size;
    out->mtime = nanoseconds(st.st_mtim);
    out->ctime = nanoseconds(st.st_ctim);
    out->mode = st.st_mode;
    out->uid = st.st_uid;
    out->gid = st.st_gid;
}

static PyObject *identities(PyObject *module, PyObject *args) {
    int directory;
    Py_buffer names;
    (void)module;

    if (!PyArg_ParseTuple(args, "iy*:identities", &directory, &names))
        return NULL;
    const char *begin = names.buf, *end = begin + names.len;
    Py_ssize_t count = 0;
    PyObject *result = NULL;
    for (const char *at = begin; at < end; at++)
        count += !*at;
    if (names.len && end[-1]) {
        PyErr_SetString(PyExc_ValueError, "every name must end in a NUL");
    } else if ((result = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(row)))) {
        char *out = PyBytes_AsString(result);
        Py_BEGIN_ALLOW_THREADS
        for (const char *name = begin; count-- > 0; out += sizeof(row)) {
            row found;
            look(directory, name, &found);
            memcpy(out, &found, sizeof found);
            name = (const char *)memchr(name, 0, (size_t)(end - name)) + 1;
        }
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&names);
    return result;
}

static PyMethodDef methods[] = {
    {"identities", identities, METH_VARARGS,
     "identities(directory_fd, names, /)\n--\n\n"
     "A row of 64 bytes for each name; see casync_compat.fs.identity.identities."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_identity", "What tells whether files changed.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__identity(void) { return PyModuleDef_Init(&definition); }
