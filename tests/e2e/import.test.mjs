// `postern import`: what the Node proxies keep, in files made with their own tables, and what Ghost sees of it then.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { connect, disconnectAll } from './cloud.mjs';
import { Postern, binary, domain, key, stopAll, waitFor } from './harness.mjs';

after(stopAll);
after(disconnectAll);

/** What SES would say, into the queue that Postern reads. */
const tell = (postern, body) =>
  connect(postern.sandbox.url).sqs('SendMessage', { QueueUrl: postern.status().queues[0].url, MessageBody: body });

const now = Date.now();
const DAY = 86400000;
const at = (msAgo) => new Date(now - msAgo);
const sqlTime = (date) => date.toISOString().replace('T', ' ').replace('Z', '');
const second = 'mg.second.example';

/** Exit status, output and complaints of the subcommand. */
function importFile(postern, file, ...options) {
  const got = spawnSync(binary, ['import', '-c', postern.confFile, ...options, file], { encoding: 'utf8' });
  return { status: got.status, out: got.stdout, err: got.stderr, sums: options.includes('--json') && got.stdout ? JSON.parse(got.stdout) : undefined };
}

/** The tables as ghost-ses-proxy makes them. */
function makeGhostSes(file, { events = [], mails = [], suppressions = [] }) {
  const db = new DatabaseSync(file);
  db.exec(`PRAGMA journal_mode = WAL;
    CREATE TABLE message_map (batch_message_id TEXT PRIMARY KEY, ghost_email_id TEXT, tags TEXT, created_at TEXT DEFAULT (datetime('now')));
    CREATE TABLE recipient_emails (ses_message_id TEXT PRIMARY KEY, batch_message_id TEXT NOT NULL, recipient TEXT NOT NULL, ghost_email_id TEXT, tags TEXT, created_at TEXT DEFAULT (datetime('now')));
    CREATE TABLE events (id TEXT PRIMARY KEY, event_type TEXT NOT NULL, severity TEXT, recipient TEXT NOT NULL, timestamp INTEGER NOT NULL, message_id TEXT, email_id TEXT,
      delivery_status_code INTEGER, delivery_status_message TEXT, delivery_status_enhanced TEXT, tags TEXT, created_at TEXT DEFAULT (datetime('now')));
    CREATE TABLE suppressions (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT NOT NULL, type TEXT NOT NULL, reason TEXT, created_at TEXT DEFAULT (datetime('now')), UNIQUE(email, type));`);
  const event = db.prepare('INSERT INTO events (id, event_type, severity, recipient, timestamp, message_id, email_id, delivery_status_code, delivery_status_message, delivery_status_enhanced, tags) VALUES (?,?,?,?,?,?,?,?,?,?,?)');
  for (const e of events) event.run(e.id, e.type, e.severity ?? null, e.to ?? 'ann@readers.example.net', e.time / 1000, e.message ?? `batch-1@${domain}`, 'email-1', e.code ?? null, e.code ? (e.words ?? 'OK') : null, e.enhanced ?? '', e.tags ?? '["bulk-email","ghost-email"]');
  const mail = db.prepare('INSERT INTO recipient_emails (ses_message_id, batch_message_id, recipient, ghost_email_id, tags, created_at) VALUES (?,?,?,?,?,?)');
  for (const m of mails) mail.run(m.ses, `<batch-1@${domain}>`, m.to, 'email-1', '["bulk-email","ghost-email","blog-1"]', sqlTime(at(m.ago)).slice(0, 19));
  const address = db.prepare('INSERT INTO suppressions (email, type, reason, created_at) VALUES (?,?,?,?)');
  for (const s of suppressions) address.run(s.email, s.type, s.reason ?? 'Permanent bounce', sqlTime(at(2 * DAY)).slice(0, 19));
  db.close();
}

const quote = (v) => (v === null ? 'NULL' : typeof v === 'number' ? String(v) : `'${String(v).replace(/[\\'"\n\r\0]/g, (c) => ({ '\n': '\\n', '\r': '\\r', '\0': '\\0' })[c] ?? `\\${c}`)}'`);
/** As mysqldump writes mailgun-ses-proxy's database, its tables in alphabetical order. */
function makeDump({ batches = [], errors = [], messages = [], notifications = [] }) {
  const column = (name) => `  \`${name}\` ${name === 'contents' || name === 'rawEvent' ? 'longtext' : 'varchar(191)'} COLLATE utf8mb4_unicode_ci NOT NULL`;
  const table = (name, columns, rows) =>
    `--\n-- Table structure for table \`${name}\`\n--\n\nDROP TABLE IF EXISTS \`${name}\`;\n/*!50503 SET character_set_client = utf8mb4 */;\nCREATE TABLE \`${name}\` (\n${columns.map(column).join(',\n')},\n  PRIMARY KEY (\`id\`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;\n\nLOCK TABLES \`${name}\` WRITE;\n/*!40000 ALTER TABLE \`${name}\` DISABLE KEYS */;\n` +
    (rows.length ? `INSERT INTO \`${name}\` VALUES ${rows.map((r) => `(${r.map(quote).join(',')})`).join(',')};\n` : '') + `UNLOCK TABLES;\n`;
  return `-- MySQL dump 10.13  Distrib 8.0.40, for Linux (x86_64)\n/*!40101 SET NAMES utf8mb4 */;\n` +
    table('NewsletterBatch', ['id', 'siteId', 'fromEmail', 'contents', 'batchId', 'created'], batches) +
    table('NewsletterErrors', ['id', 'toEmail', 'error', 'created', 'newsletterBatchId', 'messageId', 'formatedContents', 'recipientData'], errors) +
    table('NewsletterMessages', ['id', 'messageId', 'toEmail', 'newsletterBatchId', 'created', 'formatedContents', 'recipientData'], messages) +
    table('NewsletterNotifications', ['id', 'type', 'notificationId', 'messageId', 'rawEvent', 'timestamp', 'created'], notifications) +
    `\n-- Dump completed on 2026-11-29 10:00:00\n`;
}

/** SES's event of a mail of that proxy: its tags name the newsletter and the site. */
const sesEvent = (kind, part, body, { id, to, sent, site = domain, emailId = 'email-9' }) => ({
  eventType: kind,
  mail: { timestamp: sent.toISOString(), messageId: id, source: `news@${site}`, destination: [to],
    commonHeaders: { from: [`"O'Neil" <news@${site}>`], to: [to], subject: 'Weekly "best of"' },
    tags: { siteId: [site], batchId: [emailId], 'ghost-email': ['true'], 'ses:from-domain': [site] } },
  [part]: body,
});
const notification = (id, event, time) => [`n-${id}`, event.eventType.toLowerCase(), `sqs-${id}`, event.mail.messageId, JSON.stringify(event), sqlTime(time), sqlTime(time)];

const list = async (postern, name, d = domain) => (await (await postern.request('GET', `/v3/${d}/${name}?limit=100`)).json()).items.map((i) => i.address);
const events = (postern, query = '', d = domain) => postern.walk(`limit=300&ascending=yes&begin=${Math.floor((now - 300 * DAY) / 1000)}${query}`, { domain: d });

describe("ghost-ses-proxy's SQLite file", () => {
  let postern, file;
  before(async () => {
    postern = await Postern.start();
    file = path.join(postern.dir, "ses proxy's?.db");
    makeGhostSes(file, {
      events: [
        { id: 'e1', type: 'delivered', time: at(2 * DAY), code: 250 },
        { id: 'e2', type: 'opened', time: at(2 * DAY - 60123) },
        { id: 'e3', type: 'failed', severity: 'permanent', to: 'gone@readers.example.net', time: at(2 * DAY - 1000), code: 607, words: 'Not delivering to previously bounced address', enhanced: 'smtp; 550 5.1.1 no such user' },
        { id: 'e4', type: 'opened', time: at(200 * DAY) },
        { id: 'e5', type: 'sneezed', time: at(DAY) },
        { id: 'e6', type: 'delivered', message: 'x@other.example', time: at(DAY), code: 250 },
      ],
      mails: [{ ses: 'ses-late-1', to: 'late@readers.example.net', ago: 2 * DAY }, { ses: 'ses-old', to: 'late@readers.example.net', ago: 200 * DAY }],
      suppressions: [{ email: 'gone@readers.example.net', type: 'bounces' }, { email: 'angry@readers.example.net', type: 'complaints', reason: 'Spam complaint' },
        { email: 'virus@readers.example.net', type: 'bounces', reason: 'Rejected by SES' }, { email: 'no address', type: 'bounces' }],
    });
  });

  it('says what would be taken, and takes nothing', async () => {
    const { status, sums, err } = importFile(postern, file, '--json', '--dry-run');
    assert.equal(status, 1); // some rows cannot be used
    assert.deepEqual({ events: sums.events, listed: sums.listed, mails: sums.mails, expired: sums.expired, bad: sums['not-understood'], dry: sums['dry-run'] }, { events: 3, listed: 2, mails: 1, expired: 2, bad: 3, dry: true });
    assert.match(err, /proxy's\?\.db: events: row 5: its event_type is none of Mailgun's/);
    assert.match(err, /events: row 6: belongs to no configured domain: name one with --domain/);
    assert.match(err, /suppressions: row 4: its email is no address/);
    assert.deepEqual(sums.left.map((l) => l.count), [1]);
    assert.deepEqual(await list(postern, 'bounces'), []);
    // eslint-disable-next-line no-control-regex
    assert.doesNotMatch(err, /\x1b/);
  });

  it("is Ghost's to read afterwards, under the events' own times, and a second time adds nothing", async () => {
    const { status, sums } = importFile(postern, file, '--json');
    assert.deepEqual([status, sums.events, sums.listed, sums.mails, sums['not-understood']], [1, 3, 2, 1, 3]);
    assert.deepEqual(await list(postern, 'bounces'), ['gone@readers.example.net']);
    assert.deepEqual(await list(postern, 'complaints'), ['angry@readers.example.net']);
    const seen = await events(postern, '&event=delivered+OR+opened+OR+failed&tags=bulk-email');
    assert.deepEqual(seen.map((e) => e.event), ['delivered', 'failed', 'opened']);
    assert.ok(Math.abs(seen[0].timestamp * 1000 - at(2 * DAY)) < 1, 'its own time');
    for (const e of seen) assert.equal(e['user-variables']['email-id'], 'email-1');
    assert.equal(seen[0].message.headers['message-id'], `batch-1@${domain}`);
    assert.deepEqual([seen[1].severity, seen[1]['delivery-status'].code, seen[1]['delivery-status'].description], ['permanent', 607, 'smtp; 550 5.1.1 no such user']);

    const again = importFile(postern, file, '--json').sums;
    assert.deepEqual([again.events, again.late, again.listed, again.mails, again.known, again['listed-known'], again['mails-known']], [0, 0, 0, 0, 3, 2, 1]);
    assert.equal((await events(postern)).length, 3);
    assert.match(importFile(postern, file).out, /nothing new/);
    assert.match(postern.cli('check'), /: 0 problems/);
  });

  it('a late open of a mail that the proxy sent belongs to its newsletter', async () => {
    const opened = { eventType: 'Open', mail: { timestamp: at(DAY).toISOString(), messageId: 'ses-late-1', source: `news@${domain}`, destination: ['late@readers.example.net'] }, open: { timestamp: new Date().toISOString(), ipAddress: '192.0.2.1', userAgent: 'Mail/1' } };
    await tell(postern, JSON.stringify(opened));
    const [open] = await waitFor('the open', async () => {
      const found = await events(postern, '&event=opened&tags=bulk-email&recipient=late@readers.example.net');
      return found.length > 0 && found;
    });
    assert.equal(open['user-variables']['email-id'], 'email-1');
    assert.deepEqual(open.tags, ['bulk-email', 'ghost-email', 'blog-1']);
    assert.equal(open.message.headers['message-id'], `batch-1@${domain}`);
  });

  it('what readers have been answered beyond comes under a later time, or stays out', async () => {
    const later = path.join(postern.dir, 'later.db');
    await events(postern); // up to now
    makeGhostSes(later, { events: [{ id: 'l1', type: 'opened', time: at(DAY / 2) }, { id: 'l2', type: 'complained', time: at(20 * DAY) }] });
    const { status, sums } = importFile(postern, later, '--json');
    assert.deepEqual([status, sums.events, sums.late, sums.behind], [0, 0, 1, 1]);
    const mark = Date.now() / 1000 - 60;
    const seen = await waitFor('the late one', async () => {
      const found = (await events(postern, '&event=opened')).filter((e) => Math.abs(e['ses-timestamp'] * 1000 - at(DAY / 2)) < 1);
      return found.length === 1 && found;
    });
    assert.ok(seen[0].timestamp > mark);
    assert.equal(importFile(postern, later, '--json', '--late', '90d').sums.late, 1);
    assert.equal(importFile(postern, later, '--json', '--late', '90d').sums.known, 2);
  });

  it('is refused when it is something else, and nothing is taken', async () => {
    const other = path.join(postern.dir, 'other.db');
    const db = new DatabaseSync(other);
    db.exec('CREATE TABLE events (id TEXT)');
    db.close();
    const { status, err } = importFile(postern, other);
    assert.equal(status, 1);
    assert.match(err, /other\.db: no such table: suppressions: is this ghost-ses-proxy's file\? Nothing was taken/);
    assert.match(importFile(postern, path.join(postern.dir, 'absent')).err, /absent: No such file/);
    assert.equal(importFile(postern, file, '--domain', 'absent.example').status, 2);
    assert.equal(importFile(postern, file, '--late', 'soon').status, 2);
  });

  it('needs the running Postern, but for a dry run', async () => {
    await postern.stop();
    const { status, err } = importFile(postern, file);
    assert.equal(status, 1);
    assert.match(err, /Postern is not running in .*\n.*start it, and import again/);
    assert.equal(importFile(postern, file, '--json', '--dry-run').sums.known, 3);
  });
});

describe("mailgun-ses-proxy's dump", () => {
  let postern, file;
  const sent = at(3 * DAY);
  const request = { from: `News <news@${domain}>`, 'v:email-id': 'email-9', 'o:tag': ['bulk-email', 'ghost-email', 'blog-9'], html: '<p class="x">It\'s \\ here;\n</p>', subject: 'Weekly "best of"' };
  const rows = {
    batches: [['b-1', domain, request.from, JSON.stringify(request), 'email-9', sqlTime(sent)], ['b-2', second, `x@${second}`, '{"o:tag":"bulk-email"}', 'email-8', sqlTime(sent)]],
    errors: [['x-1', 'ivy@readers.example.net', 'Throttling', sqlTime(sent), 'b-1', 'm-x', '', null]],
    messages: [['m-1', 'ses-m-1', 'ann@readers.example.net', 'b-1', sqlTime(sent), '', null], ['m-2', 'ses-m-2', 'bob@readers.example.net', 'b-1', sqlTime(sent), '', null], ['m-3', 'ses-m-3', 'eve@readers.example.net', 'b-2', sqlTime(sent), '', null]],
    notifications: [
      notification(1, sesEvent('Send', 'send', {}, { id: 'ses-m-1', to: 'ann@readers.example.net', sent }), sent),
      notification(2, sesEvent('Delivery', 'delivery', { timestamp: at(3 * DAY - 1000).toISOString(), recipients: ['ann@readers.example.net'], smtpResponse: "250 2.0.0 OK 'queued'" }, { id: 'ses-m-1', to: 'ann@readers.example.net', sent }), sent),
      notification(3, sesEvent('Bounce', 'bounce', { feedbackId: 'f1', bounceType: 'Permanent', bounceSubType: 'General', timestamp: at(3 * DAY - 2000).toISOString(), bouncedRecipients: [{ emailAddress: 'bob@readers.example.net', status: '5.1.1', diagnosticCode: 'smtp; 550 5.1.1 user unknown' }] }, { id: 'ses-m-2', to: 'bob@readers.example.net', sent }), sent),
      notification(4, sesEvent('Complaint', 'complaint', { feedbackId: 'f2', timestamp: at(3 * DAY - 3000).toISOString(), complainedRecipients: [{ emailAddress: 'eve@readers.example.net' }] }, { id: 'ses-m-3', to: 'eve@readers.example.net', sent, site: second, emailId: 'email-8' }), sent),
      ['n-5', 'opened', 'sqs-5', 'ses-m-1', '{"eventType":"Open","mail":{"messageId":"ses-m-1"', sqlTime(sent), sqlTime(sent)],
    ],
  };
  before(async () => {
    postern = await Postern.start({ domains: { [domain]: [key], [second]: [key] } });
    file = path.join(postern.dir, 'dump.sql');
    fs.writeFileSync(file, makeDump(rows));
  });

  it('that is cut short is refused with its line, and nothing is taken', async () => {
    const cut = path.join(postern.dir, 'cut.sql');
    const text = makeDump(rows);
    fs.writeFileSync(cut, text.slice(0, text.lastIndexOf('ses-m-1')));
    const { status, err } = importFile(postern, cut);
    assert.equal(status, 1);
    const line = text.slice(0, text.lastIndexOf('INSERT INTO')).split('\n').length;
    assert.match(err, new RegExp(`cut\\.sql:${line}: .*cut short\\. Nothing was taken`));
    assert.deepEqual(await list(postern, 'bounces'), []);
    fs.writeFileSync(cut, 'CREATE TABLE `users` (`id` int);\nINSERT INTO `users` VALUES (1);\n');
    assert.match(importFile(postern, cut).err, /no rows of NewsletterBatch/);
    fs.writeFileSync(cut, Buffer.from([0x1f, 0x8b, 8, 0]));
    assert.match(importFile(postern, cut).err, /is compressed: unpack it first/);
    fs.writeFileSync(cut, '');
    assert.match(importFile(postern, cut).err, /it is empty/);
  });

  it("goes to the domains it names; SES's events become what a poller makes of them", async () => {
    const dry = importFile(postern, file, '--dry-run', '--json').sums;
    const { status, sums, err } = importFile(postern, file, '--json');
    assert.equal(status, 1);
    assert.match(err, /dump\.sql: line \d+: NewsletterNotifications n-5: its rawEvent: not JSON/);
    for (const name of ['events', 'listed', 'mails', 'not-understood']) assert.equal(dry[name], sums[name], name);
    assert.deepEqual([sums.events, sums.listed, sums.mails, sums['not-understood']], [3, 2, 3, 1]);
    assert.deepEqual(sums.left.map((l) => l.count), [1, 1]);
    assert.deepEqual(await list(postern, 'bounces'), ['bob@readers.example.net']);
    assert.deepEqual(await list(postern, 'complaints', second), ['eve@readers.example.net']);
    const seen = await events(postern, '&tags=bulk-email+AND+blog-9');
    assert.deepEqual(seen.map((e) => [e.event, e.recipient, e['user-variables']['email-id']]), [['delivered', 'ann@readers.example.net', 'email-9'], ['failed', 'bob@readers.example.net', 'email-9']]);
    assert.equal(seen[0].message.headers.subject, 'Weekly "best of"');
    assert.equal(seen[0]['delivery-status'].message, "250 2.0.0 OK 'queued'");
    assert.deepEqual((await events(postern, '&tags=bulk-email', second)).map((e) => e.event), ['complained']);
    assert.match(postern.cli('check'), /: 0 problems/);
  });

  it('a second time adds nothing, and neither does the same event out of the queue', async () => {
    const again = importFile(postern, file, '--json').sums;
    assert.deepEqual([again.events, again.late, again.listed, again.mails, again.known], [0, 0, 0, 0, 3]);
    const repeated = postern.status().events?.repeated ?? 0;
    await tell(postern, rows.notifications[1][4]);
    await waitFor('the repeat', () => (postern.status().events?.repeated ?? 0) > repeated);
    assert.equal((await events(postern)).length, 2);
  });

  it('an address taken off a list between two runs stays off', async () => {
    await postern.request('DELETE', `/v3/${domain}/bounces/bob@readers.example.net`);
    importFile(postern, file);
    assert.deepEqual(await list(postern, 'bounces'), []);
  });
});
