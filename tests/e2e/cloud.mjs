// AWS's own SDK, asking the sandbox (or another stand-in), for tests that make, read and break what is in the account.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const modules = {
  ses: require('@aws-sdk/client-sesv2'),
  sns: require('@aws-sdk/client-sns'),
  sqs: require('@aws-sdk/client-sqs'),
  iam: require('@aws-sdk/client-iam'),
  sts: require('@aws-sdk/client-sts'),
};

export const region = 'us-east-1';
export const account = '000000000000';
export const credentials = { accessKeyId: 'sandbox', secretAccessKey: 'sandbox-secret-key' };
export const keys = { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey };
export const arn = (service, rest) => `arn:aws:${service}:${region}:${account}:${rest}`;
const clients = [];

/** {sqs('GetQueueUrl', {…}), …}: clients that ask the endpoint. */
export function connect(endpoint, who = credentials) {
  const options = { region, endpoint, credentials: who, maxAttempts: 1 };
  return Object.fromEntries(
    Object.entries(modules).map(([name, module]) => {
      const Client = Object.entries(module).find(([key]) => /^[A-Z].*Client$/.test(key) && key !== '__Client')[1];
      const client = new Client(options);
      clients.push(client);
      return [name, (command, input = {}) => client.send(new module[`${command}Command`](input))];
    }),
  );
}

export function disconnectAll() {
  for (const client of clients) client.destroy();
}
