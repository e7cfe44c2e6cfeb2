#include "aws/vault.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/json.h"
#include "base/mem.h"

/* asked: of signers, taken by the keeper. answers: of the keeper. */
struct questions {
    _Atomic uint64_t asked;
    _Atomic uint64_t answers;
    _Atomic uint32_t sleeping;
};

/* Private to each process, copied by fork(). */
struct vault {
    struct notice *keys, *news;
    struct questions *questions;
    struct bell bell;
    struct credentials now; /* the copy of this process */
    struct buf packed;
};

struct vault *vault_create(struct err *err)
{
    struct vault *v = mem_zero(1, sizeof *v);
    void *map =
        mmap(NULL, sizeof *v->questions, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    v->bell.fd = -1;
    if (map == MAP_FAILED) {
        (void)err_sys(err, "mmap of the vault");
        vault_destroy(v);
        return NULL;
    }
    v->questions = map;
    v->keys = notice_create(err);
    v->news = notice_create(err);
    if (v->keys == NULL || v->news == NULL ||
        bell_create(&v->bell, &v->questions->sleeping, err) != 0) {
        vault_destroy(v);
        return NULL;
    }
    return v;
}

void vault_leave(struct vault *v)
{
    credentials_fini(&v->now);
    credentials_wipe(&v->packed);
    notice_destroy(v->keys);
    v->keys = NULL;
}

void vault_destroy(struct vault *v)
{
    if (v == NULL)
        return;
    vault_leave(v);
    notice_destroy(v->news);
    bell_destroy(&v->bell);
    if (v->questions != NULL)
        (void)munmap(v->questions, sizeof *v->questions);
    free(v);
}

const struct bell *vault_bell(const struct vault *v)
{
    return &v->bell;
}

struct notice *vault_news(const struct vault *v)
{
    return v->news;
}

const struct credentials *vault_credentials(struct vault *v, uint64_t now_mono_ms)
{
    if (notice_serial(v->keys) != v->now.generation) {
        struct credentials fresh;
        uint64_t serial = notice_read(v->keys, &v->packed);
        if (credentials_unpack(buf_slice(&v->packed), &fresh)) {
            credentials_fini(&v->now);
            v->now = fresh;
        }
        v->now.generation = serial;
        credentials_wipe(&v->packed);
    }
    if (v->now.access_key_id == NULL ||
        (v->now.expires_mono_ms != 0 && now_mono_ms >= v->now.expires_mono_ms))
        return NULL;
    return &v->now;
}

void vault_put_trouble(const struct vault *v, struct buf *to)
{
    struct buf news = {0};
    cJSON *tree = notice_read(v->news, &news) == 0 ? NULL : json_parse(buf_slice(&news));
    struct slice trouble = json_get_text(tree, "trouble");

    if (trouble.len > 0)
        buf_printf(to, "no AWS credentials: %.*s", SLICE_ARGS(trouble));
    else
        buf_add_str(to, "there are no AWS credentials yet");
    json_free(tree);
    buf_fini(&news);
}

uint64_t vault_ask(struct vault *v, uint64_t generation)
{
    uint64_t answers = vault_answers(v);

    atomic_store_explicit(&v->questions->asked, generation, memory_order_release);
    bell_ring(&v->bell);
    return answers;
}

uint64_t vault_answers(const struct vault *v)
{
    return atomic_load_explicit(&v->questions->answers, memory_order_acquire);
}

int vault_publish(struct vault *v, struct credentials *c, struct err *err)
{
    struct buf packed = {0};

    (void)buf_reserve(&packed, NOTICE_MAX_BYTES); /* a realloc would leave secrets behind */
    credentials_pack(&packed, c);
    int failed = notice_publish(v->keys, buf_slice(&packed), err);
    credentials_wipe(&packed);
    if (failed == 0)
        c->generation = notice_serial(v->keys);
    return failed;
}

uint64_t vault_take_question(struct vault *v)
{
    return atomic_exchange_explicit(&v->questions->asked, 0, memory_order_acq_rel);
}

bool vault_has_question(const struct vault *v)
{
    return atomic_load_explicit(&v->questions->asked, memory_order_acquire) != 0;
}

void vault_answer(struct vault *v)
{
    (void)atomic_fetch_add_explicit(&v->questions->answers, 1, memory_order_release);
}
