#!/usr/bin/env bash
# Format, structure, and what static checkers say. Tools that are not installed are named, not passed over.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
bad=0
step() {
  echo "lint: $1"
  shift
  "$@" || bad=1
}
missing() { echo "lint: $1 is not installed: NOT CHECKED"; }

mapfile -t sources < <(git ls-files '*.c' '*.h')
headers() {
  local header status=0
  for header in $(git ls-files '*.h' | grep -v '^tests/'); do
    echo "#include \"$header\"" | ${CC:-gcc} -std=c11 -D_GNU_SOURCE -I. -Wall -Wextra -Werror -fsyntax-only -x c - || {
      echo "$header does not compile alone"
      status=1
    }
  done
  return "$status"
}
checked() {
  cppcheck --quiet --enable=warning,portability --inline-suppr --error-exitcode=1 --std=c11 -D_GNU_SOURCE -I. \
    --suppress=missingIncludeSystem --suppress=nullPointerRedundantCheck -j "$(nproc)" \
    base shm mail aws store httpd sender poller courier cli master sandbox
}

step "order of folders, doors of libraries" scripts/check_includes.sh
step "headers compile alone" headers
if command -v clang-format >/dev/null; then step "format" clang-format --dry-run -Werror "${sources[@]}"; else missing clang-format; fi
if command -v shellcheck >/dev/null; then step "shell scripts" shellcheck -e SC2317 scripts/*.sh .ci/run packaging/completion/*.bash packaging/debian/*.p*; else missing shellcheck; fi
if command -v cppcheck >/dev/null; then step "cppcheck" checked; else missing cppcheck; fi
if command -v zsh >/dev/null; then step "completion for zsh" zsh -n packaging/completion/_postern; else missing zsh; fi
manuals() { make --no-print-directory man >/dev/null && mandoc -Tlint -Wwarning build/man/*; }
if command -v mandoc >/dev/null; then step "manuals" manuals; else missing mandoc; fi
# The unit may do next to nothing else on the machine: 2.0 of 10 at the most.
unit() {
  local dir status=0
  dir=$(mktemp -d)
  sed -e 's|@BINDIR@|/bin|g' -e 's|@CONFDIR@|/etc/postern|g' packaging/postern.service.in >"$dir/postern.service"
  systemd-analyze security --offline=true --threshold=20 "$dir/postern.service" >"$dir/said" 2>&1 || {
    cat "$dir/said"
    status=1
  }
  rm -r "$dir"
  return "$status"
}
# What the build takes is said in three places; in a clean one what is missing there does not build.
libraries() {
  local name names status=0
  mapfile -t names < <(sed -n '/^build_packages=(/,/)/p' scripts/setup.sh | grep -oE '[a-z0-9.+-]+-dev\b')
  for name in "${names[@]}"; do
    grep -qE "(^|[ ,])$name(,|$| )" packaging/debian/control || { echo "packaging/debian/control does not name $name"; status=1; }
    grep -qE "(^| )$name( |$)" packaging/Containerfile || { echo "packaging/Containerfile does not name $name"; status=1; }
  done
  return "$status"
}
step "libraries of the packages" libraries
if command -v systemd-analyze >/dev/null; then step "unit" unit; else missing systemd-analyze; fi
if ((bad == 0)); then echo "lint: ok"; fi
exit $bad
