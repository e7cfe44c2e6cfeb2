#!/usr/bin/env bash
# Prints the path of a Node.js that the tests can use (22 or newer): the one that tests/package.json
# installs, else the system's (Debian 12's own is 18).
set -euo pipefail
cd "$(dirname "$0")/.."
installed=$PWD/tests/node_modules/node/bin/node
if [[ -x $installed ]]; then
  echo "$installed"
elif (($(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0) >= 22)); then
  command -v node
else
  echo "no Node.js 22 or newer: run scripts/setup.sh test" >&2
  exit 1
fi
