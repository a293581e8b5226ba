/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

#define FIRST 256 /* getopt_long's word for row 0: above every letter */

#define ANY true
#define SOME false
/* clang-format off */
#define OPTION(who, name, letter, argument, kind, field, help) \
    {who, name, letter, argument, OPTIONS_##kind, offsetof(struct options, field), help},
/* clang-format on */
const struct options_row options_table[] = {
#include "agentctl/options.def"
};
#undef OPTION
#undef ANY
#undef SOME
const unsigned options_count = ARRAY_LEN(options_table);
_Static_assert(ARRAY_LEN(options_table) <= 64, "a bit each in given");

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

bool options_listed(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (; *list; list += strcspn(list, " "), list += *list == ' ')
        if (strncmp(list, name, n) == 0 && (list[n] == ' ' || !list[n]))
            return true;
    return false;
}

int options_allow(const struct options *o, const char *list)
{
    for (unsigned i = 0; i < options_count; i++) {
        const struct options_row *row = &options_table[i];
        if ((o->given >> i & 1) && !row->any && !options_listed(list, row->name)) {
            options_complain("%s takes no --%s; see agentctl help", o->words[0], row->name);
            return -1;
        }
    }
    return 0;
}

int options_number(const char *name, const char *value, uint64_t least, uint64_t most, uint64_t otherwise,
                   uint64_t *ret)
{
    *ret = otherwise;
    if (!value || (str_to_u64(value, most, ret) == 0 && *ret >= least))
        return 0;
    options_complain("%s is a number from %llu to %llu, not \"%s\"", name, (unsigned long long)least,
                     (unsigned long long)most, value);
    return -1;
}

static int take_format(struct options *o, const char *word)
{
    o->json = word[0] == 'j';
    if ((word[0] == 'j' && word[1] == 's') || word[0] == 't')
        return 0;
    options_complain("-o is text or json");
    return -1;
}

static int take(struct options *o, const struct options_row *row, const char *argument)
{
    void *field = (char *)o + row->field;

    o->given |= UINT64_C(1) << (row - options_table);
    if (row->kind == OPTIONS_FORMAT)
        return take_format(o, argument);
    if (row->kind == OPTIONS_TEXT)
        *(const char **)field = argument;
    else
        *(bool *)field = row->kind == OPTIONS_FLAG;
    return 0;
}

/* What getopt_long is to know; its word for a row is FIRST and the row's place, or the letter. */
static void describe(struct option *longs, char *letters)
{
    for (unsigned i = 0; i < options_count; i++) {
        const struct options_row *row = &options_table[i];
        longs[i] =
            (struct option){row->name, row->argument ? required_argument : no_argument, NULL, FIRST + (int)i};
        if (row->letter)
            *letters++ = row->letter;
        if (row->letter && row->argument)
            *letters++ = ':';
    }
    *letters = 0;
}

static const struct options_row *find(int c)
{
    for (unsigned i = 0; i < options_count; i++)
        if (c == FIRST + (int)i || (c < FIRST && c == options_table[i].letter))
            return &options_table[i];
    return NULL; /* getopt has told */
}

/* --help or --version: whatever else was said. */
static void become(struct options *o, const struct options_row *row)
{
    static char word[16], *words[] = {word, NULL};

    str_copy(word, sizeof(word), row->name);
    o->words = words;
    o->count = 1;
    o->given = 0;
}

int options_parse(struct options *o, int argc, char **argv)
{
    struct option longs[ARRAY_LEN(options_table) + 1] = {{0}};
    char letters[2 * ARRAY_LEN(options_table) + 1];
    const struct options_row *row;
    int c;

    *o = (struct options){.socket = OPTIONS_SOCKET,
                          .config = OPTIONS_CONFIG,
                          .color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR")};
    describe(longs, letters);
    while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (!(row = find(c)))
            return -1;
        if (row->kind == OPTIONS_VERB) {
            become(o, row);
            return 0;
        }
        if (take(o, row, optarg) < 0)
            return -1;
    }
    o->words = argv + optind;
    o->count = argc - optind;
    return 0;
}
