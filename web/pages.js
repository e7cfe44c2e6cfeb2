// The other pages.
import { act, ago, api, ask, bytes, button, card, domainSelect, duration, el, empty, facts, field, isOperator, link, number, percent, put, query, raw, recipientLink, select, stat, state, table, time, when } from './ui.js';
import { byTime, columns } from './charts.js';

// ---- overview ----

/** What is held, and what mends it. */
function holds(s) {
  return [
    ...(s.alarms ?? []).map((a) => el('section', { class: 'card alarm' }, el('h2', {}, `No events: ${a.domain}`),
      el('p', {}, `SES has taken ${number(a.sent)} mails and not one event has come back since ${when(a.since_ms)}.`), el('p', {}, a.mend))),
    ...(s.holds ?? []).map((h) => el('section', { class: 'card hold' }, el('h2', {}, `Held: ${[h.domain || 'the account', h.lane, h.from].filter(Boolean).join(', ')}`),
      el('p', {}, `${h.reason}: ${h.words}`, h.until_ms > Date.now() ? `; until ${when(h.until_ms)}` : ''), h.mend ? el('p', {}, 'What mends it: ', el('code', {}, h.mend)) : null)),
  ];
}

const quotaShown = (s) => (s.quota_max_24h > 0 && s.quota_max_24h < 1e15 ? `${number(s.quota_sent_24h)} of ${number(s.quota_max_24h)}` : 'no limit');

export async function overview(root, args, search, current) {
  const domain = search.get('domain') ?? '';
  const at = el('div', {}), now = el('div', { class: 'stats' }), charts = el('div', { class: 'grid' });
  const today = el('div', { class: 'stats' });
  let read = 0;
  async function refresh() {
    read = Date.now();
    const flow = await api(`overview?${query({ domain })}`);
    const t = flow.days.at(-1) ?? {};
    today.replaceChildren(stat(number(t.accepted), 'accepted today', '', 'today-accepted'), stat(number(t.delivered), `delivered today, ${percent(t.delivered ?? 0, t.accepted ?? 0)}`, 'good', 'today-delivered'), stat(number(t.opened_unique), 'opened today', '', 'today-opened'),
      stat(number(t.failed_permanent), 'failed for good today', t.failed_permanent ? 'bad' : '', 'today-failed'), stat(number(t.complained), 'complaints today', t.complained ? 'bad' : '', 'today-complained'));
    if (!charts.querySelector('details[open]'))
      charts.replaceChildren(
        columns('The last 24 hours', byTime(flow.hours, true, ['delivered', 'failed_permanent', 'complained']), ['delivered', 'failed', 'complained'], { classes: ['k2', 'k4', 'k5'] }),
        columns('The last 30 days', byTime(flow.days, false, ['delivered', 'failed_permanent', 'complained']), ['delivered', 'failed', 'complained'], { classes: ['k2', 'k4', 'k5'] }));
  }
  const pick = domainSelect(domain, true);
  pick.addEventListener('change', () => { location.hash = `#/overview?${query({ domain: pick.value })}`; });
  put(root, el('h1', {}, 'Overview'), at, now, el('div', { class: 'bar' }, field('Domain', pick)), today, charts);
  await refresh();
  return { status: (s) => {
    at.replaceChildren(...holds(s));
    const going = s.batches.reduce((a, b) => a + b.rate_per_s, 0);
    now.replaceChildren(stat(`${number(going)}/s`, `going out now; ${number(s.rate_per_s)}/s allowed`, '', 'rate'), stat(number(s.open), `to be sent, of ${number(s.batches_open)} batches`, '', 'open'), stat(quotaShown(s), 'in 24 hours', '', 'quota'),
      stat(number(s.deadletters), 'dead letters', s.deadletters ? 'warn' : '', 'deadletters'), stat(s.events.heard_ms ? ago(s.events.heard_ms) : '–', 'queues read up to', '', 'heard'));
    if (current() && Date.now() - read > 5000) refresh().catch(() => {});
  } };
}

// ---- events ----

const types = ['accepted', 'delivered', 'failed', 'opened', 'clicked', 'unsubscribed', 'complained', 'stored', 'rejected'];
const why = (e) => {
  const s = e['delivery-status'];
  return [e.severity, e.reason, s?.message?.startsWith(s.code) ? '' : s?.code, s?.message || s?.description, e.url, e['client-info']?.['client-name']].filter(Boolean).join(' · ');
};
const open = (e) => el('details', {}, el('summary', {}, 'JSON'), raw(e));

export async function events(root, args, search) {
  const now = { domain: search.get('domain') || state.session.domains[0], event: search.get('event') ?? '', recipient: search.get('recipient') ?? '', subject: search.get('subject') ?? '', tags: search.get('tags') ?? '', 'message-id': search.get('message-id') ?? '', begin: search.get('begin') ?? '', end: search.get('end') ?? '' };
  const form = el('form', { class: 'card bar', on: { submit: (e) => { e.preventDefault(); location.hash = `#/events?${query(Object.fromEntries(new FormData(form)))}`; } } },
    field('Domain', domainSelect(now.domain)), field('Event', select([['', 'all'], ...types.map((t) => [t, t])], now.event, { name: 'event' })),
    field('Recipient', el('input', { name: 'recipient', value: now.recipient }), 'grow'), field('Subject', el('input', { name: 'subject', value: now.subject })), field('Tag', el('input', { name: 'tags', value: now.tags })),
    field('Message-id', el('input', { name: 'message-id', value: now['message-id'] })), field('From', el('input', { name: 'begin', type: 'datetime-local', value: now.begin })), field('Until', el('input', { name: 'end', type: 'datetime-local', value: now.end })),
    el('button', { class: 'main' }, 'Search'));
  const list = el('div', {}), pager = el('div', { class: 'actions' });
  const seconds = (local) => (local ? String(Date.parse(local) / 1000) : '');
  const { domain, begin, end, ...filter } = now;
  async function read(path) {
    const page = await api(path);
    list.replaceChildren(page.items.length ? table('Events', [
      ['Time', (e) => time(e.timestamp * 1000), 'one'], ['Event', (e) => el('span', { class: `tag ${e.event === 'failed' || e.event === 'complained' ? 'bad' : ''}` }, e.event)],
      ['Recipient', (e) => recipientLink(domain, e.recipient ?? ''), 'wide'], ['Subject', (e) => e.message?.headers?.subject, 'wide'], ['', (e) => why(e), 'wide'], ['', open],
    ], page.items) : empty('No events.'));
    const to = (name) => `v3/${encodeURIComponent(domain)}/events/${new URL(page.paging[name], location).pathname.split('/').pop()}`;
    pager.replaceChildren(button('Newest', () => read(to('first'))), button('Newer', () => read(to('previous'))), button('Older', () => read(to('next')), '', { disabled: page.items.length === 0, id: 'older' }));
  }
  put(root, el('h1', {}, 'Events'), form, el('section', { class: 'card' }, list, pager));
  // Down from the newest, or from "until": the API reads upwards only where it is given a beginning alone.
  await read(`v3/${encodeURIComponent(domain)}/events?${query({ ...filter, begin: seconds(end), end: seconds(begin), ascending: 'no', limit: 50 })}`);
}

// ---- one recipient ----

export async function recipient(root, [domain, address]) {
  const path = `v3/${encodeURIComponent(domain)}`;
  const page = await api(`${path}/events?${query({ recipient: address, limit: 300, ascending: 'no' })}`);
  const lists = await Promise.all(Object.keys(listNames).map(async (list) => {
    const near = await api(`${path}/${list}?${query({ term: address, limit: 1 })}`);
    return near.items.filter((s) => of(s).toLowerCase() === address.toLowerCase()).map((entry) => [list, entry]);
  }));
  const listed = lists.flat();
  put(root, el('h1', {}, address), el('p', {}, link(`events?${query({ domain, recipient: address })}`, 'All events, by pages')),
    listed.length ? el('section', { class: 'card hold' }, el('h2', {}, 'On a list'), listed.map(([list, entry]) => el('p', {}, `${listNames[list]}: ${entry.error || entry.reason || ''} ${entry.created_at ?? ''} `, isOperator() ? button('Remove', () => takeOff(domain, list, address), 'danger') : null))) : null,
    card('What happened', page.items.length ? el('ol', { class: 'line' }, page.items.map((e) => el('li', { class: `k-${e.event}` },
      el('strong', {}, e.event), ' ', time(e.timestamp * 1000), el('div', {}, e.message?.headers?.subject), el('div', { class: 'soft' }, why(e)), open(e)))) : empty('No events.')));
}

// ---- suppressions ----

const listNames = { bounces: 'Bounces', complaints: 'Complaints', unsubscribes: 'Unsubscribes', whitelists: 'Allowlist' };
const of = (entry) => entry.address ?? entry.value ?? '';
const redraw = () => window.dispatchEvent(new Event('redraw'));

async function takeOff(domain, list, address) {
  if (await ask(`Remove ${address}?`, `It is taken off ${listNames[list].toLowerCase()}, and gets mail again.`, { yes: 'Remove', danger: true }))
    await act(() => api(`v3/${encodeURIComponent(domain)}/${list}/${encodeURIComponent(address)}`, { method: 'DELETE' }), redraw);
}

async function addTo(domain, list) {
  const got = await ask(`Add to ${listNames[list].toLowerCase()}`, '', { yes: 'Add', fields: [
    field(list === 'whitelists' ? 'Address or domain' : 'Address', el('input', { name: 'address', required: true })),
    list === 'whitelists' ? field('Reason', el('input', { name: 'reason' })) : list === 'bounces' ? [field('Code', el('input', { name: 'code', value: '550', inputmode: 'numeric' })), field('Error', el('input', { name: 'error' }))] : null,
  ] });
  if (!got) return;
  if (list === 'whitelists' && !got.get('address').includes('@')) { got.set('domain', got.get('address')); got.delete('address'); }
  await act(() => api(`v3/${encodeURIComponent(domain)}/${list}`, { method: 'POST', body: got }), redraw);
}

async function importInto(domain, list) {
  const got = await ask(`Import into ${listNames[list].toLowerCase()}`, 'A CSV file whose first line names its columns, address among them; the rest as the API knows them.', { yes: 'Import', fields: [field('File', el('input', { name: 'file', type: 'file', accept: '.csv,text/csv', required: true }))] });
  if (got) await act(() => api(`v3/${encodeURIComponent(domain)}/${list}/import`, { method: 'POST', body: got }), redraw);
}

async function* entries(domain, list, term) {
  let address = '';
  for (;;) {
    const page = await api(`v3/${encodeURIComponent(domain)}/${list}?${query({ limit: 1000, term, page: address ? 'next' : '', address })}`);
    if (!page.items.length) return;
    yield* page.items;
    address = page.items.at(-1).address ?? page.items.at(-1).value;
  }
}

/** What spreadsheets would take for a formula is led by an apostrophe. */
const csvCell = (v) => `"${String(v ?? '').replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
async function exportList(domain, list, term) {
  const names = { bounces: ['address', 'code', 'error', 'created_at'], complaints: ['address', 'created_at'], unsubscribes: ['address', 'tags', 'created_at'], whitelists: ['value', 'type', 'reason', 'createdAt'] }[list];
  const lines = [names.join(',')];
  for await (const entry of entries(domain, list, term)) lines.push(names.map((n) => csvCell(Array.isArray(entry[n]) ? entry[n].join(' ') : entry[n])).join(','));
  const url = URL.createObjectURL(new Blob([lines.join('\r\n') + '\r\n'], { type: 'text/csv' }));
  el('a', { href: url, download: `${domain}-${list}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  return { message: `${number(lines.length - 1)} entries` };
}

export async function suppressions(root, args, search) {
  const now = { domain: search.get('domain') || state.session.domains[0], list: listNames[search.get('list')] ? search.get('list') : 'bounces', term: search.get('term') ?? '' };
  const form = el('form', { class: 'bar', on: { submit: (e) => { e.preventDefault(); location.hash = `#/suppressions?${query(Object.fromEntries(new FormData(form)))}`; } } },
    field('Domain', domainSelect(now.domain)), field('List', select(Object.entries(listNames), now.list, { name: 'list' })), field('Address begins with', el('input', { name: 'term', type: 'search', value: now.term }), 'grow'), el('button', { class: 'main' }, 'Show'));
  const list = el('div', {}), pager = el('div', { class: 'actions' });
  async function read(page, address) {
    const got = await api(`v3/${encodeURIComponent(now.domain)}/${now.list}?${query({ limit: 50, term: now.term, page, address })}`);
    const items = got.items;
    if (!items.length && page) return;
    list.replaceChildren(items.length ? table(listNames[now.list], [
      ['Address', (s) => (s.type === 'domain' ? of(s) : recipientLink(now.domain, of(s))), 'wide'], ['Why', (s) => [s.error?.startsWith(s.code) ? '' : s.code, s.error, s.reason, (s.tags ?? []).join(', ')].filter(Boolean).join(' '), 'wide'], ['Since', (s) => s.created_at ?? s.createdAt, 'one'],
      ...(isOperator() ? [['', (s) => button('Remove', () => takeOff(now.domain, now.list, of(s)), 'danger', { 'aria-label': `Remove ${of(s)}` })]] : []),
    ], items) : empty('Nobody is on this list.'));
    pager.replaceChildren(button('First', () => read('', '')), button('Back', () => read('previous', of(items[0])), '', { disabled: !items.length }), button('Further', () => read('next', of(items.at(-1))), '', { disabled: items.length < 50 }));
  }
  put(root, el('h1', {}, 'Suppressions'), form, el('div', { class: 'actions' },
    isOperator() ? [button('Add', () => addTo(now.domain, now.list)), button('Import', () => importInto(now.domain, now.list))] : null,
    button('Export', () => act(() => exportList(now.domain, now.list, now.term)))), el('section', { class: 'card' }, list, pager));
  await read('', '');
}

// ---- dead letters ----

/** Tells again, or forgets, what `path` names; what: "all …", or one of a list, whose buttons are short. */
const again = (path, what, { told, words, lost, then = redraw, search = '' }) => isOperator() && [
  button(what.startsWith('all') ? `${told} ${what}` : told, async () => act(() => api(`${path}/replay${search}`, { method: 'POST' }).then((r) => ({ message: `${number(r.count)} ${words}` })), () => setTimeout(redraw, 700)), '', { 'aria-label': `${told} ${what}` }),
  ' ', button(what.startsWith('all') ? `Drop ${what}` : 'Drop', async () => {
    if (await ask(`Drop ${what}?`, lost, { yes: 'Drop', danger: true }))
      await act(() => api(`${path}/drop${search}`, { method: 'POST' }).then((r) => ({ message: `${number(r.count)} dropped` })), then);
  }, 'danger', { 'aria-label': `Drop ${what}` }),
];
const letterActions = (id, what, search = '') => again(`deadletters/${id}`, what, {
  told: 'Read again', words: 'will be read again', lost: 'It is gone for good, and what it told with it.', search: search && `?${query({ search })}`,
  then: () => { if (id !== 'all') location.hash = '#/deadletters'; redraw(); },
});

export async function deadLetters(root, args, search) {
  const term = search.get('search') ?? '';
  const list = el('div', {}), more = el('div', { class: 'actions' });
  let items = [], below = '';
  async function read() {
    const page = await api(`deadletters?${query({ search: term, below })}`);
    items = [...items, ...page.items];
    below = page.below ?? '';
    list.replaceChildren(items.length ? table('Dead letters', [
      ['Came', (d) => time(d['stored-at-us'] / 1000), 'one'], ['Why it was not understood', (d) => [link(`deadletter/${d.id}`, d.why), el('div', { class: 'soft' }, d.raw.slice(0, 160))], 'wide'], ['Queue', (d) => d.source.split('/').pop(), 'one'],
      ['', (d) => letterActions(d.id, d.id.slice(0, 8)), 'one'],
    ], items) : empty('Everything from SES was understood.'));
    more.replaceChildren(...(below ? [button('More', read)] : []));
  }
  const form = el('form', { class: 'bar', on: { submit: (e) => { e.preventDefault(); location.hash = `#/deadletters?${query(Object.fromEntries(new FormData(form)))}`; } } },
    field('Text', el('input', { name: 'search', type: 'search', value: term }), 'grow'), el('button', { class: 'main' }, 'Search'));
  put(root, el('h1', {}, 'Dead letters'), el('p', { class: 'soft' }, 'Messages from SES that were not understood. They are kept as long as events.'), form, el('section', { class: 'card' }, list, more));
  await read();
  if (items.length && isOperator()) root.querySelector('form').after(el('div', { class: 'actions' }, letterActions('all', term ? 'all that hold it' : 'all', term)));
}

export async function deadLetter(root, [id]) {
  const d = await api(`deadletters/${id}`);
  let shown = d.raw;
  try { shown = JSON.stringify(JSON.parse(d.raw), null, 2); } catch { /* as it came */ }
  put(root, el('h1', {}, 'A dead letter'), el('div', { class: 'actions' }, letterActions(d.id, 'this letter')),
    card('Why', el('p', {}, d.why), facts([['Came', time(d['stored-at-us'] / 1000)], ['Queue', d.source], ['SQS message', d['message-id']], ['Waits', d['waits-for-replay'] ? 'to be read again' : null]])), card('What it is', raw(shown)));
}

// ---- domains ----

export async function domains(root) {
  const { items, 'bounce-pause-ppm': bounces, 'complaint-pause-ppm': complaints } = await api('domains');
  const share = (part, whole, limit) => el('span', { class: limit && whole && (part / whole) * 1e6 >= limit ? 'bad' : '' }, `${number(part)} (${percent(part, whole)})`);
  const body = el('div', {});
  const steer = (d, verb, title, text, danger) => button(title, async () => {
    if (await ask(`${title} ${d}?`, text, { yes: title, danger })) await act(() => api(`domains/${encodeURIComponent(d)}/${verb}`, { method: 'POST' }), redraw);
  }, danger ? 'danger' : '', { 'aria-label': `${title} ${d}`, 'data-verb': verb });
  let drawn = '';
  const draw = (s) => {
    const held = JSON.stringify([s?.holds, s?.feeds?.map((f) => [f.domain, f.event_ms, f.unread])]);
    if (held === drawn || body.contains(document.activeElement)) return;
    drawn = held;
    body.replaceChildren(table('Domains', [
      ['Domain', (d) => d.domain, 'wide'], ['Sent, 24 h', (d) => number(d['sent-24h']), 'n'], ['Sent', (d) => number(d.sent), 'n'], ['Hard bounces', (d) => share(d['hard-bounces'], d.sent, bounces), 'n'], ['Complaints', (d) => share(d.complaints, d.sent, complaints), 'n'],
      ['Held', (d) => (s?.holds ?? []).filter((h) => !h.domain || h.domain === d.domain).map((h) => el('div', { class: 'warn' }, `${h.reason}: ${h.words}`)), 'wide'],
      ['Last event', (d) => ago(s?.feeds?.find((f) => f.domain === d.domain)?.event_ms), 'one'], ['Not read yet', (d) => number(s?.feeds?.find((f) => f.domain === d.domain)?.unread ?? 0), 'n'],
      ...(isOperator() ? [['', (d) => el('div', { class: 'actions' }, steer(d.domain, 'pause', 'Pause', 'Its newsletters wait until they are resumed.'), steer(d.domain, 'resume', 'Resume', 'Its newsletters go on, and SES is asked again at once.'), steer(d.domain, 'cancel', 'Cancel', 'What of its newsletters SES does not have yet is not sent. This cannot be undone.', true))]] : []),
    ], items));
  };
  put(root, el('h1', {}, 'Domains'), el('p', { class: 'soft' }, `Shares are of the last ${duration(items[0]?.['window-ms'] ?? 0)}.`), el('section', { class: 'card' }, body));
  draw(state.status);
  return { status: draw };
}

// ---- webhooks ----

const answer = (h) => (h.status ? `answered with ${h.status}` : h.words);
const stateOf = (h) => el('span', { class: `tag ${h.state === 'failing' ? 'bad' : h.state === 'removed' ? 'warn' : 'good'}` }, h.state);
const waits = (h) => (h.waiting >= 10000 ? '10,000 or more' : number(h.waiting));
const failureActions = (id, what, target) => again(`webhooks/${id}`, what, {
  told: 'Tell again', words: 'are told again', lost: 'The receiver never hears of it.', search: target && `?${query({ target })}`,
});

export async function webhooks(root) {
  const { items, more } = await api('webhooks');
  put(root, el('h1', {}, 'Webhooks'), el('p', { class: 'soft' }, 'Where events are told. They are configured over the API, as at Mailgun.'),
    el('section', { class: 'card' }, items.length ? table('Webhooks', [
      ['Where', (h) => [link(`webhook/${h.id}`, h.url), el('div', { class: 'soft' }, h.domain, ': ', h.kinds.join(', '))], 'wide'], ['State', stateOf], ['Delivered', (h) => number(h.delivered), 'n'], ['Wait', waits, 'n'], ['Given up', (h) => number(h['given-up']), 'n'],
      ['Last taken', (h) => time(h['delivered-at-us'] / 1000), 'one'], ['Last refused', (h) => (h['failed-at-us'] ? [time(h['failed-at-us'] / 1000), el('div', { class: 'soft' }, answer(h))] : '–'), 'wide'],
    ], items) : empty('No webhook is configured.')), more ? el('p', { class: 'soft' }, `The first ${number(items.length)}.`) : null);
}

export async function webhook(root, [id]) {
  const h = await api(`webhooks/${id}/failures`);
  put(root, el('h1', {}, h.url), h.items.length ? el('div', { class: 'actions' }, failureActions('all', 'all that was given up', id)) : null,
    el('div', { class: 'stats' }, stat(number(h.delivered), 'delivered', 'good', 'delivered'), stat(waits(h), 'wait', '', 'waiting'), stat(number(h['given-up']), 'given up', h['given-up'] ? 'warn' : '', 'given-up'), stat(number(h['failures-in-a-row']), 'failed in a row', h['failures-in-a-row'] ? 'bad' : '')),
    card('About', facts([['Domain', h.domain], ['Told', h.kinds.join(', ') || 'nothing any more'], ['State', stateOf(h)], ['Last taken', h['delivered-at-us'] ? time(h['delivered-at-us'] / 1000) : 'never'], ['Last refused', h['failed-at-us'] ? [time(h['failed-at-us'] / 1000), `: ${answer(h)}`] : 'never']])),
    card('Given up', h.items.length ? table('Given up', [
      ['When', (f) => time(f['failed-at-us'] / 1000), 'one'], ['Event', (f) => f.kind, 'one'], ['Recipient', (f) => (f.recipient ? recipientLink(h.domain, f.recipient) : ''), 'wide'], ['Attempts', (f) => number(f.attempts), 'n'], ['Last answer', answer, 'wide'],
      ['', (f) => failureActions(f.id, f.id.slice(0, 8)), 'one'],
    ], h.items) : empty('Every event was taken, or waits for its turn.'), h.more ? el('p', { class: 'soft' }, `The first ${number(h.items.length)}.`) : null));
}

// ---- system ----

/** Who may look and act now, and ending that. */
async function signedInPeople() {
  const { items } = await api('sessions');
  const end = (which, title, what) => button(title, async () => {
    if (await ask(`${title}?`, what, { yes: title, danger: true })) await act(() => api(`sessions/${which}/end`, { method: 'POST' }), redraw);
  }, 'danger', { 'aria-label': which === 'others' ? title : `${title} ${which}`, 'data-session': which });
  const others = items.some((s) => !s.mine);
  return card('Signed in', others ? el('div', { class: 'actions' }, end('others', 'End all others', 'Everybody but you has to be let in again, with a new link.')) : null, table('Signed in', [
    ['Session', (s) => el('code', {}, s.id), 'one'], ['Name', (s) => [s.name, s.mine ? ' (you)' : ''], 'wide'], ['Role', (s) => s.role], ['Since', (s) => time(s['since-ms']), 'one'], ['Last seen', (s) => (s.kind === 'link' ? 'a link, not used yet' : time(s['seen-ms'])), 'one'], ['From', (s) => s.from, 'one'], ['Until', (s) => time(s['until-ms']), 'one'],
    ['', (s) => (s.mine ? null : end(s.id, 'End', `${s.name} has to be let in again, with a new link.`)), 'one'],
  ], items));
}

export async function system(root) {
  const body = el('div', {});
  let full = false;
  put(root, el('h1', {}, 'System'), body, isOperator() ? await signedInPeople() : null);
  const draw = (s) => {
    const shown = body.querySelector('details[open]') !== null;
    if (shown && full) return; // somebody reads it
    full = true;
    const c = s.credentials ?? {};
    body.replaceChildren(...holds(s), el('div', { class: 'grid' },
      card('Sending', facts([['Rate', `${number(s.rate_per_s)}/s of the account's ${number(s.account_rate_per_s)}/s${s.rate_share < 1000 ? `, slowed down to ${s.rate_share / 10} % as SES throttles` : ''}`], ['Quota', quotaShown(s)], ['To send', `${number(s.open)} recipients of ${number(s.batches_open)} batches`], ['Sent', `${number(s.sent)} since the start; throttled ${number(s.throttled)}`],
        ['Account', s.account_sandbox ? 'in SES’s sandbox: only verified recipients are taken' : null], ['Credentials', c.present ? `from ${c.source}, region ${c.region}${c.expires_ms ? `, until ${when(c.expires_ms)}` : ''}` : `none: ${c.trouble || 'not asked for yet'}`], ['Trouble', c.present ? c.trouble : null]])),
      card('Events', facts([['Stored', `${number(s.events.stored)} since the start`], ['Repeats', number(s.events.repeated)], ['Late', number(s.events.late)], ['From SES to the store', s.events.stored ? `${duration(s.events.lag_last_ms)}, on average ${duration(s.events.lag_ms_sum / s.events.stored)}` : '–'], ['Queues read up to', s.events.heard_ms ? ago(s.events.heard_ms) : '–'], ['Without outcome', `${number(s.events.no_outcome_recipients)} mails of ${number(s.events.no_outcome_batches)} batches`], ['Dead letters', link('deadletters', number(s.deadletters))], ['Webhooks', link('webhooks', `${number(s.webhooks.delivered)} delivered, ${number(s.webhooks.waiting)} wait, ${number(s.webhooks.failed)} were given up`)], ['Store', `${bytes(s.store.used_bytes)}${s.store.oldest_event_us ? `; the oldest event is of ${when(s.store.oldest_event_us / 1000)}` : ''}`]]))),
      card('Processes', table('Processes', [['Process', (p) => p.name, 'one'], ['State', (p) => el('span', { class: p.state === 'ready' ? 'good' : 'warn' }, p.state)], ['Pid', (p) => String(p.pid), 'n'], ['Restarts', (p) => number(p.restarts), 'n'], ['To the writer', (p) => (p.ring_up_bytes == null ? '' : bytes(p.ring_up_bytes)), 'n'], ['From the writer', (p) => (p.ring_down_bytes == null ? '' : bytes(p.ring_down_bytes)), 'n']], s.processes)),
      card('Queues', s.queues.length ? table('Queues', [['Queue', (q) => q.url, 'wide'], ['Wait', (q) => (q.read_ms ? number(q.visible + q.delayed) : '–'), 'n'], ['In flight', (q) => (q.read_ms ? number(q.in_flight) : '–'), 'n'], ['Oldest waited', (q) => duration(q.oldest_ms), 'n']], s.buffer ? [...s.queues, s.buffer] : s.queues) : empty('None.'),
        s.buffer ? card('Buffer queue', facts([['Held', `this machine holds ${number(s.buffer.parts)} parts with ${number(s.buffer.recipients)} recipients to send`], ['New here', s.buffer.joins_until_ms > Date.now() ? `until ${when(s.buffer.joins_until_ms)} newsletters that began before this machine’s event queues were made are left to others; given back ${number(s.buffer.returned)}` : null]])) : ''),
      el('details', {}, el('summary', {}, 'All of it, as JSON'), raw(s)));
  };
  if (!state.status) state.status = await api('status');
  draw(state.status);
  return { status: draw };
}
