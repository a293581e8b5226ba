# SPDX-License-Identifier: Apache-2.0
"""TLS: certificates of the listener and of clients, what a reload brings, and what is refused. All certificates are made by the
openssl command, and what is spoken is looked at by Python's ssl and by sslscan."""
import atexit
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

import harness
from harness import Case, Reply, eventually
from test_auth import AK, SK, Call, basic, sha256

WORKERS = "/agentd/v1/workers"
made = None  # the folder of all certificates


def openssl(*args):
    subprocess.run(["openssl", *args], cwd=made, check=True, capture_output=True, timeout=harness.DEADLINE)


def write(name, text):
    with open(os.path.join(made, name), "w", encoding="ascii") as f:
        f.write(text)


def read(name):
    with open(os.path.join(made, name), encoding="ascii") as f:
        return f.read()


def authority(name, above=None):
    if above:
        issue(name, above, ext="basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign")
    else:
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name + ".key", "-out", name + ".pem",
                "-subj", "/CN=" + name, "-days", "3650", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    write(name + ".cnf", "[ca]\ndefault_ca=d\n[d]\ndatabase=%s.index\ncrlnumber=%s.crlnumber\ndefault_md=sha256\n"
          "new_certs_dir=.\nserial=%s.serial\npolicy=p\ncopy_extensions=none\n[p]\ncommonName=supplied\n" % (name, name, name))
    write(name + ".index", "")
    write(name + ".index.attr", "unique_subject=no\n")
    write(name + ".crlnumber", "01\n")
    write(name + ".serial", "01\n")


def issue(name, ca="ca", cn=None, days=("20200101000000Z", "20991231000000Z"), ext="extendedKeyUsage=clientAuth", key=()):
    openssl("req", "-newkey", *(key or ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")), "-nodes", "-keyout", name + ".key", "-out", name + ".csr",
            "-subj", "/CN=" + (cn or name))
    write(name + ".ext", ext + "\n")
    openssl("ca", "-batch", "-config", ca + ".cnf", "-cert", ca + ".pem", "-keyfile", ca + ".key", "-in", name + ".csr", "-out", name + ".pem",
            "-notext", "-startdate", days[0], "-enddate", days[1], "-extfile", name + ".ext")


def revoked(name, ca="ca"):
    openssl("ca", "-config", ca + ".cnf", "-cert", ca + ".pem", "-keyfile", ca + ".key", "-revoke", name + ".pem")


def list_of(ca, to):
    openssl("ca", "-config", ca + ".cnf", "-cert", ca + ".pem", "-keyfile", ca + ".key", "-gencrl", "-crldays", "3650", "-out", to)


def make():
    global made
    if made:
        return
    made = tempfile.mkdtemp(prefix="agentd-tls.")
    atexit.register(shutil.rmtree, made)
    os.chmod(made, 0o755)
    authority("ca")
    authority("other")
    server = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth"
    issue("server", ext=server)
    issue("renewed", ext=server)
    issue("past", ext=server, days=("20200101000000Z", "20210101000000Z"))
    issue("alice")
    issue("manager")
    issue("nobody")
    issue("named", cn="something else", ext="extendedKeyUsage=clientAuth\nsubjectAltName=DNS:host7.example,URI:spiffe://example/ocp")
    issue("stranger", ca="other", cn="alice")
    issue("expired", cn="alice", days=("20200101000000Z", "20210101000000Z"))
    issue("early", cn="alice", days=("20980101000000Z", "20991231000000Z"))
    issue("wrong-use", cn="alice", ext="extendedKeyUsage=serverAuth")
    issue("revoked", cn="alice")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "self.key", "-out", "self.pem",
            "-subj", "/CN=alice", "-days", "3650")
    revoked("revoked")
    list_of("ca", "ca.crl")


def uid_of(pid):
    with contextlib.suppress(OSError), open("/proc/%d/status" % pid, encoding="ascii") as f:  # it may have ended
        return int(next(line for line in f if line.startswith("Uid:")).split()[1])
    return None


def memory_of(pid):
    """All that it could have written into."""
    text = b""
    with open("/proc/%d/maps" % pid, encoding="ascii") as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                with contextlib.suppress(OSError):
                    mem.seek(begin)
                    text += mem.read(end - begin)
    return text


class Tls(Case):
    LINES = ("cert alice HOST_VIEWER\ncert manager HOST_MANAGER\ncert spiffe://example/ocp HOST_VIEWER\ncert host7.example HOST_MANAGER\n"
             "aksk %s HOST_MANAGER %s\nbearer ci HOST_VIEWER %s\n" % (AK, SK, sha256("token")))

    def setUp(self):
        make()

    def up(self, address="127.0.0.1", ca="ca.pem", lines=LINES, rpc="", start=True):
        self.port = harness.free_port()
        h = self.host(cgroup=False)
        self.put(h, "server", ca)
        h.rpc = "ListenTls=%s:%d\nTlsCertificate=%s/tls.pem\nTlsKey=%s/tls.key\n%s%s" % (
            address, self.port, h.dir, h.dir, "TlsClientCa=%s/clients.pem\n" % h.dir if ca else "", rpc)
        h.write("agentd.conf", h.agentd_conf())
        h.write("credentials", lines, 0o600)
        h.worker("web", section="ReadyCheck=stable:10ms")
        if start:
            h.start()
            h.all_up()
        return h

    def put(self, h, name, ca="ca.pem", key=None):
        h.write("tls.pem", read(name + ".pem") + read("ca.pem"))
        h.write("tls.key", read((key or name) + ".key"), 0o600)
        h.write("clients.pem", "".join(read(n) for n in ca.split()) if ca else "")

    def context(self, who=None, versions=None):
        c = ssl.create_default_context(cafile=made + "/ca.pem")
        c.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0x80)  # an end that is not said is an error
        if versions:
            c.minimum_version, c.maximum_version = versions
        if who:
            c.load_cert_chain("%s/%s.pem" % (made, who), "%s/%s.key" % (made, who))
        return c

    def connect(self, who=None, versions=None):
        c = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=harness.DEADLINE, context=self.context(who, versions))
        self.addCleanup(c.close)
        return c

    def ask(self, c, method="GET", path=WORKERS, **headers):
        c.request(method, path, headers=headers)
        return Reply.of(c.getresponse())

    def refused(self, who, versions=None):
        """The handshake, or what follows it: with TLS 1.3 a client hears of its certificate after it has said all of its own."""
        with self.assertRaises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)) as got:
            self.ask(self.connect(who, versions))
        return str(got.exception)


class Whole(Tls):
    def test_what_is_served(self):
        h = self.up(rpc="MaxRequestBytes=100000")
        for versions in ((ssl.TLSVersion.TLSv1_2,) * 2, (ssl.TLSVersion.TLSv1_3,) * 2):
            c = self.connect("manager", versions)
            first = self.ask(c)
            self.assertEqual((first.status, first.data["contents"][0]["alias"]), (200, "web"))
            sock = c.sock
            restart = self.ask(c, "POST", WORKERS + "/web/restart")
            self.assertEqual((restart.status, restart.data["actor"], restart.data["source"]), (200, "cert:manager", "127.0.0.1"))
            c.request("POST", "/compute/hosts/batchRestartAgents", body="x" * 90000, headers={"Content-Type": "application/json"})
            r = c.getresponse()
            self.assertEqual((r.status, json.loads(r.read())["error"]["code"]), (400, 1400))
            self.assertEqual(self.ask(c, "POST", WORKERS + "/web/start").status, 200)
            self.assertIs(c.sock, sock, "one connection carries all")
            self.assertEqual((c.sock.version(), c.sock.session_reused), ({ssl.TLSVersion.TLSv1_2: "TLSv1.2"}.get(versions[0], "TLSv1.3"), False))
        h.stop()

    def test_streams(self):
        h = self.up()
        with open(h.logs + "/web.log", "ab") as f:
            f.write(b"0123456789abcdef" * (1 << 16))
        c = self.connect("alice")
        got = self.ask(c, path=WORKERS + "/web/logs/web.log?from=0&limit=1048576")
        self.assertEqual((got.status, len(got.body)), (200, 1 << 20))
        s = self.context("alice").wrap_socket(socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE), server_hostname="127.0.0.1")
        self.addCleanup(s.close)
        s.sendall(b"GET /agentd/v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += s.recv(4096)
        h.operation("web", "restart")
        while b'"done"' not in seen:
            more = s.recv(4096)
            self.assertTrue(more, "the stream has ended")
            seen += more
        h.stop()

    def test_gate_is_before_it(self):
        """What the gate refuses is answered in JSON and with a whole end of TLS; nothing behind it is served."""
        h = self.up()
        s = self.context("manager").wrap_socket(socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE),
                                                server_hostname="127.0.0.1", suppress_ragged_eofs=False)
        self.addCleanup(s.close)
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nPOST /agentd/v1/workers/web/stop HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /agentd/v1/workers/web/stop HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        seen = b""
        while True:
            more = s.recv(65536)  # raises at a cut: SSLEOFError
            if not more:
                break
            seen += more
        self.assertEqual((seen.count(b"HTTP/1.1 "), seen.count(b"HTTP/1.1 200"), seen.count(b"HTTP/1.1 400")), (2, 1, 1), seen)
        self.assertEqual(h.record("web")["state"], "UP")
        h.stop()

    def test_agentctl(self):
        h = self.up()
        url = ("--url", "https://127.0.0.1:%d" % self.port, "--cacert", made + "/ca.pem")
        r = h.ctl(*url, "--cert", made + "/manager.pem", "--key", made + "/manager.key", "restart", "web")
        self.assertEqual(r.returncode, 0, r.stderr)
        r = h.ctl(*url, "--cert", made + "/alice.pem", "--key", made + "/alice.key", "restart", "web")
        self.assertEqual(r.returncode, 1, r.stderr)
        r = h.ctl("--url", url[1], "--cert", made + "/alice.pem", "--key", made + "/alice.key", "status")
        self.assertEqual(r.returncode, 3, "an authority that this host does not know")
        self.assertIn("certificate", r.stderr)
        h.stop()

    def test_upgrade_and_metrics(self):
        h = self.up()
        pid = h.pid
        c = self.connect("alice")
        self.assertEqual(self.ask(c).status, 200)
        r = h.ctl("--private", h.run + "/private", "upgrade")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(h.pid, pid)
        metrics = self.ask(self.connect("alice"), path="/metrics").body.decode()
        values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line and line[0] != "#")
        end = ssl.cert_time_to_seconds(ssl._ssl._test_decode_cert(made + "/server.pem")["notAfter"])
        self.assertEqual(float(values["agentd_tls_certificate_expiry_timestamp_seconds"]), end)
        self.assertGreaterEqual(float(values["agentd_tls_handshakes_total"]), 1)
        h.stop()


class Clients(Tls):
    def test_by_name(self):
        h = self.up()
        self.assertEqual(self.ask(self.connect("alice")).status, 200)
        c = self.connect("alice", (ssl.TLSVersion.TLSv1_2,) * 2)
        self.assertEqual(self.ask(c, "POST", WORKERS + "/web/stop").status, 403)
        self.assertFalse(c.sock.session.has_ticket, "it could come again without its certificate being looked at")
        both = self.ask(self.connect("named"), "POST", WORKERS + "/web/restart")
        self.assertEqual((both.status, both.data["actor"]), (200, "cert:host7.example"), "of two lines the manager's counts")
        r = self.ask(self.connect("nobody"))
        self.assertEqual((r.status, r.json["error"]["code"]), (401, 1401), "of the right authority, and no line names it")
        self.assertEqual(self.ask(self.connect()).status, 401)
        h.stop()

    def test_refused(self):
        h = self.up(ca="ca.pem ca.crl")
        self.assertEqual(self.ask(self.connect("alice")).status, 200)
        for versions in ((ssl.TLSVersion.TLSv1_2,) * 2, (ssl.TLSVersion.TLSv1_3,) * 2):
            for who, why in (("stranger", "unknown ca"), ("self", "unknown ca"), ("expired", "certificate expired"), ("early", "bad certificate"),
                             ("wrong-use", "unsupported certificate"), ("revoked", "certificate revoked")):
                with self.subTest(who=who, version=versions[0].name):
                    self.refused(who, versions)
        # and why is said
        for why in ("unable to get local issuer certificate", "self-signed certificate", "certificate has expired", "certificate is not yet valid",
                    "certificate revoked"):
            self.assertIn(why, h.log())
        self.assertEqual(self.ask(self.connect("alice")).status, 200)
        h.stop()

    def test_authority_in_between(self):
        """One that is revoked by the authority above it lets in nobody any more; and each has to have its list."""
        authority("above")
        authority("between", "above")
        issue("of-between", "between", cn="alice")
        write("of-between.pem", read("of-between.pem") + read("between.pem"))
        for ca in ("above", "between"):
            list_of(ca, ca + ".crl")
        h = self.up(ca="above.pem")
        self.assertEqual(self.ask(self.connect("of-between")).status, 200)
        for lists, status in (("above.crl between.crl", 200), ("above.crl", None), ("between.crl", None)):
            self.put(h, "server", "above.pem " + lists)
            h.ok("POST", "/agentd/v1/reload")
            if status:
                self.assertEqual(self.ask(self.connect("of-between")).status, status)
            else:
                self.refused("of-between")
        revoked("between", "above")
        list_of("above", "above.crl")
        self.put(h, "server", "above.pem above.crl between.crl")
        h.ok("POST", "/agentd/v1/reload")
        self.refused("of-between")
        h.stop()

    def test_other_ways(self):
        """Beyond loopback, where plain TCP would take signatures only."""
        h = self.up(address="0.0.0.0", ca="", lines=self.LINES + "basic joe HOST_VIEWER %s\n" % harness_hash("secret"))
        self.assertEqual(self.ask(self.connect(), Authorization="Bearer token").status, 200)
        self.assertEqual(self.ask(self.connect(), Authorization=basic("joe", "secret")).status, 200)
        self.assertEqual(self.ask(self.connect(), Authorization=basic("joe", "wrong")).status, 401)
        eventually(lambda: Call("POST", WORKERS + "/web/start").signed().send(self.connect()).status == 200, what="a signed start")
        self.assertEqual(self.ask(self.connect("manager")).status, 401, "nobody was asked for a certificate")
        h.stop()

    def test_line_taken_away(self):
        """A credential that is gone lets in nobody, on a connection that is open either."""
        h = self.up()
        c = self.connect("alice")
        self.assertEqual(self.ask(c).status, 200)
        sock = c.sock
        h.write("credentials", "cert manager HOST_MANAGER\n", 0o600)
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual((self.ask(c).status, c.sock), (401, sock))
        h.stop()

    def test_long_names(self):
        """Longer than what is kept of an actor: one is not taken for another that begins alike."""
        start = "spiffe://example.org/" + "n" * 60
        issue("long-a", ext="extendedKeyUsage=clientAuth\nsubjectAltName=URI:%s/a" % start)
        issue("long-b", ext="extendedKeyUsage=clientAuth\nsubjectAltName=URI:%s/b" % start)
        h = self.up(lines="cert %s/a HOST_MANAGER\ncert %s/b HOST_MANAGER\n" % (start, start))
        a = self.ask(self.connect("long-a"), "POST", WORKERS + "/web/restart", Idempotency_Key="k")
        b = self.ask(self.connect("long-b"), "POST", WORKERS + "/web/restart", Idempotency_Key="k")
        self.assertEqual((a.status, b.status), (200, 200))
        self.assertNotEqual(a.data["actor"], b.data["actor"])
        h.stop()


class Reload(Tls):
    def serial(self):
        s = self.context().wrap_socket(socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE), server_hostname="127.0.0.1")
        with s:
            return s.getpeercert()["serialNumber"]

    def test_renewed(self):
        h = self.up()
        c, before = self.connect("alice"), self.serial()
        self.assertEqual(self.ask(c).status, 200)
        sock, rpc = c.sock, h.rpc_pid()
        self.put(h, "renewed")
        plan = h.ok("GET", "/agentd/v1/reload")
        self.assertIn("TlsCertificate", json.dumps(plan))
        self.assertEqual(self.serial(), before)
        h.proc.send_signal(signal.SIGHUP)
        eventually(lambda: self.serial() != before, what="the new certificate")
        self.assertEqual((self.ask(c).status, c.sock, h.rpc_pid()), (200, sock, rpc))
        h.stop()

    def test_wrong_ones_change_nothing(self):
        """A key of another certificate is a wrong agentd.conf; and a listener that dies meanwhile comes back with the pair in force."""
        h = self.up()
        before = self.serial()
        self.put(h, "renewed", key="server")
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual((r.status, r.json["error"]["code"]), (500, 1503))
        self.assertIn("%s/tls.key:1:1: the key is not that of the certificate" % h.dir, r.message)
        self.assertEqual(self.serial(), before)
        h.write("tls.pem", "")
        rpc = h.rpc_pid()
        os.kill(rpc, signal.SIGKILL)
        harness.wait_gone(rpc)
        self.assertEqual(self.serial(), before)
        self.put(h, "renewed")
        h.ok("POST", "/agentd/v1/reload")
        self.assertNotEqual(self.serial(), before)
        h.stop()

    def test_wrong_one_beside_a_wrong_worker(self):
        """The whole configuration is refused for the pair, and says so first."""
        h = self.up()
        before = self.serial()
        h.write("workers.d/broken.conf", "[Worker]\nId=77\n[Service]\nRestart=sometimes\n")
        self.put(h, "renewed", key="server")
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual((r.status, r.json["error"]["code"]), (500, 1503))
        first, last = r.message.find("tls.key:1:1: the key is not that"), r.message.find("broken.conf:")
        self.assertTrue(0 <= first and (last < 0 or first < last), r.message)
        self.assertEqual(self.serial(), before)
        h.stop()

    def test_other_authorities(self):
        """Who was proven by the earlier ones has to come anew."""
        h = self.up()
        c = self.connect("alice")
        self.assertEqual(self.ask(c).status, 200)
        self.put(h, "server", "other.pem")
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual(self.ask(c).status, 401)
        self.refused("alice")
        self.assertEqual(self.ask(self.connect("stranger")).status, 200)
        h.stop()

    def test_expiry_is_told(self):
        h = self.up()
        self.assertNotIn("TlsCertificate", json.dumps(h.ok("GET", "/agentd/v1/doctor")))
        self.put(h, "past")
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual(r.status, 200, r)
        self.assertIn("tls.pem:1:1: the certificate has expired", h.log())
        self.assertIn("the certificate of TlsCertificate= has expired", h.ctl("doctor").stdout)
        self.assertIn("TlsCertificate=: the certificate has expired", h.log())
        h.stop()

    @harness.needs_root
    def test_a_search_has_no_key(self):
        """What reads a worker's logs is that worker's user: the private key is not in its memory."""
        h = self.up()
        with open(h.dir + "/slow.log", "w", encoding="ascii") as f:
            f.write("2024-01-02T03:04:05Z INFO %s\n" % ("y" * 100) * 5000)
        h.worker("logged", "", "User=%d\nGroup=%d" % (harness.ORDINARY, harness.ORDINARY), "LogFilePattern=%s/slow.log" % h.dir)
        h.ok("POST", "/agentd/v1/reload")  # what it was started with stays beside what is in force
        lines = read("server.key").splitlines()
        key = lines[len(lines) // 2].encode()
        self.assertGreater(memory_of(h.pid).count(key), 0)
        c = h.connect()
        c.request("POST", "/api/v1/log/query", json.dumps({
            "logType": "logged", "startTime": "1970-01-01T00:00:00Z", "endTime": "2100-01-01T00:00:00Z", "keyword": ["(y*)(y*)\\1z"], "keywordType": "REGEX"}),
            {"Content-Type": "application/json"})
        part = eventually(lambda: [p for f in harness.forks(h.pid) for p in harness.children(f) if uid_of(p) == harness.ORDINARY], what="a search")[0]
        self.assertEqual(memory_of(part).count(key), 0)
        c.close()
        h.stop()
    test_a_search_has_no_key.LONG = True  # all of their memory is too much to look at

    def test_key_for_all(self):
        h = self.up()
        self.assertNotIn("tls.key", h.ctl("doctor").stdout)
        os.chmod(h.dir + "/tls.key", 0o644)
        r = h.ctl("doctor")
        self.assertIn("error: others may use %s/tls.key (mode 0644)\n    chmod 0600" % h.dir, r.stdout)
        self.assertEqual(r.returncode, 1)
        h.stop()


class Wrong(Tls):
    def test_check_config(self):
        h = self.up(start=False)
        self.assertEqual(h.run_agentd("--check-config").returncode, 0)
        for change, words in ((lambda: self.put(h, "server", key="alice"), "tls.key:1:1: the key is not that of the certificate"),
                              (lambda: h.write("tls.key", "-----BEGIN PRIVATE KEY-----\nrubbish\n-----END PRIVATE KEY-----\n", 0o600),
                               "tls.key:1:1: no private key can be read"),
                              (lambda: h.write("tls.pem", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"),
                               "tls.pem:1:1: no certificate can be read"),
                              (lambda: h.write("clients.pem", "-----BEGIN X509 CRL-----\nrubbish\n-----END X509 CRL-----\n"),
                               "clients.pem:1:1: no certificate of an authority can be read"),
                              (lambda: os.chmod(h.dir + "/tls.key", 0o604), "tls.key:1:1: others than its owner and group may use the key"),
                              (lambda: os.unlink(h.dir + "/tls.pem"), "tls.pem:1:1: cannot open it: No such file")):
            self.put(h, "server")
            change()
            r = h.run_agentd("--check-config")
            self.assertEqual(r.returncode, 2, r.stderr)
            self.assertIn(words, r.stderr)
            r = h.run_agentd()
            self.assertEqual(r.returncode, 2, "it starts nevertheless")
        self.put(h, "past")
        r = h.run_agentd("--check-config")
        self.assertEqual((r.returncode, r.stderr.split(":1:1: ")[1]), (0, "the certificate has expired\n"))

    def test_not_tls(self):
        h = self.up()
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.DEADLINE)
        with self.assertRaises((http.client.HTTPException, ConnectionError)):
            self.ask(c)
        for rubbish in (b"\x16\x03\x01\xff\xff" + b"\0" * 100, os.urandom(300), b"\x80\x2e\x01\x00\x02"):
            s = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
            s.sendall(rubbish)
            with contextlib.suppress(OSError):  # it has hung up already
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
            s.close()
        self.assertEqual(self.ask(self.connect("alice")).status, 200)
        h.stop()

    def test_handshake_that_never_ends(self):
        h = self.up(rpc="RequestDeadlineSec=200ms")
        s = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
        s.sendall(b"\x16\x03\x01\x02\x00\x01")
        self.assertEqual(s.recv(1), b"", "it is closed")
        s.close()
        h.stop()


class Scan(Tls):
    """What a scanner of others finds."""

    def test_sslscan(self):
        h = self.up(ca="")
        out = subprocess.run(["sslscan", "--no-colour", "--xml=-", "127.0.0.1:%d" % self.port], capture_output=True, timeout=harness.DEADLINE,
                             check=True).stdout
        scan = xml.etree.ElementTree.fromstring(out).find("ssltest")
        on = sorted(p.get("type") + p.get("version") for p in scan.findall("protocol") if p.get("enabled") == "1")
        self.assertEqual(on, ["tls1.2", "tls1.3"])
        ciphers = scan.findall("cipher")
        self.assertGreaterEqual(len(ciphers), 5)
        for c in ciphers:
            self.assertGreaterEqual(int(c.get("bits")), 128, c.attrib)
            self.assertNotIn(c.get("strength"), ("weak", "anonymous", "null", "medium"), c.attrib)
            self.assertRegex(c.get("cipher"), "GCM|CHACHA20|^TLS_AES", "it authenticates")
        self.assertEqual(scan.find("renegotiation").get("supported"), "0")
        self.assertEqual([b.get("vulnerable") for b in scan.findall("heartbleed") if b.get("vulnerable") != "0"], [])
        h.stop()


def harness_hash(password):
    return subprocess.run(["openssl", "passwd", "-6", password], capture_output=True, text=True, check=True).stdout.strip()


del Tls
if __name__ == "__main__":
    unittest.main()
