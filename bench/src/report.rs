//! Writes `results.md` and its plots. Each part of the benchmark has its own section, and a new run
//! replaces only the sections of its parts. A section begins with the command, the date and the
//! machine, so that readers can judge and repeat the measurement.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use chat_shared::domain::Timestamp;
use nix::sys::utsname::uname;

use crate::Result;

const INTRODUCTION: &str = "# Benchmark results

The benchmark writes this file. Each section names the command that repeats its measurement. Run it on an
idle machine, because other programs change the results.
";

/// The folder of the results.
pub struct Report {
    folder: PathBuf,
}

impl Report {
    /// Writes results to `folder`, and creates the folder if it is missing.
    pub fn new(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Draws the plot `name.svg`.
    pub fn plot(&self, name: &str, draw: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        draw(&self.folder.join(format!("{name}.svg")))
    }

    /// Writes the section of a part, in place of its previous section.
    pub fn section(&self, part: &str, title: &str, text: &str) -> Result<()> {
        let path = self.folder.join("results.md");
        let results = std::fs::read_to_string(&path).unwrap_or_else(|_| INTRODUCTION.to_owned());
        let section = format!("## {title}\n\n{}\n\n{}\n", provenance()?, text.trim_end());
        std::fs::write(&path, with_section(&results, part, &section))?;
        eprintln!("{section}\nWritten to {}", path.display());
        Ok(())
    }
}

/// Replaces the section between a part's markers, or appends it if there is none.
fn with_section(results: &str, part: &str, section: &str) -> String {
    let (begin, end) = (
        format!("<!-- {part} -->\n"),
        format!("<!-- end of {part} -->\n"),
    );
    let (before, after) = match (results.split_once(&begin), results.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => (before.to_owned(), after),
        _ => (format!("{results}\n"), ""),
    };
    format!("{before}{begin}{section}{end}{after}")
}

/// The command, the date and the machine of this run.
fn provenance() -> Result<String> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let command = [
        "cargo run --release --bin chat-bench --",
        &arguments.join(" "),
    ]
    .join(" ");
    let date = Timestamp::now().to_string();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Ok(format!(
        "`{}`, {}, on {cores} cores of {}, Linux {}, {}{}.",
        command.trim_end().trim_end_matches(" --"),
        date.split('T').next().unwrap_or_default(),
        cpu_model(),
        uname()?.release().to_string_lossy(),
        version_of("rustc").unwrap_or_default(),
        version_of("node").map_or_else(String::new, |version| format!(", Node {version}")),
    ))
}

/// The CPU model, or else the architecture, because Linux reports no model on some architectures.
fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(": "));
    model.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, model)| model.to_owned(),
    )
}

/// The version that a program prints, or `None` if the program is not installed.
fn version_of(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_section_replaces_the_old_one_and_keeps_the_others() {
        let first = with_section("# Results\n", "cold-start", "old\n");
        let both = with_section(&first, "throughput", "kept\n");
        let new = with_section(&both, "cold-start", "new\n");
        let expected = "# Results\n\n<!-- cold-start -->\nnew\n<!-- end of cold-start -->\n";
        assert!(new.starts_with(expected));
        assert!(new.contains("<!-- throughput -->\nkept\n"));
        assert!(!new.contains("old\n"));
    }
}
