// One mail, three ways to SES: whichever call carries it, the reader gets the same, and it is the mail that the
// request to Mailgun means. oracle.mjs says what that is, ses_mail.mjs what SES makes of Postern's calls.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { expected } from './oracle.mjs';
import { deliveries, wayOf } from './ses_mail.mjs';
import { Postern, isSettled, key, readers, root, startSandbox, stopAll, waitFor } from './harness.mjs';

after(stopAll);

// ---- forms ----

/** The fields of a recorded request, and the domain it went to. */
function recorded(file) {
  const text = fs.readFileSync(path.join(root, 'tests/data/ghost', file), 'utf8').replaceAll('\r\n', '\n');
  const boundary = /boundary=(\S+)/.exec(text)[1];
  const [head, ...parts] = text.split(`\n--${boundary}`);
  const fields = parts.filter((p) => p.startsWith('\n')).map((part) => {
    const split = part.indexOf('\n\n');
    return { name: /name="([^"]*)"/.exec(part)[1], value: part.slice(split + 2) };
  });
  return { fields, domain: /POST \/v3\/([^/]+)\//.exec(head)[1] };
}

/** { to: 'a', 'o:tag': ['b', 'c'], attachment: [{ filename, type, data }] } as a list of fields. */
function fieldsOf(form) {
  return Object.entries(form).flatMap(([name, values]) =>
    [values].flat().map((value) => {
      if (value?.data) return { name, ...value };
      return { name, value: typeof value === 'object' ? JSON.stringify(value) : value };
    }),
  );
}

function multipart(fields) {
  const boundary = '-'.repeat(26) + randomBytes(12).toString('hex');
  const chunks = [];
  for (const f of fields) {
    const file = f.data ? `; filename="${f.filename}"${f.type ? `\r\nContent-Type: ${f.type}` : ''}` : '';
    chunks.push(Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${f.name}"${file}\r\n\r\n`));
    chunks.push(f.data ?? Buffer.from(f.value), Buffer.from('\r\n'));
  }
  chunks.push(Buffer.from(`--${boundary}--\r\n`));
  return { boundary, body: Buffer.concat(chunks) };
}

// ---- the fixtures: name, form, and the calls that strategy auto takes ----

const fixtures = [];
const add = (name, auto, form, more = {}) => fixtures.push({ name, auto: [auto].flat(), domain: 'mg.example.com', fields: fieldsOf(form), ...more });

for (const file of fs.readdirSync(path.join(root, 'tests/data/ghost')).sort()) {
  if (!/^(newsletter|test-email|transactional|automation)/.test(file)) continue;
  const { fields, domain } = recorded(file);
  const now = fields.map((f) => (f.name === 'o:deliverytime' ? { ...f, value: 'Mon, 23 Nov 2020 10:00:00 GMT' } : f));
  const auto = fields.filter((f) => f.name === 'to').length > 1 && fields.some((f) => f.name === 'recipient-variables') ? 'bulk' : 'simple';
  fixtures.push({ name: file, auto: [auto], fields: now, domain });
  if (fields.some((f) => f.name === 'o:testmode'))
    fixtures.push({ name: `${file}, sent`, auto: [auto], domain, fields: now.filter((f) => f.name !== 'o:testmode').map((f) => (f.name === 'v:email-id' ? { ...f, value: '0123456789abcdef01234567' } : f)) });
}

const from = 'News <news@mg.example.com>';
const ann = 'ann@readers.example.net';
const bob = 'bob@readers.example.net';
const cem = 'cem@readers.example.net';
const hard = {
  braces: 'a{{x}}b {{{y}}} {{#if z}} {{/if}} {{!c}} {{> p}}', closing: '}}}', opening: '{{{', backslash: '\\', backslashes: '\\\\', one: '{', other: '}',
  quotes: `"double" 'single' \`back\``, dollars: '$& $1 $$ $` $\'', percent: '%recipient.backslash% 100% %20 %', emoji: '🦊👩‍👩‍👧 Zoë', lines: 'first\nsecond\r\nthird',
  html: '<b>&amp; &lt;i&gt;</b>', controls: 'tab\there', separators: 'a\u2028b\u2029c\ufeff', empty: '', space: ' ', json: '{"v0":"{{v1}}"}', names: 'lb rc v0 {{lb}} {{v0}}', long: 'x'.repeat(2000),
};
const everyKey = (around) => Object.keys(hard).map((k) => around(`%recipient.${k}%`)).join('\n');

add('hard values', 'bulk', {
  to: [ann, bob, cem], from, subject: 'for %recipient.emoji%: %recipient.braces%',
  text: everyKey((p) => `[${p}]`), html: `<ul>${everyKey((p) => `<li title="${p}">${p}</li>`)}</ul>`,
  'recipient-variables': { [ann]: hard, [bob]: { emoji: 'Bob' }, [cem]: Object.fromEntries(Object.keys(hard).map((k) => [k, `{{${k}}}`])) },
});

add('hard literals beside placeholders', 'bulk', {
  to: [ann, bob], from, subject: '{%recipient.a%} {{%recipient.a%}} \\%recipient.a% {{',
  html: `<style>a{color:red}b{c{d:e}}@media{p{margin:0}}</style>{%recipient.a%}\n{{%recipient.a%}}\n{{{%recipient.a%}}}\n\\%recipient.a%\\\n\\\\%recipient.a%\\\\\n\\{%recipient.a%\\}\n{\\%recipient.a%}\\{{
{{x}} {{{x}}} {{#if x}}y{{/if}} {{!-- c --}} {{> p}} {{else}} {{~x~}} \\{{x}} \\\\{{x}} {{{{raw}}}} {{{{/raw}}}} {{ses:openTracker}} {{amazonSESUnsubscribeUrl}} { { } } %recipient.a%%recipient.a%{%recipient.a%%recipient.b%}%recipient.b%\\`,
  text: '{%recipient.a%}{\n\\%recipient.a%\\\n{{lb}}{{v0}}{{}}{{{}}}{}{\n%recipient.a%}}}}}\n{{{{{%recipient.b%\n\\\\\\%recipient.b%\\{',
  'recipient-variables': { [ann]: { a: 'A', b: '{{v0}}' }, [bob]: { a: '{', b: '\\' } },
});

add('values at the ends and alone', 'bulk', {
  to: [ann, bob], from, subject: '%recipient.a%', html: '%recipient.a%', text: '%recipient.a%%recipient.b%',
  'recipient-variables': { [ann]: { a: 'x', b: '' }, [bob]: { a: 'y\r\nBcc: z@example.net\0', b: 'z' } },
});

add('parts that are empty for one reader', 'bulk', {
  to: [ann, bob], from, subject: '%recipient.s%', html: '<p>x</p>', text: '%recipient.t%', 'h:Reply-To': 'desk@example.com', 'h:X-Own': '%recipient.t%',
  'recipient-variables': { [ann]: { s: '', t: '' }, [bob]: { s: 's', t: 't' } },
});

add('what is no placeholder', 'bulk', {
  to: [ann, bob], from, subject: 'unknown %recipient.nope% 100% %recipient %%{x}%%',
  html: '%recipient.nope%recipient.a% %recipient.A% %Recipient.a% %%recipient.a%% %recipient. a% %20 100%, %recipient.nope%%recipient.a% 50%recipient.a%',
  text: '%recipient.toString% %recipient.__proto__% %recipient.a%%', 'recipient-variables': { [ann]: { a: 'A' }, [bob]: { a: '%recipient.a%' } },
});

add('names of recipients', 'bulk', {
  to: [`"Ann, the \\"Great\\"" <${ann}>`, `Zoë Ångström-Łukasz <${bob}>`, cem], from, subject: '%recipient_fname% %recipient_lname%',
  text: '%recipient%|%recipient_email%|%recipient_name%|%recipient_fname%|%recipient_lname%',
  'recipient-variables': {},
});

add('recipient-variables empty', 'bulk', {
  to: [ann, bob], from, subject: 'same for all', text: '{{x}} %recipient.a%', html: '<p>{{x}} \\{{y}} %tag_unsubscribe_email%</p>', 'recipient-variables': '{}',
});

add('a value is missing for one reader', 'bulk', {
  to: [ann, bob, 'ANN2@Readers.Example.net'], from, subject: 'Hi %recipient.a%!', text: 'a=%recipient.a% b=%recipient.b%', html: '<p>%recipient.b%</p>',
  'h:X-A': '%recipient.a%', 'h:X-Both': 'a %recipient.a%, b %recipient.b%', 'h:X-Unknown': 'a %recipient.a%, %recipient.nope%',
  'h:List-Unsubscribe': '<%recipient.b%>, <https://example.com/u>',
  'recipient-variables': { [ann]: { a: 'A' }, [bob]: { b: 'https://example.com/b' }, 'ann2@readers.example.net': { a: 'A2', b: 'https://example.com/2' }, 'news@mg.example.com': { c: 'sender' } },
});

add('values of every JSON type', 'bulk', {
  to: [ann, bob], from, subject: 'n=%recipient.n%', text: '%recipient.n%|%recipient.big%|%recipient.yes%|%recipient.nil%|%recipient.list%|%recipient.v:user%|%recipient.with space%',
  'recipient-variables': `{"${ann}":{"n":1.50,"big":12345678901234567890,"yes":true,"nil":null,"list":{"a":[1,"x"]},"v:user":"u","with space":"s"},"${bob}":{"n":0,"n":-1e3}}`,
});

add('From and Reply-To beyond ASCII', 'bulk', {
  to: [ann, bob], from: '"Søhne, \\"Gazette\\" & Łódź; <the> (paper)" <news@mg.example.com>', subject: 'Żółć — наши новости 🦊 %recipient.a% ' + 'ä'.repeat(120),
  'h:Reply-To': 'Привет Редакция <editor@example.com>, desk@example.com', 'h:Sender': '"Søhne, \\"G\\"" <news@mg.example.com>', text: 'x %recipient.a%',
  'recipient-variables': { [ann]: { a: 'Ä' }, [bob]: { a: 'Ö'.repeat(80) } },
});

add('a long ASCII name, and names in encoded words', 'simple', {
  to: `${'Very '.repeat(30)}long <${ann}>`, from: '=?utf-8?q?Katie_Brewer=2C_=C3=84?= <news@mg.example.com>', subject: 'x'.repeat(300), text: 'x',
});

add('From with a variable', 'simple', {
  to: [ann, bob, cem], from: '%recipient.a% via News <news@mg.example.com>', subject: 's', text: '%recipient.a%', 'h:Reply-To': '%recipient.r%',
  'recipient-variables': { [ann]: { a: 'Ann', r: 'a@example.com' }, [bob]: { a: 'Bøb', r: 'Bé <b@example.com>' }, [cem]: { a: 'Cem', r: '' } },
});

const manyHeaders = (count, value = (i) => `value ${i}`) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`h:X-Header-${i}`, value(i)]));
add('15 headers', 'bulk', { to: [ann, bob], from, subject: 's', text: 'x', ...manyHeaders(14), 'h:X-Own': '%recipient.a%', 'recipient-variables': { [ann]: { a: '1' }, [bob]: { a: '2' } } });
add('16 headers', 'raw', { to: [ann, bob], from, subject: 's', text: 'x', ...manyHeaders(15), 'h:X-Own': '%recipient.a%', 'recipient-variables': { [ann]: { a: '1' }, [bob]: { a: '2' } } });
add('16 headers, one reader', 'raw', { to: ann, from, subject: 's', text: 'x', ...manyHeaders(16) });
add('a header of 950 bytes', 'raw', { to: [ann, bob], from, subject: 's', text: 'x', 'h:X-Long': `${'word '.repeat(180)}%recipient.a%`.padEnd(950, 'z'), 'recipient-variables': { [ann]: { a: '1' }, [bob]: { a: '2' } } });
add('a header of 3,000 bytes', 'raw', { to: ann, from, subject: 's', html: '<p>x</p>', 'h:X-Long': 'word '.repeat(600) + 'end' });
add('a long header for one reader only', ['bulk', 'raw'], { to: [ann, bob, cem], from, subject: 's', text: 'x', 'h:X-Own': '%recipient.a%', 'recipient-variables': { [ann]: { a: '1' }, [bob]: { a: 'long '.repeat(300) + 'end' }, [cem]: { a: '3' } } });
add('a long unsubscribe URL', 'raw', { to: ann, from, subject: 's', text: 'x', 'h:List-Unsubscribe': `<https://example.com/${'u'.repeat(940)}>`, 'h:List-Unsubscribe-Post': 'List-Unsubscribe=One-Click' });

add('headers beyond ASCII and of every kind', 'bulk', {
  to: [ann, bob], from, subject: 's', text: 'x %recipient.a%',
  'h:X-Name': 'für %recipient.a% — 🦊', 'h:X-Static': 'Grüße aus Łódź, ' + 'ß'.repeat(100), 'h:X-Odd': 'a  b   c; "quoted" \\ (comment) <x@y>',
  'h:List-Unsubscribe': '<%recipient.u%>, <%tag_unsubscribe_email%>', 'h:List-Unsubscribe-Post': 'List-Unsubscribe=One-Click', 'h:List-Id': 'News <news.example.com>',
  'h:In-Reply-To': '<a@example.com>', 'h:References': '<a@example.com> <b@example.com>', 'h:Precedence': 'bulk',
  'recipient-variables': { [ann]: { a: 'Zoë\r\nX-Evil: 1', u: 'https://example.com/u?a=1&b=%7B' }, [bob]: { a: '\0\n', u: 'https://example.com/u?b=2' } },
});

// In bulk a reader's own header replaces all of that name.
add('a header three times', 'simple', { to: [ann, bob], from, subject: 's', text: 'x', 'h:X-Multi': ['one', 'two %recipient.a%', 'three'], 'recipient-variables': { [ann]: { a: '1' }, [bob]: { a: '2' } } });

add('two ways to unsubscribe', 'bulk', {
  to: [ann, bob], from, subject: 's', text: 'x', 'h:List-Unsubscribe': '<mailto:u@mg.example.com?subject=%recipient.id%>, <https://example.com/u/%recipient.id%>, <https://example.com/%recipient.nope%>',
  'h:List-Unsubscribe-Post': 'List-Unsubscribe=One-Click', 'recipient-variables': { [ann]: { id: 'a1' }, [bob]: { id: 'b2' } },
});

add('nothing is left of List-Unsubscribe', 'bulk', {
  to: [ann, bob], from, subject: 's', text: 'x', 'h:List-Unsubscribe': '<%tag_unsubscribe_email%>', 'h:List-Unsubscribe-Post': 'List-Unsubscribe=One-Click', 'h:X-Stays': 'yes', 'recipient-variables': {},
});

add('braces in headers', 'simple', {
  to: [ann, bob], from, subject: 's', text: 'x', 'h:X-Static': 'a {{x}} b', 'h:X-Own': 'a %recipient.a% b', 'v:template': '{{name}}', 'v:nested': '{"a":{"b":{}}}',
  'recipient-variables': { [ann]: { a: '{{y}}' }, [bob]: { a: '}}{{' } },
});

add('headers that are the transport\'s own', 'simple', {
  to: ann, from, subject: 's', text: 'x', 'h:Message-Id': '<own@mg.example.com>', 'h:Date': 'Mon, 23 Nov 2020 10:00:00 GMT', 'h:MIME-Version': '1.0', 'h:X-Kept': '1', 'h:X-Mailgun-Tag': 'by-header',
});

add('headers that SES obeys', 'simple', { to: ann, from, subject: 's', text: 'x', 'h:X-SES-CONFIGURATION-SET': 'other-set', 'h:X-SES-MESSAGE-TAGS': 'email-id=evil', 'h:X-Kept': '1' });

add('user variables', 'simple', {
  to: [ann, bob], from, subject: 's', text: 'x', 'v:email-id': 'aaaaaaaaaaaaaaaaaaaaaaaa', 'v:customer': '%recipient.id%', 'v:name': 'Zoë "Q" \\ {{x}}', 'v:json': '{"a":1}',
  'h:X-Mailgun-Variables': '{"from-header":"1"}', 'o:tag': ['news', 'Zweiter Tag', 'ünicode'], 'recipient-variables': { [ann]: { id: '17' }, [bob]: { id: 'Ö{{18}}' } },
});

add('user variables kept from the mail', 'simple', { to: ann, from, subject: 's', text: 'x', 'v:email-id': 'bbbbbbbbbbbbbbbbbbbbbbbb', 'v:a': 'b', 'o:suppress-headers': 'X-Mailgun-Variables' });
add('tracking', 'bulk', { to: [ann, bob], from, subject: 's', html: '<a href="https://example.com/%recipient.a%">x</a>', 'o:tracking': 'yes', 'o:tracking-clicks': 'htmlonly', 'o:tracking-opens': 'no', 'recipient-variables': { [ann]: { a: '1' }, [bob]: { a: '2' } } });
add('no subject, no variables', 'simple', { to: ann, from, text: 'x\n\n' });
add('html only', 'bulk', { to: [ann, bob], from, subject: 's', html: '<p>%recipient.a%</p>\n', 'recipient-variables': { [ann]: { a: '1' }, [bob]: { a: '2' } } });
add('text only, odd lines', 'simple', { to: ann, from, subject: 's', text: `.\n..dot\nFrom here\n  \ttrailing \t\n${'long '.repeat(400)}\n=3D=\n${'ü'.repeat(1500)}\n--\n-- \nend` });
add('anything in a transactional mail', 'simple', { to: [ann, bob], from, subject: '%recipient.a% {{x}}', text: '%recipient.a% %recipient% {{x}} %tag_unsubscribe_email%', html: '%recipient.a%', 'h:X-A': '%recipient.a%' });

add('AMP', 'raw', { to: [ann, bob], from, subject: 's', text: 't %recipient.a%', html: '<p>%recipient.a%</p>', 'amp-html': '<!doctype html><html ⚡4email>%recipient.a%</html>', 'recipient-variables': { [ann]: { a: 'Ä' }, [bob]: { a: '{{x}}' } } });
add('AMP and text only', 'raw', { to: ann, from, subject: 's', text: 't', 'amp-html': '<!doctype html><html ⚡4email>x</html>' });

const pdf = Buffer.concat([Buffer.from('%PDF-1.7\n'), Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 256)), Buffer.from('\r\n.\r\n%%EOF')]);
const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
add('attachments', 'raw', {
  to: ann, from, subject: 'Rechnung für Zoë', text: 't', html: '<p>h</p>',
  attachment: [{ filename: 'invoice.pdf', type: 'application/pdf', data: pdf }, { filename: 'Übersicht — 2026 🦊.txt', type: 'text/plain', data: Buffer.from('Grüße %recipient.a%\r\n') }, { filename: `${'long '.repeat(30)}name.bin`, data: Buffer.from([0, 1, 2, 255]) }],
});
add('inline images', 'raw', { to: ann, from, subject: 's', text: 't', html: '<img src="cid:logo.png"><img src="cid:b-2.png">', inline: [{ filename: 'logo.png', type: 'image/png', data: png }, { filename: 'b-2.png', type: 'image/png', data: Buffer.concat([png, png]) }] });
add('attachments, inline images, AMP and variables', 'raw', {
  to: [ann, bob], from: '"Søhne" <news@mg.example.com>', subject: 'für %recipient.a%', text: 't %recipient.a%', html: '<img src="cid:logo.png">%recipient.a%', 'amp-html': '<html ⚡4email>%recipient.a%</html>',
  inline: [{ filename: 'logo.png', type: 'image/png', data: png }], attachment: [{ filename: 'a.pdf', type: 'application/pdf', data: pdf }],
  'h:List-Unsubscribe': '<%recipient.u%>, <%tag_unsubscribe_email%>', 'recipient-variables': { [ann]: { a: 'Ä\n🦊', u: 'https://example.com/1' }, [bob]: { a: '"', u: 'https://example.com/2' } },
});
add('an attachment and html only', 'raw', { to: ann, from, subject: 's', html: '<p>ü</p>', attachment: [{ filename: 'a.pdf', type: 'application/pdf', data: pdf }] });

add('3 to, 2 cc, 1 bcc', 'simple', { to: [`Ann Ö <${ann}>`, `${bob}, "Cem, C." <${cem}>`], cc: ['Dee <dee@readers.example.net>', 'eve@readers.example.net'], bcc: 'fay@readers.example.net', from, subject: 's', text: 'x' });
add('3 to, 2 cc, 1 bcc, with variables', 'bulk', {
  to: [`Ann Ö <${ann}>`, bob, cem], cc: ['Dee <dee@readers.example.net>', 'eve@readers.example.net'], bcc: 'fay@readers.example.net', from, subject: '%recipient.a%', text: '%recipient.a%',
  'recipient-variables': { [ann]: { a: 'A' }, [bob]: { a: 'B' }, [cem]: { a: 'C' } },
});

const sixty = readers(60, 'three');
add('60 readers without variables', 'raw', { to: [...sixty.slice(0, 55).map((a, i) => (i % 2 ? a : `"Reader, ${i}" <${a}>`)), sixty.slice(55).join(', ')], from, subject: 'all of you', text: 'x', html: '<p>x</p>' });
add('60 readers with variables', 'bulk', {
  to: sixty, from, subject: 'Hi %recipient.n%', text: 'You are %recipient.n%, %recipient.name%.', html: '<p>{%recipient.n%} %recipient.name%</p>', 'v:email-id': 'cccccccccccccccccccccccc',
  'h:List-Unsubscribe': '<https://example.com/u/%recipient.n%>, <%tag_unsubscribe_email%>', 'h:List-Unsubscribe-Post': 'List-Unsubscribe=One-Click',
  'recipient-variables': Object.fromEntries(sixty.map((a, i) => [a, { n: String(i), name: `Zoë {{${i}}} \\` }])),
});

add('a domain beyond ASCII, and a reader whom SES cannot reach', 'bulk', {
  to: [`Bücher <ann@bücher.example>`, 'zoë@readers.example.net', bob], from, subject: 's', text: '%recipient.a%', 'recipient-variables': { 'ann@bücher.example': { a: '1' }, [bob]: { a: '2' } },
});

add('a reader whom SES cannot reach, without variables', 'simple', { to: [ann, 'Zoë <zoë@readers.example.net>', bob], from, subject: 's', text: 'x' });

const section = (i) => `<div style="margin:0{${i}}}">%recipient.name% reads <a href="https://example.com/${i}?m=%recipient.uuid%">Nº ${i} {{x}}</a> — ${'lorem ipsum '.repeat(6)}</div>\n`;
const bigHtml = Array.from({ length: 1800 }, (_, i) => section(i)).join('').slice(0, 300000);
add('300 KB of html with 3,000 placeholders', 'bulk', {
  to: readers(5, 'big'), from, subject: 'big', text: 't %recipient.name%', html: bigHtml,
  'recipient-variables': Object.fromEntries(readers(5, 'big').map((a, i) => [a, { name: `Zoë {{${i}}}`, uuid: `u-${i}` }])),
});
add('1.2 MB of html', 'simple', {
  to: [ann, bob], from, subject: 'bigger', html: `${'ordinary text, and then some more\n'.repeat(36000)}%recipient.a%`, 'recipient-variables': { [ann]: { a: '1' }, [bob]: { a: '2' } },
});

/** Whatever may meet whatever, the same in every run. */
function pieces(seed, count, more = []) {
  const words = ['{', '}', '{{', '}}', '\\', '{{{', '}}}', '%', 'a', ' ', '"', "'", '&', '$&', 'é', '🦊', '<p>', '#if', '{{v5}}', '{{/x}}', '%recipient.zz%', '%recipient.a%', '%recipient.b%', '%recipient.c%', '%recipient.a%', '%recipient.b%', '%tag_unsubscribe_email%', '%unsubscribe_email%', ...more];
  let text = '';
  for (let i = 0, state = seed; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    text += words[Math.floor((state / 2 ** 32) * words.length)];
  }
  return text;
}
for (let seed = 1; seed <= 5; seed++) {
  const lines = ['\n', '\r\n', '\t', '\n.\n'];
  add(`anything beside anything, ${seed}`, 'bulk', {
    to: [ann, bob, cem], from, subject: pieces(seed, 12), html: pieces(seed + 100, 1200, lines), text: pieces(seed + 200, 1200, lines), 'h:X-Own': `x${pieces(seed + 300, 12)}x`.replaceAll(/%recipient\.\w+%/g, '').replaceAll('{', '('),
    'recipient-variables': { [ann]: { a: pieces(seed + 400, 6, lines), b: '{' }, [bob]: { a: '\\', c: pieces(seed + 500, 20, lines) }, [cem]: { b: '}', c: '{{a}}' } },
  });
}

// ---- the model ----

describe('the model of SES', () => {
  const entry = (more) => ({ Destination: { ToAddresses: [ann] }, ReplacementTags: [{ Name: 'a', Value: 'b' }], ...more });
  const call = (html, data = {}, more = {}) => ({
    FromEmailAddress: from, DefaultContent: { Template: { TemplateContent: { Subject: 's', Html: html }, TemplateData: JSON.stringify(data), ...more } }, BulkEmailEntries: [entry()],
  });
  const rendered = async (request) => (await deliveries(request))[0].mail;

  it('renders plain substitutions', async () => {
    const request = call('{{v1}}{ }}{{v2}}', { v1: '{{v2}}<&', v2: '' });
    request.BulkEmailEntries[0].ReplacementEmailContent = { ReplacementTemplate: { ReplacementTemplateData: '{"v2":"\\\\"}' } };
    assert.equal((await rendered(request)).html, '{{v2}}<&{ }}\\');
  });

  it('lets a reader\'s headers replace those of the template', async () => {
    const request = call('x', {}, { Headers: [{ Name: 'X-A', Value: '1' }, { Name: 'X-B', Value: '2' }] });
    request.BulkEmailEntries[0].ReplacementHeaders = [{ Name: 'x-a', Value: '=?utf-8?q?=C3=A4?= =?utf-8?b?w7Y=?=' }];
    assert.deepEqual((await rendered(request)).headers, { 'x-b': ['2'], 'x-a': ['äö'] });
  });

  const header = (Name, Value) => call('x', {}, { Headers: [{ Name, Value }] });
  const mime = (...lines) => ({ Destination: { ToAddresses: [ann] }, Content: { Raw: { Data: Buffer.from(lines.join('\r\n')).toString('base64') } } });
  const head = ['From: a@example.com', `To: ${ann}`, 'Subject: s', 'MIME-Version: 1.0', 'Content-Type: text/plain; charset=utf-8'];
  const bad = {
    'a value that is missing': call('{{v1}}'),
    'a default that is missing': (() => {
      const request = call('{{v1}}');
      request.BulkEmailEntries[0].ReplacementEmailContent = { ReplacementTemplate: { ReplacementTemplateData: '{"v1":"x"}' } };
      return request;
    })(),
    'a block': call('{{#if v1}}x{{/if}}', { v1: '' }), 'a helper': call('{{v1 v1}}', { v1: '' }), 'a triple brace': call('{{{v1}}}', { v1: '' }), 'a brace too many': call('{{v1}}}', { v1: '' }),
    'a backslash at a placeholder': call('\\{{v1}}', { v1: '' }), 'a comment': call('{{! x}}'),
    '51 entries': { ...call('x'), BulkEmailEntries: Array(51).fill(entry()) }, 'more than 1 MB': call('x'.repeat(1000000)),
    '16 headers': call('x', {}, { Headers: Array.from({ length: 16 }, (_, i) => ({ Name: `X-${i}`, Value: '1' })) }),
    'a header beyond ASCII': header('X-A', 'ä'), 'an empty header': header('X-A', ''), 'a header too long': header('X-A', 'x'.repeat(994)), 'a header of SES\'s own': header('Reply-To', 'a@example.com'),
    'half a character in an encoded word': header('X-A', '=?utf-8?q?=C3?= =?utf-8?q?=A4?='), 'an encoded word too long': header('X-A', `=?utf-8?q?${'a'.repeat(70)}?=`), 'braces in a shared header': header('X-A', '{{x}}'),
    'MIME with 8 bits': mime(...head, '', 'ä'), 'MIME with a long line': mime(...head, '', 'x'.repeat(999)), 'MIME with Bcc': mime(`Bcc: ${bob}`, ...head, '', 'x'), 'MIME with two From': mime('From: b@example.com', ...head, '', 'x'),
    'quoted-printable with a long line': mime(...head, 'Content-Transfer-Encoding: quoted-printable', '', 'x'.repeat(77)), 'quoted-printable with a blank at the end': mime(...head, 'Content-Transfer-Encoding: quoted-printable', 'X-A: b', '', 'x ', 'y'),
    'MIME with a bare line feed': mime(...head, '', 'x\ny'), 'MIME with orders to SES': mime('X-SES-CONFIGURATION-SET: x', ...head, '', 'x'),
  };
  it('takes what is as it should be', async () => {
    for (const request of [call('x'), header('X-A', 'x'.repeat(993)), call('x'.repeat(999000)), mime(...head, '', 'x'.repeat(998)), mime(...head, 'Content-Transfer-Encoding: quoted-printable', '', 'x'.repeat(76), 'x=20', '')])
      await deliveries(request);
  });
  for (const [what, request] of Object.entries(bad)) it(`does not take ${what}`, () => assert.rejects(deliveries(request)));

  it('reads MIME', async () => {
    const mail = await rendered(mime(
      'From: =?utf-8?q?S=C3=B8hne?= <a@example.com>', `To: "Ann, A." <${ann}>`, 'Cc: b@example.com', 'Reply-To: c@example.com', 'Subject: =?utf-8?b?w7Y=?=', ' =?utf-8?b?w7Y=?= x', 'X-A: one', ' two', 'MIME-Version: 1.0',
      'Content-Type: multipart/mixed; boundary=m', '', '--m', 'Content-Type: multipart/related; boundary=r', '', '--r', 'Content-Type: multipart/alternative; boundary="a"', '',
      '--a', 'Content-Type: text/plain; charset=utf-8', 'Content-Transfer-Encoding: quoted-printable', '', '=C3=A4=20=', 'b', '', '--a', 'Content-Type: text/x-amp-html; charset=utf-8', '', 'amp',
      '--a', 'Content-Type: text/html; charset=utf-8', 'Content-Transfer-Encoding: base64', '', 'w6Q=', '--a--', '--r', 'Content-Type: image/png; name=l.png', 'Content-ID: <l.png>', 'Content-Disposition: inline; filename=l.png', 'Content-Transfer-Encoding: base64', '', 'AAEC', '--r--',
      '--m', 'Content-Type: application/pdf', "Content-Disposition: attachment; filename*=utf-8''%C3%9C.pdf", 'Content-Transfer-Encoding: base64', '', 'AAE=', '--m--', ''));
    assert.deepEqual(mail.from, [{ name: 'Søhne', address: 'a@example.com' }]);
    assert.deepEqual([mail.to, mail.cc, mail.replyTo], [[{ name: 'Ann, A.', address: ann }], [{ name: '', address: 'b@example.com' }], [{ name: '', address: 'c@example.com' }]]);
    assert.deepEqual([mail.subject, mail.text, mail.amp, mail.html, mail.headers], ['öö x', 'ä b', 'amp', 'ä', { 'x-a': ['one two'] }]);
    assert.deepEqual(mail.attachments.map(({ filename, type, cid, inline }) => ({ filename, type, cid, inline })), [
      { filename: 'l.png', type: 'image/png', cid: 'l.png', inline: true }, { filename: 'Ü.pdf', type: 'application/pdf', cid: undefined, inline: false },
    ]);
  });
});

// ---- the runs ----

/** The ways to try: POSTERN_WAYS=simple tries that alone. */
const built = new Set((process.env.POSTERN_WAYS ?? 'bulk,simple,raw').split(','));
const wayUnder = {
  auto: (ways) => ways,
  simple: (ways) => [...new Set(ways.map((way) => (way === 'bulk' ? 'simple' : way)))],
  raw: () => ['raw'],
};

/** Postern's tags, as the things that they carry. */
function readTags({ 'postern-batch': batch, 'postern-rcpt': index, 'email-id': emailId, 'postern-meta': meta, ...rest }) {
  assert.deepEqual(rest, {}, 'tags');
  assert.match(batch, /^[0-9a-f]{16}$/);
  return { index: Number(index), ...(emailId === undefined ? {} : { emailId }), meta: Buffer.from(meta ?? '', 'base64url').toString().split('\n') };
}

const order = (a, b) => (`${a.rcpt} ${a.mail.to[0].address}` < `${b.rcpt} ${b.mail.to[0].address}` ? -1 : 1);
/** A difference inside 300 KB is shown by its surroundings. */
function assertSame(actual, wanted, at) {
  if (typeof actual === 'string' && typeof wanted === 'string' && actual !== wanted && wanted.length > 500) {
    let i = 0;
    while (actual[i] === wanted[i]) i++;
    assert.deepEqual(actual.slice(Math.max(0, i - 40), i + 80), wanted.slice(Math.max(0, i - 40), i + 80), `${at}, at character ${i}`);
  } else if (actual && wanted && typeof actual === 'object' && typeof wanted === 'object' && !Array.isArray(wanted)) {
    for (const name of new Set([...Object.keys(wanted), ...Object.keys(actual)])) assertSame(actual[name], wanted[name], `${at}: ${name}`);
  } else {
    assert.deepEqual(actual, wanted, at);
  }
}

describe('one mail, three ways', { concurrency: 3 }, () => {
  for (const strategy of ['auto', 'simple', 'raw'])
    describe(`strategy ${strategy}`, { concurrency: 1 }, () => {
      let postern;
      let sandbox;
      before(async () => {
        sandbox = await startSandbox(['--set', 'max_send_rate=100000', '--set', 'local_parts=0']);
        await sandbox.set({ bounce_rate: 0, soft_bounce_rate: 0, complaint_rate: 0, open_rate: 0, click_rate: 0, delay_rate: 0 });
        postern = await Postern.start({
          sandbox,
          sections: { sender: `strategy = "${strategy}"` },
          domains: { 'mg.example.com': [key], 'mg2.example.com': [key] },
        });
      });
      after(async () => {
        await postern?.stop();
        sandbox?.child.kill('SIGTERM');
        await sandbox?.child.ended;
      });

      for (const fixture of fixtures)
        it(fixture.name, async (t) => {
          await fetch(`${sandbox.url}/_sandbox/reset`, { method: 'POST' });
          const ways = wayUnder[strategy](fixture.auto);
          if (!ways.every((way) => built.has(way))) return t.skip('not one of POSTERN_WAYS');
          const answer = await postern.post(multipart(fixture.fields), { domain: fixture.domain });
          const text = await answer.text();
          assert.equal(answer.status, 200, text);
          const wanted = expected(fixture.fields, { domain: fixture.domain, messageId: JSON.parse(text).id });
          // At SES, or in the books as what will not go there.
          const settled = () => isSettled(postern.batches());
          const arrived = async () => (await sandbox.stats()).accepted_recipients >= wanted.length && wanted.length > 0;
          await waitFor('the mails', async () => (await arrived()) || (await new Promise((resolve) => setTimeout(resolve, 100)), (await arrived()) || settled()), 10000, 5);

          const requests = new Map(); // a bulk call is kept once per entry
          for (const { request } of await sandbox.messages()) requests.set(JSON.stringify(request), request);
          const got = (await Promise.all([...requests.values()].map(deliveries))).flat();
          assert.deepEqual(got.map((one) => `${one.rcpt} of ${one.mail.to[0].address}`).sort(), wanted.map((one) => `${one.rcpt} of ${one.mail.to[0].address}`).sort());
          assert.equal(new Set(got.map((one) => one.mail.tags['postern-batch'])).size <= 1, true, 'mails of another batch');
          got.sort(order);
          wanted.sort(order);
          const separate = fixture.fields.some((f) => f.name === 'recipient-variables');
          for (const [i, { rcpt, mail }] of got.entries()) {
            const shown = { ...mail, tags: readTags(mail.tags) };
            if (!separate) shown.tags.index = wanted[i].mail.tags.index; // of the first one in the call
            assertSame(shown, wanted[i].mail, rcpt);
          }
          if (wanted.length > 0)
            assert.deepEqual([...new Set([...requests.values()].map(wayOf))].sort(), ways.sort(), 'the calls');
        });

      it('the books say the same', async () => {
        await waitFor('the books', () => isSettled(postern.batches()), 10000);
        assert.ok(postern.batches().every((b) => b.unaccounted === 0));
      });
    });
});
