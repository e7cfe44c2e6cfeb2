/* AWS's own Signature Version 4 vectors, read where they lie: $POSTERN_SHARED/data/sigv4, else
 * ../shared/data/sigv4. Only the variants that sign header fields; queries are never signed here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "aws/sign.h"
#include "base/arena.h"
#include "base/json.h"

enum { VECTORS = 38 };

static const char *vectors_folder(struct arena *a)
{
    const char *shared = getenv("POSTERN_SHARED");

    return arena_cstr(a, arena_printf(a, "%s/data/sigv4", shared != NULL ? shared : "../shared"));
}

static struct slice read_vector(struct arena *a, const char *folder, const char *file)
{
    struct buf text = {0};
    FILE *f = fopen(arena_cstr(a, arena_printf(a, "%s/%s", folder, file)), "r");

    assert_non_null(f);
    for (int c; (c = fgetc(f)) != EOF;)
        buf_add_byte(&text, (uint8_t)c);
    (void)fclose(f);
    struct slice copy = arena_dup(a, buf_slice(&text));
    buf_fini(&text);
    return copy;
}

static struct slice next_line(struct slice *text)
{
    struct slice line;

    (void)slice_cut(*text, '\n', &line, text);
    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

/* The request as text: first line, fields (a line that begins with a blank goes on), body. */
static struct sign_request parse_request(struct arena *a, struct slice text)
{
    struct sign_header *headers = arena_array(a, SIGN_HEADERS_MAX, sizeof *headers);
    struct sign_request r = {.headers = headers};
    struct slice line = next_line(&text), target;

    assert_true(slice_cut(line, ' ', &r.method, &target));
    size_t version = slice_rfind_byte(target, ' ');
    assert_true(version != SIZE_MAX);
    (void)slice_cut(slice_head(target, version), '?', &r.path, &r.query);
    while (text.len > 0 && (line = next_line(&text)).len > 0) {
        if (line.ptr[0] == ' ') {
            struct sign_header *last = &headers[r.header_count - 1];
            last->value = arena_printf(a, "%.*s\n%.*s", SLICE_ARGS(last->value), SLICE_ARGS(line));
            continue;
        }
        struct sign_header *h = &headers[r.header_count++];
        assert_true(slice_cut(line, ':', &h->name, &h->value));
    }
    r.body = text;
    return r;
}

static void add_header(struct arena *a, struct sign_request *r, const char *name,
                       struct slice value)
{
    struct sign_header *more = arena_array(a, SIGN_HEADERS_MAX, sizeof *more);

    memcpy(more, r->headers, r->header_count * sizeof *more);
    more[r->header_count++] = (struct sign_header){slice_str(name), value};
    r->headers = more;
}

#define ASSERT_SAME(vector, what, got, want)                                                       \
    do {                                                                                           \
        if (!slice_eq(got, want))                                                                  \
            fail_msg("%s: %s\n--- got\n%.*s\n--- want\n%.*s", vector, what, SLICE_ARGS(got),       \
                     SLICE_ARGS(want));                                                            \
    } while (0)

static void check_vector(const char *name, const char *folder)
{
    struct arena a = {0};
    struct buf got = {0}, scratch = {0};
    cJSON *context = json_parse(read_vector(&a, folder, "context.json"));
    const cJSON *keys = json_get(context, "credentials");
    struct slice token = json_get_text(keys, "token");
    struct slice service = json_get_text(context, "service");
    struct sign_request r = parse_request(&a, read_vector(&a, folder, "request.txt"));
    struct sign_scope scope = {.region = json_get_text(context, "region"), .service = service};
    uint8_t key[SHA256_BYTES];

    assert_non_null(context);
    sign_date(1440938160, scope.date); /* 2015-08-30T12:36:00Z, in all of them */
    add_header(&a, &r, "X-Amz-Date", slice_str(scope.date));
    if (token.len > 0 && !json_get_bool(context, "omit_session_token", false))
        add_header(&a, &r, "X-Amz-Security-Token", token);
    if (json_get_bool(context, "sign_body", false)) {
        uint8_t sum[SHA256_BYTES];
        digest_sha256(r.body, sum);
        text_hex(&scratch, slice_of(sum, sizeof sum));
        add_header(&a, &r, "x-amz-content-sha256", arena_dup(&a, buf_slice(&scratch)));
    }
    r.keep_path = !json_get_bool(context, "normalize", true);

    sign_canonical_request(&got, &r);
    struct slice canonical = arena_dup(&a, buf_slice(&got));
    ASSERT_SAME(name, "canonical request", canonical,
                read_vector(&a, folder, "header-canonical-request.txt"));
    buf_reset(&got);
    sign_string_to_sign(&got, &scope, canonical);
    ASSERT_SAME(name, "string to sign", buf_slice(&got),
                read_vector(&a, folder, "header-string-to-sign.txt"));

    sign_key(json_get_text(keys, "secret_access_key"), &scope, key);
    buf_reset(&got);
    sign_authorization(&got, &scratch, &r, &scope, json_get_text(keys, "access_key_id"), key);
    struct slice is = buf_slice(&got), signed_request;
    ASSERT_SAME(name, "signature", slice_from(is, is.len - 64),
                read_vector(&a, folder, "header-signature.txt"));
    signed_request = read_vector(&a, folder, "header-signed-request.txt");
    size_t at = slice_find(signed_request, SLICE("Authorization:"));
    assert_true(at != SIZE_MAX);
    signed_request = slice_from(signed_request, at + sizeof "Authorization:" - 1);
    ASSERT_SAME(name, "authorization", is, next_line(&signed_request));

    buf_fini(&got);
    buf_fini(&scratch);
    json_free(context);
    arena_fini(&a);
}

static void all_of_aws_s_test_vectors_come_out_the_same(void **state)
{
    struct arena a = {0};
    const char *folder = vectors_folder(&a);
    DIR *dir = opendir(folder);
    int count = 0;

    (void)state;
    if (dir == NULL) {
        (void)fprintf(stderr,
                      "SKIPPED: no SigV4 test vectors in %s (set POSTERN_SHARED): NOTHING was "
                      "checked against AWS's own signatures\n",
                      folder);
        arena_fini(&a);
        skip();
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "LICENSE") == 0)
            continue;
        const char *vector = arena_cstr(&a, arena_printf(&a, "%s/%s", folder, entry->d_name));
        check_vector(entry->d_name, vector);
        count++;
    }
    (void)closedir(dir);
    arena_fini(&a);
    assert_int_equal(count, VECTORS);
}

static void a_path_encoded_for_the_wire_is_encoded_again(void **state)
{
    struct buf got = {0};
    struct sign_header host = {SLICE("Host"), SLICE("email.eu-west-1.amazonaws.com")};

    (void)state;
    sign_canonical_request(
        &got,
        &(struct sign_request){.method = SLICE("DELETE"),
                               .path = SLICE("/v2/email/suppression/addresses/a%2Bb%40example.com"),
                               .headers = &host,
                               .header_count = 1});
    assert_true(slice_find(buf_slice(&got), SLICE("/addresses/a%252Bb%2540example.com\n\n")) !=
                SIZE_MAX);
    buf_fini(&got);
}

static void names_are_sorted_without_what_follows_them(void **state)
{
    struct buf got = {0};
    /* As whole lines "x-amz-meta-a-b:" would come before "x-amz-meta-a:". */
    struct sign_header h[] = {{SLICE("X-Amz-Meta-A-B"), SLICE("2")},
                              {SLICE("x-amz-meta-a"), SLICE("1")}};

    (void)state;
    sign_canonical_request(&got, &(struct sign_request){.method = SLICE("GET"),
                                                        .path = SLICE("/"),
                                                        .query = SLICE("b=2&a=%7e&a&c=x:y/z"),
                                                        .headers = h,
                                                        .header_count = 2});
    assert_true(slice_starts(
        buf_slice(&got), SLICE("GET\n/\na=&a=~&b=2&c=x%3Ay%2Fz\nx-amz-meta-a:1\nx-amz-meta-a-b:2\n"
                               "\nx-amz-meta-a;x-amz-meta-a-b\n")));
    buf_fini(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_aws_s_test_vectors_come_out_the_same),
        cmocka_unit_test(a_path_encoded_for_the_wire_is_encoded_again),
        cmocka_unit_test(names_are_sorted_without_what_follows_them),
    };
    return cmocka_run_group_tests_name("aws/sign", tests, NULL, NULL);
}
