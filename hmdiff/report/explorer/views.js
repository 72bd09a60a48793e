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
  $("verdict").textContent = !D.n ? "" : D.low === 0 && D.high === 0
    ? "The same errors on every image: what sets the two apart never acted."
    : D.low <= 0 && D.high >= 0
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
