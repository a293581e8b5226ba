# SPDX-License-Identifier: Apache-2.0
"""Many callers at once, on the unix socket and on TCP: whose restarts are one, who is superseded, and whose Idempotency-Key it is."""
import contextlib
import hashlib
import http.client
import json
import re

import harness
from harness import HOST_ID, Case, Reply, eventually

USERS = ("ann", "bob")
OWN = "/agentd/v1/workers/w/"
BATCH = "/compute/hosts/batchRestartAgents"
# what two answers to the same operation may differ in: when they were written
OF_THE_MOMENT = {"elapsedTime", "lastActiveTime"}


def lasting(value):
    return {k: lasting(v) for k, v in value.items() if k not in OF_THE_MOMENT} if isinstance(value, dict) else value


class Base(Case):
    """One worker, w. tcp says how it is asked for."""
    tcp = False

    def up(self, slow_stop=False, section=""):
        """slow_stop: it stops once self.stops is open."""
        self.port = harness.free_port()
        h = self.h = self.host(cgroup=False, rpc="ListenStream=127.0.0.1:%d" % self.port)
        h.write("credentials", "".join("bearer %s HOST_MANAGER %s\n" % (u, hashlib.sha256(u.encode()).hexdigest()) for u in USERS), 0o600)
        self.gate = h.gate()
        self.gate.open()
        self.stops = h.gate("stops")
        # ready once it takes a signal, else it might end of that at once
        told = ("--notify READY=1", "Type=notify") if slow_stop and not section else ("", "")
        self.number = h.worker("w", self.stops.args + "--slow-stop 30000 " + told[0] if slow_stop else "", told[1],
                               section.replace("GATE", self.gate.path))
        self.paths = (OWN, "/compute/hosts/%d/agent/processes/%d/" % (HOST_ID, self.number))
        h.start()
        return h, h.until("w", "UP")

    def connect(self, n=0):
        """Callers on TCP come from several addresses, as many do."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.DEADLINE, source_address=("127.0.0.%d" % (2 + n % 20), 0)) \
            if self.tcp else self.h.connect()
        self.addCleanup(c.close)
        c.connect()
        return c

    def send(self, c, path, user=USERS[0], body=None, **headers):
        h = {k.replace("_", "-"): v for k, v in headers.items()}
        h.update({"Content-Type": "application/json"} if body else {"Content-Length": "0"})
        if self.tcp:
            h["Authorization"] = "Bearer " + user
        c.request("POST", path, body, h)
        return c

    def hear(self, c):
        return Reply.of(c.getresponse())

    def ask(self, *args, **more):
        return self.hear(self.send(self.connect(), *args, **more))

    def waiting(self):
        """How many calls agentd has not ended."""
        return int(re.search(rb"^agentd_calls (\d+)", self.h.http("GET", "/metrics").body, re.M).group(1))

    def operations(self):
        return [o for o in self.h.ok("GET", "/agentd/v1/operations")["contents"] if o["alias"] == "w"]


class Restarts(Base):
    def begin(self, count):
        """So many restarts, half of them as OCP asks, that agentd waits to answer."""
        before = self.waiting()
        connections = [self.connect(n) for n in range(count)]
        for n, c in enumerate(connections):
            self.send(c, self.paths[n % 2] + "restart")
        return connections, lambda: self.waiting() >= before + count

    def answers(self, connections):
        """The one answer to them: operation and pid."""
        replies = [self.hear(c) for c in connections]
        self.assertEqual({r.status for r in replies}, {200}, replies[0])
        for half in (replies[0::2], replies[1::2]):
            self.assertEqual({json.dumps(lasting(r.data)) for r in half}, {json.dumps(lasting(half[0].data))})
        self.assertEqual(len({r.headers["Agentd-Operation"] for r in replies}), 1)
        self.assertEqual(replies[0].data["after"]["pid"], replies[1].data["pid"])
        return replies[0].headers["Agentd-Operation"], replies[1].data["pid"]

    def test_hundred_and_ten(self):
        h, old = self.up(True, "ReadyCheck=exec:/bin/sh -c 'read _ <GATE'")
        self.gate.shut()
        hundred, have_come = self.begin(100)
        eventually(have_come, what="a hundred")
        self.stops.open()
        h.meets("w", state="STARTING", generation=old["generation"] + 1, alive=True)  # spawned, not ready
        ten, have_come = self.begin(10)
        eventually(have_come, what="ten more")
        self.gate.open()
        one, pid = self.answers(hundred)
        other, last = self.answers(ten)
        now = h.record("w")
        self.assertEqual(len({old["pid"], pid, last}), 3)
        self.assertEqual((now["generation"], now["pid"], now["state"]), (old["generation"] + 2, last, "UP"))
        self.assertEqual([(o["id"], o["verb"], o["result"]) for o in self.operations()], [(other, "restart", "done"), (one, "restart", "done")])
        h.stop()

    def test_superseded(self):
        h, _ = self.up(True)
        for path in self.paths:
            with self.subTest(path):
                restart = self.send(self.connect(), path + "restart")
                eventually(lambda: self.operations()[:1] and self.operations()[0]["result"] == "running", what="the restart")
                stop = self.send(self.connect(), path + "stop")
                r = self.hear(restart)
                self.stops.open()
                stop = self.hear(stop)
                self.assertEqual((stop.status, r.status, r.json["error"]["code"]), (200, 409, 1451), (stop, r))
                self.assertIn("superseded by stop", r.message)
                self.assertEqual(h.ok("GET", "/agentd/v1/operations/" + r.headers["Agentd-Operation"])["result"], "superseded")
                self.assertEqual((h.record("w")["state"], h.processes("w")), ("DOWN", {}))
                self.stops.shut()
                self.assertEqual(self.ask(path + "start").status, 200)
        self.stops.open()
        h.stop()


class RestartsOverTcp(Restarts):
    tcp = True


class Keys(Base):
    """A key is one user's for one request; whoever else comes with it learns nothing."""
    tcp = True

    def refused(self, r, op):
        """It says that the key is taken, and not a word of what was asked with it."""
        self.assertEqual((r.status, r.json["error"]["code"]), (409, 1454), r)
        self.assertNotIn("Agentd-Operation", r.headers)
        self.assertNotIn("Location", r.headers)
        for secret in (op, "ann", "because of ann", "restart"):
            self.assertNotIn(secret.encode(), r.body.replace(b"another request", b""), r)

    def strangers(self, path, body, op):
        """Another user, on TCP and by the kernel's word; another path, query, body."""
        self.refused(self.ask(path, "bob", body, Idempotency_Key="k"), op)
        self.refused(self.h.http("POST", path, {"Idempotency-Key": "k", "Content-Type": "application/json"}, body), op)
        for other in (OWN + "stop", self.paths[1] + "start", "/agentd/v1/workers/v/restart", "/agentd/v1/reload",
                      "/compute/hosts/%d/agent/restart" % HOST_ID, path + "?x=1", self.paths[path == OWN + "restart"] + "restart"):
            self.refused(self.ask(other, body=body, Idempotency_Key="k"), op)
        self.refused(self.ask(path, body='{"hostIds":[%d, 7]}' % HOST_ID, Idempotency_Key="k"), op)
        self.refused(self.ask(BATCH, body='{"hostIds":[7]}', Idempotency_Key="k"), op)

    def same(self, path, body, op):
        r = self.ask(path, body=body, Idempotency_Key="k")
        self.assertEqual((r.status, r.data["id"]), (200, op), r)

    def after_a_death(self):
        self.h.kill()
        self.h.start()
        self.h.all_up()

    def test_of_a_worker(self):
        h, _ = self.up()
        h.worker("v")
        h.ok("POST", "/agentd/v1/reload")
        h.all_up()
        one = self.ask(OWN + "restart", Idempotency_Key="k", Agentd_Reason="because of ann")
        self.assertEqual((one.status, one.data["actor"]), (200, "bearer:ann"), one)
        pids = h.pids_of_all()
        for death in (False, True):
            with self.subTest(death=death):
                if death:
                    self.after_a_death()
                self.strangers(OWN + "restart", None, one.data["id"])
                self.same(OWN + "restart", None, one.data["id"])
                self.assertEqual(h.pids_of_all(), pids, "nobody's request was done")
        h.stop()

    def test_of_a_batch(self):
        h, _ = self.up()
        h.worker("v")
        h.ok("POST", "/agentd/v1/reload")
        body = '{"hostIds":[%d]}' % HOST_ID
        one = self.ask(BATCH, body=body, Idempotency_Key="k", Agentd_Reason="because of ann")
        self.assertEqual(one.status, 200, one)
        eventually(lambda: self.ended(one.data["id"]), what="the task's end")
        pids = eventually(self.all_pids, what="agentd that is its own successor")
        for death in (False, True):
            with self.subTest(death=death):
                if death:
                    self.after_a_death()
                self.strangers(BATCH, body, one.headers["Agentd-Operation"] or "no operation was told")
                self.same(BATCH, body, one.data["id"])
                self.assertEqual(h.pids_of_all(), pids, "nobody's request was done")
        h.stop()

    def all_pids(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.h.pids_of_all()

    def ended(self, task):
        with contextlib.suppress(OSError, http.client.HTTPException):
            r = self.h.http("GET", "/tasks/instances/%d" % task)
            return r.status == 200 and r.data["status"] == "SUCCESSFUL"
        return False
