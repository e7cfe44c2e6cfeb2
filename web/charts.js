// Stacked columns, as SVG. The numbers stand in a table below, for who cannot see them.
import { el, number, table } from './ui.js';

const NS = 'http://www.w3.org/2000/svg';
function svg(tag, props, ...children) {
  const node = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(props)) node.setAttribute(k, v);
  node.append(...children);
  return node;
}

/** A round number not below n. */
function ceiling(n) {
  const step = 10 ** Math.floor(Math.log10(Math.max(1, n)));
  return [1, 2, 2.5, 5, 10].map((f) => f * step).find((v) => v >= n);
}

/**
 * title; steps: [{label, long, values: [n, …]}]; series: ['delivered', …] with classes k1, k2, … .
 */
export function columns(title, steps, series, { classes = series.map((_, i) => `k${i + 1}`) } = {}) {
  const W = window.innerWidth < 640 ? 360 : 720, H = 190, left = 48, bottom = 22, top = 8;
  const most = ceiling(Math.max(1, ...steps.map((s) => s.values.reduce((a, b) => a + b, 0))));
  const y = (n) => top + (H - top - bottom) * (1 - n / most);
  const width = (W - left) / Math.max(1, steps.length);
  const sum = series.map((name, i) => `${name} ${number(steps.reduce((a, s) => a + s.values[i], 0))}`).join(', ');
  const root = svg('svg', { class: 'chart', viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': `${title}: ${sum}` });
  for (const part of [0, 0.5, 1]) {
    const at = y(most * part);
    root.append(svg('line', { class: 'axis', x1: left, x2: W, y1: at, y2: at }));
    root.append(svg('text', { x: left - 6, y: at + 4, 'text-anchor': 'end' }, number(most * part)));
  }
  const every = Math.ceil(steps.length / (W / 90));
  steps.forEach((step, i) => {
    let base = 0;
    const x = left + i * width;
    const group = svg('g', {}, svg('title', {}, `${step.long ?? step.label}: ${series.map((s, k) => `${s} ${number(step.values[k])}`).join(', ')}`),
      svg('rect', { x, y: top, width, height: H - top - bottom, fill: 'transparent' }));
    step.values.forEach((n, k) => {
      if (n > 0) group.append(svg('rect', { class: classes[k], x: x + width * 0.12, width: Math.max(1, width * 0.76), y: y(base + n), height: Math.max(0.5, y(base) - y(base + n)) }));
      base += n;
    });
    root.append(group);
    if (i % every === 0) root.append(svg('text', { x: x + width / 2, y: H - 6, 'text-anchor': 'middle' }, step.label));
  });
  return el('figure', { class: 'card' }, el('h2', {}, title), root,
    el('ul', { class: 'legend' }, series.map((name, i) => el('li', {}, el('i', { class: classes[i] }), name))),
    el('details', {}, el('summary', {}, 'As a table'),
      table(title, [['', (s) => s.long ?? s.label], ...series.map((name, i) => [name, (s) => number(s.values[i]), 'n'])], steps)));
}

export function byTime(steps, hourly, pick) {
  const label = new Intl.DateTimeFormat(undefined, hourly ? { hour: '2-digit', minute: '2-digit' } : { day: 'numeric', month: 'short', timeZone: 'UTC' });
  const long = new Intl.DateTimeFormat(undefined, hourly ? { dateStyle: 'medium', timeStyle: 'short' } : { dateStyle: 'full', timeZone: 'UTC' });
  return steps.map((s) => ({ label: label.format(s['start-us'] / 1000), long: long.format(s['start-us'] / 1000), values: pick.map((name) => s[name] ?? 0) }));
}
