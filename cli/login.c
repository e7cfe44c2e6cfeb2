/*
 * postern login: a link that lets a person into the dashboard, once and soon. What is in it stands
 * behind '#', which a browser tells no server and no log; the store keeps its digest alone.
 */
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/request.h"
#include "store/control.h"
#include "store/logins.h"

enum { TICKET_BYTES = 32, MINUTE_MS = 60 * 1000 };

static uint32_t role_of(const char *name)
{
    if (name == NULL || strcmp(name, "operator") == 0)
        return LOGIN_OPERATOR;
    return strcmp(name, "viewer") == 0 ? LOGIN_VIEWER : 0;
}

static void put_link(struct buf *to, const struct config *config, struct slice ticket)
{
    struct slice origin = slice_str(config->public_url);

    while (origin.len > 0 && origin.ptr[origin.len - 1] == '/')
        origin.len--;
    if (origin.len > 0) {
        buf_add_slice(to, origin);
    } else {
        const struct config_address *at = &config->listen.list[0];
        bool unix_only = config_address_is_unix(at);
        bool v6 = !unix_only && strchr(at->host, ':') != NULL;
        bool any = unix_only || strcmp(at->host, "*") == 0 || strcmp(at->host, "0.0.0.0") == 0 ||
                   strcmp(at->host, "::") == 0;
        buf_printf(to, "%s://%s%s%s%s%s",
                   config->httpd.tls_certificate[0] != '\0' ? "https" : "http",
                   v6 && !any ? "[" : "", any ? "localhost" : at->host, v6 && !any ? "]" : "",
                   unix_only ? "" : ":", unix_only ? "" : at->port);
    }
    buf_printf(to, "%s/#login=", config->dashboard.path);
    text_hex(to, ticket);
}

static void tell(const struct cli_options *o, const struct config *config, uint32_t role,
                 struct slice ticket)
{
    struct buf link = {0}, line = {0};

    put_link(&link, config, ticket);
    if (o->json) {
        buf_add_byte(&line, '{');
        json_put_str(&line, "url", buf_slice(&link));
        json_put_str(&line, "role", slice_str(login_role_name((enum login_role)role)));
        json_put_u64(&line, "seconds", LOGIN_LINK_MS / 1000);
        buf_add_str(&line, "}\n");
    } else {
        buf_printf(&line, "%s\n\nGood once, for %d minutes, as %s.\n", buf_cstr(&link),
                   LOGIN_LINK_MS / MINUTE_MS, login_role_name((enum login_role)role));
    }
    (void)fwrite(line.ptr, 1, line.len, stdout);
    explicit_bzero(line.ptr, line.cap);
    explicit_bzero(link.ptr, link.cap);
    buf_fini(&line);
    buf_fini(&link);
}

static int make(const struct cli_options *o, const struct config *config, uint32_t role)
{
    uint8_t ticket[TICKET_BYTES], digest[SHA256_BYTES];
    struct record_controlled a = {0};
    struct buf answer = {0};
    struct err err;
    int status = CLI_DONE;

    digest_random(ticket, sizeof ticket);
    digest_sha256(slice_of(ticket, sizeof ticket), digest);
    const struct record_control r = {
        .verb = CONTROL_LOGIN,
        .who = slice_str(cli_person()),
        .role = role,
        .ticket = slice_of(digest, sizeof digest),
    };
    if (control_ask(config->state_dir, &r, &answer, &a, &err) != 0) {
        (void)fprintf(stderr, "postern login: %s\n", err.text);
        status = err.code == ERR_NOT_FOUND ? CLI_NOT_SO : CLI_WRONG_USE;
    } else if (a.verdict != ANSWER_OK) {
        (void)fprintf(stderr, "postern login: %.*s\n", SLICE_ARGS(a.text));
        status = CLI_NOT_SO;
    } else {
        tell(o, config, role, slice_of(ticket, sizeof ticket));
    }
    explicit_bzero(ticket, sizeof ticket);
    buf_fini(&answer);
    return status;
}

int cli_login(const struct cli_options *o)
{
    uint32_t role = role_of(o->role);

    if (o->words[0] != NULL)
        return strcmp(o->words[0], "list") == 0 ? cli_login_list(o)
                                                : cli_login_end(o, cli_person());
    if (role == 0) {
        (void)fprintf(stderr, "postern login: --role is viewer or operator\n");
        return CLI_WRONG_USE;
    }
    struct config *config = cli_config_load(o);
    if (config == NULL)
        return CLI_WRONG_USE;
    int status = CLI_NOT_SO;
    if (config->dashboard.enabled)
        status = make(o, config, role);
    else
        (void)fprintf(stderr,
                      "postern login: the dashboard is off: dashboard { enabled = true }\n");
    config_free(config);
    return status;
}
