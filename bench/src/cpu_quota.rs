//! Gives a process a share of a CPU, as Lambda does after init: a control group (cgroup) whose processes
//! get a quota of CPU time in each period.
//!
//! Linux has two versions of control groups, with different files for the quota. Both are supported,
//! because version 1 is still in use. Only root may create groups, and in most containers nobody may.
//!
//! A benchmark that is interrupted may leave an empty group. It has no effect and ends with the next start
//! of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use crate::Result;

/// Megabytes of memory that come with one whole CPU on Lambda. Less memory comes with a proportional share.
pub const MEGABYTES_PER_CPU: u32 = 1_769;
/// Microseconds of a period. AWS documents the share of a CPU, but not the period: this is an assumption.
pub const PERIOD_MICROS: u32 = 20_000;
/// Attempts to remove a group. The kernel may need some time to release a process that has ended.
const MAX_REMOVAL_ATTEMPTS: u32 = 100;
/// Time between two attempts to remove a group.
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// The version of control groups. A controller belongs to version 1 if both are mounted and version 1 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    V1,
    V2,
}

/// The controller of CPU time, in which groups can be created.
#[derive(Debug, PartialEq, Eq)]
pub struct CpuController {
    mount_point: PathBuf,
    version: Version,
}

/// A group with a quota of CPU time. Dropping it removes it, so its processes must have ended by then.
pub struct CpuGroup {
    folder: PathBuf,
}

impl CpuController {
    /// Finds the controller. Fails if this process cannot create groups with a quota.
    pub fn find() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| format!("cannot read /proc/self/mountinfo: {error}"))?;
        let controller =
            Self::from_mounts(&mounts).ok_or("no control groups for CPU time are mounted")?;
        if controller.version == Version::V2 {
            // Does nothing if the controller is already enabled.
            write(
                &controller.mount_point.join("cgroup.subtree_control"),
                "+cpu",
            )?;
        }
        drop(controller.create_group(MEGABYTES_PER_CPU)?);
        Ok(controller)
    }

    /// The controller in the lines of `/proc/self/mountinfo`.
    fn from_mounts(mounts: &str) -> Option<Self> {
        let controllers = mounts.lines().filter_map(Self::from_mount);
        controllers.min_by_key(|controller| controller.version)
    }

    fn from_mount(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount_point = mount.split(' ').nth(4)?;
        let mut file_system = file_system.split(' ');
        let (kind, _source, options) = (
            file_system.next()?,
            file_system.next()?,
            file_system.next()?,
        );
        let version = match kind {
            "cgroup" if options.split(',').any(|option| option == "cpu") => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        Some(Self {
            mount_point: mount_point.into(),
            version,
        })
    }

    /// Creates a group whose processes get the share of a CPU that comes with this many megabytes of memory.
    /// Only one group can exist at a time.
    pub fn create_group(&self, memory: u32) -> Result<CpuGroup> {
        let name = format!("chat-bench-{}", std::process::id());
        let folder = self.mount_point.join(name);
        fs::create_dir(&folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let group = CpuGroup { folder };
        let quota = quota_micros(memory);
        match self.version {
            Version::V1 => {
                group.write("cpu.cfs_period_us", &PERIOD_MICROS.to_string())?;
                group.write("cpu.cfs_quota_us", &quota.to_string())?;
            }
            Version::V2 => group.write("cpu.max", &format!("{quota} {PERIOD_MICROS}"))?,
        }
        Ok(group)
    }
}

impl CpuGroup {
    /// Moves a process with all its threads into the group.
    pub fn add_process(&self, process_id: u32) -> Result<()> {
        self.write("cgroup.procs", &process_id.to_string())
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        write(&self.folder.join(file), value)
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        for _ in 0..MAX_REMOVAL_ATTEMPTS {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            sleep(REMOVAL_PAUSE);
        }
        eprintln!("Could not remove {}.", self.folder.display());
    }
}

/// Microseconds of CPU time in each period that come with this many megabytes of memory.
pub fn quota_micros(memory: u32) -> u32 {
    PERIOD_MICROS * memory / MEGABYTES_PER_CPU
}

fn write(file: &Path, value: &str) -> Result<()> {
    let written = fs::write(file, value);
    written.map_err(|error| format!("cannot write {value} to {}: {error}", file.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str =
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct";
    const V2: &str =
        "35 31 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    const OTHERS: &str = "23 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset";

    fn controller(mount_point: &str, version: Version) -> CpuController {
        CpuController {
            mount_point: mount_point.into(),
            version,
        }
    }

    #[test]
    fn the_quota_is_the_share_of_a_period_that_comes_with_the_memory() {
        let quotas = [128, 256, 512, 1_024, 1_769, 3_538].map(quota_micros);
        assert_eq!(quotas, [1_447, 2_894, 5_788, 11_577, 20_000, 40_000]);
    }

    #[test]
    fn the_quota_of_the_least_memory_is_not_below_the_kernels_minimum_of_a_millisecond() {
        assert!(quota_micros(128) >= 1_000);
    }

    #[test]
    fn version_1_is_used_if_it_has_the_controller() {
        let found = CpuController::from_mounts(&[OTHERS, V2, V1].join("\n"));
        let expected = controller("/sys/fs/cgroup/cpu,cpuacct", Version::V1);
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn version_2_is_used_otherwise() {
        let found = CpuController::from_mounts(&[OTHERS, V2].join("\n"));
        assert_eq!(found, Some(controller("/sys/fs/cgroup", Version::V2)));
    }

    #[test]
    fn other_mounts_have_no_controller_of_cpu_time() {
        assert_eq!(CpuController::from_mounts(OTHERS), None);
        assert_eq!(CpuController::from_mounts(""), None);
    }
}
