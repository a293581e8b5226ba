# SPDX-License-Identifier: Apache-2.0
"""Rotation of captured output: every line once, whoever is killed, whatever is in the way, while the worker writes on."""
import gzip
import os
import random
import re
import subprocess
import time

import harness
from harness import Case, eventually, needs_root
from test_logs import Stream

LINE = 100
MARK = re.compile(rb"[ \t]{255,}\n")


def on_processor(pid):
    """Seconds; /proc/PID/stat counts in steps that are too long for what is measured here."""
    with open("/proc/%d/schedstat" % pid, encoding="ascii") as f:
        return int(f.read().split()[0]) / 1e9


def rotated(path):
    """The rotated files of path, the oldest first."""
    folder, name = os.path.split(path)
    found = {}
    for n in os.listdir(folder):
        m = re.fullmatch(re.escape(name) + r"\.(\d+)(\.gz)?", n)
        if m:
            found.setdefault(int(m.group(1)), []).append(n)
    return [os.path.join(folder, n) for k in sorted(found, reverse=True) for n in sorted(found[k])]


def text_of(path):
    """Without the hole and the note at the front."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        if not path.endswith(".gz"):
            try:
                f.seek(os.lseek(f.fileno(), 0, os.SEEK_DATA))
            except OSError:  # nothing but a hole
                return b""
        text = f.read()
    return text[MARK.match(text).end():] if MARK.match(text) else text


def numbers(text):
    lines = text.split(b"\n")
    assert lines[-1] == b"", lines[-1]
    assert all(len(x) == LINE - 1 for x in lines[:-1]), [x for x in lines[:-1] if len(x) != LINE - 1][:3]
    return [int(x[:10]) for x in lines[:-1]]


class Rotation(Case):
    def lines(self, path):
        return [n for f in rotated(path) + [path] for n in numbers(text_of(f))]

    def assert_all(self, path, n, first=0):
        found = self.lines(path)
        if found != list(range(first, n)):
            wrong = next((i for i, (a, b) in enumerate(zip(found, range(first, n))) if a != b), None)
            self.fail("%d lines instead of %d; the first wrong one is number %s: %r" % (
                len(found), n - first, wrong, found[wrong - 1:wrong + 2] if wrong else None))

    def written(self, h, alias="w"):
        """Until the worker has written all: it says so with a file."""
        eventually(lambda: os.path.exists(h.dir + "/%s.done" % alias), what="the writer's end")

    def settled(self, path, limit):
        """Until nothing is left to cut."""
        def short():
            return not any(os.path.exists(path + x) for x in (".rotating", ".rotated", ".packing")) and len(text_of(path)) < limit
        eventually(short, what="the last rotation")

    def writer(self, h, n, each, ms, alias="w", service="", section=""):
        return h.worker(alias, "--lines %d %d %d %d --pid-file %s/%s.done" % (n, LINE, each, ms, h.dir, alias), service,
                        "LogMaxFiles=1000\n" + section)


class OnBoth:
    """The same on a disk and in memory: on() is told the folder."""

    def test_on_disk(self):
        self.on(None)

    def test_in_memory(self):
        if not os.access("/dev/shm", os.W_OK):
            self.skipTest("no /dev/shm")
        self.on("/dev/shm")


class FullSpeed(OnBoth, Rotation):
    ALONE = True
    def on(self, directory):
        h = self.host(directory=directory)
        self.writer(h, 2000000, 40, 0, section="LogMaxSize=10M")
        h.start()
        pid = h.until("w", "UP")["pid"]
        before = on_processor(h.pid)
        self.written(h)
        ours, its = on_processor(h.pid) - before, on_processor(pid)
        path = h.logs + "/w.log"
        self.settled(path, 10 << 20)
        self.assert_all(path, 2000000)
        self.assertGreater(len(rotated(path)), 1)
        self.assertEqual(h.record("w")["generation"], 1)
        if not harness.SANITIZED:
            # a cut every few milliseconds: a hundredth is what is wanted, and what benchmarks show
            self.assertLess(ours, its / 50, "processor time of agentd beside that of the writer")
        h.stop()

class Killed(OnBoth, Rotation):
    """agentd, and with it what rotates, dies again and again; the worker writes on."""

    def on(self, directory):
        h = self.host(directory=directory)
        chance = random.Random(harness.SEED)
        self.writer(h, 60000, 50, 1, section="LogMaxSize=256K")
        h.start()
        path = h.logs + "/w.log"
        pid = h.until("w", "UP")["pid"]
        kills = 0
        while not os.path.exists(h.dir + "/w.done"):
            kills += 1
            seen = len(rotated(path))
            eventually(lambda seen=seen: len(rotated(path)) > seen or os.path.exists(h.dir + "/w.done"), what="a rotation")
            h.moment(chance, 60)
            h.kill()
            h.start()
        self.assertGreater(kills, 1)
        self.settled(path, 256 << 10)
        self.assert_all(path, 60000)
        self.assertEqual(h.until("w", "UP")["pid"], pid)
        h.stop()


# Numbers its lines, each generation from a million of its own on, until it has been told to end and has written some more; then
# it says where it has come to.
GENERATION = """#!/usr/bin/python3
import os, signal, sys
end = {signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, end)
generation = int(os.environ["AGENTD_GENERATION"])
n, more, told = generation * 1000000, 100, False
while more:
    os.write(1, b"".join(b"%010d " % i + b"x" * 88 + b"\\n" for i in range(n, n + 40)))
    n, more = n + 40, more - told
    told = bool(signal.sigtimedwait(end, 0.001)) or told
with open("%s.%d" % (sys.argv[1], generation), "w") as f:
    f.write("%d" % n)
"""


class Files(Rotation):
    def test_two_at_once(self):
        """While a restart overlaps, both write to one file, and it is cut all the same."""
        h = self.host()
        h.write("writer", GENERATION, 0o755)
        gate = h.gate()
        gate.open()
        h.worker("w", command="%s/writer %s/came-to" % (h.dir, h.dir), service='ExecStartPost=/bin/sh -c "%s"' % gate.wait,
                 section="RestartMode=overlap\nLogMaxSize=256K\nLogMaxFiles=1000")
        h.start()
        h.until("w", "UP")
        path = h.logs + "/w.log"
        for _ in range(5):
            gate.shut()
            c = h.connect()
            c.request("POST", "/agentd/v1/workers/w/restart")
            eventually(lambda: len([p for p in h.processes("w") if harness.name_of(p) == "writer"]) == 2, what="the next one")
            seen = len(rotated(path))
            eventually(lambda seen=seen: len(rotated(path)) > seen + 1, what="a rotation while there are two")
            gate.open()
            self.assertEqual(c.getresponse().status, 200)
        self.assertEqual(h.operation("w", "stop").status, 200)
        self.settled(path, 256 << 10)
        found = self.lines(path)
        for g in range(1, 7):
            with open(h.dir + "/came-to.%d" % g, encoding="ascii") as f:
                self.assertEqual([n for n in found if n // 1000000 == g], list(range(g * 1000000, int(f.read()))))
        self.assertEqual(h.record("w")["generation"], 6)
        h.stop()

    def test_compressed_and_counted(self):
        h = self.host()
        h.worker("w", "--lines 60000 100 100 2 --pid-file %s/w.done" % h.dir, section="LogMaxSize=256K\nLogMaxFiles=5\nLogCompress=yes")
        h.start()
        path = h.logs + "/w.log"
        self.written(h)
        self.settled(path, 256 << 10)
        want = [path + ".%d.gz" % i for i in (5, 4, 3, 2)] + [path + ".1"]
        eventually(lambda: rotated(path) == want, what="five files, all but the newest compressed")
        self.settled(path, 256 << 10)
        found = self.lines(path)
        self.assertEqual(found, list(range(found[0], 60000)), "the newest lines, without a hole")
        for f in want:
            self.assertEqual(os.stat(f).st_mode & 0o777, os.stat(path).st_mode & 0o777)
        # fewer are kept from now on, and the worker is not restarted for it
        h.worker("w", "--lines 60000 100 100 2 --pid-file %s/w.done" % h.dir, section="LogMaxSize=64K\nLogMaxFiles=2", id=101)
        self.assertEqual(h.http("POST", "/agentd/v1/reload").status, 200)
        eventually(lambda: len(rotated(path)) <= 2, what="two files")
        self.assertEqual(h.record("w")["generation"], 1)
        h.stop()

    @needs_root
    def test_unprivileged(self):
        h = self.host(uid=harness.ORDINARY)
        self.writer(h, 20000, 50, 1, section="LogMaxSize=256K")
        h.start()
        self.written(h)
        self.settled(h.logs + "/w.log", 256 << 10)
        self.assert_all(h.logs + "/w.log", 20000)
        self.assertGreater(len(rotated(h.logs + "/w.log")), 1)
        h.stop()

    def test_standard_error_beside_it(self):
        h = self.host()
        h.worker("w", "--lines 3000 100 100 0 --stderr here --pid-file %s/w.done" % h.dir,
                 "StandardError=append:%s/err.log" % h.dir, "LogMaxSize=64K")
        h.start()
        self.written(h)
        self.settled(h.logs + "/w.log", 64 << 10)
        self.assert_all(h.logs + "/w.log", 3000)
        with open(h.dir + "/err.log", encoding="ascii") as f:
            self.assertEqual(f.read(), "here\n")
        h.stop()

    def test_reader_sees_every_line(self):
        """A stream over HTTP goes on over rotations, and so does a reader who comes back with its place."""
        h = self.host()
        self.writer(h, 40000, 40, 1, section="LogMaxSize=256K")
        h.start()
        h.until("w", "UP")  # there is a file
        s = Stream(h, "/agentd/v1/workers/w/logs/w.log?from=0&follow=1")
        half = s.until(b"\n0000020000 ")
        half = half[:half.rindex(b"\n") + 1]
        s.close()
        s = Stream(h, "/agentd/v1/workers/w/logs/w.log?from=%d&follow=1" % len(half))
        rest = s.until(b"\n0000039999 " + b"x" * (LINE - 12) + b"\n")
        s.close()
        self.assertEqual(numbers(half + rest), list(range(40000)))
        self.assertGreater(len(rotated(h.logs + "/w.log")), 3)
        self.settled(h.logs + "/w.log", 256 << 10)
        r = h.http("GET", "/agentd/v1/workers/w/logs/w.log?from=-%d" % (2 * LINE))
        self.assertNotIn(b" \t ", r.body)
        self.assertEqual(r.headers["Agentd-Log-Cursor"].rsplit(":", 1)[1], str(40000 * LINE - len(r.body)))
        h.stop()

    def test_last_words(self):
        """A failed start shows its own last lines, although the file was cut since it began."""
        h = self.host()
        id = h.worker("w", "--lines 20000 100 100 1 --stderr last-words --exit 3", "Type=notify\nRestart=no", "LogMaxSize=64K")
        h.start()
        h.until("w", "DOWN")
        for _ in range(2):
            r = h.verb(id, "start")
            self.assertEqual(r.status, 500)
            lines = r.message.split("\n")
            self.assertEqual(lines[-1], "last-words", r)
            self.assertEqual([int(x[:10]) for x in lines[-19:-1]], list(range(19982, 20000)))
        self.assertGreater(len(rotated(h.logs + "/w.log")), 1)
        # nothing of the one before when there is nothing of its own
        h.worker("w", "--exit 3", "Type=notify\nRestart=no", "LogMaxSize=64K", id=id)
        self.assertEqual(h.http("POST", "/agentd/v1/reload").status, 200)
        r = h.verb(id, "start")
        self.assertNotIn("last-words", r.message)
        h.stop()


@needs_root
class InTheWay(Rotation):
    def refusal(self, h, *words):
        """The line of the log that names it, and the event."""
        def said():
            return next((x for x in h.log().split("\n") if "cannot be rotated" in x and all(w in x for w in words)), None)
        return eventually(said, what="%r in the log" % (words,))

    def mounted(self, kind, options, h):
        where = h.dir + "/small"
        os.mkdir(where)
        subprocess.run(["mount", "-t", kind, "-o", options, kind, where], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", where], check=False)
        return where

    def test_full_disk(self):
        h = self.host()
        where = self.mounted("tmpfs", "size=4m,mode=755", h)
        path = where + "/w.log"
        self.writer(h, 60000, 100, 1, service="StandardOutput=append:" + path, section="LogMaxSize=3M")
        h.start()
        self.refusal(h, path + ": can't be copied: No space left")
        self.assertEqual(h.record("w")["state"], "UP")
        eventually(lambda: os.statvfs(where).f_bavail == 0, what="a full disk")
        self.assertEqual(h.log().count("cannot be rotated"), 1)
        subprocess.run(["mount", "-o", "remount,size=64m", where], check=True)
        h.proc.send_signal(harness.signal.SIGUSR1)
        self.written(h)
        self.settled(path, 3 << 20)
        eventually(lambda: "is rotated again" in h.log(), what="that it is said")
        self.assert_all(path, 60000)
        h.stop()

    def test_file_system_that_can_not(self):
        h = self.host()
        where = self.mounted("ramfs", "mode=755", h)
        self.writer(h, 3000, 20, 0, service="StandardOutput=append:%s/w.log" % where, section="LogMaxSize=64K")
        h.start()
        self.written(h)
        self.refusal(h, where + "/w.log", "file system")
        self.assert_all(where + "/w.log", 3000)
        h.stop()

    def test_planted(self):
        """The worker's user owns the folder: each thing is refused by its name, and nothing outside is touched."""
        h = self.host()
        mine = h.dir + "/mine"
        os.mkdir(mine)
        os.chown(mine, harness.ORDINARY, harness.ORDINARY)
        outside = h.write("outside", "precious\n", 0o666)
        before = os.stat(outside)
        path = mine + "/w.log"
        me = "User=%d\nGroup=%d\nWorkingDirectory=/\nStandardOutput=append:%s" % (harness.ORDINARY, harness.ORDINARY, path)
        h.worker("w", "--lines 100000 100 10 1", me, "LogMaxSize=64K\nLogMaxFiles=1000")
        plant = [
            (".1", "not a regular", lambda p: os.symlink(outside, p), os.unlink),
            (".1", "not a regular", lambda p: os.link(outside, p), os.unlink),
            (".1", "not a regular", os.mkfifo, os.unlink),
            (".1.gz", "not a regular", lambda p: os.mknod(p, 0o20666, os.makedev(1, 5)), os.unlink),
            (".rotated", "not a regular", os.mkfifo, os.unlink),
            (".rotating", "Is a directory", os.mkdir, os.rmdir),
        ]
        for suffix, words, make, remove in plant:
            with self.subTest(suffix, words=words):
                make(path + suffix)
                if os.lstat(path + suffix).st_nlink == 1:
                    os.chown(path + suffix, harness.ORDINARY, harness.ORDINARY, follow_symlinks=False)
                h.start()
                self.refusal(h, path + suffix, words)
                self.assertEqual(h.record("w")["state"], "UP")
                h.stop()
                remove(path + suffix)
                for f in os.listdir(mine):
                    os.unlink(mine + "/" + f)
                os.unlink(h.dir + "/agentd.log")
        # the folder itself leads to another one, where only root may write
        os.mkdir(h.dir + "/root-only", 0o755)
        h.start()
        eventually(lambda: rotated(path), what="a rotation")
        os.rename(mine, mine + "2")
        os.symlink(h.dir + "/root-only", mine)
        self.refusal(h, path)
        os.unlink(mine)
        os.symlink(h.dir, mine)  # and the file is another's
        os.symlink(outside, h.dir + "/w.log")
        self.assertEqual(os.listdir(h.dir + "/root-only"), [])
        h.stop()
        with open(outside, encoding="ascii") as f:
            self.assertEqual(f.read(), "precious\n")
        after = os.stat(outside)
        self.assertEqual((after.st_mode, after.st_uid, after.st_mtime_ns), (before.st_mode, before.st_uid, before.st_mtime_ns))

    def test_of_the_workers_user(self):
        """Rotated files are the user's own in its folder, root's in LogDirectory and readable by its group there."""
        h = self.host()
        mine = h.dir + "/mine"
        os.mkdir(mine)
        os.chown(mine, harness.ORDINARY, harness.ORDINARY)
        me = "User=%d\nGroup=%d\nWorkingDirectory=/\n" % (harness.ORDINARY, harness.ORDINARY)
        h.worker("w", "--lines 2000 100 10 0", me + "StandardOutput=append:%s/w.log" % mine, "LogMaxSize=64K")
        h.worker("v", "--lines 2000 100 10 0", me, "LogMaxSize=64K")
        h.start()
        for path, uid in ((mine + "/w.log", harness.ORDINARY), (h.logs + "/v.log", 0)):
            eventually(lambda path=path: rotated(path), what="a rotation of " + path)
            st = os.stat(path + ".1")
            self.assertEqual((st.st_uid, st.st_gid, st.st_mode & 0o777), (uid, harness.ORDINARY, 0o640))
            self.settled(path, 64 << 10)
            self.assert_all(path, 2000)
        h.stop()

    def test_said_once_as_an_event(self):
        h = self.host()
        os.mkdir(h.dir + "/open")
        os.chmod(h.dir + "/open", 0o777)
        self.writer(h, 3000, 10, 1, service="StandardOutput=append:%s/open/w.log" % h.dir, section="LogMaxSize=64K")
        h.start()
        s = Stream(h, "/agentd/v1/events")
        self.refusal(h, h.dir + "/open", "writable by its group or others")
        c = h.connect()
        c.request("GET", "/agentd/v1/events", headers={"Last-Event-ID": "1"})
        r = c.getresponse()
        got = b""
        end = time.monotonic() + 10
        while b"event: log" not in got and time.monotonic() < end:
            got += r.read1(65536)
        self.assertIn(b"event: log", got)
        self.assertIn(b"not rotated", got)
        r.close()
        c.close()
        s.close()
        self.written(h)
        self.assertEqual(h.log().count("cannot be rotated"), 1)
        self.assert_all(h.dir + "/open/w.log", 3000)
        h.stop()
