#include "aws/fetch.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <time.h>

#include "aws/credentials.h"
#include "base/clock.h"
#include "base/mem.h"

enum { LOOK_MS = 50 };

struct fetch {
    CURL *easy;
    fetch_alive *alive;
    void *arg;
    uint64_t looked_mono_ms;
    char words[CURL_ERROR_SIZE];
};

bool fetch_is_alive(struct fetch *f)
{
    uint64_t now = clock_mono_ms();

    if (now - f->looked_mono_ms < LOOK_MS)
        return true;
    f->looked_mono_ms = now;
    return f->alive(f->arg);
}

bool fetch_pause(struct fetch *f, uint64_t ms)
{
    uint64_t until = clock_mono_ms() + ms;
    const struct timespec step = {.tv_nsec = LOOK_MS * 1000000L};

    while (clock_mono_ms() < until) {
        (void)nanosleep(&step, NULL);
        if (!fetch_is_alive(f))
            return false;
    }
    return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct fetch_answer *answer = arg;
    size_t len = size * count;

    if (len > FETCH_BODY_MAX_BYTES - answer->body.len)
        return 0;
    buf_add(&answer->body, data, len); /* there is room for all of it: nothing moves */
    return len;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return fetch_is_alive(arg) ? 0 : 1;
}

struct fetch *fetch_create(fetch_alive *alive, void *arg)
{
    struct fetch *f = mem_zero(1, sizeof *f);
    CURLcode ready =
        curl_global_init_mem(CURL_GLOBAL_DEFAULT, mem_alloc, free, mem_grow, mem_strdup, mem_zero);

    f->alive = alive;
    f->arg = arg;
    f->easy = curl_easy_init();
    assert(ready == CURLE_OK && f->easy != NULL);
    return f;
}

void fetch_destroy(struct fetch *f)
{
    if (f == NULL)
        return;
    curl_easy_cleanup(f->easy);
    free(f);
    curl_global_cleanup();
}

static void set_options(struct fetch *f, const struct fetch_request *r, struct fetch_answer *answer)
{
    CURL *easy = f->easy;

    curl_easy_reset(easy); /* keeps connections */
    curl_easy_setopt(easy, CURLOPT_URL, r->url);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->words);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, f);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)r->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "Postern");
    if (r->no_proxy)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    if (r->any_certificate) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (r->unix_socket != NULL)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
    if (strcmp(r->method, "DELETE") == 0)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
    if (strcmp(r->method, "POST") == 0 || strcmp(r->method, "PUT") == 0) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                         r->body.len > 0 ? (const char *)r->body.ptr : "");
        if (r->method[1] == 'U')
            curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
    }
}

int fetch(struct fetch *f, const struct fetch_request *r, struct fetch_answer *answer,
          struct err *err)
{
    struct curl_slist lines[FETCH_HEADERS_MAX + 2];
    struct curl_header *date = NULL;
    size_t count = 0;
    long status = 0;
    union {
        const char *in;
        char *out; /* curl does not write to it */
    } text;

    *answer = (struct fetch_answer){0};
    (void)buf_reserve(&answer->body, FETCH_BODY_MAX_BYTES);
    set_options(f, r, answer);
    for (size_t i = 0; i < FETCH_HEADERS_MAX && r->headers[i] != NULL; i++) {
        text.in = r->headers[i];
        lines[count++] = (struct curl_slist){text.out, NULL};
    }
    text.in = "Expect:";
    lines[count++] = (struct curl_slist){text.out, NULL};
    if (r->method[0] == 'P' && r->method[1] == 'U') {
        text.in = "Content-Type:"; /* curl is not to add its own */
        lines[count++] = (struct curl_slist){text.out, NULL};
    }
    for (size_t i = 1; i < count; i++)
        lines[i - 1].next = &lines[i];
    curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, lines);
    f->words[0] = '\0';
    CURLcode code = curl_easy_perform(f->easy);
    if (code != CURLE_OK) {
        fetch_answer_fini(answer);
        return err_set(err, ERR_NETWORK, "%s",
                       code == CURLE_WRITE_ERROR           ? "the answer is too long"
                       : code == CURLE_ABORTED_BY_CALLBACK ? "given up, as we are leaving"
                       : f->words[0] != '\0'               ? f->words
                                                           : curl_easy_strerror(code));
    }
    (void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    answer->status = (int)status;
    if (curl_easy_header(f->easy, "Date", 0, CURLH_HEADER, -1, &date) == CURLHE_OK) {
        time_t theirs = curl_getdate(date->value, NULL);
        answer->date_wall_s = theirs > 0 ? (int64_t)theirs : 0;
    }
    return 0;
}

void fetch_answer_fini(struct fetch_answer *answer)
{
    credentials_wipe(&answer->body);
}
