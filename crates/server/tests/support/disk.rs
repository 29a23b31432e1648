//! Owns small disks that can be filled up: an ext4 of its own where this may be mounted, else a tmpfs of that size in a
//! namespace where the test runs again. It must not know who writes to them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Says to the test that it runs in a namespace where it may mount.
const IN_NAMESPACE: &str = "HOOKFAST_TEST_MAY_MOUNT";
const MIB: u64 = 1024 * 1024;

/// A disk of its own, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    ground: TempDir,
}

/// Runs `test` with a disk of so many MiB; `name` is the test's own, with its modules.
pub(crate) fn with_small_disk(name: &str, mib: u64, test: impl FnOnce(&SmallDisk)) {
    if std::env::var_os(IN_NAMESPACE).is_some() {
        return test(&SmallDisk::tmpfs(mib).unwrap_or_else(|why| panic!("no tmpfs in a namespace: {why}")));
    }
    let why = match SmallDisk::ext4(mib) {
        Ok(disk) => return test(&disk),
        Err(why) => why,
    };
    let again = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().expect("the test knows its program"))
        .args(["--exact", name, "--nocapture"])
        .env(IN_NAMESPACE, "1")
        .status();
    assert!(
        again.as_ref().is_ok_and(std::process::ExitStatus::success),
        "this test needs a small disk: either as root with loop devices ({why}), or `unshare` with user namespaces, \
         in which it ended with {again:?}"
    );
}

impl SmallDisk {
    fn ext4(mib: u64) -> Result<Self, String> {
        let disk = Self::ground();
        let image = disk.ground.path().join("image");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mib * MIB).map_err(|error| error.to_string())?;
        // Nothing is kept back for root: full is full.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(&image))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(disk.path()))?;
        Ok(disk)
    }

    fn tmpfs(mib: u64) -> Result<Self, String> {
        let disk = Self::ground();
        let size = format!("size={mib}m");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "small"])
            .arg(disk.path()))?;
        Ok(disk)
    }

    fn ground() -> Self {
        let ground =
            TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the disk can be made");
        let disk = Self { ground };
        fs::create_dir(disk.path()).expect("a place to mount at can be made");
        disk
    }

    /// Where it is mounted: the `data` of `beside`.
    pub(crate) fn path(&self) -> PathBuf {
        self.ground.path().join("data")
    }

    /// The directory that it is mounted in, on the machine's own disk.
    pub(crate) fn beside(&self) -> &Path {
        self.ground.path()
    }

    /// The bytes that are free.
    pub(crate) fn free(&self) -> u64 {
        let space = rustix::fs::statvfs(self.path()).expect("the disk says how full it is");
        space.f_bavail * space.f_frsize
    }

    /// A file of so many bytes, to be removed later.
    pub(crate) fn ballast(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path().join(name);
        let mut file = File::create(&path).expect("there is room for ballast");
        for _ in 0..bytes.div_ceil(4096) {
            file.write_all(&[0x42; 4096]).expect("there is room for ballast");
        }
        file.sync_all().expect("the ballast can be synced");
        path
    }

    /// A file that takes all that is left.
    pub(crate) fn fill(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        let mut file = File::create(&path).expect("there is room for a name");
        while file.write_all(&[0x42; 4096]).is_ok() {}
        while file.write_all(&[0x42]).is_ok() {}
        // It may not even be possible to sync it: then it is full all the more.
        drop(file.sync_all());
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing is mounted where mounting failed. Lazily, as a process that was killed may not be gone yet.
        drop(run(Command::new("umount").arg("--lazy").arg(self.path())));
    }
}

/// Runs a command; gives what it said where it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{:?}: {}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
