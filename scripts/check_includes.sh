#!/usr/bin/env bash
# Reads the #include lines and checks the order of the folders, and that each library has one door:
#
#   base <- shm, mail <- aws <- setup, store <- httpd, poller, sender, keeper, courier, logger, doctor <- cli <- master
#   (aws and setup include nothing of mail, store nothing of aws)
#
# sandbox/ and tests/ may include anything; only main() and the supervisor include the sandbox.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A may=(
  [base]="base"
  [shm]="shm base"
  [mail]="mail base"
  [aws]="aws shm base"
  [setup]="setup aws shm base"
  [store]="store shm mail base"
  [httpd]="httpd store shm mail base"
  [sender]="sender store aws shm mail base"
  [poller]="poller store aws shm mail base"
  [keeper]="keeper aws shm base"
  [logger]="logger shm base"
  [courier]="courier store shm mail base"
  [doctor]="doctor setup aws store shm mail base"
  [cli]="cli doctor setup aws store shm mail base"
  [master]="master cli httpd sender poller keeper courier logger store sandbox aws shm base"
)
bad=0
complain() {
  echo "$1"
  bad=1
}
for folder in "${!may[@]}"; do
  while IFS=: read -r file line include; do
    target=${include#*\"}
    target=${target%%/*}
    if [[ " ${may[$folder]} " != *" $target "* ]]; then complain "$file:$line: $folder/ may not include $target/"; fi
  done < <(grep -nE '^#include "[a-z]+/' "$folder"/*.[ch])
done
while IFS=: read -r file line _; do
  case $file in master/main.c | master/supervise.c) ;; *) complain "$file:$line: only main() and the supervisor know the sandbox" ;; esac
done < <(grep -nE '^#include "sandbox/' -- */*.[ch] | grep -v '^sandbox/')
# library door: header pattern, then the files that may hold it
door() {
  local header=$1 allowed=$2 file line
  while IFS=: read -r file line _; do
    if ! [[ $file =~ $allowed ]]; then complain "$file:$line: $header has its one door elsewhere"; fi
  done < <(grep -nE "^#include <$header" -- */*.[ch] || true)
}
door 'lmdb\.h' '^store/'
door 'curl/' '^(aws/|courier/post\.c$)'
door 'cjson/' '^base/json\.h$'
door 'msgpack' '^base/pack\.c$'
door 'seccomp\.h' '^master/confine\.c$'
door 'confuse\.h' '^base/config\.c$'
door 'sqlite3\.h' '^cli/import_sqlite\.c$'
door '(gmime|glib)' '^mail/mime_read\.c$'
door 'zstd\.h' '^mail/part\.c$'
exit $bad
