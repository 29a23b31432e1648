/*
 * Owns the smallest process that can prove the shim: it syncs a file and acknowledges on a socket, in the order that
 * its arguments say, and prints what each call returned. It must not know the shim.
 *
 *   probe FILE STEP…     STEP: fsync, fdatasync, range, write, send, sendto, writev, sendmsg, or wait (for a line)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static char answer[] = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

static long acknowledge(int fd, const char *how) {
    struct iovec parts[2] = {{answer, 20}, {answer + 20, sizeof answer - 21}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (strcmp(how, "write") == 0) {
        return write(fd, answer, sizeof answer - 1);
    }
    if (strcmp(how, "send") == 0) {
        return send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
    }
    if (strcmp(how, "sendto") == 0) {
        return sendto(fd, answer, sizeof answer - 1, MSG_NOSIGNAL, NULL, 0);
    }
    if (strcmp(how, "writev") == 0) {
        return writev(fd, parts, 2);
    }
    if (strcmp(how, "sendmsg") == 0) {
        return sendmsg(fd, &message, MSG_NOSIGNAL);
    }
    errno = EINVAL;
    return -1;
}

int main(int count, char **arguments) {
    int sockets[2];
    char line[16];
    int file = count > 1 ? open(arguments[1], O_WRONLY | O_CREAT, 0644) : -1;
    if (file < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) {
        return 2;
    }
    for (int i = 2; i < count; i++) {
        const char *step = arguments[i];
        long result;
        errno = 0;
        if (strcmp(step, "fsync") == 0) {
            result = fsync(file);
        } else if (strcmp(step, "fdatasync") == 0) {
            result = fdatasync(file);
        } else if (strcmp(step, "range") == 0) {
            result = sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
        } else if (strcmp(step, "wait") == 0) {
            result = read(STDIN_FILENO, line, sizeof line) > 0 ? 0 : -1;
        } else {
            result = acknowledge(sockets[0], step);
        }
        printf("%s %ld %d\n", step, result, result < 0 ? errno : 0);
        fflush(stdout);
    }
    return 0;
}
