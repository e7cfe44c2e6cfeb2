// The life of a Postern: stop, reload, a second instance, a dead writer.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import { Postern, audit, binary, freePort, isSettled, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

after(stopAll);
const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };

describe('a Postern', () => {
  it('stops in the middle of a newsletter and goes on where it was', async () => {
    const sandbox = await startSandbox();
    await sandbox.set({ ...quiet, latency_ms: 20 });
    const postern = await Postern.start({ sandbox, sections: { sender: 'max_rate = "400"\ndoubt_window = "20s"' } });
    const form = newsletterForm(readers(1000));
    assert.equal((await postern.post(form)).status, 200);
    await waitFor('some mails', async () => (await sandbox.stats()).accepted_recipients > 100);
    assert.deepEqual(await postern.stop('SIGTERM'), { code: 0, signal: null });
    const sent = (await sandbox.stats()).accepted_recipients;
    assert.ok(sent < 1000);
    await postern.launch();
    await waitFor('the books', () => isSettled(postern.batches()), 60000);
    const report = await audit(postern, sandbox, readers(1000).map((a) => `${form.emailId} ${a}`));
    assert.deepEqual({ ...report, books: null }, { missing: 0, duplicates: 0, unaccounted: 0, books: null });
    await postern.stop('SIGQUIT');
  });

  it('reloads under load without a failed request or a doubled mail, and refuses a bad file', async () => {
    const sandbox = await startSandbox();
    await sandbox.set(quiet);
    const postern = await Postern.start({ sandbox, sections: { sender: 'max_rate = "800"\ndoubt_window = "20s"' } });
    const forms = Array.from({ length: 6 }, (_, i) => newsletterForm(readers(200, 'reload', i * 200)));
    let failures = 0;
    const posting = (async () => {
      for (const form of forms) {
        const res = await postern.post(form, { headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}`, Connection: 'close' } }).catch((e) => e);
        if (res.status !== 200) failures++;
        await sleep(100);
      }
    })();
    await sleep(150);
    postern.child.kill('SIGHUP');
    await posting;
    assert.equal(failures, 0);
    await waitFor('new children', () => /read again/.test(postern.log()));
    const good = fs.readFileSync(postern.confFile, 'utf8');
    fs.writeFileSync(postern.confFile, `${good}\nhttpd { children = many }\n`);
    postern.child.kill('SIGHUP');
    await waitFor('the refusal', () => /not taken over/.test(postern.log()) && /httpd\.children = "many"/.test(postern.log()));
    fs.writeFileSync(postern.confFile, good);
    await waitFor('the books', () => isSettled(postern.batches()), 40000);
    const expected = forms.flatMap((f, i) => readers(200, 'reload', i * 200).map((a) => `${f.emailId} ${a}`));
    const report = await audit(postern, sandbox, expected);
    assert.deepEqual({ ...report, books: null }, { missing: 0, duplicates: 0, unaccounted: 0, books: null });
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });

  it('is alone on its state directory', async () => {
    const postern = await Postern.start();
    const other = `${postern.dir}/other.conf`;
    fs.writeFileSync(other, fs.readFileSync(postern.confFile, 'utf8').replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${await freePort()}`));
    const second = spawnSync(binary, ['-c', other], { encoding: 'utf8', timeout: 20000 });
    assert.equal(second.status, 1);
    assert.match(second.stderr, /another Postern runs on state_dir/);
    assert.equal(await postern.healthy(), true);
    await postern.stop();
  });

  it('waits for a port that its predecessor has not let go of yet', async () => {
    const port = await freePort();
    const holder = net.createServer((socket) => socket.destroy()).listen(port, '127.0.0.1');
    const starting = Postern.start({ port });
    await sleep(700);
    await new Promise((resolve) => holder.close(resolve));
    const postern = await starting;
    assert.equal(await postern.healthy(), true);
    await postern.stop();
  });

  it('answers reads, and refuses posts for now, while its writer is stopped', async () => {
    const postern = await Postern.start();
    assert.equal((await postern.post(newsletterForm(readers(5)))).status, 200);
    await waitFor('the books', () => isSettled(postern.batches()));
    const [writer] = postern.children();
    process.kill(writer, 'SIGSTOP');
    try {
      const res = await postern.request('GET', '/v3/mg.example.com/events?limit=10&ascending=yes&begin=1');
      assert.equal(res.status, 200); // up to the old watermark: less, never wrong
      await waitFor('bad health', async () => !(await postern.healthy()), 10000, 200);
    } finally {
      process.kill(writer, 'SIGCONT');
    }
    await waitFor('good health', () => postern.healthy(), 10000, 100);
    await postern.stop();
  });
});
