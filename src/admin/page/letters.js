// The dead letters: how many for which reason, and a few of them as they came.
//
// Owns: the list, and which reasons the reader has opened.
// Does not own: the figures.

import { count, foreign, sum } from "./format.js";
import { element, say } from "./table.js";

const PHASES = { decode: "did not parse or fit the schema", sql: "failed in the SQL", sink: "could not be placed in a file" };

export class Letters {
  constructor(list, empty) {
    this.list = list;
    this.empty = empty;
    this.entries = new Map();
  }

  show(status) {
    const reasons = status.dead_letter_reasons;
    const total = sum([...Object.values(status.dead_letters), status.open.dead_letters]);
    say(this.empty, emptyText(reasons, total));
    this.empty.hidden = reasons.length > 0;
    const keys = new Set(reasons.map(keyOf));
    for (const [key, entry] of this.entries) {
      if (keys.has(key)) continue;
      entry.root.remove();
      this.entries.delete(key);
    }
    reasons.forEach((reason, index) => {
      const entry = this.entries.get(keyOf(reason)) ?? this.add(reason);
      // Only where the order has changed: a node that is put in again loses focus and selection.
      if (this.list.children[index] !== entry.root) this.list.insertBefore(entry.root, this.list.children[index] ?? null);
      say(entry.count, count(reason.count));
      this.fill(entry, reason.samples);
    });
  }

  add(reason) {
    const entry = { root: element("li"), count: element("span", "number"), samples: element("ul", "samples") };
    const details = element("details");
    const summary = element("summary");
    const phase = element("span", "phase", reason.phase);
    phase.title = PHASES[reason.phase] ?? "";
    summary.append(entry.count, phase, element("span", "reason", foreign(reason.reason)));
    details.append(summary, entry.samples);
    entry.root.append(details);
    this.entries.set(keyOf(reason), entry);
    return entry;
  }

  fill(entry, samples) {
    while (entry.samples.children.length > samples.length) entry.samples.lastChild.remove();
    while (entry.samples.children.length < samples.length) {
      const item = element("li");
      item.append(element("span", "position"), element("code"));
      entry.samples.append(item);
    }
    samples.forEach(({ position, text }, index) => {
      const [where, what] = entry.samples.children[index].children;
      say(where, foreign(position));
      say(what, text === "" ? "(empty)" : foreign(text));
    });
  }
}

const keyOf = ({ phase, reason }) => `${phase}\n${reason}`;

function emptyText(reasons, total) {
  if (total === 0) return "None. A record that does not parse, fit the schema or transform is kept here with its reason; the others go on.";
  return `${count(total)} in all; their reasons are not known here, “pintail dead-letters” shows them.`;
}
