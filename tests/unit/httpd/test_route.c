#include "httpd/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct route parse(struct arena *a, const char *path)
{
    struct route route;

    route_parse(slice_str(path), a, &route);
    return route;
}

static void each_resource_is_found_under_three_versions(void **unused)
{
    static const struct {
        const char *path;
        enum route_kind kind;
    } cases[] = {
        {"/health", ROUTE_HEALTH},
        {"/healthcheck", ROUTE_HEALTHCHECK},
        {"/v1/send", ROUTE_SEND},
        {"/v1/send/x", ROUTE_NOT_FOUND},
        {"/v3/send", ROUTE_NOT_FOUND},
        {"/stats/getNewsletterUsage", ROUTE_USAGE},
        {"/stats/other/", ROUTE_USAGE},
        {"/stats/%zz", ROUTE_BAD_ESCAPE},
        {"/stats", ROUTE_NOT_FOUND},
        {"/v3/example.com/messages", ROUTE_MESSAGES},
        {"/v2/example.com/messages", ROUTE_MESSAGES},
        {"/v4/example.com/messages/", ROUTE_MESSAGES},
        {"/v3/example.com/messages.mime", ROUTE_MESSAGES_MIME},
        {"/v3/example.com/messages.mime/x", ROUTE_NOT_FOUND},
        {"/v3/example.com/events", ROUTE_EVENTS},
        {"/v3/example.com/events/TOKEN", ROUTE_EVENTS},
        {"/v3/example.com/bounces/a@b", ROUTE_SUPPRESSION},
        {"/v3/example.com/complaints/a@b/", ROUTE_SUPPRESSION},
        {"/v3/example.com/unsubscribes/a@b", ROUTE_SUPPRESSION},
        {"/v3/example.com/bounces", ROUTE_SUPPRESSIONS},
        {"/v3/example.com/whitelists", ROUTE_SUPPRESSIONS},
        {"/v3/example.com/allowlists/example.net", ROUTE_SUPPRESSION},
        {"/v3/example.com/unsubscribes/import", ROUTE_SUPPRESSIONS_IMPORT},
        {"/v3/example.com/messages//", ROUTE_NOT_FOUND},
        {"//v3/example.com/messages", ROUTE_NOT_FOUND},
        {"/v3//messages", ROUTE_NOT_FOUND},
        {"/v3/example.com/messages/x", ROUTE_NOT_FOUND},
        {"/v3/example.com/events/a/b", ROUTE_NOT_FOUND},
        {"/v1/example.com/messages", ROUTE_NOT_FOUND},
        {"/v3/example.com/Messages", ROUTE_NOT_FOUND},
        {"/v3/domains/example.com/messages", ROUTE_DOMAINS}, /* which knows no such thing */
        {"/v3/domains/example.com/messages/a2V5", ROUTE_STORED_MESSAGE},
        {"/v3/domains/example.com/messages/%zz", ROUTE_BAD_ESCAPE},
        {"/v1/analytics/logs", ROUTE_LOGS},
        {"/v1/analytics/metrics/", ROUTE_ANALYTICS_METRICS},
        {"/v1/analytics/metrics/x", ROUTE_NOT_FOUND},
        {"/v3/example.com/templates", ROUTE_TEMPLATES},
        {"/v3/example.com/templates/a%20b/", ROUTE_TEMPLATE},
        {"/v3/example.com/templates/a/versions", ROUTE_TEMPLATE_VERSIONS},
        {"/v4/example.com/templates/a/versions/v1", ROUTE_TEMPLATE_VERSION},
        {"/v3/example.com/templates/a/versions/v1/copy", ROUTE_NOT_FOUND},
        {"/v3/example.com/templates/a/versions/v1/copy/v2", ROUTE_TEMPLATE_COPY},
        {"/v3/example.com/templates/a/versions/v1/copy/v2/x", ROUTE_NOT_FOUND},
        {"/v3/example.com/templates/a/version/v1", ROUTE_NOT_FOUND},
        {"/v3/example.com/templates/a/versions/v1/move/v2", ROUTE_NOT_FOUND},
        {"/v3/example.com/templates/a/versions/%zz", ROUTE_BAD_ESCAPE},
        {"/v3/example.com/tags/a/b/c/d/e", ROUTE_NOT_FOUND},
        {"/v3/domains/example.com/webhooks/opened/x", ROUTE_NOT_FOUND},
        {"/v3/example.com/envelopes", ROUTE_ENVELOPES},
        {"/v3/example.com/envelopes/x", ROUTE_NOT_FOUND},
        {"/v3/domains", ROUTE_DOMAINS},
        {"/v4/domains/", ROUTE_DOMAINS},
        {"/v4/domains/example.com/verify", ROUTE_DOMAINS},
        {"/v3/domains/example.com/tracking/open", ROUTE_NOT_FOUND},
        {"/v2/domains", ROUTE_NOT_FOUND},
        {"/v4/domains/%zz", ROUTE_BAD_ESCAPE},
        {"/", ROUTE_NOT_FOUND},
        {"", ROUTE_NOT_FOUND},
        {"*", ROUTE_NOT_FOUND},
        {"/v3/exa%zzmple.com/messages", ROUTE_BAD_ESCAPE},
        {"/v3/example.com/bounces/a%4", ROUTE_BAD_ESCAPE},
    };
    struct arena a = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(parse(&a, cases[i].path).kind, cases[i].kind);
    arena_fini(&a);
}

static void segments_are_cut_before_they_are_decoded(void **unused)
{
    struct arena a = {0};
    struct route r = parse(&a, "/v3/Ex%41mple.com/bounces/a%2Fb%2Bc+d%40x.io");

    (void)unused;
    assert_int_equal(r.kind, ROUTE_SUPPRESSION);
    assert_int_equal(r.list, SUPPRESS_BOUNCE);
    assert_true(slice_eq(r.leaf, SLICE("a/b+c+d@x.io")));
    assert_true(slice_eq(r.domain, SLICE("ExAmple.com")));
    assert_true(slice_eq(r.raw_domain, SLICE("Ex%41mple.com")));
    assert_true(slice_eq(r.version, SLICE("v3")));
    arena_fini(&a);
}

static void only_the_domains_family_refuses_in_json(void **unused)
{
    struct arena a = {0};

    (void)unused;
    assert_true(parse(&a, "/v3/domains").json_unauthorized);
    assert_true(parse(&a, "/v4/domains/example.com").json_unauthorized);
    assert_true(parse(&a, "/v4/address/validate").json_unauthorized);
    assert_false(parse(&a, "/v3/address/validate").json_unauthorized);
    assert_false(parse(&a, "/v3/example.com/messages").json_unauthorized);
    arena_fini(&a);
}

static void a_query_is_read_pair_by_pair(void **unused)
{
    struct slice query = SLICE("event=delivered+OR+failed&&x&tags=a%26b&bad=%zz&empty=&=v"), name,
                 value;
    struct arena a = {0};

    (void)unused;
    assert_true(query_next(&query, &a, &name, &value));
    assert_true(slice_eq(name, SLICE("event")) && slice_eq(value, SLICE("delivered OR failed")));
    assert_true(query_next(&query, &a, &name, &value));
    assert_true(slice_eq(name, SLICE("x")) && slice_is_empty(value));
    assert_true(query_next(&query, &a, &name, &value));
    assert_true(slice_eq(name, SLICE("tags")) && slice_eq(value, SLICE("a&b")));
    assert_true(query_next(&query, &a, &name, &value));
    assert_true(slice_eq(name, SLICE("empty")) && slice_is_empty(value));
    assert_false(query_next(&query, &a, &name, &value));
    arena_fini(&a);
}

static void a_method_is_allowed_that_the_route_names_as_a_whole(void **unused)
{
    static const struct {
        const char *path, *allowed;
    } cases[] = {
        {"/health", "GET HEAD"},
        {"/healthcheck", "GET HEAD"},
        {"/metrics", "GET HEAD"},
        {"/v1/send", "POST"},
        {"/stats/getNewsletterUsage", "POST"},
        {"/v1/analytics/logs", "POST"},
        {"/v1/analytics/metrics", "POST"},
        {"/v3/example.com/messages", "POST"},
        {"/v3/example.com/messages.mime", "POST"},
        {"/v3/example.com/events", "GET"},
        {"/v3/example.com/envelopes", "DELETE"},
        {"/v3/example.com/stats/total", "GET"},
        {"/v3/example.com/tags", "GET"},
        {"/v3/example.com/tags/x", "GET PUT DELETE"},
        {"/v3/example.com/tags/x/stats", "GET"},
        {"/v3/example.com/bounces", "GET POST DELETE"},
        {"/v3/example.com/bounces/import", "POST"},
        {"/v3/example.com/bounces/a@example.net", "GET DELETE"},
        {"/v3/domains", "GET POST PUT DELETE"},
        {"/v3/domains/example.com/messages/key", "GET POST"},
        {"/v3/domains/example.com/webhooks", "GET POST"},
        {"/v4/domains/example.com/webhooks", "GET POST PUT DELETE"},
        {"/v3/domains/example.com/webhooks/opened", "GET PUT DELETE"},
        {"/v3/example.com/templates", "GET POST DELETE"},
        {"/v3/example.com/templates/x", "GET PUT DELETE"},
        {"/v3/example.com/templates/x/versions", "GET POST"},
        {"/v3/example.com/templates/x/versions/y", "GET PUT DELETE"},
        {"/v3/example.com/templates/x/versions/y/copy/z", "PUT"},
        {"/nothing", ""},
    };
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE"};
    struct arena a = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct route route = parse(&a, cases[i].path);
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
            assert_int_equal(route_allows(&route, methods[m]),
                             strstr(cases[i].allowed, methods[m]) != NULL);
        assert_false(route_allows(&route, "(other)"));
        assert_false(route_allows(&route, "GE"));
    }
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_resource_is_found_under_three_versions),
        cmocka_unit_test(segments_are_cut_before_they_are_decoded),
        cmocka_unit_test(only_the_domains_family_refuses_in_json),
        cmocka_unit_test(a_query_is_read_pair_by_pair),
        cmocka_unit_test(a_method_is_allowed_that_the_route_names_as_a_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
