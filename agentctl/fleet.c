/* SPDX-License-Identifier: Apache-2.0 */
/* start, stop, restart, reload and signal of several workers: which ones, how many at once, and what is told
 * when one fails: then no other is begun. */
#include <fnmatch.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agentctl/change.h"
#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"

#define LOOK_MS 100
#define WAIT_SEC 120 /* for one of several at once; ReplyDeadlineSec= is as long */

enum fate { UNTOUCHED, GOING, DONE, FAILED, LATE };

struct member {
    char alias[LIMIT_ALIAS + 1];
    struct change change;
    enum fate fate;
    uint64_t until_us;
};

struct fleet {
    const struct options *o;
    struct member *member;
    size_t count, room;
    size_t at_once;
    int wait_sec, shown, code;
    bool halted;
    uint64_t heard_us; /* when agentd answered last */
};

/* ---- which ones ---- */

static int add(struct fleet *f, const char *alias)
{
    if (array_room(&f->member, f->count, &f->room, sizeof(*f->member)) < 0) {
        options_complain("out of memory");
        return EXIT_UNASKED;
    }
    f->member[f->count] = (struct member){.fate = UNTOUCHED};
    str_copy(f->member[f->count++].alias, LIMIT_ALIAS + 1, alias);
    return EXIT_DONE;
}

/* One that nobody wants is not restarted along with all; one that may not be operated is nobody's. */
static bool is_meant(const struct fleet *f, const struct json *j, int worker, const char *alias)
{
    char goal[OUT_TEXT];

    if (f->o->match && fnmatch(f->o->match, alias, 0) != 0)
        return false;
    if (json_kind(j, json_member(j, worker, "operable")) != JSON_TRUE)
        options_complain("%s: left out: Operable=no", alias);
    else if (!str_eq(f->o->words[0], "restart") || str_eq(out_text(j, worker, "goal", goal), "UP"))
        return true;
    else
        options_complain("%s: left out: it is not wanted up", alias);
    return false;
}

static int choose(struct fleet *f)
{
    struct http_reply r;
    char alias[OUT_TEXT];
    int code = http_ask(f->o, "GET", "/agentd/v1/workers", &r);

    if (code == EXIT_REFUSED)
        options_complain("%s: %s", f->o->words[0], r.message);
    for (int w = code == EXIT_DONE ? json_first(&r.json, json_member(&r.json, r.data, "contents")) : -1;
         w >= 0 && code == EXIT_DONE; w = json_next(&r.json, w))
        if (is_meant(f, &r.json, w, out_text(&r.json, w, "alias", alias)))
            code = add(f, alias);
    http_free(&r);
    if (code == EXIT_DONE && f->count == 0) {
        options_complain("%s: no worker %s", f->o->words[0], f->o->match ? "matches" : "is there for it");
        code = EXIT_REFUSED;
    }
    return code;
}

static int gather(struct fleet *f, int first)
{
    int code = EXIT_DONE;

    if ((f->o->all || f->o->match) && f->o->count > first) {
        options_complain("%s: aliases, or --all or --match, not both", f->o->words[0]);
        return EXIT_USAGE;
    }
    if (f->o->all || f->o->match)
        return choose(f);
    for (int i = first; i < f->o->count && code == EXIT_DONE; i++) {
        if (strlen(f->o->words[i]) > LIMIT_ALIAS) {
            options_complain("%.80s...: no worker has such a name", f->o->words[i]);
            return EXIT_USAGE;
        }
        code = add(f, f->o->words[i]);
    }
    if (code == EXIT_DONE && f->count == 0) {
        options_complain("%s: which worker? agentctl status lists them", f->o->words[0]);
        code = EXIT_USAGE;
    }
    return code;
}

/* ---- how ---- */

static int take_at_once(struct fleet *f)
{
    const char *s = f->o->max_unavailable;
    size_t n = s ? strlen(s) : 0;
    char digits[24];
    uint64_t v;

    f->at_once = 1;
    if (!s)
        return 0;
    str_copy(digits, sizeof(digits), s);
    if (n && n < sizeof(digits) && s[n - 1] == '%')
        digits[n - 1] = 0;
    if (n >= sizeof(digits) || str_to_u64(digits, s[n ? n - 1 : 0] == '%' ? 100 : LIMIT_WORKERS, &v) < 0 ||
        v == 0) {
        options_complain("--max-unavailable is a number from 1 to %d or 1%% to 100%%, not \"%s\"",
                         LIMIT_WORKERS, s);
        return -1;
    }
    f->at_once = s[n - 1] == '%' ? f->count * v / 100 : v;
    if (f->at_once == 0)
        f->at_once = 1;
    return 0;
}

static int check_options(const struct fleet *f)
{
    const struct options *o = f->o;

    if (o->async && (o->wait || o->max_unavailable)) {
        options_complain("--async does not wait: without --%s", o->wait ? "wait" : "max-unavailable");
        return -1;
    }
    if (f->count > 1 && (o->if_match || o->idempotency_key)) {
        options_complain("--%s is for one worker", o->if_match ? "if-match" : "idempotency-key");
        return -1;
    }
    if (o->if_match && strspn(o->if_match, "0123456789") != strlen(o->if_match)) {
        options_complain("--if-match is a generation, as agentctl -o json status tells it");
        return -1;
    }
    return 0;
}

/* Before it is all of them, somebody at a terminal is asked. */
static bool is_agreed(const struct fleet *f)
{
    char answer[16] = "";

    if ((!f->o->all && !f->o->match) || f->o->yes || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return true;
    fprintf(stderr, "%s", f->o->words[0]);
    for (size_t i = 0; i < f->count; i++)
        fprintf(stderr, " %s", f->member[i].alias);
    fprintf(stderr, "\nThese %zu workers? [y/N] ", f->count);
    fflush(stderr);
    if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return true;
    options_complain("nothing was done");
    return false;
}

/* ---- progress ---- */

static size_t count(const struct fleet *f, enum fate fate)
{
    size_t n = 0;

    for (size_t i = 0; i < f->count; i++)
        n += f->member[i].fate == fate;
    return n;
}

static bool has_progress(const struct fleet *f)
{
    return f->count > 1 && !f->o->async && isatty(STDERR_FILENO);
}

static void wipe(const struct fleet *f)
{
    if (has_progress(f))
        fprintf(stderr, "\r\033[K");
}

static void print_progress(const struct fleet *f)
{
    const char *now = "";

    if (!has_progress(f))
        return;
    for (size_t i = 0; i < f->count && !*now; i++)
        if (f->member[i].fate == GOING)
            now = f->member[i].alias;
    fprintf(stderr, "\r\033[K%zu of %zu done: %s %.40s%s", count(f, DONE), f->count, f->o->words[0], now,
            count(f, GOING) > 1 ? " ..." : "");
    fflush(stderr);
}

static void list(const struct fleet *f, const char *what, enum fate fate)
{
    if (!count(f, fate))
        return;
    fprintf(stderr, "    %s:", what);
    for (size_t i = 0; i < f->count; i++)
        if (f->member[i].fate == fate)
            fprintf(stderr, " %s", f->member[i].alias);
    fprintf(stderr, "\n");
}

static void sum_up(const struct fleet *f)
{
    if (!f->halted || f->count < 2)
        return;
    options_complain("%s: halted", f->o->words[0]);
    list(f, "done", DONE);
    list(f, "failed", FAILED);
    list(f, "still going on", LATE);
    list(f, "not touched", UNTOUCHED);
}

/* ---- one after another, or several at once ---- */

static void settle(struct fleet *f, struct member *m, int code)
{
    m->fate = code == EXIT_DONE ? DONE : code == EXIT_GOES_ON ? LATE : FAILED;
    f->halted = f->halted || code != EXIT_DONE;
    f->code = options_worse(f->code, code);
}

static void prepare(struct fleet *f, struct member *m, bool at_once)
{
    m->change = (struct change){.alias = m->alias,
                                .wait_sec = at_once ? 0 : f->wait_sec,
                                .async = f->o->async,
                                .quiet = at_once,
                                .wipe = has_progress(f),
                                .shown = &f->shown};
    m->fate = GOING;
}

static void run_in_turn(struct fleet *f)
{
    for (size_t i = 0; i < f->count && !f->halted; i++) {
        struct member *m = &f->member[i];
        prepare(f, m, false);
        print_progress(f);
        settle(f, m, change_ask(f->o, &m->change));
    }
}

static void begin(struct fleet *f, struct member *m)
{
    uint64_t now = clock_mono_us();
    int code;

    prepare(f, m, true);
    m->until_us = now + (uint64_t)(f->wait_sec >= 0 ? f->wait_sec : WAIT_SEC) * 1000000;
    wipe(f);
    code = change_ask(f->o, &m->change);
    f->heard_us = clock_mono_us();
    if (code != EXIT_GOES_ON)
        settle(f, m, code);
}

static void look(struct fleet *f, struct member *m)
{
    int code = change_look(f->o, &m->change);
    uint64_t now = clock_mono_us();

    if (code != EXIT_UNASKED)
        f->heard_us = now;
    else if (now - f->heard_us < CHANGE_AWAY_US)
        code = EXIT_GOES_ON;
    else
        options_complain("%s: agentd does not answer any more: operation %s", m->alias, m->change.operation);
    if (code == EXIT_GOES_ON && now < m->until_us)
        return;
    if (code == EXIT_GOES_ON)
        options_complain("%s: %s is still going on: operation %s", m->alias, f->o->words[0],
                         m->change.operation);
    settle(f, m, code);
}

static void run_at_once(struct fleet *f)
{
    size_t next = 0;

    while ((next < f->count && !f->halted) || count(f, GOING)) {
        while (next < f->count && !f->halted && count(f, GOING) < f->at_once)
            begin(f, &f->member[next++]);
        print_progress(f);
        if (!count(f, GOING))
            continue;
        poll(NULL, 0, LOOK_MS);
        wipe(f);
        for (size_t i = 0; i < f->count; i++)
            if (f->member[i].fate == GOING)
                look(f, &f->member[i]);
    }
}

/* ---- all ---- */

static int run(struct fleet *f)
{
    bool array = f->o->json && f->count > 1;

    if (array)
        printf("[");
    if (f->at_once > 1 && f->count > 1 && !f->o->async)
        run_at_once(f);
    else
        run_in_turn(f);
    wipe(f);
    printf("%s%s", array ? "]" : "", f->o->json && (array || f->shown) ? "\n" : "");
    fflush(stdout);
    sum_up(f);
    return f->code;
}

static int fleet(const struct options *o, int first)
{
    struct fleet f = {.o = o, .wait_sec = CHANGE_UNTIL_AGENTD};
    uint64_t wait;
    int code;

    if (options_number("--wait", o->wait, 0, CHANGE_WAIT_MOST, 0, &wait) < 0)
        return EXIT_USAGE;
    if (o->wait)
        f.wait_sec = (int)wait;
    code = gather(&f, first);
    if (code == EXIT_DONE && (take_at_once(&f) < 0 || check_options(&f) < 0))
        code = EXIT_USAGE;
    if (code == EXIT_DONE)
        code = is_agreed(&f) ? run(&f) : EXIT_REFUSED;
    free(f.member);
    return code;
}

int fleet_run(const struct options *o)
{
    return fleet(o, 1);
}

int fleet_signal(const struct options *o)
{
    const char *name = o->count > 1 ? o->words[1] : "";

    if (!*name || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != strlen(name) || strlen(name) > 15) {
        options_complain("signal: which one? agentctl signal HUP ALIAS");
        return EXIT_USAGE;
    }
    return fleet(o, 2);
}
