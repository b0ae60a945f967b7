// What became of a row: from the input to every child, with the model calls behind each.

import { el } from "./dom.js";
import { count, duration, isNumber, money } from "./format.js";
import { itemView, longText } from "./item.js";
import { runLink } from "./router.js";
import { oneLine, preview } from "./text.js";

const STATES = { row: "", dead_letter: "failed", filtered: "filtered", rejected: "rejected", pending: "not done yet" };
const KINDS = { dead_letter: "bad", filtered: "quiet", rejected: "held", pending: "quiet" };

/** Draw the rows that a row came from, itself, and those that were made of it. */
export function traceOf(run, members) {
  if (!members.length) return el("p", { class: "empty" }, "Nothing is known of this row.");
  return el("ol", { class: "trace" }, members.map((member, index) => memberView(run, member, index)));
}

function memberView(run, member, index) {
  const isItself = member.relation === "itself";
  const state = STATES[member.state] ?? member.state;
  const id = oneLine(member.id, 80);
  return el(
    "li",
    { key: `${index} ${member.node_id} ${id} ${member.state}`, class: `member ${isItself ? "itself" : ""}` },
    el(
      "h3",
      {},
      el("span", { class: "where", dir: "auto" }, oneLine(member.node_id || "input", 60)),
      member.item === null || member.item === undefined ? id : el("a", { href: runLink(run, "rows", { stream: member.stream, id: member.id }), dir: "auto" }, id),
      state ? el("span", { class: `pill ${KINDS[member.state] ?? "quiet"}` }, oneLine(state, 40)) : null,
      isItself ? el("span", { class: "soft" }, "this row") : null,
    ),
    member.reason ? el("p", { class: "reason", dir: "auto" }, longText(member.reason)) : null,
    member.calls.map((call, number) => callView(call, number, member.calls.length, isItself)),
    member.item === null || member.item === undefined
      ? null
      : el(
          "details",
          { class: "item-of", open: isItself },
          el("summary", {}, el("span", { class: "closed", dir: "auto" }, preview(member.item, 140)), el("span", { class: "opened" }, "the row")),
          itemView(member.item),
        ),
  );
}

function callView(call, number, calls, isOpen) {
  const facts = [
    `${count(call.tokens_in)} → ${count(call.tokens_out)} tokens`,
    isNumber(call.cost) ? money(call.cost) : null,
    isNumber(call.seconds) ? duration(call.seconds) : null,
    call.attempts > 1 ? `${count(call.attempts)} attempts` : null,
    call.repairs ? `${count(call.repairs)} ${call.repairs === 1 ? "repair" : "repairs"}` : null,
    call.cached ? "from the cache" : null,
    call.provider ? oneLine(call.provider, 60) : null,
  ];
  return el(
    "details",
    { class: "call", open: isOpen },
    el("summary", {}, el("b", { dir: "auto" }, oneLine(call.model || "a model", 60)), calls > 1 ? ` call ${number + 1}` : "", el("span", { class: "soft" }, ` ${facts.filter(Boolean).join(" · ")}`)),
    (call.messages ?? []).map((message) => spoken(message.role, message.content)),
    call.answer === null || call.answer === undefined ? null : spoken("answer", call.answer),
  );
}

const spoken = (role, content) =>
  el(
    "div",
    { class: `spoken ${role === "answer" ? "answer" : ""}` },
    el("h4", {}, oneLine(role, 40)),
    longText(typeof content === "string" ? content : JSON.stringify(content, null, 2)),
  );
