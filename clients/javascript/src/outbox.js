import { ChatError } from './errors.js'

/** @import { Message } from '../types/index.d.ts' */
/** @import { Entry } from '../types/internal.d.ts' */

/** A key is valid for 24 hours. Later it would send the message again. In milliseconds. */
const KEY_LIFETIME = 23 * 3_600_000

/** @type {import('../types/internal.d.ts').CreateOutbox} */
export function createOutbox({ api, serverNow, lastSeq, onSent, onFailed, onChange }) {
  /** @type {Entry[]} */
  let entries = []
  const ownIds = new Set()
  /** Chats whose messages are being sent. */
  const busy = new Set()

  /** @param {Entry} entry @returns {Promise<Message>} */
  function enqueue(entry) {
    const promise = new Promise((resolve, reject) => {
      Object.assign(entry, { state: 'sending', error: null, resolve, reject })
    })
    // The state shows the error, too. So a caller may ignore the promise.
    promise.catch(() => {})
    sendAll(entry.chatId)
    onChange()
    return promise
  }

  /** @param {string} chatId */
  const sending = chatId => entries.filter(entry => entry.chatId === chatId && entry.state === 'sending')

  /** @param {string} chatId */
  async function sendAll(chatId) {
    if (busy.has(chatId)) return
    busy.add(chatId)
    for (let entry; (entry = sending(chatId)[0]);) {
      const { key, content: body } = entry
      const isCurrent = () => sending(chatId)[0]?.key === key
      entry.after ??= lastSeq(chatId)
      try {
        settle(key, await api.sendMessage({ chatId, body, idempotencyKey: key }, { isCurrent }))
      } catch (error) {
        if (isCurrent()) fail(entry, /** @type {ChatError} */ (error))
      }
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
    const entry = entries.find(entry => entry.key === key)
    if (!entry || entry.message) return
    Object.assign(entry, { state: 'sent', error: null, message })
    ownIds.add(message.messageId)
    entry.resolve(message)
    onSent(message)
    onChange()
  }

  /** @param {Entry} entry */
  const isExpired = entry => serverNow() - entry.createdAt > KEY_LIFETIME

  return {
    ownIds,
    settle,
    of: chatId => entries.filter(entry => entry.chatId === chatId),
    send(chatId, content, key) {
      const entry = /** @type {Entry} */ ({ key, chatId, content, createdAt: serverNow() })
      entries.push(entry)
      return enqueue(entry)
    },
    async retry(key) {
      const entry = entries.find(entry => entry.key === key && entry.state === 'failed')
      if (!entry) throw new ChatError('not_failed', 'no message with this key has failed')
      if (isExpired(entry)) throw new ChatError('key_expired', 'check whether the message is stored, and send it again')
      return enqueue(entry)
    },
    retryTransient() {
      for (const entry of entries) {
        const { state, error } = entry
        // After a long `Retry-After`, the user decides.
        if (state === 'failed' && error?.isTransient && (error.retryAfter ?? 0) < 60 && !isExpired(entry))
          enqueue(entry)
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
