/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk: one worker: its definition, its processes, its timers. Events go through the pure table
 * (wk_fsm), actions come out and are done here. Knows this worker's resources; never knows other workers,
 * clients or HTTP. wk.c: life and events. wk_start.c: spawn and readiness. wk_stop.c: ending the tree.
 * wk_live.c: what a running tree is given. wk_adopt.c: after agentd's death. */
#ifndef AGENTD_WK_H
#define AGENTD_WK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "agentd/cfg.h"
#include "agentd/facts.h"
#include "agentd/wk_fsm.h"
#include "agentd/wk_res.h"
#include "agentd/wk_steps.h"
#include "proc/cgroup.h"
#include "proc/pidref.h"
#include "proc/spawn.h"

struct buf;
struct loop_watch;
struct helper;
struct state;
struct op;
struct wk;
struct wire_call;
struct wk_hook;
struct wk_secret;
struct wk_command;
struct wk_socks;
struct wk_fds;
struct wk_undo;
struct order;
struct rotate;

/* A hook's end: why: NULL, or how it failed. */
typedef void (*wk_hook_fn)(struct wk *w, const char *why);

/* What all workers share. */
struct wk_host {
    struct cgroup_root cgroups;
    char runtime_dir[512];
    const struct state *pidfds; /* of an image that is dead: may hold pidfds of its workers; NULL: none */
    uint64_t dir_hash;          /* of runtime_dir: tells our workers from another agentd's */
    void (*moved)(const struct wk *w);       /* its state changed */
    void (*changed)(struct wk *w);           /* the record changed */
    void (*told)(struct wk *w, bool failed); /* WK_DO_TELL; failed: a start just failed */
    /* Its turn has come? If not, wk_start_now and wk_stop_now are called once it has. */
    bool (*may_start)(struct wk *w);
    bool (*may_stop)(struct wk *w);
    void (*stepped)(struct wk *w);                 /* its state or goal may be another */
    void (*redefined)(void);                       /* one may wait for others than before */
    void (*replaced)(struct wk *w, struct wk *by); /* in the set of workers */
    void (*rolled_back)(struct wk *w, const char *why);
};
extern struct wk_host wk_host;

/* A process of the tree that is waited for while it ends. */
struct wk_member {
    LIST_ENTRY(wk_member) link;
    struct wk *w;
    struct pidref ref;
    struct loop_watch *watch;
    bool killed;
    bool fresh; /* found by the look that is under way */
};

struct wk_env {
    char **v;       /* NULL-terminated NAME=value */
    char *block;    /* their text */
    char *pid_text; /* where the child writes $LISTEN_PID; NULL: it has none */
};

/* Only while a process is being made or is not ready: so that a worker at rest costs no memory for it. */
struct wk_start {
    struct spawn_job job;
    struct spawn_spec spec;
    struct wk_env env;
    struct loop_watch *status, *probe_timer;
    struct helper *probe;
    int fds[LIMIT_PASS_FDS];   /* that the program gets */
    struct wk_command *asking; /* ReadyCheck=exec: */
    struct helper *preparing;  /* conditions and folders; then */
    void (*prepared)(struct wk *w, bool met, const char *why);
    unsigned probe_ms;
    /* ReadyCheck= as it was when this start began: a later one is for the next start. */
    struct cfg_check *ready;
    bool spawning; /* until exec or failure */
    bool has_leaf;
};

/* Only while the tree is being ended. */
struct wk_stop {
    LIST_HEAD(, wk_member) members;
    struct loop_watch *events;
    int events_fd;
    struct helper *sweep, *tail;
    struct loop_watch *again; /* until a sweep can be started */
    bool swept_clean;         /* without a cgroup: the last look found nothing */
    uint8_t failures;         /* looks in a row that could not tell */
    bool post_begun;          /* ExecStopPost= */
    bool after_started;       /* the tail of stderr is being read */
    bool main_killed;
};

struct wk_exit {
    enum wk_end end;
    int status;
    pid_t pid;
    int64_t at_us; /* wall clock; 0: never ended */
};

struct wk {
    struct wk_def *def, *next_def; /* next_def: taken over when no spawn uses def any more */
    int64_t id;
    enum wk_state state;
    enum wk_goal goal;
    enum wk_reason reason;
    uint32_t generation, restarts;
    struct pidref main; /* pid 0: none; a zombie that is not yet reaped counts as alive for waiting only */
    struct {
        pid_t pid; /* 0: none */
        uint64_t start;
    } kept;        /* whose pidfd the service manager has */
    pid_t session; /* main.pid of this incarnation, until nothing of it is left: its members outlive main */
    uid_t uid;
    bool adopted, ready, removed, stale, dirty, draining, broken;
    bool requested; /* a new process was asked for, so backoff does not apply */
    bool start_failed;
    bool stale_program; /* adopted, and its program is not the file any more that it was started from */
    uint8_t looks;      /* for the exit status of one that is not our child */
    bool unobserved;    /* it ended while no agentd watched: what then is its policy's */
    struct pidref
        held; /* a process on record that can't be proven to be ours to end: nothing starts beside it */
    struct loop_watch *held_watch;
    bool was_ready;    /* this incarnation: ExecStop= is for it */
    bool ended;        /* its main process has: last is of it */
    bool rested;       /* it ended before, and its policy left it down */
    bool never_ran;    /* the child told why it can't become the program, and goes */
    bool leaf_spoiled; /* cgroup.kill was used on it */
    bool clamped;      /* the kernel refused a limit or score of this incarnation */
    bool live_refused; /* the last wk_set_def met such a refusal; message tells which */
    bool leaf_empty;   /* seen to be, and nothing was started since */
    bool begun;        /* something of this incarnation was started: ExecStopPost= is for it */
    bool waiting;      /* STARTING, and its turn has not come */
    bool stop_waits;   /* STOPPING, and its turn has not come */
    bool traces;       /* what it has made in the file system, and goes when it is at rest, may be there */
    uint8_t phase;     /* that is on record of it */
    bool yields;       /* it stops because another does, and is to come back */
    bool in_queue, admitted; /* owned by budget.c */
    /* RestartMode=overlap: the other of two instances. NEXT and OLD are not in the set of workers: nobody
     * sees them, and nothing is on record of them. */
    struct wk *twin;
    enum { WK_ONLY, WK_NEXT, WK_OLD } part;
    bool again;               /* it is to be restarted once there is no twin */
    uint32_t generation_used; /* by a twin that is gone */
    uint8_t leaf_no;
    struct cgroup_leaf leaf;
    int slot;                       /* of facts */
    uint32_t history;               /* its block there, + 1; 0: not looked for yet */
    struct notify *notify;          /* what is said by sd_notify(3); NULL: nobody may */
    struct wk_health *health;       /* while it is up, with HealthCheck= */
    bool barked;                    /* its watchdog or HealthCheck= has ended this incarnation */
    struct wk_start *start, *ahead; /* ahead: environment for the next one, made while the old one dies */
    struct wk_stop *stop;
    struct wk_res *res; /* these: wk_res.h */
    uint64_t res_hash, cpu_from, kills_before, ooms_before;
    uint16_t res_lost;
    bool oomed;
    struct wk_secret *secret; /* its credentials are being made */
    uint32_t secrets_of;      /* the generation that they are there for; 0: none */
    struct wk_undo *undo;     /* RuntimeDirectory= is being removed */
    struct wk_fds *fds;       /* FDSTORE=1 */
    struct wk_socks *socks;   /* ListenStream=, while it is not at rest */
    struct wk_hook *hook;     /* a command that runs */
    struct wk_exit hook_end;  /* of the last one */
    struct op *reloading;     /* waits for ExecReload= */
    struct helper *finding;   /* the main process that Type=forking has left */
    struct loop_watch *find_again;
    pid_t guessed;
    struct loop_watch *main_watch, *timer;
    struct wk_backoff backoff;
    struct wk_exit last;
    struct wk_oom last_oom; /* of the same incarnation */
    struct op *op, *queued; /* owned by op.c */
    uint64_t goal_disk;     /* the store's write that has the goal; 0: it was read from there, or goes without
                               saying */
    int64_t create_us, update_us, goal_us, since_us, active_us, retry_us, started_us; /* wall clock */
    uint64_t exec_mono_us, entered_mono_us; /* entered: this state */
    uint64_t timer_us;                      /* monotonic: when timer fires; 0: it does not */
    uint64_t ran_hash;                      /* def->hash that the process was started with */
    int64_t error_size;                     /* length of stderr's file at this start, -1: none */
    uint64_t error_at_us;                   /* monotonic: when it was that long */
    bool error_moved;                       /* it was cut since, see rotate_note */
    uint64_t error_shift;
    struct rotate *rotate; /* with LogMaxSize=, while it runs */
    char *message, *goal_by, *ports;
    char *killed; /* comma list of pids: who got SIGKILL in this stop, until op_told takes it */
    uint32_t processes;
    uint64_t cpu_us, memory, sampled_us;
    uint8_t queue[8], n_queue; /* events that came up while one was handled */
    LIST_ENTRY(wk) by_id;
    struct order *order; /* NULL: it waits for nobody, and nobody for it */
    TAILQ_ENTRY(wk) link, dirty_link, start_link;
};

/* Takes def over. NULL if there is no memory. The worker is DOWN with goal DOWN. */
struct wk *wk_new(struct wk_def *def, int64_t id);
void wk_free(struct wk *w); /* its processes are left alone */

void wk_start_now(struct wk *w); /* it waits in STARTING */
void wk_stop_now(struct wk *w);  /* it waits in STOPPING */

/* Feeds an event through the table. START, STOP and RESTART set the goal. */
void wk_event(struct wk *w, enum wk_event e);

/* The running process would have to be replaced for def: it is of another definition in a key that costs a
 * restart. */
bool wk_must_restart(const struct wk *w, const struct wk_def *def);
/* A new definition: live parts are in force at once, the rest at the next start. Returns what wk_must_restart
 * said. Takes def over. */
bool wk_set_def(struct wk *w, struct wk_def *def);

void wk_set_message(struct wk *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void wk_changed(struct wk *w); /* marks its record for the listener */
bool wk_is_alive(const struct wk *w);
void wk_put_facts(struct wk *w, enum facts_phase phase);
void wk_leaf_name(const struct wk *w, unsigned no, char name[LIMIT_ALIAS + 8]);
void wk_cookie_prefix(const struct wk *w, char *text, size_t size);
uint64_t wk_lived_us(const struct wk *w);
bool wk_has_ended(const struct wk *w); /* its main process, of this incarnation */
void wk_take_next_def(struct wk *w);   /* nothing reads the old one any more */

/* wk_signal.c: SIGNAL and RELOAD_WORKER; answers the call. */
void wk_signal(struct wk *w, const struct wire_call *call);
void wk_signal_forget(struct wk *w, const char *why); /* its reload will not end */
/* wk_health.c */
void wk_health_watch(struct wk *w, bool on);
const char *wk_health_name(const struct wk *w); /* "unknown", "healthy", "unhealthy"; "" if it is not asked */
const char *wk_health_why(const struct wk *w);  /* it is unhealthy, or "" */
/* wk_live.c: gives the running tree what differs between old and w->def and a process can be given. old NULL:
 * it is not known; then all that is set. */
void wk_live_apply(struct wk *w, const struct wk_def *old);
void wk_arm(struct wk *w, uint64_t us); /* its timer */

#endif
