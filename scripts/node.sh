#!/usr/bin/env bash
# Prints the path of a Node.js of at least version 20: the system's, or the one that tests/package.json
# installs (Debian 12's own is 18).
set -euo pipefail
cd "$(dirname "$0")/.."
installed=$PWD/tests/node_modules/node/bin/node
major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
if ((major >= 20)); then
  command -v node
elif [[ -x $installed ]]; then
  echo "$installed"
else
  echo "no Node.js 20 or newer: run scripts/setup.sh test" >&2
  exit 1
fi
