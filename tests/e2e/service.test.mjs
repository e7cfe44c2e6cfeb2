// As a service manager sees it: told when Postern serves, reloads, stops and lives; and what `make install` puts where.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, root, stopAll, waitFor } from './harness.mjs';

after(stopAll);

describe('a service', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-service-'));
  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  it('tells its manager how it is, and its children tell nothing', async () => {
    const socket = path.join(dir, 'notify');
    // Node has no datagram sockets in the file system; Perl is part of every Debian.
    const manager = spawn('perl', ['-MSocket', '-e',
      'socket(S, PF_UNIX, SOCK_DGRAM, 0); bind(S, sockaddr_un($ARGV[0])) or die; $| = 1; print "bound\n"; while (defined recv(S, $b, 4096, 0)) { print "$b\n\n" }', socket]);
    let said = '';
    manager.stdout.on('data', (d) => (said += d));
    await waitFor('the manager', () => said.startsWith('bound'));
    process.env.NOTIFY_SOCKET = socket;
    process.env.WATCHDOG_USEC = '600000';
    let postern;
    try {
      postern = await Postern.start();
    } finally {
      delete process.env.NOTIFY_SOCKET;
      delete process.env.WATCHDOG_USEC;
    }
    try {
      const count = (what) => said.split(what).length - 1;
      await waitFor('ready', () => count('READY=1') === 1);
      assert.match(said, /STATUS=serving with \d+ processes/);
      await waitFor('three signs of life', () => count('WATCHDOG=1') >= 3);

      postern.child.kill('SIGHUP');
      await waitFor('reloading', () => /RELOADING=1\nMONOTONIC_USEC=\d+/.test(said));
      await waitFor('ready again', () => count('READY=1') === 2);

      const text = fs.readFileSync(postern.confFile, 'utf8');
      fs.writeFileSync(postern.confFile, `${text}\nnonsense = 1\n`);
      postern.child.kill('SIGHUP');
      await waitFor('the refusal', () => /READY=1\nSTATUS=.*was refused/.test(said));
      fs.writeFileSync(postern.confFile, text);
      assert.equal(await postern.healthy(), true);

      await postern.stop();
      await waitFor('stopping', () => count('STOPPING=1') === 1);
    } finally {
      manager.kill();
    }
  });

  it('is installed where it is told to, and an existing configuration is kept', () => {
    const at = path.join(dir, 'root');
    const install = () => execFileSync('make', ['--no-print-directory', 'install', `DESTDIR=${at}`, 'PREFIX=/usr'], { cwd: root, stdio: 'pipe' });
    install();
    const file = (name) => fs.readFileSync(path.join(at, name), 'utf8');
    assert.match(execFileSync(path.join(at, 'usr/bin/postern'), ['--version'], { encoding: 'utf8' }), /^postern \d+\.\d+\.\d+ \(([0-9a-f]{12}\+?|unknown)\)$/m);
    const unit = file('usr/lib/systemd/system/postern.service');
    assert.match(unit, /^ExecStart=\/usr\/bin\/postern -c \/etc\/postern\/proxy\.conf$/m);
    assert.doesNotMatch(unit, /@[A-Z]+DIR@/);
    assert.match(file('usr/share/man/man5/proxy.conf.5'), /^\.Ss domain$[^]*^\.It Ic api_keys /m);
    assert.match(file('usr/share/man/man8/postern.8'), /^\.Dt POSTERN 8$/m);
    for (const page of fs.readdirSync(path.join(root, 'packaging/man'))) assert.match(file(`usr/share/man/man8/${page}`), /^\.Dd [A-Z][a-z]+ \d+, \d{4}$/m);
    assert.match(file('usr/share/bash-completion/completions/postern'), /^complete -F _postern postern$/m);
    assert.match(file('usr/share/zsh/vendor-completions/_postern'), /^#compdef postern$/m);
    assert.match(file('usr/lib/sysusers.d/postern.conf'), /^u postern /);
    assert.match(file('usr/lib/tmpfiles.d/postern.conf'), /^z \/etc\/postern\/proxy\.conf 0640 root postern$/m);
    assert.match(file('etc/logrotate.d/postern'), /--signal=USR1 postern/);
    assert.match(file('etc/postern/proxy.conf'), /^state_dir = "\/var\/lib\/postern"$/m);
    execFileSync(path.join(at, 'usr/bin/postern'), ['-t', '-c', path.join(at, 'etc/postern/proxy.conf')], { stdio: 'pipe' });
    fs.writeFileSync(path.join(at, 'etc/postern/proxy.conf'), 'mine');
    install();
    assert.equal(file('etc/postern/proxy.conf'), 'mine');
    execFileSync('make', ['--no-print-directory', 'uninstall', `DESTDIR=${at}`, 'PREFIX=/usr'], { cwd: root, stdio: 'pipe' });
    const left = fs.readdirSync(at, { recursive: true, withFileTypes: true }).filter((f) => !f.isDirectory());
    assert.deepEqual(left.map((f) => f.name), ['proxy.conf']);
  });
});
