// Where AWS credentials come from, as AWS's documentation describes it (spec/aws.md §3), with nothing of Postern in it:
// EC2 instance metadata (version 2), a container's endpoint, STS. And a judge: every call to SES, SQS and STS is checked
// against what was handed out, with AWS's own signing code.
//
// SHAPE   One server on a free port of the loopback interface, inside the test's own process. Its fields may be changed
//         at any time and hold from the next request on.
// JUDGE   A call with an unknown, expired or revoked key is refused as AWS does it, and counted. A wrong signature, token
//         or region is an entry in `wrong`, which tests expect to be empty.
import http from 'node:http';
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';

const { SignatureV4 } = createRequire(import.meta.url)('@smithy/signature-v4');
const ACCOUNT = '111122223333';

class Sha256 {
  constructor(secret) {
    this.hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret);
  }
  update(data) {
    this.hash.update(data);
  }
  async digest() {
    return this.hash.digest();
  }
}

const isoSeconds = (ms) => new Date(ms).toISOString().replace(/\.\d+/, '');

export class FakeSources {
  static async start(options = {}) {
    const s = new FakeSources();
    Object.assign(s, {
      region: 'us-east-1',
      role: 'mail', // of the instance; undefined = none is attached
      lifeMs: 3600000,
      freshAt: 0.55, // a new one is handed out once less than this share of the old one's life is left
      metadataDown: false, // connections are closed
      metadataOff: false, // 403 for the token
      containerToken: undefined, // what Authorization must be
      webToken: undefined, // what the web identity must be
      externalId: undefined,
      stsFails: 0, // so many calls are answered with 503
      issued: new Map(), // by access key id: { secret, token, expiresMs, role, revoked }
      wrong: [],
      refused: { expired: 0, unknown: 0 },
      calls: { token: 0, role: 0, document: 0, region: 0, container: 0, AssumeRole: 0, AssumeRoleWithWebIdentity: 0, judged: 0 },
      sts: [], // the fields of every call that was granted
      tokens: new Set(),
      serial: 0,
      current: undefined,
      ...options,
    });
    s.server = http.createServer((req, res) => s.onRequest(req, res));
    await new Promise((resolve) => s.server.listen(0, '127.0.0.1', resolve));
    s.url = `http://127.0.0.1:${s.server.address().port}`;
    return s;
  }
  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  // ---- credentials ----

  issue(role, { lifeMs = this.lifeMs, id = `ASIA${String(++this.serial).padStart(8, '0')}` } = {}) {
    const secret = `sEcReT${randomBytes(18).toString('base64')}`;
    const token = lifeMs === Infinity ? undefined : `tOkEn${randomBytes(300).toString('base64')}`;
    // Times are told in whole seconds.
    const expiresMs = lifeMs === Infinity ? Infinity : Math.floor((Date.now() + lifeMs) / 1000) * 1000;
    const one = { id, secret, token, expiresMs, bornMs: Date.now(), role, revoked: false };
    this.issued.set(id, one);
    return one;
  }
  /** Everything that nobody else may ever see. */
  secrets() {
    return [...this.issued.values()].flatMap(({ secret, token }) => (token ? [secret, token] : [secret]));
  }
  revokeAll() {
    for (const one of this.issued.values()) one.revoked = true;
    this.current = undefined;
  }
  document(one) {
    return { Code: 'Success', LastUpdated: isoSeconds(one.bornMs), Type: 'AWS-HMAC', AccessKeyId: one.id, SecretAccessKey: one.secret, Token: one.token, Expiration: isoSeconds(one.expiresMs) };
  }
  /** The same until it is about to expire, as the metadata service does. */
  ofRole(role) {
    const c = this.current;
    if (!c || c.role !== role || (c.expiresMs - Date.now()) / (c.expiresMs - c.bornMs) < this.freshAt) this.current = this.issue(role);
    return this.current;
  }

  // ---- judging ----

  /** What is wrong with a signed call: nothing, or { status, code, text }. */
  async judge(req, body, service) {
    this.calls.judged++;
    const m = /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)$/.exec(req.headers.authorization ?? '');
    if (!m) return { status: 403, code: 'MissingAuthenticationToken', text: 'Missing Authentication Token' };
    const [, id, , region, scopeService, names, signature] = m;
    const one = this.issued.get(id);
    if (!one || one.revoked) {
      this.refused.unknown++;
      return { status: 403, code: service === 'sts' ? 'InvalidClientTokenId' : 'UnrecognizedClientException', text: 'The security token included in the request is invalid.' };
    }
    const date = (req.headers['x-amz-date'] ?? '').replace(/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/, '$1-$2-$3T$4:$5:$6Z');
    if (Date.now() >= one.expiresMs) {
      // One that was signed in time may come late on a busy machine: that is nobody's fault.
      if (!(new Date(date).getTime() < one.expiresMs)) this.refused.expired++;
      return { status: 403, code: service === 'sts' ? 'ExpiredToken' : 'ExpiredTokenException', text: 'The security token included in the request is expired' };
    }
    const problems = [];
    if (region !== this.region) problems.push(`region ${region}`);
    if (scopeService !== service) problems.push(`service ${scopeService}`);
    if (req.headers['x-amz-security-token'] !== one.token) problems.push('session token');
    const signedNames = names.split(';');
    for (const name of ['host', 'x-amz-date', ...(one.token ? ['x-amz-security-token'] : [])])
      if (!signedNames.includes(name)) problems.push(`${name} is not signed`);
    const signer = new SignatureV4({ credentials: { accessKeyId: id, secretAccessKey: one.secret, sessionToken: one.token }, region: this.region, service, sha256: Sha256, applyChecksum: false });
    const headers = Object.fromEntries(signedNames.filter((n) => n !== 'x-amz-date').map((n) => [n, req.headers[n]]));
    const [pathname, query] = req.url.split('?');
    const signed = await signer.sign(
      { method: req.method, protocol: 'http:', hostname: '127.0.0.1', path: pathname, headers, body, query: Object.fromEntries(new URLSearchParams(query ?? '')) },
      { signingDate: new Date(date) },
    );
    if (!signed.headers.authorization.endsWith(`Signature=${signature}`)) problems.push('signature');
    if (problems.length > 0) {
      this.wrong.push({ service, url: req.url, problems });
      return { status: 403, code: 'SignatureDoesNotMatch', text: problems.join(', ') };
    }
    return undefined;
  }
  /** Puts the judge in front of a FakeAws. */
  guard(aws) {
    const route = aws.route.bind(aws);
    aws.route = async (req, res, body) => {
      const service = req.headers['x-amz-target'] ? 'sqs' : 'ses';
      const wrong = await this.judge(req, body, service);
      if (!wrong) return route(req, res, body);
      aws.answer(res, wrong.status, { message: wrong.text }, { 'x-amzn-ErrorType': wrong.code });
    };
  }

  // ---- HTTP ----

  onRequest(req, res) {
    const chunks = [];
    req.on('error', () => {});
    res.on('error', () => {});
    req.on('data', (d) => chunks.push(d));
    req.on('end', () => {
      this.route(req, res, Buffer.concat(chunks)).catch((e) => {
        this.wrong.push({ url: req.url, problems: [String(e)] });
        res.destroy();
      });
    });
  }
  async route(req, res, body) {
    if (req.url.startsWith('/latest/')) return this.metadata(req, res);
    if (req.url.startsWith('/container')) return this.container(req, res);
    if (req.url === '/' && req.method === 'POST') return this.security(req, res, body);
    this.wrong.push({ url: `${req.method} ${req.url}`, problems: ['nobody asks for that'] });
    res.writeHead(404).end();
  }
  metadata(req, res) {
    const text = (status, content = '') => res.writeHead(status, { 'Content-Type': 'text/plain' }).end(content);
    if (this.metadataDown) return res.destroy();
    if (req.url === '/latest/api/token') {
      this.calls.token++;
      if (req.method !== 'PUT' || !/^\d+$/.test(req.headers['x-aws-ec2-metadata-token-ttl-seconds'] ?? '') || req.headers['content-length'] !== '0')
        this.wrong.push({ url: `${req.method} ${req.url}`, problems: ['no request for a token'] });
      if (req.headers['x-forwarded-for'] || this.metadataOff) return text(403);
      const token = randomBytes(24).toString('base64');
      this.tokens.add(token);
      return text(200, token);
    }
    if (req.method !== 'GET') return text(405);
    if (!this.tokens.has(req.headers['x-aws-ec2-metadata-token'])) return text(401);
    const at = '/latest/meta-data/iam/security-credentials/';
    if (req.url === '/latest/meta-data/placement/region') {
      this.calls.region++;
      return text(200, this.region);
    }
    if (req.url === at) {
      this.calls.role++;
      return this.role ? text(200, `${this.role}\n`) : text(404);
    }
    if (req.url === at + this.role) {
      this.calls.document++;
      return text(200, JSON.stringify(this.document(this.ofRole(this.role)), null, 2));
    }
    return text(404);
  }
  container(req, res) {
    this.calls.container++;
    if (req.headers.authorization !== this.containerToken) return res.writeHead(401).end();
    if (!/application\/json/.test(req.headers.accept ?? '')) this.wrong.push({ url: req.url, problems: [`Accept: ${req.headers.accept}`] });
    const { Code, LastUpdated, Type, ...document } = this.document(this.issue('task'));
    res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ RoleArn: `arn:aws:iam::${ACCOUNT}:role/task`, ...document }));
  }
  async security(req, res, body) {
    const fields = Object.fromEntries(new URLSearchParams(body.toString()));
    const xml = (status, content) => res.writeHead(status, { 'Content-Type': 'text/xml', Date: new Date().toUTCString() }).end(content);
    const refuse = (status, code, words) =>
      xml(status, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>${code}</Code><Message>${words}</Message></Error><RequestId>r</RequestId></ErrorResponse>`);
    const { Action } = fields;
    this.calls[Action]++;
    if (this.stsFails > 0) {
      this.stsFails--;
      return xml(503, '');
    }
    if (fields.Version !== '2011-06-15' || !/^arn:aws:iam::\d{12}:role\/\w+$/.test(fields.RoleArn) || !/^[\w+=,.@-]{2,64}$/.test(fields.RoleSessionName ?? ''))
      return refuse(400, 'ValidationError', JSON.stringify(fields).replaceAll('"', '&quot;'));
    if (Action === 'AssumeRole') {
      const wrong = await this.judge(req, body, 'sts');
      if (wrong) return refuse(wrong.status, wrong.code, wrong.text);
      if (fields.ExternalId !== this.externalId) return refuse(403, 'AccessDenied', 'not authorized to perform: sts:AssumeRole');
      fields.by = /Credential=([^/]+)/.exec(req.headers.authorization)[1];
    } else if (Action === 'AssumeRoleWithWebIdentity') {
      if (req.headers.authorization) this.wrong.push({ url: Action, problems: ['it is signed'] });
      if (fields.WebIdentityToken !== this.webToken) return refuse(400, 'InvalidIdentityToken', 'No OpenIDConnect provider found');
    } else {
      return refuse(400, 'InvalidAction', Action);
    }
    const role = fields.RoleArn.split('/')[1];
    const one = this.issue(role);
    this.sts.push(fields);
    xml(
      200,
      `<${Action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <${Action}Result>
    <AssumedRoleUser><AssumedRoleId>AROA:${fields.RoleSessionName}</AssumedRoleId><Arn>arn:aws:sts::${ACCOUNT}:assumed-role/${role}/${fields.RoleSessionName}</Arn></AssumedRoleUser>
    <Credentials><AccessKeyId>${one.id}</AccessKeyId><SecretAccessKey>${one.secret}</SecretAccessKey><SessionToken>${one.token}</SessionToken><Expiration>${isoSeconds(one.expiresMs)}</Expiration></Credentials>
  </${Action}Result>
  <ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata>
</${Action}Response>`,
    );
  }
}
