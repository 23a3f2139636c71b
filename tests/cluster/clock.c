/* Preloaded: clocks that run at a rate of their own (monotonic) and that step (wall).
 *
 * $TEST_CLOCK names a file with a `struct control` (clocks.py), shared with the test. The rate is
 * read once: a monotonic clock never jumps. Absolute times that the process hands to the kernel
 * are on its own clocks, so they are converted back; and so are the time-outs of epoll. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    double rate;           /* of the monotonic clock; 1 = true */
    int64_t wall_ns;       /* added to the wall clock */
    uint64_t monotonic;    /* how often each was read */
    uint64_t wall;
};

static const int64_t SECOND = 1000000000;
/* Wall times are above, monotonic times (of machines that are up for less than 30 years) below. */
static const time_t WALL_SECONDS_MIN = 1000000000;
static volatile struct control *control;
static double rate = 1;
static int64_t origin; /* on the true monotonic clock: where ours begins */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int (*real_gettime)(clockid_t, struct timespec *);

static int64_t ns_of(const struct timespec *at) { return at->tv_sec * SECOND + at->tv_nsec; }

static void set_ns(struct timespec *at, int64_t ns) {
    at->tv_sec = ns / SECOND;
    at->tv_nsec = ns % SECOND;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TEST_CLOCK");
    struct timespec now;
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    real_gettime = REAL(clock_gettime);
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED) abort();
    real_gettime(CLOCK_MONOTONIC, &now);
    origin = ns_of(&now);
    rate = ((struct control *)page)->rate;
    control = page;
}

static int is_monotonic(clockid_t clock) {
    return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE ||
           clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (!real_gettime) real_gettime = REAL(clock_gettime);
    int failed = real_gettime(clock, at);
    if (failed || !control) return failed;
    if (is_monotonic(clock)) {
        set_ns(at, origin + (int64_t)((ns_of(at) - origin) * rate));
        __atomic_fetch_add(&control->monotonic, 1, __ATOMIC_RELAXED);
    } else if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        set_ns(at, ns_of(at) + control->wall_ns);
        __atomic_fetch_add(&control->wall, 1, __ATOMIC_RELAXED);
    }
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

/* ── back to the kernel's clocks ─────────────────────────────────────────── */

static struct timespec true_time(const struct timespec *ours) {
    struct timespec at = *ours;
    if (!control) return at;
    if (ours->tv_sec < WALL_SECONDS_MIN)
        set_ns(&at, origin + (int64_t)((ns_of(ours) - origin) / rate));
    else
        set_ns(&at, ns_of(ours) - control->wall_ns);
    return at;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict at) {
    struct timespec then = true_time(at);
    return REAL(pthread_cond_timedwait)(cond, mutex, &then);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *at) {
    struct timespec then = true_time(at);
    return REAL(pthread_cond_clockwait)(cond, mutex, clock, &then);
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict at) {
    struct timespec then = true_time(at);
    return REAL(sem_timedwait)(sem, &then);
}

int sem_clockwait(sem_t *restrict sem, clockid_t clock, const struct timespec *restrict at) {
    struct timespec then = true_time(at);
    return REAL(sem_clockwait)(sem, clock, &then);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *at, struct timespec *rest) {
    struct timespec then = *at;
    if (flags & TIMER_ABSTIME)
        then = true_time(at);
    else if (control)
        set_ns(&then, ns_of(at) / rate);
    return REAL(clock_nanosleep)(clock, flags, &then, rest);
}

static int true_timeout(int ms) {
    return ms > 0 && control ? (int)(ms / rate) + 1 : ms;
}

int epoll_wait(int fd, struct epoll_event *events, int count, int ms) {
    return REAL(epoll_wait)(fd, events, count, true_timeout(ms));
}

int epoll_pwait(int fd, struct epoll_event *events, int count, int ms, const sigset_t *mask) {
    return REAL(epoll_pwait)(fd, events, count, true_timeout(ms), mask);
}
