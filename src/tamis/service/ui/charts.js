// Charts as SVG: calls by hour and label, latency, cache hits. Each also has its data as a table.

import { at, counted, element, heads, MANY, percent } from "./drawing.js";
import { showComparison, showDrift } from "./monitoring.js";
import * as service from "./service.js";

const HOURS = 24;
const HOUR_MS = 3_600_000;
const [WIDTH, HEIGHT, FLOOR] = [480, 160, 136];
const SERIES = 6; // colours in page.css; further labels share the last one

/** Show the charts of the data that this caller may read. */
export async function showCharts(context) {
  // whole hours, as the service counts: the current one is the last bar
  const since = new Date(Math.floor(Date.now() / HOUR_MS - HOURS + 1) * HOUR_MS);
  const { counts } = await service.summary({ since: since.toISOString() });
  at("calls-chart").replaceChildren(...drawCounts(counts, since));
  await showDrift();
  await showComparison();
  if (context.mayReadMetrics) await showMetrics(context);
  at("news").textContent = "Charts updated.";
}

async function showMetrics(context) {
  let page;
  try {
    page = parseMetrics(await service.text("metrics"));
  } catch (refusal) {
    if (refusal.status !== 403) throw refusal;
    context.mayReadMetrics = false; // the key lacks the scope: the charts stay hidden
    return;
  }
  at("latency").hidden = at("cache").hidden = false;
  at("latency-chart").replaceChildren(...drawLatency(page));
  at("cache-chart").replaceChildren(...drawCache(page));
}

/** Parse Prometheus text into samples `{name, labels, value}`. */
export function parseMetrics(text) {
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  return lines.map((line) => {
    const [, name, , labels, value] = /^(\w+)(\{(.*)\})? (\S+)/.exec(line);
    // a label's value may contain escaped quotes, commas and braces
    const pairs = [...(labels ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text_]) => [key, text_]);
    return { name, labels: Object.fromEntries(pairs), value: Number(value) };
  });
}

function drawCounts(counts, since) {
  const labels = [...new Set(counts.map((one) => one.label))].sort();
  const hours = Array.from({ length: HOURS }, (_, index) => new Date(since.getTime() + index * HOUR_MS));
  const byHour = hours.map((hour) => labels.map((label) => countOf(counts, hour, label)));
  const total = counts.reduce((sum, one) => sum + one.count, 0);
  const largest = Math.max(1, ...byHour.map((row) => row.reduce((sum, one) => sum + one, 0)));
  const bars = byHour.flatMap((row, index) => stack(row, index, largest));
  const title = `${counted(total, "call")} in the last ${HOURS} hours, at most ${MANY.format(largest)} an hour`;
  const names = hours.map((hour) => hour.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  const rows = byHour.map((row, index) => [names[index], ...row]).filter((row) => row.slice(1).some(Boolean));
  const axis = [0, 8, 16, 23].map((index) => caption(names[index], (index + 0.5) / HOURS));
  return [element("p", "fine", title), picture(title, [...bars, ...axis]), legend(labels), tableOf(["Hour", ...labels], rows)];
}

const countOf = (counts, hour, label) =>
  counts.filter((one) => one.label === label && new Date(one.hour).getTime() === hour.getTime())
    .reduce((sum, one) => sum + one.count, 0);

function stack(row, index, largest) {
  let top = FLOOR;
  return row.map((count, series) => {
    const height = (count / largest) * (FLOOR - 8);
    top -= height;
    const width = WIDTH / HOURS - 4;
    return shape("rect", { x: (index * WIDTH) / HOURS + 2, y: top, width, height, class: seriesClass(series) });
  });
}

function drawLatency(samples) {
  const isHot = (one) => one.labels.route?.endsWith("/prediction") || one.labels.route?.endsWith("/predictions");
  const buckets = new Map();
  for (const one of samples) {
    if (one.name !== "http_request_duration_seconds_bucket" || !isHot(one)) continue;
    buckets.set(one.labels.le, (buckets.get(one.labels.le) ?? 0) + one.value);
  }
  // Prometheus's buckets are cumulative: differences of neighbours are the bars
  const cumulative = [...buckets].sort(([one], [other]) => bound(one) - bound(other));
  const rows = cumulative.map(([le, count], index) => [within(le), count - (cumulative[index - 1]?.[1] ?? 0)]);
  const total = cumulative.at(-1)?.[1] ?? 0;
  if (!total) return [element("p", "fine", "No predictions yet.")];
  const title = `p50 ${quantile(cumulative, total, 0.5)}, p99 ${quantile(cumulative, total, 0.99)} over ${counted(total, "request")}`;
  const largest = Math.max(...rows.map(([, count]) => count));
  const step = WIDTH / rows.length;
  const bars = rows.map(([, count], index) => {
    const height = (count / largest) * (FLOOR - 8);
    return shape("rect", { x: index * step + 2, y: FLOOR - height, width: step - 4, height, class: "series0" });
  });
  const axis = [0, Math.floor(rows.length / 2), rows.length - 1].map((index) => caption(rows[index][0], (index + 0.5) / rows.length));
  return [element("p", "fine", title), picture(title, [...bars, ...axis]), tableOf(["Duration", "Requests"], rows)];
}

const bound = (le) => (le === "+Inf" ? Infinity : Number(le));
const within = (le) => (le === "+Inf" ? "longer" : `≤ ${1_000 * Number(le)} ms`);

function quantile(cumulative, total, share) {
  const [le] = cumulative.find(([, count]) => count >= share * total);
  return le === "+Inf" ? "over 10 s" : within(le);
}

function drawCache(samples) {
  const sum = (name) => samples.filter((one) => one.name === name).reduce((total, one) => total + one.value, 0);
  const [hits, misses] = [sum("tamis_cache_hits_total"), sum("tamis_cache_misses_total")];
  if (!(hits + misses)) return [element("p", "fine", "No predictions yet.")];
  const share = hits / (hits + misses);
  const title = `${percent(share)} cache hits: ${MANY.format(hits)} of ${counted(hits + misses, "text")}`;
  const bars = [
    shape("rect", { x: 0, y: 60, width: WIDTH, height: 32, class: "empty" }),
    shape("rect", { x: 0, y: 60, width: WIDTH * share, height: 32, class: "series0" }),
  ];
  return [element("p", "fine", title), picture(title, bars)];
}

function picture(title, shapes) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  svg.append(...shapes);
  return svg;
}

function caption(text, share) {
  const drawn = shape("text", { x: share * WIDTH, y: HEIGHT - 6, "text-anchor": share < 0.1 ? "start" : share > 0.9 ? "end" : "middle" });
  drawn.textContent = text;
  return drawn;
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const seriesClass = (index) => `series${Math.min(index, SERIES - 1)}`;

function legend(labels) {
  return element("ul", "legend", ...labels.map((label, index) => {
    const key = shape("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
    key.append(shape("rect", { width: 10, height: 10, class: seriesClass(index) }));
    return element("li", "", key, label);
  }));
}

function tableOf(titles, rows) {
  const body = rows.map((row) => element("tr", "", ...row.map((cell, index) => element("td", index ? "number" : "", String(cell)))));
  const table = element("div", "scrolls", element("table", "", heads(...titles), element("tbody", "", ...body)));
  table.tabIndex = 0;
  table.role = "group";
  table.ariaLabel = "Data of the chart";
  return element("details", "", element("summary", "", "Data as a table"), table);
}
