# SPDX-License-Identifier: Apache-2.0
"""Why a worker is as it is, and what it was before: /why and /history, and agentctl's verbs for them."""
import datetime
import os
import random
import signal
import threading
import unittest

import harness
import test_upgrade
from harness import Case, both, eventually, wait_gone

MISSING = "/nonexistent/program"
SLOT, SLOTS = 256, 32


class Past(Case):
    def past(self, h, alias, more=""):
        return h.ok("GET", "/agentd/v1/workers/%s/history%s" % (alias, more))["contents"]

    def ended(self, h, alias, generation):
        """That incarnation, once it is told to have ended."""
        def look():
            return next((e for e in self.past(h, alias) if e["generation"] == generation and e["exit"]), None)
        return eventually(look, what="the end of %s's generation %d" % (alias, generation))

    def why(self, h, alias):
        return h.ok("GET", "/agentd/v1/workers/%s/why" % alias)["contents"]

    def cause(self, h, alias, kind, worker=None):
        found = [c for c in self.why(h, alias) if c["kind"] == kind and c["worker"] == (worker or alias)]
        self.assertEqual(len(found), 1, (kind, self.why(h, alias)))
        return found[0]

    def unique(self, past):
        """Generations go down by one, none is there twice."""
        self.assertEqual([e["generation"] for e in past], list(range(past[0]["generation"], past[-1]["generation"] - 1, -1)))

    def at(self, text):
        return datetime.datetime.fromisoformat(text)


@both
class History(Past):
    cgroup = True

    def test_each_beginning_and_end(self):
        h = self.host(cgroup=self.cgroup)
        me = "uid:%d" % os.geteuid()
        h.worker("a", section="ReadyCheck=stable:20ms", service="Restart=always\nRestartSec=0")
        h.worker("missing", command=MISSING, service="Restart=no")
        h.worker("bad", "--exit 3", service="Restart=no", section="ReadyCheck=stable:10s")
        h.start()
        first = h.until("a", "UP")
        e = self.past(h, "a")
        self.assertEqual(len(e), 1)
        self.assertEqual((e[0]["generation"], e[0]["pid"], e[0]["reason"], e[0]["actor"], e[0]["operation"], e[0]["exit"], e[0]["endedAt"], e[0]["durationMs"]),
                         (1, first["pid"], "wanted", "config", "", None, None, None))
        self.assertGreaterEqual(e[0]["readyMs"], 15)
        self.assertLessEqual(self.at(e[0]["startedAt"]), self.at(e[0]["readyAt"]))
        r = h.http("POST", "/agentd/v1/workers/a/restart")
        op = r.headers["Agentd-Operation"]
        e = self.past(h, "a")
        self.assertEqual([(x["generation"], x["reason"], x["actor"], x["operation"]) for x in e],
                         [(2, "restart-requested", me, op), (1, "wanted", "config", "")])
        self.assertEqual(e[1]["exit"], {"kind": "killed", "status": 15, "signal": 15, "reason": "restart-requested"})
        self.assertLessEqual(self.at(e[1]["endedAt"]), self.at(e[0]["readyAt"]))
        os.kill(h.record("a")["pid"], signal.SIGKILL)
        e = self.ended(h, "a", 2)
        self.assertEqual(e["exit"], {"kind": "killed", "status": 9, "signal": 9, "reason": "exited"})
        h.until("a", "UP")
        e = self.past(h, "a")[0]
        self.assertEqual((e["generation"], e["reason"], e["actor"], e["operation"]), (3, "exited", "agentd", ""))
        h.ok("POST", "/agentd/v1/workers/a/stop")
        self.assertEqual(self.past(h, "a")[0]["exit"]["reason"], "stop-requested")
        e = self.ended(h, "missing", 1)
        self.assertEqual((e["exit"]["kind"], e["exit"]["reason"], e["readyAt"]), ("spawn-failed", "spawn-failed", None))
        e = self.ended(h, "bad", 1)
        self.assertEqual((e["exit"], e["readyAt"]), ({"kind": "exited", "status": 3, "reason": "exited"}, None))
        self.assertEqual([x["generation"] for x in self.past(h, "a", "?from=1")], [2, 1])
        self.assertEqual(self.past(h, "a", "?from=9"), [])
        self.assertEqual(h.http("GET", "/agentd/v1/workers/a/history?from=x").status, 400)
        self.assertEqual(h.http("GET", "/agentd/v1/workers/nobody/history").status, 404)
        out = h.ctl("history", "a").stdout.splitlines()
        self.assertEqual(len(out), 3)
        self.assertIn("generation 2", out[1])
        self.assertIn("; killed 9, exited, after", out[1])
        h.stop()

    def test_the_last_ones(self):
        """As many as there is room for, and not one more, also over agentd's death."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.worker("b")
        h.start()
        h.until("a", "UP")
        for _ in range(SLOTS + 5):
            self.assertEqual(h.operation("a", "restart").status, 200)
        for _ in range(2):
            past = self.past(h, "a")
            self.assertEqual(len(past), SLOTS)
            self.assertEqual(past[0]["generation"], SLOTS + 6)
            self.unique(past)
            self.assertEqual([x["exit"] is None for x in past], [True] + [False] * (SLOTS - 1))
            self.assertEqual(len(self.past(h, "b")), 1)
            h.kill()
            h.start()
            h.until("a", "UP")
        h.stop()

    def test_over_deaths(self):
        """Nothing twice, nothing lost: what ended unseen is said to be unknown, what runs on goes on."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a", section="ReadyCheck=stable:1ms")
        h.worker("b", section="ReadyCheck=stable:1ms")
        h.start()
        a, b = h.until("a", "UP")["pid"], h.until("b", "UP")
        h.kill()
        os.kill(a, signal.SIGKILL)
        wait_gone(a)
        before = self.at(b["since"])
        h.start()
        h.until("a", "UP")
        h.until("b", "UP")
        new, old = self.past(h, "a")
        self.assertEqual((old["generation"], old["pid"], old["exit"]["kind"], old["exit"]["status"], old["exit"]["reason"], old["endedAt"]),
                         (1, a, "unknown", None, "exited-unobserved", None))
        self.assertEqual((new["generation"], new["reason"]), (2, "exited-unobserved"))
        kept = self.past(h, "b")
        self.assertEqual([(x["generation"], x["pid"], x["exit"]) for x in kept], [(1, b["pid"], None)])
        self.assertLessEqual(self.at(kept[0]["readyAt"]), before + datetime.timedelta(seconds=1))
        os.kill(b["pid"], signal.SIGTERM)
        self.ended(h, "b", 1)
        h.stop()

    def test_killed_amid_restarts(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.start()
        h.until("a", "UP")
        rnd = random.Random(harness.SEED)
        for _ in range(6):
            t = threading.Thread(target=self.restart_often, args=(h, rnd.randrange(1, 4)))
            want = h.record("a")["generation"] + 1
            t.start()
            eventually(lambda: self.generation(h) >= want, what="a restart")  # pylint: disable=cell-var-from-loop
            h.kill()
            t.join()
            h.start()
            h.until("a", "UP")
        past = self.past(h, "a")
        self.unique(past)
        self.assertEqual(past[0]["generation"], h.record("a")["generation"])
        self.assertEqual([x["exit"] is None for x in past], [True] + [False] * (len(past) - 1))
        h.stop()

    def generation(self, h):
        try:
            return h.record("a")["generation"]
        except OSError:
            return 1 << 30

    def restart_often(self, h, n):
        for _ in range(n):
            try:
                h.operation("a", "restart")
            except (OSError, harness.http.client.HTTPException):
                return

    def test_damaged(self):
        """A record that is not whole is left out, and no other; a file that is none of ours begins anew."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.start()
        h.until("a", "UP")
        for _ in range(4):
            h.operation("a", "restart")
        h.stop()
        with open(h.state + "/history", "r+b") as f:
            f.seek(SLOT * (2 + 3) + 100)  # the third of the first block
            f.write(b"\xff\xff\xff")
        h.start()
        h.until("a", "UP")
        self.assertEqual([x["generation"] for x in self.past(h, "a")], [6, 5, 4, 2, 1])
        h.stop()
        with open(h.state + "/history", "wb") as f:
            f.write(os.urandom(100000))
        h.start()
        h.until("a", "UP")
        self.assertEqual(len(self.past(h, "a")), 1)
        h.stop()

    def test_forgotten_with_the_worker(self):
        """One that comes back begins anew, and its place is used again."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.worker("b")
        h.start()
        h.until("a", "UP")
        h.operation("a", "restart")
        for _ in range(2):
            h.remove("a")
            h.ok("POST", "/agentd/v1/reload")
            eventually(lambda: "a" not in h.all(), what="a gone")
            h.worker("a")
            h.ok("POST", "/agentd/v1/reload")
            h.until("a", "UP")
            self.assertEqual([e["generation"] for e in self.past(h, "a")], [1])
            self.assertEqual(len(self.past(h, "b")), 1)
        self.assertLessEqual(os.stat(h.state + "/history").st_size, SLOT * (1 + 2 * (1 + SLOTS)))
        h.stop()

    def test_upgrade(self):
        h = test_upgrade.Installed(cgroup=self.cgroup)
        self.addCleanup(self.finish, h)
        h.worker("a")
        h.start()
        h.until("a", "UP")
        h.operation("a", "restart")
        self.assertEqual(h.ctl("--private", h.run + "/private", "upgrade").returncode, 0)
        self.assertEqual([(x["generation"], x["exit"] is None) for x in self.past(h, "a")], [(2, True), (1, False)])
        os.kill(h.record("a")["pid"], signal.SIGKILL)
        self.assertEqual(self.ended(h, "a", 2)["exit"]["signal"], 9)
        h.stop()

    def test_overlap(self):
        """Two at once, each with its own end."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a", section="RestartMode=overlap\nReadyCheck=stable:5ms")
        h.start()
        h.until("a", "UP")
        op = h.http("POST", "/agentd/v1/workers/a/restart").headers["Agentd-Operation"]
        new, old = self.past(h, "a")
        self.assertEqual((new["generation"], new["operation"], new["exit"]), (2, op, None))
        self.assertEqual((old["generation"], old["exit"]["kind"]), (1, "killed"))
        if self.cgroup:  # else it was not run beside it
            self.assertLessEqual(self.at(new["readyAt"]), self.at(old["endedAt"]))
        h.stop()


@both
class Why(Past):
    cgroup = True

    def test_up_and_down(self):
        h = self.host(cgroup=self.cgroup)
        me = "uid:%d" % os.geteuid()
        h.worker("a")
        h.start()
        h.until("a", "UP")
        c = self.why(h, "a")
        self.assertEqual([x["kind"] for x in c], ["state", "start", "goal"])
        self.assertEqual((c[0]["what"], c[1]["by"], c[2]["by"], c[2]["what"]), ("UP, ready", "config", "config", "wanted UP"))
        r = h.http("POST", "/agentd/v1/workers/a/stop", headers={"Agentd-Reason": "too\tloud"})
        op = r.headers["Agentd-Operation"]
        c = self.why(h, "a")
        self.assertEqual(c[0]["what"], "DOWN, stop-requested")
        goal = self.cause(h, "a", "goal")
        self.assertEqual((goal["what"], goal["by"], goal["source"], goal["operation"]), ("wanted DOWN", me, "unix", op))
        self.assertIn("loud", goal["reason"])
        self.assertIn("killed by signal 15 (SIGTERM)", self.cause(h, "a", "exit")["what"])
        times = [self.at(x["at"]) for x in c if x["at"]]
        self.assertEqual(times, sorted(times, reverse=True))
        op = h.http("POST", "/agentd/v1/workers/a/start").headers["Agentd-Operation"]
        self.assertEqual((self.cause(h, "a", "start")["operation"], self.cause(h, "a", "goal")["operation"]), (op, op))
        out = h.ctl("why", "a").stdout
        self.assertIn("wanted UP, by %s from unix (operation %s)" % (me, op), out)
        self.assertEqual(h.ctl("why").returncode, 2)
        self.assertEqual(h.ctl("why", "nobody").returncode, 1)
        h.stop()

    def test_fails_and_fails(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--exit 7", service="StartLimitBurst=2\nRestartSec=1ms\nStartLimitIntervalSec=1h")
        h.start()
        h.until("a", "COOLDOWN")
        c = self.why(h, "a")
        self.assertIn("COOLDOWN, start-limit", c[0]["what"])
        self.assertIn("exited with status 7", self.cause(h, "a", "exit")["what"])
        self.assertRegex(self.cause(h, "a", "retry")["what"], r"^the next start is due: \d+ in a row")
        self.assertEqual(self.cause(h, "a", "start")["by"], "agentd")
        self.assertEqual(self.cause(h, "a", "goal")["by"], "config")
        h.stop()

    def test_waits_for_others(self):
        """Over as many as it takes: who is in the way, how it is with that one, and by whose wish."""
        h = self.host(cgroup=self.cgroup)
        me = "uid:%d" % os.geteuid()
        h.worker("base", "", "Type=notify\nTimeoutStartSec=1h")
        h.write("workers.d/mid.conf", "[Unit]\nRequires=base\nAfter=base\n[Service]\nExecStart=%s\n" % harness.WORKER)
        h.write("workers.d/top.conf", "[Unit]\nRequires=mid\nAfter=mid\n[Service]\nExecStart=%s\n" % harness.WORKER)
        h.start()
        h.meets("top", phase="waiting")
        kinds = [(c["kind"], c["worker"]) for c in self.why(h, "top")]
        for want in (("state", "top"), ("dependency", "mid"), ("state", "mid"), ("dependency", "base"), ("state", "base"), ("goal", "base"), ("goal", "top")):
            self.assertIn(want, kinds)
        self.assertEqual(self.cause(h, "top", "dependency", "mid")["what"], "top: waits for it to be ready")
        self.assertIn("STARTING", self.cause(h, "top", "state", "base")["what"])
        op = h.http("POST", "/agentd/v1/workers/base/stop", headers={"Agentd-Reason": "rest"}).headers["Agentd-Operation"]
        goal = self.cause(h, "top", "goal", "base")
        self.assertEqual((goal["what"], goal["by"], goal["reason"], goal["operation"]), ("wanted DOWN", me, "rest", op))
        h.stop()

    def test_files_conditions_and_death(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.write("workers.d/c.conf", "[Unit]\nConditionPathExists=%s/there\n[Service]\nExecStart=%s\n" % (h.dir, harness.WORKER))
        h.start()
        h.until("a", "UP")
        eventually(lambda: h.record("c")["reason"] == "condition", what="the condition")
        self.assertIn("condition: ConditionPathExists=", self.cause(h, "c", "state")["what"])
        h.write("workers.d/a.conf", "[Service]\nExecStart=relative\nNonsense\n")
        h.http("POST", "/agentd/v1/reload")
        self.assertIn("its file is wrong", self.cause(h, "a", "definition")["what"])
        pid = h.record("a")["pid"]
        h.kill()
        h.start()
        h.until("a", "UP")
        self.assertEqual(self.cause(h, "a", "ownership")["what"], "process %d was running already, and was taken over" % pid)
        self.assertEqual(self.why(h, "a")[0]["what"], "UP, adopted")
        self.assertEqual(self.cause(h, "a", "start")["by"], "config")
        h.stop()


if __name__ == "__main__":
    unittest.main()
