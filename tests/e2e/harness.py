# SPDX-License-Identifier: Apache-2.0
"""One real agentd on a temporary tree, and what a test needs to look at it from outside.

Nothing here sleeps: waiting is for a pidfd, a datagram, a reply, or for a condition that is looked at when agentd does something,
until a deadline. Environment: AGENTD_BIN is the folder of agentd, agentd-rpc and agentctl; AGENTD_BUILD the build's;
AGENTD_TEST_ALL, if not empty, runs the long campaigns whole. AGENTD_TEST_SEED says which share of them is run, or how a
random one goes: the same one each time, so that what a commit has passed it passes again; with ALL a new one.
AGENTD_TEST_RUNNER=I/N: the Ith of N that run at once.
"""
import atexit
import contextlib
import http.client
import http.server
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from bell import ANYTHING, Bell, look_until

BELL = Bell()  # rings when an agentd of ours does something
BIN = os.path.abspath(os.environ.get("AGENTD_BIN", "build/bin"))
BUILD = os.path.abspath(os.environ.get("AGENTD_BUILD", "build"))
ALL = bool(os.environ.get("AGENTD_TEST_ALL"))
SEED = int(os.environ.get("AGENTD_TEST_SEED", "0")) or (random.SystemRandom().randrange(1, 1 << 30) if ALL else 2)
RUNNER, RUNNERS = map(int, os.environ.get("AGENTD_TEST_RUNNER", "0/1").split("/"))
NAME = "agentd-test-%08x" % random.SystemRandom().getrandbits(32)  # for what has its place outside of a test's folder
ROOT = os.geteuid() == 0
DEADLINE = 30
QUIET_SEC = 0.05  # agentd does nothing more for what it was asked
HOST_ID = 20
PROCESS_FIELDS = {"id", "hostId", "alias", "pid", "user", "startCommand", "ports", "elapsedTime", "lastActiveTime",
                  "status", "operable", "logFilePattern", "createTime", "updateTime"}
ENVELOPE = {"data", "duration", "server", "status", "successful", "timestamp", "traceId"}
ORDINARY = 65533  # an ordinary user's uid and gid: no name, no group


def stage():
    """The programs, copied to where every user may run them."""
    where = tempfile.mkdtemp(prefix="agentd-bin.")
    os.chmod(where, 0o755)
    atexit.register(shutil.rmtree, where, True)
    for path in [os.path.join(BIN, n) for n in ("agentd", "agentd-rpc", "agentd-drain", "agentctl")] + \
                [os.path.join(BUILD, "tests/lib", n) for n in ("worker", "nosys", "fake_upgrade")]:
        if os.path.exists(path):
            shutil.copy(path, where)
            os.chmod(os.path.join(where, os.path.basename(path)), 0o755)
    return where


STAGED = stage()
WORKER = STAGED + "/worker"
NOSYS = STAGED + "/nosys"
with open(STAGED + "/agentd", "rb") as _f:
    SANITIZED = b"__asan_init" in _f.read()


def eventually(condition, deadline=DEADLINE, what="it"):
    """condition() until it is true; its value. It is looked at when agentd does something."""
    value = look_until(condition, deadline, BELL)
    if not value:
        raise AssertionError("%s did not come true within %d s" % (what, deadline))
    return value


def background(fn, *args):
    """A thread, and where its value will be."""
    box = []
    t = threading.Thread(target=lambda: box.append(fn(*args)), daemon=True)
    t.start()
    return t, box


def wait_gone(pid, deadline=DEADLINE):
    """Until the process has ended; it need not be a child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        p = select.poll()
        p.register(fd, select.POLLIN)
        if not p.poll(deadline * 1000):
            raise AssertionError("pid %d did not end within %d s" % (pid, deadline))
    finally:
        os.close(fd)


def stat_of(pid):
    """(state, parent, start ticks), or None if there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
            rest = f.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return rest[0], int(rest[1]), int(rest[19])


def is_alive(pid):
    s = stat_of(pid)
    return s is not None and s[0] not in "ZX"


def pids():
    return [int(n) for n in os.listdir("/proc") if n.isdigit()]


def children(pid):
    return [p for p in pids() if (stat_of(p) or ("", 0))[1] == pid]


def environ_of(pid):
    try:
        with open("/proc/%d/environ" % pid, "rb") as f:
            return dict(x.split(b"=", 1) for x in f.read().split(b"\0") if b"=" in x)
    except OSError:
        return {}


def name_of(pid):
    try:
        with open("/proc/%d/comm" % pid, encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return ""


def effective(pid):
    """Its effective capabilities, a bit each."""
    with open("/proc/%d/status" % pid, encoding="utf-8", errors="replace") as f:
        return int(re.search(r"CapEff:\t(\w+)", f.read()).group(1), 16)


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def forks(pid):
    """Its children that are no other program yet, as the helpers that agentd has its slow work done by."""
    def program(of):
        try:
            return os.readlink("/proc/%d/exe" % of)
        except OSError:
            return None
    own = os.readlink("/proc/%d/exe" % pid)
    return [c for c in children(pid) if program(c) == own]


def private_kb(pid):
    """What memory is its own, swapped out or not, while no fork of it lives: what it shares with one counts as nobody's own."""
    def look():
        if forks(pid):
            return None
        with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as f:
            kb = [int(line.split()[1]) for line in f if line.startswith(("Private_Dirty:", "Swap:"))]
        return None if forks(pid) else sum(kb)
    return eventually(look, what="process %d without a fork of its own" % pid)


def cpu_ticks(pid):
    """Of the processor, in user and in kernel mode; proc(5)."""
    with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


_given = set()


PORTS, PER_RUNNER = 11000, 20000 // RUNNERS  # below those that the kernel gives to whoever connects, ip(7)


def free_port(kind=socket.SOCK_STREAM):
    """One that no other runner is given, and nobody else's connection takes by chance."""
    while True:
        port = PORTS + RUNNER * PER_RUNNER + random.randrange(PER_RUNNER)
        if port in _given:
            continue
        with socket.socket(socket.AF_INET, kind) as s, contextlib.suppress(OSError):
            s.bind(("", port))
            _given.add(port)
            return port


def cgroup2():
    """Where cgroup2 is mounted and can be written, or None."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        for line in f:
            if line.split()[2] == "cgroup2" and os.access(line.split()[1], os.W_OK):
                return line.split()[1]
    return None


def str_hash(text):
    h = 0xcbf29ce484222325
    for c in text.encode():
        h = (h ^ c) * 0x100000001b3 & 0xffffffffffffffff
    return "%016x" % h


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @classmethod
    def of(cls, response):
        """Of one of http.client."""
        return cls(response.status, response.headers, response.read())

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        return self.json.get("data")

    @property
    def message(self):
        return self.json["error"]["message"]

    def __repr__(self):
        return "<%d %r>" % (self.status, self.body[:2000])


class Gate:
    """Where programs wait for the test: `wait`, in a shell, comes through once it is open, and from then on at once, until it
    is shut; a worker told of it by `args` takes for its delays and its stop until then. A FIFO: nobody looks again and again."""

    def __init__(self, path):
        self.path, self.wait, self.args, self.fd = path, "read _ <" + path, "--gate %s " % path, None
        os.mkfifo(path)
        os.chmod(path, 0o644)

    def open(self):
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(self.fd, b"\n" * 1024)  # who waits takes one each

    def shut(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=DEADLINE):
        super().__init__("agentd", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Host:
    """agentd with its folders. As a context manager it starts nothing: write workers, then start()."""

    def __init__(self, cgroup=True, uid=None, wrap=(), agent="", rpc="", directory=None):
        self.dir = tempfile.mkdtemp(prefix="agentd-e2e.", dir=directory)
        os.chmod(self.dir, 0o755)
        self.bin = STAGED
        self.cgroup = cgroup and (os.geteuid() if uid is None else uid) == 0 and cgroup2() is not None
        self.force_none = not cgroup
        self.uid, self.wrap = uid, list(wrap)
        self.agent, self.rpc = agent, rpc
        self.socket = self.dir + "/agentd.sock"
        self.run, self.state, self.logs = self.dir + "/run", self.dir + "/state", self.dir + "/log"
        self.workers = self.dir + "/workers.d"
        self.hash = str_hash(self.run)
        self.proc, self.env = None, {}
        self.ids, self.gates = 100, []
        os.mkdir(self.workers)
        os.chmod(self.workers, 0o755)
        self.write("agentd.conf", self.agentd_conf())
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(self.dir + "/notify")
        os.chmod(self.dir + "/notify", 0o666)
        # read all the time, as a service manager does: what is of the moment is not told to one that is behind
        self.marked = threading.Event()
        self.said, self.wake = [], os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.reader = threading.Thread(target=self.read_notify, daemon=True)
        self.reader.start()
        if uid is not None:
            for top, folders, files in os.walk(self.dir):
                for n in [top] + [os.path.join(top, x) for x in folders + files]:
                    os.chown(n, uid, uid)

    def agentd_conf(self):
        return ("[Agent]\nHostId=%d\nWorkersDirectory=%s\nRuntimeDirectory=%s\nStateDirectory=%s\nLogDirectory=%s\n%s\n"
                "[Rpc]\nListenStream=%s\nCredentials=%s/credentials\n%s\n"
                % (HOST_ID, self.workers, self.run, self.state, self.logs, self.agent, self.socket, self.dir, self.rpc))

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path + ".new", mode)
        if self.uid is not None:
            os.chown(path + ".new", self.uid, self.uid)
        os.rename(path + ".new", path)
        return path

    def gate(self, name="gate"):
        gate = Gate(os.path.join(self.dir, name))
        self.gates.append(gate)
        return gate

    def moment(self, chance, most):
        """A random moment of what agentd is at: it has opened, read, written or renamed so many of its files, `most` at the most,
        or comes to rest before that."""
        bell = Bell()
        for path in (self.dir, self.run, self.run + "/definitions", self.state, self.logs):
            bell.listen(path, ANYTHING)
        bell.count(chance.randrange(most + 1), QUIET_SEC)
        bell.close()

    def worker(self, alias, args="", service="", section="", command=None, id=None):
        """A worker's file; its id."""
        if id is None:
            self.ids += 1
            id = self.ids
        self.write("workers.d/%s.conf" % alias, "[Service]\nExecStart=%s\n%s\n[Worker]\nId=%d\n%s\n"
                   % (command or (WORKER + " " + args).strip(), service, id, section))
        return id

    def remove(self, alias):
        os.unlink("%s/%s.conf" % (self.workers, alias))

    # --- life -------------------------------------------------------------------------------------

    def environment(self):
        e = {k: v for k, v in os.environ.items() if k in ("PATH", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")}
        e["NOTIFY_SOCKET"] = self.dir + "/notify"
        if self.force_none:
            e["AGENTD_NO_CGROUP"] = "1"
        e.update(self.env)
        return e

    def become(self):
        if self.uid is not None and ROOT:
            os.setgroups([])
            os.setgid(self.uid)
            os.setuid(self.uid)

    def run_agentd(self, *args):
        """agentd that ends by itself: --check-config and the like."""
        return subprocess.run([self.bin + "/agentd", "-c", self.dir + "/agentd.conf", *args], capture_output=True,
                              text=True, env=self.environment(), preexec_fn=self.become, timeout=DEADLINE, check=False)

    def start(self, wait=True):
        self.drain()
        with open(self.dir + "/agentd.log", "ab") as log:
            BELL.listen(log.name)
            self.proc = subprocess.Popen([*self.wrap, self.bin + "/agentd", "-c", self.dir + "/agentd.conf", "--log-level", "debug"],
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(),
                                         preexec_fn=self.become, cwd="/")
        if wait:
            self.wait_notify("READY=1")
        return self

    def read_notify(self):
        while True:
            text = self.notify.recv(4096).decode()
            if text == "END":
                return
            if text == "MARK":
                self.marked.set()
                continue
            self.said.append(text)
            with contextlib.suppress(BlockingIOError):
                os.write(self.wake[1], b"x")

    def drain(self):
        """Forgets what was said until now, also what the reader has not come to yet: a word of an agentd that is dead is not its successor's."""
        self.marked.clear()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"MARK", self.dir + "/notify")
        if not self.marked.wait(DEADLINE):
            raise AssertionError("the reader of notifications hangs")
        self.said.clear()

    def wait_notify(self, word, deadline=DEADLINE):
        """Until agentd says word to its supervisor; its death meanwhile is a failure."""
        fd = os.pidfd_open(self.proc.pid)
        end = time.monotonic() + deadline
        try:
            while True:
                while self.said:
                    text = self.said.pop(0)
                    if word in text.split("\n"):
                        return text
                ready = select.select([self.wake[0], fd], [], [], max(end - time.monotonic(), 0))[0]
                if self.wake[0] in ready:
                    os.read(self.wake[0], 4096)
                elif fd in ready and not self.said:
                    raise AssertionError("agentd ended with %s before %s:\n%s" % (self.proc.wait(), word, self.log()))
                elif not ready:
                    raise AssertionError("no %s within %d s:\n%s" % (word, deadline, self.log()))
        finally:
            os.close(fd)

    def log(self):
        with contextlib.suppress(OSError), open(self.dir + "/agentd.log", encoding="utf-8", errors="replace") as f:
            return f.read()
        return ""

    @property
    def pid(self):
        return self.proc.pid

    def rpc_pid(self):
        """agentd-rpc's, once there is one."""
        return eventually(lambda: next((p for p in children(self.pid) if name_of(p) == "agentd-rpc" and is_alive(p)), None),
                          what="agentd-rpc")

    def kill(self):
        """agentd dies as it would by the hand of the OOM killer."""
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait(DEADLINE)

    def stop(self, code=0):
        """TERM, and then nothing may be left."""
        rpc = [p for p in children(self.pid) if name_of(p) == "agentd-rpc"]
        eventually(lambda: effective(self.pid) == 0, what="agentd without privilege between what needs it")
        self.proc.send_signal(signal.SIGTERM)
        try:
            got = self.proc.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError("agentd did not stop within %d s: %r" % (DEADLINE, self.processes())) from None
        if got != code:
            raise AssertionError("agentd ended with %d, not %d:\n%s" % (got, code, self.log()))
        for p in rpc:
            wait_gone(p, 5)
        self.assert_nothing_left()

    def assert_nothing_left(self):
        left = self.processes()
        if left:
            raise AssertionError("processes are left: %r" % {p: (c, stat_of(p)) for p, c in left.items()})
        if os.path.exists(self.socket):
            raise AssertionError("the socket is left")
        if self.cgroup_dir() and os.path.exists(self.cgroup_dir()):
            raise AssertionError("a cgroup is left: %s" % list(os.walk(self.cgroup_dir())))

    def cgroup_dir(self):
        return "%s/agentd-%s" % (cgroup2(), self.hash) if cgroup2() else None

    def leaves(self):
        d = self.cgroup_dir()
        return sorted(n for n in os.listdir(d) if n.startswith("w-")) if d and os.path.exists(d) else []

    def processes(self, alias=None):
        """{pid: cookie} of all that carry a cookie of this tree, zombies left out."""
        prefix = (self.hash + ":" + (alias + ":" if alias else "")).encode()
        found = {}
        for p in pids():
            cookie = environ_of(p).get(b"AGENTD_COOKIE", b"")
            if cookie.startswith(prefix) and is_alive(p) and p != os.getpid():
                found[p] = cookie.decode()
        return found

    def tree(self, alias, n):
        """Its n processes in order, of one incarnation; it may be UP before it has forked them."""
        return eventually(lambda: (lambda t: len(t) == n and len(set(t.values())) == 1 and sorted(t))(self.processes(alias)),
                          what="a tree of %d" % n)

    def close(self):
        """However the test went, the machine is as before."""
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait(DEADLINE)
        for _ in range(20):
            left = self.processes()
            if not left:
                break
            for p in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(p, signal.SIGKILL)
                with contextlib.suppress(AssertionError):
                    wait_gone(p, 2)
        d = self.cgroup_dir()
        if d and os.path.exists(d):
            def removed():
                for top, _, _ in os.walk(d, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(top)
                return not os.path.exists(d)
            with contextlib.suppress(AssertionError):
                eventually(removed, 3)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"END", self.dir + "/notify")
        self.reader.join(DEADLINE)
        self.notify.close()
        os.close(self.wake[0])
        os.close(self.wake[1])
        for gate in self.gates:
            gate.shut()
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- talking ----------------------------------------------------------------------------------

    def connect(self, timeout=DEADLINE):
        return UnixConnection(self.socket, timeout)

    def http(self, method, path, headers=None, body=None, timeout=DEADLINE):
        c = self.connect(timeout)
        try:
            h = dict(headers or {})
            if body is None and method == "POST":
                h["Content-Length"] = "0"
            c.request(method, path, body, h)
            return Reply.of(c.getresponse())
        finally:
            c.close()

    def post(self, path, body, headers=None, timeout=DEADLINE):
        """body: what is to be JSON, or a text as it stands."""
        return self.http("POST", path, {"Content-Type": "application/json", **(headers or {})},
                         body if isinstance(body, str) else json.dumps(body), timeout)

    def ok(self, method, path, **more):
        r = self.http(method, path, **more)
        if r.status != 200:
            raise AssertionError("%s %s: %r\n%s" % (method, path, r, self.log()[-3000:]))
        return r.data

    def process(self, id):
        return self.ok("GET", "/compute/hosts/%d/agent/processes/%d" % (HOST_ID, id))

    def verb(self, id, verb, prefix="", timeout=DEADLINE):
        return self.http("POST", "%s/compute/hosts/%d/agent/processes/%d/%s" % (prefix, HOST_ID, id, verb), timeout=timeout)

    def record(self, alias):
        return self.ok("GET", "/agentd/v1/workers/" + alias)

    def all(self):
        return {w["alias"]: w for w in self.ok("GET", "/agentd/v1/workers")["contents"]}

    def pids_of_all(self):
        return {a: w["pid"] for a, w in self.all().items()}

    def operation(self, alias, verb):
        return self.http("POST", "/agentd/v1/workers/%s/%s" % (alias, verb))

    def meets(self, alias, **want):
        """Its record, once all these fields are so."""
        def same():
            w = self.record(alias)
            return w if all(w[k] == v for k, v in want.items()) else None
        return eventually(same, what="%s: %r" % (alias, want))

    def until(self, alias, state, deadline=DEADLINE):
        """Until the worker is in that state; its record."""
        last = {}

        def look():
            last["r"] = self.record(alias)
            return last["r"] if last["r"]["state"] == state else None
        try:
            return eventually(look, deadline)
        except AssertionError:
            raise AssertionError("%s is not %s but %r" % (alias, state, last["r"])) from None

    def all_up(self, deadline=DEADLINE):
        """Until every worker is UP; {alias: record}."""
        return eventually(lambda: (lambda a: all(w["state"] == "UP" for w in a.values()) and a)(self.all()), deadline, "all UP")

    def ctl(self, *args, timeout=DEADLINE, check=False):
        return subprocess.run([STAGED + "/agentctl", "--socket", self.socket, *args], capture_output=True, text=True,
                              env=self.environment(), timeout=timeout, check=check)


def own_root():
    """What goes before unshare --mount-proc: in a plain chroot "/" is a folder, and can't be made private: go on in a mount of it."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        if any(line.split()[4] == "/" for line in f):
            return []
    script = 'mkdir -p "$0" && mount --rbind / "$0" && exec chroot "$0" "$@"'
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script, "/run/agentd-test-root"]


def ss_ports(pids_of_tree):
    """What ss shows for these processes, as the record writes it."""
    out = subprocess.run(["ss", "-H", "-ltnup"], capture_output=True, text=True, check=True).stdout
    found = set()
    for line in out.splitlines():
        if any("pid=%d," % p in line for p in pids_of_tree):
            found.add(int(line.split()[4].rsplit(":", 1)[1]))
    return ",".join(str(p) for p in sorted(found))


class Case(unittest.TestCase):
    """Hosts made here are taken down whatever happens; on a failure agentd's log is shown."""

    def host(self, **how):
        h = Host(**how)
        self.addCleanup(self.finish, h)
        return h

    def serve(self, handler):
        """Somebody else's HTTP server; its URL."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return "http://127.0.0.1:%d" % server.server_address[1]

    def finish(self, h):
        outcome = getattr(self, "_outcome", None)
        if outcome is not None and not getattr(outcome.result, "success", True):
            print("# --- agentd's log of %s" % self.id())
            print("\n".join("# " + line for line in h.log()[-6000:].splitlines()))
        h.close()


def both(cls):
    """The same tests with cgroups and without, as classes beside cls; cls itself is taken away."""
    import sys
    module = sys.modules[cls.__module__]
    if ROOT:
        setattr(module, cls.__name__ + "InCgroups", type(cls.__name__ + "InCgroups", (cls,), {"cgroup": True, "__module__": cls.__module__}))
    setattr(module, cls.__name__ + "WithoutCgroups", type(cls.__name__ + "WithoutCgroups", (cls,), {"cgroup": False, "__module__": cls.__module__}))
    return None


needs_root = unittest.skipUnless(ROOT, "needs root")
