//! README.md and the book in `docs/`: their links lead somewhere, their commands do what the pages say, and what they name is in the program.
//!
//! Owns: what a page is made of (headings, links, blocks), and how its commands are run.
//! Does not own: `config.example.toml`, which the book includes (a test of `pintail-config` compares it with the code).
//!
//! A block ```` ```sh run ```` or ```` ```python run ```` is run, those of a page in order and in one directory. The lines of a block ```` ```text output ````
//! must be printed by the one before it, in that order. Blocks without `run` need what a test machine may lack: a broker, Docker, Spark.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::common::readers::interpreter;
use crate::common::{checkout, walk};

/// One of the Markdown files of this checkout.
struct Page {
    /// Relative to the checkout.
    path: String,
    text: String,
}

/// A fenced block: what stands behind the fence, and its lines.
struct Block {
    info: String,
    content: String,
}

impl Page {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(checkout(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self { path: path.to_owned(), text }
    }

    /// Returns the lines outside of blocks, and the fenced blocks.
    fn parts(&self) -> (Vec<&str>, Vec<Block>) {
        let (mut prose, mut blocks) = (Vec::new(), Vec::new());
        let mut open: Option<(usize, Block)> = None;
        for line in self.text.lines() {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(info)) => {
                    let indent = line.len() - line.trim_start().len();
                    open = Some((indent, Block { info: info.to_owned(), content: String::new() }));
                }
                (None, None) => prose.push(line),
                (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
                (Some((indent, block)), None) => block.content += &format!("{}\n", line.get(*indent..).unwrap_or("")),
            }
        }
        assert!(open.is_none(), "{}: a block does not end", self.path);
        (prose, blocks)
    }

    /// Returns the anchors of its headings, as GitHub and mdBook make them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen = BTreeMap::<String, usize>::new();
        let (prose, _) = self.parts();
        let headings =
            prose.into_iter().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
        let anchors = headings.map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
            let times = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
        });
        anchors.collect()
    }

    /// Returns the targets of its links and pictures.
    fn links(&self) -> Vec<String> {
        let (prose, _) = self.parts();
        let prose = prose.into_iter().filter(|line| !line.starts_with("    ")).collect::<Vec<_>>().join("\n");
        let paragraphs = prose.split("\n\n").map(without_code).collect::<Vec<_>>();
        let targets =
            paragraphs.iter().flat_map(|text| text.split("](").skip(1)).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
        targets.collect()
    }
}

/// Returns a paragraph without what stands between backticks.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Returns the README and the pages of the book.
fn book() -> Vec<Page> {
    let mut pages = vec![Page::read("README.md")];
    pages.extend(markdown("docs"));
    pages
}

/// Returns the Markdown files below a directory of this checkout.
fn markdown(directory: &str) -> Vec<Page> {
    let root = PathBuf::from(checkout(""));
    let mut paths: Vec<_> =
        walk(&root.join(directory)).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    paths.sort();
    paths.into_iter().map(|path| Page::read(path.strip_prefix(&root).unwrap().to_str().unwrap())).collect()
}

#[test]
fn each_link_of_the_pages_leads_somewhere() {
    let mut pages = book();
    pages.extend(
        ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "dist/README.md", "tests/README.md", "examples/tour/README.md"].map(Page::read),
    );
    let mut dead = Vec::new();
    let mut looked_at = 0;
    for page in &pages {
        for link in page.links().into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            looked_at += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let directory = Path::new(&page.path).parent().unwrap();
            let target = if file.is_empty() { PathBuf::from(&page.path) } else { directory.join(file) };
            let there = Path::new(&checkout("")).join(&target).exists();
            let leads = there && (anchor.is_empty() || Page::read(target.to_str().unwrap()).anchors().contains(anchor));
            if !leads {
                dead.push(format!("{}: {link}", page.path));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
    assert!(looked_at > 100, "{looked_at} links are fewer than there are: they are not found any more");
}

#[test]
fn the_summary_names_each_page_of_the_book() {
    let named: BTreeSet<String> = Page::read("docs/SUMMARY.md").links().into_iter().map(|link| format!("docs/{link}")).collect();
    let there = markdown("docs").into_iter().map(|page| page.path).filter(|path| path != "docs/SUMMARY.md").collect();
    assert_eq!(named, there);
}

#[test]
fn the_readme_is_one_page() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(lines <= 120, "README.md has {lines} lines: move some of it into docs/");
}

#[test]
fn the_page_of_commands_has_each_command() {
    let help = Command::new(env!("CARGO_BIN_EXE_pintail")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed =
        help.lines().take_while(|line| !line.starts_with("Options:")).filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<_> = listed.filter(|command| !command.is_empty()).collect();
    assert!(commands.len() > 15, "{help}");
    let page = Page::read("docs/commands.md");
    let rows: Vec<_> =
        page.text.lines().filter(|line| line.starts_with("| `pintail")).map(|line| line.split('|').nth(1).unwrap()).collect();
    let missing = |command: &&str| !rows.iter().any(|row| row.split(['`', ' ']).any(|word| word == *command));
    let missing: Vec<_> = commands.into_iter().filter(missing).collect();
    assert!(missing.is_empty(), "docs/commands.md lacks {missing:?}");
}

#[test]
fn the_page_of_metrics_names_each_metric_and_no_other() {
    let sources = ["src/admin/metrics.rs", "src/meters.rs", "crates/sources/src/http/meter.rs"];
    let code: String = sources.iter().map(|source| fs::read_to_string(checkout(source)).unwrap()).collect();
    let is_metric = |name: &str| ["pintail_", "process_"].iter().any(|prefix| name.starts_with(prefix));
    let names = |text: &str, quote| -> BTreeSet<String> {
        let quoted = text.split(quote).skip(1).step_by(2);
        quoted.map(|name| name.split('{').next().unwrap_or(name).to_owned()).filter(|name| is_metric(name)).collect()
    };
    let rows: Vec<_> = Page::read("docs/metrics.md").text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect();
    let first_cells: Vec<_> = rows.iter().map(|row| row.split('|').nth(1).unwrap()).collect();
    // Between quotes that are escaped or belong to a character stands no name of a metric.
    let exposed = code.lines().flat_map(|line| names(line, '"')).collect::<BTreeSet<_>>();
    assert!(exposed.len() > 30, "{exposed:?}");
    assert_eq!(first_cells.into_iter().flat_map(|cell| names(cell, '`')).collect::<BTreeSet<_>>(), exposed);
}

#[test]
fn each_message_of_the_page_of_troubles_is_one_of_the_program() {
    let root = checkout("");
    let sources = ["src", "crates"].into_iter().flat_map(|directory| walk(&Path::new(&root).join(directory)));
    let code =
        sources.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).map(|path| joined(&fs::read_to_string(path).unwrap()));
    let code: String = code.collect();
    let page = Page::read("docs/troubleshooting.md");
    let cells = page.text.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').nth(1).unwrap());
    let messages: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let unknown: Vec<_> = messages.iter().filter(|message| !code.contains(message.trim())).collect();
    assert!(unknown.is_empty(), "no message of the program has {unknown:#?}");
    assert!(messages.len() > 30, "{messages:?}");
}

/// Returns a source with the literals that go over several lines on one.
fn joined(source: &str) -> String {
    let mut lines = source.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

#[test]
fn the_commands_of_the_pages_do_what_the_pages_say() {
    let pages: Vec<_> = book().into_iter().filter(|page| page.text.contains("```sh run")).collect();
    assert!(pages.len() >= 7, "{}", pages.len());
    let faults: Vec<String> = thread::scope(|scope| {
        pages
            .iter()
            .map(|page| scope.spawn(|| run(page)))
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|run| run.join().unwrap().err())
            .collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// Runs the blocks of a page.
fn run(page: &Page) -> Result<(), String> {
    let dir = tempfile::Builder::new().prefix("pintail-").tempdir().unwrap();
    let (bin, work) = (dir.path().join("bin"), dir.path().join("work"));
    fs::create_dir(&bin).unwrap();
    fs::create_dir_all(work.join("examples")).unwrap();
    symlink(env!("CARGO_BIN_EXE_pintail"), bin.join("pintail")).unwrap();
    // The port of the example, free now; another test may have it by then, but hardly does.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let example = fs::read_to_string(checkout("examples/http.toml")).unwrap();
    fs::write(work.join("examples/http.toml"), example.replace("8088", &port)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut printed = String::new();
    for block in page.parts().1 {
        if block.info == "text output" {
            let mut lines = printed.lines();
            for expected in block.content.lines() {
                if !lines.any(|line| line.trim_end() == expected.trim_end()) {
                    return Err(format!("{}: it does not print `{expected}`, or not there, but\n{printed}", page.path));
                }
            }
            continue;
        }
        let mut command = Command::new("timeout");
        command.args(["--kill-after", "5", "120"]);
        let content = block.content.replace("8088", &port);
        match block.info.as_str() {
            "sh run" => command.args(["bash", "-euo", "pipefail", "-c", &content]),
            "python run" => command.arg(interpreter()).args(["-c", &content]),
            _ => continue,
        };
        let kept = ["HOME", "TMPDIR", "LLVM_PROFILE_FILE"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.env_clear().envs(kept).env("PATH", &path).env("PINTAIL_ADMIN__LISTEN", "").current_dir(&work);
        let output = command.output().map_err(|e| format!("{}: {e}", page.path))?;
        printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{}: {}\n{content}\n{printed}\n{}", page.path, output.status, String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}
