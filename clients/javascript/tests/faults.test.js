// Random actions of several users and devices while the network fails. When it works again, the client must show what
// `GET` says.
//
// CLIENT_RUNS is the number of runs (default 100), CLIENT_SEED the seed of the first one (default 1).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createChatClient } from '../src/index.js'
import { Clock, seededRandom } from './support/clock.js'
import { Service } from './support/service.js'
import { makeToken, Network } from './support/sockets.js'

const runs = Number(process.env['CLIENT_RUNS'] ?? 100)
const firstSeed = Number(process.env['CLIENT_SEED'] ?? 1)

const me = 5
const others = [2, 3, 7, 9]

/** @param {number} seed */
async function run(seed) {
  const random = seededRandom(seed)
  const clock = new Clock()
  const service = new Service(clock, random)
  const network = new Network(clock, random, service)
  /** @template T @param {T[]} list @returns {T} */
  const pick = list => /** @type {T} */ (list[Math.floor(random() * list.length)])
  const maybe = (/** @type {number} */ max) => (random() < 0.5 ? random() * max : 0)
  const hasLiveEvents = random() < 0.9

  const client = createChatClient({
    apiUrl: 'http://service',
    liveUrl: hasLiveEvents ? 'ws://service/live' : undefined,
    userId: me,
    getToken: () => makeToken(me, clock.now() + 600_000),
    platform: {
      fetch: network.fetch,
      WebSocket: /** @type {any} */ (network.WebSocket),
      now: clock.now,
      random,
      setTimeout: clock.setTimeout,
      clearTimeout: clock.clearTimeout,
      newKey: () => String(Math.floor(random() * 1e15)),
    },
  })

  const favorite = pick(others)
  let lastText = 0
  const text = () => `text ${++lastText}`
  /** A request of a user on another device, without faults. */
  const send = (
    /** @type {number} */ user,
    /** @type {string} */ method,
    /** @type {string} */ path,
    /** @type {any} */ body = undefined,
  ) => service.handle(user, method, path, body, method === 'POST' && random() < 0.5 ? String(random()) : undefined)

  for (const other of others) {
    send(me, 'POST', '/chats', { userId: other })
    if (random() < 0.8) send(other, 'PUT', `/chats/${Service.chatId(me, other)}/accept`)
    const count = random() * 60
    for (let index = 0; index < count; index++) {
      send(pick([me, other]), 'POST', `/chats/${Service.chatId(me, other)}/messages`, { text: text() })
    }
  }

  /** What another user, or the user on another device, does. */
  function act(/** @type {number} */ user, /** @type {number} */ other) {
    const path = `/chats/${Service.chatId(user, other)}`
    const seq = Math.max(
      1,
      (service.chats.get(path.slice(7))?.messages.length ?? 0) - Math.floor(random() * (random() < 0.7 ? 4 : 40)),
    )
    const actions = [
      () => send(user, 'POST', `${path}/messages`, { text: text() }),
      () => send(user, 'POST', `${path}/messages`, { text: text() }),
      () => send(user, 'PATCH', `${path}/messages/${seq}`, { text: text() }),
      () => send(user, 'PATCH', `${path}/messages/${seq}`, { text: text() }),
      () => send(user, 'PATCH', `${path}/messages/${seq}`, { text: text() }),
      () => send(user, 'DELETE', `${path}/messages/${seq}`),
      () => send(user, 'PUT', `${path}/messages/read`),
      () => send(user, 'PUT', `${path}/messages/read`, { seq }),
      () => send(user, 'POST', '/chats', { userId: other }),
      () => send(user, 'PUT', `${path}/accept`),
      () => send(user, 'PUT', `${path}/${pick(['decline', 'withdraw'])}`),
      () => send(user, pick(['PUT', 'DELETE', 'DELETE']), `/blocks/${other}`),
      () => service.typing(user, path.slice(7)),
    ]
    pick(actions)()
  }

  /** Messages that the client has sent, with the outcome. @type {{ text: string, outcome: Promise<unknown> }[]} */
  const sent = []
  /** Messages that were refused and sent again later: those may be stored after later ones. */
  const moved = new Set()
  const ignore = (/** @type {Promise<unknown>} */ promise) => void promise.catch(() => {})
  /** @param {number} other */
  function actAsClient(other) {
    const chatId = Service.chatId(me, other)
    const messages = client.state.conversations[chatId]?.messages ?? []
    const own = messages.filter(message => message.isOwn && message.seq)
    const seq = pick(random() < 0.7 ? own.slice(-3) : own)?.seq ?? 1
    const failed = pick(messages.filter(message => message.state === 'failed'))
    const sendText = () => {
      const content = { text: text() }
      sent.push({
        text: content.text,
        outcome: client.send(chatId, content).then(
          () => 'sent',
          error => error,
        ),
      })
    }
    const actions = [
      sendText,
      sendText,
      sendText,
      () => ignore(client.open(chatId)),
      () => ignore(client.open(chatId)),
      () => random() < 0.3 && client.close(chatId),
      () => ignore(client.edit(chatId, seq, { text: text() })),
      () => ignore(client.edit(chatId, seq, { text: text() })),
      () => ignore(client.delete(chatId, seq)),
      () => ignore(client.markRead(chatId)),
      () => ignore(client.loadOlder(chatId)),
      () => ignore(client.request(other)),
      () => ignore(client.accept(chatId)),
      () => ignore(pick([client.decline, client.withdraw])(chatId)),
      () => random() < 0.3 && ignore(client.block(other)),
      () => ignore(client.unblock(other)),
      () => client.typing(chatId),
      () => {
        if (failed && !failed.error?.isTransient) moved.add(failed.text)
        if (failed?.key) ignore(client.retry(failed.key))
      },
    ]
    pick(actions)()
  }

  service.faults = { lateList: maybe(0.9), stalePage: maybe(0.9), expiredChanges: maybe(0.2) }
  const setFaults = () => {
    network.faults = {
      loseRequest: maybe(0.2),
      loseResponse: maybe(0.2),
      cutResponse: maybe(0.05),
      hang: maybe(0.02),
      refuse: maybe(0.2),
      refuseHandshake: maybe(0.5),
      loseEvent: maybe(0.2),
      repeatEvent: maybe(0.6),
      delayEvent: maybe(0.6),
      cut: maybe(0.1),
      die: maybe(0.03),
    }
  }
  setFaults()
  let before = client.state
  /** @type {unknown} */
  let violation
  client.subscribe(state => {
    try {
      checkNothingGoesBack(before, state)
    } catch (error) {
      violation ??= error
    }
    before = state
  })
  client.start()
  for (let step = 0; step < 80; step++) {
    await clock.advance(random() < 0.05 ? random() * 120_000 : random() * 3_000)
    // Several things can happen at the same time, and most of them in one chat.
    const count = random() < 0.3 ? 6 : 1
    for (let action = 0; action < count; action++) {
      await clock.advance(random() * 20)
      const other = random() < 0.6 ? favorite : pick(others)
      const kind = random()
      if (kind < 0.4) actAsClient(other)
      else if (kind < 0.8) act(other, me)
      else act(me, other)
    }
    if (random() < 0.03) network.isDown = !network.isDown
    if (random() < 0.05) setFaults()
    if (random() < 0.05) network.cut(me)
    service.connections.forEach(connection => connection.expire())
    checkNothingIsTwice(client.state)
    if (violation) throw violation
  }

  // The network works again.
  network.isDown = false
  network.faults = {}
  service.faults = {}
  for (let minute = 0; minute < 13; minute++) {
    await clock.advance(60_000)
    service.connections.forEach(connection => connection.expire())
  }

  const get = (/** @type {string} */ path) => service.handle(me, 'GET', path).body
  const { state } = client
  assert.equal(state.connection, hasLiveEvents ? 'online' : 'polling')
  assert.equal(state.error, null)
  assert.deepEqual(state.totals, get('/totals'))
  const withoutView = (/** @type {any} */ chat) => {
    const { peerId, isTyping, ...rest } = chat
    assert(others.includes(peerId))
    assert.equal(isTyping, false)
    return rest
  }
  assert.deepEqual(state.chats.map(withoutView), get('/chats').chats)
  assert.deepEqual(state.received.map(withoutView), get('/chats/pending?direction=received').chats)
  assert.deepEqual(state.sent.map(withoutView), get('/chats/pending').chats)
  for (const [chatId, conversation] of Object.entries(state.conversations)) {
    ignore(client.open(chatId))
    await clock.advance(15_000)
    const { chat, messages, hasOlder } = client.state.conversations[chatId] ?? conversation
    assert.deepEqual(chat && withoutView(chat), get(`/chats/${chatId}`))
    const stored = messages.filter(message => message.seq !== null)
    const expected = get(`/chats/${chatId}/messages?limit=1000`).messages.reverse()
    const first = stored[0]?.seq ?? 1
    assert.equal(hasOlder, first > 1)
    const shown = stored.map(({ isOwn, state, key, error, ...message }) => {
      assert.equal(state, message.status)
      assert.equal(isOwn, message.senderId === me)
      return message
    })
    assert.deepEqual(shown, expected.slice(first - 1))
    assert.deepEqual(
      messages.filter(({ state }) => state === 'sending'),
      [],
    )
  }
  checkNothingIsTwice(client.state)
  if (violation) throw violation
  const texts = [...service.keys.values()].map(({ sent }) => JSON.parse(sent).text)
  for (const { text, outcome } of sent) {
    const count = texts.filter(other => other === text).length
    const result = await Promise.race([outcome, Promise.resolve('no outcome')])
    if (result === 'sent') assert.equal(count, 1, `${text} was sent ${count} times`)
    else assert(count <= 1 && result !== 'no outcome', `${text}: ${count}, ${result}`)
  }
  /** The last `seq` of each chat. @type {Map<string, number>} */
  const lastSeqs = new Map()
  for (const { text } of sent.filter(({ text }) => !moved.has(text))) {
    for (const [name, { seq, sent }] of service.keys) {
      if (JSON.parse(sent).text !== text) continue
      const chat = name.slice(0, name.lastIndexOf(' '))
      assert(seq > (lastSeqs.get(chat) ?? 0), `${text} was overtaken`)
      lastSeqs.set(chat, seq)
    }
  }
  assert.equal(network.rateLimited, 0)
  client.stop()
}

/**
 * No message is shown twice, as a stored one or as one that is being sent.
 *
 * @param {import('../types/index.d.ts').ChatState} state
 */
function checkNothingIsTwice(state) {
  for (const { messages } of Object.values(state.conversations)) {
    const ids = messages.flatMap(({ messageId }) => messageId ?? [])
    assert.equal(new Set(ids).size, ids.length)
    const seqs = messages.flatMap(({ seq, key }) => (seq && !key ? seq : []))
    seqs.forEach((seq, index) => assert(index === 0 || seq > Number(seqs[index - 1]), 'the order is wrong'))
    const sending = messages.filter(({ state }) => state === 'sending').map(({ text }) => text)
    const stored = messages.filter(({ seq }) => seq).map(({ text }) => text)
    assert(!sending.some(text => stored.includes(text)), 'a message that is being sent is shown twice')
  }
}

/**
 * No change is undone by data that arrives late.
 *
 * @param {import('../types/index.d.ts').ChatState} before
 * @param {import('../types/index.d.ts').ChatState} after
 */
function checkNothingGoesBack(before, after) {
  assert((after.totals?.version ?? 0) >= (before.totals?.version ?? 0), 'the totals are older')
  for (const [chatId, { chat, messages }] of Object.entries(before.conversations)) {
    const next = after.conversations[chatId]
    if (!chat || !next?.chat) continue
    for (const name of /** @type {const} */ (['updatedAt', 'rev', 'readSeq', 'peerReadSeq'])) {
      assert(next.chat[name] >= chat[name], `${name} of the chat is older`)
    }
    const known = new Map(next.messages.map(message => [message.seq, message]))
    for (const { seq, state, deletedAt } of messages) {
      const now = seq && known.get(seq)
      if (!now) continue
      assert(state !== 'read' || now.state === 'read', 'a message is no longer read')
      assert(!deletedAt || now.deletedAt, 'a message is no longer deleted')
    }
  }
}

test(`after ${runs} random runs with faults, the client shows what GET says`, async () => {
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
    try {
      await run(seed)
    } catch (error) {
      throw new Error(`CLIENT_SEED=${seed} CLIENT_RUNS=1 repeats the failure`, { cause: error })
    }
  }
})
