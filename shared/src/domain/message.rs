use std::time::Duration;

use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};
use unicode_segmentation::UnicodeSegmentation;
use url::Url;

use super::{ChatId, Rev, Seq, Timestamp, UserId};

/// The maximum length of a text, in Unicode code points.
pub const MAX_TEXT_CODE_POINTS: usize = 4_096;
/// The maximum length of a URL, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;
/// The maximum length of the text in a [`MessagePreview`], in Unicode code points.
pub const PREVIEW_CODE_POINTS: usize = 120;

/// The content of a message: at least one of its three parts is set. Each part is within its limits and
/// stored exactly as the user typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageContent {
    text: Option<String>,
    image_url: Option<String>,
    link_preview_url: Option<String>,
}

/// The content of a message is invalid. `Display` is the message for the client, which states the violated rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// None of the three parts is set.
    #[error("a message needs at least one of `text`, `imageUrl` and `linkPreviewUrl`")]
    Empty,
    /// An edit names none of the three parts.
    #[error(
        "an edit needs at least one of `text`, `imageUrl` and `linkPreviewUrl`; null removes it"
    )]
    NothingToChange,
    /// The text contains only white space and invisible characters.
    #[error("`text` must contain at least one visible character")]
    BlankText,
    /// The text is too long.
    #[error("`text` must have at most {MAX_TEXT_CODE_POINTS} code points")]
    LongText,
    /// The URL is not an absolute `https` URL, too long, or could deceive a reader. Contains the name of the
    /// field.
    #[error(
        "`{0}` must be an absolute https URL of at most {MAX_URL_BYTES} bytes, without a user name, white \
         space, quotation marks, brackets, backslashes and invisible characters; percent-encode them"
    )]
    Url(&'static str),
}

impl MessageContent {
    /// Validates the parts of a message.
    ///
    /// # Errors
    /// Names the invalid part.
    pub fn new(
        text: Option<String>,
        image_url: Option<String>,
        link_preview_url: Option<String>,
    ) -> Result<Self, ContentError> {
        check_parts(
            text.as_deref(),
            image_url.as_deref(),
            link_preview_url.as_deref(),
        )?;
        let content = Self::from_parts(text, image_url, link_preview_url);
        if content.is_empty() {
            return Err(ContentError::Empty);
        }
        Ok(content)
    }

    fn is_empty(&self) -> bool {
        self.text.is_none() && self.image_url.is_none() && self.link_preview_url.is_none()
    }

    /// Content that was validated before it was stored.
    pub(crate) fn from_parts(
        text: Option<String>,
        image_url: Option<String>,
        link_preview_url: Option<String>,
    ) -> Self {
        Self {
            text,
            image_url,
            link_preview_url,
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The URL of an image.
    #[must_use]
    pub fn image_url(&self) -> Option<&str> {
        self.image_url.as_deref()
    }

    /// The URL of a page to preview.
    #[must_use]
    pub fn link_preview_url(&self) -> Option<&str> {
        self.link_preview_url.as_deref()
    }
}

/// Checks the parts that are present.
fn check_parts(
    text: Option<&str>,
    image_url: Option<&str>,
    link_preview_url: Option<&str>,
) -> Result<(), ContentError> {
    if let Some(text) = text {
        if text.chars().all(is_invisible) {
            return Err(ContentError::BlankText);
        }
        if text.chars().count() > MAX_TEXT_CODE_POINTS {
            return Err(ContentError::LongText);
        }
    }
    for (field, url) in [
        ("imageUrl", image_url),
        ("linkPreviewUrl", link_preview_url),
    ] {
        if url.is_some_and(|url| !is_absolute_https(url)) {
            return Err(ContentError::Url(field));
        }
    }
    Ok(())
}

/// A change of the content of a message. An absent part (`None`) stays as it is, `Some(None)` removes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentChange {
    /// The new text.
    pub text: Option<Option<String>>,
    /// The new URL of an image.
    pub image_url: Option<Option<String>>,
    /// The new URL of a page to preview.
    pub link_preview_url: Option<Option<String>>,
}

impl ContentChange {
    /// Validates the new parts.
    ///
    /// # Errors
    /// Names the invalid part; [`ContentError::NothingToChange`] if no part is named.
    pub fn validate(self) -> Result<Self, ContentError> {
        let parts = [&self.text, &self.image_url, &self.link_preview_url];
        if parts.iter().all(|part| part.is_none()) {
            return Err(ContentError::NothingToChange);
        }
        let [text, image_url, link_preview_url] = parts.map(|part| part.as_ref()?.as_deref());
        check_parts(text, image_url, link_preview_url)?;
        Ok(self)
    }

    /// The content after the change.
    ///
    /// # Errors
    /// [`ContentError::Empty`] if no part remains.
    pub fn apply(&self, content: &MessageContent) -> Result<MessageContent, ContentError> {
        let changed = |change: &Option<Option<String>>, current: &Option<String>| {
            change.clone().unwrap_or_else(|| current.clone())
        };
        // The parts that stay were valid when they were sent, perhaps by the rules of an earlier version.
        let content = MessageContent::from_parts(
            changed(&self.text, &content.text),
            changed(&self.image_url, &content.image_url),
            changed(&self.link_preview_url, &content.link_preview_url),
        );
        if content.is_empty() {
            return Err(ContentError::Empty);
        }
        Ok(content)
    }
}

/// Whether a character shows nothing: white space, a control character, a character that Unicode's property
/// `Default_Ignorable_Code_Point` names (joiners, direction marks, fillers), or a blank symbol.
fn is_invisible(c: char) -> bool {
    const BRAILLE_PATTERN_BLANK: char = '\u{2800}';
    const HANGUL_FILLER: char = '\u{3164}';

    c.is_whitespace()
        || c.is_control()
        || matches!(c, BRAILLE_PATTERN_BLANK | HANGUL_FILLER)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// The WHATWG URL parser accepts input that a stored URL must not contain: white space, backslashes, characters
/// that RFC 3986 does not allow, and `https:host`. It also accepts a user name, as in
/// `https://bank.example@evil.example/`, and characters that change how a reader sees the URL. This function
/// rejects those before it calls the parser.
fn is_absolute_https(url: &str) -> bool {
    let is_forbidden =
        |c| is_invisible(c) || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    let Some((scheme, rest)) = url.split_at_checked("https://".len()) else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    url.len() <= MAX_URL_BYTES
        && scheme.eq_ignore_ascii_case("https://")
        && !url.contains(is_forbidden)
        && !authority.is_empty()
        && !authority.contains('@')
        && Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.has_host())
}

/// An accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The chat it belongs to.
    pub chat_id: ChatId,
    /// The sequence number in the chat.
    pub seq: Seq,
    /// The user who sent it.
    pub sender: UserId,
    /// The content. `None` if the message was deleted.
    pub content: Option<MessageContent>,
    /// The time when the service accepted it. It is never earlier than that of the previous message.
    pub created_at: Timestamp,
    /// The time of the last edit.
    pub edited_at: Option<Timestamp>,
    /// The time when it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// The number of its last change, or 0.
    pub rev: Rev,
    /// The key that the sender chose for it. Only the sender may see it. `None` if it was sent without a key, or by a
    /// version of this service that did not keep the key.
    pub idempotency_key: Option<String>,
}

impl Message {
    /// A message that has just been sent, without an idempotency key.
    #[must_use]
    pub fn new(
        chat_id: ChatId,
        seq: Seq,
        sender: UserId,
        content: MessageContent,
        created_at: Timestamp,
    ) -> Self {
        Self {
            chat_id,
            seq,
            sender,
            content: Some(content),
            created_at,
            edited_at: None,
            deleted_at: None,
            rev: Rev::ZERO,
            idempotency_key: None,
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.content.as_ref()?.text()
    }

    /// The URL of an image.
    #[must_use]
    pub fn image_url(&self) -> Option<&str> {
        self.content.as_ref()?.image_url()
    }

    /// The URL of a page to preview.
    #[must_use]
    pub fn link_preview_url(&self) -> Option<&str> {
        self.content.as_ref()?.link_preview_url()
    }

    /// The time of a change at `now`. It is never earlier than the previous one.
    pub(super) fn next_change_time(&self, now: Timestamp) -> Timestamp {
        now.max(self.edited_at.unwrap_or(self.created_at))
    }

    /// Whether it was sent longer ago than `window`. `None` means no limit.
    pub(super) fn is_older_than(&self, window: Option<Duration>, now: Timestamp) -> bool {
        window.is_some_and(|window| self.created_at + window < now)
    }

    /// The preview that lists of chats show.
    #[must_use]
    pub fn preview(&self) -> MessagePreview {
        let text = self.text().map(start_of_text);
        let deleted = self.deleted_at.is_some();
        let has_only_this_text = text.is_some()
            && text.as_deref() == self.text()
            && self.image_url().is_none()
            && self.link_preview_url().is_none();
        let is_changed = deleted || self.edited_at.is_some() || self.rev != Rev::ZERO;
        MessagePreview {
            seq: self.seq,
            sender: self.sender,
            text,
            created_at: self.created_at,
            deleted,
            is_whole: has_only_this_text && !is_changed && self.idempotency_key.is_none(),
        }
    }
}

/// The start of a text, cut at the last grapheme boundary at or before [`PREVIEW_CODE_POINTS`] code points. A
/// grapheme is what a reader sees as one character; an emoji can consist of several code points.
fn start_of_text(text: &str) -> String {
    let mut code_points = 0;
    let graphemes = text.graphemes(true).take_while(|grapheme| {
        code_points += grapheme.chars().count();
        code_points <= PREVIEW_CODE_POINTS
    });
    graphemes.collect()
}

/// The preview of a message in a list of chats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePreview {
    /// The sequence number in the chat.
    pub seq: Seq,
    /// The user who sent it.
    pub sender: UserId,
    /// The start of the text: whole graphemes of at most [`PREVIEW_CODE_POINTS`] code points, with nothing
    /// appended.
    pub text: Option<String>,
    /// The time when the service accepted it.
    pub created_at: Timestamp,
    /// Whether the message was deleted.
    pub deleted: bool,
    /// Whether the preview contains everything that there is to know about the message: it has only a text, which is
    /// not cut, it was neither edited nor deleted, and it was sent without an idempotency key. The preview of a message
    /// that an earlier version of this service has sent is never whole.
    pub is_whole: bool,
}

impl MessagePreview {
    /// The message, if the preview is whole.
    #[must_use]
    pub fn whole_message(&self, chat_id: ChatId) -> Option<Message> {
        if !self.is_whole || self.deleted {
            return None;
        }
        let content = MessageContent::from_parts(Some(self.text.clone()?), None, None);
        let Self {
            seq,
            sender,
            created_at,
            ..
        } = *self;
        Some(Message::new(chat_id, seq, sender, content, created_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<MessageContent, ContentError> {
        MessageContent::new(Some(text.to_owned()), None, None)
    }

    fn image(url: &str) -> Result<MessageContent, ContentError> {
        MessageContent::new(None, Some(url.to_owned()), None)
    }

    #[test]
    fn a_text_is_stored_exactly_as_typed() {
        for typed in [" hi ", "a\nb\u{0}", "👩‍👩‍👧 שלום 你好", "\u{200b}x\u{202e}"]
        {
            assert_eq!(text(typed).unwrap().text(), Some(typed));
        }
    }

    #[test]
    fn a_text_has_at_most_4096_code_points_of_any_width() {
        assert!(text(&"👍".repeat(4_096)).is_ok());
        assert_eq!(text(&"a".repeat(4_097)), Err(ContentError::LongText));
    }

    #[test]
    fn a_text_must_contain_a_visible_character() {
        for blank in [
            "",
            " ",
            "\n\t",
            "\u{a0}\u{3000}\u{2003}",
            "\u{0}\u{7f}\u{85}",        // control characters
            "\u{200b}",                 // zero width space
            "\u{200d}\u{200c}\u{2060}", // joiners
            "\u{200e}\u{202e}\u{2066}", // direction marks
            "\u{feff}\u{ad}\u{34f}\u{180e}",
            "\u{115f}\u{1160}\u{3164}\u{ffa0}", // Hangul fillers
            "\u{2800}",
            "\u{fe0f}\u{e0020}\u{e0100}", // variation selectors and tags
            " \u{200b}\n\u{2800}",
        ] {
            assert_eq!(text(blank), Err(ContentError::BlankText), "{blank:?}");
        }
        for visible in ["x", ".", "\u{200b}.", "👍", "\u{301}", "\u{e000}"] {
            assert!(text(visible).is_ok(), "{visible:?}");
        }
        let blank_beside_an_image = MessageContent::new(
            Some(" ".to_owned()),
            Some("https://a.example/b".to_owned()),
            None,
        );
        assert_eq!(blank_beside_an_image, Err(ContentError::BlankText));
    }

    #[test]
    fn a_url_must_be_absolute_https_of_at_most_2048_bytes() {
        for good in [
            "https://a.example/b?c=d#e",
            "HTTPS://a.example",
            "https://例え.jp/画像",
            "https://a.example/it's?b=(c)&d=[e]*~!$,;@:#f",
            "https://a.example/user@host",
            "https://a.example?q=a@b",
            "https://[2001:db8::1]/",
        ] {
            assert_eq!(image(good).unwrap().image_url(), Some(good));
        }
        let longest = format!("https://a.example/{}", "x".repeat(2_048 - 18));
        assert!(image(&longest).is_ok());
        for bad in [
            "",
            "http://a.example",
            "ftp://a.example",
            "a.example/b",
            "//a.example/b",
            "https:a.example",
            "https:///a.example",
            "https://",
            "https://?a",
            " https://a.example",
            "https://a.example/b c",
            "https://a.example\n",
            "https:\\\\a.example",
            "https://a.example/b\\c",
            "https://a.example/b\u{7f}",
            "https://a.example:99999",
            "https://bank.example@evil.example/",
            "https://a:b@c.example/",
            "https://@a.example/",
            "https://a.example/\"b",
            "https://a.example/<b>",
            "https://a.example/`b",
            "https://a.example/b^c",
            "https://a.example/{b}",
            "https://a.example/b|c",
            "https://a.example/\u{202e}gnp.exe",
            "https://a.example/\u{200b}",
            "https://a\u{ad}.example/",
            "https://a.example/\u{2800}",
            "javascript:alert(1)",
            "data:text/plain,hi",
            &format!("{longest}x"),
        ] {
            assert_eq!(image(bad), Err(ContentError::Url("imageUrl")), "{bad:?}");
        }
    }

    #[test]
    fn a_message_must_have_at_least_one_part() {
        let url = || Some("https://a.example".to_owned());
        let image = MessageContent::new(None, url(), None).unwrap();
        assert_eq!(image.text(), None);
        assert_eq!(image.image_url(), url().as_deref());
        assert_eq!(image.link_preview_url(), None);
        let link = MessageContent::new(None, None, url()).unwrap();
        assert_eq!(link.image_url(), None);
        assert_eq!(link.link_preview_url(), url().as_deref());
        assert_eq!(
            MessageContent::new(None, None, None),
            Err(ContentError::Empty)
        );
    }

    #[test]
    fn a_preview_is_cut_at_the_last_grapheme_boundary_at_or_before_120_code_points() {
        let family = "👩\u{200d}👩\u{200d}👧"; // 5 code points
        let flag = "🇩🇪"; // 2 code points
        for (typed, expected) in [
            ("é".repeat(121), "é".repeat(120)),
            ("a".repeat(120), "a".repeat(120)),
            (family.repeat(25), family.repeat(24)),
            ("a".repeat(118) + family, "a".repeat(118)),
            ("a".repeat(119) + flag, "a".repeat(119)),
            ("a".repeat(119) + "e\u{301}", "a".repeat(119)),
            ("a".repeat(119) + "\r\n", "a".repeat(119)),
            // One grapheme that is too long.
            ("a".to_owned() + &"\u{301}".repeat(200), String::new()),
        ] {
            let message = Message::new(
                "17-42".parse().unwrap(),
                Seq::new(1),
                UserId::new(17).unwrap(),
                text(&typed).unwrap(),
                Timestamp::from_millis(0),
            );
            assert_eq!(message.preview().text, Some(expected), "{typed}");
        }
    }

    fn message(content: MessageContent) -> Message {
        Message::new(
            "17-42".parse().unwrap(),
            Seq::new(9),
            UserId::new(17).unwrap(),
            content,
            Timestamp::from_millis(7),
        )
    }

    #[test]
    fn the_message_of_a_whole_preview_is_the_message_that_was_sent() {
        for typed in ["hi", " 👩\u{200d}👩\u{200d}👧\n", &"𝕏".repeat(120)] {
            let sent = message(text(typed).unwrap());
            let preview = sent.preview();
            assert!(preview.is_whole, "{typed}");
            assert_eq!(preview.whole_message(sent.chat_id), Some(sent), "{typed}");
        }
    }

    #[test]
    fn a_preview_is_whole_unless_something_of_the_message_is_missing_from_it() {
        let sent = || message(text("hi").unwrap());
        let at = || Some(Timestamp::from_millis(8));
        let url = || Some("https://a.example".to_owned());
        let hi = || Some("hi".to_owned());
        let of = |text, image, link| message(MessageContent::new(text, image, link).unwrap());
        for (reason, message) in [
            ("cut", message(text(&"a".repeat(121)).unwrap())),
            ("an image", of(hi(), url(), None)),
            ("a link", of(hi(), None, url())),
            ("no text", of(None, url(), None)),
            (
                "edited",
                Message {
                    edited_at: at(),
                    rev: Rev::new(1),
                    ..sent()
                },
            ),
            (
                "deleted",
                Message {
                    content: None,
                    deleted_at: at(),
                    rev: Rev::new(1),
                    ..sent()
                },
            ),
            (
                "a key",
                Message {
                    idempotency_key: Some("k".to_owned()),
                    ..sent()
                },
            ),
        ] {
            let preview = message.preview();
            assert!(!preview.is_whole, "{reason}");
            assert_eq!(preview.whole_message(message.chat_id), None, "{reason}");
        }
    }

    #[test]
    fn a_preview_that_contradicts_itself_is_not_whole() {
        let sent = message(text("hi").unwrap());
        let deleted = MessagePreview {
            deleted: true,
            ..sent.preview()
        };
        assert_eq!(deleted.whole_message(sent.chat_id), None);
        let without_text = MessagePreview {
            text: None,
            ..sent.preview()
        };
        assert_eq!(without_text.whole_message(sent.chat_id), None);
    }

    #[test]
    fn a_change_replaces_what_it_names_and_removes_null() {
        let some = |part: &str| Some(Some(part.to_owned()));
        let url = "https://a.example";
        let current = MessageContent::new(Some("a".to_owned()), Some(url.to_owned()), None);
        let current = current.unwrap();
        let apply = |text, image_url, link_preview_url| {
            let change = ContentChange {
                text,
                image_url,
                link_preview_url,
            };
            change.validate()?.apply(&current)
        };
        let changed = apply(some("b"), None, some(url)).unwrap();
        assert_eq!(changed.text(), Some("b"));
        assert_eq!(changed.image_url(), Some(url));
        assert_eq!(changed.link_preview_url(), Some(url));
        let without_text = apply(Some(None), None, None).unwrap();
        assert_eq!(without_text.text(), None);
        let nothing = apply(Some(None), Some(None), None);
        assert_eq!(nothing, Err(ContentError::Empty));
        let absent = apply(None, None, None);
        assert_eq!(absent, Err(ContentError::NothingToChange));
        assert_eq!(apply(some(" "), None, None), Err(ContentError::BlankText));
        let invalid = apply(None, some("http://a.example"), None);
        assert_eq!(invalid, Err(ContentError::Url("imageUrl")));
    }
}
