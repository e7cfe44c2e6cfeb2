// The writer is killed again and again while it counts events and lets go of old ones: what it has counted is what SES has published, and what is
// old is gone.
//
// KILLS (default 20) and SEED size and repeat the run.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, describe, it } from 'node:test';
import { Postern, binary, domain, isSettled, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

after(stopAll);

const KILLS = Number(process.env.KILLS ?? 20);
const PER_BATCH = 500;
const BATCHES = 10;
const kinds = ['accepted', 'delivered', 'opened', 'clicked', 'failed'];

describe('SIGKILL of a writer that counts and lets go', () => {
  it(`${KILLS} kills: counters equal what was published, events and batches go`, async () => {
    let seed = Number(process.env.SEED ?? Date.now() % 1e9) >>> 0;
    console.log(`seed ${seed}`);
    const random = (n) => Math.floor(((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32) * n);
    const sandbox = await startSandbox(['--set', 'max_send_rate=4000']);
    await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 10000, click_rate: 2000, event_repeat_rate: 1000, delivery_delay_ms_max: 100 });
    // Claims outlive the run: a POST that is repeated after a kill must be known.
    const postern = await Postern.start({ sandbox, sections: { retention: 'events = "2s"\nbatches = "20s"', sender: 'max_rate = "3000"\ndoubt_window = "20s"' } });
    // undefined: the writer is not back yet
    const status = () => {
      try {
        return JSON.parse(execFileSync(binary, ['status', '-c', postern.confFile, '--json'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
      } catch {
        return undefined;
      }
    };
    const writer = () => status()?.processes.find((p) => p.name === 'writer 0').pid;
    const stats = async () => {
      const res = await postern.request('GET', `/v3/${domain}/stats/total?${kinds.map((k) => `event=${k}`).join('&')}&duration=3h&resolution=hour`);
      assert.equal(res.status, 200);
      const sums = {};
      for (const step of (await res.json()).stats)
        for (const k of kinds.slice(0, 4))
          for (const [name, n] of Object.entries(step[k])) sums[`${k} ${name}`] = (sums[`${k} ${name}`] ?? 0) + n;
      return sums;
    };

    let posting = true;
    const posts = (async () => {
      for (let b = 0; b < BATCHES; b++) {
        const form = newsletterForm(readers(PER_BATCH, 'reader', b * PER_BATCH), { emailId: String(b).padStart(24, '0'), extra: [['o:tracking-clicks', 'yes']] });
        await waitFor('a 200', async () => {
          const res = await postern.post(form, { signal: AbortSignal.timeout(10000) }).catch(() => null);
          await res?.arrayBuffer();
          return res?.status === 200;
        });
        await sleep(500 + random(500));
      }
      posting = false;
    })();

    for (let n = 0; n < KILLS || posting; n++) {
      process.kill(await waitFor('a writer', writer, 30000), 'SIGKILL');
      await sleep(300 + random(1000)); // some of it is the next one's
    }
    await posts;

    const N = PER_BATCH * BATCHES;
    await waitFor('nothing to send', () => status()?.open === 0, 90000, 500);
    // The queues are empty and the pollers' rings too when the counters have come to what was published.
    let sums, published;
    await waitFor('all that was published', async () => {
      const s = await sandbox.stats();
      published = s.events;
      sums = await stats();
      return s.events_waiting === 0 && sums['delivered total'] >= published.Delivery && sums['opened total'] >= published.Open && sums['clicked total'] >= published.Click;
    }, 90000, 500);
    await sleep(3000); // a repeat that was counted twice would come now
    sums = await stats();
    console.log(`${JSON.stringify(sums)}, ${JSON.stringify(published)}`);
    assert.equal((await sandbox.stats()).duplicates, 0);
    assert.equal(sums['accepted outgoing'], N);
    assert.equal(sums['delivered total'], N);
    assert.equal(published.Delivery, N);
    assert.ok(published.repeated > 0);
    assert.equal(sums['opened total'], published.Open);
    assert.equal(sums['opened unique'], N); // everybody opens
    assert.equal(sums['clicked total'], published.Click);
    assert.ok(sums['clicked unique'] > 0 && sums['clicked unique'] <= published.Click);

    await waitFor('no old events', async () => (await postern.walk(`limit=300&ascending=yes&begin=${Date.now() / 1000 - 3600}`)).length === 0, 60000, 500);
    await waitFor('no old batches', () => isSettled(postern.batches()) && postern.batches().length === 0, 60000, 500);
    assert.equal(status().store.oldest_event_us, 0);
    assert.deepEqual(await stats(), sums); // they outlive what they counted
    assert.match(postern.cli('check'), /./);
    await postern.stop();
  });
});
