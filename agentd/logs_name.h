/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_name: what the name of a log's file says: what a rotation has put behind it. Pure. */
#ifndef AGENTD_LOGS_NAME_H
#define AGENTD_LOGS_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define LOGS_NAME_PACKED ".gz"

enum logs_name_kind {
    LOGS_NAME_DATE,   /* NAME.20240102030405, NAME-20240102: the greater, the newer */
    LOGS_NAME_NUMBER, /* NAME.1: the greater, the older */
    LOGS_NAME_PLAIN,
};

struct logs_name {
    size_t stem; /* bytes of NAME */
    enum logs_name_kind kind;
    bool packed; /* .gz is behind it */
};

/* Packed, in this way or another, by the end of its name: its bytes are not those that were written. */
bool logs_name_is_packed(const char *name);
/* The last component of a path; folder: what is before it, its slash included. NULL: there is no slash. */
const char *logs_name_split(const char *path, char *folder, size_t size);
/* False: no file that is read: it is hidden, or packed in another way, or a rotation is at work on it. */
bool logs_name_read(const char *name, struct logs_name *ret);
/* Which of two files of one log is older, by what is behind NAME: below 0: the first. */
int logs_name_compare(const char *a, const char *b);
/* A search for that type of logs means it: it is the name, or what stands before a point or a line in it. */
bool logs_name_is_type(const char *name, const char *type);

#endif
