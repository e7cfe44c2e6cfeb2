/*
 * main() - what the command line asks for: run, check, or a subcommand.
 */
#include <event2/event.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/tls.h"
#include "cli/cli.h"
#include "master/master.h"
#include "master/title.h"
#include "sandbox/sandbox.h"

#define POSTERN_VERSION "0.1.0"
#ifndef POSTERN_COMMIT /* the Makefile says */
#define POSTERN_COMMIT "unknown"
#endif

/* NULL: every mistake was said on standard error. */
static struct config *load(const char *path)
{
    struct buf mistakes = {0};
    struct config *config = config_load(path, &mistakes);

    if (config == NULL)
        (void)fprintf(stderr, "%s\n", buf_cstr(&mistakes));
    buf_fini(&mistakes);
    return config;
}

static int check(const char *path)
{
    struct config *config = load(path);
    struct ssl_ctx_st *tls;
    struct err err;

    if (config == NULL)
        return 1;
    if (master_read_tls(config, &tls, &err) != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        config_free(config);
        return 1;
    }
    tls_context_free(tls);
    (void)printf("%s: ok\n", path);
    config_free(config);
    return 0;
}

static int run(int argc, char **argv, const char *path)
{
    title_init(argc, argv);
    struct config *config = load(path);

    return config == NULL ? 1 : master_run(config);
}

static void *alloc_for_openssl(size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    return mem_alloc(bytes);
}

static void *grow_for_openssl(void *ptr, size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    return mem_grow(ptr, bytes);
}

static void free_for_openssl(void *ptr, const char *file, int line)
{
    (void)file;
    (void)line;
    free(ptr);
}

/* A process without memory ends, and another takes its place. The libraries would go on, and fail
 * each connection and each call with something else. (curl is told in aws/; GLib ends by itself.) */
static void let_libraries_end_without_memory(void)
{
    json_end_without_memory();
    event_set_mem_functions(mem_alloc, mem_grow, free);
    (void)CRYPTO_set_mem_functions(alloc_for_openssl, grow_for_openssl, free_for_openssl);
}

static int not_understood(const char *argument)
{
    static const char *const known[] = {"-c", "--config", "-t", "--help", "--version"};
    if (strcmp(argument, "-c") == 0 || strcmp(argument, "--config") == 0) {
        (void)fprintf(stderr, "postern: %s needs a value: the configuration\n", argument);
        return 2;
    }
    const char *meant = nearest_name(argument, known, sizeof known / sizeof known[0]);

    (void)fprintf(stderr, "postern: '%s' is not understood%s%s%s (postern --help)\n", argument,
                  meant != NULL ? ": did you mean " : "", meant != NULL ? meant : "",
                  meant != NULL ? "?" : "");
    return 2;
}

int main(int argc, char **argv)
{
    const char *path = "proxy.conf";
    bool only_check = false;

    let_libraries_end_without_memory();

    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        (void)printf("postern %s (%s)\n", POSTERN_VERSION, POSTERN_COMMIT);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "sandbox") == 0)
        return sandbox_main(argc - 1, argv + 1);
    if (argc > 1 &&
        (argv[1][0] != '-' || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return cli_main(argc - 1, argv + 1);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-t") == 0) {
            only_check = true;
        } else if ((strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "--config") == 0) &&
                   i + 1 < argc) {
            path = argv[++i];
        } else {
            return not_understood(argv[i]);
        }
    }
    return only_check ? check(path) : run(argc, argv, path);
}
