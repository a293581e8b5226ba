/* SPDX-License-Identifier: Apache-2.0 */
/* nosys CALL[:N:VALUE][=ERRNO]... -- PROGRAM ARGUMENTS: runs PROGRAM on a kernel without these system calls,
 * or where they fail with that number; with a value only if the call's Nth argument, counted from 0, is that.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int refuse(scmp_filter_ctx c, char *text)
{
    char *equals = strchr(text, '='), *colon, *value = NULL;
    int error = equals ? atoi(equals + 1) : ENOSYS, call;
    unsigned n = 0;

    if (equals)
        *equals = 0;
    if ((colon = strchr(text, ':'))) {
        *colon = 0;
        n = (unsigned)strtoul(colon + 1, &value, 0);
    }
    call = seccomp_syscall_resolve_name(text);
    if (call == __NR_SCMP_ERROR || (value && *value != ':'))
        return -EINVAL;
    if (!value)
        return seccomp_rule_add(c, SCMP_ACT_ERRNO((unsigned)error), call, 0);
    return seccomp_rule_add(c, SCMP_ACT_ERRNO((unsigned)error), call, 1,
                            SCMP_CMP(n, SCMP_CMP_MASKED_EQ, UINT32_MAX, strtoul(value + 1, NULL, 0)));
}

int main(int argc, char **argv)
{
    scmp_filter_ctx c = seccomp_init(SCMP_ACT_ALLOW);
    int i = 1, r = c ? 0 : -ENOMEM;

    for (; r == 0 && i < argc && strcmp(argv[i], "--") != 0; i++)
        r = refuse(c, argv[i]);
    if (r == 0 && geteuid() == 0) /* nothing else may differ: no-new-privileges stays off */
        r = seccomp_attr_set(c, SCMP_FLTATR_CTL_NNP, 0);
    if (r == 0)
        r = seccomp_load(c);
    if (r < 0 || i + 1 >= argc) {
        fprintf(stderr, "nosys: %s: %s\n", i < argc ? argv[i] : "no program", strerror(-r));
        return 98;
    }
    execvp(argv[i + 1], argv + i + 1);
    perror(argv[i + 1]);
    return 97;
}
