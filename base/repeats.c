#include "base/repeats.h"

#include <string.h>

#include "base/hash.h"

/* Who finds two words of one hash has silenced a line of his own for a while. */
static uint64_t hash_of(int level, struct slice words)
{
    uint64_t hash = hash_slice((unsigned)level, words);

    return hash == 0 ? 1 : hash;
}

static void end(struct repeats_row *row, uint64_t now_mono_ms, repeats_teller *tell)
{
    uint32_t more = row->more;

    row->hash = 0;
    if (more > 0)
        tell(row->level, slice_of(row->words, row->len), more, now_mono_ms - row->since_mono_ms);
}

void repeats_sweep(struct repeats *r, uint64_t now_mono_ms, bool all, repeats_teller *tell)
{
    for (size_t i = 0; i < REPEATS_ROWS; i++)
        if (r->rows[i].hash != 0 &&
            (all || now_mono_ms - r->rows[i].since_mono_ms >= REPEATS_WINDOW_MS))
            end(&r->rows[i], now_mono_ms, tell);
}

bool repeats_note(struct repeats *r, int level, struct slice words, uint64_t now_mono_ms,
                  repeats_teller *tell)
{
    uint64_t hash = hash_of(level, words);
    struct repeats_row *place = NULL, *oldest = &r->rows[0];

    repeats_sweep(r, now_mono_ms, false, tell);
    for (size_t i = 0; i < REPEATS_ROWS; i++) {
        struct repeats_row *row = &r->rows[i];
        if (row->hash == hash) {
            row->more++;
            return false;
        }
        if (row->hash == 0 && place == NULL)
            place = row;
        if (row->since_mono_ms < oldest->since_mono_ms)
            oldest = row;
    }
    if (place == NULL) {
        place = oldest;
        end(place, now_mono_ms, tell);
    }
    *place = (struct repeats_row){.hash = hash,
                                  .since_mono_ms = now_mono_ms,
                                  .level = level,
                                  .len = words.len < REPEATS_WORDS_BYTES ? words.len
                                                                         : REPEATS_WORDS_BYTES};
    memcpy(place->words, words.ptr, place->len);
    return true;
}
