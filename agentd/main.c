/* SPDX-License-Identifier: Apache-2.0 */
/* agentd: parses the command line, builds the rooms from the lowest up, runs the loop, takes them down again.
 */
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/daemon.h"
#include "agentd/upgrade.h"
#include "base/log.h"
#include "proc/cgroup.h"
#include "systemd/sdn.h"

struct args {
    const char *file;
    enum { RUN, CHECK, DUMP, STATE, RELEASE } what;
};

static const struct option options[] = {
    {"check-config", no_argument, NULL, 'k'},
    {"dump-config", no_argument, NULL, 'd'},
    {"check-state", no_argument, NULL, 's'},
    {"release-cgroup", no_argument, NULL, 'r'},
    {"config", required_argument, NULL, 'c'},
    {"log-level", required_argument, NULL, 'l'},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void usage(void)
{
    printf("agentd [-c FILE] [--check-config] [--dump-config] [--log-level LEVEL] [--version]\n"
           "Supervises the workers of this host; see agentd(8). FILE: /etc/agentd/agentd.conf\n");
}

/* -1: go on; else the exit status. */
static int take_option(int c, struct args *a)
{
    switch (c) {
    case 'c':
        a->file = optarg;
        return -1;
    case 'k':
        a->what = CHECK;
        return -1;
    case 'd':
        a->what = DUMP;
        return -1;
    case 's':
        a->what = STATE;
        return -1;
    case 'r':
        a->what = RELEASE;
        return -1;
    case 'l':
        if (log_level_from_string(optarg) < 0) {
            fprintf(stderr, "agentd: --log-level %s: one of err, warning, notice, info, debug\n", optarg);
            return 2;
        }
        log_set_level(log_level_from_string(optarg));
        return -1;
    case 'V':
        printf("agentd %s\n", PACKAGE_VERSION);
        return 0;
    case 'h':
        usage();
        return 0;
    default:
        fprintf(stderr, "agentd: see agentd --help\n");
        return 2;
    }
}

/* For the unit's ExecStopPost=. */
static int release(void)
{
    int r;

    if (geteuid() != 0 && sdn_is_delegated() > 0)
        cgroup_assume_delegated();
    r = cgroup_release_controllers();

    if (r < 0)
        fprintf(stderr, "agentd: --release-cgroup: %s\n", strerror(-r));
    return r < 0;
}

int main(int argc, char **argv)
{
    struct args a = {.file = "/etc/agentd/agentd.conf"};
    int c, r;

    while ((c = getopt_long(argc, argv, "c:Vh", options, NULL)) != -1)
        if ((r = take_option(c, &a)) >= 0)
            return r;
    if (optind < argc) {
        fprintf(stderr, "agentd: %s: no arguments are taken\n", argv[optind]);
        return 2;
    }
    if (a.what == CHECK)
        return daemon_check(a.file);
    if (a.what == DUMP)
        return daemon_dump(a.file);
    if (a.what == STATE)
        return upgrade_check(a.file);
    if (a.what == RELEASE)
        return release();
    upgrade_begin(argv);
    return daemon_run(a.file);
}
