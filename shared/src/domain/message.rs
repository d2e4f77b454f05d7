use url::Url;

use super::{ChatId, Seq, Timestamp, UserId};

/// Most code points that a text may have.
pub const MAX_TEXT_CODE_POINTS: usize = 4_096;
/// Most bytes that a URL may have.
pub const MAX_URL_BYTES: usize = 2_048;
/// Code points of a text that a chat shows of its last message.
pub const PREVIEW_CODE_POINTS: usize = 120;

/// What a user says in a message: at least one of the three, each within its limits, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    text: Option<String>,
    image_url: Option<String>,
    link_preview_url: Option<String>,
}

/// A message cannot say this; the message tells the user what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContent {
    /// None of the three parts is there.
    #[error("a message needs at least one of `text`, `imageUrl` and `linkPreviewUrl`")]
    Empty,
    /// Only white space.
    #[error("`text` must have at least one character that is not white space")]
    BlankText,
    /// Over the limit.
    #[error("`text` must have at most {MAX_TEXT_CODE_POINTS} code points")]
    LongText,
    /// Not an absolute https URL, or over the limit.
    #[error("`{0}` must be an absolute https URL of at most {MAX_URL_BYTES} bytes")]
    Url(&'static str),
}

impl Content {
    /// Checks the parts of a message and keeps them as they are.
    ///
    /// # Errors
    /// Says which part is wrong and how to mend it.
    pub fn new(
        text: Option<String>,
        image_url: Option<String>,
        link_preview_url: Option<String>,
    ) -> Result<Self, InvalidContent> {
        if let Some(text) = &text {
            if text.chars().all(char::is_whitespace) {
                return Err(InvalidContent::BlankText);
            }
            if text.chars().count() > MAX_TEXT_CODE_POINTS {
                return Err(InvalidContent::LongText);
            }
        }
        for (field, url) in [
            ("imageUrl", &image_url),
            ("linkPreviewUrl", &link_preview_url),
        ] {
            if url.as_deref().is_some_and(|url| !is_absolute_https(url)) {
                return Err(InvalidContent::Url(field));
            }
        }
        if text.is_none() && image_url.is_none() && link_preview_url.is_none() {
            return Err(InvalidContent::Empty);
        }
        Ok(Self {
            text,
            image_url,
            link_preview_url,
        })
    }

    /// Content that was checked when it was stored.
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

    /// The text as typed.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The image's URL as typed.
    #[must_use]
    pub fn image_url(&self) -> Option<&str> {
        self.image_url.as_deref()
    }

    /// The previewed link's URL as typed.
    #[must_use]
    pub fn link_preview_url(&self) -> Option<&str> {
        self.link_preview_url.as_deref()
    }
}

/// The WHATWG parser forgives what a stored URL should not have: white space around and within,
/// back-slashes, and `https:host`. Those are refused before it is asked.
fn is_absolute_https(url: &str) -> bool {
    url.len() <= MAX_URL_BYTES
        && url
            .get(..8)
            .is_some_and(|start| start.eq_ignore_ascii_case("https://"))
        && !url
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '\\')
        && !url[8..].starts_with('/')
        && Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.has_host())
}

/// A message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The chat it belongs to.
    pub chat_id: ChatId,
    /// Its place in the chat.
    pub seq: Seq,
    /// Who wrote it.
    pub sender: UserId,
    /// What it says.
    pub content: Content,
    /// When it was accepted; never before the message before it.
    pub created_at: Timestamp,
}

impl Message {
    /// What a chat shows of it in a list.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let text = self
            .content
            .text()
            .map(|text| text.chars().take(PREVIEW_CODE_POINTS).collect());
        Summary {
            seq: self.seq,
            sender: self.sender,
            text,
            created_at: self.created_at,
        }
    }
}

/// What a chat shows of its last message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its place in the chat.
    pub seq: Seq,
    /// Who wrote it.
    pub sender: UserId,
    /// The first [`PREVIEW_CODE_POINTS`] code points of its text, nothing appended.
    pub text: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<Content, InvalidContent> {
        Content::new(Some(text.to_owned()), None, None)
    }

    fn image(url: &str) -> Result<Content, InvalidContent> {
        Content::new(None, Some(url.to_owned()), None)
    }

    #[test]
    fn a_text_is_kept_as_typed() {
        for typed in [" hi ", "a\nb\u{0}", "👩‍👩‍👧 שלום 你好", "\u{200b}"] {
            assert_eq!(text(typed).unwrap().text(), Some(typed));
        }
    }

    #[test]
    fn a_text_has_at_most_4096_code_points_of_any_width() {
        assert!(text(&"👍".repeat(4_096)).is_ok());
        assert_eq!(text(&"a".repeat(4_097)), Err(InvalidContent::LongText));
    }

    #[test]
    fn a_text_needs_a_character_that_is_not_white_space() {
        for blank in ["", " ", "\n\t", "\u{a0}\u{3000}\u{2003}"] {
            assert_eq!(text(blank), Err(InvalidContent::BlankText), "{blank:?}");
        }
        let blank_beside_an_image = Content::new(
            Some(" ".to_owned()),
            Some("https://a.example/b".to_owned()),
            None,
        );
        assert_eq!(blank_beside_an_image, Err(InvalidContent::BlankText));
    }

    #[test]
    fn a_url_is_absolute_https_within_2048_bytes() {
        for good in [
            "https://a.example/b?c=d#e",
            "HTTPS://a.example",
            "https://例え.jp/画像",
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
            "https://a.example:99999",
            "javascript:alert(1)",
            "data:text/plain,hi",
            &format!("{longest}x"),
        ] {
            assert_eq!(image(bad), Err(InvalidContent::Url("imageUrl")), "{bad:?}");
        }
    }

    #[test]
    fn a_message_needs_one_of_its_three_parts() {
        assert_eq!(Content::new(None, None, None), Err(InvalidContent::Empty));
    }

    #[test]
    fn a_summary_shows_the_first_120_code_points_and_nothing_more() {
        let message = Message {
            chat_id: "17-42".parse().unwrap(),
            seq: Seq::new(1),
            sender: UserId::new(17).unwrap(),
            content: text(&"é".repeat(121)).unwrap(),
            created_at: Timestamp::from_millis(0),
        };
        assert_eq!(message.summary().text, Some("é".repeat(120)));
    }
}
