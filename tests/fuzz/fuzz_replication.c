/*
 * Changes of other machines, as anybody who can write into an event queue could forge them: the
 * message, and, past an even first byte, one change without its message. What is judged to be good
 * has a domain of ours and says what it does.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/replication.h"
#include "store/replicas.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(struct slice change)
{
    static char name[] = "mg.example.com";
    struct config_domain domain = {.name = name};
    const struct config config = {.domains = &domain, .domain_count = 1};
    struct record_change r;
    struct arena a = {0};
    struct slice why;

    if (replica_judge(change, &config, UINT64_C(1700000000000000), &a, &r, &why)) {
        assert(slice_eq(r.domain, SLICE("mg.example.com")));
        assert(r.what > 0 && r.what < CHANGE_END && r.stamp_us != 0);
    } else {
        assert(why.len > 0);
    }
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct replication r;
    struct arena a = {0};
    struct slice why = slice_none();

    if (size == 0)
        return 0;
    if (data[0] % 2 == 0) {
        judge(slice_of(data + 1, size - 1));
        return 0;
    }
    switch (replication_parse(slice_of(data + 1, size - 1), &a, &r, &why)) {
    case REPLICATION_NONE:
        break;
    case REPLICATION_GOOD:
        assert(r.node != 0 && r.count > 0);
        for (size_t i = 0; i < r.count; i++)
            judge(r.changes[i]);
        break;
    case REPLICATION_BAD:
        assert(why.len > 0);
        break;
    }
    arena_fini(&a);
    return 0;
}
