// Drift of each model, and the canary and the shadow beside the served version. Each as a table.

import { at, counted, element, heads, percent } from "./drawing.js";
import * as service from "./service.js";

const FEATURES = { labels: "Labels", confidence: "Confidence", length: "Text length", unknown_features: "Unknown features" };

/** Show the drift of every model that is loaded. */
export async function showDrift() {
  const state = await service.models();
  const reports = await Promise.all(state.filter((one) => one.version).map((one) => service.drift(one.name)));
  at("drift-chart").replaceChildren(...reports.flatMap(drawDrift));
}

function drawDrift(report) {
  const facts = `${report.model}, version ${report.version}: ${report.state}`;
  const windows = report.windows.flatMap((one) => (one.texts ? drawWindow(one) : []));
  return [element("p", "", element("strong", "", facts)), ...windows];
}

function drawWindow(window) {
  const words = `${window.window === "long" ? "Long" : "Recent"} window: ${counted(window.texts, "text")}${window.is_judged ? "" : ", too few to judge"}`;
  const features = Object.entries(window.features).map(([name, one]) => [
    FEATURES[name] ?? name,
    one.psi === null ? "–" : `${one.psi.toFixed(3)} (${one.psi_low.toFixed(3)} to ${one.psi_high.toFixed(3)})`,
    one.p_value === null ? "–" : one.p_value < 0.001 ? "< 0.001" : one.p_value.toFixed(3),
    one.is_drifting ? "drifting" : "steady",
  ]);
  const shares = window.labels.map((one) => [one.label, percent(one.reference), percent(one.current)]);
  return [
    element("p", "fine", words),
    scrolling("Drift by feature", tableOf(["Feature", "PSI (95 % interval)", "p", "State"], features)),
    scrolling("Share of each label", tableOf(["Label", "Training", "Now"], shares)),
  ];
}

/** Show the served version beside its canary, and the texts that a second version scored again. */
export function showComparison(samples) {
  const answered = (side) => total(samples, "tamis_canary_requests_total", { side });
  const isComparing = answered("canary") + answered("served") + total(samples, "tamis_comparisons_total") > 0;
  at("comparison").hidden = !isComparing;
  if (!isComparing) return;
  const drawn = [];
  if (answered("canary") + answered("served")) drawn.push(scrolling("Canary and served version", drawSides(samples)));
  drawn.push(...drawAgreement(samples));
  at("comparison-chart").replaceChildren(...drawn);
}

function drawSides(samples) {
  const sides = ["served", "canary"];
  const requests = sides.map((side) => total(samples, "tamis_canary_requests_total", { side }));
  const errors = sides.map((side) => total(samples, "tamis_canary_requests_total", { side, result: "error" }));
  const means = sides.map((side) => {
    const [sum, count] = ["sum", "count"].map((part) => total(samples, `tamis_canary_duration_seconds_${part}`, { side }));
    return count ? `${((1_000 * sum) / count).toFixed(1)} ms` : "–";
  });
  return tableOf(["Figure", "Served", "Canary"], [
    ["Requests", ...requests],
    ["Errors", ...errors],
    ["Mean time", ...means],
  ]);
}

function drawAgreement(samples) {
  const [agreed, disagreed, dropped] = ["agreed", "disagreed", "dropped"].map((result) =>
    total(samples, "tamis_comparisons_total", { result }));
  if (!(agreed + disagreed)) return [];
  const words = `${counted(agreed + disagreed, "text")} scored by both versions: ${percent(agreed / (agreed + disagreed))} `
    + `with the same decision, ${counted(disagreed, "text")} with another; ${counted(dropped, "text")} left out under load.`;
  return [element("p", "", words)];
}

function total(samples, name, labels = {}) {
  const isMeant = (one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value);
  return samples.filter(isMeant).reduce((sum, one) => sum + one.value, 0);
}

function tableOf(titles, rows) {
  const body = rows.map(([name, ...cells]) => {
    const head = Object.assign(element("th", "", name), { scope: "row" });
    return element("tr", "", head, ...cells.map((cell) => element("td", "", String(cell))));
  });
  return element("table", "", heads(...titles), element("tbody", "", ...body));
}

function scrolling(name, table) {
  const box = element("div", "scrolls figures", table);
  Object.assign(box, { tabIndex: 0, role: "group", ariaLabel: name });
  return box;
}
