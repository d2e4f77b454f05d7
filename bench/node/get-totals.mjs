// GET /totals: one consistent query of all of the caller's counters.
import { QueryCommand } from "@aws-sdk/client-dynamodb";
import { answer, caller, client, TableName } from "./call.mjs";

export async function handler(event) {
  const user = caller(event);
  if (user === null) return answer(401, { code: "unauthorized" });
  const { Items } = await client.send(
    new QueryCommand({
      TableName,
      KeyConditionExpression: "pk = :pk",
      ExpressionAttributeValues: { ":pk": { S: `USER#${user}` } },
      ConsistentRead: true,
      Limit: 9,
      ReturnConsumedCapacity: "TOTAL",
    }),
  );
  const total = (name) => Items.reduce((sum, item) => sum + Number(item[name]?.N ?? 0), 0);
  return answer(200, {
    totalPendingRequest: total("pending"),
    totalUnreadMessages: total("unread"),
    totalSentRequest: total("open"),
  });
}
