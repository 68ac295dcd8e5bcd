//! What this process may take: cores, the memory of its control group, descriptors.
//!
//! Owns: finding the memory limit (cgroup v1 and v2, nested groups), and the shares of it that defaults keep to.
//! Does not own: the CPU quota (`available_parallelism` knows that of v1 and v2), the defaults themselves (see `pintail_config`).

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};

pub mod descriptors;

use descriptors::Descriptors;

/// v1 writes "no limit" as the largest multiple of the page size in 63 bits. No machine has a quarter of that.
const UNLIMITED: u64 = 1 << 62;

/// What the process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Cores, the CPU quota counted in; at least 1.
    pub cores: usize,
    /// Bytes that its control group may hold; `None` without a limit.
    pub memory: Option<u64>,
    /// Descriptors.
    pub descriptors: Descriptors,
}

impl Limits {
    /// Looks at the process itself. What cannot be read is no limit.
    pub fn of_this_process() -> Self {
        let proc = |name: &str| fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
        let memory = memory(&proc("cgroup"), &proc("mountinfo"), |path| fs::read_to_string(path).ok());
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { cores, memory, descriptors: Descriptors::of_this_process() }
    }

    /// Returns `bytes`, or one part of `parts` of the memory limit if that is less.
    ///
    /// The parts that the defaults take leave half of the limit to what no setting bounds: the program, the allocator, batches while they are
    /// worked on.
    pub fn at_most_part(&self, parts: u64, bytes: u64) -> u64 {
        self.memory.map_or(bytes, |memory| bytes.min(memory / parts))
    }
}

/// Returns a figure of `/proc/PROCESS/status` that is given in kB, in bytes: `VmRSS`, `RssAnon`, `VmData`. `self` is this process.
pub fn process_bytes(process: &str, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Returns the least memory limit of the control groups that the process is in, over all their parents that can be seen.
///
/// `cgroup` and `mountinfo` are those of `/proc/self` (man 7 cgroups, man 5 `proc_pid_mountinfo`); `read` reads a file below a mount.
fn memory(cgroup: &str, mountinfo: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let hierarchies = mountinfo.lines().filter_map(Mount::parse);
    let limits = hierarchies.flat_map(|mount| {
        let group = mount.version.group_in(cgroup).map(|path| mount.directory_of(path));
        let groups = group.iter().flat_map(|group| group.ancestors()).take_while(|group| group.starts_with(&mount.point));
        let files = groups.flat_map(|group| mount.version.limit_files().iter().map(|file| group.join(file)));
        files.filter_map(|file| limit(&read(&file)?)).collect::<Vec<_>>()
    });
    limits.min()
}

/// Parses the content of a limit file; `None` is no limit.
fn limit(content: &str) -> Option<u64> {
    content.trim().parse().ok().filter(|limit| *limit < UNLIMITED)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    /// Past `memory.high` a group is not killed but slowed down until it hardly moves: as good as a limit.
    fn limit_files(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["memory.limit_in_bytes"],
            Self::V2 => &["memory.max", "memory.high"],
        }
    }

    /// Returns the path of the process' group, from lines as `4:memory:/docker/1f` (v1) and `0::/docker/1f` (v2).
    fn group_in(self, cgroup: &str) -> Option<&str> {
        cgroup.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let ours = match self {
                Self::V1 => controllers.split(',').any(|controller| controller == "memory"),
                Self::V2 => controllers.is_empty(),
            };
            ours.then_some(path)
        })
    }
}

/// A mounted hierarchy that can limit memory.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// The group that the mount shows at its top.
    root: String,
    point: PathBuf,
}

impl Mount {
    /// Parses a line as `36 25 0:31 /docker/1f /sys/fs/cgroup/memory ro shared:9 - cgroup cgroup rw,memory`.
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let version = match (kind.next()?, kind.nth(1).unwrap_or_default()) {
            ("cgroup2", _) => Version::V2,
            ("cgroup", options) if options.split(',').any(|option| option == "memory") => Version::V1,
            _ => return None,
        };
        let mut place = place.split(' ').skip(3);
        Some(Self { version, root: unescaped(place.next()?), point: unescaped(place.next()?).into() })
    }

    /// Returns the directory of a group. A container often sees its own group at the top of the mount, while its path is the host's:
    /// a path that does not go through the mount's root is the top.
    fn directory_of(&self, group: &str) -> PathBuf {
        let below = Path::new(group).strip_prefix(&self.root).unwrap_or(Path::new(""));
        let climbs = below.components().any(|part| part.as_os_str() == "..");
        if climbs { self.point.clone() } else { self.point.join(below) }
    }
}

/// Undoes the octal escapes of mountinfo.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1_MOUNTS: &str = "\
25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw
33 32 0:30 /docker/1f /sys/fs/cgroup/cpu ro,nosuid master:12 - cgroup cgroup rw,cpu
36 32 0:33 /docker/1f /sys/fs/cgroup/memory ro,nosuid master:15 - cgroup cgroup rw,memory
";
    const V2_MOUNTS: &str = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    const GIB: u64 = 1 << 30;

    /// A file below a mount, and what it holds.
    type LimitFile = (&'static str, &'static str);

    fn memory_of(cgroup: &str, mounts: &str, files: &[LimitFile]) -> Option<u64> {
        memory(cgroup, mounts, |path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, content)| (*content).to_owned()))
    }

    #[test]
    fn a_v1_container_whose_group_has_the_hosts_path_finds_its_limit_at_the_top_of_the_mount() {
        let cgroup = "9:name=systemd:/docker/1f\n4:memory:/docker/1f\n1:cpu,cpuacct:/docker/1f\n0::/docker/1f\n";
        let files = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"), ("/sys/fs/cgroup/cpu/memory.limit_in_bytes", "5\n")];
        assert_eq!(memory_of(cgroup, V1_MOUNTS, &files), Some(GIB));
    }

    #[test]
    fn a_v1_container_with_a_namespace_of_its_own_finds_its_limit_there_too() {
        let mounts = V1_MOUNTS.replace("/docker/1f", "/");
        let files = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n")];
        assert_eq!(memory_of("4:memory:/\n", &mounts, &files), Some(GIB / 2));
    }

    #[test]
    fn v1_without_a_limit_has_none_and_not_nine_exabytes() {
        let files = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(memory_of("4:memory:/docker/1f\n", V1_MOUNTS, &files), None);
    }

    #[test]
    fn a_v2_container_finds_its_limit() {
        assert_eq!(memory_of("0::/\n", V2_MOUNTS, &[("/sys/fs/cgroup/memory.max", "1073741824\n")]), Some(GIB));
        assert_eq!(memory_of("0::/\n", V2_MOUNTS, &[("/sys/fs/cgroup/memory.max", "max\n")]), None);
    }

    #[test]
    fn of_nested_groups_the_least_limit_holds_wherever_it_is() {
        let cgroup = "0::/system.slice/lake.slice/pintail.service\n";
        let files = |slice, service, high| {
            [
                ("/sys/fs/cgroup/system.slice/memory.max", "max\n"),
                ("/sys/fs/cgroup/system.slice/lake.slice/memory.max", slice),
                ("/sys/fs/cgroup/system.slice/lake.slice/pintail.service/memory.max", service),
                ("/sys/fs/cgroup/system.slice/lake.slice/pintail.service/memory.high", high),
            ]
        };
        assert_eq!(memory_of(cgroup, V2_MOUNTS, &files("2147483648\n", "max\n", "max\n")), Some(2 * GIB));
        assert_eq!(memory_of(cgroup, V2_MOUNTS, &files("2147483648\n", "1073741824\n", "max\n")), Some(GIB));
        assert_eq!(memory_of(cgroup, V2_MOUNTS, &files("2147483648\n", "1073741824\n", "536870912\n")), Some(GIB / 2));
        // A neighbour's limit is not ours, nor is one above the mount.
        assert_eq!(memory_of(cgroup, V2_MOUNTS, &[("/sys/fs/cgroup/other.slice/memory.max", "1\n"), ("/sys/fs/memory.max", "1\n")]), None);
    }

    #[test]
    fn where_both_versions_are_mounted_the_one_with_the_limit_holds() {
        let mounts = format!("{V1_MOUNTS}40 32 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let files = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"), ("/sys/fs/cgroup/unified/cgroup.procs", "1\n")];
        assert_eq!(memory_of("4:memory:/docker/1f\n0::/\n", &mounts, &files), Some(GIB));
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_goes_by_the_top_of_the_mount() {
        let files = [("/sys/fs/cgroup/memory.max", "1073741824\n"), ("/sys/fs/memory.max", "1\n")];
        assert_eq!(memory_of("0::/../other\n", V2_MOUNTS, &files), Some(GIB));
    }

    #[test]
    fn what_is_no_line_of_these_files_is_passed_over() {
        for (cgroup, mounts) in
            [("", ""), ("4:memory", V1_MOUNTS), ("0::/\n", "x - cgroup2\n1 2 3 - cgroup2 a b\n - \n"), ("::::\n", V2_MOUNTS)]
        {
            assert_eq!(memory_of(cgroup, mounts, &[("/sys/fs/cgroup/memory.max", "no number\n")]), None);
        }
        assert_eq!(memory_of("0::/\n", "31 24 0:27 / /a\\040b rw - cgroup2 cgroup2 rw\n", &[("/a b/memory.max", "5\n")]), Some(5));
    }

    #[test]
    fn a_share_is_bounded_by_the_limit_and_by_nothing_without_one() {
        let of = |memory| Limits { cores: 1, memory, descriptors: Descriptors::new(1024) }.at_most_part(4, GIB);
        assert_eq!((of(None), of(Some(GIB)), of(Some(64 * GIB))), (GIB, GIB / 4, GIB));
    }
}
