# SPDX-License-Identifier: Apache-2.0
"""GET /openapi.json: the description holds, and replies, good and bad, are what it says: judged by python3-jsonschema."""
import copy
import datetime
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.parse

import harness
import test_rpc
from harness import both

try:
    import jsonschema
except ImportError:
    jsonschema = None

needs_jsonschema = unittest.skipUnless(jsonschema, "needs python3-jsonschema")
HERE = os.path.dirname(os.path.abspath(__file__))
CALL = ("summary", "operationId", "x-agentd-role", "security", "requestBody", "parameters", "responses")


def formats():
    checker = jsonschema.FormatChecker(formats=())

    @checker.checks("date-time", raises=ValueError)
    def is_time(text):
        return not isinstance(text, str) or datetime.datetime.fromisoformat(text).tzinfo is not None
    return checker


class Document:
    def __init__(self, raw):
        self.doc = json.loads(raw)
        self.resolver = jsonschema.RefResolver.from_schema(self.doc)
        self.formats = formats()

    def calls(self):
        for path, item in self.doc["paths"].items():
            for verb, call in item.items():
                yield verb.upper(), path, call

    def of(self, pointer):
        return self.resolver.resolve(pointer)[1]

    def errors(self, schema, value):
        v = jsonschema.Draft202012Validator(schema, resolver=self.resolver, format_checker=self.formats)
        return ["%s: %s" % (list(e.absolute_path), e.message[:300]) for e in v.iter_errors(value)]

    def response(self, verb, path, status):
        responses = self.doc["paths"][path][verb.lower()]["responses"]
        found = responses.get(str(status)) or responses.get("%dXX" % (status // 100)) or responses["default"]
        return self.of(found["$ref"]) if "$ref" in found else found

    def judge(self, verb, path, status, headers, body):
        """What is wrong with a reply, a line each."""
        found = self.response(verb, path, status)
        kind = headers["content-type"].split(";")[0]
        wrong = ["header %s is missing" % h for h in found.get("headers", {}) if h.lower() not in headers]
        if kind not in found["content"]:
            return wrong + ["%s is not %s" % (kind, list(found["content"]))]
        value = json.loads(body) if kind == "application/json" else body.decode("utf-8", "replace")
        return wrong + self.errors(found["content"][kind]["schema"], value)


def parts(value, path=()):
    """Where each object of a reply is."""
    if isinstance(value, dict):
        yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from parts(part, path + (key,))


def at(value, path):
    for key in path:
        value = value[key]
    return value


class FakeCase(test_rpc.Case):
    def setUp(self):
        super().setUp()
        r = self.ask("GET", "/openapi.json")
        self.assertEqual((r.status, r.headers["content-type"]), (200, "application/json"))
        self.doc = Document(r.body)

    def fits(self, verb, path, target, status, **more):
        r = self.ask(verb, target, **more)
        self.assertEqual(r.status, status, r.body)
        self.assertEqual(self.doc.judge(verb, path, r.status, r.headers, r.body), [], target)
        return r


LINTER = os.path.join(os.path.dirname(os.path.dirname(HERE)), "build-linter/node_modules")


class Linted(test_rpc.Case):
    @unittest.skipUnless(os.path.isdir(LINTER) and shutil.which("node"), "needs nodejs, and what ./dev deps fetches")
    def test_recommended_rules(self):
        """By the rules that @redocly/openapi-core recommends."""
        doc = json.loads(self.ask("GET", "/openapi.json").body)
        self.assertEqual(self.lint(doc), "")
        del doc["paths"]["/agentd/v1/workers"]["get"]["responses"]["200"]["description"]
        self.assertIn("error", self.lint(doc), "it finds nothing wrong with a broken one")

    def lint(self, doc):
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as f:
            json.dump(doc, f)
            f.flush()
            r = subprocess.run(["node", os.path.join(os.path.dirname(HERE), "openapi/lint.cjs"), LINTER, f.name],
                               capture_output=True, text=True, timeout=harness.DEADLINE, check=True)
        return r.stdout


@needs_jsonschema
class Description(FakeCase):
    def test_form(self):
        d = self.doc.doc
        self.assertEqual(set(d), {"openapi", "info", "servers", "security", "paths", "components"})
        self.assertEqual(d["openapi"], "3.1.0")
        self.assertEqual(d["info"]["version"], "0.1.0")
        ids = set()
        for verb, path, call in self.doc.calls():
            with self.subTest(verb + " " + path):
                self.assertLessEqual(set(call), set(CALL))
                self.assertNotIn(call["operationId"], ids)
                ids.add(call["operationId"])
                self.assertEqual("x-agentd-role" in call, "security" not in call)
                names = [(p["in"], p["name"]) for p in call["parameters"]]
                self.assertEqual(len(names), len(set(names)))
                self.assertEqual({n for i, n in names if i == "path"}, set(re.findall(r"\{(\w+)\}", path)))
                self.assertTrue(all(p["required"] for p in call["parameters"] if p["in"] == "path"))
                for p in call["parameters"]:
                    self.assertLessEqual(set(p), {"name", "in", "required", "description", "schema"})
                    jsonschema.Draft202012Validator.check_schema(p["schema"])
                self.assertIn("200", call["responses"])
                self.assertIn("default", call["responses"])
        for ref in re.findall(r'"\$ref": "([^"]*)"', json.dumps(d)):
            self.doc.of(ref)  # raises if there is no such thing

    def test_shapes_are_closed(self):
        schemas = self.doc.doc["components"]["schemas"]
        for name, schema in schemas.items():
            with self.subTest(name):
                jsonschema.Draft202012Validator.check_schema(schema)
                self.assertEqual((schema["type"], schema["additionalProperties"]), ("object", False))
                self.assertLessEqual(set(schema["required"]), set(schema["properties"]))
        self.assertEqual(list(schemas["HostAgentProcess"]["properties"]), test_rpc.PROCESS_FIELDS)
        self.assertEqual(list(schemas["HostAgent"]["properties"]), test_rpc.AGENT_FIELDS)
        for name in ("HostAgentProcess", "HostAgent", "Worker"):
            self.assertEqual(set(schemas[name]["required"]), set(schemas[name]["properties"]))

    def test_every_call_is_there(self):
        out = subprocess.run([os.environ["AGENTCTL"], "help", "calls"], capture_output=True, text=True, check=True).stdout
        listed = {tuple(line.split()[:2]): line for line in out.splitlines() if " /" in line and not line.startswith("Every")}
        self.assertEqual({(v, p) for v, p, _ in self.doc.calls()}, set(listed))
        for verb, path, call in self.doc.calls():
            role = call.get("x-agentd-role")
            self.assertEqual(bool(role), "HOST_" in listed[(verb, path)])
            self.assertIn(role or "", listed[(verb, path)])

    def test_what_is_read_is_described(self):
        """Queries and headers that the handlers look at, out of their source."""
        rpc = os.path.join(HERE, "../../rpc/")
        source = "".join(open(rpc + f, encoding="utf-8").read() for f in sorted(os.listdir(rpc)) if f.endswith(".c"))
        queries = set(re.findall(r'route_query\(r->route\.query, "(\w+)"', source)) | set(re.findall(r'take_number\(r, "(\w+)"', source))
        headers = set(re.findall(r'request_header(?:_all)?\(r, "([\w-]+)"', source))
        described = {(p["in"], p["name"]) for _, _, c in self.doc.calls() for p in c["parameters"]}
        texts = set(re.findall(r'take(?:_text)?\(r, "(\w+)"', source))  # out of either
        self.assertEqual({n for i, n in described if i == "query"} - texts, queries)
        # those that HTTP itself describes are not repeated, OpenAPI forbids some of them
        self.assertEqual({n for i, n in described if i == "header"},
                         headers - {"Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Type", "Date", "Host", "Origin", "Sec-Fetch-Site"})
        # and of bodies, by name
        sent = {n for _, _, c in self.doc.calls() if "requestBody" in c for n in c["requestBody"]["content"]["application/json"]["schema"]["properties"]}
        self.assertEqual(sent, set(re.findall(r'(?:json_member\(&?j, 0|take(?:_text)?\(r), "(\w+)"', source)) |
                         set(re.findall(r'(?:field|take_time|put_list|put_words)\(r, "(\w+)"', source)) | set(re.findall(r'put_words\(r, "\w+", "(\w+)"', source)))


@needs_jsonschema
class Replies(FakeCase):
    GOOD = [("GET", "/compute/hosts/{host}/agent", "/compute/hosts/20/agent"),
            ("GET", "/compute/hosts/{host}/agent/processes", "/compute/hosts/20/agent/processes?size=2"),
            ("GET", "/compute/hosts/{host}/agent/processes/{id}", "/compute/hosts/20/agent/processes/3"),
            ("POST", "/compute/hosts/{host}/agent/processes/{id}/restart", "/compute/hosts/20/agent/processes/1/restart"),
            ("GET", "/agentd/v1/workers", "/agentd/v1/workers"),
            ("GET", "/agentd/v1/workers/{alias}", "/agentd/v1/workers/web"),
            ("POST", "/agentd/v1/workers/{alias}/restart", "/agentd/v1/workers/web/restart"),
            ("GET", "/agentd/v1/workers/{alias}/logs", "/agentd/v1/workers/web/logs"),
            ("GET", "/agentd/v1/operations/{id}", "/agentd/v1/operations/op-1"),
            ("GET", "/agentd/v1/reload", "/agentd/v1/reload"),
            ("POST", "/agentd/v1/reload", "/agentd/v1/reload")]
    BAD = [("GET", "/compute/hosts/{host}/agent", "/compute/hosts/21/agent", 404),
           ("GET", "/compute/hosts/{host}/agent/processes", "/compute/hosts/20/agent/processes?page=0", 400),
           ("GET", "/compute/hosts/{host}/agent/processes/{id}", "/compute/hosts/20/agent/processes/77", 404),
           ("GET", "/agentd/v1/workers/{alias}", "/agentd/v1/workers/nobody", 404),
           ("POST", "/agentd/v1/workers/{alias}/start", "/agentd/v1/workers/broken/start", 500),
           ("POST", "/agentd/v1/workers/{alias}/stop", "/agentd/v1/workers/locked/stop", 409),
           ("POST", "/agentd/v1/workers/{alias}/signal", "/agentd/v1/workers/web/signal", 400),
           ("GET", "/agentd/v1/workers/{alias}/logs/{name}", "/agentd/v1/workers/web/logs/denied", 500),
           ("GET", "/agentd/v1/operations/{id}", "/agentd/v1/operations/op-9", 404)]

    def test_good(self):
        for verb, path, target in self.GOOD:
            self.fits(verb, path, target, 200)

    def test_bad(self):
        for verb, path, target, status in self.BAD:
            self.fits(verb, path, target, status)

    def test_every_field_counts(self):
        """One field less, or one more, anywhere, is found."""
        for verb, path, target in self.GOOD:
            r = self.ask(verb, target)
            reply = r.json
            for where in parts(reply):
                for key in [*at(reply, where), None]:
                    other = copy.deepcopy(reply)
                    if key is None:
                        at(other, where)["surplus"] = 1
                    elif key == "signal":
                        continue
                    else:
                        del at(other, where)[key]
                    self.assertTrue(self.doc.judge(verb, path, 200, r.headers, json.dumps(other)), (target, where, key))


@needs_jsonschema
class Late(FakeCase):
    options = ("reply_deadline_ms=100",)

    def test_accepted(self):
        self.fits("POST", "/agentd/v1/workers/{alias}/restart", "/agentd/v1/workers/slow/restart", 202)
        self.fits("POST", "/compute/hosts/{host}/agent/processes/{id}/restart", "/compute/hosts/20/agent/processes/2/restart", 202)


def whole_body(call, values):
    """With all the fields that the call describes."""
    kinds = call.get("requestBody", {}).get("content", {})
    fields = kinds.get("application/json", {}).get("schema", {}).get("properties", {})
    return {n: [values[n]] if s.get("type") == "array" and isinstance(values[n], str) else values[n] for n, s in fields.items()}


@both
@needs_jsonschema
class RealOnes(harness.Case):
    cgroup = True

    def judge(self, h, doc, verb, path, values, query="", want=None, body=None):
        target = re.sub(r"\{(\w+)\}", lambda m: urllib.parse.quote(str(values[m.group(1)]), safe=""), path) + query
        r = h.http(verb, target) if body is None else h.post(target, body)
        if want:
            self.assertEqual(r.status, want, (target, r.body))
        headers = {k.lower(): v for k, v in r.headers.items()}
        self.assertEqual(doc.judge(verb, path, r.status, headers, r.body), [], target)
        return r

    def test_every_call(self):
        h = self.host(cgroup=self.cgroup)
        one = h.worker("a", "--children 1")
        h.worker("no", command="/nowhere/at/all", service="RestartSec=1h")
        h.worker("dead", "--exit 3", service="RestartSec=1h")
        h.start()
        h.until("a", "UP")
        h.until("no", "BACKOFF")
        h.until("dead", "BACKOFF")
        doc = Document(h.http("GET", "/openapi.json").body)
        values = {"host": harness.HOST_ID, "id": one, "alias": "a", "name": "a.log"}
        own = dict(values, id=h.operation("a", "restart").data["id"])
        h.write("workers.d/broken.conf", "[Service]\nExecStart=\n")
        with open(h.workers + "/a.conf", "a", encoding="utf-8") as f:
            f.write("[Service]\nNice=1\nEnvironment=A=B\n")
        whole = [p for v, p, _ in doc.calls() if v == "POST" and re.search(r"^/compute/.*/agent/\w+$|/batch", p)]
        task = dict(values, id=self.judge(h, doc, "POST", whole[0], values, want=200).data["id"])
        bodies = {"service": "a", "taskToken": "a-token-of-ours", "symbolicLink": h.logs + "/a.log"}
        bodies.update(dict.fromkeys(("keyword", "excludeKeyword", "logLevel"), ["a"]), logType="a", startTime="1970-01-01T00:00:00Z", endTime="2100-01-01T00:00:00Z",
                      keywordType="TEXT", excludeKeywordType="REGEX", limit=1, lastQueryFileId="0", lastQueryFileOffset=0)
        self.judge(h, doc, "POST", "/api/v1/agent/restart", values, want=200, body={"taskToken": bodies["taskToken"]})
        for verb, path, call in doc.calls():
            v = values if "compute" in path else task if "tasks" in path else own
            query = "&".join("%s=%s" % (p["name"], bodies[p["name"]]) for p in call["parameters"] if p["in"] == "query" and p["required"] and verb == "GET")
            if verb == "GET" and path != "/agentd/v1/events":
                self.judge(h, doc, verb, path, v, query and "?" + query, want=200)
                self.assertFalse(query and self.judge(h, doc, verb, path, v).status == 200, "what is required is not")
        self.assertTrue(h.ok("GET", "/agentd/v1/reload")["contents"])
        self.assertTrue(h.ok("GET", "/agentd/v1/reload")["errors"])
        for verb, path, call in doc.calls():
            if verb == "POST" and path not in whole:
                self.judge(h, doc, verb, path, values, "?signal=CONT" if path.endswith("signal") else "")
                if path.startswith("/api/v1") and path not in ("/api/v1/agent/start", "/api/v1/agent/stop"):
                    self.judge(h, doc, verb, path, values, body=whole_body(call, bodies), want=200)
                if call.get("requestBody", {}).get("required"):
                    self.judge(h, doc, verb, path, values, want=400)
        nobody = {"host": 77, "id": 77, "alias": "nobody", "name": "none"}
        for verb, path, call in doc.calls():
            if "{" in path:
                self.judge(h, doc, verb, path, nobody, want=404 if not path.endswith("signal") else None)
        self.judge(h, doc, "POST", "/agentd/v1/workers/{alias}/start", dict(values, alias="no"), want=500)
        self.events(h, doc)
        for path in whole:
            self.judge(h, doc, "POST", path, values, want=400 if "batch" in path else 200)
        h.stop()

    def events(self, h, doc):
        c = h.connect()
        c.request("GET", "/agentd/v1/events?lastEventId=0")
        stream, seen = c.getresponse(), set()
        while not {"worker", "operation", "agentd"} <= seen:
            line = stream.readline().decode()
            self.assertTrue(line, "the stream ended")
            if line.startswith("data:") and '"kind"' in line:
                event = json.loads(line[5:])
                self.assertEqual(doc.errors({"$ref": "#/components/schemas/Event"}, event), [])
                seen.add(event["kind"])
        c.close()
