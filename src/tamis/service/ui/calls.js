// Logged calls: filters, pages, and live updates.

import { at, counted, drawCalls } from "./drawing.js";
import * as service from "./service.js";

const PAGE_CALLS = 50;
const LIVE_MS = 3_000;

let cursor = null;
let timer = 0;

/** Connect the view; `context` has `act`, which shows errors, `isShown` and `info`. */
export function startCalls(context) {
  at("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    context.act(refresh);
  });
  at("more").addEventListener("click", () => context.act(more));
  at("live").addEventListener("change", () => {
    clearInterval(timer);
    if (at("live").checked) timer = setInterval(() => isWatched(context) && context.act(update), LIVE_MS);
  });
}

// a hidden tab or view must not read the log every few seconds
const isWatched = (context) => context.isShown("calls") && document.visibilityState === "visible";

/** Show the newest calls that match the filters; announce their number to screen readers. */
export async function refresh() {
  await update();
  at("news").textContent = at("recent-count").textContent;
}

async function update() {
  const page = await service.calls(filters());
  at("recent").replaceChildren(...drawCalls(page.calls));
  showEnd(page);
}

async function more() {
  const page = await service.calls({ ...filters(), cursor });
  at("recent").append(...drawCalls(page.calls));
  showEnd(page);
}

function showEnd({ next_cursor: next }) {
  cursor = next;
  const shown = at("recent").childElementCount;
  at("more").hidden = !next;
  at("recent-table").hidden = !shown;
  at("recent-count").textContent = next ? `The newest ${counted(shown, "call")}` : counted(shown, "call");
}

function filters() {
  const given = { limit: PAGE_CALLS };
  for (const name of ["label", "contains", "caller"]) {
    const { value } = at(`filter-${name}`);
    if (value) given[name] = value;
  }
  return given;
}
