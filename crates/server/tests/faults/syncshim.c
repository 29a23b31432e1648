/*
 * Owns the faults that tests put between a process and its disk, and the record of what came first: a sync or an
 * acknowledgement. Loaded by LD_PRELOAD, it stands in front of fsync, fdatasync, sync_file_range and of the calls
 * that write to a socket. It must not know Hookfast: it sees file descriptors and the first bytes of buffers.
 *
 * Settings, by environment, and one per line in lower case without the prefix in the control file
 * (`delay_ms=50`), whose word counts more. The counts behind `N` start anew whenever the control file changes.
 *
 *   SYNCSHIM_CONTROL=FILE     looked at before every call; replace it by rename
 *   SYNCSHIM_MATCH=WORD       only syncs of files whose path contains WORD
 *   SYNCSHIM_DELAY_MS=N       each sync takes N ms longer
 *   SYNCSHIM_FAIL=1           each sync fails and nothing is synced
 *   SYNCSHIM_FAIL=after:N     each sync after the first N fails
 *   SYNCSHIM_FAIL=nth:N       only the N-th sync fails
 *   SYNCSHIM_ERRNO=N          with this error; EIO where it is not given
 *   SYNCSHIM_KILL_SYNC=N      SIGKILL to the own process instead of the N-th sync
 *   SYNCSHIM_KILL_ACK=N       SIGKILL to the own process instead of the N-th acknowledgement
 *   SYNCSHIM_LOG=FILE         append a line per sync, after it returned, and per acknowledgement, before it is sent:
 *                               NANOSECONDS THREAD sync CALL RESULT PATH
 *                               NANOSECONDS THREAD ack STATUS LOCAL_PORT
 *                             RESULT is ok or an error's number; an acknowledgement is a buffer that begins with
 *                             `HTTP/1.1 200` or `HTTP/1.1 202`; the clock is CLOCK_MONOTONIC.
 *
 * The real calls are made by syscall(2), so nothing has to be looked up and no call can come too early.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum fail_kind { FAIL_NEVER, FAIL_ALWAYS, FAIL_AFTER, FAIL_NTH };

struct settings {
    char match[256];
    long delay_ms;
    enum fail_kind fail;
    long fail_count;
    int error;
    long kill_sync;
    long kill_ack;
};

static const char *const NAMES[] = {"match", "delay_ms", "fail", "errno", "kill_sync", "kill_ack"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct settings from_environment;
static struct settings current;
static struct stat control_seen;
static int control_known;
static long syncs;
static long acks;
static char control_path[PATH_MAX];
static char log_path[PATH_MAX];

/* Sets one value by its name; a name or a value that is not known ends the process, so that no test runs in vain. */
static void set(struct settings *settings, const char *name, const char *value) {
    if (strcmp(name, "match") == 0) {
        snprintf(settings->match, sizeof settings->match, "%s", value);
    } else if (strcmp(name, "delay_ms") == 0) {
        settings->delay_ms = atol(value);
    } else if (strcmp(name, "errno") == 0) {
        settings->error = atoi(value);
    } else if (strcmp(name, "kill_sync") == 0) {
        settings->kill_sync = atol(value);
    } else if (strcmp(name, "kill_ack") == 0) {
        settings->kill_ack = atol(value);
    } else if (strcmp(name, "fail") == 0 && (value[0] == '\0' || strcmp(value, "0") == 0)) {
        settings->fail = FAIL_NEVER;
    } else if (strcmp(name, "fail") == 0 && strcmp(value, "1") == 0) {
        settings->fail = FAIL_ALWAYS;
    } else if (strcmp(name, "fail") == 0 && strncmp(value, "after:", 6) == 0) {
        settings->fail = FAIL_AFTER;
        settings->fail_count = atol(value + 6);
    } else if (strcmp(name, "fail") == 0 && strncmp(value, "nth:", 4) == 0) {
        settings->fail = FAIL_NTH;
        settings->fail_count = atol(value + 4);
    } else {
        dprintf(STDERR_FILENO, "syncshim: cannot take %s=%s\n", name, value);
        abort();
    }
}

static void read_environment(struct settings *settings) {
    char variable[64];
    memset(settings, 0, sizeof *settings);
    settings->error = EIO;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        int at = snprintf(variable, sizeof variable, "SYNCSHIM_");
        for (const char *c = NAMES[i]; *c; c++) {
            variable[at++] = *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c;
        }
        variable[at] = '\0';
        const char *value = getenv(variable);
        if (value) {
            set(settings, NAMES[i], value);
        }
    }
}

static void read_control(struct settings *settings) {
    FILE *file = fopen(control_path, "re");
    char line[512];
    if (!file) {
        return;
    }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = '\0';
        char *equals = strchr(line, '=');
        if (equals) {
            *equals = '\0';
            set(settings, line, equals + 1);
        }
    }
    fclose(file);
}

__attribute__((constructor)) static void start(void) {
    const char *control = getenv("SYNCSHIM_CONTROL");
    const char *log = getenv("SYNCSHIM_LOG");
    snprintf(control_path, sizeof control_path, "%s", control ? control : "");
    snprintf(log_path, sizeof log_path, "%s", log ? log : "");
    read_environment(&from_environment);
    current = from_environment;
}

/* Reads the control file again if it is another than the one seen last. Called with the lock held. */
static void refresh(void) {
    struct stat seen;
    if (!control_path[0]) {
        return;
    }
    int known = stat(control_path, &seen) == 0;
    if (known == control_known &&
        (!known || (seen.st_ino == control_seen.st_ino && seen.st_size == control_seen.st_size &&
                    seen.st_mtim.tv_sec == control_seen.st_mtim.tv_sec &&
                    seen.st_mtim.tv_nsec == control_seen.st_mtim.tv_nsec))) {
        return;
    }
    control_known = known;
    if (known) {
        control_seen = seen;
    }
    current = from_environment;
    read_control(&current);
    syncs = 0;
    acks = 0;
}

static void write_log(const char *line, size_t length) {
    if (!log_path[0]) {
        return;
    }
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || syscall(SYS_write, fd, line, length) != (long)length) {
        dprintf(STDERR_FILENO, "syncshim: cannot write to %s\n", log_path);
        abort();
    }
    close(fd);
}

static int head_of_line(char *line, size_t size) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return snprintf(line, size, "%lld %ld ", (long long)now.tv_sec * 1000000000LL + now.tv_nsec,
                    (long)syscall(SYS_gettid));
}

static void path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    path[length < 0 ? 0 : length] = '\0';
}

static int fails(const struct settings *settings, long count) {
    switch (settings->fail) {
    case FAIL_ALWAYS:
        return 1;
    case FAIL_AFTER:
        return count > settings->fail_count;
    case FAIL_NTH:
        return count == settings->fail_count;
    case FAIL_NEVER:
        break;
    }
    return 0;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

static void wait_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (ms > 0 && nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* One sync: decides, waits, makes the call `number` or refuses it, and records the result. */
static int sync_call(const char *name, int fd, long number, long a, long b, long c) {
    char path[PATH_MAX];
    char line[PATH_MAX + 128];
    path_of(fd, path, sizeof path);
    pthread_mutex_lock(&lock);
    refresh();
    struct settings settings = current;
    int matches = strstr(path, settings.match) != NULL;
    long count = matches ? ++syncs : 0;
    pthread_mutex_unlock(&lock);

    if (matches && settings.kill_sync > 0 && count == settings.kill_sync) {
        die();
    }
    if (matches) {
        wait_ms(settings.delay_ms);
    }
    int error = 0;
    if (matches && fails(&settings, count)) {
        error = settings.error;
    } else if (syscall(number, fd, a, b, c) != 0) {
        error = errno;
    }
    int length = head_of_line(line, sizeof line);
    if (error) {
        length += snprintf(line + length, sizeof line - length, "sync %s %d %s\n", name, error, path);
    } else {
        length += snprintf(line + length, sizeof line - length, "sync %s ok %s\n", name, path);
    }
    write_log(line, length);
    errno = error;
    return error ? -1 : 0;
}

int fsync(int fd) { return sync_call("fsync", fd, SYS_fsync, 0, 0, 0); }

int fdatasync(int fd) { return sync_call("fdatasync", fd, SYS_fdatasync, 0, 0, 0); }

int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags) {
    return sync_call("sync_file_range", fd, SYS_sync_file_range, offset, bytes, flags);
}

static int local_port(int fd) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
        return 0;
    }
    if (address.ss_family == AF_INET) {
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    }
    if (address.ss_family == AF_INET6) {
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    }
    return 0;
}

/* Records that an acknowledgement is about to leave, if this buffer is one. */
static void see(int fd, const void *buffer, size_t length) {
    char line[128];
    if (length < 12 || (memcmp(buffer, "HTTP/1.1 200", 12) != 0 && memcmp(buffer, "HTTP/1.1 202", 12) != 0)) {
        return;
    }
    int before = errno;
    pthread_mutex_lock(&lock);
    refresh();
    long kill_ack = current.kill_ack;
    long count = ++acks;
    pthread_mutex_unlock(&lock);
    if (kill_ack > 0 && count == kill_ack) {
        die();
    }
    int at = head_of_line(line, sizeof line);
    at += snprintf(line + at, sizeof line - at, "ack %.3s %d\n", (const char *)buffer + 9, local_port(fd));
    write_log(line, at);
    errno = before;
}

static void see_parts(int fd, const struct iovec *parts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (parts[i].iov_len > 0) {
            see(fd, parts[i].iov_base, parts[i].iov_len);
            return;
        }
    }
}

ssize_t write(int fd, const void *buffer, size_t length) {
    see(fd, buffer, length);
    return syscall(SYS_write, fd, buffer, length);
}

ssize_t send(int fd, const void *buffer, size_t length, int flags) {
    see(fd, buffer, length);
    return syscall(SYS_sendto, fd, buffer, length, flags, NULL, 0);
}

ssize_t sendto(int fd, const void *buffer, size_t length, int flags, const struct sockaddr *to, socklen_t size) {
    see(fd, buffer, length);
    return syscall(SYS_sendto, fd, buffer, length, flags, to, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    see_parts(fd, parts, count > 0 ? count : 0);
    return syscall(SYS_writev, fd, parts, count);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    see_parts(fd, message->msg_iov, message->msg_iovlen);
    return syscall(SYS_sendmsg, fd, message, flags);
}
