#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs as a unit in the emulated machine: the package's life on a kernel with all controllers. inside.sh first|second
# Prints TAP. What is waited for are jobs of systemd and lines of the journal, never time.
set -uo pipefail
unit=/sys/fs/cgroup/system.slice/agentd.service
n=0 bad=0

say() { printf '%s\n' "$*"; }
fail() { why="$*"; return 1; }
main_pid() { systemctl show -P MainPID agentd.service; }
# Each worker's pid and start, as agentd and the kernel have them.
identities() {
  local alias pid
  for alias in limited web rests; do
    pid=$(agentctl status -o json $alias | grep -o '"pid":[0-9]*' | head -n 1 | cut -d: -f2)
    printf '%s %s %s\n' $alias "$pid" "$(cut -d' ' -f22 /proc/"$pid"/stat 2>/dev/null)"
  done
}
up() { agentctl status -o json "$1" | grep -q '"state":"UP"'; }
limits() {
  [ "$(cat $unit/w-limited/memory.max)" = 67108864 ] || fail "memory.max: $(cat $unit/w-limited/memory.max)" || return 1
  [ "$(cat $unit/w-limited/pids.max)" = 50 ] || fail "pids.max: $(cat $unit/w-limited/pids.max)" || return 1
  [ "$(cat $unit/w-limited/cpu.max)" = "50000 100000" ] || fail "cpu.max: $(cat $unit/w-limited/cpu.max)"
}
same() { # same WHAT: nobody has noticed, and the limits hold
  local now; now=$(identities)
  [ "$now" = "$before" ] || fail "$1: workers are others: $before / $now" || return 1
  limits || fail "$1: $why"
}
# The journal from here on, until a line has these words.
await() {
  grep -q -m 1 "$1" < <(timeout 60 journalctl -q -f -n all --after-cursor="$cursor" -u agentd.service -o cat 2>/dev/null) || fail "no \"$1\" in the journal"
}
mark() { cursor=$(journalctl -q -n 0 --show-cursor | sed -n 's/^-- cursor: //p'); }
t() { # t NAME FUNCTION
  n=$((n + 1)) why=
  if "$2"; then say "ok $n - $where.$1"; else say "not ok $n - $where.$1"; say "$why" | sed 's/^/# /'; bad=$((bad + 1))
    journalctl -q -u agentd.service -n 25 -o short-precise --no-pager | sed 's/^/# /'; fi
}

install() {
  dpkg -i /opt/first.deb >/opt/dpkg.log 2>&1 || fail "$(tail -n 5 /opt/dpkg.log)" || return 1
  systemctl is-active -q agentd.service || fail "it is not active: $(cat /opt/dpkg.log; systemctl status --no-pager agentd.service)" || return 1
  [ "$(systemctl is-enabled agentd.service)" = enabled ] || fail "it is not enabled" || return 1
  cp /opt/workers.d/*.conf /etc/agentd/workers.d/
  mkdir -p /etc/systemd/system/agentd.service.d
  printf '[Service]\nWatchdogSec=5s\n' >/etc/systemd/system/agentd.service.d/test.conf
  systemctl daemon-reload && systemctl restart agentd.service || fail "with a drop-in" || return 1
  agentctl reload >/opt/reload.log 2>&1 || fail "$(cat /opt/reload.log)" || return 1
  for w in limited web rests; do agentctl start $w >/dev/null || fail "$w does not start" || return 1; done
  before=$(identities)
  up limited && up web && limits
}
restarts() {
  for i in $(seq 20); do
    systemctl restart agentd.service || fail "restart $i" || return 1
    same "restart $i" || return 1
  done
}
dies() { # dies SIGNAL
  local old; old=$(main_pid); mark
  kill -"$1" "$old"
  await "is ready" || return 1
  [ "$(main_pid)" != "$old" ] || fail "SIG$1: the same process" || return 1
  same "SIG$1"
}
crashes() { dies KILL && dies SEGV && dies ABRT; }
hangs() { dies STOP; }
manager() {
  systemctl daemon-reload && systemctl daemon-reexec && same "daemon-reexec" && systemctl restart agentd.service && same "restart after it"
}
upgrade() {
  local old; old=$(main_pid)
  dpkg -i /opt/second.deb >/opt/dpkg.log 2>&1 || fail "$(tail -n 5 /opt/dpkg.log)" || return 1
  [ "$(main_pid)" = "$old" ] || fail "another process" || return 1
  same "upgrade"
}
bad_file() {
  printf 'rubbish\n' >/etc/agentd/workers.d/broken.conf
  mark
  systemctl reload agentd.service
  await "broken.conf:1:1" || return 1
  systemctl is-active -q agentd.service || fail "it is not active" || return 1
  case $(systemctl show -P StatusText agentd.service) in *"the last reload found errors"*) ;; *) fail "its status does not say so" || return 1 ;; esac
  rm /etc/agentd/workers.d/broken.conf
  agentctl reload >/dev/null
  same "reload"
}
verify() {
  local said; said=$(systemd-analyze verify --man=no /lib/systemd/system/agentd.service 2>&1)
  [ -z "$said" ] || fail "$said"
}
oom() { # one worker's own lack of memory is nobody else's business
  local old; old=$(main_pid)
  cp /opt/hungry.conf /etc/agentd/workers.d/hungry.conf
  mark
  agentctl reload >/dev/null
  await "killed by the OOM killer" || return 1
  agentctl stop hungry >/dev/null
  agentctl history -o json hungry | grep -q oom-killed || fail "$(agentctl history hungry)" || return 1
  rm /etc/agentd/workers.d/hungry.conf
  agentctl reload >/dev/null
  [ "$(main_pid)" = "$old" ] || fail "agentd is another" || return 1
  same "oom"
}
before_reboot() {
  agentctl stop rests >/dev/null || fail "it does not stop" || return 1
  say "STATE $(tar -C / -cz var/lib/agentd etc/agentd etc/systemd/system | base64 -w 0)"
}
gone() {
  systemctl stop agentd.service || fail "stop" || return 1
  [ "$(systemctl show -P Result agentd.service)" = success ] || fail "the stop's result" || return 1
  [ ! -e $unit ] || fail "its cgroup is left" || return 1
  rm -r /etc/systemd/system/agentd.service.d
  dpkg -P agentd >/opt/dpkg.log 2>&1 || fail "$(tail -n 5 /opt/dpkg.log)" || return 1
  ! pgrep -x 'agentd|agentd-rpc|worker' >/dev/null || fail "$(pgrep -al 'agentd|worker')" || return 1
  local left; left=$(find /etc /lib /usr /var /run -xdev -name '*agentd*' -not -path '/var/lib/dpkg/*' -not -path '*/journal/*')
  [ -z "$left" ] || fail "left: $left"
}
booted() { # nobody has started anything by hand
  systemctl is-active -q agentd.service || systemctl start agentd.service # its job may be waiting for us
  for w in limited web; do agentctl start $w >/dev/null || fail "$w" || return 1; up $w || fail "$w is not up" || return 1; done
  agentctl status -o json rests | grep -q '"state":"DOWN"' || fail "the one that was stopped runs" || return 1
  agentctl history -o json limited | grep -q '"earlierBoot":true' || fail "$(agentctl history -o json limited)" || return 1
  agentctl status -o json limited | grep -q '"goalBy":"config"\|"goalBy":"uid:0"' || fail "its goal" || return 1
  limits
}

where=$1 before=
if [ "$1" = first ]; then
  t install install; t verify verify; t restarts restarts; t crashes crashes; t hangs hangs; t manager manager; t upgrade upgrade
  t bad_file bad_file; t oom oom; t before_reboot before_reboot; t gone gone
else
  t booted booted
fi
say "1..$n"
systemctl reboot --force --force
