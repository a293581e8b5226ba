# SPDX-License-Identifier: Apache-2.0
"""Operations outlive their callers, the listener and agentd: the journal, Idempotency-Keys, what a crash leaves of them."""
import contextlib
import fcntl
import http.client
import os
import signal
import subprocess
import threading

import harness
from harness import Case, both, eventually, needs_root


def ask(h, path, key, box=None):
    """POST with a key; the reply, or None if the connection broke."""
    try:
        r = h.http("POST", path, headers={"Idempotency-Key": key})
    except (OSError, http.client.HTTPException):
        r = None
    if box is not None:
        box.append(r)
    return r


@both
class Keys(Case):
    cgroup = True

    def test_same_operation(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.worker("b")
        h.start()
        h.all_up()
        one = ask(h, "/agentd/v1/workers/a/restart", "k-1")
        self.assertEqual((one.status, one.data["result"]), (200, "done"), one)
        pid = h.record("a")["pid"]
        for kill in ("nobody", "the listener", "agentd", "both"):
            with self.subTest(kill=kill):
                if kill in ("the listener", "both"):
                    os.kill(h.rpc_pid(), signal.SIGKILL)
                if kill in ("agentd", "both"):
                    h.kill()
                    h.start()
                again = eventually(lambda: ask(h, "/agentd/v1/workers/a/restart", "k-1"))
                self.assertEqual((again.status, again.data["id"]), (200, one.data["id"]), again)
                self.assertEqual(again.headers["Agentd-Operation"], one.data["id"])
                self.assertEqual(h.record("a")["pid"], pid, "nothing was restarted again")
        # with the prefix it is the same path; with another one, another worker, another key it is not
        r = ask(h, "/api/v2/agentd/v1/workers/a/restart", "k-1")
        self.assertEqual((r.status, r.data["id"]), (200, one.data["id"]))
        for path in ("/agentd/v1/workers/b/restart", "/agentd/v1/workers/a/stop"):
            r = ask(h, path, "k-1")
            self.assertEqual(r.status, 409, r)
            self.assertIn("Idempotency-Key", r.message)
        r = h.http("POST", "/agentd/v1/workers/a/restart", headers={"Idempotency-Key": "k-1", "Content-Type": "application/json"}, body="{}")
        self.assertEqual(r.status, 409, "another body is another request")
        self.assertEqual(h.record("a")["pid"], pid)
        r = ask(h, "/agentd/v1/workers/a/restart", "k-2")
        self.assertNotEqual(r.data["id"], one.data["id"])
        self.assertNotEqual(h.record("a")["pid"], pid)
        for bad in ("x" * 256, "a\tb"):
            self.assertEqual(ask(h, "/agentd/v1/workers/a/restart", bad).status, 400, bad)
        h.stop()

    def test_failure_is_kept(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("no", command="/nowhere/at/all")
        h.start()
        one = ask(h, "/agentd/v1/workers/no/restart", "bad")
        self.assertEqual(one.status, 500, one)
        h.kill()
        h.start()
        again = ask(h, "/agentd/v1/workers/no/restart", "bad")
        self.assertEqual((again.status, again.message), (500, one.message))
        self.assertEqual(again.headers["Agentd-Operation"], one.headers["Agentd-Operation"])
        h.stop()

    def test_many_callers_one_restart(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("slow", "--ignore-term", "TimeoutStopSec=300ms", "ReadyCheck=stable:20ms")
        h.start()
        h.all_up()
        generation = h.record("slow")["generation"]
        box = []
        threads = [threading.Thread(target=ask, args=(h, "/agentd/v1/workers/slow/restart", "n-%d" % (n % 6), box)) for n in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(harness.DEADLINE)
        self.assertEqual([r.status for r in box], [200] * 12, box)
        self.assertEqual(h.record("slow")["generation"], generation + 1)
        self.assertEqual(len({r.data["id"] for r in box}), 1)
        for n in range(6):
            self.assertEqual(ask(h, "/agentd/v1/workers/slow/restart", "n-%d" % n).data["id"], box[0].data["id"])
        h.stop()


@both
class AfterACrash(Case):
    """agentd is killed while an operation is under way: the next one carries it to its end."""
    cgroup = True

    def under_way(self, verb, until):
        h = self.host(cgroup=self.cgroup)
        h.worker("slow", "--ignore-term --children 1", "TimeoutStopSec=400ms", "ReadyCheck=stable:200ms")
        h.worker("other")
        h.start()
        before = h.all_up()
        box = []
        t = threading.Thread(target=ask, args=(h, "/agentd/v1/workers/slow/" + verb, "key", box))
        t.start()
        h.until("slow", until)
        h.kill()
        t.join(harness.DEADLINE)
        h.start()
        self.assertEqual(h.record("other")["pid"], before["other"]["pid"])
        r = ask(h, "/agentd/v1/workers/slow/" + verb, "key")
        self.assertEqual((r.status, r.data["result"]), (200, "done"), (r, h.log()))
        return h, before["slow"], r.data

    def test_restart_while_stopping(self):
        h, before, op = self.under_way("restart", "STOPPING")
        self.assertEqual((op["before"]["pid"], op["before"]["generation"]), (before["pid"], before["generation"]))
        self.assertEqual(op["after"]["pid"], h.record("slow")["pid"])
        self.assertEqual(h.record("slow")["generation"], before["generation"] + 1)
        h.tree("slow", 2)
        h.stop()

    def test_restart_while_starting(self):
        h, before, op = self.under_way("restart", "STARTING")
        self.assertNotEqual(op["after"]["pid"], before["pid"])
        self.assertGreater(h.record("slow")["generation"], before["generation"])
        h.stop()

    def test_wanted_before_it_is_on_disk(self):
        """It has come up, and agentd dies before its goal was written: it goes on."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.start()
        h.all_up()
        self.assertEqual(h.operation("a", "stop").status, 200)
        with open(h.dir + "/state/state.lock", "a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # as an earlier agentd's writer would
            caller = threading.Thread(target=ask, args=(h, "/agentd/v1/workers/a/start", "k"))
            caller.start()
            pid = h.until("a", "UP")["pid"]
            h.kill()
            caller.join()
        h.start()
        w = h.record("a")
        self.assertEqual((w["state"], w["goal"], w["pid"], w["ownership"]), ("UP", "UP", pid, "adopted"))
        self.assertEqual(ask(h, "/agentd/v1/workers/a/start", "k").status, 200)

    def test_signal_beside(self):
        """What has ended beside it does not tell that it has."""
        h = self.host(cgroup=True)  # which two instances at once need
        gate = h.gate()
        gate.open()
        h.worker("a", service="ExecStartPre=/bin/sh -c '%s'" % gate.wait, section="RestartMode=overlap")
        h.start()
        old = h.until("a", "UP")["pid"]
        gate.shut()
        box = []
        caller = threading.Thread(target=ask, args=(h, "/agentd/v1/workers/a/restart", "k", box))
        caller.start()
        eventually(lambda: [o for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["result"] == "running"], what="the restart")
        self.assertEqual(h.http("POST", "/agentd/v1/workers/a/signal?signal=CONT").status, 200)
        h.kill()
        caller.join()
        gate.open()
        h.start()
        r = eventually(lambda: (lambda r: r if r and r.status == 200 else None)(ask(h, "/agentd/v1/workers/a/restart", "k")), what="the restart's end")
        self.assertEqual(r.data["result"], "done")
        self.assertNotEqual(h.record("a")["pid"], old)

    def test_stop(self):
        h, _, _ = self.under_way("stop", "STOPPING")
        self.assertEqual((h.record("slow")["state"], h.record("slow")["goal"]), ("DOWN", "DOWN"))
        self.assertEqual(h.processes("slow"), {})
        h.kill()
        h.start()
        self.assertEqual(h.record("slow")["state"], "DOWN", "it lasts")
        h.stop()

    def test_restart_of_one_that_was_stopped(self):
        """Once it is answered, the next agentd wants it up too."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.start()
        h.all_up()
        for _ in range(10):
            self.assertEqual(h.operation("a", "stop").status, 200)
            r = h.operation("a", "restart")
            h.kill()
            self.assertEqual((r.status, r.data["result"], r.data["durable"]), (200, "done", True), r)
            h.start()
            w = h.until("a", "UP")
            self.assertEqual((w["goal"], w["pid"], w["ownership"]), ("UP", r.data["after"]["pid"], "adopted"))
        h.stop()

    def test_worker_is_gone(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("slow", "--ignore-term", "TimeoutStopSec=400ms")
        h.start()
        h.all_up()
        threading.Thread(target=ask, args=(h, "/agentd/v1/workers/slow/restart", "key"), daemon=True).start()
        h.until("slow", "STOPPING")
        ids = [line.split("operation=")[1].split(":")[0] for line in h.log().splitlines() if "operation=" in line]
        h.kill()
        h.remove("slow")
        h.start()
        ops = h.ok("GET", "/agentd/v1/operations")["contents"]
        self.assertEqual([(o["verb"], o["result"]) for o in ops], [("restart", "failed")], (ops, ids))
        one = h.ok("GET", "/agentd/v1/operations/" + ops[0]["id"])
        self.assertIn("not configured", one["message"])
        h.stop()


class OfReload(Case):
    def test_has_an_operation(self):
        h = self.host()
        h.worker("a")
        h.start()
        h.all_up()
        h.worker("b")
        one = ask(h, "/agentd/v1/reload", "again")
        self.assertEqual([c["alias"] for c in one.data["contents"]], ["b"])
        op = h.ok("GET", "/agentd/v1/operations/" + one.headers["Agentd-Operation"])
        self.assertEqual((op["verb"], op["result"], op["actor"], op["source"]), ("reload", "done", "uid:0", "unix"))
        h.worker("c")
        again = ask(h, "/agentd/v1/reload", "again")
        self.assertEqual((again.status, again.headers["Agentd-Operation"]), (200, op["id"]))
        self.assertEqual(set(h.all()), {"a", "b"}, "the same request, not another one")
        h.write("workers.d/d.conf", "[Service]\nWrong=1\n")
        bad = ask(h, "/agentd/v1/reload", "bad")
        op = h.ok("GET", "/agentd/v1/operations/" + bad.headers["Agentd-Operation"])
        self.assertEqual((bad.status, op["result"]), (500, "failed"))
        self.assertIn("d.conf:", op["message"])
        h.drain()
        h.proc.send_signal(signal.SIGHUP)
        h.wait_notify("READY=1")
        newest = h.ok("GET", "/agentd/v1/operations")["contents"][0]
        self.assertEqual((newest["verb"], newest["result"]), ("reload", "failed"))
        h.stop()


class Journal(Case):
    def test_reboot(self):
        """Another boot: what had ended is known, what was under way is lost, and says so."""
        h = self.host(cgroup=False)
        h.worker("slow", "--ignore-term", "TimeoutStopSec=20s")
        h.worker("a")
        h.start()
        h.all_up()
        done = ask(h, "/agentd/v1/workers/a/restart", "done")
        threading.Thread(target=ask, args=(h, "/agentd/v1/workers/slow/restart", "lost"), daemon=True).start()
        h.until("slow", "STOPPING")
        eventually(lambda: self.holds(h.state + "/operations", b"slow"), what="the copy on disk")
        h.kill()
        for p in h.processes():
            os.kill(p, signal.SIGKILL)
        for name in ("operations", "keys"):
            os.unlink(h.run + "/" + name)
            self.patch_boot(h.state + "/" + name)
        os.unlink(h.run + "/facts")
        h.start()
        h.all_up()
        again = ask(h, "/agentd/v1/workers/a/restart", "done")
        self.assertEqual((again.status, again.data["id"]), (200, done.data["id"]))
        lost = ask(h, "/agentd/v1/workers/slow/restart", "lost")
        self.assertEqual(lost.status, 500, lost)
        self.assertIn("lost", lost.message)
        os.kill(h.record("slow")["pid"], signal.SIGKILL)  # so that stopping takes no 20 s
        h.kill()

    def holds(self, path, text):
        with contextlib.suppress(OSError), open(path, "rb") as f:
            return text in f.read()
        return False

    def patch_boot(self, path):
        with open(path, "r+b") as f:
            f.seek(16)
            f.write(b"00000000-0000-0000-0000-000000000000")

    def test_torn(self):
        """The file cut at odd lengths, and rubbish in it: what is whole is known, and agentd comes up."""
        h = self.host(cgroup=False)
        h.worker("a")
        h.start()
        h.all_up()
        ids = [ask(h, "/agentd/v1/workers/a/restart", "k%d" % n).data["id"] for n in range(3)]
        h.kill()
        path = h.run + "/operations"
        with open(path, "rb") as f:
            whole = f.read()
        slot = 4096  # the last one ends where its words do
        for cut, known in ((len(whole) - 1, 2), (64 + slot + 9, 1), (70, 0), (30, 0), (0, 0)):
            with self.subTest(cut=cut):
                with open(path, "wb") as f:
                    f.write(whole[:cut])
                os.path.exists(h.state + "/operations") and os.unlink(h.state + "/operations")
                h.start()
                got = [o["id"] for o in h.ok("GET", "/agentd/v1/operations")["contents"]]
                self.assertEqual(got, ids[:known][::-1])
                h.kill()
        with open(path, "wb") as f:
            f.write(whole[:64 + slot + 100] + b"\xff" + whole[64 + slot + 101:])
        h.start()
        got = [o["id"] for o in h.ok("GET", "/agentd/v1/operations")["contents"]]
        self.assertEqual(got, [ids[2], ids[0]], "the torn one is left out, and no other")
        self.assertIn("not written whole", h.log())
        h.stop()

    @needs_root
    def test_full_disk(self):
        """The runtime directory is full: operations go on, and say that they are not durable."""
        h = self.host(cgroup=False)
        h.worker("a")
        os.makedirs(h.run)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "none", h.run], check=True)
        try:
            h.start()
            h.all_up()
            r = ask(h, "/agentd/v1/workers/a/restart", "before")
            self.assertTrue(r.data["durable"], r)
            with contextlib.suppress(OSError), open(h.run + "/filler", "wb", buffering=0) as f:
                while True:
                    f.write(b"x" * 4096)
            before = h.record("a")["pid"]
            last = None
            for n in range(3):  # a page may still be free
                last = ask(h, "/agentd/v1/workers/a/restart", "full%d" % n)
                self.assertEqual((last.status, last.data["result"]), (200, "done"), last)
            self.assertFalse(last.data["durable"], last)
            self.assertIn("not durable", last.data["message"])
            self.assertNotEqual(h.record("a")["pid"], before)
            self.assertIn("journal", h.ctl("doctor").stdout)
            os.unlink(h.run + "/filler")
            eventually(lambda: "journal" not in h.ctl("doctor").stdout, what="what could not be written is written, though nobody asks for anything")
            r = ask(h, "/agentd/v1/workers/a/restart", "after")
            self.assertTrue(r.data["durable"], r)
            self.assertNotIn("journal", h.ctl("doctor").stdout)
            h.stop()
        finally:
            if h.proc.poll() is None:
                h.kill()
            subprocess.run(["umount", "-l", h.run], check=True)
