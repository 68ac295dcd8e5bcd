// Which stage is the slow one.
//
// Owns: the judgement, a function of one state.
// Does not own: how it is drawn (see line.js).

import { share } from "./format.js";

// A sender that stands before a full channel for less than this is only being evened out.
const BLOCKED_MIN = 0.1;
const BUSY_MIN = 0.9;

// Returns { stage, why } of the slow stage, or { stage: null, why }; `stage` may be "disk".
//
// Backpressure travels upstream, so every sender before the slow stage is blocked, and none behind it. The slow stage is where the
// blocked time ends: the one whose input is blocked by the largest share more than its own output.
export function bottleneck(status) {
  if (status.not_ready.some((reason) => /disk is full|no space/i.test(reason))) {
    return { stage: "disk", why: "The disk is full: the line waits for space, nothing is lost." };
  }
  if (status.state === "recovering") return { stage: null, why: "Recovering: the line starts when the last checkpoint is whole." };
  const blocked = (side, stage) => status.channels.find((channel) => channel[side] === stage)?.blocked ?? 0;
  let slow = null;
  for (const { name } of status.stages) {
    const held = blocked("to", name);
    const own = held - blocked("from", name);
    if (held >= BLOCKED_MIN && own >= BLOCKED_MIN && own > (slow?.own ?? 0)) slow = { name, own, held };
  }
  if (slow) {
    const before = status.channels.find((channel) => channel.to === slow.name).from;
    return { stage: slow.name, why: `The ${slow.name} is the slow stage: the ${before} stands before a full channel ${share(slow.held)} of the time.` };
  }
  const busiest = status.stages.reduce((most, stage) => ((stage.busy ?? 0) > (most?.busy ?? 0) ? stage : most), null);
  if (busiest && busiest.busy >= BUSY_MIN) {
    return { stage: busiest.name, why: `The ${busiest.name} is the slow stage: it works ${share(busiest.busy)} of the time, the others wait for it.` };
  }
  if (status.state === "draining") return { stage: null, why: "Draining: what was read is being committed." };
  return { stage: null, why: "No stage is slow: the line keeps up with its source." };
}
