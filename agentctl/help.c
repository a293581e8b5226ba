/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdio.h>

#include "agentctl/credential_file.h"
#include "agentctl/verbs.h"
#include "base/str.h"
#include "rpc/method.h"

#ifndef PACKAGE_VERSION /* built by hand */
#define PACKAGE_VERSION "unknown"
#endif

static const char usage[] =
    "agentctl [OPTION...] VERB\n"
    "\n"
    "  status [ALIAS...]            the workers, or some\n"
    "  start ALIAS...               start, and wait until it is up\n"
    "  stop ALIAS...                stop, and wait until its whole tree is gone\n"
    "  restart ALIAS...             restart, and wait until the new one is up\n"
    "  signal HUP ALIAS...          a signal to the main process: HUP, USR1, USR2, WINCH or CONT\n"
    "  reload ALIAS...              tell the worker to read its own files again (SIGHUP)\n"
    "  reload                       take over what agentd's configuration says now\n"
    "  reload --plan                what that would change, and what it costs; changes nothing\n"
    "  logs ALIAS [NAME]            the end of a log; -n LINES, -f follows it\n"
    "  why ALIAS                    the causes of its state, the newest first\n"
    "  history ALIAS                its past incarnations, the newest first\n"
    "  doctor                       what is not as it should be, and what to do\n"
    "  adopt ALIAS PID              take over a process that runs already; --private SOCKET\n"
    "  upgrade                      run the installed agentd in place of the one that runs\n"
    "  credential add KIND NAME ROLE\n"
    "                               who may call over TCP: basic (the password from the standard input, or\n"
    "                               --generate), bearer, aksk or cert; HOST_VIEWER or HOST_MANAGER\n"
    "  credential list | revoke KIND NAME | rotate KIND NAME\n"
    "                               the same file, " CREDENTIAL_FILE " or --file FILE\n"
    "  audit verify [DIR|FILE...]   is the audit trail whole, and unaltered? As root, without agentd\n"
    "  audit show [DIR|FILE...]     what stands in it: who asked for what, and what became of it; -n LINES\n"
    "                               DIR: StateDirectory= of agentd's configuration, or of --config FILE\n"
    "  help [calls]                 this, or the calls of the HTTP interface\n"
    "\n"
    "  --socket PATH                agentd's socket (" OPTIONS_SOCKET ")\n"
    "  --url URL                    agentd elsewhere; with --user NAME, --token-file FILE, or --cert FILE\n"
    "                               and --key FILE; --cacert FILE: whose certificate it has to have\n"
    "  --reason TEXT                why: kept with the operation\n"
    "  -o, --output text|json       json: the answer's data\n"
    "  --no-color\n"
    "\n"
    "ALIAS may be a worker's id. Ends with 0 done, 1 refused or failed, 2 usage, 3 could not ask,\n"
    "4 timed out and still going on.\n";

static void print_calls(void)
{
    for (int i = 0; i < METHOD_COUNT; i++) {
        const struct method_info *m = &method_table[i];
        printf("%-5s %-57s %-12s %s\n", m->verb, m->path, method_role_name(m->role), m->help);
    }
    printf("Every path is also known behind " METHOD_PREFIX
           ". HEAD is as GET, OPTIONS tells what a path knows.\n");
}

int help_run(const struct options *o)
{
    if (o->count > 1 && str_eq(o->words[1], "calls"))
        print_calls();
    else
        fputs(usage, stdout);
    return EXIT_DONE;
}

int help_version(const struct options *o)
{
    printf("agentctl %s\n", PACKAGE_VERSION);
    return EXIT_DONE;
}
