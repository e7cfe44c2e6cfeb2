/*
 * tests/bench/fake_sqs.c - an SQS queue full of SES events, served for as little CPU as possible, so
 * that a benchmark on two cores measures the intake and not its counterpart.
 *
 * fake_sqs PORT   (loopback only). One thread, epoll. It believes everything: no signature is read.
 * The answers to ReceiveMessage are made beforehand and sent as they lie in memory, in huge pages:
 * the first touch of each small one costs more than its bytes do. Each message is given out once. A
 * receipt handle ends in the number of its message, which a deletion marks.
 *
 *   POST /_fill    a line for each recipient: batch id in hex, index, email-id, address. Then
 *                  X-Events messages wait in the queue: first a Delivery for each recipient (a
 *                  Bounce for some), then opens and clicks of any of them; each an SES event of a
 *                  newsletter, about 2.4 KB, in an SNS envelope
 *   POST /         SQS's JSON protocol, by X-Amz-Target: ReceiveMessage (10 at a time; an empty
 *                  answer after WAIT_MS) and DeleteMessageBatch; {} to all else
 *   GET  /_stats   what was counted, as JSON
 */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    REQUEST_MAX = 64 << 20,
    CONNECTIONS_MAX = 2048,
    READY_MAX = 64,
    WAIT_MS = 5000,
    TICK_MS = 100,
    BATCH = 10,
    HANDLE_NUMBER_CHARS = 8,
    HUGE_PAGE_BYTES = 2 << 20,
    BLOCK_BYTES = 32 << 20,
    LINE_MAX_BYTES = 256,
};

struct text {
    char *at;
    size_t len, cap;
};

struct block {
    struct block *next;
    size_t used;
    char bytes[];
};

struct connection {
    bool open;
    struct text request;
    uint64_t due_ms; /* of an empty answer; 0 = none is owed */
};

struct recipient {
    char batch[17], email_id[33], address[129];
    unsigned index;
};

static struct connection *connections[CONNECTIONS_MAX]; /* by descriptor */
static struct text *answers;                            /* of ReceiveMessage, whole */
static struct block *blocks;                            /* what they lie in */
static size_t answer_count, answer_next, message_count, body_bytes;
static unsigned char *deleted_marks;
static struct {
    uint64_t receives, empty, deletes, received, deleted, twice, first_ms, last_ms;
} counts;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ms(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- text ---- */

static void reserve(struct text *t, size_t more)
{
    if (t->cap - t->len > more)
        return;
    t->cap = (t->len + more + 1) * 2;
    t->at = realloc(t->at, t->cap);
    if (t->at == NULL)
        fail("realloc");
}

static void add(struct text *t, const char *bytes, size_t len)
{
    reserve(t, len);
    memcpy(t->at + t->len, bytes, len);
    t->len += len;
    t->at[t->len] = '\0';
}

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    va_list args;

    reserve(t, 4096);
    va_start(args, format);
    int len = vsnprintf(t->at + t->len, 4096, format, args);
    va_end(args);
    assert(len >= 0 && len < 4096);
    t->len += (size_t)len;
}

/* ---- what the answers lie in ---- */

static char *keep(const struct text *t)
{
    assert(t->len <= BLOCK_BYTES - sizeof *blocks);
    if (blocks == NULL || BLOCK_BYTES - sizeof *blocks - blocks->used < t->len) {
        struct block *b = aligned_alloc(HUGE_PAGE_BYTES, BLOCK_BYTES);
        if (b == NULL)
            fail("aligned_alloc");
        (void)madvise(b, BLOCK_BYTES, MADV_HUGEPAGE); /* small ones where there are none */
        b->next = blocks;
        b->used = 0;
        blocks = b;
    }
    char *at = blocks->bytes + blocks->used;
    memcpy(at, t->at, t->len);
    blocks->used += t->len;
    return at;
}

static void drop_blocks(void)
{
    while (blocks != NULL) {
        struct block *gone = blocks;
        blocks = gone->next;
        free(gone);
    }
}

/* As JSON's writers do it; the texts here hold no control bytes. */
static void put_escaped(struct text *t, const struct text *plain)
{
    for (size_t i = 0; i < plain->len; i++) {
        if (plain->at[i] == '"' || plain->at[i] == '\\')
            add(t, "\\", 1);
        add(t, plain->at + i, 1);
    }
}

static void put_time(struct text *t, uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    char whole[32];

    (void)gmtime_r(&seconds, &tm);
    (void)strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &tm);
    put(t, "%s.%03uZ", whole, (unsigned)(wall_ms % 1000));
}

/* ---- events ---- */

static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void put_mail(struct text *t, const struct recipient *r, uint64_t number, uint64_t sent_ms)
{
    char ses_id[80];

    (void)snprintf(ses_id, sizeof ses_id, "0100019a%08llx-0a1b2c3d-4e5f-6789-abcd-%012llx-000000",
                   (unsigned long long)number, (unsigned long long)number);
    put(t, "\"mail\":{\"timestamp\":\"");
    put_time(t, sent_ms);
    put(t,
        "\",\"source\":\"\\\"The Gazette\\\" <newsletter@mg.example.com>\",\"sourceArn\":"
        "\"arn:aws:ses:us-east-1:000000000000:identity/mg.example.com\",\"sendingAccountId\":"
        "\"000000000000\",\"messageId\":\"%s\",\"destination\":[\"%s\"],\"headersTruncated\":false,"
        "\"headers\":[{\"name\":\"From\",\"value\":\"\\\"The Gazette\\\" "
        "<newsletter@mg.example.com>\"},{\"name\":\"Reply-To\",\"value\":"
        "\"newsletter@mg.example.com\"},{\"name\":\"To\",\"value\":\"%s\"},{\"name\":\"Subject\","
        "\"value\":\"Hello <World> & friends\"},{\"name\":\"MIME-Version\",\"value\":\"1.0\"},"
        "{\"name\":\"Content-Type\",\"value\":\"multipart/alternative;  "
        "boundary=\\\"----=_Part_41_1837211.1769941\\\"\"},{\"name\":\"Auto-Submitted\",\"value\":"
        "\"auto-generated\"},{\"name\":\"List-Unsubscribe\",\"value\":"
        "\"<http://127.0.0.1:2368/unsubscribe/?uuid=%s>\"},{\"name\":\"List-Unsubscribe-Post\","
        "\"value\":\"List-Unsubscribe=One-Click\"},{\"name\":\"X-Mailgun-Variables\",\"value\":"
        "\"{\\\"email-id\\\":\\\"%s\\\"}\"}],\"commonHeaders\":{\"from\":[\"\\\"The Gazette\\\" "
        "<newsletter@mg.example.com>\"],\"replyTo\":[\"newsletter@mg.example.com\"],\"to\":[\"%s\"]"
        ",\"messageId\":\"%s\",\"subject\":\"Hello <World> & friends\"},",
        ses_id, r->address, r->address, r->address, r->email_id, r->address, ses_id);
    put(t,
        "\"tags\":{\"postern-batch\":[\"%s\"],\"postern-rcpt\":[\"%u\"],\"email-id\":[\"%s\"],"
        "\"postern-meta\":[\"bWcuZXhhbXBsZS5jb20KMjAyNjExMjYwMDAwMDAuZTY1NTUwNmZlM2Q2MjljY0BtZy5leG"
        "FtcGxlLmNvbQpidWxrLWVtYWlsCmdob3N0LWVtYWls\"],\"ses:operation\":[\"SendBulkEmail\"],"
        "\"ses:configuration-set\":[\"ghost-mailgun-proxy-set\"],\"ses:source-ip\":[\"192.0.2.10\"]"
        ",\"ses:from-domain\":[\"mg.example.com\"],\"ses:caller-identity\":[\"ghost-mail\"],"
        "\"ses:source-tls-version\":[\"TLSv1.3\"],\"ses:outgoing-ip\":[\"192.0.2.7\"]}}",
        r->batch, r->index, r->email_id);
}

static const char *const agents[] = {
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Mozilla/5.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Safari/537.36",
};

static void put_event(struct text *t, const struct recipient *list, size_t count, size_t number,
                      uint64_t at_ms, uint64_t sent_ms)
{
    bool first = number < count;
    size_t who = first ? number : (size_t)(next_random() % count);
    const struct recipient *r = &list[who];
    unsigned dice = (unsigned)(next_random() % 100);
    const char *agent = agents[next_random() % (sizeof agents / sizeof agents[0])];

    if (first && dice < 2)
        put(t,
            "{\"eventType\":\"Bounce\",\"bounce\":{\"feedbackId\":\"0100019a%08zx-6d1f3d0e-1111-"
            "4222-8333-944445555666-000000\",\"bounceType\":\"Transient\",\"bounceSubType\":"
            "\"General\",\"bouncedRecipients\":[{\"emailAddress\":\"%s\",\"action\":\"failed\","
            "\"status\":\"4.4.7\",\"diagnosticCode\":\"smtp; 421 4.4.7 try again later\"}],"
            "\"reportingMTA\":\"dns; a8-31.smtp-out.amazonses.com\",\"timestamp\":\"",
            number, r->address);
    else if (first)
        put(t,
            "{\"eventType\":\"Delivery\",\"delivery\":{\"processingTimeMillis\":%u,"
            "\"recipients\":[\"%s\"],\"smtpResponse\":\"250 2.0.0 OK  1772366592 "
            "d75a77b69052e-4f1a%06zxsi12345678.%u - gsmtp\",\"remoteMtaIp\":\"198.51.100.7\","
            "\"reportingMTA\":\"a8-31.smtp-out.amazonses.com\",\"timestamp\":\"",
            300 + dice * 17, r->address, number, dice);
    else if (dice < 80)
        put(t,
            "{\"eventType\":\"Open\",\"open\":{\"ipAddress\":\"203.0.113.%u\",\"userAgent\":"
            "\"%s\",\"timestamp\":\"",
            dice, agent);
    else
        put(t,
            "{\"eventType\":\"Click\",\"click\":{\"ipAddress\":\"203.0.113.%u\",\"userAgent\":"
            "\"%s\",\"link\":\"http://127.0.0.1:2368/r/abc%03x?m=%08llx\",\"linkTags\":null,"
            "\"timestamp\":\"",
            dice, agent, dice, (unsigned long long)next_random() & 0xffffffff);
    put_time(t, at_ms);
    put(t, "\"},");
    put_mail(t, r, who, sent_ms);
    put(t, "}");
}

static void put_envelope(struct text *t, const struct text *event, size_t number, uint64_t at_ms)
{
    put(t,
        "{\n  \"Type\" : \"Notification\",\n  \"MessageId\" : "
        "\"%08zx-1f6e-5b7e-9c5a-5266d3a4a001\","
        "\n  \"TopicArn\" : \"arn:aws:sns:us-east-1:000000000000:newsletter-events\",\n  "
        "\"Subject\""
        " : \"Amazon SES Email Event Notification\",\n  \"Message\" : \"",
        number);
    put_escaped(t, event);
    put(t, "\",\n  \"Timestamp\" : \"");
    put_time(t, at_ms);
    put(t,
        "\",\n  \"SignatureVersion\" : \"1\",\n  \"Signature\" : \"%0300zx==\",\n  "
        "\"SigningCertURL\" : \"https://sns.us-east-1.amazonaws.com/"
        "SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem\",\n  \"UnsubscribeURL\" : "
        "\"https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=arn:aws:sns:"
        "us-east-1:000000000000:newsletter-events:5b1d0f2e-7c3a-4d1e-9b60-1f2e3d4c5b6a\"\n}",
        number);
}

static void put_message(struct text *t, const struct text *body, size_t number, uint64_t at_ms)
{
    unsigned char md5[16];

    if (EVP_Digest(body->at, body->len, md5, NULL, EVP_md5(), NULL) != 1)
        fail("MD5");
    put(t,
        "{\"MessageId\":\"%08zx-0b2a-4c1d-8e3f-0123456789ab\",\"ReceiptHandle\":\"AQEB%0172d%"
        "08zx\","
        "\"MD5OfBody\":\"",
        number, 0, number);
    for (size_t i = 0; i < sizeof md5; i++)
        put(t, "%02x", md5[i]);
    put(t, "\",\"Body\":\"");
    for (size_t i = 0; i < body->len; i++) {
        char c = body->at[i];
        if (c == '\n')
            add(t, "\\n", 2);
        else if (c == '"' || c == '\\')
            add(t, (const char[]){'\\', c}, 2);
        else
            add(t, &c, 1);
    }
    put(t,
        "\",\"Attributes\":{\"SentTimestamp\":\"%llu\",\"ApproximateFirstReceiveTimestamp\":\"%"
        "llu\"}}",
        (unsigned long long)at_ms, (unsigned long long)at_ms + 40);
}

static void put_head(struct text *t, size_t len)
{
    put(t,
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
        "x-amzn-RequestId: 00000000-0000-4000-8000-000000000000\r\nContent-Length: %zu\r\n\r\n",
        len);
}

/* The line at *at, which then stands behind it: sscanf() alone would measure all that follows, each
 * time. */
static bool read_line(const char **at, char line[LINE_MAX_BYTES])
{
    size_t len = strcspn(*at, "\n");

    if (len == 0 || len >= LINE_MAX_BYTES)
        return false;
    memcpy(line, *at, len);
    line[len] = '\0';
    *at += len + ((*at)[len] == '\n');
    return true;
}

static size_t read_recipients(const char *at, struct recipient **list)
{
    char line[LINE_MAX_BYTES];
    size_t count = 0, cap = 0;
    struct recipient r;

    while (read_line(&at, line) &&
           sscanf(line, "%16s %u %32s %128s", r.batch, &r.index, r.email_id, r.address) == 4) {
        if (count == cap) {
            cap = cap == 0 ? 1024 : cap * 2;
            *list = realloc(*list, cap * sizeof **list);
            if (*list == NULL)
                fail("realloc");
        }
        (*list)[count++] = r;
    }
    return count;
}

/* Mail servers answer in no order: each recipient changes places with one near it. */
static void stir(struct recipient *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t other = i + (size_t)(next_random() % 2000);
        if (other >= count)
            continue;
        struct recipient r = list[i];
        list[i] = list[other];
        list[other] = r;
    }
}

static void fill(const char *lines, size_t events)
{
    struct recipient *list = NULL;
    size_t count = read_recipients(lines, &list);
    struct text event = {0}, body = {0}, messages = {0}, whole = {0};
    uint64_t end_ms = now_ms(CLOCK_REALTIME) - 2000;

    if (count == 0 || events == 0)
        return;
    stir(list, count);
    drop_blocks();
    free(answers);
    free(deleted_marks);
    memset(&counts, 0, sizeof counts);
    message_count = events;
    answer_count = (events + BATCH - 1) / BATCH;
    answer_next = body_bytes = 0;
    answers = calloc(answer_count, sizeof *answers);
    deleted_marks = calloc(events, 1);
    if (answers == NULL || deleted_marks == NULL)
        fail("calloc");
    for (size_t i = 0; i < answer_count; i++) {
        messages.len = 0;
        put(&messages, "{\"Messages\":[");
        for (size_t n = i * BATCH; n < events && n < (i + 1) * BATCH; n++) {
            uint64_t at_ms = end_ms - (events - n) / 5; /* 5,000 a second */
            event.len = body.len = 0;
            put_event(&event, list, count, n, at_ms, end_ms - events / 5 - 1000);
            put_envelope(&body, &event, n, at_ms);
            body_bytes += body.len;
            if (n % BATCH > 0)
                put(&messages, ",");
            put_message(&messages, &body, n, at_ms);
        }
        put(&messages, "]}");
        whole.len = 0;
        put_head(&whole, messages.len);
        add(&whole, messages.at, messages.len);
        answers[i] = (struct text){.at = keep(&whole), .len = whole.len};
    }
    free(event.at);
    free(body.at);
    free(messages.at);
    free(whole.at);
    free(list);
}

/* ---- answers ---- */

static void send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the other side has gone: it will find out */
        bytes += sent;
        len -= (size_t)sent;
    }
}

static void answer(int fd, const char *body, size_t len)
{
    struct text whole = {0};

    put_head(&whole, len);
    add(&whole, body, len);
    send_all(fd, whole.at, whole.len);
    free(whole.at);
}

static void answer_stats(int fd)
{
    struct rusage usage;
    struct text t = {0};

    (void)getrusage(RUSAGE_SELF, &usage);
    uint64_t cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                      (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    put(&t,
        "{\"messages\":%zu,\"body_bytes\":%zu,\"receives\":%llu,\"empty\":%llu,\"received\":%llu,"
        "\"deletes\":%llu,\"deleted\":%llu,\"twice\":%llu,\"first_ms\":%llu,\"last_ms\":%llu,"
        "\"cpu_us\":%llu}",
        message_count, message_count > 0 ? body_bytes / message_count : 0,
        (unsigned long long)counts.receives, (unsigned long long)counts.empty,
        (unsigned long long)counts.received, (unsigned long long)counts.deletes,
        (unsigned long long)counts.deleted, (unsigned long long)counts.twice,
        (unsigned long long)counts.first_ms, (unsigned long long)counts.last_ms,
        (unsigned long long)cpu_us);
    answer(fd, t.at, t.len);
    free(t.at);
}

static void receive(int fd, struct connection *c)
{
    counts.receives++;
    if (answer_next == answer_count) {
        counts.empty++;
        c->due_ms = now_ms(CLOCK_MONOTONIC) + WAIT_MS;
        return;
    }
    if (counts.first_ms == 0)
        counts.first_ms = now_ms(CLOCK_MONOTONIC);
    size_t at = answer_next++, before = at * BATCH;
    counts.received += message_count - before < BATCH ? message_count - before : BATCH;
    send_all(fd, answers[at].at, answers[at].len);
}

static void delete_batch(int fd, const char *body)
{
    static const char mark[] = "\"ReceiptHandle\":\"";
    struct text t = {0};
    unsigned entry = 0;

    counts.deletes++;
    put(&t, "{\"Failed\":[],\"Successful\":[");
    for (const char *at = strstr(body, mark); at != NULL; at = strstr(at, mark)) {
        at += sizeof mark - 1;
        const char *end = strchr(at, '"');
        if (end == NULL || end - at < HANDLE_NUMBER_CHARS)
            break;
        size_t number = strtoull(end - HANDLE_NUMBER_CHARS, NULL, 16);
        put(&t, "%s{\"Id\":\"%u\"}", entry > 0 ? "," : "", entry);
        entry++;
        if (number >= message_count)
            continue;
        counts.twice += deleted_marks[number];
        counts.deleted += !deleted_marks[number];
        deleted_marks[number] = 1;
        at = end;
    }
    put(&t, "]}");
    counts.last_ms = now_ms(CLOCK_MONOTONIC);
    answer(fd, t.at, t.len);
    free(t.at);
}

/* ---- requests ---- */

static void answer_request(int fd, struct connection *c, const char *body)
{
    const char *head = c->request.at;

    if (strncmp(head, "GET /_stats ", 12) == 0) {
        answer_stats(fd);
    } else if (strncmp(head, "POST /_fill ", 12) == 0) {
        const char *events = strcasestr(head, "\r\nx-events:");
        fill(body, events == NULL ? 0 : (size_t)strtoull(events + 11, NULL, 10));
        answer(fd, "{}", 2);
    } else if (strstr(head, "AmazonSQS.ReceiveMessage\r\n") != NULL) {
        receive(fd, c);
    } else if (strstr(head, "AmazonSQS.DeleteMessageBatch\r\n") != NULL) {
        delete_batch(fd, body);
    } else {
        answer(fd, "{}", 2);
    }
}

/* False: the connection is at its end, or speaks no HTTP. */
static bool on_readable(int fd, struct connection *c)
{
    struct text *r = &c->request;

    reserve(r, 16 << 10);
    ssize_t got = recv(fd, r->at + r->len, r->cap - r->len - 1, 0);
    if (got <= 0)
        return false;
    r->len += (size_t)got;
    r->at[r->len] = '\0';
    char *end = strstr(r->at, "\r\n\r\n");
    if (end == NULL)
        return true;
    const char *length = strcasestr(r->at, "\r\ncontent-length:");
    size_t head_len = (size_t)(end - r->at) + 4;
    size_t body_len = length != NULL && length < end ? (size_t)strtoull(length + 17, NULL, 10) : 0;
    if (body_len > REQUEST_MAX)
        return false;
    if (r->len < head_len + body_len) {
        reserve(r, head_len + body_len - r->len);
        return true;
    }
    end[2] = '\0'; /* what is looked for in the head is not looked for in the body */
    answer_request(fd, c, r->at + head_len);
    r->len = 0;
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
        connections[fd] = calloc(1, sizeof *connections[fd]);
    if (connections[fd] == NULL)
        fail("calloc");
    connections[fd]->open = true;
    connections[fd]->request.len = 0;
    connections[fd]->due_ms = 0;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd,
                  &(struct epoll_event){.events = EPOLLIN, .data.fd = fd}) != 0)
        fail("epoll_ctl");
}

static void answer_polls(void)
{
    uint64_t now = now_ms(CLOCK_MONOTONIC);

    for (int fd = 0; fd < CONNECTIONS_MAX; fd++) {
        struct connection *c = connections[fd];
        if (c == NULL || !c->open || c->due_ms == 0 ||
            (c->due_ms > now && answer_next == answer_count))
            continue;
        c->due_ms = 0;
        if (answer_next < answer_count)
            receive(fd, c);
        else
            answer(fd, "{}", 2);
    }
}

int main(int argc, char **argv)
{
    int one = 1, epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET};
    uint64_t polled_ms = 0;

    at.sin_port = htons(argc == 2 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (argc != 2 || epoll < 0 || listener < 0 ||
        bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 512) != 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener,
                  &(struct epoll_event){.events = EPOLLIN, .data.fd = listener}) != 0)
        fail("fake_sqs PORT");
    while (true) {
        struct epoll_event ready[READY_MAX];
        int count = epoll_wait(epoll, ready, READY_MAX, TICK_MS);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                on_connection(listener, epoll);
            } else if (!on_readable(fd, connections[fd])) {
                connections[fd]->open = false;
                close(fd);
            }
        }
        if (now_ms(CLOCK_MONOTONIC) - polled_ms >= TICK_MS) {
            polled_ms = now_ms(CLOCK_MONOTONIC);
            answer_polls();
        }
    }
}
