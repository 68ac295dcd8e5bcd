use std::os::unix::fs::FileExt;

use super::*;

#[tokio::test]
async fn room_that_was_reserved_in_advance_is_no_content_and_what_is_written_over_it_is_read() {
    for room in [100_u64, 3_000_000] {
        let mut world = World::following(&["a"]);
        world.write("a", numbered(0..3));
        let file = OpenOptions::new().write(true).open(world.path("a")).unwrap();
        let mut end = file.metadata().unwrap().len();
        file.set_len(end + room).unwrap();
        let mut running = world.start();
        running.read(3).await;
        running.is_silent().await;
        for n in 3..6 {
            let line = numbered(n..n + 1);
            file.write_all_at(line.as_bytes(), end).unwrap();
            end += line.len() as u64;
            file.set_len(end.max(file.metadata().unwrap().len())).unwrap();
            running.read(n + 1).await;
        }
        running.is_silent().await;
        assert_eq!(running.lines, lines(0..6));
        world.commit(&running);
        drop(running);
        // Zeros that go with their file are no loss.
        remove(&world, "a");
        let running = world.start();
        drop(running);
    }
}

#[tokio::test]
async fn padding_ends_what_is_read_once_and_a_hole_before_a_line_is_none_of_it() {
    let mut world = World::new(&["*"]);
    world.write("a", [numbered(0..3).as_bytes(), &[0; 5000]].concat());
    world.write("b", [&[0; 2000][..], numbered(3..5).as_bytes()].concat());
    world.write("c", [numbered(5..6).trim_end().as_bytes(), &[0; 300]].concat());
    let read = world.run().await;
    let content: Vec<&str> = read.iter().map(|line| line.trim_start_matches('\0')).filter(|line| !line.is_empty()).collect();
    assert_eq!(content, lines(0..6));
    assert_eq!(world.run().await, [""; 0]);
    for name in ["a", "b", "c"] {
        remove(&world, name);
    }
    assert_eq!(world.run().await, [""; 0]);
}
