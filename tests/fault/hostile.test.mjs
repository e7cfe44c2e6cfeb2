// What an httpd process can do that somebody else has taken over. Its memory is written from outside, as a
// program inside it could; its files and calls are tried in tests/unit/master/test_confine.c.
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { Postern, audit, execCli, isSettled, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';
import { corrupt, mappings, scribble } from './scribble.mjs';

after(stopAll);
const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };

const processes = async (postern) => JSON.parse(await execCli(postern, 'status', '--json')).processes;
const pidOf = async (postern, name) => (await processes(postern)).find((p) => p.name === name).pid;

describe('an httpd that is not ours any more', () => {
  let sandbox, postern;
  const forms = [];

  it('has no memory but its own to write into', async () => {
    sandbox = await startSandbox();
    await sandbox.set(quiet);
    postern = await Postern.start({ sandbox, sections: { sender: 'max_rate = "300"\ndoubt_window = "20s"' } });
    const pid = await pidOf(postern, 'httpd 0');
    assert.equal(mappings(pid, 'postern-ring').length, 2); // up and down; the others' are not there
    assert.equal(mappings(pid, '/started').length, 0);
    const gauges = mappings(pid, 'postern-gauges');
    const writable = gauges.filter((m) => m.rights[1] === 'w');
    assert.equal(writable.reduce((sum, m) => sum + m.bytes, 0), 3 * 4096); // its slot (two pages), the words of bells
    assert.throws(() => scribble(pid, gauges.find((m) => m.rights[1] !== 'w').from, Buffer.from('garbage')), /EIO|EFAULT/);
  });

  it('hurts nobody else with garbage in its rings and gauges', async () => {
    for (let round = 0; round < 6; round++) {
      const form = newsletterForm(readers(100, `hostile${round}x`));
      forms.push([form, `hostile${round}x`]);
      await waitFor('an answer', async () => (await postern.post(form).catch(() => ({}))).status === 200);
      await waitFor('httpd 0', async () => (await processes(postern)).some((p) => p.name === 'httpd 0' && p.state === 'ready'));
      const pid = await pidOf(postern, 'httpd 0');
      corrupt(pid, round);
      await sleep(100);
    }
    const names = (await processes(postern)).map((p) => [p.name, p.restarts]);
    for (const [name, restarts] of names) if (!name.startsWith('httpd')) assert.equal(restarts, 0, `${name} died`);
  });

  it('is ended and replaced, and every promise holds', async () => {
    assert.match(postern.log(), /httpd 0: .*it is stopped and its ring is emptied|ring from the writer is broken/);
    await waitFor('the books', () => isSettled(postern.batches()), 60000);
    const expected = forms.flatMap(([form, prefix]) => readers(100, prefix).map((a) => `${form.emailId} ${a}`));
    const report = await audit(postern, sandbox, expected);
    assert.deepEqual({ ...report, books: null }, { missing: 0, duplicates: 0, unaccounted: 0, books: null });
    assert.equal((await postern.post(newsletterForm(readers(3, 'afterwards')))).status, 200);
    await waitFor('all processes', async () => (await postern.healthy()) && (await processes(postern)).every((p) => p.state === 'ready'));
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });
});
