// Event handlers of the page: views, the key, errors, and the classify form.

import { refresh as refreshCalls, startCalls } from "./calls.js";
import { showCharts } from "./charts.js";
import { at, counted, drawList, drawModel, drawPrediction, element, isKept, origin, percent } from "./drawing.js";
import { drawCorrection, drawExplanation } from "./explanation.js";
import { startFiles } from "./files.js";
import { showKeys } from "./keys.js";
import { selection, showModels } from "./models.js";
import * as service from "./service.js";

const VIEWS = ["classify", "file", "calls", "charts", "models"];
const EXAMPLES_OF_SPAM = [
  "WIN a FREE phone now, text CLAIM to 80080",
  "Are we still on for lunch tomorrow?",
  "Your parcel waits at the old bridge, bring the yellow slip",
  "Fr33 v0ucher 4 u, only today!!! Reply Y",
];

/** Shared by the modules: `act`, the selected model, and the caller's identity and permissions. */
const context = {
  act,
  selection,
  isShown: (view) => !at(`view-${view}`).hidden,
  info: {},
  model: null,
  mayReadMetrics: true, // until a response says that the key lacks the scope
};
const running = new Set();
let lastDone = Promise.resolve();
let countdown = 0;

function start() {
  at("ask").addEventListener("submit", submitted(classify));
  at("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
  });
  at("choice").addEventListener("change", () => act(showVersion));
  at("key-form").addEventListener("submit", submitted(useKey));
  at("forget-key").addEventListener("click", forgetKey);
  startFiles(context);
  startCalls(context);
  addEventListener("hashchange", showView);
  act(showService);
}

const submitted = (action) => (event) => {
  event.preventDefault();
  act(action);
};

/** Queue an action and show its error; an action that is queued or running is not started again. */
function act(action) {
  if (running.has(action)) return;
  running.add(action);
  // one after the other: two actions at once would overwrite each other's results on the page
  lastDone = lastDone.then(() => attempt(action));
}

async function attempt(action) {
  hideProblem();
  try {
    await action();
  } catch (problem) {
    if (problem instanceof service.Refusal) showProblem(problem);
    else reportError(problem); // a bug in the page: for the console
  } finally {
    running.delete(action);
  }
}

async function showService() {
  showKey(Boolean(service.keptKey()));
  await showHealth();
  const info = (context.info = await service.serviceInfo());
  document.title = at("name").textContent = info.api_name;
  at("caller").textContent = `You are ${info.caller_id}.`;
  at("caller-filter").hidden = !info.is_admin;
  context.model = await service.modelInfo();
  context.mayReadMetrics = true;
  await showModels(context);
  at("filter-label").replaceChildren(new Option("all", ""), ...context.model.labels.map((label) => new Option(label, label)));
  await showExamples();
  at("model").replaceChildren(...drawModel(context.model));
  showView();
}

async function showHealth() {
  const { status, reason } = await service.health();
  at("health").textContent = status;
  at("health").title = reason;
  at("health").className = `pill ${status}`;
}

function showView() {
  const asked = location.hash.slice(1);
  const view = VIEWS.includes(asked) ? asked : "classify";
  for (const one of VIEWS) at(`view-${one}`).hidden = one !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.ariaCurrent = "page";
    else link.removeAttribute("aria-current");
  }
  if (view === "calls") act(refreshCalls);
  if (view === "charts") act(refreshCharts);
  if (view === "models") act(refreshModels);
}

const refreshCharts = () => showCharts(context);
const refreshModels = async () => {
  await showModels(context);
  await showKeys(context);
};

async function showVersion() {
  const { name, version } = selection();
  const described = await service.versionInfo({ name, version });
  context.model = described.served ?? { operating_point: null, ...described };
  at("model").replaceChildren(...drawModel(context.model));
  at("answer").hidden = true;
}

/** Show the caller's last text of each label; a spam filter without calls has built-in examples. */
async function showExamples() {
  const labels = context.model.labels.slice(0, 4);
  const pages = await Promise.all(labels.map((label) => service.calls({ label, limit: 1 }).catch(noCalls)));
  const texts = pages.flatMap((page) => page.calls).map((call) => call.input).filter((text) => isKept(text) && text.length < 120);
  if (!texts.length && labels.includes("spam")) texts.push(...EXAMPLES_OF_SPAM);
  at("examples").replaceChildren(...[...new Set(texts)].map(exampleItem));
  at("examples-box").hidden = !texts.length;
}

/** Return no calls if this caller may not read the log; the other views work without it. */
function noCalls(refusal) {
  if (refusal.status !== 403) throw refusal;
  return { calls: [] };
}

async function classify() {
  const text = at("text").value;
  const isList = at("as-list").checked;
  const texts = isList ? text.split("\n").filter((line) => line.trim()) : [text];
  const skipCache = at("skip-cache").checked;
  at("ask").ariaBusy = "true";
  const began = performance.now();
  const took = () => `${Math.max(1, Math.round(performance.now() - began))} ms`;
  try {
    if (isList) showList(texts, await service.classifyAll(texts, skipCache, selection()), took());
    else showOne(await service.classify(text, skipCache, selection()), text, took());
  } catch (problem) {
    at("answer").hidden = true; // an old answer must not be mistaken for this one
    throw problem;
  } finally {
    at("ask").ariaBusy = "false";
  }
}

function showOne(answer, text, milliseconds) {
  at("result").replaceChildren(...drawPrediction(answer, context.model.operating_point));
  const actions = isDefault() ? [explainButton(answer, text)] : [];
  actions.push(drawCorrection(answer, text, context.model.labels, act));
  at("answer-actions").replaceChildren(...actions);
  const probability = percent(answer.prediction[answer.decision]);
  showAnswer([origin(answer), milliseconds, `version ${answer.model_version}`], `${answer.decision}, ${probability}`);
}

/** Return whether the selected model is the default one: the button uses only `POST /explanation`. */
function isDefault() {
  const { name, version } = selection();
  const { model_name: served, model_version: current } = context.info;
  return !name || (name === served && (!version || version === current));
}

function explainButton(answer, text) {
  const button = element("button", "quiet", "Explain");
  button.type = "button";
  button.id = "explain";
  button.addEventListener("click", () =>
    act(async () => {
      const explanation = await service.explain(text, answer.decision);
      at("explanation").replaceChildren(...drawExplanation(explanation));
      at("news").textContent = `Evidence for and against ${explanation.label} shown.`;
    }),
  );
  return button;
}

function showList(texts, answers, milliseconds) {
  at("result").replaceChildren(...drawList(texts, answers));
  at("answer-actions").replaceChildren();
  const hits = answers.filter((answer) => answer.from_cache).length;
  showAnswer([counted(texts.length, "text"), counted(hits, "cache hit"), milliseconds], "Answered");
}

function showAnswer(facts, news) {
  at("explanation").replaceChildren();
  at("status").replaceChildren(...facts.map((fact) => element("span", "", fact)));
  at("answer").hidden = false;
  at("news").textContent = `${news}: ${facts.join(", ")}`; // one sentence to be read out, not a table
}

async function useKey() {
  service.keepKey(at("key").value.trim());
  at("key").value = "";
  await showService();
  at("text").focus();
}

function forgetKey() {
  service.keepKey("");
  location.reload(); // also removes what was shown to the key's owner
}

function showKey(isKept) {
  at("forget-key").hidden = !isKept;
  if (isKept) at("key-form").hidden = false;
}

function showProblem({ message, status, code, waitSeconds }) {
  const drawn = element("div", "box alert", element("p", "", message));
  if (code) drawn.append(element("p", "fine", `${status} ${code}`));
  at("problem").replaceChildren(drawn);
  if (waitSeconds) drawn.append(waiting(waitSeconds));
  if (status === 401) {
    at("key-form").hidden = false;
    at("key").focus();
  }
}

/** Draw a countdown of seconds; hidden from screen readers, which have read the number already. */
function waiting(seconds) {
  const until = Date.now() + 1_000 * seconds;
  const drawn = element("p", "fine");
  drawn.ariaHidden = "true";
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1_000);
    drawn.textContent = left > 0 ? `${left} s to wait` : "You can try again now.";
    if (left <= 0) clearInterval(countdown);
  };
  tick();
  countdown = setInterval(tick, 250);
  return drawn;
}

function hideProblem() {
  clearInterval(countdown);
  at("problem").replaceChildren();
}

function exampleItem(text) {
  const button = element("button", "quiet", text);
  button.type = "button";
  button.addEventListener("click", () => {
    at("as-list").checked = false;
    at("text").value = text;
    at("ask").requestSubmit();
  });
  return element("li", "", button);
}

start();
