// mailgun.js as Ghost uses it (10.4.0), and its newest version, against the whole of Postern.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createRequire } from 'node:module';
import { Postern, domain, isSettled, key, readers, sleep, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const FormData = require('form-data');
after(stopAll);

function client(version, url, apiKey = key) {
  const loaded = require(`mailgun.js-${version}`);
  const Mailgun = loaded.default ?? loaded;
  return new Mailgun(FormData).client({ username: 'api', key: apiKey, url, timeout: 60000 });
}

function newsletter(to, emailId) {
  const variables = Object.fromEntries(
    to.map((address) => [address, { name: 'Zoë', list_unsubscribe: `http://127.0.0.1/u/${address}` }]),
  );
  return {
    to,
    from: '"E2E \\"Gazette\\" & Söhne" <newsletter@mg.example.com>',
    'h:Reply-To': 'newsletter@mg.example.com',
    subject: 'Hello <World> & friends',
    html: '<p>Hello %recipient.name%</p>',
    text: 'Hello %recipient.name%',
    'recipient-variables': JSON.stringify(variables),
    'h:List-Unsubscribe': '<%recipient.list_unsubscribe%>, <%tag_unsubscribe_email%>',
    'h:List-Unsubscribe-Post': 'List-Unsubscribe=One-Click',
    'v:email-id': emailId,
    'o:tag': ['ghost-email', 'bulk-email'],
    'o:tracking-opens': true,
  };
}

/** Ghost's page loop over the client. */
async function fetchAll(mg, query) {
  const items = [];
  let page = await mg.events.get(domain, query);
  while (page.items.length > 0) {
    items.push(...page.items);
    page = await mg.events.get(domain, { page: page.pages.next.page, ...query });
  }
  return items;
}

for (const version of ['10', '14']) {
  describe(`mailgun.js ${version}`, () => {
    let postern;
    let mg;
    const to = [...readers(960), ...readers(30, 'bounce'), ...readers(10, 'complaint')];
    const emailId = `6b041b59ddb6680c07e773${version}`;
    const tags = 'bulk-email';

    before(async () => {
      postern = await Postern.start({ sections: { guard: 'complaint_pause = "0%"' } }); // one reader in a hundred complains here
      await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 5000, delivery_delay_ms_max: 300 });
      mg = client(version, postern.url);
    });
    after(() => postern?.stop());

    it('sends a newsletter to 1,000 readers, each exactly once', async () => {
      const answer = await mg.messages.create(domain, newsletter(to, emailId));
      assert.equal(answer.status, 200);
      assert.match(answer.id, /^<\d{14}\.[0-9a-f]{16}@mg\.example\.com>$/);
      assert.equal(answer.message, 'Queued. Thank you.');
      await waitFor('all mails at SES', async () => (await postern.sandbox.stats()).accepted_recipients >= 1000);
      await waitFor('the books', () => isSettled(postern.batches()));
      const counts = [...(await postern.sandbox.recipients()).values()];
      assert.equal(counts.length, 1000);
      assert.ok(counts.every((n) => n === 1));
      const [books] = postern.batches();
      assert.equal(books.sent, 1000);
      assert.equal(books.unaccounted, 0);
    });

    it('gets the message back from the URL of its events', async () => {
      let items = [];
      await waitFor('an event', async () => ({ items } = await mg.events.get(domain, { event: 'accepted', limit: 1 })).items.length > 0);
      const { url, key: storageKey } = items[0].storage;
      assert.equal(url, `${postern.url}/v3/domains/${domain}/messages/${storageKey}`);
      // it has no call of its own for this
      const { body: stored } = await mg.request.get(new URL(url).pathname);
      const sent = newsletter(to, emailId);
      assert.deepEqual(stored.recipients.split(', ').sort(), [...to].sort());
      assert.equal(stored['body-html'], sent.html);
      assert.equal(stored['body-plain'], sent.text);
      assert.equal(stored.Subject, sent.subject);
      assert.equal(stored['Message-Id'], `<${items[0].message.headers['message-id']}>`);
      assert.ok(stored['message-headers'].some(([name, value]) => name === 'List-Unsubscribe-Post' && value === 'List-Unsubscribe=One-Click'));
      await assert.rejects(mg.request.get(`/v3/domains/${domain}/messages/bm90aGluZw`), { status: 404 });
    });

    it('reads every event back, each once, in order', async () => {
      await waitFor('the events', () => {
        const [b] = postern.batches();
        return b.delivered === 970 && b['failed-permanent'] === 30 && b.complained === 10 && b.opened > 0;
      });
      const begin = Date.now() / 1000 - 600;
      const read = async (event) => fetchAll(mg, { limit: 300, event, tags, begin, end: Date.now() / 1000, ascending: 'yes' });
      await waitFor('all events on the API', async () => (await read('accepted')).length === 1000, 20000, 500);
      // An answer covers events up to a second ago.
      const items = await waitFor('the last second', async () => {
        const got = await read('delivered OR failed OR unsubscribed OR complained');
        return got.length >= 970 + 30 + 10 && got;
      });
      assert.equal(items.length, 970 + 30 + 10);
      assert.equal(new Set(items.map((i) => i.id)).size, items.length);
      for (let i = 1; i < items.length; i++) assert.ok(items[i].timestamp >= items[i - 1].timestamp);
      for (const item of items) {
        assert.equal(item['user-variables']['email-id'], emailId);
        assert.ok(to.includes(item.recipient));
        assert.match(item.message.headers['message-id'], /^\d{14}\./);
        assert.ok(item.timestamp <= Date.now() / 1000);
        assert.ok(!Number.isInteger(item.timestamp));
      }
      const failed = items.filter((i) => i.event === 'failed');
      assert.equal(failed.length, 30);
      for (const item of failed) {
        assert.equal(item.severity, 'permanent');
        assert.ok(Number.isInteger(item['delivery-status'].code));
        assert.notEqual(item['delivery-status'].code, 605);
        assert.equal(typeof item['delivery-status'].message, 'string');
        assert.equal(typeof item['delivery-status'].description, 'string');
      }
      await waitFor('the opens', async () => (await read('opened')).length > 100);
    });

    it('answers a bounced reader of the next newsletter with 605, and sends nothing', async () => {
      const before = (await postern.sandbox.stats()).accepted_recipients;
      const second = [...readers(3), 'bounce000001@readers.example.net', 'complaint000001@readers.example.net'];
      await mg.messages.create(domain, newsletter(second, `${emailId}b`));
      await waitFor('the books', () => isSettled(postern.batches()));
      assert.equal((await postern.sandbox.stats()).accepted_recipients, before + 3);
      const read = () =>
        fetchAll(mg, { limit: 300, event: 'failed', tags, begin: Date.now() / 1000 - 600, end: Date.now() / 1000, ascending: 'yes' });
      const codes = await waitFor('605 and 607', async () => {
        const found = (await read()).filter((i) => i['user-variables']['email-id'] === `${emailId}b`);
        return found.length === 2 && found;
      });
      const byAddress = Object.fromEntries(codes.map((i) => [i.recipient, i['delivery-status'].code]));
      assert.deepEqual(byAddress, {
        'bounce000001@readers.example.net': 605,
        'complaint000001@readers.example.net': 607,
      });
    });

    it('removes a suppression, and says so when there is none', async () => {
      const address = 'bounce000002@readers.example.net';
      const removed = await mg.suppressions.destroy(domain, 'bounces', address);
      assert.equal(removed.status, 200);
      await assert.rejects(mg.suppressions.destroy(domain, 'bounces', address), (e) => e.status === 404);
      await assert.rejects(mg.suppressions.destroy(domain, 'unsubscribes', address), (e) => e.status === 404);
    });

    it('lets a reader whose suppression was lifted have the next newsletter, at SES too', async () => {
      const address = 'bounce000003@readers.example.net';
      await postern.sandbox.set({ local_parts: false });
      for (const list of ['bounces', 'complaints', 'unsubscribes']) await mg.suppressions.destroy(domain, list, address).catch(() => {});
      await sleep(2500); // a sender tells SES about once a second
      await mg.messages.create(domain, newsletter([address], `${emailId}c`));
      await waitFor('its delivery', () => {
        const [b] = postern.batches();
        return b['email-id'] === `${emailId}c` && b.delivered === 1;
      });
      await postern.sandbox.set({ local_parts: true });
    });

    it('refuses a wrong key and an unknown domain', async () => {
      const wrong = client(version, postern.url, 'key-wrong');
      await assert.rejects(wrong.messages.create(domain, newsletter(readers(1), 'x')), (e) => e.status === 401);
      await assert.rejects(wrong.events.get(domain, { limit: 1 }), (e) => e.status === 401);
      await assert.rejects(mg.messages.create('other.example.com', newsletter(readers(1), 'x')), (e) => e.status === 404);
    });
  });
}
