/* The records of ordinary nodes, written around contents that are in place already: the twin of catar/filling.py, where
 * it is described. tests/test_catar/test_filling.py proves that both write the same bytes, and the same as catar.Encoder
 * node by node.
 *
 * Types, sizes, offsets and limits are those of catar/schema.py, by _layouts.h.
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
#include "_siphash.h"

struct owner {
    uint64_t uid, gid, stored_uid, stored_gid;
    const char *records;
    Py_ssize_t len;
};

struct job {
    unsigned char *data;
    size_t end;
    uint64_t base, features, granularity;
    int symlinks;
    const struct owner *owners;
    Py_ssize_t owner_count;
    const unsigned char *key;
};

static void store_header(unsigned char *p, uint64_t type, uint64_t size)
{
    store(p + CATAR_HEADER_AT_SIZE, size);
    store(p + CATAR_HEADER_AT_TYPE, type);
}

static const struct owner *find_owner(const struct job *job, uint64_t uid, uint64_t gid)
{
    for (Py_ssize_t i = 0; i < job->owner_count; i++)
        if (job->owners[i].uid == uid && job->owners[i].gid == gid)
            return &job->owners[i];
    return NULL;
}

static const char *bad_name(const unsigned char *name, size_t len, const unsigned char *last, size_t last_len)
{
    if (len == 0 || len > CATAR_ORDINARY_NAME_MAX || (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'))) ||
        memchr(name, '/', len))
        return "a file name is not allowed";
    size_t common = len < last_len ? len : last_len;
    int order = memcmp(name, last, common);
    return order > 0 || (order == 0 && len > last_len) ? NULL : "names must rise";
}

/* The records of one node at `at`. Returns where its contents end, 0 with `*why` set when it cannot stand there. */
static size_t write_node(const struct job *job, size_t at, const unsigned char *name, size_t len, const uint64_t *row,
                         const char **why)
{
    const struct owner *owner = find_owner(job, row[FILE_UID], row[FILE_GID]);
    int link = row[FILE_MODE] == 0120777;
    *why = "a node is not an ordinary one";
    if (!owner || (link ? !job->symlinks : (row[FILE_MODE] & ~07777ULL) != 0100000))
        return 0;
    *why = "contents are not where they should be";
    size_t filename = CATAR_FILENAME_HEAD + len + 1;
    size_t tail = link ? CATAR_SYMLINK_HEAD : CATAR_PAYLOAD_HEAD;
    size_t head = filename + CATAR_ENTRY_HEAD + (size_t)owner->len + tail;
    if (row[FILE_PLACE] > job->end || row[FILE_PLACE] - at != head || row[FILE_SIZE] > job->end - row[FILE_PLACE])
        return 0;
    const unsigned char *contents = job->data + row[FILE_PLACE];
    *why = "a symlink target cannot be stored";
    if (link && (row[FILE_SIZE] < CATAR_SYMLINK_SMALLEST - CATAR_SYMLINK_HEAD ||
                 row[FILE_SIZE] > CATAR_SYMLINK_LARGEST - CATAR_SYMLINK_HEAD ||
                 memchr(contents, 0, (size_t)row[FILE_SIZE]) != contents + row[FILE_SIZE] - 1))
        return 0;
    uint64_t mtime = job->granularity ? row[FILE_MTIME] - row[FILE_MTIME] % job->granularity : 0;
    unsigned char *p = job->data + at;
    store_header(p, CATAR_FILENAME_TYPE, filename);
    memcpy(p + CATAR_FILENAME_HEAD, name, len + 1);
    p += filename;
    memset(p, 0, CATAR_ENTRY_HEAD);
    store_header(p, CATAR_ENTRY_TYPE, CATAR_ENTRY_HEAD);
    store(p + CATAR_ENTRY_AT_FEATURE_FLAGS, job->features);
    store(p + CATAR_ENTRY_AT_MODE, row[FILE_MODE]);
    store(p + CATAR_ENTRY_AT_UID, owner->stored_uid);
    store(p + CATAR_ENTRY_AT_GID, owner->stored_gid);
    store(p + CATAR_ENTRY_AT_MTIME, mtime);
    p += CATAR_ENTRY_HEAD;
    memcpy(p, owner->records, (size_t)owner->len);
    store_header(p + owner->len, link ? CATAR_SYMLINK_TYPE : CATAR_PAYLOAD_TYPE, tail + row[FILE_SIZE]);
    return (size_t)(row[FILE_PLACE] + row[FILE_SIZE]);
}

static struct owner *parse_owners(PyObject *list, Py_ssize_t *count)
{
    *count = PyList_Check(list) ? PyList_Size(list) : -1;
    if (*count < 0) {
        PyErr_SetString(PyExc_TypeError, "owners must be a list");
        return NULL;
    }
    struct owner *owners = malloc((size_t)(*count + 1) * sizeof *owners);
    if (!owners) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < *count; i++) {
        struct owner *o = &owners[i];
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "O&O&O&O&y#", as_uint64, &o->uid, as_uint64, &o->gid, as_uint64,
                              &o->stored_uid, as_uint64, &o->stored_gid, &o->records, &o->len)) {
            free(owners);
            return NULL;
        }
    }
    return owners;
}

static PyObject *fill(PyObject *self, PyObject *args)
{
    Py_buffer room, names, rows, last, key;
    Py_ssize_t begin;
    uint64_t base, features, granularity;
    PyObject *list, *starts = NULL, *hashes = NULL, *out = NULL;
    struct owner *owners = NULL;
    struct job job;
    const char *why = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*nO&y*y*O&O&Opy*y*", &room, &begin, as_uint64, &base, &names, &rows, as_uint64,
                          &features, as_uint64, &granularity, &list, &job.symlinks, &last, &key))
        return NULL;
    Py_ssize_t count = rows.len / (8 * FILE_COLUMNS);
    if (begin < 0 || begin > room.len || key.len != 16 || (names.len && ((char *)names.buf)[names.len - 1] != 0)) {
        PyErr_SetString(PyExc_ValueError, "an argument is out of bounds");
        goto done;
    }
    owners = parse_owners(list, &job.owner_count);
    starts = PyBytes_FromStringAndSize(NULL, 8 * count);
    hashes = PyBytes_FromStringAndSize(NULL, 8 * count);
    if (!owners || !starts || !hashes)
        goto done;
    job.data = room.buf;
    job.end = (size_t)room.len;
    job.features = features;
    job.granularity = granularity;
    job.owners = owners;
    const unsigned char *name = names.buf, *names_end = name + names.len, *before = last.buf;
    size_t at = (size_t)begin, before_len = (size_t)last.len;
    for (Py_ssize_t i = 0; i < count && !why; i++) {
        uint64_t row[FILE_COLUMNS], number;
        memcpy(row, (const char *)rows.buf + 8 * FILE_COLUMNS * i, sizeof row);
        size_t len = name < names_end ? strlen((const char *)name) : 0;
        why = bad_name(name, len, before, before_len);
        if (why)
            break;
        size_t next = write_node(&job, at, name, len, row, &why);
        if (!next)
            break;
        why = NULL;
        number = base + (at - (size_t)begin);
        memcpy(PyBytes_AsString(starts) + 8 * i, &number, 8);
        number = siphash(key.buf, name, len);
        memcpy(PyBytes_AsString(hashes) + 8 * i, &number, 8);
        at = next;
        before = name;
        before_len = len;
        name += len + 1;
    }
    if (!why && name != names_end)
        why = "there are more names than rows";
    if (why)
        PyErr_SetString(PyExc_ValueError, why);
    else
        out = Py_BuildValue("(nOOy#)", (Py_ssize_t)at, starts, hashes, before, (Py_ssize_t)before_len);
done:
    free(owners);
    Py_XDECREF(starts);
    Py_XDECREF(hashes);
    PyBuffer_Release(&room);
    PyBuffer_Release(&names);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&last);
    PyBuffer_Release(&key);
    return out;
}

static PyMethodDef methods[] = {
    {"fill", fill, METH_VARARGS, "Write the records of a run of nodes; see catar.filling.fill."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_filling", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__filling(void)
{
    return PyModule_Create(&module);
}
