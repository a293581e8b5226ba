# SPDX-License-Identifier: Apache-2.0
"""agentctl status and top: on a terminal in place, which is as before afterwards; in a pipe round by round."""
import contextlib
import fcntl
import http.server
import json
import os
import re
import select
import signal
import struct
import subprocess
import termios
import types

import harness
from harness import Case

OPEN, CLOSE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"


class Terminal:
    """agentctl on a pseudo-terminal of 80 columns and 24 rows."""

    def __init__(self, case, h, *args, env=None, columns=80):
        self.fd, tty = os.openpty()
        case.addCleanup(os.close, self.fd)
        case.addCleanup(os.close, tty)
        self.tty = tty
        fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.before = termios.tcgetattr(tty)
        e = {k: v for k, v in h.environment().items() if k != "NO_COLOR"}
        self.p = subprocess.Popen([harness.STAGED + "/agentctl", "--socket", h.socket, *args], stdin=tty, stdout=tty, stderr=tty,
                                  env={**e, **(env or {})}, start_new_session=True)
        case.addCleanup(self.p.wait)
        case.addCleanup(self.p.kill)
        self.seen = ""

    def more(self, seconds=harness.DEADLINE):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        self.seen += os.read(self.fd, 65536).decode()
        return True

    def until(self, text, times=1):
        while self.seen.count(text) < times:
            assert self.more(), self.seen
        return self.seen

    def end(self):
        """Its exit status, after all it wrote."""
        code = self.p.wait(harness.DEADLINE)
        with contextlib.suppress(OSError):
            while self.more(0):
                pass
        return code


class Top(Case):
    def setUp(self):
        super().setUp()
        self.h = h = self.host(agent="SampleMaxAgeMs=100")
        h.worker("idle")
        h.worker("with-a-name-that-is-as-long-as-it-may-be-and-would-fill-a-line")
        h.worker("spins", "--spin")
        h.start()
        h.all_up()

    def test_terminal(self):
        h = self.h
        for end in ("key", "signal"):
            t = Terminal(self, h, "top", "-d", "1")
            t.until("\033[J", 2)
            self.assertTrue(t.seen.startswith(OPEN), t.seen[:60])
            self.assertNotEqual(termios.tcgetattr(t.tty), t.before)
            os.write(t.fd, b"xq") if end == "key" else t.p.send_signal(signal.SIGTERM)
            self.assertEqual(t.end(), 0)
            self.assertTrue(t.seen.endswith(CLOSE), t.seen[-60:])
            self.assertEqual(termios.tcgetattr(t.tty), t.before)
            rounds = t.seen[len(OPEN):-len(CLOSE)].split("\033[H")[1:]
            lines = [re.sub(r"\033\[\d*m", "", x) for x in rounds[1].replace("\r", "").split("\033[K\n")]
            self.assertEqual(lines[1].split(), ["ALIAS", "STATE", "PID", "CPU", "MEMORY", "RESTARTS", "REASON"])
            self.assertEqual(lines[-1], "\033[J")
            self.assertEqual(len(lines), 6)
            self.assertTrue(all(len(x) <= 80 for x in lines), lines)
            self.assertRegex(lines[0], "3 workers, 3 UP")
            # the busiest first, with its share
            self.assertRegex(lines[2], r"^spins +UP +\d+ +\d+\.\d% ")
            self.assertGreater(float(lines[2].split()[3].rstrip("%")), 5)
            self.assertIn("\033[32m", t.seen)

    def test_pipe(self):
        r = self.h.ctl("top", "-n", "2", "-d", "1")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertNotIn("\033", r.stdout)
        first, second = [x.splitlines() for x in r.stdout.split("\n\n")]
        self.assertEqual((len(first), len(second)), (4, 4))
        self.assertRegex(second[1], r"^spins .* \d+\.\d%")
        r = self.h.ctl("-o", "json", "status", "--watch", "-n", "2", "-d", "1", "idle")
        self.assertEqual([json.loads(x)["alias"] for x in r.stdout.splitlines()], ["idle"] * 2)
        for bad in (("top", "idle"), ("top", "-d", "0"), ("top", "--sort", "size"), ("status", "-d", "1")):
            self.assertEqual(self.h.ctl(*bad).returncode, 2, bad)
        self.assertEqual(self.h.ctl("status", "--watch", "nobody").returncode, 1)

    def test_status(self):
        h = self.h
        rows = [x.split() for x in h.ctl("status").stdout.splitlines()]
        self.assertEqual(rows[0], ["ALIAS", "ID", "STATE", "PID", "USER", "UPTIME", "SINCE", "CPU", "MEMORY", "RESTARTS", "PORTS",
                                   "REASON"])
        spins = next(r for r in rows if r[0] == "spins")
        self.assertRegex(spins[6], r"^\d\d:\d\d:\d\d$")
        self.assertRegex(spins[7], r"^\d+\.\d\ds$")
        self.assertRegex(spins[8], r"^\d+(\.\d)?[KM]$")
        self.assertEqual(h.ctl("status", "--sort", "cpu").stdout.splitlines()[1].split()[0], "spins")
        for args, env, color in (((), {}, True), ((), {"NO_COLOR": "1"}, False), (("--no-color",), {}, False)):
            t = Terminal(self, h, *args, "status", env=env)
            self.assertEqual(t.end(), 0)
            self.assertEqual("\033[32mUP\033[0m" in t.seen, color, t.seen)
            self.assertEqual("\033" in t.seen, color)
        h.stop()
        self.assertEqual(h.ctl("top").returncode, 3)


class Plain(http.server.BaseHTTPRequestHandler):
    BODY = "a\033[31m\tb\u009b31m\u2192\u00e9\x07\u00a0c\n"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.BODY.encode())))
        self.end_headers()
        self.wfile.write(self.BODY.encode())


class Words(Case):
    def test_plain_text(self):
        """What agentd sends as plain text is left as it is, but a terminal is not driven by it."""
        url = self.serve(Plain)
        out = subprocess.run([harness.STAGED + "/agentctl", "--url", url, "metrics"], capture_output=True, check=True).stdout
        self.assertEqual(out.decode(), Plain.BODY)
        t = Terminal(self, types.SimpleNamespace(socket="/", environment=dict), "--url", url, "metrics")
        self.assertEqual(t.end(), 0)
        self.assertRegex(t.seen, "^a\\[31m[\t ]+b31m\u2192\u00e9\u00a0c\r\n$")
