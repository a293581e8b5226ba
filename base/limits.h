/* SPDX-License-Identifier: Apache-2.0 */
/* base/limits: every number that bounds what a peer, a file or a worker can make us spend, in one table. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* names and configuration */
#define LIMIT_ALIAS 64                 /* bytes of an alias; also a file name and a cgroup name */
#define LIMIT_CONFIG_FILE (256 * 1024) /* bytes of one configuration file */
#define LIMIT_CONFIG_LINE 8192         /* bytes of one logical line, continuations joined */
#define LIMIT_CONFIG_ERRORS 100        /* messages listed in one load */
#define LIMIT_WORKERS 10000
#define LIMIT_ARGS 256    /* words of one Exec line */
#define LIMIT_COMMANDS 64 /* command lines of one worker */
#define LIMIT_NEEDS 256   /* names in After= and its like of one worker */
#define LIMIT_ENV 256     /* variables of one worker */
#define LIMIT_SOCKETS 32  /* ListenStream= of one worker, or of the listener */
#define LIMIT_DIRS 32     /* RuntimeDirectory= and its like of one worker; and conditions */
#define LIMIT_FDSTORE 16  /* FileDescriptorStoreMax= */
#define LIMIT_PASS_FDS (LIMIT_SOCKETS + LIMIT_FDSTORE) /* descriptors that a program is started with */
#define LIMIT_GROUPS 64
#define LIMIT_LOOK_FDS 8192          /* descriptors of another process that one look goes through */
#define LIMIT_SECRETS 64             /* credentials of one worker */
#define LIMIT_SECRET_BYTES (1 << 20) /* and of the files among them, in all */
#define LIMIT_CREDENTIALS 256
#define LIMIT_CREDENTIAL_LINE 512
#define LIMIT_CREDENTIAL_NAME 64     /* bytes of a credential's name; also in the actor of an operation */
#define LIMIT_CREDENTIAL_SUBJECT 255 /* of a certificate's */

#define LIMIT_TLS_RENEW_DAYS 14                  /* doctor speaks of a certificate that ends within them */
#define LIMIT_TLS_FRAMES (4 * LIMIT_CONFIG_FILE) /* bytes of what TLS is made of, as frames */

/* agentctl import */
#define LIMIT_IMPORT_FILE (1 << 20) /* bytes of one foreign file */
#define LIMIT_IMPORT_FILES 256      /* of one call, with those that they include */
#define LIMIT_IMPORT_WORKERS 1000   /* workers that come of one call */
#define LIMIT_IMPORT_NODES \
    100000 /* values in one file of YAML, JSON or JavaScript; words in one of monit's */
#define LIMIT_IMPORT_MEMBERS 2000       /* members of one map, keys of one section, and sections */
#define LIMIT_IMPORT_DEPTH 32           /* of values in values */
#define LIMIT_IMPORT_MEMORY (256 << 20) /* bytes of all that is kept of the files */
#define LIMIT_IMPORT_ERRORS 50          /* messages told */

/* the wire between agentd and agentd-rpc */
#define LIMIT_WIRE_PACKET 32768  /* bytes of one SOCK_SEQPACKET packet */
#define LIMIT_WIRE_STRING 8192   /* bytes of one string in a frame */
#define LIMIT_WIRE_FEATURES 2048 /* bytes of what agentd tells of the kernel's features */
#define LIMIT_WIRE_RECORD 12288  /* bytes of one worker's record: agentd/link keeps so much room */
#define LIMIT_WIRE_CALLS 512     /* calls that agentd holds open for the listener */
#define LIMIT_WIRE_RATE 50000    /* calls of one listener within a second; beyond, it is replaced */
#define LIMIT_WIRE_ACTOR 320     /* bytes of who asks, and from where */
#define LIMIT_WIRE_WHAT 263      /* bytes of what was asked for: method and path, cut */
#define LIMIT_WIRE_NAME 2048     /* bytes of what a call names: a file, an operation, hosts */
#define LIMIT_WIRE_REPLIES                                                          \
    1024 /* frames queued for a listener that does not read; beyond, it is replaced \
          */

#define LIMIT_EVENTS 512      /* events remembered, by agentd and by its listener */
#define LIMIT_DRAINING 8      /* earlier listeners that finish what they hold, at once */
#define LIMIT_DRAIN_SEC 180   /* and for how long: a reply's deadline and an idle connection's */
#define LIMIT_PRIVATE_PEERS 8 /* administrators on the private socket at once */

/* HTTP */
#define LIMIT_HTTP_CONNECTIONS 512         /* [Rpc] MaxConnections= */
#define LIMIT_HTTP_PER_SOURCE 128          /* [Rpc] MaxConnectionsPerSource=: of one address */
#define LIMIT_HTTP_SOURCES 4096            /* addresses with a connection at once */
#define LIMIT_HTTP_PER_UID 64              /* connections of one uid on the unix socket */
#define LIMIT_HTTP_ROOT_RESERVE 16         /* of all connections, kept for uid 0 */
#define LIMIT_HTTP_HEADER_BYTES 16384      /* [Rpc] MaxHeaderBytes=: request line and headers */
#define LIMIT_HTTP_HEADERS 64              /* [Rpc] MaxHeaders=: header lines */
#define LIMIT_HTTP_TARGET 2048             /* bytes of the request target */
#define LIMIT_HTTP_BODY 65536              /* [Rpc] MaxRequestBytes= */
#define LIMIT_HTTP_REQUEST_SEC 10          /* [Rpc] RequestDeadlineSec=: first byte to last, in total */
#define LIMIT_HTTP_IDLE_SEC 60             /* [Rpc] IdleTimeoutSec=: a kept connection without a request */
#define LIMIT_HTTP_REQUESTS 100000         /* [Rpc] MaxRequestsPerConnection= */
#define LIMIT_HTTP_REPLY (16 << 20)        /* bytes of one reply's body */
#define LIMIT_HTTP_STREAMS 16              /* [Rpc] MaxLogStreams=: at once */
#define LIMIT_HTTP_STREAM_OUTPUT (1 << 20) /* bytes unsent to a slow reader before its stream pauses */
#define LIMIT_HTTP_TAKE_SEC 120   /* a reader that takes nothing of its reply for so long is dropped */
#define LIMIT_HTTP_LINGER_SEC 2   /* after a refusal: for the reader to take it before the close */
#define LIMIT_HTTP_ZIP (16 << 10) /* bytes of a body from which on it is compressed for who takes that */
#define LIMIT_HTTP_BIG_REPLY (64 << 10) /* a body above it is handed over, not copied */
#define LIMIT_HTTP_EVENTS 32            /* [Rpc] MaxEventStreams=: at once */
#define LIMIT_HTTP_EVENT_OUTPUT                                                                      \
    (256 << 10)                      /* bytes unsent to a slow reader of events before it is dropped \
                                      */
#define LIMIT_HTTP_HEARTBEAT_SEC 15  /* [Rpc] HeartbeatSec=: between comments on a quiet event stream */
#define LIMIT_NOTIFY_STATUS 200      /* bytes of STATUS= that are kept */
#define LIMIT_NOTIFY_MESSAGES 1000   /* of a worker's own, in a second; then they wait */
#define LIMIT_NOTIFY_LOOKS 32        /* at senders other than the main process, in a second */
#define LIMIT_NOTIFY_EXTEND_SEC 3600 /* that EXTEND_TIMEOUT_USEC= moves a deadline in all */
#define LIMIT_CHECK_ANSWER 65536     /* bytes of a ReadyCheck= or HealthCheck= answer that are looked at */
#define LIMIT_CHECKS 16              /* helpers at work beyond which no check is begun */
#define LIMIT_HTTP_WISH 1024         /* bytes of If-Match, or of Prefer, in all */
#define LIMIT_HTTP_HOP_WORDS 256     /* bytes of Connection in all; with more it is closed */
#define LIMIT_HTTP_REASON 256        /* bytes of Agentd-Reason */
#define LIMIT_HTTP_PASSWORD 256      /* bytes of user and password */
#define LIMIT_HTTP_SAMPLE_MS 2000    /* a reader waits at most so long for a fresh sample */
#define LIMIT_HTTP_STATS_WORDS 32    /* reasons that starts are counted by */
#define LIMIT_HTTP_PAGE 1000         /* rows of one page */
#define LIMIT_HTTP_LOG_TAIL 65536    /* bytes of a log without from= */
#define LIMIT_AUTH_CHECK_SEC 10      /* CPU seconds of one password hash */
#define LIMIT_LOG_OLDER 64           /* files that a log was renamed to, of which a cursor finds its own */
#define LIMIT_JSON_WORD 64           /* bytes of one word of a list in a record */
#define LIMIT_JSON_DEPTH 32
#define LIMIT_JSON_TOKENS 4096
#define LIMIT_AUTH_CHECKS 4       /* password hashes computed at once */
#define LIMIT_AUTH_WAITING 64     /* requests that wait for one */
#define LIMIT_AUTH_VERDICTS 64    /* verdicts kept */
#define LIMIT_AUTH_DATE_SEC 900   /* that a signed request's Date may be from our clock */
#define LIMIT_AUTH_SEEN 4096      /* signed requests remembered for as long, so that none is taken twice */
#define LIMIT_AUTH_FAILURES 10    /* wrong attempts of one address before it is slowed */
#define LIMIT_AUTH_SLOW_SEC 60    /* and the longest wait then */
#define LIMIT_AUTH_FORGIVE_SEC 60 /* after which one of them is forgiven */
#define LIMIT_AUTH_SOURCES 1024   /* addresses remembered with wrong attempts */
#define LIMIT_AUTH_NOTES 10       /* lines a second in the log about them */

/* operations */
#define LIMIT_OPERATIONS 1024       /* operations remembered */
#define LIMIT_OPERATION_AGE_H 168   /* and for how many hours once they have ended */
#define LIMIT_KEYS 4096             /* Idempotency-Keys remembered */
#define LIMIT_KEY_AGE_H 24          /* and for how many hours */
#define LIMIT_KEY 255               /* bytes of one */
#define LIMIT_OPERATION_WAITERS 256 /* callers of one operation */
#define LIMIT_TASKS 16              /* of the whole agent, remembered */
#define LIMIT_TASK_STEPS 16384      /* of all of them */
#define LIMIT_TASK_AT_ONCE 64       /* steps under way */
#define LIMIT_TASK_HOSTS 64         /* of one batch that are not this one */
#define LIMIT_HISTORY 32            /* incarnations remembered of one worker */
#define LIMIT_WHY 32                /* causes told of one state */
#define LIMIT_WHY_DEPTH 8           /* workers that one after the other waits for */

/* the audit trail */
#define LIMIT_AUDIT_FILE (1 << 20) /* bytes of one file */
#define LIMIT_AUDIT_FILES 16       /* and how many of them */
#define LIMIT_AUDIT_LINE 8192      /* bytes of one line */
#define LIMIT_AUDIT_WORDS 256      /* bytes of one word from outside in it */
#define LIMIT_AUDIT_REFUSALS 60    /* refusals written one by one, at once */
#define LIMIT_AUDIT_REFUSAL_SEC 10 /* and one more after so long; the rest is counted */
#define LIMIT_AUDIT_SUM_SEC 60     /* between two sums of them */
#define LIMIT_CHANGES 10000        /* asked for over the listener, at once: a third of what the trail holds */
#define LIMIT_CHANGES_SEC 20       /* and so many more each second */
#define LIMIT_HTTP_REFUSALS 20     /* that the listener tells agentd in a second; the rest is counted */

#define LIMIT_KEPT_NAMES                                                                                 \
    (48 * 1024)                   /* bytes of the names of pidfds that the service manager keeps, in all \
                                   */
#define LIMIT_KEEP_AT_ONCE 32     /* of them given to it at once */
#define LIMIT_NOTIFY_WAITING 1024 /* messages to the service manager, while it is behind */

/* workers */
#define LIMIT_DOCTOR_WAITING 16    /* who asks for it while systemd is asked; beyond, without its answer */
#define LIMIT_DOCTOR_FDS 64        /* descriptors that doctor reckons for agentd itself, */
#define LIMIT_DOCTOR_FDS_WORKER 10 /* and for a worker at most, beside its sockets and what it stores */
#define LIMIT_SPAWN_STACKS 8       /* stacks kept for the next spawns */
#define LIMIT_STDERR_TAIL 4096     /* bytes of stderr read for a failed start */
#define LIMIT_STDERR_LINES 20
#define LIMIT_HELPERS 32           /* helper processes at once */
#define LIMIT_HELPERS_OWN 8        /* of them, kept for what the listener has not asked for */
#define LIMIT_CLOSERS 64           /* children that close what a worker has sent */
#define LIMIT_LOG_FILES 1000       /* LogMaxFiles= */
#define LIMIT_LOG_FILL (1u << 25)  /* bytes of a filler in it: a block of its file system and a mark */
#define LIMIT_LOG_LINE (1 << 20)   /* bytes in which a line's end is looked for; a longer line is cut */
#define LIMIT_LOG_CUTS 32          /* cuts of one file by one helper */
#define LIMIT_LOG_QUERIES 4        /* searches in logs at once */
#define LIMIT_LOG_QUERY_SEC 60     /* that one for entries looks on */
#define LIMIT_LOG_DOWNLOAD_SEC 300 /* of the processor, that one for an archive takes */
#define LIMIT_LOG_HUNG_SEC 180     /* in which a search has to come on, its reader's pauses included */
#define LIMIT_LOG_OPEN_SEC 30      /* and in which its files have to open */
#define LIMIT_LOG_QUERY_MEMORY (256 << 20) /* bytes of its own memory: patterns may want any amount */
#define LIMIT_LOG_QUERY_TEXT 6144          /* bytes of what is searched for, as it travels */
#define LIMIT_LOG_TYPES 16                 /* kinds of logs in one search */
#define LIMIT_LOG_WORDS 32                 /* keywords, and those that exclude, and levels: of each */
#define LIMIT_LOG_WORD 512                 /* bytes of one, and of a pattern */
#define LIMIT_LOG_ENTRIES 10000            /* in one answer */
#define LIMIT_LOG_ENTRY 65536              /* bytes of one entry; the rest of it is left out */
#define LIMIT_LOG_SOURCES 4096             /* files in one search, of one user; and members of an archive */
#define LIMIT_LOG_MESSAGE 3072             /* bytes of why one failed */
#define LIMIT_LOG_TYPES_TOLD 2048          /* bytes of the names of logs that there are, in a refusal */
#define LIMIT_ROTATIONS 4                  /* helpers that rotate at once */
#define LIMIT_TREE_PIDS 4096               /* members of one worker's tree that are waited for one by one */

#endif
