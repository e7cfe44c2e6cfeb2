// POST /v1/send, POST /stats/getNewsletterUsage and GET /healthcheck, which an older proxy's callers know.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import PostalMime from 'postal-mime';
import { Postern, domain, isSettled, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const SES_ID = /^[0-9a-f]{16}-[0-9a-f-]+$/;
const OWN_ID = /^\d{14}\.[0-9a-f]{16}@mg\.example\.com$/;
const ann = 'ann@readers.example.net';
const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, delivery_delay_ms_max: 50 };
const mail = { from: `Desk <desk@${domain}>`, to: ann, subject: 'Your link', html: '<p>Hi</p>' };

const post = (p, path, body, auth = `api:${key}`) =>
  p.request('POST', path, { auth, body: typeof body === 'string' ? body : JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
const send = async (p, body, auth) => {
  const res = await post(p, '/v1/send', body, auth);
  assert.match(res.headers.get('content-type'), /^application\/json/);
  return { status: res.status, body: await res.json() };
};
const sent = async (p, body, auth) => {
  const got = await send(p, body, auth);
  assert.equal(got.status, 200, JSON.stringify(got.body));
  assert.equal(got.body.success, true);
  assert.match(got.body.timestamp, ISO);
  assert.equal(got.body.message, 'Operation completed successfully');
  return got.body.data;
};
const requestTo = async (p, address) => (await p.sandbox.messages(`?recipient=${address}`)).map((m) => m.request);
const conf = (extra) => `domain "${domain}" { api_keys = {"${key}"} sending_keys = {"only-sends"} ${extra} }`;

describe('POST /v1/send', () => {
  let p;
  before(async () => {
    p = await Postern.start({ domains: {}, conf: conf(`system_from = "System <system@${domain}>" newsletter_configuration_set = "ghost-mailgun-proxy-set" system_configuration_set = "ghost-mailgun-proxy-system-set"`), sections: { httpd: 'children = 1' } });
    await p.sandbox.set(quiet);
  });
  after(() => p?.stop());

  it('answers once SES has taken the mail, with its id', async () => {
    const data = await sent(p, { ...mail, to: [ann, 'Bob <bob@readers.example.net>'], replyTo: 'help@mg.example.com', text: 'Hi', tags: ['welcome'], headers: { 'X-Kind': 'link' } });
    assert.match(data.messageId, SES_ID);
    assert.deepEqual([data.status, data.recipients], ['sent', 2]);
    const [request] = await requestTo(p, ann);
    assert.equal(request.FromEmailAddress, `Desk <desk@${domain}>`);
    assert.deepEqual(request.Destination.ToAddresses, [ann, 'Bob <bob@readers.example.net>']);
    assert.deepEqual(request.ReplyToAddresses, ['help@mg.example.com']);
    assert.equal(request.ConfigurationSetName, 'ghost-mailgun-proxy-system-set');
    assert.equal(request.Content.Simple.Body.Html.Data, '<p>Hi</p>');
    assert.ok(request.Content.Simple.Headers.some((h) => h.Name === 'X-Kind' && h.Value === 'link'));
    const message = (await p.sandbox.messages(`?recipient=${ann}`)).find((m) => JSON.stringify(m).includes(data.messageId));
    assert.ok(message, 'the id is not SES’s');
    const events = await waitFor('its events', async () => {
      const { items } = await (await p.request('GET', `/v3/${domain}/events?event=delivered&recipient=${ann}`)).json();
      return items.length > 0 && items;
    });
    assert.deepEqual(events[0].tags, ['welcome']);
  });

  it('takes the default sender, which is who gets the answers, and a key that may only send', async () => {
    const { from, ...rest } = mail;
    assert.ok(from);
    await sent(p, { ...rest, to: 'default@readers.example.net' }, 'api:only-sends');
    const [request] = await requestTo(p, 'default@readers.example.net');
    assert.equal(request.FromEmailAddress, `System <system@${domain}>`);
    assert.deepEqual(request.ReplyToAddresses, [`System <system@${domain}>`]);
  });

  it('carries attachments, also those that the HTML shows', async () => {
    await sent(p, {
      ...mail,
      to: 'files@readers.example.net',
      html: '<img src="cid:logo@x">',
      attachments: [
        { filename: 'a b.pdf', content: Buffer.from([37, 80, 0, 255]).toString('base64'), contentType: 'application/pdf' },
        { filename: 'logo.png', content: Buffer.from('png').toString('base64'), contentType: 'image/png', contentId: '<logo@x>' },
      ],
    });
    const [request] = await requestTo(p, 'files@readers.example.net');
    const parsed = await PostalMime.parse(Buffer.from(request.Content.Raw.Data, 'base64'));
    const [pdf, logo] = ['a b.pdf', 'logo.png'].map((name) => parsed.attachments.find((a) => a.filename === name));
    assert.deepEqual([...new Uint8Array(pdf.content)], [37, 80, 0, 255]);
    assert.equal(pdf.mimeType, 'application/pdf');
    assert.equal(logo.contentId, '<logo@x>');
    assert.equal(Buffer.from(logo.content).toString(), 'png');
  });

  it('says all that is wrong, and sends nothing', async () => {
    const before = (await p.sandbox.stats()).accepted_recipients;
    const cases = [
      ['{', /^Invalid JSON in request body$/],
      ['[]', /^Request body must be an object$/],
      ['"x"', /^Request body must be an object$/],
      [{}, /^Validation failed: 'to': is required; 'subject': is required; 'html': is required$/],
      [{ ...mail, to: [] }, /^Validation failed: 'to': must hold at least one address$/],
      [{ ...mail, to: 'nobody' }, /^Validation failed: 'to': 'nobody' is not a valid email address$/],
      [{ ...mail, to: [ann, 7] }, /^Validation failed: 'to': must be a string or a list of strings$/],
      [{ ...mail, to: 'a@x.example\r\nBcc: b@x.example' }, /^Validation failed: 'to': /],
      [{ ...mail, subject: 7 }, /^Validation failed: 'subject': must be a string$/],
      [{ ...mail, subject: 'a\nb' }, /^Validation failed: 'subject': must not hold/],
      [{ ...mail, html: '' }, /^Validation failed: 'html': must not be empty$/],
      [{ ...mail, from: 'a@b@c' }, /^Validation failed: 'from': is not a valid email address$/],
      [{ ...mail, from: 'a@x.example, b@x.example' }, /^Validation failed: 'from': /],
      [{ ...mail, replyTo: 'x' }, /^Validation failed: 'replyTo': is not a valid/],
      [{ ...mail, headers: { 'X-A': 'b\r\nX-B: c' } }, /^Validation failed: 'headers': /],
      [{ ...mail, headers: { 'X-Mailgun-Recipient-Variables': '{}' } }, /^Validation failed: 'headers': /],
      [{ ...mail, headers: { 'X-Ä': 'b' } }, /^Validation failed: 'headers': Header name must be pure ASCII: X-Ä$/],
      [{ ...mail, tags: 'x' }, /^Validation failed: 'tags': must be a list of strings$/],
      [{ ...mail, attachments: [{ filename: 'a', content: '***' }] }, /^Validation failed: 'attachments\[0\]': 'content' must be base64/],
      [{ ...mail, attachments: [{ content: 'YQ==' }] }, /^Validation failed: 'attachments\[0\]': 'filename'/],
      [{ ...mail, attachments: [{ filename: 'a', content: 'YQ==', contentType: 'a/b\r\nX: y' }] }, /'contentType'/],
      [{ ...mail, idempotencyKey: '' }, /^Validation failed: 'idempotencyKey': /],
      [{ ...mail, to: readers(1001) }, /^Validation failed: 'to': Too many recipients, max is 1000$/],
    ];
    for (const [body, message] of cases) {
      const got = await send(p, body);
      assert.equal(got.status, 400, JSON.stringify(got.body));
      assert.match(got.body.message, message);
      assert.deepEqual(Object.keys(got.body).sort(), ['error', 'message', 'success', 'timestamp']);
      assert.deepEqual([got.body.success, got.body.error], [false, 'Validation Error']);
      assert.match(got.body.timestamp, ISO);
    }
    const wrong = await send(p, mail, 'api:wrong');
    assert.deepEqual([wrong.status, wrong.body], [401, { error: 'authentication failed' }]);
    assert.equal((await p.request('GET', '/v1/send')).status, 405);
    await waitFor('the books', () => isSettled(p.batches()));
    assert.equal((await p.sandbox.stats()).accepted_recipients, before);
  });

  it('with the same idempotencyKey answers the first one’s id, and sends nothing', async () => {
    const first = await sent(p, { ...mail, to: 'once@readers.example.net', idempotencyKey: 'order-7' });
    const again = await sent(p, { ...mail, to: 'once@readers.example.net', idempotencyKey: 'order-7' });
    const others = await sent(p, { ...mail, to: 'twice@readers.example.net', subject: 'other', idempotencyKey: 'order-7' });
    assert.equal(again.messageId, first.messageId);
    assert.equal(others.messageId, first.messageId);
    assert.match(first.messageId, SES_ID);
    assert.equal((await requestTo(p, 'once@readers.example.net')).length, 1);
    assert.equal((await requestTo(p, 'twice@readers.example.net')).length, 0);
    const other = await sent(p, { ...mail, to: 'once@readers.example.net', idempotencyKey: 'order-8' });
    assert.notEqual(other.messageId, first.messageId);
    // without a key whoever asks twice means it
    await sent(p, { ...mail, to: 'once@readers.example.net' });
    assert.equal((await requestTo(p, 'once@readers.example.net')).length, 3);
    // at the same time
    const both = await Promise.all(Array.from({ length: 5 }, () => sent(p, { ...mail, to: 'race@readers.example.net', idempotencyKey: 'race' })));
    assert.equal(new Set(both.map((d) => d.messageId)).size, 1);
    assert.equal((await requestTo(p, 'race@readers.example.net')).length, 1);
    // and when all was started anew
    await p.stop();
    await p.launch();
    assert.equal((await sent(p, { ...mail, to: 'once@readers.example.net', idempotencyKey: 'order-7' })).messageId, first.messageId);
  });

  it('does not wait for SES for ever, and tells what SES has refused', async () => {
    await p.sandbox.set({ sending_enabled: 0 });
    const asked = Date.now();
    const data = await sent(p, { ...mail, to: 'held@readers.example.net', idempotencyKey: 'held' });
    assert.ok(Date.now() - asked >= 4900 && Date.now() - asked < 15000);
    assert.equal(data.status, 'queued');
    assert.match(data.messageId, OWN_ID);
    await p.sandbox.set({ sending_enabled: 1 });
    p.cli('domains', 'resume', domain);
    await waitFor('the mail', async () => (await requestTo(p, 'held@readers.example.net')).length > 0);
    await waitFor('the books', () => isSettled(p.batches()));
    const later = await sent(p, { ...mail, to: 'held@readers.example.net', idempotencyKey: 'held' });
    assert.match(later.messageId, SES_ID);
    assert.equal((await requestTo(p, 'held@readers.example.net')).length, 1);
    await p.sandbox.set({ fail_rate: 10000, fail_status: 400 });
    const refused = await send(p, { ...mail, to: 'refused@readers.example.net' });
    await p.sandbox.set({ fail_rate: 0 });
    assert.equal(refused.status, 500, JSON.stringify(refused.body));
    assert.deepEqual([refused.body.success, refused.body.error], [false, 'Internal Server Error']);
    assert.match(refused.body.message, /^SES has refused the mail: ./);
  });

  it('says when the reader is suppressed', async () => {
    assert.equal((await p.request('POST', `/v3/${domain}/bounces`, { body: new URLSearchParams({ address: 'gone@readers.example.net' }) })).status, 200);
    const data = await sent(p, { ...mail, to: 'gone@readers.example.net' });
    assert.equal(data.status, 'suppressed');
    assert.match(data.messageId, OWN_ID);
  });

  it('says "queued" when SES’s answer was lost, and sends it once', async () => {
    await p.sandbox.set({ lose_answer_rate: 10000 });
    const data = await sent(p, { ...mail, to: 'lost@readers.example.net' });
    await p.sandbox.set({ lose_answer_rate: 0 });
    assert.equal(data.status, 'queued');
    assert.match(data.messageId, OWN_ID);
    await waitFor('the books', () => isSettled(p.batches()), 60000);
    assert.equal((await requestTo(p, 'lost@readers.example.net')).length, 1);
  });

  it('waits on while the writer and the senders are killed', async () => {
    await p.sandbox.set({ sending_enabled: 0 });
    const answer = send(p, { ...mail, to: 'killed@readers.example.net' });
    await waitFor('the hold', async () => (await (await p.request('GET', `/v3/domains/${domain}/sending_queues`)).json()).regular.is_disabled);
    await p.sandbox.set({ sending_enabled: 1 });
    for (const pid of [...p.pids('sender'), ...p.pids('writer')]) process.kill(pid, 'SIGKILL');
    const got = await answer;
    assert.equal(got.status, 200, JSON.stringify(got.body));
    assert.match(got.body.data.messageId, got.body.data.status === 'sent' ? SES_ID : OWN_ID);
    await waitFor('the books', () => isSettled(p.batches()), 60000);
    assert.equal((await requestTo(p, 'killed@readers.example.net')).length, 1);
  });

  it('by curl', () => {
    const out = execFileSync('curl', ['-s', '--user', `api:${key}`, '-H', 'Content-Type: application/json', `${p.url}/v1/send`, '-d', JSON.stringify({ ...mail, to: 'curl@readers.example.net' })], { encoding: 'utf8' });
    assert.match(JSON.parse(out).data.messageId, SES_ID);
  });
});

describe('POST /v1/send beside a newsletter', () => {
  it('overtakes it', async () => {
    const p = await Postern.start({ sections: { sender: 'max_rate = "100"' } });
    await p.sandbox.set(quiet);
    assert.equal((await p.post(newsletterForm(readers(1000, 'news')))).status, 200);
    await waitFor('its first mails', () => p.batches()[0].sent > 0);
    const data = await sent(p, { ...mail, to: 'quick@readers.example.net' });
    assert.equal(data.status, 'sent');
    assert.ok(p.batches().some((b) => b.pending > 100), 'the newsletter was through before');
    assert.equal((await p.request('DELETE', `/v3/${domain}/envelopes`)).status, 200);
    await p.stop();
  });
});

describe('POST /v1/send with several domains', () => {
  it('goes by the one that From names, or that names From, and by no other', async () => {
    const p = await Postern.start({
      domains: {},
      conf: `domain "a.example.com" { api_keys = {"two"} allowed_from = {"a.example.com"} system_configuration_set = "ghost-mailgun-proxy-set" }
        domain "b.example.com" { api_keys = {"two"} allowed_from = {"b.example.com", "sister.example"} system_configuration_set = "ghost-mailgun-proxy-system-set" }
        domain "c.example.com" { api_keys = {"other"} }`,
    });
    await p.sandbox.set(quiet);
    for (const [from, set] of [['x@a.example.com', 'ghost-mailgun-proxy-set'], ['x@B.example.com', 'ghost-mailgun-proxy-system-set'], ['x@sister.example', 'ghost-mailgun-proxy-system-set']]) {
      const to = `${from.replace('@', '-at-')}@readers.example.net`.toLowerCase();
      await sent(p, { ...mail, from, to }, 'api:two');
      assert.equal((await requestTo(p, to))[0].ConfigurationSetName, set);
    }
    for (const from of ['x@c.example.com', 'x@elsewhere.example']) {
      const got = await send(p, { ...mail, from }, 'api:two');
      assert.equal(got.status, 400);
      assert.equal(got.body.message, `Validation failed: 'from': this key may not send from ${from}`);
    }
    const none = await send(p, { ...mail, from: undefined }, 'api:two');
    assert.equal(none.status, 500);
    assert.match(none.body.message, /^No sender/);
    await p.stop();
  });
});

describe('the older proxy’s other paths', () => {
  it('count newsletters that SES has taken, and tell health', async () => {
    const p = await Postern.start();
    await p.sandbox.set(quiet);
    const usage = async (body, action = 'getNewsletterUsage', auth) => {
      const res = await post(p, `/stats/${action}`, body, auth);
      return { status: res.status, body: await res.json() };
    };
    const from = Date.now() - 3600000;
    const range = { from, to: Date.now() + 3600000, siteId: domain };
    const count = async () => (await usage(range)).body.data.count;
    assert.equal(await count(), 0);
    assert.equal((await p.post(newsletterForm(readers(70)))).status, 200);
    await sent(p, mail); // is none
    await waitFor('the books', () => isSettled(p.batches()));
    const got = await usage(range);
    assert.equal(got.status, 200);
    assert.deepEqual(Object.keys(got.body), ['status', 'data']);
    assert.equal(got.body.status, 'ok');
    assert.match(got.body.data.timestamp, ISO);
    assert.deepEqual({ ...got.body.data, timestamp: 0 }, { forRange: { gte: new Date(range.from).toISOString(), lte: new Date(range.to).toISOString() }, message: 'newsletter usage', count: 70, timestamp: 0 });
    const hour = Math.floor(Date.now() / 3600000) * 3600000;
    assert.equal((await usage({ ...range, from: hour - 7200000, to: hour - 3600000 })).body.data.count, 0);
    assert.deepEqual(await usage(range, 'other'), { status: 400, body: { message: 'Invalid action' } });
    assert.deepEqual(await usage('{'), { status: 400, body: { message: 'Invalid JSON in request body' } });
    assert.equal((await usage({ ...range, from: 'x' })).status, 400);
    assert.equal((await usage({ ...range, to: from - 1 })).status, 400);
    assert.equal((await usage({ ...range, siteId: 'other.example' })).status, 404);
    assert.deepEqual(await usage(range, 'getNewsletterUsage', 'api:wrong'), { status: 401, body: { error: 'authentication failed' } });
    const health = await fetch(`${p.url}/healthcheck`);
    const body = await health.json();
    assert.deepEqual([health.status, body.status, Object.keys(body)], [200, 200, ['timestamp', 'status']]);
    assert.match(body.timestamp, ISO);
    await p.stop();
  });
});
