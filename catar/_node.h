/* One ordinary node, told from everything else; see _decoder.c. */
#ifndef CATAR_NODE_H
#define CATAR_NODE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "_layouts.h"
#include "_numbers.h"

struct node {
    const unsigned char *name, *user, *group, *target;
    size_t name_len, user_len, group_len, target_len;
    uint64_t mode, uid, gid, mtime, size;
    size_t start, entry, payload;
    int cut; /* whether it may be an ordinary one of which the buffer has not everything */
};

static uint64_t size_of(const unsigned char *record)
{
    return load(record + CATAR_HEADER_AT_SIZE);
}

static uint64_t type_of(const unsigned char *record)
{
    return load(record + CATAR_HEADER_AT_TYPE);
}

/* One kind of record whose body is a string. */
struct string_kind {
    uint64_t type, smallest, largest;
    size_t head;
};

#define STRING_KIND(name) {CATAR_##name##_TYPE, CATAR_##name##_SMALLEST, CATAR_##name##_LARGEST, CATAR_##name##_HEAD}

static const struct string_kind filename_kind = STRING_KIND(FILENAME), user_kind = STRING_KIND(USER),
                                group_kind = STRING_KIND(GROUP), symlink_kind = STRING_KIND(SYMLINK);

/* A record of this kind with its only NUL at the end, wholly in the buffer. Returns its size, 0 when it is none. */
static size_t string_record(const unsigned char *data, size_t have, const struct string_kind *kind,
                            const unsigned char **text, size_t *len, int *cut)
{
    if (have < CATAR_HEADER_SIZE) {
        *cut = 1;
        return 0;
    }
    uint64_t size = size_of(data);
    if (type_of(data) != kind->type || size < kind->smallest || size > kind->largest)
        return 0;
    if (size > have) {
        *cut = 1;
        return 0;
    }
    *text = data + kind->head;
    *len = (size_t)size - kind->head - 1;
    return data[size - 1] == 0 && memchr(*text, 0, *len) == NULL ? (size_t)size : 0;
}

static int good_name(const unsigned char *name, size_t len)
{
    if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
        return 0;
    return memchr(name, '/', len) == NULL;
}

static int good_id(uint64_t id)
{
    return id < CATAR_ID_INVALID && id != CATAR_ID16_INVALID;
}

/* One node at `at`. Returns the offset behind its last record (before its payload or children), 0 when it is not an
 * ordinary one. */
static size_t parse_node(const unsigned char *data, size_t at, size_t end, uint64_t features, int named, struct node *n)
{
    n->start = at;
    n->cut = 0;
    size_t size = string_record(data + at, end - at, &filename_kind, &n->name, &n->name_len, &n->cut);
    if (!size || !good_name(n->name, n->name_len))
        return 0;
    at += size;
    const unsigned char *entry = data + at;
    n->cut = end - at < CATAR_ENTRY_HEAD;
    if (n->cut || size_of(entry) != CATAR_ENTRY_HEAD || type_of(entry) != CATAR_ENTRY_TYPE ||
        load(entry + CATAR_ENTRY_AT_FEATURE_FLAGS) != features || load(entry + CATAR_ENTRY_AT_FLAGS) != 0)
        return 0;
    n->entry = at;
    n->mode = load(entry + CATAR_ENTRY_AT_MODE);
    n->uid = load(entry + CATAR_ENTRY_AT_UID);
    n->gid = load(entry + CATAR_ENTRY_AT_GID);
    n->mtime = load(entry + CATAR_ENTRY_AT_MTIME);
    uint64_t kind = n->mode & 0170000;
    if (n->mode > 0177777 || !good_id(n->uid) || !good_id(n->gid))
        return 0;
    at += CATAR_ENTRY_HEAD;
    n->user = n->group = n->target = NULL;
    n->size = 0;
    size = named ? string_record(data + at, end - at, &user_kind, &n->user, &n->user_len, &n->cut) : 0;
    if (!size)
        n->user = NULL;
    at += size;
    size = named ? string_record(data + at, end - at, &group_kind, &n->group, &n->group_len, &n->cut) : 0;
    if (!size)
        n->group = NULL;
    at += size;
    n->cut = n->cut || end - at < CATAR_HEADER_SIZE;
    if (n->cut)
        return 0;
    uint64_t tail = size_of(data + at), type = type_of(data + at);
    if (kind == 0100000) {
        if (type != CATAR_PAYLOAD_TYPE || tail < CATAR_PAYLOAD_HEAD || tail - CATAR_PAYLOAD_HEAD > CATAR_PAYLOAD_MAX)
            return 0;
        n->size = tail - CATAR_PAYLOAD_HEAD;
        at += CATAR_PAYLOAD_HEAD;
    } else if (n->mode == 0120777) {
        size = string_record(data + at, end - at, &symlink_kind, &n->target, &n->target_len, &n->cut);
        if (!size)
            return 0;
        at += size;
    } else if (kind == 0040000) {
        if (tail < CATAR_HEADER_SIZE || tail == UINT64_MAX || (type != CATAR_FILENAME_TYPE && type != CATAR_GOODBYE_TYPE))
            return 0;
    } else {
        return 0;
    }
    n->payload = at;
    return at;
}

static int rises(const unsigned char *last, size_t last_len, const struct node *n)
{
    size_t common = last_len < n->name_len ? last_len : n->name_len;
    int order = memcmp(n->name, last, common);
    return order > 0 || (order == 0 && n->name_len > last_len);
}

#endif
