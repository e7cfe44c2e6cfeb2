// A real Ghost sends a real newsletter through Postern, and its own database shows what came of it.
//
// GHOST_DIR   an installed Ghost 6: scripts/ghost.sh (`make test-ghost`) makes one and runs this
// GHOST_NODE  the node that runs it (default: the one that runs this test)
// MEMBERS     default 2500
//
// It takes about twelve minutes: Ghost reads analytics every five.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { after, describe, it } from 'node:test';
import { Postern, domain, freePort, isSettled, key, sleep, stopAll, waitFor } from '../e2e/harness.mjs';

const ghostDir = process.env.GHOST_DIR;
const members = Number(process.env.MEMBERS ?? 2500);
let ghost;
after(async () => {
  ghost?.kill('SIGKILL');
  await stopAll();
});

describe('a real Ghost', { skip: ghostDir ? false : 'GHOST_DIR is not set: NOT TESTED with a real Ghost' }, () => {
  it(`${members} members, one newsletter: sent once each, counted in Ghost's database`, { timeout: 1500000 }, async () => {
    const postern = await Postern.start();
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 4000, click_rate: 0 });
    const dir = path.join(postern.dir, 'ghost');
    fs.mkdirSync(path.join(dir, 'content'), { recursive: true });
    for (const name of ['data', 'images', 'logs', 'public', 'settings', 'themes', 'adapters'])
      fs.cpSync(path.join(ghostDir, 'content', name), path.join(dir, 'content', name), { recursive: true });
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const filename = path.join(dir, 'content/data/ghost.db');
    // Ghost takes its configuration from the environment too: names joined by two underscores.
    const settings = {
      url,
      server__host: '127.0.0.1',
      server__port: port,
      database__client: 'sqlite3',
      database__connection__filename: filename,
      database__useNullAsDefault: true,
      mail__transport: 'Direct',
      mail__from: `noreply@${domain}`,
      logging__level: 'info',
      logging__transports: '["stdout"]',
      process: 'local',
      paths__contentPath: path.join(dir, 'content'),
      security__staffDeviceVerification: false,
      bulkEmail__mailgun__baseUrl: `${postern.url}/v3`,
      bulkEmail__mailgun__apiKey: key,
      bulkEmail__mailgun__domain: domain,
    };
    const log = fs.openSync(path.join(dir, 'log'), 'a');
    ghost = spawn(process.env.GHOST_NODE ?? process.execPath, [path.join(ghostDir, 'index.js')], {
      cwd: ghostDir,
      env: { ...process.env, ...Object.fromEntries(Object.entries(settings).map(([k, v]) => [k, String(v)])), NODE_ENV: 'production' },
      stdio: ['ignore', log, log],
    });
    console.log(`Ghost's log: ${dir}/log`);
    const api = `${url}/ghost/api/admin`;
    let cookie = '';
    const call = async (method, pathname, body) => {
      const res = await fetch(api + pathname, {
        method,
        headers: { 'Content-Type': 'application/json', Origin: url, cookie },
        body: body && JSON.stringify(body),
      });
      if (!res.ok) throw new Error(`${method} ${pathname}: ${res.status} ${await res.text()}`);
      if (res.headers.get('set-cookie')) cookie = res.headers.get('set-cookie').split(';')[0];
      const text = await res.text();
      return text && text[0] === '{' ? JSON.parse(text) : text;
    };
    await waitFor('Ghost', async () => (await fetch(`${api}/site/`).catch(() => null))?.status === 200, 120000, 500);
    const owner = { name: 'Owner', email: 'owner@example.com', password: 'Sandbox-pass-1234', blogTitle: 'Gazette' };
    await call('POST', '/authentication/setup/', { setup: [owner] });
    await call('POST', '/session/', { username: owner.email, password: owner.password });

    const addresses = Array.from({ length: members }, (_, i) =>
      i % 250 === 7 ? `bounce${i}@readers.example.net` : i % 500 === 9 ? `complaint${i}@readers.example.net` : `reader${i}@readers.example.net`,
    );
    const bounces = addresses.filter((a) => a.startsWith('bounce'));
    const queue = [...addresses];
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let email = queue.shift(); email; email = queue.shift())
          await call('POST', '/members/?send_email=false', { members: [{ email, name: `Reader ${email}` }] });
      }),
    );
    console.log(`${members} members`);

    const publish = async (title) => {
      const { posts } = await call('POST', '/posts/?source=html', { posts: [{ title, html: '<p>Hello {first_name, "you"}, news.</p>' }] });
      await call('PUT', `/posts/${posts[0].id}/?newsletter=default-newsletter&email_segment=all`, {
        posts: [{ updated_at: posts[0].updated_at, status: 'published' }],
      });
      return posts[0].id;
    };
    const emailOf = async (id) => (await call('GET', `/posts/${id}/?include=email`)).posts[0].email;
    const first = await publish('First issue');
    const email = await waitFor('the newsletter', async () => {
      const e = await emailOf(first);
      return e?.status === 'submitted' ? e : e?.status === 'failed' ? assert.fail(JSON.stringify(e)) : null;
    }, 240000, 1000);
    assert.equal(email.email_count, members);
    await waitFor('the books', () => isSettled(postern.batches()), 60000);
    const books = postern.batches();
    assert.equal(books.length, Math.ceil(members / 1000), 'POSTs');
    const counts = [...(await postern.sandbox.recipients()).values()];
    assert.equal(counts.length, members);
    assert.ok(counts.every((n) => n === 1));
    console.log(`sent: ${books.length} POSTs, ${counts.length} mails, no duplicate; waiting for Ghost's analytics`);

    const Database = createRequire(path.join(ghostDir, 'index.js'))('better-sqlite3');
    const db = (sql, ...args) => {
      const open = new Database(filename, { readonly: true });
      try {
        return open.prepare(sql).get(...args);
      } finally {
        open.close();
      }
    };
    const row = () => db('select email_count, delivered_count, opened_count, failed_count from emails where id = ?', email.id);
    const expected = members - bounces.length;
    const seen = await waitFor('the counts in Ghost', () => {
      const r = row();
      return r.delivered_count === expected && r.failed_count === bounces.length && r.opened_count > 0 ? r : null;
    }, 800000, 2000).catch(() => assert.fail(`Ghost's database says ${JSON.stringify(row())}`));
    console.log(`Ghost's database: ${JSON.stringify(seen)}`);
    const opens = postern.batches().reduce((sum, b) => sum + b.opened, 0);
    assert.ok(seen.opened_count <= opens);

    // The next newsletter: a bounced reader gets 605, and Ghost suppresses the address.
    const second = await publish('Second issue');
    await waitFor('the second newsletter', async () => (await emailOf(second))?.status === 'submitted', 240000, 1000);
    await waitFor('the suppression in Ghost', () => db('select count(*) as n from suppressions where email = ?', bounces[0])?.n === 1, 800000, 2000);
    console.log('suppressed in Ghost; lifting it');
    const member = (await call('GET', `/members/?filter=${encodeURIComponent(`email:'${bounces[0]}'`)}`)).members[0];
    await call('DELETE', `/members/${member.id}/suppression/`);
    await waitFor('its removal here', async () => {
      const res = await postern.request('GET', `/v3/${domain}/bounces/${encodeURIComponent(bounces[0])}`);
      return res.status === 404;
    }, 20000);
    await sleep(200);
    assert.equal(db('select count(*) as n from suppressions where email = ?', bounces[0]).n, 0);
    await postern.stop();
  });
});
