// The sandbox as a cloud that can be set up: AWS's own SDK makes the plumbing, reads it back field by field, and
// breaks it; what is wrong there really stops events, as at AWS.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { createRequire } from 'node:module';
import { startSandbox, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const ses2 = require('@aws-sdk/client-sesv2');
const sns2 = require('@aws-sdk/client-sns');
const sqs2 = require('@aws-sdk/client-sqs');
const iam2 = require('@aws-sdk/client-iam');
const sts2 = require('@aws-sdk/client-sts');

const account = '000000000000';
const region = 'us-east-1';
const ALL = ['SEND', 'REJECT', 'BOUNCE', 'COMPLAINT', 'DELIVERY', 'OPEN', 'CLICK', 'RENDERING_FAILURE', 'DELIVERY_DELAY', 'SUBSCRIPTION'];
let sandbox;
let clients = [];
let ses, sns, sqs, iam, sts;

const connect = (credentials = { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' }, at = region) => {
  const options = { region: at, endpoint: sandbox.url, credentials, maxAttempts: 1 };
  const made = [new ses2.SESv2Client(options), new sns2.SNSClient(options), new sqs2.SQSClient(options), new iam2.IAMClient(options), new sts2.STSClient(options)];
  clients.push(...made);
  return made;
};
const call = (client, module, name, input = {}) => client.send(new module[`${name}Command`](input));
const SES = (name, input) => call(ses, ses2, name, input);
const SNS = (name, input) => call(sns, sns2, name, input);
const SQS = (name, input) => call(sqs, sqs2, name, input);
const IAM = (name, input) => call(iam, iam2, name, input);
const control = async (what, body) => {
  const res = await fetch(`${sandbox.url}/_sandbox/${what}`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(res.status, 200, await res.text());
};
const refusal = async (promise, name, words) => {
  const e = await promise.then(
    () => assert.fail(`expected ${name}`),
    (error) => error,
  );
  assert.equal(e.name, name, e.message);
  if (words) assert.match(e.message, words);
  return e;
};

const queueArn = (name) => `arn:aws:sqs:${region}:${account}:${name}`;
const topicArn = (name) => `arn:aws:sns:${region}:${account}:${name}`;
const queuePolicy = (queue, topic, change = {}) =>
  JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Principal: { Service: 'sns.amazonaws.com' },
        Action: 'sqs:SendMessage',
        Resource: queueArn(queue),
        Condition: { ArnEquals: { 'aws:SourceArn': topicArn(topic) } },
        ...change,
      },
    ],
  });
const topicPolicy = (topic, set, change = {}) =>
  JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Principal: { Service: 'ses.amazonaws.com' },
        Action: 'sns:Publish',
        Resource: topicArn(topic),
        Condition: { StringEquals: { 'AWS:SourceAccount': account, 'AWS:SourceArn': `arn:aws:ses:${region}:${account}:configuration-set/${set}` } },
        ...change,
      },
    ],
  });
const mail = (set, to = 'success@simulator.amazonses.com') => ({
  FromEmailAddress: 'a@mg.example.com',
  Destination: { ToAddresses: [to] },
  Content: { Simple: { Subject: { Data: 'S' }, Body: { Text: { Data: 'T' } } } },
  ConfigurationSetName: set,
});

let made = 0;
/** Queue, topic, subscription, set and destination, under names of their own. */
async function plumbing({ types = ALL, raw = 'true', queue = {} } = {}) {
  const p = { n: ++made };
  Object.assign(p, { queue: `q${p.n}`, topic: `t${p.n}`, set: `s${p.n}` });
  p.url = (await SQS('CreateQueue', { QueueName: p.queue, Attributes: { Policy: queuePolicy(p.queue, p.topic), ...queue } })).QueueUrl;
  await SNS('CreateTopic', { Name: p.topic });
  await SNS('SetTopicAttributes', { TopicArn: topicArn(p.topic), AttributeName: 'Policy', AttributeValue: topicPolicy(p.topic, p.set) });
  p.subscription = (await SNS('Subscribe', { TopicArn: topicArn(p.topic), Protocol: 'sqs', Endpoint: queueArn(p.queue), Attributes: { RawMessageDelivery: raw }, ReturnSubscriptionArn: true })).SubscriptionArn;
  await SES('CreateConfigurationSet', { ConfigurationSetName: p.set });
  await SES('CreateConfigurationSetEventDestination', {
    ConfigurationSetName: p.set,
    EventDestinationName: 'sns',
    EventDestination: { Enabled: true, MatchingEventTypes: types, SnsDestination: { TopicArn: topicArn(p.topic) } },
  });
  return p;
}
/** Bodies in the queue, deleted from it. */
async function drain(url) {
  const bodies = [];
  for (;;) {
    const { Messages } = await SQS('ReceiveMessage', { QueueUrl: url, MaxNumberOfMessages: 10 });
    if (!Messages?.length) return bodies;
    for (const m of Messages) {
      bodies.push(m.Body);
      await SQS('DeleteMessage', { QueueUrl: url, ReceiptHandle: m.ReceiptHandle });
    }
  }
}
/** What arrives of one mail until the sandbox has published all its events. */
async function events(p, to) {
  await drain(p.url);
  await SES('SendEmail', mail(p.set, to));
  await waitFor('all events to be published', async () => (await sandbox.stats()).events_waiting === 0, 10000, 20);
  return (await drain(p.url)).map((body) => JSON.parse(body).eventType ?? JSON.parse(JSON.parse(body).Message).eventType);
}

before(async () => {
  sandbox = await startSandbox(['--set', 'delivery_delay_ms_min=5', '--set', 'delivery_delay_ms_max=20', '--set', 'queue_deleted_wait_s=0', '--set', 'open_rate=0', '--set', 'click_rate=0']);
  [ses, sns, sqs, iam, sts] = connect();
});
beforeEach(() => control('deny', { actions: [] }));
after(async () => {
  for (const client of clients) client.destroy();
  await stopAll();
});

describe('SES: identities', () => {
  it('are pending with three tokens until DNS says otherwise', async () => {
    const name = 'news.example.org';
    const created = await SES('CreateEmailIdentity', { EmailIdentity: name, DkimSigningAttributes: { NextSigningKeyLength: 'RSA_2048_BIT' }, Tags: [{ Key: 'made-by', Value: 'test' }] });
    assert.equal(created.IdentityType, 'DOMAIN');
    assert.equal(created.VerifiedForSendingStatus, false);
    assert.equal(created.DkimAttributes.Tokens.length, 3);
    assert.equal(created.DkimAttributes.SigningHostedZone, 'dkim.amazonses.com');
    await refusal(SES('CreateEmailIdentity', { EmailIdentity: name }), 'AlreadyExistsException');
    let got = await SES('GetEmailIdentity', { EmailIdentity: name });
    assert.deepEqual([got.VerificationStatus, got.DkimAttributes.Status, got.DkimAttributes.Tokens, got.Tags, got.MailFromAttributes, got.FeedbackForwardingStatus], ['PENDING', 'PENDING', created.DkimAttributes.Tokens, [{ Key: 'made-by', Value: 'test' }], undefined, true]);
    await refusal(SES('PutEmailIdentityMailFromAttributes', { EmailIdentity: name, MailFromDomain: 'elsewhere.example.com' }), 'BadRequestException');
    await SES('PutEmailIdentityMailFromAttributes', { EmailIdentity: name, MailFromDomain: `bounce.${name}`, BehaviorOnMxFailure: 'REJECT_MESSAGE' });
    await SES('PutEmailIdentityConfigurationSetAttributes', { EmailIdentity: name, ConfigurationSetName: 'ghost-mailgun-proxy-set' });
    await SES('PutEmailIdentityFeedbackAttributes', { EmailIdentity: name, EmailForwardingEnabled: false });
    got = await SES('GetEmailIdentity', { EmailIdentity: name });
    assert.deepEqual(got.MailFromAttributes, { MailFromDomain: `bounce.${name}`, MailFromDomainStatus: 'PENDING', BehaviorOnMxFailure: 'REJECT_MESSAGE' });
    assert.deepEqual([got.ConfigurationSetName, got.FeedbackForwardingStatus], ['ghost-mailgun-proxy-set', false]);
    const from = { ...mail(undefined), FromEmailAddress: `a@${name}` };
    await refusal(SES('SendEmail', from), 'MessageRejected', /not verified.*a@news\.example\.org/);
    await control('identity', { identity: name, verification: 'SUCCESS', dkim: 'SUCCESS' });
    await refusal(SES('SendEmail', from), 'MailFromDomainNotVerifiedException');
    await control('identity', { identity: name, mail_from: 'SUCCESS' });
    await SES('SendEmail', from);
    got = await SES('GetEmailIdentity', { EmailIdentity: name });
    assert.deepEqual([got.VerifiedForSendingStatus, got.VerificationStatus, got.DkimAttributes.Status, got.MailFromAttributes.MailFromDomainStatus], [true, 'SUCCESS', 'SUCCESS', 'SUCCESS']);
    await SES('DeleteEmailIdentity', { EmailIdentity: name });
    await refusal(SES('GetEmailIdentity', { EmailIdentity: name }), 'NotFoundException');
  });
  it('of an address carry no DKIM', async () => {
    const created = await SES('CreateEmailIdentity', { EmailIdentity: 'a+b@example.org' });
    assert.deepEqual([created.IdentityType, created.DkimAttributes.Tokens], ['EMAIL_ADDRESS', undefined]);
    assert.equal((await SES('GetEmailIdentity', { EmailIdentity: 'a+b@example.org' })).IdentityType, 'EMAIL_ADDRESS');
    await SES('DeleteEmailIdentity', { EmailIdentity: 'a+b@example.org' });
  });
});

describe('SES: account', () => {
  it('tells its state, and in its sandbox sends to the verified only', async () => {
    await sandbox.set({ production_access: 0, max_24h_send: 200, max_send_rate: 1, sent_before: 199, enforcement: 1 });
    const got = await SES('GetAccount');
    assert.deepEqual([got.ProductionAccessEnabled, got.EnforcementStatus, got.SendQuota, got.SendingEnabled], [false, 'PROBATION', { Max24HourSend: 200, MaxSendRate: 1, SentLast24Hours: 199 + got.SendQuota.SentLast24Hours - 199 }, true]);
    assert.ok(got.SendQuota.SentLast24Hours >= 199);
    await refusal(SES('SendEmail', mail(undefined, 'ann@example.net')), 'MessageRejected', /region us-east-1: ann@example\.net/i);
    await sandbox.set({ production_access: 1, max_24h_send: -1, max_send_rate: 5000, sent_before: 0, sending_enabled: 0 });
    await refusal(SES('SendEmail', mail()), 'SendingPausedException');
    await sandbox.set({ sending_enabled: 1, enforcement: 2 });
    assert.equal((await SES('GetAccount')).SendingEnabled, false);
    await refusal(SES('SendEmail', mail()), 'AccountSuspendedException');
    await sandbox.set({ enforcement: 0 });
    await SES('SendEmail', mail());
  });
});

describe('SES: configuration sets', () => {
  it('come back as they were given', async () => {
    const set = { ConfigurationSetName: 'round-trip', DeliveryOptions: { TlsPolicy: 'REQUIRE' }, ReputationOptions: { ReputationMetricsEnabled: true }, SuppressionOptions: { SuppressedReasons: ['BOUNCE'] }, Tags: [{ Key: 'a', Value: 'b' }] };
    await SES('CreateConfigurationSet', set);
    await refusal(SES('CreateConfigurationSet', set), 'AlreadyExistsException');
    await refusal(SES('CreateConfigurationSet', { ConfigurationSetName: 'a b' }), 'BadRequestException');
    const { $metadata, ...got } = await SES('GetConfigurationSet', { ConfigurationSetName: 'round-trip' });
    assert.deepEqual(got, { ...set, SendingOptions: { SendingEnabled: true } });
    await SES('PutConfigurationSetSendingOptions', { ConfigurationSetName: 'round-trip', SendingEnabled: false });
    assert.equal((await SES('GetConfigurationSet', { ConfigurationSetName: 'round-trip' })).SendingOptions.SendingEnabled, false);
    await refusal(SES('SendEmail', mail('round-trip')), 'SendingPausedException');
    await SES('DeleteConfigurationSet', { ConfigurationSetName: 'round-trip' });
    await refusal(SES('GetConfigurationSet', { ConfigurationSetName: 'round-trip' }), 'NotFoundException');
    await refusal(SES('DeleteConfigurationSet', { ConfigurationSetName: 'round-trip' }), 'NotFoundException');
  });
  it('publish the types that a destination names, and no others', async () => {
    const p = await plumbing();
    assert.deepEqual(await drain(p.url), ['Successfully validated SNS topic for Amazon SES event publishing.']);
    assert.deepEqual((await events(p)).sort(), ['Delivery', 'Send']);
    const at = { ConfigurationSetName: p.set, EventDestinationName: 'sns' };
    const destination = (change) => ({ ...at, EventDestination: { Enabled: true, MatchingEventTypes: ['DELIVERY', 'BOUNCE'], SnsDestination: { TopicArn: topicArn(p.topic) }, ...change } });
    await SES('UpdateConfigurationSetEventDestination', destination({}));
    const { EventDestinations } = await SES('GetConfigurationSetEventDestinations', { ConfigurationSetName: p.set });
    assert.equal(EventDestinations.length, 1);
    const { Name, Enabled, MatchingEventTypes, SnsDestination } = EventDestinations[0];
    assert.deepEqual({ Name, Enabled, MatchingEventTypes: [...MatchingEventTypes].sort(), SnsDestination }, { Name: 'sns', Enabled: true, MatchingEventTypes: ['BOUNCE', 'DELIVERY'], SnsDestination: { TopicArn: topicArn(p.topic) } });
    assert.deepEqual(await events(p), ['Delivery']);
    assert.deepEqual(await events(p, 'bounce@simulator.amazonses.com'), ['Bounce']);
    await SES('UpdateConfigurationSetEventDestination', destination({ Enabled: false }));
    assert.deepEqual(await events(p), []);
    await refusal(SES('CreateConfigurationSetEventDestination', destination({})), 'AlreadyExistsException');
    await refusal(SES('UpdateConfigurationSetEventDestination', destination({ MatchingEventTypes: ['NONSENSE'] })), 'BadRequestException', /NONSENSE/);
    await SES('DeleteConfigurationSetEventDestination', at);
    await refusal(SES('DeleteConfigurationSetEventDestination', at), 'NotFoundException');
    assert.deepEqual(await events(p), []);
  });
});

describe('SNS', () => {
  it('topics come back as they were given', async () => {
    const arn = (await SNS('CreateTopic', { Name: 'round', Tags: [{ Key: 'made-by', Value: 'test' }] })).TopicArn;
    assert.equal(arn, topicArn('round'));
    assert.equal((await SNS('CreateTopic', { Name: 'round' })).TopicArn, arn);
    await refusal(SNS('CreateTopic', { Name: 'no good' }), 'InvalidParameterException');
    let { Attributes } = await SNS('GetTopicAttributes', { TopicArn: arn });
    assert.equal(Attributes.Owner, account);
    assert.deepEqual(JSON.parse(Attributes.Policy).Statement[0].Condition, { StringEquals: { 'AWS:SourceOwner': account } });
    await SNS('SetTopicAttributes', { TopicArn: arn, AttributeName: 'Policy', AttributeValue: topicPolicy('round', 'x') });
    await SNS('SetTopicAttributes', { TopicArn: arn, AttributeName: 'DisplayName', AttributeValue: 'a & <b>' });
    await refusal(SNS('SetTopicAttributes', { TopicArn: arn, AttributeName: 'Policy', AttributeValue: '{' }), 'InvalidParameterException');
    ({ Attributes } = await SNS('GetTopicAttributes', { TopicArn: arn }));
    assert.deepEqual([Attributes.Policy, Attributes.DisplayName], [topicPolicy('round', 'x'), 'a & <b>']);
    await SNS('TagResource', { ResourceArn: arn, Tags: [{ Key: 'more', Value: '1' }] });
    assert.deepEqual((await SNS('ListTagsForResource', { ResourceArn: arn })).Tags, [{ Key: 'made-by', Value: 'test' }, { Key: 'more', Value: '1' }]);
    await SNS('DeleteTopic', { TopicArn: arn });
    await SNS('DeleteTopic', { TopicArn: arn });
    await refusal(SNS('GetTopicAttributes', { TopicArn: arn }), 'NotFoundException');
  });
  it('subscriptions come back as they were given', async () => {
    const p = await plumbing();
    const again = (attributes) => SNS('Subscribe', { TopicArn: topicArn(p.topic), Protocol: 'sqs', Endpoint: queueArn(p.queue), Attributes: attributes });
    assert.equal((await again({ RawMessageDelivery: 'true' })).SubscriptionArn, p.subscription);
    await refusal(again({ RawMessageDelivery: 'false' }), 'InvalidParameterException', /different attributes/);
    const { Subscriptions } = await SNS('ListSubscriptionsByTopic', { TopicArn: topicArn(p.topic) });
    assert.deepEqual(Subscriptions, [{ SubscriptionArn: p.subscription, Owner: account, Protocol: 'sqs', Endpoint: queueArn(p.queue), TopicArn: topicArn(p.topic) }]);
    await SNS('SetSubscriptionAttributes', { SubscriptionArn: p.subscription, AttributeName: 'RawMessageDelivery', AttributeValue: 'false' });
    const { Attributes } = await SNS('GetSubscriptionAttributes', { SubscriptionArn: p.subscription });
    assert.deepEqual([Attributes.RawMessageDelivery, Attributes.Endpoint, Attributes.TopicArn, Attributes.PendingConfirmation], ['false', queueArn(p.queue), topicArn(p.topic), 'false']);
    assert.deepEqual((await events(p)).sort(), ['Delivery', 'Send']); // wrapped now
    await SNS('SetSubscriptionAttributes', { SubscriptionArn: p.subscription, AttributeName: 'FilterPolicy', AttributeValue: '{"kind":["x"]}' });
    assert.deepEqual(await events(p), []); // SES's messages have no attributes
    await SNS('Unsubscribe', { SubscriptionArn: p.subscription });
    await refusal(SNS('GetSubscriptionAttributes', { SubscriptionArn: p.subscription }), 'NotFoundException');
  });
  it('does not let SES publish past the policy of a topic', async () => {
    for (const change of [{ Principal: { Service: 'sns.amazonaws.com' } }, { Action: 'sns:Subscribe' }, { Resource: topicArn('another') }, { Condition: { StringEquals: { 'AWS:SourceAccount': '111122223333' } } }, { Effect: 'Deny' }]) {
      const p = await plumbing();
      assert.equal((await events(p)).length, 2);
      await SNS('SetTopicAttributes', { TopicArn: topicArn(p.topic), AttributeName: 'Policy', AttributeValue: topicPolicy(p.topic, p.set, change) });
      assert.deepEqual(await events(p), [], JSON.stringify(change));
      await refusal(SES('CreateConfigurationSetEventDestination', { ConfigurationSetName: p.set, EventDestinationName: 'b', EventDestination: { Enabled: true, MatchingEventTypes: ['SEND'], SnsDestination: { TopicArn: topicArn(p.topic) } } }), 'BadRequestException');
    }
  });
});

describe('SQS', () => {
  it('queues come back as they were given', async () => {
    const dead = await SQS('CreateQueue', { QueueName: 'round-dead', Attributes: { MessageRetentionPeriod: '1209600' } });
    const RedrivePolicy = JSON.stringify({ deadLetterTargetArn: queueArn('round-dead'), maxReceiveCount: 3 });
    const Attributes = { VisibilityTimeout: '60', MessageRetentionPeriod: '86400', RedrivePolicy, Policy: queuePolicy('round', 'x') };
    const { QueueUrl } = await SQS('CreateQueue', { QueueName: 'round', Attributes, tags: { 'made-by': 'test' } });
    assert.equal((await SQS('CreateQueue', { QueueName: 'round', Attributes })).QueueUrl, QueueUrl);
    await refusal(SQS('CreateQueue', { QueueName: 'round', Attributes: { VisibilityTimeout: '61' } }), 'QueueNameExists', /VisibilityTimeout/);
    assert.equal((await SQS('GetQueueUrl', { QueueName: 'round' })).QueueUrl, QueueUrl);
    const all = (await SQS('GetQueueAttributes', { QueueUrl, AttributeNames: ['All'] })).Attributes;
    for (const [name, value] of Object.entries({ ...Attributes, QueueArn: queueArn('round'), DelaySeconds: '0', SqsManagedSseEnabled: 'true', ApproximateNumberOfMessages: '0' })) assert.equal(all[name], value, name);
    assert.deepEqual((await SQS('GetQueueAttributes', { QueueUrl, AttributeNames: ['VisibilityTimeout'] })).Attributes, { VisibilityTimeout: '60' });
    await SQS('TagQueue', { QueueUrl, Tags: { more: '1' } });
    assert.deepEqual((await SQS('ListQueueTags', { QueueUrl })).Tags, { 'made-by': 'test', more: '1' });
    assert.deepEqual((await SQS('ListDeadLetterSourceQueues', { QueueUrl: dead.QueueUrl })).queueUrls, [QueueUrl]);
    await refusal(SQS('SetQueueAttributes', { QueueUrl, Attributes: { VisibilityTimeout: '43201' } }), 'InvalidAttributeValue');
    await refusal(SQS('SetQueueAttributes', { QueueUrl, Attributes: { Nonsense: '1' } }), 'InvalidAttributeName');
    await refusal(SQS('SetQueueAttributes', { QueueUrl, Attributes: { Policy: '{' } }), 'InvalidAttributeValue');
    await refusal(SQS('CreateQueue', { QueueName: 'no good' }), 'InvalidParameterValue');
    await SQS('SetQueueAttributes', { QueueUrl, Attributes: { RedrivePolicy: '', Policy: '' } });
    const bare = (await SQS('GetQueueAttributes', { QueueUrl, AttributeNames: ['All'] })).Attributes;
    assert.deepEqual([bare.RedrivePolicy, bare.Policy], [undefined, undefined]);
    assert.ok((await SQS('ListQueues', { QueueNamePrefix: 'round' })).QueueUrls.includes(QueueUrl));
    await SQS('DeleteQueue', { QueueUrl });
    await refusal(SQS('GetQueueUrl', { QueueName: 'round' }), 'QueueDoesNotExist');
    await sandbox.set({ queue_deleted_wait_s: 60 });
    await refusal(SQS('CreateQueue', { QueueName: 'round' }), 'QueueDeletedRecently');
    await sandbox.set({ queue_deleted_wait_s: 0 });
  });
  it('take nothing past their policy', async () => {
    for (const change of [{ Principal: { Service: 'ses.amazonaws.com' } }, { Action: 'sqs:ReceiveMessage' }, { Resource: queueArn('another') }, { Condition: { ArnEquals: { 'aws:SourceArn': topicArn('another') } } }, { Effect: 'Deny' }]) {
      const p = await plumbing();
      await SQS('SetQueueAttributes', { QueueUrl: p.url, Attributes: { Policy: queuePolicy(p.queue, p.topic, change) } });
      assert.deepEqual(await events(p), [], JSON.stringify(change));
      assert.ok((await sandbox.stats()).topics[p.topic].undelivered >= 2);
    }
    const p = await plumbing();
    await SQS('SetQueueAttributes', { QueueUrl: p.url, Attributes: { Policy: queuePolicy(p.queue, p.topic, { Principal: '*', Action: ['SQS:Send*'], Condition: { ArnLike: { 'AWS:SourceArn': 'arn:aws:sns:*:*:t*' } } }) } });
    assert.equal((await events(p)).length, 2);
    await SQS('SetQueueAttributes', { QueueUrl: p.url, Attributes: { Policy: '' } });
    assert.deepEqual(await events(p), []);
  });
  it('of a FIFO queue refuse a handle that has expired, one call or ten; a standard one says yes and does nothing', async () => {
    const { QueueUrl } = await SQS('CreateQueue', { QueueName: 'handles.fifo', Attributes: { FifoQueue: 'true' } });
    await SQS('SendMessage', { QueueUrl, MessageBody: 'm', MessageGroupId: 'g', MessageDeduplicationId: 'd' });
    const take = async (of, seconds) => {
      const got = () => SQS('ReceiveMessage', { QueueUrl: of, VisibilityTimeout: seconds, WaitTimeSeconds: 1 });
      return (await waitFor('the message', async () => (await got()).Messages?.[0], 10000)).ReceiptHandle;
    };
    const old = await take(QueueUrl, 1);
    const ReceiptHandle = await take(QueueUrl, 60); // a second later
    for (const [name, input] of [['ChangeMessageVisibility', { VisibilityTimeout: 60 }], ['DeleteMessage', {}]]) {
      await refusal(SQS(name, { QueueUrl, ReceiptHandle: old, ...input }), 'InvalidParameterValue', /receipt handle has expired/);
      const entry = (Id, handle) => ({ Id, ReceiptHandle: handle, ...input });
      const { Successful, Failed } = await SQS(`${name}Batch`, { QueueUrl, Entries: [entry('0', old), entry('1', ReceiptHandle)] });
      assert.deepEqual(Successful.map((e) => e.Id), ['1']);
      assert.deepEqual(Failed.map(({ Id, SenderFault, Code }) => ({ Id, SenderFault, Code })), [{ Id: '0', SenderFault: true, Code: 'InvalidParameterValue' }]);
    }
    await SQS('DeleteMessage', { QueueUrl, ReceiptHandle }); // deleted before: no error
    const { QueueUrl: plain } = await SQS('CreateQueue', { QueueName: 'handles' });
    await SQS('SendMessage', { QueueUrl: plain, MessageBody: 'm' });
    const first = await take(plain, 0);
    await take(plain, 60);
    await SQS('DeleteMessage', { QueueUrl: plain, ReceiptHandle: first });
    const { queues } = JSON.parse(await (await fetch(`${sandbox.url}/_sandbox/stats`)).text());
    assert.equal(queues.handles.in_flight, 1);
    assert.equal(queues['handles.fifo'].calls.DeleteMessageBatch, 1);
  });

  it('what is received too often is dead, and a move task takes it home', async () => {
    const dead = (await SQS('CreateQueue', { QueueName: 'home-dead' })).QueueUrl;
    const home = (await SQS('CreateQueue', { QueueName: 'home', Attributes: { RedrivePolicy: JSON.stringify({ deadLetterTargetArn: queueArn('home-dead'), maxReceiveCount: 2 }) } })).QueueUrl;
    await SQS('SendMessage', { QueueUrl: home, MessageBody: 'again and again' });
    const depth = async (url) => Number((await SQS('GetQueueAttributes', { QueueUrl: url, AttributeNames: ['ApproximateNumberOfMessages'] })).Attributes.ApproximateNumberOfMessages);
    let received = 0;
    await waitFor('the message to be dead', async () => {
      received += (await SQS('ReceiveMessage', { QueueUrl: home, VisibilityTimeout: 0 })).Messages?.length ?? 0;
      return (await depth(dead)) === 1;
    });
    assert.deepEqual([received, await depth(home)], [2, 0]);
    await refusal(SQS('StartMessageMoveTask', { SourceArn: queueArn('home') }), 'InvalidParameterValue');
    await refusal(SQS('StartMessageMoveTask', { SourceArn: queueArn('absent') }), 'ResourceNotFoundException');
    assert.ok((await SQS('StartMessageMoveTask', { SourceArn: queueArn('home-dead') })).TaskHandle);
    const { Results } = await SQS('ListMessageMoveTasks', { SourceArn: queueArn('home-dead') });
    assert.deepEqual([Results[0].Status, Number(Results[0].ApproximateNumberOfMessagesMoved)], ['COMPLETED', 1]);
    assert.deepEqual([await depth(home), await depth(dead)], [1, 0]);
    assert.deepEqual(await drain(home), ['again and again']);
  });
});

describe('who may do what', () => {
  it('a user may do what its policy says, with its own keys', async () => {
    const p = await plumbing();
    const UserName = 'worker';
    const { User } = await IAM('CreateUser', { UserName });
    assert.equal(User.Arn, `arn:aws:iam::${account}:user/worker`);
    await refusal(IAM('CreateUser', { UserName }), 'EntityAlreadyExistsException');
    const PolicyDocument = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: ['sqs:ReceiveMessage', 'sqs:DeleteMessage'], Resource: queueArn(p.queue) }, { Effect: 'Allow', Action: 'ses:SendEmail', Resource: ['*'], Condition: { StringLike: { 'ses:FromAddress': '*@mg.example.com' } } }] });
    await IAM('PutUserPolicy', { UserName, PolicyName: 'run', PolicyDocument });
    await refusal(IAM('PutUserPolicy', { UserName, PolicyName: 'run', PolicyDocument: '{' }), 'MalformedPolicyDocumentException');
    assert.equal(decodeURIComponent((await IAM('GetUserPolicy', { UserName, PolicyName: 'run' })).PolicyDocument), PolicyDocument);
    assert.deepEqual((await IAM('ListUserPolicies', { UserName })).PolicyNames, ['run']);
    const { AccessKey } = await IAM('CreateAccessKey', { UserName });
    assert.deepEqual((await IAM('ListAccessKeys', { UserName })).AccessKeyMetadata.map((k) => [k.AccessKeyId, k.Status]), [[AccessKey.AccessKeyId, 'Active']]);
    const [hisSes, , hisSqs, , hisSts] = connect({ accessKeyId: AccessKey.AccessKeyId, secretAccessKey: AccessKey.SecretAccessKey });
    const who = await call(hisSts, sts2, 'GetCallerIdentity');
    assert.deepEqual([who.Arn, who.Account, who.UserId], [User.Arn, account, User.UserId]);
    assert.equal((await call(sts, sts2, 'GetCallerIdentity')).Arn, `arn:aws:iam::${account}:user/sandbox`);
    await call(hisSqs, sqs2, 'ReceiveMessage', { QueueUrl: p.url });
    await call(hisSes, ses2, 'SendEmail', mail(p.set));
    await refusal(call(hisSes, ses2, 'SendEmail', { ...mail(p.set), FromEmailAddress: 'a@other.example.com' }), 'AccessDeniedException', /ses:SendEmail on resource: arn:aws:ses:us-east-1:0+:identity\/other\.example\.com/);
    await refusal(call(hisSes, ses2, 'GetAccount'), 'AccessDeniedException', /user\/worker is not authorized to perform: ses:GetAccount/);
    await refusal(call(hisSqs, sqs2, 'PurgeQueue', { QueueUrl: p.url }), 'AccessDeniedException');
    const { EvaluationResults } = await IAM('SimulatePrincipalPolicy', { PolicySourceArn: User.Arn, ActionNames: ['sqs:ReceiveMessage', 'sqs:PurgeQueue'], ResourceArns: [queueArn(p.queue)] });
    assert.deepEqual(EvaluationResults.map((r) => [r.EvalActionName, r.EvalDecision]), [['sqs:ReceiveMessage', 'allowed'], ['sqs:PurgeQueue', 'implicitDeny']]);
    await refusal(IAM('DeleteUser', { UserName }), 'DeleteConflictException');
    await IAM('DeleteAccessKey', { UserName, AccessKeyId: AccessKey.AccessKeyId });
    await refusal(call(hisSts, sts2, 'GetCallerIdentity'), 'UnrecognizedClientException');
    await IAM('DeleteUserPolicy', { UserName, PolicyName: 'run' });
    await IAM('DeleteUser', { UserName });
    await refusal(IAM('GetUser', { UserName }), 'NoSuchEntityException');
  });
  it('a test may deny each action', async () => {
    await control('deny', { actions: ['ses:GetAccount', 'sqs:Get*', 'sns:CreateTopic', 'iam:CreateUser'] });
    const queue = { QueueUrl: `${sandbox.url}/${account}/newsletter-events-queue`, AttributeNames: ['All'] };
    await refusal(SES('GetAccount'), 'AccessDeniedException', /no identity-based policy allows/);
    await refusal(SQS('GetQueueAttributes', queue), 'AccessDeniedException');
    await refusal(SNS('CreateTopic', { Name: 'x' }), 'AuthorizationErrorException');
    await refusal(IAM('CreateUser', { UserName: 'x' }), 'AccessDenied');
    await control('deny', { actions: [] });
    await SES('GetAccount');
    await SQS('GetQueueAttributes', queue);
  });
  it('a wrong region is refused, and a clock that is off', async () => {
    const [elsewhere] = connect(undefined, 'eu-west-1');
    await refusal(call(elsewhere, ses2, 'GetAccount'), 'SignatureDoesNotMatch', /valid region, not 'eu-west-1'/);
    await sandbox.set({ clock_offset_s: 600 });
    const [late] = connect();
    const e = await refusal(call(late, ses2, 'GetAccount'), 'InvalidSignatureException', /expired/);
    const off = Date.parse(e.$response.headers.date) - Date.now();
    assert.ok(off > 595000 && off < 605000, `${off}`);
    await sandbox.set({ clock_offset_s: 0 });
  });
});
