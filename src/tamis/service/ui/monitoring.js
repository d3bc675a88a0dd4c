// Tables of drift, and of the canary and the shadow beside the served version.

import { at, counted, element, heads, percent } from "./drawing.js";
import * as service from "./service.js";

const FEATURES = { labels: "Labels", confidence: "Confidence", length: "Text length", unknown_features: "Unknown features" };

/** Show the drift of every loaded model. */
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

/** Show each served version beside its canary, and the texts that a second version scored again. */
export async function showComparison() {
  const state = await service.models();
  const found = await Promise.all(state.filter((one) => one.version).map((one) => service.model(one.name)));
  const drawn = found.flatMap(drawTraffic);
  at("comparison").hidden = !drawn.length;
  at("comparison-chart").replaceChildren(...drawn);
}

function drawTraffic({ name, traffic: { canary, shadow } }) {
  const drawn = [];
  if (canary) {
    const { served, canary: beside } = canary.sides;
    const facts = `${name}: version ${beside.version} answers ${percent(canary.share)} of the callers beside version ${served.version}`;
    drawn.push(element("p", "", element("strong", "", facts)), scrolling("Canary and served version", drawSides([served, beside])));
    drawn.push(...drawAgreement(canary));
  }
  if (shadow) {
    drawn.push(element("p", "", element("strong", "", `${name}: version ${shadow.version} is the shadow`)), ...drawAgreement(shadow));
  }
  return drawn;
}

function drawSides(sides) {
  const row = (title, cell) => [title, ...sides.map(cell)];
  return tableOf(["Metric (95 % interval)", "Served", "Canary"], [
    row("Requests", (one) => one.requests),
    row("Errors", (one) => (one.requests ? within(one.errors, "share") : "–")),
    row("Mean time", (one) => (one.requests ? milliseconds(one.seconds) : "–")),
    ...Object.keys(sides[0].labels).map((label) => row(`Label ${label}`, (one) => within(one.labels[label], "share"))),
    row("Accuracy on feedback", (one) => (one.feedback ? within(one.feedback, "accuracy") : "–")),
  ]);
}

const within = (one, field) => `${percent(one[field])} (${percent(one.low)} to ${percent(one.high)})`;

function milliseconds(one) {
  const [mean, low, high] = [one.mean, one.low, one.high].map((seconds) => (1_000 * seconds).toFixed(1));
  return `${mean} ms (${low} to ${high} ms)`;
}

function drawAgreement({ comparisons: { agreed, disagreed, dropped, disagreement } }) {
  if (!(agreed + disagreed)) return [];
  const words = `${counted(agreed + disagreed, "text")} scored by both versions: ${within(disagreement, "share")} `
    + `with another decision; ${counted(dropped, "text")} left out under load.`;
  return [element("p", "", words)];
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
