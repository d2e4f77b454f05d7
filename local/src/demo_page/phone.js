// The phone of one person: signs in, shows the chats and requests, and opens conversations.
import { createChatClient } from './client/index.js'
import { createConversation } from './conversation.js'
import { createDevice } from './device.js'
import { h, icon, iconButton, reconcile } from './dom.js'
import { createSheet } from './sheet.js'
import { avatar, explain, livePath, nameOf, shortTime, timeOf } from './text.js'

const CONNECTIONS = { connecting: 'Connecting', online: 'Live', polling: 'Polling', offline: 'No server' }

/** `report` gets what the phone sends and gets. `isShown` tells whether the person can see the phone. */
export function createPhone({ user, peer, report, isShown, onChange }) {
  let isScheduled = false
  let wasOnline = false
  /** Whether the list of blocked users was asked for since the phone was last online. */
  let hasAskedBlocks = false
  let wasExpired = false
  /** From the end of being offline until the client has tried to connect. */
  let isReturning = false
  let blocked = []
  let toastTimer = 0

  const device = createDevice({ userId: user.id, report, onChange: schedule })
  const liveUrl = livePath ? new URL(livePath, location.href.replace(/^http/, 'ws')).href : undefined
  const client = createChatClient({
    apiUrl: '',
    liveUrl,
    userId: user.id,
    getToken: device.getToken,
    onTraffic: report,
    platform: device.platform,
  })

  // The device around the phone.

  const connection = h('span', { class: 'connection' })
  const offline = h(
    'button',
    { type: 'button', class: 'toggle', role: 'switch', 'aria-checked': 'false', onclick: toggleOffline },
    'Offline',
  )
  const expire = h('button', { type: 'button', class: 'quiet small', onclick: expireToken }, 'Expire token')
  const deviceBar = h(
    'header',
    { class: 'device' },
    avatar(user.id),
    h('div', { class: 'title' }, h('h2', {}, user.name), connection),
    offline,
    expire,
  )

  // The phone.

  const clock = h('span', {}, timeOf(Date.now()))
  const signal = h('span', { class: 'signal' })
  const notice = h('p', { class: 'notice', role: 'status' })
  const toast = h('p', { class: 'toast', role: 'alert' })
  const badge = h('span', { class: 'badge', hidden: true })
  const welcome = h('div', { class: 'welcome' })
  const lists = {
    received: section('Requests for you'),
    chats: section('Chats'),
    sent: section('Waiting for an answer'),
    blocked: section('Blocked'),
  }
  const home = h(
    'div',
    { class: 'view home' },
    h(
      'header',
      { class: 'home-header' },
      h('h3', { tabindex: '-1' }, 'Chats', badge),
      iconButton('plus', 'New chat', () => sheet.newChat(peer.id, request)),
    ),
    h(
      'div',
      { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Chats and requests' },
      welcome,
      ...Object.values(lists).map(({ box }) => box),
    ),
  )
  const views = h('div', { class: 'views' })
  const sheet = createSheet(views)
  const isInUse = () => isShown() && document.visibilityState === 'visible'
  const conversation = createConversation({
    client,
    device,
    sheet,
    act,
    loadBlocks,
    tell,
    back: goHome,
    blockUser,
    unblockUser,
    isInUse,
  })
  views.append(home, conversation.element)
  const status = h('div', { class: 'statusbar', 'aria-hidden': 'true' }, clock, signal)
  const phone = h('div', { class: 'phone' }, h('div', { class: 'screen' }, status, notice, views, toast, sheet.element))
  const element = h(
    'section',
    { class: 'person', 'data-user': user.name.toLowerCase(), 'aria-label': `${user.name}’s phone` },
    deviceBar,
    phone,
  )

  function section(name) {
    const list = h('ul', { class: 'rows' })
    const count = h('span', { class: 'count' })
    const more = h('button', { type: 'button', class: 'quiet small', hidden: true }, 'Show more')
    return {
      box: h('section', { class: 'section', hidden: true }, h('h4', {}, name, count), list, more),
      list,
      count,
      more,
    }
  }

  // Actions.

  /** Waits for an action and tells the person why it failed. */
  async function act(promise, other, onDone) {
    try {
      const result = await promise
      onDone?.(result)
    } catch (error) {
      tell(explain(error, other))
    }
  }

  function tell(text) {
    toast.textContent = text
    toast.classList.add('is-shown')
    clearTimeout(toastTimer)
    toastTimer = setTimeout(endToast, 5000)
  }

  function endToast() {
    toast.classList.remove('is-shown')
    toast.textContent = ''
  }

  function request(id) {
    return act(client.request(id), nameOf(id), chat => {
      if (chat.status === 'active') open(chat.chatId, id)
      else tell(`${nameOf(id)} has got your request.`)
    })
  }

  function blockUser(id) {
    return act(client.block(id), nameOf(id), () => {
      tell(`${nameOf(id)} is blocked, and cannot see that.`)
      loadBlocks()
    })
  }

  function unblockUser(id) {
    return act(client.unblock(id), nameOf(id), loadBlocks)
  }

  async function loadBlocks() {
    try {
      const { blocks } = await client.api.listBlocks({ limit: 100 })
      blocked = blocks
    } catch {
      // The list appears after the next return to online.
    }
    schedule()
  }

  function toggleOffline() {
    isReturning = !device.isOnline
    setTimeout(() => {
      isReturning = false
      schedule()
    }, 5000)
    device.setOnline(!device.isOnline)
    offline.setAttribute('aria-checked', String(!device.isOnline))
  }

  async function expireToken() {
    if (!device.isOnline) return tell('Go online first.')
    try {
      await device.expireToken()
    } catch {
      return tell('The server does not respond.')
    }
    // The next request finds out. Without this one it would be the next thing that the person does.
    client.api.getTotals().catch(() => {})
  }

  function open(chatId, peerId) {
    endToast()
    conversation.hide()
    home.hidden = true
    conversation.show(chatId, peerId)
    conversation.focus()
  }

  function goHome() {
    const { chatId } = conversation
    endToast()
    conversation.hide()
    home.hidden = false
    render()
    const row = home.querySelector(`[data-chat="${chatId}"]`) ?? home.querySelector('h3')
    row.focus()
  }

  // What is shown.

  /** Shows the state soon, and once for several changes. */
  function schedule() {
    if (isScheduled) return
    isScheduled = true
    requestAnimationFrame(() => {
      isScheduled = false
      render()
    })
  }

  const connectionOf = ({ connection }) => (isReturning && connection === 'offline' ? 'connecting' : connection)

  function noticeOf(state) {
    const { error } = state
    const connection = connectionOf(state)
    if (!device.isOnline) return 'Offline. What you write is sent when you are back.'
    if (device.isExpired) return 'The token has expired. Getting a new one…'
    if (error?.code === 'unauthorized') return 'Your sign-in has ended.'
    if (connection === 'connecting') return wasOnline ? 'Reconnecting…' : ''
    if (connection === 'polling') return 'No live events. Looking for news every few seconds.'
    if (connection === 'offline') return 'The server does not respond. Trying again…'
    return ''
  }

  function preview({ lastMessage, isTyping }) {
    if (isTyping) return 'typing…'
    if (!lastMessage) return 'No messages yet'
    const { senderId, text, deleted } = lastMessage
    const start = senderId === user.id ? 'You: ' : ''
    return start + (deleted ? 'message deleted' : (text ?? 'image or link'))
  }

  const chatRow = chat => {
    const { chatId, peerId, unreadCount, lastMessage, updatedAt, isTyping } = chat
    return h(
      'button',
      { type: 'button', class: 'row', 'data-chat': chatId, 'data-action': 'open', onclick: () => open(chatId, peerId) },
      avatar(peerId),
      h(
        'span',
        { class: 'row-text' },
        h('span', { class: 'row-name' }, nameOf(peerId)),
        h('span', { class: isTyping ? 'row-preview is-typing' : 'row-preview', dir: 'auto' }, preview(chat)),
      ),
      h(
        'span',
        { class: 'row-end' },
        h('span', { class: 'row-time' }, shortTime(lastMessage?.createdAt ?? updatedAt)),
        unreadCount > 0 &&
          h('span', { class: 'badge' }, String(unreadCount), h('span', { class: 'unseen' }, ' unread')),
      ),
    )
  }

  /** A row with buttons. Each is a name, a function, and how it looks. */
  const card = (peerId, text, buttons) => [
    h(
      'div',
      { class: 'row' },
      avatar(peerId),
      h(
        'span',
        { class: 'row-text' },
        h('span', { class: 'row-name' }, nameOf(peerId)),
        h('span', { class: 'row-preview' }, text),
      ),
    ),
    h(
      'div',
      { class: 'row-actions' },
      ...buttons.map(([label, onclick, kind]) =>
        h(
          'button',
          { type: 'button', class: kind, 'data-action': label, onclick },
          label,
          h('span', { class: 'unseen' }, ` ${nameOf(peerId)}`),
        ),
      ),
    ),
  ]

  const receivedRow = ({ chatId, peerId }) => {
    const accept = () => act(client.accept(chatId), nameOf(peerId), () => open(chatId, peerId))
    return card(peerId, 'would like to chat with you', [
      ['Accept', accept, 'primary small'],
      ['Decline', () => act(client.decline(chatId), nameOf(peerId)), 'quiet small'],
      ['Block', () => blockUser(peerId), 'quiet small danger'],
    ])
  }

  const sentRow = ({ chatId, peerId }) =>
    card(peerId, 'has not answered yet', [
      ['Withdraw', () => act(client.withdraw(chatId), nameOf(peerId)), 'quiet small'],
    ])

  const blockedRow = ({ userId }) =>
    card(userId, 'cannot reach you', [['Unblock', () => unblockUser(userId), 'quiet small']])

  function showSection({ box, list, count, more }, items, keyOf, fill, total, name) {
    box.hidden = items.length === 0
    count.textContent = total ? String(total) : ''
    reconcile(list, items, { keyOf, create: () => h('li'), fill })
    if (!name) return
    more.hidden = !client.state.hasMore[name]
    more.onclick = () => act(client.loadMore(name), '')
  }

  function showWelcome({ totals, error }, isEmpty) {
    const value = !totals ? (error ? 'error' : 'loading') : isEmpty ? 'empty' : 'none'
    welcome.hidden = value === 'none'
    if (welcome.dataset.value === value) return
    welcome.dataset.value = value
    if (value === 'empty') {
      welcome.replaceChildren(
        icon('chat'),
        h('p', { class: 'welcome-title' }, `${user.name} has no chats yet`),
        h('p', {}, `Ask ${peer.name} to chat. ${peer.name} can accept or decline.`),
        h('button', { type: 'button', class: 'primary', onclick: () => request(peer.id) }, `Ask ${peer.name}`),
      )
    } else welcome.replaceChildren(h('p', {}, value === 'error' ? explain(error, peer.name) : 'Loading…'))
  }

  function render() {
    const { state } = client
    const isOnline = device.isOnline && state.connection === 'online'
    const canLoad = device.isOnline && Boolean(state.totals) && ['online', 'polling'].includes(state.connection)
    if (canLoad && !hasAskedBlocks) loadBlocks()
    hasAskedBlocks = canLoad
    wasOnline ||= isOnline
    if (wasExpired && !device.isExpired) tell('Signed in again with a new token.')
    wasExpired = device.isExpired
    const name = device.isOnline ? CONNECTIONS[connectionOf(state)] : 'Offline'
    connection.textContent = name
    connection.dataset.state = device.isOnline ? connectionOf(state) : 'offline'
    const text = noticeOf(state)
    if (notice.textContent !== text) notice.textContent = text
    notice.classList.toggle('is-shown', text !== '')
    clock.textContent = timeOf(Date.now())
    const signalIcon = isOnline ? 'live' : 'offline'
    if (signal.dataset.icon !== signalIcon) signal.replaceChildren(icon(signalIcon))
    signal.dataset.icon = signalIcon

    const { totals, chats, received, sent } = state
    const waiting = (totals?.totalUnreadMessages ?? 0) + (totals?.totalPendingRequest ?? 0)
    badge.hidden = waiting === 0
    badge.replaceChildren(String(waiting), h('span', { class: 'unseen' }, ' new'))
    showWelcome(state, chats.length + received.length + sent.length + blocked.length === 0)
    const byChat = ({ chatId }) => chatId
    showSection(lists.received, received, byChat, receivedRow, totals?.totalPendingRequest, 'received')
    showSection(lists.chats, chats, byChat, chatRow, totals?.totalUnreadMessages, 'chats')
    showSection(lists.sent, sent, byChat, sentRow, totals?.totalSentRequest, 'sent')
    showSection(lists.blocked, blocked, ({ userId }) => userId, blockedRow, 0)
    lists.chats.box.classList.toggle('is-only', received.length + sent.length + blocked.length === 0)
    conversation.render()
    onChange({ waiting })
  }

  client.subscribe(schedule)
  client.start()
  render()
  // Some things change without news: the clock, and "Today".
  setInterval(schedule, 20_000)
  document.addEventListener('visibilitychange', schedule)

  return { element, user, client, open, render: schedule }
}
