// Tests a TypeScript client that is generated from the OpenAPI document: two users chat with it. Only the
// requests below are written by hand. The strict compiler checks the generated types, which is half of
// the test.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import createClient from 'openapi-fetch'
import type { components, paths } from './generated/api.js'

type Message = components['schemas']['Message']

// A test fails after this time, so that a server that does not respond cannot block the run.
const timeout = 60_000

// Far more pages of one message than the chat has.
const maxPages = 1_000

function requiredEnv(name: string): string {
  const value = process.env[name]
  assert(value, `Set the environment variable ${name}`)
  return value
}

const clientFor = (token: string) =>
  createClient<paths>({ baseUrl: requiredEnv('API_URL'), headers: { Authorization: `Bearer ${token}` } })

const ann = clientFor(requiredEnv('ANN'))
const ben = clientFor(requiredEnv('BEN'))

test('a generated client requests a chat, sends, lists and marks messages as read', { timeout }, async () => {
  const requested = await ann.POST('/chats', { body: { userId: 42 } })
  assert.equal(requested.error, undefined)
  const chatId = requested.data.chatId
  const path = { chatId }
  const accepted = await ben.PUT('/chats/{chatId}/accept', { params: { path } })
  assert.equal(accepted.data?.status, 'active')

  const idempotencyKey = randomUUID()
  const sendMessage = () =>
    ann.POST('/chats/{chatId}/messages', {
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
    const page = await ben.GET('/chats/{chatId}/messages', { params: { path, query } })
    assert(page.data, page.error?.message)
    messages.push(...page.data.messages)
    cursor = page.data.nextCursor
    assert(messages.length <= maxPages, `there is still a next page after ${maxPages} pages`)
  }
  assert.deepEqual(messages.filter(message => message.seq === sent.data?.seq), [sent.data])
  assert(messages.every((message, index) => message.seq === messages.length - index))

  await ben.PUT('/chats/{chatId}/messages/read', { params: { path } })
  const totals = await ben.GET('/totals')
  assert.equal(totals.data?.totalUnreadMessages, 0)
  const latest = await ann.GET('/chats/{chatId}/messages', { params: { path, query: { limit: 1 } } })
  assert.equal(latest.data?.messages[0]?.status, 'read')
})

test('the type of an error depends on its code', { timeout }, async () => {
  const { error, response } = await ann.GET('/chats/{chatId}/messages', {
    params: { path: { chatId: '1-2' } },
  })
  assert.equal(response.status, 404)
  // The compiler knows that the gateway's own responses have no code, and which codes the others have.
  assert(error && 'code' in error)
  const code: 'chat_not_found' | 'invalid_request' | components['schemas']['ErrorCode'] = error.code
  assert.equal(code, 'chat_not_found')
  // @ts-expect-error there is no such code
  assert.notEqual(error.code, 'no_such_code' satisfies typeof error.code)
})
