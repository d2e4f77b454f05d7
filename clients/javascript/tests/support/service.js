// A model of the service in memory, with the parts of the contract that matter to a client: REST, live events, and what
// the service does not promise: late lists, pages of messages behind an edit, and events that are lost or late.

/**
 * @typedef {import('../../types/index.d.ts').Chat} Chat
 * @typedef {import('../../types/index.d.ts').Message} Message
 *
 * @typedef {object} StoredMessage
 * @property {number} seq
 * @property {number} senderId
 * @property {{ text: string | null, imageUrl: string | null, linkPreviewUrl: string | null }} content
 * @property {string} createdAt
 * @property {string | null} editedAt
 * @property {string | null} deletedAt
 * @property {number} rev of its last change
 *
 * @typedef {object} StoredChat
 * @property {string} id
 * @property {[number, number]} members
 * @property {string | null} status null if there is only a block
 * @property {number} requester
 * @property {number} rev
 * @property {StoredMessage[]} messages
 * @property {number[]} changes the `seq` that each `rev` has changed
 * @property {Record<number, number>} read
 * @property {number[]} blockers
 * @property {string} createdAt
 * @property {string} updatedAt
 *
 * @typedef {object} Faults The probability of each fault, from 0 to 1.
 * @property {number} [lateList]
 * @property {number} [stalePage]
 * @property {number} [expiredChanges]
 */

class Problem extends Error {
  /** @param {number} status @param {string} code */
  constructor(status, code) {
    super(code)
    this.status = status
    this.code = code
  }
}

/** How long a list or a page of messages can be late, in milliseconds. */
const LIST_LAG = 1_000
const PAGE_LAG = 3_000

export class Service {
  /** @type {Map<string, StoredChat>} */
  chats = new Map()
  /** Each chat before its last change, and when it changed. @type {Map<string, { chat: StoredChat, at: number }>} */
  previous = new Map()
  /** Stored messages by user, chat and idempotency key. @type {Map<string, StoredMessage & { sent: string }>} */
  keys = new Map()
  /** How often the totals of a user have changed. @type {Map<number, number>} */
  versions = new Map()
  /** @type {Faults} */
  faults = {}
  /** @type {Set<import('./sockets.js').Connection>} */
  connections = new Set()
  /** Receives each request that has reached the service. @type {{ user: number, method: string, path: string }[]} */
  requests = []
  #lastTime = 0

  /** @param {import('./clock.js').Clock} clock @param {() => number} random */
  constructor(clock, random) {
    this.clock = clock
    this.random = random
  }

  /** Two changes never have the same time, as in a table with one change a millisecond. */
  #time() {
    this.#lastTime = Math.max(this.#lastTime + 1, this.clock.now())
    return new Date(this.#lastTime).toISOString()
  }

  /** @param {number} a @param {number} b */
  static chatId = (a, b) => `${Math.min(a, b)}-${Math.max(a, b)}`

  /** @param {StoredChat} chat @param {number} user */
  #peer = (chat, user) => (chat.members[0] === user ? chat.members[1] : chat.members[0])

  /** @param {StoredChat} chat @param {number} user */
  #unread = (chat, user) =>
    chat.messages.filter(
      ({ seq, senderId, deletedAt }) => senderId !== user && seq > (chat.read[user] ?? 0) && !deletedAt,
    ).length

  /** @param {StoredChat} chat @param {number} user @returns {Chat} */
  chatView(chat, user) {
    const last = chat.messages.at(-1)
    return {
      chatId: chat.id,
      status: chat.status ?? 'none',
      requesterId: chat.requester,
      recipientId: this.#peer(chat, chat.requester),
      unreadCount: this.#unread(chat, user),
      readSeq: chat.read[user] ?? 0,
      peerReadSeq: chat.read[this.#peer(chat, user)] ?? 0,
      rev: chat.rev,
      lastMessage: last
        ? {
            seq: last.seq,
            senderId: last.senderId,
            text: last.content.text,
            createdAt: last.createdAt,
            deleted: Boolean(last.deletedAt),
          }
        : null,
      blocked: chat.blockers.includes(user),
      createdAt: chat.createdAt,
      updatedAt: chat.updatedAt,
    }
  }

  /** @param {StoredChat} chat @param {StoredMessage} message @returns {Message} */
  messageView(chat, { seq, senderId, content, createdAt, editedAt, deletedAt }) {
    const isRead = (chat.read[this.#peer(chat, senderId)] ?? 0) >= seq
    const messageId = `${chat.id}/${seq}`
    return {
      messageId,
      chatId: chat.id,
      seq,
      senderId,
      ...content,
      status: isRead ? 'read' : 'sent',
      createdAt,
      editedAt,
      deletedAt,
    }
  }

  /** @param {number} user */
  totals(user) {
    const result = {
      totalPendingRequest: 0,
      totalUnreadMessages: 0,
      totalSentRequest: 0,
      version: this.versions.get(user) ?? 0,
    }
    for (const chat of this.chats.values()) {
      if (!chat.members.includes(user)) continue
      const isPending = chat.status === 'pending'
      if (isPending && chat.requester === user) result.totalSentRequest++
      if (chat.blockers.includes(user)) continue
      if (isPending && chat.requester !== user) result.totalPendingRequest++
      result.totalUnreadMessages += this.#unread(chat, user)
    }
    return result
  }

  /**
   * Changes a chat, counts the changes of totals, and publishes the event.
   *
   * @param {StoredChat} chat
   * @param {(chat: StoredChat) => string | null} change returns the type of the event
   * @param {{ only?: number, seq?: number, key?: string | undefined }} [details]
   */
  #change(chat, change, { only, seq, key } = {}) {
    const before = structuredClone(chat)
    const counts = (/** @type {number} */ user) => JSON.stringify({ ...this.totals(user), version: 0 })
    const countsBefore = chat.members.map(counts)
    const type = change(chat)
    this.previous.set(chat.id, { chat: before, at: this.clock.now() })
    chat.members.forEach((user, index) => {
      if (counts(user) !== countsBefore[index]) this.versions.set(user, (this.versions.get(user) ?? 0) + 1)
    })
    if (!type || !chat.status) return
    const at = new Date(this.clock.now()).toISOString()
    const image = structuredClone(chat)
    for (const user of only ? [only] : chat.members) {
      if (!only && chat.blockers.includes(user)) continue
      for (const connection of this.connections) {
        if (connection.user === user) {
          // The message and the totals are read when the event is published, the chat is as it was after the change.
          connection.publish(() => ({
            id: `${chat.id}/${at}`,
            type,
            chatId: chat.id,
            at,
            chat: this.chatView(image, user),
            totals: this.totals(user),
            ...(seq && { message: this.messageView(chat, /** @type {StoredMessage} */ (chat.messages[seq - 1])) }),
            ...(key && chat.messages[(seq ?? 0) - 1]?.senderId === user && { idempotencyKey: key }),
          }))
        }
      }
    }
  }

  /** @param {number} user @param {string} chatId */
  typing(user, chatId) {
    const chat = this.chats.get(chatId)
    if (!chat || chat.status !== 'active' || chat.blockers.length) return
    const at = new Date(this.clock.now()).toISOString()
    for (const connection of this.connections) {
      if (connection.user === this.#peer(chat, user)) {
        connection.publish(() => ({ id: at, type: 'typing', chatId, at, userId: user }))
      }
    }
  }

  /**
   * Handles a request.
   *
   * @param {number} user
   * @param {string} method
   * @param {string} url
   * @param {any} [body]
   * @param {string} [key]
   * @returns {{ status: number, body: any }}
   */
  handle(user, method, url, body, key) {
    const { pathname, searchParams: query } = new URL(url, 'http://service')
    this.requests.push({ user, method, path: pathname })
    try {
      return { status: 200, body: this.#route(user, method, pathname.split('/').slice(1), query, body ?? {}, key) }
    } catch (error) {
      if (error instanceof Created) return { status: 201, body: error.body }
      if (!(error instanceof Problem)) throw error
      return { status: error.status, body: { success: false, code: error.code, message: error.code, requestId: 'r' } }
    }
  }

  /**
   * @param {number} user
   * @param {string} method
   * @param {string[]} path
   * @param {URLSearchParams} query
   * @param {any} body
   * @param {string | undefined} key
   * @returns {any}
   */
  #route(user, method, [resource, id, action, sub], query, body, key) {
    for (const name of ['limit', 'before', 'after']) {
      const value = query.get(name)
      if (value !== null && !/^\d{1,15}$/.test(value)) throw new Problem(400, 'invalid_request')
    }
    if (resource === 'totals')
      return id ? { totalUnreadMessages: this.totals(user).totalUnreadMessages } : this.totals(user)
    if (resource === 'blocks' && id) return this.#block(user, Number(id), method === 'PUT')
    if (resource === 'blocks') return this.#blocks(user)
    if (resource === 'reports') {
      if (body.block) this.#block(user, body.userId, true)
      return { reportId: 'r', userId: body.userId, seq: body.seq ?? null, reason: body.reason, createdAt: this.#time() }
    }
    if (!id && method === 'POST') return this.#request(user, body.userId)
    if (!id) return this.#list(user, query, chat => chat.status === 'active')
    if (id === 'pending' || id === 'rejected') {
      const status = id === 'pending' ? 'pending' : 'declined'
      const isReceived = query.get('direction') === 'received'
      return this.#list(user, query, chat => chat.status === status && (chat.requester === user) !== isReceived)
    }
    const chat = this.chats.get(id)
    if (!chat?.status || !chat.members.includes(user)) throw new Problem(404, 'chat_not_found')
    if (!action) return this.chatView(chat, user)
    if (action === 'accept' || action === 'decline' || action === 'withdraw') return this.#answer(user, chat, action)
    if (action === 'changes') return this.#changes(chat, query)
    if (sub === 'read') return this.#read(user, chat, body.seq)
    if (sub) return this.#edit(user, chat, Number(sub), method === 'DELETE' ? null : body)
    return method === 'POST' ? this.#send(user, chat, body, key) : this.#messages(chat, query)
  }

  /** @param {number} user @param {number} other */
  #request(user, other) {
    const id = Service.chatId(user, other)
    const time = this.#time()
    let chat = this.chats.get(id)
    if (!chat) {
      chat = this.#newChat(user, other)
      this.chats.set(id, chat)
    }
    if (chat.blockers.includes(user)) throw new Problem(409, 'you_blocked')
    const isNew = !chat.status
    if (chat.status === 'declined' && chat.requester === user) throw new Problem(409, 'chat_declined')
    if (chat.status === 'active' || (chat.status === 'pending' && chat.requester === user))
      return this.chatView(chat, user)
    this.#change(chat, chat => {
      chat.updatedAt = time
      if (chat.status === 'pending') {
        chat.status = 'active'
        return 'chat.accepted'
      }
      if (isNew) chat.createdAt = time
      chat.status = 'pending'
      chat.requester = user
      return 'chat.requested'
    })
    if (isNew) throw new Created(this.chatView(chat, user))
    return this.chatView(chat, user)
  }

  /** @param {number} user @param {number} other @returns {StoredChat} */
  #newChat(user, other) {
    const members = /** @type {[number, number]} */ ([Math.min(user, other), Math.max(user, other)])
    const time = this.#time()
    return {
      id: Service.chatId(user, other),
      members,
      status: null,
      requester: user,
      rev: 0,
      messages: [],
      changes: [],
      read: {},
      blockers: [],
      createdAt: time,
      updatedAt: time,
    }
  }

  /** @param {number} user @param {StoredChat} chat @param {'accept' | 'decline' | 'withdraw'} action */
  #answer(user, chat, action) {
    const isRequester = chat.requester === user
    if (action === 'withdraw') {
      if (chat.status === 'active') throw new Problem(409, 'chat_active')
      if (chat.status === 'declined') throw new Problem(409, 'chat_declined')
      if (!isRequester) throw new Problem(403, 'not_the_requester')
    } else {
      if (isRequester && chat.status !== 'withdrawn') throw new Problem(403, 'not_the_recipient')
      if (chat.blockers.includes(user)) throw new Problem(409, 'you_blocked')
      if (chat.status === 'withdrawn') throw new Problem(409, 'chat_withdrawn')
      if (chat.status === 'active' && action === 'decline') throw new Problem(409, 'chat_active')
      if (chat.status === 'declined' && action === 'accept') throw new Problem(409, 'chat_declined')
    }
    const status = { accept: 'active', decline: 'declined', withdraw: 'withdrawn' }[action]
    if (chat.status !== status) {
      const time = this.#time()
      this.#change(chat, chat => {
        chat.status = status
        chat.updatedAt = time
        return { accept: 'chat.accepted', decline: 'chat.declined', withdraw: 'chat.withdrawn' }[action]
      })
    }
    return this.chatView(chat, user)
  }

  /** @param {number} user @param {number} other @param {boolean} isBlocked */
  #block(user, other, isBlocked) {
    const id = Service.chatId(user, other)
    let chat = this.chats.get(id)
    if (!chat) {
      chat = this.#newChat(user, other)
      this.chats.set(id, chat)
    }
    if (isBlocked && chat.status === 'pending' && chat.requester === user) {
      const time = this.#time()
      // Only the other member hears that the request was withdrawn.
      this.#change(
        chat,
        chat => {
          chat.status = 'withdrawn'
          chat.updatedAt = time
          return 'chat.withdrawn'
        },
        { only: other },
      )
    }
    if (isBlocked !== chat.blockers.includes(user)) {
      this.#change(
        chat,
        chat => {
          chat.blockers = isBlocked ? [...chat.blockers, user] : chat.blockers.filter(blocker => blocker !== user)
          return 'chat.changed'
        },
        { only: user },
      )
    }
    return isBlocked ? { userId: other, blockedAt: this.#time() } : { success: true, message: 'not blocked' }
  }

  /** @param {number} user */
  #blocks(user) {
    const blocked = [...this.chats.values()].filter(chat => chat.blockers.includes(user))
    return {
      blocks: blocked.map(chat => ({ userId: this.#peer(chat, user), blockedAt: chat.updatedAt })),
      nextCursor: null,
    }
  }

  /** @param {number} user @param {URLSearchParams} query @param {(chat: StoredChat) => boolean} isListed */
  #list(user, query, isListed) {
    const rows = [...this.chats.values()].map(chat => {
      const previous = this.previous.get(chat.id)
      const isLate =
        previous && this.clock.now() - previous.at < LIST_LAG && this.random() < (this.faults.lateList ?? 0)
      return isLate ? previous.chat : chat
    })
    const chats = rows
      .filter(chat => chat.members.includes(user) && !chat.blockers.includes(user) && isListed(chat))
      .sort((a, b) => (a.updatedAt < b.updatedAt ? 1 : -1))
    return this.#page(
      'chats',
      chats.map(chat => this.chatView(chat, user)),
      query,
    )
  }

  /** @param {string} name @param {any[]} entries @param {URLSearchParams} query */
  #page(name, entries, query) {
    const start = Number(query.get('cursor') ?? 0)
    const end = start + Number(query.get('limit') ?? 15)
    return { [name]: entries.slice(start, end), nextCursor: end < entries.length ? String(end) : null }
  }

  /** @param {number} user @param {StoredChat} chat @param {any} body @param {string | undefined} key */
  #send(user, chat, body, key) {
    const content = {
      text: body.text ?? null,
      imageUrl: body.imageUrl ?? null,
      linkPreviewUrl: body.linkPreviewUrl ?? null,
    }
    const known = this.keys.get(`${user} ${chat.id} ${key}`)
    if (key && known) {
      if (known.sent !== JSON.stringify(content)) throw new Problem(422, 'idempotency_key_reused')
      return this.messageView(chat, /** @type {StoredMessage} */ (chat.messages[known.seq - 1]))
    }
    if (chat.blockers.includes(user)) throw new Problem(409, 'you_blocked')
    if (chat.status !== 'active') throw new Problem(409, 'chat_not_active')
    if (chat.blockers.length) throw new Problem(409, 'peer_unavailable')
    const time = this.#time()
    const seq = chat.messages.length + 1
    /** @type {StoredMessage} */
    const message = { seq, senderId: user, content, createdAt: time, editedAt: null, deletedAt: null, rev: 0 }
    if (key) this.keys.set(`${user} ${chat.id} ${key}`, { ...message, sent: JSON.stringify(content) })
    this.#change(
      chat,
      chat => {
        chat.messages.push(message)
        chat.updatedAt = time
        return 'message.created'
      },
      { seq, key },
    )
    throw new Created(this.messageView(chat, message))
  }

  /** @param {number} user @param {StoredChat} chat @param {number} seq @param {any} edit null: delete */
  #edit(user, chat, seq, edit) {
    const message = chat.messages[seq - 1]
    if (!message) throw new Problem(404, 'message_not_found')
    if (message.senderId !== user) throw new Problem(403, 'not_the_sender')
    if (edit && chat.blockers.includes(user)) throw new Problem(409, 'you_blocked')
    if (edit && message.deletedAt) throw new Problem(409, 'message_deleted')
    if (edit && chat.blockers.length) throw new Problem(409, 'peer_unavailable')
    const content = edit ? { ...message.content, ...edit } : { text: null, imageUrl: null, linkPreviewUrl: null }
    const isUnchanged = edit ? JSON.stringify(content) === JSON.stringify(message.content) : message.deletedAt
    if (!isUnchanged) {
      const time = this.#time()
      this.#change(
        chat,
        chat => {
          chat.rev++
          chat.changes.push(seq)
          chat.messages[seq - 1] = {
            ...message,
            content,
            rev: chat.rev,
            ...(edit ? { editedAt: time } : { deletedAt: time }),
          }
          return 'message.changed'
        },
        { seq },
      )
    }
    return this.messageView(chat, /** @type {StoredMessage} */ (chat.messages[seq - 1]))
  }

  /** @param {number} user @param {StoredChat} chat @param {number | undefined} seq */
  #read(user, chat, seq = chat.messages.length) {
    if (seq > chat.messages.length) throw new Problem(400, 'invalid_request')
    if (chat.blockers.includes(user)) throw new Problem(409, 'you_blocked')
    const unread = this.#unread(chat, user)
    const remaining = this.#unread(
      { ...chat, read: { ...chat.read, [user]: Math.max(seq, chat.read[user] ?? 0) } },
      user,
    )
    if (unread !== remaining) {
      this.#change(chat, chat => {
        chat.read[user] = seq
        return 'chat.read'
      })
    }
    return { success: true, message: 'read' }
  }

  /** @param {StoredChat} chat @param {URLSearchParams} query */
  #messages(chat, query) {
    const previous = this.previous.get(chat.id)
    const isStale =
      previous && this.clock.now() - previous.at < PAGE_LAG && this.random() < (this.faults.stalePage ?? 0)
    const messages = chat.messages.map(message => {
      const before = isStale && previous.chat.messages[message.seq - 1]
      return this.messageView(chat, before || message)
    })
    const after = query.get('after')
    if (after !== null)
      return this.#page(
        'messages',
        messages.filter(({ seq }) => seq > Number(after)),
        query,
      )
    const before = Number(query.get('before') ?? Infinity)
    return this.#page('messages', messages.filter(({ seq }) => seq < before).reverse(), query)
  }

  /** @param {StoredChat} chat @param {URLSearchParams} query */
  #changes(chat, query) {
    const after = Number(query.get('after') ?? 0)
    if (after < chat.rev && this.random() < (this.faults.expiredChanges ?? 0)) throw new Problem(410, 'changes_expired')
    const seqs = chat.changes.slice(after).reverse()
    const changed = [...new Set(seqs)]
      .reverse()
      .map(seq => this.messageView(chat, /** @type {StoredMessage} */ (chat.messages[seq - 1])))
    return { ...this.#page('messages', changed, query), rev: chat.rev }
  }
}

/** Ends a request with 201. */
class Created {
  /** @param {any} body */
  constructor(body) {
    this.body = body
  }
}
