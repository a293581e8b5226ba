/* SPDX-License-Identifier: Apache-2.0 */
/* import: the verb. All files are read before anything is told or written, so that an error in the last one
 * leaves nothing half done. */
#include "agentctl/import.h"

#include <stdio.h>
#include <stdlib.h>

#include "agentctl/verbs.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

static const struct {
    const char *name;
    void (*read)(struct import *im, struct import_source *src);
} formats[] = {
    {"obagent", import_obagent_read}, {"supervisord", import_supervisor_read},
    {"systemd", import_unit_read},    {"monit", import_monit_read},
    {"pm2", import_pm2_read},
};

static bool is_format(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (str_eq(formats[i].name, name))
            return true;
    return false;
}

static void read_file(struct import *im, const char *path)
{
    struct import_source *src = import_load(im, path, NULL);
    const char *format = im->format;

    if (!src)
        return;
    if (!format && !(format = import_guess(src))) {
        import_error(im, (struct import_at){src->path, 1, 1},
                     "what is it? Say --from obagent, supervisord, systemd, monit or pm2");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (str_eq(formats[i].name, format))
            formats[i].read(im, src);
}

/* ---- the verb ---- */

static int usage(const struct options *o)
{
    if (o->count < 2)
        options_complain(
            "import takes files: obagent's agentd.yaml, supervisord.conf, a systemd unit, a monitrc, "
            "or pm2's ecosystem file");
    else if (o->from && !is_format(o->from))
        options_complain("--from is obagent, supervisord, systemd, monit or pm2, not \"%s\"", o->from);
    else if (o->check && o->write)
        options_complain("--check writes nothing: --write and --check say different things");
    else if (o->force && !o->write)
        options_complain("--force is for --write DIR");
    else if (o->url)
        options_complain("import reads files of this host, and takes no --url");
    else
        return EXIT_DONE;
    return EXIT_USAGE;
}

static int finish(struct import *im, const struct options *o)
{
    int code = EXIT_DONE;

    if (im->errors == 0)
        import_judge(im);
    if (im->errors) {
        options_complain("import: %u error%s; nothing is written", im->errors, im->errors > 1 ? "s" : "");
        return EXIT_REFUSED;
    }
    if (o->write)
        code = import_write(im, o->write, o->force);
    if (code == EXIT_DONE)
        import_tell(im, o->json, o->write);
    return code;
}

int import_read(struct import *im, const char *path)
{
    read_file(im, path);
    if (im->errors == 0)
        import_judge(im);
    return im->errors ? -1 : 0;
}

int import_run(const struct options *o)
{
    struct import im = {.format = o->from};
    int code = usage(o);

    if (code != EXIT_DONE)
        return code;
    for (int i = 1; i < o->count; i++)
        read_file(&im, o->words[i]);
    code = finish(&im, o);
    import_free(&im);
    return code;
}
