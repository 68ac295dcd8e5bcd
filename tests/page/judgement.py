"""Which stage the page calls the slow one, situation by situation.

Owns: the situations.
Does not own: the judgement (see src/admin/page/bottleneck.js), which is run in the browser.
"""
from driver import Failed

STAGES = ("producer", "batcher", "transformer", "writer")


def state(busy, blocked, **more):
    """A state of the line: the busy share of each stage, the blocked share of each channel."""
    channels = [{"from": a, "to": b, "blocked": share} for a, b, share in zip(STAGES, STAGES[1:], blocked)]
    stages = [{"name": name, "busy": share} for name, share in zip(STAGES, busy)]
    return {"state": "running", "not_ready": [], "stages": stages, "channels": channels} | more


SITUATIONS = {
    "an idle line has no slow stage": (state((0, 0, 0, 0), (0, 0, 0)), None),
    "a line that keeps up has none either": (state((0.6, 0.1, 0.7, 0.3), (0.02, 0.05, 0.01)), None),
    "the batcher stands before a busy transformer": (state((0.1, 0.1, 1, 0.4), (0.8, 0.9, 0.02)), "transformer"),
    "the first channel is blocked the most, the second leads into the slow stage": (state((0.1, 0.1, 1, 0.4), (0.95, 0.9, 0.02)), "transformer"),
    "a slow disk holds all of them up": (state((0.1, 0.1, 0.1, 1), (0.85, 0.9, 0.95)), "writer"),
    "the writer holds up somewhat, the transformer much more": (state((0.1, 0.1, 0.8, 0.5), (0.8, 0.85, 0.2)), "transformer"),
    "the source is the limit: nobody is blocked, it works all the time": (state((0.97, 0.1, 0.3, 0.2), (0, 0, 0)), "producer"),
    "the disk is full": (state((0, 0, 0, 1), (1, 1, 1), not_ready=["the disk is full"]), "disk"),
    "recovering": (state((None,) * 4, (None,) * 3, state="recovering"), None),
    "figures that are not known": (state((None,) * 4, (None,) * 3), None),
}


def check(browser):
    """Checks each situation in a browser that has the page open."""
    script = "return import('/bottleneck.js').then(({ bottleneck }) => arguments[0].map((state) => bottleneck(state)))"
    judged = browser.run(script, [situation for situation, _ in SITUATIONS.values()])
    for (name, (_, wanted)), found in zip(SITUATIONS.items(), judged):
        if found["stage"] != wanted:
            raise Failed(f"{name}: the slow stage is {wanted or 'none'}, and the page says {found}")
        if wanted and wanted not in found["why"]:
            raise Failed(f"{name}: the sentence does not name it: {found['why']}")
