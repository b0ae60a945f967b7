// An item of a row: its fields as text, or the whole as JSON.

import { el, show } from "./dom.js";
import { count } from "./format.js";
import { oneLine, visible } from "./text.js";

const MOST = 20000; // characters that are shown of a text until one asks for all

/** A text of any length, as text. */
export function longText(text, name = "text") {
  const whole = String(text);
  const box = el("div", { class: name, dir: "auto", own: whole });
  if (whole.length <= MOST) {
    show(box, visible(whole));
    return box;
  }
  const more = el("button", { type: "button", class: "quiet", on: { click: () => show(box, visible(whole)) } }, `Show all ${count(whole.length)} characters`);
  show(box, `${visible(whole.slice(0, MOST))}… `, more);
  return box;
}

const json = (value) => JSON.stringify(value, null, 2) ?? "null";

function fields(item) {
  if (typeof item === "string") return longText(item);
  if (item === null || typeof item !== "object" || Array.isArray(item) || JSON.isRawJSON?.(item)) return longText(json(item), "text code");
  const names = Object.keys(item);
  if (!names.length) return el("p", { class: "empty" }, "An object without fields.");
  return el(
    "dl",
    { class: "fields" },
    names.map((name) => [
      el("dt", { dir: "auto" }, oneLine(name, 200)),
      el("dd", {}, typeof item[name] === "string" ? longText(item[name]) : longText(json(item[name]), "text code")),
    ]),
  );
}

/** An item with a switch between its fields and JSON. */
export function itemView(item, key) {
  const box = el("div", { class: "item", key, own: item });
  let isJson = false;
  const render = () => {
    const button = el("button", { type: "button", class: "quiet as-json", on: { click: () => { isJson = !isJson; render(); box.querySelector("button.as-json").focus(); } } }, isJson ? "Fields" : "JSON");
    box.replaceChildren(button, isJson ? longText(json(item), "text code") : fields(item));
  };
  render();
  return box;
}
