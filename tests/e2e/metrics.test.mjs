// What Prometheus reads: each figure equals what the API and postern status tell, nothing counted falls, and only those
// who may can read it. docs/metrics.md, the alerts and the dashboard name what is served.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Postern, domain, freePort, isSettled, key, newsletterForm, readers, root, stopAll, waitFor } from './harness.mjs';

after(stopAll);

const other = 'news.example.org';
const masterKey = 'key-for-all-domains';
const metricsKey = 'key-of-prometheus';

const promtool = (() => {
  const own = path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'postern/tools/promtool');
  return fs.existsSync(own) ? own : 'promtool';
})();

/** Text format → Map of 'name{a="b"}', labels in the order of their names, → value; and of family → type, help. */
function parse(text) {
  const samples = new Map();
  const families = new Map();
  for (const line of text.split('\n').filter(Boolean)) {
    const about = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (about) {
      families.set(about[2], { ...families.get(about[2]), [about[1].toLowerCase()]: about[3] });
      continue;
    }
    const [, name, labels, value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? assert.fail(`not understood: ${line}`);
    const pairs = [...(labels ?? '').matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([, n, v]) => `${n}="${v}"`).sort();
    const id = pairs.length === 0 ? name : `${name}{${pairs.join(',')}}`;
    assert.ok(!samples.has(id), `${id} stands twice`);
    samples.set(id, Number(value));
  }
  return { samples, families };
}

const familyOf = (families, id) => {
  const name = id.replace(/\{.*/, '');
  return families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ''));
};

describe('metrics', () => {
  let postern;
  let sent; // addresses of the first domain
  const basic = (secret) => `Basic ${Buffer.from(`api:${secret}`).toString('base64')}`;
  const get = (options = {}) => fetch(`${options.url ?? postern.url}/metrics`, { method: options.method, headers: { Connection: 'close', ...(options.auth && { Authorization: options.auth }) } }); // none kept to a process that is killed
  const scrape = async () => {
    const res = await get({ auth: basic(masterKey) });
    assert.equal(res.status, 200);
    assert.equal(res.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
    return parse(await res.text());
  };
  const stats = async (name) => {
    const kinds = ['accepted', 'delivered', 'failed', 'opened', 'clicked', 'unsubscribed', 'complained', 'stored'];
    const res = await postern.request('GET', `/v3/${name}/stats/total?duration=1d&${kinds.map((k) => `event=${k}`).join('&')}`);
    assert.equal(res.status, 200);
    const sums = {};
    const add = (into, from) => {
      for (const [k, v] of Object.entries(from)) {
        if (typeof v === 'number') into[k] = (into[k] ?? 0) + v;
        else if (v && typeof v === 'object') add((into[k] ??= {}), v);
      }
    };
    for (const step of (await res.json()).stats) add(sums, step);
    return sums;
  };

  before(async () => {
    const metricsPort = await freePort();
    const unix = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'postern-metrics-')), 'sock');
    postern = await Postern.start({
      domains: { [domain]: [key], [other]: [key] },
      conf: `api_keys = {"${masterKey}"}`,
      sections: {
        httpd: 'children = 2',
        sender: 'doubt_window = "20s"', // what a killed poller had received comes again soon
        metrics: `listen = {"127.0.0.1:${metricsPort}", "unix:${unix}"}`,
        guard: 'bounce_pause = "0%" complaint_pause = "0%"',
      },
    });
    postern.metricsUrl = `http://127.0.0.1:${metricsPort}`;
    postern.metricsSocket = unix;
    await postern.sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 8000, click_rate: 3000, delivery_delay_ms_max: 100 });
    const suppressed = readers(3, 'gone');
    for (const address of suppressed)
      assert.equal((await postern.request('POST', `/v3/${domain}/bounces`, { body: new URLSearchParams({ address, code: '550' }) })).status, 200);
    sent = [...readers(150), ...readers(10, 'bounce'), ...readers(5, 'complaint'), ...suppressed];
    await postern.post(newsletterForm(sent));
    await postern.post(newsletterForm(readers(20, 'other-'), { domain: other }), { domain: other });
    await postern.request('POST', `/v3/${other}/messages`, { body: new URLSearchParams({ from: `a@${other}`, to: 'one@readers.example.net', subject: 's', text: 't' }) });
    await waitFor('the books', () => isSettled(postern.batches()));
    await waitFor('the events', () => postern.batches().every((b) => b.delivered + b['failed-permanent'] >= b.accepted));
    let last = -1; // opens and clicks come to an end
    await waitFor('no more events', async () => {
      const { stored } = postern.status().events;
      const quiet = stored === last && stored > 300;
      last = stored;
      return quiet;
    }, 40000, 2500);
  });
  after(() => postern?.stop());

  it('equal the API\'s statistics', async () => {
    const { samples } = await scrape();
    for (const name of [domain, other]) {
      const expected = await stats(name);
      const sum = (metric, more = '') => [...samples].filter(([id]) => id.startsWith(`${metric}{`) && id.includes(`domain="${name}"`) && id.includes(more)).reduce((n, [, v]) => n + v, 0);
      assert.equal(sum('postern_accepted_recipients_total'), expected.accepted.total);
      assert.equal(sum('postern_delivered_total'), expected.delivered.total);
      assert.equal(sum('postern_opened_total'), expected.opened.total);
      assert.equal(sum('postern_opened_unique_total'), expected.opened.unique);
      assert.equal(sum('postern_clicked_total'), expected.clicked.total);
      assert.equal(sum('postern_clicked_unique_total'), expected.clicked.unique);
      assert.equal(sum('postern_complained_total'), expected.complained.total);
      assert.equal(sum('postern_unsubscribed_total'), expected.unsubscribed.total);
      assert.equal(sum('postern_failed_total', 'severity="permanent"'), expected.failed.permanent.total);
      for (const reason of ['bounce', 'delayed-bounce', 'suppress-bounce', 'suppress-unsubscribe', 'suppress-complaint'])
        assert.equal(sum('postern_failed_total', `reason="${reason}",severity="permanent"`), expected.failed.permanent[reason], reason);
      assert.equal(sum('postern_failed_total', 'severity="temporary"'), expected.failed.temporary.total ?? expected.failed.temporary.espblock);
    }
    assert.ok(samples.get(`postern_opened_total{domain="${domain}",lane="newsletter"}`) > 0, 'something was opened');
    assert.ok(samples.get(`postern_opened_unique_total{domain="${domain}",lane="newsletter"}`) <= 150);
  });

  it('equal the books, by lane, and every recipient is accounted for', async () => {
    const { samples } = await scrape();
    const books = postern.batches();
    const figures = { accepted_recipients_total: 'accepted', sent_recipients_total: 'sent', suppressed_recipients_total: 'suppressed', cancelled_recipients_total: 'cancelled',
      failed_recipients: 'failed', pending_recipients: 'pending', leased_recipients: 'leased', in_doubt_recipients: 'doubt' };
    for (const name of [domain, other]) {
      for (const [metric, column] of Object.entries(figures)) {
        const served = ['newsletter', 'transactional'].reduce((n, lane) => n + samples.get(`postern_${metric}{domain="${name}",lane="${lane}"}`), 0);
        assert.equal(served, books.filter((b) => b.domain === name).reduce((n, b) => n + b[column], 0), `${metric} of ${name}`);
      }
      for (const lane of ['newsletter', 'transactional']) assert.equal(samples.get(`postern_unaccounted_recipients{domain="${name}",lane="${lane}"}`), 0);
    }
    assert.equal(samples.get(`postern_accepted_recipients_total{domain="${domain}",lane="newsletter"}`), sent.length);
    assert.equal(samples.get(`postern_suppressed_recipients_total{domain="${domain}",lane="newsletter"}`), 3);
    assert.equal(samples.get(`postern_accepted_recipients_total{domain="${other}",lane="transactional"}`), 1);
  });

  it('equal postern status', async () => {
    const { samples } = await scrape();
    const status = postern.status();
    const total = (metric) => [...samples].filter(([id]) => id.startsWith(`${metric}{`)).reduce((n, [, v]) => n + v, 0);
    assert.equal(total('postern_events_stored_total'), status.events.stored);
    assert.equal(total('postern_events_repeated_total'), status.events.repeated);
    assert.equal(total('postern_events_late_total'), status.events.late);
    assert.equal(samples.get('postern_event_lag_seconds_count'), status.events.stored);
    assert.ok(Math.abs(samples.get('postern_event_lag_seconds_sum') * 1000 - status.events.lag_ms_sum) < 1);
    let up = 0;
    for (const step of status.events.lag) {
      up += step.count;
      assert.equal(samples.get(`postern_event_lag_seconds_bucket{le="${step.up_to_ms === undefined ? '+Inf' : step.up_to_ms / 1000}"}`), up);
    }
    assert.equal(samples.get('postern_deadletters_received_total'), status.events.deadletters);
    assert.equal(samples.get('postern_deadletters_kept'), status.deadletters);
    assert.equal(samples.get('postern_ses_quota_recipients'), status.quota_max_24h);
    assert.equal(Math.floor(samples.get('postern_ses_rate_recipients_per_second')), status.rate_per_s);
    assert.equal(samples.get('postern_ses_throttled_recipients_total'), status.throttled);
    assert.equal(total('postern_sent_recipients_total'), status.sent);
    for (const q of status.queues)
      for (const state of ['visible', 'in_flight', 'delayed']) assert.ok(samples.has(`postern_sqs_messages{queue="${q.url}",state="${state}"}`));
    for (const feed of status.feeds) {
      assert.equal(samples.get(`postern_last_event_timestamp_seconds{domain="${feed.domain}"}`) * 1000, feed.event_ms);
      assert.equal(samples.get(`postern_reader_advanced_timestamp_seconds{domain="${feed.domain}"}`) * 1000, feed.read_ms);
    }
    const processes = [...samples.keys()].filter((id) => id.startsWith('postern_process_restarts_total')).length;
    assert.equal(processes, status.processes.length + 1, 'and the sandbox');
    for (const p of status.processes) {
      const [name, index] = p.name.split(' ');
      assert.equal(samples.get(`postern_process_restarts_total{index="${index}",process="${name}"}`), p.restarts);
      assert.equal(samples.get(`postern_process_up{index="${index}",process="${name}"}`), 1);
      assert.ok(samples.get(`postern_process_resident_memory_bytes{index="${index}",process="${name}"}`) > 1e6, p.name);
    }
    assert.ok(samples.get('postern_process_cpu_seconds_total{index="0",process="writer"}') > 0);
    assert.equal(samples.get('postern_ring_size_bytes{direction="up",index="0",process="sender"}'), 4 << 20);
    assert.ok(samples.get('postern_store_file_bytes') >= samples.get('postern_store_used_bytes'));
    assert.ok(samples.get('postern_store_used_bytes') > 0);
  });

  it('tell how long things took', async () => {
    const before = (await scrape()).samples;
    assert.equal(before.get('postern_accept_seconds_count'), 3);
    assert.ok(before.get('postern_accept_seconds_sum') > 0);
    assert.ok(before.get('postern_ses_call_seconds_count') >= 5);
    assert.equal(before.get('postern_ses_call_seconds_count'), before.get('postern_lease_seconds_count'));
    assert.ok(before.get('postern_lease_seconds_sum') >= before.get('postern_ses_call_seconds_sum'));
    for (let i = 0; i < 5; i++) assert.equal((await postern.request('GET', `/v3/${domain}/events?limit=10`)).status, 200);
    const { samples } = await scrape();
    assert.equal(samples.get('postern_events_page_seconds_count'), before.get('postern_events_page_seconds_count') + 5);
    assert.ok(Math.abs(samples.get(`postern_reader_polled_timestamp_seconds{domain="${domain}"}`) - Date.now() / 1000) < 30);
    assert.equal(samples.get(`postern_reader_polled_timestamp_seconds{domain="${other}"}`), 0);
  });

  it('tell how far behind a reader is', async () => {
    const behind = async (name) => (await scrape()).samples.get(`postern_reader_behind_seconds{domain="${name}"}`);
    assert.ok((await behind(other)) > 1, 'nobody has read it');
    await postern.walk(`limit=300&ascending=yes&begin=${Date.now() / 1000 - 3600}`, { domain: other });
    await waitFor('the reader is not behind', async () => (await behind(other)) === 0);
  });

  it('tell what is held, and why', async () => {
    const held = async (reason) => (await scrape()).samples.get(`postern_held_recipients{domain="${other}",lane="newsletter",reason="${reason}"}`);
    assert.equal(await held('paused'), 0);
    postern.cli('domains', 'pause', other);
    await postern.post(newsletterForm(readers(7, 'held-'), { domain: other }), { domain: other });
    await waitFor('seven are held', async () => (await held('paused')) === 7);
    assert.equal((await scrape()).samples.get(`postern_pending_recipients{domain="${other}",lane="newsletter"}`), 7);
    postern.cli('domains', 'resume', other);
    await waitFor('none is held', async () => (await held('paused')) === 0);
    await waitFor('the books', () => isSettled(postern.batches()));
  });

  it('no counter falls when processes are killed', async () => {
    const pids = ['httpd', 'writer', 'sender', 'poller'].map((role) => postern.pids(role)[0]);
    await waitFor('processor times are measured', async () => (await scrape()).samples.get('postern_process_cpu_seconds_total{index="0",process="poller"}') > 0);
    const before = await scrape();
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await waitFor('their successors', () => {
      const { processes } = postern.status();
      return processes.every((p) => p.state === 'ready' && !pids.includes(p.pid));
    });
    const form = newsletterForm(readers(30, 'again'));
    assert.equal((await postern.post(form, { headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}`, Connection: 'close' } })).status, 200);
    await waitFor('the books', () => isSettled(postern.batches()) && postern.batches().every((b) => b.delivered + b['failed-permanent'] >= b.accepted));
    const now = await scrape();
    let counters = 0;
    for (const [id, value] of before.samples) {
      if (!['counter', 'histogram'].includes(familyOf(before.families, id).type)) continue;
      assert.ok(now.samples.get(id) >= value, `${id} fell from ${value} to ${now.samples.get(id)}`);
      counters++;
    }
    assert.ok(counters > 100);
    const gained = (id) => now.samples.get(id) - before.samples.get(id);
    assert.equal(gained(`postern_accepted_recipients_total{domain="${domain}",lane="newsletter"}`), 30);
    assert.equal(gained(`postern_sent_recipients_total{domain="${domain}",lane="newsletter"}`), 30);
    assert.equal(gained(`postern_delivered_total{domain="${domain}",lane="newsletter"}`), 30);
    assert.equal(gained('postern_accept_seconds_count'), 1);
    for (const role of ['writer', 'sender', 'poller']) assert.equal(gained(`postern_process_restarts_total{index="0",process="${role}"}`), 1);
    for (const lane of ['newsletter', 'transactional']) assert.equal(now.samples.get(`postern_unaccounted_recipients{domain="${domain}",lane="${lane}"}`), 0);
    assert.equal(jsonProblems(postern), '');
  });

  it('count on after a restart, but for what is of one life', async () => {
    const lifelong = (samples) => [...samples].filter(([id]) => /^postern_(accepted|sent|suppressed|delivered|opened|clicked|complained|events_stored)_/.test(id));
    const before = lifelong((await scrape()).samples);
    assert.ok(before.length > 20);
    await postern.stop();
    await postern.launch();
    const { samples } = await scrape();
    for (const [id, value] of before) assert.ok(samples.get(id) >= value, id);
  });

  it('are for those who may see everything', async () => {
    assert.equal((await get()).status, 401);
    assert.equal((await get({ auth: basic('wrong') })).status, 401);
    assert.equal((await get({ auth: basic(key) })).status, 401, 'a key of some domains');
    assert.equal((await get({ auth: `Bearer ${masterKey}` })).status, 200);
    const head = await get({ auth: basic(masterKey), method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(await head.text(), '');
    const post = await get({ auth: basic(masterKey), method: 'POST' });
    assert.equal(post.status, 405);
    assert.equal(post.headers.get('allow'), 'GET, HEAD');
  });

  it('have sockets of their own, which serve nothing else', async () => {
    assert.equal((await get({ url: postern.metricsUrl })).status, 200);
    assert.equal((await fetch(`${postern.metricsUrl}/health`)).status, 200);
    const events = await fetch(`${postern.metricsUrl}/v3/${domain}/events`, { headers: { Authorization: basic(key) } });
    assert.equal(events.status, 404);
    const text = execFileSync('curl', ['-sS', '--unix-socket', postern.metricsSocket, 'http://localhost/metrics'], { encoding: 'utf8' });
    assert.match(text, /^postern_commits_total \d+$/m);
  });

  it('with a key of their own, that one opens them and nothing else; a public socket without one is refused', async () => {
    const conf = fs.readFileSync(postern.confFile, 'utf8');
    fs.writeFileSync(postern.confFile, conf.replace('metrics {', `metrics {\nkey = "${metricsKey}"`));
    postern.child.kill('SIGHUP');
    await waitFor('the key counts', async () => (await get({ url: postern.metricsUrl })).status === 401);
    await waitFor('the key opens', async () => (await get({ auth: basic(metricsKey) })).status === 200);
    assert.equal((await get({ url: postern.metricsUrl, auth: `Bearer ${metricsKey}` })).status, 200);
    assert.equal((await postern.request('GET', `/v3/${domain}/events`, { auth: `api:${metricsKey}` })).status, 401);
    const open = conf.replace('metrics {', 'metrics {\nlisten = {"0.0.0.0:9"}\n').replace(/listen = \{"127\.0\.0\.1:\d+", "unix:[^}]*\}/, '');
    const file = path.join(postern.dir, 'open.conf');
    fs.writeFileSync(file, open);
    assert.throws(() => execFileSync(process.env.POSTERN_BINARY ?? path.join(root, 'build/postern'), ['-t', '-c', file], { stdio: 'pipe' }), (e) => /metrics\.listen: others can reach 0\.0\.0\.0:9/.test(`${e.stderr}${e.stdout}`));
  });

  it('are well-formed, and all in docs/metrics.md', async () => {
    const res = await get({ auth: basic(masterKey) });
    const text = await res.text();
    const checked = execFileSync(promtool, ['check', 'metrics'], { input: text, encoding: 'utf8', stdio: 'pipe' });
    assert.equal(checked, '');
    const { families, samples } = parse(text);
    for (const id of samples.keys()) {
      const family = familyOf(families, id);
      assert.ok(family?.type && family?.help, id);
    }
    const documented = new Map();
    for (const [, name, type] of fs.readFileSync(path.join(root, 'docs/metrics.md'), 'utf8').matchAll(/^\| `(postern_[a-z_]+)` \| (\w+) \|/gm)) {
      assert.ok(!documented.has(name), name);
      documented.set(name, type);
    }
    assert.deepEqual([...documented].sort(), [...families].map(([name, f]) => [name, f.type]).sort());
  });

  it('are what the alerts and the dashboard ask for, and each alert is explained', async () => {
    const { families } = await scrape();
    const names = (text) => [...text.matchAll(/postern_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, (end) => (families.has(name) ? end : '')));
    const rules = path.join(root, 'packaging/prometheus-rules.yml');
    execFileSync(promtool, ['check', 'rules', '--lint-fatal', rules], { stdio: 'pipe' });
    execFileSync(promtool, ['test', 'rules', path.join(root, 'tests/data/prometheus-rules.test.yml')], { stdio: 'pipe' });
    const text = fs.readFileSync(rules, 'utf8');
    const used = names(text.replace(/^ *(summary|description):.*$/gm, ''));
    assert.ok(used.length > 10);
    for (const name of used) assert.ok(families.has(name), `${name}, in an alert, is not served`);
    const operations = fs.readFileSync(path.join(root, 'docs/operations.md'), 'utf8');
    const alerts = [...text.matchAll(/alert: (\w+)/g)].map(([, name]) => name);
    const explained = [...operations.matchAll(/^\| `(Postern\w+)` \|/gm)].map(([, name]) => name);
    assert.deepEqual(explained.sort(), alerts.sort());

    const dashboard = JSON.parse(fs.readFileSync(path.join(root, 'packaging/grafana-dashboard.json'), 'utf8'));
    const panels = dashboard.panels.filter((p) => p.type !== 'row');
    assert.ok(panels.length >= 12);
    assert.equal(new Set(dashboard.panels.map((p) => p.id)).size, dashboard.panels.length);
    const expressions = [];
    for (const panel of panels) {
      assert.ok(panel.title && panel.gridPos && panel.datasource?.uid === '${datasource}', panel.title);
      for (const target of panel.targets) expressions.push(target.expr);
    }
    for (const name of names(expressions.join('\n'))) assert.ok(families.has(name), `${name}, on the dashboard, is not served`);
    // promtool parses them as rules, with Grafana's variables filled in
    const filled = expressions.map((e) => e.replaceAll('$__rate_interval', '5m').replaceAll('$domain', '.*').replaceAll('$instance', '.*').replaceAll('$job', '.*'));
    assert.ok(filled.every((e) => !e.includes('$')), 'a variable that the test does not know');
    const file = path.join(postern.dir, 'dashboard.yml');
    fs.writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: filled.map((expr, i) => ({ record: `panel:${i}`, expr })) }] }));
    execFileSync(promtool, ['check', 'rules', file], { stdio: 'pipe' });
  });
});

function jsonProblems(postern) {
  return postern
    .cli('check', '--json')
    .split('\n')
    .filter((line) => line.includes('"problem"'))
    .join('\n');
}
