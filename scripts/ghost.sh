#!/usr/bin/env bash
# Installs a real Ghost outside of the tree, once, and drives it against build/postern (tests/ghost).
#
#   scripts/ghost.sh              installs what is missing, then runs the test: about ten minutes
#   scripts/ghost.sh install      only installs, and prints where
#
# GHOST_VERSION   another version than the one below
# GHOST_CACHE     where it is kept (default: ~/.cache/postern), so that `make clean` leaves it
# MEMBERS         of the newsletter (default 2500)
#
# Ghost inserts 1,000 recipients in one statement, more than SQLite's default of 500 lets pass
# (SQLITE_MAX_COMPOUND_SELECT), so its better-sqlite3 is built from source with a higher limit, for the
# Node.js of tests/package.json, whose package brings its own headers.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${GHOST_VERSION:-6.65.0}
home=${GHOST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/postern}/ghost-$version
terms=5000

say() { echo "ghost: $*" >&2; }

# What fails for want of a network is tried again; the last words are shown if all tries fail.
try() {
  local what=$1 log=$home/$1.log pause
  shift
  for pause in 5 20 0; do
    if "$@" >"$log" 2>&1 </dev/null; then return; fi
    if ((pause > 0)); then
      say "$what failed, trying again in $pause s"
      sleep "$pause"
    fi
  done
  tail -n 20 "$log" >&2
  if grep -qE 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|network' "$log"; then
    say "the npm registry cannot be reached: NOT TESTED with a real Ghost. Once it can, run this again"
  else
    say "$what failed: see $log"
  fi
  exit 1
}

fetch() { # a package, as it is published, into a folder
  (cd "$2" && npm pack --loglevel=error "$1")
}

install_modules() {
  (cd "$home/package" && npm install --omit=dev --ignore-scripts --no-audit --no-fund --no-package-lock \
    --legacy-peer-deps --loglevel=error)
}

build_sqlite() {
  (cd "$home/package" &&
    CFLAGS="-O2 -DSQLITE_MAX_COMPOUND_SELECT=$terms" npm rebuild better-sqlite3 --build-from-source --nodedir="$1" \
      --foreground-scripts)
}

# Beside the Node.js, where its package was unpacked; else from that package, of the same version.
headers_of() {
  local at package
  for at in "$(dirname "$1")/.." tests/node_modules/node/node_modules/node-*; do
    if [[ -e $at/include/node/node_version.h ]]; then
      (cd "$at" && pwd)
      return
    fi
  done
  # shellcheck disable=SC2016 # JavaScript's
  package=$("$1" -p '`node-${process.platform}-${process.arch}@${process.versions.node}`')
  at=$home/headers
  if [[ ! -e $at/package/include/node/node_version.h ]]; then
    say "fetching the headers of $package"
    mkdir -p "$at"
    try headers fetch "$package" "$at"
    tar -xzf "$at"/*.tgz -C "$at" --wildcards 'package/include/*'
    rm -f "$at"/*.tgz
  fi
  echo "$at/package"
}

# The module must load in the Node.js that is to run Ghost, and take as many terms as Ghost writes.
check() {
  local node=$1
  # shellcheck disable=SC2016 # the ${i} is JavaScript's
  (cd "$home/package" && "$node" -e '
    const db = new (require("better-sqlite3"))(":memory:");
    db.exec("create table t (a)");
    db.exec("insert into t " + Array.from({ length: 1000 }, (_, i) => `select ${i}`).join(" union all "));
    if (db.prepare("select count(*) n from t").get().n !== 1000) process.exit(1);')
}

install() {
  local node headers
  scripts/setup.sh ghost
  node=$(scripts/node.sh)
  if [[ -e $home/.installed ]] && check "$node" 2>/dev/null; then return; fi
  mkdir -p "$home"
  headers=$(headers_of "$node")
  if [[ ! -e $home/package/package.json ]]; then
    say "fetching Ghost $version"
    try fetch fetch "ghost@$version" "$home"
    tar -xzf "$home/ghost-$version.tgz" -C "$home"
    rm -f "$home/ghost-$version.tgz"
  fi
  say "installing its packages in $home"
  try packages install_modules
  say "building SQLite"
  try sqlite build_sqlite "$headers"
  if ! check "$node"; then
    say "the SQLite just built takes no 1,000 rows in one statement: see $home/sqlite.log"
    exit 1
  fi
  touch "$home/.installed" # last: an installation cut short is begun again
}

case ${1:-run} in
install)
  install
  echo "$home/package"
  ;;
run)
  install
  make --no-print-directory build/postern
  GHOST_DIR=$home/package exec "$(scripts/node.sh)" --test --test-reporter=spec tests/ghost/ghost.test.mjs
  ;;
*)
  echo "usage: scripts/ghost.sh [install|run]" >&2
  exit 2
  ;;
esac
