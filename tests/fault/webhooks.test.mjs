// SIGKILL in the middle of telling events to webhooks: of the courier, of the writer, of all children, of everything.
// At the end each event was told to each URL at least once, and none again once its 406 was stored.
//
// KILLS (default 16) and SEED size and repeat the run.
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { Receiver } from '../e2e/receiver.mjs';
import { Postern, domain, execCli, jsonLines, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

after(stopAll);

const KILLS = Number(process.env.KILLS ?? 16);
const READERS = 1500;

describe('SIGKILL while events are told', () => {
  it(`${KILLS} times: each event at least once, none after its 406 is stored`, async () => {
    const sandbox = await startSandbox();
    await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 50 });
    const postern = await Postern.start({
      sandbox,
      conf: `webhooks { allow_private = true per_url = 4 retries = {${Array.from({ length: 12 }, () => '"150ms"').join(', ')}} }`,
      sections: { sender: 'doubt_window = "8s"' },
    });
    const taken = new Set(); // "path id", once the receiver has said 2xx
    const receiver = await Receiver.start(undefined, (path, attempt, response, event) => {
      const status = path === '/406' ? 406 : path === '/flaky' && attempt === 1 ? 500 : 200;
      // Long enough that a kill finds some under way.
      setTimeout(() => {
        if (status === 200) taken.add(`${path} ${event.id}`);
        response.writeHead(status).end();
      }, 15);
    });
    const configure = async (kind, ...paths) => {
      const body = new URLSearchParams([['id', kind], ...paths.map((path) => ['url', receiver.url + path])]);
      assert.equal((await postern.request('POST', `/v3/domains/${domain}/webhooks`, { body })).status, 200);
    };
    await configure('delivered', '/ok', '/flaky', '/406');
    await configure('accepted', '/ok');
    receiver.key = postern.cli('webhooks', 'key', domain).trim();
    for (let at = 0; at < READERS; at += 500) assert.equal((await postern.post(newsletterForm(readers(500, 'reader', at)))).status, 200);

    // As the store says which are refused, and from when on.
    const refused = new Map(); // recipient → when it was seen
    const look = async () => {
      for (const f of jsonLines(await execCli(postern, 'webhooks', 'failures', '--json', '--limit', '100000')))
        if (!refused.has(f.recipient)) refused.set(f.recipient, Date.now());
    };
    const kill = (pid) => {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // it had just left
      }
    };
    await waitFor('the first', () => receiver.calls.length > 50);
    let amid = 0; // kills that met an unfinished outbox
    for (let round = 0; round < KILLS; round++) {
      const before = receiver.calls.length;
      await waitFor('more', () => receiver.calls.length > before || taken.size >= 3 * READERS, 20000, 5);
      if (taken.size < 3 * READERS) amid++;
      const [courier] = postern.pids('courier');
      if (round % 4 === 3) {
        const everybody = postern.children();
        postern.child.kill('SIGKILL');
        everybody.forEach(kill);
        await postern.child.ended;
        postern.how = undefined;
        await postern.launch();
      } else if (round % 4 === 2) {
        postern.children().forEach(kill);
      } else if (round % 4 === 1) {
        postern.pids('writer').forEach(kill);
      } else if (courier) {
        kill(courier);
      }
      await waitFor('the store', () => postern.healthy(), 20000);
      await look();
    }
    assert.ok(amid > KILLS / 2, `only ${amid} kills met anything`);

    const list = () => jsonLines(postern.cli('webhooks', '--json'));
    await waitFor('nothing left', () => taken.size >= 3 * READERS && list().every((t) => t.waiting === 0), 120000, 300);
    await look();
    const of = (path, kind) => new Set(receiver.of(path).filter((call) => call.event.event === kind).map((call) => call.event.id));
    await sleep(1100); // an answer covers events up to a second ago
    const stored = await postern.walk('begin=1&ascending=yes&limit=300');
    const ids = (kind) => new Set(stored.filter((e) => e.event === kind).map((e) => e.id));
    assert.equal(ids('delivered').size, READERS);
    assert.equal(ids('accepted').size, READERS);
    for (const [path, kind] of [['/ok', 'delivered'], ['/ok', 'accepted'], ['/flaky', 'delivered'], ['/406', 'delivered']]) {
      assert.deepEqual(of(path, kind), ids(kind), `${path} ${kind}`);
      if (path !== '/406') for (const id of ids(kind)) assert.ok(taken.has(`${path} ${id}`), `${path} ${id} was not taken`);
    }
    assert.ok(receiver.calls.every((call) => receiver.isSigned(call)));
    assert.equal(new Set(receiver.calls.map((call) => call.token)).size, receiver.calls.length);
    assert.equal(refused.size, READERS);
    for (const call of receiver.of('/406')) assert.ok(call.at <= refused.get(call.event.recipient) + 20, `${call.event.recipient} was told again after its 406`);
    assert.deepEqual(jsonLines(postern.cli('check', '--json')).filter((line) => line.problem), []);
    await postern.stop();
    await receiver.stop();
  });
});
