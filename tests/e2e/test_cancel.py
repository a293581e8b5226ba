# SPDX-License-Identifier: Apache-2.0
"""DELETE of an operation: one that has not begun ends, and is told so to all who wait for it; any other goes on."""
import contextlib
import fcntl
import http.client
import threading

import harness
import test_rpc
from harness import both, eventually

OPERATIONS = "/agentd/v1/operations/"


class Refusals(test_rpc.Case):
    def test_form(self):
        r = self.ask("PUT", OPERATIONS + "op-1")
        self.check_envelope(r, 405, False)
        self.assertEqual(r.headers["allow"], "GET, HEAD, DELETE, OPTIONS")
        self.error("DELETE", OPERATIONS + "op-1", headers=b"Sec-Fetch-Site: cross-site\r\n", status=403)
        self.error("DELETE", OPERATIONS + "op-1", headers=b"Origin: http://evil\r\n", status=403)
        self.assertEqual(self.fake.count("call"), 0)
        self.fake.wait_for("refused 403 0 [DELETE /agentd/v1/operations/op-1] [a page of another origin asks]")
        self.error("DELETE", OPERATIONS + "op-1", headers=b"Agentd-Reason: why\r\n", status=404, code=1405)  # the double knows no such verb
        self.fake.wait_for("call 16 0 [why]")
        self.check_envelope(self.client(tcp=True).ask("DELETE", OPERATIONS + "op-1"), 401, False)


@both
class Cancel(harness.Case):
    cgroup = True

    def begin(self, h, alias, verb):
        """The id of an operation that goes on."""
        r = h.http("POST", "/agentd/v1/workers/%s/%s" % (alias, verb), headers={"Prefer": "respond-async"})
        self.assertEqual(r.status, 202, r)
        return r.headers["Agentd-Operation"]

    def result(self, h, id):
        o = h.ok("GET", OPERATIONS + id)
        return o["result"], o["message"]

    def cancelled(self, h, id, reason="not now"):
        r = h.http("DELETE", OPERATIONS + id, headers={"Agentd-Reason": reason})
        self.assertEqual((r.status, r.headers["Agentd-Operation"]), (200, id), r)
        self.assertEqual((r.data["id"], r.data["result"]), (id, "cancelled"))
        self.assertRegex(r.data["message"], r"^cancelled by uid:\d+")
        return r.data

    def refused(self, h, id, why):
        r = h.http("DELETE", OPERATIONS + id)
        self.assertEqual((r.status, r.json["error"]["code"]), (409, 1452), r)
        self.assertIn(why, r.message)

    def waiting_for(self, h, alias, verb):
        """A caller that waits for the end; its reply comes into the list."""
        box, began = [], len(h.ok("GET", "/agentd/v1/operations")["contents"])
        t = threading.Thread(target=lambda: box.append(h.operation(alias, verb)))
        t.start()
        rows = eventually(lambda: (lambda r: len(r) > began and r)(h.ok("GET", "/agentd/v1/operations")["contents"]))
        return rows[0]["id"], t, box

    def test_queued(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        h.worker("a", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.start()
        self.assertEqual(h.operation("a", "stop").status, 200)
        generation = h.record("a")["generation"]
        first = self.begin(h, "a", "start")
        second, thread, box = self.waiting_for(h, "a", "restart")
        self.cancelled(h, second)
        thread.join(harness.DEADLINE)
        self.assertEqual((box[0].status, box[0].json["error"]["code"]), (409, 1456), box)
        self.assertIn("not now", box[0].message)
        self.assertEqual(box[0].headers["Agentd-Operation"], second)
        self.cancelled(h, second)  # it is, so it is no error to wish it again
        self.refused(h, first, "under way")
        third = self.begin(h, "a", "restart")
        self.assertNotEqual(third, second, "nobody joins it any more")
        self.cancelled(h, third)
        gate.open()
        eventually(lambda: self.result(h, first)[0] == "done")
        self.assertEqual((h.record("a")["state"], h.record("a")["generation"]), ("UP", generation + 1))
        self.refused(h, first, "ended")
        self.assertEqual(h.http("DELETE", OPERATIONS + "none").status, 404)
        rows = {o["id"]: o["result"] for o in h.ok("GET", "/agentd/v1/operations")["contents"]}
        self.assertEqual([rows[i] for i in (first, second, third)], ["done", "cancelled", "cancelled"])
        h.kill()
        h.start()
        self.assertEqual(self.result(h, second)[0], "cancelled", "it lasts")
        self.cancelled(h, second)
        h.stop()

    def two_stopped(self):
        """b needs a, which comes up when the gate opens."""
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        h.worker("a", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.worker("b", "", "[Unit]\nRequires=a\nAfter=a")
        h.start()
        for alias in "ba":
            self.assertEqual(h.operation(alias, "stop").status, 200)
        return h, gate

    def test_cancelled_beside_one_that_begins(self):
        """After agentd's death it does not count for one that has ended since."""
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        h.worker("a", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.start()
        self.assertEqual(h.operation("a", "stop").status, 200)
        first = self.begin(h, "a", "start")
        self.cancelled(h, self.begin(h, "a", "restart"))
        h.kill()
        gate.open()
        h.start()
        eventually(lambda: self.result(h, first)[0] != "running")
        self.assertEqual(self.result(h, first)[0], "done")

    def test_waits_for_another(self):
        h, gate = self.two_stopped()
        id, thread, box = self.waiting_for(h, "b", "start")
        h.until("b", "STARTING")
        done = self.cancelled(h, id)
        self.assertEqual((done["worker"]["state"], done["worker"]["goal"], done["durable"]), ("DOWN", "DOWN", True))
        thread.join(harness.DEADLINE)
        self.assertEqual((box[0].status, box[0].json["error"]["code"]), (409, 1456), box)
        self.assertEqual(h.record("a")["goal"], "UP", "what it has pulled up stays wanted")
        self.assertEqual(h.record("b")["generation"], 0)
        h.kill()  # that it is not wanted was on disk before it was told
        gate.open()
        h.start()
        h.until("a", "UP")
        self.assertEqual((h.record("b")["state"], h.record("b")["goal"]), ("DOWN", "DOWN"))
        self.assertEqual(h.operation("b", "start").status, 200)
        h.stop()

    def test_agentd_dies_over_it(self):
        """The disk does not take it yet when agentd is killed: the next one cancels it, and does not start anything."""
        h, gate = self.two_stopped()
        with open(h.dir + "/state/state.lock", "a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # as an earlier agentd's writer would
            id = self.begin(h, "b", "start")
            h.until("b", "STARTING")
            threads = [threading.Thread(target=self.ignore_end, args=(h, OPERATIONS + id)) for _ in range(2)]
            for t in threads:
                t.start()
            h.meets("b", state="DOWN", goal="DOWN")
            self.assertEqual(self.result(h, id)[0], "running", "it is not on disk")
            h.kill()
        for t in threads:
            t.join(harness.DEADLINE)
        h.start()
        self.assertRegex(str(eventually(lambda: (lambda r: r[0] != "running" and r)(self.result(h, id)))), "cancelled.*cancelled by uid")
        self.assertEqual((h.record("b")["state"], h.record("b")["goal"], h.record("b")["generation"]), ("DOWN", "DOWN", 0))
        gate.open()
        h.stop()

    def ignore_end(self, h, path):
        with contextlib.suppress(OSError, http.client.HTTPException):
            h.http("DELETE", path)

    def test_waits_for_the_budget(self):
        h = self.host(cgroup=self.cgroup, agent="StartConcurrency=1\nStartPressure=0")
        gate = h.gate()
        h.worker("a", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.worker("b")
        h.worker("c", command="/nowhere/at/all", service="RestartSec=1h")
        gate.open()
        h.start()
        h.until("a", "UP")
        h.until("c", "BACKOFF")
        h.until("b", "UP")
        for alias in "ab":
            self.assertEqual(h.operation(alias, "stop").status, 200)
        gate.shut()
        self.begin(h, "a", "start")
        id = self.begin(h, "b", "start")
        h.until("b", "STARTING")
        # one that comes while it waits shares it, one after its end does not
        self.assertEqual(self.begin(h, "b", "start"), id)
        self.cancelled(h, id)
        self.assertEqual(h.record("b")["state"], "DOWN")
        again = self.begin(h, "b", "start")
        self.assertNotEqual(again, id)
        # it was wanted up before: there is nothing to take back
        self.refused(h, self.begin(h, "c", "start"), "wanted up before")
        self.assertEqual(h.operation("c", "stop").status, 200)
        gate.open()
        h.until("b", "UP")
        eventually(lambda: self.result(h, again)[0] == "done")
        h.stop()

    def test_under_way(self):
        """A stop that has begun, and a restart that has ended the earlier process, go on."""
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        h.worker("a", service="ExecStop=/bin/sh -c '%s'" % gate.wait)
        h.worker("b", "", "[Unit]\nRequires=a\nAfter=a")
        h.start()
        h.all_up()
        before = h.record("b")["pid"]
        for verb in ("restart", "stop"):
            id = self.begin(h, "a", verb)
            self.refused(h, id, "under way")
            gate.open()
            eventually(lambda: self.result(h, id)[0] == "done")
            gate.shut()
        self.assertNotEqual(h.record("b")["pid"], before)
        self.assertEqual(h.record("a")["state"], "DOWN")
        gate.open()
        h.stop()
