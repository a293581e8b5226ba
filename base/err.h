/* SPDX-License-Identifier: Apache-2.0 */
/* base/err: an error that a person will read. Used only at the edges that face people
 * (configuration, spawn, start-up, agentctl); inside, functions return 0 or -errno. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define ERR_TEXT_MAX 512

struct err {
    int code; /* a positive errno, 0: no error */
    char text[ERR_TEXT_MAX];
};

/* Fills e (which may be NULL) with a formatted text, cut at ERR_TEXT_MAX. Returns -code. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
