import { ChatError } from './errors.js'

/** @import { Message } from '../types/index.d.ts' */
/** @import { Entry } from '../types/internal.d.ts' */

/** A key is valid for 24 hours. Later it would send the message again. In milliseconds. */
const KEY_LIFETIME = 23 * 3_600_000

/** @type {import('../types/internal.d.ts').CreateOutbox} */
export function createOutbox({ api, platform, serverNow, lastSeq, onSent, onFailed, onChange }) {
  /** @type {Entry[]} */
  let entries = []
  const ownIds = new Set()
  /** Chats whose messages are being sent. */
  const busy = new Set()

  /** @param {Entry} entry @returns {Promise<Message>} */
  function enqueue(entry) {
    for (const other of entries) {
      // A message must not overtake those that may still be sent.
      if (other !== entry && (other.chatId !== entry.chatId || !isTransient(other))) continue
      other.promise = new Promise((resolve, reject) => {
        Object.assign(other, { state: 'sending', error: null, resolve, reject })
      })
      // The state shows the error, too. So a caller may ignore the promise.
      other.promise.catch(() => {})
    }
    sendAll(entry.chatId)
    onChange()
    return entry.promise
  }

  /** @param {Entry} entry */
  const isTransient = ({ state, error }) => state === 'failed' && error?.isTransient

  /** @param {string} key */
  const find = key => entries.find(entry => entry.key === key)

  /** @param {string} chatId */
  const sending = chatId => entries.filter(entry => entry.chatId === chatId && entry.state === 'sending')

  /** @param {string} chatId */
  async function sendAll(chatId) {
    if (busy.has(chatId)) return
    busy.add(chatId)
    for (let entry; (entry = sending(chatId)[0]);) {
      const { key, content: body } = entry
      const isFirst = () => sending(chatId)[0] === entry
      const isCurrent = () => isFirst() && platform.now() - entry.beganAt < KEY_LIFETIME
      entry.after ??= lastSeq(chatId)
      let error
      try {
        if (isCurrent()) settle(key, await api.sendMessage({ chatId, body, idempotencyKey: key }, { isCurrent }))
      } catch (thrown) {
        error = thrown
      }
      // It may be settled by an event.
      if (isFirst()) fail(entry, isCurrent() ? /** @type {ChatError} */ (error) : new ChatError('key_expired'))
    }
    busy.delete(chatId)
  }

  /** @param {Entry} entry @param {ChatError} error */
  function fail(entry, error) {
    // Later messages must not overtake one that may still be sent.
    for (const failed of error.isTransient ? sending(entry.chatId) : [entry]) {
      Object.assign(failed, { state: 'failed', error })
      failed.reject(error)
    }
    onFailed(entry.chatId)
    onChange()
  }

  /** @param {string} key @param {Message} message */
  function settle(key, message) {
    const entry = find(key)
    if (!entry || entry.message) return
    Object.assign(entry, { state: 'sent', error: null, message })
    ownIds.add(message.messageId)
    entry.resolve(message)
    onSent(message)
    onChange()
  }

  return {
    ownIds,
    settle,
    of: chatId => entries.filter(entry => entry.chatId === chatId),
    send(chatId, content, key) {
      const known = find(key)
      if (known) return known.promise
      const entry = /** @type {Entry} */ ({ key, chatId, content, createdAt: serverNow(), beganAt: platform.now() })
      entries.push(entry)
      return enqueue(entry)
    },
    async retry(key) {
      const entry = find(key)
      if (entry?.state !== 'failed') throw new ChatError('not_failed')
      return enqueue(entry)
    },
    retryTransient() {
      for (const entry of entries) {
        // After a long `Retry-After`, the user decides.
        if (isTransient(entry) && (entry.error?.retryAfter ?? 0) < 60) enqueue(entry)
      }
    },
    discard(key) {
      entries = entries.filter(entry => entry.key !== key || entry.state !== 'failed')
      onChange()
    },
    prune(isShown) {
      entries = entries.filter(({ message }) => !message || !isShown(message))
    },
  }
}
