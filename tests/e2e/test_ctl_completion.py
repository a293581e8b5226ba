# SPDX-License-Identifier: Apache-2.0
"""The completion of shells: as it is built, and as bash runs it; of zsh and fish where they are installed."""
import fcntl
import http.server
import json
import os
import re
import select
import shutil
import subprocess
import termios
import unittest

import harness
from harness import Case

BUILT = harness.BUILD + "/completion/"
CTL = harness.STAGED + "/agentctl"
# COMP_WORDS as readline cuts it: the last word is what is behind the last @, : or =
BASH = r'''. "$1"; complete -p agentctl >/dev/null || exit 9
PATH=$3:$PATH COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=(agentctl "$4") COMP_CWORD=1
_agentctl
printf '%s\n' "${COMPREPLY[@]}"'''


class Hostile(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        body = json.dumps({"data": {"contents": [{"alias": a} for a in ("good", "$(touch bad)", "a b", "`x`", "x\ny", "")]}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Completion(Case):
    def ctl(self, *args, code=0):
        r = subprocess.run([CTL, *args], capture_output=True, text=True, timeout=harness.DEADLINE, check=False)
        self.assertEqual(r.returncode, code, (args, r.stderr))
        return r.stdout

    def bash(self, line, part=None):
        part = re.split(r"[ @:=]", line)[-1] if part is None else part
        r = subprocess.run(["bash", "--norc", "-c", BASH, "bash", BUILT + "agentctl", line, harness.STAGED, part], capture_output=True,
                           text=True, timeout=harness.DEADLINE, check=True, stdin=subprocess.DEVNULL)
        self.assertEqual(r.stderr, "")
        return r.stdout.split()

    def test_bash(self):
        h = self.host()
        for alias in ("web", "web2", "db", "w@1"):
            h.worker(alias)
        h.start()
        h.all_up()
        where = "agentctl --socket %s " % h.socket
        self.assertEqual(self.bash(where + "restart we"), ["web", "web2"])
        self.assertEqual(self.bash(where + "restart db "), ["web", "web2", "db", "w@1"])
        self.assertEqual(self.bash(where + "restart w@"), ["1"])
        self.assertEqual(self.bash(where + "restart w@", "@"), ["1"])
        self.assertEqual(self.bash("agentctl --socket=%s restart we" % h.socket), ["web", "web2"])
        self.assertEqual(self.bash(where + "signal U"), ["USR1", "USR2"])
        self.assertEqual(self.bash(where + "--reason restart sta"), ["status", "start"])
        h.stop()
        self.assertEqual(self.bash(where + "restart we"), [])

    def test_words(self):
        verbs = {line.split()[0] for line in self.ctl("help").split("\n\n")[1].splitlines() if re.match("  [a-z]", line)}
        self.assertEqual(set(self.bash("agentctl ")), verbs)
        self.assertGreater(len(verbs), 25)
        self.assertEqual(self.bash("agentctl openap"), ["openapi"])
        self.assertEqual(self.bash("agentctl restart --m"), ["--match", "--max-unavailable"])
        self.assertEqual(self.bash("agentctl why --m"), [])
        self.assertEqual(self.bash("agentctl why --so"), ["--socket"])
        self.assertEqual(self.bash("agentctl top --sort "), ["cpu", "memory", "id"])
        self.assertEqual(self.bash("agentctl -o j"), ["json"])
        self.assertEqual(self.bash("agentctl --wait "), [])
        self.assertEqual(self.bash("agentctl --config /etc/hostn"), ["/etc/hostname"])
        self.assertEqual(self.bash("agentctl help restar"), ["restart"])

    def test_hostile_names(self):
        """Names that a shell would take for more than names are no candidates."""
        url = self.serve(Hostile)
        self.assertEqual(self.ctl("--url", url, "completion", "aliases"), "good\n")
        self.assertEqual(self.bash("agentctl --url %s stop " % url), ["good"])
        # nobody is asked for a password while a word is completed, though there is a terminal
        fd, tty = os.openpty()
        self.addCleanup(os.close, fd)
        self.addCleanup(os.close, tty)
        p = subprocess.Popen([CTL, "--url", url, "--user", "joe", "completion", "aliases"], stdin=tty, stdout=tty, stderr=tty,
                             start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.addCleanup(p.kill)
        self.assertEqual(p.wait(10), 3)
        self.assertEqual(select.select([fd], [], [], 0)[0], [], "nothing is said")

    def test_same(self):
        for name, shell in (("agentctl", "bash"), ("_agentctl", "zsh"), ("agentctl.fish", "fish")):
            with open(BUILT + name, encoding="utf-8") as f:
                self.assertEqual(f.read(), self.ctl("completion", shell))
        self.ctl("completion", "csh", code=2)

    def test_manual(self):
        """Each verb and each option stands in the manual page."""
        with open(os.path.join(os.path.dirname(__file__), "../../man/agentctl.1"), encoding="utf-8") as f:
            page = re.sub(r'(?ms)^\.\\" table .*?^\.\\" end of table', "", f.read())  # each has words of its own
        told = self.ctl("help")
        verbs = re.findall(r"^  ([a-z]+)", told.split("\n\n")[1], re.M)
        options = re.findall(r"^ .{5}--([a-z-]+)", told, re.M)
        self.assertGreater(len(options), 25)
        self.assertEqual([v for v in verbs if not re.search(r"^\.It Cm %s\b" % v, page, re.M) and v != "version"], [])
        self.assertEqual([o for o in options if "Fl -%s" % o not in page and o not in ("help", "version")], [])

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh(self):
        subprocess.run(["zsh", "-f", "-n", BUILT + "_agentctl"], check=True, timeout=harness.DEADLINE)

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish(self):
        script = "source %sagentctl.fish; complete -C 'agentctl restart --ma'" % BUILT
        r = subprocess.run(["fish", "-N", "-c", script], capture_output=True, text=True, check=True, timeout=harness.DEADLINE)
        self.assertEqual([x.split("\t")[0] for x in r.stdout.splitlines()], ["--match", "--max-unavailable"])
