/* SPDX-License-Identifier: Apache-2.0 */
/* User=, Group= and SupplementaryGroups= by name service. It may block (LDAP), so it runs at start or in a
 * helper; from there the ids travel as bytes. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/cfg_read.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"

#define GROUPS_MAX 65536 /* NGROUPS_MAX of the kernel */

/* --- asking --- */

/* What is wrong, and with which key. */
struct fault {
    struct err e;
    const struct cfg_at *at;
};

#define UNKNOWN "a user or group that its file names is not known on this host"

static int find_user(const char *name, struct passwd **ret)
{
    uint64_t id;

    errno = 0;
    *ret = str_to_u64(name, UINT32_MAX - 1, &id) == 0 ? getpwuid((uid_t)id) : getpwnam(name);
    return *ret ? 0 : errno && errno != ENOENT && errno != ESRCH ? -errno : -ENOENT;
}

static int find_group(const char *name, gid_t *ret)
{
    struct group *g;
    uint64_t id;

    if (str_to_u64(name, UINT32_MAX - 1, &id) == 0) {
        *ret = (gid_t)id;
        return 0;
    }
    errno = 0;
    if (!(g = getgrnam(name)))
        return errno && errno != ENOENT && errno != ESRCH ? -errno : -ENOENT;
    *ret = g->gr_gid;
    return 0;
}

static int unknown(struct fault *f, const struct cfg_at *at, const char *key, const char *name, int r)
{
    f->at = at;
    if (r == -ENOENT)
        return err_set(&f->e, ENOENT, "%s=%s is not known on this host", key, name);
    return err_set(&f->e, -r, "%s=%s: name service failed: %s", key, name, strerror(-r));
}

static int out_of_memory(struct fault *f)
{
    return err_set(&f->e, ENOMEM, "out of memory");
}

static int set_person(struct cfg_ids *ids, const char *user, const char *home, const char *shell)
{
    ids->user = strdup(user);
    ids->home = strdup(home && *home ? home : "/");
    ids->shell = strdup(shell && *shell ? shell : "/bin/sh");
    return ids->user && ids->home && ids->shell ? 0 : -ENOMEM;
}

/* The user's uid, gid and home. A number without an entry is accepted: it is an id all the same. */
static int take_user(struct wk_def *d, struct fault *f)
{
    struct passwd *p;
    uint64_t id;
    int r = find_user(d->user_name, &p);

    if (r == -ENOENT && str_to_u64(d->user_name, UINT32_MAX - 1, &id) == 0) {
        d->ids.uid = (uid_t)id;
        d->ids.gid = getegid();
        if (!*d->group_name) {
            f->at = &d->user_at;
            return err_set(&f->e, ENOENT,
                           "User=%s has no entry to take a group from; set Group=", d->user_name);
        }
        return set_person(&d->ids, d->user_name, NULL, NULL) < 0 ? out_of_memory(f) : 0;
    }
    if (r < 0)
        return unknown(f, &d->user_at, "User", d->user_name, r);
    d->ids.uid = p->pw_uid;
    d->ids.gid = p->pw_gid;
    return set_person(&d->ids, p->pw_name, p->pw_dir, p->pw_shell) < 0 ? out_of_memory(f) : 0;
}

static int add_group(struct cfg_ids *ids, gid_t gid)
{
    gid_t *bigger;

    for (unsigned i = 0; i < ids->n_groups; i++)
        if (ids->groups[i] == gid)
            return 0;
    if (!(bigger = realloc(ids->groups, (ids->n_groups + 1) * sizeof(*bigger))))
        return -ENOMEM;
    ids->groups = bigger;
    bigger[ids->n_groups++] = gid;
    return 0;
}

/* The groups that initgroups(3) would give. */
static int take_own_groups(struct wk_def *d, struct fault *f)
{
    struct cfg_ids *ids = &d->ids;
    int n = 32, r;

    do {
        gid_t *bigger = realloc(ids->groups, (size_t)n * sizeof(*bigger));
        if (!bigger)
            return out_of_memory(f);
        ids->groups = bigger;
        r = getgrouplist(ids->user, ids->gid, ids->groups, &n);
    } while (r < 0 && n < GROUPS_MAX);
    if (r < 0)
        return unknown(f, &d->user_at, "User", d->user_name, -E2BIG);
    ids->n_groups = (unsigned)n;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

    return x < y ? -1 : x > y;
}

static int take_groups(struct wk_def *d, struct fault *f)
{
    gid_t gid, *exact;
    int r;

    if (*d->user_name && (r = take_own_groups(d, f)) < 0)
        return r;
    for (char **s = d->supplementary; s && *s; s++) {
        if ((r = find_group(*s, &gid)) < 0)
            return unknown(f, &d->groups_at, "SupplementaryGroups", *s, r);
        if (add_group(&d->ids, gid) < 0)
            return out_of_memory(f);
    }
    if (d->ids.n_groups) /* one order, whatever name service says */
        qsort(d->ids.groups, d->ids.n_groups, sizeof(gid_t), by_number);
    if (d->ids.n_groups && (exact = realloc(d->ids.groups, d->ids.n_groups * sizeof(gid_t))))
        d->ids.groups = exact;
    return 0;
}

/* agentd without root stays what it is. */
static int judge_own(struct wk_def *d, struct fault *f)
{
    f->at = *d->user_name && d->ids.uid != geteuid() ? &d->user_at : &d->group_at;
    if (d->ids.uid != geteuid() || d->ids.gid != getegid())
        return err_set(&f->e, EPERM, "%s=%s needs root; agentd runs as uid %u",
                       f->at == &d->user_at ? "User" : "Group",
                       f->at == &d->user_at ? d->user_name : d->group_name, (unsigned)geteuid());
    return 0;
}

static int take_ids(struct wk_def *d, struct fault *f)
{
    struct passwd *p;
    int r;

    d->ids.uid = geteuid();
    d->ids.gid = getegid();
    if (*d->user_name) {
        if ((r = take_user(d, f)) < 0)
            return r;
    } else {
        p = getpwuid(geteuid());
        struct cfg_own own;
        cfg_own(&own);
        if (set_person(&d->ids, p ? p->pw_name : own.user, p ? p->pw_dir : own.home,
                       p ? p->pw_shell : own.shell) < 0)
            return out_of_memory(f);
    }
    if (*d->group_name && (r = find_group(d->group_name, &d->ids.gid)) < 0)
        return unknown(f, &d->group_at, "Group", d->group_name, r);
    if (geteuid() != 0)
        return judge_own(d, f);
    d->ids.set = *d->user_name || *d->group_name || d->supplementary;
    return d->ids.set ? take_groups(d, f) : 0;
}

/* --- into the definition --- */

static void forget(struct cfg_ids *ids)
{
    free(ids->groups);
    free(ids->user);
    free(ids->home);
    free(ids->shell);
    *ids = (struct cfg_ids){0};
}

/* What follows from the ids: the home as working directory, and the hashes. */
static int settle(struct wk_def *d)
{
    char *home;

    if (str_eq(d->workdir, "~")) {
        if (!(home = strdup(d->ids.home)))
            return -ENOMEM;
        free(d->workdir);
        d->workdir = home;
    }
    cfg_hash_ids(d);
    return 0;
}

/* The definition is kept aside: a worker that has none yet gets this one, and its starts fail with the
 * reason. */
static void set_aside(struct cfg *cfg, struct wk_def *d, const char *why)
{
    struct wk_def **p = realloc(cfg->nameless, (cfg->n_nameless + 1) * sizeof(*p));

    if (p)
        cfg->nameless = p;
    if (!p || !(d->fault = strdup(why)))
        cfg_def_free(d);
    else
        cfg->nameless[cfg->n_nameless++] = d;
}

/* line: as it was reported, NULL: that comes later, from the helper. */
static void make_broken(struct cfg *cfg, unsigned i, const char *why, const char *line)
{
    struct wk_def *d = cfg->workers[i];

    cfg_add_broken(cfg, d->alias, line);
    set_aside(cfg, d, why);
    memmove(cfg->workers + i, cfg->workers + i + 1, (cfg->n_workers - i - 1) * sizeof(*cfg->workers));
    cfg->n_workers--;
}

/* Many workers run as one user: what was asked for the one before is not asked again. */
static bool same_names(const struct wk_def *a, const struct wk_def *b)
{
    return str_eq(a->user_name, b->user_name) && str_eq(a->group_name, b->group_name) && !a->supplementary &&
           !b->supplementary;
}

static int copy_ids(struct cfg_ids *to, const struct cfg_ids *from)
{
    *to = *from;
    to->groups = NULL;
    if (from->n_groups && (to->groups = malloc(from->n_groups * sizeof(gid_t))))
        memcpy(to->groups, from->groups, from->n_groups * sizeof(gid_t));
    return set_person(to, from->user, from->home, from->shell) < 0 || (from->n_groups && !to->groups)
               ? -ENOMEM
               : 0;
}

static int resolve(struct wk_def *d, const struct wk_def *before, struct fault *f)
{
    int r;

    if (before && same_names(before, d))
        r = copy_ids(&d->ids, &before->ids) < 0 ? out_of_memory(f) : 0;
    else
        r = take_ids(d, f);
    if (r == 0 && settle(d) < 0)
        r = out_of_memory(f);
    if (r < 0)
        forget(&d->ids);
    return r;
}

void cfg_resolve(struct cfg *cfg, struct cfg_report *report)
{
    const struct wk_def *before = NULL;

    for (unsigned i = 0; i < cfg->n_workers;) {
        struct wk_def *d = cfg->workers[i];
        struct fault f = {0};
        struct cfg_ctx c = {.report = report, .cfg = cfg, .def = d, .file = d->file};
        size_t from = report->errors.len;
        char *line;
        if (d->ids.user || resolve(d, before, &f) == 0) {
            before = d;
            i++;
            continue;
        }
        cfg_error_in(&c, f.at && f.at->file ? f.at->file : d->file, f.at && f.at->line ? f.at->line : 1,
                     f.at && f.at->col ? f.at->col : 1, "%s", f.e.text);
        line = cfg_report_why(report, from, 1);
        make_broken(cfg, i, f.e.text, line);
        free(line);
    }
}

/* --- as bytes: native numbers, since both ends are one program --- */

static void put_u32(struct buf *b, uint32_t v)
{
    buf_put(b, &v, sizeof(v));
}

static void put_bytes(struct buf *b, const char *s, size_t n)
{
    put_u32(b, (uint32_t)n);
    buf_put(b, s, n);
}

static void put_ids(struct buf *b, const struct cfg_ids *ids)
{
    put_u32(b, ids->set);
    put_u32(b, ids->uid);
    put_u32(b, ids->gid);
    put_u32(b, ids->n_groups);
    buf_put(b, ids->groups, ids->n_groups * sizeof(gid_t));
    put_bytes(b, ids->user, strlen(ids->user));
    put_bytes(b, ids->home, strlen(ids->home));
    put_bytes(b, ids->shell, strlen(ids->shell));
}

void cfg_resolved_put(const struct cfg *cfg, const struct cfg_report *report, struct buf *b)
{
    put_u32(b, cfg->n_workers);
    for (unsigned i = 0; i < cfg->n_workers; i++) {
        const struct wk_def *d = cfg->workers[i];
        put_bytes(b, d->alias, strlen(d->alias));
        put_ids(b, &d->ids);
    }
    put_bytes(b, report->errors.p ? report->errors.p : "", report->errors.len);
    put_bytes(b, report->warnings.p ? report->warnings.p : "", report->warnings.len);
    put_u32(b, report->n_errors);
    put_u32(b, report->n_agent_errors);
    put_u32(b, report->n_warnings);
    put_u32(b, cfg->n_broken);
    for (unsigned i = 0; i < cfg->n_broken; i++) {
        const char *why = cfg->broken_why[i] ? cfg->broken_why[i] : "";
        put_bytes(b, cfg->broken[i], strlen(cfg->broken[i]));
        put_bytes(b, why, strlen(why));
    }
}

struct reader {
    const char *p;
    size_t left;
    bool bad;
};

static const char *get(struct reader *r, size_t n)
{
    const char *at = r->p;

    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    r->p += n;
    r->left -= n;
    return at;
}

static uint32_t get_u32(struct reader *r)
{
    const char *p = get(r, sizeof(uint32_t));
    uint32_t v = 0;

    if (p)
        memcpy(&v, p, sizeof(v));
    return v;
}

static char *get_text(struct reader *r)
{
    uint32_t n = get_u32(r);
    const char *p = get(r, n);
    char *s = p ? strndup(p, n) : NULL;

    if (!s || strlen(s) != n)
        r->bad = true;
    return s;
}

static void get_ids(struct reader *r, struct cfg_ids *ids)
{
    size_t bytes;
    const char *p;

    ids->set = get_u32(r) != 0;
    ids->uid = get_u32(r);
    ids->gid = get_u32(r);
    ids->n_groups = get_u32(r);
    bytes = (size_t)ids->n_groups * sizeof(gid_t);
    if (ids->n_groups > GROUPS_MAX || !(p = get(r, bytes)))
        r->bad = true;
    else if (bytes && (ids->groups = malloc(bytes)))
        memcpy(ids->groups, p, bytes);
    if (!ids->groups)
        r->bad |= ids->n_groups > 0;
    ids->user = get_text(r);
    ids->home = get_text(r);
    ids->shell = get_text(r);
}

/* Workers up to the one named alias that the helper did not send are those it broke. */
static struct wk_def *next_named(struct cfg *cfg, unsigned *i, const char *alias)
{
    while (*i < cfg->n_workers && !str_eq(cfg->workers[*i]->alias, alias))
        make_broken(cfg, *i, UNKNOWN, NULL);
    return *i < cfg->n_workers ? cfg->workers[(*i)++] : NULL;
}

static void get_worker(struct reader *r, struct cfg *cfg, unsigned *i)
{
    _cleanup_free_ char *alias = get_text(r);
    struct cfg_ids ids = {0};
    struct wk_def *d;

    get_ids(r, &ids);
    if (r->bad || !(d = next_named(cfg, i, alias)) || d->ids.user) {
        r->bad = true;
        forget(&ids);
        return;
    }
    d->ids = ids;
    if (settle(d) < 0)
        r->bad = true;
}

static void get_lines(struct reader *r, struct buf *b)
{
    _cleanup_free_ char *text = get_text(r);

    buf_reset(b);
    if (!r->bad)
        buf_str(b, text);
}

/* The helper's report has gone on from ours. */
static void get_report(struct reader *r, struct cfg_report *report)
{
    get_lines(r, &report->errors);
    get_lines(r, &report->warnings);
    report->n_errors = get_u32(r);
    report->n_agent_errors = get_u32(r);
    report->n_warnings = get_u32(r);
}

/* Why one is broken, where it is not known here yet. */
static void get_why(struct reader *r, struct cfg *cfg)
{
    _cleanup_free_ char *alias = get_text(r), *why = get_text(r);

    for (unsigned i = 0; !r->bad && why && *why && i < cfg->n_broken; i++)
        if (!cfg->broken_why[i] && str_eq(cfg->broken[i], alias))
            cfg->broken_why[i] = TAKE_PTR(why);
}

int cfg_resolved_get(struct cfg *cfg, struct cfg_report *report, const void *p, size_t n)
{
    struct reader r = {p, n, false};
    uint32_t count = get_u32(&r);
    unsigned i = 0;

    for (uint32_t k = 0; k < count && !r.bad; k++)
        get_worker(&r, cfg, &i);
    if (!r.bad)
        get_report(&r, report);
    while (!r.bad && i < cfg->n_workers)
        make_broken(cfg, i, UNKNOWN, NULL);
    for (uint32_t k = get_u32(&r); k > 0 && !r.bad; k--)
        get_why(&r, cfg);
    return r.bad || r.left ? -EBADMSG : 0;
}
