/*
 * httpd/exposition.h - figures in Prometheus's text format, version 0.0.4.
 *
 * SHAPE   A family, then its samples. Values are whole numbers, or fixed-point: value / 10^decimals.
 *         Label values are escaped; names are ours and stand as they are.
 * MEMORY  Appends to the caller's buffer.
 * SOURCE  https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based format).
 */
#ifndef HTTPD_EXPOSITION_H
#define HTTPD_EXPOSITION_H

#include "base/buf.h"
#include "shm/histogram.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct exposition_label {
    const char *name;
    struct slice value;
};

enum { EXPOSITION_LABELS_MAX = 4 };
struct exposition_labels {
    struct exposition_label list[EXPOSITION_LABELS_MAX];
    size_t count;
};

/* type: "counter", "gauge", "histogram". help: one line. */
void exposition_family(struct buf *to, const char *name, const char *type, const char *help);
void exposition_sample(struct buf *to, const char *name, const struct exposition_labels *labels,
                       uint64_t value, unsigned decimals);
/* Buckets up to each step of the scale, sum and count. */
void exposition_histogram(struct buf *to, const char *name, const struct exposition_labels *labels,
                          const struct histogram_scale *scale, const struct histogram_sums *sums,
                          unsigned decimals);

#endif
