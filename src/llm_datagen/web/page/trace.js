// What became of a row: from the input to every child, with the model calls behind each.

import { el } from "./dom.js";
import { count, duration, isNumber, money } from "./format.js";
import { itemView, longText } from "./item.js";
import { runLink } from "./router.js";
import { oneLine, preview } from "./text.js";

const STATES = { row: "", dead_letter: "failed", pending: "not done yet" }; // others are said as they are
const KINDS = { dead_letter: "bad", filtered: "quiet", rejected: "held", pending: "quiet" };

/** Draw the rows that a row came from, itself, and those that were made of it. `stream`: where it was opened. */
export function traceOf(run, members, stream) {
  if (!members.length) return el("p", { class: "empty" }, "Nothing is known of this row.");
  // Its relatives in other streams may have the same id.
  const isThere = members.some((member) => member.stream === stream);
  const isIt = (member) => member.relation === "itself" && (!isThere || member.stream === stream);
  const at = members.findIndex(isIt);
  const asked = members.findLastIndex((member, index) => index <= at && member.calls.length);
  return el("ol", { class: "trace" }, members.map((member, index) => memberView(run, member, index, isIt(member), index === asked)));
}

function memberView(run, member, index, isItself, isAsked) {
  const state = STATES[member.state] ?? member.state.replaceAll("_", " ");
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
    member.calls.map((call, number) => callView(call, number, member.calls.length, isAsked)),
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
    call.tool_calls ? `${count(call.tool_calls)} ${call.tool_calls === 1 ? "call of a tool" : "calls of tools"}` : null,
    call.cached ? "from the cache" : null,
    call.version ? `kept from version ${count(call.version)}` : null,
    call.provider ? oneLine(call.provider, 60) : null,
  ];
  return el(
    "details",
    { class: "call", open: isOpen },
    el("summary", {}, el("b", { dir: "auto" }, oneLine(call.model || "a model", 60)), calls > 1 ? ` call ${number + 1}` : "", el("span", { class: "soft" }, ` ${facts.filter(Boolean).join(" · ")}`)),
    turnsOf(call).map(([who, said]) => spoken(who, said)),
    call.answer === null || call.answer === undefined ? null : spoken(call.repairs ? `answer ${call.repairs + 1}` : "answer", call.answer),
    Object.entries(call.extras ?? {}).map(([name, value]) => spoken(name, value)),
    call.error ? el("div", { class: "note bad" }, longText(call.error)) : null,
  );
}

/** What was said before the last answer, in order: who said it, and what. An answer that could not be used has a number. */
function turnsOf(call) {
  const repairs = call.repairs_at ?? [];
  const turns = (call.messages ?? []).flatMap((message, at) => {
    const calls = (message.tool_calls ?? []).map((made) => ["calls", `${made.function?.name}(${made.function?.arguments})`]);
    return message.content || !calls.length ? [[whoSaid(message, at, repairs), message.content], ...calls] : calls;
  });
  // Logs of older versions have the answers that were repaired beside the messages.
  const beside = repairs.length || call.tool_calls ? [] : (call.repaired_answers ?? []);
  return [...turns, ...beside.map((answer, number) => [`answer ${number + 1}`, answer])];
}

function whoSaid(message, at, repairs) {
  if (repairs.includes(at)) return "repair";
  const number = repairs.indexOf(at + 1) + 1;
  return number && message.role === "assistant" ? `answer ${number}` : message.role;
}

const spoken = (role, content) =>
  el(
    "div",
    { class: `spoken ${/^answer( \d+)?$/.test(role) ? "answer" : ""}` },
    el("h4", {}, oneLine(role, 40)),
    (Array.isArray(content) ? content : [content]).map((part) => longText(typeof part === "string" ? part : typeof part?.text === "string" ? part.text : JSON.stringify(part, null, 2))),
  );
