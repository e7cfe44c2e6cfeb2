#include "httpd/exposition.h"

#include <inttypes.h>

void exposition_family(struct buf *to, const char *name, const char *type, const char *help)
{
    buf_printf(to, "# HELP %s ", name);
    for (; *help != '\0'; help++) {
        if (*help == '\\')
            buf_add_byte(to, '\\');
        buf_add_byte(to, (uint8_t)*help);
    }
    buf_printf(to, "\n# TYPE %s %s\n", name, type);
}

static void put_escaped(struct buf *to, struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        if (c == '\\' || c == '"')
            buf_add_byte(to, '\\');
        if (c == '\n')
            buf_add_str(to, "\\n");
        else
            buf_add_byte(to, c);
    }
}

static void put_labels(struct buf *to, const struct exposition_labels *labels)
{
    for (size_t i = 0; i < labels->count; i++) {
        buf_add_byte(to, i == 0 ? '{' : ',');
        buf_add_str(to, labels->list[i].name);
        buf_add_str(to, "=\"");
        put_escaped(to, labels->list[i].value);
        buf_add_byte(to, '"');
    }
    if (labels->count > 0)
        buf_add_byte(to, '}');
}

/* Without zeros at its end: "0.25", "5", "0". */
static void put_number(struct buf *to, uint64_t value, unsigned decimals)
{
    uint64_t unit = 1;

    for (; decimals > 0 && value % 10 == 0; decimals--)
        value /= 10;
    for (unsigned i = 0; i < decimals; i++)
        unit *= 10;
    buf_add_u64(to, value / unit);
    if (decimals > 0)
        buf_printf(to, ".%0*" PRIu64, (int)decimals, value % unit);
}

void exposition_sample(struct buf *to, const char *name, const struct exposition_labels *labels,
                       uint64_t value, unsigned decimals)
{
    buf_add_str(to, name);
    put_labels(to, labels);
    buf_add_byte(to, ' ');
    put_number(to, value, decimals);
    buf_add_byte(to, '\n');
}

static void put_part(struct buf *to, const char *name, const char *ending,
                     const struct exposition_labels *labels, uint64_t value, unsigned decimals)
{
    buf_add_str(to, name);
    exposition_sample(to, ending, labels, value, decimals);
}

void exposition_histogram(struct buf *to, const char *name, const struct exposition_labels *labels,
                          const struct histogram_scale *scale, const struct histogram_sums *sums,
                          unsigned decimals)
{
    struct exposition_labels bucket = *labels;
    struct exposition_label *end = &bucket.list[bucket.count++];
    size_t steps = histogram_step_count(scale);
    struct buf most = {0};
    uint64_t count = 0;

    for (size_t i = 0; i < steps; i++) {
        count += sums->count[i];
        buf_reset(&most);
        if (i + 1 == steps)
            buf_add_str(&most, "+Inf");
        else
            put_number(&most, scale->most[i], decimals);
        *end = (struct exposition_label){"le", buf_slice(&most)};
        put_part(to, name, "_bucket", &bucket, count, 0);
    }
    buf_fini(&most);
    put_part(to, name, "_sum", labels, sums->sum, decimals);
    put_part(to, name, "_count", labels, count, 0);
}
