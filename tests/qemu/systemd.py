# SPDX-License-Identifier: Apache-2.0
"""The Debian package under systemd on Debian's stock kernel, with all controllers of cgroup v2, in an emulated machine: systemd.py BUILDDIR
FOLDER-OF-DEB [SUITE]. Prints TAP lines. The machine's root is an initramfs of what the packages of this machine hold, or with SUITE, another
release of Debian, of what mmdebstrap fetches; nothing of it is kept, so a reboot is a second machine that is given what the first one had in
its state."""
import base64
import glob
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "systemd"))
sys.dont_write_bytecode = True
from package import next_version  # noqa: E402

KERNEL = os.environ.get("AGENTD_KERNEL") or os.path.join(os.path.dirname(os.path.dirname(HERE)), "build-kernel/vmlinuz")
LIMIT = 200  # seconds for each machine; it takes a fourth of that
WANTED = ("systemd", "init-system-helpers", "dpkg", "bash", "dash", "coreutils", "procps", "util-linux", "mount", "grep", "sed", "findutils",
          "tar", "gzip", "perl-base", "libc-bin", "base-files", "diffutils", "libpam-runtime", "libpam-modules")
NOT = re.compile(r"^/(usr/share/(doc|man|locale|info|lintian|bug|i18n|perl5/debconf|zoneinfo)|usr/lib/(udev/hwdb|systemd/boot|x86_64-linux-gnu/(perl/|gconv))|lib/udev/hwdb)")
WORKERS = {
    "limited": ("--children 2", "MemoryMax=64M\nTasksMax=50\nCPUQuota=50%", 101),
    "web": ("--listen 8080", "", 102),
    "rests": ("", "", 103),
}


def skip(why):
    print("ok 1 - systemd on a stock kernel # SKIP " + why)
    print("1..1")
    sys.exit(0)


def query(*args):
    return subprocess.run(["dpkg-query", *args], capture_output=True, text=True, check=False).stdout


def closure(names):
    """With all that they depend on, as installed here."""
    table, provides = {}, {}
    for line in query("-W", "-f", "${Package}\t${db:Status-Abbrev}\t${Pre-Depends}, ${Depends}\t${Provides}\n").splitlines():
        name, status, depends, gives = line.split("\t")
        if status.startswith("ii"):
            table[name] = depends
            for g in gives.split(","):
                provides.setdefault(g.split("(")[0].strip(), name)
    found, todo = set(), list(names)
    while todo:
        name = todo.pop()
        name = name if name in table else provides.get(name)
        if not name or name in found:
            continue
        found.add(name)
        for group in table[name].split(","):
            words = [w.split("(")[0].split(":")[0].strip() for w in group.split("|")]
            todo += [w for w in words if w in table or w in provides][:1]
    return found


def copy(root, path):
    to = root + path
    if NOT.match(path) or os.path.lexists(to) or not os.path.lexists(path) or (os.path.isdir(path) and not os.path.islink(path)):
        return
    os.makedirs(os.path.dirname(to), exist_ok=True)
    shutil.copy2(path, to, follow_symlinks=False)


def write(root, path, text, mode=0o644):
    os.makedirs(os.path.dirname(root + path), exist_ok=True)
    with open(root + path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(root + path, mode)


def depends_of(deb):
    text = subprocess.run(["dpkg-deb", "-f", deb, "Depends"], capture_output=True, text=True, check=True).stdout
    return [w.split("(")[0].split("|")[0].strip() for w in text.split(",")]


def own_root(root, deb):
    """Of the packages that are installed here."""
    for d in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "sys", "dev", "run", "tmp", "etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log",
              "root", "opt/workers.d", "etc/agentd"):
        os.makedirs(os.path.join(root, d))
    os.rmdir(root + "/etc/agentd")
    for d in ("bin", "sbin", "lib", "lib64"):
        os.symlink("usr/" + d, os.path.join(root, d))
    for path in query("-L", *sorted(closure([*WANTED, *depends_of(deb)]))).splitlines():
        copy(root, path)
    write(root, "/etc/passwd", "root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n")
    write(root, "/etc/group", "root:x:0:\nadm:x:4:\ntty:x:5:\nnogroup:x:65534:\n")
    write(root, "/var/lib/dpkg/status", open("/var/lib/dpkg/status", encoding="utf-8").read())
    for name in query("-W", "-f", "${binary:Package}\n").split():
        write(root, "/var/lib/dpkg/info/%s.list" % name, "/.\n")


def fetched_root(root, deb, suite):
    """Of another release; apt finds what has another name there."""
    leave = ["--dpkgopt=path-exclude=" + p for p in ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/zoneinfo/*",
                                                     "/usr/share/i18n/*", "/usr/lib/udev/hwdb*", "/usr/lib/x86_64-linux-gnu/gconv/*")]
    subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", "--include=" + ",".join([*WANTED, *depends_of(deb)]), *leave, suite, root],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for waste in ("/var/lib/apt/lists", "/var/cache/apt", "/boot"):
        shutil.rmtree(root + waste, ignore_errors=True)
    os.makedirs(root + "/opt/workers.d")


def make_root(root, build, deb, suite):
    if suite:
        fetched_root(root, deb, suite)
    else:
        own_root(root, deb)
    write(root, "/etc/fstab", "")
    write(root, "/etc/machine-id", "")
    shutil.copy(os.path.join(build, "tests/lib/worker"), root + "/opt/worker")
    for alias, (args, service, id) in WORKERS.items():
        write(root, "/opt/workers.d/%s.conf" % alias, "[Service]\nExecStart=/opt/worker %s\n%s\n[Worker]\nId=%d\n" % (args, service, id))
    write(root, "/opt/hungry.conf", "[Service]\nExecStart=/opt/worker --hog\nMemoryMax=32M\nRestart=no\n[Worker]\nId=104\n")
    shutil.copy(deb, root + "/opt/first.deb")
    next_version(deb, root + "/opt/second.deb")
    shutil.copy(HERE + "/inside.sh", root + "/opt/inside.sh")
    subprocess.run(["ldconfig", "-r", root], check=True)


def unit(root, which):
    write(root, "/etc/systemd/system/inside.service", "[Unit]\nAfter=basic.target systemd-journald.service%s\n[Service]\nType=oneshot\n"
          "ExecStart=-/bin/bash /opt/inside.sh %s\nStandardOutput=tty\nStandardError=inherit\nTTYPath=/dev/ttyS0\nTimeoutStartSec=infinity\n"
          "Environment=HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" % (" agentd.service" if which == "second" else "", which))
    write(root, "/etc/systemd/system/inside.target", "[Unit]\nRequires=basic.target\nWants=inside.service%s\nAfter=basic.target\nAllowIsolate=yes\n"
          % (" agentd.service" if which == "second" else ""))


def boot(work, root):
    image, console = work + "/initramfs", work + "/console"
    with open(image, "wb") as f:
        find = subprocess.Popen(["find", "."], cwd=root, stdout=subprocess.PIPE)
        subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root, stdin=find.stdout, stdout=f, check=True)
        find.wait()
    subprocess.run(["timeout", "-k", "5", str(LIMIT), "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
                    "-m", "1536", "-nodefaults", "-nic", "none", "-display", "none", "-no-reboot", "-serial", "file:" + console, "-kernel", KERNEL,
                    "-initrd", image, "-append", "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/lib/systemd/systemd "
                    "systemd.unit=inside.target systemd.show_status=no"],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    with open(console, encoding="utf-8", errors="replace") as f:
        return f.read().replace("\r", "")


def report(said, which):
    lines = [line for line in said.splitlines() if re.match(r"(not )?ok |# ", line)]
    print("\n".join(lines))
    if not re.search(r"^1\.\.", said, re.M):
        print("not ok - the %s machine ended before its tests did" % which)
        print("\n".join("# " + line for line in said.splitlines()[-30:]))
        return False
    return not any(line.startswith("not ok") for line in lines)


def main():
    build, debs = (os.path.abspath(a) for a in sys.argv[1:3])
    suite = sys.argv[3] if len(sys.argv) > 3 else None
    if os.uname().machine != "x86_64" or not shutil.which("qemu-system-x86_64") or not shutil.which("dpkg-deb"):
        skip("for x86_64, with qemu and dpkg: ./dev deps")
    if suite and not shutil.which("mmdebstrap"):
        skip("mmdebstrap is not installed")
    if not os.access(KERNEL, os.R_OK):
        skip("no kernel: ./dev deps could not fetch one")
    deb, = glob.glob(debs + "/agentd_*.deb")
    with tempfile.TemporaryDirectory(prefix="agentd-qemu.") as work:
        root = work + "/root"
        make_root(root, build, deb, suite)
        unit(root, "first")
        said = boot(work, root)
        good = report(said, "first")
        state = re.search(r"^STATE (\S+)$", said, re.M)
        if not state:
            print("not ok - no state to boot again with")
            return 1
        # the same host after a reboot: the package's files, and what is on its disk
        subprocess.run(["dpkg-deb", "-x", deb, work + "/files"], check=True)
        shutil.copytree(work + "/files", root, symlinks=True, dirs_exist_ok=True)  # tar would put a folder in the place of the link /lib
        write(root, "/etc/passwd", open(root + "/etc/passwd", encoding="utf-8").read() + "agentd-rpc:x:999:999::/:/usr/sbin/nologin\n")
        write(root, "/etc/group", open(root + "/etc/group", encoding="utf-8").read() + "agentd-rpc:x:999:\nagentd:x:998:\n")
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(state.group(1)))) as tar:
            tar.extractall(root)
        unit(root, "second")
        good = report(boot(work, root), "second") and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
