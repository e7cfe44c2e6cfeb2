// The dashboard over HTTP: who gets in and how often, what each role may do, what is refused, what the log tells, and
// that its numbers are those of the command line and the API.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Receiver } from './receiver.mjs';
import { Postern, binary, domain, isSettled, jsonLines, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const require = createRequire(import.meta.url);
const other = 'mg2.example.com';
const loginOf = (p, ...args) => JSON.parse(p.cli('login', '--json', ...args));
const ticketOf = (url) => /#login=([0-9a-f]{64})$/.exec(url)[1];

function call(p, pathname, { method = 'GET', cookie, csrf, headers = {}, body } = {}) {
  return fetch(`${p.url}/dashboard/${pathname}`, {
    method, body, redirect: 'manual',
    headers: { ...(cookie ? { Cookie: cookie } : {}), ...(csrf ? { 'X-CSRF-Token': csrf } : {}), ...headers },
  });
}
const signIn = (p, ticket, headers = {}) =>
  call(p, 'api/sign-in', { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify({ ticket }) });
/** A session: get(path) → JSON, post(path) → response. */
async function session(p, ...args) {
  const res = await signIn(p, ticketOf(loginOf(p, ...args).url));
  assert.equal(res.status, 200, await res.text());
  const cookie = res.headers.get('set-cookie').split(';')[0];
  const me = await (await call(p, 'api/session', { cookie })).json();
  const get = async (pathname) => {
    const got = await call(p, `api/${pathname}`, { cookie });
    assert.equal(got.status, 200, `${pathname}: ${got.status}`);
    return got.json();
  };
  const send = (pathname, options = {}) => call(p, `api/${pathname}`, { method: 'POST', cookie, csrf: me.csrf, ...options });
  return { cookie, me, get, send };
}

describe('the dashboard', () => {
  let p, operator, viewer;
  before(async () => {
    p = await Postern.start({ domains: { [domain]: ['key-0123456789'], [other]: ['key-0123456789'] }, sections: { sender: 'max_rate = "400"' } });
    await p.sandbox.set({ bounce_rate: 300, soft_bounce_rate: 0, complaint_rate: 100, open_rate: 5000, click_rate: 3000, delivery_delay_ms_max: 100 });
    operator = await session(p);
    viewer = await session(p, '--role', 'viewer');
  });

  it('lets in with a link, once, and keeps its digests alone', async () => {
    const link = loginOf(p);
    assert.match(link.url, new RegExp(`^${p.url}/dashboard/#login=[0-9a-f]{64}$`));
    assert.equal(link.role, 'operator');
    const ticket = ticketOf(link.url);
    const first = await signIn(p, ticket);
    assert.equal(first.status, 200);
    const cookie = first.headers.get('set-cookie');
    assert.match(cookie, /^postern_session=[0-9a-f]{64}; Path=\/dashboard\/; Max-Age=43200; HttpOnly; SameSite=Strict$/);
    assert.equal((await signIn(p, ticket)).status, 403);
    assert.equal((await signIn(p, 'ab'.repeat(32))).status, 403);
    assert.equal((await signIn(p, 'no hex')).status, 400);

    const store = fs.readFileSync(path.join(p.dir, 'state', 'store', 'data.mdb')).toString('latin1');
    const secret = Buffer.from(/=([0-9a-f]{64})/.exec(cookie)[1], 'hex');
    const digest = createHash('sha256').update(secret).digest().toString('latin1');
    assert.ok(store.includes(digest), 'the digest of a session is in the store');
    for (const told of [secret.toString('latin1'), Buffer.from(ticket, 'hex').toString('latin1')]) assert.ok(!store.includes(told), 'no secret is');
    for (const told of [ticket, secret.toString('hex')]) assert.ok(!p.log().includes(told), 'nor in the log');
  });

  it('does not let a link be used twice at the same instant', async () => {
    const ticket = ticketOf(loginOf(p).url);
    const got = await Promise.all(Array.from({ length: 8 }, () => signIn(p, ticket)));
    assert.deepEqual(got.map((r) => r.status).sort(), [200, ...Array(7).fill(403)]);
  });

  it('takes a sign-in from its own page only', async () => {
    const ticket = ticketOf(loginOf(p).url);
    assert.equal((await signIn(p, ticket, { 'Sec-Fetch-Site': 'cross-site' })).status, 403);
    assert.equal((await call(p, 'api/sign-in', { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: JSON.stringify({ ticket }) })).status, 403);
    assert.equal((await call(p, 'api/sign-in')).status, 405);
    assert.equal((await signIn(p, ticket, { 'Sec-Fetch-Site': 'same-origin' })).status, 200);
  });

  it('serves its page to everybody, and nothing else', async () => {
    assert.equal((await fetch(`${p.url}/dashboard`, { redirect: 'manual' })).headers.get('location'), '/dashboard/');
    const page = await call(p, '');
    assert.equal(page.status, 200);
    const csp = page.headers.get('content-security-policy');
    assert.match(csp, /^default-src 'none'; script-src 'self'; style-src 'self';/);
    assert.match(csp, /frame-ancestors 'none'/);
    assert.ok(!/unsafe/.test(csp));
    assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
    const html = await page.text();
    assert.ok(!/<script(?![^>]*src=)|\son\w+=|\sstyle=/.test(html), 'nothing inline');
    let bytes = html.length;
    for (const name of ['style.css', 'app.js', 'ui.js', 'charts.js', 'pages.js', 'newsletters.js', 'icon.svg']) {
      const file = await call(p, name);
      assert.equal(file.status, 200, name);
      bytes += (await file.arrayBuffer()).byteLength;
      const again = await call(p, name, { headers: { 'If-None-Match': file.headers.get('etag') } });
      assert.equal(again.status, 304);
    }
    assert.ok(bytes < 150000, `${bytes} bytes`);
    assert.equal((await call(p, 'style.css', { method: 'POST', body: 'x' })).status, 405);
    for (const wrong of ['nothing.js', 'api', 'api/']) assert.notEqual((await call(p, wrong)).status, 200, wrong);
    for (const read of ['session', 'overview', 'status', 'batches', 'batches/0123456789abcdef', 'deadletters', 'webhooks', 'sessions', 'domains', 'live', `v3/${domain}/events`, `v3/${domain}/bounces`])
      assert.equal((await call(p, `api/${read}`)).status, 401, read);
    const ids = { cookie: `postern_session=${'0'.repeat(64)}` };
    assert.equal((await call(p, 'api/session', ids)).status, 401);
    assert.equal((await call(p, 'api/session', { headers: { Authorization: `Basic ${Buffer.from('api:key-0123456789').toString('base64')}` } })).status, 401);
  });

  it('works in every httpd, and after the death of all of them', async () => {
    const before = p.pids('httpd');
    assert.equal(before.length, 2);
    for (const pid of before) process.kill(pid, 'SIGKILL');
    await waitFor('successors', () => p.pids('httpd').length === 2 && p.pids('httpd').every((pid) => !before.includes(pid)));
    let known = 0; // kept connections end with their process: those calls fail, and say nothing of sessions
    await waitFor('a dozen answers', async () => {
      const res = await call(p, 'api/session', { cookie: operator.cookie, headers: { Connection: 'close' } }).catch(() => null);
      if (res) assert.equal(res.status, 200);
      return res && ++known === 12;
    }, 20000, 10);
  });

  it('ends a session at sign-out', async () => {
    const one = await session(p);
    assert.equal((await call(p, 'api/sign-out', { method: 'POST', cookie: one.cookie })).status, 403);
    const out = await one.send('sign-out');
    assert.equal(out.status, 200);
    assert.match(out.headers.get('set-cookie'), /^postern_session=; Path=\/dashboard\/; Max-Age=0;/);
    assert.equal((await call(p, 'api/session', { cookie: one.cookie })).status, 401);
  });

  it('tells operators who is signed in, and ends that, as the command line does', async () => {
    const before = jsonLines(p.cli('login', 'list', '--json')).length;
    const one = await session(p, '--role', 'viewer');
    const link = loginOf(p);
    const { items } = await operator.get('sessions');
    assert.deepEqual(items.map(({ mine, ...rest }) => rest), jsonLines(p.cli('login', 'list', '--json')));
    assert.equal(items.length, before + 2);
    assert.equal(items.filter((s) => s.mine).length, 1);
    const newest = (kind, role) => items.filter((s) => s.kind === kind && s.role === role).sort((a, b) => b['since-ms'] - a['since-ms'])[0];
    const theirs = newest('session', 'viewer'), unused = newest('link', 'operator');
    assert.equal(theirs.from, '127.0.0.1');
    assert.ok(Math.abs(Date.now() - theirs['seen-ms']) < 60000 && theirs['until-ms'] - theirs['since-ms'] === 43200000, JSON.stringify(theirs));
    assert.equal(unused.from, '');
    assert.equal((await call(p, 'api/sessions', { cookie: viewer.cookie })).status, 403);
    assert.match(p.cli('login', 'list'), new RegExp(`^id +name +role +since +last seen +from\\n[^]*${theirs.id} .* viewer .* 127\\.0\\.0\\.1\\n`));

    const ended = await operator.send(`sessions/${theirs.id}/end`);
    assert.deepEqual([ended.status, (await ended.json()).count], [200, 1]);
    assert.equal((await call(p, 'api/session', { cookie: one.cookie })).status, 401);
    assert.equal((await operator.send(`sessions/${theirs.id}/end`)).status, 404);
    await waitFor('the log', () => new RegExp(`POST dashboard api sessions ${theirs.id} end: 200`).test(p.log()) && new RegExp(`session ${theirs.id} of \\S+ is ended by \\S+`).test(p.log()));

    assert.match(p.cli('login', 'end', unused.id), /^1 ended\n$/);
    assert.equal((await signIn(p, ticketOf(link.url))).status, 403);
    const again = spawnSync(binary, ['login', 'end', unused.id, '-c', p.confFile], { encoding: 'utf8' });
    assert.deepEqual([again.status, again.stderr], [1, `postern login: there is no session or link ${unused.id}\n`]);
    assert.equal(spawnSync(binary, ['login', 'end', '-c', p.confFile]).status, 2);
  });

  it('ends all others, and a listener with its session; or everybody', async () => {
    const two = [await session(p), await session(p, '--role', 'viewer')];
    const stream = await new Promise((resolve, reject) => http.get(`${p.url}/dashboard/api/live`, { headers: { Cookie: two[1].cookie }, agent: false }, resolve).on('error', reject));
    assert.equal(stream.statusCode, 200);
    const over = new Promise((resolve) => stream.resume().on('end', resolve).on('error', resolve));
    assert.equal((await two[0].send('sessions/others/end')).status, 200);
    assert.deepEqual((await two[0].get('sessions')).items.map((s) => s.mine), [true]);
    assert.equal((await call(p, 'api/session', { cookie: two[1].cookie })).status, 401);
    await over; // long before a listener's own end, or the test's
    assert.match(p.cli('login', 'end', 'all'), /^1 ended\n$/);
    assert.equal((await call(p, 'api/session', { cookie: two[0].cookie })).status, 401);
    assert.equal(p.cli('login', 'list'), 'nobody is signed in\n');
    operator = await session(p);
    viewer = await session(p, '--role', 'viewer');
  });

  it('notes from where a session was used last', async () => {
    const mine = async () => (await operator.get('sessions')).items.find((s) => s.mine);
    const first = await mine();
    assert.equal(first.from, '127.0.0.1');
    fs.writeFileSync(p.confFile, `${fs.readFileSync(p.confFile, 'utf8')}\ntrusted_proxies = {"127.0.0.0/8"}\n`);
    p.child.kill('SIGHUP');
    await waitFor('another address', async () => {
      await call(p, 'api/session', { cookie: operator.cookie, headers: { 'X-Forwarded-For': '198.51.100.7', Connection: 'close' } }).catch(() => null);
      return jsonLines(p.cli('login', 'list', '--json')).some((s) => s.id === first.id && s.from === '198.51.100.7' && s['since-ms'] === first['since-ms']);
    }, 30000);
  });

  it('lets a viewer look and an operator act, with the page’s token', async () => {
    assert.equal(viewer.me.role, 'viewer');
    const form = () => ({ body: new URLSearchParams({ address: 'seen@example.net' }) });
    const acts = ['batches/0123456789abcdef/pause', `domains/${other}/pause`, 'deadletters/all/replay', 'webhooks/all/drop', 'sessions/others/end', `v3/${other}/bounces`];
    for (const one of acts) {
      assert.equal((await viewer.send(one, form())).status, 403, `viewer, ${one}`);
      assert.equal((await operator.send(one, { ...form(), csrf: undefined })).status, 403, `no token, ${one}`);
      assert.equal((await operator.send(one, { ...form(), csrf: viewer.me.csrf })).status, 403, `another's token, ${one}`);
      assert.equal((await operator.send(one, { ...form(), headers: { 'Sec-Fetch-Site': 'cross-site' } })).status, 403, `another site, ${one}`);
    }
    assert.equal((await operator.get(`v3/${other}/bounces`)).items.length, 0);
    await viewer.get(`v3/${other}/bounces`);
    assert.equal((await viewer.send(`v3/${domain}/messages`, form())).status, 404, 'nobody sends by session');
    assert.equal((await operator.send(`v3/${domain}/messages`, form())).status, 404);
    assert.equal((await operator.send(`v3/domains`, form())).status, 404);
    assert.equal((await operator.send('batches/0123456789abcdef/pause')).status, 404);
    assert.equal((await operator.send('batches/zzz/pause')).status, 404);
    assert.equal((await operator.send('domains/nowhere.example/pause')).status, 404);
    assert.equal((await operator.send('batches/0123456789abcdef/explode')).status, 404);
  });

  it('steers batches and domains, and tells the log who did it', async () => {
    const held = await operator.send(`domains/${domain}/pause`);
    assert.equal(held.status, 200, await held.text());
    const form = newsletterForm(readers(120), { subject: 'Steered' });
    assert.equal((await p.post(form)).status, 200);
    const find = async () => (await operator.get('batches?search=steered')).items[0];
    const { batch } = await waitFor('the batch', find);
    await waitFor('the hold', async () => (await operator.get('status')).holds.some((h) => h.domain === domain && h.mend.includes('resume')));
    for (const verb of ['pause', 'resume']) {
      const res = await operator.send(`batches/${batch}/${verb}`);
      const body = await res.json();
      assert.deepEqual([res.status, body.done, body.count], [200, true, 120], JSON.stringify(body));
    }
    const twice = await operator.send(`batches/${batch}/resume`);
    assert.equal(twice.status, 409);
    assert.equal((await operator.send(`domains/${domain}/resume`)).status, 200);
    await waitFor('all to be settled', async () => isSettled(jsonLines(p.cli('batches', batch, '--json'))), 60000);
    await waitFor('the log', () => /dashboard: \S+, session [0-9a-f]{8}: POST dashboard api batches [0-9a-f]{16} pause: 200/.test(p.log()));
    assert.match(p.log(), /POST dashboard api domains mg\.example\.com resume: 200/);
    assert.match(p.log(), /POST dashboard api domains nowhere\.example pause: 404/);
  });

  it('tells what the command line and the API tell', async () => {
    const form = newsletterForm([...readers(280, 'count'), ...Array.from({ length: 20 }, (_, i) => `g${i}@gmail.com`)], { subject: 'Counted' });
    assert.equal((await p.post(form)).status, 200);
    const { batch } = await waitFor('the batch', async () => (await operator.get('batches?search=counted')).items[0]);
    const books = () => jsonLines(p.cli('batches', batch, '--json'))[0];
    await waitFor('every outcome', () => books().outcomes === 300 && books().opened > 20, 60000);
    const stable = await waitFor('the last event', async () => {
      const one = JSON.stringify(books());
      await new Promise((r) => setTimeout(r, 1500));
      return one === JSON.stringify(books()) && books();
    }, 60000);
    const told = await operator.get(`batches/${batch}`);
    for (const key of ['accepted', 'sent', 'delivered', 'failed-permanent', 'opened', 'clicked', 'complained', 'unaccounted']) assert.equal(told[key], stable[key], key);
    assert.equal(told.partial, false);
    assert.equal(told.providers.reduce((a, x) => a + x.recipients, 0), 300);
    assert.equal(told.providers.find((x) => x.name === 'Gmail').recipients, 20);
    for (const [of, key] of [['delivered', 'delivered'], ['failed', 'failed-permanent']]) assert.equal(told.providers.reduce((a, x) => a + x[of], 0), stable[key], of);
    const opened = told.providers.reduce((a, x) => a + x.opened, 0);
    assert.equal(opened, told.hours.reduce((a, h) => a + (h.opened_unique ?? 0), 0));
    assert.ok(stable['failed-permanent'] > 0 && told.failures.some((f) => f['for-good'] && f.code >= 500 && f.words));
    assert.equal(told.failures.filter((f) => f['for-good']).reduce((a, f) => a + f.recipients, 0), stable['failed-permanent']);

    const bounced = await operator.get(`batches/${batch}/recipients?show=bounced&limit=500`);
    assert.equal(bounced.total, stable['failed-permanent']);
    assert.ok(bounced.items.every((r) => r.bounced && r.state === 'sent'));
    const seen = new Set();
    for (let skip = 0; skip < 300; skip += 70) for (const r of (await operator.get(`batches/${batch}/recipients?limit=70&skip=${skip}`)).items) seen.add(r.address);
    assert.equal(seen.size, 300);

    const stats = await (await p.request('GET', `/v3/${domain}/stats/total?event=delivered&event=accepted&duration=1d&resolution=day`)).json();
    const overview = await operator.get(`overview?domain=${domain}`);
    assert.equal(overview.days.length, 30);
    const sum = (list, key) => list.reduce((a, s) => a + (s[key] ?? 0), 0);
    assert.equal(sum(overview.days, 'delivered'), stats.stats.reduce((a, s) => a + s.delivered.total, 0));
    assert.equal(sum(overview.days, 'accepted'), stats.stats.reduce((a, s) => a + s.accepted.total, 0));
    assert.equal(sum((await operator.get('overview')).days, 'delivered'), sum(overview.days, 'delivered'), 'the other domain has none');

    const address = bounced.items[0].address;
    const walk = await operator.get(`v3/${domain}/events?recipient=${encodeURIComponent(address)}&limit=300`);
    const api = await (await p.request('GET', `/v3/${domain}/events?recipient=${encodeURIComponent(address)}&limit=300`)).json();
    assert.deepEqual(walk.items.map((e) => e.id), api.items.map((e) => e.id));
    const domains = await operator.get('domains');
    const line = jsonLines(p.cli('domains', '--json')).find((d) => d.domain === domain);
    const mine = domains.items.find((d) => d.domain === domain);
    for (const key of ['sent', 'sent-24h', 'hard-bounces', 'complaints']) assert.equal(mine[key], line[key], key);
  });

  it('reads events without moving the reader’s watermark', async () => {
    const at = () => p.status().feeds.find((f) => f.domain === other);
    const before = at().read_until_us;
    for (let i = 0; i < 3; i++) await operator.get(`v3/${other}/events?limit=10`);
    assert.equal(at().read_until_us, before);
    await p.request('GET', `/v3/${other}/events?limit=10`);
    assert.ok(at().read_until_us > before, 'a reader’s does');
  });

  it('pages through batches without losing or repeating one', async () => {
    for (let i = 0; i < 7; i++) assert.equal((await p.post(newsletterForm(readers(2, `page${i}`), { subject: `Page ${i}`, domain: other }), { domain: other })).status, 200);
    const all = (await operator.get(`batches?domain=${other}&limit=100`)).items.map((b) => b.batch);
    assert.equal(all.length, 7);
    const walked = [];
    for (let below = ''; ;) {
      const page = await operator.get(`batches?domain=${other}&limit=2&below=${below}`);
      walked.push(...page.items.map((b) => b.batch));
      if (!page.below) break;
      below = page.below;
    }
    assert.deepEqual(walked, all);
    assert.deepEqual(all, [...all].sort().reverse());
  });

  it('keeps lists: adds, imports, removes', async () => {
    const list = `v3/${other}/unsubscribes`;
    assert.equal((await operator.send(list, { body: new URLSearchParams({ address: 'one@example.net' }) })).status, 200);
    const file = new FormData();
    file.set('file', new Blob(['address,tags\r\ntwo@example.net,*\r\nthree@example.net,*\r\n']), 'list.csv');
    const imported = await operator.send(`${list}/import`, { body: file });
    assert.ok(imported.status === 200 || imported.status === 202, await imported.text());
    assert.deepEqual((await operator.get(list)).items.map((x) => x.address).sort(), ['one@example.net', 'three@example.net', 'two@example.net']);
    const gone = await operator.send(`${list}/two%40example.net`, { method: 'DELETE' });
    assert.equal(gone.status, 200);
    assert.equal((await operator.get(list)).items.length, 2);
    assert.ok(!p.log().includes('two@example.net'), 'addresses are shortened in the log');
    assert.match(p.log(), /DELETE dashboard api v3 mg2\.example\.com unsubscribes t\*\*\*@example\.net: 200/);
  });

  it('shows dead letters, reads them again, drops them', async () => {
    const { SQSClient, SendMessageCommand } = require('@aws-sdk/client-sqs');
    const sqs = new SQSClient({ endpoint: p.sandbox.url, region: 'us-east-1', credentials: { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' } });
    const QueueUrl = `${p.sandbox.url}/000000000000/newsletter-events-queue`;
    for (let i = 0; i < 5; i++)
      await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: `no event ${i} <script>` }));
    const all = await waitFor('the letters', async () => {
      const got = await operator.get('deadletters');
      return got.total === 5 && got;
    });
    assert.ok(all.items.every((d) => d.raw.includes('<script>') && d.why));
    const walked = [];
    for (let below = ''; ;) {
      const page = await operator.get(`deadletters?limit=2&below=${below}`);
      walked.push(...page.items.map((d) => d.id));
      if (!page.below) break;
      below = page.below;
    }
    assert.deepEqual(walked, all.items.map((d) => d.id));
    assert.equal((await operator.get('deadletters?search=event%203')).items.length, 1);
    const [one] = all.items;
    assert.equal((await operator.get(`deadletters/${one.id}`)).raw, one.raw);
    assert.equal((await (await operator.send(`deadletters/${one.id}/replay`)).json()).count, 1);
    await waitFor('it to be read again', async () => !(await operator.get(`deadletters/${one.id}`))['waits-for-replay']);
    assert.equal((await (await operator.send(`deadletters/${one.id}/drop`)).json()).count, 1);
    assert.equal((await call(p, `api/deadletters/${one.id}`, { cookie: operator.cookie })).status, 404);
    assert.equal((await (await operator.send('deadletters/all/drop')).json()).count, 4);
    assert.equal((await operator.get('deadletters')).total, 0);
    assert.equal((await operator.send('deadletters/zz/drop')).status, 404);
  });

  it('drops far more dead letters than one commit takes, or those that hold a text', async () => {
    const { SQSClient, SendMessageBatchCommand } = require('@aws-sdk/client-sqs');
    const sqs = new SQSClient({ endpoint: p.sandbox.url, region: 'us-east-1', credentials: { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' } });
    const QueueUrl = `${p.sandbox.url}/000000000000/newsletter-events-queue`;
    const all = 1300; // ids of 16 bytes: two parts of 16 KiB
    for (let i = 0; i < all; i += 10)
      await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries: Array.from({ length: 10 }, (_, k) => ({ Id: `m${k}`, MessageBody: `no event ${i + k}: ${k < 3 ? 'PEAR' : 'apple'}` })) }));
    await waitFor('the letters', async () => (await operator.get('deadletters?limit=1')).total === all, 30000);
    assert.equal((await (await operator.send('deadletters/all/drop?search=pear')).json()).count, 390);
    assert.equal((await operator.get('deadletters?limit=1')).total, 910);
    assert.equal((await operator.get('deadletters?search=pear')).items.length, 0);
    const replayed = await (await operator.send('deadletters/all/replay')).json();
    assert.equal(replayed.count, 910);
    assert.equal((await (await operator.send('deadletters/all/drop')).json()).count, 910);
    assert.equal((await operator.send('deadletters/all/drop')).status, 404);
    assert.equal((await operator.get('deadletters')).total, 0);
  });

  it('shows a mail in a frame that may do nothing', async () => {
    const html = '<p>Hello</p><script>parent.pwned = 1</script>';
    assert.equal((await p.post(newsletterForm(readers(1, 'frame'), { subject: 'Framed', html }))).status, 200);
    const { batch } = await waitFor('the batch', async () => (await operator.get('batches?search=framed')).items[0]);
    const res = await call(p, `api/batches/${batch}/html`, { cookie: operator.cookie });
    assert.equal(await res.text(), html);
    const mine = await (await call(p, `api/batches/${batch}/mail?recipient=${encodeURIComponent('FRAME000000@readers.example.net')}`, { cookie: operator.cookie })).json();
    assert.equal(mine.text, 'Hello Zoë');
    assert.equal(mine.html, html);
    assert.ok(mine.headers.some(([k, v]) => k === 'To' && v === 'frame000000@readers.example.net'));
    assert.equal((await call(p, `api/batches/${batch}/mail?recipient=nobody@example.net`, { cookie: operator.cookie })).status, 404);
    assert.equal((await call(p, 'api/batches/0123456789abcdef/html', { cookie: operator.cookie })).status, 404);
    const csp = res.headers.get('content-security-policy');
    assert.match(csp, /^sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'/);
    assert.ok(!csp.includes('script-src') && !csp.includes('allow-'));
  });

  it('tells live, to a bounded number, and ends politely at a reload', async () => {
    const open = () => new Promise((resolve, reject) => {
      const text = { all: '', ended: null };
      const req = http.get(`${p.url}/dashboard/api/live`, { headers: { Cookie: operator.cookie }, agent: false }, (res) => {
        res.setEncoding('utf8');
        res.on('data', (part) => { text.all += part; });
        text.ended = new Promise((end) => { res.on('end', () => end('end')); res.on('error', () => end('error')); });
        resolve({ req, status: res.statusCode, type: res.headers['content-type'], text });
      });
      req.on('error', reject);
    });
    const streams = await Promise.all(Array.from({ length: 6 }, open));
    assert.ok(streams.every((s) => s.status === 200 && s.type === 'text/event-stream'));
    await waitFor('several events on each', () => streams.every((s) => s.text.all.split('event: status').length > 3));
    const [, data] = /data: (.*)\n\n/.exec(streams[0].text.all);
    assert.ok(JSON.parse(data).processes.some((x) => x.name === 'writer 0'));
    streams.pop().req.destroy();
    const old = p.pids('httpd');
    p.child.kill('SIGHUP');
    assert.deepEqual(await Promise.all(streams.map((s) => s.text.ended)), Array(5).fill('end'));
    await waitFor('the new ones', () => p.pids('httpd').length === 2 && p.pids('httpd').every((pid) => !old.includes(pid)));
    assert.equal((await operator.get('session')).role, 'operator', 'the session goes on');
    const many = await Promise.all(Array.from({ length: 140 }, () => open().catch(() => null)));
    const statuses = many.map((s) => s?.status);
    assert.ok(statuses.includes(503), 'more than there are places are refused');
    assert.ok(statuses.filter((s) => s === 200).length <= 128);
    for (const s of many) s?.req.destroy();
    await waitFor('places again', async () => {
      const s = await open();
      s.req.destroy();
      return s.status === 200;
    });
    assert.ok(!/died of signal (?!9)/.test(p.log()));
  });

  it('outlives a restart, and can be switched off', async () => {
    await p.stop();
    await p.launch();
    assert.equal((await operator.get('session')).role, 'operator');
    fs.appendFileSync(p.confFile, '\ndashboard { enabled = false }\n');
    p.child.kill('SIGHUP');
    await waitFor('it to be gone', async () => (await call(p, '')).status === 401); // as any path of the API without a key
    const said = spawnSync(binary, ['login', '-c', p.confFile], { encoding: 'utf8' });
    assert.equal(said.status, 1);
    assert.match(said.stderr, /dashboard is off/);
  });
});

it('shows webhooks, what was given up, and tells that again', async () => {
  let heals = false;
  const receiver = await Receiver.start(null, (at, attempt, response) => response.writeHead(at === '/yes' || heals ? 200 : 500).end());
  const p = await Postern.start({ conf: 'webhooks { allow_private = true retries = {"10ms"} }' });
  await p.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 20 });
  for (const at of ['yes', 'no']) assert.equal((await p.request('POST', `/v3/domains/${domain}/webhooks`, { body: new URLSearchParams([['id', at === 'yes' ? 'accepted' : 'delivered'], ['url', `${receiver.url}/${at}`]]) })).status, 200);
  const operator = await session(p), viewer = await session(p, '--role', 'viewer');
  assert.equal((await p.post(newsletterForm(readers(400)))).status, 200);
  const find = async (at) => (await viewer.get('webhooks')).items.find((h) => h.url === `${receiver.url}/${at}`);
  await waitFor('all to be told or given up', async () => (await find('yes')).delivered === 400 && (await find('no'))['given-up'] === 400, 60000);
  const [yes, no] = [await find('yes'), await find('no')];
  assert.deepEqual([yes.state, no.state, no.status, no.waiting], ['fine', 'failing', 500, 0]);
  const told = (h) => jsonLines(p.cli('webhooks', '--json')).find((line) => line.url === h.url);
  for (const h of [yes, no]) assert.deepEqual(h, { id: h.id, ...told(h) });

  const failures = await viewer.get(`webhooks/${no.id}/failures`);
  assert.deepEqual([failures.url, failures.items.length, failures.more], [no.url, 50, true]);
  assert.deepEqual(failures.items, jsonLines(p.cli('webhooks', 'failures', '--json', '--limit', '50')));
  assert.deepEqual((await viewer.get(`webhooks/${yes.id}/failures`)).items, []);
  assert.equal((await viewer.send(`webhooks/${failures.items[0].id}/replay`)).status, 403);
  assert.equal((await operator.send(`webhooks/${failures.items[0].id}/drop`)).status, 200);
  assert.equal((await operator.send(`webhooks/${failures.items[0].id}/drop`)).status, 404);
  assert.equal((await operator.send(`webhooks/all/replay?target=${yes.id}`)).status, 404);
  assert.equal((await operator.send('webhooks/all/replay?target=zz')).status, 404);
  assert.equal((await call(p, `api/webhooks/${'0'.repeat(16)}/failures`, { cookie: viewer.cookie })).status, 404);
  heals = true;
  const replayed = await (await operator.send(`webhooks/all/replay?target=${no.id}`)).json();
  assert.equal(replayed.count, 399);
  await waitFor('them to be taken', async () => (await find('no')).delivered === 399, 60000);
  assert.deepEqual([(await find('no')).state, (await viewer.get(`webhooks/${no.id}/failures`)).items.length], ['fine', 0]);
  assert.match(p.log(), /POST dashboard api webhooks all replay\?target=[0-9a-f]{16}: 200/);
  await p.stop();
  await receiver.stop();
});

it('expires, speaks of its public URL, and can live elsewhere', async () => {
  const p = await Postern.start({ conf: 'public_url = "https://mail.example.com/"\ndashboard { path = "/staff/board" session = "2s" }' });
  const { url } = loginOf(p);
  assert.match(url, /^https:\/\/mail\.example\.com\/staff\/board\/#login=[0-9a-f]{64}$/);
  const at = (pathname, init) => fetch(`${p.url}/staff/board/${pathname}`, init);
  assert.equal((await at('')).status, 200);
  assert.equal((await fetch(`${p.url}/dashboard/`)).status, 401);
  const res = await at('api/sign-in', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ ticket: ticketOf(url) }) });
  const cookie = res.headers.get('set-cookie');
  assert.match(cookie, /; Path=\/staff\/board\/; Max-Age=2; HttpOnly; SameSite=Strict; Secure$/);
  const headers = { Cookie: cookie.split(';')[0] };
  assert.equal((await at('api/session', { headers })).status, 200);
  await waitFor('the session’s end', async () => (await at('api/session', { headers })).status === 401, 10000);
  for (const wrong of ['dashboard', '/', '/v3/x', '/a//b', '/a/', '/a b'])
    assert.match(spawnSync(binary, ['-t', '-c', confOf(p, wrong)], { encoding: 'utf8' }).stderr, /dashboard\.path/, wrong);
  assert.throws(() => execFileSync(binary, ['login', '--role', 'king', '-c', p.confFile], { stdio: 'pipe' }));
});

function confOf(p, wrong) {
  const file = path.join(p.dir, 'wrong.conf');
  fs.writeFileSync(file, fs.readFileSync(p.confFile, 'utf8').replace('"/staff/board"', `"${wrong}"`));
  return file;
}
