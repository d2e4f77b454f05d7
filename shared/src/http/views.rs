//! The JSON objects in responses.

use std::borrow::Cow;

use serde::Serialize;

#[cfg(feature = "openapi")]
use super::schemas::{
    ChatIdText, Count, Cursor, MessageId, Preview, ReportId, ReportReason, RequestId, Rev, Seq,
    Time, UserIdNumber, Watermark, always_false, always_true,
};
use crate::{
    domain::{self, Chat, Message, Report, Timestamp, UserId},
    error::ErrorCode,
    store::Totals,
};

/// A page of chats.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ChatPage))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatPageView<'a> {
    pub(super) chats: Vec<ChatView<'a>>,
    /// Pass it as `cursor` to get the next page. Null at the end of the list.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Cursor>))]
    pub(super) next_cursor: Option<String>,
}

/// A page of the messages of a chat.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MessagePage))]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessagePageView<'a> {
    /// Newest first. Oldest first if the first page was requested with `after`.
    pub(super) messages: Vec<MessageView<'a>>,
    /// Pass it as `cursor` to get the next page in the same direction. Null at the end.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Cursor>))]
    pub(super) next_cursor: Option<String>,
}

/// A page of the messages of a chat that were changed after they were sent.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ChangePage))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangePageView<'a> {
    /// Each changed message once, as it is now, in the order of the last changes.
    pub(super) messages: Vec<MessageView<'a>>,
    /// The `rev` of the chat. Keep it once `nextCursor` is null, and pass it as `after` later.
    #[cfg_attr(feature = "openapi", schema(value_type = Rev))]
    pub(super) rev: u64,
    /// Pass it as `cursor` to get the next page. Null at the end.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Cursor>))]
    pub(super) next_cursor: Option<String>,
}

/// A page of the users that the caller has blocked.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = BlockPage))]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockPageView {
    pub(super) blocks: Vec<BlockView>,
    /// Pass it as `cursor` to get the next page. Null at the end of the list.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Cursor>))]
    pub(super) next_cursor: Option<String>,
}

/// An error.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Error))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorView<'a> {
    /// Always false.
    #[cfg_attr(feature = "openapi", schema(schema_with = always_false))]
    pub(super) success: bool,
    pub(super) code: ErrorCode,
    /// A description of the error for developers. The text may change; programs must use `code`.
    pub(super) message: String,
    /// Include it when you report a problem.
    #[cfg_attr(feature = "openapi", schema(value_type = RequestId))]
    pub(super) request_id: &'a str,
}

/// A chat from the perspective of the caller.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Chat))]
#[serde(rename_all = "camelCase")]
pub struct ChatView<'a> {
    #[cfg_attr(feature = "openapi", schema(value_type = ChatIdText))]
    chat_id: String,
    status: ChatStatus,
    /// The user who sent the latest chat request.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    requester_id: u64,
    /// The user who received the latest chat request.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    recipient_id: u64,
    /// The number of messages from the other member that the caller has not marked as read and that are not
    /// deleted.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    unread_count: u64,
    /// The `seq` up to which the caller has read; 0 at first.
    #[cfg_attr(feature = "openapi", schema(value_type = Watermark))]
    read_seq: u64,
    /// The `seq` up to which the other member has read; 0 at first.
    #[cfg_attr(feature = "openapi", schema(value_type = Watermark))]
    peer_read_seq: u64,
    /// The number of changes (edits and deletions) to messages after they were sent; 0 at first. If it is greater
    /// than the one that a client knows, the client lists the changes.
    #[cfg_attr(feature = "openapi", schema(value_type = Rev))]
    rev: u64,
    /// A preview of the newest message. Null if there is none.
    #[cfg_attr(feature = "openapi", schema(required))]
    last_message: Option<PreviewView<'a>>,
    /// Whether the caller has blocked the other member.
    blocked: bool,
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
    /// The time of the latest status change or message. Marking as read, editing, deleting and blocking do not
    /// change it.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    updated_at: String,
}

/// `pending`: the recipient can accept or decline the request. `active`: the recipient accepted it.
/// `declined`: the recipient declined it. `withdrawn`: the requester withdrew it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
enum ChatStatus {
    Pending,
    Active,
    Declined,
    Withdrawn,
}

/// `read` once the recipient has marked the message as read, otherwise `sent`.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
enum MessageStatus {
    Sent,
    Read,
}

/// A preview of the newest message of a chat.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = LastMessage))]
#[serde(rename_all = "camelCase")]
struct PreviewView<'a> {
    #[cfg_attr(feature = "openapi", schema(value_type = Seq))]
    seq: u64,
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    sender_id: u64,
    /// The start of the text: whole characters as a reader sees them (graphemes), at most 120 code points, with
    /// nothing appended. Null if the message has no text or is deleted.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Preview>))]
    text: Option<&'a str>,
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
    /// Whether the message was deleted.
    deleted: bool,
}

impl<'a> ChatView<'a> {
    /// The chat from the perspective of `caller`.
    #[must_use]
    pub fn new(chat: &'a Chat, caller: UserId) -> Self {
        let (mine, theirs) = (
            chat.member_state(caller),
            chat.member_state(chat.id.peer_of(caller)),
        );
        Self {
            chat_id: chat.id.to_string(),
            status: match chat.status() {
                domain::ChatStatus::Pending => ChatStatus::Pending,
                domain::ChatStatus::Active => ChatStatus::Active,
                domain::ChatStatus::Declined => ChatStatus::Declined,
                // The status `none` never reaches a view: for its members, such a chat does not exist.
                domain::ChatStatus::Withdrawn | domain::ChatStatus::NotRequested => {
                    ChatStatus::Withdrawn
                }
            },
            requester_id: chat.requester.get(),
            recipient_id: chat.recipient().get(),
            unread_count: mine.unread_count(),
            read_seq: mine.read_seq.get(),
            peer_read_seq: theirs.read_seq.get(),
            rev: chat.rev().get(),
            last_message: chat.last_message().map(|last| PreviewView {
                seq: last.seq.get(),
                sender_id: last.sender.get(),
                text: last.text.as_deref(),
                created_at: last.created_at.to_string(),
                deleted: last.deleted,
            }),
            blocked: chat.has_blocked(caller),
            created_at: chat.created_at.to_string(),
            updated_at: chat.updated_at.to_string(),
        }
    }
}

/// A message.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Message))]
#[serde(rename_all = "camelCase")]
pub struct MessageView<'a> {
    #[cfg_attr(feature = "openapi", schema(value_type = MessageId))]
    message_id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = ChatIdText))]
    chat_id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = Seq))]
    seq: u64,
    /// The user who sent it.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    sender_id: u64,
    /// Exactly as it was sent or last edited. Null if the message has none or is deleted.
    #[cfg_attr(feature = "openapi", schema(required))]
    text: Option<&'a str>,
    /// Exactly as it was sent or last edited. Null if the message has none or is deleted.
    #[cfg_attr(feature = "openapi", schema(required))]
    image_url: Option<&'a str>,
    /// Exactly as it was sent or last edited. Null if the message has none or is deleted.
    #[cfg_attr(feature = "openapi", schema(required))]
    link_preview_url: Option<&'a str>,
    status: MessageStatus,
    /// The time when the service accepted it. It is never earlier than that of the previous message.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
    /// The time of the last edit. Null if it was never edited.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Time>))]
    edited_at: Option<String>,
    /// The time when it was deleted. Null if it is not deleted.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Time>))]
    deleted_at: Option<String>,
}

impl<'a> MessageView<'a> {
    /// `is_read`: whether the watermark of the recipient has reached the message.
    #[must_use]
    pub fn new(message: &'a Message, is_read: bool) -> Self {
        Self {
            message_id: format!("{}/{}", message.chat_id, message.seq),
            chat_id: message.chat_id.to_string(),
            seq: message.seq.get(),
            sender_id: message.sender.get(),
            text: message.text(),
            image_url: message.image_url(),
            link_preview_url: message.link_preview_url(),
            status: if is_read {
                MessageStatus::Read
            } else {
                MessageStatus::Sent
            },
            created_at: message.created_at.to_string(),
            edited_at: message.edited_at.map(|time| time.to_string()),
            deleted_at: message.deleted_at.map(|time| time.to_string()),
        }
    }
}

/// Counts for badges.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Totals))]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TotalsView {
    /// Open requests that the caller has received, except those of users that the caller has blocked.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_pending_request: u64,
    /// The sum of `unreadCount` over all chats of the caller, except those with users that the caller has blocked.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_unread_messages: u64,
    /// Open requests that the caller has sent.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_sent_request: u64,
    /// Grows with each change of the totals; of two totals, the one with the higher version is newer.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    version: u64,
}

impl From<Totals> for TotalsView {
    fn from(totals: Totals) -> Self {
        Self {
            total_pending_request: totals.received_requests,
            total_unread_messages: totals.unread_messages,
            total_sent_request: totals.sent_requests,
            version: totals.version,
        }
    }
}

/// The number of unread messages.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = UnreadTotal))]
#[serde(rename_all = "camelCase")]
pub struct UnreadTotalView {
    /// The sum of `unreadCount` over all chats of the caller, except those with users that the caller has blocked.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_unread_messages: u64,
}

impl From<Totals> for UnreadTotalView {
    fn from(totals: Totals) -> Self {
        Self {
            total_unread_messages: totals.unread_messages,
        }
    }
}

/// Confirms that the messages are marked as read.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MarkedAsRead))]
pub struct MarkedAsReadView {
    /// Always true.
    #[cfg_attr(feature = "openapi", schema(schema_with = always_true))]
    success: bool,
    /// A text for people.
    message: Cow<'static, str>,
}

impl MarkedAsReadView {
    /// All messages up to `up_to` are marked as read, or without it all messages.
    #[must_use]
    pub fn new(up_to: Option<domain::Seq>) -> Self {
        let message = match up_to {
            None => "All messages have been marked as read.".into(),
            Some(seq) => format!("Messages up to {seq} have been marked as read.").into(),
        };
        Self {
            success: true,
            message,
        }
    }
}

/// A user that the caller has blocked.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Block))]
#[serde(rename_all = "camelCase")]
pub struct BlockView {
    /// The blocked user.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    user_id: u64,
    /// The time when the caller blocked the user.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    blocked_at: String,
}

impl BlockView {
    /// The block of `user` since `blocked_at`.
    #[must_use]
    pub fn new(user: UserId, blocked_at: Timestamp) -> Self {
        Self {
            user_id: user.get(),
            blocked_at: blocked_at.to_string(),
        }
    }
}

/// Confirms that the user is not blocked.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Unblocked))]
pub struct UnblockedView {
    /// Always true.
    #[cfg_attr(feature = "openapi", schema(schema_with = always_true))]
    success: bool,
    /// A text for people.
    message: &'static str,
}

impl UnblockedView {
    /// The user is not blocked.
    pub const UNBLOCKED: Self = Self {
        success: true,
        message: "The user is not blocked.",
    };
}

/// A report. Its reporter cannot see what the operators do with it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Report))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportView {
    #[cfg_attr(feature = "openapi", schema(value_type = ReportId))]
    report_id: String,
    /// The reported user.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    user_id: u64,
    /// The reported message. Null if the user was reported.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Seq>))]
    seq: Option<u64>,
    #[cfg_attr(feature = "openapi", schema(value_type = ReportReason))]
    reason: &'static str,
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
}

impl ReportView {
    /// The view of a report.
    #[must_use]
    pub fn new(report: &Report) -> Self {
        Self {
            report_id: report.id(),
            user_id: report.reported().get(),
            seq: report.seq.map(domain::Seq::get),
            reason: report.reason.as_str(),
            created_at: report.created_at.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{
        Blocks, ChatId, ChatState, Conversation, MemberState, MessageContent, MessagePreview,
        ReportReason, Rev, Seq,
    };

    const ANN: u64 = 17;
    const BEN: u64 = 42;

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn chat_id() -> ChatId {
        ChatId::between(user(ANN), user(BEN)).unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000 + millis)
    }

    /// The chat of Ann and Ben. Ben has sent a message, which is deleted, and Ann has blocked Ben.
    fn chat() -> Chat {
        let conversation = Conversation {
            seq: Seq::new(9),
            rev: Rev::new(2),
            low: MemberState {
                unread: 0,
                held: 3,
                read_seq: Seq::new(5),
            },
            high: MemberState::default(),
            last_message: Some(MessagePreview {
                seq: Seq::new(9),
                sender: user(BEN),
                text: None,
                created_at: at(4),
                deleted: true,
                is_whole: false,
            }),
        };
        Chat {
            state: ChatState::Active(conversation),
            blocks: Blocks {
                version: 1,
                low: Some(at(5)),
                high: None,
            },
            ..Chat::new_request(chat_id(), user(BEN), at(0))
        }
    }

    fn view(value: &impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }

    #[test]
    fn a_block_is_visible_only_to_the_member_who_has_blocked_the_other() {
        let chat = chat();
        let expected = json!({
            "chatId": "17-42", "status": "active", "requesterId": BEN, "recipientId": ANN,
            "blocked": true, "unreadCount": 3, "readSeq": 5, "peerReadSeq": 0, "rev": 2,
            "lastMessage": {
                "seq": 9, "senderId": BEN, "text": null, "deleted": true,
                "createdAt": "2026-01-01T00:00:00.004Z",
            },
            "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
        });
        assert_eq!(view(&ChatView::new(&chat, user(ANN))), expected);
        let blocked_member = view(&ChatView::new(&chat, user(BEN)));
        assert_eq!(blocked_member["blocked"], false);
        assert_eq!(blocked_member["unreadCount"], 0);
        assert_eq!(blocked_member["peerReadSeq"], 5);
    }

    #[test]
    fn a_status_is_in_lower_case() {
        for (state, expected) in [
            (ChatState::Pending { hidden: true }, "pending"),
            (ChatState::Declined, "declined"),
            (ChatState::Withdrawn, "withdrawn"),
        ] {
            let chat = Chat { state, ..chat() };
            let view = view(&ChatView::new(&chat, user(ANN)));
            assert_eq!(view["status"], expected);
            assert_eq!(view["rev"], 0);
        }
    }

    #[test]
    fn a_message_says_when_it_was_edited_and_a_deleted_one_has_no_content() {
        let content = MessageContent::new(Some("hi".to_owned()), None, None).unwrap();
        let sent = Message::new(chat_id(), Seq::new(9), user(BEN), content, at(1));
        let mut expected = json!({
            "messageId": "17-42/9", "chatId": "17-42", "seq": 9, "senderId": BEN, "text": "hi",
            "imageUrl": null, "linkPreviewUrl": null, "status": "sent",
            "createdAt": "2026-01-01T00:00:00.001Z", "editedAt": null, "deletedAt": null,
        });
        assert_eq!(view(&MessageView::new(&sent, false)), expected);
        let deleted = Message {
            content: None,
            edited_at: Some(at(2)),
            deleted_at: Some(at(3)),
            ..sent
        };
        expected["text"] = Value::Null;
        expected["status"] = "read".into();
        expected["editedAt"] = "2026-01-01T00:00:00.002Z".into();
        expected["deletedAt"] = "2026-01-01T00:00:00.003Z".into();
        assert_eq!(view(&MessageView::new(&deleted, true)), expected);
    }

    #[test]
    fn the_totals_always_have_a_version() {
        let mut expected = json!({
            "totalPendingRequest": 0, "totalUnreadMessages": 0, "totalSentRequest": 0, "version": 0,
        });
        assert_eq!(view(&TotalsView::from(Totals::default())), expected);
        let totals = Totals {
            received_requests: 1,
            unread_messages: 2,
            sent_requests: 3,
            version: 41,
        };
        expected["totalPendingRequest"] = 1.into();
        expected["totalUnreadMessages"] = 2.into();
        expected["totalSentRequest"] = 3.into();
        expected["version"] = 41.into();
        assert_eq!(view(&TotalsView::from(totals)), expected);
    }

    #[test]
    fn the_text_about_marked_messages_names_the_last_one_unless_all_are_marked() {
        let text = |up_to: Option<u64>| view(&MarkedAsReadView::new(up_to.map(Seq::new)));
        let all = json!({"success": true, "message": "All messages have been marked as read."});
        assert_eq!(text(None), all);
        let some = "Messages up to 7 have been marked as read.";
        assert_eq!(text(Some(7)), json!({"success": true, "message": some}));
    }

    #[test]
    fn a_report_of_a_user_has_no_seq() {
        let mut report = Report {
            chat: chat_id(),
            reporter: user(ANN),
            seq: Some(Seq::new(9)),
            reason: ReportReason::SelfHarm,
            created_at: at(0),
        };
        let mut expected = json!({
            "reportId": "17-42/17/9", "userId": BEN, "seq": 9, "reason": "self_harm",
            "createdAt": "2026-01-01T00:00:00.000Z",
        });
        assert_eq!(view(&ReportView::new(&report)), expected);
        report.seq = None;
        expected["reportId"] = "17-42/17/0".into();
        expected["seq"] = Value::Null;
        assert_eq!(view(&ReportView::new(&report)), expected);
    }
}
