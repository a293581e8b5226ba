# SPDX-License-Identifier: Apache-2.0
"""What agentd takes over after its death, what it refuses, and what an administrator hands to it."""
import contextlib
import os
import pwd
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time

import harness
from harness import Case, both, eventually, is_alive, needs_root, stat_of
from test_logs import Hung

SLOT = 512  # of RuntimeDirectory/facts; the first one is the header
PID_AT, START_AT = 72, 80


def patch(h, alias, at, value):
    """Changes what is on record of a worker."""
    with open(h.run + "/facts", "r+b") as f:
        data = f.read()
        for n in range(SLOT, len(data), SLOT):
            if data[n:n + 65].split(b"\0")[0] == alias.encode():
                f.seek(n + at)
                f.write(value)
                return
    raise AssertionError("no facts of " + alias)


def identity(pid):
    return pid, stat_of(pid)[2]


@both
class AfterDeath(Case):
    cgroup = True

    def dead(self, **workers):
        """agentd was killed; {alias: record} of before. 'other' is there always."""
        h = self.host(cgroup=self.cgroup)
        h.worker("other")
        for alias, more in workers.items():
            h.worker(alias, **more)
        h.start()
        before = h.all_up()
        h.kill()
        return h, before

    def again(self, h, before, *touched):
        h.start()
        now = h.all_up()
        for alias, w in before.items():
            if alias not in touched:
                self.assertEqual((now[alias]["identity"]["pid"], now[alias]["identity"]["startTicks"], now[alias]["ownership"]),
                                 (w["identity"]["pid"], w["identity"]["startTicks"], "adopted"), alias)
        return now

    def test_goes_on(self):
        h, before = self.dead(a={"args": "--children 2"}, told={"args": "--notify READY=1", "service": "Type=notify"})
        now = self.again(h, before)
        self.assertEqual(now["a"]["generation"], before["a"]["generation"])
        self.assertEqual(now["a"]["reason"], "adopted")
        self.assertEqual(now["a"]["lastExit"], before["a"]["lastExit"])
        for alias in before:
            r = h.operation(alias, "restart")
            self.assertEqual((r.status, r.data["before"]["pid"]), (200, before[alias]["pid"]))
            self.assertFalse(is_alive(before[alias]["pid"]))
        h.stop()

    def test_another_boot(self):
        """The host was restarted: what is on record is void, and wanted workers start."""
        h, before = self.dead(a={})
        with open(h.run + "/facts", "r+b") as f:
            f.seek(16)
            f.write(b"00000000-0000-0000-0000-000000000000")
        h.start()
        now = h.all_up()
        for alias in before:
            self.assertNotEqual(now[alias]["pid"], before[alias]["pid"])
            self.assertEqual((now[alias]["ownership"], now[alias]["generation"]), ("child", 1))
            self.assertEqual(len(h.processes(alias)), 1, "what was left in our own cgroups is ended first")
        h.stop()

    def test_reused_pid(self):
        """The pid on record is another process by now: it is not touched."""
        h, before = self.dead(a={})
        # not of the same tick: then it could be the worker itself, in a foreign cgroup
        eventually(lambda: stat_of(self.brief())[2] > before["a"]["identity"]["startTicks"])
        stranger = subprocess.Popen([harness.WORKER], start_new_session=True)
        try:
            was = identity(stranger.pid)
            patch(h, "a", PID_AT, struct.pack("i", stranger.pid))
            now = self.again(h, before, "a")
            self.assertNotIn(now["a"]["pid"], (stranger.pid, before["a"]["pid"]))
            self.assertEqual(identity(stranger.pid), was)
            self.assertIsNone(stranger.poll())
            self.assertEqual(len(h.processes("a")), 1)
            h.stop()
            self.assertIsNone(stranger.poll())
        finally:
            stranger.kill()
            stranger.wait()

    def brief(self):
        p = subprocess.Popen(["/bin/sleep", "infinity"])
        self.addCleanup(lambda: (p.kill(), p.wait()))
        return p.pid

    def test_other_start_ticks(self):
        h, before = self.dead(a={})
        patch(h, "a", START_AT, struct.pack("Q", before["a"]["identity"]["startTicks"] + 1))
        now = self.again(h, before, "a")
        self.assertNotEqual(now["a"]["pid"], before["a"]["pid"])
        self.assertFalse(is_alive(before["a"]["pid"]), "what stood in our leaf, with our cookie, unproven, was ended")
        self.assertEqual(len(h.processes("a")), 1)
        self.assertRegex(h.log(), "worker=a: process %d of an earlier agentd is gone" % before["a"]["pid"])
        h.stop()

    def test_program_replaced(self):
        """Adopted, and said to be stale: a package was upgraded meanwhile."""
        where = tempfile.mkdtemp(prefix="agentd-program.")
        self.addCleanup(shutil.rmtree, where, True)
        os.chmod(where, 0o755)
        program = where + "/program"
        shutil.copy(harness.WORKER, program)
        h, before = self.dead(a={"command": program})
        shutil.copy(harness.WORKER, program + ".new")
        os.rename(program + ".new", program)
        now = self.again(h, before)
        self.assertEqual(now["a"]["stale"], ["program"])
        self.assertEqual(now["other"]["stale"], [])
        h.ok("POST", "/agentd/v1/workers/a/restart")
        self.assertEqual(h.record("a")["stale"], [])
        h.stop()

    def test_definition_changed(self):
        h, before = self.dead(a={})
        h.worker("a", "--children 1", id=before["a"]["id"])
        now = self.again(h, before)
        self.assertEqual(now["a"]["stale"], ["definition"])
        h.ok("POST", "/agentd/v1/reload")
        h.ok("POST", "/agentd/v1/workers/a/restart")
        self.assertEqual(h.record("a")["stale"], [])
        h.stop()

    def test_ended_unobserved(self):
        """Their policies say what comes: an end of unknown status is a failure."""
        policies = {"always": True, "no": False, "on-failure": True, "on-success": False}
        h, before = self.dead(**{p.replace("-", ""): {"service": "Restart=" + p} for p in policies})
        for p in policies:
            os.kill(before[p.replace("-", "")]["pid"], signal.SIGKILL)
            harness.wait_gone(before[p.replace("-", "")]["pid"])
        h.start()
        for p, comes in policies.items():
            alias = p.replace("-", "")
            with self.subTest(policy=p):
                w = h.until(alias, "UP" if comes else "DOWN")
                self.assertEqual(w["goal"], "UP")
                if comes:
                    self.assertEqual(w["generation"], 2)
                else:
                    self.assertEqual(w["reason"], "exited-unobserved")
                    self.assertIn("exited, unobserved", w["message"])
                    self.assertEqual(h.processes(alias), {})
                self.assertEqual((w["lastExit"]["kind"], w["lastExit"]["pid"]), ("unknown", before[alias]["pid"]))
        h.kill()
        h.start()
        h.until("always", "UP")
        self.assertEqual(h.record("no")["state"], "DOWN", "it stays so over the next death")
        self.assertEqual(h.operation("no", "start").status, 200)
        h.stop()

    def test_rested_stays_down(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("once", command="/bin/true", service="Restart=no")
        h.worker("other")
        h.start()
        w = h.until("once", "DOWN")
        eventually(lambda: h.record("once")["lastExit"]["kind"] == "exited")
        h.kill()
        h.start()
        h.until("other", "UP")
        w = h.record("once")
        self.assertEqual((w["state"], w["generation"], w["lastExit"]["kind"], w["lastExit"]["status"]), ("DOWN", 1, "exited", 0))
        h.stop()

    def test_leftovers_are_cleared(self):
        """The main process is gone, its children are not: they are ended before a new one starts."""
        h, before = self.dead(a={"args": "--children 3"})
        eventually(lambda: len(h.processes("a")) == 4)
        old = set(h.processes("a"))
        os.kill(before["a"]["pid"], signal.SIGKILL)
        harness.wait_gone(before["a"]["pid"])
        now = self.again(h, before, "a")
        self.assertEqual([p for p in old if is_alive(p)], [])
        eventually(lambda: len(h.processes("a")) == 4)
        self.assertEqual(now["a"]["generation"], 2)
        h.stop()

    def test_dead_listener_is_gone(self):
        """No agentd-rpc of the dead one lives when the next one is ready, even one that does not run."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.start()
        rpc = h.rpc_pid()
        os.kill(rpc, signal.SIGSTOP)
        h.kill()
        h.start()
        self.assertFalse(is_alive(rpc))
        h.all_up()
        h.stop()


@needs_root
class Elsewhere(Case):
    def test_someone_elses_cgroup(self):
        h = self.host()
        h.worker("a", "--ignore-term --children 2", "TimeoutStopSec=100ms")
        h.start()
        pid = h.all_up()["a"]["pid"]
        eventually(lambda: len(h.processes("a")) == 3)
        tree = set(h.processes("a"))
        h.kill()
        elsewhere = tempfile.mkdtemp(prefix="elsewhere.", dir=harness.cgroup2())
        try:
            with open(elsewhere + "/cgroup.procs", "w", encoding="ascii") as f:
                f.write(str(pid))
            h.start()
            w = h.until("a", "DOWN")
            self.assertIn("process %d can't be proven" % pid, w["message"])
            self.assertTrue(is_alive(pid), "it is not signalled")
            self.assertEqual(set(h.processes("a")), tree, "and nothing is started beside it, or ended")
            self.assertIn("a: process %d may be" % pid, h.ctl("doctor").stdout)
            h.drain()
            h.proc.send_signal(signal.SIGUSR2)  # the next image of agentd knows it as well
            h.wait_notify("READY=1")
            self.assertIn("a: process %d may be" % pid, h.ctl("doctor").stdout)
            self.assertEqual((h.record("a")["state"], set(h.processes("a"))), ("DOWN", tree))
            os.kill(pid, signal.SIGKILL)
            w = h.until("a", "UP")
            self.assertEqual(w["generation"], 2)
            self.assertFalse([p for p in tree if is_alive(p)], "what it left is gone before")
            h.stop()
        finally:
            def removed():
                with contextlib.suppress(OSError):
                    os.rmdir(elsewhere)
                return not os.path.exists(elsewhere)
            eventually(removed)

    def test_session_of_a_shell(self):
        """Without cgroups its tree could not be told from the rest of the session."""
        h = self.host(cgroup=False)
        h.worker("a", "--children 2")
        h.start()
        h.all_up()
        h.ok("POST", "/agentd/v1/workers/a/stop")
        p = subprocess.Popen([harness.WORKER, "--children", "2"])
        tree = [p.pid]

        def end():  # of this group is the whole run: one by one
            for pid in tree:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            p.wait()
        self.addCleanup(end)
        eventually(lambda: len(harness.children(p.pid)) == 2)
        tree += harness.children(p.pid)
        r = h.ctl("--private", h.run + "/private", "adopt", "a", str(p.pid))
        self.assertEqual(r.returncode, 1)
        self.assertIn("session of its own", r.stderr)
        self.assertTrue(all(is_alive(pid) for pid in tree), "they are left alone")
        h.stop()


@both
class Renamed(Case):
    """A file renamed while agentd was dead, or before an upgrade: the id is in one hand at a time."""
    cgroup = True

    def renamed(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        id = h.worker("b", "--children 1")
        h.start()
        before = h.all_up()
        eventually(lambda: len(h.processes("b")) == 2)
        return h, id, before

    def test_after_death(self):
        h, id, before = self.renamed()
        h.kill()
        os.rename(h.workers + "/b.conf", h.workers + "/d.conf")
        h.start()
        eventually(lambda: set(h.all()) == {"a", "d"} and h.all()["d"]["state"] == "UP")
        self.assertEqual((h.record("d")["id"], h.processes("b"), h.record("a")["pid"]), (id, {}, before["a"]["pid"]))
        h.stop()

    def test_before_an_upgrade(self):
        h, id, before = self.renamed()
        os.rename(h.workers + "/b.conf", h.workers + "/d.conf")
        h.drain()
        h.proc.send_signal(signal.SIGUSR2)
        h.wait_notify("READY=1")
        now = eventually(lambda: (lambda w: "b" in w and w)(h.all()))
        self.assertEqual((set(now), now["b"]["pid"]), ({"a", "b"}, before["b"]["pid"]), "an upgrade is no reload")
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: set(h.all()) == {"a", "d"} and h.all()["d"]["state"] == "UP")
        self.assertEqual((h.record("d")["id"], h.processes("b")), (id, {}))
        h.stop()


class Thousand(Case):
    ALONE = True
    @needs_root
    def test_adopted_at_once(self):
        """All of 1,000 are adopted and controllable within a second, and nothing is forked but the listener."""
        n = 1000 if harness.ALL or not harness.SANITIZED else 100
        h = self.host()
        for i in range(n):
            h.write("workers.d/w%d.conf" % i, "[Service]\nExecStart=/bin/sleep infinity\nStandardOutput=null\n[Worker]\nId=%d\n" % (i + 1))
        h.start()
        before = {a: w["identity"] for a, w in h.all_up(120).items()}
        took = []
        for _ in range(3):  # the best of three: the machine may have others to serve
            h.kill()
            began = time.monotonic()
            h.start()
            ready = time.monotonic() - began
            now = h.all()
            took.append((time.monotonic() - began, ready))
            self.assertEqual({a: w["identity"] for a, w in now.items()}, before)
            self.assertEqual({w["ownership"] for w in now.values()}, {"adopted"})
            eventually(lambda: [harness.name_of(p) for p in harness.children(h.pid)] == ["agentd-rpc"], what="no helper, no worker below it")
        self.assertEqual(h.operation("w7", "restart").status, 200)
        print("# %d workers adopted: READY after %.0f ms, all listed after %.0f ms" % (n, min(took)[1] * 1000, min(took)[0] * 1000))
        if not harness.SANITIZED:
            self.assertLess(min(took)[0], 1)
        h.stop()


@both
@needs_root
class ByHand(Case):
    """agentctl adopt ALIAS PID."""
    cgroup = True

    def make(self, args="--children 2", service="", **more):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", args, service, **more)
        h.worker("b")
        h.start()
        if "command" in more:  # it may not stay up by itself
            h.until("b", "UP")
        else:
            h.all_up()
        h.ok("POST", "/agentd/v1/workers/a/stop")
        return h

    def spawn(self, *argv, **how):
        p = subprocess.Popen(list(argv) or [harness.WORKER, "--children", "2"], start_new_session=True, **how)

        def end():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            p.kill()
            p.wait()
        self.addCleanup(end)
        if not argv:
            eventually(lambda: len(harness.children(p.pid)) == 2)
        return p

    def adopt(self, h, alias, pid, *words):
        return h.ctl("--private", h.run + "/private", "adopt", alias, str(pid), *words)

    def refused(self, h, pid, why, alias="a"):
        was = stat_of(pid)
        r = self.adopt(h, alias, pid)
        self.assertEqual((r.returncode, r.stdout), (1, ""), r)
        self.assertRegex(r.stderr, why)
        if was:
            self.assertEqual(stat_of(pid)[2], was[2], "it is left alone")
            self.assertNotIn("w-a", open("/proc/%d/cgroup" % pid, encoding="ascii").read())
        self.assertEqual(h.record("a")["state"], "DOWN")
        self.assertEqual(h.record("a")["goal"], "DOWN")

    def test_taken_over(self):
        h = self.make()
        p = self.spawn()
        tree = [p.pid] + harness.children(p.pid)
        r = self.adopt(h, "a", p.pid)
        self.assertEqual((r.returncode, r.stdout), (0, "a: process %d was taken over\n" % p.pid), r)
        w = h.record("a")
        self.assertEqual((w["pid"], w["state"], w["goal"], w["ownership"], w["generation"], w["identity"]["startTicks"]),
                         (p.pid, "UP", "UP", "adopted", 2, stat_of(p.pid)[2]))
        if self.cgroup:
            for pid in tree:
                self.assertIn("/w-a", open("/proc/%d/cgroup" % pid, encoding="ascii").read())
        h.kill()
        h.start()
        self.assertEqual(h.until("a", "UP")["pid"], p.pid, "as any other worker")
        r = h.operation("a", "restart")
        self.assertEqual((r.status, r.data["before"]["pid"]), (200, p.pid))
        p.wait(harness.DEADLINE)
        eventually(lambda: not any(is_alive(x) for x in tree))
        h.stop()

    def members(self, h):
        with open(h.cgroup_dir() + "/w-a/cgroup.procs", encoding="ascii") as f:
            return [int(line) for line in f]

    def test_its_output(self):
        """Who reads it is gone: what it writes goes to where it would have gone, and its input has no end; by a program of its user's."""
        h = self.make(command="/bin/cat", service="User=nobody")
        who = pwd.getpwnam("nobody")
        p = self.spawn("/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=who.pw_uid, group=who.pw_gid, extra_groups=[])
        r = self.adopt(h, "a", p.pid, "--reader", str(os.getpid()))
        if not self.cgroup:
            self.assertEqual((r.returncode, "without cgroups nobody can read on" in r.stderr), (1, True), r)
            return
        self.assertEqual(r.returncode, 0, r)
        drain, = [x for x in self.members(h) if x != p.pid]
        eventually(lambda: harness.name_of(drain) == "agentd-drain")
        self.assertEqual(os.stat("/proc/%d" % drain).st_uid, who.pw_uid)
        p.stdout.close()
        for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGRTMIN):
            os.kill(drain, sig)  # the worker's, not for it
        with open("/proc/%d/fd/1" % p.pid, "rb") as pipe, tempfile.TemporaryFile() as out:  # a second one takes nothing
            subprocess.run([harness.STAGED + "/agentd-drain", "%d:%d" % (pipe.fileno(), out.fileno())], pass_fds=(pipe.fileno(), out.fileno()), check=True,
                           timeout=harness.DEADLINE)
        p.stdin.write(b"one\ntwo\n")
        p.stdin.flush()
        log = h.logs + "/a.log"
        eventually(lambda: os.path.exists(log) and open(log, encoding="ascii").read() == "one\ntwo\n")
        p.stdin.close()
        h.kill()
        h.start()
        self.assertEqual(h.until("a", "UP")["pid"], p.pid)
        self.assertTrue(is_alive(drain))
        h.ok("POST", "/agentd/v1/workers/a/stop")
        p.wait(harness.DEADLINE)
        eventually(lambda: not is_alive(drain))
        h.stop()

    def test_what_can_not_be_written(self):
        """It is lost, as if the worker had written it, and the worker goes on: more than its pipe holds."""
        end, into = os.pipe()
        with open("/dev/full", "wb", buffering=0) as full:
            drain = subprocess.Popen([harness.STAGED + "/agentd-drain", "%d:%d" % (end, full.fileno())], pass_fds=(end, full.fileno()))
        os.close(end)
        with open(into, "wb") as worker:
            worker.write(b"x" * 1000000)
        self.assertEqual(drain.wait(harness.DEADLINE), 0)
        for words in ((), ("x",), ("3",), ("99:1",), ("3:x",)):
            r = subprocess.run([harness.STAGED + "/agentd-drain", *words], capture_output=True, timeout=harness.DEADLINE, check=False)
            self.assertEqual((r.returncode, r.stdout, b"agentd-drain" in r.stderr), (2, b"", True), words)

    def test_its_own_pipe(self):
        """What the given process does not read is left to whoever reads it."""
        h = self.make(command="/bin/cat")
        end, into = os.pipe()
        p = self.spawn("/bin/cat", stdin=subprocess.PIPE, stdout=into)
        other = self.spawn("/bin/sleep", "infinity", stdout=into)  # as the parent of a pipeline: it writes into it, too
        os.close(into)
        self.assertEqual(self.adopt(h, "a", p.pid, "--reader", str(other.pid)).returncode, 0 if self.cgroup else 1)
        if self.cgroup:
            self.assertEqual(self.members(h), [p.pid])
            p.stdin.write(b"one\n")
            p.stdin.flush()
            self.assertEqual(os.read(end, 100), b"one\n")
        os.close(end)
        for words in (("--reader", "x"), ("--reader", "1")):
            self.assertEqual(self.adopt(h, "a", p.pid, *words).returncode, 2)
        h.stop()

    def test_its_end_is_noticed(self):
        h = self.make()
        p = self.spawn()
        self.assertEqual(self.adopt(h, "a", p.pid).returncode, 0)
        p.kill()
        p.wait()
        w = eventually(lambda: (lambda w: w["state"] == "UP" and w["pid"] != p.pid and w)(h.record("a")))
        self.assertEqual((w["generation"], w["ownership"], w["lastExit"]["pid"]), (3, "child", p.pid))
        self.assertIn(w["lastExit"]["kind"], ("killed", "unknown"))
        h.stop()

    def test_a_script(self):
        h = self.host(cgroup=self.cgroup)
        path = h.write("script", "#! /bin/sh -e\nsleep infinity & wait\n", 0o755)
        h.worker("a", command=path + " one two")
        h.start()
        h.all_up()
        h.ok("POST", "/agentd/v1/workers/a/stop")
        self.refused(h, self.spawn(path, "one").pid, "argument 4 is missing: \"two\"")
        p = self.spawn(path, "one", "two")
        r = self.adopt(h, "a", p.pid)
        self.assertEqual(r.returncode, 0, r)
        h.stop()

    @needs_root
    def test_upgraded_while_it_is_judged(self):
        """The next image hears nothing of the helper that looks at it: nobody waits for that, and it can be asked for again."""
        h = self.host(cgroup=self.cgroup)
        path = h.write("script", "#! /bin/sh\nsleep infinity & wait\n", 0o755)
        h.worker("a", command=path)
        h.start()
        h.all_up()
        h.ok("POST", "/agentd/v1/workers/a/stop")
        p = self.spawn(path)
        hung = Hung(path)
        self.addCleanup(hung.close)
        caller, got = harness.background(self.adopt, h, "a", p.pid)
        eventually(lambda: harness.forks(h.pid), what="the helper")
        h.drain()
        h.proc.send_signal(signal.SIGUSR2)
        h.wait_notify("READY=1")
        op, = eventually(lambda: [o for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["verb"] == "adopt" and o["result"] != "running"],
                         what="its end")
        self.assertIn("nothing was done to it", h.ok("GET", "/agentd/v1/operations/" + op["id"])["message"])
        caller.join(harness.DEADLINE)
        self.assertNotEqual(got[0].returncode, 0, got)
        hung.close()
        self.assertEqual(h.record("a")["state"], "DOWN")
        r = self.adopt(h, "a", p.pid)
        self.assertEqual((r.returncode, h.record("a")["pid"]), (0, p.pid), r)
        h.stop()

    def test_refused(self):
        h = self.make()
        self.refused(h, self.spawn(harness.WORKER, "--children", "3").pid, "argument 2 is \"3\", the worker's is \"2\"")
        self.refused(h, self.spawn(harness.WORKER).pid, "argument 1 is missing")
        self.refused(h, self.spawn(harness.WORKER, "--children", "2", "--listen", "0").pid, "one argument more")
        self.refused(h, self.spawn("/bin/sleep", "infinity").pid, "another program")
        self.refused(h, self.spawn(harness.WORKER, "--children", "2", user=harness.ORDINARY).pid, "its user is %d, the worker's is 0" % harness.ORDINARY)
        self.refused(h, self.spawn(harness.WORKER, "--children", "2", group=harness.ORDINARY, extra_groups=[]).pid,
                     "its group is %d, the worker's is 0" % harness.ORDINARY)
        self.refused(h, h.pid, "belongs to agentd itself")
        self.refused(h, h.rpc_pid(), "belongs to agentd itself")
        gone = self.spawn()
        gone.kill()
        gone.wait()
        self.refused(h, gone.pid, "there is no process")
        b = h.record("b")["pid"]
        self.assertEqual(self.adopt(h, "a", b).returncode, 1)
        self.assertEqual(h.record("b")["pid"], b)
        for alias, why in (("b", "not down"), ("nobody", "no worker")):
            r = self.adopt(h, alias, self.spawn().pid)
            self.assertEqual(r.returncode, 1)
            self.assertIn(why, r.stderr)
        for words in (("adopt",), ("adopt", "a"), ("adopt", "a", "x"), ("adopt", "a", "1"), ("adopt", "a", "-5")):
            self.assertEqual(h.ctl("--private", h.run + "/private", *words).returncode, 2, words)
        h.stop()

    def test_traced(self):
        h = self.make()
        p = self.spawn()
        tracer = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-p", str(p.pid)])
        self.addCleanup(lambda: (tracer.kill(), tracer.wait()))

        def traced():
            with open("/proc/%d/status" % p.pid, encoding="ascii") as f:
                return "TracerPid:\t0" not in f.read()
        eventually(traced)
        self.refused(h, p.pid, "traced by process %d" % tracer.pid)
        h.stop()

    def test_another_workers(self):
        """Not one that another worker has adopted, whatever it looks like."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.worker("b")
        h.start()
        h.all_up()
        h.ok("POST", "/agentd/v1/workers/a/stop")
        h.kill()
        h.start()
        pid = h.until("b", "UP")["pid"]
        r = self.adopt(h, "a", pid)
        self.assertEqual((r.returncode, h.record("b")["pid"], h.record("a")["state"]), (1, pid, "DOWN"))
        self.assertIn("belongs to worker b", r.stderr)
        h.stop()

    def test_setuid(self):
        where = tempfile.mkdtemp(prefix="agentd-setuid.")
        self.addCleanup(shutil.rmtree, where, True)
        os.chmod(where, 0o755)
        program = where + "/program"
        shutil.copy(harness.WORKER, program)
        os.chmod(program, 0o755 | stat.S_ISUID)
        h = self.host(cgroup=self.cgroup)
        h.worker("a", command=program)
        h.start()
        h.all_up()
        h.ok("POST", "/agentd/v1/workers/a/stop")
        self.refused(h, self.spawn(program).pid, "set-id bit")
        h.stop()

    def test_told_as_json(self):
        h = self.make()
        p = self.spawn()
        r = h.ctl("--private", h.run + "/private", "-o", "json", "adopt", "a", str(p.pid))
        self.assertEqual(r.returncode, 0, r)
        import json
        op = json.loads(r.stdout)
        self.assertEqual((op["verb"], op["result"], op["after"]["pid"], op["actor"], op["source"]), ("adopt", "done", p.pid, "uid:0", "private"))
        h.stop()

    # --- the way back ---

    def release(self, h, alias, pid):
        return h.ctl("--private", h.run + "/private", "release", alias, str(pid))

    def cgroups(self, pids):
        return [open("/proc/%d/cgroup" % p, encoding="ascii").read() for p in pids]

    def test_given_back(self):
        """It runs on with all that is below it, in the cgroup that it is given to, and nothing is started in its place."""
        said = tempfile.mkdtemp(prefix="agentd-said.")
        self.addCleanup(shutil.rmtree, said, True)
        h = self.make(service="ExecStop=/bin/mkdir %s/stop\nExecStopPost=/bin/mkdir %s/post" % (said, said))
        for name in os.listdir(said):  # of the stop before
            os.rmdir(said + "/" + name)
        p = self.spawn()
        tree = [p.pid] + harness.children(p.pid)
        was = self.cgroups(tree), [stat_of(x) for x in tree]
        self.assertEqual(self.adopt(h, "a", p.pid).returncode, 0)
        r = self.release(h, "a", os.getpid())
        self.assertEqual((r.returncode, r.stdout), (0, "a: was given to process %d\n" % os.getpid()), r)
        self.assertEqual((self.cgroups(tree), [stat_of(x)[1:] for x in tree]), (was[0], [s[1:] for s in was[1]]))
        w = h.record("a")
        self.assertEqual((w["state"], w["goal"], w["pid"], w["ownership"], os.listdir(said)), ("DOWN", "DOWN", 0, "", []))
        op = h.ok("GET", "/agentd/v1/operations")["contents"][0]
        self.assertEqual((op["verb"], op["result"], op["alias"]), ("release", "done", "a"))
        h.kill()
        h.start()
        h.until("b", "UP")
        self.assertEqual((h.record("a")["state"], [is_alive(x) for x in tree]), ("DOWN", [True] * 3))
        self.assertEqual(self.adopt(h, "a", p.pid).returncode, 0, "and again")
        self.assertEqual(h.record("a")["pid"], p.pid)
        h.stop()

    def test_not_given_back(self):
        h = self.make()
        p = self.spawn()
        for alias, to, why in (("a", os.getpid(), "not up"), ("b", os.getpid(), "agentd has started it"), ("nobody", os.getpid(), "no worker")):
            r = self.release(h, alias, to)
            self.assertEqual((r.returncode, r.stdout), (1, ""), r)
            self.assertIn(why, r.stderr)
        self.assertEqual(self.adopt(h, "a", p.pid).returncode, 0)
        gone = self.spawn()
        gone.kill()
        gone.wait()
        for to, why in ((gone.pid, "there is no process"), (p.pid, "the worker's own"), (harness.children(p.pid)[0], "can't be moved" if self.cgroup else "")):
            r = self.release(h, "a", to)
            self.assertEqual((r.returncode, why in r.stderr), (1 if why else 0, True), r)
            if why:
                self.assertEqual((h.record("a")["pid"], h.record("a")["state"]), (p.pid, "UP"))
        h.kill()
        h.start()
        h.until("b", "UP")
        r = self.release(h, "b", os.getpid())
        self.assertEqual((r.returncode, "carries its mark" in r.stderr), (1, True), r)
        for words in (("release",), ("release", "a"), ("release", "a", "x"), ("release", "a", "1")):
            self.assertEqual(h.ctl("--private", h.run + "/private", *words).returncode, 2, words)
        h.stop()
