# SPDX-License-Identifier: Apache-2.0
"""GET /metrics: read by a parser that knows the format's rules and nothing of agentd."""
import os
import re
import signal

import harness
import test_rpc
from harness import both, eventually

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
SUFFIXES = {"summary": ("", "_sum", "_count"), "histogram": ("_bucket", "_sum", "_count")}


def unescape(text, escapes):
    out, i = "", 0
    while i < len(text):
        if text[i] == "\\":
            out += escapes[text[i + 1]]  # KeyError: an escape that the format does not have
            i += 1
        else:
            out += text[i]
        i += 1
    return out


def labels_of(text):
    labels, at = {}, 0
    while at < len(text):
        m = re.compile(r'(%s)="((?:[^"\\\n]|\\.)*)"(?:,|$)' % LABEL).match(text, at)
        assert m, "labels: " + text
        name = m.group(1)
        assert not name.startswith("__") and name not in labels, text
        labels[name] = unescape(m.group(2), {"\\": "\\", '"': '"', "n": "\n"})
        at = m.end()
    return labels


class Family:
    def __init__(self, help_text):
        self.help, self.type, self.samples = help_text, None, {}


def parse(raw):
    """{family: Family}; AssertionError, KeyError or ValueError for what the exposition format 0.0.4 does not allow."""
    text = raw.decode("utf-8")
    assert text.endswith("\n"), "the last line must end too"
    families, current = {}, None
    for line in text[:-1].split("\n"):
        m = re.fullmatch(r"# HELP (%s) (.*)" % NAME, line)
        if m:
            assert m.group(1) not in families, "HELP twice: " + line
            current = m.group(1)
            families[current] = Family(unescape(m.group(2), {"\\": "\\", "n": "\n"}))
            continue
        m = re.fullmatch(r"# TYPE (%s) (\w+)" % NAME, line)
        if m:
            assert m.group(1) == current and m.group(2) in TYPES, line
            assert families[current].type is None and not families[current].samples, "TYPE twice, or late: " + line
            families[current].type = m.group(2)
            continue
        m = re.fullmatch(r'(%s)(?:\{(.*)\})? (\S+)' % NAME, line)
        assert m, "no sample: %r" % line
        family = families[current]
        assert family.type, "no TYPE before " + line
        assert m.group(1) in [current + s for s in SUFFIXES.get(family.type, ("",))], "not of the family before it: " + line
        labels = labels_of(m.group(2) or "")
        key = (m.group(1), tuple(sorted(labels.items())))
        assert key not in family.samples, "twice: " + line
        family.samples[key] = float(m.group(3))
    return families


def check(case, families):
    """What is so of every good set of families."""
    for name, family in families.items():
        case.assertTrue(name.startswith("agentd_"), name)
        case.assertTrue(family.help.endswith("."), name)
        case.assertEqual(name.endswith("_total"), family.type == "counter", name)
        case.assertFalse(re.search(r"_(ms|milliseconds|usec|us|kb|kilobytes|mb|minutes|percent)(_|$)", name), name)
        for value in family.samples.values():
            case.assertGreaterEqual(value, 0, name)


def value(families, family, suffix="", **labels):
    """The one sample that has these labels, and maybe more."""
    found = [v for (name, have), v in families[family].samples.items()
             if name == family + suffix and set(labels.items()) <= set(have)]
    assert len(found) == 1, (family, labels, families[family].samples)
    return found[0]


class Format(test_rpc.Case):
    options = ('version=1"2\\3\n4',)

    def get(self, client=None):
        r = (client or self).ask("GET", "/metrics")
        self.assertEqual((r.status, r.headers["content-type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        f = parse(r.body)
        check(self, f)
        return f

    def test_parser_can_fail(self):
        good = b'# HELP a_total x\n# TYPE a_total counter\na_total{b="c"} 1\n'
        self.assertEqual(value(parse(good), "a_total", b="c"), 1)
        for bad in (good[:-1], good + good, good + b'a_total{b="c"} 2\n', good + b"b 1\n", b"a 1\n", good + b'a_total{b="\\x"} 1\n',
                    good + b'a_total{b="c",b="d"} 1\n', good + b"a_total{1=\"c\"} 1\n", good + b"a_total x\n", good + b"\n",
                    b"# TYPE a counter\na 1\n", b"# HELP a x\na 1\n", good.replace(b"counter", b"number")):
            with self.assertRaises((AssertionError, KeyError, ValueError), msg=bad):
                parse(bad)

    def test_values(self):
        f = self.get()
        self.assertEqual(value(f, "agentd_build_info", version='1"2\\3\n4'), 1)
        self.assertEqual({dict(k[1])["state"]: v for k, v in f["agentd_workers"].samples.items()},
                         {"UP": 3, "DOWN": 2, "STARTING": 0, "STOPPING": 0, "KILLING": 0, "BACKOFF": 0, "COOLDOWN": 0})
        self.assertEqual(value(f, "agentd_worker_state", alias="web", state="UP"), 1)
        self.assertEqual(value(f, "agentd_worker_cpu_seconds_total", alias="web", id="1"), 0.123456)
        self.assertEqual(value(f, "agentd_worker_memory_bytes", alias="web"), 7 << 20)
        self.assertAlmostEqual(value(f, "agentd_worker_uptime_seconds", alias="web"), 5, delta=2)
        self.assertEqual(value(f, "agentd_worker_state_since_timestamp_seconds", alias="web"), 1700000002.345678)
        self.assertEqual(len(f["agentd_worker_up"].samples), 5)
        self.assertEqual(len(f["agentd_worker_processes"].samples), 3, "only of those that live")

    def test_counters(self):
        c = self.client()
        self.get(c)
        self.assertEqual(value(self.get(c), "agentd_http_requests_total", method="GET", code="2xx"), 1)
        self.assertEqual(c.ask("HEAD", "/metrics").status, 200)
        self.assertEqual(c.ask("GET", "/nothing").status, 404)
        self.assertEqual(c.ask("POST", "/agentd/v1/workers/web/restart").status, 200)
        self.assertEqual(c.ask("DELETE", "/healthz").status, 405)
        with test_rpc.Client(self.fake) as bad:
            bad.send(b"GET / HTTP/1.1\n\n")
            self.assertEqual(bad.reply().status, 400)
        tcp = self.client(tcp=True)
        self.assertEqual(tcp.ask("GET", "/metrics").status, 401)
        f = self.get(c)
        for method, code, n in (("HEAD", "2xx", 1), ("GET", "4xx", 2), ("POST", "2xx", 1), ("DELETE", "4xx", 1)):
            self.assertEqual(value(f, "agentd_http_requests_total", method=method, code=code), n, method)
        self.assertEqual(value(f, "agentd_http_refused_total", code="1400"), 1)
        self.assertEqual(value(f, "agentd_http_auth_refused_total", reason="unauthorized"), 1)
        self.assertEqual(value(f, "agentd_http_connections"), 2)
        self.assertEqual(value(f, "agentd_http_connections_total"), 3)
        self.assertEqual(value(f, "agentd_calls"), 0)
        self.assertEqual(value(f, "agentd_calls_total") + 1, value(f, "agentd_wire_frames_sent_total"), "one told the refusal")
        self.assertGreater(value(f, "agentd_wire_frames_received_total"), 8)
        c.send(b"POST /agentd/v1/workers/slow/restart HTTP/1.1\r\n" + test_rpc.HOST + b"Content-Length: 0\r\n\r\n")
        self.fake.wait_for("call 3 2")
        self.assertEqual(value(self.get(), "agentd_calls"), 1)
        self.fake.say("finish")
        self.assertEqual(c.reply().status, 200)

    def test_streams(self):
        with test_rpc.Client(self.fake) as events, test_rpc.Client(self.fake) as log:
            events.send(b"GET /agentd/v1/events HTTP/1.1\r\n" + test_rpc.HOST + b"\r\n")
            self.assertIsNotNone(events.until(b"\r\n\r\n"))
            log.send(b"GET /agentd/v1/workers/web/logs/app.log?follow=1 HTTP/1.1\r\n" + test_rpc.HOST + b"\r\n")
            self.assertIsNotNone(log.until(b"line two\n"))
            f = self.get()
            self.assertEqual([value(f, "agentd_http_streams", kind=k) for k in ("log", "events")], [1, 1])
        eventually(lambda: value(self.get(), "agentd_http_streams", kind="events") == 0)


@both
class RealOnes(harness.Case):
    cgroup = True

    def test_restarts(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a", "--children 1")
        h.worker("no", command="/nowhere/at/all", service="RestartSec=1h")
        h.start()
        h.until("a", "UP")
        h.until("no", "BACKOFF")
        eventually(lambda: h.record("a")["processes"] == 2, what="both in a sample")

        def get():
            r = h.http("GET", "/metrics")
            self.assertEqual(r.status, 200)
            f = parse(r.body)
            check(self, f)
            return f
        f = get()
        self.assertEqual(value(f, "agentd_worker_up", alias="a"), 1)
        self.assertEqual(value(f, "agentd_worker_processes", alias="a"), 2)
        self.assertGreater(value(f, "agentd_worker_memory_bytes", alias="a"), 100000)
        self.assertEqual(value(f, "agentd_worker_restarts_total", alias="a"), 0)
        self.assertEqual(value(f, "agentd_worker_up", alias="no"), 0)
        self.assertGreater(value(f, "agentd_worker_retry_due_timestamp_seconds", alias="no"), 1700000000)
        self.assertEqual(h.operation("a", "restart").status, 200)
        os.kill(h.record("a")["pid"], signal.SIGKILL)
        h.meets("a", state="UP", restarts=2)
        f = get()
        self.assertEqual(value(f, "agentd_worker_restarts_total", alias="a"), 2)
        self.assertEqual([value(f, "agentd_worker_starts_total", reason=r) for r in ("restart-requested", "exited")], [1, 1])
        for phase in ("stop", "spawn", "ready"):
            self.assertEqual(value(f, "agentd_operation_phase_seconds", "_count", phase=phase), 1)
            self.assertLess(value(f, "agentd_operation_phase_seconds", "_sum", phase=phase), 10)
        h.stop()
