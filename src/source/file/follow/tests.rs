use std::fs;

use super::*;
use crate::config::OnGap;
use crate::offsets::Offsets;
use crate::source::file::discover::Patterns;
use crate::source::file::positions::Positions;
use crate::source::file::{Unread, gone_is_none};

fn follow(directory: &Path, pattern: &str) -> Follow {
    let patterns = Patterns::parse(&[directory.join(pattern).display().to_string()], 10).unwrap();
    let found = patterns.find().unwrap();
    let positions = Positions::new(&Offsets::default(), OnGap::Refuse).unwrap();
    let files = Files { patterns, positions, unread: Unread::default(), record_bytes_max: 100 };
    Follow::start(files, Duration::ZERO, Vec::new(), found).unwrap()
}

fn look_again(follow: &mut Follow) {
    let found = follow.files.patterns.find().unwrap();
    follow.take_found(found).unwrap();
}

#[test]
fn a_rotated_file_is_held_open_until_it_has_stood_still_and_one_with_a_name_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (name, rotated) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
    fs::write(&name, "1\n").unwrap();
    let mut follow = follow(dir.path(), "app.log");
    look_again(&mut follow);
    follow.let_go(Instant::now() + 10 * QUIET).unwrap();
    assert_eq!(follow.tails.len(), 1);
    fs::rename(&name, &rotated).unwrap();
    look_again(&mut follow);
    follow.let_go(Instant::now()).unwrap();
    assert_eq!(follow.tails.len(), 1);
    follow.let_go(Instant::now() + QUIET).unwrap();
    assert_eq!(follow.tails.len(), 0);
    assert_eq!(follow.files.unread.get(), 0);
    // It is still known: back under its name it goes on, and is not begun again.
    let inode = Inode::of(&fs::metadata(&rotated).unwrap());
    follow.files.positions.advance(inode, 2);
    fs::rename(&rotated, &name).unwrap();
    look_again(&mut follow);
    assert!(matches!(&follow.tails[0].stage, Stage::Open(_, reader) if reader.next() == 2));
}

#[test]
fn the_inode_of_a_deleted_file_may_be_taken_by_another_of_the_same_name() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("app.log");
    fs::write(&name, "1\n2\n").unwrap();
    let mut follow = follow(dir.path(), "app.log");
    let inode = follow.tails[0].inode;
    fs::remove_file(&name).unwrap();
    look_again(&mut follow);
    follow.let_go(Instant::now() + QUIET).unwrap();
    assert!(gone_is_none(fs::metadata(&name)).unwrap().is_none());
    fs::write(&name, "3\n").unwrap();
    let mut observed = look(&File::open(&name).unwrap(), &name).unwrap();
    observed.inode = inode;
    let position = follow.files.positions.place(&name, &observed).unwrap().unwrap();
    assert_eq!((position.next, position.identity.generation), (0, 1));
}

#[test]
fn a_compressed_file_is_read_once_and_only_when_its_length_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("a.gz");
    fs::write(&name, "half").unwrap();
    let mut follow = follow(dir.path(), "*.gz");
    fs::write(&name, "half and half").unwrap();
    look_again(&mut follow);
    assert_eq!(follow.ready.len(), 0);
    for _ in 0..3 {
        look_again(&mut follow);
        assert_eq!(follow.ready.len(), 1);
    }
    fs::write(&name, "another one, longer").unwrap();
    look_again(&mut follow);
    look_again(&mut follow);
    assert_eq!(follow.ready.len(), 2);
}
