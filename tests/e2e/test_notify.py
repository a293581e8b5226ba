# SPDX-License-Identifier: Apache-2.0
"""What a worker says by sd_notify(3): who is heard, what becomes of it, and the watchdog that waits for a word."""
import contextlib
import os
import signal
import socket
import struct
import threading
import time
import unittest

import harness
from harness import Case, both, children, eventually


class Speaking(Case):
    """A worker that says what the test tells it to say."""
    cgroup = True

    def say(self, h, *words, name="relay"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto("\n".join(words).encode(), h.dir + "/log/" + name)

    def speaker(self, args="", service="", relay="--relay", **how):
        h = self.host(cgroup=self.cgroup, **how)
        os.makedirs(h.dir + "/log", exist_ok=True)
        h.worker("a", "%s --notify READY=1 %s %s/log/relay" % (args, relay, h.dir), "Type=notify\n" + service)
        h.start()
        h.all_up()
        eventually(lambda: os.path.exists(h.dir + "/log/relay"))
        return h

    def upgrade(self, h):
        """Until it is confirmed: an agentd that is killed before is followed by the program of before."""
        h.proc.send_signal(signal.SIGUSR2)
        eventually(lambda: [o["result"] for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["verb"] == "upgrade"] == ["done"])


@both
class Words(Speaking):
    def test_status(self):
        h = self.speaker()
        self.assertEqual((h.record("a")["statusText"], h.record("a")["phase"]), ("", ""))
        self.say(h, "STATUS=serving 7 clients")
        h.meets("a", statusText="serving 7 clients")
        self.say(h, "X=1", "STATUS=" + "long" * 100, "no word at all")
        h.meets("a", statusText="long" * 50)
        self.assertEqual(h.record("a")["state"], "UP")
        h.operation("a", "restart")
        self.assertEqual(h.record("a")["statusText"], "", "the next incarnation has said nothing yet")
        h.stop()

    def test_phases(self):
        h = self.speaker()
        self.say(h, "RELOADING=1", "MONOTONIC_USEC=1")
        h.meets("a", phase="reloading")
        self.say(h, "READY=1", "STATUS=reloaded")
        h.meets("a", phase="", statusText="reloaded", state="UP")
        self.say(h, "STOPPING=1")
        h.meets("a", phase="stopping", state="UP")
        h.stop()

    def test_errno(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", '--notify "STATUS=reading its file" --notify ERRNO=2 --exit 1', "Type=notify\nRestart=no")
        h.worker("b", "--notify ERRNO=nonsense --notify ERRNO=99999999999999999999 --exit 1", "Type=notify\nRestart=no")
        h.start()
        h.until("a", "DOWN")
        self.assertIn("exited with status 1", h.record("a")["message"])
        h.until("b", "DOWN")
        h.stop()

    def test_outlives_agentd(self):
        """The socket is there again, under its name, after a death and after an upgrade of agentd."""
        h = self.speaker()
        pid = h.record("a")["pid"]
        self.say(h, "STATUS=one")
        h.meets("a", statusText="one")
        self.upgrade(h)
        h.meets("a", statusText="one", pid=pid)
        self.say(h, "STATUS=two")
        h.meets("a", statusText="two", pid=pid)
        h.kill()
        h.start()
        h.meets("a", statusText="", pid=pid, state="UP")
        self.say(h, "STATUS=three")
        h.meets("a", statusText="three", pid=pid)
        h.operation("a", "stop")
        self.assertEqual(os.listdir(h.run + "/notify"), [], "none of one that is down")
        h.stop()


@both
class Deadlines(Speaking):
    def test_extended(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        late = gate.args + "--delay 30000 --notify READY=1"
        h.worker("more", "--notify EXTEND_TIMEOUT_USEC=20000000 " + late, "Type=notify\nTimeoutStartSec=1s\nRestart=no")
        h.worker("ever", "--notify EXTEND_TIMEOUT_USEC=18446744073709551615 " + late,
                 "Type=notify\nTimeoutStartSec=1s\nRestart=no")
        h.worker("less", "--notify EXTEND_TIMEOUT_USEC=1 " + late, "Type=notify\nTimeoutStartSec=10s\nRestart=no")
        h.worker("none", "--notify EXTEND_TIMEOUT_USEC=-5 " + late, "Type=notify\nTimeoutStartSec=1s\nRestart=no")
        h.worker("ours", service="Type=notify\nTimeoutStartSec=1200ms\nRestart=no")
        h.start()
        self.assertEqual(h.until("none", "DOWN")["reason"], "start-timeout")
        h.until("ours", "DOWN")  # the others are past theirs by now
        self.assertEqual({a: h.record(a)["state"] for a in ("more", "ever", "less")}, dict.fromkeys(("more", "ever", "less"), "STARTING"))
        gate.open()
        for alias in ("more", "ever", "less"):
            h.until(alias, "UP")
        h.stop()

    def test_extended_stop(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        for alias, text in (("more", "EXTEND_TIMEOUT_USEC=20000000"), ("less", "STATUS=bye")):
            h.worker(alias, gate.args + "--notify READY=1 --at-term %s --slow-stop 30000" % text, "Type=notify\nTimeoutStopSec=1s")
        h.start()
        h.all_up()
        stopping, _ = harness.background(h.operation, "more", "stop")
        h.until("more", "STOPPING")
        h.operation("less", "stop")  # as long as that lasts, and begun after the other one
        self.assertEqual(h.record("more")["state"], "STOPPING")
        gate.open()
        stopping.join(harness.DEADLINE)
        ends = {a: h.record(a)["lastExit"] for a in ("more", "less")}
        self.assertEqual((ends["more"]["kind"], ends["more"]["status"]), ("exited", 0))
        self.assertEqual((ends["less"]["kind"], ends["less"]["signal"]), ("killed", signal.SIGKILL))
        h.stop()


@both
class Access(Speaking):
    def heard(self, service):
        """Is a child of the main process heard?"""
        h = self.speaker(relay="--child-relay", service=service)
        self.say(h, "STATUS=of the child")
        # the main process is heard after it, whoever it is that is heard before
        if "all" in service:
            h.meets("a", statusText="of the child")
        else:
            h.operation("a", "restart")
            self.assertEqual(h.record("a")["statusText"], "")
        h.stop()

    def test_main(self):
        self.heard("NotifyAccess=main")

    def test_exec(self):
        self.heard("NotifyAccess=exec")

    def test_default(self):
        self.heard("")

    def test_all(self):
        self.heard("NotifyAccess=all")

    def test_strangers(self):
        """Somebody else's word, although the socket is open to all."""
        h = self.speaker(service="NotifyAccess=all")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            path = h.run + "/notify/" + os.listdir(h.run + "/notify")[0]
            s.sendto(b"STATUS=of a stranger", path)
            s.sendto(b"WATCHDOG=trigger", path)
            s.sendto(b"\n" * 4096 + b"STATUS=too long", path)
        self.say(h, "STATUS=its own")
        w = h.meets("a", statusText="its own")
        self.assertEqual((w["state"], w["generation"]), ("UP", 1))
        h.stop()

    def test_descriptors(self):
        """Sockets whose close takes as long as their maker likes come along with words: the others are served, the worker is heard."""
        h = self.speaker()
        h.worker("b")
        h.ok("POST", "/agentd/v1/reload")
        h.all_up()
        path = h.run + "/notify/" + os.listdir(h.run + "/notify")[0]
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(path)
            s.setblocking(False)
            for _ in range(5):
                with socket.create_connection(server.getsockname()) as c:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20))
                    c.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            c.send(b"x" * 65536)
                    with contextlib.suppress(BlockingIOError):
                        socket.send_fds(s, [b"STATUS=with a socket"], [c.fileno()])
                    fd = c.detach()
                    threading.Thread(target=os.close, args=(fd,), daemon=True).start()
            began = time.monotonic()
            self.assertEqual(h.operation("b", "restart").status, 200)
            self.assertLess(time.monotonic() - began, 10, "the loop waits for somebody's socket")
            self.say(h, "STATUS=its own")
            h.meets("a", statusText="its own", generation=1)
            h.operation("a", "stop")
        h.stop()

    def test_flood(self):
        """A child that may not speak and does so without end: the others are served, and the worker is heard."""
        h = self.speaker(args="--flood")
        w = h.record("a")
        for n in range(3):
            def heard(text="word %d" % n):
                self.say(h, "STATUS=" + text)
                return h.record("a")["statusText"] == text
            eventually(heard)
        self.assertEqual((h.record("a")["pid"], h.record("a")["generation"]), (w["pid"], 1))
        h.stop()


@both
class Watchdog(Speaking):
    def test_silent(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--env WATCHDOG_USEC --children 1 --notify READY=1 --ping 50 12", "Type=notify\nWatchdogSec=250ms\nRestart=on-watchdog")
        h.start()
        first = h.all_up()["a"]
        w = eventually(lambda: (lambda r: r if r["generation"] == 2 and r["state"] == "UP" else None)(h.record("a")))
        self.assertEqual((w["lastExit"]["kind"] in ("killed", "dumped"), w["lastExit"]["signal"]), (True, signal.SIGABRT))
        self.assertIn("WATCHDOG: UP -> STOPPING", h.log())
        self.assertIn("the watchdog was not heard for 250 ms", h.log())
        self.assertEqual(w["lastExit"]["pid"], first["pid"])
        with open(h.dir + "/log/a.log", encoding="ascii") as f:
            self.assertIn("WATCHDOG_USEC=250000", f.read())
        h.stop()

    def test_not_its_policy(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--notify READY=1", "Type=notify\nWatchdogSec=50ms\nRestart=on-success")
        h.start()
        w = h.until("a", "DOWN")
        self.assertEqual((w["reason"], w["goal"], w["generation"]), ("watchdog", "UP", 1))
        self.assertIn("watchdog was not heard", w["message"])
        h.stop()

    def test_trigger(self):
        h = self.speaker()
        self.say(h, "WATCHDOG=trigger")
        w = h.meets("a", generation=2, state="UP")
        self.assertEqual(w["lastExit"]["signal"], signal.SIGABRT)
        h.stop()

    def test_ignores_abort(self):
        """SIGABRT is not enough: it is killed after TimeoutStopSec."""
        h = self.host(cgroup=self.cgroup)
        script = h.dir + "/deaf"
        with open(script, "w", encoding="ascii") as f:
            f.write("#!/bin/sh\ntrap '' ABRT TERM\n%s\n" % h.gate().wait)
        os.chmod(script, 0o755)
        h.worker("a", command=script, service="WatchdogSec=100ms\nTimeoutStopSec=100ms\nRestart=on-abnormal")
        h.start()
        w = eventually(lambda: (lambda r: r if r["generation"] == 2 else None)(h.record("a")))
        self.assertEqual(w["lastExit"]["signal"], signal.SIGKILL)
        h.stop()

    def test_set_by_worker(self):
        """WATCHDOG_USEC= ends a wait, and begins one."""
        h = self.speaker(service="WatchdogSec=10min\nRestart=on-watchdog")
        self.say(h, "WATCHDOG_USEC=1")
        h.meets("a", generation=2, state="UP")
        h.stop()

    def test_outlives_agentd(self):
        """The next agentd waits for its word anew, as long as the worker has said."""
        h = self.speaker(service="WatchdogSec=10min\nRestart=on-watchdog")
        self.say(h, "WATCHDOG_USEC=1000000", "STATUS=x")
        pid = h.meets("a", statusText="x")["pid"]
        h.kill()
        h.start()
        w = h.meets("a", generation=2, state="UP")
        self.assertEqual(w["lastExit"]["pid"], pid)
        self.assertIn("was not heard for 1000 ms", h.log())
        self.assertIn("WATCHDOG: UP -> STOPPING", h.log())
        h.stop()

    def test_changed(self):
        """What the running process was told counts, not what its file says since; the next one is told that."""
        h = self.speaker()
        pid = h.record("a")["pid"]
        path = h.workers + "/a.conf"
        with open(path, encoding="ascii") as f:
            text = f.read()

        def write(text):
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
            h.ok("POST", "/agentd/v1/reload")
        write(text.replace("Type=notify", "Type=notify\nRestart=on-watchdog\nWatchdogSec=30ms"))
        self.upgrade(h)
        h.kill()
        h.start()
        self.say(h, "STATUS=still there")
        h.meets("a", statusText="still there", pid=pid, generation=1)
        write(text.replace("--notify READY=1", "").replace("Type=notify", "Type=simple\nWatchdogSec=1h"))
        h.meets("a", generation=2, state="UP")
        write(text.replace("--notify READY=1", "").replace("Type=notify", "Type=simple\nUMask=77").replace("--relay %s/log/relay" % h.dir, "--children 1"))
        w = h.meets("a", generation=3, state="UP")
        self.assertEqual(os.listdir(h.run + "/notify"), [], "nobody speaks any more")
        h.operation("a", "stop")
        self.assertEqual(h.record("a")["lastExit"]["pid"], w["pid"])
        h.stop()

    def test_upgrade(self):
        h = self.speaker(service="WatchdogSec=300ms\nRestart=on-watchdog", args="--ping 20 1")
        self.upgrade(h)
        h.meets("a", generation=2, state="UP")
        h.stop()


if __name__ == "__main__":
    unittest.main()


@both
class MainPid(Speaking):
    def test_handed_over(self):
        """Another process of the worker becomes its main process: it is watched, adopted, signalled."""
        h = self.speaker("--children 2", "NotifyAccess=all")
        before = h.record("a")
        child = next(p for p in children(before["pid"]))
        self.say(h, "MAINPID=%d" % child)
        w = h.meets("a", pid=child)
        self.assertEqual((w["state"], w["generation"]), ("UP", 1))
        h.kill()
        h.start()
        self.assertEqual(h.record("a")["pid"], child)
        os.kill(child, signal.SIGKILL)
        h.meets("a", generation=2, state="UP")
        self.assertNotIn(before["pid"], h.processes())
        h.stop()

    def test_false(self):
        """Somebody else's process, none, rubbish: refused and said once, and nothing happens to them."""
        h = self.speaker(service="NotifyAccess=all")
        h.worker("b")
        h.ok("POST", "/agentd/v1/reload")
        other = h.until("b", "UP")["pid"]
        w = h.record("a")
        for pid in (other, 1, os.getpid(), h.pid, 4194303, "x", -5, 2 ** 40):
            self.say(h, "MAINPID=%s" % pid, "STATUS=said %s" % pid)
            h.meets("a", statusText="said %s" % pid, pid=w["pid"])
        self.assertEqual(h.log().count("MAINPID=%d is refused: it is no process of this worker" % other), 1)
        self.assertEqual(h.log().count("is refused"), 1)
        self.assertEqual(h.operation("a", "restart").status, 200)
        self.assertEqual(h.record("b")["pid"], other)
        h.stop()


    def test_names_a_command(self):
        """A hook of its own, in its own cgroup: taken for the main process its end would be heard of by nobody, and the worker
        could never be stopped again."""
        h = self.host(cgroup=self.cgroup)
        os.makedirs(h.dir + "/log", exist_ok=True)
        gate = h.gate()
        h.worker("a", "--notify READY=1 --relay %s/log/relay" % h.dir,
                 'Type=notify\nExecReload=/bin/sh -c "echo $$$$ >%s/log/hook; %s"' % (h.dir, gate.wait))
        h.start()
        h.all_up()
        eventually(lambda: os.path.exists(h.dir + "/log/relay"))
        w = h.record("a")
        c = h.connect()
        c.request("POST", "/agentd/v1/workers/a/reload")
        eventually(lambda: os.path.exists(h.dir + "/log/hook") and open(h.dir + "/log/hook", encoding="ascii").read().endswith("\n"))
        pid = int(open(h.dir + "/log/hook", encoding="ascii").read())
        self.say(h, "MAINPID=%d" % pid, "STATUS=said")
        h.meets("a", statusText="said", pid=w["pid"])
        self.assertIn("MAINPID=%d is refused" % pid, h.log())
        gate.open()
        self.assertEqual(c.getresponse().status, 200)
        self.assertEqual(h.operation("a", "stop").status, 200)
        h.stop()


# Leaves a process of a session of its own, and says that it is the main one, and ready.
EARLY = r"""#!/usr/bin/python3
import os, signal, socket
out, into = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.write(into, b"%d" % os.getpid())
    while True:
        signal.pause()
pid = int(os.read(out, 100))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.sendto(b"MAINPID=%d\nREADY=1" % pid, os.environ["NOTIFY_SOCKET"])
print(pid, flush=True)
"""


@both
class Early(Speaking):
    def test_before_the_program(self):
        """What ExecStartPre= says makes no worker ready, and no process its main one, before there is one."""
        h = self.host(cgroup=self.cgroup)
        os.makedirs(h.dir + "/log", exist_ok=True)
        h.write("early", EARLY, 0o755)
        h.worker("a", "--relay %s/log/relay" % h.dir, "Type=notify\nNotifyAccess=all\nStandardOutput=append:%s/log/out\nExecStartPre=%s/early" % (h.dir, h.dir))
        h.start()
        eventually(lambda: os.path.exists(h.dir + "/log/relay"))
        eventually(lambda: h.record("a")["pid"])
        w = h.meets("a", state="STARTING")
        early = int(open(h.dir + "/log/out", encoding="ascii").read())
        self.assertNotIn(w["pid"], (0, early))
        n = len(os.listdir("/proc/%d/fd" % h.pid))
        self.say(h, "READY=1")
        self.assertEqual(h.until("a", "UP")["pid"], w["pid"])
        self.assertLessEqual(len(os.listdir("/proc/%d/fd" % h.pid)), n)
        if self.cgroup:
            harness.wait_gone(early)
            self.assertEqual(len(h.leaves()), 1)
        self.assertEqual(h.operation("a", "stop").status, 200)
        harness.wait_gone(early)
        h.stop()


@both
class Replies(Case):
    cgroup = True

    def test_right_behind_ready(self):
        """The answer to a restart comes after READY=1, and soon: the best of some is within 20 ms."""
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        id = h.worker("a", gate.args + "--delay 30000 --log %s/said ready --notify READY=1" % h.dir, "Type=notify")
        gate.open()
        h.start()
        h.all_up()
        late = []

        def restart():
            return h.verb(id, "restart"), time.time()
        for _ in range(3):
            gate.shut()
            generation = h.record("a")["generation"]
            caller, got = harness.background(restart)
            h.meets("a", generation=generation + 1, state="STARTING")
            self.assertEqual(got, [], "it is answered before it is ready")
            gate.open()
            caller.join(harness.DEADLINE)
            (r, now), = got
            self.assertEqual(r.status, 200)
            late.append(now - os.stat(h.dir + "/said").st_mtime_ns / 1e9)
            self.assertGreater(late[-1], 0)
            if late[-1] < 0.02:
                break
        self.assertLess(min(late), 0.02, late)
        h.stop()

    def test_what_it_waits_for(self):
        """Past its deadline an OCP call is answered with what the worker waits for."""
        h = self.host(cgroup=self.cgroup, rpc="ReplyDeadlineSec=300ms")
        port = harness.free_port()
        ids = {h.worker("told", service="Type=notify"): "its READY=1",
               h.worker("port", section="ReadyCheck=tcp:%d" % port): "it to listen on port %d" % port,
               h.worker("dependent", service="[Unit]\nRequires=told\n"): "told to be ready"}
        h.start()
        for id, what in ids.items():
            r = h.verb(id, "restart")
            self.assertEqual(r.status, 202)
            self.assertRegex(r.message, "^operation .* is still going on: .*; the worker is STARTING.*: waits for %s$" % what)
            self.assertNotIn("data", r.json)
        h.stop()


# Says what descriptors it was given, then stores what it is told: "store NAME N", "linger N", "remove NAME".
STORE = """#!/usr/bin/python3
import array, os, socket, struct, sys
where = sys.argv[1]
say = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
say.connect(os.environ["NOTIFY_SOCKET"])
def send(text, fds=()):
    say.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
n = int(os.environ.get("LISTEN_FDS", 0))
assert not n or int(os.environ["LISTEN_PID"]) == os.getpid()
with open(where + "/given.new", "w") as f:
    for i in range(n):
        f.write("%s %s\\n" % (os.environ["LISTEN_FDNAMES"].split(":")[i], os.pread(3 + i, 100, 0).decode() if os.readlink("/proc/self/fd/%d" % (3 + i)).startswith("/memfd") else "?"))
os.rename(where + "/given.new", where + "/given")
orders = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
path = where + "/orders.%d" % os.getpid()
orders.bind(path)
os.rename(path, where + "/orders")
send("READY=1")
while True:
    verb, name, count = orders.recv(100).decode().split()
    if verb == "remove":
        send("FDSTOREREMOVE=1\\nFDNAME=" + name)
    for i in range(int(count)):
        if verb == "linger":
            a = socket.create_server(("127.0.0.1", 0))
            b = socket.create_connection(a.getsockname())
            c = a.accept()[0]
            b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1000))
            b.setblocking(False)
            try:
                while True:
                    b.send(b"x" * 65536)
            except BlockingIOError:
                pass
            fd = b.detach()
        else:
            fd = os.memfd_create("x")
            os.write(fd, ("%s %d" % (name, i)).encode())
        send("FDSTORE=1\\nFDNAME=" + name + "\\nSTATUS=%s %d" % (name, i), [fd])
        if verb != "linger": # else its own close might be the last one, and wait
            os.close(fd)
    send("STATUS=%s %s %s done" % (verb, name, count))
"""


@both
class Store(Case):
    cgroup = True

    def prepare(self, service="FileDescriptorStoreMax=5"):
        h = self.host(cgroup=self.cgroup)
        h.write("store", STORE, 0o755)
        h.worker("a", command="%s/store %s" % (h.dir, h.dir), service="Type=notify\n" + service)
        h.start()
        h.all_up()
        return h

    def order(self, h, text):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(text.encode(), h.dir + "/orders")
        h.meets("a", statusText=text + " done")

    def given(self, h):
        with open(h.dir + "/given", encoding="ascii") as f:
            return sorted(f.read().splitlines())

    def test_kept_and_given_back(self):
        h = self.prepare()
        self.assertEqual(self.given(h), [])
        self.order(h, "store one 1")
        self.order(h, "store two 2")
        want = ["one one 0", "two two 0", "two two 1"]
        for how in ("restart", "crash", "upgrade"):
            before = h.record("a")["generation"]
            if how == "crash":
                os.kill(h.record("a")["pid"], signal.SIGKILL)
                h.meets("a", generation=before + 1, state="UP")
            else:
                if how == "upgrade":
                    h.proc.send_signal(signal.SIGUSR2)
                    eventually(lambda: [o["result"] for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["verb"] == "upgrade"] == ["done"])
                self.assertEqual(h.operation("a", "restart").status, 200)
            self.assertEqual(self.given(h), want, how)
        self.order(h, "remove two 0")
        self.assertEqual(h.operation("a", "restart").status, 200)
        self.assertEqual(self.given(h), ["one one 0"])
        self.assertEqual(h.operation("a", "stop").status, 200)
        self.assertEqual(h.operation("a", "start").status, 200)
        self.assertEqual(self.given(h), [], "at rest they are closed")
        h.stop()

    def test_flood(self):
        """More than it may, names that are none, sockets that linger: bounded, said once, and the loop goes on."""
        h = self.prepare()
        before = harness.descriptors(h.pid)
        self.order(h, "store x:y 100")
        # a helper that copies the journal has some too, for a moment
        eventually(lambda: harness.descriptors(h.pid) <= before + 5, what="five descriptors more")
        self.assertEqual(h.log().count("FDSTORE=1 is refused: FileDescriptorStoreMax=5 descriptors are kept already"), 1)
        began = time.monotonic()
        self.order(h, "linger l 20")
        self.assertEqual(h.operation("a", "restart").status, 200)
        self.assertLess(time.monotonic() - began, 30, "nobody waits for sockets that linger")
        self.assertEqual(len(self.given(h)), 5)
        self.assertEqual({g.split()[0] for g in self.given(h)}, {"stored"})
        h.stop()

    def test_off(self):
        """The default: nothing is kept, the words beside are heard all the same by the next message."""
        h = self.prepare("")
        self.order(h, "store x 3")
        self.assertEqual(h.operation("a", "restart").status, 200)
        self.assertEqual(self.given(h), [])
        h.stop()
