/* SPDX-License-Identifier: Apache-2.0 */
/* top, and status --watch: the table again and again, in place on a terminal, one after another elsewhere. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "agentctl/status.h"
#include "agentctl/verbs.h"
#include "base/clock.h"
#include "base/str.h"

#define DELAY_SEC 2
#define DELAY_MOST 3600
#define LEAST_WIDTH 20

static volatile sig_atomic_t stopped;

static void on_stop(int sig)
{
    stopped = 1;
}

static void on_resize(int sig)
{
    /* the wait is interrupted, and the next round asks for the size */
}

/* ---- the terminal ---- */

struct screen {
    bool used, keys;
    struct termios before;
};

/* Its own page, so that what was there is there again in the end; keys come one by one, unseen. */
static void screen_open(struct screen *s)
{
    struct termios raw;

    s->used = true;
    s->keys = tcgetattr(STDIN_FILENO, &s->before) == 0;
    if (s->keys) {
        raw = s->before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        raw.c_cc[VSUSP] = _POSIX_VDISABLE; /* a stopped one would leave the terminal so */
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    }
    fputs("\033[?1049h\033[?25l", stdout);
}

static void screen_close(struct screen *s)
{
    if (!s->used)
        return;
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (s->keys)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &s->before);
}

static void measure(struct rows_look *look)
{
    struct winsize w;

    look->width = 80;
    look->most = 22;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col == 0 || w.ws_row == 0)
        return;
    look->width = w.ws_col < LEAST_WIDTH ? LEAST_WIDTH : w.ws_col;
    look->most = w.ws_row > 3 ? w.ws_row - 2 : 1; /* without our line and the heads */
}

static int show_screen(const struct rows *rows, int code, uint64_t delay, bool color)
{
    struct rows_look look = {.narrow = true, .color = color, .end = "\033[K\n"};
    char line[160], clock[16] = "";
    time_t now = time(NULL);
    struct tm tm;
    int r;

    measure(&look);
    look.most -= rows->count < (size_t)look.most ? 0 : 1; /* a full last line would scroll */
    if (localtime_r(&now, &tm))
        strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
    if (code == EXIT_DONE)
        snprintf(line, sizeof(line), "%s  %zu workers, %zu UP  every %llu s  q ends", clock, rows->count,
                 rows->up, (unsigned long long)delay);
    else
        snprintf(line, sizeof(line), "%s  agentd does not answer", clock);
    printf("\033[H%.*s\033[K\n", look.width, line);
    r = status_print(rows, &look);
    fputs("\033[J", stdout);
    return fflush(stdout) != 0 ? -1 : r;
}

/* ---- rounds ---- */

struct rounds {
    const struct options *o;
    struct screen screen;
    struct rows before;
    enum rows_sort sort;
    uint64_t delay, left;
    bool first, narrow;
};

static int show(struct rounds *t, struct rows *rows, int code)
{
    if (t->screen.used)
        return show_screen(rows, code, t->delay, t->o->color);
    if (t->o->json)
        return fflush(stdout) == 0 ? 0 : -1;
    if (code != EXIT_DONE)
        return 0; /* it was told */
    if (!t->first)
        putchar('\n');
    return status_print(rows, &(struct rows_look){.color = t->o->color, .narrow = t->narrow, .end = "\n"});
}

/* false: that was the last one. */
static bool do_round(struct rounds *t, int *code)
{
    struct rows rows = {0};
    int shown;

    *code = status_collect(t->o, true, &rows);
    if (t->first && *code != EXIT_DONE) {
        rows_free(&rows);
        return false;
    }
    if (t->first && isatty(STDOUT_FILENO) && !t->o->json)
        screen_open(&t->screen);
    rows_compare(&rows, &t->before);
    rows_order(&rows, t->sort);
    shown = show(t, &rows, *code);
    t->first = false;
    if (*code == EXIT_DONE) {
        rows_free(&t->before);
        rows_order(&rows, ROWS_BY_ID); /* as rows_compare wants it */
        t->before = rows;
    } else {
        rows_free(&rows);
    }
    return shown == 0 && *code != EXIT_REFUSED && --t->left > 0;
}

/* false: a key, or a signal, says that it is enough. */
static bool wait_for_next(const struct rounds *t)
{
    struct pollfd p = {.fd = t->screen.keys ? STDIN_FILENO : -1, .events = POLLIN};
    uint64_t until = clock_mono_us() + t->delay * 1000000, now;
    char key;

    while (!stopped && (now = clock_mono_us()) < until) {
        int n = poll(&p, 1, (int)((until - now) / 1000) + 1);
        if (n < 0)
            return !stopped;
        if (n > 0 && (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 3))
            return false;
    }
    return !stopped;
}

static void handle(int sig, void (*fn)(int sig))
{
    struct sigaction a = {.sa_handler = fn}; /* without SA_RESTART: the wait ends */

    sigaction(sig, &a, NULL);
}

int top_run(const struct options *o)
{
    struct rounds t = {.o = o, .first = true, .narrow = str_eq(o->words[0], "top")};
    int code = EXIT_DONE;

    if (str_eq(o->words[0], "top") && o->count > 1) {
        options_complain("top shows all workers; agentctl status --watch shows some");
        return EXIT_USAGE;
    }
    if (options_number("-d", o->delay, 1, DELAY_MOST, DELAY_SEC, &t.delay) < 0 ||
        options_number("-n", o->lines, 1, UINT32_MAX, UINT64_MAX, &t.left) < 0 ||
        status_sort(o, str_eq(o->words[0], "top") ? ROWS_BY_CPU : ROWS_BY_ID, &t.sort) < 0)
        return EXIT_USAGE;
    handle(SIGINT, on_stop);
    handle(SIGTERM, on_stop);
    handle(SIGHUP, on_stop);
    handle(SIGWINCH, on_resize);
    while (do_round(&t, &code) && wait_for_next(&t))
        ;
    screen_close(&t.screen);
    rows_free(&t.before);
    return stopped ? EXIT_DONE : code;
}
