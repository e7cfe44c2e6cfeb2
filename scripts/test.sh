#!/usr/bin/env bash
# Runs every test and ends with the line "N passed, N failed".
#
#   scripts/test.sh               all suites
#   scripts/test.sh unit e2e      only those: structure, unit, asan, tsan, fuzz, e2e, fault
#
# FUZZ_S     seconds for each fuzz target (default 2)
# Full output of each suite is kept under build/test-logs/.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
logs=build/test-logs
mkdir -p "$logs"
passed=0
failed=0
jobs=$(nproc)
at_once=$jobs # of side_by_side()

# Adds up "ok" and "not ok" lines of a TAP log, but for skipped tests; shows what failed.
count_tap() {
  local name=$1 log=$2 status=$3 ok bad
  ok=$(grep -cE '^ *ok [0-9]+' "$log")
  bad=$(grep -E '^ *not ok [0-9]+' "$log" | grep -vc ' # SKIP')
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

# Runs `$1 item` for each further argument, as many at a time as there are cores, then
# `$2 item status` for each, in their order and one by one.
side_by_side() {
  local run=$1 tell=$2 item status ended
  local -A running=() # by pid: other suites may run in the background
  shift 2
  local results
  results=$(mktemp -d)
  for item; do
    if ((${#running[@]} == at_once)); then
      wait -n -p ended "${!running[@]}"
      unset "running[$ended]"
    fi
    {
      "$run" "$item"
      echo $? >"$results/${item//\//-}"
    } &
    running[$!]=1
  done
  wait "${!running[@]}"
  for item; do
    status=$(<"$results/${item//\//-}")
    "$tell" "$item" "$status"
  done
  rm -r "$results"
}

run_unit() { CMOCKA_MESSAGE_OUTPUT=TAP timeout 600 "build/$flavour/tests/unit/$1" >"$logs/$flavour-${1//\//-}.log" 2>&1; }
tell_unit() { count_tap "$flavour $1" "$logs/$flavour-${1//\//-}.log" "$2"; }

unit_flavour() {
  local flavour=$1 only=${2:-} names=() test
  for test in tests/unit/*/test_*.c; do
    local name=${test%.c}
    name=${name#tests/unit/}
    if [[ -z $only || $name =~ $only ]]; then names+=("$name"); fi
  done
  if ! make --no-print-directory -j"$jobs" FLAVOUR="$flavour" "${names[@]/#/build/$flavour/tests/unit/}" \
    >"$logs/build-$flavour.log" 2>&1; then
    fail "the $flavour build failed:"
    grep -E 'error|Error' "$logs/build-$flavour.log" | head -20
    return
  fi
  side_by_side run_unit tell_unit "${names[@]}"
}

suite_unit() { unit_flavour release; }
# The same objects as the fuzz targets': they have these sanitizers too, and are compiled once.
suite_asan() { CC=clang unit_flavour fuzz; }
# Thread sanitizer sees one process: the tests that share memory between threads.
suite_tsan() { unit_flavour tsan '^shm/test_(ring|gauges|bell|notice)$'; }

run_fuzz() {
  local found=build/fuzz-corpus/$1 seeds=tests/fuzz/corpus/${1#fuzz_}
  mkdir -p "$found" "$seeds"
  "build/fuzz/tests/fuzz/$1" -max_total_time="${FUZZ_S:-2}" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="$logs/$1-" "$found" "$seeds" >"$logs/$1.log" 2>&1
}
tell_fuzz() {
  if (($2 == 0)); then
    passed=$((passed + 1))
    printf '%-44s %4d passed, 0 failed\n' "$1" 1
  else
    fail "$1 found something: $logs/$1.log"
    tail -n 30 "$logs/$1.log"
  fi
}

suite_fuzz() {
  if ! make --no-print-directory -j"$jobs" CC=clang FLAVOUR=fuzz fuzz >"$logs/build-fuzz.log" 2>&1; then
    fail "the fuzz build failed:"
    grep -E 'error|Error' "$logs/build-fuzz.log" | head -20
    return
  fi
  local names=(tests/fuzz/fuzz_*.c)
  names=("${names[@]##*/}")
  side_by_side run_fuzz tell_fuzz "${names[@]%.c}"
}

# What a failed test left open does not hold its file up.
run_node() {
  timeout 600 "$node" --test-force-exit --test-reporter=tap --test "tests/$1.test.mjs" >"$logs/${1/\//-}.log" 2>&1
}
tell_node() {
  local log=$logs/${1/\//-}.log ok bad
  # Only the innermost results count: a file's or a suite's own line repeats its parts.
  grep -E '^    +(ok|not ok) [0-9]+' "$log" >"$log.tap" || grep -E '^(ok|not ok) [0-9]+' "$log" >"$log.tap"
  ok=$(grep -cE '^ *ok ' "$log.tap")
  bad=$(grep -cE '^ *not ok ' "$log.tap")
  if (($2 != 0 && bad == 0)); then bad=1; fi
  passed=$((passed + ok))
  failed=$((failed + bad))
  printf '%-44s %4d passed, %d failed\n' "${1/\// }" "$ok" "$bad"
  if ((bad > 0)); then
    echo "---- $log:"
    grep -vE '^ *(duration_ms|type:|---|\.\.\.)' "$log" | grep -B2 -A40 -E '^ *not ok' | head -n 120
    echo "----"
  fi
}

# The files of the suites e2e and fault, one list for all of them.
node_suites() {
  local at_once=$((jobs + 2)) node names # they wait more than they work
  node=$(scripts/node.sh)
  if ! make --no-print-directory -j"$jobs" build/postern >"$logs/build-release.log" 2>&1; then
    fail "the release build failed:"
    grep -E 'error|Error' "$logs/build-release.log" | head -20
    return
  fi
  names=("${@/#/tests/}")
  names=("${names[@]/%//*.test.mjs}")
  # shellcheck disable=SC2206 # patterns
  names=(${names[@]})
  names=("${names[@]#tests/}")
  names=("${names[@]%.test.mjs}")
  local longest=fault/sending # begins first
  mapfile -t names < <(grep -x "$longest" <<<"$(printf "%s\n" "${names[@]}")"; printf '%s\n' "${names[@]}" | grep -vx "$longest")
  side_by_side run_node tell_node "${names[@]}"
}

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
if ((${#suites[@]} == 0)); then
  # The first ones build what the next two run, which wait more than they work: compilers have the rest.
  suite_structure
  suite_unit
  scripts/test.sh e2e fault >"$logs/e2e-fault.out" 2>&1 &
  waiting=$!
  renice -n 19 -p $$ >/dev/null # clients and servers of these have their turn first
  suites=(asan tsan fuzz)
fi
driven=()
for suite in "${suites[@]}"; do
  case $suite in
    e2e | fault) driven+=("$suite") ;;
    *) "suite_$suite" ;;
  esac
done
if ((${#driven[@]} > 0)); then node_suites "${driven[@]}"; fi
if [[ -n ${waiting:-} ]]; then
  wait "$waiting" || true
  sed '$d' "$logs/e2e-fault.out"
  read -r more _ bad _ < <(tail -n 1 "$logs/e2e-fault.out")
  passed=$((passed + more))
  failed=$((failed + bad))
fi
echo "$passed passed, $failed failed"
((failed == 0))
