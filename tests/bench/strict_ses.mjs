// A fake SES for the benchmarks of rates and lanes.
import http from 'node:http';
import { freePort, sleep } from '../e2e/harness.mjs';

const json = (res, status, body, headers = {}) => res.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body));

/** SES as far as sending goes: takes so many recipients in any second, wherever it begins, and refuses the rest.
 * accepted: address → how often; at: address → when, in performance.now()'s ms. */
export async function strictSes(rate) {
  const port = await freePort();
  const s = { url: `http://127.0.0.1:${port}`, calls: 0, throttledCalls: 0, throttled: 0, accepted: new Map(), at: new Map(), first: 0, last: 0 };
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
    s.at.set(address, now);
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
