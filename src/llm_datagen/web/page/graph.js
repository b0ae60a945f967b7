// The nodes of a run as they are wired, drawn as SVG: inputs, nodes in layers, and the streams between them.

import { svg } from "./dom.js";
import { count, duration, isNumber, money, percent, rate, short } from "./format.js";
import { namesOf, statusOf } from "./parts.js";
import { middle, oneLine } from "./text.js";

const WIDE = 204;
const HIGH = 132;
const NARROW = 158; // the width of a stream, when the drawing goes from left to right
const PILL = 34; // the height of a stream
const GAP = 44;
const SIDE = 18;
const SMALLEST = 0.7; // smaller than that, it scrolls

/** What the time of a node goes into, in the order of the bar. */
export const SHARES = [
  ["busy", "busy"],
  ["rate_limited", "held by its rate"],
  ["lead_limited", "far enough ahead"],
  ["held_back", "held back by its writer"],
  ["waiting", "waiting for rows"],
];

/** Draw the graph of a run. `goesDown`: from top to bottom; `room`: pixels that it has; `linkTo(node_id)`: where a click goes. */
export function graph(run, { goesDown, room, chosen, linkTo }) {
  const { items, edges } = wired(run);
  for (const item of items) item.wide = item.node || goesDown ? WIDE : NARROW;
  place(items, edges, goesDown);
  const far = edges.some((edge) => edge.isBack) ? 36 : 0; // wires that go back bend below
  const width = Math.max(...items.map((item) => item.x + item.wide), 0) + 2;
  const height = Math.max(...items.map((item) => item.y + item.high), 0) + 2 + far;
  const scale = width > room ? Math.max(room / width, SMALLEST) : 1;
  return svg(
    "svg",
    { class: "graph", viewBox: `-1 -1 ${width} ${height}`, width: Math.floor(width * scale), height: Math.ceil(height * scale), role: "group", "aria-label": "The nodes as they are wired" },
    edges.map((edge) => wire(edge, goesDown)),
    items.map((item) => (item.node ? card(run, item, chosen, linkTo) : stream(item))),
  );
}

// Items by key, and edges between them. Streams are drawn where they begin or end; those between nodes are the edges.
function wired(run) {
  const nodes = new Map(run.nodes.map((node) => [node.node_id, node]));
  const streams = new Map(run.streams.map((one) => [one.stream, one]));
  const items = new Map();
  const item = (key) => {
    if (!items.has(key)) items.set(key, { key, node: nodes.get(key), stream: streams.get(key), high: nodes.has(key) ? HIGH : PILL, layer: 0 });
    return items.get(key);
  };
  run.nodes.forEach((node) => item(node.node_id));
  const edges = [];
  for (const edge of run.edges) {
    const stream = streams.get(edge.stream);
    if (!["between", "input", "output"].includes(stream?.kind)) continue;
    const writer = stream.kind === "between" && !nodes.has(edge.from) ? stream.node_id : edge.from;
    if (stream.kind === "between" && !nodes.has(edge.to)) continue; // its readers have edges of their own
    edges.push({ from: item(writer), to: item(edge.to), stream });
  }
  return { items: [...items.values()], edges };
}

// The layer of each item is its longest way from an input; rows that flow back do not count.
function place(items, edges, goesDown) {
  const into = new Map(items.map((item) => [item, []]));
  edges.forEach((edge) => into.get(edge.to).push(edge.from));
  const open = new Set();
  const known = new Set();
  const layerOf = (item) => {
    if (known.has(item)) return item.layer;
    if (open.has(item)) return -1;
    open.add(item);
    item.layer = Math.max(-1, ...into.get(item).map(layerOf)) + 1;
    open.delete(item);
    known.add(item);
    return item.layer;
  };
  items.forEach(layerOf);
  edges.forEach((edge) => {
    edge.isBack = edge.to.layer <= edge.from.layer;
  });
  const layers = [];
  items.forEach((item) => (layers[item.layer] ??= []).push(item));
  const used = layers.filter(Boolean);
  const breadth = (layer) => layer.reduce((sum, item) => sum + (goesDown ? WIDE : item.high) + SIDE, -SIDE);
  const most = Math.max(...used.map(breadth));
  let along = 0;
  for (const layer of used) {
    let across = (most - breadth(layer)) / 2;
    for (const item of layer) {
      [item.x, item.y] = goesDown ? [across, along] : [along, across];
      across += (goesDown ? WIDE : item.high) + SIDE;
    }
    along += Math.max(...layer.map((item) => (goesDown ? item.high : item.wide))) + GAP;
  }
}

function wire({ from, to, isBack, stream: between }, goesDown) {
  const [x1, y1, x2, y2] = goesDown
    ? [from.x + WIDE / 2, from.y + from.high, to.x + WIDE / 2, to.y]
    : [from.x + from.wide, from.y + from.high / 2, to.x, to.y + to.high / 2];
  const bend = goesDown ? [0, GAP / 2] : [GAP / 2, 0];
  const path = isBack
    ? `M${from.x + WIDE / 2} ${from.y + from.high} C${from.x + WIDE / 2} ${from.y + from.high + 40} ${to.x + WIDE / 2} ${to.y + to.high + 40} ${to.x + WIDE / 2} ${to.y + to.high}`
    : `M${x1} ${y1} C${x1 + bend[0]} ${y1 + bend[1]} ${x2 - bend[0]} ${y2 - bend[1]} ${x2} ${y2}`;
  const text = isBack || !between || !isNumber(between.rows) || !from.node || !to.node ? null : short(between.rows);
  return svg(
    "g",
    { key: `${from.key}>${to.key}>${between?.stream}`, class: "wire", "aria-hidden": "true" },
    svg("path", { d: path, class: isBack ? "back" : undefined }),
    svg("circle", { cx: isBack ? to.x + WIDE / 2 : x2, cy: isBack ? to.y + to.high : y2, r: 3 }),
    text === null ? null : svg("text", { x: (x1 + x2) / 2 + (goesDown ? 8 : 0), y: (y1 + y2) / 2 + (goesDown ? 4 : -7), "text-anchor": goesDown ? "start" : "middle" }, text),
  );
}

/** The last part of a stream's name. */
export const baseName = (name) => String(name).split("/").filter(Boolean).at(-1) ?? String(name);

function stream({ key, x, y, wide, stream: one }) {
  const rows = isNumber(one?.rows) ? short(one.rows) : "";
  return svg(
    "g",
    { key, class: "stream", role: "img", "aria-label": `${one?.kind ?? "stream"} ${oneLine(one?.name ?? key)}, ${rows || "unknown"} rows` },
    svg("title", {}, oneLine(one?.name ?? key)),
    svg("rect", { x, y, width: wide, height: PILL, rx: PILL / 2 }),
    svg("text", { x: x + 14, y: y + 21 }, middle(baseName(one?.name ?? key), rows ? 15 : 20)),
    svg("text", { x: x + wide - 14, y: y + 21, "text-anchor": "end", class: "soft" }, rows),
  );
}

function card(run, { key, x, y, node }, chosen, linkTo) {
  const [word, kind] = statusOf({ ...node, live: run.live, paused: run.paused && node.status === "running" });
  const line = (left, right, number, name = "") => [
    svg("text", { x: x + 12, y: y + 57 + number * 16, class: "soft" }, left),
    svg("text", { x: x + WIDE - 12, y: y + 57 + number * 16, "text-anchor": "end", class: name || undefined }, right),
  ];
  const [name, other] = namesOf(node);
  const isLive = run.live && node.status === "running";
  const failed = node.failed ? `${short(node.failed)} failed` : "";
  const words = [`Node ${oneLine(name)}, ${word}, ${count(node.rows_in)} rows done`, failed, timesText(node)];
  return svg(
    "a",
    { key, href: linkTo(node.node_id), class: `node ${kind}${chosen === node.node_id ? " chosen" : ""}`, "aria-label": words.filter(Boolean).join(", ") },
    svg("title", {}, `${oneLine(node.node_id)}: ${oneLine(node.operator)}`),
    svg("rect", { class: "box", x, y, width: WIDE, height: HIGH, rx: 10 }),
    svg("circle", { class: "dot", cx: x + 16, cy: y + 17, r: 4 }),
    svg("text", { class: "name", x: x + 27, y: y + 22 }, middle(name, failed ? 14 : 20)),
    svg("text", { class: "soft small", x: x + 27, y: y + 37 }, middle(other, 28)),
    failed ? svg("text", { class: "error", x: x + WIDE - 12, y: y + 22, "text-anchor": "end" }, failed) : null,
    line(isLive ? rate(node.rows_per_second) : word, `${short(node.rows_in)} → ${short(node.rows_out)}`, 0),
    line(isLive && isNumber(node.in_flight) ? `${short(node.in_flight)} in flight` : "", isLive ? queueText(node) : "", 1),
    line(isNumber(node.cost) ? money(node.cost) : "", isNumber(node.eta_s) && isLive ? `${duration(node.eta_s)} left` : "", 2, "soft"),
    bar(node, x + 12, y + HIGH - 20, WIDE - 24, 6),
    svg("rect", { class: "track", x: x + 12, y: y + HIGH - 10, width: WIDE - 24, height: 2 }),
    svg("rect", { class: "done", x: x + 12, y: y + HIGH - 10, width: (WIDE - 24) * doneShare(node), height: 2 }),
  );
}

const doneShare = (node) => (node.total > 0 ? Math.min(1, (node.rows_in ?? 0) / node.total) : 0);

export const queueText = (node) => (isNumber(node.queue) ? `to write ${short(node.queue)}${isNumber(node.queue_size) ? ` / ${short(node.queue_size)}` : ""}` : "");

/** Where the time of a node goes, in words. */
export const timesText = (node) =>
  SHARES.filter(([name]) => isNumber(node.times?.[name]) && node.times[name] >= 0.005)
    .map(([name, words]) => `${percent(node.times[name])} ${words}`)
    .join(", ");

/** Where the time of a node goes, as a bar of SVG. */
export function bar(node, x, y, width, height) {
  let at = x;
  const parts = SHARES.map(([name]) => {
    const share = Math.max(0, Math.min(1, node.times?.[name] ?? 0));
    const size = Math.min(share * width, x + width - at);
    const part = svg("rect", { class: `share ${name}`, x: at, y, width: Math.max(0, size), height });
    at += Math.max(0, size);
    return part;
  });
  return [svg("rect", { class: "track", x, y, width, height }), ...parts];
}
