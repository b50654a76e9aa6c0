/* A load generator for WebSocket echoes (RFC 6455): on each connection one message is on its way at any time.
 *
 *     websocket PORT CONNECTIONS SECONDS LENGTH
 *
 * Prints the number of echoes, those that differed from what was sent, and the latencies' median and 99th percentile in
 * microseconds. Ends with 1 if a handshake is refused or a connection is lost.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Lengths below 126 have a head of two bytes; a client's frame has a mask of four more. */
enum { CONNECTIONS = 1024, LONGEST = 125, HEAD = 2, MASK = 4, SLOTS = 1000000 };

struct connection {
    int socket;
    size_t received;
    uint64_t sent_at;
    unsigned char echo[HEAD + LONGEST];
};

static struct connection connections[CONNECTIONS];
static unsigned char message[LONGEST];
static unsigned char frame[HEAD + MASK + LONGEST];
static size_t length;
/* How many echoes took how many microseconds; the last slot is for all that took longer. */
static uint32_t latencies[SLOTS];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* A text frame of our own, with a mask that is as good as another: no proxy stands between. */
static void prepare(void) {
    static const unsigned char mask[MASK] = {0x12, 0x34, 0x56, 0x78};
    frame[0] = 0x81;
    frame[1] = (unsigned char)(0x80 | length);
    memcpy(frame + HEAD, mask, MASK);
    for (size_t index = 0; index < length; index++) {
        message[index] = (unsigned char)('a' + index % 26);
        frame[HEAD + MASK + index] = message[index] ^ mask[index % MASK];
    }
}

static void upgrade(struct connection *one, int port) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    char answer[4096];
    size_t received = 0;
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    one->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (one->socket < 0 || connect(one->socket, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    setsockopt(one->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (send(one->socket, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1)
        fail("send");
    /* By the byte: what comes behind the head is not ours to take. */
    while (received < 4 || memcmp(answer + received - 4, "\r\n\r\n", 4) != 0) {
        if (received == sizeof answer || recv(one->socket, answer + received, 1, 0) != 1)
            fail("handshake");
        received++;
    }
    if (memcmp(answer, "HTTP/1.1 101 ", 13) != 0) {
        fprintf(stderr, "the handshake was refused: %.*s\n", 30, answer);
        exit(1);
    }
}

static void ask(struct connection *one) {
    one->received = 0;
    one->sent_at = now();
    if (send(one->socket, frame, HEAD + MASK + length, MSG_NOSIGNAL) != (ssize_t)(HEAD + MASK + length))
        fail("send");
}

static uint32_t percentile(uint64_t count, unsigned percent) {
    uint64_t wanted = (count * percent + 99) / 100;
    uint64_t seen = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if ((seen += latencies[slot]) >= wanted)
            return slot;
    return SLOTS;
}

int main(int count, char **arguments) {
    static struct epoll_event events[CONNECTIONS];
    uint64_t echoes = 0;
    uint64_t wrong = 0;
    if (count != 5) {
        fputs("usage: websocket PORT CONNECTIONS SECONDS LENGTH\n", stderr);
        return 1;
    }
    int many = atoi(arguments[2]);
    length = (size_t)atoi(arguments[4]);
    if (many < 1 || many > CONNECTIONS || length < 1 || length > LONGEST) {
        fputs("1 to 1024 connections, messages of 1 to 125 bytes\n", stderr);
        return 1;
    }
    prepare();
    int poller = epoll_create1(0);
    for (int index = 0; index < many; index++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[index]};
        upgrade(&connections[index], atoi(arguments[1]));
        epoll_ctl(poller, EPOLL_CTL_ADD, connections[index].socket, &event);
    }
    uint64_t end = now() + (uint64_t)atoi(arguments[3]) * 1000000;
    for (int index = 0; index < many; index++)
        ask(&connections[index]);
    for (uint64_t time = now(); time < end; time = now()) {
        int ready = epoll_wait(poller, events, many, 100);
        for (int index = 0; index < ready; index++) {
            struct connection *one = events[index].data.ptr;
            ssize_t more = recv(one->socket, one->echo + one->received, HEAD + length - one->received, 0);
            if (more <= 0)
                fail("the server closed a connection");
            one->received += (size_t)more;
            if (one->received < HEAD + length)
                continue;
            uint64_t taken = now() - one->sent_at;
            latencies[taken < SLOTS ? taken : SLOTS - 1]++;
            echoes++;
            wrong += one->echo[0] != 0x81 || one->echo[1] != length || memcmp(one->echo + HEAD, message, length) != 0;
            ask(one);
        }
    }
    printf("%llu %llu %u %u\n", (unsigned long long)echoes, (unsigned long long)wrong, percentile(echoes, 50),
           percentile(echoes, 99));
    return 0;
}
