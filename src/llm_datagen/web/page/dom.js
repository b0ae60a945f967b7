// Elements from data. Text is only ever text: nothing here parses HTML, and attributes are from a list.

const SVG = "http://www.w3.org/2000/svg";
const ATTRIBUTES = new Set([
  "class", "id", "href", "type", "name", "for", "role", "tabindex", "title", "dir", "hidden", "disabled", "placeholder",
  "min", "max", "step", "scope", "colspan", "open", "autocomplete", "spellcheck", "label", "maxlength",
  "x", "y", "x1", "x2", "y1", "y2", "width", "height", "rx", "cx", "cy", "r", "d", "points", "viewBox", "text-anchor",
  "pathLength",
]);
const KEPT = new Set(["open"]); // what the reader changes by hand

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") listen(node, value);
    else if (name === "key") node.myKey = String(value);
    else if (name === "value") node.myValue = String(value);
    else if (name === "checked") node.myChecked = value;
    else if (name === "own") node.myOwn = [value];
    else if (!ATTRIBUTES.has(name) && !/^aria-[a-z]+$/.test(name)) throw new Error(`no attribute ${name}`);
    else if (name === "href" && !String(value).startsWith("#")) throw new Error("links stay on this page");
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(3)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  declare(node);
  return node;
}

// A node's value is set when what is declared changes, and is the reader's in between.
function declare(node) {
  if (node.myValue !== undefined) node.value = node.myValue;
  if (node.myChecked !== undefined) node.checked = node.myChecked;
}

function listen(node, handlers) {
  node.myHandlers = handlers;
  for (const name of Object.keys(handlers)) node.addEventListener(name, (event) => node.myHandlers[name]?.(event));
}

/** An HTML element. `props`: attributes, `on` (handlers by event), `key`, `value`, `own`: what it
 * shows, when it draws that itself: it stays as it is while that is the same. */
export function el(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Make `old` equal to `fresh` in place, so that focus, selection and scrolling stay. */
export function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !KEPT.has(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !KEPT.has(name)) old.setAttribute(name, value);
  }
  if (fresh.myHandlers) old.myHandlers = fresh.myHandlers;
  if (old.myOwn) return;
  show(old, [...fresh.childNodes]);
  if (old.myValue !== fresh.myValue || old.myChecked !== fresh.myChecked) {
    old.myValue = fresh.myValue;
    old.myChecked = fresh.myChecked;
    declare(old);
  }
}

const showsSame = (one, other) => one?.[0] === other?.[0] || JSON.stringify(one) === JSON.stringify(other);

/** Make `wanted` the children of `parent`, keeping those that are the same by key, or by kind and order. */
export function show(parent, ...wanted) {
  const nodes = wanted.flat(3).filter((node) => node !== null && node !== undefined && node !== false && node !== "");
  const old = [...parent.childNodes];
  const keyed = new Map(old.filter((node) => node.myKey !== undefined).map((node) => [node.myKey, node]));
  const plain = old.filter((node) => node.myKey === undefined);
  let place = parent.firstChild;
  for (const item of nodes) {
    const fresh = item instanceof Node ? item : document.createTextNode(String(item));
    let same = fresh.parentNode === parent ? fresh : undefined;
    if (!same && fresh.myKey !== undefined) same = keyed.get(fresh.myKey);
    if (!same && fresh.myKey === undefined && plain[0]?.nodeName === fresh.nodeName) same = plain.shift();
    if (same && (same.nodeName !== fresh.nodeName || !showsSame(same.myOwn, fresh.myOwn))) same = undefined;
    if (same && same !== fresh) morph(same, fresh);
    const node = same ?? fresh;
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

/** Say something to those who hear the page; once, when it changes. */
export function announce(text) {
  const live = document.getElementById("live");
  if (live.textContent !== text) live.textContent = text;
}
