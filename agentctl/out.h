/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/out: what comes out of an answer, as it may be shown: nothing of it reaches a terminal as a
 * control sequence. */
#ifndef AGENTCTL_OUT_H
#define AGENTCTL_OUT_H

#include <stddef.h>
#include <stdint.h>

#include "agentctl/http.h"

#define OUT_TEXT 1024 /* bytes of any text that is shown */

int64_t out_number(const struct json *j, int object, const char *name); /* 0: there is none */
const char *out_text(const struct json *j, int object, const char *name, char text[OUT_TEXT]); /* escaped */
/* The same printed, between two texts; nothing at all if there is none, or it is empty. */
void out_word(const struct json *j, int object, const char *before, const char *name, const char *after);
void out_figure(const struct json *j, int object, const char *before, const char *name, const char *after);
int64_t out_time(const char *text); /* an answer's time, in seconds since 1970; 0: it is none */
void out_data(const struct http_reply *r, const char *before, const char *after); /* as JSON */

void out_string(const char *s, size_t n); /* as a string of JSON */
/* A body as it is; what would drive a terminal is left out if the output is one. */
void out_body(const char *s, size_t n);

/* The end of a verb that asks once: tells a refusal, prints the data with -o json. The code; *ret_text: it is
 * for the verb to print as text. */
int out_answer(const struct options *o, const struct http_reply *r, int code, bool *ret_text);

#endif
