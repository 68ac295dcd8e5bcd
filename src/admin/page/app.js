// The page: from the states of the service to what is seen.
//
// Owns: which part shows what, and when histories and checkpoints are read again.
// Does not own: the parts (line, plots, tables, dead letters, query), the connection (stream.js).
//
// Nothing is fetched but from the service itself, and text from events is only ever set as text. uplot.js and uplot.css are
// uPlot 1.6.32, MIT (uplot.LICENSE), from the npm package `uplot`: dist/uPlot.iife.min.js and dist/uPlot.min.css, unchanged.

import * as format from "./format.js";
import { Letters } from "./letters.js";
import { Line } from "./line.js";
import { Plots } from "./plots.js";
import { Query } from "./query.js";
import { Stream } from "./stream.js";
import { Table, element, say } from "./table.js";

const CHECKPOINTS = 50;
const at = (id) => document.getElementById(id);

const line = new Line(at("line"), at("verdict"));
const plots = new Plots(at("rates"), at("lags"));
const letters = new Letters(at("dead-letters"), at("dead-letters-empty"));
const query = new Query(at("query"));

const groups = new Table(at("groups"), "Rows and mean by group", [
  { name: "group", head: true, text: groupName, dim: (group) => group.isRest || group.name === null },
  { name: "rows", number: true, text: (group) => format.count(group.rows) },
  { name: "mean", number: true, text: (group) => format.mean(group.mean) },
  { name: "open", number: true, text: (group) => format.count(group.open_rows) },
], "No row yet: groups show as soon as a batch is transformed.");

const checkpoints = new Table(at("checkpoints"), "Last checkpoints, newest first", [
  { name: "checkpoint", head: true, text: (row) => String(row.sequence) },
  { name: "trigger", text: (row) => row.trigger },
  { name: "time", text: (row) => format.time(row.at), title: (row) => format.utc(row.at) },
  { name: "records in", number: true, text: (row) => format.count(row.records_in) },
  { name: "rows", number: true, text: (row) => format.count(row.rows) },
  { name: "dead letters", number: true, text: (row) => format.count(row.dead_letters) },
  { name: "files", number: true, text: (row) => format.count(row.files) },
  { name: "size", number: true, text: (row) => format.bytes(row.bytes), title: (row) => `${format.count(row.bytes)} bytes` },
  { name: "took", number: true, text: (row) => format.milliseconds(row.duration_ms), title: tookTitle },
], "");

const partitions = new Table(at("partitions"), "Hive partitions with rows and size", [
  { name: "hive partition", head: true, text: (row) => (row.partition === "." ? "(not partitioned)" : format.foreign(row.partition)) },
  { name: "rows", number: true, text: (row) => format.count(row.rows) },
  { name: "files", number: true, text: (row) => format.count(row.files) },
  { name: "size", number: true, text: (row) => format.bytes(row.bytes), title: (row) => `${format.count(row.bytes)} bytes` },
], "");

let committed = [];
let committedUpTo;

new Stream("/api/events", {
  onBack() {
    at("lost").hidden = true;
    document.body.classList.remove("stale");
    committedUpTo = undefined;
    readHistory();
  },
  onLost(tries) {
    say(at("tries"), tries > 1 ? ` (${tries} times so far)` : "");
    at("lost").hidden = false;
    document.body.classList.add("stale");
    showState("not connected", "bad");
  },
  onStatus: show,
});

function show(status) {
  const [words, kind] = stateOf(status);
  showState(words, kind);
  const reasons = at("reasons");
  reasons.hidden = status.not_ready.length === 0;
  reasons.replaceChildren(...status.not_ready.map((reason) => element("li", "", format.foreign(reason))));
  showPairs(at("identity"), identityOf(status));
  showPairs(at("figures"), figuresOf(status));
  plots.takeStatus(status);
  showTables(status);
  letters.show(status);
  query.show(status);
  if (status.checkpoint.sequence !== committedUpTo) readCheckpoints(status);
  line.show(status, committed[0]);
}

function showState(words, kind) {
  say(at("state"), words);
  at("state").className = `state ${kind}`;
  document.title = `${words} · Pintail`;
}

function stateOf({ state, ready }) {
  if (state === "recovering") return ["recovering", "wait"];
  if (state === "draining") return ["draining", "wait"];
  return ready ? ["ready", "good"] : ["not ready", "bad"];
}

function identityOf(status) {
  const started = Date.parse(status.started_at);
  return [
    ["source", status.source],
    ["output", status.out_path],
    ["up", format.seconds(Math.max(0, (Date.parse(status.now) - started) / 1000)), format.utc(status.started_at)],
    ["version", status.version],
    ["dataset", status.dataset_id],
  ].map(([name, value, title]) => ({ name, value: value === null ? format.UNKNOWN : format.foreign(value), title: title ?? "" }));
}

function figuresOf(status) {
  const { open, checkpoint } = status;
  const dead = format.sum([...Object.values(status.dead_letters), open.dead_letters]);
  const phases = Object.entries(status.dead_letters).filter(([, n]) => n > 0).map(([phase, n]) => `${phase} ${format.short(n)}`);
  const lag = status.lag_records === null ? format.bytes(status.lag_bytes) : format.short(status.lag_records);
  const since = checkpoint.seconds_since === null ? "" : `${format.seconds(checkpoint.seconds_since)} ago, `;
  return [
    { name: "Events a second", value: format.short(status.records_per_second), note: "over the last seconds" },
    { name: "Lag", value: lag, note: lag === format.UNKNOWN ? "this source does not know" : status.lag_records === null ? "not read yet" : "records not read yet" },
    { name: "Open", value: format.short(open.records_in), note: open.oldest_seconds === null ? "records, not committed yet" : `records, oldest ${format.seconds(open.oldest_seconds)}` },
    { name: "Rows committed", value: format.short(status.rows_out), title: format.count(status.rows_out), note: `of ${format.short(status.records_in)} records` },
    { name: "Checkpoint", value: checkpoint.sequence ? String(checkpoint.sequence) : "none",
      note: `${since}every ${format.interval(checkpoint.interval_seconds)}` },
    { name: "Dead letters", value: format.short(dead), note: phases.join(", ") || (dead === null ? "not known" : dead ? "not committed yet" : "none rejected"), kind: dead ? "warn" : "" },
    { name: "Memory", value: format.bytes(status.memory_bytes), note: `DuckDB ${format.bytes(status.duckdb_memory_bytes)}` },
  ];
}

// Fills a list of names and values; its nodes are kept.
function showPairs(list, pairs) {
  while (list.children.length > pairs.length) list.lastChild.remove();
  while (list.children.length < pairs.length) {
    const pair = element("div");
    pair.append(element("dt"), element("dd"), element("dd", "note"));
    list.append(pair);
  }
  pairs.forEach(({ name, value, note = "", title = "", kind = "" }, index) => {
    const [dt, dd, small] = list.children[index].children;
    say(dt, name);
    say(dd, value);
    say(small, note);
    dd.title = title;
    list.children[index].className = kind;
  });
}

function showTables(status) {
  const every = format.interval(status.checkpoint.interval_seconds);
  const soon = status.open.records_in > 0 ? `Nothing committed yet: the first checkpoint comes after ${every}.` : `Nothing committed yet: a checkpoint comes every ${every}, once records arrive.`;
  say(checkpoints.empty, soon);
  say(partitions.empty, soon);
  say(groups.heads[0], format.foreign(status.group_by));
  say(groups.heads[2], `mean of ${format.foreign(status.value)}`);
  const rest = status.groups_others;
  groups.show(rest ? [...status.groups, { ...rest, isRest: true }] : status.groups);
  partitions.show(status.partitions);
  const more = status.partitions_more;
  say(at("partitions-more"), more > 0 ? `${format.many(more, "further one", "further ones")} not shown.` : "");
  const dead = format.sum(Object.values(status.dead_letters));
  const n = format.count;
  say(at("identity-of-counts"), status.records_in === null ? "Reading the commit records of earlier processes …" : `Committed since the dataset began: ${n(status.records_in)} records in${status.expanded ? ` + ${n(status.expanded)} expanded` : ""} = ${n(status.rows_out)} rows out + ${n(status.filtered)} filtered + ${n(dead)} dead letters.`);
}

function groupName({ name, isRest }) {
  if (isRest) return "(others)";
  return name === null ? "NULL" : format.foreign(name);
}

function tookTitle({ duration_ms: took }) {
  return took === null ? "not known: it was committed by an earlier process" : "";
}

async function readCheckpoints(status) {
  committedUpTo = status.checkpoint.sequence;
  try {
    committed = await read(`/api/checkpoints?limit=${CHECKPOINTS}`);
    checkpoints.show(committed);
    line.show(status, committed[0]);
  } catch {
    // The next state asks again.
    committedUpTo = undefined;
  }
}

async function readHistory() {
  try {
    plots.takeHistory(await read("/api/history"));
  } catch {
    // The plots begin with what comes live.
  }
}

async function read(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.json();
}
