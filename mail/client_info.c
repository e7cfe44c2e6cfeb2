#include "mail/client_info.h"

#include <arpa/inet.h>
#include <stdint.h>

/* -------- by name -------- */

struct rule {
    const char *needle, *name, *type, *bot;
};

/* What says of itself that it is no person. The first that the User-Agent contains. */
static const struct rule robots[] = {
    {"GoogleImageProxy", "Gmail image proxy", "robot", "gmail"},
    /* Gmail's prefetching: an Edge of 2015 with a tail that no browser has. */
    {"Edge/12.246 Mozilla/5.0", "Gmail image proxy", "robot", "gmail"},
    {"YahooMailProxy", "Yahoo mail proxy", "robot", "generic"},
    {"YahooCacheSystem", "Yahoo mail proxy", "robot", "generic"},
    {"SafeLinks", "Microsoft Defender", "robot", "generic"},
    {"BingPreview", "Microsoft Defender", "robot", "generic"},
    {"Barracuda", "Barracuda", "robot", "generic"},
    {"Proofpoint", "Proofpoint", "robot", "generic"},
    {"Mimecast", "Mimecast", "robot", "generic"},
    {"MessageLabs", "Symantec", "robot", "generic"},
    {"Symantec", "Symantec", "robot", "generic"},
    {"IronPort", "Cisco IronPort", "robot", "generic"},
    {"Sophos", "Sophos", "robot", "generic"},
    {"Trend Micro", "Trend Micro", "robot", "generic"},
    {"TrendMicro", "Trend Micro", "robot", "generic"},
    {"Forcepoint", "Forcepoint", "robot", "generic"},
    {"FortiGuard", "Fortinet", "robot", "generic"},
    {"HeadlessChrome", "Headless Chrome", "robot", "generic"},
    {"PhantomJS", "PhantomJS", "robot", "generic"},
    {"curl/", "curl", "library", "generic"},
    {"Wget/", "Wget", "library", "generic"},
    {"python-requests", "python-requests", "library", "generic"},
    {"Python-urllib", "Python-urllib", "library", "generic"},
    {"aiohttp", "aiohttp", "library", "generic"},
    {"Go-http-client", "Go-http-client", "library", "generic"},
    {"Apache-HttpClient", "Apache-HttpClient", "library", "generic"},
    {"okhttp", "okhttp", "library", "generic"},
    {"libwww-perl", "libwww-perl", "library", "generic"},
};

/* `mobile`: what it is called on a phone or a tablet; NULL = the same. The first that the
 * User-Agent contains: browsers name their relatives too. */
static const struct {
    const char *needle, *name, *mobile, *type;
} programs[] = {
    {"Thunderbird", "Thunderbird", NULL, "email client"},
    {"Microsoft Outlook", "Outlook", NULL, "email client"},
    {"ms-office", "Outlook", NULL, "email client"},
    {"MSOffice", "Outlook", NULL, "email client"},
    {"Outlook-", "Outlook", NULL, "email client"}, /* Outlook-iOS, Outlook-Android */
    {"Airmail", "Airmail", NULL, "email client"},
    {"Edg/", "Edge", NULL, "browser"},
    {"EdgA/", "Edge", "Edge Mobile", "browser"},
    {"EdgiOS/", "Edge", "Edge Mobile", "browser"},
    {"Edge/", "Edge", "Edge Mobile", "browser"},
    {"OPR/", "Opera", "Opera Mobile", "browser"},
    {"SamsungBrowser/", "Samsung Internet", NULL, "browser"},
    {"FxiOS/", "Firefox", "Firefox iOS", "browser"},
    {"Firefox/", "Firefox", "Firefox Mobile", "browser"},
    {"Chromium/", "Chromium", NULL, "browser"},
    {"CriOS/", "Chrome", "Chrome Mobile iOS", "browser"},
    {"Chrome/", "Chrome", "Chrome Mobile", "browser"},
    {"Trident/", "IE", NULL, "browser"},
    {"MSIE ", "IE", NULL, "browser"},
    {"Safari/", "Safari", "Mobile Safari", "browser"},
    {"AppleWebKit", "Apple Mail", "Mobile Safari", "email client"},
};

static const char *const systems[][2] = {
    {"iPhone", "iOS"},      {"iPad", "iOS"},      {"iPod", "iOS"},       {"Android", "Android"},
    {"Windows", "Windows"}, {"Mac OS X", "OS X"}, {"CrOS", "Chrome OS"}, {"Linux", "Linux"},
};

static bool has(struct slice agent, const char *needle)
{
    return slice_find(agent, slice_str(needle)) != SIZE_MAX;
}

/* "Googlebot/2.1", "bot"; but Cubot makes telephones. */
static bool has_bot(struct slice agent)
{
    for (struct slice rest = agent; rest.len > 0;) {
        size_t at = slice_find_nocase(rest, SLICE("bot"));
        if (at == SIZE_MAX)
            return false;
        if (at < 2 || !slice_eq_nocase(slice_of(rest.ptr + at - 2, 2), SLICE("cu")))
            return true;
        rest = slice_from(rest, at + 3);
    }
    return false;
}

static const struct rule *robot_of(struct slice agent)
{
    static const struct rule kinds[] = {{"crawler", "crawler", "robot", "generic"},
                                        {"spider", "crawler", "robot", "generic"},
                                        {"scanner", "scanner", "robot", "generic"}};
    static const struct rule some_bot = {"", "bot", "robot", "generic"};

    for (size_t i = 0; i < sizeof robots / sizeof robots[0]; i++)
        if (has(agent, robots[i].needle))
            return &robots[i];
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (slice_find_nocase(agent, slice_str(kinds[i].needle)) != SIZE_MAX)
            return &kinds[i];
    return has_bot(agent) ? &some_bot : NULL;
}

/* -------- by address -------- */

#define IPV4(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (c) << 8 | (d))

static const struct {
    uint32_t network;
    unsigned bits;
    const char *bot;
} networks[] = {
    {IPV4(17, 0, 0, 0), 8, "apple"}, /* Apple's own */
    /* google-proxy-….google.com: user-triggered-fetchers-google.json */
    {IPV4(64, 233, 172, 0), 23, "gmail"},
    {IPV4(66, 102, 6, 0), 23, "gmail"},
    {IPV4(66, 102, 8, 0), 23, "gmail"},
    {IPV4(66, 249, 80, 0), 20, "gmail"},
    {IPV4(72, 14, 199, 0), 24, "gmail"},
    {IPV4(74, 125, 208, 0), 21, "gmail"},
    {IPV4(74, 125, 216, 0), 22, "gmail"},
    /* Exchange Online Protection: Microsoft 365 URLs and IP address ranges */
    {IPV4(40, 92, 0, 0), 15, "generic"},
    {IPV4(40, 107, 0, 0), 16, "generic"},
    {IPV4(52, 100, 0, 0), 14, "generic"},
    {IPV4(104, 47, 0, 0), 17, "generic"},
    /* Barracuda Email Gateway Defense */
    {IPV4(64, 235, 144, 0), 20, "generic"},
    {IPV4(209, 222, 80, 0), 21, "generic"},
    /* Proofpoint */
    {IPV4(67, 231, 144, 0), 20, "generic"},
    {IPV4(148, 163, 128, 0), 19, "generic"},
    {IPV4(185, 132, 180, 0), 22, "generic"},
    {IPV4(185, 183, 28, 0), 22, "generic"},
    {IPV4(205, 220, 160, 0), 19, "generic"},
    /* Mimecast */
    {IPV4(63, 128, 21, 0), 24, "generic"},
    {IPV4(91, 220, 42, 0), 24, "generic"},
    {IPV4(146, 101, 78, 0), 24, "generic"},
    {IPV4(185, 58, 84, 0), 22, "generic"},
    {IPV4(195, 130, 217, 0), 24, "generic"},
    {IPV4(205, 139, 110, 0), 23, "generic"},
    {IPV4(207, 82, 80, 0), 24, "generic"},
    {IPV4(207, 211, 30, 0), 24, "generic"},
    {IPV4(216, 205, 24, 0), 24, "generic"},
};

static const char *bot_by_address(struct slice ip)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr in;

    if (ip.len == 0 || ip.len >= sizeof text)
        return "";
    memcpy(text, ip.ptr, ip.len);
    text[ip.len] = '\0';
    if (inet_pton(AF_INET, text, &in) != 1)
        return "";
    for (size_t i = 0; i < sizeof networks / sizeof networks[0]; i++)
        if ((ntohl(in.s_addr) ^ networks[i].network) >> (32 - networks[i].bits) == 0)
            return networks[i].bot;
    return "";
}

/* -------- both -------- */

static void set_device(struct client_info *c, struct slice agent)
{
    bool phone = has(agent, "iPhone") || has(agent, "iPod") ||
                 (has(agent, "Android") && has(agent, "Mobile")) || has(agent, "Outlook-iOS") ||
                 has(agent, "Outlook-Android");
    bool tablet = !phone && (has(agent, "iPad") || has(agent, "Android"));
    bool desktop = has(agent, "Windows") || has(agent, "Macintosh") || has(agent, "X11");

    c->device = phone     ? SLICE("mobile")
                : tablet  ? SLICE("tablet")
                : desktop ? SLICE("desktop")
                          : SLICE("unknown");
}

static void set_program(struct client_info *c, struct slice agent)
{
    bool mobile = slice_eq(c->device, SLICE("mobile")) || slice_eq(c->device, SLICE("tablet"));

    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        if (!has(agent, programs[i].needle))
            continue;
        const char *name =
            mobile && programs[i].mobile != NULL ? programs[i].mobile : programs[i].name;
        bool browser = strcmp(programs[i].type, "browser") == 0 || name == programs[i].mobile;
        c->name = slice_str(name);
        c->type = slice_str(!browser ? programs[i].type : mobile ? "mobile browser" : "browser");
        return;
    }
}

struct client_info client_info_of(struct slice user_agent, struct slice ip)
{
    const struct slice unknown = SLICE("unknown");
    struct client_info c = {.name = unknown, .os = unknown, .type = unknown, .device = unknown};
    const struct rule *robot = robot_of(user_agent);

    for (size_t i = 0; i < sizeof systems / sizeof systems[0] && slice_eq(c.os, unknown); i++)
        if (has(user_agent, systems[i][0]))
            c.os = slice_str(systems[i][1]);
    if (robot != NULL) {
        c.name = slice_str(robot->name);
        c.type = slice_str(robot->type);
        c.bot = slice_str(robot->bot);
        return c;
    }
    set_device(&c, user_agent);
    set_program(&c, user_agent);
    /* Apple's privacy proxy fetches under this name and nothing more. */
    c.bot =
        slice_eq(user_agent, SLICE("Mozilla/5.0")) ? SLICE("apple") : slice_str(bot_by_address(ip));
    return c;
}
