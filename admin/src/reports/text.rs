//! Reports as text for people. What users and operators wrote is data: each text is on one line and in double
//! quotes, and a terminal obeys nothing in it.

use std::fmt::{self, Display, Write as _};

use chat_shared::domain::Timestamp;

use super::view::{Content, MessageView, ReportDetails, ReportView, Resolution, Time};
use crate::text::{OneLine, UserText, start_of};

const HEADINGS: [&str; COLUMNS] = ["ID", "AGE", "REASON", "REPORTED", "REPORTER", "TEXT"];
const COLUMNS: usize = 6;

/// A table of reports. It is written page by page: a later page may make columns wider.
#[derive(Debug)]
pub struct ReportTable {
    now: Timestamp,
    widths: [usize; COLUMNS],
    has_headings: bool,
}

impl ReportTable {
    /// An empty table. Ages are those at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            widths: HEADINGS.map(str::len),
            has_headings: false,
        }
    }

    /// The lines of the next page, with headings before the first report.
    pub fn lines(&mut self, reports: &[ReportView]) -> Vec<String> {
        let rows: Vec<_> = reports
            .iter()
            .map(|report| cells(report, self.now))
            .collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let needs_headings = !self.has_headings && !rows.is_empty();
        let headings = needs_headings.then(|| HEADINGS.map(str::to_owned));
        self.has_headings |= needs_headings;
        let rows = headings.iter().chain(&rows);
        rows.map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String; COLUMNS]) -> String {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&self.widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        line.trim_end().to_owned()
    }
}

fn cells(report: &ReportView, now: Timestamp) -> [String; COLUMNS] {
    let text = match &report.message {
        None => "(the user)".to_owned(),
        Some(message) => match &message.content.text {
            None => "(no text)".to_owned(),
            Some(text) => {
                let (start, mark) = start_of(text);
                format!("{}{mark}", UserText(start))
            }
        },
    };
    [
        report.id.clone(),
        age(report.created_at, now),
        OneLine(&report.reason).to_string(),
        report.user_id.to_string(),
        report.reporter_id.to_string(),
        text,
    ]
}

/// How long ago a time is, in the largest unit of which there are at least two: `59s`, `90m`, `47h`, `3d`.
#[must_use]
pub fn age(time: Time, now: Timestamp) -> String {
    let seconds = now.seconds().saturating_sub(time.0.seconds());
    let units = [("d", 86_400), ("h", 3_600), ("m", 60)];
    let unit = units.iter().find(|(_, unit)| seconds >= 2 * unit);
    let (name, unit) = unit.copied().unwrap_or(("s", 1));
    format!("{}{name}", seconds / unit)
}

impl ReportDetails {
    /// The report with its evidence. The age is that at `now`.
    #[must_use]
    pub fn lines(&self, now: Timestamp) -> Vec<String> {
        let mut lines = Lines::default();
        lines.report(&self.report, now);
        if let Some(seq) = self.report.seq {
            lines.evidence(self, seq);
        }
        lines.chat(self);
        let heading = match self.report.seq {
            Some(_) => "Messages around it",
            None => "Last messages of the chat",
        };
        lines.heading(heading);
        for message in &self.context {
            lines.message(message);
        }
        if self.context.is_empty() {
            lines.text("none");
        }
        lines.0
    }
}

impl Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            action,
            by,
            note,
            at,
        } = self;
        write!(f, "{}, by {}", OneLine(action), UserText(by))?;
        if let Some(at) = at {
            write!(f, " at {at}")?;
        }
        write!(f, ", with the note {}", UserText(note))
    }
}

/// Lines in sections.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn heading(&mut self, heading: impl Display) {
        if !self.0.is_empty() {
            self.0.push(String::new());
        }
        self.0.push(heading.to_string());
    }

    fn text(&mut self, text: impl Display) {
        self.0.push(format!("  {text}"));
    }

    fn field(&mut self, name: &str, value: impl Display) {
        self.0.push(format!("  {name:<10} {value}"));
    }

    /// A field that is left out if it has no value.
    fn optional(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    fn report(&mut self, report: &ReportView, now: Timestamp) {
        let age = age(report.created_at, now);
        let state = OneLine(&report.state);
        self.heading(format_args!(
            "Report {} ({state}, made {age} ago)",
            report.id
        ));
        self.field("reason", OneLine(&report.reason));
        self.optional("note", report.note.as_deref().map(UserText));
        self.field("reported", report.user_id);
        self.field("reporter", report.reporter_id);
        self.field("made at", report.created_at);
        self.optional("resolved", report.resolution.as_ref());
    }

    fn evidence(&mut self, details: &ReportDetails, seq: u64) {
        if let Some(message) = &details.report.message {
            self.heading(format_args!("Message {seq} when it was reported"));
            self.optional("sent at", message.created_at);
            self.optional("edited at", message.edited_at);
            self.optional("deleted at", message.deleted_at);
            self.content(&message.content);
        }
        self.heading(format_args!("Message {seq} now"));
        match &details.current_message {
            None => self.text(details.absence_of(&ReportDetails::message_name(seq))),
            Some(message) => {
                self.optional("edited at", message.edited_at);
                self.optional("deleted at", message.deleted_at);
                self.content(&message.content);
            }
        }
        for previous in &details.previous_contents {
            let replaced_at = previous.replaced_at;
            self.heading(format_args!("Message {seq} until {replaced_at}"));
            self.content(&previous.content);
        }
        if details.has_more_previous_contents {
            self.heading("… and more that it contained before");
        }
    }

    fn content(&mut self, content: &Content) {
        self.optional("text", content.text.as_deref().map(UserText));
        self.optional("image", content.image_url.as_deref().map(UserText));
        self.optional("link", content.link_preview_url.as_deref().map(UserText));
        if is_empty(content) {
            self.text("no content");
        }
    }

    fn chat(&mut self, details: &ReportDetails) {
        self.heading(format_args!("Chat {}", details.report.chat_id));
        let Some(chat) = &details.chat else {
            return self.text(details.absence_of(ReportDetails::CHAT_STATE));
        };
        self.field("status", OneLine(&chat.status));
        self.field("requester", chat.requester_id);
        self.field("messages", chat.seq);
        self.field("changes", chat.rev);
        self.field("updated at", chat.updated_at);
        for block in &chat.blocks {
            let (by, since) = (block.by, block.blocked_at);
            self.field("blocked", format_args!("by {by}, since {since}"));
        }
    }

    /// One line for a message: number, time, sender, content. If it was deleted: its last content.
    fn message(&mut self, message: &MessageView) {
        let mut line = format!(
            "{} {} {}:",
            message.seq, message.created_at, message.sender_id
        );
        let mut content = Some(&message.content);
        if message.deleted_at.is_some() {
            line.push_str(" (deleted)");
            content = message.last_content.as_ref();
        }
        if let Some(content) = content {
            for (name, part) in [
                ("", &content.text),
                ("image ", &content.image_url),
                ("link ", &content.link_preview_url),
            ] {
                if let Some(part) = part {
                    let _ = write!(line, " {name}{}", UserText(part));
                }
            }
            if is_empty(content) {
                line.push_str(" (no content)");
            }
        }
        self.text(line);
    }
}

fn is_empty(content: &Content) -> bool {
    let Content {
        text,
        image_url,
        link_preview_url,
    } = content;
    text.is_none() && image_url.is_none() && link_preview_url.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::view::{ChatView, PreviousContentView, ReportedMessage};

    const NOW: u64 = 1_767_225_600_000;

    fn now() -> Timestamp {
        Timestamp::from_millis(NOW)
    }

    fn ago(seconds: u64) -> Time {
        Time::from_millis(NOW - seconds * 1_000)
    }

    fn content(text: Option<&str>) -> Content {
        Content {
            text: text.map(str::to_owned),
            image_url: None,
            link_preview_url: None,
        }
    }

    fn report(id: &str, text: Option<&str>) -> ReportView {
        let message = ReportedMessage {
            content: content(text),
            created_at: Some(ago(90_000)),
            edited_at: None,
            deleted_at: None,
        };
        ReportView {
            id: id.to_owned(),
            chat_id: "17-42".to_owned(),
            reporter_id: 17,
            user_id: 42,
            seq: Some(9),
            reason: "spam".to_owned(),
            note: Some("again\n\u{1b}[2J".to_owned()),
            created_at: ago(75_600),
            state: "open".to_owned(),
            message: Some(message),
            resolution: None,
        }
    }

    #[test]
    fn an_age_has_the_largest_unit_of_which_there_are_two() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (75_600, "21h"),
            (172_799, "47h"),
            (172_800, "2d"),
        ] {
            assert_eq!(age(ago(seconds), now()), expected);
        }
        let future = Time::from_millis(NOW + 5_000);
        assert_eq!(age(future, now()), "0s");
    }

    #[test]
    fn a_table_has_headings_once_and_its_columns_are_aligned() {
        let mut table = ReportTable::new(now());
        assert_eq!(table.lines(&[]), [""; 0]);
        let mut of_user = report("1-2/1/0", None);
        of_user.message = None;
        let lines = table.lines(&[report("17-42/17/9", Some("one\ntwo")), of_user]);
        assert_eq!(
            lines,
            [
                "ID          AGE  REASON  REPORTED  REPORTER  TEXT",
                "17-42/17/9  21h  spam    42        17        \"one\\ntwo\"",
                "1-2/1/0     21h  spam    42        17        (the user)",
            ]
        );
        let lines = table.lines(&[report("1-2/1/7", None)]);
        let line = "1-2/1/7     21h  spam    42        17        (no text)";
        assert_eq!(lines, [line]);
        let start = "é".repeat(80);
        for (text, shown) in [
            ("(no text)".to_owned(), "\"(no text)\"".to_owned()),
            (format!("{start}é"), format!("\"{start}\"…")),
        ] {
            let lines = table.lines(&[report("1-2/1/7", Some(&text))]);
            assert!(lines[0].ends_with(&format!("  {shown}")), "{lines:#?}");
        }
    }

    #[test]
    fn a_resolution_names_the_action_the_operator_the_time_and_the_note() {
        let mut resolution = Resolution {
            action: "none".to_owned(),
            by: "ann".to_owned(),
            note: "fine\u{9b}".to_owned(),
            at: Some(ago(0)),
        };
        let text = "none, by \"ann\" at 2026-01-01T00:00:00.000Z, with the note \"fine\\u{9b}\"";
        assert_eq!(resolution.to_string(), text);
        resolution.at = None;
        let text = "none, by \"ann\", with the note \"fine\\u{9b}\"";
        assert_eq!(resolution.to_string(), text);
    }

    fn message(content: Content) -> MessageView {
        MessageView {
            seq: 9,
            sender_id: 42,
            content,
            created_at: ago(90_000),
            edited_at: None,
            deleted_at: None,
            last_content: None,
        }
    }

    fn deleted_message(last_content: Option<Content>) -> MessageView {
        MessageView {
            deleted_at: Some(ago(60)),
            last_content,
            ..message(content(None))
        }
    }

    fn details(text: &str, message: MessageView) -> ReportDetails {
        let chat = ChatView {
            status: "active".to_owned(),
            requester_id: 17,
            seq: 9,
            rev: 1,
            updated_at: ago(90_000),
            blocks: Vec::new(),
        };
        ReportDetails {
            report: report("17-42/17/9", Some(text)),
            current_message: Some(message.clone()),
            previous_contents: Vec::new(),
            has_more_previous_contents: false,
            chat: Some(chat),
            context: vec![message],
            unreadable: Vec::new(),
        }
    }

    #[test]
    fn a_report_with_its_evidence_is_data_line_by_line() {
        let details = details("a\u{202e}b", deleted_message(Some(content(Some("a")))));
        let expected = "\
Report 17-42/17/9 (open, made 21h ago)
  reason     spam
  note       \"again\\n\\u{1b}[2J\"
  reported   42
  reporter   17
  made at    2025-12-31T03:00:00.000Z

Message 9 when it was reported
  sent at    2025-12-30T23:00:00.000Z
  text       \"a\\u{202e}b\"

Message 9 now
  deleted at 2025-12-31T23:59:00.000Z
  no content

Chat 17-42
  status     active
  requester  17
  messages   9
  changes    1
  updated at 2025-12-30T23:00:00.000Z

Messages around it
  9 2025-12-30T23:00:00.000Z 42: (deleted) \"a\"";
        assert_eq!(details.lines(now()).join("\n"), expected);
    }

    #[test]
    fn a_text_cannot_look_like_something_else_that_is_printed() {
        let with_url = Content {
            link_preview_url: Some("https://a.example/".to_owned()),
            ..content(Some("link \"b\" \\"))
        };
        for (message, shown) in [
            (deleted_message(None), "(deleted)"),
            (message(content(Some("(deleted)"))), "\"(deleted)\""),
            (message(content(None)), "(no content)"),
            (
                message(with_url),
                "\"link \\\"b\\\" \\\\\" link \"https://a.example/\"",
            ),
        ] {
            let lines = details("a", message).lines(now());
            let line = format!("  9 2025-12-30T23:00:00.000Z 42: {shown}");
            assert_eq!(lines.last(), Some(&line));
        }
    }

    #[test]
    fn details_name_omitted_and_unreadable_items() {
        let mut details = details("a", message(content(Some("a"))));
        details.previous_contents = vec![PreviousContentView {
            content: content(Some("before")),
            replaced_at: ago(60),
        }];
        details.has_more_previous_contents = true;
        details.current_message = None;
        details.chat = None;
        let section = |details: &ReportDetails, heading: &str| {
            let lines = details.lines(now());
            let start = lines.iter().position(|line| line == heading).unwrap();
            lines[start + 1].clone()
        };
        let headings = ["Message 9 now", "Chat 17-42"];
        for heading in headings {
            assert_eq!(section(&details, heading), "  does not exist");
        }
        let previous = "Message 9 until 2025-12-31T23:59:00.000Z";
        assert_eq!(section(&details, previous), "  text       \"before\"");
        let more = "… and more that it contained before".to_owned();
        assert!(details.lines(now()).contains(&more));

        details.unreadable = vec!["message 9".to_owned(), "the state of the chat".to_owned()];
        for heading in headings {
            assert_eq!(section(&details, heading), "  cannot be read");
        }
    }
}
