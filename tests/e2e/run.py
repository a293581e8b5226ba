# SPDX-License-Identifier: Apache-2.0
"""Runs the end-to-end tests and prints a TAP line for each:
run.py [--sanitized] [--times] [--campaigns | --no-campaigns] [--jobs=N] [PART-OF-A-NAME...]

--sanitized leaves out modules that say LONG; the campaigns are shorter there by themselves (harness.SANITIZED).
--campaigns: those modules only that say CAMPAIGN; --no-campaigns: the others.
--jobs=N shares the tests out to N runners. As root each has a pid namespace of its own: no runner's agentd reads another one's
processes in /proc, nor the host's, so that what it does there is the same each time. Environment: see harness.py. Exit
status 1 if any failed.
"""
import contextlib
import faulthandler
import fcntl
import glob
import importlib
import io
import os
import signal
import subprocess
import sys
import time
import traceback
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
# How long one test may take before it is taken for hanging.
LIMIT_SEC = 150


class TooLong(BaseException):
    pass


def on_alarm(sig, frame):
    raise TooLong("took longer than %d s" % LIMIT_SEC)


class Tap(unittest.TestResult):
    def __init__(self, times):
        super().__init__()
        self.n = self.bad = 0
        self.times = times
        self.parts = []
        self.began = 0

    def startTest(self, test):
        super().startTest(test)
        self.success, self.parts, self.began = True, [], time.monotonic()
        signal.alarm(LIMIT_SEC)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def line(self, ok, test, tail="", detail=""):
        self.n += 1
        self.bad += not ok
        took = "  (%.2f s)" % (time.monotonic() - self.began) if self.times else ""
        print("%s %d - %s%s%s" % ("ok" if ok else "not ok", self.n, test.id(), tail, took))
        for text in detail.splitlines():
            print("# " + text)
        sys.stdout.flush()

    def broken(self, test, err):
        self.success = False
        self.line(False, test, detail="".join(traceback.format_exception(*err)))

    def addSuccess(self, test):
        if not self.parts:
            self.line(True, test)

    def addError(self, test, err):
        super().addError(test, err)
        self.broken(test, err)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.broken(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.parts.append(subtest)
            self.broken(subtest, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line(True, test, " # SKIP " + reason)


def names(suite):
    for t in suite:
        if isinstance(t, unittest.TestSuite):
            yield from names(t)
        else:
            yield t


def discover(options, filters):
    """The tests, in order."""
    for path in sorted(glob.glob(HERE + "/test_*.py")):
        module = importlib.import_module(os.path.basename(path)[:-3])
        # what is not worth its time under the sanitizers names itself so
        if "--sanitized" in options and getattr(module, "LONG", False):
            continue
        if ("--no-campaigns" if getattr(module, "CAMPAIGN", False) else "--campaigns") in options:
            continue
        for test in names(unittest.defaultTestLoader.loadTestsFromModule(module)):
            if "--sanitized" in options and getattr(getattr(test, test._testMethodName), "LONG", getattr(test, "LONG", False)):
                continue
            if not filters or any(f in test.id() for f in filters):
                yield test


# --- several runners --------------------------------------------------------------------------------------------------------
# The queue is a pipe with the names of the tests; each runner takes the next one.

RECORD = 160  # bytes of one name in the queue: less than PIPE_BUF, so that it is read whole


OWN_PROC = (["mount", "--make-private", "/proc"], ["mount", "-t", "proc", "proc", "/proc"])


def own_pids():
    """A command in front that gives a runner its own pid namespace, where that is allowed. Its /proc is its own business: in a
    chroot only that mount can be made private."""
    words = ["unshare", "--pid", "--fork", "--mount", "--propagation", "unchanged", "--kill-child"]
    trial = [*words, "sh", "-c", " && ".join(" ".join(c) for c in OWN_PROC)]
    allowed = os.geteuid() == 0 and subprocess.run(trial, stderr=subprocess.DEVNULL, check=False).returncode == 0
    return words if allowed else []


def is_alone(test):
    """It measures time: nothing else of ours runs beside it."""
    return getattr(test, "ALONE", False)


def share_out(tests, jobs, options):
    alone = [t for t in tests if is_alone(t)]
    status = run_shared([t for t in tests if not is_alone(t)], jobs, options)
    return max(status, run_shared(alone, 1, options) if alone else 0)


def run_shared(tests, jobs, options):
    import harness
    os.environ["AGENTD_TEST_SEED"] = str(harness.SEED)  # a random one is the same for all
    out, queue = os.pipe()
    runner = [*own_pids(), sys.executable, __file__, "--runner=%d" % out, *(o for o in options if o == "--times")]
    runners = [subprocess.Popen(runner, pass_fds=[out], env={**os.environ, "AGENTD_TEST_RUNNER": "%d/%d" % (i, jobs)})
               for i in range(jobs)]
    os.close(out)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for test in tests:
        os.write(queue, test.id().encode().ljust(RECORD))
    os.close(queue)
    return max(abs(p.wait()) for p in runners)


def reap_for(child):
    """The first process of a pid namespace: whoever lost its parent is ours."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def take_from(queue, times):
    """Runs what it takes from the queue; the words of one test are not mixed with another runner's."""
    result = Tap(times)
    with open(__file__, "rb") as lock:
        while True:
            name = os.read(queue, RECORD).decode().strip()
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                if name:
                    unittest.defaultTestLoader.loadTestsFromName(name).run(result)
                else:
                    say_ends()
            fcntl.flock(lock, fcntl.LOCK_EX)
            sys.stdout.write(text.getvalue())
            sys.stdout.flush()
            fcntl.flock(lock, fcntl.LOCK_UN)
            if not name:
                return 1 if result.bad else 0


def say_ends():
    """What a module says of all of its tests."""
    for module in [m for n, m in sys.modules.items() if n.startswith("test_")]:
        getattr(module, "say_totals", lambda: None)()


def run_as_runner(queue, times):
    if os.getpid() == 1:
        for command in OWN_PROC:
            subprocess.run(command, check=True)
    child = os.fork() if os.getpid() == 1 else 0
    if child:
        os.close(queue)
        return reap_for(child)
    return take_from(queue, times)


def main():
    options = [a for a in sys.argv[1:] if a.startswith("--")]
    filters = [a for a in sys.argv[1:] if not a.startswith("--")]
    values = dict(o.split("=", 1) for o in options if "=" in o)
    if set(o.split("=")[0] for o in options) - {"--sanitized", "--times", "--campaigns", "--no-campaigns", "--jobs", "--runner"}:
        print(__doc__, file=sys.stderr)
        return 2
    here = os.environ.setdefault("AGENTD_BIN", os.path.abspath("build/bin"))
    build = os.environ.setdefault("AGENTD_BUILD", os.path.abspath("build"))
    os.environ.setdefault("AGENTD_RPC", here + "/agentd-rpc")
    os.environ.setdefault("AGENTCTL", here + "/agentctl")
    os.environ.setdefault("FAKE_AGENTD", build + "/tests/lib/fake_agentd")
    signal.signal(signal.SIGALRM, on_alarm)
    faulthandler.enable()
    if "--runner" in values:
        return run_as_runner(int(values["--runner"]), "--times" in options)
    tests = list(discover(options, filters))
    if "--jobs" in values:
        return share_out(tests, int(values["--jobs"]), options)
    result = Tap("--times" in options)
    for test in tests:
        test.run(result)
    say_ends()
    print("1..%d" % result.n)
    return 1 if result.bad else 0


if __name__ == "__main__":
    sys.exit(main())
