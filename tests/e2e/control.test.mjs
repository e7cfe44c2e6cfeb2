// What people steer and what guards hold: pause, resume, cancel, resend; bounce and complaint shares; warm-up; soft
// bounces. Whatever is done, the books balance and nobody gets a mail twice.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { Postern, audit, binary, domain, isSettled, jsonLines, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const quiet = { bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delivery_delay_ms_max: 100 };
const other = 'mg2.example.com';
const both = { [domain]: [key], [other]: [key] };

const bookOf = (p, id) => jsonLines(p.cli('batches', id, '--json'))[0];
const batchIds = (p) => p.batches().map((b) => b.batch);
/** The batch that a POST has made. */
async function accept(p, form, options) {
  const before = new Set(batchIds(p));
  const res = await p.post(form, options);
  assert.equal(res.status, 200, await res.text());
  return batchIds(p).find((id) => !before.has(id));
}
const transactional = (to, name = domain) => {
  const body = new URLSearchParams({ to, from: `desk@${name}`, subject: 'Your link', text: 'x' });
  return { body };
};
async function sendSingle(p, to, name = domain) {
  const before = new Set(batchIds(p));
  const res = await p.request('POST', `/v3/${name}/messages`, transactional(to, name));
  assert.equal(res.status, 200, await res.text());
  return batchIds(p).find((id) => !before.has(id));
}
const settled = (p, id) => waitFor(`batch ${id} to settle`, () => isSettled([bookOf(p, id)]), 60000, 100);
const idle = (p, id) => waitFor('leases to end', () => bookOf(p, id).leased + bookOf(p, id).doubt === 0, 30000, 100);
const status = (p) => JSON.parse(p.cli('status', '--json'));
const holds = (p) => status(p).holds.map((h) => `${h.domain}: ${h.reason}`);
/** Exit status and what was said, whatever it was. */
function say(p, ...args) {
  const [command, ...rest] = args;
  const got = spawnSync(binary, [command, '-c', p.confFile, ...rest], { encoding: 'utf8' });
  return { status: got.status, text: (got.stdout + got.stderr).trim() };
}

async function checked(p, form, addresses) {
  const report = await audit(p, p.sandbox, addresses.map((a) => `${form.emailId} ${a}`));
  assert.equal(report.duplicates, 0);
  assert.equal(report.unaccounted, 0);
  return report;
}

describe('a batch', () => {
  it('is paused, resumed, cancelled; others go on', async () => {
    const p = await Postern.start({ sections: { sender: 'max_rate = "60"' } }); // long enough for each command
    await p.sandbox.set(quiet);
    const to = readers(900);
    const form = newsletterForm(to);
    const id = await accept(p, form);
    await waitFor('the first mails', () => bookOf(p, id).sent > 0, 20000, 20);
    const live = bookOf(p, id);
    assert.ok(live['eta-ms'] >= 0 && live.why === '');
    assert.match(say(p, 'batches', 'pause', id).text, /^paused; \d+ recipients wait$/);
    await idle(p, id);
    const sent = bookOf(p, id).sent;
    assert.ok(sent < 900);

    const second = newsletterForm(readers(200, 'second'));
    const secondId = await accept(p, second);
    await settled(p, secondId); // a hundred more would have gone meanwhile
    assert.equal(bookOf(p, id).sent, sent);
    assert.equal(bookOf(p, id).why, 'paused');
    assert.match(p.cli('batches', id), /paused/);

    await p.stop(); // the wish outlives a restart
    await p.launch();
    await p.sandbox.set(quiet);
    assert.equal(bookOf(p, id).why, 'paused');
    assert.deepEqual(say(p, 'batches', 'resume', id).status, 0);
    assert.equal(say(p, 'batches', 'resume', id).status, 1);
    await waitFor('it to go on', () => bookOf(p, id).sent > sent, 20000, 20);
    assert.match(say(p, 'batches', 'cancel', id).text, /^cancelled for \d+ recipients/);
    await settled(p, id);
    const end = bookOf(p, id);
    assert.equal(end.sent + end.cancelled, 900);
    assert.ok(end.cancelled > 0);
    assert.equal(say(p, 'batches', 'pause', id).status, 1);
    await p.stop();
  });

  it('of which some failed at SES is sent again to those only', async () => {
    const p = await Postern.start({ sections: { sender: 'strategy = "simple"' } }); // a call for each reader
    await p.sandbox.set({ ...quiet, fail_rate: 5000, fail_status: 400 });
    const to = readers(300);
    const form = newsletterForm(to);
    const id = await accept(p, form);
    await settled(p, id);
    const failed = bookOf(p, id).failed;
    assert.ok(failed > 0);
    await p.sandbox.set({ fail_rate: 0 });
    assert.equal(say(p, 'batches', 'resend', id).text, `${failed} recipients that had failed are sent again`);
    await settled(p, id);
    const end = bookOf(p, id);
    assert.equal(end.failed, 0);
    assert.equal(end.sent, 300);
    assert.equal((await checked(p, form, to)).missing, 0);
    assert.match(say(p, 'batches', 'resend', id).text, /^0 recipients/);
    await p.stop();
  });
});

describe('a domain', () => {
  it("is paused: its single mails and the other domain's newsletters go on", async () => {
    const p = await Postern.start({ domains: both });
    await p.sandbox.set(quiet);
    assert.equal(say(p, 'domains', 'pause', 'MG.example.com').status, 0);
    const form = newsletterForm(readers(100));
    const id = await accept(p, form);
    const otherId = await accept(p, newsletterForm(readers(100), { domain: other }), { domain: other });
    const single = await sendSingle(p, 'one@readers.example.net');
    await settled(p, otherId);
    await settled(p, single);
    assert.equal(bookOf(p, id).pending, 100);
    assert.equal(bookOf(p, id).why, 'paused');
    assert.deepEqual(holds(p), [`${domain}: paused`]);
    assert.match(p.cli('domains'), /mg\.example\.com .*held: paused/);
    assert.match(p.cli('status'), /held +mg\.example\.com: paused/);
    assert.equal(say(p, 'domains', 'resume', domain).status, 0);
    await settled(p, id);
    assert.equal((await checked(p, form, readers(100))).missing, 0);
    assert.equal(say(p, 'domains', 'resume', domain).text, `nothing holds the newsletters of ${domain}`);
    assert.equal(say(p, 'domains', 'pause', 'nobody.example').status, 1);
    await p.stop();
  });

  it('tells by the API what holds its queues, and who has cleared them', async () => {
    const p = await Postern.start({ domains: both });
    await p.sandbox.set(quiet);
    const queues = async (name = domain) => (await p.request('GET', `/v3/domains/${name}/sending_queues`)).json();
    const open = { regular: { is_disabled: false }, scheduled: { is_disabled: false } };
    assert.deepEqual(await queues(), open);
    say(p, 'domains', 'pause', domain);
    const disabled = { is_disabled: true, disabled: { until: '', reason: 'paused: paused by postern domains pause' } };
    assert.deepEqual(await queues(), { regular: disabled, scheduled: disabled });
    assert.deepEqual(await queues(other), open);
    const id = await accept(p, newsletterForm(readers(7)));
    assert.equal((await p.request('DELETE', `/v3/${domain}/envelopes`)).status, 200);
    assert.equal(bookOf(p, id).cancelled, 7);
    const digest = createHash('sha256').update(key).digest('hex').slice(0, 8);
    assert.ok(p.log().includes(`asked for by DELETE /v3/${domain}/envelopes from 127.0.0.1 with the key sha256:${digest}...: cancelled for 7 recipients of ${domain}`));
    assert.doesNotMatch(p.log(), /a person: cancelled/);
    say(p, 'domains', 'resume', domain);
    assert.deepEqual(await queues(), open);
    await p.sandbox.set({ sending_enabled: 0 });
    await sendSingle(p, 'held@readers.example.net');
    const held = await waitFor('the hold', async () => {
      const now = await queues();
      return now.regular.is_disabled && now;
    });
    assert.match(held.regular.disabled.reason, /^account: /);
    assert.ok(new Date(held.regular.disabled.until) > Date.now() - 60000, held.regular.disabled.until);
    assert.deepEqual(held.scheduled, { is_disabled: false });
    assert.equal((await queues(other)).regular.is_disabled, true);
    await p.stop();
  });

  it('that bounces too much is held until a person resumes it', async () => {
    const p = await Postern.start({ domains: both, sections: { guard: 'least = 50\nbounce_warn = "2%"\nbounce_pause = "5%"' } });
    await p.sandbox.set(quiet);
    const first = await accept(p, newsletterForm([...readers(180), ...readers(20, 'bounce')]));
    await settled(p, first);
    await waitFor('the guard', () => holds(p).includes(`${domain}: bounces`), 30000);
    assert.match(p.log(), /hard bounces of \d+ recipients sent/);
    const form = newsletterForm(readers(50, 'next'));
    const next = await accept(p, form);
    const otherId = await accept(p, newsletterForm(readers(50, 'o'), { domain: other }), { domain: other });
    const single = await sendSingle(p, 'two@readers.example.net');
    await settled(p, single);
    await settled(p, otherId);
    assert.equal(bookOf(p, next).pending, 50);
    const [d] = jsonLines(p.cli('domains', domain, '--json'));
    assert.equal(d.held, 'bounces');
    assert.equal(d['hard-bounces'], 20);
    assert.equal(d.mend, `postern domains resume ${domain}`);
    assert.equal(say(p, ...d.mend.split(' ').slice(1)).status, 0);
    await settled(p, next);
    assert.equal((await checked(p, form, readers(50, 'next'))).missing, 0);
    await p.stop();
  });

  it("counts SES's mailbox simulator nowhere", async () => {
    const p = await Postern.start({ sections: { guard: 'least = 1\nbounce_pause = "1%"' } });
    await p.sandbox.set(quiet);
    const to = Array.from({ length: 20 }, (_, i) => `bounce+${i}@simulator.amazonses.com`);
    const id = await accept(p, newsletterForm([...to, ...readers(20)]));
    await waitFor('the bounces', () => bookOf(p, id)['failed-permanent'] === 20, 30000);
    assert.deepEqual(holds(p), []);
    assert.equal(jsonLines(p.cli('domains', '--json'))[0].sent, 20);
    await p.stop();
  });

  it('that warms up sends its share of the day and no more', async () => {
    const p = await Postern.start({ domains: {}, sections: {
      [`domain "${domain}"`]: `api_keys = {"${key}"}\nnewsletter_configuration_set = "ghost-mailgun-proxy-set"\nwarmup_first_day = 120`,
    } });
    await p.sandbox.set(quiet);
    const form = newsletterForm(readers(300));
    const id = await accept(p, form);
    await waitFor("the day's share", () => bookOf(p, id).sent === 120 && bookOf(p, id).leased === 0, 30000, 100);
    const single = await sendSingle(p, 'three@readers.example.net');
    await settled(p, single);
    assert.equal(bookOf(p, id).sent, 120);
    assert.equal(bookOf(p, id).why, 'warm-up');
    assert.deepEqual(holds(p), [`${domain}: warm-up`]);
    assert.equal((await p.sandbox.stats()).accepted_recipients, 121);
    await p.stop();
  });
});

describe('an address', () => {
  it('that bounces softly again and again is suppressed; a delivery between counts anew', async () => {
    const p = await Postern.start({ sections: { guard: 'soft_bounces = 2' } });
    await p.sandbox.set(quiet);
    const to = ['softbounce1@readers.example.net', 'good@readers.example.net'];
    for (let issue = 1; issue <= 3; issue++) {
      const id = await accept(p, newsletterForm(to));
      await settled(p, id);
      await waitFor('its outcomes', () => {
        const b = bookOf(p, id);
        return b.delivered + b['failed-temporary'] + b['failed-permanent'] >= 2;
      }, 30000, 100);
      const b = bookOf(p, id);
      assert.deepEqual([b.sent, b.suppressed, b['failed-temporary']], issue < 3 ? [2, 0, 1] : [1, 1, 0]);
    }
    const res = await p.request('GET', `/v3/${domain}/bounces/${to[0]}`);
    assert.equal(res.status, 200);
    assert.match((await res.json()).error, /repeated temporary failures/);
    assert.equal((await p.request('GET', `/v3/${domain}/bounces/${to[1]}`)).status, 404);
    await p.stop();
  });
});

describe('suppressions put in by a client', () => {
  const outcome = async (p, to, extra = {}) => {
    const form = newsletterForm(to, extra);
    const id = await accept(p, form);
    await settled(p, id);
    return bookOf(p, id);
  };
  const failures = async (p) => (await p.walk('event=failed&ascending=yes')).map((e) => `${e.recipient} ${e['delivery-status'].code} ${e.severity}`);

  it('cost no call, and fail with 605, 606 or 607; unsubscribes go by tag', async () => {
    const p = await Postern.start();
    await p.sandbox.set(quiet);
    const call = async (method, pathname, body, type) => {
      const res = await p.request(method, `/v3/${domain}/${pathname}`, { body, headers: type ? { 'Content-Type': type } : {} });
      return [res.status, (await res.json()).message];
    };
    const json = (value) => [JSON.stringify(value), 'application/json'];
    assert.deepEqual(await call('POST', 'bounces', new URLSearchParams({ address: 'B@readers.example.net' })), [200, 'Address has been added to the bounces table']);
    assert.deepEqual(await call('POST', 'complaints', ...json([{ address: 'c@readers.example.net' }, { address: 'c2@readers.example.net' }])), [200, '2 complaint addresses have been added to the complaints table']);
    assert.deepEqual(await call('POST', 'unsubscribes', new URLSearchParams([['address', 'u@readers.example.net'], ['tag', 'offers']])), [200, 'Address has been added to the unsubscribes table']);
    assert.deepEqual(await call('POST', 'unsubscribes', ...json([{ address: 'all@readers.example.net' }])), [200, '1 addresses have been added to the unsubscribes table']);
    assert.deepEqual(await call('POST', 'bounces', new URLSearchParams({ code: '550' })), [400, 'Missing mandatory parameter: address']);
    assert.deepEqual(await call('POST', 'bounces', ...json(Array(1001).fill({ address: 'x@y.example' }))), [400, 'Batch size should be less than 1000']);
    assert.deepEqual(await call('POST', 'bounces', '{', 'application/json'), [400, 'Invalid JSON']);
    assert.equal((await call('POST', 'bounces', ...json([{ address: 'no address' }])))[0], 400);
    const record = await (await p.request('GET', `/v3/${domain}/unsubscribes/u@readers.example.net`)).json();
    assert.deepEqual(record.tags, ['offers']);

    const to = ['b', 'c', 'u', 'all', 'fine'].map((name) => `${name}@readers.example.net`);
    let b = await outcome(p, to, { tags: ['News'] });
    assert.deepEqual([b.sent, b.suppressed], [2, 3]);
    b = await outcome(p, to, { tags: ['news', 'OFFERS'] });
    assert.deepEqual([b.sent, b.suppressed], [1, 4]);
    assert.equal((await p.sandbox.stats()).accepted_recipients, 3);
    await waitFor('the events', async () => (await failures(p)).length === 7);
    assert.deepEqual([...new Set(await failures(p))].sort(), [`${to[3]} 606 permanent`, `${to[0]} 605 permanent`, `${to[1]} 607 permanent`, `${to[2]} 606 permanent`].sort());

    assert.deepEqual(await call('DELETE', 'unsubscribes/u@readers.example.net?tag=news'), [404, 'Unsubscribe event for this tag does not exist']);
    assert.deepEqual(await call('DELETE', 'unsubscribes/u@readers.example.net?tag=offers'), [200, 'Unsubscribe event has been removed']);
    for (const one of ['bounces/b', 'complaints/c', 'unsubscribes/all']) assert.equal((await call('DELETE', `${one}@readers.example.net`))[0], 200);
    b = await outcome(p, to, { tags: ['news', 'offers'] });
    assert.deepEqual([b.sent, b.suppressed], [5, 0]);
    await p.stop();
  });
});

describe('copies', () => {
  it('go with each mail; what becomes of a copy is booked on its own address', async () => {
    const p = await Postern.start();
    await p.sandbox.set(quiet);
    const to = readers(4);
    const cc = ['bounce@simulator.amazonses.com', 'archive@readers.example.net', 'jörg@readers.example.net'];
    const form = newsletterForm(to, { extra: cc.map((address) => ['cc', address]) });
    const id = await accept(p, form);
    await settled(p, id);
    await waitFor('the events', async () => (await p.walk('event=delivered')).filter((e) => e.recipient === cc[1]).length === 4 && (await p.walk('event=failed')).length >= 5, 30000);
    const delivered = await p.walk('event=delivered&ascending=yes');
    const failed = await p.walk('event=failed&ascending=yes');
    assert.deepEqual(delivered.filter((e) => to.includes(e.recipient)).map((e) => e.recipient).sort(), to);
    assert.deepEqual([...new Set(failed.map((e) => e.recipient))].sort(), [cc[0], cc[2]]);
    assert.equal(bookOf(p, id).sent, 6); // the reader whom SES cannot take fails alone
    assert.equal(bookOf(p, id).failed, 1);
    const next = await accept(p, newsletterForm(to));
    await settled(p, next);
    assert.equal(bookOf(p, next).sent, 4);
    await p.stop();
  });
  it('fail when no mail could be sent that would have carried them', async () => {
    const p = await Postern.start();
    await p.sandbox.set(quiet);
    const to = ['jörg@readers.example.net', 'käte@readers.example.net'];
    const id = await accept(p, newsletterForm(to, { extra: [['cc', 'archive@readers.example.net']] }));
    await settled(p, id);
    assert.deepEqual([bookOf(p, id).sent, bookOf(p, id).failed], [0, 3]);
    const failed = await waitFor('the events', async () => { const list = await p.walk('event=failed'); return list.length === 3 && list; });
    assert.match(failed.find((e) => e.recipient.startsWith('archive'))['delivery-status'].message, /^None of the mails that would have carried this copy/);
    await p.stop();
  });
});

describe('the command line', () => {
  it('says what is wrong with a request, and that nothing runs', async () => {
    const p = await Postern.start();
    await p.sandbox.set(quiet);
    assert.deepEqual(say(p, 'batches', 'pause', '00000000000000ff'), { status: 1, text: 'there is no batch 00000000000000ff' });
    assert.equal(say(p, 'batches', 'pause').status, 2);
    assert.equal(say(p, 'batches', 'pause', 'xyz').status, 2);
    assert.equal(say(p, 'batches', '00000000000000ff').status, 1);
    assert.equal(say(p, 'batches', 'a', 'b', 'c').status, 2);
    assert.equal(say(p, 'domains', 'resend', domain).status, 2);
    const id = await accept(p, newsletterForm(readers(10)));
    assert.match(execFileSync(binary, ['batches', '-c', p.confFile, '--watch', id], { encoding: 'utf8' }), /delivered .*10 of 10/);
    const s = status(p);
    assert.ok(s.processes.some((one) => one.name === 'writer 0' && one.state === 'ready'));
    await p.stop();
    const got = say(p, 'status');
    assert.equal(got.status, 1);
    assert.match(got.text, /is not running/);
    assert.equal(say(p, 'batches').status, 0);
  });
});
