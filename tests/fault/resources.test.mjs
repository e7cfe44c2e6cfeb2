// What a machine can run out of, and a clock that jumps: what is there goes on, nothing is lost or doubled, and when
// there is room again everything heals by itself. (A full disk: disk_full.test.mjs.)
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, audit, domain, isSettled, key, newsletterForm, readers, root, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

after(stopAll);
const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };

const limit = (pid, what, value) => execFileSync('prlimit', ['--pid', String(pid), `--${what}=${value}:`]);
/** The next descriptor that the process would get. */
const nextDescriptor = (pid) => {
  const taken = new Set(fs.readdirSync(`/proc/${pid}/fd`).map(Number));
  let next = 0;
  while (taken.has(next)) next++;
  return next;
};
const softLimit = (pid) => /Max open files\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/limits`, 'utf8'))[1];
const cpuTicks = (pid) => {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return Number(fields[11]) + Number(fields[12]);
};

/** A request on a connection of the agent: {status, text}. */
const ask = (postern, agent, method, at, form) =>
  new Promise((resolve, reject) => {
    const headers = { Authorization: `Basic ${Buffer.from(`api:${key}`).toString('base64')}` };
    if (form) Object.assign(headers, { 'Content-Type': `multipart/form-data; boundary=${form.boundary}`, 'Content-Length': form.body.length });
    const req = http.request(postern.url + at, { method, agent, headers }, (res) => {
      let text = '';
      res.on('data', (data) => (text += data));
      res.on('end', () => resolve({ status: res.statusCode, text }));
    });
    req.on('error', reject);
    req.end(form?.body);
  });

const expected = (forms) => forms.flatMap(({ form, to }) => to.map((a) => `${form.emailId} ${a}`));
const nothingAmiss = { missing: 0, duplicates: 0, unaccounted: 0, books: null };

describe('without descriptors', () => {
  it('connections that are there are served, new ones wait, and all heals when there are some again', async () => {
    const sandbox = await startSandbox();
    await sandbox.set(quiet);
    const postern = await Postern.start({ sandbox, sections: { httpd: 'children = 1' } });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const sent = [{ form: newsletterForm(readers(300, 'before')), to: readers(300, 'before') }];
    assert.equal((await ask(postern, agent, 'POST', `/v3/${domain}/messages`, sent[0].form)).status, 200);
    const [httpd] = postern.pids('httpd');
    const all = [postern.child.pid, ...postern.children()];
    const limits = new Map(all.map((pid) => [pid, softLimit(pid)]));
    const [victim] = postern.pids('sender');
    for (const pid of all) limit(pid, 'nofile', nextDescriptor(pid));

    sent.push({ form: newsletterForm(readers(200, 'short')), to: readers(200, 'short') });
    assert.equal((await ask(postern, agent, 'POST', `/v3/${domain}/messages`, sent[1].form)).status, 200);
    const late = new http.Agent({ keepAlive: false });
    const waiting = Array.from({ length: 10 }, () => ask(postern, late, 'GET', `/v3/${domain}/events`));
    let served = false;
    for (const one of waiting) one.then(() => (served = true), () => (served = true));
    process.kill(victim, 'SIGKILL'); // and the master has no descriptor for another
    const words = postern.log().length, ticks = cpuTicks(httpd), asked = performance.now();
    await waitFor('the master to say why', () => /no control socket for sender/.test(postern.log()));
    await sleep(1000);
    assert.equal((await ask(postern, agent, 'GET', `/v3/${domain}/events`)).status, 200);
    assert.equal(served, false, 'a new connection is neither served nor refused');
    // Who cannot take a connection must not ask for it again and again.
    assert.ok((cpuTicks(httpd) - ticks) * 10 < (performance.now() - asked) / 2, 'httpd spins');
    assert.ok(postern.log().length - words < 20000, 'the log is flooded');

    for (const [pid, soft] of limits) if (pid !== victim) limit(pid, 'nofile', soft);
    for (const one of waiting) assert.equal((await one).status, 200);
    await waitFor('health', () => postern.healthy());
    sent.push({ form: newsletterForm(readers(200, 'after')), to: readers(200, 'after') });
    assert.equal((await postern.post(sent[2].form)).status, 200);
    await waitFor('the books', () => isSettled(postern.batches()), 60000);
    assert.deepEqual({ ...(await audit(postern, sandbox, expected(sent))), books: null }, nothingAmiss);
    agent.destroy();
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });
});

describe('without memory', () => {
  it('the process that gets none ends and is replaced; what it held is done by the next', async () => {
    const sandbox = await startSandbox();
    await sandbox.set({ ...quiet, latency_ms: 5 });
    const postern = await Postern.start({ sandbox, sections: { httpd: 'children = 1', sender: 'max_rate = "500"\ndoubt_window = "5s"' } });
    const sent = [];
    for (const role of ['httpd', 'sender', 'writer', 'poller']) {
      const to = readers(500, role);
      const form = newsletterForm(to, { html: `<p>%recipient.first_name_2%</p>${'<p>a long newsletter</p>'.repeat(40000)}` });
      const [pid] = postern.pids(role);
      limit(pid, 'data', 1 << 20);
      let status;
      for (let tries = 0; status !== 200 && tries < 50; tries++) {
        status = await postern.post(form).then((r) => r.status, () => 0); // as Ghost does: again
        if (status !== 200) await sleep(100);
      }
      assert.equal(status, 200);
      sent.push({ form, to });
      // The writer and the poller get along with what they have.
      if (role === 'httpd' || role === 'sender') await waitFor(`another ${role}`, () => postern.healthy() && postern.pids(role).length > 0 && !postern.pids(role).includes(pid));
    }
    await waitFor('the books', () => isSettled(postern.batches()), 90000);
    assert.deepEqual({ ...(await audit(postern, sandbox, expected(sent))), books: null }, nothingAmiss);
    assert.match(postern.log(), /out of memory/);
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });
});

describe('a clock that jumps', () => {
  it('a day ahead and back again: what was due goes out, nothing twice, nobody is taken for hung', async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-clock-'));
    const jump = path.join(dir, 'clock_jump.so');
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', jump, path.join(root, 'tests/fault/clock_jump.c')]);
    const clock = fs.openSync(path.join(dir, 'clock'), 'w+');
    const set = (seconds) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigInt64LE(BigInt(seconds));
      fs.writeSync(clock, bytes, 0, 8, 0);
    };
    set(0);
    const postern = await Postern.start({
      dir,
      sections: { httpd: 'children = 1' },
      env: { LD_PRELOAD: jump, CLOCK_JUMP_FILE: path.join(dir, 'clock') },
    });
    const { sandbox } = postern;
    await sandbox.set(quiet);
    const pids = () => postern.children().sort().join(' ');
    const before = pids(), sent = [];
    const post = async (prefix, inHours) => {
      const to = readers(100, prefix);
      const extra = inHours ? [['o:deliverytime', new Date(Date.now() + inHours * 3600000).toUTCString()]] : [];
      const form = newsletterForm(to, { extra });
      assert.equal((await postern.post(form)).status, 200);
      sent.push({ form, to });
    };
    const settled = (count) => waitFor(`${count} batches`, () => postern.batches().filter((b) => isSettled([b])).length >= count, 30000);

    await post('now');
    await post('scheduled', 3);
    await settled(1);
    set(86400);
    await settled(2); // three hours have passed
    await post('ahead');
    await settled(3);
    set(0);
    await post('back');
    await settled(4);
    set(-86400);
    await post('behind');
    await settled(5);
    assert.deepEqual({ ...(await audit(postern, sandbox, expected(sent))), books: null }, nothingAmiss);
    assert.equal(pids(), before, 'no process was replaced');
    // What was stored while the clock stood a day ahead is not in the way of anything: all of it comes out in the end.
    set(86400);
    const now = Math.floor(Date.now() / 1000);
    await waitFor('each delivery, once', async () => {
      const items = await postern.walk(`begin=${now - 2 * 86400}&end=${now + 2 * 86400}&ascending=yes&event=delivered&limit=300`);
      return items.length === 500 && new Set(items.map((i) => i.id)).size === 500;
    });
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });
});
