#!/usr/bin/env bash
# Builds the same sources in two directories, at two times and with two umasks, and compares the binaries and the
# tarballs byte by byte.
set -euo pipefail
cd "$(dirname "$0")/.."
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y master/main.c)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # directory, umask
  mkdir -p "$1"
  scripts/source_tree.sh "$1"
  (umask "$2" && cd "$1" && env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -j"$(nproc)" --no-print-directory dist) >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; exit 1; }
}
build "$work/one" 022
build "$work/another/and/longer" 077

status=0
for file in build/release/postern build/dist/postern "$(cd "$work/one" && ls build/*.tar.gz)"; do
  if cmp "$work/one/$file" "$work/another/and/longer/$file"; then
    echo "the same: $(sha256sum <"$work/one/$file" | cut -c 1-16)… ${file##*/}"
  else
    status=1
  fi
done
exit $status
