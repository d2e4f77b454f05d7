/** @import { Chat } from '../types/index.d.ts' */
/** @import { Conversation } from '../types/internal.d.ts' */

/** @param {Chat | undefined} chat */
export const lastSeq = chat => chat?.lastMessage?.seq ?? 0

/** Values of a chat that never decrease. @param {Chat} chat */
const version = chat => [Date.parse(chat.updatedAt), lastSeq(chat), chat.rev, chat.readSeq, chat.peerReadSeq]

const ahead = () => ({ messages: new Map(), revs: new Set() })

/** @type {import('../types/internal.d.ts').CreateModel} */
export function createModel(userId) {
  /** @type {Record<string, (chat: Chat) => boolean>} */
  const lists = {
    chats: chat => chat.status === 'active',
    received: chat => chat.status === 'pending' && chat.recipientId === userId,
    sent: chat => chat.status === 'pending' && chat.requesterId === userId,
  }

  /**
   * @param {Conversation | undefined} conversation
   * @param {number} seq
   * @param {number} rev
   */
  function expect(conversation, seq, rev) {
    if (!conversation) return
    conversation.newest = Math.max(conversation.newest, seq)
    conversation.newestRev = Math.max(conversation.newestRev, rev)
  }

  return {
    chats: new Map(),
    conversations: new Map(),
    totals: null,

    list(name) {
      const chats = [...this.chats.values()].filter(chat => !chat.blocked && lists[name]?.(chat))
      return chats.sort((a, b) => Date.parse(b.updatedAt) - Date.parse(a.updatedAt))
    },

    mergeChat(chat, isResponse) {
      const { chatId, blocked } = chat
      const known = this.chats.get(chatId)
      const knownVersion = known && version(known)
      const isOlder = knownVersion && version(chat).some((value, index) => value < (knownVersion[index] ?? 0))
      const merged = { ...(isOlder && known ? known : chat), blocked: isResponse ? blocked : !!known?.blocked }
      this.chats.set(chatId, merged)
      expect(this.conversations.get(chatId), lastSeq(chat), chat.rev)
      return merged.blocked !== blocked
    },

    mergeTotals(totals) {
      if (!this.totals || !(totals.version < this.totals.version)) this.totals = totals
    },

    conversation(chatId) {
      const conversation = this.conversations.get(chatId) ?? {
        chatId,
        isOpen: true,
        isLoaded: false,
        first: 1,
        last: 0,
        newest: 0,
        rev: 0,
        newestRev: 0,
        revAt: 0,
        recheckAfter: Infinity,
        items: [],
        ahead: ahead(),
        gaps: 0,
        hasOlder: false,
        error: null,
      }
      this.conversations.set(chatId, conversation)
      return conversation
    },

    isBehind: ({ isOpen, isLoaded, newest, last, newestRev, rev }) =>
      isOpen && isLoaded && (newest > last || newestRev > rev),

    reset(conversation, page, rev) {
      const known = new Map(conversation.items.map(item => [item.message.seq, item]))
      const items = page.map(message => {
        const item = known.get(message.seq)
        // The page can be behind a deletion.
        return item?.message.deletedAt ? item : { message, rev: 0 }
      })
      items.reverse()
      const first = page.at(-1)?.seq ?? 1
      const last = page[0]?.seq ?? 0
      Object.assign(conversation, { items, first, last, rev, ahead: ahead(), isLoaded: true })
    },

    prepend(conversation, page) {
      for (const message of page) {
        if (message.seq !== conversation.first - 1) continue
        conversation.items.unshift({ message, rev: 0 })
        conversation.first--
      }
    },

    put(conversation, message, rev) {
      if (!conversation?.isLoaded) return
      expect(conversation, message.seq, 0)
      const { messages } = conversation.ahead
      const isKnown = rev < (messages.get(message.seq)?.rev ?? 0)
      if (message.seq > conversation.last && !isKnown) messages.set(message.seq, { message, rev })
      for (let next; (next = messages.get(conversation.last + 1));) {
        messages.delete(++conversation.last)
        conversation.items.push(next)
      }
      const item = conversation.items[message.seq - conversation.first]
      if (!item || rev < item.rev || (rev === item.rev && item.message.status < message.status) || (item.message.deletedAt && !message.deletedAt)) return
      Object.assign(item, { message, rev })
    },
  }
}
