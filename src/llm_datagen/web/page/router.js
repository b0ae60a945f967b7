// Addresses: #/ (runs), #/run/KEY/TAB?stream=…, #/compare?a=…&b=…

/** A link to a place of the page. */
export function link(parts, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const path = parts.map((part) => encodeURIComponent(part)).join("/");
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

export const runLink = (run, tab = "", params = {}) => link(tab ? ["run", run, tab] : ["run", run], params);

/** Where the page is: its parts and its parameters. */
export function here() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { parts: path.split("/").filter(Boolean).map(decode), params: Object.fromEntries(new URLSearchParams(search)) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Go to a place; `isStep`: whether the browser's Back comes back here. */
export function go(address, isStep = true) {
  if (address === location.hash) return;
  if (isStep) location.hash = address;
  else {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  }
}
