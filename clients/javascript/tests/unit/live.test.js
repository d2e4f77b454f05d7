import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ann, ben, chatId, setUp } from '../support/setup.js'

const MINUTE = 60_000

/** @param {number[]} times @param {number} start */
const pauses = (times, start) => times.map((time, index) => time - (times[index - 1] ?? start))

test('the client offers the protocol and the token', async () => {
  const { network, goOnline } = setUp()
  await goOnline()
  const [protocol, token] = network.handshakes[0]?.protocols ?? []
  assert.equal(protocol, 'chat.v1')
  assert.match(String(token), /^e30\./)
})

test('the client connects first and then loads, and applies events that arrive meanwhile', async () => {
  const context = setUp()
  const { clock, client, network, traffic, makeChat } = context
  makeChat(1)
  let wasOpen = false
  const { fetch } = network
  network.fetch = async (url, init) => {
    assert(wasOpen, 'a request was sent before the connection was open')
    return fetch(url, init)
  }
  client.start()
  await clock.until(() => context.connection !== undefined)
  wasOpen = true
  await clock.advance(30)
  assert.equal(client.state.connection, 'connecting')
  const event = context.event('message.created')
  context.deliver({ v: 1, events: [{ ...event, totals: { ...event.totals, version: 1000, totalUnreadMessages: 99 } }] })
  assert.equal(Boolean(client.state.totals), false)
  await clock.until(() => client.state.connection === 'online')
  const { totals, chats } = client.state
  assert.equal(totals?.totalUnreadMessages, 99)
  assert.equal(chats.length, 1)
  assert(traffic.some(entry => entry.kind === 'frame'))
})

test('reconnects with full jitter, up to 1, 2, 4, … 60 seconds', async () => {
  const { clock, client, network } = setUp({ random: () => 0.999 })
  network.faults = { refuseHandshake: 2 }
  client.start()
  await clock.advance(5 * MINUTE)
  const waits = pauses(
    network.handshakes.map(({ at }) => at),
    clock.now(),
  ).slice(1, 9)
  // Each handshake takes 0.12 seconds until it fails.
  assert.deepEqual(
    waits.map(wait => Math.round(wait / 1000)),
    [1, 2, 4, 8, 16, 32, 60, 60],
  )
})

test('full jitter also means that there can be no wait', async () => {
  const { clock, client, network } = setUp({ random: () => 0 })
  network.faults = { refuseHandshake: 2 }
  client.start()
  await clock.advance(199)
  assert(network.handshakes.length > 5)
})

test('after three failures the client polls, and everything else works', async () => {
  const context = setUp()
  const { clock, client, network, makeChat, sendText, open, texts } = context
  makeChat(1)
  network.faults = { refuseHandshake: 2 }
  client.start()
  await clock.until(() => client.state.connection === 'polling')
  assert.equal(network.handshakes.length, 3)
  await open()
  const sent = client.send(chatId, { text: 'mine' })
  await clock.advance(5_000)
  assert.equal((await sent).seq, 2)
  sendText(ben, 'theirs')
  await clock.advance(4_000)
  assert.deepEqual(texts(), ['message 1', 'mine', 'theirs'])
  await clock.advance(10_000)
  assert.equal(client.state.chats[0]?.lastMessage?.text, 'theirs')
  assert.equal(client.state.totals?.totalUnreadMessages, 2)
  network.faults = {}
  await clock.until(() => client.state.connection === 'online')
  context.requests()
  await clock.advance(2 * MINUTE)
  assert.deepEqual(context.requests(), [])
})

test('polling loads an open chat every 2 to 3 seconds, and every 10 seconds when nothing happens', async () => {
  const context = setUp({ liveUrl: undefined })
  const { clock, client, makeChat, open } = context
  makeChat(1)
  client.start()
  await clock.until(() => client.state.connection === 'polling')
  await open()
  const count = async () => {
    context.requests()
    await clock.advance(50_000)
    return context.requests().filter(line => line === `GET /chats/${chatId}`).length
  }
  const busy = await count()
  assert(busy >= 15 && busy <= 20, String(busy))
  await clock.advance(30_000)
  const idle = await count()
  assert(idle >= 4 && idle <= 6, String(idle))
})

test('polling loads requests only after the totals have changed', async () => {
  const context = setUp({ liveUrl: undefined })
  const { clock, client, send } = context
  client.start()
  await clock.advance(MINUTE)
  context.requests()
  await clock.advance(MINUTE)
  assert(!context.requests().some(line => line.startsWith('GET /chats/pending')))
  send(ben, 'POST /chats', { userId: ann })
  await clock.advance(15_000)
  assert.equal(client.state.received.length, 1)
})

test('a page in the background polls once a minute', async () => {
  const context = setUp({ liveUrl: undefined })
  const { clock, client, page } = context
  client.start()
  page.isHidden = true
  await clock.advance(MINUTE)
  context.requests()
  await clock.advance(10 * MINUTE)
  const count = context.requests().filter(line => line === 'GET /totals').length
  assert(count >= 9 && count <= 11, String(count))
})

test('without a network the client is offline, and sends what has failed when it is back', async () => {
  const { clock, client, network, makeChat, goOnline, open, messages } = setUp()
  makeChat()
  await goOnline()
  await open()
  network.isDown = true
  network.cut(ann)
  const sent = client.send(chatId, { text: 'mine' })
  await clock.until(() => client.state.connection === 'offline')
  await clock.until(() => messages()[0]?.state === 'failed')
  await assert.rejects(sent, { code: 'network' })
  network.isDown = false
  await clock.until(() => client.state.connection === 'online')
  await clock.advance(1_000)
  assert.deepEqual(
    messages().map(({ state, text }) => [state, text]),
    [['sent', 'mine']],
  )
  assert.equal(client.state.error, null)
})

for (const [random, expected] of [
  [0, 4],
  [0.999, 6],
]) {
  test(`sends sync after ${expected} minutes without a frame`, async () => {
    const { clock, network, goOnline } = setUp({ random: () => Number(random) })
    await goOnline()
    await clock.advance(Number(expected) * MINUTE - 2_000)
    assert.deepEqual(network.framesOfClient, [])
    await clock.advance(2_000)
    assert.deepEqual(network.framesOfClient, [{ type: 'sync' }])
  })
}

test('a frame of the service postpones sync', async () => {
  const { clock, network, goOnline, makeChat, sendText } = setUp()
  makeChat()
  await goOnline()
  await clock.advance(4 * MINUTE)
  sendText(ben, 'Hello')
  await clock.advance(4 * MINUTE)
  assert.deepEqual(network.framesOfClient, [])
})

test('after synced, the client loads what was missed', async () => {
  const context = setUp()
  const { clock, client, goOnline, makeChat, open, sendText, texts, missing } = context
  makeChat(1)
  await goOnline()
  await open()
  missing(() => sendText(ben, 'missed'))
  assert.deepEqual(texts(), ['message 1'])
  await clock.advance(6 * MINUTE)
  assert.deepEqual(texts(), ['message 1', 'missed'])
  assert.equal(client.state.totals?.totalUnreadMessages, 2)
})

test('without a response to sync in 5 seconds, the client reconnects', async () => {
  const context = setUp()
  const { clock, client, network, goOnline } = context
  await goOnline()
  if (context.connection) context.connection.socket.isDead = true
  await clock.until(() => network.framesOfClient.length === 1)
  await clock.advance(4_900)
  assert.equal(client.state.connection, 'online')
  await clock.advance(200)
  assert.equal(client.state.connection, 'connecting')
  await clock.until(() => client.state.connection === 'online')
  assert.equal(network.handshakes.length, 2)
})

for (const type of ['online', 'visibilitychange']) {
  test(`sends sync on ${type}`, async () => {
    const { network, events, goOnline } = setUp()
    await goOnline()
    events.dispatchEvent(new Event(type))
    assert.deepEqual(network.framesOfClient, [{ type: 'sync' }])
  })
}

test('does nothing when the page is hidden', async () => {
  const { network, events, page, goOnline } = setUp()
  await goOnline()
  page.isHidden = true
  events.dispatchEvent(new Event('visibilitychange'))
  assert.deepEqual(network.framesOfClient, [])
})

test('the event offline shows at once, and online reconnects within a second', async () => {
  const { clock, client, network, events, goOnline } = setUp()
  await goOnline()
  network.isDown = true
  events.dispatchEvent(new Event('offline'))
  assert.equal(client.state.connection, 'offline')
  await clock.advance(5 * MINUTE)
  network.isDown = false
  events.dispatchEvent(new Event('online'))
  await clock.advance(1_500)
  assert.equal(client.state.connection, 'online')
})

test('when the network is back, a message that is being sent does not wait for the end of a pause', async () => {
  const { clock, client, network, events, makeChat, goOnline, open, messages } = setUp()
  makeChat()
  await goOnline()
  await open()
  network.isDown = true
  events.dispatchEvent(new Event('offline'))
  client.send(chatId, { text: 'mine' })
  // After the fourth attempt, the pause is 8 to 12 seconds.
  await clock.advance(12_000)
  assert.equal(messages()[0]?.state, 'sending')
  network.isDown = false
  events.dispatchEvent(new Event('online'))
  await clock.advance(1_000)
  assert.equal(messages()[0]?.state, 'sent')
})

test('a token is renewed over the connection a minute before it expires', async () => {
  const context = setUp({ tokenSeconds: 600 })
  const { clock, client, network, goOnline, tokenRequests, traffic } = context
  await goOnline()
  await clock.advance(9 * MINUTE - 2_000)
  assert(!network.framesOfClient.some(({ type }) => type === 'renew'))
  await clock.advance(3_000)
  const frames = network.framesOfClient.filter(({ type }) => type === 'renew')
  assert.equal(frames.length, 1)
  assert.match(frames[0].token, /^e30\./)
  assert.deepEqual(tokenRequests, [{ forceRefresh: false }, { forceRefresh: true }])
  await clock.advance(60 * MINUTE)
  assert.equal(network.handshakes.length, 1)
  assert.equal(client.state.connection, 'online')
  assert(Number(context.connection?.tokenExpiresAt) > clock.now())
  assert(!JSON.stringify(traffic).includes('e30.'))
})

test('a renewal without a response leads to a new connection', async () => {
  const context = setUp({ tokenSeconds: 600 })
  const { clock, network, goOnline } = context
  await goOnline()
  await clock.advance(5.5 * MINUTE)
  if (context.connection) context.connection.socket.isDead = true
  await clock.until(() => network.framesOfClient.some(({ type }) => type === 'renew'))
  await clock.advance(7_000)
  assert.equal(network.handshakes.length, 2)
})

test('a token that the service refuses to renew is replaced', async () => {
  const context = setUp()
  const { clock, network, goOnline, tokenRequests } = context
  await goOnline()
  context.deliver({ v: 1, type: 'error', code: 'unauthorized', message: 'x' })
  await clock.advance(2_000)
  assert.equal(network.handshakes.length, 2)
  assert.deepEqual(tokenRequests, [{ forceRefresh: false }, { forceRefresh: true }])
})

for (const [random, minutes] of [
  [0, 90],
  [0.999, 115],
]) {
  test(`a connection is replaced after ${minutes} minutes`, async () => {
    const { clock, network, goOnline } = setUp({ random: () => Number(random) })
    await goOnline()
    await clock.advance(Number(minutes) * MINUTE - 5_000)
    assert.equal(network.handshakes.length, 1)
    await clock.advance(5_000)
    assert.equal(network.handshakes.length, 2)
  })
}

test('bye token_expired: connects with a new token', async () => {
  const context = setUp()
  const { clock, network, goOnline, tokenRequests } = context
  await goOnline()
  context.deliver({ v: 1, type: 'bye', reason: 'token_expired' })
  await clock.advance(2_000)
  assert.equal(network.handshakes.length, 2)
  assert.deepEqual(tokenRequests, [{ forceRefresh: false }, { forceRefresh: true }])
})

test('bye behind: connects and loads again', async () => {
  const context = setUp()
  const { clock, client, goOnline, makeChat, missing } = context
  await goOnline()
  missing(makeChat)
  context.deliver({ v: 1, type: 'bye', reason: 'behind' })
  await clock.advance(2_000)
  assert.equal(client.state.connection, 'online')
  assert.equal(client.state.chats.length, 1)
})

test('bye too_many_connections: polls for some minutes, so that two devices do not close each other', async () => {
  const context = setUp()
  const { clock, client, network, events, goOnline } = context
  await goOnline()
  context.deliver({ v: 1, type: 'bye', reason: 'too_many_connections' })
  await clock.advance(5 * MINUTE)
  assert.equal(client.state.connection, 'polling')
  assert.equal(network.handshakes.length, 1)
  await clock.advance(5 * MINUTE)
  assert.equal(network.handshakes.length, 2)
  context.deliver({ v: 1, type: 'bye', reason: 'too_many_connections' })
  events.dispatchEvent(new Event('visibilitychange'))
  await clock.advance(2_000)
  assert.equal(client.state.connection, 'online')
})

test('a service that closes connections at once is asked less and less often', async () => {
  const context = setUp()
  const { clock, client, network } = context
  client.start()
  for (let second = 0; second < 120; second++) {
    await clock.advance(1_000)
    network.cut(ann)
  }
  assert(network.handshakes.length < 10, String(network.handshakes.length))
})

test('the client sends five frames at once and then one a second', async () => {
  const context = setUp()
  const { clock, client, network, events, goOnline, send } = context
  for (let user = 100; user < 110; user++) {
    send(ann, 'POST /chats', { userId: user })
    send(user, `PUT /chats/17-${user}/accept`)
  }
  await goOnline()
  for (let user = 100; user < 110; user++) client.typing(`17-${user}`)
  assert.equal(network.framesOfClient.length, 5)
  events.dispatchEvent(new Event('online'))
  await clock.advance(900)
  assert.equal(network.framesOfClient.length, 5)
  await clock.advance(200)
  assert.deepEqual(network.framesOfClient[5], { type: 'sync' })
  client.typing('17-109')
  assert.equal(network.framesOfClient.length, 6)
  assert.equal(network.rateLimited, 0)
})

test('typing is sent at most once in three seconds', async () => {
  const { clock, client, network, goOnline, makeChat } = setUp()
  makeChat()
  await goOnline()
  for (let key = 0; key < 29; key++) {
    client.typing(chatId)
    await clock.advance(200)
  }
  assert.deepEqual(network.framesOfClient, [
    { type: 'typing', chatId },
    { type: 'typing', chatId },
  ])
})

test('typing is not sent without a connection', async () => {
  const { client, network } = setUp()
  client.typing(chatId)
  client.start()
  client.typing(chatId)
  assert.deepEqual(network.framesOfClient, [])
})

test('typing of the other member shows for six seconds, or until a message arrives', async () => {
  const { clock, client, service, goOnline, makeChat, sendText, open } = setUp()
  makeChat()
  await goOnline()
  await open()
  const isTyping = () => [client.state.chats[0]?.isTyping, client.state.conversations[chatId]?.chat?.isTyping]
  service.typing(ben, chatId)
  await clock.advance(1_000)
  assert.deepEqual(isTyping(), [true, true])
  await clock.advance(6_000)
  assert.deepEqual(isTyping(), [false, false])
  service.typing(ben, chatId)
  await clock.advance(500)
  sendText(ben, 'Hello')
  await clock.advance(500)
  assert.deepEqual(isTyping(), [false, false])
})

test('frames and events of later versions are ignored', async () => {
  const context = setUp()
  const { clock, client, goOnline } = context
  await goOnline()
  const socket = context.connection?.socket
  socket?.receive('not JSON')
  socket?.receive('{"v":1,"type":"later"}')
  socket?.receive('{"message":"Internal server error","connectionId":"a=","requestId":"b"}')
  socket?.receive('{"v":1,"events":[{"id":"a","type":"reaction","chatId":"17-42","at":"2026-01-31T12:00:00.000Z"}]}')
  await clock.advance(1_000)
  assert.equal(client.state.connection, 'online')
  assert.equal(client.state.error, null)
})

test('close leaves the socket with a listener for errors, as the package ws needs it', async () => {
  const context = setUp()
  await context.goOnline()
  const socket = context.connection?.socket
  context.client.stop()
  assert.equal(typeof socket?.onerror, 'function')
})

test('stop ends all timers and the connection, and start connects again', async () => {
  const context = setUp()
  const { clock, client, service, network, goOnline, makeChat } = context
  makeChat()
  await goOnline()
  client.stop()
  await clock.advance(2_000)
  assert.deepEqual(clock.delays, [])
  assert.equal(service.connections.size, 0)
  await goOnline()
  await clock.advance(1_000)
  assert.equal(network.handshakes.length, 2)
  assert.equal(client.state.connection, 'online')
})
