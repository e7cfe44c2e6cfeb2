// What an httpd process can do that somebody else has taken over. Its memory is written from outside, as a
// program inside it could; its files and calls are tried in tests/unit/master/test_confine.c.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import { after, describe, it } from 'node:test';
import { Postern, audit, execCli, isSettled, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

after(stopAll);
const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };

const processes = async (postern) => JSON.parse(await execCli(postern, 'status', '--json')).processes;
const pidOf = async (postern, name) => (await processes(postern)).find((p) => p.name === name).pid;

const mappings = (pid, kind) =>
  fs
    .readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line.includes(kind))
    .map((line) => {
      const [, from, to, rights] = /^([0-9a-f]+)-([0-9a-f]+) (....)/.exec(line);
      return { from: parseInt(from, 16), bytes: parseInt(to, 16) - parseInt(from, 16), rights };
    });

function scribble(pid, at, bytes) {
  const mem = fs.openSync(`/proc/${pid}/mem`, 'r+');
  try {
    return fs.writeSync(mem, bytes, 0, bytes.length, at);
  } finally {
    fs.closeSync(mem);
  }
}

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
    assert.equal(writable.reduce((sum, m) => sum + m.bytes, 0), 2 * 4096); // its slot, the words of bells
    assert.throws(() => scribble(pid, gauges.find((m) => m.rights[1] !== 'w').from, Buffer.from('garbage')), /EIO|EFAULT/);
  });

  it('hurts nobody else with garbage in its rings and gauges', async () => {
    for (let round = 0; round < 6; round++) {
      const form = newsletterForm(readers(100, `hostile${round}x`));
      forms.push([form, `hostile${round}x`]);
      await waitFor('an answer', async () => (await postern.post(form).catch(() => ({}))).status === 200);
      await waitFor('httpd 0', async () => (await processes(postern)).some((p) => p.name === 'httpd 0' && p.state === 'ready'));
      const pid = await pidOf(postern, 'httpd 0');
      const random = crypto.randomBytes(4096);
      try {
        const rings = mappings(pid, 'postern-ring').sort((a, b) => b.bytes - a.bytes);
        if (round % 3 === 0) scribble(pid, rings[0].from, random); // positions
        // a plausible head over bytes that are no records
        if (round % 3 === 1) scribble(pid, rings[0].from + 4096, Buffer.concat(Array.from({ length: 16 }, () => crypto.randomBytes(65536))));
        if (round % 3 !== 0) {
          const head = Buffer.alloc(8);
          head.writeBigUInt64LE(BigInt(8 * (1 + Math.floor(Math.random() * 100000))));
          scribble(pid, rings[0].from, head);
        }
        scribble(pid, rings[1].from, random);
        for (const m of mappings(pid, 'postern-gauges').filter((g) => g.rights[1] === 'w')) scribble(pid, m.from, crypto.randomBytes(m.bytes));
      } catch (e) {
        if (!/EIO|ESRCH|ENOENT/.test(e.message)) throw e; // gone already
      }
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
