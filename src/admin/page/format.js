// How figures, times and foreign text look.
//
// Owns: units, rounding, clocks, and that text from events shows what it is made of.
// Does not own: where anything is shown.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, useGrouping: false });
const oneDecimal = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const hours = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayAndClock = new Intl.DateTimeFormat("en", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

// What the server does not know is null in its JSON, and this on the page.
export const UNKNOWN = "–";

const known = (show) => (value) => (value === null || value === undefined ? UNKNOWN : show(value));

export const count = known((n) => whole.format(n));

// Counts of eight digits and more are read by their size, not by their digits.
export const short = known((n) => (n >= 1e7 ? compact.format(n) : whole.format(n)));

export const rate = known((n) => `${n > 0 && n < 10 ? precise.format(n) : short(n)}/s`);

export const share = known((part) => percent.format(part));

// As the terminal shows means: one decimal, in scientific form where that would hide the value or need many digits.
export const mean = known((n) => {
  const size = Math.abs(n);
  return (size > 0 && size < 0.05) || size >= 1e12 ? n.toExponential(2) : oneDecimal.format(n);
});

export const bytes = known((n) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${unit === 0 || n >= 100 ? whole.format(n) : oneDecimal.format(n)} ${units[unit]}`;
});

export const milliseconds = known((ms) => (ms < 1000 ? `${whole.format(ms)} ms` : seconds(ms / 1000)));

export const seconds = known((s) => {
  if (s < 10) return `${oneDecimal.format(s)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const [days, hour, minute] = [Math.floor(s / 86_400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (days > 0) return `${days} d ${hour} h`;
  return hour > 0 ? `${hour} h ${minute} min` : `${minute} min ${Math.floor(s) % 60} s`;
});

// An interval, or a mark on an axis: "30 s", and "5 min" without its seconds.
export const interval = (s) => (s < 60 ? `${precise.format(s)} s` : seconds(s).replace(" 0 s", "").replace(" 0 min", ""));

// A sum is unknown if a part of it is.
export const sum = (parts) => (parts.some((part) => part === null || part === undefined) ? null : parts.reduce((a, b) => a + b, 0));

// "1 file", "2 files".
export const many = (n, one, more = `${one}s`) => `${short(n)} ${n === 1 ? one : more}`;

// Local time, with the day if it is another one than today.
export const time = known((at) => {
  const date = new Date(at);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : dayAndClock.format(date);
});

export const hour = (date) => hours.format(date);

export const utc = known((at) => `${new Date(at).toISOString().replace("T", " ").replace("Z", "")} UTC`);

// Characters that do more than take their place: control characters, and those that turn the direction of text, join or hide.
const UNSAFE = /[\p{Cc}\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;

// Text from events, so that it can neither hide nor turn anything around.
export const foreign = (text) => String(text).replace(UNSAFE, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
