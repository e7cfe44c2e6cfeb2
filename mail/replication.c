#include "mail/replication.h"

#include "base/digest.h"
#include "base/json.h"

#define NAME "postern-changes"

enum { NODE_BYTES = 8, CLOSING_BYTES = 2, TEXT_FIXED_BYTES = 3 /* quotes and a comma */ };

void replication_begin(struct buf *to, uint64_t node)
{
    buf_printf(to, "{\"" NAME "\":%d,\"node\":\"%016llx\",\"changes\":[", REPLICATION_VERSION,
               (unsigned long long)node);
}

bool replication_add(struct buf *to, struct slice change)
{
    bool is_first = to->ptr[to->len - 1] == '[';
    size_t text_bytes = change.len / 3 * 4 + 4 + TEXT_FIXED_BYTES;

    if (!is_first && to->len + text_bytes + CLOSING_BYTES > REPLICATION_BYTES_MAX)
        return false;
    buf_add_str(to, is_first ? "\"" : ",\"");
    text_base64url(to, change);
    buf_add_byte(to, '"');
    return true;
}

void replication_end(struct buf *to)
{
    buf_add_str(to, "]}");
}

/* -------- reading -------- */

static bool node_read(struct slice text, uint64_t *node)
{
    uint8_t bytes[NODE_BYTES];
    bool good = text_read_hex(text, bytes, sizeof bytes);

    *node = 0;
    for (size_t i = 0; good && i < NODE_BYTES; i++)
        *node = *node << 8 | bytes[i];
    return good && *node != 0;
}

static bool changes_read(const cJSON *list, struct arena *a, struct replication *r)
{
    struct buf bytes = {0};
    bool good = cJSON_IsArray(list);

    r->changes = arena_array(a, REPLICATION_CHANGES_MAX, sizeof *r->changes);
    for (const cJSON *one = good ? json_first(list) : NULL; good && one != NULL; one = one->next) {
        buf_reset(&bytes);
        good = r->count < REPLICATION_CHANGES_MAX && cJSON_IsString(one) &&
               text_from_base64(&bytes, json_text(one)) && bytes.len > 0;
        if (good)
            r->changes[r->count++] = arena_dup(a, buf_slice(&bytes));
    }
    buf_fini(&bytes);
    return good && r->count > 0;
}

static enum replication_verdict read_message(const cJSON *message, struct arena *a,
                                             struct replication *r, struct slice *why)
{
    int64_t version;

    if (json_get(message, NAME) == NULL)
        return REPLICATION_NONE;
    *why = SLICE("a change of another machine, of a version that this Postern does not read");
    if (!json_get_i64(message, NAME, &version) || version != REPLICATION_VERSION)
        return REPLICATION_BAD;
    *why = SLICE("a change of another machine that does not say which one");
    if (!node_read(json_get_text(message, "node"), &r->node))
        return REPLICATION_BAD;
    *why = SLICE("changes of another machine that are no list of base64");
    return changes_read(json_get(message, "changes"), a, r) ? REPLICATION_GOOD : REPLICATION_BAD;
}

enum replication_verdict replication_parse(struct slice body, struct arena *a,
                                           struct replication *r, struct slice *why)
{
    cJSON *inner = NULL;

    *r = (struct replication){.node = 0};
    if (slice_find(body, SLICE(NAME)) == SIZE_MAX)
        return REPLICATION_NONE;
    cJSON *root = json_parse(body);
    const cJSON *message = root;
    if (slice_eq(json_get_text(root, "Type"), SLICE("Notification"))) {
        message = inner = json_parse(json_get_text(root, "Message"));
        r->topic_arn = arena_dup(a, json_get_text(root, "TopicArn"));
    }
    enum replication_verdict verdict = read_message(message, a, r, why);
    json_free(inner);
    json_free(root);
    return verdict;
}
