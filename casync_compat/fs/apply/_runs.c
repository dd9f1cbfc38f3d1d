/* Native part of writing trees: runs of ordinary nodes into directories that the same run of the program has made.
 *
 * A run is what catar/_decoder.c parsed (columns: catar/_layouts.h). It is written in three steps. `open_directories` makes its
 * directories and plans where each row goes; `write_files` writes the files and symlinks, on whatever thread;
 * `close_directories` completes the directories that end in the run. None of them holds the GIL meanwhile. Whatever is
 * unusual, or goes wrong, is undone and left to the caller, which goes the slow way and says what is wrong: this file
 * knows no messages.
 *
 * A file has its final name from the start, because nothing else can be there, and mode 0200 until it is complete.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../catar/_layouts.h"
#include "../../_layouts.h"
#include "_payload.h"
#include "_rows.h"

enum { PLANNED, UNUSUAL, OWNER }; /* what became of a row; OWNER: its owner is not known here */

/* Where a row goes: PLACE in casync_compat/schema.py. */
struct place {
    int32_t fd, row;
    uint32_t uid, gid;
};

#define STANDS(field, declared) (offsetof(struct place, field) == CASYNC_PLACE_AT_##declared)

_Static_assert(sizeof(struct place) == CASYNC_PLACE_SIZE && STANDS(fd, FD) && STANDS(row, ROW) && STANDS(uid, UID) &&
                   STANDS(gid, GID),
               "a place is what casync_compat/schema.py declares");

struct level {
    int fd;
    Py_ssize_t row;
};

/* Returns the descriptor, or -1 with nothing left behind. */
static int make_directory(int parent, const char *name)
{
    if (mkdirat(parent, name, 0700) < 0)
        return -1;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        unlinkat(parent, name, AT_REMOVEDIR);
    return fd;
}

struct opening {
    const struct owner *owners;
    Py_ssize_t owner_count;
    uint32_t uid, gid; /* that new inodes get */
    int may_chown, symlinks;
    struct level *levels; /* open directories, the innermost last */
    Py_ssize_t depth, base; /* how many there are; how many of them were open before, and are still */
};

/* Plans one row.  */
static int open_row(struct opening *o, const uint64_t *row, Py_ssize_t i, const char *data, struct place *p)
{
    p->fd = p->row = -1;
    p->uid = p->gid = (uint32_t)-1;
    if (!o->depth)
        return UNUSUAL;
    struct level *top = &o->levels[o->depth - 1];
    if (!row[ROW_MODE]) {
        if (top->row >= 0) {
            p->fd = top->fd;
            p->row = (int32_t)top->row;
        }
        o->depth--;
        if (o->depth < o->base)
            o->base = o->depth;
        return PLANNED;
    }
    const struct owner *owner = find_owner(o->owners, o->owner_count, row, data);
    if (!owner)
        return OWNER;
    if (owner->disk_uid != o->uid)
        p->uid = owner->disk_uid;
    if (owner->disk_gid != o->gid)
        p->gid = owner->disk_gid;
    if ((p->uid != (uint32_t)-1 || p->gid != (uint32_t)-1) && !o->may_chown)
        return UNUSUAL;
    const char *name = data + row[ROW_NAME];
    switch (row[ROW_MODE] & S_IFMT) {
    case S_IFREG:
        p->fd = top->fd;
        return PLANNED;
    case S_IFLNK:
        p->fd = o->symlinks ? top->fd : -1;
        return PLANNED;
    case S_IFDIR:
        p->fd = make_directory(top->fd, name);
        if (p->fd < 0)
            return UNUSUAL;
        top[1].fd = p->fd;
        top[1].row = i;
        o->depth++;
        return PLANNED;
    default:
        return UNUSUAL;
    }
}

static PyObject *opened_list(const struct opening *o)
{
    PyObject *out = PyList_New(0);
    for (Py_ssize_t i = o->base; out && i < o->depth; i++) {
        PyObject *item = Py_BuildValue("(ni)", o->levels[i].row, o->levels[i].fd);
        if (!item || PyList_Append(out, item) < 0)
            Py_CLEAR(out);
        Py_XDECREF(item);
    }
    return out;
}

static PyObject *open_directories(PyObject *self, PyObject *args)
{
    Py_buffer rows, data;
    Py_ssize_t begin, end, most;
    PyObject *open, *owner_list, *owners = NULL, *opened = NULL, *out = NULL;
    unsigned int uid, gid;
    struct opening o = {0};
    struct place *places = NULL;
    struct owner *known = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*nnnO!O!IIpp", &data, &rows, &begin, &end, &most, &PyList_Type, &open, &PyList_Type,
                          &owner_list, &uid, &gid, &o.may_chown, &o.symlinks))
        return NULL;
    owners = PyList_AsTuple(owner_list);
    if (!owners || !check_rows(&rows, &data, begin, end))
        goto done;
    o.uid = uid;
    o.gid = gid;
    o.owner_count = PyTuple_Size(owners);
    o.depth = o.base = PyList_Size(open);
    known = calloc((size_t)o.owner_count + 1, sizeof *known);
    places = malloc((size_t)(end - begin + 1) * sizeof *places);
    o.levels = malloc((size_t)(o.depth + most + 1) * sizeof *o.levels);
    if (!known || !places || !o.levels) {
        PyErr_NoMemory();
        goto done;
    }
    if (!read_owners(owners, known, o.owner_count))
        goto done;
    o.owners = known;
    for (Py_ssize_t i = 0; i < o.depth; i++) {
        o.levels[i].fd = (int)PyLong_AsLong(PyList_GetItem(open, i));
        o.levels[i].row = -1;
        if (PyErr_Occurred())
            goto done;
    }
    Py_ssize_t i = begin, made = 0;
    int why = PLANNED;
    Py_BEGIN_ALLOW_THREADS
    for (; i < end; i++) {
        const uint64_t *row = row_at(&rows, i);
        int makes = (row[ROW_MODE] & S_IFMT) == S_IFDIR;
        if (makes && made == most)
            break;
        why = open_row(&o, row, i, data.buf, &places[i - begin]);
        if (why != PLANNED)
            break;
        made += makes;
    }
    Py_END_ALLOW_THREADS
    opened = opened_list(&o);
    if (opened)
        out = Py_BuildValue("(niy#nOn)", i, why == OWNER, (const char *)places,
                            (i - begin) * (Py_ssize_t)sizeof *places, PyList_Size(open) - o.base, opened, made);
    if (!out)
        for (Py_ssize_t k = begin; k < i; k++)
            if ((row_at(&rows, k)[ROW_MODE] & S_IFMT) == S_IFDIR)
                close(places[k - begin].fd);
done:
    Py_XDECREF(opened);
    Py_XDECREF(owners);
    free(known);
    free(places);
    free(o.levels);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&data);
    return out;
}

struct writing {
    int holes, times;
    int samples[3]; /* times in whole even seconds (never looked at), with nanoseconds, in odd seconds */
    int rounded;
};

static int check_time(struct writing *w, int fd, struct timespec wanted)
{
    struct stat st;
    int kind = wanted.tv_nsec ? 1 : wanted.tv_sec & 1 ? 2 : 0;
    if (!w->samples[kind] && wanted.tv_sec >= 0 && wanted.tv_sec < (time_t)1 << 31)
        return 0;
    if (w->samples[kind])
        w->samples[kind]--;
    if (fstat(fd, &st) < 0)
        return -1;
    if (st.st_mtim.tv_sec != wanted.tv_sec || st.st_mtim.tv_nsec != wanted.tv_nsec)
        w->rounded = 1;
    return 0;
}

static int chowns(const struct place *p)
{
    return p->uid != (uint32_t)-1 || p->gid != (uint32_t)-1;
}

static int write_file(struct writing *w, const uint64_t *row, const char *data, const struct place *p)
{
    const char *name = data + row[ROW_NAME];
    int fd = openat(p->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0200);
    if (fd < 0)
        return errno;
    struct timespec times[2] = {{0, UTIME_OMIT}, moment(row[ROW_MTIME])};
    int good = write_payload(fd, data + row[ROW_BEHIND], row[ROW_SIZE], w->holes) == 0 &&
               (!chowns(p) || fchown(fd, p->uid, p->gid) == 0) &&
               fchmod(fd, (mode_t)(row[ROW_MODE] & 07777)) == 0 &&
               (!w->times || (futimens(fd, times) == 0 && check_time(w, fd, times[1]) == 0));
    int error = good ? 0 : errno;
    if (close(fd) < 0 && good && errno != EINTR)
        error = errno;
    if (error)
        unlinkat(p->fd, name, 0);
    return error;
}

static int write_symlink(struct writing *w, const uint64_t *row, const char *data, const struct place *p)
{
    const char *name = data + row[ROW_NAME];
    if (p->fd < 0)
        return 0;
    if (symlinkat(data + row[ROW_TARGET], p->fd, name) < 0)
        return errno;
    struct timespec times[2] = {{0, UTIME_OMIT}, moment(row[ROW_MTIME])};
    if ((!chowns(p) || fchownat(p->fd, name, p->uid, p->gid, AT_SYMLINK_NOFOLLOW) == 0) &&
        (!w->times || utimensat(p->fd, name, times, AT_SYMLINK_NOFOLLOW) == 0))
        return 0;
    int error = errno;
    unlinkat(p->fd, name, 0);
    return error;
}

static int check_places(const Py_buffer *rows, const Py_buffer *data, const Py_buffer *places, Py_ssize_t first,
                        Py_ssize_t begin)
{
    Py_ssize_t count = places->len / (Py_ssize_t)sizeof(struct place);
    if (begin < first) {
        PyErr_SetString(PyExc_ValueError, "rows before the plan");
        return 0;
    }
    return check_rows(rows, data, first, first + count);
}

static PyObject *write_files(PyObject *self, PyObject *args)
{
    Py_buffer data, rows, plan;
    Py_ssize_t first, begin;
    struct writing w = {0};
    PyObject *out = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*nnpp(ii)", &data, &rows, &plan, &first, &begin, &w.holes, &w.times, &w.samples[1],
                          &w.samples[2]))
        return NULL;
    if (!check_places(&rows, &data, &plan, first, begin))
        goto done;
    const struct place *places = plan.buf;
    Py_ssize_t i = begin, end = first + plan.len / (Py_ssize_t)sizeof *places;
    for (Py_ssize_t k = begin; k < end; k++)
        if (S_ISREG(row_at(&rows, k)[ROW_MODE]) &&
            row_at(&rows, k)[ROW_SIZE] > (uint64_t)data.len - row_at(&rows, k)[ROW_BEHIND]) {
            PyErr_SetString(PyExc_ValueError, "a payload lies outside of the buffer");
            goto done;
        }
    int error = 0;
    Py_BEGIN_ALLOW_THREADS
    for (; i < end && !error; i++) {
        const uint64_t *row = row_at(&rows, i);
        if (S_ISREG(row[ROW_MODE]))
            error = write_file(&w, row, data.buf, &places[i - first]);
        else if (S_ISLNK(row[ROW_MODE]))
            error = write_symlink(&w, row, data.buf, &places[i - first]);
    }
    Py_END_ALLOW_THREADS
    out = Py_BuildValue("(nii(ii))", error ? i - 1 : i, error, w.rounded, w.samples[1], w.samples[2]);
done:
    PyBuffer_Release(&data);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&plan);
    return out;
}

static int complete_directory(const uint64_t *row, const struct place *p, int with_times)
{
    struct timespec times[2] = {{0, UTIME_OMIT}, moment(row[ROW_MTIME])};
    if ((chowns(p) && fchown(p->fd, p->uid, p->gid) < 0) || fchmod(p->fd, (mode_t)(row[ROW_MODE] & 07777)) < 0 ||
        (with_times && futimens(p->fd, times) < 0))
        return errno;
    close(p->fd);
    return 0;
}

static PyObject *close_directories(PyObject *self, PyObject *args)
{
    Py_buffer data, rows, plan;
    Py_ssize_t first, begin;
    int times;
    PyObject *out = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*nnp", &data, &rows, &plan, &first, &begin, &times))
        return NULL;
    if (!check_places(&rows, &data, &plan, first, begin))
        goto done;
    const struct place *places = plan.buf;
    Py_ssize_t i = begin, end = first + plan.len / (Py_ssize_t)sizeof *places;
    int error = 0;
    Py_BEGIN_ALLOW_THREADS
    for (; i < end && !error; i++) {
        Py_ssize_t opener = row_at(&rows, i)[ROW_MODE] ? -1 : places[i - first].row;
        if (opener >= first && opener < end)
            error = complete_directory(row_at(&rows, opener), &places[opener - first], times);
    }
    Py_END_ALLOW_THREADS
    out = Py_BuildValue("(ni)", error ? i - 1 : i, error);
done:
    PyBuffer_Release(&data);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&plan);
    return out;
}

static PyMethodDef methods[] = {
    {"open_directories", open_directories, METH_VARARGS, "Make a run's directories and plan where its rows go."},
    {"write_files", write_files, METH_VARARGS, "Write a plan's files and symlinks."},
    {"close_directories", close_directories, METH_VARARGS, "Complete the directories that a plan opens and ends."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_runs", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__runs(void)
{
    return PyModule_Create(&module);
}
