#!/usr/bin/env bash
# Tries the Debian package in a fresh Debian 12: lintian, the quick start of the README, use, upgrade, remove, install again,
# purge. Needs root (debootstrap, chroot), the package (make deb) and a minute; ends with "N passed, 0 failed".
#
#   TEST_DEB_CACHE   where the base tree is kept (default ~/.cache/postern/bookworm)
#
# The tree has no systemd that runs: what the unit would start, this starts, as the unit's user; and it has this machine's
# network, so Postern gets ports that are free.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${TEST_DEB_CACHE:-$HOME/.cache/postern/bookworm}
version=$(make -s --no-print-directory say-version)
arch=$(dpkg --print-architecture)
package=build/postern_${version}_$arch.deb
if ((EUID != 0)); then
  echo "test-deb: debootstrap and chroot need root" >&2
  exit 2
fi
[[ -e $package ]] || { echo "test-deb: there is no $package: make deb" >&2; exit 2; }

# ---- a base tree, made once ----
mirror() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    awk '/^URIs:/ {print $2; exit} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^[a-z]+:\/\//) {print $i; exit}}'
}
if [[ ! -e $cache.ready ]]; then
  echo "test-deb: a fresh Debian 12 into $cache"
  mkdir -p "$(dirname "$cache")"
  rm -rf --one-file-system "$cache"
  debootstrap --variant=minbase --include=ca-certificates,systemd,logrotate bookworm "$cache" "$(mirror)" >"$cache.log" 2>&1 ||
    { tail -n 5 "$cache.log" >&2; exit 1; }
  cp -r /etc/apt/sources.list.d "$cache/etc/apt/" 2>/dev/null || true
  if [[ -e /etc/apt/sources.list ]]; then cp /etc/apt/sources.list "$cache/etc/apt/"; else rm -f "$cache/etc/apt/sources.list"; fi
  cp -r /etc/apt/apt.conf.d "$cache/etc/apt/" 2>/dev/null || true
  touch "$cache.ready"
fi

work=$(mktemp -d "$(dirname "$cache")/run.XXXXXX")
tree=$work/tree
postern='' # the pid of the one that runs
finish() {
  if [[ -n $postern ]]; then kill -KILL "$postern" 2>/dev/null || true; fi
  if mountpoint -q "$tree/proc"; then umount "$tree/proc"; fi
  rm -rf --one-file-system "$work"
}
trap finish EXIT
cp -a --reflink=auto "$cache" "$tree"
cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
mount -t proc proc "$tree/proc"

passed=0
failed=0
check() { # words, then a command that must succeed
  local words=$1
  shift
  if "$@" >"$work/out" 2>&1; then
    passed=$((passed + 1))
    echo "ok   $words"
  else
    failed=$((failed + 1))
    echo "FAIL $words"
    tail -n 12 "$work/out" | sed 's/^/     /'
  fi
}
inside=(chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
user=(setpriv --reuid=postern --regid=postern --init-groups)
within() { "${inside[@]}" "$@"; }
as_postern() { "${inside[@]}" "${user[@]}" "$@"; }
is_absent() { [[ ! -e $tree$1 ]]; }
is_mode() { [[ $(within stat -c '%a %U %G' "$1") == "$2" ]]; }

# A free port of this machine's loopback interface, whose network the tree has.
free_port() {
  perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}
port=$(free_port)
url=http://127.0.0.1:$port

start() {
  # what StateDirectory= and LogsDirectory= do
  within install -d -o postern -g postern -m 700 /var/lib/postern
  within install -d -o postern -g postern -m 750 /var/log/postern
  # each of these becomes the next: the pid is the master's
  "${inside[@]}" "${user[@]}" postern -c /etc/postern/proxy.conf >"$work/stderr" 2>&1 &
  postern=$!
  for _ in $(seq 300); do
    if curl -fsS "$url/health" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  tail -n 5 "$work/stderr"
  return 1
}
stop() {
  kill -TERM "$postern"
  wait "$postern" || true
  postern=''
}
send() {
  curl -fsS -u api:key-sandbox-only-change-me -F from=news@mg.example.com -F to=reader@example.net -F subject=Hello -F text=Hello \
    "$url/v3/mg.example.com/messages"
}
# What stands in the README as quick start, a command a line.
quick_start() {
  awk '/^## / {inside = 0} /^## Quick start/ {inside = 1} /^```/ {shown = inside && $0 == "```sh"; next} shown' README.md |
    sed -e ':a' -e '/\\$/{N;s/\\\n *//;ba' -e '}'
}
now_ms() { date +%s%3N; }
lap() { # what has taken since when
  local ms=$(($(now_ms) - $2))
  printf '     %s: %d.%03d s\n' "$1" $((ms / 1000)) $((ms % 1000))
}
# One of its commands, as it stands there, by root in /srv.
walk() {
  local command=${steps[$1]}
  command=${command//127.0.0.1:8025/127.0.0.1:$port}
  if [[ $command == "systemctl start postern" ]]; then
    start
  else
    within bash -euc "cd /srv && $command"
  fi
}
is_told() { # every reader of the walk's newsletter has an event that tells what became of it
  local wanted=$1
  for _ in $(seq 300); do
    if [[ $(as_postern postern batches -c /etc/postern/proxy.conf --json | sed -n 's/.*"outcomes":\([0-9]*\).*/\1/p') == "$wanted" ]]; then return 0; fi
    sleep 0.1
  done
  return 1
}
has_batch() { [[ $(as_postern postern batches -c /etc/postern/proxy.conf --json | wc -l) == "$1" ]]; }
log_is_new() {
  kill -USR1 "$postern"
  for _ in $(seq 100); do
    if [[ -e $tree/var/log/postern/postern.log ]]; then return 0; fi
    sleep 0.1
  done
  return 1
}
nothing_is_left() {
  local file left=0
  while IFS= read -r file; do
    if [[ -f $tree$file ]]; then
      echo "$file"
      left=1
    fi
  done <"$work/files"
  return "$left"
}

check "lintian has nothing to say" lintian --fail-on error,warning --suppress-tags bad-distribution-in-changes-file "$package"

# ---- the quick start, as it stands in the README ----
cp "$package" "$tree/srv/"
echo 'APT::Get::Assume-Yes "true"; APT::Install-Recommends "false"; Dpkg::Use-Pty "false";' >"$tree/etc/apt/apt.conf.d/99test"
within apt-get update -qq >/dev/null
mapfile -t steps < <(quick_start)
check "the quick start has three commands" test "${#steps[@]}" = 3
begun=$(now_ms)
check "1. ${steps[0]}" walk 0
lap "installed, with what it depends on" "$begun"
# the ports, which are this machine's
sed -i -e "s|127.0.0.1:8025|127.0.0.1:$port|" -e "s|127.0.0.1:8026|127.0.0.1:$(free_port)|" "$tree/etc/postern/proxy.conf"
at=$(now_ms)
check "2. ${steps[1]}" walk 1
lap "serves" "$at"
at=$(now_ms)
check "3. ${steps[2]%% -F *} …" walk 2
lap "accepted" "$at"
check "and every reader's outcome is told" is_told "$(grep -o -- '-F to=' <<<"${steps[2]}" | wc -l)"
lap "delivered or bounced, and told" "$at"
lap "from the package to the first newsletter" "$begun"
stop

# ---- what was installed ----
within dpkg -L postern | grep '^/' >"$work/files"
check "--version is the package's" grep -q "^postern $version (" <(within postern --version)
check "there is a user for it" within getent passwd postern
check "the configuration is root's to write and Postern's to read" is_mode /etc/postern/proxy.conf '640 root postern'
check "its user accepts the configuration" as_postern postern -t -c /etc/postern/proxy.conf
check "the manuals are there" test -e "$tree/usr/share/man/man8/postern-status.8.gz"
check "the unit verifies" within systemd-analyze verify --man=no postern.service
check "and is not enabled" is_absent /etc/systemd/system/multi-user.target.wants/postern.service
check "logrotate takes its rule" within logrotate --debug /etc/logrotate.d/postern

# ---- use, with a configuration of the machine's own ----
sed -i -e 's|destination = "stderr"|destination = "/var/log/postern/postern.log"|' "$tree/etc/postern/proxy.conf"
cp "$tree/etc/postern/proxy.conf" "$work/mine"
echo 'SECRET=1' >"$tree/etc/postern/environment"
check "it starts and is healthy" start
check "the state is its own" as_postern test -w /var/lib/postern
check "it takes a mail" send
check "whose books the CLI shows" has_batch 2
check "logrotate renames the log" within logrotate --force /etc/logrotate.d/postern
check "to .1" test -e "$tree/var/log/postern/postern.log.1"
check "and USR1 opens a new one" log_is_new
stop

# ---- upgrade: the same with a higher version and another configuration as it comes ----
dpkg-deb -R "$package" "$work/next"
sed -i "s/^Version: .*/Version: $version+next1/" "$work/next/DEBIAN/control"
echo '# of the next version' >>"$work/next/etc/postern/proxy.conf"
(cd "$work/next" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -b "$work/next" "$tree/srv/next.deb" >/dev/null
check "upgrades" within dpkg --force-confold -i /srv/next.deb
check "to the next version" grep -qx "Version: $version+next1" <(within dpkg -s postern)
check "the machine's configuration is kept" cmp "$tree/etc/postern/proxy.conf" "$work/mine"
check "with its rights" is_mode /etc/postern/proxy.conf '640 root postern'
check "and the new one is beside it" test -e "$tree/etc/postern/proxy.conf.dpkg-dist"
check "secrets are root's" is_mode /etc/postern/environment '600 root root'
check "it starts on the old state" start
check "and takes another mail" send
check "all are there" has_batch 3
stop

# ---- remove, and install again ----
check "is removed" within dpkg -r postern
check "the binary is gone" is_absent /usr/bin/postern
check "the unit is gone" is_absent /lib/systemd/system/postern.service
check "the configuration stays" cmp "$tree/etc/postern/proxy.conf" "$work/mine"
check "the state stays" test -e "$tree/var/lib/postern/store/data.mdb"
check "is installed again" within dpkg --force-confold -i /srv/next.deb
check "and knows what it had" has_batch 3

# ---- purge ----
check "is purged" within dpkg -P postern
check "the state is gone" is_absent /var/lib/postern
check "the logs are gone" is_absent /var/log/postern
check "configuration and secrets are gone" is_absent /etc/postern
check "and every file of the package" nothing_is_left

echo "$passed passed, $failed failed"
((failed == 0))
