// Tests the API documentation page that `cargo run` serves, in a browser: it sends requests to the API, shows live
// events, and loads nothing from other hosts. Playwright's timeouts limit every wait.
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { launchBrowser } from './browser.js'

const api = process.env['API_URL']
assert(api, 'Set the environment variable API_URL')
const screenshots = process.env['SCREENSHOTS']

const sendMessageSection = 'tag/messages/POST/chats/{chatId}/messages'

let browser: Browser
before(async () => {
  browser = await launchBrowser()
})
after(() => browser.close())

/** Opens a page, and collects its requests to other hosts and its errors in `problems`. */
async function openPage(path: string, options: BrowserContextOptions = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
  const page = await context.newPage()
  const problems: string[] = []
  page.on('request', request => {
    const url = new URL(request.url())
    const isSameOrigin = ['data:', 'blob:'].includes(url.protocol) || url.origin === new URL(api!).origin
    if (!isSameOrigin) problems.push(`The page sent a request to another host: ${url}`)
  })
  page.on('websocket', socket => {
    if (new URL(socket.url()).host !== new URL(api!).host) {
      problems.push(`The page connected to another host: ${socket.url()}`)
    }
  })
  page.on('console', message => {
    if (message.type() === 'error') problems.push(message.text())
  })
  page.on('pageerror', error => problems.push(String(error)))
  await page.goto(`${api}${path}`)
  await page.getByRole('heading', { name: 'One-to-one chat', exact: true }).waitFor()
  return { page, problems }
}

async function saveScreenshot(page: Page, name: string) {
  if (!screenshots) return
  mkdirSync(screenshots, { recursive: true })
  await page.screenshot({ path: `${screenshots}/${name}.png` })
}

test('the page sends a message as the signed-in user', async () => {
  const { page, problems } = await openPage(`/docs#${sendMessageSection}`)
  const section = page.locator('[id*="messages/POST/chats/{chatId}/messages"]').first()
  await section.scrollIntoViewIfNeeded()
  await section.getByRole('button', { name: /test request/i }).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.waitFor()
  await saveScreenshot(page, 'request')
  const responseReceived = page.waitForResponse(response => response.request().method() === 'POST')
  await dialog.getByRole('button', { name: /send/i }).first().click()
  const response = await responseReceived
  assert.equal(new URL(response.url()).pathname, '/chats/17-42/messages')
  assert.equal(response.status(), 201)
  const message = await response.json()
  assert.equal(message.senderId, 17)
  assert.equal(message.text, 'Hello 👋')
  await dialog.getByText('201').first().waitFor()
  await dialog.getByText(`17-42/${message.seq}`).first().waitFor()
  await saveScreenshot(page, 'response')
  assert.deepEqual(problems, [])
})

/** Opens the panel with live events, and connects as a user. */
async function openLivePanel(page: Page, user: string) {
  await page.getByRole('button', { name: 'Live events' }).click()
  const panel = page.getByRole('region', { name: 'Live events' })
  await panel.getByLabel('User').selectOption(user)
  await panel.getByRole('button', { name: 'Connect', exact: true }).click()
  await panel.getByText('Connected as').waitFor()
  return panel
}

/** Sends a message as the user whose token the page has, over REST and without the page. */
async function sendMessage(page: Page, user: number, text: string) {
  const settings = JSON.parse((await page.locator('#settings').textContent()) ?? '')
  const { token } = settings.users.find(({ id }: { id: number }) => id === user)
  const response = await fetch(`${api}/chats/17-42/messages`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ text }),
  })
  assert.equal(response.status, 201)
  return (await response.json()) as { messageId: string }
}

test('the panel shows a message of the other user as an event, and its text as text', async () => {
  const { page, problems } = await openPage('/docs')
  const panel = await openLivePanel(page, 'Ben (42)')
  const text = '<img src=x onerror=alert(1)> & "quotes"'
  const { messageId } = await sendMessage(page, 17, text)
  const frame = panel.getByRole('listitem').filter({ hasText: `"messageId": "${messageId}"` })
  await frame.waitFor()
  const [event] = JSON.parse((await frame.locator('pre').textContent()) ?? '').events
  assert.equal(event.type, 'message.created')
  assert.equal(event.message.text, text)
  assert.equal(event.chat.chatId, '17-42')
  assert.equal(await panel.locator('img').count(), 0)
  await panel.getByText('Received: message.created.').waitFor()
  await saveScreenshot(page, 'live')

  await sendMessage(page, 17, 'second')
  await panel.getByRole('listitem').first().filter({ hasText: '"second"' }).waitFor()
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('the panel sends sync and typing', async () => {
  const ann = await openPage('/docs')
  const ben = await openPage('/docs?user=42')
  const annPanel = await openLivePanel(ann.page, 'Ann (17)')
  const benPanel = await openLivePanel(ben.page, 'Ben (42)')
  await benPanel.getByRole('button', { name: 'Send sync' }).click()
  const synced = benPanel.getByRole('listitem').filter({ hasText: '"synced"' })
  await synced.getByText('"totalUnreadMessages"').waitFor()
  await benPanel.getByLabel('Chat').fill('17-42')
  await benPanel.getByRole('button', { name: 'Send typing' }).click()
  const typing = annPanel.getByRole('listitem').filter({ hasText: '"userId": 42' })
  await typing.getByText('"typing"').waitFor()

  await benPanel.getByRole('button', { name: 'Disconnect' }).click()
  await benPanel.getByText('Disconnected, close code').waitFor()
  assert(await benPanel.getByRole('button', { name: 'Send sync' }).isDisabled())
  assert.deepEqual([...ann.problems, ...ben.problems], [])
  await ann.page.context().close()
  await ben.page.context().close()
})

test('the panel works with the keyboard and keeps 200 frames', async () => {
  const { page, problems } = await openPage('/docs')
  const toggle = page.getByRole('button', { name: 'Live events' })
  assert.equal(await toggle.getAttribute('aria-expanded'), 'false')
  await toggle.press('Enter')
  assert.equal(await toggle.getAttribute('aria-expanded'), 'true')
  const panel = page.getByRole('region', { name: 'Live events' })
  // The focus is on the list of users.
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await panel.getByText('Connected as 17.').waitFor()
  await panel.getByRole('button', { name: 'Send sync' }).evaluate(button => {
    for (let count = 0; count < 105; count++) (button as HTMLButtonElement).click()
  })
  // Each frame that is sent gets a response, also when the limit of the connection is reached.
  await panel.locator('li:nth-child(200)').waitFor({ state: 'attached' })
  await panel.getByRole('listitem').first().filter({ hasText: 'Received' }).waitFor()
  assert.equal(await panel.getByRole('listitem').count(), 200)
  await panel.getByRole('button', { name: 'Clear frames' }).press('Enter')
  await panel.getByRole('button', { name: 'Disconnect' }).press('Escape')
  await panel.waitFor({ state: 'hidden' })
  assert(await toggle.evaluate(button => button === document.activeElement))
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('the sample requests on the page succeed', async () => {
  const samples = [
    ['chats/GET/chats', 200],
    ['requests/GET/chats/pending', 200],
    ['messages/GET/chats/{chatId}/messages', 200],
    ['totals/GET/totals', 200],
  ] as const
  for (const [section, status] of samples) {
    const { page, problems } = await openPage(`/docs#tag/${section}`)
    await page.locator(`[id*="tag/${section}"]`).getByRole('button', { name: /test request/i }).first().click()
    const responseReceived = page.waitForResponse(response => response.url().startsWith(`${api}/`))
    await page.getByRole('dialog').getByRole('button', { name: /send/i }).first().click()
    assert.equal((await responseReceived).status(), status, section)
    assert.deepEqual(problems, [])
    await page.context().close()
  }
})

test('the page can switch to the other sample user', async () => {
  const { page, problems } = await openPage('/docs')
  await page.getByText('Signed in as 17').waitFor()
  await page.getByRole('link', { name: 'Ben (42)' }).click()
  await page.getByText('Signed in as 42').waitFor()
  assert.deepEqual(problems, [])
})

for (const colorScheme of ['light', 'dark'] as const) {
  for (const width of [390, 1280]) {
    test(`the page fits a window of ${width} pixels in the ${colorScheme} color scheme`, async () => {
      const viewport = { width, height: 900 }
      const { page, problems } = await openPage('/docs', { viewport, colorScheme })
      const pageWidth = await page.evaluate(() => document.documentElement.scrollWidth)
      assert(pageWidth <= width, `the page is ${pageWidth} pixels wide`)
      await saveScreenshot(page, `${colorScheme}-${width}`)
      await page.getByRole('button', { name: 'Live events' }).click()
      const panel = await page.getByRole('region', { name: 'Live events' }).boundingBox()
      assert(panel && panel.x >= 0 && panel.x + panel.width <= width, JSON.stringify(panel))
      await saveScreenshot(page, `${colorScheme}-${width}-live`)
      const sendPage = await openPage(`/docs#${sendMessageSection}`, { viewport, colorScheme })
      await sendPage.page.getByText('Sends a message to the other member').first().waitFor()
      await saveScreenshot(sendPage.page, `${colorScheme}-${width}-send`)
      assert.deepEqual(sendPage.problems, [])
      assert.deepEqual(problems, [])
    })
  }
}
