// How names, times and texts are shown.
import { h, icon } from './dom.js'

const settings = JSON.parse(document.getElementById('settings').textContent)

/** The users of this page. All others have no name here, because the service has no user accounts. */
export const people = settings.users
export const { hasTokens, livePath } = settings

const personOf = id => people.find(person => person.id === id)
export const nameOf = id => personOf(id)?.name ?? `User ${id}`

export const avatar = id =>
  h(
    'span',
    { class: 'avatar', 'data-user': personOf(id)?.name.toLowerCase() ?? 'other', 'aria-hidden': 'true' },
    (personOf(id)?.name ?? String(id)).slice(0, 1),
  )

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
const dayFormat = new Intl.DateTimeFormat('en', { weekday: 'long', day: 'numeric', month: 'long' })
const shortDayFormat = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short' })

export const timeOf = time => timeFormat.format(new Date(time))

/** A day of the calendar, to compare. */
export const dayOf = time => new Date(time).toDateString()

const isDaysAgo = (time, days) => dayOf(time) === dayOf(Date.now() - days * 86_400_000)

export function dayName(time) {
  if (isDaysAgo(time, 0)) return 'Today'
  if (isDaysAgo(time, 1)) return 'Yesterday'
  return dayFormat.format(new Date(time))
}

export const shortTime = time => (isDaysAgo(time, 0) ? timeOf(time) : shortDayFormat.format(new Date(time)))

const LINK = /https:\/\/[^\s<>"]+[^\s<>"'.,:;!?)\]]/g

/** Only `https` links become links: the API accepts no others, and a text can contain anything. */
export const link = (url, ...children) =>
  h('a', { href: url, target: '_blank', rel: 'noopener noreferrer', referrerpolicy: 'no-referrer' }, ...children)

/** The parts of a text, with links. */
export function withLinks(text) {
  const parts = []
  let end = 0
  for (const { 0: url, index } of text.matchAll(LINK)) {
    parts.push(text.slice(end, index), link(url, url))
    end = index + url.length
  }
  return [...parts, text.slice(end)]
}

/** Whether a text is one to three emoji, which are shown large. */
export const isOnlyEmoji = text =>
  text.length < 40 && /^(?:(?:\p{RGI_Emoji}|\p{Extended_Pictographic}\uFE0F?)\s*){1,3}$/v.test(text.trim())

/** A card for a link. The page does not load what the link leads to. */
export function linkCard(url) {
  let host = url
  let pathname = '/'
  try {
    ;({ host, pathname } = new URL(url))
  } catch {
    // The service accepts some URLs that browsers do not. The text of the URL stands for itself.
  }
  const path = pathname === '/' ? '' : pathname
  return link(
    url,
    icon('link'),
    h('span', { class: 'link-text' }, h('strong', {}, host), path && h('span', { class: 'link-path' }, path)),
  )
}

/** What to tell a person about an error. The service's own messages are for persons, too. */
export function explain(error, peer) {
  const texts = {
    network: 'No connection. Try again when you are online.',
    peer_unavailable: `${peer} cannot get messages at the moment.`,
    you_blocked: `You have blocked ${peer}. Unblock ${peer} first.`,
    chat_declined: `${peer} has declined your request. Only ${peer} can start a chat now.`,
    chat_not_active: `This chat is not active. Ask ${peer} first.`,
    edit_window_closed: 'This message is too old to edit.',
    delete_window_closed: 'This message is too old to delete.',
    too_many_pending_requests: 'You have too many open requests. Withdraw one first.',
    superseded: 'A later action replaced this one.',
    key_expired: 'This message is too old to be sent again. Check whether it has arrived.',
    not_failed: 'This message is no longer waiting.',
    stopped: 'The phone was turned off.',
  }
  return texts[error.code] ?? error.message
}
