// A domain's lists over the Mailgun API: added, read in pages, imported, emptied; and what they do.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createRequire } from 'node:module';
import { Postern, domain, isSettled, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const MultipartForm = require('form-data');
after(stopAll);

function client(version, url) {
  const loaded = require(`mailgun.js-${version}`);
  return new (loaded.default ?? loaded)(MultipartForm).client({ username: 'api', key, url });
}

const lists = ['bounces', 'complaints', 'unsubscribes', 'whitelists'];

describe('suppression lists', () => {
  let postern;
  before(async () => {
    postern = await Postern.start();
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, delivery_delay_ms_max: 50 });
  });
  after(() => postern?.stop());

  const call = async (method, path, body, headers) => {
    const res = await postern.request(method, `/v3/${domain}/${path}`, { body, headers });
    return { status: res.status, body: await res.json() };
  };
  const addAll = (list, addresses) =>
    call('POST', list, JSON.stringify(addresses.map((address) => ({ address }))), { 'Content-Type': 'application/json' });
  const upload = (list, text) => {
    const form = new FormData();
    form.append('file', new Blob([text], { type: 'text/csv' }), 'list.csv');
    return call('POST', `${list}/import`, form);
  };
  /** All pages, by following a link until a page without items. */
  const walk = async (path, link) => {
    const pages = [];
    for (;;) {
      const { status, body } = await call('GET', path);
      assert.equal(status, 200);
      for (const url of Object.values(body.paging)) assert.ok(new URL(url).href.startsWith(`${postern.url}/v3/${domain}/`), url);
      if (body.items.length === 0) return pages;
      pages.push(body.items.map((i) => i.address ?? i.value));
      path = body.paging[link].slice(`${postern.url}/v3/${domain}/`.length);
    }
  };

  it('pages through a list in both directions, whatever comes and goes meanwhile', async () => {
    const addresses = Array.from({ length: 25 }, (_, i) => `p+${String(i).padStart(2, '0')}@readers.example.net`);
    for (const list of lists) {
      assert.equal((await addAll(list, addresses.toReversed())).status, 200);
      const forth = await walk(`${list}?limit=10`, 'next');
      assert.deepEqual(forth.map((p) => p.length), [10, 10, 5]);
      assert.deepEqual(forth.flat(), addresses);
      const back = await walk(`${list}?limit=10&page=last`, 'previous');
      assert.deepEqual(back.toReversed().flat(), addresses);
      const { body } = await call('GET', `${list}?limit=10`);
      const next = body.paging.next.slice(`${postern.url}/v3/${domain}/`.length);
      await call('DELETE', `${list}/${encodeURIComponent(addresses[9])}`); // the place itself
      await addAll(list, ['aa@readers.example.net']); // before it
      assert.deepEqual((await call('GET', next)).body.items.map((i) => i.address ?? i.value), addresses.slice(10, 20));
      await call('DELETE', list);
    }
  });

  it('finds what begins with a term', async () => {
    await addAll('bounces', ['ann@readers.example.net', 'Bob@readers.example.net', 'britta@readers.example.net', 'carl@readers.example.net']);
    assert.deepEqual(await walk('bounces?limit=1&term=b', 'next'), [['Bob@readers.example.net'], ['britta@readers.example.net']]);
    assert.deepEqual(await walk('bounces?limit=1&term=b&page=last', 'previous'), [['britta@readers.example.net'], ['Bob@readers.example.net']]);
    assert.equal((await call('GET', 'bounces?limit=0')).status, 400);
    assert.equal((await call('GET', 'bounces?limit=undefined&page=undefined')).body.items.length, 4);
    await call('DELETE', 'bounces');
  });

  it('answers an empty list with links that lead to it', async () => {
    for (const list of lists) {
      const { status, body } = await call('GET', list);
      assert.equal(status, 200);
      assert.deepEqual(body.items, []);
      for (const name of ['first', 'last', 'next', 'previous'])
        assert.equal(body.paging[name], `${postern.url}/v3/${domain}/${list}?limit=100&term=`);
    }
  });

  it('empties a list, however long, and not by a slip', async () => {
    const many = Array.from({ length: 5000 }, (_, i) => `x${i}@readers.example.net`);
    for (let i = 0; i < many.length; i += 1000) await addAll('unsubscribes', many.slice(i, i + 1000));
    await addAll('bounces', ['stays@readers.example.net']);
    assert.equal((await call('DELETE', 'unsubscribes/')).status, 404);
    assert.equal((await walk('unsubscribes?limit=1000', 'next')).flat().length, 5000);
    assert.deepEqual(await call('DELETE', 'unsubscribes'), {
      status: 200,
      body: { message: 'Unsubscribe addresses for this domain have been removed' },
    });
    assert.deepEqual((await call('GET', 'unsubscribes')).body.items, []);
    assert.equal((await call('GET', 'bounces')).body.items.length, 1);
    await call('DELETE', 'bounces');
  });

  it('imports a CSV file as Mailgun exports it, whole or not at all', async () => {
    const text =
      'address,code,error,created_at\r\n' +
      'ann@readers.example.net,550,"No such ""user"", sorry","Thu, 26 Mar 2026 12:59:15 UTC"\r\n' +
      'bob@readers.example.net,,,\r\n';
    assert.deepEqual(await upload('bounces', text), {
      status: 202,
      body: { message: 'file uploaded successfully for processing. standby...' },
    });
    const { items } = (await call('GET', 'bounces')).body;
    assert.deepEqual(items[0], {
      address: 'ann@readers.example.net',
      code: '550',
      error: 'No such "user", sorry',
      created_at: 'Thu, 26 Mar 2026 12:59:15 UTC',
    });
    assert.equal(items[1].code, '550');
    await call('DELETE', 'bounces');

    await upload('unsubscribes', 'ADDRESS,TAGS\nann@readers.example.net,"[""weekly"",""daily""]"\nbob@readers.example.net,*\ncarl@readers.example.net,a;b\n');
    assert.deepEqual((await call('GET', 'unsubscribes')).body.items.map((i) => i.tags), [['weekly', 'daily'], ['*'], ['a', 'b']]);
    await call('DELETE', 'unsubscribes');

    await upload('complaints', 'ann@readers.example.net\nbob@readers.example.net\n'); // without a heading
    assert.equal((await call('GET', 'complaints')).body.items.length, 2);
    await call('DELETE', 'complaints');

    await upload('whitelists', 'address,domain\nann@readers.example.net,\n,example.org\n');
    assert.deepEqual((await call('GET', 'whitelists')).body.items.map((i) => [i.value, i.type]), [
      ['ann@readers.example.net', 'address'],
      ['example.org', 'domain'],
    ]);
    await call('DELETE', 'whitelists');

    const many = Array.from({ length: 12345 }, (_, i) => `m${i}@readers.example.net`);
    assert.equal((await upload('complaints', `address\n${many.join('\n')}\n`)).status, 202);
    assert.equal((await walk('complaints?limit=1000', 'next')).flat().length, many.length);
    await call('DELETE', 'complaints');

    for (const [bad, why] of [
      [`address\n${many.slice(0, 2000).join('\n')}\nnobody\n`, /^line 2002: 'nobody' is not a valid address; nothing was imported$/],
      ['address\n"ann@readers.example.net', /^line 2: a quoted field has no end/],
    ]) {
      const refused = await upload('complaints', bad);
      assert.equal(refused.status, 400);
      assert.match(refused.body.message, why);
      assert.deepEqual((await call('GET', 'complaints')).body.items, []);
    }
    assert.equal((await call('POST', 'complaints/import', new URLSearchParams({ x: 'y' }))).status, 400);
  });

  it('keeps allowlisted addresses and domains out of the bounces', async () => {
    const [listed, inDomain, other] = ['bounce1@readers.example.net', 'bounce2@kept.example.org', 'bounce3@readers.example.net'];
    assert.deepEqual(await call('POST', 'whitelists', new URLSearchParams({ address: listed, reason: 'ours' })), {
      status: 200,
      body: { message: 'Address/Domain has been added to the whitelists table', type: 'address', value: listed },
    });
    assert.deepEqual(await call('POST', 'allowlists', new URLSearchParams({ domain: 'kept.example.org' })), {
      status: 200,
      body: { message: 'Address/Domain has been added to the whitelists table', type: 'domain', value: 'kept.example.org' },
    });
    const { body } = await call('GET', `whitelists/${listed}`);
    assert.equal(body.reason, 'ours');
    assert.match(body.createdAt, /^\w{3}, \d{2} \w{3} \d{4} .* UTC$/);
    assert.equal((await call('POST', 'whitelists', new URLSearchParams({ domain: 'not a domain' }))).status, 400);
    assert.equal((await call('POST', 'bounces', new URLSearchParams({ domain: 'example.org' }))).status, 400);

    await postern.post(newsletterForm([listed, inDomain, other, ...readers(2)]));
    await waitFor('the books', () => isSettled(postern.batches()));
    await waitFor('three bounces', () => postern.batches()[0]['failed-permanent'] === 3);
    assert.deepEqual((await call('GET', 'bounces')).body.items.map((i) => i.address), [other]);
    assert.equal((await call('DELETE', `whitelists/${listed}`)).body.value, listed);
    assert.equal((await call('GET', `whitelists/${listed}`)).body.message, 'Address/Domain not found in whitelists table');
    await call('DELETE', 'whitelists');
    await call('DELETE', 'bounces');
  });

  for (const version of ['10', '14'])
    it(`serves mailgun.js ${version}`, async () => {
      const mg = client(version, postern.url);
      await mg.suppressions.create(domain, 'bounces', [
        { address: 'ann@readers.example.net', code: 551, error: 'gone' },
        { address: 'bob@readers.example.net' },
      ]);
      await mg.suppressions.create(domain, 'whitelists', { domain: 'example.org', reason: 'ours' });
      await mg.suppressions.create(domain, 'unsubscribes', { address: 'ann@readers.example.net', tag: 'weekly' });
      const first = await mg.suppressions.list(domain, 'bounces', { limit: 1 });
      assert.equal(first.items.length, 1);
      assert.equal(first.items[0].address, 'ann@readers.example.net');
      assert.equal(Number(first.items[0].code), 551);
      const second = await mg.suppressions.list(domain, 'bounces', { limit: 1, page: first.pages.next.page });
      assert.deepEqual(second.items.map((i) => i.address), ['bob@readers.example.net']);
      const third = await mg.suppressions.list(domain, 'bounces', { limit: 1, page: second.pages.next.page });
      assert.deepEqual(third.items, []);
      const allowed = await mg.suppressions.get(domain, 'whitelists', 'example.org');
      assert.equal(allowed.reason, 'ours');
      for (const list of lists) await call('DELETE', list);
    });
});
