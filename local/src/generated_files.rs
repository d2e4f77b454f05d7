//! Files that are generated from the code: `openapi.yaml`, `asyncapi.yaml`, the sample events and the endpoint
//! table in `docs/api.md`.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use chat_shared::{http::ENDPOINTS, openapi};

use crate::{Error, sample_events};

const TABLE_START: &str = "<!-- endpoints -->";
const TABLE_END: &str = "<!-- /endpoints -->";

/// A generated file.
pub struct GeneratedFile {
    /// The path, relative to the root of the workspace.
    pub path: PathBuf,
    /// The content, as the code defines it.
    pub content: String,
}

impl GeneratedFile {
    /// Whether the file in the workspace has this content.
    #[must_use]
    pub fn is_current(&self, workspace: &Path) -> bool {
        std::fs::read_to_string(workspace.join(&self.path))
            .is_ok_and(|content| content == self.content)
    }

    /// Writes the file into the workspace.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, workspace: &Path) -> Result<(), Error> {
        std::fs::write(workspace.join(&self.path), &self.content)
            .map_err(|error| Error::new(format!("cannot write {}: {error}", self.path.display())))
    }
}

/// Generates all files for a workspace.
///
/// # Errors
/// When `docs/api.md` cannot be read or does not contain the markers of the endpoint table.
pub fn generate(workspace: &Path) -> Result<Vec<GeneratedFile>, Error> {
    let mut files = Vec::new();
    for (path, document) in [
        ("openapi.yaml", openapi::to_yaml()),
        ("asyncapi.yaml", openapi::asyncapi_yaml()),
    ] {
        files.push(GeneratedFile {
            path: path.into(),
            content: document.map_err(|error| Error::new(error.to_string()))?,
        });
    }
    let events = sample_events::generate().into_iter();
    files.extend(events.map(|(name, content)| GeneratedFile {
        path: Path::new("events").join(name),
        content,
    }));
    let path = PathBuf::from("docs/api.md");
    let page = std::fs::read_to_string(workspace.join(&path))
        .map_err(|error| Error::new(format!("cannot read {}: {error}", path.display())))?;
    let content = insert_endpoint_table(&page).ok_or_else(|| {
        Error::new(format!(
            "{} does not contain {TABLE_START} and {TABLE_END}; the endpoint table goes between them",
            path.display()
        ))
    })?;
    files.push(GeneratedFile { path, content });
    Ok(files)
}

/// Replaces the text between the markers, or returns `None` if one is missing.
fn insert_endpoint_table(page: &str) -> Option<String> {
    let (before, rest) = page.split_once(TABLE_START)?;
    let (_, after) = rest.split_once(TABLE_END)?;
    let table = endpoint_table();
    Some(format!("{before}{TABLE_START}\n{table}{TABLE_END}{after}"))
}

fn endpoint_table() -> String {
    let mut table = "| Function | Route |\n|---|---|\n".to_owned();
    for endpoint in &ENDPOINTS {
        let (name, method, path) = (endpoint.name, endpoint.method, endpoint.path);
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{name}` | `{method} {path}` |");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_table_replaces_the_text_between_the_markers() {
        let page = format!("a\n{TABLE_START}\nold\n{TABLE_END}\nb\n");
        let updated = insert_endpoint_table(&page).unwrap();
        assert!(updated.starts_with(&format!(
            "a\n{TABLE_START}\n| Function | Route |\n|---|---|\n"
        )));
        assert!(updated.contains("\n| `send-message` | `POST /chats/{chatId}/messages` |\n"));
        assert!(updated.ends_with(&format!(" |\n{TABLE_END}\nb\n")));
        assert!(!updated.contains("old"));
        assert_eq!(insert_endpoint_table(&updated), Some(updated));
    }

    #[test]
    fn a_page_without_both_markers_is_rejected() {
        for page in ["", TABLE_START, TABLE_END] {
            assert_eq!(insert_endpoint_table(page), None);
        }
    }
}
