// Every subcommand has a manual, and manual, --help and the binary agree about its options.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { binary, root } from './harness.mjs';

const pages = path.join(root, 'packaging/man');
const help = (...args) => execFileSync(binary, [...args, '--help'], { encoding: 'utf8' });
const verbs = [...help().split('subcommands:')[1].split('\n\n')[0].matchAll(/^ {2}([a-z]+) /gm)].map((m) => m[1]);
const page = (verb) => fs.readFileSync(path.join(pages, `postern-${verb}.8`), 'utf8');
const section = (text, name) => text.match(new RegExp(`^\\.Sh ${name}\\n([^]*?)(?=^\\.Sh |$(?![^]))`, 'm'))?.[1];

/** The options that a page explains or uses, without those of other programs. */
const optionsOf = (text) =>
  new Set([...text.matchAll(/\bFl (-?[a-z][a-z-]*)/g)].map((m) => `-${m[1]}`).filter((o) => o !== '-c' && o !== '-h'));

/** Those that a usage names; after the word "default" begins prose. */
const optionsNamed = (text) => new Set([...text.matchAll(/--[a-z][a-z-]*/g)].map((m) => m[0]));

const valueFor = { n: '5', seconds: '5', option: 'latency_ms=1' };

/** What the binary refuses of these arguments. */
function refused(...args) {
  const { status, stderr, stdout } = spawnSync(binary, args, { encoding: 'utf8', timeout: 10000 });
  assert.equal(status, 2, `postern ${args.join(' ')}: ${stdout}${stderr}`);
  return stderr;
}

describe('manuals', () => {
  it('there is one for each subcommand that cli/cli.c knows, and for no other', () => {
    const known = [...fs.readFileSync(path.join(root, 'cli/cli.c'), 'utf8').matchAll(/^ {4}\{"([a-z]+)", "/gm)].map((m) => m[1]);
    assert.ok(known.length >= 11, String(known));
    assert.deepEqual([...known, 'sandbox'].sort(), [...verbs].sort());
    const there = fs.readdirSync(pages).map((name) => name.match(/^postern-([a-z]+)\.8$/)?.[1]).filter(Boolean);
    assert.deepEqual(there.sort(), [...verbs].sort());
  });

  it('each has the sections that a manual has, and postern(8) names them all', () => {
    const overview = fs.readFileSync(path.join(pages, 'postern.8'), 'utf8');
    for (const verb of verbs) {
      const text = page(verb);
      assert.match(text, new RegExp(`^\\.Dt POSTERN-${verb.toUpperCase()} 8$`, 'm'));
      assert.match(section(text, 'NAME'), new RegExp(`^\\.Nm postern-${verb}\\n\\.Nd .+`));
      for (const name of ['SYNOPSIS', 'DESCRIPTION', 'EXIT STATUS', 'EXAMPLES', 'SEE ALSO']) assert.ok(section(text, name), `${verb}: ${name}`);
      assert.match(section(text, 'EXAMPLES'), new RegExp(`^\\.Dl \\$ postern ${verb}`, 'm'));
      assert.match(section(overview, 'SUBCOMMANDS'), new RegExp(`^\\.It Xr postern-${verb} 8$`, 'm'));
      for (const [, other] of text.matchAll(/^\.Xr postern-([a-z]+) 8/gm)) assert.ok(verbs.includes(other), `${verb} refers to ${other}`);
    }
  });

  for (const verb of verbs) {
    it(`postern-${verb}(8): the options are those of --help and of the binary`, () => {
      const text = page(verb);
      const explained = optionsOf(section(text, 'DESCRIPTION').match(/^(?:\.It .*Fl .*)$/gm)?.join('\n') ?? '');
      const named = optionsNamed(help(verb));
      for (const option of named) assert.ok(explained.has(option), `${option} is in --help and not in the manual`);
      for (const option of optionsOf(text)) {
        assert.ok(explained.has(option), `${option} is used and not explained`);
        if (option === '--help') continue;
        assert.ok(named.has(option) || option === '--conf', `${option} is in the manual and not in --help`);
        const value = text.match(new RegExp(`^\\.It.*Fl ${option.slice(1)} Ar ([a-z]+)`, 'm'))?.[1];
        const given = value ? [valueFor[value] ?? value] : [];
        // It names the first that it does not take.
        assert.match(refused(verb, option, ...given, '--nonsense'), /--nonsense/, `${option} is not taken`);
        if (value) assert.match(refused(verb, option), verb === 'sandbox' ? /is not understood/ : /needs a value/, option);
      }
      assert.match(refused(verb, '--never-heard-of', 'x'), /--never-heard-of/);
    });

    it(`postern ${verb} in the EXAMPLES uses options that there are`, () => {
      const text = page(verb);
      const explained = optionsOf(text);
      for (const [, line] of section(text, 'EXAMPLES').matchAll(/^\.Dl \$ postern (.*)$/gm))
        for (const option of optionsNamed(line)) if (line.startsWith(verb)) assert.ok(explained.has(option), `${line}: ${option}`);
    });
  }
});
