/* What the kernel takes for a request: reads whatever arrives and answers each piece with the same bytes, unparsed.
 * One thread, edge-triggered, a system call to read and one to write: no server on this interface can be cheaper.
 *
 *     floor PORT FILE [close]
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DESCRIPTORS = 65536, EVENTS = 256, BUFFER = 65536 };

static char *response;
static size_t length;
static int closes;
/* What each connection has not been sent yet. */
static size_t missing[DESCRIPTORS];
static char buffer[BUFFER];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        fail(path);
    length = (size_t)ftell(file);
    response = malloc(length);
    rewind(file);
    if (response == NULL || fread(response, 1, length, file) != length)
        fail(path);
    fclose(file);
}

static int listening(int port) {
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(door, (struct sockaddr *)&address, sizeof address) != 0 || listen(door, 2048) != 0)
        fail("listen");
    return door;
}

static void accept_all(int door, int poller) {
    int connection;
    int yes = 1;
    while ((connection = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = connection};
        if (connection >= DESCRIPTORS) {
            close(connection);
            continue;
        }
        missing[connection] = 0;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(poller, EPOLL_CTL_ADD, connection, &event);
    }
}

/* Whether the connection lives on. */
static int send_missing(int connection) {
    while (missing[connection] > 0) {
        ssize_t sent = send(connection, response + length - missing[connection], missing[connection], MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        missing[connection] -= (size_t)sent;
    }
    return !closes;
}

static int answer(int connection, unsigned events) {
    ssize_t received;
    if (missing[connection] > 0 && !send_missing(connection))
        return 0;
    if (!(events & EPOLLIN))
        return 1;
    do {
        received = recv(connection, buffer, sizeof buffer, 0);
        if (received == 0)
            return 0;
        if (received < 0)
            return errno == EAGAIN || errno == EINTR;
        missing[connection] = length;
        if (!send_missing(connection))
            return 0;
    } while (received == sizeof buffer || events & EPOLLRDHUP);
    return 1;
}

int main(int count, char **arguments) {
    static struct epoll_event events[EVENTS];
    if (count < 3) {
        fputs("usage: floor PORT FILE [close]\n", stderr);
        return 1;
    }
    load(arguments[2]);
    closes = count > 3;
    int door = listening(atoi(arguments[1]));
    int poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = door};
    epoll_ctl(poller, EPOLL_CTL_ADD, door, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int index = 0; index < ready; index++) {
            if (events[index].data.fd == door)
                accept_all(door, poller);
            else if (!answer(events[index].data.fd, events[index].events))
                close(events[index].data.fd);
        }
    }
}
