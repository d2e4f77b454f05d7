/** @import { Chat, Message, MessageView } from '../types/index.d.ts' */
/** @import { Conversation, Entry } from '../types/internal.d.ts' */

/** @type {import('../types/internal.d.ts').CreateView} */
export function createView({ userId, model, outbox, typing }) {
  /** @param {Chat} chat */
  const chatView = chat => ({
    ...chat,
    peerId: chat.requesterId === userId ? chat.recipientId : chat.requesterId,
    isTyping: typing.has(chat.chatId),
  })

  /** @param {Message} message @returns {MessageView} */
  function storedMessage(message) {
    const chat = model.chats.get(message.chatId)
    const isOwn = message.senderId === userId
    const readSeq = (isOwn ? chat?.peerReadSeq : chat?.readSeq) ?? 0
    const state = message.seq <= readSeq || message.status === 'read' ? 'read' : 'sent'
    return { ...message, status: state, state, isOwn, key: null, error: null }
  }

  /** @param {Entry} entry @returns {MessageView} */
  function unsentMessage({ key, chatId, content, createdAt, state, error, message }) {
    if (message) return { ...storedMessage(message), key }
    return {
      messageId: null,
      chatId,
      seq: null,
      senderId: userId,
      text: null,
      imageUrl: null,
      linkPreviewUrl: null,
      ...content,
      status: 'sent',
      createdAt: new Date(createdAt).toISOString(),
      editedAt: null,
      deletedAt: null,
      isOwn: true,
      state,
      key,
      error,
    }
  }

  /** @param {Conversation} conversation */
  function conversationView({ chatId, isLoaded, items, hasOlder, error }) {
    const chat = model.chats.get(chatId)
    const unsent = outbox.of(chatId)
    // While a message is being sent, its stored form may have arrived already. It is not shown twice.
    const after = unsent.find(({ state }) => state === 'sending')?.after ?? Infinity
    const stored = items
      .map(({ message }) => message)
      .filter(({ seq, senderId, messageId }) => senderId !== userId || seq <= after || outbox.ownIds.has(messageId))
    const messages = [...stored.map(storedMessage), ...unsent.map(unsentMessage)]
    return { chatId, chat: chat ? chatView(chat) : null, isLoaded, messages, hasOlder, error }
  }

  return rest => {
    outbox.prune(({ chatId, seq }) => {
      const conversation = model.conversations.get(chatId)
      return !conversation?.isLoaded || seq <= conversation.last
    })
    return {
      userId,
      ...rest,
      totals: model.totals,
      chats: model.list('chats').map(chatView),
      received: model.list('received').map(chatView),
      sent: model.list('sent').map(chatView),
      conversations: Object.fromEntries([...model.conversations].map(([id, known]) => [id, conversationView(known)])),
    }
  }
}
