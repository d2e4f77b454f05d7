//! Reports of users and messages, for operators.

use super::{
    Store,
    items::{Item, PreviousContentItem, ReportItem},
    retry::not_readable_yet,
};
use crate::{
    Error,
    domain::{Chat, Message, MessageContent, NewReport, Report, Transition},
};

/// The outcome of a report.
pub enum ReportOutcome {
    /// The report was stored.
    Created(Report),
    /// The same user has reported the same earlier. Contains the first report.
    Existing(Report),
}

impl Store {
    /// Stores a report, and blocks the reported user if the report says so: both or neither.
    ///
    /// # Errors
    /// [`Error::MessageNotFound`] unless the report is about the user, or about a message of the other member;
    /// [`Error::NotEnabled`].
    pub async fn report_user(&self, report: &NewReport) -> Result<ReportOutcome, Error> {
        const STATE: usize = 0;

        self.require_safety_features()?;
        let (id, by) = (report.chat, report.reporter);
        let (mut current, message) = self.reported_message(report).await?;
        loop {
            let block = |now| match &current {
                _ if !report.block => Transition::Unchanged,
                None => Transition::To(Chat::new_block(id, by, now)),
                Some(chat) => chat.block(by, now),
            };
            let written = self.transact_planned(|now| {
                let mut writes = Vec::new();
                if let Transition::To(to) = block(now) {
                    writes = self.transition_writes(current.as_ref(), &to)?;
                }
                let item = ReportItem::write(report, message.as_ref(), now)?;
                let stored = ReportItem::read(item.clone())?.report()?;
                writes.push(self.put(item, "attribute_not_exists(pk)", &[], vec![]));
                Ok((writes, stored))
            });
            let mut failures = match written.await? {
                Ok(report) => return Ok(ReportOutcome::Created(report)),
                Err(failures) => failures,
            };
            if let Some(item) = failures.take_last_old_item() {
                let first = ReportItem::read(item)?.report()?;
                if report.block {
                    self.block_user(by, id).await?;
                }
                return Ok(ReportOutcome::Existing(first));
            }
            let found = failures.take_old_item(STATE);
            current = found.map(|item| self.read_chat(item)).transpose()?;
        }
    }

    /// The chat, if the report needs it, and the reported message with its last content.
    async fn reported_message(
        &self,
        report: &NewReport,
    ) -> Result<(Option<Chat>, Option<Message>), Error> {
        let id = report.chat;
        let Some(seq) = report.seq else {
            let chat = if report.block {
                self.chat(id).await?
            } else {
                None
            };
            return Ok((chat, None));
        };
        let (chat, message) = tokio::try_join!(self.chat(id), self.message(id, seq))?;
        let chat = chat.ok_or(Error::MessageNotFound)?;
        let mut message = self.require_message(&chat, seq, message).await?;
        if message.sender == report.reporter {
            return Err(Error::MessageNotFound);
        }
        if message.content.is_none() {
            message.content = self.previous_content(&message).await?;
        }
        Ok((Some(chat), Some(message)))
    }

    /// What a deleted message contained, unless that was deleted, too.
    async fn previous_content(&self, deleted: &Message) -> Result<Option<MessageContent>, Error> {
        let key = PreviousContentItem::key(deleted.chat_id, deleted.seq, deleted.rev);
        // The message can be readable earlier than the other items of the same transaction.
        let may_be_late = deleted
            .deleted_at
            .is_some_and(|at| self.may_be_half_readable(at));
        let is_complete = |item: &Option<Item>| item.is_some() || !may_be_late;
        let item = self
            .reread_until(|| self.get(key.clone()), is_complete)
            .await?;
        if !is_complete(&item) {
            return Err(not_readable_yet());
        }
        let item = item.map(PreviousContentItem::read).transpose()?;
        // The table's TTL deletes items some time after they have expired.
        let item = item.filter(|item| item.expires_at > self.now().seconds());
        Ok(item.map(|item| {
            MessageContent::from_parts(item.text, item.image_url, item.link_preview_url)
        }))
    }
}
