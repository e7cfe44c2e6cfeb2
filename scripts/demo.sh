#!/usr/bin/env bash
# Starts Postern on its own sandbox, sends a newsletter of 1,000 recipients through it as Ghost would,
# shows how it goes, says how to point a Ghost here, and keeps serving until Ctrl-C.
#
#   RUN_ONCE=1     end after the newsletter; status 0 only if the books balance
#   RECIPIENTS=N   1 to 1000 (default 1000)
#   CONF=FILE      another configuration (default proxy.conf)
set -euo pipefail
cd "$(dirname "$0")/.."
conf=${CONF:-proxy.conf}
recipients=${RECIPIENTS:-1000}
log=build/postern.log
mkdir -p build

setting() { sed -nE "s/^ *$1 *= *\{? *\"([^\"]*)\".*/\1/p" "$conf" | head -n 1; }
address=$(setting listen)
domain=$(sed -nE 's/^ *domain "([^"]*)".*/\1/p' "$conf" | head -n 1)
key=$(setting api_keys)
url=http://$address

build/postern -c "$conf" 2>"$log" &
postern=$!
finish() {
  trap - EXIT INT TERM
  kill -TERM "$postern" 2>/dev/null || true
  wait "$postern" 2>/dev/null || true
}
trap finish EXIT
trap 'echo; echo "stopping"; exit 0' INT TERM

for _ in $(seq 600); do # a machine that is still writing out what was installed syncs slowly
  if curl -fsS "$url/health" >/dev/null 2>&1; then break; fi
  if ! kill -0 "$postern" 2>/dev/null; then
    echo "Postern did not start:"
    cat "$log"
    exit 1
  fi
  sleep 0.1
done
curl -fsS "$url/health" >/dev/null 2>&1 || {
  echo "Postern is not healthy:"
  curl -sS "$url/health" || true
  echo "The end of $log:"
  tail -n 20 "$log"
  exit 1
}
echo "Postern serves $url for $domain on its sandbox (log: $log)."

# One batch, field by field what Ghost sends.
form=$(mktemp)
id=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
awk -v n="$recipients" -v id="$id" -v domain="$domain" '
  function part(name, value) {
    printf "--demo-boundary\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", name, value
  }
  function reader(i) {
    if (i % 100 == 7) return "bounce" i "@readers.example.net"
    if (i % 1000 == 9) return "complaint" i "@readers.example.net"
    return "reader" i "@readers.example.net"
  }
  BEGIN {
    for (i = 1; i <= n; i++) part("to", reader(i))
    part("from", "\"The Postern Gazette\" <news@" domain ">")
    part("h:Reply-To", "editor@" domain)
    part("subject", "Issue 1: hello, %recipient.name%")
    html = "<!doctype html><html><body><h1>Hello, %recipient.name_html%</h1>"
    for (i = 0; i < 400; i++) html = html "<p>Paragraph " i " of a newsletter of ordinary length, as people write them.</p>"
    part("html", html "<p><a href=\"%recipient.unsubscribe_url%\">Unsubscribe</a></p></body></html>")
    part("text", "Hello, %recipient.name%\n\nUnsubscribe: %recipient.unsubscribe_url%")
    vars = ""
    for (i = 1; i <= n; i++)
      vars = vars (i > 1 ? "," : "") "\"" reader(i) "\":{\"name\":\"Reader " i "\",\"name_html\":\"Reader " i \
        "\",\"unsubscribe_url\":\"http://127.0.0.1:2368/unsubscribe/?uuid=" i "\",\"list_unsubscribe\":\"http://127.0.0.1:2368/unsubscribe/?uuid=" i "\"}"
    part("recipient-variables", "{" vars "}")
    part("h:List-Unsubscribe", "<%recipient.list_unsubscribe%>, <%tag_unsubscribe_email%>")
    part("h:List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
    part("v:email-id", id)
    part("o:tag", "ghost-email")
    part("o:tag", "bulk-email")
    part("o:tracking-opens", "yes")
    printf "--demo-boundary--\r\n"
  }' >"$form"
echo "Sending a newsletter to $recipients readers:"
curl -sS --fail-with-body -u "api:$key" -H 'Content-Type: multipart/form-data; boundary=demo-boundary' \
  --data-binary "@$form" "$url/v3/$domain/messages"
rm -f "$form"

batch=$(build/postern batches -c "$conf" --json --limit 1 | sed -E 's/^\{"batch":"([0-9a-f]+)".*/\1/')
verdict=0
timeout 300 build/postern batches -c "$conf" --watch "$batch" || verdict=$?
echo
build/postern batches -c "$conf" "$batch"

cat <<END

Every recipient has an outcome, and the books balance.

Point a Ghost here (config.production.json):
  "bulkEmail": { "mailgun": { "baseUrl": "$url/v3", "apiKey": "$key", "domain": "$domain" } }
Try it yourself:
  curl -s -u 'api:$key' '$url/v3/$domain/events?limit=2&event=opened'
END
if ((verdict != 0)); then
  echo "The books do NOT balance (status $verdict)." >&2
  exit 1
fi
if [[ ${RUN_ONCE:-} == 1 ]]; then exit 0; fi
echo "Serving until Ctrl-C."
wait "$postern"
