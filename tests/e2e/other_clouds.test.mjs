// Judges that are not ours: fauxqs as SQS and SNS, AWS's own SDK against the sandbox, and AWS's own
// signing code over every call that Postern makes.
import assert from 'node:assert/strict';
import http from 'node:http';
import { createHash, createHmac } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { createRequire } from 'node:module';
import { Postern, Sandbox, audit, freePort, isSettled, newsletterForm, readers, startSandbox, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const credentials = { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' };
after(stopAll);

describe('fauxqs', () => {
  it('carries the events as SQS and SNS, beside the sandbox as SES', async () => {
    const { startFauxqs } = await import('fauxqs');
    const { SQSClient, CreateQueueCommand } = require('@aws-sdk/client-sqs');
    const { SNSClient, CreateTopicCommand, SubscribeCommand } = require('@aws-sdk/client-sns');
    const port = await freePort();
    const server = await startFauxqs({ port, host: '127.0.0.1', logger: false, defaultRegion: 'us-east-1' });
    try {
      const endpoint = `http://127.0.0.1:${port}`;
      const sqs = new SQSClient({ region: 'us-east-1', endpoint, credentials });
      const sns = new SNSClient({ region: 'us-east-1', endpoint, credentials });
      const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: 'events' }));
      const { TopicArn } = await sns.send(new CreateTopicCommand({ Name: 'events' }));
      await sns.send(new SubscribeCommand({ TopicArn, Protocol: 'sqs', Endpoint: 'arn:aws:sqs:us-east-1:000000000000:events' }));
      const sandbox = await startSandbox(['--publish-to', endpoint, '--publish-topic', TopicArn]);
      await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 10000, click_rate: 0 });
      const postern = await Postern.start({
        sandbox,
        aws: `aws { region = "us-east-1" access_key_id = "sandbox" secret_access_key = "sandbox-secret-key"
                ses_endpoint = "${sandbox.url}" sqs_endpoint = "${endpoint}" }
              queues { newsletter_events = "${QueueUrl}" }`,
      });
      const form = newsletterForm(readers(200));
      assert.equal((await postern.post(form)).status, 200);
      await waitFor('every event', () => {
        const [b] = postern.batches();
        return b.delivered === 200 && b.opened === 200;
      }, 30000, 200);
      const report = await audit(postern, sandbox, readers(200).map((a) => `${form.emailId} ${a}`));
      assert.deepEqual({ ...report, books: null }, { missing: 0, duplicates: 0, unaccounted: 0, books: null });
      await postern.stop();
      sqs.destroy();
      sns.destroy();
    } finally {
      await server.stop();
    }
  });
});

describe("AWS's SDK", () => {
  it('finds nothing odd in the sandbox, and is refused with a wrong secret', async () => {
    const sandbox = await startSandbox();
    const { SESv2Client, SendEmailCommand, GetAccountCommand } = require('@aws-sdk/client-sesv2');
    const { SQSClient, ReceiveMessageCommand, DeleteMessageCommand } = require('@aws-sdk/client-sqs');
    const at = { region: 'us-east-1', endpoint: sandbox.url };
    const ses = new SESv2Client({ ...at, credentials });
    const account = await ses.send(new GetAccountCommand({}));
    assert.equal(account.SendQuota.MaxSendRate, 5000);
    const mail = {
      FromEmailAddress: 'a@mg.example.com',
      Destination: { ToAddresses: ['success@simulator.amazonses.com'] },
      Content: { Simple: { Subject: { Data: 'S ✓' }, Body: { Text: { Data: 'T' } } } },
      ConfigurationSetName: 'ghost-mailgun-proxy-set',
    };
    const sent = await ses.send(new SendEmailCommand(mail));
    assert.match(sent.MessageId, /^0100/);
    const sqs = new SQSClient({ ...at, credentials });
    const QueueUrl = `${sandbox.url}/000000000000/newsletter-events-queue`;
    const { Messages } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 5 }));
    assert.equal(JSON.parse(JSON.parse(Messages[0].Body).Message).mail.messageId, sent.MessageId);
    await sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle: Messages[0].ReceiptHandle }));
    const wrong = new SESv2Client({ ...at, credentials: { ...credentials, secretAccessKey: 'wrong' }, maxAttempts: 1 });
    await assert.rejects(wrong.send(new SendEmailCommand(mail)), (e) => e.name === 'InvalidSignatureException');
    await assert.rejects(ses.send(new SendEmailCommand({ ...mail, ConfigurationSetName: 'absent' })), (e) => e.name === 'NotFoundException');
    for (const client of [ses, sqs, wrong]) client.destroy();
  });
});

describe('signatures', () => {
  it("of every call that Postern makes equal those of AWS's own signer", async () => {
    const { SignatureV4 } = require('@smithy/signature-v4');
    class Sha256 {
      constructor(secret) {
        this.hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret);
      }
      update(data) {
        this.hash.update(data);
      }
      async digest() {
        return new Uint8Array(this.hash.digest());
      }
    }
    const checked = new Map();
    const wrong = [];
    const sandbox = await startSandbox();
    await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0 });
    const port = await freePort();
    // A proxy that recomputes each signature and passes the call on to the sandbox.
    const proxy = http.createServer((req, res) => {
      const chunks = [];
      req.on('data', (d) => chunks.push(d));
      req.on('end', async () => {
        const body = Buffer.concat(chunks);
        const [, service] = /Credential=[^/]+\/\d+\/[^/]+\/(\w+)\//.exec(req.headers.authorization) ?? [];
        const signedNames = /SignedHeaders=([^,]+)/.exec(req.headers.authorization)[1].split(';');
        const signer = new SignatureV4({ credentials, region: 'us-east-1', service, sha256: Sha256, applyChecksum: false });
        const headers = Object.fromEntries(signedNames.filter((n) => n !== 'x-amz-date').map((n) => [n, req.headers[n]]));
        const [pathname, query] = req.url.split('?');
        const date = req.headers['x-amz-date'].replace(/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/, '$1-$2-$3T$4:$5:$6Z');
        const signed = await signer.sign(
          { method: req.method, protocol: 'http:', hostname: '127.0.0.1', path: pathname, headers, body, query: Object.fromEntries(new URLSearchParams(query ?? '')) },
          { signingDate: new Date(date) },
        );
        const ours = /Signature=(\w+)/.exec(req.headers.authorization)[1];
        const theirs = /Signature=(\w+)/.exec(signed.headers.authorization)[1];
        checked.set(service, (checked.get(service) ?? 0) + 1);
        if (ours !== theirs) wrong.push({ service, url: req.url, ours: req.headers.authorization, theirs: signed.headers.authorization });
        const onward = http.request(sandbox.url + req.url, { method: req.method, headers: req.headers }, (answer) => {
          res.writeHead(answer.statusCode, answer.headers);
          answer.pipe(res);
        });
        onward.on('error', () => res.destroy());
        onward.end(body);
      });
    });
    await new Promise((resolve) => proxy.listen(port, '127.0.0.1', resolve));
    const at = `http://127.0.0.1:${port}`;
    const postern = await Postern.start({
      sandbox: new Sandbox(sandbox.url),
      sections: { sender: 'strategy = "simple"' }, // a call for each reader
      aws: `aws { region = "us-east-1" access_key_id = "sandbox" secret_access_key = "sandbox-secret-key" ses_endpoint = "${at}" sqs_endpoint = "${at}" }
            queues { newsletter_events = "${sandbox.url}/000000000000/newsletter-events-queue" }`,
    });
    assert.equal((await postern.post(newsletterForm(readers(100)))).status, 200);
    await waitFor('deliveries', () => isSettled(postern.batches()) && postern.batches()[0].delivered === 100, 30000);
    await postern.stop();
    proxy.closeAllConnections();
    proxy.close();
    assert.deepEqual(wrong, []);
    assert.ok(checked.get('ses') >= 101, 'SES calls checked');
    assert.ok(checked.get('sqs') >= 10, 'SQS calls checked');
  });
});
