#!/usr/bin/env bash
# Runs every test and ends with the line "N passed, N failed".
#
#   scripts/test.sh               all suites
#   scripts/test.sh unit e2e      only those: structure, unit, asan, tsan, fuzz, e2e, fault
#
# FUZZ_S     seconds for each fuzz target (default 4)
# Full output of each suite is kept under build/test-logs/.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
logs=build/test-logs
mkdir -p "$logs"
passed=0
failed=0
jobs=$(nproc)

# Adds up "ok" and "not ok" lines of a TAP log; shows what failed.
count_tap() {
  local name=$1 log=$2 status=$3 ok bad
  ok=$(grep -cE '^ *ok [0-9]+' "$log")
  bad=$(grep -cE '^ *not ok [0-9]+' "$log")
  if ((status != 0 && bad == 0)); then bad=1; fi
  passed=$((passed + ok))
  failed=$((failed + bad))
  printf '%-44s %4d passed, %d failed\n' "$name" "$ok" "$bad"
  if ((bad > 0)); then
    echo "---- $log, the end:"
    tail -n 60 "$log"
    echo "----"
  fi
}

fail() {
  failed=$((failed + 1))
  echo "$1"
}

unit_flavour() {
  local flavour=$1 only=${2:-}
  shift
  if ! make --no-print-directory -j"$jobs" FLAVOUR="$flavour" unit >"$logs/build-$flavour.log" 2>&1; then
    fail "the $flavour build failed:"
    grep -E 'error|Error' "$logs/build-$flavour.log" | head -20
    return
  fi
  for test in tests/unit/*/test_*.c; do
    local name=${test%.c}
    name=${name#tests/unit/}
    if [[ -n $only && ! $name =~ $only ]]; then continue; fi
    local log=$logs/$flavour-${name//\//-}.log
    CMOCKA_MESSAGE_OUTPUT=TAP timeout 300 "build/$flavour/tests/unit/$name" >"$log" 2>&1
    count_tap "$flavour $name" "$log" $?
  done
}

suite_unit() { unit_flavour release; }
suite_asan() { unit_flavour asan; }
# Thread sanitizer sees one process: the tests that share memory between threads.
suite_tsan() { unit_flavour tsan '^shm/test_(ring|gauges|bell|notice)$'; }

suite_fuzz() {
  if ! make --no-print-directory -j"$jobs" CC=clang FLAVOUR=fuzz fuzz >"$logs/build-fuzz.log" 2>&1; then
    fail "the fuzz build failed:"
    grep -E 'error|Error' "$logs/build-fuzz.log" | head -20
    return
  fi
  for target in tests/fuzz/fuzz_*.c; do
    local name=${target##*/}
    name=${name%.c}
    local log=$logs/$name.log found=build/fuzz-corpus/$name seeds=tests/fuzz/corpus/${name#fuzz_}
    mkdir -p "$found" "$seeds"
    if "build/fuzz/tests/fuzz/$name" -max_total_time="${FUZZ_S:-4}" -timeout=10 -rss_limit_mb=2048 \
      -artifact_prefix="$logs/$name-" "$found" "$seeds" >"$log" 2>&1; then
      passed=$((passed + 1))
      printf '%-44s %4d passed, 0 failed\n' "$name" 1
    else
      fail "$name found something: $log"
      tail -n 30 "$log"
    fi
  done
}

node_suite() {
  local name=$1 folder=$2 node
  node=$(scripts/node.sh)
  if ! make --no-print-directory -j"$jobs" build/postern >"$logs/build-release.log" 2>&1; then
    fail "the release build failed:"
    grep -E 'error|Error' "$logs/build-release.log" | head -20
    return
  fi
  for test in "$folder"/*.test.mjs; do
    [[ -e $test ]] || continue
    local base=${test##*/}
    local log=$logs/$name-${base%.test.mjs}.log
    timeout 600 "$node" --test-reporter=tap --test "$test" >"$log" 2>&1
    local status=$?
    # Only the innermost results count: a file's or a suite's own line repeats its parts.
    grep -E '^    +(ok|not ok) [0-9]+' "$log" >"$log.tap" || grep -E '^(ok|not ok) [0-9]+' "$log" >"$log.tap"
    local ok bad
    ok=$(grep -cE '^ *ok ' "$log.tap")
    bad=$(grep -cE '^ *not ok ' "$log.tap")
    if ((status != 0 && bad == 0)); then bad=1; fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    printf '%-44s %4d passed, %d failed\n' "$name ${base%.test.mjs}" "$ok" "$bad"
    if ((bad > 0)); then
      echo "---- $log:"
      grep -vE '^ *(duration_ms|type:|---|\.\.\.)' "$log" | grep -B2 -A40 -E '^ *not ok' | head -n 120
      echo "----"
    fi
  done
}

suite_e2e() { node_suite e2e tests/e2e; }
suite_fault() { node_suite fault tests/fault; }

suite_structure() {
  if scripts/check_includes.sh >"$logs/structure.log" 2>&1; then
    passed=$((passed + 1))
    printf '%-44s %4d passed, 0 failed\n' "structure: order of folders, doors" 1
  else
    fail "the order of folders is broken:"
    cat "$logs/structure.log"
  fi
}

suites=("$@")
if ((${#suites[@]} == 0)); then suites=(structure unit asan tsan fuzz e2e fault); fi
for suite in "${suites[@]}"; do
  "suite_$suite"
done
echo "$passed passed, $failed failed"
((failed == 0))
