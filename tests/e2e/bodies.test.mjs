// Bodies as clients send them: compressed, in chunks, after "Expect: 100-continue"; and those that lie.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, it } from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import { Postern, domain, isSettled, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(stopAll);

describe('request bodies', () => {
  let postern;
  before(async () => {
    postern = await Postern.start({ sections: { httpd: 'max_body = "4M"' } });
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0 });
  });
  after(() => postern?.stop());

  const send = (form, body, encoding) =>
    postern.post({ ...form, body }, { headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}`, ...(encoding && { 'Content-Encoding': encoding }) } });
  const arrives = async (form, count) => {
    await waitFor('the books', () => isSettled(postern.batches()));
    const seen = [...(await postern.sandbox.recipients())].filter(([name]) => name.startsWith(form.emailId));
    assert.equal(seen.length, count);
    assert.ok(seen.every(([, n]) => n === 1));
  };

  for (const [name, encoding, pack] of [
    ['gzip', 'gzip', gzipSync],
    ['gzip by its old name', 'X-Gzip', gzipSync],
    ['deflate', 'deflate', deflateSync],
    ['gzip in several members', 'gzip', (b) => Buffer.concat([gzipSync(b.subarray(0, 1000)), gzipSync(b.subarray(1000))])],
    ['identity', 'identity', (b) => b],
  ])
    it(`are taken in ${name}`, async () => {
      const form = newsletterForm(readers(300));
      const res = await send(form, pack(form.body), encoding);
      assert.equal(res.status, 200, await res.text());
      await arrives(form, 300);
    });

  it('that are not what they say are refused, and nothing is sent', async () => {
    const before = postern.batches().length;
    const form = newsletterForm(readers(3));
    const packed = gzipSync(form.body);
    const damaged = Buffer.from(packed);
    damaged[damaged.length - 6] ^= 1; // its checksum
    for (const [body, encoding, why] of [
      [form.body, 'gzip', /^The body is not what its Content-Encoding says$/],
      [packed.subarray(0, packed.length - 20), 'gzip', /not what/],
      [damaged, 'gzip', /not what/],
      [Buffer.concat([packed, Buffer.from('more')]), 'gzip', /not what/],
      [Buffer.alloc(0), 'gzip', /not what/],
      [packed, 'br', /^Content-Encoding is not supported/],
    ]) {
      const res = await send(form, body, encoding);
      assert.equal(res.status, 400);
      assert.match((await res.json()).message, why);
    }
    assert.equal(postern.batches().length, before);
  });

  it('that unfold beyond max_body are refused before they take its memory', async () => {
    const form = newsletterForm(readers(1), { html: 'x'.repeat(300 << 20) });
    const packed = gzipSync(form.body);
    assert.ok(packed.length < 1 << 20);
    const res = await send(form, packed, 'gzip');
    assert.equal(res.status, 413);
    assert.equal((await res.json()).message, 'request size exceeds 4MiB limit');
    assert.equal((await postern.request('GET', `/v3/${domain}/events?limit=1`)).status, 200);
  });

  it('may come in chunks, and after "Expect: 100-continue"', async () => {
    for (const expect of [false, true]) {
      const form = newsletterForm(readers(50));
      const status = await new Promise((resolve, reject) => {
        const req = http.request({
          host: '127.0.0.1', port: postern.port, method: 'POST', path: `/v3/${domain}/messages`,
          headers: {
            Authorization: `Basic ${Buffer.from(`api:${key}`).toString('base64')}`,
            'Content-Type': `multipart/form-data; boundary=${form.boundary}`,
            'Transfer-Encoding': 'chunked',
            ...(expect && { Expect: '100-continue' }),
          },
        });
        req.on('error', reject);
        req.on('response', (res) => (res.resume(), resolve(res.statusCode)));
        const write = () => {
          for (let at = 0; at < form.body.length; at += 777) req.write(form.body.subarray(at, at + 777));
          req.end();
        };
        if (expect) req.on('continue', write);
        else write();
        req.flushHeaders();
      });
      assert.equal(status, 200);
      await arrives(form, 50);
    }
  });
});
