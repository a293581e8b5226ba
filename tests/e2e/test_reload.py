# SPDX-License-Identifier: Apache-2.0
"""A reload as plan and apply: what differs, what each key costs, and that it is so in the kernel."""
import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import threading

import harness
from harness import Case, both, eventually
from test_hang import Hung

READY = "ReadyCheck=stable:10ms"


def limits(pid):
    """(soft, hard) of open files, as the kernel shows it."""
    with open("/proc/%d/limits" % pid, encoding="ascii") as f:
        line = next(line for line in f if line.startswith("Max open files"))
    return tuple(line.split()[3:5])


def oom(pid):
    with open("/proc/%d/oom_score_adj" % pid, encoding="ascii") as f:
        return int(f.read())


def nice(pid):
    return os.getpriority(os.PRIO_PROCESS, pid)


def keys(row):
    return {k["key"]: k["cost"] for k in row["keys"]}


class Base(Case):
    cgroup = True

    def up(self, *workers, **how):
        h = self.host(cgroup=self.cgroup, **how)
        for alias, args, service, section in workers:
            h.worker(alias, args, service, section)
        h.start()
        return h, h.all_up()

    def plan(self, h):
        data = h.ok("GET", "/agentd/v1/reload")
        rows = {r["alias"]: r for r in data["contents"]}
        self.assertEqual(len(rows), len(data["contents"]), "one row for each")
        return rows

    def apply(self, h):
        return {r["alias"]: r for r in h.ok("POST", "/agentd/v1/reload")["contents"]}

    def one(self, h, alias, action, costs):
        """The plan's only row, and the same from the reload after it."""
        plan = self.plan(h)
        self.assertEqual(set(plan), {alias}, plan)
        self.assertEqual((plan[alias]["action"], keys(plan[alias])), (action, costs))
        self.assertEqual(self.plan(h), plan, "a plan changes nothing")
        done = self.apply(h)
        self.assertEqual(done, plan)
        self.assertEqual(self.plan(h), {}, "and then nothing differs")
        return done[alias]


@both
class Live(Base):
    def test_limits_nice_oom(self):
        # without cgroups a process that left the session is nobody's until it is looked for by its cookie
        args = "--children 2" + (" --grandchild" if self.cgroup and harness.cgroup2() else "")
        h, all = self.up(("web", args, "", READY))
        main, grand = all["web"]["pid"], "grandchild" in args

        def whole():
            """Also: the one that the grandchild was made by has gone."""
            t = list(h.processes("web"))
            return t if len(t) == 3 + grand and len([p for p in t if p != main and harness.stat_of(p)[1] != main]) == grand else None
        tree = eventually(whole, what="the tree")
        hard = limits(tree[0])[1]  # raising it again is not everybody's
        before = [(limits(p), nice(p), oom(p)) for p in tree]
        h.worker("web", args, "LimitNOFILE=77:%s\nNice=15\nOOMScoreAdjust=123" % hard, READY, id=101)
        self.assertEqual(keys(self.plan(h)["web"]), {"LimitNOFILE": "live", "Nice": "live", "OOMScoreAdjust": "live"})
        self.assertEqual([(limits(p), nice(p), oom(p)) for p in tree], before)
        self.one(h, "web", "update", {"LimitNOFILE": "live", "Nice": "live", "OOMScoreAdjust": "live"})
        w = h.record("web")
        self.assertEqual((w["pid"], w["generation"], w["stale"], w["message"]), (all["web"]["pid"], 1, [], ""))
        self.assertEqual(sorted(h.processes("web")), sorted(tree))
        for p in tree:
            self.assertEqual((limits(p), nice(p), oom(p)), (("77", hard), 15, 123), p)
        # taken out of the file: what a start without them gives
        h.worker("web", args, "", READY, id=101)
        self.one(h, "web", "update", {"LimitNOFILE": "live", "Nice": "live", "OOMScoreAdjust": "live"})
        self.assertEqual([(limits(p), nice(p), oom(p)) for p in tree], before)
        h.stop()

    def test_of_a_worker_that_is_down(self):
        h, _ = self.up(("web", "", "", ""))
        h.operation("web", "stop")
        h.worker("web", "", "LimitNOFILE=77\nUMask=077", "", id=101)
        row = self.one(h, "web", "update", {"LimitNOFILE": "live", "UMask": "restart"})
        self.assertIn("next start", row["detail"])
        self.assertEqual((h.record("web")["state"], h.record("web")["stale"]), ("DOWN", []))
        h.operation("web", "start")
        self.assertEqual(limits(h.record("web")["pid"]), ("77", "77"))
        h.stop()

    def test_kernel_refuses(self):
        h, all = self.up(("web", "--children 1", "", READY))
        h.worker("web", "--children 1", "LimitNOFILE=infinity\nNice=13", READY, id=101)
        row = self.apply(h)["web"]
        self.assertEqual(row["action"], "update")
        self.assertRegex(row["detail"], r"the kernel refused LimitNOFILE= for process \d+: Operation not permitted")
        w = h.record("web")
        self.assertEqual((w["pid"], w["state"], w["message"]), (all["web"]["pid"], "UP", row["detail"]))
        for p in h.processes("web"):
            self.assertEqual(nice(p), 13)
        h.worker("web", "--children 1", "LimitNOFILE=99\nNice=13", READY, id=101)
        self.apply(h)
        self.assertEqual(h.record("web")["message"], "", "the refusal is over")
        self.assertEqual(limits(w["pid"]), ("99", "99"))
        h.stop()

    def test_changed_while_agentd_was_dead(self):
        h, all = self.up(("web", "--children 1", "", READY))
        tree = h.tree("web", 2)
        hard = limits(tree[0])[1]
        h.kill()
        h.worker("web", "--children 1", "LimitNOFILE=77:%s\nNice=15" % hard, READY, id=101)
        h.start()
        w = h.all_up()["web"]
        self.assertEqual((w["pid"], w["ownership"], w["stale"]), (all["web"]["pid"], "adopted", []))
        for p in tree:
            self.assertEqual((limits(p), nice(p)), (("77", hard), 15))
        self.assertEqual(sorted(h.processes("web")), tree)
        h.stop()

    def test_a_running_timeout(self):
        """TimeoutStartSec= of a start that goes on counts from its beginning; ReadyCheck= is the next start's."""
        h = self.host(cgroup=self.cgroup)
        port = harness.free_port()
        h.worker("web", "", "TimeoutStartSec=600\nRestart=no", "ReadyCheck=tcp:%d" % port)
        h.start()
        pid = eventually(lambda: h.until("web", "STARTING")["pid"])
        h.worker("web", "", "TimeoutStartSec=600\nRestart=no", "", id=101)
        self.one(h, "web", "update", {"ReadyCheck": "next start"})
        self.assertEqual((h.record("web")["state"], h.record("web")["pid"]), ("STARTING", pid))
        h.worker("web", "", "TimeoutStartSec=1ms\nRestart=no", "", id=101)
        self.one(h, "web", "update", {"TimeoutStartSec": "live"})
        self.assertEqual(h.until("web", "DOWN")["reason"], "start-timeout")
        h.worker("web", "", "TimeoutStartSec=600\nRestart=no", "", id=101)
        self.apply(h)
        h.operation("web", "start")
        h.until("web", "UP")
        h.stop()

    def test_stop_timeout(self):
        h, _ = self.up(("web", "--ignore-term", "TimeoutStopSec=infinity", READY))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(h.operation, "web", "stop")
            h.until("web", "STOPPING")
            h.worker("web", "--ignore-term", "TimeoutStopSec=1ms", READY, id=101)
            self.apply(h)
            self.assertEqual(stopped.result().status, 200)
        self.assertEqual(h.processes(), {})
        h.stop()

    def test_ready_check_keeps_the_process(self):
        h, all = self.up(("web", "", "", READY))
        h.worker("web", "", "", "ReadyCheck=stable:30ms", id=101)
        self.one(h, "web", "update", {"ReadyCheck": "next start"})
        self.assertEqual((h.record("web")["pid"], h.record("web")["stale"]), (all["web"]["pid"], []))
        h.stop()


@both
class Restart(Base):
    def test_exec(self):
        h, all = self.up(("web", "", "", READY), ("other", "", "", READY))
        h.worker("web", "--children 1", "Environment=SECRET=hidden", READY, id=101)
        plan = h.http("GET", "/agentd/v1/reload")
        self.assertNotIn(b"hidden", plan.body)
        self.assertEqual(h.pids_of_all(), {a: w["pid"] for a, w in all.items()})
        self.one(h, "web", "restart", {"ExecStart": "restart", "Environment": "restart"})
        self.assertNotIn("hidden", h.log())
        w = eventually(lambda: (lambda r: r["state"] == "UP" and r["generation"] == 2 and r)(h.record("web")))
        self.assertNotEqual(w["pid"], all["web"]["pid"])
        self.assertEqual(w["stale"], [])
        self.assertEqual(h.record("other")["pid"], all["other"]["pid"])
        h.stop()

    def test_while_starting(self):
        """A start that waits to be ready is given up for the new definition."""
        h = self.host(cgroup=self.cgroup)
        h.worker("web", "", "TimeoutStartSec=600", "ReadyCheck=tcp:1")
        h.start()
        first = eventually(lambda: h.until("web", "STARTING")["pid"])
        h.worker("web", "--children 1", "TimeoutStartSec=600", READY, id=101)
        self.one(h, "web", "restart", {"ExecStart": "restart", "ReadyCheck": "next start"})
        w = h.until("web", "UP")
        self.assertNotEqual(w["pid"], first)
        self.assertEqual(w["stale"], [])
        h.tree("web", 2)
        h.stop()

    @harness.needs_root
    def test_while_a_start_hangs(self):
        """A child that does not reach its exec has the old definition; the new one waits, and replaces it."""
        if not os.path.exists("/dev/fuse"):
            self.skipTest("needs /dev/fuse")
        h = self.host(cgroup=self.cgroup)
        hung = Hung(h.dir + "/hung")
        self.addCleanup(hung.end)
        service = "TimeoutStopSec=50ms\nWorkingDirectory=%s/x\n" % hung.where
        h.worker("web", "", service)
        h.start()
        h.until("web", "STARTING")
        h.worker("web", "", service + "Nice=15", id=101)
        plan = self.plan(h)
        self.assertIn("once its start is through", plan["web"]["detail"])
        self.assertEqual(self.apply(h), plan)
        self.assertEqual(self.plan(h), plan, "it still waits")
        self.assertEqual(h.record("web")["state"], "STARTING")
        h.worker("web", "", "Nice=15", id=101)
        self.assertEqual(self.apply(h)["web"]["action"], "restart")
        w = h.until("web", "UP")
        self.assertEqual((nice(w["pid"]), w["stale"]), (15, []))
        self.assertEqual(self.plan(h), {})
        hung.end()
        h.stop()

    def test_default_from_agentd_conf(self):
        h, all = self.up(("web", "", "", READY), ("null", "", "StandardOutput=null", READY))
        os.mkdir(h.dir + "/log2")
        h.write("agentd.conf", h.agentd_conf().replace(h.logs, h.dir + "/log2").replace("HostId=20", "HostId=20\nAgentId=9")
                .replace("[Rpc]\n", "[Rpc]\nUser=daemon\nMaxConnections=99\n"))
        plan = self.plan(h)
        self.assertEqual(set(plan), {"", "web"})
        self.assertEqual(keys(plan[""]), {"LogDirectory": "live", "AgentId": "live", "MaxConnections": "live",
                                          "User": "restart of agentd"})
        self.assertEqual((plan["web"]["action"], keys(plan["web"])), ("restart", {"StandardOutput": "restart"}))
        self.assertEqual(self.apply(h), plan)
        h.until("web", "UP")
        self.assertTrue(os.path.exists(h.dir + "/log2/web.log"))
        left = self.plan(h)
        self.assertEqual(set(left), {""}, "what waits for a restart of agentd is not forgotten")
        self.assertEqual(keys(left[""]), {"User": "restart of agentd"})
        self.assertEqual(h.record("null")["pid"], all["null"]["pid"])
        h.stop()

    def test_stale_goes_with_its_cause(self):
        """agentd starts with another definition than the process has; the files then go back to what runs."""
        h, all = self.up(("web", "", "", READY))
        h.kill()
        h.worker("web", "--children 1", "", READY, id=101)
        h.start()
        w = h.all_up()["web"]
        self.assertEqual((w["pid"], w["stale"]), (all["web"]["pid"], ["definition"]))
        self.assertEqual(self.plan(h), {})
        h.worker("web", "", "", READY, id=101)
        row = self.one(h, "web", "update", {"ExecStart": "restart"})
        self.assertIn("has it already", row["detail"])
        w = h.record("web")
        self.assertEqual((w["pid"], w["stale"]), (all["web"]["pid"], []))
        h.stop()


@both
class Files(Base):
    def test_bad_file(self):
        h, all = self.up(("web", "", "", READY))
        h.write("workers.d/web.conf", "[Service]\nExecStart=/bin/true\nWrong=1\nWorse=2\n")
        h.write("workers.d/new.conf", "[Service]\nExecStart=relative\n")
        plan = self.plan(h)
        self.assertEqual({a: r["action"] for a, r in plan.items()}, {"web": "keep", "new": "refuse"})
        self.assertRegex(plan["web"]["detail"], r"^/.*/web\.conf:3:1: unknown key Wrong=.*\(and 1 more\)$")
        self.assertRegex(plan["new"]["detail"], r"^/.*/new\.conf:2:\d+: ")
        errors = h.ok("GET", "/agentd/v1/reload")["errors"]
        self.assertEqual(len(errors), 3)
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual(r.status, 500)
        self.assertEqual(len(r.json["error"]["subErrors"]), 2)
        w = h.record("web")
        self.assertEqual((w["pid"], w["stale"]), (all["web"]["pid"], ["file"]))
        h.worker("web", "", "Nice=1", READY, id=101)
        h.remove("new")
        self.one(h, "web", "update", {"Nice": "live"})
        self.assertEqual(h.record("web")["stale"], [])
        h.stop()

    @harness.needs_root
    def test_unknown_user(self):
        h, all = self.up(("web", "", "", READY))
        h.worker("web", "", "User=no-such-user", READY, id=101)
        h.worker("new", "", "User=no-such-user")
        plan = self.plan(h)
        self.assertEqual({a: r["action"] for a, r in plan.items()}, {"web": "keep", "new": "add"})
        for row in plan.values():
            self.assertRegex(row["detail"], r"\.conf:3:\d+: .*no-such-user")
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual(r.status, 500)
        self.assertIn("no-such-user", r.message)
        self.assertEqual(sorted(x.split()[1] for x in r.json["error"]["subErrors"]), ["add", "keep"])
        self.assertEqual(h.record("web")["pid"], all["web"]["pid"])
        h.stop()

    def test_added_removed_renamed(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        h.worker("goes", section=READY)
        h.worker("old", gate.args + "--slow-stop 30000 --notify READY=1", "Type=notify")
        h.start()
        h.all_up()
        h.remove("goes")
        os.rename(h.workers + "/old.conf", h.workers + "/new.conf")
        h.worker("more")
        plan = self.plan(h)
        self.assertEqual({a: (r["action"], r["keys"]) for a, r in plan.items()},
                         {"goes": ("remove", []), "old": ("remove", []), "new": ("add", []), "more": ("add", [])})
        self.assertIn("waits", plan["new"]["detail"])
        self.assertEqual(set(h.all()), {"goes", "old"})
        id = h.record("old")["id"]
        self.assertEqual(self.apply(h), plan)
        eventually(lambda: set(h.all()) == {"old", "more"})  # one id is of one worker at a time
        gate.open()
        eventually(lambda: set(h.all()) == {"new", "more"})
        h.all_up()
        self.assertEqual(h.record("new")["id"], id)
        self.assertEqual(self.plan(h), {})
        h.stop()

    def test_id(self):
        h, all = self.up(("web", "", "", READY), ("other", "", "", READY))
        h.worker("web", "", "Nice=1", READY, id=900)
        h.worker("third", id=102)
        # two files with one id are both out; without the third, only the number is refused
        self.assertEqual({a: r["action"] for a, r in self.plan(h).items()}, {"web": "refuse", "other": "keep", "third": "refuse"})
        h.remove("third")
        plan = self.plan(h)
        self.assertEqual(keys(plan["web"]), {"Nice": "live", "Id": "restart of agentd"})
        self.assertEqual(self.apply(h), plan)
        self.assertEqual((h.record("web")["id"], nice(all["web"]["pid"])), (101, nice(h.pid)))
        h.stop()

    def test_broken_agentd_conf(self):
        h, all = self.up(("web", "", "", READY))
        h.worker("web", "--children 1", "", READY, id=101)
        h.write("agentd.conf", h.agentd_conf() + "Wrong=1\n")
        plan = self.plan(h)
        self.assertEqual(set(plan), {""})
        self.assertEqual(plan[""]["action"], "refuse")
        self.assertRegex(plan[""]["detail"], r"agentd\.conf:\d+:1: ")
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual(r.status, 500)
        self.assertRegex(r.message, r"agentd\.conf:\d+:1: ")
        self.assertEqual(h.record("web")["pid"], all["web"]["pid"])
        h.write("agentd.conf", h.agentd_conf())
        self.assertEqual(self.plan(h)["web"]["action"], "restart")
        h.stop()

    def test_many(self):
        """More rows than one frame holds."""
        h = self.host(cgroup=self.cgroup)
        h.start()
        for i in range(300):
            h.worker("a-worker-with-a-long-name-%d" % i, service="Restart=no", command="/bin/true")
        plan = self.plan(h)
        self.assertEqual(len(plan), 300)
        self.assertEqual({r["action"] for r in plan.values()}, {"add"})
        h.stop()

    def test_broken_and_never_run(self):
        """Nothing of it is on record but its definition: it stays in the list over agentd's death, on that."""
        h = self.host(cgroup=self.cgroup)
        h.worker("other")
        id = h.worker("w")
        h.start()
        h.all_up()
        self.assertEqual(h.operation("w", "stop").status, 200)
        h.remove("w")
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: set(h.all()) == {"other"})
        h.worker("w", id=id)
        h.ok("POST", "/agentd/v1/reload")
        w = h.record("w")
        self.assertEqual((w["goal"], w["state"], w["generation"]), ("DOWN", "DOWN", 0), "what was wanted of it is known")
        h.worker("w", service="UMask=never", id=id)
        h.kill()
        h.start()
        self.assertEqual((h.record("w")["state"], h.record("w")["stale"]), ("DOWN", ["file"]))
        self.assertEqual(h.operation("w", "start").status, 200)
        h.stop()


class Asking(Base):
    def ctl(self, h, *args, code=0):
        r = h.ctl("reload", *args)
        self.assertEqual(r.returncode, code, r)
        return r

    def test_agentctl(self):
        h, all = self.up(("web", "", "", READY))
        self.assertEqual(self.ctl(h, "--plan").stdout, "Nothing differs.\n")
        self.assertEqual(self.ctl(h).stdout, "Nothing changed.\n")
        h.worker("web", "", "Nice=2\nUMask=077", READY, id=101)
        table = ["ALIAS  ACTION   KEY    COST     DETAIL",
                 "web    restart  UMask  restart  the definition changed",
                 "                Nice   live"]
        self.assertEqual(self.ctl(h, "--plan").stdout.splitlines(), table)
        rows = json.loads(self.ctl(h, "--plan", "-o", "json").stdout)["contents"]
        self.assertEqual(rows[0]["keys"], [{"key": "UMask", "cost": "restart"}, {"key": "Nice", "cost": "live"}])
        self.assertEqual(h.record("web")["pid"], all["web"]["pid"])
        self.assertEqual(self.ctl(h).stdout.splitlines(), table)
        h.write("workers.d/bad.conf", "[Service]\nExecStart=/bin/true\nWrong=1\n")
        r = self.ctl(h, "--plan", code=1)
        self.assertRegex(r.stderr, r"^agentctl: /.*/bad\.conf:3:1: ")
        self.assertRegex(r.stdout, r"\nbad +refuse +- +- +/.*/bad\.conf:3:1: ")
        self.assertRegex(self.ctl(h, code=1).stderr, r"bad\.conf:3:1: ")
        h.stop()

    @harness.needs_root
    def test_a_viewer(self):
        import grp
        group = grp.getgrgid(1)
        h, _ = self.up(("web", "", "", READY), rpc="ViewerGroup=%s" % group.gr_name)

        def ask(method):
            """As a member of the viewers' group."""
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.setgroups([])
                os.setgid(1)
                os.setuid(harness.ORDINARY)
                os.write(w, b"%d" % h.http(method, "/agentd/v1/reload").status)
                os._exit(0)
            os.waitpid(pid, 0)
            os.close(w)
            with os.fdopen(r) as f:
                return f.read()
        self.assertEqual(ask("GET"), "200")
        self.assertEqual(ask("POST"), "403")
        h.stop()

    def test_while_reloads_go_on(self):
        h, _ = self.up(("web", "--children 1", "", READY))
        failed = []

        def ask():
            for _ in range(20):
                r = h.http("GET", "/agentd/v1/reload")
                if r.status != 200:
                    failed.append(r)
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for t in threads:
            t.start()
        for i in range(30):
            h.worker("web", "--children %d" % (i % 2), "Nice=%d" % (i % 5), READY, id=101)
            if i % 2:
                h.proc.send_signal(signal.SIGHUP)
            else:
                self.assertEqual(h.http("POST", "/agentd/v1/reload").status, 200)
        for t in threads:
            t.join()
        self.assertEqual(failed, [])
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual(self.plan(h), {})
        h.all_up()
        h.stop()

    def test_after_a_reload_that_goes_on(self):
        """A plan that is asked for behind a reload tells what is left after it."""
        h, _ = self.up(("web", "", "", READY))
        h.worker("web", "", "Nice=4", READY, id=101)
        c, d = h.connect(), h.connect()
        c.request("POST", "/agentd/v1/reload", headers={"Content-Length": "0"})
        eventually(lambda: "RELOADING=1" in "\n".join(h.said), what="a reload")
        d.request("GET", "/agentd/v1/reload")
        self.assertEqual(json.loads(d.getresponse().read())["data"]["contents"], [])
        self.assertEqual(len(json.loads(c.getresponse().read())["data"]["contents"]), 1)
        c.close()
        d.close()
        h.stop()

    def test_while_it_stops(self):
        """Whoever asks in the middle of the end gets an answer or a closed connection, and agentd ends well."""
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        h.worker("web", gate.args + "--slow-stop 30000 --notify READY=1", "Type=notify")
        h.start()
        h.all_up()
        over, rpc = threading.Event(), h.rpc_pid()

        def ask():
            while not over.is_set():
                try:
                    h.http("GET", "/agentd/v1/reload")
                except OSError:
                    pass
                except Exception as e:  # pylint: disable=broad-except
                    if "RemoteDisconnected" not in type(e).__name__ and "BadStatusLine" not in type(e).__name__:
                        raise
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for t in threads:
            t.start()
        h.ok("GET", "/agentd/v1/reload")
        stopping, ended = harness.background(h.stop)
        harness.wait_gone(rpc)
        with socket.socket(socket.AF_UNIX) as late:  # nobody takes it any more
            late.settimeout(harness.DEADLINE)
            late.connect(h.socket)
            late.sendall(b"GET /agentd/v1/reload HTTP/1.1\r\nHost: a\r\n\r\n")
            gate.open()
            stopping.join(harness.DEADLINE)
            over.set()
            with contextlib.suppress(ConnectionError):
                self.assertEqual(late.recv(1), b"")
        for t in threads:
            t.join()
        self.assertEqual(ended, [None])

    def test_unprivileged(self):
        """Without root a limit can be lowered, and what the kernel refuses is told."""
        if not harness.ROOT:
            self.skipTest("without root every test here is one")
        h = self.host(uid=harness.ORDINARY)
        h.worker("web", "--children 1", "", READY)
        h.start()
        pid = h.all_up()["web"]["pid"]
        hard = limits(pid)[1]
        h.worker("web", "--children 1", "LimitNOFILE=50:%s" % hard, READY, id=101)
        self.assertEqual(self.apply(h)["web"]["detail"], "in force")
        self.assertEqual({limits(p)[0] for p in h.tree("web", 2)}, {"50"})
        h.worker("web", "--children 1", "LimitNOFILE=50:%s\nNice=-5" % hard, READY, id=101)
        self.assertIn("Nice=", self.apply(h)["web"]["detail"])
        self.assertEqual((h.record("web")["pid"], nice(pid)), (pid, nice(h.pid)))
        h.stop()
