// Drives the built binary over real sockets: starts Postern and sandboxes, speaks to them as Ghost does.
//
// Every process started here is ended by its pid; ports are free ones on the loopback interface.
import { spawn, execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const binary = process.env.POSTERN_BINARY ?? path.join(root, 'build/postern');
export const domain = 'mg.example.com';
export const key = 'key-0123456789';
const started = new Set();

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Sends a signal; whether the process was there to get it. */
export function signal(pid, name) {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** random(n): a whole number from 0 to n - 1, of a small generator of our own, so that a failing run can be repeated with its seed. */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** Waits until check() answers something true, and answers it; fails after ms with what it was for. */
export async function waitFor(what, check, ms = 30000, every = 50) {
  const end = Date.now() + ms;
  for (;;) {
    const asked = Date.now();
    const got = await check();
    if (got) return got;
    const now = Date.now();
    if (now > end) throw new Error(`waited ${ms} ms for: ${what}`);
    await sleep(Math.max(every, 3 * (now - asked)));
  }
}

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function run(args, logFile, env = {}, program = binary) {
  const log = fs.openSync(logFile, 'a');
  const child = spawn(program, args, { stdio: ['ignore', log, log], env: { ...process.env, ...env } });
  fs.closeSync(log);
  started.add(child);
  child.ended = new Promise((resolve) =>
    child.on('exit', (code, signal) => {
      started.delete(child);
      resolve({ code, signal });
    }),
  );
  return child;
}

/** Ends whatever is left. For after() hooks. */
export async function stopAll() {
  const left = [...started];
  for (const child of left) child.kill('SIGTERM');
  await Promise.all(left.map((child) => Promise.race([child.ended, sleep(8000)])));
  for (const child of left) if (started.has(child)) child.kill('SIGKILL');
  await Promise.all(left.map((child) => child.ended));
}

process.on('exit', () => {
  for (const child of started) child.kill('SIGKILL');
});

/** A sandbox that outlives any Postern: for tests that kill the master. */
export async function startSandbox(args = []) {
  const port = await freePort();
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-sandbox-'));
  const url = `http://127.0.0.1:${port}`;
  const child = run(['sandbox', '--listen', `127.0.0.1:${port}`, ...args], path.join(dir, 'log'));
  const sandbox = new Sandbox(url, child);
  await waitFor('the sandbox', () => sandbox.stats().catch(() => null), 10000);
  return sandbox;
}

export class Sandbox {
  constructor(url, child) {
    this.url = url;
    this.child = child;
  }
  async get(pathname) {
    const res = await fetch(this.url + pathname);
    if (!res.ok) throw new Error(`${pathname}: ${res.status}`);
    return res;
  }
  async stats() {
    return (await this.get('/_sandbox/stats')).json();
  }
  async messages(query = '') {
    return (await this.get(`/_sandbox/messages${query}`)).json();
  }
  async set(options) {
    const res = await fetch(`${this.url}/_sandbox/config`, { method: 'POST', body: JSON.stringify(options) });
    if (!res.ok) throw new Error(`sandbox config: ${res.status} ${await res.text()}`);
  }
  /** Map of "email-id address" → how often SES accepted it. */
  async recipients() {
    const text = await (await this.get('/_sandbox/recipients')).text();
    const counts = new Map();
    for (const line of text.split('\n')) {
      const [id, address, count] = line.split('\t');
      if (address) counts.set(`${id} ${address}`, Number(count));
    }
    return counts;
  }
}

export class Postern {
  /** options: listen (more addresses), sandbox (a Sandbox of its own), conf (extra lines), sections ({sender: 'children = 1'}), scheme healthy (https), and env (variables beside this process's). */
  static async start(options = {}) {
    const p = new Postern();
    p.dir = options.dir ?? fs.mkdtempSync(path.join(os.tmpdir(), 'postern-test-'));
    p.port = options.port ?? (await freePort());
    p.url = `${options.scheme ?? 'http'}://127.0.0.1:${p.port}`;
    if (options.healthy) p.healthy = () => options.healthy(p); // where fetch() cannot ask
    p.confFile = path.join(p.dir, 'proxy.conf');
    p.logFile = path.join(p.dir, 'log');
    p.env = options.env ?? {};
    p.binary = options.binary; // to run, if not the one that is tested
    let aws;
    if (options.aws) {
      aws = options.aws;
      p.sandbox = options.sandbox;
    } else if (options.sandbox) {
      p.sandbox = options.sandbox;
      const at = options.sandbox.url;
      aws = `aws { region = "us-east-1" access_key_id = "sandbox" secret_access_key = "sandbox-secret-key"
        ses_endpoint = "${at}" sqs_endpoint = "${at}" }
        queues { newsletter_events = "${at}/000000000000/newsletter-events-queue"
                 system_events = "${at}/000000000000/system-events-queue" }`;
    } else {
      const port = await freePort();
      aws = `sandbox { enabled = true listen = "127.0.0.1:${port}" }`;
      p.sandbox = new Sandbox(`http://127.0.0.1:${port}`);
    }
    const sections = { sender: '', poller: '', httpd: '', log: 'level = "info"', ...options.sections };
    const domains = options.domains ?? { [domain]: [key] };
    fs.writeFileSync(
      p.confFile,
      `listen = {"127.0.0.1:${p.port}"${(options.listen ?? []).map((at) => `, "${at}"`).join('')}}
state_dir = "${path.join(p.dir, 'state')}"
grace = "10s"
${options.conf ?? ''}
${aws}
${Object.entries(sections)
  .map(([name, text]) => `${name} {\n${text}\n}`)
  .join('\n')}
${Object.entries(domains)
  .map(
    ([name, keys]) => `domain "${name}" {
  api_keys = {${keys.map((k) => `"${k}"`).join(', ')}}
  newsletter_configuration_set = "ghost-mailgun-proxy-set"
  system_configuration_set = "ghost-mailgun-proxy-system-set"
}`,
  )
  .join('\n')}
`,
    );
    await p.launch();
    return p;
  }
  async launch() {
    this.child = run(['-c', this.confFile], this.logFile, this.env, this.binary);
    this.child.ended.then((how) => (this.how = how));
    await waitFor(
      'Postern',
      async () => {
        if (this.how) throw new Error(`Postern ended: ${JSON.stringify(this.how)}\n${this.log()}`);
        return this.healthy();
      },
      15000,
    );
  }
  async healthy() {
    try {
      return (await fetch(`${this.url}/health`)).status === 200;
    } catch {
      return false;
    }
  }
  log() {
    return fs.readFileSync(this.logFile, 'utf8');
  }
  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    const how = await this.child.ended;
    this.how = undefined;
    return how;
  }
  cli(...args) {
    const [command, ...rest] = args;
    try {
      return execFileSync(binary, [command, '-c', this.confFile, ...rest], { encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, ...this.env } });
    } catch (e) {
      if (e.status === 1 && e.stdout) return e.stdout; // "not so": the books are what the test looks at
      throw e;
    }
  }
  batches() {
    return jsonLines(this.cli('batches', '--json', '--limit', '100000'));
  }
  /** The children, by the names that `ps` would not tell: from the log's obituaries we need pids, so ask /proc. */
  children() {
    const text = fs.readFileSync(`/proc/${this.child.pid}/task/${this.child.pid}/children`, 'utf8');
    return text.trim().split(/\s+/).filter(Boolean).map(Number);
  }
  /** The pids of a role's processes ("httpd"), as Postern tells them. */
  pids(role) {
    const { processes } = this.status();
    return processes.filter((p) => p.name.split(' ')[0] === role && p.state !== 'down').map((p) => p.pid);
  }
  status() {
    return JSON.parse(this.cli('status', '--json'));
  }
  request(method, pathname, { body, headers = {}, auth = `api:${key}`, signal } = {}) {
    return fetch(this.url + pathname, {
      method,
      body,
      signal,
      headers: { Authorization: `Basic ${Buffer.from(auth).toString('base64')}`, ...headers },
    });
  }
  post(form, options = {}) {
    return this.request('POST', `/v3/${options.domain ?? domain}/messages`, {
      body: form.body,
      headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}` },
      ...options,
    });
  }
  /** Ghost's loop (spec/ghost.md §3): follow next until a page without items. */
  async walk(query, { domain: d = domain, onPage } = {}) {
    const items = [];
    let url = `/v3/${d}/events?${query}`;
    for (let pages = 0; pages < 10000; pages++) {
      const res = await this.request('GET', url);
      if (res.status !== 200) throw new Error(`${url}: ${res.status} ${await res.text()}`);
      const page = await res.json();
      for (const name of ['next', 'previous', 'first', 'last']) new URL(page.paging[name]);
      if (page.items.length === 0) return items;
      items.push(...page.items);
      await onPage?.(page);
      const token = page.paging.next.slice(page.paging.next.lastIndexOf('/') + 1);
      url = `/v3/${d}/events/${token}&${query}`.replace(/^([^?]*)&/, '$1?');
    }
    throw new Error('the walk does not end');
  }
}

/** What a service manager (systemd, Type=notify) hears: {path: of its socket, text(), close()}. */
export async function serviceManager() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-manager-'));
  const socket = path.join(dir, 'notify');
  // Node has no datagram sockets in the file system; Perl is part of every Debian.
  const listener = spawn('perl', ['-MSocket', '-e',
    'socket(S, PF_UNIX, SOCK_DGRAM, 0); bind(S, sockaddr_un($ARGV[0])) or die; $| = 1; print "bound\n"; while (defined recv(S, $b, 4096, 0)) { print "$b\n\n" }', socket]);
  let said = '';
  listener.stdout.on('data', (d) => (said += d));
  await waitFor('the manager', () => said.startsWith('bound'));
  return {
    path: socket,
    text: () => said,
    close: () => {
      listener.kill();
      fs.rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** A subcommand, while this process goes on: for tests that play AWS themselves. */
export const execCli = (postern, command, ...rest) =>
  new Promise((resolve, reject) =>
    execFile(binary, [command, '-c', postern.confFile, ...rest], { encoding: 'utf8', maxBuffer: 1 << 28 }, (e, stdout, stderr) =>
      e && !stdout ? reject(new Error(`${e.message} ${stderr}`)) : resolve(stdout),
    ),
  );

/** Whether a process's memory holds the text, anywhere it can read. */
export function memoryHolds(pid, text) {
  const STEP = 1 << 20;
  const mem = fs.openSync(`/proc/${pid}/mem`, 'r');
  const chunk = Buffer.alloc(STEP + text.length);
  try {
    for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line) ?? [];
      if (!from || /\[(vvar|vsyscall|vvar_vclock)\]/.test(line)) continue;
      const end = parseInt(to, 16);
      for (let at = parseInt(from, 16); at < end; at += STEP) {
        const size = Math.min(chunk.length, end - at);
        let got = 0;
        try {
          got = fs.readSync(mem, chunk, 0, size, at);
        } catch {
          continue; // a page that is not there (past the end of a file)
        }
        if (chunk.subarray(0, got).includes(text)) return true;
      }
    }
    return false;
  } finally {
    fs.closeSync(mem);
  }
}

export const jsonLines = (text) => text.split('\n').filter(Boolean).map((line) => JSON.parse(line));

/** The multipart body of a newsletter, field by field what Ghost sends (spec/ghost.md §2). */
export function newsletterForm(recipients, options = {}) {
  const boundary = '-'.repeat(26) + randomBytes(12).toString('hex');
  const parts = [];
  const add = (name, value) =>
    parts.push(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`);
  const emailId = options.emailId ?? randomBytes(12).toString('hex');
  const variables = {};
  for (const address of recipients) {
    add('to', address);
    variables[address] = {
      uuid: randomBytes(8).toString('hex'),
      first_name_2: 'Zoë',
      email: address,
      unsubscribe_url: `http://127.0.0.1:2368/unsubscribe/?uuid=${address}`,
      list_unsubscribe: `http://127.0.0.1:2368/unsubscribe/?uuid=${address}`,
    };
  }
  add('from', options.from ?? `"E2E \\"Gazette\\" & Söhne" <newsletter@${options.domain ?? domain}>`);
  add('h:Reply-To', `newsletter@${options.domain ?? domain}`);
  add('subject', options.subject ?? 'Hello <World> & friends');
  add('html', options.html ?? `<p>Hello %recipient.first_name_2%</p><a href="%recipient.unsubscribe_url%">x</a>`);
  add('text', options.text ?? 'Hello %recipient.first_name_2%');
  add('recipient-variables', JSON.stringify(options.variables ?? variables));
  add('h:Auto-Submitted', 'auto-generated');
  add('h:List-Unsubscribe', '<%recipient.list_unsubscribe%>, <%tag_unsubscribe_email%>');
  add('h:List-Unsubscribe-Post', 'List-Unsubscribe=One-Click');
  if (emailId) add('v:email-id', emailId);
  for (const tag of options.tags ?? ['ghost-email', 'bulk-email']) add('o:tag', tag);
  if (options.opens !== false) add('o:tracking-opens', 'yes');
  for (const [name, value] of options.extra ?? []) add(name, value);
  parts.push(`--${boundary}--\r\n`);
  return { boundary, emailId, body: Buffer.from(parts.join('')) };
}

export const readers = (count, prefix = 'reader', from = 0) =>
  Array.from({ length: count }, (_, i) => `${prefix}${String(from + i).padStart(6, '0')}@readers.example.net`);

/** What the books and SES say of these newsletters: who is missing, who got it twice. */
export async function audit(postern, sandbox, expected) {
  const counts = await sandbox.recipients();
  let missing = 0;
  let duplicates = 0;
  for (const name of expected) {
    const n = counts.get(name) ?? 0;
    if (n === 0) missing++;
    if (n > 1) duplicates++;
  }
  const books = postern.batches();
  const problems = jsonLines(postern.cli('check', '--json')).filter((line) => line.problem);
  if (problems.length > 0) throw new Error(`the store does not agree with itself: ${JSON.stringify(problems)}`);
  return { missing, duplicates, unaccounted: books.reduce((sum, b) => sum + Math.abs(b.unaccounted), 0), books };
}

export const isSettled = (books) => books.every((b) => b.pending + b.leased + b.doubt === 0);
