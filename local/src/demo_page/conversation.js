// A conversation: its messages, and the place to write one.
import { h, icon, iconButton, reconcile } from './dom.js'
import { avatar, dayName, dayOf, explain, isOnlyEmoji, linkCard, nameOf, timeOf, withLinks } from './text.js'

/** Messages of one person within this time are a group, in milliseconds. */
const GROUP_TIME = 5 * 60_000
const STATES = { sending: 'Sending', sent: 'Sent', read: 'Read', failed: 'Not sent' }
/** So near to the end of the list, in pixels, a reader counts as being there. */
const NEAR_END = 60
/** So near to the start, older messages are loaded. */
const NEAR_START = 400

export function createConversation({ client, device, sheet, act, loadBlocks, tell, back, blockUser, unblockUser, isInUse }) {
  let chatId = null
  let peerId = 0
  let attached = {}
  /** The `seq` of the message that is being edited. */
  let editing = null
  let isAtEnd = true
  let isLoadingOlder = false
  /** The newest message when the reader left the end of the list. */
  let leftAt = 0
  /** The newest `seq` that is marked as read, or is being marked. */
  let marked = 0
  /** The keys under which messages were sent, by `messageId`, so that a message keeps its element once it is stored. */
  const sentKeys = new Map()
  const drafts = new Map()
  /** The parts of the messages that are shown, by their list items. */
  const partsOf = new WeakMap()

  const title = h('h3', { tabindex: '-1' })
  const subtitle = h('p', { class: 'subtitle' })
  const face = h('span', { class: 'face' })
  const messages = h('ol', { class: 'messages' })
  const log = h('div', { class: 'log', role: 'log', tabindex: '0', 'aria-label': 'Messages' }, messages)
  const newer = h('button', { type: 'button', class: 'newer', hidden: true, onclick: scrollToEnd })
  const input = h('textarea', { rows: '1', maxlength: '4096', enterkeyhint: 'send', autocomplete: 'off', dir: 'auto' })
  const attachments = h('div', { class: 'attachments', hidden: true })
  const send = h('button', { class: 'send', 'aria-label': 'Send', title: 'Send' }, icon('send'))
  const attach = iconButton('plus', 'Attach an image or a link', () => {
    sheet.attach(attached, content => {
      attached = content
      showComposer()
      input.focus()
    })
  })
  const composer = h(
    'form',
    { class: 'composer', onsubmit: submit },
    attachments,
    h('div', { class: 'writing' }, attach, input, send),
  )
  const closed = h('div', { class: 'closed', hidden: true })
  const element = h(
    'div',
    { class: 'view talk', hidden: true },
    h(
      'header',
      { class: 'talk-header' },
      iconButton('back', 'Back to the chats', back),
      face,
      h('div', { class: 'title' }, title, subtitle),
      iconButton('more', 'Actions for this chat', chatMenu),
    ),
    h('div', { class: 'log-box' }, log, newer),
    closed,
    composer,
  )

  const view = () => client.state.conversations[chatId]
  const peer = () => nameOf(peerId)

  // What is written.

  function showComposer() {
    attachments.replaceChildren(
      ...(editing === null ? [] : [chip('Editing a message', () => stopEditing())]),
      ...(attached.imageUrl ? [chip(`Image: ${attached.imageUrl}`, () => detach('imageUrl'))] : []),
      ...(attached.linkPreviewUrl ? [chip(`Link: ${attached.linkPreviewUrl}`, () => detach('linkPreviewUrl'))] : []),
    )
    attachments.hidden = attachments.children.length === 0
    attach.hidden = editing !== null
    send.disabled = !input.value.trim() && Object.keys(attached).length === 0
    input.style.height = 'auto'
    // It grows with its lines. The border is not part of `scrollHeight`, which is 0 while it is hidden.
    input.style.height = `${Math.min(Math.max(input.scrollHeight + 2, 40), 122)}px`
  }

  const chip = (text, remove) =>
    h('span', { class: 'chip' }, h('span', {}, text), iconButton('close', `Remove: ${text}`, remove))

  function detach(name) {
    delete attached[name]
    showComposer()
    input.focus()
  }

  function submit(event) {
    event.preventDefault()
    const text = input.value
    const isEmpty = !text.trim()
    if (editing !== null) {
      const seq = editing
      if (!isEmpty) act(client.edit(chatId, seq, { text }), peer())
      stopEditing()
    } else if (!isEmpty || Object.keys(attached).length > 0) {
      const key = crypto.randomUUID()
      const sent = client.send(chatId, { ...(!isEmpty && { text }), ...attached }, { key })
      sent.then(({ messageId }) => sentKeys.set(messageId, key)).catch(() => {})
      attached = {}
      input.value = ''
      isAtEnd = true
      showComposer()
    }
    input.focus()
  }

  function startEditing({ seq, text }) {
    if (editing === null) drafts.set(chatId, input.value)
    editing = seq
    input.value = text ?? ''
    showComposer()
    input.focus()
  }

  function stopEditing() {
    editing = null
    input.value = drafts.get(chatId) ?? ''
    showComposer()
    input.focus()
  }

  input.addEventListener('input', () => {
    showComposer()
    if (editing === null) client.typing(chatId)
  })
  input.addEventListener('keydown', event => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault()
      composer.requestSubmit()
    }
    if (event.key === 'ArrowUp' && !input.value) {
      const last = view()?.messages.findLast(message => message.isOwn && message.seq && !message.deletedAt)
      if (last) event.preventDefault()
      if (last) startEditing(last)
    }
  })
  element.addEventListener('keydown', ({ key }) => {
    if (key !== 'Escape') return
    if (editing !== null) stopEditing()
    else back()
  })

  // Menus.

  function chatMenu() {
    const { chat } = view() ?? {}
    sheet.menu(peer(), [
      chat?.blocked
        ? [`Unblock ${peer()}`, () => unblockUser(peerId)]
        : [`Block ${peer()}`, () => blockUser(peerId), 'danger'],
      [`Report ${peer()}`, () => report(null), 'danger'],
    ])
  }

  function report(seq) {
    const name = seq === null ? `Report ${peer()}` : 'Report this message'
    sheet.report(name, peer(), content => {
      const request = client.report({ userId: peerId, ...(seq !== null && { seq }), ...content })
      const reported = peer()
      act(request, reported, () => {
        tell(`Thank you. ${reported} does not see your report.`)
        if (content.block) loadBlocks()
      })
    })
  }

  function messageMenu(message) {
    const { seq, text, isOwn, deletedAt } = message
    const remove = () => act(client.delete(chatId, seq), peer())
    const askToRemove = () => sheet.menu('Delete this message for both?', [['Delete', remove, 'danger']])
    sheet.menu('Message', [
      isOwn && !deletedAt && text !== null && ['Edit', () => startEditing(message)],
      text !== null && [
        'Copy text',
        () =>
          navigator.clipboard.writeText(text).then(
            () => tell('Copied.'),
            () => {},
          ),
      ],
      isOwn && !deletedAt && ['Delete', askToRemove, 'danger'],
      !isOwn && ['Report', () => report(seq), 'danger'],
    ])
  }

  // Messages.

  const keyOf = ({ kind, message, day }) => {
    if (kind !== 'message') return `${kind} ${day ?? ''}`
    return message.key ?? sentKeys.get(message.messageId) ?? message.messageId
  }

  /** Messages with what is between them: days, and the place of each message in its group. */
  function itemsOf({ messages: all, hasOlder, chat }) {
    const items = hasOlder ? [{ kind: 'older' }] : []
    const isGroup = (one, other) =>
      one &&
      other &&
      one.isOwn === other.isOwn &&
      dayOf(one.createdAt) === dayOf(other.createdAt) &&
      Math.abs(Date.parse(other.createdAt) - Date.parse(one.createdAt)) < GROUP_TIME
    all.forEach((message, index) => {
      const before = all[index - 1]
      const day = dayOf(message.createdAt)
      if (!before || dayOf(before.createdAt) !== day) items.push({ kind: 'day', day, name: dayName(message.createdAt) })
      const isFirst = !isGroup(before, message)
      const isLast = !isGroup(message, all[index + 1])
      items.push({ kind: 'message', message, isFirst, isLast })
    })
    if (chat?.isTyping) items.push({ kind: 'typing' })
    return items
  }

  function create({ kind, message }) {
    const isNew = !log.hasAttribute('aria-busy') && (kind === 'typing' || !message?.seq || message.seq > marked)
    return h('li', { class: isNew ? `${kind} is-new` : kind })
  }

  function fill(item, li) {
    const { kind, message, isFirst, isLast } = item
    if (kind === 'older')
      return h('button', { type: 'button', class: 'quiet small', onclick: loadOlder }, 'Show older messages')
    if (kind === 'day') return h('span', {}, item.name)
    if (kind === 'typing') {
      return h(
        'span',
        { class: 'bubble dots' },
        h('span', { class: 'unseen' }, `${peer()} is typing`),
        h('i'),
        h('i'),
        h('i'),
      )
    }
    li.classList.toggle('own', message.isOwn)
    li.classList.toggle('is-first', isFirst)
    li.classList.toggle('is-last', isLast)
    li.classList.toggle('is-failed', message.state === 'failed')
    li.classList.toggle('is-edited', Boolean(message.editedAt) && !message.deletedAt)
    return messageParts(message, li)
  }

  /** The parts of a message. Those that have not changed remain, so that a new tick does not repeat the text. */
  function messageParts(message, li) {
    const { text, imageUrl, linkPreviewUrl, editedAt, deletedAt, state, seq, isOwn } = message
    const parts = partsOf.get(li) ?? {}
    partsOf.set(li, parts)
    const content = JSON.stringify([text, imageUrl, linkPreviewUrl, editedAt, deletedAt, timeOf(message.createdAt)])
    if (parts.content !== content) {
      parts.tick = h('span', { class: 'tick', role: 'img' })
      Object.assign(parts, {
        content,
        bubble: bubble(message, parts.tick),
        actions: actions(message, parts),
        state: null,
      })
    }
    parts.message = message
    if (parts.state !== state) {
      parts.tick.className = `tick is-${state}`
      parts.tick.setAttribute('aria-label', STATES[state])
      parts.tick.replaceChildren(icon(state))
      parts.state = state
    }
    const canAct = seq !== null && !(deletedAt && isOwn)
    return [parts.bubble, canAct && parts.actions, state === 'failed' && failure(message)]
  }

  function bubble({ text, imageUrl, linkPreviewUrl, editedAt, deletedAt, createdAt, isOwn }, tick) {
    const isLarge = !deletedAt && text !== null && !imageUrl && !linkPreviewUrl && isOnlyEmoji(text)
    return h(
      'div',
      { class: `bubble${isLarge ? ' is-large' : ''}${deletedAt ? ' is-deleted' : ''}` },
      h('span', { class: 'unseen' }, isOwn ? 'You: ' : `${peer()}: `),
      imageUrl && image(imageUrl),
      deletedAt && h('span', { class: 'text' }, isOwn ? 'You deleted this message' : 'Message deleted'),
      text !== null && h('span', { class: 'text', dir: 'auto' }, ...withLinks(text)),
      linkPreviewUrl && linkCard(linkPreviewUrl),
      h('span', { class: 'meta' }, editedAt && !deletedAt && 'edited ', timeOf(createdAt), isOwn && !deletedAt && tick),
    )
  }

  function actions({ text, isOwn }, parts) {
    const label = `Actions for ${isOwn ? 'your message' : `the message of ${peer()}`}: ${(text ?? '').slice(0, 60)}`
    return iconButton('more', label, () => messageMenu(parts.message), {
      class: 'icon-button actions',
      'data-action': 'menu',
      'aria-haspopup': 'dialog',
      tabindex: '-1',
    })
  }

  function image(url) {
    const picture = h('img', {
      src: url,
      alt: 'Image in the message',
      referrerpolicy: 'no-referrer',
      decoding: 'async',
    })
    picture.addEventListener('error', () => picture.replaceWith(linkCard(url)))
    return picture
  }

  const failure = ({ key, error }) =>
    h(
      'div',
      { class: 'failure' },
      h('span', {}, explain(error, peer())),
      h(
        'button',
        { type: 'button', class: 'plain', 'data-action': 'retry', onclick: () => client.retry(key).catch(() => {}) },
        'Try again',
      ),
      h(
        'button',
        { type: 'button', class: 'plain', 'data-action': 'discard', onclick: () => client.discard(key) },
        'Discard',
      ),
    )

  async function loadOlder() {
    if (isLoadingOlder) return
    isLoadingOlder = true
    log.setAttribute('aria-busy', 'true')
    await act(client.loadOlder(chatId), peer())
    render()
    log.removeAttribute('aria-busy')
    isLoadingOlder = false
  }

  function scrollToEnd() {
    log.scrollTop = log.scrollHeight
    log.focus({ preventScroll: true })
  }

  log.addEventListener('scroll', () => {
    const { scrollTop, scrollHeight, clientHeight } = log
    const wasAtEnd = isAtEnd
    isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_END
    if (wasAtEnd && !isAtEnd) leftAt = lastSeq()
    if (isAtEnd !== wasAtEnd) render()
    if (scrollTop < NEAR_START && view()?.hasOlder) loadOlder()
  })
  // Arrow keys go from message to message, so that Tab does not stop at each of them.
  log.addEventListener('keydown', event => {
    const buttons = [...messages.querySelectorAll('.actions')]
    const place = buttons.indexOf(document.activeElement)
    const next = { ArrowUp: place - 1, ArrowDown: place + 1, Home: 0, End: buttons.length - 1 }[event.key]
    if (place < 0 || next === undefined) return
    event.preventDefault()
    buttons[next]?.focus()
  })

  const lastSeq = () => view()?.messages.findLast(({ seq }) => seq !== null)?.seq ?? 0

  function markRead() {
    const { chat, isLoaded } = view()
    const last = lastSeq()
    if (!isLoaded || !chat?.unreadCount || chat.blocked || chat.status !== 'active') return
    if (!isAtEnd || !isInUse() || !device.isOnline || last <= marked) return
    marked = last
    client.markRead(chatId, last).catch(error => {
      // The next change of the state is the next attempt.
      if (error.isTransient) marked = 0
    })
  }

  function showClosed(chat) {
    const button = (label, run, kind = 'primary') => h('button', { type: 'button', class: kind, onclick: run }, label)
    const parts = chat?.blocked
      ? [
          h('p', {}, `You have blocked ${peer()}. ${peer()} cannot see that.`),
          button('Unblock', () => unblockUser(peerId)),
        ]
      : chat && chat.status !== 'active'
        ? [h('p', {}, 'This chat is not active.'), button('Back to the chats', back)]
        : []
    const value = JSON.stringify([chat?.blocked, chat?.status, peerId])
    if (closed.dataset.value !== value) closed.replaceChildren(...parts)
    closed.dataset.value = value
    closed.hidden = parts.length === 0
    composer.hidden = parts.length > 0
  }

  function render() {
    const conversation = view()
    if (!conversation || element.hidden) return
    const { chat, isLoaded, error } = conversation
    subtitle.textContent = chat?.isTyping ? 'typing…' : `user ${peerId}`
    subtitle.classList.toggle('is-typing', Boolean(chat?.isTyping))
    showClosed(chat)
    const fromEnd = log.scrollHeight - log.scrollTop
    const first = messages.querySelector('.message')
    reconcile(messages, itemsOf(conversation), { keyOf, create, fill })
    if (isLoaded) log.removeAttribute('aria-busy')
    messages.classList.toggle('is-empty', isLoaded && conversation.messages.length === 0)
    messages.dataset.hint = error ? explain(error, peer()) : `Say hello to ${peer()}.`
    const buttons = [...messages.querySelectorAll('.actions')]
    const reachable = buttons.find(button => button === document.activeElement) ?? buttons.at(-1)
    for (const button of buttons) button.tabIndex = button === reachable ? 0 : -1
    if (isAtEnd) log.scrollTop = log.scrollHeight
    else if (first !== messages.querySelector('.message')) log.scrollTop = log.scrollHeight - fromEnd
    const missed = conversation.messages.filter(({ seq, isOwn }) => !isOwn && seq !== null && seq > leftAt).length
    newer.hidden = isAtEnd
    newer.replaceChildren(icon('down'), missed ? `${missed} new` : 'Newest')
    markRead()
  }

  return {
    element,
    get chatId() {
      return chatId
    },
    render,
    focus: () => (composer.hidden ? title : input).focus(),
    show(id, peerOfChat) {
      chatId = id
      peerId = peerOfChat
      isAtEnd = true
      editing = null
      attached = {}
      marked = 0
      log.setAttribute('aria-busy', 'true')
      title.textContent = peer()
      face.replaceChildren(avatar(peerId))
      input.setAttribute('aria-label', `Message to ${peer()}`)
      input.placeholder = `Message ${peer()}`
      input.value = drafts.get(id) ?? ''
      element.hidden = false
      client.open(id).catch(() => {})
      render()
      showComposer()
    },
    hide() {
      if (chatId === null) return
      if (editing === null) drafts.set(chatId, input.value)
      client.close(chatId)
      chatId = null
      element.hidden = true
    },
  }
}
