// The demo: two phones side by side, and what they send. All state of the chats is in the client (clients/javascript).
import { h } from './dom.js'
import { createPhone } from './phone.js'
import { playSampleChat, addHistory } from './sample.js'
import { explain, hasTokens, people } from './text.js'
import { createTraffic } from './traffic.js'

const stage = document.getElementById('stage')
const switchBar = document.getElementById('switch')
const narrow = matchMedia('(max-width: 819px)')

function showPhones() {
  const traffic = createTraffic(document.getElementById('traffic'))
  let shownUser = people[0].id
  const isShown = id => !narrow.matches || id === shownUser

  const phones = people.map((user, index) => {
    const badge = h('span', { class: 'badge', hidden: true })
    const tab = h(
      'button',
      { type: 'button', 'data-user': user.name.toLowerCase(), onclick: () => show(user.id) },
      user.name,
      badge,
    )
    switchBar.append(tab)
    const phone = createPhone({
      user,
      peer: people[1 - index],
      report: entry => traffic.add(user.id, entry),
      isShown: () => isShown(user.id),
      onChange({ waiting }) {
        badge.hidden = waiting === 0
        badge.replaceChildren(String(waiting), h('span', { class: 'unseen' }, ' new'))
      },
    })
    stage.append(phone.element)
    return { ...phone, tab }
  })

  function show(id) {
    shownUser = id
    for (const { user, element, tab, render } of phones) {
      element.classList.toggle('is-away', user.id !== id)
      tab.setAttribute('aria-pressed', String(user.id === id))
      render()
    }
  }

  show(shownUser)
  narrow.addEventListener('change', () => show(shownUser))
  traffic.setOpen(matchMedia('(min-width: 1200px)').matches)

  const announcement = document.getElementById('announcement')
  const run = (id, action) => {
    const button = document.getElementById(id)
    button.addEventListener('click', async () => {
      button.disabled = true
      announcement.textContent = ''
      try {
        await action(phones)
      } catch (error) {
        announcement.textContent = `This ended early: ${explain(error, 'the other person')}`
      } finally {
        button.disabled = false
      }
    })
  }
  run('play', playSampleChat)
  run('fill', addHistory)
}

function explainTokens() {
  document.querySelector('.top nav').replaceChildren(h('a', { href: '/docs', class: 'quiet' }, 'API docs'))
  switchBar.remove()
  stage.replaceWith(
    h(
      'section',
      { class: 'explanation' },
      h('h2', {}, 'This page cannot sign in'),
      h(
        'p',
        {},
        'It gets tokens for Ann and Ben only if the server uses the development secret. This server has other keys.',
      ),
      h(
        'p',
        {},
        'For the demo, start the server without ',
        h('code', {}, 'JWT_'),
        ' variables. With a secret of your own, a terminal prints a token, which the API docs take:',
      ),
      h('pre', { tabindex: '0' }, 'JWT_SECRET=… cargo run -- token 17'),
    ),
  )
}

if (hasTokens) showPhones()
else explainTokens()
