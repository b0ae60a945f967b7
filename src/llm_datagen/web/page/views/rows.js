// The rows of any stream of a run: a page at a time, a jump to a number, a search, and a row with what became of it.

import { get, ofRun } from "../api.js";
import { announce, el, show } from "../dom.js";
import { count, isNumber } from "../format.js";
import { baseName } from "../graph.js";
import { itemView, longText } from "../item.js";
import { traceOf } from "../trace.js";
import { problem, throttled } from "../parts.js";
import { go, runLink } from "../router.js";
import { middle, oneLine, preview } from "../text.js";
import { KINDS } from "./overview.js";

const PAGE = 50;

export function rowsTab(root, { key }) {
  let run = null;
  let params = {};
  let page = null; // what was last answered: {rows, total, next, ...}
  let asked = ""; // what was asked for it
  let failure = null;
  let asking = null;
  let open = null; // the row that is open: {id, members, failure}
  const before = []; // where earlier pages of a search began

  const from = () => Math.max(0, Number.parseInt(params.from, 10) || 0);
  const stream = () => run?.streams.find((one) => one.stream === params.stream) ?? run?.streams.find((one) => one.marked && one.browsable) ?? run?.streams.find((one) => one.kind === "output" && one.browsable) ?? run?.streams.find((one) => one.browsable);
  const address = (changes) => runLink(key, "rows", { stream: stream()?.stream, ...params, ...changes });

  async function load(isRenewal = false) {
    const one = stream();
    if (!one) return render();
    asking?.abort();
    const mine = (asking = new AbortController());
    const question = JSON.stringify([one.stream, params.from, params.q]);
    if (question !== asked && !isRenewal) page = null;
    asked = question;
    const found = { rows: [], next: from() };
    try {
      do {
        const part = await get(
          ofRun(key, one.kind === "rejected" ? "rejected" : "rows"),
          { stream: one.stream, from: found.next, limit: PAGE - found.rows.length, q: params.q },
          mine.signal,
        );
        Object.assign(found, part, { rows: [...found.rows, ...part.rows] });
        failure = null;
        page = found;
        render();
      } while (params.q && found.rows.length < PAGE && isNumber(found.next));
      found.isWhole = true;
      if (params.q) announce(`${found.rows.length} rows found.`);
    } catch (error) {
      if (error.name === "AbortError") return;
      failure = error;
    }
    render();
  }

  const renew = throttled(() => load(true), 2000);

  async function openRow(id) {
    open = { id, members: null, failure: null };
    render();
    const mine = open;
    try {
      mine.members = (await get(ofRun(key, "trace"), { id })).members;
    } catch (error) {
      mine.failure = error;
    }
    if (open !== mine) return;
    render();
    if (innerWidth < 900) root.querySelector(".detail h2")?.focus();
  }

  function step(way) {
    if (way > 0 && isNumber(page?.next)) {
      before.push(from());
      go(address({ from: page.next, id: "" }));
    } else if (way < 0 && from() > 0) {
      go(address({ from: params.q ? (before.pop() ?? 0) : Math.max(0, from() - PAGE), id: "" }));
    }
  }

  function keys(event) {
    const links = [...root.querySelectorAll(".rows a")];
    const at = links.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (event.key === "PageDown" || event.key === "PageUp") step(event.key === "PageDown" ? 1 : -1);
    else if (event.key === "Escape" && open) go(address({ id: "" }));
    else if (to === undefined || at < 0) return;
    else links[Math.min(Math.max(to, 0), links.length - 1)]?.focus();
    event.preventDefault();
  }

  function toolbar(one) {
    const jump = (event) => {
      event.preventDefault();
      const number = Number.parseInt(root.querySelector("#jump").value, 10);
      if (number >= 0) go(address({ from: number, q: "", id: "" }));
    };
    const search = (event) => {
      event.preventDefault();
      before.length = 0;
      go(address({ q: root.querySelector("#search").value, from: "", id: "" }));
    };
    return el(
      "div",
      { class: "tools", key: "tools" },
      el("label", { for: "stream" }, "Stream"),
      el(
        "select",
        { id: "stream", value: one.stream, on: { change: (event) => go(runLink(key, "rows", { stream: event.target.value })) } },
        run.streams.filter((other) => other.browsable).map((other) => el("option", { key: other.stream, value: other.stream }, `${middle(baseName(other.name), 44)} (${KINDS[other.kind] ?? other.kind}${isNumber(other.rows) ? `, ${count(other.rows)}` : ""})`)),
      ),
      el("form", { on: { submit: search }, role: "search" },
        el("label", { class: "unseen", for: "search" }, "Search in the rows"),
        el("input", { id: "search", type: "search", placeholder: "Search", autocomplete: "off", value: params.q ?? "" }),
        el("button", { type: "submit" }, "Search")),
      el("form", { on: { submit: jump } },
        el("label", { class: "unseen", for: "jump" }, "Row number"),
        el("input", { id: "jump", type: "number", min: 0, placeholder: "Row number" }),
        el("button", { type: "submit" }, "Go")),
    );
  }

  function where() {
    if (!page) return "";
    const known = page.total ?? stream()?.rows;
    const total = isNumber(known) ? ` of ${page.is_total_exact === false && isNumber(page.total) ? "about " : ""}${count(known)}` : "";
    if (params.q) return `${count(page.rows.length)} found${page.isWhole ? (isNumber(page.next) ? " on this page" : "") : `, searched to row ${count(page.searched_to ?? page.next)}…`}`;
    return page.rows.length ? `${count(page.rows[0].number)} to ${count(page.rows.at(-1).number)}${total}` : `none${total}`;
  }

  function list() {
    if (failure) return problem(failure);
    if (!page) return el("p", { class: "empty" }, "Looking…");
    if (!page.rows.length) return el("p", { class: "empty" }, params.q ? (page.isWhole ? "No row has that in it." : "Searching…") : from() ? "There is no such row." : "No rows yet.");
    return el(
      "ol",
      { class: "rows card", "aria-label": "Rows", on: { keydown: keys } },
      page.rows.map((row) =>
        el(
          "li",
          { key: row.number },
          el(
            "a",
            { href: address({ id: row.id }), "aria-current": open && String(open.id) === String(row.id) ? "true" : undefined },
            el("span", { class: "row-number" }, count(row.number)),
            el("span", { class: "row-id", dir: "auto" }, middle(row.id, 18)),
            el("span", { class: "row-text", dir: "auto" }, row.reason ? el("em", {}, `${oneLine(row.reason, 120)} · `) : null, (row.preview ??= preview(row.item, 220))),
          ),
        ),
      ),
    );
  }

  function detail() {
    if (!open) return null;
    const row = page?.rows.find((one) => String(one.id) === String(open.id));
    return el(
      "section",
      { class: "detail card", key: `detail ${open.id}`, "aria-label": `Row ${oneLine(open.id, 80)}`, on: { keydown: (event) => event.key === "Escape" && go(address({ id: "" })) } },
      el("div", { class: "head" }, el("h2", { tabindex: -1, dir: "auto" }, `Row ${oneLine(open.id, 80)}`), el("div", { class: "actions" }, el("a", { class: "button", href: address({ id: "" }) }, "Close"))),
      row?.reason ? el("p", { class: "reason", dir: "auto" }, longText(row.reason)) : null,
      open.failure ? problem(open.failure) : null,
      open.members
        ? traceOf(key, open.members, stream()?.stream)
        : [row ? itemView(row.item, "item") : null, open.failure ? null : el("p", { class: "empty" }, "Following it through the run…")],
    );
  }

  function render() {
    const one = stream();
    if (!one) return show(root, el("p", { class: "empty" }, run ? "This run has no rows that can be shown." : ""));
    show(
      root,
      toolbar(one),
      el(
        "div",
        { class: `split${open ? " has-open" : ""}`, key: "split" },
        el(
          "div",
          { class: "left" },
          page?.rows.length && !failure ? el("div", { class: "row-heads", "aria-hidden": "true", key: "heads" }, el("span", { class: "row-number" }, "number"), el("span", {}, "id"), el("span", {}, "row")) : null,
          list(),
          el(
            "div",
            { class: "tools pager" },
            el("button", { type: "button", disabled: from() === 0, on: { click: () => step(-1) } }, "Previous"),
            el("button", { type: "button", disabled: !isNumber(page?.next), on: { click: () => step(1) } }, "Next"),
            el("span", { class: "soft" }, where()),
          ),
        ),
        detail(),
      ),
    );
  }

  return {
    change(fresh) {
      params = fresh;
      if (!run) return;
      if (JSON.stringify([stream()?.stream, params.from, params.q]) !== asked) load();
      if (!params.id) open = null;
      else if (String(open?.id) !== params.id) openRow(params.id);
      render();
    },
    update(fresh) {
      const isFirst = !run;
      const had = stream()?.rows;
      run = fresh;
      if (isFirst) return this.change(params);
      if (page && !params.q && page.rows.length < PAGE && stream()?.rows !== had) renew();
      render();
    },
    close() {
      asking?.abort();
    },
  };
}
