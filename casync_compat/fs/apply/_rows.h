/* Rows of a run (catar/_layouts.h) and their owners, as whoever writes or compares them reads them. */
#ifndef CASYNC_COMPAT_ROWS_H
#define CASYNC_COMPAT_ROWS_H

#include <Python.h>

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "../../../catar/_layouts.h"
#include "../../../catar/_numbers.h"

struct owner {
    uint64_t uid, gid;
    const char *user, *group;
    Py_ssize_t user_len, group_len;
    uint32_t disk_uid, disk_gid;
};

static const uint64_t *row_at(const Py_buffer *rows, Py_ssize_t i)
{
    return (const uint64_t *)rows->buf + i * ROW_COLUMNS;
}

static int same_text(const char *data, uint64_t place, uint64_t len, const char *text, Py_ssize_t text_len)
{
    return len == (uint64_t)text_len && memcmp(data + place, text, (size_t)len) == 0;
}

static const struct owner *find_owner(const struct owner *owners, Py_ssize_t count, const uint64_t *row, const char *data)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        const struct owner *o = &owners[i];
        if (o->uid == row[ROW_UID] && o->gid == row[ROW_GID] &&
            same_text(data, row[ROW_USER], row[ROW_USER_LEN], o->user, o->user_len) &&
            same_text(data, row[ROW_GROUP], row[ROW_GROUP_LEN], o->group, o->group_len))
            return o;
    }
    return NULL;
}

static int read_owners(PyObject *list, struct owner *owners, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        struct owner *o = &owners[i];
        uint64_t uid, gid;
        long long disk_uid, disk_gid; /* -1, or all of 32 bits */
        PyObject *item = PyTuple_GetItem(list, i);
        if (!item || !PyArg_ParseTuple(item, "O&O&y#y#LL", as_uint64, &uid, as_uint64, &gid, &o->user, &o->user_len,
                                       &o->group, &o->group_len, &disk_uid, &disk_gid))
            return 0;
        if (disk_uid < -1 || disk_uid > UINT32_MAX || disk_gid < -1 || disk_gid > UINT32_MAX) {
            PyErr_SetString(PyExc_ValueError, "an owner is no id");
            return 0;
        }
        o->uid = uid;
        o->gid = gid;
        o->disk_uid = (uint32_t)disk_uid;
        o->disk_gid = (uint32_t)disk_gid;
    }
    return 1;
}

/* Numbers of rows must lie within the rows, and places of names within the buffer, which the caller's decoder saw to;
 * only what would break memory here is checked again. */
static int check_rows(const Py_buffer *rows, const Py_buffer *data, Py_ssize_t begin, Py_ssize_t end)
{
    Py_ssize_t count = rows->len / (Py_ssize_t)(8 * ROW_COLUMNS);
    if (begin < 0 || begin > end || end > count || (uintptr_t)rows->buf % 8) {
        PyErr_SetString(PyExc_ValueError, "rows do not lie in the run");
        return 0;
    }
    for (Py_ssize_t i = begin; i < end; i++) {
        const uint64_t *row = row_at(rows, i);
        uint64_t size = (uint64_t)data->len;
        if (row[ROW_MODE] && (row[ROW_NAME] >= size || row[ROW_NAME_LEN] >= size - row[ROW_NAME] ||
                              row[ROW_BEHIND] > size || row[ROW_USER] > size || row[ROW_GROUP] > size ||
                              row[ROW_USER_LEN] > size - row[ROW_USER] || row[ROW_GROUP_LEN] > size - row[ROW_GROUP] ||
                              row[ROW_TARGET] > size || row[ROW_TARGET_LEN] > size - row[ROW_TARGET])) {
            PyErr_SetString(PyExc_ValueError, "a row lies outside of the buffer");
            return 0;
        }
    }
    return 1;
}

/* Times: what catar/records.py `signed_time` says, for archives with nanoseconds. */
static struct timespec moment(uint64_t raw)
{
    const uint64_t second = 1000000000, split = second << 31;
    struct timespec t;
    uint64_t back = 0 - raw;
    if (!raw || back > split) {
        t.tv_sec = (time_t)(raw / second);
        t.tv_nsec = (long)(raw % second);
    } else {
        uint64_t down = (back + second - 1) / second;
        t.tv_sec = -(time_t)down;
        t.tv_nsec = (long)(down * second - back);
    }
    return t;
}

#endif
