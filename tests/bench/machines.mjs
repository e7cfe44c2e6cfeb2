// Several machines on one buffer queue, SES's rate their limit: how much faster two are than one, what a newsletter costs in
// requests of SQS's and deliveries of SNS's (counted by the sandbox, which is SES, SNS and SQS here), and what becomes of an
// account's rate when the machines' shares add up to more than all of it, or when a machine dies.
//
//   node tests/bench/machines.mjs       RATE=200 (SES's, recipients a second), RECIPIENTS=8000
//
// The doubt window and the visibility timeout are a twentieth of the defaults, so that the requests for a message are as many
// as with them.
import { depth, eventQueue, fifo, node, sdk, closeClients } from '../e2e/buffer_cloud.mjs';
import { execCli, isSettled, jsonLines, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

const rate = Number(process.env.RATE ?? 200);
const recipients = Number(process.env.RECIPIENTS ?? 8000);
const rows = [];
const row = (what, value) => {
  rows.push([what, value]);
  console.log(`${what.padEnd(64)} ${value}`);
};

/** Several machines, each with max_rate as told, ready to receive. */
async function fleet(rates) {
  const sandbox = await startSandbox(['--set', `max_send_rate=${rate}`, '--set', 'verify_body=0']);
  await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 5000, click_rate: 0, delivery_delay_ms_max: 1000 });
  const aws = sdk(sandbox.url);
  const buffer = await fifo(aws);
  const queues = [`${sandbox.url}/000000000000/newsletter-events-queue`];
  while (queues.length < rates.length) queues.push(await eventQueue(aws, `events-${queues.length}`));
  const machines = await Promise.all(
    queues.map((events, i) => node(sandbox, buffer, events, { window: '30s', visibility: '6s', sender: rates[i] && `max_rate = "${rates[i]}"` })),
  );
  // What the start's patience is over for: a poll at the buffer.
  const polls = async () => (await sandbox.stats()).queues['buffer.fifo'].calls.ReceiveMessage ?? 0;
  await waitFor('polls of the buffer', async () => (await polls()) >= 2 * rates.length, 60000, 100);
  return { sandbox, aws, buffer, machines };
}

async function post(machines, count) {
  for (let at = 0; at < count; at += 1000) {
    const res = await machines[(at / 1000) % machines.length].post(newsletterForm(readers(1000, 'b', at)));
    if (res.status !== 200) throw new Error(`POST: ${res.status} ${await res.text()}`);
  }
}

/** Recipients a second between a tenth and three quarters of them: at the end one machine may have more left than the other. */
async function steadyRate(sandbox, count, onHalf) {
  const marks = [];
  let halfDone = false;
  for (;;) {
    const { accepted_recipients: n } = await sandbox.stats();
    marks.push([performance.now(), n]);
    if (!halfDone && n >= count / 2) {
      halfDone = true;
      await onHalf?.();
    }
    if (n >= count) break;
    await sleep(20);
  }
  const first = marks.find(([, n]) => n >= count / 10);
  const last = marks.findLast(([, n]) => n <= (count * 3) / 4);
  return { perS: ((last[1] - first[1]) * 1000) / (last[0] - first[0]), marks };
}

async function end({ machines }) {
  for (const machine of machines) if (!machine.isLost) await machine.stop();
  await stopAll();
  closeClients();
}

async function throughput(rates, count) {
  const all = await fleet(rates);
  const posting = post(all.machines, count);
  const { perS } = await steadyRate(all.sandbox, count);
  await posting;
  const books = async (m) => jsonLines(await execCli(m, 'batches', '--json', '--limit', '100000'));
  for (const m of all.machines) await waitFor('the books', async () => isSettled(await books(m)), 60000, 200);
  return { ...all, perS, stats: await all.sandbox.stats() };
}

/** Calls a queue got, those of its making and of this benchmark's looking left out. */
const callsOf = (queue) => Object.entries(queue.calls).filter(([name]) => /^(Send|Receive|Delete|Change)Message/.test(name));
const sum = (calls) => calls.reduce((all, [, n]) => all + n, 0);
const perThousand = (n, count) => ((n * 1000) / count).toFixed(1);

async function costs(all, count) {
  await waitFor('an empty buffer', async () => (await depth(all.aws, all.buffer)) === 0, 120000, 200);
  await waitFor('the last event', async () => (await all.sandbox.stats()).events_waiting === 0, 60000, 200);
  await waitFor('its deletion', async () => Object.values((await all.sandbox.stats()).queues).every((q) => q.visible + q.in_flight === 0), 60000, 200);
  const { queues, topics, events } = await all.sandbox.stats();
  const buffer = callsOf(queues['buffer.fifo']);
  row('two: requests to the buffer for 1,000 recipients', `${perThousand(sum(buffer), count)} (${buffer.map(([name, n]) => `${name} ${perThousand(n, count)}`).join(', ')})`);
  const own = Object.entries(queues).filter(([name]) => /^events-|newsletter-events-queue$/.test(name));
  for (const [name, queue] of own) row(`two: requests to ${name} for 1,000 recipients`, `${perThousand(sum(callsOf(queue)), count)} (${callsOf(queue).map(([call, n]) => `${call} ${perThousand(n, count)}`).join(', ')})`);
  const published = Object.values(events).reduce((all_, n) => all_ + n, 0);
  const delivered = Object.values(topics).reduce((all_, topic) => all_ + topic.delivered, 0);
  row('two: events of SES, deliveries of SNS for 1,000 recipients', `${perThousand(published, count)}, ${perThousand(delivered, count)}`);
}

async function oneAndTwo() {
  const one = await throughput(['50%'], recipients / 2);
  row(`one machine with half of SES's ${rate} a second`, `${one.perS.toFixed(0)} recipients/s`);
  await end(one);
  const two = await throughput(['50%', '50%'], recipients);
  row(`two machines with half each`, `${two.perS.toFixed(0)} recipients/s`);
  row('ratio (asked: 1.8)', (two.perS / one.perS).toFixed(3));
  row('two: refused by SES for the rate', `${two.stats.throttled}`);
  await costs(two, recipients);
  await end(two);
}

async function shares(name, rates) {
  const run = await throughput(rates, recipients);
  const { accepted_recipients: taken, distinct_recipients: distinct, throttled, accepted_calls: calls } = run.stats;
  row(name, `${run.perS.toFixed(0)} recipients/s of ${rate}; ${throttled} refusals beside ${calls} calls (${((throttled * 100) / (throttled + calls)).toFixed(1)} %); missing ${recipients - distinct}, twice ${taken - distinct}`);
  await end(run);
}

/** A machine is lost at half: how fast the other goes on. */
async function death(name, rates) {
  const run = await fleet(rates);
  const [lost] = run.machines;
  const posting = post(run.machines, recipients);
  let atMs;
  const { marks } = await steadyRate(run.sandbox, recipients, async () => {
    await posting;
    for (const pid of [lost.child.pid, ...lost.children()]) process.kill(pid, 'SIGKILL');
    await lost.child.ended;
    lost.isLost = true;
    atMs = performance.now();
  });
  // Ten seconds from a few after it: until its parts come back the other has those of its own.
  const between = marks.filter(([ms]) => ms > atMs + 2000 && ms < atMs + 9000);
  const perS = ((between.at(-1)[1] - between[0][1]) * 1000) / (between.at(-1)[0] - between[0][0]);
  const { distinct_recipients: distinct, accepted_recipients: taken } = await run.sandbox.stats();
  row(name, `${perS.toFixed(0)} recipients/s of ${rate} from then on; missing ${recipients - distinct}, twice ${taken - distinct}`);
  await end(run);
}

try {
  await oneAndTwo();
  await shares('two machines with "75%" each', ['75%', '75%']);
  await shares('two machines without max_rate', ['', '']);
  await death('one of two with "50%" each dies', ['50%', '50%']);
  await death('one of two without max_rate dies', ['', '']);
  console.log('\n| what | figure |\n|---|---|');
  for (const [what, value] of rows) console.log(`| ${what} | ${value} |`);
} finally {
  await stopAll();
  closeClients();
}
process.exit(0);
