// As a service manager sees it: told when Postern serves, reloads, stops and lives; and what `make install` puts where.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, root, serviceManager, stopAll, waitFor } from './harness.mjs';

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

  it('is installed where it is told to, and an existing configuration is kept', () => {
    const at = path.join(dir, 'root');
    const install = () => execFileSync('make', ['--no-print-directory', 'install', `DESTDIR=${at}`, 'PREFIX=/usr'], { cwd: root, stdio: 'pipe' });
    install();
    const file = (name) => fs.readFileSync(path.join(at, name), 'utf8');
    assert.match(execFileSync(path.join(at, 'usr/bin/postern'), ['--version'], { encoding: 'utf8' }), /^postern \d/);
    const unit = file('usr/lib/systemd/system/postern.service');
    assert.match(unit, /^ExecStart=\/usr\/bin\/postern -c \/etc\/postern\/proxy\.conf$/m);
    assert.doesNotMatch(unit, /@[A-Z]+DIR@/);
    assert.match(file('usr/share/man/man5/proxy.conf.5'), /^\.Ss domain$[^]*^\.It Ic api_keys /m);
    assert.match(file('usr/share/man/man8/postern.8'), /^\.Dt POSTERN 8$/m);
    assert.match(file('usr/lib/sysusers.d/postern.conf'), /^u postern /);
    assert.match(file('etc/postern/proxy.conf'), /^state_dir = "\/var\/lib\/postern"$/m);
    execFileSync(path.join(at, 'usr/bin/postern'), ['-t', '-c', path.join(at, 'etc/postern/proxy.conf')], { stdio: 'pipe' });
    fs.writeFileSync(path.join(at, 'etc/postern/proxy.conf'), 'mine');
    install();
    assert.equal(file('etc/postern/proxy.conf'), 'mine');
  });
});
