// What was sent goes out again: POST to a stored message's URL, as curl, fetch and mailgun.js do it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import { Postern, domain, isSettled, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
after(stopAll);

const form = (fields) => ({ body: new URLSearchParams(fields) });
const pathOf = (id) => `/v3/domains/${domain}/messages/${Buffer.from(id.replace(/[<>]/g, '')).toString('base64url')}`;
const ann = 'ann@readers.example.net';

describe('a stored message, sent again', () => {
  let postern;
  before(async () => {
    postern = await Postern.start({ sections: { httpd: 'children = 1' } });
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, delivery_delay_ms_max: 50 });
  });
  after(() => postern?.stop());

  const settled = () => waitFor('the books', () => isSettled(postern.batches()));
  const send = async (fields, path = 'messages') => {
    const res = await postern.request('POST', `/v3/${domain}/${path}`, fields instanceof FormData ? { body: fields } : form(fields));
    assert.equal(res.status, 200, await res.clone().text());
    return (await res.json()).id;
  };
  const again = (id, fields, options = {}) => postern.request('POST', pathOf(id), { ...form(fields), ...options });
  const refused = async (res, status, message) => {
    const body = await res.json();
    assert.equal(res.status, status, JSON.stringify(body));
    assert.match(body.message, message);
  };
  /** All that SES was asked to send to this address, oldest first. */
  const requestsTo = async (address) => {
    await settled();
    const seen = new Map();
    for (const { request } of await postern.sandbox.messages(`?recipient=${address}`)) seen.set(JSON.stringify(request), request);
    return [...seen.values()];
  };
  const eventsOf = (id, event) =>
    waitFor(`${event} of ${id}`, async () => {
      const { items } = await (await postern.request('GET', `/v3/${domain}/events?event=${event}&message-id=${id.replace(/[<>]/g, '')}`)).json();
      return items.length > 0 && items;
    });

  it('has the same content and a new id, and is on disk before the answer', async () => {
    const id = await send([['from', `"Ann, B." <a@${domain}>`], ['to', ann], ['subject', 'Invoice 7'], ['text', 'Hi %recipient.name%'], ['html', '<p>Hi</p>'], ['h:X-Kind', 'invoice'], ['v:order', '7'], ['o:tag', 'invoices']]);
    const res = await again(id, [['to', 'Bob <bob@readers.example.net>, cem@readers.example.net'], ['to', 'bob@readers.example.net']]);
    assert.equal(res.status, 200);
    const answer = await res.json();
    assert.equal(answer.message, 'Queued. Thank you.');
    assert.match(answer.id, /^<\d{14}\.[0-9a-f]{16}@mg\.example\.com>$/);
    assert.notEqual(answer.id, id);
    const before = await (await postern.request('GET', pathOf(id))).json();
    const after = await (await postern.request('GET', pathOf(answer.id))).json();
    assert.equal(after.recipients, 'bob@readers.example.net, cem@readers.example.net');
    for (const name of ['from', 'subject', 'body-plain', 'body-html']) assert.equal(after[name], before[name]);
    assert.equal(before.subject, 'Invoice 7');
    assert.ok(after['message-headers'].some(([name, value]) => name === 'X-Kind' && value === 'invoice'));
    const [first] = await requestsTo(ann);
    const [second] = await requestsTo('bob@readers.example.net');
    assert.deepEqual(second.Content.Simple.Body, first.Content.Simple.Body);
    assert.deepEqual(second.Destination.ToAddresses, ['Bob <bob@readers.example.net>', 'cem@readers.example.net']);
    const accepted = await eventsOf(answer.id, 'accepted');
    assert.deepEqual(accepted.map((e) => e.recipient).sort(), ['bob@readers.example.net', 'cem@readers.example.net']);
    assert.deepEqual(accepted[0].tags, ['invoices']);
    assert.equal(accepted[0]['user-variables'].order, '7');
    assert.equal((await eventsOf(answer.id, 'delivered')).length > 0, true);
  });

  it('goes to the same reader once more, with his variables, although the newsletter has an email-id', async () => {
    const to = readers(60, 'again');
    const newsletter = newsletterForm(to);
    const res = await postern.post(newsletter);
    const { id } = await res.json();
    await settled();
    const answer = await again(id, [['to', to[55].toUpperCase()], ['to', 'new@readers.example.net']]);
    assert.equal(answer.status, 200);
    const fresh = (await answer.json()).id;
    await settled();
    const book = postern.batches().find((b) => b['message-id'] === fresh.replace(/[<>]/g, '')) ?? postern.batches()[0];
    assert.equal(book.sent, 2);
    const [event] = (await eventsOf(fresh, 'accepted')).filter((e) => e.recipient === to[55].toUpperCase());
    assert.equal(event['user-variables']['email-id'], newsletter.emailId);
    const entries = (await requestsTo(to[55].toUpperCase())).flatMap((r) => r.BulkEmailEntries);
    const entry = entries.find((e) => e.Destination.ToAddresses[0] === to[55].toUpperCase()); // each for himself
    assert.match(JSON.stringify(entry), new RegExp(`unsubscribe/\\?uuid=${to[55]}`));
    const other = entries.find((e) => e.Destination.ToAddresses[0] === 'new@readers.example.net');
    assert.doesNotMatch(JSON.stringify(other), /uuid=/);
  });

  it('of messages.mime as well, whose header it keeps', async () => {
    const whole = new FormData();
    const mime = `From: a@${domain}\r\nTo: Everybody <all@readers.example.net>\r\nSubject: whole\r\nMessage-Id: <own.1@${domain}>\r\n\r\nHi there\r\n`;
    whole.append('to', ann);
    whole.append('message', new Blob([mime]), 'message.mime');
    const id = await send(whole, 'messages.mime');
    assert.equal(id, `<own.1@${domain}>`);
    const res = await again(id, [['to', 'dora@readers.example.net']]);
    assert.equal(res.status, 200);
    const fresh = (await res.json()).id;
    assert.notEqual(fresh, id);
    const [request] = await requestsTo('dora@readers.example.net');
    const raw = Buffer.from(request.Content.Raw.Data, 'base64').toString();
    assert.match(raw, /^To: Everybody <all@readers\.example\.net>\r$/m);
    assert.match(raw, /\r\n\r\nHi there\r\n/);
    assert.deepEqual(raw.match(/^Message-Id: .*$/gim), [`Message-Id: ${fresh}`]);
    const stored = await (await postern.request('GET', pathOf(fresh), { headers: { Accept: 'message/rfc2822' } })).json();
    assert.equal(stored.recipients, 'dora@readers.example.net');
  });

  it('keeps its attachments, and a scheduled one goes at once', async () => {
    const fields = new FormData();
    for (const [name, value] of Object.entries({ from: `a@${domain}`, to: 'later@readers.example.net', subject: 'files', text: 'x', 'o:deliverytime': String(Math.floor(Date.now() / 1000) + 86400) })) fields.append(name, value);
    fields.append('attachment', new Blob([Buffer.from([0, 1, 2, 255])], { type: 'application/x-odd' }), 'odd.bin');
    const id = await send(fields);
    assert.equal((await again(id, [['to', 'eva@readers.example.net']])).status, 200);
    const request = await waitFor('SES', async () => (await postern.sandbox.messages('?recipient=eva@readers.example.net'))[0]?.request);
    const raw = Buffer.from(request.Content.Raw.Data, 'base64').toString();
    assert.match(raw, /filename="odd\.bin"/);
    assert.match(raw, /\r\n\r\nAAEC\/w==\r\n/);
    assert.deepEqual(await postern.sandbox.messages('?recipient=later@readers.example.net'), []);
    assert.equal((await postern.request('DELETE', `/v3/${domain}/envelopes`)).status, 200);
  });

  it('meets suppressions as any other', async () => {
    const id = await send([['from', `a@${domain}`], ['to', ann], ['subject', 's'], ['text', 'x']]);
    assert.equal((await postern.request('POST', `/v3/${domain}/bounces`, form({ address: 'gone@readers.example.net' }))).status, 200);
    const res = await again(id, [['to', 'gone@readers.example.net']]);
    const [failed] = await eventsOf((await res.json()).id, 'failed');
    assert.equal(failed['delivery-status'].code, 605);
    assert.deepEqual(await postern.sandbox.messages('?recipient=gone@readers.example.net'), []);
  });

  it('is refused in Mailgun’s words, and nothing is sent', async () => {
    const id = await send([['from', `a@${domain}`], ['to', ann], ['subject', 'r'], ['text', 'x']]);
    await settled();
    const before = (await postern.sandbox.stats()).accepted_recipients;
    await refused(await again(id, []), 400, /^to parameter is missing$/);
    await refused(await again(id, [['to', '']]), 400, /^to parameter is missing$/);
    await refused(await again(id, [['to', 'nobody']]), 400, /^to parameter is not a valid address\. please check documentation$/);
    await refused(await again(id, [['to', 'b@readers.example.net, nobody']]), 400, /^to parameter is not a valid/);
    await refused(await again(id, [['to', ann], ['subject', 'other']]), 400, /'subject' parameter/);
    await refused(await again(id, readers(1001).map((r) => ['to', r])), 400, /^Too many recipients, max is 1000$/);
    await refused(await again('<no.such@message>', [['to', ann]]), 404, /^Message not found$/);
    await refused(await again(id, [['to', ann]], { body: '{"to":"x"}', headers: { 'Content-Type': 'application/json' } }), 400, /content type/);
    assert.equal((await again(id, [['to', ann]], { auth: 'api:wrong' })).status, 401);
    await settled();
    assert.equal((await postern.sandbox.stats()).accepted_recipients, before);
  });

  it('by curl and by mailgun.js', async () => {
    const id = await send([['from', `a@${domain}`], ['to', ann], ['subject', 'c'], ['text', 'x']]);
    const out = execFileSync('curl', ['-s', '--user', `api:${key}`, postern.url + pathOf(id), '-F', 'to=flo@readers.example.net', '-F', 'to=gus@readers.example.net'], { encoding: 'utf8' });
    assert.equal(JSON.parse(out).message, 'Queued. Thank you.');
    for (const version of ['10', '14']) {
      const loaded = require(`mailgun.js-${version}`);
      const mg = new (loaded.default ?? loaded)(require('form-data')).client({ username: 'api', key, url: postern.url });
      const answer = await mg.request.postWithFD(pathOf(id), { to: [`js${version}@readers.example.net`] });
      assert.equal(answer.status, 200);
      assert.match(answer.body.id, /^<.*>$/);
      assert.equal((await requestsTo(`js${version}@readers.example.net`)).length, 1);
    }
    assert.equal((await requestsTo('gus@readers.example.net')).length, 1);
  });

  it('whose h:Message-Id holds a variable is found by every reader’s id', async () => {
    const to = readers(3, 'own');
    const ids = Object.fromEntries(to.map((r, i) => [r, { message_id: `issue-9.${i}@${domain}` }]));
    const post = () => postern.post(newsletterForm(to, { variables: ids, html: '<p>nine</p>', text: 'nine', subject: 'Nine', extra: [['h:Message-Id', '<%recipient.message_id%>']] }));
    assert.equal((await (await post()).json()).id, '<%recipient.message_id%>');
    for (let i = 0; i < to.length; i++) {
      const [event] = await eventsOf(`issue-9.${i}@${domain}`, 'accepted');
      assert.equal(event.recipient, to[i]);
      const stored = await postern.request('GET', new URL(event.storage.url).pathname);
      assert.equal(stored.status, 200);
      assert.equal((await stored.json()).subject, 'Nine');
    }
    const res = await again(`issue-9.1@${domain}`, [['to', 'hal@readers.example.net']]);
    assert.equal(res.status, 200);
    assert.match((await res.json()).id, /^<\d{14}\./);
    assert.equal((await requestsTo('hal@readers.example.net')).length, 1);
  });
});
