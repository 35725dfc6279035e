//! What the control groups of a process leave of their memory, in versions 1 and 2 of the kernel's interface.
//!
//! Documented in the kernel's admin-guide/cgroup-v1/memory.rst and admin-guide/cgroup-v2.rst.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Where the hierarchies are mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// Returns the least that any group leaves, from the process's own up to the top of each hierarchy that is mounted below
/// `root`. `own` is the text of `/proc/self/cgroup`; an empty one stands for the top.
pub(super) fn least_left(root: &Path, own: &str) -> Option<u64> {
    let version_2 = own.lines().find_map(|line| line.strip_prefix("0::"));
    let version_1 = own.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        controllers
            .split(',')
            .any(|c| c == "memory")
            .then_some(group)
    });
    // A machine that mounts version 1 has the hierarchy of version 2, if at all, in a folder.
    let tops = [root.to_owned(), root.join("unified")];
    let in_2 = tops
        .iter()
        .flat_map(|top| groups(top, version_2))
        .filter_map(|group| left_in_2(&group));
    let in_1 = groups(&root.join("memory"), version_1);
    in_2.chain(in_1.iter().filter_map(|group| left_in_1(group)))
        .min()
}

/// Returns the folders of a group and of those above it. Inside a container the group's path may be the machine's, of which
/// only the top is there: that is the container's group.
fn groups(top: &Path, own: Option<&str>) -> Vec<PathBuf> {
    let own = Path::new(own.unwrap_or_default().trim_start_matches('/'));
    // A group beside the container's cannot be seen.
    let below = own.components().all(|c| matches!(c, Component::Normal(_)));
    let own = if below { own } else { Path::new("") };
    own.ancestors().map(|group| top.join(group)).collect()
}

/// What a group of version 2 leaves. `memory.high` slows a process down until it stands still, so it counts as a limit.
fn left_in_2(group: &Path) -> Option<u64> {
    let limits = ["memory.max", "memory.high"].map(|name| number(group, name));
    // "max" is not a number: this group has no limit, but one above it may.
    let limit = limits.into_iter().flatten().min()?;
    let used = number(group, "memory.current")?;
    Some(limit.saturating_sub(used.saturating_sub(stat(group, "inactive_file").unwrap_or(0))))
}

/// What a group of version 1 leaves. Without a limit it is a number of the size of the address space.
fn left_in_1(group: &Path) -> Option<u64> {
    // A limit above the container's top is in the statistics only.
    let above = stat(group, "hierarchical_memory_limit").unwrap_or(u64::MAX);
    let limit = number(group, "memory.limit_in_bytes")?.min(above);
    let used = number(group, "memory.usage_in_bytes")?;
    let cached = stat(group, "total_inactive_file").or_else(|| stat(group, "inactive_file"));
    Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
}

fn number(group: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(group.join(name)).ok()?;
    text.trim().parse().ok()
}

/// A line of the statistics. Cached files that were not used lately are given back before anything is killed.
fn stat(group: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(group.join("memory.stat")).ok()?;
    let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    text.lines()
        .filter(|line| line.split(' ').next() == Some(name))
        .find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy of files: a group, a name and what is in it.
    fn made(files: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (group, name, text) in files {
            let dir = root.path().join(group);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(name), format!("{text}\n")).unwrap();
        }
        root
    }

    /// What is left in groups of version 2 with these limits and uses.
    fn left_2(own: &str, groups: &[(&str, &str, &str)]) -> Option<u64> {
        let files = groups.iter().flat_map(|(group, max, current)| {
            [
                (*group, "memory.max", *max),
                (group, "memory.current", current),
            ]
        });
        let root = made(&files.collect::<Vec<_>>());
        least_left(root.path(), own)
    }

    #[test]
    fn the_tightest_group_on_the_way_to_the_root_counts() {
        let unit = "1:name=systemd:/\n0::/system.slice/vggt.service\n";
        let (service, slice) = ("system.slice/vggt.service", "system.slice");
        // The root of a machine has no such files.
        for (expected, groups) in [
            (
                Some(600),
                vec![(service, "1000", "400"), (slice, "max", "900")],
            ),
            (
                Some(300),
                vec![(service, "1000", "400"), (slice, "1200", "900")],
            ),
            (
                Some(300),
                vec![(service, "max", "400"), (slice, "1200", "900")],
            ),
            (Some(0), vec![(service, "1000", "1001")]),
            (None, vec![(service, "max", "1")]),
            // Another unit's limit is not this one's.
            (None, vec![("system.slice/other.service", "10", "0")]),
        ] {
            assert_eq!(left_2(unit, &groups), expected, "{groups:?}");
        }
    }

    #[test]
    fn inside_a_container_the_root_is_asked() {
        for own in [
            "0::/\n",
            "0::/../../other\n",
            "0::/docker/not-visible\n",
            "",
        ] {
            assert_eq!(left_2(own, &[("", "1000", "250")]), Some(750), "{own:?}");
        }
    }

    #[test]
    fn a_group_that_slows_down_at_memory_high_has_its_limit_there() {
        let root = made(&[
            ("a", "memory.max", "max"),
            ("a", "memory.high", "700"),
            ("a", "memory.current", "400"),
            (
                "a",
                "memory.stat",
                "anon 1\ninactive_file 100\nactive_file 7",
            ),
        ]);
        assert_eq!(least_left(root.path(), "0::/a\n"), Some(400));
    }

    #[test]
    fn groups_of_version_1_count_and_their_unused_cache_does_not() {
        let unlimited = "9223372036854771712";
        let root = made(&[
            ("memory", "memory.limit_in_bytes", unlimited),
            ("memory", "memory.usage_in_bytes", "5000"),
            ("memory/a", "memory.limit_in_bytes", "2000"),
            ("memory/a", "memory.usage_in_bytes", "900"),
            ("memory/a/b", "memory.limit_in_bytes", "1000"),
            ("memory/a/b", "memory.usage_in_bytes", "800"),
            (
                "memory/a/b",
                "memory.stat",
                "cache 350\ntotal_inactive_file 300\ntotal_cache 350",
            ),
        ]);
        let own = "5:cpu,cpuacct:/\n4:memory:/a/b\n1:name=systemd:/\n0::/\n";
        assert_eq!(least_left(root.path(), own), Some(500));
        let joined = own.replace("4:memory", "4:hugetlb,memory");
        assert_eq!(least_left(root.path(), &joined), Some(500));
        let parent = own.replace("/a/b", "/a");
        assert_eq!(least_left(root.path(), &parent), Some(1100));
        let none = least_left(root.path(), "4:memory:/\n");
        assert!(none.is_some_and(|left| left > 1 << 60));
    }

    #[test]
    fn a_limit_above_what_a_container_sees_is_in_the_statistics() {
        let root = made(&[
            ("memory", "memory.limit_in_bytes", "9223372036854771712"),
            ("memory", "memory.usage_in_bytes", "100"),
            (
                "memory",
                "memory.stat",
                "inactive_file 30\nhierarchical_memory_limit 400",
            ),
        ]);
        let own = "4:memory:/docker/0123\n";
        assert_eq!(least_left(root.path(), own), Some(330));
    }

    #[test]
    fn version_2_beside_version_1_counts_as_well() {
        let root = made(&[
            ("unified/a", "memory.max", "500"),
            ("unified/a", "memory.current", "200"),
            ("memory/b", "memory.limit_in_bytes", "1000"),
            ("memory/b", "memory.usage_in_bytes", "100"),
        ]);
        let own = "4:memory:/b\n0::/a\n";
        assert_eq!(least_left(root.path(), own), Some(300));
        assert_eq!(least_left(root.path(), "4:memory:/b\n0::/\n"), Some(900));
    }
}
