# SPDX-License-Identifier: Apache-2.0
"""Runs the end-to-end tests and prints a TAP line for each: run.py [--sanitized] [--times] [PART-OF-A-NAME...]

--sanitized leaves out modules that say LONG; the campaigns are shorter there by themselves (harness.SANITIZED). Environment: see harness.py. Exit status 1 if any failed.
"""
import faulthandler
import glob
import importlib
import os
import signal
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


def main():
    options = [a for a in sys.argv[1:] if a.startswith("--")]
    filters = [a for a in sys.argv[1:] if not a.startswith("--")]
    if set(options) - {"--sanitized", "--times"}:
        print(__doc__, file=sys.stderr)
        return 2
    here = os.environ.setdefault("AGENTD_BIN", os.path.abspath("build/bin"))
    build = os.environ.setdefault("AGENTD_BUILD", os.path.abspath("build"))
    os.environ.setdefault("AGENTD_RPC", here + "/agentd-rpc")
    os.environ.setdefault("AGENTCTL", here + "/agentctl")
    os.environ.setdefault("FAKE_AGENTD", build + "/tests/lib/fake_agentd")
    signal.signal(signal.SIGALRM, on_alarm)
    faulthandler.enable()
    result = Tap("--times" in options)
    for path in sorted(glob.glob(HERE + "/test_*.py")):
        module = importlib.import_module(os.path.basename(path)[:-3])
        # what is not worth its time under the sanitizers names itself so
        if "--sanitized" in options and getattr(module, "LONG", False):
            continue
        wanted = unittest.TestSuite()
        for test in names(unittest.defaultTestLoader.loadTestsFromModule(module)):
            if not filters or any(f in test.id() for f in filters):
                wanted.addTest(test)
        wanted.run(result)
    print("1..%d" % result.n)
    return 1 if result.bad else 0


if __name__ == "__main__":
    sys.exit(main())
