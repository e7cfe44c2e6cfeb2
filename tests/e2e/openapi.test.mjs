// docs/openapi.yaml says what is served: held against the answers of the running server, and against its routes.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import SwaggerParser from '@apidevtools/swagger-parser';
import Ajv from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { Postern, domain, isSettled, newsletterForm, readers, root, stopAll, waitFor } from './harness.mjs';

after(stopAll);
const masterKey = 'key-of-all-domains';
const METHODS = ['get', 'post', 'put', 'delete', 'head', 'patch'];
const LISTS = ['bounces', 'complaints', 'unsubscribes', 'whitelists'];
const form = (fields) => ({ body: new URLSearchParams(fields) });
const json = (body) => ({ body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });

describe('the OpenAPI file', () => {
  const file = path.join(root, 'docs/openapi.yaml');
  const operations = new Map(); // by id: {pathname, method, responses, route}
  const covered = new Map(); // by id: the statuses seen
  const compiled = new Map();
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  let api, postern;

  before(async () => {
    await SwaggerParser.validate(file);
    api = await SwaggerParser.dereference(file);
    for (const [pathname, item] of Object.entries(api.paths))
      for (const method of METHODS)
        if (item[method]) operations.set(item[method].operationId, { pathname, method, route: item['x-route'], parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])], ...item[method] });
    postern = await Postern.start({ conf: `api_keys = {"${masterKey}"}` });
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 10000, click_rate: 10000, delivery_delay_ms_max: 50 });
    const addresses = [...readers(4), 'bounce1@readers.example.net', 'softbounce1@readers.example.net', 'complaint1@readers.example.net'];
    assert.equal((await postern.post(newsletterForm(addresses, { html: '<a href="https://example.com/x">x</a>', extra: [['o:tracking-clicks', 'yes']] }))).status, 200);
    await waitFor('the books', () => isSettled(postern.batches()));
    await waitFor('clicks', async () => (await (await postern.request('GET', `/v3/${domain}/events?event=clicked`)).json()).items.length > 0);
  });
  after(() => postern?.stop());

  /** An answer as its operation says it is: status, type, headers, body. */
  const hold = async (id, res, where) => {
    const operation = operations.get(id);
    const said = operation.responses[res.status];
    const text = await res.text();
    assert.ok(said, `${where}: status ${res.status} does not stand in the file: ${text.slice(0, 200)}`);
    for (const [name, header] of Object.entries(said.headers ?? {})) {
      const value = res.headers.get(name);
      assert.ok(value !== null, `${where}: no ${name}`);
      assert.ok(ajv.validate(header.schema, header.schema.type === 'integer' ? Number(value) : value), `${where}: ${name}: ${value}`);
    }
    if (!covered.has(id)) covered.set(id, new Set());
    covered.get(id).add(res.status);
    if (operation.method === 'head') return null;
    const type = res.headers.get('content-type').split(';')[0];
    const content = said.content[type];
    assert.ok(content, `${where}: type ${type} does not stand in the file`);
    const body = type === 'application/json' ? JSON.parse(text) : text;
    const at = `${id} ${res.status} ${type}`;
    if (!compiled.has(at)) compiled.set(at, ajv.compile(content.schema));
    assert.ok(compiled.get(at)(body), `${where}: ${JSON.stringify(compiled.get(at).errors, null, 1)}\n${text.slice(0, 1500)}`);
    return body;
  };
  const target = (id, params, query) => {
    const filled = operations.get(id).pathname.replace(/\{(\w+)\}/g, (_, name) => {
      const value = { domain, ...params }[name];
      assert.ok(value !== undefined, `${id} needs ${name}`);
      return encodeURIComponent(value);
    });
    return query ? `${filled}?${new URLSearchParams(query)}` : filled;
  };
  const call = async (id, want, params = {}, { query, ...options } = {}) => {
    const at = target(id, params, query);
    const res = await postern.request(operations.get(id).method.toUpperCase(), at, options);
    const where = `${id} ${at}`;
    assert.equal(res.status, want, `${where}: ${await res.clone().text()}`);
    return hold(id, res, where);
  };

  it('is a valid one, and names every route of the server and no other', () => {
    const header = fs.readFileSync(path.join(root, 'httpd/route.h'), 'utf8');
    const kinds = [.../enum route_kind \{([^}]*)\}/.exec(header)[1].matchAll(/\bROUTE_([A-Z_]+)\b(?=[,\s])/g)].map((m) => m[1]);
    assert.ok(kinds.length > 10);
    const named = new Set(Object.values(api.paths).flatMap((p) => p['x-route']));
    assert.deepEqual([...named].sort(), kinds.filter((k) => !['NOT_FOUND', 'BAD_ESCAPE', 'DASHBOARD'].includes(k)).sort());
  });

  it('messages', async () => {
    const mail = { from: `a@${domain}`, to: 'b@readers.example.net', subject: 'x', text: 'y' };
    await call('sendMessage', 200, {}, form(mail));
    await call('sendMessage', 400, {}, form({ ...mail, from: '' }));
    const whole = new FormData();
    whole.append('to', 'b@readers.example.net');
    whole.append('message', new Blob([`From: a@${domain}\r\nTo: b@readers.example.net\r\nSubject: x\r\n\r\nHi\r\n`]), 'message.mime');
    await call('sendMimeMessage', 200, {}, { body: whole });
    await call('sendMimeMessage', 400, {}, form({ to: 'b@readers.example.net' }));
  });

  it('a stored message', async () => {
    const { items } = await call('getEvents', 200, {}, { query: { event: 'accepted', limit: 1 } });
    const { key } = items[0].storage;
    await call('getStoredMessage', 200, { key });
    await call('getStoredMessage', 406, { key }, { headers: { Accept: 'message/rfc2822' } });
    await call('getStoredMessage', 404, { key: 'bm90aGluZw' });
    const mime = `From: a@${domain}\r\nTo: b@readers.example.net\r\nSubject: whole\r\n\r\nHi there\r\n`;
    const whole = new FormData();
    whole.append('to', 'b@readers.example.net');
    whole.append('message', new Blob([mime]), 'message.mime');
    const { id } = await call('sendMimeMessage', 200, {}, { body: whole });
    const mimeKey = Buffer.from(id.slice(1, -1)).toString('base64url');
    const stored = await call('getStoredMessage', 200, { key: mimeKey }, { headers: { Accept: 'message/rfc2822' } });
    assert.match(stored['body-mime'], /Hi there/);
    assert.deepEqual([stored.subject, stored.recipients], ['whole', 'b@readers.example.net']);
    await call('resendStoredMessage', 200, { key }, form({ to: 'b@readers.example.net' }));
    await call('resendStoredMessage', 400, { key }, form({ to: 'nobody' }));
    await call('resendStoredMessage', 404, { key: 'bm90aGluZw' }, form({ to: 'b@readers.example.net' }));
  });

  it('what is queued, cancelled', async () => {
    const later = [['o:deliverytime', String(Math.floor(Date.now() / 1000) + 86400)]];
    assert.equal((await postern.post(newsletterForm(readers(60, 'later'), { emailId: 'scheduled-newsletter', extra: later }))).status, 200);
    await call('sendMessage', 200, {}, form([['from', `a@${domain}`], ['to', 'later@readers.example.net'], ['subject', 'x'], ['text', 'y'], ...later]));
    const open = () => postern.batches().reduce((n, b) => n + b.pending, 0);
    await waitFor('both to wait', () => open() === 61);
    assert.deepEqual(await call('deleteEnvelopes', 200), { message: 'done' });
    assert.equal(open(), 0);
    assert.equal(postern.batches().reduce((n, b) => n + b.cancelled, 0), 61);
    await call('deleteEnvelopes', 200);
  });

  it('events and logs, of every kind', async () => {
    const first = await call('getEvents', 200, {}, { query: { limit: 300 } });
    for (const event of ['accepted', 'delivered', 'failed', 'opened', 'clicked', 'complained'])
      assert.ok(first.items.some((e) => e.event === event), event);
    for (const severity of ['permanent', 'temporary']) assert.ok(first.items.some((e) => e.severity === severity), severity);
    const token = first.paging.next.slice(first.paging.next.lastIndexOf('/') + 1).split('?')[0];
    await call('getEventsPage', 200, { token });
    await call('getEventsPage', 400, { token: 'nonsense' });
    await call('getEvents', 400, {}, { query: { begin: 'yesterday-ish' } });
    const at = (ms) => new Date(Date.now() + ms).toUTCString().replace('GMT', '+0000');
    const range = { start: at(-3600000), end: at(60000) };
    const logs = await call('getLogs', 200, {}, json({ ...range, include_totals: true, pagination: { limit: 100 } }));
    assert.ok(logs.items.length > 15 && logs.pagination.total === logs.items.length);
    const page = await call('getLogs', 200, {}, json({ ...range, pagination: { limit: 2 } }));
    await call('getLogs', 200, {}, json({ ...range, pagination: { limit: 2, token: page.pagination.next } }));
    await call('getLogs', 400, {}, json({ start: 'x' }));
    await call('getAnalyticsMetrics', 200, {}, json({ duration: '1d' }));
    const metrics = await call('getAnalyticsMetrics', 200, {}, json({ ...range, dimensions: ['time', 'domain', 'tag'], include_aggregates: true, pagination: { sort: 'accepted_count:desc', limit: 2 } }));
    assert.ok(metrics.items.length > 0 && metrics.aggregates.metrics.accepted_count > 0);
    await call('getAnalyticsMetrics', 400, {}, json({ metrics: ['x'] }));
  });

  it('statistics and tags', async () => {
    const all = [['event', 'accepted'], ['event', 'delivered'], ['event', 'failed'], ['event', 'opened'], ['event', 'clicked'], ['event', 'unsubscribed'], ['event', 'complained'], ['event', 'stored']];
    const tag = 'ghost-email';
    for (const resolution of ['hour', 'day', 'month']) {
      const query = [...all, ['resolution', resolution]];
      await call('getStats', 200, {}, { query });
      await call('getStatsOfAll', 200, {}, { query });
      await call('getTagStats', 200, { tag }, { query });
      await call('getTagStatsByQuery', 200, {}, { query: [...query, ['tag', tag]] });
    }
    for (const id of ['getStats', 'getStatsOfAll']) await call(id, 400, {}, { query: { event: 'nothing' } });
    await call('getTagStats', 400, { tag }, {});
    await call('getTagStatsByQuery', 400, {}, { query: { tag } });
    await call('getTags', 200);
    await call('getTags', 400, {}, { query: { limit: 'x' } });
    await call('getTag', 200, { tag });
    await call('getTagByQuery', 200, {}, { query: { tag } });
    await call('getTag', 404, { tag: 'none' });
    await call('getTagByQuery', 404, {}, { query: { tag: 'none' } });
  });

  it('tags, described and deleted', async () => {
    const mail = { from: `a@${domain}`, to: 'b@readers.example.net', subject: 'x', text: 'y', 'o:tag': 'My Tag', 'o:testmode': 'yes' };
    await call('sendMessage', 200, {}, form(mail));
    await waitFor('the tag', async () => (await postern.request('GET', target('getTag', { tag: 'my tag' }))).status === 200);
    for (const [suffix, params, options] of [['Tag', { tag: 'MY TAG' }, {}], ['TagByQuery', {}, { query: { tag: 'my tag' } }]]) {
      const text = `what ${suffix} “is” for`;
      await call(`update${suffix}`, 200, params, { ...form({ description: text }), ...options });
      const told = await call(`get${suffix}`, 200, params, options);
      assert.deepEqual([told.tag, told.description], ['My Tag', text]);
      const { items } = await call('getTags', 200, {}, { query: { prefix: 'my' } });
      assert.deepEqual(items.map((t) => [t.tag, t.description]), [['My Tag', text]]);
      await call(`update${suffix}`, 400, params, { ...form({ description: 'x'.repeat(1001) }), ...options });
      await call(`delete${suffix}`, 200, params, options);
      await call(`get${suffix}`, 404, params, options);
      await call(`update${suffix}`, 404, params, { ...form({ description: 'x' }), ...options });
      await call(`delete${suffix}`, 404, params, options);
      await call('sendMessage', 200, {}, form(mail)); // and it is there again, as new
      await waitFor('the tag', async () => (await postern.request('GET', target('getTag', { tag: 'my tag' }))).status === 200);
      assert.equal((await call(`get${suffix}`, 200, params, options)).description, '');
    }
  });

  it('suppression lists', async () => {
    for (const list of LISTS) {
      const address = `one-${list}@example.net`;
      const params = { list, address };
      await call('addSuppressions', 200, params, form({ address }));
      await call('addSuppressions', 200, params, json([{ address: 'two@example.net' }, { address: 'three@example.net' }]));
      await call('addSuppressions', 400, params, form({ address: 'none' }));
      await call('getSuppression', 200, params);
      const page = await call('getSuppressions', 200, params, { query: { limit: 2 } });
      assert.equal(page.items.length, 2);
      await call('getSuppressions', 400, params, { query: { limit: 'x' } });
      await call('deleteSuppression', 200, params);
      await call('deleteSuppression', 404, params);
      await call('getSuppression', 404, params);
      const csv = new FormData();
      csv.append('file', new Blob([list === 'whitelists' ? 'address\nfour@example.net\n' : 'address\nfour@example.net\n'], { type: 'text/csv' }), 'list.csv');
      await call('importSuppressions', 202, params, { body: csv });
      await call('importSuppressions', 400, params, form({ x: 'y' }));
      await call('clearSuppressions', 200, params);
    }
    await call('addSuppressions', 200, { list: 'whitelists' }, form({ domain: 'example.net' }));
    await call('getSuppression', 200, { list: 'whitelists', address: 'example.net' });
  });

  it('domains', async () => {
    await call('getDomains', 200);
    await call('getDomains', 400, {}, { query: { limit: '0' } });
    for (const id of ['getDomain', 'getTracking', 'getConnection', 'getSendingQueues', 'verifyDomain']) await call(id, 200);
    await call('getVerify', 404);
    for (const [id, operation] of operations)
      if (operation.responses[403]) await call(id, 403);
  });

  it('webhooks', async () => {
    const [kind, urls] = ['opened', [1, 2, 3, 4].map((n) => `https://example.com/${n}`)];
    const one = (...list) => form([['id', kind], ...list.map((url) => ['url', url])]);
    await call('createWebhook', 200, {}, one(urls[0]));
    await call('createWebhook', 400, {}, one());
    await call('createWebhook', 200, {}, one(urls[1], urls[2]));
    await call('createWebhook', 409, {}, one(urls[3]));
    await call('getWebhooks', 200);
    await call('getWebhook', 200, { kind });
    await call('getWebhook', 404, { kind: 'clicked' });
    const byUrl = (url, ...kinds) => form([['url', url], ...kinds.map((k) => ['event_types', k])]);
    await call('createWebhookByUrl', 200, {}, byUrl(urls[3], 'clicked'));
    await call('createWebhookByUrl', 400, {}, byUrl(urls[3]));
    await call('createWebhookByUrl', 409, {}, byUrl(urls[3], kind));
    await call('getWebhooksByUrl', 200);
    await call('updateWebhookByUrl', 200, {}, byUrl(urls[3], 'delivered'));
    await call('updateWebhookByUrl', 400, {}, byUrl(urls[3]));
    await call('updateWebhookByUrl', 409, {}, byUrl(urls[3], kind));
    await call('deleteWebhookByUrl', 200, {}, { query: { url: urls[3] } });
    await call('deleteWebhookByUrl', 400);
    await call('deleteWebhookByUrl', 404, {}, { query: { url: urls[3] } });
    await call('updateWebhook', 200, { kind }, form({ url: urls[1] }));
    await call('updateWebhook', 400, { kind }, form({ x: 'y' }));
    await call('updateWebhook', 404, { kind: 'clicked' }, form({ url: urls[1] }));
    await call('deleteWebhook', 200, { kind });
    await call('deleteWebhook', 404, { kind });
  });

  it('stored templates', async () => {
    const params = { template: 'one', version: 'v2', newVersion: 'v3' };
    const version = (tag) => form({ tag, template: 'Hi {{name}}', headers: '{"Subject":"x"}' });
    await call('createTemplate', 200, {}, form({ name: 'one', description: 'd', template: 'x', tag: 'v1' }));
    await call('createTemplate', 400, {}, form({ name: 'one' }));
    await call('createTemplate', 200, {}, form({ name: 'two' }));
    await call('getTemplates', 200, {}, { query: { limit: 1 } });
    await call('getTemplates', 400, {}, { query: { limit: 0 } });
    await call('getTemplate', 200, params);
    await call('getTemplate', 200, params, { query: { active: 'yes' } });
    await call('getTemplate', 404, { template: 'none' });
    await call('updateTemplate', 200, params, form({ description: 'e' }));
    await call('updateTemplate', 400, params, form({ template: '{{' }));
    await call('updateTemplate', 404, { template: 'none' }, form({ description: 'e' }));
    await call('createTemplateVersion', 200, params, version('v2'));
    await call('createTemplateVersion', 400, params, version('v2'));
    await call('createTemplateVersion', 404, { template: 'none' }, version('v2'));
    await call('getTemplateVersions', 200, params);
    await call('getTemplateVersions', 400, params, { query: { limit: 'x' } });
    await call('getTemplateVersions', 404, { template: 'none' });
    await call('getTemplateVersion', 200, params);
    await call('getTemplateVersion', 404, { ...params, version: 'none' });
    await call('updateTemplateVersion', 200, params, form({ comment: 'c', active: 'yes' }));
    await call('updateTemplateVersion', 400, params, form({ engine: 'go' }));
    await call('updateTemplateVersion', 404, { ...params, version: 'none' }, form({ comment: 'c' }));
    await call('copyTemplateVersion', 200, params, { query: { comment: 'copied' } });
    await call('copyTemplateVersion', 400, { ...params, newVersion: 'x'.repeat(201) });
    await call('copyTemplateVersion', 404, { ...params, version: 'none' });
    for (let i = 0; i < 97; i++) await call('createTemplateVersion', 200, params, version(`w${i}`));
    await call('createTemplateVersion', 409, params, version('one-more'));
    await call('copyTemplateVersion', 409, { ...params, newVersion: 'one-more' });
    await call('sendMessage', 200, {}, form({ template: 'one', to: 'b@readers.example.net' }));
    await call('deleteTemplateVersion', 200, params);
    await call('deleteTemplateVersion', 404, params);
    await call('deleteTemplate', 200, params);
    await call('deleteTemplate', 404, params);
    await call('createTemplate', 200, {}, form({ name: 'one' })); // two of 200
    const names = Array.from({ length: 198 }, (_, n) => `t${n}`);
    while (names.length > 0) await Promise.all(names.splice(0, 50).map((name) => call('createTemplate', 200, {}, form({ name }))));
    await call('createTemplate', 409, {}, form({ name: 'one-more' }));
    await call('deleteTemplates', 200);
  });

  it('health', async () => {
    await call('getHealth', 200);
    await call('headHealth', 200);
    await call('getHealthcheck', 200);
    await call('headHealthcheck', 200);
  });

  it("an older proxy's paths", async () => {
    const mail = { from: `a@${domain}`, to: ['b@readers.example.net'], subject: 'x', html: 'y' };
    await call('sendOne', 200, {}, json(mail));
    await call('sendOne', 400, {}, json({ ...mail, to: [] }));
    await call('sendOne', 500, {}, json({ ...mail, from: undefined }));
    const action = 'getNewsletterUsage';
    const range = { from: Date.now() - 3600000, to: Date.now(), siteId: domain };
    await call('getNewsletterUsage', 200, { action }, json(range));
    await call('getNewsletterUsage', 400, { action: 'other' }, json(range));
    await call('getNewsletterUsage', 404, { action }, json({ ...range, siteId: 'not-there.example' }));
  });

  it('metrics', async () => {
    await call('getMetrics', 200, {}, { auth: `api:${masterKey}` });
    await call('headMetrics', 200, {}, { auth: `api:${masterKey}` });
  });

  it('other names of the same', async () => {
    for (const [id, alias] of [
      ['getEvents', `/v2/${domain}/events`],
      ['getEvents', `/v4/${domain.toUpperCase()}/events/`],
      ['getDomains', '/v4/domains'],
      ['getDomain', `/v4/domains/${domain}`],
      ['getSuppressions', `/v3/${domain}/allowlists`],
    ]) {
      const res = await postern.request('GET', alias);
      assert.equal(res.status, 200, alias);
      await hold(id, res, alias);
    }
  });

  it('without a key, with a domain that is none, and with every method that is not served', async () => {
    const params = { list: 'bounces', address: 'x@example.net', tag: 'x', token: 'x', kind: 'opened', key: 'eA', action: 'getNewsletterUsage', template: 'x', version: 'x', newVersion: 'y' };
    for (const [id, operation] of operations) {
      const method = operation.method.toUpperCase();
      if (operation.security?.length === 0) continue;
      const res = await fetch(postern.url + target(id, params), { method });
      assert.equal(res.status, 401, id);
      await hold(id, res, id);
      if (!operation.pathname.includes('{domain}') || operation.responses[403]) continue;
      const other = await postern.request(method, target(id, { ...params, domain: 'not-there.example' }));
      assert.equal(other.status, 404, id);
      await hold(id, other, id);
    }
    for (const [pathname, item] of Object.entries(api.paths)) {
      const served = METHODS.filter((m) => item[m]);
      const someId = item[served[0]].operationId;
      for (const method of METHODS.filter((m) => !served.includes(m))) {
        const auth = pathname === '/metrics' ? `api:${masterKey}` : undefined;
        const res = await postern.request(method.toUpperCase(), target(someId, params), { auth });
        assert.equal(res.status, 405, `${method} ${pathname}`);
        assert.deepEqual(res.headers.get('allow').toLowerCase().split(', ').sort(), [...served].sort(), pathname);
        if (method !== 'head') await hold(someId, res, `${method} ${pathname}`);
      }
    }
  });

  it('every operation has been called, with every answer that can be had at will', () => {
    const later = new Set(['413', '429', '503']); // those of a server in need: tests of limits and faults have them
    const missing = [];
    for (const [id, operation] of operations)
      for (const status of Object.keys(operation.responses))
        if (!later.has(status) && !covered.get(id)?.has(Number(status))) missing.push(`${id} ${status}`);
    // 405 belongs to a path, not to a method of it: any of its operations may have seen it.
    const unseen = missing.filter((m) => {
      const [id, status] = m.split(' ');
      return status !== '405' || ![...operations].some(([other, o]) => o.pathname === operations.get(id).pathname && covered.get(other)?.has(405));
    });
    assert.deepEqual(unseen, []);
  });
});
