# SPDX-License-Identifier: Apache-2.0
"""As an ordinary user, without a cgroup of one's own."""
import os

import harness
from harness import Case, eventually, is_alive

UID = harness.ORDINARY if harness.ROOT else None


class Ordinary(Case):
    def test_life(self):
        h = self.host(uid=UID)
        port = harness.free_port()
        ids = {"web": h.worker("web", "--delay 10 --listen %d --children 2" % port, section="ReadyCheck=tcp:%d" % port),
               "redis": h.worker("redis", "--delay 10 --notify READY=1", "Type=notify"),
               "cleaner": h.worker("cleaner", "--grandchild --stdout hello", section="LogFilePattern=%s/*.log" % h.logs)}
        h.start()
        before = h.all_up()
        uid = UID if UID is not None else os.geteuid()
        self.assertEqual({os.stat("/proc/%d" % w["pid"]).st_uid for w in before.values()}, {uid})
        for alias, id in ids.items():
            old = h.processes(alias)
            r = h.verb(id, "restart")
            self.assertEqual([p for p in old if is_alive(p)], [])
            self.assertEqual((r.status, r.data["status"]), (200, "STARTED"), r)
            self.assertNotEqual(r.data["pid"], before[alias]["pid"])
        self.assertEqual(h.process(ids["web"])["ports"], str(port))
        os.kill(h.record("redis")["pid"], 9)
        eventually(lambda: (lambda w: w["generation"] == 3 and w["state"] == "UP")(h.record("redis")))
        self.assertEqual(h.http("GET", "/agentd/v1/workers/cleaner/logs/cleaner.log").body, b"hello\nhello\n")
        self.assertEqual(h.verb(ids["cleaner"], "stop").status, 200)
        self.assertEqual(h.processes("cleaner"), {})
        h.stop()

    def test_killed_and_back(self):
        h = self.host(uid=UID)
        h.worker("web", "--children 1 --grandchild", section="ReadyCheck=stable:30ms")
        h.start()
        w = h.all_up()["web"]
        h.kill()
        h.start()
        again = h.all_up()["web"]
        self.assertEqual((again["pid"], again["ownership"]), (w["pid"], "adopted"))
        h.tree(None, 3)
        self.assertEqual(h.operation("web", "restart").status, 200)
        h.tree(None, 3)
        self.assertEqual(len(set(h.processes().values())), 1)
        h.stop()

    def test_another_user_is_refused(self):
        h = self.host(uid=UID)
        h.worker("root", service="User=root")
        h.worker("mine")
        r = h.run_agentd("--check-config")
        h.start()
        h.until("mine", "UP")
        if "root" in h.all():
            r = h.operation("root", "restart")
            self.assertEqual(r.status, 500, r)
            self.assertRegex(r.message, "EPERM|user")
        else:
            self.assertEqual(r.returncode, 2)
        self.assertEqual(h.processes("root"), {})
        h.stop()
