// GET /totals for comparison: one consistent query for all counters of the caller.
import { QueryCommand } from "@aws-sdk/client-dynamodb";
import { authenticate, client, response, TableName } from "./shared.mjs";

export async function handler(event) {
  const user = authenticate(event);
  if (user === null) return response(401, { code: "unauthorized" });
  const { Items } = await client.send(
    new QueryCommand({
      TableName,
      KeyConditionExpression: "pk = :pk AND sk BETWEEN :first AND :last",
      ExpressionAttributeValues: {
        ":pk": { S: `USER#${user}` },
        ":first": { S: "SENT" },
        ":last": { S: "TOTALS#7" },
      },
      ConsistentRead: true,
      Limit: 9,
      ReturnConsumedCapacity: "TOTAL",
    }),
  );
  const total = (name) => Items.reduce((sum, item) => sum + Number(item[name]?.N ?? 0), 0);
  return response(200, {
    totalPendingRequest: total("pending"),
    totalUnreadMessages: total("unread"),
    totalSentRequest: total("open"),
    version: total("changes"),
  });
}
