//! Unprocessed keys: DynamoDB reads only a part of a batch when the table is throttled or the response would be too
//! large, and returns the other keys.

use hyper::body::Bytes;
use serde_json::{Map, Value};

use super::{Delivery, ProxyState, RawResponse, Received};

/// How many keys a `BatchGetItem` has. `None` for other operations.
pub fn batch_keys(request: &Value) -> Option<usize> {
    let tables = request["RequestItems"].as_object()?.values();
    let keys = |table: &Value| table["Keys"].as_array().map_or(0, Vec::len);
    Some(tables.map(keys).sum())
}

impl ProxyState {
    /// Reads some of the keys of a `BatchGetItem`, at least one, and returns the others as unprocessed.
    pub async fn read_part_of_batch(&self, received: &Received, seed: u64) -> RawResponse {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut request = received.request.clone();
        let mut unprocessed = Map::new();
        for (name, table) in request["RequestItems"]
            .as_object_mut()
            .into_iter()
            .flatten()
        {
            let mut rest = table.clone();
            let keys = table["Keys"].as_array_mut().unwrap();
            random.shuffle(keys);
            let rest_keys = keys.split_off(random.usize(1..keys.len().max(2)));
            if !rest_keys.is_empty() {
                rest["Keys"] = rest_keys.into();
                unprocessed.insert(name.clone(), rest);
            }
        }
        let part = Received {
            name: received.name.clone(),
            is_from_function: received.is_from_function,
            ports: received.ports,
            headers: received.headers.clone(),
            body: Bytes::from(request.to_string()),
            request,
        };
        let (status, body) = self.forward(&part, Delivery::Immediate).await;
        if !status.is_success() {
            return (status, body);
        }
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        body["UnprocessedKeys"] = Value::Object(unprocessed);
        (status, Bytes::from(body.to_string()))
    }
}
