// Measures how well the send rate is used: a fake SES that takes RATE recipients in any second, wherever it begins,
// and refuses the rest; how much longer than ideal a newsletter takes, and how many calls are throttled.
//
//   node tests/bench/rate.mjs [auto|simple] …        both at once by default
//   RATE=14 RECIPIENTS=1400                          RECIPIENTS=10000 takes twelve minutes
import http from 'node:http';
import { Postern, freePort, isSettled, newsletterForm, readers, sleep, stopAll } from '../e2e/harness.mjs';

const rate = Number(process.env.RATE ?? 14);
const recipients = Number(process.env.RECIPIENTS ?? 100 * rate);
const strategies = process.argv.length > 2 ? process.argv.slice(2) : ['auto', 'simple'];
const json = (res, status, body, headers = {}) => res.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body));

/** SES as far as sending goes. */
async function strictSes() {
  const port = await freePort();
  const s = { url: `http://127.0.0.1:${port}`, calls: 0, throttledCalls: 0, throttled: 0, accepted: new Map(), first: 0, last: 0 };
  let window = []; // times of what was taken within the last second
  const take = (address) => {
    const now = performance.now();
    window = window.filter((at) => now - at < 1000);
    if (window.length >= rate) {
      s.throttled++;
      return false;
    }
    window.push(now);
    s.first ||= now;
    s.last = now;
    s.accepted.set(address, (s.accepted.get(address) ?? 0) + 1);
    return true;
  };
  const bare = (a) => /<([^>]*)>\s*$/.exec(a)?.[1] ?? a;
  const server = http.createServer(async (req, res) => {
    const chunks = [];
    for await (const c of req) chunks.push(c);
    const body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
    if (req.url === '/v2/email/account')
      return json(res, 200, { ProductionAccessEnabled: true, SendingEnabled: true, SendQuota: { Max24HourSend: 1e6, MaxSendRate: rate, SentLast24Hours: 0 } });
    if (req.url === '/v2/email/outbound-emails') {
      s.calls++;
      if (take(bare(body.Destination.ToAddresses[0]))) return json(res, 200, { MessageId: `id-${s.calls}` });
      s.throttledCalls++;
      return json(res, 429, { message: 'Maximum sending rate exceeded.' }, { 'x-amzn-ErrorType': 'TooManyRequestsException' });
    }
    if (req.url === '/v2/email/outbound-bulk-emails') {
      s.calls++;
      let any = false;
      const results = body.BulkEmailEntries.map((e, i) => {
        if (take(bare(e.Destination.ToAddresses[0]))) return { Status: 'SUCCESS', MessageId: `id-${s.calls}-${i}` };
        any = true;
        return { Status: 'ACCOUNT_THROTTLED', Error: 'Maximum sending rate exceeded.' };
      });
      if (any) s.throttledCalls++;
      return json(res, 200, { BulkEmailEntryResults: results });
    }
    await sleep(500);
    return json(res, 200, {}); // SQS: nothing there
  });
  server.keepAliveTimeout = 60000;
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  s.stop = () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections()));
  return s;
}

async function measure(strategy) {
  const ses = await strictSes();
  const p = await Postern.start({
    sections: { sender: `strategy = "${strategy}"` },
    aws: `aws { region = "us-east-1" access_key_id = "k" secret_access_key = "s" ses_endpoint = "${ses.url}" sqs_endpoint = "${ses.url}" }
          queues { newsletter_events = "${ses.url}/000000000000/q" }`,
  });
  const began = performance.now();
  for (let at = 0; at < recipients; at += 1000) {
    const res = await p.post(newsletterForm(readers(Math.min(1000, recipients - at), 'r', at)));
    if (res.status !== 200) throw new Error(`POST: ${res.status}`);
  }
  while (!isSettled(p.batches())) await sleep(1000);
  const books = p.batches();
  const taken = (ses.last - began) / 1000; // from the first POST on
  const ideal = recipients / rate;
  await p.stop();
  await ses.stop();
  return {
    strategy,
    seconds: taken.toFixed(2),
    'beyond ideal': `${((taken / ideal - 1) * 100).toFixed(2)} % (asked: 3)`,
    calls: ses.calls,
    'throttled calls': `${ses.throttledCalls} (${((ses.throttledCalls / ses.calls) * 100).toFixed(2)} %, asked: 1)`,
    missing: recipients - ses.accepted.size,
    twice: [...ses.accepted.values()].filter((n) => n > 1).length,
    failed: books.reduce((sum, b) => sum + b.failed, 0),
  };
}

try {
  console.log(`${recipients} recipients at ${rate}/s, ideal ${(recipients / rate).toFixed(1)} s`);
  console.table(await Promise.all(strategies.map(measure)));
} finally {
  await stopAll();
}
process.exit(0);
