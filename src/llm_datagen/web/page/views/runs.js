// All runs of the results folders, newest first.

import { follow, get } from "../api.js";
import { watched } from "../connection.js";
import { el, show } from "../dom.js";
import { count, duration, isNumber, money, moment, rate, seconds } from "../format.js";
import { pill, problem, progress } from "../parts.js";
import { go, link, runLink } from "../router.js";
import { oneLine } from "../text.js";

export function runsView(root, app) {
  const ticked = new Set();
  let runs = null;
  let warnings = [];
  let wanted = "";
  let failure = null;
  document.title = "Runs – llm-datagen";

  const events = follow({}, {
    ...watched(app),
    async runs(data) {
      try {
        const found = data?.runs ? data : await get("runs");
        [runs, warnings] = [found.runs, found.warnings ?? []];
        failure = null;
      } catch (error) {
        failure = error;
      }
      render();
    },
  });

  function tick(run, isTicked) {
    if (isTicked) ticked.add(run);
    else ticked.delete(run);
    if (ticked.size > 2) ticked.delete([...ticked][0]);
    render();
  }

  function row(run, withFolder) {
    const name = oneLine(run.id, 120);
    return el(
      "li",
      { key: run.run, class: "run" },
      el("input", { type: "checkbox", "aria-label": `Compare ${name}`, checked: ticked.has(run.run), on: { change: (event) => tick(run.run, event.target.checked) } }),
      el("a", { class: "run-name", href: runLink(run.run), dir: "auto" }, name),
      pill(run),
      progress(run, `Progress of ${name}`),
      el(
        "span",
        { class: "soft facts" },
        [
          run.live && isNumber(run.eta_s) ? `${duration(run.eta_s)} left` : null,
          run.live && isNumber(run.rows_per_second) ? rate(run.rows_per_second) : null,
          isNumber(run.cost) ? money(run.cost) : null,
          run.failed ? `${count(run.failed)} failed` : null,
          run.shards ? `${count(run.shards.completed)} of ${count(run.shards.count)} shards` : null,
          `${moment(run.started_at)}${isNumber(seconds(run)) ? `, ${duration(seconds(run))}` : ""}`,
        ].filter(Boolean).join(" · "),
      ),
      withFolder ? el("span", { class: "soft folder" }, oneLine(run.folder, 200)) : null,
      run.reason ? el("span", { class: "soft reason", dir: "auto" }, oneLine(run.reason, 300)) : null,
    );
  }

  function render() {
    const shown = (runs ?? []).filter((run) => `${run.id} ${run.status} ${run.folder}`.toLowerCase().includes(wanted.toLowerCase()));
    const [a, b] = [...ticked];
    const live = (runs ?? []).filter((run) => run.live).length;
    show(
      root,
      el(
        "div",
        { class: "head" },
        el("h1", {}, "Runs"),
        el("span", { class: "soft" }, runs ? `${count(runs.length)} in all, ${count(live)} at work` : ""),
      ),
      failure ? problem(failure) : null,
      warnings.map((text) => el("p", { class: "note held", key: text, dir: "auto" }, oneLine(text, 500))),
      el(
        "div",
        { class: "tools" },
        el("label", { class: "unseen", for: "filter" }, "Filter the runs"),
        el("input", { id: "filter", type: "search", placeholder: "Filter", autocomplete: "off", on: { input: (event) => { wanted = event.target.value; render(); } } }),
        el("button", { type: "button", disabled: ticked.size < 2, on: { click: () => go(link(["compare"], { a, b })) } }, "Compare"),
        el("span", { class: "soft" }, ticked.size === 2 ? "" : "Tick two runs to compare them."),
      ),
      runs === null
        ? el("p", { class: "empty" }, "Looking…")
        : shown.length
          ? el("ul", { class: "runs card" }, shown.map((run) => row(run, app.server.folders.length > 1)))
          : el("p", { class: "empty" }, runs.length ? "No run has that in its name." : `No run yet in ${app.server.folders.map((one) => oneLine(one, 200)).join(", ")}.`),
    );
  }

  render();
  return { change() {}, close: () => events.close() };
}
