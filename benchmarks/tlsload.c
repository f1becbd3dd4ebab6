/*
 * tlsload: load for an echo server with TLS, from one thread on Linux epoll and OpenSSL.
 *
 *     tlsload PORT CONNECTIONS SIZE SECONDS
 *
 * Opens CONNECTIONS to 127.0.0.1, keeps one message of SIZE bytes behind its 4-byte length under way on each, and prints
 * one line of JSON. Every reply is compared with what was sent; the first that differs is an error, and ends the run.
 * It stops when SECONDS are over, counted from when all handshakes are done, or by an alarm. No certificate is checked.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 1000
#define MAX_SIZE (1024 * 1024)
#define MAX_SECONDS 60.0
#define WARMUP 0.2

struct connection {
    SSL *ssl;
    size_t sent, came;
};

static unsigned char *frame, *room;
static size_t frame_bytes;
static unsigned long answered;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double used(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void fail(const char *what) {
    fprintf(stderr, "tlsload: %s\n", what);
    exit(1);
}

static int waits(SSL *ssl, int result) {
    int error = SSL_get_error(ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

/* Send what is left of the frame, then read what there is, and begin anew for as long as whole replies are there. */
static void go_on(struct connection *c) {
    for (;;) {
        while (c->sent < frame_bytes) {
            int n = SSL_write(c->ssl, frame + c->sent, (int)(frame_bytes - c->sent));
            if (n <= 0) {
                if (!waits(c->ssl, n)) fail("a connection broke while it was written to");
                break;
            }
            c->sent += (size_t)n;
        }
        int n = SSL_read(c->ssl, room, (int)(frame_bytes - c->came));
        if (n <= 0) {
            if (!waits(c->ssl, n)) fail("a connection broke while it was read");
            return;
        }
        if (memcmp(room, frame + c->came, (size_t)n)) fail("a reply was another than what was sent");
        c->came += (size_t)n;
        if (c->came == frame_bytes) {
            c->came = c->sent = 0;
            answered++;
        }
    }
}

static SSL *dial(SSL_CTX *context, int port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    inet_pton(AF_INET, "127.0.0.1", &where.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&where, sizeof where)) fail("a connection could not be opened");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1) fail("a handshake failed");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return ssl;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: tlsload PORT CONNECTIONS SIZE SECONDS\n");
        return 2;
    }
    long count = atol(argv[2]), size = atol(argv[3]);
    double seconds = atof(argv[4]);
    if (count < 1 || count > MAX_CONNECTIONS || size < 1 || size > MAX_SIZE || !(seconds > 0 && seconds <= MAX_SECONDS)) {
        fprintf(stderr, "tlsload: a number is out of its bounds\n");
        return 2;
    }
    alarm((unsigned)(seconds + 30));
    frame_bytes = (size_t)size + 4;
    frame = malloc(frame_bytes);
    room = malloc(frame_bytes);
    frame[0] = (unsigned char)(size >> 24), frame[1] = (unsigned char)(size >> 16);
    frame[2] = (unsigned char)(size >> 8), frame[3] = (unsigned char)size;
    for (long i = 0; i < size; i++) frame[4 + i] = (unsigned char)(i * 7 + 3);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    static struct connection made[MAX_CONNECTIONS];
    int poller = epoll_create1(0);
    for (long i = 0; i < count; i++) {
        made[i].ssl = dial(context, atoi(argv[1]));
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &made[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, SSL_get_fd(made[i].ssl), &event);
    }
    double began = now(), counted = began + WARMUP, cpu = 0;
    unsigned long before = 0;
    int counting = 0;
    for (double t = began; t < counted + seconds; t = now()) {
        if (!counting && t >= counted) counting = 1, counted = t, before = answered, cpu = used();
        struct epoll_event events[MAX_CONNECTIONS];
        int n = epoll_wait(poller, events, MAX_CONNECTIONS, 100);
        for (int i = 0; i < n; i++) go_on(events[i].data.ptr);
    }
    double took = now() - counted;
    printf("{\"messages_per_second\": %.1f, \"answered\": %lu, \"errors\": 0, \"loadgen_cpu\": %.3f}\n",
           (double)(answered - before) / took, answered, (used() - cpu) / took);
    return answered == before;
}
