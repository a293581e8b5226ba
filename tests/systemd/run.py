# SPDX-License-Identifier: Apache-2.0
"""agentd under a booted systemd: run.py BUILDDIR. Prints a TAP line for each test."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
from bell import Bell, look_until  # noqa: E402
from box import Box, Impossible  # noqa: E402

DEADLINE = 20
CONF = """[Agent]
HostId=20
[Rpc]
Credentials=/etc/agentd/credentials
"""
GROUP = "/sys/fs/cgroup/system.slice/agentd.service"
BASE = "/compute/hosts/20/agent/processes/"


class Tests:
    """Each test_ method is one TAP line, in this order; they share one box and build on each other."""
    AREA = "systemd"

    def __init__(self, box, build):
        self.box, self.bell = box, Bell()
        for path in glob.glob("/proc/%d/root/run/log/journal/*" % box.leader):
            self.bell.listen(path)  # whoever says something there
        subprocess.run(["make", "-s", "-C", build, "install", "DESTDIR=" + box.path("/")], check=True, stdout=subprocess.DEVNULL)
        os.makedirs(box.path("/opt/agentd"))
        for n in ("tests/lib/worker", "tests/lib/fake_upgrade"):
            shutil.copy(os.path.join(build, n), box.path("/opt/agentd/" + os.path.basename(n)))
        os.makedirs(box.path("/etc/agentd/workers.d"))
        self.write("/etc/agentd/agentd.conf", CONF)
        self.drop_in("[Service]\nWatchdogSec=2s\n")
        self.worker("web", 101, "--children 2 --grandchild --listen 8080", section="ReadyCheck=tcp:8080")
        self.worker("told", 102, "--delay 20 --notify READY=1", "Type=notify")
        self.worker("talks", 103, "--stdout \"said to the journal\" --stderr \"and an error\"", "StandardOutput=journal")
        self.do("systemctl", "daemon-reload")

    def drop_in(self, text):
        os.makedirs(self.box.path("/etc/systemd/system/agentd.service.d"), exist_ok=True)
        self.write("/etc/systemd/system/agentd.service.d/test.conf", text)

    def write(self, inside, text):
        with open(self.box.path(inside) + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(self.box.path(inside) + ".new", self.box.path(inside))

    def worker(self, alias, id, args="", service="", section=""):
        self.write("/etc/agentd/workers.d/%s.conf" % alias,
                   "[Service]\nExecStart=/opt/agentd/worker %s\n%s\n[Worker]\nId=%d\n%s\n" % (args, service, id, section))

    def do(self, *command):
        r = self.box.run(*command, timeout=60)
        if r.returncode:
            raise AssertionError("%s: %d %s%s" % (" ".join(command), r.returncode, r.stdout, r.stderr))
        return r.stdout

    def show(self, what, unit="agentd.service"):
        return self.do("systemctl", "show", "-P", what, unit).strip()

    def until(self, condition, what):
        value = look_until(condition, DEADLINE, self.bell)
        if not value:
            raise AssertionError("%s did not come true\n%s" % (what, self.journal()))
        return value

    def journal(self):
        self.do("journalctl", "--sync")
        return self.do("journalctl", "-u", "agentd.service", "-o", "short-precise", "--no-pager", "-n", "80")

    def http(self, method, path):
        """(status, body) over the unix socket, asked from inside."""
        code = ("import http.client,socket,sys\nc=http.client.HTTPConnection('agentd',timeout=20)\n"
                "c.sock=socket.socket(socket.AF_UNIX)\nc.sock.connect('/run/agentd/agentd.sock')\n"
                "c.request(sys.argv[1],sys.argv[2],headers={'Content-Length':'0'} if sys.argv[1]=='POST' else {})\n"
                "r=c.getresponse()\nprint(r.status)\nprint(r.read().decode())\n")
        status, body = self.do("/usr/bin/python3", "-c", code, method, path).split("\n", 1)
        return int(status), json.loads(body)

    def workers(self):
        status, body = self.http("GET", "/agentd/v1/workers")
        assert status == 200, body
        return {w["alias"]: w for w in body["data"]["contents"]}

    def all_up(self):
        self.until(lambda: all(w["state"] == "UP" for w in self.workers().values()), "all UP")
        return self.workers()

    def members(self, leaf):
        try:
            return [int(x) for x in self.do("cat", "%s/%s/cgroup.procs" % (GROUP, leaf)).split()]
        except AssertionError:
            return []

    # --- the tests --------------------------------------------------------------------------------

    def test_active_only_when_ready(self):
        """A state folder that another writer holds keeps agentd from READY: the unit stays activating until it is let go."""
        os.makedirs(self.box.path("/var/lib/agentd"), exist_ok=True)
        hold = "exec 9>/var/lib/agentd/state.lock; flock 9; echo held; read x < /run/hold"
        self.do("mkfifo", "/run/hold")
        self.do("chmod", "700", "/var/lib/agentd")
        self.do("systemd-run", "--unit=holder", "-q", "/bin/bash", "-c", hold)
        self.until(lambda: "held" in self.do("journalctl", "-u", "holder", "-o", "cat", "--no-pager"), "the lock is held")
        self.do("systemctl", "start", "--no-block", "agentd.service")
        self.until(lambda: self.show("MainPID") != "0", "a main process")
        assert self.show("ActiveState") == "activating", self.show("ActiveState")
        self.do("/bin/bash", "-c", "echo > /run/hold")
        self.until(lambda: self.show("ActiveState") == "active", "active")
        assert self.http("GET", "/agentd/v1/workers")[0] == 200
        self.all_up()

    def test_status_text(self):
        self.until(lambda: self.show("StatusText") == "3 workers: 3 up", "the line")
        assert "Status: \"3 workers: 3 up\"" in self.box.run("systemctl", "status", "--no-pager", "agentd.service").stdout
        assert self.http("POST", BASE + "102/stop")[0] == 200
        self.until(lambda: self.show("StatusText") == "3 workers: 1 down, 2 up", "the line after a change")
        assert self.http("POST", BASE + "102/start")[0] == 200
        self.until(lambda: self.show("StatusText") == "3 workers: 3 up", "the line after the next")

    def test_leaves(self):
        main = int(self.show("MainPID"))
        supervisor = self.members("supervisor")
        assert main in supervisor, supervisor
        assert self.members("") == [], "nothing sits where controllers are handed down"
        workers = self.workers()
        for alias, n in (("web", 4), ("told", 1), ("talks", 1)):
            found = self.members("w-" + alias)
            assert len(found) == n and workers[alias]["pid"] in found, (alias, found, workers[alias]["pid"])
        for pid in self.members("w-web"):
            # a host of both hierarchies shows the first one's lines too
            assert "0::/system.slice/agentd.service/w-web" in self.do("cat", "/proc/%d/cgroup" % pid).splitlines()

    def test_listener_is_small(self):
        main = int(self.show("MainPID"))
        others = [p for p in self.members("supervisor") if p != main]
        assert len(others) == 1, others
        status = self.do("cat", "/proc/%d/status" % others[0])
        assert re.search(r"Name:\tagentd-rpc\n", status), status
        assert re.search(r"CapEff:\t0{16}\n", status) and re.search(r"CapBnd:\t0{16}\n|NoNewPrivs:\t1\n", status), status
        assert not re.search(r"Uid:\t0\t", status), status

    def test_restart(self):
        old = self.members("w-web")
        before = self.workers()
        for prefix in ("", "/api/v2"):
            status, body = self.http("POST", prefix + BASE + "101/restart")
            assert status == 200, body
        now = self.members("w-web")
        assert not set(old) & set(now) and body["data"]["pid"] in now, (old, now)
        assert body["data"]["ports"] == "8080", body
        after = self.workers()
        for alias in ("told", "talks"):
            assert after[alias]["pid"] == before[alias]["pid"]

    def test_crashed_worker(self):
        pid = self.workers()["told"]["pid"]
        self.do("kill", "-9", str(pid))
        self.until(lambda: self.workers()["told"]["pid"] not in (0, pid), "a new process")
        self.all_up()

    def test_reload(self):
        before = self.workers()
        self.write("/etc/agentd/workers.d/broken.conf", "[Service]\nExecStart=relative\nWrong=1\n")
        self.worker("new", 104)
        self.do("systemctl", "reload", "agentd.service")
        self.until(lambda: "new" in self.workers(), "the new worker")
        self.until(lambda: self.show("ActiveState") == "active", "active")
        after = self.all_up()
        assert {a: w["pid"] for a, w in before.items()} == {a: w["pid"] for a, w in after.items() if a != "new"}
        self.until(lambda: re.search(r"broken\.conf:2:\d+: ", self.journal()), "the error in the journal")
        self.until(lambda: self.show("StatusText") == "4 workers: 4 up; the last reload found errors", "the status")
        os.unlink(self.box.path("/etc/agentd/workers.d/broken.conf"))
        self.do("systemctl", "reload", "agentd.service")
        self.until(lambda: self.show("StatusText") == "4 workers: 4 up", "a good status again")
        # a broken agentd.conf changes nothing
        self.write("/etc/agentd/agentd.conf", CONF + "Wrong=1\n")
        self.do("systemctl", "reload", "agentd.service")
        self.until(lambda: re.search(r"agentd\.conf:\d+:\d+: ", self.journal()), "the error in the journal")
        self.until(lambda: self.show("ActiveState") == "active", "active")
        assert len(self.all_up()) == 4
        self.write("/etc/agentd/agentd.conf", CONF)
        self.do("systemctl", "reload", "agentd.service")

    def about(self, pid):
        """All that the kernel tells of a process and that its starter decides: {what: value}."""
        def read(name):
            return self.do("cat", "/proc/%s/%s" % (pid, name))
        status = dict(line.split(":", 1) for line in read("status").splitlines())
        found = {k: status[k].split() for k in ("Uid", "Gid", "Groups", "Umask", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff",
                                                "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")}
        found["limits"] = read("limits")
        found["oom_score_adj"] = read("oom_score_adj")
        found["cmdline"] = read("cmdline")
        found["personality"] = read("personality")
        found["timerslack"] = read("timerslack_ns")
        stat = read("stat").rsplit(")", 1)[1].split()
        found["nice, policy"] = stat[16], stat[38]
        found["session leader"] = stat[3] == str(pid)
        found["terminal"] = stat[4]
        for ns in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts", "time"):
            found["namespace " + ns] = self.do("readlink", "/proc/%s/ns/%s" % (pid, ns))
        found["cwd"] = self.do("readlink", "/proc/%s/cwd" % pid)
        found["descriptors"] = self.do("ls", "/proc/%s/fd" % pid).split()
        found["environment"] = dict(x.split("=", 1) for x in read("environ").split("\0") if "=" in x)
        return found

    def test_same_as_systemd(self):
        """The same file, run by systemd and by agentd: no difference but the variables that the manual names."""
        files = {
            "plain": "",
            "user": "User=nobody\nGroup=daemon\nSupplementaryGroups=bin sys\nWorkingDirectory=/var\nUMask=0027\nEnvironment=A=1 \"B=two words\"\n"
                    "EnvironmentFile=/etc/agentd/env\nNice=5\nOOMScoreAdjust=100\nLimitNOFILE=500:1000\nLimitCORE=0\nLimitNPROC=333\n"
                    "NoNewPrivileges=yes\nIgnoreSIGPIPE=no\nRuntimeDirectory=same-%N\nStateDirectory=same/%N\n",
            "caps": "User=nobody\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_CHOWN\n",
            "bound": "CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_SYS_PTRACE\n",
        }
        theirs = {"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MANAGERPID"}
        ours = {"AGENTD_ALIAS", "AGENTD_ID", "AGENTD_GENERATION", "AGENTD_COOKIE"}
        self.write("/etc/agentd/env", "FROM_FILE=yes\n# no\nQUOTED=\"a b\"\n")
        for name, text in files.items():
            text = "[Service]\nExecStart=/bin/sleep infinity\nStandardOutput=null\n" + text
            self.write("/etc/systemd/system/%s.service" % name, text)
            self.write("/etc/agentd/workers.d/%s.conf" % name, text)
        self.do("systemctl", "daemon-reload")
        assert self.http("POST", "/agentd/v1/reload")[0] == 200
        workers = self.all_up()
        wrong = []
        for name in files:
            self.do("systemctl", "start", name)
            by_systemd = self.about(int(self.do("systemctl", "show", "-P", "MainPID", name)))
            by_agentd = self.about(workers[name]["pid"])
            for env, own in ((by_systemd["environment"], theirs), (by_agentd["environment"], ours)):
                for k in own:
                    env.pop(k, None)
            wrong += ["%s: %s: systemd %r, agentd %r" % (name, k, v, by_agentd[k]) for k, v in by_systemd.items() if v != by_agentd[k]]
            self.do("systemctl", "stop", name)
            os.unlink(self.box.path("/etc/agentd/workers.d/%s.conf" % name))
        assert self.http("POST", "/agentd/v1/reload")[0] == 200
        assert not wrong, "\n".join(wrong)

    def test_worker_in_the_journal(self):
        def words():
            self.do("journalctl", "--sync")
            return [json.loads(x) for x in self.do("journalctl", "-t", "talks", "-o", "json", "--no-pager").splitlines()]
        self.until(lambda: len(words()) >= 2, "two lines")
        found = {w["MESSAGE"]: w for w in words()}
        assert set(found) == {"said to the journal", "and an error"}, found
        assert int(found["and an error"]["_PID"]) == self.workers()["talks"]["pid"]
        assert found["and an error"]["_SYSTEMD_UNIT"] == "agentd.service"

    def test_own_log_has_fields(self):
        self.http("POST", BASE + "102/restart")
        self.do("journalctl", "--sync")
        rows = [json.loads(x) for x in self.do("journalctl", "AGENTD_WORKER=told", "-o", "json", "--no-pager").splitlines()]
        ops = [r for r in rows if "AGENTD_OPERATION" in r]
        assert ops and ops[-1]["SYSLOG_IDENTIFIER"] == "agentd" and ops[-1]["AGENTD_AREA"] == "op", rows
        assert ops[-1]["_SYSTEMD_UNIT"] == "agentd.service" and "CODE_FILE" not in ops[-1]

    def died(self, how):
        """agentd, by a signal: the unit's restart takes all workers over, untouched."""
        before, main = self.identities(), self.show("MainPID")
        self.do("kill", "-" + how, main)
        self.until(lambda: self.show("MainPID") not in ("0", main) and self.show("ActiveState") == "active", "a new agentd")
        assert self.identities() == before, self.journal()
        assert {w["ownership"] for w in self.workers().values()} == {"adopted"}

    def test_catalog(self):
        """journalctl -x explains a worker's death; and every kind that the sources name is in the table."""
        self.do("journalctl", "--update-catalog")
        self.until(lambda: "SIGKILL" in self.do("journalctl", "AGENTD_WORKER=told", "-o", "cat", "--no-pager"), "the death in the journal")
        said = self.do("journalctl", "-x", "AGENTD_WORKER=told", "--no-pager")
        assert "Subject: A worker has ended, and nobody has asked it to" in said, said
        assert "agentctl why told" in said, said
        top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        used = set()
        for path in glob.glob(top + "/agentd/*.c"):
            with open(path, encoding="utf-8") as f:
                used |= set(re.findall(r'\.event = "([^"]*)"', f.read()))
        with open(top + "/systemd/messages.def", encoding="utf-8") as f:
            known = re.findall(r"^MESSAGE\(([a-z-]+), ([0-9a-f]{32}), ", f.read(), re.M)
        assert used == {name for name, _ in known}, (used, known)
        assert len({id for _, id in known}) == len(known)
        for _, id in known:
            assert id in self.do("journalctl", "--list-catalog", "--no-pager"), id

    def test_killed_agentd(self):
        for how in ("KILL", "SEGV", "ABRT"):
            self.died(how)

    def test_how_one_ended_that_nobody_watched(self):
        """systemd has had its pidfd: the kernel still knows."""
        workers = self.all_up()
        at_least = len(workers) + 1  # and a listener
        self.until(lambda: int(self.show("NFileDescriptorStore")) >= at_least, "all pidfds with systemd")
        main, pid = self.show("MainPID"), workers["told"]["pid"]
        self.do("kill", "-STOP", main)  # so that both are dead before anybody looks
        self.do("kill", "-9", str(pid))
        self.do("kill", "-9", main)
        self.until(lambda: self.show("MainPID") not in ("0", main) and self.show("ActiveState") == "active", "a new agentd")
        now = self.all_up()
        told = now.pop("told")
        assert (told["lastExit"]["pid"], told["generation"]) == (pid, workers["told"]["generation"] + 1), told
        if tuple(int(x) for x in os.uname().release.split(".")[:2]) >= (6, 15):
            assert (told["lastExit"]["kind"], told["lastExit"]["signal"]) == ("killed", 9), told["lastExit"]
        else:
            assert told["lastExit"]["kind"] == "unknown", told["lastExit"]
        assert {a: w["pid"] for a, w in now.items()} == {a: w["pid"] for a, w in workers.items() if a != "told"}
        want = sorted(w["pid"] for w in self.workers().values())

        def kept():
            """Whose pidfds systemd has, as the kernel says: -1 for one that has ended."""
            found = self.do("sh", "-c", "cat /proc/1/fdinfo/* 2>/dev/null | sed -n 's/^Pid:[[:blank:]]*//p'").split()
            return set(map(int, found)) >= set(want) and "-1" not in found
        self.until(kept, "pidfds of those that run, and of no other")

    def test_watchdog(self):
        """One that hangs: systemd ends it, and its successor takes over, all within WatchdogSec= and a second."""
        since = time.monotonic()
        self.died("STOP")
        assert time.monotonic() - since < 2 + 1, time.monotonic() - since
        assert "Watchdog timeout" in self.journal()

    def test_manager_anew(self):
        before, main = self.identities(), self.show("MainPID")
        self.do("systemctl", "daemon-reload")
        self.do("systemctl", "daemon-reexec")
        self.until(lambda: self.box.run("systemctl", "is-active", "agentd.service").returncode == 0, "the manager")
        assert (self.identities(), self.show("MainPID")) == (before, main)
        self.died("KILL")

    def operations(self):
        return self.http("GET", "/agentd/v1/operations")[1]["data"]["contents"]

    def identities(self):
        return {a: (w["pid"], w["identity"]["startTicks"]) for a, w in self.all_up().items()}

    def test_upgrade_in_place(self):
        """The service manager sees no difference: the same main process, active all the time."""
        before, main, since = self.identities(), self.show("MainPID"), self.show("ActiveEnterTimestampMonotonic")
        self.do("kill", "-USR2", main)
        self.until(lambda: any(o["verb"] == "upgrade" and o["result"] == "done" for o in self.operations()), "the upgrade")
        assert self.identities() == before
        assert (self.show("MainPID"), self.show("ActiveEnterTimestampMonotonic"), self.show("NRestarts")) == (main, since, self.show("NRestarts"))
        assert self.show("ActiveState") == "active"

    def test_failed_upgrade(self):
        """The new program's listener never listens, so it can't confirm: the guardian ends it, and the unit's restart runs the program
        of before, which takes the workers over."""
        before, main = self.identities(), self.show("MainPID")
        self.write("/etc/agentd/agentd.conf", CONF.replace("[Rpc]", "UpgradeTimeoutSec=1\n[Rpc]"))
        self.do("systemctl", "reload", "agentd.service")
        program, rpc = self.box.path("/usr/local/sbin/agentd"), self.box.path("/usr/local/libexec/agentd-rpc")
        shutil.copy(program, program + ".new")
        os.rename(program + ".new", program)
        os.rename(rpc, rpc + ".good")
        shutil.copy(self.box.path("/opt/agentd/fake_upgrade"), rpc)
        self.write("/usr/local/libexec/agentd-rpc.does", "run hang\n")
        self.do("kill", "-USR2", main)
        self.until(lambda: self.show("MainPID") not in ("0", main) and self.show("ActiveState") == "active", "the agentd of before")
        os.rename(rpc + ".good", rpc)
        self.do("pkill", "-9", "-P", self.show("MainPID"), "agentd-rpc")
        self.until(lambda: self.box.run("test", "-S", "/run/agentd/agentd.sock").returncode == 0, "its socket")
        assert self.identities() == before, self.journal()
        assert "/agentd.previous" in self.do("readlink", "/proc/%s/exe" % self.show("MainPID"))
        last = next(o for o in self.operations() if o["verb"] == "upgrade")
        assert last["result"] == "failed", last
        assert "rolled back" in self.http("GET", "/agentd/v1/operations/" + last["id"])[1]["data"]["message"]
        main = self.show("MainPID")
        self.do("kill", "-USR2", main)
        self.until(lambda: self.operations()[0]["verb"] == "upgrade" and self.operations()[0]["result"] == "done", "the next one works")
        assert self.do("readlink", "/proc/%s/exe" % main).strip() == "/usr/local/sbin/agentd"
        assert self.identities() == before

    def test_restart_of_the_unit(self):
        """Twenty times in a row: no worker notices."""
        before, mains = self.identities(), set()
        for _ in range(20):
            self.do("systemctl", "restart", "agentd.service")
            mains.add(self.show("MainPID"))
            assert self.identities() == before, self.journal()
        assert len(mains) == 20
        assert "systemd's job: restart" in self.journal()

    def test_sockets_are_kept(self):
        """Over restarts and a death of agentd nobody who connects is refused, neither by agentd nor by a worker that died with it."""
        self.worker("held", 106, "", section="ListenStream=/run/held.sock\nListenStream=127.0.0.1:8081")
        assert self.http("POST", "/agentd/v1/reload")[0] == 200
        self.all_up()
        code = ("import socket,sys,time\nn=0\nprint('begun',flush=True)\n"
                "import select\n"
                "while not select.select([0],[],[],0)[0]:\n"
                "  for a in ('/run/agentd/agentd.sock','/run/held.sock',('127.0.0.1',8081)):\n"
                "    s=socket.socket(socket.AF_UNIX if isinstance(a,str) else socket.AF_INET)\n"
                "    s.connect(a)\n"
                "    if isinstance(a,str) and 'agentd' in a:\n"
                "      s.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')\n"
                "      b=b''\n"
                "      while True:\n"
                "        m=s.recv(4096)\n"
                "        if not m: break\n"
                "        b+=m\n"
                "      assert b.startswith(b'HTTP/1.1 200') or b.startswith(b'HTTP/1.1 503') or not b, b\n"
                "      n+=b.startswith(b'HTTP/1.1 200')\n"
                "    s.close()\n"
                "print(n)\n")
        p = self.box.popen("/usr/bin/python3", "-c", code)
        try:
            assert p.stdout.readline() == "begun\n"
            for _ in range(5):
                self.do("systemctl", "restart", "agentd.service")
            main, held = self.show("MainPID"), self.workers()["held"]["pid"]
            self.do("kill", "-STOP", main)  # so that both are dead before anybody looks
            self.do("kill", "-9", str(held))
            self.do("kill", "-9", main)
            self.until(lambda: self.show("MainPID") not in ("0", main) and self.show("ActiveState") == "active", "a new agentd")
            assert self.all_up()["held"]["pid"] != held
        finally:
            out, err = p.communicate("\n", timeout=60)
        assert p.returncode == 0, err
        assert int(out) > 50, out
        self.worker("held", 106)  # without them: they are closed, and nobody keeps them
        assert self.http("POST", "/agentd/v1/reload")[0] == 200
        self.all_up()
        assert self.box.run("test", "-e", "/run/held.sock").returncode, "its file is left"
        self.do("systemctl", "restart", "agentd.service")
        self.all_up()
        assert "has an address that no" not in self.journal()
        assert not self.do("ss", "-Hltn", "sport = :8081")

    def test_stop(self):
        """What a restart leaves alone a stop ends."""
        pids = [p for leaf in ("w-web", "w-told", "w-talks", "w-new", "w-held", "supervisor") for p in self.members(leaf)]
        assert len(pids) >= 10, pids
        self.do("systemctl", "stop", "agentd.service")
        assert self.show("ActiveState") == "inactive" and self.show("Result") == "success", self.journal()
        for p in pids:
            assert self.box.run("test", "-d", "/proc/%d" % p).returncode, "pid %d is left" % p
        assert self.box.run("test", "-e", GROUP).returncode, "the cgroup is left"
        assert "SIGKILL" not in self.journal().split("Stopping")[-1]
        assert "systemd's job: stop" in self.journal()
        self.do("systemctl", "start", "agentd.service")
        assert len(self.all_up()) == 5

    def test_stop_that_takes_long(self):
        """Longer than the unit's own time: agentd asks for more, and nobody is killed by systemd."""
        self.drop_in("[Service]\nTimeoutStopSec=6s\nWatchdogSec=2s\n")
        self.do("systemctl", "daemon-reload")
        self.worker("slow", 105, "--slow-stop 8000")
        self.do("systemctl", "reload", "agentd.service")
        self.until(lambda: "slow" in self.workers(), "the slow one")
        self.all_up()
        self.do("systemctl", "stop", "agentd.service")
        assert self.show("Result") == "success", self.journal()
        assert "timed out" not in self.journal().split("Stopping")[-1]
        assert self.box.run("test", "-e", GROUP).returncode, "the cgroup is left"

    def test_socket_unit(self):
        """systemd listens from early on: the first caller starts agentd, and the path outlives it."""
        self.drop_in("[Service]\nWatchdogSec=2s\n")
        os.unlink(self.box.path("/etc/agentd/workers.d/slow.conf"))
        self.do("systemctl", "daemon-reload")
        self.do("systemctl", "start", "agentd.socket")
        assert self.show("ActiveState") == "inactive"
        assert len(self.workers()) == 5  # asked over that socket
        self.all_up()
        before = self.do("stat", "-c", "%i", "/run/agentd/agentd.sock")
        self.do("systemctl", "restart", "agentd.service")
        self.all_up()
        self.do("systemctl", "stop", "agentd.service")
        assert self.do("stat", "-c", "%i", "/run/agentd/agentd.sock") == before
        assert len(self.workers()) == 5
        self.do("systemctl", "stop", "agentd.socket", "agentd.service")

    def test_doctor(self):
        """Each setting of the unit that would hurt is told, and none of those of the unit that is installed."""
        def told():
            r = self.box.run("/usr/local/bin/agentctl", "doctor", timeout=60)
            assert r.returncode in (0, 1), r.stderr
            return [x for x in r.stdout.splitlines() if "the unit " in x]
        self.do("systemctl", "start", "agentd.service")
        self.all_up()
        assert told() == [], told()
        self.drop_in("[Service]\nKillMode=control-group\nOOMPolicy=stop\nRestart=on-failure\nTasksMax=200\nMemoryMax=1G\n"
                     "RuntimeDirectoryPreserve=no\nFileDescriptorStoreMax=0\n")
        self.do("systemctl", "daemon-reload")
        expected = ["KillMode=control-group: ", "OOMPolicy=stop: ", "Restart=on-failure: ", "TasksMax=200: ", "MemoryMax=1073741824: ",
                    "RuntimeDirectoryPreserve=no: ", "FileDescriptorStoreMax=0, and %d descriptors " % (1 + len(self.workers()))]
        found = told()
        assert len(found) == len(expected) and all("the unit has " + e in f for e, f in zip(expected, found)), found
        self.do("systemctl", "stop", "agentd.service")
        self.drop_in("[Service]\nDelegate=no\n")
        self.do("systemctl", "daemon-reload")
        self.do("systemctl", "start", "agentd.service")
        found = told()
        assert len(found) == 1 and "no Delegate=yes" in found[0], found
        self.do("systemctl", "stop", "agentd.service")

    def test_unit_is_well_made(self):
        r = self.box.run("systemd-analyze", "verify", "/usr/local/lib/systemd/system/agentd.service", "/usr/local/lib/systemd/system/agentd.socket")
        assert not [x for x in (r.stdout + r.stderr).splitlines() if "man" not in x], r.stdout + r.stderr


def make_root_a_mount_point():
    """In a plain chroot "/" is a folder, and nspawn can't make it private: go on in a mount of it, in a mount namespace."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        if any(line.split()[4] == "/" for line in f) or os.geteuid() != 0 or "AGENTD_BOX_ROOT" in os.environ:
            return
    script = ('mount --make-rprivate "$1" 2>/dev/null; mkdir -p "$1" && mount --rbind / "$1" && '
              'root=$1 && shift && AGENTD_BOX_ROOT=1 exec chroot "$root" "$@"')
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script, "sh",
                          "/run/agentd-box-root", sys.executable, os.path.abspath(sys.argv[0]),
                          *(os.path.abspath(a) for a in sys.argv[1:])])


def run_all(kind, make):
    """Its tests, in their order, in one box; make(box) makes them. 1 if one of them failed."""
    make_root_a_mount_point()
    names = [n for n in vars(kind) if n.startswith("test_")]
    area, bad = kind.AREA, 0
    try:
        with Box() as box:
            tests = make(box)
            for i, n in enumerate(names, 1):
                try:
                    getattr(tests, n)()
                    print("ok %d - %s.%s" % (i, area, n), flush=True)
                except Exception:  # noqa: BLE001
                    bad += 1
                    print("not ok %d - %s.%s" % (i, area, n))
                    text = traceback.format_exc()
                    try:
                        text += tests.journal()
                    except Exception as e:  # noqa: BLE001
                        text += "no journal: %s" % e
                    print("".join("# %s\n" % line for line in text.splitlines()), flush=True)
    except Impossible as e:
        print("ok 1 - %s # SKIP %s" % (area, str(e).replace("\n", " ")))
    print("1..%d" % len(names))
    return 1 if bad else 0


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    return run_all(Tests, lambda box: Tests(box, os.path.abspath(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
