// Slow and greedy clients: what each of httpd's limits does, and that others are served meanwhile.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { Postern, domain, key, newsletterForm, readers, sleep, stopAll, waitFor } from './harness.mjs';

after(stopAll);
const authorization = `Authorization: Basic ${Buffer.from(`api:${key}`).toString('base64')}\r\n`;

/** A connection that says what it got, and when it was closed. */
class Wire {
  constructor(port) {
    this.got = '';
    this.closed = new Promise((resolve) => {
      this.socket = net.connect(port, '127.0.0.1');
      this.socket.on('data', (d) => (this.got += d.toString('latin1')));
      this.socket.on('error', () => {});
      this.socket.on('close', () => {
        this.isClosed = true;
        resolve();
      });
    });
    this.open = new Promise((resolve) => this.socket.on('connect', resolve));
  }
  write(text) {
    this.socket.write(text);
  }
  end() {
    this.socket.destroy();
  }
  /** Until n answers have come: their status codes. */
  async statuses(n) {
    const all = () => [...this.got.matchAll(/HTTP\/1\.1 (\d+) /g)].map((m) => Number(m[1]));
    await waitFor(`${n} answers`, () => all().length >= n || this.isClosed, 20000, 10);
    return all();
  }
}

describe('limits', () => {
  let postern;
  before(async () => {
    postern = await Postern.start({
      sections: { httpd: 'children = 1\npatience = "1s"\nkeepalive = "2s"\nkeepalive_requests = 5\nconnections = 60\nconnections_per_address = 40\nmax_body = "1M"' },
    });
  });
  after(() => postern?.stop());
  const served = async () => assert.equal((await postern.request('GET', `/v3/${domain}/events?limit=1`)).status, 200);
  const health = 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n';
  /** Bytes that come one by one, until the connection is closed. */
  const drip = async (wire, first, byte) => {
    await wire.open;
    wire.write(first);
    const timer = setInterval(() => wire.write(byte()), 50);
    await wire.closed;
    clearInterval(timer);
  };

  it('a header that trickles in is cut off, and so is a body, and a connection that says nothing', { timeout: 60000 }, async () => {
    const wires = Array.from({ length: 12 }, () => new Wire(postern.port));
    const slow = wires.map((wire, i) =>
      i % 3 === 0
        ? drip(wire, `POST /v3/${domain}/messages HTTP/1.1\r\n${authorization}`, () => 'X-A: b\r\n')
        : i % 3 === 1
          ? drip(wire, `POST /v3/${domain}/messages HTTP/1.1\r\n${authorization}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\n`, () => 'x')
          : wire.closed,
    );
    await served();
    await Promise.all(slow);
    assert.ok(wires.every((w) => !/ 200 /.test(w.got)));
    assert.match(postern.log(), /too slow: cut off/);
    await served();
  });

  it('a good client is not cut off by patience when its bytes come', async () => {
    const form = newsletterForm(readers(1), { extra: [['h:X-Long', 'x'.repeat(2000)]] });
    const wire = new Wire(postern.port);
    const head = `POST /v3/${domain}/messages HTTP/1.1\r\nHost: x\r\n${authorization}Content-Type: multipart/form-data; boundary=${form.boundary}\r\nContent-Length: ${form.body.length}\r\n\r\n`;
    wire.write(head);
    for (let at = 0; at < form.body.length; at += 1000) {
      wire.write(form.body.subarray(at, at + 1000));
      await sleep(20);
    }
    assert.deepEqual(await wire.statuses(1), [200]);
    wire.end();
  });

  it('a connection is kept for so many requests, and for so long without one', async () => {
    const wire = new Wire(postern.port);
    for (let i = 1; i <= 5; i++) {
      wire.write(health);
      assert.equal((await wire.statuses(i)).length, i);
    }
    await wire.closed;
    assert.equal((wire.got.match(/Connection: close/gi) ?? []).length, 1);
    const idle = new Wire(postern.port);
    idle.write(health);
    await idle.statuses(1);
    assert.ok(!/Connection: close/i.test(idle.got));
    await idle.closed;
  });

  it('headers: 100 lines, 64 KB', async () => {
    const lines = (n) => `GET /health HTTP/1.1\r\n${Array.from({ length: n }, (_, i) => `X-${i}: y\r\n`).join('')}\r\n`;
    for (const [text, want] of [
      [lines(100), 200],
      [lines(101), 431],
      [`GET /health HTTP/1.1\r\nX: ${'y'.repeat(60000)}\r\n\r\n`, 200],
      [`GET /health HTTP/1.1\r\nX: ${'y'.repeat(70000)}\r\n\r\n`, 400],
      [`GET /${'y'.repeat(70000)} HTTP/1.1\r\n\r\n`, 400],
    ]) {
      const wire = new Wire(postern.port);
      wire.write(text);
      assert.deepEqual(await wire.statuses(1), [want]);
      if (want !== 200) {
        await wire.closed;
        assert.match(wire.got, want === 431 ? /\{"message":"Request Header Fields Too Large"\}/ : /\{"message":"Bad Request"\}/);
      }
      wire.end();
    }
    const long = await postern.request('POST', `/v3/${domain}/messages`, { body: 'x'.repeat((1 << 20) + 1), headers: { 'Content-Type': 'application/x-www-form-urlencoded' } });
    assert.equal(long.status, 413);
    assert.deepEqual(await long.json(), { message: 'request size exceeds 1MiB limit' });
  });

  it('one address has so many connections, others have theirs', { timeout: 60000 }, async () => {
    const wires = Array.from({ length: 50 }, () => new Wire(postern.port));
    await Promise.all(wires.map((w) => w.open));
    await waitFor('those that are too many', () => wires.filter((w) => w.isClosed).length >= 10, 10000, 5);
    const away = wires.filter((w) => w.isClosed && / 429 /.test(w.got));
    assert.ok(away.length >= 10, `${away.length} were turned away`);
    for (const w of away) {
      const [head, body] = w.got.split('\r\n\r\n');
      assert.equal(Number(/Content-Length: (\d+)/.exec(head)[1]), body.length);
      assert.deepEqual(JSON.parse(body), { message: 'Too many connections from your address' });
    }
    const other = net.connect({ port: postern.port, host: '127.0.0.1', localAddress: '127.0.0.9' });
    let got = '';
    other.on('data', (d) => (got += d));
    other.write(health);
    await waitFor('the other', () => got.includes(' 200 OK'), 10000, 10);
    other.destroy();
    for (const w of wires) w.end();
    await waitFor('room again', async () => (await postern.request('GET', '/health').catch(() => null))?.status === 200, 10000);
  });

  it('more than there is room for in all wait, and are served', { timeout: 60000 }, async () => {
    // From three addresses, so that none has too many; the first ones leave when patience ends.
    const opened = Array.from({ length: 90 }, (_, i) => net.connect({ port: postern.port, host: '127.0.0.1', localAddress: `127.0.0.${11 + (i % 3)}` }));
    for (const socket of opened) socket.on('error', () => {});
    await Promise.all(opened.map((s) => new Promise((resolve) => s.on('connect', resolve).on('close', resolve))));
    await waitFor('the limit', () => /60 connections: no more are accepted/.test(postern.log()), 10000);
    await served();
    for (const socket of opened) socket.destroy();
  });
});
