// What both functions share: the client, the caller's token, and answers. The client is made while the
// module loads, as the SDK's guide says.
import { createHmac, timingSafeEqual } from "node:crypto";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";

export const client = new DynamoDBClient({});
export const TableName = process.env.TABLE_NAME;

// The user of an HS256 token that has not expired, or null.
export function caller(event) {
  const [header, payload, signature] = event.headers.authorization?.match(/^Bearer (.*)$/)?.[1].split(".") ?? [];
  if (!signature) return null;
  const json = (part) => JSON.parse(Buffer.from(part, "base64url").toString());
  if (json(header).alg !== "HS256") return null;
  const expected = createHmac("sha256", process.env.JWT_SECRET).update(`${header}.${payload}`).digest();
  const given = Buffer.from(signature, "base64url");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
  const { sub, exp } = json(payload);
  return exp * 1000 > Date.now() ? Number(sub) : null;
}

export const answer = (statusCode, body) => ({
  statusCode,
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});
