// The mails that a request to Mailgun means, straight from the form's fields: slow, plain, and written from
// spec/mailgun.md §2 and spec/ghost.md §8 alone. Where the two say nothing, the comments here say what was chosen.
//
// expected(fields, { domain, messageId }) answers one { rcpt, mail } per envelope recipient, in the shape of
// ses_mail.mjs. A field: { name, value } or { name, filename, type, data }.
import { createHash } from 'node:crypto';
import path from 'node:path';
import { domainToASCII } from 'node:url';

/** Line ends do not count, nor one at the end; a part with nothing in it is as good as none. */
const body = (text) => text?.replaceAll('\r\n', '\n').replace(/\n$/, '') || undefined;
/** What reaches a header is one line. Chosen: every control character becomes a blank, a tab too. */
const oneLine = (text) => text.replace(/[\0-\x1f\x7f]/g, ' ');
const isAscii = (text) => /^[\x00-\x7f]*$/.test(text);

// ---- reading the form ----

class Form {
  constructor(fields) {
    this.fields = fields
      .map((f) => ({ ...f, name: f.name.replace(/\[\d*\]$/, '') }))
      .filter((f) => f.data || f.value !== '');
  }
  all(name) {
    return this.fields.filter((f) => f.name === name && !f.data).map((f) => f.value);
  }
  last(name) {
    return this.all(name).at(-1);
  }
  files(name) {
    return this.fields.filter((f) => f.name === name && f.data);
  }
  has(name) {
    return this.all(name).length > 0;
  }
}

/** RFC 5322 mailboxes with raw UTF-8, quoted strings and RFC 2047 words: [{ name, address, given }]. */
export function parseMailboxes(text) {
  const list = [];
  let at = 0;
  while (at < text.length) {
    let name = '';
    let address;
    let inside = '';
    for (; at < text.length && text[at] !== ','; at++) {
      if (text[at] === '"') {
        for (at++; text[at] !== '"'; at++) {
          if (text[at] === '\\') at++;
          name += text[at];
        }
      } else if (text[at] === '<') {
        const end = text.indexOf('>', at);
        address = text.slice(at + 1, end).trim();
        at = end;
      } else {
        name += text[at];
        inside += text[at];
      }
    }
    at++;
    if (address === undefined) [address, name] = [inside.trim(), ''];
    if (!address) continue;
    name = name.trim().replace(/=\?utf-8\?([bq])\?([^?]*)\?=/gi, (_, how, word) =>
      /b/i.test(how)
        ? Buffer.from(word, 'base64').toString()
        : Buffer.from(word.replaceAll('_', ' ').replace(/=([0-9a-f]{2})/gi, (__, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1').toString());
    const [, local, host] = /^(.*)@(.*)$/.exec(address);
    list.push({ name, given: address, address: `${local}@${isAscii(host) ? host : domainToASCII(host)}` });
  }
  return list;
}

/** Values as text: a number keeps its spelling. */
function readVariables(json) {
  const spelled = JSON.parse(json, (_, value, { source }) => (typeof value === 'number' ? { spelling: source } : value));
  const text = (value) => {
    if (value === null) return '';
    if (typeof value === 'string') return value;
    if (typeof value === 'boolean') return String(value);
    if (value.spelling !== undefined) return value.spelling;
    return JSON.stringify(value, (_, v) => (v?.spelling !== undefined ? Number(v.spelling) : v));
  };
  return new Map(Object.entries(spelled).map(([address, values]) => [address, new Map(Object.entries(values).map(([k, v]) => [k, text(v)]))]));
}

// ---- variables ----

/** What stands for a placeholder in a text. undefined: it is no placeholder, but text. */
function valueOf(name, reader) {
  if (name.startsWith('recipient.')) {
    const key = name.slice('recipient.'.length);
    return reader.batchKeys.has(key) ? (reader.values.get(key) ?? '') : undefined;
  }
  const words = reader.name.split(/\s+/).filter(Boolean);
  switch (name) {
    case 'recipient': return reader.name ? `${reader.name} <${reader.address}>` : reader.address;
    case 'recipient_email': return reader.address;
    case 'recipient_name': return reader.name;
    case 'recipient_fname': return words[0] ?? '';
    case 'recipient_lname': return words.at(-1) ?? '';
    case 'unsubscribe_email':
    case 'tag_unsubscribe_email': return ''; // no mailbox
    default: return undefined;
  }
}

/** One pass from left to right. reader undefined: no batch mode, nothing is a placeholder. */
function substitute(text, reader, flatten = false) {
  if (!reader || text === undefined) return text;
  let out = '';
  let at = 0;
  for (;;) {
    const open = text.indexOf('%', at);
    if (open < 0) return out + text.slice(at);
    const close = text.indexOf('%', open + 1);
    if (close < 0) return out + text.slice(at);
    const value = valueOf(text.slice(open + 1, close), reader);
    if (value === undefined) {
      out += text.slice(at, open + 1);
      at = open + 1;
    } else {
      out += text.slice(at, open) + (flatten ? oneLine(value) : value);
      at = close + 1;
    }
  }
}

/** Is there a %recipient.KEY% that nobody in the batch has? */
const hasUnknown = (text, reader) =>
  reader !== undefined && [...text.matchAll(/%recipient\.([^%\s]+)%/g)].some(([, key]) => !reader.batchKeys.has(key));

/** The header's text, or '' when it is to be left out. */
function headerText(name, text, reader) {
  if (!reader) return oneLine(text).trim();
  if (/^list-unsubscribe$/i.test(name)) {
    const elements = text.match(/<[^>]*>/g) ?? [text];
    return elements
      .filter((e) => !hasUnknown(e, reader) && !/%(tag_)?unsubscribe_email%/.test(e))
      .map((e) => substitute(e, reader, true).trim())
      .filter((e) => e !== '' && e !== '<>') // chosen: an address that a reader lacks is no element
      .join(', ');
  }
  return hasUnknown(text, reader) ? '' : oneLine(substitute(text, reader)).trim();
}

// ---- the mails ----

const notOurs = /^(from|to|cc|bcc|subject|date|message-id|mime-version|content-.*|return-path|dkim-signature|received|x-ses-.*|x-mailgun-(?!variables).*)$/;

function headersOf(form, reader) {
  const headers = {};
  const given = form.fields.filter((f) => /^h:/i.test(f.name)).map((f) => [f.name.slice(2), f.value]);
  let lostUnsubscribe = false;
  for (const [name, text] of given) {
    const lower = name.toLowerCase();
    if (notOurs.test(lower) || lower === 'reply-to' || lower === 'x-mailgun-variables') continue;
    const value = headerText(name, text, reader);
    if (value === '') {
      if (lower === 'list-unsubscribe') lostUnsubscribe = true;
      continue;
    }
    (headers[lower] ??= []).push(lower === 'sender' ? parseMailboxes(value).map(({ name: n, address }) => ({ name: n, address })) : value);
  }
  // Chosen: List-Unsubscribe-Post without its List-Unsubscribe means nothing.
  if (lostUnsubscribe) delete headers['list-unsubscribe-post'];

  const variables = {};
  for (const [name, text] of given)
    if (/^x-mailgun-variables$/i.test(name)) Object.assign(variables, JSON.parse(substitute(text, reader)));
  for (const f of form.fields) if (f.name.startsWith('v:')) variables[f.name.slice(2)] = substitute(f.value, reader);
  const suppressed = (form.last('o:suppress-headers') ?? '').toLowerCase().split(',').map((word) => word.trim());
  if (Object.keys(variables).length > 0 && !suppressed.includes('all') && !suppressed.includes('x-mailgun-variables'))
    headers['x-mailgun-variables'] = [variables];
  return headers;
}

const onOff = (word) => (word === undefined ? undefined : /^(yes|true|1|htmlonly)$/i.test(word) ? true : /^(no|false|0)$/i.test(word) ? false : undefined);
const spoken = (on) => (on ? 'ENABLED' : 'DISABLED');

const types = { pdf: 'application/pdf', png: 'image/png', txt: 'text/plain' };

function filesOf(form) {
  const file = (f, inline) => {
    const filename = f.filename || 'attachment';
    return {
      filename,
      type: (f.type ?? types[filename.split('.').at(-1)] ?? 'application/octet-stream').replace(/;.*/, '').trim(),
      sha256: createHash('sha256').update(f.data).digest('hex'),
      cid: inline ? path.posix.basename(filename) : undefined,
      inline,
    };
  };
  return [...form.files('inline').map((f) => file(f, true)), ...form.files('attachment').map((f) => file(f, false))];
}

function tagsOf(form, index, reader, { domain, messageId }) {
  const tags = [...form.all('o:tag'), ...form.all('h:X-Mailgun-Tag')].map((t) => t.replace(/[^\x20-\x7e]/g, '').slice(0, 128)).filter(Boolean);
  const emailId = form.last('v:email-id');
  const id = form.has('h:Message-Id') ? substitute(form.last('h:Message-Id'), reader, true) : messageId;
  return {
    index,
    ...(emailId && /^[A-Za-z0-9_-]{1,256}$/.test(emailId) ? { emailId } : {}),
    meta: [domain, id.replace(/^<(.*)>$/, '$1'), ...[...new Set(tags)].slice(0, 10)],
  };
}

export function expected(fields, context) {
  const form = new Form(fields);
  if (onOff(form.last('o:testmode'))) return [];
  const seen = new Set();
  const list = (name) => form.all(name).flatMap(parseMailboxes).filter(({ address }) => {
    const known = seen.has(address.toLowerCase());
    seen.add(address.toLowerCase());
    return !known;
  });
  const [to, cc, bcc] = ['to', 'cc', 'bcc'].map(list);
  const batch = form.has('recipient-variables') ? readVariables(form.last('recipient-variables')) : undefined;
  const tracking = {
    opens: spoken(onOff(form.last('o:tracking-opens')) ?? onOff(form.last('o:tracking')) ?? false),
    clicks: spoken(onOff(form.last('o:tracking-clicks')) ?? onOff(form.last('o:tracking')) ?? false),
  };
  const set = batch ? 'ghost-mailgun-proxy-set' : 'ghost-mailgun-proxy-system-set';
  const attachments = filesOf(form);
  const shown = ({ name, address }) => ({ name, address });
  const sendable = ({ address }) => isAscii(address); // SES takes no local part beyond ASCII

  const mail = (visibleTo, index, reader) => {
    const replyTo = form.fields.filter((f) => /^h:reply-to$/i.test(f.name)).at(-1)?.value;
    return {
      from: parseMailboxes(substitute(form.last('from'), reader, true)).map(shown),
      replyTo: replyTo ? parseMailboxes(headerText('Reply-To', replyTo, reader)).map(shown) : [],
      to: visibleTo.map(shown), cc: cc.map(shown),
      subject: oneLine(substitute(form.last('subject') ?? '', reader)).trim(),
      text: body(substitute(form.last('text'), reader)),
      html: body(substitute(form.last('html'), reader)),
      amp: body(substitute(form.last('amp-html'), reader)),
      headers: headersOf(form, reader),
      attachments, tracking, set,
      tags: tagsOf(form, index, reader, context),
    };
  };

  if (!batch) {
    const one = mail(to.filter(sendable), 0, undefined);
    return [...to, ...cc, ...bcc].filter(sendable).map(({ address }, i) => ({ rcpt: address, mail: { ...one, tags: { ...one.tags, index: i } } }));
  }
  const folded = new Map([...batch].map(([address, values]) => [address.toLowerCase(), values]));
  const own = (m) => batch.get(m.given) ?? folded.get(m.given.toLowerCase()) ?? new Map();
  const batchKeys = new Set(to.flatMap((m) => [...own(m).keys()]));
  return to.flatMap((m, index) => {
    if (!sendable(m)) return [];
    const one = mail([m], index, { ...m, values: own(m), batchKeys });
    return [m, ...cc, ...bcc].map(({ address }) => ({ rcpt: address, mail: one }));
  });
}
