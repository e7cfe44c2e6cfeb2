// queues.verify_sns: only what SNS has signed is believed, in either version; what is forged is kept as a dead letter;
// while SNS's certificate cannot be had, events wait in SQS.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import { Postern, isSettled, jsonLines, newsletterForm, readers, startSandbox, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const { SNSClient, SetTopicAttributesCommand, SubscribeCommand } = require('@aws-sdk/client-sns');
const { SQSClient, CreateQueueCommand, GetQueueAttributesCommand, ReceiveMessageCommand, SendMessageCommand, SetQueueAttributesCommand } = require('@aws-sdk/client-sqs');

let sandbox, postern, sns, sqs;
const account = '000000000000';
const topic = 'arn:aws:sns:us-east-1:000000000000:ghost-mailgun-proxy-events';
const queueUrl = () => `${sandbox.url}/${account}/newsletter-events-queue`;
const range = () => `begin=${Math.floor(Date.now() / 1000) - 3600}&end=${Math.floor(Date.now() / 1000) + 3600}&ascending=yes&limit=300`;
const delivered = async () => (await postern.walk(`${range()}&event=delivered`)).length;
const deadletters = () => jsonLines(postern.cli('deadletters', '--json'));

async function send(count, prefix) {
  assert.equal((await postern.post(newsletterForm(readers(count, prefix)))).status, 200);
  await waitFor('the books', () => isSettled(postern.batches()));
}

describe('signatures of SNS', () => {
  before(async () => {
    sandbox = await startSandbox();
    await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100, sign_notifications: 1 });
    const options = { region: 'us-east-1', endpoint: sandbox.url, credentials: { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' } };
    sns = new SNSClient(options);
    sqs = new SQSClient(options);
    const at = sandbox.url;
    postern = await Postern.start({
      sandbox,
      aws: `aws { region = "us-east-1" access_key_id = "sandbox" secret_access_key = "sandbox-secret-key"
        ses_endpoint = "${at}" sqs_endpoint = "${at}" sns_endpoint = "${at}" }
        queues { newsletter_events = "${at}/${account}/newsletter-events-queue" verify_sns = true }`,
    });
  });
  after(async () => {
    sns?.destroy();
    sqs?.destroy();
    await stopAll();
  });

  it('events wait in SQS while the certificate cannot be had, and then come', async () => {
    await sandbox.set({ certificate_status: 503 });
    await send(20, 'waiting');
    await waitFor('the trouble to be told', () => /SNS's certificate .* cannot be had/.test(postern.log()));
    assert.equal(await delivered(), 0);
    await sandbox.set({ certificate_status: 200 });
    await waitFor('the events', async () => (await delivered()) === 20);
    assert.deepEqual(deadletters(), []);
  });

  it('version 2 is as good', async () => {
    await sns.send(new SetTopicAttributesCommand({ TopicArn: topic, AttributeName: 'SignatureVersion', AttributeValue: '2' }));
    await send(20, 'second');
    await waitFor('the events', async () => (await delivered()) === 40);
    assert.deepEqual(deadletters(), []);
  });

  it('what was changed on its way, comes from elsewhere or is unsigned is no event', async () => {
    const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: 'listener' }));
    const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['QueueArn'] }));
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { Service: 'sns.amazonaws.com' }, Action: 'sqs:SendMessage', Resource: Attributes.QueueArn, Condition: { ArnEquals: { 'aws:SourceArn': topic } } }] });
    await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { Policy } }));
    await sns.send(new SubscribeCommand({ TopicArn: topic, Protocol: 'sqs', Endpoint: Attributes.QueueArn }));
    await send(1, 'heard');
    let body;
    await waitFor('a delivery', async () => {
      const { Messages = [] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10 }));
      body ??= Messages.map((m) => m.Body).find((b) => JSON.parse(JSON.parse(b).Message).eventType === 'Delivery');
      return body;
    });
    await waitFor('its event', async () => (await delivered()) === 41);
    const envelope = JSON.parse(body);
    const forged = [
      [{ ...envelope, Message: envelope.Message.replaceAll('heard000000', 'other000000') }, /its signature is not SNS's/],
      [{ ...envelope, TopicArn: 'arn:aws:sns:us-east-1:999999999999:elsewhere' }, /its topic is none of ours/],
      [{ ...envelope, SigningCertURL: `${sandbox.url}/SimpleNotificationService-00.pem` }, /SNS has no such certificate \(404\)/],
      [{ ...envelope, SigningCertURL: 'https://sns.us-east-1.amazonaws.com.example.net/SimpleNotificationService-00.pem' }, /not at SNS's address/],
      [{ ...envelope, SignatureVersion: '7' }, /version "7" is not known/],
      [JSON.parse(envelope.Message), /raw delivery has none/],
    ];
    for (const [what] of forged) await sqs.send(new SendMessageCommand({ QueueUrl: queueUrl(), MessageBody: JSON.stringify(what) }));
    await sqs.send(new SendMessageCommand({ QueueUrl: queueUrl(), MessageBody: body })); // SNS's own, once more
    const letters = await waitFor('the dead letters', () => (deadletters().length === forged.length ? deadletters() : null));
    for (const [, why] of forged) assert.ok(letters.some((l) => why.test(l.why ?? l.reason)), `${why} in ${JSON.stringify(letters)}`);
    await send(1, 'last');
    await waitFor('what comes after them', async () => (await delivered()) === 42);
    // Read again, they are no better.
    assert.deepEqual(JSON.parse(postern.cli('deadletters', '--json', 'replay', 'all')), { understood: 0, kept: forged.length, waiting: 0 });
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });
});
