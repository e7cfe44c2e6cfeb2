// What Postern says of the events' way back: that none come, what SES never told the end of, how deep the queues are,
// when a reader came last. The AWS is tests/fault/fake_aws.mjs, which keeps its events back when it is told to.
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { FakeAws } from '../fault/fake_aws.mjs';
import { Postern, domain, execCli, isSettled, jsonLines, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

const fakes = [];

after(async () => {
  await stopAll();
  await Promise.all(fakes.map((aws) => aws.stop()));
});

async function start(trouble, alarm) {
  const aws = await FakeAws.start({ trouble: { longPollMs: 1000, ...trouble } });
  fakes.push(aws);
  const postern = await Postern.start({
    aws: `aws { region = "us-east-1" access_key_id = "AKIDFAKE" secret_access_key = "secret" ses_endpoint = "${aws.url}" sqs_endpoint = "${aws.url}" }
      queues { newsletter_events = "${aws.queueUrl}" }`,
    sections: { alarm, sender: 'doubt_window = "60s"' },
  });
  return { aws, postern };
}
// The fake AWS lives in this process: it must go on answering while a subcommand runs.
const status = async (p) => JSON.parse(await execCli(p, 'status', '--json'));
const books = async (p) => jsonLines(await execCli(p, 'batches', '--json'));
const health = async (p) => {
  const res = await fetch(`${p.url}/health`);
  assert.equal(res.status, 200);
  return res.json();
};
const until = (what, check) => waitFor(what, check, 60000, 100);
const feedOf = (s) => s.feeds.find((f) => f.domain === domain);

async function send(p, count, prefix) {
  const res = await p.post(newsletterForm(readers(count, prefix)));
  assert.equal(res.status, 200);
  await until('the mails to be sent', async () => isSettled(await books(p)) && (await books(p)).length > 0);
}

describe('mails go out and no event comes back', () => {
  it('is named in status, in /health and once in the log, over a restart, until one comes', async () => {
    const { aws, postern } = await start({ holdEvents: true }, 'no_events_after = "1s" no_events_least = 5');
    await send(postern, 4, 'few');
    assert.deepEqual((await status(postern)).alarms, []); // not enough of them
    await send(postern, 3, 'more');

    await until('the alarm', async () => (await status(postern)).alarms.length > 0);
    const [alarm] = (await status(postern)).alarms;
    assert.deepEqual([alarm.alarm, alarm.domain, alarm.sent], ['no-events', domain, 7]);
    for (const word of ['ghost-mailgun-proxy-set', 'event destination', 'subscription', aws.queueUrl, 'policy']) assert.ok(alarm.mend.includes(word), word);
    const told = await health(postern);
    assert.equal(told.status, 'ok');
    assert.equal(told.alarms[0].alarm, 'no-events');
    assert.equal(told.alarms[0].since_ms, alarm.since_ms);
    assert.ok(!JSON.stringify(told).includes(domain)); // /health asks for no key
    assert.match(await execCli(postern, 'status'), /ALARM {7}mg\.example\.com: SES has taken 7 mails and not one event/);
    const lines = () => postern.log().split('\n').filter((l) => l.includes('not one event has come back')).length;
    assert.equal(lines(), 1);

    await postern.stop();
    await postern.launch();
    await until('the alarm after a restart', async () => (await health(postern)).alarms?.length === 1);
    assert.equal(lines(), 2);

    aws.set({ holdEvents: false });
    await until('the end of the alarm', async () => (await health(postern)).alarms === undefined);
    assert.deepEqual((await status(postern)).alarms, []);
    await until('the log', () => postern.log().includes(`${domain}: events come again`));
    await postern.stop();
  });
});

describe('the books of the way back', () => {
  it('tell outcomes, repeats, lateness, dead letters, depths and readers', async () => {
    const { aws, postern } = await start({ holdEvents: true }, 'no_outcome_after = "1s"');
    await send(postern, 6, 'reader');
    let before = await until('the depth', async () => {
      const s = await status(postern);
      return s.queues[0].read_ms > 0 && s;
    });
    assert.equal(before.queues[0].url, aws.queueUrl);
    assert.equal(before.queues[0].visible, 0);
    assert.deepEqual([feedOf(before).event_ms, feedOf(before).read_ms], [0, 0]);
    assert.equal(feedOf(before).sent_since, 6);
    await until('mails without outcome', async () => (await books(postern))[0]['no-outcome'] === 6);
    assert.match(await execCli(postern, 'batches'), /6 were sent, and neither delivered nor failed since/);

    // Five deliveries, the last reader's never comes; then one of them again, and what is no event.
    const gone = aws.keptBack.pop();
    assert.ok(gone);
    aws.set({ holdEvents: false });
    await until('the events', async () => (await status(postern)).events.stored === 5);
    const kept = [];
    const { event } = aws;
    aws.event = (object) => kept.push(object);
    gone();
    aws.event = event;
    kept[1].mail.destination = kept[1].delivery.recipients; // its Delivery
    aws.queue.put('{"this is":"no event"}', 3600000);
    await until('the dead letter', async () => (await status(postern)).events.deadletters === 1);
    assert.ok((await status(postern)).queues[0].oldest_ms >= 3600000);
    assert.equal((await books(postern))[0]['no-outcome'], 1);
    assert.equal((await books(postern))[0].outcomes, 5);

    let s = await status(postern);
    assert.equal(s.events.lag.reduce((sum, step) => sum + step.count, 0), 5);
    assert.equal(s.events.repeated, 0);
    assert.ok(s.events.lag_ms_sum >= 0 && feedOf(s).event_ms > 0 && feedOf(s).sent_since === 0);
    assert.equal(feedOf(s).unread, 5);

    await until('all of them to be shown', async () => (await postern.walk('event=delivered&ascending=yes&begin=1')).length === 5);
    s = await status(postern);
    assert.equal(feedOf(s).unread, 0);
    assert.ok(feedOf(s).read_ms > 0);

    // SES's time lies behind what was read by now: it comes late, and the second copy is one too many.
    aws.event(kept[1]);
    aws.event(kept[1]);
    await until('the repeat', async () => (await status(postern)).events.repeated === 1);
    s = await status(postern);
    assert.deepEqual([s.events.stored, s.events.late, feedOf(s).unread], [6, 1, 1]);
    assert.equal((await books(postern))[0]['no-outcome'], 0);
    const text = await execCli(postern, 'status');
    assert.match(text, /events {6}6 since the start, 1 repeats, 1 late; from SES to the store/);
    assert.match(text, /queue {7}http.*: 0 wait, \d+ in flight; the oldest of late waited/);
    assert.match(text, /domain {6}mg\.example\.com: last event .* ago, last read .* ago, not read yet 1\n/);
    await postern.stop();
  });
});
