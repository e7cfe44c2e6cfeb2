// Who may do what: keys of a domain, of all domains, for sending only; kept as digests; changed by a reload,
// or added and withdrawn without one; guessed.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { execFileSync, spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { Postern, binary, domain, jsonLines, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(stopAll);
const other = 'news.example.org';
const fresh = () => JSON.parse(execFileSync(binary, ['key', 'new', '--json'], { encoding: 'utf8' }));

describe('keys', () => {
  const [own, everywhere, sending] = [fresh(), fresh(), fresh()];
  let postern;

  before(async () => {
    postern = await Postern.start({ conf: `api_keys = {"sha256:${everywhere.sha256}"}`, domains: { [domain]: [key], [other]: ['key-of-the-other'] } });
    const text = fs.readFileSync(postern.confFile, 'utf8');
    fs.writeFileSync(
      postern.confFile,
      text.replace(`domain "${domain}" {`, `domain "${domain}" {
  sending_keys = {"sha256:${sending.sha256}"}
  allowed_from = {"newsletter@mg.example.com", "*.team.example.com", "sister.example"}`),
    );
    await postern.stop();
    await postern.launch();
  });
  after(() => postern?.stop());

  const status = async (secret, method, path, options = {}) =>
    (await postern.request(method, path, { auth: `api:${secret}`, ...options })).status;
  const post = (secret, to = domain, from = `newsletter@${to}`) => {
    const form = newsletterForm(readers(1), { domain: to, from });
    return postern.post(form, { domain: to, auth: `api:${secret}` });
  };

  it('are random, and stand in the file as their digests', () => {
    assert.match(own.key, /^key-[0-9a-f]{40}$/);
    assert.notEqual(own.key, everywhere.key);
    const said = execFileSync(binary, ['key', 'new'], { encoding: 'utf8' });
    assert.match(said, /^key-[0-9a-f]{40}\n\n[^]*"sha256:[0-9a-f]{64}"/);
    const text = fs.readFileSync(postern.confFile, 'utf8');
    assert.ok(!text.includes(everywhere.key) && !text.includes(sending.key));
  });

  it('open their own domain, or all', async () => {
    for (const [secret, at, want] of [
      [key, domain, 200],
      [key, other, 401],
      ['key-of-the-other', other, 200],
      [everywhere.key, domain, 200],
      [everywhere.key, other, 200],
      [`sha256:${everywhere.sha256}`, domain, 401],
      [everywhere.sha256, domain, 401],
    ])
      assert.equal(await status(secret, 'GET', `/v3/${at}/events?limit=1`), want, `${secret} ${at}`);
  });

  it('may be for sending only', async () => {
    assert.equal((await post(sending.key)).status, 200);
    assert.equal((await post(sending.key, other)).status, 401);
    for (const [method, path] of [['GET', 'events'], ['GET', 'bounces'], ['DELETE', 'bounces/x%40y.io'], ['DELETE', 'bounces'], ['POST', 'unsubscribes'], ['GET', 'nowhere']])
      assert.equal(await status(sending.key, method, `/v3/${domain}/${path}`), 401, path);
  });

  it('limit From where the domain says so', async () => {
    for (const [from, want] of [
      ['newsletter@mg.example.com', 200],
      ['"The, News" <Newsletter@MG.example.com>', 200],
      ['ann@a.team.example.com', 200],
      ['any@sister.example', 200],
      ['ceo@mg.example.com', 400],
      ['ann@team.example.com', 400],
      ['ann@xteam.example.com', 400],
      ['"newsletter@mg.example.com" <ceo@mg.example.com>', 400],
      ['newsletter@mg.example.com, ceo@mg.example.com', 400],
    ]) {
      const res = await post(key, domain, from);
      const { message } = await res.json();
      assert.equal(res.status, want, `${from}: ${message}`);
      if (want === 400) assert.match(message, /^'from' parameter: .* may not send for mg\.example\.com$/);
    }
    const mime = new FormData();
    mime.append('to', readers(1)[0]);
    mime.append('message', new Blob(['From: ceo@mg.example.com\r\nTo: x@readers.example.net\r\nSubject: s\r\n\r\nhello\r\n']), 'm.eml');
    assert.equal((await postern.request('POST', `/v3/${domain}/messages.mime`, { body: mime })).status, 400);
  });

  it('are changed by a reload, the old and the new together', async () => {
    // A kept connection may be closed between two requests: clients try again.
    const once = (secret) => status(secret, 'GET', `/v3/${domain}/events?limit=1`);
    const read = (secret) => once(secret).catch(() => once(secret));
    const text = fs.readFileSync(postern.confFile, 'utf8');
    const become = async (keys, gone, come) => {
      fs.writeFileSync(postern.confFile, text.replace(`api_keys = {"${key}"}`, `api_keys = {${keys.map((k) => `"${k}"`).join(', ')}}`));
      postern.child.kill('SIGHUP');
      await waitFor('every process', async () => {
        for (let i = 0; i < 8; i++) {
          if (come && (await read(come)) !== 200) return false;
          if (gone && (await read(gone)) !== 401) return false;
        }
        return true;
      }, 30000, 500);
    };
    await become([key, `sha256:${own.sha256}`], null, own.key);
    assert.equal(await read(key), 200);
    await become([`sha256:${own.sha256}`], key, own.key);
    await become([key], own.key, key);
  });

  it('are slow to guess, and right ones are not kept waiting', async () => {
    let answered = 0;
    const wrong = Array.from({ length: 60 }, (_, i) => status(`guess-${i}`, 'GET', `/v3/${domain}/events`).then((s) => (answered++, s)));
    // The first few cost nothing, the later ones wait for seconds; a right key does not.
    for (let i = 0; i < 5; i++) assert.equal(await status(key, 'GET', `/v3/${domain}/events?limit=1`), 200);
    assert.ok(answered < 60);
    assert.ok((await Promise.all(wrong)).every((s) => s === 401));
  });

  it('are added and withdrawn while Postern runs, in one step, and stay so', async () => {
    const read = (secret, at = domain) => status(secret, 'GET', `/v3/${at}/events?limit=1`);
    const ask = (...words) => JSON.parse(postern.cli('key', ...words, '--json'));
    const added = ask('add', '--domain', domain, '--label', 'Ghost "one"');
    assert.match(added.key, /^key-[0-9a-f]{40}$/);
    assert.equal(added.words, `it opens ${domain} at once`);
    assert.equal(await read(added.key), 200);
    assert.equal(await read(added.key, other), 401);
    assert.equal((await post(added.key)).status, 200);
    assert.equal(await read(added.sha256), 401);

    const sender = ask('add', '--domain', domain.toUpperCase(), '--sending');
    assert.equal(await read(sender.key), 401);
    assert.equal((await post(sender.key)).status, 200);
    const said = postern.cli('key', 'add', '--domain', '*');
    const [all] = said.match(/^key-[0-9a-f]{40}\n\n/);
    assert.match(said, /not shown again:\nit opens all domains at once\.\nIn proxy\.conf it may stand as "sha256:[0-9a-f]{64}"\.\n$/);
    assert.equal(await read(all.trim(), other), 200);
    assert.equal(await status(all.trim(), 'GET', '/metrics'), 200);

    // A withdrawn key of proxy.conf, of the store, by the key itself, and by digits of its digest.
    assert.equal(await read(key), 200);
    assert.match(postern.cli('key', 'withdraw', key), /no longer opens mg\.example\.com; it still stands in proxy\.conf/);
    assert.equal(await read(key), 401);
    assert.equal((await post(key)).status, 401);
    assert.equal(ask('withdraw', `sha256:${sender.sha256.slice(0, 8)}...`).withdrawn, 1);
    assert.equal((await post(sender.key)).status, 401);
    assert.equal(ask('withdraw', all.trim()).done, true);
    assert.equal(await read(all.trim(), other), 401);
    assert.equal(await status(all.trim(), 'GET', '/metrics'), 401);
    assert.equal(await status(everywhere.key, 'GET', '/metrics'), 200);
    postern.cli('key', 'withdraw', everywhere.sha256, '--domain', other);
    assert.deepEqual([await read(everywhere.key), await read(everywhere.key, other)], [200, 401]);
    assert.equal(await status(everywhere.key, 'GET', '/metrics'), 401);

    for (const pid of postern.pids('writer')) process.kill(pid, 'SIGKILL');
    assert.equal(await read(key), 401);
    await postern.stop();
    await postern.launch();
    assert.deepEqual([await read(added.key), await read(key), await read(sender.key)], [200, 401, 401]);
    const rows = jsonLines(postern.cli('key', 'list', '--json'));
    const row = (sha256, at = domain) => rows.find((r) => sha256.startsWith(r.id) && r.domain === at);
    assert.equal(row(added.sha256).state, 'added');
    assert.equal(row(added.sha256).label, 'Ghost "one"');
    assert.ok(Math.abs(Date.now() - row(added.sha256)['since-ms']) < 120000 && row(added.sha256).by.length > 0);
    assert.equal(row(sender.sha256).state, 'withdrawn');
    assert.equal(row(sender.sha256).kind, 'sending');
    assert.equal(row(everywhere.sha256, '*').state, 'configured');
    assert.equal(row(everywhere.sha256, other).state, 'withdrawn');
    assert.ok(rows.some((r) => r.state === 'withdrawn' && r['in-proxy-conf']));
    const table = postern.cli('key', 'list', '--domain', domain);
    assert.match(table, /^id +domain +kind +state +since +by +label\n/);
    assert.match(table, /mg\.example\.com +full +withdrawn .* still in proxy\.conf\n/);
    assert.match(table, new RegExp(`${added.sha256.slice(0, 12)} +mg\\.example\\.com +full +added .*Ghost "one"\n`));
    assert.doesNotMatch(table, /news\.example\.org/);
    for (const secret of [added.key, sender.key, all.trim()]) {
      assert.ok(!postern.log().includes(secret) && !JSON.stringify(postern.status()).includes(secret));
      assert.ok(!table.includes(secret));
    }
    assert.match(postern.log(), new RegExp(`the key sha256:${added.sha256.slice(0, 8)}\\.\\.\\. opens mg`));
  });

  it('are refused where nobody can mean it', () => {
    const refused = (code, pattern, ...words) => {
      const { status: got, stderr } = spawnSync(binary, ['key', '-c', postern.confFile, ...words], { encoding: 'utf8' });
      assert.match(stderr, pattern, words.join(' '));
      assert.equal(got, code, words.join(' '));
    };
    refused(1, /nowhere\.example is no configured domain/, 'add', '--domain', 'nowhere.example');
    refused(1, /nowhere\.example is no configured domain/, 'list', '--domain', 'nowhere.example');
    refused(1, /nowhere\.example is no configured domain/, 'withdraw', everywhere.key, '--domain', 'nowhere.example');
    refused(2, /say which domain it opens/, 'add');
    refused(1, /a label is a text of at most 64 bytes/, 'add', '--domain', domain, '--label', 'x'.repeat(65));
    refused(1, /there is no such key/, 'withdraw', 'key-that-is-not');
    refused(1, /there is no such key/, 'withdraw', '00000000');
    refused(2, /at least 8 hex digits/, 'withdraw', 'sha256:1234');
    refused(1, /last key of news\.example\.org.*--force/, 'withdraw', 'key-of-the-other');
    refused(2, /say which to withdraw/, 'withdraw');
    refused(2, /new takes nothing but --json/, 'new', '--domain', domain);
    refused(2, /list takes/, 'list', '--force');
    refused(2, /did you mean withdraw/, 'withdrw', 'x');
    const json = spawnSync(binary, ['key', '-c', postern.confFile, 'withdraw', 'key-of-the-other', '--json'], { encoding: 'utf8' });
    assert.equal(json.status, 1);
    assert.deepEqual([JSON.parse(json.stdout).done, JSON.parse(json.stdout).withdrawn], [false, 0]);
  });

  it('that cannot be right are refused by -t', () => {
    const check = (from, to) => {
      const file = `${postern.confFile}.bad`;
      fs.writeFileSync(file, fs.readFileSync(postern.confFile, 'utf8').replace(from, to));
      try {
        execFileSync(binary, ['-t', '-c', file], { stdio: 'pipe' });
        return '';
      } catch (e) {
        return e.stderr.toString();
      }
    };
    assert.equal(check('x-y-z', ''), '');
    assert.match(check(`"${key}"`, '"sha256:12"'), /behind sha256: an API key has 64 hex digits/);
    assert.match(check(`"${key}"`, '""'), /has an empty API key/);
    assert.match(check(`api_keys = {"sha256:${everywhere.sha256}"}`, 'api_keys = {"sha256:xyz"}'), /64 hex digits/);
  });
});
