# SPDX-License-Identifier: Apache-2.0
"""A service manager of our own: what it keeps for the next agentd, and that nobody waits for one that does not read."""
import os
import socket
import threading

import harness
from harness import Case, eventually


class Manager:
    """It reads what it is told, as sd_notify(3) says, and keeps descriptors by their names, until it is frozen."""

    def __init__(self, path):
        self.path, self.heard, self.store = path, [], {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.thaw()

    def read(self):
        while True:
            text, fds, _, _ = socket.recv_fds(self.socket, 4096, 8)
            text = text.decode()
            if text == "FREEZE":
                return
            lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
            name = lines.get("FDNAME", "stored")
            name = name if ":" not in name else "stored"
            if "FDSTORE" in lines:
                self.store.setdefault(name, []).extend(fds)
            if "FDSTOREREMOVE" in lines:
                for fd in self.store.pop(name, []):
                    os.close(fd)
            self.heard.append(lines)

    def freeze(self):
        """It reads no more, and there is no room for anything."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect(self.path)
            s.send(b"FREEZE")
            self.thread.join(harness.DEADLINE)
            s.setblocking(False)
            try:
                while True:
                    s.send(b"X=1")
            except BlockingIOError:
                pass

    def thaw(self):
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def addresses(self):
        """Of all that listens in its store, by name."""
        return {name: sorted(socket.socket(fileno=os.dup(fd)).getsockname() for fd in fds) for name, fds in self.store.items()}


class Managed(Case):
    def prepare(self):
        h = self.host()
        h.env["NOTIFY_SOCKET"] = h.dir + "/manager"
        self.manager = Manager(h.env["NOTIFY_SOCKET"])
        return h

    def begin(self, h):
        h.start(wait=False)
        eventually(lambda: any("READY" in m for m in self.manager.heard), what="READY=1")
        return h.all_up()


class Store(Managed):
    def listens(self, h, alias, *ports):
        h.worker(alias, section="".join("ListenStream=127.0.0.1:%d\n" % p for p in ports), id=7)

    def kept(self, *ports):
        want = sorted(("127.0.0.1", p) for p in ports)
        eventually(lambda: self.manager.addresses().get("worker.7", []) == want, what="%r in the store" % want)

    def test_follows_the_file(self):
        """One that the file does not name any more is kept no longer: its address is free."""
        h = self.prepare()
        one, two, three = (harness.free_port() for _ in range(3))
        self.listens(h, "web", one, two)
        self.begin(h)
        self.kept(one, two)
        self.listens(h, "web", two)
        self.assertEqual(h.http("POST", "/agentd/v1/reload").status, 200)
        self.assertEqual(h.operation("web", "restart").status, 200)
        self.kept(two)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", one))
        self.listens(h, "web", two, three)
        self.assertEqual(h.http("POST", "/agentd/v1/reload").status, 200)
        self.assertEqual(h.operation("web", "restart").status, 200)
        self.kept(two, three)
        self.assertEqual(h.operation("web", "stop").status, 200)
        eventually(lambda: "worker.7" not in self.manager.store, what="an empty store")
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", two))
        h.stop()

    def test_any_alias(self):
        """An alias may have a colon, a name in the store must not."""
        h = self.prepare()
        port = harness.free_port()
        self.listens(h, "web:one", port)
        self.begin(h)
        self.kept(port)
        self.assertEqual(h.operation("web:one", "stop").status, 200)
        eventually(lambda: "worker.7" not in self.manager.store, what="an empty store")
        self.assertEqual([n for n in self.manager.store if n != "listen"], [])
        h.stop()


class Frozen(Managed):
    def test_nobody_waits(self):
        """It is told later what it has to know, and no worker waits for that."""
        h = self.prepare()
        h.env["WATCHDOG_USEC"] = "100000"
        port = harness.free_port()
        h.worker("web", section="ListenStream=127.0.0.1:%d\n" % port, id=7)
        self.begin(h)
        eventually(lambda: any("WATCHDOG" in m for m in self.manager.heard), what="a ping")
        self.manager.freeze()
        for verb, goal in (("stop", "DOWN"), ("start", "UP"), ("restart", "UP")):
            r = h.http("POST", "/agentd/v1/workers/web/" + verb, timeout=10)
            self.assertEqual((r.status, h.record("web")["state"]), (200, goal), r)
        self.assertEqual(h.http("POST", "/agentd/v1/reload", timeout=10).status, 200)
        before = len(self.manager.heard)
        self.manager.thaw()

        def told():
            since = self.manager.heard[before:]
            return any("RELOADING" in m for m in since) and any("READY" in m for m in since) and \
                any("WATCHDOG" in m for m in since) and [("127.0.0.1", port)] == self.manager.addresses().get("worker.7")
        eventually(told, what="all that it has to know")
        order = [k for m in self.manager.heard[before:] for k in ("FDSTOREREMOVE", "FDSTORE", "RELOADING", "READY") if k in m]
        self.assertEqual(order, ["FDSTOREREMOVE", "FDSTOREREMOVE", "FDSTORE", "RELOADING", "READY"])
        h.stop()
