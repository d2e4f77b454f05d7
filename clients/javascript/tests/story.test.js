// Two users chat over a real service: API_URL, and LIVE_URL if live events have another address. ANN and BEN are tokens
// of the users 17 and 42, who have no chat yet. Without API_URL the test is skipped.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createChatClient } from '../src/index.js'

const apiUrl = process.env['API_URL']
const liveUrl = process.env['LIVE_URL'] ?? `${apiUrl?.replace(/^http/, 'ws')}/live`
const skip = apiUrl ? false : 'API_URL is not set'

const ann = { id: 17, token: process.env['ANN'] ?? '' }
const ben = { id: 42, token: process.env['BEN'] ?? '' }
const chatId = '17-42'

/** A client whose network can fail. @param {{ id: number, token: string }} user */
function connect({ id, token }) {
  /** @type {WebSocket[]} */
  const sockets = []
  const network = { losesResponses: false, isDown: false }
  const client = createChatClient({
    apiUrl: String(apiUrl),
    liveUrl,
    userId: id,
    getToken: () => token,
    platform: {
      async fetch(url, init) {
        if (network.isDown) throw new TypeError('the network is down')
        const response = await fetch(url, init)
        if (network.losesResponses && init.method === 'POST') throw new TypeError('the response is lost')
        return response
      },
      WebSocket: class extends WebSocket {
        /** @param {string} url @param {string[]} protocols */
        constructor(url, protocols) {
          super(network.isDown ? 'ws://127.0.0.1:9/' : url, protocols)
          sockets.push(this)
        }
      },
    },
  })
  return {
    client,
    network,
    cut() {
      network.isDown = true
      sockets.at(-1)?.close()
    },
    messages: () => client.state.conversations[chatId]?.messages ?? [],
    texts: () => client.state.conversations[chatId]?.messages.map(({ text }) => text) ?? [],
    /** Waits until the state fulfills a condition. @param {string} what @param {() => unknown} condition */
    async until(what, condition) {
      if (condition()) return
      await new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`user ${id} never saw this: ${what}. ${JSON.stringify(client.state)}`)),
          30_000,
        )
        const end = client.subscribe(() => {
          if (!condition()) return
          clearTimeout(timer)
          end()
          resolve(undefined)
        })
      })
    },
  }
}

/** What the client shows is what the service says. @param {ReturnType<typeof connect>} user */
async function check({ client, messages }) {
  const { api, state } = client
  const plain = (/** @type {any[]} */ chats) => chats.map(({ peerId, isTyping, ...chat }) => chat)
  assert.deepEqual(state.totals, await api.getTotals())
  assert.deepEqual(plain(state.chats), (await api.listActiveChats()).chats)
  assert.deepEqual(plain(state.received), (await api.listPendingRequests({ direction: 'received' })).chats)
  assert.deepEqual(plain(state.sent), (await api.listPendingRequests()).chats)
  const stored = messages().map(({ isOwn, state, key, error, ...message }) => message)
  assert.deepEqual(stored, (await api.listMessages({ chatId, after: 0, limit: 100 })).messages)
}

test('two users chat', { skip, timeout: 120_000 }, async t => {
  const a = connect(ann)
  const b = connect(ben)
  t.after(() => [a, b].forEach(({ client }) => client.stop()))
  for (const { client, until } of [a, b]) {
    client.start()
    await until('online', () => client.state.connection === 'online')
  }

  await t.test('a request arrives and is accepted', async () => {
    assert.equal((await a.client.request(ben.id)).status, 'pending')
    await a.until('the request as sent', () => a.client.state.sent.length === 1)
    await b.until('the request', () => b.client.state.received.length === 1)
    await b.until('the badge', () => b.client.state.totals?.totalPendingRequest === 1)
    assert.equal((await b.client.accept(chatId)).status, 'active')
    await a.until('the chat', () => a.client.state.chats.length === 1 && a.client.state.sent.length === 0)
    await Promise.all([a.client.open(chatId), b.client.open(chatId)])
  })

  await t.test('typing shows', async () => {
    a.client.typing(chatId)
    await b.until('typing', () => b.client.state.chats[0]?.isTyping)
  })

  await t.test('messages arrive and are read', async () => {
    const sent = ['1', '2', '3 👋'].map(text => a.client.send(chatId, { text }))
    assert.deepEqual(
      a.messages().map(({ state }) => state),
      ['sending', 'sending', 'sending'],
    )
    assert.deepEqual(
      (await Promise.all(sent)).map(({ seq }) => seq),
      [1, 2, 3],
    )
    await b.until('the messages', () => b.texts().join() === '1,2,3 👋')
    await b.until('the badge', () => b.client.state.totals?.totalUnreadMessages === 3)
    assert.equal(b.client.state.chats[0]?.isTyping, false)
    await b.client.markRead(chatId)
    await a.until('that they are read', () => a.messages().every(({ state }) => state === 'read'))
    await b.until('no badge', () => b.client.state.totals?.totalUnreadMessages === 0)
  })

  await t.test('edits and deletions arrive', async () => {
    await a.client.edit(chatId, 1, { text: 'edited' })
    await b.until('the edit', () => b.messages()[0]?.editedAt && b.texts()[0] === 'edited')
    await a.client.delete(chatId, 2)
    await b.until('the deletion', () => b.messages()[1]?.deletedAt && b.texts()[1] === null)
    await assert.rejects(b.client.edit(chatId, 1, { text: 'not mine' }), { code: 'not_the_sender' })
  })

  await t.test('a connection that is cut loses nothing', async () => {
    b.cut()
    await a.client.send(chatId, { text: 'while you were away' })
    await a.client.edit(chatId, 3, { text: 'edited while you were away' })
    b.client.send(chatId, { text: 'sent without a network' }).catch(() => {})
    await b.until('that the connection is lost', () => b.client.state.connection !== 'online')
    b.network.isDown = false
    await b.until('online', () => b.client.state.connection === 'online')
    await b.until(
      'what was missed',
      () => b.texts().includes('while you were away') && b.texts().includes('edited while you were away'),
    )
    await b.until('the own message', () => b.messages().every(({ state }) => state === 'sent' || state === 'read'))
    await a.until('the message of the other', () => a.texts().includes('sent without a network'))
  })

  await t.test('a message whose response is lost is there once', async () => {
    a.network.losesResponses = true
    const sent = a.client.send(chatId, { text: 'once' })
    await b.until('the message', () => b.texts().includes('once'))
    a.network.losesResponses = false
    await sent
    assert.equal(a.texts().filter(text => text === 'once').length, 1)
  })

  await t.test('a block is not visible, and ends', async () => {
    await b.client.block(ann.id)
    await b.until('no chat', () => b.client.state.chats.length === 0)
    assert.equal(a.client.state.chats.length, 1)
    await assert.rejects(a.client.send(chatId, { text: 'after all' }), { code: 'peer_unavailable' })
    const failed = a.messages().at(-1)
    assert.equal(failed?.state, 'failed')
    await b.client.unblock(ann.id)
    await b.until('the chat', () => b.client.state.chats.length === 1)
    await a.client.retry(String(failed?.key))
    await b.until('the message', () => b.texts().includes('after all'))
  })

  await t.test('a request can be withdrawn', async () => {
    const { chatId: other } = await a.client.request(99)
    await a.until('the request', () => a.client.state.totals?.totalSentRequest === 1)
    await a.client.withdraw(other)
    await a.until('no request', () => a.client.state.sent.length === 0 && a.client.state.totals?.totalSentRequest === 0)
  })

  await t.test('both clients show what the service says', async () => {
    await b.client.markRead(chatId)
    await a.client.markRead(chatId)
    for (const user of [a, b]) {
      await user.until('that everything is read', () => user.client.state.totals?.totalUnreadMessages === 0)
    }
    await a.until('that everything is read', () => a.messages().every(({ state }) => state === 'read'))
    await b.until('that everything is read', () => b.messages().every(({ state }) => state === 'read'))
    // Lists follow within a second.
    await new Promise(resolve => setTimeout(resolve, 1_500))
    await check(a)
    await check(b)
  })
})
