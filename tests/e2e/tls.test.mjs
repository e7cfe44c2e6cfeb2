// TLS on the listener: Ghost's client and curl over https, a certificate changed under load, what is refused.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { after, before, describe, it } from 'node:test';
import { createRequire } from 'node:module';
import { Postern, binary, domain, key, newsletterForm, readers, sleep, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const MultipartForm = require('form-data');
after(stopAll);

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-tls-'));
after(() => fs.rmSync(dir, { recursive: true, force: true }));

/** A certificate of its own authority for localhost; what names its files. */
function certificate(name, days = 90) {
  const files = { cert: path.join(dir, `${name}.crt`), key: path.join(dir, `${name}.key`) };
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', String(days),
    '-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', files.key, '-out', files.cert], { stdio: 'ignore' });
  return { ...files, ca: fs.readFileSync(files.cert) };
}

const section = (c) => `children = 2 tls_certificate = "${c.cert}" tls_key = "${c.key}"`;

describe('TLS', () => {
  const first = certificate('first');
  const second = certificate('second');
  let postern;
  let agent;

  /** A request over https. */
  function ask(method, pathname, { body, headers = {}, ca = first.ca, through = agent } = {}) {
    return new Promise((resolve, reject) => {
      const req = https.request(
        { host: '127.0.0.1', port: postern.port, method, path: pathname, ca, agent: through,
          headers: { Authorization: `Basic ${Buffer.from(`api:${key}`).toString('base64')}`, ...headers } },
        (res) => {
          const parts = [];
          res.on('data', (d) => parts.push(d));
          res.on('error', reject);
          res.on('end', () => resolve({ status: res.statusCode, text: Buffer.concat(parts).toString() }));
        });
      req.on('error', reject);
      req.end(body);
    });
  }

  before(async () => {
    agent = new https.Agent({ keepAlive: true, ca: [first.ca, second.ca] });
    postern = await Postern.start({
      scheme: 'https',
      sections: { httpd: section(first) },
      healthy: (p) => ((postern = p), ask('GET', '/health').then((r) => r.status === 200, () => false)),
    });
  });
  after(() => {
    agent.destroy();
    return postern?.stop();
  });

  /** From the next reload on. */
  const configure = (c) => {
    const text = fs.readFileSync(postern.confFile, 'utf8');
    fs.writeFileSync(postern.confFile, text.replace(/children = 2 tls_certificate = .*/, section(c)));
  };

  const post = (count, emailId) => {
    const form = newsletterForm(readers(count), { emailId });
    return ask('POST', `/v3/${domain}/messages`, { body: form.body, headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}` } });
  };

  it('takes a newsletter of 1,000 and gives its events, with https in the links', async () => {
    assert.equal((await post(1000, 'a1'.repeat(12))).status, 200);
    let url = `/v3/${domain}/events?limit=300&event=accepted&ascending=yes&begin=${Date.now() / 1000 - 600}`;
    await waitFor('all of them', async () => {
      let seen = 0;
      for (let next = url; ; ) {
        const { status, text } = await ask('GET', next);
        assert.equal(status, 200);
        const page = JSON.parse(text);
        assert.ok(page.paging.next.startsWith(`https://127.0.0.1:${postern.port}/v3/`), page.paging.next);
        if (page.items.length === 0) return seen === 1000;
        seen += page.items.length;
        next = new URL(page.paging.next).pathname;
      }
    });
  });

  it('takes a body of many TLS records, and refuses one that is too large', async () => {
    const big = newsletterForm(readers(2), { html: `<p>${'x'.repeat(20 << 20)}</p>` });
    const headers = { 'Content-Type': `multipart/form-data; boundary=${big.boundary}` };
    const taken = await ask('POST', `/v3/${domain}/messages`, { body: big.body, headers });
    assert.ok([200, 400].includes(taken.status), taken.text); // SES's own limit may say no
    const huge = newsletterForm(readers(2), { html: `<p>${'x'.repeat(33 << 20)}</p>` });
    const refused = await ask('POST', `/v3/${domain}/messages`, { body: huge.body, headers: { 'Content-Type': `multipart/form-data; boundary=${huge.boundary}` } });
    assert.equal(refused.status, 413);
  });

  it('serves mailgun.js and curl', async () => {
    const loaded = require('mailgun.js-10');
    const mg = new (loaded.default ?? loaded)(MultipartForm).client({ username: 'api', key, url: postern.url });
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; // axios takes no certificate of ours
    try {
      assert.ok((await mg.events.get(domain, { limit: 1 })).items.length === 1);
    } finally {
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    }
    const got = execFileSync('curl', ['-sS', '--cacert', first.cert, '-u', `api:${key}`, `${postern.url.replace('127.0.0.1', 'localhost')}/v3/${domain}/events?limit=1`], { encoding: 'utf8' });
    assert.equal(JSON.parse(got).items.length, 1);
    const refused = spawnSync('curl', ['-sS', `${postern.url}/health`], { encoding: 'utf8' });
    assert.equal(refused.status, 60); // the authority is not known: nobody is waved through
  });

  it('speaks TLS 1.2 and 1.3, HTTP/1.1, and nothing older', async () => {
    const shake = (options) =>
      new Promise((resolve, reject) => {
        const s = tls.connect({ host: '127.0.0.1', port: postern.port, ca: first.ca, ...options }, () => {
          resolve([s.getProtocol(), s.alpnProtocol]);
          s.destroy();
        });
        s.on('error', reject);
      });
    assert.deepEqual(await shake({ maxVersion: 'TLSv1.2', ALPNProtocols: ['h2', 'http/1.1'] }), ['TLSv1.2', 'http/1.1']);
    assert.deepEqual(await shake({ ALPNProtocols: ['http/1.1'] }), ['TLSv1.3', 'http/1.1']);
    await assert.rejects(shake({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' }));
  });

  it('resumes a session with whichever process answers', async () => {
    const connect = (session) =>
      new Promise((resolve, reject) => {
        const s = tls.connect({ host: '127.0.0.1', port: postern.port, ca: first.ca, session, maxVersion: 'TLSv1.2' }, () => {
          s.write('GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
          s.on('end', () => resolve({ session: s.getSession(), reused: s.isSessionReused() }));
          s.resume();
        });
        s.on('error', reject);
      });
    const { session } = await connect();
    for (let i = 0; i < 8; i++) assert.equal((await connect(session)).reused, true);
  });

  it('drops plain HTTP and noise, and goes on', async () => {
    for (const noise of ['GET /health HTTP/1.1\r\nHost: x\r\n\r\n', Buffer.alloc(100000, 0x16), '\x16\x03\x01\x40\x00'])
      await new Promise((resolve) => {
        const s = net.connect(postern.port, '127.0.0.1', () => s.end(noise));
        s.on('error', resolve);
        s.on('close', resolve);
        s.resume();
      });
    assert.equal((await ask('GET', '/health')).status, 200);
    assert.equal(postern.log().match(/obituary|killed by signal/g), null);
  });

  it('takes over a new certificate on HUP without a failed request', async () => {
    let failed = 0;
    let served = 0;
    let goOn = true;
    const load = Array.from({ length: 4 }, async () => {
      while (goOn) {
        // As Ghost's client does, a request on a kept connection that the server closes meanwhile is tried again.
        const got = await ask('GET', `/v3/${domain}/events?limit=1`, { ca: [first.ca, second.ca] }).catch((e) =>
          e.code === 'ECONNRESET' && ask('GET', `/v3/${domain}/events?limit=1`, { ca: [first.ca, second.ca], through: new https.Agent({ ca: [first.ca, second.ca] }) }).catch(() => null));
        if (got?.status === 200) served++;
        else failed++;
      }
    });
    configure(second);
    postern.child.kill('SIGHUP');
    const named = (ca) =>
      new Promise((resolve) => {
        const s = tls.connect({ host: '127.0.0.1', port: postern.port, ca }, () => {
          resolve(s.getPeerCertificate().subject.CN);
          s.destroy();
        });
        s.on('error', () => resolve(null));
      });
    await waitFor('the new one from every process', async () => {
      for (let i = 0; i < 12; i++) if ((await named([first.ca, second.ca])) !== 'second') return false;
      return true;
    });
    goOn = false;
    await Promise.all(load);
    assert.equal(failed, 0);
    assert.ok(served > 0);
  });

  it('keeps the old one when the new one cannot be used', async () => {
    configure({ cert: second.cert, key: first.key });
    postern.child.kill('SIGHUP');
    await waitFor('the refusal', () => /not taken over/.test(postern.log()));
    await sleep(300);
    assert.equal((await ask('GET', '/health', { ca: second.ca, through: new https.Agent({ ca: second.ca }) })).status, 200);
  });

  it('is checked by postern -t, which names the file', () => {
    const check = (c) => {
      configure(c);
      return spawnSync(binary, ['-t', '-c', postern.confFile], { encoding: 'utf8' });
    };
    assert.equal(check(first).status, 0);
    const missing = check({ cert: path.join(dir, 'nothing.crt'), key: first.key });
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /nothing\.crt: no certificate in PEM can be read/);
    const swapped = check({ cert: second.cert, key: first.key });
    assert.equal(swapped.status, 1);
    assert.match(swapped.stderr, /first\.key: .*does not belong/);
    const both = path.join(dir, 'both.pem');
    fs.writeFileSync(both, fs.readFileSync(first.key, 'utf8') + fs.readFileSync(first.cert, 'utf8'));
    assert.equal(check({ cert: both, key: '' }).status, 0);
    assert.equal(check({ cert: '', key: first.key }).status, 1);
    const locked = path.join(dir, 'locked.key');
    execFileSync('openssl', ['ec', '-in', first.key, '-aes256', '-passout', 'pass:x', '-out', locked], { stdio: 'ignore' });
    assert.match(check({ cert: first.cert, key: locked }).stderr, /locked\.key: .*without a passphrase/);
  });
});
