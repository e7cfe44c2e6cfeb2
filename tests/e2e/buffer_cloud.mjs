// A cloud with a FIFO queue as buffer, and machines that share it: for buffer_*.test.mjs.
import { createRequire } from 'node:module';
import { Postern, startSandbox } from './harness.mjs';

const require = createRequire(import.meta.url);
const sqs2 = require('@aws-sdk/client-sqs');
const sns2 = require('@aws-sdk/client-sns');
const credentials = { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' };
export const account = '000000000000';
export const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };
const topics = ['ghost-mailgun-proxy-events', 'ghost-mailgun-proxy-system-events'];
const clients = [];

export const closeClients = () => clients.forEach((client) => client.destroy());

/** SQS and SNS at this endpoint; call('CreateQueue', {…}). */
export function sdk(endpoint) {
  const options = { region: 'us-east-1', endpoint, credentials };
  const sqs = new sqs2.SQSClient(options);
  const sns = new sns2.SNSClient(options);
  clients.push(sqs, sns);
  return {
    sqs: (name, input) => sqs.send(new sqs2[`${name}Command`](input)),
    sns: (name, input) => sns.send(new sns2[`${name}Command`](input)),
  };
}

export const fifo = async (aws) =>
  (await aws.sqs('CreateQueue', { QueueName: 'buffer.fifo', Attributes: { FifoQueue: 'true' } })).QueueUrl;

/** A queue of a machine's own on the same topics. */
export async function eventQueue(aws, name) {
  const arn = `arn:aws:sqs:us-east-1:${account}:${name}`;
  const Policy = JSON.stringify({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Principal: { Service: 'sns.amazonaws.com' }, Action: 'sqs:SendMessage', Resource: arn }],
  });
  const { QueueUrl } = await aws.sqs('CreateQueue', { QueueName: name, Attributes: { Policy } });
  for (const topic of topics)
    await aws.sns('Subscribe', { TopicArn: `arn:aws:sns:us-east-1:${account}:${topic}`, Protocol: 'sqs', Endpoint: arn });
  return QueueUrl;
}

export const node = (sandbox, buffer, events, more = {}) =>
  Postern.start({
    sandbox,
    domains: more.domains,
    aws: `aws { region = "us-east-1" access_key_id = "sandbox" secret_access_key = "sandbox-secret-key"
            ses_endpoint = "${more.ses ?? sandbox.url}" sqs_endpoint = "${more.sqs ?? sandbox.url}" sns_endpoint = "${more.sns ?? sandbox.url}" }
          queues { newsletter_buffer = "${buffer}" newsletter_events = "${events}" buffer_visibility = "${more.visibility ?? '6s'}" ${more.queues ?? ''} }`,
    sections: { sender: `doubt_window = "${more.window ?? '12s'}"\n${more.sender ?? ''}`, httpd: `children = 1\n${more.httpd ?? ''}`, ...more.sections },
  });

export async function cloud() {
  const sandbox = await startSandbox();
  await sandbox.set(quiet);
  const aws = sdk(sandbox.url);
  return { sandbox, aws, buffer: await fifo(aws), events: `${sandbox.url}/${account}/newsletter-events-queue` };
}

export async function depth(aws, QueueUrl) {
  const { Attributes: a } = await aws.sqs('GetQueueAttributes', { QueueUrl, AttributeNames: ['All'] });
  return Number(a.ApproximateNumberOfMessages) + Number(a.ApproximateNumberOfMessagesNotVisible);
}

export const names = (form, addresses) => addresses.map((a) => `${form.emailId} ${a}`);
export const allSent = (sandbox, count) => async () => (await sandbox.recipients()).size >= count;
export const clean = { missing: 0, duplicates: 0, unaccounted: 0, books: null };
export const sentBy = (postern) => postern.batches().reduce((sum, batch) => sum + batch.sent, 0);
