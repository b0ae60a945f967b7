// Charts over time, as SVG, each with its figures as a table.

import { el, svg } from "./dom.js";
import { duration } from "./format.js";
import { namesOf } from "./parts.js";
import { oneLine } from "./text.js";

const MARGIN = { left: 56, right: 12, top: 10, bottom: 24 };
const COLOURS = 6;

const look = (index) => `line-${index % COLOURS}${index < COLOURS ? "" : " dashed"}`;

/**
 * A chart of lines.
 * `series`: {name, points: [[seconds, value]]}; `say(value)`: a value as text; `isArea`: filled; `cutsPeaks`: peaks that
 * would press everything else to the ground are cut off, and named.
 */
export function chart({ title, series, say, width, height = 170, isArea = false, cutsPeaks = false }) {
  const all = series.flatMap((one) => one.points);
  if (!series.some((one) => one.points.length > 1)) return el("p", { class: "empty" }, "Nothing to draw yet.");
  const end = Math.max(...all.map(([at]) => at), 1);
  const top = nice((cutsPeaks ? highest : most)(all.map(([, value]) => value)));
  const cut = series.map((one) => [one.name, most(one.points.map(([, value]) => value))]).filter(([, value]) => value > top * 1.001);
  const x = (at) => MARGIN.left + (at / end) * (width - MARGIN.left - MARGIN.right);
  const y = (value) => height - MARGIN.bottom - Math.min(1, value / top) * (height - MARGIN.top - MARGIN.bottom);
  const grid = [0, 0.5, 1].map((share) => [
    svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(share * top), y2: y(share * top) }),
    svg("text", { x: MARGIN.left - 8, y: y(share * top) + 4, "text-anchor": "end" }, say(share * top)),
  ]);
  const times = [0, 0.5, 1].map((share) =>
    svg("text", { x: x(share * end), y: height - 6, "text-anchor": ["start", "middle", "end"][share * 2] }, share ? duration(share * end) : "0"),
  );
  const lines = series.map((one, index) => {
    const path = one.points.map(([at, value], number) => `${number ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const last = one.points.at(-1);
    const area = isArea && last ? `${path}L${x(last[0]).toFixed(1)} ${y(0)}L${x(one.points[0][0]).toFixed(1)} ${y(0)}Z` : null;
    return svg("g", { class: look(index) }, area ? svg("path", { class: "area", d: area }) : null, svg("path", { class: "line", d: path }));
  });
  return el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, title, series.length > 1 ? legend(series) : null),
    svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words(title, series, say) }, grid, times, lines),
    cut.length ? el("p", { class: "soft" }, `Cut off at the top: ${cut.map(([name, value]) => `${oneLine(name, 40)}, at most ${say(value)}`).join("; ")}.`) : null,
    figures(title, series, say),
  );
}

const most = (values) => values.reduce((best, value) => Math.max(best, value), 0);

// The most of the values that are at most four times as high as what 95 % stay below.
function highest(values) {
  const usual = values.toSorted((one, other) => one - other)[Math.floor(values.length * 0.95)] ?? 0;
  return most(usual > 0 ? values.filter((value) => value <= 4 * usual) : values);
}

const legend = (series) =>
  el("span", { class: "legend" }, series.map((one, index) =>
    el("span", { key: one.name }, svg("svg", { class: look(index), width: 14, height: 8, "aria-hidden": "true" }, svg("rect", { y: 2, width: 14, height: 4, rx: 2 })), oneLine(one.name, 40)),
  ));

function words(title, series, say) {
  const parts = series.map(({ name, points }) => {
    const most = points.reduce((best, point) => (point[1] > best[1] ? point : best), points[0]);
    return `${oneLine(name, 40)}: at most ${say(most[1])} after ${duration(most[0])}, ${say(points.at(-1)[1])} at the end`;
  });
  return `${title}. ${parts.join(". ")}`;
}

function figures(title, series, say) {
  const longest = series.reduce((best, one) => (one.points.length > best.points.length ? one : best), series[0]).points;
  const step = Math.max(1, Math.ceil(longest.length / 20));
  const times = longest.filter((_, index) => index % step === 0 || index === longest.length - 1).map(([at]) => at);
  const near = (points, at) => points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best), points[0])[1];
  return el(
    "details",
    {},
    el("summary", {}, "The figures"),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": title },
      el(
        "table",
        {},
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "after"), series.map((one) => el("th", { scope: "col", class: "number" }, oneLine(one.name, 40))))),
        el("tbody", {}, times.map((at) => el("tr", {}, el("th", { scope: "row" }, duration(at)), series.map((one) => el("td", { class: "number" }, say(near(one.points, at))))))),
      ),
    ),
  );
}

function nice(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * unit).find((step) => step >= value * 0.999);
}

/** Rows per second of each node, from the points of a run's timeline, over windows of some points. */
export function throughput(points, nodes) {
  const width = Math.max(1, Math.ceil(points.length / 60));
  return nodes.map((node) => {
    const name = node.node_id;
    const line = [];
    for (let index = width; index < points.length; index += width) {
      const [[t0, , before], [t1, , after]] = [points[index - width], points[index]];
      if (t1 > t0) line.push([t1, Math.max(0, ((after[name]?.[0] ?? 0) - (before[name]?.[0] ?? 0)) / (t1 - t0))]);
    }
    return { name: namesOf(node)[0], points: line };
  }).filter((one) => one.points.length);
}

/** A list of bars: {name, value}. */
export function bars(title, rows, say) {
  const most = Math.max(...rows.map((row) => row.value), 0) || 1;
  return el(
    "ul",
    { class: "bars", "aria-label": title },
    rows.map((row) =>
      el("li", { key: row.name }, el("span", { dir: "auto" }, oneLine(row.name, 60)), el("progress", { max: 1, value: row.value / most, "aria-label": oneLine(row.name, 60) }), el("b", {}, say(row.value))),
    ),
  );
}
