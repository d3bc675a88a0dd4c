// API keys for admins: a list, and revoking in two steps. Keys are created on the server only (api/keys.py).

import { at, element, heads } from "./drawing.js";
import * as service from "./service.js";

/** Show the keys to an admin; others do not see the section. */
export async function showKeys(context) {
  at("keys").hidden = !context.info.is_admin;
  if (!context.info.is_admin) return;
  const { keys } = await service.keys();
  const rows = keys.map((key) => drawKey(key, context));
  const table = element("table", "", heads("Name", "Scopes", "Created", "Expires", "Revoke"), element("tbody", "", ...rows));
  at("keys-table").replaceChildren(table);
}

function drawKey(key, context) {
  const expires = key.expires_at ? `${day(key.expires_at)}${key.is_expired ? " (expired)" : ""}` : "never";
  const cells = [key.name, key.scopes.join(", "), day(key.created_at), expires].map((cell) => element("td", "", cell));
  const isOwn = key.name === context.info.caller_id;
  return element("tr", "", ...cells, element("td", "buttons", isOwn ? "your own" : revokeButton(key.name, context)));
}

/** Return a button with a confirmation: the first click changes its label, the second revokes. */
function revokeButton(name, context) {
  const button = element("button", "quiet small", "Revoke");
  button.type = "button";
  button.ariaLabel = `Revoke the keys of ${name}`;
  button.addEventListener("click", () => {
    if (button.textContent === "Revoke") {
      button.textContent = "Confirm";
      button.ariaLabel = `Confirm: revoke the keys of ${name}`;
      at("news").textContent = `Press again to revoke the keys of ${name}.`;
      return;
    }
    context.act(async () => {
      await service.revokeKeys(name);
      await showKeys(context);
      at("news").textContent = `The keys of ${name} are revoked.`;
    });
  });
  return button;
}

const day = (moment) => moment.slice(0, 10);
