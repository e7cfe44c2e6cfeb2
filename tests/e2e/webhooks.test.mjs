// Webhooks: configured with mailgun.js and plain HTTP, told to a receiver that checks what it gets.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Postern, domain, jsonLines, key, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from './harness.mjs';
import { Receiver } from './receiver.mjs';

const require = createRequire(import.meta.url);
const FormData = require('form-data');
after(stopAll);

const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 50 };
const webhooks = (retries, more = '') => `webhooks { allow_private = true retries = {${retries.map((r) => `"${r}"`).join(', ')}} ${more} }`;

function client(version, url) {
  const loaded = require(`mailgun.js-${version}`);
  const Mailgun = loaded.default ?? loaded;
  return new Mailgun(FormData).client({ username: 'api', key, url, timeout: 60000 });
}

const form = (fields) => new URLSearchParams(fields);
const base = `/v3/domains/${domain}/webhooks`;
const v4 = `/v4/domains/${domain}/webhooks`;

async function ask(postern, method, path, fields) {
  const res = await postern.request(method, path, fields ? { body: form(fields) } : {});
  assert.match(res.headers.get('content-type'), /^application\/json/);
  return { status: res.status, body: await res.json() };
}

async function configure(postern, urls) {
  for (const [kind, list] of Object.entries(urls)) {
    const { status, body } = await ask(postern, 'POST', base, list.map((url) => ['url', url]).concat([['id', kind]]));
    assert.equal(status, 200, JSON.stringify(body));
  }
}

async function send(postern, to, options) {
  const res = await postern.post(newsletterForm(to, options));
  assert.equal(res.status, 200, await res.clone().text());
}

const list = (postern) => jsonLines(postern.cli('webhooks', '--json', '--limit', '1000'));
const failures = (postern) => jsonLines(postern.cli('webhooks', 'failures', '--json', '--limit', '100000'));
const checked = (postern) => assert.deepEqual(jsonLines(postern.cli('check', '--json')).filter((line) => line.problem), []);

describe('the configuration', () => {
  let postern;
  before(async () => (postern = await Postern.start()));
  after(() => postern?.stop());

  for (const version of ['10', '14'])
    it(`is made, read, changed and ended with mailgun.js ${version}`, async () => {
      const mg = client(version, postern.url);
      assert.deepEqual(await mg.webhooks.list(domain, {}), {});
      const made = await mg.webhooks.create(domain, 'clicked', 'https://example.com/a');
      assert.equal(made.id, 'clicked');
      assert.equal(made.url, 'https://example.com/a');
      assert.equal((await mg.webhooks.get(domain, 'clicked')).url, 'https://example.com/a');
      const changed = await mg.webhooks.update(domain, 'clicked', ['https://example.com/b', 'https://example.com/c']);
      assert.equal(changed.url, 'https://example.com/b');
      assert.deepEqual((await mg.webhooks.list(domain, {})).clicked.urls, ['https://example.com/b', 'https://example.com/c']);
      assert.equal((await mg.webhooks.destroy(domain, 'clicked')).url, 'https://example.com/b');
      await assert.rejects(mg.webhooks.get(domain, 'clicked'), (e) => e.status === 404 && /Webhook not found/.test(e.details));
      await assert.rejects(mg.webhooks.update(domain, 'clicked', 'https://example.com/b'), (e) => e.status === 404);
    });

  it("gives the answers of Mailgun's recordings", async () => {
    const url = 'http://example.com/mailgun/events/accepted';
    assert.deepEqual(await ask(postern, 'POST', base, { id: 'accepted', url }), {
      status: 200,
      body: { message: 'Webhook has been created', webhook: { urls: [url] } },
    });
    assert.deepEqual(await ask(postern, 'GET', `${base}/accepted`), { status: 200, body: { webhook: { urls: [url] } } });
    assert.deepEqual(await ask(postern, 'GET', base), { status: 200, body: { webhooks: { accepted: { urls: [url] } } } });
    assert.deepEqual(await ask(postern, 'PUT', `${base}/accepted`, { id: 'accepted', url }), {
      status: 200,
      body: { message: 'Webhook has been updated', webhook: { urls: [url] } },
    });
    assert.deepEqual(await ask(postern, 'DELETE', `${base}/accepted`), {
      status: 200,
      body: { message: 'Webhook has been deleted', webhook: { urls: [url] } },
    });
    assert.deepEqual(await ask(postern, 'DELETE', `${base}/accepted`), { status: 404, body: { message: 'Webhook not found' } });
  });

  it('takes three URLs for a kind and says what is wrong with others', async () => {
    const url = (n) => `https://example.com/${n}`;
    await configure(postern, { opened: [url(1), url(2)] });
    await configure(postern, { opened: [url(3)] });
    assert.equal((await ask(postern, 'POST', base, { id: 'opened', url: url(4) })).status, 409);
    assert.deepEqual(await ask(postern, 'POST', base, { id: 'opened', url: url(2) }), {
      status: 400,
      body: { message: `Webhook for event type 'opened' with URL '${url(2)}' already exists` },
    });
    for (const [bad, why] of [
      ['ftp://example.com/', /is not a valid url: invalid URL scheme/],
      ['https:///nowhere', /is not a valid url/],
      ['https://exa mple.com/', /is not a valid url: invalid characters/],
      ['', /Missing mandatory parameter: url/],
    ]) {
      const { status, body } = await ask(postern, 'POST', base, { id: 'clicked', url: bad });
      assert.equal(status, 400, bad);
      assert.match(body.message, why);
    }
    assert.match((await ask(postern, 'POST', base, { id: 'nonsense', url: url(1) })).body.message, /Invalid webhook type: nonsense/);
    assert.match((await ask(postern, 'POST', base, { url: url(1) })).body.message, /Missing mandatory parameter: id/);
    assert.equal((await ask(postern, 'GET', `${base}/nonsense`)).status, 404);
    assert.equal((await ask(postern, 'PUT', base, { url: url(1) })).status, 405);
    assert.deepEqual(await ask(postern, 'GET', '/v3/domains/other.example/webhooks'), { status: 404, body: { message: 'Domain not found' } });
    const res = await postern.request('GET', base, { auth: 'api:wrong' });
    assert.equal(res.status, 401);
    await ask(postern, 'DELETE', `${base}/opened`);
  });

  it('v4: a URL and its kinds', async () => {
    const [a, b] = ['https://example.com/a', 'https://example.com/b'];
    const of = (...urls) => ({ urls });
    let got = await ask(postern, 'POST', v4, [['url', a], ['event_types', 'opened'], ['event_types', 'clicked']]);
    assert.deepEqual(got, { status: 200, body: { webhooks: { opened: of(a), clicked: of(a) } } });
    got = await ask(postern, 'POST', v4, { url: a, event_types: 'clicked' });
    assert.equal(got.status, 400);
    got = await ask(postern, 'POST', v4, { url: b, event_types: 'clicked' });
    assert.deepEqual(got.body, { webhooks: { opened: of(a), clicked: of(a, b) } });
    got = await ask(postern, 'PUT', v4, { url: a, event_types: 'delivered' });
    assert.deepEqual(got.body, { webhooks: { delivered: of(a), clicked: of(b) } });
    assert.equal((await ask(postern, 'PUT', v4, { url: 'https://example.com/none', event_types: 'opened' })).status, 404);
    assert.match((await ask(postern, 'PUT', v4, { url: a })).body.message, /event_types/);
    got = await ask(postern, 'DELETE', `${v4}?url=${encodeURIComponent(`${a},${b}`)}`);
    assert.deepEqual(got, { status: 200, body: { webhooks: {} } });
    assert.equal((await ask(postern, 'DELETE', `${v4}?url=${encodeURIComponent(a)}`)).status, 404);
  });

  it('outlives a restart', async () => {
    await configure(postern, { complained: ['https://example.com/kept'] });
    await postern.stop();
    await postern.launch();
    assert.deepEqual((await ask(postern, 'GET', base)).body, { webhooks: { complained: { urls: ['https://example.com/kept'] } } });
    checked(postern);
  });
});

describe('what is told', () => {
  it('is each event of the kinds configured, as the API gives it, signed, and nothing else', async () => {
    const postern = await Postern.start({ conf: webhooks(['200ms']) });
    await postern.sandbox.set({ ...quiet, open_rate: 10000 });
    const receiver = await Receiver.start();
    await configure(postern, { delivered: [`${receiver.url}/a`, `${receiver.url}/b`], opened: [`${receiver.url}/a`], accepted: [`${receiver.url}/accepted`], permanent_fail: [`${receiver.url}/gone`] });
    receiver.key = postern.cli('webhooks', 'key', domain).trim();
    assert.match(receiver.key, /^[0-9a-f]{64}$/);
    await send(postern, [...readers(60), 'bounce1@readers.example.net', 'softbounce1@readers.example.net']);
    await waitFor('all of them', () => receiver.of('/a').length >= 120 && receiver.of('/b').length >= 60 && receiver.of('/accepted').length >= 62 && receiver.of('/gone').length >= 1);
    await waitFor('nothing left', () => list(postern).every((t) => t.waiting === 0));
    let events; // the API shows what is a second old
    await waitFor('the events in the API', async () => (events = await postern.walk('begin=1&ascending=yes&limit=300')).length >= 62 + 120 + 2);
    const byId = new Map(events.map((e) => [e.id, e]));
    const expected = (names) => events.filter((e) => names.includes(e.event)).map((e) => e.id).sort();
    const told = (path) => receiver.of(path).map((call) => call.event.id).sort();
    assert.deepEqual(told('/a'), expected(['delivered', 'opened']));
    assert.deepEqual(told('/b'), expected(['delivered']));
    assert.deepEqual(told('/accepted'), expected(['accepted']));
    assert.deepEqual(told('/gone'), events.filter((e) => e.event === 'failed' && e.severity === 'permanent').map((e) => e.id));
    for (const call of receiver.calls) {
      const { storage, ...event } = byId.get(call.event.id); // its URL is known with public_url alone
      assert.ok(storage.url);
      assert.deepEqual(call.event, event);
      assert.ok(receiver.isSigned(call));
      assert.match(call.token, /^[0-9a-f]{50}$/);
      assert.ok(Math.abs(Number(call.timestamp) * 1000 - call.at) < 15000);
      assert.equal(call.method, 'POST');
      assert.equal(call.headers['content-type'], 'application/json');
    }
    assert.equal(new Set(receiver.calls.map((call) => call.token)).size, receiver.calls.length);
    const { webhooks: counted } = postern.status();
    assert.equal(counted.delivered, receiver.calls.length);
    checked(postern);
    await postern.stop();
    await receiver.stop();
  });

  it("is signed with the domain's own key where it has one, and with public_url says where the message is stored", async () => {
    const postern = await Postern.start({ conf: webhooks(['200ms']) });
    await postern.stop();
    const conf = fs.readFileSync(postern.confFile, 'utf8');
    fs.writeFileSync(postern.confFile, `public_url = "https://mail.example.org/"\n${conf.replace(/(domain "[^"]+" \{)/, '$1\n  webhook_signing_key = "signing-key-of-old"')}`);
    await postern.launch();
    await postern.sandbox.set(quiet);
    const receiver = await Receiver.start('signing-key-of-old');
    await configure(postern, { delivered: [`${receiver.url}/a`] });
    assert.equal(postern.cli('webhooks', 'key', domain).trim(), receiver.key);
    await send(postern, readers(3));
    await waitFor('three', () => receiver.calls.length === 3);
    assert.ok(receiver.calls.every((call) => receiver.isSigned(call)));
    for (const { event } of receiver.calls) assert.equal(event.storage.url, `https://mail.example.org/v3/domains/${domain}/messages/${event.storage.key}`);
    await postern.stop();
    await receiver.stop();
  });
});

describe('a receiver that', () => {
  it('fails is told again, with a token of its own each time; 406 ends it; a replay begins anew', async () => {
    const postern = await Postern.start({ conf: webhooks(['100ms', '150ms', '200ms']) });
    await postern.sandbox.set(quiet);
    let mended = false;
    const receiver = await Receiver.start(undefined, (path, attempt, response) => {
      const status = path === '/500-then-200' ? (attempt < 3 ? 500 : 200) : path === '/406' ? 406 : path === '/redirect' ? 302 : mended ? 204 : 503;
      response.writeHead(status, path === '/redirect' ? { Location: '/elsewhere' } : {}).end();
    });
    const at = (path) => receiver.url + path;
    await configure(postern, { delivered: [at('/500-then-200'), at('/406'), at('/dead')], accepted: [at('/redirect')] });
    receiver.key = postern.cli('webhooks', 'key', domain).trim();
    await send(postern, readers(5));
    await waitFor('the end of it', () => failures(postern).length === 15 && list(postern).every((t) => t.waiting === 0));
    assert.equal(receiver.of('/500-then-200').length, 15);
    assert.equal(receiver.of('/406').length, 5);
    assert.equal(receiver.of('/dead').length, 20); // the first and three more
    assert.equal(receiver.of('/redirect').length, 20);
    assert.equal(receiver.of('/elsewhere').length, 0);
    assert.equal(new Set(receiver.calls.map((call) => call.token)).size, receiver.calls.length);
    assert.ok(receiver.calls.every((call) => receiver.isSigned(call)));
    const of = new Map(list(postern).map((t) => [new URL(t.url).pathname, t]));
    assert.deepEqual([of.get('/500-then-200').delivered, of.get('/500-then-200').state], [5, 'fine']);
    assert.deepEqual([of.get('/406')['given-up'], of.get('/406').status], [5, 406]);
    assert.deepEqual([of.get('/dead')['given-up'], of.get('/dead').status, of.get('/dead').state], [5, 503, 'failing']);
    assert.deepEqual(
      new Set(failures(postern).map((f) => `${new URL(f.url).pathname} ${f.attempts} ${f.status} ${f.kind}`)),
      new Set(['/406 1 406 delivered', '/dead 4 503 delivered', '/redirect 4 302 accepted']),
    );
    const gaps = receiver.of('/dead').filter((c) => c.attempt === 1).map((first) => receiver.of('/dead').find((c) => c.attempt === 4 && c.event.id === first.event.id).at - first.at);
    assert.ok(gaps.every((ms) => ms >= 450)); // the schedule: 100 + 150 + 200
    mended = true;
    const [one] = failures(postern).filter((f) => f.url === at('/dead'));
    assert.match(postern.cli('webhooks', 'replay', one.id), /1 events are told again/);
    await waitFor('the one', () => receiver.of('/dead').length === 21);
    assert.match(postern.cli('webhooks', 'replay', 'all', '--search', '/dead'), /4 events are told again/);
    await waitFor('the others', () => receiver.of('/dead').length === 25 && failures(postern).length === 10);
    await waitFor('no failure', () => list(postern).find((t) => t.url === at('/dead')).state === 'fine');
    assert.match(postern.cli('webhooks', 'drop', 'all', '--search', '/406'), /5 dropped/);
    assert.equal(failures(postern).length, 5);
    const { webhooks: counted } = postern.status();
    assert.deepEqual([counted.delivered, counted.waiting, counted.failed], [10, 0, 5]);
    checked(postern);
    await postern.stop();
    await receiver.stop();
  });

  it('is dead or slow delays nobody else', async () => {
    const postern = await Postern.start({ conf: webhooks(['1h'], 'timeout = "60s" connections = 8 per_url = 4') });
    await postern.sandbox.set({ ...quiet, open_rate: 10000 });
    const held = [];
    const receiver = await Receiver.start(undefined, (path, attempt, response) => (path === '/quick' ? response.writeHead(200).end() : held.push(response)));
    // As many that never answer as there are connections, and more.
    for (const kind of ['delivered', 'accepted', 'opened'])
      await configure(postern, { [kind]: Array.from({ length: 3 }, (_, i) => `${receiver.url}/never-${kind}-${i}`) });
    await send(postern, readers(50));
    await waitFor('an attempt at each', () => new Set(receiver.calls.map((call) => call.path)).size === 9, 30000);
    await ask(postern, 'DELETE', `${base}/opened`);
    await configure(postern, { opened: [`${receiver.url}/quick`] });
    const later = new Set(readers(40, 'later'));
    await send(postern, [...later]);
    await waitFor('the quick one', () => receiver.of('/quick').filter((call) => later.has(call.event.recipient)).length === 40, 20000);
    // Nobody's time is over yet: those whom there is no room for were hung up on.
    const hanging = () => held.filter((response) => !response.destroyed).length;
    await waitFor('half of the connections', () => hanging() <= 4, 10000);
    assert.ok(hanging() > 0);
    const began = Date.now();
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
    assert.ok(Date.now() - began < 8000); // far less than the time they have
    await receiver.stop();
  });

  it('was down over a restart is told what it missed', async () => {
    const sandbox = await startSandbox();
    await sandbox.set(quiet);
    const postern = await Postern.start({ sandbox, conf: webhooks(['2s', '2s', '2s', '2s', '2s', '2s']) });
    let up = false;
    const receiver = await Receiver.start(undefined, (path, attempt, response) => (up ? response.writeHead(200).end() : response.destroy()));
    await configure(postern, { delivered: [`${receiver.url}/a`] });
    await send(postern, readers(20));
    await waitFor('attempts', () => receiver.calls.length >= 20 && list(postern)[0].waiting === 20);
    assert.equal(list(postern)[0].state, 'failing');
    await postern.stop();
    up = true;
    const before = receiver.calls.length;
    await postern.launch();
    await waitFor('all of them', () => list(postern)[0].delivered === 20);
    const told = receiver.calls.slice(before).map((call) => call.event.recipient);
    assert.deepEqual(told.sort(), readers(20));
    checked(postern);
    await postern.stop();
    await receiver.stop();
  });

  it('lies in a private network is not reached, whatever its name', async () => {
    const postern = await Postern.start({ conf: 'webhooks { retries = {"50ms"} }' });
    await postern.sandbox.set(quiet);
    const receiver = await Receiver.start();
    const { port } = new URL(receiver.url);
    await configure(postern, { delivered: [`${receiver.url}/a`, `http://localhost:${port}/b`, `http://[::ffff:127.0.0.1]:${port}/c`] });
    await send(postern, readers(2));
    await waitFor('failures', () => failures(postern).length === 6);
    for (const f of failures(postern)) assert.match(f.words, /not a public one/);
    assert.equal(receiver.calls.length, 0);
    await postern.stop();
    await receiver.stop();
  });

  it('has a certificate that nobody vouches for is told nothing', async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-webhooks-tls-'));
    const [certificate, keyFile] = [path.join(dir, 'cert.pem'), path.join(dir, 'key.pem')];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
      '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', keyFile, '-out', certificate], { stdio: 'ignore' });
    const heard = [];
    const server = https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(keyFile) }, (request, response) => {
      heard.push(request.url);
      response.writeHead(200).end();
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const postern = await Postern.start({ conf: webhooks(['50ms']) });
    await postern.sandbox.set(quiet);
    await configure(postern, { delivered: [`https://127.0.0.1:${server.address().port}/a`] });
    await send(postern, readers(2));
    await waitFor('failures', () => failures(postern).length === 2);
    for (const f of failures(postern)) assert.match(f.words, /certificate/);
    assert.deepEqual(heard, []);
    await postern.stop();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    fs.rmSync(dir, { recursive: true });
  });

  it('is no longer configured is told nothing more, and forgotten', async () => {
    const postern = await Postern.start({ conf: webhooks(['1h']) });
    await postern.sandbox.set(quiet);
    const receiver = await Receiver.start(undefined, (path, attempt, response) => response.writeHead(500).end());
    await configure(postern, { delivered: [`${receiver.url}/a`] });
    await send(postern, readers(4));
    await waitFor('attempts', () => receiver.calls.length === 4 && list(postern)[0]['failures-in-a-row'] === 4);
    assert.equal(list(postern)[0].waiting, 4);
    await ask(postern, 'DELETE', `${base}/delivered`);
    await waitFor('retention', () => list(postern).length === 0, 90000, 500);
    assert.equal(postern.status().webhooks.waiting, 0);
    checked(postern);
    await postern.stop();
    await receiver.stop();
  });
});
