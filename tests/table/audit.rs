//! The operator's check: what it finds in a table that was broken by hand, what it sets right, and
//! that live traffic does not mislead it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    domain::Timestamp,
    store::{AuditEvent, AuditOptions, AuditProgress, Connection},
};

use crate::{
    Local, Table,
    invariants::broken,
    recorder::Recorded,
    support::{User, all},
    weather::{Trouble, Weather},
};

/// What the check says of a table, line by line.
async fn check(table: &Table, options: AuditOptions) -> (Vec<String>, AuditProgress) {
    let mut lines = Vec::new();
    let mut report = |event: AuditEvent<'_>| {
        if let AuditEvent::Broken(broken) = event {
            lines.push(broken.to_string());
        }
    };
    let store = Connection::new(table.client.clone(), &table.name).at(Timestamp::now());
    let progress = store.audit(options, &mut report).await.unwrap();
    lines.sort();
    (lines, progress)
}

/// Nothing else is under way, so nothing has to settle.
const LOOK: AuditOptions = AuditOptions {
    repair: false,
    settle: Duration::ZERO,
};
const REPAIR: AuditOptions = AuditOptions {
    repair: true,
    ..LOOK
};

/// Longer than the weather keeps a message unreadable.
const WHILE_TRAFFIC_GOES_ON: AuditOptions = AuditOptions {
    repair: true,
    settle: Duration::from_millis(350),
};

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// Ann and Ben with three messages, one of them Ben's, two unread; Cem has asked Ann.
struct Town {
    local: Local,
    ann: User,
    ben: User,
    cem: User,
    chat: String,
    pk: String,
}

impl Town {
    async fn new() -> Self {
        let local = Local::start().await;
        let [ann, ben, cem] = [11, 22, 33].map(|id| local.api.user_with_id(id));
        let chat = ann.befriend(&ben).await;
        ann.say(&chat, "one").await.is(201);
        ann.say_once(&chat, "key", "two").await.is(201);
        ben.say(&chat, "three").await.is(201);
        cem.ask(&ann).await.is(201);
        let pk = format!("CHAT#{chat}");
        Self {
            local,
            ann,
            ben,
            cem,
            chat,
            pk,
        }
    }

    fn table(&self) -> &Table {
        &self.local.table
    }

    async fn set(&self, sk: &str, attribute: &str, value: AttributeValue) {
        self.table().set(&self.pk, sk, attribute, value).await;
    }
}

/// Where the totals of a user count a chat.
async fn shards(table: &Table, user: u64) -> Vec<String> {
    let mut items: Vec<_> = table.user(user).await.into_keys().collect();
    items.retain(|sk| sk.starts_with("TOTALS#"));
    items
}

#[tokio::test]
async fn a_sound_table_has_nothing_wrong() {
    let town = Town::new().await;
    let (lines, progress) = check(town.table(), LOOK).await;
    assert_eq!(lines, [""; 0]);
    assert_eq!((progress.chats, progress.users), (2, 3));
    assert_eq!(progress.items, town.table().everything().await.len() as u64);
    assert_eq!((progress.broken, progress.repaired), (0, 0));
}

#[tokio::test]
async fn wrong_counts_are_found_by_key_and_set_right() {
    let town = Town::new().await;
    let table = town.table();
    let sound = table.everything().await;
    let bens_shard = shards(table, 22).await.remove(0);
    let negative = AttributeValue::N("-1".to_owned());
    town.set("STATE", "lowUnread", negative).await;
    town.set("STATE", "requesterKey", text("11#pending")).await;
    table.set("USER#22", &bens_shard, "unread", number(5)).await;
    table.set("USER#33", "SENT", "open", number(0)).await;
    // All of Ann's counters, so that no walk over the table comes to them.
    for sk in table.user(11).await.keys() {
        table.delete("USER#11", sk).await;
    }

    let (lines, progress) = check(table, LOOK).await;
    let has = |line: &str| assert!(lines.iter().any(|it| it == line), "no {line:?}: {lines:#?}");
    has("CHAT#11-22 STATE: lowUnread is -1, not 1");
    has("CHAT#11-22 STATE: requesterKey is 11#pending, not 11#active");
    has(&format!("USER#22 {bens_shard}: unread is 5, not 2"));
    has("USER#33 SENT: open is 0, not 1");
    assert!(
        lines
            .iter()
            .any(|it| it.starts_with("USER#11 TOTALS#") && it.ends_with("pending is 0, not 1")),
        "{lines:#?}"
    );
    assert_eq!(
        (progress.broken, progress.repaired),
        (lines.len() as u64, 0)
    );
    assert_ne!(broken(table).await, [""; 0]);

    let (lines, progress) = check(table, REPAIR).await;
    assert!(
        lines.iter().all(|it| it.ends_with(" (repaired)")),
        "{lines:#?}"
    );
    assert_eq!(progress.broken, progress.repaired);
    assert_eq!(check(table, LOOK).await.0, [""; 0]);
    assert_eq!(broken(table).await, [""; 0]);
    let chats = |mut everything: Vec<(String, String, serde_json::Value)>| {
        everything.retain(|(pk, _, _)| pk.starts_with("CHAT#"));
        everything
    };
    assert_eq!(chats(table.everything().await), chats(sound));
    assert_eq!(town.ann.totals().await, [1, 1, 0]);
    assert_eq!(town.ben.totals().await, [0, 2, 0]);
    assert_eq!(town.cem.totals().await, [0, 0, 1]);
}

#[tokio::test]
async fn what_cannot_be_counted_again_is_reported_and_left_alone() {
    let town = Town::new().await;
    let table = town.table();
    town.set("KEY#11#key", "seq", number(9)).await;
    town.set("MSG#0000000000000003", "createdAt", number(1))
        .await;
    town.set("STATE", "highReadSeq", number(4)).await;
    table.delete(&town.pk, "MSG#0000000000000001").await;
    table.set("SOMETHING", "ELSE", "a", number(1)).await;
    table
        .set("CHAT#11-33", "STATE", "seq", text("secret"))
        .await;
    table.set("USER#44", "SENT", "open", text("secret")).await;
    let (lines, progress) = check(table, REPAIR).await;
    let lost: Vec<_> = lines
        .iter()
        .filter(|it| !it.ends_with("(repaired)"))
        .collect();
    assert_eq!(
        lost,
        [
            "CHAT#11-22 KEY#11#key: names message 9, but seq is 3",
            "CHAT#11-22 MSG#0000000000000002: the messages from 1 to 1 are missing",
            "CHAT#11-22 MSG#0000000000000003: createdAt is before that of message 2",
            "CHAT#11-22 STATE: highReadSeq is 4, past seq 3",
            "CHAT#11-33 STATE: cannot be read",
            "SOMETHING : belongs to no chat and no user",
            "USER#11 SENT: not judged: one of the user's chats cannot be read; mend that first",
            "USER#33 SENT: not judged: one of the user's chats cannot be read; mend that first",
            "USER#44 SENT: cannot be read",
        ]
    );
    assert_eq!(
        (progress.broken, progress.repaired, progress.unjudged),
        (7, 0, 2)
    );
    let sound = AttributeValue::N("0".to_owned());
    table.set("CHAT#11-33", "STATE", "seq", sound.clone()).await;
    table.set("USER#44", "SENT", "open", sound).await;
    // Nobody can say how many are unread, so that is left as it was.
    assert_eq!(town.ben.totals().await, [0, 2, 0]);

    town.set("STATE", "seq", number(2)).await;
    let (lines, _) = check(table, LOOK).await;
    let has = |line: &str| assert!(lines.iter().any(|it| it == line), "no {line:?}: {lines:#?}");
    has("CHAT#11-22 STATE: seq is 2, but there is message 3");
    has("CHAT#11-22 STATE: lastMessage is not the last message");
    town.set("STATE", "seq", number(4)).await;
    let (lines, _) = check(table, LOOK).await;
    assert!(
        lines.contains(&"CHAT#11-22 STATE: the messages from 4 to 4 are missing".to_owned()),
        "{lines:#?}"
    );
    table.delete(&town.pk, "STATE").await;
    let (lines, _) = check(table, LOOK).await;
    assert!(
        lines.contains(&"CHAT#11-22 STATE: is missing".to_owned()),
        "{lines:#?}"
    );
    assert_eq!(town.chat, "11-22");
}

#[tokio::test]
async fn a_long_chat_and_a_user_with_many_are_looked_at_page_by_page() {
    let local = Local::start().await;
    let me = local.api.user();
    let friend = local.api.user();
    let chat = friend.befriend(&me).await;
    // More than the 1 MB at which DynamoDB cuts a page.
    for _ in 0..70 {
        friend.say(&chat, &"𝕏".repeat(4_096)).await.is(201);
    }
    for _ in 0..110 {
        local.api.user().ask(&me).await.is(201);
    }
    assert_eq!(check(&local.table, LOOK).await.0, [""; 0]);
    local
        .table
        .set(&format!("CHAT#{chat}"), "STATE", "seq", number(71))
        .await;
    let (lines, _) = check(&local.table, LOOK).await;
    let missing = format!("CHAT#{chat} STATE: the messages from 71 to 71 are missing");
    assert!(lines.contains(&missing), "{lines:#?}");
}

/// Users that go on writing, reading, asking and answering until told to stop.
fn traffic(users: &[User], over: &Arc<AtomicBool>) -> impl Future<Output = ()> + use<> {
    let calls = users.iter().cloned().enumerate().map(|(n, me)| {
        let (others, over) = (users.to_vec(), over.clone());
        async move {
            let mut random = fastrand::Rng::with_seed(n as u64);
            while !over.load(Ordering::Relaxed) {
                let other = &others[random.usize(..others.len())];
                if other.id == me.id {
                    continue;
                }
                let chat = me.chat_with(other);
                match random.u8(..10) {
                    0 => me.ask(other).await,
                    1 => me.accept(&chat).await,
                    2 => me.decline(&chat).await,
                    3 | 4 => me.mark_read(&chat).await,
                    _ => me.say(&chat, "hello").await,
                };
            }
        }
    });
    let calls: Vec<_> = calls.collect();
    async move {
        all(calls).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_traffic_does_not_mislead_it_and_it_repairs_beside_it() {
    let recorded = Recorded::start().await;
    // The check meets the weather, too.
    let stack = &recorded.local.stack;
    let table = &Table::at(stack.dynamodb_endpoint(), stack.table());
    let users: Vec<_> = (1..=6)
        .map(|id| recorded.local.api.user_with_id(id))
        .collect();
    let chat = users[0].befriend(&users[1]).await;
    recorded.weather(Weather::rough(1, &[Trouble::TornRead, Trouble::Slow], 0.2));
    let over = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn(traffic(&users, &over));
    for _ in 0..3 {
        let (lines, _) = check(table, WHILE_TRAFFIC_GOES_ON).await;
        let wrong: Vec<_> = lines
            .iter()
            .filter(|it| !it.contains("not judged"))
            .collect();
        assert_eq!(wrong, [""; 0]);
    }
    // A badge that lies, in a shard that is written to all the time.
    users[0].say(&chat, "hello").await;
    let shard = shards(table, 2).await.remove(0);
    let add = table.client.update_item().table_name(&table.name);
    let add = add.key("pk", text("USER#2")).key("sk", text(&shard));
    let add = add.update_expression("ADD unread :five");
    let add = add.expression_attribute_values(":five", number(5));
    add.send().await.unwrap();
    let mut repaired = false;
    for _ in 0..20 {
        let (lines, _) = check(table, WHILE_TRAFFIC_GOES_ON).await;
        repaired = lines.iter().any(|it| it.ends_with("(repaired)"));
        if repaired {
            break;
        }
    }
    assert!(repaired, "20 walks did not find the badge that lies");
    over.store(true, Ordering::Relaxed);
    traffic.await.unwrap();
    recorded.weather(Weather::fair());
    recorded.quiet().await;
    assert_eq!(broken(table).await, [""; 0]);
    assert_eq!(check(table, LOOK).await.0, [""; 0]);
}
