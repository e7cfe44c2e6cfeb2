#include "courier/post.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "courier/public_address.h"

enum {
    IDLE_MAX_S = 20,  /* a kept connection is not used again after that */
    LIFE_MAX_S = 300, /* then the name is looked up again, and its address judged */
};

struct post {
    struct post *next_free;
    struct poster *poster;
    CURL *easy;
    struct buf body;
    size_t answer_bytes;
    bool is_private; /* an address was not let through */
    uint64_t begun_mono_ms;
    post_callback *done;
    void *arg;
    char words[CURL_ERROR_SIZE];
};

struct poster {
    CURLM *multi;
    struct curl_slist *headers;
    struct post *posts, *free;
    unsigned count, free_count;
    uint64_t timeout_ms;
    bool allow_private;
};

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct post *post = arg;

    (void)data;
    post->answer_bytes += size * count;
    return post->answer_bytes > POST_ANSWER_MAX_BYTES ? 0 : size * count;
}

static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct post *post = arg;

    (void)purpose;
    if (!post->poster->allow_private && !address_is_public(&to->addr)) {
        post->is_private = true;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

struct poster *poster_create(unsigned connections, uint64_t timeout_ms, bool allow_private,
                             struct err *err)
{
    static const char *const lines[] = {"Content-Type: application/json", "Expect:"};
    struct poster *p = mem_zero(1, sizeof *p);

    p->timeout_ms = timeout_ms;
    p->allow_private = allow_private;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        (p->multi = curl_multi_init()) == NULL) {
        (void)err_set(err, ERR_SYSTEM, "libcurl cannot be set up");
        free(p);
        return NULL;
    }
    curl_multi_setopt(p->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, (long)connections);
    p->posts = mem_zero(connections, sizeof *p->posts);
    p->count = p->free_count = connections;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct curl_slist *longer = curl_slist_append(p->headers, lines[i]);
        assert(longer != NULL);
        p->headers = longer;
    }
    for (unsigned i = 0; i < connections; i++) {
        p->posts[i].poster = p;
        p->posts[i].easy = curl_easy_init();
        assert(p->posts[i].easy != NULL);
        p->posts[i].next_free = p->free;
        p->free = &p->posts[i];
    }
    return p;
}

void poster_destroy(struct poster *p)
{
    if (p == NULL)
        return;
    for (unsigned i = 0; i < p->count; i++) {
        (void)curl_multi_remove_handle(p->multi, p->posts[i].easy);
        curl_easy_cleanup(p->posts[i].easy);
        buf_fini(&p->posts[i].body);
    }
    (void)curl_multi_cleanup(p->multi);
    curl_slist_free_all(p->headers);
    free(p->posts);
    free(p);
    curl_global_cleanup();
}

unsigned poster_free(const struct poster *p)
{
    return p->free_count;
}

static void set_options(struct post *post, const char *url)
{
    const struct poster *p = post->poster;
    CURL *easy = post->easy;

    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Else the end of an attempt waits for the thread that looks up its name, and all others with it. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "Postern");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, p->headers);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->body.len);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, (const char *)post->body.ptr);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)p->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)p->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)IDLE_MAX_S);
    curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, (long)LIFE_MAX_S);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, post->words);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, post);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, post);
}

struct post *poster_begin(struct poster *p, const char *url, struct buf *body, post_callback *done,
                          void *arg)
{
    struct post *post = p->free;

    assert(post != NULL && p->free_count > 0);
    p->free = post->next_free;
    p->free_count--;
    buf_fini(&post->body);
    post->body = *body;
    *body = (struct buf){0};
    post->answer_bytes = 0;
    post->is_private = false;
    post->words[0] = '\0';
    post->done = done;
    post->arg = arg;
    post->begun_mono_ms = clock_mono_ms();
    set_options(post, url);
    CURLMcode code = curl_multi_add_handle(p->multi, post->easy);
    assert(code == CURLM_OK);
    return post;
}

static void give_back(struct post *post)
{
    struct poster *p = post->poster;

    (void)curl_multi_remove_handle(p->multi, post->easy);
    buf_fini(&post->body);
    post->next_free = p->free;
    p->free = post;
    p->free_count++;
}

void poster_abandon(struct post *post)
{
    give_back(post);
}

static void end(struct post *post, CURLcode code)
{
    struct post_answer answer = {.took_ms = clock_mono_ms() - post->begun_mono_ms};
    long status = 0;

    (void)curl_easy_getinfo(post->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && status > 0))
        answer.status = (int)status;
    else if (post->is_private)
        answer.words = "its address is not a public one (webhooks.allow_private)";
    else
        answer.words = post->words[0] != '\0' ? post->words : curl_easy_strerror(code);
    give_back(post);
    post->done(post->arg, &answer);
}

void poster_wait(struct poster *p, const int *fds, size_t count, uint64_t max_ms)
{
    struct curl_waitfd waits[POST_WAIT_FDS_MAX];
    CURLMsg *message;
    int running, left;

    assert(count <= POST_WAIT_FDS_MAX);
    for (size_t i = 0; i < count; i++)
        waits[i] = (struct curl_waitfd){.fd = fds[i], .events = CURL_WAIT_POLLIN};
    (void)curl_multi_perform(p->multi, &running);
    (void)curl_multi_poll(p->multi, waits, (unsigned)count, (int)max_ms, NULL);
    (void)curl_multi_perform(p->multi, &running);
    while ((message = curl_multi_info_read(p->multi, &left)) != NULL) {
        struct post *post = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &post);
        assert(post != NULL);
        end(post, message->data.result);
    }
}
