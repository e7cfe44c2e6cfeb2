#include "cli/request.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/control.h"

uint32_t cli_verb(const char *word)
{
    static const struct {
        const char *word;
        enum control_verb verb;
    } verbs[] = {{"pause", CONTROL_PAUSE},
                 {"resume", CONTROL_RESUME},
                 {"cancel", CONTROL_CANCEL},
                 {"resend", CONTROL_RESEND}};

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].word, word) == 0)
            return verbs[i].verb;
    return 0;
}

const char *cli_person(void)
{
    const char *caller = getenv("SUDO_USER");
    const struct passwd *user = getpwuid(getuid());

    if (caller != NULL && caller[0] != '\0' && getuid() == 0)
        return caller;
    return user == NULL ? "unknown" : user->pw_name;
}

static void print_answer(const struct cli_options *o, const struct record_controlled *a,
                         const char *what)
{
    struct buf line = {0};

    if (o->json) {
        buf_add_byte(&line, '{');
        json_put_bool(&line, "done", a->verdict == ANSWER_OK);
        json_put_u64(&line, what, a->count);
        json_put_str(&line, "words", a->text);
        buf_add_str(&line, "}\n");
    } else {
        buf_add_slice(&line, a->text);
        buf_add_byte(&line, '\n');
    }
    (void)fwrite(line.ptr, 1, line.len, a->verdict == ANSWER_OK || o->json ? stdout : stderr);
    buf_fini(&line);
}

int cli_ask(const struct cli_options *o, const struct record_control *r)
{
    return cli_ask_counting(o, r, "recipients");
}

int cli_ask_counting(const struct cli_options *o, const struct record_control *r, const char *what)
{
    struct record_controlled a = {0};
    struct config *config = cli_config_load(o);
    struct buf answer = {0};
    struct err err;
    int status;

    if (config == NULL)
        return CLI_WRONG_USE;
    if (control_ask(config->state_dir, r, &answer, &a, &err) != 0) {
        (void)fprintf(stderr, "postern: %s\n", err.text);
        status = err.code == ERR_NOT_FOUND ? CLI_NOT_SO : CLI_WRONG_USE;
    } else {
        print_answer(o, &a, what);
        status = a.verdict == ANSWER_OK ? CLI_DONE : CLI_NOT_SO;
    }
    buf_fini(&answer);
    config_free(config);
    return status;
}

uint64_t cli_number(const cJSON *object, const char *name)
{
    int64_t value;

    return json_get_i64(object, name, &value) && value > 0 ? (uint64_t)value : 0;
}

cJSON *cli_status_get(const struct config *config, struct err *err)
{
    const struct record_control r = {.verb = CONTROL_STATUS};
    struct record_controlled a;
    struct buf answer = {0};
    cJSON *tree = NULL;

    if (control_ask(config->state_dir, &r, &answer, &a, err) == 0) {
        tree = json_parse(a.text);
        if (tree == NULL)
            (void)err_set(err, ERR_NETWORK, "Postern's answer is not understood");
    }
    buf_fini(&answer);
    return tree;
}
