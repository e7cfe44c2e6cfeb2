// Three machines on one buffer queue, each behind a line of its own to AWS. Machines are frozen for longer than the queue's
// visibility timeout (SIGSTOP), cut off from the network (nothing is forwarded in either direction, nothing is closed: what
// was on its way arrives when the line is back), and killed whole (SIGKILL) and started again, while newsletters go out.
// Some clients ask again at another machine. Then the books are made up from what SES has written down:
//
//   nobody is missing, nobody got it twice, every machine's events API has the same complete set of SES's events.
//
// By hand: make machines (RECIPIENTS, default 20000; SEED). As part of the tests: machines.test.mjs.
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { depth, eventQueue, fifo, names, node, sdk, closeClients } from '../e2e/buffer_cloud.mjs';
import { audit, execCli, isSettled, jsonLines, newsletterForm, randomFrom, readers, signal, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

const VISIBILITY_S = 4;
const WINDOW_S = 8; // doubts; what a cut line still carries must be told of within it
const AWAY_MS = VISIBILITY_S * 1000 + 1500; // longer than SQS waits for a machine, shorter than the doubt window
const PER_POST = 1000;
const AT_ONCE = 9; // POSTs, then they come by and by
const KINDS = { delivered: ['Delivery'], opened: ['Open'], clicked: ['Click'], failed: ['Bounce'], complained: ['Complaint'] };

/** A line to a port of this machine that can be cut and mended. */
async function line(port) {
  const pairs = new Set();
  let isCut = false;
  const server = net.createServer({ allowHalfOpen: true }, (near) => {
    const far = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const pair = [near, far];
    pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('data', (bytes) => {
        if (!to.write(bytes)) from.pause();
      });
      to.on('drain', () => isCut || from.resume());
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => pairs.delete(pair));
    }
    if (isCut) for (const socket of pair) socket.pause();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const each = (act) => [...pairs].flat().forEach(act);
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut() {
      isCut = true;
      each((socket) => socket.pause());
    },
    mend() {
      isCut = false;
      each((socket) => socket.resume());
    },
    close() {
      server.close();
      each((socket) => socket.destroy());
    },
  };
}

/** A Postern, its line, and what can happen to both. */
class Machine {
  static async start(name, { sandbox, buffer, events, rate }) {
    const m = new Machine();
    m.line = await line(Number(new URL(sandbox.url).port));
    m.postern = await node(sandbox, buffer, events, {
      ses: m.line.url,
      sqs: m.line.url,
      visibility: `${VISIBILITY_S}s`,
      window: `${WINDOW_S}s`,
      sender: `max_rate = ${rate}`,
    });
    return Object.assign(m, { name, isAway: false });
  }
  pids() {
    return [this.postern.child.pid, ...this.postern.children()];
  }
  async books() {
    return jsonLines(await execCli(this.postern, 'batches', '--json', '--limit', '100000'));
  }
  async sent() {
    return (await this.books()).reduce((sum, batch) => sum + batch.sent, 0);
  }
  async freeze() {
    const pids = this.pids();
    for (const pid of pids) signal(pid, 'SIGSTOP');
    await sleep(AWAY_MS);
    for (const pid of pids.reverse()) signal(pid, 'SIGCONT'); // the master last: it would replace whoever is silent
  }
  async cutOff() {
    this.line.cut();
    await sleep(AWAY_MS);
    this.line.mend();
  }
  async killWhole(restMs) {
    for (const pid of this.pids()) signal(pid, 'SIGKILL');
    await this.postern.child.ended;
    this.postern.how = undefined;
    await sleep(restMs);
    await this.postern.launch();
  }
  async suffer(kind, random) {
    this.isAway = true;
    if (kind === 'frozen') await this.freeze();
    else if (kind === 'cut off') await this.cutOff();
    else await this.killWhole(random(AWAY_MS));
    this.isAway = false;
  }
}

/** Until a machine takes it; a client's own time-out makes it come again, to another one. */
async function untilTaken(machines, form, first) {
  for (let turn = first; ; turn++) {
    const { postern, isAway } = machines[turn % machines.length];
    const res = isAway ? {} : await postern.post(form, { signal: AbortSignal.timeout(10000) }).catch(() => ({}));
    if (res.status === 200) return turn % machines.length;
    await sleep(100);
  }
}

/** {kind: Map of event id → recipient}, as this machine's API tells it. */
async function eventsOf(machine) {
  const found = {};
  for (const kind of Object.keys(KINDS)) {
    const items = await machine.postern.walk(`event=${kind}&limit=300`);
    // A reader of the suppression list is a machine's own affair; here nobody is on one.
    found[kind] = new Map(items.map((item) => [item.id, item.recipient]));
    if (found[kind].size !== items.length) throw new Error(`${machine.name} tells ${kind} events twice`);
  }
  return found;
}

function compareEvents(told, published, failures) {
  for (const [kind, types] of Object.entries(KINDS)) {
    const wanted = types.reduce((sum, type) => sum + (published[type] ?? 0), 0);
    const [first, ...others] = told.map((one) => one[kind]);
    if (first.size !== wanted) failures.push(`${kind}: SES published ${wanted}, the first machine tells ${first.size}`);
    for (const [i, other] of others.entries()) {
      const differ = [...first].filter(([id, recipient]) => other.get(id) !== recipient).length;
      if (differ > 0 || other.size !== first.size) failures.push(`${kind}: machine ${i + 1} tells ${other.size}, the first ${first.size}; ${differ} differ`);
    }
  }
}

async function misfortunes({ machines, random, rounds, isOver, say }) {
  const kinds = ['frozen', 'cut off', 'killed'];
  const count = {};
  for (let round = 0; round < rounds && !(await isOver()); round++) {
    // Each kind at once, each at another machine; then all are well for a while.
    const shift = random(3);
    say(`round ${round + 1}: ${machines.map((m, i) => `${m.name} ${kinds[(i + shift) % 3]}`).join(', ')}`);
    await Promise.all(
      machines.map(async (m, i) => {
        const kind = kinds[(i + shift) % 3];
        await sleep(random(3000)); // one or two of them go on for a while
        await m.suffer(kind, random);
        count[kind] = (count[kind] ?? 0) + 1;
      }),
    );
    await sleep(random(2000));
  }
  return count;
}

async function accounts({ machines, sandbox, aws, buffer, expected, failures }) {
  const taken = await sandbox.recipients();
  const lost = expected.filter((name) => !taken.has(name));
  const twice = [...taken].filter(([, n]) => n > 1).map(([name]) => name);
  if (lost.length > 0) failures.push(`${lost.length} are missing: ${lost.slice(0, 3)}`);
  if (twice.length > 0) failures.push(`${twice.length} got it twice: ${twice.slice(0, 3)}`);
  if (taken.size !== expected.length) failures.push(`SES has ${taken.size} recipients, clients posted ${expected.length}`);
  if ((await depth(aws, buffer)) !== 0) failures.push('the buffer queue is not empty');
  for (const m of machines) {
    const report = await audit(m.postern, sandbox, expected);
    if (report.unaccounted !== 0) failures.push(`${m.name}: ${report.unaccounted} unaccounted`);
    if (m.postern.cli('deadletters', '--json', '--limit', '10').trim() !== '') failures.push(`${m.name}: dead letters`);
  }
  const { events: published } = await sandbox.stats();
  const wanted = Object.values(KINDS).flat().reduce((sum, type) => sum + (published[type] ?? 0), 0);
  let told;
  const isComplete = async () => {
    told = await Promise.all(machines.map(eventsOf));
    return told.every((one) => Object.values(one).reduce((sum, map) => sum + map.size, 0) >= wanted);
  };
  await waitFor('every event at every machine', isComplete, 60000, 500).catch((e) => failures.push(e.message));
  compareEvents(told, published, failures);
  return { recipients: taken.size, published };
}

/** The whole run: what went wrong. */
export async function machinesRun({ recipients, seed, rounds, rate, say = console.log }) {
  say(`seed ${seed}, ${recipients} recipients`);
  const random = randomFrom(seed);
  const failures = [];
  const sandbox = await startSandbox(['--set', 'max_send_rate=10000', '--set', `seed=${seed}`]);
  await sandbox.set({
    bounce_rate: 100, soft_bounce_rate: 0, complaint_rate: 4, open_rate: 3000, click_rate: 500, delivery_delay_ms_max: 500,
    lose_answer_rate: 30, event_repeat_rate: 300,
  });
  const aws = sdk(sandbox.url);
  const buffer = await fifo(aws);
  const queues = [`${sandbox.url}/000000000000/newsletter-events-queue`, await eventQueue(aws, 'events-of-b'), await eventQueue(aws, 'events-of-c')];
  const machines = await Promise.all(queues.map((events, i) => Machine.start('ABC'[i], { sandbox, buffer, events, rate })));
  const posts = Array.from({ length: recipients / PER_POST }, (_, i) => {
    const to = readers(PER_POST, `m${i}-`);
    return { to, form: newsletterForm(to, { extra: [['o:tracking-clicks', 'yes']] }) };
  });
  const expected = posts.flatMap(({ to, form }) => names(form, to));
  const startMs = Date.now();
  let count = {};
  let sums = {};
  try {
    const at = [];
    const posting = (async () => {
      for (const [i, { form }] of posts.entries()) {
        at[i] = await untilTaken(machines, form, i);
        if (i >= AT_ONCE) await sleep((PER_POST * 500) / rate / machines.length);
      }
      // The same POST, now somewhere else.
      for (const [i, { form }] of posts.slice(0, 3).entries()) await untilTaken(machines, form, at[i] + 1);
    })();
    // On a slow machine some may have done much before the last one begins.
    await waitFor('all at work', async () => {
      const sent = await Promise.all(machines.map((m) => m.sent()));
      return sent.every((n) => n > rate) || sent.reduce((sum, n) => sum + n) > recipients / 3;
    }, 120000, 200);
    const isOver = async () => (await sandbox.recipients()).size >= recipients;
    count = await misfortunes({ machines, random, rounds, isOver, say });
    await posting;
    await waitFor('every mail', isOver, 240000, 500);
    say(`all are at SES after ${Math.round((Date.now() - startMs) / 1000)} s`);
    for (const m of machines) await waitFor(`the books of ${m.name}`, async () => isSettled(await m.books()), 90000, 500);
    await waitFor('an empty queue', async () => (await depth(aws, buffer)) === 0, 120000, 500);
    await waitFor('the last event', async () => (await sandbox.stats()).events_waiting === 0, 60000, 200);
    sums = await accounts({ machines, sandbox, aws, buffer, expected, failures });
  } catch (e) {
    failures.push(e.stack);
    for (const m of machines) say(`${m.name}: ${m.postern.logFile}`);
  }
  say(`machines ${Object.entries(count).map(([kind, n]) => `${kind} ${n}`).join(', ')}; ${JSON.stringify(sums)}`);
  say(`${Math.round((Date.now() - startMs) / 1000)} s; sent by each: ${(await Promise.all(machines.map((m) => m.sent().catch(() => '?')))).join(', ')}`);
  for (const failure of failures) say(`FAILED: ${failure}`);
  await stopAll();
  for (const m of machines) m.line.close();
  closeClients();
  return failures;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const failures = await machinesRun({
    recipients: Number(process.env.RECIPIENTS ?? 20000),
    seed: Number(process.env.SEED ?? Date.now() % 1e9),
    rounds: Number(process.env.ROUNDS ?? 4),
    rate: Number(process.env.RATE ?? 200),
  });
  process.exit(failures.length === 0 ? 0 : 1);
}
