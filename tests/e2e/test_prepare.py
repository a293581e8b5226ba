# SPDX-License-Identifier: Apache-2.0
"""RuntimeDirectory= and its like, ConditionPathExists=, AssertPathExists=: what is made and looked at before a start."""
import os
import pwd
import shutil
import stat

import harness
from harness import Case, both, eventually


def about(path):
    s = os.lstat(path)
    return stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid


@both
@harness.needs_root
class Folders(Case):
    cgroup = True

    def setUp(self):
        self.name = harness.NAME
        self.nobody = pwd.getpwnam("nobody")
        self.paths = {k: "%s/%s" % (base, self.name) for k, base in (("Runtime", "/run"), ("State", "/var/lib"), ("Cache", "/var/cache"), ("Logs", "/var/log"))}
        for p in self.paths.values():
            self.addCleanup(shutil.rmtree, p, True)

    def all_kinds(self, extra="", **how):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--env RUNTIME_DIRECTORY --env STATE_DIRECTORY", "User=nobody\nStandardOutput=append:%s/out\n" % h.dir + "".join(
            "%sDirectory=%s %s/sub\n%sDirectoryMode=0750\n" % (k, self.name, self.name, k) for k in self.paths) + extra, **how)
        open(h.dir + "/out", "w", encoding="ascii").close()
        os.chmod(h.dir + "/out", 0o666)
        return h

    def test_made_and_removed(self):
        h = self.all_kinds()
        os.mkdir(self.paths["State"])
        open(self.paths["State"] + "/old", "w", encoding="ascii").close()
        open(h.dir + "/outside", "w", encoding="ascii").close()
        os.link(h.dir + "/outside", self.paths["State"] + "/linked") if os.stat(h.dir).st_dev == os.stat("/var/lib").st_dev else None
        os.symlink(h.dir + "/outside", self.paths["State"] + "/symbolic")
        h.start()
        h.until("a", "UP")
        for p in self.paths.values():
            self.assertEqual(about(p), (0o750, self.nobody.pw_uid, self.nobody.pw_gid), p)
            self.assertEqual(about(p + "/sub")[1], self.nobody.pw_uid)
        self.assertEqual(about(self.paths["State"] + "/old")[1], self.nobody.pw_uid)
        self.assertEqual(about(h.dir + "/outside")[1], 0, "a link leads nowhere")
        eventually(lambda: "RUNTIME_DIRECTORY=%s:%s/sub" % (self.paths["Runtime"], self.paths["Runtime"]) in open(h.dir + "/out", encoding="ascii").read())
        # over a restart it stays; at rest it goes, with what the worker has put there
        kept = os.stat(self.paths["Runtime"]).st_ino
        os.makedirs(self.paths["Runtime"] + "/a/b")
        os.symlink("/etc", self.paths["Runtime"] + "/a/etc")
        for top, _, _ in os.walk(self.paths["Runtime"]):
            os.chown(top, self.nobody.pw_uid, -1)
        self.assertEqual(h.operation("a", "restart").status, 200)
        self.assertEqual(os.stat(self.paths["Runtime"]).st_ino, kept)
        self.assertEqual(h.operation("a", "stop").status, 200)
        eventually(lambda: not os.path.exists(self.paths["Runtime"]))
        self.assertTrue(os.path.exists(self.paths["State"] + "/old") and os.path.exists("/etc/passwd"))
        for _ in range(5):  # a start right behind a stop
            self.assertEqual(h.operation("a", "start").status, 200)
            self.assertEqual(about(self.paths["Runtime"])[1], self.nobody.pw_uid)
            self.assertEqual(h.operation("a", "stop").status, 200)
        h.stop()
        self.assertFalse(os.path.exists(self.paths["Runtime"]))

    def test_planted_on_the_way(self):
        """A folder between is made a link: what it leads to is neither emptied nor removed, though all may write there."""
        h = self.all_kinds("RuntimeDirectory=%s/sub/deep\nStandardError=null\n" % self.name)
        h.start()
        h.until("a", "UP")
        behind = h.dir + "/behind"
        os.makedirs(behind + "/open/deep")
        os.makedirs(behind + "/empty/deep")
        open(behind + "/open/deep/file", "w", encoding="ascii").close()
        os.chmod(behind + "/open/deep", 0o777)
        os.chmod(behind, 0o700)
        for to in ("open", "empty"):
            os.rename(self.paths["Runtime"] + "/sub", self.paths["Runtime"] + "/moved")
            os.symlink(behind + "/" + to, self.paths["Runtime"] + "/sub")
            self.assertEqual(h.operation("a", "stop").status, 200)
            eventually(lambda: h.log().count("can't be removed") or not os.path.exists(self.paths["Runtime"]))
            self.assertTrue(os.path.exists(behind + "/open/deep/file"))
            self.assertTrue(os.path.exists(behind + "/empty/deep"))
            shutil.rmtree(self.paths["Runtime"], True)
            self.assertEqual(h.operation("a", "start").status, 200)
        h.stop()

    def test_preserved(self):
        h = self.all_kinds("RuntimeDirectoryPreserve=yes\n")
        h.start()
        h.until("a", "UP")
        h.stop()
        self.assertTrue(os.path.exists(self.paths["Runtime"]))

    def test_planted_link(self):
        """A folder that is a link is refused, named, and what it leads to is as it was."""
        h = self.all_kinds("Restart=no\n")
        os.mkdir(h.dir + "/mine", 0o700)
        os.symlink(h.dir + "/mine", self.paths["State"])
        self.addCleanup(os.unlink, self.paths["State"])
        h.start()
        w = h.until("a", "DOWN")
        self.assertEqual(w["reason"], "spawn-failed")
        self.assertRegex(w["message"], "its folders can't be made: %s" % self.paths["State"])
        self.assertEqual(about(h.dir + "/mine")[:2], (0o700, 0))
        r = h.operation("a", "start")
        self.assertEqual(r.status, 500)
        self.assertIn(self.paths["State"], r.message)
        h.stop()


@both
class Conditions(Case):
    cgroup = True

    def test_conditions(self):
        h = self.host(cgroup=self.cgroup)
        h.write("there", "")
        there, lacks = h.dir + "/there", h.dir + "/lacks"
        for alias, unit, up in (
                ("met", "ConditionPathExists=%s\nConditionPathExists=!%s\nAssertPathExists=%s" % (there, lacks, there), True),
                ("unmet", "ConditionPathExists=%s\nConditionPathExists=%s" % (there, lacks), False),
                ("not", "ConditionPathExists=!%s" % there, False),
                ("either", "ConditionPathExists=|%s\nConditionPathExists=|%s" % (lacks, there), True),
                ("neither", "ConditionPathExists=|%s\nConditionPathExists=|!%s" % (lacks, there), False),
                ("assert", "AssertPathExists=%s" % lacks, False),
                ("reset", "ConditionPathExists=%s\nConditionPathExists=" % lacks, True)):
            h.worker(alias, service="[Unit]\n" + unit)
        h.start()
        for alias, up in (("met", True), ("either", True), ("reset", True), ("unmet", False), ("not", False), ("neither", False), ("assert", False)):
            w = h.until(alias, "UP" if up else "DOWN")
            if not up:
                self.assertEqual((w["reason"], w["generation"], w["goal"]), ("condition", 0, "UP"), w)
                self.assertRegex(w["message"], "(Condition|Assert)PathExists=.* is not met$")
                r = h.operation(alias, "start")
                self.assertEqual(r.status, 500)
                self.assertIn("is not met", r.message)
        h.write("lacks", "")
        self.assertEqual(h.operation("unmet", "start").status, 200)
        self.assertEqual(h.record("unmet")["state"], "UP")
        os.unlink(lacks)
        r = h.operation("unmet", "restart")
        self.assertEqual((r.status, h.record("unmet")["state"]), (500, "DOWN"))
        h.stop()
