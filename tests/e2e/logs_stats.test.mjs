// The Logs API gives what the events API gives; statistics equal a recount of those events.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createRequire } from 'node:module';
import { Postern, domain, isSettled, key, newsletterForm, readers, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const MultipartForm = require('form-data');
after(stopAll);

const other = 'news.example.org';
const client = (version, url) => {
  const loaded = require(`mailgun.js-${version}`);
  return new (loaded.default ?? loaded)(MultipartForm).client({ username: 'api', key, url });
};

describe('logs and statistics', () => {
  let postern;
  let all; // events of the first domain, oldest first
  const begin = () => Date.now() / 1000 - 3600;

  before(async () => {
    postern = await Postern.start({ domains: { [domain]: [key], [other]: [key], 'theirs.example': ['another'] }, sections: { guard: 'bounce_pause = "0%" complaint_pause = "0%"' } });
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 8000, click_rate: 3000, delivery_delay_ms_max: 100 });
    await postern.post(newsletterForm([...readers(150), ...readers(10, 'bounce'), ...readers(5, 'complaint')], { emailId: 'e1'.repeat(12), tags: ['bulk-email', 'Weekly'], html: '<p>Hi</p><a href="https://example.com/x">x</a>', extra: [['o:tracking-clicks', 'yes']] }));
    await postern.post(newsletterForm(readers(40, 'second-'), { emailId: 'e2'.repeat(12), tags: ['bulk-email'], subject: 'Another "subject"' }));
    await postern.post(newsletterForm(readers(20, 'other-'), { domain: other }), { domain: other });
    await waitFor('the books', () => isSettled(postern.batches()));
    await waitFor('the events', () => postern.batches().every((b) => b.delivered + b['failed-permanent'] >= b.accepted));
    let last = -1; // opens and clicks come to an end
    await waitFor('no more events', async () => {
      all = await postern.walk(`limit=300&ascending=yes&begin=${begin()}`);
      const quiet = all.length === last && all.length > 430;
      last = all.length;
      return quiet;
    }, 40000, 2500);
  });
  after(() => postern?.stop());

  const logs = async (body, { status = 200, secret = key } = {}) => {
    const res = await postern.request('POST', '/v1/analytics/logs', { auth: `api:${secret}`, body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
    const answer = await res.json();
    assert.equal(res.status, status, JSON.stringify(answer));
    return answer;
  };
  /** Follows `next` to the end. */
  const walk = async (body) => {
    const items = [];
    const seen = new Set();
    for (let token; ; ) {
      const page = await logs({ ...body, pagination: { ...body.pagination, token } });
      items.push(...page.items);
      assert.ok(page.items.length <= (body.pagination?.limit ?? 100));
      token = page.pagination.next;
      if (!token) return items;
      assert.ok(!seen.has(token), 'a token repeats');
      seen.add(token);
    }
  };
  const predicate = (attribute, comparator, ...values) => ({ attribute, comparator, values: values.map((value) => ({ label: value, value })) });
  const ofDomain = predicate('domain', '=', domain);
  const ids = (items) => items.map((i) => i.id);

  it('give the same events, in both orders, page by page', async () => {
    const up = await walk({ duration: '1h', filter: { AND: [ofDomain] }, pagination: { sort: 'timestamp:asc', limit: 37 } });
    assert.deepEqual(ids(up), ids(all));
    const down = await walk({ duration: '1h', filter: { AND: [ofDomain] }, pagination: { sort: 'timestamp:desc', limit: 100 } });
    assert.deepEqual(ids(down), ids(all).toReversed());
    for (const [i, item] of up.entries()) {
      assert.match(item['@timestamp'], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.ok(Math.abs(new Date(item['@timestamp']) / 1000 - all[i].timestamp) < 0.002);
      assert.deepEqual(item.domain, { name: domain });
      assert.equal(item.event, all[i].event);
      assert.equal(item.recipient, all[i].recipient);
      assert.deepEqual(item.tags, all[i].tags);
      assert.deepEqual(JSON.parse(item['user-variables']), all[i]['user-variables']);
      assert.deepEqual(item.storage, { url: [all[i].storage.url], key: all[i].storage.key });
    }
    const page = await logs({ duration: '1h', filter: { AND: [ofDomain] }, pagination: { limit: 10 }, include_totals: true });
    assert.equal(page.pagination.total, all.length);
    assert.deepEqual(page.aggregates, {});
    assert.equal(page.pagination.previous, undefined);
    const second = await logs({ duration: '1h', filter: { AND: [ofDomain] }, pagination: { token: page.pagination.next } });
    const back = await logs({ duration: '1h', filter: { AND: [ofDomain] }, pagination: { token: second.pagination.previous } });
    assert.deepEqual(ids(back.items), ids(page.items));
  });

  it('say where a message is stored, each in its own domain', async () => {
    const page = await logs({ duration: '1h', events: ['accepted'], filter: { AND: [predicate('domain', '=', other)] }, pagination: { limit: 1 } });
    const { pathname } = new URL(page.items[0].storage.url[0]);
    assert.ok(pathname.startsWith(`/v3/domains/${other}/messages/`));
    const res = await postern.request('GET', pathname);
    assert.equal(res.status, 200);
    assert.ok((await res.json()).sender.includes(`@${other}`));
  });

  it('filter as the events API does', async () => {
    const both = async (query, body) => {
      const events = await postern.walk(`limit=300&ascending=yes&begin=${begin()}&${query}`);
      const items = await walk({ duration: '1h', pagination: { sort: 'timestamp:asc' }, ...body, filter: { AND: [ofDomain, ...(body.filter ?? [])] } });
      assert.deepEqual(ids(items), ids(events), query);
      return items.length;
    };
    assert.ok(await both('event=delivered', { events: ['delivered'] }) >= 190);
    assert.ok(await both('event=opened OR clicked&tags=weekly', { events: ['opened', 'clicked'], filter: [predicate('tag', '=', 'weekly')] }) > 0);
    assert.equal(await both('event=failed&severity=permanent', { events: ['failed'], filter: [predicate('severity', '=', 'permanent')] }), 10);
    assert.ok(await both('recipient=reader000001@readers.example.net', { filter: [predicate('recipient', '=', 'reader000001@readers.example.net')] }) >= 2);
    assert.equal(await both('event=complained', { events: ['complained'] }), 5);
    assert.ok(await both('subject=Another', { filter: [predicate('subject', 'contains', 'another')] }) >= 80);
    assert.equal((await walk({ duration: '1h', filter: { AND: [ofDomain, predicate('tag', '=', 'no-such')] } })).length, 0);
    assert.equal((await walk({ duration: '1h', filter: { AND: [ofDomain, predicate('tag', '!=', 'weekly')] } })).length, all.filter((e) => !e.tags.includes('Weekly')).length);
  });

  it('show no more than a key opens', async () => {
    const mine = await walk({ duration: '1h' });
    assert.deepEqual([...new Set(mine.map((i) => i.domain.name))].sort(), [domain, other].sort());
    assert.deepEqual((await logs({ duration: '1h', filter: { AND: [predicate('domain', '=', 'theirs.example')] } })).items, []);
    assert.deepEqual((await logs({ duration: '1h', filter: { AND: [ofDomain] } }, { secret: 'another' })).items, []);
    await logs({}, { status: 401, secret: 'wrong' });
    const page = await logs({ duration: '1h', filter: { AND: [ofDomain] }, pagination: { limit: 1 } });
    assert.match((await logs({ pagination: { token: page.pagination.next } }, { status: 400, secret: 'another' })).message, /'token' is not valid/);
  });

  it('say what is wrong', async () => {
    for (const [body, words] of [
      [[], /^Invalid JSON$/],
      [{ start: 'nonsense' }, /'start' is not a valid date/],
      [{ duration: '1w' }, /'duration'/],
      [{ start: 'Mon, 08 Jul 2024 00:00:00 -0000', end: 'Mon, 01 Jul 2024 00:00:00 -0000' }, /'start' is after 'end'/],
      [{ events: 'delivered' }, /'events' is no list/],
      [{ events: ['unique_opened'] }, /statistics/],
      [{ filter: { OR: [] } }, /AND/],
      [{ filter: { AND: [predicate('moon', '=', 'full')] } }, /'moon' is no attribute/],
      [{ filter: { AND: [predicate('tag', '~', 'x')] } }, /'~' is no comparator/],
      [{ filter: { AND: [{ attribute: 'tag', comparator: '=', values: [] }] } }, /without values/],
      [{ filter: { AND: [{ attribute: 'size', comparator: '>=', values: [1e83] }] } }, /neither a text nor a whole number/],
      [{ pagination: { limit: 0 } }, /'limit'/],
      [{ pagination: { sort: 'recipient:asc' } }, /'sort'/],
      [{ pagination: { token: 'nonsense' } }, /'token' is not valid/],
    ])
      assert.match((await logs(body, { status: 400 })).message, words, JSON.stringify(body));
  });

  it('serve the newest mailgun.js', async () => {
    const mg = client('14', postern.url);
    if (!mg.logs) return;
    const answer = await mg.logs.list({ start: new Date(Date.now() - 3600000), end: new Date(), events: ['delivered'], filter: { AND: [ofDomain] }, pagination: { sort: 'timestamp:asc', limit: 5 } });
    assert.equal(answer.items.length, 5);
  });

  // ---- statistics ----

  const stats = async (path, want = 200) => {
    const res = await postern.request('GET', path);
    const body = await res.json();
    assert.equal(res.status, want, JSON.stringify(body));
    return body;
  };
  const total = (answer, pick) => answer.stats.reduce((sum, step) => sum + pick(step), 0);
  const kinds = ['accepted', 'delivered', 'failed', 'opened', 'clicked', 'unsubscribed', 'complained', 'stored'];
  const every = kinds.map((k) => `event=${k}`).join('&');

  const compare = (answer, events) => {
    const of = (event) => events.filter((e) => e.event === event);
    const unique = (event) => new Set(of(event).map((e) => `${e.recipient} ${e['user-variables']['email-id']}`)).size;
    assert.equal(total(answer, (s) => s.accepted.total), of('accepted').length);
    assert.equal(total(answer, (s) => s.delivered.smtp), of('delivered').length);
    assert.equal(total(answer, (s) => s.failed.permanent.total), of('failed').filter((e) => e.severity === 'permanent').length);
    assert.equal(total(answer, (s) => s.failed.permanent.bounce), of('failed').filter((e) => e.reason === 'bounce').length);
    assert.equal(total(answer, (s) => s.failed.temporary.total), of('failed').filter((e) => e.severity === 'temporary').length);
    assert.equal(total(answer, (s) => s.opened.total), of('opened').length);
    assert.equal(total(answer, (s) => s.opened.unique), unique('opened'));
    assert.equal(total(answer, (s) => s.clicked.total), of('clicked').length);
    assert.equal(total(answer, (s) => s.clicked.unique), unique('clicked'));
    assert.equal(total(answer, (s) => s.complained.total), of('complained').length);
  };

  it('equal a recount, by hour and by day', async () => {
    for (const query of ['resolution=hour&duration=3h', 'resolution=day', 'resolution=month&duration=1m', '']) {
      const answer = await stats(`/v3/${domain}/stats/total?${every}&${query}`);
      compare(answer, all);
      for (const step of answer.stats) assert.deepEqual(Object.keys(step), ['time', ...kinds]);
    }
    const week = await stats(`/v3/${domain}/stats/total?event=opened`);
    assert.equal(week.resolution, 'day');
    assert.equal(week.stats.length, 8);
    assert.deepEqual(Object.keys(week.stats[0]), ['time', 'opened']);
    assert.match(week.start, /^\w{3}, \d\d \w{3} \d{4} 00:00:00 UTC$/);
    const both = await stats(`/v3/stats/total?event=accepted&duration=3h&resolution=hour`);
    assert.equal(total(both, (s) => s.accepted.outgoing), all.filter((e) => e.event === 'accepted').length + 20);
  });

  it('are told by tag', async () => {
    const { items } = await stats(`/v3/${domain}/tags`);
    assert.deepEqual(items.map((i) => i.tag), ['bulk-email', 'Weekly']);
    assert.ok(items.every((i) => i.description === '' && new Date(i['first-seen']) <= new Date(i['last-seen'])));
    compare(await stats(`/v3/${domain}/tags/weekly/stats?${every}`), all.filter((e) => e.tags.includes('Weekly')));
    compare(await stats(`/v3/${domain}/tag/stats?tag=bulk-email&${every}`), all);
    assert.equal((await stats(`/v3/${domain}/tag?tag=WEEKLY`)).tag, 'Weekly');
    assert.equal((await stats(`/v3/${domain}/tags/none`, 404)).message, 'tag not found');
    const first = await stats(`/v3/${domain}/tags?limit=1`);
    const next = await stats(new URL(first.paging.next).pathname + new URL(first.paging.next).search);
    assert.deepEqual(next.items.map((i) => i.tag), ['Weekly']);
    const back = await stats(new URL(next.paging.previous).pathname + new URL(next.paging.previous).search);
    assert.deepEqual(back.items.map((i) => i.tag), ['bulk-email']);
    assert.deepEqual((await stats(`/v3/${domain}/tags?prefix=we`)).items.map((i) => i.tag), ['Weekly']);
  });

  // ---- metrics ----

  const metrics = async (body, { status = 200, secret = key } = {}) => {
    const res = await postern.request('POST', '/v1/analytics/metrics', { auth: `api:${secret}`, body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
    const answer = await res.json();
    assert.equal(res.status, status, JSON.stringify(answer));
    return answer;
  };
  const counted = ['accepted_count', 'delivered_count', 'opened_count', 'unique_opened_count', 'clicked_count', 'unique_clicked_count', 'failed_count', 'permanent_failed_count', 'temporary_failed_count', 'complained_count', 'unsubscribed_count', 'hard_bounces_count', 'processed_count', 'sent_count', 'suppressed_bounces_count'];
  /** The same numbers from the events themselves. */
  const recount = (events) => {
    const of = (event) => events.filter((e) => e.event === event);
    const unique = (event) => new Set(of(event).map((e) => `${e.recipient} ${e['user-variables']['email-id']}`)).size;
    const permanent = of('failed').filter((e) => e.severity === 'permanent');
    const suppressed = permanent.filter((e) => e.reason.startsWith('suppress-')).length;
    return {
      accepted_count: of('accepted').length,
      delivered_count: of('delivered').length,
      opened_count: of('opened').length,
      unique_opened_count: unique('opened'),
      clicked_count: of('clicked').length,
      unique_clicked_count: unique('clicked'),
      failed_count: of('failed').length,
      permanent_failed_count: permanent.length,
      temporary_failed_count: of('failed').length - permanent.length,
      complained_count: of('complained').length,
      unsubscribed_count: of('unsubscribed').length,
      hard_bounces_count: permanent.filter((e) => e.reason === 'bounce').length,
      processed_count: of('delivered').length + permanent.length,
      sent_count: of('delivered').length + permanent.length - suppressed,
      suppressed_bounces_count: permanent.filter((e) => e.reason === 'suppress-bounce').length,
    };
  };
  const only = (answer, name) => answer.items.map((i) => i.dimensions.find((d) => d.dimension === name).value);
  const rate = (part, whole) => (Math.round((part * 10000) / whole) / 10000).toFixed(4);

  it('are told by the Metrics API, equal to a recount', async () => {
    const want = recount(all);
    assert.ok(want.delivered_count > 150 && want.opened_count > want.unique_opened_count - 1 && want.clicked_count > 0 && want.hard_bounces_count === 10);
    const mine = { filter: { AND: [ofDomain] }, metrics: counted };
    const whole = await metrics({ ...mine, include_aggregates: true });
    assert.deepEqual(whole.items, [{ dimensions: [], metrics: want }]);
    assert.deepEqual(whole.aggregates, { metrics: want });
    for (const [resolution, duration] of [['hour', '3h'], ['day', '7d'], ['month', '1m']]) {
      const answer = await metrics({ ...mine, resolution, duration, dimensions: ['time'], include_aggregates: true });
      assert.deepEqual(answer.aggregates.metrics, want, resolution);
      const steps = await stats(`/v3/${domain}/stats/total?${every}&resolution=${resolution}&duration=${duration}`);
      assert.deepEqual(only(answer, 'time').map((t) => Date.parse(t)), steps.stats.map((s) => Date.parse(s.time)));
      for (const [i, { metrics: m }] of answer.items.entries()) {
        const s = steps.stats[i];
        assert.deepEqual([m.accepted_count, m.delivered_count, m.opened_count, m.unique_opened_count, m.permanent_failed_count, m.temporary_failed_count], [s.accepted.total, s.delivered.total, s.opened.total, s.opened.unique, s.failed.permanent.total, s.failed.temporary.total]);
      }
      assert.equal(answer.pagination.total, answer.items.length);
      assert.deepEqual([answer.resolution, answer.duration, answer.dimensions], [resolution, duration, ['time']]);
    }
    const rates = await metrics({ ...mine, metrics: ['delivered_rate', 'opened_rate', 'unique_opened_rate', 'bounce_rate', 'complained_rate', 'fail_rate'] });
    assert.deepEqual(rates.items[0].metrics, {
      delivered_rate: rate(want.delivered_count, want.sent_count),
      opened_rate: rate(want.opened_count, want.delivered_count),
      unique_opened_rate: rate(want.unique_opened_count, want.delivered_count),
      bounce_rate: rate(want.permanent_failed_count, want.processed_count),
      complained_rate: rate(want.complained_count, want.delivered_count),
      fail_rate: rate(want.failed_count, want.processed_count),
    });
    assert.ok((await metrics({ filter: mine.filter })).items[0].metrics.delivered_smtp_count === want.delivered_count);
  });

  it('are told by domain and by tag, sorted and in pages', async () => {
    const weekly = all.filter((e) => e.tags.includes('Weekly'));
    const byTag = await metrics({ dimensions: ['tag'], metrics: counted, filter: { AND: [ofDomain] }, include_aggregates: true });
    assert.deepEqual(only(byTag, 'tag'), ['bulk-email', 'Weekly']);
    assert.deepEqual(byTag.items[1].metrics, recount(weekly));
    assert.deepEqual(byTag.aggregates.metrics, recount(all));
    const one = await metrics({ metrics: counted, filter: { AND: [ofDomain, predicate('tag', '=', 'weekly')] }, include_aggregates: true });
    assert.deepEqual([one.items[0].metrics, one.aggregates.metrics], [recount(weekly), recount(weekly)]);
    const byDomain = await metrics({ dimensions: ['domain'], metrics: ['accepted_count'], pagination: { sort: 'accepted_count:desc' } });
    assert.deepEqual(only(byDomain, 'domain'), [domain, other]);
    assert.deepEqual(byDomain.items.map((i) => i.metrics.accepted_count), [recount(all).accepted_count, 20]);
    assert.deepEqual(only(await metrics({ dimensions: ['domain'], pagination: { sort: 'accepted_count:asc' } }), 'domain'), [other, domain]);
    assert.deepEqual(only(await metrics({ dimensions: ['domain'], filter: { AND: [predicate('domain', 'not contains', other)] } }), 'domain'), [domain]);
    const joined = await metrics({ dimensions: ['tag'], metrics: ['accepted_count'] }); // of both domains
    assert.equal(joined.items[0].metrics.accepted_count, recount(all).accepted_count + 20);
    const both = await metrics({ dimensions: ['domain', 'tag', 'time'], resolution: 'month', metrics: ['accepted_count'] });
    assert.equal(both.items[0].dimensions.length, 3);
    assert.ok(both.items.every((i) => i.metrics.accepted_count > 0));
    const second = await metrics({ dimensions: ['tag'], metrics: ['accepted_count'], filter: { AND: [ofDomain] }, pagination: { sort: 'tag:asc', skip: 1, limit: 1 } });
    assert.deepEqual(only(second, 'tag'), ['Weekly']);
    assert.deepEqual(second.pagination, { sort: 'tag:asc', skip: 1, limit: 1, total: 2 });
    assert.deepEqual(only(await metrics({ dimensions: ['tag'], filter: { AND: [ofDomain, predicate('tag', 'contains', 'EEK', 'nothing')] } }), 'tag'), ['Weekly']);
    assert.deepEqual(only(await metrics({ dimensions: ['tag'], filter: { AND: [ofDomain, predicate('tag', '!=', 'weekly')] } }), 'tag'), ['bulk-email']);
  });

  it('show of metrics no more than a key opens', async () => {
    assert.deepEqual((await metrics({ dimensions: ['domain'] }, { secret: 'another' })).items, []);
    assert.equal((await metrics({ metrics: ['accepted_count'], filter: { AND: [ofDomain] } }, { secret: 'another' })).items[0].metrics.accepted_count, 0);
    assert.deepEqual((await metrics({ dimensions: ['domain'], filter: { AND: [predicate('domain', '=', 'theirs.example')] } })).items, []);
    await metrics({}, { status: 401, secret: 'wrong' });
  });

  it('say what is wrong with a request for metrics', async () => {
    for (const [body, words] of [
      [[], /^Invalid JSON$/],
      [{ metrics: ['moon_count'] }, /'moon_count' is no metric/],
      [{ metrics: 'opened_count' }, /'metrics' is no list/],
      [{ dimensions: ['country'] }, /'country' is no dimension/],
      [{ dimensions: [7] }, /'' is no dimension/],
      [{ resolution: 'year' }, /'resolution'/],
      [{ duration: '3' }, /'duration'/],
      [{ start: 'x' }, /'start'/],
      [{ start: 'Mon, 08 Jul 2024 00:00:00 -0000', end: 'Mon, 01 Jul 2024 00:00:00 -0000' }, /'start' is after 'end'/],
      [{ resolution: 'hour', start: 'Thu, 01 Jan 1970 00:00:00 GMT' }, /range/],
      [{ filter: { AND: [predicate('country', '=', 'US')] } }, /'country' is no attribute/],
      [{ filter: { AND: [predicate('domain', '<', 'x')] } }, /'domain' is compared/],
      [{ filter: { AND: [predicate('tag', '!=', 'x')] } }, /dimension 'tag'/],
      [{ dimensions: ['tag'], include_aggregates: true, filter: { AND: [predicate('tag', '=', 'x', 'y')] } }, /aggregates/],
      [{ pagination: { limit: 0 } }, /'limit'/],
      [{ pagination: { skip: -1 } }, /'skip'/],
      [{ pagination: { sort: 'time:asc' } }, /'sort'/],
      [{ dimensions: ['time'], pagination: { sort: 'time:up' } }, /'sort'/],
    ])
      assert.match((await metrics(body, { status: 400 })).message, words, JSON.stringify(body));
  });

  for (const version of ['10', '14'])
    it(`give metrics to mailgun.js ${version}`, async () => {
      const mg = client(version, postern.url);
      const got = await mg.metrics.getAccount({ start: new Date(Date.now() - 86400000), end: new Date(), resolution: 'hour', dimensions: ['time', 'domain'], metrics: ['delivered_count', 'delivered_rate'], filter: { AND: [ofDomain] }, include_aggregates: true });
      assert.equal(got.aggregates.metrics.delivered_count, recount(all).delivered_count);
      assert.equal(got.items.reduce((sum, i) => sum + i.metrics.delivered_count, 0), recount(all).delivered_count);
      assert.ok(got.start instanceof Date && got.end instanceof Date);
      assert.equal((await mg.metrics.getAccount({ duration: '1d', metrics: ['accepted_count'] })).items[0].metrics.accepted_count, recount(all).accepted_count + 20);
      await assert.rejects(mg.metrics.getAccount({ metrics: ['moon_count'] }), (e) => e.status === 400 && /moon_count/.test(e.details));
    });

  it('refuse what they do not understand', async () => {
    for (const [query, words] of [['', /event/], ['event=nonsense', /'event'/], ['event=opened&resolution=year', /'resolution'/], ['event=opened&duration=3', /'duration'/], ['event=opened&start=x', /'start'/], ['event=opened&resolution=hour&start=1', /range/]])
      assert.match((await stats(`/v3/${domain}/stats/total?${query}`, 400)).message, words);
  });

  for (const version of ['10', '14'])
    it(`serve mailgun.js ${version}`, async () => {
      const mg = client(version, postern.url);
      const got = await mg.stats.getDomain(domain, { event: ['delivered', 'opened'], duration: '3h', resolution: 'hour' });
      assert.equal(got.stats.reduce((sum, s) => sum + s.delivered.total, 0), all.filter((e) => e.event === 'delivered').length);
      const tags = await mg.domains.domainTags.list(domain);
      assert.deepEqual(tags.items.map((t) => t.tag), ['bulk-email', 'Weekly']);
    });
});
