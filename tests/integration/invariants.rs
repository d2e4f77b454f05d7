//! Invariants of the table: the guarantees of the contract, verified by reading every item.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Table;

/// One line for each violated invariant, with the key of the item; empty if there is no violation.
pub async fn invariant_violations(table: &Table) -> Vec<String> {
    let mut violations = Vec::new();
    let mut chats: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    let mut actual_totals: BTreeMap<(u64, &str), i64> = BTreeMap::new();
    let mut expected_totals: BTreeMap<(u64, &str), i64> = BTreeMap::new();
    for (pk, sk, item) in table.everything().await {
        if let Some(user) = pk.strip_prefix("USER#") {
            let user = user.parse().unwrap();
            for counter in ["pending", "unread", "open"] {
                let count = item[counter].as_i64().unwrap_or(0);
                if count < 0 {
                    violations.push(format!(
                        "{pk} {sk}: {counter} is {count}, which is negative"
                    ));
                }
                *actual_totals.entry((user, counter)).or_default() += count;
            }
        } else {
            chats.entry(pk).or_default().insert(sk, item);
        }
    }
    for (pk, items) in &chats {
        let Some(state) = items.get("STATE") else {
            violations.push(format!("{pk}: STATE is missing"));
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
            violations.push(format!(
                "{pk}: there are {} messages, but seq is {}",
                messages.len(),
                state["seq"]
            ));
        }
        if !messages.is_sorted_by_key(|(_, message)| message["createdAt"].as_u64()) {
            violations.push(format!("{pk}: createdAt decreases"));
        }
        let ids: Vec<u64> = pk[5..].split('-').map(|id| id.parse().unwrap()).collect();
        let members = [
            (ids[0], "lowUnread", "lowReadSeq"),
            (ids[1], "highUnread", "highReadSeq"),
        ];
        for (member, unread, read_seq) in members {
            let after_watermark = messages
                .iter()
                .skip(usize::try_from(number(read_seq)).unwrap());
            let count = after_watermark
                .filter(|(_, message)| message["senderId"] != member)
                .count();
            if state[unread] != count {
                violations.push(format!(
                    "{pk}: {unread} is {}, should be {count}",
                    state[unread]
                ));
            }
            *expected_totals.entry((member, "unread")).or_default() +=
                state[unread].as_i64().unwrap();
        }
        violations.extend(wrong_index_keys(pk, state, [ids[0], ids[1]]));
        if state["status"] == "pending" {
            *expected_totals
                .entry((number("recipientId"), "pending"))
                .or_default() += 1;
            *expected_totals
                .entry((number("requesterId"), "open"))
                .or_default() += 1;
        }
    }
    for key in actual_totals.keys().chain(expected_totals.keys()) {
        let (actual, correct) = (
            actual_totals.get(key).unwrap_or(&0),
            expected_totals.get(key).unwrap_or(&0),
        );
        if actual != correct {
            violations.push(format!(
                "USER#{}: {} is {actual}, should be {correct}",
                key.0, key.1
            ));
        }
    }
    violations.dedup();
    violations
}

/// One line for each key attribute of the indexes that does not fit the state of a chat. Lists of chats are
/// queries for these attributes.
fn wrong_index_keys(pk: &str, state: &Value, [low, high]: [u64; 2]) -> Vec<String> {
    let status = state["status"].as_str().unwrap();
    let updated_at = state["updatedAt"].as_u64().unwrap();
    let keys = [
        ("requesterKey", format!("{}#{status}", state["requesterId"])),
        ("recipientKey", format!("{}#{status}", state["recipientId"])),
        ("activity", format!("{updated_at:015}#{low:016}-{high:016}")),
    ];
    let wrong = keys.into_iter().filter(|(name, key)| state[*name] != *key);
    wrong
        .map(|(name, key)| format!("{pk}: {name} is {}, should be {key}", state[name]))
        .collect()
}
