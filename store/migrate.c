#include "store/migrate.h"

#include "base/log.h"
#include "store/internal.h"
#include "store/totals.h"

static const struct {
    unsigned from; /* to the next one */
    const char *what;
    int (*apply)(struct store_txn *t, struct err *err); /* NULL: what is there reads as before */
} steps[] = {
    {3, "totals of each domain, from the books of its batches", totals_begin},
    {4, "events that come say once what they have in common", NULL},
    {5, "recent events are listed together", NULL},
};

int store_migrate(struct store *s, struct err *err)
{
    struct store_txn *t = store_begin_write(s, err);

    for (size_t i = 0; t != NULL && i < sizeof steps / sizeof steps[0]; i++) {
        if (steps[i].from < s->schema)
            continue;
        log_info("the store goes from schema version %u to %u: %s", steps[i].from,
                 steps[i].from + 1, steps[i].what);
        if (steps[i].apply != NULL && steps[i].apply(t, err) != 0) {
            store_abort(t);
            return -1;
        }
    }
    if (t == NULL)
        return -1;
    if (schema_put(s, t->mdb, STORE_SCHEMA, err) != 0) {
        store_abort(t);
        return -1;
    }
    if (store_commit(t, err) != 0)
        return -1;
    s->schema = STORE_SCHEMA;
    return 0;
}
