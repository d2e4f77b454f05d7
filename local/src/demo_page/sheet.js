// A sheet that comes up from the bottom of a phone: menus, questions and forms.
import { h } from './dom.js'

const REASONS = {
  spam: 'Spam',
  harassment: 'Harassment',
  sexual: 'Sexual content',
  violence: 'Violence',
  self_harm: 'Self-harm',
  scam: 'Scam',
  other: 'Something else',
}

/** `background` is what cannot be used while the sheet is open. */
export function createSheet(background) {
  const title = h('h3', { class: 'sheet-title' })
  const body = h('div', { class: 'sheet-body' })
  const panel = h('div', { class: 'sheet', role: 'dialog', 'aria-modal': 'true' }, title, body)
  const element = h(
    'div',
    { class: 'scrim', hidden: true, onclick: event => event.target === element && close() },
    panel,
  )
  let opener = null

  element.addEventListener('keydown', event => {
    if (event.key === 'Escape') {
      event.stopPropagation()
      close()
    }
    if (event.key === 'Tab') keepFocus(event)
  })

  function keepFocus(event) {
    const items = [...panel.querySelectorAll('button, input, select, textarea')].filter(item => !item.disabled)
    const edge = event.shiftKey ? items[0] : items.at(-1)
    if (document.activeElement !== edge) return
    event.preventDefault()
    ;(event.shiftKey ? items.at(-1) : items[0])?.focus()
  }

  function open(name, ...children) {
    if (element.hidden) opener = document.activeElement
    title.textContent = name
    panel.setAttribute('aria-label', name)
    body.replaceChildren(...children.flat().filter(Boolean))
    element.hidden = false
    background.inert = true
    body.querySelector('input, select, textarea, button')?.focus()
  }

  function close() {
    if (element.hidden) return
    element.hidden = true
    background.inert = false
    opener?.focus()
  }

  /** A button that closes the sheet. `run` may open the next one. */
  const choice = (label, run, kind = '') =>
    h('button', { type: 'button', class: `choice ${kind}`, onclick: () => (close(), run?.()) }, label)

  const field = (label, input) => h('label', { class: 'field' }, h('span', {}, label), input)

  function form(name, fields, submit, run, ...rest) {
    const send = h('button', { class: 'primary' }, submit)
    const onsubmit = event => {
      event.preventDefault()
      close()
      run()
    }
    open(name, h('form', { class: 'sheet-form', onsubmit }, ...fields, send), ...rest, choice('Cancel'))
  }

  const httpsField = (label, placeholder) => [
    label,
    h('input', {
      type: 'url',
      pattern: 'https://.+',
      maxlength: '2048',
      placeholder,
      title: 'A URL with https',
      autocomplete: 'off',
    }),
  ]

  return {
    element,
    close,
    menu: (name, choices) => open(name, ...choices.filter(Boolean).map(item => choice(...item)), choice('Cancel')),

    report(name, peer, run) {
      const reason = h('select', {}, ...Object.entries(REASONS).map(([value, label]) => h('option', { value }, label)))
      const note = h('textarea', { rows: '2', maxlength: '1000', placeholder: 'Optional' })
      const block = h('input', { type: 'checkbox' })
      const fields = [
        field('Reason', reason),
        field('Note', note),
        h('label', { class: 'check' }, block, `Also block ${peer}`),
      ]
      form(name, fields, 'Send report', () => {
        run({
          reason: reason.value,
          ...(note.value.trim() && { note: note.value }),
          ...(block.checked && { block: true }),
        })
      })
    },

    attach(content, run) {
      const [imageLabel, image] = httpsField('Image URL', 'https://…/photo.jpg')
      const [linkLabel, link] = httpsField('Link', 'https://…')
      image.value = content.imageUrl ?? ''
      link.value = content.linkPreviewUrl ?? ''
      form('Attach by URL', [field(imageLabel, image), field(linkLabel, link)], 'Attach', () => {
        run({ ...(image.value && { imageUrl: image.value }), ...(link.value && { linkPreviewUrl: link.value }) })
      })
    },

    newChat(suggested, run) {
      const user = h('input', {
        inputmode: 'numeric',
        pattern: '[1-9][0-9]{0,15}',
        required: true,
        value: String(suggested),
      })
      form('New chat', [field('User number', user)], 'Send request', () => run(Number(user.value)))
    },
  }
}
