// Every parameter of POST …/messages that docs/api.md names does what its row says, or is refused in Mailgun's words.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import PostalMime from 'postal-mime';
import { Postern, domain, isSettled, root, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const later = String(Math.floor(Date.now() / 1000) + 86400);
const overrides = (request) => request.ConfigurationOverrides?.Tracking ?? {};
const header = (request, name) => (request.Content.Simple?.Headers ?? []).find((h) => h.Name.toLowerCase() === name)?.Value;
const parsed = (request) => PostalMime.parse(Buffer.from(request.Content.Raw.Data, 'base64'));
const file = (text, type, name) => [new Blob([text], { type }), name];
/** What differs from one mail to the next, whatever its parameters. */
const bare = (request) => JSON.stringify({ ...request, Destination: 0, EmailTags: 0 });

/** parameter: [fields, check]; check: what SES was asked (undefined: nothing), the mail's `accepted` event, a plain mail's request, the answer. */
const nothing = (value) => [value, ({ request, plain }) => assert.ok(request && plain) ?? assert.equal(bare(request), bare(plain))];
const refused = (value, message) => [value, ({ status, body }) => assert.deepEqual([status, body.message], [400, message])];
const clicks = (value, want) => [value, ({ request }) => assert.equal(overrides(request).ClickTrackingEnabled, want)];
const opens = (value, want) => [value, ({ request }) => assert.equal(overrides(request).OpenTrackingEnabled, want)];
const cases = {
  from: [[`"Ann, B." <ann@${domain}>`, ({ request }) => assert.equal(request.FromEmailAddress, `"Ann, B." <ann@${domain}>`)], refused('nobody', 'from parameter is not a valid address. please check documentation'), refused('', 'from parameter is missing')],
  to: [['Bo <bo@readers.example.net>', ({ request }) => assert.ok(request.Destination.ToAddresses.includes('Bo <bo@readers.example.net>'))], refused('nobody', 'to parameter is not a valid address. please check documentation')],
  cc: [['cc@readers.example.net', ({ request }) => assert.deepEqual(request.Destination.CcAddresses, ['cc@readers.example.net'])], refused('nobody', 'cc parameter is not a valid address. please check documentation')],
  bcc: [['bcc@readers.example.net', ({ request }) => assert.deepEqual(request.Destination.BccAddresses, ['bcc@readers.example.net'])], refused('nobody', 'bcc parameter is not a valid address. please check documentation')],
  subject: [['Zoë', ({ request }) => assert.equal(request.Content.Simple.Subject.Data, 'Zoë')]],
  text: [['Grüße', ({ request }) => assert.equal(request.Content.Simple.Body.Text.Data, 'Grüße')], refused('', "Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified")],
  html: [['<b>x</b>', ({ request }) => assert.equal(request.Content.Simple.Body.Html.Data, '<b>x</b>')]],
  'amp-html': [['<html amp4email>', ({ request }) => assert.match(Buffer.from(request.Content.Raw.Data, 'base64').toString(), /text\/x-amp-html/)]],
  attachment: [[file('abc', 'text/csv', 'a.csv'), async ({ request }) => assert.deepEqual((await parsed(request)).attachments.map((a) => [a.filename, a.mimeType, Buffer.from(a.content).toString()]), [['a.csv', 'text/csv', 'abc']])]],
  inline: [[file('png', 'image/png', 'logo.png'), async ({ request }) => assert.equal((await parsed(request)).attachments[0].contentId, '<logo.png>')]],
  'recipient-variables': [['{}', ({ request }) => assert.equal((request.Destination ?? request.BulkEmailEntries[0].Destination).ToAddresses.length, 1)], refused('{', "'recipient-variables' parameter is not a valid JSON"), refused('{"a@b.example":[]}', "'recipient-variables' parameter is not a valid JSON")],
  'h:…': [
    ['h:X-Own=one', ({ request }) => assert.equal(header(request, 'x-own'), 'one')],
    ['h:Reply-To=r@readers.example.net', ({ request }) => assert.deepEqual(request.ReplyToAddresses, ['r@readers.example.net'])],
    [`h:Message-Id=<own@${domain}>`, ({ body, event }) => assert.deepEqual([body.id, event.message.headers['message-id']], [`<own@${domain}>`, `own@${domain}`])],
    refused('h:X-Ö=x', 'Header name must be pure ASCII: X-Ö'),
    ['h:X-Mailgun-Variables={"a":"b"}', ({ event }) => assert.equal(event['user-variables'].a, 'b')],
    ['h:X-Mailgun-Recipient-Variables={}', ({ request }) => assert.equal((request.Destination ?? request.BulkEmailEntries[0].Destination).ToAddresses.length, 1)],
  ],
  'h:X-Mailgun-Tag': [['x', ({ event }) => assert.deepEqual(event.tags, ['x'])]],
  'h:X-Mailgun-Deliver-By': [[later, ({ request }) => assert.equal(request, undefined)]],
  'h:X-Mailgun-Drop-Message': [['yes', ({ request, event }) => assert.deepEqual([request, event.flags['is-test-mode']], [undefined, true])]],
  'h:X-Mailgun-Track': [opens('yes', 'ENABLED')],
  'h:X-Mailgun-Track-Clicks': [clicks('yes', 'ENABLED')],
  'h:X-Mailgun-Track-Opens': [opens('yes', 'ENABLED')],
  'v:…': [['v:n=7', ({ request, event }) => assert.deepEqual([event['user-variables'].n, header(request, 'x-mailgun-variables')], ['7', '{"n":"7"}'])]],
  'o:tag': [['Weekly', ({ event }) => assert.deepEqual(event.tags, ['Weekly'])]],
  'o:deliverytime': [
    [later, ({ request }) => assert.equal(request, undefined)],
    ['Thu, 01 Jan 1970 00:00:00 GMT', ({ request }) => assert.ok(request)],
    refused('soon', 'soon is not an RFC-2822 compliant date'),
    refused(String(Math.floor(Date.now() / 1000) + 8 * 86400), "invalid delivery time: 'o:deliverytime' is more than 7 days ahead"),
  ],
  'o:testmode': [['yes', ({ request, event }) => assert.deepEqual([request, event.flags['is-test-mode']], [undefined, true])], ['no', ({ request }) => assert.ok(request)]],
  'o:tracking': [clicks('yes', 'ENABLED'), opens('True', 'ENABLED'), clicks('htmlonly', 'ENABLED'), clicks('no', 'DISABLED'), nothing('perhaps')],
  'o:tracking-opens': [opens('yes', 'ENABLED'), opens('0', 'DISABLED')],
  'o:tracking-clicks': [clicks('htmlonly', 'ENABLED'), clicks('FALSE', 'DISABLED')],
  'o:suppress-headers': [['all', ({ request }) => assert.equal(header(request, 'x-mailgun-variables'), undefined)], ['X-Mailgun-Variables', ({ request }) => assert.equal(header(request, 'x-mailgun-variables'), undefined)]],
  'o:time-zone-localize': [nothing('13:45'), nothing('01:45PM'), refused('25:00', "25:00 invalid 24 hour time(value of 'o:time-zone-localize')")],
  'o:dkim': [nothing('no')],
  'o:secondary-dkim': [nothing('example.com/s1')],
  'o:secondary-dkim-public': [nothing('example.com/s1')],
  'o:require-tls': [nothing('yes')],
  'o:skip-verification': [nothing('yes')],
  'o:sending-ip': [nothing('192.0.2.1')],
  'o:sending-ip-pool': [nothing('pool')],
  'o:deliver-within': [nothing('1h30m')],
  'o:deliverytime-optimize-period': [nothing('24h')],
  'o:tracking-pixel-location-top': [nothing('yes')],
  'o:archive-to': [nothing('https://archive.example/')],
  'o:native-send': [nothing('yes')],
  // not in the table: whatever else comes
  'o:unheard-of': [nothing('x')],
  'unheard-of': [nothing('x')],
  'h:X-Mailgun-Dkim': [nothing('no')],
  'h:X-Mailgun-Require-TLS': [nothing('yes')],
  'h:X-Mailgun-Skip-Verification': [nothing('yes')],
};
const beside = new Set(['o:unheard-of', 'unheard-of', 'h:X-Mailgun-Dkim', 'h:X-Mailgun-Require-TLS', 'h:X-Mailgun-Skip-Verification']);
/** Those of templates have tests of their own. */
const elsewhere = /^(template|t:.*|o:|h:|v:|t:)$/;

describe('a parameter of a message', () => {
  let p, plain;
  const seen = [];

  before(async () => {
    p = await Postern.start();
    await p.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, delivery_delay_ms_max: 20 });
    const send = async (serial, name, value) => {
      const own = `case${serial}@readers.example.net`;
      const fields = new FormData();
      const given = name.endsWith(':…') ? value.slice(0, value.indexOf('=')) : name;
      const text = name.endsWith(':…') ? value.slice(value.indexOf('=') + 1) : value;
      const all = { from: `desk@${domain}`, subject: 's', text: 'x', ...(given === 'o:suppress-headers' ? { 'v:a': 'b' } : {}) };
      delete all[given];
      for (const [k, v] of Object.entries(all)) fields.append(k, v);
      if (given !== 'to') fields.append('to', own);
      if (given === 'to' || /recipient-variables/i.test(given)) fields.append('to', given === 'to' ? text : `second${serial}@readers.example.net`);
      if (given === 'to' && text.includes('@')) fields.append('to', own);
      if (given !== 'to' && given !== '') fields.append(given, ...(Array.isArray(text) ? text : [text]));
      const res = await p.request('POST', `/v3/${domain}/messages`, { body: fields });
      return { own, status: res.status, body: await res.json() };
    };
    plain = await send('plain', '', '');
    let serial = 0;
    for (const [name, list] of Object.entries(cases))
      for (const [value, check] of list) {
        const refusal = name.endsWith(':…') ? value.slice(0, value.indexOf('=')) : null;
        seen.push({ name, value: refusal ?? value, check, ...(await send(serial++, name, value)) });
      }
    await waitFor('the books', () => p.batches().every((b) => isSettled([b]) || b['due-ms'] > Date.now() || b.pending > 0) && p.batches().filter((b) => b.pending > 0).length === 2, 60000);
    const requests = new Map();
    for (const { request } of await p.sandbox.messages())
      for (const address of (request.BulkEmailEntries ?? [request]).flatMap((r) => [...(r.Destination.ToAddresses ?? []), ...(r.Destination.CcAddresses ?? [])])) requests.set(address, request);
    for (const one of [plain, ...seen]) {
      one.request = requests.get(one.own);
      if (one.status !== 200) continue;
      // The last second is not shown yet.
      await waitFor(`the event of ${one.own}`, async () => (one.event = (await (await p.request('GET', `/v3/${domain}/events?event=accepted&recipient=${one.own}`)).json()).items[0]), 10000);
    }
  });
  after(() => p?.stop());

  it('of the documentation’s table has a case here, and the other way round', () => {
    const text = fs.readFileSync(path.join(root, 'docs/api.md'), 'utf8');
    const table = /## Parameters of `POST …\/messages`([\s\S]*?)\n## /.exec(text)[1];
    const named = new Set();
    for (const row of table.split('\n').filter((l) => l.startsWith('| `') || l.startsWith('| all'))) {
      const [, first, second] = row.split('|');
      for (const [, name] of first.matchAll(/`([^`]+)`/g)) named.add(name);
      let stem = '';
      for (const [, name] of second.matchAll(/`((?:h:X-Mailgun)?-[A-Z][\w-]+|h:X-Mailgun-[\w-]+)`/g)) {
        stem = 'h:X-Mailgun';
        named.add(name.startsWith('h:') ? name : stem + name);
      }
    }
    const documented = [...named].filter((n) => !elsewhere.test(n)).sort();
    assert.deepEqual(Object.keys(cases).filter((n) => !beside.has(n)).sort(), documented);
  });

  for (const [name, list] of Object.entries(cases))
    it(`${name} does what it says`, async () => {
      const mine = seen.filter((s) => s.name === name);
      assert.equal(mine.length, list.length);
      for (const one of mine) {
        try {
          await one.check({ ...one, plain: plain.request });
        } catch (e) {
          e.message = `${name} = ${one.value}: ${e.message} (answer ${one.status} ${JSON.stringify(one.body)})`;
          throw e;
        }
      }
    });

  it('all of o:, h:, v:, t: together have 16 kB', async () => {
    const post = async (bytes) => (await p.request('POST', `/v3/${domain}/messages`, { body: new URLSearchParams({ from: `a@${domain}`, to: 'b@readers.example.net', text: 'x', 'v:a': 'x'.repeat(bytes) }) })).json();
    assert.match((await post(16384)).message, /^Send options \(parameters starting with o:, h:, v:, or t:\) are limited to 16 kB total$/);
    assert.equal((await post(16384 - 3)).message, 'Queued. Thank you.');
  });
});
