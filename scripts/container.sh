#!/usr/bin/env bash
# Builds the image localhost/postern:VERSION with podman, buildah or docker, whichever is there.
#
#   FROM=IMAGE   another base (default: as packaging/Containerfile says)
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(make -s --no-print-directory say-version)
args=(--file packaging/Containerfile --tag "localhost/postern:$version"
  --build-arg "COMMIT=$(make -s --no-print-directory say-commit)")
if [[ -n ${FROM:-} ]]; then args+=(--build-arg "BASE=$FROM"); fi

# What git knows, and nothing of what lies about.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
scripts/source_tree.sh "$context"

for tool in podman buildah docker; do
  if ! command -v "$tool" >/dev/null; then continue; fi
  "$tool" build "${args[@]}" "$context"
  echo "localhost/postern:$version"
  exit 0
done
echo "container: none of podman, buildah and docker is there" >&2
exit 1
