# SPDX-License-Identifier: Apache-2.0
"""Every example of the manual does what it says; one without a test fails."""
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import unittest

import harness
from harness import Case

PAGES = os.path.join(os.path.dirname(__file__), "../../man")
ESCAPES = {"\\(dq": '"', "\\e": "\\", "\\-": "-", "\\&": ""}


def plain(text):
    for escape, letter in ESCAPES.items():
        text = text.replace(escape, letter)
    return text


def examples(page):
    """Displays and lines of one page, in their order; what is quoted in passing is none."""
    with open(os.path.join(PAGES, page), encoding="utf-8") as f:
        found = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed|^\.Dl ([^\n]*\n)", f.read(), re.M | re.S)
    return [plain(a or b) for a, b in found]


class Examples(Case):
    def one(self, page, words):
        found = [x for x in examples(page) if words in x]
        self.assertEqual(len(found), 1, (page, words))
        return found[0]

    def ctl(self, h, line, code=0):
        words = shlex.split(line)
        self.assertIn(words.pop(0), "$#")
        self.assertEqual(words.pop(0), "agentctl")
        r = h.ctl(*words)
        self.assertEqual(r.returncode, code, r)
        return r

    def test_none_without_a_test(self):
        with open(__file__, encoding="utf-8") as f:
            text = f.read()
        for page in sorted(os.listdir(PAGES)):
            if not re.search(r"\.\d$", page):
                continue
            told = re.findall(r'self\.one\("%s", ("[^"]*"|\'[^\']*\')\)' % re.escape(page), text)
            for x in examples(page):
                self.assertEqual([w for w in told if w[1:-1] in x][1:], [], "two tests for one example")
                self.assertTrue([w for w in told if w[1:-1] in x], "%s: no test for: %s" % (page, x))

    def test_restarts(self):
        h = self.host()
        for alias in ("web", "web2", "web3", "db"):
            h.worker(alias)
        h.start()
        before = {a: w["pid"] for a, w in h.all_up().items()}
        self.ctl(h, self.one("agentctl.1", "--reason"))
        self.assertNotEqual(h.record("web")["pid"], before["web"])
        op = h.ok("GET", "/agentd/v1/operations")["contents"][0]["id"]
        self.assertEqual(h.ok("GET", "/agentd/v1/operations/" + op)["reason"], "new certificate")
        self.ctl(h, self.one("agentctl.1", "--max-unavailable").rstrip("\n") + " --yes")
        now = h.pids_of_all()
        self.assertEqual([a for a in now if now[a] == before[a]], ["db"])
        command, said = self.one("agentctl.1", "obagent service").splitlines()
        self.assertEqual(self.ctl(h, command).stdout, said + "\n")
        self.assertEqual(h.record("web")["state"], "DOWN")
        self.assertEqual(h.operation("web", "start").status, 200)
        now = h.pids_of_all()
        command, _, filter_ = self.one("agentctl.1", "jq").partition("|")
        told = self.ctl(h, command).stdout
        jq = subprocess.run(shlex.split(filter_), input=told, capture_output=True, text=True, check=True, timeout=harness.DEADLINE)
        self.assertEqual(jq.stdout, "%d\n" % now["web"])
        h.stop()

    def test_plans(self):
        lines = self.one("agentctl.1", "reload --plan").splitlines()
        h = self.host()
        ids = {a: h.worker(a) for a in ("web", "db")}
        h.start()
        h.all_up()
        h.worker("web", service="LimitNOFILE=512", id=ids["web"])
        h.worker("db", "--children 1", id=ids["db"])
        self.assertEqual(sorted(self.ctl(h, lines[0]).stdout.splitlines()), sorted(lines[1:]))
        h.worker("db", id=ids["db"])
        h.worker("web", "--children 1", "Nice=2", id=ids["web"])
        self.assertEqual(h.ok("GET", "/agentd/v1/reload"), json.loads(self.one("agentd-rpc.7", '"contents"')))
        h.stop()

    def test_import(self):
        """As it stands, but for where the files are."""
        h = self.host()
        os.mkdir(h.dir + "/supervisor")
        path = h.write("supervisor/supervisord.conf", "[supervisord]\n[program:web]\ncommand=%s --children 1\nstartsecs=0\n" % harness.WORKER)
        show, write, reload = [x.replace("/etc/supervisor/supervisord.conf", path).replace("/etc/agentd/workers.d", h.workers)
                             for x in self.one("agentctl.1", "agentctl import").splitlines()]
        h.start()
        self.assertIn("command=%s --children 1 -> ExecStart=" % harness.WORKER, self.ctl(h, show).stdout)
        self.assertEqual(os.listdir(h.workers), [])
        self.assertIn("%s/web.conf is written" % h.workers, self.ctl(h, write).stdout)
        self.ctl(h, reload)
        h.until("web", "UP")
        h.stop()

    def test_envelope(self):
        h = self.host()
        h.worker("web")
        h.start()
        h.all_up()
        want = json.loads(self.one("agentd-rpc.7", '"traceId"').replace("...", "{}"))
        got = h.http("GET", "/agentd/v1/workers/web").json
        self.assertEqual({k: type(v) for k, v in got.items()}, {k: type(v) for k, v in want.items()})
        self.assertEqual((got["status"], got["successful"], got["server"]), (200, True, h.socket))
        self.assertEqual(len(got["traceId"]), len(want["traceId"]))
        self.assertEqual(re.sub(r"\d", "0", got["timestamp"])[:23], re.sub(r"\d", "0", want["timestamp"])[:23])
        want = json.loads("{%s}" % self.one("agentd-rpc.7", '"error"'))
        got = h.http("GET", "/api/v2/compute/hosts/%d/agent/processes/999999" % harness.HOST_ID).json
        self.assertEqual(got["error"], want["error"])
        h.stop()

    def test_credentials(self):
        h = self.host()
        h.write("credentials", "", 0o600)
        h.start()
        add, told, reload = self.one("agentctl.1", "credential add").splitlines()
        command, _, key = add[2:].partition(" > ")
        words = shlex.split(command)[1:]
        r = h.ctl(*words, "--file", h.dir + "/credentials", check=True)
        self.assertTrue(key)
        name, secret = r.stdout.split()
        self.assertEqual(re.sub("[0-9a-f]{16}", name, told) + "\n", r.stderr)
        self.ctl(h, reload)
        for kind, who in (("basic", "joe"), ("bearer", "script"), ("cert", "CN=ocp")):
            h.ctl("credential", "add", kind, who, "HOST_VIEWER", *(["--generate"] if kind == "basic" else []), "--file", h.dir + "/credentials", check=True)
        with open(h.dir + "/credentials", encoding="ascii") as f:
            lines = {line.split()[0]: line.split() for line in f if line.strip() and line[0] != "#"}
        self.assertEqual(lines["aksk"][1:], [name, "HOST_MANAGER", secret])
        for form in self.one("agentd.conf.5", "bearer NAME").splitlines():
            words = form.split()
            self.assertEqual(len(lines[words[0]]), len(words), form)
            self.assertEqual(lines[words[0]][2], "HOST_MANAGER" if words[0] == "aksk" else "HOST_VIEWER")
        h.stop()

    def test_agentd_conf(self):
        h = self.host()
        h.write("agentd.conf", self.one("agentd.conf.5", "HostId=42") + "\n[Agent]\nWorkersDirectory=%s\n[Rpc]\nCredentials=%s\n"
                % (h.workers, h.write("credentials", "bearer a HOST_VIEWER %s\n" % ("0" * 64), 0o600)))
        r = h.run_agentd("--check-config")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        dump = h.run_agentd("--dump-config").stdout
        for line in ("HostId=42", "ListenStream=/run/agentd/agentd.sock", "ListenStream=192.0.2.7:62888"):
            self.assertIn(line + "\n", dump)

    def test_worker_file(self):
        """As it stands, but for where the shop is, whose it is, and a port that is free."""
        h = self.host()
        os.mkdir(h.dir + "/bin")
        os.mkdir(h.dir + "/log")
        shutil.copy(harness.WORKER, h.dir + "/bin/web")
        port = harness.free_port()
        who = pwd.getpwuid(os.geteuid()).pw_name
        text = self.one("agentd.worker.5", "/opt/shop/bin/web").replace("/opt/shop", h.dir).replace("8080", str(port))
        text = text.replace("User=shop", "User=" + who).replace("--port", "--listen")
        h.write("workers.d/web.conf", text)
        h.start()
        w = h.until("web", "UP")
        self.assertEqual((w["id"], w["ports"], w["user"]), (7, str(port), who))
        with open("/proc/%d/cmdline" % w["pid"], encoding="utf-8") as f:
            self.assertEqual(f.read().split("\0")[:3], [h.dir + "/bin/web", "--listen", str(port)])
        h.stop()


if __name__ == "__main__":
    unittest.main()
