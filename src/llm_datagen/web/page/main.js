// The page: it signs in with the token of the address, and shows what the address says.

import { get, post } from "./api.js";
import { el, show } from "./dom.js";
import { problem } from "./parts.js";
import { here } from "./router.js";
import { compareView } from "./views/compare.js";
import { runView } from "./views/run.js";
import { runsView } from "./views/runs.js";

const main = document.getElementById("main");
const about = document.getElementById("about");
const app = { server: null, signIn };
let view = null;

function route() {
  if (location.hash === "#main") return main.focus();
  const { parts, params } = here();
  const [kind, key] = parts;
  const make = kind === "run" && key ? runView : kind === "compare" ? compareView : runsView;
  const identity = make === runView ? `run ${key}` : make.name;
  if (view?.identity === identity) return view.change(parts, params);
  const isFirst = view === null;
  view?.close();
  show(main);
  view = make(main, app, key);
  view.identity = identity;
  view.change(parts, params);
  if (!isFirst) main.focus({ preventScroll: true }); // the next Tab, and what is read out, begins there
  scrollTo(0, 0);
}

async function start() {
  const token = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (token !== undefined) {
    history.replaceState(null, "", "#/"); // so that it is not in the history, and not over a shoulder
    try {
      await post("session", { token: decodeURIComponent(token) });
    } catch (error) {
      return signIn(error);
    }
  }
  try {
    app.server = await get("server");
  } catch (error) {
    return error.status === 401 ? signIn() : show(main, problem(error));
  }
  about.textContent = `${app.server.version}${app.server.read_only ? " · read only" : ""}`;
  addEventListener("hashchange", route);
  route();
}

/** Ask for the token; `error`: why the one that was given is not taken. */
function signIn(error = null) {
  view?.close();
  view = null;
  removeEventListener("hashchange", route);
  async function send(event) {
    event.preventDefault();
    try {
      await post("session", { token: document.getElementById("token").value.trim().replace(/^.*#token=/, "") });
    } catch (refused) {
      return signIn(refused);
    }
    await start();
  }
  show(
    main,
    el(
      "form",
      { class: "card sign-in", on: { submit: send } },
      el("h1", {}, "Which token?"),
      el("p", {}, "The command that started this page printed an address with a token. Open that address, or put the token in here."),
      error ? problem(error) : null,
      el("p", { class: "field" }, el("label", { for: "token" }, "Token"), el("input", { id: "token", type: "password", autocomplete: "off" })),
      el("div", { class: "actions" }, el("button", { type: "submit", class: "main" }, "Open")),
    ),
  );
}

start();
