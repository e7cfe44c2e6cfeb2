// What comes in from SQS: queues in any region, repeats, messages that are not understood.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { createHash, randomUUID } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { Postern, domain, jsonLines, key, newsletterForm, readers, startSandbox, stopAll, waitFor } from './harness.mjs';

after(stopAll);

/** SES that only says what the account may do, and SQS: messages are given once, and once more if they were not deleted. */
export async function startAws({ hideMs = 3000 } = {}) {
  const aws = { queues: new Map(), receives: [], stop: null };
  const queue = (url) => {
    if (!aws.queues.has(url)) aws.queues.set(url, []);
    return aws.queues.get(url);
  };
  aws.put = (url, body) => queue(url).push({ id: randomUUID(), body: typeof body === 'string' ? body : JSON.stringify(body), sent: Date.now(), hiddenUntil: 0 });
  aws.left = (url) => queue(url).length;
  const receive = (url, endsAt, res) => {
    if (res.destroyed) return;
    const now = Date.now();
    const found = queue(url).filter((m) => m.hiddenUntil <= now).slice(0, 10);
    if (found.length === 0 && now < endsAt) return void setTimeout(receive, 20, url, endsAt, res);
    for (const m of found) m.hiddenUntil = now + hideMs;
    res.end(JSON.stringify({ Messages: found.map((m) => ({ MessageId: m.id, ReceiptHandle: m.id, Body: m.body, MD5OfBody: createHash('md5').update(m.body).digest('hex'),
      Attributes: { SentTimestamp: String(m.sent), ApproximateFirstReceiveTimestamp: String(now) } })) }));
  };
  const server = http.createServer((req, res) => {
    const chunks = [];
    req.on('data', (c) => chunks.push(c));
    req.on('end', () => {
      if (aws.other?.(req, res)) return;
      if (req.url === '/v2/email/account') return res.end('{"SendQuota":{"MaxSendRate":100.0,"Max24HourSend":-1.0}}');
      const body = JSON.parse(Buffer.concat(chunks).toString() || '{}');
      const action = req.headers['x-amz-target']?.split('.')[1];
      if (action === 'ReceiveMessage') {
        aws.receives.push({ url: body.QueueUrl, region: /Credential=[^/]+\/\d+\/([^/]+)\/sqs/.exec(req.headers.authorization)?.[1] });
        return receive(body.QueueUrl, Date.now() + body.WaitTimeSeconds * 1000, res);
      }
      if (action === 'DeleteMessageBatch') {
        const gone = new Set(body.Entries.map((e) => e.ReceiptHandle));
        aws.queues.set(body.QueueUrl, queue(body.QueueUrl).filter((m) => !gone.has(m.id)));
        return res.end(JSON.stringify({ Successful: body.Entries.map((e) => ({ Id: e.Id })), Failed: [] }));
      }
      res.writeHead(404).end('{}');
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  aws.endpoint = `http://127.0.0.1:${server.address().port}`;
  aws.stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return aws;
}

const awsSection = (aws, queues, more = '') => `aws { region = "eu-west-1" access_key_id = "k" secret_access_key = "s"
  ses_endpoint = "${aws.endpoint}" sqs_endpoint = "${aws.endpoint}" sns_endpoint = "${aws.endpoint}" }
  queues { ${queues} ${more} }`;

const seconds = (n) => new Date(Date.now() - 60000 + n * 1000).toISOString();
/** An SES event of a mail from our domain, without any tag. */
export function sesEvent(kind, part, body, { id = 'ses-1', to = 'ann@example.net', from = `news@${domain}` } = {}) {
  return { eventType: kind, mail: { timestamp: seconds(0), messageId: id, source: from, destination: [to] }, [part]: body };
}
const delivery = (options) => sesEvent('Delivery', 'delivery', { timestamp: seconds(1), recipients: [options?.to ?? 'ann@example.net'], smtpResponse: '250 OK' }, options);
const sns = (event, id = randomUUID()) => ({ Type: 'Notification', MessageId: id, TopicArn: 'arn:aws:sns:eu-west-1:000000000000:t', Message: JSON.stringify(event), Timestamp: new Date().toISOString() });
const bridge = (event) => ({ version: '0', id: randomUUID(), 'detail-type': 'Email Event', source: 'aws.ses', time: new Date().toISOString(), detail: event });

describe('event queues', () => {
  it('any number, each read once, signed for the region that its URL names', async () => {
    const aws = await startAws();
    const url = (region, name) => `https://sqs.${region}.amazonaws.com/111122223333/${name}`;
    const urls = { [url('us-east-1', 'a')]: 'us-east-1', [url('ap-south-1', 'b')]: 'ap-south-1', 'https://sqs.cn-north-1.amazonaws.com.cn/1/c': 'cn-north-1', [`${aws.endpoint}/1/d`]: 'eu-west-1' };
    const [a, b, c, d] = Object.keys(urls);
    const postern = await Postern.start({
      aws: awsSection(aws, `newsletter_events = "${a}" system_events = "${b}"`),
      conf: `domain "second.example" { api_keys = {"k2"} newsletter_events = "${c}" system_events = "${b}" }
        domain "third.example" { api_keys = {"k2"} newsletter_events = "${d}" system_events = "${a}" }`,
      sections: { poller: 'children = 2\nreceives = 1' },
    });
    Object.keys(urls).forEach((u, i) => aws.put(u, delivery({ id: `ses-${i}`, to: `r${i}@example.net` })));
    await waitFor('all four', async () => (await postern.walk('event=delivered')).length === 4);
    for (const one of aws.receives) assert.equal(one.region, urls[one.url], one.url);
    assert.equal(new Set(aws.receives.map((r) => r.url)).size, 4);
    await waitFor('empty queues', () => Object.keys(urls).every((u) => aws.left(u) === 0));
    await postern.stop();
    aws.stop();
  });
});

describe('repeats', () => {
  it('of SES, SNS and SQS, in any envelope, are one event; different ones stay apart', async () => {
    const aws = await startAws();
    const q = `${aws.endpoint}/000000000000/q`;
    const postern = await Postern.start({ aws: awsSection(aws, `newsletter_events = "${q}"`) });
    const open = (n) => sesEvent('Open', 'open', { timestamp: seconds(n), ipAddress: '203.0.113.9', userAgent: 'Mozilla/5.0' });
    const bounce = sesEvent('Bounce', 'bounce', { timestamp: seconds(30), feedbackId: 'f1', bounceType: 'Permanent', bounceSubType: 'General', bouncedRecipients: [{ emailAddress: 'ann@example.net', status: '5.1.1', diagnosticCode: 'smtp; 550 5.1.1 gone' }] });
    const all = [delivery(), bounce, open(5), open(6)];
    for (let round = 0; round < 3; round++) {
      for (const event of all) for (const body of [event, sns(event), sns(event), bridge(event), sns(bridge(event))]) aws.put(q, body);
      await waitFor('an empty queue', () => aws.left(q) === 0);
      if (round === 1) {
        await postern.stop(); // what is known outlives the process
        await postern.launch();
      }
    }
    const items = await postern.walk('ascending=yes&begin=0');
    assert.deepEqual(items.map((e) => e.event).sort(), ['delivered', 'failed', 'opened', 'opened']);
    assert.equal(new Set(items.map((e) => e.id)).size, 4);
    assert.equal(jsonLines(postern.cli('deadletters', '--json')).length, 0);
    await postern.stop();
    aws.stop();
  });
});

describe('dead letters', () => {
  it('are listed, searched, shown, read again when there is a domain for them, and dropped', async () => {
    const aws = await startAws();
    const q = `${aws.endpoint}/000000000000/q`;
    const postern = await Postern.start({ aws: awsSection(aws, `newsletter_events = "${q}"`) });
    const strange = [1, 2, 3].map((n) => delivery({ id: `late-${n}`, from: 'news@added.example', to: `r${n}@example.net` }));
    for (const event of strange) aws.put(q, sns(event));
    aws.put(q, 'no JSON at all');
    aws.put(q, { eventType: 'Teleport', mail: {} });
    const list = (...args) => jsonLines(postern.cli('deadletters', '--json', ...args));
    await waitFor('five', () => list().length === 5);
    await waitFor('them to be deleted from the queue', () => aws.left(q) === 0);
    assert.match(postern.cli('status'), /dead +5 messages/);

    assert.match(postern.cli('deadletters'), /belongs to no configured domain\n {4}\{"Type":"Notification"/);
    assert.equal(postern.cli('deadletters').trim().split('\n').length, 10);
    assert.equal(list('--search', 'NO CONFIGURED').length, 3);
    assert.equal(list('--search', 'late-2').length, 1);
    assert.equal(list('--search', 'nothing like it').length, 0);
    assert.equal(list('--limit', '2').length, 2);
    const [text] = list('--search', 'all');
    assert.equal(postern.cli('deadletters', 'show', text.id.slice(0, 10)), 'no JSON at all\n');
    assert.ok(text['stored-at-us'] / 1000 > Date.now() - 60000);

    // As they are: nothing has changed for them.
    assert.deepEqual(JSON.parse(postern.cli('deadletters', '--json', 'replay', 'all')), { understood: 0, kept: 5, waiting: 0 });
    assert.equal(list().length, 5);

    fs.appendFileSync(postern.confFile, `domain "added.example" { api_keys = {"${key}"} }\n`);
    postern.child.kill('SIGHUP');
    await waitFor('the domain', async () => (await postern.request('GET', '/v3/added.example/events')).status === 200);
    const one = list('--search', 'late-2')[0];
    await waitFor('a poller that knows it', () => JSON.parse(postern.cli('deadletters', '--json', 'replay', one.id)).kept === 0);
    assert.equal(list().length, 4);
    const got = await waitFor('its event', async () => ((list) => list.length > 0 && list)(await postern.walk('event=delivered', { domain: 'added.example' })));
    assert.deepEqual(got.map((e) => [e.recipient, e['ses-id']]), [['r2@example.net', 'late-2']]);

    assert.match(postern.cli('deadletters', 'replay', 'all'), /^2 understood, and their events stored; 2 still not\n/);
    await waitFor('all three', async () => (await postern.walk('event=delivered', { domain: 'added.example' })).length === 3);
    assert.deepEqual(list().map((l) => l.why).sort(), ['an SES event of an unknown type, or without its mail', 'not JSON']);

    assert.equal(postern.cli('deadletters', 'drop', 'all', '--search', 'unknown type'), '1 dropped\n');
    assert.equal(postern.cli('deadletters', 'drop', text.id), '1 dropped\n');
    assert.equal(list().length, 0);
    assert.throws(() => postern.cli('deadletters', 'drop', text.id), /there is no dead letter/);
    assert.throws(() => postern.cli('deadletters', 'replay'), /say which/);
    await postern.stop();
    assert.throws(() => postern.cli('deadletters', 'drop', ''), /say which/);
    aws.stop();
  });

  it('survive their poller and the writer, and are asked for once', async () => {
    const aws = await startAws();
    const q = `${aws.endpoint}/000000000000/q`;
    const postern = await Postern.start({ aws: awsSection(aws, `newsletter_events = "${q}"`) });
    for (let n = 0; n < 300; n++) aws.put(q, delivery({ id: `late-${n}`, from: 'news@added.example', to: `r${n}@example.net` }));
    await waitFor('all', () => jsonLines(postern.cli('deadletters', '--json', '--limit', '1000')).length === 300);
    fs.appendFileSync(postern.confFile, `domain "added.example" { api_keys = {"${key}"} }\n`);
    await postern.stop();
    await postern.launch();
    const pid = (name) => JSON.parse(postern.cli('status', '--json')).processes.find((p) => p.name === name).pid;
    process.kill(pid('poller 0'), 'SIGKILL');
    const asked = new Promise((resolve) => setTimeout(() => resolve(postern.cli('deadletters', '--json', 'replay', 'all')), 0));
    process.kill(pid('writer 0'), 'SIGKILL');
    await asked;
    await waitFor('none left', () => JSON.parse(postern.cli('status', '--json')).deadletters === 0 || (postern.cli('deadletters', '--json', 'replay', 'all'), false), 20000);
    const got = await waitFor('their events', async () => ((list) => list.length >= 300 && list)(await postern.walk('event=delivered', { domain: 'added.example' })));
    assert.equal(got.length, 300);
    assert.equal(new Set(got.map((e) => e.recipient)).size, 300);
    await postern.stop();
    aws.stop();
  });
});

describe('silence', () => {
  it('of events while mail goes out is an alarm, until one comes', async () => {
    const sandbox = await startSandbox();
    await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0 });
    // A queue that no topic speaks to.
    const of = (queue) => `aws { region = "us-east-1" access_key_id = "sandbox" secret_access_key = "sandbox-secret-key"
      ses_endpoint = "${sandbox.url}" sqs_endpoint = "${sandbox.url}" } queues { newsletter_events = "${sandbox.url}/000000000000/${queue}" }`;
    const postern = await Postern.start({ sandbox, aws: of('elsewhere'), sections: { alarm: 'no_events_after = "1s"' } });
    const health = async () => {
      const res = await fetch(`${postern.url}/health`);
      assert.equal(res.status, 200); // it can take mail all the same
      return res.json();
    };
    assert.deepEqual(await health(), { status: 'ok' });
    await postern.post(newsletterForm(readers(30)));
    const { alarms } = await waitFor('the alarm', async () => ((h) => h.alarms && h)(await health()));
    assert.equal(alarms[0].alarm, 'no-events');
    assert.match(postern.cli('status'), /ALARM +mg.example.com: SES has taken 30 mails and not one event has come back/);
    assert.match(postern.cli('status'), new RegExp(`domain +${domain}: last event never, last read never`));
    assert.match(postern.log(), /SES has taken \d+ mails and not one event has come back: check that the configuration set/);

    fs.writeFileSync(postern.confFile, fs.readFileSync(postern.confFile, 'utf8').replace('/elsewhere"', '/newsletter-events-queue"'));
    postern.child.kill('SIGHUP');
    await waitFor('events', () => ((s) => s.events.stored >= 30 && s.alarms.length === 0 && s.events.heard_ms > 0)(JSON.parse(postern.cli('status', '--json'))));
    assert.equal((await health()).alarms, undefined);
    await postern.request('GET', `/v3/${domain}/events`);
    assert.match(postern.cli('status'), new RegExp(`domain +${domain}: last event .* ago, last read .* ago`));
    await postern.stop();
    sandbox.child.kill();
  });
});
