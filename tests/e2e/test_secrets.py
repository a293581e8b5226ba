# SPDX-License-Identifier: Apache-2.0
"""LoadCredential= and SetCredential=: files for the worker's user alone, gone with the worker, said nowhere."""
import os
import stat
import subprocess

from harness import ORDINARY, Case, both, environ_of, eventually, needs_root

SECRET = "correct-horse-battery"


class Base(Case):
    cgroup = True

    def begin(self, service="", section="", **how):
        h = self.host(cgroup=self.cgroup, **how)
        h.write("key", SECRET + "\n", mode=0o600)
        h.worker("a", service="LoadCredential=key:%s/key\nSetCredential=word:%s\\x21 of \"mine\"\n%s" % (h.dir, SECRET, service),
                 section=section)
        h.start()
        return h

    def folder(self, h):
        return environ_of(h.record("a")["pid"])[b"CREDENTIALS_DIRECTORY"].decode()

    def read(self, path):
        with open(path, encoding="utf-8") as f:
            return f.read()


@both
class Secrets(Base):
    def test_there_and_gone(self):
        h = self.begin()
        h.until("a", "UP")
        d = self.folder(h)
        self.assertEqual(d, h.run + "/credentials/a~1")
        self.assertEqual(self.read(d + "/key"), SECRET + "\n")
        self.assertEqual(self.read(d + "/word"), SECRET + "! of \"mine\"")
        h.write("key", "another", mode=0o600)
        h.operation("a", "restart")
        self.assertFalse(os.path.exists(d))
        d = self.folder(h)
        self.assertEqual(self.read(d + "/key"), "another")
        h.operation("a", "stop")
        self.assertEqual(os.listdir(h.run + "/credentials"), [])
        h.operation("a", "start")
        d = self.folder(h)
        h.kill()
        h.start()
        h.until("a", "UP")
        self.assertEqual(self.read(d + "/key"), "another")
        h.stop()
        self.assertEqual(os.listdir(h.run + "/credentials"), [])

    def test_said_nowhere(self):
        h = self.begin("ExecStartPre=/bin/true\n")
        h.until("a", "UP")
        said = [h.log(), h.http("GET", "/agentd/v1/workers/a").body.decode(), h.http("GET", "/metrics").body.decode(),
                h.run_agentd("--dump-config").stdout, h.run_agentd("--check-config").stderr, h.ctl("reload").stdout]
        with open("/proc/%d/cmdline" % h.record("a")["pid"], encoding="utf-8") as f:
            said.append(f.read())
        said.append(repr(environ_of(h.record("a")["pid"])))
        for text in said:
            self.assertNotIn(SECRET, text)
        h.stop()

    def test_missing(self):
        """A file that is not there fails the start and names what for, unless a value stands for it."""
        h = self.begin("Restart=no\nLoadCredential=more:/nonexistent/file\n")
        w = h.until("a", "DOWN")
        self.assertIn("LoadCredential=more: /nonexistent/file: ", w["message"])
        self.assertEqual((w["lastExit"]["kind"], w["pid"]), ("spawn-failed", 0))
        self.assertEqual(os.listdir(h.run + "/credentials"), [])
        h.worker("a", service="LoadCredential=more:/nonexistent/file\nSetCredential=more:instead\n", id=101)
        h.ctl("reload")
        h.operation("a", "restart")
        h.until("a", "UP")
        self.assertEqual(self.read(self.folder(h) + "/more"), "instead")
        h.stop()

    def test_dead_agentd(self):
        """A worker that ends while no agentd lives: its secrets go when one comes back."""
        h = self.begin("Restart=no\n")
        w = h.until("a", "UP")
        h.kill()
        os.kill(w["pid"], 9)
        h.start()
        h.until("a", "DOWN")
        self.assertEqual(os.listdir(h.run + "/credentials"), [])
        h.stop()

    @needs_root
    def test_for_its_user_alone(self):
        h = self.begin("User=%d\nGroup=%d\n" % (ORDINARY, ORDINARY))
        w = h.until("a", "UP")
        d = self.folder(h)
        self.assertEqual(w["uid"], ORDINARY)

        def as_user(uid, *command):
            return subprocess.run(command, capture_output=True, text=True, user=uid, group=uid, extra_groups=[], check=False)
        self.assertEqual(as_user(ORDINARY, "/bin/cat", d + "/key").stdout, SECRET + "\n")
        self.assertIn("key", as_user(ORDINARY, "/bin/ls", d).stdout)
        for command in (["/bin/cat", d + "/key"], ["/bin/ls", d], ["/bin/ls", h.run + "/credentials"]):
            self.assertNotEqual(as_user(ORDINARY - 1, *command).returncode, 0)
        # and it can't make more of it than it was given
        for command in (["/bin/touch", d + "/more"], ["/bin/rm", d + "/key"], ["/bin/chmod", "700", d]):
            self.assertNotEqual(as_user(ORDINARY, *command).returncode, 0)
        for path in (d, d + "/key"):
            st = os.stat(path)
            self.assertEqual((st.st_uid, stat.S_IMODE(st.st_mode) & 0o227), (0, 0))
        h.stop()

    @needs_root
    def test_trust(self):
        """A file that others can change is not believed."""
        h = self.begin()
        h.until("a", "UP")
        os.chmod(h.dir + "/key", 0o666)
        h.operation("a", "restart")
        w = eventually(lambda: (lambda w: "LoadCredential=key" in w["message"] and w)(h.record("a")), what="a message")
        self.assertEqual(w["pid"], 0)
        h.operation("a", "stop")
        h.stop()


@needs_root
class TwoAtOnce(Base):
    def test_overlap(self):
        """Two instances, each with its own; the earlier one's go with it."""
        h = self.begin(section="RestartMode=overlap\n")
        h.until("a", "UP")
        before = self.folder(h)
        h.operation("a", "restart")
        h.until("a", "UP")
        after = self.folder(h)
        self.assertNotEqual(before, after)
        self.assertEqual(self.read(after + "/key"), SECRET + "\n")
        eventually(lambda: os.listdir(h.run + "/credentials") == [os.path.basename(after)], what="the earlier ones gone")
        h.stop()
        self.assertEqual(os.listdir(h.run + "/credentials"), [])
