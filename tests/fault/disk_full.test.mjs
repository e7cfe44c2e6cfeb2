// A disk that is nearly full: new batches are refused with words, nothing is half-kept, what was accepted goes
// on to be sent, and when there is room again it heals by itself. Needs root, to mount a small file system.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Postern, isSettled, newsletterForm, readers, stopAll, waitFor } from '../e2e/harness.mjs';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-disk-'));
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', dir]).status === 0;
after(async () => {
  await stopAll();
  if (mounted) spawnSync('umount', [dir]);
});

describe('a full disk', { skip: mounted ? false : 'cannot mount a tmpfs here: NOT TESTED' }, () => {
  it('refuses new batches, keeps its promises, and heals', async () => {
    const postern = await Postern.start({ dir });
    assert.equal((await postern.post(newsletterForm(readers(100)))).status, 200);
    const filler = path.join(dir, 'filler');
    fs.writeFileSync(filler, Buffer.alloc(110 << 20, 1)); // less than the reserve is left
    const before = postern.batches().length;
    const res = await waitFor('a refusal', async () => {
      const r = await postern.post(newsletterForm(readers(100)));
      const text = await r.text();
      return r.status === 503 && { retry: r.headers.get('retry-after'), text };
    });
    assert.match(res.text, /disk/);
    assert.match(res.retry, /^\d+$/);
    assert.equal((await fetch(`${postern.url}/health`)).status, 503);
    await waitFor('what was accepted is sent', () => postern.batches().length >= before && isSettled(postern.batches()));
    const refused = newsletterForm(readers(50));
    assert.equal((await postern.post(refused)).status, 503);
    fs.unlinkSync(filler);
    await waitFor('health', () => postern.healthy());
    assert.equal((await postern.post(refused)).status, 200); // a refused POST left no claim
    await waitFor('the books', () => isSettled(postern.batches()));
    assert.equal(postern.batches()[0].accepted, 50);
    assert.ok(postern.batches().every((b) => b.unaccounted === 0));
    assert.deepEqual(await postern.stop(), { code: 0, signal: null });
  });
});
