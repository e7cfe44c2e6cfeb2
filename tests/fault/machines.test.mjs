// Three machines, each frozen, cut off or killed once (machines.mjs).
import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import { stopAll } from '../e2e/harness.mjs';
import { machinesRun } from './machines.mjs';

after(stopAll);

it('3,000 readers, three machines, each in trouble: nobody missing, nobody twice, the same events everywhere', { timeout: 500000 }, async () => {
  const recipients = Number(process.env.RECIPIENTS ?? 3000);
  const seed = Number(process.env.SEED ?? 20260302);
  assert.deepEqual(await machinesRun({ recipients, seed, rounds: 1, rate: 100 }), []);
});
