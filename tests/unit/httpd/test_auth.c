#include "httpd/auth.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "store/keys.h"

static char *first_keys[] = {(char[]){"key-one"}, (char[]){"shared"}};
static char *second_keys[] = {(char[]){"key-two"}, (char[]){"shared"}, (char[]){""}};
static char *sending_keys[] = {(char[]){"only-sends"}};
static char *account_keys[] = {
    (char[]){"account"},
    /* printf %s key-hashed | sha256sum */
    (char[]){"sha256:be35011b541f98c9f5bd192c4994bc8bc45d55f6295d27032976826b64703d3e"},
};
static struct config_domain domains[] = {
    {.name = (char[]){"first.example.com"},
     .api_keys = {first_keys, 2},
     .sending_keys = {sending_keys, 1}},
    {.name = (char[]){"second.example.com"}, .api_keys = {second_keys, 3}},
};
static const struct config config = {.domains = domains,
                                     .domain_count = 2,
                                     .api_keys = {account_keys, 2},
                                     .metrics = {.key = (char[]){"for-metrics"}}};

/* -------- a store with rows, for the tests that say so -------- */

static char dir[64];
static struct store *store;
static struct store_txn *txn; /* NULL = there is no store yet */

static int with_store(void **state)
{
    struct err err;

    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/postern-auth-XXXXXX");
    assert_non_null(mkdtemp(dir));
    store = store_open(dir, STORE_WRITE, &err);
    assert_non_null(store);
    txn = store_begin_write(store, &err);
    return txn == NULL;
}

static int without_store(void **state)
{
    char command[128];

    (void)state;
    store_abort(txn);
    store_close(store);
    txn = NULL;
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static void put(const char *key, const char *domain, enum key_state state, bool only_sending)
{
    struct key_row row = {
        .domain = slice_str(domain), .state = state, .only_sending = only_sending};
    struct err err;

    digest_sha256(slice_str(key), row.digest);
    assert_int_equal(key_row_put(txn, &row, &err), 0);
}

static size_t check_for(enum auth_purpose purpose, struct arena *a, const char *scheme,
                        struct slice credentials, const struct config_domain ***found)
{
    struct auth *auth = auth_create(&config);
    struct buf header = {0};

    buf_add_str(&header, scheme);
    text_base64(&header, credentials);
    size_t count = auth_check(auth, txn, buf_slice(&header), purpose, a, found);
    buf_fini(&header);
    auth_destroy(auth);
    return count;
}

static size_t check(struct arena *a, const char *scheme, struct slice credentials,
                    const struct config_domain ***found)
{
    return check_for(AUTH_ALL, a, scheme, credentials, found);
}

static void a_key_opens_its_domains_and_no_other(void **unused)
{
    const struct config_domain **found;
    struct arena a = {0};

    (void)unused;
    assert_int_equal(check(&a, "Basic ", SLICE("api:key-one"), &found), 1);
    assert_ptr_equal(found[0], &domains[0]);
    assert_int_equal(check(&a, "basic ", SLICE("api:key-two"), &found), 1);
    assert_ptr_equal(found[0], &domains[1]);
    assert_int_equal(check(&a, "Basic ", SLICE("api:shared"), &found), 2);
    assert_ptr_equal(found[0], &domains[0]);
    assert_ptr_equal(found[1], &domains[1]);
    arena_fini(&a);
}

static void everything_else_opens_nothing(void **unused)
{
    const struct config_domain **found;
    struct arena a = {0};

    (void)unused;
    assert_int_equal(check(&a, "Basic ", SLICE("api:key-on"), &found), 0);
    assert_int_equal(check(&a, "Basic ", SLICE("api:key-one "), &found), 0);
    assert_int_equal(check(&a, "Basic ", SLICE("api:KEY-ONE"), &found), 0);
    assert_int_equal(check(&a, "Basic ", SLICE("api:"), &found), 0);
    assert_int_equal(check(&a, "Basic ", SLICE("api"), &found), 0);
    assert_int_equal(check(&a, "Basic ", SLICE(":key-one"), &found), 0);
    assert_int_equal(check(&a, "Basic ", SLICE("API:key-one"), &found), 0);
    assert_int_equal(check(&a, "Bearer ", SLICE("api:key-one"), &found), 0);
    assert_int_equal(check(&a, "Basic !", SLICE("api:key-one"), &found), 0);
    assert_int_equal(check(&a, "", (struct slice){0}, &found), 0);
    arena_fini(&a);
}

static void an_account_key_opens_all_and_may_be_kept_as_its_digest(void **unused)
{
    const struct config_domain **found;
    struct arena a = {0};

    (void)unused;
    assert_int_equal(check(&a, "Basic ", SLICE("api:account"), &found), 2);
    assert_int_equal(check(&a, "Basic ", SLICE("api:key-hashed"), &found), 2);
    assert_ptr_equal(found[1], &domains[1]);
    struct buf stored = {0}; /* what stands in the file is no key */
    buf_printf(&stored, "api:%s", account_keys[1]);
    assert_int_equal(check(&a, "Basic ", buf_slice(&stored), &found), 0);
    buf_fini(&stored);
    arena_fini(&a);
}

static void a_sending_key_opens_its_domain_for_sending_only(void **unused)
{
    const struct config_domain **found;
    struct arena a = {0};

    (void)unused;
    assert_int_equal(check(&a, "Basic ", SLICE("api:only-sends"), &found), 0);
    assert_int_equal(check_for(AUTH_SENDING, &a, "Basic ", SLICE("api:only-sends"), &found), 1);
    assert_ptr_equal(found[0], &domains[0]);
    assert_int_equal(check_for(AUTH_SENDING, &a, "Basic ", SLICE("api:key-two"), &found), 1);
    arena_fini(&a);
}

static bool may_read_metrics(const char *scheme, struct slice credentials, bool as_base64)
{
    struct auth *auth = auth_create(&config);
    struct buf header = {0};

    buf_add_str(&header, scheme);
    if (as_base64)
        text_base64(&header, credentials);
    else
        buf_add_slice(&header, credentials);
    bool may = auth_may_read_metrics(auth, txn, buf_slice(&header));
    buf_fini(&header);
    auth_destroy(auth);
    return may;
}

static void metrics_are_for_keys_of_all_domains_and_their_own(void **unused)
{
    const struct config_domain **found;
    struct arena a = {0};

    (void)unused;
    assert_true(may_read_metrics("Basic ", SLICE("api:account"), true));
    assert_true(may_read_metrics("Basic ", SLICE("api:key-hashed"), true));
    assert_true(may_read_metrics("Basic ", SLICE("api:for-metrics"), true));
    assert_true(may_read_metrics("bearer ", SLICE("for-metrics"), false));
    assert_true(may_read_metrics("Bearer ", SLICE(" account"), false));
    assert_false(may_read_metrics("Bearer ", SLICE("for-metric"), false));
    assert_false(may_read_metrics("Bearer ", SLICE(""), false));
    assert_false(may_read_metrics("Basic ", SLICE("api:key-one"), true));
    assert_false(may_read_metrics("Basic ", SLICE("api:shared"), true));
    assert_false(may_read_metrics("Basic ", SLICE("api:"), true));
    assert_false(may_read_metrics("", SLICE(""), false));
    assert_int_equal(check(&a, "Basic ", SLICE("api:for-metrics"), &found), 0);
    arena_fini(&a);
}

/* -------- keys of the store -------- */

static void an_added_key_opens_its_domain_beside_those_of_the_file(void **unused)
{
    const struct config_domain **found;
    struct arena a = {0};

    (void)unused;
    put("added", "second.example.com", KEY_ADDED, false);
    put("sends", "first.example.com", KEY_ADDED, true);
    put("everywhere", "", KEY_ADDED, false);
    put("elsewhere", "gone.example.com", KEY_ADDED, false);
    assert_int_equal(check(&a, "Basic ", SLICE("api:added"), &found), 1);
    assert_ptr_equal(found[0], &domains[1]);
    assert_int_equal(check(&a, "Basic ", SLICE("api:sends"), &found), 0);
    assert_int_equal(check_for(AUTH_SENDING, &a, "Basic ", SLICE("api:sends"), &found), 1);
    assert_ptr_equal(found[0], &domains[0]);
    assert_int_equal(check(&a, "Basic ", SLICE("api:everywhere"), &found), 2);
    assert_int_equal(check(&a, "Basic ", SLICE("api:elsewhere"), &found), 0);
    assert_int_equal(check(&a, "Basic ", SLICE("api:never"), &found), 0);
    assert_int_equal(check(&a, "Basic ", SLICE("api:key-one"), &found), 1);
    put("key-one", "second.example.com", KEY_ADDED, false);
    assert_int_equal(check(&a, "Basic ", SLICE("api:key-one"), &found), 2);
    arena_fini(&a);
}

static void a_withdrawn_key_opens_nothing_wherever_it_stands(void **unused)
{
    const struct config_domain **found;
    struct arena a = {0};

    (void)unused;
    put("shared", "first.example.com", KEY_WITHDRAWN, false);
    assert_int_equal(check(&a, "Basic ", SLICE("api:shared"), &found), 1);
    assert_ptr_equal(found[0], &domains[1]);
    put("account", "second.example.com", KEY_WITHDRAWN, false);
    assert_int_equal(check(&a, "Basic ", SLICE("api:account"), &found), 1);
    assert_ptr_equal(found[0], &domains[0]);
    put("account", "", KEY_WITHDRAWN, false);
    assert_int_equal(check(&a, "Basic ", SLICE("api:account"), &found), 0);
    put("only-sends", "first.example.com", KEY_WITHDRAWN, true);
    assert_int_equal(check_for(AUTH_SENDING, &a, "Basic ", SLICE("api:only-sends"), &found), 0);
    put("added", "", KEY_ADDED, false);
    put("added", "first.example.com", KEY_WITHDRAWN, false);
    assert_int_equal(check(&a, "Basic ", SLICE("api:added"), &found), 1);
    assert_ptr_equal(found[0], &domains[1]);
    put("key-two", "gone.example.com", KEY_WITHDRAWN, false);
    assert_int_equal(check(&a, "Basic ", SLICE("api:key-two"), &found), 1);
    arena_fini(&a);
}

static void metrics_go_with_the_key(void **unused)
{
    (void)unused;
    put("everywhere", "", KEY_ADDED, false);
    put("sends-everywhere", "", KEY_ADDED, true);
    put("added", "first.example.com", KEY_ADDED, false);
    put("account", "first.example.com", KEY_WITHDRAWN, false); /* not all domains' any more */
    put("for-metrics", "", KEY_WITHDRAWN, false);
    assert_true(may_read_metrics("Basic ", SLICE("api:everywhere"), true));
    assert_true(may_read_metrics("Bearer ", SLICE("everywhere"), false));
    assert_false(may_read_metrics("Basic ", SLICE("api:sends-everywhere"), true));
    assert_false(may_read_metrics("Basic ", SLICE("api:added"), true));
    assert_false(may_read_metrics("Basic ", SLICE("api:account"), true));
    assert_false(may_read_metrics("Bearer ", SLICE("for-metrics"), false));
    assert_true(may_read_metrics("Basic ", SLICE("api:key-hashed"), true));
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, with_store, without_store)
    const struct CMUnitTest tests[] = {
        WITH_STORE(an_added_key_opens_its_domain_beside_those_of_the_file),
        WITH_STORE(a_withdrawn_key_opens_nothing_wherever_it_stands),
        WITH_STORE(metrics_go_with_the_key),
        cmocka_unit_test(a_key_opens_its_domains_and_no_other),
        cmocka_unit_test(an_account_key_opens_all_and_may_be_kept_as_its_digest),
        cmocka_unit_test(a_sending_key_opens_its_domain_for_sending_only),
        cmocka_unit_test(metrics_are_for_keys_of_all_domains_and_their_own),
        cmocka_unit_test(everything_else_opens_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
