# SPDX-License-Identifier: Apache-2.0
"""agentctl setup: HostId= is written beside the configuration, whole or not at all, and taken over."""
import json
import os
import stat

import harness
from harness import Case


class Setup(Case):
    def setUp(self):
        super().setUp()
        self.h = h = self.host()
        self.conf = h.dir + "/agentd.conf"
        self.file = self.conf + ".d/50-setup.conf"
        with open(self.conf, encoding="utf-8") as f:
            text = f.read()
        self.assertIn("HostId=%d\n" % harness.HOST_ID, text)
        h.write("agentd.conf", text.replace("HostId=%d\n" % harness.HOST_ID, ""))
        h.worker("web")

    def setup(self, *args, code=0):
        r = self.h.ctl("setup", "--config", self.conf, *args)
        self.assertEqual(r.returncode, code, (args, r.stdout, r.stderr))
        self.assertEqual(r.stderr == "", code == 0, r.stderr)
        return r.stdout if code == 0 else r.stderr

    def text(self):
        with open(self.file, encoding="utf-8") as f:
            return f.read()

    def drop_in(self, name, text):
        os.makedirs(self.conf + ".d", 0o755, exist_ok=True)
        return self.h.write("agentd.conf.d/" + name, text)

    def test_in_force(self):
        h = self.h
        h.start()
        pid = h.until("web", "UP")["pid"]
        self.assertEqual(h.http("GET", "/compute/hosts/77/agent").status, 503)
        before = os.umask(0o077)
        try:
            out = self.setup("77")
        finally:
            os.umask(before)
        self.assertIn("HostId=77: %s is in force" % self.file, out)
        self.assertEqual(h.ok("GET", "/compute/hosts/77/agent")["hostId"], 77)
        self.assertEqual([stat.S_IMODE(os.stat(p).st_mode) for p in (self.file, os.path.dirname(self.file))], [0o644, 0o755])
        self.assertEqual(os.listdir(os.path.dirname(self.file)), ["50-setup.conf"])
        said = json.loads(self.setup("-o", "json", "78"))
        self.assertEqual(said, {"hostId": 78, "file": self.file, "running": True})
        self.assertEqual(h.ok("GET", "/compute/hosts/78/agent")["hostId"], 78)
        self.assertEqual(h.record("web")["pid"], pid)
        # what breaks the whole configuration is told, and what was in force stays so
        self.drop_in("40-bad.conf", "[Agent]\nNonsense=1\n")
        self.assertRegex(self.setup("79", code=1), r"refused(.|\n)*40-bad\.conf:2:1")
        self.assertEqual(h.ok("GET", "/compute/hosts/78/agent")["hostId"], 78)
        h.stop()

    def test_another_file(self):
        h = self.h
        h.start()
        self.drop_in("40-earlier.conf", "[Agent]\nHostId=5\n")
        self.drop_in("60-of-rpc.conf", "[Rpc]\nMaxHeaders=50\n")
        self.setup("77")
        self.drop_in("60-later.conf", "[Agent]\n# no\n  HostId = 6\n")
        self.assertIn("60-later.conf:3 says HostId=6", self.setup("78", code=1))
        self.assertIn("HostId=77\n", self.text())
        self.drop_in("60-later.conf", "[Agent]\nHostId=78\n")
        self.setup("78")
        h.stop()
        self.setup("78")

    def test_without_agentd(self):
        h = self.h
        for bad in ("0", "-1", "x", "1x", "", str(2 ** 53 + 1)):
            self.assertIn("positive number", self.setup("--", bad, code=2))
        self.setup(code=2)
        self.assertFalse(os.path.exists(self.conf + ".d"))
        self.assertIn("does not run", self.setup("77"))
        h.start()
        self.assertEqual(h.ok("GET", "/compute/hosts/77/agent")["hostId"], 77)
        self.assertIn("No such file", h.ctl("setup", "--config", h.dir + "/none.conf", "1").stderr)
        # an agentd that reads another file
        h.write("other.conf", "")
        r = h.ctl("setup", "--config", h.dir + "/other.conf", "5")
        self.assertEqual(r.returncode, 1)
        self.assertIn("has HostId 77", r.stderr)
        h.stop()
