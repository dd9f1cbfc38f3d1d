/* Native twin of casync_compat/fs/_python.py: many small files opened, inspected and read in one call.
 *
 * A file costs eight system calls of half a microsecond each; made one by one from Python they cost twenty. Here a
 * whole run of files is read without the GIL, so that hashing and compressing go on meanwhile. What an archive records
 * of a file is not decided here: raw numbers go up, `inspect` and `scan` make nodes of them.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/fs.h>

enum { WANT_FLAGS = 1, WANT_PROJID = 2, WANT_LIST = 4 };

struct result {
    int fd, error, stable;
    long flags;
    unsigned projid;
    ssize_t listed, count;
    size_t offset;
    struct stat st;
};

static int unsupported(int error)
{
    return error == ENOTTY || error == ENOSYS || error == EBADF || error == EOPNOTSUPP || error == EINVAL;
}

/* Everything but the contents. Returns an errno, 0 when all is well. */
static int inspect(struct result *r, int wanted)
{
    r->flags = 0;
    r->projid = 0;
    r->listed = 0;
    if (wanted & WANT_FLAGS) {
        int value = 0;
        if (ioctl(r->fd, FS_IOC_GETFLAGS, &value) == 0)
            r->flags = value;
        else if (!unsupported(errno))
            return errno;
    }
    if (wanted & WANT_PROJID) {
        struct fsxattr attributes;
        memset(&attributes, 0, sizeof attributes);
        if (ioctl(r->fd, FS_IOC_FSGETXATTR, &attributes) == 0)
            r->projid = attributes.fsx_projid;
        else if (!unsupported(errno))
            return errno;
    }
    if (wanted & WANT_LIST) {
        r->listed = flistxattr(r->fd, NULL, 0);
        if (r->listed < 0) {
            if (errno != EOPNOTSUPP && errno != ENODATA && errno != ENOSYS)
                return errno;
            r->listed = 0;
        }
    }
    return 0;
}

/* The contents, into `room`. Returns an errno, 0 when all is well. */
static int read_whole(struct result *r, char *room)
{
    struct stat after;
    r->count = 0;
    while (r->count < r->st.st_size) {
        ssize_t n = read(r->fd, room + r->count, (size_t)(r->st.st_size - r->count));
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno;
        }
        if (n == 0)
            break;
        r->count += n;
    }
    if (fstat(r->fd, &after) < 0)
        return errno;
    r->stable = after.st_size == r->st.st_size && after.st_mtim.tv_sec == r->st.st_mtim.tv_sec &&
                after.st_mtim.tv_nsec == r->st.st_mtim.tv_nsec;
    return 0;
}

/* Reads files until one does not fit, something is wrong, or the names run out. Returns the number of results. */
static Py_ssize_t read_run(int directory, char **names, Py_ssize_t total, int wanted, char *room, size_t size,
                           struct result *results)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    size_t used = 0;
    Py_ssize_t done = 0;
    while (done < total) {
        struct result *r = &results[done];
        memset(r, 0, sizeof *r);
        r->offset = used;
        r->fd = openat(directory, names[done], flags);
        done++;
        if (r->fd < 0) {
            r->error = errno;
            break;
        }
        if (fstat(r->fd, &r->st) < 0) {
            r->error = errno;
            break;
        }
        if (!S_ISREG(r->st.st_mode))
            break; /* replaced since its name was listed; the caller sees it by the mode */
        r->error = inspect(r, wanted);
        if (r->error)
            break;
        if ((uint64_t)r->st.st_size > size - used)
            break; /* the caller streams it, from the descriptor */
        r->error = read_whole(r, room + used);
        if (r->error)
            break;
        used += (size_t)r->count;
        if (r->listed == 0) {
            close(r->fd);
            r->fd = -1;
        }
    }
    return done;
}

static PyObject *to_tuple(const struct result *r)
{
    long long mtime = (long long)r->st.st_mtim.tv_sec * 1000000000LL + r->st.st_mtim.tv_nsec;
    return Py_BuildValue("(iiIIILLKKlInnni)", r->fd, r->error, (unsigned)r->st.st_mode, 
                         (unsigned)r->st.st_uid, (unsigned)r->st.st_gid, (long long)r->st.st_size, mtime, (unsigned long long)r->st.st_dev,
                         (unsigned long long)r->st.st_ino, r->flags, r->projid, (Py_ssize_t)r->listed,
                         (Py_ssize_t)r->offset, (Py_ssize_t)r->count, r->stable);
}

static void close_all(struct result *results, Py_ssize_t from, Py_ssize_t count)
{
    for (Py_ssize_t i = from; i < count; i++)
        if (results[i].fd >= 0)
            close(results[i].fd);
}

static PyObject *read_files(PyObject *self, PyObject *args)
{
    int directory, wanted;
    PyObject *list, *out = NULL;
    Py_buffer room;
    (void)self;
    if (!PyArg_ParseTuple(args, "iOiw*", &directory, &list, &wanted, &room))
        return NULL;
    Py_ssize_t total = PyList_Check(list) ? PyList_Size(list) : -1;
    if (total < 0) {
        PyErr_SetString(PyExc_TypeError, "names must be a list of bytes");
        PyBuffer_Release(&room);
        return NULL;
    }
    /* The list is ours alone to look at only while we hold the GIL, so its items are kept alive here. */
    PyObject *names = PyList_AsTuple(list);
    char **raw = malloc((size_t)(total + 1) * sizeof *raw);
    struct result *results = malloc((size_t)(total + 1) * sizeof *results);
    if (!names || !raw || !results) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        goto end;
    }
    for (Py_ssize_t i = 0; i < total; i++) {
        raw[i] = PyBytes_AsString(PyTuple_GetItem(names, i));
        if (!raw[i])
            goto end;
    }
    Py_ssize_t done;
    Py_BEGIN_ALLOW_THREADS
    done = read_run(directory, raw, total, wanted, room.buf, (size_t)room.len, results);
    Py_END_ALLOW_THREADS
    out = PyList_New(done);
    if (!out)
        close_all(results, 0, done);
    for (Py_ssize_t i = 0; out && i < done; i++) {
        PyObject *item = to_tuple(&results[i]);
        if (!item || PyList_SetItem(out, i, item) < 0) {
            close_all(results, 0, done);
            Py_CLEAR(out);
        }
    }
end:
    free(results);
    free(raw);
    Py_XDECREF(names);
    PyBuffer_Release(&room);
    return out;
}

static PyMethodDef methods[] = {
    {"read_files", read_files, METH_VARARGS, "Open, inspect and read a run of regular files; see _python.read_files."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&module);
}
