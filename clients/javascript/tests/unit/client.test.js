import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flush } from '../support/clock.js'
import { ann, ben, chatId, setUp } from '../support/setup.js'

/** @param {number} [count] */
async function setUpOnline(count = 0) {
  const context = setUp()
  context.makeChat(count)
  await context.goOnline()
  await context.open()
  context.requests()
  return context
}

// Messages and gaps

test('the next message is shown without a request', async () => {
  const { clock, sendText, texts, requests } = await setUpOnline(1)
  sendText(ben, 'next')
  await clock.advance(1_000)
  assert.deepEqual(texts(), ['message 1', 'next'])
  assert.deepEqual(requests(), [])
})

test('a message that arrives twice is shown once', async () => {
  const context = await setUpOnline(1)
  const { clock, deliver, event, sendText, texts, missing, requests } = context
  let message
  missing(() => (message = sendText(ben, 'next')))
  const frame = { v: 1, events: [event('message.created', { message })] }
  deliver(frame)
  deliver(frame)
  await clock.advance(1_000)
  assert.deepEqual(texts(), ['message 1', 'next'])
  assert.deepEqual(requests(), [])
})

test('a gap is closed over REST after 500 milliseconds', async () => {
  const { clock, sendText, texts, missing, requests } = await setUpOnline(1)
  missing(() => sendText(ben, 'missed'))
  sendText(ben, 'last')
  await clock.advance(600)
  assert.deepEqual(texts(), ['message 1'])
  assert.deepEqual(requests(), [])
  await clock.advance(600)
  assert.deepEqual(texts(), ['message 1', 'missed', 'last'])
  assert.deepEqual(requests(), [`GET /chats/${chatId}/messages?limit=100&after=1`])
})

test('a gap that closes in time needs no request', async () => {
  const { clock, deliver, event, sendText, texts, missing, requests } = await setUpOnline(1)
  /** @type {any[]} */
  const messages = []
  missing(() => messages.push(sendText(ben, 'second'), sendText(ben, 'third')))
  deliver({ v: 1, events: [event('message.created', { message: messages[1] })] })
  await clock.advance(300)
  deliver({ v: 1, events: [event('message.created', { message: messages[0] })] })
  await clock.advance(1_000)
  assert.deepEqual(texts(), ['message 1', 'second', 'third'])
  assert.deepEqual(requests(), [])
})

test('a gap that never closes is asked for less and less often, up to once a minute', async () => {
  const { clock, network, sendText, texts, requests, missing } = await setUpOnline(1)
  const { fetch } = network
  network.fetch = async (url, init) =>
    url.includes('after=') ? network.response(200, { messages: [], nextCursor: null }) : fetch(url, init)
  missing(() => sendText(ben, 'missed'))
  sendText(ben, 'last')
  await clock.advance(60_000)
  assert.equal(requests().length, 6)
  await clock.advance(60_000 * 10)
  const count = requests().filter(line => line.includes('after=')).length
  assert(count >= 9 && count <= 13, String(count))
  network.fetch = fetch
  await clock.advance(60_000)
  assert.deepEqual(texts(), ['message 1', 'missed', 'last'])
  missing(() => sendText(ben, 'missed again'))
  sendText(ben, 'later')
  await clock.advance(1_200)
  assert.equal(texts()?.at(-1), 'later')
})

test('a gap of several pages is closed', async () => {
  const { clock, sendText, texts, missing } = await setUpOnline(1)
  missing(() => {
    for (let number = 2; number <= 250; number++) sendText(ben, `message ${number}`)
  })
  sendText(ben, 'last')
  await clock.advance(5_000)
  assert.equal(texts()?.length, 251)
  assert.equal(texts()?.at(-1), 'last')
})

// Changes

test('an edit and a deletion are shown without a request', async () => {
  const { clock, send, messages, requests } = await setUpOnline(2)
  send(ben, `PATCH /chats/${chatId}/messages/1`, { text: 'edited' })
  send(ben, `DELETE /chats/${chatId}/messages/2`)
  await clock.advance(1_000)
  assert.equal(messages()[0]?.text, 'edited')
  assert(messages()[0]?.editedAt)
  assert.equal(messages()[1]?.text, null)
  assert(messages()[1]?.deletedAt)
  assert.deepEqual(requests(), [])
})

test('a missed change is loaded after 500 milliseconds', async () => {
  const { clock, send, texts, missing, requests } = await setUpOnline(2)
  missing(() => send(ben, `PATCH /chats/${chatId}/messages/1`, { text: 'missed' }))
  send(ben, `PATCH /chats/${chatId}/messages/2`, { text: 'next' })
  await clock.advance(1_500)
  assert.deepEqual(texts(), ['missed', 'next'])
  assert.deepEqual(requests(), [`GET /chats/${chatId}/changes?limit=100&after=0`])
})

test('changes that have expired make the client load the chat again', async () => {
  const { clock, service, send, texts, missing } = await setUpOnline(2)
  missing(() => send(ben, `PATCH /chats/${chatId}/messages/1`, { text: 'missed' }))
  service.faults = { expiredChanges: 2 }
  send(ben, `PATCH /chats/${chatId}/messages/2`, { text: 'next' })
  await clock.advance(1_500)
  assert.deepEqual(texts(), ['missed', 'next'])
})

test('an older version of a changed message is ignored', async () => {
  const { clock, deliver, event, send, texts, missing, messages } = await setUpOnline(1)
  /** @type {any[]} */
  const events = []
  missing(() => {
    for (const text of ['first', 'second']) {
      const message = send(ben, `PATCH /chats/${chatId}/messages/1`, { text })
      events.push(event('message.changed', { message }))
    }
    const message = send(ben, `DELETE /chats/${chatId}/messages/1`)
    events.push(event('message.changed', { message }))
  })
  for (const index of [0, 1, 0, 2, 1, 0]) deliver({ v: 1, events: [events[index]] })
  await clock.advance(1_000)
  assert.deepEqual(texts(), [null])
  assert(messages()[0]?.deletedAt)
})

test('ten seconds after a chat is loaded, its last 20 changes are loaded once more', async () => {
  const { clock, service, client, makeChat, send, goOnline, open, texts, requests } = setUp()
  makeChat(1)
  for (let number = 1; number <= 30; number++)
    send(ben, `PATCH /chats/${chatId}/messages/1`, { text: `edit ${number}` })
  service.faults = { stalePage: 2 }
  await goOnline()
  await open()
  assert.deepEqual(texts(), ['edit 29'])
  requests()
  await clock.advance(11_000)
  assert.deepEqual(texts(), ['edit 30'])
  assert.deepEqual(requests(), [`GET /chats/${chatId}/changes?limit=100&after=10`])
  await clock.advance(60_000)
  assert.deepEqual(requests(), [])
  assert.equal(client.state.error, null)
})

test('a failed attempt to load the last changes once more is repeated', async () => {
  const { clock, service, network, makeChat, send, goOnline, open, texts } = setUp()
  makeChat(1)
  send(ben, `PATCH /chats/${chatId}/messages/1`, { text: 'edited' })
  service.faults = { stalePage: 2 }
  await goOnline()
  await open()
  assert.deepEqual(texts(), ['message 1'])
  await clock.advance(9_000)
  network.faults = { loseRequest: 2 }
  await clock.advance(5_000)
  network.faults = {}
  await clock.advance(60_000)
  assert.deepEqual(texts(), ['edited'])
})

test('a deleted message stays deleted, whatever a late page says', async () => {
  const { clock, service, send, messages, missing } = await setUpOnline(2)
  missing(() => send(ben, `PATCH /chats/${chatId}/messages/2`, { text: 'missed' }))
  service.faults = { stalePage: 2, expiredChanges: 2 }
  send(ben, `DELETE /chats/${chatId}/messages/1`)
  for (let time = 0; time < 5_000; time += 100) {
    await clock.advance(100)
    if (time > 500) assert(messages()[0]?.deletedAt)
  }
})

test('the requests of a chat are sent one after another', async () => {
  const { clock, client, network, sendText } = await setUpOnline(2)
  sendText(ann, 'mine')
  await clock.advance(1_000)
  const { fetch } = network
  let running = 0
  let count = 0
  network.fetch = async (url, init) => {
    if (!url.includes(chatId)) return fetch(url, init)
    count++
    assert.equal(++running, 1)
    try {
      return await fetch(url, init)
    } finally {
      running--
    }
  }
  const actions = [
    client.edit(chatId, 3, { text: 'edited' }),
    client.markRead(chatId),
    client.delete(chatId, 3),
    client.open(chatId),
  ]
  await clock.advance(5_000)
  await Promise.all(actions)
  assert(count >= 4)
})

// Chats, lists and totals

test('an older view of a chat is ignored', async () => {
  const { clock, client, deliver, event, sendText } = await setUpOnline(1)
  const old = event('chat.read')
  sendText(ben, 'new')
  await clock.advance(1_000)
  deliver({ v: 1, events: [{ ...old, chat: { ...old.chat, unreadCount: 77 } }] })
  await clock.advance(1_000)
  assert.equal(client.state.chats[0]?.unreadCount, 2)
  assert.equal(client.state.chats[0]?.lastMessage?.text, 'new')
})

test('the totals with the higher version are shown', async () => {
  const { client, deliver, event } = await setUpOnline(1)
  const { totals } = event('chat.read')
  deliver({
    v: 1,
    events: [event('chat.read', { totals: { ...totals, totalSentRequest: 5, version: totals.version - 1 } })],
  })
  assert.equal(client.state.totals?.totalSentRequest, 0)
  deliver({
    v: 1,
    events: [event('chat.read', { totals: { ...totals, totalSentRequest: 5, version: totals.version + 1 } })],
  })
  assert.equal(client.state.totals?.totalSentRequest, 5)
})

test('lists show the latest activity first, and requests by direction', async () => {
  const { clock, client, send } = await setUpOnline()
  send(ann, 'POST /chats', { userId: 50 })
  send(51, 'POST /chats', { userId: ann })
  send(52, 'POST /chats', { userId: ann })
  await clock.advance(1_000)
  const peers = (/** @type {'chats' | 'received' | 'sent'} */ list) => client.state[list].map(({ peerId }) => peerId)
  assert.deepEqual(peers('chats'), [ben])
  assert.deepEqual(peers('received'), [52, 51])
  assert.deepEqual(peers('sent'), [50])
  send(ann, 'PUT /chats/17-51/accept')
  send(52, 'PUT /chats/17-52/withdraw')
  send(50, 'PUT /chats/17-50/decline')
  await clock.advance(1_000)
  assert.deepEqual(peers('chats'), [51, ben])
  assert.deepEqual(peers('received'), [])
  assert.deepEqual(peers('sent'), [])
})

test('a request that was withdrawn while the client was offline disappears', async () => {
  const { clock, client, network, send, events, missing } = await setUpOnline()
  send(51, 'POST /chats', { userId: ann })
  await clock.advance(1_000)
  assert.equal(client.state.received.length, 1)
  missing(() => send(51, 'PUT /chats/17-51/withdraw'))
  network.cut(ann)
  events.dispatchEvent(new Event('online'))
  await clock.advance(2_000)
  assert.equal(client.state.connection, 'online')
  assert.deepEqual(client.state.received, [])
})

test('a block on another device removes the chat, and an unblock brings it back', async () => {
  const { clock, client, send, requests } = await setUpOnline(1)
  send(ann, `PUT /blocks/${ben}`)
  await clock.advance(1_000)
  assert.deepEqual(client.state.chats, [])
  assert.equal(client.state.conversations[chatId]?.chat?.blocked, true)
  assert.equal(client.state.totals?.totalUnreadMessages, 0)
  assert.deepEqual(requests(), [`GET /chats/${chatId}`])
  send(ann, `DELETE /blocks/${ben}`)
  await clock.advance(1_000)
  assert.equal(client.state.chats.length, 1)
  assert.equal(client.state.totals?.totalUnreadMessages, 1)
})

test('an event about a block that arrives again later does not block', async () => {
  const { clock, client, deliver, event, send, missing } = await setUpOnline(1)
  /** @type {any} */
  let old
  missing(() => {
    send(ann, `PUT /blocks/${ben}`)
    old = event('chat.changed')
    send(ann, `DELETE /blocks/${ben}`)
  })
  deliver({ v: 1, events: [old] })
  await clock.advance(1_000)
  assert.equal(client.state.chats.length, 1)
})

test('a lost event is found when the totals differ from the chats', async () => {
  const { clock, client, send, missing } = await setUpOnline()
  missing(() => send(51, 'POST /chats', { userId: ann }))
  send(52, 'POST /chats', { userId: ann })
  await clock.advance(5_000)
  assert.equal(client.state.received.length, 2)
})

test('totals that stay different are not requested in a loop', async () => {
  const { clock, deliver, event, requests } = await setUpOnline(1)
  const { totals } = event('chat.read')
  deliver({
    v: 1,
    events: [event('chat.read', { totals: { ...totals, totalSentRequest: 5, version: totals.version + 9 } })],
  })
  await clock.advance(600_000)
  const count = requests().filter(line => line === 'GET /totals').length
  assert(count < 12, String(count))
})

test('loadMore loads the next page of a list, and later loads include it', async () => {
  const { clock, client, events, makeChat, goOnline, send } = setUp()
  makeChat()
  for (let user = 100; user < 220; user++) send(user, 'POST /chats', { userId: ann })
  await goOnline()
  assert.equal(client.state.received.length, 50)
  assert.deepEqual(client.state.hasMore, { chats: false, received: true, sent: false })
  client.loadMore('received')
  await clock.advance(1_000)
  assert.equal(client.state.received.length, 100)
  client.loadMore('received')
  await clock.advance(1_000)
  assert.equal(client.state.received.length, 120)
  assert.equal(client.state.hasMore.received, false)
  events.dispatchEvent(new Event('online'))
  await clock.advance(2_000)
  assert.equal(client.state.received.length, 120)
  assert.equal(client.state.hasMore.received, false)
})

test('loadOlder loads the history by pages', async () => {
  const { clock, client, texts, requests } = await setUpOnline(70)
  const expected = (/** @type {number} */ first) =>
    Array.from({ length: 71 - first }, (_, index) => `message ${first + index}`)
  assert.deepEqual(texts(), expected(41))
  for (const first of [11, 1]) {
    assert.equal(client.state.conversations[chatId]?.hasOlder, true)
    client.loadOlder(chatId)
    await clock.advance(1_000)
    assert.deepEqual(texts(), expected(first))
  }
  assert.equal(client.state.conversations[chatId]?.hasOlder, false)
  assert.deepEqual(requests(), [
    `GET /chats/${chatId}/messages?limit=30&before=41`,
    `GET /chats/${chatId}/messages?limit=30&before=11`,
  ])
  client.loadOlder(chatId)
  await clock.advance(1_000)
  assert.deepEqual(requests(), [])
})

test('loadOlder of a chat that was never opened does nothing', async () => {
  const { client, requests } = await setUpOnline()
  await client.loadOlder('17-43')
  assert.deepEqual(Object.keys(client.state.conversations), [chatId])
  assert.deepEqual(requests(), [])
})

test('a conversation that was closed loads what is new when it is opened again', async () => {
  const { clock, client, sendText, open, texts, missing, requests } = await setUpOnline(1)
  client.close(chatId)
  missing(() => sendText(ben, 'missed'))
  sendText(ben, 'last')
  await clock.advance(2_000)
  assert.deepEqual(requests(), [])
  await open()
  await clock.advance(1_000)
  assert.deepEqual(texts(), ['message 1', 'missed', 'last'])
})

test('a conversation that does not exist has an error', async () => {
  const { clock, client } = await setUpOnline()
  client.open('17-99').catch(() => {})
  await clock.advance(1_000)
  assert.equal(client.state.conversations['17-99']?.error?.code, 'chat_not_found')
  assert.equal(client.state.error, null)
})

for (const liveUrl of ['ws://service/live', undefined]) {
  test(`a conversation that cannot be loaded keeps nothing else from it, ${liveUrl ? 'live' : 'polling'}`, async () => {
    const { clock, client, network, makeChat, send, sendText, open, texts } = setUp({ liveUrl })
    makeChat(1)
    send(51, 'POST /chats', { userId: ann })
    send(ann, 'PUT /chats/17-51/accept')
    client.start()
    await clock.until(() => client.state.connection === (liveUrl ? 'online' : 'polling'))
    const { fetch } = network
    network.fetch = async (url, init) =>
      url.includes('/17-51') ? network.response(500, { code: 'internal', message: 'x' }) : fetch(url, init)
    client.open('17-51').catch(() => {})
    await open()
    client.stop()
    client.start()
    sendText(ben, 'next')
    await clock.advance(60_000)
    assert.deepEqual(texts(), ['message 1', 'next'])
    assert.equal(client.state.connection, liveUrl ? 'online' : 'polling')
    assert.equal(client.state.error, null)
    assert.equal(client.state.conversations['17-51']?.error?.code, 'internal')
    network.fetch = fetch
    await clock.advance(60_000)
    assert.equal(client.state.conversations['17-51']?.error, null)
    assert.equal(client.state.conversations['17-51']?.isLoaded, true)
  })
}

// Sending

test('a message is shown at once, then sent, then read', async () => {
  const { clock, client, send, messages } = await setUpOnline()
  const promise = client.send(chatId, { text: 'Hello' })
  const state = () => messages().map(({ state, text, isOwn, key, seq }) => ({ state, text, isOwn, key, seq }))
  assert.deepEqual(state(), [{ state: 'sending', text: 'Hello', isOwn: true, key: 'key-1', seq: null }])
  await clock.advance(1_000)
  assert.deepEqual(state(), [{ state: 'sent', text: 'Hello', isOwn: true, key: null, seq: 1 }])
  assert.equal((await promise).messageId, `${chatId}/1`)
  send(ben, `PUT /chats/${chatId}/messages/read`)
  await clock.advance(1_000)
  assert.deepEqual(state(), [{ state: 'read', text: 'Hello', isOwn: true, key: null, seq: 1 }])
})

test('messages are sent in order, one after another', async () => {
  const { clock, client, texts, requests } = await setUpOnline()
  for (const text of ['1', '2', '3']) client.send(chatId, { text })
  assert.deepEqual(texts(), ['1', '2', '3'])
  await clock.advance(2_000)
  assert.deepEqual(texts(), ['1', '2', '3'])
  assert.deepEqual(requests(), Array(3).fill(`POST /chats/${chatId}/messages`))
})

test('a message whose response is lost is sent once', async () => {
  const { clock, client, network, texts, messages } = await setUpOnline()
  network.faults = { loseResponse: 2, loseEvent: 2 }
  client.send(chatId, { text: 'Hello' })
  await clock.advance(1_200)
  network.faults = {}
  await clock.advance(60_000)
  assert.deepEqual(texts(), ['Hello'])
  assert.equal(messages()[0]?.seq, 1)
})

test('an event settles a message that waits for its response', async () => {
  const { clock, client, network, messages, requests } = await setUpOnline()
  network.faults = { loseResponse: 2 }
  const promise = client.send(chatId, { text: 'Hello' })
  await clock.advance(600)
  assert.equal(messages()[0]?.state, 'sent')
  assert.equal((await promise).seq, 1)
  await clock.advance(60_000)
  assert.equal(requests().filter(line => line.startsWith('POST')).length, 1)
  assert.equal(messages().length, 1)
})

test('while a message waits for its response, its stored form is not shown beside it', async () => {
  const { clock, client, network, sendText, texts } = await setUpOnline()
  client.send(chatId, { text: 'mine' })
  network.faults = { loseResponse: 2, loseEvent: 2 }
  await clock.advance(300)
  // The next event reveals a gap, and the client loads its own message without a key.
  network.faults = {}
  sendText(ben, 'theirs')
  for (let time = 0; time < 5_000; time += 100) {
    await clock.advance(100)
    assert.equal(texts()?.filter(text => text === 'mine').length, 1)
  }
  assert.deepEqual(texts(), ['mine', 'theirs'])
})

test('a message that was refused has failed, and can be sent again with the same key or discarded', async () => {
  const { clock, client, send, messages, texts } = await setUpOnline()
  send(ben, `PUT /blocks/${ann}`)
  const promise = client.send(chatId, { text: 'Hello' })
  client.send(chatId, { text: 'another' })
  await clock.advance(1_000)
  await assert.rejects(promise, { code: 'peer_unavailable', status: 409 })
  assert.deepEqual(
    messages().map(({ state, error, key }) => [state, error?.code, key]),
    [
      ['failed', 'peer_unavailable', 'key-1'],
      ['failed', 'peer_unavailable', 'key-2'],
    ],
  )
  client.discard('key-2')
  assert.deepEqual(texts(), ['Hello'])
  send(ben, `DELETE /blocks/${ann}`)
  const retried = client.retry('key-1')
  assert.equal(messages()[0]?.state, 'sending')
  await clock.advance(1_000)
  assert.equal((await retried).seq, 1)
  assert.equal(messages()[0]?.state, 'sent')
  await assert.rejects(client.retry('key-1'), { code: 'not_failed' })
})

test('later messages do not overtake one that failed because of the network', async () => {
  const { clock, client, network, messages, texts, events } = await setUpOnline()
  network.faults = { loseRequest: 2 }
  client.send(chatId, { text: 'first' })
  client.send(chatId, { text: 'second' })
  await clock.until(() => messages()[0]?.state === 'failed')
  assert.deepEqual(
    messages().map(({ state }) => state),
    ['failed', 'failed'],
  )
  network.faults = {}
  events.dispatchEvent(new Event('online'))
  await clock.advance(5_000)
  assert.deepEqual(texts(), ['first', 'second'])
  assert.deepEqual(
    messages().map(({ state }) => state),
    ['sent', 'sent'],
  )
})

test('a new message does not overtake one that failed because of the network', async () => {
  const { clock, client, network, messages, texts, service } = await setUpOnline()
  network.faults = { loseRequest: 2 }
  client.send(chatId, { text: 'first' })
  client.send(chatId, { text: 'second' })
  await clock.until(() => messages()[1]?.state === 'failed')
  network.faults = {}
  client.send(chatId, { text: 'third' })
  assert.deepEqual(
    messages().map(({ state }) => state),
    ['sending', 'sending', 'sending'],
  )
  await clock.advance(5_000)
  assert.deepEqual(texts(), ['first', 'second', 'third'])
  assert.deepEqual(
    service.chats.get(chatId)?.messages.map(({ content }) => content.text),
    ['first', 'second', 'third'],
  )
})

test('retrying a message sends those before it first, if they failed because of the network', async () => {
  const { clock, client, network, messages, texts } = await setUpOnline()
  network.faults = { loseRequest: 2 }
  client.send(chatId, { text: 'first' })
  client.send(chatId, { text: 'second' })
  await clock.until(() => messages()[1]?.state === 'failed')
  network.faults = {}
  const retried = client.retry('key-2')
  await clock.advance(5_000)
  assert.equal((await retried).seq, 2)
  assert.deepEqual(texts(), ['first', 'second'])
})

test('without events, a message that was sent is in the list at once', async () => {
  const { clock, client, makeChat } = setUp({ liveUrl: undefined })
  makeChat()
  client.start()
  await clock.until(() => client.state.connection === 'polling')
  client.send(chatId, { text: 'Hello' })
  await clock.advance(1_000)
  assert.equal(client.state.chats[0]?.lastMessage?.text, 'Hello')
})

test('a message that is refused shows what the chat is now', async () => {
  const { clock, client, send, missing } = await setUpOnline()
  missing(() => send(ann, `PUT /blocks/${ben}`))
  client.send(chatId, { text: 'Hello' })
  await clock.advance(2_000)
  assert.deepEqual(client.state.chats, [])
  assert.equal(client.state.conversations[chatId]?.messages[0]?.error?.code, 'you_blocked')
})

test('a key is not used after 23 hours', async () => {
  const { clock, client, network, service, messages } = setUp({ liveUrl: undefined })
  network.isDown = true
  client.send(chatId, { text: 'Hello' })
  client.open(chatId).catch(() => {})
  await clock.until(() => messages()[0]?.state === 'failed')
  await clock.advance(24 * 3_600_000)
  network.isDown = false
  await assert.rejects(client.retry('key-1'), { code: 'key_expired' })
  assert.equal(messages()[0]?.error?.code, 'key_expired')
  await clock.advance(60_000)
  assert.equal(service.keys.size, 0)
})

test('a key is not used after 23 hours of sleep during a pause, whatever the clock of the service says', async () => {
  const { clock, client, network, service, messages } = await setUpOnline()
  network.faults = { loseRequest: 2 }
  client.send(chatId, { text: 'Hello' })
  await clock.advance(500)
  network.faults = {}
  const { response } = network
  const yesterday = new Date(clock.now() - 86_400_000).toUTCString()
  network.response = (status, content) => response.call(network, status, content, { Date: yesterday })
  clock.time += 23.5 * 3_600_000
  await clock.advance(120_000)
  assert.equal(messages()[0]?.error?.code, 'key_expired')
  assert.equal(service.keys.size, 0)
})

test('sending with the same key again returns the same promise', async () => {
  const { clock, client, texts } = await setUpOnline()
  const first = client.send(chatId, { text: 'Hello' }, { key: 'a' })
  assert.equal(client.send(chatId, { text: 'Hello' }, { key: 'a' }), first)
  await clock.advance(2_000)
  assert.deepEqual(texts(), ['Hello'])
  assert.equal((await first).seq, 1)
})

test('an app can choose the key', async () => {
  const { clock, client, service } = await setUpOnline()
  client.send(chatId, { text: 'Hello' }, { key: 'stored-key' })
  await clock.advance(1_000)
  assert.deepEqual([...service.keys.keys()], [`${ann} ${chatId} stored-key`])
})

// Actions

test('an edit and a deletion show their result, also without events', async () => {
  const { clock, client, network, texts, messages } = await setUpOnline()
  network.faults = { loseEvent: 2 }
  client.send(chatId, { text: 'Hello' })
  await clock.advance(2_000)
  client.edit(chatId, 1, { text: 'Hello Ben' })
  await clock.advance(2_000)
  assert.deepEqual(texts(), ['Hello Ben'])
  assert.equal(client.state.chats[0]?.lastMessage?.text, 'Hello Ben')
  client.delete(chatId, 1)
  await clock.advance(2_000)
  assert(messages()[0]?.deletedAt)
  assert.equal(client.state.chats[0]?.rev, 2)
})

test('the response to an edit does not replace a newer edit', async () => {
  const { clock, client, network, send, sendText, texts } = await setUpOnline()
  sendText(ann, 'Hello')
  const { fetch } = network
  network.fetch = async (url, init) => {
    const response = await fetch(url, init)
    if (init.method === 'PATCH') await clock.sleep(3_000)
    return response
  }
  client.edit(chatId, 1, { text: 'older' })
  await clock.advance(1_000)
  send(ann, `PATCH /chats/${chatId}/messages/1`, { text: 'newer' })
  await clock.advance(1_000)
  assert.deepEqual(texts(), ['newer'])
  await clock.advance(10_000)
  assert.deepEqual(texts(), ['newer'])
})

test('the retry of an edit ends when the message is edited again', async () => {
  const { clock, client, network, sendText, texts } = await setUpOnline()
  sendText(ann, 'Hello')
  network.faults = { loseRequest: 2 }
  const first = client.edit(chatId, 1, { text: 'first' })
  const rejected = assert.rejects(first, { code: 'superseded' })
  await clock.advance(500)
  const second = client.edit(chatId, 1, { text: 'second' })
  network.faults = {}
  await clock.advance(5_000)
  await rejected
  assert.equal((await second).text, 'second')
  assert.deepEqual(texts(), ['second'])
})

test('a refused action shows what the chat is now', async () => {
  const { clock, client, send, missing } = await setUpOnline()
  send(51, 'POST /chats', { userId: ann })
  await clock.advance(1_000)
  missing(() => send(51, 'PUT /chats/17-51/withdraw'))
  const rejected = assert.rejects(client.accept('17-51'), { code: 'chat_withdrawn' })
  await clock.advance(2_000)
  await rejected
  assert.deepEqual(client.state.received, [])
})

test('requests can be sent, accepted, declined and withdrawn', async () => {
  const { clock, client, send } = await setUpOnline()
  /** @template T @param {Promise<T>} promise */
  async function status(promise) {
    await clock.advance(1_000)
    return /** @type {any} */ (await promise).status
  }
  send(51, 'POST /chats', { userId: ann })
  send(52, 'POST /chats', { userId: ann })
  assert.equal(await status(client.request(50)), 'pending')
  assert.equal(await status(client.withdraw('17-50')), 'withdrawn')
  assert.equal(await status(client.accept('17-51')), 'active')
  assert.equal(await status(client.decline('17-52')), 'declined')
  assert.deepEqual(
    client.state.chats.map(({ peerId }) => peerId),
    [51, ben],
  )
  assert.equal(client.state.totals?.totalPendingRequest, 0)
})

test('blocking removes the chat at once, and unblocking brings it back', async () => {
  const { clock, client, network } = await setUpOnline(1)
  network.faults = { loseEvent: 2 }
  const block = client.block(ben)
  block.then(() => assert.deepEqual(client.state.chats, []))
  await clock.advance(2_000)
  assert.equal((await block).userId, ben)
  assert.deepEqual(client.state.chats, [])
  assert.equal(client.state.totals?.totalUnreadMessages, 0)
  client.unblock(ben)
  await clock.advance(2_000)
  assert.equal(client.state.chats.length, 1)
  assert.equal(client.state.totals?.totalUnreadMessages, 1)
})

test('reporting with block removes the chat', async () => {
  const { clock, client } = await setUpOnline(1)
  const report = client.report({ userId: ben, reason: 'spam', seq: 1, block: true })
  await clock.advance(2_000)
  assert.equal((await report).reason, 'spam')
  assert.deepEqual(client.state.chats, [])
})

test('marking as read sends the seq that is shown, and nothing if nothing is unread', async () => {
  const { clock, client, service, requests } = await setUpOnline(3)
  client.markRead(chatId)
  await clock.advance(2_000)
  assert.equal(client.state.chats[0]?.unreadCount, 0)
  assert.equal(client.state.totals?.totalUnreadMessages, 0)
  assert.equal(service.chats.get(chatId)?.read[ann], 3)
  assert.deepEqual(requests(), [`PUT /chats/${chatId}/messages/read`])
  client.markRead(chatId)
  await clock.advance(2_000)
  assert.deepEqual(requests(), [])
})

test('an action whose event arrives needs no other request', async () => {
  const { clock, client, requests } = await setUpOnline(3)
  client.send(chatId, { text: 'Hello' })
  client.markRead(chatId)
  await clock.advance(5_000)
  assert.deepEqual(requests().sort(), [`POST /chats/${chatId}/messages`, `PUT /chats/${chatId}/messages/read`])
})

// Stop

/** Stops the client: nothing happens for ten minutes. @param {Awaited<ReturnType<typeof setUpOnline>>} context */
async function stopsAll({ clock, client, network }) {
  const { fetch } = network
  let count = 0
  network.fetch = async (url, init) => {
    count++
    return fetch(url, init)
  }
  const { length } = network.handshakes
  client.stop()
  await clock.advance(500)
  assert.deepEqual(clock.delays, [])
  await clock.advance(600_000)
  assert.equal(count, 0)
  assert.equal(network.handshakes.length, length)
  assert.equal(client.state.error, null)
  network.fetch = fetch
}

test('stop during a pause ends it, and start sends what was not sent', async () => {
  const context = await setUpOnline()
  const { clock, client, network, messages, goOnline } = context
  network.faults = { loseRequest: 2 }
  const promise = client.send(chatId, { text: 'Hello' })
  const edit = client.edit(chatId, 1, { text: 'Hello' })
  edit.catch(() => {})
  await clock.advance(500)
  network.faults = {}
  await stopsAll(context)
  await assert.rejects(promise, { code: 'stopped', status: 0, isTransient: true })
  await assert.rejects(edit, { code: 'stopped' })
  assert.equal(messages()[0]?.state, 'failed')
  await goOnline()
  await clock.advance(1_000)
  assert.equal(messages()[0]?.state, 'sent')
})

test('stop aborts requests', async () => {
  const context = await setUpOnline()
  const { client, network } = context
  /** @type {AbortSignal | null | undefined} */
  let signal
  network.fetch = (_, init) => {
    signal = init.signal
    return new Promise(() => {})
  }
  const promise = client.send(chatId, { text: 'Hello' })
  await flush()
  assert.equal(signal?.aborted, false)
  await stopsAll(context)
  assert.equal(signal?.aborted, true)
  await assert.rejects(promise, { code: 'stopped' })
})

test('stop while everything is loaded ends that', async () => {
  const context = await setUpOnline(1)
  const { clock, network, events } = context
  network.cut(ann)
  events.dispatchEvent(new Event('online'))
  await clock.until(() => network.handshakes.length === 2 && context.service.connections.size === 1)
  await clock.advance(60)
  await stopsAll(context)
})

test('after stop, an action that was in flight loads nothing', async () => {
  const during = await setUpOnline(3)
  const promise = during.client.markRead(chatId)
  promise.catch(() => {})
  await during.clock.advance(20)
  await stopsAll(during)
  await assert.rejects(promise, { code: 'stopped' })

  const after = await setUpOnline(3)
  after.network.faults = { loseEvent: 2 }
  let isDone = false
  after.client.markRead(chatId).then(() => (isDone = true))
  await after.clock.until(() => isDone)
  await stopsAll(after)
})

test('while the client is stopped, an action fails without a token or a request', async () => {
  const context = await setUpOnline(1)
  const { client, service, clock, tokenRequests } = context
  service.typing(ben, chatId)
  await clock.advance(500)
  assert.equal(client.state.chats[0]?.isTyping, true)
  await stopsAll(context)
  assert.equal(client.state.chats[0]?.isTyping, false)
  tokenRequests.length = 0
  await clock.advance(24 * 3_600_000)
  await assert.rejects(client.api.getTotals(), { code: 'stopped' })
  await assert.rejects(client.open(chatId), { code: 'stopped' })
  await assert.rejects(client.send(chatId, { text: 'Hello' }), { code: 'stopped' })
  assert.deepEqual(tokenRequests, [])
  assert.deepEqual(clock.delays, [])
})

// State

test('listeners are called once for several changes, with a new state', async () => {
  const { client } = await setUpOnline()
  const before = client.state
  assert.equal(client.state, before)
  /** @type {unknown[]} */
  const states = []
  const end = client.subscribe(state => states.push(state))
  client.subscribe(() => states.push('other'))
  client.send(chatId, { text: '1' })
  client.send(chatId, { text: '2' })
  await flush()
  assert.equal(states.length, 2)
  assert.equal(states[0], client.state)
  assert.notEqual(client.state, before)
  end()
  client.send(chatId, { text: '3' })
  await flush()
  assert.deepEqual(states.slice(2), ['other'])
})

test('the state has the error of the last attempt to load', async () => {
  const { clock, client, network, events } = await setUpOnline()
  network.faults = { loseRequest: 2 }
  events.dispatchEvent(new Event('online'))
  await clock.advance(5_000)
  assert.equal(client.state.error?.code, 'network')
  network.faults = {}
  await clock.advance(60_000)
  assert.equal(client.state.error, null)
})
