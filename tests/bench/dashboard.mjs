// Measures the dashboard over a large store: what each request for data takes, and how long each page of a real browser
// takes until its content stands. `EVENTS=10000000 node tests/bench/dashboard.mjs` (make build/release/tests/bench/fill_events)
//   EVENTS=1000000, in DOMAINS=2 domains; STATE=dir fills and keeps; ROUNDS=20; MOST_MS=300: more than that is a failure;
//   SHOTS=dir: a picture of each page; ONLY=pages: no requests alone
//
// Prints a line of JSON for each: median and worst in ms. Beside the events there are newsletters with their outcomes, lists,
// dead letters and a webhook that fails. Ends with 1 if a page, or a request that one makes, takes longer than it may.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { Postern, domain, isSettled, key, newsletterForm, readers, stopAll, waitFor } from '../e2e/harness.mjs';
import { fillStore, rest } from './measure.mjs';

const require = createRequire(new URL('../package.json', import.meta.url));
const { chromium } = require('playwright-core');
const { SQSClient, SendMessageBatchCommand } = require('@aws-sdk/client-sqs');
const events = Number(process.env.EVENTS ?? 1000000);
const onlyPages = process.env.ONLY === 'pages';
const rounds = Number(process.env.ROUNDS ?? 20);
const most = Number(process.env.MOST_MS ?? 300);
const names = Array.from({ length: Number(process.env.DOMAINS ?? 2) }, (_, i) => (i === 0 ? domain : `mg${i}.example.com`));
const letters = 2000, listed = 20000;
let failed = false;

/** What stands beside the events: as a site has it that sends every day. */
async function furnish(p) {
  await p.sandbox.set({ bounce_rate: 300, complaint_rate: 20, open_rate: 4000, click_rate: 1000, delivery_delay_ms_max: 50 });
  const { items } = await (await p.request('GET', `/v3/${domain}/bounces?limit=1`)).json();
  if (items.length > 0) return; // a store that was kept
  const hook = await p.request('POST', `/v3/domains/${domain}/webhooks`, { body: new URLSearchParams({ id: 'permanent_fail', url: 'http://127.0.0.1:1/hook' }) });
  if (hook.status !== 200) throw new Error(await hook.text());
  for (let i = 0; i < 10; i++) {
    const res = await p.post(newsletterForm(readers(1000, 'n', i * 1000), { subject: `Issue ${i}`, html: `<p>${'What happened this week. '.repeat(3000)}</p>` }));
    if (res.status !== 200) throw new Error(await res.text());
  }
  for (let at = 0; at < listed; at += 1000) {
    const body = JSON.stringify(Array.from({ length: 1000 }, (_, i) => ({ address: `listed${at + i}@readers.example.net`, code: '550', error: 'no such user' })));
    const res = await p.request('POST', `/v3/${domain}/bounces`, { body, headers: { 'Content-Type': 'application/json' } });
    if (res.status !== 200) throw new Error(await res.text());
  }
  const sqs = new SQSClient({ endpoint: p.sandbox.url, region: 'us-east-1', credentials: { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' } });
  const QueueUrl = `${p.sandbox.url}/000000000000/newsletter-events-queue`;
  for (let i = 0; i < letters; i += 10)
    await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries: Array.from({ length: 10 }, (_, k) => ({ Id: `m${k}`, MessageBody: JSON.stringify({ no: 'event', of: i + k, more: 'x'.repeat(1500) }) })) }));
  await waitFor('the newsletters', () => isSettled(p.batches()) && p.batches().length === 10, 120000, 500);
  await waitFor('the letters', () => p.status().deadletters === letters, 120000, 500);
}

const sorted = (times) => [...times].sort((a, b) => a - b);
function tell(what, times, bound = most, more = {}) {
  const all = sorted(times);
  const worst = all.at(-1);
  if (worst > bound) failed = true;
  console.log(JSON.stringify({ what, median_ms: Number(all[all.length >> 1].toFixed(1)), worst_ms: Number(worst.toFixed(1)), ...more, ...(worst > bound ? { longer_than_ms: bound } : {}) }));
}

async function askEach(p, cookie, paths) {
  for (const [what, pathname, bound] of paths) {
    const times = [];
    let bytes = 0;
    for (let i = 0; i < rounds; i++) {
      const at = performance.now();
      const res = await fetch(`${p.url}/dashboard/api/${pathname}`, { headers: { Cookie: cookie } });
      bytes = (await res.arrayBuffer()).byteLength;
      times.push(performance.now() - at);
      if (res.status !== 200) throw new Error(`${pathname}: ${res.status}`);
    }
    tell(`request: ${what} (${bytes} bytes)`, times, bound);
  }
}

/** Seconds of processor time of all that this process has started, the browser and Postern: what a load costs however busy the machine is. */
function cpuOfOurs() {
  const stats = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map((pid) => {
    try {
      const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' '); // behind the name: state, parent, …
      return { pid: Number(pid), parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
    } catch {
      return null; // it has ended
    }
  }).filter(Boolean);
  const ours = new Set([process.pid]);
  for (let before = 0; before !== ours.size; ) {
    before = ours.size;
    for (const one of stats) if (ours.has(one.parent)) ours.add(one.pid);
  }
  return stats.filter((one) => ours.has(one.pid) && one.pid !== process.pid).reduce((sum, one) => sum + one.ticks, 0) / 100;
}

/* From the navigation's start until the page's title and content stand and nothing is on its way. */
const watchContent = () => {
  const stands = () => document.querySelector('main h1') && !document.querySelector('main').hasAttribute('aria-busy') && !document.querySelector('main .empty');
  new MutationObserver((list, observer) => {
    if (!stands()) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => (window.stoodAt = performance.now()))); // it was drawn
  }).observe(document, { subtree: true, childList: true, attributes: true });
};

/** A load from the start in a tab that is open, as who comes back to it has: another search makes it more than a step in the page. */
async function loadEach(p, context, pages) {
  const page = await context.newPage();
  await page.addInitScript(watchContent);
  for (const [what, hash] of pages) {
    const times = [];
    let before = 0;
    for (let i = 0; i <= rounds; i++) {
      if (i === 1) before = cpuOfOurs();
      await page.goto(`${p.url}/dashboard/?${what.length}.${i}#/${hash}`);
      await page.waitForFunction(() => window.stoodAt);
      if (i > 0) times.push(await page.evaluate(() => window.stoodAt));
      else if (process.env.SHOTS) await shoot(page, what);
    }
    tell(`page: ${what}`, times, most, { cpu_ms: Math.round(((cpuOfOurs() - before) / rounds) * 1000) });
  }
  const alone = [];
  for (let i = 0; i <= rounds; i++) {
    await page.goto(`${p.url}/dashboard/icon.svg?${i}`);
    alone.push(await page.evaluate(() => performance.getEntriesByType('navigation')[0].loadEventStart));
  }
  tell('the browser alone: a file of 200 bytes', alone, Infinity);
}

/** From a click until the content stands, in the page that is open: as people go about in it. */
const takeStep = (hash) => new Promise((resolve) => {
  const begun = performance.now(), main = document.querySelector('main');
  const observer = new MutationObserver(() => {
    if (main.hasAttribute('aria-busy') || !main.querySelector('h1')) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - begun)));
  });
  observer.observe(main, { subtree: true, childList: true, attributes: true });
  location.hash = hash;
});

async function stepToEach(p, context, pages) {
  const page = await context.newPage();
  await page.goto(`${p.url}/dashboard/#/webhooks`);
  await page.waitForSelector('main h1');
  for (const [what, hash] of pages) {
    const times = [];
    for (let i = 0; i <= rounds; i++) {
      await page.evaluate(takeStep, `#/suppressions?step=${what.length}.${i}`); // never where it is already
      const took = await page.evaluate(takeStep, `#/${hash}`);
      if (i > 0) times.push(took);
    }
    tell(`step to: ${what}`, times);
  }
}

async function shoot(page, what) {
  fs.mkdirSync(process.env.SHOTS, { recursive: true });
  for (const [name, width, colorScheme] of [['wide', 1280, 'light'], ['narrow', 390, 'dark']]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 1400 });
    await page.waitForTimeout(200);
    await page.screenshot({ path: path.join(process.env.SHOTS, `${what.replaceAll(/[^a-z]+/g, '-')}-${name}.png`) });
  }
  await page.emulateMedia({ colorScheme: 'light' });
}

let browser;
try {
  const dir = process.env.STATE ?? fs.mkdtempSync(path.join(os.tmpdir(), 'postern-bench-'));
  fillStore(dir, events, names);
  const p = await Postern.start({
    dir, domains: Object.fromEntries(names.map((name) => [name, [key]])),
    conf: 'webhooks { allow_private = true retries = {"10ms"} }', sections: { sender: 'max_rate = "2000"' },
  });
  await furnish(p);
  await rest(p).catch(() => {}); // the log tells pids at level debug only
  const login = () => JSON.parse(p.cli('login', '--json')).url;
  const res = await fetch(`${p.url}/dashboard/api/sign-in`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ ticket: login().split('=').pop() }) });
  const cookie = res.headers.get('set-cookie').split(';')[0];
  const { batch } = p.batches()[0];
  const newest = (await (await p.request('GET', `/v3/${domain}/events?event=delivered&limit=1`)).json()).items[0];
  const recipient = newest.recipient, hook = (await (await fetch(`${p.url}/dashboard/api/webhooks`, { headers: { Cookie: cookie } })).json()).items[0].id;
  const v3 = `v3/${domain}`;
  const letter = (await (await fetch(`${p.url}/dashboard/api/deadletters?limit=1`, { headers: { Cookie: cookie } })).json()).items[0].id;
  if (!onlyPages) await askEach(p, cookie, [
    ['session', 'session'], ['status', 'status'], ['overview', 'overview'], ['batches', 'batches?limit=50'], ['one batch', `batches/${batch}`], ['its recipients', `batches/${batch}/recipients?limit=50`], ['its mail', `batches/${batch}/mail`],
    ['events', `${v3}/events?ascending=no&limit=50`], ['events, complained', `${v3}/events?event=complained&ascending=no&limit=50`], ['events of a tag', `${v3}/events?tags=bulk-email&ascending=no&limit=50`], ['events of a recipient', `${v3}/events?recipient=${encodeURIComponent(recipient)}&ascending=no&limit=300`],
    ['events of nobody', `${v3}/events?recipient=nobody@nowhere.example&ascending=no&limit=300`], ['the oldest events', `${v3}/events?ascending=yes&begin=1&limit=50`],
    ['bounces', `${v3}/bounces?limit=50`], ['dead letters', 'deadletters'], ['dead letters that hold a text', 'deadletters?search=nothing-holds-this'], ['webhooks', 'webhooks'], ['one webhook', `webhooks/${hook}/failures`], ['domains', 'domains'], ['sessions', 'sessions'],
  ]);
  browser = await chromium.launch({ executablePath: process.env.POSTERN_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
  const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC' });
  const first = await context.newPage();
  await first.goto(login());
  await first.waitForSelector('#top:not([hidden])');
  await first.close();
  const pages = [
    ['overview', 'overview'], ['newsletters', 'newsletters'], ['a newsletter', `newsletter/${batch}`], ['events', 'events'], ['events, failed', 'events?event=failed'], ['a recipient', `recipient/${domain}/${encodeURIComponent(recipient)}`], ['a mail', `mail/${batch}/${encodeURIComponent('n009000@readers.example.net')}`],
    ['suppressions', 'suppressions'], ['dead letters', 'deadletters'], ['a dead letter', `deadletter/${letter}`], ['webhooks', 'webhooks'], ['a webhook', `webhook/${hook}`], ['domains', 'domains'], ['system', 'system'], ['inbox', 'inbox'],
  ];
  await stepToEach(p, context, pages);
  await loadEach(p, context, pages);
  console.log(JSON.stringify({ what: 'store', events, bytes: Number(execFileSync('du', ['-sB1', path.join(dir, 'state', 'store')], { encoding: 'utf8' }).split('\t')[0]) }));
  await p.stop();
  if (!process.env.STATE) fs.rmSync(dir, { recursive: true });
} finally {
  await browser?.close();
  await stopAll();
}
process.exit(failed ? 1 : 0);
