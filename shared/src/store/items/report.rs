//! Reports for operators.

use serde::{Deserialize, Serialize};

use super::{Item, ItemKey, Partition, read, timestamp, unreadable, user, write};
use crate::{
    Error,
    domain::{ChatId, Message, NewReport, Report, ReportReason, Seq, Timestamp, UserId},
};

/// A report of a user or a message, for operators. It contains a copy of the message.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportItem {
    /// The partition key.
    pub pk: String,
    /// The sort key.
    pub sk: String,
    #[serde(rename = "type")]
    entity_type: String,
    /// The user who reports.
    pub reporter_id: u64,
    /// The reported user.
    pub user_id: u64,
    /// The reported message. `None` if the user was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The name of a [`ReportReason`].
    pub reason: String,
    /// What the reporter wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Milliseconds since 1970 UTC.
    pub created_at: u64,
    /// [`ReportItem::STATE_OPEN`] or [`ReportItem::STATE_RESOLVED`].
    pub state: String,
    /// The text of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The URL of the image of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// The URL of the page that the message previews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_preview_url: Option<String>,
    /// When the message was sent, in milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_created_at: Option<u64>,
    /// When the message was edited last, in milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<u64>,
    /// When the message was deleted, in milliseconds since 1970 UTC. The copy is what it contained before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<u64>,
    /// [`ReportItem::QUEUE`] while the report is open, so that all open reports are a partition of
    /// [`Index::ByRequester`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_key: Option<String>,
    /// The sort key of the queue: the time of the report, then its id.
    pub activity: String,
    /// When an operator resolved the report, in milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<u64>,
    /// The operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_by: Option<String>,
    /// What the operator did: `none` or `delete-message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// What the operator wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
}

impl ReportItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Report";
    /// The start of the sort keys of reports.
    pub const SK_PREFIX: &str = "FLAG#";
    /// The partition of [`Index::ByRequester`] with the open reports.
    pub const QUEUE: &str = "#reports#open";
    /// The value of `state` of a report that waits for an operator.
    pub const STATE_OPEN: &str = "open";
    /// The value of `state` of a report that an operator has resolved.
    pub const STATE_RESOLVED: &str = "resolved";

    /// The key of the report of `reporter` on a message, or on the other member.
    #[must_use]
    pub fn key(id: ChatId, reporter: UserId, seq: Option<Seq>) -> ItemKey {
        let seq = seq.unwrap_or_default().get();
        let sk = format!("{}{reporter}#{seq:016}", Self::SK_PREFIX);
        ItemKey::new(Partition::Chat(id).pk(), sk)
    }

    /// The sort key of the queue: the time of the report, then its id.
    #[must_use]
    pub fn queue_key(at: Timestamp, id: &str) -> String {
        format!("{:015}#{id}", at.millis())
    }

    /// The reporter and the message in a sort key. `None` if no report has this sort key.
    #[must_use]
    pub fn reporter_and_seq(sk: &str) -> Option<(UserId, Option<Seq>)> {
        let (reporter, digits) = sk.strip_prefix(Self::SK_PREFIX)?.split_once('#')?;
        let reporter: UserId = reporter.parse().ok()?;
        let seq = Seq::new(digits.parse().ok()?);
        let is_canonical = format!("{}{reporter}#{:016}", Self::SK_PREFIX, seq.get()) == sk;
        is_canonical.then(|| (reporter, (seq > Seq::ZERO).then_some(seq)))
    }

    /// `message` is the reported message, with its last content if it was deleted.
    pub(in crate::store) fn write(
        report: &NewReport,
        message: Option<&Message>,
        now: Timestamp,
    ) -> Result<Item, Error> {
        let ItemKey { pk, sk } = Self::key(report.chat, report.reporter, report.seq);
        let id = Report {
            chat: report.chat,
            reporter: report.reporter,
            seq: report.seq,
            reason: report.reason,
            created_at: now,
        }
        .id();
        let owned = |part: Option<&str>| part.map(str::to_owned);
        write(&Self {
            pk,
            sk,
            entity_type: Self::ENTITY_TYPE.to_owned(),
            reporter_id: report.reporter.get(),
            user_id: report.chat.peer_of(report.reporter).get(),
            seq: report.seq.map(Seq::get),
            reason: report.reason.as_str().to_owned(),
            note: report.note.clone(),
            created_at: now.millis(),
            state: Self::STATE_OPEN.to_owned(),
            text: owned(message.and_then(Message::text)),
            image_url: owned(message.and_then(Message::image_url)),
            link_preview_url: owned(message.and_then(Message::link_preview_url)),
            message_created_at: message.map(|message| message.created_at.millis()),
            edited_at: message.and_then(|message| message.edited_at.map(Timestamp::millis)),
            deleted_at: message.and_then(|message| message.deleted_at.map(Timestamp::millis)),
            requester_key: Some(Self::QUEUE.to_owned()),
            activity: Self::queue_key(now, &id),
            resolved_at: None,
            resolved_by: None,
            action: None,
            resolution: None,
        })
    }

    /// The report, as its reporter sees it.
    ///
    /// # Errors
    /// [`Error::Internal`] if the key or the reason is invalid.
    pub fn report(&self) -> Result<Report, Error> {
        let Some(Partition::Chat(chat)) = Partition::parse(&self.pk) else {
            return Err(unreadable(&self.pk));
        };
        let reason = ReportReason::parse(&self.reason);
        Ok(Report {
            chat,
            reporter: user(self.reporter_id)?,
            seq: self.seq.map(Seq::new),
            reason: reason.ok_or_else(|| unreadable(&self.reason))?,
            created_at: timestamp(self.created_at)?,
        })
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute is missing or has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }
}
