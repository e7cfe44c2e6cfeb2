/* The body of POST /v1/analytics/logs. What is taken must be a range, a filter and a place that a
 * query can be made of, and the links of its answer must be taken again. */
#include <assert.h>
#include <stdint.h>

#include "base/json.h"
#include "httpd/logs_request.h"

#define NOW_US       UINT64_C(1764000000000000)
#define RETENTION_US UINT64_C(7776000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_body(struct logs_request *r, struct slice body, struct slice domains[2],
                      struct arena *a)
{
    struct slice why = slice_none();

    domains[0] = SLICE("mg.example.com");
    domains[1] = SLICE("news.example.org");
    *r = (struct logs_request){.domains = domains, .domain_count = 2};
    bool fine = logs_request_read(r, body, NOW_US, RETENTION_US, a, &why);
    assert(fine == (why.len == 0));
    return fine;
}

/* As a client goes on: the same body with the token of the answer. */
static void go_on(const struct logs_request *r, struct slice body, struct arena *a)
{
    const struct event_position first = {.timestamp_us = NOW_US - 2}, last = {NOW_US - 1, {7}};
    struct slice domains[2];
    struct logs_request again;
    struct buf text = {0};

    cJSON *tree = json_parse(body), *pagination = cJSON_CreateObject();
    struct page_token next = events_link(&r->events.token, LINK_NEXT, 2, &first, &last);
    page_token_write(&text, &next);
    (void)cJSON_AddStringToObject(pagination, "token", buf_cstr(&text));
    while (cJSON_HasObjectItem(tree, "pagination"))
        cJSON_DeleteItemFromObject(tree, "pagination");
    (void)cJSON_AddItemToObject(tree, "pagination", pagination);
    char *printed = cJSON_PrintUnformatted(tree);
    assert(printed != NULL);
    bool fine = read_body(&again, slice_str(printed), domains, a);
    assert(fine && again.events.token.has_position);
    assert(slice_eq(again.events.token.filter, r->events.token.filter));
    cJSON_free(printed);
    json_free(tree);
    buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice body = slice_of(data, size), domains[2];
    struct logs_request r;
    struct event_query q = {0};
    struct arena a = {0};
    struct filter_plan plan;

    if (read_body(&r, body, domains, &a)) {
        const struct page_token *t = &r.events.token;
        assert(r.domain_count <= 2 && t->limit >= 1);
        assert(t->has_position || t->from_us <= t->until_us);
        events_query_of(&r.events, &q);
        filter_plan(q.filter, &plan);
        go_on(&r, body, &a);
    }
    arena_fini(&a);
    return 0;
}
