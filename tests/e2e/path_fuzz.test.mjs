// However a path is spelled, without a key nothing is told and nothing is done.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { Postern, domain, isSettled, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(stopAll);
const secret = 'only-for-those-with-a-key@readers.example.net';
const encoded = encodeURIComponent(secret);

/** Every resource that is served, and some that Mailgun has and Postern does not. */
const resources = [
  ...['messages', 'messages.mime', 'events', 'events/TOKEN', 'stats/total', 'tags', 'tags/ghost-email', 'tags/ghost-email/stats', 'tag?tag=ghost-email', 'tag/stats?tag=ghost-email', 'templates', 'webhooks'].map((r) => `/v3/${domain}/${r}`),
  ...['bounces', 'complaints', 'unsubscribes', 'whitelists', 'allowlists'].flatMap((list) => [`/v3/${domain}/${list}`, `/v3/${domain}/${list}/import`, `/v3/${domain}/${list}/${encoded}`]),
  ...['', `/${domain}`, ...['tracking', 'connection', 'sending_queues', 'verify', 'webhooks'].map((r) => `/${domain}/${r}`)].flatMap((r) => [`/v3/domains${r}`, `/v4/domains${r}`]),
  `/v2/${domain}/events`,
  `/v4/${domain}/messages`,
  '/v3/stats/total',
  '/v1/analytics/logs',
  '/v1/analytics/metrics',
  '/v1/send',
  '/stats/getNewsletterUsage',
  '/v3/lists',
  '/v3/routes',
  '/v4/address/validate?address=x',
  '/',
  '/metrics',
];

const letters = (text, change) => text.replace(/[a-z]/gi, change);
const cut = (pathname) => pathname.split('/').slice(1);
/** Spellings of one path. Some name the same resource, some another, some none. */
function* spellings(pathname) {
  const [bare, query] = pathname.split('?');
  const tail = query ? `?${query}` : '';
  const segments = cut(bare);
  yield pathname;
  for (const end of ['/', '//', '/.', '/..', '/../', ';', ';a=b', '%00', '%20', '%0d%0a', '?', '#x', '.js', '.json', '.css', '/x', '/health', '/../health', '%2f..%2fhealth', '%ff', '%', '%2', '~', '\\', '?x=%zz', '?domain=', '?/health', '&'])
    yield `${bare}${end}${end.includes('?') ? '' : tail}`;
  for (let i = 0; i < segments.length; i++) {
    const put = (...s) => `/${[...segments.slice(0, i), ...s, ...segments.slice(i + 1)].join('/')}${tail}`;
    const s = segments[i];
    yield put('', s);
    yield put('.', s);
    yield put('%2e', s);
    yield put('x', '..', s);
    yield put('x', '%2e%2e', s);
    yield put('health', '..', s);
    yield put('health', '%2e%2E', s);
    yield put('..', '..', 'health', s);
    yield put(s.toUpperCase());
    yield put(letters(s, (c) => (c === 'e' ? 'E' : c)));
    yield put(`${s}.js`);
    yield put(`${s}.html`);
    yield put(`${s};x`);
    yield put(`${s}%00`);
    yield put(`%20${s}`);
    yield put(`${s}.`);
    yield put(`${s}%2f`);
    yield put(`${s}%5c`);
    yield put([...s].map((c) => `%${c.charCodeAt(0).toString(16)}`).join(''));
    yield put([...s].map((c, n) => (n === 0 ? `%25${c.charCodeAt(0).toString(16)}` : c)).join(''));
    yield put(`%c0%ae%c0%ae`, s);
    yield put('x.js');
    yield put('health');
    yield put(`${s}${'a'.repeat(300)}`);
    if (i + 1 < segments.length) yield `/${[...segments.slice(0, i), `${s}%2f${segments[i + 1]}`, ...segments.slice(i + 2)].join('/')}${tail}`;
    if (i + 1 < segments.length) yield `/${[...segments.slice(0, i), `${s}\\${segments[i + 1]}`, ...segments.slice(i + 2)].join('/')}${tail}`;
    yield `//${segments.join('/')}${tail}`;
  }
}
/** What stands in a request line: also the absolute form, and forms that are none. */
function* targets(pathname) {
  for (const spelled of new Set(spellings(pathname))) yield spelled;
  for (const before of ['http://127.0.0.1', 'https://mg.example.com', 'http://api:x@127.0.0.1', 'http://127.0.0.1/health/..', 'HTTP://X', 'ftp://x', '//x', 'http://[::1]:80', 'http:', '/health?', '/health#', '/health/..', '/health;', '/health/../..', '/%68ealth/..', '/favicon.ico/..', '/x.js']) yield before + pathname;
  yield pathname.slice(1);
  yield `./${pathname.slice(1)}`;
}
const methods = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'TRACE', 'CONNECT', 'PROPFIND', 'get', 'Post', 'GARBAGE'];
const bodied = new Set(['POST', 'PUT', 'PATCH']);

/** One request on a connection of its own: everything that comes back. */
const raw = (port, text) =>
  new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    const chunks = [];
    socket.setTimeout(20000, () => socket.destroy(new Error(`no answer: ${text.slice(0, 200)}`)));
    socket.on('data', (d) => chunks.push(d)).on('error', reject).on('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
    socket.write(text);
  });

describe('without a key', () => {
  let postern, before_;
  const state = async () => {
    const books = postern.batches().length;
    const lists = [];
    for (const list of ['bounces', 'complaints', 'unsubscribes', 'whitelists'])
      lists.push((await (await postern.request('GET', `/v3/${domain}/${list}`)).json()).items);
    return JSON.stringify([books, lists]);
  };
  before(async () => {
    postern = await Postern.start({ sections: { httpd: 'children = 1\nconnections_per_address = 0' } });
    const form = newsletterForm(readers(3));
    assert.equal((await postern.post(form)).status, 200);
    for (const list of ['bounces', 'complaints', 'unsubscribes', 'whitelists'])
      assert.equal((await postern.request('POST', `/v3/${domain}/${list}`, { body: new URLSearchParams({ address: secret }) })).status, 200, list);
    await waitFor('the books', () => isSettled(postern.batches()));
    before_ = await state();
  });
  after(() => postern?.stop());

  /** A 401 with one of its three bodies, or an error that says nothing but its name. */
  const check = (request, answer, isHead) => {
    const [head, ...rest] = answer.split('\r\n\r\n');
    const status = Number(/^HTTP\/1\.[01] (\d{3}) /.exec(head)?.[1]);
    const body = rest.join('\r\n\r\n');
    const bodies = {
      401: ['Forbidden', '{"message":"Invalid private key"}\n', '{"error":"authentication failed"}\n'],
      400: ['{"message":"Bad Request"}\n'],
      404: ['{"message":"Not Found"}\n'],
      405: ['{"message":"Method Not Allowed"}\n'],
      501: ['{"message":"Not Implemented"}\n'],
    };
    assert.ok(bodies[status], `${request}\n${answer.slice(0, 300)}`);
    assert.ok(bodies[status].includes(body) || (isHead && body === ''), `${request}\n${answer.slice(0, 300)}`);
    return status;
  };
  const request = (method, target, authorization) => {
    const body = bodied.has(method.toUpperCase()) ? `from=a%40${domain}&to=b%40example.net&text=x&address=b%40example.net` : '';
    return `${method} ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n${authorization}${body ? `Content-Type: application/x-www-form-urlencoded\r\nContent-Length: ${body.length}\r\n` : ''}\r\n${body}`;
  };
  const isHealth = (target) => /^(https?:\/\/[^/?#]*)?\/health(check)?\/?([?#]|$)/i.test(target.replace(/^http:\/\/\[::1\]:80/, ''));
  const all = async (pairs) => {
    const counts = {};
    const queue = [...pairs];
    await Promise.all(
      Array.from({ length: 24 }, async () => {
        for (let next = queue.pop(); next; next = queue.pop()) {
          const [method, target, authorization] = next;
          if (isHealth(target)) continue; // open, as documented: tested below
          const text = request(method, target, authorization ?? '');
          const status = check(text, await raw(postern.port, text), method === 'HEAD');
          counts[status] = (counts[status] ?? 0) + 1;
        }
      }),
    );
    return counts;
  };

  it('every spelling of every route', { timeout: 300000 }, async (t) => {
    const pairs = resources.flatMap((r) => [...targets(r)].flatMap((target) => ['GET', 'POST', 'DELETE'].map((method) => [method, target])));
    const counts = await all(pairs);
    t.diagnostic(`${pairs.length} requests: ${JSON.stringify(counts)}`);
    assert.ok(counts[401] > pairs.length * 0.8, JSON.stringify(counts));
    assert.equal(counts[404], undefined);
    assert.equal(counts[405], undefined);
  });

  it('every method, and keys that are none', { timeout: 300000 }, async () => {
    const b64 = (text) => `Authorization: Basic ${Buffer.from(text).toString('base64')}\r\n`;
    const keys = ['Authorization: \r\n', 'Authorization: Basic\r\n', 'Authorization: Basic !!!\r\n', 'Authorization: Bearer key-0123456789\r\n', b64('api:'), b64('api'), b64(':key-0123456789'), b64('API:key-0123456789'), 'X-Forwarded-User: api\r\n'];
    await all(resources.flatMap((r) => methods.map((method) => [method, r])));
    // Guesses are slowed, so only a few of each.
    await all(keys.slice(0, 5).map((k) => ['GET', `/v3/${domain}/events`, k]));
    await all(keys.slice(5).map((k) => ['DELETE', `/v3/${domain}/bounces`, k]));
  });

  it('only /health is open, and only to look at', async () => {
    for (const [method, target, want] of [
      ['GET', '/health', 200],
      ['HEAD', '/health', 200],
      ['GET', '/health/', 200],
      ['GET', '/health?x', 200],
      ['POST', '/health', 405],
      ['DELETE', '/health', 405],
      ['OPTIONS', '/health', 405],
      ['GET', '/Health', 401],
      ['GET', '/health/x', 401],
      ['GET', '/health.json', 401],
      ['GET', '//health', 401],
      ['GET', '/v3/health', 401],
    ]) {
      const answer = await raw(postern.port, request(method, target, ''));
      assert.equal(Number(answer.slice(9, 12)), want, `${method} ${target}`);
      assert.ok(!answer.includes(domain) && !answer.includes('example.net'), answer);
    }
  });

  it('nothing was done', async () => {
    assert.equal(await state(), before_);
    assert.ok(!/ died of /.test(postern.log()), postern.log());
  });
});
