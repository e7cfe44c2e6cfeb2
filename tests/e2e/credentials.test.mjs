// Every source of AWS credentials, against stand-ins that check what they are asked (fake_sources.mjs) and a judge that
// checks every signature, token and region with AWS's own code.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { FakeAws } from '../fault/fake_aws.mjs';
import { FakeSources } from './fake_sources.mjs';
import { Postern, binary, isSettled, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

const ends = [];
after(async () => {
  await stopAll();
  for (const end of ends) await end();
});

/** AWS, the sources and an empty home. A source is chosen by the variables; none but these are seen. */
async function world(options = {}) {
  const aws = await FakeAws.start({ trouble: { longPollMs: 500 } });
  const sources = await FakeSources.start(options);
  sources.guard(aws);
  ends.push(() => aws.stop(), () => sources.stop());
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-home-'));
  fs.mkdirSync(path.join(home, '.aws'));
  const file = (name, text, mode = 0o600) => {
    fs.writeFileSync(path.join(home, name), text, { mode });
    return path.join(home, name);
  };
  const env = { HOME: home, AWS_ENDPOINT_URL_STS: sources.url };
  return { aws, sources, home, file, env };
}

function start({ aws, env }, variables, settings = 'region = "us-east-1"') {
  return Postern.start({
    env: { ...env, AWS_EC2_METADATA_DISABLED: 'true', ...variables },
    sections: { sender: 'strategy = "simple"', log: 'level = "debug"' },
    aws: `aws { ${settings} ses_endpoint = "${aws.url}" sqs_endpoint = "${aws.url}" }
          queues { newsletter_events = "${aws.queueUrl}" }`,
  });
}

/** A newsletter goes out with what there is, and its events come back; nothing on the way was wrong or refused. */
async function works(postern, { aws, sources }, count = 30) {
  const before = aws.accepted.length;
  assert.equal((await postern.post(newsletterForm(readers(count)))).status, 200);
  await waitFor('the mails', () => aws.accepted.length - before >= count);
  await waitFor('the events', () => isSettled(postern.batches()) && postern.batches().every((b) => b.delivered === b.accepted));
  assert.equal(aws.accepted.length - before, count);
  assert.deepEqual(sources.wrong, []);
  assert.deepEqual(sources.refused, { expired: 0, unknown: 0 });
}

function keepsSecrets(postern, sources, more = []) {
  const told = postern.log() + postern.cli('status') + postern.cli('status', '--json');
  for (const secret of [...sources.secrets(), ...more]) assert.ok(!told.includes(secret), `told: ${secret.slice(0, 8)}…`);
}

describe('credentials', () => {
  it('of EC2 instance metadata, the region as well, got once for all processes', async () => {
    const w = await world();
    const postern = await start(w, { AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: w.sources.url }, '');
    await works(postern, w);
    assert.deepEqual(w.sources.calls, { ...w.sources.calls, token: 1, region: 1, role: 1, document: 1 });
    const { credentials, processes } = postern.status();
    assert.equal(credentials.present, true);
    assert.equal(credentials.source, 'EC2 instance metadata, role mail');
    assert.equal(credentials.region, 'us-east-1');
    assert.ok(credentials.expires_ms > Date.now());
    assert.ok(processes.some((p) => p.name === 'keeper 0' && p.state === 'ready'));
    assert.match(postern.cli('status'), /credentials from EC2 instance metadata, role mail, region us-east-1, until /);
    keepsSecrets(postern, w.sources);
    await postern.stop();
  });

  it('of EC2 instance metadata whose session token has gone before its time', async () => {
    const w = await world({ lifeMs: 4000 });
    const postern = await start(w, { AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: `${w.sources.url}/` });
    await works(postern, w);
    w.sources.tokens.clear();
    const { document } = w.sources.calls;
    await waitFor('a renewal', () => w.sources.calls.document > document);
    await works(postern, w);
    assert.equal(w.sources.calls.token, 2);
    await postern.stop();
  });

  it('of a container, with a token from a file that changes', async () => {
    const w = await world({ lifeMs: 4000, containerToken: 'first token' });
    const token = w.file('token', 'first token');
    const postern = await start(w, {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${w.sources.url}/container?id=1`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: token,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: 'not this one',
    });
    await works(postern, w);
    w.sources.containerToken = 'second token';
    w.file('token', 'second token');
    const { container } = w.sources.calls;
    await waitFor('two renewals', () => w.sources.calls.container >= container + 2);
    await works(postern, w);
    keepsSecrets(postern, w.sources, ['first token', 'second token']);
    await postern.stop();
  });

  it('of a web identity, in the environment', async () => {
    const w = await world({ webToken: 'eyJhbGciOiJSUzI1NiJ9.e30.c2ln+/=' });
    w.sources.stsFails = 2; // asked again
    const postern = await start(w, {
      AWS_ROLE_ARN: 'arn:aws:iam::111122223333:role/pod',
      AWS_ROLE_SESSION_NAME: 'postern-7',
      AWS_WEB_IDENTITY_TOKEN_FILE: w.file('jwt', 'eyJhbGciOiJSUzI1NiJ9.e30.c2ln+/=\n'),
    });
    await works(postern, w);
    assert.equal(w.sources.calls.AssumeRoleWithWebIdentity, 3);
    assert.deepEqual(w.sources.sts.map((f) => [f.RoleArn, f.RoleSessionName]), [['arn:aws:iam::111122223333:role/pod', 'postern-7']]);
    keepsSecrets(postern, w.sources, [w.sources.webToken]);
    await postern.stop();
  });

  it('of a role assumed by a role that a program’s credentials assume', async () => {
    const w = await world({ externalId: undefined });
    const mine = w.sources.issue('user', { lifeMs: Infinity, id: 'AKIDUSER' });
    w.file('creds.json', JSON.stringify({ Version: 1, AccessKeyId: mine.id, SecretAccessKey: mine.secret }));
    const program = w.file('give credentials', `#!/bin/sh\nenv > '${w.home}/seen'\necho noise ${mine.secret} >&2\ncat "$1"\n`, 0o700);
    w.file(
      '.aws/config',
      `[profile mail]
role_arn = arn:aws:iam::111122223333:role/mail
source_profile = between
role_session_name = the-mail
duration_seconds = 1800
region = us-east-1
[profile between]
role_arn = arn:aws:iam::111122223333:role/between
source_profile = program
[profile program]
credential_process = '${program}' "${w.home}/creds.json"
`,
    );
    const postern = await start(w, { AWS_PROFILE: 'mail', POSTERN_TEST_OTHER: 'not for programs' }, '');
    await works(postern, w);
    assert.deepEqual(w.sources.sts.map((f) => [f.RoleArn.split('/')[1], f.RoleSessionName, f.DurationSeconds]), [['between', 'postern', undefined], ['mail', 'the-mail', '1800']]);
    assert.equal(w.sources.sts[0].by, 'AKIDUSER');
    assert.equal(w.sources.issued.get(w.sources.sts[1].by).role, 'between');
    assert.doesNotMatch(fs.readFileSync(path.join(w.home, 'seen'), 'utf8'), /not for programs/);
    keepsSecrets(postern, w.sources);
    await postern.stop();
  });

  it('of a role with an external id, assumed by the instance’s', async () => {
    const w = await world({ externalId: 'ext/1 2' });
    w.file('.aws/config', '[default]\nrole_arn = arn:aws:iam::111122223333:role/mail\ncredential_source = Ec2InstanceMetadata\nexternal_id = ext/1 2\n');
    const postern = await start(w, { AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: w.sources.url });
    await works(postern, w);
    assert.equal(w.sources.issued.get(w.sources.sts[0].by).role, 'mail');
    assert.equal(postern.status().credentials.source, 'the AWS profile "default"');
    await postern.stop();
  });

  it('of a profile whose file changes, without a refused call', async () => {
    const w = await world();
    const write = () => {
      const one = w.sources.issue('user', { lifeMs: Infinity });
      const temporary = w.file('.aws/new', `[default]\naws_access_key_id = ${one.id}\naws_secret_access_key = ${one.secret}\n`);
      fs.renameSync(temporary, path.join(w.home, '.aws/credentials'));
      return one;
    };
    const first = write();
    const postern = await start(w, {});
    await works(postern, w);
    write();
    await waitFor('the news', () => /shared files have changed/.test(postern.log()));
    await waitFor('the new key', () => (postern.log().match(/AWS credentials from the AWS profile/g) ?? []).length === 2);
    // A poll that was signed before may still be on its way to us: what is judged after the next poll is signed anew.
    const judged = w.sources.calls.judged;
    await waitFor('new calls', () => w.sources.calls.judged > judged + 10);
    first.revoked = true;
    await works(postern, w);
    keepsSecrets(postern, w.sources);
    await postern.stop();
  });

  it('that are not there yet: it serves, says why, and goes on when they come', async () => {
    const w = await world({ metadataOff: true });
    const postern = await start(w, { AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: w.sources.url });
    assert.equal((await postern.post(newsletterForm(readers(20)))).status, 200);
    await waitFor('the words', () => /no AWS credentials: nothing is sent or received until there are: .*switched off/.test(postern.log()));
    assert.equal(await postern.healthy(), true);
    const { credentials } = postern.status();
    assert.equal(credentials.present, false);
    assert.match(credentials.trouble, /gives no token \(status 403\): it is switched off/);
    assert.match(postern.cli('status'), /credentials none: nothing is sent or received: .*switched off/);
    assert.equal(w.sources.calls.judged, 0);
    w.sources.metadataOff = false;
    await waitFor('the mails', () => w.aws.accepted.length === 20);
    await waitFor('the books', () => isSettled(postern.batches()));
    assert.deepEqual(w.sources.wrong, []);
    assert.match(postern.log(), /the AWS credentials are there again/);
    assert.equal((postern.log().match(/no AWS credentials: nothing is sent/g) ?? []).length, 1, 'said once');
    await postern.stop();
  });

  it('are not needed to check a configuration, and neither is a network', async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-check-'));
    const conf = path.join(dir, 'proxy.conf');
    fs.writeFileSync(conf, `state_dir = "${dir}/state"\nqueues { newsletter_events = "https://sqs.us-east-1.amazonaws.com/1/q" }\ndomain "mg.example.com" { api_keys = {"key-1"} }\n`);
    const sources = await FakeSources.start();
    ends.push(() => sources.stop());
    const env = { PATH: process.env.PATH, HOME: dir, AWS_EC2_METADATA_SERVICE_ENDPOINT: sources.url };
    const { status, stdout } = spawnSync(binary, ['-t', '-c', conf], { encoding: 'utf8', env });
    assert.equal(status, 0);
    assert.match(stdout, /ok/);
    assert.equal(sources.calls.token, 0);
  });
});
