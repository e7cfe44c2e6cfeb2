// Measures what people feel, end to end over real sockets, and prints a table. `make bench`.
//
//   accept      POST of 1,000 recipients with 100 KB of HTML, two at a time, while nothing is being sent
//   accept+send the same while all of it is sent at once
//   send        recipients a second through SendEmail, sandbox beside us on the same cores
//   events in   SQS messages (SNS-wrapped, about 2 KB) to the store
//   events out  walking all events in pages of 300 over HTTP
//   memory      PSS of the whole tree, and its peak while sending
//
// A machine's figures are compared with themselves: ratios, not milliseconds, carry over.
import fs from 'node:fs';
import os from 'node:os';
import { Postern, isSettled, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';
import { submit, walk } from './measure.mjs';

const html = `<html><body>${'<p>Hello %recipient.first_name_2%, a paragraph of ordinary words as newsletters have them.</p>'.repeat(1100)}</body></html>`.slice(0, 100 * 1024);
const quantile = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(q * list.length))];
const rows = [];
const row = (what, value) => {
  rows.push([what, value]);
  console.log(`${what.padEnd(48)} ${value}`);
};

function tree(pid) {
  const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  return [pid, ...children];
}
const pssMiB = (pids) =>
  pids.reduce((sum, pid) => {
    try {
      return sum + Number(/^Pss:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]) / 1024;
    } catch {
      return sum;
    }
  }, 0);

const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, max_send_rate: 1e6, verify_body: false };

try {
  const sandbox = await startSandbox(['--set', 'max_send_rate=1000000', '--set', 'verify_body=0']);
  await sandbox.set({ ...quiet, event_delay_ms: 3600000 });
  const postern = await Postern.start({ sandbox, sections: { sender: 'children = 2\nconnections = 32' } });
  row('machine', `${os.cpus().length} × ${os.cpus()[0].model}, Linux ${os.release()}`);
  row('memory of the idle tree', `${pssMiB(tree(postern.child.pid)).toFixed(0)} MiB`);

  const later = [['o:deliverytime', String(Math.floor(Date.now() / 1000) + 86400)]];
  const forms = Array.from({ length: 60 }, (_, i) => newsletterForm(readers(1000, 'later', i * 1000), { html, extra: later }));
  await submit(postern, forms.slice(0, 4), 2);
  const accept = await submit(postern, forms.slice(4), 2);
  row('accept, 1,000 recipients, 100 KB, concurrency 2', `p50 ${quantile(accept, 0.5).toFixed(1)} ms  p99 ${quantile(accept, 0.99).toFixed(1)} ms`);

  const now = Array.from({ length: 20 }, (_, i) => newsletterForm(readers(1000, 'now', i * 1000), { html }));
  let peak = 0;
  const sampler = setInterval(() => (peak = Math.max(peak, pssMiB(tree(postern.child.pid)))), 100);
  const start = performance.now();
  const busy = await submit(postern, now, 2);
  await waitFor('all mails', async () => (await sandbox.stats()).accepted_recipients >= 20000, 120000, 20);
  const seconds = (performance.now() - start) / 1000;
  clearInterval(sampler);
  row('accept while sending at full speed', `p50 ${quantile(busy, 0.5).toFixed(1)} ms  p99 ${quantile(busy, 0.99).toFixed(1)} ms`);
  row('send (SendEmail, 100 KB), from POST to SES', `${Math.round(20000 / seconds)} recipients/s`);
  row('peak memory of the tree while sending', `${peak.toFixed(0)} MiB`);
  await waitFor('the books', () => isSettled(postern.batches().filter((b) => b.subject && b.sent > 0)), 60000);
  await postern.stop();

  // Events wait in SQS while no Postern runs, then are taken in at full speed.
  const other = await startSandbox(['--set', 'max_send_rate=1000000', '--set', 'verify_body=0']);
  await other.set({ ...quiet, open_rate: 10000, delivery_delay_ms_max: 60, event_delay_ms: 15000 });
  const intake = await Postern.start({ sandbox: other, sections: { sender: 'children = 2\nconnections = 32', poller: 'children = 2\nreceives = 8' } });
  const small = Array.from({ length: 20 }, (_, i) => newsletterForm(readers(1000, 'in', i * 1000)));
  await submit(intake, small, 2);
  await waitFor('all mails', async () => (await other.stats()).accepted_recipients >= 20000, 120000, 20);
  await waitFor('the books', () => isSettled(intake.batches()), 60000);
  await intake.stop();
  await waitFor('all events in the queue', async () => (await other.stats()).events_waiting === 0, 120000, 200);
  const depth = (await other.stats()).queues['newsletter-events-queue'];
  await intake.launch();
  const inStart = performance.now();
  // Answers of long polls that the first life left behind stay out of sight for a while: not counted.
  const after = await waitFor('an empty queue', async () => {
    const q = (await other.stats()).queues['newsletter-events-queue'];
    return q.visible === 0 && q.in_flight <= 320 && q;
  }, 120000, 10);
  row('events in (stored, synced, deleted)', `${Math.round((after.deleted - depth.deleted) / ((performance.now() - inStart) / 1000))} events/s (${after.deleted - depth.deleted} in all)`);

  await sleep(1500);
  const begin = Math.floor(Date.now() / 1000) - 86400;
  const ghostQuery = `limit=300&event=delivered+OR+failed+OR+unsubscribed+OR+complained&tags=bulk-email&begin=${begin}&end=${Date.now() / 1000 - 1.5}&ascending=yes`;
  for (const [what, query] of [['events out, all', `limit=300&begin=${begin}&ascending=yes`], ["events out, Ghost's filter", ghostQuery]]) {
    await walk(intake, query);
    const at = performance.now();
    const { count, pages } = await walk(intake, query);
    const s = (performance.now() - at) / 1000;
    row(what, `${Math.round(count / s)} events/s, ${((s / pages) * 1000).toFixed(2)} ms a page (${count} events)`);
  }
  await intake.stop();
  console.log('\n| what | figure |\n|---|---|');
  for (const [what, value] of rows) console.log(`| ${what} | ${value} |`);
} finally {
  await stopAll();
}
process.exit(0);
