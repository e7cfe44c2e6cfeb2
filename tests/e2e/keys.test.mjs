// Who may do what: keys of a domain, of all domains, for sending only; kept as digests; changed by a reload; guessed.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { Postern, binary, domain, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

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
