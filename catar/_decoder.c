/* Native part of the decoder: runs of ordinary nodes and ends of directories, parsed in one call.
 *
 * An ordinary node is a regular file, directory or symlink with nothing but a FILENAME, an ENTRY, perhaps USER and GROUP,
 * and its tail. Whatever else stands at the read position - an attribute, a name out of order, anything that might be
 * wrong - is left there for the twin of this file, catar/decoder.py, which knows every rule and says what is wrong. So
 * this file accepts a subset of what the decoder accepts, and tests/test_catar proves that both see the same nodes.
 *
 * Types, sizes, offsets, limits and the columns of rows are those of catar/schema.py, by _layouts.h.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_layouts.h"
#include "_node.h"
#include "_numbers.h"
#include "_siphash.h"

struct item {
    uint64_t start, hash;
};

struct slot {
    uint64_t hash, start, end;
};

/* An open directory. `table` is its ChildTable where it was open before the call. */
struct level {
    PyObject *table, *last_object;
    uint64_t entry;
    size_t prior;       /* children that `table` has already */
    size_t first;       /* where its further children begin in `items` */
    const unsigned char *last, *name;
    size_t last_len, name_len;
};

struct tree {
    struct level *levels;
    struct item *items;
    uint64_t *rows;
    size_t depth, item_count, item_room, row_count, row_room;
};

static void *grown(void *block, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return block;
    size_t more = *room ? *room * 2 : 64;
    void *out = realloc(block, more * size);
    if (!out) {
        PyErr_NoMemory();
        return NULL;
    }
    *room = more;
    return out;
}

static uint64_t *new_row(struct tree *w)
{
    uint64_t *rows = grown(w->rows, w->row_count, &w->row_room, ROW_COLUMNS * sizeof *rows);
    if (!rows)
        return NULL;
    w->rows = rows;
    return memset(rows + ROW_COLUMNS * w->row_count++, 0, ROW_COLUMNS * sizeof *rows);
}

static int add_item(struct tree *w, uint64_t start, uint64_t hash)
{
    struct item *items = grown(w->items, w->item_count, &w->item_room, sizeof *items);
    if (!items)
        return 0;
    w->items = items;
    items[w->item_count++] = (struct item){start, hash};
    return 1;
}

static void drop_level(struct level *v)
{
    Py_CLEAR(v->table);
    Py_CLEAR(v->last_object);
}

/* A directory that was open before. Returns 1 when it may be continued here, 0 when not, -1 for an error. */
static int load_level(PyObject *table, struct level *v)
{
    memset(v, 0, sizeof *v);
    PyObject *seen = PyObject_GetAttrString(table, "names_seen");
    PyObject *starts = PyObject_GetAttrString(table, "starts");
    PyObject *entry = PyObject_GetAttrString(table, "entry_offset");
    PyObject *last = PyObject_GetAttrString(table, "last_name");
    Py_ssize_t prior = starts ? PyObject_Size(starts) : -1, last_len = 0;
    char *text = NULL;
    int fits = -1;
    if (seen && entry && last && prior >= 0 && PyBytes_AsStringAndSize(last, &text, &last_len) == 0) {
        v->entry = PyLong_AsUnsignedLongLong(entry);
        if (!PyErr_Occurred())
            fits = seen == Py_None;
    }
    Py_XDECREF(seen);
    Py_XDECREF(starts);
    Py_XDECREF(entry);
    if (fits != 1) {
        Py_XDECREF(last);
        return fits;
    }
    Py_INCREF(table);
    v->table = table;
    v->last_object = last;
    v->last = (unsigned char *)text;
    v->last_len = (size_t)last_len;
    v->prior = (size_t)prior;
    return 1;
}

/* The 64-bit numbers of an array.array. */
static int copy_column(PyObject *table, const char *name, struct slot *slots, size_t count, size_t field)
{
    PyObject *column = PyObject_GetAttrString(table, name);
    Py_buffer view;
    if (!column)
        return 0;
    int done = PyObject_GetBuffer(column, &view, PyBUF_SIMPLE);
    Py_DECREF(column);
    if (done < 0)
        return 0;
    done = (size_t)view.len == 8 * count;
    for (size_t i = 0; done && i < count; i++)
        memcpy((char *)&slots[i] + field, (char *)view.buf + 8 * i, 8);
    PyBuffer_Release(&view);
    if (!done)
        PyErr_SetString(PyExc_ValueError, "a table of children has columns of different length");
    return done;
}

static int by_hash(const void *one, const void *other)
{
    const struct slot *a = one, *b = other;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* Whether the items below position `i` of the implicit tree are the next of the sorted ones; see goodbye.py. */
static int same_items(const unsigned char *items, size_t i, size_t count, const struct slot **next, uint64_t offset)
{
    if (i >= count)
        return 1;
    if (!same_items(items, 2 * i + 1, count, next, offset))
        return 0;
    const struct slot *s = (*next)++;
    const unsigned char *item = items + CATAR_GOODBYE_ITEM_SIZE * i;
    if (load(item + CATAR_GOODBYE_ITEM_AT_OFFSET) != offset - s->start ||
        load(item + CATAR_GOODBYE_ITEM_AT_SIZE) != s->end - s->start ||
        load(item + CATAR_GOODBYE_ITEM_AT_HASH) != s->hash)
        return 0;
    return same_items(items, 2 * i + 2, count, next, offset);
}

/* Whether the innermost directory ends at `data` with a GOODBYE that is wholly there and right. -1 for an error. */
static int ends_here(const struct tree *w, const unsigned char *data, size_t have, uint64_t offset)
{
    const struct level *v = &w->levels[w->depth - 1];
    size_t fresh = w->item_count - v->first, count = v->prior + fresh;
    uint64_t size = size_of(data);
    if (size != CATAR_GOODBYE_HEAD + CATAR_GOODBYE_ITEM_SIZE * (uint64_t)count + CATAR_GOODBYE_TAIL_SIZE || size > have)
        return 0;
    const unsigned char *tail = data + size - CATAR_GOODBYE_TAIL_SIZE;
    if (load(tail + CATAR_GOODBYE_TAIL_AT_ENTRY_OFFSET) != offset - v->entry ||
        load(tail + CATAR_GOODBYE_TAIL_AT_SIZE) != size ||
        load(tail + CATAR_GOODBYE_TAIL_AT_MARKER) != CATAR_GOODBYE_TAIL_MARKER)
        return 0;
    if (!count)
        return 1;
    struct slot *slots = malloc(count * sizeof *slots);
    if (!slots) {
        PyErr_NoMemory();
        return -1;
    }
    int right = -1;
    if (!v->prior || (copy_column(v->table, "starts", slots, v->prior, offsetof(struct slot, start)) &&
                      copy_column(v->table, "hashes", slots, v->prior, offsetof(struct slot, hash)))) {
        for (size_t i = 0; i < fresh; i++) {
            slots[v->prior + i].start = w->items[v->first + i].start;
            slots[v->prior + i].hash = w->items[v->first + i].hash;
        }
        for (size_t i = 0; i < count; i++)
            slots[i].end = i + 1 < count ? slots[i + 1].start : offset;
        qsort(slots, count, sizeof *slots, by_hash);
        const struct slot *next = slots;
        right = same_items(data + CATAR_GOODBYE_HEAD, 0, count, &next, offset);
    }
    free(slots);
    return right;
}

static size_t place(const unsigned char *text, const unsigned char *data)
{
    return text ? (size_t)(text - data) : 0;
}

static int add_node(struct tree *w, const struct node *n, const unsigned char *data, uint64_t base,
                    const unsigned char *key)
{
    uint64_t *row = new_row(w);
    if (!row || !add_item(w, base + n->start, siphash(key, n->name, n->name_len)))
        return 0;
    row[ROW_MODE] = n->mode;
    row[ROW_NAME] = place(n->name, data);
    row[ROW_NAME_LEN] = n->name_len;
    row[ROW_UID] = n->uid;
    row[ROW_GID] = n->gid;
    row[ROW_MTIME] = n->mtime;
    row[ROW_USER] = place(n->user, data);
    row[ROW_USER_LEN] = n->user ? n->user_len : 0;
    row[ROW_GROUP] = place(n->group, data);
    row[ROW_GROUP_LEN] = n->group ? n->group_len : 0;
    row[ROW_TARGET] = place(n->target, data);
    row[ROW_TARGET_LEN] = n->target ? n->target_len : 0;
    row[ROW_SIZE] = n->size;
    row[ROW_START] = n->start;
    row[ROW_ENTRY] = n->entry;
    row[ROW_BEHIND] = n->payload;
    struct level *v = &w->levels[w->depth - 1];
    v->last = n->name;
    v->last_len = n->name_len;
    return 1;
}

static int append_numbers(PyObject *table, const char *name, const struct item *items, size_t count, size_t field)
{
    PyObject *packed = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(8 * count));
    PyObject *column = packed ? PyObject_GetAttrString(table, name) : NULL;
    PyObject *done = NULL;
    if (column) {
        char *out = PyBytes_AsString(packed);
        for (size_t i = 0; i < count; i++)
            memcpy(out + 8 * i, (const char *)&items[i] + field, 8);
        done = PyObject_CallMethod(column, "frombytes", "O", packed);
    }
    Py_XDECREF(packed);
    Py_XDECREF(column);
    Py_XDECREF(done);
    return done != NULL;
}

/* Put what is open into the decoder's own list: further children of known directories, and new directories. */
static int keep_open(struct tree *w, PyObject *open, PyObject *new_table, PyObject *names)
{
    for (size_t i = 0; i < w->depth; i++) {
        struct level *v = &w->levels[i];
        size_t count = (i + 1 < w->depth ? w->levels[i + 1].first : w->item_count) - v->first;
        if (!v->table) {
            PyObject *name = PyBytes_FromStringAndSize((const char *)v->name, (Py_ssize_t)v->name_len);
            v->table = PyObject_CallFunction(new_table, "K", (unsigned long long)v->entry);
            int added = v->table && name && PyList_Append(open, v->table) == 0 && PyList_Append(names, name) == 0;
            Py_XDECREF(name);
            if (!added)
                return 0;
        }
        if (!count)
            continue;
        PyObject *last = PyBytes_FromStringAndSize((const char *)v->last, (Py_ssize_t)v->last_len);
        int kept = last && PyObject_SetAttrString(v->table, "last_name", last) == 0 &&
                   append_numbers(v->table, "starts", w->items + v->first, count, offsetof(struct item, start)) &&
                   append_numbers(v->table, "hashes", w->items + v->first, count, offsetof(struct item, hash));
        Py_XDECREF(last);
        if (!kept)
            return 0;
    }
    return 1;
}

static PyObject *parse_tree(PyObject *self, PyObject *args)
{
    Py_buffer buffer, key;
    Py_ssize_t at, most;
    uint64_t features, base;
    int named, cut = 0;
    PyObject *open, *new_table, *names = NULL, *out = NULL;
    struct tree w = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "y*nnO&O&pO!Oy*", &buffer, &at, &most, as_uint64, &base, as_uint64, &features, &named,
                          &PyList_Type, &open, &new_table, &key))
        return NULL;
    const unsigned char *data = buffer.buf;
    size_t pos = (size_t)at, end = (size_t)buffer.len;
    Py_ssize_t known = PyList_Size(open), closed = 0; /* known: how many of `open` are not loaded or closed yet */
    unsigned long long left = 0;
    if (at < 0 || at > buffer.len || key.len != 16 || known > CATAR_DEPTH_MAX) {
        PyErr_SetString(PyExc_ValueError, "bad offset, key or depth");
        goto done;
    }
    if (!(w.levels = calloc(CATAR_DEPTH_MAX + 1, sizeof *w.levels)) || !(names = PyList_New(0))) {
        PyErr_NoMemory();
        goto done;
    }
    while (w.row_count < (size_t)most) {
        if (end - pos < CATAR_HEADER_SIZE) {
            cut = 1;
            break;
        }
        if (!w.depth) {
            int fits = known ? load_level(PyList_GetItem(open, known - 1), &w.levels[0]) : 0;
            if (fits < 0)
                goto done;
            if (!fits)
                break;
            w.depth = 1;
            known--;
        }
        struct level *v = &w.levels[w.depth - 1];
        uint64_t *row;
        if (type_of(data + pos) == CATAR_GOODBYE_TYPE) {
            int ends = ends_here(&w, data + pos, end - pos, base + pos);
            if (ends < 0)
                goto done;
            if (!ends) {
                cut = size_of(data + pos) > end - pos;
                break;
            }
            if (!(row = new_row(&w)))
                goto done;
            row[ROW_START] = pos;
            row[ROW_ENTRY] = v->entry - base; /* wraps where the directory began before the buffer */
            pos += (size_t)size_of(data + pos);
            row[ROW_BEHIND] = pos;
            if (v->table)
                closed++;
            w.item_count = v->first;
            drop_level(v);
            w.depth--;
            continue;
        }
        struct node n;
        size_t behind = parse_node(data, pos, end, features, named, &n);
        if (!behind || !rises(v->last, v->last_len, &n) || (size_t)known + w.depth >= CATAR_DEPTH_MAX) {
            cut = n.cut;
            break;
        }
        if (!add_node(&w, &n, data, base, key.buf))
            goto done;
        pos = behind;
        if ((n.mode & 0170000) == 0040000) {
            struct level inner = {0};
            inner.entry = base + n.entry;
            inner.first = w.item_count;
            inner.last = inner.name = n.name;
            inner.name_len = n.name_len;
            w.levels[w.depth++] = inner;
        } else if (n.size > end - behind) {
            left = n.size;
            break;
        } else {
            pos += (size_t)n.size;
        }
    }
    if (closed) {
        Py_ssize_t size = PyList_Size(open);
        Py_ssize_t stays = known + (w.depth && w.levels[0].table ? 1 : 0);
        if (PyList_SetSlice(open, stays, size, NULL) < 0)
            goto done;
    }
    if (!keep_open(&w, open, new_table, names))
        goto done;
    out = Py_BuildValue("(y#nKnOi)", w.rows ? (const char *)w.rows : "", (Py_ssize_t)(8 * ROW_COLUMNS * w.row_count), (Py_ssize_t)pos,
                        left, closed, names, cut);
done:
    for (size_t i = 0; w.levels && i < w.depth; i++)
        drop_level(&w.levels[i]);
    free(w.levels);
    free(w.items);
    free(w.rows);
    Py_XDECREF(names);
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&key);
    return out;
}

static PyMethodDef methods[] = {
    {"parse_tree", parse_tree, METH_VARARGS, "Ordinary nodes and ends of directories, as rows of numbers."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_decoder", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__decoder(void)
{
    return PyModule_Create(&module);
}
