/*
 * tests/bench/walk_events.c - a reader of Mailgun's events API that costs little beside its server.
 *
 * walk_events PORT USER:KEY [-n PAGES] [-l] [-s] PATH...
 *
 * A thread and a keep-alive connection of the loopback interface for each PATH, which follows
 * paging.next from there until a page is empty. Where the server closes it politely, a new one. Of a
 * page it reads the events' ids and the link, in one pass and without a JSON parser: what it is given
 * is compared with what must be there, so a page that is not as expected ends it.
 *   -n  so many pages at most        -l  goes to paging.last first, and reads that page over and over
 *   -s  reads the same (first) page over and over
 * Prints one line of JSON: events, seconds, events/s; p50, p99 and the longest time from sending a
 * request to the last byte of its answer (ms); events that came twice; bytes; CPU of its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 8 << 20, PATH_MAX_BYTES = 4096, KEY_MAX = 256, TIMEOUT_S = 60, ID_LEN = 22 };

static const char item_mark[] = "{\"event\":\"", id_mark[] = "\",\"id\":\"";

struct id {
    char text[ID_LEN];
};

struct walk {
    pthread_t thread;
    int fd;
    char path[PATH_MAX_BYTES];
    char *answer;
    size_t len; /* of the answer */
    char *body; /* within it */
    struct id *ids;
    size_t id_count, id_room;
    uint32_t *times_us;
    size_t page_count, page_room;
    uint64_t bytes;
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static char authorization[2 * KEY_MAX];
static uint64_t pages_most = UINT64_MAX;
static bool stays, at_last;

static void __attribute__((noreturn)) fail(const char *what, const char *detail)
{
    (void)fprintf(stderr, "walk_events: %s: %.300s\n", what, detail);
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void *grow(void *at, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return at;
    *room = *room == 0 ? 4096 : *room * 2;
    at = realloc(at, *room * size);
    if (at == NULL)
        fail("out of memory", "");
    return at;
}

static void connect_to_server(struct walk *w)
{
    const struct timeval patience = {.tv_sec = TIMEOUT_S};
    const int on = 1;

    w->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (w->fd < 0 || connect(w->fd, (struct sockaddr *)&server, sizeof server) != 0)
        fail("connecting", strerror(errno));
    (void)setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

static void receive(struct walk *w)
{
    ssize_t n = recv(w->fd, w->answer + w->len, ANSWER_MAX - w->len, 0);

    if (n <= 0)
        fail("receiving", n == 0 ? "the connection was closed" : strerror(errno));
    w->len += (size_t)n;
    w->answer[w->len] = '\0';
}

/* Sends a request for the path and reads the answer whole. */
static void fetch(struct walk *w)
{
    char request[PATH_MAX_BYTES + 1024];
    int request_len = snprintf(request, sizeof request,
                               "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAuthorization: Basic "
                               "%s\r\n\r\n",
                               w->path, (unsigned)ntohs(server.sin_port), authorization);
    uint64_t sent_us = now_us();
    char *end;

    if (send(w->fd, request, (size_t)request_len, MSG_NOSIGNAL) != request_len)
        fail("sending", strerror(errno));
    w->len = 0;
    do
        receive(w);
    while ((end = strstr(w->answer, "\r\n\r\n")) == NULL);
    char *length = strcasestr(w->answer, "\r\nContent-Length:");
    if (strncmp(w->answer, "HTTP/1.1 200 ", 13) != 0 || length == NULL || length > end)
        fail("an answer without 200 or length", w->answer);
    w->body = end + 4;
    size_t whole = (size_t)(w->body - w->answer) + strtoul(length + 17, NULL, 10);
    if (whole > ANSWER_MAX)
        fail("too long an answer", w->path);
    while (w->len < whole)
        receive(w);
    if (w->len > whole)
        fail("more than an answer", w->answer + whole);
    w->times_us = grow(w->times_us, w->page_count, &w->page_room, sizeof *w->times_us);
    w->times_us[w->page_count++] = (uint32_t)(now_us() - sent_us);
    w->bytes += w->len;
    *end = '\0'; /* the body stays as it is */
    if (strcasestr(w->answer, "\r\nConnection: close") != NULL) {
        (void)close(w->fd);
        connect_to_server(w);
    }
}

static void keep_id(struct walk *w, const char *id)
{
    w->ids = grow(w->ids, w->id_count, &w->id_room, sizeof *w->ids);
    memcpy(w->ids[w->id_count++].text, id, ID_LEN);
}

/* From here on; NULL: there is none. By its first byte, of which there are few: memmem() was a quarter
 * of all that the reader did. */
static const char *next_item(const char *at, const char *end)
{
    const size_t len = sizeof item_mark - 1;

    while ((at = memchr(at, item_mark[0], (size_t)(end - at))) != NULL &&
           (size_t)(end - at) >= len) {
        if (memcmp(at, item_mark, len) == 0)
            return at;
        at++;
    }
    return NULL;
}

/* The events of the answer; how many. */
static uint64_t read_items(struct walk *w, char *paging)
{
    const char *at = w->body;
    uint64_t count = 0;

    while ((at = next_item(at, paging)) != NULL) {
        at += sizeof item_mark - 1;
        const char *name_end = memchr(at, '"', 32);
        if (name_end == NULL || strncmp(name_end, id_mark, sizeof id_mark - 1) != 0)
            fail("an event without an id", at - (sizeof item_mark - 1));
        at = name_end + sizeof id_mark - 1;
        if (memchr(at, '"', ID_LEN + 1) != at + ID_LEN)
            fail("an id of another length", at);
        keep_id(w, at);
        at += ID_LEN;
        count++;
    }
    return count;
}

static void follow(struct walk *w, char *paging, const char *name)
{
    char *link = strstr(paging, name);
    char *path = link == NULL ? NULL : strstr(link + strlen(name), "/v3/");
    char *end = path == NULL ? NULL : strpbrk(path, "?\"");

    if (end == NULL || end - path >= PATH_MAX_BYTES)
        fail("no link", paging);
    memcpy(w->path, path, (size_t)(end - path));
    w->path[end - path] = '\0';
}

static char *paging_of(struct walk *w)
{
    static const char mark[] = "],\"paging\":{";
    char *end = w->answer + w->len;
    char *from = end - w->body > PATH_MAX_BYTES ? end - PATH_MAX_BYTES : w->body;
    char *paging = strstr(from, mark);

    if (paging == NULL)
        fail("a page without links", w->body);
    return paging;
}

static void *walk(void *arg)
{
    struct walk *w = arg;

    connect_to_server(w);
    if (at_last) {
        fetch(w);
        follow(w, paging_of(w), "\"last\":\"");
        w->page_count = 0;
        w->bytes = 0;
    }
    for (uint64_t pages = 0; pages < pages_most; pages++) {
        fetch(w);
        char *paging = paging_of(w);
        if (read_items(w, paging) == 0)
            break;
        if (!stays)
            follow(w, paging, "\"next\":\"");
    }
    (void)close(w->fd);
    return NULL;
}

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct id));
}

static int by_time(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x == *y ? 0 : *x < *y ? -1 : 1;
}

static void report(struct walk *walks, size_t count, uint64_t wall_us)
{
    uint64_t events = 0, pages = 0, bytes = 0, repeats = 0;
    struct rusage used;

    (void)getrusage(RUSAGE_SELF, &used);
    for (size_t i = 0; i < count; i++) {
        events += walks[i].id_count;
        pages += walks[i].page_count;
        bytes += walks[i].bytes;
    }
    struct id *ids = malloc((events + 1) * sizeof *ids);
    uint32_t *times = malloc((pages + 1) * sizeof *times);
    if (ids == NULL || times == NULL || pages == 0)
        fail("out of memory, or no page", "");
    for (size_t i = 0, id = 0, page = 0; i < count; i++) {
        if (walks[i].id_count > 0)
            memcpy(ids + id, walks[i].ids, walks[i].id_count * sizeof *ids);
        memcpy(times + page, walks[i].times_us, walks[i].page_count * sizeof *times);
        id += walks[i].id_count;
        page += walks[i].page_count;
    }
    qsort(ids, events, sizeof *ids, by_id);
    for (size_t i = 1; i < events; i++)
        repeats += by_id(&ids[i - 1], &ids[i]) == 0;
    qsort(times, pages, sizeof *times, by_time);
    printf("{\"events\":%" PRIu64 ",\"pages\":%" PRIu64 ",\"seconds\":%.3f,\"events_per_s\":%.0f,"
           "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"most_ms\":%.3f,\"repeats\":%" PRIu64
           ",\"bytes\":%" PRIu64 ",\"cpu_s\":%.3f}\n",
           events, pages, (double)wall_us / 1e6, (double)events * 1e6 / (double)wall_us,
           times[pages / 2] / 1e3, times[pages * 99 / 100] / 1e3, times[pages - 1] / 1e3, repeats,
           bytes,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    free(ids);
    free(times);
}

int main(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "n:ls")) != -1) {
        if (option == 'n')
            pages_most = strtoull(optarg, NULL, 10);
        at_last = at_last || option == 'l';
        stays = stays || option == 'l' || option == 's';
        if (option == '?')
            return 2;
    }
    size_t count = argc - optind < 3 ? 0 : (size_t)(argc - optind - 2);
    if (count == 0 || strlen(argv[optind + 1]) > KEY_MAX)
        fail("usage", "[-n PAGES] [-l] [-s] PORT USER:KEY PATH...");
    server.sin_port = htons((uint16_t)strtoul(argv[optind], NULL, 10));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)EVP_EncodeBlock((unsigned char *)authorization, (unsigned char *)argv[optind + 1],
                          (int)strlen(argv[optind + 1]));
    struct walk *walks = calloc(count, sizeof *walks);
    if (walks == NULL)
        fail("out of memory", "");
    uint64_t began_us = now_us();
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(walks[i].path, sizeof walks[i].path, "%s", argv[optind + 2 + (int)i]);
        walks[i].answer = malloc(ANSWER_MAX + 1);
        if (walks[i].answer == NULL || pthread_create(&walks[i].thread, NULL, walk, &walks[i]) != 0)
            fail("a thread", walks[i].path);
    }
    for (size_t i = 0; i < count; i++)
        (void)pthread_join(walks[i].thread, NULL);
    report(walks, count, now_us() - began_us);
    for (size_t i = 0; i < count; i++) {
        free(walks[i].answer);
        free(walks[i].ids);
        free(walks[i].times_us);
    }
    free(walks);
    return 0;
}
