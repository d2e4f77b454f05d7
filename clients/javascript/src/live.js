const MINUTE = 60_000
/** How long the service may take for a handshake and for the response to a frame, in milliseconds. */
const HANDSHAKE_TIMEOUT = 10_000
const RESPONSE_TIMEOUT = 5_000
/** The service accepts one frame a second on average and five at once. */
const FRAME_INTERVAL = 1_000
const FRAME_BURST = 5
const TYPING_INTERVAL = 3_000
/** After so many failures the client polls. */
const MAX_FAILURES = 3

/** @type {import('../types/internal.d.ts').CreateLive} */
export function createLive({ url, http, platform, timers, onTraffic, load, onEvents, onSynced, onMode }) {
  /** @type {WebSocket | null} */
  let socket = null
  /** @type {import('../types/internal.d.ts').Token | undefined} */
  let token
  /** @type {typeof token} */
  let rejectedToken
  /** Changes with each connection, so that a late result of an older one has no effect. */
  let generation = 0
  let failures = 0
  let onlineSince = 0
  /** When the next frame could be sent if the service accepted no bursts. */
  let nextFrameAt = 0
  /** @type {Map<string, number>} */
  const typedAt = new Map()

  function disconnect() {
    generation++
    onlineSince = 0
    timers.clearAll()
    if (!socket) return
    // The package `ws` throws an error that nobody listens to.
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = () => {}
    socket.close()
    socket = null
  }

  /** The connection failed, or could not be opened. Connects again after a random time. */
  function reconnect() {
    // A service that closes connections at once is not asked again and again.
    if (onlineSince && platform.now() - onlineSince > 10_000) failures = 0
    disconnect()
    const limit = Math.min(MINUTE, 1000 * 2 ** failures)
    failures++
    timers.set('connect', platform.random() * limit, connect)
    onMode(failures >= MAX_FAILURES ? 'polling' : 'connecting')
  }

  async function connect() {
    disconnect()
    const current = generation
    try {
      token = await http.accessToken(rejectedToken)
      if (current !== generation) return
      socket = new platform.WebSocket(/** @type {string} */ (url), ['chat.v1', token.value])
    } catch {
      return current === generation && reconnect()
    }
    timers.set('handshake', HANDSHAKE_TIMEOUT, reconnect)
    socket.onclose = socket.onerror = reconnect
    socket.onmessage = receive
    socket.onopen = async () => {
      timers.clear('handshake')
      rejectedToken = undefined
      nextFrameAt = 0
      awaitFrame()
      timers.set('replace', (90 + platform.random() * 25) * MINUTE, connect)
      if (token) renewBefore(token.expiresAt)
      try {
        await load()
      } catch {
        return current === generation && reconnect()
      }
      if (current !== generation) return
      onlineSince = platform.now()
      onMode('online')
    }
  }

  /** Asks the service whether the connection works, when there was no frame for about five minutes. */
  function awaitFrame() {
    timers.set('idle', (4 + platform.random() * 2) * MINUTE, sync)
  }

  /** @param {MessageEvent} event */
  function receive({ data }) {
    awaitFrame()
    let frame
    try {
      frame = JSON.parse(data)
    } catch {
      return
    }
    onTraffic({ kind: 'frame', direction: 'in', frame })
    if (Array.isArray(frame.events)) return onEvents(frame.events)
    switch (frame.type) {
      case 'synced':
        timers.clear('synced')
        return onSynced(frame)
      case 'renewed':
        timers.clear('renewed')
        return renewBefore(Date.parse(frame.expiresAt))
      case 'error':
        if (frame.code === 'unauthorized') {
          rejectedToken = token
          reconnect()
        }
        return
      case 'bye':
        if (frame.reason === 'token_expired') rejectedToken = token
        if (frame.reason !== 'too_many_connections') return reconnect()
        // Coming back at once would close the connection of another device, which would come back as well.
        disconnect()
        timers.set('connect', (5 + platform.random() * 5) * MINUTE, connect)
        return onMode('polling')
    }
  }

  /** How long a frame must wait because of the rate limit, in milliseconds. */
  const frameDelay = () => Math.max(0, nextFrameAt - (FRAME_BURST - 1) * FRAME_INTERVAL - platform.now())

  /** @param {{ type: string, token?: string, chatId?: string }} frame */
  function sendFrame(frame) {
    nextFrameAt = Math.max(nextFrameAt, platform.now()) + FRAME_INTERVAL
    socket?.send(JSON.stringify(frame))
    onTraffic({ kind: 'frame', direction: 'out', frame: frame.token ? { ...frame, token: '…' } : frame })
  }

  /**
   * Sends a frame as soon as the rate limit allows it. Without its response the connection does not work.
   *
   * @param {string} response the type of the response
   * @param {{ type: string, token?: string }} frame
   */
  function ask(response, frame) {
    if (!timers.has(response)) send()
    function send() {
      const delay = frameDelay()
      if (delay > 0) return timers.set(response, delay, send)
      sendFrame(frame)
      timers.set(response, RESPONSE_TIMEOUT, reconnect)
    }
  }

  const sync = () => ask('synced', { type: 'sync' })

  /** @param {number} expiresAt */
  function renewBefore(expiresAt) {
    const delay = Math.max(expiresAt - http.serverNow() - MINUTE, 10_000)
    // A connection is replaced before two hours have passed. Longer times do not fit into a timer.
    if (delay < 120 * MINUTE) timers.set('renew', delay, renew)
  }

  async function renew() {
    const current = generation
    const known = token
    try {
      const renewed = await http.accessToken(known)
      if (current !== generation) return
      token = renewed
      ask('renewed', { type: 'renew', token: renewed.value })
    } catch {
      if (current === generation && known) renewBefore(known.expiresAt)
    }
  }

  return {
    start() {
      failures = 0
      if (url) {
        onMode('connecting')
        connect()
      } else onMode('polling')
    },
    stop: disconnect,

    wake() {
      if (!url) return
      if (socket?.readyState === 1) sync()
      else if (timers.has('connect')) timers.set('connect', platform.random() * 1000, connect)
    },
    lose: () => url && reconnect(),

    typing(chatId) {
      const now = platform.now()
      if (!onlineSince || frameDelay() > 0 || now - (typedAt.get(chatId) ?? -Infinity) < TYPING_INTERVAL) return
      typedAt.set(chatId, now)
      sendFrame({ type: 'typing', chatId })
    },
  }
}
