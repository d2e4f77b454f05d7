//! Torn reads: the items of a transaction become readable at different times.
//!
//! DynamoDB applies all writes of a transaction, but promises a reader of several items no more than
//! "read-committed": one item can already be new while another one is still old. Until an item is new, it is locked
//! for other writes. The embedded DynamoDB applies a transaction at one instant. So the proxy puts the old version
//! of some items back, and writes the new version later. That way every kind of read sees the same.

use std::time::Duration;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::{
    ItemKey, ItemLocks, ProxyState, RawResponse, Received, bad_request,
    faults::{LateItems, Until},
    item_keys, key_attributes, table_name, transaction_token,
};

impl ProxyState {
    /// Applies a transaction, and makes some of its items readable later than the others.
    pub async fn apply_in_parts(
        &self,
        received: &Received,
        late: LateItems,
        until: Until,
    ) -> RawResponse {
        let Received {
            headers, request, ..
        } = received;
        let locks = match self.lock_items(request) {
            Ok(locks) => locks,
            Err(error) => return bad_request(&error),
        };
        let lock_time = locks
            .as_ref()
            .map_or(Duration::ZERO, |locks| locks.duration);
        tokio::time::sleep(lock_time).await;
        let mut keys = item_keys(request);
        keys.retain(|key| late.contains(key));
        let commit = self.commits.write().await;
        let old = self.read_items(headers, request, &keys).await;
        let response = self.send_and_remember_rows(received).await;
        if !response.0.is_success() {
            // A cancelled transaction has written nothing.
            if let Some(locks) = locks {
                self.unlock_items(request, &locks.keys);
            }
            return response;
        }
        let new = self.read_items(headers, request, &keys).await;
        self.write_items(headers, request, &keys, &old).await;
        self.lock_only(request, locks, &keys);
        drop(commit);
        match until {
            Until::Elapsed(duration) => tokio::time::sleep(duration).await,
            Until::Released => self.wait_for_release().await,
        }
        let commit = self.commits.write().await;
        self.write_items(headers, request, &keys, &new).await;
        drop(commit);
        self.unlock_items(request, &keys);
        response
    }

    /// Replaces the locks of a transaction by locks of these items.
    fn lock_only(&self, transaction: &Value, locks: Option<ItemLocks>, keys: &[ItemKey]) {
        let data = &mut *self.data();
        let locked = locks.map(|locks| locks.keys).unwrap_or_default();
        data.locked_items.retain(|key| !locked.contains(key));
        data.locked_items.extend(keys.iter().cloned());
        data.locking_tokens.insert(transaction_token(transaction));
    }

    /// Writes or deletes items without a transaction.
    async fn write_items(
        &self,
        headers: &HeaderMap,
        transaction: &Value,
        keys: &[ItemKey],
        items: &[Option<Value>],
    ) {
        let table = table_name(transaction);
        for (key, item) in keys.iter().zip(items) {
            if let Some(item) = item {
                let request = json!({"TableName": table, "Item": item});
                self.call(headers, "PutItem", &request).await;
            } else {
                let request = json!({"TableName": table, "Key": key_attributes(key)});
                self.call(headers, "DeleteItem", &request).await;
            }
        }
    }
}
