//! Blocks and reports of one user.

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    domain::{NewReport, ReportReason},
    store::{
        ChatList, Store,
        items::{ItemKey, ReportItem},
    },
};

use super::{ScalingBenchmark, Section, chats::ListPages, powers_of_ten};
use crate::{
    Result,
    dataset::{chat_id, user_id},
};

/// The user who blocks and reports more and more others.
const USER: u64 = 2_000_000;

impl ScalingBenchmark {
    /// Measures lists of blocks, and one more block and report of a user who has up to `max` of each.
    pub(super) async fn measure_safety(&self, max: u64) -> Result<Vec<Section>> {
        let user = user_id(USER)?;
        // A user who has not been blocked yet.
        let one_more = report_of(max + 1)?;
        let other = one_more.chat;
        let block = async |store: &Store| {
            store.block_user(user, other).await?;
            Ok(())
        };
        let unblock = async |store: &Store| Ok(store.unblock_user(user, other).await?);
        let report = async |store: &Store| {
            store.report_user(&one_more).await?;
            Ok(())
        };
        let (mut blocks, mut unblocks, mut reports) = (vec![], vec![], vec![]);
        let mut pages = ListPages::default();
        let mut count = 0;
        for size in powers_of_ten(max) {
            eprintln!("Measuring a user with {size} blocks and reports …");
            let add = async |n| {
                let report = NewReport {
                    block: true,
                    ..report_of(n)?
                };
                self.store().report_user(&report).await?;
                Ok(())
            };
            self.fill(count + 1..=size, add).await?;
            count = size;
            let prepare = async || unblock(&self.store()).await;
            blocks.push(self.measure(size, prepare, &block).await?);
            let prepare = async || block(&self.store()).await;
            unblocks.push(self.measure(size, prepare, &unblock).await?);
            let prepare = async || self.delete(ReportItem::key(other, user, None)).await;
            reports.push(self.measure(size, prepare, &report).await?);
            self.measure_pages(&mut pages, user, ChatList::Blocked, size)
                .await?;
        }
        Ok(vec![
            Section {
                name: "safety",
                title: "Block, unblock and report a user",
                note: "The pair has no chat.",
                size: "blocks and reports of the user",
                series: vec![
                    ("block", blocks),
                    ("unblock", unblocks),
                    ("report", reports),
                ],
            },
            Section {
                name: "blocks",
                title: "A page of 15 blocks",
                note: "",
                size: "blocks of the user",
                series: pages.into_series(),
            },
        ])
    }

    /// Deletes an item, if it exists.
    async fn delete(&self, key: ItemKey) -> Result<()> {
        let request = self.client.delete_item().table_name(&self.table_name);
        let request = request.key("pk", AttributeValue::S(key.pk));
        request.key("sk", AttributeValue::S(key.sk)).send().await?;
        Ok(())
    }
}

/// A report of the other user with this number.
fn report_of(number: u64) -> Result<NewReport> {
    Ok(NewReport {
        reporter: user_id(USER)?,
        chat: chat_id(USER, USER + number)?,
        seq: None,
        reason: ReportReason::Spam,
        note: None,
        block: false,
    })
}
