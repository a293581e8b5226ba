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
        path = "/run/agentd-test-%d.sock" % os.getpid()
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
