/*
 * Owns the record of everything that a process does to the files below one directory, and the faults of single
 * calls. Loaded by LD_PRELOAD, it stands in front of every call that changes a file, a name or a size, and of every
 * sync. It must not know what the files mean.
 *
 *   DISKSHIM_ROOT=DIRECTORY   the directory; absolute, without symbolic links
 *   DISKSHIM_LOG=FILE         where the record is appended to; outside the directory
 *   DISKSHIM_MARKS=FILE       what is written to this file is put into the record as marks, in order with the rest
 *   DISKSHIM_UNRECORDED=END   files whose names end so are left alone: changed through mappings, they cannot be seen
 *   DISKSHIM_SYNC_US=N        a sync takes N microseconds. Nothing is synced for real: whoever reads the record
 *                             decides what a power cut leaves, and nobody cuts the power of this machine.
 *   DISKSHIM_FAULT=CLASS:HOW:N  the N-th call of the class fails. CLASS is write, sync, size (lengths and allocation),
 *                             name (rename, unlink, mkdir), open, or any. HOW is an error's number, `short` (half of
 *                             the bytes are written) or `kill` (SIGKILL to the own process instead of the call)
 *
 * The record is a sequence of `struct head`, each followed by its path (relative to the directory) and its data.
 * Calls are made and recorded under one lock, so the record's order is the order in which they took effect; only a
 * sync is made outside it, and its record says how many records it covers: those before it began.
 *
 * A call that would escape the record (a shared writable mapping, links, punching holes) ends the process. The real
 * calls are made by syscall(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind {
    START = 1,   /* a process begins: the counts behind `covers` start anew; file: the directory */
    CREATE,      /* path, file: an empty file of that name */
    MAKE,        /* path, file: a directory */
    WRITE,       /* file, a = offset, data */
    RESIZE,      /* file, a = size */
    RENAME,      /* path = from NUL to */
    REMOVE,      /* path: a file or an empty directory */
    SYNC,        /* file or directory, a = covers */
    SYNC_FAILED, /* the same, and it was refused */
    MARK,        /* data */
    FAULT,       /* path: a call was made to fail */
    UNRECORDED,  /* path: a file of that name exists, whose content is not recorded */
};

struct head {
    uint32_t kind;
    uint32_t path_length;
    uint64_t file;
    int64_t a;
    uint64_t data_length;
};

enum class { WRITES, SYNCS, SIZES, NAMES, OPENS, ANY, NO_CLASS };
static const char *const CLASSES[] = {"write", "sync", "size", "name", "open", "any"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static char marks[PATH_MAX];
static char unrecorded[64];
static int log_fd = -1;
static long sync_us;
static int64_t recorded;
static enum class fault_class = NO_CLASS;
static int fault_error; /* 0: short; -1: kill */
static long fault_nth;
static long calls;

static void give_up(const char *what, const char *path) {
    dprintf(STDERR_FILENO, "diskshim: %s: %s\n", what, path);
    abort();
}

/* Called with the lock held. */
static void put(enum kind kind, const char *path, size_t path_length, uint64_t file, int64_t a, const void *data,
                size_t data_length) {
    struct head head = {kind, path_length, file, a, data_length};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, path_length}, {(void *)data, data_length}};
    size_t total = sizeof head + path_length + data_length;
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)total) {
        give_up("the record cannot be written", path ? path : "");
    }
    recorded++;
}

__attribute__((constructor)) static void start(void) {
    const char *value = getenv("DISKSHIM_ROOT");
    if (!value) {
        return;
    }
    snprintf(root, sizeof root, "%s", value);
    value = getenv("DISKSHIM_MARKS");
    snprintf(marks, sizeof marks, "%s", value ? value : "");
    value = getenv("DISKSHIM_UNRECORDED");
    snprintf(unrecorded, sizeof unrecorded, "%s", value ? value : "");
    value = getenv("DISKSHIM_SYNC_US");
    sync_us = value ? atol(value) : 0;
    value = getenv("DISKSHIM_FAULT");
    if (value && *value) {
        char class[16], how[16];
        if (sscanf(value, "%15[^:]:%15[^:]:%ld", class, how, &fault_nth) != 3) {
            give_up("cannot take DISKSHIM_FAULT", value);
        }
        for (int i = 0; i < NO_CLASS; i++) {
            if (strcmp(class, CLASSES[i]) == 0) {
                fault_class = i;
            }
        }
        fault_error = strcmp(how, "short") == 0 ? 0 : strcmp(how, "kill") == 0 ? -1 : atoi(how);
        if (fault_class == NO_CLASS || (fault_error == 0 && strcmp(how, "short") != 0)) {
            give_up("cannot take DISKSHIM_FAULT", value);
        }
    }
    value = getenv("DISKSHIM_LOG");
    log_fd = value ? syscall(SYS_openat, AT_FDCWD, value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (log_fd < 0) {
        give_up("cannot open DISKSHIM_LOG", value ? value : "it is not set");
    }
    struct stat seen;
    if (stat(root, &seen) != 0) {
        give_up("DISKSHIM_ROOT is not there", root);
    }
    put(START, NULL, 0, seen.st_ino, 0, NULL, 0);
    recorded = 0;
}

/* The path below the root, or NULL where it is none of ours. The root itself is the empty path. */
static const char *below(const char *path) {
    size_t length = strlen(root);
    if (log_fd < 0 || strncmp(path, root, length) != 0) {
        return NULL;
    }
    return path[length] == '\0' ? path + length : path[length] == '/' ? path + length + 1 : NULL;
}

static int is_unrecorded(const char *path) {
    size_t length = strlen(path), end = strlen(unrecorded);
    return end > 0 && length >= end && strcmp(path + length - end, unrecorded) == 0;
}

static const char *path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = '\0';
    return path;
}

static const char *absolute(int directory, const char *path, char *whole) {
    char base[PATH_MAX];
    if (path[0] == '/') {
        return path;
    }
    if (directory == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) {
            base[0] = '\0';
        }
    } else {
        path_of(directory, base);
    }
    if (snprintf(whole, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) {
        whole[0] = '\0';
    }
    return whole;
}

/* The file behind a descriptor, where its changes are recorded. */
static const char *file_of(int fd, char *path, struct stat *seen) {
    int before = errno;
    const char *name = log_fd < 0 ? NULL : below(path_of(fd, path));
    if (name && (is_unrecorded(name) || fstat(fd, seen) != 0)) {
        name = NULL;
    }
    errno = before;
    return name;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

/* Whether this call is the one that fails: 0, an error's number, or -1 for a short write. With the lock held. */
static int fault(enum class class, const char *path) {
    if (fault_class != class && fault_class != ANY) {
        return 0;
    }
    if (++calls != fault_nth) {
        return 0;
    }
    put(FAULT, path, strlen(path), 0, 0, NULL, 0);
    if (fault_error < 0) {
        die();
    }
    return fault_error ? fault_error : class == WRITES ? -1 : EIO;
}

static int refuse(int error) {
    errno = error;
    return -1;
}

/* A write of any form: `offset` below zero is the file's own position. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off64_t offset, long number, int at_offset) {
    char path[PATH_MAX];
    struct stat seen;
    const char *name = log_fd < 0 ? NULL : path_of(fd, path);
    if (name && marks[0] && strcmp(path, marks) == 0) {
        pthread_mutex_lock(&lock);
        for (int i = 0; i < count; i++) {
            put(MARK, NULL, 0, 0, 0, parts[i].iov_base, parts[i].iov_len);
        }
        pthread_mutex_unlock(&lock);
        name = NULL;
    } else {
        name = file_of(fd, path, &seen);
    }
    if (!name) {
        return at_offset ? syscall(number, fd, parts, count, offset, 0) : syscall(number, fd, parts, count);
    }
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        length += parts[i].iov_len;
    }
    char *data = malloc(length ? length : 1);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        memcpy(data + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    pthread_mutex_lock(&lock);
    int error = fault(WRITES, name);
    ssize_t result;
    if (error > 0 || (error < 0 && length < 2)) {
        result = refuse(error > 0 ? error : EIO);
    } else {
        size_t wanted = error < 0 ? length / 2 : length;
        int flags = fcntl(fd, F_GETFL);
        if (flags & O_APPEND) {
            fstat(fd, &seen);
            offset = seen.st_size;
        } else if (!at_offset) {
            offset = lseek(fd, 0, SEEK_CUR);
        }
        result = at_offset ? syscall(SYS_pwrite64, fd, data, wanted, offset) : syscall(SYS_write, fd, data, wanted);
        int after = errno;
        if (result > 0) {
            put(WRITE, name, strlen(name), seen.st_ino, offset, data, result);
            if (flags & O_DSYNC) {
                put(SYNC, name, strlen(name), seen.st_ino, recorded, NULL, 0);
            }
        }
        errno = after;
    }
    int after = errno;
    pthread_mutex_unlock(&lock);
    free(data);
    errno = after;
    return result;
}

ssize_t write(int fd, const void *buffer, size_t length) {
    struct iovec part = {(void *)buffer, length};
    return write_parts(fd, &part, 1, -1, SYS_writev, 0);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return write_parts(fd, parts, count, -1, SYS_writev, 0);
}

ssize_t pwrite64(int fd, const void *buffer, size_t length, off64_t offset) {
    struct iovec part = {(void *)buffer, length};
    return write_parts(fd, &part, 1, offset, SYS_pwritev, 1);
}

ssize_t pwrite(int fd, const void *buffer, size_t length, off_t offset) { return pwrite64(fd, buffer, length, offset); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return write_parts(fd, parts, count, offset, SYS_pwritev, 1);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(fd, parts, count, offset);
}

/* Copies inside the kernel are refused, so that they are made by reading and writing. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
    char path[PATH_MAX];
    struct stat seen;
    if (file_of(to, path, &seen)) {
        return refuse(ENOSYS);
    }
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, length, flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t length) {
    char path[PATH_MAX];
    struct stat seen;
    if (file_of(to, path, &seen)) {
        return refuse(EINVAL);
    }
    return syscall(SYS_sendfile, to, from, at, length);
}

ssize_t sendfile(int to, int from, off_t *at, size_t length) { return sendfile64(to, from, at, length); }

static int resize(int fd, off64_t size, int allocate, off64_t offset, off64_t length, int mode) {
    char path[PATH_MAX];
    struct stat seen;
    const char *name = file_of(fd, path, &seen);
    if (name && mode != 0) {
        give_up("fallocate with a mode is not recorded", path);
    }
    if (name) {
        pthread_mutex_lock(&lock);
    }
    int error = name ? fault(SIZES, name) : 0;
    int result = error ? refuse(error < 0 ? EIO : error)
                 : allocate ? syscall(SYS_fallocate, fd, mode, offset, length)
                            : syscall(SYS_ftruncate, fd, size);
    int after = errno;
    if (name) {
        struct stat now;
        if (result == 0 && fstat(fd, &now) == 0 && now.st_size != seen.st_size) {
            put(RESIZE, name, strlen(name), seen.st_ino, now.st_size, NULL, 0);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = after;
    return result;
}

int ftruncate64(int fd, off64_t size) { return resize(fd, size, 0, 0, 0, 0); }
int ftruncate(int fd, off_t size) { return resize(fd, size, 0, 0, 0, 0); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return resize(fd, 0, 1, offset, length, mode); }
int fallocate(int fd, int mode, off_t offset, off_t length) { return resize(fd, 0, 1, offset, length, mode); }
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    return resize(fd, 0, 1, offset, length, 0) == 0 ? 0 : errno;
}
int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

int truncate64(const char *path, off64_t size) {
    char whole[PATH_MAX];
    if (below(absolute(AT_FDCWD, path, whole))) {
        give_up("truncate by name is not recorded", path);
    }
    return syscall(SYS_truncate, path, size);
}
int truncate(const char *path, off_t size) { return truncate64(path, size); }

static int open_any(int directory, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    const char *name = log_fd < 0 ? NULL : below(absolute(directory, path, whole));
    if (!name) {
        return syscall(SYS_openat, directory, path, flags, mode);
    }
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        give_up("a file without a name is not recorded", path);
    }
    pthread_mutex_lock(&lock);
    struct stat seen;
    int existed = syscall(SYS_faccessat, directory, path, F_OK) == 0;
    int skip = is_unrecorded(name);
    int error = skip ? 0 : fault(OPENS, name);
    int fd = error ? refuse(error < 0 ? EIO : error) : syscall(SYS_openat, directory, path, flags, mode);
    int after = errno;
    if (fd >= 0 && !existed && skip) {
        put(UNRECORDED, name, strlen(name), 0, 0, NULL, 0);
    } else if (fd >= 0 && !skip && fstat(fd, &seen) == 0) {
        if (!existed) {
            put(CREATE, name, strlen(name), seen.st_ino, 0, NULL, 0);
        } else if (flags & O_TRUNC) {
            put(RESIZE, name, strlen(name), seen.st_ino, 0, NULL, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    errno = after;
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(...)                                                                                                      \
    va_list arguments;                                                                                                 \
    va_start(arguments, flags);                                                                                        \
    mode_t mode = mode_of(flags, arguments);                                                                           \
    va_end(arguments);                                                                                                 \
    return open_any(__VA_ARGS__, flags, mode)

int open(const char *path, int flags, ...) { OPEN(AT_FDCWD, path); }
int open64(const char *path, int flags, ...) { OPEN(AT_FDCWD, path); }
int openat(int directory, const char *path, int flags, ...) { OPEN(directory, path); }
int openat64(int directory, const char *path, int flags, ...) { OPEN(directory, path); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int mkdirat(int directory, const char *path, mode_t mode) {
    char whole[PATH_MAX];
    const char *name = log_fd < 0 ? NULL : below(absolute(directory, path, whole));
    if (!name) {
        return syscall(SYS_mkdirat, directory, path, mode);
    }
    pthread_mutex_lock(&lock);
    struct stat seen;
    int error = fault(NAMES, name);
    int result = error ? refuse(error < 0 ? EIO : error) : syscall(SYS_mkdirat, directory, path, mode);
    int after = errno;
    if (result == 0 && fstatat(directory, path, &seen, 0) == 0) {
        put(MAKE, name, strlen(name), seen.st_ino, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = after;
    return result;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int unlinkat(int directory, const char *path, int flags) {
    char whole[PATH_MAX];
    const char *name = log_fd < 0 ? NULL : below(absolute(directory, path, whole));
    if (!name || is_unrecorded(name)) {
        return syscall(SYS_unlinkat, directory, path, flags);
    }
    pthread_mutex_lock(&lock);
    int error = fault(NAMES, name);
    int result = error ? refuse(error < 0 ? EIO : error) : syscall(SYS_unlinkat, directory, path, flags);
    int after = errno;
    if (result == 0) {
        put(REMOVE, name, strlen(name), 0, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = after;
    return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int result = unlink(path);
    return result != 0 && errno == EISDIR ? rmdir(path) : result;
}

int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
    char from_whole[PATH_MAX], to_whole[PATH_MAX], both[2 * PATH_MAX];
    const char *from_name = log_fd < 0 ? NULL : below(absolute(from_directory, from, from_whole));
    const char *to_name = log_fd < 0 ? NULL : below(absolute(to_directory, to, to_whole));
    if (!from_name && !to_name) {
        return syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    }
    if (!from_name || !to_name || flags & ~RENAME_NOREPLACE) {
        give_up("a rename across the directory's edge is not recorded", from);
    }
    pthread_mutex_lock(&lock);
    int error = fault(NAMES, from_name);
    int result = error ? refuse(error < 0 ? EIO : error)
                       : syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    int after = errno;
    if (result == 0) {
        size_t length = snprintf(both, sizeof both, "%s%c%s", from_name, 0, to_name);
        put(RENAME, both, length, 0, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = after;
    return result;
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return renameat2(from_directory, from, to_directory, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    char whole[PATH_MAX];
    if (below(absolute(to_directory, to, whole))) {
        give_up("links are not recorded", to);
    }
    return syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlinkat(const char *from, int directory, const char *to) {
    char whole[PATH_MAX];
    if (below(absolute(directory, to, whole))) {
        give_up("links are not recorded", to);
    }
    return syscall(SYS_symlinkat, from, directory, to);
}
int symlink(const char *from, const char *to) { return symlinkat(from, AT_FDCWD, to); }

/* One sync: what was recorded before it began is covered once it has come back. */
static int sync_file(int fd, long number) {
    char path[PATH_MAX];
    struct stat seen;
    const char *name = file_of(fd, path, &seen);
    if (!name) {
        return syscall(number, fd);
    }
    pthread_mutex_lock(&lock);
    int64_t covers = recorded;
    int error = fault(SYNCS, name);
    pthread_mutex_unlock(&lock);
    struct timespec left = {0, sync_us * 1000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&lock);
    put(error ? SYNC_FAILED : SYNC, name, strlen(name), seen.st_ino, covers, NULL, 0);
    pthread_mutex_unlock(&lock);
    return error ? refuse(error < 0 ? EIO : error) : 0;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

/* Promises nothing: it writes neither the file's size nor the disk's own cache. */
int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags) {
    return syscall(SYS_sync_file_range, fd, offset, bytes, flags);
}

static void *map(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    char path[PATH_MAX];
    struct stat seen;
    if (log_fd >= 0 && fd >= 0 && (flags & MAP_TYPE) != MAP_PRIVATE && protection & PROT_WRITE &&
        file_of(fd, path, &seen)) {
        give_up("a shared writable mapping is not recorded", path);
    }
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    return map(address, length, protection, flags, fd, offset);
}
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    return map(address, length, protection, flags, fd, offset);
}
