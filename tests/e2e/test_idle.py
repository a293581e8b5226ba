# SPDX-License-Identifier: Apache-2.0
"""At rest nothing happens: no wake-up of either process, with a hundred workers."""
import os
import re

import harness
from bell import outlive
from harness import Case, both, eventually

WINDOW_SEC = 60 if harness.ALL else 5


def switches(pid):
    """Voluntary context switches of all its threads: each is the end of a wait."""
    n = 0
    for t in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, t), encoding="ascii") as f:
            n += int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", f.read()).group(1))
    return n


@both
class Idle(Case):
    cgroup = True

    def test_hundred_workers(self):
        h = self.host(cgroup=self.cgroup)
        for i in range(100):
            h.worker("w%03d" % i, "--children 1" if i % 10 == 0 else "", section="LogMaxSize=1M" if i % 10 == 1 else "")
        h.start()
        self.assertEqual(len(h.all_up()), 100)
        h.operation("w001", "restart")
        watched = (h.pid, h.rpc_pid())

        def settled():
            before = [switches(p) for p in watched]
            self.assertTrue(outlive(watched, 1.5))  # what has ended is copied to disk within a second
            return before == [switches(p) for p in watched]
        eventually(settled, 10, "rest")
        before = [switches(p) for p in watched]
        # nothing is to happen: the window itself is the measurement
        self.assertTrue(outlive(watched, WINDOW_SEC))
        for p, n in zip(watched, before):
            self.assertLessEqual(switches(p) - n, 1, harness.name_of(p))
        h.stop()
