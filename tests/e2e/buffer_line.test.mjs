// The buffer queue when a machine's line to it is cut: two machines never send the same part at once.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import { allSent, clean, closeClients, cloud, depth, eventQueue, names, node, sentBy } from './buffer_cloud.mjs';
import { audit, isSettled, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(closeClients);
after(stopAll);

/** A line to a port of this machine that can be cut. */
async function cuttable(port) {
  const sockets = new Set();
  let isCut = false;
  const server = net.createServer((near) => {
    if (isCut) return near.destroy();
    const far = net.connect(port, '127.0.0.1');
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut() {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    mend() {
      isCut = false;
    },
    close() {
      isCut = true;
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

describe('two machines', () => {
  it('when one no longer reaches the queue, but still SES, it stops before the other takes over', async () => {
    const { sandbox, aws, buffer, events } = await cloud();
    const eventsOfB = await eventQueue(aws, 'events-of-b'); // from before the first mail on
    const line = await cuttable(Number(new URL(sandbox.url).port));
    const slow = { sender: 'max_rate = 60' };
    const a = await node(sandbox, buffer, events, { ...slow, sqs: line.url });
    const to = readers(1000);
    const form = newsletterForm(to);
    assert.equal((await a.post(form)).status, 200);
    await waitFor('the first at work', () => sentBy(a) > 60, 60000, 100);
    line.cut();
    const b = await node(sandbox, buffer, eventsOfB, slow);
    await waitFor('the other at work', () => sentBy(b) > 60, 90000, 100);
    line.mend();
    await waitFor('every mail', allSent(sandbox, 1000), 90000, 250);
    await waitFor("the second's books", () => isSettled(b.batches()), 60000, 200);
    await waitFor("the first's books", () => isSettled(a.batches()), 90000, 200);
    await waitFor('an empty queue', async () => (await depth(aws, buffer)) === 0, 90000, 250);
    for (const postern of [a, b]) {
      const report = await audit(postern, sandbox, names(form, to));
      assert.deepEqual({ ...report, books: null }, clean);
    }
    assert.match(a.log(), /let go|handed on/);
    await a.stop();
    await b.stop();
    line.close();
  });
});
