//! Creates the table and test data: users, chats, messages, connections, access tokens, and records of the
//! table's stream. Checks that the data is as the functions would have written it.

use std::time::Duration;

use chat_admin::check::{self, CheckEvent, CheckOptions};
use chat_local::{
    dynamodb::{self, EmbeddedDynamoDb},
    template::Template,
    tokens::TokenSigner,
};
use chat_shared::{
    domain::{ChatId, MessageContent, Timestamp, UserId},
    store::{
        Connection, Store, TableClient,
        items::{ChatItem, Item},
    },
};
use serde_json::{Value, json};

use crate::Result;

/// The secret that signs access tokens. A function refuses the development secret from Secrets Manager.
pub const SECRET: &str = "a secret of the benchmark, of 32 bytes or more";

/// Length of a short message in bytes.
pub const SHORT_MESSAGE_BYTES: usize = 200;
/// Lifetime of an access token. It is longer than any benchmark run.
const TOKEN_LIFETIME: Duration = Duration::from_hours(12);

/// Starts an embedded DynamoDB and creates the template's table in it, without its stream.
pub async fn create_table(template: &Template) -> Result<(EmbeddedDynamoDb, TableClient)> {
    let dynamodb = EmbeddedDynamoDb::start(None).await?;
    let table = &template.table;
    dynamodb::create_table(dynamodb.endpoint(), table, &table.name).await?;
    let client = dynamodb::client_for_endpoint(dynamodb.endpoint());
    Ok((dynamodb, TableClient::new(client, &table.name)))
}

/// Fails with this error unless the condition is true.
pub fn ensure(condition: bool, error: &str) -> Result<()> {
    if condition { Ok(()) } else { Err(error.into()) }
}

/// Checks that the table has no invariant violations.
pub async fn check_table(store: &Store) -> Result<()> {
    let mut violations = Vec::new();
    let mut report = |event: CheckEvent<'_>| {
        if let CheckEvent::Violation(violation) = event {
            violations.push(violation.to_string());
        }
    };
    let options = CheckOptions {
        repair: false,
        settle: Duration::ZERO,
    };
    check::check_table(store, options, &mut report).await?;
    ensure(violations.is_empty(), &violations.join("\n"))
}

/// Creates an active chat: `requester` requests it and the other member accepts.
pub async fn start_chat(store: &Store, requester: UserId, chat: ChatId) -> Result<()> {
    store.request_chat(requester, chat).await?;
    store.accept_chat(chat.peer_of(requester), chat).await?;
    Ok(())
}

/// The user with this number.
pub fn user_id(id: u64) -> Result<UserId> {
    UserId::new(id).ok_or_else(|| format!("{id} is not a valid user id").into())
}

/// The id of the chat between two users.
pub fn chat_id(one: u64, other: u64) -> Result<ChatId> {
    ChatId::between(user_id(one)?, user_id(other)?)
        .ok_or_else(|| "a chat needs two different users".into())
}

/// The content of a short message.
pub fn short_message() -> Result<MessageContent> {
    let text = "x".repeat(SHORT_MESSAGE_BYTES);
    Ok(MessageContent::new(Some(text), None, None)?)
}

/// A connection that is open from now on and longer than any benchmark run.
pub fn connection(id: String) -> Connection {
    let now = Timestamp::now();
    Connection {
        id,
        connected_at: now,
        token_expires_at: now + TOKEN_LIFETIME,
    }
}

/// Sends a message of the member with the lower id, and returns the record of that change of the chat,
/// as the table's stream has it. The sequence number is unique in a batch.
pub async fn send_and_record(
    store: &Store,
    chat: ChatId,
    content: MessageContent,
    sequence_number: u64,
) -> Result<Value> {
    let before = chat_image(store, chat).await?;
    store.send_message(chat.low(), chat, content, None).await?;
    let after = chat_image(store, chat).await?;
    let key = ChatItem::key(chat);
    Ok(json!({
        "eventID": format!("{:032x}", fastrand::u128(..)),
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": Timestamp::now().seconds(),
            "Keys": {"pk": {"S": key.pk}, "sk": {"S": key.sk}},
            "OldImage": before,
            "NewImage": after,
            "SequenceNumber": format!("{sequence_number:021}"),
            // Roughly; no function reads it.
            "SizeBytes": before.to_string().len() + after.to_string().len(),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:000000000000:table/bench/stream/bench",
    }))
}

/// The item of a chat in the JSON of DynamoDB, as a record of the stream contains it.
async fn chat_image(store: &Store, chat: ChatId) -> Result<Value> {
    let item: Item = store
        .get(ChatItem::key(chat))
        .await?
        .ok_or("the chat is missing")?;
    Ok(serde_json::to_value(serde_dynamo::Item::from(item))?)
}

/// An access token, signed with [`SECRET`].
pub fn access_token(user: UserId) -> Result<String> {
    let expires_at = (Timestamp::now() + TOKEN_LIFETIME).seconds();
    let variable = |name: &str| (name == "JWT_SECRET").then(|| SECRET.to_owned());
    let signer = TokenSigner::from_env(variable).ok_or("there is no secret to sign tokens with")?;
    Ok(signer.sign(user, expires_at))
}
