/* Joins two tun devices with one-way delay, a rate limit and loss: a wide area network where the kernel has no netem.
 *
 *     wan TUN_A TUN_B DELAY_MS MBIT LOSS_PPM
 *
 * Prints "up" when the devices are there, and carries packets until it is killed. Packets that would wait for longer
 * than 60 ms for the line are dropped, as a router does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 65536, PACKET = 2048, BATCH = 64 };
#define LONGEST_QUEUE INT64_C(60000000)

/* What is on its way in one direction: a ring of packets, each with the time at which it arrives. */
struct line {
    int64_t *due;
    uint16_t *size;
    char *packets;
    unsigned first, next;
    int64_t free_at;
};

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int open_tun(const char *name)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) {
        perror("tun");
        exit(1);
    }
    return fd;
}

static char *slot(struct line *line, unsigned at)
{
    return line->packets + (size_t)(at % SLOTS) * PACKET;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fputs("usage: wan TUN_A TUN_B DELAY_MS MBIT LOSS_PPM\n", stderr);
        return 2;
    }
    int fds[2] = {open_tun(argv[1]), open_tun(argv[2])};
    int64_t delay = (int64_t)(atof(argv[3]) * 1e6);
    double mbit = atof(argv[4]);
    unsigned loss = (unsigned)atoi(argv[5]), random = 12345;
    struct line lines[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        lines[i].due = malloc(sizeof(int64_t) * SLOTS);
        lines[i].size = malloc(sizeof(uint16_t) * SLOTS);
        lines[i].packets = malloc((size_t)SLOTS * PACKET);
        if (!lines[i].due || !lines[i].size || !lines[i].packets)
            return 1;
    }
    prctl(PR_SET_TIMERSLACK, 1000);
    puts("up");
    fflush(stdout);
    for (;;) {
        int64_t moment = now(), soonest = INT64_MAX;
        for (int i = 0; i < 2; i++) {
            struct line *line = &lines[i];
            for (int k = 0; k < BATCH && line->next - line->first < SLOTS - 1; k++) {
                ssize_t size = read(fds[i], slot(line, line->next), PACKET);
                if (size <= 0)
                    break;
                if (loss) {
                    random = random * 1664525u + 1013904223u;
                    if ((random >> 8) % 1000000u < loss)
                        continue;
                }
                if (line->free_at < moment)
                    line->free_at = moment;
                if (mbit > 0) {
                    if (line->free_at - moment > LONGEST_QUEUE)
                        continue;
                    line->free_at += (int64_t)((double)size * 8000.0 / mbit);
                }
                line->size[line->next % SLOTS] = (uint16_t)size;
                line->due[line->next % SLOTS] = line->free_at + delay;
                line->next++;
            }
            moment = now();
            for (; line->first != line->next && line->due[line->first % SLOTS] <= moment; line->first++) {
                ssize_t sent = write(fds[1 - i], slot(line, line->first), line->size[line->first % SLOTS]);
                (void)sent; /* a full device drops the packet, as a network may */
            }
            if (line->first != line->next && line->due[line->first % SLOTS] < soonest)
                soonest = line->due[line->first % SLOTS];
        }
        struct pollfd wanted[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
        struct timespec wait, *limit = NULL;
        if (soonest != INT64_MAX) {
            int64_t left = soonest - now();
            left = left < 0 ? 0 : left;
            wait = (struct timespec){left / 1000000000, left % 1000000000};
            limit = &wait;
        }
        ppoll(wanted, 2, limit, NULL);
    }
}
