/* Put before libc (LD_PRELOAD): counts what a process does to one directory's files, and at one point kills or refuses.
 *
 * Whoever does it, Python, SQLite or an extension, does it by these functions. A point is an operation and a file's name,
 * such as a rename of a program, and which of its kind it is. What is to be done stands in memory that all processes
 * share (FAULTPOINTS_CONTROL, a file), and what was done is written there: see breaker.py, which has the same layout.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LOG_BYTES = 4 << 20 };
enum { RECORD, KILL_AFTER, KILL_WITHIN, FULL, REFUSE }; /* what to do at the point */
enum { PASS, AFTER, WITHIN };                            /* what an operation is told; above these, an errno */

struct control {
    volatile int mode, at, seen, fired, victim;
    volatile unsigned used;
    char point[512];
    char log[LOG_BYTES]; /* lines: pid, operation, name */
};

static struct control *control;
static char root[PATH_MAX];
static size_t root_length;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULTPOINTS_CONTROL"), *directory = getenv("FAULTPOINTS_ROOT");
    if (!file || !directory || !realpath(directory, root)) return;
    root_length = strlen(root);
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    void *found = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (found != MAP_FAILED) control = found;
}

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* A file's name below the directory, without what differs from run to run; 0 when it lies elsewhere. */
static int named(const char *path, char *into, size_t size) {
    if (strncmp(path, root, root_length) || path[root_length] != '/') return 0;
    const char *from = path + root_length + 1;
    size_t at = 0;
    while (*from && at + 2 < size) {
        size_t hex = strspn(from, "0123456789abcdef"), digits = strspn(from, "0123456789");
        if (!strncmp(from, ".new-", 5)) {
            at += (size_t)snprintf(into + at, size - at, ".new-*");
            from += strcspn(from, "/");
        } else if (hex >= 16) {
            into[at++] = '*';
            from += hex;
        } else if (digits >= 3) {
            into[at++] = '#';
            from += digits;
        } else {
            size_t word = strspn(from, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
            for (word = word ? word : 1; word && at + 2 < size; word--) into[at++] = *from++;
        }
    }
    into[at] = 0;
    return 1;
}

static int grows(const char *operation) {
    return !strcmp(operation, "write") || !strcmp(operation, "create") || !strcmp(operation, "mkdir") ||
           !strcmp(operation, "extend");
}

static void strike(void) {
    __atomic_store_n(&control->fired, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_kill, control->victim ? control->victim : (int)syscall(SYS_getpid), SIGKILL);
}

/* Counts an operation; says what is to become of it. */
static int met(const char *operation, const char *name) {
    int reads = !strncmp(operation, "read", 4), mode = control->mode;
    char line[640];
    int length = snprintf(line, sizeof line, "%d %s %s\n", (int)syscall(SYS_getpid), operation, name);
    if (mode == RECORD) {
        unsigned at = __atomic_fetch_add(&control->used, (unsigned)length, __ATOMIC_SEQ_CST);
        if (at + (unsigned)length < LOG_BYTES) memcpy(control->log + at, line, (size_t)length);
        return PASS;
    }
    if (mode == FULL && control->fired) return grows(operation) ? ENOSPC : PASS;
    if (control->fired) return PASS;
    if (!control->point[0]) { /* any change counts */
        if (reads || !strncmp(name, "audit", 5) || !strncmp(name, "tmp", 3)) return PASS;
    } else {
        const char *done = strchr(line, ' ') + 1;
        size_t point = strlen(control->point);
        if (strncmp(done, control->point, point) || done[point] != '\n') return PASS;
    }
    if (__atomic_add_fetch(&control->seen, 1, __ATOMIC_SEQ_CST) != control->at) return PASS;
    switch (mode) {
    case KILL_AFTER: return AFTER;
    case KILL_WITHIN: return WITHIN;
    case FULL:
        control->fired = 1;
        return grows(operation) || !strcmp(operation, "rename") || !strcmp(operation, "sync") ? ENOSPC : PASS;
    default:
        control->fired = 1;
        return reads || mode == REFUSE ? EIO : PASS;
    }
}

static int met_path(const char *operation, int directory, const char *path) {
    char full[2 * PATH_MAX], at[64], name[512];
    int error = errno;
    if (!control || !path) return PASS;
    if (path[0] == '/') {
        snprintf(full, sizeof full, "%s", path);
    } else if (directory == AT_FDCWD) {
        if (syscall(SYS_getcwd, full, PATH_MAX) < 0) return PASS;
        snprintf(full + strlen(full), sizeof full - strlen(full), "/%s", path);
    } else {
        snprintf(at, sizeof at, "/proc/self/fd/%d", directory);
        ssize_t length = readlink(at, full, PATH_MAX);
        if (length < 0) return errno = error, PASS;
        snprintf(full + length, sizeof full - (size_t)length, "/%s", path);
    }
    int told = named(full, name, sizeof name) ? met(operation, name) : PASS;
    errno = error;
    return told;
}

static int met_file(const char *operation, int file) {
    char full[PATH_MAX + 1], at[64], name[512];
    int error = errno;
    if (!control) return PASS;
    snprintf(at, sizeof at, "/proc/self/fd/%d", file);
    ssize_t length = readlink(at, full, PATH_MAX);
    if (length >= 0) full[length] = 0;
    int told = length > 0 && named(full, name, sizeof name) ? met(operation, name) : PASS;
    errno = error;
    return told;
}

/* Does what was told around a call that is not a write. */
#define GUARDED(told, call) \
    do { \
        int what = (told); \
        if (what > WITHIN) return errno = what, -1; \
        if (what == WITHIN) strike(); \
        __typeof__(call) result = (call); \
        int error = errno; \
        if (what == AFTER) strike(); \
        return errno = error, result; \
    } while (0)

/* The same around a write of `size` bytes, of which a half is written where it is killed in the middle. */
#define WRITTEN(told, size, call) \
    do { \
        int what = (told); \
        if (what > WITHIN) return errno = what, -1; \
        if (what == WITHIN) size = (size + 1) / 2; \
        ssize_t result = (call); \
        int error = errno; \
        if (what != PASS) strike(); \
        return errno = error, result; \
    } while (0)

ssize_t write(int file, const void *data, size_t size) {
    NEXT(write);
    WRITTEN(met_file("write", file), size, next(file, data, size));
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    NEXT(pwrite);
    WRITTEN(met_file("write", file), size, next(file, data, size, at));
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    NEXT(pwrite64);
    WRITTEN(met_file("write", file), size, next(file, data, size, at));
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
    NEXT(writev);
    WRITTEN(met_file("write", file), count, next(file, pieces, count));
}

ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t at) {
    NEXT(pwritev);
    WRITTEN(met_file("write", file), count, next(file, pieces, count, at));
}

ssize_t pwritev2(int file, const struct iovec *pieces, int count, off_t at, int flags) {
    NEXT(pwritev2);
    WRITTEN(met_file("write", file), count, next(file, pieces, count, at, flags));
}

ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    NEXT(sendfile);
    WRITTEN(met_file("write", to), size, next(to, from, at, size));
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
    NEXT(sendfile64);
    WRITTEN(met_file("write", to), size, next(to, from, at, size));
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *into, size_t size, unsigned flags) {
    NEXT(copy_file_range);
    WRITTEN(met_file("write", to), size, next(from, at, to, into, size, flags));
}

ssize_t read(int file, void *data, size_t size) {
    NEXT(read);
    GUARDED(met_file("read", file), next(file, data, size));
}

ssize_t pread(int file, void *data, size_t size, off_t at) {
    NEXT(pread);
    GUARDED(met_file("read", file), next(file, data, size, at));
}

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    NEXT(pread64);
    GUARDED(met_file("read", file), next(file, data, size, at));
}

int fsync(int file) {
    NEXT(fsync);
    GUARDED(met_file("sync", file), next(file));
}

int fdatasync(int file) {
    NEXT(fdatasync);
    GUARDED(met_file("sync", file), next(file));
}

static const char *truncation(int file, off64_t size) {
    struct stat found;
    return !fstat(file, &found) && size > found.st_size ? "extend" : "cut";
}

int ftruncate(int file, off_t size) {
    NEXT(ftruncate);
    GUARDED(met_file(truncation(file, size), file), next(file, size));
}

int ftruncate64(int file, off64_t size) {
    NEXT(ftruncate64);
    GUARDED(met_file(truncation(file, size), file), next(file, size));
}

/* These two give an error as their value. */
int posix_fallocate(int file, off_t at, off_t size) {
    NEXT(posix_fallocate);
    int told = met_file("extend", file);
    if (told > WITHIN) return told;
    if (told == WITHIN) strike();
    int result = next(file, at, size);
    if (told == AFTER) strike();
    return result;
}

int posix_fallocate64(int file, off64_t at, off64_t size) {
    NEXT(posix_fallocate64);
    int told = met_file("extend", file);
    if (told > WITHIN) return told;
    if (told == WITHIN) strike();
    int result = next(file, at, size);
    if (told == AFTER) strike();
    return result;
}

int rename(const char *from, const char *to) {
    NEXT(rename);
    GUARDED(met_path("rename", AT_FDCWD, to), next(from, to));
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    NEXT(renameat);
    GUARDED(met_path("rename", to_directory, to), next(from_directory, from, to_directory, to));
}

int link(const char *from, const char *to) {
    NEXT(link);
    GUARDED(met_path("create", AT_FDCWD, to), next(from, to));
}

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    NEXT(linkat);
    GUARDED(met_path("create", to_directory, to), next(from_directory, from, to_directory, to, flags));
}

int unlink(const char *path) {
    NEXT(unlink);
    GUARDED(met_path("unlink", AT_FDCWD, path), next(path));
}

int unlinkat(int directory, const char *path, int flags) {
    NEXT(unlinkat);
    GUARDED(met_path("unlink", directory, path), next(directory, path, flags));
}

int rmdir(const char *path) {
    NEXT(rmdir);
    GUARDED(met_path("unlink", AT_FDCWD, path), next(path));
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    GUARDED(met_path("mkdir", AT_FDCWD, path), next(path, mode));
}

int mkdirat(int directory, const char *path, mode_t mode) {
    NEXT(mkdirat);
    GUARDED(met_path("mkdir", directory, path), next(directory, path, mode));
}

static const char *opening(int directory, const char *path, int flags) {
    if ((flags & O_CREAT) && faccessat(directory, path, F_OK, AT_SYMLINK_NOFOLLOW)) return "create";
    return flags & O_TRUNC ? "cut" : "read-open";
}

#define OPENED(name, directory, path, flags, ...) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    } \
    NEXT(name); \
    int error_before = errno; \
    const char *operation = control ? opening(directory, path, flags) : "read-open"; \
    errno = error_before; \
    GUARDED(met_path(operation, directory, path), next(__VA_ARGS__, flags, mode))

int open(const char *path, int flags, ...) { OPENED(open, AT_FDCWD, path, flags, path); }
int open64(const char *path, int flags, ...) { OPENED(open64, AT_FDCWD, path, flags, path); }
int openat(int directory, const char *path, int flags, ...) { OPENED(openat, directory, path, flags, directory, path); }
int openat64(int directory, const char *path, int flags, ...) { OPENED(openat64, directory, path, flags, directory, path); }
