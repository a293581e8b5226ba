# SPDX-License-Identifier: Apache-2.0
"""Searches in logs: what fits comes, once, in pages and as an archive, whoever rotates the files meanwhile and whatever lies beside them."""
import datetime
import gzip
import http.client
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
import zipfile

import harness
import test_logs
import test_openapi
from harness import Case, eventually, needs_root

QUERY, DOWNLOAD = "/api/v1/log/query", "/api/v1/log/download"
ALWAYS = {"startTime": "1970-01-01T00:00:00Z", "endTime": "2100-01-01T00:00:00Z"}
BEGIN = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


def stamp(n):
    """OceanBase's, n milliseconds after the beginning."""
    return (BEGIN + datetime.timedelta(milliseconds=n)).strftime("[%Y-%m-%d %H:%M:%S.%f]")


class Base(Case):
    zone = "UTC"

    def setUp(self):
        super().setUp()
        self.h = h = self.host()
        h.env["TZ"] = self.zone
        self.files = h.dir + "/files"
        os.mkdir(self.files)
        os.chmod(self.files, 0o755)

    def begin(self, pattern="*.log*", alias="web", args="", **more):
        self.h.worker(alias, args, section="LogFilePattern=%s/%s" % (self.files, pattern), **more)
        self.h.start()
        self.h.all_up()

    def written(self, alias, text):
        """Captured output is there: a program is UP before it has said anything."""
        def there():
            with open("%s/%s.log" % (self.h.logs, alias), encoding="ascii") as f:
                return f.read() == text
        harness.eventually(there)

    def put(self, name, text, mode="a"):
        path = self.files + "/" + name
        with open(path, mode, encoding="utf-8") as f:
            f.write(text)
        return path

    def ask(self, logType, want=200, **more):
        r = self.h.post(QUERY, {"logType": logType, **ALWAYS, **more})
        self.assertEqual(r.status, want, r)
        return r

    def entries(self, logType, **more):
        return self.ask(logType, **more).data["logEntries"]

    def texts(self, logType, **more):
        return [e["logLine"] for e in self.entries(logType, **more)]

    def archive(self, *types, **more):
        r = self.h.post(DOWNLOAD, {"logType": list(types), **ALWAYS, **more})
        self.assertEqual((r.status, r.headers["Content-Type"]), (200, "application/zip"), r)
        return zipfile.ZipFile(io.BytesIO(r.body))


class Lines(Base):
    zone = "Asia/Shanghai"

    def test_times_and_levels(self):
        rows = [("[2024-01-02 03:04:05.123456] INFO  [SERVER] a", "2024-01-02T03:04:05.123456+08:00", "INFO"),
                ("[2024-01-02 03:04:05.123456] WDIAG [SQL] b", "2024-01-02T03:04:05.123456+08:00", "WDIAG"),
                ("2024-01-02T03:04:06.5Z WARNING [1,2] c", "2024-01-02T03:04:06.500+00:00", "WARN"),
                ("2024-01-02T03:04:06.123-03:30 ERROR d", "2024-01-02T03:04:06.123-03:30", "ERROR"),
                ("2024-01-02 03:04:05,123 [error] e", "2024-01-02T03:04:05.123+08:00", "ERROR"),
                ("2024-01-02 03:04:05,123 [main] DEBUG o.b.Main - f", "2024-01-02T03:04:05.123+08:00", "DEBUG"),
                ("2024/01/02 03:04:05 [warn] 17#17: g", "2024-01-02T03:04:05.000+08:00", "WARN"),
                ("2024-01-02 03:04:05 no error at all in h", "2024-01-02T03:04:05.000+08:00", ""),
                ('time="2024-01-02T03:04:05+08:00" level=info msg=i', "2024-01-02T03:04:05.000+08:00", "INFO")]
        self.put("a.log", "".join(r[0] + "\n" for r in rows))
        path = self.put("messages.log", "Feb 29 23:59:59 host sshd[1]: x\nMar  1 00:00:00 host sshd[1]: y\n")
        at = datetime.datetime(2025, 3, 1, tzinfo=datetime.timezone.utc).timestamp()
        os.utime(path, (at, at))
        self.begin()
        found = self.entries("a")
        self.assertEqual([(e["logLine"], e["logAt"], e["logLevel"]) for e in found], rows)
        self.assertEqual({e["fileName"] for e in found}, {"a.log"})
        self.assertTrue(all(re.fullmatch(r"\d+", e["fileId"]) for e in found))
        self.assertEqual([e["logAt"] for e in self.entries("messages")], ["2024-02-29T23:59:59.000+08:00", "2025-03-01T00:00:00.000+08:00"])

    def test_lines_that_belong_together(self):
        trace = "%s ERROR boom\njava.lang.Exception: x\n\tat a.B.c(B.java:7)\n\n\tat d" % stamp(0)
        self.put("a.log", "banner\n\nsecond\n%s\n%s INFO fine\r\n" % (trace, stamp(1)))
        self.begin()
        found = self.entries("a")
        self.assertEqual([e["logLine"] for e in found], ["banner", "second", trace, stamp(1) + " INFO fine"])
        self.assertEqual([e["logAt"] for e in found[:2]], [None, None])
        self.assertEqual(self.texts("a", keyword=["boom", "B.java"]), [trace])
        # an entry is bounded, and what is behind it is not lost
        self.put("b.log", "%s INFO %s\n%s INFO short\n%s\n%s INFO last\n" % (stamp(0), "x" * 300000, stamp(1), "y\n" * 50000, stamp(2)))
        found = self.texts("b")
        self.assertEqual([len(found), len(found[0]), len(found[1]), found[2]], [3, 65536, 65536, stamp(2) + " INFO last"])
        self.put("c.log", "%s INFO \0 \xff \x1b[31m\n" % stamp(0))
        self.assertEqual(self.texts("c"), [stamp(0) + " INFO \0 \xff \x1b[31m"])

    def test_without_times(self):
        """Captured output of a simple program: its lines are there if the file was written in the span."""
        self.begin(args="--stdout one --stdout two")
        self.written("web", "one\ntwo\n")
        found = self.entries("web", keyword=[])
        self.assertEqual([(e["logAt"], e["logLevel"], e["logLine"]) for e in found], [(None, "", "one"), (None, "", "two")])
        self.assertEqual(self.texts("web", logLevel=["ERROR"]), ["one", "two"], "nothing speaks against it")
        self.assertEqual(self.texts("web", endTime="2000-01-01T00:00:00Z"), ["one", "two"], "when it was begun is not known")
        self.assertEqual(self.texts("web", startTime="2099-01-01T00:00:00Z"), [])


    def test_without_times_in_their_span(self):
        """From the last change of the file before it, if there is one, to its own; a minute's margin is for opening only."""
        for name, seconds in (("a.log.1", 30), ("a.log", 50)):
            at = BEGIN.timestamp() + seconds
            os.utime(self.put(name, "of %s\n" % name), (at, at))
        self.begin()

        def texts(start, end):
            return self.texts("a", startTime="2024-01-02T03:04:%02dZ" % start, endTime="2024-01-02T03:%sZ" % end)
        self.assertEqual(texts(5, "04:10"), ["of a.log.1"])
        self.assertEqual(texts(5, "04:35"), ["of a.log.1", "of a.log"])
        self.assertEqual(texts(36, "04:40"), ["of a.log"])
        self.assertEqual(texts(56, "05:00"), [])


class Filters(Base):
    def setUp(self):
        super().setUp()
        levels = ("INFO", "WARN", "ERROR", "DEBUG", "FATAL")
        self.put("a.log", "".join("%s %s entry %d of (a+b)\n" % (stamp(n * 1000), levels[n % 5], n) for n in range(300)))
        self.begin()

    def numbers(self, **more):
        return [int(re.search(r"entry (\d+)", t).group(1)) for t in self.texts("a", **{"limit": 1000, **more})]

    def at(self, seconds, form="%Y-%m-%dT%H:%M:%SZ"):
        return (BEGIN + datetime.timedelta(seconds=seconds)).strftime(form)

    def test_time(self):
        self.assertEqual(self.numbers(startTime=self.at(10), endTime=self.at(12)), [10, 11, 12])
        self.assertEqual(self.numbers(startTime=self.at(10, "%Y-%m-%dT%H:%M:%S.000001Z"), endTime=self.at(11, "%Y-%m-%dT%H:%M:%S.9Z")), [11])
        hours = datetime.timedelta(hours=8)
        self.assertEqual(self.numbers(startTime=(BEGIN + hours).strftime("%Y-%m-%dT%H:%M:%S+08:00"),
                                      endTime=(BEGIN - hours).strftime("%Y-%m-%dT%H:%M:%S-08:00")), [0])
        self.assertEqual(self.numbers(startTime=self.at(301), endTime=self.at(400)), [])

    def test_level(self):
        self.assertEqual(self.numbers(logLevel=["warning", "Fatal"]), [n for n in range(300) if n % 5 in (1, 4)])
        self.assertEqual(self.numbers(logLevel=["TRACE"]), [])
        self.assertEqual(self.numbers(logLevel=["TRACE", "ALL"]), list(range(300)))

    def test_words(self):
        self.assertEqual(self.numbers(keyword=["entry 29", "9 of"]), [29, 299])
        self.assertEqual(self.numbers(keyword=["(a+b)"], excludeKeyword=["1", "2", "3"]),
                         [n for n in range(300) if not set(str(n) + "0") & set("123") and not set(stamp(n * 1000)[20:]) & set("123")
                          and not re.search("[123]", stamp(n * 1000))])
        self.assertEqual(self.numbers(keyword=["entry [12]?5 "], keywordType="REGEX"), [5, 15, 25])
        self.assertEqual(self.numbers(keyword=["^.*entry (7|8) of .a\\+b.$"], keywordType="REGEX"), [7, 8])
        self.assertEqual(self.numbers(keyword=["entry 1"], excludeKeyword=["entry [0-9]{1,2} "], excludeKeywordType="REGEX"), list(range(100, 200)))
        self.assertEqual(self.numbers(keyword=["Entry"]), [])
        self.assertEqual(self.numbers(keyword=[""], excludeKeyword=[""]), list(range(300)))

    def test_limit_and_nulls(self):
        self.assertEqual(len(self.entries("a")), 200)
        self.assertEqual(len(self.entries("a", limit=7)), 7)
        nulls = dict.fromkeys(("keyword", "keywordType", "excludeKeyword", "excludeKeywordType", "logLevel", "limit", "lastQueryFileId",
                               "lastQueryFileOffset", "reqId"))
        self.assertEqual(len(self.entries("a", unknown={"deep": [1]}, **nulls)), 200)
        self.assertEqual(len(self.entries("a", lastQueryFileId="0", lastQueryFileOffset=0)), 200)
        self.assertEqual(len(self.entries("a", lastQueryFileId="", lastQueryFileOffset=0)), 200)

    def test_bad_input(self):
        first = self.ask("a", limit=1).data
        for field, body in [("JSON", "{"), ("JSON", "[]"), ("JSON", ""), ("logType", {}), ("logType", {"logType": ""}), ("logType", {"logType": 1}),
                            ("startTime", {"logType": "a"}), ("startTime", {"logType": "a", "startTime": "yesterday"}),
                            ("endTime", {"logType": "a", "startTime": "2024-01-01T00:00:00Z"}),
                            ("endTime", {"endTime": "2024-02-30T00:00:00Z"}), ("endTime", {"endTime": "1969-12-31T23:59:59Z"}),
                            ("startTime", {"startTime": 5}), ("keyword:", {"keyword": "a"}), ("keyword:", {"keyword": [1]}),
                            ("keyword:", {"keyword": ["a"] * 33}), ("keyword:", {"keyword": ["a" * 513]}), ("keyword:", {"keyword": ["a\nb"]}),
                            ("keyword:", {"keyword": ["a(b"], "keywordType": "REGEX"}), ("keyword:", {"keyword": ["a" * 500] * 20}),
                            ("excludeKeyword:", {"excludeKeyword": ["[b"], "excludeKeywordType": "REGEX"}),
                            ("keywordType", {"keywordType": "GLOB"}), ("excludeKeywordType", {"excludeKeywordType": 7}),
                            ("logLevel", {"logLevel": "INFO"}), ("limit", {"limit": -1}), ("limit", {"limit": 10001}), ("limit", {"limit": "7"}),
                            ("lastQueryFileId", {"lastQueryFileId": "7"}), ("lastQueryFileId", {"lastQueryFileId": "x" * 40}),
                            ("lastQueryFileId", {"lastQueryFileId": 7}), ("lastQueryFileId", {"lastQueryFileId": first["fileId"][:-9] + "000000001", "lastQueryFileOffset": 9}),
                            ("lastQueryFileOffset", {"lastQueryFileId": first["fileId"], "lastQueryFileOffset": -1})]:
            with self.subTest(field, body=body):
                if isinstance(body, dict) and field not in ("logType", "startTime", "endTime") or isinstance(body, dict) and len(body) == 1 and body.keys() & {"startTime", "endTime"}:
                    body = {"logType": "a", **ALWAYS, **body}
                r = self.h.post(QUERY, body)
                self.assertEqual(r.status, 400, r)
                self.assertIn(field, r.message)
        r = self.h.post(DOWNLOAD, {**ALWAYS, "logType": "a"})
        self.assertEqual((r.status, "logType" in r.message), (400, True), r)
        r = self.h.post(DOWNLOAD, {**ALWAYS, "logType": ["a"], "keyword": ["(" * 9], "keywordType": "REGEX"})
        self.assertEqual((r.status, "keyword" in r.message), (400, True), r)

    def test_as_any_call(self):
        h = self.h
        for path in (QUERY, DOWNLOAD, "/api/v2" + QUERY):
            r = h.http("OPTIONS", path)
            self.assertEqual((r.status, r.headers["Allow"]), (204, "POST, OPTIONS"))
            self.assertEqual(h.http("GET", path).status, 405)
        self.assertEqual(h.http("POST", QUERY, {"Content-Type": "text/plain"}, "{}").status, 415)
        r = h.post(QUERY, {"logType": "a", **ALWAYS}, {"X-OCP-Trace-ID": "0123456789abcdef"})
        self.assertEqual(set(r.json), harness.ENVELOPE)
        self.assertEqual((r.json["traceId"], r.json["successful"], r.json["status"]), ("0123456789abcdef", True, 200))
        self.assertEqual(h.post(DOWNLOAD, {"logType": ["a"], **ALWAYS}, {"Accept": "application/zip"}).status, 200)
        self.assertEqual(h.post(DOWNLOAD, {"logType": ["a"], **ALWAYS}, {"Accept": "text/html"}).status, 406)
        if test_openapi.jsonschema:
            doc = test_openapi.Document(h.http("GET", "/openapi.json").body)
            for path, body in ((QUERY, {"logType": "a"}), (DOWNLOAD, {"logType": ["a"]}), (QUERY, {}), (DOWNLOAD, {"logType": ["none"]})):
                r = h.post(path, {**ALWAYS, **body})
                self.assertEqual(doc.judge("POST", path, r.status, {k.lower(): v for k, v in r.headers.items()}, r.body), [], (path, body))
        self.assertRegex(h.http("GET", "/metrics").body.decode(), r'agentd_http_requests_total{method="POST",code="2xx"} [4-9]')
        h.stop()

    def test_patterns_that_want_all(self):
        """What a pattern takes of memory or time is its own process's: nobody waits for it."""
        for pattern in ("(((a{1,255}){1,255}){1,255}){1,255}", "(" * 250 + "a" + ")*" * 250):
            r = self.h.post(QUERY, {"logType": "a", **ALWAYS, "keyword": [pattern], "keywordType": "REGEX"})
            self.assertIn(r.status, (200, 400, 500), r)
            self.assertEqual(self.h.record("web")["state"], "UP")

    def test_a_pattern_that_wants_memory_when_it_is_tried(self):
        """It is told, and not taken for one that is nowhere."""
        h, chance = self.h, random.Random(harness.SEED)
        for n in range(4):
            self.put("b.log", "%s INFO %s\n" % (stamp(n), "".join(chance.choices("ab", k=65000))))
        for field in ("keyword", "excludeKeyword"):
            c = h.connect(100)
            c.request("POST", QUERY, json.dumps({"logType": "b", **ALWAYS, field: ["(a|b)*a.{200}z"], field + "Type": "REGEX"}), {"Content-Type": "application/json"})
            part = eventually(lambda: [p for f in harness.forks(h.pid) for p in harness.children(f)], what="a search")[0]
            soft, hard = eventually(lambda part=part: (lambda l: l[0] != resource.RLIM_INFINITY and l)(resource.prlimit(part, resource.RLIMIT_DATA)), what="its limit")
            resource.prlimit(part, resource.RLIMIT_DATA, (soft - (224 << 20), hard))  # seconds sooner
            r = harness.Reply.of(c.getresponse())
            self.assertEqual((r.status, r.message if r.status != 200 else ""), (400, "keyword: a pattern wants more memory than a search may take"), r)
            c.close()
    test_a_pattern_that_wants_memory_when_it_is_tried.LONG = True  # their allocator does not fail, it ends the program


class Ctl(Base):
    """agentctl search and collect: page after page, as many as are wanted."""

    def ctl(self, *words, code=0, **how):
        r = subprocess.run([harness.STAGED + "/agentctl", "--socket", self.h.socket, *words], env=self.h.environment(), timeout=harness.DEADLINE,
                           check=False, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how})
        self.assertEqual(r.returncode, code, r)
        return r

    def lines(self, *words):
        return self.ctl("search", *words).stdout.decode().splitlines()

    def test_search(self):
        texts = ["%s INFO entry %d is %s" % (stamp(n), n, "red" if n % 7 == 0 else "blue") for n in range(1001)]
        self.put("a.log", "".join(t + "\n" for t in texts))
        self.begin()
        told = self.lines("a")
        self.assertEqual(sorted(told), sorted(texts))
        self.assertEqual(self.lines("a", "-n", "1"), told[:1])
        self.assertEqual(self.lines("a", "-n", "501"), told[:501])
        self.assertEqual(self.lines("a", "is", "red"), [t for t in told if t.endswith("red")])
        self.h.stop()

    def test_collect(self):
        for name in "ab":
            self.put(name + ".log", "%s INFO of %s\n" % (stamp(0), name))
        self.begin()
        found = zipfile.ZipFile(io.BytesIO(self.ctl("collect", "a", "b").stdout))
        self.assertEqual(sorted(i.filename.split("/")[-1] for i in found.infolist()), ["a.log", "b.log"])
        with open("/dev/full", "wb") as full:
            self.assertIn(b"the archive can't be written", self.ctl("collect", "a", stdout=full, code=1).stderr)
        self.h.stop()


class Files(Base):
    def names(self, logType, **more):
        seen = []
        for e in self.entries(logType, limit=10000, **more):
            if not seen or seen[-1] != e["fileName"]:
                seen.append(e["fileName"])
        return seen

    def test_which_and_in_which_order(self):
        order = ["observer.log.20231231235959", "observer.log.20240101000000123", "observer.log.11.gz", "observer.log.10", "observer.log.2.gz",
                 "observer.log.1", "observer.log"]
        for n, name in enumerate(order):
            text = "%s INFO of %s\n" % (stamp(n), name)
            if name.endswith(".gz"):
                with gzip.open(self.files + "/" + name, "wt") as f:
                    f.write(text)
            else:
                self.put(name, text)
        self.put("observer.log.2.bz2", "nothing that is read\n")
        self.put("observer.log.wf", "%s WARN twice\n" % stamp(0))
        self.put("observer.log.wf.20240101000000", "%s WARN twice\n" % stamp(0))
        self.put("observer_start.log", "%s INFO starts\n" % stamp(0))
        self.put("rootservice.log", "%s INFO root\n" % stamp(0))
        self.put("observers.log", "%s INFO others\n" % stamp(0))
        self.put(".observer.log", "%s INFO hidden\n" % stamp(0))
        self.put("second_more.log", "%s INFO of no worker of that name\n" % stamp(0))
        self.h.worker("second", "--stdout captured")
        self.begin(args="--stdout captured")
        self.written("web", "captured\n")
        self.written("second", "captured\n")
        self.assertEqual(self.names("observer"), order + ["observer_start.log"])
        self.assertEqual(self.names("observer.log"), order)
        self.assertEqual(self.names("observer.log.wf"), ["observer.log.wf.20240101000000", "observer.log.wf"])
        self.assertEqual(self.names("rootservice"), ["rootservice.log"])
        self.assertEqual(self.names("second"), ["second.log"])
        self.assertEqual(self.names("web"), order + ["observer_start.log", "observers.log", "rootservice.log", "second_more.log", "web.log"], "all of one worker")
        self.assertEqual(self.archive("observer", "observer.log", "second").namelist(),
                         [n.replace(".gz", "") for n in order] + ["observer_start.log", "second.log"])
        r = self.ask("nobody", 404)
        for name in ("nobody", "web", "second", "observer", "rootservice", "observer_start"):
            self.assertIn(name, r.message)
        for name in ("../files/observer", "*", "observer*", "obs"):
            self.ask(name, 404)
        self.h.stop()

    def test_files_of_other_times_are_not_read(self):
        """They tell by what is in them if they were: lines of the time that is asked for."""
        asked = "%s INFO mid\n" % stamp(3600000)
        for name, hours in (("a.log.3", -9), ("a.log.2", 0.5), ("a.log.1", 1.5), ("a.log", 3.5)):
            at = BEGIN.timestamp() + hours * 3600
            os.utime(self.put(name, asked), (at, at))
        self.begin()

        def names(start, end):
            return self.names("a", startTime="2024-01-02T%sZ" % start, endTime="2024-01-02T%sZ" % end)
        self.assertEqual(names("04:00:00", "04:30:00"), ["a.log.1"], "written from 03:34 to 04:34")
        self.assertEqual(names("03:34:00", "04:34:30"), ["a.log.2", "a.log.1", "a.log"], "a minute more or less counts not")
        self.assertEqual(len(self.texts("a")), 4)
        self.h.stop()

    @needs_root
    def test_several_users(self):
        """Each one's files are read as that user."""
        for n, alias in enumerate(("aa", "bb", "cc", "dd")):
            uid = harness.ORDINARY if n % 2 else harness.ORDINARY - 1
            folder = "%s/%s" % (self.h.dir, alias)
            os.mkdir(folder, 0o700)
            with open(folder + "/app.log", "w", encoding="ascii") as f:
                f.write("%s INFO of %s\n" % (stamp(n), alias))
            for path in (folder, folder + "/app.log"):
                os.chown(path, uid, uid)
            self.h.worker(alias, "", "User=%d\nGroup=%d" % (uid, uid), "LogFilePattern=%s/*.log" % folder)
        self.h.start()
        self.h.all_up()
        found, cursor = [], {}
        while page := self.ask("app", limit=1, **cursor).data:
            if not page["logEntries"]:
                break
            found += [e["logLine"] for e in page["logEntries"]]
            cursor = {"lastQueryFileId": page["fileId"], "lastQueryFileOffset": page["fileOffset"]}
        self.assertEqual(sorted(found), ["%s INFO of %s" % (stamp(n), a) for n, a in enumerate(("aa", "bb", "cc", "dd"))])
        self.assertEqual(len(self.archive("app").namelist()), 4)
        self.assertEqual(set(self.archive("app").namelist()), {"app.log", "bb/app.log", "cc/app.log", "dd/app.log"})
        self.h.stop()


    @needs_root
    def test_several_groups(self):
        """Of one user in different groups, and of one group with different users: each one's files are read as what its worker is."""
        me, other = harness.ORDINARY, harness.ORDINARY - 1
        rows = {"aa": (0, me, "User=%d\nGroup=%d" % (me, me)), "bb": (0, other, "User=%d\nGroup=%d" % (me, other)),
                "cc": (0, me - 2, "User=%d\nGroup=%d\nSupplementaryGroups=%d" % (me, me, me - 2)), "dd": (other, 0, "User=%d\nGroup=%d" % (other, me))}
        for n, (alias, (uid, gid, service)) in enumerate(rows.items()):
            folder = "%s/%s" % (self.h.dir, alias)
            os.mkdir(folder, 0o750)
            with open(folder + "/app.log", "w", encoding="ascii") as f:
                f.write("%s INFO of %s\n" % (stamp(n), alias))
            os.chown(folder, uid, gid)
            self.h.worker(alias, "", service, "LogFilePattern=%s/*.log" % folder)
        self.h.start()
        self.h.all_up()
        self.assertEqual(self.texts("app"), ["%s INFO of %s" % (stamp(n), alias) for n, alias in enumerate(rows)])
        self.h.stop()


@needs_root
class Planted(Base):
    """The worker's user owns the folder, and puts there what is not his."""

    def test_nothing_outside_is_read(self):
        h = self.h
        secret = "%s INFO top secret\n" % stamp(0)
        h.write("secret", secret, 0o600)
        h.write("public", secret, 0o644)
        os.symlink(h.dir + "/secret", self.files + "/a.log.1")
        os.symlink(h.dir + "/public", self.files + "/a.log.2")
        os.symlink(h.dir + "/public", self.files + "/a.log.3.gz")
        os.link(h.dir + "/public", self.files + "/a.log.4")
        os.link(h.dir + "/secret", self.files + "/a.log.5")
        os.mkfifo(self.files + "/a.log.6")
        os.mkfifo(self.files + "/a.log.7.gz")
        os.mkdir(self.files + "/a.log.8")
        os.symlink("/dev/zero", self.files + "/a.log.9")
        self.put("a.log.10", secret)
        os.chmod(self.files + "/a.log.10", 0o600)  # root's
        self.put("a.log", "%s INFO mine\n" % stamp(0))
        self.put("hard.log", "")
        os.unlink(self.files + "/hard.log")
        os.link(h.dir + "/public", self.files + "/hard.log")
        me = harness.ORDINARY
        for path in (self.files, self.files + "/a.log", self.files + "/a.log.6", self.files + "/a.log.7.gz", self.files + "/a.log.8"):
            os.chown(path, me, me)
        self.begin(service="User=%d\nGroup=%d" % (me, me))
        self.assertEqual(self.texts("a"), [stamp(0) + " INFO mine"])
        z = self.archive("a", "web")
        self.assertEqual(z.namelist(), ["a.log"])
        self.assertEqual(z.read("a.log").decode(), stamp(0) + " INFO mine\n")
        self.assertIn(self.ask("hard", 500).message.split(":")[0], ("hard.log",))
        os.rename(self.files, self.files + "2")
        os.symlink("/root", self.files)
        self.ask("a", 404)
        os.unlink(self.files)
        os.symlink(self.files + "2", self.files)
        self.assertEqual(self.texts("a"), [stamp(0) + " INFO mine"], "a link that its user may follow leads to what he may read")
        h.stop()


class Pages(Base):
    """Every entry once, whatever happens to the files between two pages."""

    def setUp(self):
        super().setUp()
        self.chance = random.Random(harness.SEED)
        self.written, self.n = [], 0

    def more(self, n):
        for _ in range(n):
            text = "%s INFO entry %d" % (stamp(self.n), self.n)
            for k in range(self.chance.choice((0, 0, 0, 1, 3))):
                text += "\n  of %d, line %d" % (self.n, k)
            self.written.append(text)
            self.n += 1
            self.put("app.log", text + "\n")

    def page(self, cursor):
        page = self.ask("app", limit=self.chance.randrange(1, 8), **cursor).data
        if page["logEntries"]:
            last = page["logEntries"][-1]
            self.assertEqual((last["fileId"], last["fileOffset"]), (page["fileId"], page["fileOffset"]))
        return page["logEntries"], {"lastQueryFileId": page["fileId"], "lastQueryFileOffset": page["fileOffset"]}

    def rotate(self, pack):
        path = self.files + "/app.log"
        for n in range(60, 0, -1):
            for end in ("", ".gz"):
                if os.path.exists("%s.%d%s" % (path, n, end)):
                    os.rename("%s.%d%s" % (path, n, end), "%s.%d%s" % (path, n + 1, end))
        if pack and os.path.exists(path + ".2"):
            with open(path + ".2", "rb") as f, gzip.open(path + ".2.gz", "wb") as z:
                shutil.copyfileobj(f, z)
            shutil.copystat(path + ".2", path + ".2.gz")
            os.unlink(path + ".2")
        os.rename(path, path + ".1")

    def drain(self, cursor, found):
        while True:
            entries, cursor = self.page(cursor)
            if not entries:
                return cursor
            found += [e["logLine"] for e in entries]

    def test_renamed_and_packed(self):
        self.more(10)
        self.begin("app.log")
        found, cursor = [], {}
        for i in range(60):
            self.more(self.chance.randrange(4))
            if i % 7 == 3:
                self.rotate(pack=i % 2)
                if i % 3:
                    self.more(1)
                elif i % 5 == 0:
                    self.put("app.log", "")
            entries, cursor = self.page(cursor)
            found += [e["logLine"] for e in entries]
            self.assertEqual(found, self.written[:len(found)])
        self.drain(cursor, found)
        self.assertEqual(found, self.written)
        self.assertEqual(self.texts("app", limit=10000), self.written)
        z = self.archive("app")
        self.assertEqual("".join(z.read(n).decode() for n in z.namelist()), "".join(t + "\n" for t in self.written))
        self.h.stop()

    def test_the_writer_goes_on_with_the_renamed_one(self):
        """As with logrotate, until it opens its log anew."""
        self.more(3)
        self.begin("app.log")
        found = []
        cursor = self.drain({}, found)
        path = self.files + "/app.log"
        os.rename(path, path + ".1")
        cursor = self.drain(cursor, found)
        open(path, "w", encoding="ascii").close()
        cursor = self.drain(cursor, found)
        late = "%s INFO late" % stamp(self.n)
        self.put("app.log.1", late + "\n")
        self.written.append(late)
        cursor = self.drain(cursor, found)
        self.more(2)
        cursor = self.drain(cursor, found)
        self.assertEqual(found, self.written)
        # copied and emptied
        self.more(2)
        shutil.copy(path, path + ".0")
        os.truncate(path, 0)
        self.more(3)
        self.drain(cursor, found)
        self.assertEqual(found, self.written)
        self.h.stop()

    def test_lines_that_come_later(self):
        self.begin("app.log")
        self.put("app.log", "%s ERROR one\n" % stamp(0))
        page = self.ask("app").data
        self.put("app.log", "  its trace\n  more of it\n%s INFO two\n%s INFO half" % (stamp(1), stamp(2)))
        at = {"lastQueryFileId": page["fileId"], "lastQueryFileOffset": page["fileOffset"]}
        page = self.ask("app", **at).data
        self.assertEqual([(e["logLine"], e["logLevel"], e["logAt"]) for e in page["logEntries"]],
                         [("  its trace\n  more of it", "ERROR", "2024-01-02T03:04:05.000+00:00"), (stamp(1) + " INFO two", "INFO", "2024-01-02T03:04:05.001+00:00")])
        self.put("app.log", " and its other half\n")
        at = {"lastQueryFileId": page["fileId"], "lastQueryFileOffset": page["fileOffset"]}
        self.assertEqual(self.texts("app", **at), [stamp(2) + " INFO half and its other half"])
        path = self.put("app.log", "%s INFO never ended" % stamp(3))
        new = time.time() + 60
        os.utime(path, (new, new))
        self.assertEqual(self.texts("app", keyword=["never"]), [], "it may not be whole yet")
        old = time.time() - 60
        os.utime(path, (old, old))
        page = self.ask("app", keyword=["never"]).data
        self.assertEqual([e["logLine"] for e in page["logEntries"]], [stamp(3) + " INFO never ended"])
        self.put("app.log", ", but it was\n")
        at = {"lastQueryFileId": page["fileId"], "lastQueryFileOffset": page["fileOffset"]}
        self.assertEqual(self.texts("app", **at), [", but it was"])
        self.h.stop()

    def test_a_file_that_is_gone(self):
        self.more(3)
        self.begin("app.log")
        page = self.ask("app", limit=2).data
        at = {"lastQueryFileId": page["fileId"], "lastQueryFileOffset": page["fileOffset"]}
        os.unlink(self.files + "/app.log")
        self.put("app.log", "%s INFO of another file, which may have the same inode\n" % stamp(7))
        self.assertIn("lastQueryFileId", self.ask("app", 400, **at).message)
        self.h.stop()

    def captured(self, lines, each, ms, section):
        h = self.h
        h.worker("w", "--lines %d 100 %d %d --pid-file %s/w.done" % (lines, each, ms, h.dir), section=section)
        h.start()
        found, cursor = [], {}

        def is_done():
            return os.path.exists(h.dir + "/w.done")
        while True:
            done = is_done()
            page = self.ask("w", limit=self.chance.randrange(1, 8) if len(found) < 300 else self.chance.randrange(1, 5000), **cursor).data
            found += [int(e["logLine"][:10]) for e in page["logEntries"]]
            cursor = {"lastQueryFileId": page["fileId"], "lastQueryFileOffset": page["fileOffset"]}
            if done and not page["logEntries"]:
                break
        self.all_of(found, lines)

    def all_of(self, found, n):
        wrong = next((i for i, k in enumerate(found) if k != i), len(found))
        self.assertEqual((wrong, len(found)), (n, n), found[max(wrong - 3, 0):wrong + 3])

    def test_rotated_by_agentd(self):
        self.captured(60000, 50, 2, "LogMaxSize=256K\nLogMaxFiles=1000")
        self.assertTrue(os.path.exists(self.h.logs + "/w.log.3"), os.listdir(self.h.logs))
        self.all_of([int(x[:10]) for x in self.texts("w", limit=10000)], 10000)
        z = self.archive("w")
        self.assertEqual(z.namelist(), ["w.log"])
        self.all_of([int(x[:10]) for x in z.read("w.log").split(b"\n")[:-1]], 60000)
        self.h.stop()

    def test_rotated_and_packed_by_agentd(self):
        self.captured(60000, 50, 2, "LogMaxSize=256K\nLogMaxFiles=1000\nLogCompress=yes")
        eventually(lambda: os.path.exists(self.h.logs + "/w.log.3.gz"), what="a packed file of %r" % os.listdir(self.h.logs))
        z = self.archive("w")
        self.assertEqual(z.namelist(), ["w.log"])
        self.all_of([int(x[:10]) for x in z.read("w.log").split(b"\n")[:-1]], 60000)
        self.h.stop()


class Archives(Base):
    def test_line_by_line(self):
        names = {"a.log": 5000, "a.log.1": 3000, "b.log": 1, "empty.log": 0}
        texts = {n: ["%s %s %s %d" % (stamp(i), ("INFO", "ERROR")[i % 2], n, i) for i in range(k)] for n, k in names.items()}
        for name, lines in texts.items():
            self.put(name, "".join(t + "\n" for t in lines))
        self.begin()
        z = self.archive("web", logLevel=["ERROR"], excludeKeyword=["17"])
        self.assertIsNone(z.testzip())
        for name, lines in texts.items():
            want = [t for t in lines if " ERROR " in t and "17" not in t]
            self.assertEqual(name in z.namelist(), bool(want))
            if want:
                self.assertEqual(z.read(name).decode().splitlines(), want)
                self.assertEqual(z.getinfo(name).compress_type, zipfile.ZIP_DEFLATED)
        path = self.h.dir + "/all.zip"
        r = self.h.post(DOWNLOAD, {"logType": ["web", "none-of-it"], **ALWAYS})
        with open(path, "wb") as f:
            f.write(r.body)
        if shutil.which("unzip"):
            subprocess.run(["unzip", "-tqq", path], check=True, timeout=harness.DEADLINE)
        z = zipfile.ZipFile(path)
        self.assertEqual({n: z.read(n).decode().splitlines() for n in z.namelist()}, {n: t for n, t in texts.items() if t})
        self.assertEqual(self.archive("web", keyword=["nowhere"]).namelist(), [])
        with open(os.fsencode(self.files) + b"/caf\xe9-\xc3\xa9.log", "w", encoding="ascii") as f:
            f.write("%s INFO named as it is\n" % stamp(0))
        self.assertEqual(self.archive("web", keyword=["named"]).namelist(), ["caf_-\u00e9.log"])
        self.assertEqual(self.h.post(DOWNLOAD, {"logType": ["none", "neither"], **ALWAYS}).status, 404)
        self.h.stop()

    def test_some_at_once_and_who_leaves(self):
        """Four at once; a client that goes away takes its search along, also in the middle of a member."""
        h = self.h
        line = "%s INFO " % stamp(0)
        with open(self.files + "/a.log", "w", encoding="ascii") as f:
            for n in range(200):
                f.write("".join("%s%d %x\n" % (line, n, random.getrandbits(2000)) for _ in range(100)))
        self.begin()
        body = json.dumps({"logType": ["a"], **ALWAYS})
        clients = [h.connect() for _ in range(4)]
        for c in clients:
            c.request("POST", DOWNLOAD, body, {"Content-Type": "application/json"})
            c.answer = c.getresponse()
            self.assertEqual(c.answer.status, 200)
            c.answer.read(1000)
        r = h.post(QUERY, {"logType": "a", **ALWAYS})
        self.assertEqual((r.status, r.headers["Retry-After"]), (429, "1"), r)
        self.assertEqual(h.record("web")["state"], "UP")
        for c in clients[1:]:
            c.answer.close()
            c.close()
        eventually(lambda: len(harness.forks(h.pid)) <= 1, what="end of the searches")
        self.assertEqual(len(self.entries("a")), 200)
        z = zipfile.ZipFile(io.BytesIO(self.rest(clients[0])))
        self.assertIsNone(z.testzip())
        eventually(lambda: not harness.forks(h.pid), what="end of all")
        h.stop()

    def test_who_leaves_before_anything_is_found(self):
        """Nothing is written meanwhile, and the pattern takes minutes."""
        h = self.h
        slow = {"keyword": ["(y*)(y*)\\1z"], "keywordType": "REGEX", **ALWAYS}
        self.put("a.log", "".join("%s INFO %s\n" % (stamp(n), "y" * 100) for n in range(20000)))
        self.begin()
        for path, body in ((QUERY, {"logType": "a", **slow}), (DOWNLOAD, {"logType": ["a"], **slow})):
            c = h.connect()
            c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            # agentd may have another helper at work
            helper, part = eventually(lambda: [(f, p) for f in harness.forks(h.pid) for p in harness.children(f)], what="a search, and its part")[0]
            self.assertEqual(h.record("web")["state"], "UP")
            c.close()
            harness.wait_gone(part)
            harness.wait_gone(helper)
        if harness.ALL:  # a minute
            r = h.post(QUERY, {"logType": "a", **slow}, timeout=100)
            self.assertEqual(r.status, 503, r)
            at = re.search(r'lastQueryFileId "(\d+)" and lastQueryFileOffset (\d+)', r.message)
            self.assertGreater(int(at.group(2)), 0)
            found = self.texts("a", lastQueryFileId=at.group(1), lastQueryFileOffset=int(at.group(2)), limit=1)
            self.assertIn("INFO y", found[0])
        h.stop()

    def test_one_that_dies(self):
        """What is not whole is not taken for an answer."""
        h = self.h
        slow = {"keyword": ["(y*)(y*)\\1z"], "keywordType": "REGEX", **ALWAYS}
        text = "".join("%s INFO %s\n" % (stamp(n), "y" * 100) for n in range(5000))
        self.put("a.log", "%s INFO z\n" % stamp(0) + text)
        self.put("b.log", text)
        self.begin()

        def part():
            return [p for f in harness.forks(h.pid) for p in harness.children(f)]
        for path, logType, status in ((QUERY, "b", 500), (DOWNLOAD, ["b"], 500), (DOWNLOAD, ["a"], 200)):
            c = h.connect()
            c.request("POST", path, json.dumps({"logType": logType, **slow}), {"Content-Type": "application/json"})
            if status == 200:
                r = c.getresponse()  # it has found one, and goes on
            os.kill(eventually(part, what="a search")[0], signal.SIGKILL)
            if status == 200:
                self.assertEqual(r.status, 200)
                self.assertRaises((http.client.IncompleteRead, ConnectionResetError), r.read)
            else:
                r = harness.Reply.of(c.getresponse())
                self.assertEqual((r.status, "failed" in r.message), (500, True), r)
            c.close()
            eventually(lambda: not part(), what="its end")
        h.stop()

    def test_one_that_takes_too_long(self):
        """Of the processor: it is told so, as long as the limit that says so is below the one that kills."""
        h = self.h
        self.put("a.log", "".join("%s INFO %s\n" % (stamp(n), "y" * 100) for n in range(5000)))
        self.begin()
        c = h.connect()
        c.request("POST", QUERY, json.dumps({"logType": "a", "keyword": ["(y*)(y*)\\1z"], "keywordType": "REGEX", **ALWAYS}), {"Content-Type": "application/json"})
        part = eventually(lambda: [p for f in harness.forks(h.pid) for p in harness.children(f)], what="a search")[0]

        def limits():
            soft, hard = resource.prlimit(part, resource.RLIMIT_CPU)
            return soft != resource.RLIM_INFINITY and (soft, hard)
        soft, hard = eventually(limits, what="its limits")
        self.assertLess(soft, hard)
        resource.prlimit(part, resource.RLIMIT_CPU, (1, hard))
        r = harness.Reply.of(c.getresponse())
        self.assertEqual((r.status, "it took too long" in r.message), (500, True), r)
        c.close()
        h.stop()

    @needs_root
    def test_files_that_hang(self):
        h = self.h
        self.put("a.log", "%s INFO x\n" % stamp(0))
        self.put("b.log", "%s INFO y\n" % stamp(0))
        self.begin()
        hung = test_logs.Hung(self.files + "/a.log")
        self.addCleanup(hung.close)
        clients = [h.connect() for _ in range(4)]
        for c in clients:
            c.request("POST", QUERY, json.dumps({"logType": "a", **ALWAYS}), {"Content-Type": "application/json"})
        eventually(lambda: len(harness.forks(h.pid)) == 4, what="four searches")
        self.ask("b", 429)
        for c in clients:
            c.close()
        eventually(lambda: not harness.forks(h.pid), 10, "end of the searches")
        self.assertEqual(self.texts("b"), [stamp(0) + " INFO y"])
        hung.close()
        h.stop()

    def rest(self, client):
        """The whole of an answer of which a thousand bytes were read; those are asked for again, as they are the same."""
        tail = client.answer.read()
        client.close()
        whole = self.h.post(DOWNLOAD, {"logType": ["a"], **ALWAYS}).body
        self.assertEqual(whole[1000:], tail)
        return whole


class Big(Base):
    MB = 1024 if harness.ALL else 64

    def test_memory_and_others(self):
        """Neither of the two grows by what is read, and agentd answers meanwhile."""
        h, rows = self.h, 0
        block = "".join("%s INFO [STORAGE] (file.cpp:%d) [1][T1_L][Y0-0] nothing of interest(ret=0, value=%d)\n" % (stamp(i), i, i * 7919) for i in range(10000))
        with open(self.files + "/big.log", "w", encoding="ascii") as f:
            while f.tell() < self.MB << 20:
                f.write(block)
                rows += 10000
            f.write("%s ERROR needle\n" % stamp(20000))
        self.begin()
        rpc = h.rpc_pid()
        self.ask("big", limit=1)
        before = harness.private_kb(h.pid), harness.private_kb(rpc)
        slowest, done = [0.0], threading.Event()

        def others():
            while not done.is_set():
                start = time.monotonic()
                assert h.http("GET", "/agentd/v1/workers/web").status == 200
                slowest[0] = max(slowest[0], time.monotonic() - start)
        t, failed = harness.background(others)
        start = time.monotonic()
        self.assertEqual(self.texts("big", keyword=["needle"]), [stamp(20000) + " ERROR needle"])
        plain = time.monotonic() - start
        start = time.monotonic()
        self.assertEqual(self.texts("big", keyword=["n[e]{2}dle$"], keywordType="REGEX", logLevel=["ERROR"]), [stamp(20000) + " ERROR needle"])
        regex = time.monotonic() - start
        start, size, crc = time.monotonic(), 0, 0
        c = h.connect(120)
        c.request("POST", DOWNLOAD, json.dumps({"logType": ["big"], **ALWAYS}), {"Content-Type": "application/json"})
        answer = c.getresponse()
        with open(h.dir + "/big.zip", "wb") as f:
            shutil.copyfileobj(answer, f)
        c.close()
        packed = time.monotonic() - start
        with zipfile.ZipFile(h.dir + "/big.zip") as z, z.open("big.log") as member:
            self.assertEqual(sum(chunk.count(b"\n") for chunk in iter(lambda: member.read(1 << 20), b"")), rows + 1)
        done.set()
        t.join(harness.DEADLINE)
        self.assertEqual(failed, [None])
        after = harness.private_kb(h.pid), harness.private_kb(rpc)
        print("# %d MB: words %.2f s, pattern and level %.2f s, archive %.2f s; slowest other answer %.1f ms; grown by %d and %d KB"
              % (self.MB, plain, regex, packed, slowest[0] * 1000, after[0] - before[0], after[1] - before[1]))
        if not harness.SANITIZED:  # which keeps what was freed
            self.assertLess(after[0] - before[0], 2048)
            self.assertLess(after[1] - before[1], 2048)
        h.stop()
