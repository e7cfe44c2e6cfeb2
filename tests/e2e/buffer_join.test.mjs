// A machine that comes to a buffer queue late: its event queues are younger than the mail in it. It knows of nobody who was served
// before, so it takes what is newer and leaves the rest to others.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { after, describe, it } from 'node:test';
import { allSent, clean, closeClients, cloud, eventQueue, names, node, sentBy } from './buffer_cloud.mjs';
import { audit, execCli, isSettled, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

let proxy;
after(closeClients);
after(stopAll);
after(() => {
  proxy?.close();
  proxy?.closeAllConnections();
});

const minute = 60000;
const metricsKey = 'metrics-key-of-the-late-one';
const objectId = (wallMs) => Math.floor(wallMs / 1000).toString(16).padStart(8, '0') + 'a'.repeat(16);

/** SQS, where these queues were made when this says: {name: wall ms}. */
async function aged(to, made) {
  proxy = http.createServer((req, res) => {
    const chunks = [];
    req.on('data', (d) => chunks.push(d));
    req.on('end', () => {
      const body = Buffer.concat(chunks);
      const onward = http.request(to + req.url, { method: req.method, headers: req.headers, agent: false }, (answer) => {
        const parts = [];
        answer.on('data', (d) => parts.push(d));
        answer.on('end', () => {
          let text = Buffer.concat(parts);
          if (/GetQueueAttributes/.test(req.headers['x-amz-target'])) {
            const told = JSON.parse(text);
            const name = JSON.parse(body).QueueUrl.split('/').pop();
            if (told.Attributes && made[name]) told.Attributes.CreatedTimestamp = String(Math.floor(made[name] / 1000));
            text = Buffer.from(JSON.stringify(told));
          }
          res.writeHead(answer.statusCode, { ...answer.headers, 'content-length': text.length });
          res.end(text);
        });
      });
      onward.on('error', () => res.destroy());
      onward.end(body);
    });
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${proxy.address().port}`;
}

const status = async (postern) => JSON.parse(await execCli(postern, 'status', '--json'));

describe('a machine that joins', () => {
  it('gives back what may have gone out before it could hear of it, takes what is newer, and all once it is told to', async () => {
    const { sandbox, aws, buffer, events } = await cloud();
    const a = await node(sandbox, buffer, events);
    const old = { to: readers(20, 'old-') };
    old.form = newsletterForm(old.to, { emailId: objectId(Date.now() - 60 * minute) });
    assert.equal((await a.post(old.form)).status, 200);
    assert.equal(sentBy(a), 0);
    for (const pid of [a.child.pid, ...a.children()]) process.kill(pid, 'SIGKILL');
    await a.child.ended;

    const sqs = await aged(sandbox.url, { 'buffer.fifo': Date.now() - 30 * 24 * 60 * minute, 'events-of-b': Date.now() - 6 * minute });
    const b = await node(sandbox, buffer, await eventQueue(aws, 'events-of-b'), { sqs, sections: { metrics: `key = "${metricsKey}"` } });
    await waitFor('the old one is given back', async () => (await status(b)).buffer.returned > 0, 30000, 200);
    const young = { to: readers(30, 'young-') };
    young.form = newsletterForm(young.to, { emailId: objectId(Date.now()) });
    assert.equal((await b.post(young.form)).status, 200);
    await waitFor('the young one', allSent(sandbox, 30), 60000, 200);
    assert.deepEqual([...(await sandbox.recipients()).keys()].filter((r) => r.includes('old-')), []);

    // It is told a moment after it is so; the part is held for a doubt window after its last send.
    await waitFor('what it holds', async () => {
      const told = (await status(b)).buffer;
      assert.equal(told.url, buffer);
      return told.read_ms > 0 && told.joins_until_ms > Date.now() && told.parts >= 1 && told.oldest_ms > 0;
    }, 10000, 100);
    const text = await execCli(b, 'status');
    assert.match(text, /^buffer {6}.*buffer\.fifo: \d+ wait, \d+ in flight; this machine holds \d+ parts, \d+ recipients of them to send, the oldest posted .* ago$/m);
    assert.match(text, /this machine is new: until .* given back [1-9]/);
    const metrics = await (await b.request('GET', '/metrics', { auth: `api:${metricsKey}` })).text();
    assert.match(metrics, /^postern_buffer_returned_total [1-9]/m);
    assert.match(metrics, /^postern_buffer_messages\{state="in_flight"\} \d/m);

    fs.writeFileSync(b.confFile, fs.readFileSync(b.confFile, 'utf8').replace('buffer_visibility', 'buffer_join = "0s" buffer_visibility'));
    b.child.kill('SIGHUP');
    await waitFor('the old one', allSent(sandbox, 50), 90000, 250);
    await waitFor('the books', () => isSettled(b.batches()), 60000, 200);
    const report = await audit(b, sandbox, [old, young].flatMap(({ form, to }) => names(form, to)));
    assert.deepEqual({ ...report, books: null }, clean);
    assert.equal((await status(b)).buffer.joins_until_ms, 0);
    await b.stop();
  });
});
