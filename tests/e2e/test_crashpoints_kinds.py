# SPDX-License-Identifier: Apache-2.0
"""The campaign of test_crashpoints over workers of other kinds: with commands around them, folders, credentials, sockets and stored
descriptors; two instances at once; one that waits for another. See there. In ./dev check each scenario is run in one of the two
modes, which one follows from the seed."""
import collections
import contextlib
import itertools
import os
import shutil
import socket

import harness
import test_crashpoints as cp
from harness import eventually

BUDGET = {"kill": 30, "fail": 20}  # seconds, as there
if os.environ.get("AGENTD_TEST_BUDGET"):
    BUDGET = dict.fromkeys(BUDGET, int(os.environ["AGENTD_TEST_BUDGET"]))
LONG = CAMPAIGN = True
numbers = itertools.count()


def lives(path):
    """For a shell: whether the worker that has written its pid there last still runs. A zombie has no words."""
    return "grep -qzx {0} /proc/$(tail -n 1 {0})/cmdline 2>/dev/null".format(path)


class Kinds(cp.World):
    """What differs from one worker to the next is in tables. An alias is in SOCKETS if it has ListenStream=, in STORES if it stores
    a descriptor, in SECRETS, in FOLDERS; NEEDS has whom it waits for."""
    TREES = {}
    SPEAK = SOCKETS = STORES = SECRETS = FOLDERS = frozenset()
    NEEDS = {}
    IDS = {"told": 2, "whole": 11, "forks": 12, "once": 13, "over": 14, "a": 15, "b": 16, "c": 17}
    LOOKS = 5  # a helper that looks at their output may be at work
    RUN_FILES = cp.RUN_FILES | {"credentials"}

    def define_all(self):
        self.kept, self.waiting = collections.Counter(), set()
        self.name = "%s-%d" % (harness.NAME, next(numbers))
        self.port = {a: harness.free_port() for a in self.SOCKETS}
        self.h.write("key", "a secret\n", 0o600)
        self.h.write("bad", "")
        self.case.addCleanup(self.clean)
        for alias in self.TREES:
            self.define(alias)

    def clean(self):
        for alias in self.TREES:
            shutil.rmtree(self.folder(alias), True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.socket_of(alias))

    def folder(self, alias):
        return "/run/%s-%s" % (self.name, alias)

    def socket_of(self, alias):
        return "/run/%s-%s.sock" % (self.name, alias)

    def define(self, alias, more=""):
        args, service, section = getattr(self, "as_" + alias)()
        command = None
        if not args.startswith("-"):
            args, command = "", args
        self.h.worker(alias, args, service + "\nTimeoutStopSec=500ms\n" + more, section, command, id=self.IDS[alias])
        self.defined.add(alias)

    def as_told(self):
        return "--notify READY=1", "Type=notify", ""

    def extras(self, alias):
        """Lines for [Service] and [Worker]"""
        service, section = [], []
        if alias in self.FOLDERS:
            service.append("RuntimeDirectory=%s-%s" % (self.name, alias))
        if alias in self.SECRETS:
            service.append("LoadCredential=key:%s/key\nSetCredential=word:mine" % self.h.dir)
        if alias in self.STORES:
            service.append("FileDescriptorStoreMax=1")
        if alias in self.SOCKETS:
            section.append("ListenStream=127.0.0.1:%d\nListenStream=%s" % (self.port[alias], self.socket_of(alias)))
        return "\n".join(service), "\n".join(section)

    # --- what must hold

    def anything(self):
        return Anything()

    def alias_of(self, leaf):
        return leaf[2:].split("~")[0]

    def waits(self, alias, records):
        """It is wanted, and what it needs is not."""
        need = self.NEEDS.get(alias)
        return bool(need) and records[alias]["goal"] == "UP" and (records[need]["goal"] == "DOWN" or self.waits(need, records))

    def is_settled(self, records):
        for alias, w in records.items():
            if self.waits(alias, records):
                if (w["state"], w["phase"], w["pid"]) != ("STARTING", "waiting", 0):
                    return False
            elif w["state"] != w["goal"]:
                return False
        if any(o["result"] == "running" for o in self.h.ok("GET", "/agentd/v1/operations")["contents"]):
            return False
        return self.records() == records  # none has ended between the two looks

    def expected_descriptors(self, records):
        want = collections.Counter(self.fixed)
        for alias, w in records.items():
            if w["state"] != "UP":
                continue
            want["anon_inode:[pidfd]"] += self.TREES[alias] > 0
            want["socket"] += (alias in self.SPEAK) + 2 * (alias in self.SOCKETS)
            want["/leaf of " + alias] += self.h.cgroup
        return want

    def leaf_path(self, alias):
        return "/leaf of " + alias

    def descriptors(self):
        found, top = collections.Counter(), (self.h.cgroup_dir() or "/nowhere") + "/w-"
        for name, n in super().descriptors().items():
            if name.startswith("/memfd:kept-"):
                self.kept[name[12:].split(" ")[0]] += n
            elif name.startswith(top):
                alias = self.alias_of("w-" + name[len(top):])
                found["/leaf of " + alias] += 0 if alias in self.waiting else n  # kept of the last incarnation
            elif name != "/out" and "inotify" not in name:  # its output is looked at now and then
                found[name] += n
        return +found

    def check_descriptors(self, records, exactly):
        """What is stored is lost when agentd is killed, and never more than one."""
        self.waiting = {a for a in records if self.waits(a, records)}

        def kept():
            self.kept = collections.Counter()
            self.descriptors()
            return all(n <= (a in self.STORES and records[a]["state"] == "UP") for a, n in self.kept.items())
        eventually(kept, cp.SETTLE, "stored descriptors of those only that are up")
        super().check_descriptors(records, exactly)

    def check_leaves(self, records, found, left_alone):
        """Each in one leaf at most, which is the only one."""
        super().check_leaves(records, found, left_alone)
        of = collections.Counter(self.alias_of(leaf) for leaf in self.h.leaves())
        if max(of.values(), default=0) > 1:
            raise AssertionError("leaves: %r" % self.h.leaves())

    def check_folders(self, records):
        super().check_folders(records)
        up = {a for a, w in records.items() if w["state"] == "UP"}
        last = {}

        def clean():
            secrets = self.h.run + "/credentials"
            last["credentials"] = set(os.listdir(secrets)) if os.path.exists(secrets) else set()
            last["folders"] = {a for a in self.TREES if os.path.exists(self.folder(a))}
            last["sockets"] = {a for a in self.TREES if os.path.exists(self.socket_of(a))}
            return last == want
        want = {"credentials": {"%s~%d" % (a, records[a]["generation"]) for a in up & set(self.SECRETS)},
                "folders": up & set(self.FOLDERS), "sockets": up & set(self.SOCKETS)}
        try:
            eventually(clean, cp.SETTLE)
        except AssertionError:
            raise AssertionError("there are %r, and should be %r" % (last, want)) from None
        for alias in up & set(self.SOCKETS):
            for family, address in ((socket.AF_INET, ("127.0.0.1", self.port[alias])), (socket.AF_UNIX, self.socket_of(alias))):
                with socket.socket(family) as s:
                    s.connect(address)
        with open(self.h.dir + "/bad", encoding="ascii") as f:
            bad = f.read()
        if bad:
            self.h.write("bad", "")
            raise AssertionError("order: " + bad)

    def check_control(self, records):
        """One worker, each time another, is restarted; one that waits is stopped, and started with what it waits for."""
        self.turn += 1
        alias = sorted(records)[self.turn % len(records)]
        verb = "stop" if records[alias]["state"] != "UP" else "restart"
        r = self.h.operation(alias, verb)
        now = self.records()[alias]
        if r.status != 200 or now["state"] != ("UP" if verb == "restart" else "DOWN") or (verb == "restart" and now["generation"] <= records[alias]["generation"]):
            raise AssertionError("%s can't be told to %s: %r, %r" % (alias, verb, r, now))
        if verb == "stop":
            self.waiting = set()
            r = self.h.operation(alias, "start")
            if r.status != 200 or self.records()[alias]["state"] != "UP":
                raise AssertionError("%s can't be started: %r, %r" % (alias, r, self.records()[alias]))
        self.h.write("bad", "")  # a restart of what is required leaves who requires it


class Whole(Kinds):
    """One with all that there is around a process, a daemon, a command that leaves nothing, and one that nobody touches."""
    TREES = {"whole": 1, "forks": 1, "once": 0, "told": 1}
    SPEAK = frozenset(["told", "whole"])
    SOCKETS = STORES = SECRETS = FOLDERS = frozenset(["whole"])

    def as_whole(self):
        service, section = self.extras("whole")
        hooks = "\n".join("Exec%s=/bin/sh -c 'echo %s >>%s/hooks'" % (k, k, self.h.dir) for k in ("StartPre", "StartPost", "Stop", "StopPost", "Reload"))
        return "--store kept-whole --notify READY=1", "Type=notify\nStandardOutput=append:%s/out\n%s\n%s\n[Unit]\nConditionPathExists=%s\n[Service]" % (
            self.h.dir, hooks, service, self.h.dir), "LogMaxSize=1M\n" + section

    def as_forks(self):
        return '/bin/sh -c "%s & echo $! >%s/pid.new; mv %s/pid.new %s/pid"' % (harness.WORKER, *[self.h.dir] * 3), \
            "Type=forking\nPIDFile=%s/pid" % self.h.dir, "ReadyCheck=exec:/bin/true"

    def as_once(self):
        return "/bin/true", "Type=oneshot\nRestart=on-failure\nExecStart=/bin/true\nRemainAfterExit=yes\nExecStop=/bin/true", ""


class Over(Kinds):
    """Two instances at once."""
    TREES = {"over": 1, "told": 1}
    SPEAK = frozenset(["told", "over"])
    SOCKETS = STORES = SECRETS = FOLDERS = frozenset(["over"])

    def as_over(self):
        service, section = self.extras("over")
        return "--store kept-over --notify READY=1", "Type=notify\nExecStartPre=/usr/bin/test ! -e %s/broken\nExecStopPost=/bin/true\n%s" % (
            self.h.dir, service), "RestartMode=overlap\n" + section


class Chain(Kinds):
    """c is bound to b, which requires a: whoever stops or starts looks whether the other is there."""
    TREES = {"a": 1, "b": 1, "c": 1, "told": 1}
    SPEAK = frozenset(["told", "a", "b"])
    NEEDS = {"b": "a", "c": "b"}

    def link(self, alias, args="", service=""):
        before, after = self.NEEDS.get(alias), next((x for x, y in self.NEEDS.items() if y == alias), None)
        pid = lambda x: "%s/pid.%s" % (self.h.dir, x)
        if before:
            service += "\nExecStartPre=/bin/sh -c '%s || echo %s starts without %s >>%s/bad'" % (lives(pid(before)), alias, before, self.h.dir)
        if after:
            service += "\nExecStop=/bin/sh -c 'if [ -e {0} ] && {1}; then echo {2} stops before {3} >>{4}/bad; fi'".format(
                pid(after), lives(pid(after)), alias, after, self.h.dir)
        if before:
            service += "\n[Unit]\n%s=%s\n[Service]" % ("BindsTo" if alias == "c" else "Requires", before)
        return "--pid-file %s %s" % (pid(alias), args), service, ""

    def as_a(self):
        return self.link("a", "--notify READY=1", "Type=notify")

    def as_b(self):
        return self.link("b", "--notify READY=1", "Type=notify")

    def as_c(self):
        return self.link("c")


class Mixed(Whole, Chain):
    """For an upgrade."""
    TREES = {"whole": 1, "a": 1, "b": 1, "told": 1}
    SPEAK = frozenset(["told", "whole", "a", "b"])
    NEEDS = {"b": "a"}


class Anything(cp.Start):
    touched = frozenset(Kinds.IDS)

    def check(self, before, now, answer):
        pass


# --- the scenarios ----------------------------------------------------------------------------------------------------------


class WholeVerb(cp.Verb):
    world = Whole

    def __init__(self, verb, alias):
        super().__init__(verb, alias)
        self.by_exec = alias == "once"

    def check(self, before, now, answer):
        if self.by_exec and answer is not None and answer.status == 200 and self.verb == "restart":  # without a process
            if now[self.alias]["generation"] <= before[self.alias]["generation"]:
                raise AssertionError("%r, and it is the same: %r" % (answer, now[self.alias]))
            answer = None
        super().check(before, now, answer)


class WholeReload(cp.Scenario):
    """ExecReload="""
    name, world = "reload-whole", Whole

    def act(self, w):
        return tell(lambda: w.h.operation("whole", "reload"))


class WholeBoot(cp.Start):
    name, world, touched = "boot-whole", Whole, frozenset(Whole.TREES)


class WholeRecover(cp.Start):
    """Its sockets are taken back; what is up without a process stays so."""
    name, world, empty, touched = "recover-whole", Whole, False, frozenset()

    def prepare(self, w):
        cp.Scenario.prepare(self, w)

    def trace(self, w, plan):
        w.kill()
        return super().trace(w, plan)


class WholeOrphan(WholeRecover):
    """While no agentd lives the worker ends; and it is not wanted up."""
    name, touched = "orphan-whole", frozenset(["whole"])

    def trace(self, w, plan):
        os.kill(w.h.record("whole")["pid"], 9)
        return super().trace(w, plan)


class WholeTerm(cp.Term):
    name, world, touched = "term-whole", Whole, frozenset(Whole.TREES)

    def check(self, before, now, answer):
        super().check(before, now, answer)


class Overlap(cp.Verb):
    world = Over

    def __init__(self):
        super().__init__("restart", "over")


class RolledBack(cp.Scenario):
    """The next one does not come up: nobody notices."""
    name, world = "overlap-back", Over

    def prepare(self, w):
        self.restore(w)
        super().prepare(w)
        w.h.write("broken", "")

    def act(self, w):
        return tell(lambda: w.h.operation("over", "restart"))

    def check(self, before, now, answer):
        self.restore(self.w)
        if answer is not None and answer.status == 200:
            raise AssertionError("it can't have come up: %r" % answer)
        super().check(before, now, answer)

    def restore(self, w):
        self.w = w
        with contextlib.suppress(FileNotFoundError):
            os.unlink(w.h.dir + "/broken")


class ChainScenario(cp.Scenario):
    world, touched = Chain, frozenset("abc")

    def prepare(self, w):
        w.start()
        w.settle()
        w.h.operation("c", "start")  # and what it needs
        super().prepare(w)


class ChainStop(ChainScenario):
    """The first is stopped: the others go before it, and wait."""
    name = "chain-stop"

    def act(self, w):
        r = tell(lambda: w.h.operation("a", "stop"))
        peek(lambda: w.h.record("c"))
        return r

    def check(self, before, now, answer):
        if answer is not None and answer.status == 200 and now["a"]["goal"] != "DOWN":
            raise AssertionError("%r, and %r" % (answer, now))
        super().check(before, {x: r for x, r in now.items() if x != "a"}, answer)


class ChainStart(ChainScenario):
    """The last is started, with what it needs."""
    name = "chain-start"

    def prepare(self, w):
        super().prepare(w)
        self.w = w
        for x in "cba":
            w.h.operation(x, "stop")
        w.settle()

    def act(self, w):
        r = tell(lambda: w.h.operation("c", "start"))
        peek(lambda: w.h.record("c"))
        return r

    def check(self, before, now, answer):
        goals = "".join(now[x]["goal"][0] for x in "abc")
        if goals not in (("UUU",) if answer is not None and answer.status == 200 else ("DDD", "UUU")):
            raise AssertionError("%r, and %r, %r" % (answer, now, self.w.h.ok("GET", "/agentd/v1/operations")["contents"][:2]))


class ChainBoot(ChainScenario, cp.Start):
    name, touched = "boot-chain", frozenset(Chain.TREES)


class ChainTerm(ChainScenario, cp.Term):
    name, touched = "term-chain", frozenset(Chain.TREES)


class RestartAll(ChainScenario):
    """The agent as a whole: worker by worker, then agentd by exec."""
    name, by_itself, touched = "restart-all", True, frozenset(Chain.TREES)

    def act(self, w):
        r = tell(lambda: w.h.http("POST", "/compute/hosts/%d/agent/restart" % harness.HOST_ID))
        self.task = r.data["id"] if r is not None and r.status == 200 else None
        if self.task:
            eventually(lambda: not w.runs() or (peek(lambda: self.look(w)) or "RUNNING") != "RUNNING", 25, "the end of the task")
        return r

    def look(self, w):
        return w.h.ok("GET", "/tasks/instances/%d" % self.task)["status"]

    def prepare(self, w):
        super().prepare(w)
        self.w, self.task = w, None

    def check(self, before, now, answer):
        if self.task:
            eventually(lambda: self.look(self.w) in ("SUCCESSFUL", "FAILED"), cp.SETTLE, "the end of the task")
        self.w.h.write("bad", "")  # a restart of what is required leaves who requires it
        super().check(before, now, answer)


class MixedUpgrade(cp.Upgrade):
    """One waits in STARTING, one has sockets, credentials, a folder and a stored descriptor."""
    name, world = "upgrade-mixed", Mixed

    def prepare(self, w):
        w.start()
        w.settle()
        for alias, r in w.records().items():
            if alias != "a" and r["goal"] != "UP":
                w.h.operation(alias, "start")
        w.h.operation("a", "stop")
        # what it has stored is lost when agentd is killed
        w.h.operation("whole", "restart")
        w.settle()
        self.w = w
        self.old = {o["id"] for o in self.operations()}

    def check(self, before, now, answer):
        if now["a"]["goal"] != "DOWN" or now["b"]["phase"] != "waiting":
            raise AssertionError("nobody asked for %r" % now)
        said = self.w.h.log()[self.w.log_at:]
        if "are left out: see" not in said and [o["result"] for o in self.operations() if o["id"] not in self.old] == ["done"] and not self.w.degraded():
            self.w.kept = collections.Counter()
            self.w.descriptors()
            if self.w.kept["whole"] != 1:
                raise AssertionError("the stored descriptor is lost")
        super().check(before, {x: r for x, r in now.items() if x != "a"}, answer)


tell, peek = cp.tell, cp.peek
SCENARIOS = [WholeBoot, WholeRecover, WholeOrphan, WholeTerm, WholeReload, lambda: WholeVerb("restart", "whole"), lambda: WholeVerb("stop", "whole"),
             lambda: WholeVerb("start", "whole"), lambda: WholeVerb("restart", "forks"), lambda: WholeVerb("restart", "once"),
             Overlap, RolledBack, ChainStop, ChainStart, ChainBoot, ChainTerm, RestartAll, MixedUpgrade]


class Share:
    def share(self):
        return BUDGET[self.kind] / len(SCENARIOS)


@harness.both
@harness.needs_root
class Killed(Share, cp.Killing):
    """See test_crashpoints."""


@harness.both
@harness.needs_root
class Failing(Share, cp.Erring):
    """See test_crashpoints."""


def add_tests():
    for n, cls in enumerate(c for name, c in list(globals().items()) if name.startswith(("Killed", "Failing")) and c):
        chosen = [make for i, make in enumerate(SCENARIOS) if harness.ALL or cp.POINT or (harness.SEED + i + n) % 2 == 0 or make().world is Over]
        cp.add_tests(cls, [m for m in chosen if cls.cgroup or m().world is not Over])


add_tests()
