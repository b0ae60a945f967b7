// The rows that failed, grouped by node and kind of error, each with an example; their replay; and rejected rows by reason.

import { get, ofRun } from "../api.js";
import { el, show } from "../dom.js";
import { count } from "../format.js";
import { itemView, longText } from "../item.js";
import { namesOf, problem, section, table, throttled } from "../parts.js";
import { runLink } from "../router.js";
import { buttons } from "../control.js";
import { oneLine } from "../text.js";

const sum = (run) => (run.nodes ?? []).reduce((all, node) => all + (node.rejected ?? 0), 0);

export function failuresTab(root, { app, key }) {
  let run = null;
  let found = null;
  let failure = null;
  let isClosed = false;

  const renew = throttled(async () => {
    try {
      found = await get(ofRun(key, "failures"));
      failure = null;
    } catch (error) {
      failure = error;
    }
    if (!isClosed) render();
  }, 2000);

  function group(one) {
    const example = one.example;
    return el(
      "section",
      { class: "card failure", key: `${one.node_id} ${one.kind} ${one.message}` },
      el("h2", { dir: "auto" }, el("span", { class: "badge" }, count(one.count)), ` ${oneLine(one.kind, 120)} `, el("span", { class: "soft" }, `in ${oneLine(namesOf(one)[0], 80)}`)),
      el("div", { class: "note bad" }, longText(one.message)),
      example
        ? el(
            "details",
            {},
            el("summary", {}, "An example: row ", el("bdi", {}, oneLine(example.id, 80))),
            el("p", {}, el("a", { href: runLink(key, "rows", { stream: streamOf(one.node_id), id: example.id }) }, "Follow this row through the run")),
            example.is_cut ? el("p", { class: "soft" }, "Long values are shortened: the link shows all of them.") : null,
            itemView(example.item, "item"),
            example.traceback ? el("div", { class: "traceback" }, longText(example.traceback, "text code")) : null,
          )
        : null,
    );
  }

  const rejected = () =>
    section("Rejected rows, by reason", table("Rejected rows by reason", [["reason"], ["node"], ["rows", true]], found.rejected.map((one) => ({
      key: `${one.node_id} ${one.reason}`, cells: [oneLine(one.reason, 300), oneLine(namesOf(one)[0], 80), count(one.count)],
    })), ""));

  const streamOf = (node) => run.streams.find((one) => one.kind === "dead_letters" && one.node_id === node)?.stream;

  function render() {
    if (!run) return;
    const canReplay = found?.total && !run.live && !app.server.read_only;
    show(
      root,
      el(
        "div",
        { class: "tools", key: "tools" },
        el("span", {}, found ? `${count(found.total)} failed rows are kept` : ""),
        canReplay ? buttons(run, ["replay"]) : null,
        found?.total && run.live ? el("span", { class: "soft" }, "They can be replayed when the run has ended.") : null,
      ),
      failure ? problem(failure) : null,
      found === null && !failure ? el("p", { class: "empty" }, "Looking…") : null,
      found?.groups.length === 0 ? el("p", { class: "empty" }, "No row has failed.") : null,
      found?.groups.map(group),
      found?.rejected.length ? rejected() : null,
    );
  }

  renew();
  return {
    change() {},
    update(fresh) {
      if (run && (fresh.failed !== run.failed || sum(fresh) !== sum(run) || fresh.status !== run.status)) renew();
      run = fresh;
      render();
    },
    close() {
      isClosed = true;
    },
  };
}
