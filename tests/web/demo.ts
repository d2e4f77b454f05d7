// Tests the demo that `cargo run` serves at `/`, in a browser, with the phones of Ann and Ben side by side. The server
// must be new: the first test begins without a chat. Playwright's timeouts limit every wait.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'
import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core'
import { launchBrowser } from './browser.js'

const api = process.env['API_URL']
assert(api, 'Set the environment variable API_URL')
const screenshots = process.env['SCREENSHOTS']
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** A picture of one pixel. */
const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
)

let browser: Browser
before(async () => {
  browser = await launchBrowser()
})
after(() => browser.close())

interface OpenOptions extends BrowserContextOptions {
  /** Errors in the console that belong to the test. */
  expected?: RegExp
  /** Settings of the page to replace. */
  settings?: object
}

/** Opens the demo, and collects its requests to other hosts, except for images, and its errors in `problems`. */
async function openPage({ expected, settings, ...options }: OpenOptions = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
  const page = await context.newPage()
  page.setDefaultTimeout(20_000)
  const problems: string[] = []
  page.on('request', request => {
    const { protocol, origin } = new URL(request.url())
    if (protocol !== 'data:' && origin !== new URL(api!).origin && request.resourceType() !== 'image') {
      problems.push(`The page sent a request to another host: ${request.url()}`)
    }
  })
  page.on('websocket', socket => {
    if (new URL(socket.url()).host !== new URL(api!).host) problems.push(`The page connected to ${socket.url()}`)
  })
  page.on('console', message => {
    if (message.type() === 'error' && !expected?.test(message.text())) problems.push(message.text())
  })
  page.on('pageerror', error => problems.push(String(error)))
  await page.route('https://images.example/*', route => route.fulfill({ contentType: 'image/png', body: png }))
  if (settings) {
    await page.route(`${api}/`, async route => {
      const response = await route.fetch()
      const replaceSettings = (_: string, start: string, text: string) =>
        start + JSON.stringify({ ...JSON.parse(text), ...settings })
      const body = (await response.text()).replace(/(type="application\/json">)([^<]+)/, replaceSettings)
      await route.fulfill({ response, body })
    })
  }
  await page.goto(`${api}/`)
  return { page, problems }
}

/** Opens the demo, and waits until both phones are connected. */
async function openDemo(options: OpenOptions = {}) {
  const { page, problems } = await openPage(options)
  const ann = phone(page, 'Ann')
  const ben = phone(page, 'Ben')
  await ann.getByText('Live', { exact: true }).waitFor({ state: 'attached' })
  await ben.getByText('Live', { exact: true }).waitFor({ state: 'attached' })
  return { page, ann, ben, problems }
}

/** Also finds the phone that is not shown on a narrow screen. */
const phone = (page: Page, name: string) => page.getByRole('region', { name: `${name}’s phone`, includeHidden: true })

async function saveScreenshot(page: Page, name: string) {
  if (!screenshots) return
  mkdirSync(screenshots, { recursive: true })
  await page.screenshot({ path: `${screenshots}/demo-${name}.png` })
}

const button = (where: Locator, name: string | RegExp) => where.getByRole('button', { name })
const message = (where: Locator, text: string) => where.locator('.message').filter({ hasText: text })
/** Without the time of the message, which follows its text: at midnight, `3` and `00:15` contain `30`. */
const exactMessage = (where: Locator, text: string) =>
  where.locator('.message').filter({ has: where.page().locator('.text').getByText(text, { exact: true }) })

/** Runs in the page: the texts of messages that are under the time of their message. */
function textsUnderTime(bubbles: Element[]) {
  const rectsOf = (element: Element) => {
    const range = document.createRange()
    range.selectNodeContents(element)
    return Array.from(range.getClientRects()).filter(({ width }) => width > 1)
  }
  const overlap = (one: DOMRect, other: DOMRect) =>
    one.left < other.right - 1 && one.right > other.left + 1 && one.top < other.bottom - 3 && one.bottom > other.top + 3
  return bubbles.flatMap(bubble => {
    const [text, time] = [bubble.querySelector('.text'), bubble.querySelector('.meta')]
    if (!text || !time) return []
    const times = rectsOf(time)
    return rectsOf(text).some(rect => times.some(other => overlap(rect, other))) ? [text.textContent] : []
  })
}

/** Opens the conversation of a phone from its list. */
async function openChat(where: Locator, other: string) {
  await where.locator('button.row').filter({ hasText: other }).click()
  await where.getByRole('log', { name: 'Messages' }).waitFor()
}

async function openBoth(ann: Locator, ben: Locator) {
  await openChat(ann, 'Ben')
  await openChat(ben, 'Ann')
}

async function write(where: Locator, text: string) {
  await where.getByRole('textbox', { name: /^Message to/ }).fill(text)
  await button(where, 'Send').click()
}

/** Opens the menu of a message, and makes a choice. */
async function choose(where: Locator, text: string, choice: string) {
  await message(where, text).hover()
  await message(where, text)
    .getByRole('button', { name: /^Actions for/ })
    .click()
  await where.getByRole('dialog').getByRole('button', { name: choice, exact: true }).click()
}

/** The texts that a phone shows, without deleted messages. */
const textsOf = (where: Locator) => where.locator('.bubble:not(.is-deleted) .text').allTextContents()

/** The texts of the newest messages as the service has them, oldest first and without deleted messages. */
async function storedTexts() {
  const tokenResponse = await fetch(`${api}/demo/token?user=17`)
  const { token } = (await tokenResponse.json()) as { token: string }
  const response = await fetch(`${api}/chats/17-42/messages?limit=30`, {
    headers: { Authorization: `Bearer ${token}` },
  })
  assert.equal(response.status, 200)
  const { messages } = (await response.json()) as { messages: { text: string | null }[] }
  return messages.reverse().flatMap(({ text }) => text ?? [])
}

/** Waits until a function returns true. */
async function until(what: string, condition: () => Promise<boolean>) {
  const deadline = Date.now() + 20_000
  while (!(await condition())) {
    assert(Date.now() < deadline, `waited 20 s until ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

/** Waits until both phones show the newest messages that the service has. */
async function expectSameMessages(ann: Locator, ben: Locator) {
  for (const where of [ann, ben]) {
    let shown: string[] = []
    let expected: string[] = []
    const isSame = async () => {
      // Read each time, because a message is shown before the service has accepted it.
      expected = await storedTexts()
      shown = (await textsOf(where)).slice(-expected.length)
      return JSON.stringify(shown) === JSON.stringify(expected)
    }
    await until('the phone shows what the service has', isSame).catch(() => assert.deepEqual(shown, expected))
  }
}

test('two people go through the whole story: ask, decline, withdraw, accept, chat, read', async () => {
  const { page, ann, ben, problems } = await openDemo({ expected: /status of 409/ })
  await ann.getByText('Ann has no chats yet').waitFor()
  await expectAccessible(page, 'no chats')
  await saveScreenshot(page, 'empty')

  // Ann asks, and takes it back.
  await button(ann, 'Ask Ben').click()
  await ben.getByText('would like to chat with you').waitFor()
  await ben.locator('.home-header .badge').filter({ hasText: '1' }).waitFor()
  await expectAccessible(page, 'a request')
  await saveScreenshot(page, 'request')
  await button(ann, /^Withdraw/).click()
  await ben.getByText('Ben has no chats yet').waitFor()

  // Ann asks again, and Ben declines. So only Ben can ask.
  await button(ann, 'Ask Ben').click()
  await button(ben, /^Decline/).click()
  await ann.getByText('Ann has no chats yet').waitFor()
  await button(ann, 'Ask Ben').click()
  await ann.getByText('Only Ben can start a chat now').waitFor()
  await button(ben, 'Ask Ann').click()
  await button(ann, /^Accept/).click()

  // Ann writes.
  const input = ann.getByRole('textbox', { name: 'Message to Ben' })
  await input.waitFor()
  await ben.locator('button.row').filter({ hasText: 'No messages yet' }).waitFor()
  await input.pressSequentially('Hello Ben')
  await ben.getByText('typing…').waitFor()
  await saveScreenshot(page, 'typing')
  await input.press('Enter')
  const hello = message(ann, 'Hello Ben')
  await hello.locator('.tick.is-sent').waitFor()
  await ben.locator('button.row .badge').filter({ hasText: '1 unread' }).waitFor()
  await write(ann, 'Are you there?')
  await ben.locator('button.row .badge').filter({ hasText: '2 unread' }).waitFor()
  await saveScreenshot(page, 'unread')

  // Ben reads, and answers. A screen reader does not read the message again because of the tick.
  const bubble = await hello.locator('.bubble').elementHandle()
  await openChat(ben, 'Ann')
  await hello.locator('.tick.is-read').waitFor()
  assert(await bubble?.evaluate(element => element.isConnected))
  await write(ben, 'Yes, I am')
  await message(ann, 'Yes, I am').waitFor()
  await message(ben, 'Yes, I am').locator('.tick.is-read').waitFor()
  await expectSameMessages(ann, ben)
  await saveScreenshot(page, 'chat')
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('messages can have emoji, links, images, other directions and long words', async () => {
  const { page, ann, ben, problems } = await openDemo()
  await openBoth(ann, ben)
  await write(ann, 'See https://example.com/a?b=1#c, and <b>not</b> http://example.com')
  const links = message(ben, 'See https').getByRole('link')
  await links.first().waitFor()
  assert.deepEqual(await links.allTextContents(), ['https://example.com/a?b=1#c'])
  assert.match((await links.first().getAttribute('rel')) ?? '', /noopener/)
  assert.equal(await message(ben, 'See https').locator('b').count(), 0)
  await write(ann, '🎉')
  await ben.locator('.is-large').filter({ hasText: '🎉' }).waitFor()
  await write(ann, 'שלום בן')
  await message(ben, 'שלום בן').waitFor()
  assert.equal(
    await message(ben, 'שלום בן')
      .locator('.text')
      .evaluate(text => getComputedStyle(text).direction),
    'rtl',
  )
  await write(ann, 'w'.repeat(300))
  await message(ben, 'wwww').waitFor()

  for (const where of [ann, ben]) {
    const log = where.getByRole('log')
    const { scrollWidth, clientWidth } = await log.evaluate(({ scrollWidth, clientWidth }) => ({
      scrollWidth,
      clientWidth,
    }))
    assert(scrollWidth <= clientWidth, `${scrollWidth} > ${clientWidth}`)
    assert.deepEqual(await where.locator('.bubble').evaluateAll(textsUnderTime), [])
  }

  await button(ann, 'Attach an image or a link').click()
  await ann.getByLabel('Image URL').fill('https://images.example/photo.png')
  await ann.getByLabel('Link', { exact: true }).fill('https://example.com/page')
  await button(ann, 'Attach').last().click()
  await write(ann, 'With an image')
  await message(ben, 'With an image').getByRole('img').waitFor()
  await message(ben, 'With an image')
    .getByRole('link', { name: /example\.com/ })
    .waitFor()
  await saveScreenshot(page, 'contents')
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('a long history loads by scrolling, and the reader stays at the same message', async () => {
  const { page, ann, ben, problems } = await openDemo()
  await button(page.locator('nav'), 'Add 60 messages').click()
  await exactMessage(ben, 'Ben counts: 30').waitFor({ timeout: 60_000 })
  await expectSameMessages(ann, ben)
  // A new page loads only the newest messages.
  await page.reload()
  await openChat(ann, 'Ben')
  const log = ann.getByRole('log')
  await exactMessage(ann, 'Ben counts: 30').waitFor()
  assert.equal(await message(ann, 'Hello Ben').count(), 0)
  const first = ann.locator('.message').first()
  const firstText = await first.textContent()
  const top = await first.evaluate(element => {
    element.scrollIntoView()
    return element.getBoundingClientRect().top
  })
  await until('older messages appear', async () => (await ann.locator('.message').first().textContent()) !== firstText)
  const kept = ann
    .locator('.message')
    .filter({ hasText: firstText!.replace(/^.*?: /, '').slice(0, 14) })
    .first()
  const place = await kept.evaluate(element => element.getBoundingClientRect().top)
  assert(Math.abs(place - top) < 60, `the message moved from ${top} to ${place}`)
  await until('the first message is loaded', async () => {
    await log.evaluate(element => element.scrollTo(0, 0))
    return (await message(ann, 'Hello Ben').count()) === 1
  })
  // While Ann is far from the end, new messages do not move her, and are not read.
  await openChat(ben, 'Ann')
  await write(ben, 'While you were reading')
  await button(ann, '1 new').waitFor()
  await message(ben, 'While you were reading').locator('.tick.is-sent').waitFor()
  await saveScreenshot(page, 'history')
  await button(ann, '1 new').click()
  await message(ben, 'While you were reading').locator('.tick.is-read').waitFor()
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('messages are grouped by day', async () => {
  const { page, ann, problems } = await openDemo()
  await page.route('**/chats/17-42/messages?*', async route => {
    const response = await route.fetch()
    const body = await response.json()
    const half = Math.floor(body.messages.length / 2)
    for (const message of body.messages.slice(half)) {
      message.createdAt = new Date(Date.parse(message.createdAt) - 86_400_000).toISOString()
    }
    await route.fulfill({ response, json: body })
  })
  await openChat(ann, 'Ben')
  await ann.locator('.day').filter({ hasText: 'Today' }).waitFor()
  assert.deepEqual(await ann.locator('.day').allTextContents(), ['Yesterday', 'Today'])
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('nothing is lost when Ann is offline while both write', async () => {
  const { page, ann, ben, problems } = await openDemo()
  await openBoth(ann, ben)
  const offline = ann.getByRole('switch', { name: 'Offline' })
  await offline.click()
  await ann.getByText('Offline. What you write is sent when you are back.').waitFor()
  for (const number of [1, 2, 3]) await write(ben, `Ben writes ${number} while Ann is offline`)
  await write(ann, 'Ann writes without a network')
  await message(ann, 'Ann writes without a network').locator('.tick.is-sending').waitFor()
  await saveScreenshot(page, 'offline')
  assert.equal(await message(ann, 'Ben writes 3').count(), 0)
  await offline.click()
  await message(ann, 'Ben writes 3 while Ann is offline').waitFor()
  await message(ben, 'Ann writes without a network').waitFor()
  await message(ann, 'Ann writes without a network').locator('.tick.is-read').waitFor()
  await expectSameMessages(ann, ben)
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('a connection that is cut while a message is being sent loses and doubles nothing', async () => {
  const { page, ann, ben, problems } = await openDemo({ expected: /ERR_FAILED/ })
  await openBoth(ann, ben)
  let cuts = 0
  // The service stores the message, and the response is lost.
  await page.route('**/chats/17-42/messages', async route => {
    if (route.request().method() !== 'POST' || cuts++ > 0) return route.continue()
    await route.fetch()
    await ben.getByRole('switch', { name: 'Offline' }).click()
    await route.abort()
  })
  await write(ben, 'The response to this one is lost')
  await message(ann, 'The response to this one is lost').waitFor()
  await ben.getByRole('switch', { name: 'Offline' }).click()
  await message(ben, 'The response to this one is lost').locator('.tick.is-read').waitFor()
  await expectSameMessages(ann, ben)
  assert.equal(await message(ann, 'The response to this one is lost').count(), 1)
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('an expired token is replaced, and everything goes on', async () => {
  const { page, ann, ben, problems } = await openDemo({ expected: /status of 401/ })
  await openBoth(ann, ben)
  const drawer = page.getByRole('region', { name: 'Requests and events' })
  await button(ann, 'Expire token').click()
  await ann.getByText('Signed in again with a new token.').waitFor()
  await drawer.getByText('401').first().waitFor()
  await drawer.getByText('new token from your sign-in').first().waitFor()
  await drawer.getByText('error unauthorized').first().waitFor()
  await saveScreenshot(page, 'expired')
  await write(ann, 'Sent with the new token')
  await message(ben, 'Sent with the new token').waitFor()
  await write(ben, 'This one arrives, too')
  await message(ann, 'This one arrives, too').waitFor()
  await ann.getByText('Live', { exact: true }).waitFor()
  await expectSameMessages(ann, ben)
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('own messages can be edited and deleted, and those of the other reported', async () => {
  const { page, ann, ben, problems } = await openDemo()
  await openBoth(ann, ben)
  await write(ann, 'This has a mistaek')
  await choose(ann, 'This has a mistaek', 'Edit')
  await write(ann, 'This has no mistake')
  await message(ben, 'This has no mistake').getByText('edited').waitFor()
  assert.equal(await message(ben, 'mistaek').count(), 0)

  await message(ann, 'This has no mistake').hover()
  await choose(ann, 'This has no mistake', 'Delete')
  await ann.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click()
  await ben.getByText('Message deleted').last().waitFor()
  await ann.getByText('You deleted this message').last().waitFor()
  assert.equal(await message(ben, 'This has no mistake').count(), 0)

  await write(ben, 'Buy my coins')
  await choose(ann, 'Buy my coins', 'Report')
  await saveScreenshot(page, 'report')
  await ann.getByRole('dialog').getByLabel('Reason').selectOption('Scam')
  await button(ann.getByRole('dialog'), 'Send report').click()
  await ann.getByText('Ben does not see your report').waitFor()
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('a block hides the chat, is not visible to the other, and ends', async () => {
  const { page, ann, ben, problems } = await openDemo({ expected: /status of 409/ })
  await openBoth(ann, ben)
  await button(ann, 'Actions for this chat').click()
  await button(ann.getByRole('dialog'), 'Block Ben').click()
  await ann.getByText('You have blocked Ben.').waitFor()
  await saveScreenshot(page, 'blocked')
  await write(ben, 'Ann cannot get this')
  const refused = message(ben, 'Ann cannot get this')
  await refused.getByText('Ann cannot get messages at the moment.').waitFor()
  await button(ann, 'Back to the chats').first().click()
  await ann.getByText('cannot reach you').waitFor()
  assert.equal(await ann.locator('button.row').count(), 0)

  // After a reload, the list of blocks comes from the service.
  await page.reload()
  await button(ann, /^Unblock/).click()
  await openBoth(ann, ben)
  await write(ben, 'And now?')
  await message(ann, 'And now?').waitFor()
  assert.equal(await message(ann, 'Ann cannot get this').count(), 0)
  await expectSameMessages(ann, ben)
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('everything works with the keyboard', async () => {
  const { page, ann, ben, problems } = await openDemo()
  const active = () =>
    page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent)
  /** Presses Tab until an element with this name has the focus. */
  async function tabTo(name: RegExp, key = 'Tab') {
    for (let presses = 0; presses < 60; presses++) {
      await page.keyboard.press(key)
      if (name.test((await active()) ?? '')) return
    }
    assert.fail(`Tab does not reach ${name}`)
  }
  await ann.locator('button.row').waitFor()
  await tabTo(/^BBen.*/)
  await page.keyboard.press('Enter')
  await until('the text field has the focus', async () => (await active()) === 'Message to Ben')
  await page.keyboard.type('Written with keys')
  await page.keyboard.press('Enter')
  await message(ann, 'Written with keys').locator('.tick.is-sent').waitFor()

  // The arrow key edits the last message.
  await page.keyboard.press('ArrowUp')
  await page.keyboard.type(' alone')
  await page.keyboard.press('Enter')
  await message(ann, 'Written with keys alone').getByText('edited').waitFor()

  // Its menu can be reached with Shift and Tab, and others with arrow keys. Escape closes it.
  await tabTo(/^Actions for your message: Written with keys alone/, 'Shift+Tab')
  await page.keyboard.press('ArrowUp')
  assert.doesNotMatch((await active()) ?? '', /keys alone/)
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('Enter')
  await ann.getByRole('dialog', { name: 'Message' }).waitFor()
  assert.equal(await active(), 'Edit')
  await page.keyboard.press('Escape')
  assert.match((await active()) ?? '', /^Actions for your message: Written with keys alone/)
  await page.keyboard.press('Enter')
  await tabTo(/^Delete$/)
  await page.keyboard.press('Enter')
  await ann.getByRole('dialog', { name: 'Delete this message for both?' }).waitFor()
  await page.keyboard.press('Enter')
  await ann.getByText('You deleted this message').last().waitFor()

  // Escape leads back to the list, with the focus on the chat.
  await ann.getByRole('textbox', { name: 'Message to Ben' }).focus()
  await page.keyboard.press('Escape')
  assert.match((await active()) ?? '', /^BBen/)
  await openChat(ben, 'Ann')
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('without live events the phones look for news themselves', async () => {
  const { page, problems } = await openPage({ settings: { livePath: null } })
  const ann = phone(page, 'Ann')
  const ben = phone(page, 'Ben')
  await ann.getByText('No live events. Looking for news every few seconds.').waitFor()
  await openBoth(ann, ben)
  await write(ann, 'Without live events')
  await message(ben, 'Without live events').waitFor()
  await message(ann, 'Without live events').locator('.tick.is-read').waitFor()
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('without tokens the page explains how to get them', async () => {
  const { page, problems } = await openPage({ settings: { hasTokens: false } })
  await page.getByRole('heading', { name: 'This page cannot sign in' }).waitFor()
  await page.getByText('cargo run -- token 17').waitFor()
  await page.getByRole('link', { name: 'API docs' }).waitFor()
  await expectAccessible(page, 'without tokens')
  await saveScreenshot(page, 'without-tokens')
  assert.deepEqual(problems, [])
  await page.context().close()
})

test('a narrow screen shows one phone, with a switch and the badge of the other', async () => {
  const { page, ann, ben, problems } = await openDemo({ viewport: { width: 390, height: 844 } })
  assert(await ann.isVisible())
  assert(await ben.isHidden())
  await openChat(ann, 'Ben')
  await write(ann, 'Your phone is in your pocket')
  const group = page.getByRole('group', { name: 'Whose phone is shown' })
  await button(group, /^Ben 1 new/).click()
  assert(await ann.isHidden())
  await openChat(ben, 'Ann')
  await message(ben, 'Your phone is in your pocket').waitFor()
  await until('the badge is gone', async () => (await group.locator('.badge:visible').count()) === 0)
  assert.deepEqual(problems, [])
  await page.context().close()
})

/** Fails if axe finds a violation in the page as it is. */
async function expectAccessible(page: Page, state: string) {
  // Colors of elements that are fading in are not their final ones.
  await page.evaluate(() => Promise.all(document.getAnimations().map(animation => animation.finished.catch(() => {}))))
  // Not as a script element, which the content security policy of the page does not allow.
  await page.evaluate(axe)
  const violations = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } }
    interface Violation {
      id: string
      nodes: { html: string; failureSummary: string }[]
    }
    const results = await axe.run()
    return results.violations.map(({ id, nodes }) => [id, ...nodes.map(node => `${node.html} ${node.failureSummary}`)])
  })
  assert.deepEqual(violations, [], state)
}

for (const colorScheme of ['light', 'dark'] as const) {
  for (const width of [390, 1280]) {
    test(`the demo is accessible and fits ${width} pixels in the ${colorScheme} color scheme`, async () => {
      const viewport = { width, height: width === 390 ? 844 : 900 }
      const reducedMotion = 'reduce'
      const { page, ann, ben, problems } = await openDemo({ viewport, colorScheme, reducedMotion })
      const name = `${colorScheme}-${width}`
      const check = async (state: string) => {
        const pageWidth = await page.evaluate(() => document.documentElement.scrollWidth)
        assert(pageWidth <= width, `${state}: the page is ${pageWidth} pixels wide`)
        await expectAccessible(page, `${state}, ${name}`)
        await saveScreenshot(page, `${name}-${state}`)
      }
      await ann.locator('button.row').waitFor()
      await check('list')
      await openChat(ann, 'Ben')
      if (width > 390) await openChat(ben, 'Ann')
      await message(ann, 'And now?').waitFor()
      await check('chat')
      await button(ann, 'Actions for this chat').click()
      await button(ann.getByRole('dialog'), 'Report Ben').click()
      await check('sheet')
      await page.keyboard.press('Escape')
      await ann.getByRole('switch', { name: 'Offline' }).click()
      await write(ann, `Offline in ${name}`)
      await check('offline')
      await ann.getByRole('switch', { name: 'Offline' }).click()
      await message(ann, `Offline in ${name}`).locator('.tick:not(.is-sending)').waitFor()
      const toggle = button(page.locator('nav'), 'Requests')
      if ((await toggle.getAttribute('aria-expanded')) === 'false') await toggle.click()
      const drawer = page.getByRole('region', { name: 'Requests and events' })
      await drawer.locator('summary').first().click()
      await check('drawer')
      assert.deepEqual(problems, [])
      await page.context().close()
    })
  }
}
