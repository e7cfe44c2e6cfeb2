// Measures the events API: how many events a second come out in pages of 300, what a page takes at both ends of a large
// store, and what an event costs in CPU. `make bench`, or alone:
// node tests/bench/out.mjs   (EVENTS=1000000 DOMAINS=2 CHILDREN=2 FILTER=event=delivered+OR+opened&tags=bulk-email;
//                             READERS=1 of the domains' walk everything;
//                             READ_CPU=0 keeps a processor for httpd and the reader;
//                             INTAKE=300000 of new events come in meanwhile; STATE=dir fills and keeps, PROFILE=httpd)
//
// tests/bench/fill_events.c writes the store, and tests/bench/walk_events.c reads it: a connection for each domain, on the
// same cores. Every event must come, and once. Prints one line of JSON for each walk.
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Postern, domain, freePort, key, root, stopAll, waitFor } from '../e2e/harness.mjs';
import { cpuByRole, difference, roles, fillQueue, fillStore, profile, rest, sendNewsletters, startFake } from './measure.mjs';

const events = Number(process.env.EVENTS ?? 1000000);
const children = Number(process.env.CHILDREN ?? 2);
const intake = Number(process.env.INTAKE ?? 0);
const filter = process.env.FILTER ? `&${process.env.FILTER}` : '';
const names = Array.from({ length: Number(process.env.DOMAINS ?? 2) }, (_, i) => (i === 0 ? domain : `mg${i}.example.com`));
const readers = Number(process.env.READERS ?? names.length); // who walk everything
const pages = 3000; // at each end: thirty of them are the slowest hundredth
let reader = []; // before its command
const tool = (name) => path.join(root, 'build/release/tests/bench', name);

async function measure(postern, what, filled, options) {
  // SES's times of the fill are up to 3 s past its last step.
  const paths = filled.map((d) => `/v3/${d.name}/events?begin=${d.first - 1}&end=${d.last + 4}&ascending=yes&limit=300${filter}`);
  const before = cpuByRole(postern);
  const [command, ...args] = [...reader, tool('walk_events')];
  const { stdout } = await promisify(execFile)(command, [...args, ...options, String(postern.port), `api:${key}`, ...paths]);
  const used = difference(cpuByRole(postern), before).httpd;
  const found = JSON.parse(stdout);
  found.httpd_us_per_event = Number((((used.user + used.system) / found.events) * 1e6).toFixed(2));
  found.walk_us_per_event = Number(((found.cpu_s / found.events) * 1e6).toFixed(2));
  console.log(JSON.stringify({ what, connections: paths.length, children, ...found }));
  return found;
}

/** What reads (httpd, and the reader that is begun later) has this processor, what stores the other ones: AWS, which is elsewhere, and those who hear it. */
function splitCpus(postern, cpu) {
  const others = os.cpus().map((_, i) => i).filter((i) => i !== Number(cpu)).join(',');
  const at = roles(postern);
  for (const pid of [...fakes.map((f) => f.pid), ...Object.values(at).flat()]) execFileSync('taskset', ['-a', '-p', '-c', at.httpd.includes(pid) ? cpu : others, String(pid)]);
  reader = ['taskset', '-c', cpu];
}

/** All events, while so many others come in. */
async function walkAll(postern, filled, ses, sqs) {
  const lines = intake > 0 ? await sendNewsletters(postern, ses, 20000) : [];
  if (intake > 0) await fillQueue(sqs, lines, intake);
  if (process.env.PROFILE) await profile(postern, process.env.PROFILE);
  const walked = filled.slice(0, readers);
  const found = await measure(postern, intake > 0 ? 'all, with intake' : 'all', walked, []);
  const expected = walked.reduce((sum, d) => sum + d.count, 0);
  if (found.repeats > 0 || found.events !== expected)
    throw new Error(`${found.events} of ${expected} events come out, ${found.repeats} of them again`);
  if (intake === 0) return;
  const during = await sqs.stats();
  console.log(JSON.stringify({ what: 'intake', stored_at_the_end_of_the_walk: during.deleted, of: intake }));
  await waitFor('all events in', async () => (await sqs.stats()).deleted >= intake, 300000, 100);
}

const fakes = [];
try {
  const dir = process.env.STATE ?? fs.mkdtempSync(path.join(os.tmpdir(), 'postern-bench-'));
  const filled = fillStore(dir, events, names);
  for (const name of ['fake_ses', 'fake_sqs']) fakes.push(await startFake(name, await freePort()));
  const [ses, sqs] = fakes;
  const postern = await Postern.start({
    dir,
    domains: Object.fromEntries(filled.map((d) => [d.name, [key]])),
    aws: `aws { region = "us-east-1" access_key_id = "fake" secret_access_key = "fake-secret"
      ses_endpoint = "${ses.url}" sqs_endpoint = "${sqs.url}" }
      queues { newsletter_events = "${sqs.url}/000000000000/newsletter-events-queue" }`,
    sections: { httpd: `children = ${children}`, poller: 'children = 1', sender: 'children = 1' },
  });
  await rest(postern);
  if (process.env.READ_CPU) splitCpus(postern, process.env.READ_CPU);
  await walkAll(postern, filled, ses, sqs);
  for (const connections of [filled.slice(0, 1), filled]) {
    await measure(postern, 'first page', connections, ['-s', '-n', String(pages)]);
    await measure(postern, 'last page', connections, ['-l', '-n', String(pages)]);
  }
  await postern.stop();
  if (!process.env.STATE) fs.rmSync(dir, { recursive: true });
} finally {
  await stopAll();
  for (const fake of fakes) await fake.stop();
}
process.exit(0);
