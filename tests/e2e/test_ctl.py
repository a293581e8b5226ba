# SPDX-License-Identifier: Apache-2.0
"""agentctl on a real agentd: what it does is done, and how it ends says so."""
import json
import os
import select
import subprocess

import harness
from harness import Case, eventually


class Ctl(Case):
    def setUp(self):
        super().setUp()
        self.h = h = self.host()
        self.port = harness.free_port()
        h.worker("web", "--listen %d --env AGENTD_GENERATION" % self.port, section="ReadyCheck=tcp:%d" % self.port)
        h.worker("fixed", section="Operable=no")
        h.worker("dies", "--exit 3", "Type=notify\nRestart=no")
        h.start()
        h.until("web", "UP")
        h.until("fixed", "UP")

    def ctl(self, *args, code=0):
        r = self.h.ctl(*args)
        self.assertEqual(r.returncode, code, (args, r.stdout, r.stderr))
        return r

    def test_status(self):
        # what is sampled may be as old as SampleMaxAgeMs= says
        eventually(lambda: str(self.port) in self.ctl("status", "web").stdout, 3)
        lines = {line.split()[0]: line.split() for line in self.ctl("status").stdout.splitlines()[1:]}
        self.assertEqual(set(lines), {"web", "fixed", "dies"})
        web = self.h.record("web")
        self.assertIn(str(web["pid"]), lines["web"])
        self.assertIn(str(self.port), lines["web"])
        rows = json.loads(self.ctl("-o", "json", "status").stdout)["contents"]
        self.assertEqual({r["alias"]: r["pid"] for r in rows}["web"], web["pid"])
        self.h.stop()

    def test_changes(self):
        h = self.h
        pid = h.record("web")["pid"]
        self.ctl("restart", "web")
        now = h.record("web")
        self.assertNotEqual(now["pid"], pid)
        self.ctl("stop", "web")
        self.assertEqual((h.record("web")["state"], h.processes("web")), ("DOWN", {}))
        self.ctl("stop", "web")
        op = json.loads(self.ctl("-o", "json", "start", "web").stdout)
        op = op[0] if isinstance(op, list) else op
        self.assertEqual(op["after"]["pid"], h.record("web")["pid"])
        h.stop()

    def test_ends(self):
        h = self.h
        r = self.ctl("restart", "dies", code=1)
        self.assertIn("status 3", r.stderr)
        self.assertIn("Operable", self.ctl("restart", "fixed", code=1).stderr)
        self.ctl("restart", "nobody", code=1)
        self.ctl("no-such-verb", code=2)
        self.ctl(code=2)
        self.ctl("restart", code=2)
        h.stop()
        self.ctl("status", code=3)

    def test_reload(self):
        h = self.h
        h.worker("new")
        self.assertIn("new", self.ctl("reload").stdout)
        h.until("new", "UP")
        h.worker("wrong", service="Wrong=1")
        self.assertRegex(self.ctl("reload", code=1).stderr, r"wrong\.conf:\d+:\d+")
        h.stop()

    def test_logs(self):
        h = self.h
        self.assertEqual(self.ctl("logs", "web").stdout, "AGENTD_GENERATION=1\n")
        p = subprocess.Popen([harness.STAGED + "/agentctl", "--socket", h.socket, "logs", "-f", "web"], stdout=subprocess.PIPE)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)

        def line():
            self.assertTrue(select.select([p.stdout], [], [], harness.DEADLINE)[0], "no line")
            return os.read(p.stdout.fileno(), 4096)
        self.assertEqual(line(), b"AGENTD_GENERATION=1\n")
        h.operation("web", "restart")
        self.assertEqual(line(), b"AGENTD_GENERATION=2\n")
        p.kill()
        eventually(lambda: p.poll() is not None)
        h.stop()
