//! `results.md` and its plots: each part has a section of its own there, which another run of that part
//! replaces, with what it takes to judge and to repeat it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use chat_shared::domain::Timestamp;

use crate::Result;

const TITLE: &str = "# Measured

Written by the commands that each section names. Repeat them on a quiet machine: whatever else runs there
is measured, too.
";

/// Where results go.
pub struct Report {
    folder: PathBuf,
}

impl Report {
    /// Results into `folder`, which is made.
    pub fn new(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Draws a plot.
    pub fn plot(&self, name: &str, draw: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        draw(&self.folder.join(format!("{name}.svg")))
    }

    /// Writes a part's section, in place of the one it had.
    pub fn section(&self, part: &str, title: &str, text: &str) -> Result<()> {
        let path = self.folder.join("results.md");
        let results = std::fs::read_to_string(&path).unwrap_or_else(|_| TITLE.to_owned());
        let section = format!("## {title}\n\n{}\n\n{}\n", origin(), text.trim_end());
        std::fs::write(&path, with_section(&results, part, &section))?;
        eprintln!("{section}\nWritten to {}", path.display());
        Ok(())
    }
}

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

/// The command, the date and the machine.
fn origin() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let command = [
        "cargo run --release --bin chat-bench --",
        &arguments.join(" "),
    ]
    .join(" ");
    let date = Timestamp::now().to_string();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "`{}`, {}, on {cores} cores of {}, Linux {}, {}{}.",
        command.trim_end().trim_end_matches(" --"),
        date.split('T').next().unwrap_or_default(),
        processor(),
        line_of("/proc/sys/kernel/osrelease"),
        version("rustc"),
        match version("node") {
            node if node.is_empty() => node,
            node => format!(", Node {node}"),
        },
    )
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find(|line| line.starts_with("model name"));
    let name = named.and_then(|line| line.split_once(": "));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.to_owned(),
    )
}

fn line_of(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

fn version(program: &str) -> String {
    let told = Command::new(program).arg("--version").output();
    let told = told.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    told.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_others_stay() {
        let first = with_section("# Measured\n", "start", "old\n");
        let both = with_section(&first, "load", "kept\n");
        let new = with_section(&both, "start", "new\n");
        assert!(new.starts_with("# Measured\n\n<!-- start -->\nnew\n<!-- end of start -->\n"));
        assert!(new.contains("<!-- load -->\nkept\n"));
        assert!(!new.contains("old"));
    }
}
