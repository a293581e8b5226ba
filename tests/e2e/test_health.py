# SPDX-License-Identifier: Apache-2.0
"""ReadyCheck=http: and HealthCheck=: what a worker answers when it is asked from outside, and what follows."""
import os
import signal

import harness
from harness import Case, both, eventually

# An HTTP server that does what a file says: a status and a body, "hang", "close" or "rubbish". It counts what it is asked.
SERVER = """#!/usr/bin/python3
import os, socket, sys, time
where, port = sys.argv[1], int(sys.argv[2])
if len(sys.argv) > 3:
    time.sleep(float(sys.argv[3]))
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


class Asked(Case):
    cgroup = True

    def server(self, check, section="", service="", delay="", does="200 all is well"):
        h = self.host(cgroup=self.cgroup)
        self.port = harness.free_port()
        with open(h.dir + "/server", "w", encoding="ascii") as f:
            f.write(SERVER)
        os.chmod(h.dir + "/server", 0o755)
        self.does(h, does)
        h.worker("a", command="%s/server %s %d %s" % (h.dir, h.dir, self.port, delay), service="TimeoutStopSec=2s\n" + service,
                 section=check % self.port + "\n" + section)
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
        h = self.server("ReadyCheck=http://127.0.0.1:%d/ready?x=1", delay="0.3", does="503 not yet")
        h.start()
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
        h = self.server("HealthCheck=http://127.0.0.1:%d/", self.FAST, "Restart=on-success", does="404 ")
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
