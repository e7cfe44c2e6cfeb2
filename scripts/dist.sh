#!/usr/bin/env bash
# Packs the binary with all that belongs to it for machines without a compiler:
# build/postern-VERSION-linux-MACHINE.tar.gz. The same sources give the same bytes. `make dist` builds what this packs.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(make -s --no-print-directory say-version)
name=postern-$version-linux-$(uname -m)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y master/main.c)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Paths as under /usr, but for what belongs under /etc.
make -s --no-print-directory install DESTDIR="$work/tree" PREFIX=/usr >/dev/null
mkdir "$work/$name"
mv "$work/tree/usr"/* "$work/tree/etc" "$work/$name/"
cp LICENSE "$work/$name/"
strip -o "$work/$name/bin/postern" build/dist/postern
chmod 755 "$work/$name/bin/postern"

# Which package of Debian has a library; its own name where dpkg knows none.
package_of() { dpkg -S "*/$1" 2>/dev/null | sed -n '1s/:.*//p'; }
{
  cat <<'END'
To install, as root, from this directory:

    cp -r --remove-destination bin lib share /usr/ && cp -rn etc /
    systemd-sysusers && systemd-tmpfiles --create postern.conf && systemctl daemon-reload

(the unit names /usr/bin/postern). Then: share/doc/postern/README.md.

libevent, LMDB, libconfuse and msgpack-c are linked in. These must be there; in brackets Debian 12's packages:

END
  readelf -d "$work/$name/bin/postern" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | while read -r library; do
    printf '    %-26s (%s)\n' "$library" "$(package_of "$library")"
  done
  printf '    %-26s (ca-certificates)\n' "root certificates"
} >"$work/$name/INSTALL"

tar -C "$work" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw,a-s -cf - "$name" |
  gzip -n9 >"build/$name.tar.gz"
echo "build/$name.tar.gz"
