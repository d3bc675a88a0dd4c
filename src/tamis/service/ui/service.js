// The page's requests to the service: paths, the API key and errors. Independent of the page's elements.

const TIMEOUT_MS = 60_000;
const KEY_NAME = "tamis.key";

/** An error response with the service's message; `waitSeconds` is 0 without `retry-after`. */
export class Refusal extends Error {
  constructor(message, { status = 0, code = "", waitSeconds = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, waitSeconds });
  }
}

let keyInMemory = ""; // for browsers that forbid storage: lost when the page is reloaded

/** Return the key that is stored for this tab, or an empty string. */
export function keptKey() {
  try {
    return sessionStorage.getItem(KEY_NAME) ?? "";
  } catch {
    return keyInMemory;
  }
}

/** Store a key for this tab; an empty one removes it. */
export function keepKey(key) {
  keyInMemory = key;
  try {
    if (key) sessionStorage.setItem(KEY_NAME, key);
    else sessionStorage.removeItem(KEY_NAME);
  } catch {
    // storage is forbidden; the key is in memory
  }
}

/** Return the path prefix of a model's or version's routes, empty for the default model. */
export function prefixOf({ name = "", version = "" } = {}) {
  if (!name) return "";
  const named = `models/${encodeURIComponent(name)}/`;
  return version ? `${named}versions/${encodeURIComponent(version)}/` : named;
}

/** Return the service's name, the caller's identity and the default model. */
export const serviceInfo = () => json("./");

/** Return the default model's description. */
export const modelInfo = () => json("model");

/** Return one version's description. */
export const versionInfo = (selection) => json(prefixOf(selection).slice(0, -1));

/** Return the state of all models. */
export const models = () => json("models");

/** Return one prediction. */
export const classify = (text, skipCache, selection) =>
  json(`${prefixOf(selection)}prediction`, { body: { text, skip_cache: skipCache } });

/** Return predictions in the order of the texts. */
export const classifyAll = (texts, skipCache, selection) =>
  json(`${prefixOf(selection)}predictions`, { body: { texts, skip_cache: skipCache, echo_input: false } });

/** Return the answers to the texts of a CSV as CSV, one record per record, errors in place. */
export async function scoreCsv(csv, selection) {
  const path = `${prefixOf(selection)}predictions?echo_input=false`;
  return (await successful(path, { body: csv, contentType: "text/csv" })).text();
}

/** Return what each token contributes to the logit of a label. */
export const explain = (text, label) => json("explanation", { body: { text, label } });

/** Report the true label of a prediction. */
export const sendFeedback = (body) => json("feedback", { body });

/** Return one page of logged calls, the newest first. */
export const calls = (parameters) => json(`log?${new URLSearchParams(parameters)}`);

/** Return the number of calls by hour and label. */
export const summary = (parameters) => json(`log/summary?${new URLSearchParams(parameters)}`);

/** Move an alias to a version. */
export const moveAlias = (name, alias, version) =>
  json(`models/${encodeURIComponent(name)}/aliases/${encodeURIComponent(alias)}`, { method: "PUT", body: { version } });

/** Return a model with its feedback, its canary and its shadow. */
export const model = (name) => json(`models/${encodeURIComponent(name)}`);

/** Return the drift of a model's served version. */
export const drift = (name) => json(`models/${encodeURIComponent(name)}/drift`);

/** Return the API keys, without the keys themselves. */
export const keys = () => json("keys");

/** Revoke all keys of a name. */
export const revokeKeys = (name) => json(`keys/${encodeURIComponent(name)}`, { method: "DELETE" });

/** Return the readiness check's body, which is not a success while the service stops. */
export async function health() {
  const response = await send("health/ready", {});
  return response.json();
}

/** Return a document of the service as text: metrics, a report or a card. */
export async function text(path) {
  return (await successful(path, {})).text();
}

async function json(path, options = {}) {
  const response = await successful(path, options);
  try {
    return await response.json();
  } catch {
    throw new Refusal("The response ended early. Try again.");
  }
}

async function successful(path, options) {
  const response = await send(path, options);
  if (!response.ok) throw await refusalOf(response);
  return response;
}

async function send(path, { body, method, contentType }) {
  const headers = keptKey() ? { "x-api-key": keptKey() } : {};
  const request = { headers, method: method ?? "GET", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (body !== undefined) {
    headers["content-type"] = contentType ?? "application/json";
    Object.assign(request, { method: method ?? "POST", body: contentType ? body : JSON.stringify(body) });
  }
  try {
    return await fetch(path, request);
  } catch (failure) {
    const isLate = failure.name === "TimeoutError";
    throw new Refusal(isLate ? "The service takes too long to respond." : "The service cannot be reached.");
  }
}

async function refusalOf(response) {
  const { status } = response;
  const waitSeconds = Number(response.headers.get("retry-after")) || 0;
  try {
    const { code, message } = (await response.json()).error;
    return new Refusal(message, { status, code, waitSeconds });
  } catch {
    // a proxy in between has its own error bodies
    return new Refusal(`The response was ${status}, without a reason.`, { status, waitSeconds });
  }
}
