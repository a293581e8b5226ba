# SPDX-License-Identifier: Apache-2.0
"""Kernels without pidfds, clone3 and close_range: the same tests on the same binaries, with those calls refused."""
import os
import unittest

import harness

import test_faults
import test_restart

# CPython opens pidfds of its own; here the calls are refused to agentd and its children only
OLD = (harness.NOSYS, "pidfd_open", "pidfd_send_signal", "clone3", "close_range", "pidfd_getfd", "faccessat2", "openat2", "--")


class Old:
    wrap = OLD

    def host(self, **how):
        how["wrap"] = self.wrap
        return super().host(**how)


def copies(module, names):
    for name in names:
        cls = getattr(module, name, None)
        if cls is not None:
            globals()["Old" + name] = type("Old" + name, (Old, cls), {"__module__": __name__})


if os.path.exists(harness.NOSYS):
    copies(test_restart, ("EachKindInCgroups", "EachKindWithoutCgroups", "ManyInCgroups", "ManyWithoutCgroups",
                          "EnvironmentInCgroups", "EnvironmentWithoutCgroups"))
    copies(test_faults, ("DoesNotComeUpInCgroups", "DoesNotComeUpWithoutCgroups", "DoesNotGoInCgroups", "DoesNotGoWithoutCgroups"))
else:
    class Missing(unittest.TestCase):
        def test_nosys(self):
            self.fail("tests/lib/nosys is not built")


class Refuses(unittest.TestCase):
    def test_the_filter_works(self):
        """Else the tests above would prove nothing."""
        import subprocess
        import sys
        r = subprocess.run([*OLD, sys.executable, "-c", "import os; os.pidfd_open(os.getpid())"], capture_output=True, text=True, check=False)
        self.assertIn("Function not implemented", r.stderr)



