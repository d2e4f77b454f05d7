// The network between a client and the model of the service: `fetch` and `WebSocket`, with faults.
import { Service } from './service.js'

/**
 * @typedef {object} NetworkFaults The probability of each fault, from 0 to 1.
 * @property {number} [loseRequest] a request does not reach the service
 * @property {number} [loseResponse] the service handles the request, and the client gets no response
 * @property {number} [cutResponse] the body of the response ends early
 * @property {number} [hang] there is no response until the client gives up
 * @property {number} [refuse] the service responds with 429, 500 or 503
 * @property {number} [refuseHandshake]
 * @property {number} [loseEvent]
 * @property {number} [repeatEvent]
 * @property {number} [delayEvent] an event arrives after later ones
 * @property {number} [cut] a frame closes the connection
 * @property {number} [die] a frame ends the connection, and the client hears nothing of it
 */

/** @param {number} user @param {number} expiresAt */
export function makeToken(user, expiresAt) {
  return `e30.${btoa(JSON.stringify({ sub: String(user), exp: Math.floor(expiresAt / 1000) }))}.c2ln`
}

/** @param {string} token @returns {{ sub: string, exp: number }} */
const claims = token => JSON.parse(atob(token.split('.')[1] ?? ''))

export class Network {
  /** @type {NetworkFaults} */
  faults = {}
  isDown = false
  /** Frames that the service did not accept because of the rate limit. */
  rateLimited = 0
  /** Handshakes of the client, with the time. @type {{ at: number, protocols: string[] }[]} */
  handshakes = []
  /** @type {any[]} */
  framesOfClient = []

  /**
   * @param {import('./clock.js').Clock} clock
   * @param {() => number} random
   * @param {Service} service
   */
  constructor(clock, random, service) {
    this.clock = clock
    this.random = random
    this.service = service
    const network = this
    this.WebSocket = class extends FakeSocket {
      /** @param {string} url @param {string[]} protocols */
      constructor(url, protocols) {
        super(network, protocols)
        this.url = url
      }
    }
  }

  /** @param {keyof NetworkFaults} fault */
  happens(fault) {
    const probability = this.faults[fault]
    return probability !== undefined && this.random() < probability
  }

  /** @param {number} min @param {number} max */
  latency = (min, max) => this.clock.sleep(min + this.random() * (max - min))

  /** @type {import('../../types/index.d.ts').Platform['fetch']} */
  fetch = async (url, init) => {
    const { method = 'GET', signal } = init
    const headers = /** @type {Record<string, string>} */ (init.headers)
    const failure = () => new TypeError('fetch failed')
    await this.latency(10, 100)
    if (this.isDown || this.happens('loseRequest')) throw failure()
    if (this.happens('hang')) {
      await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
    }
    const token = claims(headers['Authorization']?.replace('Bearer ', '') ?? '')
    if (token.exp * 1000 + 30_000 < this.clock.now())
      return this.response(401, { code: 'unauthorized', message: 'token' })
    if (this.happens('refuse')) {
      const kind = this.random()
      if (kind < 0.3) return this.response(429, { message: 'Too Many Requests' })
      if (kind < 0.6) return this.response(500, { code: 'internal', message: 'internal' })
      return this.response(503, { code: 'unavailable', message: 'busy' }, { 'Retry-After': '1' })
    }
    const body = init.body ? JSON.parse(String(init.body)) : undefined
    const path = url.replace('http://service', '')
    const { status, body: content } = this.service.handle(
      Number(token.sub),
      method,
      path,
      body,
      headers['Idempotency-Key'],
    )
    await this.latency(10, 100)
    if (this.isDown || this.happens('loseResponse')) throw failure()
    return this.response(status, content, {}, this.happens('cutResponse'))
  }

  /**
   * @param {number} status
   * @param {unknown} body
   * @param {Record<string, string>} [headers]
   * @param {boolean} [isCut]
   */
  response(status, body, headers = {}, isCut = false) {
    const text = JSON.stringify(body)
    return new Response(isCut ? text.slice(0, -2) : text, {
      status,
      headers: { ...headers, Date: new Date(this.clock.now()).toUTCString() },
    })
  }

  /** Ends all connections of a user. @param {number} user */
  cut(user) {
    for (const connection of this.service.connections) if (connection.user === user) connection.socket.drop(1006)
  }
}

/** The connection as the service sees it. */
export class Connection {
  openedAt
  lastFrameAt
  #nextAt = 0
  /** When the last event arrives at the client. */
  #arrivalOfLast = 0

  /** @param {FakeSocket} socket @param {number} user @param {number} tokenExpiresAt */
  constructor(socket, user, tokenExpiresAt) {
    this.socket = socket
    this.network = socket.network
    this.user = user
    this.tokenExpiresAt = tokenExpiresAt
    this.openedAt = this.lastFrameAt = this.network.clock.now()
  }

  /** Sends an event to the client. @param {() => unknown} makeEvent is called when the event is published */
  publish(makeEvent) {
    const { network } = this
    const { clock, random } = network
    clock.setTimeout(
      () => {
        if (this.tokenExpiresAt + 30_000 < clock.now()) {
          this.#deliver({ v: 1, type: 'bye', reason: 'token_expired' })
          return this.socket.drop(1000)
        }
        const event = makeEvent()
        if (network.happens('loseEvent')) return
        this.#deliver({ v: 1, events: [event] })
        if (network.happens('repeatEvent')) this.#deliver({ v: 1, events: [event] }, random() * 20_000)
      },
      50 + random() * 200,
    )
  }

  /** @param {unknown} frame @param {number} [delay] */
  #deliver(frame, delay = 0) {
    const { clock, random } = this.network
    if (this.network.happens('delayEvent')) delay += random() * 5_000
    else if (!delay) delay = Math.max(0, this.#arrivalOfLast - clock.now())
    const arrival = clock.now() + delay + random() * 50
    if (!this.network.faults.delayEvent) this.#arrivalOfLast = arrival
    // Read now: later changes must not show in a frame that is on its way.
    const text = JSON.stringify(frame)
    clock.setTimeout(() => this.socket.receive(text), arrival - clock.now())
  }

  /** Handles a frame of the client. @param {any} frame */
  handle(frame) {
    const { clock, service } = this.network
    const now = clock.now()
    this.lastFrameAt = now
    if (this.#nextAt - 4_000 > now) {
      this.network.rateLimited++
      return this.#deliver({ v: 1, type: 'error', code: 'rate_limited', message: 'slower' })
    }
    this.#nextAt = Math.max(this.#nextAt, now) + 1_000
    if (frame.type === 'sync') {
      this.#deliver({
        v: 1,
        type: 'synced',
        totals: service.totals(this.user),
        serverTime: new Date(now).toISOString(),
      })
    } else if (frame.type === 'renew') {
      this.tokenExpiresAt = claims(frame.token).exp * 1000
      this.#deliver({ v: 1, type: 'renewed', expiresAt: new Date(this.tokenExpiresAt).toISOString() })
    } else if (frame.type === 'typing') service.typing(this.user, frame.chatId)
  }

  /** API Gateway closes idle and old connections. */
  expire() {
    const now = this.network.clock.now()
    if (now - this.lastFrameAt >= 600_000 || now - this.openedAt >= 7_200_000) this.socket.drop(1001)
  }
}

/** The part of `WebSocket` that the client uses. */
class FakeSocket {
  readyState = 0
  /** @type {any} */
  onopen = null
  /** @type {any} */
  onmessage = null
  /** @type {any} */
  onclose = null
  /** @type {any} */
  onerror = null
  /** @type {Connection | null} */
  connection = null
  isDead = false

  /** @param {Network} network @param {string[]} protocols */
  constructor(network, protocols) {
    this.network = network
    const { clock, service } = network
    network.handshakes.push({ at: clock.now(), protocols })
    clock.setTimeout(
      () => {
        if (this.readyState !== 0) return
        const token = claims(protocols[1] ?? '')
        const isRefused =
          network.isDown || token.exp * 1000 + 30_000 < clock.now() || network.happens('refuseHandshake')
        if (isRefused || protocols[0] !== 'chat.v1') return this.drop(1006)
        this.readyState = 1
        this.connection = new Connection(this, Number(token.sub), token.exp * 1000)
        service.connections.add(this.connection)
        this.onopen?.({})
      },
      20 + network.random() * 100,
    )
  }

  /** @param {string} text */
  receive(text) {
    if (this.readyState !== 1 || this.isDead || this.network.isDown) return
    if (this.connection) this.connection.lastFrameAt = this.network.clock.now()
    this.onmessage?.({ data: text })
    if (this.network.happens('cut')) this.drop(1006)
    if (this.network.happens('die')) this.isDead = true
  }

  /** @param {string} text */
  send(text) {
    if (this.readyState !== 1) return
    this.network.framesOfClient.push(JSON.parse(text))
    if (!this.isDead && !this.network.isDown) this.connection?.handle(JSON.parse(text))
  }

  close() {
    this.readyState = 3
    if (this.connection) this.network.service.connections.delete(this.connection)
  }

  /** The connection ends. @param {number} code */
  drop(code) {
    if (this.readyState === 3) return
    this.close()
    if (!this.isDead) this.onclose?.({ code })
  }
}
