// The two plots over the last 15 minutes: events a second, and lag.
//
// Owns: the samples, and the uPlot that draws them.
// Does not own: their source (see app.js).

/* global uPlot */
import * as format from "./format.js";
import { say } from "./table.js";

const WINDOW_SECONDS = 15 * 60;
const HEIGHT = 168;

// Steps of an axis that are round in the eyes of its unit; uPlot's own are round in tens.
const steps = (units, of) => units.flatMap((unit) => of.map((step) => unit * step));
const BYTES = steps([1, 1024, 1024 ** 2, 1024 ** 3, 1024 ** 4], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
const SECONDS = [...steps([1, 60], [0.5, 1, 2, 5, 10, 15, 20, 30]), ...steps([3600], [1, 2, 4, 6, 12, 24, 48, 96])];
const COUNTS = steps([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map((n) => 10 ** n), [1, 2, 5]);

// What may be shown as lag, best first: not every source knows how much it still holds.
const LAGS = [
  { key: "lag_records", text: (n) => format.many(n, "record"), tick: format.short, steps: COUNTS, about: "Records that the source holds and that were not read yet." },
  { key: "lag_bytes", text: format.bytes, tick: format.bytes, steps: BYTES, about: "Bytes that the source holds and that were not read yet." },
  { key: "open_oldest_seconds", text: format.seconds, tick: format.interval, steps: SECONDS, name: "Age of the oldest open record",
    about: "This source does not know its end, so there is no lag. Shown is how long the oldest record waits for its checkpoint." },
];

export class Plots {
  constructor(rates, lags) {
    this.interval = 5;
    this.samples = [];
    this.rates = new Plot(rates, "rate", format.rate, format.short);
    this.lags = new Plot(lags, "lag", format.count, format.short);
    this.lagTitle = lags.querySelector("h2");
    this.lagAbout = lags.querySelector(".about");
  }

  // Takes the history of the service. What was seen before it began (the service was started again) is kept, with a gap.
  takeHistory(history) {
    this.interval = history.interval_seconds;
    const read = history.samples.map((sample) => ({ ...sample, at: Date.parse(sample.at) / 1000 }));
    if (!read.length) return;
    const [begin, end] = [read[0].at - this.interval, read.at(-1).at];
    this.samples = [...this.samples.filter(({ at }) => at < begin), ...read, ...this.samples.filter(({ at }) => at > end)];
  }

  // Takes the state of one second: it joins the last sample until that is as long as the others.
  takeStatus(status) {
    const at = Date.parse(status.now) / 1000;
    const last = this.samples.at(-1);
    const next = {
      at, records_per_second: status.records_per_second, lag_records: status.lag_records, lag_bytes: status.lag_bytes,
      open_oldest_seconds: status.open.oldest_seconds,
    };
    if (last?.isOpen && at - last.begin < this.interval) {
      const n = last.n + 1;
      const mean = last.records_per_second + (next.records_per_second - last.records_per_second) / n;
      Object.assign(last, next, { n, records_per_second: mean });
    } else if (!last || at > last.at) {
      this.samples.push({ ...next, isOpen: true, begin: at, n: 1 });
    }
    this.samples = this.samples.filter((sample) => sample.at > at - WINDOW_SECONDS);
    this.draw(next);
  }

  draw(now) {
    // The plots draw means of some seconds; what stands in words is the present value, as everywhere on the page.
    const lag = LAGS.find(({ key }) => this.samples.some((sample) => sample[key] !== null && sample[key] !== undefined)) ?? LAGS[0];
    say(this.lagTitle, lag.name ?? "Lag");
    say(this.lagAbout, lag.about);
    Object.assign(this.lags, { text: lag.text, tick: lag.tick, steps: lag.steps });
    const [at, rates, lags] = [[], [], []];
    for (const sample of this.samples) {
      // Where the service was away there is no line.
      if (at.length && sample.at - at.at(-1) > 3 * this.interval) {
        at.push(at.at(-1) + this.interval);
        rates.push(null);
        lags.push(null);
      }
      at.push(sample.at);
      rates.push(sample.records_per_second);
      lags.push(sample[lag.key] ?? null);
    }
    this.rates.show(at, rates, now.at, now.records_per_second);
    this.lags.show(at, lags, now.at, now[lag.key]);
  }
}

class Plot {
  constructor(figure, series, text, tick) {
    Object.assign(this, { figure, series, text, tick });
    this.now = figure.querySelector(".now");
    this.box = figure.querySelector(".plot");
    this.range = [0, 1];
    this.steps = COUNTS;
    // Colours are read when it is drawn: they follow the scheme.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot?.redraw(false));
    new ResizeObserver(() => this.fit()).observe(this.box);
  }

  show(at, values, now, latest) {
    this.range = [now - WINDOW_SECONDS, now];
    const known = values.filter((value) => value !== null);
    this.latest = latest === null || latest === undefined ? "not known" : this.text(latest);
    const words = known.length ? `now ${this.latest}, least ${this.text(least(known))}, most ${this.text(most(known))}` : "no value yet";
    this.box.setAttribute("aria-label", `${this.figure.querySelector("h2").textContent} over the last 15 minutes: ${words}`);
    this.plot ??= this.make();
    this.plot.setData([at, values]);
    this.read(this.plot);
  }

  fit() {
    this.plot?.setSize({ width: this.box.clientWidth, height: HEIGHT });
  }

  make() {
    const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = {
      stroke: colour("--ink-2"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif",
    };
    const options = {
      width: this.box.clientWidth, height: HEIGHT, padding: [8, 12, 0, 0], legend: { show: false },
      scales: { x: { time: true, range: () => this.range }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.12 : 1] } },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      series: [{}, { stroke: colour(`--${this.series}`), fill: colour(`--${this.series}-fill`), width: 1.5, points: { show: false }, spanGaps: false }],
      axes: [
        { ...axis, size: 26, space: 70, values: (_, splits) => splits.map((split) => format.hour(split * 1000)), incrs: [60, 180, 300] },
        { ...axis, size: 62, space: 30, incrs: () => this.steps, values: (_, splits) => splits.map((split) => this.tick(split)) },
      ],
      hooks: { setCursor: [(plot) => this.read(plot)] },
    };
    return new uPlot(options, [[], []], this.box);
  }

  // The value below the pointer stands where the present one stood.
  read(plot) {
    const index = plot.cursor.idx;
    const at = index === null || index === undefined ? undefined : plot.data[0][index];
    const value = at === undefined ? null : plot.data[1][index];
    if (at === undefined) say(this.now, this.latest);
    else say(this.now, value === null ? `${format.time(at * 1000)}: not known` : `${format.time(at * 1000)}: ${this.text(value)}`);
  }
}

const least = (values) => values.reduce((a, b) => Math.min(a, b));
const most = (values) => values.reduce((a, b) => Math.max(a, b));
