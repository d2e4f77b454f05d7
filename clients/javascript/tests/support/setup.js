// A client of user 17 with the model of the service, without faults.
import { createChatClient } from '../../src/index.js'
import { Clock } from './clock.js'
import { Service } from './service.js'
import { makeToken, Network } from './sockets.js'

export const ann = 17
export const ben = 42
export const chatId = '17-42'

/** @import { ClientOptions } from '../../types/index.d.ts' */

/** @param {Partial<ClientOptions> & { random?: () => number, tokenSeconds?: number }} [options] */
export function setUp({ random = () => 0.5, tokenSeconds = 3600 * 24, ...options } = {}) {
  const clock = new Clock()
  const service = new Service(clock, random)
  const network = new Network(clock, random, service)
  const events = new EventTarget()
  const page = { isHidden: false }
  /** @type {{ forceRefresh: boolean }[]} */
  const tokenRequests = []
  /** @type {import('../../types/index.d.ts').Traffic[]} */
  const traffic = []
  let lastKey = 0
  const client = createChatClient({
    apiUrl: 'http://service',
    liveUrl: 'ws://service/live',
    userId: ann,
    getToken(request) {
      tokenRequests.push(request)
      return makeToken(ann, clock.now() + tokenSeconds * 1000)
    },
    onTraffic: entry => traffic.push(entry),
    ...options,
    platform: {
      fetch: (url, init) => network.fetch(url, init),
      WebSocket: /** @type {any} */ (network.WebSocket),
      now: clock.now,
      random,
      setTimeout: clock.setTimeout,
      clearTimeout: clock.clearTimeout,
      newKey: () => `key-${++lastKey}`,
      events,
      isHidden: () => page.isHidden,
      ...options.platform,
    },
  })

  const context = {
    clock,
    service,
    network,
    events,
    page,
    tokenRequests,
    traffic,
    client,
    /** Sends a request of another device. @param {number} user @param {string} request such as `GET /chats` */
    send(user, request, /** @type {any} */ body = undefined) {
      const [method = '', path = ''] = request.split(' ')
      return service.handle(user, method, path, body).body
    },
    /** Makes the chat of Ann and Ben active, with messages of Ben. */
    makeChat(count = 0) {
      context.send(ann, 'POST /chats', { userId: ben })
      context.send(ben, `PUT /chats/${chatId}/accept`)
      for (let number = 1; number <= count; number++) context.sendText(ben, `message ${number}`)
    },
    /** @param {number} user @param {string} text */
    sendText(user, text) {
      return context.send(user, `POST /chats/${chatId}/messages`, { text })
    },
    async goOnline() {
      client.start()
      await clock.until(() => client.state.connection === 'online')
    },
    async open() {
      client.open(chatId).catch(() => {})
      await clock.until(() => client.state.conversations[chatId]?.isLoaded === true)
    },
    /** The texts of the conversation. */
    texts: () => client.state.conversations[chatId]?.messages.map(({ text }) => text),
    messages: () => client.state.conversations[chatId]?.messages ?? [],
    /** The requests that the client has sent since the last call, as `GET /chats`. */
    requests() {
      const lines = traffic.flatMap(entry => (entry.kind === 'request' ? `${entry.method} ${entry.path}` : []))
      traffic.length = 0
      return lines
    },
    /** The connection as the service sees it. */
    get connection() {
      return [...service.connections].at(-1)
    },
    /** Sends a frame to the client at once. @param {unknown} frame */
    deliver(frame) {
      context.connection?.socket.receive(JSON.stringify(frame))
    },
    /** An event of the chat as Ann sees it now. @param {string} type @param {object} [more] */
    event(type, more = {}) {
      const chat = context.send(ann, `GET /chats/${chatId}`)
      return { id: 'e', type, chatId, at: chat.updatedAt, chat, totals: context.send(ann, 'GET /totals'), ...more }
    },
    /** The client does not hear of what happens meanwhile. @param {() => void} action */
    missing(action) {
      const connections = [...service.connections]
      service.connections.clear()
      action()
      connections.forEach(connection => service.connections.add(connection))
    },
  }
  return context
}
