// Stored templates, with the official client: made, listed, changed, copied, deleted; and sent, where what SES is given
// is what Handlebars.js makes of the same template and variables.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import Handlebars from 'handlebars';
import { Postern, domain, isSettled, key, stopAll, waitFor } from './harness.mjs';
import { deliveries } from './ses_mail.mjs';

const require = createRequire(import.meta.url);
const MultipartForm = require('form-data');
after(stopAll);

const other = 'other.example';
Handlebars.registerHelper('equal', function (a, b, options) {
  return `${a ?? ''}` === `${b ?? ''}` ? options.fn(this) : options.inverse(this);
});

describe('stored templates', () => {
  let postern;
  const client = (version) => {
    const loaded = require(`mailgun.js-${version}`);
    return new (loaded.default ?? loaded)(MultipartForm).client({ username: 'api', key, url: postern.url }).domains.domainTemplates;
  };
  const call = async (method, path, fields, want = 200, auth = `api:${key}`) => {
    const res = await postern.request(method, `/v3/${domain}/${path}`, { auth, ...(fields ? { body: new URLSearchParams(fields) } : {}) });
    const text = await res.text();
    assert.equal(res.status, want, text);
    return /^\{/.test(text) ? JSON.parse(text) : text;
  };

  before(async () => {
    postern = await Postern.start({ domains: { [domain]: [key], [other]: ['another'] } });
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, delivery_delay_ms_max: 50 });
  });
  after(() => postern?.stop());

  for (const version of ['10', '14'])
    it(`are kept for mailgun.js ${version}`, async () => {
      const templates = client(version);
      const made = await templates.create(domain, { name: 'Hello There', description: 'says it', template: '<p>{{name}}</p>', tag: 'V1', comment: 'first', createdBy: 'me', headers: JSON.stringify({ Subject: 'Hi {{name}}', 'reply-to': 'r@x.example' }) });
      assert.deepEqual([made.name, made.description, made.createdBy], ['hello there', 'says it', 'me']);
      assert.ok(made.createdAt instanceof Date && Math.abs(made.createdAt - Date.now()) < 60000);
      assert.match(made.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      assert.deepEqual([made.version.tag, made.version.template, made.version.engine, made.version.comment, made.version.active], ['v1', '<p>{{name}}</p>', 'handlebars', 'first', true]);
      assert.deepEqual(made.version.headers, { Subject: 'Hi {{name}}', 'Reply-To': 'r@x.example' });
      assert.equal((await templates.get(domain, 'hello there')).version, undefined);
      assert.equal((await templates.get(domain, 'HELLO THERE', { active: 'yes' })).version.template, '<p>{{name}}</p>');
      assert.deepEqual(await templates.update(domain, 'hello there', { description: 'says more' }), { status: 200, message: 'template has been updated', templateName: 'hello there' });
      assert.equal((await templates.get(domain, 'hello there')).description, 'says more');

      const second = await templates.createVersion(domain, 'hello there', { tag: 'v2', template: 'two' });
      assert.deepEqual([second.message, second.template.version.active], ['new version of the template has been stored', false]);
      const changed = await templates.updateVersion(domain, 'hello there', 'v2', { template: 'zwei', comment: 'c2', active: 'yes' });
      assert.deepEqual([changed.message, changed.templateName, changed.templateVersion.tag], ['version has been updated', 'hello there', 'v2']);
      const v2 = await templates.getVersion(domain, 'hello there', 'v2');
      assert.deepEqual([v2.version.template, v2.version.comment, v2.version.active, v2.description], ['zwei', 'c2', true, 'says more']);
      assert.deepEqual((await templates.get(domain, 'hello there', { active: 'yes' })).version.tag, 'v2');
      const listed = await templates.listVersions(domain, 'hello there', { limit: 1 });
      assert.deepEqual(listed.template.versions.map((v) => [v.tag, v.active, v.template]), [['v1', false, undefined]]);
      const next = await call('GET', `templates/hello%20there/versions${listed.pages.next.page}`); // the client sends its page as a value
      assert.deepEqual(next.template.versions.map((v) => v.tag), ['v2']);
      assert.ok(next.paging.next.endsWith(`/v3/${domain}/templates/hello%20there/versions?page=next&p=v2&limit=1`), next.paging.next);
      assert.equal((await templates.destroyVersion(domain, 'hello there', 'v2')).message, 'version has been deleted');
      await assert.rejects(templates.getVersion(domain, 'hello there', 'v2'), (e) => e.status === 404);

      for (const name of ['b', 'a', 'c']) await templates.create(domain, { name, description: '', template: 'x' });
      const first = await templates.list(domain, { limit: 2 });
      assert.deepEqual(first.items.map((t) => t.name), ['a', 'b']);
      const rest = await templates.list(domain, { page: first.pages.next.page });
      assert.deepEqual(rest.items.map((t) => t.name), ['c', 'hello there']);
      const back = await templates.list(domain, { page: rest.pages.previous.page });
      assert.deepEqual(back.items.map((t) => t.name), ['a', 'b']);
      assert.deepEqual((await templates.list(domain, { page: first.pages.last.page })).items.map((t) => t.name), ['c', 'hello there']);
      assert.deepEqual((await templates.list(domain, { page: (await templates.list(domain, { page: rest.pages.next.page })).pages.next.page })).items, []);
      assert.equal((await templates.destroy(domain, 'hello there')).message, 'template has been deleted');
      await assert.rejects(templates.get(domain, 'hello there'), (e) => e.status === 404 && e.details === 'template not found');
      assert.equal((await templates.destroyAll(domain)).message, 'templates have been deleted');
      assert.deepEqual((await templates.list(domain)).items, []);
    });

  it('are copied, and stand after a restart', async () => {
    await call('POST', 'templates', { name: 'keep', template: 'one {{a}}' });
    const copied = await call('PUT', 'templates/keep/versions/initial/copy/Second?comment=of+it');
    assert.deepEqual([copied.message, copied.version.tag, copied.version.template, copied.version.comment, copied.version.active], ['version has been copied', 'second', 'one {{a}}', 'of it', false]);
    await call('PUT', 'templates/keep/versions/second', { template: 'two' });
    await call('PUT', 'templates/keep/versions/initial/copy/second');
    assert.equal((await call('GET', 'templates/keep/versions/second')).template.version.template, 'one {{a}}');
    process.kill(postern.pids('writer')[0], 'SIGKILL');
    await waitFor('a writer', async () => (await postern.request('PUT', `/v3/${domain}/templates/keep`, { body: new URLSearchParams({ description: 'd' }) })).status === 200);
    const kept = await call('GET', 'templates/keep?active=yes');
    assert.deepEqual([kept.template.description, kept.template.version.tag], ['d', 'initial']);
    await call('DELETE', 'templates/keep');
    await call('GET', 'templates/keep/versions', undefined, 404);
  });

  it('that do not parse are refused, with their line', async () => {
    const bad = async (fields, words, path = 'templates', method = 'POST') => assert.match((await call(method, path, fields, 400)).message, words, JSON.stringify(fields));
    await bad({ name: 'x', template: 'a\n{{#if b}}\nc' }, /^'template' parameter does not parse: line 2: a block is not closed$/);
    await bad({ name: 'x', template: '{{> footer}}' }, /partials are not supported/);
    await bad({ template: 'x' }, /name/);
    await bad({ name: 'x'.repeat(201), template: 'x' }, /'name' parameter/);
    await bad({ name: 'x', template: 'x'.repeat(1048577) }, /'template' parameter is longer/);
    await bad({ name: 'x', template: 'x', engine: 'go' }, /'engine'/);
    await bad({ name: 'x', template: 'x', headers: '{"Subject":' }, /'headers' parameter is not a valid JSON/);
    await bad({ name: 'x', template: 'x', headers: '{"Bcc":"a@b.example"}' }, /'headers' parameter names another header/);
    await bad({ name: 'x', template: 'x', headers: '{"Subject":"a\\nb"}' }, /'headers' parameter has a header that is no text of one line/);
    await bad({ name: 'x', template: 'x', headers: '{"Subject":"{{#if}}"}' }, /'headers' parameter has a header that does not parse/);
    assert.deepEqual((await call('GET', 'templates')).items, []);
    await call('POST', 'templates', { name: 'x', template: 'x' });
    await bad({ name: 'X', template: 'x' }, /already exists/);
    await bad({ tag: 'v2' }, /template/, 'templates/x/versions');
    await bad({ template: 'x' }, /tag/, 'templates/x/versions');
    await bad({ template: 'x', tag: 'Initial' }, /already exists/, 'templates/x/versions');
    await bad({ template: '{{/if}}' }, /line 1/, 'templates/x/versions/initial', 'PUT');
    assert.equal((await call('GET', 'templates/x/versions/initial')).template.version.template, 'x');
    await call('GET', 'templates/x', undefined, 401, 'api:another');
    await call('DELETE', 'templates');
  });

  // ---- sending ----

  const send = async (fields, want = 200) => {
    const res = await postern.request('POST', `/v3/${domain}/messages`, { body: new URLSearchParams(fields) });
    const answer = await res.json();
    assert.equal(res.status, want, JSON.stringify(answer));
    return answer;
  };
  /** What SES was given for these recipients, each read. */
  const mailsTo = async (...addresses) => {
    const found = new Map();
    await waitFor('the mails', async () => {
      const requests = new Map(); // a bulk call is kept once per entry
      for (const { request } of await postern.sandbox.messages()) requests.set(JSON.stringify(request), request);
      for (const request of requests.values())
        for (const { rcpt, mail } of await deliveries(request)) if (addresses.includes(rcpt)) found.set(rcpt, mail);
      return found.size === addresses.length;
    });
    return addresses.map((a) => found.get(a));
  };
  let serial = 0;
  const someone = () => `template-reader-${++serial}@readers.example.net`;

  const content = `<html><head><style>p { color: red }</style></head><body>
<h1>{{title}}</h1>
{{#each posts}}
  <p>{{@index}}. <a href="{{{url}}}">{{name}}</a>{{#if new}} <b>new</b>{{else}} old{{/if}}</p>
{{else}}
  <p>Nothing.</p>
{{/each}}
{{#equal plan "gold"}}<p>Gold!</p>{{/equal}}
<p>Bye %recipient.first%, {{name}} &amp; co</p>
</body></html>`;
  const variables = { title: 'News & <views>', plan: 'gold', posts: [{ url: 'https://example.com/1?a=b&c=d', name: 'One "1"', new: true }, { url: 'https://example.com/2', name: 'Zwö', new: false }] };

  it('are sent as Handlebars.js renders them, with the batch\'s variables and each recipient\'s', async () => {
    await call('POST', 'templates', { name: 'news', template: content, headers: JSON.stringify({ Subject: '{{title}} for {{name}}', From: `{{name}} <news@${domain}>`, 'Reply-To': `re@${domain}` }) });
    const [a, b] = [someone(), someone()];
    const first = { [a]: { first: 'Ann <x>' }, [b]: { first: 'Bob' } };
    await send([['template', 'News'], ['to', a], ['to', b], ['v:name', 'overruled'], ['v:email-id', 'e'], ['t:variables', JSON.stringify({ ...variables, name: 'Kim & Co' })], ['t:text', 'yes'], ['recipient-variables', JSON.stringify(first)]]);
    const want = Handlebars.compile(content)({ ...variables, name: 'Kim & Co' });
    const mails = await mailsTo(a, b);
    for (const [i, address] of [a, b].entries()) {
      const mail = mails[i];
      assert.equal(mail.html.trimEnd(), want.replaceAll('%recipient.first%', first[address].first).trimEnd());
      assert.equal(mail.subject, 'News & <views> for Kim & Co');
      assert.equal(mail.text.trimEnd(), `News & <views>\n\n0. One "1" (https://example.com/1?a=b&c=d) new\n\n1. Zwö (https://example.com/2) old\n\nGold!\n\nBye ${first[address].first}, Kim & Co & co`);
      assert.match(JSON.stringify(mail.from), /Kim & Co/);
      assert.match(JSON.stringify(mail.replyTo), /re@/);
    }
  });

  it('are sent to one, in another version; the message\'s own headers go first', async () => {
    await call('POST', 'templates/news/versions', { tag: 'plain', template: 'Plain {{a.b}}{{x}}', headers: JSON.stringify({ Subject: 'theirs' }) });
    const [a, b, c] = [someone(), someone(), someone()];
    const mine = [['from', `me@${domain}`], ['subject', 'mine'], ['h:Reply-To', `my@${domain}`], ['text', 'my text']];
    await send([['template', 'news'], ['t:version', 'Plain'], ['to', a], ['h:X-Mailgun-Variables', '{"a":{"b":"<deep>"}}'], ['v:x', '7'], ...mine]);
    await send([['template', 'news'], ['to', b], ...mine, ['h:X-Mailgun-Template-Variables', JSON.stringify({ title: 'T' })]]);
    await call('PUT', 'templates/news/versions/plain', { active: 'yes' });
    await send([['template', 'news'], ['to', c]]);
    const [one, two, three] = await mailsTo(a, b, c);
    assert.equal(one.html.trimEnd(), 'Plain &lt;deep&gt;7');
    assert.deepEqual([one.subject, one.text.trimEnd()], ['mine', 'my text']);
    assert.match(JSON.stringify(one.replyTo), /my@/);
    assert.match(two.html, /<h1>T<\/h1>\n {2}<p>Nothing\.<\/p>\n\n<p>Bye %recipient\.first%,  &amp; co/);
    assert.ok(!JSON.stringify(two).includes('Template-Variables'));
    assert.equal(three.html.trimEnd(), 'Plain');
    assert.equal(three.subject, 'theirs');
    assert.match(JSON.stringify(three.from), new RegExp(`postmaster@${domain}`));
  });

  it('that cannot be sent are refused, and nothing is queued', async () => {
    const to = someone();
    const base = [['to', to], ['from', `a@${domain}`]];
    const before = postern.batches().length;
    assert.match((await send([...base, ['template', 'nothing']], 400)).message, /template 'nothing' or its version is not there/);
    assert.match((await send([...base, ['template', 'news'], ['t:version', 'v9']], 400)).message, /its version is not there/);
    assert.match((await send([...base, ['template', 'news'], ['t:variables', '[1]']], 400)).message, /'t:variables' parameter is not a valid JSON/);
    assert.match((await send([...base, ['template', 'news'], ['html', 'x']], 400)).message, /Only one parameters 'html' or 'template' is allowed/);
    assert.match((await send([...base, ['template', 'news'], ['v:x', 'x'.repeat(17000)]], 400)).message, /16 kB/);
    await call('POST', 'templates', { name: 'loops', template: '{{#each a}}{{#each ../a}}{{#each ../../a}}{{#each ../../../a}}x{{/each}}{{/each}}{{/each}}{{/each}}' });
    await call('POST', 'templates', { name: 'empty', template: '{{a}}', headers: JSON.stringify({ Subject: '{{s}}' }) });
    assert.match((await send([...base, ['template', 'loops'], ['t:variables', JSON.stringify({ a: Array(2000).fill(1) })]], 400)).message, /takes more than \d+ steps/);
    assert.match((await send([...base, ['template', 'empty']], 400)).message, /renders to nothing/);
    assert.match((await send([...base, ['template', 'empty'], ['t:variables', '{"a":1,"s":"x\\r\\nBcc: b@x.example"}']], 400)).message, /subject parameter holds a line break/);
    await call('POST', 'templates/empty/versions', { tag: 'none', template: 'x' });
    await call('DELETE', 'templates/empty/versions/initial');
    assert.match((await send([...base, ['template', 'empty']], 400)).message, /its version is not there/); // none is active
    assert.equal(postern.batches().length, before);
    await waitFor('the books', () => isSettled(postern.batches()));
  });
});
