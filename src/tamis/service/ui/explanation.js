// The explanation of an answer: token contributions as colours in the text; and the form that corrects it.

import { at, element, heads } from "./drawing.js";
import * as service from "./service.js";

const LEVELS = 4;
const FAINT = 0.1; // of the strongest token: below it a token has no colour

/** Draw an explanation: the text with coloured tokens, a legend, and the contributions as a table. */
export function drawExplanation({ text, label, logit, method, base, whole, tokens }) {
  // not 0: a text without tokens, or without any contribution, must not divide by zero
  const strongest = Math.max(...tokens.map((token) => Math.abs(token[3])), 1e-12);
  const others = [
    [method === "exact" ? "Length, capitals and digits" : "Tokens acting together", whole],
    [method === "exact" ? "Intercept" : "Empty text", base],
  ];
  const ranked = tokens.toSorted((one, other) => Math.abs(other[3]) - Math.abs(one[3])).slice(0, 20);
  const rows = [...ranked.map(([token, , , value]) => [token, value]), ...others, ["Logit", logit]];
  const table = element("table", "", heads("Token", `Contribution to ${label}`), element("tbody", "", ...rows.map(rowOf)));
  return [
    element("h3", "", `Evidence for and against ${label}`),
    element("p", "text explained", ...coloured(text, tokens, strongest)),
    element("p", "fine", element("mark", "for2", `for ${label}`), " ", element("mark", "against2", `against ${label}`)),
    element("details", "", element("summary", "", "Contributions as a table"), table),
  ];
}

const rowOf = ([name, value]) =>
  element("tr", "", element("td", "text", name), element("td", "number", `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`));

function coloured(text, tokens, strongest) {
  const characters = Array.from(text); // the service counts code points, a string counts UTF-16 units
  const parts = [];
  let end = 0;
  for (const [token, start, stop, value] of tokens) {
    parts.push(characters.slice(end, start).join(""));
    const share = Math.abs(value) / strongest;
    const mark = element(share < FAINT ? "span" : "mark", "", token);
    if (share >= FAINT) mark.className = `${value > 0 ? "for" : "against"}${Math.ceil(share * LEVELS)}`;
    mark.title = value.toFixed(3);
    parts.push(mark);
    end = stop;
  }
  return [...parts, characters.slice(end).join("")];
}

/** Draw the form that reports the true label; `act` shows errors. */
export function drawCorrection(answer, text, labels, act) {
  const select = element("select", "", ...labels.map((label) => new Option(label, label)));
  select.id = "true-label";
  select.value = labels.find((label) => label !== answer.decision) ?? labels[0];
  const caption = element("label", "", "True label");
  caption.htmlFor = select.id;
  const button = element("button", "quiet", "Correct it");
  const form = element("form", "line", caption, select, button);
  form.id = "correct";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(async () => {
      // by id if there is one: a report about the same prediction replaces the one before
      const subject = answer.id ? { prediction_id: answer.id } : { text };
      await service.sendFeedback({ ...subject, label: select.value });
      form.replaceChildren(element("p", "", `Feedback saved: ${select.value}.`));
      at("news").textContent = `Feedback saved: ${select.value}.`;
    });
  });
  return form;
}
