// What the model calls of a run cost: by node, by model, by hour; and its budget.

import { get, ofRun } from "../api.js";
import { bars } from "../chart.js";
import { el, show } from "../dom.js";
import { count, isNumber, moment, money, percent } from "../format.js";
import { fact, namesOf, problem, section, table, throttled } from "../parts.js";
import { buttons, commandsFor } from "../control.js";
import { oneLine } from "../text.js";

// What a row says of a kind of usage, or all that is behind it.
const sum = (row, ...names) => (row.usage ?? [row]).reduce((all, one) => names.reduce((more, name) => more + (one[name] ?? 0), all), 0);

export function costTab(root, { app, key }) {
  let run = null;
  let cost = null;
  let failure = null;
  let isClosed = false;

  const renew = throttled(async () => {
    try {
      cost = await get(ofRun(key, "cost"));
      failure = null;
    } catch (error) {
      failure = error;
    }
    if (!isClosed) render();
  }, 3000);

  const shares = (caption, heading, rows, name) =>
    table(caption, [[heading], ["cost", true], ["calls", true], ["tokens in", true], ["tokens out", true]], rows.map((row) => ({
      key: name(row), cells: [oneLine(name(row), 120), money(row.cost), count(sum(row, "requests")), count(sum(row, "prompt_tokens", "input_tokens")), count(sum(row, "completion_tokens", "output_tokens"))],
    })), "No model was called.");

  function budget() {
    const { cap, spent, lost, untold, projected, cap_tokens: tokens, spent_tokens: used, problem: why } = cost.budget;
    const flying = cost.budget.in_flight;
    const isKnown = isNumber(cap) || isNumber(tokens);
    const share = isNumber(cap) && cap > 0 ? spent / cap : isNumber(tokens) && tokens > 0 ? used / tokens : null;
    return section(
      "Budget",
      isNumber(share) ? el("progress", { max: 1, value: Math.min(1, share), "aria-label": "Share of the budget that is spent" }) : null,
      el("dl", {}, fact("Spent", money(spent), isNumber(share) ? `${percent(share)} of the cap` : ""), isNumber(cap) ? fact("Cap", money(cap)) : null, fact("Tokens", isNumber(tokens) ? `${count(used)} of ${count(tokens)}` : count(used)), lost > untold ? fact("Lost", money(lost - untold), "of it for calls whose answer never came") : null, untold ? fact("Set aside", money(untold), "of it for answers that could not be used, or do not say what they cost") : null, flying ? fact("In flight", money(flying), "at most, on top of it") : null, fact("Projected", money(projected), isNumber(projected) && isNumber(cap) && projected > cap ? "above the cap: the run will stop there" : "")),
      why ? problem({ message: why }) : isKnown ? null : el("p", {}, "The cap is in the program: the operator that has it cannot be stored with the run."),
      app.server.read_only || !commandsFor(run).includes("budget") ? null : el("p", {}, buttons(run, ["budget"])),
    );
  }

  function render() {
    if (!run) return;
    if (!cost) return show(root, failure ? problem(failure) : el("p", { class: "empty" }, "Looking…"));
    show(
      root,
      failure ? problem(failure) : null,
      el("p", { class: "big", key: "total" }, money(cost.total), el("small", {}, " for calls whose price is known")),
      cost.budget ? budget() : null,
      section("By node", shares("Cost by node", "node", cost.by_node, (row) => namesOf(row).filter(Boolean).join(" · "))),
      section("By model", shares("Cost by model", "model", cost.by_model, (row) => [row.model, row.provider].filter(Boolean).join(" · "))),
      cost.by_hour.length ? section("By hour", bars("Cost by hour", cost.by_hour.map((row) => ({ name: moment(row.hour), value: row.cost ?? 0 })), money)) : null,
    );
  }

  renew();
  return {
    change() {},
    update(fresh) {
      if (run && (fresh.cost !== run.cost || fresh.status !== run.status)) renew();
      run = fresh;
      render();
    },
    close() {
      isClosed = true;
    },
  };
}
