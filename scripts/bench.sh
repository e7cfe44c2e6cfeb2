#!/usr/bin/env bash
# Measures; prints a table for docs/benchmarks.md. Nothing here decides a test.
set -euo pipefail
cd "$(dirname "$0")/.."
"$(scripts/node.sh)" tests/bench/bench.mjs
for bench in tests/bench/bench_*.c; do
  name=${bench##*/}
  name=${name%.c}
  make --no-print-directory "build/release/tests/bench/$name" >/dev/null
  echo
  echo "$name:"
  "build/release/tests/bench/$name"
done
