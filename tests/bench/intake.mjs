// Measures intake: SES events from SQS to the store, and what they cost in CPU. `make bench`, or alone:
// node tests/bench/intake.mjs [pollers...]   (EVENTS=300000 RECIPIENTS=100000 RECEIVES=8; PROFILE=writer,poller)
//
// The newsletters are really in the store, sent to tests/bench/fake_ses.c; then tests/bench/fake_sqs.c has EVENTS of
// their events (about 3 KB each, in SNS envelopes) ready to be received. The clock runs from the first message given
// out to the last one deleted. CPU is each process's own, from /proc. At the end every event is read through the API.
import fs from 'node:fs';
import http from 'node:http';
import { Postern, freePort, newsletterForm, readers, stopAll, waitFor } from '../e2e/harness.mjs';
import { cpuByRole, difference, perThousand, profile, rest, startFake, submit, total, walk } from './measure.mjs';

const perBatch = 1000;
const recipients = Number(process.env.RECIPIENTS ?? 100000);
const events = Number(process.env.EVENTS ?? 300000);
const goal = 30000;
const rows = [];
const row = (what, value) => {
  rows.push([what, value]);
  console.log(`${what.padEnd(44)} ${value}`);
};

/** The books and the mails of all newsletters are settled: nothing but intake is measured. */
async function sendAll(postern, ses) {
  const batches = Array.from({ length: recipients / perBatch }, (_, i) => {
    const addresses = readers(perBatch, 'in', i * perBatch);
    const emailId = (0x650000000000 + i).toString(16).padStart(24, '6');
    return { addresses, emailId, form: newsletterForm(addresses, { emailId, subject: `Issue ${i}` }) };
  });
  await submit(postern, batches.map((b) => b.form));
  await waitFor('all mails', async () => (await ses.stats()).recipients >= recipients, 120000, 100);
  await rest(postern);
  const ids = new Map(postern.batches().map((b) => [b.subject, b.id ?? b.batch]));
  return batches.flatMap((b, i) => b.addresses.map((address, at) => `${ids.get(`Issue ${i}`)} ${at} ${b.emailId} ${address}`));
}

const fill = (port, lines) =>
  new Promise((resolve, reject) => {
    const req = http.request({ port, host: '127.0.0.1', method: 'POST', path: '/_fill', headers: { 'X-Events': String(events), 'Content-Length': Buffer.byteLength(lines) } }, (res) => {
      res.resume();
      res.on('end', resolve);
    });
    req.on('error', reject);
    req.end(lines);
  });

async function measure(pollers) {
  const ses = await startFake('fake_ses', await freePort());
  const port = await freePort();
  const sqs = await startFake('fake_sqs', port);
  const postern = await Postern.start({
    aws: `aws { region = "us-east-1" access_key_id = "fake" secret_access_key = "fake-secret"
      ses_endpoint = "${ses.url}" sqs_endpoint = "${sqs.url}" }
      queues { newsletter_events = "${sqs.url}/000000000000/newsletter-events-queue" }`,
    sections: { poller: `children = ${pollers}\nreceives = ${process.env.RECEIVES ?? 8}`, sender: 'children = 1', log: 'level = "debug"' },
  });
  const lines = await sendAll(postern, ses);
  const idle = await sqs.stats();
  const before = cpuByRole(postern);
  const store = () => fs.statSync(`${postern.dir}/state/store/data.mdb`).blocks * 512;
  const bytes = store();
  await fill(port, lines.join('\n'));
  if (process.env.PROFILE) await profile(postern, process.env.PROFILE);
  const filled = await sqs.stats();
  const stats = await waitFor('all events', async () => {
    const s = await sqs.stats();
    return s.deleted >= events && s;
  }, 300000, 100);
  await rest(postern);
  const used = difference(cpuByRole(postern), before);
  const name = `${pollers} poller${pollers > 1 ? 's' : ''}`;
  row(`${name}: events a second`, `${Math.round((events / (stats.last_ms - stats.first_ms)) * 1000)} (asked: ${goal})`);
  row(`${name}: CPU s per 1,000 events`, `${((total(used) / events) * 1000).toFixed(4)}; by role: ${perThousand(used, events)}`);
  row(`${name}: CPU of the fake`, `${(((stats.cpu_us - filled.cpu_us) / 1e6 / events) * 1000).toFixed(4)}`);
  row(`${name}: calls, bytes a body`, `${stats.receives} receives, ${stats.deletes} deletes, ${stats.body_bytes} bytes`);
  row(`${name}: the store grew by`, `${Math.round((store() - bytes) / events)} bytes an event`);
  if (stats.twice > 0 || idle.deleted > 0) throw new Error(`${stats.twice} messages deleted twice`);
  const { count } = await walk(postern, `limit=300&begin=${Math.floor(Date.now() / 1000) - 86400}&ascending=yes&event=delivered+OR+opened+OR+clicked+OR+failed`);
  if (count !== events) throw new Error(`${count} of ${events} events come out of the API`);
  await postern.stop();
  await ses.stop();
  await sqs.stop();
  fs.rmSync(postern.dir, { recursive: true });
}

try {
  const given = process.argv.slice(2).map(Number);
  for (const pollers of given.length > 0 ? given : [1, 2]) await measure(pollers);
  console.log('\n| what | figure |\n|---|---|');
  for (const [what, value] of rows) console.log(`| ${what} | ${value} |`);
} finally {
  await stopAll();
}
process.exit(0);
