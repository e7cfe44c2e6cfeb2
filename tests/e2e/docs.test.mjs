// The commands that README, docs and manuals tell are run, against the shipped proxy.conf and a sandbox; what cannot
// be is excepted below with its reason. What the docs quote of the program's words is looked for in the sources.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { binary, freePort, root, startSandbox, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const EXCEPTIONS = [
  [/^([A-Z_]+=\S+ )*make( |$)/, 'builds, installs packages or runs the tests; the targets are looked for in the Makefile'],
  [/^scripts\/setup\.sh /, 'installs packages'],
  [/^aws cloudformation /, "AWS's own command; the template is checked by the unit tests of setup/template"],
  [/^terraform /, 'the same'],
  [/^apt install /, 'installs packages: scripts/test_deb.sh does what the README says'],
  [/^(sudo install|systemctl) /, 'systemd runs on no test machine; renewal.test.mjs sends the signals'],
  [/^mysqldump |^postern import .*proxy\.sql/, "a MySQL server's; import.test.mjs reads such a dump"],
];
/** Those that go on until they are told to leave: started, heard, ended. */
const SERVES = /^(build\/)?postern (-c|sandbox) /;

const LANGUAGES = new Set(['sh', 'text', 'json', 'yaml', 'c', 'ini', 'nginx']);
const files = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', ...fs.readdirSync(path.join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];
const read = (name) => fs.readFileSync(path.join(root, name), 'utf8');

/** {language, lines, line} of each fenced block. */
function blocks(name) {
  const found = [];
  let open;
  read(name).split('\n').forEach((text, i) => {
    const fence = /^ *```(.*)$/.exec(text);
    if (!fence) open?.lines.push(text.trim());
    else if (open) open = void found.push(open);
    else open = { language: fence[1].trim(), lines: [], line: i + 1 };
  });
  assert.equal(open, undefined, `${name}: a block is not closed`);
  return found;
}

/** The commands of a block, those over several lines joined, without remarks. */
const commandsOf = (block) =>
  block.lines
    .join('\n')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .map((line) => line.replace(/(^|\s{2,})#.*$/, '').trim())
    .filter(Boolean);

const shell = files.flatMap((name) => blocks(name).filter((b) => b.language === 'sh').flatMap((b) => commandsOf(b).map((command) => ({ name, line: b.line, command }))));

describe('the docs', () => {
  let dir;
  let port;
  let sandboxPort;
  let aws;
  let postern;
  let env;

  before(async () => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-docs-'));
    port = await freePort();
    sandboxPort = await freePort();
    aws = await startSandbox(['--region', 'eu-west-1']);
    for (const name of ['bin', 'build']) {
      fs.mkdirSync(path.join(dir, name));
      fs.symlinkSync(binary, path.join(dir, name, 'postern'));
    }
    fs.writeFileSync(path.join(dir, 'bounces.csv'), 'address,code,error,created_at\ngone@example.net,550,No such mailbox,"Tue, 10 Nov 2026 12:00:00 GMT"\n');
    fs.writeFileSync(path.join(dir, 'complaints.csv'), 'address,created_at\nangry@example.net,"Tue, 10 Nov 2026 12:00:00 GMT"\n');
    fs.writeFileSync(path.join(dir, 'unsubscribes.csv'), 'address,tags,created_at\nbored@example.net,*,"Tue, 10 Nov 2026 12:00:00 GMT"\n');
    fs.writeFileSync(path.join(dir, 'proxy.conf'), shipped());
    env = {
      PATH: `${path.join(dir, 'bin')}:${process.env.PATH}`,
      HOME: dir,
      AWS_EC2_METADATA_DISABLED: 'true',
      POSTERN_API_KEY: 'key-sandbox-only-change-me',
    };
    postern = spawn(binary, ['-c', 'proxy.conf'], { cwd: dir, env, stdio: ['ignore', 'ignore', fs.openSync(path.join(dir, 'log'), 'w')] });
    await answers(port, '/health');
    // the sandbox's ready plumbing is nobody's: a reader's account has none of these names
    fs.writeFileSync(path.join(dir, 'adopted.conf'), shipped());
    const adopted = await run('postern setup --adopt --yes --domain other.example.com --region eu-west-1 -c adopted.conf', setupEnv());
    assert.equal(adopted.status, 0, adopted.stderr);
  });
  after(async () => {
    const ended = new Promise((resolve) => postern?.once('exit', resolve));
    postern?.kill('SIGTERM');
    if (postern) await ended;
    fs.rmSync(dir, { recursive: true, force: true });
  });

  const here = (text) => text.replaceAll('127.0.0.1:8025', `127.0.0.1:${port}`).replaceAll('127.0.0.1:8026', `127.0.0.1:${sandboxPort}`);
  const shipped = () => here(read('proxy.conf'));

  const run = (command, extra = {}) =>
    new Promise((resolve) =>
      execFile('bash', ['-c', command], { cwd: dir, env: { ...env, ...extra }, encoding: 'utf8', timeout: 60000 }, (e, stdout, stderr) =>
        resolve({ status: e ? (e.code ?? 'timeout') : 0, stdout, stderr }),
      ),
    );

  /** AWS's, as an administrator has them. */
  const setupEnv = () => ({ AWS_ENDPOINT_URL: aws.url, AWS_ACCESS_KEY_ID: 'sandbox', AWS_SECRET_ACCESS_KEY: 'sandbox-secret-key' });

  /** With what stands for a name of the reader's own. */
  const filledIn = (command) =>
    here(command)
      .replaceAll('api:KEY', 'api:key-sandbox-only-change-me')
      .replaceAll('1a2b3c4d5e6f', `"$(postern key list -c proxy.conf --json | sed -n '/"state":"added"/s/^{"id":"\\([0-9a-f]*\\)".*/\\1/p')"`)
      .replaceAll('/etc/postern/proxy.conf', 'proxy.conf');

  const answers = (at, pathname) =>
    waitFor(`${at} to answer`, () => fetch(`http://127.0.0.1:${at}${pathname}`).then((r) => r.status === 200, () => false), 60000);

  /** Starts it on ports and a state of its own, waits until it is there, ends it. */
  async function serves(command) {
    const own = await freePort();
    const conf = shipped().replace(`127.0.0.1:${port}`, `127.0.0.1:${own}`).replace(`127.0.0.1:${sandboxPort}`, `127.0.0.1:${await freePort()}`).replace(/^state_dir = .*/m, `state_dir = "state-${own}"`);
    fs.writeFileSync(path.join(dir, 'other.conf'), conf);
    const child = spawn('bash', ['-c', `exec ${command.replaceAll('proxy.conf', 'other.conf').replaceAll(`127.0.0.1:${sandboxPort}`, `127.0.0.1:${own}`)}`], { cwd: dir, env, stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
    try {
      await Promise.race([answers(own, / sandbox /.test(command) ? '/_sandbox/stats' : '/health'), ended.then((code) => assert.fail(`${command} ended with ${code}`))]);
    } finally {
      child.kill('SIGTERM');
    }
    assert.equal(await ended, 0, command);
  }

  /** What ends well: 0, and for doctor, which is to find what is not well here, 1 too. */
  async function succeeds(command) {
    if (SERVES.test(command)) return serves(command);
    const isSetup = /\bpostern setup /.test(command);
    if (isSetup) {
      // it rewrites the file that it is given, so each gets a fresh one
      fs.writeFileSync(path.join(dir, 'setup.conf'), shipped());
      if (!/ -c /.test(command)) command = command.replace('postern setup', 'postern setup -c setup.conf');
      command = command.replace('-c proxy.conf', '-c setup.conf');
      if (!/--(dry-run|yes|print|cloudformation|terraform)/.test(command)) command = command.replace('postern setup', 'postern setup --yes');
    }
    const { status, stdout, stderr } = await run(command, isSetup ? setupEnv() : {});
    const well = /\bpostern doctor\b/.test(command) ? [0, 1] : [0];
    assert.ok(well.includes(status), `${command}\nended with ${status}: ${stderr}${stdout}`.slice(0, 2000));
    if (/^curl /.test(command)) assert.doesNotThrow(() => JSON.parse(stdout), `${command}: ${stdout}`);
  }

  it('say of each block what it is', () => {
    for (const name of files)
      for (const block of blocks(name)) {
        assert.ok(LANGUAGES.has(block.language), `${name}:${block.line}: "${block.language}" is none of ${[...LANGUAGES].join(', ')}`);
        if (block.language === 'text')
          for (const line of block.lines) assert.doesNotMatch(line, /^(\$ |curl |make |build\/postern |sudo )/, `${name}:${block.line}: commands belong into a block "sh"`);
      }
    assert.ok(shell.length > 20, `${shell.length} commands`);
  });

  it('except no command that is no longer told', () => {
    for (const [pattern] of EXCEPTIONS) assert.ok(shell.some(({ command }) => pattern.test(command)), String(pattern));
    assert.ok(shell.some(({ command }) => SERVES.test(command)));
  });

  it('quick starts are the same three commands', () => {
    const under = (name, heading) => blocks(name).find((b) => b.language === 'sh' && b.line > read(name).split('\n').indexOf(heading));
    const three = commandsOf(under('README.md', '## Quick start'));
    assert.equal(three.length, 3);
    assert.deepEqual(commandsOf(under('docs/quickstart.md', '## Three commands')), three);
  });

  it('name targets and scripts that there are', () => {
    const makefile = read('Makefile');
    for (const { name, line, command } of shell) {
      const target = /^make ([a-z-]+)/.exec(command)?.[1];
      if (target) assert.match(makefile, new RegExp(`^${target}:`, 'm'), `${name}:${line}: ${command}`);
      const script = /^(scripts\/[a-z_]+\.sh)/.exec(command)?.[1];
      if (script) assert.ok(fs.existsSync(path.join(root, script)), `${name}:${line}: ${command}`);
    }
    for (const name of files) for (const [, target] of read(name).matchAll(/`make ([a-z-]+)/g)) assert.match(makefile, new RegExp(`^${target}:`, 'm'), `${name}: make ${target}`);
  });

  it('lead to files that there are', () => {
    for (const name of files) {
      const text = read(name);
      for (const [, to] of text.matchAll(/`((?:docs|scripts|packaging|tests)\/[a-z_./-]+\.[a-z]+)`/g)) assert.ok(fs.existsSync(path.join(root, to)), `${name}: ${to}`);
      for (const [, to] of text.matchAll(/\]\(([a-z_./-]+\.md)(?:#[^)]*)?\)/g)) assert.ok(fs.existsSync(path.join(root, path.dirname(name), to)), `${name}: ${to}`);
    }
  });

  for (const name of files.filter((f) => shell.some((s) => s.name === f)))
    it(`${name}: every command does what it is told for`, async () => {
      for (const s of shell.filter((x) => x.name === name)) {
        if (EXCEPTIONS.some(([pattern]) => pattern.test(s.command))) continue;
        await succeeds(filledIn(s.command));
      }
    });

  it('postern … within a sentence names subcommands and options that there are', async () => {
    const usage = {};
    const help = async (...args) => (await run(`postern ${args.join(' ')} --help`)).stdout;
    const verbs = new Set([...(await help()).split('subcommands:')[1].split('\n\n')[0].matchAll(/^ {2}([a-z]+) /gm)].map((m) => m[1]));
    for (const verb of verbs) usage[verb] = await help(verb);
    for (const name of files)
      for (const [said] of read(name).matchAll(/`(?:build\/)?postern [a-z][^`]*`/g)) {
        const [, verb, rest] = /postern ([a-z]+)(.*)`/s.exec(said);
        assert.ok(verbs.has(verb), `${name}: ${said}`);
        for (const [option] of rest.matchAll(/--[a-z][a-z-]*/g)) assert.ok(usage[verb].includes(option) || option === '--help', `${name}: ${said}: ${option}`);
      }
  });

  it("docs/troubleshooting.md quotes the program's own words", () => {
    const sources = [];
    for (const folder of fs.readdirSync(root, { withFileTypes: true }))
      if (folder.isDirectory() && !['build', 'tests', 'node_modules', '.git'].includes(folder.name))
        for (const file of fs.readdirSync(path.join(root, folder.name))) if (file.endsWith('.c')) sources.push(fs.readFileSync(path.join(root, folder.name, file), 'utf8'));
    // literals side by side are one; what is filled in may be anything
    const words = sources.join('\n').replace(/"(?:\s+PRI[a-zA-Z0-9]+\s*|\s*)"/g, '');
    const own = /^(Address already in use|proxy\.conf:12: )$/; // the C library's; the file's name
    let quoted = 0;
    for (const row of read('docs/troubleshooting.md').split('\n')) {
      const first = /^\| (.*?) \|/.exec(row)?.[1];
      if (!first || first.startsWith('it ')) continue;
      for (const [, quote] of first.matchAll(/`([^`]+)`/g))
        for (const part of quote.split('…')) {
          const text = part.trim();
          if (text.length < 3 || own.test(part) || /^postern |^event=death$/.test(text)) continue;
          assert.ok(words.includes(text.replace(/:$/, '')), `nothing in the sources says "${text}"`);
          quoted++;
        }
    }
    assert.ok(quoted > 25, `${quoted} quotes`);
  });
});
