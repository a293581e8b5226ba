# SPDX-License-Identifier: Apache-2.0
"""Large replies in gzip, for who takes that, and in no other case."""
import gzip
import json
import os

import test_rpc

GZIP = b"Accept-Encoding: gzip, deflate, br\r\n"


class Zip(test_rpc.Case):
    options = ("extra=300", "sample_max_age_ms=600000")

    def test_json(self):
        for path in ("/agentd/v1/workers", "/compute/hosts/20/agent", "/compute/hosts/20/agent/processes?size=1000"):
            plain, packed = self.ask("GET", path), self.ask("GET", path, GZIP)
            self.assertEqual((plain.headers["vary"], plain.headers.get("content-encoding")), ("Accept-Encoding", None))
            self.assertEqual((packed.headers["vary"], packed.headers["content-encoding"], packed.headers["content-type"]),
                             ("Accept-Encoding", "gzip", "application/json"))
            self.assertLess(len(packed.body) * 5, len(plain.body))
            one, two = plain.json["data"], json.loads(gzip.decompress(packed.body))["data"]
            for w in [one, two]:  # what grows while we look
                for p in w.get("contents") or w.get("processes"):
                    p.pop("elapsedTime"), p.pop("lastActiveTime"), p.pop("identity", None)
                w.pop("lastAvailableTime", None)
            self.assertEqual(one, two)

    def test_others(self):
        for path in ("/openapi.json", "/metrics", "/"):
            packed = self.ask("GET", path, GZIP)
            self.assertEqual(packed.headers["content-encoding"], "gzip")
            self.assertGreater(len(gzip.decompress(packed.body)), 16384)
        whole = self.ask("GET", "/openapi.json").body
        self.assertEqual(gzip.decompress(self.ask("GET", "/openapi.json", GZIP).body), whole)
        head = self.ask("HEAD", "/openapi.json", GZIP)
        self.assertEqual(head.headers["content-length"], self.ask("GET", "/openapi.json", GZIP).headers["content-length"])

    def test_who_does_not_take_it(self):
        for header in (b"", b"Accept-Encoding: identity\r\n", b"Accept-Encoding: gzip;q=0\r\n", b"Accept-Encoding: br, *;q=0\r\n",
                       b"Accept-Encoding:\r\n", b"Accept-Encoding: " + b"x," * 2000 + b"gzip\r\n"):
            r = self.ask("GET", "/agentd/v1/workers", header)
            self.assertNotIn("content-encoding", r.headers, header)
            self.assertEqual(len(r.json["data"]["contents"]), 305)

    def test_small_and_streams(self):
        for path in ("/agentd/v1/workers/web", "/healthz", "/agentd/v1/reload"):
            r = self.ask("GET", path, GZIP)
            self.assertEqual((r.headers.get("content-encoding"), r.headers.get("vary")), (None, None))
        r = self.ask("GET", "/agentd/v1/workers/web/logs/big.log?limit=100000", GZIP)
        self.assertNotIn("content-encoding", r.headers)
        self.assertEqual(len(r.body), 256 * 65536)
        self.assertEqual(self.ask("GET", "/nothing", GZIP).json["error"]["code"], 1406)

    def test_on_one_connection(self):
        c = self.client()
        one = b"GET /agentd/v1/workers HTTP/1.1\r\n" + test_rpc.HOST
        c.send((one + GZIP + b"\r\n" + one + b"\r\n") * 20)
        for n in range(40):
            r = c.reply()
            body = r.body if n % 2 else gzip.decompress(r.body)
            self.assertEqual(len(json.loads(body)["data"]["contents"]), 305)

    def private(self):
        with open("/proc/%d/smaps" % self.fake.pid, encoding="ascii") as f:
            own = [line.split() for line in f]
        total, heap = 0, False
        for words in own:
            if "-" in words[0] and not words[0].endswith(":"):
                heap = len(words) < 6 or words[5].startswith("[heap")
            total += int(words[1]) if heap and words[0] == "Private_Dirty:" else 0
        return total

    def test_memory_goes_back(self):
        if os.getuid() != 0:
            self.skipTest("needs root")
        c = self.client()
        for _ in range(5):
            c.ask("GET", "/agentd/v1/workers")
        before = self.private()
        for _ in range(50):
            self.assertEqual(c.ask("GET", "/agentd/v1/workers", GZIP).status, 200)
        if not test_rpc.SANITIZED:  # a sanitizer's allocator keeps what is freed
            self.assertLess(self.private(), before + 128, "KB; deflate alone takes more")
