/*
 * loadgen: load for an echo server, from one thread on Linux epoll.
 *
 *     loadgen HOST PORT CONNECTIONS INFLIGHT SIZE SECONDS [int32|line|amp] [WARMUP_SECONDS [MAX_MESSAGES]]
 *
 * Opens CONNECTIONS to HOST (an IPv4 address of this machine), keeps INFLIGHT messages of SIZE bytes under way on each,
 * and prints one line of JSON. A SIZE as 1-128 mixes messages of 1 to 128 bytes: each length is drawn by itself, with a
 * fixed seed, so that each run has the same ones. Messages carry a 4-byte big-endian length before them ("int32"), or a line feed after
 * them ("line"), or are the argument `data` of AMP's command Echo ("amp"; up to 65,535 bytes).
 *
 * What is sent on a connection is one ring of frames, over and over, each frame with its own content; so what an echo
 * sends back is that same ring (of AMP's answers, with the same content), and every byte of it is compared. A reply that is short, long, late, changed, doubled,
 * or out of its order is an error, and the first error of a connection ends it.
 *
 * It stops by itself: when SECONDS are over, when MAX_MESSAGES were counted, when nothing comes back for STALL_SECONDS,
 * or, whatever happens, by an alarm. No number may go above its limit below. Exit code: 0, or 1 with errors, or 2 for a
 * wrong command line or a connection that could not be opened.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 5000
#define MAX_INFLIGHT 65536
#define MAX_SIZE (16 * 1024 * 1024)
#define MAX_HEAD 64 /* bytes around a message */
#define MAX_AMP 65535 /* its lengths have two bytes */
#define MAX_SECONDS 60.0
#define MAX_MESSAGES UINT64_C(1000000000)
#define MAX_RING (256u * 1024 * 1024)

#define MIXED 1024             /* frames of a ring of mixed lengths, at least: a guess from the last lengths is of no use */
#define SEED UINT64_C(0x9E3779B97F4A7C15) /* any number but 0 */

#define STALL_SECONDS 3.0    /* a server that answers nothing for this long has lost a message */
#define ACCEPT_SECONDS 20.0  /* a server that has not answered on each connection by then is measured as it is */
#define READ_BYTES (64 * 1024) /* what Twisted reads at once, so that neither side sees larger pieces */
#define EVENTS 512
#define SECOND 1000000000ull

/* Latencies are counted in buckets 1/32 of their power of two wide: 3 % at the worst, nanoseconds to hours. */
#define SUB_BITS 5
#define BUCKETS (64 << SUB_BITS)

struct connection {
    int fd;
    bool waits_to_write;
    uint64_t queued, sent, received; /* bytes since the connection was opened */
    uint64_t replies, asked;         /* whole messages */
    uint64_t *stamps;                /* when message n was queued, at n % inflight */
};

static struct {
    const char *host;
    long port, connections, inflight, size, largest, frames;
    double seconds, warmup;
    uint64_t max_messages;
    const char *framing;
} want;

static struct {
    uint64_t messages, errors, began, ended;
    uint64_t answered; /* with those of the warm-up and the end, which are not timed */
    uint64_t latency[BUCKETS];
    bool counting;
} found;

/* What is sent, and what comes back: frames, over and over. */
struct frames {
    uint64_t *ends; /* where each frame of the ring ends */
    uint64_t ring_bytes;
    unsigned char *ring; /* two turns of it, so that any one turn lies in one piece */
};

static struct frames request, reply;
static int poller;
static long alive, silent; /* connections, and those of them that have had no reply yet */

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void usage(const char *problem) {
    fprintf(stderr,
            "loadgen: %s\n"
            "usage: loadgen HOST PORT CONNECTIONS INFLIGHT SIZE SECONDS [int32|line|amp] [WARMUP_SECONDS [MAX_MESSAGES]]\n",
            problem);
    exit(2);
}

static void give_up(const char *what) {
    fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double number(const char *text, const char *name, double least, double most) {
    char *end, problem[128];
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most)) {
        snprintf(problem, sizeof problem, "%s: takes a number from %g to %g", name, least, most);
        usage(problem);
    }
    return value;
}

static bool framed(const char *name) {
    return !strcmp(want.framing, name);
}

static void read_size(char *text) {
    char *dash = strchr(text, '-');
    if (dash)
        *dash = 0;
    want.size = want.largest = (long)number(text, "SIZE", 1, MAX_SIZE);
    want.frames = want.inflight;
    if (!dash)
        return;
    want.largest = (long)number(dash + 1, "SIZE", (double)want.size, MAX_SIZE);
    while (want.frames < MIXED)
        want.frames += want.inflight;
}

static void read_options(int argc, char **argv) {
    struct in_addr address;
    if (argc < 7 || argc > 10)
        usage("takes 6 to 9 arguments");
    want.host = argv[1];
    if (inet_pton(AF_INET, want.host, &address) != 1 || (ntohl(address.s_addr) >> 24) != 127)
        usage("HOST: takes an IPv4 loopback address, as 127.0.0.1");
    want.port = (long)number(argv[2], "PORT", 1, 65535);
    want.connections = (long)number(argv[3], "CONNECTIONS", 1, MAX_CONNECTIONS);
    want.inflight = (long)number(argv[4], "INFLIGHT", 1, MAX_INFLIGHT);
    read_size(argv[5]);
    want.seconds = number(argv[6], "SECONDS", 0.01, MAX_SECONDS);
    want.framing = argc > 7 ? argv[7] : "int32";
    if (!framed("int32") && !framed("line") && !framed("amp"))
        usage("the framing: takes int32, line or amp");
    if (framed("amp") && want.largest > MAX_AMP)
        usage("SIZE: takes 1 to 65535 with amp");
    want.warmup = argc > 8 ? number(argv[8], "WARMUP_SECONDS", 0, MAX_SECONDS) : 0.3;
    want.max_messages = argc > 9 ? (uint64_t)number(argv[9], "MAX_MESSAGES", 1, (double)MAX_MESSAGES) : MAX_MESSAGES;
}

/* The writers of a frame return where it goes on. */
static unsigned char *put(unsigned char *at, const char *bytes, size_t count) {
    memcpy(at, bytes, count);
    return at + count;
}

static unsigned char *put_number(unsigned char *at, uint64_t value, int width) {
    for (int i = width - 1; i >= 0; i--)
        *at++ = (unsigned char)(value >> (8 * i));
    return at;
}

/* A key and its value, as AMP writes them: each behind a length of two bytes. */
static unsigned char *put_pair(unsigned char *at, const char *key, const char *value) {
    at = put(put_number(at, strlen(key), 2), key, strlen(key));
    return put(put_number(at, strlen(value), 2), value, strlen(value));
}

static unsigned char *put_head(unsigned char *at, long size, bool asks) {
    if (framed("int32"))
        return put_number(at, (uint64_t)size, 4);
    if (framed("line"))
        return at;
    at = put_pair(at, asks ? "_ask" : "_answer", "1"); /* answers come in order: one number is enough */
    if (asks)
        at = put_pair(at, "_command", "Echo");
    return put_number(put(put_number(at, 4, 2), "data", 4), (uint64_t)size, 2);
}

static unsigned char *put_end(unsigned char *at) {
    if (framed("line"))
        return put(at, "\n", 1);
    return framed("amp") ? put_number(at, 0, 2) : at;
}

/* A message: its number in letters, again and again; never a line feed, so that lines may hold it. */
static unsigned char *put_message(unsigned char *at, long size, uint32_t index) {
    for (long i = 0; i < size; i++)
        at[i] = (unsigned char)('a' + ((index >> (4 * (i % 8))) + (uint32_t)i / 8) % 16);
    return at + size;
}

/* The next length, from a xorshift generator. */
static long next_size(uint64_t *state) {
    if (want.largest == want.size)
        return want.size;
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return want.size + (long)((*state >> 16) % (uint64_t)(want.largest - want.size + 1));
}

static void make_ring(struct frames *f, bool asks) {
    uint64_t state = SEED, most = (uint64_t)want.frames * (MAX_HEAD + (uint64_t)want.largest);
    if (most > MAX_RING)
        usage("INFLIGHT times SIZE: takes 256 MiB at most");
    f->ring = malloc(2 * most);
    f->ends = calloc((size_t)want.frames, sizeof *f->ends);
    if (!f->ring || !f->ends)
        give_up("memory");
    unsigned char *at = f->ring;
    for (long i = 0; i < want.frames; i++) {
        long size = next_size(&state);
        at = put_end(put_message(put_head(at, size, asks), size, (uint32_t)i));
        f->ends[i] = (uint64_t)(at - f->ring);
    }
    f->ring_bytes = f->ends[want.frames - 1];
    memcpy(at, f->ring, f->ring_bytes);
}

/* Where the first `count` frames end. */
static uint64_t end_of(const struct frames *f, uint64_t count) {
    uint64_t turns = count / (uint64_t)want.frames, rest = count % (uint64_t)want.frames;
    return turns * f->ring_bytes + (rest ? f->ends[rest - 1] : 0);
}

/* How many frames are whole in these bytes. */
static uint64_t whole(const struct frames *f, uint64_t bytes) {
    uint64_t turns = bytes / f->ring_bytes, rest = bytes % f->ring_bytes;
    long low = 0, high = want.frames - 1; /* the first frame that ends behind the rest is between them */
    while (low < high) {
        long middle = (low + high) / 2;
        if (f->ends[middle] > rest)
            high = middle;
        else
            low = middle + 1;
    }
    return turns * (uint64_t)want.frames + (uint64_t)low;
}

/* How many frames these bytes are a part of. */
static uint64_t begun(const struct frames *f, uint64_t bytes) {
    uint64_t count = whole(f, bytes);
    return count + (end_of(f, count) < bytes);
}

/* ---- latencies ---- */

static unsigned bucket_of(uint64_t ns) {
    if (ns < (1u << SUB_BITS))
        return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return ((shift + 1) << SUB_BITS) + (unsigned)((ns >> shift) & ((1u << SUB_BITS) - 1));
}

static double middle_of(unsigned bucket) {
    if (bucket < (1u << SUB_BITS))
        return bucket;
    unsigned shift = (bucket >> SUB_BITS) - 1;
    uint64_t low = (uint64_t)((1u << SUB_BITS) + (bucket & ((1u << SUB_BITS) - 1))) << shift;
    return (double)low + (double)(UINT64_C(1) << shift) / 2;
}

/* The latency, in microseconds, that `share` of the messages did not exceed. */
static double percentile(double share) {
    uint64_t rank = (uint64_t)(share * (double)found.messages), seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += found.latency[i];
        if (seen > rank)
            return middle_of(i) / 1000.0;
    }
    return 0;
}

/* ---- one connection ---- */

static void fail(struct connection *c, const char *why) {
    if (!found.errors++)
        fprintf(stderr, "loadgen: %s\n", why);
    close(c->fd);
    c->fd = -1;
    alive--;
    silent -= !c->replies;
}

static void watch(struct connection *c, int operation, bool writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0u), .data.ptr = c};
    c->waits_to_write = writing;
    if (epoll_ctl(poller, operation, c->fd, &event))
        give_up("epoll_ctl");
}

static void flush(struct connection *c) {
    while (c->sent < c->queued) {
        ssize_t n = send(c->fd, request.ring + c->sent % request.ring_bytes, c->queued - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            fail(c, "the server closed a connection");
            return;
        }
        c->sent += (uint64_t)n;
    }
    if (c->waits_to_write != (c->sent < c->queued))
        watch(c, EPOLL_CTL_MOD, c->sent < c->queued);
}

static void ask(struct connection *c, uint64_t messages, uint64_t at) {
    for (uint64_t i = 0; i < messages; i++)
        c->stamps[c->asked++ % (uint64_t)want.inflight] = at;
    c->queued = end_of(&request, c->asked);
    flush(c);
}

static bool is_next(const struct connection *c, const unsigned char *bytes, uint64_t length) {
    if (begun(&reply, c->received + length) > begun(&request, c->sent))
        return false;
    for (uint64_t done = 0; done < length;) {
        uint64_t at = (c->received + done) % reply.ring_bytes;
        uint64_t piece = length - done < reply.ring_bytes - at ? length - done : reply.ring_bytes - at;
        if (memcmp(reply.ring + at, bytes + done, piece))
            return false;
        done += piece;
    }
    return true;
}

static void count(struct connection *c, uint64_t replies, uint64_t at) {
    silent -= replies && !c->replies;
    for (uint64_t i = 0; i < replies; i++, c->replies++)
        if (found.counting)
            found.latency[bucket_of(at - c->stamps[c->replies % (uint64_t)want.inflight])]++;
    found.answered += replies;
    if (found.counting)
        found.messages += replies;
}

/* Read once, check, count what is whole; ask as much again, if `more`. */
static void readable(struct connection *c, bool more) {
    static unsigned char chunk[READ_BYTES];
    ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        fail(c, "the server closed a connection");
        return;
    }
    if (!is_next(c, chunk, (uint64_t)n)) {
        fail(c, "a reply is not what was sent");
        return;
    }
    c->received += (uint64_t)n;
    uint64_t replies = whole(&reply, c->received) - c->replies, at = now();
    count(c, replies, at);
    if (more && replies)
        ask(c, replies, at);
}

static void open_connection(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)want.port)};
    int on = 1;
    inet_pton(AF_INET, want.host, &address.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->stamps = calloc((size_t)want.inflight, sizeof *c->stamps);
    if (c->fd < 0 || !c->stamps || connect(c->fd, (struct sockaddr *)&address, sizeof address))
        give_up("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK))
        give_up("fcntl");
    watch(c, EPOLL_CTL_ADD, false);
    alive++;
    silent++;
}

/* ---- the run ---- */

/* Serve events for up to 50 ms; returns how many there were. */
static int turn(bool more) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(poller, events, EVENTS, 50);
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->fd >= 0 && events[i].events & EPOLLOUT)
            flush(c);
        if (c->fd >= 0 && events[i].events & ~(uint32_t)EPOLLOUT)
            readable(c, more);
    }
    return n;
}

/* Keep the load up until `deadline`, the message limit, or a stall; returns whether to go on. */
static bool run_until(uint64_t deadline) {
    uint64_t last_event = now();
    for (uint64_t at = last_event; at < deadline; at = now()) {
        if (!alive || found.messages >= want.max_messages)
            return false;
        if (turn(true) > 0) {
            last_event = at;
        } else if (at - last_event > STALL_SECONDS * SECOND) {
            found.errors++;
            fprintf(stderr, "loadgen: the server stopped answering\n");
            return false;
        }
    }
    return true;
}

/* Keep the load up until each connection has had a reply: accepting a thousand of them is no part of the figures. */
static bool run_until_accepted(void) {
    uint64_t deadline = now() + (uint64_t)(ACCEPT_SECONDS * SECOND);
    while (silent > 0 && now() < deadline)
        if (!run_until(now() + SECOND / 200))
            return false;
    return true;
}

/* Take what is still under way; what does not come is lost, and an error. */
static void settle(struct connection *all) {
    uint64_t deadline = now() + (uint64_t)(STALL_SECONDS * SECOND);
    bool missing = true;
    while (missing && now() < deadline) {
        missing = false;
        for (long i = 0; i < want.connections; i++)
            missing |= all[i].fd >= 0 && all[i].replies < all[i].asked;
        if (missing)
            turn(false);
    }
    for (long i = 0; i < want.connections; i++)
        if (all[i].fd >= 0 && all[i].replies < all[i].asked)
            fail(&all[i], "replies are missing");
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Seconds this process was ready to run and had to wait for its processor; 0 where the kernel does not tell. */
static double waited_seconds(void) {
    unsigned long long used = 0, waited = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (!file || fscanf(file, "%llu %llu", &used, &waited) != 2)
        waited = 0;
    if (file)
        fclose(file);
    return (double)waited / SECOND;
}

static void report(double cpu, double waited) {
    double seconds = (double)(found.ended - found.began) / SECOND;
    printf("{\"connections\": %ld, \"inflight\": %ld, \"size\": %ld, \"largest\": %ld, \"framing\": \"%s\", "
           "\"answered\": %llu, \"messages\": %llu, \"seconds\": %.6f, \"messages_per_second\": %.1f, "
           "\"p50_us\": %.2f, \"p99_us\": %.2f, \"loadgen_cpu\": %.3f, \"loadgen_waited\": %.3f, \"errors\": %llu}\n",
           want.connections, want.inflight, want.size, want.largest, want.framing,
           (unsigned long long)found.answered, (unsigned long long)found.messages, seconds,
           seconds > 0 ? (double)found.messages / seconds : 0.0,
           percentile(0.50), percentile(0.99), seconds > 0 ? cpu / seconds : 0.0, seconds > 0 ? waited / seconds : 0.0,
           (unsigned long long)found.errors);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    make_ring(&request, true);
    make_ring(&reply, false);
    alarm((unsigned)(ACCEPT_SECONDS + want.warmup + want.seconds + 4 * STALL_SECONDS) + 10);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc((size_t)want.connections, sizeof *all);
    if (poller < 0 || !all)
        give_up("epoll");
    for (long i = 0; i < want.connections; i++)
        open_connection(&all[i]);
    for (long i = 0; i < want.connections; i++)
        ask(&all[i], (uint64_t)want.inflight, now());

    bool going = run_until_accepted() && run_until(now() + (uint64_t)(want.warmup * SECOND));
    double cpu = cpu_seconds(), waited = waited_seconds();
    found.counting = true;
    found.began = found.ended = now();
    if (going)
        run_until(found.began + (uint64_t)(want.seconds * SECOND));
    found.ended = now();
    cpu = cpu_seconds() - cpu;
    waited = waited_seconds() - waited;
    found.counting = false;
    settle(all);
    report(cpu, waited);
    return found.errors ? 1 : 0;
}
