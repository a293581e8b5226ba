# SPDX-License-Identifier: Apache-2.0
"""Behind nginx and HAProxy with the files of etc/examples: every call passes as it does directly, streams too; and one request
never becomes two, whatever the bytes."""
import contextlib
import http.client
import json
import re
import socket
import ssl
import unittest
import urllib.parse

import harness
import proxies
import smuggling
import test_auth
from harness import HOST_ID, Reply, eventually
from proxies import BEARER, WAYS

needs_proxies = unittest.skipIf(proxies.missing(), "needs %s" % ", ".join(proxies.missing()))
JSON = {"Content-Type": "application/json"}
# what belongs to a connection, or is a proxy's own
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
WHOLE = re.compile(r"/agent/\w+$|/batch")


def shape(value):
    """What is where, not how much of it or what it says. A null may be a value another time."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return ["..."]
    return type(value).__name__


def seen(reply):
    kind = reply.headers.get("Content-Type", "")
    return (reply.status, kind, {n.lower() for n in reply.headers} - HOP, shape(reply.json) if kind == "application/json" and reply.body else "")


@needs_proxies
class Calls(proxies.Case):
    def ask(self, way, method, path, headers=None, body=None):
        c = self.kept.get(way) or http.client.HTTPConnection("127.0.0.1", self.ports[way], timeout=harness.DEADLINE)
        self.kept[way] = c
        h = {**BEARER, **(headers or {})}
        if method == "POST" and body is None:
            h["Content-Length"] = "0"
        c.request(method, path, body, h)
        return Reply.of(c.getresponse())

    def setUp(self):
        self.kept = {}
        self.addCleanup(lambda: [c.close() for c in self.kept.values()])
        self.h = self.up()

    def alike(self, method, path, *more, **named):
        """What all ways answer, which is the same; the last reply."""
        replies = {way: self.ask(way, method, path, *more, **named) for way in WAYS}
        for way in WAYS:
            self.assertEqual(seen(replies[way]), seen(replies["directly"]), "%s %s by %s: %r" % (method, path, way, replies[way]))
        return replies["directly"]

    def test_every_call(self):
        h = self.h
        doc = self.ask("directly", "GET", "/openapi.json").json
        values = {"host": HOST_ID, "id": self.web, "alias": "web", "name": "web.log"}
        own = dict(values, id=h.operation("web", "restart").data["id"])
        h.meets("web", state="UP")
        task = dict(values, id=h.ok("POST", "/compute/hosts/%d/agent/start" % HOST_ID)["id"])
        nobody = {"host": 77, "id": 77, "alias": "nobody", "name": "none"}
        for path, item in doc["paths"].items():
            mine = values if "compute" in path else task if "tasks" in path else own
            for verb in map(str.upper, item):
                for v in (mine, nobody) if "{" in path else (mine,):
                    target = re.sub(r"\{(\w+)\}", lambda m, v=v: urllib.parse.quote(str(v[m.group(1)]), safe=""), path)
                    if verb == "GET" and not path.endswith("/events"):
                        self.alike("HEAD", target)
                    if not path.endswith("/events") and not (WHOLE.search(path) and v is mine and verb == "POST"):
                        self.alike(verb, target + ("?signal=CONT" if path.endswith("signal") else ""))
            self.alike("OPTIONS", re.sub(r"\{\w+\}", "x", path))
            self.alike("PUT", re.sub(r"\{\w+\}", "x", path), JSON, body="{}")
        self.alike("GET", "/api/v2/agentd/v1/workers/w%65b?a=%2F..%2f&b=%e2%82%ac+1")
        h.stop()

    def test_whole_agent(self):
        h, base = self.h, "/compute/hosts/%d/agent/" % HOST_ID
        for method, path, body in (("POST", base + "stop", None), ("POST", base + "start", None), ("POST", base + "restart", None),
                                   ("POST", "/compute/hosts/batchRestartAgents", '{"hostIds":[%d,7]}' % HOST_ID), ("POST", "/compute/hosts/batchRestartAgents", '{"hostIds":7}')):
            replies = {}
            for way in WAYS:
                r = replies[way] = eventually(lambda way=way: self.patient(way, method, path, body), what=path)
                if r.status == 200:
                    eventually(lambda r=r: self.ended(r.data["id"]), what="the task's end")
            for way in WAYS:
                self.assertEqual(seen(replies[way]), seen(replies["directly"]), (way, replies))
        h.all_up()

    def patient(self, way, *request):
        """agentd becomes its own successor meanwhile: a kept connection may end."""
        try:
            return self.ask(way, request[0], request[1], JSON if request[2] else None, request[2])
        except (OSError, http.client.HTTPException):
            self.kept.pop(way).close()
            return None

    def ended(self, task):
        with contextlib.suppress(OSError, http.client.HTTPException):
            r = self.h.http("GET", "/tasks/instances/%d" % task)
            return r.status == 200 and r.data["status"] != "RUNNING" and self.h.http("GET", "/readyz").status == 200
        return False

    def test_conditions(self):
        h = self.h
        for way in WAYS:
            with self.subTest(way):
                r = self.ask(way, "GET", "/agentd/v1/workers/web")
                self.assertEqual(r.headers["ETag"], '"%d"' % r.data["generation"])
                path = "/agentd/v1/workers/web/restart"
                self.assertEqual(self.ask(way, "POST", path, {"If-Match": '"999"'}).status, 412)
                self.assertEqual(self.ask(way, "POST", path, {"If-Match": r.headers["ETag"]}).status, 200)
                one = self.ask(way, "POST", path, {"Idempotency-Key": way, "Agentd-Reason": "why by " + way})
                again = self.ask(way, "POST", path, {"Idempotency-Key": way, "Agentd-Reason": "why by " + way})
                self.assertEqual((one.status, again.status, one.data["id"], one.data["reason"], one.data["actor"]),
                                 (200, 200, again.data["id"], "why by " + way, "bearer:proxied"))
                later = self.ask(way, "POST", path, {"Prefer": "respond-async"})
                self.assertEqual((later.status, later.headers["Location"]), (202, "/agentd/v1/operations/" + later.headers["Agentd-Operation"]))
                eventually(lambda way=way, later=later: self.ask(way, "GET", later.headers["Location"]).data["result"] == "done", what="its end")
                packed = self.ask(way, "GET", "/openapi.json", {"Accept-Encoding": "gzip"})
                self.assertEqual((packed.headers["Content-Encoding"], packed.body[:2]), ("gzip", b"\x1f\x8b"))
                self.assertEqual(self.ask(way, "GET", "/agentd/v1/workers/web", {"X-OCP-Trace-ID": "0123456789abcdef"}).json["traceId"], "0123456789abcdef")
                self.assertEqual(self.ask(way, "GET", "/agentd/v1/workers", {"Authorization": ""}).status, 401)
                self.assertEqual(self.ask(way, "GET", "/agentd/v1/workers", {"Authorization": "Bearer wrong"}).status, 401)
                self.assertEqual(self.ask(way, "POST", path, {"Origin": "http://evil"}).status, 403)
        h.stop()

    def test_signed(self):
        """What is signed gets through as it was: method, target, Host, Date, body."""
        for way in WAYS:
            c = http.client.HTTPConnection("127.0.0.1", self.ports[way], timeout=harness.DEADLINE)
            self.addCleanup(c.close)
            call = test_auth.Call("GET", "/api/v2/compute/hosts/%d/agent/processes" % HOST_ID, [("page", "1"), ("size", "3")], Host="ocp.example:%d" % self.ports[way])
            r = call.signed("AK20", "sk").send(c)
            self.assertEqual(r.status, 200, (way, r))

    def test_tls(self):
        for name, front in self.fronts.items():
            context = ssl.create_default_context(cafile=front.certificate)
            c = http.client.HTTPSConnection("127.0.0.1", front.tls, timeout=harness.DEADLINE, context=context)
            self.addCleanup(c.close)
            c.request("GET", "/agentd/v1/workers", headers=BEARER)
            self.assertEqual(c.getresponse().status, 200, name)

    def test_chunked_body(self):
        """nginx makes a length of it; HAProxy sends it on, and agentd says what it wants."""
        for way, status in (("nginx", 200), ("haproxy", 501)):
            c = http.client.HTTPConnection("127.0.0.1", self.ports[way], timeout=harness.DEADLINE)
            self.addCleanup(c.close)
            c.request("POST", "/agentd/v1/reload", iter([b"{", b"}"]), {**BEARER, **JSON}, encode_chunked=True)
            self.assertEqual(c.getresponse().status, status, way)


class Stream:
    """Server-sent events, line by line as they come."""

    def __init__(self, port, last=None):
        self.c = http.client.HTTPConnection("127.0.0.1", port, timeout=harness.DEADLINE)
        self.c.request("GET", "/agentd/v1/events", headers={**BEARER, "Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})})
        self.r = self.c.getresponse()
        assert self.r.status == 200, self.r.status

    def until(self, what):
        """Reads on until an event satisfies what(id, event)."""
        last = None
        while True:
            line = self.r.readline().decode().rstrip("\n")
            if line.startswith("id:"):
                last = line[3:].strip()
            if line.startswith("data:") and what(last, json.loads(line[5:])):
                return last

    def close(self):
        self.r.close()
        self.c.close()


@needs_proxies
class Streams(proxies.Case):
    def test_events(self):
        """Each comes while nothing else does: the next restart is asked for only when the last one's end was read. Then on from there."""
        h = self.up()
        for way in WAYS:
            with self.subTest(way):
                s = Stream(self.ports[way])
                for _ in range(3):
                    op = h.operation("web", "restart").data["id"]
                    last = s.until(lambda _, e, op=op: e.get("operation") == op and e["kind"] == "operation" and e["state"] == "done")
                s.close()
                op = h.operation("web", "restart").data["id"]
                s = Stream(self.ports[way], last)
                first = []
                s.until(lambda i, e, first=first, op=op: first.append(int(i)) or (e.get("operation") == op and e["state"] == "done"))
                self.assertEqual(first, list(range(int(last) + 1, int(last) + 1 + len(first))))
                s.close()
        h.stop()

    def test_log(self):
        """A followed log, byte by byte."""
        h = self.up()
        h.worker("talk", command="/bin/sh -c 'while read -r x; do echo $x; done <%s/words'" % h.dir)
        harness.os.mkfifo(h.dir + "/words")
        h.ok("POST", "/agentd/v1/reload")
        with open(h.dir + "/words", "w", buffering=1, encoding="ascii") as words:
            h.meets("talk", state="UP")
            for way in WAYS:
                c = http.client.HTTPConnection("127.0.0.1", self.ports[way], timeout=harness.DEADLINE)
                c.request("GET", "/agentd/v1/workers/talk/logs/talk.log?follow=1", headers=BEARER)
                r = c.getresponse()
                self.assertEqual(r.status, 200)
                for n in range(3):
                    words.write("%s-%d\n" % (way, n))
                    while r.readline().decode() != "%s-%d\n" % (way, n):
                        pass
                r.close()
                c.close()
        h.stop()


class Wire:
    """One connection; bytes out, bytes in."""

    def __init__(self, port, source):
        self.s = socket.socket()
        self.s.settimeout(15)  # HAProxy waits 10 s for a body
        self.s.bind((source, 0))
        self.s.connect(("127.0.0.1", port))
        self.got, self.over = b"", False

    def send(self, raw):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.s.sendall(raw)

    def until(self, what):
        """Until what(all that came) holds, or the end of the connection."""
        while not self.over and not what(self.got):
            try:
                more = self.s.recv(65536)
            except ConnectionResetError:
                more = b""
            self.got, self.over = self.got + more, not more
        return self.got


def statuses(got):
    return [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d{3})", got) if s[:1] != b"1"]


def traces(got):
    return re.findall(rb'"traceId": ?"(\w+)"', got)


def one_reply(got):
    """The first one that is no 1xx, whole."""
    m = re.search(rb"HTTP/1\.[01] [2-5].*?\r\n\r\n", got, re.DOTALL)
    length = m and re.search(rb"\r\ncontent-length: (\d+)", m.group(), re.I)
    return bool(m) and (len(got) >= m.end() + int(length.group(1)) if length else b"\r\n0\r\n\r\n" in got)


@needs_proxies
class Smuggling(proxies.Case):
    def exchange(self, port, source, m, together):
        """All that came back for a message and, once it is answered (or at once), another request on the same connection."""
        w = Wire(port, source)
        with contextlib.closing(w.s):
            w.send(m.raw + (smuggling.AFTER if together and not m.partial else b""))
            if m.partial:
                with contextlib.suppress(OSError):
                    w.s.shutdown(socket.SHUT_WR)
                return w.until(lambda got: one_reply(got) and b"connection: close" in got.lower())
            if not together:
                bodiless = m.raw.startswith(b"HEAD")
                w.until(lambda got: len(statuses(got)) > 1 or (statuses(got) if bodiless else one_reply(got)))
                w.send(smuggling.AFTER)
            return w.until(lambda got: smuggling.NEXT in traces(got) and got.endswith((b"}", b"}\n", b"0\r\n\r\n")))

    def judge(self, m, got):
        """What is wrong with it, in words."""
        t, s = traces(got), statuses(got)
        if m.two:
            order = iter((smuggling.FIRST, smuggling.SMUGGLED, smuggling.NEXT))
            return "" if all(x in order for x in t if x in (smuggling.FIRST, smuggling.SMUGGLED, smuggling.NEXT)) else "out of order"
        if smuggling.SMUGGLED in got:
            return "the hidden request was answered"
        if smuggling.NEXT in t and (t.index(smuggling.NEXT) != len(t) - 1 or s[-1] != 200):
            return "the next request was not answered as such"
        if len([x for x in s if x < 400]) > 1 + (smuggling.NEXT in t):
            return "too many answers"
        return ""

    def test_corpus(self):
        h = self.up()
        messages = list(smuggling.messages())
        self.assertGreaterEqual(len(messages), 60)
        generation, wrong, kept = 1, [], dict.fromkeys(WAYS, 0)
        for n, m in enumerate(messages):
            if len(wrong) > 5:
                break
            for way in WAYS:
                for together in (False, True):
                    try:
                        got = self.exchange(self.ports[way], "127.0.%d.%d" % (1 + n // 250, 1 + n % 250), m, together)
                    except TimeoutError:
                        wrong.append((m.name, way, together, "no answer and no end"))
                        continue
                    now = h.record("marker")["generation"]
                    kept[way] += smuggling.NEXT in traces(got)
                    if m.two and now == generation + (smuggling.SMUGGLED in traces(got)):
                        generation = now
                    words = self.judge(m, got) or ("the hidden request was done" if now != generation else "")
                    generation = now
                    if words:
                        wrong.append((m.name, way, together, words, statuses(got), got[-400:]))
        self.assertEqual(wrong, [], "\n".join(map(str, wrong)))
        for way in WAYS:
            self.assertGreater(kept[way], 10, "a connection goes on where it may: %r" % kept)
        operations = [o for o in h.ok("GET", "/agentd/v1/operations")["contents"] if o["alias"] == "marker"]
        self.assertEqual(len(operations), generation - 1, "none came later")
        h.stop()

    def test_corpus_is_dangerous(self):
        """Each message is two to some careless reader: else its test would prove nothing."""
        harmless = [m.name for m in smuggling.messages() if not smuggling.dangerous(m)]
        self.assertEqual(harmless, ["partial: a head without its end"])


if __name__ == "__main__":
    unittest.main()
