# SPDX-License-Identifier: Apache-2.0
"""A throw-away container with the machine's own systemd as its process 1.

An overlay over / (or, where that is refused, a copy of what systemd needs) on a tmpfs; a cgroup2 subtree of its own;
systemd-nspawn without the help of a systemd on the host. Nothing is left when it is closed.
"""
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

BOOT_SEC = 60
CLOSE_SEC = 10
TARGET = """[Unit]
Requires=basic.target systemd-journald.service
After=basic.target systemd-journald.service
AllowIsolate=yes
"""


class Impossible(Exception):
    """This machine can't boot a container: why."""


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def must(*command):
    r = run(*command)
    if r.returncode:
        raise Impossible("%s: %s" % (" ".join(command), (r.stderr or r.stdout).strip()[-300:]))
    return r.stdout


def cgroup2_mount():
    with open("/proc/self/mounts", encoding="utf-8") as f:
        for line in f:
            words = line.split()
            if words[2] == "cgroup2" and "ro" not in words[3].split(","):
                return words[1]
    return None


class Box:
    def __init__(self):
        self.dir = self.mount = self.cgroup = self.own_mount = self.proc = self.leader = None
        self.old = None
        self.name = "agentd-box-%d" % os.getpid()

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *args):
        self.close()

    def up(self):
        if os.geteuid() != 0:
            raise Impossible("needs root")
        for program in ("systemd-nspawn", "nsenter", "mount"):
            if not shutil.which(program):
                raise Impossible(program + " is not installed")
        self.dir = tempfile.mkdtemp(prefix="agentd-box.")
        must("mount", "-t", "tmpfs", "-o", "mode=755", "agentd-box", self.dir)
        self.mount = self.dir + "/root"
        os.mkdir(self.mount)
        self.make_root()
        self.make_cgroup()
        self.boot()

    def make_root(self):
        for n in ("upper", "work"):
            os.mkdir(self.dir + "/" + n)
        r = run("mount", "-t", "overlay", "agentd-box", "-o",
                "lowerdir=/,upperdir=%s/upper,workdir=%s/work" % (self.dir, self.dir), self.mount)
        if r.returncode or not os.path.exists(self.mount + "/usr/lib/systemd/systemd"):
            run("umount", self.mount)
            self.copy_root()
        self.prepare_root()

    def copy_root(self):
        """Where / can't be a lower layer: /usr is bound read-only, the small rest copied."""
        for n in ("proc", "sys", "dev", "run", "tmp", "var", "root", "usr", "opt", "var/log", "var/lib", "var/tmp"):
            os.makedirs(self.mount + "/" + n, exist_ok=True)
        must("cp", "-a", "/etc", self.mount + "/")
        for n in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if os.path.islink("/" + n):
                os.symlink(os.readlink("/" + n), self.mount + "/" + n)
            elif os.path.isdir("/" + n):
                must("cp", "-a", "/" + n, self.mount + "/")
        must("mount", "--bind", "/usr", self.mount + "/usr")

    def prepare_root(self):
        etc = self.mount + "/etc/systemd/system"
        os.makedirs(etc, exist_ok=True)
        with open(etc + "/agentd-box.target", "w", encoding="ascii") as f:
            f.write(TARGET)
        # what this machine starts at boot is not wanted in the box
        for wants in ("timers.target.wants", "multi-user.target.wants", "sysinit.target.wants", "sockets.target.wants"):
            shutil.rmtree(etc + "/" + wants, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.mount + "/usr/sbin/policy-rc.d")
        os.makedirs(self.mount + "/var/log/journal", exist_ok=True)
        if not os.path.exists(self.mount + "/etc/machine-id") or os.path.getsize(self.mount + "/etc/machine-id") < 33:
            with open(self.mount + "/etc/machine-id", "w", encoding="ascii") as f:
                f.write("%032x\n" % int.from_bytes(os.urandom(16), "big"))
        if not os.path.exists(self.mount + "/etc/os-release"):
            with contextlib.suppress(FileExistsError):
                os.symlink("../usr/lib/os-release", self.mount + "/etc/os-release")

    def make_cgroup(self):
        top = cgroup2_mount()
        if top is None:
            self.own_mount = self.dir + "/cgroup2"
            os.mkdir(self.own_mount)
            must("mount", "-t", "cgroup2", "cgroup2", self.own_mount)
            top = self.own_mount
        self.cgroup = top + "/" + self.name
        try:
            os.mkdir(self.cgroup)
        except OSError as e:
            self.cgroup = None
            raise Impossible("cgroup2 can't be written: %s" % e) from None

    def enter_cgroup(self):
        with open(self.cgroup + "/cgroup.procs", "w", encoding="ascii") as f:
            f.write("0")

    def boot(self):
        env = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_SECCOMP": "0", "SYSTEMD_NSPAWN_LOCK": "0"}
        env["NOTIFY_SOCKET"] = self.dir + "/notify"
        with open(self.dir + "/console", "wb") as console, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(env["NOTIFY_SOCKET"])
            self.proc = subprocess.Popen(
                ["systemd-nspawn", "-q", "--notify-ready=yes", "-M", self.name, "-D", self.mount, "--keep-unit", "--register=no",
                 "--private-network", "--capability=all", "--link-journal=no", "--console=pipe",
                 "--kill-signal=SIGRTMIN+3", "-b", "systemd.unit=agentd-box.target", "systemd.show_status=no"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=env, preexec_fn=self.enter_cgroup)
            self.await_boot(notify)

    def await_boot(self, notify):
        """Until its systemd says that it is ready, or the container ends."""
        end, died = time.monotonic() + BOOT_SEC, os.pidfd_open(self.proc.pid)
        try:
            while not self.is_up():
                ready = select.select([notify, died], [], [], max(end - time.monotonic(), 0))[0]
                if notify not in ready:
                    raise Impossible("the container does not boot: " + self.console()[-600:])
                notify.recv(4096)
        finally:
            os.close(died)

    def is_up(self):
        with open("/proc/%d/task/%d/children" % (self.proc.pid, self.proc.pid), encoding="ascii") as f:
            words = f.read().split()
        if not words:
            return False
        self.leader = int(words[0])
        if run("nsenter", "-t", str(self.leader), "-m", "-r", "test", "-S", "/run/systemd/private").returncode:
            return False
        r = self.run("systemctl", "is-active", "agentd-box.target")
        return r.stdout.strip() == "active"

    def remove_cgroup(self, base):
        """Once nobody is left in it: all were killed, and go in their time."""
        for top, _, _ in os.walk(base, topdown=False):
            with contextlib.suppress(OSError), open(top + "/cgroup.procs", encoding="ascii") as f:
                for pid in f.read().split():
                    with contextlib.suppress(ProcessLookupError):
                        fd = os.pidfd_open(int(pid))
                        select.select([fd], [], [], CLOSE_SEC)
                        os.close(fd)
            with contextlib.suppress(OSError):
                os.rmdir(top)

    def console(self):
        with contextlib.suppress(OSError), open(self.dir + "/console", encoding="utf-8", errors="replace") as f:
            return f.read()
        return ""

    def run(self, *command, **more):
        return run("nsenter", "-t", str(self.leader), "-a", "-r", "-w", "--", *command, **more)

    def popen(self, *command):
        return subprocess.Popen(["nsenter", "-t", str(self.leader), "-a", "-r", "-w", "--", *command], text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def path(self, inside):
        """A file of the box, as seen from here."""
        return self.mount + inside

    def close(self):
        if self.proc and self.proc.poll() is None:
            if self.leader:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.leader, signal.SIGKILL)  # the whole pid namespace goes with it
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait(10)
        if self.cgroup:
            for base in (self.cgroup, "/sys/fs/cgroup/systemd/" + self.name):
                self.remove_cgroup(base)
        if self.dir:
            for where in (self.own_mount, self.mount and self.mount + "/usr", self.mount, self.dir):
                if where and os.path.ismount(where):
                    run("umount", "-l", where)
            with contextlib.suppress(OSError):
                os.rmdir(self.dir)
        with contextlib.suppress(OSError):
            os.rmdir("/run/systemd/nspawn/propagate/" + self.name)
