// The platform log of a run, as it grows.

import { get, ofRun } from "../api.js";
import { el, show } from "../dom.js";
import { clock } from "../format.js";
import { problem } from "../parts.js";
import { go, runLink } from "../router.js";
import { middle, oneLine } from "../text.js";

const QUIET = "EOF Retry"; // readers that wait log it again and again: it is shown when it is chosen
const ALL = "*";
const MOST = 1000; // lines that are kept on the page
const EVERY_MS = 1000;

const bracketed = (event) => `[${oneLine(event, 60).replace(/^\[|\]$/g, "")}]`;

export function logTab(root, { key }) {
  let run = null;
  let params = {};
  let lines = [];
  let after;
  let events = [];
  let failure = null;
  let isFollowed = true;
  let asking = null;
  let timer = 0;
  let number = 0;

  async function load() {
    clearTimeout(timer);
    const mine = (asking = new AbortController());
    try {
      const { node, event, level } = params;
      const of = event === ALL ? {} : event ? { event } : { without: QUIET };
      const part = await get(ofRun(key, "log"), { after, node, ...of, level, limit: 200 }, mine.signal);
      after = part.after;
      events = [...new Set([...events, ...part.events])].sort();
      lines = [...lines, ...part.lines.map((line) => ({ line, number: number++ }))].slice(-MOST);
      failure = null;
    } catch (error) {
      if (error.name === "AbortError") return;
      failure = error;
    }
    render();
    timer = setTimeout(load, run?.live === false ? 4 * EVERY_MS : EVERY_MS);
  }

  const choice = (name, label, values, all = "all") =>
    el("span", { class: "choice", key: name },
      el("label", { for: `log-${name}` }, label),
      el("select", { id: `log-${name}`, value: params[name] ?? "", on: { change: (event) => go(runLink(key, "log", { ...params, [name]: event.target.value })) } },
        el("option", { value: "" }, all),
        values.map((value) => el("option", { key: value, value }, name === "event" ? (value === ALL ? "all" : bracketed(value)) : middle(value, 40)))));

  function lineView({ line, number: at }) {
    const rest = Object.entries(line.fields).filter(([name]) => !["node_id", "pipeline_id", "run"].includes(name));
    return el(
      "li",
      { key: at, class: `log-line ${line.level}` },
      el("time", {}, clock(line.timestamp)),
      el("b", {}, bracketed(line.event)),
      line.node_id ? el("span", { class: "log-node", dir: "auto" }, middle(line.node_id, 30)) : null,
      el("span", { class: "soft", dir: "auto" }, rest.map(([name, value]) => `${oneLine(name, 40)}=${oneLine(typeof value === "string" ? value : JSON.stringify(value), 400)}`).join("  ")),
    );
  }

  function render() {
    const kept = [params.event, ...events].filter((name, index, all) => name && all.indexOf(name) === index);
    show(
      root,
      el(
        "div",
        { class: "tools", key: "tools" },
        choice("node", "Node", run?.nodes.map((node) => node.node_id) ?? []),
        choice("event", "Event", [ALL, ...kept.filter((name) => name !== ALL)], `all but ${bracketed(QUIET)}`),
        choice("level", "Level", ["info", "warning", "error"]),
        el("label", { class: "tick" }, el("input", { type: "checkbox", checked: isFollowed, on: { change: (event) => { isFollowed = event.target.checked; render(); } } }), " Follow"),
      ),
      failure ? problem(failure) : null,
      lines.length
        ? el("div", { class: "log card", key: "log", tabindex: 0, role: "region", "aria-label": "Log", on: { wheel: (event) => event.deltaY < 0 && isFollowed && stop(), keydown: (event) => ["ArrowUp", "PageUp", "Home"].includes(event.key) && stop() } }, el("ol", {}, lines.map(lineView)))
        : el("p", { class: "empty" }, after === undefined && !failure ? "Looking…" : "No lines."),
    );
    const box = root.querySelector(".log");
    if (isFollowed && box) box.scrollTop = box.scrollHeight;
  }

  function stop() {
    isFollowed = false;
    render();
  }

  return {
    change(fresh) {
      params = fresh;
      asking?.abort();
      [lines, after] = [[], undefined];
      load();
    },
    update(fresh) {
      const isNew = run?.nodes.length !== fresh.nodes.length;
      run = fresh;
      if (isNew) render(); // else nothing that is shown here has changed
    },
    close() {
      asking?.abort();
      clearTimeout(timer);
    },
  };
}
