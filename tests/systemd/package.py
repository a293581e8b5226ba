# SPDX-License-Identifier: Apache-2.0
"""The Debian package on a booted systemd, from its installation to its purge: package.py BUILDDIR FOLDER-OF-DEB. Prints TAP lines."""
import glob
import os
import shutil
import subprocess
import sys
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import run  # noqa: E402
from bell import Bell  # noqa: E402
from box import Box, Impossible  # noqa: E402


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
    def __init__(self, box, build, debs):
        self.box, self.bell = box, Bell()
        for path in glob.glob("/proc/%d/root/run/log/journal/*" % box.leader):
            self.bell.listen(path)
        os.makedirs(box.path("/opt/agentd"))
        shutil.copy(os.path.join(build, "tests/lib/worker"), box.path("/opt/agentd/worker"))
        deb, = glob.glob(debs + "/agentd_*.deb")
        shutil.copy(deb, box.path("/opt/first.deb"))
        next_version(deb, box.path("/opt/second.deb"))
        for policy in ("/usr/sbin/policy-rc.d",):  # of whoever made this root: services start as on a host
            if os.path.exists(box.path(policy)):
                os.unlink(box.path(policy))

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
        known = self.known
        assert [x for x in mine if x not in known] == [], mine


def main():
    build, debs = (os.path.abspath(a) for a in sys.argv[1:3])
    run.make_root_a_mount_point()
    names = [n for n in vars(Tests) if n.startswith("test_")]
    bad = 0
    try:
        with Box() as box:
            tests = Tests(box, build, debs)
            # the machine's own, that are none of the package's
            tests.known = set(tests.do("find", "/etc", "/lib", "/usr", "/var", "/run", "-xdev", "-name", "*agentd*").split())
            for i, n in enumerate(names, 1):
                try:
                    getattr(tests, n)()
                    print("ok %d - package.%s" % (i, n), flush=True)
                except Exception:  # noqa: BLE001
                    bad += 1
                    print("not ok %d - package.%s" % (i, n))
                    text = traceback.format_exc()
                    print("".join("# %s\n" % line for line in (text + tests.journal()).splitlines()), flush=True)
    except Impossible as e:
        print("ok 1 - package # SKIP %s" % str(e).replace("\n", " "))
    print("1..%d" % len(names))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
