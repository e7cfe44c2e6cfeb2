#include "sender/compiled.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"
#include "shm/record.h"
#include "store/suppressions.h"

struct compiled_cache {
    const struct config *config;
    struct compiled *newest, *oldest; /* by last use */
};

struct compiled_cache *compiled_cache_create(const struct config *config)
{
    struct compiled_cache *c = mem_zero(1, sizeof *c);

    c->config = config;
    return c;
}

static void unlink_one(struct compiled_cache *c, struct compiled *one)
{
    if (one->newer != NULL)
        one->newer->older = one->older;
    else
        c->newest = one->older;
    if (one->older != NULL)
        one->older->newer = one->newer;
    else
        c->oldest = one->newer;
    one->newer = one->older = NULL;
}

static void link_newest(struct compiled_cache *c, struct compiled *one)
{
    one->older = c->newest;
    if (c->newest != NULL)
        c->newest->newer = one;
    else
        c->oldest = one;
    c->newest = one;
}

static void drop(struct compiled_cache *c, struct compiled *one)
{
    unlink_one(c, one);
    arena_fini(&one->arena);
    free(one);
}

void compiled_cache_destroy(struct compiled_cache *c)
{
    if (c == NULL)
        return;
    while (c->newest != NULL)
        drop(c, c->newest);
    free(c);
}

static void trim(struct compiled_cache *c)
{
    size_t idle = 0, bytes = 0;

    for (struct compiled *one = c->newest, *older; one != NULL; one = older) {
        older = one->older;
        if (one->users > 0)
            continue;
        bytes += one->arena.used_bytes;
        if (++idle > COMPILED_IDLE_MAX || bytes > COMPILED_IDLE_BYTES)
            drop(c, one);
    }
}

/* What has to be known of all recipients before the first is rendered. */
struct survey {
    struct store_txn *t;
    struct compiled *one;
    struct render_keys *keys;
    struct recipient *others;
    size_t other_count, other_cap;
    struct ses_scratch scratch;
};

static void remember_other(struct survey *v, const struct recipient *r)
{
    const struct message_head *head = &v->one->head;
    struct err why;

    /* A reader who stands on one of the domain's lists gets no copy either. */
    if (v->one->content.batch_mode &&
        (r->kind == RECIPIENT_TO || suppression_of(v->t, head->domain, r->address, head->tags,
                                                   head->tag_count) != SUPPRESS_NONE))
        return;
    if (!ses_recipient_fits(r, &v->scratch, &why)) /* fails by itself, and costs nobody else */
        return;
    if (v->other_count == v->other_cap) {
        v->other_cap = v->other_cap == 0 ? 16 : v->other_cap * 2;
        v->others = mem_grow(v->others, v->other_cap * sizeof *v->others);
    }
    v->others[v->other_count++] = (struct recipient){
        .kind = r->kind,
        .address = arena_dup(&v->one->arena, r->address),
        .name = arena_dup(&v->one->arena, r->name),
    };
}

/* All names of variables that any recipient has, and who is copied or named beside the readers of
 * one call. */
static bool survey_recipients(struct survey *v)
{
    struct compiled *one = v->one;
    uint32_t slices = (one->head.recipient_count + MESSAGE_SLICE - 1) / MESSAGE_SLICE;
    bool names_others = one->content.batch_mode || one->head.recipient_count > SES_DESTINATIONS_MAX;
    struct arena scratch = {0};
    bool ok = true;

    for (uint32_t i = 0; ok && i < slices; i++) {
        struct recipient *list;
        struct slice packed;
        size_t count;
        /* A slice taken over by another batch may be absent; the others still have their keys. */
        if (!batch_recipients(v->t, one->batch_id, i, &packed))
            continue;
        arena_reset(&scratch);
        ok = recipients_unpack(packed, &scratch, &list, &count);
        for (size_t r = 0; ok && r < count; r++) {
            for (size_t k = 0; one->content.batch_mode && k < list[r].var_count; k++)
                render_keys_add(v->keys, &one->arena, list[r].vars[k].name);
            if (names_others)
                remember_other(v, &list[r]);
        }
    }
    arena_fini(&scratch);
    /* More copies than one message takes: each reader of them has a mail of their own instead. */
    if (one->content.batch_mode && v->other_count >= SES_DESTINATIONS_MAX)
        v->other_count = 0;
    struct recipient *kept = arena_array(&one->arena, v->other_count, sizeof *kept);
    if (v->other_count > 0)
        memcpy(kept, v->others, v->other_count * sizeof *kept);
    free(v->others);
    ses_scratch_fini(&v->scratch);
    one->setup.others = kept;
    one->setup.other_count = v->other_count;
    return ok;
}

/* Which configuration set, and whether the message itself says what is tracked. */
static void set_up(const struct compiled_cache *c, struct compiled *one)
{
    const struct config_domain *domain = config_domain_find(c->config, one->head.domain);
    bool tracked = one->content.opens == TRACKING_ON || one->content.clicks == TRACKING_ON;
    struct ses_setup *setup = &one->setup;

    setup->batch_id = one->batch_id;
    setup->override_tracking = true;
    setup->allow_bulk = c->config->sender.strategy == STRATEGY_AUTO;
    setup->always_raw = c->config->sender.strategy == STRATEGY_RAW;
    if (domain == NULL)
        return;
    if (!tracked && domain->untracked_configuration_set[0] != '\0') {
        setup->configuration_set = slice_str(domain->untracked_configuration_set);
        setup->override_tracking = false;
    } else {
        one->is_of_lane_set = true;
        setup->configuration_set =
            slice_str(one->head.lane == LANE_TRANSACTIONAL ? domain->system_configuration_set
                                                           : domain->newsletter_configuration_set);
    }
}

static int load(const struct compiled_cache *c, struct compiled *one, struct store_txn *t,
                struct err *err)
{
    struct render_keys *keys = arena_alloc(&one->arena, sizeof *keys);
    struct survey survey = {.t = t, .one = one, .keys = keys};
    struct slice head, content;

    if (!batch_head(t, one->batch_id, &head) || !batch_content(t, one->batch_id, &content))
        return err_set(err, ERR_NOT_FOUND, "batch %016" PRIx64 " is not in the store",
                       one->batch_id);
    /* Copied: what the map shows goes with the transaction. */
    if (!message_head_unpack(arena_dup(&one->arena, head), &one->arena, &one->head) ||
        !message_content_unpack(arena_dup(&one->arena, content), &one->arena, &one->content) ||
        !survey_recipients(&survey))
        return err_set(err, ERR_INPUT, "batch %016" PRIx64 " cannot be read from the store",
                       one->batch_id);
    set_up(c, one);
    struct buf from = {0};
    address_of_from(&from, one->content.from);
    one->from_address = arena_dup(&one->arena, buf_slice(&from));
    buf_fini(&from);
    one->mail = ses_batch_compile(&one->head, &one->content, keys, &one->setup, &one->arena);
    if (ses_batch_unknown_count(one->mail) > 0)
        log_info("batch %016" PRIx64 ": %" PRIu32 " placeholders name no variable of the batch and "
                 "stay as text (in a header: leave it out)",
                 one->batch_id, ses_batch_unknown_count(one->mail));
    return 0;
}

struct compiled *compiled_get(struct compiled_cache *c, struct store_txn *t, uint64_t batch_id,
                              struct err *err)
{
    struct compiled *one = c->newest;

    while (one != NULL && one->batch_id != batch_id)
        one = one->older;
    if (one != NULL) {
        unlink_one(c, one);
    } else {
        one = mem_zero(1, sizeof *one);
        one->batch_id = batch_id;
        if (load(c, one, t, err) != 0) {
            arena_fini(&one->arena);
            free(one);
            return NULL;
        }
    }
    link_newest(c, one);
    one->users++;
    return one;
}

void compiled_put(struct compiled_cache *c, struct compiled *one)
{
    if (one == NULL)
        return;
    assert(one->users > 0);
    one->users--;
    trim(c);
}
