// The chaos run: newsletters, sends, events and readers at full load, while processes are killed, stopped, replaced and
// upgraded, disks fill, rings are scribbled on, and processes die at chosen points of their work (crash_points.c).
// At the end the books are made up from what others wrote down: SES (the sandbox), the clients, the readers.
//
// By hand: make chaos (BUILD=asan|tsan). DURATION_S (600), SEED (printed; the same one chooses the same faults in the same
// order), RATE (recipients a second that are posted, 300). As part of the tests: chaos.test.mjs.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Postern, audit, binary, execCli, isSettled, randomFrom, root, signal, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';
import { Load } from './chaos_load.mjs';
import { corrupt, mappings } from './scribble.mjs';

const DISK_MB = 3000;
const LEFT_BYTES = 8 << 20; // of a full disk: less than the reserve
// A client may hear of a death before its line stands in the log, or after it, on a machine with other work.
const CUT_BEFORE_MS = 1000;
const CUT_AFTER_MS = 1500;
const YOUNG_MS = 1500;
const STILL_MS = 120000; // until what does not move is given up

/** As enum point in crash_points.c. */
export const POINTS = [
  'writer before its sync', 'writer after its sync', 'writer after its commit',
  'sender before a call', 'sender after the first byte', 'sender after the request', 'sender with the answer',
  'poller before a delete', 'poller after a delete', 'httpd before an answer', 'httpd before the answer to a POST',
];

const childrenOf = (pid) => {
  try {
    return fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean).map(Number);
  } catch {
    return [];
  }
};
/** The masters, from the one that was started to the one that serves: an upgrade adds one. */
const mastersFrom = (pid) => {
  const heir = childrenOf(pid).find((child) => childrenOf(child).length > 0);
  return heir ? [pid, ...mastersFrom(heir)] : [pid];
};

/** Which shared memory the library of crash points and this process look at. */
class CrashPoints {
  constructor(dir) {
    this.library = path.join(dir, 'crash_points.so');
    this.file = path.join(dir, 'points');
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-std=c11', '-D_GNU_SOURCE', '-o', this.library, path.join(root, 'tests/fault/crash_points.c')]);
    fs.writeFileSync(this.file, Buffer.alloc(8 * POINTS.length));
    this.fd = fs.openSync(this.file, 'r+');
    // A sanitizer's runtime wants to be first.
    const runtime = /\/\S*lib[at]san\S*/.exec(execFileSync('ldd', [binary], { encoding: 'utf8' }))?.[0];
    this.isSanitized = runtime !== undefined;
    this.env = { LD_PRELOAD: runtime ? `${runtime}:${this.library}` : this.library, CRASH_POINTS_FILE: this.file };
    if (runtime) Object.assign(this.env, { ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1', TSAN_OPTIONS: 'halt_on_error=1' });
  }
  arm(point) {
    const one = Buffer.alloc(4);
    one.writeUInt32LE(1);
    fs.writeSync(this.fd, one, 0, 4, 4 * point);
  }
  disarm() {
    fs.writeSync(this.fd, Buffer.alloc(4 * POINTS.length), 0, 4 * POINTS.length, 0);
  }
  fired() {
    const all = Buffer.alloc(4 * POINTS.length);
    fs.readSync(this.fd, all, 0, all.length, 4 * POINTS.length);
    return POINTS.map((_, i) => all.readUInt32LE(4 * i));
  }
}

/** What Postern's log tells, as it grows. */
class Log {
  constructor(file) {
    Object.assign(this, { file, at: 0, rest: '', deaths: [], readies: [], roles: new Map(), said: [], odd: [] });
  }
  look() {
    const { size } = fs.statSync(this.file);
    if (size === this.at) return;
    const bytes = Buffer.alloc(size - this.at);
    const fd = fs.openSync(this.file, 'r');
    fs.readSync(fd, bytes, 0, bytes.length, this.at);
    fs.closeSync(fd);
    this.at = size;
    const lines = (this.rest + bytes.toString()).split('\n');
    this.rest = lines.pop();
    for (const line of lines) this.take(line);
  }
  take(text) {
    let line;
    try {
      line = JSON.parse(text);
    } catch {
      if (text !== '') this.odd.push(text);
      return;
    }
    const atMs = Date.parse(line.time);
    if (line.event === 'death') this.deaths.push({ ...line, atMs, name: `${line.role} ${line.slot}` });
    if (line.event === 'ready') {
      this.readies.push({ atMs, name: line.process });
      this.roles.set(line.pid, line.process.split(' ')[0]);
    }
    if (line.process === 'master') this.said.push(line.message);
  }
  /** How often the master said it. */
  times(words) {
    this.look();
    return this.said.filter((message) => words.test(message)).length;
  }
}

class Chaos {
  constructor({ postern, sandbox, points, random, installed, hasDisk }) {
    Object.assign(this, { postern, sandbox, points, random, installed, hasDisk });
    this.log = new Log(postern.logFile);
    this.stopped = new Set();
    this.killedMs = new Map(); // pid → when
    this.outages = []; // of the master: {fromMs, untilMs}
    this.counts = {};
    this.background = new Map(); // kind → its promise
    this.failures = [];
    this.numbers = { httpd: 2, sender: 2, poller: 2 };
    this.scribbles = 0;
  }
  children() {
    return childrenOf(mastersFrom(this.postern.child.pid).at(-1));
  }
  /** A child's pid, of these roles, or undefined. */
  pick(roles) {
    this.log.look();
    const pids = this.children().filter((pid) => this.log.roles.has(pid) && (!roles || roles.includes(this.log.roles.get(pid))));
    return pids[this.random(Math.max(1, pids.length))];
  }
  count(kind) {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
  }

  // ---- faults ----

  killChild() {
    const pid = this.pick();
    if (pid && signal(pid, 'SIGKILL')) this.killedMs.set(pid, Date.now());
  }
  async killMaster() {
    for (const pid of this.stopped) signal(pid, 'SIGCONT'); // who is stopped does not see that its master is gone
    const fromMs = Date.now();
    const outage = { fromMs, untilMs: Infinity };
    this.outages.push(outage);
    for (const pid of mastersFrom(this.postern.child.pid).reverse()) signal(pid, 'SIGKILL');
    await this.postern.child.ended;
    this.postern.how = undefined;
    await this.postern.launch();
    outage.untilMs = Date.now();
  }
  async stopChild(roles, ms, until = () => false) {
    const pid = this.pick(roles);
    if (!pid || !signal(pid, 'SIGSTOP')) return;
    this.stopped.add(pid);
    const endMs = Date.now() + ms;
    while (Date.now() < endMs && !until(pid)) await sleep(50);
    this.stopped.delete(pid);
    signal(pid, 'SIGCONT');
  }
  stopShort() {
    return this.stopChild(undefined, 200 + this.random(1800));
  }
  async stopLong() {
    const outages = this.outages.length;
    let isTaken = false;
    const isHung = (pid) => {
      this.log.look();
      isTaken = this.log.deaths.some((d) => d.child_pid === pid);
      return isTaken || this.outages.length !== outages;
    };
    const roles = [['httpd', 'sender', 'poller'][this.random(3)]];
    await this.stopChild(roles, 40000, isHung);
    if (isTaken) this.count('hung, replaced');
  }
  corruptRing() {
    const pid = this.pick(['httpd']);
    try {
      if (pid && mappings(pid, 'postern-ring').length === 2) corrupt(pid, this.scribbles++);
    } catch (e) {
      if (!/ESRCH|ENOENT|EIO/.test(e.message)) throw e; // gone already
    }
  }
  async diskFull() {
    const filler = path.join(this.postern.dir, 'filler');
    const { bavail, bsize } = fs.statfsSync(this.postern.dir);
    spawnSync('fallocate', ['-l', String(Math.max(4096, bavail * bsize - LEFT_BYTES)), filler]);
    await sleep(500 + this.random(2500));
    fs.rmSync(filler, { force: true });
  }
  /** Waits for one of the words, unless the master is killed meanwhile. */
  async renewal(what, act, words, ms) {
    const before = this.log.times(words);
    const outages = this.outages.length;
    act();
    const endMs = Date.now() + ms;
    while (this.log.times(words) === before && this.outages.length === outages) {
      if (Date.now() > endMs) {
        this.failures.push(`${what}: no word of its end within ${ms} ms`);
        return;
      }
      await sleep(100);
    }
  }
  reload() {
    const n = { httpd: 1 + this.random(3), sender: 1 + this.random(3), poller: 1 + this.random(2) };
    const act = () => {
      let text = fs.readFileSync(this.postern.confFile, 'utf8');
      for (const [role, count] of Object.entries(n)) text = text.replace(new RegExp(`${role} \\{\nchildren = \\d+`), `${role} {\nchildren = ${count}`);
      fs.writeFileSync(`${this.postern.confFile}.new`, text);
      fs.renameSync(`${this.postern.confFile}.new`, this.postern.confFile);
      signal(this.postern.child.pid, 'SIGHUP');
    };
    return this.renewal('reload', act, /the new configuration serves|is not taken over|the old configuration keeps running/, 90000);
  }
  upgrade() {
    const act = () => {
      fs.copyFileSync(binary, `${this.installed}.new`);
      fs.chmodSync(`${this.installed}.new`, 0o755);
      fs.renameSync(`${this.installed}.new`, this.installed);
      signal(this.postern.child.pid, 'SIGUSR2');
    };
    return this.renewal('upgrade', act, /upgrade: the new binary serves|the old binary goes on/, 180000);
  }

  // ---- one after the other ----

  /** Beside what goes on, but no two of one group at once: then a child is killed instead. */
  beside(group, kind, act) {
    if (this.background.has(group)) return this.start('kill');
    const going = act().catch((e) => this.failures.push(`${kind}: ${e.message}`)).finally(() => this.background.delete(group));
    this.background.set(group, going);
    return this.count(kind);
  }
  async start(kind, point) {
    switch (kind) {
      case 'kill': this.count(kind); return this.killChild();
      case 'point': this.count(kind); return this.points.arm(point);
      case 'corrupt': this.count(kind); return this.corruptRing();
      case 'killMaster': this.count(kind); return this.killMaster();
      case 'stop': return this.beside(`stop${this.random(2)}`, kind, () => this.stopShort());
      case 'stopLong': return this.beside(kind, kind, () => this.stopLong());
      case 'disk': return this.hasDisk ? this.beside(kind, kind, () => this.diskFull()) : this.start('kill');
      case 'reload': return this.beside('renewal', kind, () => this.reload());
      case 'upgrade': return this.beside('renewal', kind, () => this.upgrade());
      default: throw new Error(kind);
    }
  }
  /** What every run has, in an order of its own; the long stop first, for it takes longest. */
  deck() {
    const cards = [
      ...POINTS.map((_, i) => ['point', i]), ...Array(5).fill(['kill']), ['corrupt'], ['corrupt'], ['stop'], ['stop'],
      ['reload'], ['upgrade'], ['disk'], ['killMaster'],
    ];
    for (let i = cards.length - 1; i > 0; i--) {
      const j = this.random(i + 1);
      [cards[i], cards[j]] = [cards[j], cards[i]];
    }
    return [['stopLong'], ...cards];
  }
  draw() {
    const weights = { kill: 40, point: 34, stop: 8, corrupt: 6, reload: 4, disk: 3, killMaster: 2, upgrade: 2, stopLong: 1 };
    let at = this.random(100);
    const [kind] = Object.entries(weights).find(([, weight]) => (at -= weight) < 0);
    return [kind, kind === 'point' ? this.random(POINTS.length) : undefined];
  }
  async run(durationS) {
    const endMs = Date.now() + durationS * 1000;
    const deck = this.deck();
    const paceMs = Math.min(1000, (durationS * 800) / deck.length);
    while (deck.length > 0 || Date.now() < endMs) {
      const isOwed = deck.length > 0;
      const card = deck.shift() ?? this.draw();
      // What every run has waits for its turn, behind the others.
      if (isOwed && ['reload', 'upgrade'].includes(card[0]) && this.background.has('renewal')) deck.push(card);
      else await this.start(...card);
      await sleep(paceMs / 2 + this.random(paceMs));
    }
    await Promise.all(this.background.values());
    await waitFor('the crash points', () => this.points.fired().every((n) => n > 0), 60000, 100).catch((e) => this.failures.push(e.message));
    this.points.disarm();
  }
}

// ---- the account at the end ----

/** Requests without an answer, but for those that a death of httpd or master explains. */
function unexplained(cuts, log, outages) {
  const deaths = log.deaths.filter((d) => d.role === 'httpd' && d.level === 'warn');
  const ended = ({ sinceMs, endMs }, fromMs, untilMs) => endMs >= fromMs - CUT_BEFORE_MS && sinceMs <= untilMs + CUT_AFTER_MS;
  return cuts.filter((cut) => {
    if (outages.some((o) => ended(cut, o.fromMs, o.untilMs))) return false;
    return cut.error === 'ECONNREFUSED' || cut.error === 'TIMEOUT' || !deaths.some((d) => ended(cut, d.atMs, d.atMs));
  });
}

/** From each death that was not asked for, and has a successor, to that one's first words. */
function timesToService({ log, killedMs, outages }) {
  const times = [];
  for (const death of log.deaths.filter((d) => d.level === 'warn' && /its successor/.test(d.message))) {
    const atMs = killedMs.get(death.child_pid) ?? death.atMs;
    const next = log.readies.find((r) => r.name === death.name && r.atMs >= death.atMs);
    if (!next || outages.some((o) => o.fromMs >= atMs - 50 && o.fromMs <= next.atMs)) continue;
    times.push({ role: death.role, ms: next.atMs - atMs, isYoung: death.age_ms < YOUNG_MS, name: death.name, at: death.time });
  }
  return times.sort((a, b) => a.ms - b.ms);
}
const percentile = (sorted, p) => sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * p) / 100) - 1)];
const spread = (times) => (times.length === 0 ? 'none' : `${[50, 95, 100].map((p) => percentile(times, p).ms).join(' / ')} ms of ${times.length}`);

/** The walk over all events of a kind: their ids, each once. */
async function walkAll(postern, kind, beginS, failures) {
  const items = await postern.walk(`limit=300&event=${kind}&begin=${beginS}&ascending=yes`);
  const ids = new Set(items.map((item) => item.id));
  if (ids.size !== items.length) failures.push(`the walk over ${kind}: ${items.length - ids.size} events twice`);
  return { items, ids };
}

/** Waits until it is so, for as long as what is looked at still changes. */
async function waitWhileMoving(what, failures, check) {
  let [seen, sinceMs] = [undefined, Date.now()];
  for (;;) {
    const askedMs = Date.now();
    const { done, moving } = await check();
    if (done) return;
    if (moving !== seen) [seen, sinceMs] = [moving, Date.now()];
    if (Date.now() - sinceMs > STILL_MS) return void failures.push(`nothing has moved for ${STILL_MS} ms, waiting for: ${what}`);
    await sleep(Math.max(500, 3 * (Date.now() - askedMs)));
  }
}

/** All has been sent, told and read: a sanitizer's pollers may be minutes behind, and what is in doubt waits for them. */
async function settle({ postern, sandbox, load }, failures) {
  await waitWhileMoving('the books', failures, async () => {
    const text = await execCli(postern, 'batches', '--json', '--limit', '100000').catch(() => '');
    const books = text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    return { done: books.length >= load.forms.length && isSettled(books), moving: `${(await sandbox.stats()).events_waiting} ${text}` };
  });
  await waitWhileMoving('the last event', failures, async () => {
    const waiting = (await sandbox.stats()).events_waiting;
    return { done: waiting === 0, moving: waiting };
  });
  const stats = await sandbox.stats();
  const wanted = [stats.events.Delivery + stats.events.Bounce, stats.events.Open + stats.events.Complaint];
  await waitWhileMoving('the cursors', failures, async () => {
    const seen = load.cursors.map((c) => c.seen.size);
    return { done: seen.every((count, i) => count >= wanted[i]), moving: seen.join() };
  });
  return stats;
}

async function accounts({ postern, sandbox, load, chaos, beginS }) {
  const { failures, log } = chaos;
  const claim = (is, text) => is || failures.push(text);
  const expected = load.forms.flatMap(({ emailId, to }) => to.map((address) => `${emailId} ${address}`));
  const recipients = new Set(expected);

  const { events: published, duplicates } = await settle({ postern, sandbox, load }, failures);
  await sleep(1500); // an answer covers events up to a second ago
  await load.stopReading();

  // accepted means kept, nobody twice
  const walks = {};
  for (const kind of ['accepted', 'delivered', 'failed', 'opened', 'complained']) walks[kind] = await walkAll(postern, kind, beginS, failures);
  const failed = new Set(walks.failed.items.filter((i) => i.reason).map((i) => `${i['user-variables']['email-id']} ${i.recipient}`));
  const taken = await sandbox.recipients();
  const lost = expected.filter((name) => !taken.has(name) && !failed.has(name));
  const twice = [...taken].filter(([, n]) => n > 1).map(([name]) => name);
  claim(lost.length === 0, `${lost.length} recipients of a 200 are neither at SES nor failed: ${lost.slice(0, 5)}`);
  claim(twice.length === 0 && duplicates === 0, `${twice.length} recipients twice at SES: ${twice.slice(0, 5)}`);
  claim([...taken.keys()].every((name) => recipients.has(name)), 'SES has recipients whom no client posted');
  claim(walks.accepted.items.length === expected.length, `accepted: ${walks.accepted.items.length} events of ${expected.length}`);

  // every event of SES once in the walk over all, and seen by its cursor
  for (const [kind, count] of [['delivered', published.Delivery], ['failed', published.Bounce], ['opened', published.Open], ['complained', published.Complaint]]) {
    claim(walks[kind].ids.size === count, `${kind}: ${walks[kind].ids.size} events, SES told ${count}`);
    const cursor = load.cursors.find((c) => c.events.includes(kind));
    const missed = [...walks[kind].ids].filter((id) => !cursor.seen.has(id));
    claim(missed.length === 0, `${kind}: ${missed.length} events that the moving cursor never saw`);
  }

  // the books
  const report = await audit(postern, sandbox, expected);
  claim(report.unaccounted === 0, `unaccounted: ${report.unaccounted}`);
  const accepted = report.books.reduce((sum, b) => sum + b.accepted, 0);
  claim(accepted === expected.length, `the books have ${accepted} recipients, the clients ${expected.length}`);
  claim(postern.cli('deadletters', '--json', '--limit', '10').trim() === '', 'dead letters');

  // the clients
  log.look();
  const cut = unexplained(load.cuts, log, chaos.outages);
  claim(cut.length === 0, `${cut.length} requests cut that no death explains: ${JSON.stringify(cut.slice(0, 5))}`);
  claim(load.wrong.length === 0, `${load.wrong.length} wrong answers: ${JSON.stringify(load.wrong.slice(0, 5))}`);

  // the processes
  await waitFor('all processes', async () => (await postern.healthy()) && postern.status().processes.every((p) => p.state === 'ready'), 30000).catch((e) => failures.push(e.message));
  const odd = log.odd.filter((line) => /Sanitizer|runtime error|Assertion|panic/i.test(line));
  claim(odd.length === 0, `in the log: ${odd.slice(0, 5).join(' | ')}`);
  return { recipients: expected.length, published, report };
}

const tmp = (name) => fs.mkdtempSync(path.join(os.tmpdir(), `postern-${name}-`));

/** The whole run: {failures, words}. */
export async function chaosRun({ durationS, seed, recipientsPerS = 300, say = console.log }) {
  say(`seed ${seed}, ${durationS} s, ${binary}`);
  const random = randomFrom(seed);
  const [dir, bin] = [tmp('chaos'), tmp('chaos-bin')];
  const hasDisk = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MB}m`, 'tmpfs', dir]).status === 0;
  if (!hasDisk) say('cannot mount a tmpfs here: a full disk is NOT TESTED');
  const points = new CrashPoints(bin);
  const installed = path.join(bin, 'postern');
  fs.copyFileSync(binary, installed);
  const sandbox = await startSandbox(['--set', 'max_send_rate=4000', '--set', `seed=${seed}`]);
  // Complaints and bounces well below the shares at which newsletters are held.
  await sandbox.set({
    bounce_rate: 100, soft_bounce_rate: 0, complaint_rate: 4, click_rate: 0, open_rate: 2000, delivery_delay_ms_min: 10, delivery_delay_ms_max: 500,
    latency_ms: 20, lose_answer_rate: 50, throttle_rate: 50, fail_rate: 50, reset_before_accept_rate: 20, event_repeat_rate: 300,
  });
  const beginS = Date.now() / 1000 - 60;
  const postern = await Postern.start({
    sandbox, dir, binary: installed, env: points.env,
    conf: points.isSanitized ? 'isolation = false' : '',
    sections: {
      httpd: 'children = 2', poller: 'children = 2', sender: 'children = 2\ndoubt_window = "8s"\nconnections = 32\nmax_rate = "1500"',
      log: 'level = "info" format = "json"',
    },
  });
  const chaos = new Chaos({ postern, sandbox, points, random, installed, hasDisk });
  const load = new Load(postern.port, randomFrom(seed + 1), { recipientsPerS });
  const startMs = Date.now();
  let sums = {};
  try {
    await chaos.run(durationS);
    await load.stopPosting();
    const loadMs = Date.now() - startMs;
    sums = await accounts({ postern, sandbox, load, chaos, beginS });
    sums.loadS = loadMs / 1000;
    const how = await postern.stop();
    if (how.code !== 0) chaos.failures.push(`it left with ${JSON.stringify(how)}`);
  } catch (e) {
    chaos.failures.push(e.stack);
    load.giveUp();
  }
  chaos.log.look();
  tell({ chaos, load, sums, say, points });
  if (chaos.failures.length > 0) {
    const kept = tmp(`chaos-failed-${seed}`);
    spawnSync('cp', ['-r', path.join(dir, 'log'), path.join(dir, 'state'), path.join(dir, 'proxy.conf'), kept]);
    say(`log and store: ${kept}`);
  }
  await stopAll();
  if (hasDisk) spawnSync('umount', [dir]);
  for (const one of [dir, bin]) fs.rmSync(one, { recursive: true, force: true });
  return chaos.failures;
}

function tell({ chaos, load, sums, say, points }) {
  const times = timesToService(chaos);
  const grown = times.filter((t) => !t.isYoung);
  say(`faults: ${Object.entries(chaos.counts).map(([kind, n]) => `${kind} ${n}`).join(', ')}`);
  say(`died at: ${points.fired().map((n, i) => `${POINTS[i]} ${n}`).join(', ')}`);
  const posts = load.postMs.sort((a, b) => a - b).map((ms) => ({ ms }));
  say(`answers: ${JSON.stringify(load.answers)}, cut ${load.cuts.length}; a POST took (50th/95th/100th) ${spread(posts)}`);
  if (sums.recipients) {
    say(`recipients ${sums.recipients} in ${Math.round(sums.loadS)} s, events of SES ${JSON.stringify(sums.published)}`);
    say(`cursors: ${load.cursors.map((c) => `${c.events}: ${c.seen.size} seen in ${c.walks} walks, ${c.givenUp} given up`).join('; ')}`);
  }
  say(`deaths ${chaos.log.deaths.filter((d) => d.level === 'warn').length}; death to service (50th/95th/100th; goal: 95th 250 ms): ${spread(times)}`);
  say(`  of processes that had lived ${YOUNG_MS} ms, so that no pause is due: ${spread(grown)}`);
  say(`  the slowest: ${times.slice(-3).map((t) => `${t.name} at ${t.at}, ${t.ms} ms`).join('; ')}`);
  for (const role of new Set(times.map((t) => t.role))) say(`  ${role}: ${spread(times.filter((t) => t.role === role))}; grown: ${spread(grown.filter((t) => t.role === role))}`);
  const outages = chaos.outages.filter((o) => o.untilMs !== Infinity).map((o) => ({ ms: o.untilMs - o.fromMs })).sort((a, b) => a.ms - b.ms);
  say(`the master killed, started again, healthy: ${spread(outages)}`);
  for (const failure of chaos.failures) say(`FAILED: ${failure}`);
  say(chaos.failures.length === 0 ? 'chaos: every promise held' : `chaos: ${chaos.failures.length} failures`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const failures = await chaosRun({
    durationS: Number(process.env.DURATION_S ?? 600),
    seed: Number(process.env.SEED ?? Date.now() % 1e9),
    recipientsPerS: Number(process.env.RATE ?? 300),
  });
  process.exit(failures.length === 0 ? 0 : 1);
}
