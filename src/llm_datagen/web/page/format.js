// Numbers, times and money for people.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A count; "–" when it is not known. */
export const count = (value) => (isNumber(value) ? whole.format(value) : "–");

/** A count in a few characters. */
export const short = (value) => (!isNumber(value) ? "–" : value < 10000 ? whole.format(value) : compact.format(value));

/** A number per second. */
export function rate(value) {
  if (!isNumber(value)) return "–";
  if (value === 0) return "0/s";
  return `${value >= 100 ? short(value) : value >= 10 ? value.toFixed(0) : value.toFixed(value >= 1 ? 1 : 2)}/s`;
}

/** Dollars, with as many digits as say something. */
export function money(value) {
  if (!isNumber(value)) return "–";
  if (value === 0) return "$0";
  const size = Math.abs(value);
  const digits = size >= 0.995 ? 2 : size >= 0.0995 ? 3 : Math.min(9, 1 - Math.floor(Math.log10(size)));
  return `$${size >= 1000 ? whole.format(value) : value.toFixed(digits)}`;
}

/** Seconds as a length of time. */
export function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  const [days, hours, minutes] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : total < 600 ? `${minutes} min ${total % 60} s` : `${minutes} min`;
}

/** Bytes. */
export function bytes(value) {
  if (!isNumber(value)) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let index = 0;
  for (; value >= 1000 && index < units.length - 1; index += 1) value /= 1000;
  return `${index && value < 100 ? value.toFixed(1) : value.toFixed(0)} ${units[index]}`;
}

/** A share from 0 to 1. */
export const percent = (share) => (isNumber(share) ? `${Math.floor(share * 100 + 1e-9)} %` : "–");

/** A moment, as the reader's clock has it. */
export function moment(iso) {
  const date = iso ? new Date(iso) : null;
  if (!date || Number.isNaN(date.getTime())) return "–";
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  return isToday ? time : `${date.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" })}, ${time}`;
}

/** The time of day with milliseconds. */
export function clock(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return "";
  const two = (value) => String(value).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** How long a run has taken so far. */
export function seconds(run) {
  const start = Date.parse(run.started_at ?? "");
  const end = run.live ? Date.now() : Date.parse(run.ended_at ?? run.updated_at ?? "");
  return Number.isNaN(start) || Number.isNaN(end) ? null : Math.max(0, (end - start) / 1000);
}
