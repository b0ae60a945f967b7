// Commands to a run: each asks once, and says what happened.

import { ofRun, post } from "./api.js";
import { announce, el, show } from "./dom.js";
import { count, isNumber, money } from "./format.js";
import { namesOf } from "./parts.js";
import { oneLine, visible } from "./text.js";

/** Ask for a command in a dialog, send it, and show what the server said. */
export function ask(run, { title, text, verb, command, fields = [], values = {}, isBad = false }) {
  const asked = document.activeElement;
  const dialog = el("dialog", { class: "ask", "aria-labelledby": "ask-title" });
  const close = () => dialog.close();
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (asked?.isConnected) asked.focus();
  });

  async function send(event) {
    event.preventDefault();
    const button = dialog.querySelector("button[type=submit]");
    button.disabled = true;
    try {
      const given = fields
        .map(({ name, value = "" }) => [name, dialog.querySelector(`#ask-${name}`).value, String(value)])
        .filter(([, text, was]) => text !== "" && text !== was)
        .map(([name, text]) => [name, Number(text)]);
      const { said } = await post(ofRun(run.run, "commands"), {
        command,
        ...values,
        ...Object.fromEntries(given),
      });
      result(said, "good");
    } catch (error) {
      result(error.message, "bad");
    }
  }

  function result(said, kind) {
    show(
      dialog,
      el("h2", { id: "ask-title" }, title),
      el("p", { class: `said ${kind}`, role: "status", dir: "auto" }, visible(said)),
      el("div", { class: "actions" }, el("button", { type: "button", class: "main", on: { click: close } }, "Close")),
    );
    announce(oneLine(said));
    dialog.querySelector("button").focus();
  }

  const inputs = fields.map((field) =>
    el(
      "p",
      { class: "field" },
      el("label", { for: `ask-${field.name}` }, field.label),
      el("input", { id: `ask-${field.name}`, type: "number", min: field.min, step: field.step, value: field.value ?? "" }),
      field.hint ? el("small", {}, field.hint) : null,
    ),
  );
  show(
    dialog,
    el(
      "form",
      { on: { submit: send } },
      el("h2", { id: "ask-title" }, title),
      el("p", {}, text),
      inputs,
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", on: { click: close } }, "Not now"),
        el("button", { type: "submit", class: isBad ? "main danger" : "main" }, verb),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  (dialog.querySelector("input") ?? dialog.querySelector("button[type=submit]")).focus();
}

const COMMANDS = {
  pause: {
    title: "Pause this run?",
    text: "No call begins from now on. Calls that have begun end, and their rows are written.",
    verb: "Pause",
  },
  unpause: { title: "Go on with this run?", text: "Calls begin again.", verb: "Unpause" },
  cancel: {
    title: "Cancel this run?",
    text: "What has begun is finished and written, nothing new begins, and the run ends. It can be resumed later.",
    verb: "Cancel the run",
    isBad: true,
  },
  resume: {
    title: "Resume this run?",
    text: "It goes on where it stopped, in a process of its own. Rows that are done are not done again.",
    verb: "Resume",
  },
  replay: {
    title: "Replay the rows that failed?",
    text: "The same nodes do the dead-lettered rows again, under the same ids. What fails again is dead-lettered again.",
    verb: "Replay",
  },
};

const askFor = (run, command) => ask(run, { command, ...COMMANDS[command] });

function askBudget(run) {
  const { cap, cap_tokens: tokens, spent, spent_tokens: used } = run.budget;
  const fields = [];
  if (isNumber(cap)) fields.push({ name: "usd", label: `US dollars that the run may spend in all (so far: ${money(spent)})`, min: 0, step: "any", value: cap });
  if (isNumber(tokens)) fields.push({ name: "tokens", label: `Tokens that the run may use in all (so far: ${count(used)})`, min: 0, step: 1, value: tokens });
  ask(run, {
    command: "budget",
    title: "Change the budget?",
    text: run.live
      ? "A run takes no other budget while it works: it is cancelled, which keeps what is done, and resumed with the new one."
      : "The run is resumed with it, in a process of its own.",
    verb: "Change the budget",
    fields,
  });
}

/** Which commands make sense for a run now. */
export function commandsFor(run) {
  const failed = (run.nodes ?? []).reduce((sum, node) => sum + (node.dead_letters ?? 0), 0);
  const found = [];
  if (run.live) found.push(run.paused ? "unpause" : "pause", "cancel");
  else {
    if (run.status !== "completed") found.push("resume");
    if (failed) found.push("replay");
  }
  if (run.budget && run.status !== "completed" && (isNumber(run.budget.cap) || isNumber(run.budget.cap_tokens))) found.push("budget");
  return found;
}

const NAMES = {
  pause: "Pause", unpause: "Unpause", cancel: "Cancel…", resume: "Resume", replay: "Replay failed rows", budget: "Budget…",
};

/** Buttons for some commands. */
export function buttons(run, commands) {
  return commands.map((command) =>
    el(
      "button",
      {
        key: command,
        type: "button",
        class: command === "cancel" ? "danger" : undefined,
        on: { click: () => (command === "budget" ? askBudget(run) : askFor(run, command)) },
      },
      NAMES[command],
    ),
  );
}

/** A button that changes a node while it runs. */
export function changeNode(run, node) {
  const fields = [
    {
      name: "parallel_size", label: "Batches at once (parallel_size)", min: 1, step: 1, value: node.parallel_size,
    },
    {
      name: "rate", label: "Rows per second, at most (rate)", min: 0, step: "any", value: node.rate ?? "",
      hint: "Empty: as it is. 0: no limit.",
    },
  ];
  return el(
    "button",
    {
      type: "button",
      on: {
        click: () =>
          ask(run, {
            command: "reconfigure",
            title: `Change ${oneLine(namesOf(node)[0], 60)}?`,
            text: "It holds for the calls that begin from now on. A resume keeps it.",
            verb: "Change it",
            values: { node: node.node_id },
            fields,
          }),
      },
    },
    "Change speed…",
  );
}
