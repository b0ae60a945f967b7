// Foreign text, made visible: control characters and marks that turn the direction of what follows are written out.

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** The text with what cannot be seen written as \uXXXX. Line ends and tabs stay. */
export function visible(text) {
  return String(text).replace(HIDDEN, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** One line of at most `length` characters. */
export function oneLine(text, length = 300) {
  const cut = visible(String(text).slice(0, length)).replace(/[ \t\n]+/g, " ");
  return String(text).length > length ? `${cut}…` : cut;
}

/** A name with its middle left out, when it is longer than `length`. */
export function middle(name, length) {
  const text = oneLine(name, 500);
  if (text.length <= length) return text;
  const head = Math.ceil((length - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (length - 1 - head))}`;
}

const MOST_OF_A_FIELD = 64; // so that a long text does not hide the fields behind it

/** An item in one line: its fields, each cut, or its text. */
export function preview(item, length = 300) {
  if (typeof item === "string") return oneLine(item, length);
  if (item === null || typeof item !== "object" || Array.isArray(item) || JSON.isRawJSON?.(item)) return oneLine(JSON.stringify(item), length);
  const parts = [];
  let size = 0;
  for (const [name, value] of Object.entries(item)) {
    const part = `${oneLine(name, 60)}: ${oneLine(typeof value === "string" ? value : JSON.stringify(value), MOST_OF_A_FIELD)}`;
    parts.push(part);
    size += part.length;
    if (size > length) break;
  }
  return parts.join(" · ");
}
