//! Owns the description of the machine that a report is worth nothing without.
//! It must not know what was measured.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Where the figures come from.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// The processor by its own name.
    pub(crate) processor: String,
    /// Cores this process may use.
    pub(crate) cores: usize,
    /// Memory in bytes.
    pub(crate) memory_bytes: u64,
    /// The release of the kernel.
    pub(crate) kernel: String,
    /// The kind of file system the data is on.
    pub(crate) file_system: String,
    /// Processes that wanted a core in the minute before, on average: what others do to the figures.
    pub(crate) load_before: String,
}

impl Machine {
    /// Describes this machine and the file system of `data`. What cannot be found out is `unknown` or 0.
    pub(crate) fn here(data: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
                .map_or(0, |kibibytes| kibibytes * 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: data
                .canonicalize()
                .ok()
                .and_then(|path| file_system(&read("/proc/mounts"), &path))
                .unwrap_or_else(unknown),
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// What makes the figures untrustworthy, if anything does.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.file_system == "tmpfs" {
            warnings.push(
                "the data is on tmpfs, where a sync costs nothing: give --work-dir a directory on a disk"
                    .into(),
            );
        }
        if self.load_before.parse::<f64>().is_ok_and(|load| load > 0.5) {
            warnings.push(format!(
                "others use this machine (load {} over the last minute): take the ratios, not the figures",
                self.load_before
            ));
        }
        warnings
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The type of the mount whose path is the longest prefix of `path`.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((Path::new(words.next()?), words.next()?))
        })
        .filter(|(at, _)| path.starts_with(at))
        .max_by_key(|(at, _)| at.components().count())
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_innermost_mount() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        let kind = |path| file_system(mounts, Path::new(path));
        assert_eq!(kind("/srv/x").as_deref(), Some("ext4"));
        assert_eq!(kind("/tmp/x").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/tmp/disk/x").as_deref(), Some("xfs"));
        assert_eq!(file_system("", Path::new("/x")), None);
    }

    #[test]
    fn memory_only_and_busy_machines_are_warned_about() {
        let mut machine = Machine::here(Path::new("/"));
        machine.file_system = "tmpfs".into();
        machine.load_before = "1.93".into();
        assert_eq!(machine.warnings().len(), 2);
        machine.file_system = "ext4".into();
        machine.load_before = "0.12".into();
        assert!(machine.warnings().is_empty());
    }
}
