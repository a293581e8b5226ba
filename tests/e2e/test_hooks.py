# SPDX-License-Identifier: Apache-2.0
"""ExecStartPre=, ExecStartPost=, ExecReload=, ExecStop=, ExecStopPost=: their order, what they are told, and what follows if they
fail, hang, are missing or are killed. Type=oneshot and Type=forking."""
import os
import signal
import subprocess

import harness
from harness import Case, both, eventually

# Notes in a file that it was called: its words, and what of its environment is asked for.
NOTE = """#!/bin/sh
where=$1; shift
echo "$*" >>$where/notes
case "$1" in
fail*) exit 3 ;;
hang*) echo $$ >>$where/hanging; sleep infinity & echo $! >>$where/hanging; wait ;;
die*) kill -9 $$ ;;
left*) sleep infinity & echo $! >$where/left ;;
esac
"""

# A daemon as they were: forks twice, writes its pid and goes. Told a number it writes that.
DAEMON = """#!/usr/bin/python3
import os, signal, sys
where, how = sys.argv[1], sys.argv[2]
written, write = os.pipe()
if os.fork():
    if how == "slow":
        os.read(written, 1)
    os._exit(7 if how == "fails" else 0)
os.setsid()
if os.fork():
    if how == "lingers":
        open(where + "/go").read()
    os._exit(0)
if how == "fifo":
    os.mkfifo(where + "/pid")
elif how == "link":
    with open(where + "/elsewhere", "w") as f:
        f.write("%d\\n" % os.getpid())
    os.symlink(where + "/elsewhere", where + "/pid")
elif how == "folder":
    os.mkdir(where + "/pid")
elif how != "silent":
    with open(where + "/pid.new", "w") as f:
        f.write("%d\\n" % (os.getppid() if how == "gone" else int(how) if how.isdigit() else os.getpid()))
    os.rename(where + "/pid.new", where + "/pid")
os.write(write, b".")
while True:
    signal.pause()
"""


class Commands(Case):
    cgroup = True

    def prepare(self, **how):
        h = self.host(cgroup=self.cgroup, **how)
        for name, text in (("note", NOTE), ("daemon", DAEMON)):
            with open(h.dir + "/" + name, "w", encoding="ascii") as f:
                f.write(text)
            os.chmod(h.dir + "/" + name, 0o755)
        return h

    def note(self, h, *words):
        return "%s/note %s %s" % (h.dir, h.dir, " ".join(words))

    def lines(self, h, name="notes"):
        with open(h.dir + "/" + name, "a+", encoding="ascii") as f:
            f.seek(0)
            return f.read().splitlines()


@both
class Hooks(Commands):
    def test_order_and_words(self):
        h = self.prepare()
        n = lambda *words: self.note(h, *words)
        h.worker("a", service="\n".join((
            "ExecStartPre=" + n("pre1", "$MAINPID", "x"), "ExecStartPre=-" + n("fail2"), "ExecStartPost=" + n("post", "$MAINPID"),
            "ExecReload=" + n("reload", "${MAINPID}") + " ; " + n("reload2"), "ExecStop=" + n("stop", "$MAINPID"),
            "ExecStopPost=" + n("stoppost", "[${SERVICE_RESULT}]", "[${EXIT_CODE}]", "[${EXIT_STATUS}]", "[${MAINPID}]"))))
        h.start()
        pid = h.all_up()["a"]["pid"]
        self.assertEqual(self.lines(h), ["pre1 x", "fail2", "post %d" % pid])
        r = h.http("POST", "/agentd/v1/workers/a/reload")
        self.assertEqual((r.status, r.data["result"]), (200, "done"), r)
        self.assertEqual(self.lines(h)[3:], ["reload %d" % pid, "reload2"])
        self.assertEqual(h.record("a")["pid"], pid)
        self.assertEqual(h.operation("a", "stop").status, 200)
        self.assertEqual(self.lines(h)[5:], ["stop %d" % pid, "stoppost [success] [killed] [TERM] []"])
        self.assertEqual(h.operation("a", "start").status, 200)
        os.kill(h.record("a")["pid"], signal.SIGKILL)
        eventually(lambda: h.record("a")["generation"] == 3)
        h.all_up()
        self.assertEqual(self.lines(h)[10:12], ["stop", "stoppost [signal] [killed] [KILL] []"])
        h.stop()

    def test_failures(self):
        """Each hook that fails, is killed, is missing: named, and what systemd does then."""
        h = self.prepare()
        for alias, hook in (("fails", self.note(h, "fail")), ("dies", self.note(h, "die")), ("missing", h.dir + "/nothing")):
            h.worker("pre-" + alias, service="Restart=no\nExecStartPre=%s\nExecStopPost=%s" % (hook, self.note(h, "post-of-" + alias, "$SERVICE_RESULT")))
            h.worker("post-" + alias, service="Restart=no\nExecStartPost=" + hook)
            h.worker("reload-" + alias, service="ExecReload=" + hook)
            h.worker("stop-" + alias, service="ExecStop=%s\nExecStopPost=%s" % (hook, hook))
        h.start()
        said = {"fails": "exited with status 3", "dies": "was killed by signal 9", "missing": "failed: No such file"}
        for alias, text in said.items():
            for kind, key in (("pre-", "ExecStartPre"), ("post-", "ExecStartPost")):
                w = h.until(kind + alias, "DOWN")
                self.assertEqual(w["reason"], "start-command-failed", w)
                self.assertIn(key + "=", w["message"])
                self.assertIn(text, w["message"])
                r = h.operation(kind + alias, "start")
                self.assertEqual(r.status, 500)
                self.assertIn(text, r.message)
                h.until(kind + alias, "DOWN")
            eventually(lambda: self.lines(h).count("post-of-%s exit-code" % alias) == 2)
            h.until("reload-" + alias, "UP")
            r = h.http("POST", "/agentd/v1/workers/reload-%s/reload" % alias)
            self.assertIn(text, r.message)
            self.assertNotEqual(r.status, 200)
            self.assertEqual(h.record("reload-" + alias)["generation"], 1)
            h.until("stop-" + alias, "UP")
            self.assertEqual(h.operation("stop-" + alias, "stop").status, 200)
            self.assertIn("ExecStop=", h.log())
            self.assertIn(text, h.log())
        h.stop()

    def test_hanging(self):
        """A hook that hangs is over at its deadline, with what it has started."""
        h = self.prepare()
        hang = self.note(h, "hang")
        h.worker("pre", service="Restart=no\nTimeoutStartSec=100ms\nExecStartPre=" + hang)
        h.worker("post", service="Restart=no\nTimeoutStartSec=100ms\nExecStartPost=" + hang)
        h.worker("reload", service="TimeoutStartSec=100ms\nExecReload=" + hang)
        h.worker("stop", service="TimeoutStopSec=100ms\nExecStop=" + hang)
        h.worker("stoppost", service="TimeoutStopSec=100ms\nExecStopPost=" + hang)
        h.start()
        for alias, key in (("pre", "ExecStartPre"), ("post", "ExecStartPost")):
            self.assertIn(key + "=%s/note was not finished in time" % h.dir, h.until(alias, "DOWN")["message"])
        h.until("reload", "UP")
        r = h.http("POST", "/agentd/v1/workers/reload/reload")
        self.assertIn("was not finished in time", r.message)
        for alias in ("stop", "stoppost"):
            h.until(alias, "UP")
            self.assertEqual(h.operation(alias, "stop").status, 200)
        self.assertIn("ExecStop=%s/note was not finished in time" % h.dir, h.log())
        self.assertIn("ExecStopPost=%s/note was not finished in time" % h.dir, h.log())
        self.assertEqual(len(self.lines(h, "hanging")), 10)
        for pid in self.lines(h, "hanging"):
            harness.wait_gone(int(pid))
        self.assertEqual(h.record("reload")["state"], "UP")
        h.stop()

    def test_stop_meanwhile(self):
        """A stop does not wait for a hook of the start, and a stop ends a reload."""
        h = self.prepare()
        h.worker("pre", service="ExecStartPre=" + self.note(h, "hang"))
        h.worker("reload", service="ExecReload=" + self.note(h, "hang"))
        h.start(wait=True)
        h.meets("pre", phase="start-pre", state="STARTING", pid=0)
        self.assertEqual(h.operation("pre", "stop").status, 200)
        h.until("reload", "UP")
        c = h.connect()
        c.request("POST", "/agentd/v1/workers/reload/reload")
        h.meets("reload", phase="reload")
        self.assertEqual(h.http("POST", "/agentd/v1/workers/reload/reload").status, 409)
        self.assertEqual(h.operation("reload", "stop").status, 200)
        self.assertEqual(c.getresponse().status, 409)
        for pid in self.lines(h, "hanging"):
            harness.wait_gone(int(pid))
        h.stop()

    def test_leftovers_of_pre(self):
        """What ExecStartPre= leaves behind does not live beside the worker."""
        h = self.prepare()
        h.worker("a", service="ExecStartPre=" + self.note(h, "left"))
        h.start()
        h.all_up()
        harness.wait_gone(int(self.lines(h, "left")[0]))
        self.assertEqual(h.operation("a", "restart").status, 200)
        harness.wait_gone(int(self.lines(h, "left")[0]))
        h.stop()

    def test_death_of_agentd(self):
        """In each hook: the next agentd ends what is left of it, and the goal is reached."""
        h = self.prepare()
        gate = h.gate()
        wait = '/bin/sh -c "echo $$$$ >>%s/hanging; %s"' % (h.dir, gate.wait)
        h.worker("pre", service="ExecStartPre=" + wait)
        h.worker("post", service="ExecStartPost=" + wait)
        h.worker("stop", service="ExecStop=" + wait)
        h.start()
        h.until("stop", "UP")
        c = h.connect()
        c.request("POST", "/agentd/v1/workers/stop/stop")
        eventually(lambda: len(self.lines(h, "hanging")) == 3)
        old = self.lines(h, "hanging")
        h.kill()
        gate.open()
        h.start()
        for alias, state in (("pre", "UP"), ("post", "UP"), ("stop", "DOWN")):
            h.until(alias, state)
        for pid in old:
            harness.wait_gone(int(pid))
        h.stop()

    def test_upgrade_waits(self):
        h = self.prepare()
        gate = h.gate()
        h.worker("a", service='ExecReload=/bin/sh -c "%s"' % gate.wait)
        h.start()
        h.all_up()
        c = h.connect()
        c.request("POST", "/agentd/v1/workers/a/reload")
        h.meets("a", phase="reload")
        os.kill(h.pid, signal.SIGUSR2)
        eventually(lambda: "is to become" in h.log())
        gate.open()
        self.assertEqual(c.getresponse().status, 200)
        eventually(lambda: any(o["verb"] == "upgrade" and o["result"] == "done" for o in h.ok("GET", "/agentd/v1/operations")["contents"]))
        self.assertEqual([o["result"] for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["verb"] == "reload"], ["done"])
        h.stop()


class HooksOfAUser(Commands):
    def test_plus(self):
        """'+' runs with all privileges, '!' without the user, the others as User= says."""
        if os.geteuid() != 0:
            self.skipTest("needs root")
        h = self.prepare()
        os.chmod(h.dir, 0o755)
        who = '/bin/sh -c "id -u >>%s/%%s; exit 0"' % h.dir
        for name in ("plain", "plus", "bang"):
            open(h.dir + "/" + name, "w", encoding="ascii").close()
            os.chmod(h.dir + "/" + name, 0o666)
        h.worker("a", service="User=nobody\nNoNewPrivileges=yes\nStandardOutput=null\nExecStartPre=%s\nExecStartPre=+%s\nExecStartPre=!%s" % (
            who % "plain", who % "plus", who % "bang"))
        h.start()
        h.all_up()
        self.assertEqual([self.lines(h, n) for n in ("plain", "plus", "bang")], [["65534"], ["0"], ["0"]])
        h.stop()


@both
class Oneshot(Commands):
    def test_all_of_it(self):
        h = self.prepare()
        n = lambda *words: self.note(h, *words)
        h.worker("once", command="-" + n("fail-first"), service="Type=oneshot\nExecStart=%s\nExecStart=%s\nExecStop=%s" % (n("second"), n("third"), n("once-stop")))
        h.worker("stays", command=n("up"), service="Type=oneshot\nRemainAfterExit=yes\nExecStop=" + n("down"))
        h.worker("fails", command=n("fail"), service="Type=oneshot\nExecStart=" + n("never"))
        h.start()
        self.assertEqual(h.until("fails", "DOWN")["goal"], "UP")
        w = h.until("once", "DOWN")
        self.assertEqual((w["reason"], w["goal"]), ("exited", "UP"))
        self.assertEqual([l for l in self.lines(h) if l in ("fail-first", "second", "third", "once-stop", "never")], ["fail-first", "second", "third", "once-stop"])
        w = h.until("stays", "UP")
        self.assertEqual((w["pid"], w["ready"]), (0, True))
        h.kill()
        h.start()
        eventually(lambda: h.record("stays")["state"] == "UP")
        self.assertEqual(self.lines(h).count("up"), 1)
        self.assertEqual(h.operation("stays", "stop").status, 200)
        self.assertEqual(self.lines(h)[-1], "down")
        r = h.operation("once", "start")
        self.assertEqual(r.status, 200, r)
        self.assertEqual(self.lines(h).count("third"), 2)
        r = h.operation("fails", "start")
        self.assertEqual(r.status, 500)
        self.assertNotIn("never", self.lines(h))
        h.stop()


@both
class Forking(Commands):
    def daemon(self, h, how, service=""):
        h.worker("a", command="%s/daemon %s %s" % (h.dir, h.dir, how), service="Type=forking\nPIDFile=%s/pid\nTimeoutStartSec=2s\n%s" % (h.dir, service))

    def test_by_pid_file(self):
        for how in ("plain", "slow"):
            h = self.prepare()
            self.daemon(h, how)
            h.start()
            w = h.until("a", "UP")
            self.assertEqual([str(w["pid"])], self.lines(h, "pid"))
            self.assertEqual(w["ownership"], "child")
            h.kill()
            h.start()
            self.assertEqual(h.until("a", "UP")["pid"], w["pid"])
            r = h.operation("a", "restart")
            self.assertEqual(r.status, 200, r)
            now = h.record("a")
            self.assertEqual([str(now["pid"])], self.lines(h, "pid"))
            harness.wait_gone(w["pid"])
            os.kill(now["pid"], signal.SIGSEGV)
            eventually(lambda: h.record("a")["generation"] == 3)
            self.assertEqual(h.record("a")["lastExit"]["signal"] if "signal" in h.record("a")["lastExit"] else 11, 11)
            h.until("a", "UP")
            h.stop()

    def let_go(self, h):
        with open(h.dir + "/go", "w", encoding="ascii"):
            pass

    def test_parent_lingers(self):
        """The process between the two is still there when the daemon is found, and leaves it to agentd later.
        Without cgroups the daemon can't be told from a stranger's until then."""
        h = self.prepare()
        self.daemon(h, "lingers", "TimeoutStartSec=30s")
        os.mkfifo(h.dir + "/go")
        h.start()
        if not self.cgroup:
            eventually(lambda: "which is not this worker's" in h.record("a")["message"])
            self.let_go(h)
        w = h.until("a", "UP")
        self.assertEqual(([str(w["pid"])], w["ownership"]), (self.lines(h, "pid"), "child"))
        self.assertNotIn("ownership", [c["kind"] for c in h.ok("GET", "/agentd/v1/workers/a/why")["contents"]])
        if self.cgroup:
            self.let_go(h)
        eventually(lambda: harness.stat_of(w["pid"])[1] == h.pid, 10, "it is agentd's child")
        os.kill(w["pid"], signal.SIGSEGV)
        last = eventually(lambda: h.record("a")["generation"] == 2 and h.record("a")["lastExit"])
        self.assertEqual((last["pid"], last["kind"], last["signal"]), (w["pid"], "killed", 11))
        self.let_go(h)
        h.until("a", "UP")
        h.stop()

    def test_false_pid_file(self):
        """It names a stranger, or process 1, or is no plain file: refused, nobody is signalled, and the loop goes on."""
        stranger = str(os.getpid())
        for how, why in ((stranger, "names process %s, which is not this worker's" % stranger), ("1", ""), ("fails", "exited with status 7"),
                         ("fifo", ""), ("link", ""), ("folder", "")):
            h = self.prepare()
            self.daemon(h, how, "Restart=no\nTimeoutStartSec=500ms")
            h.start()
            w = h.until("a", "DOWN")
            if how == "fails":
                self.assertIn(why, w["message"])
            else:
                self.assertEqual(w["reason"], "start-timeout")
            if how == stranger:  # it was asked for several times meanwhile
                self.assertEqual(h.log().count("PIDFile=%s/pid %s" % (h.dir, why)), 1)
            h.stop()

    def test_child_of_another(self):
        """Whoever is there and was left to nobody yet is waited for, as long as a start may take: between two looks its parent may end."""
        if not self.cgroup:
            return
        h = self.prepare()
        other = subprocess.Popen(["/bin/sleep", "infinity"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        script = h.write("joins", "#!/bin/sh\necho %d >%s/w-a/cgroup.procs\n" % (other.pid, h.cgroup_dir()), 0o755)
        h.worker("a", command=script, service="Type=forking\nRestart=no\nTimeoutStartSec=500ms")
        h.start()
        self.assertEqual(h.until("a", "DOWN")["reason"], "start-timeout")
        h.stop()

    def test_guess(self):
        h = self.prepare()
        h.worker("a", command="%s/daemon %s silent" % (h.dir, h.dir), service="Type=forking\nRestart=no")
        h.start()
        if self.cgroup:
            w = h.until("a", "UP")
            self.assertEqual(harness.name_of(w["pid"]), "daemon")
        else:
            self.assertIn("needs cgroups", h.until("a", "DOWN")["message"])
        h.stop()
