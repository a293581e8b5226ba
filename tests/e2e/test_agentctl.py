# SPDX-License-Identifier: Apache-2.0
"""agentctl over agentd-rpc and a test double of agentd: what it prints and how it ends.

Environment: AGENTD_RPC, FAKE_AGENTD and AGENTCTL name the programs.
"""
import json
import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_rpc import Fake, sha512  # noqa: E402

CTL = os.path.abspath(os.environ.get("AGENTCTL", "build/bin/agentctl"))


class Case(unittest.TestCase):
    options = ("reply_deadline_ms=200",)

    def setUp(self):
        self.fake = Fake(*self.options, "credential=basic joe HOST_MANAGER " + sha512("secret"))
        self.addCleanup(self.fake.close)

    def run_ctl(self, *args, code=0, where=None, env=None):
        where = where or ["--socket", self.fake.path]
        r = subprocess.run([CTL, *where, *args], capture_output=True, text=True, timeout=30, check=False,
                           env={**os.environ, **(env or {})})
        self.assertEqual(r.returncode, code, r.stderr)
        self.assertEqual(r.stderr == "", code == 0, r.stderr)
        return r.stdout, r.stderr


class Verbs(Case):
    def test_status(self):
        out, _ = self.run_ctl("status")
        lines = out.splitlines()
        self.assertEqual(lines[0].split(), ["ALIAS", "ID", "STATE", "PID", "USER", "UPTIME", "SINCE", "CPU",
                                            "MEMORY", "RESTARTS", "PORTS", "REASON"])
        self.assertEqual(lines[1].split()[:5], ["web", "1", "UP", "812", "www"])
        self.assertEqual(len(lines), 6)
        self.assertNotIn("\033", out)
        out, err = self.run_ctl("status", "web", "nobody", code=1)
        self.assertEqual(len(out.splitlines()), 2)
        self.assertIn("nobody", err)

    def test_status_json(self):
        self.assertEqual(len(json.loads(self.run_ctl("-o", "json", "status")[0])["contents"]), 5)
        self.assertEqual(json.loads(self.run_ctl("-o", "json", "status", "web")[0])["alias"], "web")
        both = json.loads(self.run_ctl("-o", "json", "status", "web", "3")[0])
        self.assertEqual([w["alias"] for w in both], ["web", "down"])

    def test_changes(self):
        out, _ = self.run_ctl("restart", "web", "--reason", "a test")
        self.assertEqual(out.splitlines()[0], "web: restarted in 1.8 ms: pid 812 \u2192 845 (generation 2)")
        self.assertIn("killed: 812 813", out)
        self.fake.wait_for("call 3 1 [a test]")
        self.assertIn("web: stopped", self.run_ctl("stop", "web")[0])
        _, err = self.run_ctl("start", "broken", code=1)
        self.assertIn("exec: ENOENT /usr/bin/broken", err)
        _, err = self.run_ctl("restart", "slow", code=4)
        self.assertIn("op-1", err)
        _, err = self.run_ctl("restart", "slow", "broken", code=4)
        self.assertIn("not touched: broken", err)
        self.run_ctl("restart", "broken", "slow", code=1)
        self.assertEqual(len(json.loads(self.run_ctl("-o", "json", "restart", "web", "down")[0])), 2)

    def test_reload_and_help(self):
        self.assertEqual(self.run_ctl("reload")[0].splitlines(), [
            "ALIAS  ACTION   KEY   COST     DETAIL",
            "web    restart  User  restart  changed",
            "                Nice  live",
            "new    add      -     -"])
        out, err = self.run_ctl("reload", "--plan", code=1)
        self.assertEqual(out.splitlines()[1:], [
            "(agentd.conf)  update  HostId        live               in force",
            "                       ListenStream  restart of agentd",
            "bad            keep    -             -                  /w/bad.conf:3:1: wrong"])
        self.assertEqual(err, "agentctl: /w/bad.conf:3:1: wrong\n")
        self.assertEqual(len(json.loads(self.run_ctl("-o", "json", "reload", "--plan", code=1)[0])["contents"]), 2)
        self.assertIn("restart", self.run_ctl("help")[0])
        self.assertIn("/compute/hosts/{host}/agent/processes/{id}/restart", self.run_ctl("help", "calls")[0])

    def test_logs(self):
        self.assertEqual(self.run_ctl("logs", "web")[0], "line one\nline two\n")
        self.assertEqual(self.run_ctl("logs", "web", "app.log", "-n", "1")[0], "line two\n")
        self.assertIn("denied: Permission denied", self.run_ctl("logs", "web", "denied", code=1)[1])
        self.run_ctl("logs", "nobody", code=1)

    def test_follow(self):
        p = subprocess.Popen([CTL, "--socket", self.fake.path, "logs", "web", "app.log", "-f"],
                             stdout=subprocess.PIPE, text=True)
        self.assertEqual([p.stdout.readline() for _ in range(4)], ["line one\n", "line two\n"] * 2)
        # the cursor was at 100 and 18 bytes were sent
        self.fake.wait_for("call 6 1 [] [uid:%d] 118 0 1 [app.log]" % os.getuid())
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(20), 0)
        p.stdout.close()

    def test_usage(self):
        for args in ([], ["stat"], ["restart"], ["logs"], ["-o", "xml", "status"], ["--nope"],
                     ["logs", "web", "-n", "x"]):
            self.run_ctl(*args, code=2)

    def test_unasked(self):
        _, err = self.run_ctl("status", code=3, where=["--socket", "/nonexistent/socket"])
        self.assertIn("Is agentd running?", err)
        self.run_ctl("status", code=3, where=["--url", "http://127.0.0.1:1"])

    def test_password(self):
        where = ["--url", "http://127.0.0.1:%d" % self.fake.port]
        self.run_ctl("status", code=1, where=where)
        where += ["--user", "joe"]
        self.assertIn("web", self.run_ctl("status", where=where, env={"AGENTCTL_PASSWORD": "secret"})[0])
        self.run_ctl("status", code=1, where=where, env={"AGENTCTL_PASSWORD": "wrong"})


if __name__ == "__main__":
    unittest.main()
