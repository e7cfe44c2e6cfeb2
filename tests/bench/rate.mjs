// Measures how well the send rate is used: a fake SES that takes RATE recipients in any second, wherever it begins,
// and refuses the rest; how much longer than ideal a newsletter takes, and how many calls are throttled.
//
//   node tests/bench/rate.mjs [auto|simple] …        both at once by default
//   RATE=14 RECIPIENTS=1400                          RECIPIENTS=10000 takes twelve minutes
import { Postern, isSettled, newsletterForm, readers, sleep, stopAll } from '../e2e/harness.mjs';
import { strictSes } from './strict_ses.mjs';

const rate = Number(process.env.RATE ?? 14);
const recipients = Number(process.env.RECIPIENTS ?? 100 * rate);
const strategies = process.argv.length > 2 ? process.argv.slice(2) : ['auto', 'simple'];

async function measure(strategy) {
  const ses = await strictSes(rate);
  const p = await Postern.start({
    sections: { sender: `strategy = "${strategy}"` },
    aws: `aws { region = "us-east-1" access_key_id = "k" secret_access_key = "s" ses_endpoint = "${ses.url}" sqs_endpoint = "${ses.url}" }
          queues { newsletter_events = "${ses.url}/000000000000/q" }`,
  });
  const began = performance.now();
  for (let at = 0; at < recipients; at += 1000) {
    const res = await p.post(newsletterForm(readers(Math.min(1000, recipients - at), 'r', at)));
    if (res.status !== 200) throw new Error(`POST: ${res.status}`);
  }
  while (!isSettled(p.batches())) await sleep(1000);
  const books = p.batches();
  const taken = (ses.last - began) / 1000; // from the first POST on
  const ideal = recipients / rate;
  await p.stop();
  await ses.stop();
  return {
    strategy,
    seconds: taken.toFixed(2),
    'beyond ideal': `${((taken / ideal - 1) * 100).toFixed(2)} % (asked: 3)`,
    calls: ses.calls,
    'throttled calls': `${ses.throttledCalls} (${((ses.throttledCalls / ses.calls) * 100).toFixed(2)} %, asked: 1)`,
    missing: recipients - ses.accepted.size,
    twice: [...ses.accepted.values()].filter((n) => n > 1).length,
    failed: books.reduce((sum, b) => sum + b.failed, 0),
  };
}

try {
  console.log(`${recipients} recipients at ${rate}/s, ideal ${(recipients / rate).toFixed(1)} s`);
  console.table(await Promise.all(strategies.map(measure)));
} finally {
  await stopAll();
}
process.exit(0);
