# SPDX-License-Identifier: Apache-2.0
"""agentd-rpc's sandbox, from outside as /proc tells it, and from inside: tests/lib/sandboxed.c enters it and tries."""
import errno
import os
import socket
import subprocess
import tempfile
import unittest

import harness
from harness import Case, both, needs_root

PROBE = os.path.join(harness.BUILD, "tests/lib/sandboxed")
# what does not work for an ordinary user without a sandbox either
LONG = True  # the sanitizers open files: nothing is closed there
NEVER = {"execve", "execveat", "kill-parent", "process_vm_readv", "sendto-elsewhere", "connect", "listen", "setns", "clone-space", "mount", "chroot", "bpf", "perf"}
OF_FILES = ("open", "open-syscall", "openat", "openat2", "reopen", "creat", "mkdir")


@both
class Outside(Case):
    cgroup = True

    def test_status(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("w")
        h.start()
        h.all_up()
        with open("/proc/%d/status" % h.rpc_pid(), encoding="utf-8") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") + (("CapBnd",) if harness.ROOT else ()):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], "1")
        if not harness.SANITIZED:
            self.assertEqual(status["Seccomp"], "2")
        if harness.ROOT:
            self.assertNotIn("0", status["Uid"].split() + status["Gid"].split() + status["Groups"].split())
            with open("/proc/%d/limits" % h.rpc_pid(), encoding="ascii") as f:
                self.assertRegex(f.read(), r"Max core file size\s+0\s+0\s")
            self.assertEqual(os.stat("/proc/%d/fd" % h.rpc_pid()).st_uid, 0, "not dumpable")
        if not harness.SANITIZED:
            self.assertRegex(h.log(), r"info sandbox: (landlock, version \d+|the kernel has no landlock)")
        h.stop()


@needs_root
class Inside(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="agentd-sandbox.")
        self.addCleanup(self.dir.cleanup)
        os.chmod(self.dir.name, 0o777)
        self.probe = os.path.join(self.dir.name, "probe")
        subprocess.run(["install", "-m", "755", PROBE, self.probe], check=True)
        self.victim = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=harness.ORDINARY, group=harness.ORDINARY, extra_groups=[])
        self.addCleanup(self.end_victim)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)

    def end_victim(self):
        self.victim.stdin.close()
        self.victim.kill()
        self.victim.wait()

    def attempts(self, how, *wrap):
        """{what it tried: the error's number}, and what it said."""
        args = [*wrap, self.probe, str(self.victim.pid), str(self.server.getsockname()[1]), "/etc/passwd", how]
        r = subprocess.run(args, capture_output=True, text=True, cwd=self.dir.name, user=harness.ORDINARY, group=harness.ORDINARY, extra_groups=[],
                           timeout=harness.DEADLINE, check=False)
        self.assertEqual(r.returncode, 0, r.stderr)
        return {n: int(e) for n, e in (line.split() for line in r.stdout.splitlines())}, r.stderr

    def test_nothing_works(self):
        got, said = self.attempts("whole")
        self.assertGreater(len(got), 50)
        self.assertEqual({n: e for n, e in got.items() if e != errno.EPERM}, {})
        self.assertRegex(said, "info sandbox: ")
        self.assertIsNone(self.victim.poll())
        self.assertEqual(os.listdir(self.dir.name), ["probe"])
        with self.assertRaises(BlockingIOError):
            self.server.setblocking(False)
            self.server.accept()

    def test_without_it_they_would(self):
        got, _ = self.attempts("none")
        # from within a chroot nobody may make a user namespace, user_namespaces(7)
        never = NEVER if self.may_unshare() else (*NEVER, "unshare")
        self.assertEqual({n: e for n, e in got.items() if e and n not in never}, {})

    def may_unshare(self):
        return subprocess.run(["unshare", "--user", "true"], user=harness.ORDINARY, group=harness.ORDINARY, extra_groups=[],
                              stderr=subprocess.DEVNULL, check=False).returncode == 0

    def test_landlock(self):
        got, said = self.attempts("files")
        if "no landlock" in said:
            self.skipTest("the kernel has no landlock")
        self.assertEqual({n: got[n] for n in OF_FILES}, dict.fromkeys(OF_FILES, errno.EACCES))

    def test_no_landlock(self):
        got, said = self.attempts("whole", harness.NOSYS, "landlock_create_ruleset", "--")
        self.assertIn("the kernel has no landlock", said)
        self.assertEqual({n: e for n, e in got.items() if e != errno.EPERM}, {})
