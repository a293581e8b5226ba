/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_work: the part of a search that one user's files are: plans, scans, and puts what is found into
 * the pipe, as JSON or as members of an archive. */
#ifndef AGENTD_LOGS_WORK_H
#define AGENTD_LOGS_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include "agentd/logs_match.h"
#include "agentd/logs_zip.h"
#include "base/limits.h"

struct logs_wanted;

/* In memory that the search shares with those that it forks, one after the other. They are no more than the
 * users that they have become: nothing of it is trusted. */
struct logs_result {
    bool head_sent; /* the answer has begun: no error can be told any more */
    bool found;     /* the cursor's file */
    bool full, late;
    int32_t error;
    char message[1024];
    uint64_t entries, files, unreadable;
    bool has_where;
    struct logs_place where; /* where the next search goes on */
    size_t types_len;
    char types[LIMIT_LOG_TYPES_TOLD]; /* names that could be searched for, with ", " between */
    struct logs_zip zip;              /* and room for its members */
};
#define LOGS_RESULT_SIZE (sizeof(struct logs_result) + LIMIT_LOG_SOURCES * sizeof(struct logs_zip_member))

#define LOGS_WORK_GONE 7 /* exit status: nobody reads any more */

struct logs_work {
    struct logs_query *query;
    struct logs_result *result;
    int out;
    uint64_t deadline_us; /* monotonic; for entries only */
};

/* As that user. Ends the process with LOGS_WORK_GONE when nobody reads. */
void logs_work_run(const struct logs_work *w, const struct logs_wanted *wanted);
/* The names that could be searched for, into the result. */
void logs_work_tell(const struct logs_work *w, const struct logs_wanted *wanted);
bool logs_work_name(struct logs_result *r, const char *name, size_t n); /* one of them; false: no more fit */

/* The head of a good answer, once. 0 or -errno. */
int logs_work_head(struct logs_result *r, int out, bool zip);
/* A place's file, as a client has it: decimal digits. */
#define LOGS_WORK_ID 64
char *logs_work_id(const struct logs_place *p, char text[LOGS_WORK_ID]);

#endif
