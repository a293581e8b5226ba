# SPDX-License-Identifier: Apache-2.0
"""agentctl import, a row for each thing that a reader has to get right: a file's name and text, what has to be told of it, and what may
not be. The form for people is what is read here."""
import harness
from harness import Case

MONIT = 'check process x with pidfile /run/x.pid\nstart program = "/bin/x"\n'

# name of the file, its text, lines of a worker's file that must be there, what must not be told at all, parts of the account
ROWS = (
    # --- supervisor ---
    ("a.conf", "[supervisord]\nenvironment=A=\"one\",B=two,A=\"last\"\ndirectory=/srv/%(ENV_B)s\n"
     "[program:x]\ncommand=/bin/x %(ENV_A)s %(ENV_B)s %(ENV_C)s\nenvironment=B=mine,C=c,B=mine2\nstdout_logfile=log/%(ENV_B)s\n",
     ("ExecStart=/bin/x last mine2 c", "Environment=B=two", "Environment=B=mine2", "WorkingDirectory=/srv/two",
      "StandardOutput=append:/srv/two/log/mine2"), (), ()),
    ("a.conf", "[supervisord]\ndirectory=%(here)s/sub\n[program:x]\ncommand=/bin/x\nstdout_logfile=o\n",
     ("WorkingDirectory={dir}/sub", "StandardOutput=append:{dir}/sub/o"), (), ()),
    ("a.conf", "[program:x]\ncommand=/bin/x\nstopwaitsecs=0\n[program:y]\ncommand=/bin/y\nstopwaitsecs=5\n",
     ("TimeoutStopSec=1ms", "TimeoutStopSec=5s"), (), ()),
    # a value goes on in lines that are further in than its key is
    ("a.conf", "[program:x]\n  command=/bin/x\n  stopwaitsecs=7\n", ("ExecStart=/bin/x", "TimeoutStopSec=7s"), (), ()),
    ("a.conf", "\ufeff[program:x]\ncommand=/bin/x\n", ("ExecStart=/bin/x",), (), ()),
    # a group has what it names, and nothing that begins so or that one begins with
    ("a.conf", "[program:p]\ncommand=/bin/x\n[program:pp]\ncommand=/bin/y\n[program:ppp]\ncommand=/bin/z\n[group:g]\nprograms=pp\n",
     ("==> p.conf <==", "==> g:pp.conf <==", "==> ppp.conf <=="), (), ()),
    ("a.conf", "[program:x]\ncommand=/bin/x\nstartsecs=2\nstartretries=3\n",
     ("StartLimitBurst=4", "StartLimitIntervalSec=18s", "ReadyCheck=stable:2s"), ("TimeoutStartSec",), ()),
    ("a.conf", "[program:x]\ncommand=/bin/x\nstartsecs=90\n", ("TimeoutStartSec=180s",), (), ()),
    ("a.conf", "[program:x]\ncommand=/bin/x\nstdout_logfile_maxbytes=1KB\nstdout_logfile_backups=0\n", ("LogMaxSize=65536", "LogMaxFiles=1"), (),
     ("the least that agentd takes is 64K", "agentd keeps from 1 to")),
    # of one priority none waits for another; the group's comes first
    ("a.conf", "[program:a]\ncommand=/bin/x\npriority=1\n[program:b]\ncommand=/bin/x\npriority=2\n[program:c]\ncommand=/bin/x\npriority=2\n"
     "[group:g]\nprograms=a,b,c\n", ("After=g:a",), ("After=g:b", "After=g:c", "After=g:a g:b"), ()),
    ("a.conf", "[program:p]\ncommand=/bin/x\nnumprocs=257\nprocess_name=%(process_num)d\npriority=1\n[program:z]\ncommand=/bin/x\npriority=2\n", (),
     ("After=p",), ("priority=2: no counterpart: more than 256 workers would stand in After=",)),
    # --- monit ---
    ("monitrc", MONIT + 'if failed port 80 protocol http request "/x" status = 404 then restart\n',
     ("HealthCheck=http:http://localhost:80/x 404",), ("only for the answer's status",), ()),
    *[("monitrc", MONIT + "if failed port 80 protocol http %s then restart\n" % more, ("HealthCheck=http:http://localhost:80/",), (),
       ("of all that monit asks there, only for the answer's status is asked",)) for more in ('content = "ok"', "status >= 300", "retry 3")],
    *[("monitrc", MONIT + "if failed %s then restart\n" % what, (), (),
       ("of all that monit asks there, only whether a connection is taken is asked",))
      for what in ("unixsocket /run/x.sock protocol mysql", "port 25 protocol smtp", 'port 7 send "a" expect "b"', "port 7 status = 200")],
    *[("monitrc", MONIT + "if failed %s then restart\n" % what, (), ("of all that monit asks",), ())
      for what in ("unixsocket /run/x.sock", "port 25 protocol default", "port 80 protocol HTTP")],
    ("monitrc", MONIT + 'stop program = "/bin/y" with timeout 20 seconds\n', ("TimeoutStartSec=30s", "TimeoutStopSec=20s"), (),
     ("not set: start program with timeout 30 seconds -> TimeoutStartSec=30s",)),
    # so many failures in a row, whichever way it is said
    *[("monitrc", MONIT + "if failed port 80 %s then restart\n" % how, ("HealthRetries=%d" % n,), (), ())
      for how, n in (("for 3 cycles", 3), ("2 times within 5 cycles", 2), ("for 4 times within 6 cycles", 4), ("", 1))],
    ("monitrc", MONIT + "if failed host example.org port 80 then restart\n", (), ("HealthCheck=tcp:80",), ("about a port of the worker's own",)),
    *[("monitrc", MONIT + "if failed host %s port 80 then restart\n" % host, ("HealthCheck=tcp:80",), (), ())
      for host in ("localhost", "127.0.0.2", "::1")],
    ("monitrc", MONIT + "if totalmem > 80% then restart\n", ("MemoryMax=80%",), (), ()),
    ("monitrc", MONIT + "if totalmem > 80.0 MB then restart\n", ("MemoryMax=83886080",), (), ()),
    ("monitrc", MONIT + "if totalmem < 80 MB then restart\n", (), ("MemoryMax=8",), ("MemoryMax= is a limit that the kernel holds",)),
    # one without a start program is no worker to be bound to
    ("monitrc", "check process y with pidfile /run/y.pid\nstop program = \"/bin/y\"\n" + MONIT + "depends on y\n", ("After=y",), ("BindsTo=y",), ("y is not in this file",)),
    # --- systemd ---
    ("x.service", "[Service]\nExecStart=/bin/x\nRestart=no\nRestartSec=5\n", ("RestartSec=5",), (),
     ("RestartSec=5 -> RestartSec=5: the first retry is at once; ",)),
    *[("x.service", "[Service]\n%sRestart=no\n" % text, there, (), (":1: Restart=no -> Restart=no\n",)) for text, there in (
        ("ExecStart=/bin/x a\\\n  b\n", ("ExecStart=/bin/x a\\", "  b")),
        ("ExecStart=/bin/x a\\\\\n", ("ExecStart=/bin/x a\\\\",)),
        ("ExecStart=/bin/a\nExecStart=\nExecStart=/bin/b\n", ("ExecStart=/bin/b",)),
        ("Type=oneshot\nExecStart=/bin/a\nExecStart=/bin/b\n", ("ExecStart=/bin/b",)))],
    ("x.service", "[Service]\nType=oneshot\nExecStart=/bin/a\n", (), ("agentd's default is always",), ()),
    ("x.service", "[Service]\nExecStart=/bin/a\n", (), (), ("not set: Restart=no: no counterpart: agentd's default is always",)),
    # --- obagent ---
    ("a.yaml", "services: {x: {program: /bin/x, killWait: 5}, y: {program: /bin/y, finalWait: 5}}\n", ("TimeoutStopSec=1ms",),
     ("TimeoutStopSec=0",), ()),
    # a text is as it stands, whatever else YAML might take it for; and what is null is empty
    ("a.yaml", "services: {x: {program: /bin/x, args: [--color, off, Yes, true, ~, '~'], cwd: ~, stdout: null, "
     "limit: {cpuQuota: ~, memoryQuota: ~}}}\n", ('ExecStart=/bin/x --color off Yes true "" ~',), ("CPUQuota", "MemoryMax", "Standard"), ()),
    ("a.yaml", "services: {x: {program: /bin/x, stdout: /o}, y: {program: /bin/y, stdout: /p, stderr: /p}}\n", ("StandardOutput=append:/o",),
     (), ("not set: stderr=kept by obagent: no counterpart: it goes to where",)),
    ("a.yaml", "services: {x: {program: /bin/x, limit: {cpuQuota: 0.001, memoryQuota: 0}}}\n", (), ("CPUQuota", "MemoryMax"),
     ("limit.cpuQuota=0.001: needs no line: no limit", "limit.memoryQuota=0: needs no line: no limit")),
    ("a.yaml", "services: {x: {program: /bin/x}}\n", (), ("WorkingDirectory=/\n",), ("WorkingDirectory= is /",)),
    # the last anchor of a name is the one that is meant
    ("a.yaml", "services: {x: {program: &a /bin/x, cwd: &a /y, stdout: *a}}\n", ("StandardOutput=append:/y",), (), ()),
    # so many starts fit into the interval: with what is waited before each, which does not grow
    ("a.yaml", "services: {x: {program: /bin/x, minLiveTime: 2s, quickExitLimit: 3}}\n",
     ("StartLimitBurst=3", "StartLimitIntervalSec=6300ms", "RestartSec=100ms", "RestartMaxDelaySec=100ms"), (), ()),
    # without a limit the first quick exit is the last
    ("a.yaml", "services: {x: {program: /bin/x, minLiveTime: 2s}}\n", ("StartLimitBurst=1", "StartLimitIntervalSec=2100ms"), (), ()),
    # --- pm2 ---
    ("a.json", '{"script": "/bin/sh", "interpreter": "none", "kill_timeout": 0, "wait_ready": true, "listen_timeout": 0.0001}',
     ("TimeoutStopSec=1ms", "TimeoutStartSec=1ms"), (), ()),
    ("a.json", '{"script": "/bin/sh", "interpreter": "none"}',
     ("StartLimitBurst=16", "StartLimitIntervalSec=17600ms", "RestartSec=100ms", "RestartMaxDelaySec=100ms"), (), ()),
    ("a.json", '{"script": "/bin/sh", "interpreter": "none", "restart_delay": 4000, "max_restarts": 2, "exp_backoff_restart_delay": 0}',
     ("StartLimitBurst=2", "StartLimitIntervalSec=10s", "RestartSec=4s", "RestartMaxDelaySec=4s"), (),
     ("exp_backoff_restart_delay=0: needs no line",)),
    ("a.json", '{"script": "/bin/sh", "interpreter": "none", "restart_delay": 4000, "max_restarts": 2, "exp_backoff_restart_delay": 300}',
     ("StartLimitIntervalSec=32s", "RestartSec=300ms", "RestartMaxDelaySec=15s"), (), ("restart_delay=4000: no counterpart",)),
    ("a.json", '{"script": "/bin/sh", "interpreter": "none", "min_uptime": 0, "restart_delay": 0}',
     ("StartLimitIntervalSec=0s", "RestartSec=100ms"), (), ()),
    # a number of instances is a cluster, unless it is said or node does not run it
    ("a.json", '{"script": "a.js", "interpreter": "/bin/x-node", "instances": 2}', ("ExecStart=/bin/x-node {dir}/a.js",), (),
     ("not set: exec_mode=cluster: no counterpart: each worker has a process of its own",)),
    ("a.json", '{"script": "a.js", "interpreter": "/bin/x-node", "instances": "max"}', (), (), ("not set: exec_mode=cluster: no counterpart",)),
    ("a.json", '{"script": "a.js", "interpreter": "/bin/x-node", "instances": 2, "exec_mode": "fork"}', (), ("cluster",),
     ("exec_mode=fork: needs no line",)),
    # numbers, and null, as JavaScript makes a text of them
    ("a.config.js", "module.exports = {script: '/bin/sh', interpreter: 'none', args: [1.0, '1.0', 1e3, -2.50, null],\n"
     "env: {A: 1.50, B: 3000, C: 1e-7, D: 0.1, E: null, F: 0.00, G: 123456789012.25, H: '1.50'}}\n",
     ("ExecStart=/bin/sh 1 1.0 1000 -2.5 null", "Environment=A=1.5", "Environment=B=3000", "Environment=C=1e-7", "Environment=D=0.1",
      "Environment=E=null", "Environment=F=0", "Environment=G=123456789012.25", "Environment=H=1.50"), (), ()),
    ("a.yaml", "apps: {script: /bin/sh, interpreter: none, args: 1.0, env: {A: 010, B: ~, C: +5}}\n",
     ("ExecStart=/bin/sh 1", "Environment=A=10", "Environment=B=null", "Environment=C=5"), (), ()),
    # what has no file of its own
    ("a.json", '{"script": "/bin/x", "interpreter": "none", "out_file": "/o", "instances": 2}', ("StandardOutput=append:/o",), (),
     ("not set: error_file=a file of its own: no counterpart: it goes to where", "not set: merge_logs=false: no counterpart: each worker")),
    ("a.json", '{"script": "/bin/x", "interpreter": "none", "out_file": "/o", "error_file": "/e", "instances": 2, "merge_logs": false}',
     ("StandardError=append:/e",), ("not set: error_file", "not set: merge_logs"), ("merge_logs=false: no counterpart: each worker",)),
    ("a.json", '{"script": "/bin/x", "interpreter": "none", "out_file": "/dev/null"}', ("StandardOutput=null", "StandardError=journal"),
     ("merge_logs",), ()),
    ("a.json", '{"script": "echo a; echo", "args": "b c"}', (), ('"echo a; echo" b', "args=b c -> "), ("a whole command line, and pm2 does not use them",)),
    *([("a.json", '{"script": "/bin/x", "interpreter": "none", "uid": 1, "gid": 2}', ("User=1", "Group=2"), (), ())] if harness.ROOT else []),
    ("a.json", '{"script": "/bin/x", "interpreter": "none", "disable_logs": true, "out_file": "/o", "error_file": "/e"}', ("StandardOutput=null",),
     ("append:",), ("out_file=/o: no counterpart: disable_logs says it",)),
    ("a.config.js", "module.exports = {script: '/bin/x', interpreter: 'none', args: ['\\ud83d\\ude00', 'a\\nb\\rc\\td']}\n",
     ('ExecStart=/bin/x \U0001f600 "a\\nb\\rc\\td"',), (), ()),
    # YAML 1.2, where on and no are words; a bool is spelled as JavaScript does
    ("a.yaml", "apps:\n - {script: /bin/sh, interpreter: none, args: [on, True], env: {DEBUG: off, YES: TRUE}}\n",
     ("ExecStart=/bin/sh on true", "Environment=DEBUG=off", "Environment=YES=true"), (), ()),
)

ENVIRONMENTS = {
    "a.conf": ("[program:x]\ncommand=/bin/x\n", "as supervisord has it"),
    "a.yaml": ("services: {x: {program: /bin/x}}\n", "as obagent has it"),
    "a.json": ('{"script": "/bin/x", "interpreter": "none"}', "as pm2 has it"),
}

# the same with what is told of an error
WRONG = (
    ("a.conf", "[supervisord]\ndirectory=/%(program_name)s\n[program:x]\ncommand=/bin/x\n", r"a\.conf:2:1: %\(program_name\)s is not known"),
    ("a.conf", "[program:p]\ncommand=/bin/x\n[group:a]\nprograms=p,q\n[group:b]\nprograms=q, p\n[program:q]\ncommand=/bin/y\n",
     r"a\.conf:6:1: \[group:a\] and \[group:b\] both have p; .*\n.*both have q; "),
    ("a.conf", "[program:x]\ncommand=/bin/x\nstopasgroup=true\nkillasgroup=false\n", r"a\.conf:4:1: killasgroup: true, as stopasgroup is,"),
    ("a.yaml", "services: {x: {program: /bin/x, stdout: log/o}}\n", r"a\.yaml:1:\d+: stdout: log/o is relative"),
    ("x.service", "[Service]\nExecStart=/bin/x\nEnvironmentFile=/etc/*.env\n", r"x\.service:3:1: agentd takes no wildcard"),
    ("x.service", "[Service]\nExecStart=/bin/x\nExecStart=/bin/y\n", r"x\.service:3:1: a second ExecStart="),
    ("a.json", '{"script": "/bin/x", "interpreter": "none", "out_file": "~/o"}', r"a\.json:1:\d+: out_file: an absolute path is wanted"),
    ("a.json", '{"script": "/bin/x", "interpreter": "none", "env": {"A": "a\\u0001b"}}', r"a\.json:1:\d+: env: A: it has a control character"),
    ("a.json", '{"script": "/bin/x", "interpreter": "none", "cwd": "/a\\nb"}', r"a\.json:1:45: WorkingDirectory= would have a control character"),
    # of two keys that give the same, the one that is wrong
    ("a.conf", "[supervisord]\nenvironment=A=1\n[program:x]\ncommand=/bin/x\nenvironment=B=2,C=\"%s\"\n" % ("y" * 9000),
     r"a\.conf:5:1: Environment= would be longer"),
    ("monitrc", MONIT + 64 * 'stop program = "/bin/y"\n', r"monitrc:1:1: x: more than 64 commands"),
    ("a.json", '{"script": "/bin/x", "interpreter": "none", "cwd": "~/app"}', r"a\.json:1:52: cwd: an absolute path is wanted, not \"~/app\""),
    ("a.conf", "[supervisord]\nenvironment=A\n[program:x]\ncommand=/bin/x\n[program:y]\ncommand=/bin/y\n",
     r"a\.conf:2:1: environment: it is written[^\n]*\n[^\n]*: 1 error;"),
)


class Rows(Case):
    def test_rows(self):
        h = self.host()
        for name, text, there, not_there, account in ROWS:
            with self.subTest(text):
                r = h.ctl("import", h.write(name, text.replace("{dir}", h.dir)))
                self.assertEqual(r.returncode, 0, r.stderr)
                lines = r.stdout.splitlines()
                for line in there:
                    self.assertIn(line.replace("{dir}", h.dir), lines)
                for part in not_there:
                    self.assertNotIn(part, r.stdout)
                for part in account:
                    self.assertIn(part.replace("{dir}", h.dir), r.stdout)

    def test_environment(self):
        """These tools hand on all of theirs."""
        h = self.host()
        for name, (text, value) in ENVIRONMENTS.items():
            r = h.ctl("import", h.write(name, text))
            self.assertIn("not set: (environment)=%s: no counterpart: a worker has none of agentd's" % value, r.stdout)

    def test_what_runs_a_script(self):
        """Without an interpreter or an ending: a program runs by itself, and node all else."""
        h = self.host()
        path = h.write("script", "text")
        r = h.ctl("import", h.write("a.json", '{"script": "%s"}' % path))
        self.assertRegex(r.stdout + r.stderr, r"ExecStart=/\S*node %s\n|node, which runs it, is not in PATH" % path)
        r = h.ctl("import", h.write("a.json", '{"script": "%s"}' % harness.WORKER))
        self.assertIn("ExecStart=%s\n" % harness.WORKER, r.stdout)

    def test_wrong(self):
        h = self.host()
        for name, text, said in WRONG:
            with self.subTest(text):
                r = h.ctl("import", h.write(name, text))
                self.assertEqual((r.returncode, r.stdout), (1, ""))
                self.assertRegex(r.stderr, said)


if __name__ == "__main__":
    harness.unittest.main()
