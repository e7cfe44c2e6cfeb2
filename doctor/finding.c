#include "doctor/finding.h"

#include <stdarg.h>
#include <stdio.h>

enum { TEXT_BYTES = 2048 };

void finding_fini(struct finding *f)
{
    buf_fini(&f->reason);
    buf_fini(&f->mend);
}

bool finding_add(struct finding *f, enum finding_state state, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list args;

    if (state < f->state)
        return false;
    if (state > f->state) {
        buf_reset(&f->reason);
        buf_reset(&f->mend);
    }
    f->state = state;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (f->reason.len > 0)
        buf_add_str(&f->reason, "; ");
    buf_add_str(&f->reason, text);
    return true;
}

void finding_mend(struct finding *f, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list args;

    if (f->mend.len > 0)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_add_str(&f->mend, text);
}

const char *finding_state_name(enum finding_state state)
{
    switch (state) {
    case FINDING_OK:
        return "ok";
    case FINDING_SKIP:
        return "skip";
    case FINDING_WARN:
        return "warn";
    case FINDING_FAIL:
        return "fail";
    }
    return "";
}
