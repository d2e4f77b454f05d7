//! Part 1.5 of the contract, read from the table: what always holds, whatever happened.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Table;

/// Each invariant that the table breaks, by key; empty when all hold.
pub async fn broken(table: &Table) -> Vec<String> {
    let mut broken = Vec::new();
    let mut chats: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    let mut counted: BTreeMap<(u64, &str), i64> = BTreeMap::new();
    let mut expected: BTreeMap<(u64, &str), i64> = BTreeMap::new();
    for (pk, sk, item) in table.everything().await {
        if let Some(user) = pk.strip_prefix("USER#") {
            let user = user.parse().unwrap();
            for counter in ["pending", "unread", "open"] {
                let count = item[counter].as_i64().unwrap_or(0);
                if count < 0 {
                    broken.push(format!("{pk} {sk}: {counter} is {count}"));
                }
                *counted.entry((user, counter)).or_default() += count;
            }
        } else {
            chats.entry(pk).or_default().insert(sk, item);
        }
    }
    for (pk, items) in &chats {
        let Some(state) = items.get("STATE") else {
            broken.push(format!("{pk}: no STATE"));
            continue;
        };
        let number = |name: &str| state[name].as_u64().unwrap();
        let messages: Vec<_> = items
            .iter()
            .filter(|(sk, _)| sk.starts_with("MSG#"))
            .collect();
        let seqs = messages
            .iter()
            .map(|(sk, _)| sk[4..].parse::<u64>().unwrap());
        if !seqs.eq(1..=number("seq")) {
            broken.push(format!(
                "{pk}: {} messages, but seq {}",
                messages.len(),
                state["seq"]
            ));
        }
        if !messages.is_sorted_by_key(|(_, message)| message["createdAt"].as_u64()) {
            broken.push(format!("{pk}: createdAt decreases"));
        }
        let ids: Vec<u64> = pk[5..].split('-').map(|id| id.parse().unwrap()).collect();
        let members = [
            (ids[0], "lowUnread", "lowReadSeq"),
            (ids[1], "highUnread", "highReadSeq"),
        ];
        for (member, unread, read_seq) in members {
            let after = messages
                .iter()
                .skip(usize::try_from(number(read_seq)).unwrap());
            let count = after
                .filter(|(_, message)| message["senderId"] != member)
                .count();
            if state[unread] != count {
                broken.push(format!("{pk}: {unread} is {}, not {count}", state[unread]));
            }
            *expected.entry((member, "unread")).or_default() += state[unread].as_i64().unwrap();
        }
        if state["status"] == "pending" {
            *expected
                .entry((number("recipientId"), "pending"))
                .or_default() += 1;
            *expected.entry((number("requesterId"), "open")).or_default() += 1;
        }
    }
    for key in counted.keys().chain(expected.keys()) {
        let (is, should_be) = (
            counted.get(key).unwrap_or(&0),
            expected.get(key).unwrap_or(&0),
        );
        if is != should_be {
            broken.push(format!(
                "USER#{}: {} is {is}, not {should_be}",
                key.0, key.1
            ));
        }
    }
    broken.dedup();
    broken
}
