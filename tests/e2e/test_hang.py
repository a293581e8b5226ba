# SPDX-License-Identifier: Apache-2.0
"""A file system that never answers: the worker whose folder it is waits, and nobody else."""
import ctypes
import os
import signal
import threading
import time
import unittest

import harness
from harness import Case, both, eventually


class Hung:
    """A FUSE mount whose server never answers; end() aborts it, and whoever waits is let go."""

    def __init__(self, where):
        os.mkdir(where)
        self.where = where
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        options = "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % self.fd
        if libc.mount(b"hung", where.encode(), b"fuse", ctypes.c_ulong(0), options.encode()) < 0:
            error = ctypes.get_errno()
            os.close(self.fd)
            raise unittest.SkipTest("FUSE can't be mounted: " + os.strerror(error))

    def end(self):
        if self.fd >= 0:
            os.close(self.fd)  # the last descriptor of the connection: it is aborted
            self.fd = -1
            libc = ctypes.CDLL(None)
            libc.umount2(self.where.encode(), 2)


@both
class Hangs(Case):
    ALONE = True
    cgroup = True

    def setUp(self):
        super().setUp()
        if not harness.ROOT or not os.path.exists("/dev/fuse"):
            self.skipTest("needs root and /dev/fuse")
        self.h = self.host(cgroup=self.cgroup)
        self.hung = Hung(self.h.dir + "/hung")
        self.addCleanup(self.hung.end)

    def finish(self, h):
        if hasattr(self, "hung"):
            self.hung.end()  # before the processes are looked for
        super().finish(h)

    def others_go_on(self, ids):
        for alias, id in ids.items():
            began = time.monotonic()
            r = self.h.verb(id, "restart", timeout=5)
            self.assertEqual(r.status, 200, r)
            self.assertLess(time.monotonic() - began, 1, alias)
        self.assertEqual(self.h.http("GET", "/agentd/v1/workers", timeout=3).status, 200)

    def run_with(self, service="", section="", args=""):
        h = self.h
        ids = {a: h.worker(a, "--children 1") for a in ("one", "two")}
        stuck = h.worker("stuck", args, service + "\nTimeoutStartSec=60\nTimeoutStopSec=500ms", section)
        h.start()
        for a in ids:
            h.until(a, "UP")
        self.assertEqual(h.record("stuck")["state"], "STARTING")
        self.others_go_on(ids)
        answers = []
        t = threading.Thread(target=lambda: answers.append(h.verb(stuck, "restart", timeout=60)))
        t.start()
        self.others_go_on(ids)
        self.assertEqual(answers, [])
        # agentd dies while the child hangs: the next one is not kept out
        if self.kills:
            h.kill()
            h.start()
            for a in ids:
                h.until(a, "UP")
            self.others_go_on(ids)
        self.hung.end()
        h.proc.send_signal(signal.SIGTERM)
        self.assertEqual(h.proc.wait(harness.DEADLINE), 0)
        t.join(harness.DEADLINE)
        eventually(lambda: not h.processes(), 10)

    kills = False

    def test_working_directory(self):
        self.run_with("WorkingDirectory=%s/x" % self.hung.where)

    def test_output(self):
        self.run_with("StandardOutput=append:%s/x/out.log" % self.hung.where)

    def test_ready_check(self):
        self.run_with("", "ReadyCheck=unix:%s/x/sock" % self.hung.where)

    def test_agentd_dies_meanwhile(self):
        self.kills = True
        self.run_with("WorkingDirectory=%s/x" % self.hung.where)

    def test_logs(self):
        """A log file that can't be reached costs its reader, not the daemon."""
        h = self.h
        ids = {"one": h.worker("one", section="LogFilePattern=%s/x/*.log" % self.hung.where)}
        h.start()
        h.all_up()
        answers = []

        def ask(path):
            try:
                answers.append(h.http("GET", path, timeout=40).status)
            except OSError:
                answers.append(0)
        threads = [threading.Thread(target=ask, args=(p,)) for p in ("/agentd/v1/workers/one/logs", "/agentd/v1/workers/one/logs/a.log")]
        for t in threads:
            t.start()
        self.others_go_on(ids)
        self.hung.end()
        for t in threads:
            t.join(harness.DEADLINE)
        h.stop()
