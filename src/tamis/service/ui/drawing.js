// Turns the service's responses into elements. Strings become text nodes, never markup: no text can inject HTML.

const SHOWN_LABELS = 10;
const SHOWN_ROWS = 1_000;
const SHOWN_CHARACTERS = 200;
const SHOWN_DIGEST = 12;
export const MANY = new Intl.NumberFormat("en");

/** Return the element with an id. */
export const at = (id) => document.getElementById(id);

/** Make an element; `children` are elements or texts. */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Return a probability as text; only 0 and 1 are shown as certain. */
export function percent(probability) {
  if (probability > 0 && probability < 0.001) return "<\u00a00.1\u00a0%";
  if (probability < 1 && probability > 0.999) return ">\u00a099.9\u00a0%";
  return `${(100 * probability).toFixed(1)}\u00a0%`;
}

/** Return whether a logged text is the text itself, not its digest or empty (TAMIS_LOG_TEXTS). */
export const isKept = (text) => text !== "" && !/^digest:[0-9a-f]{64}$/.test(text);

/** Return a number with its noun. */
export const counted = (number, noun) => `${MANY.format(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Return whether an answer was cached, for display. */
export const origin = (prediction) => (prediction.from_cache ? "cache hit" : "computed");

/** Return a table's head. */
export function heads(...titles) {
  const cells = titles.map((title) => Object.assign(element("th", "", title), { scope: "col" }));
  return element("thead", "", element("tr", "", ...cells));
}

/** Draw one prediction: its decision, the rule, and a bar for each of the most probable labels. */
export function drawPrediction({ prediction, decision }, point) {
  const ranked = Object.entries(prediction).sort(([, one], [, other]) => other - one);
  const bars = ranked.slice(0, SHOWN_LABELS).map(([label, probability]) => {
    const isPositive = label === point?.positive;
    return element(
      "li",
      isPositive ? "positive" : "",
      element("span", "label", label),
      bar(probability, isPositive ? point.threshold : null),
      element("span", "number", percent(probability)),
    );
  });
  const drawn = [
    element("p", "decision", element("span", "", "Decision "), element("strong", "", decision)),
    element("p", "fine", whyDecided(point)),
    element("ul", "bars", ...bars),
  ];
  const hidden = ranked.slice(SHOWN_LABELS);
  if (hidden.length) {
    const rest = hidden.reduce((sum, [, probability]) => sum + probability, 0);
    drawn.push(element("p", "fine", `${counted(hidden.length, "more label")}: ${percent(rest)} together`));
  }
  return drawn;
}

/** Draw a table of predictions, one text per row. */
export function drawList(texts, predictions) {
  const rows = predictions.slice(0, SHOWN_ROWS).map((one, index) => {
    const probability = one.prediction[one.decision];
    return element(
      "tr",
      "",
      element("td", "text", shortened(texts[index])),
      element("td", "label", one.decision),
      element("td", "", bar(probability), element("span", "number", percent(probability))),
      element("td", "fine", origin(one)),
    );
  });
  const table = element("table", "", heads("Text", "Decision", "Probability", "Cache"), element("tbody", "", ...rows));
  const hidden = predictions.length - rows.length;
  return hidden ? [table, element("p", "fine", `${counted(hidden, "more text")} not shown`)] : [table];
}

/** Draw the facts of a model. */
export function drawModel(model) {
  const { accuracy, rows } = model.metrics;
  const point = model.operating_point;
  const labels = model.labels.slice(0, SHOWN_LABELS).join(", ");
  const moreLabels = model.labels.length - SHOWN_LABELS;
  return [
    fact("Name", `${model.name}, version ${model.version}`),
    fact("Kind", model.kind),
    fact("Labels", moreLabels > 0 ? `${labels} and ${counted(moreLabels, "more label")}` : labels),
    fact("Accuracy", ...(accuracy ? measured(accuracy, rows) : ["not measured"])),
    fact("Operating point", ...(point ? pointFacts(point) : ["the most probable label"])),
    fact("Digest", `${model.digest.slice(0, SHOWN_DIGEST)}…`),
  ].flat();
}

/** Draw logged calls as rows, in their order. */
export function drawCalls(calls) {
  return calls.map((call) => {
    const moment = new Date(call.called_at);
    const time = element("time", "", moment.toLocaleTimeString());
    time.dateTime = call.called_at;
    time.title = moment.toLocaleString();
    return element(
      "tr",
      "",
      element("td", "fine", time),
      element("td", "text", isKept(call.input) ? shortened(call.input) : "not kept"),
      element("td", "label", call.decision ?? call.label),
      element("td", "number", percent(call.score)),
      element("td", "fine", call.caller),
    );
  });
}

function shortened(text) {
  // by code points, of which one may be two UTF-16 units: a cut between these would show a broken character
  const characters = Array.from(text.slice(0, 2 * SHOWN_CHARACTERS + 2));
  return characters.length > SHOWN_CHARACTERS ? `${characters.slice(0, SHOWN_CHARACTERS).join("")}…` : text;
}

function whyDecided(point) {
  if (!point) return "The decision is the most probable label.";
  if (point.threshold > 1) return `At the operating point, the decision is never ${point.positive}.`;
  return `Operating point: the decision is ${point.positive} at ${percent(point.threshold)} or more.`;
}

function pointFacts({ positive, threshold, expected_recall: recall, expected_false_positive_rate: rate }) {
  return [
    threshold > 1 ? `never ${positive}` : `${positive} at ${percent(threshold)} or more`,
    `expected recall ${percent(recall)}, false-positive rate ${percent(rate)}`,
  ];
}

function measured({ value, low, high }, rows) {
  return [
    rows === undefined ? percent(value) : `${percent(value)} on ${counted(rows, "held-out text")}`,
    low === undefined ? "" : `95\u00a0% interval: ${percent(low)} to ${percent(high)}`,
  ];
}

function fact(term, ...lines) {
  return [element("dt", "", term), ...lines.filter(Boolean).map((line) => element("dd", "", line))];
}

/** Draw a bar, hidden from screen readers: its number is beside it. */
function bar(probability, threshold = null) {
  const filled = element("span", "filled");
  filled.style.inlineSize = `${100 * probability}%`;
  const track = element("span", "bar", filled);
  if (threshold !== null && threshold <= 1) {
    const mark = element("span", "mark");
    mark.style.insetInlineStart = `${100 * threshold}%`;
    track.append(mark);
  }
  track.ariaHidden = "true";
  return track;
}
