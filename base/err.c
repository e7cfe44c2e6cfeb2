#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return -1;
    err->code = code;
    err->sys = 0;
    va_start(args, format);
    (void)vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return -1;
}

int err_sys(struct err *err, const char *format, ...)
{
    int sys = errno;
    va_list args;

    if (err == NULL)
        return -1;
    err->code = sys == ENOSPC || sys == EDQUOT ? ERR_FULL : ERR_SYSTEM;
    err->sys = sys;
    va_start(args, format);
    int len = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (len >= 0 && (size_t)len < sizeof err->text)
        (void)snprintf(err->text + len, sizeof err->text - (size_t)len, ": %s", strerror(sys));
    return -1;
}
