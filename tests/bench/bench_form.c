/*
 * tests/bench/bench_form.c - how long a newsletter takes from the request's body to packed records.
 *
 * bench_form [recipients]: a body as Ghost sends it, 100 KB of HTML and some 900 bytes of variables
 * each; the best of REPEATS runs of every step.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "mail/form.h"

enum { REPEATS = 20, HTML_BYTES = 100 * 1024 };

#define FIELD(name) "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n"
#define URL                                                                                        \
    "http://127.0.0.1:2399/unsubscribe/?uuid=f7b497e1-6607-4bea-888a-90d7230d1c7c&key=5f757856993" \
    "ed7e3ba273472712b6f60285f2e3b382a3d25cee020ae5139e0f7&newsletter=eacb5143-f00e-4636"

static void make_body(struct buf *b, unsigned recipients)
{
    for (unsigned i = 0; i < recipients; i++)
        buf_printf(b, FIELD("to") "reader%05u@readers.example.net\r\n", i);
    buf_add_str(b, FIELD("from") "\"E2E \\\"Gazette\\\"\" <newsletter@mg.example.com>\r\n");
    buf_add_str(b, FIELD("html"));
    for (size_t end = b->len + HTML_BYTES; b->len < end;)
        buf_add_str(b,
                    "<p class=\"post\">Hello %recipient.first_name_2_html%, S\xc3\xb6hne</p>\r\n");
    buf_add_str(b, "\r\n" FIELD("recipient-variables") "{");
    for (unsigned i = 0; i < recipients; i++)
        buf_printf(
            b,
            "%s\"reader%05u@readers.example.net\":{\"uuid\":\"f7b497e1-6607-4bea-888a\","
            "\"first_name_2\":\"\\\"Quote\\\"\",\"first_name_2_html\":\"&quot;Quote&quot;\","
            "\"email\":\"reader%05u@readers.example.net\",\"email_html\":\"reader%05u@"
            "readers.example.net\",\"name_3\":\"Zo\xc3\xab %u\",\"name_3_html\":\"Zo\xc3\xab "
            "%u\",\"unsubscribe_url\":\"" URL "\",\"list_unsubscribe\":\"" URL "\"}",
            i == 0 ? "" : ",", i, i, i, i, i);
    buf_add_str(b, "}\r\n" FIELD("v:email-id") "6b041b59ddb6680c07e77357\r\n" FIELD(
                       "o:tag") "bulk-email\r\n--B--\r\n");
}

static void pack_all(const struct submission *s, struct buf *to)
{
    buf_reset(to);
    message_head_pack(to, &s->head);
    message_content_pack(to, &s->content);
    for (size_t i = 0; i < s->recipient_count; i += MESSAGE_SLICE) {
        size_t left = s->recipient_count - i;
        recipients_pack(to, s->recipients + i, left < MESSAGE_SLICE ? left : MESSAGE_SLICE);
    }
    submission_claims(s, to);
}

static void keep_best(uint64_t *best_ns, uint64_t *since_ns)
{
    uint64_t now_ns = clock_mono_ns();

    if (now_ns - *since_ns < *best_ns)
        *best_ns = now_ns - *since_ns;
    *since_ns = now_ns;
}

int main(int argc, char **argv)
{
    unsigned recipients = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000;
    struct submission_context context = {.domain = SLICE("mg.example.com"),
                                         .path_domain = SLICE("mg.example.com"),
                                         .now_us = clock_wall_us(),
                                         .random = 1};
    struct buf body = {0}, packed = {0};
    uint64_t parse_ns = UINT64_MAX, submit_ns = UINT64_MAX, pack_ns = UINT64_MAX;
    size_t arena_bytes = 0;

    make_body(&body, recipients);
    for (int i = 0; i < REPEATS; i++) {
        struct arena a = {0};
        struct form form;
        struct submission s;
        struct refusal why = {0};
        uint64_t since_ns = clock_mono_ns();
        bool ok =
            form_parse(SLICE("multipart/form-data; boundary=B"), buf_slice(&body), &a, &form, &why);
        keep_best(&parse_ns, &since_ns);
        ok = ok && submission_from_form(&form, &context, &a, &s, &why);
        keep_best(&submit_ns, &since_ns);
        if (!ok) {
            (void)fprintf(stderr, "bench_form: %.*s\n", SLICE_ARGS(why.message));
            return 1;
        }
        pack_all(&s, &packed);
        keep_best(&pack_ns, &since_ns);
        arena_bytes = a.used_bytes;
        arena_fini(&a);
    }
    (void)printf("%u recipients, body %zu KB: form %.2f ms, submission %.2f ms, packing %.2f ms; "
                 "arena %zu KB, packed %zu KB\n",
                 recipients, body.len / 1024, (double)parse_ns / 1e6, (double)submit_ns / 1e6,
                 (double)pack_ns / 1e6, arena_bytes / 1024, packed.len / 1024);
    buf_fini(&body);
    buf_fini(&packed);
    return 0;
}
