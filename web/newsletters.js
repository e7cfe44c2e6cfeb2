// Batches: what was accepted and what became of it. A newsletter of more than a thousand readers is several batches with
// one email-id: they are shown as one group.
import { act, api, ask, bytes, button, card, domainSelect, duration, el, empty, facts, field, isOperator, link, number, percent, put, query, recipientLink, select, stat, state, table, time } from './ui.js';
import { byTime, columns } from './charts.js';

const openCount = (b) => b.pending + b.leased + b.doubt;
const live = (id) => state.status?.batches?.find((b) => b.batch === id);

/** "1,200/s, 31 s left", "paused", "done". */
function progress(b) {
  const l = live(b.batch);
  if (openCount(b) === 0 && !l?.open) return 'done';
  if (l?.why) return l.eta_ms > Date.now() ? `${l.why}, until ${new Date(l.eta_ms).toLocaleString()}` : l.why;
  if (!l?.rate_per_s) return 'waiting';
  return `${number(l.rate_per_s)}/s${l.eta_ms > Date.now() ? `, ${duration(l.eta_ms - Date.now())} left` : ''}`;
}

function group(items) {
  const groups = [];
  for (const b of items) {
    const last = groups.at(-1);
    if (last && b['email-id'] && last[0]['email-id'] === b['email-id'] && last[0].domain === b.domain) last.push(b);
    else groups.push([b]);
  }
  return groups;
}
const sum = (list, key) => list.reduce((a, b) => a + (b[key] ?? 0), 0);

const titles = [
  ['Accepted', (g) => time(g[0]['accepted-at-us'] / 1000), 'one'],
  ['Subject', (g) => [
    el('div', {}, link(`newsletter/${g[0].batch}`, g[0].subject || '(no subject)')),
    el('div', { class: 'soft' }, g[0].domain, g.length > 1 ? [`, ${g.length} batches: `, g.map((b, i) => [i ? ', ' : '', link(`newsletter/${b.batch}`, String(i + 1))])] : null),
  ], 'wide'],
  ['Recipients', (g) => number(sum(g, 'accepted')), 'n'],
  ['Progress', (g) => {
    const all = sum(g, 'accepted'), done = all - g.reduce((a, b) => a + openCount(b), 0);
    return [el('progress', { max: Math.max(1, all), value: done, 'aria-label': `${number(done)} of ${number(all)}` }), el('div', { class: 'soft', 'data-progress': g[0].batch }, progress(g.find((b) => openCount(b)) ?? g[0]))];
  }],
  ['Delivered', (g) => number(sum(g, 'delivered')), 'n'],
  ['Opened', (g) => percent(sum(g, 'opened'), sum(g, 'delivered')), 'n'],
  ['Bounced', (g) => number(sum(g, 'failed-permanent')), 'n'],
  ['Not sent', (g) => number(sum(g, 'failed') + sum(g, 'suppressed') + sum(g, 'cancelled')), 'n'],
];

export async function newsletters(root, args, search, current) {
  const now = { domain: search.get('domain') ?? '', search: search.get('search') ?? '' };
  const list = el('div', {}), more = el('div', { class: 'actions' });
  let below = '', items = [], reading = false;
  const draw = () => {
    list.replaceChildren(items.length ? table('Newsletters', titles, group(items)) : empty('Nothing was sent yet.'));
    more.replaceChildren(...(below ? [button('More', () => read(true), '', { id: 'more' })] : []));
  };
  async function read(further) {
    const page = await api(`batches?${query({ ...now, below: further ? below : '', limit: further ? 50 : Math.min(500, Math.max(50, items.length)) })}`);
    items = further ? [...items, ...page.items] : page.items;
    below = page.below ?? '';
    draw();
  }
  const form = el('form', { class: 'bar', on: { submit: (e) => { e.preventDefault(); location.hash = `#/newsletters?${query(Object.fromEntries(new FormData(form)))}`; } } },
    field('Domain', domainSelect(now.domain, true)), field('Subject, email-id or message-id', el('input', { name: 'search', type: 'search', value: now.search }), 'grow'), el('button', { class: 'main' }, 'Search'));
  put(root, el('h1', {}, 'Newsletters and mails'), form, el('section', { class: 'card' }, list, more));
  await read();
  return { status: async () => { // again while something is on its way
    if (reading || !current() || !(items.some((b) => openCount(b)) || state.status.batches_open)) return;
    reading = true;
    try { if (!document.activeElement?.closest('#main .card')) await read(); } catch { /* the next one */ } finally { reading = false; }
  } };
}

const verbs = {
  pause: ['Pause', 'Nothing more of it is sent until it is resumed.', (b, l) => openCount(b) > 0 && !l?.paused],
  resume: ['Resume', 'It goes on where it stopped.', (b, l) => openCount(b) > 0 && (l?.paused || l?.why)],
  cancel: ['Cancel the rest', 'Recipients that SES does not have yet will not get it. This cannot be undone.', (b) => openCount(b) > 0],
  resend: ['Resend failed', 'Recipients that failed before SES took their mail are tried again.', (b) => b.failed > 0],
};

function actions(b) {
  if (!isOperator()) return null;
  return el('div', { class: 'actions' }, Object.entries(verbs).map(([verb, [title, text, may]]) =>
    button(title, async () => {
      if (await ask(`${title}?`, `${b.subject || 'This mail'}: ${text}`, { yes: title, danger: verb === 'cancel' }))
        await act(() => api(`batches/${b.batch}/${verb}`, { method: 'POST' }), () => window.dispatchEvent(new Event('redraw')));
    }, verb === 'cancel' ? 'danger' : '', { disabled: !may(b, live(b.batch)), 'data-verb': verb })));
}

function figures(b) {
  const none = b['no-outcome'];
  return el('div', { class: 'stats' },
    stat(number(b.accepted), 'accepted'), stat(number(openCount(b)), 'to be sent'), stat(number(b.sent), 'taken by SES', '', 'sent'), stat(number(b.delivered), `delivered, ${percent(b.delivered, b.accepted)}`, 'good', 'delivered'),
    stat(number(b.opened), `opened, ${percent(b.opened, b.delivered)}`, '', 'opened'), stat(number(b.clicked), `clicked, ${percent(b.clicked, b.delivered)}`, '', 'clicked'),
    stat(number(b['failed-permanent']), `bounced, ${percent(b['failed-permanent'], b.accepted)}`, b['failed-permanent'] ? 'bad' : '', 'bounced'), stat(number(b.complained), 'complained', b.complained ? 'bad' : ''),
    stat(number(b.suppressed + b.failed + b.cancelled), 'not sent', '', 'not-sent'), none ? stat(number(none), 'without outcome', 'warn') : null,
    b.unaccounted ? stat(number(b.unaccounted), 'unaccounted', 'bad') : null);
}

const shows = [['', 'everybody'], ['pending', 'to be sent'], ['sent', 'taken by SES'], ['delivered', 'delivered'], ['bounced', 'bounced'], ['delayed', 'delayed'], ['opened', 'opened'], ['clicked', 'clicked'], ['complained', 'complained'], ['unsubscribed', 'unsubscribed'], ['failed', 'failed before SES'], ['suppressed', 'suppressed'], ['cancelled', 'cancelled'], ['doubt', 'in doubt']];
const PAGE = 50;

function recipients(b) {
  const list = el('div', {}), pager = el('div', { class: 'actions' });
  let skip = 0;
  const form = el('form', { class: 'bar', on: { submit: (e) => { e.preventDefault(); skip = 0; read(); }, change: () => { skip = 0; read(); } } },
    field('Show', select(shows, '', { name: 'show' })), field('Address holds', el('input', { name: 'search', type: 'search' }), 'grow'), el('button', {}, 'Search'));
  const marks = (r) => ['delivered', 'opened', 'clicked', 'bounced', 'delayed', 'complained', 'unsubscribed'].filter((k) => r[k]).map((k) => [el('span', { class: `tag ${k === 'bounced' || k === 'complained' ? 'bad' : ''}` }, k), ' ']);
  async function read() {
    const page = await api(`batches/${b.batch}/recipients?${query({ ...Object.fromEntries(new FormData(form)), skip, limit: PAGE })}`);
    list.replaceChildren(page.items.length ? table('Recipients', [
      ['Address', (r) => recipientLink(b.domain, r.address), 'wide'], ['', (r) => link(`mail/${b.batch}/${encodeURIComponent(r.address)}`, 'mail')], ['State', (r) => r.state, 'one'], ['What came back', marks, 'one'],
      ['Last event', (r) => time(r['last-us'] / 1000), 'one'], ['Why', (r) => (r.words || r.reason ? `${r.words.startsWith(r.code) ? '' : r.code || ''} ${r.words || r.reason}` : ''), 'wide'],
    ], page.items) : empty('Nobody.'));
    pager.replaceChildren(el('span', { class: 'soft' }, `${number(page.total ? skip + 1 : 0)}–${number(skip + page.items.length)} of ${number(page.total)}`),
      button('Back', () => { skip -= PAGE; read(); }, '', { disabled: skip === 0 }), button('Further', () => { skip += PAGE; read(); }, '', { disabled: skip + PAGE >= page.total }));
  }
  read();
  return card('Recipients', form, list, pager);
}

export async function newsletter(root, [id]) {
  const b = await api(`batches/${id}`);
  const steps = b.hours ?? b.days;
  const top = el('div', {}, actions(b), figures(b));
  const state0 = el('p', { class: 'soft', 'data-progress': b.batch }, progress(b));
  const done = el('progress', { max: Math.max(1, b.accepted), value: b.accepted - openCount(b), 'aria-label': 'Progress' });
  put(root, el('h1', {}, b.subject || '(no subject)'), done, state0, top,
    columns(b.hours ? 'Events by the hour' : 'Events by the day', byTime(steps, !!b.hours, ['delivered', 'opened_unique', 'clicked_unique', 'failed_permanent', 'complained']), ['delivered', 'opened', 'clicked', 'bounced', 'complained'], { classes: ['k2', 'k1', 'k5', 'k4', 'k3'] }),
    el('div', { class: 'grid' },
      card('By mailbox provider', b.providers.length ? table('By mailbox provider', [['Provider', (p) => p.name, 'wide'], ['Recipients', (p) => number(p.recipients), 'n'], ['Delivered', (p) => percent(p.delivered, p.recipients), 'n'], ['Opened', (p) => percent(p.opened, p.delivered), 'n'], ['Bounced', (p) => number(p.failed), 'n'], ['Delayed', (p) => number(p.delayed), 'n'], ['Complained', (p) => number(p.complained), 'n']], b.providers) : empty('No recipients.'),
        b['provider-count'] > b.providers.length ? el('p', { class: 'soft' }, `The largest ${b.providers.length} of ${number(b['provider-count'])}.`) : null),
      card('Failures by reason', b.failures.length ? table('Failures by reason', [['Recipients', (f) => number(f.recipients), 'n'], ['Reason', (f) => [f['for-good'] ? '' : el('span', { class: 'tag' }, 'for now'), ' ', f.reason], 'one'], ['Code', (f) => f.code || '', 'n'], ['Words', (f) => f.words, 'wide']], b.failures) : empty('Nothing failed.'))),
    b.partial ? el('p', { class: 'soft' }, 'Not all of its events could be told apart: the sums above are right, these two tables hold less.') : null,
    recipients(b),
    el('div', { class: 'grid' },
      card('About', facts([['Batch', el('code', {}, b.batch)], ['Message-id', b['message-id']], ['Email-id', b['email-id']], ['Domain', b.domain], ['From', b.from], ['To', b.to], ['Accepted', time(b['accepted-at-us'] / 1000)], ['Due', b['due-ms'] ? time(b['due-ms']) : null], ['Lane', b.newsletter ? 'newsletter' : 'transactional'], ['Tags', b.tags.join(', ')], ['Size', bytes(b['size-bytes'])], ['Test mode', b.testmode ? 'yes: not sent' : null], ['Request', b['request-id']]])),
      mailCard(b.batch)));
  let reading = false;
  return { status: async () => {
    if (reading || (openCount(b) === 0 && !live(b.batch))) return;
    reading = true;
    try {
      Object.assign(b, await api(`batches/${id}`));
      done.value = b.accepted - openCount(b);
      state0.textContent = progress(b);
      if (!top.contains(document.activeElement)) top.replaceChildren(...[actions(b), figures(b)].filter(Boolean));
    } finally { reading = false; }
  } };
}

/** As it was posted, or, with a recipient, as that one gets it. The frame may run nothing and load nothing. */
function mailCard(b, recipient, mail) {
  const body = el('div', {});
  const headers = (m) => m.headers.map(([k, v]) => `${k}: ${v}`).join('\n');
  const shown = {
    HTML: (m) => (m.html ? el('iframe', { src: `api/batches/${b}/html?${query({ recipient })}`, sandbox: '', title: 'The mail as HTML' }) : empty('It has no HTML.')),
    Text: (m) => pre(m.text || '(no text)'),
    Headers: (m) => pre(headers(m)),
    Source: (m) => pre(m.mime || m.html || '(no HTML)'),
  };
  const pre = (text) => el('pre', { tabindex: 0 }, text);
  async function show(what) {
    mail ??= await api(`batches/${b}/mail?${query({ recipient })}`);
    body.replaceChildren(shown[what](mail), mail.attachments.length ? el('p', { class: 'soft' }, 'Attachments: ', mail.attachments.map((a) => `${a.name} (${a.type}, ${bytes(a.bytes)})`).join(', ')) : '');
    for (const one of tabs.children) one.setAttribute('aria-pressed', String(one.textContent === what));
  }
  const tabs = el('div', { class: 'actions' }, Object.keys(shown).map((k) => button(k, () => show(k), '', { 'aria-pressed': 'false' })));
  if (mail) show(mail.html ? 'HTML' : mail.mime ? 'Source' : 'Text');
  return card(recipient ? 'The mail' : 'What it says', tabs, body);
}

export async function mail(root, [id, address]) {
  const m = await api(`batches/${id}/mail?${query({ recipient: address })}`);
  put(root, el('h1', {}, m.subject || '(no subject)'), el('p', {}, `To ${address} · `, link(`newsletter/${id}`, 'its newsletter'), ' · ', link(`recipient/${encodeURIComponent(m.domain)}/${encodeURIComponent(address)}`, 'what happened')),
    mailCard(id, address, m), el('p', { class: 'soft' }, 'As Postern gives it to SES, which adds its own headers and, where it is to be tracked, a pixel and links of its own.'));
}

/** On the sandbox: the newest mails that it took instead of SES. */
export async function inbox(root, args, search) {
  const term = search.get('search') ?? '';
  const form = el('form', { class: 'bar', on: { submit: (e) => { e.preventDefault(); location.hash = `#/inbox?${query(Object.fromEntries(new FormData(form)))}`; } } },
    field('Address holds', el('input', { name: 'search', type: 'search', value: term }), 'grow'), el('button', { class: 'main' }, 'Search'));
  const list = el('div', {});
  put(root, el('h1', {}, 'Inbox'), el('p', { class: 'soft' }, 'Mails that the sandbox took: none of them left this machine.'), form, el('section', { class: 'card' }, list));
  const { items } = await api('batches?limit=10');
  const taken = (batches) => Promise.all(batches.map(async (b) => (await api(`batches/${b.batch}/recipients?${query({ show: 'sent', search: term, limit: 20 })}`)).items.map((r) => ({ b, r }))));
  let mails = (await taken(items.slice(0, 3))).flat(); // three newsletters fill the page; single mails do not
  if (mails.length < 50) mails = [...mails, ...(await taken(items.slice(3))).flat()];
  list.replaceChildren(mails.length ? table('Inbox', [
    ['Subject', ({ b, r }) => link(`mail/${b.batch}/${encodeURIComponent(r.address)}`, b.subject || '(no subject)'), 'wide'], ['To', ({ r }) => r.address, 'wide'], ['Domain', ({ b }) => b.domain], ['Accepted', ({ b }) => time(b['accepted-at-us'] / 1000), 'one'],
  ], mails) : empty('Nothing was sent yet.'));
}
