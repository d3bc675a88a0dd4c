// What happens when somebody does something on the page. How it is asked is service.js's, how it looks drawing.js's.

import { counted, drawCalls, drawList, drawModel, drawPrediction, element, origin, percent } from "./drawing.js";
import * as service from "./service.js";

const SHOWN_CALLS = 50;
const EXAMPLES = [
  "WIN a FREE phone now, text CLAIM to 80080",
  "Are we still on for lunch tomorrow?",
  "Your parcel waits at the old bridge, bring the yellow slip",
  "Fr33 v0ucher 4 u, only today!!! Reply Y",
];

const at = (id) => document.getElementById(id);
let operatingPoint = null;
const underWay = new Set();
let lastDone = Promise.resolve();
let countdown = 0;

function start() {
  at("examples").append(...EXAMPLES.map(exampleItem));
  at("ask").addEventListener("submit", submitted(classify));
  at("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
  });
  at("key-form").addEventListener("submit", submitted(useKey));
  at("forget-key").addEventListener("click", forgetKey);
  at("refresh").addEventListener("click", () => told(showRecent));
  told(showService);
}

const submitted = (action) => (event) => {
  event.preventDefault();
  told(action);
};

/** Do what may be refused, one thing after another, and show why it was; what is under way is not begun again. */
function told(action) {
  if (underWay.has(action)) return;
  underWay.add(action);
  lastDone = lastDone.then(() => attempt(action));
}

async function attempt(action) {
  hideProblem();
  try {
    await action();
  } catch (problem) {
    if (problem instanceof service.Refusal) showProblem(problem);
    else reportError(problem); // a defect: for the console
  } finally {
    underWay.delete(action);
  }
}

async function showService() {
  showKey(Boolean(service.keptKey()));
  const info = await service.serviceInfo();
  document.title = at("name").textContent = info.api_name;
  at("caller").textContent = `You are ${info.caller_id}.`;
  const model = await service.modelInfo();
  operatingPoint = model.operating_point;
  at("model").replaceChildren(...drawModel(model));
}

async function classify() {
  const text = at("text").value;
  const isList = at("as-list").checked;
  const texts = isList ? text.split("\n").filter((line) => line.trim()) : [text];
  const skipCache = at("skip-cache").checked;
  at("ask").ariaBusy = "true";
  const began = performance.now();
  try {
    const answer = await (isList ? service.classifyAll(texts, skipCache) : service.classify(text, skipCache));
    const milliseconds = `${Math.max(1, Math.round(performance.now() - began))} ms`;
    if (isList) showList(texts, answer, milliseconds);
    else showOne(answer, milliseconds);
  } catch (problem) {
    at("answer").hidden = true; // an old answer must not be taken for this one
    throw problem;
  } finally {
    at("ask").ariaBusy = "false";
  }
}

function showOne(answer, milliseconds) {
  at("result").replaceChildren(...drawPrediction(answer, operatingPoint));
  const probability = percent(answer.prediction[answer.decision]);
  showAnswer([origin(answer), milliseconds, `version ${answer.model_version}`], `${answer.decision}, ${probability}`);
}

function showList(texts, answers, milliseconds) {
  at("result").replaceChildren(...drawList(texts, answers));
  const cached = answers.filter((answer) => answer.from_cache).length;
  showAnswer([counted(texts.length, "text"), `${cached} from the cache`, milliseconds], "Answered");
}

function showAnswer(facts, news) {
  at("status").replaceChildren(...facts.map((fact) => element("span", "", fact)));
  at("answer").hidden = false;
  at("news").textContent = `${news}: ${facts.join(", ")}`; // one sentence to be read out, not a table
}

async function showRecent() {
  const { total, calls } = await service.recentCalls(SHOWN_CALLS);
  const isPart = total > calls.length;
  at("recent-count").textContent = isPart ? `${counted(total, "call")}, the last ${calls.length}` : counted(total, "call");
  at("recent").tabIndex = 0; // it scrolls
  at("recent").replaceChildren(...drawCalls(calls));
  at("refresh").textContent = "Refresh";
  at("news").textContent = at("recent-count").textContent;
}

async function useKey() {
  service.keepKey(at("key").value.trim());
  at("key").value = "";
  await showService();
  at("text").focus();
}

function forgetKey() {
  service.keepKey("");
  location.reload(); // what was shown to the key's owner goes, too
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

/** Count the seconds down for those who see it; whoever listens has heard the number already. */
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
