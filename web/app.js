// Signing in, where to go, and what the live connection tells.
import { api, el, link, state, toast } from './ui.js';
import * as pages from './pages.js';
import { inbox, mail, newsletter, newsletters } from './newsletters.js';

const places = {
  overview: ['Overview', pages.overview],
  newsletters: ['Newsletters', newsletters],
  events: ['Events', pages.events],
  suppressions: ['Suppressions', pages.suppressions],
  deadletters: ['Dead letters', pages.deadLetters],
  webhooks: ['Webhooks', pages.webhooks],
  domains: ['Domains', pages.domains],
  system: ['System', pages.system],
  newsletter: [null, newsletter],
  recipient: [null, pages.recipient],
  deadletter: [null, pages.deadLetter],
  webhook: [null, pages.webhook],
  inbox: [null, inbox],
  mail: [null, mail],
};
const main = document.getElementById('main');
let onStatus = null, turn = 0, source = null;

function parse() {
  const [path, search = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...args] = path.split('/').map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { name: places[name] ? name : 'overview', args, search: new URLSearchParams(search) };
}

/** Draws the page that the address names. A page answers {status: f} when it wants to hear of live changes. */
async function show() {
  if (!state.session) return;
  const mine = ++turn;
  const { name, args, search } = parse();
  onStatus = null;
  for (const a of document.querySelectorAll('#nav a')) {
    if (a.hash === `#/${name}` || (['newsletter', 'deadletter', 'webhook'].includes(name) && a.hash === `#/${name}s`)) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  document.title = `${places[name][0] ?? name} – Postern`;
  const root = el('div', {});
  main.setAttribute('aria-busy', 'true');
  try {
    const page = await places[name][1](root, args, search, () => mine === turn);
    if (mine !== turn) return;
    onStatus = page?.status ?? null;
  } catch (e) {
    if (mine !== turn || e.status === 401) return;
    root.replaceChildren(el('h1', {}, 'This cannot be shown'), el('p', { class: 'bad' }, e.message));
  }
  main.replaceChildren(root);
  main.removeAttribute('aria-busy');
  if (onStatus && state.status) onStatus(state.status);
}

function listen() {
  const dot = document.getElementById('live');
  const mark = (on) => { dot.classList.toggle('on', on); dot.setAttribute('aria-label', on ? 'live' : 'not connected'); };
  source?.close();
  source = new EventSource('api/live');
  source.addEventListener('status', (event) => {
    state.status = JSON.parse(event.data);
    mark(true);
    onStatus?.(state.status);
  });
  source.addEventListener('error', async () => {
    mark(false);
    if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
    await api('session').catch(() => {});
    if (state.session) setTimeout(listen, 3000);
  });
}

function signedOut(words) {
  state.session = state.status = null;
  source?.close();
  turn++;
  document.getElementById('top').hidden = true;
  main.replaceChildren(el('div', { class: 'card empty' }, el('h1', {}, 'Postern'), words ? el('p', { class: 'bad' }, words) : null,
    el('p', {}, 'To sign in, run this where Postern runs, and open the link that it prints:'),
    el('p', {}, el('code', {}, 'postern login -c proxy.conf')),
    el('p', {}, 'With ', el('code', {}, '--role viewer'), ' the link lets its holder look, not act. A link works once, for ten minutes.')));
}

function signedIn() {
  const who = state.session;
  document.getElementById('top').hidden = false;
  document.getElementById('who').textContent = `${who.name} · ${who.role}`;
  document.getElementById('nav').replaceChildren(...Object.entries(places).filter(([, [title]]) => title).map(([name, [title]]) => link(name, title)));
  if (who.sandbox) document.getElementById('nav').append(link('inbox', 'Inbox'), el('span', { class: 'tag warn', title: 'No mail leaves this machine' }, 'sandbox'));
  listen();
  show();
}

async function start() {
  const ticket = /^#login=([0-9a-f]+)$/.exec(location.hash)?.[1];
  if (ticket) {
    history.replaceState(null, '', location.pathname + '#/overview'); // out of the address and its history
    try {
      await api('sign-in', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ ticket }) });
    } catch (e) {
      return signedOut(e.message);
    }
  }
  try {
    state.session = await api('session');
  } catch (e) {
    return signedOut(e.status === 401 ? '' : e.message);
  }
  signedIn();
}

document.getElementById('sign-out').addEventListener('click', async () => {
  try {
    await api('sign-out', { method: 'POST' });
    signedOut();
  } catch (e) {
    toast(e.message);
  }
});
window.addEventListener('signed-out', () => { if (state.session) signedOut('The session is over.'); });
window.addEventListener('hashchange', () => (location.hash.startsWith('#login=') ? start() : show()));
window.addEventListener('redraw', show);
document.querySelector('.skip').addEventListener('click', (event) => { event.preventDefault(); main.focus(); });
start();
