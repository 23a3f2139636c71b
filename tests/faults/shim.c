/* Faults of one process's disk, switched while it runs (clocks: tests/cluster/clock.c).
 *
 * Preloaded; FAULT_SWITCHES names a file of int64 in the machine's order, which the test maps too:
 *
 *   0  sync errno        fsync and fdatasync fail with it
 *   1  sync delay, us    ... or take that long
 *   2  write errno       write, pwrite and fallocate of regular files fail with it
 *   3  faults done       counted here, read by the test: did the fault land?
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { SYNC_ERRNO, SYNC_DELAY, WRITE_ERRNO, DONE, SLOTS };

static volatile int64_t none[SLOTS];
static volatile int64_t *switches = none;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_SWITCHES");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof(int64_t) * SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) switches = mapped;
    close(fd);
}

static int fails(int slot, int fd) {
    struct stat found;
    int64_t error = switches[slot];
    if (!error || fstat(fd, &found) || !S_ISREG(found.st_mode)) return 0;
    __atomic_fetch_add(&switches[DONE], 1, __ATOMIC_RELAXED);
    errno = (int)error;
    return 1;
}

static int slow_sync(int fd, const char *name) {
    int64_t delay = switches[SYNC_DELAY];
    if (fails(SYNC_ERRNO, fd)) return -1;
    if (delay > 0) {
        __atomic_fetch_add(&switches[DONE], 1, __ATOMIC_RELAXED);
        while (delay > 0 && switches[SYNC_DELAY]) { /* a test that takes the fault back is not kept waiting */
            usleep(10000);
            delay -= 10000;
        }
    }
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return slow_sync(fd, "fsync"); }
int fdatasync(int fd) { return slow_sync(fd, "fdatasync"); }

ssize_t write(int fd, const void *data, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    return fails(WRITE_ERRNO, fd) ? -1 : real(fd, data, count);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return fails(WRITE_ERRNO, fd) ? -1 : real(fd, data, count, at);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t at) { return pwrite64(fd, data, count, at); }

int fallocate64(int fd, int mode, off64_t at, off64_t count) {
    static int (*real)(int, int, off64_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "fallocate64");
    return fails(WRITE_ERRNO, fd) ? -1 : real(fd, mode, at, count);
}

int fallocate(int fd, int mode, off_t at, off_t count) { return fallocate64(fd, mode, at, count); }
