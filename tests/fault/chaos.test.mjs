// A short chaos run (chaos.mjs) with a fixed seed: each kind of fault at least once.
import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import { stopAll } from '../e2e/harness.mjs';
import { chaosRun } from './chaos.mjs';

after(stopAll);

it('every kind of fault at full load: every promise holds', { timeout: 500000 }, async () => {
  const seed = Number(process.env.SEED ?? 20260301);
  assert.deepEqual(await chaosRun({ durationS: 25, seed, recipientsPerS: 200 }), []);
});
