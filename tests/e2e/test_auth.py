# SPDX-License-Identifier: Apache-2.0
"""Who may call over TCP: signed requests, tokens, passwords, how guessing is slowed, and the file they stand in.

Signatures are computed here from the documentation of OCP's interface, by Python's own means and once by the openssl command.
"""
import base64
import email.utils
import fcntl
import hashlib
import hmac
import http.client
import json
import os
import pty
import select
import signal
import socket
import stat
import subprocess
import time
import unittest
import urllib.parse

import harness
from harness import HOST_ID, Case, Reply, eventually

AK, SK = "AK20", "the/secret+key=="
TOKEN = "0f1e2d3c4b5a"
WORKERS = "/agentd/v1/workers"
START = "/api/v2" + WORKERS + "/web/start"  # of a worker that is up: changes nothing


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def text_to_sign(method, path, query, body, headers):
    """Documented as: HttpMethod, Md5Payload, ContentType, RequestDate, Host, OCP-Headers, PathAndQueryParams."""
    h = {k.lower(): v for k, v in headers.items()}
    ocp = "\n".join("%s:%s" % (k, h[k]) for k in sorted(h) if k.startswith("x-ocp-"))
    params = "&".join("%s=%s" % (urllib.parse.quote(k, safe=""), urllib.parse.quote(v, safe="")) for k, v in sorted(query))
    return "\n".join([method, hashlib.md5(body).hexdigest().upper() if body else "", h.get("content-type", ""), h["date"],
                      h["host"], ocp, path + ("?" + params if params else "")])


def signature(key, text):
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()).decode()


def by_openssl(key, text):
    r = subprocess.run(["openssl", "dgst", "-sha1", "-hmac", key, "-binary"], input=text.encode(), capture_output=True, check=True)
    return base64.b64encode(r.stdout).decode()


def date(offset=0):
    return email.utils.formatdate(time.time() + offset, usegmt=True)


class Call:
    """A request; signed() puts the signature in. What is changed after that is what the test is about."""

    def __init__(self, method="GET", path=WORKERS, query=(), body=b"", **headers):
        self.method, self.path, self.query, self.body = method, path, list(query), body
        self.headers = {"Host": "agentd.example:62888", "Date": date(), "X-Ocp-Origin": "test", "x-OCP-Trace-ID": "0123456789abcdef"}
        if body:
            self.headers["Content-Type"] = "application/json"
        self.headers.update({k.replace("_", "-"): v for k, v in headers.items()})

    def text(self):
        return text_to_sign(self.method, self.path, self.query, self.body, self.headers)

    def signed(self, ak=AK, sk=SK):
        self.headers["Authorization"] = "OCP-ACCESS-KEY-HMACSHA1 %s:%s" % (ak, signature(sk, self.text()))
        return self

    def send(self, c):
        query = "&".join("%s=%s" % (urllib.parse.quote(k, safe=""), urllib.parse.quote(v, safe="")) for k, v in self.query)
        c.putrequest(self.method, self.path + ("?" + query if query else ""), skip_host=True, skip_accept_encoding=True)
        for k, v in self.headers.items():
            c.putheader(k, v)
        if self.body or self.method == "POST":
            c.putheader("Content-Length", str(len(self.body)))
        c.endheaders(self.body or None)
        return Reply.of(c.getresponse())


def basic(user, password):
    return "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()


class Auth(Case):
    LINES = "aksk %s HOST_MANAGER %s\naksk viewer HOST_VIEWER v\nbearer ci HOST_VIEWER %s\n" % (AK, SK, sha256(TOKEN))

    def up(self, address="127.0.0.1", lines=LINES, rpc="", begun=True):
        self.port = harness.free_port()
        h = self.host(cgroup=False, rpc="ListenStream=%s:%d\n%s" % (address, self.port, rpc))
        h.write("credentials", lines, 0o600)
        self.web = h.worker("web", section="ReadyCheck=stable:10ms")
        h.start()
        h.all_up()
        if begun:  # what is signed in a listener's first second may have been taken by an earlier one
            c = self.tcp()
            eventually(lambda: Call("POST", WORKERS + "/web/start").signed().send(c).status == 200, what="a signed start")
        return h

    def tcp(self, source="127.0.0.1"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.DEADLINE, source_address=(source, 0))
        self.addCleanup(c.close)
        return c

    def get(self, c, authorization=None):
        c.request("GET", WORKERS, headers={"Authorization": authorization} if authorization else {})
        return Reply.of(c.getresponse())

    def ways(self, r):
        return [w.split()[0] for w in r.headers.get_all("WWW-Authenticate", [])]

    def refused(self, r):
        """By 401, and by words that are the same whatever is wrong."""
        self.assertEqual(r.status, 401, r)
        self.assertEqual(r.message, self.words)
        self.assertNotIn("Retry-After", r.headers)

    @property
    def words(self):
        return "credentials are missing or wrong"


class Signed(Auth):
    def test_get_and_post(self):
        h = self.up()
        c = self.tcp()
        r = Call().signed().send(c)
        self.assertEqual(r.status, 200, r)
        self.assertEqual(r.json["traceId"], "0123456789abcdef")
        query = [("size", "1"), ("page", "1"), ("a/b", "c d&e"), ("page-x", "")]
        r = Call(path="/api/v2/compute/hosts/%d/agent/processes" % HOST_ID, query=query).signed().send(c)
        self.assertEqual((r.status, len(r.data["contents"])), (200, 1), r)
        r = Call("POST", START, [("b", "2"), ("a", "1")], b'{"why": 1}').signed().send(c)
        self.assertEqual(r.status, 200, r)
        call = Call("POST", "/compute/hosts/%d/agent/processes/%d/restart" % (HOST_ID, self.web))
        self.assertEqual(call.signed().send(c).status, 200)
        self.assertEqual(h.ok("GET", "/agentd/v1/operations")["contents"][0]["actor"], "aksk:" + AK)
        self.assertEqual(Call("HEAD").signed().send(c).status, 200)
        self.assertEqual(Call().signed("viewer", "v").send(c).status, 200)
        self.assertEqual(Call("POST", WORKERS + "/web/restart").signed("viewer", "v").send(c).status, 403)
        h.stop()

    def test_openssl_agrees(self):
        self.up()
        call = Call("POST", START, [("b", "/x"), ("a", "1")], b'{"why": 1}')
        mac = by_openssl(SK, call.text())
        self.assertEqual(mac, signature(SK, call.text()))
        call.headers["Authorization"] = "OCP-ACCESS-KEY-HMACSHA1 %s:%s" % (AK, mac)
        self.assertEqual(call.send(self.tcp()).status, 200)

    def test_each_part_counts(self):
        self.up()
        def call():
            return Call("POST", START, [("a", "1"), ("b", "2")], b'{"why": 1}', X_Ocp_Also="yes").signed()

        def header(name, value):
            def change(c):
                c.headers[name] = value
            return change

        def method(c):
            c.method = "PUT"

        def path(c):
            c.path = WORKERS

        def query(c):
            c.query[1] = ("b", "3")

        def more_query(c):
            c.query.append(("c", ""))

        def other_body(c):
            c.body = c.body.replace(b"1", b"2")

        def no_header(c):
            del c.headers["X-Ocp-Also"]

        def other_key(c):
            c.signed(sk=SK + "x")

        def others_key(c):
            c.signed("viewer", SK)

        def nobody(c):
            c.signed("nobody")

        mac = call().headers["Authorization"].split(":")[1]
        changes = [method, path, query, more_query, other_body, no_header, other_key, others_key, nobody, header("Date", date(-60)),
                   header("Host", "other"), header("Content-Type", "application/json; charset=utf-8"), header("X-Ocp-Origin", "tes"),
                   header("X-Ocp-More", "1"), header("Authorization", "OCP-ACCESS-KEY-HMACSHA1 %s" % mac),
                   header("Authorization", "OCP-ACCESS-KEY-HMACSHA1 %s:%s" % (AK, mac[:-4])),
                   header("Authorization", "OCP-ACCESS-KEY-HMACSHA1 %s:" % AK), header("Authorization", "OCP-ACCESS-KEY-HMACSHA1 :" + mac),
                   header("Authorization", "OCP-ACCESS-KEY-HMACSHA256 %s:%s" % (AK, mac)), header("Authorization", mac)]
        for i, change in enumerate(changes):
            c = self.tcp("127.0.1.%d" % (i // 5 + 1))  # few from each, so that none is slowed
            one = call()
            change(one)
            self.refused(one.send(c))
        same = call()
        same.query.reverse()
        same.headers = dict(reversed(same.headers.items()))
        self.assertEqual(same.send(self.tcp()).status, 200)

    def test_a_header_twice(self):
        self.up()
        one = Call().signed()
        with socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE) as s:
            lines = ["%s: %s" % (k, v) for k, v in one.headers.items()]
            s.sendall(("GET %s HTTP/1.1\r\n%s\r\nX-Ocp-Origin: test\r\nConnection: close\r\n\r\n" % (WORKERS, "\r\n".join(lines))).encode())
            self.assertIn(b" 401 ", s.makefile("rb").readline())

    def test_dates(self):
        self.up()
        c = self.tcp()
        for offset in (-895, 895):
            self.assertEqual(Call(Date=date(offset)).signed().send(c).status, 200)
        for text in (date(-905), date(905), "yesterday", ""):
            self.refused(Call(Date=text).signed().send(c))

    def test_replay(self):
        h = self.up()
        c = self.tcp()
        get, post = Call().signed(), Call("POST", WORKERS + "/web/restart").signed()
        for _ in range(3):
            self.assertEqual(get.send(c).status, 200)
        self.assertEqual(post.send(c).status, 200)
        before = h.record("web")["generation"]
        self.refused(post.send(c))
        self.refused(post.send(self.tcp("127.0.0.2")))
        again = Call("POST", WORKERS + "/web/restart", Date=post.headers["Date"], X_Ocp_Nonce="1").signed()
        self.assertEqual(again.send(c).status, 200)
        self.assertEqual(h.record("web")["generation"], before + 1)
        # and the listener that comes after this one has not seen it, so it takes none that may be older than it
        pid = h.rpc_pid()
        os.kill(pid, signal.SIGKILL)
        harness.wait_gone(pid)
        r = post.send(self.tcp())
        self.assertEqual((r.status, r.headers["Retry-After"]), (503, "1"), r)
        self.assertEqual(h.record("web")["generation"], before + 1)
        self.assertEqual(get.send(self.tcp()).status, 200)
        log = h.log()
        self.assertIn("taken before", log)
        self.assertNotIn(SK, log)

    def test_first_second(self):
        """Nobody was there before an installation's first listener who could have taken it; before a later one, somebody was."""
        h = self.up(begun=False)
        self.assertEqual(Call("POST", WORKERS + "/web/start").signed().send(self.tcp()).status, 200)
        before = Call("POST", WORKERS + "/web/start", X_Ocp_Nonce="1").signed()
        h.kill()
        h.start()
        self.assertEqual(before.send(self.tcp()).status, 503)


class Ways(Auth):
    def test_bearer(self):
        h = self.up()
        c = self.tcp()
        for scheme in ("Bearer", "bearer"):
            self.assertEqual(self.get(c, "%s %s" % (scheme, TOKEN)).status, 200)
        for wrong in ("Bearer " + TOKEN[:-1], "Bearer " + TOKEN + "x", "Bearer", "Bearer " + sha256(TOKEN), basic("ci", TOKEN)):
            self.refused(self.get(c, wrong))
        c.request("POST", WORKERS + "/web/restart", headers={"Authorization": "Bearer " + TOKEN, "Content-Length": "0"})
        self.assertEqual(c.getresponse().status, 403)
        self.assertNotIn(TOKEN, h.log())

    def test_challenge_names_what_there_is(self):
        h = self.up()
        self.assertEqual(self.ways(self.get(self.tcp())), ["Bearer", "OCP-ACCESS-KEY-HMACSHA1"])
        h.write("credentials", "basic joe HOST_VIEWER $y$abcdefghij\ncert a HOST_VIEWER\n", 0o600)
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual(self.ways(self.get(self.tcp())), ["Basic"])

    def test_beyond_loopback(self):
        self.up("0.0.0.0", self.LINES + "basic joe HOST_VIEWER $y$abcdefghij\n")
        c = self.tcp()
        self.assertEqual(Call().signed().send(c).status, 200)
        for authorization in ("Bearer " + TOKEN, "Bearer x", basic("joe", "x"), "Digest x"):
            self.assertEqual(self.get(c, authorization).status, 403)
        r = self.get(c)
        self.refused(r)
        self.assertEqual(self.ways(r), ["OCP-ACCESS-KEY-HMACSHA1"])
        self.refused(Call().signed(sk="x").send(c))

    def test_beyond_loopback_if_allowed(self):
        self.up("0.0.0.0", rpc="AllowPlaintextCredentials=yes")
        self.assertEqual(self.get(self.tcp(), "Bearer " + TOKEN).status, 200)

    def test_hup_on_a_kept_connection(self):
        h = self.up()
        c = self.tcp()
        self.assertEqual(self.get(c, "Bearer " + TOKEN).status, 200)
        local = c.sock.getsockname()
        h.write("credentials", "bearer new HOST_VIEWER %s\n" % sha256("another"), 0o600)
        h.proc.send_signal(signal.SIGHUP)
        eventually(lambda: any(o["verb"] == "reload" and o["result"] == "done" for o in h.ok("GET", "/agentd/v1/operations")["contents"]))
        self.assertEqual(self.get(c, "Bearer another").status, 200)
        self.refused(self.get(c, "Bearer " + TOKEN))
        self.refused(Call().signed().send(c))
        self.assertEqual(c.sock.getsockname(), local)
        # a file that is wrong changes nothing
        h.write("credentials", "bearer x HOST_VIEWER %s\nbasic joe HOST_VIEWER secret\n" % sha256("third"), 0o600)
        r = h.http("POST", "/agentd/v1/reload")
        self.assertIn("credentials:2:23: the hash is none of crypt(3)", json.dumps(r.json))
        self.assertNotIn("secret", json.dumps(r.json))
        self.assertEqual(self.get(c, "Bearer another").status, 200)
        self.assertEqual(c.sock.getsockname(), local)


class Slowed(Auth):
    def test_by_address(self):
        h = self.up()
        c = self.tcp("127.0.0.7")
        for _ in range(10):
            self.refused(self.get(c, "Bearer wrong"))
        waits = []

        def longer():
            r = self.get(c, "Bearer wrong")
            self.assertEqual((r.status, r.message), (429, "too many wrong attempts from this address"), r)
            waits.append(int(r.headers["Retry-After"]))
            return waits[-1] == 4
        eventually(longer, what="a longer wait")
        self.assertEqual(list(dict.fromkeys(waits)), [1, 2, 4])
        # what is right passes, from there and from elsewhere; nothing sent is no attempt; elsewhere nobody waits
        self.assertEqual(self.get(c, "Bearer " + TOKEN).status, 200)
        self.assertEqual(Call().signed().send(c).status, 200)
        self.refused(self.get(c))
        self.refused(self.get(self.tcp(), "Bearer wrong"))
        self.assertEqual(h.http("GET", WORKERS).status, 200)

    def test_passwords(self):
        h = self.up()
        for user, password in (("joe", "right"), ("ann", "other")):
            subprocess.run([harness.STAGED + "/agentctl", "credential", "add", "basic", user, "HOST_VIEWER", "--file", h.dir + "/credentials"],
                           input=password + "\n", text=True, check=True, stderr=subprocess.DEVNULL)
        h.ok("POST", "/agentd/v1/reload")
        c = self.tcp("127.0.0.8")
        self.assertEqual(self.get(c, basic("joe", "right")).status, 200)
        # each wait ends, and the next one is longer: until one is long enough for what follows
        eventually(lambda: int(self.get(c, "Bearer wrong").headers.get("Retry-After", "0")) > 3, what="a long wait")
        # no password is computed there now, but who was right before still is
        self.assertEqual(self.get(c, basic("ann", "other")).status, 429)
        self.assertEqual(self.get(c, basic("joe", "wrong")).status, 429)
        self.assertEqual(self.get(c, basic("joe", "right")).status, 200)
        self.assertEqual(self.get(self.tcp(), basic("ann", "other")).status, 200)


class Verbs(Auth):
    def setUp(self):
        super().setUp()
        self.h = self.up()
        self.file = self.h.dir + "/credentials"

    def credential(self, *args, code=0, stdin=""):
        r = subprocess.run([harness.STAGED + "/agentctl", "credential", *args, "--file", self.file], input=stdin, capture_output=True,
                           text=True, timeout=harness.DEADLINE, check=False)
        self.assertEqual(r.returncode, code, r)
        if code == 0 and args[0] != "list" and "list" not in args:
            self.assertIn("agentctl reload", r.stderr)
        return r.stdout if code == 0 else r.stderr

    def reload(self):
        self.assertEqual(self.h.ctl("reload").returncode, 0)

    def content(self):
        with open(self.file, encoding="utf-8") as f:
            return f.read()

    def test_each_kind_logs_in(self):
        token = self.credential("add", "bearer", "deploy", "HOST_MANAGER").strip()
        self.assertEqual(len(token), 64)
        self.assertEqual(self.credential("add", "basic", "joe", "HOST_VIEWER", stdin="open sesame\nnot this\n"), "")
        password = self.credential("add", "basic", "ann", "HOST_VIEWER", "--generate").strip()
        made, sk = self.credential("add", "aksk", "HOST_MANAGER").split()
        ocp = json.loads(self.credential("-o", "json", "add", "aksk", "OCP", "HOST_VIEWER"))
        self.assertEqual((ocp["kind"], ocp["name"], ocp["role"]), ("aksk", "OCP", "HOST_VIEWER"))
        self.credential("add", "cert", "spiffe://example/ocp", "HOST_VIEWER")
        text = self.content()
        for secret in (token, password, "open sesame"):
            self.assertNotIn(secret, text)
        self.assertEqual(text.count(" $y$"), 2)
        c = self.tcp()
        self.assertEqual(self.get(c, "Bearer " + token).status, 401)
        self.reload()
        for authorization in ("Bearer " + token, basic("joe", "open sesame"), basic("ann", password), "Bearer " + TOKEN):
            self.assertEqual(self.get(c, authorization).status, 200)
        self.assertEqual(Call().signed(made, sk).send(c).status, 200)
        self.assertEqual(Call().signed("OCP", ocp["secret"]).send(c).status, 200)
        path = self.h.write("token", token + "\n", 0o600)
        r = subprocess.run([harness.STAGED + "/agentctl", "--url", "http://127.0.0.1:%d" % self.port, "--token-file", path, "restart", "web"],
                           capture_output=True, text=True, timeout=harness.DEADLINE, check=False)
        self.assertEqual(r.returncode, 0, r)

    def test_rotate_and_revoke(self):
        token = self.credential("rotate", "bearer", "ci").strip()
        ak, sk = self.credential("rotate", "aksk", AK).split()
        self.assertEqual(ak, AK)
        self.credential("revoke", "aksk", "viewer")
        self.reload()
        c = self.tcp()
        self.assertEqual(self.get(c, "Bearer " + token).status, 200)
        self.assertEqual(Call().signed(AK, sk).send(c).status, 200)
        self.refused(self.get(c, "Bearer " + TOKEN))
        self.refused(Call().signed().send(c))
        self.refused(Call().signed("viewer", "v").send(c))
        self.assertEqual([line.split()[1] for line in self.content().splitlines()], [AK, "ci"])

    def test_list(self):
        out = self.credential("list")
        self.assertEqual([line.split() for line in out.splitlines()],
                         [["KIND", "ROLE", "NAME"], ["aksk", "HOST_MANAGER", AK], ["aksk", "HOST_VIEWER", "viewer"],
                          ["bearer", "HOST_VIEWER", "ci"]])
        data = json.loads(self.credential("-o", "json", "list"))
        self.assertEqual(data["contents"][2], {"kind": "bearer", "name": "ci", "role": "HOST_VIEWER"})
        for secret in (SK, sha256(TOKEN)):
            self.assertNotIn(secret, out + json.dumps(data))

    def test_the_rest_of_the_file_stays(self):
        self.h.write("credentials", "# who\n\n" + self.LINES + "  # twice, by hand\nbearer ci HOST_MANAGER " + sha256("x"), 0o600)
        self.credential("rotate", "bearer", "ci")
        lines = self.content().splitlines()
        self.assertEqual(lines[:4], ["# who", ""] + self.LINES.splitlines()[:2])
        self.assertRegex(lines[4], "^bearer ci HOST_VIEWER [0-9a-f]{64}$")
        self.assertEqual(lines[5:], ["  # twice, by hand"])
        self.credential("revoke", "bearer", "ci")
        self.assertEqual(self.content().splitlines(), lines[:4] + lines[5:])

    def test_refusals(self):
        before = self.content()
        self.assertIn("there already", self.credential("add", "bearer", "ci", "HOST_VIEWER", code=1))
        self.assertIn("there is no basic joe", self.credential("revoke", "basic", "joe", code=1))
        self.assertIn("there is no basic joe", self.credential("rotate", "basic", "joe", "--generate", code=1))
        self.assertIn("standard input", self.credential("add", "basic", "joe", "HOST_VIEWER", code=1))
        self.assertIn("too long", self.credential("add", "basic", "joe", "HOST_VIEWER", code=1, stdin="x" * 300))
        for args in ((), ("add",), ("add", "basic", "joe"), ("add", "token", "x", "HOST_VIEWER"), ("add", "bearer", "x", "ROOT"),
                     ("add", "bearer", "a b", "HOST_VIEWER"), ("add", "bearer", "a\nb", "HOST_VIEWER"), ("add", "aksk", "a:b", "HOST_VIEWER"),
                     ("add", "bearer", "x" * 65, "HOST_VIEWER"), ("revoke", "bearer"), ("rotate", "cert", "x"), ("frob",)):
            self.credential(*args, code=2)
        self.assertEqual(self.content(), before)
        os.chmod(self.file, 0o640)
        self.assertIn("others than its owner", self.credential("add", "bearer", "x", "HOST_VIEWER", code=1))
        os.chmod(self.file, 0o600)
        real, self.file = self.file, self.h.dir + "/link"
        os.symlink(real, self.file)
        self.assertIn("symbolic link", self.credential("add", "bearer", "x", "HOST_VIEWER", code=1))
        self.file = self.h.dir + "/no/credentials"
        self.credential("add", "bearer", "x", "HOST_VIEWER", code=1)
        self.file = self.h.write("broken", "basic joe HOST_VIEWER secret\n" + before, 0o600)
        for args in (("list",), ("revoke", "bearer", "ci")):
            said = self.credential(*args, code=1)
            self.assertIn("broken:1:23: the hash is none of crypt(3)", said)
            self.assertNotIn("secret", said)

    def test_file_is_replaced_whole(self):
        if harness.ROOT:
            os.chown(self.file, harness.ORDINARY, harness.ORDINARY)
        before = os.stat(self.file)
        with open(self.file, encoding="utf-8") as old:
            self.credential("add", "bearer", "x", "HOST_VIEWER")
            self.assertEqual(old.read(), self.LINES)
        after = os.stat(self.file)
        self.assertNotEqual(before.st_ino, after.st_ino)
        self.assertEqual((after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)), (before.st_uid, before.st_gid, 0o600))
        self.assertEqual([n for n in os.listdir(self.h.dir) if n.startswith(".credentials")], [])
        os.unlink(self.file)
        self.credential("add", "bearer", "x", "HOST_VIEWER")
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o600)

    def test_many_at_once(self):
        lock = os.open(self.h.dir, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = [subprocess.Popen([harness.STAGED + "/agentctl", "credential", "add", "bearer", "n%d" % i, "HOST_VIEWER", "--file", self.file],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for i in range(8)]
        os.close(lock)
        for p in running:
            p.communicate(timeout=harness.DEADLINE)
            self.assertEqual(p.returncode, 0)
        self.assertEqual(len(self.content().splitlines()), 3 + 8)

    def test_terminal(self):
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(harness.STAGED + "/agentctl", ["agentctl", "credential", "add", "basic", "joe", "HOST_VIEWER", "--file", self.file])
        seen = b""

        def read_until(word):
            nonlocal seen
            while word not in seen:
                self.assertTrue(select.select([fd], [], [], harness.DEADLINE)[0], seen)
                seen += os.read(fd, 1000)
        for word in (b"Password: ", b"Once more: "):
            read_until(word)
            os.write(fd, b"unseen\n")
        read_until(b"agentctl reload")
        os.waitpid(pid, 0)
        os.close(fd)
        self.assertNotIn(b"unseen", seen)
        self.reload()
        self.assertEqual(self.get(self.tcp(), basic("joe", "unseen")).status, 200)


if __name__ == "__main__":
    unittest.main()
