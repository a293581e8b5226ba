# SPDX-License-Identifier: Apache-2.0
"""ReadyCheck=http: and HealthCheck=: what a worker answers when it is asked from outside, and what follows."""
import os
import signal

import harness
from harness import Case, both, eventually

# An HTTP server that does what a file says: a status and a body, "hang", "close" or "rubbish". It counts what it is asked.
SERVER = """#!/usr/bin/python3
import os, socket, sys
where, port = sys.argv[1], int(sys.argv[2])
if len(sys.argv) > 3:
    open(sys.argv[3], "rb", 0).read(1)
s = socket.create_server(("127.0.0.1", port), backlog=64, reuse_port=False)
held = []
while True:
    c = s.accept()[0]
    with open(where + "/does") as f:
        does = f.read()
    asked = c.recv(4096).split(b"\\r\\n")[0].decode()
    with open(where + "/asked", "a") as f:
        f.write(asked + "\\n")
    if does == "hang":
        held.append(c)
        continue
    if does == "rubbish":
        c.sendall(b"\\0\\1\\2 no such thing")
    elif does != "close":
        status, _, body = does.partition(" ")
        c.sendall(("HTTP/1.1 %s X\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (status, len(body), body)).encode())
    c.close()
"""


def refused():
    """Connections over TCP on this machine that nobody accepted, since it booted."""
    with open("/proc/net/snmp", encoding="ascii") as f:
        names, values = [line.split() for line in f if line.startswith("Tcp:")]
    return int(dict(zip(names, values))["AttemptFails"])


class Asked(Case):
    cgroup = True

    def server(self, check, section="", service="", gated=False, does="200 all is well"):
        """gated: it listens once self.gate is open."""
        h = self.host(cgroup=self.cgroup)
        self.gate = h.gate()
        self.port = harness.free_port()
        with open(h.dir + "/server", "w", encoding="ascii") as f:
            f.write(SERVER)
        os.chmod(h.dir + "/server", 0o755)
        self.does(h, does)
        h.worker("a", command="%s/server %s %d %s" % (h.dir, h.dir, self.port, self.gate.path if gated else ""),
                 service="TimeoutStopSec=2s\n" + service, section=(check + "\n" + section).replace("%d", str(self.port)))
        return h

    def does(self, h, text):
        with open(h.dir + "/does.new", "w", encoding="ascii") as f:
            f.write(text)
        os.rename(h.dir + "/does.new", h.dir + "/does")

    def asked(self, h):
        with open(h.dir + "/asked", "a+", encoding="ascii") as f:
            f.seek(0)
            return f.read().splitlines()


@both
class Ready(Asked):
    def test_waits_for_the_answer(self):
        h = self.server("ReadyCheck=http://127.0.0.1:%d/ready?x=1", gated=True, does="503 not yet")
        before = refused()
        h.start()
        eventually(lambda: refused() > before, what="a check that nobody listens to")
        self.gate.open()
        eventually(lambda: len(self.asked(h)) > 2)
        self.assertEqual(h.record("a")["state"], "STARTING")
        self.does(h, "204 ")
        h.until("a", "UP")
        self.assertEqual(set(self.asked(h)), {"GET /ready?x=1 HTTP/1.0"})
        r = h.operation("a", "restart")
        self.assertEqual((r.status, h.record("a")["state"]), (200, "UP"))
        h.stop()

    def test_status_and_text(self):
        h = self.server("ReadyCheck=http:http://localhost:%d 418 short and stout", does="200 short and stout")
        h.start()
        eventually(lambda: len(self.asked(h)) > 1)
        self.does(h, "418 long and thin")
        n = len(self.asked(h))
        eventually(lambda: len(self.asked(h)) > n + 1)
        self.assertEqual(h.record("a")["state"], "STARTING")
        self.does(h, "418 I am short and stout, you know")
        h.until("a", "UP")
        h.stop()

    def test_never(self):
        h = self.server("ReadyCheck=http://127.0.0.1:%d/", service="TimeoutStartSec=300ms\nRestart=no", does="rubbish")
        h.start()
        self.assertEqual(h.until("a", "DOWN")["reason"], "start-timeout")
        h.stop()


@both
class Health(Asked):
    FAST = "HealthInterval=20ms\nHealthTimeout=200ms\nHealthRetries=2\n"

    def test_restart(self):
        h = self.server("HealthCheck=http://127.0.0.1:%d/health", self.FAST, "Restart=on-failure")
        h.start()
        h.all_up()
        w = h.meets("a", health="healthy", healthMessage="")
        self.does(h, "500 broken")
        eventually(lambda: h.record("a")["generation"] > w["generation"])
        self.does(h, "200 ")
        now = h.meets("a", health="healthy", state="UP")
        self.assertIn("unhealthy: the answer is 500", h.log())
        self.assertIn("UNHEALTHY: UP -> STOPPING", h.log())
        self.assertNotEqual(now["pid"], w["pid"])
        h.stop()

    def test_report(self):
        h = self.server("HealthCheck=http://127.0.0.1:%d/ 200 all is well", self.FAST + "HealthAction=report")
        h.start()
        h.all_up()
        for does, why in (("200 nothing", "does not contain"), ("hang", ""), ("close", "not HTTP"), ("rubbish", "not HTTP")):
            with self.subTest(does=does):
                h.meets("a", health="healthy")
                self.does(h, does)
                w = h.meets("a", health="unhealthy")
                self.assertIn(why, w["healthMessage"])
                self.assertEqual((w["state"], w["generation"]), ("UP", 1))
                self.does(h, "200 all is well")
        h.meets("a", health="healthy", healthMessage="", generation=1)
        h.stop()

    def test_one_at_a_time(self):
        """A worker that hangs is not asked again before it has answered, or has had its time."""
        h = self.server("HealthCheck=http://127.0.0.1:%d/", "HealthInterval=10ms\nHealthTimeout=300ms\nHealthAction=report\nHealthRetries=2", does="hang")
        h.start()
        h.all_up()
        h.meets("a", health="unhealthy")
        self.assertLessEqual(len(self.asked(h)), 4)
        h.stop()

    def test_policy(self):
        h = self.server("HealthCheck=http://127.0.0.1:%d/", self.FAST + "ReadyCheck=tcp:%d\n", "Restart=on-success", does="404 ")
        h.start()
        w = h.until("a", "DOWN")
        self.assertEqual((w["reason"], w["goal"], w["health"]), ("unhealthy", "UP", ""))
        self.assertIn("unhealthy: the answer is 404", w["message"])
        h.stop()

    def test_tcp(self):
        """The port has to be its own: somebody else's does not do."""
        h = self.host(cgroup=self.cgroup)
        port = harness.free_port()
        h.worker("a", "--listen %d" % port, section="HealthCheck=tcp:%d\nHealthAction=report\n" % port + self.FAST)
        h.worker("b", section="HealthCheck=tcp:%d\nHealthAction=report\n" % port + self.FAST)
        h.start()
        h.all_up()
        h.meets("a", health="healthy")
        w = eventually(lambda: (lambda r: r if r["health"] == "unhealthy" else None)(h.record("b")))
        self.assertIn("does not listen on port %d" % port, w["healthMessage"])
        h.stop()

    def test_unix(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--unix %s/sock" % h.dir, section="HealthCheck=unix:%s/sock\nHealthAction=report\n" % h.dir + self.FAST)
        h.start()
        h.all_up()
        h.meets("a", health="healthy")
        os.unlink(h.dir + "/sock")
        w = h.meets("a", health="unhealthy")
        self.assertIn("No such file", w["healthMessage"])
        h.stop()

    def test_live_and_over_agentd(self):
        """A reload changes it at once; the next agentd asks on."""
        h = self.server("HealthCheck=http://127.0.0.1:%d/", "HealthInterval=1h\nHealthAction=report", does="500 ")
        h.start()
        h.all_up()
        pid = h.record("a")["pid"]
        self.assertEqual(h.record("a")["health"], "unknown")
        path = h.workers + "/a.conf"
        with open(path, encoding="ascii") as f:
            text = f.read()
        with open(path, "w", encoding="ascii") as f:
            f.write(text.replace("HealthInterval=1h", "HealthInterval=20ms\nHealthRetries=2"))
        h.ok("POST", "/agentd/v1/reload")
        h.meets("a", health="unhealthy", pid=pid)
        h.kill()
        h.start()
        h.meets("a", health="unhealthy", pid=pid)
        n = len(self.asked(h))
        h.proc.send_signal(signal.SIGUSR2)
        eventually(lambda: any(o["verb"] == "upgrade" and o["result"] == "done" for o in h.ok("GET", "/agentd/v1/operations")["contents"]))
        h.meets("a", health="unhealthy", pid=pid)
        self.assertGreater(len(self.asked(h)), n)
        h.operation("a", "stop")
        self.assertEqual(h.record("a")["health"], "")
        h.stop()


# Notes that it was asked, with what it was told, and does what a file says: "0", "1" or "hang".
CHECK = """#!/bin/sh
echo "$MAINPID $AGENTD_ALIAS $*" >>$1/asked
echo $$ >>$1/pids
case "$(cat $1/does)" in
hang) sleep infinity & echo $! >>$1/pids; wait ;;
*) exit $(cat $1/does) ;;
esac
"""


@both
class Commands(Asked):
    def host_with(self, section, does, service=""):
        h = self.host(cgroup=self.cgroup)
        with open(h.dir + "/check", "w", encoding="ascii") as f:
            f.write(CHECK)
        os.chmod(h.dir + "/check", 0o755)
        for name in ("asked", "pids"):
            open(h.dir + "/" + name, "w", encoding="ascii").close()
            os.chmod(h.dir + "/" + name, 0o666)
        self.does(h, does)
        h.worker("a", service=service, section=section.replace("CHECK", "%s/check %s" % (h.dir, h.dir)))
        h.start()
        return h

    def all_gone(self, h):
        with open(h.dir + "/pids", encoding="ascii") as f:
            for pid in f.read().split():
                harness.wait_gone(int(pid))

    def test_ready(self):
        h = self.host_with('ReadyCheck=exec:CHECK ${AGENTD_ALIAS} "two words" $HOME', "1", "User=nobody" if harness.ROOT else "")
        w = eventually(lambda: (lambda r: r if r["message"].startswith("ReadyCheck=exec: exited with status 1") else None)(h.record("a")))
        self.assertEqual(w["state"], "STARTING")
        self.does(h, "0")
        w = h.until("a", "UP")
        self.assertEqual(w["message"], "")
        home = "/nonexistent" if harness.ROOT else os.path.expanduser("~")
        self.assertEqual(set(self.asked(h)), {"%d a %s a two words %s" % (w["pid"], h.dir, home)})
        self.assertEqual(h.operation("a", "restart").status, 200)
        h.stop()

    def test_ready_hangs(self):
        """It is ended with the start, and what it has started."""
        h = self.host_with("ReadyCheck=exec:CHECK", "hang", "Restart=no\nTimeoutStartSec=500ms")
        w = h.until("a", "DOWN")
        self.assertEqual(w["reason"], "start-timeout")
        self.all_gone(h)
        h.stop()

    def test_health(self):
        """Not well, hanging, well again: one at a time, each with its own deadline, in the worker's cgroup."""
        h = self.host_with("HealthCheck=exec:CHECK\nHealthInterval=50ms\nHealthTimeout=200ms\nHealthRetries=2\nHealthAction=report", "0")
        w = h.meets("a", health="healthy")
        self.does(h, "3")
        self.assertEqual(h.meets("a", health="unhealthy")["healthMessage"], "exited with status 3")
        self.does(h, "0")
        h.meets("a", health="healthy")
        self.does(h, "hang")
        self.assertEqual(h.meets("a", health="unhealthy")["healthMessage"], "it was not finished within HealthTimeout=")
        self.assertLessEqual(len(h.processes("a")), 3, "the worker, and one command with what it has started")
        self.does(h, "0")
        h.meets("a", health="healthy", pid=w["pid"])
        h.operation("a", "stop")
        self.all_gone(h)
        h.stop()

    def test_health_restarts(self):
        h = self.host_with("HealthCheck=exec:CHECK\nHealthInterval=20ms\nHealthRetries=2", "0")
        h.meets("a", health="healthy")
        self.does(h, "1")
        eventually(lambda: h.record("a")["generation"] > 1)
        self.does(h, "0")
        h.meets("a", health="healthy", state="UP")
        h.stop()

    def test_death_of_agentd(self):
        h = self.host_with("HealthCheck=exec:CHECK\nHealthInterval=20ms\nHealthTimeout=100s", "hang")
        w = h.until("a", "UP")
        eventually(lambda: self.asked(h))
        h.kill()
        h.start()
        self.assertEqual(h.record("a")["pid"], w["pid"])
        h.stop()
        self.all_gone(h)
