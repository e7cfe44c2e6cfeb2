#include "httpd/client.h"

#include <event2/http.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/queue.h>

#include <cmocka.h>

enum { HEADERS_MAX = 4 };

/* The proxy is 10.0.0.1; 10.0.0.0/8 and Unix sockets are trusted. */
static const struct chain_case {
    const char *peer;
    const char *headers[HEADERS_MAX][2];
    const char *address, *host;
    bool https;
} cases[] = {
    /* who is not trusted is not believed */
    {"192.0.2.9",
     {{"X-Forwarded-For", "203.0.113.1"},
      {"X-Forwarded-Proto", "https"},
      {"Forwarded", "for=203.0.113.1;host=evil;proto=https"}},
     "192.0.2.9",
     "own",
     false},
    {"10.0.0.1", {{NULL, NULL}}, "10.0.0.1", "own", false},
    {"10.0.0.1",
     {{"X-Forwarded-For", "203.0.113.1"},
      {"X-Forwarded-Proto", "https"},
      {"X-Forwarded-Host", "mail.example.com"}},
     "203.0.113.1",
     "mail.example.com",
     true},
    {"unix", {{"x-forwarded-for", "2001:db8::7"}}, "2001:db8::7", "own", false},
    /* what the client wrote itself stands to the left of what the proxy added */
    {"10.0.0.1", {{"X-Forwarded-For", "198.51.100.1, 203.0.113.1"}}, "203.0.113.1", "own", false},
    {"10.0.0.1",
     {{"X-Forwarded-For", "198.51.100.1"}, {"X-Forwarded-For", "203.0.113.1 , 10.9.9.9"}},
     "203.0.113.1",
     "own",
     false},
    {"10.0.0.1",
     {{"X-Forwarded-For", "203.0.113.1, 10.9.9.9"}, {"X-Forwarded-Proto", "http, https, http"}},
     "203.0.113.1",
     "own",
     true},
    {"10.0.0.1", {{"X-Forwarded-For", "10.1.1.1"}}, "10.1.1.1", "own", false},
    {"10.0.0.1", {{"X-Forwarded-For", "203.0.113.1, nonsense"}}, "10.0.0.1", "own", false},
    {"10.0.0.1",
     {{"X-Forwarded-For", "203.0.113.1, unknown"}, {"X-Forwarded-Proto", "https"}},
     "10.0.0.1",
     "own",
     true},
    {"10.0.0.1", {{"X-Forwarded-For", "203.0.113.1:4711"}}, "203.0.113.1", "own", false},
    {"10.0.0.1", {{"X-Forwarded-Host", "mail.example.com"}}, "10.0.0.1", "mail.example.com", false},
    /* what the client itself wrote, behind a proxy that knows X-Forwarded-For only */
    {"10.0.0.1",
     {{"Forwarded", "for=198.51.100.9;host=evil;proto=https"}, {"X-Forwarded-For", "198.51.100.7"}},
     "198.51.100.7",
     "own",
     false},
    /* Forwarded: quotes, ports, any case */
    {"10.0.0.1",
     {{"Forwarded",
       "For=\"[2001:db8:cafe::17]:4711\";Proto=HTTPS; host=\"mail.example.com:8443\""}},
     "2001:db8:cafe::17",
     "mail.example.com:8443",
     true},
    {"10.0.0.1",
     {{"Forwarded",
       "for=198.51.100.1;host=evil;proto=http, for=203.0.113.1;host=good;proto=https"}},
     "203.0.113.1",
     "good",
     true},
    {"10.0.0.1",
     {{"Forwarded", "for=203.0.113.1;host=good;proto=https"},
      {"Forwarded", "for=10.2.2.2;proto=http"}},
     "203.0.113.1",
     "good",
     true},
    {"10.0.0.1", {{"Forwarded", "for=_hidden;proto=https"}}, "_hidden", "own", true},
    {"10.0.0.1", {{"Forwarded", "for=\"_a,b\", for=\"unterminated"}}, "10.0.0.1", "own", false},
    {"10.0.0.1", {{"Forwarded", "for=\"[2001:db8::1\""}}, "10.0.0.1", "own", false},
    {"10.0.0.1", {{"Forwarded", ",;=,for"}}, "10.0.0.1", "own", false},
};

static void whoever_a_trusted_proxy_names_is_the_client(void **unused)
{
    char *texts[] = {(char[]){"10.0.0.0/8"}, (char[]){"unix"}};
    struct proxies *p = proxies_create(&(const struct config_list){texts, 2});

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct evkeyvalq headers = TAILQ_HEAD_INITIALIZER(headers);
        struct arena a = {0};
        struct client client;

        evhttp_add_header(&headers, "Host", "own");
        for (size_t h = 0; h < HEADERS_MAX && cases[i].headers[h][0] != NULL; h++)
            evhttp_add_header(&headers, cases[i].headers[h][0], cases[i].headers[h][1]);
        client_find(p, slice_str(cases[i].peer), false, &headers, &a, &client);
        if (!slice_eq(client.address, slice_str(cases[i].address)) ||
            !slice_eq(client.host, slice_str(cases[i].host)) || client.https != cases[i].https)
            fail_msg("case %zu: %.*s, host %.*s, https %d", i, SLICE_ARGS(client.address),
                     SLICE_ARGS(client.host), client.https);
        evhttp_clear_headers(&headers);
        arena_fini(&a);
    }
    proxies_destroy(p);
}

static void a_long_chain_is_read_from_its_near_end(void **unused)
{
    char *texts[] = {(char[]){"10.0.0.0/8"}};
    struct proxies *p = proxies_create(&(const struct config_list){texts, 1});
    struct evkeyvalq headers = TAILQ_HEAD_INITIALIZER(headers);
    struct arena a = {0};
    struct buf list = {0};
    struct client client;

    (void)unused;
    for (int i = 0; i < 1000; i++)
        buf_add_str(&list, "198.51.100.1, ");
    buf_add_str(&list, "203.0.113.1, 10.0.0.2");
    evhttp_add_header(&headers, "X-Forwarded-For", buf_cstr(&list));
    client_find(p, SLICE("10.0.0.1"), true, &headers, &a, &client);
    assert_true(slice_eq(client.address, SLICE("203.0.113.1")));
    assert_true(client.https);
    assert_int_equal(client.host.len, 0);
    evhttp_clear_headers(&headers);
    arena_fini(&a);
    buf_fini(&list);
    proxies_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_a_trusted_proxy_names_is_the_client),
        cmocka_unit_test(a_long_chain_is_read_from_its_near_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
