#!/usr/bin/env bash
# Copies the sources, as they are now, into an empty directory that must exist: what git knows, or, without git,
# all but what is built. The file COMMIT there says which they are.
#
#   scripts/source_tree.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
to=${1:?usage: scripts/source_tree.sh DIRECTORY}

if [[ -e .git ]] && git rev-parse --git-dir >/dev/null 2>&1; then
  git ls-files -z --cached | while IFS= read -r -d '' file; do
    if [[ -e $file ]]; then printf '%s\0' "$file"; fi
  done | tar --null --files-from=- -cf - | tar -C "$to" -xf -
else
  tar --exclude=./build --exclude=./tests/node_modules --exclude=./state -cf - . | tar -C "$to" -xf -
fi
make -s --no-print-directory say-commit >"$to/COMMIT"
