// The buffer queue with one machine whose processes die, and whose SQS is not there: each reader gets one mail.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { allSent, clean, closeClients, cloud, depth, names, node } from './buffer_cloud.mjs';
import { Postern, audit, freePort, isSettled, newsletterForm, readers, sleep, stopAll, waitFor } from './harness.mjs';

after(closeClients);
after(stopAll);

describe('one machine', () => {
  it('answers nothing while SQS takes nothing; a repeat waits with the first, and each reader gets one mail', async () => {
    const { sandbox, aws, buffer, events } = await cloud();
    await sandbox.set({ max_send_rate: 10000 });
    const dead = `http://127.0.0.1:${await freePort()}`;
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-test-'));
    const first = await Postern.start({
      dir,
      sandbox,
      aws: `aws { region = "us-east-1" access_key_id = "sandbox" secret_access_key = "sandbox-secret-key"
              ses_endpoint = "${sandbox.url}" sqs_endpoint = "${dead}" }
            queues { newsletter_buffer = "${buffer}" newsletter_events = "${events}" buffer_visibility = "6s" }`,
      sections: { sender: 'doubt_window = "12s"', httpd: 'children = 1' },
    });
    const to = readers(60);
    const form = newsletterForm(to);
    const answers = [first.post(form), first.post(form)].map((p) => p.then((res) => res.status, () => 0));
    await waitFor('the trouble', () => /SendMessage fails/.test(first.log()));
    await waitFor('the repeat', () => /whose first is on its way/.test(first.log()));
    assert.equal(first.batches().length, 0);
    await first.stop('SIGKILL');
    assert.deepEqual((await Promise.all(answers)).filter((status) => status === 200), []);
    assert.equal(await depth(aws, buffer), 0);
    // The next start has SQS: what was staged goes, and the client's repeat is the same mail.
    fs.writeFileSync(first.confFile, fs.readFileSync(first.confFile, 'utf8').replace(dead, sandbox.url));
    await first.launch();
    assert.equal((await first.post(form)).status, 200);
    await waitFor('every mail', allSent(sandbox, 60), 60000);
    await waitFor('the books', () => isSettled(first.batches()));
    await waitFor('an empty queue', async () => (await depth(aws, buffer)) === 0, 80000, 200);
    assert.equal((await sandbox.stats()).accepted_recipients, 60);
    await first.stop();
  });

  it('survives the death of each process on the way', async () => {
    const { sandbox, buffer, aws, events } = await cloud();
    const postern = await node(sandbox, buffer, events, { sender: 'max_rate = 150' });
    const forms = [];
    const deaths = ['poller', 'writer', 'sender', 'poller', 'writer'];
    for (const [i, role] of deaths.entries()) {
      const to = readers(200, `k${i}-`);
      const form = newsletterForm(to);
      forms.push(...names(form, to));
      const asked = postern.post(form).then((res) => res.status, () => 0);
      await sleep(i * 7);
      for (const pid of postern.pids(role)) process.kill(pid, 'SIGKILL');
      if ((await asked) !== 200)
        await waitFor('a repeat that is taken', async () => (await postern.post(form).catch(() => ({}))).status === 200, 40000);
    }
    await waitFor('every mail', allSent(sandbox, forms.length), 80000, 200);
    await waitFor('the books', () => isSettled(postern.batches()), 60000, 200);
    const report = await audit(postern, sandbox, forms);
    assert.deepEqual({ ...report, books: null }, clean);
    await waitFor('an empty queue', async () => (await depth(aws, buffer)) === 0, 80000, 200);
    await postern.stop();
  });
});
