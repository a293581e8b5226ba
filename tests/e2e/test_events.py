# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: numbered without holes, resumed over upgrades, with a gap that is said after agentd's death."""
import http.client
import json
import os
import signal
import socket
import threading

import harness
from harness import Case, eventually


class Reader:
    """One stream; what came is in events: (id, kind, data)."""

    def __init__(self, h, last=None):
        self.c = h.connect()
        self.c.request("GET", "/agentd/v1/events", headers={"Accept": "text/event-stream", **({"Last-Event-ID": str(last)} if last else {})})
        self.sock = self.c.sock
        self.r = self.c.getresponse()
        self.events, self.over = [], False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        one = {}
        try:
            for line in self.r:
                line = line.decode().rstrip("\n")
                if line:
                    key, _, value = line.partition(":")
                    one[key] = value.removeprefix(" ")
                elif "data" in one:
                    self.events.append((int(one["id"]) if "id" in one else None, one["event"], json.loads(one["data"])))
                    one = {}
                else:
                    one = {}
        except (OSError, http.client.HTTPException):
            pass
        self.over = True

    def until(self, what):
        try:
            return eventually(lambda: next((e for e in self.events if what(e)), None), what="the event")
        except AssertionError:
            raise AssertionError("not among %r" % self.events) from None

    def ids(self):
        return [i for i, _, _ in self.events if i]


class Events(Case):
    def setUp(self):
        self.h = self.host()
        self.h.worker("a")
        self.h.worker("b")
        self.h.start()
        self.h.all_up()

    def test_what_happens(self):
        h = self.h
        one = Reader(h)
        self.assertEqual((one.r.status, one.r.headers["Content-Type"], one.r.headers["Cache-Control"]), (200, "text/event-stream", "no-store"))
        r = h.operation("a", "restart")
        _, _, end = one.until(lambda e: e[1] == "operation" and e[2]["state"] == "done")
        self.assertEqual((end["operation"], end["verb"], end["alias"], end["actor"]), (r.data["id"], "restart", "a", "uid:0"))
        moves = [e[2]["state"] for e in one.events if e[1] == "worker" and e[2]["alias"] == "a"]
        self.assertEqual(moves, ["STOPPING", "STARTING", "UP"])
        self.assertEqual(one.ids(), list(range(one.ids()[0], one.ids()[0] + len(one.ids()))), "no hole")
        again = Reader(h, one.ids()[0])
        again.until(lambda e: e[0] == one.ids()[-1])
        self.assertEqual(again.ids(), one.ids()[1:], "from where it left off")
        os.kill(h.rpc_pid(), signal.SIGKILL)
        eventually(lambda: one.over)
        third = eventually(lambda: Reader(h, one.ids()[0]))
        third.until(lambda e: e[0] == one.ids()[-1])
        self.assertEqual(third.ids()[:len(one.ids()) - 1], one.ids()[1:], "the next listener has them too")
        self.assertEqual([e for e in third.events if e[1] == "gap"], [])
        h.stop()
        eventually(lambda: third.over)

    def test_over_an_upgrade(self):
        h = self.h
        one = Reader(h)
        h.operation("a", "restart")
        one.until(lambda e: e[1] == "operation")
        h.drain()
        h.proc.send_signal(signal.SIGUSR2)
        _, _, end = one.until(lambda e: e[1] == "end")
        eventually(lambda: one.over)
        self.assertEqual(end["lastId"], one.ids()[-1])
        two = Reader(h, end["lastId"])
        h.operation("b", "restart")
        two.until(lambda e: e[1] == "operation" and e[2]["verb"] == "restart" and e[2]["state"] == "done")
        ids = one.ids() + two.ids()
        self.assertEqual(ids, list(range(ids[0], ids[0] + len(ids))), "nothing missing, nothing twice")
        self.assertEqual([e for e in two.events if e[1] == "gap"], [])
        self.assertEqual([e[2]["state"] for e in one.events + two.events if e[1] == "agentd"], ["upgraded"])
        h.stop()

    def test_gap(self):
        h = self.h
        one = Reader(h)
        h.operation("a", "restart")
        one.until(lambda e: e[1] == "operation" and e[2]["state"] == "done")
        h.kill()
        h.start()
        two = Reader(h, one.ids()[-1])
        _, _, gap = two.until(lambda e: e[1] == "gap")
        self.assertEqual(gap["after"], one.ids()[-1])
        two.until(lambda e: e[1] == "agentd" and e[2]["state"] == "started")
        self.assertGreater(two.ids()[0], one.ids()[-1])
        h.stop()

    def raw(self, buffer=None):
        """A stream whose bytes are looked at, past its head."""
        s = socket.socket(socket.AF_UNIX)
        self.addCleanup(s.close)
        s.settimeout(harness.DEADLINE)
        s.connect(self.h.socket)
        s.sendall(b"GET /agentd/v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
        seen = b""
        while b"retry: 1000" not in seen:
            seen += s.recv(4096)
        return s

    def test_heartbeat(self):
        h = self.h
        early = self.raw()
        h.rpc = "HeartbeatSec=100ms"
        h.write("agentd.conf", h.agentd_conf())
        h.ok("POST", "/agentd/v1/reload")
        for s in (early, self.raw()):
            seen = b""
            while seen.count(b": here\n") < 3:
                more = s.recv(4096)
                self.assertTrue(more)
                seen += more
        h.stop()

    def test_slow_reader(self):
        """One that takes nothing is let go at a bound of memory; who reads goes on, and misses nothing."""
        h = self.h
        quick, slow, rpc = Reader(h), self.raw(), h.rpc_pid()
        before = harness.private_kb(rpc)
        metric = "agentd_http_streams{kind=\"events\"} 2"
        self.assertIn(metric, h.http("GET", "/metrics").body.decode())
        n = 0
        while metric in h.http("GET", "/metrics").body.decode():
            for _ in range(50):
                self.assertEqual(h.operation("a", "restart").status, 200)
                n += 1
            self.assertLess(n, 5000, "it is never let go")
        if not harness.SANITIZED:  # they keep what was freed
            self.assertLess(harness.private_kb(rpc) - before, 2048)
        last = h.http("POST", "/agentd/v1/workers/b/restart").headers["Agentd-Operation"]
        quick.until(lambda e: e[2].get("operation") == last and e[2].get("state") == "done")
        self.assertEqual(quick.ids(), list(range(quick.ids()[0], quick.ids()[0] + len(quick.ids()))))
        slow.close()
        h.stop()

    def test_bad_input(self):
        h = self.h
        for bad in ("x", "-1", "99999999999999999999999"):
            self.assertEqual(h.http("GET", "/agentd/v1/events", headers={"Last-Event-ID": bad}).status, 400)
        readers = [Reader(h) for _ in range(32)]
        self.assertEqual({r.r.status for r in readers}, {200})
        self.assertEqual(h.http("GET", "/agentd/v1/events").status, 429)
        for r in readers:
            r.sock.shutdown(socket.SHUT_RDWR)
        for r in readers:
            eventually(lambda: r.over)
        eventually(lambda: Reader(h).r.status == 200, what="room for a reader")
        h.stop()
