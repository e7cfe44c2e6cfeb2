// The manners of every subcommand: help, options, suggestions, exit statuses, JSON, and no colours where no terminal is.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { keys } from './cloud.mjs';
import { Postern, binary, domain, isSettled, newsletterForm, readers, startSandbox, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const run = (args, env = {}) => {
  const got = spawnSync(binary, args, { encoding: 'utf8', env: { ...process.env, ...env } });
  return { status: got.status, out: got.stdout, err: got.stderr };
};
const isJson = (line) => {
  try {
    return JSON.parse(line) !== undefined;
  } catch {
    return false;
  }
};
const escape = String.fromCharCode(27);
const verbs = run(['--help'])
  .out.split('subcommands:\n')[1]
  .split('\n\n')[0]
  .split('\n')
  .map((line) => line.trim().split(/\s+/)[0]);

describe('every subcommand', () => {
  let postern, dump;
  before(async () => {
    const sandbox = await startSandbox();
    postern = await Postern.start({ sandbox });
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, delivery_delay_ms_max: 20 });
    assert.equal((await postern.post(newsletterForm(readers(3)))).status, 200);
    await waitFor('the batch', () => isSettled(postern.batches()) && postern.batches().length === 1);
    const hook = await postern.request('POST', `/v3/domains/${domain}/webhooks`, { body: new URLSearchParams({ id: 'clicked', url: 'https://receiver.example/hook' }) });
    assert.equal(hook.status, 200); // so that there is a key
    dump = path.join(postern.dir, 'dump.sql');
    fs.writeFileSync(dump, "CREATE TABLE `NewsletterBatch` (`id` int, `siteId` int, `fromEmail` int, `contents` int, `batchId` int, `created` int);\nINSERT INTO `NewsletterBatch` VALUES ('a','s','f@x','{}','e','2026-01-01 00:00:00.000');\n");
  });

  it('is listed', () => {
    for (const known of ['status', 'batches', 'domains', 'events', 'deadletters', 'webhooks', 'check', 'backup', 'import', 'setup', 'doctor', 'key', 'sandbox']) assert.ok(verbs.includes(known), known);
    assert.equal(run(['help']).out, run(['--help']).out);
    assert.equal(run(['-h']).status, 0);
  });

  it('tells its use, its options and an example, wherever the help is asked for', () => {
    for (const verb of verbs) {
      const { status, out, err } = run([verb, '--help']);
      assert.deepEqual([status, err], [0, ''], verb);
      assert.match(out, new RegExp(`^usage: postern ${verb}`), verb);
      assert.ok(!out.includes(escape), verb);
      if (verb === 'sandbox') continue; // a program of its own
      for (const part of ['--config FILE', '--json', '--help', `example:\n  postern ${verb}`, 'exit status: 0 ']) assert.ok(out.includes(part), `${verb}: ${part}`);
      for (const line of out.split('\n')) assert.ok([...line].length <= 100, `${verb}: ${line}`);
      assert.equal(run([verb, 'anything', '-h']).out, out, verb);
    }
  });

  it('refuses an option it does not know, and says which was meant', () => {
    for (const verb of verbs.filter((v) => v !== 'sandbox')) {
      const { status, out, err } = run([verb, '--jsn']);
      assert.deepEqual([status, out], [2, ''], verb);
      assert.equal(err, `postern ${verb}: unknown option --jsn: did you mean --json? (postern ${verb} --help lists them)\n`);
      assert.match(run([verb, '--config']).err, /--config needs a value/, verb);
      assert.match(run([verb, '--json=yes']).err, /--json takes no value/, verb);
      assert.match(run([verb, '-c', '/nowhere', '--frobnicate']).err, /unknown option --frobnicate \(/, verb);
    }
    assert.equal(run(['sandbox', '--frobnicate']).status, 2);
    assert.match(run(['key', 'new', '--watch']).err, /unknown option --watch/); // another's
  });

  it('is suggested when it is mistyped, and so is a setting of proxy.conf', () => {
    assert.deepEqual(run(['batchs']), { status: 2, out: '', err: "postern: there is no subcommand 'batchs': did you mean batches? (postern --help lists them)\n" });
    assert.match(run(['frobnicate']).err, /no subcommand 'frobnicate' \(/);
    assert.match(run(['--verson']).err, /did you mean --version\?/);
    const conf = path.join(postern.dir, 'wrong.conf');
    fs.writeFileSync(conf, 'state_dri = "/tmp"\nhttpd { chidlren = 2 }\n');
    const { status, err } = run(['-t', '-c', conf]);
    assert.equal(status, 1);
    assert.match(err, /wrong\.conf:1: unknown setting 'state_dri': did you mean 'state_dir'\?/);
    assert.match(err, /wrong\.conf:2: unknown setting 'chidlren': did you mean 'children'\?/);
  });

  it('says which word was meant where one behind it is mistyped, before it looks at anything', () => {
    const said = (...words) => run([...words, '-c', '/nowhere']).err;
    for (const [words, meant] of [
      [['key', 'nwe'], 'new'], [['deadletters', 'rplay', 'all'], 'replay'], [['webhooks', 'failurs'], 'failures'], [['batches', 'puase', '1a227ad923c652c4'], 'pause'], [['batches', 'resned'], 'resend'],
      [['domains', 'cancle', domain], 'cancel'], [['login', 'edn', 'all'], 'end'], [['login', 'lsit'], 'list'], [['deadletters', 'lsit'], "'postern deadletters' alone, which lists them"], [['batches', 'list'], "'postern batches' alone, which lists them"],
    ]) {
      assert.equal(said(...words), `postern ${words[0]}: there is no '${words[1]}': did you mean ${meant}? (postern ${words[0]} --help tells its use)\n`);
      assert.equal(run(words).status, 2);
    }
    assert.equal(said('deadletters', 'frobnicate'), "postern deadletters: there is no 'frobnicate' (postern deadletters --help tells its use)\n");
    assert.equal(said('status', 'now'), "postern status: it takes no word, as 'now' (postern status --help tells its use)\n");
    // What a word is about is no word: an id, a domain, however near.
    for (const words of [['batches', '1a227ad923c652c4'], ['batches', 'cafe'], ['domains', 'resume.example.com'], ['domains', 'pause', domain], ['backup', 'pause']]) assert.match(said(...words), /\/nowhere/, words.join(' '));
  });

  it('ends with 2 where the configuration cannot be read, and says why', () => {
    for (const verb of verbs.filter((v) => !['sandbox', 'key', 'doctor', 'setup'].includes(v))) {
      const args = { backup: ['x'], import: ['x'] }[verb] ?? [];
      const { status, err } = run([verb, '--config', '/nowhere/proxy.conf', ...args]);
      assert.equal(status, 2, verb);
      assert.match(err, /\/nowhere\/proxy\.conf/, verb);
    }
    assert.equal(run(['doctor', '-c', '/nowhere/proxy.conf']).status, 1); // a finding like others
  });

  it('writes JSON for machines, and no colours where there is no terminal', () => {
    const uses = {
      status: [[]], batches: [[]], domains: [[], [domain]], events: [['--domain', domain]], deadletters: [[], ['replay', 'all'], ['queues']], webhooks: [[], ['failures'], ['key', domain]],
      check: [[]], backup: [['DIR']], import: [[dump], ['--dry-run', dump]], setup: [['--domain', domain, '--region', 'us-east-1', '--dry-run'], ['--domain', domain, '--region', 'us-east-1', '--print-dns']], doctor: [[]], key: [['new']], login: [[], ['--role', 'viewer'], ['list']],
    };
    let copies = 0;
    for (const verb of verbs.filter((v) => v !== 'sandbox'))
      for (const use of uses[verb])
        for (const json of [true, false]) {
          const words = use.map((w) => (w === 'DIR' ? path.join(postern.dir, `copy-${copies++}`) : w));
          const { status, out, err } = run([verb, `--config=${postern.confFile}`, ...words, ...(json ? ['--json'] : [])], { TERM: 'xterm', ...keys, AWS_ENDPOINT_URL: postern.sandbox.url, AWS_EC2_METADATA_DISABLED: 'true' });
          const what = `${verb} ${words.join(' ')}: ${err}`;
          assert.ok(status === 0 || (status === 1 && ['doctor', 'setup'].includes(verb)), `${status} ${what}`);
          assert.ok(!`${out}${err}`.includes(escape), what);
          if (!json) continue;
          const lines = out.split('\n').filter(Boolean);
          for (const line of lines) assert.ok(isJson(line), `${what}${line}`);
          if (!['deadletters', 'webhooks'].includes(verb)) assert.ok(lines.length > 0, what);
        }
  });

  it('shows colours on a terminal to who wants them', () => {
    const onTerminal = (env) => spawnSync('script', ['-qec', `'${binary}' doctor -c '${postern.confFile}'`, '/dev/null'], { encoding: 'utf8', env: { ...process.env, TERM: 'xterm', NO_COLOR: '', ...env } }).stdout;
    assert.ok(onTerminal({}).includes(`${escape}[32mok`));
    assert.ok(!onTerminal({ NO_COLOR: '1' }).includes(escape));
    assert.ok(!onTerminal({ TERM: 'dumb' }).includes(escape));
  });
});
