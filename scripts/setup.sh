#!/usr/bin/env bash
# Installs what is missing on a fresh Debian 12, and only that: with everything there it changes nothing and
# needs no network and no root.
#
#   scripts/setup.sh build     what it takes to build and run Postern
#   scripts/setup.sh test      also what the tests take (cmocka, clang, promtool, Chromium, Node.js and the packages of
#                              tests/package.json)
#   scripts/setup.sh ghost     also what it takes to build Ghost's SQLite (scripts/ghost.sh)
#   scripts/setup.sh deb       what it takes to build the Debian package (scripts/deb.sh)
#   scripts/setup.sh test-deb  also what it takes to try it (scripts/test_deb.sh)
set -euo pipefail
cd "$(dirname "$0")/.."

build_packages=(gcc make pkg-config curl libevent-dev libssl-dev libcurl4-openssl-dev liblmdb-dev
  libmsgpack-dev libcjson-dev libconfuse-dev libgmime-3.0-dev zlib1g-dev libzstd-dev libsystemd-dev libseccomp-dev libsqlite3-dev)
test_packages=(libcmocka-dev clang lld libclang-rt-14-dev openssl chromium)
ghost_packages=(g++ python3)
deb_packages=(debhelper dpkg-dev)
test_deb_packages=(lintian debootstrap)

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "setup: $1 needs root: run this as root, or install sudo" >&2
    exit 1
  fi
}

install_missing() {
  local missing=() package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then return; fi
  if ! command -v apt-get >/dev/null; then
    echo "setup: this is no Debian; install what these packages hold: ${missing[*]}" >&2
    exit 1
  fi
  echo "setup: installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { as_root apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    echo "setup: apt-get failed" >&2
    exit 1
  fi
  rm -f "$log"
}

# The package prometheus starts a server that listens on all addresses. Of it the tests take one program.
install_promtool() {
  local tools=${XDG_CACHE_HOME:-$HOME/.cache}/postern/tools dir
  if command -v promtool >/dev/null || [[ -x $tools/promtool ]]; then return; fi
  echo "setup: taking promtool out of the package prometheus"
  dir=$(mktemp -d)
  if ! { (cd "$dir" && { apt-get download -qq prometheus || { as_root apt-get update -qq && apt-get download -qq prometheus; }; }) &&
    dpkg-deb -x "$dir"/prometheus_*.deb "$dir/tree" && mkdir -p "$tools" && mv "$dir/tree/usr/bin/promtool" "$tools/promtool"; } \
    >"$dir/log" 2>&1 </dev/null; then
    cat "$dir/log" >&2
    rm -rf "$dir"
    echo "setup: promtool cannot be had: apt-get download prometheus failed" >&2
    exit 1
  fi
  rm -rf "$dir"
}

# npm may come with Node.js itself (NodeSource, a tarball) and not as a package of its own.
install_node() {
  local wanted=()
  command -v node >/dev/null || wanted+=(nodejs)
  command -v npm >/dev/null || wanted+=(npm)
  if ((${#wanted[@]} > 0)); then install_missing "${wanted[@]}"; fi
}

install_modules() {
  local stamp=tests/node_modules/.installed
  if cat tests/package.json tests/package-lock.json | cmp -s - "$stamp"; then return; fi
  echo "setup: installing the packages of tests/package.json"
  local log
  log=$(mktemp)
  if ! (cd tests && npm ci --loglevel=error) >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    echo "setup: npm ci failed" >&2
    exit 1
  fi
  rm -f "$log"
  cat tests/package.json tests/package-lock.json >"$stamp" # last: an install cut short is begun again
}

case ${1:-} in
build)
  install_missing "${build_packages[@]}"
  ;;
test)
  install_missing "${build_packages[@]}" "${test_packages[@]}"
  install_promtool
  install_node
  install_modules
  ;;
ghost)
  install_missing "${build_packages[@]}" "${ghost_packages[@]}"
  install_node
  install_modules
  ;;
deb)
  install_missing "${build_packages[@]}" "${deb_packages[@]}"
  ;;
test-deb)
  install_missing "${build_packages[@]}" "${deb_packages[@]}" "${test_deb_packages[@]}"
  ;;
*)
  echo "usage: scripts/setup.sh build|test|ghost|deb|test-deb" >&2
  exit 2
  ;;
esac
