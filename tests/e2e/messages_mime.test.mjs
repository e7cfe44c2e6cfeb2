// POST …/messages.mime: a whole message goes in, and what SES is given is that message, with what the form and the
// header's options say. What a mail means is read with postal-mime, before and after; which variables stand for what
// is worked out here, on what the parts say when decoded.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import PostalMime, { decodeWords } from 'postal-mime';
import { Postern, domain, isSettled, key, newsletterForm, readers, startSandbox, stopAll, waitFor } from './harness.mjs';

const require = createRequire(import.meta.url);
const FormData = require('form-data');
after(stopAll);

const ann = 'ann@readers.example.net';
const bob = 'bob@readers.example.net';
const cem = 'cem@readers.example.net';

// ---- what goes in ----

/** fields: [name, value] or [name, Buffer or text, filename]. */
function multipart(fields) {
  const boundary = '-'.repeat(26) + randomBytes(12).toString('hex');
  const chunks = [];
  for (const [name, value, filename] of fields) {
    const file = filename ? `; filename="${filename}"\r\nContent-Type: message/rfc822` : '';
    chunks.push(Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n\r\n`), Buffer.from(value), Buffer.from('\r\n'));
  }
  chunks.push(Buffer.from(`--${boundary}--\r\n`));
  return { boundary, body: Buffer.concat(chunks) };
}

const lines = (...list) => `${list.flat(Infinity).join('\r\n')}\r\n`;
const base64 = (bytes) => Buffer.from(bytes).toString('base64').replace(/.{76}(?=.)/g, '$&\r\n');
/** Soft breaks fall where they fall: after `width` bytes, in the middle of a placeholder too. */
function quotedPrintable(text, width = 20) {
  return text.split('\n').map((line) => {
    const units = [...Buffer.from(line)].map((c, i, all) =>
      (c >= 33 && c <= 126 && c !== 61) || (c === 32 && i + 1 < all.length) ? String.fromCharCode(c) : `=${c.toString(16).toUpperCase().padStart(2, '0')}`);
    let out = '';
    let column = 0;
    for (const unit of units) {
      if (column + unit.length > width) {
        out += '=\r\n';
        column = 0;
      }
      out += unit;
      column += unit.length;
    }
    return out;
  }).join('\r\n');
}

const word = (text) => `=?utf-8?B?${Buffer.from(text).toString('base64')}?=`;
const noise = Buffer.from(Array.from({ length: 70000 }, (_, i) => (Math.imul(i, 2654435761) >>> 13) & 255));
const part = (type, encoding, body, ...more) => [`Content-Type: ${type}`, `Content-Transfer-Encoding: ${encoding}`, ...more, '', body];
const multi = (kind, boundary, ...parts) => [`Content-Type: multipart/${kind}; boundary="${boundary}"`, '', parts.map((p) => [`--${boundary}`, p]), `--${boundary}--`];
const head = (...more) => ['From: =?utf-8?Q?S=C3=B8hne=2C_Ltd?= <news@mg.example.com>', 'Date: Mon, 23 Nov 2020 10:00:00 +0000', 'MIME-Version: 1.0', ...more];

// ---- what it means ----

const sha256 = (bytes) => createHash('sha256').update(Buffer.from(bytes)).digest('hex');
const body = (text) => text?.replaceAll('\r\n', '\n').replace(/\n+$/, '') || undefined;
const ofOurs = /^(received|message-id|bcc|x-mailgun-.*|x-ses-.*|content-transfer-encoding|content-type)$/;

async function meaning(bytes) {
  const mail = await new PostalMime().parse(bytes);
  const plain = (list) => (list ?? []).flatMap((one) => (one.group ? [] : [{ name: one.name, address: one.address }]));
  return {
    from: plain([mail.from]), to: plain(mail.to), cc: plain(mail.cc), replyTo: plain(mail.replyTo), subject: mail.subject ?? '',
    text: body(mail.text), html: body(mail.html),
    headers: mail.headers.filter(({ key: k }) => !ofOurs.test(k) && !/^(from|to|cc|reply-to|subject)$/.test(k)).map(({ key: k, value }) => `${k}: ${decodeWords(value).replace(/\s+/g, ' ')}`).sort(),
    attachments: mail.attachments.map((a) => ({ filename: a.filename, type: a.mimeType, disposition: a.disposition, cid: a.contentId, sha256: sha256(a.content) })),
  };
}

/** Placeholders of one reader in everything but addresses and attachments. */
function rendered(mail, address, variables, name = '') {
  const own = variables[address] ?? {};
  const keys = new Set(Object.values(variables).flatMap(Object.keys));
  const fill = (text) => text?.replace(/%([^%\s]+)%/g, (all, inside) => {
    if (inside === 'recipient') return name ? `${name} <${address}>` : address;
    if (inside === 'recipient_email') return address;
    if (inside === 'recipient_name') return name;
    const variable = /^recipient\.(.*)$/.exec(inside)?.[1];
    return variable !== undefined && keys.has(variable) ? String(own[variable] ?? '') : /^(tag_.*|unsubscribe_url)$/.test(inside) ? '' : all;
  });
  return { ...mail, subject: fill(mail.subject), text: body(fill(mail.text)), html: body(fill(mail.html)), headers: mail.headers.map(fill) };
}

/** What SES asks of every raw message, and what no reader may see. */
function checkRaw(bytes) {
  const source = bytes.toString('latin1');
  assert.doesNotMatch(source, /[\x80-\xff\0]/, '7 bits');
  assert.doesNotMatch(source, /(^|[^\r])\n|\r(?!\n)/, 'lines end in CRLF');
  for (const line of source.split('\r\n')) assert.ok(line.length <= 998, `a line of ${line.length} bytes`);
  const top = source.slice(0, source.indexOf('\r\n\r\n')).replace(/\r\n[ \t]+/g, ' ').split('\r\n');
  const names = top.map((line) => /^([!-9;-~]+):/.exec(line)?.[1].toLowerCase());
  assert.ok(names.every(Boolean), top.join('\n'));
  for (const once of ['from', 'to', 'cc', 'subject', 'mime-version', 'content-type', 'message-id', 'date', 'content-transfer-encoding', 'list-unsubscribe'])
    assert.ok(names.filter((n) => n === once).length <= 1, `${once} stands twice`);
  for (const name of names) assert.doesNotMatch(name, /^(bcc|x-ses-.*|dkim-signature|x-mailgun-(?!variables).*)$/);
  assert.ok(names.includes('mime-version'));
}

describe('messages.mime', () => {
  let postern;
  let sandbox;
  before(async () => {
    sandbox = await startSandbox(['--set', 'max_send_rate=100000', '--set', 'local_parts=0']);
    await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delay_rate: 0 });
    postern = await Postern.start({ sandbox });
  });
  after(async () => {
    await postern?.stop();
    sandbox?.child.kill('SIGTERM');
    await sandbox?.child.ended;
  });

  const post = (fields, path = `/v3/${domain}/messages.mime`, auth = `api:${key}`) => {
    const form = multipart(fields);
    return postern.request('POST', path, { auth, body: form.body, headers: { 'Content-Type': `multipart/form-data; boundary=${form.boundary}` } });
  };

  /** The calls that a message made, after its 200: { answer, calls: [{ request, to, bytes, mail }] }. */
  async function sent(send, count = 1) {
    await fetch(`${sandbox.url}/_sandbox/reset`, { method: 'POST' });
    const answer = await send();
    await waitFor('the mails', async () => (await sandbox.stats()).accepted_recipients >= count, 10000, 5);
    await waitFor('the books', () => isSettled(postern.batches()), 10000);
    const requests = new Map();
    for (const { request } of await sandbox.messages()) requests.set(JSON.stringify(request), request);
    const calls = [];
    for (const request of requests.values()) {
      assert.deepEqual(Object.keys(request.Content), ['Raw']);
      const bytes = Buffer.from(request.Content.Raw.Data, 'base64');
      checkRaw(bytes);
      assert.deepEqual(Object.keys(request.Destination), ['ToAddresses']);
      calls.push({ request, to: request.Destination.ToAddresses, bytes, mail: await meaning(bytes) });
    }
    calls.sort((a, b) => (a.to[0] < b.to[0] ? -1 : 1));
    return { answer, calls };
  }
  const posted = (fields) => async () => {
    const res = await post(fields);
    const text = await res.text();
    assert.equal(res.status, 200, text);
    const answer = JSON.parse(text);
    assert.equal(answer.message, 'Queued. Thank you.');
    return answer;
  };
  const tagsOf = (request) => Object.fromEntries(request.EmailTags.map(({ Name, Value }) => [Name, Value]));
  const metaOf = (request) => Buffer.from(tagsOf(request)['postern-meta'], 'base64url').toString().split('\n');

  const whole = lines(
    head(`To: "Ann, A." <${ann}>, ${bob}`, `Cc: ${word('Zoë')} <${cem}>`, 'Bcc: secret@readers.example.net', `Subject: ${word('Grüße: ')} ${word('100% %recipient.a%')}`, 'Message-ID: <own.1@mg.example.com>',
      'Reply-To: desk@mg.example.com', 'X-Own: folded', '\tand kept', 'X-Mailgun-Tag: one', 'X-Mailgun-Track: yes', 'X-SES-CONFIGURATION-SET: other', 'List-Unsubscribe: <https://example.com/u?a=1>'),
    multi('mixed', 'm', multi('related', 'r', multi('alternative', 'a', part('text/plain; charset=utf-8', 'quoted-printable', quotedPrintable('Hällo %recipient.a%\nsecond line')), part('text/html; charset=utf-8', 'base64', base64('<p>Hällo %recipient.a%</p>'))),
      part('image/png; name=l.png', 'base64', base64(noise.subarray(0, 1000)), 'Content-ID: <logo>', 'Content-Disposition: inline; filename=l.png')),
    part('application/pdf', 'base64', base64(noise), 'Content-Disposition: attachment; filename="a.pdf"'),
    part('text/plain; charset=utf-8', 'quoted-printable', quotedPrintable('in a file: %recipient.a%'), "Content-Disposition: attachment; filename*=utf-8''%C3%9C.txt")),
  );

  for (const [what, filename] of [['a file', 'message.mime'], ['a plain field', undefined]])
    it(`sends a message given as ${what}, and changes nothing but its header`, async () => {
      const { answer, calls } = await sent(posted([['to', `Ann <${ann}>, ${bob}`], ['to', cem], ['message', whole, filename], ['o:tag', 'form']]), 3);
      assert.equal(answer.id, '<own.1@mg.example.com>');
      assert.equal(calls.length, 1);
      const [{ request, to, bytes, mail }] = calls;
      assert.deepEqual(to, [ann, bob, cem]);
      assert.equal(request.FromEmailAddress, `${word('Søhne, Ltd')} <news@mg.example.com>`);
      const wanted = await meaning(Buffer.from(whole));
      assert.deepEqual(mail, wanted);
      assert.equal(mail.subject, 'Grüße: 100% %recipient.a%');
      assert.equal(bytes.toString('latin1').split('\r\n\r\n').slice(1).join('\r\n\r\n'), whole.split('\r\n\r\n').slice(1).join('\r\n\r\n'));
      assert.deepEqual(metaOf(request), [domain, 'own.1@mg.example.com', 'form', 'one']);
      assert.deepEqual(request.ConfigurationOverrides.Tracking, { OpenTrackingEnabled: 'ENABLED', ClickTrackingEnabled: 'ENABLED' });
      assert.equal(request.ConfigurationSetName, 'ghost-mailgun-proxy-system-set');
    });

  const hard = { a: 'Zoë "🦊" & co', long: 'ä'.repeat(900), lines: 'one\ntwo\r\nthree', header: 'x\r\nBcc: evil@example.com', dots: '.\n.\nFrom me', equals: '=3D=', empty: '', again: '%recipient.a%' };
  const variables = { [ann]: hard, [bob]: { a: 'Bob' } };
  const all = Object.keys(hard).map((k) => `[%recipient.${k}%]`).join('\n');
  const bodies = {
    'quoted-printable, cut anywhere': part('text/plain; charset=utf-8', 'quoted-printable', quotedPrintable(`Ä ${all}\nend`, 7)),
    base64: part('text/plain; charset=UTF-8', 'base64', base64(`Ä ${all}\r\nend`)),
    '7bit': part('text/plain; charset=us-ascii', '7bit', `${all}\nend`.replaceAll('\n', '\r\n')),
    'Latin-1': part('text/html; charset=iso-8859-1; x=y', 'quoted-printable', `Gr=FC=DFe %recipient.=\r\na% %recipient.lines% =A4`),
    'no type at all': ['', `${all}`.replaceAll('\n', '\r\n')],
    'windows-1251, base64': part('text/plain; charset=windows-1251', 'base64', base64(Buffer.from([0xcf, 0xf0, 0xe8, 0x20, ...Buffer.from('%recipient.a%')]))),
  };
  for (const [what, text] of Object.entries(bodies))
    for (const shape of ['alone', 'in a multipart'])
      it(`replaces variables in ${what}, ${shape}`, async () => {
        const mime = lines(head('To: %recipient%', `Subject: ${word('für %recipi')} ${word('ent.a%')}: %recipient.header%`, 'X-Own: a %recipient.a% b', 'X-None: %recipient.empty%'),
          shape === 'alone' ? text : multi('mixed', 'b', text, part('text/plain', '7bit', 'no variable, 100%'), part('application/octet-stream', 'base64', base64(noise), 'Content-Disposition: attachment; filename=n.bin')));
        const { calls } = await sent(posted([['to', `"Ann, A." <${ann}>`], ['to', bob], ['message', mime, 'm.eml'], ['recipient-variables', JSON.stringify(variables)]]), 2);
        assert.deepEqual(calls.map((c) => c.to), [[ann], [bob]]);
        const given = await meaning(Buffer.from(mime));
        for (const { to: [address], bytes, mail } of calls) {
          const wanted = rendered(given, address, variables);
          wanted.to = [{ name: address === ann ? 'Ann, A.' : '', address }];
          wanted.subject = wanted.subject.replace(/[\r\n]/g, ' ').trim();
          wanted.headers = wanted.headers.map((h) => h.replace(/[\r\n\s]+/g, ' ').trim()).filter((h) => !/^x-none: *$|^x-none:$/.test(h));
          for (const field of ['subject', 'text', 'html', 'headers', 'to', 'from', 'attachments']) {
            const [got, want] = [mail[field], wanted[field]].map((v) => (typeof v === 'string' ? v.replace(/\s+/g, ' ') : v));
            assert.deepEqual(got, want, `${field} of ${address}`);
          }
          assert.doesNotMatch(bytes.toString('latin1').split('\r\n\r\n')[0], /^Bcc:/im);
        }
      });

  it('a batch without a placeholder in a part leaves its bytes alone', async () => {
    const odd = 'ordinary =41 text,=\r\n 100% %recipient% of it is not ours';
    const attached = part('text/plain', 'quoted-printable', odd, 'Content-Disposition: attachment; filename=a.txt');
    const inner = ['Content-Type: message/rfc822', '', 'From: x@example.com', 'Subject: %recipient.a%', '', '%recipient.a%'];
    const mime = lines(head(`To: ${ann}`, 'Subject: s'), multi('mixed', 'b', part('text/plain', 'quoted-printable', '=41=20=\r\nb 100%'), attached, inner));
    const { calls } = await sent(posted([['to', ann], ['message', mime, 'm'], ['recipient-variables', JSON.stringify({ [ann]: { a: 'A' } })]]));
    assert.equal(calls[0].bytes.toString().split('\r\n\r\n').slice(1).join('\r\n\r\n'), mime.split('\r\n\r\n').slice(1).join('\r\n\r\n'));
  });

  it('shows no reader of a batch the others', async () => {
    const mime = lines(head(`To: ${ann}, ${bob}`, 'Subject: s'), ['Content-Type: text/plain', '', 'x']);
    const { calls } = await sent(posted([['to', `Ann <${ann}>`], ['to', bob], ['message', mime, 'm'], ['recipient-variables', '{}']]), 2);
    assert.deepEqual(calls.map((c) => c.mail.to), [[{ name: 'Ann', address: ann }], [{ name: '', address: bob }]]);
    const kept = lines(head('To: Our readers <all@mg.example.com>', 'Subject: s'), ['Content-Type: text/plain', '', 'x']);
    const second = await sent(posted([['to', ann], ['to', bob], ['message', kept, 'm'], ['recipient-variables', '{}']]), 2);
    for (const { mail } of second.calls) assert.deepEqual(mail.to, [{ name: 'Our readers', address: 'all@mg.example.com' }]);
  });

  it('unsubscribe headers, ids and user variables of each reader', async () => {
    const mime = lines(head('To: "%recipient.name%" <%recipient_email%>', 'From: %recipient.name% via News <news@mg.example.com>', 'Subject: unknown %recipient.nope%', 'X-Unknown: %recipient.nope%', 'Message-Id: <%recipient.id%@mg.example.com>',
      'List-Unsubscribe: <%recipient.u%>, <%tag_unsubscribe_email%>', 'List-Unsubscribe-Post: List-Unsubscribe=One-Click', 'X-Mailgun-Variables: {"from-header":', ' "1", "both": "header"}', `X-Mailgun-Variables: {"name":"${word('x')}"}`), ['Content-Type: text/plain', '', 'x']);
    const vars = { [ann]: { name: 'Ann, "A."', id: 'a1', u: 'https://example.com/u?a=1&b=,' }, [bob]: { name: 'Bøb', id: 'b1', u: '' } };
    const { answer, calls } = await sent(posted([['to', ann], ['to', bob], ['message', mime, 'm'], ['recipient-variables', JSON.stringify(vars)], ['v:both', 'form'], ['v:email-id', 'abc']]), 2);
    assert.equal(answer.id, '<%recipient.id%@mg.example.com>');
    const fields = calls.map(({ bytes }) => Object.fromEntries(bytes.toString().split('\r\n\r\n')[0].replace(/\r\n[ \t]+/g, ' ').split('\r\n').map((l) => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()])));
    assert.equal(fields[0]['list-unsubscribe'], '<https://example.com/u?a=1&b=,>');
    assert.equal(fields[0]['list-unsubscribe-post'], 'List-Unsubscribe=One-Click');
    assert.ok(!('list-unsubscribe' in fields[1]) && !('list-unsubscribe-post' in fields[1]));
    for (const [i, f] of fields.entries()) {
      assert.deepEqual(JSON.parse(f['x-mailgun-variables']), { 'from-header': '1', both: 'form', 'email-id': 'abc', name: 'x' });
      assert.equal(f.subject, 'unknown %recipient.nope%');
      assert.ok(!('x-unknown' in f));
      assert.equal(metaOf(calls[i].request)[1], `${['a1', 'b1'][i]}@mg.example.com`);
      assert.equal(tagsOf(calls[i].request)['email-id'], 'abc');
    }
    assert.deepEqual(calls.map((c) => c.mail.from), ['Ann, "A." via News', 'Bøb via News'].map((name) => [{ name, address: 'news@mg.example.com' }]));
    assert.deepEqual(calls.map((c) => c.mail.to), [[{ name: 'Ann, "A."', address: ann }], [{ name: 'Bøb', address: bob }]]);
  });

  it('the form overrules the header', async () => {
    const mime = lines(head(`To: ${ann}`, 'Subject: old', 'X-Two: a', 'X-Two: b', 'X-Mailgun-Track-Opens: yes', 'X-Mailgun-Track-Clicks: yes', 'X-Mailgun-Drop-Message: yes'), ['Content-Type: text/plain', '', 'x']);
    const { calls } = await sent(posted([['to', ann], ['message', mime, 'm'], ['h:Subject', 'neu: ü'], ['h:X-Two', 'c'], ['h:X-New', 'näh'], ['h:Bcc', bob], ['h:Reply-To', 'Öffis <o@mg.example.com>'], ['o:tracking-opens', 'no'], ['o:testmode', 'no'], ['h:Message-Id', '<form@mg.example.com>']]));
    const [{ mail, request }] = calls;
    assert.equal(mail.subject, 'neu: ü');
    assert.deepEqual(mail.headers.filter((h) => /^x-/.test(h)), ['x-new: näh', 'x-two: c']);
    assert.deepEqual(mail.replyTo, [{ name: 'Öffis', address: 'o@mg.example.com' }]);
    assert.deepEqual(request.ConfigurationOverrides.Tracking, { OpenTrackingEnabled: 'DISABLED', ClickTrackingEnabled: 'ENABLED' });
    assert.equal(metaOf(request)[1], 'form@mg.example.com');
  });

  it('the header alone can make a batch, and a test', async () => {
    const mime = lines(head('To: %recipient%', 'Subject: %recipient.a%', `X-Mailgun-Recipient-Variables: {"${ann}": {"a": "A"},`, ` "${bob}": {"a": "B"}}`), ['Content-Type: text/plain', '', 'x']);
    const { calls } = await sent(posted([['to', `${ann}, ${bob}`], ['message', mime]]), 2);
    assert.deepEqual(calls.map((c) => c.mail.subject), ['A', 'B']);
    const before = (await sandbox.stats()).accepted_recipients;
    await posted([['to', ann], ['message', mime.replace('X-Mailgun-R', 'X-Mailgun-Drop-Message: yes\r\nX-Mailgun-R')]])();
    await waitFor('the books', () => isSettled(postern.batches()), 10000);
    assert.equal((await sandbox.stats()).accepted_recipients, before);
  });

  it('61 readers of one message: each gets it once', async () => {
    const mime = lines(head('To: all@mg.example.com', 'Subject: s'), ['Content-Type: text/plain', '', 'x']);
    const to = readers(61, 'mime');
    const { calls } = await sent(posted([...to.map((a) => ['to', a]), ['message', mime, 'm']]), 61);
    assert.deepEqual(calls.flatMap((c) => c.to).sort(), to);
    assert.equal(new Set(calls.map((c) => c.bytes.toString('latin1'))).size, 1);
  });

  it('events tell of it', async () => {
    const to = readers(1, 'event');
    const mime = lines(head(`To: ${word('Zoë')} <${to[0]}>`, `Subject: ${word('Grüße')}`, 'X-Mailgun-Tag: mime-events'), ['Content-Type: text/plain', '', 'x']);
    const { answer } = await sent(posted([['to', to[0]], ['message', mime, 'm']]));
    const items = await waitFor('the events', async () => {
      const got = await postern.walk('tags=mime-events&ascending=yes&begin=1000000000');
      return got.some((i) => i.event === 'delivered') && got;
    });
    const accepted = items.find((i) => i.event === 'accepted');
    assert.equal(accepted.message.headers.subject, 'Grüße');
    assert.equal(accepted.message.headers.from, '"Søhne, Ltd" <news@mg.example.com>');
    assert.equal(accepted.message.headers.to, `"Zoë" <${to[0]}>`);
    assert.equal(`<${accepted.message.headers['message-id']}>`, answer.id);
    assert.match(answer.id, /^<\d{14}\.[0-9a-f]{16}@mg\.example\.com>$/);
  });

  // ---- messages that are not as they should be ----

  const sentAs = async (mime) => (await sent(posted([['to', ann], ['message', mime, 'm']]))).calls[0];
  it('bare line feeds', async () => {
    const { mail } = await sentAs(whole.replaceAll('\r\n', '\n'));
    assert.deepEqual(mail, await meaning(Buffer.from(whole)));
  });
  it('8-bit headers and bodies', async () => {
    const mime = `From: Søhne <news@mg.example.com>\nTo: ${ann}\nSubject: Grüße\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHällo\n--b\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>Wörld</p>\n--b\nContent-Type: application/pdf; name="Übersicht.pdf"\nContent-Disposition: attachment; filename="Übersicht.pdf"\nContent-Transfer-Encoding: 8bit\n\nbinär\n--b--\n`;
    const { mail } = await sentAs(mime);
    assert.equal(mail.subject, 'Grüße');
    assert.equal(mail.from[0].name, 'Søhne');
    assert.match(`${mail.text}${mail.html}`, /Hällo[^]*Wörld/);
    assert.deepEqual(mail.attachments.map((a) => [a.filename, a.sha256]), [['Übersicht.pdf', sha256('binär')]]);
    const latin = await sentAs(Buffer.from(`From: S\xf8hne <news@mg.example.com>\nTo: ${ann}\nSubject: Gr\xfc\xdfe\nContent-Type: text/plain; charset=iso-8859-1\n\nH\xe4llo\n`, 'latin1'));
    assert.deepEqual([latin.mail.subject, latin.mail.from[0].name, latin.mail.text], ['Grüße', 'Søhne', 'Hällo']);
  });
  it('binary parts, NULs, lines too long', async () => {
    const bytes = Buffer.concat([Buffer.from(lines(head(`To: ${ann}`, 'Subject: s', `X-Long: ${'word '.repeat(500)}`), ['Content-Type: multipart/mixed; boundary=b', '', '--b', 'Content-Type: application/zip', 'Content-Transfer-Encoding: binary', 'Content-Disposition: attachment; filename=a.zip', ''])), noise, Buffer.from(lines('', '--b', 'Content-Type: text/plain; charset=utf-8', '', 'long '.repeat(3000), '--b', 'Content-Type: text/plain', 'Content-Disposition: attachment; filename=n', 'Content-Transfer-Encoding: base64', '', noise.toString('base64'), '--b--'))]);
    const { mail } = await sentAs(bytes);
    assert.deepEqual(mail.attachments.map((a) => a.sha256), [sha256(noise), sha256(noise)]);
    assert.equal(mail.text.trim(), 'long '.repeat(3000).trim());
    assert.ok(mail.headers.includes(`x-long: ${'word '.repeat(500)}`.trim()));
  });
  it('no end of the header, no end of the multipart', async () => {
    assert.equal((await sentAs(`From: a@mg.example.com\nTo: ${ann}\nSubject: s\nContent-Type: multipart/mixed; boundary=b\n--b\nContent-Type: text/plain\n\nbody`)).mail.text, 'body');
    assert.equal((await sentAs(`From: a@mg.example.com\nTo: ${ann}\nSubject: only a header`)).mail.subject, 'only a header');
  });

  const good = lines(head(`To: ${ann}`, 'Subject: s'), ['Content-Type: text/plain', '', 'x']);
  const deep = (count) => `From: a@mg.example.com\nMIME-Version: 1.0\n${Array.from({ length: count }, (_, i) => `Content-Type: multipart/mixed; boundary=b${i}\n\n--b${i}\n`).join('')}\nx\n`;
  const refusals = {
    'no to': [[['message', good, 'm']], /^to parameter is missing$/],
    'an empty to': [[['to', ''], ['message', good, 'm']], /^to parameter is missing$/],
    'a bad to': [[['to', 'nobody'], ['message', good, 'm']], /^to parameter is not a valid address/],
    'no message': [[['to', ann]], /^message parameter is missing$/],
    'an empty message': [[['to', ann], ['message', '\r\n', 'm']], /^message parameter is missing$/],
    '1,001 readers': [[...readers(1001).map((a) => ['to', a]), ['message', good, 'm']], /^Too many recipients, max is 1000$/],
    'variables that are no JSON': [[['to', ann], ['message', good, 'm'], ['recipient-variables', '[]']], /^'recipient-variables' parameter is not a valid JSON$/],
    'options beyond 16 kB': [[['to', ann], ['message', good, 'm'], ['v:x', 'x'.repeat(17000)]], /limited to 16 kB total/],
    'a text without a header': [[['to', ann], ['message', 'hello\nworld\n', 'm']], /it has no header/],
    'a header without From': [[['to', ann], ['message', 'Subject: s\n\nx', 'm']], /it has no From header/],
    'a From that is no address': [[['to', ann], ['message', 'From: nobody\n\nx', 'm']], /From header that is not a valid address/],
    'From with very many colons': [[['to', ann], ['message', `From:${' a:'.repeat(200000)}\n\nx`, 'm']], /From header that is not a valid address/],
    '1,000 nested multiparts': [[['to', ann], ['message', deep(1000), 'm']], /nested too deeply/],
    '1,000,000 header fields': [[['to', ann], ['message', `From: a@mg.example.com\n${'a:\n'.repeat(1000000)}\nx`, 'm']], /too many header fields/],
    '1,000,000 boundaries': [[['to', ann], ['message', `From: a@mg.example.com\nContent-Type: multipart/mixed; boundary=b\n\n${'--b\n'.repeat(1000000)}`, 'm']], /too many boundaries/],
    'a word longer than a line': [[['to', ann], ['message', `From: a@mg.example.com\nX-Long: ${'x'.repeat(3000)}\n\nx`, 'm']], /X-Long with a word longer/],
    'a line break in a header': [[['to', ann], ['message', good, 'm'], ['h:X-A', 'a\r\nb']], /X-A.*line break/],
    'a deliverytime that is none': [[['to', ann], ['message', good.replace('Subject', 'X-Mailgun-Deliver-By: soon\r\nSubject'), 'm']], /RFC-2822/],
  };
  for (const [what, [fields, message]] of Object.entries(refusals))
    it(`refuses ${what}`, async () => {
      const res = await post(fields);
      const answer = await res.json();
      assert.equal(res.status, 400, JSON.stringify(answer));
      assert.match(answer.message, message);
    });
  it('refuses an urlencoded body, other methods, and a wrong key', async () => {
    const path = `/v3/${domain}/messages.mime`;
    const res = await postern.request('POST', path, { body: new URLSearchParams({ to: ann, message: good }) });
    assert.equal(res.status, 400);
    assert.match((await res.json()).message, /^Invalid request content type\. Expecting 'multipart\/form-data' but got 'application\/x-www-form-urlencoded'$/);
    assert.equal((await postern.request('GET', path)).status, 405);
    assert.equal((await post([['to', ann], ['message', good]], path, 'api:wrong')).status, 401);
  });
  it('and a mailbox file\'s first line is no harm', async () => {
    assert.equal((await sentAs(`From me@example.com Mon Nov 23 10:00:00 2020\n${good}`)).mail.subject, 's');
  });

  for (const version of ['10', '14'])
    it(`mailgun.js ${version}`, async () => {
      const loaded = require(`mailgun.js-${version}`);
      const mg = new (loaded.default ?? loaded)(FormData).client({ username: 'api', key, url: postern.url });
      const { answer, calls } = await sent(() => mg.messages.create(domain, { to: [ann, bob], message: whole, 'o:tag': ['sdk'] }), 2);
      assert.equal(answer.status, 200);
      assert.equal(answer.id, '<own.1@mg.example.com>');
      assert.deepEqual(calls[0].to, [ann, bob]);
      assert.deepEqual(calls[0].mail, await meaning(Buffer.from(whole)));
      const file = await sent(() => mg.messages.create(domain, { to: ann, message: Buffer.from(whole) }));
      assert.deepEqual(file.calls[0].mail, await meaning(Buffer.from(whole)));
    });

  it('and after all that the same processes serve', async () => {
    assert.equal((await postern.post(newsletterForm(readers(1)))).status, 200);
    assert.doesNotMatch(postern.log(), /died of/);
    assert.ok(postern.batches().every((b) => b.unaccounted === 0));
  });
});
