# SPDX-License-Identifier: Apache-2.0
"""What belongs to a worker besides its main process: who ends with it, who is left, and what is left of its cgroups."""
import contextlib
import os
import signal
import subprocess
import sys
import threading

import harness
from harness import Case, both, eventually, is_alive


class Trees(Case):
    def kill(self, pids):
        for p in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, signal.SIGKILL)
            harness.wait_gone(p)

    def generation(self, h, alias, n):
        return eventually(lambda: (lambda r: r["generation"] == n and r["state"] == "UP" and r)(h.record(alias)),
                          what="generation %d of %s" % (n, alias))


class Sessions(Trees):
    """Without cgroups: a child that dropped the cookie, but not the session."""

    def setUp(self):
        h = self.h = self.host(cgroup=False)
        self.file = h.dir + "/hidden"
        script = h.write("hide", "#!/bin/sh\nenv -i sleep infinity &\necho $! >> %s\nexec sleep infinity\n" % self.file, 0o755)
        self.addCleanup(lambda: [os.kill(p, signal.SIGKILL) for p in self.hidden(0) if is_alive(p)])
        for alias, mode in self.workers.items():
            h.worker(alias, command=script, service="KillMode=" + mode)
        h.start()
        h.all_up()

    workers = {"web": "control-group"}

    def hidden(self, at_least):
        def look():
            with contextlib.suppress(FileNotFoundError), open(self.file, encoding="ascii") as f:
                return [int(x) for x in f.read().split()]
            return []
        if at_least:
            eventually(lambda: len(look()) >= at_least, what="%d children" % at_least)
        return look()

    def test_main_died(self):
        for n in (1, 2):
            old = self.hidden(n)[-1]
            self.assertTrue(is_alive(old))
            os.kill(self.h.record("web")["pid"], signal.SIGKILL)
            self.generation(self.h, "web", n + 1)
            self.assertFalse(is_alive(old), "a child of the old incarnation lives on beside the new one")
        last = self.hidden(3)[-1]
        self.h.stop()
        self.assertFalse(is_alive(last))

    def test_all_died(self):
        old = self.hidden(1)[-1]
        main = self.h.record("web")["pid"]
        self.h.kill()
        self.kill([main])
        self.assertTrue(is_alive(old))
        self.h.start()
        self.generation(self.h, "web", 2)
        self.assertFalse(is_alive(old), "a child that no living agentd knew of")
        # adopted: all of it stays, and is ended with it
        new = self.hidden(2)[-1]
        self.h.kill()
        self.h.start()
        self.assertEqual(self.h.all_up()["web"]["ownership"], "adopted")
        self.assertTrue(is_alive(new))
        os.kill(self.h.record("web")["pid"], signal.SIGKILL)
        self.generation(self.h, "web", 3)
        self.assertFalse(is_alive(new))
        self.h.stop()


class MixedSessions(Sessions):
    workers = {"web": "mixed"}


@both
class Mixed(Trees):
    cgroup = True

    def test_rest_is_killed(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("web", "--ignore-term --grandchild", "KillMode=mixed\nTimeoutStopSec=600")
        h.start()
        h.all_up()
        old = eventually(lambda: len(h.processes("web")) == 2 and h.processes("web"))
        os.kill(h.record("web")["pid"], signal.SIGKILL)
        self.generation(h, "web", 2)
        self.assertEqual([p for p in old if is_alive(p)], [])
        os.kill(h.record("web")["pid"], signal.SIGKILL)
        self.generation(h, "web", 3)


@both
class LeftAlone(Trees):
    """KillMode=process: what main leaves behind is nobody's business, in the next agentd's life too."""
    cgroup = True

    def test_next_agentd(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("kp", "--children 1", "KillMode=process")
        h.start()
        h.all_up()
        first = eventually(lambda: len(h.processes("kp")) == 2 and h.processes("kp"))
        main = h.record("kp")["pid"]
        left = [p for p in first if p != main]
        self.assertEqual(h.operation("kp", "restart").status, 200)
        self.assertTrue(is_alive(left[0]))
        eventually(lambda: len(h.processes("kp")) == 3)
        main = h.record("kp")["pid"]
        left = [p for p in h.processes("kp") if p != main]
        h.kill()
        self.kill([main])
        h.start()
        self.generation(h, "kp", 3)
        self.assertEqual([p for p in left if not is_alive(p)], [])
        eventually(lambda: len(h.processes("kp")) == 4)
        main = h.record("kp")["pid"]
        self.kill([p for p in h.processes("kp") if p != main])
        h.stop()


@harness.needs_root
class Leaves(Trees):
    def setUp(self):
        if not harness.cgroup2():
            self.skipTest("no cgroup2")

    def rest(self, h, n):
        """The processes besides main, once main runs and there are n."""
        def look():
            main = h.record("kp")["pid"]
            found = [p for p in h.processes("kp") if p != main]
            return main and len(found) == n and found
        return eventually(look, what="%d besides main" % n)

    def test_retired(self):
        h = self.host()
        h.worker("kp", "--children 1", "KillMode=process")
        h.start()
        h.all_up()
        for n in (1, 2, 3):
            self.rest(h, n)
            self.assertEqual(len(h.leaves()), n)
            self.assertEqual(h.operation("kp", "restart").status, 200)
        self.kill(self.rest(h, 4))
        self.assertEqual(h.operation("kp", "restart").status, 200)
        self.assertEqual(len(h.leaves()), 1)
        self.rest(h, 1)
        self.assertEqual(h.operation("kp", "restart").status, 200)
        self.assertEqual(len(h.leaves()), 2)
        # found at the next agentd's start
        self.rest(h, 2)
        h.kill()
        self.kill(h.processes("kp"))
        h.start()
        self.rest(h, 1)
        self.assertEqual(len(h.leaves()), 1)
        # and at its end: stop looks
        self.assertEqual(h.operation("kp", "restart").status, 200)
        self.kill(self.rest(h, 2))
        self.assertEqual(len(h.leaves()), 2)
        h.stop()

    def test_cgroups_below(self):
        h = self.host()
        script = h.write("below", "#!/bin/sh\nmkdir %s/w-sub/mine || exit 1\nexec sleep infinity\n" % h.cgroup_dir(), 0o755)
        h.worker("sub", command=script, section="ReadyCheck=stable:50ms")
        h.start()
        h.all_up()
        for n in (2, 3):
            r = h.operation("sub", "restart")
            self.assertEqual(r.status, 200, r)
            self.assertEqual(h.record("sub")["generation"], n)
        self.assertEqual(h.leaves(), ["w-sub"])
        h.stop()


@both
class BrokenFile(Trees):
    """A worker whose file is wrong when agentd starts runs on, and is taken over once it is right."""
    cgroup = True

    def start_broken(self):
        h = self.host(cgroup=self.cgroup)
        path = h.workers + "/web.conf"
        h.worker("web", "--children 1")
        h.worker("other")
        h.start()
        h.all_up()
        tree = eventually(lambda: len(h.processes("web")) == 2 and h.processes("web"))
        main = h.record("web")["pid"]
        h.kill()
        with open(path, encoding="utf-8") as f:
            good = f.read()
        h.write("workers.d/web.conf", good + "NoSuchKey=1\n")
        h.start()
        h.until("other", "UP")
        self.assertEqual(h.processes("web"), tree)
        w = h.record("web")
        self.assertEqual((w["pid"], w["state"], w["stale"]), (main, "UP", ["file"]), "listed, on its last good definition")
        return h, good, tree, main

    def test_served_on_its_last_definition(self):
        h, _, tree, main = self.start_broken()
        self.kill([main])
        w = eventually(lambda: (lambda w: w["pid"] not in (0, main) and w["state"] == "UP" and w)(h.record("web")))
        self.assertEqual(w["generation"], 2)
        r = h.operation("web", "restart")
        self.assertEqual((r.status, r.data["result"]), (200, "done"))
        eventually(lambda: len(h.processes("web")) == 2)
        self.assertEqual([p for p in tree if is_alive(p)], [])
        h.stop()

    def test_file_gone_meanwhile(self):
        """Its file was removed while nobody watched: it is stopped as it wanted to be, not killed."""
        h = self.host(cgroup=self.cgroup)
        h.worker("web", "--children 1", "TimeoutStopSec=20s")
        h.worker("other")
        h.start()
        pid = h.all_up()["other"]["pid"]
        eventually(lambda: len(h.processes("web")) == 2)
        h.kill()
        h.remove("web")
        h.start()
        eventually(lambda: set(h.all()) == {"other"}, what="web is gone")
        self.assertEqual(h.processes("web"), {})
        self.assertEqual(h.record("other")["pid"], pid)
        self.assertEqual(os.listdir(h.run + "/definitions"), ["other.conf"])
        h.stop()

    def test_runs_on(self):
        h, good, tree, main = self.start_broken()
        h.write("workers.d/web.conf", good)
        h.ok("POST", "/agentd/v1/reload")
        w = h.until("web", "UP")
        self.assertEqual((w["pid"], w["generation"], w["ownership"]), (main, 1, "adopted"))
        self.assertEqual(h.processes("web"), tree)
        h.stop()

    def test_ended_meanwhile(self):
        h, good, tree, main = self.start_broken()
        self.kill([main])
        h.write("workers.d/web.conf", good)
        h.ok("POST", "/agentd/v1/reload")
        h.until("web", "UP")
        eventually(lambda: len(set(h.processes("web").values())) == 1 and len(h.processes("web")) == 2,
                   what="one incarnation")
        self.assertEqual([p for p in tree if is_alive(p)], [])
        h.stop()


# The first process of a pid namespace waits in its exit for another one that ends, until that is reaped: it has no memory then, and is
# no zombie yet, as one that hangs in the close of a file.
SLOW = """
import ctypes, os, sys
assert ctypes.CDLL(None).unshare(0x20000000) == 0
r, w = os.pipe()
first = os.fork()
if first == 0:
    os.close(w)
    os.read(r, 1)
    os._exit(0)
second = os.fork()
if second == 0:
    os._exit(0)
os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)
os.write(w, b"x")
print(first, flush=True)
sys.stdin.read()
os.waitpid(second, 0)
os.waitpid(first, 0)
"""


@harness.needs_root
class SlowStrangers(Trees):
    def test_who_ends_slowly(self):
        """A stranger that hangs in its exit is no reason for a stop without cgroups to wait."""
        h = self.host(cgroup=False)
        id = h.worker("a", "--children 1")
        h.start()
        h.all_up()
        p = subprocess.Popen([sys.executable, "-c", SLOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            first = int(p.stdout.readline())
            eventually(lambda: not os.path.exists("/proc/%d/exe" % first), what="one without memory")
            self.assertNotEqual(harness.stat_of(first)[0], "Z")
            r = h.verb(id, "restart")
            self.assertEqual((r.status, harness.stat_of(first) is not None), (200, True), r)
            self.assertNotIn("can't be told whether", h.log())
        finally:
            p.communicate("")
        h.stop()


@harness.needs_root
class Strangers(Trees):
    def test_who_has_left_is_let_go(self):
        """Between its listing and the pidfd a member leaves the leaf: it stands for a pid that is somebody else's by now."""
        h = self.host(cgroup=True)
        h.worker("it", "--children 1")
        h.start()
        main = h.until("it", "UP")["pid"]
        child, = eventually(lambda: set(h.processes("it")) - {main}, what="the child has begun")
        elsewhere = h.cgroup_dir() + "/elsewhere"
        os.mkdir(elsewhere)
        self.addCleanup(os.rmdir, elsewhere)
        self.addCleanup(self.kill, [child])
        # what has ended is copied to disk a second later, by a helper, which is held by a pidfd too
        eventually(lambda: not [p for p in harness.children(h.pid) if harness.name_of(p) == "agentd"])
        tracer = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-e", "inject=pidfd_open:delay_enter=1500000:when=1", "-p", str(h.pid)])
        self.addCleanup(lambda: (tracer.kill(), tracer.wait()))
        eventually(lambda: "TracerPid:\t%d" % tracer.pid in open("/proc/%d/status" % h.pid, encoding="ascii").read())
        caller = threading.Thread(target=lambda: h.operation("it", "restart"))  # of which nothing goes to disk
        caller.start()
        harness.wait_gone(main)  # it hears the signal first
        with open(elsewhere + "/cgroup.procs", "w", encoding="ascii") as f:
            f.write("%d" % child)
        caller.join(harness.DEADLINE)
        self.assertEqual((h.record("it")["state"], h.record("it")["generation"]), ("UP", 2))
        self.assertTrue(is_alive(child), "a stranger was ended")


del Trees
