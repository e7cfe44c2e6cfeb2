/*
 * tests/bench/fake_ses.c - answers SES's and SQS's calls for as little CPU as possible, so that a
 * benchmark on two cores measures the sender and not its counterpart.
 *
 * fake_ses PORT   (loopback only). One thread, epoll. It believes everything: no signature, no JSON
 * is read. Bodies of SendEmail are thrown away in the kernel; those of SendBulkEmail are searched
 * for the mark that each entry holds once.
 *
 *   POST /v2/email/outbound-emails       one recipient, {"MessageId":…}
 *   POST /v2/email/outbound-bulk-emails  a result per entry
 *   GET  /v2/email/account               a rate and a quota that never bind
 *   POST /  (SQS)                        an empty answer, after WAIT_MS: a long poll
 *   GET  /_stats                         what was counted, as JSON; first and last send in ms of
 *                                        this process's monotonic clock
 *   POST /_reset                         counts from 0
 */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HEAD_MAX = 16 << 10,
    BODY_MAX = 4 << 20,
    ANSWER_MAX = 64 << 10,
    SKIP_BYTES = 1 << 20,
    CONNECTIONS_MAX = 2048,
    EVENTS = 64,
    WAIT_MS = 5000,
    TICK_MS = 500,
};

static const char entry_mark[] = "\"ReplacementTags\":";

enum call { CALL_SEND, CALL_BULK, CALL_ACCOUNT, CALL_STATS, CALL_RESET, CALL_QUEUE, CALL_OTHER };

struct connection {
    bool open;
    char head[HEAD_MAX + 1];
    size_t head_len;
    enum call call;  /* of the request whose body is being read */
    bool in_body;    /* its head has been read */
    size_t left;     /* of its body */
    uint64_t due_ms; /* QUEUE: when to answer; 0 = no answer is owed */
    size_t tail_len; /* BULK: of the last piece, for a mark that two pieces share */
    char tail[sizeof entry_mark];
    uint64_t entries;
};

static struct {
    uint64_t calls, bulk_calls, recipients, bytes, queue_calls;
    uint64_t first_ms, last_ms;
} counts;

static struct connection *connections[CONNECTIONS_MAX]; /* by descriptor */
static uint64_t last_id;
static char piece[SKIP_BYTES];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- answers ---- */

static void send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the other side has gone, or does not read: it will find out */
        bytes += sent;
        len -= (size_t)sent;
    }
}

static void answer(int fd, const char *body, size_t len)
{
    static char whole[ANSWER_MAX + 256];
    int head = snprintf(whole, sizeof whole,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                        "x-amzn-RequestId: 00000000-0000-4000-8000-000000000000\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        len);

    assert(head > 0 && (size_t)head + len <= sizeof whole);
    memcpy(whole + head, body, len);
    send_all(fd, whole, (size_t)head + len);
}

static size_t put_id(char *to, size_t room)
{
    int len = snprintf(to, room, "0100019a%08llx-0a1b2c3d-4e5f-6789-abcd-%012llx-000000",
                       (unsigned long long)last_id, (unsigned long long)last_id);

    last_id++;
    return (size_t)len;
}

static void count_send(uint64_t recipients)
{
    counts.recipients += recipients;
    counts.last_ms = now_ms();
    if (counts.first_ms == 0)
        counts.first_ms = counts.last_ms;
}

static void answer_bulk(int fd, uint64_t entries)
{
    static char body[ANSWER_MAX];
    size_t len = (size_t)snprintf(body, sizeof body, "{\"BulkEmailEntryResults\":[");

    for (uint64_t i = 0; i < entries && len + 256 < sizeof body; i++) {
        len += (size_t)snprintf(body + len, sizeof body - len,
                                "%s{\"Status\":\"SUCCESS\",\"MessageId\":\"", i > 0 ? "," : "");
        len += put_id(body + len, sizeof body - len);
        len += (size_t)snprintf(body + len, sizeof body - len, "\"}");
    }
    len += (size_t)snprintf(body + len, sizeof body - len, "]}");
    answer(fd, body, len);
}

static void answer_stats(int fd)
{
    struct rusage usage;
    char body[512];

    (void)getrusage(RUSAGE_SELF, &usage);
    uint64_t cpu_ms = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
                      (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
    int len = snprintf(body, sizeof body,
                       "{\"calls\":%llu,\"bulk_calls\":%llu,\"recipients\":%llu,\"bytes\":%llu,"
                       "\"queue_calls\":%llu,\"first_ms\":%llu,\"last_ms\":%llu,\"cpu_ms\":%llu}",
                       (unsigned long long)counts.calls, (unsigned long long)counts.bulk_calls,
                       (unsigned long long)counts.recipients, (unsigned long long)counts.bytes,
                       (unsigned long long)counts.queue_calls, (unsigned long long)counts.first_ms,
                       (unsigned long long)counts.last_ms, (unsigned long long)cpu_ms);
    answer(fd, body, (size_t)len);
}

static void answer_request(int fd, struct connection *c)
{
    static const char account[] =
        "{\"SendQuota\":{\"Max24HourSend\":-1.0,\"MaxSendRate\":1000000.0,\"SentLast24Hours\":0.0},"
        "\"SendingEnabled\":true,\"ProductionAccessEnabled\":true}";
    char body[256];
    size_t len;

    switch (c->call) {
    case CALL_SEND:
        counts.calls++;
        count_send(1);
        len = (size_t)snprintf(body, sizeof body, "{\"MessageId\":\"");
        len += put_id(body + len, sizeof body - len);
        len += (size_t)snprintf(body + len, sizeof body - len, "\"}");
        answer(fd, body, len);
        break;
    case CALL_BULK:
        counts.bulk_calls++;
        count_send(c->entries);
        answer_bulk(fd, c->entries);
        break;
    case CALL_ACCOUNT:
        answer(fd, account, sizeof account - 1);
        break;
    case CALL_STATS:
        answer_stats(fd);
        break;
    case CALL_RESET:
        memset(&counts, 0, sizeof counts);
        answer(fd, "{}", 2);
        break;
    case CALL_QUEUE:
        counts.queue_calls++;
        c->due_ms = now_ms() + WAIT_MS;
        break;
    case CALL_OTHER:
        answer(fd, "{}", 2);
        break;
    }
}

/* ---- requests ---- */

static void count_entries(struct connection *c, const char *at, size_t len)
{
    const size_t mark = sizeof entry_mark - 1;
    char seam[2 * sizeof entry_mark];
    size_t head = len < mark - 1 ? len : mark - 1;

    /* What lies across two pieces is looked for in a text that holds the seam alone. */
    memcpy(seam, c->tail, c->tail_len);
    memcpy(seam + c->tail_len, at, head);
    size_t seam_len = c->tail_len + head;
    if (memmem(seam, seam_len, entry_mark, mark) != NULL)
        c->entries++;
    const char *last = len < mark - 1 ? seam + seam_len : at + len;
    c->tail_len = len < mark - 1 && seam_len < mark - 1 ? seam_len : mark - 1;
    memcpy(c->tail, last - c->tail_len, c->tail_len);
    for (const char *end = at + len; (at = memmem(at, (size_t)(end - at), entry_mark, mark));
         at += mark)
        c->entries++;
}

static enum call call_of(const char *head)
{
    static const struct {
        const char *start;
        enum call call;
    } known[] = {
        {"POST /v2/email/outbound-emails ", CALL_SEND},
        {"POST /v2/email/outbound-bulk-emails ", CALL_BULK},
        {"GET /v2/email/account ", CALL_ACCOUNT},
        {"GET /_stats ", CALL_STATS},
        {"POST /_reset ", CALL_RESET},
        {"POST / ", CALL_QUEUE},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strncmp(head, known[i].start, strlen(known[i].start)) == 0)
            return known[i].call;
    return CALL_OTHER;
}

static void end_body(int fd, struct connection *c)
{
    c->in_body = false;
    answer_request(fd, c);
}

static void take_body(int fd, struct connection *c, const char *at, size_t len)
{
    counts.bytes += len;
    if (c->call == CALL_BULK)
        count_entries(c, at, len);
    c->left -= len;
    if (c->left == 0)
        end_body(fd, c);
}

/* Reads a head out of c->head, where one is complete. False: the peer speaks no HTTP. */
static bool take_head(int fd, struct connection *c)
{
    c->head[c->head_len] = '\0';
    const char *end = strstr(c->head, "\r\n\r\n");
    if (end == NULL)
        return c->head_len < HEAD_MAX;
    size_t used = (size_t)(end - c->head) + 4;
    const char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->left = length != NULL && length < end ? (size_t)strtoull(length + 17, NULL, 10) : 0;
    if (c->left > BODY_MAX)
        return false;
    c->call = call_of(c->head);
    c->entries = 0;
    c->tail_len = 0;
    c->in_body = true;
    size_t have = c->head_len - used;
    if (have > c->left)
        return false; /* nobody here sends requests ahead of answers */
    c->head_len = 0;
    if (c->left == 0)
        end_body(fd, c);
    else if (have > 0)
        take_body(fd, c, c->head + used, have);
    return true;
}

/* False: the connection is at its end. */
static bool on_readable(int fd, struct connection *c)
{
    ssize_t got;

    if (!c->in_body) {
        got = recv(fd, c->head + c->head_len, HEAD_MAX - c->head_len, 0);
        if (got <= 0)
            return false;
        c->head_len += (size_t)got;
        return take_head(fd, c);
    }
    size_t most = c->left < sizeof piece ? c->left : sizeof piece;
    /* MSG_TRUNC on TCP: taken off the socket without being copied. */
    got = recv(fd, piece, most, c->call == CALL_BULK ? 0 : MSG_TRUNC);
    if (got <= 0)
        return false;
    take_body(fd, c, piece, (size_t)got);
    return true;
}

/* ---- connections ---- */

static void on_connection(int listener, int epoll)
{
    int one = 1, fd = accept(listener, NULL, NULL);

    if (fd < 0)
        return;
    if (fd >= CONNECTIONS_MAX) {
        close(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connections[fd] == NULL)
        connections[fd] = malloc(sizeof *connections[fd]);
    if (connections[fd] == NULL)
        fail("malloc");
    memset(connections[fd], 0, sizeof *connections[fd]);
    connections[fd]->open = true;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd,
                  &(struct epoll_event){.events = EPOLLIN, .data.fd = fd}) != 0)
        fail("epoll_ctl");
}

static void answer_polls(void)
{
    uint64_t now = now_ms();

    for (int fd = 0; fd < CONNECTIONS_MAX; fd++) {
        struct connection *c = connections[fd];
        if (c == NULL || !c->open || c->due_ms == 0 || c->due_ms > now)
            continue;
        c->due_ms = 0;
        answer(fd, "{}", 2);
    }
}

int main(int argc, char **argv)
{
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in at = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)(argc > 1 ? strtoul(argv[1], NULL, 10) : 0)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    uint64_t polled_ms = now_ms();

    if (argc != 2 || listener < 0 || epoll < 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 512) != 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener,
                  &(struct epoll_event){.events = EPOLLIN, .data.fd = listener}) != 0)
        fail("fake_ses PORT");
    while (true) {
        struct epoll_event ready[EVENTS];
        int count = epoll_wait(epoll, ready, EVENTS, TICK_MS);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                on_connection(listener, epoll);
            } else if (!on_readable(fd, connections[fd])) {
                connections[fd]->open = false;
                close(fd);
            }
        }
        if (now_ms() - polled_ms >= TICK_MS) {
            polled_ms = now_ms();
            answer_polls();
        }
    }
}
