#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/digest.h"
#include "mail/page_token.h"

static struct page_token sample_token(void)
{
    return (struct page_token){
        .domain = SLICE("mg.example.com"),
        .from_us = 1795431197000000,
        .until_us = 1795431260575000,
        .open_end = true,
        .ascending = true,
        .limit = 300,
        .filter = SLICE("\x01packed"),
        .has_position = true,
        .position_us = 1795431199000001,
        .position_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255},
    };
}

static void a_token_reads_back_and_is_one_path_segment(void **state)
{
    struct page_token sample = sample_token(), t;
    struct buf text = {0};
    struct arena a = {0};

    (void)state;
    page_token_write(&text, &sample);
    for (size_t i = 0; i < text.len; i++)
        assert_non_null(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
                               text.ptr[i]));
    assert_true(page_token_read(buf_slice(&text), SLICE("MG.example.com"), &a, &t));
    assert_true(slice_eq(t.domain, sample.domain));
    assert_true(t.from_us == sample.from_us && t.until_us == sample.until_us);
    assert_true(t.open_end && t.ascending && !t.backwards && !t.last_page && t.has_position);
    assert_int_equal(t.limit, 300);
    assert_true(slice_eq(t.filter, sample.filter));
    assert_true(t.position_us == sample.position_us);
    assert_memory_equal(t.position_id, sample.position_id, EVENT_ID_BYTES);

    struct page_token first = sample;
    first.has_position = false;
    first.last_page = first.backwards = true;
    buf_reset(&text);
    page_token_write(&text, &first);
    assert_true(page_token_read(buf_slice(&text), sample.domain, &a, &t));
    assert_true(!t.has_position && t.last_page && t.backwards);
    buf_fini(&text);
    arena_fini(&a);
}

static void another_domains_token_is_refused(void **state)
{
    struct page_token sample = sample_token(), t;
    struct buf text = {0};
    struct arena a = {0};

    (void)state;
    page_token_write(&text, &sample);
    assert_false(page_token_read(buf_slice(&text), SLICE("other.example.com"), &a, &t));
    buf_fini(&text);
    arena_fini(&a);
}

static void any_damage_is_noticed(void **state)
{
    struct page_token sample = sample_token(), t;
    struct buf raw = {0}, text = {0};
    struct arena a = {0};

    (void)state;
    page_token_write(&text, &sample);
    assert_true(text_from_base64(&raw, buf_slice(&text)));
    for (size_t len = 0; len < text.len; len++)
        assert_false(page_token_read(slice_head(buf_slice(&text), len), sample.domain, &a, &t));
    for (size_t i = 0; i < raw.len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            raw.ptr[i] ^= (uint8_t)(1u << bit);
            buf_reset(&text);
            text_base64url(&text, buf_slice(&raw));
            assert_false(page_token_read(buf_slice(&text), sample.domain, &a, &t));
            raw.ptr[i] ^= (uint8_t)(1u << bit);
        }
    assert_false(page_token_read(SLICE(""), sample.domain, &a, &t));
    assert_false(page_token_read(SLICE("undefined"), sample.domain, &a, &t));
    buf_fini(&raw);
    buf_fini(&text);
    arena_fini(&a);
}

static void a_forged_token_with_a_range_upside_down_is_refused(void **state)
{
    struct page_token sample = sample_token(), forged = sample, t;
    struct buf text = {0};
    struct arena a = {0};

    (void)state;
    forged.from_us = forged.until_us + 1;
    page_token_write(&text, &forged);
    assert_false(page_token_read(buf_slice(&text), sample.domain, &a, &t));
    buf_fini(&text);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_reads_back_and_is_one_path_segment),
        cmocka_unit_test(another_domains_token_is_refused),
        cmocka_unit_test(any_damage_is_noticed),
        cmocka_unit_test(a_forged_token_with_a_range_upside_down_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
