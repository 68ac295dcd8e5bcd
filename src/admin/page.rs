//! Page: the static files that the server holds.
//!
//! Owns: the table of paths. To add a file, put it into `page/` and name it here.
//! Does not own: what they look like (see `page/README.md`); figures (they ask for those by `/api/…`).

/// A file of the page.
pub(super) struct Asset {
    /// Where it is served.
    pub path: &'static str,
    /// Its type.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// All files. Nothing is fetched from elsewhere.
pub(super) const ASSETS: &[Asset] = &[
    asset("/", HTML, include_bytes!("page/index.html")),
    asset("/app.js", SCRIPT, include_bytes!("page/app.js")),
    asset("/bottleneck.js", SCRIPT, include_bytes!("page/bottleneck.js")),
    asset("/format.js", SCRIPT, include_bytes!("page/format.js")),
    asset("/icon.svg", SVG, include_bytes!("page/icon.svg")),
    asset("/letters.js", SCRIPT, include_bytes!("page/letters.js")),
    asset("/line.js", SCRIPT, include_bytes!("page/line.js")),
    asset("/plots.js", SCRIPT, include_bytes!("page/plots.js")),
    asset("/query.js", SCRIPT, include_bytes!("page/query.js")),
    asset("/stream.js", SCRIPT, include_bytes!("page/stream.js")),
    asset("/style.css", CSS, include_bytes!("page/style.css")),
    asset("/table.js", SCRIPT, include_bytes!("page/table.js")),
    asset("/uplot.css", CSS, include_bytes!("page/uplot.css")),
    asset("/uplot.js", SCRIPT, include_bytes!("page/uplot.js")),
];

const fn asset(path: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    Asset { path, content_type, bytes }
}
