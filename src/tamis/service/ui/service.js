// What the page asks the service and what it hears. Knows paths, the key and errors; knows no element.

const PATIENCE_MS = 60_000;
const KEY_NAME = "tamis.key";

/** An answer that is no success, in the service's words; `waitSeconds` is 0 where it names no time. */
export class Refusal extends Error {
  constructor(message, { status = 0, code = "", waitSeconds = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, waitSeconds });
  }
}

let keyInMemory = ""; // where a browser lets nothing be stored, the key lasts as long as the page

/** Return the key that is kept for this tab, or an empty string. */
export function keptKey() {
  try {
    return sessionStorage.getItem(KEY_NAME) ?? "";
  } catch {
    return keyInMemory;
  }
}

/** Keep a key for this tab; an empty one forgets it. */
export function keepKey(key) {
  keyInMemory = key;
  try {
    if (key) sessionStorage.setItem(KEY_NAME, key);
    else sessionStorage.removeItem(KEY_NAME);
  } catch {
    // It is in memory.
  }
}

/** Return what answers here, and who asks. */
export const serviceInfo = () => told("./");

/** Return what is served. */
export const modelInfo = () => told("model");

/** Return one prediction. */
export const classify = (text, skipCache) => told("prediction", { text, skip_cache: skipCache });

/** Return a list of predictions in the order of the texts. */
export const classifyAll = (texts, skipCache) =>
  told("predictions", { texts, skip_cache: skipCache, echo_input: false });

/** Return how many calls the caller has made in this hour, and the last `count` of them. */
export async function recentCalls(count) {
  const response = await answered("recent_log");
  try {
    return await lastOf(response.body.pipeThrough(new TextDecoderStream()).getReader(), count);
  } catch {
    throw new Refusal("The list broke off before its end. Try again.");
  }
}

async function told(path, body) {
  const response = await answered(path, body);
  try {
    return await response.json();
  } catch {
    throw new Refusal("The answer broke off before its end. Try again.");
  }
}

async function answered(path, body) {
  const headers = keptKey() ? { "x-api-key": keptKey() } : {};
  const request = { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    Object.assign(request, { method: "POST", body: JSON.stringify(body) });
  }
  let response;
  try {
    response = await fetch(path, request);
  } catch (failure) {
    const isLate = failure.name === "TimeoutError";
    throw new Refusal(isLate ? "The service takes too long to answer." : "The service cannot be reached.");
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

async function refusalOf(response) {
  const { status } = response;
  const waitSeconds = Number(response.headers.get("retry-after")) || 0;
  try {
    const { code, message } = (await response.json()).error;
    return new Refusal(message, { status, code, waitSeconds });
  } catch {
    // A proxy in between may answer in its own way.
    return new Refusal(`The answer was ${status}, without a reason.`, { status, waitSeconds });
  }
}

/** Read a JSON list of flat objects as it arrives and return how many there are, and the last `count` of them. */
export async function lastOf(reader, count) {
  let last = [];
  let total = 0;
  let item = "";
  let [isInItem, isInString, isEscaped] = [false, false, false];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    let start = 0;
    for (let at = 0; at < part.value.length; at += 1) {
      const character = part.value[at];
      if (isEscaped) isEscaped = false;
      else if (isInString && character === "\\") isEscaped = true;
      else if (character === '"') isInString = !isInString;
      else if (!isInString && character === "{") [isInItem, start] = [true, at];
      else if (!isInString && character === "}") {
        last.push(item + part.value.slice(start, at + 1));
        [isInItem, item] = [false, ""];
        total += 1;
        if (last.length >= 2 * count) last = last.slice(-count);
      }
    }
    if (isInItem) item += part.value.slice(start);
  }
  return { total, calls: last.slice(-count).map((text) => JSON.parse(text)) };
}
