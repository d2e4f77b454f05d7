// Tests the types that openapi-typescript generates, with openapi-fetch: two users chat. Only the requests below
// are written by hand. The strict compiler checks the generated types, which is half of the test.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import createClient from 'openapi-fetch'
import type { components, paths } from './generated/openapi-typescript/api.js'
import { ann, apiUrl, ben, largestUserId, laterApiUrl, timeout } from './support.js'

type Message = components['schemas']['Message']

// Far more pages of one message than the chat has.
const maxPages = 1_000

const clientOf = (token: string, baseUrl = apiUrl) =>
  createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } })

const asAnn = clientOf(ann)
const asBen = clientOf(ben)

test('openapi-fetch: a client requests a chat, sends, lists and marks messages as read', { timeout }, async () => {
  const requested = await asAnn.POST('/chats', { body: { userId: 42 } })
  assert(requested.data, requested.error?.message)
  const chatId = requested.data.chatId
  const path = { chatId }
  const accepted = await asBen.PUT('/chats/{chatId}/accept', { params: { path } })
  assert.equal(accepted.data?.status, 'active')

  const idempotencyKey = randomUUID()
  const sendMessage = () =>
    asAnn.POST('/chats/{chatId}/messages', {
      params: { path, header: { 'Idempotency-Key': idempotencyKey } },
      body: { text: 'Hello from TypeScript' },
    })
  const sent = await sendMessage()
  assert.equal(sent.response.status, 201)
  const replayed = await sendMessage()
  assert.equal(replayed.response.status, 200)
  assert.equal(replayed.response.headers.get('Idempotent-Replayed'), 'true')

  const messages: Message[] = []
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const query = cursor === undefined ? { limit: 1 } : { limit: 1, cursor }
    const page = await asBen.GET('/chats/{chatId}/messages', { params: { path, query } })
    assert(page.data, page.error?.message)
    messages.push(...page.data.messages)
    cursor = page.data.nextCursor
    assert(messages.length <= maxPages, `there is still a next page after ${maxPages} pages`)
  }
  assert.deepEqual(messages.filter(message => message.seq === sent.data?.seq), [sent.data])
  assert(messages.every((message, index) => message.seq === messages.length - index))

  await asBen.PUT('/chats/{chatId}/messages/read', { params: { path } })
  const totals = await asBen.GET('/totals')
  assert.equal(totals.data?.totalUnreadMessages, 0)
  const latest = await asAnn.GET('/chats/{chatId}/messages', { params: { path, query: { limit: 1 } } })
  assert.equal(latest.data?.messages[0]?.status, 'read')
})

test('openapi-fetch: a user id may have more than 32 bits', { timeout }, async () => {
  const { data } = await asAnn.POST('/chats', { body: { userId: largestUserId } })
  assert.equal(data?.recipientId, largestUserId)
})

test('openapi-fetch: all errors have one type, which has a code', { timeout }, async () => {
  const { error, response } = await asAnn.GET('/chats/{chatId}/messages', {
    params: { path: { chatId: '1-2' } },
  })
  assert.equal(response.status, 404)
  const sameType: components['schemas']['Error'] | undefined = error
  assert.equal(sameType?.code, 'chat_not_found')
})

test('openapi-fetch: responses of a later version have the types of this one', { timeout }, async () => {
  const later = clientOf(ann, laterApiUrl)
  const chats = await later.GET('/chats')
  // The compiler would refuse the comparison if the type of the status were a closed list.
  assert(chats.data?.chats[0]?.status === 'archived')
  const path = { chatId: '17-42' }
  const { error } = await later.POST('/chats/{chatId}/messages', { params: { path }, body: { text: 'Hello' } })
  assert(error?.code === 'quiet_hours')
})
