# SPDX-License-Identifier: Apache-2.0
"""If-Match and Prefer: only while the worker is what the caller has seen; 202 at once, or after so long."""
import os
import signal
import threading
import time

import harness
import test_rpc
from harness import both, eventually

WEB = "/agentd/v1/workers/web"


class Frames(test_rpc.Case):
    def test_what_travels(self):
        for header, want in ((b"", "[] 0"), (b'If-Match: "1"\r\n', "[1] 0"), (b'If-Match: "1"\r\nIf-Match: "7"\r\n', "[1,7] 0"),
                             (b"If-Match: *\r\n", "[] 0"), (b'If-Match: W/"1"\r\n', "[-] 0"), (b"Prefer: respond-async\r\n", "[] 1"),
                             (b"Prefer: wait=0\r\n", "[] 1"), (b"Prefer: wait=3, respond-async\r\n", "[] 0"),
                             (b"Prefer: wait=x\r\nPrefer: respond-async\r\n", "[] 1")):
            self.data("POST", WEB + "/restart", headers=header, status=202 if want.endswith("1") else 200)
            n = self.n = getattr(self, "n", 0) + 1
            self.assertTrue(self.fake.wait_for("call 3", n).endswith(want), (header, self.fake.lines))
        for bad in (b"If-Match: 1\r\n", b"If-Match:\r\n", b'If-Match: "1\r\n', b'If-Match: "1"\r\nIf-Match: x\r\n',
                    b"If-Match: " + b'"1",' * 300 + b'"1"\r\n'):
            self.error("POST", WEB + "/restart", headers=bad, status=400, code=1400)
        self.assertEqual(self.fake.count("call 3"), self.n)

    def test_async(self):
        c = self.client()
        r = c.ask("POST", "/agentd/v1/workers/slow/restart", b"Prefer: respond-async\r\n")
        op = self.check_envelope(r, 202, True)
        self.assertEqual((r.headers["location"], r.headers["preference-applied"], r.headers["agentd-operation"], op["result"]),
                         ("/agentd/v1/operations/op-1", "respond-async", "op-1", "running"))
        r = c.ask("POST", "/compute/hosts/20/agent/processes/2/restart", b"Prefer: respond-async\r\n")
        e = self.check_envelope(r, 202, False)
        self.assertEqual((r.headers["location"], e["code"]), ("/agentd/v1/operations/op-1", 1001))
        self.assertIn("op-1", e["message"])
        self.fake.say("finish")
        self.assertEqual(self.data("GET", "/agentd/v1/workers/slow")["generation"], 2)

    def test_wait(self):
        c = self.client()
        began = time.monotonic()
        r = c.ask("POST", "/agentd/v1/workers/slow/restart", b"Prefer: wait=1\r\n")
        self.check_envelope(r, 202, True)
        self.assertEqual(r.headers["preference-applied"], "wait=1")
        self.assertTrue(0.9 < time.monotonic() - began < 4, "not the deadline of 5 s")
        self.fake.say("finish")

    def test_tags(self):
        for path in (WEB, "/compute/hosts/20/agent/processes/1"):
            for verb in ("GET", "HEAD"):
                self.assertEqual(self.ask(verb, path).headers["etag"], '"1"', (verb, path))


class OldAgentd(test_rpc.Case):
    """The program was replaced, and its listener died: a newer listener with an agentd that knows no such field."""
    options = ("wire=2",)

    def test_refused(self):
        self.error("POST", WEB + "/restart", headers=b'If-Match: "1"\r\n', status=501, code=1505)
        self.assertEqual(self.fake.count("call 3"), 0)
        self.data("POST", WEB + "/restart", headers=b"If-Match: *\r\n")
        self.error("POST", "/api/v1/system/hostInfo", status=501, code=1505)
        self.assertEqual(self.fake.count("call %d" % 24), 0, "it would end the listener over it")


@both
class Match(harness.Case):
    cgroup = True

    def test_generations(self):
        h = self.host(cgroup=self.cgroup)
        one = h.worker("a")
        h.start()
        h.all_up()
        own, ocp = "/agentd/v1/workers/a", "/compute/hosts/%d/agent/processes/%d" % (harness.HOST_ID, one)

        def ask(path, tag, key=None):
            headers = {"If-Match": tag, **({"Idempotency-Key": key} if key else {})}
            return h.http("POST", path, headers=headers)
        tag = h.http("GET", own).headers["ETag"]
        self.assertEqual(h.http("GET", ocp).headers["ETag"], tag)
        r = ask(own + "/restart", tag, "key")
        self.assertEqual(r.status, 200, r)
        now = h.record("a")
        self.assertEqual(now["generation"], int(tag.strip('"')) + 1)
        # the same request again is the same operation, although the generation has moved by it
        self.assertEqual(ask(own + "/restart", tag, "key").data["id"], r.data["id"])
        for path in (own + "/restart", own + "/stop", own + "/start", own + "/reload", own + "/signal?signal=CONT", ocp + "/restart",
                     ocp + "/stop", ocp + "/start"):
            for old in (tag, "W/\"%d\"" % now["generation"], '"x"', tag + ', "77"'):
                r = ask(path, old)
                self.assertEqual((r.status, r.json["error"]["code"]), (412, 1453), (path, old, r))
                self.assertIn(str(now["generation"]), r.message)
            self.assertEqual(ask(path, "x").status, 400)
        self.assertEqual(h.record("a")["pid"], now["pid"], "nothing was done")
        self.assertEqual(ask(own + "/signal?signal=CONT", '"%d"' % now["generation"]).status, 200)
        self.assertEqual(ask(ocp + "/restart", '%s, "%d"' % (tag, now["generation"])).status, 200)
        self.assertEqual(ask(own + "/restart", "*").status, 200)
        self.assertEqual(h.record("a")["generation"], now["generation"] + 2)
        # it moves by itself, too
        seen = h.record("a")
        os.kill(seen["pid"], signal.SIGKILL)
        h.meets("a", state="UP", generation=seen["generation"] + 1)
        self.assertEqual(ask(own + "/stop", '"%d"' % seen["generation"]).status, 412)
        self.assertEqual(h.record("a")["state"], "UP")
        h.stop()

    def test_one_of_many_wins(self):
        """All have seen the same generation: one restart, whoever shares it or comes too late."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--ignore-term", "TimeoutStopSec=200ms")
        h.start()
        seen = h.all_up()["a"]["generation"]
        box = []
        threads = [threading.Thread(target=lambda: box.append(h.http("POST", "/agentd/v1/workers/a/restart", headers={
            "If-Match": '"%d"' % seen}))) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(harness.DEADLINE)
        self.assertEqual(len(box), 6)
        self.assertLessEqual({r.status for r in box}, {200, 412})
        self.assertEqual(len({r.data["id"] for r in box if r.status == 200}), 1)
        self.assertEqual(h.record("a")["generation"], seen + 1)
        h.stop()


@both
class Async(harness.Case):
    cgroup = True

    def test_at_once(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate("gate")
        gate.open()
        one = h.worker("a", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.start()
        before = h.all_up()["a"]
        gate.shut()
        for path, good in (("/agentd/v1/workers/a/restart", True),
                           ("/compute/hosts/%d/agent/processes/%d/restart" % (harness.HOST_ID, one), False)):
            r = h.http("POST", path, headers={"Prefer": "respond-async"})
            self.assertEqual((r.status, r.json["successful"], r.headers["Preference-Applied"]), (202, good, "respond-async"), r)
            id = r.headers["Agentd-Operation"]
            self.assertEqual(r.headers["Location"], "/agentd/v1/operations/" + id)
            self.assertEqual("data" in r.json, good)
            if not good:
                self.assertIn(id, r.message)
            self.assertEqual(h.ok("GET", r.headers["Location"])["result"], "running")
        r = h.http("POST", "/agentd/v1/workers/a/restart", headers={"Prefer": "wait=1"})
        self.assertEqual((r.status, r.headers["Preference-Applied"]), (202, "wait=1"))
        gate.open()
        done = eventually(lambda: (lambda o: o["result"] != "running" and o)(h.ok("GET", "/agentd/v1/operations/" + id)))
        self.assertEqual(done["result"], "done")
        h.until("a", "UP")
        self.assertNotEqual(h.record("a")["pid"], before["pid"])
        # what is done already is not put off
        r = h.http("POST", "/agentd/v1/workers/a/start", headers={"Prefer": "respond-async"})
        self.assertEqual((r.status, r.data["result"], r.headers["Preference-Applied"]), (200, "done", None))
        h.stop()
