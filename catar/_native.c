/* Native part of the decoder: runs of ordinary nodes, parsed in one call.
 *
 * An ordinary node is a regular file or symlink with nothing but a FILENAME, an ENTRY, perhaps USER and GROUP, and its
 * tail. Whatever else stands at the read position - a directory, an attribute, a name out of order, anything that might
 * be wrong - is left there for catar/decoder.py, which knows every rule and says what is wrong. So this file accepts a
 * subset of what the decoder accepts, and tests/test_catar proves that both see the same nodes.
 *
 * Record types and limits are not repeated here: the caller passes those of catar.schema.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

struct types {
    unsigned long long filename, entry, user, group, payload, symlink;
};

struct limits {
    unsigned long long name, owner, target;
};

struct node {
    const unsigned char *name, *user, *group, *target;
    size_t name_len, user_len, group_len, target_len;
    uint64_t mode, uid, gid, mtime, size;
    size_t start, entry, payload;
};

static uint64_t load(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define SIPROUND \
    do { \
        v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32); \
        v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2; \
        v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0; \
        v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32); \
    } while (0)

/* SipHash-2-4 (Aumasson and Bernstein), as goodbye.py takes it from the siphashc package. */
static uint64_t siphash(const unsigned char *key, const unsigned char *data, size_t len)
{
    uint64_t k0 = load(key), k1 = load(key + 8);
    uint64_t v0 = k0 ^ 0x736f6d6570736575ULL, v1 = k1 ^ 0x646f72616e646f6dULL;
    uint64_t v2 = k0 ^ 0x6c7967656e657261ULL, v3 = k1 ^ 0x7465646279746573ULL;
    uint64_t last = (uint64_t)len << 56;
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t m = load(data + i);
        v3 ^= m;
        SIPROUND;
        SIPROUND;
        v0 ^= m;
    }
    for (size_t j = 0; i + j < len; j++)
        last |= (uint64_t)data[i + j] << (8 * j);
    v3 ^= last;
    SIPROUND;
    SIPROUND;
    v0 ^= last;
    v2 ^= 0xff;
    SIPROUND;
    SIPROUND;
    SIPROUND;
    SIPROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* A record of this type whose body is a string with its only NUL at the end, wholly in the buffer. */
static int string_record(const unsigned char *data, size_t have, uint64_t type, uint64_t largest,
                         const unsigned char **text, size_t *len)
{
    if (have < 18 || load(data + 8) != type)
        return 0;
    uint64_t size = load(data);
    if (size < 18 || size > largest || size > have)
        return 0;
    *text = data + 16;
    *len = (size_t)size - 17;
    return data[size - 1] == 0 && memchr(*text, 0, *len) == NULL;
}

static int good_name(const unsigned char *name, size_t len)
{
    if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
        return 0;
    return memchr(name, '/', len) == NULL;
}

static int good_id(uint64_t id)
{
    return id < 0xFFFFFFFFULL && id != 0xFFFF;
}

/* One node at `at`. Returns the offset behind its last record (before its payload), 0 when it is not an ordinary one. */
static size_t parse_node(const unsigned char *data, size_t at, size_t end, uint64_t features, int named,
                         const struct types *t, const struct limits *l, struct node *n)
{
    n->start = at;
    if (!string_record(data + at, end - at, t->filename, l->name, &n->name, &n->name_len) ||
        !good_name(n->name, n->name_len))
        return 0;
    at += n->name_len + 17;
    if (end - at < 64 || load(data + at) != 64 || load(data + at + 8) != t->entry ||
        load(data + at + 16) != features)
        return 0;
    n->entry = at;
    n->mode = load(data + at + 24);
    n->uid = load(data + at + 40);
    n->gid = load(data + at + 48);
    n->mtime = load(data + at + 56);
    uint64_t kind = n->mode & 0170000;
    if (n->mode > 0177777 || load(data + at + 32) != 0 || !good_id(n->uid) || !good_id(n->gid))
        return 0;
    at += 64;
    n->user = n->group = n->target = NULL;
    n->size = 0;
    if (named && string_record(data + at, end - at, t->user, l->owner, &n->user, &n->user_len))
        at += n->user_len + 17;
    else
        n->user = NULL;
    if (named && string_record(data + at, end - at, t->group, l->owner, &n->group, &n->group_len))
        at += n->group_len + 17;
    else
        n->group = NULL;
    if (end - at < 16)
        return 0;
    if (kind == 0100000) {
        uint64_t size = load(data + at);
        if (load(data + at + 8) != t->payload || size < 16 || size - 16 >= 1ULL << 63)
            return 0;
        n->size = size - 16;
        at += 16;
    } else if (n->mode == 0120777) {
        if (!string_record(data + at, end - at, t->symlink, l->target, &n->target, &n->target_len))
            return 0;
        at += n->target_len + 17;
    } else {
        return 0;
    }
    n->payload = at;
    return at;
}

static PyObject *text_or_none(const unsigned char *text, size_t len)
{
    if (!text)
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize((const char *)text, (Py_ssize_t)len);
}

static PyObject *to_tuple(const struct node *n, const unsigned char *key)
{
    PyObject *user = text_or_none(n->user, n->user_len);
    PyObject *group = text_or_none(n->group, n->group_len);
    PyObject *target = text_or_none(n->target, n->target_len);
    if (!user || !group || !target) {
        Py_XDECREF(user);
        Py_XDECREF(group);
        Py_XDECREF(target);
        return NULL;
    }
    return Py_BuildValue("(y#IKKKNNNKKnnn)", (const char *)n->name, (Py_ssize_t)n->name_len, (unsigned)n->mode,
                         (unsigned long long)n->uid, (unsigned long long)n->gid, (unsigned long long)n->mtime, user,
                         group, target, (unsigned long long)n->size,
                         (unsigned long long)siphash(key, n->name, n->name_len), (Py_ssize_t)n->start,
                         (Py_ssize_t)n->entry, (Py_ssize_t)n->payload);
}

static int rises(const unsigned char *last, size_t last_len, const struct node *n)
{
    size_t common = last_len < n->name_len ? last_len : n->name_len;
    int order = memcmp(n->name, last, common);
    return order > 0 || (order == 0 && n->name_len > last_len);
}

static PyObject *ordinary_nodes(PyObject *self, PyObject *args)
{
    Py_buffer buffer, last, key;
    Py_ssize_t at, most;
    unsigned long long features;
    int named;
    struct types t;
    struct limits l;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*nnKpy*y*(KKKKKK)(KKK)", &buffer, &at, &most, &features, &named, &last, &key,
                          &t.filename, &t.entry, &t.user, &t.group, &t.payload, &t.symlink, &l.name, &l.owner,
                          &l.target))
        return NULL;
    const unsigned char *data = buffer.buf;
    const unsigned char *last_name = last.buf;
    size_t last_len = (size_t)last.len, pos = (size_t)at, end = (size_t)buffer.len;
    PyObject *out = NULL;
    if (at < 0 || at > buffer.len || key.len != 16) {
        PyErr_SetString(PyExc_ValueError, "offset outside of the buffer, or a key that has not 16 bytes");
        goto done;
    }
    out = PyList_New(0);
    while (out && PyList_Size(out) < most) {
        struct node n;
        size_t behind = parse_node(data, pos, end, features, named, &t, &l, &n);
        if (!behind || !rises(last_name, last_len, &n))
            break;
        PyObject *item = to_tuple(&n, key.buf);
        if (!item || PyList_Append(out, item) < 0)
            Py_CLEAR(out);
        Py_XDECREF(item);
        if (n.size > end - behind)
            break;
        pos = behind + (size_t)n.size;
        last_name = n.name;
        last_len = n.name_len;
    }
done:
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&last);
    PyBuffer_Release(&key);
    return out;
}

static PyMethodDef methods[] = {
    {"ordinary_nodes", ordinary_nodes, METH_VARARGS, "The ordinary nodes that follow one another in a buffer."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&module);
}
