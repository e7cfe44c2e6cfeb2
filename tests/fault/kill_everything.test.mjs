// SIGKILL again and again: httpd, writer, senders, pollers, then the master, while newsletters are sent.
// At the end: every reader exactly once, the books balanced, every event readable.
//
// RECIPIENTS (default 20000) and KILLS (default 60) size the run.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, describe, it } from 'node:test';
import { Postern, audit, isSettled, newsletterForm, randomFrom, readers, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

after(stopAll);

const RECIPIENTS = Number(process.env.RECIPIENTS ?? 20000);
const KILLS = Number(process.env.KILLS ?? 60);

/** Posts until it is answered with 200, as Ghost does after an error or a timeout. */
async function postUntilAccepted(postern, form) {
  for (let tries = 0; tries < 200; tries++) {
    try {
      const res = await postern.post(form, { signal: AbortSignal.timeout(10000) });
      if (res.status === 200) return (await res.json()).id;
      await res.arrayBuffer();
    } catch {
      // refused, reset or timed out: somebody was killed
    }
    await sleep(100);
  }
  throw new Error('never accepted');
}

describe('SIGKILL of everything', () => {
  it(`${RECIPIENTS} readers, ${KILLS} kills of children and 3 of the master: each exactly once`, async () => {
    const seed = Number(process.env.SEED ?? Date.now() % 1e9);
    console.log(`seed ${seed}`);
    const random = randomFrom(seed);
    const sandbox = await startSandbox(['--set', 'max_send_rate=4000']);
    await sandbox.set({
      bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, click_rate: 0, open_rate: 1000,
      delivery_delay_ms_min: 10, delivery_delay_ms_max: 200, latency_ms: 5, lose_answer_rate: 20, throttle_rate: 20, fail_rate: 20,
    });
    const postern = await Postern.start({
      sandbox,
      sections: { sender: 'children = 2\ndoubt_window = "8s"\nconnections = 32\nmax_rate = "1500"', poller: 'children = 1' },
    });

    const forms = [];
    for (let i = 0; i < RECIPIENTS; i += 1000)
      forms.push(newsletterForm(readers(Math.min(1000, RECIPIENTS - i), 'reader', i), { emailId: String(i).padStart(24, '0') }));
    const expected = forms.flatMap((f, b) =>
      readers(Math.min(1000, RECIPIENTS - b * 1000), 'reader', b * 1000).map((a) => `${f.emailId} ${a}`),
    );

    let posting = true;
    const posts = (async () => {
      const queue = [...forms];
      await Promise.all(
        [0, 1].map(async () => {
          for (let form = queue.shift(); form; form = queue.shift()) {
            await postUntilAccepted(postern, form);
            await sleep(random(150));
          }
        }),
      );
      posting = false;
    })();

    let killed = 0;
    for (let round = 0; round < KILLS; round++) {
      await sleep(50 + random(250));
      if (round > 0 && round % Math.ceil(KILLS / 4) === 0) {
        postern.child.kill('SIGKILL');
        await postern.child.ended;
        postern.how = undefined;
        await postern.launch();
        continue;
      }
      const children = postern.children();
      if (children.length === 0) continue;
      try {
        process.kill(children[random(children.length)], 'SIGKILL');
        killed++;
      } catch {
        // it had just left
      }
    }
    await posts;
    assert.equal(posting, false);
    assert.ok(killed > KILLS / 2);

    await waitFor('the books', () => isSettled(postern.batches()), 120000, 500);
    const report = await audit(postern, sandbox, expected);
    if (report.missing || report.duplicates) fs.writeFileSync(`${postern.dir}/report.json`, JSON.stringify(report));
    assert.equal(report.missing, 0, `missing; seed ${seed}, ${postern.dir}`);
    assert.equal(report.duplicates, 0, `sent twice; seed ${seed}, ${postern.dir}`);
    assert.equal(report.unaccounted, 0);
    assert.equal(report.books.reduce((sum, b) => sum + b.sent, 0), RECIPIENTS);

    // Every event can be read: one accepted and one delivered for each reader.
    await waitFor('all deliveries', () => postern.batches().reduce((sum, b) => sum + b.delivered, 0) >= RECIPIENTS, 60000, 500);
    await sleep(1500); // an answer covers events up to a second ago
    const delivered = await postern.walk(`limit=300&event=delivered&begin=${Date.now() / 1000 - 3600}&ascending=yes`);
    assert.equal(new Set(delivered.map((i) => `${i['user-variables']['email-id']} ${i.recipient}`)).size, RECIPIENTS);
    assert.equal(new Set(delivered.map((i) => i.id)).size, delivered.length);
    const accepted = await postern.walk(`limit=300&event=accepted&begin=${Date.now() / 1000 - 3600}&ascending=yes`);
    assert.equal(accepted.length, RECIPIENTS);
    assert.equal((await sandbox.stats()).duplicates, 0);
    await postern.stop();
  });

  it('a killed child is back at once', async () => {
    const postern = await Postern.start();
    const [victim] = postern.pids('httpd');
    const count = postern.children().length;
    process.kill(victim, 'SIGKILL');
    const at = Date.now();
    await waitFor('a successor', () => postern.children().length >= count && !postern.children().includes(victim), 5000, 5);
    console.log(`replaced after ${Date.now() - at} ms`);
    assert.equal(await waitFor('health', () => postern.healthy()), true);
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });
});
