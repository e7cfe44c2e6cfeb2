// Completion: bash, sourced as an interactive shell does, is asked what it offers.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { binary, domain, jsonLines, newsletterForm, Postern, readers, root, stopAll } from './harness.mjs';

after(stopAll);

const script = path.join(root, 'packaging/completion/postern.bash');

/** What is offered for the last of these words. */
function offered(...words) {
  const program = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _postern; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const text = execFileSync('bash', ['--norc', '-euc', program, 'bash', script, binary, ...words], { encoding: 'utf8', cwd: root });
  return text.split('\n').filter(Boolean).sort();
}

describe('completion for bash', () => {
  let postern;
  let conf;
  let batch;
  before(async () => {
    postern = await Postern.start();
    conf = postern.confFile;
    assert.equal((await postern.post(newsletterForm(readers(3)))).status, 200);
    batch = postern.batches()[0].batch;
  });

  it('offers every subcommand, and those that begin so', () => {
    const verbs = [...execFileSync(binary, ['--help'], { encoding: 'utf8' }).split('subcommands:')[1].split('\n\n')[0].matchAll(/^ {2}([a-z]+) /gm)].map((m) => m[1]);
    assert.deepEqual(offered(''), verbs.sort());
    assert.deepEqual(offered('ba'), ['backup', 'batches']);
    assert.deepEqual(offered('--v'), ['--version']);
  });

  it('offers the options of each subcommand, and no other', () => {
    for (const verb of offered('')) {
      const named = execFileSync(binary, [verb, '--help'], { encoding: 'utf8' }).match(/--[a-z][a-z-]*/g) ?? [];
      assert.deepEqual([...new Set(offered(verb, '--'))], [...new Set([...named, '--help'])].sort(), verb);
    }
    assert.deepEqual(offered('status', '--w'), ['--watch']);
    assert.deepEqual(offered('check', '--w'), []);
  });

  it('offers the words of a subcommand, what they are about, and nothing behind that', () => {
    assert.deepEqual(offered('webhooks', ''), ['drop', 'failures', 'key', 'replay']);
    assert.deepEqual(offered('key', ''), ['add', 'list', 'new', 'withdraw']);
    const keys = jsonLines(postern.cli('key', 'list', '--json'));
    assert.deepEqual(offered('key', '-c', conf, 'withdraw', ''), keys.map((row) => row.id).sort());
    postern.cli('key', 'withdraw', '--force', keys[0].id);
    assert.deepEqual(offered('key', '-c', conf, 'withdraw', ''), keys.slice(1).map((row) => row.id).sort());
    assert.deepEqual(offered('key', 'add', '-c', conf, '--domain', ''), [domain]);
    assert.deepEqual(offered('key', 'add', '--label', ''), []);
    assert.deepEqual(offered('login', ''), ['end', 'list']);
    postern.cli('login');
    const [{ id }] = postern.cli('login', 'list', '--json').split('\n').filter(Boolean).map((line) => JSON.parse(line));
    assert.deepEqual(offered('login', '-c', conf, 'end', ''), [id, 'all'].sort());
    assert.deepEqual(offered('batches', '-c', conf, ''), [batch, 'cancel', 'pause', 'resend', 'resume'].sort());
    assert.deepEqual(offered('batches', '-c', conf, 'pause', ''), [batch]);
    assert.deepEqual(offered('batches', '-c', conf, batch, ''), []);
    assert.deepEqual(offered('deadletters', '-c', conf, 'replay', ''), ['all']);
    assert.deepEqual(offered('domains', 'pause', '-c', conf, ''), [domain]);
    assert.deepEqual(offered('webhooks', '-c', conf, 'key', domain.slice(0, 3)), [domain]);
    assert.deepEqual(offered('events', '-c', conf, '--domain', ''), [domain]);
    assert.deepEqual(offered('events', '-c', conf, '--limit', ''), []);
  });

  it('offers files where a file is meant', () => {
    assert.ok(offered('-c', 'pro').includes('proxy.conf'));
    assert.ok(offered('status', '-c', 'pro').includes('proxy.conf'));
    assert.ok(offered('backup', 'doc').includes('docs'));
    assert.deepEqual(offered('status', 'pro'), []);
  });

  it('says nothing where there is nothing to ask', () => {
    const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-c', `source "$1"; COMP_WORDS=(/nowhere/postern batches -c /nowhere/proxy.conf ''); COMP_CWORD=4; _postern; echo "\${COMPREPLY[@]}"`, 'bash', script], { encoding: 'utf8' });
    assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '\n', stderr: '' });
    assert.ok(fs.existsSync(conf));
  });
});
