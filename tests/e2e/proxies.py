# SPDX-License-Identifier: Apache-2.0
"""nginx and HAProxy of Debian in front of an agentd, with the files of etc/examples; only addresses and places are changed."""
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile

import harness
import smuggling
from harness import eventually, free_port

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../etc/examples/")
WAYS = ("directly", "nginx", "haproxy")
TOKEN = smuggling.TOKEN.decode()
BEARER = {"Authorization": "Bearer " + TOKEN}


def program(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def missing():
    return [n for n in ("nginx", "haproxy", "openssl") if not program(n)]


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Front:
    """One proxy in a folder of its own; plain and tls are its ports."""

    def __init__(self, name, upstream):
        self.dir = tempfile.mkdtemp(prefix="agentd-front.")
        os.chmod(self.dir, 0o755)
        self.plain, self.tls = free_port(), free_port()
        self.certificate = self.dir + "/agentd.crt"
        self.make_certificate()
        with open(EXAMPLES + {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[name], encoding="utf-8") as f:
            text = f.read()
        for old, new in (("127.0.0.1:62888", "127.0.0.1:%d" % upstream), ("127.0.0.1:62880", "127.0.0.1:%d" % self.plain)):
            assert old in text
            text = text.replace(old, new)
        command = getattr(self, name)(text)
        # HAProxy says so when it can't log to a socket that is not there
        with open(self.dir + "/log", "wb") as log:
            self.proc = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir)
        try:
            eventually(lambda: self.proc.poll() is not None or listens(self.plain), what=name)
            assert self.proc.poll() is None, self.log()
        except AssertionError:
            self.close()
            raise

    def make_certificate(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.dir + "/agentd.key", "-out", self.certificate,
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"], check=True, stderr=subprocess.DEVNULL)
        with open(self.dir + "/agentd.pem", "wb") as out:
            for part in (self.certificate, self.dir + "/agentd.key"):
                with open(part, "rb") as f:
                    out.write(f.read())

    def save(self, name, text):
        with open(os.path.join(self.dir, name), "w", encoding="utf-8") as f:
            f.write(text)
        return os.path.join(self.dir, name)

    def nginx(self, text):
        text = text.replace("listen 62889", "listen 127.0.0.1:%d" % self.tls).replace("/etc/nginx/", self.dir + "/")
        self.save("agentd.conf", text)
        places = "".join("%s_temp_path %s/%s;\n" % (n, self.dir, n) for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        # what nginx.conf of Debian has around conf.d
        conf = self.save("nginx.conf", "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr;\nevents { worker_connections 768; }\n"
                         "http {\naccess_log off;\n%sinclude %s/agentd.conf;\n}\n" % (places, self.dir))
        return [program("nginx"), "-p", self.dir, "-e", "stderr", "-c", conf]

    def haproxy(self, text):
        text = text.replace("bind :62889", "bind 127.0.0.1:%d" % self.tls).replace("/etc/haproxy/", self.dir + "/")
        text = text.replace("/var/lib/haproxy", self.dir)
        if not harness.ROOT:
            text = "".join(x for x in text.splitlines(True) if x.split()[:1] not in (["user"], ["group"], ["chroot"]))
        return [program("haproxy"), "-db", "-f", self.save("haproxy.cfg", text)]

    def log(self):
        with open(self.dir + "/log", encoding="utf-8", errors="replace") as f:
            return f.read()

    def close(self):
        if self.proc.poll() is None:
            self.proc.terminate()
        self.proc.wait(harness.DEADLINE)
        shutil.rmtree(self.dir, ignore_errors=True)


class Case(harness.Case):
    """An agentd on loopback TCP, and both proxies in front of it: ports says where each way begins."""

    def up(self):
        port = free_port()
        h = self.host(cgroup=False, rpc="ListenStream=127.0.0.1:%d" % port)
        h.write("credentials", "bearer proxied HOST_MANAGER %s\naksk AK20 HOST_MANAGER sk\n" % hashlib.sha256(smuggling.TOKEN).hexdigest(), 0o600)
        self.web = h.worker("web", service="ExecReload=/bin/true", section="ReadyCheck=stable:1ms")
        self.marker = h.worker("marker")
        h.start()
        h.all_up()
        self.fronts = {}
        for name in ("nginx", "haproxy"):
            self.fronts[name] = Front(name, port)
            self.addCleanup(self.fronts[name].close)
        self.ports = {"directly": port, **{n: f.plain for n, f in self.fronts.items()}}
        return h
