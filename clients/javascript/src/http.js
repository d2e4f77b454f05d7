import { ChatError } from './errors.js'

/** @import { Api, RequestOptions, RequestTraffic } from '../types/index.d.ts' */
/** @import { Token } from '../types/internal.d.ts' */

/** A token is renewed when less than this is left, in milliseconds. */
const RENEW_BEFORE = 60_000
/** API Gateway ends a request after 30 seconds. `getToken` may take as long. */
const REQUEST_TIMEOUT = 30_000
/** A longer `Retry-After` means that retries in a loop do not help. */
const MAX_RETRY_DELAY = 30_000

/** The method and the path. @type {Record<keyof Api, string>} */
export const ENDPOINTS = {
  sendChatRequest: 'POST /chats',
  listPendingRequests: 'GET /chats/pending',
  listRejectedRequests: 'GET /chats/rejected',
  acceptChatRequest: 'PUT /chats/{chatId}/accept',
  declineChatRequest: 'PUT /chats/{chatId}/decline',
  withdrawChatRequest: 'PUT /chats/{chatId}/withdraw',
  listActiveChats: 'GET /chats',
  getChat: 'GET /chats/{chatId}',
  sendMessage: 'POST /chats/{chatId}/messages',
  listMessages: 'GET /chats/{chatId}/messages',
  markMessagesRead: 'PUT /chats/{chatId}/messages/read',
  editMessage: 'PATCH /chats/{chatId}/messages/{seq}',
  deleteMessage: 'DELETE /chats/{chatId}/messages/{seq}',
  listChanges: 'GET /chats/{chatId}/changes',
  getTotals: 'GET /totals',
  getUnreadTotal: 'GET /totals/unread',
  blockUser: 'PUT /blocks/{userId}',
  unblockUser: 'DELETE /blocks/{userId}',
  listBlocks: 'GET /blocks',
  reportUser: 'POST /reports',
}

/** @param {string} token @returns {number} */
function expiryOf(token) {
  try {
    const payload = token.split('.')[1]?.replace(/-/g, '+').replace(/_/g, '/') ?? ''
    return JSON.parse(atob(payload)).exp * 1000 || Infinity
  } catch {
    return Infinity
  }
}

/** @type {import('../types/internal.d.ts').CreateHttp} */
export function createHttp({ apiUrl, getToken }, platform, timers, onTraffic) {
  /** @type {Token | undefined} */
  let token
  /** @type {Promise<Token> | undefined} */
  let refreshing
  /** The clock of the service minus that of the device, in milliseconds. */
  let offset = 0
  let lastId = 0

  const serverNow = () => platform.now() + offset

  /** @param {boolean} forceRefresh @returns {Promise<Token>} */
  async function fetchToken(forceRefresh) {
    const value = await wait(async () => getToken({ forceRefresh }))
    token = { value, expiresAt: expiryOf(value), fetchedAt: platform.now() }
    const isFresh = token.expiresAt - serverNow() > RENEW_BEFORE
    return isFresh || forceRefresh ? token : fetchToken(true)
  }

  /** @param {Token} [rejected] */
  async function accessToken(rejected) {
    if (token && token !== rejected) {
      const left = token.expiresAt - serverNow()
      // Tokens that live for less than a minute are not fetched for each request.
      if (left > RENEW_BEFORE || (left > 0 && platform.now() - token.fetchedAt < 10_000)) return token
    }
    return (refreshing ??= fetchToken(!!token).finally(() => {
      refreshing = undefined
    }))
  }

  /** What ends each wait, and whether it ends when the network is back. @type {Map<() => void, boolean>} */
  const waits = new Map()

  /**
   * Waits for a task, which fails after the delay, or only for the delay. Fails when the client stops.
   *
   * @param {((signal: AbortSignal) => Promise<any>) | null} task
   * @param {number} [delay]
   * @param {boolean} [canEnd]
   * @returns {Promise<any>}
   */
  const wait = (task, delay = REQUEST_TIMEOUT, canEnd = false) =>
    new Promise((resolve, reject) => {
      const name = `wait ${++lastId}`
      const controller = new AbortController()
      const end = () => {
        waits.delete(end)
        timers.clear(name)
        controller.abort()
        if (platform.isStopped) reject(new ChatError('stopped'))
        else if (task) reject()
        else resolve(null)
      }
      waits.set(end, canEnd)
      timers.set(name, delay, end)
      if (platform.isStopped) end()
      else task?.(controller.signal).then(resolve, reject).finally(end)
    })

  /**
   * Sends a request once.
   *
   * @param {string} method
   * @param {string} path
   * @param {Record<string, string>} headers
   * @param {unknown} body
   */
  async function exchange(method, path, headers, body) {
    const startedAt = platform.now()
    /** @type {RequestTraffic} */
    const traffic = { kind: 'request', method, path, requestBody: body, status: 0, body: null, duration: 0 }
    try {
      return await wait(async signal => {
        const response = await platform.fetch(apiUrl + path, {
          method,
          headers: body ? { ...headers, 'Content-Type': 'application/json' } : headers,
          signal,
          body: JSON.stringify(body),
        })
        traffic.status = response.status
        traffic.headers = response.headers
        const date = Date.parse(response.headers.get('Date') ?? '')
        if (date) offset = date - platform.now()
        const text = await response.text()
        if (response.ok) return (traffic.body = JSON.parse(text))
        /** @type {any} */
        let problem = {}
        try {
          traffic.body = problem = JSON.parse(text)
        } catch {
          // A proxy can send an error that is not JSON. The status is enough.
        }
        const { code = `http_${response.status}`, message = response.statusText, requestId } = problem
        const retryAfter = Number(response.headers.get('Retry-After')) || null
        throw new ChatError(code, message, { status: response.status, retryAfter, requestId })
      })
    } finally {
      traffic.duration = platform.now() - startedAt
      onTraffic(traffic)
    }
  }

  /**
   * Sends a request until there is a response that a retry does not change.
   *
   * @param {string} method
   * @param {string} path
   * @param {{ body?: unknown, key?: string | undefined }} content
   * @param {{ attempts: number, isCurrent?: () => boolean }} options
   */
  async function request(method, path, { body, key }, { attempts, isCurrent }) {
    /** @type {Token | undefined} */
    let rejected
    for (let attempt = 1; ; attempt++) {
      /** @type {Token | undefined} */
      let used
      try {
        used = await accessToken(rejected)
        /** @type {Record<string, string>} */
        const headers = { Authorization: `Bearer ${used.value}` }
        if (key) headers['Idempotency-Key'] = key
        return await exchange(method, path, headers, body)
      } catch (cause) {
        const error = cause instanceof ChatError ? cause : new ChatError('network', 'no response', { cause })
        if (error.status === 401 && used && !rejected) {
          rejected = used
          continue
        }
        const pause = (error.retryAfter ?? 0) * 1000
        const delay = pause
          ? pause + platform.random() * 1000
          : Math.min(500 * 2 ** attempt, MAX_RETRY_DELAY) * (1 + platform.random() / 2)
        const maxAttempts = error.code === 'internal' ? Math.min(3, attempts) : attempts
        const isFinal = attempt >= maxAttempts || pause > MAX_RETRY_DELAY
        if (!error.isTransient || isFinal) throw error
        await wait(null, delay, !pause)
        if (isCurrent?.() === false)
          throw new ChatError('superseded')
      }
    }
  }

  /** @param {number} attempts */
  function createApi(attempts) {
    /** @type {Record<string, unknown>} */
    const api = {}
    for (const [name, endpoint] of Object.entries(ENDPOINTS)) {
      const [method = '', template = ''] = endpoint.split(' ')
      /**
       * @param {Record<string, any>} [params]
       * @param {RequestOptions} [options]
       */
      api[name] = ({ body, idempotencyKey: key, ...params } = {}, options) => {
        const path = template.replace(/\{(\w+)\}/g, (_, parameter) => {
          const value = params[parameter]
          delete params[parameter]
          return encodeURIComponent(value)
        })
        const query = Object.entries(params).filter(([, value]) => value !== undefined && value !== null)
        const search = query.length ? `?${new URLSearchParams(query)}` : ''
        return request(method, path + search, { body, key }, { attempts, ...options })
      }
    }
    return /** @type {Api} */ (/** @type {unknown} */ (api))
  }

  /** @param {boolean} isAll */
  const endWaits = isAll => waits.forEach((canEnd, end) => (isAll || canEnd) && end())

  return { accessToken, serverNow, createApi, endWaits }
}
