/*
 * Slices, buffers, digests, JSON, and msgpack against msgpack-c's own reader.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <msgpack.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/pack.h"

static void utf8_is_judged_by_rfc_3629(void **unused)
{
    static const char *const good[] = {"", "a", "é", "€", "😀", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"};
    static const char *const bad[] = {
        "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x80\x80",
        "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82",
        "a\xff"};

    (void)unused;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(slice_is_utf8(slice_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(slice_is_utf8(slice_str(bad[i])));
}

static void slices_cut_trim_and_count(void **unused)
{
    struct slice head, tail;
    uint64_t n;

    (void)unused;
    assert_true(slice_cut(SLICE("a=b=c"), '=', &head, &tail));
    assert_true(slice_eq(head, SLICE("a")) && slice_eq(tail, SLICE("b=c")));
    assert_false(slice_cut(SLICE("abc"), '=', &head, &tail));
    assert_true(slice_eq(head, SLICE("abc")) && tail.len == 0);
    assert_true(slice_eq(slice_trim(SLICE(" \t x y\r\n")), SLICE("x y")));
    assert_true(slice_to_u64(SLICE("18446744073709551615"), &n) && n == UINT64_MAX);
    assert_false(slice_to_u64(SLICE("18446744073709551616"), &n));
    assert_false(slice_to_u64(SLICE("-1"), &n));
    assert_false(slice_to_u64(SLICE(""), &n));
    assert_int_equal(slice_find(SLICE("aab"), SLICE("ab")), 1);
    assert_int_equal(slice_find_nocase(SLICE("xAB"), SLICE("ab")), 1);
    assert_true(slice_find(SLICE("a"), SLICE("ab")) == SIZE_MAX);
    assert_true(slice_cmp(SLICE("ab"), SLICE("abc")) < 0);
}

static void hex_is(const uint8_t *bytes, size_t len, const char *expected)
{
    struct buf hex = {0};

    text_hex(&hex, slice_of(bytes, len));
    assert_string_equal(buf_cstr(&hex), expected);
    buf_fini(&hex);
}

static void digests_are_those_of_the_standards(void **unused)
{
    uint8_t out[SHA256_BYTES];
    struct buf text = {0};

    (void)unused;
    digest_sha256(SLICE("abc"), out); /* FIPS 180-2 */
    hex_is(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_hmac_sha256(SLICE("Jefe"), SLICE("what do ya want for nothing?"), out); /* RFC 4231 */
    hex_is(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    digest_md5(SLICE("abc"), out); /* RFC 1321 */
    hex_is(out, 16, "900150983cd24fb0d6963f7d28e17f72");
    text_base64(&text, SLICE("fooba")); /* RFC 4648 */
    assert_string_equal(buf_cstr(&text), "Zm9vYmE=");
    buf_reset(&text);
    assert_true(text_from_base64(&text, SLICE("Zm9vYg==")));
    assert_string_equal(buf_cstr(&text), "foob");
    buf_reset(&text);
    assert_false(text_from_base64(&text, SLICE("Zm9v!")));
    buf_reset(&text);
    text_percent_encode(&text, SLICE("a+b@x/ü~"), "/");
    assert_string_equal(buf_cstr(&text), "a%2Bb%40x/%C3%BC~");
    buf_reset(&text);
    assert_true(text_percent_decode(&text, SLICE("a%2Bb+c"), true));
    assert_string_equal(buf_cstr(&text), "a+b c");
    assert_false(text_percent_decode(&text, SLICE("%4"), false));
    assert_false(text_percent_decode(&text, SLICE("%zz"), false));
    buf_fini(&text);
}

/* What is left of it is the arena's: a sanitizer would tell of the rest. */
static void json_lives_and_dies_with_an_arena(void **unused)
{
    struct arena a = {0};

    (void)unused;
    const cJSON *outer =
        json_parse_in(&a, SLICE("{\"in\":\"{\\\"n\\\":[1,2,{\\\"x\\\":\\\"y\\\"}]}\"}"));
    const cJSON *inner = json_parse_in(&a, json_get_text(outer, "in"));
    cJSON *own = json_parse(SLICE("{\"freed\":true}"));
    assert_null(json_parse_in(&a, SLICE("{\"torn\":[1,2,\"three\"")));
    assert_null(json_parse_in(&a, SLICE("{\"followed\":1} by more")));
    assert_true(json_get_bool(own, "freed", false));
    json_free(own);
    const cJSON *third = json_first(json_get(inner, "n"))->next->next;
    assert_true(slice_eq(json_get_text(third, "x"), SLICE("y")));
    arena_fini(&a);
}

static void json_text_is_escaped_and_read_back(void **unused)
{
    uint8_t all[256];
    struct buf json = {0};

    (void)unused;
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)(i == 0 ? 1 : i);
    json_put_text(&json, slice_of(all, 128));
    cJSON *tree = json_parse(buf_slice(&json));
    assert_non_null(tree);
    assert_true(slice_eq(json_text(tree), slice_of(all, 128)));
    json_free(tree);
    buf_reset(&json);
    json_put_text(&json, slice_of(all, 256)); /* bytes that are no UTF-8 become U+FFFD */
    assert_true(slice_is_utf8(buf_slice(&json)));
    assert_null(json_parse(SLICE("{} x")));
    assert_null(json_parse(SLICE("")));
    tree = json_parse(SLICE(" {\"a\":1.5,\"b\":7,\"c\":[1],\"d\":true} \n"));
    int64_t n;
    assert_false(json_get_i64(tree, "a", &n));
    assert_true(json_get_i64(tree, "b", &n) && n == 7);
    assert_true(json_get_bool(tree, "d", false));
    assert_int_equal(json_get_text(tree, "c").len, 0);
    assert_null(json_get(NULL, "x"));
    json_free(tree);
    buf_fini(&json);
}

static void the_length_of_escaped_text_is_known_before(void **unused)
{
    uint64_t random = 88172645463325252u;
    struct buf json = {0};
    uint8_t text[64];

    (void)unused;
    for (int round = 0; round < 100000; round++) {
        for (size_t i = 0; i < sizeof text; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            /* Mostly plain: runs of it are skipped eight bytes at once. */
            text[i] = random % 8 == 0 ? (uint8_t)(random >> 32) : 'a';
        }
        struct slice s = slice_of(text, (size_t)(random >> 40) % (sizeof text + 1));
        buf_reset(&json);
        json_put_escaped(&json, s);
        assert_int_equal(json_escaped_length(s), json.len);
    }
    buf_fini(&json);
}

static void what_we_pack_the_library_reads_and_so_do_we(void **unused)
{
    static const uint64_t numbers[] = {
        0,         127,       128, 255, 256, 65535, 65536, UINT32_MAX, (uint64_t)UINT32_MAX + 1,
        INT64_MAX, UINT64_MAX};
    static const int64_t negatives[] = {-1, -32, -33, -128, -129, -32769, INT32_MIN, INT64_MIN};
    static const size_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
    uint8_t *bytes = calloc(1, 70000);
    struct buf b = {0};
    msgpack_unpacked one;
    size_t at = 0;

    (void)unused;
    msgpack_unpacked_init(&one);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        pack_u64(&b, numbers[i]);
    for (size_t i = 0; i < sizeof negatives / sizeof negatives[0]; i++)
        pack_i64(&b, negatives[i]);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        pack_str(&b, slice_of(bytes, lengths[i]));
    struct unpack u = unpack_over(buf_slice(&b)), skipping = u;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_int_equal(msgpack_unpack_next(&one, (const char *)b.ptr, b.len, &at),
                         MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(one.data.via.u64, numbers[i]);
        assert_int_equal(unpack_u64(&u), numbers[i]);
        unpack_skip(&skipping, 1);
    }
    for (size_t i = 0; i < sizeof negatives / sizeof negatives[0]; i++) {
        assert_int_equal(msgpack_unpack_next(&one, (const char *)b.ptr, b.len, &at),
                         MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(one.data.via.i64, negatives[i]);
        assert_int_equal(unpack_i64(&u), negatives[i]);
        unpack_skip(&skipping, 1);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        assert_int_equal(unpack_str(&u).len, lengths[i]);
        unpack_skip(&skipping, 1);
    }
    assert_true(unpack_done(&u));
    assert_true(unpack_done(&skipping));
    msgpack_unpacked_destroy(&one);
    buf_fini(&b);
    free(bytes);
}

static void a_bad_cursor_stays_bad_and_counts_are_bounded(void **unused)
{
    struct unpack u =
        unpack_over(SLICE("\xdd\xff\xff\xff\xff")); /* an array of 4 billion, in 5 bytes */

    (void)unused;
    assert_int_equal(unpack_array(&u), 0);
    assert_false(unpack_ok(&u));
    assert_int_equal(unpack_u64(&u), 0);
    u = unpack_over(SLICE("\xdb\xff\xff\xff\xff"
                          "abc"));
    assert_int_equal(unpack_str(&u).len, 0);
    assert_false(unpack_ok(&u));
    u = unpack_over(SLICE("\xff"));
    assert_int_equal(unpack_u64(&u), 0); /* −1 is no u64 */
    assert_false(unpack_ok(&u));
    uint8_t deep[100];
    memset(deep, 0x91, sizeof deep);
    deep[31] = 0x90; /* the 32nd level */
    u = unpack_over(slice_of(deep, 32));
    unpack_skip(&u, 1);
    assert_true(unpack_done(&u));
    deep[31] = 0x91;
    deep[32] = 0x90;
    u = unpack_over(slice_of(deep, 33));
    unpack_skip(&u, 1);
    assert_false(unpack_ok(&u));
}

static void many_values_are_passed_as_one_by_one(void **unused)
{
    struct buf b = {0};

    (void)unused;
    for (unsigned i = 0; i < 100; i++) {
        pack_array(&b, 4);
        pack_u64(&b, i * 3);
        pack_str(&b, slice_head(SLICE("0123456789012345678901234567890123456789"), i % 40));
        pack_map(&b, i % 3);
        for (unsigned pair = 0; pair < i % 3; pair++) {
            pack_nil(&b);
            pack_i64(&b, -(int64_t)i * 1000);
        }
        pack_array(&b, i % 2);
        if (i % 2 != 0)
            pack_bool(&b, i % 4 == 1);
    }
    struct unpack all = unpack_over(buf_slice(&b));
    for (unsigned i = 0; i <= 100; i++) {
        struct unpack u = unpack_over(buf_slice(&b));
        unpack_skip(&u, i);
        assert_true(unpack_ok(&u));
        assert_ptr_equal(u.at, all.at);
        if (i == 100)
            break;
        assert_int_equal(unpack_array(&all), 4);
        assert_int_equal(unpack_u64(&all), i * 3);
        assert_int_equal(unpack_str(&all).len, i % 40);
        for (uint32_t pairs = unpack_map(&all); pairs > 0; pairs--) {
            assert_true(unpack_nil(&all));
            assert_int_equal(unpack_i64(&all), -(int64_t)i * 1000);
        }
        if (unpack_array(&all) != 0)
            assert_int_equal(unpack_bool(&all), i % 4 == 1);
    }
    assert_true(unpack_done(&all));
    for (size_t len = 0; len < b.len; len++) { /* cut anywhere, it is not all there */
        struct unpack u = unpack_over(slice_of(b.ptr, len));
        unpack_skip(&u, 100);
        assert_false(unpack_ok(&u));
    }
    buf_fini(&b);
}

static void an_arena_keeps_what_it_gave(void **unused)
{
    struct arena a = {0};
    uint8_t *first = arena_alloc(&a, 100);

    (void)unused;
    memset(first, 1, 100);
    for (int i = 0; i < 1000; i++)
        memset(arena_alloc(&a, (size_t)i * 7), 2, (size_t)i * 7);
    for (int i = 0; i < 100; i++)
        assert_int_equal(first[i], 1);
    assert_true(slice_eq(arena_printf(&a, "%d-%s", 7, "x"), SLICE("7-x")));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 1 << 20));
    arena_fini(&a);
}

/* What goes round takes as much each time: after the first time it is in one piece, and no more is
 * asked of the system; but what was needed once, for something huge, is not kept. */
static void an_arena_that_is_reset_keeps_room_in_one_piece(void **unused)
{
    enum { PIECES = 50, PIECE_BYTES = 4000 };
    struct arena a = {0};
    uint8_t *first = NULL, *last = NULL;

    (void)unused;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < PIECES; i++) {
            uint8_t *piece = arena_take(&a, PIECE_BYTES);
            memset(piece, i, PIECE_BYTES);
            if (round > 0)
                assert_true(i == 0 || piece == last + PIECE_BYTES);
            if (round == 1 && i == 0)
                first = piece;
            if (round == 2 && i == 0)
                assert_ptr_equal(piece, first);
            last = piece;
        }
        arena_reset(&a);
        assert_int_equal(a.used_bytes, 0);
    }
    (void)arena_take(&a, 8 << 20);
    arena_reset(&a);
    first = arena_take(&a, PIECE_BYTES);
    for (int i = 0; i < 100; i++)
        last = arena_take(&a, PIECE_BYTES);
    assert_true(last != first + 100 * PIECE_BYTES);
    arena_fini(&a);
}

static void hexadecimal_digits_are_read_as_so_many_bytes(void **state)
{
    uint8_t bytes[3] = {7, 7, 7};
    const struct slice others[] = {SLICE(""), SLICE("00fF"), SLICE("00fFa10"), SLICE("00fFa1b2"),
                                   SLICE("00fFg1")};

    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(text_read_hex(others[i], bytes, sizeof bytes));
    assert_int_equal(bytes[0], 7);
    assert_true(text_read_hex(SLICE("00fFa1"), bytes, sizeof bytes));
    assert_memory_equal(bytes, "\x00\xff\xa1", 3);
    assert_true(text_read_hex(slice_none(), bytes, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hexadecimal_digits_are_read_as_so_many_bytes),
        cmocka_unit_test(utf8_is_judged_by_rfc_3629),
        cmocka_unit_test(slices_cut_trim_and_count),
        cmocka_unit_test(digests_are_those_of_the_standards),
        cmocka_unit_test(json_lives_and_dies_with_an_arena),
        cmocka_unit_test(json_text_is_escaped_and_read_back),
        cmocka_unit_test(the_length_of_escaped_text_is_known_before),
        cmocka_unit_test(what_we_pack_the_library_reads_and_so_do_we),
        cmocka_unit_test(a_bad_cursor_stays_bad_and_counts_are_bounded),
        cmocka_unit_test(many_values_are_passed_as_one_by_one),
        cmocka_unit_test(an_arena_keeps_what_it_gave),
        cmocka_unit_test(an_arena_that_is_reset_keeps_room_in_one_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
