# SPDX-License-Identifier: Apache-2.0
"""Random histories against a model that says what must come of each step.

In each round something is done to agentd, its listener, a worker, a file, or asked for over HTTP, and often agentd or the
listener is killed meanwhile. Then every worker must be what the model says: goal, state, generation, process, ownership,
staleness, the size of its tree; and every operation that was ever answered must still have the same answer. What is
determined is compared exactly; where a death makes two ends possible, what was found must be one of them, whole.

AGENTD_TEST_SEED, which is printed, chooses the same steps again (not the same moments). AGENTD_TEST_ALL makes it ROUNDS
rounds, else as many as come in BUDGET seconds.
"""
import collections
import contextlib
import http.client
import os
import random
import signal
import threading
import time

import harness
import test_crashpoints
from harness import Case, both, eventually, is_alive, stat_of

LONG = True
ROUNDS = 1000
BUDGET = 15  # seconds of each class
ROUND_SEC = 60  # one round that takes longer hangs
SETTLE = 15
SHOWN = 12  # steps shown of a failure
KEYS = 40  # answers that are asked for again
QUICK = "StartLimitIntervalSec=0\nRestartSec=0\nRestartMaxDelaySec=5ms\n"
GONE = (OSError, http.client.HTTPException)


class Kind:
    def __init__(self, id, size, args="", service="", policy="always"):
        self.id, self.size, self.args, self.policy = id, size, args, policy
        self.service = QUICK + service + "\nRestart=" + policy

    @property
    def comes_back(self):
        """After SIGKILL, and after an end that nobody saw."""
        return self.policy in ("always", "on-failure", "on-abnormal")


KINDS = {
    "plain": Kind(1, 1),
    "tree": Kind(2, 4, "--children 2 --grandchild"),
    "told": Kind(3, 1, "--notify READY=1", "Type=notify", "on-failure"),
    "deaf": Kind(4, 3, "--ignore-term --children 2", "TimeoutStopSec=15ms", "on-abnormal"),
    "never": Kind(5, 1, "", "", "no"),
    "good": Kind(6, 2, "--children 1", "", "on-success"),
    "slow": Kind(7, 1, "--slow-stop 30"),
}


class Worker:
    """What must be true of one; None of pid, start or generation: to be learned, within what the step allows."""

    def __init__(self, alias, version, goal="UP"):
        self.alias, self.kind = alias, KINDS[alias]
        self.file = self.held = self.ran = version  # on disk, in agentd, of the process
        self.broken = False
        self.goal, self.rested = goal, False
        self.generation = 0
        self.pid = self.start = 0
        self.ownership = "child"
        self.last = None  # (kinds, pid) of the end seen last
        self.before = set()  # pids that it had
        self.open = None  # two ends are possible: which goals, and what the verb would have made

    @property
    def state(self):
        return "UP" if self.goal == "UP" and not self.rested else "DOWN"

    def new_process(self, exact=True):
        """It is replaced, or started: with one generation more, or with some."""
        self.generation += 1
        self.exact = exact
        self.rested = False
        self.pid = None
        self.ran = self.held
        self.ownership = "child" if exact else None

    def ended(self, kinds):
        """Its main process was killed, and its policy says what comes."""
        self.last = (kinds, self.pid)
        if self.kind.comes_back:
            self.new_process()
        else:
            self.rested, self.pid = True, 0

    def adopted(self):
        if self.state == "UP" and self.pid:
            self.ownership = "adopted"

    exact = True


class Model(test_crashpoints.Life):
    def __init__(self, case, rng):
        self.case, self.rng = case, rng
        self.h = case.host(cgroup=case.cgroup)
        self.w, self.gone = {}, {}  # gone: goal of those whose file was removed
        self.versions = 0
        self.answers = collections.OrderedDict()  # key: (alias, verb, status, id)
        self.n_keys = 0
        self.steps = collections.deque(maxlen=SHOWN)
        self.listener = None
        for alias in KINDS:
            self.w[alias] = Worker(alias, self.write(alias))
            self.w[alias].new_process()
        self.h.start()

    def say(self, *words):
        self.steps.append(" ".join(map(str, words)))

    # --- files

    def write(self, alias, version=None, broken=False):
        if version is None:
            self.versions += 1
            version = self.versions
        k = KINDS[alias]
        self.h.worker(alias, k.args, "%s\nEnvironment=VERSION=%d\n%s" % (k.service, version, "UMask=never" if broken else ""), id=k.id)
        return version

    # --- asking

    def post(self, path, key, box):
        try:
            box.append(self.h.http("POST", path, headers={"Idempotency-Key": key} if key else {}))
        except GONE:
            box.append(None)

    def begin(self, alias, verb, key):
        """Asks in a thread; what it will put the answer into."""
        box = []
        t = threading.Thread(target=self.post, args=("/agentd/v1/workers/%s/%s" % (alias, verb), key, box), daemon=True)
        t.start()
        return t, box

    def key(self):
        self.n_keys += 1
        return "key-%d" % self.n_keys

    def expect_done(self, r, alias, verb):
        if r is None or r.status != 200 or (r.data["result"], r.data["verb"], r.data["alias"]) != ("done", verb, alias):
            raise AssertionError("%s of %s: %r" % (verb, alias, r))
        return r.data["id"]

    def remember(self, key, alias, verb, r):
        if key:
            self.answers[key] = (alias, verb, r.data["id"])
        while len(self.answers) > KEYS:
            self.answers.popitem(last=False)

    def apply(self, alias, verb, exact=True):
        """What a verb that was done has made of the worker."""
        w = self.w[alias]
        running = w.state == "UP"
        if verb == "stop":
            w.goal, w.rested, w.pid = "DOWN", False, 0
            return
        w.goal = "UP"
        if verb == "restart" or not running:
            w.new_process(exact)
        elif not exact:
            w.ownership = None

    # --- steps

    def any_of(self, *states):
        found = [a for a, w in sorted(self.w.items()) if not states or w.state in states]
        return self.rng.choice(found) if found else None

    def kill_agentd(self):
        self.h.kill()

    def start_agentd(self):
        self.start()
        self.meet()
        for w in self.w.values():
            w.held = w.file if not w.broken else w.held
            w.adopted()

    def kill_listener(self):
        pid = self.h.rpc_pid()
        os.kill(pid, signal.SIGKILL)
        return pid

    def step_agentd(self):
        self.say("kill agentd")
        self.kill_agentd()
        self.start_agentd()

    def step_listener(self):
        self.say("kill agentd-rpc")
        pid = self.kill_listener()
        eventually(lambda: self.h.rpc_pid() != pid, what="another listener")

    def step_both(self):
        self.say("kill agentd-rpc and agentd")
        self.kill_listener()
        self.kill_agentd()
        self.start_agentd()

    def step_worker(self):
        """Main processes are killed: one or some, while agentd looks or while it is dead."""
        up = [a for a, w in sorted(self.w.items()) if w.state == "UP"]
        chosen = self.rng.sample(up, min(len(up), self.rng.choice((1, 1, 2, 4))))
        unseen = self.rng.random() < 0.3
        self.say("kill", *chosen, *(["while agentd is dead"] if unseen else []))
        if unseen:
            self.kill_agentd()
        pids = [self.w[a].pid for a in chosen]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            if unseen:
                harness.wait_gone(pid)
        for a in chosen:
            # how an adopted one ended is told by newer kernels only
            self.w[a].ended({"unknown"} if unseen else {"killed"} if self.w[a].ownership == "child" else {"killed", "unknown"})
        if unseen:
            self.start_agentd()
            for a in chosen:  # they were started by this agentd
                self.w[a].ownership = "child"

    def step_verb(self):
        alias, verb = self.any_of(), self.rng.choice(("restart", "restart", "stop", "start"))
        key = self.key() if self.rng.random() < 0.5 else None
        self.say(verb, alias, key or "")
        t, box = self.begin(alias, verb, key)
        t.join(harness.DEADLINE)
        self.expect_done(box[0], alias, verb)
        self.remember(key, alias, verb, box[0])
        self.apply(alias, verb)

    def step_by_id(self):
        alias, verb = self.any_of(), self.rng.choice(("restart", "stop", "start"))
        self.say(verb, alias, "by its id")
        r = self.h.verb(KINDS[alias].id, verb, self.rng.choice(("", "/api/v2")))
        self.case.assertEqual(r.status, 200, r)
        self.apply(alias, verb)

    def step_verb_and_listener(self):
        """The listener dies over a request: with a key it is done once, without one it is done or was never asked."""
        alias, verb = self.any_of(), self.rng.choice(("restart", "restart", "stop", "start"))
        key = self.key() if self.rng.random() < 0.7 else None
        self.say(verb, alias, key or "", "and kill agentd-rpc")
        t, box = self.begin(alias, verb, key)
        self.h.moment(self.rng, 25)
        self.kill_listener()
        t.join(harness.DEADLINE)
        self.finish(alias, verb, key, box[0], agentd_died=False)

    def step_verb_and_agentd(self):
        alias, verb = self.any_of(), self.rng.choice(("restart", "restart", "stop", "start"))
        key = self.key() if self.rng.random() < 0.7 else None
        self.say(verb, alias, key or "", "and kill agentd")
        t, box = self.begin(alias, verb, key)
        self.h.moment(self.rng, 30)
        self.kill_agentd()
        t.join(harness.DEADLINE)
        self.start_agentd()
        self.finish(alias, verb, key, box[0], agentd_died=True)

    def finish(self, alias, verb, key, r, agentd_died):
        """What became of a request whose answer may be lost."""
        w, first = self.w[alias], None
        if r is not None and r.status == 200:
            first = self.expect_done(r, alias, verb)
        elif r is not None and r.status != 503:
            raise AssertionError("%s of %s: %r" % (verb, alias, r))
        if key:
            box = []
            self.post("/agentd/v1/workers/%s/%s" % (alias, verb), key, box)
            again = self.expect_done(box[0], alias, verb)
            if first and again != first:
                raise AssertionError("key %s: operation %s, and then %s" % (key, first, again))
            self.remember(key, alias, verb, box[0])
        if key or first:
            self.apply(alias, verb, exact=not agentd_died)
            return
        w.open = {"goals": {w.goal, "DOWN" if verb == "stop" else "UP"}, "rested": w.rested, "exact": not agentd_died, "verb": verb}

    def step_crowd(self):
        """Restarts of one worker at once: as many new processes as there were operations."""
        alias, n = self.any_of(), self.rng.randrange(2, 6)
        self.say("%d restarts of" % n, alias)
        asked = [self.begin(alias, "restart", None) for _ in range(n)]
        for t, _ in asked:
            t.join(harness.DEADLINE)
        ids = {self.expect_done(box[0], alias, "restart") for _, box in asked}
        for _ in ids:
            self.apply(alias, "restart")

    def reload(self, kill):
        if not kill:
            r = self.h.http("POST", "/agentd/v1/reload")
            wrong = any(w.broken and os.path.exists("%s/%s.conf" % (self.h.workers, a)) for a, w in self.w.items())  # said, and the others are applied
            self.case.assertEqual(r.status, 500 if wrong else 200, r)
            return
        box = []
        t = threading.Thread(target=self.post, args=("/agentd/v1/reload", None, box), daemon=True)
        t.start()
        self.h.moment(self.rng, 130)
        self.kill_agentd()
        t.join(harness.DEADLINE)

    def step_reload(self):
        """Files are changed, and agentd is told, or dies and finds them; or it is told and dies."""
        how = self.rng.choice(("reload", "reload", "reload", "kill agentd", "reload and kill agentd"))
        changes = {}
        for alias in self.rng.sample(sorted(KINDS), self.rng.choice((1, 1, 2, 3))):
            if alias in self.gone:
                changes[alias] = "add"
            elif self.w[alias].broken:
                changes[alias] = self.rng.choice(("repair", "change"))
            else:
                changes[alias] = self.rng.choice(("change", "change", "remove", "break", "touch", "back"))
        self.say(how, changes)
        removed = [a for a, c in changes.items() if c == "remove"]
        for alias, change in changes.items():
            w = self.w.get(alias)
            if change == "remove":
                self.h.remove(alias)
            elif change == "break":
                self.write(alias, broken=True)
            elif change == "touch":
                self.write(alias, w.file)
            elif change == "back":  # to what the process was started with
                w.file = self.write(alias, w.ran)
            elif change == "repair":
                w.file = self.write(alias, w.held)
            elif change == "add":
                self.w[alias] = w = Worker(alias, self.write(alias), self.gone.pop(alias))
            else:
                w.file = self.write(alias)
            if change != "remove":
                w.broken = change == "break"
        told = how == "reload"
        if how == "kill agentd":
            self.kill_agentd()
        else:
            self.reload(not told)
        for alias, change in changes.items():
            self.after(alias, change, told, how == "kill agentd")
        if not told:
            self.start_agentd()
        for alias, change in changes.items():
            if change == "add" and self.w[alias].state == "UP":
                self.w[alias].ownership = "child" if how != "reload and kill agentd" else None
        for alias in removed:
            self.gone[alias] = self.w.pop(alias).goal

    def after(self, alias, change, told, dead):
        w = self.w[alias]
        if change == "add":
            if w.goal == "UP":
                w.new_process(told or dead)
        elif change not in ("remove", "break"):
            # who runs with something else is restarted, by a reload that meets a change
            must = w.file not in (w.held, w.ran) and w.state == "UP"
            if told:
                w.held = w.file
                if must:
                    w.new_process()
            elif must and not dead:
                w.open = {"goals": {w.goal}, "rested": w.rested, "exact": False, "verb": "restart"}

    def step_upgrade(self):
        """To the same program: nobody has died."""
        by, pid = self.rng.choice(("signal", "agentctl")), self.h.pid
        busy = self.any_of() if self.rng.random() < 0.3 else None
        victim = self.any_of("UP") if self.rng.random() < 0.3 else None
        victim = victim if victim != busy else None
        key = self.key()
        self.say("upgrade by", by, "over restart %s %s" % (busy, key) if busy else "", "and the end of " + victim if victim else "")
        self.h.drain()
        if busy:
            t, box = self.begin(busy, "restart", key)
        if by == "signal":
            os.kill(pid, signal.SIGUSR2)
        else:
            r = self.h.ctl("--private", self.h.run + "/private", "upgrade")
            self.case.assertEqual(r.returncode, 0, r)
        if victim:
            self.h.moment(self.rng, 400 if by == "signal" else 0)
            os.kill(self.w[victim].pid, signal.SIGKILL)
            self.w[victim].ended({"killed"} if self.w[victim].ownership == "child" else {"killed", "unknown"})
        self.h.wait_notify("READY=1")
        eventually(lambda: self.upgraded() == "done", what="the upgrade")
        if busy:
            t.join(harness.DEADLINE)
            self.expect_done(box[0], busy, "restart")
            self.remember(key, busy, "restart", box[0])
            self.apply(busy, "restart")

    def step_upgrade_and_agentd(self):
        """It dies over an upgrade: its guardian brings one up, or we do."""
        self.say("upgrade, and kill agentd")
        self.h.proc.send_signal(signal.SIGUSR2)
        self.h.moment(self.rng, 400)
        self.log_at = len(self.h.log())
        self.kill_agentd()
        self.start_agentd()
        eventually(lambda: all(o["result"] in ("done", "failed") for o in self.h.ok("GET", "/agentd/v1/operations")["contents"]
                               if o["verb"] == "upgrade"), what="the upgrade's end")

    def upgraded(self):
        ops = self.h.ok("GET", "/agentd/v1/operations")["contents"]
        result = next(o["result"] for o in ops if o["verb"] == "upgrade")
        if result not in ("running", "done"):
            raise AssertionError("the upgrade: %r" % ops[:3])
        return result

    STEPS = {"agentd": 3, "listener": 1, "both": 1, "worker": 4, "verb": 4, "by_id": 1, "verb_and_listener": 2, "verb_and_agentd": 4,
             "crowd": 1, "reload": 4, "upgrade": 2, "upgrade_and_agentd": 2}

    def step(self):
        name = self.rng.choices(list(self.STEPS), list(self.STEPS.values()))[0]
        getattr(self, "step_" + name)()

    # --- comparing

    def is_decided(self, w, r):
        """One of two ends: which? False: none of them yet."""
        o, old = w.open, w.pid
        if r["goal"] not in o["goals"]:
            return False
        w.goal = r["goal"]
        if w.goal == "DOWN":
            if r["state"] != "DOWN":
                return False
            w.rested, w.pid = False, 0
        elif r["state"] == "UP" and (r["pid"] != old or r["generation"] != w.generation):
            w.new_process(o["exact"])
        elif r["state"] == "DOWN" and not o["rested"]:
            return False
        elif r["state"] not in ("UP", "DOWN"):
            return False
        w.open = None
        return True

    def differences(self, records):
        """Between all records and the model; what is learned from them is kept once there is none."""
        out = []
        if set(records) != set(self.w):
            return ["workers: %r, not %r" % (sorted(records), sorted(self.w))]
        for alias, w in self.w.items():
            r = records[alias]
            if w.open and not self.is_decided(w, r):
                out.append("%s: %r is none of what may be: %r" % (alias, short(r), w.open))
                continue
            out += ["%s: %s" % (alias, d) for d in self.of_one(w, r)]
        return out

    def of_one(self, w, r):
        def differs(what, have, want):
            return ["%s is %r, not %r" % (what, have, want)] if have != want else []
        out = differs("goal", r["goal"], w.goal) + differs("state", r["state"], w.state) + differs("id", r["id"], w.kind.id)
        if w.exact or w.state == "DOWN":
            out += differs("generation", r["generation"], w.generation)
        elif r["generation"] < w.generation:
            out.append("generation is %d, not at least %d" % (r["generation"], w.generation))
        if w.state == "UP" and r["state"] == "UP":
            now = stat_of(r["pid"])
            if w.pid:
                out += differs("pid", (r["pid"], now and now[2]), (w.pid, w.start))
            elif not now or r["pid"] in w.before:
                out.append("pid is %d, not another, living one" % r["pid"])
            if w.ownership:
                out += differs("ownership", r["ownership"], w.ownership)
        stale = (["definition"] if w.state == "UP" and w.ran != w.held else []) + (["file"] if w.broken else [])
        out += differs("stale", r["stale"], stale)
        if w.last and w.last[1]:
            end = r["lastExit"] or {}
            if end.get("kind") not in w.last[0] or end.get("pid") != w.last[1]:
                out.append("lastExit is %r, not one of %r" % (end, w.last))
        return out

    def learn(self, records):
        for alias, w in self.w.items():
            r = records[alias]
            w.generation, w.exact, w.last = r["generation"], True, None
            if w.state == "UP":
                w.pid, w.start, w.ownership = r["pid"], stat_of(r["pid"])[2], r["ownership"]
            w.before = {w.pid}

    def processes(self):
        """What differs in the process table: one whole tree of each, of its generation, and nobody else."""
        trees, out = collections.defaultdict(dict), []
        for pid, cookie in self.h.processes().items():
            trees[cookie.split(":")[1]][pid] = int(cookie.split(":")[2])
        for alias, w in self.w.items():
            want = w.kind.size if w.state == "UP" else 0
            if len(trees[alias]) != want or (want and set(trees[alias].values()) != {w.generation}) or (want and w.pid not in trees[alias]):
                out.append("%s: processes %r, not %d of generation %d with %d" % (alias, trees[alias], want, w.generation, w.pid))
        for alias in set(trees) - set(self.w):
            if trees[alias]:
                out.append("processes of %s, which is not configured: %r" % (alias, trees[alias]))
        return out

    def daemons(self):
        names = collections.Counter(harness.name_of(p) for p in harness.children(self.h.pid) if is_alive(p))
        return [] if names["agentd-rpc"] == 1 and not names["agentd"] else ["children of agentd: %r" % dict(names)]

    def leaves(self):
        if not self.case.cgroup:
            return []
        foreign = {n[2:].split("~")[0] for n in self.h.leaves()} - set(self.w)
        return ["leaves of no worker: %r" % foreign] if foreign else []

    def agree(self, look):
        """Until there is no difference."""
        last = {}

        def none():
            last["d"] = look()
            return not last["d"]
        try:
            eventually(none, SETTLE)
        except AssertionError:
            raise AssertionError("differences:\n  " + "\n  ".join(last["d"])) from None

    def check(self):
        got = {}

        def records():
            got["r"] = self.h.all()
            return self.differences(got["r"])
        self.agree(records)
        self.learn(got["r"])
        self.agree(lambda: self.processes() + self.daemons() + self.leaves())
        self.check_answers()

    def check_answers(self):
        """An operation that was answered is known, and its key leads to it."""
        if not self.answers:
            return
        key = self.rng.choice(list(self.answers))
        alias, verb, id = self.answers[key]
        o = self.h.ok("GET", "/agentd/v1/operations/" + id)
        self.case.assertEqual((o["id"], o["verb"], o["alias"], o["result"]), (id, verb, alias, "done"))
        if alias in self.w:
            box = []
            self.post("/agentd/v1/workers/%s/%s" % (alias, verb), key, box)
            self.case.assertEqual(self.expect_done(box[0], alias, verb), id, "key " + key)


def short(r):
    return {k: r[k] for k in ("goal", "state", "generation", "pid")}


@both
class Histories(Case):
    cgroup = True

    def test_as_the_model_says(self):
        seed = harness.SEED
        m = Model(self, random.Random(seed))
        began, n = time.monotonic(), 0
        try:
            m.say("start")
            m.check()
            while n < ROUNDS and (harness.ALL or time.monotonic() - began < BUDGET):
                if signal.getsignal(signal.SIGALRM) not in (signal.SIG_DFL, None):
                    signal.alarm(ROUND_SEC)  # the runner's limit is meant for a test: here each round has its own
                n += 1
                m.step()
                m.check()
            m.h.stop()
        except (AssertionError, *GONE) as e:
            with contextlib.suppress(*GONE, AssertionError):
                e = "%s\nrecords: %r" % (e, {a: short(r) for a, r in m.h.all().items()})
            raise AssertionError("AGENTD_TEST_SEED=%d, round %d: %s\nthe last steps:\n  %s" % (seed, n, e, "\n  ".join(m.steps))) from None
        print("# model %s: %d rounds, seed %d, %.0f s" % ("cgroup" if self.cgroup else "none", n, seed, time.monotonic() - began))
