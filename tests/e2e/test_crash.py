# SPDX-License-Identifier: Apache-2.0
"""Death at any moment: of a worker, of agentd, of its listener; and disks that are full."""
import contextlib
import http.client
import os
import random
import signal
import subprocess
import threading
import time

import harness
from bell import outlive
from harness import Case, both, eventually, is_alive

ROUNDS = 200 if harness.ALL else 8 if harness.SANITIZED else 40


@both
class OfAWorker(Case):
    ALONE = True
    cgroup = True

    def test_comes_back(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("web", "--children 1 --grandchild", section="ReadyCheck=stable:20ms")
        h.worker("other")
        h.start()
        before = h.all_up()
        for generation in (2, 3):
            old = h.processes("web")
            pid = h.record("web")["pid"]
            os.kill(pid, signal.SIGKILL)
            w = eventually(lambda g=generation: (lambda r: r["generation"] >= g and r["state"] == "UP" and r)(h.record("web")))
            self.assertEqual(w["generation"], generation)
            self.assertEqual((w["lastExit"]["kind"], w["lastExit"]["signal"], w["lastExit"]["pid"]), ("killed", 9, pid))
            self.assertEqual([p for p in old if is_alive(p)], [])
            h.tree("web", 3)
        self.assertEqual(h.record("other")["pid"], before["other"]["pid"])
        h.stop()

    def test_back_in_no_time(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("web")
        h.start()
        pid = h.all_up()["web"]["pid"]
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: [p for p in h.processes("web") if p != pid], 5)
        self.assertLess(time.monotonic() - began, 1, "the first retry waits for nothing")
        h.stop()


@both
class OfAgentd(Case):
    cgroup = True
    TREES = {"simple": 1, "tree": 4, "ready": 2, "told": 1}

    def check_all(self, h):
        """One instance of each worker, and nothing that this agentd does not know."""
        self.assertEqual(set(h.all()), set(self.TREES))

        def settled():
            """A restart that waited behind another one may still begin, and children come a moment after exec."""
            workers = h.all_up()
            return all(is_whole(workers[a], h.processes(a), n) for a, n in self.TREES.items())

        def is_whole(record, found, n):
            cookies = set(found.values())
            self.assertLessEqual(len(cookies), 1, "two generations at once: %r" % found)
            return len(found) == n and record["pid"] in found and cookies.pop().endswith(":%d" % record["generation"])
        try:
            eventually(settled, 10, "one tree each")
        except AssertionError as e:
            raise AssertionError("%s: %r\n%r\n%r" % (e, h.processes(), h.pids_of_all(), h.all())) from None

    def requests(self, h, rng):
        """Restarts that nobody may answer any more."""
        def ask(alias):
            with contextlib.suppress(OSError, http.client.HTTPException):
                h.operation(alias, "restart")
        threads = [threading.Thread(target=ask, args=(a,), daemon=True) for a in rng.choices(list(self.TREES), k=3)]
        for t in threads:
            t.start()
        return threads

    def test_at_any_moment(self):
        seed = harness.SEED
        rng = random.Random(seed)
        h = self.host(cgroup=self.cgroup)
        port = harness.free_port()
        h.worker("simple")
        h.worker("tree", "--children 2 --grandchild")
        h.worker("ready", "--delay 2 --children 1 --listen %d" % port, section="ReadyCheck=tcp:%d" % port)
        h.worker("told", "--delay 2 --notify READY=1", "Type=notify")
        rpcs = []
        for n in range(ROUNDS):
            with self.subTest(round=n, seed=seed):
                if h.proc and h.proc.poll() is None:
                    h.kill()  # the round before has failed
                # one in four dies before it says READY, at most a few ms after its start
                early = rng.random() < 0.25
                h.start(wait=not early)
                threads = [] if early else self.requests(h, rng)
                h.moment(rng, 90)
                rpcs += [p for p in harness.children(h.pid) if harness.name_of(p) == "agentd-rpc"]
                h.kill()
                for t in threads:
                    t.join(harness.DEADLINE)
                h.start()
                self.check_all(h)
                h.kill()
        if h.proc.poll() is None:
            h.kill()
        h.start()
        self.check_all(h)
        # no listener outlives its agentd
        for p in rpcs:
            with self.subTest("agentd-rpc goes", pid=p):
                if p not in harness.children(h.pid) and harness.name_of(p) == "agentd-rpc":
                    harness.wait_gone(p, 2)
        h.stop()

    def test_what_lasts(self):
        h = self.host(cgroup=self.cgroup)
        off = h.worker("off")
        on = h.worker("on", id=500)
        h.write("workers.d/free.conf", "[Service]\nExecStart=%s\n" % harness.WORKER)  # its id is given by agentd
        h.start()
        h.all_up()
        r = h.operation("off", "stop")
        self.assertEqual((r.status, r.data["result"], r.data["durable"]), (200, "done", True), r)
        before = h.all()
        for kill in (True, False, True):
            if kill:
                h.kill()
            else:
                h.stop()
            h.start()
            eventually(lambda: h.record("on")["state"] == "UP" and h.record("free")["state"] == "UP")
            now = h.all()
            for a, w in before.items():
                self.assertEqual([now[a][k] for k in ("id", "createTime", "goal", "goalBy")],
                                 [w[k] for k in ("id", "createTime", "goal", "goalBy")], a)
            self.assertEqual((now["off"]["state"], h.processes("off")), ("DOWN", {}))
            self.assertEqual(h.process(off)["updateTime"], now["off"]["updateTime"])
        self.assertEqual(h.process(on)["id"], 500)
        self.assertEqual(h.verb(off, "start").status, 200)
        h.kill()
        h.start()
        self.assertEqual(len(h.all_up()), 3)
        h.stop()

    def test_runs_on(self):
        """Nothing happens to a worker whose agentd dies: the next one finds it."""
        h = self.host(cgroup=self.cgroup)
        h.worker("web", "--children 1", section="ReadyCheck=stable:20ms")
        h.start()
        w = h.all_up()["web"]
        h.kill()
        h.tree(None, 2)
        h.start()
        again = h.all_up()["web"]
        self.assertEqual((again["pid"], again["generation"], again["ownership"]), (w["pid"], 1, "adopted"))
        os.kill(w["pid"], signal.SIGKILL)
        again = eventually(lambda: (lambda r: r["generation"] == 2 and r["state"] == "UP" and r)(h.record("web")))
        self.assertEqual((again["ownership"], len(set(h.processes().values()))), ("child", 1))
        h.kill()
        # it dies while no agentd looks: nobody saw how
        os.kill(again["pid"], signal.SIGKILL)
        harness.wait_gone(again["pid"])
        h.start()
        w = h.all_up()["web"]
        self.assertEqual(w["generation"], 3)
        h.tree(None, 2)
        h.stop()


class OfTheListener(Case):
    def test_under_requests(self):
        h = self.host()
        h.worker("web")
        gate = h.gate()
        slow = h.worker("slow", gate.args + "--slow-stop 30000 --notify READY=1", "Type=notify")
        h.start()
        worker = h.all_up()["web"]["pid"]
        refused, answered, lost, end = [], [0], [0], threading.Event()

        def ask():
            while not end.is_set():
                try:
                    if h.http("GET", "/agentd/v1/workers/web", timeout=10).status == 200:
                        answered[0] += 1
                except (ConnectionRefusedError, FileNotFoundError, BlockingIOError) as e:
                    refused.append(e)
                except (OSError, http.client.HTTPException):
                    lost[0] += 1  # it was being answered when the listener died
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for t in threads:
            t.start()
        try:
            for _ in range(10):
                old = h.rpc_pid()
                os.kill(old, signal.SIGKILL)
                before = answered[0]
                eventually(lambda b=before: answered[0] > b + 3, 10, "answers by a new listener")
                self.assertNotEqual(h.rpc_pid(), old)
                self.assertEqual(h.http("GET", "/agentd/v1/workers/web").status, 200)
                self.assertTrue(outlive([h.rpc_pid()], 0.12))  # beyond what is taken for a crash loop of it
        finally:
            end.set()
            for t in threads:
                t.join(harness.DEADLINE)
        self.assertEqual(refused, [])
        self.assertEqual(h.record("web")["pid"], worker)
        # an operation is not lost with the listener that brought it
        t = threading.Thread(target=ask_quietly, args=(h, slow))
        t.start()
        h.until("slow", "STOPPING")
        old = h.rpc_pid()
        os.kill(old, signal.SIGKILL)
        harness.wait_gone(old)
        gate.open()
        t.join(harness.DEADLINE)
        w = h.until("slow", "UP")
        self.assertEqual(w["generation"], 2)
        h.stop()


def ask_quietly(h, id):
    with contextlib.suppress(OSError, http.client.HTTPException):
        h.verb(id, "restart")


@harness.needs_root
class FullDisks(Case):
    def mounted(self, h, where):
        """A small file system of its own at where."""
        os.makedirs(where, mode=0o755, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "small", where], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", where], check=False)

    def fill(self, where):
        with open(where + "/ballast", "wb", buffering=0) as f:
            with contextlib.suppress(OSError):
                while True:
                    f.write(b"x" * 4096)

    def test_state(self):
        h = self.host()
        self.mounted(h, h.state)
        os.chmod(h.state, 0o700)
        a = h.worker("a")
        h.worker("b")
        h.start()
        h.all_up()
        self.fill(h.state)
        r = h.operation("a", "stop")
        self.assertEqual((r.status, r.data["result"], r.data["durable"]), (200, "done", False), r)
        self.assertEqual(h.processes("a"), {})
        self.assertEqual(h.verb(a, "start").status, 200)
        self.assertEqual(h.operation("b", "restart").status, 200)
        self.assertRegex(h.log(), "state can't be written")
        os.unlink(h.state + "/ballast")
        r = h.operation("a", "stop")
        self.assertEqual((r.status, r.data["durable"]), (200, True), r)
        h.stop()

    def test_state_is_written_later(self):
        """What could not be written is tried again by itself, and once more when agentd ends."""
        h = self.host()
        self.mounted(h, h.state)
        os.chmod(h.state, 0o700)
        for alias in ("a", "b"):
            h.worker(alias)
        h.start()
        h.all_up()

        def goal_on_disk(alias):
            with open(h.state + "/state", encoding="utf-8") as f:
                return next(line.split("\t")[4] for line in f if line.startswith(alias + "\t"))
        eventually(lambda: goal_on_disk("a") == "UP", what="the first state")
        self.fill(h.state)
        self.assertEqual(h.operation("a", "stop").data["durable"], False)
        self.assertEqual(goal_on_disk("a"), "UP")
        os.unlink(h.state + "/ballast")
        eventually(lambda: goal_on_disk("a") == "DOWN", what="the second try")
        self.fill(h.state)
        self.assertEqual(h.operation("b", "stop").data["durable"], False)
        os.unlink(h.state + "/ballast")
        h.stop()
        self.assertEqual(goal_on_disk("b"), "DOWN")
        h.start()
        self.assertEqual({a: w["goal"] for a, w in h.all().items()}, {"a": "DOWN", "b": "DOWN"})
        h.stop()

    def test_runtime(self):
        h = self.host()
        self.mounted(h, h.run)
        h.worker("a")
        h.start()
        h.all_up()
        self.fill(h.run)
        for _ in range(3):
            self.assertEqual(h.operation("a", "restart").status, 200)
        h.worker("late", "--children 1")
        for i in range(70):  # more than the file of facts has room for
            h.worker("w%d" % i)
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual(len(h.all_up()), 72)
        self.assertEqual(h.operation("late", "restart").status, 200)
        self.assertRegex(h.log(), "runtime directory can't be written")
        h.kill()
        h.start()
        self.assertEqual(len(h.all_up()), 72)
        for alias in ("late", "w69", "a"):
            self.assertEqual(len(set(h.processes(alias).values())), 1)
        h.stop()

    def test_logs(self):
        h = self.host()
        self.mounted(h, h.logs)
        id = h.worker("a", "--stdout x")
        h.start()
        h.all_up()
        self.fill(h.logs)
        self.assertEqual(h.verb(id, "restart").status, 200)
        h.stop()
