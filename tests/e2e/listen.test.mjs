// Where Postern listens and whom it believes: Unix sockets, proxies in front of it, the origin that its answers name.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Postern, binary, domain, freePort, key, stopAll, waitFor } from './harness.mjs';

after(stopAll);
const basic = (secret) => `Basic ${Buffer.from(`api:${secret}`).toString('base64')}`;

/** A request to a Unix socket or an address: {status, headers, body}. */
const ask = (to, { method = 'GET', pathname = `/v3/${domain}/events?limit=1`, headers = {}, secret = key } = {}) =>
  new Promise((resolve, reject) => {
    const target = typeof to === 'string' ? { socketPath: to } : { host: '127.0.0.1', port: to.port };
    const req = http.request({ ...target, method, path: pathname, agent: false, headers: { Authorization: basic(secret), ...headers } }, (res) => {
      let body = '';
      res.on('data', (d) => (body += d)).on('end', () => resolve({ status: res.statusCode, headers: res.headers, body }));
    });
    req.on('error', reject).end();
  });
const next = async (to, headers) => JSON.parse((await ask(to, { headers })).body).paging.next;

describe('a Unix socket', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-unix-'));
  const at = path.join(dir, 'http.sock');
  let postern;
  before(async () => (postern = await Postern.start({ listen: [`unix:${at}`], conf: 'listen_mode = "0620"\ntrusted_proxies = {"unix"}' })));
  after(() => postern?.stop());
  const start = (conf) => {
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'postern-second-')), 'proxy.conf');
    fs.writeFileSync(
      file,
      `listen = {"unix:${conf.at ?? at}"}\nstate_dir = "${path.dirname(file)}/state"\ngrace = "1s"
      sandbox { enabled = true listen = "127.0.0.1:${conf.port}" }\ndomain "${domain}" { api_keys = {"${key}"} }\n`,
    );
    return spawnSync(binary, ['-c', file], { encoding: 'utf8', timeout: 20000 });
  };

  it('serves as an address does, with the permissions asked for', async () => {
    assert.equal((await ask(at)).status, 200);
    assert.equal((await ask(at, { secret: 'wrong' })).status, 401);
    const st = fs.statSync(at);
    assert.ok(st.isSocket());
    assert.equal(st.mode & 0o777, 0o620);
    assert.match(await next(at, { Host: 'mail.example.com' }), /^http:\/\/mail\.example\.com\/v3\//);
  });

  it('stays through a reload', async () => {
    const [pids, inode] = [postern.pids('httpd'), fs.statSync(at).ino];
    postern.child.kill('SIGHUP');
    await waitFor('new processes', () => postern.pids('httpd').length === pids.length && postern.pids('httpd').every((p) => !pids.includes(p)));
    assert.equal(fs.statSync(at).ino, inode);
    assert.equal((await ask(at)).status, 200);
  });

  it('is not taken from a Postern that serves it', async () => {
    const second = start({ port: await freePort() });
    assert.equal(second.status, 1, second.stderr);
    assert.match(second.stderr, /another Postern serves it/);
    assert.equal((await ask(at)).status, 200);
  });

  it('is not taken from another program, nor are files', async () => {
    const theirs = path.join(dir, 'theirs.sock');
    const server = http.createServer((req, res) => res.end('theirs')).listen(theirs);
    const file = path.join(dir, 'a file');
    fs.writeFileSync(file, 'precious');
    await waitFor('the other program', () => server.listening);
    // In a process of its own: the other program has to live meanwhile.
    const port = await freePort();
    const conf = path.join(dir, 'other.conf');
    fs.writeFileSync(conf, `listen = {"unix:${theirs}"}\nstate_dir = "${dir}/other"\nsandbox { enabled = true listen = "127.0.0.1:${port}" }\ndomain "${domain}" { api_keys = {"${key}"} }\n`);
    const child = spawn(binary, ['-c', conf], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (d) => (said += d));
    const code = await new Promise((resolve) => child.on('close', resolve));
    assert.equal(code, 1, said);
    assert.match(said, /another program serves it/);
    assert.equal((await ask(theirs)).body, 'theirs');
    server.close();
    const refused = start({ at: file, port });
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /no socket/);
    assert.equal(fs.readFileSync(file, 'utf8'), 'precious');
  });

  it('is replaced when its Postern was killed, and gone when it left', async () => {
    await postern.stop('SIGKILL');
    assert.ok(fs.existsSync(at));
    await waitFor('a refusal', () => ask(at).then(() => false, (e) => /ECONNREFUSED/.test(e)), 5000); // until then: reset
    await postern.launch();
    assert.equal((await ask(at)).status, 200);
    await postern.stop();
    assert.ok(!fs.existsSync(at));
    await postern.launch();
  });

  it('must have a path that fits', () => {
    const conf = path.join(dir, 'long.conf');
    fs.writeFileSync(conf, `listen = {"unix:/${'x'.repeat(107)}", "unix:relative"}\nlisten_mode = "rw"\ntrusted_proxies = {"10.0.0.0/33", "proxy.example"}\nsandbox { enabled = true }\ndomain "${domain}" { api_keys = {"${key}"} }\n`);
    const said = spawnSync(binary, ['-t', '-c', conf], { encoding: 'utf8' }).stderr;
    for (const words of ['no more than 107 bytes', '"unix:relative"', 'permissions in octal', '"10.0.0.0/33" is no address', '"proxy.example" is no address']) assert.ok(said.includes(words), `${words}\n${said}`);
  });
});

describe('a proxy in front', () => {
  let trusting, wary;
  before(async () => {
    // One process, as each counts the guesses that come to it.
    const sections = { httpd: 'children = 1' };
    trusting = await Postern.start({ sections, conf: 'trusted_proxies = {"127.0.0.1", "10.0.0.0/8"}' });
    wary = await Postern.start({ sections, conf: 'public_url = "https://mail.example.org/"\ntrusted_proxies = {"10.0.0.0/8"}' });
  });
  after(() => Promise.all([trusting?.stop(), wary?.stop()]));

  it('says which origin the client used', async () => {
    for (const [headers, origin] of [
      [{ 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'mail.example.com' }, 'https://mail.example.com'],
      [{ 'X-Forwarded-For': '203.0.113.1, 10.0.0.7', 'X-Forwarded-Proto': 'https', Host: 'mail.example.com' }, 'https://mail.example.com'],
      [{ Forwarded: 'for=203.0.113.1;proto=https;host="mail.example.com:8443"' }, 'https://mail.example.com:8443'],
      [{ Forwarded: 'host="evil.example/x?"' }, 'http://localhost'],
    ]) {
      for (const list of ['events', 'bounces', 'tags'])
        assert.equal(new URL(JSON.parse((await ask(trusting, { headers, pathname: `/v3/${domain}/${list}?limit=1` })).body).paging.next).origin, origin, list);
    }
  });

  it('is believed only where trusted_proxies names it; public_url wins', async () => {
    const headers = { 'X-Forwarded-Proto': 'http', 'X-Forwarded-Host': 'evil.example', Forwarded: 'host=evil.example' };
    assert.equal(new URL(await next(wary, headers)).origin, 'https://mail.example.org');
    const plain = await Postern.start();
    assert.equal(new URL(await next(plain, headers)).origin, plain.url);
    await plain.stop();
  });

  it('makes guesses of keys slow for who guesses, not for the proxy', async () => {
    const guess = async (to, from) => {
      const begun = performance.now();
      assert.equal((await ask(to, { secret: 'wrong', headers: { 'X-Forwarded-For': from } })).status, 401);
      return performance.now() - begun;
    };
    for (let i = 0; i < 9; i++) await guess(trusting, '203.0.113.66');
    assert.ok((await guess(trusting, '203.0.113.66')) >= 250);
    // Thirty others, none of which has guessed before: none waits. Taken for one, the last would wait for 4 s.
    const others = await Promise.all(Array.from({ length: 30 }, (_, i) => guess(trusting, `198.51.100.${i + 1}`)));
    assert.ok(Math.max(...others) < 3000, others.join(' '));
    // Who is not trusted cannot be somebody else each time.
    for (let i = 0; i < 9; i++) await guess(wary, `198.51.100.${i + 1}`);
    assert.ok((await guess(wary, '198.51.100.99')) >= 250);
  });
});
