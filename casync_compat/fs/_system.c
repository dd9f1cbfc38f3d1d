/* Native twin of casync_compat/fs/system.py: many small files opened, inspected and read, in one call.
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
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../../catar/_layouts.h"
#include "../../catar/_numbers.h"
#include "../_layouts.h"
#include "_opened.h"

enum { LINK_ROOM = CATAR_SYMLINK_LARGEST - CATAR_SYMLINK_HEAD };

/* Reads files until one does not fit, something is wrong, or the names run out. Returns the number of results. */
static Py_ssize_t read_all(int directory, char **names, Py_ssize_t total, int wanted, char *room, size_t size,
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
    return Py_BuildValue("(iiIIILLKKlInnni)", r->fd, r->error, (unsigned)r->st.st_mode, (unsigned)r->st.st_uid,
                         (unsigned)r->st.st_gid, (long long)r->st.st_size, mtime, (unsigned long long)r->st.st_dev,
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
    done = read_all(directory, raw, total, wanted, room.buf, (size_t)room.len, results);
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

/* Runs: files and symlinks one after another into one buffer, each behind room for its records. */

struct run {
    int directory, wanted;
    uint64_t device, inode_count, owner_count;
    long odd_flags;
    const uint64_t *inodes, *owners;
    char *room;
    size_t size, gap;
};

static int is_skipped(const struct run *run, ino_t inode)
{
    for (uint64_t i = 0; i < run->inode_count; i++)
        if (run->inodes[i] == inode)
            return 1;
    return 0;
}

/* Bytes before the contents of a file of this owner, beside `gap` and the name; -1 when the owner is not known. */
static int64_t owner_gap(const struct run *run, const struct stat *st)
{
    for (uint64_t i = 0; i < run->owner_count; i++) {
        const uint64_t *owner = run->owners + GAP_COLUMNS * i;
        if (owner[GAP_UID] == st->st_uid && owner[GAP_GID] == st->st_gid)
            return (int64_t)owner[GAP_LENGTH];
    }
    return -1;
}

static void fill_row(uint64_t *row, const struct stat *st, uint64_t size, size_t place)
{
    row[FILE_MODE] = st->st_mode;
    row[FILE_UID] = st->st_uid;
    row[FILE_GID] = st->st_gid;
    row[FILE_MTIME] = (uint64_t)st->st_mtim.tv_sec * 1000000000ULL + (uint64_t)st->st_mtim.tv_nsec;
    row[FILE_SIZE] = size;
    row[FILE_PLACE] = place;
}

/* Whether a symlink has an SELinux label, or it cannot be told. */
static int is_labelled(const struct run *run, const char *name)
{
    char path[64 + NAME_MAX];
    int len = snprintf(path, sizeof path, "/proc/self/fd/%d/%s", run->directory, name);
    return len < 0 || (size_t)len >= sizeof path || lgetxattr(path, "security.selinux", NULL, 0) >= 0 ||
           (errno != ENODATA && errno != EOPNOTSUPP && errno != ENOSYS);
}

/* Returns where the contents end, 0 when the caller has to look at this one. */
static size_t take_link(const struct run *run, const char *name, size_t at, uint64_t *row)
{
    struct stat st;
    if (fstatat(run->directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(st.st_mode) ||
        st.st_dev != run->device)
        return 0;
    int64_t more = owner_gap(run, &st);
    if (more < 0 || run->size - at < (size_t)more + LINK_ROOM)
        return 0;
    at += (size_t)more;
    ssize_t len = readlinkat(run->directory, name, run->room + at, LINK_ROOM);
    if (len <= 0 || len >= LINK_ROOM || (run->wanted & WANT_LABELS && is_labelled(run, name)))
        return 0;
    run->room[at + (size_t)len] = 0;
    st.st_mode = S_IFLNK | 0777;
    fill_row(row, &st, (uint64_t)len + 1, at);
    return at + (size_t)len + 1;
}

/* Returns where the contents end, and the descriptor is closed; 0 when the caller has to look at this one, with `r`. */
static size_t take_file(const struct run *run, const char *name, size_t at, uint64_t *row, struct result *r)
{
    memset(r, 0, sizeof *r);
    r->count = -1; /* nothing was read */
    r->fd = openat(run->directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &r->st) < 0) {
        r->error = errno;
        return 0;
    }
    if (!S_ISREG(r->st.st_mode))
        return 0;
    r->error = inspect(r, run->wanted);
    int64_t more = owner_gap(run, &r->st);
    if (r->error || more < 0 || r->listed || r->projid || (r->flags & run->odd_flags) ||
        r->st.st_dev != run->device || is_skipped(run, r->st.st_ino))
        return 0;
    at += (size_t)more;
    if (at > run->size || (uint64_t)r->st.st_size > run->size - at)
        return 0;
    r->error = read_whole(r, run->room + at);
    if (r->error || r->count < r->st.st_size || !r->stable)
        return 0;
    close(r->fd);
    r->fd = -1;
    fill_row(row, &r->st, (uint64_t)r->st.st_size, at);
    return at + (size_t)r->st.st_size;
}

/* Returns the number of rows; `*pos` is behind the last name that was looked at, `*odd` set when `r` is about it. */
static Py_ssize_t read_into(const struct run *run, const char *listing, size_t *pos, size_t end, Py_ssize_t most,
                            uint64_t *rows, struct result *r, int *odd)
{
    Py_ssize_t count = 0;
    size_t used = 0;
    while (count < most && *pos < end) {
        const char mark = listing[*pos], *name = listing + *pos + 1;
        size_t len = strlen(name), at = used + run->gap + len, next;
        if (at > run->size || (mark != 'f' && (mark != 'l' || !(run->wanted & WANT_LINKS))))
            break;
        if (mark == 'l') {
            next = take_link(run, name, at, rows + FILE_COLUMNS * count);
            if (!next)
                break;
        } else {
            next = take_file(run, name, at, rows + FILE_COLUMNS * count, r);
        }
        *pos += len + 2;
        *odd = next == 0;
        if (*odd)
            break;
        used = next;
        count++;
    }
    return count;
}

/* The first `count` names of a listing, each with its NUL and without its mark. */
static PyObject *names_of(const char *listing, Py_ssize_t count)
{
    const char *p = listing;
    for (Py_ssize_t i = 0; i < count; i++)
        p += strlen(p) + 1;
    PyObject *out = PyBytes_FromStringAndSize(NULL, p - listing - count);
    char *to = out ? PyBytes_AsString(out) : NULL;
    p = listing;
    for (Py_ssize_t i = 0; out && i < count; i++) {
        size_t len = strlen(p); /* of mark and name: as long as name and NUL */
        memcpy(to, p + 1, len);
        to += len;
        p += len + 1;
    }
    return out;
}

static PyObject *read_run(PyObject *self, PyObject *args)
{
    struct run run;
    struct result result;
    Py_buffer listing, inodes, room, owners;
    Py_ssize_t at, most, gap;
    uint64_t device;
    PyObject *last = NULL, *names = NULL, *out = NULL;
    int odd = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "iy*nniO&ly*w*ny*", &run.directory, &listing, &at, &most, &run.wanted, as_uint64,
                          &device, &run.odd_flags, &inodes, &room, &gap, &owners))
        return NULL;
    const char *text = listing.buf;
    uint64_t *rows = NULL;
    if (at < 0 || at > listing.len || most < 1 || gap < 0 || (listing.len && text[listing.len - 1])) {
        PyErr_SetString(PyExc_ValueError, "an argument is out of bounds");
        goto end;
    }
    if (most > listing.len) /* each has a name */
        most = listing.len + 1;
    rows = malloc((size_t)most * FILE_COLUMNS * sizeof *rows);
    if (!rows) {
        PyErr_NoMemory();
        goto end;
    }
    run.device = device;
    run.inodes = inodes.buf;
    run.inode_count = (uint64_t)inodes.len / sizeof *run.inodes;
    run.owners = owners.buf;
    run.owner_count = (uint64_t)owners.len / (GAP_COLUMNS * sizeof *run.owners);
    run.room = room.buf;
    run.size = (size_t)room.len;
    run.gap = (size_t)gap;
    size_t pos = (size_t)at;
    Py_ssize_t count;
    Py_BEGIN_ALLOW_THREADS
    count = read_into(&run, text, &pos, (size_t)listing.len, most, rows, &result, &odd);
    Py_END_ALLOW_THREADS
    if (odd) {
        last = to_tuple(&result);
        if (!last) {
            close_all(&result, 0, 1);
            goto end;
        }
    } else {
        last = Py_None;
        Py_INCREF(last);
    }
    names = names_of(text + at, count);
    if (names)
        out = Py_BuildValue("(Oy#nO)", names, (const char *)rows, (Py_ssize_t)(FILE_COLUMNS * sizeof *rows) * count,
                            (Py_ssize_t)pos, last);
    if (!out && odd)
        close_all(&result, 0, 1);
end:
    Py_XDECREF(last);
    Py_XDECREF(names);
    free(rows);
    PyBuffer_Release(&listing);
    PyBuffer_Release(&inodes);
    PyBuffer_Release(&room);
    PyBuffer_Release(&owners);
    return out;
}

/* Has the kernel begin to write out part of a file; what cannot be begun is left to whoever syncs it. */
static PyObject *start_writing(PyObject *self, PyObject *args)
{
    int fd;
    long long offset, size;
    (void)self;
    if (!PyArg_ParseTuple(args, "iLL", &fd, &offset, &size))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    (void)sync_file_range(fd, offset, size, SYNC_FILE_RANGE_WRITE);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* One directory, opened and inspected. */

static PyObject *open_directory(PyObject *self, PyObject *args)
{
    struct result r;
    int parent, wanted;
    const char *name;
    (void)self;
    if (!PyArg_ParseTuple(args, "iyi", &parent, &name, &wanted))
        return NULL;
    memset(&r, 0, sizeof r);
    Py_BEGIN_ALLOW_THREADS
    r.fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
    if (r.fd < 0 || fstat(r.fd, &r.st) < 0)
        r.error = errno;
    else
        r.error = inspect(&r, wanted);
    Py_END_ALLOW_THREADS
    PyObject *out = to_tuple(&r);
    if (!out)
        close_all(&r, 0, 1);
    return out;
}

/* Which mount something lies on. The kernel says so even of what may not be entered, as long as nothing else is asked
 * (since 5.8). The structure is written out here since older headers do not have all of it. */
struct mount_answer {
    uint32_t mask, before[35];
    uint64_t mount;
    uint64_t rest[13];
};
_Static_assert(offsetof(struct mount_answer, mount) == 0x90 && sizeof(struct mount_answer) == 256, "linux/stat.h");
enum { MOUNT_SAID = 0x1000 };

static PyObject *mount_of(PyObject *self, PyObject *args)
{
    int directory;
    const char *name;
    struct mount_answer answer;
    long failed = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, "iy", &directory, &name))
        return NULL;
    memset(&answer, 0, sizeof answer);
#ifdef SYS_statx
    const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH;
    Py_BEGIN_ALLOW_THREADS
    failed = syscall(SYS_statx, directory, name, flags, 0u, &answer);
    Py_END_ALLOW_THREADS
    if (failed && errno != ENOSYS && errno != EINVAL && errno != EPERM)
        return PyErr_SetFromErrno(PyExc_OSError);
#endif
    return PyLong_FromLongLong(failed || !(answer.mask & MOUNT_SAID) ? -1 : (long long)answer.mount);
}

static PyMethodDef methods[] = {
    {"read_files", read_files, METH_VARARGS, "Open, inspect and read a run of regular files; see system.py: read_files."},
    {"read_run", read_run, METH_VARARGS, "Read a run of files and symlinks into a buffer; see system.py: read_run."},
    {"open_directory", open_directory, METH_VARARGS, "Open and inspect a directory; see system.py: open_directory."},
    {"mount_of", mount_of, METH_VARARGS, "Which mount something lies on; see system.py: mount_of."},
    {"start_writing", start_writing, METH_VARARGS, "Begin to write out part of a file; see system.py: start_writing."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_system", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__system(void)
{
    return PyModule_Create(&module);
}
