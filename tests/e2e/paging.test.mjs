// Pages as each SDK turns them: mailgun.js (a token behind the path, and options that are undefined), mailgun-python
// (the query of `next` alone), mailgun-ruby (the path's end), mailgun-go and -php (the URL as it is).
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import { Postern, domain, isSettled, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
after(stopAll);

describe('pages', () => {
  let p, origin;
  const to = readers(23, 'page');
  const addresses = readers(23, 'listed');

  before(async () => {
    p = await Postern.start();
    origin = p.url;
    await p.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, delivery_delay_ms_max: 20 });
    assert.equal((await p.post(newsletterForm(to, { tags: Array.from({ length: 7 }, (_, i) => `tag${i}`), opens: false }))).status, 200);
    for (const list of ['bounces', 'complaints', 'unsubscribes'])
      assert.equal((await p.request('POST', `/v3/${domain}/${list}`, { body: JSON.stringify(addresses.map((address) => ({ address }))), headers: { 'Content-Type': 'application/json' } })).status, 200);
    await waitFor('the books', () => isSettled(p.batches()));
    await waitFor('all events', async () => (await get(`/v3/${domain}/events?event=delivered&limit=300`)).items.length === to.length);
  });
  after(() => p?.stop());

  const get = async (at) => {
    const res = await p.request('GET', at.startsWith('http') ? at.slice(origin.length) : at);
    assert.equal(res.status, 200, `${at}: ${await res.clone().text()}`);
    return res.json();
  };
  /** Follows to(page) until a page without items. */
  const walk = async (first, next) => {
    const items = [];
    let pages = 0;
    for (let page = first; page.items.length > 0; page = await next(page)) {
      items.push(...page.items);
      assert.ok(++pages < 20, 'it does not end');
    }
    return { items, pages };
  };
  const holdEvents = ({ items, pages }, limit = 10) => {
    assert.deepEqual(items.map((i) => i.recipient).sort(), to);
    assert.equal(pages, Math.ceil(to.length / limit));
  };
  const holdList = ({ items }) => assert.deepEqual(items.map((i) => i.address), addresses);
  const query = 'event=accepted&limit=10&ascending=yes';

  for (const version of ['10', '14'])
    it(`by mailgun.js ${version}, with options that are undefined`, async () => {
      const loaded = require(`mailgun.js-${version}`);
      const mg = new (loaded.default ?? loaded)(require('form-data')).client({ username: 'api', key, url: origin });
      const options = { event: 'accepted', limit: 10, ascending: 'yes', begin: undefined, end: undefined, tags: undefined, recipient: undefined, severity: null };
      holdEvents(await walk(await mg.events.get(domain, options), (page) => mg.events.get(domain, { ...options, page: page.pages.next.page })));
      holdEvents(await walk(await mg.events.get(domain, { event: 'accepted', limit: undefined }), (page) => mg.events.get(domain, { page: page.pages.next.page, limit: undefined, event: undefined })), 100);
      for (const list of ['bounces', 'complaints', 'unsubscribes']) {
        const first = await mg.suppressions.list(domain, list, { limit: 10, term: undefined, address: undefined });
        holdList(await walk(first, (page) => mg.suppressions.list(domain, list, { limit: 10, page: page.pages.next.page, term: undefined })));
        assert.equal((await mg.suppressions.list(domain, list, { limit: undefined, page: undefined })).items.length, addresses.length);
      }
      const domains = await mg.domains.list({ limit: undefined, skip: undefined, state: undefined, search: undefined, sort: undefined });
      assert.deepEqual(domains.map((d) => d.name), [domain]);
      const stats = await mg.stats.getDomain(domain, { event: ['accepted'], start: undefined, end: undefined, resolution: undefined, duration: undefined });
      assert.ok(stats.stats.reduce((n, s) => n + s.accepted.total, 0) >= to.length);
      const account = await mg.request.get('/v3/stats/total', { event: 'accepted', start: undefined, end: undefined, duration: undefined, resolution: undefined });
      assert.ok(account.body.stats.length >= 1);
      const tags = await mg.request.get(`/v3/${domain}/tags`, { limit: undefined, prefix: undefined, page: undefined, tag: undefined });
      assert.equal(tags.body.items.length, 7);
    });

  it('by the query of next alone', async () => {
    const first = await get(`/v3/${domain}/events?${query}`);
    holdEvents(await walk(first, (page) => get(`/v3/${domain}/events${new URL(page.paging.next).search}`)));
    holdEvents(await walk(first, (page) => get(`/v3/${domain}/events?${query}&begin=undefined&page=${new URL(page.paging.next).pathname.split('/').pop()}`)));
  });

  it('by the end of the path, the domain spelled in any case', async () => {
    const name = 'MG.example.com';
    const first = await get(`/v3/${name}/events?${query}`);
    assert.ok(first.paging.next.startsWith(`${origin}/v3/${name}/events/`));
    const token = (page) => /\/v\d\/MG\.example\.com\/events\/(.+)$/.exec(page.paging.next)[1];
    holdEvents(await walk(first, (page) => get(`/v3/${name}/events/${token(page)}`)));
  });

  it('by the URL as it is, there and back again', async () => {
    const first = await get(`/v3/${domain}/events?${query}`);
    holdEvents(await walk(first, (page) => get(page.paging.next)));
    const second = await get(first.paging.next);
    assert.deepEqual((await get(second.paging.previous)).items, first.items);
    assert.deepEqual((await get(second.paging.first)).items, first.items);
    assert.equal((await get(first.paging.last)).items.length, 10);
    assert.deepEqual((await get(first.paging.previous)).items, []);
    for (const list of ['bounces', 'complaints', 'unsubscribes']) {
      const page = await get(`/v3/${domain}/${list}?limit=10`);
      holdList(await walk(page, (at) => get(at.paging.next)));
      assert.deepEqual((await get((await get(page.paging.next)).paging.previous)).items, page.items);
      assert.equal((await get(page.paging.last)).items.length, 10);
    }
    const tags = await walk(await get(`/v3/${domain}/tags?limit=3`), (page) => get(page.paging.next));
    assert.deepEqual(tags.items.map((t) => t.tag), Array.from({ length: 7 }, (_, i) => `tag${i}`));
  });
});
