// The buffer queue with one machine: newsletters go through SQS and come back.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, describe, it } from 'node:test';
import { account, allSent, clean, closeClients, cloud, depth, fifo, names, node, quiet, sdk } from './buffer_cloud.mjs';
import { Postern, audit, execCli, freePort, isSettled, jsonLines, newsletterForm, readers, startSandbox, stopAll, waitFor } from './harness.mjs';

after(closeClients);
after(stopAll);

describe('one machine', () => {
  it("takes Ghost's POST through the queue and back, and leaves the queue empty", async () => {
    const { sandbox, aws, buffer, events } = await cloud();
    const postern = await node(sandbox, buffer, events);
    const to = readers(700);
    const form = newsletterForm(to);
    const answer = await postern.post(form);
    assert.equal(answer.status, 200);
    const { id } = await answer.json();
    assert.ok((await depth(aws, buffer)) >= 2, 'the answer comes after SQS has it');
    await waitFor('every mail', allSent(sandbox, 700), 60000);
    await waitFor('the books', () => isSettled(postern.batches()), 60000, 200);
    const report = await audit(postern, sandbox, names(form, to));
    assert.deepEqual({ ...report, books: null }, clean);
    assert.deepEqual(report.books.map((b) => b.accepted).sort(), [200, 500]);
    const delivered = () => postern.batches().reduce((sum, b) => sum + b.delivered, 0);
    await waitFor('deliveries', () => delivered() === 700, 20000);
    let items;
    await waitFor('their events', async () => {
      items = await postern.walk('event=delivered&limit=300');
      return new Set(items.map((e) => e.recipient)).size === 700;
    }, 10000, 200);
    assert.equal(items[0].message.headers['message-id'], id.slice(1, -1));
    assert.equal((await (await postern.post(newsletterForm(to, { emailId: form.emailId }))).json()).id, id);
    await waitFor('an empty queue', async () => (await depth(aws, buffer)) === 0, 60000, 200);
    assert.equal((await sandbox.stats()).accepted_recipients, 700);
    await postern.stop();
  });

  it('keeps or refuses what does not fit, as it is told; single mails never go that way', async () => {
    const noise = () => Array.from({ length: 30000 }, () => String.fromCharCode(35 + Math.random() * 80)).join('').replace(/[%<&]/g, 'x');
    for (const [policy, status] of [['local', 200], ['refuse', 413]]) {
      const { sandbox, aws, buffer, events } = await cloud();
      const postern = await node(sandbox, buffer, events, { queues: `buffer_message_max = "16K" buffer_too_large = "${policy}"` });
      const form = newsletterForm(readers(20), { html: noise() });
      const res = await postern.post(form);
      assert.equal(res.status, status);
      if (policy === 'refuse') assert.match((await res.json()).message, /too large for the buffer queue.*buffer_message_max/);
      assert.equal(await depth(aws, buffer), 0);
      const noId = newsletterForm(readers(3, 'noid'), { emailId: '' });
      assert.equal((await postern.post(noId)).status, 200);
      const expected = policy === 'local' ? 23 : 3;
      await waitFor('the mails', async () => (await sandbox.stats()).accepted_recipients === expected);
      assert.equal(await depth(aws, buffer), 0);
      await postern.stop();
    }
  });

  it('makes dead letters of what it cannot read or has no domain for', async () => {
    const { sandbox, aws, buffer, events } = await cloud();
    const other = await Postern.start({
      sandbox,
      aws: `aws { region = "us-east-1" access_key_id = "sandbox" secret_access_key = "sandbox-secret-key"
              ses_endpoint = "${sandbox.url}" sqs_endpoint = "${sandbox.url}" }
            queues { newsletter_buffer = "${buffer}" newsletter_events = "${events}" buffer_visibility = "2m" }`,
      domains: { 'other.example.net': ['key-0123456789'] },
      sections: { httpd: 'children = 1' }, // a start's patience keeps it from receiving
    });
    const form = newsletterForm(readers(3), { domain: 'other.example.net' });
    assert.equal((await other.post(form, { domain: 'other.example.net' })).status, 200);
    await other.stop();
    await aws.sqs('SendMessage', { QueueUrl: buffer, MessageBody: 'what is this', MessageGroupId: 'g', MessageDeduplicationId: 'd' });
    const postern = await node(sandbox, buffer, events);
    const letters = () => jsonLines(postern.cli('deadletters', '--json'));
    await waitFor('two dead letters', () => letters().length === 2, 60000, 200);
    assert.deepEqual(letters().map((l) => l.why).sort(), ['belongs to no configured domain', 'it is not base64']);
    await waitFor('an empty queue', async () => (await depth(aws, buffer)) === 0, 80000, 200);

    // Replayed, what cannot be read stays, and so does the other while its domain is not there; then it goes back on the queue, once.
    await execCli(postern, 'deadletters', 'replay', 'all').catch(() => {});
    assert.deepEqual(letters().map((l) => l.why).sort(), ['belongs to no configured domain', 'it is not base64']);
    assert.equal(await depth(aws, buffer), 0);
    fs.appendFileSync(postern.confFile, '\ndomain "other.example.net" { api_keys = {"key-0123456789"} }\n');
    postern.child.kill('SIGHUP');
    await waitFor('the domain', async () => (await postern.request('GET', '/v3/other.example.net/events', { auth: 'api:key-0123456789' })).status === 200);
    // The poller of before the reload may still be there, and knows no such domain.
    await waitFor('the letter is gone', async () => {
      await execCli(postern, 'deadletters', 'replay', 'all').catch(() => {});
      return letters().length === 1;
    }, 60000, 500);
    assert.equal(letters()[0].why, 'it is not base64');
    await waitFor('its mails', allSent(sandbox, 3), 60000, 200);
    await waitFor('an empty queue again', async () => (await depth(aws, buffer)) === 0, 80000, 200);
    assert.equal((await sandbox.stats()).accepted_recipients, 3);
    await postern.stop();
  });
});

describe('fauxqs as SQS', () => {
  it('carries a newsletter through a FIFO queue', async () => {
    const { startFauxqs } = await import('fauxqs');
    const port = await freePort();
    const server = await startFauxqs({ port, host: '127.0.0.1', logger: false, defaultRegion: 'us-east-1' });
    try {
      const endpoint = `http://127.0.0.1:${port}`;
      const aws = sdk(endpoint);
      const buffer = await fifo(aws);
      const { QueueUrl } = await aws.sqs('CreateQueue', { QueueName: 'events' });
      const { TopicArn } = await aws.sns('CreateTopic', { Name: 'events' });
      await aws.sns('Subscribe', { TopicArn, Protocol: 'sqs', Endpoint: `arn:aws:sqs:us-east-1:${account}:events` });
      const sandbox = await startSandbox(['--publish-to', endpoint, '--publish-topic', TopicArn]);
      await sandbox.set(quiet);
      const postern = await node(sandbox, buffer, QueueUrl, { sqs: endpoint });
      const to = readers(600);
      const form = newsletterForm(to);
      assert.equal((await postern.post(form)).status, 200);
      await waitFor('every mail', allSent(sandbox, 600), 60000);
      // Not synchronously: fauxqs lives in this process, and has the queue to answer for.
      await waitFor('the books', async () => isSettled(jsonLines(await execCli(postern, 'batches', '--json'))), 30000, 500);
      await waitFor('an empty queue', async () => (await depth(aws, buffer)) === 0, 60000, 200);
      const report = await audit(postern, sandbox, names(form, to));
      assert.deepEqual({ ...report, books: null }, clean);
      await postern.stop();
    } finally {
      await server.stop();
    }
  });
});
