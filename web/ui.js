// What all pages are made of. Whatever comes from outside becomes a text node or an attribute's value: nothing here
// ever parses it as HTML.

/** el('p', {class: 'soft', on: {click: f}}, 'text', node, …) */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === 'on') for (const [event, f] of Object.entries(value)) node.addEventListener(event, f);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  put(node, children);
  return node;
}

/** append(), without what is not there. */
export const put = (root, ...children) => root.append(...children.flat(Infinity).filter((c) => c != null && c !== false));

export const state = { session: null, status: null };
export const isOperator = () => state.session?.role === 'operator';

/** JSON of api/…; throws an Error with the server's words, and .status. */
export async function api(path, { method = 'GET', body, headers = {}, accept } = {}) {
  const init = { method, headers: { ...headers }, credentials: 'same-origin' };
  if (accept) init.headers.Accept = accept;
  if (body !== undefined) init.body = body;
  if (method !== 'GET' && state.session) init.headers['X-CSRF-Token'] = state.session.csrf;
  const res = await fetch(`api/${path}`, init);
  const json = await res.json().catch(() => ({}));
  if (res.ok) return json;
  const error = new Error(json.message || `${res.status} ${res.statusText}`);
  error.status = res.status;
  if (res.status === 401) window.dispatchEvent(new Event('signed-out'));
  throw error;
}

export const query = (values) => {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(values)) if (v !== '' && v != null) q.set(k, v);
  return q.toString();
};

// ---- numbers and times ----
const plain = new Intl.NumberFormat('en');
export const number = (n) => plain.format(n ?? 0);
export const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(part && part / whole < 0.01 ? 2 : 1)} %` : '–');
export function bytes(n) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) [n, at] = [n / 1000, at + 1];
  return `${n < 10 && at ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}
export function duration(ms) {
  const s = Math.round(ms / 1000);
  if (s < 1) return `${Math.max(0, Math.round(ms))} ms`;
  if (s < 120) return `${s} s`;
  const min = Math.round(s / 60);
  if (min < 120) return `${min} min`;
  return min < 2880 ? `${Math.floor(min / 60)} h ${min % 60} min` : `${Math.round(min / 1440)} days`;
}
export const ago = (ms) => (ms ? `${duration(Math.max(0, Date.now() - ms))} ago` : 'never');
export function when(ms) {
  if (!ms) return '–';
  const d = new Date(ms);
  const same = d.toDateString() === new Date().toDateString();
  return d.toLocaleString(undefined, same ? { timeStyle: 'medium' } : { dateStyle: 'medium', timeStyle: 'short' });
}
export const time = (ms) => (ms ? el('time', { datetime: new Date(ms).toISOString(), title: new Date(ms).toISOString() }, when(ms)) : '–');

// ---- pieces ----
export const card = (title, ...children) => el('section', { class: 'card' }, title ? el('h2', {}, title) : null, children);
export const stat = (value, label, cls = '', id) => el('div', { class: 'stat' }, el('b', { class: cls, 'data-stat': id ?? label }, value), el('span', {}, label));
export const empty = (text) => el('p', { class: 'empty' }, text);
export const button = (text, click, cls = '', props = {}) => el('button', { type: 'button', class: cls, ...props, on: { click } }, text);
export const link = (to, ...children) => el('a', { href: `#/${to}` }, children);
export const recipientLink = (domain, address) => link(`recipient/${encodeURIComponent(domain)}/${encodeURIComponent(address)}`, address);
export const raw = (value) => el('pre', { tabindex: 0 }, typeof value === 'string' ? value : JSON.stringify(value, null, 2));
export const facts = (pairs) => el('dl', {}, pairs.filter(([, v]) => v != null && v !== '').map(([k, v]) => [el('dt', {}, k), el('dd', {}, v)]));

/** columns: [title, cell(row) → node or text, class] */
export function table(caption, columns, rows) {
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    el('table', {},
      el('thead', {}, el('tr', {}, columns.map(([title, , cls]) => el('th', { scope: 'col', class: cls }, title)))),
      el('tbody', {}, rows.map((row) => el('tr', {}, columns.map(([, cell, cls]) => el('td', { class: cls }, cell(row) ?? '')))))));
}

export function field(label, input, cls) {
  return el('label', { class: cls }, label, input);
}
export function select(options, value, props = {}) {
  const node = el('select', props, options.map(([v, text]) => el('option', { value: v, selected: v === value }, text)));
  return node;
}
export const domainSelect = (value, all) => select([...(all ? [['', 'all domains']] : []), ...state.session.domains.map((d) => [d, d])], value, { name: 'domain' });

export function toast(text) {
  const p = el('p', {}, text);
  document.getElementById('toast').replaceChildren(p);
  setTimeout(() => p.remove(), 6000);
}

/** Asks before something is done; fields: nodes put into the form. Answers the FormData, or null. */
export function ask(title, text, { yes = 'Yes', danger = false, fields = [] } = {}) {
  const dialog = document.getElementById('dialog');
  return new Promise((resolve) => {
    let answer = null;
    const form = el('form', { method: 'dialog', on: { submit: () => { answer = new FormData(form); } } },
      el('h2', { id: 'dialog-title' }, title), text ? el('p', {}, text) : null, fields,
      el('div', { class: 'actions' }, el('button', { class: danger ? 'danger' : 'main', value: 'yes' }, yes), button('Cancel', () => dialog.close())));
    dialog.replaceChildren(form);
    dialog.addEventListener('close', () => resolve(answer), { once: true });
    dialog.showModal();
  });
}

/** Runs an action, says what came of it, and calls then(). */
export async function act(what, then) {
  try {
    const got = await what();
    toast(got?.message || (got?.count != null ? `Done: ${number(got.count)}` : 'Done'));
  } catch (e) {
    toast(e.message);
  }
  await then?.();
}
