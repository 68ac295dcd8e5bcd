//! Permission: what keeps this user out of a dataset, and what would let it in.
//!
//! Owns: looking at the directories on the way, by owner and mode; the command that fits what is found.
//! Does not own: the operation that was refused (see [`super::directories`]).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::paths::Paths;

/// A directory that this user may not use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Denied {
    path: PathBuf,
    /// Its owner and mode; `None` if it cannot even be looked at.
    facts: Option<(u32, u32)>,
}

/// Says what keeps this user from writing to the dataset at `root`, and what to do about that.
pub fn way_out(root: &Path) -> String {
    let root = &std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let user = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match denied(root) {
        Some(denied) => words(root, &denied, user),
        None => format!(
            "the owner and mode of `{}` would allow it: look for access control lists, SELinux or how it is mounted, or set another `pipeline.out_path`",
            root.display()
        ),
    }
}

/// Says what keeps this user from reading a file, and what to do about that.
pub fn to_read(file: &Path) -> String {
    let uid = rustix::process::geteuid().as_raw();
    let refuses = |path: &&Path| access(*path, if *path == file { Access::READ_OK } else { Access::EXEC_OK }).is_err();
    let on_the_way: Vec<&Path> = file.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    let Some((closed, facts)) = on_the_way.into_iter().rev().find(refuses).and_then(|path| Some((path, path.metadata().ok()?))) else {
        return format!("user {uid} may not read it");
    };
    let (owner, mode) = (facts.uid(), facts.mode() & 0o7777);
    format!(
        "`{}` belongs to user {owner} and has the mode {mode:04o}, and this is user {uid}: run it as that user, or let others read",
        closed.display()
    )
}

/// Finds the first directory on the way that refuses: those above must be entered, the last that is there above a dataset to be made, and those within, be
/// written to.
fn denied(root: &Path) -> Option<Denied> {
    let look = |path: &Path, how| {
        let refused = access(path, how).is_err_and(|errno| errno == rustix::io::Errno::ACCESS);
        let facts = path.metadata().ok().map(|metadata| (metadata.uid(), metadata.mode() & 0o7777));
        refused.then(|| Denied { path: path.to_owned(), facts })
    };
    let above: Vec<&Path> = root.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    if let Some(closed) = above.iter().rev().find_map(|path| look(path, Access::EXEC_OK)) {
        return Some(closed);
    }
    if !root.exists() {
        return above.iter().find(|path| path.exists()).and_then(|path| look(path, Access::WRITE_OK | Access::EXEC_OK));
    }
    written_to(root).into_iter().find_map(|path| look(&path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK))
}

/// The directory that is made and removed to see whether a directory can be written to, where files without a name are not had.
pub const PROBE: &str = ".pintail-probe";

/// Returns the directories of a dataset that is there which a service writes to: its own, and the first level of hive partitions. What a probe left
/// behind is none of them: it goes as its directory is asked.
pub fn written_to(root: &Path) -> Vec<PathBuf> {
    let own = Paths::new(root).private();
    let below = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_dir() && !path.ends_with(PROBE)).collect::<Vec<_>>()
    };
    let is_hive = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().contains(&b'='));
    let hive = below(root).into_iter().filter(is_hive);
    [root.to_path_buf(), own.clone()].into_iter().chain(below(&own)).chain(hive).filter(|path| path.is_dir()).collect()
}

/// Says what to do about a directory that refuses the user `uid`.
fn words(root: &Path, denied: &Denied, (uid, gid): (u32, u32)) -> String {
    let (path, out) = (denied.path.display(), root.display());
    let is_within = denied.path.starts_with(root);
    match denied.facts {
        Some((owner, mode)) if owner == uid => {
            let chmod = if is_within { format!("chmod -R u+rwX {out}") } else { format!("chmod u+rwx {path}") };
            format!("`{path}` belongs to this user, but its mode is {mode:04o}: run `{chmod}`")
        }
        Some((owner, _)) if is_within => format!(
            "`{path}` belongs to user {owner}: run `chown -R {uid}:{gid} {out}` (in a container: on the host's side of the mount), or set another \
             `pipeline.out_path`"
        ),
        Some((owner, mode)) => format!(
            "`{path}` belongs to user {owner} and has the mode {mode:04o}: make the dataset's directory for this user, \
             `install -d -o {uid} -g {gid} {out}`, where it may be entered, or set another `pipeline.out_path`"
        ),
        None => format!("`{path}` cannot be entered by user {uid}: set another `pipeline.out_path`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, facts: Option<(u32, u32)>) -> String {
        words(Path::new("/data/lake"), &Denied { path: path.into(), facts }, (1000, 100))
    }

    #[test]
    fn the_remedy_fits_the_cause() {
        let foreign = said("/data/lake/_pintail", Some((0, 0o755)));
        assert!(foreign.contains("user 0") && foreign.contains("`chown -R 1000:100 /data/lake`"), "{foreign}");
        let closed = said("/data/lake", Some((1000, 0o500)));
        assert!(closed.contains("mode is 0500") && closed.contains("`chmod -R u+rwX /data/lake`") && !closed.contains("chown"), "{closed}");
        let above = said("/data", Some((0, 0o755)));
        assert!(above.contains("`/data` belongs to user 0") && above.contains("install -d -o 1000") && !above.contains("chown"), "{above}");
        assert!(said("/data", Some((1000, 0o500))).contains("`chmod u+rwx /data`"));
    }

    #[test]
    fn a_directory_that_may_be_written_to_is_not_blamed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(denied(dir.path()), None);
        assert_eq!(denied(&dir.path().join("a/b")), None);
        let said = way_out(dir.path());
        assert!(!said.contains("chown") && said.contains("would allow it"), "{said}");
    }
}
