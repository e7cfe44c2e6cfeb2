// AWS as its documentation describes it (spec/aws.md §4-9), for tests that need it to misbehave: SES v2 and one SQS
// queue over plain node:http, with nothing of Postern in it. It counts what each reader was accepted for.
//
// SHAPE   One server for both services, on a free port of the loopback interface, inside the test's own process:
//         `trouble` may be changed at any time and holds from the next request on.
// EVENTS  Send and Delivery of each accepted mail, in SNS's envelope, trouble.eventDelayMs after the acceptance.
import http from 'node:http';
import { createHash } from 'node:crypto';

const ENTRIES_MAX = 50;
const CLOCK_TOLERANCE_MS = 300000;
const RECEIVE_MAX = 10;
const ACCOUNT = '111122223333';

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const md5 = (text) => createHash('md5').update(text).digest('hex');
const isoBasic = (ms) => new Date(ms).toISOString().replace(/[-:]|\.\d+/g, '');

/** What SES answers instead of taking a mail. */
class Refusal {
  constructor(status, code, text) {
    Object.assign(this, { status, code, text });
  }
}

const quotaRefusal = () => new Refusal(400, 'LimitExceededException', 'Daily message quota exceeded.');

/** Everything that can be wrong; shares are of 1. */
export const noTrouble = () => ({
  latencyMs: 2,
  rate: Infinity, // recipients a second that are let through: a bucket as large as a second's worth
  wholeCalls: false, // a bulk call that the bucket cannot take whole is refused whole
  toldRate: 5000, // what GetAccount says
  fail: 0, // answered with failStatus, nothing accepted
  failStatus: 503,
  loseAnswer: 0, // accepted, then the connection is closed: before the answer, or within it
  garble: 0, // accepted, and answered with 200 and something else than was promised
  reset: 0, // closed before anything is accepted
  cutBytes: Infinity, // a request with a longer body is closed when the first of it arrives
  slow: 0, // accepted at once, answered after slowMs
  slowEach: Infinity, // the same for each so manieth call: by chance none of a few may be slow
  slowMs: 60000,
  entry: undefined, // (address, domain) => the status of that bulk entry; nothing = as usual
  quota: Infinity, // recipients that the day has left
  account: undefined, // 'AccountSuspendedException' or 'SendingPausedException'
  unverified: new Set(), // sending domains, and addresses of senders
  verifiedReaders: undefined, // a Set: the account is in its sandbox, and takes mail to these alone
  expiredKeys: new Set(), // access key ids
  clockOffsetMs: 0, // of AWS's clock against this machine's
  refuse: undefined, // (subject) => the text of a BadRequestException
  eventDelayMs: 20,
  holdEvents: false, // kept back until it is false again
  eventShare: 1, // of the sends; the others never get an event
  loseReceive: 0, // of ReceiveMessage's answers: the messages are out of sight all the same
  longPollMs: 20000, // the longest a poll without messages waits here
  deafPollMs: 0, // how long a poll whose client is gone goes on taking messages
});

const notVerified = (identities) =>
  `Email address is not verified. The following identities failed the check in region US-EAST-1: ${identities.join(', ')}`;
const bare = (text) => /<([^>]+)>/.exec(text)?.[1] ?? text;

class Queue {
  constructor(aws) {
    this.aws = aws;
    this.messages = new Map(); // by id
    this.waiting = [];
    this.serial = 0;
    this.deleted = 0;
    this.timer = undefined;
  }
  /** waitedMs: it has stood there for so long already. */
  put(body, waitedMs = 0) {
    const id = `m${++this.serial}`;
    this.messages.set(id, { id, body, sentMs: Date.now() - waitedMs, visibleMs: 0, receives: 0, handle: undefined });
    this.serve();
  }
  take(most, visibilityS) {
    const now = Date.now();
    const found = [];
    for (const m of this.messages.values()) {
      if (m.visibleMs > now) continue;
      m.visibleMs = now + visibilityS * 1000;
      m.receives++;
      m.handle = `${m.id}.${m.receives}`;
      found.push(m);
      if (found.length === most) break;
    }
    return found.map((m) => ({
      MessageId: m.id,
      ReceiptHandle: m.handle,
      MD5OfBody: md5(m.body),
      Body: m.body,
      Attributes: {
        ApproximateReceiveCount: String(m.receives),
        SentTimestamp: String(m.sentMs),
        ApproximateFirstReceiveTimestamp: String(now),
      },
    }));
  }
  serve() {
    const now = Date.now();
    this.waiting = this.waiting.filter((w) => {
      if (w.goneMs !== undefined && now >= w.goneMs) return false;
      const list = this.take(w.most, w.visibilityS);
      if (list.length === 0 && now < w.untilMs) return true;
      w.resolve(list);
      return false;
    });
    clearTimeout(this.timer);
    if (this.waiting.length > 0) this.timer = setTimeout(() => this.serve(), 50);
  }
  receive({ MaxNumberOfMessages = 1, WaitTimeSeconds = 0, VisibilityTimeout = 30 }, connection) {
    const { deafPollMs, longPollMs } = this.aws.trouble;
    return new Promise((resolve) => {
      const w = {
        most: Math.min(MaxNumberOfMessages, RECEIVE_MAX),
        visibilityS: VisibilityTimeout,
        untilMs: Date.now() + Math.min(WaitTimeSeconds * 1000, longPollMs),
        goneMs: undefined,
        resolve,
      };
      connection.once('close', () => (w.goneMs = Date.now() + deafPollMs));
      this.waiting.push(w);
      this.serve();
    });
  }
  byHandle(handle) {
    const m = this.messages.get(String(handle).split('.')[0]);
    return m?.handle === handle ? m : undefined;
  }
  remove(handle) {
    const m = this.byHandle(handle);
    if (m && this.messages.delete(m.id)) this.deleted++;
  }
  hide(handle, seconds) {
    const m = this.byHandle(handle);
    if (m) m.visibleMs = Date.now() + seconds * 1000;
    this.serve();
  }
  attributes() {
    const hidden = [...this.messages.values()].filter((m) => m.visibleMs > Date.now()).length;
    return {
      QueueArn: `arn:aws:sqs:us-east-1:${ACCOUNT}:events`,
      ApproximateNumberOfMessages: String(this.messages.size - hidden),
      ApproximateNumberOfMessagesNotVisible: String(hidden),
      ApproximateNumberOfMessagesDelayed: '0',
      VisibilityTimeout: '30',
    };
  }
}

let turnedMs = performance.now();
setInterval(() => (turnedMs = performance.now()), 5).unref();

export class FakeAws {
  /** trouble: from the start. seed: of what is random. */
  static async start({ trouble = {}, seed = 1 } = {}) {
    const aws = new FakeAws();
    aws.trouble = { ...noTrouble(), ...trouble };
    aws.state = seed >>> 0;
    aws.queue = new Queue(aws);
    aws.accepted = []; // in order: { address, emailId, domain, way, call, subject, atMs, mail }
    aws.counts = new Map(); // "email-id address" → how often accepted
    aws.throttled = 0; // recipients
    aws.asked = 0; // recipients in all calls
    aws.calls = { bulk: 0, simple: 0, raw: 0, account: 0, refused: 0, lost: 0, reset: 0, cut: 0, slow: 0 };
    aws.refusedSenders = []; // calls: { sender, atMs }
    aws.keptBack = [];
    aws.timers = new Set();
    aws.tokens = undefined;
    aws.server = http.createServer((req, res) => aws.onRequest(req, res));
    aws.server.keepAliveTimeout = 60000;
    await new Promise((resolve) => aws.server.listen(0, '127.0.0.1', resolve));
    aws.url = `http://127.0.0.1:${aws.server.address().port}`;
    aws.queueUrl = `${aws.url}/${ACCOUNT}/events`;
    return aws;
  }
  async stop() {
    for (const t of this.timers) clearTimeout(t);
    clearTimeout(this.queue.timer);
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
  set(changes) {
    Object.assign(this.trouble, changes);
    if (!this.trouble.holdEvents) for (const publish of this.keptBack.splice(0)) publish();
  }
  /** A number from [0, 1), of a generator of our own: a run can be repeated. */
  random() {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return this.state / 2 ** 32;
  }
  later(ms, what) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      what();
    }, ms);
    this.timers.add(timer);
  }

  // ---- HTTP ----

  onRequest(req, res) {
    const chunks = [];
    if (Number(req.headers['content-length']) > this.trouble.cutBytes) {
      this.calls.cut++;
      return req.socket.resetAndDestroy();
    }
    req.on('error', () => {});
    res.on('error', () => {});
    req.on('data', (d) => chunks.push(d));
    req.on('end', () => {
      const body = Buffer.concat(chunks);
      this.route(req, res, body).catch((e) => {
        if (e instanceof Refusal) return this.refuse(res, e);
        this.brokenBy = e;
        console.error(e);
        res.destroy();
      });
    });
  }
  now() {
    return Date.now() + this.trouble.clockOffsetMs;
  }
  answer(res, status, object, headers = {}) {
    if (res.destroyed) return;
    res.writeHead(status, {
      'Content-Type': 'application/json',
      Date: new Date(this.now()).toUTCString(),
      'x-amzn-RequestId': `r${Math.floor(this.random() * 1e9)}`,
      ...headers,
    });
    res.end(JSON.stringify(object));
  }
  refuse(res, { status, code, text }) {
    this.calls.refused++;
    this.answer(res, status, { message: text }, { 'x-amzn-ErrorType': code });
  }
  authenticate(req) {
    const key = /Credential=([^/]+)\//.exec(req.headers.authorization ?? '')?.[1];
    if (!key) throw new Refusal(403, 'MissingAuthenticationTokenException', 'Missing Authentication Token');
    if (this.trouble.expiredKeys.has(key))
      throw new Refusal(403, 'ExpiredTokenException', 'The security token included in the request is expired');
    const date = req.headers['x-amz-date'] ?? '';
    const iso = date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z');
    const off = Date.parse(iso) - this.now();
    if (!(Math.abs(off) <= CLOCK_TOLERANCE_MS)) {
      const [now, edge] = [isoBasic(this.now()), isoBasic(this.now() - Math.sign(off) * -1 * CLOCK_TOLERANCE_MS)];
      throw new Refusal(
        403,
        'InvalidSignatureException',
        off < 0
          ? `Signature expired: ${date} is now earlier than ${edge} (${now} - 5 min.)`
          : `Signature not yet current: ${date} is still later than ${edge} (${now} + 5 min.)`,
      );
    }
    return key;
  }
  async route(req, res, body) {
    const target = /^AmazonSQS\.(\w+)$/.exec(req.headers['x-amz-target'] ?? '')?.[1];
    this.authenticate(req);
    if (target) return this.sqs(target, JSON.parse(body), req, res);
    if (req.method === 'GET' && req.url === '/v2/email/account') {
      this.calls.account++;
      return this.answer(res, 200, this.account());
    }
    if (req.method === 'POST' && req.url === '/v2/email/outbound-emails') return this.send(JSON.parse(body), res, false);
    if (req.method === 'POST' && req.url === '/v2/email/outbound-bulk-emails') return this.send(JSON.parse(body), res, true);
    if (req.method === 'DELETE' && req.url.startsWith('/v2/email/suppression/addresses/'))
      throw new Refusal(404, 'NotFoundException', 'Email address does not exist on your suppression list.');
    throw new Refusal(404, 'UnknownOperationException', `${req.method} ${req.url}`);
  }

  // ---- SQS ----

  async sqs(target, request, req, res) {
    const { queue } = this;
    if (request.QueueUrl !== this.queueUrl)
      return this.answer(res, 400, { __type: 'com.amazonaws.sqs#QueueDoesNotExist', message: 'The specified queue does not exist.' });
    const each = (act) => {
      for (const e of request.Entries) act(e);
      return this.answer(res, 200, { Successful: request.Entries.map(({ Id }) => ({ Id })), Failed: [] });
    };
    switch (target) {
      case 'ReceiveMessage': {
        const list = await queue.receive(request, res);
        if (list.length > 0 && this.random() < this.trouble.loseReceive) {
          this.calls.lost++;
          return res.destroy();
        }
        return this.answer(res, 200, list.length === 0 ? {} : { Messages: list });
      }
      case 'DeleteMessage':
        queue.remove(request.ReceiptHandle);
        return this.answer(res, 200, {});
      case 'DeleteMessageBatch':
        return each((e) => queue.remove(e.ReceiptHandle));
      case 'ChangeMessageVisibility':
        queue.hide(request.ReceiptHandle, request.VisibilityTimeout);
        return this.answer(res, 200, {});
      case 'ChangeMessageVisibilityBatch':
        return each((e) => queue.hide(e.ReceiptHandle, e.VisibilityTimeout));
      case 'GetQueueAttributes':
        return this.answer(res, 200, { Attributes: queue.attributes() });
      default:
        return this.answer(res, 400, { __type: 'com.amazonaws.sqs#UnsupportedOperation', message: target });
    }
  }

  // ---- SES ----

  account() {
    return {
      DedicatedIpAutoWarmupEnabled: false,
      EnforcementStatus: 'HEALTHY',
      ProductionAccessEnabled: true,
      SendQuota: { Max24HourSend: 1000000.0, MaxSendRate: this.trouble.toldRate, SentLast24Hours: this.accepted.length },
      SendingEnabled: true,
    };
  }
  /**
   * How many of n recipients the bucket lets through now. A request may have come at any time since this process last
   * turned to anything: what the bucket would have been given since then does not run over.
   */
  allow(n, justAsking = false) {
    const { rate } = this.trouble;
    const now = performance.now();
    if (rate === Infinity) return n;
    const filled = this.filledMs ?? now;
    const turned = Math.max(filled, turnedMs);
    this.tokens ??= rate;
    this.tokens = Math.max(this.tokens, Math.min(rate, this.tokens + ((turned - filled) * rate) / 1000));
    this.tokens += ((now - turned) * rate) / 1000;
    this.filledMs = now;
    const allowed = Math.min(n, Math.floor(this.tokens));
    if (!justAsking) this.tokens -= allowed;
    return allowed;
  }
  async send(request, res, bulk) {
    const t = this.trouble;
    const way = bulk ? 'bulk' : request.Content.Raw ? 'raw' : 'simple';
    const call = ++this.calls[way];
    const domain = /@([^>\s]+)>?\s*$/.exec(request.FromEmailAddress ?? '')?.[1] ?? '';
    const content = bulk ? request.DefaultContent.Template.TemplateContent : (request.Content.Simple ?? {});
    const mails = bulk
      ? request.BulkEmailEntries.map((e) => ({ to: e.Destination.ToAddresses, tags: e.ReplacementTags ?? [] }))
      : [
          {
            to: ['ToAddresses', 'CcAddresses', 'BccAddresses'].flatMap((k) => request.Destination[k] ?? []),
            tags: request.EmailTags ?? [],
          },
        ];
    const size = mails.reduce((n, m) => n + m.to.length, 0);
    this.asked += size;
    await sleep(t.latencyMs);
    if (this.random() < t.reset) {
      this.calls.reset++;
      return res.socket?.resetAndDestroy?.() ?? res.destroy();
    }
    if (this.random() < t.fail) throw new Refusal(t.failStatus, 'InternalServiceErrorException', 'Please try again.');
    if (t.account) throw new Refusal(400, t.account, 'Sending paused for this account. For more information, please check the inbox of the email address associated with your AWS account.');
    const sender = bare(request.FromEmailAddress ?? '');
    if (t.unverified.has(domain) || t.unverified.has(sender)) {
      this.refusedSenders.push({ sender, atMs: Date.now() });
      throw new Refusal(400, 'MessageRejected', notVerified([request.FromEmailAddress, domain]));
    }
    const subject = content.Subject?.Data ?? content.Subject ?? '';
    const wrong = t.refuse?.(subject);
    if (wrong) throw new Refusal(400, 'BadRequestException', wrong);
    if (mails.length > ENTRIES_MAX) throw new Refusal(400, 'BadRequestException', 'Too many entries');
    if (t.quota <= 0) throw quotaRefusal();
    if (t.wholeCalls && this.allow(size, true) < size) {
      this.throttled += size;
      throw new Refusal(429, 'TooManyRequestsException', 'Maximum sending rate exceeded.');
    }

    const common = { way, call, domain, source: request.FromEmailAddress, subject, set: request.ConfigurationSetName };
    const headers = bulk ? [] : (request.Content.Simple?.Headers ?? []);
    const results = mails.map((m) => this.sendOne(m, bulk, { ...common, headers }));
    if (!bulk && results[0] instanceof Refusal) throw results[0];
    if (this.random() < t.loseAnswer) {
      this.calls.lost++;
      if (this.random() < 0.5) return res.destroy();
      res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': '500' });
      return res.write('{', () => res.destroy());
    }
    if (bulk && this.random() < t.garble) {
      this.calls.lost++;
      return this.answer(res, 200, { BulkEmailEntryResults: results.slice(1) });
    }
    if (call % t.slowEach === 0 || this.random() < t.slow) {
      this.calls.slow++;
      return this.later(t.slowMs, () => this.answer(res, 200, bulk ? { BulkEmailEntryResults: results } : results[0]));
    }
    this.answer(res, 200, bulk ? { BulkEmailEntryResults: results } : results[0]);
  }
  sendOne({ to, tags }, bulk, common) {
    const t = this.trouble;
    const strangers = t.verifiedReaders ? to.filter((text) => !t.verifiedReaders.has(bare(text))) : [];
    if (strangers.length > 0)
      return bulk ? { Status: 'MESSAGE_REJECTED', Error: notVerified(strangers) } : new Refusal(400, 'MessageRejected', notVerified(strangers));
    const special = bulk && t.entry?.(to[0], common.domain);
    if (special && special !== 'SUCCESS') return { Status: special, Error: `${special} for ${to[0]}` };
    if (t.quota < to.length) return bulk ? { Status: 'ACCOUNT_DAILY_QUOTA_EXCEEDED', Error: 'Daily message quota exceeded' } : quotaRefusal();
    if (this.allow(to.length) < to.length) {
      this.throttled += to.length;
      return bulk
        ? { Status: 'ACCOUNT_THROTTLED', Error: 'Maximum sending rate exceeded.' }
        : new Refusal(429, 'TooManyRequestsException', 'Maximum sending rate exceeded.');
    }
    t.quota -= to.length;
    const messageId = `0100${Date.now().toString(16)}-${String(this.accepted.length).padStart(8, '0')}-4c39-9a61-000000`;
    const named = Object.fromEntries(tags.map(({ Name, Value }) => [Name, Value]));
    const mail = this.mailOf({ messageId, to, named, ...common });
    for (const text of to) {
      const address = bare(text);
      const emailId = named['email-id'] ?? '';
      const key = `${emailId} ${address}`;
      this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
      this.accepted.push({ address, emailId, domain: common.domain, way: common.way, call: common.call, subject: common.subject, atMs: Date.now(), mail });
    }
    if (this.random() < t.eventShare) this.publish(mail);
    return bulk ? { Status: 'SUCCESS', MessageId: messageId } : { MessageId: messageId };
  }
  mailOf({ messageId, to, named, way, domain, source, subject, set, headers }) {
    const destination = to.map(bare);
    return {
      timestamp: new Date(this.now()).toISOString(),
      source,
      sourceArn: `arn:aws:ses:us-east-1:${ACCOUNT}:identity/${domain}`,
      sendingAccountId: ACCOUNT,
      messageId,
      destination,
      headersTruncated: false,
      headers: [
        { name: 'From', value: source },
        { name: 'To', value: destination.join(', ') },
        ...headers.map(({ Name, Value }) => ({ name: Name, value: Value })),
      ],
      commonHeaders: { from: [source], to: destination, messageId, subject },
      tags: {
        ...Object.fromEntries(Object.entries(named).map(([name, value]) => [name, [value]])),
        'ses:operation': [way === 'bulk' ? 'SendBulkEmail' : 'SendEmail'],
        'ses:configuration-set': [set ?? ''],
        'ses:from-domain': [domain],
      },
    };
  }
  publish(mail) {
    const put = () => {
      this.event({ eventType: 'Send', mail, send: {} });
      this.event({
        eventType: 'Delivery',
        mail,
        delivery: {
          timestamp: new Date(this.now()).toISOString(),
          processingTimeMillis: 120,
          recipients: mail.destination,
          smtpResponse: '250 2.0.0 OK',
          reportingMTA: 'a7-31.smtp-out.amazonses.com',
        },
      });
    };
    this.later(this.trouble.eventDelayMs, () => {
      if (this.trouble.holdEvents) this.keptBack.push(put);
      else put();
    });
  }
  /** A mailbox that does not exist. */
  bounce(mail) {
    this.event({
      eventType: 'Bounce',
      mail,
      bounce: {
        feedbackId: `f-${mail.messageId}`,
        bounceType: 'Permanent',
        bounceSubType: 'General',
        bouncedRecipients: mail.destination.map((emailAddress) => ({
          emailAddress, action: 'failed', status: '5.1.1', diagnosticCode: 'smtp; 550 5.1.1 no such user',
        })),
        timestamp: new Date(this.now()).toISOString(),
      },
    });
  }
  open(mail) {
    const open = { timestamp: new Date(this.now()).toISOString(), ipAddress: '203.0.113.9', userAgent: 'Mozilla/5.0' };
    this.event({ eventType: 'Open', mail, open });
  }
  /** Through SNS into the queue. */
  event(object) {
    const serial = this.queue.serial + 1;
    this.queue.put(
      JSON.stringify({
        Type: 'Notification',
        MessageId: `7a1c0e9e-0b1d-5f61-9d6b-${String(serial).padStart(12, '0')}`,
        TopicArn: `arn:aws:sns:us-east-1:${ACCOUNT}:ses-events`,
        Subject: 'Amazon SES Email Event Notification',
        Message: `${JSON.stringify(object)}\n`,
        Timestamp: new Date(this.now()).toISOString(),
        SignatureVersion: '1',
        Signature: 'AAAA',
        SigningCertURL: 'https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem',
        UnsubscribeURL: 'https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe',
      }),
    );
  }
}
