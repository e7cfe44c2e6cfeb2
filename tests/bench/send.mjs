// Measures sending: how many recipients a second leave Postern, what they cost in CPU, and what the tree of
// processes weighs while 100,000 recipients wait. `make bench`, or alone: node tests/bench/send.mjs [simple|bulk].
//
//   queued   everything is accepted first, for a due time; sending then has the machine to itself, the fake SES aside
//   at once  everything is accepted and sent at the same time, load generator and fake SES on the same cores
//
// SES is tests/bench/fake_ses.c, which costs little; the rate is unlimited. CPU is that of all of Postern's processes,
// from /proc: accepting, storing, the `accepted` events and sending. What is asked for stands in `goals`.
import fs from 'node:fs';
import { Postern, freePort, newsletterForm, readers, stopAll, waitFor } from '../e2e/harness.mjs';
import { cpuByRole, difference, perThousand, rest, roles, startFake, submit, total } from './measure.mjs';

const only = process.argv[2];
const perBatch = 1000;
const goals = {
  simple: { recipients: 20000, rate: 5000, cpu: 0.25 },
  bulk: { recipients: 100000, rate: 40000, cpu: 0.02 },
};
const memoryGoalMiB = 150;
const rows = [];
const row = (what, value) => {
  rows.push([what, value]);
  console.log(`${what.padEnd(44)} ${value}`);
};

/* ---- the newsletter: 100 KB of HTML with a reader's own links, as Ghost writes it, and its text ---- */

const words = 'an ordinary paragraph of a newsletter, with “quotes”, a dash – and “naïve café” words as people write them, ';
const paragraph = (i) =>
  `<p style="margin: 0 0 1.5em 0; line-height: 1.6em;">${words.repeat(18)}` +
  `<a href="http://127.0.0.1:2368/r/${(0xabc000 + i).toString(16)}?m=%recipient.uuid%" style="color: #15212A;">read on</a></p>\n`;
let html = '<!doctype html><html><head><meta charset="utf-8"></head><body><p>Hello %recipient.first_name_2%</p>\n';
for (let i = 0; Buffer.byteLength(html) < 100 * 1024 - 2600; i++) html += paragraph(i);
html += '<a href="%recipient.unsubscribe_url%">Unsubscribe</a></body></html>';
const text = `Hello %recipient.first_name_2%\n\n${words.repeat(20)}\n\nUnsubscribe: %recipient.unsubscribe_url%\n`;

/* ---- processes ---- */

function memoryMiB(postern) {
  const sum = { Pss: 0, Pss_Anon: 0, Pss_File: 0, Pss_Shmem: 0 };
  for (const pid of Object.values(roles(postern)).flat()) {
    const rollup = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    for (const name of Object.keys(sum)) sum[name] += Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)[1]) / 1024;
  }
  return sum;
}

/* ---- load ---- */

const makeForms = (recipients, name, extra = []) =>
  Array.from({ length: recipients / perBatch }, (_, i) => newsletterForm(readers(perBatch, name, i * perBatch), { html, text, extra }));

/* ---- one strategy ---- */

async function startBoth(strategy) {
  const fake = await startFake('fake_ses', await freePort());
  const postern = await Postern.start({
    aws: `aws { region = "us-east-1" access_key_id = "fake" secret_access_key = "fake-secret"
      ses_endpoint = "${fake.url}" sqs_endpoint = "${fake.url}" }
      queues { newsletter_events = "${fake.url}/000000000000/newsletter-events-queue" }`,
    sections: {
      sender: `children = ${process.env.BENCH_SENDERS ?? 2}\nconnections = ${process.env.BENCH_CONNECTIONS ?? 32}\nstrategy = "${strategy === 'bulk' ? 'auto' : strategy}"\nmax_rate = "1000000"`,
    },
  });
  await submit(postern, makeForms(2 * perBatch, 'warm'));
  await waitFor('the first mails', async () => (await fake.stats()).recipients >= 2 * perBatch, 30000);
  await rest(postern);
  return { fake, postern };
}

function show(name, goal, stats, used, recipients) {
  const rate = (recipients / (stats.last_ms - stats.first_ms)) * 1000;
  const cpu = (total(used) / recipients) * 1000;
  row(`${name}: recipients a second`, `${Math.round(rate)} (asked: ${goal.rate})`);
  row(`${name}: CPU s per 1,000 recipients`, `${cpu.toFixed(4)} (asked: ${goal.cpu})`);
  row(`${name}: by role`, perThousand(used, recipients));
  row(`${name}: calls, bytes, CPU of the fake`, `${stats.calls + stats.bulk_calls}, ${(stats.bytes / 2 ** 20).toFixed(0)} MiB, ${stats.cpu_ms} ms`);
}

async function atOnce(strategy) {
  const goal = goals[strategy];
  const { fake, postern } = await startBoth(strategy);
  const forms = makeForms(goal.recipients, 'now');
  await fake.reset();
  const before = cpuByRole(postern);
  const start = performance.now();
  await submit(postern, forms);
  const accepted = performance.now();
  const stats = await waitFor('all mails', async () => {
    const s = await fake.stats();
    return s.recipients >= goal.recipients && s;
  }, 120000, 50);
  await rest(postern);
  show(`${strategy}, at once`, goal, stats, difference(cpuByRole(postern), before), goal.recipients);
  row(`${strategy}, at once: all accepted within`, `${(accepted - start).toFixed(0)} ms`);
  await postern.stop();
  await fake.stop();
  fs.rmSync(postern.dir, { recursive: true });
}

async function queued(strategy) {
  const goal = goals[strategy];
  const { fake, postern } = await startBoth(strategy);
  const due = Math.floor(Date.now() / 1000) + Math.ceil(goal.recipients / 5000) + 8;
  const forms = makeForms(goal.recipients, 'later', [['o:deliverytime', String(due)]]);
  await fake.reset();
  const start = cpuByRole(postern);
  let peak = 0;
  const sampler = setInterval(() => (peak = Math.max(peak, memoryMiB(postern).Pss)), 100);
  const began = performance.now();
  await submit(postern, forms);
  const seconds = (performance.now() - began) / 1000;
  await rest(postern);
  clearInterval(sampler);
  if (Date.now() > due * 1000) throw new Error('this machine is too slow for the due time');
  const waiting = cpuByRole(postern);
  const memory = memoryMiB(postern);
  const stats = await waitFor('all mails', async () => {
    const s = await fake.stats();
    return s.recipients >= goal.recipients && s;
  }, 180000, 100);
  await rest(postern);
  const end = cpuByRole(postern);
  row(`${strategy}, queued: accepting`, `${Math.round(goal.recipients / seconds)} recipients/s`);
  row(`${strategy}, queued: accepting, by role`, perThousand(difference(waiting, start), goal.recipients));
  row(`${strategy}, queued: sending, by role`, perThousand(difference(end, waiting), goal.recipients));
  show(`${strategy}, queued`, goal, stats, difference(end, start), goal.recipients);
  row(
    `${strategy}: tree with ${goal.recipients} queued`,
    `${memory.Pss.toFixed(0)} MiB (asked: ${memoryGoalMiB}; own ${memory.Pss_Anon.toFixed(0)}, store ${memory.Pss_File.toFixed(0)}, rings ${memory.Pss_Shmem.toFixed(0)}), peak ${peak.toFixed(0)} MiB`,
  );
  await postern.stop();
  await fake.stop();
  fs.rmSync(postern.dir, { recursive: true });
}

try {
  if (only !== 'bulk') {
    await atOnce('simple');
    await queued('simple');
  }
  if (only !== 'simple') {
    await atOnce('bulk');
    await queued('bulk');
  }
  console.log('\n| what | figure |\n|---|---|');
  for (const [what, value] of rows) console.log(`| ${what} | ${value} |`);
} finally {
  await stopAll();
}
process.exit(0);
