// The server's answers. Every address is on this page's own origin.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const ROWS = /\/(rows|rejected|failures|trace)(\?|$)/;

/** Keep the digits of a number in a row that JavaScript would round: an id of many systems has 19 of them. */
const exact = (key, value, context) =>
  Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the server does not answer");
  }
  if (answer.status === 204) return null;
  let data = null;
  try {
    data = ROWS.test(path) ? JSON.parse(await answer.text(), exact) : await answer.json();
  } catch {
    data = null;
  }
  if (!answer.ok) throw new ApiError(answer.status, data?.error ?? `the server answered ${answer.status}`);
  return data;
}

const query = (params) => {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

export const get = (path, params = {}, signal = undefined) => ask(`/api/${path}${query(params)}`, { signal });

export const post = (path, body) =>
  ask(`/api/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const ofRun = (run, what = "") => `runs/${encodeURIComponent(run)}${what ? `/${what}` : ""}`;

const RETRY_MS = 1500;

/**
 * Follow the server's events until `close()` is called; begin again when the connection is lost.
 * `on`: a function for each event with its data, `failed({error})` when the server cannot look, and `lost()` and `found()`
 * for the connection.
 */
export function follow(params, on) {
  let source = null;
  let timer = 0;
  let isLost = false;

  function found() {
    if (isLost) on.found?.();
    isLost = false;
  }

  function open() {
    source = new EventSource(`/api/events${query(params)}`);
    source.onopen = found;
    source.onerror = (event) => {
      if (event.data) return on.failed?.(JSON.parse(event.data)); // an event of the server that is named so
      source.close();
      if (!isLost) on.lost?.();
      isLost = true;
      timer = setTimeout(open, RETRY_MS);
    };
    for (const name of Object.keys(on)) {
      if (["lost", "found", "failed"].includes(name)) continue;
      source.addEventListener(name, (event) => {
        found();
        on[name](event.data ? JSON.parse(event.data) : null);
      });
    }
  }

  open();
  return {
    close() {
      clearTimeout(timer);
      source.close();
    },
  };
}
