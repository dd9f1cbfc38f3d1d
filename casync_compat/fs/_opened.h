/* An open file or directory: what is asked of it beyond stat, and its contents. Its twin is the begin of system.py. */
#ifndef CASYNC_COMPAT_OPENED_H
#define CASYNC_COMPAT_OPENED_H

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/fs.h>

#include "../_layouts.h"

struct result {
    int fd, error, stable;
    long flags;
    unsigned projid;
    ssize_t listed, count;
    size_t offset;
    struct stat st;
};

static inline int unsupported(int error)
{
    return error == ENOTTY || error == ENOSYS || error == EBADF || error == EOPNOTSUPP || error == EINVAL;
}

/* Everything but the contents. Returns an errno, 0 when all is well. */
static inline int inspect(struct result *r, int wanted)
{
    r->flags = 0;
    r->projid = 0;
    r->listed = 0;
    if (wanted & WANT_FLAGS) {
        int value = 0;
        if (ioctl(r->fd, FS_IOC_GETFLAGS, &value) == 0)
            r->flags = value;
        else if (!unsupported(errno))
            return errno;
    }
    if (wanted & WANT_PROJID) {
        struct fsxattr attributes;
        memset(&attributes, 0, sizeof attributes);
        if (ioctl(r->fd, FS_IOC_FSGETXATTR, &attributes) == 0)
            r->projid = attributes.fsx_projid;
        else if (!unsupported(errno))
            return errno;
    }
    if (wanted & WANT_LIST) {
        r->listed = flistxattr(r->fd, NULL, 0);
        if (r->listed < 0) {
            if (errno != EOPNOTSUPP && errno != ENODATA && errno != ENOSYS)
                return errno;
            r->listed = 0;
        }
    }
    return 0;
}

/* The contents, into `room`. Returns an errno, 0 when all is well. */
static inline int read_whole(struct result *r, char *room)
{
    struct stat after;
    r->count = 0;
    while (r->count < r->st.st_size) {
        ssize_t n = read(r->fd, room + r->count, (size_t)(r->st.st_size - r->count));
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno;
        }
        if (n == 0)
            break;
        r->count += n;
    }
    if (fstat(r->fd, &after) < 0)
        return errno;
    r->stable = after.st_size == r->st.st_size && after.st_mtim.tv_sec == r->st.st_mtim.tv_sec &&
                after.st_mtim.tv_nsec == r->st.st_mtim.tv_nsec;
    return 0;
}

#endif
