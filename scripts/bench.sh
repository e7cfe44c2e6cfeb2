#!/usr/bin/env bash
# Measures; prints a table for docs/benchmarks.md. Nothing here decides a test.
set -euo pipefail
cd "$(dirname "$0")/.."
node=$(scripts/node.sh)
"$node" tests/bench/bench.mjs
make --no-print-directory build/release/tests/bench/{fake_ses,fake_sqs,fill_events,walk_events} >/dev/null
echo
"$node" tests/bench/intake.mjs
echo
"$node" tests/bench/out.mjs
INTAKE=100000 "$node" tests/bench/out.mjs
echo
"$node" tests/bench/send.mjs
echo
"$node" tests/bench/rate.mjs
echo
"$node" tests/bench/lanes.mjs
echo
"$node" tests/bench/machines.mjs
for bench in tests/bench/bench_*.c; do
  name=${bench##*/}
  name=${name%.c}
  make --no-print-directory "build/release/tests/bench/$name" >/dev/null
  echo
  echo "$name:"
  "build/release/tests/bench/$name"
done
