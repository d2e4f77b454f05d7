// Small helpers to build and update elements. Text is always inserted as text, never as HTML.

/** Creates an element. Properties that begin with `on` are listeners, all others are attributes. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value)
    else element.setAttribute(key, value === true ? '' : value)
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false))
  return element
}

/** An icon of the page. It has no meaning for screen readers. */
export function icon(name) {
  const namespace = 'http://www.w3.org/2000/svg'
  const svg = document.createElementNS(namespace, 'svg')
  const use = document.createElementNS(namespace, 'use')
  svg.setAttribute('class', `icon icon-${name}`)
  svg.setAttribute('aria-hidden', 'true')
  use.setAttribute('href', `#icon-${name}`)
  svg.append(use)
  return svg
}

export const iconButton = (name, label, onclick, properties = {}) =>
  h(
    'button',
    { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...properties },
    icon(name),
  )

/**
 * Replaces the children of an element, and leaves those in place that remain. So a screen reader does not read them
 * again.
 */
function setChildren(element, children) {
  for (const child of [...element.childNodes]) if (!children.includes(child)) child.remove()
  children.forEach((child, index) => {
    const place = element.childNodes[index] ?? null
    if (place !== child) element.insertBefore(child, place)
  })
}

/** The children that `reconcile` has made: for each list, elements and what they show, by key. */
const shown = new WeakMap()

/**
 * Shows items as children of `list`, and keeps elements: focus, scroll position and animations stay. `create` makes an
 * element, and `fill` returns the children of an item whose value has changed.
 */
export function reconcile(list, items, { keyOf, create, fill }) {
  const before = shown.get(list) ?? new Map()
  const after = new Map()
  let place = list.firstChild
  for (const item of items) {
    const key = keyOf(item)
    const value = JSON.stringify(item)
    const entry = before.get(key) ?? { element: create(item) }
    const { element } = entry
    if (entry.value !== value) {
      const focused = element.contains(document.activeElement) ? document.activeElement.dataset.action : undefined
      setChildren(element, [fill(item, element)].flat().filter(Boolean))
      if (focused) element.querySelector(`[data-action="${focused}"]`)?.focus()
    }
    after.set(key, { element, value })
    before.delete(key)
    if (element === place) place = place.nextSibling
    else list.insertBefore(element, place)
  }
  for (const { element } of before.values()) element.remove()
  shown.set(list, after)
}
