//! Creates the table and test data: users, chats, messages and access tokens.

use std::time::Duration;

use chat_local::{
    dynamodb::{self, EmbeddedDynamoDb},
    template::Template,
    tokens::TokenSigner,
};
use chat_shared::{
    domain::{ChatId, MessageContent, Timestamp, UserId},
    store::{Store, TableClient},
};

use crate::Result;

/// The secret that signs access tokens. A function refuses the development secret from Secrets Manager.
pub const SECRET: &str = "a secret of the benchmark, of 32 bytes or more";

/// Length of a short message in bytes.
pub const SHORT_MESSAGE_BYTES: usize = 200;
/// Lifetime of an access token. It is longer than any benchmark run.
const TOKEN_LIFETIME: Duration = Duration::from_hours(12);

/// Starts an embedded DynamoDB and creates the template's table in it.
pub async fn create_table(template: &Template) -> Result<(EmbeddedDynamoDb, TableClient)> {
    let dynamodb = EmbeddedDynamoDb::start(None).await?;
    let table = &template.table;
    dynamodb::create_table(dynamodb.endpoint(), table, &table.name).await?;
    let client = dynamodb::client_for_endpoint(dynamodb.endpoint());
    Ok((dynamodb, TableClient::new(client, &table.name)))
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

/// An access token, signed with [`SECRET`].
pub fn access_token(user: UserId) -> Result<String> {
    let expires_at = (Timestamp::now() + TOKEN_LIFETIME).seconds();
    let variable = |name: &str| (name == "JWT_SECRET").then(|| SECRET.to_owned());
    let signer = TokenSigner::from_env(variable).ok_or("there is no secret to sign tokens with")?;
    Ok(signer.sign(user, expires_at))
}
