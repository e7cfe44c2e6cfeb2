// Two machines that tell each other what changes on one of them, over the topic of SES's events.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { account, allSent, closeClients, cloud, eventQueue, node } from './buffer_cloud.mjs';
import { domain, freePort, isSettled, jsonLines, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(closeClients);
after(stopAll);

const topic = `arn:aws:sns:us-east-1:${account}:ghost-mailgun-proxy-events`;
const shared = { queues: `replication_topic = "${topic}"` };
const form = (fields) => new URLSearchParams(fields);
const listed = async (postern, list, address) => {
  const res = await postern.request('GET', `/v3/${domain}/${list}/${encodeURIComponent(address)}`);
  return res.status === 200 ? res.json() : null;
};
const add = async (postern, list, fields) =>
  assert.equal((await postern.request('POST', `/v3/${domain}/${list}`, { body: form(fields) })).status, 200);
const remove = async (postern, list, address) =>
  assert.equal((await postern.request('DELETE', `/v3/${domain}/${list}${address ? `/${encodeURIComponent(address)}` : ''}`)).status, 200);
const untold = (postern) => postern.status().replication.untold;

async function machines(more = {}) {
  const { sandbox, aws, buffer } = await cloud();
  const [queueOfA, queueOfB] = [await eventQueue(aws, 'events-of-a'), await eventQueue(aws, 'events-of-b')];
  const a = await node(sandbox, buffer, queueOfA, { ...shared, ...more });
  const b = await node(sandbox, buffer, queueOfB, { ...shared, ...more });
  return { sandbox, aws, queueOfB, a, b };
}

/** By id, what the API tells but for what is each machine's own: times, and of SES's events what only the batch knows. */
async function eventsOf(postern) {
  const items = await postern.walk(`begin=${Math.floor(Date.now() / 1000) - 3600}&ascending=yes&limit=300`);
  return new Map(
    items.map((item) => {
      const { timestamp, 'ses-timestamp': ses, storage, ...told } = item;
      if (told['ses-id']) told.message = told.message.headers['message-id'];
      return [item.id, told];
    }),
  );
}

describe('two machines with a replication topic', () => {
  let m;
  before(async () => {
    m = await machines({ sender: 'max_rate = 400' });
  });

  it('have the same lists: what is put on one at A is on it at B, and what is taken off at B is off at A', async () => {
    const { a, b } = m;
    await add(a, 'bounces', { address: 'Gone@readers.example.net', code: '550', error: 'no such user' });
    await waitFor('the bounce at B', () => listed(b, 'bounces', 'gone@readers.example.net'));
    assert.deepEqual(await listed(b, 'bounces', 'gone@readers.example.net'), await listed(a, 'bounces', 'gone@readers.example.net'));
    await remove(b, 'bounces', 'gone@readers.example.net');
    await waitFor('nothing at A', async () => !(await listed(a, 'bounces', 'gone@readers.example.net')));

    for (const [on, tag] of [[a, 'weekly'], [b, 'daily']]) {
      await add(on, 'unsubscribes', { address: 'some@readers.example.net', tag });
      await waitFor(`${tag} at both`, async () => {
        const entries = await Promise.all([a, b].map((p) => listed(p, 'unsubscribes', 'some@readers.example.net')));
        return entries.every((entry) => entry?.tags.includes(tag));
      });
    }
    await a.request('DELETE', `/v3/${domain}/unsubscribes/some@readers.example.net?tag=weekly`);
    await waitFor('one tag at B', async () => (await listed(b, 'unsubscribes', 'some@readers.example.net'))?.tags.join() === 'daily');

    await add(b, 'whitelists', { domain: 'friends.example' });
    await waitFor('the allowlist at A', () => listed(a, 'whitelists', 'friends.example'));
    await add(a, 'complaints', { address: 'cross@readers.example.net' });
    await waitFor('the complaint at B', () => listed(b, 'complaints', 'cross@readers.example.net'));
    await remove(b, 'complaints');
    await waitFor('no complaint at A', async () => !(await listed(a, 'complaints', 'cross@readers.example.net')));
    await waitFor('nothing left to tell', () => untold(a) === 0 && untold(b) === 0);
  });

  it('give the same events: those of SES, and those that a Postern makes itself', async () => {
    const { sandbox, a, b } = m;
    const to = readers(600, 'e-');
    await add(a, 'bounces', { address: to[7] });
    await waitFor('the bounce at B', () => listed(b, 'bounces', to[7]));
    const newsletter = newsletterForm(to);
    assert.equal((await a.post(newsletter)).status, 200);
    const single = form({ from: `a@${domain}`, to: 'one@readers.example.net', subject: 's', text: 't' });
    assert.equal((await b.request('POST', `/v3/${domain}/messages`, { body: single })).status, 200);
    await waitFor('every mail', allSent(sandbox, 600), 60000, 200);
    await waitFor('the books', () => [a, b].every((p) => isSettled(p.batches())), 60000, 200);
    const count = (events, name) => [...events.values()].filter((told) => told.event === name).length;
    await waitFor('all events at both', async () => {
      const both = await Promise.all([a, b].map((p) => eventsOf(p)));
      return both.every((events) => count(events, 'accepted') === 601 && count(events, 'delivered') === 600 && count(events, 'failed') === 1);
    }, 60000, 500);
    const [ofA, ofB] = await Promise.all([a, b].map((p) => eventsOf(p)));
    assert.deepEqual([...ofB.keys()].sort(), [...ofA.keys()].sort());
    for (const [id, told] of ofA) assert.deepEqual(ofB.get(id), told);
    for (const p of [a, b]) assert.equal((await p.walk(`begin=${Math.floor(Date.now() / 1000) - 3600}&ascending=yes&recipient=${to[9]}&event=accepted`)).length, 1);
    for (const p of [a, b]) assert.match(p.cli('check'), /: 0 problems/);
  });

  it('pause and cancel together: what is asked for at A stops what B has', async () => {
    const { a, b } = m;
    assert.match(a.cli('domains', 'pause', domain), /paused/);
    await waitFor('B to be paused', () => b.status().holds.some((hold) => hold.reason === 'paused'));
    assert.match(b.cli('domains', 'resume', domain), /sent again/);
    await waitFor('A to go on', () => !a.status().holds.some((hold) => hold.reason === 'paused'));
    await waitFor('nothing left to tell', () => untold(a) === 0 && untold(b) === 0);
  });

  it('refuses what no Postern tells, and what is for nobody here', async () => {
    const { aws, b, queueOfB } = m;
    const node16 = '00000000000000aa';
    const bodies = [
      [{ 'postern-changes': 1, node: node16, changes: ['AAAA'] }, /cannot be read/],
      [{ 'postern-changes': 9, node: node16, changes: ['AAAA'] }, /version/],
      [{ 'postern-changes': 1, node: 'x', changes: ['AAAA'] }, /does not say which one/],
      [{ 'postern-changes': 1, node: node16, changes: 'no' }, /no list of base64/],
      [{ Type: 'Notification', TopicArn: 'arn:aws:sns:us-east-1:1:other', Message: JSON.stringify({ 'postern-changes': 1, node: node16, changes: ['AAAA'] }) }, /another topic/],
    ];
    for (const [body] of bodies) await aws.sqs('SendMessage', { QueueUrl: queueOfB, MessageBody: JSON.stringify(body) });
    await waitFor('the dead letters', () => b.status().deadletters === bodies.length);
    const why = jsonLines(b.cli('deadletters', '--json')).map((letter) => letter.why);
    for (const [, pattern] of bodies) assert.equal(why.filter((text) => pattern.test(text)).length, 1, String(pattern));
  });
});

describe('keys', () => {
  const other = 'two.example.com';
  const domains = { [domain]: [key], [other]: ['key-of-the-other'] };
  // A reload may close a kept connection between two requests: 0.
  const status = (postern, secret, at = domain) =>
    postern.request('GET', `/v3/${at}/events?limit=1`, { auth: `api:${secret}` }).then((res) => res.status, () => 0);
  const ask = (postern, ...words) => JSON.parse(postern.cli('key', ...words, '--json'));
  const letters = (postern) => jsonLines(postern.cli('deadletters', '--json'));
  const told = (...all) => waitFor('nothing left to tell', () => all.every((postern) => untold(postern) === 0));

  it('that are added on one machine open the other, and those withdrawn there close here, without a reload', async () => {
    const { aws, queueOfB, a, b } = await machines({ domains });
    const heard = await eventQueue(aws, 'for-the-forger');
    const added = ask(a, 'add', '--domain', domain, '--label', 'Ghost');
    assert.equal(await status(a, added.key), 200);
    await waitFor('the key at B', async () => (await status(b, added.key)) === 200);
    assert.equal(await status(b, added.key, other), 401);
    const [row] = jsonLines(b.cli('key', 'list', '--json')).filter((r) => added.sha256.startsWith(r.id));
    assert.deepEqual([row.state, row.label, row.domain, row.kind], ['added', 'Ghost', domain, 'full']);

    const sender = ask(b, 'add', '--domain', domain, '--sending');
    const send = (postern) => postern.post(newsletterForm(readers(1, 'k-')), { auth: `api:${sender.key}` });
    await waitFor('the sending key at A', async () => (await send(a)).status === 200);
    assert.equal(await status(a, sender.key), 401);

    assert.equal(ask(b, 'withdraw', added.sha256.slice(0, 8)).done, true);
    assert.equal(await status(b, added.key), 401);
    await waitFor('the key gone at A', async () => (await status(a, added.key)) === 401);

    // Now one that stands in both files, sealed with itself, as there is no other: what it had let in goes with it.
    const next = ask(a, 'add', '--domain', domain);
    assert.match(ask(a, 'withdraw', key).words, /still stands in proxy\.conf.*before the next change put a key of mg\.example\.com into every machine's/);
    await waitFor('the key of the files gone at B', async () => (await status(b, key)) === 401);
    await waitFor('the next key at B', async () => (await status(b, next.key)) === 200);
    assert.match(ask(b, 'add', '--domain', domain).words, /on this machine alone/);
    assert.equal(await status(b, 'key-of-the-other', other), 200);
    await told(a, b);

    // What went over the topic shows neither key nor digest, and is nothing without its seal.
    const messages = [];
    await waitFor('what was told', async () => {
      const { Messages } = await aws.sqs('ReceiveMessage', { QueueUrl: heard, MaxNumberOfMessages: 10 });
      for (const { Body } of Messages ?? []) {
        const message = JSON.parse(Body).Message ?? Body;
        if (message.includes('postern-changes')) messages.push(JSON.parse(message));
      }
      return messages.flatMap((m) => m.changes).length >= 5;
    });
    const changes = messages.flatMap((m) => m.changes).map((text) => Buffer.from(text, 'base64url'));
    for (const { key: secret, sha256 } of [added, sender, next])
      for (const bytes of changes) assert.ok(!bytes.includes(secret) && !bytes.includes(Buffer.from(sha256, 'hex')));
    for (const postern of [a, b]) assert.deepEqual(letters(postern), []);
    const forged = Buffer.from(changes[0]);
    for (let i = forged.length - 40; i < forged.length - 20; i++) forged[i] ^= 1;
    await aws.sqs('SendMessage', { QueueUrl: queueOfB, MessageBody: JSON.stringify({ ...messages[0], node: '00000000000000aa', changes: [forged.toString('base64url')] }) });
    await waitFor('the dead letter', () => letters(b).length === 1);
    assert.match(letters(b)[0].why, /API keys whose seal is not right: it is forged, or damaged/);
    const rows = b.cli('key', 'list', '--json');
    // A true one again changes nothing.
    await aws.sqs('SendMessage', { QueueUrl: queueOfB, MessageBody: JSON.stringify(messages[0]) });
    await told(b);

    for (const postern of [a, b]) {
      await postern.stop();
      await postern.launch();
      assert.deepEqual([await status(postern, next.key), await status(postern, added.key), await status(postern, key)], [200, 401, 401]);
      for (const { key: secret } of [added, sender, next]) assert.ok(!postern.log().includes(secret));
      assert.match(postern.cli('check'), /: 0 problems/);
    }
    assert.equal(b.cli('key', 'list', '--json'), rows);
    assert.equal(letters(b).length, 1);
  });

  it('sealed with a key that this machine does not have are dead letters, and good once it has it', async () => {
    const { sandbox, aws, buffer, events } = await cloud();
    const a = await node(sandbox, buffer, events, { ...shared, domains });
    const b = await node(sandbox, buffer, await eventQueue(aws, 'events-of-b'), { ...shared, domains: { ...domains, [domain]: ['key-of-b-alone'] } });
    const added = ask(a, 'add', '--domain', domain);
    await waitFor('the dead letter', () => letters(b).length === 1);
    assert.match(letters(b)[0].why, /sealed with a key that this machine's proxy\.conf does not have: for mg\.example\.com/);
    assert.equal(await status(b, added.key), 401);
    fs.writeFileSync(b.confFile, fs.readFileSync(b.confFile, 'utf8').replace('"key-of-b-alone"', `"key-of-b-alone", "${key}"`));
    b.child.kill('SIGHUP');
    await waitFor('the file', async () => (await status(b, key)) === 200, 30000);
    await waitFor('a replay that is understood', () => {
      if (letters(b).length > 0) b.cli('deadletters', 'replay', 'all');
      return letters(b).length === 0;
    }, 30000, 500);
    await waitFor('the key at B', async () => (await status(b, added.key)) === 200);
  });
});

describe('many changes', () => {
  it('all arrive, whichever processes die meanwhile', async () => {
    const { a, b } = await machines();
    const all = [];
    for (const [name, postern] of Object.entries({ a, b }))
      for (const i of [0, 1]) {
        const addresses = readers(1000, `${name}${i}-`);
        all.push(...addresses);
        const body = JSON.stringify(addresses.map((address) => ({ address, code: '550' })));
        const post = () => postern.request('POST', `/v3/${domain}/bounces`, { body, headers: { 'Content-Type': 'application/json' } }).then((res) => res.status, () => 0);
        const asked = post();
        for (const p of [a, b]) for (const role of ['poller', 'writer']) for (const pid of p.pids(role)) process.kill(pid, 'SIGKILL');
        if ((await asked) !== 200) await waitFor('a repeat that is taken', async () => (await post()) === 200);
      }
    const onList = async (postern) => {
      const found = [];
      for (let url = `/v3/${domain}/bounces?limit=1000`; ; ) {
        const { items, paging } = await (await postern.request('GET', url)).json();
        if (items.length === 0) return found.sort();
        found.push(...items.map((item) => item.address));
        url = paging.next.replace(/^https?:\/\/[^/]+/, '');
      }
    };
    for (const p of [a, b]) await waitFor('all of both', async () => (await onList(p)).length === all.length, 60000, 200);
    await waitFor('nothing left to tell', () => untold(a) === 0 && untold(b) === 0, 60000);
    assert.deepEqual(await onList(b), await onList(a));
    assert.deepEqual(await onList(a), all.sort());
    for (const p of [a, b]) assert.equal(p.status().deadletters, 0);
  });
});

describe('a newsletter that is shared', () => {
  it('stops everywhere when it is cancelled at one machine, and so do its parts that come later', async () => {
    const { sandbox, a, b } = await machines({ sender: 'max_rate = 20' });
    const emailId = 'aaaaaaaaaaaaaaaaaaaaaaaa';
    for (const i of [0, 1]) assert.equal((await a.post(newsletterForm(readers(1000, `c${i}-`), { emailId }))).status, 200);
    await waitFor('both at work', () => a.batches().length > 0 && b.batches().length > 0, 60000, 100);
    assert.match(a.cli('batches', 'cancel', a.batches()[0].batch), /cancelled/);
    await waitFor('no open recipient at either', () => [a, b].every((p) => isSettled(p.batches())), 60000, 200);
    await waitFor('all parts to be taken and stopped', () =>
      [a, b].flatMap((p) => p.batches()).reduce((sum, batch) => sum + batch.cancelled + batch.sent, 0) === 2000, 100000, 500);
    assert.ok((await sandbox.stats()).accepted_recipients < 1000);
  });
});

describe('a machine that dies with something to tell', () => {
  it('tells it after its restart', async () => {
    const { sandbox, aws, buffer, events } = await cloud();
    const dead = `http://127.0.0.1:${await freePort()}`;
    const a = await node(sandbox, buffer, events, { ...shared, sns: dead });
    const b = await node(sandbox, buffer, await eventQueue(aws, 'events-of-b'), shared);
    await add(a, 'bounces', { address: 'late@readers.example.net' });
    await waitFor('the trouble', () => /Publish fails/.test(a.log()));
    assert.equal(untold(a), 1);
    const pids = [a.child.pid, ...a.children()];
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await a.child.ended;
    a.how = undefined;
    fs.writeFileSync(a.confFile, fs.readFileSync(a.confFile, 'utf8').replace(dead, sandbox.url));
    await a.launch();
    await waitFor('the bounce at B', () => listed(b, 'bounces', 'late@readers.example.net'));
    await waitFor('nothing left to tell', () => untold(a) === 0);
  });
});
