// A simulated device: its network can be turned off, and its token can expire. The client gets it as its platform. All
// that the client does after that is real, and so are the responses of the service.

/** Stands in for the sign-in of an app, which gets tokens from its own server. */
async function fetchToken(userId, isExpired) {
  const response = await fetch(`/demo/token?user=${userId}${isExpired ? '&expired' : ''}`)
  if (!response.ok) throw new Error(`no token: status ${response.status}`)
  return (await response.json()).token
}

/** A connection that fails, as without a network. */
function deadSocket() {
  const socket = { readyState: 3, send() {}, close() {} }
  setTimeout(() => socket.onclose?.({}), 0)
  return socket
}

/** `report` gets what the client itself does not tell: tokens, and connections that open and close. */
export function createDevice({ userId, report, onChange }) {
  const events = new EventTarget()
  const sockets = new Set()
  let network = new AbortController()
  let expiredToken = null
  let isOnline = true

  for (const type of ['online', 'offline', 'visibilitychange']) {
    addEventListener(type, () => isOnline && events.dispatchEvent(new Event(type)))
  }

  function openSocket(url, protocols) {
    if (!isOnline) return deadSocket()
    const socket = new WebSocket(url, protocols)
    sockets.add(socket)
    socket.addEventListener('open', () => report({ kind: 'connection', isOpen: true }))
    socket.addEventListener('close', () => {
      sockets.delete(socket)
      report({ kind: 'connection', isOpen: false })
    })
    return socket
  }

  const device = {
    get isOnline() {
      return isOnline
    },
    get isExpired() {
      return expiredToken !== null
    },

    async getToken({ forceRefresh }) {
      if (!isOnline) throw new TypeError('no network')
      const startedAt = performance.now()
      const token = await fetchToken(userId, false)
      if (forceRefresh) expiredToken = null
      report({ kind: 'token', forceRefresh, duration: performance.now() - startedAt })
      onChange()
      return token
    },

    setOnline(value) {
      isOnline = value
      if (!isOnline) network.abort()
      else network = new AbortController()
      events.dispatchEvent(new Event(isOnline ? 'online' : 'offline'))
      onChange()
    },

    /**
     * From now on, requests have a token that has expired, until the client gets a new one. The open connection gets
     * this token, too, as if it had been opened with it.
     */
    async expireToken() {
      expiredToken = await fetchToken(userId, true)
      const frame = JSON.stringify({ type: 'renew', token: expiredToken })
      for (const socket of sockets) if (socket.readyState === WebSocket.OPEN) socket.send(frame)
      report({ kind: 'expired' })
      onChange()
    },

    platform: {
      events,
      WebSocket: function (url, protocols) {
        return openSocket(url, protocols)
      },
      fetch(path, init) {
        const headers = { ...init.headers, ...(expiredToken && { Authorization: `Bearer ${expiredToken}` }) }
        return fetch(path, { ...init, headers, signal: AbortSignal.any([init.signal, network.signal]) })
      },
    },
  }
  return device
}
