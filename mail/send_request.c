#include "mail/send_request.h"

#include "base/digest.h"
#include "base/json.h"
#include "mail/address.h"

enum { KEY_BYTES_MAX = 256, SHOWN = 100, CLAIM_SIZE = 16, ROOM = 4 /* from, Reply-To, … */ };

struct reader {
    const cJSON *root;
    struct arena *arena;
    struct send_request *r;
    struct buf wrong; /* "'to': …; 'subject': …" */
};

static void complain(struct reader *p, const char *field, const char *reason)
{
    buf_printf(&p->wrong, "%s'%s': %s", p->wrong.len > 0 ? "; " : "", field, reason);
}

static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *v = json_get(object, name);

    return cJSON_IsNull(v) ? NULL : v;
}

static void add(struct reader *p, struct form_field field)
{
    p->r->form.fields[p->r->form.count++] = field;
}

static void add_text(struct reader *p, struct slice name, struct slice value)
{
    add(p, (struct form_field){.name = name, .value = arena_dup(p->arena, value)});
}

/* A text of the request; *v is NULL when it is absent. */
static bool read_text(struct reader *p, const char *name, bool required, struct slice *text)
{
    const cJSON *v = member(p->root, name);

    *text = slice_none();
    if (v == NULL) {
        if (required)
            complain(p, name, "is required");
        return false;
    }
    if (!cJSON_IsString(v)) {
        complain(p, name, "must be a string");
        return false;
    }
    *text = json_text(v);
    return true;
}

static bool holds_control(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < ' ' || s.ptr[i] == 0x7f)
            return true;
    return false;
}

/* How many mailboxes; 0 = it is no list of them. */
static size_t count_mailboxes(struct slice list, struct arena *a)
{
    struct mailbox m;
    enum address_result result;
    size_t count = 0;

    if (holds_control(list))
        return 0;
    while ((result = address_next(&list, a, &m)) == ADDRESS_OK)
        count++;
    return result == ADDRESS_END ? count : 0;
}

bool send_request_is_sender(struct slice from, struct arena *a)
{
    return count_mailboxes(from, a) == 1;
}

static void read_one_to(struct reader *p, const cJSON *v)
{
    struct slice text = json_text(v);

    if (!cJSON_IsString(v))
        complain(p, "to", "must be a string or a list of strings");
    else if (count_mailboxes(text, p->arena) == 0)
        complain(p, "to",
                 arena_cstr(p->arena, arena_printf(p->arena, "'%.*s' is not a valid email address",
                                                   SLICE_ARGS(slice_head(text, SHOWN)))));
    else
        add_text(p, SLICE("to"), text);
}

static void read_to(struct reader *p)
{
    const cJSON *v = member(p->root, "to");

    if (v == NULL)
        complain(p, "to", "is required");
    else if (!cJSON_IsArray(v))
        read_one_to(p, v);
    else if (json_first(v) == NULL)
        complain(p, "to", "must hold at least one address");
    else
        for (const cJSON *e = json_first(v); e != NULL; e = e->next)
            read_one_to(p, e);
}

static void read_sender(struct reader *p)
{
    struct slice from, reply_to;

    if (read_text(p, "from", false, &from)) {
        if (!send_request_is_sender(from, p->arena))
            complain(p, "from", "is not a valid email address");
        p->r->from = arena_dup(p->arena, from);
    }
    if (read_text(p, "replyTo", false, &reply_to)) {
        if (count_mailboxes(reply_to, p->arena) == 0)
            complain(p, "replyTo", "is not a valid email address");
        p->r->has_reply_to = true;
        add_text(p, SLICE("h:Reply-To"), reply_to);
    }
}

static void read_content(struct reader *p)
{
    struct slice subject, html, text;

    if (read_text(p, "subject", true, &subject)) {
        if (holds_control(subject))
            complain(p, "subject", "must not hold line breaks or other control characters");
        add_text(p, SLICE("subject"), subject);
    }
    bool has_text = read_text(p, "text", false, &text);
    bool has_html = read_text(p, "html", !has_text, &html);
    if (has_html && html.len == 0 && text.len == 0)
        complain(p, "html", "must not be empty");
    if (html.len > 0)
        add_text(p, SLICE("html"), html);
    if (text.len > 0)
        add_text(p, SLICE("text"), text);
}

static void read_headers(struct reader *p)
{
    const cJSON *v = member(p->root, "headers");

    if (v != NULL && !cJSON_IsObject(v)) {
        complain(p, "headers", "must be an object of strings");
        return;
    }
    for (const cJSON *e = v == NULL ? NULL : json_first(v); e != NULL; e = e->next) {
        struct slice name = slice_str(e->string);
        p->r->has_reply_to = p->r->has_reply_to || slice_eq_nocase(name, SLICE("Reply-To"));
        if (!cJSON_IsString(e) || holds_control(json_text(e)) || holds_control(name) ||
            name.len == 0)
            complain(p, "headers", "must be an object of strings without control characters");
        else if (slice_starts_nocase(name, SLICE("X-Mailgun-")))
            complain(p, "headers", "X-Mailgun-... are no headers here");
        else
            add_text(p, arena_printf(p->arena, "h:%.*s", SLICE_ARGS(name)), json_text(e));
    }
}

static void read_tags(struct reader *p)
{
    const cJSON *v = member(p->root, "tags");

    if (v != NULL && !cJSON_IsArray(v)) {
        complain(p, "tags", "must be a list of strings");
        return;
    }
    for (const cJSON *e = v == NULL ? NULL : json_first(v); e != NULL; e = e->next) {
        if (!cJSON_IsString(e))
            complain(p, "tags", "must be a list of strings");
        else
            add_text(p, SLICE("o:tag"), json_text(e));
    }
}

/* An optional text of an attachment; false when it cannot stand in a header. */
static bool plain_text(const cJSON *object, const char *name, struct slice *text)
{
    const cJSON *v = member(object, name);

    *text = json_text(v);
    return v == NULL || (cJSON_IsString(v) && !holds_control(*text));
}

static const char *read_attachment(struct reader *p, const cJSON *e, size_t at)
{
    struct slice filename, type, id;
    struct buf data = {0};

    if (!cJSON_IsObject(e))
        return "must be an object";
    if (!plain_text(e, "filename", &filename) || filename.len == 0)
        return "'filename' must be a string without control characters";
    if (!plain_text(e, "contentType", &type) || !slice_is_ascii(type))
        return "'contentType' must be a string without control characters";
    if (!plain_text(e, "contentId", &id) || !slice_is_ascii(id) ||
        slice_find_byte(id, ' ') != SIZE_MAX)
        return "'contentId' must be a string without blanks";
    const cJSON *content = member(e, "content");
    bool good =
        cJSON_IsString(content) && text_from_base64(&data, json_text(content)) && data.len > 0;
    if (good)
        add(p, (struct form_field){.name = SLICE("attachment"),
                                   .value = arena_dup(p->arena, buf_slice(&data)),
                                   .is_file = true,
                                   .filename = arena_dup(p->arena, filename),
                                   .content_type = arena_dup(p->arena, type)});
    buf_fini(&data);
    if (id.len > 2 && id.ptr[0] == '<' && id.ptr[id.len - 1] == '>')
        id = slice_of(id.ptr + 1, id.len - 2);
    p->r->inline_ids[at] = arena_dup(p->arena, id);
    return good ? NULL : "'content' must be base64, and not empty";
}

static void read_attachments(struct reader *p)
{
    const cJSON *v = member(p->root, "attachments");
    size_t at = 0;

    if (v != NULL && !cJSON_IsArray(v)) {
        complain(p, "attachments", "must be a list");
        return;
    }
    for (const cJSON *e = v == NULL ? NULL : json_first(v); e != NULL; e = e->next, at++) {
        const char *wrong = read_attachment(p, e, at);
        if (wrong != NULL)
            complain(p, arena_cstr(p->arena, arena_printf(p->arena, "attachments[%zu]", at)),
                     wrong);
    }
}

static void read_key(struct reader *p)
{
    struct slice key;

    if (!read_text(p, "idempotencyKey", false, &key))
        return;
    if (key.len == 0 || key.len > KEY_BYTES_MAX)
        complain(p, "idempotencyKey", "must have 1 to 256 bytes");
    p->r->idempotency_key = arena_dup(p->arena, key);
}

static size_t count_of(const cJSON *v)
{
    return cJSON_IsArray(v) || cJSON_IsObject(v) ? (size_t)cJSON_GetArraySize(v) : 1;
}

/* Room for every field that the request can bring. */
static void make_room(struct reader *p)
{
    static const char *const lists[] = {"to", "headers", "tags", "attachments"};
    size_t room = ROOM + ROOM;

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        room += count_of(json_get(p->root, lists[i]));
    p->r->form.fields = arena_array(p->arena, room, sizeof *p->r->form.fields);
    p->r->inline_ids =
        arena_array(p->arena, count_of(json_get(p->root, "attachments")), sizeof *p->r->inline_ids);
}

static bool refuse(struct refusal *why, struct slice message)
{
    *why = (struct refusal){.status = 400, .message = message};
    return false;
}

bool send_request_read(struct slice body, struct arena *a, struct send_request *r,
                       struct refusal *why)
{
    struct reader p = {.arena = a, .r = r};
    cJSON *root = slice_is_utf8(body) ? json_parse(body) : NULL;

    *r = (struct send_request){.form = {.is_multipart = true}};
    if (root == NULL)
        return refuse(why, SLICE("Invalid JSON in request body"));
    if (!cJSON_IsObject(root)) {
        json_free(root);
        return refuse(why, SLICE("Request body must be an object"));
    }
    p.root = root;
    make_room(&p);
    read_to(&p);
    read_content(&p);
    read_sender(&p);
    read_headers(&p);
    read_tags(&p);
    read_attachments(&p);
    read_key(&p);
    json_free(root);
    bool good = p.wrong.len == 0;
    if (!good)
        (void)refuse(why,
                     arena_printf(a, "Validation failed: %.*s", SLICE_ARGS(buf_slice(&p.wrong))));
    buf_fini(&p.wrong);
    return good;
}

bool submission_from_send(struct send_request *r, struct slice from,
                          const struct submission_context *context, struct arena *a,
                          struct submission *s, struct refusal *why)
{
    struct form form = r->form;

    form.fields[form.count++] = (struct form_field){.name = SLICE("from"), .value = from};
    if (!r->has_reply_to)
        form.fields[form.count++] = (struct form_field){.name = SLICE("h:Reply-To"), .value = from};
    if (!submission_from_form(&form, context, a, s, why)) {
        const char *field = slice_starts(why->message, SLICE("Too many")) ? "to" : "headers";
        return refuse(
            why, arena_printf(a, "Validation failed: '%s': %.*s", field, SLICE_ARGS(why->message)));
    }
    for (size_t i = 0; i < s->content.attachment_count; i++)
        s->content.attachments[i].content_id = r->inline_ids[i];
    return true;
}

void send_request_once(struct slice domain, struct slice key, uint8_t out[16])
{
    struct slice parts[] = {domain, SLICE("idempotency-key"), key};
    uint8_t hash[SHA256_BYTES];

    digest_sha256_parts(parts, 3, hash);
    memcpy(out, hash, CLAIM_SIZE);
}
