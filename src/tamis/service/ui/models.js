// Models, versions and aliases; the report and the card of each version.

import { at, element, heads } from "./drawing.js";
import * as service from "./service.js";

let isAdmin = false;

/** Fill the model selection of the classify view, and the table of versions. */
export async function showModels(context) {
  const state = await service.models();
  isAdmin = context.info.is_admin ?? false;
  fillChoice(state);
  at("versions").replaceChildren(...state.flatMap((model) => drawModelState(model, context)));
  at("choice-line").hidden = false;
}

function fillChoice(state) {
  const before = at("choice").value; // restored below: refreshing must not change the user's model
  const options = state.flatMap((model) => [
    ...(model.version ? [option(model, "", `${model.name} (version ${model.version})`)] : []),
    ...model.versions.filter(isLoadable).map(({ version, aliases }) =>
      option(model, version, `${model.name}, version ${version}${aliases.length ? ` (${aliases.join(", ")})` : ""}`)),
  ]);
  at("choice").replaceChildren(...options);
  if (options.some((one) => one.value === before)) at("choice").value = before;
}

const isLoadable = (one) => one.state !== "failed";

const option = ({ name }, version, shown) => new Option(shown, JSON.stringify({ name, version }));

/** Return the chosen model: a name and a version, the latter empty for the one that is served. */
export function selection() {
  return at("choice").value ? JSON.parse(at("choice").value) : {};
}

function drawModelState(model, context) {
  const rows = model.versions.map((one) => {
    const documents = element("td", "buttons", ...["report", "card"].map((name) => documentButton(model, one, name, context)));
    const cells = [one.version, one.state, one.aliases.join(", ") || "–"].map((cell) => element("td", "", cell));
    return element("tr", "", ...cells, documents);
  });
  const caption = element("caption", "", `${model.name}${model.is_default ? " (default)" : ""}`);
  const table = element("table", "", caption, heads("Version", "State", "Aliases", "Documents"), element("tbody", "", ...rows));
  const drawn = [table, ...(model.error ? [element("p", "alert", model.error)] : [])];
  if (isAdmin && model.versions.length) drawn.push(drawAliasForm(model, context));
  return drawn;
}

function documentButton({ name }, { version }, kind, context) {
  const button = element("button", "quiet small", kind === "report" ? "Report" : "Card");
  button.type = "button";
  button.ariaLabel = `${button.textContent} of ${name}, version ${version}`;
  button.addEventListener("click", () => context.act(() => showDocument({ name, version }, kind)));
  return button;
}

async function showDocument(version, kind) {
  const path = `${service.prefixOf(version)}${kind}`;
  const content = await service.text(path); // fetched, because a frame cannot send the API key
  const title = `${kind === "report" ? "Report" : "Card"} of ${version.name}, version ${version.version}`;
  at("document-title").textContent = title;
  if (kind === "card") at("document-body").replaceChildren(scrolling(content, title));
  // with a key, a frame would get 401, and the page's policy allows no frame with the content itself
  else if (service.keptKey()) at("document-body").replaceChildren(download(content, version));
  else at("document-body").replaceChildren(frame(path, title));
  at("document").hidden = false;
  at("document-title").focus();
}

function scrolling(content, title) {
  const made = element("pre", "card", content);
  Object.assign(made, { tabIndex: 0, role: "region", ariaLabel: title });
  return made;
}

function frame(path, title) {
  const made = element("iframe", "report");
  Object.assign(made, { src: path, title });
  return made;
}

function download(content, { name, version }) {
  const link = element("a", "", "Download the report");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/html" }));
  link.download = `${name}-${version}-report.html`;
  return element("p", "", link);
}

function drawAliasForm(model, context) {
  const alias = Object.assign(element("input", ""), { id: `alias-${model.name}`, value: "champion", required: true });
  const version = element("select", "", ...model.versions.map((one) => new Option(one.version, one.version)));
  version.id = `alias-version-${model.name}`;
  const form = element("form", "line aliases", labelled("Alias", alias), labelled("Version", version), element("button", "quiet", "Move alias"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    context.act(async () => {
      await service.moveAlias(model.name, alias.value, version.value);
      const news = `${alias.value} now names version ${version.value} of ${model.name}.`;
      await showModels(context);
      at("news").textContent = news;
    });
  });
  return form;
}

function labelled(words, field) {
  const label = element("label", "", words);
  label.htmlFor = field.id;
  return element("span", "pair", label, field);
}
