// Two users chat through a client that is generated from the API's document: nothing here is written by
// hand but the calls. The compiler, which is as strict as it gets, is half of the test.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import createClient from 'openapi-fetch'
import type { components, paths } from './generated/api.js'

type Message = components['schemas']['Message']

function variable(name: string): string {
  const value = process.env[name]
  assert(value, `${name} is missing`)
  return value
}

const clientOf = (token: string) =>
  createClient<paths>({ baseUrl: variable('API_URL'), headers: { Authorization: `Bearer ${token}` } })

const ann = clientOf(variable('ANN'))
const ben = clientOf(variable('BEN'))

test('a generated client asks for a chat, writes, reads and marks as read', async () => {
  const asked = await ann.POST('/chats', { body: { userId: 42 } })
  assert.equal(asked.error, undefined)
  const chatId = asked.data.chatId
  const path = { chatId }
  const accepted = await ben.PUT('/chats/{chatId}/accept', { params: { path } })
  assert.equal(accepted.data?.status, 'active')

  const key = randomUUID()
  const send = () =>
    ann.POST('/chats/{chatId}/messages', {
      params: { path, header: { 'Idempotency-Key': key } },
      body: { text: 'Hello from TypeScript' },
    })
  const sent = await send()
  assert.equal(sent.response.status, 201)
  const again = await send()
  assert.equal(again.response.status, 200)
  assert.equal(again.response.headers.get('Idempotent-Replayed'), 'true')

  const messages: Message[] = []
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const query = cursor === undefined ? { limit: 1 } : { limit: 1, cursor }
    const page = await ben.GET('/chats/{chatId}/messages', { params: { path, query } })
    assert(page.data, page.error?.message)
    messages.push(...page.data.messages)
    cursor = page.data.nextCursor
  }
  assert.deepEqual(messages.filter(message => message.seq === sent.data?.seq), [sent.data])
  assert(messages.every((message, place) => message.seq === messages.length - place))

  await ben.PUT('/chats/{chatId}/messages/read', { params: { path } })
  const totals = await ben.GET('/totals')
  assert.equal(totals.data?.totalUnreadMessages, 0)
  const read = await ann.GET('/chats/{chatId}/messages', { params: { path, query: { limit: 1 } } })
  assert.equal(read.data?.messages[0]?.status, 'read')
})

test('a refusal is typed by its code', async () => {
  const { error, response } = await ann.GET('/chats/{chatId}/messages', {
    params: { path: { chatId: '1-2' } },
  })
  assert.equal(response.status, 404)
  // The compiler knows that the gateway's own answers have no code, and which codes the others have.
  assert(error && 'code' in error)
  const code: 'chat_not_found' | 'invalid_request' | components['schemas']['ErrorCode'] = error.code
  assert.equal(code, 'chat_not_found')
  // @ts-expect-error there is no such code
  assert.notEqual(error.code, 'no_such_code' satisfies typeof error.code)
})
