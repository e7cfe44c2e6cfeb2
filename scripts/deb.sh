#!/usr/bin/env bash
# Builds the Debian package from the sources as they are now: build/postern_VERSION_ARCH.deb, and one with
# its symbols. dpkg-buildpackage works in a copy, so nothing of it is left among the sources.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
version=$(make -s --no-print-directory say-version)
log=build/deb.log

said=$(dpkg-parsechangelog -l packaging/debian/changelog -S Version)
if [[ $said != "$version" ]]; then
  echo "deb: packaging/debian/changelog begins with $said, and master/main.c says $version" >&2
  exit 1
fi
mkdir -p build
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/postern-$version"
scripts/source_tree.sh "$work/postern-$version"
cp -r packaging/debian "$work/postern-$version/debian"
if ! (cd "$work/postern-$version" && env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u FLAVOUR \
  dpkg-buildpackage --build=binary --no-sign --jobs="$(nproc)") >"$log" 2>&1; then
  tail -n 40 "$log" >&2
  echo "deb: it did not build; all of it is in $log" >&2
  exit 1
fi
rm -f build/postern_*.deb build/postern-dbgsym_*.deb build/postern_*.changes build/postern_*.buildinfo
mv "$work"/postern*.deb "$work"/postern_*.changes "$work"/postern_*.buildinfo "$top/build/"
(cd build && ls postern*.deb)
