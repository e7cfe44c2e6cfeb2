// Reload (HUP) and upgrade (USR2) under load: no connection refused, no request failed, no recipient lost or doubled.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, audit, binary, domain, freePort, isSettled, key, newsletterForm, readers, serviceManager, sleep, startSandbox, stopAll, waitFor } from '../e2e/harness.mjs';

after(stopAll);
const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };
const authorization = `Basic ${Buffer.from(`api:${key}`).toString('base64')}`;

/** One request over a connection that is kept: {status} or {error}. */
const ask = (agent, port, options) =>
  new Promise((resolve) => {
    const req = http.request({ port, host: '127.0.0.1', agent, ...options, headers: { Authorization: authorization, ...options.headers } }, (res) => {
      res.resume();
      res.on('end', () => resolve({ status: res.statusCode }));
      res.on('error', (error) => resolve({ error: error.code }));
    });
    req.on('error', (error) => resolve({ error: `${error.code} on ${options.path}` }));
    req.end(options.body);
  });

/** Clients that read, ask for health and post newsletters until told to stop, over kept and over new connections. */
function load(postern, forms) {
  const failed = [];
  let going = true;
  let asked = 0;
  const agents = [];
  const until = async (agent, options) => {
    agents.push(agent);
    while (going) {
      const got = await ask(agent, postern.port, options);
      asked++;
      if (got.status !== 200) failed.push(got);
      await sleep(1);
    }
  };
  const kept = () => new http.Agent({ keepAlive: true, maxSockets: 1 });
  const fresh = () => new http.Agent({ keepAlive: false, maxSockets: 4 });
  const readersOf = [kept(), kept(), kept(), fresh(), fresh()].map((agent) => until(agent, { path: `/v3/${domain}/events?limit=5` }));
  const health = until(kept(), { path: '/health' });
  const posts = (async () => {
    const agent = kept();
    agents.push(agent);
    for (const form of forms) {
      const got = await ask(agent, postern.port, {
        method: 'POST',
        path: `/v3/${domain}/messages`,
        headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}` },
        body: form.body,
      });
      if (got.status !== 200) failed.push({ ...got, post: form.emailId });
      await sleep(50);
    }
  })();
  return {
    posts,
    stop: async () => {
      await posts;
      going = false;
      await Promise.all([...readersOf, health]);
      for (const agent of agents) agent.destroy();
      return { asked, failed };
    },
  };
}

const newsletters = (count, size, name) => Array.from({ length: count }, (_, i) => newsletterForm(readers(size, name, i * size)));
const expected = (forms, size, name) => forms.flatMap((f, i) => readers(size, name, i * size).map((a) => `${f.emailId} ${a}`));
const times = (postern, words) => postern.log().split(words).length - 1;

async function settled(postern, sandbox, wanted) {
  await waitFor('the books', () => isSettled(postern.batches()), 60000);
  const report = await audit(postern, sandbox, wanted);
  assert.deepEqual({ ...report, books: null }, { missing: 0, duplicates: 0, unaccounted: 0, books: null });
}

const edit = (postern, change) => fs.writeFileSync(postern.confFile, change(fs.readFileSync(postern.confFile, 'utf8')));

describe('a reload', () => {
  it('under load fails no request and no recipient, again and again, with other numbers and sizes each time', async () => {
    const sandbox = await startSandbox();
    await sandbox.set(quiet);
    const postern = await Postern.start({ sandbox, sections: { sender: 'children = 2\nmax_rate = "2000"', httpd: 'children = 2', poller: 'children = 1' } });
    const forms = newsletters(24, 100, 'again');
    const clients = load(postern, forms);
    const master = postern.child.pid;
    const rounds = [
      { httpd: 3, sender: 1, poller: 2, body: '16M' },
      { httpd: 1, sender: 3, poller: 1, body: '64M' },
      { httpd: 2, sender: 2, poller: 1, body: '32M' },
    ];
    for (const [i, round] of rounds.entries()) {
      edit(postern, (text) =>
        text
          .replace(/httpd \{\nchildren = \d+.*/, `httpd {\nchildren = ${round.httpd} max_body = "${round.body}"`)
          .replace(/sender \{\nchildren = \d+/, `sender {\nchildren = ${round.sender}`)
          .replace(/poller \{\nchildren = \d+/, `poller {\nchildren = ${round.poller}`),
      );
      postern.child.kill('SIGHUP');
      await waitFor('the new configuration', () => times(postern, 'the new configuration serves') === i + 1, 30000);
      const counts = {};
      for (const { name } of postern.status().processes) counts[name.split(' ')[0]] = (counts[name.split(' ')[0]] ?? 0) + 1;
      assert.deepEqual([counts.httpd, counts.sender, counts.poller], [round.httpd, round.sender, round.poller]);
    }
    const { asked, failed } = await clients.stop();
    assert.deepEqual(failed, []);
    assert.ok(asked > 100, `${asked} requests`);
    assert.equal(postern.child.pid, master);
    await settled(postern, sandbox, expected(forms, 100, 'again'));
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });

  it('adds and takes away addresses, of TCP and of Unix sockets', async () => {
    const postern = await Postern.start({ listen: [] });
    const socketPath = path.join(postern.dir, 'http.sock');
    const port = await freePort();
    const before = fs.readFileSync(postern.confFile, 'utf8');
    const get = (options) => ask(undefined, undefined, { path: '/health', ...options });
    edit(postern, (text) => text.replace(/listen = \{(.*)\}/, `listen = {$1, "127.0.0.1:${port}", "unix:${socketPath}"}\nlisten_mode = "0600"`));
    postern.child.kill('SIGHUP');
    await waitFor('the new addresses', () => times(postern, 'the new configuration serves') === 1, 20000);
    assert.equal((await get({ port })).status, 200);
    assert.equal((await get({ port: postern.port })).status, 200);
    const overUnix = () =>
      new Promise((resolve) => http.get({ socketPath, path: '/health', agent: false }, (res) => resolve(res.resume().statusCode)).on('error', (e) => resolve(e.code)));
    assert.equal(await overUnix(), 200);
    assert.equal(fs.statSync(socketPath).mode & 0o777, 0o600);
    fs.writeFileSync(postern.confFile, before);
    postern.child.kill('SIGHUP');
    await waitFor('them to be gone', () => times(postern, 'the new configuration serves') === 2, 20000);
    await waitFor('its refusal', async () => /ECONNREFUSED/.test((await get({ port })).error)); // the old generation lets go of it as it drains
    assert.equal(await overUnix(), 'ENOENT');
    assert.equal((await get({ port: postern.port })).status, 200);
    await postern.stop();
  });

  it('refuses an address that another program has, and what takes a restart, with its name', async () => {
    const postern = await Postern.start();
    const holder = http.createServer((_, res) => res.end()).listen(0, '127.0.0.1');
    await new Promise((resolve) => holder.on('listening', resolve));
    const before = fs.readFileSync(postern.confFile, 'utf8');
    edit(postern, (text) => text.replace(/listen = \{(.*)\}/, `listen = {$1, "127.0.0.1:${holder.address().port}"}`));
    postern.child.kill('SIGHUP');
    await waitFor('the refusal', () => times(postern, 'is not taken over') === 1);
    assert.match(postern.log(), new RegExp(`listen 127\\.0\\.0\\.1:${holder.address().port}.*in use`));
    holder.close();
    fs.writeFileSync(postern.confFile, before.replace(/state_dir = .*/, `state_dir = "${postern.dir}/elsewhere"`));
    postern.child.kill('SIGHUP');
    await waitFor('the refusal', () => times(postern, 'is not taken over') === 2);
    assert.match(postern.log(), /state_dir cannot be changed while Postern runs: restart it/);
    assert.equal(await postern.healthy(), true);
    assert.equal(fs.existsSync(`${postern.dir}/elsewhere`), false);
    fs.writeFileSync(postern.confFile, before);
    await postern.stop();
  });

  it('goes back to the old configuration when a process cannot live with the new one', async () => {
    const sandbox = await startSandbox();
    await sandbox.set(quiet);
    const postern = await Postern.start({ sandbox, sections: { httpd: 'children = 2 max_body = "1M"' } });
    const before = fs.readFileSync(postern.confFile, 'utf8');
    const [httpd] = postern.pids('httpd');
    const limit = (bytes) => execFileSync('prlimit', [`--as=${bytes}:`, '--pid', String(postern.child.pid)]);
    const pages = Number(fs.readFileSync(`/proc/${postern.child.pid}/statm`, 'utf8').split(' ')[0]);
    fs.writeFileSync(postern.confFile, before.replace('"127.0.0.1:', `"127.0.0.1:${await freePort()}", "127.0.0.1:`).replace('children = 2', 'children = 1'));
    limit(pages * 4096 + (256 << 20)); // room for the new rings, and none for the store in the writer
    postern.child.kill('SIGHUP');
    await waitFor('the way back', () => times(postern, 'the old configuration keeps running') === 1, 30000);
    limit('unlimited');
    await waitFor('the writer', () => postern.pids('writer').length === 1 && postern.status().processes.every((p) => p.state === 'ready'), 20000);
    assert.ok(postern.pids('httpd').includes(httpd), 'the old httpds served on');
    const form = newsletterForm(readers(20, 'back'));
    assert.equal((await postern.post(form)).status, 200);
    await settled(postern, sandbox, expected([form], 20, 'back'));
    fs.writeFileSync(postern.confFile, before);
    postern.child.kill('SIGHUP');
    await waitFor('a reload after it', () => times(postern, 'the new configuration serves') === 1, 20000);
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });

  it('may be asked for while one is under way', async () => {
    const postern = await Postern.start();
    for (let i = 0; i < 3; i++) postern.child.kill('SIGHUP');
    await waitFor('them all', () => times(postern, 'configuration read again') >= 1 && times(postern, 'the new configuration serves') === times(postern, 'configuration read again'), 20000);
    await waitFor('everybody', () => postern.status().processes.every((p) => p.state === 'ready'));
    assert.equal(await postern.healthy(), true);
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });
});

/** The pid of the master that serves: the youngest of the chain of masters. */
function serving(pid) {
  const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean).map(Number);
  const heir = children.find((child) => fs.readFileSync(`/proc/${child}/task/${child}/children`, 'utf8').trim() !== '');
  return heir ? serving(heir) : pid;
}

describe('an upgrade', () => {
  it('under load refuses no connection and fails no recipient, twice', async () => {
    const sandbox = await startSandbox();
    await sandbox.set({ ...quiet, latency_ms: 20 });
    const postern = await Postern.start({ sandbox, sections: { sender: 'max_rate = "2000"' } });
    const forms = newsletters(24, 100, 'upgrade');
    const clients = load(postern, forms);
    const masters = new Set([serving(postern.child.pid)]);
    for (let i = 1; i <= 2; i++) {
      process.kill(serving(postern.child.pid), 'SIGUSR2');
      await waitFor('the new binary', () => times(postern, 'upgrade: the new binary serves') === i, 60000);
      await waitFor('its master', () => !masters.has(serving(postern.child.pid)));
      masters.add(serving(postern.child.pid));
    }
    const { asked, failed } = await clients.stop();
    assert.deepEqual(failed, []);
    assert.ok(asked > 100, `${asked} requests`);
    await settled(postern, sandbox, expected(forms, 100, 'upgrade'));
    // Whoever started us knows the first pid only: signals to it reach the one that serves.
    postern.child.kill('SIGHUP');
    await waitFor('the reload', () => times(postern, 'the new configuration serves') === 1, 20000);
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });

  it('goes back to the old binary when the new one fails, wherever it fails, and nobody notices', async () => {
    const sandbox = await startSandbox();
    await sandbox.set(quiet);
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-test-'));
    const installed = path.join(dir, 'postern');
    const install = (write) => {
      write(`${installed}.new`);
      fs.chmodSync(`${installed}.new`, 0o755);
      fs.renameSync(`${installed}.new`, installed);
    };
    install((at) => fs.copyFileSync(binary, at));
    const postern = await Postern.start({ sandbox, binary: installed });
    const forms = newsletters(20, 50, 'bad-binary');
    const clients = load(postern, forms);
    // What it can do: end at once; say that its httpds accept, and end; or end when it is to start its writer. (Numbers of file
    // descriptors come by the environment; a Node program has them open, too.)
    const speaks = (script) => (at) => fs.writeFileSync(at, `#!${process.execPath}\nconst fd = Number(process.env.POSTERN_HANDOVER.split(' ')[0]);\nconst fs = require('fs');\n${script}\n`);
    const failures = [
      [(at) => fs.writeFileSync(at, '#!/bin/sh\nexit 3\n'), /left with status 3: the old binary goes on/],
      [(at) => fs.writeFileSync(at, 'this is no program'), /left with status 127: the old binary goes on/],
      [speaks("fs.writeSync(fd, 'R'); process.exit(4)"), /left with status 4|has ended: the old binary goes on/],
      [speaks("fs.writeSync(fd, 'R'); const b = Buffer.alloc(1); fs.readSync(fd, b); process.kill(process.pid, b.toString() === 'G' ? 'SIGKILL' : 'SIGTERM')"), /signal 9|has ended: the old binary goes on/],
    ];
    for (const [i, [write, words]] of failures.entries()) {
      install(write);
      process.kill(postern.child.pid, 'SIGUSR2');
      await waitFor('the way back', () => times(postern, 'the old binary goes on') === i + 1, 30000);
      assert.match(postern.log().split(`upgrade ${i + 1}`).at(-1), words);
      await waitFor('everybody', () => {
        try {
          return postern.status().processes.every((p) => p.state === 'ready');
        } catch {
          return false; // the writer is on its way
        }
      }, 20000);
    }
    install((at) => fs.copyFileSync(binary, at));
    process.kill(postern.child.pid, 'SIGUSR2');
    await waitFor('the new binary', () => times(postern, 'upgrade: the new binary serves') === 1, 60000);
    const { failed } = await clients.stop();
    assert.deepEqual(failed, []);
    await settled(postern, sandbox, expected(forms, 50, 'bad-binary'));
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
    fs.rmSync(dir, { recursive: true });
  });

  it('tells the service manager which process is the main one, and leaves it alone', async () => {
    const sandbox = await startSandbox();
    const manager = await serviceManager();
    const postern = await Postern.start({ sandbox, env: { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '3000000' } });
    await waitFor('READY', () => /READY=1/.test(manager.text()));
    process.kill(postern.child.pid, 'SIGUSR2');
    assert.deepEqual(await postern.child.ended, { code: 0, signal: null });
    const pid = Number(manager.text().match(/MAINPID=(\d+)/)[1]);
    await waitFor('the new one to speak', () => /MAINPID[^]*READY=1[^]*WATCHDOG=1/.test(manager.text()));
    assert.equal(await postern.healthy(), true);
    process.kill(pid, 'SIGTERM');
    await waitFor('its end', () => !fs.existsSync(`/proc/${pid}`));
    manager.close();
  });
});
