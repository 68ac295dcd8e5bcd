"""What every state of the page must keep to.

Owns: console, width, contrast, labels, headings, where things come from; that no text became HTML.
Does not own: how the page came into that state (see browser.py).
"""
import re

from driver import Failed

WIDTHS = (1600, 1081, 1080, 700, 400)
CONTRAST = 4.5

# Every text that is seen, with the contrast to the nearest ground behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = channels(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("noscript, script")) continue;
  for (let at = node; at; at = at.parentElement) if (getComputedStyle(at).opacity !== "1") found.push([0, `opacity of ${at.className}`]);
  const [a, b] = [light(channels(getComputedStyle(node).color)), light(ground(node))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), `${node.tagName}.${node.className}: ${node.textContent.slice(0, 30)}`]);
}
return found;
"""

STRUCTURE = """
const faults = [];
const all = (selector) => [...document.querySelectorAll(selector)];
if (all("h1").length !== 1) faults.push("there must be one h1");
let level = 0;
for (const heading of all("h1, h2, h3, h4")) {
  const next = Number(heading.tagName[1]);
  if (next > level + 1) faults.push(`${heading.tagName} ${heading.textContent} skips a level`);
  level = next;
}
for (const field of all("input, textarea, select")) if (!field.labels.length) faults.push(`#${field.id} has no label`);
for (const cell of all("th")) if (!cell.scope) faults.push(`th ${cell.textContent} has no scope`);
for (const table of all("table")) if (!table.caption?.textContent) faults.push("a table has no caption");
for (const image of all("img")) if (!image.hasAttribute("alt")) faults.push("an img has no alt");
for (const region of all("[role=img], [role=region]")) if (!region.ariaLabel) faults.push(`${region.className} has no label`);
if (all("script").length !== 2 || all("img").length !== 1 || window.hacked) faults.push("text from an event became HTML");
for (const { name } of performance.getEntriesByType("resource")) if (!name.startsWith(location.origin + "/")) faults.push(`fetched from elsewhere: ${name}`);
return faults;
"""


def check_all(browser, name, allowed=None):
    """Checks the page as it is now, at every width, in both schemes. `allowed` is a pattern of console errors that belong to it."""
    if faults := browser.run(STRUCTURE):
        raise Failed(f"{name}: {'; '.join(faults)}")
    for scheme in ("light", "dark"):
        browser.prefer(color_scheme=scheme, reduced_motion="reduce")
        for width in WIDTHS:
            check_width(browser, name, width)
        check_contrast(browser, f"{name}, {scheme}")
        if moving := browser.run("return [...document.querySelectorAll('*')].filter((node) => parseFloat(getComputedStyle(node).transitionDuration)).length"):
            raise Failed(f"{name}: {moving} elements move although reduced motion is asked for")
    check_console(browser, name, allowed)


def check_width(browser, name, width):
    browser.size(width, 1000)
    wide = browser.wait("a layout", "return document.documentElement.scrollWidth")
    if wide > width:
        script = "return [...document.querySelectorAll('main *')].filter((node) => node.getBoundingClientRect().right > innerWidth && !node.closest('.scroll')).map((node) => `${node.tagName}.${node.className}`).slice(0, 5)"
        raise Failed(f"{name}: {wide} px wide in a window of {width} px: {browser.run(script)}")


def check_contrast(browser, name):
    seen = browser.run(CONTRASTS)
    if len(seen) < 30:
        raise Failed(f"{name}: only {len(seen)} texts are seen")
    if weak := [f"{contrast:.2f} {text}" for contrast, text in seen if contrast < CONTRAST]:
        raise Failed(f"{name}: contrast below {CONTRAST}: {weak[:5]}")


def check_console(browser, name, allowed=None):
    """Checks what was written to the console since the last check."""
    entries = [text for level, text in browser.console() if level in ("SEVERE", "WARNING")]
    if unexpected := [text for text in entries if not (allowed and re.search(allowed, text))]:
        raise Failed(f"{name}: on the console: {unexpected[:5]}")
