// The log: where it goes, what it tells of a request from end to end, and what it never shows.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, binary, domain, isSettled, jsonLines, key, newsletterForm, readers, sleep, startSandbox, stopAll, waitFor } from './harness.mjs';

after(stopAll);
const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };
const read = (file) => fs.readFileSync(file, 'utf8');
// Of a file that is being written: Linux shows a write page by page.
const ended = (text) => text.slice(0, text.lastIndexOf('\n') + 1);
const tempDir = () => fs.mkdtempSync(path.join(os.tmpdir(), 'postern-log-'));

describe('a log file', () => {
  it('is renamed under load, its writer killed, and loses no line', async () => {
    const file = path.join(tempDir(), 'postern.log');
    const sandbox = await startSandbox();
    const postern = await Postern.start({ sandbox, sections: { log: `level = "debug"\nformat = "json"\ndestination = "${file}"` } });
    const ids = [];
    let stop = false;
    const ask = async () => {
      while (!stop) {
        const res = await postern.request('GET', `/v3/${domain}/events?limit=1`);
        assert.equal(res.status, 200);
        await res.arrayBuffer();
        ids.push(res.headers.get('x-request-id'));
      }
    };
    const asking = Promise.all([ask(), ask(), ask(), ask()]);
    for (let i = 1; i <= 5; i++) {
      const before = ids.length;
      await waitFor('requests', () => ids.length > before + 200);
      fs.renameSync(file, `${file}.${i}`);
      postern.child.kill('SIGUSR1');
      await waitFor('requests in the new file', () => fs.existsSync(file) && /"process":"httpd/.test(read(file)));
      const logger = await waitFor('its logger', () => jsonLines(ended(read(file))).findLast((line) => /^logger 0 is pid/.test(line.message)));
      if (i % 2 === 0) process.kill(Number(/pid (\d+)/.exec(logger.message)[1]), 'SIGKILL');
    }
    stop = true;
    await asking;
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
    const texts = [1, 2, 3, 4, 5].map((i) => `${file}.${i}`).concat(file).flatMap((name) => read(name).split('\n').filter(Boolean));
    // What a kill cut in the middle of a write stands there whole after it.
    const [whole, cut] = [texts.filter((text) => text.endsWith('}')), texts.filter((text) => !text.endsWith('}'))];
    assert.deepEqual(cut.filter((text) => !whole.some((other) => other.startsWith(text))), []);
    const lines = whole.map((text) => JSON.parse(text));
    const told = new Set(lines.filter((line) => line.process.startsWith('httpd') && /^GET events/.test(line.message)).map((line) => line.request));
    assert.ok(ids.length > 1000 && ids.every((id) => /^[0-9a-f]{16}$/.test(id)));
    assert.deepEqual(ids.filter((id) => !told.has(id)), []);
    assert.equal(lines.at(-1).message, 'stopped');
    assert.ok(lines.some((line) => line.event === 'death' && line.role === 'logger' && line.signal === 9));
    assert.ok(!lines.some((line) => /lines were lost/.test(line.message)));
    assert.equal(postern.log(), ''); // nothing on standard error
  });

  it('stays where it is when the new one cannot be opened, and the next signal finds it', async () => {
    const dir = tempDir();
    const file = path.join(dir, 'a', 'postern.log');
    fs.mkdirSync(path.dirname(file));
    const postern = await Postern.start({ sections: { log: `destination = "${file}"` } });
    const away = path.join(dir, 'b');
    fs.renameSync(path.dirname(file), away);
    postern.child.kill('SIGUSR1');
    await waitFor('the complaint', () => /the log stays where it is: log\.destination: .*No such file/.test(read(path.join(away, 'postern.log'))));
    fs.mkdirSync(path.dirname(file));
    postern.child.kill('SIGUSR1');
    await waitFor('the new file', () => fs.existsSync(file));
    await postern.stop();
    assert.match(read(file), /stopped\n$/);
  });

  it('that is on a full disk is complained of on standard error', async () => {
    const postern = await Postern.start({ sections: { log: 'destination = "/dev/full"' } });
    await waitFor('the complaint', () => /lines wait, and are lost once there are too many: the log's file cannot be written: No space left on device/.test(postern.log()));
    await postern.stop();
    assert.match(postern.log(), /the last lines of the log are lost: the log's file cannot be written/);
  });

  it('that cannot be had at the start is said on standard error, and nothing starts', async () => {
    const postern = await Postern.start();
    await postern.stop();
    const good = read(postern.confFile);
    const start = (destination, ...args) => {
      fs.writeFileSync(postern.confFile, `${good}\nlog { destination = "${destination}" }\n`);
      return spawnSync(binary, [...args, '-c', postern.confFile], { encoding: 'utf8', timeout: 20000 });
    };
    const unknown = start('nowhere', '-t');
    assert.equal(unknown.status, 1);
    assert.match(unknown.stderr, /log\.destination: "nowhere" is not stderr, syslog, journal, or a path/);
    const missing = start('/nonexistent/postern.log');
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /cannot start: log\.destination: \/nonexistent\/postern\.log: No such file/);
  });
});

describe('a log that nobody reads', () => {
  it('holds no request up, and says later what was lost', async () => {
    const postern = await Postern.start({ sections: { log: 'level = "debug"' } });
    await postern.stop();
    const fifo = path.join(tempDir(), 'fifo');
    assert.equal(spawnSync('mkfifo', [fifo]).status, 0);
    const reader = fs.openSync(fifo, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    const writer = fs.openSync(fifo, fs.constants.O_WRONLY);
    const child = spawn(binary, ['-c', postern.confFile], { stdio: ['ignore', 'ignore', writer] });
    fs.closeSync(writer);
    const ended = new Promise((resolve) => child.on('exit', (code) => resolve(code)));
    try {
      await waitFor('Postern', () => postern.healthy());
      let slowest = 0;
      for (let i = 0; i < 2000; i++) {
        const from = Date.now();
        const res = await postern.request('GET', `/v3/${domain}/events?limit=1`);
        assert.equal(res.status, 200);
        await res.arrayBuffer();
        slowest = Math.max(slowest, Date.now() - from);
      }
      assert.ok(slowest < 5000, `${slowest} ms`);
      const chunk = Buffer.alloc(1 << 20);
      const take = () => {
        try {
          return chunk.subarray(0, fs.readSync(reader, chunk)).toString();
        } catch (e) {
          assert.equal(e.code, 'EAGAIN');
          return '';
        }
      };
      while (take() !== '');
      let text = '';
      await waitFor('the count', async () => {
        await (await postern.request('GET', `/v3/${domain}/events?limit=1`)).arrayBuffer();
        text += take();
        return /warn {2}httpd \d\[\d+\]: \d+ lines were lost/.test(text);
      });
    } finally {
      child.kill('SIGTERM');
      fs.closeSync(reader);
    }
    assert.equal(await ended, 0);
  });
});

describe('the lines', () => {
  const failing = (i) => ['bounce', 'softbounce', 'complaint', 'secretreader'][i % 4];
  const addresses = Array.from({ length: 200 }, (_, i) => `${failing(i)}-who${i}@readers.example`);

  /** A newsletter with bounces, complaints, calls that SES refuses and bad input; the whole log of it. */
  const newsletter = async (log) => {
    const file = path.join(tempDir(), 'postern.log');
    const sandbox = await startSandbox();
    await sandbox.set({ ...quiet, delay_rate: 1000, fail_rate: 1000, fail_status: 400 });
    const postern = await Postern.start({ sandbox, sections: { log: `destination = "${file}"\n${log}`, sender: 'strategy = "simple"' } });
    const form = newsletterForm(addresses);
    const res = await postern.post(form);
    assert.equal(res.status, 200);
    assert.equal((await postern.post(form)).status, 200); // the same again
    const bad = newsletterForm([...addresses.slice(0, 2), 'secretreader@@nowhere']);
    await postern.post(bad);
    await postern.request('GET', `/v3/${domain}/bounces/${encodeURIComponent(addresses[0])}`);
    await postern.request('GET', `/v3/${domain}/events?recipient=${encodeURIComponent(addresses[0])}`, { auth: 'api:key-of-a-stranger' });
    await waitFor('the books', () => isSettled(postern.batches()), 40000);
    // Whom SES had refused before the same came again is in a batch of its own.
    const id = res.headers.get('x-request-id');
    await waitFor('the events', () => postern.batches().find((b) => b['request-id'] === id).outcomes >= 100, 40000, 200);
    const batches = postern.batches();
    await postern.stop();
    return { text: read(file), id, batches };
  };
  const secrets = [key, Buffer.from(`api:${key}`).toString('base64'), 'sandbox-secret-key', 'key-of-a-stranger', 'Signature='];

  it('name no recipient and no key, whatever fails', async () => {
    for (const log of ['', 'level = "debug"']) {
      const { text } = await newsletter(log);
      assert.match(text, /: failed for good/);
      assert.match(text, /SendEmail of batch [0-9a-f]{16} is refused/);
      for (const secret of secrets) assert.ok(!text.includes(secret), secret);
      assert.deepEqual(text.split('\n').filter((line) => /who\d|secretreader/.test(line)), []);
    }
  });

  it('name them where that is asked for, or by digits that are always the same', async () => {
    const open = await newsletter('level = "debug"\nredact = false');
    assert.match(open.text, /recipient=bounce-who0@readers\.example/);
    const { text } = await newsletter('level = "debug"\nredact_key = "some secret"');
    const digits = new Set([...text.matchAll(/recipient=b\*\*\*(~[0-9a-f]{8})@readers\.example/g)].map((m) => m[1]));
    assert.equal(digits.size, 50); // who bounces
    assert.ok(!text.includes('who') && !text.includes('some secret'));
  });

  it('carry the id of the request from its answer to its events', async () => {
    const { text, id, batches } = await newsletter('level = "debug"\nformat = "json"');
    const lines = jsonLines(text);
    const about = lines.filter((line) => line.request === id);
    const has = (process, message) => assert.ok(about.some((line) => line.process.startsWith(process) && message.test(line.message)), `${process} ${message}`);
    assert.match(id, /^[0-9a-f]{16}$/);
    assert.equal(batches.find((b) => b['request-id'] === id).batch.length, 16);
    const { batch } = batches.find((b) => b['request-id'] === id);
    has('httpd', /^POST messages mg\.example\.com 200/);
    has('writer', new RegExp(`^batch ${batch} of mg\\.example\\.com: 200 recipients accepted`));
    has('sender', new RegExp(`^SendEmail of batch ${batch} is answered`));
    has('writer', new RegExp(`^batch ${batch}: delivered`));
    has('writer', new RegExp(`^batch ${batch}: failed for good`));
    assert.ok(lines.every((line) => /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(line.time) && line.pid > 0));
    // What belongs to no request says none.
    assert.ok(lines.some((line) => /^GET|^ready/.test(line.message) && line.request !== id));
  });

  it('are counted when they are the same', async () => {
    const postern = await Postern.start({ conf: `public_url = ""` });
    for (let i = 0; i < 60; i++) assert.equal((await postern.request('POST', `/v3/${domain}/messages`, { body: new URLSearchParams({ from: 'x@y.z' }) })).status, 400);
    await postern.stop();
    const text = postern.log();
    const said = text.match(/\]: a message for mg\.example\.com from \S+ was refused: 400/g);
    const more = [...text.matchAll(/… (\d+) more in \d+ s: a message for mg\.example\.com/g)].reduce((sum, m) => sum + Number(m[1]), 0);
    assert.equal(said.length + more, 60);
    assert.ok(said.length <= 2 * 4, text); // each of two processes, once in ten seconds
  });
});
