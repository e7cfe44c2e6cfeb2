// Measures how long a single mail takes from its answer to SES while a long newsletter is being sent.
//
//   node tests/bench/lanes.mjs [auto|simple]      RATE=200 RECIPIENTS=100000 SINGLES=60
import { Postern, domain, newsletterForm, readers, sleep, stopAll } from '../e2e/harness.mjs';
import { strictSes } from './strict_ses.mjs';

const rate = Number(process.env.RATE ?? 200);
const recipients = Number(process.env.RECIPIENTS ?? 100000);
const singles = Number(process.env.SINGLES ?? 60);

async function measure(strategy) {
  const ses = await strictSes(rate);
  const p = await Postern.start({
    sections: { sender: `strategy = "${strategy}"` },
    aws: `aws { region = "us-east-1" access_key_id = "k" secret_access_key = "s" ses_endpoint = "${ses.url}" sqs_endpoint = "${ses.url}" }
          queues { newsletter_events = "${ses.url}/000000000000/q" }`,
  });
  for (let at = 0; at < recipients; at += 1000) await (await p.post(newsletterForm(readers(1000, 'r', at)))).text();
  const waits = [];
  for (let i = 0; i < singles; i++) {
    await sleep(200 + Math.random() * 100); // not in step with anything
    const to = `single${i}@readers.example.net`;
    const res = await p.request('POST', `/v3/${domain}/messages`, { body: new URLSearchParams({ to, from: `desk@${domain}`, subject: 's', text: 'x' }) });
    await res.text();
    const answered = performance.now();
    while (!ses.at.has(to)) await sleep(0.2);
    waits.push(ses.at.get(to) - answered); // SES may have it before the client has its answer
  }
  const left = recipients - (ses.accepted.size - singles);
  await p.stop('SIGQUIT');
  await ses.stop();
  waits.sort((a, b) => a - b);
  const at = (share) => waits[Math.min(waits.length - 1, Math.floor(share * waits.length))].toFixed(1);
  return { strategy, p50: `${at(0.5)} ms`, p90: `${at(0.9)} ms`, max: `${at(1)} ms`, 'newsletter recipients left at the end': left, throttled: ses.throttled };
}

try {
  console.log(`${recipients} newsletter recipients queued at ${rate}/s, ${singles} single mails: from the answer to SES`);
  console.table([await measure(process.argv[2] ?? 'auto')]);
} finally {
  await stopAll();
}
process.exit(0);
