# SPDX-License-Identifier: Apache-2.0
"""agentctl on several workers: rolling, halted at the first failure; waiting, not waiting, keys and generations."""
import json
import os
import re
import subprocess

import harness
from harness import eventually
from test_ctl_calls import Base, Recorder
from test_ctl_top import Terminal


class Fleet(Base):
    def hosts(self, **how):
        """a, b and c, whose starts wait at the gate; b fails while there is a file."""
        self.h = h = self.host(**how)
        self.gate = h.gate()
        for alias in "abc":
            h.worker(alias, service="Restart=no\nExecStartPre=/usr/bin/test ! -e %s/broken-%s\nExecStartPre=/bin/sh -c '%s'"
                     % (h.dir, alias, self.gate.wait))
        h.start()
        self.gate.open()
        h.all_up()
        return h

    def restart(self, *args):
        p = subprocess.Popen([harness.STAGED + "/agentctl", "--socket", self.h.socket, *args], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=self.h.environment(), text=True)
        self.addCleanup(p.kill)
        return p

    def under_way(self, n):
        """So many wait at the gate, and what the others have is what they had."""
        def look():
            states = sorted(w["state"] for w in self.h.all().values())
            return states if states.count("STARTING") == n else None
        return eventually(look, what="%d that start" % n)

    def most_at_once(self):
        """Of the last three operations."""
        rows = self.h.ok("GET", "/agentd/v1/operations")["contents"][:3]
        return max(sum(o["created"] <= r["created"] < o["ended"] for o in rows) for r in rows)

    def end(self, p, code=0):
        out, err = p.communicate(timeout=harness.DEADLINE)
        self.assertEqual(p.returncode, code, (out, err))
        return out, err

    def test_rolling(self):
        h = self.hosts()
        for args, n in (((), 1), (("--max-unavailable", "2"), 2), (("--max-unavailable", "67%"), 2), (("--max-unavailable", "1%"), 1)):
            before = h.pids_of_all()
            self.gate.shut()
            p = self.restart("restart", "--all", *args)
            self.assertEqual(self.under_way(n), ["STARTING"] * n + ["UP"] * (3 - n))
            self.assertEqual(len([o for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["result"] == "running"]), n)
            self.gate.open()
            out, err = self.end(p)
            self.assertEqual(sorted(re.findall(r"^(\w): restarted in .*pid \d+ \u2192 \d+", out, re.M)), ["a", "b", "c"])
            self.assertEqual(err, "")
            self.assertEqual(self.most_at_once(), n)
            self.assertFalse(set(before.values()) & set(h.pids_of_all().values()))
        for bad in ("0", "x", "101%", "%", ""):
            self.ctl("restart", "--all", "--max-unavailable", bad, code=2)
        h.stop()

    def test_halted(self):
        h = self.hosts()
        h.write("broken-b", "")
        before = h.pids_of_all()
        r = self.ctl("restart", "--all", code=1)
        self.assertRegex(r.stdout, "^a: restarted")
        self.assertRegex(r.stderr, r"b: (.|\n)*halted\n    done: a\n    failed: b\n    not touched: c\n$")
        self.assertEqual(h.record("c")["pid"], before["c"])
        # several at once: who was begun is waited for
        os.unlink(h.dir + "/broken-b")
        h.write("broken-a", "")
        self.gate.shut()
        p = self.restart("-o", "json", "restart", "a", "b", "c", "--max-unavailable", "2")
        self.assertRegex(p.stderr.readline(), "a: failed: ")
        self.gate.open()
        out, err = self.end(p, 1)
        self.assertRegex(err, r"halted\n    done: b\n    failed: a\n    not touched: c\n$")
        self.assertEqual({o["alias"]: o["result"] for o in json.loads(out)}, {"a": "failed", "b": "done"})
        self.assertEqual(h.record("c")["pid"], before["c"])
        h.stop()

    def test_who(self):
        h = self.hosts()
        h.worker("fixed", section="Operable=no")
        h.worker("awe")
        self.ctl("reload")
        h.all_up()
        self.ctl("stop", "b")
        before = h.pids_of_all()
        r = self.ctl("restart", "--all")
        self.assertEqual(re.findall(r"^(\w+): restarted", r.stdout, re.M), ["a", "c", "awe"])
        self.assertIn("fixed: left out: Operable=no", r.stderr)
        self.assertIn("b: left out: it is not wanted up", r.stderr)
        now = h.pids_of_all()
        self.assertEqual((now["b"], now["fixed"]), (0, before["fixed"]))
        r = self.ctl("start", "--match", "[ab]")
        self.assertRegex(r.stdout, r"^a: was running already: .*\nb: started ")
        self.assertEqual(re.findall(r"^(\w+): stopped", self.ctl("stop", "--match", "a*").stdout, re.M), ["a", "awe"])
        self.assertIn("no worker matches", self.ctl("stop", "--match", "z*", code=1).stderr)
        self.ctl("stop", "--all", "c", code=2)
        self.assertEqual(h.record("c")["state"], "UP")
        h.stop()

    def test_question(self):
        h = self.hosts()
        before = h.pids_of_all()
        for answer, code in (("n", 1), ("y", 0)):
            t = Terminal(self, h, "restart", "--match", "[ab]")
            t.until("restart a b\r\nThese 2 workers? [y/N] ")
            os.write(t.fd, answer.encode() + b"\n")
            self.assertEqual(t.end(), code)
            self.assertEqual(h.pids_of_all() == before, answer == "n")
        # what is under way is told on a terminal, and is gone in the end
        self.assertIn("\r\033[K0 of 2 done: restart a\r\033[Ka: restarted", t.seen)
        self.assertIn("\r\033[K1 of 2 done: restart b\r\033[Kb: restarted", t.seen)
        self.assertTrue(t.seen.endswith("\r\033[K"), t.seen)
        t = Terminal(self, h, "stop", "--all", "-y")
        self.assertEqual(t.end(), 0)
        self.assertNotIn("[y/N]", t.seen)
        self.assertEqual(set(h.pids_of_all().values()), {0})
        h.stop()

    def test_waits(self):
        h = self.hosts(rpc="ReplyDeadlineSec=1")
        self.gate.shut()
        r = self.ctl("restart", "a", "b", "--wait", "0", code=4)
        self.assertRegex(r.stderr, r"a: restart is still going on: operation \w+\n.*halted\n    still going on: a\n    not touched: b\n$")
        self.gate.open()
        h.until("a", "UP")
        # longer than agentd itself would
        self.gate.shut()
        recorder = Recorder(h)
        self.addCleanup(recorder.close)
        p = subprocess.Popen([harness.STAGED + "/agentctl", "--url", recorder.url, "restart", "a", "--wait", "60"],
                             stdout=subprocess.PIPE, env=h.environment(), text=True)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.kill)
        eventually(lambda: any(path.startswith("/agentd/v1/operations/") for _, path in recorder.asked), what="a look")
        self.gate.open()
        self.assertRegex(p.communicate(timeout=harness.DEADLINE)[0], "^a: restarted")
        self.assertEqual(p.returncode, 0)
        h.stop()

    def test_async(self):
        h = self.hosts()
        self.gate.shut()
        r = self.ctl("restart", "a", "b", "--async", "--reason", "because")
        ids = re.findall(r"^\w: operation (\w+)$", r.stdout, re.M)
        self.under_way(2)
        for id in ids:
            o = h.ok("GET", "/agentd/v1/operations/" + id)
            self.assertEqual((o["result"], o["reason"]), ("running", "because"))
        self.assertEqual(len(ids), 2)
        self.gate.open()
        h.all_up()
        self.assertEqual([o["verb"] for o in json.loads(self.ctl("-o", "json", "stop", "a", "b", "--async").stdout)], ["stop"] * 2)
        self.ctl("restart", "a", "--async", "--wait", "1", code=2)
        h.stop()

    def test_conditions(self):
        h = self.hosts()
        generation = h.record("a")["generation"]
        self.assertIn("generation", self.ctl("restart", "a", "--if-match", str(generation + 1), code=1).stderr)
        self.ctl("restart", "a", "--if-match", str(generation))
        self.assertEqual(h.record("a")["generation"], generation + 1)
        for _ in range(2):
            self.ctl("restart", "a", "--idempotency-key", "once")
        self.assertEqual(h.record("a")["generation"], generation + 2)
        for bad in (("a", "b", "--idempotency-key", "k"), ("a", "b", "--if-match", "1"), ("a", "--if-match", '1"'),
                    ("a", "--wait", "x"), ("a" * 65,)):
            self.ctl("restart", *bad, code=2)
        h.stop()
