// Tests the API documentation page that `cargo run` serves, in a browser: it sends requests to the API, and it
// loads nothing from other hosts. Playwright's timeouts limit every wait.
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core'

const api = process.env['API_URL']
assert(api, 'Set the environment variable API_URL')
const screenshots = process.env['SCREENSHOTS']

const sendMessageSection = 'tag/messages/POST/chats/{chatId}/messages'

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
      const sendPage = await openPage(`/docs#${sendMessageSection}`, { viewport, colorScheme })
      await sendPage.page.getByText('Sends a message to the other member').first().waitFor()
      await saveScreenshot(sendPage.page, `${colorScheme}-${width}-send`)
      assert.deepEqual(sendPage.problems, [])
      assert.deepEqual(problems, [])
    })
  }
}
