/* Contents written to an empty file, with holes where they are zeros: what payload.py does, of data that is whole. */
#ifndef CASYNC_COMPAT_PAYLOAD_H
#define CASYNC_COMPAT_PAYLOAD_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096 };

static const char zeros[BLOCK];

static int write_all(int fd, const char *data, uint64_t from, uint64_t to)
{
    while (from < to) {
        ssize_t n = pwrite(fd, data + from, (size_t)(to - from), (off_t)from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (!n) {
            errno = EIO;
            return -1;
        }
        from += (uint64_t)n;
    }
    return 0;
}

/* The payload, without blocks of zeros where holes are wanted. */
static int write_payload(int fd, const char *data, uint64_t size, int holes)
{
    uint64_t begin = 0, end = size;
    if (holes && size >= BLOCK) {
        end = 0;
        for (uint64_t at = 0; at < size; at += BLOCK) {
            size_t count = size - at < BLOCK ? (size_t)(size - at) : BLOCK;
            if (data[at] || memcmp(data + at, zeros, count)) {
                end = at + count;
                continue;
            }
            if (write_all(fd, data, begin, end) < 0)
                return -1;
            begin = at + count;
            if (end < begin)
                end = begin;
        }
        if (begin == size)
            return ftruncate(fd, (off_t)size);
    }
    return write_all(fd, data, begin, end);
}

#endif
