# SPDX-License-Identifier: Apache-2.0
"""The audit trail: who asked for what, from where, why, and what became of it; and that nobody can change it unseen.

The chain is computed here a second time, from the manual's words.
"""
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import unittest

import harness
import test_upgrade
from harness import STAGED, Case, eventually, needs_root
from test_auth import basic, sha256

OPERATION = "/agentd/v1/operations/"
HEAD_LEN = 160


def digest(line):
    return hashlib.sha256(line).hexdigest()


def chain(bodies, seq=0, prev=digest(b"agentd audit")):
    """Lines with these fields, and the last one's hash."""
    lines = []
    for body in bodies:
        seq += 1
        lines.append(b'{"seq":%d,"prev":"%s",%s}' % (seq, prev.encode(), body))
        prev = digest(lines[-1])
    return lines, seq, prev


def head(last, hash, first):
    return ("agentd-audit 1 last=%d hash=%s first=%d" % (last, hash, first)).ljust(HEAD_LEN - 1).encode() + b"\n"


class Trail:
    """The files of a folder."""

    def __init__(self, state):
        self.state = state

    def names(self):
        found = [n for n in os.listdir(self.state) if re.fullmatch(r"audit(\.\d+)?", n)]
        return sorted(found, key=lambda n: -int(n[6:] or 0))

    def path(self, name="audit"):
        return os.path.join(self.state, name)

    def read(self, name="audit"):
        with open(self.path(name), "rb") as f:
            return f.read()

    def write(self, data, name="audit"):
        with open(self.path(name), "wb") as f:
            f.write(data)

    def lines(self):
        return [line for n in self.names() for line in self.read(n).split(b"\n")[:-1]]

    def records(self):
        return [json.loads(line) for line in self.lines()]

    def find(self, **want):
        """The one record with these fields."""
        found = [r for r in self.records() if all(r.get(k) == v for k, v in want.items())]
        assert len(found) == 1, (want, found)
        return found[0]

    def broken(self):
        """What is wrong with the chain, by our own reckoning; None: nothing."""
        seq, prev = 0, digest(b"agentd audit")
        for line in self.lines():
            r = json.loads(line)
            if (seq or r["seq"] == 1) and (r["seq"], r["prev"]) != (seq + 1, prev):
                return r
            seq, prev = r["seq"], digest(line)
        with open(self.path("audit.head"), "rb") as f:
            text = f.read()
        said = re.match(rb"agentd-audit 1 last=(\d+) hash=([0-9a-f]{64}) first=(\d+) *\n$", text)
        return None if said and (int(said[1]), said[2].decode()) == (seq, prev) and len(text) == HEAD_LEN else text


class Audit(Case):
    def up(self, cls=None, **how):
        h = (cls or self.host)(**how)
        if cls:
            self.addCleanup(self.finish, h)
        h.worker("a", section="ReadyCheck=stable:1ms")
        h.start()
        h.until("a", "UP")
        self.trail = Trail(h.state)
        return h

    def verify(self, h, *more):
        return subprocess.run([STAGED + "/agentctl", "audit", "verify", *(more or (h.state,))], capture_output=True, text=True,
                              check=False)

    def whole(self, h):
        r = self.verify(h)
        self.assertEqual((r.returncode, r.stderr), (0, ""), r)
        self.assertRegex(r.stdout, r"^whole: \d+ records in ")
        self.assertIsNone(self.trail.broken())
        return r.stdout


class Written(Audit):
    def test_each_way_in(self):
        """Who, from where, what, why, and what became of it; for what is done and for what is refused."""
        h = self.up()
        me = "uid:%d" % os.geteuid()
        h.worker("fixed", section="Operable=no")
        h.proc.send_signal(signal.SIGHUP)
        eventually(lambda: "fixed" in h.all(), what="the reload")
        r = h.http("POST", "/agentd/v1/workers/a/restart?secret=x", headers={"Agentd-Reason": "a \"new\" \u00fc\u009b".encode().decode("latin1")})
        op = r.headers["Agentd-Operation"]
        asked = self.trail.find(operation=op, event="request")
        self.assertEqual({k: asked[k] for k in ("actor", "source", "what", "verb", "alias", "reason", "result")},
                         {"actor": me, "source": "unix", "what": "POST /agentd/v1/workers/a/restart", "verb": "restart", "alias": "a",
                          "reason": "a \"new\" \u00fc\u009b", "result": "accepted"})
        self.assertNotIn(b"\xc2\x9b", b"".join(self.trail.lines()), "a terminal would obey it")
        end = self.trail.find(operation=op, event="end")
        self.assertEqual((end["result"], end["alias"], end["actor"]), ("done", "a", me))
        self.assertGreater(end["seq"], asked["seq"])
        self.assertRegex(asked["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$")
        hup = self.trail.find(what="SIGHUP")
        self.assertEqual((hup["actor"], hup["source"], hup["verb"], hup["result"]), (me, "signal", "reload", "accepted"))
        self.assertEqual(self.trail.find(operation=hup["operation"], event="end")["result"], "done")

        key = {"Idempotency-Key": "k1"}
        first = h.http("POST", "/agentd/v1/workers/a/signal?signal=CONT", headers=key).headers["Agentd-Operation"]
        h.http("POST", "/agentd/v1/workers/a/signal?signal=CONT", headers=key)
        self.assertEqual(self.trail.find(operation=first, result="accepted")["signal"], "CONT")
        self.assertEqual(self.trail.find(operation=first, result="joined")["verb"], "signal")
        self.refused(h, "POST", "/agentd/v1/workers/fixed/stop", 409, alias="fixed", verb="stop")
        self.refused(h, "POST", "/agentd/v1/workers/a/stop", 412, {"If-Match": '"77"'}, alias="a")
        self.refused(h, "POST", "/agentd/v1/workers/a/stop", 403, {"Origin": "http://evil.example"})
        self.refused(h, "DELETE", OPERATION + op, 409, verb="cancel", operation=op)
        task = h.ok("POST", "/compute/hosts/%d/agent/start" % harness.HOST_ID)
        self.assertEqual(self.trail.find(verb="start-all", event="request")["what"], "POST /compute/hosts/%d/agent/start" % harness.HOST_ID)
        eventually(lambda: h.ok("GET", "/tasks/instances/%d" % task["id"])["status"] == "SUCCESSFUL", what="the task")
        self.assertEqual(self.trail.find(verb="start", event="request")["source"], "task:%d" % task["id"])
        self.assertEqual(h.ctl("--private", h.run + "/private", "--reason", "mine", "adopt", "a", str(os.getpid())).returncode, 1)
        adopt = self.trail.find(verb="adopt", event="request")
        self.assertEqual((adopt["actor"], adopt["source"], adopt["pid"], adopt["reason"]), (me, "private", os.getpid(), "mine"))
        before = len(self.trail.lines())
        h.record("a")
        h.http("GET", "/agentd/v1/operations")
        self.assertEqual(len(self.trail.lines()), before, "who only looks is not on record")
        h.stop()
        self.assertEqual([(r["what"], r.get("actor")) for r in self.trail.records() if r["event"] == "agentd"],
                         [("started", None), ("stop", me), ("stopped", None)])
        self.assertNotIn("secret", str(self.trail.lines()))
        self.assertEqual(os.stat(self.trail.path()).st_mode & 0o7777, 0o600)
        self.whole(h)
        shown = subprocess.run([STAGED + "/agentctl", "audit", "show", "--config", h.dir + "/agentd.conf"], capture_output=True, text=True,
                               check=True).stdout.splitlines()
        self.assertEqual(len(shown), len(self.trail.lines()))
        self.assertIn("%s@unix POST /agentd/v1/workers/a/restart restart a: accepted %s" % (me, op), "\n".join(shown))
        shown = subprocess.run([STAGED + "/agentctl", "audit", "show", h.state, "-o", "json", "-n", "3"], capture_output=True, check=True)
        self.assertEqual(json.loads(shown.stdout), self.trail.records()[-3:])

    def refused(self, h, method, path, status, headers=None, **want):
        before = len(self.trail.lines())
        self.assertEqual(h.http(method, path, headers=headers).status, status)
        eventually(lambda: len(self.trail.lines()) > before, what="the record")
        r = self.trail.records()[before]
        self.assertEqual((r["event"], r["result"], r["status"], r["what"]), ("request", "refused", status, "%s %s" % (method, path)), r)
        self.assertTrue(r["message"])
        for k, v in want.items():
            self.assertEqual(r[k], v)
        return r

    def test_too_many_wait(self):
        """Who can't be told of an operation's end has not joined it: he was refused."""
        h = self.host()
        gate = h.gate()
        gate.open()
        number = h.worker("a", section="ReadyCheck=exec:/bin/sh -c 'read _ <%s'" % gate.path)
        h.start()
        h.until("a", "UP")
        self.trail = Trail(h.state)
        h.operation("a", "stop")
        gate.shut()
        n, most = 300, 256
        w = test_upgrade.Wire(h)
        self.addCleanup(w.close)
        for call in range(1, n + 1):
            w.call(test_upgrade.VERBS["start"], number, call=call)

        def starts():
            return [r for r in self.trail.records() if r.get("verb") == "start" and r["event"] == "request"]
        eventually(lambda: len(starts()) == n, what="all of them in the trail")
        gate.open()
        h.until("a", "UP")
        h.stop()
        self.assertEqual([sum(r["result"] == x for r in starts()) for x in ("accepted", "joined", "refused")], [1, most - 1, n - most])
        self.assertEqual({(r["status"], r["message"]) for r in starts() if r["result"] == "refused"}, {(429, "too many callers wait for this operation")})
        self.whole(h)

    def test_over_tcp(self):
        """Names of credentials, addresses; 401, 403 and 429, and no secret."""
        self.port = harness.free_port()
        h = self.host(cgroup=False, rpc="ListenStream=127.0.0.1:%d" % self.port)
        h.write("credentials", "bearer ops HOST_MANAGER %s\nbearer eye HOST_VIEWER %s\nbasic joe HOST_VIEWER $5$x$6n5Un4bWj8s\n"
                % (sha256("good"), sha256("look")), 0o600)
        h.worker("a")
        h.start()
        h.until("a", "UP")
        self.trail = Trail(h.state)
        path = "/agentd/v1/workers/a/restart"

        def post(authorization, source="127.0.0.1"):
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.DEADLINE, source_address=(source, 0))
            c.request("POST", path, headers={"Content-Length": "0", **({"Authorization": authorization} if authorization else {})})
            r = c.getresponse()
            r.read()
            c.close()
            return r
        op = post("Bearer good").headers["Agentd-Operation"]
        self.assertEqual(self.trail.find(operation=op, event="request")["actor"], "bearer:ops")
        self.assertEqual(self.trail.find(operation=op, event="request")["source"], "127.0.0.1")
        self.assertEqual(post("Bearer look", "127.0.0.2").status, 403)
        r = eventually(lambda: self.trail.records()[-1].get("status") == 403 and self.trail.records()[-1], what="403")
        self.assertEqual((r["actor"], r["source"], r["what"]), ("bearer:eye", "127.0.0.2", "POST " + path))
        self.assertEqual(post(basic("joe", "hunter2"), "127.0.0.3").status, 401)
        r = eventually(lambda: self.trail.records()[-1].get("status") == 401 and self.trail.records()[-1], what="401")
        self.assertEqual((r.get("actor"), r["source"]), (None, "127.0.0.3"))
        while post(basic("joe", "hunter2"), "127.0.0.3").status != 429:
            pass
        r = eventually(lambda: self.trail.records()[-1].get("status") == 429 and self.trail.records()[-1], what="429")
        self.assertEqual(r["source"], "127.0.0.3")
        self.assertNotRegex(str(self.trail.lines()), "hunter2|good|Authorization|%s" % basic("joe", "hunter2").split()[1])
        h.stop()
        self.whole(h)

    def test_flood(self):
        """Refusals beyond a rate are counted, and none is forgotten."""
        h = self.up()
        n = 500
        c = h.connect()
        for _ in range(n):
            c.request("POST", "/agentd/v1/workers/a/stop", headers={"Origin": "http://evil.example", "Content-Length": "0"})
            r = c.getresponse()
            r.read()
            self.assertEqual(r.status, 403)
        c.close()

        def told():
            records = self.trail.records()
            return (sum(r.get("result") == "refused" for r in records), sum(r["count"] for r in records if r["event"] == "refusals"))
        eventually(lambda: sum(told()) == n, what="all of them in the trail")
        self.assertLessEqual(told()[0], 60)
        self.assertEqual(h.record("a")["generation"], 1)
        h.stop()
        self.assertEqual(sum(told()), n)
        self.whole(h)

    def test_flood_of_nobody(self):
        """Who has no credential takes no room from what is said of those who have one."""
        port = harness.free_port()
        h = self.host(cgroup=False, rpc="ListenStream=127.0.0.1:%d" % port)
        h.write("credentials", "bearer eye HOST_VIEWER %s\n" % sha256("look"), 0o600)
        h.worker("a")
        h.start()
        h.until("a", "UP")
        self.trail = Trail(h.state)
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=harness.DEADLINE)
        self.addCleanup(c.close)

        def post(**headers):
            c.request("POST", "/agentd/v1/workers/a/stop", headers={"Content-Length": "0", **headers})
            r = c.getresponse()
            r.read()
            return r.status
        for _ in range(2):  # the sum of the first ones is written: there is no room left of a second before
            self.assertEqual([post() for _ in range(300)], [401] * 300)
            eventually(lambda: any(r["event"] == "refusals" for r in self.trail.records()), what="those that are only counted")
        self.assertEqual(post(Authorization="Bearer look"), 403)
        r = eventually(lambda: next((r for r in self.trail.records() if r.get("status") == 403), None), what="403")
        self.assertEqual((r["actor"], r["what"]), ("bearer:eye", "POST /agentd/v1/workers/a/stop"))
        h.stop()
        self.whole(h)

    def test_listener_floods_agentd(self):
        """agentd bounds by itself what its listener says: here it comes from elsewhere, a refusal each."""
        h = self.up()
        h.worker("fixed", section="Operable=no")
        h.ok("POST", "/agentd/v1/reload")
        c = h.connect()
        for _ in range(200):  # refused by agentd itself
            c.request("POST", "/agentd/v1/workers/fixed/stop", headers={"Content-Length": "0"})
            r = c.getresponse()
            r.read()
            self.assertEqual(r.status, 409)
        c.close()
        h.stop()
        records = self.trail.records()
        single = sum(r.get("result") == "refused" for r in records)
        self.assertLessEqual(single, 61)
        self.assertEqual(single + sum(r["count"] for r in records if r["event"] == "refusals"), 200)
        self.whole(h)


class Kept(Audit):
    def test_killed_at_any_time(self):
        """agentd is killed amid changes, again and again: the chain is whole, and what was answered is in it."""
        h = self.up()
        answered = []

        def ask(stop):
            while not stop.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    r = h.http("POST", "/agentd/v1/workers/a/signal?signal=CONT", timeout=5)
                    if r.status == 200:
                        answered.append(r.headers["Agentd-Operation"])
        for round in range(5):
            stop = threading.Event()
            asking = [threading.Thread(target=ask, args=(stop,)) for _ in range(3)]
            want = len(answered) + 20 + 7 * round
            for t in asking:
                t.start()
            eventually(lambda: len(answered) >= want, what="changes")  # pylint: disable=cell-var-from-loop
            h.kill()
            stop.set()
            for t in asking:
                t.join()
            r = self.verify(h)
            self.assertIn(r.returncode, (0, 1), r)
            if r.returncode:  # one may be torn
                self.assertRegex(r.stdout, r":\d+: torn: ")
            h.start()
            h.until("a", "UP")
        h.stop()
        self.whole(h)
        ends = [r["operation"] for r in self.trail.records() if r["event"] == "end"]
        self.assertEqual(set(answered) - set(ends), set())
        self.assertEqual(set(answered) - {r["operation"] for r in self.trail.records() if r["event"] == "request"}, set())

    def test_torn_line(self):
        """What was not written whole is cut off, and said; the chain goes on."""
        h = self.up()
        h.kill()
        with open(self.trail.path(), "ab") as f:
            f.write(b'{"seq":99,"prev":"12')
        last = self.trail.records()[-1]["seq"]
        n = len(self.trail.lines())
        r = self.verify(h)
        self.assertEqual((r.returncode, r.stdout.splitlines()[0]), (1, "%s:%d: torn: it was not written whole" % (self.trail.path(), n + 1)))
        h.start()
        h.stop()
        torn = self.trail.find(what="torn")
        self.assertEqual((torn["seq"], torn["count"], torn["event"]), (last + 1, 20, "trail"))
        self.whole(h)

    def test_upgrade(self):
        """The next image goes on where this one was, also with what it has only counted."""
        h = self.up(test_upgrade.Installed)
        n = 100
        for _ in range(n):
            self.assertEqual(h.http("DELETE", OPERATION + "none").status, 404)
        self.assertEqual(h.ctl("--private", h.run + "/private", "--reason", "newer", "upgrade").returncode, 0)
        h.until("a", "UP")
        h.operation("a", "restart")
        up = self.trail.find(verb="upgrade", event="request")
        self.assertEqual((up["source"], up["reason"], self.trail.find(operation=up["operation"], event="end")["result"]),
                         ("private", "newer", "done"))
        self.trail.find(what="upgraded", event="agentd")

        def refused():
            records = self.trail.records()
            return sum(r.get("result") == "refused" for r in records) + sum(r["count"] for r in records if r["event"] == "refusals")
        eventually(lambda: refused() == n, what="what was only counted, from the next image")
        h.proc.send_signal(signal.SIGUSR2)
        eventually(lambda: len([r for r in self.trail.records() if r["what" if "what" in r else "event"] == "upgraded"]) == 2, what="USR2")
        self.assertEqual(self.trail.find(what="SIGUSR2")["actor"], "uid:%d" % os.geteuid())
        h.stop()
        self.whole(h)

    def test_rotation(self):
        """A full file makes room; the oldest of all goes, and the head says so."""
        h = self.host()
        self.trail = Trail(h.state)
        os.mkdir(h.state, 0o700)
        seq, prev, first = 0, digest(b"agentd audit"), None
        for n in range(15, 0, -1):
            lines, seq, prev = chain([b'"event":"old","message":"%s"' % (b"x" * 100)] * 3, seq, prev)
            self.trail.write(b"\n".join(lines) + b"\n", "audit.%d" % n)
            first = first or seq + 1  # of audit.14
        lines, seq, prev = chain([b'"event":"old","message":"%s"' % (b"y" * 4000)] * 250, seq, prev)
        self.trail.write(b"\n".join(lines) + b"\n")
        self.trail.write(head(seq, prev, 1), "audit.head")
        for name in [*self.trail.names(), "audit.head"]:
            os.chmod(self.trail.path(name), 0o600)
        self.whole(h)
        h.worker("a")
        h.start()
        h.until("a", "UP")
        c = h.connect()
        while len(self.trail.read()) > 500000:
            c.request("POST", "/agentd/v1/workers/a/signal?signal=CONT", headers={"Content-Length": "0"})
            self.assertEqual(c.getresponse().read()[:1], b"{")
        c.close()
        h.stop()
        self.assertEqual(len(self.trail.names()), 16)
        self.assertLessEqual(len(self.trail.read("audit.1")), 1 << 20)
        self.assertEqual(self.trail.records()[0]["seq"], first)
        self.assertEqual(json.loads(self.trail.read("audit.1").split(b"\n")[0])["seq"], 46)
        self.assertIn("%d to " % first, self.whole(h))
        os.unlink(self.trail.path("audit.15"))
        r = self.verify(h)
        self.assertEqual((r.returncode, r.stdout.splitlines()[0]),
                         (1, "%s:1: removed: records %d to %d before it are missing" % (self.trail.path("audit.14"), first, first + 2)))

    def test_rotation_into_a_hole(self):
        """What lies behind it stays where it is."""
        h = self.host()
        self.trail = Trail(h.state)
        os.mkdir(h.state, 0o700)
        old, seq, prev = chain([b'"event":"old"'] * 3)
        self.trail.write(b"\n".join(old) + b"\n", "audit.2")
        lines, seq, prev = chain([b'"event":"old","message":"%s"' % (b"y" * 4000)] * 254, seq, prev)
        self.trail.write(b"\n".join(lines) + b"\n")
        self.trail.write(head(seq, prev, 1), "audit.head")
        h.worker("a")
        h.start()
        h.until("a", "UP")
        while "audit.1" not in self.trail.names():
            h.http("POST", "/agentd/v1/workers/a/signal?signal=CONT")
        h.stop()
        self.assertEqual(self.trail.names(), ["audit.2", "audit.1", "audit"])
        self.assertEqual(self.trail.read("audit.2").splitlines(), old)
        self.whole(h)

    def test_died_behind_the_first_line(self):
        """The very first agentd was killed before it wrote a head: nothing is missing."""
        h = self.host()
        self.trail = Trail(h.state)
        os.mkdir(h.state, 0o700)
        lines, _, _ = chain([b'"event":"agentd","what":"started"'])
        self.trail.write(lines[0] + b"\n")
        self.trail.write(b"", "audit.head")
        for name in ("audit", "audit.head"):
            os.chmod(self.trail.path(name), 0o600)
        h.worker("a")
        h.start()
        h.stop()
        self.assertEqual(self.trail.lines()[0], lines[0])
        self.whole(h)

    def test_put_back(self):
        """The files of an hour ago, head included, in the place of those of now: agentd knows better."""
        h = self.up()
        then = {n: self.trail.read(n) for n in ("audit", "audit.head")}
        h.operation("a", "restart")
        now = self.trail.records()[-1]["seq"]
        for n, data in then.items():
            with open(self.trail.path(n), "r+b") as f:
                f.write(data)
                f.truncate()
        h.stop()
        r = self.verify(h)
        self.assertEqual(r.returncode, 1, r)
        self.assertIn("records %d to %d before it are missing" % (len(then["audit"].splitlines()) + 1, now), r.stdout)

    def test_rotation_was_interrupted(self):
        """agentd died while it renamed: there is a hole in the numbers, or no newest file; nothing is overwritten for that."""
        h = self.up()
        h.stop()
        for there, hole in (("audit.1", None), ("audit.2", "audit.1")):
            os.rename(self.trail.path(hole or "audit"), self.trail.path(there))
            h.start()
            h.stop()
            self.whole(h)
        self.assertEqual(self.trail.names(), ["audit.2", "audit"])
        self.assertEqual(self.trail.records()[0]["seq"], 1)

    @needs_root
    def test_full_disk(self):
        """What is asked for is done; what could not be written is counted, and told."""
        h = self.host()
        os.mkdir(h.state, 0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", h.state], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", h.state], check=False)
        h.worker("a")
        h.start()
        h.until("a", "UP")
        self.trail = Trail(h.state)
        with open(h.state + "/fill", "wb", buffering=0) as f, contextlib.suppress(OSError):
            while f.write(b"x" * 512):
                pass
        c = h.connect()
        done = 0
        while "audit trail can't be written" not in str(h.ok("GET", "/agentd/v1/doctor")) or done < 30:
            c.request("POST", "/agentd/v1/workers/a/signal?signal=CONT", headers={"Content-Length": "0"})
            r = c.getresponse()
            self.assertEqual((r.status, json.loads(r.read())["data"]["result"]), (200, "done"))
            done += 1
        c.close()
        self.assertEqual(self.trail.read()[-1:], b"\n")
        os.unlink(h.state + "/fill")
        h.operation("a", "restart")
        lost = self.trail.find(what="lost", event="trail")["count"]
        ends = sum(r["event"] == "end" and r["verb"] == "signal" for r in self.trail.records())
        asked = sum(r["event"] == "request" and r["verb"] == "signal" for r in self.trail.records())
        self.assertEqual(ends + asked + lost, 2 * done)
        self.assertNotIn("audit trail", str(h.ok("GET", "/agentd/v1/doctor")))
        h.stop()
        self.whole(h)

    def test_taken_away(self):
        """Who removes the file under agentd's hands does not end the trail, and is found."""
        h = self.up()
        n = len(self.trail.lines())
        os.unlink(self.trail.path())
        h.operation("a", "restart")
        h.stop()
        r = self.verify(h)
        self.assertEqual((r.returncode, r.stdout.splitlines()[0]),
                         (1, "%s:1: removed: record%s before it %s missing" % (self.trail.path(), " 1" if n == 1 else "s 1 to %d" % n, "is" if n == 1 else "are")))

    def test_while_agentd_is_down(self):
        """What is cut off, altered, taken away or put behind then is not made good by the next agentd: it says so itself."""
        for what in ("truncated", "altered", "headless", "forged"):
            h = self.up()
            h.operation("a", "restart")
            h.stop()
            lines = self.trail.lines()
            if what == "truncated":
                self.trail.write(b"\n".join(lines[:-2]) + b"\n")
            elif what == "altered":
                self.trail.write(b"\n".join(lines[:-1] + [lines[-1].replace(b"stopped", b"started")]) + b"\n")
            elif what == "headless":
                os.unlink(self.trail.path("audit.head"))
            else:
                self.trail.write(b"\n".join(lines + chain([b'"event":"end"'] * 3, len(lines), digest(lines[-1]))[0]) + b"\n")
            h.start()
            h.stop()
            r = self.verify(h)
            self.assertEqual(r.returncode, 1, r)
            want = {"truncated": ":%d: removed: records %d to %d before it are missing" % (len(lines) - 1, len(lines) - 1, len(lines)),
                    "altered": ":%d: altered: its hash" % len(lines),
                    "headless": ":%d: removed: agentd found that audit.head was missing" % (len(lines) + 1),
                    "forged": ":%d: inserted: agentd found that audit.head did not know records before it" % (len(lines) + 4)}
            self.assertIn(self.trail.path() + want[what], r.stdout)
            self.assertIn("audit trail is not what it was", h.log())


    def test_number_of_no_record(self):
        """What only looks like a record gives the next one no number."""
        for line in (b'{"seq": 999,"prev":"%s","event":"x"}' % (b"0" * 64), b'{"seq":18446744073709551615,"prev":"%s","event":"x"}' % (b"0" * 64)):
            h = self.up()
            h.stop()
            lines = self.trail.lines()
            self.trail.write(b"\n".join(lines + [line]) + b"\n")
            h.start()
            h.stop()
            self.assertEqual(json.loads(self.trail.lines()[len(lines) + 1])["seq"], len(lines) + 1)
            r = self.verify(h)
            self.assertEqual(r.returncode, 1, r)
            self.assertIn("%s:%d: " % (self.trail.path(), len(lines) + 1), r.stdout)


class Tampered(Audit):
    """Each kind, in each place, is found, and named with its line."""

    def make(self):
        self.dir = self.host().dir + "/trail"
        os.mkdir(self.dir)
        self.trail = Trail(self.dir)
        bodies = [b'"event":"x","message":"%d"' % i for i in range(12)]
        self.good, self.last, self.hash = chain(bodies)
        self.put(self.good)

    def put(self, lines, at=5, **head_is):
        """The first so many in audit.1."""
        self.trail.write(b"".join(x + b"\n" for x in lines[:at]), "audit.1")
        self.trail.write(b"".join(x + b"\n" for x in lines[at:]))
        self.trail.write(head(**{"last": self.last, "hash": self.hash, "first": 1, **head_is}), "audit.head")

    def found(self, code=1):
        r = self.verify(None, self.dir)
        self.assertEqual(r.returncode, code, r)
        return [re.sub(r"^%s/" % re.escape(self.dir), "", line) for line in r.stdout.splitlines()[:-1]]

    def place(self, i, at=5):
        return "audit.1:%d" % (i + 1) if i < at else "audit:%d" % (i + 1 - at)

    def test_kinds(self):
        self.make()
        self.assertEqual(self.found(0), [])
        for i in range(12):
            line = self.good[i]
            for name, changed in (("body", line.replace(b'"x"', b'"y"')), ("nonsense", b"nonsense"), ("empty", b""),
                                  ("prev", line[:60] + (b"0" if line[60:61] != b"0" else b"1") + line[61:]),
                                  ("number", line.replace(b'"seq":%d,' % (i + 1), b'"seq":%d,' % (i + 40)))):
                self.put(self.good[:i] + [changed] + self.good[i + 1:])
                found = self.found()
                self.assertEqual([x.split(": ")[:2] for x in found][:1], [[self.place(i), "altered"]], (i, name, found))
            self.put(self.good[:i] + self.good[i + 1:], 5 if i >= 5 else 4)
            found = self.found()
            at = 5 if i >= 5 else 4
            want = [self.place(i, at), "removed"] if i < 11 else [self.place(10, at), "truncated"]
            self.assertEqual([x.split(": ")[:2] for x in found], [want], (i, found))
        for i in range(13):
            prev = digest(self.good[i - 1]) if i else digest(b"agentd audit")
            forged, _, _ = chain([b'"event":"forged"'], i, prev)
            for name, extra in (("forged", forged[0]), ("copy", self.good[i - 5]), ("nonsense", b"nonsense")):
                self.put(self.good[:i] + [extra] + self.good[i:], 5 if i >= 5 else 6)
                at = 5 if i >= 5 else 6
                found = self.found() if (i, name) != (12, "forged") else ["audit:8: inserted"]
                word = "altered" if name == "nonsense" and i in (0, 12) else "inserted"
                self.assertIn([self.place(i, at), word], [x.split(": ")[:2] for x in found], (i, name, found))
        for i in range(11):
            self.put(self.good[:i] + [self.good[i + 1], self.good[i]] + self.good[i + 2:])
            found = self.found()
            self.assertTrue({self.place(i), self.place(i + 1)} & {x.split(": ")[0] for x in found}, (i, found))

    def test_ends(self):
        self.make()
        for n in range(1, 12):
            self.put(self.good[:n])
            self.assertEqual(self.found(), ["%s: truncated: records up to 12 were written behind it, and are missing" % self.place(n - 1)])
        self.put(self.good)
        os.unlink(self.trail.path("audit.1"))
        self.assertEqual(self.found(), ["audit:1: removed: records 1 to 5 before it are missing"])
        self.put(self.good)
        os.unlink(self.trail.path("audit"))
        self.assertEqual(self.found(), ["audit.1:5: truncated: records up to 12 were written behind it, and are missing"])
        self.put(self.good)
        os.unlink(self.trail.path("audit.head"))
        self.assertEqual([x.split(": ")[:2] for x in self.found()], [["audit.head", "removed"]])
        self.put(self.good, last=11, hash=digest(self.good[10]))  # agentd was killed between the two
        self.assertEqual(self.found(0), [])
        with open(self.trail.path(), "ab") as f:
            f.write(b'{"seq":13')
        self.assertEqual(self.found(), ["audit:8: torn: it was not written whole"])
        forged, _, _ = chain([b'"event":"forged"'] * 3, 12, self.hash)
        self.put(self.good + forged[:1])
        self.assertEqual(self.found(0), [], "that one might be agentd's last")
        for n in (2, 3):
            self.put(self.good + forged[:n])
            self.assertEqual([x.split(" 12: ")[0] for x in self.found()], ["audit:%d: inserted: audit.head knows no record behind" % (7 + n)])

    def test_ways_to_ask(self):
        self.make()
        files = [self.trail.path("audit.1"), self.trail.path()]
        self.assertEqual(self.verify(None, *files).returncode, 0)
        self.assertEqual(self.verify(None, *reversed(files)).returncode, 1)
        self.assertEqual(self.verify(None, self.dir, files[0]).returncode, 2)
        self.assertEqual(self.verify(None, self.dir + "/none").returncode, 3)
        empty = self.dir + "/empty"
        os.mkdir(empty)
        self.assertEqual(self.verify(None, empty).returncode, 3)
        run = subprocess.run([STAGED + "/agentctl", "audit"], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 2)
        config = self.dir + "/agentd.conf"
        os.mkdir(config + ".d")
        for main, drop_in, words in (("[Agent]\nStateDirectory=%s \t\n[Rpc]\nStateDirectory=/x\n" % self.dir, None, "whole: 12 records"),
                                     ("[Agent]\nStateDirectory=/x\\\nStateDirectory=/y\n", " [Agent]\n StateDirectory = %s" % self.dir, "whole: 12 records"),
                                     ("[Agent]\nStateDirectory=/x/%h\n", None, "StateDirectory=/x/%h is known to agentd only")):
            with open(config, "w", encoding="ascii") as f:
                f.write(main)
            if drop_in:
                with open(config + ".d/50-a.conf", "w", encoding="ascii") as f:
                    f.write(drop_in)
            run = subprocess.run([STAGED + "/agentctl", "--config", config, "audit", "verify"], capture_output=True, text=True, check=False)
            self.assertIn(words, run.stdout + run.stderr)
            shutil.rmtree(config + ".d")
            os.mkdir(config + ".d")
        self.put([b"rubbish", *self.good[1:-1], b"rubbish"])
        run = subprocess.run([STAGED + "/agentctl", "-o", "json", "audit", "show", self.dir], capture_output=True, text=True, check=False)
        self.assertEqual([r["seq"] for r in json.loads(run.stdout)], list(range(2, 12)))
        self.assertIn("line 1 is no record", run.stderr)
        self.put(self.good[:-1])
        r = self.verify(None, "-o", "json", self.dir)
        self.assertEqual((r.returncode, json.loads(r.stdout)["findings"][0]["what"]), (1, "truncated"))


if __name__ == "__main__":
    unittest.main()
