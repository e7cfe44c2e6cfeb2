// Garbage in the shared memory of an httpd process, written from outside, as a program inside it could.
import crypto from 'node:crypto';
import fs from 'node:fs';

export const mappings = (pid, kind) =>
  fs
    .readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line.includes(kind))
    .map((line) => {
      const [, from, to, rights] = /^([0-9a-f]+)-([0-9a-f]+) (....)/.exec(line);
      return { from: parseInt(from, 16), bytes: parseInt(to, 16) - parseInt(from, 16), rights };
    });

export function scribble(pid, at, bytes) {
  const mem = fs.openSync(`/proc/${pid}/mem`, 'r+');
  try {
    return fs.writeSync(mem, bytes, 0, bytes.length, at);
  } finally {
    fs.closeSync(mem);
  }
}

/** Writes into all that the httpd shares with others; round % 3 chooses what into its ring to the writer. */
export function corrupt(pid, round) {
  const random = crypto.randomBytes(4096);
  try {
    const rings = mappings(pid, 'postern-ring').sort((a, b) => b.bytes - a.bytes);
    if (round % 3 === 0) scribble(pid, rings[0].from, random); // positions
    // a plausible head over bytes that are no records
    if (round % 3 === 1) scribble(pid, rings[0].from + 4096, Buffer.concat(Array.from({ length: 16 }, () => crypto.randomBytes(65536))));
    if (round % 3 !== 0) {
      const head = Buffer.alloc(8);
      head.writeBigUInt64LE(BigInt(8 * (1 + Math.floor(Math.random() * 100000))));
      scribble(pid, rings[0].from, head);
    }
    scribble(pid, rings[1].from, random);
    for (const m of mappings(pid, 'postern-gauges').filter((g) => g.rights[1] === 'w')) scribble(pid, m.from, crypto.randomBytes(m.bytes));
  } catch (e) {
    if (!/EIO|ESRCH|ENOENT/.test(e.message)) throw e; // gone already
  }
}
