// A developer explores the API in a browser: the page that `cargo run` serves sends a message, and
// nothing on it asks another host for anything.
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core'

const api = process.env['API_URL']
assert(api, 'API_URL is missing')
const screenshots = process.env['SCREENSHOTS']

const sendMessage = 'tag/messages/POST/chats/{chatId}/messages'

let browser: Browser
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
})
after(() => browser.close())

/** The page, and what must stay empty: requests to other hosts, and what the browser complains of. */
async function open(path: string, options: BrowserContextOptions = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
  const page = await context.newPage()
  const problems: string[] = []
  page.on('request', request => {
    const url = new URL(request.url())
    const isOwn = ['data:', 'blob:'].includes(url.protocol) || url.origin === new URL(api!).origin
    if (!isOwn) problems.push(`a request to ${url}`)
  })
  page.on('console', message => {
    if (message.type() === 'error') problems.push(message.text())
  })
  page.on('pageerror', error => problems.push(String(error)))
  await page.goto(`${api}${path}`)
  await page.getByRole('heading', { name: 'One-to-one chat', exact: true }).waitFor()
  return { page, problems }
}

async function save(page: Page, name: string) {
  if (!screenshots) return
  mkdirSync(screenshots, { recursive: true })
  await page.screenshot({ path: `${screenshots}/${name}.png` })
}

test('the page sends a message as the user that it is signed in as', async () => {
  const { page, problems } = await open(`/docs#${sendMessage}`)
  const section = page.locator('[id*="messages/POST/chats/{chatId}/messages"]').first()
  await section.scrollIntoViewIfNeeded()
  await section.getByRole('button', { name: /test request/i }).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.waitFor()
  await save(page, 'request')
  const answered = page.waitForResponse(response => response.request().method() === 'POST')
  await dialog.getByRole('button', { name: /send/i }).first().click()
  const response = await answered
  assert.equal(new URL(response.url()).pathname, '/chats/17-42/messages')
  assert.equal(response.status(), 201)
  const message = await response.json()
  assert.equal(message.senderId, 17)
  assert.equal(message.text, 'Hello 👋')
  await dialog.getByText('201').first().waitFor()
  await dialog.getByText(`17-42/${message.seq}`).first().waitFor()
  await save(page, 'answer')
  assert.deepEqual(problems, [])
})

test('every call that the page proposes is a right one', async () => {
  const calls = [
    ['chats/GET/chats', 200],
    ['requests/GET/chats/pending', 200],
    ['messages/GET/chats/{chatId}/messages', 200],
    ['totals/GET/totals', 200],
  ] as const
  for (const [call, status] of calls) {
    const { page, problems } = await open(`/docs#tag/${call}`)
    await page.locator(`[id*="tag/${call}"]`).getByRole('button', { name: /test request/i }).first().click()
    const answered = page.waitForResponse(response => response.url().startsWith(`${api}/`))
    await page.getByRole('dialog').getByRole('button', { name: /send/i }).first().click()
    assert.equal((await answered).status(), status, call)
    assert.deepEqual(problems, [])
    await page.context().close()
  }
})

test('the page may be used as the other sample user', async () => {
  const { page, problems } = await open('/docs')
  await page.getByText('Signed in as 17').waitFor()
  await page.getByRole('link', { name: 'Ben (42)' }).click()
  await page.getByText('Signed in as 42').waitFor()
  assert.deepEqual(problems, [])
})

for (const colorScheme of ['light', 'dark'] as const) {
  for (const width of [390, 1280]) {
    test(`the page fits a window ${width} wide, ${colorScheme}`, async () => {
      const viewport = { width, height: 900 }
      const { page, problems } = await open('/docs', { viewport, colorScheme })
      const widthOfPage = await page.evaluate(() => document.documentElement.scrollWidth)
      assert(widthOfPage <= width, `${widthOfPage} wide`)
      await save(page, `${colorScheme}-${width}`)
      const send = await open(`/docs#${sendMessage}`, { viewport, colorScheme })
      await send.page.getByText('Sends a message to the other member').first().waitFor()
      await save(send.page, `${colorScheme}-${width}-send`)
      assert.deepEqual(send.problems, [])
      assert.deepEqual(problems, [])
    })
  }
}
