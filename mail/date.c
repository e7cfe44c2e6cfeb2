#include "mail/date.h"

static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static const struct {
    char name[4];
    int minutes;
} zone_names[] = {
    {"GMT", 0},    {"UTC", 0},    {"UT", 0},     {"Z", 0},      {"EST", -300}, {"EDT", -240},
    {"CST", -360}, {"CDT", -300}, {"MST", -420}, {"MDT", -360}, {"PST", -480}, {"PDT", -420},
};

enum { US = 1000000, DAY_S = 86400 };

/* Days from 1970-01-01 to a date of the proleptic Gregorian calendar. The year is counted from
 * March, so that the leap day is its last. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct civil {
    unsigned year, month, day, weekday, hour, minute, second, ms;
};

static struct civil civil_from_us(uint64_t us)
{
    uint64_t seconds = us / US;
    uint64_t z = seconds / DAY_S + 719468;
    uint64_t era = z / 146097, of_era = z % 146097;
    uint64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t march_month = (5 * of_year + 2) / 153;
    struct civil c;

    c.day = (unsigned)(of_year - (153 * march_month + 2) / 5 + 1);
    c.month = (unsigned)(march_month < 10 ? march_month + 3 : march_month - 9);
    c.year = (unsigned)(year_of_era + era * 400 + (c.month <= 2));
    c.weekday = (unsigned)((seconds / DAY_S + 4) % 7); /* 1970-01-01 was a Thursday */
    c.hour = (unsigned)(seconds / 3600 % 24);
    c.minute = (unsigned)(seconds / 60 % 60);
    c.second = (unsigned)(seconds % 60);
    c.ms = (unsigned)(us / 1000 % 1000);
    return c;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void skip_blanks(struct slice *s)
{
    while (s->len > 0 && (s->ptr[0] == ' ' || s->ptr[0] == '\t'))
        *s = slice_from(*s, 1);
}

static struct slice take(struct slice *s, bool (*fits)(uint8_t))
{
    size_t len = 0;

    while (len < s->len && fits(s->ptr[len]))
        len++;
    struct slice taken = slice_head(*s, len);
    *s = slice_from(*s, len);
    return taken;
}

static bool take_byte(struct slice *s, uint8_t byte)
{
    if (s->len == 0 || s->ptr[0] != byte)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

/* A number of least to most digits, at most `max`. */
static bool take_number(struct slice *s, size_t least, size_t most, uint64_t max, int64_t *value)
{
    uint64_t number;
    struct slice digits = take(s, is_digit);

    if (digits.len < least || digits.len > most || !slice_to_u64(digits, &number) || number > max)
        return false;
    *value = (int64_t)number;
    return true;
}

/* Up to six digits of a fraction, as µs; the rest is cut. */
static bool take_fraction(struct slice *s, uint64_t *us)
{
    struct slice digits = take(s, is_digit);
    uint64_t value = 0;

    if (digits.len == 0)
        return false;
    for (size_t i = 0; i < 6; i++)
        value = value * 10 + (i < digits.len ? (uint64_t)(digits.ptr[i] - '0') : 0);
    *us = value;
    return true;
}

static bool take_month(struct slice *s, int64_t *month)
{
    struct slice name = take(s, is_letter);

    for (size_t i = 0; i < 12; i++)
        if (slice_eq_nocase(name, slice_str(month_names[i]))) {
            *month = (int64_t)i + 1;
            return true;
        }
    return false;
}

static bool take_zone(struct slice *s, int64_t *minutes)
{
    bool west = false;
    int64_t hhmm;

    if (s->len > 0 && is_letter(s->ptr[0])) {
        struct slice name = take(s, is_letter);
        for (size_t i = 0; i < sizeof zone_names / sizeof zone_names[0]; i++)
            if (slice_eq_nocase(name, slice_str(zone_names[i].name))) {
                *minutes = zone_names[i].minutes;
                return true;
            }
        return false;
    }
    if (!take_byte(s, '+'))
        west = take_byte(s, '-');
    if (!take_number(s, 4, 4, 2359, &hhmm) || hhmm % 100 > 59)
        return false;
    *minutes = (hhmm / 100 * 60 + hhmm % 100) * (west ? -1 : 1);
    return true;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    return days_from_date(year + (month == 12), month == 12 ? 1 : month + 1, 1) -
           days_from_date(year, month, 1);
}

static bool parse_words(struct slice s, uint64_t *us)
{
    int64_t day, month, year, hour, minute, second = 0, zone;
    uint64_t fraction_us = 0;

    if (s.len > 0 && is_letter(s.ptr[0])) {
        (void)take(&s, is_letter); /* nobody checks whether it was a Friday */
        if (!take_byte(&s, ','))
            return false;
        skip_blanks(&s);
    }
    if (!take_number(&s, 1, 2, 31, &day))
        return false;
    skip_blanks(&s);
    if (!take_month(&s, &month))
        return false;
    skip_blanks(&s);
    size_t before = s.len;
    if (!take_number(&s, 2, 4, 9999, &year))
        return false;
    if (before - s.len == 2) /* RFC 5322 §4.3 */
        year += year < 50 ? 2000 : 1900;
    else if (before - s.len == 3)
        year += 1900;
    skip_blanks(&s);
    if (day < 1 || day > days_in_month(year, month) || !take_number(&s, 1, 2, 23, &hour) ||
        !take_byte(&s, ':') || !take_number(&s, 2, 2, 59, &minute))
        return false;
    if (take_byte(&s, ':')) {
        if (!take_number(&s, 2, 2, 60, &second)) /* 60: a leap second */
            return false;
        if (take_byte(&s, '.') && !take_fraction(&s, &fraction_us))
            return false;
    }
    skip_blanks(&s);
    if (!take_zone(&s, &zone))
        return false;
    skip_blanks(&s);
    if (s.len > 0 && !(s.ptr[0] == '(' && s.ptr[s.len - 1] == ')')) /* "(UTC)" */
        return false;

    int64_t total_s =
        days_from_date(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second - zone * 60;
    *us = total_s < 0 ? 0 : (uint64_t)total_s * US + fraction_us;
    return true;
}

static bool parse_seconds(struct slice s, uint64_t *us)
{
    int64_t seconds = 0;
    uint64_t fraction_us = 0;
    bool before_1970 = take_byte(&s, '-');

    /* 9999-12-31T23:59:59Z */
    if (!take_number(&s, 1, 12, 253402300799, &seconds))
        return false;
    if (take_byte(&s, '.') && s.len > 0 && !take_fraction(&s, &fraction_us))
        return false;
    if (s.len != 0)
        return false;
    *us = before_1970 ? 0 : (uint64_t)seconds * US + fraction_us;
    return true;
}

bool date_parse(struct slice text, uint64_t *us)
{
    text = slice_trim(text);
    return parse_seconds(text, us) || parse_words(text, us);
}

void date_put_rfc1123(struct buf *to, uint64_t us, const char *zone)
{
    struct civil c = civil_from_us(us);

    buf_printf(to, "%s, %02u %s %04u %02u:%02u:%02u %s", day_names[c.weekday], c.day,
               month_names[c.month - 1], c.year, c.hour, c.minute, c.second, zone);
}

void date_put_iso8601(struct buf *to, uint64_t us)
{
    struct civil c = civil_from_us(us);

    buf_printf(to, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", c.year, c.month, c.day, c.hour, c.minute,
               c.second, c.ms);
}
