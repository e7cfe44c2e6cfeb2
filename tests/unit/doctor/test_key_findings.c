/* tests/unit/doctor/test_key_findings.c - what doctor says of a domain's keys. */
#include "doctor/key_findings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/keys.h"

static char *keys[] = {(char[]){"key-one"}}, *sending_keys[] = {(char[]){"only-sends"}};
static char name[] = "mg.example.com", no_topic[] = "", topic[] = "arn:aws:sns:us-east-1:0:topic";
static struct config_domain domain;
static struct config config;
static char dir[64];
static struct store *store;
static struct store_txn *txn;

static int setup(void **state)
{
    struct err err;

    (void)state;
    domain = (struct config_domain){.name = name};
    domain.api_keys = (struct config_list){keys, 1};
    domain.sending_keys = (struct config_list){sending_keys, 1};
    config = (struct config){.domains = &domain, .domain_count = 1};
    config.queues.replication_topic = no_topic;
    (void)snprintf(dir, sizeof dir, "/tmp/postern-findings-XXXXXX");
    assert_non_null(mkdtemp(dir));
    store = store_open(dir, STORE_WRITE, &err);
    assert_non_null(store);
    txn = store_begin_write(store, &err);
    return txn == NULL;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    store_abort(txn);
    store_close(store);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static void put(const char *key, enum key_state state)
{
    struct key_row row = {.domain = slice_str(domain.name), .state = state, .at = {1, 1}};
    struct err err;

    digest_sha256(slice_str(key), row.digest);
    assert_int_equal(key_row_put(txn, &row, &err), 0);
}

static void expect(struct store_txn *t, enum finding_state state, const char *reason)
{
    struct finding f = {0};

    find_keys(&f, t, &config, &domain);
    assert_int_equal(f.state, state);
    if (strstr(buf_cstr(&f.reason), reason) == NULL)
        fail_msg("\"%s\" is not in: %s", reason, buf_cstr(&f.reason));
    assert_int_equal(f.mend.len > 0, state == FINDING_WARN);
    finding_fini(&f);
}

static void keys_of_the_file_and_added_ones_are_counted(void **unused)
{
    (void)unused;
    expect(NULL, FINDING_OK, "1 key opens it");
    put("fresh", KEY_ADDED);
    expect(txn, FINDING_OK, "2 keys open it");
}

static void a_withdrawn_key_in_the_file_is_named(void **unused)
{
    (void)unused;
    put("fresh", KEY_ADDED);
    put("gone", KEY_WITHDRAWN);
    expect(txn, FINDING_OK, "2 keys open it");
    put("key-one", KEY_WITHDRAWN);
    expect(txn, FINDING_WARN, "1 withdrawn key still stands in proxy.conf");
}

static void a_domain_that_no_key_opens_is_named(void **unused)
{
    (void)unused;
    domain.api_keys.count = 0;
    expect(txn, FINDING_WARN, "no key opens it for more than sending");
}

static void a_machine_that_could_not_tell_the_others_is_named(void **unused)
{
    (void)unused;
    config.queues.replication_topic = topic;
    expect(txn, FINDING_OK, "1 key opens it");
    put("fresh", KEY_ADDED);
    domain.api_keys.count = 0;
    expect(txn, FINDING_WARN, "no key of proxy.conf can tell the other machines");
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(keys_of_the_file_and_added_ones_are_counted),
        WITH(a_withdrawn_key_in_the_file_is_named),
        WITH(a_domain_that_no_key_opens_is_named),
        WITH(a_machine_that_could_not_tell_the_others_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
