// The dashboard in a real browser: every page, every action, its numbers beside the API's, hostile texts from everywhere,
// and accessibility as axe-core sees it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import { Postern, domain, jsonLines, newsletterForm, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const { chromium } = require('playwright-core');
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const executablePath = process.env.POSTERN_CHROMIUM ?? '/usr/bin/chromium';

const evil = `"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'`;
let p, browser, context, page;
const wrong = []; // what the console or the policy complained of

after(async () => {
  await browser?.close();
  await stopAll();
});

/** The frame's own policy refuses what stands in the mail, and the browser says so. */
const isRefusal = (words) => /\/html|about:srcdoc/.test(words) ? /Blocked script execution|Content Security Policy/.test(words) : /img-src data:/.test(words);
const loginUrl = (...args) => JSON.parse(p.cli('login', '--json', ...args)).url;
async function signIn(target, ...args) {
  await target.goto(loginUrl(...args));
  await target.waitForSelector('#top:not([hidden])');
}
function watch(target) {
  target.on('pageerror', (e) => wrong.push(`page: ${e.message}`));
  target.on('console', (m) => {
    if (m.type() === 'error') wrong.push(`console: ${m.text()}`);
  });
}
async function open(hash, title) {
  await page.evaluate((to) => { location.hash = to; }, `#/${hash}`);
  await page.waitForFunction((t) => document.querySelector('main h1')?.textContent === t && !document.querySelector('main').hasAttribute('aria-busy'), title);
}
const text = (selector) => page.locator(selector).first().innerText();
const statOf = async (name) => Number((await text(`[data-stat="${name}"]`)).replaceAll(',', ''));
const toast = (pattern) => page.waitForFunction((source) => new RegExp(source).test(document.getElementById('toast').textContent), pattern.source);
const confirm = () => page.locator('dialog[open] button[value=yes]').click();
const books = (id) => jsonLines(p.cli('batches', id, '--json'))[0];
async function audit(where) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe);
  const found = await page.evaluate(`(async () => { return (await axe.run(document, { resultTypes: ['violations'] })).violations.map((v) => ({ id: v.id, impact: v.impact, nodes: v.nodes.map((n) => n.html.slice(0, 120)) })); })()`);
  assert.deepEqual(found.filter((v) => ['serious', 'critical'].includes(v.impact)), [], where);
}

describe('the dashboard in a browser', () => {
  let subject, ids;
  before(async () => {
    p = await Postern.start({ conf: 'webhooks { allow_private = true retries = {"10ms"} }', sections: { sender: 'max_rate = "300"' } });
    await p.sandbox.set({ bounce_rate: 500, soft_bounce_rate: 0, complaint_rate: 100, open_rate: 5000, click_rate: 2000, delivery_delay_ms_max: 100 });
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
    context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC' });
    page = await context.newPage();
    page.setDefaultTimeout(15000);
    watch(page);
    subject = `Evil ${evil}`;
    const form = newsletterForm(Array.from({ length: 150 }, (_, i) => `r${i}@${i % 2 ? 'gmail.com' : 'readers.example.net'}`), {
      subject, from: `"${'<b onmouseover=alert(1)>'}" <news@${domain}>`, tags: [`<svg onload=alert(1)>`], html: `<p>Hello</p><script>parent.pwned = 1; window.pwned = 1</script><img src=x onerror="parent.pwned=1">`,
    });
    assert.equal((await p.post(form)).status, 200);
    await p.request('POST', `/v3/${domain}/bounces`, { body: new URLSearchParams({ address: 'evil@example.net', error: evil }) });
    await waitFor('the batch', () => p.batches().length === 1);
    ids = p.batches().map((b) => b.batch);
    await waitFor('its outcomes', () => books(ids[0]).outcomes === 150, 30000);
  });

  it('says how to sign in, takes a link, and forgets it', async () => {
    await page.goto(`${p.url}/dashboard/`);
    await page.waitForFunction(() => document.querySelector('main').textContent.includes('postern login'));
    await audit('signed out');
    const link = loginUrl();
    await page.goto(link);
    await page.waitForSelector('#top:not([hidden])');
    assert.ok(!page.url().includes('login='), 'the link is out of the address');
    assert.equal(await page.evaluate(() => document.cookie), '', 'no script sees the cookie');
    const other = await browser.newContext();
    const second = await other.newPage();
    await second.goto(link);
    await second.waitForFunction(() => document.querySelector('main').textContent.includes('used already'));
    await other.close();
    wrong.length = 0; // a browser tells every 401 and 403 on its console
  });

  it('shows an overview with the API’s numbers, live', async () => {
    await open('overview', 'Overview');
    await page.waitForSelector('[data-stat="rate"]');
    await page.waitForSelector('.dot.on');
    const b = books(ids[0]);
    assert.equal(await statOf('today-accepted'), 150);
    assert.equal(await statOf('today-delivered'), b.delivered);
    assert.equal(await statOf('today-failed'), b['failed-permanent']);
    assert.equal(await page.locator('figure svg.chart').count(), 2);
    await audit('overview');
  });

  it('lists newsletters and shows one, hostile texts as text', async () => {
    await open('newsletters', 'Newsletters and mails');
    await page.getByRole('link', { name: subject.slice(0, 12) }).first().click();
    await page.waitForFunction((t) => document.querySelector('main h1')?.textContent === t, subject);
    const b = books(ids[0]);
    for (const name of ['sent', 'delivered', 'opened', 'bounced']) assert.equal(await statOf(name), b[name === 'bounced' ? 'failed-permanent' : name], name);
    assert.equal(await page.locator('[aria-label="By mailbox provider"] tbody tr').count(), 2);
    assert.ok((await text('main')).includes('<b onmouseover=alert(1)>'));
    assert.ok((await text('main')).includes('<svg onload=alert(1)>'));
    await page.getByLabel('Show').selectOption('bounced');
    await page.waitForFunction((n) => document.querySelectorAll('[aria-label="Recipients"] tbody tr').length === n, Math.min(50, b['failed-permanent']));
    for (const what of ['Text', 'Headers', 'Source', 'HTML']) await page.getByRole('button', { name: what, exact: true }).click();
    await page.getByRole('button', { name: 'Text', exact: true }).click();
    assert.ok((await text('main pre')).includes('%recipient.first_name_2%'), 'as it was posted');
    await page.getByRole('button', { name: 'HTML', exact: true }).click();
    await page.waitForFunction(() => document.querySelector('iframe')?.getAttribute('sandbox') === '');
    await waitFor('the frame', () => page.frames().length === 2 && page.frames()[1].url().includes('/html'));
    await audit('newsletter');
    for (let i = wrong.length - 1; i >= 0; i--) if (isRefusal(wrong[i])) wrong.splice(i, 1);
  });

  it('shows the mails that the sandbox took, as their recipients get them', async () => {
    await open('inbox', 'Inbox');
    await page.getByRole('link', { name: subject.slice(0, 12) }).first().click();
    await page.waitForFunction((t) => document.querySelector('main h1')?.textContent === t, subject);
    await page.waitForSelector('iframe');
    await page.getByRole('button', { name: 'Text', exact: true }).click();
    await page.waitForFunction(() => document.querySelector('main pre')?.textContent === 'Hello Zoë');
    await page.getByRole('button', { name: 'Headers', exact: true }).click();
    assert.match(await text('main pre'), /^List-Unsubscribe: <http:\/\/127\.0\.0\.1:2368\/unsubscribe\/\?uuid=r\d+@/m);
    await audit('mail');
    for (let i = wrong.length - 1; i >= 0; i--) if (isRefusal(wrong[i])) wrong.splice(i, 1);
  });

  it('tells the way of one recipient', async () => {
    const { items } = await (await p.request('GET', `/v3/${domain}/events?event=failed&limit=1`)).json();
    const address = items[0].recipient;
    await open(`recipient/${domain}/${encodeURIComponent(address)}`, address);
    const all = await (await p.request('GET', `/v3/${domain}/events?recipient=${encodeURIComponent(address)}`)).json();
    assert.equal(await page.locator('ol.line li').count(), all.items.length);
    assert.ok((await text('main')).includes('On a list'));
    await page.locator('ol.line summary').first().click();
    assert.equal(JSON.parse(await text('ol.line pre')).recipient, address);
    await audit('recipient');
  });

  it('finds events and pages through them', async () => {
    await open('events', 'Events');
    assert.equal(await page.locator('[aria-label="Events"] tbody tr').count(), 50);
    const first = await text('[aria-label="Events"] tbody');
    await page.locator('#older').click();
    await page.waitForFunction((before) => document.querySelector('[aria-label="Events"] tbody').innerText !== before, first);
    await open(`events?event=failed&domain=${domain}`, 'Events');
    assert.equal(await page.locator('[aria-label="Events"] tbody tr').count(), Math.min(50, books(ids[0])['failed-permanent']));
    await audit('events');
  });

  it('keeps lists: adds, imports, exports, removes', async () => {
    await open('suppressions?list=bounces', 'Suppressions');
    assert.ok((await text('main')).includes(evil));
    await page.getByRole('button', { name: 'Add' }).click();
    await audit('dialog');
    await page.getByLabel('Address', { exact: true }).fill('added@example.net');
    await confirm();
    await toast(/added/);
    assert.equal((await p.request('GET', `/v3/${domain}/bounces/added@example.net`)).status, 200);
    await page.getByRole('button', { name: 'Import' }).click();
    await page.locator('dialog input[type=file]').setInputFiles({ name: 'list.csv', mimeType: 'text/csv', buffer: Buffer.from('address,code,error\r\nimported@example.net,550,gone\r\n') });
    await confirm();
    await waitFor('the import', async () => (await p.request('GET', `/v3/${domain}/bounces/imported@example.net`)).status === 200);
    await page.waitForFunction(() => document.querySelector('main').innerText.includes('imported@example.net'));
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export' }).click()]);
    const csv = fs.readFileSync(await download.path(), 'utf8');
    const { items } = await (await p.request('GET', `/v3/${domain}/bounces?limit=1000`)).json();
    assert.equal(csv.trim().split('\r\n').length, items.length + 1);
    assert.ok(csv.includes('"imported@example.net","550","gone"'));
    await page.getByRole('button', { name: 'Remove added@example.net' }).click();
    await confirm();
    await waitFor('the removal', async () => (await p.request('GET', `/v3/${domain}/bounces/added@example.net`)).status === 404);
    await audit('suppressions');
  });

  it('shows dead letters, reads them again, drops them', async () => {
    const { SQSClient, SendMessageCommand } = require('@aws-sdk/client-sqs');
    const sqs = new SQSClient({ region: 'us-east-1', endpoint: p.sandbox.url, credentials: { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' } });
    for (let i = 0; i < 2; i++) await sqs.send(new SendMessageCommand({ QueueUrl: `${p.sandbox.url}/000000000000/newsletter-events-queue`, MessageBody: `${i} ${evil}` }));
    await waitFor('the letters', () => p.status().deadletters === 2);
    await open('deadletters', 'Dead letters');
    assert.ok((await text('main')).includes(evil));
    await page.locator('[aria-label="Dead letters"] tbody a').first().click();
    await page.waitForFunction(() => document.querySelector('main h1')?.textContent === 'A dead letter');
    assert.ok((await text('main pre')).includes(evil));
    await page.getByRole('button', { name: 'Read again this letter' }).click();
    await toast(/1 will be read again/);
    await page.getByRole('button', { name: 'Drop this letter' }).click();
    await confirm();
    await page.waitForFunction(() => document.querySelectorAll('[aria-label="Dead letters"] tbody tr').length === 1);
    await audit('dead letters');
    await page.getByRole('button', { name: 'Drop all' }).click();
    await confirm();
    await page.waitForFunction(() => document.querySelector('main').innerText.includes('was understood'));
    assert.equal(p.status().deadletters, 0);
  });

  it('pauses a domain, resumes it, and steers a batch', async () => {
    await open('domains', 'Domains');
    await page.locator('[data-verb=pause]').click();
    await confirm();
    await toast(/paused/);
    await waitFor('the hold', () => p.status().holds.length === 1);
    await open('overview', 'Overview');
    await page.waitForFunction(() => document.querySelector('.hold')?.textContent.includes('postern domains resume'));
    await audit('a hold');
    assert.equal((await p.post(newsletterForm(['held@readers.example.net', 'held2@readers.example.net'], { subject: 'Held' }))).status, 200);
    const id = await waitFor('the batch', () => p.batches().find((b) => b.subject === 'Held')?.batch);
    const isPaused = () => p.status().batches.find((b) => b.batch === id).paused;
    await open(`newsletter/${id}`, 'Held');
    for (const [verb, done] of [['pause', () => isPaused()], ['resume', () => !isPaused()], ['cancel', () => books(id).cancelled === 2]]) {
      await page.waitForFunction((v) => document.querySelector(`[data-verb=${v}]`)?.disabled === false, verb);
      await page.locator(`[data-verb=${verb}]`).click();
      await confirm();
      await waitFor(verb, done);
      await page.waitForFunction(() => !document.querySelector('main').hasAttribute('aria-busy'));
    }
    await open('domains', 'Domains');
    await page.locator('[data-verb=resume]').click();
    await confirm();
    await waitFor('no hold', () => p.status().holds.length === 0);
    await audit('domains');
  });

  it('shows webhooks and what was given up', async () => {
    const url = `http://127.0.0.1:1/hook?q=${encodeURIComponent(evil)}`; // nobody listens
    assert.equal((await p.request('POST', `/v3/domains/${domain}/webhooks`, { body: new URLSearchParams({ id: 'accepted', url }) })).status, 200);
    assert.equal((await p.post(newsletterForm(['hook@readers.example.net', 'hook2@readers.example.net'], { subject: 'Hooked' }))).status, 200);
    await waitFor('the failures', () => jsonLines(p.cli('webhooks', 'failures', '--json')).length === 2, 30000);
    await open('webhooks', 'Webhooks');
    assert.ok((await text('[aria-label="Webhooks"] tbody')).includes('failing'));
    await audit('webhooks');
    await page.locator('[aria-label="Webhooks"] tbody a').first().click();
    await page.waitForFunction((t) => document.querySelector('main h1')?.textContent === t, url);
    assert.equal(await page.locator('[aria-label="Given up"] tbody tr').count(), 2);
    assert.equal(await statOf('given-up'), 2);
    await audit('a webhook');
    await page.getByRole('button', { name: /^Drop [0-9a-f]{8}$/ }).first().click();
    await confirm();
    await page.waitForFunction(() => document.querySelectorAll('[aria-label="Given up"] tbody tr').length === 1);
    await page.getByRole('button', { name: 'Tell again all that was given up' }).click();
    await toast(/1 are told again/);
    await open('webhooks', 'Webhooks'); // the webhook's own page would soon ask for what is gone
    assert.equal((await p.request('DELETE', `/v3/domains/${domain}/webhooks/accepted`)).status, 200);
  });

  it('shows who is signed in, and ends that', async () => {
    const other = await browser.newContext();
    const theirs = await other.newPage();
    await signIn(theirs, '--role', 'viewer');
    await open('system', 'System');
    const rows = page.locator('[aria-label="Signed in"] tbody tr');
    const before = await rows.count();
    assert.ok((await text('[aria-label="Signed in"]')).includes('(you)'));
    const [{ id }] = jsonLines(p.cli('login', 'list', '--json')).filter((s) => s.kind === 'session' && s.role === 'viewer');
    await page.locator(`[data-session="${id}"]`).click();
    await audit('a question');
    await confirm();
    await toast(/1 ended/);
    await page.waitForFunction((n) => document.querySelectorAll('[aria-label="Signed in"] tbody tr').length === n, before - 1);
    await theirs.waitForFunction(() => document.querySelector('main').textContent.includes('postern login'));
    await other.close();
  });

  it('shows processes, queues and rings', async () => {
    await open('system', 'System');
    const status = p.status();
    assert.equal(await page.locator('[aria-label="Processes"] tbody tr').count(), status.processes.length);
    assert.equal(await page.locator('[aria-label="Queues"] tbody tr').count(), status.queues.length);
    await audit('system');
  });

  it('is usable on a phone, in the dark, and by keyboard', async () => {
    const phone = await context.newPage();
    watch(phone);
    await phone.emulateMedia({ colorScheme: 'dark' });
    await phone.setViewportSize({ width: 360, height: 740 });
    const first = page;
    page = phone;
    await phone.goto(`${p.url}/dashboard/`);
    await phone.waitForSelector('#top:not([hidden])');
    for (const [hash, title] of [['overview', 'Overview'], ['newsletters', 'Newsletters and mails'], ['events', 'Events'], ['suppressions', 'Suppressions'], ['deadletters', 'Dead letters'], ['webhooks', 'Webhooks'], ['domains', 'Domains'], ['system', 'System'], [`newsletter/${ids[0]}`, subject]]) {
      await open(hash, title);
      const [width, inner] = await phone.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(width <= inner, `${hash}: ${width} of ${inner} pixels`);
      if (['overview', 'suppressions', 'domains'].includes(hash)) await audit(`${hash}, dark`);
    }
    await phone.reload();
    await phone.waitForSelector('#top:not([hidden])');
    await phone.keyboard.press('Tab');
    assert.equal(await phone.evaluate(() => document.activeElement.className), 'skip');
    for (let i = 0; i < 3; i++) await phone.keyboard.press('Tab');
    await phone.keyboard.press('Enter');
    await phone.waitForFunction(() => document.querySelector('main h1')?.textContent === 'Events');
    page = first;
    await phone.close();
  });

  it('offers a viewer nothing to press', async () => {
    const other = await browser.newContext();
    const viewer = await other.newPage();
    watch(viewer);
    await signIn(viewer, '--role', 'viewer');
    const first = page;
    page = viewer;
    for (const [hash, title] of [['domains', 'Domains'], ['suppressions', 'Suppressions'], ['webhooks', 'Webhooks'], ['system', 'System'], [`newsletter/${ids[0]}`, subject]]) {
      await open(hash, title);
      assert.equal(await viewer.locator('main button.danger').count(), 0, hash);
    }
    page = first;
    await other.close();
  });

  it('signs out', async () => {
    await page.locator('#sign-out').click();
    await page.waitForFunction(() => document.querySelector('main').textContent.includes('postern login'));
    assert.equal((await context.cookies()).length, 0);
  });

  it('ran nothing that came from outside', async () => {
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.deepEqual(wrong, []);
  });
});
