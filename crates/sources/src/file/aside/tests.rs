use std::os::unix::fs::PermissionsExt;

use super::*;

fn aside() -> (Aside, WaitingInputs) {
    let shared = WaitingInputs::default();
    (Aside::new(shared.clone(), true), shared)
}

fn error() -> Error {
    Error::io("read `x`", io::Error::other("planted\x1b[2J"))
}

#[test]
fn a_pause_doubles_up_to_five_minutes_and_a_change_of_the_file_shortens_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "1").unwrap();
    let (mut aside, _) = aside();
    let mut pauses = Vec::new();
    for _ in 0..11 {
        aside.file(&path, Name::Matches, &error());
        pauses.push(aside.inputs[&path].pause.as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    let input = &aside.inputs[&path];
    let due = |seconds, stamp| input.is_due(stamp, input.tried + Duration::from_secs(seconds));
    let stamp = Stamp::of(&fs::metadata(&path).unwrap());
    assert!(!due(299, stamp) && due(300, stamp));
    let longer = Stamp { length: 2, ..stamp };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let allowed = Stamp::of(&fs::metadata(&path).unwrap());
    for changed in [longer, allowed] {
        assert!(!due(9, changed) && due(10, changed));
    }
}

#[test]
fn what_waits_is_counted_and_named_up_to_a_limit_and_goes_when_it_is_well_or_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut aside, shared) = aside();
    let paths: Vec<PathBuf> = (0..NAMED_MAX + 5).map(|n| dir.path().join(format!("{n:02}\x1b"))).collect();
    for path in &paths {
        fs::write(path, "").unwrap();
        aside.file(path, Name::Matches, &error());
    }
    let waiting = shared.get();
    assert_eq!((waiting.count, waiting.named.len()), (NAMED_MAX + 5, NAMED_MAX));
    assert!(waiting.named.iter().all(|input| !input.path.contains('\x1b') && !input.why.contains('\x1b')));
    assert!(aside.unread().unwrap().to_string().contains(&format!("{} more", NAMED_MAX + 4)));
    aside.well(&paths[0]);
    assert_eq!(shared.get().count, NAMED_MAX + 4);
    fs::remove_file(&paths[1]).unwrap();
    let found: Vec<_> = paths[2..].iter().map(|path| (path.clone(), fs::metadata(path).unwrap())).collect();
    aside.look(&found, &HashSet::new());
    assert_eq!(shared.get().count, NAMED_MAX + 3);
    aside.look(&[], &HashSet::new());
    assert_eq!(shared.get().count, NAMED_MAX + 3, "they are files, and may be known under a name that does not match");
}

#[test]
fn what_was_only_met_in_search_of_another_file_does_not_wait_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (mut aside, shared) = aside();
    let paths = [Name::Matches, Name::Renamed].map(|name| {
        let path = dir.path().join(format!("{name:?}"));
        fs::write(&path, "1").unwrap();
        aside.file(&path, name, &error());
        path
    });
    aside.look(&[], &HashSet::new());
    assert_eq!(shared.get().count, 2);
    let long_ago = Instant::now().checked_sub(LONGEST_PAUSE + ABANDONED).unwrap();
    aside.inputs.values_mut().for_each(|input| input.tried = long_ago);
    aside.look(&[], &HashSet::new());
    assert!(aside.holds(&paths[0]) && !aside.holds(&paths[1]));
}

#[test]
fn lines_of_the_log_are_few_however_many_inputs_wait() {
    let (mut aside, _) = aside();
    let now = Instant::now();
    let lines = (0..1000).filter(|_| aside.may_log(now)).count();
    assert_eq!(lines, LINES_MAX as usize);
    assert!(aside.may_log(now + LINES_EVERY));
    assert_eq!(aside.lines.2, 0, "what was left out was counted in a line of its own");
}

#[test]
fn at_the_end_each_input_is_named_that_no_line_has_named_and_no_line_is_long() {
    let dir = tempfile::tempdir().unwrap();
    let (mut aside, _) = aside();
    let paths: Vec<PathBuf> = (0..300).map(|n| dir.path().join(format!("{n:03}{}", "x".repeat(200)))).collect();
    for path in &paths {
        aside.file(path, Name::Matches, &error());
    }
    let rest: Vec<_> = aside.inputs.iter().filter(|(_, input)| !input.named).collect();
    let lines: Vec<(usize, String)> = lines_of(rest.iter().copied()).collect();
    assert_eq!(lines.iter().map(|(inputs, _)| inputs).sum::<usize>(), rest.len());
    assert!(rest.len() <= 300 - 10 && lines.iter().all(|(_, line)| line.len() <= NAMES_BYTES_MAX && !line.contains('\x1b')));
    let named = lines.iter().map(|(_, line)| line.as_str()).collect::<String>();
    assert!(rest.iter().all(|(path, _)| named.contains(path.to_str().unwrap())));
}
