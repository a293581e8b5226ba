# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole: started, stopped and restarted as OCP does it, by a task with steps that goes on over agentd's death, and
over its own exec."""
import collections
import json

import harness
import test_order
from harness import Case, both, eventually
from test_upgrade import Installed

TASK = {"context", "creator", "executor", "hostId", "id", "name", "operation", "startTime", "status", "subtasks"}
STEP = {"description", "downstreams", "id", "name", "operation", "parallelIdx", "prohibitRollback", "runTime", "seriesId", "status",
        "timeout", "upstreams"}
AGENT = "/compute/hosts/%d/agent/" % harness.HOST_ID
BATCH = "/compute/hosts/batchRestartAgents"
JSON = {"Content-Type": "application/json"}


class Base(test_order.Base):
    def prepare(self, **how):
        h = Installed(cgroup=self.cgroup, **how)
        self.addCleanup(h.close)
        return h

    def chain(self, h):
        """c needs b, which needs a; and one that needs nobody."""
        self.add(h, "a", args="--delay 5 --notify READY=1", service="Type=notify\n")
        self.add(h, "b", "Requires=a", service="ExecStartPre=/usr/bin/test ! -e %s/broken\n" % h.dir)
        self.add(h, "c", "Requires=b")
        self.add(h, "plain")
        h.start()
        self.forget_at_rest(h)
        return h

    def forget_at_rest(self, h):
        h.all_up()
        self.forget(h)

    def look(self, h, task, prefix=""):
        t = h.ok("GET", "%s/tasks/instances/%d" % (prefix, task))
        self.assertEqual(set(t), TASK)
        for s in t["subtasks"]:
            self.assertEqual(set(s), STEP)
            self.assertIn(s["status"], ("PENDING", "READY", "RUNNING", "SUCCESSFUL", "FAILED"))
        return t

    def end(self, h, task):
        """The task once it has ended."""
        def look():
            t = at_rest(lambda: self.look(h, task))
            return t if t and t["status"] != "RUNNING" else None
        return eventually(look, what="the task's end")

    def ask(self, h, verb, prefix="", **headers):
        t = h.ok("POST", prefix + AGENT + verb, headers=headers)
        self.assertEqual(set(t), TASK)
        return t

    def steps(self, t):
        return {s["name"].split()[-1]: s for s in t["subtasks"]}

    def status(self, t):
        return {n: s["status"] for n, s in self.steps(t).items()}

    def assert_graph(self, t):
        """What is said of before and after is the same."""
        steps = {s["id"]: s for s in t["subtasks"]}
        self.assertEqual(len(steps), len(t["subtasks"]))
        for s in t["subtasks"]:
            for up in s["upstreams"]:
                self.assertIn(s["id"], steps[up]["downstreams"])
            for down in s["downstreams"]:
                self.assertIn(s["id"], steps[down]["upstreams"])

    def befores(self, t, name):
        names = {s["id"]: n for n, s in self.steps(t).items()}
        return {names[i] for i in self.steps(t)[name]["upstreams"]}


def at_rest(look):
    """agentd may be between two lives."""
    try:
        return look()
    except (OSError, harness.http.client.HTTPException):
        return None


@both
class Whole(Base):
    def test_restart(self):
        h = self.chain(self.prepare())
        before, pid, old = h.pids_of_all(), h.pid, {o["id"] for o in h.ok("GET", "/agentd/v1/operations")["contents"]}
        t = self.ask(h, "restart", **{"Agentd-Reason": "new files"})
        self.assertEqual((t["status"], t["name"], t["hostId"], t["creator"]), ("RUNNING", "Restart OCP agent", harness.HOST_ID, "uid:0" if harness.ROOT else t["creator"]))
        self.assert_graph(t)
        self.assertEqual(self.befores(t, "agentd"), {"a", "b", "c", "plain"})
        self.assertEqual((self.befores(t, "a"), self.befores(t, "b"), self.befores(t, "c")), (set(), {"a"}, {"b"}))
        end = self.end(h, t["id"])
        self.assertEqual(set(self.status(end).values()), {"SUCCESSFUL"}, end)
        self.assertEqual(end["status"], "SUCCESSFUL")
        self.assertEqual(h.pid, pid)
        after = h.pids_of_all()
        self.assertFalse(set(before.values()) & set(after.values()))
        self.assert_order(h, "down a", "up a", "down b", "up b", "down c", "up c")  # one after the other
        done = {(o["verb"], o["alias"]): o for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["id"] not in old}
        self.assertEqual({k: o["result"] for k, o in done.items()}, {("restart", a): "done" for a in before} | {("upgrade", ""): "done", ("restart-all", ""): "done"})
        one = h.ok("GET", "/agentd/v1/operations/" + done["restart", "a"]["id"])
        self.assertEqual((one["source"], one["reason"]), ("task:%d" % t["id"], "new files"))

    def test_stop_and_start(self):
        h = self.chain(self.prepare())
        t = self.end(h, self.ask(h, "stop", prefix="/api/v2")["id"])
        self.assertEqual((t["status"], t["name"]), ("SUCCESSFUL", "Stop OCP agent"))
        self.assertEqual(set(self.status(t)), {"a", "b", "c", "plain"})
        self.assertEqual(self.befores(t, "a"), {"b"})
        self.assert_order(h, "stop c", "down c", "stop b", "down b", "stop a", "down a")
        self.assertEqual({(w["state"], w["goal"]) for w in h.all().values()}, {("DOWN", "DOWN")})
        self.forget(h)
        self.assertEqual(self.end(h, self.ask(h, "stop")["id"])["status"], "SUCCESSFUL")  # of what is stopped
        self.assertEqual(self.lines(h), [])
        t = self.end(h, self.ask(h, "start")["id"])
        self.assertEqual((t["status"], t["name"], self.befores(t, "b")), ("SUCCESSFUL", "Start OCP agent", {"a"}))
        self.assert_order(h, "begin a", "up a", "begin b", "up b", "begin c", "up c")
        self.assertEqual({w["state"] for w in h.all().values()}, {"UP"})

    def test_failure_halts(self):
        """What runs is left alone."""
        h = self.chain(self.prepare())
        before = h.pids_of_all()
        h.write("broken", "")
        t = self.end(h, self.ask(h, "restart")["id"])
        status = self.status(t)
        self.assertEqual((t["status"], status["a"], status["b"], status["c"], status["agentd"]), ("FAILED", "SUCCESSFUL", "FAILED", "PENDING", "PENDING"), t)
        self.assertIn("ExecStartPre=/usr/bin/test", self.steps(t)["b"]["description"])
        self.assertEqual(h.record("c")["pid"], before["c"])
        whole = [o for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["verb"] == "restart-all"][0]
        self.assertEqual(whole["result"], "failed")
        self.assertIn("1 of 5 steps failed; b: ", h.ok("GET", "/agentd/v1/operations/" + whole["id"])["message"])

    def test_failure_beside(self):
        """A start goes on as far as nothing hangs on what has failed."""
        h = self.chain(self.prepare())
        self.end(h, self.ask(h, "stop")["id"])
        h.write("broken", "")
        t = self.end(h, self.ask(h, "start")["id"])
        self.assertEqual((t["status"], self.status(t)), ("FAILED", {"a": "SUCCESSFUL", "b": "FAILED", "c": "PENDING", "plain": "SUCCESSFUL"}))
        self.assertEqual((h.record("c")["goal"], h.record("c")["generation"]), ("DOWN", 1))

    def test_stopped_ones_start(self):
        h = self.chain(self.prepare())
        self.assertEqual(h.operation("plain", "stop").status, 200)
        self.assertEqual(self.end(h, self.ask(h, "restart")["id"])["status"], "SUCCESSFUL")
        self.assertEqual(h.record("plain")["state"], "UP")

    def test_bound_ones_once(self):
        """Who is stopped along with another is not restarted once more."""
        h = self.prepare()
        h.worker("a")
        h.worker("b", service="[Unit]\nBindsTo=a")
        h.start()
        h.all_up()
        before = h.record("b")["generation"]
        self.assertEqual(self.end(h, self.ask(h, "restart")["id"])["status"], "SUCCESSFUL")
        self.assertEqual(h.record("b")["generation"], before + 1)

    def test_not_operable(self):
        h = self.prepare()
        h.worker("mine")
        h.worker("theirs", section="Operable=no")
        h.start()
        before = h.all_up()
        t = self.end(h, self.ask(h, "restart")["id"])
        self.assertEqual((t["status"], set(self.status(t))), ("SUCCESSFUL", {"mine", "agentd"}))
        self.assertEqual(h.record("theirs")["pid"], before["theirs"]["pid"])

    def test_no_workers(self):
        h = self.prepare().start()
        t = self.end(h, self.ask(h, "stop")["id"])
        self.assertEqual((t["status"], t["subtasks"]), ("SUCCESSFUL", []))


class Slow(Base):
    def slow(self):
        """Two, the second of which is ready when the gate opens."""
        h = self.prepare()
        self.gate = h.gate()
        self.gate.open()
        h.worker("one")
        h.worker("two", service="ExecStartPre=/bin/sh -c '%s'" % self.gate.wait)
        h.start()
        h.all_up()
        self.gate.shut()
        return h

    def at_two(self, h, task):
        eventually(lambda: self.status(self.look(h, task))["two"] == "RUNNING", what="the second step")


@both
class Rolls(Base):
    def test_a_tenth_at_once(self):
        h = self.prepare()
        gate = h.gate()
        gate.open()
        for i in range(21):
            h.worker("w%02d" % i, service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.start()
        h.all_up()
        gate.shut()
        id, waits = self.ask(h, "restart")["id"], ["w00", "w01"]
        for alias in waits:
            h.until(alias, "STARTING")
        counts = collections.Counter(self.status(self.look(h, id)).values())
        self.assertEqual(counts, {"RUNNING": 2, "READY": 19, "PENDING": 1})
        self.assertEqual({a for a, w in h.all().items() if w["state"] != "UP"}, set(waits))
        gate.open()
        self.assertEqual(self.end(h, id)["status"], "SUCCESSFUL")


@both
class Lasts(Slow):
    def test_agentd_dies(self):
        h = self.slow()
        t = self.ask(h, "restart")
        self.at_two(h, t["id"])
        one, two = h.record("one"), self.look(h, t["id"])
        self.assertEqual(self.status(two), {"one": "SUCCESSFUL", "two": "RUNNING", "agentd": "PENDING"})
        h.kill()
        h.start()
        self.assertEqual(self.look(h, t["id"])["status"], "RUNNING")
        self.gate.open()
        end = self.end(h, t["id"])
        self.assertEqual((end["status"], set(self.status(end).values())), ("SUCCESSFUL", {"SUCCESSFUL"}), end)
        self.assertEqual(h.record("one")["pid"], one["pid"])
        self.assertEqual(end["startTime"], t["startTime"])

    def test_shared(self):
        h = self.slow()
        first = self.ask(h, "restart", **{"Idempotency-Key": "k1"})
        self.assertEqual(self.ask(h, "restart")["id"], first["id"])
        self.assertEqual(self.ask(h, "restart", **{"Idempotency-Key": "k1"})["id"], first["id"])
        r = h.http("POST", AGENT + "stop", {"Idempotency-Key": "k1"})
        self.assertEqual((r.status, r.json["error"]["code"]), (409, 1454))
        self.assertEqual(self.look(h, first["id"])["status"], "RUNNING")
        self.gate.open()
        self.assertEqual(self.end(h, first["id"])["status"], "SUCCESSFUL")
        self.assertEqual(self.ask(h, "restart", **{"Idempotency-Key": "k1"})["id"], first["id"])
        h.kill()
        h.start()
        again = self.ask(h, "restart", **{"Idempotency-Key": "k1"})
        self.assertEqual((again["id"], again["status"]), (first["id"], "SUCCESSFUL"))
        self.assertNotEqual(self.ask(h, "restart")["id"], first["id"])

    def test_end_that_was_not_written(self):
        """An earlier task that a later one has superseded does not go on because its record says so."""
        h = self.prepare()
        gate = h.gate()
        gate.open()
        h.worker("one", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.worker("two")
        h.start()
        two = h.all_up()["two"]["pid"]
        gate.shut()
        t = self.ask(h, "restart")
        h.until("one", "STARTING")
        records = {n: open(h.run + "/" + n, "rb").read() for n in ("tasks", "steps")}  # its slots are the first
        later = self.ask(h, "start")  # which joins what is begun
        gate.open()
        self.assertEqual(self.end(h, later["id"])["status"], "SUCCESSFUL")
        h.kill()
        for name, text in records.items():
            with open(h.run + "/" + name, "r+b") as f:
                f.write(text)
        h.start()
        self.assertEqual(self.look(h, t["id"])["status"], "FAILED")
        self.assertEqual(h.record("two")["pid"], two)

    def test_superseded(self):
        h = self.slow()
        t = self.ask(h, "restart")
        self.at_two(h, t["id"])
        stop = self.ask(h, "stop")
        self.assertEqual(self.end(h, stop["id"])["status"], "SUCCESSFUL")
        old = self.look(h, t["id"])
        self.assertEqual((old["status"], self.status(old)), ("FAILED", {"one": "SUCCESSFUL", "two": "FAILED", "agentd": "PENDING"}))
        self.assertIn("superseded", self.steps(old)["two"]["description"])
        whole = [o["id"] for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["verb"] == "restart-all"][0]
        self.assertEqual(h.ok("GET", "/agentd/v1/operations/" + whole)["message"], "superseded by stop-all")
        self.assertEqual({w["state"] for w in h.all().values()}, {"DOWN"})


@both
class Batch(Slow):
    def post(self, h, body, code=200):
        r = h.http("POST", BATCH, JSON, body if isinstance(body, str) else json.dumps(body))
        self.assertEqual(r.status, code, r)
        return r.data if code == 200 else r

    def test_ours_and_others(self):
        h = self.prepare()
        h.worker("w")
        h.start()
        before = h.all_up()["w"]["pid"]
        t = self.post(h, {"hostIds": [harness.HOST_ID]})
        self.assertEqual(t["name"], "Batch restart OCP agents")
        self.assertEqual(self.end(h, t["id"])["status"], "SUCCESSFUL")
        after = h.record("w")["pid"]
        self.assertNotEqual(after, before)
        t = self.end(h, self.post(h, {"hostIds": [7001, harness.HOST_ID, 7002]})["id"])
        self.assertEqual(self.status(t), {"7001": "FAILED", "7002": "FAILED", "w": "SUCCESSFUL", "agentd": "SUCCESSFUL"})
        self.assertEqual(t["status"], "FAILED")
        self.assertIn("host", self.steps(t)["7001"]["description"])
        self.assertNotEqual(h.record("w")["pid"], after)
        after = h.record("w")["pid"]
        t = self.end(h, self.post(h, {"hostIds": [7001]})["id"])
        self.assertEqual((t["status"], self.status(t)), ("FAILED", {"7001": "FAILED"}))
        self.assertEqual(h.record("w")["pid"], after)

    def test_while_one_goes_on(self):
        h = self.slow()
        t = self.ask(h, "restart")
        self.assertEqual(self.post(h, {"hostIds": [harness.HOST_ID]})["id"], t["id"])
        r = self.post(h, {"hostIds": [harness.HOST_ID, 7001]}, 409)
        self.assertEqual(r.json["error"]["code"], 1452)
        self.gate.open()
        self.assertEqual(self.end(h, t["id"])["status"], "SUCCESSFUL")

    def test_others_beside_one_that_goes_on(self):
        """What is not for this host does not hide what is."""
        h = self.slow()
        self.end(h, self.ask(h, "stop")["id"])
        t = self.ask(h, "start")
        self.at_two(h, t["id"])
        other = self.post(h, {"hostIds": [7001]})
        self.assertEqual((other["status"], self.status(other)), ("FAILED", {"7001": "FAILED"}))
        self.assertEqual(self.ask(h, "start")["id"], t["id"])
        h.kill()
        h.start()
        self.assertEqual(self.look(h, t["id"])["status"], "RUNNING")
        self.gate.open()
        self.assertEqual(self.end(h, t["id"])["status"], "SUCCESSFUL")
        self.assertEqual(self.ask(h, "start")["status"], "RUNNING")

    def test_malformed(self):
        h = self.prepare().start()
        for body in ("", "[]", "{}", {"hostIds": []}, {"hostIds": 20}, {"hostIds": ["20"]}, {"hostIds": [0]}, {"hostIds": [-1]}, {"hostIds": [1.5]},
                     {"hostIds": list(range(1, 66))}, {"hostIds": [2 ** 70]}, '{"hostIds": [20'):
            self.assertEqual(self.post(h, body, 400).json["error"]["code"], 1400, body)
        r = h.http("POST", "/compute/hosts/21/agent/restart")
        self.assertEqual((r.status, r.json["error"]["code"]), (404, 1404))
        self.assertEqual(h.http("GET", "/tasks/instances/1").status, 404)
        self.assertEqual(h.http("GET", "/tasks/instances/x").status, 400)
        self.assertEqual(h.http("GET", "/tasks/instances/99999999999").status, 404)
        self.assertEqual(h.http("GET", AGENT + "restart").status, 405)


@both
class Many(Base):
    def test_many(self):
        """More tasks than are remembered, and more workers than go at once."""
        h = self.prepare()
        for i in range(harness.SANITIZED and 20 or 80):
            h.worker("w%02d" % i)
        h.start()
        before = h.all_up()
        ids = [self.end(h, self.ask(h, "start")["id"])["id"] for _ in range(18)]
        self.assertEqual(sorted(set(ids)), ids)
        self.assertEqual(h.http("GET", "/tasks/instances/%d" % ids[0]).status, 404)
        self.assertEqual(self.look(h, ids[-1])["status"], "SUCCESSFUL")
        self.assertEqual(h.all()["w00"]["pid"], before["w00"]["pid"])
        t = self.end(h, self.ask(h, "restart")["id"])
        self.assertEqual((t["status"], len(t["subtasks"])), ("SUCCESSFUL", len(before) + 1))
        self.assertFalse({w["pid"] for w in before.values()} & set(h.pids_of_all().values()))
        self.assertEqual(self.end(h, self.ask(h, "stop")["id"])["status"], "SUCCESSFUL")
