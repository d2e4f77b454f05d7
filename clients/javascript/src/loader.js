/** @import { Chat, ChatError, ListName, Message } from '../types/index.d.ts' */
/** @import { Conversation } from '../types/internal.d.ts' */

const PAGE = 30
const LIST_PAGE = 50
const MAX_PAGE = 100
/** A missing message or change can still arrive. In milliseconds, as all times. */
const GAP_DELAY = 500
const MAX_GAP_DELAY = 60_000
/** A page of messages can be some seconds behind an edit. */
const EDIT_DELAY = 10_000
/** So many changes are loaded again after this time. */
const RECHECKED_CHANGES = 20
/** Lists follow within a second. */
const LIST_DELAY = 2_000
const MAX_LIST_DELAY = 300_000

/** @type {import('../types/internal.d.ts').CreateLoader} */
export function createLoader({ api, platform, timers, model, onLoaded, onChange }) {
  /** The last request of each chat. @type {Map<string, Promise<any>>} */
  const queues = new Map()
  /** @typedef {{ chats: Chat[], nextCursor: string | null }} Page */
  /** @typedef {(page: { limit: number, cursor?: string }) => Promise<Page>} LoadPage */
  /** @type {Record<ListName, { load: LoadPage, cursor: string | null, depth: number }>} */
  const lists = {
    chats: { load: api.listActiveChats, cursor: null, depth: 0 },
    received: { load: page => api.listPendingRequests({ ...page, direction: 'received' }), cursor: null, depth: 0 },
    sent: { load: api.listPendingRequests, cursor: null, depth: 0 },
  }
  /** @type {Promise<void> | null} */
  let nextLoad = null
  /** The version of the totals with which the lists of requests were loaded. */
  let listedVersion = -1
  let mismatches = 0

  async function load() {
    const startedAt = platform.now()
    timers.clear('load')
    model.mergeTotals(await api.getTotals())
    const version = model.totals?.version ?? 0
    // The totals count requests. As long as they do not change, the requests do not.
    /** @type {ListName[]} */
    const names = version === listedVersion ? ['chats'] : ['chats', 'received', 'sent']
    await Promise.all(names.map(loadList))
    listedVersion = version
    await self.updateOpen()
    Object.assign(self, { loadedAt: startedAt, error: null })
    onLoaded()
    onChange()
  }

  /** @param {ListName} name */
  async function loadList(name) {
    const list = lists[name]
    /** @type {Map<string, Chat>} */
    const found = new Map()
    /** @type {string | null} */
    let cursor = null
    let oldest = ''
    do {
      /** @type {Page} */
      const page = await loadPage(name, cursor)
      for (const chat of page.chats) found.set(chat.chatId, chat)
      oldest = page.chats.at(-1)?.updatedAt ?? ''
      cursor = page.nextCursor
    } while (cursor && found.size < list.depth)
    Object.assign(list, { cursor, depth: found.size })
    // A chat that is no longer in a list has left it, or the list is late.
    const missing = model.list(name).filter(chat => !found.has(chat.chatId) && !(cursor && chat.updatedAt < oldest))
    await Promise.all(missing.map(({ chatId }) => verify(chatId)))
  }

  /** @param {ListName} name @param {string | null} cursor */
  async function loadPage(name, cursor) {
    const page = await lists[name].load({ limit: LIST_PAGE, ...(cursor && { cursor }) })
    page.chats.forEach(mergeChat)
    return page
  }

  /** @param {string} chatId */
  const verify = chatId => self.inOrder(chatId, () => self.fetchChat(chatId))

  /** Takes a view of a chat from a list or an event. @param {Chat} chat */
  function mergeChat(chat) {
    if (model.mergeChat(chat, false)) self.inBackground(verify(chat.chatId))
    self.checkGap(chat.chatId)
  }

  /** Loads the newest messages. @param {Conversation} conversation @param {number} rev of the chat before this */
  async function loadConversation(conversation, rev) {
    const { chatId } = conversation
    const page = await api.listMessages({ chatId, limit: PAGE })
    if (!conversation.isLoaded || rev > conversation.rev) conversation.revAt = platform.now()
    model.reset(conversation, page.messages, rev)
    conversation.hasOlder = !!page.nextCursor
    recheckLater(conversation)
  }

  /** Loads changes and messages that are missing. @param {Conversation} conversation */
  async function catchUp(conversation) {
    const { chatId } = conversation
    if (conversation.newestRev > conversation.rev) await loadChanges(conversation, conversation.rev, false)
    // A page that adds nothing ends this.
    for (let after = -1; conversation.newest > conversation.last && conversation.last > after;) {
      after = conversation.last
      const page = await api.listMessages({ chatId, limit: MAX_PAGE, after })
      put(conversation, page.messages, 0)
    }
    recheckLater(conversation)
  }

  /** @param {Conversation} conversation @param {number} after @param {boolean} isRecheck */
  async function loadChanges(conversation, after, isRecheck) {
    const { chatId, rev, newestRev } = conversation
    try {
      /** @type {string | null} */
      let cursor = null
      do {
        /** @type {Awaited<ReturnType<typeof api.listChanges>>} */
        const page = await api.listChanges({ chatId, limit: MAX_PAGE, ...(cursor ? { cursor } : { after }) })
        put(conversation, page.messages, page.rev)
        cursor = page.nextCursor
        if (!cursor) knowChanges(conversation, page.rev)
      } while (cursor)
    } catch (error) {
      if (/** @type {ChatError} */ (error).code !== 'changes_expired') throw error
      await loadConversation(conversation, isRecheck ? rev : newestRev)
    }
  }

  /** @param {Conversation} conversation @param {number} rev */
  function knowChanges(conversation, rev) {
    if (rev > conversation.rev) Object.assign(conversation, { rev, revAt: platform.now() })
  }

  /** @param {Conversation} conversation @param {Message[]} messages @param {number} rev */
  function put(conversation, messages, rev) {
    for (const message of messages) model.put(conversation, message, rev)
    if (messages.length) self.newsAt = platform.now()
  }

  /**
   * A page of messages can lack a change of the last seconds, although `rev` counts it already. So the last changes are
   * loaded once more.
   *
   * @param {Conversation} conversation
   */
  function recheckLater(conversation) {
    const { chatId, rev, revAt } = conversation
    const name = `recheck ${chatId}`
    /** @param {number} after */
    const recheckAfter = after => (conversation.recheckAfter = Math.min(conversation.recheckAfter, after))
    if (rev > 0 && platform.now() - revAt < EDIT_DELAY) recheckAfter(Math.max(0, rev - RECHECKED_CHANGES))
    else if (conversation.recheckAfter === Infinity || timers.has(name)) return
    async function recheck() {
      const after = conversation.recheckAfter
      if (after === Infinity) return
      conversation.recheckAfter = Infinity
      try {
        await loadChanges(conversation, after, true)
      } catch (error) {
        recheckAfter(after)
        throw error
      }
      onChange()
    }
    timers.set(name, EDIT_DELAY, () => self.inBackground(self.inOrder(chatId, recheck)))
  }

  function loadLater() {
    timers.set('load', EDIT_DELAY * (1 + platform.random()), self.reload)
  }

  function hasMismatch() {
    const { totals } = model
    const unread = model.list('chats').reduce((sum, chat) => sum + chat.unreadCount, 0)
    const differs =
      totals &&
      self.loadedAt &&
      ((!lists.chats.cursor && unread !== totals.totalUnreadMessages) ||
      (!lists.received.cursor && model.list('received').length !== totals.totalPendingRequest) ||
      (!lists.sent.cursor && model.list('sent').length !== totals.totalSentRequest))
    if (!differs) mismatches = 0
    return differs
  }

  /** @type {import('../types/internal.d.ts').Loader} */
  const self = {
    hasMore: name => !!lists[name].cursor,
    error: null,
    loadedAt: 0,
    newsAt: 0,
    openChats: () => [...model.conversations.values()].filter(({ isOpen }) => isOpen).map(({ chatId }) => chatId),

    inOrder(chatId, task) {
      const result = (queues.get(chatId) ?? Promise.resolve()).then(task)
      queues.set(
        chatId,
        result.catch(() => {}),
      )
      return result
    },

    inBackground(promise) {
      promise.catch(error => {
        if (platform.isStopped) return
        self.error = error
        onChange()
        loadLater()
      })
    },

    reload: () => self.inBackground(self.loadAll()),

    loadAll() {
      return (nextLoad ??= self.inOrder('', () => {
        nextLoad = null
        return load()
      }))
    },

    async loadMore(name) {
      const list = lists[name]
      if (!list.cursor) return
      const page = await loadPage(name, list.cursor)
      Object.assign(list, { cursor: page.nextCursor, depth: list.depth + page.chats.length })
      onChange()
    },

    loadOlder: chatId =>
      self.inOrder(chatId, async () => {
        const conversation = model.conversations.get(chatId)
        if (!conversation?.hasOlder) return
        const { first: before } = conversation
        const page = await api.listMessages({ chatId, limit: PAGE, before })
        model.prepend(conversation, page.messages)
        conversation.hasOlder = !!page.nextCursor
        recheckLater(conversation)
        onChange()
      }),

    update: chatId =>
      self.inOrder(chatId, async () => {
        const conversation = model.conversations.get(chatId)
        try {
          const chat = await self.fetchChat(chatId)
          if (!chat || !conversation?.isOpen) return
          if (conversation.isLoaded) await catchUp(conversation)
          else await loadConversation(conversation, chat.rev)
          conversation.error = null
          self.checkGap(chatId)
        } catch (error) {
          if (conversation) conversation.error = /** @type {ChatError} */ (error)
          throw error
        } finally {
          onChange()
        }
      }),

    updateOpen: () =>
      Promise.all(
        self.openChats().map(chatId =>
          self.update(chatId).catch(error => {
            // Other errors concern this chat alone.
            if (!error.status || error.status === 401) throw error
            loadLater()
          }),
        ),
      ),

    async fetchChat(chatId) {
      try {
        const chat = await api.getChat({ chatId })
        model.mergeChat(chat, true)
        return chat
      } catch (thrown) {
        const error = /** @type {ChatError} */ (thrown)
        if (error.code !== 'chat_not_found') throw error
        model.chats.delete(chatId)
        const conversation = model.conversations.get(chatId)
        if (conversation) conversation.error = error
        return null
      } finally {
        onChange()
      }
    },

    receive({ type, chatId, chat, message, totals }) {
      const conversation = model.conversations.get(chatId)
      if (message) {
        model.put(conversation, message, chat?.rev ?? 0)
        self.newsAt = platform.now()
      }
      if (totals) model.mergeTotals(totals)
      if (!chat) return
      if (conversation?.isLoaded && type === 'message.changed') {
        const { revs } = conversation.ahead
        revs.add(chat.rev)
        while (revs.delete(conversation.rev + 1)) knowChanges(conversation, conversation.rev + 1)
      }
      mergeChat(chat)
    },

    checkGap(chatId) {
      const name = `gap ${chatId}`
      const conversation = model.conversations.get(chatId)
      if (!conversation || timers.has(name)) return
      if (!model.isBehind(conversation)) {
        conversation.gaps = 0
        return
      }
      const close = async () => {
        await catchUp(conversation)
        self.checkGap(chatId)
        onChange()
      }
      const delay = Math.min(GAP_DELAY * 2 ** conversation.gaps++, MAX_GAP_DELAY)
      timers.set(name, delay, () => self.inBackground(self.inOrder(chatId, close)))
    },

    checkTotals() {
      if (timers.has('mismatch') || !hasMismatch()) return
      timers.set('mismatch', Math.min(LIST_DELAY * 2 ** mismatches, MAX_LIST_DELAY), () => {
        if (!hasMismatch()) return
        mismatches++
        listedVersion = -1
        self.reload()
      })
    },
  }
  return self
}
