import { createHttp } from './http.js'
import { createLive } from './live.js'
import { createLoader } from './loader.js'
import { createModel, lastSeq } from './model.js'
import { createOutbox } from './outbox.js'
import { createTimers } from './timers.js'
import { createView } from './view.js'

/** @import { ChatClient, ChatError, ChatEvent, ChatState, Message } from '../types/index.d.ts' */
/** @import { Platform, RequestOptions, Traffic } from '../types/index.d.ts' */

/** An event usually tells the result of an action within this time, in milliseconds. */
const EVENT_DELAY = 500
const TYPING_SHOWN = 6_000

/** @returns {Platform} */
const defaultPlatform = () => ({
  fetch: (url, init) => fetch(url, init),
  WebSocket: globalThis.WebSocket,
  now: Date.now,
  random: Math.random,
  setTimeout: (callback, delay) => setTimeout(callback, delay),
  clearTimeout: id => clearTimeout(id),
  // `randomUUID` exists only in pages that were loaded over HTTPS or from localhost.
  newKey: () => crypto.getRandomValues(new Uint32Array(4)).join('-'),
  events: globalThis,
  isHidden: () => !!globalThis.document?.hidden,
})

/** @type {typeof import('../types/index.d.ts').createChatClient} */
export function createChatClient(options) {
  const { userId } = options
  const platform = { ...defaultPlatform(), ...options.platform, isStopped: false }
  const timers = createTimers(platform)
  /** An exception of the app harms nothing. @param {Traffic} traffic */
  const onTraffic = traffic => queueMicrotask(() => options.onTraffic?.(traffic))
  const http = createHttp(options, platform, timers, onTraffic)
  const api = http.createApi(5)
  /** With few attempts, because everything is loaded again later. */
  const loaderApi = http.createApi(2)
  const model = createModel(userId)
  /** @type {Set<(state: ChatState) => void>} */
  const listeners = new Set()
  /** The last action of each kind. @type {Map<string, object>} */
  const lastActions = new Map()
  const typing = new Set()
  /** Events that arrive while the client loads. @type {ChatEvent[] | null} */
  let held = null
  /** @type {ChatState['connection']} */
  let connection = 'connecting'
  /** @type {ChatState | null} */
  let state = null
  let isNotifying = false
  let isPolling = false

  const outbox = createOutbox({
    api,
    platform,
    serverNow: http.serverNow,
    lastSeq(chatId) {
      const conversation = model.conversations.get(chatId)
      return conversation?.isLoaded ? conversation.last : lastSeq(model.chats.get(chatId))
    },
    onSent(message) {
      model.put(model.conversations.get(message.chatId), message, 0)
      confirm(message.chatId)
    },
    onFailed: confirm,
    onChange,
  })
  const loader = createLoader({
    api: loaderApi,
    platform,
    timers,
    model,
    onLoaded: outbox.retryTransient,
    onChange,
  })
  const live = createLive({
    url: options.liveUrl,
    http,
    platform,
    timers: createTimers(platform),
    onTraffic,
    async load() {
      /** @type {ChatEvent[]} */
      const events = (held = [])
      try {
        await loader.loadAll()
      } catch (error) {
        if (!platform.isStopped) loader.error = /** @type {ChatError} */ (error)
        throw error
      } finally {
        if (held === events) held = null
        receive(events)
      }
    },
    onEvents: events => (held ? held.push(...events) : receive(events)),
    onSynced({ totals }) {
      model.mergeTotals(totals)
      loader.reload()
    },
    onMode(mode) {
      if (mode === 'polling') return startPolling()
      if (mode === 'online') stopPolling()
      if (!isPolling) setConnection(mode)
    },
  })
  const view = createView({ userId, model, outbox, typing })

  function onChange() {
    loader.checkTotals()
    state = null
    if (isNotifying) return
    isNotifying = true
    queueMicrotask(() => {
      isNotifying = false
      // An error of one listener does not keep the others from being called.
      for (const listener of listeners) queueMicrotask(() => listener(client.state))
    })
  }

  /** @param {ChatState['connection']} next */
  function setConnection(next) {
    connection = next
    onChange()
  }

  /** @param {ChatEvent[]} events */
  function receive(events) {
    for (const event of events) {
      const { type, chatId, message, idempotencyKey } = event
      if (type === 'typing') showTyping(chatId)
      else {
        if (message && idempotencyKey) outbox.settle(idempotencyKey, message)
        if (type === 'message.created' && message?.senderId !== userId) typing.delete(chatId)
        timers.clear(`confirm ${chatId}`)
        loader.receive(event)
      }
    }
    onChange()
  }

  /** @param {string} chatId */
  function showTyping(chatId) {
    typing.add(chatId)
    timers.set(`typing ${chatId}`, TYPING_SHOWN, () => {
      typing.delete(chatId)
      onChange()
    })
  }

  function startPolling() {
    if (isPolling) return
    isPolling = true
    loader.loadedAt = 0
    poll()
  }

  function stopPolling() {
    isPolling = false
    timers.clear('poll')
  }

  async function poll() {
    timers.clear('poll')
    let failure
    try {
      if (platform.now() - loader.loadedAt > 9_000) await loader.loadAll()
      else await loader.updateOpen()
    } catch (error) {
      failure = { error, loadedAt: 0 }
    }
    if (!isPolling) return
    Object.assign(loader, failure)
    setConnection(failure ? 'offline' : 'polling')
    schedulePoll()
  }

  function schedulePoll() {
    const isBusy = loader.openChats()[0] && platform.now() - loader.newsAt < 60_000
    const interval = platform.isHidden() ? 60_000 : isBusy ? 2_500 : 10_000
    timers.set('poll', interval * (0.8 + 0.4 * platform.random()), poll)
  }

  /** @param {Event} event */
  function onPlatformEvent({ type }) {
    if (type === 'offline') {
      live.lose()
      setConnection('offline')
    } else if (!platform.isHidden()) {
      if (type === 'online') http.endWaits(false)
      live.wake()
      if (isPolling) poll()
    }
  }

  /** @param {'addEventListener' | 'removeEventListener'} change */
  function listen(change) {
    for (const type of ['online', 'offline', 'visibilitychange']) platform.events?.[change]?.(type, onPlatformEvent)
  }

  /**
   * Sends a request that changes a chat. Its retries end when a later action of its kind begins.
   *
   * @template T
   * @param {string} chatId
   * @param {string} kind
   * @param {(options: RequestOptions) => Promise<T>} send
   * @param {(response: T) => void} [show]
   */
  function act(chatId, kind, send, show) {
    const action = {}
    const name = `${kind} ${chatId}`
    lastActions.set(name, action)
    const isCurrent = () => lastActions.get(name) === action
    const result = loader.inOrder(chatId, async () => {
      const response = await send({ isCurrent })
      show?.(response)
      return response
    })
    return result.finally(() => {
      // Also after an error: the chat is not as it was shown, or the request was applied all the same.
      confirm(chatId)
      onChange()
    })
  }

  /** Loads a chat after an action, unless an event tells its result. @param {string} chatId */
  function confirm(chatId) {
    const load = async () => {
      await loader.update(chatId)
      model.mergeTotals(await loaderApi.getTotals())
      onChange()
    }
    timers.set(`confirm ${chatId}`, connection === 'online' ? EVENT_DELAY : 0, () => loader.inBackground(load()))
  }

  /** @param {'sendChatRequest' | 'acceptChatRequest' | 'declineChatRequest' | 'withdrawChatRequest'} endpoint */
  const setStatus =
    endpoint =>
    (/** @type {string} */ chatId, /** @type {any} */ params = { chatId }) =>
      act(
        chatId,
        'status',
        request => api[endpoint](params, request),
        chat => void model.mergeChat(chat, true),
      )

  /**
   * Sends a request that can block or unblock a user, and loads the chat, because the response does not contain it.
   *
   * @template T
   * @param {number} other
   * @param {string} kind
   * @param {(options: RequestOptions) => Promise<T>} send
   */
  const actOnUser = (other, kind, send) =>
    act(chatIdWith(other), kind, async request => {
      const response = await send(request)
      await loader.fetchChat(chatIdWith(other))
      return response
    })

  /** @param {number} other */
  const chatIdWith = other => `${Math.min(userId, other)}-${Math.max(userId, other)}`

  /** @param {string} chatId @param {number} seq @param {(options: RequestOptions) => Promise<Message>} send */
  function change(chatId, seq, send) {
    const conversation = model.conversations.get(chatId)
    const rev = conversation?.rev
    // The response has no `rev`. If changes have arrived meanwhile, they can be newer.
    return act(chatId, `change ${seq}`, send, message => {
      const item = conversation?.items[seq - conversation.first]
      if (item && conversation.rev === rev) model.put(conversation, message, item.rev)
    })
  }

  /** @type {ChatClient} */
  const client = {
    api,
    now: http.serverNow,
    get state() {
      const { error, hasMore } = loader
      return (state ??= view({
        connection,
        error,
        hasMore: { chats: hasMore('chats'), received: hasMore('received'), sent: hasMore('sent') },
      }))
    },
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    start() {
      platform.isStopped = false
      listen('addEventListener')
      live.start()
    },
    stop() {
      platform.isStopped = true
      isPolling = false
      listen('removeEventListener')
      live.stop()
      timers.clearAll()
      http.endWaits(true)
      typing.clear()
      onChange()
    },

    async open(chatId) {
      model.conversation(chatId).isOpen = true
      loader.newsAt = platform.now()
      onChange()
      const update = loader.update(chatId)
      loader.inBackground(update)
      await update.finally(() => isPolling && schedulePoll())
    },
    close(chatId) {
      const conversation = model.conversations.get(chatId)
      if (conversation) conversation.isOpen = false
    },
    loadOlder: loader.loadOlder,
    loadMore: loader.loadMore,

    send: (chatId, content, { key = platform.newKey() } = {}) => outbox.send(chatId, content, key),
    retry: outbox.retry,
    discard: outbox.discard,
    edit: (chatId, seq, body) => change(chatId, seq, request => api.editMessage({ chatId, seq, body }, request)),
    delete: (chatId, seq) => change(chatId, seq, request => api.deleteMessage({ chatId, seq }, request)),
    async markRead(chatId, seq = model.conversations.get(chatId)?.last) {
      const chat = model.chats.get(chatId)
      if (seq && (!chat || (chat.unreadCount && seq > chat.readSeq)))
      await act(chatId, 'read', request => api.markMessagesRead({ chatId, body: { seq } }, request))
    },
    typing: live.typing,

    request: other => setStatus('sendChatRequest')(chatIdWith(other), { body: { userId: other } }),
    accept: setStatus('acceptChatRequest'),
    decline: setStatus('declineChatRequest'),
    withdraw: setStatus('withdrawChatRequest'),
    block: other => actOnUser(other, 'block', request => api.blockUser({ userId: other }, request)),
    unblock: async other => {
      await actOnUser(other, 'block', request => api.unblockUser({ userId: other }, request))
    },
    report: body => actOnUser(body.userId, `report ${body.seq}`, request => api.reportUser({ body }, request)),
  }
  return client
}
