// What the official mailgun-ruby was answered by the real service, request by request: Postern answers with the
// same status and with objects of the same shape.
//
// The recordings (VCR cassettes, Apache License 2.0) are read where they lie: $POSTERN_SHARED/data/mailgun-ruby, else
// ../shared/data/mailgun-ruby. Their authors took domains out: some URLs lack the /v3/DOMAIN that was there.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { Postern, domain, isSettled, key, newsletterForm, readers, root, stopAll, waitFor } from './harness.mjs';

after(stopAll);
const folder = path.join(process.env.POSTERN_SHARED ?? path.join(root, '../shared'), 'data/mailgun-ruby/vcr_cassettes');
const second = 'integration-test.domain.invalid'; // as the recordings call it

/** What is not served: [method or any, path, the status of Postern's answer, why]. */
const notServed = [
  ['post|delete', /^\/v[34]\/domains($|\/[^/]+$)/, 403, 'domains are made in proxy.conf'],
  ['put', /^\/v4\/domains\/[^/]+$/, 403, 'domains are made in proxy.conf'],
  ['put', /^\/v3\/domains\/[^/]+\/(connection|dkim_authority|dkim_selector|web_prefix)$/, 403, 'domains are made in proxy.conf'],
  ['put', /^\/v3\/domains\/[^/]+\/tracking\//, 404, 'messages say what is tracked'],
  ['post', /^\/v3\/domains\/[^/]+\/credentials$/, 403, 'there is no SMTP here'],
  ['.*', /^\/v3\/domains\/[^/]+\/credentials\//, 404, 'there is no SMTP here'],
  ['.*', /^\/v4\/domains\/[^/]+\/keys/, 404, "DKIM keys are SES's"],
  ['.*', /^\/v1\/dkim\//, 404, "DKIM keys are SES's"],
  ['.*', /^\/v3\/lists/, 404, 'mailing lists: nothing here corresponds'],
  ['.*', /^\/v3\/routes/, 404, 'routes: no mail is received'],
  ['.*', /^\/v5\//, 404, 'no subaccounts'],
  ['.*', /^\/v4\/address\//, 404, 'no validation of addresses'],
  ['.*', /^\/v1\/analytics\/usage/, 404, 'no usage is billed here'],
  ['.*', /^\/v1\/analytics\/tags/, null, 'tags cannot be changed; the older endpoints show them'],
  ['get', /^\/v3\/[^/]+\/stats\?/, 404, "Mailgun's own endpoint of that name is gone; stats/total is served"],
  ['get', /^\/v3\?/, 404, 'a page of a list without its path: it cannot be told which'],
];
/** Where the answer is another one by intent: [cassette, path, their status, ours, why]. */
const otherwise = [
  ['exceptions-not-allowed', /messages$/, 403, 400, 'their account was not allowed to send; here it is addresses without @ that are wrong'],
  ['send_message', /messages$/, 403, 200, 'their account was not allowed to send'],
  ['send_message', /messages\.mime$/, 200, 400, 'the message was empty'],
];

/** Fields that mean nothing here: no mail comes in, none is stored; and a webhook that their account had from before. */
const absent = new Set(['domain.encrypt_incoming_message is missing', 'domain.message_ttl is missing', 'webhooks.clicked is missing']);

const kind = (v) => (v === null ? 'null' : Array.isArray(v) ? 'array' : typeof v);
/** Every way in which ours differs from theirs: fields that are missing or of another type. */
function differences(theirs, ours, at = '') {
  if (kind(theirs) !== kind(ours)) return [`${at}: ${kind(theirs)} became ${kind(ours)}`];
  if (Array.isArray(theirs)) return theirs.length && ours.length ? differences(theirs[0], ours[0], at) : [];
  if (kind(theirs) !== 'object') return [];
  return Object.keys(theirs).flatMap((name) => {
    const where = at ? `${at}.${name}` : name;
    return name in ours ? differences(theirs[name], ours[name], where) : [`${where} is missing`];
  });
}

/** Ruby's YAML puts a closing quote at the first column; others do not take that. */
const read = (name) => parse(fs.readFileSync(path.join(folder, name), 'utf8').replace(/^'$/gm, "        '"));
const isHere = fs.existsSync(folder);
describe("mailgun-ruby's recordings", { skip: isHere ? false : `SKIPPED: no recordings in ${folder} (set POSTERN_SHARED): NOTHING was replayed` }, () => {
  const pairs = [];
  let postern;

  before(async () => {
    for (const name of fs.readdirSync(folder, { recursive: true }).filter((f) => f.endsWith('.yml')).sort())
      for (const { request, response } of read(name).http_interactions) {
        const fill = (text) => text.replaceAll('DOMAIN.TEST', domain).replace(/(@|%40)(?=$|[/&?"])/g, `$1${domain}`);
        const url = new URL(request.uri.replace('<APIKEY>', 'k'));
        let target = fill(url.pathname) + url.search;
        if (!/^\/v\d/.test(target)) target = `/v3/${domain}${target}`;
        if (/domain not found/.test(response.body.string)) target = target.replace(second, 'not-there.example');
        pairs.push({
          cassette: name.replace('.yml', ''),
          method: request.method,
          target,
          type: request.headers['Content-Type']?.[0] ?? 'application/x-www-form-urlencoded',
          body: fill(request.body.string ?? ''),
          hasKey: name !== 'exceptions-invalid-api-key.yml' && response.status.code !== 401,
          status: response.status.code,
          answer: response.body.string ?? Buffer.from(response.body.base64_string ?? '', 'base64').toString(),
        });
      }
    postern = await Postern.start({ domains: { [domain]: [key], [second]: [key] } });
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, delivery_delay_ms_max: 50 });
    assert.equal((await postern.post(newsletterForm(readers(3)))).status, 200);
    await waitFor('the books', () => isSettled(postern.batches()));
  });
  after(() => postern?.stop());

  const send = (p) =>
    postern.request(p.method.toUpperCase(), p.target, {
      ...(p.hasKey ? {} : { auth: 'api:wrong' }),
      ...(p.body && p.method !== 'get' ? { body: p.body, headers: { 'Content-Type': p.type } } : {}),
    });
  const whyNot = (p) => notServed.find(([methods, at]) => new RegExp(`^(${methods})$`).test(p.method) && at.test(p.target));
  const intended = (p) => otherwise.find(([cassette, at, status]) => p.cassette === cassette && at.test(p.target) && p.status === status);

  /** What the recording takes for granted: an address that is asked for or removed is on its list. */
  const prepare = async (p) => {
    if (/\/templates\/test.template\/versions/.test(p.target) && p.status === 200)
      await postern.request('POST', `/v3/${second}/templates`, { body: new URLSearchParams({ name: 'test.template', template: 'x', tag: 'v1' }) });
    const [, list, address] = /^\/v3\/[^/]+\/(bounces|complaints|unsubscribes)(?:\/([^?]+))?$/.exec(p.target) ?? [];
    if (!list || p.method === 'post' || p.status !== 200 || (!address && !p.answer.includes('"address"'))) return;
    const body = new URLSearchParams({ address: address ? decodeURIComponent(address.replaceAll('+', '%2B')) : `integration@${domain}` });
    assert.equal((await postern.request('POST', `/v3/${domain}/${list}`, { body })).status, 200);
  };

  it('there are as many as there should be', () => assert.ok(pairs.length > 140, `${pairs.length}`));

  it('what is served answers with the same status and the same fields', async (t) => {
    let count = 0;
    const wrong = [];
    for (const p of pairs.filter((q) => !whyNot(q))) {
      await prepare(p);
      const res = await send(p);
      const text = await res.text();
      const where = `${p.cassette}: ${p.method} ${p.target}`;
      const other = intended(p);
      if (other) {
        assert.equal(res.status, other[3], `${where}: ${text}`);
        continue;
      }
      count++;
      if (res.status !== p.status) {
        wrong.push(`${where} ${p.body.slice(0, 200)}: ${p.status} became ${res.status} ${text.slice(0, 200)}`);
        continue;
      }
      if (!/^\s*[{[]/.test(p.answer)) {
        if (p.answer.trim() !== text.trim()) wrong.push(`${where}: ${p.answer} became ${text}`);
        continue;
      }
      for (const d of differences(JSON.parse(p.answer), JSON.parse(text))) if (!absent.has(d)) wrong.push(`${where}: ${d}`);
    }
    t.diagnostic(`${count} of ${pairs.length} pairs replayed`);
    assert.deepEqual(wrong, []);
    assert.ok(count >= 60, `${count}`);
  });

  it('what is not served says so', async (t) => {
    const reasons = new Map();
    for (const p of pairs) {
      const [, , status, why] = whyNot(p) ?? [];
      if (!why) continue;
      reasons.set(why, (reasons.get(why) ?? 0) + 1);
      if (status === null) continue; // to come
      const res = await send(p);
      assert.equal(res.status, status, `${p.cassette}: ${p.method} ${p.target}`);
      assert.equal(typeof (await res.json()).message, 'string');
    }
    for (const [why, n] of reasons) t.diagnostic(`${n} not served: ${why}`);
  });
});
