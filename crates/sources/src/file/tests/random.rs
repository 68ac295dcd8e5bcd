//! Random edits between and during runs, many more than a proof with the binary can make.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::compression::Compression;

/// A directory that is edited, and what is known of it.
struct Life {
    world: World,
    chance: StdRng,
    /// The next line's number, and the next name's.
    line: usize,
    name: usize,
    /// How often each line was read.
    read: BTreeMap<usize, usize>,
    /// Lines that may be read again, since something was reported as lost.
    excused: BTreeSet<usize>,
    lossy: bool,
    done: Vec<String>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut world = World::new(&["*.log*"]);
        world.config.on_gap = OnGap::Record;
        let chance = StdRng::seed_from_u64(seed);
        Self { world, chance, line: 0, name: 0, read: BTreeMap::new(), excused: BTreeSet::new(), lossy: false, done: Vec::new() }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.world.dir.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    fn content(&self, name: &str) -> String {
        let bytes = fs::read(self.world.path(name)).unwrap();
        let mut content = Vec::new();
        match Compression::named(name) {
            Compression::None => content = bytes,
            Compression::Gzip => {
                let _ = std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut content).unwrap();
            }
            Compression::Zstd => content = zstd::decode_all(&bytes[..]).unwrap(),
        }
        String::from_utf8(content).unwrap()
    }

    fn there(&self) -> BTreeSet<usize> {
        self.names().iter().flat_map(|name| numbers(&self.content(name))).collect()
    }

    fn some(&mut self) -> String {
        let lines = [1, 2, 5, 60][self.chance.random_range(0..4)];
        let mut text = String::new();
        for _ in 0..lines {
            let pad = [0, 3, 40, 400][self.chance.random_range(0..4)];
            text += &format!("{} {}\n", self.line, "x".repeat(pad));
            self.line += 1;
        }
        text
    }

    fn put(&self, name: &str, content: &str) {
        self.world.write(".hidden", content);
        self.world.rename(".hidden", name);
    }

    fn edit(&mut self, lossy: bool) {
        let plain: Vec<String> = self.names().into_iter().filter(|name| Compression::named(name) == Compression::None).collect();
        let pick = (!plain.is_empty()).then(|| plain[self.chance.random_range(0..plain.len())].clone());
        self.name += 1;
        let Some(name) = pick else {
            let (name, text) = (format!("a{}.log", self.name), self.some());
            self.world.write(&name, text);
            return self.done.push(format!("create {name}"));
        };
        let (fresh, content) = (format!("{name}.{}", self.name), self.content(&name));
        let path = |name: &str| self.world.path(name);
        let kind = if lossy { self.chance.random_range(12..17) } else { self.chance.random_range(0..12) };
        self.done.push(format!("{kind} {name} {}", content.len()));
        match kind {
            0 | 1 => {
                let text = self.some();
                self.world.append(&name, &text);
            }
            2 => {
                let (name, text) = (format!("a{}.log", self.name), self.some());
                self.world.write(&name, text);
            }
            3 => self.world.rename(&name, &fresh),
            4 => fs::hard_link(path(&name), path(&fresh)).unwrap(),
            5 => self.put(&fresh, &content),
            6 => {
                let text = content + &self.some();
                let saved = if self.chance.random() { fresh } else { name };
                self.put(&saved, &text);
            }
            7 => {
                let compressed = if self.chance.random() { (".gz", gzip(&content)) } else { (".zst", zstandard(&content)) };
                self.world.write(&format!("{name}{}", compressed.0), compressed.1);
                fs::remove_file(self.world.path(&name)).unwrap();
            }
            8 => self.put(&name, &content),
            9 => {
                self.world.rename(&name, &fresh);
                let text = self.some();
                self.world.write(&name, text);
            }
            10 => {
                self.world.rename(&name, &fresh);
                let text = self.some();
                self.world.write(&name, text);
                self.world.write(&format!("{fresh}.gz"), gzip(&content));
                fs::remove_file(self.world.path(&fresh)).unwrap();
            }
            11 => {
                self.put(&fresh, &content);
                self.world.write(&name, "");
                let text = self.some();
                self.world.append(&name, &text);
            }
            12 => {
                let lines: Vec<&str> = content.split_inclusive('\n').collect();
                let kept = lines[..self.chance.random_range(0..=lines.len())].concat();
                self.lose(&name, &kept);
            }
            13 => {
                let text = self.some() + &self.some();
                self.lose(&name, &text);
            }
            14 => {
                let lines: Vec<&str> = content.split_inclusive('\n').collect();
                let text = lines[..lines.len() / 2].concat() + &self.some() + &self.some();
                self.lose(&name, &text);
            }
            15 => {
                fs::remove_file(path(&name)).unwrap();
                self.lossy = true;
            }
            _ => {
                let text = self.some();
                self.put(&name, &text);
                self.lossy = true;
            }
        }
    }

    fn lose(&mut self, name: &str, content: &str) {
        self.excused.extend(numbers(content));
        self.lossy = true;
        self.world.write(name, content);
    }

    /// Runs until all that lies there is read, while it is edited, and commits what it likes of it.
    async fn run(&mut self, edits: &[bool]) {
        self.world.config.follow = !edits.is_empty() || self.names().is_empty() || self.chance.random();
        self.done.push(format!("run, follow {}", self.world.config.follow));
        let hasty = std::env::var_os("PINTAIL_TEST_HASTY").is_some();
        let mut running = self.world.start();
        self.settle(&mut running).await;
        for lossy in edits {
            self.edit(*lossy);
            // A copy that both files outgrow before anybody looks cannot be told from two files that begin alike.
            if !hasty || *lossy {
                self.settle(&mut running).await;
                running.settle().await;
            }
        }
        self.settle(&mut running).await;
        running.settle().await;
        let gaps = running.notes().iter().filter(|kind| **kind == NoteKind::Gap).count();
        assert!(self.lossy || gaps == 0, "{gaps} gaps where nothing was lost: {:?}\n{:?}", self.done, running.offsets.notes());
        self.lossy = false;
        for line in &running.lines {
            *self.read.entry(numbers(line)[0]).or_default() += 1;
        }
        self.world.commit(&running);
        let twice: Vec<usize> =
            self.read.iter().filter(|(line, times)| **times > 1 && !self.excused.contains(line)).map(|(line, _)| *line).collect();
        assert!(twice.is_empty(), "twice: {twice:?}\n{:?}\n{:?}", self.done, running.offsets.notes());
    }

    async fn settle(&self, running: &mut Running) {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let read: BTreeSet<usize> = running.lines.iter().flat_map(|line| numbers(line)).collect();
            let missing: Vec<usize> =
                self.there().into_iter().filter(|line| !read.contains(line) && !self.read.contains_key(line)).collect();
            if missing.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < end, "missing: {missing:?}\n{:?}\n{:?}", self.done, running.offsets.notes());
            if let Ok(step) = timeout(Duration::from_millis(100), running.step()).await
                && !step.unwrap()
            {
                assert!(!self.world.config.follow);
                let read: BTreeSet<usize> = running.lines.iter().flat_map(|line| numbers(line)).collect();
                let missing: Vec<&usize> = missing.iter().filter(|line| !read.contains(line)).collect();
                assert!(missing.is_empty(), "missing at the end: {missing:?}\n{:?}\n{:?}", self.done, running.offsets.notes());
            }
        }
    }
}

fn numbers(content: &str) -> Vec<usize> {
    let whole = content.lines();
    whole.filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

#[tokio::test]
async fn random_edits_lose_and_double_nothing_and_no_gap_is_made_up() {
    let lives = std::env::var("PINTAIL_TEST_LIVES").ok().and_then(|lives| lives.parse().ok()).unwrap_or(6);
    let first: u64 = std::env::var("PINTAIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2026);
    for seed in first..first + lives {
        println!("PINTAIL_TEST_SEED={seed}");
        let mut life = Life::new(seed);
        for _ in 0..5 {
            let lossy = life.chance.random_ratio(1, 3);
            for _ in 0..life.chance.random_range(0..4) {
                let lossy = lossy && life.chance.random();
                life.edit(lossy);
            }
            life.run(&[]).await;
            let edits: Vec<bool> = (0..life.chance.random_range(1..6)).map(|_| lossy && life.chance.random()).collect();
            life.run(&edits).await;
        }
    }
}
