/* tests/unit/base/test_seal.c - sealed texts are read by whoever has the secret, as they were made, or not. */
#include "base/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECRET  SLICE("0123456789abcdef0123456789abcdef")
#define PURPOSE SLICE("a test")
#define BESIDE  SLICE("mg.example.com")
#define PLAIN   SLICE("who may do what")

static bool opens(struct slice secret, struct slice purpose, struct slice beside,
                  struct slice sealed)
{
    struct buf plain = {0};

    buf_add_str(&plain, "before ");
    bool does = seal_open(secret, purpose, beside, sealed, &plain);
    assert_true(
        slice_eq(buf_slice(&plain), does ? SLICE("before who may do what") : SLICE("before ")));
    buf_fini(&plain);
    return does;
}

static void what_is_sealed_opens_with_the_same_secret_purpose_and_text_beside_it(void **unused)
{
    struct buf sealed = {0};

    (void)unused;
    seal_make(SECRET, PURPOSE, BESIDE, PLAIN, &sealed);
    assert_int_equal(sealed.len, SEAL_NONCE_BYTES + PLAIN.len + SEAL_TAG_BYTES);
    assert_true(slice_find(buf_slice(&sealed), PLAIN) == SIZE_MAX);
    assert_true(opens(SECRET, PURPOSE, BESIDE, buf_slice(&sealed)));
    assert_false(
        opens(SLICE("0123456789abcdef0123456789abcdeg"), PURPOSE, BESIDE, buf_slice(&sealed)));
    assert_false(opens(SECRET, SLICE("a tesT"), BESIDE, buf_slice(&sealed)));
    assert_false(opens(SECRET, PURPOSE, SLICE("mg.example.con"), buf_slice(&sealed)));
    assert_false(opens(SECRET, PURPOSE, slice_none(), buf_slice(&sealed)));
    buf_fini(&sealed);
}

static void a_changed_or_shortened_text_does_not_open(void **unused)
{
    struct buf sealed = {0};

    (void)unused;
    seal_make(SECRET, PURPOSE, BESIDE, PLAIN, &sealed);
    for (size_t i = 0; i < sealed.len; i++) {
        sealed.ptr[i] ^= 1;
        assert_false(opens(SECRET, PURPOSE, BESIDE, buf_slice(&sealed)));
        sealed.ptr[i] ^= 1;
        assert_false(opens(SECRET, PURPOSE, BESIDE, slice_head(buf_slice(&sealed), i)));
    }
    assert_true(opens(SECRET, PURPOSE, BESIDE, buf_slice(&sealed)));
    buf_fini(&sealed);
}

static void no_two_sealed_texts_are_alike_and_a_name_is_always_the_same(void **unused)
{
    uint8_t name[SEAL_NAME_BYTES], again[SEAL_NAME_BYTES], other[SEAL_NAME_BYTES];
    struct buf one = {0}, two = {0};

    (void)unused;
    seal_make(SECRET, PURPOSE, BESIDE, PLAIN, &one);
    seal_make(SECRET, PURPOSE, BESIDE, PLAIN, &two);
    assert_false(slice_eq(buf_slice(&one), buf_slice(&two)));
    seal_name(SECRET, PURPOSE, name);
    seal_name(SECRET, PURPOSE, again);
    assert_memory_equal(name, again, sizeof name);
    seal_name(SECRET, SLICE("another"), other);
    assert_memory_not_equal(name, other, sizeof name);
    seal_name(SLICE("other"), PURPOSE, other);
    assert_memory_not_equal(name, other, sizeof name);
    buf_fini(&one);
    buf_fini(&two);
}

/* Made with another implementation: Node's createHmac and createCipheriv, nonce 00 01 … 0b. */
static void another_program_makes_the_same(void **unused)
{
    static const uint8_t sealed[] = {
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x54, 0xec, 0x79,
        0xc4, 0xa7, 0x90, 0x13, 0xff, 0xa3, 0x6e, 0xa1, 0x1b, 0x5a, 0x7f, 0xa8, 0x5b, 0x32, 0x4a,
        0x63, 0x81, 0x6a, 0x34, 0xc0, 0xd0, 0x24, 0x1d, 0x1c, 0x39, 0x43, 0x50, 0xe3};
    static const uint8_t named[] = {0x72, 0x03, 0xdb, 0x2f, 0xe4, 0x83, 0x17, 0x59};
    uint8_t name[SEAL_NAME_BYTES];

    (void)unused;
    assert_true(opens(SECRET, PURPOSE, BESIDE, slice_of(sealed, sizeof sealed)));
    seal_name(SECRET, PURPOSE, name);
    assert_memory_equal(name, named, sizeof name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_opens_with_the_same_secret_purpose_and_text_beside_it),
        cmocka_unit_test(a_changed_or_shortened_text_does_not_open),
        cmocka_unit_test(no_two_sealed_texts_are_alike_and_a_name_is_always_the_same),
        cmocka_unit_test(another_program_makes_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
