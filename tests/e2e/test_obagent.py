# SPDX-License-Identifier: Apache-2.0
"""The callers that obagent has: OCP's own client on /api/v1, the supervisor's socket, ob_agentctl; and what went wrong with
obagent's supervisor, each as it could go wrong here.

The client is written from the sources of OCP Express: its requests, headers and timeouts, and what it takes an answer's fields
for. It skips fields that it does not know.
"""
import base64
import concurrent.futures
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket as socketlib
import stat
import subprocess
import threading
import time
import unittest

import harness
from harness import Case, Reply, both, eventually

USER, PASSWORD = "ocp_agent", "a+secret/="
STATES = {"UNKNOWN", "STARTING", "RUNNING", "STOPPING", "STOPPED"}
READ_SEC = 5  # of that client


# --- the client ---------------------------------------------------------------------------------------------------------------

def state(v):
    assert v.upper() in STATES, v
    return v.upper()


def whole(bits):
    def of(v):
        assert isinstance(v, int) and not isinstance(v, bool) and -(1 << bits - 1) <= v < 1 << bits - 1, v
        return v
    return of


def exactly(kind):
    def of(v):
        assert type(v) is kind, v
        return v
    return of


def moment(v):
    t = datetime.datetime.fromisoformat(v)
    assert t.utcoffset() is not None and not v.endswith("Z"), v
    return t


def nullable(of):
    return lambda v: None if v is None else of(v)


def each(of):
    return lambda v: [of(x) for x in exactly(list)(v)]


def by_name(of):
    return lambda v: {k: of(x) for k, x in exactly(dict)(v).items()}


def shape(**fields):
    """An object with these fields at least, all of them there."""
    def of(v):
        return {name: take(exactly(dict)(v)[name]) for name, take in fields.items()}
    return of


text, number, long, boolean = exactly(str), whole(32), whole(64), exactly(bool)
SERVICE = shape(state=state, version=text, pid=long, startAt=long, endAt=long, socket=text, port=nullable(number))
STATUS = shape(state=state, ready=boolean, version=text, pid=long, socket=text, services=by_name(SERVICE))
TOKEN = shape(taskToken=text)
ENTRY = shape(name=text, status=text, timestamp=long)
TASK = shape(finished=boolean, ok=boolean, result=lambda v: v, err=text, progress=each(ENTRY))
HOST = shape(hostName=text, bootTime=long, upTime=long, os=text, osPlatform=text, osPlatformFamily=text, osPlatformVersion=text,
             kernelVersion=text, architecture=text, cpuModelName=text, cpuCount=number, totalMemory=long)
PATH = shape(path=text)
ENVELOPE = shape(successful=boolean, timestamp=moment, duration=long, status=number, traceId=text, server=text)
ERROR = shape(code=number, message=text, subErrors=exactly(list))


class Failed(Exception):
    """That client's HttpRequestFailedException: what the reply says."""


class AgentExecutor:
    def __init__(self, port, way, user=USER, password=PASSWORD):
        self.port, self.way, self.user, self.password = port, way, user, password
        self.calls = 0
        self.date = lambda: time.strftime("%Y/%m/%d %H:%M:%S")

    def headers(self, method, path, body):
        h = {"Accept": "application/json", "X-OCP-Trace-ID": os.urandom(8).hex()}
        if body is not None:
            h["Content-Type"] = "application/json"
        if self.way == "basic":
            h["Authorization"] = "Basic " + base64.b64encode(("%s:%s" % (self.user, self.password)).encode()).decode()
        else:
            h["Date"], h["Content-Type"] = self.date(), "application/json"
            signed = "\n".join([method, path, h["Content-Type"], h["Date"], h["X-OCP-Trace-ID"]])
            mac = hmac.new(self.password.encode(), signed.encode(), hashlib.sha256).digest()
            h["Authorization"] = "OCP-HMACSHA256 %s:%s" % (self.user, base64.b64encode(mac).decode())
        return h

    def send(self, method, path, body, headers):
        """From another address each time: who guesses is slowed by address."""
        self.calls += 1
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READ_SEC, source_address=("127.0.%d.%d" % (self.calls // 200, self.calls % 200 + 1), 0))
        try:
            c.request(method, path, None if body is None else json.dumps(body), headers)
            return Reply.of(c.getresponse())
        finally:
            c.close()

    def call(self, method, path, of, body=None):
        """As HttpTemplate: what is no success by its own words is an exception."""
        headers = self.headers(method, path, body)
        r = self.send(method, path, body, headers)
        e = ENVELOPE(r.json)
        assert e["traceId"] == headers["X-OCP-Trace-ID"] and e["status"] == r.status, r
        if not e["successful"] or r.json.get("error") is not None:
            raise Failed(r.status, ERROR(r.json["error"])["message"])
        return of(r.json["data"])

    def time(self):
        return self.call("GET", "/api/v1/time", moment)

    def status(self):
        return self.call("GET", "/api/v1/agent/status", STATUS)

    def restart(self, token):
        """Signed anew while the listener has just begun (503): it does not know what its predecessor has taken."""
        while True:
            try:
                return self.call("POST", "/api/v1/agent/restart", TOKEN, {"taskToken": token})["taskToken"]
            except Failed as e:
                if e.args[0] != 503 or "sign the request anew" not in e.args[1]:
                    raise

    def task(self, token):
        return self.call("POST", "/api/v1/task/status", TASK, {"taskToken": token})

    def host(self):
        return self.call("POST", "/api/v1/system/hostInfo", HOST, {})

    def real_path(self, path):
        return self.call("POST", "/api/v1/file/getRealPath", PATH, {"symbolicLink": path})["path"]


def is_rolled_back(task):
    return any(p["name"].lower() == "rollback" and p["status"].lower() == "start" for p in task["progress"])


class Called(Case):
    cgroup = True
    LINES = "aksk %s HOST_MANAGER %s\naksk viewer HOST_VIEWER v\n" % (USER, PASSWORD)

    def up(self, *workers, lines=LINES, rpc="", **how):
        self.port = harness.free_port()
        h = self.host(cgroup=self.cgroup, rpc="ListenStream=127.0.0.1:%d\n%s" % (self.port, rpc), **how)
        h.write("credentials", lines, 0o600)
        for alias, args, service in workers:
            h.worker(alias, args, service)
        h.start()
        h.all_up()
        c = self.client()  # what is signed in a listener's first second may have been taken by an earlier one
        eventually(lambda: self.altered(c, "POST", "/api/v1/startService", {"service": workers[0][0]}) == 200, what="a signed start")
        return h

    def altered(self, c, method, path, body, **changes):
        sign = changes.pop("sign", (method, path))
        headers = {**c.headers(*sign, body), **changes}
        return c.send(method, path, body, headers).status

    def client(self, way="ocp_digest", **how):
        return AgentExecutor(self.port, way, **how)

    def ended(self, c, token):
        """As AsyncTaskHelper polls; agentd's own exec may fall into it."""
        def look():
            try:
                task = c.task(token)
            except (OSError, http.client.HTTPException):
                return None
            return task if task["finished"] else None
        return eventually(look, what="the end of the task")


@both
class Client(Called):
    def test_time_host_and_status(self):
        h = self.up(("web", "--listen %d" % (port := harness.free_port()), ""), ("other", "", ""), ("down", "", ""))
        c = self.client()
        self.assertEqual(h.operation("down", "stop").status, 200)
        self.assertLess(abs((c.time() - datetime.datetime.now(datetime.timezone.utc)).total_seconds()), 5)
        s = c.status()
        self.assertEqual((s["state"], s["ready"], s["pid"], s["socket"]), ("RUNNING", True, h.pid, h.socket))
        self.assertEqual({a: w["state"] for a, w in s["services"].items()}, {"web": "RUNNING", "other": "RUNNING", "down": "STOPPED"})
        web = eventually(lambda: (w := c.status()["services"]["web"])["port"] and w, what="web listens")
        self.assertEqual((web["pid"], web["port"], web["endAt"]), (h.record("web")["pid"], port, 0))
        self.assertLess(abs(web["startAt"] / 1e9 - time.time()), 60)
        self.assertEqual((s["services"]["down"]["pid"], s["services"]["down"]["startAt"]), (0, 0))
        self.assertLess(abs(s["services"]["down"]["endAt"] / 1e9 - time.time()), 60)
        info = c.host()
        u = os.uname()
        self.assertEqual((info["hostName"], info["kernelVersion"], info["architecture"], info["os"]), (u.nodename, u.release, u.machine, "linux"))
        self.assertEqual((info["cpuCount"], info["totalMemory"]), (os.sysconf("SC_NPROCESSORS_ONLN"), total_memory()))
        with open("/proc/stat", encoding="ascii") as f:
            self.assertEqual(info["bootTime"], int(next(l for l in f if l.startswith("btime")).split()[1]))
        self.assertLess(abs(info["upTime"] - time.clock_gettime(time.CLOCK_BOOTTIME)), 5)
        self.assertEqual((info["osPlatform"], info["osPlatformVersion"].split(".")[0]), (os_release("ID"), os_release("VERSION_ID").split(".")[0]))
        h.stop()

    def test_restart(self):
        """By token: every worker, then agentd itself; the same token is the same task, whoever dies meanwhile."""
        h = self.up(("a", "", ""), ("b", "", ""))
        c = self.client()
        before, agentd = h.pids_of_all(), h.pid
        self.assertEqual(c.restart("token-of-the-task"), "token-of-the-task")
        self.assertEqual(c.restart("token-of-the-task"), "token-of-the-task")
        task = self.ended(c, "token-of-the-task")
        self.assertEqual((task["ok"], task["err"], is_rolled_back(task)), (True, "", False))
        self.assertEqual([p["name"] for p in task["progress"] if p["status"] == "ok"], ["restart a", "restart b", "restart agentd"])
        self.assertEqual([p["name"] for p in task["progress"] if p["status"] == "start"], ["restart a", "restart b", "restart agentd"])
        times = [p["timestamp"] for p in task["progress"]]
        self.assertEqual((sorted(times), times[0] / 1e9 > time.time() - 60), (times, True))
        after = h.pids_of_all()
        self.assertEqual(h.pid, agentd)
        self.assertTrue(all(after[a] != before[a] for a in before))
        # known, so it is not run again: also after agentd's death
        self.assertEqual(c.restart("token-of-the-task"), "token-of-the-task")
        h.kill()
        h.start()
        h.all_up()
        self.assertEqual(c.restart("token-of-the-task"), "token-of-the-task")
        self.assertEqual(self.ended(c, "token-of-the-task"), task)
        self.assertEqual(h.pids_of_all(), after)
        h.stop()

    def test_restart_over_agentds_death(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        h.worker("slow", gate.args + "--slow-stop 60000")
        h.worker("after", service="", section="")
        os.mkdir(h.workers + "/after.conf.d")
        h.write("workers.d/after.conf.d/order.conf", "[Unit]\nAfter=slow\n")
        h.start()
        h.all_up()
        before = h.pids_of_all()
        ask = lambda path, **body: h.post(path, body)
        self.assertEqual(ask("/api/v1/agent/restart", taskToken="over-a-death").status, 200)
        h.until("slow", "STOPPING")
        h.kill()
        h.start()
        gate.open()
        done = eventually(lambda: (lambda r: r.status == 200 and r.data["finished"] and r.data)(ask("/api/v1/task/status", taskToken="over-a-death")))
        self.assertEqual((done["ok"], done["err"]), (True, ""))
        self.assertTrue(all(p != before[a] for a, p in h.pids_of_all().items()))
        h.stop()

    def test_superseded(self):
        """By a later one, when agentd's death came before its end was written: no step has failed, and yet it says why."""
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        gate.open()
        h.worker("one", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.start()
        h.all_up()
        gate.shut()
        task = lambda token: h.post("/api/v1/task/status", {"taskToken": token}).data
        self.assertEqual(h.post("/api/v1/agent/restart", {"taskToken": "the-earlier-one"}).status, 200)
        h.until("one", "STARTING")
        records = {n: open(h.run + "/" + n, "rb").read() for n in ("tasks", "steps")}  # its slots are the first
        self.assertEqual(h.post("/api/v1/agent/start", {"taskToken": "the-later-one"}).status, 200)
        gate.open()
        self.assertTrue(eventually(lambda: (lambda t: t["finished"] and t)(task("the-later-one")))["ok"])
        h.kill()
        for name, text in records.items():
            with open(h.run + "/" + name, "r+b") as f:
                f.write(text)
        h.start()
        t = task("the-earlier-one")
        self.assertEqual((t["finished"], t["ok"], t["err"]), (True, False, "superseded"))
        self.assertNotIn("fail", [p["status"] for p in t["progress"]])
        h.stop()

    def test_failed(self):
        """The step that failed says so, and why; what was not begun is not told of."""
        h = self.up(("a", "", ""), ("broken", "", "Restart=no"))
        h.worker("broken", "--exit 3 --stderr no-licence", "Restart=no", "ReadyCheck=stable:10s", id=102)
        c = self.client()
        self.assertEqual(c.restart("failing-task"), "failing-task")
        task = self.ended(c, "failing-task")
        self.assertEqual((task["ok"], task["result"], h.pid), (True, True, h.pid), "the file is only read at a reload")
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual(c.restart("failing-again"), "failing-again")
        task = self.ended(c, "failing-again")
        self.assertEqual((task["finished"], task["ok"], task["result"]), (True, False, False))
        self.assertIn("broken: ", task["err"])
        self.assertEqual([(p["name"], p["status"]) for p in task["progress"]],
                         [("restart a", "start"), ("restart a", "ok"), ("restart broken", "start"), ("restart broken", "fail")])
        h.stop()

    def test_tokens(self):
        h = self.up(("a", "", ""))
        c = self.client()
        for bad in ("x/../../file", "short", "a" * 65, "with blank", "\u00e9" * 8, "nul\0nul--"):
            with self.assertRaises(Failed) as e:
                c.restart(bad)
            self.assertEqual(e.exception.args[0], 400, bad)
            with self.assertRaises(Failed):
                c.task(bad)
        with self.assertRaises(Failed) as e:
            c.task("nobody-knows-it")
        self.assertEqual(e.exception.args[0], 404)
        pid = h.record("a")["pid"]
        for bad in (12345678, ["x"], "a" * 300):
            with self.assertRaises(Failed) as e:
                c.call("POST", "/api/v1/agent/restart", TOKEN, {"taskToken": bad})
            self.assertEqual((e.exception.args[0], h.record("a")["pid"]), (400, pid), bad)
        made = c.restart("")
        self.assertRegex(made, "^[0-9a-f]{16}$")
        self.assertTrue(self.ended(c, made)["ok"])
        self.assertNotEqual(h.record("a")["pid"], pid)
        # another one's token is not told, nor run
        with self.assertRaises(Failed) as e:
            AgentExecutor(self.port, "ocp_digest", "viewer", "v").restart(made)
        self.assertEqual(e.exception.args[0], 403)
        self.assertEqual(h.post("/api/v1/agent/restart", {"taskToken": made}).status, 409)
        # nor is a key of another call one, though it reads the same
        self.assertEqual(h.http("POST", "/agentd/v1/workers/a/restart", {"Idempotency-Key": "key-or-token"}).status, 200)
        self.assertEqual(h.http("GET", "/api/v1/task/status?taskToken=key-or-token").status, 404)
        pid = h.record("a")["pid"]
        self.assertEqual(h.post("/api/v1/agent/restart", {"taskToken": "key-or-token"}).status, 200)
        self.assertTrue(self.ended(c, "key-or-token")["ok"])
        self.assertNotEqual(h.record("a")["pid"], pid)
        h.stop()

    def test_real_path(self):
        h = self.host(cgroup=self.cgroup)
        self.port = harness.free_port()
        os.makedirs(h.dir + "/logs/real")
        os.chmod(h.dir + "/logs", 0o755)
        for name in ("real/web.log.1", "web.log.2"):
            with open(h.dir + "/logs/" + name, "w", encoding="ascii"):
                pass
        os.symlink("real/web.log.1", h.dir + "/logs/web.log")
        os.symlink("nothing", h.dir + "/logs/web.log.gone")
        h.worker("web", section="LogFilePattern=%s/logs/web.log*" % h.dir)
        h.start()
        h.all_up()
        ask = lambda path: h.post("/api/v1/file/getRealPath", {"symbolicLink": path})
        self.assertEqual(ask(h.dir + "/logs/web.log").data, {"path": h.dir + "/logs/real/web.log.1"})
        self.assertEqual(ask(h.dir + "/logs/web.log.2").data, {"path": h.dir + "/logs/web.log.2"})
        self.assertEqual(ask(h.logs + "/web.log").data, {"path": h.logs + "/web.log"})
        for path in (h.dir + "/logs/web.log.gone", h.dir + "/logs/other", "/etc/passwd", h.dir + "/logs/../logs/web.log", h.dir + "/logs/real/web.log.1"):
            self.assertEqual((ask(path).status, path), (404, path))
        listener = h.rpc_pid()
        for path in ("", "web.log", "/" * 3000, "/" * 5000, 7, "/a\nb", "/a\tb", "/a\x7fb"):
            self.assertEqual(ask(path).status, 400, path)
        self.assertEqual(h.rpc_pid(), listener)
        h.stop()


    @harness.needs_root
    def test_real_path_as_the_workers_user(self):
        """A link that the user puts there tells nothing of a folder that only root may enter."""
        h, me = self.host(cgroup=self.cgroup), harness.ORDINARY
        for name, mode, owner in (("logs", 0o700, me), ("closed", 0o700, 0)):
            os.mkdir("%s/%s" % (h.dir, name), mode)
            os.chown("%s/%s" % (h.dir, name), owner, owner)
        for name in ("logs/there", "closed/there"):
            with open(h.dir + "/" + name, "w", encoding="ascii"):
                pass
        for link, to in (("own", "there"), ("root", "../closed/there"), ("none", "../closed/nothing")):
            os.symlink(to, "%s/logs/%s.log" % (h.dir, link))
        h.worker("web", "", "User=%d\nGroup=%d" % (me, me), "LogFilePattern=%s/logs/*.log" % h.dir)
        h.start()
        h.all_up()
        ask = lambda name: h.post("/api/v1/file/getRealPath", {"symbolicLink": "%s/logs/%s.log" % (h.dir, name)})
        self.assertEqual(ask("own").data, {"path": h.dir + "/logs/there"})
        for name in ("root", "none"):
            r = ask(name)
            self.assertEqual((r.status, r.message), (500, "it can't be looked at"), name)
        h.stop()


def total_memory():
    with open("/proc/meminfo", encoding="ascii") as f:
        return int(f.readline().split()[1]) * 1024


def os_release(name):
    with open("/etc/os-release", encoding="utf-8") as f:
        return next((l.split("=", 1)[1].strip().strip('"') for l in f if l.startswith(name + "=")), "")


class Ways(Called):
    cgroup = False

    def test_both(self):
        r = subprocess.run(["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True)
        h = self.up(("a", "", ""), lines="basic %s HOST_MANAGER %s\n%s" % (USER, r.stdout.strip(), self.LINES))
        for way in ("basic", "ocp_digest"):
            c = self.client(way)
            self.assertTrue(c.status()["ready"], way)
            self.assertTrue(self.ended(c, c.restart("by-" + way))["ok"])
            with self.assertRaises(Failed) as e:
                self.client(way, password="wrong").status()
            self.assertEqual(e.exception.args[0], 401)
        self.assertEqual(self.client("ocp_digest", user="viewer", password="v").status()["state"], "RUNNING")
        h.stop()

    def test_signature(self):
        """Each part of it counts; it is good for a quarter of an hour, and for one change only."""
        h = self.up(("a", "", ""))
        c = self.client()
        self.assertEqual(self.altered(c, "GET", "/api/v1/agent/status", None), 200)
        self.assertEqual(self.altered(c, "GET", "/api/v1/status", None, sign=("GET", "/api/v1/agent/status")), 401)
        self.assertEqual(self.altered(c, "POST", "/api/v1/agent/status", {}, sign=("GET", "/api/v1/agent/status")), 401)
        self.assertEqual(self.altered(c, "GET", "/api/v1/status", None, **{"X-OCP-Trace-ID": "f" * 16}), 401)
        self.assertEqual(self.altered(c, "GET", "/api/v1/status", None, **{"Content-Type": "text/plain"}), 401)
        self.assertEqual(self.altered(c, "GET", "/api/v1/status", None, Date=time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(time.time() - 1))), 401)
        self.assertEqual(self.altered(c, "GET", "/agentd/v1/workers", None), 401, "the scheme is obagent's")
        for off in (-1000, 1000, 3600, -8 * 3600):
            c.date = lambda off=off: time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(time.time() + off))
            self.assertEqual(self.altered(c, "GET", "/api/v1/status", None), 401, off)
        for date in ("", "2026/13/01 00:00:00", "Mon, 30 Nov 2026 00:00:00 GMT", "2026/11/30 00:00:00 "):
            c.date = lambda date=date: date
            self.assertEqual(self.altered(c, "GET", "/api/v1/status", None), 401, date)
        c.date = lambda now=time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(time.time() + 60)): now
        signed = c.headers("POST", "/api/v1/stopService", {})
        self.assertEqual(c.send("POST", "/api/v1/stopService", {"service": "a"}, signed).status, 200)
        self.assertEqual(h.operation("a", "start").status, 200)
        self.assertEqual(c.send("POST", "/api/v1/stopService", {"service": "a"}, signed).status, 401, "a second time")
        asked = c.headers("POST", "/api/v1/agent/status", {})
        self.assertEqual([c.send("POST", "/api/v1/agent/status", {}, asked).status for _ in range(2)], [200, 200], "it changes nothing")
        self.assertEqual(h.record("a")["state"], "UP")
        for bad in ("OCP-HMACSHA256 ", "OCP-HMACSHA256 x", "OCP-HMACSHA256 :", "OCP-HMACSHA256 %s:" % USER, "OCP-HMACSHA256 %s:AAAA" % USER,
                    "OCP-HMACSHA256 %s:%s" % (USER, "A" * 44), "OCP-HMACSHA256 %s:%s" % ("x" * 300, "A" * 43 + "=")):
            self.assertEqual(self.altered(c, "GET", "/api/v1/status", None, Authorization=bad), 401, bad)
        self.assertNotIn(PASSWORD, h.log())
        h.stop()

    @harness.needs_root
    def test_another_zone(self):
        """The host's, out of /etc/localtime: it stays so in the sandbox."""
        self.port = harness.free_port()
        h = self.host(cgroup=False, rpc="ListenStream=127.0.0.1:%d" % self.port)
        h.write("credentials", self.LINES, 0o600)
        h.wrap = [*harness.own_root(), "env", "-u", "TZ", "unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
                  'mount --bind "$0" /etc/localtime && exec "$@"', "/usr/share/zoneinfo/Asia/Shanghai"]
        h.worker("a")
        h.start()
        h.all_up()
        c = self.client()
        c.date = lambda: time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime(time.time() + 8 * 3600))
        for _ in range(3):
            self.assertEqual(self.altered(c, "GET", "/api/v1/status", None), 200)
            self.assertEqual(c.time().utcoffset(), datetime.timedelta(hours=8))
        c.date = lambda: time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime())
        self.assertEqual(self.altered(c, "GET", "/api/v1/status", None), 401)
        h.stop()

    @harness.needs_root
    def test_families(self):
        """Of distributions, by os-release(5), with its quotes and without."""
        h = self.host(cgroup=False)
        path = h.write("os-release", "")
        h.wrap = [*harness.own_root(), "unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
                  'mount --bind "$0" "$(realpath /etc/os-release)" && exec "$@"', path]
        h.worker("a")
        h.start()
        h.all_up()
        for text, *want in (('NAME="Rocky Linux"\nVERSION_ID="9.3"\nID="rocky"\nID_LIKE="rhel centos fedora"\n', "rocky", "rhel", "9.3"),
                            ("ID=fedora\nVERSION_ID=40\n", "fedora", "rhel", "40"), ("ID='centos'\nVERSION_ID='7'\n", "centos", "rhel", "7"),
                            ('ID="anolis"\nVERSION_ID="8.8"', "anolis", "rhel", "8.8"), ('ID="alios"\n', "alios", "rhel", ""),
                            ('ID="sles"\nID_LIKE="suse"\nVERSION_ID="15.5"\n', "sles", "suse", "15.5"),
                            ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "ubuntu", "debian", "24.04"),
                            ("IDS=no\nID=void\n", "void", "void", "")):
            with open(path, "w", encoding="ascii") as f:  # the same file: it is mounted
                f.write(text)
            info = h.post("/api/v1/system/hostInfo", {}).data
            self.assertEqual([info["osPlatform"], info["osPlatformFamily"], info["osPlatformVersion"]], want, text)
        h.stop()

    def test_in_the_clear(self):
        """The body is not covered: beyond loopback it is no more than a password."""
        self.port = harness.free_port()
        for allowed in ("no", "yes"):
            h = self.host(cgroup=False, rpc="ListenStream=0.0.0.0:%d\nAllowPlaintextCredentials=%s" % (self.port, allowed))
            h.write("credentials", self.LINES, 0o600)
            h.worker("a")
            h.start()
            h.all_up()
            c = self.client()
            self.assertEqual(self.altered(c, "GET", "/api/v1/status", None), 200 if allowed == "yes" else 403)
            h.stop()


# --- on the host --------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def answering(path, reply):
    """In the place of agentd: every request there has this answer, or none. Yields an event: one has come."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server, asked = socketlib.socket(socketlib.AF_UNIX), threading.Event()
    server.bind(path)
    server.listen()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                with server.accept()[0] as c:
                    if c.recv(65536):
                        c.sendall(reply)
                        asked.set()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown(socketlib.SHUT_RDWR)
        thread.join()
        server.close()
        os.unlink(path)


class Host(Case):
    cgroup = True

    def begun(self, h, *words, socket=None):
        """ob_agentctl while it runs."""
        link = h.dir + "/ob_agentctl"
        with contextlib.suppress(FileExistsError):
            os.symlink(harness.STAGED + "/agentctl", link)
        return subprocess.Popen([link, "--socket", socket or h.socket, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=h.environment())

    def ctl(self, h, *words, socket=None):
        """(exit code, its one object)."""
        return self.ended(self.begun(h, *words, socket=socket))

    def ended(self, begun):
        out, err = begun.communicate(timeout=harness.DEADLINE)
        r = subprocess.CompletedProcess(begun.args, begun.returncode, out, err)
        self.assertEqual((r.stdout if r.returncode else r.stderr), "", r)
        said = json.loads(r.stderr if r.returncode else r.stdout)
        self.assertEqual((set(said), said["successful"]), ({"successful", "message", "error"}, r.returncode == 0))
        return r.returncode, said

    def good(self, h, *words):
        code, said = self.ctl(h, *words)
        self.assertEqual((code, said["error"]), (0, ""), said)
        return said["message"]

    def bad(self, h, *words, **how):
        code, said = self.ctl(h, *words, **how)
        self.assertEqual(code, 255)
        return said["error"]

    def status(self, h):
        return STATUS(self.good(h, "status"))

    def service(self, h, verb, name):
        return h.post("/api/v1/%sService" % verb, {"service": name})


@both
class Command(Host):
    def test_verbs(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.worker("b")
        h.start()
        before = {a: w["pid"] for a, w in h.all_up().items()}
        s = self.status(h)
        self.assertEqual((s["pid"], s["ready"], {a: w["pid"] for a, w in s["services"].items()}), (h.pid, True, before))
        self.assertEqual(self.good(h, "service", "stop", "b"), "ok")
        self.assertEqual(self.status(h)["services"]["b"]["state"], "STOPPED")
        self.assertEqual(self.good(h, "service", "stop", "b"), "ok")
        self.assertEqual(self.good(h, "service", "start", "b"), "ok")
        self.assertEqual(self.good(h, "restart", "--task-token", "of-this-restart"), "ok")
        after = h.pids_of_all()
        self.assertTrue(all(after[a] != before[a] for a in after))
        self.assertEqual(self.good(h, "restart", "--task-token=of-this-restart"), "ok")
        self.assertEqual(h.pids_of_all(), after, "a token that is known runs nothing again")
        self.assertEqual(self.good(h, "-c", "/nowhere/agentctl.yaml", "stop"), "ok")
        self.assertEqual(h.processes(), {})
        self.assertEqual(self.good(h, "start"), "ok")
        self.assertTrue(self.status(h)["ready"])
        self.assertEqual(self.good(h, "version"), h.ok("GET", "/compute/hosts/%d/agent" % harness.HOST_ID)["version"])
        self.assertEqual(json.loads(h.ctl("obagent", "status").stdout)["message"]["pid"], h.pid)
        for words, why in ((["service", "start", "x"], "service_not_round"), (["service", "start"], "missing service name"),
                           (["service", "start", "a", "b"], "missing service name"), (["service"], "service start"),
                           (["status", "x"], "too many arguments"), (["reinstall"], "nothing that agentd does"), ([], "no verb"),
                           (["restart", "--task-token", "x/../../y"], "taskToken")):
            self.assertIn(why, self.bad(h, *words))
        h.stop()
        self.assertIn("agentd_not_running", self.bad(h, "status"))
        self.assertIn("agentd_not_running", self.bad(h, "restart"))
        self.assertEqual(self.good(h, "stop"), "ok", "there is nothing to be stopped")

    def test_while_agentd_is_away(self):
        """A restart that has been asked for is waited for, over agentd's death: asked in vain meanwhile, it asks again."""
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        h.worker("slow", gate.args + "--slow-stop 60000")
        h.start()
        before = h.all_up()["slow"]["pid"]
        begun = self.begun(h, "restart")
        h.until("slow", "STOPPING")
        h.kill()
        with answering(h.socket, b"") as asked:
            self.assertTrue(asked.wait(harness.DEADLINE))
        h.start()
        gate.open()
        self.assertEqual(self.ended(begun), (0, {"successful": True, "message": "ok", "error": ""}))
        self.assertNotEqual(h.all_up()["slow"]["pid"], before)
        h.stop()

    def test_what_goes_on(self):
        """A service that is not yet what it is to be is none that is so."""
        h = self.host(cgroup=self.cgroup)
        reply = json.dumps({"successful": True, "status": 202, "data": {"id": "1"}}).encode()
        with answering(h.dir + "/fake", b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                       % (len(reply), reply)):
            self.assertEqual(self.bad(h, "service", "stop", "a", socket=h.dir + "/fake"), "stop of a is still going on")

    def test_failed_restart(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--exit 3", "Restart=no", "ReadyCheck=stable:10s")
        h.start()
        h.until("a", "DOWN")
        self.assertIn("a: ", self.bad(h, "restart"))
        self.assertFalse(self.status(h)["ready"])
        h.stop()


@both
class Faults(Host):
    """What was seen of obagent's supervisor, one a test, in the order in which it was found."""

    def up(self, *workers, **how):
        h = self.host(cgroup=self.cgroup, **how)
        for alias, args, service in workers:
            h.worker(alias, args, service)
        h.start()
        return h, h.all_up()

    def test_killed_and_started_again(self):
        """All services were down for good, and start said ok."""
        h, before = self.up(("a", "--children 1", ""), ("b", "", ""))
        for _ in range(2):
            h.kill()
            h.start()
            self.assertEqual(self.good(h, "start"), "ok")
            self.assertEqual({a: w["pid"] for a, w in h.all_up().items()}, {a: w["pid"] for a, w in before.items()})
        self.assertEqual(self.service(h, "start", "a").status, 200)
        h.stop()

    def test_name_of_a_process(self):
        """A service whose process has another name (a script) ran on unmanaged."""
        h = self.host(cgroup=self.cgroup)
        h.worker("service", command="/bin/sh -c 'while :; do read _ <%s; done'" % h.gate().path)
        h.start()
        pid = h.all_up()["service"]["pid"]
        h.kill()
        h.start()
        s = self.status(h)
        self.assertEqual((s["services"]["service"]["state"], s["services"]["service"]["pid"]), ("RUNNING", pid))
        self.assertEqual(self.service(h, "stop", "service").status, 200)
        harness.wait_gone(pid)
        h.stop()

    def test_start_of_a_running_one(self):
        """It lost its pid file and socket, and was unknown for ever."""
        h, before = self.up(("a", "", ""))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual({r.status for r in pool.map(lambda _: self.service(h, "start", "a"), range(24))}, {200})
        s = self.status(h)
        self.assertEqual((s["ready"], s["services"]["a"]["pid"], s["services"]["a"]["state"]), (True, before["a"]["pid"], "RUNNING"))
        h.stop()

    def test_service_verbs_tell_the_truth(self):
        """They failed although it was done."""
        h, _ = self.up(("a", "", ""))
        for _ in range(8):
            self.assertEqual(self.good(h, "service", "stop", "a"), "ok")
            self.assertEqual(h.record("a")["state"], "DOWN")
            self.assertEqual(self.good(h, "service", "start", "a"), "ok")
            self.assertEqual(h.record("a")["state"], "UP")
        h.stop()

    def test_stderr(self):
        """Without a place for it agentd died, or the child stood still after 64 KiB."""
        for service in ("StandardOutput=null", "StandardError=null", ""):
            h = self.host(cgroup=self.cgroup)
            h.worker("a", command="/bin/sh -c 'head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; echo >%s/written; exec %s'"
                     % (h.dir, harness.WORKER), service=service)
            h.start()
            eventually(lambda h=h: os.path.exists(h.dir + "/written"))
            self.assertEqual((h.proc.poll(), h.until("a", "UP")["restarts"]), (None, 0))
            h.stop()

    def test_output_and_memory(self):
        """It was kept in memory: 200 MiB of it were 556 MB of the supervisor."""
        h, _ = self.up(("calm", "", ""))
        before = harness.private_kb(h.pid)
        h.worker("loud", command="/bin/sh -c 'head -c 200M /dev/zero; echo >%s/written; exec %s'" % (h.dir, harness.WORKER), section="LogMaxSize=1M\nLogMaxFiles=2")
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: os.path.exists(h.dir + "/written"))
        if not harness.SANITIZED:
            self.assertLess(harness.private_kb(h.pid) - before, 1024)
        h.stop()

    def test_quick_exits(self):
        """Without minLiveTime it was 1,018 forks a second."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--exit 1", "RestartSec=0")
        h.start()
        w = h.until("a", "COOLDOWN")
        self.assertLess(w["generation"], 20)
        self.assertTrue(w["nextRetryAt"])
        self.assertEqual(self.status(h)["services"]["a"]["state"], "STOPPED")
        h.stop()

    def test_restart_of_what_is_there_once(self):
        """A service with a port of its own, or with another name than those two, could not be restarted."""
        port = harness.free_port()
        h, before = self.up(("any_name", "--listen %d" % port, ""))
        self.assertEqual(self.good(h, "restart"), "ok")
        w = h.record("any_name")
        self.assertNotEqual(w["pid"], before["any_name"]["pid"])
        self.assertEqual(h.ok("GET", "/api/v1/status")["services"]["any_name"]["ports"], [port])
        h.stop()

    def test_ordinary_program(self):
        """What serves no status socket was unknown, and never ready."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a", command="/bin/sleep infinity")
        h.start()
        h.all_up()
        self.assertEqual(self.good(h, "restart"), "ok")
        s = self.status(h)
        self.assertEqual((s["ready"], s["services"]["a"]["state"]), (True, "RUNNING"))
        h.stop()

    def test_children_that_hang(self):
        """Each held up status by 5 s, and a stop, too."""
        h, all = self.up(("a", "", "TimeoutStopSec=100ms"), ("b", "", "TimeoutStopSec=100ms"), ("c", "", ""))
        for alias in ("a", "b"):
            os.kill(all[alias]["pid"], signal.SIGSTOP)
        began = time.monotonic()
        self.assertEqual(self.status(h)["services"]["c"]["state"], "RUNNING")
        self.assertEqual(self.good(h, "stop"), "ok")
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(h.processes(), {})
        h.stop()

    def test_children_that_ignore_term(self):
        """stop gave up while the supervisor went on, one after the other."""
        h, _ = self.up(*((a, "--ignore-term --children 1", "TimeoutStopSec=300ms") for a in "abc"))
        self.assertEqual(self.good(h, "stop"), "ok")
        self.assertEqual(h.processes(), {})
        h.stop()

    def test_no_run_directory(self):
        h = self.host(cgroup=self.cgroup)
        self.assertFalse(os.path.exists(h.run))
        h.worker("a")
        h.start()
        self.assertTrue(h.all_up()["a"]["pid"])
        h.stop()

    def test_hup(self):
        """It died of SIGHUP, and left everything behind."""
        h, before = self.up(("a", "", ""))
        for _ in range(3):
            os.kill(h.pid, signal.SIGHUP)
        eventually(lambda: "reload" in h.log())
        self.assertEqual((h.proc.poll(), h.record("a")["pid"]), (None, before["a"]["pid"]))
        h.stop()

    def test_grandchildren(self):
        """Only the direct child was told to end."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--children 2 --grandchild")
        h.start()
        h.all_up()
        tree = h.tree("a", 4)
        self.assertEqual(self.service(h, "stop", "a").status, 200)
        self.assertEqual([p for p in tree if harness.stat_of(p) and harness.stat_of(p)[0] != "Z"], [])
        h.stop()

    def test_stale_pid_files(self):
        """Empty, or with a pid that is somebody else's by now: it never started."""
        h = self.host(cgroup=self.cgroup)
        os.makedirs(h.run)
        for name, pid in (("a.pid", str(os.getpid())), ("b.pid", ""), ("agentd.pid", str(os.getpid())), ("ob_agentd.pid", "")):
            with open(h.run + "/" + name, "w", encoding="ascii") as f:
                f.write(pid)
        h.worker("a")
        h.worker("b")
        h.start()
        self.assertEqual({w["state"] for w in h.all_up().values()}, {"UP"})
        self.assertTrue(self.status(h)["ready"])
        h.stop()

    def test_zombie_of_the_supervisor(self):
        """start said ok, and nothing ran."""
        h, _ = self.up(("a", "", ""))
        os.kill(h.pid, signal.SIGKILL)
        os.waitid(os.P_PID, h.pid, os.WEXITED | os.WNOWAIT)  # nobody reaps it
        self.assertEqual(harness.stat_of(h.pid)[0], "Z")
        self.assertIn("agentd_not_running", self.bad(h, "start"))
        self.assertIn("agentd_not_running", self.bad(h, "status"))
        h.kill()
        h.start()
        h.all_up()
        h.stop()

    def test_commands_at_once(self):
        """Its lock was taken away under its owner's feet."""
        h, before = self.up(("a", "", ""))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(set(pool.map(lambda _: self.good(h, "restart"), range(8))), {"ok"})
        w = h.all_up()["a"]
        self.assertNotEqual(w["pid"], before["a"]["pid"])
        self.assertEqual(list(h.processes("a")), [w["pid"]])
        h.stop()

    def test_stop_while_it_comes_up_again(self):
        """It was answered with 200, and the service ran again."""
        h, _ = self.up(("a", "", "RestartSec=0"))
        for _ in range(20):
            os.kill(h.record("a")["pid"], signal.SIGKILL)
            r = self.service(h, "stop", "a")
            self.assertEqual(r.status, 200, r)
            self.assertEqual((h.record("a")["state"], h.processes("a")), ("DOWN", {}))
            self.assertEqual(self.service(h, "start", "a").status, 200)
        h.stop()

    def test_progress(self):
        """It was ok whatever came; a token could name a file, and one used again lost what was."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--exit 3", "Restart=no", "ReadyCheck=stable:10s")
        h.start()
        h.until("a", "DOWN")
        self.bad(h, "restart", "--task-token", "it-fails-of-course")
        ask = lambda token: h.http("GET", "/api/v1/task/status?taskToken=" + token)
        task = ask("it-fails-of-course").data
        self.assertEqual([(p["name"], p["status"]) for p in task["progress"]], [("restart a", "start"), ("restart a", "fail")])
        self.assertEqual((task["finished"], task["ok"]), (True, False))
        self.bad(h, "restart", "--task-token", "it-fails-of-course")
        self.assertEqual(ask("it-fails-of-course").data, task)
        self.assertEqual(ask("x/../../file").status, 400)
        h.stop()


class Socket(Host):
    cgroup = False

    def test_first_of_several(self):
        """It is the one that is told."""
        h = self.host(cgroup=False)
        h.rpc = "ListenStream=%s/second.sock\nListenStream=%s/third.sock" % (h.dir, h.dir)
        h.write("agentd.conf", h.agentd_conf())
        h.worker("a")
        h.start()
        h.all_up()
        self.assertEqual(self.status(h)["socket"], h.socket)
        h.stop()

    def test_who_may(self):
        """The supervisor's socket was everybody's."""
        h = self.host(cgroup=False)
        h.worker("a")
        h.start()
        h.all_up()
        self.assertTrue(stat.S_ISSOCK(os.stat(h.socket).st_mode))
        script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n" \
                 "s.sendall(b'POST /api/v1/stopService HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\nContent-Length: 15\\r\\n\\r\\n{\"service\":\"a\"}')\n" \
                 "print(s.recv(12).decode())"
        r = subprocess.run(["/usr/bin/python3", "-c", script, h.socket], user=harness.ORDINARY if harness.ROOT else None, capture_output=True, text=True,
                           timeout=harness.DEADLINE, check=True)
        self.assertEqual(r.stdout.strip(), "HTTP/1.1 403" if harness.ROOT else "HTTP/1.1 200")
        self.assertEqual(h.record("a")["state"], "UP" if harness.ROOT else "DOWN")
        for body in ("", "{", "[]", '{"service": 7}', '{"service": "%s"}' % ("x" * 400)):
            r = h.post("/api/v1/startService", body) if body else h.http("POST", "/api/v1/startService")
            self.assertEqual(r.status, 400, r)
        h.stop()


if __name__ == "__main__":
    unittest.main()
