"""What a browser makes of the explorer's data: markup, style, and two scripts.

`NUMBERS` decodes, filters and resamples, and touches no page; its bootstrap makes the very draws of
`stats.bootstrap_means`, so an interval here is the report's. `VIEWS` draws. A content security
policy forbids every network request.
"""

NUMBERS = r"""
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
"""

VIEWS = r"""
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const BLUE = data.colours[0], RED = data.colours[1];
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
let opened = null; // the image in the detail, a position in its set
const view = { turn: 0, tilt: 0 };

const safe = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const digits = (metric) => (data.metrics[metric].unit === "mm" ? 1 : 3);
const show = (value, metric) =>
  Number.isFinite(value) ? value.toFixed(digits(metric)).replace("-", "−") : "–";
const span = (one, metric) =>
  `${show(one.mean, metric)} (${show(one.low, metric)} to ${show(one.high, metric)})`;
const unit = (metric) =>
  `${data.metrics[metric].label}, ${data.metrics[metric].unit}, ${data.origin}`;

function choice() {
  const strata = Object.fromEntries(Object.keys(data.kinds).map((k) => [k, $(k).value]));
  const [set, metric, a, b, seed] = ["set", "metric", "a", "b", "seed"].map((id) => $(id).value);
  return { set, metric, a, b, seed, strata };
}

function fill(select, values, label = (value) => value, wanted = select.value) {
  select.innerHTML = values
    .map((value) => `<option value="${safe(value)}">${safe(label(value))}</option>`).join("");
  select.value = values.includes(wanted) ? wanted : values[0];
}

// What can be chosen depends on the set.
function offer() {
  const set = data.sets[$("set").value], names = Object.keys(set.systems);
  const seeds = new Set(names.flatMap((name) => Object.keys(set.systems[name])));
  const measured = (m) => names.some((name) =>
    Object.values(set.systems[name]).some((run) => run.errors[m]));
  const label = (m) => `${data.metrics[m].label} (${data.metrics[m].unit})`;
  fill($("metric"), Object.keys(data.metrics).filter(measured), label);
  fill($("a"), names, undefined, $("a").value || "Ours");
  fill($("b"), names, undefined, $("b").value || "Image Feature");
  fill($("seed"), ["all", ...seeds], (s) => (s === "all" ? "mean over seeds" : `seed ${s}`));
  for (const [kind, names] of Object.entries(data.kinds)) {
    fill($(kind), ["all", ...names]);
    $(kind).disabled = !set.strata[kind];
    if ($(kind).disabled) $(kind).value = "all";
  }
  const shown = Object.keys(set.shown);
  if (!(opened in set.images) || !(opened in set.shown)) opened = Number(shown[0]);
}

// --- charts: SVG as text, in the pixels of their box -------------------------------------------

function ticks(low, high, count) {
  const rough = (high - low) / count || 1, ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * ten).find((s) => s >= rough);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9 * step; t += step) {
    found.push(Number(t.toFixed(10)));
  }
  return found;
}

const number = (value) => String(value).replace("-", "−");

// Scales and a frame; `x` and `y` are [low, high]; at: ticks of x, if not even ones.
function axes(box, height, x, y, xTitle, yTitle, at, log = false) {
  const width = Math.max(240, box.clientWidth), [L, R, T, B] = [52, 12, 26, 44];
  const scale = log ? Math.log : (v) => v, wide = scale(x[1]) - scale(x[0]) || 1;
  const X = (v) => L + ((scale(v) - scale(x[0])) / wide) * (width - L - R);
  const Y = (v) => height - B - ((v - y[0]) / (y[1] - y[0] || 1)) * (height - T - B);
  const columns = (at ?? ticks(...x, width / 90)).map((t) =>
    `<line class="grid" x1="${X(t)}" x2="${X(t)}" y1="${T}" y2="${height - B}"/>` +
    `<text x="${X(t)}" y="${height - B + 17}" text-anchor="middle">${number(t)}</text>`);
  const lines = ticks(...y, 5).map((t) =>
    `<line class="grid" x1="${L}" x2="${width - R}" y1="${Y(t)}" y2="${Y(t)}"/>` +
    `<text x="${L - 7}" y="${Y(t) + 4}" text-anchor="end">${number(t)}</text>`);
  const titles = `<text x="${width - R}" y="${height - 6}" text-anchor="end">${safe(xTitle)}</text>
    <text x="4" y="14">${safe(yTitle)}</text>`;
  const frame = columns.join("") + lines.join("") + titles;
  return { width, height, X, Y, frame, top: T, bottom: height - B };
}

function put(box, made, marks, text) {
  box.innerHTML = `<svg role="img" width="${made.width}" height="${made.height}"
    aria-label="${safe(text)}">${made.frame}${marks}</svg>`;
}

function histogram(c, found, set) {
  const box = $("histogram"), values = found.both.map((i) => found.difference[i]);
  if (!values.length) return empty(box);
  const low = Math.min(0, ...values), high = Math.max(0, ...values);
  const bins = 24, size = (high - low) / bins || 1, counts = new Array(bins).fill(0);
  for (const v of values) counts[Math.min(bins - 1, Math.floor((v - low) / size))]++;
  const made = axes(box, 260, [low, low + bins * size], [0, Math.max(5, ...counts)],
    `${c.a} minus ${c.b}: ${unit(c.metric)}`, "images");
  const bars = counts.map((n, k) => `<rect fill="#56B4E9" x="${made.X(low + k * size) + 0.5}"
    width="${made.X(low + size) - made.X(low) - 1}" y="${made.Y(n)}"
    height="${made.bottom - made.Y(n)}"/>`);
  const band = `<rect fill="${RED}" opacity=".25" x="${made.X(found.D.low)}" y="${made.top}"
    width="${made.X(found.D.high) - made.X(found.D.low)}" height="${made.bottom - made.top}"/>`;
  const at = (v, colour) => `<line x1="${made.X(v)}" x2="${made.X(v)}" y1="${made.top}"
    y2="${made.bottom}" stroke="${colour}" stroke-width="2"/>`;
  put(box, made, bars.join("") + band + at(0, "#1d2327") + at(found.D.mean, RED),
    `Histogram of paired differences; mean ${span(found.D, c.metric)}`);
}

function scatter(c, found, set) {
  const box = $("scatter");
  if (!found.both.length) return empty(box);
  const all = found.both.flatMap((i) => [found.a[i], found.b[i]]);
  const ends = [Math.min(...all), Math.max(...all)];
  const made = axes(box, 340, ends, ends, `${c.b}: ${unit(c.metric)}`, `${c.a}: the same`);
  const dots = found.both.map((i) => `<circle data-image="${i}" r="4.5" fill="${BLUE}"
    fill-opacity=".55" cx="${made.X(found.b[i])}" cy="${made.Y(found.a[i])}"
    ${i === opened ? 'stroke="#1d2327" stroke-width="2.5"' : ""}><title>${safe(
      set.images[i])}</title></circle>`);
  const diagonal = `<line x1="${made.X(ends[0])}" y1="${made.Y(ends[0])}" x2="${made.X(ends[1])}"
    y2="${made.Y(ends[1])}" stroke="#59636b" stroke-dasharray="4 3"/>`;
  put(box, made, diagonal + dots.join(""), `${c.a} against ${c.b}, one dot an image`);
}

function bars(c, found) {
  const box = $("strata");
  if (!found.strata.length) return empty(box);
  const ends = [Math.min(0, ...found.strata.map((s) => s.low)),
    Math.max(0, ...found.strata.map((s) => s.high))];
  const row = 30, height = 80 + row * found.strata.length;
  const width = Math.max(240, box.clientWidth), room = 128;
  const X = (v) => room + ((v - ends[0]) / (ends[1] - ends[0] || 1)) * (width - room - 14);
  const grid = ticks(...ends, (width - room) / 55).map((t) =>
    `<line class="grid" x1="${X(t)}" x2="${X(t)}" y1="8" y2="${height - 50}"/>
     <text x="${X(t)}" y="${height - 34}" text-anchor="middle">${number(t)}</text>`);
  const marks = found.strata.map((s, k) => {
    const y = 24 + k * row, [x0, x1] = [0, s.mean].map(X).sort((p, q) => p - q);
    return `<text x="0" y="${y}">${s.kind === "U" ? "U " : ""}${s.name} (${s.n})</text>
      <rect x="${x0}" width="${x1 - x0}" y="${y - 12}" height="16" fill="#56B4E9"/>
      <line x1="${X(s.low)}" x2="${X(s.high)}" y1="${y - 4}" y2="${y - 4}" stroke="#1d2327"
        stroke-width="2"><title>${span(s, c.metric)}</title></line>`;
  });
  const zero = `<line x1="${X(0)}" x2="${X(0)}" y1="8" y2="${height - 50}" stroke="#1d2327"/>`;
  const title = `<text x="${width - 4}" y="${height - 8}" text-anchor="end">${safe(
    `${c.a} minus ${c.b}: ${unit(c.metric)}`)}</text>`;
  put(box, { width, height, frame: grid.join("") }, marks.join("") + zero + title,
    "Mean paired difference by stratum, with its interval");
}

function steps(c, set) {
  const box = $("steps"), lines = (set.sweeps[c.seed] ?? {})[c.metric] ?? {};
  const names = Object.keys(lines).filter((name) => lines[name].length);
  $("legend").innerHTML = "";
  if (!names.length) return empty(box, "No sweep over steps in this measure.");
  const points = names.flatMap((name) => lines[name]);
  const at = [...new Set(points.map((p) => p[0]))].sort((p, q) => p - q);
  const inside = names.flatMap((name) => lines[name].flatMap((p) =>
    name === c.a || name === c.b ? p.slice(1) : [p[1]]));
  const ends = [Math.min(...inside), Math.max(...inside)];
  const made = axes(box, 320, [at[0], at.at(-1)], ends, "steps of the reverse process",
    `${unit(c.metric)}, validation`, at, true);
  const look = (k) => `stroke="${data.colours[k % data.colours.length]}" stroke-dasharray="${
    DASHES[Math.floor(k / 2) % 4]}"`;
  const drawn = names.map((name, k) => {
    const path = lines[name].map((p) => `${made.X(p[0])},${made.Y(p[1])}`).join(" ");
    const chosen = name === c.a || name === c.b, wide = chosen ? 4 : 2;
    const colour = data.colours[k % data.colours.length];
    const whisker = (p) => `<line x1="${made.X(p[0])}" x2="${made.X(p[0])}" y1="${made.Y(p[2])}"
      y2="${made.Y(p[3])}" stroke="${colour}"/>`;
    const dot = (p) => `<circle r="${wide}" cx="${made.X(p[0])}" cy="${made.Y(p[1])}"
      fill="${colour}"><title>${safe(name)}, ${p[0]} steps: ${
      span({ mean: p[1], low: p[2], high: p[3] }, c.metric)}</title></circle>`;
    const spans = lines[name].map((p) => (chosen ? whisker(p) : "") + dot(p));
    return `<polyline points="${path}" fill="none" stroke-width="${wide}" ${look(k)}/>` +
      spans.join("");
  });
  put(box, made, drawn.join(""), `Error against steps: ${names.join(", ")}`);
  const key = (k) => `<svg width="34" height="12" aria-hidden="true">
    <line x1="0" x2="34" y1="6" y2="6" stroke-width="3" ${look(k)}/></svg>`;
  $("legend").innerHTML = names.map((name, k) => `<li>${key(k)}${safe(name)}</li>`).join("");
}

function empty(box, text = "Nothing to draw: no image is left, or a system has no such measure.") {
  box.innerHTML = `<p class="soft">${text}</p>`;
}

// --- words and tables --------------------------------------------------------------------------

function summary(c, found, set) {
  const total = set.total > set.images.length ? ` (evenly chosen of ${set.total})` : "";
  const lost = found.images.length - found.both.length;
  $("count").textContent = `${found.images.length} of ${set.images.length} images${total} left` +
    (lost ? `; ${lost} without a value of both systems` : "");
  const per = Math.round(100 * data.level);
  const line = (name, one) => `<tr><th scope="row">${safe(name)}</th><td>${one.n}</td>
    <td>${show(one.mean, c.metric)}</td><td>${show(one.low, c.metric)} to ${
    show(one.high, c.metric)}</td></tr>`;
  $("means").innerHTML = `<thead><tr><th scope="col">${safe(unit(c.metric))}</th>
    <th scope="col">images</th><th scope="col">mean</th><th scope="col">${per} % interval</th></tr>
    </thead><tbody>${line(c.a, found.A)}${line(c.b, found.B)}${
    line(`${c.a} minus ${c.b}, in pairs`, found.D)}</tbody>`;
  const sign = data.metrics[c.metric].lower ? 1 : -1, D = found.D;
  const better = sign * D.mean < 0 ? c.a : c.b;
  $("verdict").textContent = !D.n ? "" : D.low <= 0 && D.high >= 0
    ? "Undecided: the interval of the paired difference holds zero."
    : `${better} is better on these images: the interval of the paired difference lies on one ` +
      "side of zero.";
}

function ranking(c, found, set) {
  const by = { a: found.a, b: found.b, d: found.difference }[$("rank").value];
  const kept = (i) => !$("meshes").checked || i in set.shown;
  const order = found.images.filter((i) => Number.isFinite(by[i]) && kept(i));
  const sign = $("order").value === "largest" ? -1 : 1;
  order.sort((i, j) => sign * (by[i] - by[j]) || i - j);
  $("thumbs").innerHTML = order.slice(0, Number($("many").value)).map((i) => `<li>
    <button type="button" data-image="${i}" aria-pressed="${i === opened}">
    <img src="${set.thumbs[i]}" alt="${safe(set.images[i])}" width="88" height="88">
    <span>${show(by[i], c.metric)}${i in set.shown ? " ◆" : ""}</span></button></li>`).join("");
}

function detail(c, set) {
  const kept = set.shown[opened];
  $("title").textContent = set.images[opened];
  const of = Object.entries(set.strata).map(([k, v]) => `${k} ${data.kinds[k][v[opened]]}`);
  $("facts").textContent = `${set.label}, person ${set.people[opened]}; ${of.join(", ")}`;
  $("crop").src = kept ? kept.crop : set.thumbs[opened];
  for (const part of ["overlay-box", "heat-box", "mesh-box"]) $(part).hidden = !kept;
  $("without").hidden = Boolean(kept);
  const rows = Object.keys(set.systems)
    .map((name) => [name, errors(set, name, c.metric, c.seed)[opened]])
    .filter(([, value]) => Number.isFinite(value));
  rows.sort((p, q) => (data.metrics[c.metric].lower ? 1 : -1) * (p[1] - q[1]));
  const cells = rows.map(([name, value]) =>
    `<tr><th scope="row">${safe(name)}</th><td>${show(value, c.metric)}</td></tr>`);
  $("all").innerHTML = `<thead><tr><th scope="col">on this image</th><th scope="col">${
    safe(unit(c.metric))}</th></tr></thead><tbody>${cells.join("")}</tbody>`;
  if (!kept) return;
  $("overlay").src = kept.overlay;
  fill($("joint"), set.joints);
  fill($("mesh"), Object.keys(kept.meshes), undefined, $("mesh").value || "Ours");
  heat(set, kept);
  paint(set, kept);
}

function heat(set, kept) {
  const canvas = $("heat"), pen = canvas.getContext("2d"), j = set.joints.indexOf($("joint").value);
  const S = set.heat_px, size = canvas.width, sheet = new Image();
  sheet.onload = () => {
    pen.imageSmoothingEnabled = false;
    const [column, row] = [j % data.tiles, Math.floor(j / data.tiles)];
    pen.drawImage(sheet, column * S, row * S, S, S, 0, 0, size, size);
    const cross = ([x, y], colour) => {
      pen.strokeStyle = colour;
      pen.lineWidth = 3;
      pen.beginPath();
      pen.moveTo(x * size - 9, y * size);
      pen.lineTo(x * size + 9, y * size);
      pen.moveTo(x * size, y * size - 9);
      pen.lineTo(x * size, y * size + 9);
      pen.stroke();
    };
    cross(kept.joints["mean of U"][j], data.colours[4]);
    cross(kept.joints.Truth[j], data.colours[2]);
  };
  sheet.src = kept.heat;
}

// --- the mesh, turned by hand ------------------------------------------------------------------

const lengths = (text) => Float64Array.from(new Int16Array(bytes(text)), (v) => v * data.unit_mm);

function paint(set, kept) {
  const canvas = $("solid"), pen = canvas.getContext("2d"), name = $("mesh").value;
  const mesh = lengths(kept.meshes[name]), truth = lengths(kept.meshes.Truth);
  const faces = new Uint16Array(bytes(set.faces));
  const wanted = $("colour").value, error = vertexErrors(mesh, truth);
  const values = wanted === "error" ? error
    : wanted === "spread" && kept.spread[name] ? lengths(kept.spread[name]) : null;
  const top = values ? Math.max(...[...values].sort((p, q) => p - q).slice(
    0, Math.ceil(0.99 * values.length)), 1e-6) : 0;
  const about = mean(error).toFixed(0);
  $("scale").textContent = (values
    ? `Colour is ${wanted}, from 0 (dark) to ${top.toFixed(0)} mm (bright), ${data.origin}. `
    : wanted === "spread" ? "No hypotheses, so no spread. " : "") +
    (name === "Truth" ? "" : `Mean error of the coarse vertices ${about} mm, ${data.origin}.`);
  const size = canvas.width;
  // The true mesh is in the middle, and fits however it is turned.
  const { centre, reach } = ball(truth);
  const place = (points) =>
    turned(points.map((v, k) => v - centre[k % 3]), view.turn, view.tilt).map((v, k) =>
      k % 3 < 2 ? size / 2 + (v / reach) * 0.48 * size : v);
  const seen = place(mesh), order = [];
  for (let f = 0; f < faces.length; f += 3) {
    const depth = (k) => seen[3 * faces[f + k] + 2];
    order.push([f, depth(0) + depth(1) + depth(2)]);
  }
  order.sort((p, q) => q[1] - p[1]); // the far ones first
  pen.fillStyle = "#f4f4f2";
  pen.fillRect(0, 0, size, size);
  for (const [f] of order) {
    const [p, q, r] = [0, 1, 2].map((k) => 3 * faces[f + k]);
    const [ux, uy, uz] = [0, 1, 2].map((k) => seen[q + k] - seen[p + k]);
    const [vx, vy, vz] = [0, 1, 2].map((k) => seen[r + k] - seen[p + k]);
    // x and y are in pixels, z in mm: bring them to one unit before a normal is taken
    const mm = reach / (0.48 * size);
    const nx = (uy * vz - uz * vy) * mm, ny = (uz * vx - ux * vz) * mm;
    const nz = (ux * vy - uy * vx) * mm * mm;
    const light = 0.45 + (0.55 * Math.abs(nz)) / (Math.hypot(nx, ny, nz) || 1);
    const share = values ? (values[p / 3] + values[q / 3] + values[r / 3]) / 3 / top : 0;
    const base = values ? data.viridis[Math.min(63, Math.floor(64 * share))] : [136, 179, 214];
    pen.fillStyle = pen.strokeStyle = `rgb(${base.map((v) => Math.round(v * light)).join()})`;
    pen.beginPath();
    pen.moveTo(seen[p], seen[p + 1]);
    pen.lineTo(seen[q], seen[q + 1]);
    pen.lineTo(seen[r], seen[r + 1]);
    pen.closePath();
    pen.fill();
    pen.stroke();
  }
  if ($("wire").checked && name !== "Truth") {
    const edges = place(truth);
    pen.strokeStyle = "rgba(29, 35, 39, .35)";
    pen.lineWidth = 1;
    pen.beginPath();
    for (let f = 0; f < faces.length; f += 3) {
      pen.moveTo(edges[3 * faces[f]], edges[3 * faces[f] + 1]);
      pen.lineTo(edges[3 * faces[f + 1]], edges[3 * faces[f + 1] + 1]);
      pen.lineTo(edges[3 * faces[f + 2]], edges[3 * faces[f + 2] + 1]);
    }
    pen.stroke();
  }
}

function repaint() {
  const set = data.sets[$("set").value], kept = set.shown[opened];
  view.turn = (Number($("turn").value) * Math.PI) / 180;
  view.tilt = (Number($("tilt").value) * Math.PI) / 180;
  if (kept) paint(set, kept);
}

function nudge(turn, tilt) {
  $("turn").value = ((Number($("turn").value) + turn + 540) % 360) - 180;
  $("tilt").value = Number($("tilt").value) + tilt;
  repaint();
}

// --- events ------------------------------------------------------------------------------------

function draw() {
  const c = choice(), set = data.sets[c.set], found = compare(set, c, data);
  summary(c, found, set);
  histogram(c, found, set);
  bars(c, found);
  scatter(c, found, set);
  steps(c, set);
  ranking(c, found, set);
  detail(c, set);
}

function open(image) {
  opened = image;
  draw();
}

fill($("set"), Object.keys(data.sets), (name) => data.sets[name].label);
offer();
draw();
$("set").addEventListener("change", () => { opened = null; offer(); draw(); });
$("choice").addEventListener("change", (event) => event.target.id !== "set" && draw());
$("listing").addEventListener("change", draw);
$("choice").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["joint", "mesh", "colour", "wire"]) {
  $(id).addEventListener("change", () => detail(choice(), data.sets[$("set").value]));
}
for (const id of ["turn", "tilt"]) $(id).addEventListener("input", repaint);
$("thumbs").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const image = Number(button.dataset.image);
  open(image);
  $("thumbs").querySelector(`[data-image="${image}"]`)?.focus({ preventScroll: true });
  $("detail").scrollIntoView({ block: "nearest" });
});
$("scatter").addEventListener("click", (event) => {
  if (event.target.dataset.image) open(Number(event.target.dataset.image));
});
$("solid").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, 10], ArrowDown: [0, -10] };
  if (!(event.key in by)) return;
  event.preventDefault();
  nudge(...by[event.key]);
});
$("solid").addEventListener("pointermove", (event) => {
  if (event.buttons) nudge(event.movementX / 2, -event.movementY / 2);
});
$("solid").addEventListener("pointerdown", (event) =>
  event.target.setPointerCapture(event.pointerId));
$("reset").addEventListener("click", () => {
  for (const kind of Object.keys(data.kinds)) $(kind).value = "all";
  draw();
});
$("save").addEventListener("click", () => {
  const c = choice(), link = document.createElement("a");
  const text = csv(data.sets[c.set], c, data);
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `errors_${c.set}_${data.origin}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(draw, 150);
});
"""

STYLE = """
:root { color-scheme: light; --ink: #1d2327; --soft: #59636b; --line: #d9dee2; --link: #0a58a6; }
* { box-sizing: border-box; }
body { max-width: 76rem; margin: 0 auto; padding: 1rem; color: var(--ink); background: #fff;
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: .3rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; border-bottom: 2px solid var(--line); }
h3 { font-size: 1rem; margin: .8rem 0 .3rem; overflow-wrap: anywhere; }
a { color: var(--link); }
p { max-width: 50rem; margin: .4rem 0; }
.soft { color: var(--soft); font-size: .9rem; }
.note { border-left: 5px solid #d55e00; background: #fdf3ec; padding: .5rem .9rem; }
form { margin: .8rem 0; }
fieldset { border: 1px solid var(--line); border-radius: 6px; display: grid; gap: .6rem .9rem;
           grid-template-columns: repeat(auto-fit, minmax(min(100%, 11rem), 1fr));
           margin: 0; padding: .5rem .8rem .8rem; min-width: 0; }
legend { font-weight: 600; padding: 0 .3rem; }
label { display: block; font-size: .85rem; color: var(--soft); min-width: 0; }
label.tick { display: flex; gap: .5rem; align-items: center; min-height: 2.75rem;
             font-size: .95rem; }
select, button { font: inherit; color: var(--ink); background: #fff; border-radius: 5px;
                 border: 1px solid #77818a; padding: .3rem .5rem; min-height: 2.75rem; }
select { width: 100%; }
select:disabled { color: var(--soft); background: #f3f5f6; }
input[type=checkbox] { width: 1.25rem; height: 1.25rem; }
input[type=range] { width: 100%; min-height: 2.2rem; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
output { display: block; font-weight: 600; margin: .6rem 0; }
.pair { display: grid; gap: 1.2rem; align-items: start;
        grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.pair > *, .four > * { min-width: 0; }
.four { display: grid; gap: 1.2rem; align-items: start;
        grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: .9rem; }
figure img, canvas { width: 100%; max-width: 24rem; height: auto; border: 1px solid var(--line);
                     border-radius: 6px; display: block; image-rendering: auto; }
#mesh-box { grid-row: span 2; } /* the table goes below the pictures beside it */
#solid { touch-action: pan-y; cursor: grab; }
svg { display: block; max-width: 100%; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .grid { stroke: #e3e7ea; }
circle[data-image] { cursor: pointer; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
td.text { white-space: normal; text-align: left; min-width: 14rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0;
          padding: .5rem .8rem; }
summary { cursor: pointer; font-weight: 600; }
th { font-weight: 600; }
th:first-child { text-align: left; }
ul { list-style: none; padding: 0; margin: .5rem 0; }
#thumbs { display: grid; gap: .5rem;
          grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)); }
#thumbs button { width: 100%; padding: .3rem; cursor: pointer; }
#thumbs button[aria-pressed=true] { border: 2px solid var(--link); background: #eef4fb; }
#thumbs img { display: block; margin: 0 auto; max-width: 100%; }
#thumbs span { font-size: .85rem; }
#legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; }
#legend li { display: flex; align-items: center; gap: .4rem; }
[hidden] { display: none; }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HMDiff: explorer of the errors</title>
<style>{{ style }}</style>
</head>
<body>
<header>
<h1>Explorer: the errors, image by image</h1>
<p class="note"><strong>Every number here is <em>{{ origin }}</em>:</strong> {{ made }} (profile
{{ profile }}).
{% if origin == "synthetic" %}None may be compared with a published one.{% endif %}</p>
<p class="soft">Two systems on the same test images. Intervals resample the images, with the draws
of the report, so they agree with its tables. <a href="index.html">The report</a> says what the
systems are.</p>
</header>
<main>
<form id="choice">
<fieldset>
<legend>What to compare</legend>
<label>Data set <select id="set"></select></label>
<label>Measure <select id="metric"></select></label>
<label>System A <select id="a"></select></label>
<label>System B <select id="b"></select></label>
<label>Training <select id="seed"></select></label>
{% for kind in kinds -%}
<label>Stratum: {{ kind }} <select id="{{ kind }}"></select></label>
{% endfor -%}
</fieldset>
<output id="count" for="set metric a b seed {{ kinds | join(' ') }}" aria-live="polite"></output>
<button type="button" id="reset">All strata</button>
<button type="button" id="save">Download the rows of A and B as CSV</button>
</form>

<section aria-labelledby="h-pairs">
<h2 id="h-pairs">A against B</h2>
<div class="wide"><table id="means"></table></div>
<p id="verdict"></p>
<div class="pair">
<figure><div id="histogram"></div><figcaption>Paired differences, A minus B. Red: their mean, and
its interval as a band; black: zero.</figcaption></figure>
<figure><div id="strata"></div><figcaption>The mean difference in each stratum of the images left,
with its interval; the number of images in brackets. U: thirds of a set by the spread of the pose
distribution.</figcaption></figure>
<figure><div id="scatter"></div><figcaption>One dot an image; on the dashed line both err alike.
Choose a dot to see its image below.</figcaption></figure>
<figure><div id="steps"></div><ul id="legend"></ul><figcaption>Error against the number of steps on
validation images; A and B, where they were swept, are drawn wide and with 95 % intervals. The
strata chosen above do not apply.</figcaption></figure>
</div>
</section>

<section aria-labelledby="h-images">
<h2 id="h-images">Worst and best images</h2>
<form id="listing">
<fieldset>
<legend>Which images</legend>
<label>Sorted by <select id="rank"><option value="a">value of A</option>
<option value="b">value of B</option><option value="d">A minus B</option></select></label>
<label>First <select id="order"><option value="largest">the largest</option>
<option value="smallest">the smallest</option></select></label>
<label>How many <select id="many"><option>12</option><option>24</option><option>48</option></select>
</label>
<label class="tick"><input type="checkbox" id="meshes"> only those with a mesh (◆)</label>
</fieldset>
</form>
<ul id="thumbs"></ul>
</section>

<section id="detail" aria-labelledby="h-detail">
<h2 id="h-detail">One image</h2>
<h3 id="title"></h3>
<p class="soft" id="facts"></p>
<p id="without" hidden>Meshes are kept for some images only, evenly spaced ones and the worst of
Ours; they are marked ◆ above.</p>
<div class="four">
<figure><img id="crop" alt="the crop that the networks see"><figcaption>Input crop</figcaption>
</figure>
<figure id="overlay-box"><img id="overlay" alt="the mesh of Ours over the crop">
<figcaption>Ours over it, placed by the box</figcaption></figure>
<figure id="heat-box"><canvas id="heat" width="336" height="336" role="img"
 aria-label="heatmap of a joint"></canvas>
<label>Heatmap E<sub>xy</sub> of joint <select id="joint"></select></label>
<figcaption>In the cube about the root, x right and y down. Green cross: the truth; orange: the mean
of U; brightness is the root of the probability.</figcaption></figure>
<figure id="mesh-box"><canvas id="solid" width="640" height="640" tabindex="0" role="img"
 aria-label="the mesh; arrow keys turn it"></canvas>
<label>Mesh <select id="mesh"></select></label>
<label>Colour <select id="colour"><option value="error">error of each vertex</option>
<option value="spread">spread of the hypotheses</option><option value="plain">plain</option>
</select></label>
<label class="tick"><input type="checkbox" id="wire"> the true mesh as wire</label>
<label>Turn <input type="range" id="turn" min="-180" max="180" step="1" value="0"></label>
<label>Tilt <input type="range" id="tilt" min="-80" max="80" step="1" value="0"></label>
<figcaption><span id="scale"></span> Drawn anew for this page from other noise than the tables', so
its error differs a little. Both meshes lie with their roots in one point.</figcaption></figure>
<div class="wide"><table id="all"></table></div>
</div>
</section>

<section id="reported" aria-labelledby="h-reported">
<h2 id="h-reported">The paper's tables and claims</h2>
<p class="soft">As in <a href="index.html">the report</a>, over all images: the choices above do not
apply.</p>
{% for title, body in sheets -%}
<details><summary>{{ title }}</summary>
{{ body }}</details>
{% endfor -%}
</section>
</main>
<script type="application/json" id="data">{{ data }}</script>
<script>{{ script }}</script>
</body>
</html>
"""
