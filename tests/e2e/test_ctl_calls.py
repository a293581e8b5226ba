# SPDX-License-Identifier: Apache-2.0
"""Each call of the HTTP interface is made by a verb of agentctl, over a URL too; and what those verbs say."""
import http.server
import io
import json
import os
import re
import select
import signal
import subprocess
import threading
import zipfile

import harness
from harness import Case, eventually
from test_upgrade import Installed


class Recorder(http.server.ThreadingHTTPServer):
    """Hands requests on to agentd's socket, and remembers them."""
    daemon_threads = True

    def __init__(self, h):
        self.h, self.asked = h, []
        super().__init__(("127.0.0.1", 0), Relay)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.shutdown()
        self.server_close()


class Relay(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def relay(self):
        self.server.asked.append((self.command, self.path.split("?")[0]))
        c = self.server.h.connect()
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {k: v for k, v in self.headers.items() if k not in ("Host", "Connection", "Content-Length")}
            c.request(self.command, self.path, body if self.command == "POST" else None, headers)
            r = c.getresponse()
            self.send_response(r.status)
            for k, v in r.headers.items():
                if k.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(k, v)
            self.end_headers()
            while more := r.read1():
                self.wfile.write(more)
        except OSError:
            pass  # one of the two has gone
        finally:
            c.close()

    do_GET = do_POST = do_DELETE = do_HEAD = relay


class Base(Case):
    def ctl(self, *args, code=0):
        r = self.h.ctl(*args)
        self.assertEqual(r.returncode, code, (args, r.stdout, r.stderr))
        return r

    def follow(self, *args):
        """A verb that goes on; its lines come one by one."""
        p = subprocess.Popen([harness.STAGED + "/agentctl", "--socket", self.h.socket, *args], stdout=subprocess.PIPE,
                             env=self.h.environment(), bufsize=0)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        return p

    def line(self, p):
        text = b""
        while not text.endswith(b"\n"):
            self.assertTrue(select.select([p.stdout], [], [], harness.DEADLINE)[0], "no line: %r" % text)
            one = os.read(p.stdout.fileno(), 1)
            self.assertTrue(one, "it has ended: %r" % text)
            text += one
        return text.decode()


class Calls(Base):
    def test_each(self):
        self.h = h = Installed()
        self.addCleanup(self.finish, h)
        gate = h.gate()
        ids = {"web": h.worker("web", "--stdout hello"), "slow": h.worker("slow", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)}
        h.start()
        h.until("web", "UP")
        recorder = Recorder(h)
        self.addCleanup(recorder.close)
        key, web = "--idempotency-key", str(ids["web"])
        h.operation("slow", "stop")
        h.http("POST", "/agentd/v1/workers/slow/start", headers={"Prefer": "respond-async"})
        waits = h.http("POST", "/agentd/v1/workers/slow/restart", headers={"Prefer": "respond-async"}).headers["Agentd-Operation"]

        def ask(*args, code=0):
            r = subprocess.run([harness.STAGED + "/agentctl", "--url", recorder.url, "-o", "json", *args], capture_output=True,
                               text=True, env=h.environment(), timeout=harness.DEADLINE, check=False)
            self.assertEqual(r.returncode, code, (args, r.stdout, r.stderr))
            return r.stdout

        def data(*args, code=0):
            return json.loads(ask(*args, code=code))
        self.assertEqual(data("cancel", waits)["result"], "cancelled")
        gate.open()
        h.all_up()
        self.assertEqual(data("agent")["hostId"], harness.HOST_ID)
        self.assertEqual({p["alias"] for p in data("process")["contents"]}, set(ids))
        self.assertEqual(data("process", web)["alias"], "web")
        self.assertEqual(data("process", "stop", web)["status"], "STOPPED")
        self.assertEqual(data("process", "start", web)["status"], "STARTED")
        before = h.record("web")["pid"]
        self.assertNotEqual(data("process", "restart", web, key, "k1")["pid"], before)
        after = h.record("web")["pid"]
        self.assertEqual(data("process", "restart", web, key, "k1")["pid"], after)
        self.assertEqual(len(data("status")["contents"]), 2)
        self.assertEqual(data("status", "web")["alias"], "web")
        for verb in ("stop", "start", "restart"):
            self.assertEqual(data(verb, "web")["verb"], verb)
        # nothing hears them, and nothing is ended by them
        self.assertEqual(data("signal", "CONT", "web")["result"], "done")
        ask("reload", "nobody", code=1)
        for verb in ("why", "history"):
            self.assertTrue(data(verb, "web")["contents"])
        self.assertIn("hello", ask("logs", "web"))
        self.assertEqual([e["logLine"] for e in json.loads(ask("search", "web", "hel", "lo").splitlines()[0])["logEntries"]], ["hello"] * 5)
        archive = subprocess.run([harness.STAGED + "/agentctl", "--url", recorder.url, "collect", "web"], capture_output=True,
                                 env=h.environment(), timeout=harness.DEADLINE, check=True).stdout
        self.assertIn("hello", zipfile.ZipFile(io.BytesIO(archive)).read("web.log").decode())
        rows = data("operations", "-n", "3")["contents"]
        self.assertEqual(len(rows), 3)
        self.assertEqual(data("operation", rows[0]["id"])["id"], rows[0]["id"])
        ids = [json.loads(x)["id"] for x in ask("events").splitlines()]
        self.assertEqual(ids, list(range(ids[0], ids[-1] + 1)))
        self.assertIn("contents", data("doctor"))
        self.assertIn("contents", data("reload", "--plan"))
        self.assertIn("contents", data("reload"))
        self.assertIn("agentd_worker_up", data("metrics")["text"])
        self.assertIn("<html", data("page")["text"])
        self.assertIn("/readyz", data("openapi")["paths"])
        self.assertEqual([v["status"] for v in data("ping").values()], [200, 200])
        task = data("agent", "stop", "--no-wait")["id"]
        self.assertEqual(data("task", str(task), "-f")["status"], "SUCCESSFUL")
        self.assertEqual({w["state"] for w in h.all().values()}, {"DOWN"})
        self.assertEqual(data("agent", "start")["status"], "SUCCESSFUL")
        self.assertEqual({w["state"] for w in h.all().values()}, {"UP"})
        self.assertEqual(data("agent", "batch-restart", "77", code=1)["status"], "FAILED")
        self.assertEqual(data("agent", "restart")["status"], "SUCCESSFUL")
        for words in (("time",), ("agent",), ("host-info",), ("status",), ("stop",), ("start",), ("restart", "--task-token", "by-agentctl"), ("task", "by-agentctl"),
                      ("real-path", h.logs + "/web.log"), ("service", "stop", "web"), ("service", "start", "web")):
            said = data("obagent", *words)
            self.assertEqual((said["successful"], bool(said["message"])), (True, True), words)
        calls = [line.split(None, 2)[:2] for line in self.ctl("help", "calls").stdout.splitlines()[:-1]]
        self.assertGreater(len(calls), 30)
        missed = [(verb, path) for verb, path in calls if not any(
            # obagent's answer POST for what they answer GET for
            (verb == v or (verb, v) == ("POST", "GET") and path.startswith("/api/v1/")) and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), p) for v, p in recorder.asked)]
        self.assertEqual(missed, [])
        h.stop()


class Events(Base):
    def setUp(self):
        super().setUp()
        self.h = h = self.host()
        h.worker("web")
        h.start()
        h.until("web", "UP")

    def test_what_there_is(self):
        h = self.h
        h.operation("web", "restart")
        lines = self.ctl("events").stdout.splitlines()
        self.assertTrue(any(re.search(r"worker +web  UP: \w+, pid %d \(generation 2\)" % h.record("web")["pid"], x) for x in lines), lines)
        self.assertTrue(any(re.search(r"operation +web  restart  done by ", x) for x in lines), lines)
        last = int(lines[-1].split()[0])
        self.assertEqual(self.ctl("events", "--since", str(last - 2)).stdout.splitlines(), lines[-2:])
        self.assertEqual(self.ctl("events", "--since", str(last)).stdout, "")
        # more than it has: that is said
        gap, *rest = self.ctl("events", "--since", str(last + 1000)).stdout.splitlines()
        self.assertRegex(gap, "^gap: events after %d " % (last + 1000))
        self.assertEqual(rest, lines)
        self.assertEqual(json.loads(self.ctl("-o", "json", "events", "--since", str(last + 1000)).stdout.splitlines()[0]),
                         {"kind": "gap", "after": last + 1000, "next": int(lines[0].split()[0])})
        self.ctl("events", "--since", "x", code=2)
        h.stop()

    def test_follow(self):
        """Over the death of the listener and of agentd, each event once."""
        h = self.h
        p = self.follow("-o", "json", "events", "-f", "--since", "0")
        seen = []

        def until(**want):
            while True:
                e = json.loads(self.line(p))
                seen.append(e)
                if all(e.get(k) == v for k, v in want.items()):
                    return e
        until(kind="worker", state="UP", generation=1)
        os.kill(h.rpc_pid(), signal.SIGKILL)
        h.operation("web", "restart")
        until(kind="worker", state="UP", generation=2)
        h.operation("web", "restart")
        until(kind="operation", state="done")
        self.assertEqual([e["kind"] for e in seen if "id" not in e], ["gap"], "what was before event 1 is long forgotten")
        ids = [e["id"] for e in seen if "id" in e]
        self.assertEqual(ids, list(range(ids[0], ids[0] + len(ids))))
        self.assertIn("agentd", {e["kind"] for e in seen})
        seen.clear()
        h.kill()
        h.start()
        h.operation("web", "stop")
        until(kind="worker", state="DOWN")
        self.assertEqual([e["kind"] for e in seen if "id" not in e], ["end", "gap"], "its successor numbers anew")
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(harness.DEADLINE), 0)
        h.stop()


class Tasks(Base):
    def test_steps(self):
        self.h = h = self.host()
        gate, last = h.gate(), h.gate("last")
        h.worker("first", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait)
        h.worker("second", "", "ExecStartPre=/bin/sh -c '%s'\n[Unit]\nRequires=first\nAfter=first" % last.wait)
        h.start()
        for alias in ("second", "first"):
            h.operation(alias, "stop")
        p = self.follow("agent", "start")
        begun = eventually(lambda: [o for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["verb"] == "start"])
        task = int(re.search(r"task (\d+): .*: RUNNING", self.ctl("agent", "start", "--no-wait").stdout).group(1))
        self.assertTrue(begun)
        # time is over, and it goes on
        r = self.ctl("task", str(task), "-f", "--wait", "1", code=4)
        self.assertIn("agentctl task %d" % task, r.stderr)
        self.assertRegex(r.stdout, r"RUNNING +Start process first\n")
        gate.open()
        lines = [self.line(p)]
        last.open()
        lines += [self.line(p) for _ in range(2)]
        self.assertRegex(lines[0], r"^  SUCCESSFUL  Start process first\n")
        self.assertRegex(lines[1], r"^  SUCCESSFUL  Start process second\n")
        self.assertRegex(lines[2], r"^task %d: Start OCP agent: SUCCESSFUL" % task)
        self.assertEqual(p.wait(harness.DEADLINE), 0)
        out = self.ctl("task", str(task)).stdout.splitlines()
        self.assertEqual((len(out), out[0]), (3, lines[2].rstrip("\n")))
        self.ctl("task", "999999", code=1)
        self.ctl("task", "x", code=2)
        self.ctl("agent", "begin", code=2)
        h.stop()

    def test_failed(self):
        self.h = h = self.host()
        h.worker("dies", "--exit 3", "Type=notify\nRestart=no")
        h.start()
        r = self.ctl("agent", "start", code=1)
        self.assertRegex(r.stdout, r"FAILED +Start process dies: .*3")
        self.assertRegex(r.stdout, r"Start OCP agent: FAILED")
        self.assertRegex(self.ctl("ping").stdout, r"^healthz: ok \(HTTP 200\) in [\d.]+ ms\nreadyz: ok .*\n$")
        h.stop()
        self.assertEqual(self.ctl("ping", code=3).stdout, "")

    def test_words_are_escaped(self):
        """What a worker says does not drive the terminal."""
        self.h = h = self.host()
        says = h.write("says", "#!/bin/sh\nprintf '\\033[31mred\\n' >&2\nexit 3\n", 0o755)
        h.worker("dies", service="Type=notify\nRestart=no", command=says)
        h.start()
        h.operation("dies", "start")
        op = h.ok("GET", "/agentd/v1/operations")["contents"][0]["id"]
        for args in (("operation", op), ("events",), ("operations",)):
            self.assertNotIn("\033", self.ctl(*args).stdout)
        self.assertIn("red", self.ctl("operation", op).stdout)
        h.stop()
