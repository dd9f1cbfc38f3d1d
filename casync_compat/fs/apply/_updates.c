/* Native part of updating trees: rows of ordinary files and symlinks compared with what a directory has under their names.
 *
 * Nothing is written here. What is not exactly as recorded, or cannot be told, is left to the caller, which compares it
 * again, node by node (uptodate.py), and sees to it.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../../../catar/_layouts.h"
#include "../../_layouts.h"
#include "../_opened.h"
#include "_rows.h"

enum { PIECE = 256 << 10, LIST_ROOM = 256 };

static const char label[] = "security.selinux";

struct comparing {
    int directory, wanted, times, contents;
    unsigned long odd_flags;
    dev_t device;
    char *room;
};

static int has_basics(const struct comparing *c, const struct stat *st, const uint64_t *row, const struct owner *owner)
{
    struct timespec wanted = moment(row[ROW_MTIME]);
    if (st->st_dev != c->device || (st->st_mode & S_IFMT) != (row[ROW_MODE] & S_IFMT))
        return 0;
    if ((owner->disk_uid != (uint32_t)-1 && owner->disk_uid != st->st_uid) ||
        (owner->disk_gid != (uint32_t)-1 && owner->disk_gid != st->st_gid))
        return 0;
    if (!S_ISLNK(st->st_mode) && (st->st_mode & 07777) != (row[ROW_MODE] & 07777))
        return 0;
    return !c->times || (st->st_mtim.tv_sec == wanted.tv_sec && st->st_mtim.tv_nsec == wanted.tv_nsec);
}

/* Whether a file has no attributes by name, or only a label that is not asked for. */
static int has_no_attributes(const struct comparing *c, int fd)
{
    char names[LIST_ROOM];
    ssize_t len = flistxattr(fd, names, sizeof names);
    if (len < 0)
        return errno == EOPNOTSUPP || errno == ENODATA || errno == ENOSYS;
    return !len || (!(c->wanted & WANT_LABELS) && len == (ssize_t)sizeof label && !memcmp(names, label, sizeof label));
}

static int has_contents(const struct comparing *c, int fd, const char *data, uint64_t size)
{
    for (uint64_t at = 0; at < size;) {
        size_t most = size - at < PIECE ? (size_t)(size - at) : PIECE;
        ssize_t n = pread(fd, c->room, most, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || memcmp(c->room, data + at, (size_t)n))
            return 0;
        at += (uint64_t)n;
    }
    return 1;
}

static int is_same_open(const struct comparing *c, int fd, const uint64_t *row, const char *data,
                        const struct owner *owner, uint64_t *inode)
{
    struct result r = {.fd = fd};
    if (fstat(fd, &r.st) < 0 || !has_basics(c, &r.st, row, owner) || (uint64_t)r.st.st_size != row[ROW_SIZE])
        return 0;
    if (c->wanted & WANT_LIST && !has_no_attributes(c, fd))
        return 0;
    if (inspect(&r, c->wanted & (WANT_FLAGS | WANT_PROJID)) || (unsigned long)r.flags & c->odd_flags || r.projid)
        return 0;
    *inode = r.st.st_ino;
    return !c->contents || has_contents(c, fd, data + row[ROW_BEHIND], row[ROW_SIZE]);
}

static int is_same_file(const struct comparing *c, const uint64_t *row, const char *data, const struct owner *owner,
                        uint64_t *inode)
{
    const char *name = data + row[ROW_NAME];
    struct stat st;
    if (fstatat(c->directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0; /* opening a device could do anything */
    if (!has_basics(c, &st, row, owner) || (uint64_t)st.st_size != row[ROW_SIZE])
        return 0;
    int fd = openat(c->directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int same = is_same_open(c, fd, row, data, owner, inode);
    close(fd);
    return same;
}

/* Whether a symlink has no SELinux label. */
static int has_no_label(const struct comparing *c, const char *name)
{
    char path[64 + NAME_MAX];
    int len = snprintf(path, sizeof path, "/proc/self/fd/%d/%s", c->directory, name);
    return len > 0 && (size_t)len < sizeof path && lgetxattr(path, label, NULL, 0) < 0 &&
           (errno == ENODATA || errno == EOPNOTSUPP || errno == ENOSYS);
}

static int is_same_link(const struct comparing *c, const uint64_t *row, const char *data, const struct owner *owner,
                        uint64_t *inode)
{
    const char *name = data + row[ROW_NAME];
    struct stat st;
    if (fstatat(c->directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !has_basics(c, &st, row, owner) ||
        row[ROW_TARGET_LEN] >= PIECE)
        return 0;
    ssize_t len = readlinkat(c->directory, name, c->room, PIECE);
    if (len < 0 || (uint64_t)len != row[ROW_TARGET_LEN] || memcmp(c->room, data + row[ROW_TARGET], (size_t)len))
        return 0;
    *inode = st.st_ino;
    return !(c->wanted & WANT_LABELS) || has_no_label(c, name);
}

struct outcome {
    Py_ssize_t stop;
    int unknown;
};

static struct outcome compare_all(const struct comparing *c, const Py_buffer *rows, const char *data, Py_ssize_t begin,
                                  Py_ssize_t end, const struct owner *owners, Py_ssize_t owner_count, uint64_t *inodes)
{
    struct outcome out = {begin, 0};
    for (; out.stop < end; out.stop++) {
        const uint64_t *row = row_at(rows, out.stop);
        uint64_t *inode = &inodes[out.stop - begin], found = 0;
        if (!S_ISREG(row[ROW_MODE]) && !S_ISLNK(row[ROW_MODE]))
            break;
        const struct owner *owner = find_owner(owners, owner_count, row, data);
        if (!owner) {
            out.unknown = 1;
            break;
        }
        int same = S_ISREG(row[ROW_MODE]) ? is_same_file(c, row, data, owner, &found)
                                          : is_same_link(c, row, data, owner, &found);
        *inode = same ? found : 0;
    }
    return out;
}

static int check_payloads(const Py_buffer *rows, const Py_buffer *data, Py_ssize_t begin, Py_ssize_t end)
{
    for (Py_ssize_t i = begin; i < end; i++) {
        const uint64_t *row = row_at(rows, i);
        if (S_ISREG(row[ROW_MODE]) && row[ROW_SIZE] > (uint64_t)data->len - row[ROW_BEHIND]) {
            PyErr_SetString(PyExc_ValueError, "a payload lies outside of the buffer");
            return 0;
        }
    }
    return 1;
}

static PyObject *compare_files(PyObject *self, PyObject *args)
{
    Py_buffer data, rows;
    Py_ssize_t begin, end;
    PyObject *owner_list, *owners = NULL, *out = NULL;
    struct comparing c = {0};
    struct owner *known = NULL;
    uint64_t *inodes = NULL;
    struct stat st;
    (void)self;
    if (!PyArg_ParseTuple(args, "iy*y*nnO!ikpp", &c.directory, &data, &rows, &begin, &end, &PyList_Type, &owner_list,
                          &c.wanted, &c.odd_flags, &c.times, &c.contents))
        return NULL;
    owners = PyList_AsTuple(owner_list);
    if (!owners || !check_rows(&rows, &data, begin, end) || !check_payloads(&rows, &data, begin, end))
        goto done;
    Py_ssize_t owner_count = PyTuple_Size(owners);
    known = calloc((size_t)owner_count + 1, sizeof *known);
    inodes = malloc((size_t)(end - begin + 1) * sizeof *inodes);
    c.room = malloc(PIECE);
    if (!known || !inodes || !c.room) {
        PyErr_NoMemory();
        goto done;
    }
    if (!read_owners(owners, known, owner_count))
        goto done;
    if (fstat(c.directory, &st) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    c.device = st.st_dev;
    struct outcome outcome;
    Py_BEGIN_ALLOW_THREADS
    outcome = compare_all(&c, &rows, data.buf, begin, end, known, owner_count, inodes);
    Py_END_ALLOW_THREADS
    out = Py_BuildValue("(niy#)", outcome.stop, outcome.unknown, (const char *)inodes,
                        (outcome.stop - begin) * (Py_ssize_t)sizeof *inodes);
done:
    Py_XDECREF(owners);
    free(known);
    free(inodes);
    free(c.room);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&data);
    return out;
}

static PyMethodDef methods[] = {
    {"compare_files", compare_files, METH_VARARGS, "Which rows a directory has exactly as they are recorded."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_updates", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__updates(void)
{
    return PyModule_Create(&module);
}
