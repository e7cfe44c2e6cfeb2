// What the benchmarks share: the fakes, CPU by role, load.
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { domain, key, newsletterForm, readers, root, sleep, waitFor } from '../e2e/harness.mjs';

const ticksPerSecond = 100; // USER_HZ

/** tests/bench/<name>.c on a port of the loopback interface. It stands for AWS, which has processors of its own: it gives way to all else. */
export async function startFake(name, port) {
  const binary = path.join(root, 'build/release/tests/bench', name);
  const child = spawn(binary, [String(port)], { stdio: ['ignore', 'inherit', 'inherit'] });
  os.setPriority(child.pid, os.constants.priority.PRIORITY_BELOW_NORMAL);
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const fake = {
    pid: child.pid,
    url: `http://127.0.0.1:${port}`,
    stats: async () => (await fetch(`http://127.0.0.1:${port}/_stats`)).json(),
    reset: async () => (await fetch(`http://127.0.0.1:${port}/_reset`, { method: 'POST' })).text(),
    stop: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
  await waitFor(name, () => fake.stats().catch(() => null), 5000);
  return fake;
}

const known = new WeakMap();

/** Role → pids; asked once: nothing is replaced while it is measured. */
export function roles(postern) {
  if (!known.has(postern)) {
    const found = { master: [postern.child.pid] };
    for (const { name, pid } of postern.status().processes) if (name !== 'master') (found[name.split(' ')[0]] ??= []).push(pid);
    known.set(postern, found);
  }
  return known.get(postern);
}

function cpuOf(pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
  return { user: Number(fields[11]) / ticksPerSecond, system: Number(fields[12]) / ticksPerSecond };
}

export function cpuByRole(postern) {
  const used = {};
  for (const [role, pids] of Object.entries(roles(postern))) {
    used[role] = { user: 0, system: 0 };
    for (const pid of pids) {
      const one = cpuOf(pid);
      used[role].user += one.user;
      used[role].system += one.system;
    }
  }
  return used;
}

export const total = (used) => Object.values(used).reduce((sum, one) => sum + one.user + one.system, 0);

export function difference(after, before) {
  const used = {};
  for (const role of Object.keys(after))
    used[role] = { user: after[role].user - before[role].user, system: after[role].system - before[role].system };
  return used;
}

export const perThousand = (used, count) =>
  Object.entries(used)
    .filter(([, one]) => one.user + one.system > 0)
    .map(([role, one]) => `${role} ${(((one.user + one.system) / count) * 1000).toFixed(4)} (${((one.user / count) * 1000).toFixed(4)} user)`)
    .join(', ');

/** Waits until all processes together use next to nothing: what was left to do is done. */
export async function rest(postern) {
  let before = total(cpuByRole(postern));
  for (let quiet = 0; quiet < 3; ) {
    await sleep(200);
    const now = total(cpuByRole(postern));
    quiet = now - before < 0.025 ? quiet + 1 : 0;
    before = now;
  }
}

/** perf record of the roles named, for some seconds, into build/perf.ROLE: PROFILE=writer,poller. */
export async function profile(postern, names, seconds = 8) {
  for (const role of names.split(','))
    execFile('perf', ['record', '-q', '-e', 'cpu-clock', '-F', '2000', '-g', '-o', path.join(root, 'build', `perf.${role}`), '-p', String(roles(postern)[role][0]), 'sleep', String(seconds)], () => {});
  await sleep(500);
}

/** Fills a store with events (tests/bench/fill_events.c), unless there is one: [{name, count, first, last}], times in seconds. */
export function fillStore(dir, events, names) {
  const told = path.join(dir, 'filled');
  if (!fs.existsSync(told)) {
    fs.mkdirSync(path.join(dir, 'state'), { recursive: true });
    fs.writeFileSync(told, execFileSync(path.join(root, 'build/release/tests/bench/fill_events'), [path.join(dir, 'state'), String(events), ...names]));
  }
  return fs
    .readFileSync(told, 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
    .map(([name, ...numbers]) => ({ name, ...Object.fromEntries(numbers.map((n, i) => [['count', 'first', 'last'][i], Number(n)])) }));
}

/* ---- load ---- */

const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

/** A call of the API: {status, body}. */
export function call(port, method, pathname, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const req = http.request(
      { port, host: '127.0.0.1', method, path: pathname, agent, headers: { Authorization: `Basic ${Buffer.from(`api:${key}`).toString('base64')}`, ...headers } },
      (res) => {
        const chunks = [];
        res.on('data', (c) => chunks.push(c));
        res.on('end', () => resolve({ status: res.statusCode, body: Buffer.concat(chunks) }));
      },
    );
    req.on('error', reject);
    req.end(body);
  });
}

export async function post(port, form) {
  const headers = { 'Content-Type': `multipart/form-data; boundary=${form.boundary}`, 'Content-Length': form.body.length };
  const res = await call(port, 'POST', `/v3/${domain}/messages`, form.body, headers);
  if (res.status !== 200) throw new Error(`POST: ${res.status} ${res.body}`);
}

/** Posts all forms, so many at a time; how long each took, in ms. */
export async function submit(postern, forms, concurrency = 4) {
  const times = [];
  const queue = [...forms];
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (let form = queue.shift(); form; form = queue.shift()) {
        const at = performance.now();
        await post(postern.port, form);
        times.push(performance.now() - at);
      }
    }),
  );
  return times;
}

/** Newsletters through fake_ses, until their books are settled: what fillQueue() has events of. */
export async function sendNewsletters(postern, ses, recipients) {
  const perBatch = 1000;
  const run = Date.now(); // a state that is kept has had others: their mails would be repeats, their addresses suppressed
  const batches = Array.from({ length: recipients / perBatch }, (_, i) => {
    const addresses = readers(perBatch, `in${run}`, i * perBatch);
    const emailId = (run * 1000 + i).toString(16).padStart(24, '6');
    return { addresses, emailId, form: newsletterForm(addresses, { emailId, subject: `Issue ${run} ${i}` }) };
  });
  await submit(postern, batches.map((b) => b.form));
  await waitFor('all mails', async () => (await ses.stats()).recipients >= recipients, 120000, 100);
  await rest(postern);
  const ids = new Map(postern.batches().map((b) => [b.subject, b.id ?? b.batch]));
  return batches.flatMap((b, i) => b.addresses.map((address, at) => `${ids.get(`Issue ${run} ${i}`)} ${at} ${b.emailId} ${address}`));
}

/** Has fake_sqs hold so many events of what sendNewsletters() gave. */
export function fillQueue(sqs, lines, events) {
  const body = lines.join('\n');
  return new Promise((resolve, reject) => {
    const req = http.request(`${sqs.url}/_fill`, { method: 'POST', headers: { 'X-Events': String(events), 'Content-Length': Buffer.byteLength(body) } }, (res) => {
      res.resume();
      res.on('end', resolve);
    });
    req.on('error', reject);
    req.end(body);
  });
}

/** Follows paging.next to the end; counts events and pages. */
export async function walk(postern, query) {
  let next = `/v3/${domain}/events?${query}`;
  let count = 0;
  for (let pages = 0; ; pages++) {
    const res = await call(postern.port, 'GET', next);
    if (res.status !== 200) throw new Error(`${res.status} ${res.body}`);
    const paging = res.body.lastIndexOf('"paging"');
    const n = res.body.subarray(0, paging).toString('latin1').split('"log-level"').length - 1;
    if (n === 0) return { count, pages };
    count += n;
    next = new URL(JSON.parse(`{${res.body.subarray(paging)}`).paging.next).pathname;
  }
}
