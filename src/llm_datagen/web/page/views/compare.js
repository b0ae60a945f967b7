// Two runs side by side: settings, counts, cost and time.

import { get } from "../api.js";
import { el, show } from "../dom.js";
import { count, duration, isNumber, money } from "../format.js";
import { problem, section, table } from "../parts.js";
import { runLink } from "../router.js";
import { oneLine } from "../text.js";

export function compareView(root) {
  document.title = "Two runs – llm-datagen";

  const value = (one) => (isNumber(one) ? count(one) : one === null || one === undefined ? "–" : oneLine(typeof one === "string" ? one : JSON.stringify(one), 300));

  function render({ a, b }, found, names) {
    const heads = [names.get(a) ?? a, names.get(b) ?? b].map((name) => oneLine(name, 60));
    const strong = (entry, text) => (entry.a === entry.b ? text : el("b", {}, text));
    const rows = (entries) => entries.map((entry) => ({ key: entry.name, cells: [oneLine(entry.name, 100), strong(entry, value(entry.a)), strong(entry, value(entry.b))] }));
    const counts = found.counts.filter((entry) => entry.a || entry.b);
    const columns = (name, isCount) => [[name], [heads[0], isCount], [heads[1], isCount]];
    show(
      root,
      el("div", { class: "head" }, el("h1", {}, "Two runs"), el("p", {}, el("a", { href: runLink(a), dir: "auto" }, heads[0]), " and ", el("a", { href: runLink(b), dir: "auto" }, heads[1]))),
      section("Cost and time", table("Cost and time", columns("", true), [
        { key: "cost", cells: ["cost", money(found.cost.a), money(found.cost.b)] },
        { key: "time", cells: ["time", duration(found.seconds.a), duration(found.seconds.b)] },
      ])),
      section("Counts", table("Counts", columns("count", true), rows(counts), "No rows in either.")),
      section("Settings that differ", table("Settings that differ", columns("setting"), rows(found.settings), "All settings are the same.")),
    );
  }

  return {
    async change(parts, params) {
      show(root, el("p", { class: "empty" }, "Looking…"));
      try {
        const [found, { runs }] = await Promise.all([get("compare", params), get("runs")]);
        render(params, found, new Map(runs.map((run) => [run.run, run.id])));
      } catch (error) {
        show(root, problem(error));
      }
    },
    close() {},
  };
}
