// postern doctor: each hop of the way is broken in turn, as it breaks in real life, and doctor must name that hop,
// say why, and say what mends it. What is broken is read and broken with AWS's own SDK.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { arn, connect, disconnectAll } from './cloud.mjs';
import { Postern, binary, freePort, jsonLines, startSandbox, stopAll } from './harness.mjs';

const domain = 'news.example.com';
const set = 'ghost-mailgun-proxy-set';
const queue = 'newsletter-events-queue';
const topic = arn('sns', 'ghost-mailgun-proxy-events');
let sandbox, cloud, dir, conf, good, env, queueUrl, subscription, port;

const run = (...args) =>
  new Promise((resolve) => execFile(binary, args, { env, cwd: dir, encoding: 'utf8' }, (e, stdout, stderr) => resolve({ status: e ? e.code : 0, stdout, stderr })));
async function doctor(...args) {
  const r = await run('doctor', '-c', conf, '--json', ...args);
  return { status: r.status, findings: jsonLines(r.stdout).filter((line) => line.check), text: r.stdout };
}
const identity = (state) => fetch(`${sandbox.url}/_sandbox/identity`, { method: 'POST', body: JSON.stringify({ identity: domain, verification: 'SUCCESS', dkim: 'SUCCESS', mail_from: 'SUCCESS', ...state }) });
const edit = (change) => fs.writeFileSync(conf, change(good));
const attribute = (name, value) => cloud.sqs('SetQueueAttributes', { QueueUrl: queueUrl, Attributes: { [name]: value } });

// A policy that lets somebody else do something.
const stranger = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { AWS: 'arn:aws:iam::111122223333:root' }, Action: 'sns:Publish', Resource: topic }] });
const strangerAtQueue = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { AWS: 'arn:aws:iam::111122223333:root' }, Action: 'sqs:SendMessage', Resource: arn('sqs', queue) }] });

/** [what is broken, the check that must fail (or warn), how, how it is undone] */
const hops = () => [
  ['a mistake in the file', 'configuration', () => edit((t) => `${t}\nhttpd { children = many }\n`), () => edit((t) => t)],
  ['keys that AWS does not know', 'credentials', () => edit((t) => t.replace('access_key_id = "sandbox"', 'access_key_id = "AKIAUNKNOWN"')), () => edit((t) => t)],
  ['a secret that is not the key\'s', 'credentials', () => edit((t) => t.replace('sandbox-secret-key', 'another-secret-key')), () => edit((t) => t)],
  ['a clock ten minutes off', 'clock', () => sandbox.set({ clock_offset_s: 600 }), () => sandbox.set({ clock_offset_s: 0 })],
  ['an account in SES\'s sandbox', 'account', () => sandbox.set({ production_access: 0 }), () => sandbox.set({ production_access: 1 })],
  ['an account whose sending is off', 'account', () => sandbox.set({ sending_enabled: 0 }), () => sandbox.set({ sending_enabled: 1 })],
  ['an account that SES has shut down', 'account', () => sandbox.set({ enforcement: 2 }), () => sandbox.set({ enforcement: 0 })],
  ['a daily quota used up', 'quota', () => sandbox.set({ max_24h_send: 1000, sent_before: 1000 }), () => sandbox.set({ max_24h_send: -1, sent_before: 0 })],
  ['an identity that is not verified', 'identity', () => identity({ verification: 'PENDING' }), () => identity({})],
  ['DKIM keys that DNS does not have', 'DKIM', () => identity({ dkim: 'FAILED' }), () => identity({})],
  ['a MAIL FROM domain without its records', 'MAIL FROM', () => identity({ mail_from: 'FAILED' }), () => identity({})],
  ['a configuration set that is not there', 'configuration set', () => edit((t) => t.replaceAll(set, 'no-such-set')), () => edit((t) => t)],
  ['a configuration set whose sending is off', 'configuration set', () => cloud.ses('PutConfigurationSetSendingOptions', { ConfigurationSetName: set, SendingEnabled: false }), () => cloud.ses('PutConfigurationSetSendingOptions', { ConfigurationSetName: set, SendingEnabled: true })],
  ['an event type that is not told', 'event types', () => destination((d) => ({ ...d, MatchingEventTypes: d.MatchingEventTypes.filter((t) => t !== 'BOUNCE') })), () => destination((d) => d)],
  ['a destination that is switched off', 'event types', () => destination((d) => ({ ...d, Enabled: false })), () => destination((d) => d)],
  ['a topic that SES may not publish to', 'topic', () => topicPolicy('deny'), () => topicPolicy('original')],
  ['a subscription that is gone', 'subscription', () => cloud.sns('Unsubscribe', { SubscriptionArn: subscription }), resubscribe],
  ['a filter on the subscription', 'subscription', () => subscribed('FilterPolicy', JSON.stringify({ kind: ['none'] })), () => subscribed('FilterPolicy', '{}')],
  ['a delivery that is wrapped where only what is signed counts the other way', 'raw or wrapped', () => edit((t) => t.replace('queues {', 'queues {\n verify_sns = true')), () => edit((t) => t)],
  ['a queue whose policy does not let the topic send', 'queue policy', () => attribute('Policy', strangerAtQueue), () => attribute('Policy', policy)],
  ['a queue policy that names another topic', 'queue policy', () => attribute('Policy', policy.replaceAll('ghost-mailgun-proxy-events', 'another')), () => attribute('Policy', policy)],
  ['a queue that is not there', 'queue', () => edit((t) => t.replaceAll(`/${queue}"`, '/no-such-queue"')), () => edit((t) => t)],
  ['messages in the dead-letter queue', 'dead-letter queue', () => cloud.sqs('SendMessage', { QueueUrl: `${queueUrl}-dlq`, MessageBody: 'lost' }), () => cloud.sqs('PurgeQueue', { QueueUrl: `${queueUrl}-dlq` })],
  ['a queue without a dead-letter queue', 'dead-letter queue', () => attribute('RedrivePolicy', ''), () => attribute('RedrivePolicy', redrive)],
];
let original, policy, redrive, topicOriginal;

const destination = (change) => cloud.ses('UpdateConfigurationSetEventDestination', { ConfigurationSetName: set, EventDestinationName: original.Name, EventDestination: change({ Enabled: true, MatchingEventTypes: original.MatchingEventTypes, SnsDestination: original.SnsDestination }) });
const topicPolicy = (what) => cloud.sns('SetTopicAttributes', { TopicArn: topic, AttributeName: 'Policy', AttributeValue: what === 'original' ? topicOriginal : stranger });
const subscribed = (AttributeName, AttributeValue) => cloud.sns('SetSubscriptionAttributes', { SubscriptionArn: subscription, AttributeName, AttributeValue });
async function resubscribe() {
  const r = await cloud.sns('Subscribe', { TopicArn: topic, Protocol: 'sqs', Endpoint: arn('sqs', queue), Attributes: { RawMessageDelivery: 'true' }, ReturnSubscriptionArn: true });
  subscription = r.SubscriptionArn;
}

describe('postern doctor', () => {
  before(async () => {
    sandbox = await startSandbox(['--set', 'delivery_delay_ms_min=5', '--set', 'delivery_delay_ms_max=20']);
    cloud = connect(sandbox.url);
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-doctor-'));
    conf = path.join(dir, 'proxy.conf');
    port = await freePort();
    env = { PATH: process.env.PATH, HOME: dir, AWS_EC2_METADATA_DISABLED: 'true', AWS_ENDPOINT_URL: sandbox.url };
    await cloud.sqs('CreateQueue', { QueueName: 'dead.fifo', Attributes: { FifoQueue: 'true' } });
    fs.writeFileSync(conf, `listen = {"127.0.0.1:${port}"}\nstate_dir = "${dir}/state"\naws {\n access_key_id = "sandbox"\n secret_access_key = "sandbox-secret-key"\n}\n`, { mode: 0o640 });
  });
  after(async () => {
    disconnectAll();
    await stopAll();
  });

  it('tells a newcomer the next command, and after setup and DNS that all is well', async () => {
    const nothing = await run('doctor', '-c', conf);
    assert.equal(nothing.status, 1);
    assert.match(nothing.stdout, /postern setup -c .* --domain/);
    const made = await run('setup', '--yes', '--json', '--adopt', '--domain', domain, '--region', 'us-east-1', '-c', conf);
    assert.equal(made.status, 0, made.stdout + made.stderr);
    env.POSTERN_API_KEY = JSON.parse(made.stdout).api_key;
    const unverified = await run('doctor', '-c', conf);
    assert.equal(unverified.status, 1);
    assert.match(unverified.stdout, /^fail {2}identity .*\n +→ postern setup .*--print-dns$/m);
    await identity({});
    const well = await run('doctor', '-c', conf);
    assert.equal(well.status, 0, well.stdout);
    assert.match(well.stdout, /^All is well: 0 failed, 0 warnings/m);
    assert.ok(!/\x1b\[/.test(well.stdout), 'colours are for terminals');
    assert.ok(!well.stdout.includes('sandbox-secret-key'));
    good = fs.readFileSync(conf, 'utf8');
  });

  it('names each hop that is broken, and none when it is mended', async () => {
    queueUrl = (await cloud.sqs('GetQueueUrl', { QueueName: queue })).QueueUrl;
    const attributes = (await cloud.sqs('GetQueueAttributes', { QueueUrl: queueUrl, AttributeNames: ['All'] })).Attributes;
    policy = attributes.Policy;
    redrive = attributes.RedrivePolicy;
    topicOriginal = (await cloud.sns('GetTopicAttributes', { TopicArn: topic })).Attributes.Policy;
    original = (await cloud.ses('GetConfigurationSetEventDestinations', { ConfigurationSetName: set })).EventDestinations.find((d) => d.SnsDestination?.TopicArn === topic);
    subscription = (await cloud.sns('ListSubscriptionsByTopic', { TopicArn: topic })).Subscriptions.find((s) => s.Endpoint === arn('sqs', queue)).SubscriptionArn;
    const wrong = [];
    for (const [what, check, damage, mend] of hops()) {
      await damage();
      const sick = await doctor();
      const named = sick.findings.filter((f) => f.state === 'fail' || f.state === 'warn');
      if (!named.some((f) => f.check === check)) wrong.push(`${what}: ${check} expected, ${named.map((f) => `${f.check}: ${f.reason}`).join('; ') || 'nothing'} found`);
      else if (named.find((f) => f.check === check).mend === '') wrong.push(`${what}: nothing mends it`);
      await mend();
      const well = await doctor();
      const left = well.findings.filter((f) => f.state === 'fail' || f.state === 'warn');
      if (left.length > 0 || well.status !== 0) wrong.push(`${what}, mended: ${left.map((f) => `${f.check}: ${f.reason}`).join('; ')}`);
      if (/secret-key/.test(sick.text)) wrong.push(`${what}: a secret is told`);
    }
    assert.deepEqual(wrong, []);
    assert.ok(hops().length >= 20);
  });

  it("looks at the buffer queue of several machines, and at a node's own event queues", async () => {
    const first = path.join(dir, 'first.conf');
    fs.writeFileSync(first, good, { mode: 0o640 });
    const made = await run('setup', '--yes', '--json', '--domain', domain, '--region', 'us-east-1', '-c', first, '--buffer-queue', 'shared');
    assert.equal(made.status, 0, made.stderr);
    const node = path.join(dir, 'node.conf');
    fs.copyFileSync(first, node);
    const second = await run('setup', '--yes', '--json', '--domain', domain, '--region', 'us-east-1', '-c', node, '--node', 'two');
    assert.equal(second.status, 0, second.stderr);
    const url = JSON.parse(second.stdout).queues.newsletter_buffer;
    const shared = (name, value) => cloud.sqs('SetQueueAttributes', { QueueUrl: url, Attributes: { [name]: value } });
    const deny = (...actions) => fetch(`${sandbox.url}/_sandbox/deny`, { method: 'POST', body: JSON.stringify({ actions }) });
    const look = async (file) => {
      const r = await run('doctor', '-c', file, '--json');
      return { status: r.status, findings: jsonLines(r.stdout).filter((line) => line.check), text: r.stdout };
    };
    const bad = ({ findings }) => findings.filter((f) => f.state === 'fail' || f.state === 'warn');
    for (const file of [first, node]) {
      const well = await look(file);
      assert.equal(well.status, 0, well.text);
      assert.deepEqual(well.findings.filter((f) => f.about === 'shared.fifo').map((f) => [f.check, f.state]), [['buffer queue', 'ok'], ['buffer depth', 'ok'], ['events for the buffer', 'ok']]);
    }
    assert.ok((await look(node)).findings.some((f) => f.check === 'queue' && f.about === 'newsletter-events-queue-two'));

    const nodeQueue = `${queueUrl}-two`;
    const edited = (change) => fs.writeFileSync(node, change(fs.readFileSync(node, 'utf8')));
    const found = (await cloud.sns('ListSubscriptionsByTopic', { TopicArn: topic })).Subscriptions.find((s) => s.Endpoint.endsWith('-two'));
    const wrong = [];
    for (const [what, check, mend, damage, undo] of [
      ['messages too small', 'buffer queue', /aws sqs set-queue-attributes .*MaximumMessageSize=262144/, () => shared('MaximumMessageSize', '65536'), () => shared('MaximumMessageSize', '1048576')],
      ['a retention of an hour', 'buffer queue', /on the first machine: postern setup --domain .*--buffer-queue shared\.fifo/, () => shared('MessageRetentionPeriod', '3600'), () => shared('MessageRetentionPeriod', '1209600')],
      ['a dead-letter queue', 'buffer queue', /RedrivePolicy=/, () => shared('RedrivePolicy', JSON.stringify({ deadLetterTargetArn: arn('sqs', 'dead.fifo'), maxReceiveCount: 3 })), () => shared('RedrivePolicy', '')],
      ['no such queue', 'buffer queue', /--buffer-queue gone\.fifo/, () => edited((t) => t.replace('/shared.fifo"', '/gone.fifo"')), () => edited((t) => t.replace('/gone.fifo"', '/shared.fifo"'))],
      ['no right to put anything on it', 'permissions', /--print-iam/, () => deny('sqs:SendMessage'), () => deny()],
      ['no right to keep a message', 'permissions', /--print-iam/, () => deny('sqs:ChangeMessageVisibility'), () => deny()],
      ['no subscription of its own', 'events for the buffer', /postern setup -c .*--node two/, () => cloud.sns('Unsubscribe', { SubscriptionArn: found.SubscriptionArn }), () => run('setup', '--yes', '--json', '--domain', domain, '--region', 'us-east-1', '-c', node, '--node', 'two')],
      ['a queue policy of somebody else', 'queue policy', /--node two/, () => cloud.sqs('SetQueueAttributes', { QueueUrl: nodeQueue, Attributes: { Policy: strangerAtQueue } }), () => run('setup', '--yes', '--json', '--domain', domain, '--region', 'us-east-1', '-c', node, '--node', 'two')],
    ]) {
      await damage();
      const sick = bad(await look(node));
      const named = sick.find((f) => f.check === check);
      if (!named) wrong.push(`${what}: ${check} expected, ${sick.map((f) => `${f.check}: ${f.reason}`).join('; ') || 'nothing'} found`);
      else if (!mend.test(named.mend)) wrong.push(`${what}: mended by ${named.mend}`);
      await undo();
      const left = bad(await look(node));
      if (left.length > 0) wrong.push(`${what}, mended: ${left.map((f) => `${f.check}: ${f.reason}`).join('; ')}`);
    }
    assert.deepEqual(wrong, []);
    const { Attributes } = await cloud.sqs('GetQueueAttributes', { QueueUrl: url, AttributeNames: ['All'] });
    assert.equal(Attributes.ApproximateNumberOfMessages, '0', 'what asks for permissions puts nothing on it');
  });

  it('shows what SQS gave up, and moves it back: postern deadletters queues, --redrive', async () => {
    const dead = `${queueUrl}-dlq`;
    for (const text of ['one', 'two']) await cloud.sqs('SendMessage', { QueueUrl: dead, MessageBody: text });
    const shown = await run('deadletters', '-c', conf, '--json', 'queues');
    assert.equal(shown.status, 1, shown.stderr); // not all is well
    assert.deepEqual(jsonLines(shown.stdout).find((q) => q.queue === queue), { queue, dead_letter_queue: `${queue}-dlq`, waiting: 2 });
    const moved = await run('deadletters', '-c', conf, '--json', '--redrive');
    assert.equal(moved.status, 0, moved.stderr);
    assert.deepEqual(jsonLines(moved.stdout).find((q) => q.queue === queue), { queue, dead_letter_queue: `${queue}-dlq`, waiting: 0, moved: 2 });
    const { Messages = [] } = await cloud.sqs('ReceiveMessage', { QueueUrl: queueUrl, MaxNumberOfMessages: 10, VisibilityTimeout: 0 });
    assert.deepEqual(Messages.map((m) => m.Body).filter((b) => b === 'one' || b === 'two').sort(), ['one', 'two']);
    assert.equal((await run('deadletters', '-c', conf, 'queues')).stdout.match(/-dlq: 0 messages/g).length, 2);
    await cloud.sqs('PurgeQueue', { QueueUrl: queueUrl });
  });

  it('follows mail round, live, and tells where Ghost stands', async () => {
    const p = Object.assign(new Postern(), { dir, port, url: `http://127.0.0.1:${port}`, confFile: conf, logFile: path.join(dir, 'log'), env: { AWS_ENDPOINT_URL: sandbox.url } });
    await p.launch();
    const r = await doctor('--live', '--ghost', `http://127.0.0.1:${port}/v3`);
    assert.equal(r.status, 0, r.text);
    const live = r.findings.filter((f) => f.check === 'live');
    assert.equal(live.length, 4);
    assert.ok(live.every((f) => f.state === 'ok' && /visible on the events API/.test(f.reason)), r.text);
    for (const address of [`http://127.0.0.1:${port}/mail`, `http://127.0.0.1:${await freePort()}`, 'not an address']) {
      const bad = await doctor('--ghost', address);
      assert.ok(bad.findings.some((f) => /Ghost/.test(f.check) && f.state !== 'ok' && f.state !== 'skip'), `${address}: ${bad.text}`);
    }
    await topicPolicy('deny');
    const cut = await doctor('--live', '--wait', '5');
    assert.equal(cut.status, 1);
    assert.ok(cut.findings.some((f) => f.check === 'topic' && f.state === 'fail'));
    await topicPolicy('original');
    assert.deepEqual(await p.stop(), { code: 0, signal: null });
  });
});
