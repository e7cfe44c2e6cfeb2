// What SES would deliver for a request that it was given: a model of SES's three ways of sending, written from
// the documentation (spec/aws.md §5 and §6) and with public libraries, and with nothing of Postern in it.
//
// deliveries(request) answers one { rcpt, mail } per envelope recipient. It throws where SES would refuse, where
// it would accept and then fail to render, and where what it does is not documented.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import Handlebars from 'handlebars';
import PostalMime, { addressParser } from 'postal-mime';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

// ---- names and limits ----

const HEADERS_MAX = 15;
const HEADER_BYTES_MAX = 996;
const DESTINATIONS_MAX = 50;
const ENTRIES_MAX = 50;
const TEMPLATE_BODY_MAX = 1000000;
const TEMPLATE_DATA_MAX = 262144;
const RAW_MAX = 40 * 1024 * 1024;

const setBySes = /^(from|to|cc|bcc|subject|date|message-id|reply-to|return-path|mime-version|content-.*|dkim-signature|received|feedback-id|x-ses-.*)$/;
const onlyOnce =
  /^(date|message-id|from|reply-to|sender|to|cc|subject|return-path|mime-version|content-.*|in-reply-to|references|list-.*|precedence|priority|importance|sensitivity|organization|user-agent|thread-.*|auto-submitted|comments|keywords|errors-to|x-mailgun-variables)$/;
const ofTheMessage = /^(from|to|cc|subject|reply-to|date|message-id|mime-version|content-.*)$/;

function onlyKeys(what, object, names) {
  for (const name of Object.keys(object)) assert.ok(names.includes(name), `${what}: SES knows no ${name}`);
}

// ---- texts ----

/** RFC 2047, strictly: every word whole characters, at most 75 bytes, words set apart by blanks. */
export function decodeHeader(value) {
  const words = /=\?([^?\s]+)\?([bq])\?([^?\s]*)\?=/gi;
  let out = '';
  let end = 0;
  let lastWasWord = false;
  for (const match of value.matchAll(words)) {
    const between = value.slice(end, match.index);
    const [word, charset, encoding, text] = match;
    assert.match(charset, /^utf-8$/i, `encoded word in ${charset}`);
    assert.ok(word.length <= 75, `encoded word of ${word.length} bytes`);
    const before = value[match.index - 1];
    const after = value[match.index + word.length];
    assert.ok(before === undefined || /[\s(]/.test(before), `encoded word touches what stands before it: ${value}`);
    assert.ok(after === undefined || /[\s),]/.test(after), `encoded word touches what follows: ${value}`);
    if (!(lastWasWord && /^\s+$/.test(between))) out += between;
    if (/b/i.test(encoding)) {
      assert.match(text, /^[A-Za-z0-9+/]*={0,2}$/);
      out += utf8.decode(Buffer.from(text, 'base64'));
    } else {
      const bytes = text.replaceAll('_', ' ').replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
      out += utf8.decode(Buffer.from(bytes, 'latin1'));
    }
    end = match.index + word.length;
    lastWasWord = true;
  }
  return out + value.slice(end);
}

/** A list of mailboxes as the reader's program shows it. */
export function mailboxes(text) {
  assert.match(text, /^[\x20-\x7e]*$/, `addresses must be ASCII: ${text}`);
  decodeHeader(text.replace(/"(?:[^"\\]|\\.)*"/g, '""')); // the words in it are whole
  return addressParser(text).map((one) => {
    assert.ok(one.address && /^[^\s@<>]+@[^\s@<>]+$/.test(one.address), `not an address: ${text}`);
    return { name: one.name, address: one.address };
  });
}

/** Line ends do not count, nor one at the end; a part with nothing in it is as good as none. */
const body = (text) => text?.replaceAll('\r\n', '\n').replace(/\n$/, '') || undefined;
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

function headerFields(list) {
  const fields = {};
  for (const [name, value] of list) {
    const lower = name.toLowerCase();
    assert.ok(!(onlyOnce.test(lower) && fields[lower]), `${name} stands twice`);
    if (/^list-/.test(lower)) assert.doesNotMatch(value, /=\?utf-8\?/i, `${name}: a URL in encoded words`);
    const plain = lower === 'sender' ? mailboxes(value) : decodeHeader(value).trim();
    (fields[lower] ??= []).push(lower === 'x-mailgun-variables' ? JSON.parse(plain) : plain);
  }
  return fields;
}

// ---- what the three have in common ----

function tagsOf(list) {
  const tags = {};
  for (const { Name, Value, ...rest } of list) {
    assert.deepEqual(rest, {});
    for (const text of [Name, Value]) assert.match(text, /^[A-Za-z0-9_-]{1,256}$/, 'EmailTags');
    assert.ok(!(Name in tags), `tag ${Name} stands twice`);
    tags[Name] = Value;
  }
  return tags;
}

function destination(d, what) {
  onlyKeys(what, d, ['ToAddresses', 'CcAddresses', 'BccAddresses']);
  const list = (texts = []) => texts.flatMap((text) => {
    const [one, ...more] = mailboxes(text);
    assert.equal(more.length, 0, `several addresses in one: ${text}`);
    return one;
  });
  const to = list(d.ToAddresses);
  const cc = list(d.CcAddresses);
  const bcc = list(d.BccAddresses);
  const envelope = [...to, ...cc, ...bcc].map((m) => m.address);
  assert.ok(envelope.length > 0 && envelope.length <= DESTINATIONS_MAX, `${envelope.length} destinations`);
  return { to, cc, envelope };
}

function common(request) {
  const tracking = request.ConfigurationOverrides?.Tracking;
  if (request.ConfigurationOverrides) onlyKeys('ConfigurationOverrides', request.ConfigurationOverrides, ['Tracking']);
  if (tracking) onlyKeys('Tracking', tracking, ['OpenTrackingEnabled', 'ClickTrackingEnabled']);
  for (const word of Object.values(tracking ?? {})) assert.match(word, /^(ENABLED|DISABLED)$/);
  return {
    tracking: tracking && { opens: tracking.OpenTrackingEnabled, clicks: tracking.ClickTrackingEnabled },
    set: request.ConfigurationSetName,
  };
}

function addressed(request) {
  const [from, ...more] = mailboxes(request.FromEmailAddress);
  assert.equal(more.length, 0, 'FromEmailAddress is one address');
  return { from: [from], replyTo: (request.ReplyToAddresses ?? []).flatMap(mailboxes) };
}

/** A list of headers as Simple and templates take it. */
function headerList(what, list = []) {
  assert.ok(list.length <= HEADERS_MAX, `${what}: ${list.length} headers`);
  for (const { Name, Value, ...rest } of list) {
    assert.deepEqual(rest, {}, what);
    assert.match(Name, /^[!-9;-~]{1,126}$/, what);
    assert.match(Value, /^[ -~]{1,995}$/, `${what}: ${Name}`);
    assert.ok(Name.length + Value.length <= HEADER_BYTES_MAX, `${what}: ${Name} has ${Value.length} bytes`);
    assert.ok(!setBySes.test(Name.toLowerCase()), `${what}: SES sets ${Name} itself`);
  }
  return list.map(({ Name, Value }) => [Name, Value]);
}

function attached(list = []) {
  return list.map((a) => {
    onlyKeys('Attachments', a, ['FileName', 'RawContent', 'ContentType', 'ContentId', 'ContentDisposition', 'ContentTransferEncoding', 'ContentDescription']);
    const inline = a.ContentDisposition === 'INLINE';
    return { filename: a.FileName, type: a.ContentType, sha256: sha256(Buffer.from(a.RawContent, 'base64')), cid: inline ? a.ContentId : undefined, inline };
  });
}

// ---- Simple ----

function simple(request) {
  onlyKeys('SendEmail', request, ['FromEmailAddress', 'Destination', 'ReplyToAddresses', 'Content', 'EmailTags', 'ConfigurationSetName', 'ConfigurationOverrides']);
  const content = request.Content.Simple;
  onlyKeys('Simple', content, ['Subject', 'Body', 'Headers', 'Attachments']);
  onlyKeys('Body', content.Body, ['Text', 'Html']);
  const data = (part) => {
    if (!part) return undefined;
    if (part.Charset !== 'UTF-8') assert.match(part.Data, /^[\x00-\x7f]*$/, 'no charset, no UTF-8');
    return part.Data;
  };
  const subject = data(content.Subject);
  assert.equal(typeof subject, 'string');
  assert.doesNotMatch(subject, /[\r\n\0]/, 'a subject is one line');
  assert.ok(content.Body.Text || content.Body.Html, 'no body');
  const { to, cc, envelope } = destination(request.Destination, 'Destination');
  const mail = {
    ...addressed(request), to, cc, subject: decodeHeader(subject).trim(),
    text: body(data(content.Body.Text)), html: body(data(content.Body.Html)), amp: undefined,
    headers: headerFields(headerList('Simple.Headers', content.Headers)),
    attachments: attached(content.Attachments),
    tags: tagsOf(request.EmailTags ?? []), ...common(request),
  };
  return envelope.map((rcpt) => ({ rcpt, mail }));
}

// ---- bulk ----

/** Only {{name}}: what SES takes of an inline template. Answers its variables. */
function plainSubstitutions(template) {
  const names = new Set();
  assert.doesNotMatch(template, /\\\{\{/, 'whether a template may escape with a backslash is not documented');
  for (const node of Handlebars.parse(template).body) {
    if (node.type === 'ContentStatement') continue;
    assert.equal(node.type, 'MustacheStatement', `unsupported operation in a template: ${node.type}`);
    assert.equal(node.path.type, 'PathExpression');
    assert.equal(node.params.length, 0);
    assert.equal(node.hash, undefined);
    assert.deepEqual(node.strip, { open: false, close: false });
    assert.match(node.path.original, /^[A-Za-z][A-Za-z0-9_]*$/);
    assert.ok(node.escaped, '{{{name}}}: not used here');
    names.add(node.path.original);
  }
  return names;
}

function templateData(what, text) {
  if (text === undefined) return {};
  assert.ok(text.length <= TEMPLATE_DATA_MAX, `${what}: ${text.length} characters`);
  const data = JSON.parse(text);
  for (const value of Object.values(data)) assert.equal(typeof value, 'string', what);
  return data;
}

/** Each template of a call is parsed once. */
function compiled(template) {
  if (template === undefined) return undefined;
  const names = plainSubstitutions(template);
  const run = Handlebars.compile(template, { noEscape: true, strict: true });
  const render = (data) => {
    for (const name of names) assert.ok(Object.hasOwn(data, name), `Attribute '${name}' is not present in the rendering data.`);
    return run(data);
  };
  return Object.assign(render, { names });
}

function bulk(request) {
  onlyKeys('SendBulkEmail', request, ['FromEmailAddress', 'ReplyToAddresses', 'DefaultContent', 'DefaultEmailTags', 'ConfigurationSetName', 'ConfigurationOverrides', 'BulkEmailEntries']);
  assert.ok(Buffer.byteLength(JSON.stringify(request)) <= TEMPLATE_BODY_MAX, 'more than 1 MB with an inline template');
  onlyKeys('DefaultContent', request.DefaultContent, ['Template']);
  const template = request.DefaultContent.Template;
  onlyKeys('Template', template, ['TemplateContent', 'TemplateData', 'Headers', 'Attachments']);
  onlyKeys('TemplateContent', template.TemplateContent, ['Subject', 'Text', 'Html']);
  const defaults = templateData('TemplateData', template.TemplateData);
  const headers = headerList('Template.Headers', template.Headers);
  for (const [name, value] of headers) assert.doesNotMatch(value, /\{\{/, `${name}: whether headers are templates is not documented`);
  const parts = Object.fromEntries(['Subject', 'Text', 'Html'].map((name) => [name, compiled(template.TemplateContent[name])]));
  const used = Object.values(parts).flatMap((part) => [...(part?.names ?? [])]);
  for (const name of used) assert.ok(Object.hasOwn(defaults, name), `TemplateData has no ${name}`);
  assert.ok(parts.Subject && (parts.Text || parts.Html));
  assert.deepEqual(request.DefaultEmailTags ?? [], [], 'whether tags add up is not documented');
  const entries = request.BulkEmailEntries;
  assert.ok(entries.length >= 1 && entries.length <= ENTRIES_MAX, `${entries.length} entries`);
  return entries.flatMap((entry) => {
    onlyKeys('entry', entry, ['Destination', 'ReplacementTags', 'ReplacementEmailContent', 'ReplacementHeaders']);
    const data = { ...defaults, ...templateData('ReplacementTemplateData', entry.ReplacementEmailContent?.ReplacementTemplate?.ReplacementTemplateData) };
    const own = headerList('ReplacementHeaders', entry.ReplacementHeaders);
    const replaced = new Set(own.map(([name]) => name.toLowerCase()));
    const all = [...headers.filter(([name]) => !replaced.has(name.toLowerCase())), ...own];
    assert.ok(all.length <= HEADERS_MAX, `${all.length} headers in all`);
    const subject = parts.Subject(data);
    assert.doesNotMatch(subject, /[\r\n\0]/, 'a subject is one line');
    const { to, cc, envelope } = destination(entry.Destination, 'entry');
    const mail = {
      ...addressed(request), to, cc, subject: decodeHeader(subject).trim(),
      text: body(parts.Text?.(data)), html: body(parts.Html?.(data)), amp: undefined,
      headers: headerFields(all), attachments: attached(template.Attachments),
      tags: tagsOf(entry.ReplacementTags ?? []), ...common(request),
    };
    return envelope.map((rcpt) => ({ rcpt, mail }));
  });
}

// ---- Raw ----

/** multipart/mixed (related (alternative (text, amp, html), inline), attachments), as far as it is there. */
function readTree(node, found, path = []) {
  const type = node.contentType.parsed.value.toLowerCase();
  const disposition = node.contentDisposition.parsed.value.toLowerCase();
  if (type.startsWith('multipart/')) {
    assert.match(type, /^multipart\/(mixed|related|alternative)$/);
    assert.ok(node.childNodes.length > 0, `an empty ${type}`);
    for (const child of node.childNodes) readTree(child, found, [...path, type]);
    return;
  }
  const encoding = node.headers.find((h) => h.key === 'content-transfer-encoding')?.value ?? '7bit';
  assert.match(encoding, /^(7bit|base64|quoted-printable)$/i, `transfer encoding ${encoding}`);
  // The library ends the last line too, though that line break is the boundary's.
  const bytes = Buffer.from(node.content ?? new ArrayBuffer(0)).subarray(0, /base64/i.test(encoding) || path.length === 0 ? undefined : -1);
  const kind = { 'text/plain': 'text', 'text/html': 'html', 'text/x-amp-html': 'amp' }[type];
  if (disposition === '' && kind) {
    assert.match(node.contentType.parsed.params.charset ?? '', /^utf-8$/i);
    assert.ok(!(kind in found.bodies), `two parts ${type}`);
    found.bodies[kind] = body(utf8.decode(bytes));
    found.order.push(kind);
    if (found.order.length > 1) assert.ok(path.includes('multipart/alternative'), 'bodies that are no alternatives');
    assert.equal(found.files.length, 0, 'a body behind an attachment');
    return;
  }
  assert.match(disposition, /^(attachment|inline)$/, `${type} without a disposition`);
  if (disposition === 'inline') assert.ok(path.includes('multipart/related'), 'inline, but not related');
  else assert.deepEqual(path, ['multipart/mixed'], 'an attachment deep inside');
  found.files.push({ type, bytes, inline: disposition === 'inline' });
}

async function raw(request) {
  onlyKeys('SendEmail', request, ['FromEmailAddress', 'Destination', 'ReplyToAddresses', 'Content', 'EmailTags', 'ConfigurationSetName', 'ConfigurationOverrides']);
  onlyKeys('Raw', request.Content.Raw, ['Data']);
  assert.deepEqual(request.ReplyToAddresses ?? [], [], 'what becomes of ReplyToAddresses beside Raw is not documented');
  const bytes = Buffer.from(request.Content.Raw.Data, 'base64');
  assert.equal(bytes.toString('base64'), request.Content.Raw.Data, 'Raw.Data is base64');
  assert.ok(bytes.length <= RAW_MAX);
  const source = bytes.toString('latin1');
  assert.doesNotMatch(source, /[\x80-\xff\0]/, 'Raw: 7 bits');
  assert.doesNotMatch(source, /(^|[^\r])\n|\r(?!\n)/, 'Raw: lines end in CRLF');
  for (const line of source.split('\r\n')) assert.ok(line.length <= 998, `Raw: a line of ${line.length} bytes`);
  for (const [, text] of source.matchAll(/\r\nContent-Transfer-Encoding: quoted-printable\r\n(?:[!-~].*\r\n(?:[ \t].*\r\n)*)*\r\n([^]*?)(?=\r\n--|$)/gi))
    for (const line of text.split('\r\n')) {
      assert.ok(line.length <= 76, `quoted-printable: a line of ${line.length}`);
      assert.match(line, /^(?:[ -<>-~\t]|=[0-9A-F]{2})*=?$/, 'quoted-printable');
      assert.doesNotMatch(line, /[ \t]$/, 'quoted-printable: a blank at the end of a line');
    }

  const parser = new PostalMime();
  const parsed = await parser.parse(bytes);
  const head = {};
  const fields = [];
  for (const { key, value } of parsed.headers) {
    assert.ok(!/^(bcc|return-path|dkim-signature|received|feedback-id|x-ses-.*)$/.test(key), `Raw: ${key}`);
    assert.ok(!(onlyOnce.test(key) && head[key] !== undefined), `${key} stands twice`);
    head[key] = value;
    if (!ofTheMessage.test(key)) fields.push([key, value]);
  }
  assert.equal(head['mime-version'], '1.0');
  const headText = source.slice(0, source.indexOf('\r\n\r\n'));
  for (const line of headText.split('\r\n')) {
    assert.match(line, /^([!-9;-~]+:|[ \t]+\S)/, `no header line: ${line}`);
    if (/^list-.*unsubscribe:/i.test(line)) assert.doesNotMatch(line, /<[^>]*$/, 'folded inside a URL');
  }
  const found = { bodies: {}, order: [], files: [] };
  readTree(parser.root, found);
  assert.deepEqual(found.order, ['text', 'amp', 'html'].filter((kind) => kind in found.bodies));
  const named = parsed.attachments.filter((a) => a.mimeType !== 'text/x-amp-html' || a.disposition);
  assert.equal(named.length, found.files.length, 'attachments');
  const attachments = found.files.map((file, i) => {
    const cid = named[i].contentId?.replace(/^<(.*)>$/, '$1');
    return { filename: named[i].filename, type: file.type, sha256: sha256(file.bytes), cid: file.inline ? cid : undefined, inline: file.inline };
  });
  const { envelope } = destination(request.Destination, 'Destination');
  const list = (name) => (head[name] === undefined ? [] : mailboxes(head[name]));
  const mail = {
    from: list('from'), replyTo: list('reply-to'), to: list('to'), cc: list('cc'),
    subject: decodeHeader(head.subject ?? '').trim(),
    text: found.bodies.text, html: found.bodies.html, amp: found.bodies.amp,
    headers: headerFields(fields), attachments,
    tags: tagsOf(request.EmailTags ?? []), ...common(request),
  };
  if (request.FromEmailAddress !== undefined)
    assert.equal(mailboxes(request.FromEmailAddress)[0].address, mail.from[0].address, 'FromEmailAddress and From');
  return envelope.map((rcpt) => ({ rcpt, mail }));
}

/** 'bulk', 'simple' or 'raw'. */
export function wayOf(request) {
  if (request.BulkEmailEntries) return 'bulk';
  const kinds = Object.keys(request.Content);
  assert.equal(kinds.length, 1);
  assert.match(kinds[0], /^(Simple|Raw)$/);
  return kinds[0].toLowerCase();
}

export async function deliveries(request) {
  const way = wayOf(request);
  const list = await { bulk, simple, raw }[way](request);
  return list.map((one) => ({ ...one, way }));
}
