/*
 * base/err.h - a failure, described where it happened and logged once by whoever decides.
 *
 * ERRORS  A function that can fail returns -1 (or NULL) and fills the caller's struct err.
 *         err may be NULL when the caller does not care why.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err_code {
    ERR_NONE,
    ERR_SYSTEM, /* a system call: see sys */
    ERR_CONFIG, /* what an operator wrote */
    ERR_INPUT,  /* what a peer sent */
    ERR_FULL,   /* no room: disk, map, quota */
    ERR_NOT_FOUND,
    ERR_STORE, /* LMDB said no */
    ERR_NETWORK,
    ERR_DENIED, /* a peer knows us, and does not let us */
    ERR_INTERNAL,
};

struct err {
    enum err_code code;
    int sys; /* errno, or 0 */
    char text[512];
};

/* Both return -1, so that a caller can write `return err_set(err, …);`. */
int err_set(struct err *err, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int err_sys(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
