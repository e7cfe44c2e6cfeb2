// Repeats, lost answers, throttling, server errors: nobody is missing, nobody gets it twice.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import { Postern, audit, domain, isSettled, key, newsletterForm, readers, startSandbox, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };
const names = (form, addresses) => addresses.map((a) => `${form.emailId} ${a}`);

async function settled(postern, ms = 60000) {
  await waitFor('the books', () => postern.batches().length > 0 && isSettled(postern.batches()), ms, 100);
}

describe('a repeated POST', () => {
  it('in sequence, at once, and with half of the readers known: one mail each, one id', async () => {
    const postern = await Postern.start();
    await postern.sandbox.set(quiet);
    const to = readers(400);
    const first = newsletterForm(to);
    const id = (await (await postern.post(first)).json()).id;
    const edited = newsletterForm(to, { emailId: first.emailId, subject: 'Edited', html: '<p>new links</p>' });
    assert.equal((await (await postern.post(edited)).json()).id, id);

    const other = newsletterForm(to.slice(0, 100));
    const ids = await Promise.all([1, 2, 3, 4].map(async () => (await (await postern.post(other)).json()).id));
    assert.equal(new Set(ids).size, 1);

    const more = newsletterForm(readers(600), { emailId: first.emailId });
    assert.equal((await (await postern.post(more)).json()).id, id);
    await settled(postern);
    const report = await audit(postern, postern.sandbox, [...names(first, readers(600)), ...names(other, to.slice(0, 100))]);
    assert.deepEqual({ ...report, books: null }, { missing: 0, duplicates: 0, unaccounted: 0, books: null });

    // A claim outlives a restart; test mode and another newsletter are other keys.
    await postern.stop();
    await postern.launch();
    assert.equal((await (await postern.post(first)).json()).id, id);
    const test = newsletterForm(to.slice(0, 5), { emailId: first.emailId, extra: [['o:testmode', 'yes']] });
    assert.notEqual((await (await postern.post(test)).json()).id, id);
    await settled(postern);
    const total = postern.batches().reduce((sum, b) => sum + b.accepted, 0);
    assert.equal(total, 705);
    await postern.stop();
  });

  it('of a test email, which has no email-id, is two mails', async () => {
    const postern = await Postern.start();
    await postern.sandbox.set(quiet);
    const form = newsletterForm(readers(1), { emailId: '' });
    const ids = [];
    for (let i = 0; i < 2; i++) ids.push((await (await postern.post(form)).json()).id);
    assert.notEqual(ids[0], ids[1]);
    await settled(postern);
    assert.equal((await postern.sandbox.stats()).accepted_recipients, 2);
    await postern.stop();
  });
});

/** Sends the whole request and leaves without waiting for the answer. */
function postAndLeave(port, form) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', reject);
    socket.on('close', resolve);
    socket.write(
      `POST /v3/${domain}/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ${Buffer.from(`api:${key}`).toString('base64')}\r\n` +
        `Content-Type: multipart/form-data; boundary=${form.boundary}\r\nContent-Length: ${form.body.length}\r\n\r\n`,
    );
    socket.write(form.body, () => setTimeout(() => socket.destroy(), 300)); // httpd has handed it over by then, as a rule
  });
}

describe('a POST without email-id whose answer nobody heard', () => {
  it('is the same mail when it comes again, once', async () => {
    const postern = await Postern.start({ sections: { httpd: 'children = 1' } });
    await postern.sandbox.set(quiet);
    const form = newsletterForm(readers(1), { emailId: '' });
    const writer = JSON.parse(postern.cli('status', '--json')).processes.find((one) => one.name === 'writer 0').pid;
    for (let lost = 0; lost < 3; lost++) {
      process.kill(writer, 'SIGSTOP');
      await postAndLeave(postern.port, form);
      process.kill(writer, 'SIGCONT');
      await waitFor('the batch', () => postern.batches().length > 0);
      await waitFor('what was said of it', () => postern.cli('status', '--json')); // the writer has made another turn
    }
    const [first] = postern.batches();
    assert.equal(postern.batches().length, 1);
    const again = (await (await postern.post(form)).json()).id;
    assert.equal(again, `<${first['message-id']}>`);
    const third = (await (await postern.post(form)).json()).id; // that answer was heard: a new mail
    assert.notEqual(third, again);
    await settled(postern);
    assert.equal((await postern.sandbox.stats()).accepted_recipients, 2);
    assert.doesNotMatch(postern.log(), /not understood/);
    await postern.stop();
  });
});

describe('SES in trouble', () => {
  for (const [what, options] of [
    ['answers lost after acceptance', { lose_answer_rate: 1000 }],
    ['connections reset before acceptance', { reset_before_accept_rate: 1000 }],
    ['throttling', { throttle_rate: 3000 }],
    ['5xx bursts', { fail_rate: 3000, fail_status: 503 }],
    ['events twice, late and mixed with garbage', { event_repeat_rate: 3000, garbage_event_rate: 300, event_delay_ms: 500 }],
  ])
    it(`${what}: each reader exactly once`, async () => {
      const sandbox = await startSandbox();
      await sandbox.set({ ...quiet, ...options });
      const postern = await Postern.start({ sandbox, sections: { sender: 'doubt_window = "3s"' } });
      const form = newsletterForm(readers(500));
      assert.equal((await postern.post(form)).status, 200);
      await settled(postern, 90000);
      const report = await audit(postern, sandbox, names(form, readers(500)));
      assert.deepEqual({ ...report, books: null }, { missing: 0, duplicates: 0, unaccounted: 0, books: null });
      await waitFor('deliveries', () => postern.batches()[0].delivered === 500, 20000);
      assert.equal(postern.batches()[0].delivered, 500); // repeats are one event
      if (options.garbage_event_rate) {
        const letters = postern.cli('deadletters', '--json', '--limit', '1000').trim().split('\n');
        assert.ok(letters.length > 5);
        assert.equal(JSON.parse(letters[0]).why.length > 3, true);
      }
      await postern.stop();
    });

  it('a hard limit of 100 recipients a second is kept without failing anybody', async () => {
    const sandbox = await startSandbox(['--set', 'max_send_rate=100']);
    await sandbox.set(quiet);
    const postern = await Postern.start({ sandbox });
    const form = newsletterForm(readers(500));
    assert.equal((await postern.post(form)).status, 200);
    await settled(postern);
    const report = await audit(postern, sandbox, names(form, readers(500)));
    assert.deepEqual({ ...report, books: null }, { missing: 0, duplicates: 0, unaccounted: 0, books: null });
    assert.ok((await sandbox.stats()).throttled < 25);
    await postern.stop();
  });
});
