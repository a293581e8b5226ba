# SPDX-License-Identifier: Apache-2.0
"""agentd-rpc over a test double of agentd: every call, the envelope, roles, hostile bytes, streams, the end.

Environment: AGENTD_RPC and FAKE_AGENTD name the two programs. Needs no root; what does is skipped.
"""
import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import eventually

RPC = os.path.abspath(os.environ.get("AGENTD_RPC", "build/bin/agentd-rpc"))
FAKE = os.path.abspath(os.environ.get("FAKE_AGENTD", "build/tests/lib/fake_agentd"))
TIMEOUT = 20
with open(RPC, "rb") as program:
    SANITIZED = b"__asan_init" in program.read()
HOST = b"Host: h\r\n"
PROCESS_FIELDS = ["id", "hostId", "alias", "pid", "user", "startCommand", "ports", "elapsedTime", "lastActiveTime",
                  "status", "operable", "logFilePattern", "createTime", "updateTime"]
AGENT_FIELDS = ["id", "version", "installHome", "logHome", "lastAvailableTime", "hostId", "hostInnerIpAddress",
                "status", "processes", "createTime", "updateTime"]
SECOND = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$"
MILLI = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$"
# crypt(3) of "secret", SHA-512 with the fewest rounds
HASH = "$6$rounds=1000$saltsalt$"


def sha512(password):
    import ctypes
    lib = ctypes.CDLL("libcrypt.so.1")
    lib.crypt.restype = ctypes.c_char_p
    return lib.crypt(password.encode(), HASH.encode()).decode()


class Fake:
    def __init__(self, *options):
        self.dir = tempfile.mkdtemp()
        os.chmod(self.dir, 0o755)
        self.path = self.dir + "/agentd.sock"
        self.proc = subprocess.Popen([FAKE, RPC, self.dir, *options], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True, bufsize=1)
        self.lines = []
        self.more = threading.Condition()
        self.ended = False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        ready = self.wait_for("ready ").split()
        self.port, self.pid = int(ready[1]), int(ready[2])

    def read(self):
        for line in self.proc.stdout:
            with self.more:
                self.lines.append(line.rstrip("\n"))
                self.more.notify_all()
        with self.more:
            self.ended = True
            self.more.notify_all()

    def wait_for(self, start, times=1):
        with self.more:
            def found():
                return [x for x in self.lines if x.startswith(start)]
            ok = self.more.wait_for(lambda: len(found()) >= times or self.ended, TIMEOUT)
            if not ok or len(found()) < times:
                raise AssertionError("no line %r in %r" % (start, self.lines))
            return found()[times - 1]

    def count(self, start):
        with self.more:
            return len([x for x in self.lines if x.startswith(start)])

    def say(self, line):
        before = self.count("did " + line)
        self.proc.stdin.write(line + "\n")
        self.proc.stdin.flush()
        self.wait_for("did " + line, before + 1)

    def close(self):
        try:
            self.proc.stdin.close()
        except BrokenPipeError:
            pass
        self.proc.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        self.proc.stdout.close()
        if self.proc.stdin and not self.proc.stdin.closed:
            self.proc.stdin.close()
        shutil.rmtree(self.dir)


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """One connection; raw bytes out, parsed replies in."""

    def __init__(self, fake, tcp=False):
        self.s = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self.s.settimeout(TIMEOUT)
        self.s.connect(("127.0.0.1", fake.port) if tcp else fake.path)
        self.buf = b""

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.s.close()

    def send(self, raw):
        self.s.sendall(raw)

    def fill(self):
        try:
            more = self.s.recv(65536)
        except ConnectionResetError:
            more = b""
        self.buf += more
        return bool(more)

    def until(self, mark):
        while mark not in self.buf:
            if not self.fill():
                return None
        head, self.buf = self.buf.split(mark, 1)
        return head

    def exactly(self, n):
        while len(self.buf) < n:
            if not self.fill():
                raise AssertionError("cut off: %r" % self.buf)
        part, self.buf = self.buf[:n], self.buf[n:]
        return part

    def chunks(self):
        parts = []
        while True:
            size = int(self.until(b"\r\n"), 16)
            part = self.exactly(size + 2)[:-2]
            if not size:
                return b"".join(parts)
            parts.append(part)

    def reply(self, head_only=False):
        head = self.until(b"\r\n\r\n")
        if head is None:
            return None
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            assert name.lower() not in headers, "twice: " + name
            headers[name.lower()] = value
        status = int(lines[0].split(" ")[1])
        if head_only or status in (100, 204):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self.chunks()
        else:
            body = self.exactly(int(headers["content-length"]))
        return Reply(status, headers, body)

    def ask(self, method, path, headers=b"", body=b""):
        length = b"Content-Length: %d\r\n" % len(body) if body or method == "POST" else b""
        self.send(b"%s %s HTTP/1.1\r\n" % (method.encode(), path.encode()) + HOST + length + headers + b"\r\n" + body)
        return self.reply(method == "HEAD")

    def closed(self):
        """True when the other side has closed; whatever still comes is in buf."""
        while self.fill():
            pass
        return True


class Case(unittest.TestCase):
    options = ()

    def setUp(self):
        self.fake = Fake(*self.options)
        self.addCleanup(self.fake.close)

    def client(self, tcp=False):
        c = Client(self.fake, tcp)
        self.addCleanup(c.s.close)
        return c

    def ask(self, *args, **kw):
        with Client(self.fake) as c:
            return c.ask(*args, **kw)

    def check_envelope(self, reply, status, good):
        self.assertEqual(reply.status, status, reply.body)
        self.assertEqual(reply.headers["content-type"], "application/json")
        doc = reply.json
        first = "data" if good else "error"
        self.assertEqual(list(doc), [first, "duration", "server", "status", "successful", "timestamp", "traceId"])
        self.assertIs(doc["successful"], good)
        self.assertEqual(doc["status"], status)
        self.assertIsInstance(doc["duration"], int)
        self.assertRegex(doc["timestamp"], MILLI)
        self.assertRegex(doc["traceId"], r"^[0-9a-f]{16}$")
        if not good:
            self.assertEqual(list(doc["error"]), ["code", "message", "subErrors"])
            self.assertIsInstance(doc["error"]["code"], int)
            self.assertTrue(doc["error"]["message"])
        return doc[first]

    def data(self, *args, status=200, **kw):
        return self.check_envelope(self.ask(*args, **kw), status, True)

    def error(self, *args, status, code=None, **kw):
        error = self.check_envelope(self.ask(*args, **kw), status, False)
        if code:
            self.assertEqual(error["code"], code)
        return error["message"]


class Calls(Case):
    def test_process(self):
        for prefix in ("", "/api/v2"):
            p = self.data("GET", prefix + "/compute/hosts/20/agent/processes/1")
            self.assertEqual(list(p), PROCESS_FIELDS)
            self.assertEqual((p["id"], p["hostId"], p["alias"], p["pid"], p["ports"], p["status"], p["operable"]),
                             (1, 20, "web", 812, "80,443", "STARTED", True))
            self.assertIn(p["elapsedTime"], (5, 6))
            self.assertRegex(p["lastActiveTime"], MILLI)
            self.assertRegex(p["createTime"], SECOND)
            self.assertRegex(p["updateTime"], SECOND)
        p = self.data("GET", "/compute/hosts/20/agent/processes/3")
        self.assertEqual((p["pid"], p["elapsedTime"], p["ports"], p["status"]), (0, 0, "", "STOPPED"))
        self.assertEqual(self.fake.count("call 4"), 0)

    def test_list_and_pages(self):
        d = self.data("GET", "/compute/hosts/20/agent/processes")
        self.assertEqual(list(d), ["contents", "page"])
        self.assertEqual([p["id"] for p in d["contents"]], [1, 2, 3, 4, 5])
        self.assertEqual(d["page"], {"totalElements": 5, "totalPages": 1, "number": 1, "size": 20})
        d = self.data("GET", "/compute/hosts/20/agent/processes?size=2&page=3")
        self.assertEqual([p["id"] for p in d["contents"]], [5])
        self.assertEqual(d["page"], {"totalElements": 5, "totalPages": 3, "number": 3, "size": 2})
        self.assertEqual(self.data("GET", "/compute/hosts/20/agent/processes?page=9")["contents"], [])
        for bad in ("page=0", "page=x", "page=-1", "size=0", "size=1001", "size=", "page=1&page=2", "page=1.5"):
            self.error("GET", "/compute/hosts/20/agent/processes?" + bad, status=400, code=1400)

    def test_agent(self):
        d = self.data("GET", "/compute/hosts/20/agent")
        self.assertEqual(list(d), AGENT_FIELDS)
        self.assertEqual([list(p) for p in d["processes"]], [PROCESS_FIELDS] * 5)
        self.assertEqual(d["status"], "STARTED")

    def test_not_there(self):
        self.error("GET", "/compute/hosts/21/agent", status=404, code=1404)
        self.error("GET", "/compute/hosts/x/agent", status=404, code=1404)
        self.error("GET", "/compute/hosts/20/agent/processes/99", status=404, code=1405)
        self.error("GET", "/compute/hosts/20/agent/processes/99999999999999999999", status=404, code=1405)
        self.error("GET", "/compute/hosts/20/agent/processes/x", status=400)
        self.error("GET", "/nothing", status=404, code=1406)
        self.error("GET", "/agentd/v1/workers/nobody", status=404, code=1405)
        self.error("GET", "/agentd/v1/operations/op-9", status=404, code=1408)

    def test_changes(self):
        c = self.client()
        r = c.ask("POST", "/compute/hosts/20/agent/processes/1/restart", b"Agentd-Reason: because\r\n")
        p = self.check_envelope(r, 200, True)
        self.assertEqual((list(p), p["pid"]), (PROCESS_FIELDS, 845))
        self.assertEqual(r.headers["agentd-operation"], "op-1")
        self.fake.wait_for("call 3 1 [because] [uid:%d]" % os.getuid())
        p = self.check_envelope(c.ask("POST", "/compute/hosts/20/agent/processes/1/stop"), 200, True)
        self.assertEqual((p["status"], p["pid"]), ("STOPPED", 0))
        p = self.check_envelope(c.ask("POST", "/compute/hosts/20/agent/processes/3/start"), 200, True)
        self.assertEqual(p["status"], "STARTED")
        op = self.check_envelope(c.ask("POST", "/agentd/v1/workers/web/restart"), 200, True)
        self.assertEqual(op["phases"][0], {"name": "stop", "ms": 1.234})
        self.assertEqual((op["killed"], op["worker"]["alias"], op["before"]["pid"]), ([812, 813], "web", 812))
        e = self.check_envelope(c.ask("POST", "/agentd/v1/workers/broken/start"), 500, False)
        self.assertEqual((e["code"], e["message"]), (1501, "exec: ENOENT /usr/bin/broken"))
        e = self.check_envelope(c.ask("POST", "/compute/hosts/20/agent/processes/5/stop"), 409, False)
        self.assertEqual(e["code"], 1450)

    def test_worker(self):
        for name in ("web", "1"):
            r = self.ask("GET", "/agentd/v1/workers/" + name)
            w = self.check_envelope(r, 200, True)
            self.assertEqual(r.headers["etag"], '"1"')
            self.assertEqual((w["alias"], w["state"], w["stale"], w["nextRetryAt"], w["lastExit"]),
                             ("web", "UP", ["definition"], None, None))
            self.assertEqual(w["description"], 'a "quoted" \u20ac thing')
        self.assertEqual(len(self.data("GET", "/agentd/v1/workers")["contents"]), 5)
        self.fake.say("forget 5")
        self.assertEqual(len(self.data("GET", "/agentd/v1/workers")["contents"]), 4)
        self.assertEqual(self.data("GET", "/agentd/v1/operations/op-1")["result"], "done")
        rows = self.data("POST", "/agentd/v1/reload")["contents"]
        self.assertEqual(rows[0]["keys"], [{"key": "User", "cost": "restart"}, {"key": "Nice", "cost": "live"}])
        self.assertEqual(rows[1], {"alias": "new", "action": "add", "detail": "", "keys": []})
        plan = self.data("GET", "/agentd/v1/reload")  # its rows come in two frames
        self.assertEqual([r["alias"] for r in plan["contents"]], ["", "bad"])
        self.assertEqual(plan["contents"][0]["keys"][1], {"key": "ListenStream", "cost": "restart of agentd"})
        self.assertEqual(plan["errors"], ["/w/bad.conf:3:1: wrong"])

    def test_probes_and_methods(self):
        self.assertEqual(self.ask("GET", "/healthz").body, b"ok\n")
        self.assertEqual(self.ask("GET", "/readyz").status, 200)
        c = self.client()
        r = c.ask("HEAD", "/compute/hosts/20/agent/processes/1")
        g = c.ask("GET", "/compute/hosts/20/agent/processes/1")
        self.assertEqual((r.status, r.headers["content-length"], r.headers["content-type"]),
                         (200, g.headers["content-length"], "application/json"))
        r = c.ask("OPTIONS", "/agentd/v1/reload")
        self.assertEqual((r.status, r.headers["allow"], r.body), (204, "GET, HEAD, POST, OPTIONS", b""))
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            r = c.ask(method, "/agentd/v1/workers")
            self.check_envelope(r, 405, False)
            self.assertEqual(r.headers["allow"], "GET, HEAD, OPTIONS")

    def test_bodies(self):
        path, js = "/agentd/v1/reload", b"Content-Type: application/json; charset=utf-8\r\n"
        self.data("POST", path, headers=js, body=b'{"a":[1,2]}')
        self.error("POST", path, headers=js, body=b'{"a":}', status=400)
        self.error("POST", path, headers=js, body=b"[" * 100, status=400)
        self.error("POST", path, body=b"{}", status=415)
        self.error("POST", path, headers=b"Content-Type: text/plain\r\n", body=b"{}", status=415)
        self.error("GET", "/agentd/v1/workers", headers=b"Accept: text/html\r\n", status=406)
        self.error("GET", "/agentd/v1/workers", headers=b"Accept: application/json;q=0\r\n", status=406)
        for fine in (b"*/*", b"text/html, application/json;q=0.9", b"application/*", b"text/plain, */*;q=0.1"):
            self.data("GET", "/agentd/v1/workers", headers=b"Accept: " + fine + b"\r\n")

    def test_browsers(self):
        for h in (b"Origin: http://evil\r\n", b"Origin: null\r\n", b"Sec-Fetch-Site: cross-site\r\n",
                  b"Sec-Fetch-Site: same-site\r\n", b"Origin: http://h:1\r\n"):
            self.error("POST", "/agentd/v1/reload", headers=h, status=403)
        self.data("POST", "/agentd/v1/reload", headers=b"Origin: http://h\r\nSec-Fetch-Site: same-origin\r\n")

    def test_trace(self):
        r = self.ask("GET", "/agentd/v1/workers/web", b"X-OCP-Trace-ID: 0123456789abcdef\r\n")
        self.assertEqual(r.json["traceId"], "0123456789abcdef")
        r = self.ask("GET", "/agentd/v1/workers/web", b"X-OCP-Trace-ID: nonsense\r\n")
        self.assertRegex(r.json["traceId"], r"^[0-9a-f]{16}$")
        self.assertEqual(r.json["server"], self.fake.path)

    def test_one_packet_of_requests(self):
        c = self.client()
        one = b"GET /agentd/v1/workers/web HTTP/1.1\r\n" + HOST + b"\r\n"
        restart = b"POST /agentd/v1/workers/web/restart HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n"
        c.send((one + restart) * 10 + one)
        got = [c.reply().status for _ in range(21)]
        self.assertEqual(got, [200] * 21)
        self.fake.wait_for("call 3", 10)  # it says so after it has answered
        self.assertEqual(self.fake.count("call 3"), 10)

    def test_reason(self):
        self.error("POST", "/agentd/v1/reload", headers=b"Agentd-Reason: " + b"x" * 257 + b"\r\n", status=400)
        self.error("POST", "/agentd/v1/reload", headers=b"Agentd-Reason: \xff\r\n", status=400)

    def test_continue(self):
        c = self.client()
        c.send(b"POST /agentd/v1/reload HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
               b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(c.reply().status, 100)
        c.send(b"{}")
        self.check_envelope(c.reply(), 200, True)
        self.assertEqual(c.ask("GET", "/healthz").status, 200)

    def test_old_http(self):
        c = self.client()
        c.send(b"GET /agentd/v1/workers/web HTTP/1.0\r\n\r\n")
        self.check_envelope(c.reply(), 200, True)
        self.assertTrue(c.closed())
        c = self.client()
        c.send(b"POST /agentd/v1/reload HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
        self.check_envelope(c.reply(), 200, True)

    def test_many_connections(self):
        cs = [self.client() for _ in range(50)]
        for c in cs:
            c.send(b"GET /agentd/v1/workers HTTP/1.1\r\n" + HOST + b"\r\n")
        for c in cs:
            self.check_envelope(c.reply(), 200, True)


class Samples(Case):
    options = ("stale=1", "sample_max_age_ms=60000")

    def test_shared(self):
        self.fake.say("quiet 1")
        cs = [self.client() for _ in range(5)]
        for c in cs:
            c.send(b"GET /compute/hosts/20/agent/processes HTTP/1.1\r\n" + HOST + b"\r\n")
        self.fake.wait_for("call 4 0")
        # agentd does not answer: the readers get what there is, and one call was made for all
        for c in cs:
            self.check_envelope(c.reply(), 200, True)
        self.assertEqual(self.fake.count("call 4"), 1)

    def test_one(self):
        self.data("GET", "/compute/hosts/20/agent/processes/1")
        self.data("GET", "/compute/hosts/20/agent/processes/1")
        self.fake.wait_for("call 4 1")
        self.assertEqual(self.fake.count("call 4"), 1)


class Late(Case):
    options = ("reply_deadline_ms=100",)

    def test_accepted(self):
        r = self.ask("POST", "/compute/hosts/20/agent/processes/2/restart")
        e = self.check_envelope(r, 202, False)
        self.assertEqual(r.headers["location"], "/agentd/v1/operations/op-1")
        self.assertEqual((r.headers["agentd-operation"], e["code"]), ("op-1", 1001))
        self.assertIn("op-1", e["message"])
        r = self.ask("POST", "/agentd/v1/workers/slow/restart")
        op = self.check_envelope(r, 202, True)
        self.assertEqual((op["id"], op["result"]), ("op-1", "running"))
        self.fake.say("finish")
        self.assertEqual(self.data("GET", "/agentd/v1/workers/slow")["generation"], 2)

    def test_no_answer(self):
        self.fake.say("quiet 1")
        r = self.ask("POST", "/agentd/v1/workers/slow/restart")
        self.check_envelope(r, 503, False)
        self.assertEqual(r.headers["retry-after"], "1")


class Slow(Case):
    options = ("request_deadline_ms=150",)

    def test_slowloris(self):
        for start in (b"G", b"GET / HTTP/1.1\r\nHost: h\r\n",
                      b"POST /agentd/v1/reload HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{"):
            c = self.client()
            c.send(start)
            began = time.monotonic()
            self.check_envelope(c.reply(), 408, False)
            self.assertTrue(c.closed())
            self.assertLess(time.monotonic() - began, 5)

    def test_client_leaves(self):
        c = self.client()
        c.send(b"POST /agentd/v1/workers/slow/restart HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
        self.fake.wait_for("call 3 2")
        c.s.close()
        self.fake.say("finish")
        self.assertEqual(self.data("GET", "/agentd/v1/workers/slow")["generation"], 2)


class Hostile(Case):
    """Each text is followed by a good request: it must be answered right, or the connection be closed."""
    P = b"POST /agentd/v1/workers/web/restart HTTP/1.1\r\n" + HOST
    TEXTS = {
        "two lengths": (P + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n", 400),
        "same lengths": (P + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
        "plus": (P + b"Content-Length: +5\r\n\r\nhello", 400),
        "length and coding": (P + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        "coding": (P + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        "gzip": (P + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        "blank before colon": (P + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        "head with body": (b"HEAD /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 30\r\n\r\n", 400),
        "get with body": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 30\r\n\r\n", 400),
        "bare lf": (b"GET /healthz HTTP/1.1\nHost: h\n\n", 400),
        "folded": (P + b"X: a\r\n b\r\n\r\n", 400),
        "nul": (P + b"X: a\0b\r\n\r\n", 400),
        "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        "two hosts": (b"GET /healthz HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        "absolute": (b"GET http://h/healthz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        "dots": (b"GET /a/../healthz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        "nul in path": (b"GET /healthz%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        "version": (b"GET /healthz HTTP/3.0\r\n" + HOST + b"\r\n", 400),
        "long target": (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        "many headers": (P + b"X: y\r\n" * 100 + b"\r\n", 431),
        "large header": (P + b"X: " + b"y" * 20000 + b"\r\n\r\n", 431),
        "large body": (P + b"Content-Length: 100000\r\n\r\n", 413),
        "method": (b"BREW /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        "expect": (P + b"Expect: tea\r\nContent-Length: 2\r\n\r\n{}", 400),
        "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        "noise": (bytes(range(256)), 400),
    }

    def check(self, name, raw, status, pieces, lead=0):
        good = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
        with Client(self.fake) as c:
            raw = good * lead + raw + good
            try:
                for i in range(0, len(raw), pieces):
                    c.send(raw[i:i + pieces])
            except (BrokenPipeError, ConnectionResetError):
                pass
            for _ in range(lead):
                self.assertEqual(c.reply().status, 200, name)
            r = c.reply()
            self.check_envelope(r, status, False)
            self.assertEqual(r.headers["connection"], "close")
            c.s.shutdown(socket.SHUT_WR)
            self.assertTrue(c.closed())
            self.assertEqual(c.buf, b"", name)

    def test_refused(self):
        for name, (raw, status) in self.TEXTS.items():
            with self.subTest(name):
                self.check(name, raw, status, len(raw) + 1000)
                self.check(name, raw, status, 7)
                self.check(name, raw, status, len(raw) + 1000, lead=3)
        self.assertEqual(self.fake.count("call 3"), 0)
        self.assertEqual(self.ask("GET", "/healthz").status, 200)

    def test_bad_behind_slow(self):
        c = self.client()
        c.send(b"POST /agentd/v1/workers/slow/restart HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\nGET /\n\n")
        self.fake.wait_for("call 3 2")
        self.fake.say("finish")
        self.check_envelope(c.reply(), 200, True)
        self.check_envelope(c.reply(), 400, False)
        c.s.shutdown(socket.SHUT_WR)
        self.assertTrue(c.closed())

    def test_hang_ups(self):
        raw = b"POST /agentd/v1/reload HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}"
        for n in range(1, len(raw)):
            with Client(self.fake) as c:
                c.send(raw[:n])
        self.assertEqual(self.ask("GET", "/healthz").status, 200)


class Caps(Case):
    options = ("max_connections=40", "credential=bearer x HOST_VIEWER " + hashlib.sha256(b"t").hexdigest())

    def test_tcp_leaves_room_for_root(self):
        cs = []
        refused = 0
        for _ in range(40):
            c = self.client(tcp=True)
            c.send(b"GET /agentd/v1/workers HTTP/1.1\r\nAuthorization: Bearer t\r\n" + HOST + b"\r\n")
            try:
                r = c.reply()
            except ConnectionResetError:
                r = None
            refused += r is None or r.status == 503
            cs.append(c)
        self.assertGreaterEqual(refused, 8)
        if os.getuid() == 0:
            self.assertEqual(self.ask("GET", "/healthz").status, 200)


class Tcp(Case):
    def setUp(self):
        self.options = ("credential=basic joe HOST_VIEWER " + sha512("secret"),
                        "credential=basic ann HOST_MANAGER " + sha512("topsecret"),
                        "credential=bearer x HOST_MANAGER 00")
        super().setUp()

    def basic(self, user, password):
        return b"Authorization: Basic " + base64.b64encode((user + ":" + password).encode()) + b"\r\n"

    def test_roles(self):
        c = self.client(tcp=True)
        r = c.ask("GET", "/agentd/v1/workers")
        self.check_envelope(r, 401, False)
        self.assertEqual(r.headers["www-authenticate"], 'Basic realm="agentd"')
        self.assertEqual(r.json["server"], "127.0.0.1:%d" % self.fake.port)
        self.assertEqual(c.ask("GET", "/healthz").status, 200)
        for header in (self.basic("joe", "wrong"), self.basic("nobody", "secret"), self.basic("joe", ""),
                       b"Authorization: Bearer x\r\n", b"Authorization: Basic ???\r\n"):
            self.check_envelope(c.ask("GET", "/agentd/v1/workers", header), 401, False)
        for _ in range(3):
            self.check_envelope(c.ask("GET", "/agentd/v1/workers", self.basic("joe", "secret")), 200, True)
        self.check_envelope(c.ask("POST", "/agentd/v1/workers/web/restart", self.basic("joe", "secret")), 403, False)
        r = c.ask("POST", "/agentd/v1/workers/web/restart", self.basic("ann", "topsecret"))
        self.check_envelope(r, 200, True)
        self.fake.wait_for("call 3 1 [] [basic:ann]")

    def test_flood_of_passwords(self):
        cs = [self.client(tcp=True) for _ in range(90)]
        for i, c in enumerate(cs):
            c.send(b"GET /agentd/v1/workers HTTP/1.1\r\n" + HOST + self.basic("joe", "wrong%d" % i) + b"\r\n")
        got = [c.reply().status for c in cs]
        self.assertTrue(set(got) <= {401, 429}, got)
        self.assertIn(401, got)

    def test_reload_of_credentials(self):
        c = self.client(tcp=True)
        header = self.basic("joe", "secret")
        self.check_envelope(c.ask("GET", "/agentd/v1/workers", header), 200, True)
        self.fake.say("hello")
        self.check_envelope(c.ask("GET", "/agentd/v1/workers", header), 200, True)


class TcpBeyondLoopback(Case):
    def setUp(self):
        self.options = ("loopback=0", "credential=basic joe HOST_VIEWER " + sha512("secret"))
        super().setUp()

    def test_refused(self):
        header = b"Authorization: Basic " + base64.b64encode(b"joe:secret") + b"\r\n"
        self.check_envelope(self.client(tcp=True).ask("GET", "/agentd/v1/workers", header), 403, False)


@unittest.skipUnless(os.getuid() == 0, "needs root")
class UnixRoles(Case):
    options = ("manager_gid=4242", "viewer_gid=4343")

    def as_user(self, groups, method, path):
        code = ("import os,socket,sys\nos.setgroups(%r)\nos.setgid(4000)\nos.setuid(4000)\n"
                "s=socket.socket(socket.AF_UNIX)\ns.connect(%r)\n"
                "s.sendall(b'%s %s HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n')\n"
                "d=b''\nwhile 1:\n  b=s.recv(9999)\n  if not b: break\n  d+=b\n"
                "print(d.split()[1].decode())\n") % (groups, self.fake.path, method, path)
        return int(subprocess.run(["python3", "-c", code], capture_output=True, text=True, check=True).stdout)

    def test_roles(self):
        workers, restart = "/agentd/v1/workers", "/agentd/v1/workers/web/restart"
        self.assertEqual(self.as_user([], "GET", workers), 403)
        self.assertEqual(self.as_user([], "GET", "/healthz"), 200)
        self.assertEqual(self.as_user([4343], "GET", workers), 200)
        self.assertEqual(self.as_user([4343], "POST", restart), 403)
        self.assertEqual(self.as_user(list(range(5000, 5100)) + [4242], "POST", restart), 200)

    def test_sandbox(self):
        self.assertEqual(self.ask("GET", "/healthz").status, 200)
        with open("/proc/%d/status" % self.fake.pid, encoding="ascii") as f:
            status = f.read()
        self.assertRegex(status, r"NoNewPrivs:\s+1")
        if not SANITIZED:
            self.assertRegex(status, r"Seccomp:\s+2")


class Logs(Case):
    BASE = "/agentd/v1/workers/web/logs"

    def test_list_and_read(self):
        d = self.data("GET", self.BASE)
        self.assertEqual((d["contents"][0]["name"], d["contents"][0]["size"]), ("app.log", 18))
        r = self.ask("GET", self.BASE + "/app.log")
        self.assertEqual((r.status, r.body), (200, b"line one\nline two\n"))
        self.assertEqual(r.headers["agentd-log-cursor"], "1:42:100")
        self.assertEqual(r.headers["content-type"], "application/octet-stream")
        self.assertEqual(r.headers["connection"], "close")
        self.fake.wait_for("call 6 1 [] [uid:%d] 18446744073709551615 65536 0 [app.log]" % os.getuid())
        self.ask("GET", self.BASE + "/app.log?from=7&limit=5")
        self.fake.wait_for("call 6 1 [] [uid:%d] 7 5 0 [app.log]" % os.getuid())
        self.ask("GET", self.BASE + "/app.log?from=-9")
        self.fake.wait_for("call 6 1 [] [uid:%d] 18446744073709551615 9 0 [app.log]" % os.getuid())

    def test_errors(self):
        self.error("GET", self.BASE + "/missing", status=404, code=1407)
        self.error("GET", self.BASE + "/refused", status=404, code=1407)
        self.assertEqual(self.error("GET", self.BASE + "/denied", status=500, code=1504), "denied: Permission denied")
        for bad in ("from=x", "limit=0", "limit=x", "follow=maybe", "from=-"):
            self.error("GET", self.BASE + "/app.log?" + bad, status=400)
        self.assertEqual(self.ask("HEAD", self.BASE + "/app.log").status, 200)

    def test_follow(self):
        c = self.client()
        c.send(b"GET " + self.BASE.encode() + b"/app.log?follow=1 HTTP/1.1\r\n" + HOST + b"\r\n")
        self.assertIn(b"200", c.until(b"\r\n\r\n"))
        self.assertIsNotNone(c.until(b"line two\n\r\n"))
        for word in ("three", "four"):
            self.fake.say("append " + word)
            self.assertIsNotNone(c.until(word.encode() + b"\r\n"))
        self.fake.say("endlog")
        self.assertTrue(c.closed())
        self.assertEqual(c.buf, b"0\r\n\r\n")

    def test_follower_leaves(self):
        # more in turn than there may be at once: each place must come back
        for _ in range(40):
            with Client(self.fake) as c:
                c.send(b"GET " + self.BASE.encode() + b"/big.log?follow=1 HTTP/1.1\r\n" + HOST + b"\r\n")
                self.assertIn(b" 200 ", c.until(b"\r\n\r\n"))
            self.assertEqual(self.ask("GET", "/healthz").status, 200)

    def leave(self, name, times):
        """So many ask for a log and go before anything of it has come."""
        for _ in range(times):
            with Client(self.fake) as c:
                c.send(b"GET " + self.BASE.encode() + b"/" + name + b" HTTP/1.1\r\n" + HOST + b"\r\n")
                self.calls = getattr(self, "calls", 0) + 1
                self.fake.wait_for("call 6", self.calls)
            self.assertEqual(self.ask("GET", "/healthz").status, 200)

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.fake.pid)) if os.getuid() == 0 else 0

    def wait_descriptors(self, most):
        eventually(lambda: self.descriptors() <= most, TIMEOUT, "%d descriptors" % most)

    def test_left_before_the_head(self):
        # more in turn than there may be at once, none of which ever gets a byte
        self.assertEqual(self.ask("GET", "/healthz").status, 200)  # it has its listeners
        before = self.descriptors()
        self.leave(b"mute", 40)
        self.wait_descriptors(before + 1)
        self.assertEqual(self.ask("GET", self.BASE + "/app.log").status, 200)

    def test_left_before_the_stream(self):
        self.assertEqual(self.ask("GET", "/healthz").status, 200)  # it has its listeners
        before = self.descriptors()
        self.leave(b"late", 25)
        self.assertEqual(self.ask("GET", self.BASE + "/app.log").status, 200)
        self.fake.say("streams")
        self.assertEqual(self.ask("GET", self.BASE + "/app.log").status, 200)
        self.wait_descriptors(before + 1)

    def test_slow_reader(self):
        c = self.client()
        c.send(b"GET " + self.BASE.encode() + b"/big.log HTTP/1.1\r\n" + HOST + b"\r\n" + b"x" * 100000)
        self.assertIn(b"200", c.until(b"\r\n\r\n"))
        self.assertEqual(self.ask("GET", "/healthz").status, 200)
        if os.getuid() == 0:
            with open("/proc/%d/statm" % self.fake.pid, encoding="ascii") as f:
                resident = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            if not SANITIZED:
                self.assertLess(resident, 24 << 20)
        self.assertEqual(len(c.chunks()), 256 * 65536)


class NoHost(Case):
    options = ("host_id=0",)

    def test_named(self):
        self.assertIn("agentctl setup", self.error("GET", "/compute/hosts/20/agent", status=503, code=1511))
        self.data("GET", "/agentd/v1/workers")


class Large(Case):
    options = ("extra=3000", "sample_max_age_ms=600000")

    def test_all(self):
        d = self.data("GET", "/agentd/v1/workers")
        self.assertEqual(len(d["contents"]), 3005)
        d = self.data("GET", "/compute/hosts/20/agent/processes?size=1000&page=4")
        self.assertEqual((len(d["contents"]), d["page"]["totalPages"]), (5, 4))


class End(Case):
    def test_agentd_goes(self):
        held = self.client()
        held.send(b"POST /agentd/v1/workers/slow/restart HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
        self.fake.wait_for("call 3 2")
        began = time.monotonic()
        self.fake.proc.stdin.write("quit\n")
        self.fake.proc.stdin.flush()
        r = held.reply()
        self.check_envelope(r, 503, False)
        self.assertEqual(r.headers["retry-after"], "1")
        self.assertTrue(held.closed())
        self.assertEqual(self.fake.wait_for("exited "), "exited 0")
        self.assertLess(time.monotonic() - began, 2)
        with self.assertRaises(OSError):
            Client(self.fake)

    def test_killed(self):
        idle = self.client()
        self.assertEqual(idle.ask("GET", "/healthz").status, 200)
        self.fake.proc.kill()
        self.assertTrue(idle.closed())


class Alone(unittest.TestCase):
    def test_refuses(self):
        r = subprocess.run([RPC], capture_output=True, text=True, close_fds=True, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("agentd", r.stderr)


if __name__ == "__main__":
    unittest.main()
