use super::*;

/// The beginnings of files of other formats.
fn foreign() -> Vec<Vec<u8>> {
    let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut tar = vec![b'a'; 512];
    tar[257..265].copy_from_slice(b"ustar\x0000");
    let mut compressed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    compressed.write_all(&tar).unwrap();
    vec![
        b"BZh91AY&SY\n\n\n".to_vec(),
        b"BZh9\x17rE8P\x90".to_vec(),
        b"\xfd7zXZ\0\0\x04\n\n".to_vec(),
        b"PK\x03\x04\n\n".to_vec(),
        b"PAR1\x15\n\n".to_vec(),
        b"ARROW1\0\0\n\n".to_vec(),
        b"Obj\x01\n\n".to_vec(),
        [b"\xff\xfe".to_vec(), utf_16("{\"n\":1}\n")].concat(),
        b"\xfe\xff\0{\0}\0\n".to_vec(),
        compressed.finish().unwrap(),
        tar,
    ]
}

#[tokio::test]
async fn a_file_of_another_format_waits_as_one_and_gives_no_record_until_there_is_text_in_its_place() {
    for follow in [true, false] {
        for (at, content) in foreign().into_iter().enumerate() {
            let mut world = World::new(&["*"]);
            world.config.follow = follow;
            world.write("a", content);
            world.write("b", numbered(5..8));
            let mut running = world.start();
            running.read(3).await;
            running.settle().await;
            assert_eq!((running.lines.clone(), running.source.waiting.get().count), (lines(5..8), 1), "{at}");
            assert!(running.source.waiting.get().named[0].path.ends_with("/a"));
            if !follow {
                assert_eq!(running.source.left().unwrap().kind(), ErrorKind::Io);
            }
            world.commit(&running);
            drop(running);
            world.write("a", numbered(0..3));
            assert_eq!(world.follow(3).await, lines(0..3), "{at}");
        }
    }
}

#[tokio::test]
async fn a_mark_of_utf_8_before_the_first_line_is_no_other_format() {
    let mut world = World::new(&["*"]);
    world.write("a", format!("\u{feff}{}", numbered(0..3)));
    assert_eq!(world.run().await[1..], lines(1..3));
}
