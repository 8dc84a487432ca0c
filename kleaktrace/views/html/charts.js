// SPDX-License-Identifier: GPL-2.0-or-later
// Two charts: what is outstanding over time, and how many allocations outlive an age.

const MARGIN = { left: 68, right: 28, top: 10, bottom: 26 };
const COLOURS = 8;

/**
 * Bytes over time, one layer above the other. layers: [{name, levels}], of which the last may be all others together.
 */
function levelsChart(times, layers, width, height) {
  const tops = stacked(
    layers.map((layer) => layer.levels),
    times.length,
  );
  const highest = Math.max(...(tops.at(-1) ?? [0]), 1);
  const x = scale(times[0] ?? 0, times.at(-1) ?? 1, MARGIN.left, width - MARGIN.right);
  const y = scale(0, highest, height - MARGIN.bottom, MARGIN.top);
  const chart = frameOf(width, height, `Outstanding bytes over ${timeWords(times.at(-1) ?? 0)}`);
  for (const bytes of roundBytes(highest)) horizontal(chart, width, y(bytes), sizeWords(bytes));
  for (const time of roundNumbers(times[0] ?? 0, times.at(-1) ?? 1, Math.floor(width / 110))) {
    vertical(chart, height, x(time), timeWords(time));
  }
  layers.forEach((layer, number) => {
    const low = number ? tops[number - 1] : times.map(() => 0);
    const there = Array.from(times, (time, i) => `${x(time).toFixed(1)},${y(tops[number][i]).toFixed(1)}`);
    const back = Array.from(times, (time, i) => `${x(time).toFixed(1)},${y(low[i]).toFixed(1)}`).reverse();
    const area = drawn("path", { d: `M${there.join("L")}L${back.join("L")}Z`, class: `layer ${layer.colour}` });
    area.append(drawn("title", {}, layer.name));
    chart.append(area);
  });
  return chart;
}

function stacked(levels, length) {
  const sums = new Float64Array(length);
  return levels.map((level) => {
    for (let i = 0; i < length; i++) sums[i] += level[i];
    return Array.from(sums);
  });
}

/** The share of allocations that outlives an age, in steps, over the logarithm of age. */
function survivalChart(curve, width, height) {
  const first = Math.max(Math.min((curve.ages[0] ?? curve.end) / 3, curve.end / 10), 1e-9);
  const log = scale(Math.log10(first), Math.log10(Math.max(curve.end, first * 10)), MARGIN.left, width - MARGIN.right);
  const x = (age) => log(Math.log10(Math.max(age, first)));
  const y = scale(0, 1, height - MARGIN.bottom, MARGIN.top);
  const chart = frameOf(width, height, "Share of allocations that outlive an age");
  for (const share of [0, 0.25, 0.5, 0.75, 1]) horizontal(chart, width, y(share), shareWords(share));
  const decades = Math.log10(curve.end / first);
  const every = Math.max(1, Math.ceil(decades / 6));
  for (let power = Math.ceil(Math.log10(first)); 10 ** power <= curve.end; power += every) {
    vertical(chart, height, x(10 ** power), timeWords(10 ** power));
  }
  let line = `M${MARGIN.left},${y(1)}`;
  curve.ages.forEach((age, i) => (line += `H${x(age).toFixed(1)}V${y(curve.shares[i]).toFixed(1)}`));
  line += `H${x(curve.end).toFixed(1)}`;
  chart.append(drawn("path", { d: `${line}V${y(0)}H${MARGIN.left}Z`, class: "survival-area" }));
  chart.append(drawn("path", { d: line, class: "survival" }));
  return chart;
}

function frameOf(width, height, label) {
  const attributes = {
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-label": label,
    class: "chart",
  };
  return drawn("svg", attributes);
}

function scale(from, to, low, high) {
  const factor = (high - low) / (to - from || 1);
  return (value) => low + (value - from) * factor;
}

function horizontal(chart, width, y, words) {
  chart.append(drawn("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y, class: "grid" }));
  chart.append(drawn("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, words));
}

function vertical(chart, height, x, words) {
  const low = height - MARGIN.bottom;
  chart.append(drawn("line", { x1: x, x2: x, y1: low, y2: low + 4, class: "grid" }));
  chart.append(drawn("text", { x, y: low + 17, "text-anchor": "middle" }, words));
}

/** About `many` round numbers in a range. */
function roundNumbers(from, to, many) {
  const rough = (to - from) / Math.max(many, 1) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(from / step) * step; value <= to; value += step) found.push(value);
  return found;
}

/** A few sizes that are round in binary. */
function roundBytes(highest) {
  let step = 2 ** Math.floor(Math.log2(highest / 3 || 1));
  while (highest / step > 4) step *= 2;
  const found = [];
  for (let bytes = 0; bytes <= highest; bytes += step) found.push(bytes);
  return found;
}
