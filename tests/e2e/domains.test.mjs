// The domains themselves over the Mailgun API, and that nothing is told to whoever has no key.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createRequire } from 'node:module';
import { Postern, domain, key, stopAll } from './harness.mjs';

const require = createRequire(import.meta.url);
const MultipartForm = require('form-data');
after(stopAll);

describe('domains', () => {
  let postern;
  const others = Array.from({ length: 5 }, (_, i) => `d${i}.example.org`);
  before(async () => {
    postern = await Postern.start({ domains: { [domain]: [key, 'two'], ...Object.fromEntries(others.map((d) => [d, ['two']])), 'theirs.example': ['three'] } });
  });
  after(() => postern?.stop());

  const ask = async (method, path, secret = key) => {
    const res = await postern.request(method, path, { auth: `api:${secret}` });
    return { status: res.status, body: await res.json() };
  };

  for (const version of ['v3', 'v4']) {
    it(`are listed by ${version}, as many as a key opens`, async () => {
      const mine = await ask('GET', `/${version}/domains`);
      assert.equal(mine.status, 200);
      assert.equal(mine.body.total_count, 1);
      const [item] = mine.body.items;
      assert.match(item.id, /^[0-9a-f]{24}$/);
      assert.match(item.created_at, /^\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT$/);
      assert.ok(Math.abs(new Date(item.created_at) - Date.now()) < 600000);
      assert.deepEqual({ name: item.name, state: item.state, type: item.type, wildcard: item.wildcard }, { name: domain, state: 'active', type: 'sandbox', wildcard: false });
      const all = await ask('GET', `/${version}/domains?limit=2&skip=1&sort=name:desc`, 'two');
      assert.equal(all.body.total_count, 6);
      assert.deepEqual(all.body.items.map((i) => i.name), ['d4.example.org', 'd3.example.org']);
      assert.deepEqual((await ask('GET', `/${version}/domains?search=d2`, 'two')).body.items.map((i) => i.name), ['d2.example.org']);
      assert.equal((await ask('GET', `/${version}/domains?state=unverified`, 'two')).body.total_count, 0);
      assert.equal((await ask('GET', `/${version}/domains?limit=x`, 'two')).status, 400);
    });

    it(`are shown one by one by ${version}`, async () => {
      const { status, body } = await ask('GET', `/${version}/domains/MG.example.com`);
      assert.equal(status, 200);
      assert.equal(body.domain.name, domain);
      assert.deepEqual(body.sending_dns_records, []);
      for (const name of ['theirs.example', 'nowhere.example', 'a%2Fb'])
        assert.deepEqual(await ask('GET', `/${version}/domains/${name}`), { status: 404, body: { message: 'Domain not found' } });
      assert.equal((await ask('PUT', `/${version}/domains/${domain}/verify`)).body.message, 'Domain DNS records have been updated');
      assert.equal((await ask('GET', `/${version}/domains/${domain}/tracking`)).body.tracking.open.active, false);
      assert.equal((await ask('GET', `/${version}/domains/${domain}/sending_queues`)).body.regular.is_disabled, false);
      assert.equal((await ask('GET', `/${version}/domains/${domain}/nothing`)).status, 404);
      for (const [method, path] of [['POST', ''], ['DELETE', `/${domain}`], ['PUT', `/${domain}`]])
        assert.equal((await ask(method, `/${version}/domains${path}`)).status, 403);
      assert.deepEqual(await ask('GET', `/${version}/domains`, 'wrong'), { status: 401, body: { message: 'Invalid private key' } });
    });
  }

  for (const version of ['10', '14'])
    it(`serve mailgun.js ${version}`, async () => {
      const loaded = require(`mailgun.js-${version}`);
      const mg = new (loaded.default ?? loaded)(MultipartForm).client({ username: 'api', key, url: postern.url });
      const [one] = await mg.domains.list();
      assert.equal(one.name, domain);
      assert.equal((await mg.domains.get(domain)).state, 'active');
    });

  it('tell nothing without a key, however a path is spelled', async () => {
    const words = ['v1', 'v2', 'v3', 'v4', 'V3', domain, 'theirs.example', 'domains', 'messages', 'messages.mime', 'events', 'bounces', 'unsubscribes', 'import', 'x.js', '..', '.', '', '%2e%2e', '%2F', 'health', 'metrics', 'dashboard', '%00', 'a%', 'address', 'validate'];
    let seed = 1;
    const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
    const net = await import('node:net');
    for (let i = 0; i < 3000; i++) {
      const path = `/${Array.from({ length: 1 + random(5) }, () => words[random(words.length)]).join('/')}${random(3) ? '' : '?page=x'}`;
      if (path.split('?')[0].replace(/\/$/, '') === '/health') continue;
      if (/^\/dashboard(\/|\?|$)/.test(path)) continue; // pages that hold nothing: dashboard.test.mjs
      const method = ['GET', 'POST', 'DELETE', 'PUT', 'HEAD', 'OPTIONS'][random(6)];
      // Raw, as a client library would tidy the path up.
      const answer = await new Promise((resolve, reject) => {
        const socket = net.connect(postern.port, '127.0.0.1', () => socket.write(`${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`));
        let text = '';
        socket.on('data', (d) => (text += d));
        socket.on('end', () => resolve(text));
        socket.on('error', reject);
      });
      assert.match(answer, /^HTTP\/1\.1 (401|400) /, `${method} ${path}: ${answer.slice(0, 100)}`);
    }
  });
});
