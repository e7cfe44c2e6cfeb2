// `postern setup` against the sandbox as AWS, and fauxqs as SQS and SNS; what it made is read back with AWS's own SDK.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { account, arn, connect, disconnectAll, keys, region } from './cloud.mjs';
import { Postern, binary, freePort, isSettled, newsletterForm, readers, root, startSandbox, stopAll, waitFor } from './harness.mjs';

const domain = 'news.example.com';
const ALL = ['SEND', 'REJECT', 'BOUNCE', 'COMPLAINT', 'DELIVERY', 'OPEN', 'CLICK', 'RENDERING_FAILURE', 'DELIVERY_DELAY', 'SUBSCRIPTION'];
const UNTRACKED = ALL.filter((t) => !['OPEN', 'CLICK', 'SUBSCRIPTION'].includes(t));
let sandbox;
let proxy;
after(async () => {
  disconnectAll();
  proxy?.server.close();
  proxy?.server.closeAllConnections();
  await stopAll();
});

const isChange = (call) => !/^(GET |AmazonSQS\.(Get|List)|(Get|List))/.test(call);

/** Passes calls on, keeps their names, and may do something around the n-th. */
async function startProxy(to) {
  const state = { calls: [], before: null, after: null };
  const server = http.createServer((req, res) => {
    const chunks = [];
    req.on('data', (d) => chunks.push(d));
    req.on('end', () => {
      const body = Buffer.concat(chunks);
      const action = new URLSearchParams(body.toString()).get('Action');
      state.calls.push(req.headers['x-amz-target'] ?? (req.url === '/' ? action : `${req.method} ${req.url}`));
      const n = state.calls.length;
      if (state.before?.(n)) return res.destroy();
      const onward = http.request(to + req.url, { method: req.method, headers: req.headers, agent: false }, (answer) => {
        if (state.after?.(n)) {
          answer.resume();
          return res.destroy();
        }
        res.writeHead(answer.statusCode, answer.headers);
        answer.pipe(res);
      });
      onward.on('error', () => res.destroy());
      onward.end(body);
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, server, state };
}

/** A folder with a proxy.conf, and `postern setup` in it. */
class Place {
  constructor(conf = fs.readFileSync(path.join(root, 'proxy.conf'), 'utf8')) {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-setup-'));
    this.conf = path.join(this.dir, 'proxy.conf');
    if (conf !== null) fs.writeFileSync(this.conf, conf, { mode: 0o640 });
    this.env = {};
  }
  arguments(args, endpoint, names) {
    return {
      args: ['setup', '--domain', domain, '-c', this.conf, '--wait', '3', ...names, ...args],
      env: { PATH: process.env.PATH, HOME: this.dir, AWS_EC2_METADATA_DISABLED: 'true', AWS_ENDPOINT_URL: endpoint, ...keys, ...this.env },
    };
  }
  run(args, { endpoint = proxy.url, names = [], at = region } = {}) {
    const how = this.arguments([...(at ? ['--region', at] : []), ...args], endpoint, names);
    return new Promise((resolve) =>
      execFile(binary, how.args, { env: how.env, cwd: this.dir, timeout: 60000 }, (error, stdout, stderr) =>
        resolve({ code: error ? (error.code ?? error.signal) : 0, stdout, stderr }),
      ),
    );
  }
  async json(args, options) {
    const got = await this.run([...args, '--json'], options);
    assert.equal(got.code, 0, got.stderr);
    return JSON.parse(got.stdout);
  }
  text() {
    return fs.readFileSync(this.conf, 'utf8');
  }
}

/** Names of a line of pipes of its own: each test is alone in the account. */
const own = (tag) => ({
  set: [`${tag}-set`, `${tag}-system-set`],
  topic: [`${tag}-topic`, `${tag}-system-topic`],
  queue: [`${tag}-events`, `${tag}-system-events`],
  buffer: `${tag}-buffer.fifo`,
  options: ['--newsletter-set', `${tag}-set`, '--system-set', `${tag}-system-set`, '--newsletter-topic', `${tag}-topic`, '--system-topic', `${tag}-system-topic`,
    '--newsletter-queue', `${tag}-events`, '--system-queue', `${tag}-system-events`, '--buffer-queue', `${tag}-buffer`],
});

const parsed = (text) => (text === undefined ? undefined : JSON.parse(text));
const sorted = (list) => [...list].sort();

async function readQueue(aws, name) {
  const { QueueUrl } = await aws.sqs('GetQueueUrl', { QueueName: name });
  const { Attributes: a } = await aws.sqs('GetQueueAttributes', { QueueUrl, AttributeNames: ['All'] });
  const { Tags } = await aws.sqs('ListQueueTags', { QueueUrl });
  const redrive = parsed(a.RedrivePolicy);
  return {
    fifo: a.FifoQueue === 'true', visibility: a.VisibilityTimeout, retention: a.MessageRetentionPeriod, wait: a.ReceiveMessageWaitTimeSeconds, policy: parsed(a.Policy),
    redrive: redrive && { ...redrive, maxReceiveCount: Number(redrive.maxReceiveCount) }, tags: Tags,
  };
}

async function readTopic(aws, name, tags = true) {
  const TopicArn = arn('sns', name);
  const { Attributes } = await aws.sns('GetTopicAttributes', { TopicArn });
  const { Subscriptions } = await aws.sns('ListSubscriptionsByTopic', { TopicArn });
  const subscriptions = [];
  for (const s of Subscriptions) {
    const { Attributes: a } = await aws.sns('GetSubscriptionAttributes', { SubscriptionArn: s.SubscriptionArn });
    subscriptions.push({ protocol: s.Protocol, endpoint: s.Endpoint, raw: a.RawMessageDelivery });
  }
  const topic = { policy: parsed(Attributes.Policy), subscriptions };
  if (tags) topic.tags = (await aws.sns('ListTagsForResource', { ResourceArn: TopicArn })).Tags.map((t) => [t.Key, t.Value]);
  return topic;
}

async function readSet(aws, name) {
  const { SendingOptions, Tags } = await aws.ses('GetConfigurationSet', { ConfigurationSetName: name });
  const { EventDestinations } = await aws.ses('GetConfigurationSetEventDestinations', { ConfigurationSetName: name });
  return {
    sending: SendingOptions?.SendingEnabled ?? true,
    tags: Tags.map((t) => [t.Key, t.Value]),
    destinations: EventDestinations.map((d) => ({ name: d.Name, enabled: d.Enabled, types: sorted(d.MatchingEventTypes), topic: d.SnsDestination?.TopicArn })),
  };
}

async function readQueuesAndTopics(aws, names, topicTags = true) {
  const found = {};
  for (const q of [...names.queue.flatMap((n) => [n, `${n}-dlq`]), names.buffer]) found[`queue ${q}`] = await readQueue(aws, q);
  for (const t of names.topic) found[`topic ${t}`] = await readTopic(aws, t, topicTags);
  return found;
}

async function readAll(aws, names) {
  const found = await readQueuesAndTopics(aws, names);
  for (const s of names.set) found[`set ${s}`] = await readSet(aws, s);
  const identity = await aws.ses('GetEmailIdentity', { EmailIdentity: domain });
  found.identity = {
    signing: identity.DkimAttributes.SigningEnabled, tokens: identity.DkimAttributes.Tokens.length, tags: identity.Tags.map((t) => [t.Key, t.Value]),
    from: identity.MailFromAttributes.MailFromDomain, onFailure: identity.MailFromAttributes.BehaviorOnMxFailure, feedback: identity.FeedbackForwardingStatus,
  };
  return found;
}

const tags = [['postern', 'setup']];
function wantedQueuesAndTopics(names) {
  const wanted = {};
  const allow = (sid, service, action, resource, condition) => ({
    Version: '2012-10-17',
    Statement: [{ Sid: sid, Effect: 'Allow', Principal: { Service: service }, Action: action, Resource: resource, Condition: condition }],
  });
  const queue = (name, policy) => {
    wanted[`queue ${name}`] = {
      fifo: false, visibility: '120', retention: '864000', wait: '20', policy, redrive: { deadLetterTargetArn: arn('sqs', `${name}-dlq`), maxReceiveCount: 10 }, tags: { postern: 'setup' },
    };
    wanted[`queue ${name}-dlq`] = { fifo: false, visibility: '30', retention: '1209600', wait: '0', policy: undefined, redrive: undefined, tags: { postern: 'setup' } };
  };
  wanted[`queue ${names.buffer}`] = { fifo: true, visibility: '120', retention: '1209600', wait: '20', policy: undefined, redrive: undefined, tags: { postern: 'setup' } };
  names.queue.forEach((q, i) => {
    const topic = arn('sns', names.topic[i]);
    queue(q, allow('topic', 'sns.amazonaws.com', 'sqs:SendMessage', arn('sqs', q), { ArnEquals: { 'aws:SourceArn': topic } }));
    wanted[`topic ${names.topic[i]}`] = {
      policy: allow('ses', 'ses.amazonaws.com', 'sns:Publish', topic, {
        StringEquals: { 'AWS:SourceAccount': account, 'AWS:SourceArn': arn('ses', `configuration-set/${names.set[i]}`) },
      }),
      subscriptions: [{ protocol: 'sqs', endpoint: arn('sqs', q), raw: 'true' }],
      tags,
    };
  });
  return wanted;
}

function wantedAll(names) {
  const wanted = wantedQueuesAndTopics(names);
  names.set.forEach((s, i) => {
    wanted[`set ${s}`] = {
      sending: true, tags,
      destinations: [{ name: 'postern-events', enabled: true, types: sorted(i === 0 ? ALL : UNTRACKED), topic: arn('sns', names.topic[i]) }],
    };
  });
  wanted.identity = { signing: true, tokens: 3, tags, from: `bounce.${domain}`, onFailure: 'USE_DEFAULT_VALUE', feedback: false };
  return wanted;
}

before(async () => {
  sandbox = await startSandbox(['--set', 'delivery_delay_ms_min=5', '--set', 'delivery_delay_ms_max=20', '--set', 'queue_deleted_wait_s=0',
    '--set', 'bounce_rate=0', '--set', 'soft_bounce_rate=0', '--set', 'complaint_rate=0', '--set', 'open_rate=10000', '--set', 'click_rate=0']);
  proxy = await startProxy(sandbox.url);
});

const forget = (aws) => aws.ses('DeleteEmailIdentity', { EmailIdentity: domain }).catch(() => {});

describe('postern setup', () => {
  it('makes the whole plumbing, member for member, and a proxy.conf that sends a newsletter and gets its events', async () => {
    const names = own('whole');
    const aws = connect(sandbox.url);
    const port = await freePort();
    const place = new Place(`# mine\nlisten = {"127.0.0.1:${port}"} # here\nstate_dir = "state"\n\naws {\n    # region = "eu-west-1" # or so\n    access_key_id = "sandbox"\n    secret_access_key = "sandbox-secret-key"\n}\n`);
    fs.chmodSync(place.conf, 0o600);
    const old = place.text();
    const made = await place.json(['--yes'], { names: names.options });
    assert.equal(made.done, true);
    assert.deepEqual(await readAll(aws, names), wantedAll(names));
    assert.match(made.api_key, /^key-[0-9a-f]{40}$/);
    const text = place.text();
    assert.match(text, new RegExp(`^ *newsletter_buffer = ".*/${names.buffer}"$`, 'm'));
    assert.match(text, new RegExp(`^ *replication_topic = "${arn('sns', names.topic[0])}"$`, 'm'));
    for (const line of old.split('\n')) assert.ok(text.includes(line), line);
    assert.equal(fs.statSync(place.conf).mode & 0o777, 0o600);
    assert.equal(fs.readFileSync(`${place.conf}.bak`, 'utf8'), old);
    assert.equal(fs.statSync(`${place.conf}.bak`).mode & 0o777, 0o600);
    assert.deepEqual(sorted(fs.readdirSync(place.dir)), ['proxy.conf', 'proxy.conf.bak']);
    assert.deepEqual(made.dns.filter((r) => r.type !== 'CNAME').map((r) => `${r.name} ${r.type} ${r.value}`), [
      `bounce.${domain} MX 10 feedback-smtp.${region}.amazonses.com`,
      `bounce.${domain} TXT v=spf1 include:amazonses.com ~all`,
      `_dmarc.${domain} TXT v=DMARC1; p=none`,
    ]);
    const { DkimAttributes } = await aws.ses('GetEmailIdentity', { EmailIdentity: domain });
    assert.deepEqual(made.dns.filter((r) => r.type === 'CNAME').map((r) => r.name), DkimAttributes.Tokens.map((t) => `${t}._domainkey.${domain}`));

    await fetch(`${sandbox.url}/_sandbox/identity`, { method: 'POST', body: JSON.stringify({ identity: domain, verification: 'SUCCESS', dkim: 'SUCCESS', mail_from: 'SUCCESS' }) });
    const postern = new Postern();
    Object.assign(postern, { dir: place.dir, port, url: `http://127.0.0.1:${port}`, confFile: place.conf, logFile: path.join(place.dir, 'log') });
    postern.env = { AWS_ENDPOINT_URL: sandbox.url };
    fs.writeFileSync(place.conf, text.replace(/^ *newsletter_buffer = .*$/m, '').replace('state_dir = "state"', `state_dir = "${path.join(place.dir, 'state')}"`));
    await postern.launch();
    const form = newsletterForm(readers(50), { from: `News <news@${domain}>` });
    const sent = await postern.post(form, { domain, auth: `api:${made.api_key}` });
    assert.equal(sent.status, 200, await sent.text());
    await waitFor('every event', () => {
      const [b] = postern.batches();
      return b.delivered === 50 && b.opened === 50;
    });
    await postern.stop();
  });

  it('a second run changes nothing, in AWS and in the file', async () => {
    const names = own('twice');
    const place = new Place();
    await place.json(['--yes'], { names: names.options });
    const text = place.text();
    const files = fs.readdirSync(place.dir);
    proxy.state.calls.length = 0;
    const again = await place.run(['--yes'], { names: names.options });
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /Nothing to do/);
    assert.deepEqual(proxy.state.calls.filter(isChange), []);
    assert.ok(proxy.state.calls.length > 20);
    assert.equal(place.text(), text);
    assert.deepEqual(fs.readdirSync(place.dir), files);
  });

  it('shows a plan, and without --yes and a terminal, or with --dry-run, does nothing', async () => {
    const names = own('asks');
    const place = new Place();
    const text = place.text();
    proxy.state.calls.length = 0;
    const dry = await place.run(['--dry-run'], { names: names.options });
    assert.equal(dry.code, 0, dry.stderr);
    assert.match(dry.stdout, /^queue +asks-events +create$/m);
    assert.match(dry.stdout, /^subscription +asks-topic → asks-events +create$/m);
    const unasked = await place.run([], { names: names.options });
    assert.equal(unasked.code, 2);
    assert.match(unasked.stderr, /--yes/);
    assert.deepEqual(proxy.state.calls.filter(isChange), []);
    assert.equal(place.text(), text);
  });

  it('mends what drifted, each thing alone', async () => {
    const names = own('drift');
    const aws = connect(sandbox.url);
    const place = new Place();
    await place.json(['--yes'], { names: names.options });
    const [queue, set, topic] = [names.queue[0], names.set[0], arn('sns', names.topic[0])];
    const { QueueUrl } = await aws.sqs('GetQueueUrl', { QueueName: queue });
    const { Subscriptions } = await aws.sns('ListSubscriptionsByTopic', { TopicArn: topic });
    const { SubscriptionArn } = Subscriptions[0];
    const destination = (change) => ({
      ConfigurationSetName: set, EventDestinationName: 'postern-events',
      EventDestination: { Enabled: true, MatchingEventTypes: ALL, SnsDestination: { TopicArn: topic }, ...change },
    });
    const drifts = {
      'queue policy gone': () => aws.sqs('SetQueueAttributes', { QueueUrl, Attributes: { Policy: '' } }),
      'queue policy too wide': () => aws.sqs('SetQueueAttributes', { QueueUrl, Attributes: { Policy: JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: '*', Action: 'sqs:*', Resource: arn('sqs', queue) }] }) } }),
      visibility: () => aws.sqs('SetQueueAttributes', { QueueUrl, Attributes: { VisibilityTimeout: '1' } }),
      'redrive gone': () => aws.sqs('SetQueueAttributes', { QueueUrl, Attributes: { RedrivePolicy: '' } }),
      'topic policy': () => aws.sns('SetTopicAttributes', { TopicArn: topic, AttributeName: 'Policy', AttributeValue: JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${account}:root` }, Action: 'sns:Publish', Resource: topic }] }) }),
      wrapped: () => aws.sns('SetSubscriptionAttributes', { SubscriptionArn, AttributeName: 'RawMessageDelivery', AttributeValue: 'false' }),
      unsubscribed: () => aws.sns('Unsubscribe', { SubscriptionArn }),
      'event types': () => aws.ses('UpdateConfigurationSetEventDestination', destination({ MatchingEventTypes: ['SEND'] })),
      'destination off': () => aws.ses('UpdateConfigurationSetEventDestination', destination({ Enabled: false })),
      'destination gone': () => aws.ses('DeleteConfigurationSetEventDestination', { ConfigurationSetName: set, EventDestinationName: 'postern-events' }),
      'sending off': () => aws.ses('PutConfigurationSetSendingOptions', { ConfigurationSetName: set, SendingEnabled: false }),
      'set gone': () => aws.ses('DeleteConfigurationSet', { ConfigurationSetName: set }),
      'queue gone': () => aws.sqs('DeleteQueue', { QueueUrl }),
      'topic gone': () => aws.sns('DeleteTopic', { TopicArn: topic }),
      'mail from': () => aws.ses('PutEmailIdentityMailFromAttributes', { EmailIdentity: domain, MailFromDomain: `other.${domain}` }),
      'dkim off': () => aws.ses('PutEmailIdentityDkimAttributes', { EmailIdentity: domain, SigningEnabled: false }),
      feedback: () => aws.ses('PutEmailIdentityFeedbackAttributes', { EmailIdentity: domain, EmailForwardingEnabled: true }),
    };
    for (const [what, drift] of Object.entries(drifts)) {
      await drift();
      assert.notDeepEqual(await readAll(aws, names).catch(() => null), wantedAll(names), what);
      const mended = await place.run(['--yes'], { names: names.options });
      assert.equal(mended.code, 0, `${what}: ${mended.stderr}`);
      assert.deepEqual(await readAll(aws, names), wantedAll(names), what);
    }
  });

  it('killed at any call, before it or after it, the next run completes it', async () => {
    const aws = connect(sandbox.url);
    let kills = 0;
    for (let n = 1, more = true; more; n++) {
      for (const moment of ['before', 'after']) {
        const names = own(`kill-${n}-${moment}`);
        await forget(aws);
        const place = new Place();
        const how = place.arguments(['--region', region, '--yes'], proxy.url, names.options);
        proxy.state.calls.length = 0;
        // Reading comes first and changes nothing: count from the first change on.
        const { calls } = proxy.state;
        let child;
        proxy.state[moment] = () => {
          if (calls.filter(isChange).length !== n || !isChange(calls.at(-1)) || child.killed) return child.killed;
          return child.kill('SIGKILL');
        };
        child = spawn(binary, how.args, { env: how.env, cwd: place.dir, stdio: 'ignore' });
        const signal = await new Promise((resolve) => child.on('exit', (_, s) => resolve(s)));
        proxy.state[moment] = null;
        more = signal === 'SIGKILL';
        if (!more) {
          assert.equal(n > 15, true, `only ${n} calls change anything`);
          break;
        }
        kills++;
        assert.equal(fs.readdirSync(place.dir).length, 1);
        const resumed = await place.run(['--yes'], { names: names.options });
        assert.equal(resumed.code, 0, resumed.stderr);
        assert.deepEqual(await readAll(aws, names), wantedAll(names), `${moment} call ${n}`);
        assert.match(place.text(), new RegExp(`newsletter_events = ".*/${names.queue[0]}"`));
      }
    }
    assert.ok(kills > 30);
  });

  it('never touches what something else made, and takes it with --adopt', async () => {
    const names = own('taken');
    const aws = connect(sandbox.url);
    const place = new Place();
    const text = place.text();
    await aws.sqs('CreateQueue', { QueueName: names.queue[0], Attributes: { VisibilityTimeout: '7' } });
    await aws.ses('CreateConfigurationSet', { ConfigurationSetName: names.set[1] });
    proxy.state.calls.length = 0;
    const refused = await place.run(['--yes'], { names: names.options });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, new RegExp(`queue ${names.queue[0]} is not ours .*VisibilityTimeout 7 → 120`));
    assert.match(refused.stderr, new RegExp(`${names.set[1]}: postern-events is not ours`));
    assert.deepEqual(proxy.state.calls.filter(isChange), []);
    assert.equal(place.text(), text);
    await place.json(['--yes', '--adopt'], { names: names.options });
    assert.deepEqual(await readAll(aws, names), wantedAll(names));
    proxy.state.calls.length = 0;
    assert.equal((await place.run(['--yes'], { names: names.options })).code, 0);
    assert.deepEqual(proxy.state.calls.filter(isChange), []);
  });

  it("leaves an identity of one's own as it is, but for what it lacks", async () => {
    const names = own('identity');
    const aws = connect(sandbox.url);
    await forget(aws);
    await aws.ses('CreateEmailIdentity', { EmailIdentity: domain });
    await aws.ses('PutEmailIdentityMailFromAttributes', { EmailIdentity: domain, MailFromDomain: `mine.${domain}` });
    await aws.ses('PutEmailIdentityDkimAttributes', { EmailIdentity: domain, SigningEnabled: false });
    const place = new Place();
    const made = await place.json(['--yes'], { names: names.options });
    const found = (await readAll(aws, names)).identity;
    assert.deepEqual(found, { signing: true, tokens: 3, tags: [], from: `mine.${domain}`, onFailure: 'USE_DEFAULT_VALUE', feedback: true });
    assert.ok(made.dns.some((r) => r.name === `mine.${domain}` && r.type === 'MX'));
    await place.json(['--yes', '--mail-from', `given.${domain}`], { names: names.options });
    assert.equal((await readAll(aws, names)).identity.from, `given.${domain}`);
    await forget(aws);
  });

  it('makes a user whose keys may do what Postern needs, and no more', async () => {
    const names = own('user');
    const aws = connect(sandbox.url);
    const place = new Place();
    const made = await place.json(['--yes', '--iam-user', '--iam-user-name', 'worker'], { names: names.options });
    const text = place.text();
    const id = /^ *access_key_id = "(\w+)"/m.exec(text)[1];
    const secret = /^ *secret_access_key = "([^"]+)"/m.exec(text)[1];
    assert.ok(!JSON.stringify(made).includes(secret));
    const worker = connect(sandbox.url, { accessKeyId: id, secretAccessKey: secret });
    assert.equal((await worker.sts('GetCallerIdentity')).Arn, `arn:aws:iam::${account}:user/worker`);
    const { QueueUrl } = await worker.sqs('GetQueueUrl', { QueueName: names.queue[0] });
    await worker.sqs('ReceiveMessage', { QueueUrl });
    await worker.ses('GetAccount');
    await assert.rejects(worker.sqs('DeleteQueue', { QueueUrl }), /not authorized|denied/i);
    await assert.rejects(worker.iam('CreateUser', { UserName: 'other' }), /not authorized|denied/i);
    const again = await place.run(['--yes', '--iam-user', '--iam-user-name', 'worker'], { names: names.options });
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /Nothing to do/);
    // Without any in the environment the file's are asked: the worker's, who may not set up.
    place.env = { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' };
    const asWorker = await place.run(['--yes'], { names: names.options });
    assert.equal(asWorker.code, 2);
    assert.match(asWorker.stderr, /the permission sqs:ListQueueTags is missing/);
    const { AccessKeyMetadata } = await aws.iam('ListAccessKeys', { UserName: 'worker' });
    assert.deepEqual(AccessKeyMetadata.map((k) => k.AccessKeyId), [id]);
  });

  it('removes what it made, and nothing else', async () => {
    const names = own('gone');
    const aws = connect(sandbox.url);
    await forget(aws);
    const place = new Place();
    await place.json(['--yes', '--iam-user', '--iam-user-name', 'leaver'], { names: names.options });
    fs.copyFileSync(`${place.conf}.bak`, place.conf); // without the leaver's keys
    await aws.sqs('CreateQueue', { QueueName: 'gone-not' });
    const removed = await place.run(['--yes', '--remove', '--iam-user', '--iam-user-name', 'leaver'], { names: names.options });
    assert.equal(removed.code, 0, removed.stderr);
    await assert.rejects(aws.iam('GetUser', { UserName: 'leaver' }), { name: /NoSuchEntity/ });
    await assert.rejects(aws.ses('GetEmailIdentity', { EmailIdentity: domain }), { name: 'NotFoundException' });
    for (const s of names.set) await assert.rejects(aws.ses('GetConfigurationSet', { ConfigurationSetName: s }), { name: 'NotFoundException' });
    for (const t of names.topic) await assert.rejects(aws.sns('GetTopicAttributes', { TopicArn: arn('sns', t) }), { name: /NotFound/ });
    for (const q of [...names.queue, names.buffer]) await assert.rejects(aws.sqs('GetQueueUrl', { QueueName: q }), { name: /QueueDoesNotExist/ });
    await aws.sqs('GetQueueUrl', { QueueName: 'gone-not' });
  });

  it('says which permission is missing, that there are no credentials, that the key is wrong', async () => {
    const names = own('denied');
    const place = new Place();
    const deny = async (...actions) => assert.equal((await fetch(`${sandbox.url}/_sandbox/deny`, { method: 'POST', body: JSON.stringify({ actions }) })).status, 200);
    for (const action of ['sqs:GetQueueUrl', 'sqs:CreateQueue', 'sns:CreateTopic', 'sns:Subscribe', 'ses:CreateConfigurationSet', 'ses:CreateEmailIdentity']) {
      await deny(action);
      const got = await place.run(['--yes'], { names: names.options });
      await deny();
      if (action === 'ses:CreateEmailIdentity' && got.code === 0) continue; // another test's identity is there
      assert.equal(got.code, 2, action);
      assert.ok(got.stderr.includes(`the permission ${action} is missing`), got.stderr);
    }
    place.env = { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' };
    const none = await place.run(['--dry-run']);
    assert.equal(none.code, 2);
    assert.match(none.stderr, /no AWS credentials: .*AWS_ACCESS_KEY_ID/);
    place.env = { AWS_SECRET_ACCESS_KEY: 'wrong' };
    const wrong = await place.run(['--dry-run']);
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /secret access key of .* is wrong/);
    place.env = {};
    const badRegion = await place.run(['--dry-run'], { at: 'Ireland' });
    assert.equal(badRegion.code, 2);
    assert.match(badRegion.stderr, /"Ireland" .*is no AWS region/);
    const noRegion = await place.run(['--dry-run'], { at: null });
    assert.equal(noRegion.code, 2);
    assert.match(noRegion.stderr, /--region/);
  });

  it('prints policies, DNS and templates', async () => {
    const place = new Place();
    const iam = JSON.parse((await place.run(['--print-iam', '--json'])).stdout);
    assert.deepEqual(Object.keys(iam), ['run_time', 'setup']);
    const cloud = JSON.parse((await place.run(['--cloudformation'])).stdout);
    const types = Object.values(cloud.Resources).map((r) => r.Type);
    const count = (type) => types.filter((t) => t === type).length;
    assert.equal(count('AWS::SQS::Queue'), 4);
    assert.deepEqual(JSON.stringify(iam).match(/sns:Publish/g), null);
    assert.equal(count('AWS::SES::ConfigurationSetEventDestination'), 2);
    for (const r of Object.values(cloud.Resources)) if (r.DependsOn) assert.ok(cloud.Resources[r.DependsOn], r.DependsOn);
    const terra = JSON.parse((await place.run(['--terraform'])).stdout);
    assert.equal(Object.keys(terra.resource.aws_sqs_queue).length, 4);
    for (const [, type, name] of JSON.stringify(terra).matchAll(/\$\{(aws_\w+)\.(\w+)[.[]/g)) assert.ok(terra.resource[type][name], `${type}.${name}`);
    const shared = ['--buffer-queue', 'shared'];
    const iamShared = JSON.parse((await place.run(['--print-iam', '--json', ...shared])).stdout);
    const notices = iamShared.run_time.Statement.find((s) => s.Sid === 'Notices');
    assert.deepEqual([notices.Action, notices.Resource.length], ['sns:Publish', 2]);
    const queues = iamShared.run_time.Statement.find((s) => s.Sid === 'Queues');
    assert.ok(queues.Resource.includes(arn('sqs', 'shared.fifo')) && queues.Action.includes('sqs:ChangeMessageVisibility'));
    const cloudShared = JSON.parse((await place.run(['--cloudformation', ...shared])).stdout);
    assert.deepEqual(Object.values(cloudShared.Resources).filter((r) => r.Properties.FifoQueue).map((r) => [r.Properties.QueueName, r.Properties.MessageRetentionPeriod, r.Properties.VisibilityTimeout]), [['shared.fifo', 1209600, 120]]);
    const terraShared = JSON.parse((await place.run(['--terraform', ...shared])).stdout);
    assert.deepEqual(Object.values(terraShared.resource.aws_sqs_queue).filter((q) => q.fifo_queue).map((q) => q.name), ['shared.fifo']);
    const names = own('prints');
    await place.json(['--yes'], { names: names.options });
    const dns = (await place.run(['--print-dns'], { names: names.options })).stdout;
    assert.match(dns, new RegExp(`^_dmarc\\.${domain}\\. 3600 IN TXT "v=DMARC1; p=none"$`, 'm'));
    assert.match(dns, new RegExp(`^\\w+\\._domainkey\\.${domain}\\. 3600 IN CNAME \\w+\\.dkim\\.amazonses\\.com\\.$`, 'm'));
  });
});

const without = (text) => text.replace(/^ *(newsletter|system)_(events|buffer) = .*\n/gm, '');

/** What a node's queues have to be like, of names whose topics lead to others' queues, too. */
function wantedOfNode(names, node) {
  const own = { ...names, queue: names.queue.map((q) => `${q}-${node}`) };
  return Object.fromEntries(Object.entries(wantedQueuesAndTopics(own)).filter(([name]) => new RegExp(`-${node}(-dlq)?$`).test(name)));
}
async function readNode(aws, names, node) {
  const found = {};
  for (const q of names.queue.flatMap((n) => [`${n}-${node}`, `${n}-${node}-dlq`])) found[`queue ${q}`] = await readQueue(aws, q);
  return found;
}
const endpoints = async (aws, topic) => sorted((await readTopic(aws, topic, false)).subscriptions.map((s) => `${s.endpoint} ${s.raw}`));

describe('postern setup --node', () => {
  it("adds a machine's own event queues, once, writes and prints them, and takes them away again", async () => {
    const names = own('nodes');
    const aws = connect(sandbox.url);
    const first = new Place();
    await first.json(['--yes', '--iam-user', '--iam-user-name', 'noder'], { names: names.options });
    const second = new Place(without(first.text()));
    const options = names.options.slice(0, -2);
    const before = await readAll(aws, names);
    const made = await second.run(['--yes', '--node', 'b'], { names: names.options });
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual(await readNode(aws, names, 'b'), wantedOfNode(names, 'b'));
    for (let i = 0; i < 2; i++) assert.deepEqual(await endpoints(aws, names.topic[i]), [names.queue[i], `${names.queue[i]}-b`].map((q) => `${arn('sqs', q)} true`));
    const section = /^queues \{\n([^}]*)\}$/m.exec(made.stdout)[1].trim().split('\n').map((l) => l.trim());
    assert.deepEqual(section.map((l) => l.replace(/".*\//, '"')), [`newsletter_buffer = "${names.buffer}"`, `replication_topic = "${arn('sns', names.topic[0])}"`, `newsletter_events = "${names.queue[0]}-b"`, `system_events = "${names.queue[1]}-b"`]);
    for (const line of section) assert.ok(second.text().includes(line), line);
    // The user's policy covers them without a change of it.
    const { PolicyDocument } = await aws.iam('GetUserPolicy', { UserName: 'noder', PolicyName: 'postern' });
    assert.ok(JSON.parse(decodeURIComponent(PolicyDocument)).Statement.find((s) => s.Sid === 'Queues').Resource.includes(`${arn('sqs', names.queue[0])}-*`));

    proxy.state.calls.length = 0;
    const again = await second.run(['--yes', '--node', 'b'], { names: names.options });
    assert.match(again.stdout, /Nothing to do[\s\S]*^queues \{$/m, again.stderr);
    // Without --node the machine's file is not turned to the main queues, which another machine reads.
    const forgot = await second.run(['--yes'], { names: options });
    assert.equal(forgot.code, 2);
    assert.match(forgot.stderr, /the node "b": say --node b/);
    const gone = await second.run(['--yes', '--remove'], { names: options });
    assert.equal(gone.code, 2);
    assert.deepEqual(proxy.state.calls.filter(isChange), []);

    const { QueueUrl } = await aws.sqs('GetQueueUrl', { QueueName: `${names.queue[1]}-b` });
    await aws.sqs('SendMessage', { QueueUrl, MessageBody: 'an event' });
    const kept = await second.run(['--yes', '--remove', '--node', 'b'], { names: options });
    assert.equal(kept.code, 1);
    assert.match(kept.stderr, new RegExp(`queue ${names.queue[1]}-b is not empty[\\s\\S]*--force`));
    assert.deepEqual(proxy.state.calls.filter((c) => isChange(c)), []);
    const removed = await second.run(['--yes', '--remove', '--node', 'b', '--force'], { names: options });
    assert.equal(removed.code, 0, removed.stderr);
    for (const q of names.queue) for (const end of ['-b', '-b-dlq']) await assert.rejects(aws.sqs('GetQueueUrl', { QueueName: q + end }), { name: /QueueDoesNotExist/ });
    const after = await readAll(aws, names);
    assert.deepEqual({ ...after, identity: 0 }, { ...before, identity: 0 });
  });

  it('needs the whole to be there, mends its own part, and takes no name that could be another queue', async () => {
    const names = own('alone');
    const aws = connect(sandbox.url);
    const place = new Place();
    const text = place.text();
    proxy.state.calls.length = 0;
    const early = await place.run(['--yes', '--node', 'c'], { names: names.options });
    assert.equal(early.code, 1);
    assert.match(early.stderr, new RegExp(`topic ${names.topic[0]} is not there: .*without --node`));
    assert.match(early.stderr, new RegExp(`queue ${names.buffer} is not there: .*--buffer-queue`));
    for (const bad of ['dlq', 'x-dlq', 'a.b', '', 'x'.repeat(41)]) assert.equal((await place.run(['--yes', '--node', bad], { names: names.options })).code, 2, bad);
    assert.equal((await place.run(['--print-iam', '--node', 'c'], { names: names.options })).code, 2);
    assert.deepEqual(proxy.state.calls.filter(isChange), []);
    assert.equal(place.text(), text);

    await new Place().json(['--yes'], { names: names.options });
    await place.json(['--yes', '--node', 'c'], { names: names.options });
    const topic = arn('sns', names.topic[0]);
    const { Subscriptions } = await aws.sns('ListSubscriptionsByTopic', { TopicArn: topic });
    await aws.sns('Unsubscribe', { SubscriptionArn: Subscriptions.find((s) => s.Endpoint.endsWith('-c')).SubscriptionArn });
    const { QueueUrl } = await aws.sqs('GetQueueUrl', { QueueName: `${names.queue[0]}-c` });
    await aws.sqs('SetQueueAttributes', { QueueUrl, Attributes: { RedrivePolicy: '', VisibilityTimeout: '5' } });
    const topicBefore = await aws.sns('GetTopicAttributes', { TopicArn: topic });
    await place.json(['--yes', '--node', 'c'], { names: names.options });
    assert.deepEqual(await readNode(aws, names, 'c'), wantedOfNode(names, 'c'));
    assert.equal((await endpoints(aws, names.topic[0])).length, 2);
    assert.deepEqual((await aws.sns('GetTopicAttributes', { TopicArn: topic })).Attributes.Policy, topicBefore.Attributes.Policy);
  });

  it('leaves a buffer alone that holds accepted mail, unless it is forced', async () => {
    const names = own('mail');
    const aws = connect(sandbox.url);
    const place = new Place();
    await place.json(['--yes'], { names: names.options });
    const { QueueUrl } = await aws.sqs('GetQueueUrl', { QueueName: names.buffer });
    await aws.sqs('SetQueueAttributes', { QueueUrl, Attributes: { VisibilityTimeout: '30' } });
    await place.json(['--yes'], { names: names.options }); // the change leaves FifoQueue out, which SQS does not take then
    assert.equal((await readQueue(aws, names.buffer)).visibility, '120');
    await aws.sqs('SendMessage', { QueueUrl, MessageBody: 'a part', MessageGroupId: 'g', MessageDeduplicationId: 'd' });
    const kept = await place.run(['--yes', '--remove'], { names: names.options });
    assert.equal(kept.code, 1);
    assert.match(kept.stderr, new RegExp(`queue ${names.buffer} is not empty`));
    assert.equal((await place.run(['--yes', '--remove', '--force'], { names: names.options })).code, 0);
    await assert.rejects(aws.sqs('GetQueueUrl', { QueueName: names.buffer }), { name: /QueueDoesNotExist/ });
  });
});

describe('fauxqs as SQS and SNS', () => {
  it('has the same queues, topics and subscriptions, and a second run changes nothing', async () => {
    const { startFauxqs } = await import('fauxqs');
    const port = await freePort();
    const server = await startFauxqs({ port, host: '127.0.0.1', logger: false, defaultRegion: region });
    const other = await startProxy(`http://127.0.0.1:${port}`);
    try {
      const names = own('faux');
      // SES publishes its test message to a topic of its own cloud: there it has to be, too.
      const inSandbox = new Place();
      await inSandbox.json(['--yes'], { names: names.options });
      const aws = connect(`http://127.0.0.1:${port}`);
      const place = new Place();
      place.env = { AWS_ENDPOINT_URL_SQS: other.url, AWS_ENDPOINT_URL_SNS: other.url };
      await place.json(['--yes'], { names: names.options });
      const wanted = wantedQueuesAndTopics(names);
      for (const t of names.topic) delete wanted[`topic ${t}`].tags;
      const found = await readQueuesAndTopics(aws, names, false);
      for (const [name, is] of Object.entries(found)) assert.deepEqual(is, wanted[name], name);
      other.state.calls.length = 0;
      const again = await place.run(['--yes'], { names: names.options });
      assert.equal(again.code, 0, again.stderr);
      assert.deepEqual(other.state.calls.filter(isChange), []);
    } finally {
      other.server.close();
      other.server.closeAllConnections();
      await server.stop();
    }
  });
});
