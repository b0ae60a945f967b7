// One run: what it is, how far it is, what one can do with it, and a tab for each view of it.

import { follow, get, ofRun } from "../api.js";
import { watched } from "../connection.js";
import { announce, el, show } from "../dom.js";
import { count, duration, isNumber, money, moment, percent, rate, seconds } from "../format.js";
import { fact, pill, progress, statusOf } from "../parts.js";
import { runLink } from "../router.js";
import { buttons, commandsFor } from "../control.js";
import { oneLine, visible } from "../text.js";
import { costTab } from "./cost.js";
import { failuresTab } from "./failures.js";
import { logTab } from "./log.js";
import { overviewTab } from "./overview.js";
import { rowsTab } from "./rows.js";

const TABS = { "": ["Overview", overviewTab], rows: ["Rows", rowsTab], failures: ["Failures", failuresTab], log: ["Log", logTab], cost: ["Cost", costTab] };

export function runView(root, app, key) {
  let run = null;
  let isGone = false;
  let tab = null;
  let name = "";
  const top = el("div", { class: "run-top" });
  const body = el("div", { class: "tab" });
  root.append(top, body);

  const connection = watched(app);
  const events = follow({ run: key }, {
    ...connection,
    async lost() {
      await connection.lost();
      try {
        await get(ofRun(key));
      } catch (error) {
        if (error.status === 404) this.gone();
      }
    },
    run(data) {
      tell(run, data);
      [run, isGone] = [data, false];
      render();
      tab?.update(run);
    },
    gone() {
      isGone = true;
      announce("The run is gone.");
      render();
    },
  });
  const timer = setInterval(() => run?.live && render(), 1000);

  // What changed, for those who hear the page: not each number.
  function tell(before, after) {
    const [word] = statusOf(after);
    if (before && statusOf(before)[0] !== word) announce(`The run is ${word}.`);
  }

  function render() {
    const tabs = el(
      "nav",
      { class: "tabs", "aria-label": "Views of the run", key: "tabs" },
      Object.entries(TABS).map(([part, [title]]) =>
        el(
          "a",
          { key: part, href: runLink(key, part), "aria-current": part === name ? "page" : undefined },
          title,
          part === "failures" && run?.failed ? [" ", el("span", { class: "badge" }, count(run.failed))] : null,
        ),
      ),
    );
    if (!run) return show(top, el("p", { class: "empty" }, isGone ? "There is no such run." : "Looking…"), isGone ? null : tabs);
    document.title = `${run.live && isNumber(run.share) ? `${percent(run.share)} ` : ""}${oneLine(run.id, 60)} – ${statusOf(run)[0]}`;
    show(
      top,
      el(
        "div",
        { class: "head", key: "head" },
        el("h1", { dir: "auto", title: oneLine(run.folder, 300) }, oneLine(run.id, 160)),
        pill(run),
        el("div", { class: "actions" }, app.server.read_only ? el("span", { class: "soft" }, "read only") : buttons(run, commandsFor(run))),
      ),
      banner(),
      el(
        "div",
        { class: "numbers card", key: "numbers" },
        el(
          "dl",
          {},
          run.live ? fact("Speed", rate(run.rows_per_second)) : null,
          fact(run.live ? "Time left" : "Took", run.live ? duration(run.eta_s) : duration(seconds(run))),
          fact("Cost", money(run.cost)),
          fact("Failed", count(run.failed)),
          fact("Started", moment(run.started_at), run.live && isNumber(seconds(run)) ? duration(seconds(run)) : ""),
          run.shards ? fact("Shards", `${count(run.shards.completed)} of ${count(run.shards.count)}`, run.shards.running ? `${count(run.shards.running)} at work` : "") : null,
        ),
        progress(run, "Progress of the run"),
      ),
      tabs,
    );
  }

  function banner() {
    const say = (kind, text) => el("p", { class: `banner ${kind}`, key: "banner", role: kind === "bad" ? "alert" : "status", dir: "auto" }, text);
    if (isGone) return say("bad", "This run is no longer in its results folder. What is shown here is what it was.");
    if (run.status === "interrupted") {
      return say("bad", "The process of this run is gone: it was killed, or its machine went down. What it has written is safe. Resume it; this page then goes on by itself.");
    }
    if (run.status === "failed") return say("bad", `The run failed. ${visible(run.reason)}`);
    if (run.live && run.paused) return say("held", "The run is paused: no call begins.");
    return run.reason && !run.live && run.status !== "completed" ? say("held", visible(run.reason)) : null;
  }

  return {
    change([, , part = ""], params) {
      const wanted = part in TABS ? part : "";
      if (!tab || wanted !== name) {
        tab?.close();
        show(body);
        name = wanted;
        tab = TABS[wanted][1](body, { app, key });
      }
      tab.change(params);
      render();
      if (run) tab.update(run);
    },
    close() {
      clearInterval(timer);
      events.close();
      tab?.close();
    },
  };
}
