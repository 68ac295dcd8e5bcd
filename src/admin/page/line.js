// The line, drawn as stages with the channels between them.
//
// Owns: the drawing, and its words.
// Does not own: which stage is slow (see bottleneck.js).

import { bottleneck } from "./bottleneck.js";
import { UNKNOWN, bytes, count, many, rate, seconds, share } from "./format.js";
import { element, say } from "./table.js";

export class Line {
  constructor(list, verdict) {
    this.list = list;
    this.verdict = verdict;
    this.stages = new Map();
    this.channels = new Map();
  }

  show(status, lastCheckpoint) {
    const slow = bottleneck(status);
    say(this.verdict, slow.why);
    this.verdict.classList.toggle("slow", slow.stage !== null);
    const order = status.stages.map((stage) => stage.name);
    if (order.join() !== this.order) this.draw(order);
    const place = order.indexOf(slow.stage);
    status.stages.forEach((stage, index) => {
      const box = this.stages.get(stage.name);
      say(box.rate, rate(stage.records_per_second));
      say(box.busy, busyOf(stage));
      fill(box.bar, stage.busy);
      const word = wordOf(status, slow.stage, index - place, stage);
      say(box.word, word);
      box.root.classList.toggle("slow", stage.name === slow.stage);
    });
    for (const channel of status.channels) {
      const link = this.channels.get(channel.to);
      if (!link || !order.includes(channel.from)) continue;
      say(link.fill, `${count(channel.length)} of ${count(channel.capacity)}`);
      fill(link.bar, channel.capacity ? (channel.length ?? 0) / channel.capacity : null);
      say(link.blocked, channel.blocked === null ? "blocked: unknown" : `${share(channel.blocked)} blocked`);
      link.root.classList.toggle("blocked", (channel.blocked ?? 0) >= 0.1);
      link.root.title = `${channel.length ?? UNKNOWN} of ${channel.capacity} places of the channel are taken; the ${channel.from} stood before it when it was full for ${share(channel.blocked)} of the last seconds`;
    }
    this.showDisk(status, slow.stage === "disk", lastCheckpoint);
  }

  showDisk(status, isFull, last) {
    const { sequence, seconds_since: since } = status.checkpoint;
    say(this.disk.rate, sequence ? `checkpoint ${sequence}` : "no checkpoint yet");
    say(this.disk.busy, since === null || since === undefined ? "" : `${seconds(since)} ago`);
    say(this.disk.word, isFull ? "full" : last ? `${many(last.files, "file")}, ${bytes(last.bytes)}` : UNKNOWN);
    this.disk.root.classList.toggle("slow", isFull);
  }

  draw(order) {
    this.order = order.join();
    this.list.replaceChildren();
    order.forEach((name, index) => {
      if (index > 0) this.channels.set(name, this.addChannel());
      this.stages.set(name, this.addBox("stage", name));
    });
    this.list.append(element("li", "channel direct"));
    this.disk = this.addBox("stage disk", "disk");
  }

  addBox(className, name) {
    const root = element("li", className);
    const [word, figure, busy, track, bar] = [element("p", "word"), element("p", "figure"), element("p", "busy"), element("div", "track"), element("div", "bar")];
    track.append(bar);
    track.setAttribute("aria-hidden", "true");
    root.append(element("h3", "", name), figure, track, busy, word);
    this.list.append(root);
    return { root, word, rate: figure, busy, bar };
  }

  addChannel() {
    const root = element("li", "channel");
    const [text, track, bar, blocked] = [element("p", "fill"), element("div", "track"), element("div", "bar"), element("p", "block")];
    track.append(bar);
    track.setAttribute("aria-hidden", "true");
    root.append(text, track, blocked);
    this.list.append(root);
    return { root, fill: text, bar, blocked };
  }
}

function busyOf({ busy, workers }) {
  const by = workers > 1 ? ` · ${workers} workers` : "";
  return busy === null ? `busy: unknown${by}` : `${share(busy)} busy${by}`;
}

// What a stage does, in a word: colour alone would not tell everybody.
function wordOf(status, slow, distance, stage) {
  if (stage.name === slow) return "slow stage";
  if (status.state === "recovering") return "not started";
  if (slow === "disk" || (slow && distance < 0)) return "held back";
  if (slow) return "waits for records";
  return (stage.busy ?? 0) > 0.005 || stage.records_per_second > 0 ? "keeps up" : "idle";
}

function fill(bar, part) {
  bar.style.setProperty("--part", Math.min(1, Math.max(0, part ?? 0)).toFixed(3));
}
