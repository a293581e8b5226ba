# SPDX-License-Identifier: Apache-2.0
"""MemoryMax= and its like on a host that lacks their controllers: said, and never a failed start. With them: tests/qemu."""
import os
import unittest

from harness import Case, both, cgroup2, eventually


def delegated():
    """Controllers that agentd could hand down here."""
    try:
        with open(os.path.join(cgroup2() or "/nowhere", "cgroup.subtree_control"), encoding="ascii") as f:
            return set(f.read().split())
    except OSError:
        return set()


@both
class NoEffect(Case):
    def begin(self, service):
        if self.cgroup and delegated() & {"cpu", "memory", "pids"}:
            raise unittest.SkipTest("this host has the controllers: see tests/qemu")
        h = self.host(cgroup=self.cgroup)
        h.worker("a", service=service)
        h.worker("b")
        h.start()
        h.all_up()
        return h

    def test_at_load(self):
        h = self.begin("MemoryMax=64M\nTasksMax=20\nCPUWeight=idle\nCPUQuota=5%\n")
        w = h.record("a")
        self.assertEqual(w["noEffect"], ["CPUWeight", "CPUQuota", "MemoryMax", "TasksMax"])
        self.assertEqual((w["state"], w["message"], w["lastExit"]), ("UP", "", None))
        self.assertEqual(h.record("b")["noEffect"], [])
        self.assertIn("without effect: CPUWeight=,CPUQuota=,MemoryMax=,TasksMax=: " +
                      ("there is no such controller in " if h.cgroup else "workers are tracked without cgroups"), h.log())
        self.assertIn("a: without effect: CPUWeight=,CPUQuota=,MemoryMax=,TasksMax=", h.ctl("doctor").stdout)
        h.stop()

    def test_at_reload(self):
        """The answer to a reload names what has none; the process stays, and what was taken out is not named any more."""
        h = self.begin("")
        pid = h.record("a")["pid"]
        h.worker("a", service="MemoryHigh=10%\n", id=101)
        self.assertIn("without effect: MemoryHigh=", h.ctl("reload").stdout)
        self.assertEqual(h.record("a")["noEffect"], ["MemoryHigh"])
        h.worker("a", id=101)
        h.ctl("reload")
        self.assertEqual(h.record("a")["noEffect"], [])
        self.assertEqual(h.record("a")["pid"], pid)
        h.worker("c", service="TasksMax=5\n")
        self.assertIn("without effect: TasksMax=", h.ctl("reload").stdout)
        h.until("c", "UP")
        h.stop()

    def test_after_a_crash(self):
        h = self.begin("TasksMax=7\n")
        pid = h.record("a")["pid"]
        h.kill()
        h.start()
        w = h.until("a", "UP")
        self.assertEqual((w["pid"], w["noEffect"]), (pid, ["TasksMax"]))
        h.stop()


@both
class Usage(Case):
    def test_processor_of_this_life(self):
        """The leaf is kept over a restart, its count of time too: the record has this incarnation's alone."""
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--spin")
        h.start()
        h.all_up()
        eventually(lambda: h.record("a")["cpuUsec"] > 400000, what="time of a processor")
        before = h.record("a")
        h.operation("a", "restart")
        w = h.until("a", "UP")
        self.assertEqual(w["generation"], 2)
        first = h.process(101) and h.record("a")
        self.assertLess(first["cpuUsec"], (first["elapsedTime"] + 1) * 1000000 + 100000)
        eventually(lambda: h.record("a")["cpuUsec"] > 0, what="time of the new one")
        self.assertGreater(before["cpuUsec"], 400000)
        if h.cgroup:
            h.kill()
            h.start()
            h.until("a", "UP")
            eventually(lambda: h.record("a")["cpuUsec"] > 50000, what="time after a crash")
            again = h.record("a")
            self.assertLess(again["cpuUsec"], (again["elapsedTime"] + 1) * 1000000 + 100000)
        h.stop()
