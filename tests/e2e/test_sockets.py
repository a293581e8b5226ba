# SPDX-License-Identifier: Apache-2.0
"""ListenStream= of a worker: agentd holds its sockets, and no client notices a restart."""
import os
import signal
import socket
import threading

import harness
from harness import Case, both, eventually

# An HTTP server on the descriptors that it is given: one connection a request, answers who it is.
SERVER = """#!/usr/bin/python3
import os, select, signal, socket, sys
assert int(os.environ["LISTEN_PID"]) == os.getpid()
n = int(os.environ["LISTEN_FDS"])
assert os.environ["LISTEN_FDNAMES"] == ":".join(["web"] * n)
socks = [socket.socket(fileno=3 + i) for i in range(n)]
stop = []
signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
r, w = os.pipe()
os.set_blocking(w, False)
signal.set_wakeup_fd(w)
if len(sys.argv) > 1:
    exec(sys.argv[1])
if "NOTIFY_SOCKET" in os.environ:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while not stop:
    for s in select.select(socks + [r], [], [])[0]:
        if s == r or stop:
            break
        s.setblocking(False)
        try:
            c = s.accept()[0]
        except BlockingIOError:
            continue
        finally:
            s.setblocking(True)
        c.setblocking(True)
        while b"\\r\\n\\r\\n" not in c.recv(4096):
            pass
        body = "%d" % os.getpid()
        c.sendall(("HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s" % (len(body), body)).encode())
        c.close()
"""


def get(address, timeout=harness.DEADLINE):
    """The pid that answers."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as s:
        s.settimeout(timeout)
        s.connect(address)
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        text = b""
        while True:
            more = s.recv(4096)
            if not more:
                break
            text += more
    if not text.startswith(b"HTTP/1.1 200"):
        raise AssertionError(text)
    return int(text.split(b"\r\n\r\n")[1])


class Load:
    """Clients that ask without pause; every answer but a good one is kept."""

    def __init__(self, address, clients=2):
        self.address, self.bad, self.n, self.on = address, [], 0, True
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def run(self):
        while self.on:
            try:
                get(self.address)
                self.n += 1
            except Exception as e:  # whatever it is: it is a request that failed
                self.bad.append(repr(e))

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.on = False
        for t in self.threads:
            t.join(harness.DEADLINE)


class Base(Case):
    cgroup = True

    def prepare(self, sockets, service="Type=notify", section="", mode="stop-start", argument="", **how):
        h = self.host(cgroup=self.cgroup, **how)
        h.write("server", SERVER, 0o755)
        self.define(h, sockets, service, section, mode, argument)
        return h

    def define(self, h, sockets, service="Type=notify", section="", mode="stop-start", argument=""):
        h.worker("web", command="%s/server %s" % (h.dir, argument), service=service, id=7,
                 section="RestartMode=%s\n%s%s" % (mode, "".join("ListenStream=%s\n" % s for s in sockets), section))


@both
class Held(Base):
    def test_all_kinds(self):
        port, other = harness.free_port(), harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port, str(other)])
        h.start()
        pid = h.until("web", "UP")["pid"]
        self.assertEqual([get(("127.0.0.1", p)) for p in (port, other)], [pid, pid])
        ports = ",".join(str(p) for p in sorted((port, other)))
        self.assertEqual(h.record("web")["ports"], ports)
        self.assertEqual(h.process(7)["ports"], ports)
        # a crash: whoever comes meanwhile waits
        os.kill(pid, signal.SIGKILL)
        self.assertNotEqual(get(("127.0.0.1", port)), pid)
        # stopped: refused
        self.assertEqual(h.operation("web", "stop").status, 200)
        with self.assertRaises(ConnectionRefusedError):
            get(("127.0.0.1", port))
        self.assertEqual(h.operation("web", "start").status, 200)
        get(("127.0.0.1", port))
        # another address is a restart, and the earlier one is closed
        self.define(h, ["127.0.0.1:%d" % port])
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: h.record("web")["generation"] == 4 and h.record("web")["state"] == "UP")
        get(("127.0.0.1", port))
        with self.assertRaises(ConnectionRefusedError):
            get(("127.0.0.1", other))
        h.stop()

    def test_unix(self):
        if not harness.ROOT:
            self.skipTest("needs root: a folder that is trusted")
        path = "/run/%s.sock" % harness.NAME
        h = self.prepare([path])
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        h.start()
        pid = h.until("web", "UP")["pid"]
        self.assertEqual(get(path), pid)
        h.kill()
        h.start()
        self.assertEqual(get(path), pid)
        self.assertEqual(h.operation("web", "restart").status, 200)
        self.assertNotEqual(get(path), pid)
        h.stop()
        self.assertFalse(os.path.exists(path))

    def test_refused(self):
        """A folder that others may write, an address in use, a file in the way: said, and nothing is touched."""
        port = harness.free_port()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            h = self.prepare(["127.0.0.1:%d" % port], service="Type=notify\nRestart=no")
            h.start()
            w = h.until("web", "DOWN")
            self.assertIn("opening ListenStream= 127.0.0.1:%d failed: Address already in use" % port, w["message"])
            open_to_all = h.dir + "/open"
            os.mkdir(open_to_all)
            os.chmod(open_to_all, 0o777)
            os.symlink("/etc/passwd", open_to_all + "/web.sock")
            self.define(h, [open_to_all + "/web.sock"], service="Type=notify\nRestart=no")
            h.ok("POST", "/agentd/v1/reload")
            r = h.operation("web", "start")
            self.assertEqual(r.status, 500)
            self.assertIn("ListenStream= %s/web.sock failed" % open_to_all, r.message)
            self.assertTrue(os.path.islink(open_to_all + "/web.sock"))
            h.stop()

    def test_restarts_under_load(self):
        """A hundred restarts, agentd's death and an upgrade: no request fails."""
        port = harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port])
        h.start()
        h.until("web", "UP")
        with Load(("127.0.0.1", port)) as load:
            for _ in range(100 if harness.ALL or not harness.SANITIZED else 10):
                self.assertEqual(h.operation("web", "restart").status, 200)
            h.kill()
            h.start()
            for _ in range(3):
                self.assertEqual(h.operation("web", "restart").status, 200)
            os.kill(h.pid, signal.SIGUSR2)
            eventually(lambda: any(o["verb"] == "upgrade" and o["result"] == "done" for o in h.ok("GET", "/agentd/v1/operations")["contents"]))
            for _ in range(3):
                self.assertEqual(h.operation("web", "restart").status, 200)
        self.assertEqual(load.bad, [])
        self.assertGreater(load.n, 100)
        h.stop()


class Overlap(Base):
    """RestartMode=overlap: the next one is ready before the earlier one is stopped."""

    def setUp(self):
        if not harness.ROOT or not harness.cgroup2():
            self.skipTest("needs root and cgroup2")

    def test_restarts_under_load(self):
        port = harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port], mode="overlap")
        h.start()
        h.until("web", "UP")
        n = 100 if harness.ALL or not harness.SANITIZED else 10
        with Load(("127.0.0.1", port)) as load:
            for i in range(n):
                before = h.record("web")["pid"]
                r = h.operation("web", "restart")
                self.assertEqual(r.status, 200, r)
                self.assertEqual(r.data["before"]["pid"], before)
                self.assertFalse(harness.is_alive(before), "gone before the reply")
                w = h.record("web")
                self.assertEqual((w["pid"], w["generation"], w["state"]), (r.data["after"]["pid"], i + 2, "UP"))
            self.assertEqual(len(h.processes()), 1)
        self.assertEqual(load.bad, [])
        self.assertEqual(len(h.leaves()), 1)
        h.stop()

    def test_both_run(self):
        """While the next one is on its way the record is the earlier one's, and it serves."""
        port = harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port], mode="overlap")
        h.start()
        w = h.until("web", "UP")
        gate = h.gate()
        self.define(h, ["127.0.0.1:%d" % port], service='Type=notify\nExecStartPost=/bin/sh -c "%s"' % gate.wait, mode="overlap")
        h.ok("POST", "/agentd/v1/reload")
        c = h.connect()
        c.request("POST", "/agentd/v1/workers/web/restart")
        eventually(lambda: len([p for p in h.processes() if harness.name_of(p) == "server"]) == 2)
        now = h.record("web")
        self.assertEqual((now["pid"], now["generation"], now["state"]), (w["pid"], 1, "UP"))
        self.assertIn(get(("127.0.0.1", port)), h.processes())
        # another restart waits, a stop ends all of them
        queued = h.connect()
        queued.request("POST", "/agentd/v1/workers/web/restart")
        self.assertEqual(h.operation("web", "stop").status, 200)
        self.assertEqual([x.getresponse().status for x in (c, queued)], [409, 409])
        self.assertEqual(h.processes(), {})
        self.assertEqual(h.record("web")["state"], "DOWN")
        gate.open()
        self.assertEqual(h.operation("web", "start").status, 200)
        h.stop()

    def test_rolled_back(self):
        """A broken build: nobody notices, and the operation says why."""
        port = harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port], mode="overlap")
        h.start()
        w = h.until("web", "UP")
        with Load(("127.0.0.1", port)) as load:
            for broken, why in (("raise SystemExit('no good')", "exited with status 1"), ("import signal; signal.pause()", "TimeoutStartSec=")):
                h.write("server", SERVER.replace("stop = []", broken), 0o755)
                self.define(h, ["127.0.0.1:%d" % port], service="Type=notify\nTimeoutStartSec=300ms", mode="overlap")
                h.ok("POST", "/agentd/v1/reload")
                r = h.operation("web", "restart")
                self.assertEqual(r.status, 500)
                self.assertRegex(r.message, "^rolled back, process %d goes on: .*%s" % (w["pid"], why))
                now = h.record("web")
                self.assertEqual((now["pid"], now["state"], now["generation"]), (w["pid"], "UP", 1))
                self.assertEqual(list(h.processes()), [w["pid"]])
            h.write("server", SERVER, 0o755)
            self.assertEqual(h.operation("web", "restart").status, 200)
        self.assertEqual(load.bad, [])
        h.stop()

    def test_rolled_back_with_sockets(self):
        """The one that goes on keeps its sockets, also those that the next one's file does not name; then they go."""
        h = self.prepare([], mode="overlap")
        paths = [h.dir + "/" + n for n in ("one.sock", "two.sock")]
        self.define(h, paths[:1], mode="overlap")
        h.start()
        h.until("web", "UP")
        h.write("server", SERVER.replace("stop = []", "raise SystemExit('no good')"), 0o755)
        self.define(h, paths[1:], service="Type=notify\nEnvironment=N=1", mode="overlap")
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: "rolled back" in (h.record("web")["message"] or ""))
        self.assertEqual(get(paths[0]), h.record("web")["pid"])
        h.write("server", SERVER, 0o755)
        self.assertEqual(h.operation("web", "restart").status, 200)
        self.assertEqual(get(paths[1]), h.record("web")["pid"])
        self.assertFalse(os.path.exists(paths[0]))
        h.stop()

    def test_reload_overlaps(self):
        port = harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port], mode="overlap")
        h.start()
        w = h.until("web", "UP")
        with Load(("127.0.0.1", port)) as load:
            for i in range(5):
                self.define(h, ["127.0.0.1:%d" % port], service="Type=notify\nEnvironment=N=%d" % i, mode="overlap")
                h.ok("POST", "/agentd/v1/reload")
            eventually(lambda: (lambda r: r["state"] == "UP" and not r["stale"] and r["pid"] != w["pid"] and len(h.processes()) == 1)(h.record("web")))
            pid = h.record("web")["pid"]
            self.assertEqual(harness.environ_of(pid)[b"N"], b"4")
        self.assertEqual(load.bad, [])
        h.stop()

    def test_deaths(self):
        """The earlier one crashes, agentd dies, while two are there: one is left in the end."""
        port = harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port], mode="overlap")
        gate = h.gate()
        self.define(h, ["127.0.0.1:%d" % port], service='Type=notify\nExecStartPost=/bin/sh -c "%s"' % gate.wait, mode="overlap")
        h.start(wait=True)
        gate.open()
        first = h.until("web", "UP")["pid"]
        for how in ("worker", "agentd"):
            gate.shut()
            c = h.connect()
            c.request("POST", "/agentd/v1/workers/web/restart", headers={"Idempotency-Key": how})
            eventually(lambda: len([p for p in h.processes() if harness.name_of(p) == "server"]) == 2)
            if how == "worker":
                os.kill(first, signal.SIGKILL)
                eventually(lambda: h.record("web")["pid"] != first)
                gate.open()
                self.assertEqual(c.getresponse().status, 200)
            else:
                h.kill()
                gate.open()
                h.start()
                r = h.http("POST", "/agentd/v1/workers/web/restart", headers={"Idempotency-Key": how})
                self.assertEqual(r.status, 200, r)
            first = h.until("web", "UP")["pid"]
            self.assertEqual(list(h.processes()), [first])
            self.assertEqual(get(("127.0.0.1", port)), first)
            self.assertEqual(len(h.leaves()), 1)
        h.stop()

    def test_crash_meanwhile(self):
        """The earlier one crashes, and is up again before the next one is gone: nothing was rolled back, and each has a number."""
        port = harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port], mode="overlap")
        gate, down = h.gate(), h.gate("down")
        self.define(h, ["127.0.0.1:%d" % port], mode="overlap", service="\n".join((
            "Type=notify", "SetCredential=word:%s" % "x", 'ExecStartPost=/bin/sh -c "%s"' % gate.wait,
            'ExecStopPost=/bin/sh -c "[ $AGENTD_GENERATION != 2 ] || %s"' % down.wait)))
        gate.open()
        h.start()
        first = h.until("web", "UP")["pid"]
        gate.shut()
        c = h.connect()
        c.request("POST", "/agentd/v1/workers/web/restart")
        eventually(lambda: len([p for p in h.processes() if harness.name_of(p) == "server"]) == 2)
        os.kill(first, signal.SIGKILL)
        h.meets("web", state="STARTING")
        gate.open()
        w = h.until("web", "UP")
        self.assertEqual(w["generation"], 3)
        down.open()
        r = c.getresponse()
        self.assertEqual(r.status, 200, r.read())
        self.assertEqual((h.record("web")["pid"], list(h.processes())), (w["pid"], [w["pid"]]))
        folder = h.run + "/credentials"
        self.assertEqual(os.listdir(folder), ["web~3"])
        h.stop()

    def test_upgrade_waits(self):
        port = harness.free_port()
        h = self.prepare(["127.0.0.1:%d" % port], mode="overlap")
        h.start()
        h.until("web", "UP")
        with Load(("127.0.0.1", port)) as load:
            for _ in range(5):
                c = h.connect()
                c.request("POST", "/agentd/v1/workers/web/restart")
                os.kill(h.pid, signal.SIGUSR2)
                self.assertEqual(c.getresponse().status, 200)
                eventually(lambda: all(o["result"] != "running" for o in h.ok("GET", "/agentd/v1/operations")["contents"]))
        self.assertEqual(load.bad, [])
        self.assertEqual({o["result"] for o in h.ok("GET", "/agentd/v1/operations")["contents"]}, {"done"})
        h.stop()
