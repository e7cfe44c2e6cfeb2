// As a service manager sees it: told when Postern serves, reloads, stops and lives; and what `make install` puts where.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, binary, domain, key, newsletterForm, readers, root, serviceManager, stopAll, waitFor } from './harness.mjs';

after(stopAll);

describe('a service', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-service-'));
  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  it('tells its manager how it is, and its children tell nothing', async () => {
    const manager = await serviceManager();
    const postern = await Postern.start({ env: { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '600000' } });
    try {
      const count = (what) => manager.text().split(what).length - 1;
      await waitFor('ready', () => count('READY=1') === 1);
      assert.match(manager.text(), /STATUS=serving with \d+ processes/);
      await waitFor('three signs of life', () => count('WATCHDOG=1') >= 3);

      postern.child.kill('SIGHUP');
      await waitFor('reloading', () => /RELOADING=1\nMONOTONIC_USEC=\d+/.test(manager.text()));
      await waitFor('ready again', () => count('READY=1') === 2);

      const text = fs.readFileSync(postern.confFile, 'utf8');
      fs.writeFileSync(postern.confFile, `${text}\nnonsense = 1\n`);
      postern.child.kill('SIGHUP');
      await waitFor('the refusal', () => /READY=1\nSTATUS=.*was refused/.test(manager.text()));
      fs.writeFileSync(postern.confFile, text);
      assert.equal(await postern.healthy(), true);

      await postern.stop();
      await waitFor('stopping', () => count('STOPPING=1') === 1);
    } finally {
      manager.close();
    }
  });

  it('shows what each process is, and of the environment nothing', async () => {
    const postern = await Postern.start({ env: { SOME_SECRET: 'shown-to-nobody' } });
    const shown = (pid) => execFileSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    const all = () => {
      const { processes } = postern.status();
      for (const p of processes.filter((one) => one.state === 'ready')) {
        assert.equal(shown(p.pid), `postern: ${p.name}`);
        assert.ok(!fs.readFileSync(`/proc/${p.pid}/environ`, 'latin1').includes('shown-to-nobody'), p.name);
        assert.equal(fs.readFileSync(`/proc/${p.pid}/comm`, 'latin1'), 'postern\n', p.name); // who looks for a program finds it
      }
      return processes;
    };
    assert.ok(all().length >= 6);
    assert.equal(shown(postern.child.pid), `${binary} -c ${postern.confFile}`);
    const before = postern.pids('httpd');
    postern.child.kill('SIGHUP');
    await waitFor('new ones', () => postern.pids('httpd').length === 2 && postern.pids('httpd').every((pid) => !before.includes(pid)));
    all();
    await postern.stop();
  });

  it('takes the sockets that its manager holds, whose backlog outlives it', async () => {
    const socketPath = path.join(dir, 'held.sock');
    const postern = await Postern.start({ listen: [`unix:${socketPath}`] });
    await postern.stop();
    // A manager: it listens on both addresses, and runs the program with these sockets as descriptors 3 and 4.
    const manager = path.join(dir, 'manager');
    fs.writeFileSync(manager, `#!/usr/bin/perl
use Socket; use POSIX ();
$^F = 100;
socket(T, PF_INET, SOCK_STREAM, 0); setsockopt(T, SOL_SOCKET, SO_REUSEADDR, 1);
bind(T, sockaddr_in(${postern.port}, inet_aton("127.0.0.1"))) or die "tcp $!"; listen(T, 10);
socket(U, PF_UNIX, SOCK_STREAM, 0); bind(U, sockaddr_un("${socketPath}")) or die "unix $!"; listen(U, 10);
POSIX::dup2(fileno(T), 50); POSIX::dup2(fileno(U), 51); POSIX::dup2(50, 3); POSIX::dup2(51, 4);
$ENV{LISTEN_FDS} = 2;
$SIG{TERM} = 'IGNORE'; $| = 1;
for (1, 2) {
  my $pid = fork();
  if ($pid == 0) { $ENV{LISTEN_PID} = $$; $SIG{TERM} = 'DEFAULT'; exec(@ARGV) }
  print "child $pid\n";
  waitpid($pid, 0);
}
`);
    const run = spawn('perl', [manager, binary, '-c', postern.confFile], { stdio: ['ignore', 'pipe', fs.openSync(postern.logFile, 'a')] });
    let said = '';
    run.stdout.on('data', (d) => (said += d));
    const ended = new Promise((resolve) => run.on('exit', resolve));
    const child = (n) => Number(said.match(/child \d+/g)?.[n]?.slice(6));
    after(() => {
      run.kill('SIGKILL');
      for (const n of [0, 1]) {
        try {
          process.kill(child(n), 'SIGKILL');
        } catch {
          // it has ended
        }
      }
    });
    await waitFor('the first', () => postern.healthy());
    const overUnix = () =>
      new Promise((resolve) => http.get({ socketPath, path: '/health', agent: false }, (res) => resolve(res.resume().statusCode)).on('error', (e) => resolve(e.code)));
    assert.equal(await overUnix(), 200);
    const form = newsletterForm(readers(2));
    const post = () =>
      new Promise((resolve) =>
        http
          .request({ socketPath, agent: false, method: 'POST', path: `/v3/${domain}/messages`, headers: { Authorization: `Basic ${Buffer.from(`api:${key}`).toString('base64')}`, 'Content-Type': `multipart/form-data; boundary=${form.boundary}` } }, (res) => resolve(res.resume().statusCode))
          .on('error', (e) => resolve(e.code))
          .end(form.body),
      );
    process.kill(child(0), 'SIGTERM');
    const waiting = post(); // whoever is there, or comes: it is taken
    await waitFor('the second', async () => child(1) > 0 && (await postern.healthy()));
    assert.equal(await waiting, 200);
    assert.ok(fs.existsSync(socketPath), "its file is the manager's");
    process.kill(child(1), 'SIGTERM');
    await ended;
    // An address that listen does not name.
    fs.writeFileSync(postern.confFile, fs.readFileSync(postern.confFile, 'utf8').replace(/, "unix:[^"]*"/, ''));
    fs.rmSync(socketPath);
    const wrong = spawn('perl', [manager, binary, '-c', postern.confFile], { stdio: ['ignore', 'ignore', fs.openSync(postern.logFile, 'a')] });
    await new Promise((resolve) => wrong.on('exit', resolve));
    assert.match(postern.log(), /passes a socket \(descriptor 4\) for an address that listen does not name/);
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
