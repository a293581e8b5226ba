# SPDX-License-Identifier: Apache-2.0
"""A signal to a worker's main process, over HTTP and by agentctl; and the reload of one worker."""
import os

from harness import Case, both, eventually

CATCHER = """#!/usr/bin/python3
import os, signal, socket, sys
caught = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT)
signal.pthread_sigmask(signal.SIG_BLOCK, caught)
if os.fork() == 0:
    while True:
        signal.pause()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    sig = signal.sigwait(caught)
    with open(sys.argv[1], "a") as f:
        f.write("%s %d\\n" % (signal.Signals(sig).name, os.getpid()))
"""


@both
class Signals(Case):
    cgroup = True

    def catcher(self, section=""):
        h = self.host(cgroup=self.cgroup)
        with open(h.dir + "/catcher", "w", encoding="ascii") as f:
            f.write(CATCHER)
        os.chmod(h.dir + "/catcher", 0o755)
        h.worker("a", command="%s/catcher %s/caught" % (h.dir, h.dir), service="Type=notify", section=section)
        h.worker("down", "", "Type=notify\nTimeoutStartSec=1h")
        h.start()
        h.until("a", "UP")
        return h

    def caught(self, h):
        with open(h.dir + "/caught", "a+", encoding="ascii") as f:
            f.seek(0)
            return f.read().splitlines()

    def test_http(self):
        h = self.catcher()
        pid = h.record("a")["pid"]
        want = []
        for name in ("HUP", "USR1", "SIGUSR2", "WINCH", "CONT"):
            r = h.http("POST", "/agentd/v1/workers/a/signal?signal=" + name)
            self.assertEqual((r.status, r.data["verb"], r.data["result"]), (200, "signal", "done"), r)
            self.assertIn("was sent to process %d" % pid, r.data["message"])
            want.append("SIG%s %d" % (name.removeprefix("SIG"), pid))
            eventually(lambda: self.caught(h) == want, what=repr(want))
        self.assertEqual(h.http("POST", "/agentd/v1/workers/a/reload").data["verb"], "reload")
        want.append("SIGHUP %d" % pid)
        eventually(lambda: self.caught(h) == want, what="its own reload")
        self.assertEqual((h.record("a")["pid"], h.record("a")["generation"], h.record("a")["state"]), (pid, 1, "UP"))
        h.stop()

    def test_refused(self):
        h = self.catcher("Operable=no")
        for name in ("TERM", "KILL", "9", "STOP", "INT", "", "HUPX", "%00", "RTMIN+1"):
            self.assertEqual(h.http("POST", "/agentd/v1/workers/a/signal?signal=" + name).status, 400, name)
        self.assertEqual(h.http("POST", "/agentd/v1/workers/a/signal").status, 400)
        self.assertEqual(h.http("GET", "/agentd/v1/workers/a/signal?signal=HUP").status, 405)
        self.assertEqual(h.http("POST", "/agentd/v1/workers/nobody/signal?signal=HUP").status, 404)
        self.assertEqual(h.http("POST", "/agentd/v1/workers/a/signal?signal=HUP").status, 409)
        r = h.http("POST", "/agentd/v1/workers/down/signal?signal=HUP")
        self.assertEqual(r.status, 409)
        self.assertIn("not ready yet", r.message)
        h.operation("down", "stop")
        self.assertIn("does not run", h.http("POST", "/agentd/v1/workers/down/reload").message)
        self.assertEqual(self.caught(h), [])
        h.stop()

    def test_key(self):
        """The same request again is answered with the same operation, and nothing is sent; another one is refused."""
        h = self.catcher()
        ask = {"Idempotency-Key": "once"}
        first = h.http("POST", "/agentd/v1/workers/a/signal?signal=USR1", headers=ask)
        again = h.http("POST", "/agentd/v1/workers/a/signal?signal=USR1", headers=ask)
        self.assertEqual((first.status, again.status, first.data["id"]), (200, 200, again.data["id"]))
        self.assertEqual(h.http("POST", "/agentd/v1/workers/a/signal?signal=USR2", headers=ask).status, 409)
        h.http("POST", "/agentd/v1/workers/a/signal?signal=WINCH")
        pid = h.record("a")["pid"]
        eventually(lambda: self.caught(h)[-1:] == ["SIGWINCH %d" % pid])
        self.assertEqual(self.caught(h), ["SIGUSR1 %d" % pid, "SIGWINCH %d" % pid])
        h.stop()

    def test_agentctl(self):
        h = self.catcher()
        pid = h.record("a")["pid"]
        r = h.ctl("signal", "USR1", "a")
        self.assertEqual((r.returncode, r.stdout), (0, "a: SIGUSR1 was sent to process %d\n" % pid), r.stderr)
        r = h.ctl("reload", "a")
        self.assertEqual((r.returncode, r.stdout), (0, "a: SIGHUP was sent to process %d\n" % pid), r.stderr)
        self.assertEqual(h.ctl("signal", "KILL", "a").returncode, 1)
        self.assertEqual(h.ctl("signal").returncode, 2)
        self.assertEqual(h.ctl("signal", "HUP").returncode, 2)
        self.assertEqual(h.ctl("signal", "a/b?c", "a").returncode, 2)
        self.assertEqual(h.ctl("reload", "nobody").returncode, 1)
        self.assertEqual(h.ctl("reload").returncode, 0)
        eventually(lambda: len(self.caught(h)) == 2)
        h.stop()
