#include "store/elsewhere.h"

#include "base/pack.h"
#include "store/internal.h"
#include "store/key.h"

enum { MEMBERS = 4, TIME_BYTES = 8, SES_ID_MAX = 200 };

bool elsewhere_has(struct store_txn *t, struct slice ses_id)
{
    struct slice row;

    return ses_id.len > 0 && ses_id.len <= SES_ID_MAX && store_get(t, DB_ELSEWHERE, ses_id, &row);
}

int elsewhere_put(struct store_txn *t, const struct record_elsewhere *r, struct err *err)
{
    struct key sent = {.len = 0};
    struct buf row = {0};

    if (r->ses_id.len == 0 || r->ses_id.len > SES_ID_MAX || elsewhere_has(t, r->ses_id))
        return 0;
    key_u64(&sent, r->sent_us);
    buf_add_slice(&row, key_slice(&sent));
    pack_array(&row, MEMBERS);
    pack_str(&row, r->domain);
    pack_str(&row, r->message_id);
    pack_str(&row, r->email_id);
    pack_bin(&row, r->tags);
    int rc = store_put(t, DB_ELSEWHERE, r->ses_id, buf_slice(&row), err);
    buf_fini(&row);
    return rc == 0 ? 1 : -1;
}

static void set_tags(struct event *e, struct slice packed, struct arena *a)
{
    struct unpack u = unpack_over(packed);
    uint32_t count = packed.len == 0 ? 0 : unpack_array(&u);

    e->tag_count = 0;
    e->tags = arena_array(a, MESSAGE_TAGS_MAX, sizeof *e->tags);
    for (; count > 0 && e->tag_count < MESSAGE_TAGS_MAX; count--) {
        struct slice tag = arena_dup(a, unpack_str(&u));
        if (tag.len > 0)
            e->tags[e->tag_count++] = tag;
    }
}

static void set_email_id(struct event *e, struct slice email_id, struct arena *a)
{
    struct name_value *vars = arena_array(a, e->var_count + 1, sizeof *vars);
    size_t count = 0;

    for (size_t i = 0; i < e->var_count; i++)
        if (!slice_eq(e->vars[i].name, SLICE("email-id")))
            vars[count++] = e->vars[i];
    vars[count++] = (struct name_value){SLICE("email-id"), arena_dup(a, email_id)};
    e->vars = vars;
    e->var_count = count;
}

bool elsewhere_complete(struct store_txn *t, struct event *e, struct arena *a)
{
    struct slice row;

    if (e->ses_id.len == 0 || e->ses_id.len > SES_ID_MAX ||
        !store_get(t, DB_ELSEWHERE, e->ses_id, &row))
        return false;
    struct unpack u = unpack_over(slice_from(row, TIME_BYTES));
    if (unpack_array(&u) != MEMBERS)
        return false;
    struct slice domain = unpack_str(&u), message_id = unpack_str(&u), email_id = unpack_str(&u),
                 tags = unpack_str(&u);
    if (!unpack_done(&u))
        return false;
    e->domain = arena_dup(a, domain);
    if (message_id.len > 0)
        e->message_id = arena_dup(a, message_id);
    set_tags(e, tags, a);
    if (email_id.len > 0)
        set_email_id(e, email_id, a);
    return true;
}
