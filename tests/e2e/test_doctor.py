# SPDX-License-Identifier: Apache-2.0
"""agentctl doctor: the kernel's features as another program finds them, what a lack of each costs, and what else is not as it should be."""
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import harness
from harness import NOSYS, ORDINARY, ROOT, Case, both, descriptors, eventually, needs_root

LIBC = ctypes.CDLL(None, use_errno=True)
KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
CLONE3, CLOSE_RANGE, GETFD, LANDLOCK = 435, 436, 438, 444
SO_PASSRIGHTS, SO_PEERGROUPS = 83, 59
INFO_BYTES, INFO_EXIT = 64, 1 << 3
PIDFD_GET_INFO = 3 << 30 | INFO_BYTES << 16 | 0xFF << 8 | 11
CONTROLLERS = {"cpu controller": "cpu", "memory controller": "memory", "pids controller": "pids"}


def call(number, *args):
    """A system call's value, or -errno."""
    r = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in args))
    return r if r >= 0 else -ctypes.get_errno()


def opens(what, *args):
    try:
        os.close(what(*args))
        return True
    except OSError:
        return False


def tells_exit():
    """PIDFD_GET_INFO with PIDFD_INFO_EXIT, of a process that has ended and is reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        os.waitpid(pid, 0)
        return None
    os.waitpid(pid, 0)
    info = bytearray(struct.pack("<Q", INFO_EXIT) + bytes(INFO_BYTES - 8))
    try:
        fcntl.ioctl(fd, PIDFD_GET_INFO, info)
        return bool(struct.unpack_from("<Q", info)[0] & INFO_EXIT)
    except OSError:
        return False
    finally:
        os.close(fd)


def keeps_rights_out():
    a, b = socket.socketpair()
    with a, b:
        try:
            a.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
            return True
        except OSError:
            return False


def feels_pressure():
    try:
        with open("/proc/pressure/cpu", "rb") as f:
            return bool(f.read())
    except OSError:
        return False


def of_this_kernel():
    """{name: is it there?} by other means than agentd's."""
    self = os.getpid()
    ss = subprocess.run(["ss", "-Hltn", "--cgroup"], capture_output=True, text=True, check=False).stdout
    return {
        "pidfd_open": opens(os.pidfd_open, self),
        "pidfd_send_signal": call(424, -1, 0, 0, 0) == -errno.EBADF,
        "pidfd_getfd": call(GETFD, -1, 0, 0) == -errno.EBADF,
        "PIDFD_INFO_EXIT": tells_exit(),
        "clone3": call(CLONE3, 0, 0) == -errno.EINVAL,
        "close_range": call(CLOSE_RANGE, 1 << 30, 1 << 30, 4) == 0,
        "kcmp": call(KCMP, self, self, 0, 0, 0) == 0 if KCMP else None,
        "/proc/pressure": feels_pressure(),
        "memfd_create": opens(os.memfd_create, "x"),
        "landlock": None if harness.SANITIZED else call(LANDLOCK, 0, 0, 1) >= 1,
        "SO_PASSRIGHTS": keeps_rights_out(),
        "INET_DIAG_CGROUP_ID": True if "cgroup:/" in ss else None,
    }


class Doctor(Case):
    def look(self, h):
        """(findings, {feature: its row}) as JSON; the text says the same."""
        r = h.ctl("doctor", "-o", "json")
        self.assertIn(r.returncode, (0, 1), r)
        d = json.loads(r.stdout)
        features = {f["name"]: f for f in d["features"]}
        self.assertEqual(len(features), len(d["features"]))
        text = h.ctl("doctor").stdout
        for f in features.values():
            told = [c for c in d["contents"] if re.match(r"no %s( \(.*\))?: " % re.escape(f["name"]), c["what"])]
            self.assertEqual(len(told), f["state"] == "lacking", (f, told))
            self.assertEqual(any("no %s: %s\n" % (f["name"], f["cost"]) in text or
                                 "no %s (%s): %s\n" % (f["name"], f["why"], f["cost"]) in text for _ in (0,)), f["state"] == "lacking", (f, text))
            self.assertTrue(f["cost"] and f["since"] in f["cure"], f)
            for c in told:
                self.assertEqual((c["advice"], c["severity"] in ("info", "warning")), (f["cure"], True))
        return d["contents"], features

    def ask_as_another(self, h):
        """Somebody whose groups are looked at."""
        if ROOT:
            subprocess.run([harness.STAGED + "/agentctl", "--socket", h.socket, "status"], user=ORDINARY, group=ORDINARY, extra_groups=[],
                           env=h.environment(), capture_output=True, timeout=harness.DEADLINE, check=False)

    def told(self, h):
        return h.ctl("doctor").stdout


@both
class Features(Doctor):
    cgroup = True

    def test_of_this_kernel(self):
        h = self.host(cgroup=self.cgroup)
        port = harness.free_port()
        h.worker("a", "--listen %d" % port, section="ReadyCheck=tcp:%d" % port)
        h.start()
        h.all_up()
        self.ask_as_another(h)
        findings, features = self.look(h)
        self.assertEqual(h.record("a")["ports"], str(port))
        state = {name: f["state"] for name, f in features.items()}
        for name, there in of_this_kernel().items():
            if there is not None:
                self.assertEqual(state[name], "there" if there else "lacking", name)
        self.assertEqual(state["sock_diag"], "there")
        if ROOT:
            self.assertEqual(state["SO_PEERGROUPS"], "there")
        if h.cgroup:
            self.assertEqual(state["cgroup2"], "there")
            with open(h.cgroup_dir() + "/cgroup.controllers", encoding="ascii") as f:
                offered = f.read().split()
            for name, controller in CONTROLLERS.items():
                self.assertEqual(state[name], "there" if controller in offered else "lacking", name)
            for name in ("cgroup.kill", "cgroup.freeze"):
                self.assertEqual(state[name], "there" if os.path.exists("%s/%s" % (h.cgroup_dir(), name)) else "lacking", name)
            self.assertEqual(state["CLONE_INTO_CGROUP"], "there")
        elif h.force_none:
            self.assertEqual((state["cgroup2"], features["cgroup2"]["why"]), ("lacking", "AGENTD_NO_CGROUP is set"))
            self.assertEqual({state[n] for n in (*CONTROLLERS, "cgroup.kill", "cgroup.freeze", "CLONE_INTO_CGROUP")}, {"untried"})
        self.assertNotIn("error", [f["severity"] for f in findings])
        self.assertEqual(h.ctl("doctor").returncode, 0)
        h.stop()

    def lacking(self, *calls):
        """The features that are told as lacking where these system calls fail."""
        h = self.host(cgroup=self.cgroup, wrap=[NOSYS, *calls, "--"])
        port = harness.free_port()
        h.worker("a", "--listen %d" % port, section="ReadyCheck=tcp:%d" % port)
        h.start()
        h.all_up()
        self.ask_as_another(h)
        findings, features = self.look(h)
        self.assertEqual(h.record("a")["ports"], str(port), "what is done instead works")
        self.assertNotIn("error", [f["severity"] for f in findings])
        self.assertEqual(h.ctl("doctor").returncode, 0, "nothing of it is an error")
        h.operation("a", "restart")
        self.assertEqual(h.operation("a", "stop").data["result"], "done")
        h.stop()
        h.assert_nothing_left()
        return {n for n, f in features.items() if f["state"] == "lacking"}

    def check(self, calls, names):
        self.assertLessEqual(set(names), self.lacking(*calls))

    def test_without_pidfds(self):
        self.check(["pidfd_open", "pidfd_send_signal", "pidfd_getfd"], ["pidfd_open", "pidfd_send_signal", "pidfd_getfd"])

    def test_without_signals_by_pidfd(self):
        self.check(["pidfd_send_signal"], ["pidfd_send_signal"])

    def test_refused_by_a_container(self):
        self.check(["pidfd_getfd=%d" % errno.EPERM, "kcmp=%d" % errno.EPERM], ["pidfd_getfd", "kcmp"])

    def test_without_clone3(self):
        self.check(["clone3"], ["clone3"] + ["CLONE_INTO_CGROUP"] * (self.cgroup and harness.cgroup2() is not None))

    def test_without_the_rest(self):
        self.check(["close_range", "kcmp", "memfd_create"], ["close_range", "kcmp", "memfd_create"])

    def test_without_landlock(self):
        self.check(["landlock_create_ruleset"], [] if harness.SANITIZED else ["landlock"])  # a sanitized listener has no sandbox

    def test_without_sock_diag(self):
        self.check(["socket:0:%d=%d" % (socket.AF_NETLINK, errno.EAFNOSUPPORT)], ["sock_diag"])

    def test_without_what_has_an_argument(self):
        none = errno.ENOPROTOOPT
        self.check(["setsockopt:2:%d=%d" % (SO_PASSRIGHTS, none), "ioctl:1:%#x=%d" % (PIDFD_GET_INFO, errno.ENOTTY)],
                   ["SO_PASSRIGHTS", "PIDFD_INFO_EXIT"])

    def test_without_groups_of_peers(self):
        if not ROOT:
            self.skipTest("needs somebody else who asks")
        self.check(["getsockopt:2:%d=%d" % (SO_PEERGROUPS, errno.ENOPROTOOPT)], ["SO_PEERGROUPS"])


class Own(Doctor):
    """What agentd stands on."""

    def up(self, **how):
        h = self.host(**how)
        h.worker("a")
        h.start()
        h.all_up()
        return h

    def test_descriptors(self):
        h = self.host()
        for n in range(20):
            h.worker("w%d" % n)
        h.start()
        h.all_up()
        self.assertNotIn("RLIMIT_NOFILE", self.told(h))
        self.assertLess(descriptors(h.pid), 64 + 10 * 20, "no more than is reckoned")
        was = resource.prlimit(h.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(h.pid, resource.RLIMIT_NOFILE, (263, was[1]))
        self.assertIn("may have 263 descriptors (RLIMIT_NOFILE), and its 20 workers can need 264\n    systemctl edit agentd: ", self.told(h))
        resource.prlimit(h.pid, resource.RLIMIT_NOFILE, (264, was[1]))
        self.assertNotIn("RLIMIT_NOFILE", self.told(h))
        h.stop()

    def test_clock(self):
        h = self.up()
        t = (ctypes.c_long * 64)()  # struct timex: modes, ..., status behind five longs
        self.assertGreaterEqual(LIBC.adjtimex(ctypes.byref(t)), 0)
        unsync = bool(ctypes.c_int.from_buffer(t, 5 * ctypes.sizeof(ctypes.c_long)).value & 0x40)
        self.assertEqual("the wall clock is not synchronised" in self.told(h), unsync)
        self.assertNotIn("s behind", self.told(h))
        eventually(lambda: os.path.exists(h.state + "/state"), what="a state")
        ahead = time.time() + 1000
        os.utime(h.state + "/state", (ahead, ahead))
        self.assertRegex(self.told(h), r"the wall clock is (999|1000) s behind the last write of %s/state\n" % h.state)
        h.operation("a", "stop")
        eventually(lambda: "s behind" not in self.told(h), what="a newer state")
        h.stop()

    def test_credentials(self):
        h = self.host()
        path = h.write("credentials", "# none\n", 0o600)
        h.start()
        self.assertNotIn("credentials", self.told(h))
        os.chmod(path, 0o640)
        r = h.ctl("doctor")
        self.assertEqual(r.returncode, 1)
        self.assertIn("error: others may use %s (mode 0640)\n    chmod 0600" % path, r.stdout)
        os.chmod(path, 0o600)
        if ROOT:
            os.chown(path, ORDINARY, -1)
            self.assertIn("error: %s belongs to uid %d\n" % (path, ORDINARY), self.told(h))
            os.chown(path, 0, -1)
        self.assertNotIn("credentials", self.told(h))
        h.stop()

    def test_socket(self):
        h = self.host()
        h.rpc = "ListenStream=%s/extra/s.sock" % h.dir
        h.write("agentd.conf", h.agentd_conf())
        os.mkdir(h.dir + "/extra")
        h.start()
        self.assertNotIn("nobody can reach", self.told(h))
        shutil.rmtree(h.dir + "/extra")
        self.assertIn("nobody can reach %s/extra/s.sock: it was removed or replaced\n    make its folder again" % h.dir, self.told(h))
        os.mkdir(h.dir + "/extra")
        h.proc.send_signal(signal.SIGUSR1)
        eventually(lambda: "nobody can reach" not in self.told(h), what="a path")
        h.stop()

    def test_output_that_is_not_rotated(self):
        h = self.host(wrap=[NOSYS, "fallocate=%d" % errno.EOPNOTSUPP, "--"])
        h.worker("w", "--lines 3000 100 10 0", section="LogMaxSize=64K")
        h.start()
        h.all_up()
        words = "w: its output cannot be rotated: "
        eventually(lambda: words in self.told(h), what="that it is told")
        self.assertIn("can neither collapse nor punch a file\n    it is tried again", self.told(h))
        h.worker("w", "", id=h.ids)
        self.assertEqual(h.http("POST", "/agentd/v1/reload").status, 200)
        eventually(lambda: words not in self.told(h), what="nothing to rotate")
        h.stop()

    @needs_root
    def test_left_alone(self):
        h = self.host()
        if not h.cgroup:
            self.skipTest("needs cgroups")
        h.worker("a", "--children 1", "KillMode=process")
        h.start()
        h.all_up()
        main = h.record("a")["pid"]
        child = next(p for p in h.processes("a") if p != main)
        self.assertNotIn("live on", self.told(h))
        h.operation("a", "stop")
        self.assertIn("a: processes of an earlier start live on: %d\n" % child, self.told(h))
        os.kill(child, signal.SIGKILL)
        harness.wait_gone(child)
        eventually(lambda: "live on" not in self.told(h), what="that it is gone")
        h.stop()

    UNIT = ["sh", "-c", 'SYSTEMD_EXEC_PID=$$ INVOCATION_ID=x exec "$@"', "sh"]

    @needs_root
    def test_not_delegated(self):
        for wrap in ([], self.UNIT):
            h = self.up(wrap=wrap)
            if not h.cgroup:
                self.skipTest("needs cgroups")
            words = "the unit has no Delegate=yes: the workers' cgroups are beside those of systemd, in %s\n" % h.cgroup_dir()
            self.assertEqual(words in self.told(h), bool(wrap))
            self.assertNotIn("Type=notify", self.told(h))
            h.stop()

    def test_not_notified(self):
        h = self.host(wrap=[*self.UNIT, "env", "-u", "NOTIFY_SOCKET"])
        h.worker("a")
        h.start(wait=False)

        def answers():
            with contextlib.suppress(OSError):
                return h.http("GET", "/readyz").status == 200
        eventually(answers, what="an answer")
        self.assertIn("the unit is not Type=notify: ", self.told(h))
        h.stop()


del Doctor
