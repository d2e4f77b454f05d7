//! `GET /totals` with the SDK's default settings, as its developer guide shows them: every crate has its
//! default features, the client uses the default configuration, and the first request opens the
//! connection. Token, query and response are the same as in the chat function.

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ReturnConsumedCapacity},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

struct Function {
    client: Client,
    table: String,
    key: DecodingKey,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let function = &Function {
        client: Client::new(&config),
        table: std::env::var("TABLE_NAME")?,
        key: DecodingKey::from_secret(std::env::var("JWT_SECRET")?.as_bytes()),
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        function.handle(&event.payload).await
    }))
    .await
}

impl Function {
    async fn handle(&self, event: &Value) -> Result<Value, Error> {
        let Some(user) = self.authenticate(event) else {
            return Ok(json!({"statusCode": 401}));
        };
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", AttributeValue::S(format!("USER#{user}")))
            .expression_attribute_values(":first", AttributeValue::S("SENT".to_owned()))
            .expression_attribute_values(":last", AttributeValue::S("TOTALS#7".to_owned()))
            .consistent_read(true)
            .limit(9)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await?;
        let total = |name: &str| -> i64 {
            let counters = output.items().iter().filter_map(|item| item.get(name));
            let counters = counters.filter_map(|value| value.as_n().ok()?.parse::<i64>().ok());
            counters.sum()
        };
        let body = json!({
            "totalPendingRequest": total("pending"),
            "totalUnreadMessages": total("unread"),
            "totalSentRequest": total("open"),
            "version": total("changes"),
        });
        Ok(json!({
            "statusCode": 200,
            "headers": {"content-type": "application/json"},
            "body": body.to_string(),
        }))
    }

    /// The user of a valid token.
    fn authenticate(&self, event: &Value) -> Option<u64> {
        let header = event["headers"]["authorization"].as_str()?;
        let token = header.strip_prefix("Bearer ")?;
        let validation = Validation::new(Algorithm::HS256);
        let token = jsonwebtoken::decode::<Claims>(token, &self.key, &validation).ok()?;
        token.claims.sub.parse().ok()
    }
}
