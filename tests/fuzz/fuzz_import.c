/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign configurations: the first byte says which format, the rest is the file. Whatever it is, each
 * worker's file that comes of it is lines of Key=value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/import.h"
#include "base/limits.h"
#include "base/str.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Messages are not looked at; a sanitizer writes to the descriptor itself. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    FILE *f = fopen("/dev/null", "w");

    if (f)
        stderr = f;
    return 0;
}

static void judge(const struct import *im)
{
    for (size_t i = 0; im->errors == 0 && i < im->n_workers; i++) {
        const struct import_worker *w = im->workers[i];
        if (!*w->alias || strlen(w->alias) > LIMIT_ALIAS || strchr(w->alias, '/') || strchr(".-", *w->alias))
            abort();
        for (size_t k = 0; k < w->n; k++)
            if (strpbrk(w->lines[k].value, "\r\n"))
                abort();
    }
    for (size_t i = 0; i < im->n_entries; i++)
        if ((im->entries[i]->verdict == IMPORT_TAKEN) != (im->entries[i]->to.len > 0))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const formats[])(struct import *, struct import_source *) = {
        import_obagent_read, import_supervisor_read, import_unit_read, import_monit_read, import_pm2_read};
    struct import im = {0};
    struct import_source *src;

    if (size == 0 || memchr(data, 0, size) || !str_is_utf8((const char *)data, size))
        return 0;
    if (!(src = calloc(1, sizeof(*src))))
        return 0;
    import_room(&im.sources, 0, &im.size_sources, sizeof(*im.sources));
    im.sources[im.n_sources++] = src;
    src->path = import_keep(&im, "/nowhere/conf/x");
    src->dir = import_keep(&im, "/nowhere/conf");
    src->text = strndup((const char *)data + 1, size - 1);
    src->len = size - 1;
    if (src->text)
        formats[data[0] % 5](&im, src);
    import_judge(&im);
    judge(&im);
    import_free(&im);
    return 0;
}
