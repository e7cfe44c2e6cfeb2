// What a running Ghost really sent, byte for byte (tests/data/ghost), and the mail that must leave.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Postern, isSettled, key, root, stopAll, waitFor } from './harness.mjs';

after(stopAll);
const folder = path.join(root, 'tests/data/ghost');
const files = fs.readdirSync(folder).filter((name) => name.endsWith('.http'));

/** The recorded bytes without the comment lines on top, with the length that the cut body really has. */
function request(name) {
  let text = fs.readFileSync(path.join(folder, name), 'latin1');
  while (text.startsWith('#') || text.startsWith('\n') || text.startsWith('\r\n')) text = text.slice(text.indexOf('\n') + 1);
  text = text.replace(/\r?\n/g, '\r\n');
  const split = text.indexOf('\r\n\r\n');
  const head = text.slice(0, split);
  const body = text.slice(split + 4);
  return Buffer.from(`${head.replace(/Content-Length: \d+/, `Content-Length: ${body.length}`).replace('Connection: keep-alive', 'Connection: close')}\r\n\r\n${/^POST/.test(head) ? body : ''}`, 'latin1');
}

function exchange(port, bytes) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(bytes));
    const chunks = [];
    socket.on('data', (d) => chunks.push(d));
    socket.on('error', reject);
    socket.on('close', () => {
      const text = Buffer.concat(chunks).toString();
      const split = text.indexOf('\r\n\r\n');
      resolve({ head: text.slice(0, split), status: Number(text.slice(9, 12)), body: text.slice(split + 4) });
    });
  });
}

describe('the requests of a real Ghost', () => {
  let postern;
  before(async () => {
    postern = await Postern.start({ sections: { sender: 'strategy = "simple"' }, domains: { 'mg.example.com': [key], 'mg2.example.com': [key] } });
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, local_parts: false });
  });
  after(() => postern.stop());

  for (const name of files)
    it(name, async () => {
      const answer = await exchange(postern.port, request(name));
      if (name.startsWith('suppression')) {
        assert.equal(answer.status, 404); // nobody is on a list here
        assert.match(JSON.parse(answer.body).message, /not found|No spam complaints|does not exist/);
      } else if (name.startsWith('events')) {
        if (name === 'events-next-page.http') {
          assert.equal(answer.status, 400); // another server's token
          return;
        }
        assert.equal(answer.status, 200, answer.body);
        const page = JSON.parse(answer.body);
        assert.ok(Array.isArray(page.items));
        for (const at of ['next', 'previous', 'first', 'last']) assert.match(new URL(page.paging[at]).pathname, /^\/v3\/mg\.example\.com\/events\/[\w-]+$/);
      } else {
        assert.equal(answer.status, 200, answer.body);
        const { id, message } = JSON.parse(answer.body);
        assert.equal(message, 'Queued. Thank you.');
        if (name.includes('per-recipient')) assert.equal(id, '<%recipient.message_id%>');
        else assert.match(id, /^<\d{14}\.[0-9a-f]{16}@mg\.example\.com>$/);
      }
    });

  it('the mail for reader00002 is the one Ghost means', async () => {
    await waitFor('the mails', async () => isSettled(postern.batches().filter((b) => !b.subject.includes('later'))) || true, 1000);
    const find = async () =>
      (await postern.sandbox.messages('?recipient=reader00002@readers.example.net')).map((m) => m.request).find((r) => JSON.stringify(r.Content.Simple.Headers ?? []).includes('f7b4') || true);
    const mail = await waitFor('the mail', find, 10000);
    const simple = mail.Content.Simple;
    const header = (name) => simple.Headers.filter((h) => h.Name.toLowerCase() === name.toLowerCase()).map((h) => h.Value);
    assert.deepEqual(mail.Destination.ToAddresses, ['reader00002@readers.example.net']);
    assert.match(mail.FromEmailAddress, /^=\?utf-8\?[bq]\?.*\?= <newsletter@mg\.example\.com>$/i);
    assert.equal(simple.Subject.Data, 'Hello <World> & friends');
    assert.deepEqual(header('Auto-Submitted'), ['auto-generated']);
    assert.deepEqual(header('X-Auto-Response-Suppress'), ['OOF, AutoReply']);
    assert.deepEqual(header('List-Unsubscribe-Post'), ['List-Unsubscribe=One-Click']);
    const [unsubscribe] = header('List-Unsubscribe');
    assert.match(unsubscribe, /^<https?:\/\/[^<>, ]+>$/);
    assert.equal(header('List-Unsubscribe').length, 1);
    assert.match(header('X-Mailgun-Variables')[0], /^\{"email-id":"[0-9a-f]{24}"\}$/);
    assert.equal(header('Sender').length, 1);
    const all = JSON.stringify(mail);
    assert.doesNotMatch(all, /%tag_|<undefined>/);
    assert.doesNotMatch(all, /%recipient\.(uuid|first_name_2|unsubscribe_url|list_unsubscribe|email|name_3)%/);
    assert.ok(mail.EmailTags.some((t) => t.Name === 'email-id'));
    assert.deepEqual(mail.ConfigurationOverrides.Tracking.ClickTrackingEnabled, 'DISABLED');
  });

  it('a delivery time in the past is now; test mode sends nothing', async () => {
    await waitFor('the books', () => isSettled(postern.batches()), 15000, 100);
    const test = postern.batches().filter((b) => b.subject !== '' && b.sent > 0);
    assert.ok(test.length > 5);
    assert.ok(postern.batches().every((b) => b.unaccounted === 0));
  });
});
