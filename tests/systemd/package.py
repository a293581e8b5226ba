# SPDX-License-Identifier: Apache-2.0
"""The Debian package on a booted systemd, from its installation to its purge: package.py BUILDDIR FOLDER-OF-DEB. Prints TAP lines."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import run  # noqa: E402
from bell import Bell  # noqa: E402


ETC = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "etc")
NGINX = """pid %(home)s/nginx/nginx.pid;
error_log %(home)s/nginx/error.log;
worker_processes 2;
events {}
http {
  access_log off;
  client_body_temp_path %(home)s/nginx/body; proxy_temp_path %(home)s/nginx/proxy; fastcgi_temp_path %(home)s/nginx/fastcgi;
  uwsgi_temp_path %(home)s/nginx/uwsgi; scgi_temp_path %(home)s/nginx/scgi;
  server { listen 127.0.0.1:%(port)d; location / { return 200 "a user's own\\n"; } }
}
"""


def next_version(deb, to):
    """The same package with a higher number, as an upgrade has it."""
    tree = to + ".tree"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = os.path.join(tree, "DEBIAN/control")
    with open(control, encoding="utf-8") as f:
        text = f.read().replace("Version: 0.1.0\n", "Version: 0.1.1\n")
    with open(control, "w", encoding="utf-8") as f:
        f.write(text)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, to], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)


class Tests(run.Tests):
    AREA = "package"

    def __init__(self, box, build, debs):
        self.box, self.bell, self.build = box, Bell(), build
        for path in glob.glob("/proc/%d/root/run/log/journal/*" % box.leader):
            self.bell.listen(path)
        os.makedirs(box.path("/opt/agentd"))
        shutil.copy(os.path.join(build, "tests/lib/worker"), box.path("/opt/agentd/worker"))
        deb, = glob.glob(debs + "/agentd_*.deb")
        shutil.copy(deb, box.path("/opt/first.deb"))
        next_version(deb, box.path("/opt/second.deb"))
        # the machine's own, that are none of the package's
        self.known = set(self.do("find", "/etc", "/lib", "/usr", "/var", "/run", "-xdev", "-name", "*agentd*").split())

    def worker(self, alias, id, args="", service="", section=""):
        self.write("/etc/agentd/workers.d/%s.conf" % alias,
                   "[Service]\nExecStart=/opt/agentd/worker %s\n%s\n[Worker]\nId=%d\n%s\n" % (args, service, id, section))

    # --- the tests, in this order ------------------------------------------------------------------

    def test_installed(self):
        """It starts on its own, with no worker and without a HostId, as a user of its own for what listens."""
        self.do("dpkg", "-i", "/opt/first.deb")
        assert self.show("ActiveState") == "active", self.journal()
        assert self.show("UnitFileState") == "enabled"
        assert self.show("StatusText") == "0 workers", self.show("StatusText")
        status, body = self.http("GET", "/compute/hosts/1/agent")
        assert status == 503 and "agentctl setup" in body["error"]["message"], body
        assert self.do("ps", "-o", "user=", "-C", "agentd-rpc").strip() == "agentd-rpc"
        self.do("getent", "group", "agentd")
        assert self.do("stat", "-c", "%a %U", "/var/lib/agentd", "/run/agentd", "/etc/agentd/agentd.conf").split("\n")[:3] == [
            "700 root", "755 root", "644 root"]

    def test_workers(self):
        self.worker("web", 101, "--children 2 --listen 8080", section="ReadyCheck=tcp:8080")
        self.worker("told", 102, "--delay 20 --notify READY=1", "Type=notify")
        self.do("systemctl", "reload", "agentd.service")
        self.until(lambda: len(self.workers()) == 2, "two workers")
        self.all_up()

    def test_same_as_a_unit(self):
        """What a worker sees under the unit that is installed is what it would see as a unit of its own."""
        self.test_same_as_systemd()
        os.unlink(self.box.path("/etc/agentd/env"))

    def test_upgraded(self):
        """In place: the same pid, the same workers, active all the time, and no restart."""
        before, main, since = self.identities(), self.show("MainPID"), self.show("ActiveEnterTimestampMonotonic")
        self.do("dpkg", "-i", "/opt/second.deb")
        assert self.identities() == before
        assert (self.show("MainPID"), self.show("ActiveEnterTimestampMonotonic")) == (main, since), self.journal()
        last = next(o for o in self.operations() if o["verb"] == "upgrade")
        assert last["result"] == "done", last
        self.do("dpkg", "-i", "/opt/first.deb")  # and back
        assert (self.identities(), self.show("MainPID")) == (before, main)

    def test_supervisor_under_systemd(self):
        """Its unit is not started anew, nor at the next boot; what it ran is agentd's, the same processes."""
        self.write("/etc/supervisor/conf.d/two.conf", "".join("[program:sup%d]\ncommand=/opt/agentd/worker --children %d\nstartsecs=0\nautorestart=true\nstopasgroup=true\n" % (n, n) for n in (1, 2)))
        self.do("systemctl", "enable", "--quiet", "supervisor.service")
        conf, folder = "/etc/supervisor/supervisord.conf", "/etc/systemd/system/supervisor.service.d"
        status = lambda: [l.split() for l in self.box.run("supervisorctl", "status").stdout.splitlines()]
        running = lambda: {l[0]: int(l[3].rstrip(",")) for l in status()}
        self.do("mkdir", folder)
        for text, why in (("WatchdogSec=1h", "is its WatchdogSec="), ("Restart=always", "Restart=always of supervisor.service can't be changed"),
                          ("RestartForceExitStatus=SIGKILL", "RestartForceExitStatus=")):  # what an administrator has set has the last word
            self.write(folder + "/zzz.conf", "[Service]\n%s\n" % text)
            self.do("systemctl", "daemon-reload")
            self.do("systemctl", "restart", "supervisor.service")
            self.until(lambda: [l[1] for l in status()] == ["RUNNING"] * 2, "supervisor's two")
            pids, peer = running(), self.show("MainPID", "supervisor.service")
            r = self.box.run("agentctl", "migrate", "supervisord", conf)
            assert (r.returncode, r.stdout) == (1, "") and why in r.stderr, (text, r)
            assert (running(), self.show("MainPID", "supervisor.service")) == (pids, peer), status()
            assert not set(pids) & set(self.workers()) and self.box.run("test", "-e", "/run/systemd/system/supervisor.service.d").returncode == 1
        self.do("rm", "-r", folder)
        self.do("systemctl", "daemon-reload")
        assert (self.show("MainPID", "supervisor.service"), self.show("ActiveState", "supervisor.service")) == (peer, "active")
        self.do("agentctl", "migrate", "supervisord", conf, "--hold")
        assert self.show("ActiveState", "supervisor.service") == "active"
        self.do("agentctl", "migrate", "--undo")
        assert running() == pids, status()
        # a unit that can't be disabled: on record is by then that there is no way back, and again that there is one
        self.do("mkdir", "-p", "/opt/no")
        self.write("/opt/no/systemctl", "#!/bin/sh\ncase $* in *disable*) cp /var/lib/agentd/migration /opt/no; ls /etc/agentd/workers.d/*.d >/opt/no/held; exit 1;; esac\n"
                                        "exec /usr/bin/systemctl \"$@\"\n")
        self.do("chmod", "+x", "/opt/no/systemctl")
        r = self.box.run("env", "PATH=/opt/no:/usr/sbin:/usr/bin", "agentctl", "migrate", "supervisord", conf)
        assert r.returncode == 1 and "the peer is halted still: call again, or with --undo" in r.stderr, r
        assert "\nstate ending\n" in self.do("cat", "/opt/no/migration") and "\nstate held\n" in self.do("cat", "/var/lib/agentd/migration")
        assert self.do("cat", "/opt/no/held").count("zz-agentctl-migrate.conf") == 2
        self.do("agentctl", "migrate", "--undo")
        assert running() == pids, status()
        self.do("agentctl", "migrate", "supervisord", conf)
        assert {a: self.workers()[a]["pid"] for a in pids} == pids, self.workers()
        assert self.show("ActiveState", "supervisor.service") == "inactive"
        assert self.show("UnitFileState", "supervisor.service") == "disabled"
        assert self.show("NRestarts", "supervisor.service") == "0"
        assert self.box.run("pgrep", "-f", "supervisord").returncode == 1
        assert self.box.run("test", "-e", "/run/systemd/system/supervisor.service.d").returncode == 1
        for alias in pids:
            self.do("agentctl", "stop", alias)
            self.do("rm", "/etc/agentd/workers.d/%s.conf" % alias)
        self.do("rm", "/etc/supervisor/conf.d/two.conf")
        self.do("systemctl", "reload", "agentd.service")
        self.until(lambda: not set(pids) & set(self.workers()), "without them")

    def test_obagents_command(self):
        """By its name: stop and start are those of the unit; what was stopped with it is back."""
        self.do("ln", "-s", "agentctl", "/usr/bin/ob_agentctl")
        ob = lambda *words: json.loads(self.do("ob_agentctl", *words))["message"]
        pids = [w["pid"] for w in self.workers().values()]
        assert ob("stop") == "ok" and self.show("ActiveState") == "inactive", self.journal()
        assert all(self.box.run("test", "-d", "/proc/%d" % p).returncode for p in pids)
        r = self.box.run("ob_agentctl", "status")
        assert r.returncode == 255 and "agentd_not_running" in json.loads(r.stderr)["error"], r
        assert ob("start") == "ok" and self.show("ActiveState") == "active"
        status = ob("status")
        assert status["ready"] and {s["state"] for s in status["services"].values()} == {"running"}, status
        main = self.show("MainPID")
        assert ob("restart") == "ok" and self.show("MainPID") == main
        self.do("rm", "/usr/bin/ob_agentctl")

    # --- agentd of a user ---------------------------------------------------------------------------

    def demo_of(self, user, where):
        """The demo's workers, as that user's own; the configuration's path."""
        home, port = "/home/" + user, 9000 + 10 * len(user)
        self.do("useradd", "-m", user)
        shutil.copy(os.path.join(self.build, "bin/ob_cleaner"), self.box.path("/opt/agentd/ob_cleaner"))
        for d in ("nginx", "redis", "cleaner/rotated", ".config/agentd/workers.d"):
            os.makedirs(self.box.path("%s/%s" % (home, d)))
        self.write(home + "/nginx/nginx.conf", NGINX % {"home": home, "port": port})
        for name in ("nginx", "redis", "ob_cleaner"):
            with open(os.path.join(ETC, "demo/workers.d/%s.conf.in" % name), encoding="utf-8") as f:
                text = re.sub("(?m)^(User|Group)=.*\n", "", f.read())
            for mark, value in (("DIR", home), ("BIN", "/opt/agentd"), ("NGINX_PORT", port), ("REDIS_PORT", port + 1)):
                text = text.replace("@%s@" % mark, str(value))
            self.write("%s/.config/agentd/workers.d/%s.conf" % (home, name), text)
        config = home + "/.config/agentd/agentd.conf"
        self.write(config, "[Agent]\nHostId=20\nWorkersDirectory=%%h/.config/agentd/workers.d\n%s\n[Rpc]\nListenStream=%s/agentd.sock\n" % (where, home))
        self.do("chown", "-R", user + ":", home)
        return config

    def ctl_of(self, user, *words):
        return self.do("agentctl", "--socket", "/home/%s/agentd.sock" % user, *words)

    def demo_is_up(self, user):
        """{alias: pid} once all three are."""
        def look():
            r = self.box.run("agentctl", "--socket", "/home/%s/agentd.sock" % user, "-o", "json", "status")
            rows = json.loads(r.stdout)["contents"] if r.returncode == 0 else []
            return len(rows) == 3 and all(w["state"] == "UP" and w["user"] == user for w in rows) and {w["alias"]: w["pid"] for w in rows}
        return self.until(look, "three workers of %s" % user)

    def test_users_own(self):
        """systemd --user with its delegation: nobody has one who has not asked, and then it is as the system's own."""
        config = self.demo_of("joe", "RuntimeDirectory=%t/agentd\nStateDirectory=%S/agentd\nLogDirectory=%L/agentd")
        uid = self.do("id", "-u", "joe").strip()
        self.do("systemctl", "start", "user@%s.service" % uid)
        for path in glob.glob(self.box.path("/var/log/journal/*")):
            self.bell.listen(path)

        def systemctl(*words):
            return self.do("runuser", "-u", "joe", "--", "env", "XDG_RUNTIME_DIR=/run/user/" + uid, "systemctl", "--user", *words)

        def main_pid():
            return int(systemctl("show", "-P", "MainPID", "agentd.service"))
        assert systemctl("show", "-P", "ActiveState", "agentd.service").strip() == "inactive", "it runs though nobody has enabled it"
        systemctl("enable", "--now", "agentd.service")
        pids = self.demo_is_up("joe")
        group = "/sys/fs/cgroup/user.slice/user-%s.slice/user@%s.service/app.slice/agentd.service" % (uid, uid)
        for alias, pid in pids.items():
            assert str(pid) in self.do("cat", "%s/w-%s/cgroup.procs" % (group, alias)).split(), (alias, pid)
        for _ in range(3):
            systemctl("restart", "agentd.service")
            assert self.demo_is_up("joe") == pids
        before = main_pid()
        self.do("kill", "-9", str(before))
        self.until(lambda: main_pid() not in (0, before) and self.demo_is_up("joe") == pids, "the next agentd of joe")
        told = json.dumps(json.loads(self.ctl_of("joe", "-o", "json", "doctor"))["contents"])
        assert "without cgroups" not in told and "the unit has" not in told, told
        assert "runs as uid " + uid in told, told
        assert self.ctl_of("joe", "restart", "redis")
        systemctl("stop", "agentd.service")
        for pid in self.do("ps", "-o", "comm=", "-u", "joe").split():
            assert pid not in ("agentd", "agentd-rpc", "nginx", "redis-server", "ob_cleaner"), pid
        assert config
        self.do("systemctl", "stop", "user@%s.service" % uid)

    def test_users_own_with_nothing(self):
        """No service manager, no cgroup, no capability: what that costs is told."""
        home = "/home/mary"
        config = self.demo_of("mary", "RuntimeDirectory=%%h/run\nStateDirectory=%%h/state/agentd\nLogDirectory=%%h/log".replace("%%", "%"))
        agentd = self.box.popen("runuser", "-u", "mary", "--", "env", "-i", "HOME=" + home, "/usr/sbin/agentd", "-c", config)
        try:
            pids = self.demo_is_up("mary")
            told = json.dumps(json.loads(self.ctl_of("mary", "-o", "json", "doctor"))["contents"])
            for words in ("workers are tracked without cgroups", "runs as uid"):
                assert words in told, told
            self.do("kill", "-9", str(pids["nginx"]))
            self.until(lambda: self.demo_is_up("mary")["nginx"] != pids["nginx"], "nginx again")
        finally:
            self.box.run("pkill", "-x", "-u", "mary", "agentd")
            agentd.communicate(timeout=60)
        assert self.box.run("ps", "-u", "mary").stdout.count("\n") == 1, self.box.run("ps", "-u", "mary").stdout

    def test_unprivileged(self):
        """The drop-in that is among the examples: another user than root, and all that does not need root is as before."""
        self.do("useradd", "--system", "--user-group", "agentd-workers")
        self.do("systemctl", "stop", "agentd.service")
        os.makedirs(self.box.path("/etc/systemd/system/agentd.service.d"))
        self.do("cp", "/usr/share/doc/agentd/examples/unprivileged.conf", "/etc/systemd/system/agentd.service.d/")
        self.do("systemctl", "daemon-reload")
        self.do("systemctl", "start", "agentd.service")
        workers = self.all_up()
        assert {w["user"] for w in workers.values()} == {"agentd-workers"}, workers
        before = self.identities()
        for alias, w in workers.items():
            assert w["pid"] in self.members("w-" + alias), alias
        for _ in range(3):
            self.do("systemctl", "restart", "agentd.service")
            assert self.identities() == before, self.journal()
        assert "systemd's job: restart" in self.journal()
        self.died("KILL")
        assert self.http("POST", "/agentd/v1/workers/web/restart")[0] == 200
        told = json.dumps(json.loads(self.do("agentctl", "-o", "json", "doctor"))["contents"])
        assert "agentd runs as uid" in told and "without cgroups" not in told, told
        pids = [w["pid"] for w in self.workers().values()]
        self.do("systemctl", "stop", "agentd.service")
        assert all(self.box.run("test", "-d", "/proc/%d" % p).returncode for p in pids), "a stop left workers"
        shutil.rmtree(self.box.path("/etc/systemd/system/agentd.service.d"))
        self.do("systemctl", "daemon-reload")
        self.do("systemctl", "start", "agentd.service")
        assert {w["user"] for w in self.all_up().values()} == {"root"}

    def test_removed(self):
        """No process is left; what the administrator wrote is."""
        pids = [w["pid"] for w in self.workers().values()]
        self.do("dpkg", "-r", "agentd")
        assert all(self.box.run("test", "-d", "/proc/%d" % p).returncode for p in pids)
        assert self.box.run("pgrep", "-x", "agentd|agentd-rpc|worker").returncode == 1
        assert self.box.run("test", "-e", "/etc/agentd/workers.d/web.conf").returncode == 0
        self.do("dpkg", "-i", "/opt/first.deb")
        self.all_up()
        assert {w["id"] for w in self.workers().values()} == {101, 102}

    def test_purged(self):
        self.do("dpkg", "-P", "agentd")
        assert self.box.run("pgrep", "-x", "agentd|agentd-rpc|worker").returncode == 1
        left = self.do("find", "/etc", "/lib", "/usr", "/var", "/run", "/sys/fs/cgroup/system.slice", "-xdev", "-name", "*agentd*", "-not", "-path", "*/journal/*")
        mine = [x for x in left.split() if not x.startswith(("/opt", "/usr/share/doc", "/usr/src"))]
        assert [x for x in mine if x not in self.known] == [], mine


def main():
    build, debs = (os.path.abspath(a) for a in sys.argv[1:3])
    return run.run_all(Tests, lambda box: Tests(box, build, debs))


if __name__ == "__main__":
    sys.exit(main())
