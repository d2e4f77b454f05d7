// Tests clients that @hey-api/openapi-ts generates, with and without validation of requests and responses. Each
// file of the generated code must pass the strict compiler, which is half of the test.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import { createClient, createConfig, type Client } from './generated/hey-api/default/client/index.js'
import * as withoutValidation from './generated/hey-api/default/index.js'
import * as valibot from './generated/hey-api/valibot/index.js'
import * as zod from './generated/hey-api/zod/index.js'
import { ann, apiUrl, ben, largestUserId, laterApiUrl, timeout } from './support.js'

const clientOf = (token: string, baseUrl = apiUrl): Client =>
  createClient(createConfig({ baseUrl, auth: token }))

const sdks: Record<string, typeof withoutValidation> = { withoutValidation, zod, valibot }
for (const [name, sdk] of Object.entries(sdks)) {
  test(`${name}: two users chat`, { timeout }, async () => {
    const asAnn = { client: clientOf(ann), throwOnError: true } as const
    const asBen = { client: clientOf(ben), throwOnError: true } as const
    const { data: chat } = await sdk.sendChatRequest({ ...asAnn, body: { userId: 42 } })
    const path = { chatId: chat.chatId }
    const { data: accepted } = await sdk.acceptChatRequest({ ...asBen, path })
    assert.equal(accepted.status, 'active')

    const headers = { 'Idempotency-Key': randomUUID() }
    const body = { text: `Hello from ${name}`, imageUrl: 'https://images.example/cat.jpg' }
    const { data: sent } = await sdk.sendMessage({ ...asAnn, path, headers, body })
    const replayed = await sdk.sendMessage({ ...asAnn, path, headers, body })
    assert.equal(replayed.response.status, 200)
    assert.deepEqual(replayed.data, sent)

    const { data: page } = await sdk.listMessages({ ...asBen, path, query: { limit: 1 } })
    assert.deepEqual(page.messages, [sent])
    const { data: read } = await sdk.markMessagesRead({ ...asBen, path })
    assert.equal(read.success, true)
    const { data: chats } = await sdk.listActiveChats(asBen)
    assert(chats.chats.some(({ chatId }) => chatId === chat.chatId))
  })

  test(`${name}: a user id may have more than 32 bits`, { timeout }, async () => {
    const { data } = await sdk.sendChatRequest({ client: clientOf(ann), body: { userId: largestUserId } })
    assert.equal(data?.recipientId, largestUserId)
  })

  test(`${name}: a text of 4,096 emoji, which has twice as many UTF-16 units, can be read`, { timeout }, async () => {
    const text = '😀'.repeat(4096)
    const path = { chatId: '17-42' }
    // Sent without validation: valibot counts UTF-16 units and would refuse the request.
    await withoutValidation.sendMessage({ client: clientOf(ann), throwOnError: true, path, body: { text } })
    const { data, error } = await sdk.listMessages({ client: clientOf(ben), path, query: { limit: 1 } })
    assert.equal(error, undefined)
    assert.equal(data?.messages[0]?.text, text)
    const chats = await sdk.listActiveChats({ client: clientOf(ben) })
    assert.equal(chats.error, undefined)
  })

  test(`${name}: all errors have one type, which has a code`, { timeout }, async () => {
    const { error, response } = await sdk.listMessages({ client: clientOf(ann), path: { chatId: '1-2' } })
    assert.equal(response?.status, 404)
    assert.equal(error?.code, 'chat_not_found')
    assert(error?.requestId)
  })

  test(`${name}: responses of a later version are accepted`, { timeout }, async () => {
    const client = clientOf(ann, laterApiUrl)
    const { data: chats } = await sdk.listActiveChats({ client, throwOnError: true })
    assert.equal(chats.chats[0]?.status, 'archived')
    const path = { chatId: '17-42' }
    const { data: messages } = await sdk.listMessages({ client, throwOnError: true, path })
    assert.equal(messages.messages[0]?.status, 'delivered')
    const { error } = await sdk.sendMessage({ client, path, body: { text: 'Hello' } })
    assert.equal(error?.code, 'quiet_hours')
  })
}
