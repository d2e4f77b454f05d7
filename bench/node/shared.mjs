// Code that both Node functions share: the DynamoDB client, authentication and responses. The client is
// created while the module loads, as the SDK's developer guide recommends.
import { createHmac, timingSafeEqual } from "node:crypto";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";

export const client = new DynamoDBClient({});
export const TableName = process.env.TABLE_NAME;

// Returns the user of a valid HS256 token, or null.
export function authenticate(event) {
  const [header, payload, signature] = event.headers.authorization?.match(/^Bearer (.*)$/)?.[1].split(".") ?? [];
  if (!signature) return null;
  const decode = (part) => JSON.parse(Buffer.from(part, "base64url").toString());
  if (decode(header).alg !== "HS256") return null;
  const expected = createHmac("sha256", process.env.JWT_SECRET).update(`${header}.${payload}`).digest();
  const actual = Buffer.from(signature, "base64url");
  if (actual.length !== expected.length || !timingSafeEqual(actual, expected)) return null;
  const { sub, exp } = decode(payload);
  return exp * 1000 > Date.now() ? Number(sub) : null;
}

export const response = (statusCode, body) => ({
  statusCode,
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});
