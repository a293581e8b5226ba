# SPDX-License-Identifier: Apache-2.0
"""Files of workers over HTTP: the list, the tail, what is still to be written; and what a worker's user plants there."""
import ctypes
import os
import subprocess
import time
import unittest

import harness
from harness import Case, both, eventually, is_alive, needs_root


class Stream:
    """GET that goes on; the body is read as it comes."""

    def __init__(self, h, path):
        self.c = h.connect()
        self.c.request("GET", path)
        self.r = self.c.getresponse()
        self.got = b""

    def until(self, text, deadline=harness.DEADLINE):
        end = time.monotonic() + deadline
        self.c.sock.settimeout(deadline) if self.c.sock else None
        while text not in self.got:
            if time.monotonic() > end:
                raise AssertionError("%r is not in %r" % (text, self.got))
            more = self.r.read1(65536)
            if not more:
                raise AssertionError("it ended with %r" % self.got)
            self.got += more
        return self.got

    def close(self):
        self.r.close()
        self.c.close()


@both
class Read(Case):
    cgroup = True

    def setUp(self):
        super().setUp()
        self.h = h = self.host(cgroup=self.cgroup)
        self.files = h.dir + "/files"
        os.mkdir(self.files)
        h.worker("web", "--env AGENTD_GENERATION", section="LogFilePattern=%s/app*.log" % self.files)
        with open(self.files + "/app.log", "w", encoding="ascii") as f:
            f.write("".join("line %d\n" % i for i in range(1000)))
        for name in ("app-1.log", "other.txt"):
            with open(self.files + "/" + name, "w", encoding="ascii") as f:
                f.write(name + "\n")
        h.start()
        h.all_up()
        self.base = "/agentd/v1/workers/web/logs"

    def test_list(self):
        rows = {r["name"]: r["size"] for r in self.h.ok("GET", self.base)["contents"]}
        self.assertEqual(set(rows), {"web.log", "app.log", "app-1.log"})
        self.assertEqual(rows["app-1.log"], 10)

    def test_tail(self):
        h = self.h
        r = h.http("GET", self.base + "/app.log")
        self.assertEqual((r.status, r.body[-9:]), (200, b"line 999\n"))
        r = h.http("GET", self.base + "/app.log?from=7&limit=7")
        self.assertEqual(r.body, b"line 1\n")
        r = h.http("GET", self.base + "/app.log?from=-9")
        self.assertEqual(r.body, b"line 999\n")
        r = h.http("GET", self.base + "/web.log")
        self.assertEqual(r.body, b"AGENTD_GENERATION=1\n")
        for name in ("other.txt", "none.log", "..%2Fagentd.conf", "%2Fetc%2Fpasswd", ".", "..", "app%00.log"):
            self.assertIn(h.http("GET", self.base + "/" + name).status, (400, 404), name)
        self.assertEqual(h.http("GET", self.base + "/app.log?limit=x").status, 400)

    def test_follow(self):
        h = self.h
        s = Stream(h, self.base + "/web.log?follow=1")
        s.until(b"AGENTD_GENERATION=1\n")
        h.operation("web", "restart")
        s.until(b"AGENTD_GENERATION=2\n")
        # rotation: what the new file holds comes after the old one
        os.rename(h.logs + "/web.log", h.logs + "/web.log.1")
        h.operation("web", "restart")
        s.until(b"AGENTD_GENERATION=3\n")
        with open(h.logs + "/web.log", "r+", encoding="ascii") as f:
            f.truncate(0)
        h.operation("web", "restart")
        s.until(b"AGENTD_GENERATION=4\n")
        s.close()
        before = harness.children(h.pid)
        # nobody reads any more: the helper goes
        eventually(lambda: len([p for p in harness.children(h.pid) if harness.name_of(p) == "agentd"]) == 0, 10, "end of %r" % before)
        h.stop()


@both
class Cursor(Case):
    """Where a reader was is known by the file, not by its name."""
    cgroup = True

    def setUp(self):
        super().setUp()
        self.h = h = self.host(cgroup=self.cgroup)
        self.files = h.dir + "/files"
        os.mkdir(self.files)
        h.worker("web", section="LogFilePattern=%s/app*.log" % self.files)
        h.start()
        h.all_up()
        self.path = self.files + "/app.log"
        self.url = "/agentd/v1/workers/web/logs/app.log"
        self.written, self.lines, self.stamp = b"", 0, 1700000000

    def write(self, n):
        """n lines more."""
        with open(self.path, "ab") as f:
            for _ in range(n):
                line = b"line %d\n" % self.lines
                self.lines += 1
                self.written += line
                f.write(line)
        self.stamp += 1  # file systems may keep times that are coarser than this test is quick
        os.utime(self.path, (self.stamp, self.stamp))

    def rotate(self):
        for n in range(20, 0, -1):
            if os.path.exists("%s.%d" % (self.path, n)):
                os.rename("%s.%d" % (self.path, n), "%s.%d" % (self.path, n + 1))
        os.rename(self.path, self.path + ".1")

    def read(self, cursor, more=""):
        """What comes from there on, and the cursor behind it."""
        r = self.h.http("GET", "%s?from=%s%s" % (self.url, cursor, more))
        self.assertEqual(r.status, 200, r)
        device, inode, at = r.headers["Agentd-Log-Cursor"].split(":")
        return r, "%s:%s:%d" % (device, inode, int(at) + len(r.body))

    def test_renamed(self):
        self.write(100)
        r, cursor = self.read(0, "&limit=300")
        seen = r.body
        for lines in ((50, 20), (1,), (0, 0, 30), ()):
            for n in lines:
                self.write(n)
                self.rotate()
            self.write(10)
            r, cursor = self.read(cursor, "&limit=350")  # in the middle of one, over the end of some
            self.assertNotIn("Agentd-Log-Gap", r.headers)
            seen += r.body
            self.assertEqual(seen, self.written[:len(seen)])
        while len(seen) < len(self.written):
            r, cursor = self.read(cursor, "&limit=5000")
            self.assertTrue(r.body)
            seen += r.body
        self.assertEqual(seen, self.written)
        self.assertEqual(self.read(cursor)[0].body, b"")
        self.h.stop()

    def test_followed(self):
        self.write(10)
        r, cursor = self.read(0, "&limit=30")
        self.write(10)
        self.rotate()
        self.write(10)
        s = Stream(self.h, "%s?from=%s&follow=1" % (self.url, cursor))
        s.until(self.written[30:])
        device, inode, at = s.r.headers["Agentd-Log-Cursor"].split(":")
        # the writer has not opened it anew yet: its last lines go to the file that was renamed
        self.rotate()
        with open(self.path, "wb"), open(self.path + ".1", "ab") as f:
            f.write(b"late\n")
        self.written += b"late\n"
        s.until(self.written[30:])
        self.write(10)
        s.until(self.written[30:])
        self.assertEqual(s.got, self.written[30:])
        s.close()
        # somebody who was cut off goes on where he was, by what he has counted
        self.rotate()
        self.write(10)
        s = Stream(self.h, "%s?from=%s:%s:%d&follow=1" % (self.url, device, inode, int(at) + len(s.got)))
        s.until(b"line %d\n" % (self.lines - 1))
        self.assertEqual(s.got, b"".join(b"line %d\n" % i for i in range(self.lines - 10, self.lines)))
        s.close()
        self.h.stop()

    def test_in_the_middle_of_a_rotation(self):
        """Nothing has the name for a moment: that is no reason not to know the file."""
        self.write(10)
        _, cursor = self.read(0)
        self.write(10)
        self.rotate()
        r, after = self.read(cursor)
        self.assertEqual(r.body, self.written[-len(r.body):])
        self.assertEqual(r.body.count(b"\n"), 10)
        s = Stream(self.h, "%s?from=%s&follow=1" % (self.url, after))
        self.write(10)
        s.until(b"line 29\n")
        self.assertEqual(s.got.count(b"\n"), 10)
        s.close()
        self.assertEqual(self.h.http("GET", "%s?from=0" % self.url).status, 200)
        os.unlink(self.path)
        self.assertEqual(self.h.http("GET", "%s?from=0" % self.url).status, 404, "whoever asks for the name")
        self.h.stop()

    def test_gaps(self):
        """What is gone is said to be gone, and the rest begins at its beginning."""
        self.write(20)
        _, cursor = self.read(0)
        self.rotate()
        os.unlink(self.path + ".1")
        self.write(5)
        r, cursor = self.read(cursor)
        self.assertEqual((r.headers["Agentd-Log-Gap"], r.body), ("1", self.written[-len(r.body):]))
        self.assertEqual(r.body.count(b"\n"), 5)
        os.truncate(self.path, 0)  # copytruncate
        self.write(1)
        r, cursor = self.read(cursor)
        self.assertEqual((r.headers["Agentd-Log-Gap"], r.body), ("1", b"line 25\n"))
        self.rotate()
        os.rename(self.path + ".1", self.path + ".1.gz")
        self.write(1)
        r, _ = self.read(cursor)
        self.assertEqual((r.headers["Agentd-Log-Gap"], r.body), ("1", b"line 26\n"))
        for wrong in ("1:2", "1:2:x", ":1:2", "1:2:3:4", "-1:2:3", "1:2:18446744073709551616"):
            self.assertEqual(self.h.http("GET", "%s?from=%s" % (self.url, wrong)).status, 400, wrong)
        self.h.stop()

    def test_only_what_was_rotated(self):
        """A file beside it whose name only begins alike is none of the log, nor is a link."""
        self.write(1)
        for name in ("app.log.secret", "app.logs"):
            with open(self.files + "/" + name, "w", encoding="ascii") as f:
                f.write("hidden\n")
        os.symlink("/etc/passwd", self.path + ".1")
        for name in (self.files + "/app.log.secret", self.files + "/app.logs", "/etc/passwd"):
            st = os.stat(name)
            r, _ = self.read("%d:%d:0" % (st.st_dev, st.st_ino))
            self.assertEqual((r.headers["Agentd-Log-Gap"], r.body), ("1", self.written), name)
        self.h.stop()

    def test_agentctl_follows(self):
        self.write(3)
        p = subprocess.Popen([harness.STAGED + "/agentctl", "--socket", self.h.socket, "logs", "web", "app.log", "-f"], stdout=subprocess.PIPE)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        self.assertEqual([p.stdout.readline() for _ in range(3)], [b"line %d\n" % i for i in range(3)])
        self.rotate()
        self.write(3)
        self.assertEqual([p.stdout.readline() for _ in range(3)], [b"line %d\n" % i for i in range(3, 6)])
        self.h.stop()


@needs_root
class Planted(Case):
    """The worker's user owns the folder and puts there what is not his."""

    def test_nothing_outside_is_read(self):
        h = self.host()
        folder = h.dir + "/mine"
        os.mkdir(folder)
        h.write("secret", "top secret\n", 0o600)
        h.write("public", "top secret\n", 0o644)
        h.worker("web", service="User=%d\nGroup=%d\nWorkingDirectory=/" % (harness.ORDINARY, harness.ORDINARY),
                 section="LogFilePattern=%s/*.log" % folder)
        os.symlink(h.dir + "/secret", folder + "/link.log")
        os.symlink(h.dir + "/public", folder + "/link2.log")
        os.link(h.dir + "/public", folder + "/hard.log")
        os.link(h.dir + "/secret", folder + "/hard2.log")
        os.mkfifo(folder + "/fifo.log")
        os.mkdir(folder + "/folder.log")
        os.symlink("/dev/zero", folder + "/zero.log")
        with open(folder + "/good.log", "w", encoding="ascii") as f:
            f.write("mine\n")
        for top, folders, files in os.walk(folder):
            for n in [top] + [top + "/" + x for x in folders + files]:
                if "hard" not in n:
                    os.chown(n, harness.ORDINARY, harness.ORDINARY, follow_symlinks=False)
        h.start()
        h.all_up()
        base = "/agentd/v1/workers/web/logs"
        r = h.http("GET", base + "/good.log")
        self.assertEqual((r.status, r.body), (200, b"mine\n"))
        for name in ("link", "link2", "hard", "hard2", "fifo", "folder", "zero"):
            for query in ("", "?follow=1"):
                with self.subTest(name, query=query):
                    r = h.http("GET", "%s/%s.log%s" % (base, name, query), timeout=5)
                    self.assertIn(r.status, (403, 404, 500), r)
                    self.assertNotIn(b"top secret", r.body)
        names = {x["name"] for x in h.ok("GET", base)["contents"]}
        self.assertIn("good.log", names)
        self.assertFalse(names & {"link.log", "link2.log", "fifo.log", "folder.log", "zero.log"}, names)
        # the folder itself becomes a link while agentd looks: still only what its user may read
        os.rename(folder, folder + "2")
        os.symlink("/root", folder)
        r = h.http("GET", base, timeout=5)
        self.assertIn(r.status, (200, 500))
        h.stop()

    def test_output_is_opened_as_the_worker(self):
        """append: outside LogDirectory is opened with the worker's rights only."""
        h = self.host()
        id = h.worker("web", "--stdout x", "User=%d\nGroup=%d\nStandardOutput=append:%s/root-only/x.log" % (harness.ORDINARY, harness.ORDINARY, h.dir))
        os.mkdir(h.dir + "/root-only", 0o755)
        mine = h.worker("mine", "--env AGENTD_ID", "User=%d\nGroup=%d" % (harness.ORDINARY, harness.ORDINARY))
        h.start()
        h.until("mine", "UP")
        r = h.verb(id, "restart")
        self.assertEqual(r.status, 500, r)
        self.assertIn("EACCES", r.message)
        self.assertEqual(os.listdir(h.dir + "/root-only"), [])
        r = h.http("GET", "/agentd/v1/workers/mine/logs/mine.log")
        self.assertEqual((r.status, r.body), (200, b"AGENTD_ID=%d\n" % mine), "its own captured output, in root's folder")
        h.verb(id, "stop")
        h.stop()


class Hung:
    """Opening the file hangs until this is closed, as on a server that does not answer: fanotify(7)."""
    FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD = 4, 1, 0x10000, -100

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.fanotify_init(self.FAN_CLASS_CONTENT, 0)
        if self.fd < 0 or libc.fanotify_mark(self.fd, self.FAN_MARK_ADD, ctypes.c_uint64(self.FAN_OPEN_PERM),
                                             self.AT_FDCWD, path.encode()) < 0:
            self.close()
            raise unittest.SkipTest("fanotify: %s" % os.strerror(ctypes.get_errno()))

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


@needs_root
class Hanging(Case):
    """One worker's log folder does not answer."""

    def setUp(self):
        super().setUp()
        self.h = h = self.host()
        for alias in ("web", "other"):
            os.mkdir(h.dir + "/" + alias)
            with open("%s/%s/a.log" % (h.dir, alias), "w", encoding="ascii") as f:
                f.write(alias + "\n")
            h.worker(alias, section="LogFilePattern=%s/%s/*.log" % (h.dir, alias))
        h.start()
        h.all_up()
        self.hung = Hung(h.dir + "/web/a.log")
        self.addCleanup(self.hung.close)

    def helpers(self):
        return [p for p in harness.children(self.h.pid) if harness.name_of(p) == "agentd" and is_alive(p)]

    def ask(self):
        """A client that waits for the hung log."""
        c = self.h.connect()
        c.request("GET", "/agentd/v1/workers/web/logs/a.log")
        self.addCleanup(c.close)
        return c

    def test_others_go_on(self):
        h = self.h
        clients = []
        for n in range(1, 5):
            clients.append(self.ask())
            eventually(lambda n=n: len(self.helpers()) == n, 5, "%d helpers" % n)
        for _ in range(30):
            self.assertEqual(h.http("GET", "/agentd/v1/workers/web/logs/a.log", timeout=5).status, 429)
        self.assertEqual(len(self.helpers()), 4)
        self.assertEqual(h.http("GET", "/agentd/v1/workers/other/logs/a.log", timeout=5).body, b"other\n")
        for c in clients[1:]:
            c.close()
        # who stays is told of it, and no helper stays for ever
        clients[0].sock.settimeout(20)
        self.assertEqual(clients[0].getresponse().status, 500)
        eventually(lambda: not self.helpers(), 20, "end of the helpers")
        self.hung.close()
        self.assertEqual(h.http("GET", "/agentd/v1/workers/web/logs/a.log", timeout=5).body, b"web\n")
        h.stop()

    def test_readers_are_not_counted(self):
        """Only those that have not opened their file yet take one of the few places of their worker."""
        h = self.h
        path = "/agentd/v1/workers/other/logs/a.log?follow=1"
        streams = [Stream(h, path) for _ in range(8)]
        for s in streams:
            s.until(b"other\n")
        with open(h.dir + "/other/a.log", "a", encoding="ascii") as f:
            f.write("more\n")
        for s in streams:
            s.until(b"more\n")
            s.close()
        h.stop()
