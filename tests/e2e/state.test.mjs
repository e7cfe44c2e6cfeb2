// The state as a whole: it agrees with itself, is copied while all goes on, and a copy put back sends nothing twice.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Postern, audit, binary, isSettled, jsonLines, newsletterForm, readers, startSandbox, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const run = (p, ...args) => spawnSync(binary, [args[0], '-c', p.confFile, ...args.slice(1)], { encoding: 'utf8' });

describe('the state', () => {
  let sandbox;
  let first;
  const forms = [];

  before(async () => {
    sandbox = await startSandbox();
    await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, max_send_rate: 200 });
    first = await Postern.start({ sandbox, sections: { sender: 'children = 2 max_rate = "100"' } });
  });

  it('agrees with itself while mail goes out', async () => {
    for (let i = 0; i < 3; i++) {
      if (i === 2) await sandbox.set({ latency_ms: 10000 }); // it is still open when it is copied
      forms.push(newsletterForm(readers(200, `r${i}-`)));
      assert.equal((await first.post(forms[i])).status, 200);
      for (let n = 0; n < 5; n++) {
        const got = run(first, 'check', '--json');
        assert.equal(got.status, 0, got.stdout + got.stderr);
      }
    }
    const [{ events, ...sums }] = jsonLines(run(first, 'check', '--json').stdout);
    assert.deepEqual(sums, { batches: 3, recipients: 600, problems: 0 });
    assert.ok(events >= 600, `${events} events`); // each was accepted
    assert.match(run(first, 'check').stdout, /^3 batches, 600 recipients, \d+ events: 0 problems\n$/);
  });

  it('is copied while mail goes out, into a new directory only', async () => {
    const dir = path.join(first.dir, 'copy');
    assert.ok(first.batches().some((b) => b.pending + b.leased > 0), 'something is to be open');
    const got = run(first, 'backup', dir);
    assert.equal(got.status, 0, got.stderr);
    assert.match(got.stdout, /MiB\. To go back/);
    assert.match(run(first, 'backup', dir).stderr, /is there already: name a new directory/);
    assert.equal(run(first, 'backup').status, 2);
    assert.equal(run(first, 'backup', '/no/such/place/at/all').status, 2);
    assert.ok(!fs.existsSync(`${dir}.partial`));
    await sandbox.set({ latency_ms: 0 });
    await waitFor('the books', () => isSettled(first.batches()), 60000);
    await first.stop();
  });

  it('put back sends nothing by itself, and what a person resumes', async () => {
    const expected = forms.flatMap((f, i) => readers(200, `r${i}-`).map((a) => `${f.emailId} ${a}`));
    assert.deepEqual(await audit(first, sandbox, expected).then(({ missing, duplicates }) => ({ missing, duplicates })), { missing: 0, duplicates: 0 });
    fs.rmSync(path.join(first.dir, 'state', 'store'), { recursive: true });
    fs.renameSync(path.join(first.dir, 'copy', 'store'), path.join(first.dir, 'state', 'store'));
    await first.launch();
    assert.match(first.log(), /this state is a backup of .*: [1-3] open batches are paused/);
    const open = first.batches().filter((b) => b.pending + b.leased + b.doubt > 0);
    assert.ok(open.length > 0 && open.every((b) => b.why === 'paused'), JSON.stringify(open));
    // What comes after goes out as ever, and by then the old ones would have too.
    const fresh = newsletterForm(readers(50, 'fresh-'));
    await first.post(fresh);
    await waitFor('the fresh one', () => first.batches().some((b) => b.sent === 50));
    assert.equal((await audit(first, sandbox, expected)).duplicates, 0);
    for (const b of open) assert.equal(run(first, 'batches', 'cancel', b.batch).status, 0, b.batch);
    assert.equal(run(first, 'check').status, 0);
    // It is no copy any more.
    await first.stop();
    await first.launch();
    assert.equal(first.log().split('this state is a backup').length, 2);
    await first.stop();
  });
});
