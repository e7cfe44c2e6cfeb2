// Every death has its line: who, of what, doing what, with which last words, and what happens now.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, isSettled, newsletterForm, readers, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

after(stopAll);
const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };
const json = 'format = "json"';
const lines = (postern) => postern.log().split('\n').slice(0, -1).filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
const deaths = (postern) => lines(postern).filter((line) => line.event === 'death' && line.level === 'warn');
const death = (postern, of, ms = 5000) => waitFor('the obituary', () => deaths(postern).find(of), ms);

/** A line that tells all of a death that every death has. */
const isWhole = (d, role, slot) => {
  assert.deepEqual([d.process, d.role, d.slot], ['master', role, slot]);
  assert.ok(d.generation > 0 && d.child_pid > 0 && d.age_ms >= 0, JSON.stringify(d));
};

describe('an obituary', () => {
  it('tells of a kill from outside, and what the sender was doing', async () => {
    const sandbox = await startSandbox();
    await sandbox.set({ ...quiet, latency_ms: 5000 }); // its calls are still under way when it is killed
    const postern = await Postern.start({ sandbox, sections: { log: json, sender: 'children = 1\ndoubt_window = "2s"' } });
    assert.equal((await postern.post(newsletterForm(readers(200)))).status, 200);
    await waitFor('calls', async () => (await sandbox.stats()).accepted_recipients > 0);
    const [pid] = postern.pids('sender');
    process.kill(pid, 'SIGKILL');
    const d = await death(postern, (line) => line.child_pid === pid);
    await sandbox.set({ ...quiet });
    isWhole(d, 'sender', 0);
    const [{ batch }] = postern.batches();
    assert.equal(d.signal, 9);
    assert.equal(d.core, 'no');
    assert.match(d.cause, /not killed by this master/);
    assert.match(d.doing, new RegExp(`^\\d+ calls, of late SendBulkEmail batch ${batch} recipients from \\d+$`));
    assert.match(d.message, /^sender 0, generation \d+, died of signal 9 \(KILL\) after \d+ ms, in service; its successor starts now$/);
    await waitFor('the books', () => isSettled(postern.batches()), 40000);
    await postern.stop();
  });

  it('tells where a fault was, and that an abort was one', async () => {
    const postern = await Postern.start({ sections: { log: json } });
    for (const [signal, number] of [['SIGSEGV', 11], ['SIGABRT', 6], ['SIGBUS', 7]]) {
      const [pid] = postern.pids('httpd');
      process.kill(pid, signal);
      const d = await death(postern, (line) => line.child_pid === pid);
      isWhole(d, 'httpd', 0);
      assert.equal(d.signal, number);
      assert.equal(d.core, 'no');
      assert.match(d.calls, /(^|,)postern\+0x[0-9a-f]+/);
      const at = /postern\+(0x[0-9a-f]+)/.exec(d.calls)[1];
      assert.ok(Number(at) > 0x1000 && Number(at) < fs.statSync(fs.realpathSync(`/proc/${postern.child.pid}/exe`)).size);
      await waitFor('its successor', () => postern.pids('httpd').length === 2 && !postern.pids('httpd').includes(pid));
    }
    await postern.stop();
  });

  it('has the words of one that cannot start, and tells how its successors wait', async () => {
    const postern = await Postern.start({ sections: { log: json } });
    await postern.stop();
    fs.writeFileSync(postern.logFile, '');
    const data = path.join(postern.dir, 'state/store/data.mdb');
    const name = fs.existsSync(data) ? data : path.join(postern.dir, 'state/store');
    const good = fs.readFileSync(name);
    fs.writeFileSync(name, Buffer.alloc(65536, 'x'));
    const launching = postern.launch().catch((e) => e);
    const loop = await waitFor('a crash loop', () => {
      const found = deaths(postern).filter((line) => line.role === 'writer');
      return found.filter((line) => line.next_in_ms > 0).length >= 3 && found;
    }, 20000);
    fs.writeFileSync(name, good);
    for (const d of loop) {
      isWhole(d, 'writer', 0);
      assert.equal(d.exit_status, 75);
      assert.match(d.message, /died of exit status 75 \(asks to be started again\) after \d+ ms, before it was ready; its successor/);
      assert.match(d.last_words, /^the writer cannot start: /);
      assert.ok(d.said_before_ms < 2000);
    }
    const waits = loop.map((d) => d.next_in_ms ?? 0).filter((ms) => ms > 0);
    assert.ok(waits.length >= 3 && waits.every((ms, i) => i === 0 || ms >= waits[i - 1]), String(waits));
    assert.equal(await launching, undefined); // with the store back, it serves
    await postern.stop();
  });

  it('of one that hangs says so, and that it was killed for it', async () => {
    const postern = await Postern.start({ sections: { log: json } });
    const [, pid] = postern.pids('httpd');
    process.kill(pid, 'SIGSTOP');
    const d = await death(postern, (line) => line.child_pid === pid, 30000);
    isWhole(d, 'httpd', 1);
    assert.equal(d.cause, 'hung: no sign of life');
    assert.equal(d.signal, 9); // stopped, it could not answer SIGABRT
    assert.ok(d.age_ms >= 10000);
    assert.ok(lines(postern).some((line) => line.level === 'error' && /^httpd 1, pid \d+, gave no sign of life for \d+ ms: killed/.test(line.message)));
    await waitFor('its successor', () => postern.pids('httpd').length === 2);
    await postern.stop();
  });

  it('has the words of one that is out of memory', async () => {
    const postern = await Postern.start({ sections: { log: json, httpd: 'children = 1' } });
    const [pid] = postern.pids('httpd');
    assert.equal(spawnSync('prlimit', ['--pid', String(pid), `--data=${8 << 20}`]).status, 0);
    await postern.post(newsletterForm(readers(1000), { html: 'x'.repeat(20 << 20) })).catch(() => {});
    const d = await death(postern, (line) => line.child_pid === pid);
    isWhole(d, 'httpd', 0);
    assert.equal(d.signal, 6);
    assert.match(d.last_words, /^out of memory: \d+ bytes$/);
    assert.match(d.calls, /(^|,)postern\+0x[0-9a-f]+/);
    await waitFor('its successor', () => postern.healthy());
    await postern.stop();
  });
});
