// The drawer with requests and frames as they happen, and about what they cost.
import { h, iconButton } from './dom.js'
import { nameOf, timeOf } from './text.js'

/** The number of entries that stay on the page. */
const MAX_ENTRIES = 200

/**
 * About how many write and read units a request costs, for short messages (docs/architecture.md, "Cost per request"). A
 * request that changes nothing costs less.
 */
const COSTS = [
  ['POST', /^\/chats$/, 8, 0],
  ['PUT', /^\/chats\/[^/]+\/(accept|decline)$/, 10, 1],
  ['PUT', /^\/chats\/[^/]+\/withdraw$/, 8, 1],
  ['GET', /^\/chats(\/pending|\/rejected)?$/, 0, 4],
  ['GET', /^\/chats\/[^/]+$/, 0, 1],
  ['GET', /^\/chats\/[^/]+\/messages$/, 0, 2],
  ['GET', /^\/chats\/[^/]+\/changes$/, 0, 3],
  ['POST', /^\/chats\/[^/]+\/messages$/, 12, 1],
  ['PUT', /^\/chats\/[^/]+\/messages\/read$/, 6, 3],
  ['PATCH', /^\/chats\/[^/]+\/messages\/\d+$/, 10, 2],
  ['DELETE', /^\/chats\/[^/]+\/messages\/\d+$/, 10, 2],
  ['GET', /^\/totals(\/unread)?$/, 0, 1],
  ['PUT', /^\/blocks\/\d+$/, 4, 1],
  ['DELETE', /^\/blocks\/\d+$/, 4, 1],
  ['GET', /^\/blocks$/, 0, 4],
  ['POST', /^\/reports$/, 3, 2],
]
const FRAME_COSTS = { sync: [1, 1], renew: [2, 0], typing: [1, 1] }

/** Write and read units, or null if they are not known. */
function costOf(traffic) {
  if (traffic.kind === 'connection') return traffic.isOpen ? [1, 1] : [1, 0]
  // The service reads the connections and totals of the user for each event.
  if (traffic.kind === 'frame' && traffic.direction === 'in') return [0, traffic.frame.events?.length ?? 0]
  if (traffic.kind === 'frame') return FRAME_COSTS[traffic.frame.type] ?? null
  if (traffic.kind !== 'request') return null
  // A token is checked before the table is read.
  if (traffic.status === 401) return [0, 0]
  if (traffic.status < 200 || traffic.status > 299) return null
  const path = traffic.path.split('?')[0]
  const cost = COSTS.find(([method, pattern]) => method === traffic.method && pattern.test(path))
  return cost ? cost.slice(2) : null
}

function describe(traffic) {
  switch (traffic.kind) {
    case 'request':
      return {
        label: traffic.method,
        text: traffic.path,
        result: traffic.status ? `${traffic.status}` : 'no response',
        isProblem: traffic.status < 200 || traffic.status > 299,
        note: `${Math.round(traffic.duration)} ms`,
        details: { Request: traffic.requestBody, Response: traffic.body },
      }
    case 'frame': {
      const { direction, frame } = traffic
      const types =
        frame.events?.map(({ type }) => type).join(', ') ?? [frame.type, frame.code].filter(Boolean).join(' ')
      const isProblem = frame.type === 'error' || frame.type === 'bye'
      return { label: direction === 'in' ? 'event' : 'frame', text: types, isProblem, details: { Frame: frame } }
    }
    case 'connection':
      return { label: 'live', text: traffic.isOpen ? 'connection opened' : 'connection closed' }
    case 'token':
      return { label: 'token', text: 'new token from your sign-in', note: `${Math.round(traffic.duration)} ms` }
    case 'expired':
      return { label: 'token', text: 'has expired', isProblem: true }
  }
}

const units = ([write, read]) => [write && `${write} W`, read && `${read} R`].filter(Boolean).join(' + ') || '0 units'

export function createTraffic(element) {
  const totals = { requests: 0, frames: 0, write: 0, read: 0 }
  const list = h('ol', {
    class: 'entries',
    reversed: true,
    tabindex: '0',
    'aria-label': 'Requests and frames, newest first',
  })
  const summary = h('dl', { class: 'sums' })
  const close = iconButton('close', 'Close', () => setOpen(false), { class: 'icon-button drawer-close' })
  const toggle = document.getElementById('traffic-toggle')
  element.append(
    h(
      'header',
      {},
      h('h2', { id: 'traffic-title' }, 'Requests and events'),
      h('button', { type: 'button', class: 'quiet small', onclick: clear }, 'Clear'),
      close,
    ),
    summary,
    h(
      'p',
      { class: 'hint' },
      'Newest first; open one to see its content. W and R: about how many write and read units of DynamoDB it costs.',
    ),
    list,
  )

  function setOpen(isOpen) {
    element.hidden = !isOpen
    document.body.classList.toggle('has-traffic', isOpen)
    toggle.setAttribute('aria-expanded', isOpen)
    if (!isOpen && element.contains(document.activeElement)) toggle.focus()
  }

  function clear() {
    list.replaceChildren()
    Object.keys(totals).forEach(key => (totals[key] = 0))
    showTotals()
  }

  function showTotals() {
    const entries = [
      ['Requests', totals.requests],
      ['Frames', totals.frames],
      ['Write units', `≈ ${totals.write}`],
      ['Read units', `≈ ${totals.read}`],
    ]
    summary.replaceChildren(
      ...entries.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, String(value)))),
    )
  }

  toggle.addEventListener('click', () => setOpen(element.hidden))
  element.addEventListener('keydown', ({ key }) => key === 'Escape' && setOpen(false))
  showTotals()

  return {
    setOpen,
    add(userId, traffic) {
      const cost = costOf(traffic)
      if (traffic.kind === 'request') totals.requests++
      if (traffic.kind === 'frame') totals.frames++
      if (cost) {
        totals.write += cost[0]
        totals.read += cost[1]
      }
      const { label, text, result, note, isProblem, details = {} } = describe(traffic)
      const bodies = Object.entries(details).filter(([, body]) => body !== undefined && body !== null)
      const line = [
        h('span', { class: 'who', 'data-user': nameOf(userId).toLowerCase() }, nameOf(userId)),
        h('span', { class: `label label-${label.toLowerCase()}` }, label),
        h('span', { class: 'path' }, text),
        result && h('span', { class: isProblem ? 'result problem' : 'result' }, result),
        h(
          'span',
          { class: 'facts' },
          [timeOf(Date.now()), note, cost && `≈ ${units(cost)}`].filter(Boolean).join(' · '),
        ),
      ].filter(Boolean)
      const item = h('li', { class: isProblem ? 'entry is-problem' : 'entry' })
      if (bodies.length) {
        const bodyElements = () =>
          bodies.flatMap(([name, body]) => [
            h('p', { class: 'caption' }, name),
            h('pre', { tabindex: '0', 'aria-label': name }, JSON.stringify(body, null, 2)),
          ])
        const box = h('details', {}, h('summary', {}, ...line))
        // Only an entry that is opened needs its bodies as text.
        box.addEventListener('toggle', () => box.append(...bodyElements()), { once: true })
        item.append(box)
      } else item.append(h('div', { class: 'line' }, ...line))
      list.prepend(item)
      while (list.children.length > MAX_ENTRIES) list.lastElementChild.remove()
      showTotals()
    },
  }
}
