"use strict";
// Figures come as JSON and are put into the page as text alone, so that no label or text of the
// data can become markup. Nothing is loaded from anywhere.
const D = JSON.parse(document.getElementById("figures").textContent);
const SPACE = document.getElementById("space").namespaceURI;
const $ = (id) => document.getElementById(id);
const SHORT = { milliseconds: "ms", dollars: "$" };
const unit = SHORT[D.unit] || D.unit;
const Quality = D.quality[0].toUpperCase() + D.quality.slice(1);
const item = D.item, items = D.item + "s";

function add(parent, name, attributes = {}, text) {
  const svg = name === "svg" || parent.namespaceURI === SPACE;
  const made = svg ? document.createElementNS(SPACE, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}

// ---- numbers for people

function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}
const share = (value, digits = 1) =>
  value === null || value === undefined ? "–" : (100 * value).toFixed(digits) + " %";
const price = (value) => (unit === "$" ? "$" + number(value) : `${number(value)} ${unit}`);
const whole = (value) => value.toLocaleString("en");
const error = (value) => (value === null ? "" : `± ${(200 * value).toFixed(value < 0.0005 ? 2 : 1)}`);
const tierOf = (name) => D.tiers.indexOf(name);
const colour = (tier) => `var(--t${D.answering.indexOf(D.tiers[tier]) % 6})`;

// ---- tables

// columns: [title, value of a row, as shown, kind]; kind is "words", "long" or nothing
function table(parent, caption, columns, rows, mark) {
  const box = add(parent, "div", { class: "table", tabindex: "0", role: "region", "aria-label": caption });
  const made = add(box, "table");
  add(made, "caption", {}, caption);
  const head = add(add(made, "thead"), "tr");
  const body = add(made, "tbody");
  let sorted = -1, down = false;
  function fill(order) {
    body.replaceChildren();
    for (const row of order) {
      const line = add(body, "tr", mark && mark(row) ? { class: "now" } : {});
      columns.forEach(([, value, shown, kind], place) => {
        const cell = add(line, place ? "td" : "th", kind ? { class: kind === "long" ? "words long" : kind } : {});
        if (!place) cell.setAttribute("scope", "row");
        const told = shown ? shown(value(row), row) : value(row);
        if (told instanceof Node) cell.appendChild(told);
        else cell.textContent = told === null || told === undefined ? "–" : told;
      });
    }
  }
  columns.forEach(([title, value, , kind], place) => {
    const cell = add(head, "th", { scope: "col", ...(kind ? { class: "words" } : {}) });
    const button = add(cell, "button", { type: "button", title: "Sort by this column" }, title);
    button.addEventListener("click", () => {
      down = sorted === place ? !down : place > 0;
      sorted = place;
      for (const other of head.children) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => { const v = value(row); return v === null || v === undefined ? -Infinity : v; };
      fill([...rows].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (down ? -1 : 1)));
    });
  });
  fill(rows);
  return box;
}

const POINT = [
  [`${D.quality}`, (p) => p.quality, (v) => share(v, 2)],
  ["of the full tier's", (p) => p.kept, (v) => share(v, 2)],
  ["± 2 errors", (p) => p.error, (v) => (v === null ? "–" : (200 * v).toFixed(2))],
  ["agreement", (p) => p.agreement, (v) => share(v, 2)],
  [`cost, ${unit}`, (p) => p.cost, number],
  ["times less", (p) => D.full.cost / p.cost, (v) => v.toFixed(1)],
];

// ---- scales

function ticksOf(low, high, log) {
  const found = [];
  if (log) {
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const step of [1, 2, 5]) {
        const value = step * 10 ** power;
        if (value >= low && value <= high) found.push(value);
      }
    return found.length > 9 ? found.filter((v) => /^1(e|0*$)|^0\.0*1$/.test(String(Number(v.toPrecision(1))))) : found;
  }
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= rough);
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-12; value += step) found.push(value);
  return found;
}

// ---- the curve

const SERIES = [
  { key: "exit", name: "one exit alone", paint: "var(--faint)", r: 3, shown: true },
  { key: "threshold", name: "one reliability threshold", paint: "var(--family)", r: 2.5, line: true, plain: true, dash: "6 4", shown: true },
  { key: "probability", name: "one probability threshold", paint: "var(--rule)", r: 2.5, line: true, plain: true, dash: "2 3", shown: true },
  { key: "searched", name: "searched policies", paint: "var(--accent)", r: 3.2, line: true, shown: true },
  { key: "certified", name: "certified", paint: "var(--proved)", r: 4.2, shown: true },
  { key: "tier", name: item === "text" ? "one tier alone" : "one model alone", paint: "var(--ink)", square: true, shown: true },
  { key: "chosen", name: "served", paint: "var(--star)", star: true, shown: true },
];
const POINTS = {
  ...D.points,
  searched: D.line.filter((p) => p.level !== null),
  certified: D.line.filter((p) => p.status === "certified"),
  chosen: [D.line[D.chosen]],
};
let current = D.chosen;
let everything = false;

const STAR = (x, y, r) => {
  let path = "";
  for (let i = 0; i < 10; i++) {
    const angle = -Math.PI / 2 + (i * Math.PI) / 5, radius = i % 2 ? r * 0.45 : r;
    path += `${i ? "L" : "M"}${(x + radius * Math.cos(angle)).toFixed(1)} ${(y + radius * Math.sin(angle)).toFixed(1)}`;
  }
  return path + "Z";
};

function mark(parent, series, x, y) {
  if (series.star) return add(parent, "path", { d: STAR(x, y, 9), fill: series.paint, stroke: "var(--card)", "stroke-width": 1.5 });
  if (series.square) return add(parent, "rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9, rx: 1.5, fill: series.paint });
  return add(parent, "circle", { cx: x, cy: y, r: series.r, fill: series.paint });
}

function nameOf(series, point) {
  if (series.key === "chosen") return "the served policy";
  if (series.key === "certified") return "a certified policy";
  if (series.key === "searched") return `searched: lose at most ${share(point.level, 2)}`;
  if (series.key === "tier") return `${point.name} alone`;
  return point.name;
}

function drawCurve() {
  const box = $("plot"), width = box.clientWidth, narrow = width < 520;
  const height = narrow ? 300 : 420, left = narrow ? 46 : 58, right = 14, top = 14, bottom = 46;
  box.replaceChildren();
  const shown = SERIES.filter((s) => s.shown);
  const all = shown.flatMap((s) => POINTS[s.key]);
  if (!all.length) return;
  const best = Math.max(...all.map((p) => p.quality), D.full.quality);
  const floor = everything ? 0 : Math.min(D.line[current].quality, 0.95 * D.full.quality) - 0.005;
  const inside = all.filter((p) => p.quality >= floor);
  const low = Math.min(...inside.map((p) => p.quality)), margin = (best - low) * 0.07 || 0.01;
  const y0 = Math.max(0, low - margin), y1 = Math.min(best + margin, Math.max(best, 1));
  const costs = all.filter((p) => p.cost > 0 && p.quality >= floor).map((p) => p.cost);
  const x0 = Math.min(...costs) / 1.25, x1 = Math.max(...costs) * 1.25;
  const X = (v) => left + ((Math.log(Math.max(v, x0)) - Math.log(x0)) / (Math.log(x1) - Math.log(x0))) * (width - left - right);
  const Y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
  const svg = add(box, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${D.quality} against cost of all policies; the numbers are in the tables below` });
  for (const value of ticksOf(y0, y1, false)) {
    add(svg, "line", { x1: left, x2: width - right, y1: Y(value), y2: Y(value), stroke: "var(--grid)" });
    add(svg, "text", { x: left - 8, y: Y(value) + 4, "text-anchor": "end", class: "soft" }, (100 * value).toFixed(y1 - y0 < 0.03 ? 1 : 0) + " %");
  }
  let free = -1;
  for (const value of ticksOf(x0, x1, true)) {
    add(svg, "line", { x1: X(value), x2: X(value), y1: top, y2: height - bottom, stroke: "var(--grid)" });
    if (X(value) - free < 34) continue;
    free = X(value);
    add(svg, "text", { x: X(value), y: height - bottom + 18, "text-anchor": "middle", class: "soft" }, number(value));
  }
  add(svg, "text", { x: width - right, y: height - 6, "text-anchor": "end", class: "soft" }, `mean cost of a ${item}, ${unit} (log scale)`);
  add(svg, "text", { x: left, y: height - 6, class: "soft" }, narrow ? "" : `${D.quality} ↑`);
  if (D.full.quality >= y0) {
    add(svg, "line", { x1: left, x2: width - right, y1: Y(D.full.quality), y2: Y(D.full.quality), stroke: "var(--faint)", "stroke-dasharray": "1 5", "stroke-linecap": "round", "stroke-width": 1.6 });
    add(svg, "text", { x: left + 4, y: Y(D.full.quality) - 5, class: "soft halo" }, D.full.own ? "the full tier" : "the full tier in float32");
  }
  const spots = [];
  for (const series of shown) {
    const group = add(svg, "g"), points = POINTS[series.key].filter((p) => p.cost > 0 && p.quality >= y0);
    if (series.line && points.length > 1) {
      const ordered = [...points].sort((a, b) => a.cost - b.cost);
      add(group, "polyline", { points: ordered.map((p) => `${X(p.cost)},${Y(p.quality)}`).join(" "), fill: "none", stroke: series.paint, "stroke-width": 1.8, "stroke-dasharray": series.dash || "none", "stroke-linejoin": "round", opacity: 0.85 });
    }
    for (const point of points) {
      if (!series.plain) mark(group, series, X(point.cost), Y(point.quality));
      spots.push({ series, point, x: X(point.cost), y: Y(point.quality) });
    }
  }
  for (const point of SERIES[5].shown ? POINTS.tier.filter((p) => p.quality >= y0) : []) {
    const x = X(point.cost), end = x > width - 90;
    add(svg, "text", { x: end ? x - 9 : x + 9, y: Y(point.quality) + 18, "text-anchor": end ? "end" : "start", class: "halo" }, point.name);
  }
  const now = D.line[current], x = X(now.cost), y = Y(now.quality);
  const ring = add(svg, "g", { "pointer-events": "none" });
  if (now.error !== null) {
    const reach = 2 * now.error * D.full.quality, up = Math.max(top, Y(now.quality + reach)), down = Math.min(height - bottom, Y(now.quality - reach));
    add(ring, "path", { d: `M${x} ${up}V${down}M${x - 5} ${up}h10M${x - 5} ${down}h10`, stroke: "var(--ink)", "stroke-width": 1.3, fill: "none", opacity: 0.65 });
  }
  add(ring, "circle", { cx: x, cy: y, r: 12, fill: "none", stroke: "var(--ink)", "stroke-width": 2 });
  const below = all.filter((p) => p.quality < y0).length;
  const button = below || everything ? add(box, "button", { type: "button", style: "position:absolute;right:16px;bottom:54px;font-size:.8rem" }, everything ? "Zoom in" : `${below} ${below > 1 ? "points" : "point"} below: show all`) : null;
  if (button) button.addEventListener("click", () => { everything = !everything; drawCurve(); });
  const nearest = (event) => {
    const edge = svg.getBoundingClientRect(), px = event.clientX - edge.left, py = event.clientY - edge.top;
    let found = null, least = 26;
    for (const spot of spots) {
      const away = Math.hypot(spot.x - px, spot.y - py) - (spot.series.star ? 4 : 0);
      if (away < least) { least = away; found = spot; }
    }
    return found;
  };
  const point = (event) => {
    const found = nearest(event);
    if (!found) { hideTip(); svg.style.cursor = ""; return; }
    svg.style.cursor = D.line.includes(found.point) ? "pointer" : "";
    const p = found.point;
    tip(event.clientX, event.clientY, nameOf(found.series, p), [
      `${D.quality} ${share(p.quality, 2)}, ${share(p.kept, 2)} of the full tier's ${error(p.error)}`,
      `${price(p.cost)} a ${item}, ${number(D.full.cost / p.cost)} times less`,
      ...(p.abstained ? [`${share(p.abstained)} left to a person`] : []),
    ]);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", hideTip);
  svg.addEventListener("click", (event) => {
    const found = nearest(event), place = found ? D.line.indexOf(found.point) : -1;
    if (place >= 0) select(place);
  });
}

function tip(x, y, title, lines) {
  const box = $("tip");
  box.replaceChildren();
  add(box, "b", {}, title);
  for (const line of lines) add(box, "div", {}, line);
  box.hidden = false;
  const wide = box.offsetWidth, high = box.offsetHeight;
  box.style.left = Math.max(6, Math.min(x + 16, innerWidth - wide - 8)) + "px";
  box.style.top = (y + high + 26 > innerHeight ? y - high - 14 : y + 18) + "px";
}
function hideTip() { $("tip").hidden = true; }

function drawKeys() {
  for (const series of SERIES) {
    if (!POINTS[series.key].length) continue;
    const button = add($("keys"), "button", { type: "button", "aria-pressed": "true" });
    const sign = add(button, "svg", { width: 18, height: 14, "aria-hidden": "true" });
    if (series.line) add(sign, "line", { x1: 0, x2: 18, y1: 7, y2: 7, stroke: series.paint, "stroke-width": 2, "stroke-dasharray": series.dash || "none" });
    if (!series.plain) mark(sign, series, 9, 7);
    add(button, "span", {}, series.name);
    button.addEventListener("click", () => {
      series.shown = !series.shown;
      button.setAttribute("aria-pressed", series.shown);
      drawCurve();
    });
  }
}

// ---- one policy: the slider, its tiles, and the flow of texts

const lastTier = tierOf(D.answering[D.answering.length - 1]);
const answeredBy = (policy, tier) =>
  policy.answered.reduce((sum, row) => sum + row.reduce((s, n, k) => s + (D.stages[k].tier === tier ? n : 0), 0), 0);

function tile(title, value, note) {
  const box = add($("tiles"), "div");
  add(box, "dt", {}, title);
  const cell = add(box, "dd", {}, value);
  add(cell, "small", {}, note);
}

function select(place) {
  current = place;
  const p = D.line[place], slider = $("target"), label = $("target-label");
  slider.value = place;
  label.replaceChildren();
  const goal = p.level === null ? null : `lose at most ${share(p.level, 2)} of the full tier's ${D.quality}`;
  add(label, "span", {}, p.chosen ? "The policy that serves" : "Target: ");
  if (!p.chosen) add(label, "b", {}, goal || "a certified policy that no target picks");
  slider.setAttribute("aria-valuetext", `${p.chosen ? "the served policy" : goal || "a certified policy"}; ${share(p.kept, 2)} kept, ${price(p.cost)} a ${item}`);
  $("tiles").replaceChildren();
  const rest = 1 - answeredBy(p, lastTier) / D.texts;
  tile("Cost", `${number(D.full.cost / p.cost)} × less`, `${price(p.cost)} a ${item}, full ${price(D.full.cost)}`);
  tile(`${Quality} kept`, share(p.kept, 2), `${error(p.error)} (two errors) on these ${items}`);
  tile(Quality, share(p.quality, 2), `full tier ${share(D.full.quality, 2)}`);
  tile("Never reach the full tier", share(rest), `agree with it: ${share(p.agreement, 2)}`);
  const line = $("policy");
  line.replaceChildren();
  const said = { certified: ["good", "certified"], failed: ["bad", "failed the test"], "not reached": ["", "not tested"], searched: ["", "not certified"] }[p.status];
  add(line, "span", { class: `tag ${said[0]}` }, said[1]);
  if (p.abstained) add(line, "span", { class: "tag" }, `${share(p.abstained)} left to a person`);
  add(line, "span", {}, p.words);
  drawCurve();
  drawRiver(p);
}

function startSlider() {
  const slider = $("target");
  slider.max = D.line.length - 1;
  slider.addEventListener("input", () => select(Number(slider.value)));
  $("served").addEventListener("click", () => select(D.chosen));
  $("safer").addEventListener("click", () => select(Math.max(0, current - 1)));
  $("cheaper").addEventListener("click", () => select(Math.min(D.line.length - 1, current + 1)));
}

// Texts come in at the top and flow down. At each exit the ribbon of those that it answers bends
// to the right. Texts that a router sends past a tier wait at the left until their tier begins.
function drawRiver(p) {
  const box = $("river"), width = box.clientWidth, narrow = width < 520;
  const full = narrow ? Math.min(150, width * 0.36) : Math.min(300, width * 0.3);
  const longest = Math.max(...p.path.map((t) => D.tiers[t].length * 8), ...D.stages.map((s) => s.name.length * 6.6));
  const left = Math.max(76, Math.min(longest + 22, narrow ? width * 0.3 : 230)), bend = 12, end = narrow ? left + full + 28 : left + full + 90;
  const size = (count) => (count / D.texts) * full;
  const on = D.stages.map((stage, k) => ({ ...stage, k })).filter((s) => p.thresholds[s.k] !== null && p.path.includes(s.tier));
  const short = (name, letter) => (name.length * letter > left - 16 ? name.slice(0, Math.floor((left - 16) / letter) - 1) + "…" : name);
  const rows = [];
  for (const tier of p.path) {
    rows.push({ tier, head: true });
    for (const stage of on.filter((s) => s.tier === tier))
      rows.push({ tier, stage, count: p.answered.reduce((sum, row) => sum + row[stage.k], 0) });
  }
  const heights = rows.map((row) => (row.head ? 34 : Math.max(24, size(row.count) + 14)));
  const height = heights.reduce((a, b) => a + b, 0) + 40;
  box.replaceChildren();
  const svg = add(box, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `How ${items} flow through the tiers; the numbers are in the table below` });
  const waits = p.path.slice(1).map((tier) => ({ tier, count: p.entry[tier] })).filter((w) => w.count);
  let waiting = waits.reduce((sum, w) => sum + w.count, 0), running = D.texts - waiting, y = 30;
  const from = (count) => left + full - size(count); // the trunk keeps its left edge at the lanes
  let edge = left + size(waiting);
  add(svg, "text", { x: left, y: 14, class: "soft" }, `${whole(D.texts)} ${items}${p.routed ? ", dealt by the router" : ""}`);
  const final = on.length ? on[on.length - 1].k : -1;
  const told = (row) => `${whole(row.count)} ${items}, ${row.stage.k === final ? "whatever is left" : `reliability from ${Number(p.thresholds[row.stage.k].toPrecision(4))}`}`;
  const ribbon = (x, w, top, bottom, paint) => w > 0 && add(svg, "rect", { x, y: top, width: Math.max(w, 0.6), height: bottom - top + 0.5, fill: paint });
  rows.forEach((row, index) => {
    const bottom = y + heights[index];
    if (row.head) {
      const joins = waits.find((w) => w.tier === row.tier);
      if (joins) { waiting -= joins.count; running += joins.count; edge -= size(joins.count); }
      add(svg, "line", { x1: 0, x2: width, y1: y + 3, y2: y + 3, stroke: "var(--line)" });
      add(svg, "rect", { x: 0, y: y + 12, width: 4, height: 16, rx: 2, fill: colour(row.tier) });
      add(svg, "text", { x: 10, y: y + 25, "font-weight": 650 }, short(D.tiers[row.tier], 8));
      add(svg, "text", { x: end, y: y + 25, class: "soft" }, `${share(running / D.texts)} get here${joins ? `, ${share(joins.count / D.texts)} straight` : ""}`);
      ribbon(edge, size(running), y, bottom, "var(--trunk)");
    } else {
      const s = size(row.count), right = edge + size(running);
      ribbon(edge, size(running) - s, y, bottom, "var(--trunk)");
      if (row.count) {
        const r = bend + s, stop = end - 8;
        const shape = add(svg, "path", { fill: colour(row.tier), opacity: 0.88,
          d: `M${right - s} ${y}A${r} ${r} 0 0 0 ${right - s + r} ${y + r}H${Math.max(stop, right - s + r)}V${y + bend}H${right + bend}A${bend} ${bend} 0 0 1 ${right} ${y}Z` });
        shape.addEventListener("pointermove", (e) => tip(e.clientX, e.clientY, row.stage.name, [share(row.count / D.texts), told(row)]));
        shape.addEventListener("pointerleave", hideTip);
      }
      running -= row.count;
      add(svg, "text", { x: 10, y: y + 12 + Math.max(4, s / 2 + 4), class: "soft" }, short(row.stage.name, 6.6));
      const middle = y + bend + s / 2 + 4;
      add(svg, "text", { x: end, y: middle, "font-weight": row.count > D.texts / 10 ? 650 : 400 }, share(row.count / D.texts));
      if (width > 620) add(svg, "text", { x: end + 74, y: middle, class: "soft" }, told(row));
    }
    ribbon(left, size(waiting), y, bottom, "var(--bypass)");
    y = bottom;
  });
  const table_ = $("flow-table");
  table_.replaceChildren();
  table(table_, p.chosen ? "The served policy" : "The selected policy", [
    ["stage", (r) => r.stage.name],
    ["tier", (r) => D.tiers[r.tier], null, "words"],
    ["answers from reliability", (r) => (r.stage.k === final ? 0 : p.thresholds[r.stage.k]), (v) => (v ? v.toPrecision(4) : "all that is left")],
    [`answered ${items}`, (r) => r.count, whole],
    ["share", (r) => r.count / D.texts, (v) => share(v, 2)],
  ], rows.filter((r) => !r.head));
}

// ---- what stands still: certificate, parts, diagrams, router, changes

function certificate() {
  const box = $("proved"), w = D.words;
  add(box, "p", { class: "promise" }, `Promise: ${w.promise}.`);
  const line = add(box, "p");
  add(line, "span", { class: /^(CERTIFIED|REPLACE)/.test(w.headline) ? "tag good" : "tag bad" }, w.headline);
  add(line, "span", {}, w.meaning);
  const p = D.line[D.chosen];
  add(box, "p", { class: "policy" }, `Policy: ${p.words}.`);
  if (p.kept !== null) {
    const lost = 1 - p.kept;
    add(box, "p", {}, `On the ${whole(D.texts)} ${items} shown here it ${lost >= 0 ? "lost" : "won"} ${share(Math.abs(lost), 2)} of the full tier's ${D.quality} (${error(p.error)}, two standard errors).${w.facts.length && item === "text" ? " That is a reading; the proof is on the certification rows." : ""}`);
  }
  if (w.facts.length) {
    const list = add(add(box, "details"), "summary", {}, "Everything that was tested, and how").parentNode;
    const facts = add(list, "dl", { class: "facts" });
    for (const [name, value] of w.facts) { add(facts, "dt", {}, name); add(facts, "dd", {}, value); }
  }
  if (w.assumptions.length) {
    add(box, "h3", {}, "What is assumed");
    const list = add(box, "ul", { class: "plain" });
    for (const each of w.assumptions) add(list, "li", {}, each);
  }
  for (const each of w.warnings || []) add(box, "p", { class: "lead" }, `Warning: ${each}`);
}

function mix(shares) {
  const bar = document.createElement("span");
  bar.className = "mix";
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", shares.map((s, i) => `${D.answering[i]} ${share(s)}`).join(", "));
  bar.title = bar.getAttribute("aria-label");
  shares.forEach((s, i) => add(bar, "span", { style: `width:${100 * s}%;background:var(--t${i % 6})` }));
  return bar;
}

function legend(parent) {
  const box = add(parent, "p", { class: "legend" });
  D.answering.forEach((name, i) => {
    const entry = add(box, "span");
    add(entry, "i", { style: `background:var(--t${i % 6})` });
    entry.append(`answered by ${name}`);
  });
}

function parts() {
  const box = $("breakdowns");
  add(box, "p", { class: "lead" }, "The served policy beside the full tier. Small parts scatter: of 20 texts one is 5 points. A heading sorts its table.");
  legend(box);
  const columns = (title) => [
    [title, (r) => r.name, null, "words"],
    [items, (r) => r.texts, whole],
    ...(D.quality === "agreement" ? [] : [
      [D.quality, (r) => r.quality, (v) => share(v)],
      ["full tier's", (r) => r.full, (v) => share(v)],
      ["difference", (r) => (r.quality === null ? null : r.quality - r.full), (v) => (v === null ? "–" : (v > 0 ? "+" : v < 0 ? "−" : "") + Math.abs(100 * v).toFixed(1))],
    ]),
    ["agreement", (r) => r.agreement, (v) => share(v)],
    [`cost, ${unit}`, (r) => r.cost, number],
    ["times less", (r) => r.full_cost / r.cost, number],
    ["who answers", (r) => r.shares[0], (v, r) => mix(r.shares)],
  ];
  if (D.lengths.length) table(box, "By length, in tokens", columns("tokens"), D.lengths);
  if (D.classes.length) table(box, "By class, the true label; those that lose most first", columns("class"), D.classes);
  if (D.groups.length) table(box, "By group", columns("group"), D.groups);
  if (!D.lengths.length && !D.classes.length && !D.groups.length) add(box, "p", {}, "Neither classes nor lengths of these rows are known.");
}

function diagram(title, found, diagonal) {
  const figure = add($("diagrams"), "figure"), size = 190, edge = 26, low = Math.min(...found.bins.map((b) => Math.min(b.said, b.low)), 0.9);
  const from = diagonal ? Math.max(0, Math.floor(low * 10) / 10) : 0;
  const P = (v) => edge + ((v - from) / (1 - from)) * (size - edge - 6), Q = (v) => size - P(v);
  const caption = add(figure, "figcaption", {}, title + " ");
  if (diagonal) add(caption, "span", {}, `gap ${(100 * found.gap).toFixed(1)}`);
  const svg = add(figure, "svg", { viewBox: `0 0 ${size} ${size}`, width: "100%", role: "img", "aria-label": `${title}: said against was; numbers below` });
  for (const v of [from, (from + 1) / 2, 1]) {
    add(svg, "line", { x1: edge, x2: size - 6, y1: Q(v), y2: Q(v), stroke: "var(--grid)" });
    add(svg, "text", { x: edge - 4, y: Q(v) + 4, "text-anchor": "end", class: "soft", style: "font-size:10px" }, (100 * v).toFixed(0));
    add(svg, "text", { x: P(v), y: size - edge + 15, "text-anchor": v === 1 ? "end" : "middle", class: "soft", style: "font-size:10px" }, (100 * v).toFixed(0));
  }
  if (diagonal) add(svg, "line", { x1: P(from), y1: Q(from), x2: P(1), y2: Q(1), stroke: "var(--faint)", "stroke-dasharray": "4 4" });
  const clamp = (v) => Math.max(from, Math.min(1, v));
  for (const bin of found.bins) {
    add(svg, "line", { x1: P(clamp(bin.said)), x2: P(clamp(bin.said)), y1: Q(clamp(bin.low)), y2: Q(clamp(bin.high)), stroke: "var(--accent)", "stroke-width": 1.4, opacity: 0.55 });
    const dot = add(svg, "circle", { cx: P(clamp(bin.said)), cy: Q(clamp(bin.was)), r: 4, fill: "var(--accent)" });
    dot.addEventListener("pointermove", (e) => tip(e.clientX, e.clientY, title, [`said ${share(bin.said)}, was ${share(bin.was)}`, `${whole(bin.texts)} ${items}, 95 %: ${share(bin.low)} to ${share(bin.high)}`]));
    dot.addEventListener("pointerleave", hideTip);
  }
}

function diagrams() {
  const r = D.reliability;
  $("reliability-lead").textContent = r.calibrated
    ? `Across: the reliability that an exit gave. Up: the share of its answers that are as good as the full tier's, with 95 % intervals. On the line it says what is. The exits that the served policy asks${D.score ? ", and first the score of the answers that were given against how many are right" : ""}.`
    : "Across: how sure the stage was. Up: the share of its answers as good as the full model's, with 95 % intervals. These orders decide who answers; they are no probabilities.";
  if (D.score) diagram("score of the answers", D.score, true);
  for (const stage of r.stages) diagram(stage.name, stage, r.calibrated);
  const rows = [...(D.score ? [{ name: "score of the answers", ...D.score }] : []), ...r.stages].flatMap((s) => s.bins.map((b) => ({ ...b, name: s.name })));
  if (!rows.length) { $("diagrams").textContent = "The served policy asks no exit how sure it is."; return; }
  table($("reliability-table"), "Bins of equally many", [
    ["stage", (b) => b.name, null, "words"], ["said", (b) => b.said, (v) => share(v, 2)], ["was", (b) => b.was, (v) => share(v, 2)],
    ["from", (b) => b.low, (v) => share(v)], ["to", (b) => b.high, (v) => share(v)], [items, (b) => b.texts, whole],
  ], rows);
}

function entries() {
  const box = $("entries"), rows = D.router.rows, most = Math.max(...rows.map((r) => r.cost));
  add(box, "p", { class: "lead" }, D.router.routed
    ? "The served policy, entered in other ways: the same exits and thresholds, the rules themselves for free."
    : `No router decides here: all ${items} enter at the first tier of the path. What other ways to enter would do, with the same thresholds, the rules themselves for free.`);
  if (rows.length < 2) add(box, "p", {}, "One tier answers everything, so there is nothing to route.");
  else table(box, "Ways to enter", [["entry", (r) => r.name, null, "words"],
    ...POINT.slice(0, 4), [`cost, ${unit}`, (r) => r.cost, (v) => {
      const cell = document.createElement("span");
      add(cell, "span", { class: "bar", style: `width:${(90 * v) / most}px` });
      cell.append(number(v));
      return cell;
    }]], rows);
  if (D.router.words) add(box, "p", { class: "policy" }, D.router.words);
}

function changes() {
  const box = $("changes"), c = D.changed;
  const names = { won: "right, the full tier wrong", lost: "wrong, the full tier right", neither: "both wrong, or as good", differ: "another answer" };
  add(box, "p", { class: "lead" }, `The served policy answers ${whole(c.total)} of ${whole(D.texts)} ${items} otherwise than the full tier (${share(c.total / D.texts, 2)}).`);
  table(box, "Answers that differ, by the tier that gave them", [["tier", (r) => r.name, null, "words"],
    ...c.kinds.map((kind) => [names[kind], (r) => r[kind], whole])], c.rows);
  if (c.texts) table(box, `The ${items} themselves${c.texts.length < c.total ? `, ${c.texts.length} of them` : ""}`, [
    ["row", (r) => r.row, (v) => String(v + 1)], [item, (r) => r.text, null, "long"], ["label", (r) => r.label, null, "label"],
    ["full tier", (r) => r.full, null, "label"], ["policy", (r) => r.policy, null, "label"],
    ["stage", (r) => r.stage, null, "label"], ["reliability", (r) => r.reliability, number],
  ], c.texts);
  else if (item === "text") add(box, "p", { class: "policy" }, "No text is in this page. `adaptive report --texts` puts those that changed into it.");
}

function begin() {
  $("kind").textContent = `adaptive report · ${D.version}`;
  $("name").textContent = D.name;
  $("rows").textContent = `${whole(D.texts)} ${D.rows}`;
  $("verdict").textContent = D.words.headline;
  if (/^(CERTIFIED|REPLACE)/.test(D.words.headline)) $("verdict").classList.add("good");
  for (const part of document.querySelectorAll("main > section"))
    add($("nav"), "a", { href: "#" + part.id }, part.querySelector("h2").textContent);
  $("curve-lead").textContent = `Each point is a way to answer these ${items}. Up is better, left is cheaper. The slider names a target, and the cheapest policy that kept it on ${D.searched ? `the ${whole(D.searched)} rows of the search, two standard errors to spare,` : "these very rows, two standard errors to spare,"} is the one ringed.`;
  $("flow-lead").textContent = `The policy that the slider chose, from the first exit down. A ribbon is as wide as its share of the ${items}.`;
  $("foot").textContent = `Costs: ${D.words.costs} Made by adaptive-cascade ${D.version}; the page loads nothing from anywhere.`.replace(/([^.]) Made/, "$1. Made");
  drawKeys();
  startSlider();
  certificate();
  parts();
  diagrams();
  entries();
  changes();
  const tables = $("curve-tables");
  table(tables, "The line that the slider goes along, safe to cheap", [
    ["chosen for losing at most", (p) => p.level, (v, p) => (p.chosen ? "the served policy" : v === null ? "certified" : share(v, 2)), "words"],
    ...POINT, ["certificate", (p) => p.status, null, "words"]], D.line, (p) => p.chosen);
  for (const series of SERIES.filter((s) => D.points[s.key] && D.points[s.key].length))
    table(tables, series.name[0].toUpperCase() + series.name.slice(1), [["", (p) => p.name, null, "words"], ...POINT], D.points[series.key]);
  select(D.chosen);
  let wide = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; select(current); } });
}
begin();
