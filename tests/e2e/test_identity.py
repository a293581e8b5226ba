# SPDX-License-Identifier: Apache-2.0
"""Who is who: ids, renamed files, the operator's goal, one agentd per folder; and operations that can't get stuck."""
import os
import shutil
import signal

import harness
from harness import Case, eventually


def oom_score(pid):
    with open("/proc/%d/oom_score_adj" % pid, encoding="ascii") as f:
        return int(f.read())


class Scores(Case):
    def test_oom_score_is_its_own(self):
        """Neither agentd nor whoever is started beside it or after it has the score of a worker."""
        h = self.host()
        own = oom_score(os.getpid())
        ids = {alias: h.worker(alias, service="" if alias in "az" else "OOMScoreAdjust=%d" % (own + 100 * n))
               for n, alias in enumerate(("a", "first", "second", "z"))}
        h.start()
        for _ in range(2):
            workers = {a: oom_score(w["pid"]) for a, w in h.all_up().items()}
            self.assertEqual(workers, {"a": own, "first": own + 100, "second": own + 200, "z": own})
            self.assertEqual((oom_score(h.pid), oom_score(h.rpc_pid())), (own, own))
            for id in ids.values():
                h.verb(id, "restart")
        h.stop()


class Ids(Case):
    def reload(self, h):
        os.kill(h.pid, signal.SIGHUP)

    def aliases(self, h):
        return h.all()

    def test_a_file_s_id_wins(self):
        h = self.host()
        h.write("workers.d/aa.conf", "[Service]\nExecStart=/bin/sleep infinity\n")
        h.write("workers.d/bb.conf", "[Service]\nExecStart=/bin/sleep infinity\n[Worker]\nId=1001\n")
        h.start()
        found = self.aliases(h)
        self.assertEqual(found["bb"]["id"], 1001)
        self.assertNotEqual(found["aa"]["id"], 1001)

    def test_a_remembered_id_is_not_given_twice(self):
        h = self.host()
        h.write("workers.d/aa.conf", "[Service]\nExecStart=/bin/sleep infinity\n")
        h.start()
        old = self.aliases(h)["aa"]["id"]
        h.remove("aa")
        self.reload(h)
        eventually(lambda: not self.aliases(h), what="aa gone")
        h.write("workers.d/bb.conf", "[Service]\nExecStart=/bin/sleep infinity\n[Worker]\nId=%d\n" % old)
        self.reload(h)
        eventually(lambda: "bb" in self.aliases(h), what="bb there")
        h.write("workers.d/aa.conf", "[Service]\nExecStart=/bin/sleep infinity\n")
        self.reload(h)
        eventually(lambda: len(self.aliases(h)) == 2, what="both there")
        found = self.aliases(h)
        self.assertEqual(found["bb"]["id"], old)
        self.assertNotEqual(found["aa"]["id"], old)

    def test_a_renamed_file(self):
        h = self.host()
        h.worker("old", id=50)
        h.start()
        h.all_up()
        path = os.path.join(h.dir, "workers.d")
        shutil.move(path + "/old.conf", path + "/new.conf")
        self.reload(h)
        eventually(lambda: set(self.aliases(h)) == {"new"} and self.aliases(h)["new"]["state"] == "UP",
                   what="the renamed worker runs")
        self.assertEqual(self.aliases(h)["new"]["id"], 50)

    def test_removed_and_back(self):
        h = self.host()
        h.worker("web", id=50)
        h.start()
        h.all_up()
        with open(os.path.join(h.dir, "workers.d/web.conf"), encoding="utf-8") as f:
            text = f.read()
        h.remove("web")
        self.reload(h)
        eventually(lambda: not self.aliases(h), what="web gone")
        h.write("workers.d/web.conf", text)
        self.reload(h)
        eventually(lambda: self.aliases(h).get("web", {}).get("state") == "UP", what="web is back")

    def test_largest_id(self):
        h = self.host()
        h.write("workers.d/aa.conf", "[Service]\nExecStart=/bin/sleep infinity\n[Worker]\nId=9007199254740992\n")
        h.write("workers.d/bb.conf", "[Service]\nExecStart=/bin/sleep infinity\n")
        h.write("workers.d/cc.conf", "[Service]\nExecStart=/bin/sleep infinity\n[Worker]\nId=9223372036854775807\n")
        h.start()
        found = self.aliases(h)
        self.assertEqual(set(found), {"aa", "bb"})
        self.assertGreater(found["bb"]["id"], 0)


class Stuck(Case):
    def test_start_joins_a_failing_start(self):
        h = self.host()
        gate = h.gate()
        h.worker("web", gate.args + "--delay 30000 --exit 3", "Type=notify\nRestart=no")
        h.start()
        h.until("web", "STARTING")
        t, box = harness.background(h.http, "POST", "/agentd/v1/workers/web/start")
        eventually(lambda: b"\nagentd_calls 1\n" in h.http("GET", "/metrics").body, what="the call at agentd")
        gate.open()
        t.join(harness.DEADLINE)
        r = box[0]
        self.assertEqual(r.status, 500, r)
        again = h.http("POST", "/agentd/v1/workers/web/start")
        self.assertEqual(again.status, 500, again)
        self.assertGreater(h.record("web")["generation"], 1)

    def test_never_a_spin(self):
        h = self.host()
        h.write("workers.d/web.conf", "[Service]\nExecStart=/bin/false\nRestartSec=0\nStartLimitIntervalSec=0\n")
        h.start()
        eventually(lambda: h.record("web")["attempts"] >= 4, what="four attempts")
        self.assertEqual(h.until("web", "BACKOFF")["state"], "BACKOFF")

    def test_a_start_that_never_gets_a_process(self):
        h = self.host()
        h.write("workers.d/web.conf", "[Service]\nExecStart=/bin/sleep infinity\nUser=nobody-knows-her\nRestartSec=0\n"
                                      "StartLimitIntervalSec=0\n[Worker]\nId=9\n")
        h.start()
        r = h.verb(9, "restart")
        self.assertEqual(r.status, 500, r)
        self.assertIn("changing the user", r.message)
        self.assertIn("nobody-knows-her", r.message)
        self.assertEqual(h.process(9)["status"], "STOPPED")

    def test_reload_then_stop(self):
        h = self.host()
        h.worker("one")
        h.start()
        h.worker("two")
        os.kill(h.pid, signal.SIGHUP)
        h.stop()


class Folders(Case):
    def test_state_in_the_runtime_folder(self):
        h = self.host()
        h.worker("web")
        text = h.agentd_conf()
        state = [line for line in text.splitlines() if line.startswith("StateDirectory=")][0]
        run = [line for line in text.splitlines() if line.startswith("RuntimeDirectory=")][0]
        text = text.replace(state, run.replace("Runtime", "State"))
        h.write("agentd.conf", text)
        h.start()
        h.all_up()
        listen = [line for line in text.splitlines() if line.startswith("ListenStream=")][0]
        h.write("agentd.conf", text.replace(listen, listen + ".other"))
        r = h.run_agentd()
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertIn("pid %d" % h.pid, r.stderr)
