// Whatever is wrong, it is said clearly, nothing is lost, and nobody dies of it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { createRequire } from 'node:module';
import { Postern, domain, freePort, isSettled, key, newsletterForm, readers, sleep, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
after(stopAll);

const basic = `Basic ${Buffer.from(`api:${key}`).toString('base64')}`;

/** Writes raw bytes, answers all that comes back until the server closes or ms have gone by. */
function raw(port, bytes, ms = 3000) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(bytes));
    let text = '';
    const done = () => {
      socket.destroy();
      resolve(text);
    };
    socket.on('data', (data) => (text += data));
    socket.on('error', done);
    socket.on('close', done);
    setTimeout(done, ms).unref();
  });
}

describe('bad requests', () => {
  let postern;
  before(async () => {
    postern = await Postern.start({ sections: { httpd: 'max_body = "1M"' } });
  });
  after(async () => assert.deepEqual(await postern.stop(), { code: 0, signal: null }));

  const refused = async (form, status, message, options) => {
    const res = await postern.post(form, options);
    const text = await res.text();
    assert.equal(res.status, status, text);
    if (message) assert.match(text, message);
    if (status !== 401) assert.match(res.headers.get('content-type'), /^application\/json/);
  };
  const changed = (form, from, to) => ({ ...form, body: Buffer.from(form.body.toString('latin1').replace(from, to), 'latin1') });

  it('a wrong key and an unknown domain', async () => {
    const form = newsletterForm(readers(1));
    await refused(form, 401, /^Forbidden$/, { auth: 'api:wrong', headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}` } });
    await refused(form, 404, /Domain not found: nowhere\.example/, { domain: 'nowhere.example', headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}` } });
  });
  it('a part without a name', () =>
    refused(changed(newsletterForm(readers(1)), 'form-data; name="subject"', 'form-data'), 400, /malformed multipart\/form-data request/));
  it('a body cut off within a part', async () => {
    const form = newsletterForm(readers(1));
    await refused({ ...form, body: form.body.subarray(0, form.body.length - 40) }, 400, /malformed multipart/);
  });
  it('a body shorter than it says', async () => {
    const text = await raw(postern.port, `POST /v3/${domain}/messages HTTP/1.1\r\nHost: x\r\nAuthorization: ${basic}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\n\r\n--b\r\n`, 1000);
    assert.doesNotMatch(text, / 200 /);
  });
  it('recipient-variables that are no JSON object', () =>
    refused(newsletterForm(readers(1), { variables: ['no', 'object'] }), 400, /'recipient-variables' parameter is not a valid JSON/));
  it('an address that is none: nothing is sent to anybody', () =>
    refused(newsletterForm([...readers(3), 'no address at all']), 400, /to parameter is not a valid address/));
  it('a field that is not UTF-8', () =>
    refused(changed(newsletterForm(readers(1), { subject: 'SUBJECT' }), 'SUBJECT', '\xff\xfe'), 400, /subject.*UTF-8/));
  it('a body over the limit', async () => {
    await refused(newsletterForm(readers(1), { html: 'x'.repeat(2 << 20) }), 413, /request size exceeds 1/);
  });
  it('1,001 readers', () => refused(newsletterForm(readers(1001)), 400, /Too many recipients/));
  it('a line break in a header', () =>
    refused(newsletterForm(readers(1), { extra: [['h:X-One', 'a\r\nBcc: thief@example.com']] }), 400, /X-One/));
  it('no route answers anything without a key', async () => {
    for (const path of ['/', '/v3', `/v3/${domain}/messages`, `/v3/${domain}/events`, '/v3/x.js/messages', '/v3/domains', '/../v3', '//', '/metrics', '/dashboard/api/overview']) {
      const res = await fetch(postern.url + path);
      assert.equal(res.status, 401, path);
    }
  });
  it('a client that sends one byte a second does not keep others waiting', async () => {
    const socket = net.connect(postern.port, '127.0.0.1');
    const timer = setInterval(() => socket.write('G'), 200);
    socket.on('error', () => {});
    await sleep(600);
    const at = Date.now();
    assert.equal((await postern.post(newsletterForm(readers(1)))).status, 200);
    assert.ok(Date.now() - at < 2000);
    clearInterval(timer);
    socket.destroy();
  });
  it('a delivery time too far ahead, and one that is none', async () => {
    await refused(newsletterForm(readers(1), { extra: [['o:deliverytime', String(Math.floor(Date.now() / 1000) + 8 * 86400)]] }), 400, /more than 7 days ahead/);
    await refused(newsletterForm(readers(1), { extra: [['o:deliverytime', 'next week']] }), 400, /RFC-2822/);
  });
  it('readers named twice, variables for nobody, a delivery time in the past: one mail each, now', async () => {
    const to = ['Twice@readers.example.net', 'twice@readers.example.net', 'bare@readers.example.net'];
    const form = newsletterForm([...to, ...to], { variables: { 'nobody@readers.example.net': { name: 'x' }, 'twice@readers.example.net': { name: 'y' } }, extra: [['o:deliverytime', 'Mon, 23 Nov 2020 10:00:00 +0000']] });
    assert.equal((await postern.post(form)).status, 200);
    const mine = () => postern.batches().find((b) => b['email-id'] === form.emailId);
    await waitFor('both mails', () => mine()?.sent === 2);
    assert.equal(mine().accepted, 2);
  });
  it('and after all that the same processes serve', () => assert.doesNotMatch(postern.log(), /died of/));
});

describe('files', () => {
  const withFile = (bytes) => {
    const boundary = 'b'.repeat(40);
    const field = (name, value) => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
    return {
      boundary,
      body: Buffer.concat([
        Buffer.from(field('to', 'one@readers.example.net') + field('from', `desk@${domain}`) + field('subject', 'a file') + field('text', 'x')),
        Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="attachment"; filename="a.bin"\r\nContent-Type: application/octet-stream\r\n\r\n`),
        Buffer.alloc(bytes, 7),
        Buffer.from(`\r\n--${boundary}--\r\n`),
      ]),
    };
  };
  it('too large for the server: 413; too large for SES once encoded: that mail fails, and says so', async () => {
    const postern = await Postern.start();
    assert.equal((await postern.post(withFile(40 << 20))).status, 413);
    assert.equal((await postern.post(withFile(31 << 20))).status, 200);
    assert.equal((await postern.post(withFile(2 << 20))).status, 200);
    await waitFor('both', () => postern.batches().length === 2 && isSettled(postern.batches()));
    assert.deepEqual(postern.batches().map((b) => [b.sent, b.failed]), [[1, 0], [0, 1]]);
    const [event] = await waitFor('the event', async () => { const list = await postern.walk('event=failed'); return list.length === 1 && list; });
    assert.match(event['delivery-status'].message, /SES takes 40000000 at most/);
    assert.equal(event.severity, 'permanent');
    await postern.stop();
  });
});

describe('a value of a megabyte that the mail names 1,500 times', () => {
  const [greedy, ...modest] = ['greedy', 'one', 'two'].map((name) => `${name}@readers.example.net`);
  const variables = { [greedy]: { big: 'x'.repeat(1 << 20) }, ...Object.fromEntries(modest.map((a) => [a, { big: 'a' }])) };
  const named = '%recipient.big% '.repeat(1500);
  const wholeMime = () => {
    const form = new FormData();
    for (const address of Object.keys(variables)) form.append('to', address);
    form.append('recipient-variables', JSON.stringify(variables));
    const lines = `From: desk@${domain}\r\nSubject: a whole message\r\n\r\n${'%recipient.big%\r\n'.repeat(1500)}`;
    form.append('message', new Blob([lines], { type: 'message/rfc822' }), 'message.mime');
    return form;
  };
  const peaks = (postern) =>
    postern.children().map((pid) => Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) << 10);

  for (const strategy of ['auto', 'simple', 'raw']) {
    it(`costs its reader the mail, and nobody else anything (${strategy})`, async () => {
      const postern = await Postern.start({ sections: { sender: `strategy = "${strategy}"` } });
      await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0 }); // the failures are to be ours alone
      const forms = [
        newsletterForm(Object.keys(variables), { variables, html: `<p>${named}</p>` }),
        newsletterForm(Object.keys(variables), { variables, subject: `s ${named}` }),
        newsletterForm(Object.keys(variables), { variables, extra: [['h:X-Long', '%recipient.big% '.repeat(900)]] }),
      ];
      for (const form of forms) assert.equal((await postern.post(form)).status, 200);
      assert.equal((await postern.request('POST', `/v3/${domain}/messages.mime`, { body: wholeMime() })).status, 200);
      await waitFor('all four', () => postern.batches().length === 4 && isSettled(postern.batches()));
      assert.deepEqual(postern.batches().map((b) => [b.accepted, b.sent, b.failed]), Array(4).fill([3, 2, 1]));
      const events = await waitFor('the events', async () => { const list = await postern.walk('event=failed'); return list.length === 4 && list; });
      for (const event of events) {
        assert.equal(event.recipient, greedy);
        assert.equal(event.severity, 'permanent');
        assert.match(event['delivery-status'].message, /^(The mail has 157\d{7} bytes at least: SES takes 40000000 at most|Header (Subject|X-Long): would have \d{9,10} bytes: 100000 at most)$/);
      }
      assert.doesNotMatch(postern.log(), /died of/);
      for (const bytes of peaks(postern)) assert.ok(bytes < 300 << 20, `a process took ${bytes} bytes`);
      await postern.stop();
    });
  }
});

describe('bad answers from AWS', () => {
  it('SQS messages that are no events become dead letters; the good ones behind them arrive', async () => {
    const postern = await Postern.start();
    const { SQSClient, SendMessageCommand } = require('@aws-sdk/client-sqs');
    const sqs = new SQSClient({ region: 'us-east-1', endpoint: postern.sandbox.url, credentials: { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' } });
    const QueueUrl = `${postern.sandbox.url}/000000000000/newsletter-events-queue`;
    const bad = ['not JSON', '[]', '{}', '{"eventType":"Unheard"}', '{"Type":"Notification","Message":"{"}', '{"eventType":"Bounce","mail":null}',
      JSON.stringify({ eventType: 'Delivery', mail: { messageId: 'x', source: 'a@elsewhere.example', destination: ['a@b.c'], timestamp: '2026-01-01T00:00:00.000Z' }, delivery: {} })];
    for (const MessageBody of bad) await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody }));
    assert.equal((await postern.post(newsletterForm(readers(10)))).status, 200);
    await waitFor('deliveries', () => postern.batches()[0].delivered >= 9, 15000);
    const letters = await waitFor('dead letters', () => {
      const lines = postern.cli('deadletters', '--json').split('\n').filter(Boolean).map((l) => JSON.parse(l));
      return lines.length === bad.length && lines;
    });
    assert.deepEqual(letters.map((l) => l.raw).sort(), [...bad].sort());
    assert.ok(letters.some((l) => /no configured domain/.test(l.why)));
    await waitFor('an empty queue', async () => {
      const q = (await postern.sandbox.stats()).queues['newsletter-events-queue'];
      return q.visible + q.in_flight === 0;
    });
    assert.doesNotMatch(postern.log(), /died of/);
    sqs.destroy();
    await postern.stop();
  });

  it('an SES that answers with HTML, then with nothing, then recovers', async () => {
    const port = await freePort();
    let mode = 'html';
    const server = http.createServer((req, res) => {
      req.resume();
      req.on('end', () => {
        if (req.url === '/v2/email/account') return res.end('{"SendQuota":{"MaxSendRate":100.0,"Max24HourSend":-1.0}}');
        if (mode === 'html') return res.writeHead(502, { 'Content-Type': 'text/html' }).end('<html>Bad gateway</html>');
        res.end('<html>this is no JSON</html>');
      });
    });
    await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
    const postern = await Postern.start({
      sections: { sender: 'strategy = "simple"' },
      aws: `aws { region = "us-east-1" access_key_id = "k" secret_access_key = "s" ses_endpoint = "http://127.0.0.1:${port}" sqs_endpoint = "http://127.0.0.1:${port}" }
            queues { newsletter_events = "http://127.0.0.1:${port}/q" }`,
    });
    assert.equal((await postern.post(newsletterForm(readers(3)))).status, 200);
    await sleep(500);
    mode = 'ok';
    await waitFor('the books', () => isSettled(postern.batches()), 20000);
    assert.equal(postern.batches()[0].sent, 3); // 200 is 200: SES has taken it, whatever it mumbles
    assert.doesNotMatch(postern.log(), /died of/);
    await postern.stop();
    server.closeAllConnections();
    server.close();
  });
});
