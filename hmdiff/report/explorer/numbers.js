"use strict";

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

// PCG64's 32-bit numbers from the state of numpy's default_rng; the low half of each step is first.
function pcg64(generator) {
  let state = BigInt(generator.state), high = null;
  const inc = BigInt(generator.inc), factor = 0x2360ed051fc65da44385df649fccf645n;
  return () => {
    if (high !== null) {
      const kept = high;
      high = null;
      return kept;
    }
    state = BigInt.asUintN(128, state * factor + inc);
    const mixed = BigInt.asUintN(64, (state >> 64n) ^ state), turn = state >> 122n;
    const word = BigInt.asUintN(64, (mixed >> turn) | (mixed << (64n - turn)));
    high = Number(word >> 32n);
    return Number(word & 0xffffffffn);
  };
}

// Generator.integers(n): Lemire's multiplication, which rejects the few numbers that would bias.
function below(n, next) {
  if (n === 1) return 0;
  const biased = (2 ** 32 - n) % n;
  for (;;) {
    const product = next() * n;
    if (product % 2 ** 32 >= biased) return Math.floor(product / 2 ** 32);
  }
}

const drawn = new Map(); // by n: `resamples` draws of n out of n images
function draws(n, data) {
  if (!drawn.has(n)) {
    const next = pcg64(data.generator), picks = new Uint16Array(n * data.resamples);
    for (let i = 0; i < picks.length; i++) picks[i] = below(n, next);
    drawn.set(n, picks);
  }
  return drawn.get(n);
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// numpy's percentile of sorted values, q from 0 to 1.
function quantile(sorted, q) {
  const at = q * (sorted.length - 1), low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

// The mean of values over images, and its percentile interval over resampled images.
function interval(values, data) {
  const n = values.length;
  if (!n) return { mean: NaN, low: NaN, high: NaN, n };
  const picks = draws(n, data), means = new Float64Array(data.resamples);
  for (let row = 0; row < means.length; row++) {
    let sum = 0;
    for (let i = row * n; i < (row + 1) * n; i++) sum += values[picks[i]];
    means[row] = sum / n;
  }
  means.sort();
  const tail = (1 - data.level) / 2;
  return { mean: mean(values), low: quantile(means, tail), high: quantile(means, 1 - tail), n };
}

const decoded = new Map();
function floats(text) {
  if (!decoded.has(text)) decoded.set(text, new Float32Array(bytes(text)));
  return decoded.get(text);
}

// A system's error on each image: of one seed, or the mean over its seeds; NaN if not measured.
function errors(set, method, metric, seed) {
  const runs = Object.entries(set.systems[method]).filter(([s]) => seed === "all" || s === seed);
  const values = runs.map(([, run]) => run.errors[metric]).filter(Boolean).map(floats);
  return set.images.map((_, i) => (values.length ? mean(values.map((v) => v[i])) : NaN));
}

// Positions of the images in the chosen strata, {kind: name or "all"}.
function left(set, strata, data) {
  const wanted = Object.entries(strata)
    .filter(([kind, name]) => name !== "all" && set.strata[kind])
    .map(([kind, name]) => [set.strata[kind], data.kinds[kind].indexOf(name)]);
  return [...set.images.keys()].filter((i) => wanted.every(([of, k]) => of[i] === k));
}

// Two systems on the same images.
function compare(set, choice, data) {
  const [a, b] = [choice.a, choice.b].map((m) => errors(set, m, choice.metric, choice.seed));
  const images = left(set, choice.strata, data);
  const both = images.filter((i) => Number.isFinite(a[i]) && Number.isFinite(b[i]));
  const difference = set.images.map((_, i) => a[i] - b[i]);
  const over = (values) => interval(both.map((i) => values[i]), data);
  const strata = [];
  for (const [kind, of] of Object.entries(set.strata)) {
    data.kinds[kind].forEach((name, k) => {
      const those = both.filter((i) => of[i] === k).map((i) => difference[i]);
      if (those.length) strata.push({ kind, name, ...interval(those, data) });
    });
  }
  return { a, b, difference, images, both, strata, A: over(a), B: over(b), D: over(difference) };
}

// The errors of A and B on the images left, each seed by itself, in all measures.
function csv(set, choice, data) {
  const metrics = Object.keys(data.metrics), kinds = Object.keys(data.kinds);
  const head = ["dataset", "image", "person", ...kinds, "method", "seed", "steps", ...metrics];
  const lines = [[...head, "made"]];
  for (const method of new Set([choice.a, choice.b])) {
    for (const [seed, run] of Object.entries(set.systems[method])) {
      if (choice.seed !== "all" && choice.seed !== seed) continue;
      for (const i of left(set, choice.strata, data)) {
        const values = metrics.map((m) => (run.errors[m] ? floats(run.errors[m])[i] : NaN));
        const of = kinds.map((k) => (set.strata[k] ? data.kinds[k][set.strata[k][i]] : ""));
        const row = [choice.set, set.images[i], set.people[i], ...of, method, seed, run.steps];
        lines.push([...row, ...values.map((v) => (Number.isFinite(v) ? v : "")), data.origin]);
      }
    }
  }
  const quoted = (cell) => (/[",\n]/.test(cell) ? `"${String(cell).replace(/"/g, '""')}"` : cell);
  return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}

// A mesh (V x 3, mm) as a camera sees it that went round it: x right, y down, z away.
function turned(vertices, turn, tilt) {
  const [c, s, C, S] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
  const seen = new Float64Array(vertices.length);
  for (let i = 0; i < vertices.length; i += 3) {
    const x = c * vertices[i] + s * vertices[i + 2], z = c * vertices[i + 2] - s * vertices[i];
    seen[i] = x;
    seen[i + 1] = C * vertices[i + 1] - S * z;
    seen[i + 2] = S * vertices[i + 1] + C * z;
  }
  return seen;
}

// The middle of a mesh's box, and how far it reaches from there.
function ball(vertices) {
  const along = (k) => vertices.filter((_, i) => i % 3 === k);
  const centre = [0, 1, 2].map((k) => (Math.min(...along(k)) + Math.max(...along(k))) / 2);
  const away = along(0).map((_, v) => Math.hypot(...centre.map((c, k) => vertices[3 * v + k] - c)));
  return { centre, reach: Math.max(...away) || 1 };
}

// The distance of each vertex from where it should be.
function vertexErrors(vertices, truth) {
  return Float64Array.from({ length: truth.length / 3 }, (_, v) =>
    Math.hypot(...[0, 1, 2].map((k) => vertices[3 * v + k] - truth[3 * v + k])));
}
