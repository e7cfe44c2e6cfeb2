// A receiver of webhooks: keeps what it is told, checks each signature, answers by path as it is asked to.
import { createHmac } from 'node:crypto';
import http from 'node:http';

export class Receiver {
  /** answer(path, attempt of this event at this path, response, event): ends the response, now, later or never. */
  static async start(key, answer = (path, attempt, response) => response.writeHead(200).end()) {
    const r = new Receiver();
    r.key = key; // may come later: checked when it is there
    r.calls = []; // {path, at, timestamp, token, event, signed}
    r.attempts = new Map(); // "path id" → attempts
    r.server = http.createServer((request, response) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('error', () => {});
      request.on('end', () => {
        const body = JSON.parse(Buffer.concat(chunks).toString('utf8'));
        const { timestamp, token, signature } = body.signature;
        const name = `${request.url} ${body['event-data'].id}`;
        const attempt = (r.attempts.get(name) ?? 0) + 1;
        r.attempts.set(name, attempt);
        r.calls.push({
          path: request.url,
          at: Date.now(),
          timestamp,
          token,
          signature,
          attempt,
          method: request.method,
          headers: request.headers,
          event: body['event-data'],
        });
        answer(request.url, attempt, response, body['event-data']);
      });
    });
    await new Promise((resolve) => r.server.listen(0, '127.0.0.1', resolve));
    r.url = `http://127.0.0.1:${r.server.address().port}`;
    return r;
  }
  isSigned(call, key = this.key) {
    return call.signature === createHmac('sha256', key).update(call.timestamp + call.token).digest('hex');
  }
  of(path) {
    return this.calls.filter((call) => call.path === path);
  }
  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
