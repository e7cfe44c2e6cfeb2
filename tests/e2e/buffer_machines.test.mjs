// The buffer queue with two machines, each with its own store and its own event queue on the same topics.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { allSent, clean, closeClients, cloud, depth, eventQueue, names, node, sentBy } from './buffer_cloud.mjs';
import { audit, isSettled, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(closeClients);
after(stopAll);

/** SIGKILL for the master and all its children, and its disk is gone. */
async function loseForGood(postern) {
  const pids = [postern.child.pid, ...postern.children()];
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await postern.child.ended;
  fs.rmSync(path.join(postern.dir, 'state'), { recursive: true, force: true });
}

describe('two machines', () => {
  it('share 2,000 readers; one is lost for good in the middle: nobody is missing, nobody gets it twice', async () => {
    const { sandbox, aws, buffer, events } = await cloud();
    const slow = { sender: 'max_rate = 120' };
    const a = await node(sandbox, buffer, events, slow);
    const b = await node(sandbox, buffer, await eventQueue(aws, 'events-of-b'), slow);
    const forms = [0, 1].map((i) => {
      const to = readers(1000, `p${i}-`);
      return { to, form: newsletterForm(to) };
    });
    for (const { form } of forms) assert.equal((await a.post(form)).status, 200);
    await waitFor('both at work', () => sentBy(a) > 100 && sentBy(b) > 100, 60000, 100);
    await loseForGood(a);
    // Its client asks again, now at the other machine.
    assert.equal((await b.post(forms[0].form)).status, 200);
    await waitFor('every mail', allSent(sandbox, 2000), 90000, 250);
    await waitFor('the books', () => isSettled(b.batches()), 60000, 200);
    await waitFor('an empty queue', async () => (await depth(aws, buffer)) === 0, 90000, 250);
    const report = await audit(b, sandbox, forms.flatMap(({ form, to }) => names(form, to)));
    assert.deepEqual({ ...report, books: null }, clean);
    await b.stop();
  });
});
