/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void options_complain(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("agentctl: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

int options_worse(int a, int b)
{
    static const int weight[] = {
        [EXIT_DONE] = 0, [EXIT_GOES_ON] = 1, [EXIT_REFUSED] = 2, [EXIT_UNASKED] = 3, [EXIT_USAGE] = 4};

    return weight[a] > weight[b] ? a : b;
}

static int take_format(struct options *o, const char *word)
{
    o->json = word[0] == 'j';
    if ((word[0] == 'j' && word[1] == 's') || word[0] == 't')
        return 0;
    options_complain("-o is text or json");
    return -1;
}

static int take_option(struct options *o, int c)
{
    switch (c) {
    case 's':
        o->socket = optarg;
        return 0;
    case 'P':
        o->private_socket = optarg;
        return 0;
    case 'u':
        o->url = optarg;
        return 0;
    case 'U':
        o->user = optarg;
        return 0;
    case 'T':
        o->token_file = optarg;
        return 0;
    case 'c':
        o->cert = optarg;
        return 0;
    case 'k':
        o->key = optarg;
        return 0;
    case 'a':
        o->cacert = optarg;
        return 0;
    case 'r':
        o->reason = optarg;
        return 0;
    case 'C':
        o->color = false;
        return 0;
    case 'f':
        o->follow = true;
        return 0;
    case 'p':
        o->plan = true;
        return 0;
    case 'F':
        o->file = optarg;
        return 0;
    case 'O':
        o->config = optarg;
        return 0;
    case 'g':
        o->generate = true;
        return 0;
    case 'n':
        o->lines = optarg;
        return 0;
    case 'o':
        return take_format(o, optarg);
    default:
        return -1; /* getopt has told */
    }
}

int options_parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, 's'},  {"url", required_argument, NULL, 'u'},
        {"user", required_argument, NULL, 'U'},    {"token-file", required_argument, NULL, 'T'},
        {"output", required_argument, NULL, 'o'},  {"no-color", no_argument, NULL, 'C'},
        {"reason", required_argument, NULL, 'r'},  {"lines", required_argument, NULL, 'n'},
        {"follow", no_argument, NULL, 'f'},        {"plan", no_argument, NULL, 'p'},
        {"private", required_argument, NULL, 'P'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},       {"file", required_argument, NULL, 'F'},
        {"generate", no_argument, NULL, 'g'},      {"cert", required_argument, NULL, 'c'},
        {"key", required_argument, NULL, 'k'},     {"cacert", required_argument, NULL, 'a'},
        {"config", required_argument, NULL, 'O'},  {NULL, 0, NULL, 0},
    };
    static char help[] = "help", version[] = "version", *words[] = {NULL, NULL};
    int c;

    *o = (struct options){.socket = OPTIONS_SOCKET,
                          .config = OPTIONS_CONFIG,
                          .color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR")};
    while ((c = getopt_long(argc, argv, "o:n:fhV", longs, NULL)) != -1) {
        if (c == 'h' || c == 'V') {
            words[0] = c == 'h' ? help : version;
            o->words = words;
            o->count = 1;
            return 0;
        }
        if (take_option(o, c) < 0)
            return -1;
    }
    o->words = argv + optind;
    o->count = argc - optind;
    return 0;
}
