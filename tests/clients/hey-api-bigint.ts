// Tests the client that @hey-api/openapi-ts generates with the options for BigInt and Date. A user id must stay a
// number: the client would send a BigInt as a JSON string, which the service refuses.
import assert from 'node:assert/strict'
import test from 'node:test'
import { createClient, createConfig, type Client } from './generated/hey-api/bigint/client/index.js'
import * as sdk from './generated/hey-api/bigint/index.js'
import { ann, apiUrl, ben, largestUserId, laterApiUrl, timeout } from './support.js'

const clientOf = (token: string, baseUrl = apiUrl): Client =>
  createClient(createConfig({ baseUrl, auth: token }))

test('bigint: two users chat', { timeout }, async () => {
  const asAnn = { client: clientOf(ann), throwOnError: true } as const
  const asBen = { client: clientOf(ben), throwOnError: true } as const
  const { data: chat } = await sdk.sendChatRequest({ ...asAnn, body: { userId: 42 } })
  const path = { chatId: chat.chatId }
  await sdk.acceptChatRequest({ ...asBen, path })
  const { data: sent } = await sdk.sendMessage({ ...asAnn, path, body: { text: 'Hello from bigint' } })
  assert(sent.createdAt instanceof Date)
  const { data: page } = await sdk.listMessages({ ...asBen, path, query: { after: sent.seq - 1 } })
  assert.deepEqual(page.messages, [sent])
})

test('bigint: a user id may have more than 32 bits', { timeout }, async () => {
  const { data } = await sdk.sendChatRequest({ client: clientOf(ann), body: { userId: largestUserId } })
  assert.equal(data?.recipientId, largestUserId)
})

test('bigint: responses of a later version are accepted', { timeout }, async () => {
  const client = clientOf(ann, laterApiUrl)
  const { data: chats } = await sdk.listActiveChats({ client, throwOnError: true })
  assert.equal(chats.chats[0]?.status, 'archived')
  const { error } = await sdk.sendMessage({ client, path: { chatId: '17-42' }, body: { text: 'Hello' } })
  assert.equal(error?.code, 'quiet_hours')
})
