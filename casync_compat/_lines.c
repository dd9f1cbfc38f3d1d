/* Lines of `list` and `mtree` for runs of nodes (catar.runs.Run): casync_compat/lines.py for one node at a time.
 *
 * The forms are those of casync_compat/textform.py and listing.py; tests/test_listing.py proves that both write the same.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../catar/_layouts.h"
#include "../catar/_numbers.h"
#include "_layouts.h"

struct text {
    char *data;
    size_t size, room;
};

/* Room for `more` bytes; NULL when there is no memory. */
static char *room(struct text *out, size_t more)
{
    if (!out->data || out->room - out->size < more) {
        size_t wanted = out->size + more;
        size_t twice = out->room * 2 > 4096 ? out->room * 2 : 4096;
        size_t size = wanted > twice ? wanted : twice;
        char *data = realloc(out->data, size);
        if (!data)
            return NULL;
        out->data = data;
        out->room = size;
    }
    return out->data + out->size;
}

static int put(struct text *out, const char *bytes, size_t count)
{
    char *at = room(out, count);
    if (!at)
        return 0;
    memcpy(at, bytes, count);
    out->size += count;
    return 1;
}

/* textform.escape */
static int put_escaped(struct text *out, const unsigned char *bytes, size_t count)
{
    char *at = room(out, 4 * count + 1);
    if (!at)
        return 0;
    char *begin = at;
    for (size_t i = 0; i < count; i++) {
        unsigned char c = bytes[i];
        if (c > ' ' && c < 0x7f && c != '\\' && c != '#') {
            *at++ = (char)c;
        } else {
            *at++ = '\\';
            *at++ = (char)('0' + (c >> 6));
            *at++ = (char)('0' + (c >> 3 & 7));
            *at++ = (char)('0' + (c & 7));
        }
    }
    out->size += (size_t)(at - begin);
    return 1;
}

static int put_number(struct text *out, uint64_t value, int least)
{
    char digits[24];
    int at = 24;
    while (value || least > 0) {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
        least--;
    }
    return put(out, digits + at, (size_t)(24 - at));
}

/* textform.ls_mode */
static int put_mode(struct text *out, unsigned mode)
{
    static const char kinds[] = "?pc?d?b?-?l?s???";
    char shown[10];
    shown[0] = kinds[mode >> 12 & 15];
    for (int i = 0; i < 3; i++) {
        unsigned bits = mode >> (6 - 3 * i);
        int special = mode >> (11 - i) & 1 && (i < 2 || shown[0] == 'd');
        char letter = i < 2 ? 's' : 't';
        shown[1 + 3 * i] = bits & 4 ? 'r' : '-';
        shown[2 + 3 * i] = bits & 2 ? 'w' : '-';
        shown[3 + 3 * i] = special ? (bits & 1 ? letter : (char)(letter - 32)) : bits & 1 ? 'x' : '-';
    }
    return put(out, shown, 10);
}

struct run {
    Py_buffer buffer, rows, path;
    struct text inside; /* path of the directory, escaped */
    size_t count;
};

static int open_run(struct run *r)
{
    r->count = (size_t)r->rows.len / (8 * ROW_COLUMNS);
    if ((size_t)r->rows.len != r->count * 8 * ROW_COLUMNS || (uintptr_t)r->rows.buf % 8) {
        PyErr_SetString(PyExc_ValueError, "not whole rows");
        return 0;
    }
    return put_escaped(&r->inside, r->path.buf, (size_t)r->path.len);
}

static void close_run(struct run *r)
{
    PyBuffer_Release(&r->buffer);
    PyBuffer_Release(&r->rows);
    PyBuffer_Release(&r->path);
    free(r->inside.data);
}

static const unsigned char *text_at(const struct run *r, const uint64_t *row, int column)
{
    uint64_t size = (uint64_t)r->buffer.len;
    if (row[column] > size || row[column + 1] > size - row[column])
        return NULL;
    return (const unsigned char *)r->buffer.buf + row[column];
}

/* Go to the row: to the parent when a directory ends; else append the node's path to `out`, and be in it when it is a
 * directory. Returns 2 for the end of a directory, 0 for a row that cannot be or for lack of memory. */
static int put_path(struct run *r, const uint64_t *row, struct text *out)
{
    if (!row[ROW_MODE]) {
        while (r->inside.size && r->inside.data[--r->inside.size] != '/')
            ;
        return 2;
    }
    const unsigned char *name = text_at(r, row, ROW_NAME);
    size_t begin = out->size;
    if (!name || !put(out, r->inside.data, r->inside.size) || (r->inside.size && !put(out, "/", 1)) ||
        !put_escaped(out, name, (size_t)row[ROW_NAME_LEN]))
        return 0;
    if ((row[ROW_MODE] & 0170000) == 0040000) {
        r->inside.size = 0;
        return put(&r->inside, out->data + begin, out->size - begin);
    }
    return 1;
}

static PyObject *finish(struct run *r, struct text *out, int good)
{
    PyObject *result = NULL;
    if (good)
        result = PyBytes_FromStringAndSize(out->data ? out->data : "", (Py_ssize_t)out->size);
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "a row points outside of the buffer, or memory is short");
    free(out->data);
    close_run(r);
    return result;
}

static PyObject *list_text(PyObject *self, PyObject *args)
{
    struct run r = {0};
    struct text out = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*", &r.buffer, &r.rows, &r.path))
        return NULL;
    int good = open_run(&r);
    const uint64_t *row = r.rows.buf;
    for (size_t i = 0; good && i < r.count; i++, row += ROW_COLUMNS) {
        size_t begin = out.size;
        good = put_mode(&out, (unsigned)row[ROW_MODE]) && put(&out, " ", 1);
        if (!good)
            break;
        good = put_path(&r, row, &out);
        if (good == 2)
            out.size = begin;
        else
            good = good && put(&out, "\n", 1);
    }
    return finish(&r, &out, good);
}

struct form {
    int ids, names, shifted, time;
    uint64_t range; /* of ids, all multiples of which are root's; 0 for none */
    const char *flags, *no_flags, *keyword;
};

static int put_name(struct run *r, const uint64_t *row, int column, uint64_t id, const char *key, const struct form *f,
                    struct text *out)
{
    if (row[column + 1]) {
        const unsigned char *name = text_at(r, row, column);
        return name && put(out, key, strlen(key)) && put_escaped(out, name, (size_t)row[column + 1]);
    }
    if ((f->range ? id % f->range : id) || f->shifted)
        return 1;
    return put(out, key, strlen(key)) && put(out, "root", 4);
}

static int put_words(struct text *out, const char *words)
{
    return !*words || (put(out, " ", 1) && put(out, words, strlen(words)));
}

/* What follows the path, up to the digest. */
static int put_facts(struct run *r, const uint64_t *row, const struct form *f, struct text *out)
{
    unsigned mode = (unsigned)row[ROW_MODE], kind = mode & 0170000;
    const char *word = kind == 0100000 ? " type=file mode=" : kind == 0040000 ? " type=dir mode=" : " type=link mode=";
    char octal[4] = {(char)('0' + (mode >> 9 & 7)), (char)('0' + (mode >> 6 & 7)), (char)('0' + (mode >> 3 & 7)),
                     (char)('0' + (mode & 7))};
    if (!put(out, word, strlen(word)) || !put(out, octal, 4))
        return 0;
    if (kind == 0100000) {
        if (!put(out, " size=", 6) || !put_number(out, row[ROW_SIZE], 1))
            return 0;
    } else if (kind == 0120000) {
        const unsigned char *target = text_at(r, row, ROW_TARGET);
        if (!target || !put(out, " link=", 6) || !put_escaped(out, target, (size_t)row[ROW_TARGET_LEN]))
            return 0;
    }
    if (f->ids && !(put(out, " uid=", 5) && put_number(out, row[ROW_UID], 1) && put(out, " gid=", 5) &&
                    put_number(out, row[ROW_GID], 1)))
        return 0;
    if (f->names && !(put_name(r, row, ROW_USER, row[ROW_UID], " uname=", f, out) &&
                      put_name(r, row, ROW_GROUP, row[ROW_GID], " gname=", f, out)))
        return 0;
    if (!put_words(out, kind == 0120000 ? f->no_flags : f->flags))
        return 0;
    uint64_t mtime = row[ROW_MTIME];
    if (!f->time || mtime == UINT64_MAX)
        return 1;
    return put(out, " time=", 6) && put_number(out, mtime / 1000000000, 1) && put(out, ".", 1) &&
           put_number(out, mtime % 1000000000, 9);
}

static int put_digest(struct text *out, const char *keyword, const unsigned char *digest)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * CASYNC_CHUNK_ID_SIZE];
    for (int i = 0; i < CASYNC_CHUNK_ID_SIZE; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    return put(out, " ", 1) && put(out, keyword, strlen(keyword)) && put(out, "=", 1) && put(out, hex, sizeof hex);
}

static PyObject *mtree_text(PyObject *self, PyObject *args)
{
    struct run r = {0};
    struct text out = {0};
    struct form f;
    Py_buffer digests;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*(pppO&pyyy)y*", &r.buffer, &r.rows, &r.path, &f.ids, &f.names, &f.shifted,
                          as_uint64, &f.range, &f.time, &f.flags, &f.no_flags, &f.keyword, &digests))
        return NULL;
    int good = open_run(&r);
    const uint64_t *row = r.rows.buf;
    const unsigned char *digest = digests.buf, *last = digest + digests.len;
    for (size_t i = 0; good && i < r.count; i++, row += ROW_COLUMNS) {
        good = put_path(&r, row, &out);
        if (good != 1)
            continue;
        good = put_facts(&r, row, &f, &out);
        if (good && (row[ROW_MODE] & 0170000) == 0100000) {
            good = last - digest >= CASYNC_CHUNK_ID_SIZE && put_digest(&out, f.keyword, digest);
            digest += CASYNC_CHUNK_ID_SIZE;
        }
        good = good && put(&out, "\n", 1);
    }
    PyBuffer_Release(&digests);
    return finish(&r, &out, good);
}

static PyMethodDef methods[] = {
    {"list_text", list_text, METH_VARARGS, "The lines of `list` for a run."},
    {"mtree_text", mtree_text, METH_VARARGS, "The lines of `mtree` for a run."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_lines", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__lines(void)
{
    return PyModule_Create(&module);
}
