//! Mounts: whether a dataset lies on this host's own disks.
//!
//! Owns: which file systems are known to be of the network.
//! Does not own: whether that matters (one instance alone works on any that can lock and rename).

use std::path::Path;

use pintail_core::error::{Error, Result};

/// The magic numbers of `statfs`, as `linux/magic.h` and the file systems' own sources have them.
const NETWORK: [(u64, &str); 9] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x517B, "SMB"),
    (0x00C3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x5346_414F, "AFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
];

/// Refuses a dataset on a network file system: two instances on two hosts would not see each other's locks on all of them.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming the file system and the key that allows it.
pub fn check_local(out: &Path) -> Result<()> {
    let existing = out.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = rustix::fs::statfs(existing)
        .map_err(|e| Error::io(format_args!("look at the file system of `{}`", existing.display()), e.into()))?;
    match network(found.f_type as u64) {
        None => Ok(()),
        Some(name) => Err(Error::config(format!(
            "`{}` lies on {name}, a network file system: several instances share one host or one volume; if its locks hold between hosts, set \
             `source.instance.network_file_system = true`",
            out.display()
        ))),
    }
}

fn network(magic: u64) -> Option<&'static str> {
    // Some are numbers of 32 bits with a sign.
    let magic = magic & 0xFFFF_FFFF;
    NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_numbers_and_local_ones_are_none() {
        assert_eq!(network(0x6969), Some("NFS"));
        assert_eq!(network(0xFFFF_FFFF_FF53_4D42), Some("CIFS"), "the number with a sign");
        let (ext4, tmpfs, overlay) = (0xEF53, 0x0102_1994, 0x794C_7630);
        assert_eq!([ext4, tmpfs, overlay].map(network), [None; 3]);
        check_local(tempfile::tempdir().unwrap().path()).unwrap();
    }
}
