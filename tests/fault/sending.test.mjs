// Whatever SES, the network or the machine does while mail is sent: everybody gets it once, the books balance.
//
// Against an AWS that is not ours (fake_aws.mjs) and counts what each address was accepted for. Every scenario ends
// in settledWell(): nobody missing, nobody twice, nothing pending, leased or in doubt, nothing unaccounted for.
//
// SEED repeats a run's random choices.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, binary, domain, isSettled, jsonLines, key, newsletterForm, readers, sleep, stopAll, waitFor } from '../e2e/harness.mjs';
import { FakeAws } from './fake_aws.mjs';

const seed = Number(process.env.SEED ?? Date.now() % 1e9);
const fakes = new Set();
console.log(`seed ${seed}`);

after(async () => {
  await stopAll();
  await Promise.all([...fakes].map((aws) => aws.stop()));
});

async function startAws(trouble = {}) {
  const aws = await FakeAws.start({ seed, trouble: { longPollMs: 1000, ...trouble } });
  fakes.add(aws);
  return aws;
}

const awsSection = (aws, keys = 'access_key_id = "AKIDFAKE" secret_access_key = "secret"') =>
  `aws { region = "us-east-1" ${keys} ses_endpoint = "${aws.url}" sqs_endpoint = "${aws.url}" }
   queues { newsletter_events = "${aws.queueUrl}" }`;

/** A Postern on this AWS. sender: settings of its section. */
function startPostern(aws, { sender = {}, poller = '', keys, ...options } = {}) {
  const settings = { doubt_window: '8s', hold: '1s', ...sender };
  const text = Object.entries(settings).map(([name, value]) => `${name} = "${value}"`).join('\n');
  return Postern.start({ aws: awsSection(aws, keys), sections: { sender: text, poller }, ...options });
}

/** postern batches, without keeping this process, and so AWS, from its work. */
function booksOf(postern) {
  return new Promise((resolve, reject) =>
    execFile(binary, ['batches', '-c', postern.confFile, '--json', '--limit', '100000'], { maxBuffer: 1 << 28 }, (e, stdout) =>
      e && !stdout ? reject(e) : resolve(jsonLines(stdout)),
    ),
  );
}

const waitForBooks = (postern, what, check, ms = 90000) =>
  waitFor(what, async () => { const books = await booksOf(postern).catch(() => []); return books.length > 0 && check(books) && books; }, ms, 200);
const sum = (books, name) => books.reduce((total, b) => total + b[name], 0);
const keysOf = (form, addresses) => addresses.map((a) => `${form.emailId} ${a}`);

async function postWell(postern, form, options) {
  const res = await postern.post(form, options);
  assert.equal(res.status, 200);
  return (await res.json()).id;
}

/** expected: the "email-id address" that SES is to have accepted. Answers the books. */
async function settledWell(postern, aws, expected, { ms = 90000, failed = 0, suppressed = 0 } = {}) {
  const books = await waitForBooks(postern, 'the books', isSettled, ms).catch(async (e) => {
    throw new Error(`${e.message}: ${JSON.stringify(await booksOf(postern))} seed ${seed}, ${postern.dir}`);
  });
  const wanted = new Set(expected);
  const found = {
    missing: [...wanted].filter((name) => !aws.counts.has(name)).length,
    duplicates: [...aws.counts.values()].filter((n) => n > 1).length,
    unexpected: [...aws.counts.keys()].filter((name) => !wanted.has(name)).length,
    unaccounted: books.reduce((total, b) => total + Math.abs(b.unaccounted), 0),
    off: sum(books, 'accepted') - sum(books, 'sent') - sum(books, 'failed') - sum(books, 'suppressed') - sum(books, 'cancelled'),
    failed: sum(books, 'failed'),
    suppressed: sum(books, 'suppressed'),
  };
  assert.deepEqual(found, { missing: 0, duplicates: 0, unexpected: 0, unaccounted: 0, off: 0, failed, suppressed }, `seed ${seed}, ${postern.dir}`);
  assert.equal(aws.brokenBy, undefined);
  assert.deepEqual(jsonLines(postern.cli('check', '--json')).filter((line) => line.problem), [], `seed ${seed}, ${postern.dir}`);
  return books;
}

async function end(postern, aws) {
  assert.deepEqual(await postern.stop(), { code: 0, signal: null }, postern.dir);
  fakes.delete(aws);
  await aws.stop();
}

/** Events through the API, once there are as many. */
const eventsOf = (postern, query, count, options) =>
  waitFor(
    `${count} × ${query}`,
    async () => {
      const list = await postern.walk(`limit=300&ascending=yes&begin=${Math.floor(Date.now() / 1000) - 3600}&${query}`, options);
      return list.length >= count && list;
    },
    30000,
    300,
  );

function pidsOf(postern) {
  return [postern.child.pid, ...postern.children()];
}

/** fileBytes: of an attachment; 0 = none. */
function transactionalForm(to, subject, from = `News <noreply@${domain}>`, fileBytes = 0) {
  const boundary = '----transactional';
  const fields = { from, to, subject, text: 'Your sign-in link', html: '<p>Your sign-in link</p>' };
  const parts = Object.entries(fields).map(([n, v]) => `--${boundary}\r\nContent-Disposition: form-data; name="${n}"\r\n\r\n${v}\r\n`);
  const file = fileBytes === 0 ? '' : `--${boundary}\r\nContent-Disposition: form-data; name="attachment"; filename="a.txt"\r\n\r\n${'x'.repeat(fileBytes)}\r\n`;
  return { boundary, body: Buffer.from(`${parts.join('')}${file}--${boundary}--\r\n`) };
}

/** Bulk calls, and a call for each reader. */
const bothWays = (name, test) => {
  for (const strategy of ['auto', 'simple']) it(`${name} (${strategy})`, () => test(strategy));
};

describe('sending', { concurrency: 5 }, () => {
  // ---- what SES answers ----

  bothWays('throttled at a hard rate of 100 a second: nobody is lost or failed', async (strategy) => {
    const aws = await startAws({ rate: 100, toldRate: 100 });
    const postern = await startPostern(aws, { sender: { strategy } });
    const to = readers(600);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await settledWell(postern, aws, keysOf(form, to));
    const share = aws.throttled / aws.asked;
    console.log(`${strategy}: ${aws.throttled} of ${aws.asked} recipients throttled (${(share * 100).toFixed(1)} %)`);
    assert.ok(share < 0.1);
    await end(postern, aws);
  });

  for (const rate of [1, 14])
    bothWays(`an account of ${rate} a second`, async (strategy) => {
      const aws = await startAws({ rate, toldRate: rate });
      const postern = await startPostern(aws, { sender: { strategy } });
      const to = readers(rate * 5);
      const form = newsletterForm(to);
      await postWell(postern, form);
      await settledWell(postern, aws, keysOf(form, to));
      console.log(`${strategy}, ${rate} a second: ${aws.throttled} of ${aws.asked} recipients throttled`);
      // Late timers cost a call each: of five calls in all that is a large share.
      assert.ok(rate === 1 ? aws.throttled < aws.asked / 2 : aws.throttled <= aws.asked / 10 + 1);
      await end(postern, aws);
    });

  for (const wholeCalls of [false, true])
    bothWays(`throttled below the rate that SES told, ${wholeCalls ? 'calls' : 'entries'} refused`, async (strategy) => {
      const aws = await startAws({ rate: 60, toldRate: 1000, wholeCalls }); // slower than a slow machine sends
      const postern = await startPostern(aws, { sender: { strategy } });
      const to = readers(600);
      const form = newsletterForm(to);
      await postWell(postern, form);
      await settledWell(postern, aws, keysOf(form, to));
      console.log(`${strategy}, told too much: ${aws.throttled} of ${aws.asked} recipients throttled`);
      assert.ok(aws.throttled > 0);
      await end(postern, aws);
    });

  bothWays('bursts of 500 and 503', async (strategy) => {
    const aws = await startAws({ fail: 0.3 });
    const postern = await startPostern(aws, { sender: { strategy, max_rate: '600' } });
    const to = readers(600);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await waitFor('some mail', () => aws.accepted.length > 100);
    const refused = aws.calls.refused;
    aws.set({ failStatus: 500, fail: 1 });
    await waitFor('calls refused', () => aws.calls.refused > refused);
    aws.set({ fail: 0 });
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  it('entries of a bulk call are judged one by one', async () => {
    const seen = new Map();
    const once = ['ACCOUNT_THROTTLED', 'TRANSIENT_FAILURE', 'ACCOUNT_DAILY_QUOTA_EXCEEDED', 'ACCOUNT_SENDING_PAUSED', 'ACCOUNT_SUSPENDED',
      'CONFIGURATION_SET_SENDING_PAUSED', 'CONFIGURATION_SET_NOT_FOUND', 'CONFIGURATION_SET_DOES_NOT_EXIST', 'INVALID_SENDING_POOL_NAME', 'MAIL_FROM_DOMAIN_NOT_VERIFIED'];
    const forGood = ['MESSAGE_REJECTED', 'FAILED', 'INVALID_PARAMETER', 'INVALID_PARAMETER_VALUE', 'TEMPLATE_NOT_FOUND', 'TEMPLATE_DOES_NOT_EXIST', 'SOMETHING_NEW'];
    const to = readers(200);
    const statuses = new Map(to.map((a, i) => [a, [...once, ...forGood, 'SUCCESS', 'SUCCESS', 'SUCCESS'][i % 20]]));
    const aws = await startAws({
      entry: (address) => {
        const status = statuses.get(address);
        const before = seen.get(address) ?? 0;
        seen.set(address, before + 1);
        return before > 0 && once.includes(status) ? undefined : status;
      },
    });
    const postern = await startPostern(aws);
    const form = newsletterForm(to);
    await postWell(postern, form);
    const good = to.filter((a) => !forGood.includes(statuses.get(a)));
    await settledWell(postern, aws, keysOf(form, good), { failed: to.length - good.length });
    const failed = await eventsOf(postern, 'event=failed', to.length - good.length);
    assert.equal(failed.length, to.length - good.length);
    for (const e of failed) {
      assert.ok(forGood.includes(statuses.get(e.recipient)), e.recipient);
      assert.equal(e.severity, 'permanent');
      assert.match(JSON.stringify(e['delivery-status']), new RegExp(`${statuses.get(e.recipient)} for ${e.recipient}`));
      assert.equal(seen.get(e.recipient), 1, 'refused for good: not asked again');
    }
    await end(postern, aws);
  });

  bothWays('a batch that SES refuses fails with its words, and costs no other', async (strategy) => {
    const aws = await startAws({ refuse: (subject) => subject === 'Bad' && 'Template contains unsupported operations.' });
    const postern = await startPostern(aws, { sender: { strategy } });
    const [bad, good] = [newsletterForm(readers(120, 'bad'), { subject: 'Bad' }), newsletterForm(readers(120, 'good'))];
    await Promise.all([postWell(postern, bad), postWell(postern, good)]);
    const books = await settledWell(postern, aws, keysOf(good, readers(120, 'good')), { failed: 120 });
    assert.equal(books.find((b) => b['email-id'] === bad.emailId).failed, 120);
    const failed = await eventsOf(postern, 'event=failed', 120);
    assert.equal(failed.length, 120);
    for (const e of failed) {
      assert.match(JSON.stringify(e['delivery-status']), /Template contains unsupported operations\./);
      assert.equal(e['user-variables']['email-id'], bad.emailId);
    }
    // What failed before reaching SES may be tried again.
    aws.set({ refuse: undefined });
    await postWell(postern, bad);
    await settledWell(postern, aws, [...keysOf(good, readers(120, 'good')), ...keysOf(bad, readers(120, 'bad'))], { failed: 120 });
    await end(postern, aws);
  });

  // ---- holds ----

  bothWays('the daily quota is spent: the rest waits, and goes on when it frees', async (strategy) => {
    const aws = await startAws({ quota: 170 });
    const postern = await startPostern(aws, { sender: { strategy, max_rate: '1000' } });
    const to = readers(400);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await waitForBooks(postern, 'the rest to be parked', ([b]) => b.sent === 170 && b.pending === 230);
    const refused = aws.calls.refused;
    await sleep(3000); // three times hold
    const [parked] = await booksOf(postern);
    assert.equal(parked.failed, 0);
    assert.equal(parked.sent, 170);
    assert.ok(aws.calls.refused - refused <= 2 * 2 * 3, `${aws.calls.refused - refused} probes`);
    aws.set({ quota: 100 });
    await waitForBooks(postern, 'a little more', ([b]) => b.sent === 270);
    aws.set({ quota: Infinity });
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  for (const code of ['SendingPausedException', 'AccountSuspendedException'])
    it(`${code}: all waits, and goes on when it ends`, async () => {
      const aws = await startAws();
      const postern = await startPostern(aws, { sender: { max_rate: '300' } });
      const to = readers(300);
      const form = newsletterForm(to);
      await postWell(postern, form);
      await waitFor('some mail', () => aws.accepted.length > 50);
      aws.set({ account: code });
      await waitForBooks(postern, 'all to be parked', ([b]) => b.pending > 0 && b.leased === 0);
      const before = aws.accepted.length;
      await sleep(2500);
      assert.equal(aws.accepted.length, before);
      aws.set({ account: undefined });
      await settledWell(postern, aws, keysOf(form, to));
      await end(postern, aws);
    });

  bothWays('an identity that is not verified keeps only its own domain waiting', async (strategy) => {
    const other = 'other.example.org';
    const aws = await startAws({ unverified: new Set([other]) });
    const postern = await startPostern(aws, { sender: { strategy }, domains: { [domain]: [key], [other]: [key] } });
    const [mine, theirs] = [newsletterForm(readers(150, 'mine')), newsletterForm(readers(150, 'theirs'), { domain: other })];
    await postWell(postern, theirs, { domain: other, headers: { 'Content-Type': `multipart/form-data; boundary=${theirs.boundary}` } });
    await waitFor('a refusal', () => aws.calls.refused > 0);
    await postWell(postern, mine);
    await waitForBooks(postern, 'the good domain', (books) => books.find((b) => b.domain === domain)?.sent === 150);
    const held = (await booksOf(postern)).find((b) => b.domain === other);
    assert.equal(held.failed + held.sent, 0);
    aws.set({ unverified: new Set() });
    await settledWell(postern, aws, [...keysOf(mine, readers(150, 'mine')), ...keysOf(theirs, readers(150, 'theirs'))]);
    await end(postern, aws);
  });

  // 1,000 recipients of a From that is not verified, and then 100 of one that is, of the same domain and lane.
  const [badFrom, goodFrom] = [`bad@${domain}`, `good@${domain}`];
  const lanes = {
    async newsletter(postern) {
      const [bad, good] = [newsletterForm(readers(1000, 'bad'), { from: `Bad <${badFrom}>` }), newsletterForm(readers(100, 'good'), { from: `Good <${goodFrom}>` })];
      return { bad: keysOf(bad, readers(1000, 'bad')), good: keysOf(good, readers(100, 'good')), postBad: () => postWell(postern, bad), postGood: () => postWell(postern, good) };
    },
    async transactional(postern) {
      const posts = async (list, from) => {
        const left = list.map((to) => transactionalForm(to, 'Sign in', from));
        await Promise.all(Array.from({ length: 10 }, async () => { while (left.length > 0) await postWell(postern, left.pop()); }));
      };
      const [bad, good] = [readers(1000, 'bad'), readers(100, 'good')];
      return { bad: bad.map((a) => ` ${a}`), good: good.map((a) => ` ${a}`), postBad: () => posts(bad, `Bad <${badFrom}>`), postGood: () => posts(good, `Good <${goodFrom}>`) };
    },
  };
  const status = (postern) => JSON.parse(postern.cli('status', '--json'));
  const waitForKeys = (aws, what, keys) => waitFor(what, () => keys.every((name) => aws.counts.has(name)), 30000);

  for (const [lane, forms] of Object.entries(lanes)) {
    bothWays(`a From that is not verified keeps no other waiting: ${lane}`, async (strategy) => {
      const aws = await startAws({ unverified: new Set([badFrom]) });
      const postern = await startPostern(aws, { sender: { strategy, hold: '2s', max_rate: '500' } });
      const { bad, good, postBad, postGood } = await forms(postern);
      await postBad();
      await waitFor('its refusal, twice', () => aws.refusedSenders.length > 0 && Date.now() - aws.refusedSenders[0].atMs > 6500);
      await postGood();
      await waitForKeys(aws, 'the good ones', good);
      assert.equal(bad.filter((name) => aws.counts.has(name)).length, 0);
      const hold = status(postern).holds.find((h) => h.lane === lane);
      assert.deepEqual([hold.domain, hold.reason, hold.from], [domain, 'sender', badFrom]);
      assert.match(hold.words, /not verified/);
      const held = (await booksOf(postern)).filter((b) => b.pending > 0 && b.why !== ''); // the status shows 200
      assert.ok(held.length > 0);
      for (const b of held) {
        assert.deepEqual([b.why, b['held-from']], ['sender', badFrom]);
        assert.match(b.words, /not verified/);
      }
      assert.match(postern.cli('domains'), new RegExp(`held: sender, ${lane} from ${badFrom}: .*not verified`));
      // While it is held, one call asks; a burst of calls under way met it first.
      const probes = aws.refusedSenders.filter(({ atMs }) => atMs > aws.refusedSenders[0].atMs + 4000); // as long as a slow machine takes for what was under way
      const times = probes.map(({ atMs }) => atMs);
      for (let i = 1; i < times.length; i++) assert.ok(times[i] - times[i - 1] >= 1900, `probes at ${times}`);
      aws.set({ unverified: new Set() });
      await settledWell(postern, aws, [...bad, ...good]);
      await end(postern, aws);
    });

    it(`a sender that is mended and resumed goes at once: ${lane}`, async () => {
      const aws = await startAws({ unverified: new Set([badFrom]) });
      const postern = await startPostern(aws, { sender: { hold: '600s', max_rate: '2000' } });
      const { bad, postBad } = await forms(postern);
      await postBad();
      await waitForBooks(postern, 'all to be held', (books) => sum(books, 'pending') === 1000 && status(postern).holds.length === 1);
      aws.set({ unverified: new Set() });
      postern.cli('domains', 'resume', domain);
      const from = Date.now();
      await settledWell(postern, aws, bad, { ms: 60000 });
      console.log(`${lane}: the first mail came ${aws.accepted[0].atMs - from} ms after the resume`);
      assert.deepEqual(status(postern).holds, []);
      await end(postern, aws);
    });
  }

  bothWays("in SES's sandbox only who is not verified waits, and goes when a person resumes", async (strategy) => {
    const to = readers(100);
    const known = to.filter((_, i) => i % 7 !== 3);
    const [friend, stranger] = ['friend@readers.example.net', 'stranger@readers.example.net'];
    const aws = await startAws({ verifiedReaders: new Set([...known, friend]) });
    const postern = await startPostern(aws, { sender: { strategy, hold: '600s' } });
    const form = newsletterForm(to);
    await postWell(postern, form);
    await postWell(postern, transactionalForm(`${friend}, ${stranger}`, 'To both'));
    await postWell(postern, transactionalForm(friend, 'To one'));
    await waitForBooks(postern, 'the known', (books) => sum(books, 'sent') === known.length + 1 && sum(books, 'leased') === 0 && sum(books, 'pending') === to.length - known.length + 2);
    assert.deepEqual(status(postern).holds, []);
    aws.set({ verifiedReaders: undefined });
    postern.cli('domains', 'resume', domain);
    const books = await waitForBooks(postern, 'the others', isSettled);
    assert.equal(sum(books, 'sent'), to.length + 3);
    assert.equal(aws.counts.get(` ${friend}`), 2);
    assert.equal(aws.counts.get(` ${stranger}`), 1);
    for (const name of keysOf(form, to)) assert.equal(aws.counts.get(name), 1);
    await end(postern, aws);
  });

  // ---- uploads that break off ----

  const FILE_BYTES = 15 << 20; // more than the kernel takes before anybody reads
  const cutting = { cutBytes: 1 << 20 };

  it('a mail whose upload is always cut is given up while SES takes others', async () => {
    const aws = await startAws(cutting);
    const postern = await startPostern(aws, { sender: { children: '1', upload_window: '2s' } });
    await postWell(postern, transactionalForm('large@readers.example.net', 'large', undefined, FILE_BYTES));
    const expected = [];
    const books = await waitFor('its end', async () => {
      const address = `small${expected.length}@readers.example.net`;
      await postWell(postern, transactionalForm(address, 'small'));
      expected.push(` ${address}`);
      const list = await booksOf(postern);
      return list.some((b) => b.failed === 1) && list;
    }, 60000, 100);
    assert.equal(sum(books, 'failed'), 1);
    assert.ok(aws.calls.cut >= 8, `${aws.calls.cut} tries`);
    const [event] = await eventsOf(postern, 'event=failed', 1);
    assert.equal(event.recipient, 'large@readers.example.net');
    assert.equal(event.severity, 'permanent');
    assert.match(event['delivery-status'].message, /^The upload of \d{8} bytes broke off \d+ times in \d+ s, while SES answered other calls: ./);
    await settledWell(postern, aws, expected, { failed: 1 });
    await end(postern, aws);
  });

  it('uploads cut in an outage, when SES answers nobody, are tried until it is over', async () => {
    const aws = await startAws(cutting);
    const postern = await startPostern(aws, { sender: { children: '1', upload_window: '1s' } });
    await postWell(postern, transactionalForm('large@readers.example.net', 'large', undefined, FILE_BYTES));
    const begun = Date.now();
    await waitFor('many tries', () => aws.calls.cut >= 24 && Date.now() - begun > 3000, 90000);
    assert.deepEqual((await booksOf(postern)).map((b) => [b.failed, b.sent]), [[0, 0]]);
    aws.set({ cutBytes: Infinity });
    await settledWell(postern, aws, [' large@readers.example.net']);
    await end(postern, aws);
  });

  // ---- outcomes that nobody has heard ----

  for (const strategy of ['auto', 'simple', 'raw'])
    it(`answers lost after acceptance are settled by events (${strategy})`, async () => {
      const aws = await startAws({ loseAnswer: strategy === 'auto' ? 0.5 : 0.1, eventDelayMs: 300 });
      const postern = await startPostern(aws, { sender: { strategy } });
      const to = readers(600);
      const form = newsletterForm(to);
      await postWell(postern, form);
      await settledWell(postern, aws, keysOf(form, to));
      assert.ok(aws.calls.lost > 0);
      await end(postern, aws);
    });

  it("a bulk call's answer that does not match its entries proves nothing: events do", async () => {
    const aws = await startAws({ garble: 0.5, eventDelayMs: 300 });
    const postern = await startPostern(aws);
    const to = readers(600);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await settledWell(postern, aws, keysOf(form, to));
    assert.ok(aws.calls.lost > 0);
    await end(postern, aws);
  });

  it('a mail to several at once, its answer lost, is settled for each of them', async () => {
    const aws = await startAws({ loseAnswer: 1, eventDelayMs: 300 });
    const postern = await startPostern(aws);
    const expected = [];
    for (let i = 0; i < 10; i++) {
      const to = readers(5, `group${i}`);
      await postWell(postern, transactionalForm(to.join(', '), `Group ${i}`));
      expected.push(...to.map((a) => ` ${a}`));
    }
    await settledWell(postern, aws, expected);
    assert.equal(aws.calls.simple, 10);
    assert.equal((await eventsOf(postern, 'event=delivered', 50)).length, 50);
    await end(postern, aws);
  });

  bothWays('killed with doubts, started again when their window is over: the events that waited settle them', async (strategy) => {
    const aws = await startAws({ loseAnswer: 0.3, holdEvents: true });
    const postern = await startPostern(aws, { sender: { strategy, doubt_window: '4s' } });
    const to = readers(400);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await waitForBooks(postern, 'doubts', ([b]) => b.pending + b.leased === 0);
    await postern.stop('SIGKILL');
    aws.set({ holdEvents: false });
    await sleep(5000);
    await postern.launch();
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  bothWays("answers lost from SES and from the event queue at once", async (strategy) => {
    const aws = await startAws({ loseAnswer: 0.2, loseReceive: 0.6 });
    const postern = await startPostern(aws, { sender: { strategy } });
    const to = readers(500);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await waitFor('all sends', () => aws.accepted.length === 500);
    await sleep(15000); // past the doubt window
    aws.set({ loseReceive: 0 });
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  bothWays('connections reset before acceptance: sent again when the doubt window has ended', async (strategy) => {
    const aws = await startAws({ reset: 0.1 });
    const postern = await startPostern(aws, { sender: { strategy, doubt_window: '3s' } });
    const to = readers(400);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  it('a doubt ends although events of other mail never pause', async () => {
    const aws = await startAws({ longPollMs: 20000 });
    const postern = await startPostern(aws, { sender: { doubt_window: '3s' } });
    const [first, second] = [newsletterForm(readers(20, 'first')), newsletterForm(readers(20, 'second'))];
    await postWell(postern, first);
    await settledWell(postern, aws, keysOf(first, readers(20, 'first')));
    const opens = setInterval(() => aws.open(aws.accepted[0].mail), 100);
    try {
      aws.set({ reset: 1 });
      await postWell(postern, second);
      await waitFor('a reset', () => aws.calls.reset > 0);
      aws.set({ reset: 0 });
      await settledWell(postern, aws, [...keysOf(first, readers(20, 'first')), ...keysOf(second, readers(20, 'second'))], { ms: 60000 });
    } finally {
      clearInterval(opens);
    }
    await end(postern, aws);
  });

  bothWays('answers slower than the patience of the client', async (strategy) => {
    const aws = await startAws({ slowEach: strategy === 'auto' ? 3 : 20, slowMs: 45000, holdEvents: true });
    const postern = await startPostern(aws, { sender: { strategy, doubt_window: '60s' } });
    const to = readers(400);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await waitForBooks(postern, 'doubts', ([b]) => b.doubt > 0 && b.leased === 0 && b.pending === 0);
    assert.equal(aws.accepted.length, 400);
    aws.set({ holdEvents: false });
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  it('on_doubt = hold: without an event a doubt stays one, over a restart too; with one it is sent', async () => {
    const aws = await startAws({ loseAnswer: 0.4, holdEvents: true });
    const postern = await startPostern(aws, { sender: { strategy: 'simple', on_doubt: 'hold', doubt_window: '1s' } });
    const to = readers(100);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await waitForBooks(postern, 'doubts only', ([b]) => b.doubt > 0 && b.leased === 0 && b.pending === 0);
    await sleep(9000); // past the window and what the writer waits beyond it
    const [held] = await booksOf(postern);
    assert.equal(held.doubt, aws.calls.lost);
    await postern.stop();
    await postern.launch();
    await sleep(9000);
    assert.equal((await booksOf(postern))[0].doubt, held.doubt);
    assert.equal(aws.accepted.length, 100);
    aws.set({ holdEvents: false });
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  // ---- repeats ----

  bothWays('one POST, repeated and at once: one mail each, one id', async (strategy) => {
    const aws = await startAws({ loseAnswer: 0.1 });
    const postern = await startPostern(aws, { sender: { strategy } });
    const to = readers(300);
    const form = newsletterForm(to);
    const ids = await Promise.all([1, 2, 3, 4].map(() => postWell(postern, form)));
    ids.push(await postWell(postern, form));
    await settledWell(postern, aws, keysOf(form, to));
    ids.push(await postWell(postern, form));
    assert.equal(new Set(ids).size, 1);
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  // ---- deaths ----

  bothWays('SIGKILL of every process at any instant, while answers are lost', async (strategy) => {
    const aws = await startAws({ loseAnswer: 0.05, fail: 0.03, latencyMs: 10, eventDelayMs: 200, deafPollMs: 500 });
    const poller = strategy === 'auto' ? 'children = 1' : 'children = 2';
    const postern = await startPostern(aws, { poller, sender: { strategy, max_rate: '250' } });
    const forms = [0, 1, 2].map((i) => newsletterForm(readers(500, `kill${i}`), { emailId: String(i).padStart(24, '0') }));
    const posting = (async () => {
      for (const form of forms)
        await waitFor('acceptance', async () => {
          try {
            const res = await postern.post(form, { signal: AbortSignal.timeout(8000) });
            await res.arrayBuffer();
            return res.status === 200;
          } catch {
            return false; // somebody was killed
          }
        }, 60000, 100);
    })();
    for (let round = 1; round <= 24; round++) {
      await sleep(50 + aws.random() * 250);
      if (round % 8 === 0) {
        await postern.stop('SIGKILL');
        await postern.launch();
        continue;
      }
      const children = postern.children();
      try {
        process.kill(children[round % children.length], 'SIGKILL'); // each role in its turn
      } catch {
        // it had just left
      }
    }
    await posting;
    await settledWell(postern, aws, forms.flatMap((form, i) => keysOf(form, readers(500, `kill${i}`))), { ms: 120000 });
    await end(postern, aws);
  });

  bothWays('all of it in turns, with kills, reloads and restarts', async (strategy) => {
    const aws = await startAws({ latencyMs: 5, eventDelayMs: 150, deafPollMs: 500 });
    const domains = { [domain]: [key], 'other.example.org': [key] };
    const postern = await startPostern(aws, { domains, poller: 'children = 2', sender: { strategy, max_rate: '200' } });
    const troubles = [
      { fail: 0.3 }, { loseAnswer: 0.3 }, { reset: 0.2 }, { rate: 60 }, { quota: 0 }, { account: 'SendingPausedException' },
      { unverified: new Set(['other.example.org']) }, { loseReceive: 0.3 }, { garble: 0.3 }, { clockOffsetMs: 400000 }, { failStatus: 502, fail: 0.6 },
      { entry: () => (aws.random() < 0.2 ? 'TRANSIENT_FAILURE' : undefined) }, { slow: 0.2, slowMs: 2500 }, {},
    ];
    const calm = { fail: 0, loseAnswer: 0, reset: 0, rate: Infinity, quota: Infinity, account: undefined, unverified: new Set(), loseReceive: 0, garble: 0, clockOffsetMs: 0, entry: undefined, slow: 0 };
    const forms = [0, 1, 2, 3].map((i) => {
      const d = Object.keys(domains)[i % 2];
      return { d, to: readers(500, `turn${i}`), form: newsletterForm(readers(500, `turn${i}`), { emailId: String(i).padStart(24, '0'), domain: d }) };
    });
    const posting = (async () => {
      for (const { d, form } of forms)
        await waitFor('acceptance', async () => {
          const res = await postern.post(form, { domain: d, headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}` }, signal: AbortSignal.timeout(8000) }).catch(() => undefined);
          await res?.arrayBuffer().catch(() => undefined);
          return res?.status === 200;
        }, 60000, 100);
    })();
    for (let round = 1; round <= 30; round++) {
      aws.set({ ...calm, ...troubles[Math.floor(aws.random() * troubles.length)] });
      await sleep(100 + aws.random() * 500);
      if (round % 15 === 0) {
        await postern.stop(aws.random() < 0.5 ? 'SIGKILL' : 'SIGTERM');
        await postern.launch();
      } else if (round % 7 === 0) {
        postern.child.kill('SIGHUP');
      } else if (round % 2 === 0) {
        const children = postern.children();
        try {
          process.kill(children[Math.floor(aws.random() * children.length)], 'SIGKILL');
        } catch {
          // it had just left
        }
      }
    }
    aws.set(calm);
    await posting;
    await settledWell(postern, aws, forms.flatMap(({ form, to }) => keysOf(form, to)), { ms: 120000 });
    const delivered = await eventsOf(postern, 'event=delivered', 1000);
    assert.equal(new Set(delivered.map((e) => `${e['user-variables']['email-id']} ${e.recipient}`)).size, 1000);
    await end(postern, aws);
  });

  bothWays('a sender and a poller that hang are replaced', async (strategy) => {
    const aws = await startAws({ latencyMs: 30, eventDelayMs: 100 });
    const postern = await startPostern(aws, { sender: { strategy, max_rate: '300' } });
    const to = readers(600);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await waitFor('some mail', () => aws.accepted.length > 100);
    const hung = [postern.pids('sender')[1], postern.pids('poller')[0]];
    for (const pid of hung) process.kill(pid, 'SIGSTOP');
    await waitFor('their end', () => !postern.children().some((pid) => hung.includes(pid)), 30000);
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  for (const what of ['of another boot', 'gone'])
    bothWays(`a power cut, after which the started marks are ${what}`, async (strategy) => {
      const aws = await startAws({ latencyMs: 250, eventDelayMs: 500, deafPollMs: 3000 });
      const before = await startPostern(aws, { sender: { strategy, max_rate: '300' } });
      const to = readers(500);
      const form = newsletterForm(to);
      await postWell(before, form);
      await waitFor('half of it', () => aws.accepted.length > 200);
      const pids = pidsOf(before);
      for (const pid of pids) process.kill(pid, 'SIGSTOP');
      const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-test-'));
      execFileSync('cp', ['-r', '--sparse=always', path.join(before.dir, 'state'), dir]);
      for (const pid of pids) process.kill(pid, 'SIGKILL');
      await before.child.ended;
      const marks = path.join(dir, 'state/started');
      if (what === 'gone') {
        fs.unlinkSync(marks);
      } else {
        const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id').subarray(0, 36);
        const head = Buffer.alloc(4096);
        const fd = fs.openSync(marks, 'r+');
        fs.readSync(fd, head, 0, head.length, 0);
        const at = head.indexOf(boot);
        assert.ok(at > 0, 'the boot id stands in the file');
        fs.writeSync(fd, Buffer.from('another-'), 0, 8, at);
        fs.closeSync(fd);
      }
      assert.ok(aws.accepted.length < 500);
      const postern = await startPostern(aws, { dir, sender: { strategy, max_rate: '300' } });
      await settledWell(postern, aws, keysOf(form, to));
      assert.equal(await postWell(postern, form), (await booksOf(postern))[0]['message-id'].replace(/^(.*)$/, '<$1>'));
      await settledWell(postern, aws, keysOf(form, to));
      await end(postern, aws);
    });

  // ---- who is who, and when ----

  it('expired credentials are read again and the call repeated', async () => {
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'postern-test-')), 'credentials');
    const write = (id) => fs.writeFileSync(file, `[default]\naws_access_key_id = ${id}\naws_secret_access_key = secret\n`);
    write('AKIDFIRST');
    process.env.AWS_SHARED_CREDENTIALS_FILE = file;
    const aws = await startAws();
    const postern = await startPostern(aws, { keys: '', sender: { max_rate: '200' } });
    delete process.env.AWS_SHARED_CREDENTIALS_FILE;
    const to = readers(400);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await waitFor('some mail', () => aws.accepted.length > 50);
    write('AKIDSECOND'); // before the first expires
    aws.set({ expiredKeys: new Set(['AKIDFIRST']) });
    await waitFor('more mail', () => aws.accepted.length > 200);
    aws.set({ expiredKeys: new Set(['AKIDFIRST', 'AKIDSECOND']) }); // and once with nothing new at hand
    const known = aws.calls.refused;
    await waitFor('refusals', () => aws.calls.refused > known + 2);
    write('AKIDTHIRD');
    await settledWell(postern, aws, keysOf(form, to));
    await end(postern, aws);
  });

  bothWays('a clock ten minutes off is corrected once', async (strategy) => {
    const aws = await startAws({ clockOffsetMs: strategy === 'auto' ? 600000 : -600000 });
    const postern = await startPostern(aws, { sender: { strategy } });
    const to = readers(300);
    const form = newsletterForm(to);
    await postWell(postern, form);
    await settledWell(postern, aws, keysOf(form, to));
    assert.ok(aws.calls.refused <= 3 * 80, `${aws.calls.refused} refused calls: a first one for each connection at the most`);
    const refused = aws.calls.refused;
    const more = newsletterForm(readers(100, 'more'));
    await postWell(postern, more);
    await settledWell(postern, aws, [...keysOf(form, to), ...keysOf(more, readers(100, 'more'))]);
    assert.equal(aws.calls.refused, refused, 'once corrected it stays');
    const delivered = await eventsOf(postern, 'event=delivered', 400);
    for (const e of delivered) assert.ok(e.timestamp <= Date.now() / 1000, 'no time in the future');
    await end(postern, aws);
  });

  // ---- order ----

  it('a transactional mail does not wait behind thousands of newsletters', async () => {
    const aws = await startAws({ rate: 60 });
    const postern = await startPostern(aws, { sender: { max_rate: '50' } });
    const to = readers(3000);
    const forms = [0, 1, 2].map((i) => newsletterForm(to.slice(i * 1000, i * 1000 + 1000)));
    for (const form of forms) await postWell(postern, form);
    const expected = forms.flatMap((form, i) => keysOf(form, to.slice(i * 1000, i * 1000 + 1000)));
    for (let i = 0; i < 3; i++) {
      await waitFor('newsletters under way', () => aws.accepted.length > 60 * (i + 1));
      await postWell(postern, transactionalForm(`member${i}@readers.example.net`, `Sign in ${i}`));
      const before = aws.accepted.length;
      await waitFor('its acceptance', () => aws.accepted.some((a) => a.subject === `Sign in ${i}`));
      const at = aws.accepted.findIndex((a) => a.subject === `Sign in ${i}`);
      console.log(`${at - before} newsletters between a transactional mail's answer and its acceptance`);
      assert.ok(at - before <= 500); // thousands wait
      expected.push(` member${i}@readers.example.net`);
    }
    // The rest need not take a minute: a reload, under load.
    aws.set({ rate: Infinity });
    fs.writeFileSync(postern.confFile, fs.readFileSync(postern.confFile, 'utf8').replace('max_rate = "50"', 'max_rate = "2000"'));
    postern.child.kill('SIGHUP');
    await settledWell(postern, aws, expected);
    await end(postern, aws);
  });

  bothWays('two domains take turns', async (strategy) => {
    const other = 'other.example.org';
    const aws = await startAws();
    const postern = await startPostern(aws, { sender: { strategy, max_rate: '250' }, domains: { [domain]: [key], [other]: [key] } });
    const [first, second] = [newsletterForm(readers(1000, 'first')), newsletterForm(readers(400, 'second'), { domain: other })];
    await postWell(postern, first);
    await waitFor('some mail', () => aws.accepted.length > 50);
    await postWell(postern, second, { domain: other, headers: { 'Content-Type': `multipart/form-data; boundary=${second.boundary}` } });
    const from = aws.accepted.length;
    await settledWell(postern, aws, [...keysOf(first, readers(1000, 'first')), ...keysOf(second, readers(400, 'second'))]);
    const order = aws.accepted.slice(from).map((a) => a.domain);
    const begins = order.indexOf(other);
    assert.ok(begins <= 300, `the second domain began after ${begins} of the first`);
    const both = order.slice(begins, order.lastIndexOf(other));
    const share = both.filter((d) => d === other).length / both.length;
    console.log(`${strategy}: the second domain began after ${begins} and had ${(share * 100).toFixed(0)} % from there on`);
    assert.ok(share > 0.3 && share < 0.7, `share ${share}`);
    await end(postern, aws);
  });

  bothWays('o:deliverytime is kept, over a restart and a SIGKILL too', async (strategy) => {
    const aws = await startAws();
    const postern = await startPostern(aws, { sender: { strategy } });
    const due = Math.ceil(Date.now() / 1000 + 4) * 1000;
    const to = readers(60);
    const form = newsletterForm(to, { extra: [['o:deliverytime', new Date(due).toUTCString().replace('GMT', '+0000')]] });
    await postWell(postern, form);
    await postern.stop();
    await postern.launch();
    await postern.stop('SIGKILL');
    await postern.launch();
    await settledWell(postern, aws, keysOf(form, to));
    for (const a of aws.accepted) assert.ok(a.atMs >= due, `${due - a.atMs} ms early`);
    await end(postern, aws);
  });

  // ---- what costs no call ----

  it('o:testmode reaches nobody, and has its events', async () => {
    const aws = await startAws();
    const postern = await startPostern(aws);
    const form = newsletterForm(readers(70), { extra: [['o:testmode', 'yes']] });
    await postWell(postern, form);
    await settledWell(postern, aws, []);
    assert.equal((await eventsOf(postern, 'event=accepted', 70)).length, 70);
    assert.equal((await eventsOf(postern, 'event=delivered', 70)).length, 70);
    assert.equal(aws.calls.bulk + aws.calls.simple + aws.calls.raw, 0);
    await end(postern, aws);
  });

  bothWays('a suppressed address costs no call and fails with 605', async (strategy) => {
    const aws = await startAws();
    const postern = await startPostern(aws, { sender: { strategy } });
    const to = readers(60);
    const first = newsletterForm(to);
    await postWell(postern, first);
    await settledWell(postern, aws, keysOf(first, to));
    const gone = to.slice(10, 15);
    for (const a of aws.accepted.filter((one) => gone.includes(one.address))) aws.bounce(a.mail);
    await eventsOf(postern, 'event=failed', gone.length);
    const second = newsletterForm(to);
    await postWell(postern, second);
    const rest = to.filter((a) => !gone.includes(a));
    await settledWell(postern, aws, [...keysOf(first, to), ...keysOf(second, rest)], { suppressed: gone.length });
    const failed = (await eventsOf(postern, 'event=failed', 2 * gone.length)).filter((e) => e['user-variables']['email-id'] === second.emailId);
    assert.deepEqual(failed.map((e) => e.recipient).sort(), gone);
    for (const e of failed) assert.equal(e['delivery-status'].code, 605);
    await end(postern, aws);
  });
});
