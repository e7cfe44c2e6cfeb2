// The clients of the chaos run: who posts newsletters as Ghost does, and who reads events with a moving cursor.
// They write down each answer and each cut connection; chaos.mjs judges them.
import http from 'node:http';
import { domain, key, newsletterForm, readers, sleep } from '../e2e/harness.mjs';

const TIMEOUT_MS = 60000; // Ghost's
const RETRY_MS = 150;
const IDLE_MS = 600; // a kept connection that rested for longer is not used again: a server that leaves closes it after 1 s
const PAUSE_MS = 400; // for so long at least this process itself had no turn, or did something else
const DELAY_MS = 2000; // how far behind now a cursor stays; Ghost's 60 s
const authorization = `Basic ${Buffer.from(`api:${key}`).toString('base64')}`;

/** Requests over kept or over new connections, one at a time. */
class Client {
  constructor(load, isKept) {
    Object.assign(this, { load, isKept, usedMs: 0 });
    this.agent = new http.Agent({ keepAlive: isKept, maxSockets: 1 });
  }
  /** {status, text} or {error}. */
  async ask(method, path, form) {
    if (this.isKept && Date.now() - this.usedMs > IDLE_MS) {
      this.agent.destroy();
      this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    }
    const startMs = Date.now();
    const got = await new Promise((resolve) => {
      const headers = { Authorization: authorization };
      if (form) Object.assign(headers, { 'Content-Type': `multipart/form-data; boundary=${form.boundary}`, 'Content-Length': form.body.length });
      const req = http.request({ host: '127.0.0.1', port: this.load.port, agent: this.agent, method, path, headers, timeout: TIMEOUT_MS }, (res) => {
        const chunks = [];
        res.on('data', (data) => chunks.push(data));
        res.on('end', () => resolve({ status: res.statusCode, text: Buffer.concat(chunks).toString() }));
        res.on('error', (e) => resolve({ error: e.code ?? e.message }));
      });
      req.on('timeout', () => req.destroy(new Error('TIMEOUT')));
      req.on('error', (e) => resolve({ error: e.code ?? e.message }));
      req.end(form?.body);
    });
    this.usedMs = Date.now();
    this.load.note({ method, path, startMs, endMs: this.usedMs, ...got });
    return got;
  }
}

export class Load {
  constructor(port, random, { recipientsPerS }) {
    Object.assign(this, { port, random, recipientsPerS });
    this.beatMs = Date.now();
    this.pausedMs = this.wokeMs = 0; // the last pause of this process
    setInterval(() => this.beat(), 100).unref();
    this.answers = {}; // status → how many
    this.cuts = []; // requests without an answer
    this.wrong = []; // answers that no client should get
    this.forms = []; // {emailId, to, id}: id is there once a 200 was
    this.isPosting = true;
    this.isReading = true;
    this.postMs = [];
    this.cursors = [
      new Cursor(new Client(this, true), 'delivered OR failed'),
      new Cursor(new Client(this, false), 'opened OR complained'),
    ];
    this.posters = [true, true, false].map((isKept) => this.post(new Client(this, isKept)));
    this.walks = this.cursors.map((cursor) => this.read(cursor));
  }
  beat() {
    const now = Date.now();
    if (now - this.beatMs > PAUSE_MS) Object.assign(this, { pausedMs: this.beatMs, wokeMs: now });
    this.beatMs = now;
  }
  note({ text, ...asked }) {
    if (asked.error) {
      this.beat();
      // What is heard right after a pause of this process may have happened at any time in it.
      this.cuts.push({ ...asked, sinceMs: Date.now() - this.wokeMs < PAUSE_MS ? this.pausedMs : asked.endMs });
      return;
    }
    this.answers[asked.status] = (this.answers[asked.status] ?? 0) + 1;
    if (![200, 429, 503].includes(asked.status)) this.wrong.push({ ...asked, text: text.slice(0, 300) });
    if (asked.status === 200 && asked.method === 'POST') this.postMs.push(asked.endMs - asked.startMs);
  }
  /** Each newsletter until it is accepted; one in ten is posted again afterwards, and must be the same one. */
  async post(client) {
    const path = `/v3/${domain}/messages`;
    while (this.isPosting) {
      const serial = this.forms.length;
      const to = readers(1 + this.random(200), `n${serial}x`);
      const form = newsletterForm(to, { emailId: serial.toString(16).padStart(24, '0') });
      const record = { emailId: form.emailId, to };
      this.forms.push(record);
      const startMs = Date.now();
      const again = this.random(10) === 0;
      record.id = await this.untilAccepted(client, path, form);
      if (again && (await this.untilAccepted(client, path, form)) !== record.id) this.wrong.push({ repeated: record.emailId });
      const restMs = (to.length * 3000) / this.recipientsPerS - (Date.now() - startMs);
      if (restMs > 0) await sleep(restMs);
    }
  }
  async untilAccepted(client, path, form) {
    while (!this.isGivenUp) {
      const got = await client.ask('POST', path, form);
      if (got.status === 200) return JSON.parse(got.text).id;
      await sleep(RETRY_MS);
    }
    return undefined;
  }
  async read(cursor) {
    while (this.isReading) {
      await cursor.walk();
      await sleep(RETRY_MS);
    }
  }
  /** No new newsletters: those under way are still posted until they are accepted. */
  async stopPosting() {
    this.isPosting = false;
    await Promise.all(this.posters);
  }
  giveUp() {
    this.isGivenUp = true;
    this.isPosting = this.isReading = false;
  }
  async stopReading() {
    this.isReading = false;
    await Promise.all(this.walks);
  }
}

/** Ghost's reader (spec: a walk up to a little before now, then a second past the last event it was given). */
class Cursor {
  constructor(client, events) {
    Object.assign(this, { client, events, beginMs: Date.now() - 60000, seen: new Map(), walks: 0, givenUp: 0 });
  }
  async walk() {
    const endMs = Date.now() - DELAY_MS;
    if (endMs <= this.beginMs) return;
    const query = `limit=300&event=${encodeURIComponent(this.events)}&begin=${this.beginMs / 1000}&end=${endMs / 1000}&ascending=yes`;
    let token = '';
    let lastMs = 0;
    for (;;) {
      const got = await this.client.ask('GET', `/v3/${domain}/events${token && `/${token}`}?${query}`);
      if (got.status !== 200) {
        this.givenUp++; // the cursor stays
        return;
      }
      const page = JSON.parse(got.text);
      if (page.items.length === 0) break;
      for (const item of page.items) {
        this.seen.set(item.id, item.event);
        lastMs = Math.max(lastMs, Math.trunc(item.timestamp * 1000));
      }
      token = page.paging.next.slice(page.paging.next.lastIndexOf('/') + 1).replace(/\?.*/, '');
    }
    this.walks++;
    if (lastMs) this.beginMs = lastMs + 1000; // as Ghost does
  }
}
