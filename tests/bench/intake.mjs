// Measures intake: SES events from SQS to the store, and what they cost in CPU. `make bench`, or alone:
// node tests/bench/intake.mjs [pollers...]   (EVENTS=300000 RECIPIENTS=100000 RECEIVES=8; PROFILE=writer,poller)
//
// The newsletters are really in the store, sent to tests/bench/fake_ses.c; then tests/bench/fake_sqs.c has EVENTS of
// their events (about 3 KB each, in SNS envelopes) ready to be received. The clock runs from the first message given
// out to the last one deleted. CPU is each process's own, from /proc. At the end every event is read through the API.
import fs from 'node:fs';
import { Postern, freePort, stopAll, waitFor } from '../e2e/harness.mjs';
import { cpuByRole, difference, fillQueue, perThousand, profile, rest, sendNewsletters, startFake, total, walk } from './measure.mjs';

const recipients = Number(process.env.RECIPIENTS ?? 100000);
const events = Number(process.env.EVENTS ?? 300000);
const goal = 30000;
const rows = [];
const row = (what, value) => {
  rows.push([what, value]);
  console.log(`${what.padEnd(44)} ${value}`);
};

async function measure(pollers) {
  const ses = await startFake('fake_ses', await freePort());
  const port = await freePort();
  const sqs = await startFake('fake_sqs', port);
  const postern = await Postern.start({
    aws: `aws { region = "us-east-1" access_key_id = "fake" secret_access_key = "fake-secret"
      ses_endpoint = "${ses.url}" sqs_endpoint = "${sqs.url}" }
      queues { newsletter_events = "${sqs.url}/000000000000/newsletter-events-queue" }`,
    sections: { poller: `children = ${pollers}\nreceives = ${process.env.RECEIVES ?? 8}`, sender: 'children = 1' },
  });
  const lines = await sendNewsletters(postern, ses, recipients);
  const idle = await sqs.stats();
  const before = cpuByRole(postern);
  const store = () => fs.statSync(`${postern.dir}/state/store/data.mdb`).blocks * 512;
  const bytes = store();
  await fillQueue(sqs, lines, events);
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
