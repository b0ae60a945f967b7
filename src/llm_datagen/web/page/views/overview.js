// The nodes of a run as they are wired, what limits it, and how it went over time.

import { get, ofRun } from "../api.js";
import { chart, throughput } from "../chart.js";
import { el, show, svg } from "../dom.js";
import { bytes, count, duration, isNumber, money, rate } from "../format.js";
import { bar, baseName, graph, queueText, SHARES, timesText } from "../graph.js";
import { fact, namesOf, pill, section, table, throttled } from "../parts.js";
import { runLink } from "../router.js";
import { changeNode } from "../control.js";
import { middle, oneLine, visible } from "../text.js";

const NARROW = 760;

export function overviewTab(root, { app, key }) {
  let run = null;
  let points = [];
  let chosen = "";
  let width = root.clientWidth || 800;
  let isClosed = false;
  const linkTo = (node) => runLink(key, "", { node: node === chosen ? "" : node });
  const watcher = new ResizeObserver(() => {
    if (Math.abs(root.clientWidth - width) < 2) return;
    width = root.clientWidth;
    render();
  });
  watcher.observe(root);

  const renew = throttled(async () => {
    try {
      points = (await get(ofRun(key, "timeline"))).points;
    } catch {
      return; // the run's events say what is wrong
    }
    if (!isClosed) render();
  }, 3000);

  function render() {
    if (!run) return;
    const node = run.nodes.find((one) => one.node_id === chosen);
    show(
      root,
      run.warnings.map((text) => el("p", { class: "note held", dir: "auto", key: `warning ${text}` }, visible(text))),
      section(
        "Pipeline",
        el("p", { class: "bottleneck", dir: "auto" }, run.bottleneck ? visible(run.bottleneck) : null),
        run.jobs_in_words ? el("p", { class: "bottleneck", dir: "auto" }, `jobs: ${run.jobs_in_words}`) : null,
        el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The graph of the nodes" }, graph(run, { goesDown: width < NARROW, room: width - 34, chosen, linkTo })),
        legend(),
      ),
      node ? details(node) : null,
      section("Nodes", nodeTable()),
      run.shards ? section("Shards", shardTable()) : null,
      section("Over time", el("div", { class: "charts" }, charts())),
      section("Settings", settings()),
    );
  }

  function charts() {
    const wide = Math.max(280, width < NARROW ? width - 34 : (width - 70) / 2);
    const paid = points.filter(([, cost]) => isNumber(cost)).map(([at, cost]) => [at, cost]);
    return [
      chart({ title: "Rows per second", series: throughput(points, run.nodes), say: rate, width: wide, cutsPeaks: true }),
      paid.length ? chart({ title: "Cost", series: [{ name: "cost", points: paid }], say: money, width: wide, isArea: true }) : null,
    ];
  }

  const works = (node) => run.live && node.status === "running";

  function nodeTable() {
    const columns = [["node"], ["status"], ["done", true], ["out", true], ["filtered", true], ["failed", true], ["speed", true], ["in flight", true], ["to write", true], ["time"], ["cost", true]];
    return table("The nodes", columns, run.nodes.map((node) => ({
      key: node.node_id,
      cells: [
        el("a", { href: runLink(key, "", { node: node.node_id }), dir: "auto" }, middle(namesOf(node)[0], 28), el("small", {}, middle(namesOf(node)[1], 28))),
        pill({ ...node, live: run.live }),
        `${count(node.rows_in)}${isNumber(node.total) ? ` / ${node.total_is_exact ? "" : "~"}${count(node.total)}` : ""}`,
        count(node.rows_out),
        count(node.filtered),
        count(node.failed),
        works(node) ? rate(node.rows_per_second) : "–",
        works(node) ? count(node.in_flight) : "–",
        works(node) && isNumber(node.queue) ? `${count(node.queue)}${isNumber(node.queue_size) ? ` / ${count(node.queue_size)}` : ""}` : "–",
        svg("svg", { class: "times", width: 90, height: 8, role: "img", "aria-label": timesText(node) || "not known" }, svg("title", {}, timesText(node)), bar(node, 0, 0, 90, 8)),
        money(node.cost),
      ],
    })));
  }

  function shardTable() {
    const columns = [["shard"], ["status"], ["rows of the input", true], ["done", true], ["out", true], ["failed", true]];
    return table("The shards", columns, run.shards.each.map((shard) => ({
      key: shard.number,
      cells: [
        count(shard.number), pill({ ...shard, live: run.live }), shard.rows[1] > shard.rows[0] ? `${count(shard.rows[0])} to ${count(shard.rows[1] - 1)}` : "none",
        count(shard.rows_in), count(shard.rows_out), count(shard.failed),
      ],
    })));
  }

  function details(node) {
    const mine = run.streams.filter((one) => one.node_id === node.node_id || node.inputs.includes(one.stream) || node.outputs.includes(one.stream));
    return el(
      "section",
      { class: "card node-details", key: "details", "aria-label": `Node ${oneLine(namesOf(node)[0])}` },
      el(
        "div",
        { class: "head" },
        el("h2", { dir: "auto" }, oneLine(namesOf(node)[0], 120)),
        pill({ ...node, live: run.live }),
        el("div", { class: "actions" }, run.live && !app.server.read_only ? changeNode(run, node) : null, el("a", { class: "button", href: runLink(key) }, "Close")),
      ),
      el("p", { class: "soft", dir: "auto" }, oneLine(namesOf(node)[1], 300)),
      node.error ? el("pre", { class: "note bad", dir: "auto" }, visible(node.error)) : null,
      el(
        "dl",
        {},
        fact("Rows in", count(node.rows_in)),
        fact("Rows out", count(node.rows_out)),
        fact("Filtered", count(node.filtered)),
        fact("Rejected", count(node.rejected)),
        fact("Failed", count(node.failed), node.dead_letters ? `${count(node.dead_letters)} dead letters` : ""),
        works(node) ? [
          fact("In flight", count(node.in_flight)),
          fact("To write", queueText(node).replace("to write ", "") || "–", "rows in memory"),
          fact("Speed", rate(node.rows_per_second), isNumber(node.eta_s) ? `${duration(node.eta_s)} left` : ""),
        ] : null,
        fact("Cost", money(node.cost)),
        fact("parallel_size", count(node.parallel_size)),
        fact("batch_size", count(node.batch_size)),
        fact("rate", isNumber(node.rate) ? rate(node.rate) : "no limit"),
        fact("Its time", timesText(node) || "–"),
      ),
      el(
        "p",
        { class: "links" },
        mine.filter((one) => one.browsable).map((one) => el("a", { key: one.stream, href: runLink(key, "rows", { stream: one.stream }) }, `${KINDS[one.kind] ?? one.kind}: ${middle(baseName(one.name), 32)}`)),
        el("a", { href: runLink(key, "log", { node: node.node_id }) }, "its log"),
      ),
    );
  }

  function settings() {
    const streams = table("Streams", [["stream"], ["kind"], ["rows", true], ["size", true], [""]], run.streams.map((one) => ({
      key: one.stream,
      cells: [
        one.browsable ? el("a", { href: runLink(key, "rows", { stream: one.stream }), dir: "auto", title: oneLine(one.name, 500) }, middle(one.name, 70)) : middle(one.name, 70),
        KINDS[one.kind] ?? one.kind, count(one.rows), bytes(one.bytes), one.sealed ? "complete" : "growing",
      ],
    })), "No streams.");
    const config = table("Settings", [["setting"], ["value"]], Object.entries(run.config).map(([name, value]) => ({
      key: name, cells: [oneLine(name, 80), el("code", { dir: "auto" }, oneLine(typeof value === "string" ? value : JSON.stringify(value), 300))],
    })), "None.");
    return [
      el("details", { key: "config" }, el("summary", {}, "Settings of the run"), config),
      el("details", { key: "streams" }, el("summary", {}, "Streams"), streams),
      run.exports.length ? el("details", { key: "exports" }, el("summary", {}, "Exports"), el("ul", {}, run.exports.map((one) => el("li", { dir: "auto" }, oneLine(typeof one === "string" ? one : JSON.stringify(one), 300))))) : null,
      run.versions.length ? el("p", { key: "versions" }, "Versions: ", run.versions.map((one) => oneLine(one, 80)).join(", ")) : null,
      el("p", { class: "soft", key: "folder", dir: "auto" }, `Results folder: ${oneLine(run.folder, 300)}`),
    ];
  }

  renew();
  return {
    change(params) {
      chosen = params.node ?? "";
      render();
    },
    update(fresh) {
      const isNew = run && (fresh.updated_at !== run.updated_at || fresh.status !== run.status);
      run = fresh;
      if (isNew) renew();
      render();
    },
    close() {
      isClosed = true;
      watcher.disconnect();
    },
  };
}

export const KINDS = { input: "input", between: "between nodes", output: "output", dead_letters: "failed rows", rejected: "rejected rows" };

const legend = () =>
  el(
    "p",
    { class: "legend soft" },
    SHARES.map(([name, words]) =>
      el("span", { key: name }, svg("svg", { width: 14, height: 8, "aria-hidden": "true" }, svg("rect", { class: `share ${name}`, y: 1, width: 14, height: 6, rx: 2 })), words),
    ),
  );
