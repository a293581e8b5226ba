# SPDX-License-Identifier: Apache-2.0
"""agentctl import: foreign configurations become workers' files that agentd takes, every key is accounted for, and nothing is ever
written by half."""
import configparser
import glob
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import unittest

import harness
from harness import Case

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "samples")
PM2 = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build-pm2/node_modules/pm2/lib/templates")
UNSET = {"file", "line", "column", "default", "key", "value", "verdict", "to", "why"}
SAMPLE = {"supervisord": "supervisord.conf", "obagent": "conf/agentd.yaml", "monit": "monitrc", "systemd": "unit.service",
          "pm2": "ecosystem.config.js"}


class Import(Case):
    def setUp(self):
        super().setUp()
        self.h = self.host()
        self.samples = self.h.dir + "/samples"
        shutil.copytree(SAMPLES, self.samples)
        self.out = self.h.workers
        if not harness.ROOT:  # without root only its own user is taken
            self.edit("supervisord.conf", "user=root", "")
            self.edit("monitrc", 'as uid "root" and gid "root"', "")
            self.edit("ecosystem.config.js", "uid: 'root', gid: 0,", "")

    def edit(self, name, old, new):
        path = os.path.join(self.samples, name)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.assertIn(old, text)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace(old, new))

    def ctl(self, *args, code=0):
        r = self.h.ctl("import", *args)
        self.assertEqual(r.returncode, code, (args, r.stdout[-2000:], r.stderr))
        return r

    def told(self, *args):
        return json.loads(self.ctl("-o", "json", *args).stdout)

    def wrong(self, text, *words, name="bad", code=1):
        """What is said of this text; nothing is ever written or shown for it."""
        path = self.h.dir + "/" + name
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        r = self.ctl("--write", self.out, *words, path, code=code)
        self.assertEqual((r.stdout, os.listdir(self.out)), ("", []))
        self.assertNotIn("Sanitizer", r.stderr)
        return r.stderr

    def check_config(self):
        r = self.h.run_agentd("--check-config")
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stderr

    def lines(self, name):
        with open(os.path.join(self.samples, name), encoding="utf-8") as f:
            return list(enumerate(f.read().splitlines(), 1))

    def entries(self, told):
        return [k for w in told["workers"] for k in w["keys"]] + told["keys"]

    def accounted(self, told, name, pattern):
        """Each line of the source that the pattern finds has an entry."""
        seen = {k["line"] for k in self.entries(told) if not k["default"]}
        for number, line in self.lines(name):
            if re.search(pattern, line):
                self.assertIn(number, seen, line)

    def to(self, told, alias, key):
        """What became of a key: its lines, or its verdict."""
        worker, = [w for w in told["workers"] if w["alias"] == alias]
        e = [k for k in worker["keys"] if k["key"] == key]
        self.assertEqual(len(e), 1, (key, e))
        return e[0]["to"] or e[0]["verdict"]

    def text(self, told, alias):
        worker, = [w for w in told["workers"] if w["alias"] == alias]
        return worker["text"].splitlines()


class Formats(Import):
    def test_every_sample_is_taken_by_agentd(self):
        for name in ("supervisord.conf", "conf/agentd.yaml", "monitrc", "ecosystem.config.js", "ecosystem.json", "ecosystem.yaml",
                     "unit.service"):
            with self.subTest(name):
                shown = self.told(self.samples + "/" + name)
                self.assertEqual(os.listdir(self.out), [])
                self.assertIsNone(shown["written"])
                written = self.told("--write", self.out, self.samples + "/" + name)
                self.assertEqual(written["written"], self.out)
                self.assertEqual(written["workers"], shown["workers"])
                self.assertEqual(sorted(os.listdir(self.out)), sorted(w["alias"] + ".conf" for w in shown["workers"]))
                for w in shown["workers"]:
                    path = "%s/%s.conf" % (self.out, w["alias"])
                    with open(path, encoding="utf-8") as f:
                        self.assertEqual(f.read(), w["text"])
                    self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o644)
                said = self.check_config()
                self.assertEqual(re.findall("PrivateTmp|Documentation|WantedBy|Install", said) != [], name == "unit.service")
                for k in self.entries(shown):
                    self.assertEqual(set(k), UNSET)
                    self.assertIn(k["verdict"], ("taken", "same", "none"))
                    self.assertEqual(bool(k["to"]), k["verdict"] == "taken", k)
                    self.assertTrue(k["why"] or k["to"], k)
                for name in os.listdir(self.out):
                    os.unlink(os.path.join(self.out, name))

    def test_supervisord(self):
        path = self.samples + "/supervisord.conf"
        t = self.told(path)
        self.assertEqual([w["alias"] for w in t["workers"]],
                         ["app:app_01", "app:app_02", "pair:late", "pair:never", "fcgi", "included"])
        text = self.text(t, "app:app_02")
        for line in ('ExecStart=/bin/echo 1000 "a b" $$HOME 50%% "x y"', "WorkingDirectory=/tmp", "UMask=0022",
                     'Environment="SITE=north, 1"', 'Environment="B=two, three"', "Environment=N=2", "Environment=HERE=" + self.samples,
                     "Restart=on-failure", "SuccessExitStatus=0 2", "ReadyCheck=stable:2s", "StartLimitBurst=5", "KillSignal=SIGQUIT",
                     "TimeoutStopSec=15s", "KillMode=control-group", "User=root" if harness.ROOT else "UMask=0022",
                     "StandardOutput=append:/var/log/app-2.log", "LogMaxSize=1048576", "LogMaxFiles=5"):
            self.assertIn(line, text)
        self.assertFalse([x for x in text if x.startswith(("StandardError", "After"))])
        for key, to in (("autorestart", ["Restart=on-failure"]), ("autostart", "same"), ("priority", "same"), ("unheard_of", "none"),
                        ("serverurl", "none"), ("stderr_logfile", "none"), ("numprocs", ["app:app_02.conf"])):
            self.assertEqual(self.to(t, "app:app_02", key), to)
        late = self.text(t, "pair:late")
        for line in ("After=app:app_01 app:app_02", "StandardOutput=null", "StandardError=journal", "Restart=always", "UMask=0027",
                     "TimeoutStopSec=10s", "KillMode=mixed"):
            self.assertIn(line, late)
        self.assertRegex(late[[x.startswith("ExecStart") for x in late].index(True)], r"=@/\S*/cat cat -$")
        self.assertEqual(self.to(t, "pair:late", "autostart"), "none")
        # a status of 0 is no success for supervisord if exitcodes does not say so
        self.assertIn("SuccessExitStatus=3", self.text(t, "pair:never"))
        self.assertIn("Restart=no", self.text(t, "pair:never"))
        self.assertEqual(self.to(t, "fcgi", "socket"), "none")
        self.assertIn("After=pair:late pair:never", self.text(t, "fcgi"))
        self.assertIn("ExecStart=%s/sup.d/run.sh --name included" % self.samples, self.text(t, "included"))
        self.assertNotIn("hidden-word", json.dumps(t))
        parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
        parser.read(path)
        told = {k["key"] for k in self.entries(t)}
        for section in parser.sections():
            for key in parser[section]:
                self.assertTrue(key in told or "[%s] %s" % (section, key) in told, (section, key))
        # always, but for what is expected
        self.h.write("s.conf", "[program:x]\ncommand=/bin/true\nexitcodes=2,3\nstartsecs=0\nstopwaitsecs=0\n")
        x = self.text(self.told(self.h.dir + "/s.conf"), "x")
        for line in ("Restart=always", "RestartPreventExitStatus=2 3", "SuccessExitStatus=2 3", "TimeoutStopSec=1ms"):
            self.assertIn(line, x)

    def test_obagent(self):
        t = self.told(self.samples + "/conf/agentd.yaml")
        home = self.samples
        text = self.text(t, "manager")
        for line in ("ExecStart=%s/bin/manager -c %s/conf/manager.yaml --run=%s/run %s/bin$$x %s" % ((home,) * 5),
                     "WorkingDirectory=/tmp", "Restart=on-failure", "StartLimitBurst=3", "StartLimitIntervalSec=9300ms", "TimeoutStopSec=5s",
                     "KillMode=mixed", "StandardOutput=append:%s/log/manager.output.log" % home):
            self.assertIn(line, text)
        text = self.text(t, "monitor")
        for line in ("TimeoutStopSec=90s", "StartLimitIntervalSec=0", "CPUQuota=150%", "MemoryMax=1073741824"):
            self.assertIn(line, text)
        self.assertEqual(self.to(t, "manager", "kill_wait"), "none")
        self.assertEqual(self.to(t, "monitor", "finalWait"), "same")
        self.accounted(t, "conf/agentd.yaml", r"^ *(?!services|manager|monitor|limit|<<)\w+:")
        shutil.copy(self.samples + "/conf/agentd.yaml", self.h.dir + "/elsewhere.yaml")
        self.assertRegex(self.ctl(self.h.dir + "/elsewhere.yaml", code=1).stderr, r"elsewhere.yaml:\d+:\d+: \$\{obagent.home.path\} is not known")

    def test_monit(self):
        t = self.told(self.samples + "/monitrc")
        self.assertEqual([w["alias"] for w in t["workers"]], ["web", "app"])
        text = self.text(t, "web")
        for line in ('ExecStart=/usr/sbin/web -g "daemon on;" --cost $$5', "ExecStop=/usr/sbin/web -s stop", "Type=forking",
                     "PIDFile=/run/web.pid", "TimeoutStartSec=60s", "Restart=always", "HealthCheck=http:http://localhost:80/status?x=1%%",
                     "HealthInterval=60s", "HealthTimeout=7s", "HealthRetries=3", "HealthAction=restart", "MemoryMax=524288000",
                     "StartLimitBurst=5", "StartLimitIntervalSec=1200s", "BindsTo=app", "After=elsewhere"):
            self.assertIn(line, text)
        for line in ("HealthCheck=unix:/run/app.sock", "HealthAction=report", "TimeoutStopSec=60s"):
            self.assertIn(line, self.text(t, "app"))
        self.assertEqual(self.to(t, "web", "depends"), ["BindsTo=app", "After=elsewhere"])
        self.assertIn("web_bin is no process", json.dumps(t))
        self.accounted(t, "monitrc", r"^ *(set|include|check|group|start|stop|restart|if|depends|every|onreboot|mode|alert) ")

    def test_pm2(self):
        t = self.told(self.samples + "/ecosystem.config.js")
        self.assertEqual([w["alias"] for w in t["workers"]], ["the_api-0", "the_api-1", "cat", "line"])
        text = self.text(t, "the_api-1")
        shell = [x for x in text if x.startswith("ExecStart=")][0]
        self.assertRegex(shell, r'=/\S*bash -e /tmp/app\.sh --port 80 "a b" "--x=\\"1 2\\"" \$\$5$')
        for line in ("WorkingDirectory=/tmp", "Environment=PORT=3001", "Environment=NODE_APP_INSTANCE=1", 'Environment="NAME=a \\"b\\""',
                     "MemoryMax=314572800", "StartLimitBurst=5", "StartLimitIntervalSec=70s", "RestartSec=4s", "RestartMaxDelaySec=4s",
                     "Restart=always", "TimeoutStopSec=3s", "KillSignal=SIGINT", "StandardOutput=append:/tmp/out.log", "StandardError=null",
                     "RestartPreventExitStatus=0 3"):
            self.assertIn(line, text)
        for key in ("exec_mode", "wait_ready", "cron_restart", "env_production", "log_date_format", "unheard_of"):
            self.assertEqual(self.to(t, "the_api-1", key), "none")
        self.assertEqual(self.to(t, "the_api-1", "watch"), "same")
        self.assertEqual(self.to(t, "the_api-1", "(name)"), ["the_api-1.conf"])
        for line in ("Restart=no", "RestartSec=100ms", "RestartMaxDelaySec=15s", "KillMode=mixed", "TimeoutStopSec=1600ms"):
            self.assertIn(line, self.text(t, "cat"))
        self.assertTrue([x for x in self.text(t, "line") if re.match(r'ExecStart=/\S*bash -c "cd /; echo \$\$X"$', x)])
        self.accounted(t, "ecosystem.config.js", r"^ {2,4}(?!apps|production)\w+ ?:")
        self.assertEqual(self.to(self.told(self.samples + "/ecosystem.json"), "json", "env"), ["Environment=A=\u00e4"])
        t = self.told(self.samples + "/ecosystem.yaml")
        self.assertEqual(self.to(t, "yaml", "instances"), "none")
        # what pm2 takes in JSON, too
        self.h.write("lax.json", "// a comment\n{apps: [{name: 'lax', script: '/bin/true', interpreter: 'none',}]}\n")
        self.assertEqual(self.told(self.h.dir + "/lax.json")["workers"][0]["alias"], "lax")

    def test_unit(self):
        t = self.told(self.samples + "/unit.service")
        with open(self.samples + "/unit.service", encoding="utf-8") as f:
            self.assertEqual(t["workers"][0]["text"], f.read())
        for key, to in (("PrivateTmp", "none"), ("WantedBy", "none"), ("X-Mine", "same"), ("Restart", "none"),
                        ("After", ["After=network.target"])):
            self.assertEqual(self.to(t, "unit", key), to)
        for line, said in (("Type=dbus", "Type=simple"), ("KillMode=none", "KillMode=process"), ("Nonsense=1", "no key of systemd"),
                           ("ExecStart=|/bin/x", "prefix"), ("[Socket]", "no section"), ("ExecStart=/bin/b", "a second ExecStart=")):
            self.assertRegex(self.wrong("[Service]\nExecStart=/bin/true\n%s\n" % line, name="x.service"), r"x\.service:3:1: .*%s" % re.escape(said))
        self.h.write("t@.service", "[Service]\nExecStart=/bin/true %i\n")
        self.assertEqual(self.told(self.h.dir + "/t@.service")["workers"][0]["alias"], "t@")

    def test_a_worker_runs(self):
        """What was imported does what the source says."""
        h = self.h
        waits = h.gate().wait
        h.write("s.conf", "[program:web]\ncommand=/bin/sh -c \"%s; :\" '$A' 5%%%%\nenvironment=A=\"b c\"\nstopsignal=INT\n"
                "autorestart=true\nstartsecs=0\n" % waits)
        self.ctl("--write", self.out, h.dir + "/s.conf")
        h.start()
        pid = h.until("web", "UP")["pid"]
        with open("/proc/%d/cmdline" % pid, encoding="utf-8") as f:
            self.assertEqual(f.read().split("\0")[:-1], ["/bin/sh", "-c", waits + "; :", "$A", "5%"])
        with open("/proc/%d/environ" % pid, encoding="utf-8") as f:
            self.assertIn("A=b c", f.read().split("\0"))
        os.kill(pid, signal.SIGKILL)
        harness.eventually(lambda: h.record("web")["pid"] not in (0, pid), what="the next one")
        h.stop()

    @unittest.skipUnless(os.path.isdir(PM2), "needs what ./dev deps fetches")
    def test_what_pm2_ships(self):
        """Its templates, which `pm2 init` writes, and the files of its sample applications."""
        found = {}
        for path in glob.glob(PM2 + "/ecosystem*.tpl") + glob.glob(PM2 + "/sample-apps/*/ecosystem.config.js"):
            name = path[len(PM2) + 1:].replace("/", "-").replace(".tpl", ".config.js").replace("-ecosystem", "")
            shutil.copy(path, self.samples + "/" + name)
            t = self.told(self.samples + "/" + name)
            found[name] = [w["alias"] for w in t["workers"]]
            self.accounted(t, name, r"^ {4}(?!\w+ *: ?\{$)'?[\w-]+'? ?:|^  deploy")
            self.ctl("--force", "--write", self.out, self.samples + "/" + name)
        self.assertEqual(found, {"ecosystem.config.js": ["index", "service-worker"], "ecosystem-es.config.js": ["index", "service-worker"],
                                 "ecosystem-simple.config.js": ["app1"], "ecosystem-simple-es.config.js": ["app1"],
                                 "sample-apps-http-server.config.js": ["API-%d" % i for i in range(4)],
                                 "sample-apps-pm2-plus-metrics-actions.config.js": ["Custom_Metrics"], "sample-apps-python-app.config.js": ["API"]})

    def test_javascript(self):
        """What is exported, by whatever form; what would have to be run is said where it is."""
        apps = '{apps: [{name: "a", script: "/bin/true", interpreter: "none"}]}'
        for text in ("module.exports = %s;", "export default %s", "const c = %s;\nexport default c;", "'use strict';\nvar one = 1; let c_2 = %s\nmodule.exports = c_2", "%s"):
            t = self.told("--from", "pm2", self.h.write("a.config.js", text % apps))
            self.assertEqual([w["alias"] for w in t["workers"]], ["a"], text)
        for text, where in (("const c = %s;\nexport default d;", "2:16"), ("const c = %s;", "1:"), ("const c = f();\nexport default c", "1:11"), ("let = %s", "1:5"),
                            ("const c == %s\nexport default c", "1:9"), ("const c = %s;\nexport default c.d", "2:17")):
            self.assertRegex(self.wrong(text.replace("%s", apps), "--from", "pm2", name="b.config.js"), r"b\.config\.js:" + where)

    def test_what_debian_ships(self):
        """Of the packages supervisor and monit, which the check installs."""
        files = ["/etc/supervisor/supervisord.conf"] + glob.glob("/usr/lib/python3*/dist-packages/supervisor/skel/sample.conf")
        self.assertEqual(len(files), 2, "the package supervisor is missing")
        for path in files:
            self.assertEqual(self.told(path)["workers"], [])
        with open(files[1], encoding="utf-8") as f:  # its example, taken out of the comments
            text = re.sub(r"(?m)^;(?=\[|\w+ ?=)", "", f.read())
        text = re.sub("(?m)^user=.*", "user=root" if harness.ROOT else "", text).replace("files = relative", ";").replace("=progname1,progname2", "=theprogramname")
        text = text.replace("%(ENV_", "%(here)s;")
        t = self.told(self.h.write("sample.conf", text))
        self.assertEqual([w["alias"] for w in t["workers"]], ["thegroupname:theprogramname"])
        self.assertIn("KillSignal=SIGQUIT", self.text(t, "thegroupname:theprogramname"))
        monit = sorted(glob.glob("/etc/monit/conf-available/*"))
        self.assertGreater(len(monit), 5, "the package monit is missing")
        top = ["/etc/monit/monitrc"] if harness.ROOT else []  # which is root's alone
        for path in top:
            self.assertEqual(self.told(path)["workers"], [])
        t = self.told("--write", self.out, *top, *monit)
        self.assertEqual(len(t["workers"]), sum(1 for p in monit if "check process" in open(p, encoding="utf-8").read()))
        self.ctl("--write", self.out, self.h.dir + "/sample.conf")
        self.check_config()


class Refusals(Import):
    def test_usage(self):
        path = self.samples + "/unit.service"
        for args in ((), ("--from", "nginx", path), ("--force", path), ("--check", "--write", self.out, path)):
            self.assertTrue(self.ctl(*args, code=2).stderr)
        self.assertIn("what is it?", self.wrong("just words\n"))
        self.assertIn("what is it?", self.wrong(""))
        self.assertTrue(self.told("--check", "--from", "systemd", path)["workers"])

    def test_files(self):
        self.assertIn("No such file", self.ctl(self.h.dir + "/none", code=1).stderr)
        self.assertIn("Is a directory", self.ctl(self.h.dir, code=1).stderr)
        os.mkfifo(self.h.dir + "/fifo")
        self.assertIn("no regular file", self.ctl(self.h.dir + "/fifo", code=1).stderr)
        self.assertIn("larger than", self.wrong(b"# x\n" * (1 << 19)))
        for kind in SAMPLE:
            self.assertRegex(self.wrong(b"a\0b", "--from", kind), r"bad:1:2: not a text")
            self.assertRegex(self.wrong(b"a\n\xff", "--from", kind), r"bad:2:1: not a text")
            self.assertRegex(self.wrong(b"a\x1b[2J", "--from", kind), r"bad:1:2: not a text")

    def test_truncated(self):
        """Wherever a file ends: an error, or what is whole; never a signal, never a file that agentd refuses."""
        for kind, name in SAMPLE.items():
            with open(os.path.join(self.samples, name), "rb") as f:
                text = f.read()
            for n in range(0, len(text), max(1, len(text) // 40)):
                with open(self.samples + "/conf/cut", "wb") as f:
                    f.write(text[:n])
                r = self.h.ctl("import", "--from", kind, "--force", "--write", self.out, self.samples + "/conf/cut")
                self.assertIn(r.returncode, (0, 1), (kind, n, r.stderr))
                self.assertEqual(r.stdout == "", r.returncode == 1)
                if r.returncode == 1:
                    self.assertRegex(r.stderr, r"conf/cut(:\d+:\d+)?: ")
            self.check_config()
            for left in os.listdir(self.out):
                self.assertFalse(left.startswith("."))
                os.unlink(os.path.join(self.out, left))

    def test_where(self):
        for name, text, said in (
                ("a.conf", "[program:x]\ncommand=cat\nstartsecs=soon\n", r"a\.conf:3:1: startsecs: a number"),
                ("a.conf", "[program:x]\ncommand=no-such-program-here\n", r":2:1: command: no-such-program-here is not in PATH"),
                ("a.conf", "[program:x]\ncommand=bin/x\n", r":2:1: command: bin/x is relative"),
                ("a.conf", "[program:x]\ncommand=/bin/x 'a\n", r":2:1: command: a quote that is not closed"),
                ("a.conf", "[program:x]\ncommand=/bin/x %(ENV_NO_SUCH)s\n", r":2:1: %\(ENV_NO_SUCH\)s is not known"),
                ("a.conf", "[program:x]\ncommand=/bin/x 5%\n", r":2:1: a % alone"),
                ("a.conf", "[program:x]\nuser=joe\n", r":1:1: \[program:x\] has no command"),
                ("a.conf", "[program:x]\ncommand=/bin/x\nnumprocs=2\n", r":1:1: numprocs is more than 1"),
                ("a.conf", "[program:x]\ncommand=/bin/x\nenvironment=A\n", r":3:1: environment: it is written"),
                ("a.conf", "[program:x]\nnonsense\n", r":2:1: neither \[section\] nor key=value"),
                ("a.conf", "[program:../x]\ncommand=/bin/x\n", r":1:1: \[program:../x\]: a program's name"),
                ("a.yaml", "services:\n  x:\n    args: [a]\n", r":2:3: x: has no program"),
                ("a.yaml", "services:\n  x: {program: /bin/x, finalWait: soon}\n", r":2:\d+: finalWait: \"soon\" is no time"),
                ("a.yaml", "services:\n  x: [a\n", r":\d+:\d+: no YAML: "),
                ("a.yaml", "services: &a\n  x: *a\n", r":2:6: \*a names nothing"),
                ("a.yaml", "services: {x: {program: /bin/x}, x: {program: /bin/y}}\n", r":1:34: x is there twice"),
                ("monitrc", 'check process x with pidfile /x\nstart program = "x"\n', r"monitrc:2:1: start program: its absolute path"),
                ("monitrc", 'check process x with pidfile x\nstart program = "/x"\n', r"monitrc:1:1: pidfile: an absolute"),
                ("monitrc", "".join('check process %s with pidfile /x\nstart program = "/x"\ndepends on %s\n' % (a, b) for a, b in ("ab", "bc", "ca")),
                 r"monitrc:9:1: c and a depend on each other"),
                ("monitrc", 'check process x with pidfile /x\nstart program = "/x" as uid no-such-user\n', r"monitrc:2:1: no-such-user is no user of this"),
                ("a.conf", "[program:x]\ncommand=/bin/x\nuser=no-such-user\n", r":3:1: user: no-such-user is no user of this host"),
                ("monitrc", 'check process x with pidfile /x\nstart program = "/."\n', r"monitrc:2:1: ExecStart= would have no path"),
                ("a.conf", "[program:x]\ncommand=/bin/x\ndirectory=/%s\n" % ("y" * 5000), r"a.conf:3:1: WorkingDirectory= would have no path"),
                ("monitrc", 'check process "x\n', r"monitrc:1:15: a quote"),
                ("a.config.js", "module.exports = {\n  apps: [{script: '/bin/x', env: {A: process.env.A}}]\n}", r":2:38: an expression"),
                ("a.config.js", "module.exports = {\n  apps: [{script: './' + x}]\n}", r":2:24: an expression"),
                ("a.config.js", "module.exports = {apps: [{script: `${x}`}]}", r":1:36: an expression"),
                ("a.config.js", "const x = require('os')\nmodule.exports = {}", r":1:11: an expression"),
                ("a.config.js", "require('os')\nmodule.exports = {}", r":1:1: not `module.exports"),
                ("a.config.js", "module.exports = {apps: []}; boom()", r":1:30: more behind"),
                ("a.config.js", "module.exports = {apps: [{...x}]}", r":1:27: an expression"),
                ("a.config.js", "module.exports = {apps: [{script: 60 * 1000}]}", r":1:38: an expression"),
                ("a.config.js", "module.exports = {apps: [{script: '/bin/x'", r":1:43: the file ends too early"),
                ("a.json", '{"apps": [{"script": "/bin/x", "min_uptime": "soon"}]}', r":1:46: min_uptime: a time"),
                ("a.json", "[" * 1000, r":1:33: values in values deeper"),
                ("a.yaml", "apps: " + "[" * 1000, r": values in values deeper")):
            with self.subTest(text[:60]):
                said_of = self.wrong(text, name=name)
                self.assertRegex(said_of, said)
                self.assertRegex(said_of, r"agentctl: import: \d+ errors?; nothing is written\n$")

    def test_bounds(self):
        self.assertIn("more than 1000 workers", self.wrong("".join("[program:p%d]\ncommand=/bin/x\n" % i for i in range(1100)), name="a.conf"))
        # a thousand processes of a section that is large
        self.assertIn("256 MiB", self.wrong("[program:x]\ncommand=/bin/x\nprocess_name=a%%(process_num)d\nnumprocs=1000\nfrob=%s\n" % ("y" * 1000000),
                                            name="a.conf"))
        # a value that grows beyond all that is taken
        self.assertIn("a value would have more than 2048 KiB", self.wrong(
            '[supervisord]\nenvironment=A="%s"\n[program:x]\ncommand=/bin/x\ndirectory=/%s\n' % ("%" * 1040000, "%(ENV_A)s" * 3), name="a.conf"))
        laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join("a%d: &a%d [%s]\n" % (i, i, ",".join(["*a%d" % (i - 1)] * 9)) for i in range(1, 9))
        self.assertIn("more than 100000 values", self.wrong(laughs, "--from", "pm2", name="a.yaml"))
        self.assertIn("more than 256 variables", self.wrong("[program:x]\ncommand=/bin/x\nenvironment=%s\n"
                                                            % ",".join("A%d=1" % i for i in range(300)), name="a.conf"))
        self.assertIn("more than the 256 words", self.wrong("[program:x]\ncommand=/bin/x\n" + " y\n" * 100000, name="a.conf"))
        self.assertIn("longer than the 8192 bytes", self.wrong("[program:x]\ncommand=/bin/x %s\n" % ("y" * 9000), name="a.conf"))
        self.assertIn("more than the 256 words", self.wrong("[program:x]\ncommand=/bin/x%s\n" % (" y" * 300), name="a.conf"))

    def test_names(self):
        """A name becomes an alias, and no path; two of one alias are none."""
        for name, alias in (("../../etc/x", "_._.._etc_x"), (".hidden", "_hidden"), ("-rf", "_rf"), ("a b", "a_b"), ("\u00e4\u00f6", "__"),
                            ("x" * 100, "x" * 64), ("a@", "a_"), ("..", "_.")):
            path = self.h.write("a.json", json.dumps({"apps": [{"name": name, "script": "/bin/true", "interpreter": "none"}]}))
            t = self.told("--write", self.out, path)
            self.assertEqual(os.listdir(self.out), [alias + ".conf"])
            self.assertEqual(self.to(t, alias, "(name)"), [alias + ".conf"])
            self.check_config()
            os.unlink("%s/%s.conf" % (self.out, alias))
        self.assertRegex(self.wrong(json.dumps({"apps": [{"name": n, "script": "/bin/true", "interpreter": "none"} for n in ("a b", "a/b")]}),
                                    name="a.json"), r"a\.json:1:\d+: \"a/b\" would be the worker a_b, as pm2, app a b at \S*a\.json:1 is")
        unit = self.samples + "/unit.service"
        self.assertIn("give one of them another name", self.ctl("--write", self.out, unit, unit, code=1).stderr)
        self.assertEqual(os.listdir(self.out), [])


class Writing(Import):
    def listing(self):
        return {n: os.stat(os.path.join(self.out, n)).st_ino for n in os.listdir(self.out)}

    def test_never_half(self):
        path = self.samples + "/supervisord.conf"
        self.ctl("--write", self.out, path)
        before = self.listing()
        self.assertEqual(len(before), 6)
        # one that is there keeps all others away
        for name in list(before)[:5]:
            os.unlink(os.path.join(self.out, name))
        left = self.listing()
        self.assertRegex(self.ctl("--write", self.out, path, code=1).stderr, "it is there already; --force replaces it; nothing is written")
        self.assertEqual(self.listing(), left)
        t = self.told("--write", self.out, "--force", path)
        self.assertEqual(len(self.listing()), 6)
        self.assertFalse(set(left.values()) & set(self.listing().values()))
        # one that can't be replaced: those before it come back, and new ones go away
        alias = t["workers"][3]["alias"]
        os.unlink("%s/%s.conf" % (self.out, t["workers"][1]["alias"]))
        os.unlink("%s/%s.conf" % (self.out, alias))
        os.mkdir("%s/%s.conf" % (self.out, alias))
        left = self.listing()
        self.assertIn("no regular file", self.ctl("--write", self.out, "--force", path, code=1).stderr)
        self.assertEqual(self.listing(), left)
        os.rmdir("%s/%s.conf" % (self.out, alias))
        os.symlink("/etc/passwd", "%s/%s.conf" % (self.out, alias))
        self.assertIn("no regular file", self.ctl("--write", self.out, "--force", path, code=1).stderr)
        self.assertIn("no such folder", self.ctl("--write", self.h.dir + "/none", path, code=1).stderr)

    def test_nobody_else_reads(self):
        """What only root may read of the sources, included ones too, only root may read of what comes of them."""
        path = self.samples + "/supervisord.conf"
        for source, mode, wanted in ((path, 0o600, 0o600), (path, 0o440, 0o640), (self.samples + "/sup.d/more.ini", 0o600, 0o600)):
            before = os.stat(source).st_mode
            os.chmod(source, mode)
            self.ctl("--write", self.out, "--force", path)
            for name in os.listdir(self.out):
                self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.out, name)).st_mode), wanted, (source, name))
            os.chmod(source, before)

    def test_a_rename_that_fails(self):
        """The third one of them, say for a full disk: what was renamed is put back, with --force too."""
        path = self.samples + "/supervisord.conf"
        for force in ((), ("--force",)):
            if force:
                self.ctl("--write", self.out, path)
            before = self.listing()
            r = self.injected(("renameat2:error=ENOSPC:when=3",), *force, path)
            self.assertEqual(r.returncode, 1, r)
            self.assertIn("No space left on device; nothing is written", r.stderr)
            self.assertEqual(self.listing(), before)

    def injected(self, faults, *args):
        return subprocess.run(["strace", "-f", "-o", "/dev/null", *[x for f in faults for x in ("-e", "inject=" + f)], harness.STAGED + "/agentctl",
                               "import", "--write", self.out, *args], capture_output=True, text=True,
                              timeout=harness.DEADLINE, check=False, env=dict(self.h.environment(), ASAN_OPTIONS="detect_leaks=0"))

    def test_a_file_system_without_exchange(self):
        """There the earlier files come back as well, and new ones go away; and all goes well if nothing fails."""
        path = self.samples + "/supervisord.conf"
        old = "renameat2:error=EINVAL"
        t = self.told("--write", self.out, path)
        os.unlink("%s/%s.conf" % (self.out, t["workers"][1]["alias"]))
        before = self.listing()
        self.assertEqual(len(before), 5)
        # links: the first one's earlier file, none of the second, the second itself, the third one's earlier file
        for fault, said in (("linkat:error=EPERM:when=4", "Operation not permitted"), ("renameat:error=ENOSPC:when=2", "No space left on device")):
            r = self.injected((old, fault), "--force", path)
            self.assertEqual(r.returncode, 1, r)
            self.assertIn(said + "; nothing is written", r.stderr)
            self.assertEqual(self.listing(), before)
        r = self.injected((old,), "--force", path)
        self.assertEqual(r.returncode, 0, r)
        after = self.listing()
        self.assertEqual(sorted(after), sorted(w["alias"] + ".conf" for w in t["workers"]))
        self.assertFalse(set(before.values()) & set(after.values()))
        r = self.injected((old,), path)
        self.assertIn("it is there already", r.stderr)
        self.assertEqual(self.listing(), after)
        for name in after:
            os.unlink(os.path.join(self.out, name))
        self.assertEqual(self.injected((old,), path).returncode, 0)
        self.assertEqual(sorted(self.listing()), sorted(after))


if __name__ == "__main__":
    harness.unittest.main()
