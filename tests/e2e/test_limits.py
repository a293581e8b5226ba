# SPDX-License-Identifier: Apache-2.0
"""What one client can take of the listener, each bound set to a small number: what is beyond is refused as documented and counted, and
what is within goes on; a reload changes them while connections stay."""
import http.client
import os
import socket
import subprocess
import threading

import harness
from harness import HOST_ID, Case, Reply, eventually

WORKERS = "/agentd/v1/workers"
TOKEN = {"Authorization": "Bearer t"}
SHA = "e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8"  # of "t"


class Limited(Case):
    def up(self, rpc="", address="127.0.0.1", workers=("web",)):
        self.port = harness.free_port()
        h = self.host(cgroup=False, rpc="ListenStream=%s:%d\n%s" % (address, self.port, rpc))
        h.write("credentials", "bearer t HOST_MANAGER %s\n" % SHA, 0o600)
        for w in workers:
            h.worker(w, section="ReadyCheck=stable:1ms")
        h.start()
        h.all_up()
        return h

    def change(self, h, rpc):
        h.rpc = "ListenStream=127.0.0.1:%d\n%s" % (self.port, rpc)
        h.write("agentd.conf", h.agentd_conf())
        h.ok("POST", "/agentd/v1/reload")

    def connect(self, source="127.0.0.1"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.DEADLINE, source_address=(source, 0))
        self.addCleanup(c.close)
        c.connect()
        return c

    def ask(self, c, method="GET", path=WORKERS, headers=None, body=None):
        c.request(method, path, body, {**TOKEN, **(headers or {})})
        return Reply.of(c.getresponse())

    def metric(self, h, name):
        text = h.http("GET", "/metrics").body.decode()
        return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.rsplit(" ", 1)[0] == "agentd_" + name)


class Connections(Limited):
    def test_in_all(self):
        """Who has shown no credential makes room for who has one, and that one stays; 16 are root's, also of a small number."""
        for most in (20, 60):
            with self.subTest(most):
                h = self.up("MaxConnections=%d\nMaxConnectionsPerSource=0" % most)
                n = most - 16
                first = self.connect()
                eventually(lambda c=first: self.alone(c), what="the only connection")
                probe = self.connect()
                self.assertEqual(self.ask(probe, path="/healthz").status, 200)
                silent = [self.connect() for _ in range(n - 2)]
                begun = self.connect()
                begun.sock.sendall(b"GET / HT")
                self.assertEqual(probe.sock.recv(1), b"", "the oldest gives way")
                held = [self.connect() for _ in range(n - 1)]
                self.assertEqual([self.ask(c).status for c in held], [200] * (n - 1))
                for c in [*silent, begun]:
                    self.assertEqual(c.sock.recv(1), b"")
                self.assertEqual(self.ask(first).status, 200)
                r = self.ask(self.connect())
                self.assertEqual((r.status, r.headers["Connection"]), (503, "close"))
                self.assertEqual(h.http("GET", WORKERS).status, 200)
                self.assertGreaterEqual(self.metric(h, "http_connections_over_cap_total"), n + 1)
                h.stop()

    def alone(self, c):
        """Those that were here before have been seen to go."""
        text = self.ask(c, path="/metrics").body.decode()
        return "\nagentd_http_connections 1\n" in text

    def test_of_one_address(self):
        h = self.up("MaxConnectionsPerSource=3")
        held = [self.connect() for _ in range(3)]
        for c in held:
            self.assertEqual(self.ask(c).status, 200)
        r = self.ask(self.connect())
        self.assertEqual((r.status, r.headers["Connection"]), (503, "close"))
        self.assertEqual(self.ask(self.connect("127.0.0.2")).status, 200, "another address has its own")
        held.pop().close()
        eventually(lambda: self.ask(self.connect()).status == 200, what="the place of who has left")
        self.assertEqual([self.ask(c).status for c in held], [200, 200])
        self.assertGreaterEqual(self.metric(h, "http_connections_over_cap_total"), 1)
        self.assertEqual(self.metric(h, "http_connections_per_source_max"), 3)
        self.change(h, "MaxConnectionsPerSource=0")
        more = [self.connect() for _ in range(20)]
        self.assertEqual({self.ask(c).status for c in held + more}, {200})
        h.stop()

    def test_requests_of_one(self):
        h = self.up("MaxRequestsPerConnection=3")
        c = self.connect()
        got = [self.ask(c) for _ in range(3)]
        self.assertEqual([(r.status, r.headers["Connection"]) for r in got], [(200, None), (200, None), (200, "close")])
        h.stop()

    def test_idle(self):
        h = self.up("IdleTimeoutSec=200ms")
        c = self.connect()
        self.assertEqual(self.ask(c).status, 200)
        self.assertEqual(c.sock.recv(1), b"", "it is closed")
        h.stop()

    def test_descriptors(self):
        """None left: accepting waits, who is there is served, and who waits is served once there are some again."""
        h = self.up("MaxConnectionsPerSource=0")
        c, rpc = self.connect(), h.rpc_pid()
        self.assertEqual(self.ask(c).status, 200)
        self.limit(rpc, max(int(n) for n in os.listdir("/proc/%d/fd" % rpc)) + 1)
        late = self.connect()  # the kernel's queue has it
        eventually(lambda: "accept: Too many open files" in h.log(), what="the listener out of descriptors")
        self.assertEqual(self.ask(c).status, 200)
        late.request("GET", WORKERS, headers=TOKEN)
        before = harness.cpu_ticks(rpc)
        for _ in range(50):  # while this one is answered, the other one costs nothing that counts
            self.assertEqual(self.ask(c).status, 200)
        self.assertLess(harness.cpu_ticks(rpc) - before, 50)
        self.limit(rpc, 512)
        self.assertEqual(late.getresponse().status, 200)
        self.assertGreaterEqual(self.metric(h, "http_accept_pauses_total"), 1)
        h.stop()

    def limit(self, pid, n):
        """By a process of its user: a container's root may not."""
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            uid = int(next(line for line in f if line.startswith("Uid:")).split()[1])
        subprocess.run(["prlimit", "--pid", str(pid), "--nofile=%d:" % n], user=uid, group=uid, extra_groups=[] if harness.ROOT else None, check=True)


class Requests(Limited):
    def test_rate(self):
        h = self.up("RequestRate=5")
        c = self.connect()
        got = [self.ask(c) for _ in range(20)]
        self.assertEqual([r.status for r in got[:5]], [200] * 5)
        over = [r for r in got if r.status == 429]
        self.assertTrue(over)
        self.assertEqual((over[0].headers["Retry-After"], over[0].json["error"]["code"]), ("1", 1429))
        self.assertEqual(self.ask(self.connect()).status, 429, "a connection of its own does not help")
        self.assertEqual(self.ask(self.connect("127.0.0.2")).status, 200)
        self.assertEqual({h.http("GET", WORKERS).status for _ in range(20)}, {200}, "the unix socket is not counted")
        self.assertGreaterEqual(self.metric(h, "http_over_rate_total"), len(over))
        self.change(h, "")
        self.assertEqual({self.ask(c).status for _ in range(20)}, {200})
        h.stop()

    def test_headers(self):
        h = self.up("MaxHeaders=20\nMaxHeaderBytes=2K")
        self.assertEqual(self.ask(self.connect(), headers={"X-%d" % i: "1" for i in range(10)}).status, 200)
        self.assertEqual(self.ask(self.connect(), headers={"X-%d" % i: "1" for i in range(30)}).status, 431)
        self.assertEqual(self.ask(self.connect(), headers={"X": "1" * 3000}).status, 431)
        self.change(h, "MaxHeaders=200\nMaxHeaderBytes=64K")
        self.assertEqual(self.ask(self.connect(), headers={"X-%d" % i: "1" for i in range(150)}).status, 200)
        self.assertEqual(self.ask(self.connect(), headers={"X": "1" * 50000}).status, 200)
        h.stop()

    def test_body(self):
        h = self.up("MaxRequestBytes=1K")
        path = "/compute/hosts/batchRestartAgents"
        kind = {"Content-Type": "application/json"}
        self.assertEqual(self.ask(self.connect(), "POST", path, kind, '{"hostIds": [%d]}' % (HOST_ID + 1) + " " * 900).status, 200)
        self.assertEqual(self.ask(self.connect(), "POST", path, kind, " " * 1100).status, 413)
        h.stop()


class Held(Limited):
    def stream(self, path):
        s = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
        self.addCleanup(s.close)
        s.sendall(("GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n" % path).encode())
        seen = b""
        while b"\r\n\r\n" not in seen:
            more = s.recv(4096)
            self.assertTrue(more)
            seen += more
        return int(seen.split()[1]), s

    def test_streams(self):
        h = self.up("MaxEventStreams=2\nMaxLogStreams=1")
        for path, most in (("/agentd/v1/events", 2), (WORKERS + "/web/logs/web.log?follow=1", 1)):
            held = [self.stream(path) for _ in range(most)]
            self.assertEqual([status for status, _ in held], [200] * most)
            self.assertEqual(self.stream(path)[0], 429)
            held[0][1].close()
            eventually(lambda p=path: self.stream(p)[0] == 200, what="the place of who has left")
        h.stop()

    def test_operations(self):
        h = self.up("MaxOperationsQueued=2", workers=("a", "b", "c"))
        gate = h.gate()
        for id, w in enumerate(("a", "b"), 101):
            h.worker(w, service="ExecStartPre=/bin/sh -c '%s'" % gate.wait, section="ReadyCheck=stable:1ms", id=id)
        h.ok("POST", "/agentd/v1/reload")
        held = [threading.Thread(target=h.operation, args=(w, "restart")) for w in ("a", "b")]
        for t in held:
            t.start()
        eventually(lambda: len([o for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["result"] == "running"]) == 2)
        r = h.operation("c", "restart")
        self.assertEqual((r.status, r.json["error"]["code"]), (429, 1429))
        self.assertEqual(h.operation("c", "start").status, 429)
        gate.open()
        for t in held:
            t.join(harness.DEADLINE)
        self.assertEqual(h.operation("c", "restart").status, 200)
        self.assertEqual(self.metric(h, "operations_max"), 2)
        h.stop()


del Limited
