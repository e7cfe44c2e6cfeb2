// Credentials that expire every few seconds, change, are revoked or cannot be had, while mail is sent: no call fails,
// everybody gets it once, and no process but those that sign ever holds a secret.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { after, describe, it } from 'node:test';
import { FakeSources } from '../e2e/fake_sources.mjs';
import { Postern, binary, isSettled, jsonLines, memoryHolds, newsletterForm, readers, sleep, stopAll, waitFor } from '../e2e/harness.mjs';
import { FakeAws } from './fake_aws.mjs';

const ends = [];
after(async () => {
  await stopAll();
  for (const end of ends) await end();
});

async function world(options = {}, { rate = '200', ...settings } = {}) {
  const aws = await FakeAws.start({ trouble: { longPollMs: 500, latencyMs: 20 } });
  const sources = await FakeSources.start(options);
  sources.guard(aws);
  ends.push(() => aws.stop(), () => sources.stop());
  const postern = await Postern.start({
    env: { AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: sources.url, AWS_CONFIG_FILE: '/nonexistent/config', AWS_SHARED_CREDENTIALS_FILE: '/nonexistent/credentials' },
    sections: { sender: `strategy = "simple"\nmax_rate = "${rate}"\ndoubt_window = "8s"\nhold = "1s"`, log: 'level = "debug"' },
    aws: `aws { region = "us-east-1" ses_endpoint = "${aws.url}" sqs_endpoint = "${aws.url}" } queues { newsletter_events = "${aws.queueUrl}" }`,
    ...settings,
  });
  return { aws, sources, postern };
}

/** postern batches, without keeping this process, and so AWS, from its work. */
const booksOf = (postern) =>
  new Promise((resolve) => execFile(binary, ['batches', '-c', postern.confFile, '--json'], { env: { ...process.env, ...postern.env } }, (e, stdout) => resolve(stdout ? jsonLines(stdout) : [])));

async function post(postern, to) {
  const form = newsletterForm(to);
  assert.equal((await postern.post(form)).status, 200);
  return to.map((address) => `${form.emailId} ${address}`);
}

async function settledWell({ aws, sources, postern }, expected) {
  const books = await waitFor('the books', async () => { const b = await booksOf(postern); return b.length > 0 && isSettled(b) && b; }, 90000, 200);
  assert.deepEqual([...aws.counts.keys()].sort(), [...expected].sort(), postern.dir);
  assert.deepEqual([...aws.counts.values()].filter((n) => n !== 1), [], 'sent twice');
  assert.equal(books.reduce((sum, b) => sum + b.sent, 0), expected.length);
  assert.equal(books.reduce((sum, b) => sum + Math.abs(b.unaccounted) + b.failed, 0), 0);
  assert.deepEqual(sources.wrong, []);
  assert.equal(aws.brokenBy, undefined);
}

/** Nothing of what was ever handed out is told to anybody, or known to a process that does not sign. */
function keepsSecrets({ sources, postern }, more = []) {
  const told = { log: postern.log(), status: postern.cli('status') + postern.cli('status', '--json') };
  const outside = [...postern.pids('httpd'), ...postern.pids('writer')];
  for (const pid of [...outside, ...postern.pids('sender')]) told[`/proc/${pid}/cmdline`] = fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  for (const pid of outside) told[`/proc/${pid}/environ`] = fs.readFileSync(`/proc/${pid}/environ`, 'latin1');
  const secrets = [...sources.secrets(), ...more];
  for (const secret of secrets) for (const [where, text] of Object.entries(told)) assert.ok(!text.includes(secret), `${where} tells ${secret.slice(0, 10)}…`);
  for (const pid of outside) for (const secret of secrets.slice(-4)) assert.equal(memoryHolds(pid, secret.slice(0, 40)), false, `the memory of ${pid}`);
}

describe('credentials', () => {
  it('that expire every few seconds: no call fails, whoever dies and whatever the source does', async () => {
    const w = await world({ lifeMs: 6000 });
    const { aws, sources, postern } = w;
    const expected = [];
    for (const name of ['a', 'b', 'c']) expected.push(...(await post(postern, readers(1000, name))));
    await waitFor('mail', () => aws.accepted.length > 200);
    sources.role = 'another';
    await waitFor('mail by the other role', () => sources.current.role === 'another' && aws.accepted.length > 500);
    const restarted = [];
    for (let i = 0; i < 3; i++) {
      const [keeper] = postern.pids('keeper');
      restarted.push(keeper);
      process.kill(keeper, 'SIGKILL');
      await sleep(1000);
    }
    sources.metadataDown = true; // for less than what is left of the credentials' life
    await sleep(1500);
    sources.metadataDown = false;
    await settledWell(w, expected);
    assert.ok(sources.issued.size >= 5, `${sources.issued.size} sets of credentials`);
    assert.deepEqual(sources.refused, { expired: 0, unknown: 0 });
    assert.ok(!restarted.includes(postern.pids('keeper')[0]));
    keepsSecrets(w);
    const [sender] = postern.pids('sender');
    const { secret } = sources.current;
    assert.ok(memoryHolds(sender, secret), 'the search finds what is there');
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });

  it('whose source is away for longer than they live: mail waits, and goes out when it is back', async () => {
    const w = await world({ lifeMs: 4000 }, { rate: '100' });
    const { aws, sources, postern } = w;
    const expected = await post(postern, readers(1000));
    await waitFor('mail', () => aws.accepted.length > 50);
    sources.metadataDown = true;
    await waitFor('the end of them', () => /the AWS credentials have expired/.test(postern.log()), 20000);
    const refused = sources.refused.expired;
    const sent = aws.accepted.length;
    assert.match(postern.log(), /cannot be renewed: EC2 instance metadata does not answer .*; the ones at hand are used until \d{4}-/);
    assert.match(postern.cli('status'), /credentials none: nothing is sent or received: EC2 instance metadata does not answer/);
    assert.equal(await postern.healthy(), true); // it takes mail
    expected.push(...(await post(postern, readers(50, 'late'))));
    await sleep(1500);
    // Nothing was begun, so nothing is in doubt when its sender dies.
    const senders = postern.pids('sender');
    for (const pid of senders) process.kill(pid, 'SIGKILL');
    await waitFor('other senders', () => postern.pids('sender').filter((pid) => !senders.includes(pid)).length === 2);
    await sleep(1000); // the writer settles what they held
    assert.deepEqual((await booksOf(postern)).map((b) => b.doubt), [0, 0]);
    assert.ok(aws.accepted.length - sent < 30, 'only what was under way');
    assert.equal(sources.refused.expired, refused, 'nothing is tried with credentials that have expired');
    sources.metadataDown = false;
    await settledWell(w, expected);
    assert.equal((postern.log().match(/credentials have expired/g) ?? []).length, 1);
    assert.match(postern.log(), /the AWS credentials are there again/);
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });

  it('that are revoked: their source is asked at once, and the refused calls are repeated', async () => {
    const w = await world({ lifeMs: 3600000 });
    const { aws, sources, postern } = w;
    const expected = await post(postern, readers(1000));
    await waitFor('mail', () => aws.accepted.length > 100);
    for (let i = 1; i <= 3; i++) {
      const { document } = sources.calls;
      const sent = aws.accepted.length;
      sources.revokeAll();
      await waitFor('others', () => sources.calls.document > document);
      await waitFor('mail with them', () => aws.accepted.length > sent + 100);
      assert.ok(sources.calls.document <= document + 2, 'asked once for all who were refused');
      await sleep(1100); // asked again sooner, the keeper would keep its distance
    }
    await settledWell(w, expected);
    assert.ok(sources.refused.unknown > 0);
    assert.doesNotMatch(postern.log(), /refuses our credentials|held/);
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });

  it('that AWS refuses while their source has nothing else: the source is not asked without end', async () => {
    const w = await world({ lifeMs: 3600000 });
    const { sources, postern } = w;
    await waitFor('polls', () => sources.calls.judged > 3);
    for (const one of sources.issued.values()) one.revoked = true; // and handed out all the same
    const { document } = sources.calls;
    const { unknown } = sources.refused;
    await post(postern, readers(200));
    await waitFor('refusals', () => sources.refused.unknown > unknown + 20, 60000);
    assert.ok(sources.calls.document - document < 12, `asked ${sources.calls.document - document} times`);
    sources.current = undefined;
    await waitFor('the books', async () => isSettled(await booksOf(postern)), 90000, 200);
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });

  it('of the configuration stay out of the processes that face the internet', async () => {
    const secret = 'static-sEcReT-of-the-file-0123456789abcdef';
    const token = `static-tOkEn-${'x'.repeat(400)}-end`;
    const w = await world();
    await w.postern.stop();
    w.sources.issued.set('AKIDSTATIC', { id: 'AKIDSTATIC', secret, token, expiresMs: Infinity, revoked: false });
    const { aws } = w;
    w.postern = await Postern.start({
      env: { POSTERN_TEST_SECRET: secret, AWS_EC2_METADATA_DISABLED: 'true' },
      sections: { log: 'level = "debug"' },
      aws: `aws { region = "us-east-1" access_key_id = "AKIDSTATIC" secret_access_key = "\${POSTERN_TEST_SECRET}" session_token = "${token}"
              ses_endpoint = "${aws.url}" sqs_endpoint = "${aws.url}" } queues { newsletter_events = "${aws.queueUrl}" }`,
    });
    const expected = await post(w.postern, readers(50));
    await settledWell(w, expected);
    keepsSecrets(w, [secret, token]);
    w.postern.child.kill('SIGHUP'); // those of a reload neither
    await waitFor('the reload', () => /the new configuration serves/.test(w.postern.log()));
    keepsSecrets(w, [secret, token]);
    assert.deepEqual(await w.postern.stop(), { code: 0, signal: null });
  });
});
