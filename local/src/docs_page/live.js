// The panel with live events: connects to the WebSocket API of this server as a sample user, and shows each frame.
{
  /** The number of frames that stay on the page. */
  const MAX_FRAMES = 200

  const { user: signedIn, users } = JSON.parse(document.getElementById('settings').textContent)
  const element = name => document.getElementById(`live-${name}`)
  const panel = document.getElementById('live')
  const frames = element('frames')
  let socket = null
  let isClosedByUser = false

  for (const { id, name, token } of users) {
    const option = new Option(name ? `${name} (${id})` : String(id), id, id === signedIn, id === signedIn)
    option.disabled = !token
    element('user').append(option)
  }
  const canConnect = users.some(({ token }) => token)
  element('connect').disabled = !canConnect
  if (!canConnect) setStatus('Not connected: this page has tokens only with the development secret.')

  function setStatus(text) {
    element('status').textContent = text
  }

  function setOpen(isOpen) {
    panel.hidden = !isOpen
    element('toggle').setAttribute('aria-expanded', isOpen)
    if (!isOpen) element('toggle').focus()
    else if (socket) element('connect').focus()
    else element('user').focus()
  }

  /** Adds a frame at the top. `textContent` escapes it. */
  function show(direction, text) {
    const item = document.createElement('li')
    const heading = document.createElement('p')
    const body = document.createElement('pre')
    heading.textContent = `${direction} at ${new Date().toLocaleTimeString('en-GB')}`
    body.textContent = pretty(text)
    item.append(heading, body)
    frames.prepend(item)
    while (frames.children.length > MAX_FRAMES) frames.lastElementChild.remove()
  }

  function pretty(text) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2)
    } catch {
      return text
    }
  }

  /** The types of the events in a frame, or the type of a control frame. */
  function summary(text) {
    try {
      const frame = JSON.parse(text)
      return frame.events?.map(event => event.type).join(', ') ?? frame.type ?? 'a frame without a type'
    } catch {
      return 'a frame that is not JSON'
    }
  }

  function update() {
    const isOpen = socket?.readyState === WebSocket.OPEN
    element('connect').textContent = socket ? 'Disconnect' : 'Connect'
    element('user').disabled = Boolean(socket)
    element('sync').disabled = !isOpen
    element('typing').disabled = !isOpen
  }

  function connect() {
    const id = Number(element('user').value)
    const { token } = users.find(user => user.id === id)
    const url = new URL('/live', location.href)
    url.protocol = url.protocol.replace('http', 'ws')
    const opening = new WebSocket(url, ['chat.v1', token])
    let wasOpen = false
    isClosedByUser = false
    socket = opening
    setStatus(`Connecting as ${id}.`)
    opening.onopen = () => {
      wasOpen = true
      setStatus(`Connected as ${id}.`)
      update()
    }
    opening.onmessage = ({ data }) => {
      show('Received', data)
      setStatus(`Connected as ${id}. Received: ${summary(data)}.`)
    }
    opening.onclose = ({ code }) => {
      const isRefused = !wasOpen && !isClosedByUser
      if (socket === opening) socket = null
      setStatus(
        isRefused
          ? 'Not connected: the server refused the connection. Does it run with --no-realtime?'
          : `Disconnected, close code ${code}.`,
      )
      update()
    }
    update()
  }

  function send(frame) {
    if (socket?.readyState !== WebSocket.OPEN) return
    const text = JSON.stringify(frame)
    socket.send(text)
    show('Sent', text)
  }

  element('toggle').addEventListener('click', () => setOpen(panel.hidden))
  element('close').addEventListener('click', () => setOpen(false))
  panel.addEventListener('keydown', event => {
    if (event.key === 'Escape') setOpen(false)
  })
  element('form').addEventListener('submit', event => {
    event.preventDefault()
    if (socket) {
      isClosedByUser = true
      socket.close()
    } else {
      connect()
    }
  })
  element('clear').addEventListener('click', () => frames.replaceChildren())
  element('sync').addEventListener('click', () => send({ type: 'sync' }))
  element('typing-form').addEventListener('submit', event => {
    event.preventDefault()
    send({ type: 'typing', chatId: element('chat').value })
  })
}
