use std::io::{self, Write};

use super::*;

#[test]
fn a_file_that_could_not_be_read_and_is_gone_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("a.log");
    for on_gap in [OnGap::Refuse, OnGap::Record] {
        let mut follow = follow(dir.path(), "*.log");
        follow.files.on_gap = on_gap;
        fs::write(&name, "1\n").unwrap();
        let forbidden = io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
        follow.files.aside.file(&name, Name::Matches, &Error::io("open it", forbidden));
        follow.look_again().unwrap();
        assert!(follow.tails.is_empty(), "it waits");
        fs::remove_file(&name).unwrap();
        let looked = follow.look_again();
        if on_gap == OnGap::Refuse {
            assert_eq!(looked.unwrap_err().kind(), pintail_core::error::ErrorKind::State);
            continue;
        }
        looked.unwrap();
        let [chunk] = &follow.files.pending[..] else { panic!("{:?}", follow.files.pending) };
        assert_eq!(chunk.range.notes[0].kind, NoteKind::Gap);
        Offsets::default().extend(&chunk.range).unwrap();
    }
}

#[test]
fn a_file_that_began_with_what_cannot_be_read_is_held_and_read_wherever_it_is_once_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let (name, kept) = (dir.path().join("a.log"), dir.path().join("kept"));
        fs::write(&name, "").unwrap();
        let mut follow = follow(dir.path(), "*.log");
        fs::write(&name, "PAR1").unwrap();
        follow.look_again().unwrap();
        assert!(!follow.files.aside.is_empty());
        // Its writer has it open, and no name leads to it any more.
        let mut writer = File::options().write(true).truncate(true).open(&name).unwrap();
        fs::rename(&name, &kept).unwrap();
        fs::remove_file(&kept).unwrap();
        writer.write_all(b"1\n2\n").unwrap();
        follow.look_again().unwrap();
        follow.read_round(sender).unwrap();
        let next: Vec<u64> = follow.files.positions.iter().map(|known| known.next).collect();
        assert_eq!((next, follow.files.aside.is_empty()), (vec![4], true));
    });
}

#[test]
fn a_file_that_lost_its_name_and_cannot_be_read_before_anything_of_it_was_is_read_later() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let (name, kept) = (dir.path().join("a.log"), dir.path().join("kept"));
        fs::write(&name, "1\n2\n").unwrap();
        let mut follow = follow(dir.path(), "*.log");
        fs::rename(&name, &kept).unwrap();
        follow.look_again().unwrap();
        let tail = follow.tails.remove(0);
        tail.set_aside(&mut follow.files, &Error::io("read it", io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())));
        drop(tail);
        follow.look_again().unwrap();
        follow.read_round(sender).unwrap();
        let next: Vec<u64> = follow.files.positions.iter().map(|known| known.next).collect();
        assert_eq!((next, follow.files.aside.is_empty()), (vec![4], true));
    });
}
