// POST /chats/{chatId}/messages for comparison: reads the chat, then writes the chat, the message and the
// recipient's total in one transaction. Items and conditions are the same as in the Rust function.
import { GetItemCommand, TransactWriteItemsCommand } from "@aws-sdk/client-dynamodb";
import { authenticate, client, response, TableName } from "./shared.mjs";

const ReturnConsumedCapacity = "TOTAL";
const ReturnValuesOnConditionCheckFailure = "ALL_OLD";
const N = (number) => ({ N: String(number) });
const S = (text) => ({ S: text });

// The shard of the recipient's totals. It must be the same hash as in the Rust functions.
function totalsShard(low, high) {
  const mask = (1n << 64n) - 1n;
  const lower = BigInt(low);
  const rotated = ((lower << 32n) | (lower >> 32n)) & mask;
  const mixed = ((rotated ^ BigInt(high)) * 0x9e3779b97f4a7c15n) & mask;
  return (mixed >> 32n) % 8n;
}

export async function handler(event) {
  const sender = authenticate(event);
  if (sender === null) return response(401, { code: "unauthorized" });
  const { text } = JSON.parse(event.body);
  if (typeof text !== "string" || !text.trim() || [...text].length > 4096) {
    return response(400, { code: "invalid_request" });
  }
  const chatId = event.pathParameters.chatId;
  const [low, high] = chatId.split("-").map(Number);
  if (sender !== low && sender !== high) return response(404, { code: "chat_not_found" });

  const pk = S(`CHAT#${chatId}`);
  const state = { pk, sk: S("STATE") };
  const { Item: chat } = await client.send(
    new GetItemCommand({ TableName, Key: state, ConsistentRead: true, ReturnConsumedCapacity }),
  );
  if (!chat) return response(404, { code: "chat_not_found" });
  if (chat.status.S !== "active") return response(409, { code: "chat_not_active" });

  const seq = Number(chat.seq.N) + 1;
  const now = Math.max(Date.now(), Number(chat.updatedAt.N));
  const pad = (number, width) => String(number).padStart(width, "0");
  const preview = {
    seq: N(seq),
    senderId: N(sender),
    text: S([...text].slice(0, 120).join("")),
    createdAt: N(now),
    // An event needs no read of such a message.
    ...([...text].length <= 120 && { whole: { BOOL: true } }),
  };
  await client.send(
    new TransactWriteItemsCommand({
      ReturnConsumedCapacity,
      TransactItems: [
        {
          Update: {
            TableName,
            Key: state,
            UpdateExpression:
              "SET seq = :next, #unread = #unread + :one, lastMessage = :preview, updatedAt = :now, activity = :activity",
            ConditionExpression: "seq = :seq AND #status = :active",
            ExpressionAttributeNames: {
              "#unread": sender === low ? "highUnread" : "lowUnread",
              "#status": "status",
            },
            ExpressionAttributeValues: {
              ":next": N(seq),
              ":one": N(1),
              ":preview": { M: preview },
              ":now": N(now),
              ":activity": S(`${pad(now, 15)}#${pad(low, 16)}-${pad(high, 16)}`),
              ":seq": chat.seq,
              ":active": S("active"),
            },
            ReturnValuesOnConditionCheckFailure,
          },
        },
        {
          Put: {
            TableName,
            Item: {
              pk,
              sk: S(`MSG#${pad(seq, 16)}`),
              type: S("Message"),
              senderId: N(sender),
              text: S(text),
              createdAt: N(now),
            },
          },
        },
        {
          Update: {
            TableName,
            Key: { pk: S(`USER#${sender === low ? high : low}`), sk: S(`TOTALS#${totalsShard(low, high)}`) },
            UpdateExpression: "SET #type = :type ADD #total :one, #changes :one",
            ExpressionAttributeNames: { "#type": "type", "#total": "unread", "#changes": "changes" },
            ExpressionAttributeValues: { ":type": S("Totals"), ":one": N(1) },
            ReturnValuesOnConditionCheckFailure,
          },
        },
      ],
    }),
  );
  return response(201, {
    messageId: `${chatId}/${seq}`,
    chatId,
    seq,
    senderId: sender,
    text,
    imageUrl: null,
    linkPreviewUrl: null,
    status: "sent",
    createdAt: new Date(now).toISOString(),
  });
}
