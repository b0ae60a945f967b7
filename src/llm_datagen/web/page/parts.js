// Pieces that several views have.

import { el } from "./dom.js";
import { count, isNumber, percent } from "./format.js";
import { oneLine } from "./text.js";

/** What a run is, in a word and a kind (for its colour). */
export function statusOf(run) {
  if (run.live && run.paused) return ["paused", "held"];
  const kinds = {
    running: "busy", resuming: "busy", canceling: "held", completed: "good", failed: "bad", interrupted: "bad",
    canceled: "held", stopped: "held", pending: "quiet", unneeded: "quiet",
  };
  return [run.status, kinds[run.status] ?? "quiet"];
}

export function pill(run) {
  const [word, kind] = statusOf(run);
  return el("span", { class: `pill ${kind}` }, oneLine(word, 30));
}

/** How far a run is: rows that its first node has read, and how much of the whole is done. */
export function progress(run, label) {
  const { rows_done: done, rows_total: total, total_is_exact: isExact } = run;
  const share = isNumber(run.share) ? run.share : null;
  return el(
    "div",
    { class: "progress" },
    el("progress", { max: 1, "aria-label": label, value: share ?? 0, hidden: share === null }),
    el(
      "span",
      {},
      count(done),
      isNumber(total) ? ` of ${isExact ? "" : "about "}${count(total)} rows read` : " rows read",
      share === null ? "" : ` · ${percent(share)}`,
    ),
  );
}

/** A name and its value. */
export const fact = (name, value, note = "") =>
  el("div", { class: "fact", key: name }, el("dt", {}, name), el("dd", {}, value, note ? el("small", {}, note) : null));

/** A table. `columns`: [heading, isNumber?]; `rows`: {key, cells}. */
export function table(caption, columns, rows, empty = "Nothing yet.") {
  if (!rows.length) return el("p", { class: "empty" }, empty);
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, columns.map(([name, isCount]) => el("th", { scope: "col", class: isCount ? "number" : undefined }, name)))),
      el(
        "tbody",
        {},
        rows.map(({ key, cells }) =>
          el("tr", { key }, cells.map((cell, index) => el(index ? "td" : "th", { scope: index ? undefined : "row", class: columns[index][1] ? "number" : undefined }, cell))),
        ),
      ),
    ),
  );
}

export const section = (title, ...children) => el("section", { class: "card", key: title }, el("h2", {}, title), children);

/** What went wrong, as a note. */
export const problem = (error) => el("p", { class: "note bad", role: "alert", dir: "auto" }, oneLine(error.message, 500));

const isMade = (id) => /^node_\d+$/.test(id);

/** What a node is called: its id, or its operator when the id was made up for it; and the other one of the two. */
export function namesOf(node) {
  const names = [String(node.node_id), String(node.operator ?? "")];
  return isMade(names[0]) && names[1] ? names.reverse() : names;
}

/** Call `work` no more often than every `ms`; the last call always comes. */
export function throttled(work, ms) {
  let timer = 0;
  let last = 0;
  return () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      last = Date.now();
      work();
    }, Math.max(0, last + ms - Date.now()));
  };
}
