// The compiler checks most of this file: apps see the types of types/index.d.ts.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChatError, createChatClient } from 'chat-client'

/** @import { ChatClient, ChatState, MessageView } from 'chat-client' */

test('the package exports the client and its error', () => {
  const client = createChatClient({ apiUrl: '', userId: 17, getToken: () => 'token' })
  assert.equal(client.state.connection, 'connecting')
  assert.equal(new ChatError('network', 'x').code, 'network')
})

/** Never called. @param {ChatClient} client @param {ChatState} state @param {MessageView} message */
export async function checkTypes(client, state, message) {
  const page = await client.api.listPendingRequests({ direction: 'received', limit: 5 })
  /** @type {string | null} */
  const cursor = page.nextCursor
  /** @type {number | undefined} */
  const unread = page.chats[0]?.unreadCount
  await client.api.getTotals()
  await client.api.markMessagesRead({ chatId: '17-42' })
  // @ts-expect-error the chat is missing
  await client.api.getChat()
  // @ts-expect-error a direction is `sent` or `received`
  await client.api.listPendingRequests({ direction: 'both' })
  // @ts-expect-error a user id is a number
  await client.api.sendChatRequest({ body: { userId: '42' } })
  // @ts-expect-error there is no such reason
  await client.report({ userId: 42, reason: 'boring' })
  // @ts-expect-error there is no such state
  const isLost = message.state === 'lost'
  // Later versions of the service can add codes and statuses.
  const isLater = message.error?.code === 'quiet_hours' || state.chats[0]?.status === 'archived'
  return { cursor, unread, isLost, isLater }
}
