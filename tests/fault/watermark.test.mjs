// Every event reaches the reader (P4), with the real processes: SES's events come hours late, in any order, some twice,
// while one reader follows `next` for ever and another reads as Ghost does, with a cursor that it sets a second past the
// last event it was given; while processes are killed and Postern is stopped and started. Without a clock that decides:
// the events' own times lie in the past, and the test goes on until all of them are stored.
//
// Ghost's delay of 60 s is one of 2 s here, for time does not pass faster; tests/unit/httpd/test_watermark.c has two days.
import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import { Postern, domain, newsletterForm, readers, sleep, stopAll, waitFor } from '../e2e/harness.mjs';
import { FakeAws } from './fake_aws.mjs';

const EVENTS = 600;
const DELAY_S = 2;
const seed = Number(process.env.SEED ?? Date.now() % 1e9);
let aws;
console.log(`seed ${seed}`);

after(async () => {
  await stopAll();
  await aws?.stop();
});

/** A page, or undefined when there was no answer: a process may just have been killed. */
async function page(postern, url) {
  try {
    const res = await postern.request('GET', url);
    return res.status === 200 ? await res.json() : undefined;
  } catch {
    return undefined;
  }
}

const tokenOf = (link) => link.slice(link.lastIndexOf('/') + 1).split('?')[0];

class Follower {
  seen = [];
  async read(postern) {
    for (;;) {
      const got = await page(postern, `/v3/${domain}/events${this.token ? `/${this.token}` : '?begin=1&ascending=yes&event=opened&limit=50'}`);
      if (!got) return;
      this.seen.push(...got.items.map((i) => i['client-info']?.['user-agent']));
      this.token = tokenOf(got.paging.next);
      if (got.items.length === 0) return;
    }
  }
}

class Ghostly {
  seen = new Set();
  constructor() {
    this.beginMs = Date.now() - 30 * 86400000;
  }
  async read(postern) {
    const endMs = Date.now() - DELAY_S * 1000;
    if (endMs <= this.beginMs) return;
    const query = `limit=50&event=opened&tags=bulk-email&begin=${this.beginMs / 1000}&end=${endMs / 1000}&ascending=yes`;
    let token = '';
    let lastMs = 0;
    for (;;) {
      const got = await page(postern, `/v3/${domain}/events${token && `/${token}`}?${query}`);
      if (!got) return; // the walk is given up, the cursor stays
      if (got.items.length === 0) break;
      for (const i of got.items) {
        this.seen.add(i['client-info']['user-agent']);
        lastMs = Math.max(lastMs, Math.trunc(i.timestamp * 1000));
      }
      token = tokenOf(got.paging.next);
    }
    if (lastMs) this.beginMs = lastMs + 1000;
  }
}

it('late and repeated events are seen by both readers, whatever is killed', { timeout: 240000 }, async () => {
  aws = await FakeAws.start({ seed, trouble: { longPollMs: 1000 } });
  const postern = await Postern.start({
    aws: `aws { region = "us-east-1" access_key_id = "AKIDFAKE" secret_access_key = "secret" ses_endpoint = "${aws.url}" sqs_endpoint = "${aws.url}" }
      queues { newsletter_events = "${aws.queueUrl}" }`,
    sections: { sender: 'doubt_window = "20s"', httpd: 'children = 2' },
  });
  assert.equal((await postern.post(newsletterForm(readers(20)))).status, 200);
  await waitFor('the mails', () => aws.accepted.length === 20, 60000);

  const names = new Set();
  const open = (serial) => {
    const mail = aws.accepted[serial % 20].mail;
    const timestamp = new Date(Date.now() - Math.floor(aws.random() * 6 * 3600000)).toISOString();
    const event = { eventType: 'Open', mail, open: { timestamp, ipAddress: '203.0.113.9', userAgent: `reader/${serial}` } };
    names.add(`reader/${serial}`);
    aws.event(event);
    if (aws.random() < 0.15) aws.event(event);
  };
  const follower = new Follower();
  const ghostly = new Ghostly();
  let over = false;
  const reading = [follower, ghostly].map(async (reader) => {
    while (!over) {
      await reader.read(postern);
      await sleep(50);
    }
  });

  for (let serial = 0; serial < EVENTS; serial++) {
    open(serial);
    if (aws.random() < 0.3) await sleep(aws.random() * 100);
    if (serial % 60 === 30) {
      const pids = postern.children();
      try {
        process.kill(pids[Math.floor(aws.random() * pids.length)], 'SIGKILL');
      } catch {
        // it had just ended
      }
    }
    if (serial === 400) {
      await postern.stop();
      await postern.launch();
    }
  }
  await waitFor('the queue to be empty', () => aws.queue.messages.size === 0, 120000);
  await waitFor('the readers', () => follower.seen.length >= EVENTS && ghostly.seen.size >= EVENTS, 60000).catch(() => {});
  over = true;
  await Promise.all(reading);

  const missing = (seen) => [...names].filter((n) => !seen.has(n));
  assert.deepEqual(missing(ghostly.seen), []);
  assert.deepEqual(missing(new Set(follower.seen)), []);
  assert.equal(follower.seen.length, EVENTS); // and nothing twice
  assert.ok([...ghostly.seen].every((n) => names.has(n)));
  await postern.stop();
});
