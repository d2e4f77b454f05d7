import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import yaml from 'js-yaml'
import { ENDPOINTS } from '../../src/http.js'
import { ChatError, createChatClient } from '../../src/index.js'
import { Clock } from '../support/clock.js'
import { makeToken } from '../support/sockets.js'

/**
 * A client whose requests get these responses, the last one again and again.
 *
 * @param {(Response | 'fails' | 'hangs')[]} responses
 * @param {{ tokenSeconds?: number, random?: number } & Partial<import('../../types/index.d.ts').ClientOptions>} options
 */
function setUp(responses, { tokenSeconds = 3600, random = 0, ...options } = {}) {
  const clock = new Clock()
  /** @type {{ at: number, url: string, init: RequestInit, token: string | undefined }[]} */
  const requests = []
  /** @type {boolean[]} */
  const refreshes = []
  const start = clock.now()
  /** @type {import('../../types/index.d.ts').Traffic[]} */
  const traffic = []
  const client = createChatClient({
    apiUrl: 'http://service',
    userId: 17,
    onTraffic: entry => traffic.push(entry),
    async getToken({ forceRefresh }) {
      refreshes.push(forceRefresh)
      await clock.sleep(10)
      return makeToken(17, clock.now() + tokenSeconds * 1000).replace('e30', `token${refreshes.length}`)
    },
    ...options,
    platform: {
      async fetch(url, init) {
        const headers = /** @type {Record<string, string>} */ (init.headers)
        requests.push({ at: clock.now() - start, url, init, token: headers['Authorization']?.slice(7, 13) })
        const response = responses.length > 1 ? responses.shift() : responses[0]
        if (response === 'fails' || !response) throw new TypeError('fetch failed')
        if (response === 'hangs') {
          return new Promise((_, reject) => init.signal?.addEventListener('abort', () => reject(init.signal?.reason)))
        }
        return response.clone()
      },
      now: clock.now,
      random: () => random,
      setTimeout: clock.setTimeout,
      clearTimeout: clock.clearTimeout,
    },
  })
  /** @template T @param {Promise<T>} promise @returns {Promise<T>} */
  async function finish(promise) {
    let isDone = false
    const done = () => (isDone = true)
    promise.then(done, done)
    while (!isDone) await clock.advance(clock.delays[0] ?? 1)
    return promise
  }
  return { clock, client, requests, refreshes, traffic, finish }
}

/** @param {number} status @param {object} body @param {Record<string, string>} [headers] */
const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers })
const totals = { totalPendingRequest: 0, totalUnreadMessages: 0, totalSentRequest: 0, version: 0 }
const ok = json(200, totals)

test('the endpoints are those of openapi.yaml', () => {
  const file = process.env['OPENAPI'] ?? new URL('../../../../openapi.yaml', import.meta.url)
  const { paths } = /** @type {any} */ (yaml.load(readFileSync(file, 'utf8')))
  const expected = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(/** @type {Record<string, any>} */ (methods)).map(([method, { operationId }]) => [
      operationId,
      `${method.toUpperCase()} ${path}`,
    ]),
  )
  assert.equal(expected.length, 20)
  assert.deepEqual(ENDPOINTS, Object.fromEntries(expected))
})

test('parameters go into the path, the query, the body and the header', async () => {
  const { client, requests, finish } = setUp([ok])
  await finish(client.api.listMessages({ chatId: '17-42', after: 0, limit: 100 }))
  await finish(client.api.editMessage({ chatId: '17-42', seq: 9, body: { text: null } }))
  await finish(client.api.sendMessage({ chatId: '17-42', body: { text: 'Hello' }, idempotencyKey: 'a' }))
  await finish(client.api.blockUser({ userId: 42 }))
  const lines = requests.map(
    ({ url, init }) => `${init.method} ${url.slice('http://service'.length)} ${init.body ?? ''}`,
  )
  assert.deepEqual(lines, [
    'GET /chats/17-42/messages?after=0&limit=100 ',
    'PATCH /chats/17-42/messages/9 {"text":null}',
    'POST /chats/17-42/messages {"text":"Hello"}',
    'PUT /blocks/42 ',
  ])
  const headers = requests.map(({ init }) => /** @type {Record<string, string>} */ (init.headers))
  assert.deepEqual(
    headers.map(each => each['Idempotency-Key']),
    [undefined, undefined, 'a', undefined],
  )
  assert.deepEqual(
    headers.map(each => each['Content-Type'] !== undefined),
    [false, true, true, false],
  )
})

test('requests at the same time share a token', async () => {
  const { client, refreshes, finish } = setUp([ok])
  await finish(Promise.all([client.api.getTotals(), client.api.getUnreadTotal()]))
  await finish(client.api.getTotals())
  assert.deepEqual(refreshes, [false])
})

test('a token is renewed when less than a minute is left', async () => {
  const { client, clock, requests, refreshes, finish } = setUp([ok])
  await finish(client.api.getTotals())
  await clock.advance(3600_000 - 70_000)
  await finish(client.api.getTotals())
  assert.deepEqual(refreshes, [false])
  await clock.advance(20_000)
  await finish(client.api.getTotals())
  assert.deepEqual(refreshes, [false, true])
  assert.equal(requests.at(-1)?.token, 'token2')
})

test('the clock of the service decides when a token expires', async () => {
  const { client, clock, refreshes, finish } = setUp([
    json(200, totals, { Date: new Date(Date.parse('2026-01-31T12:59:30Z')).toUTCString() }),
  ])
  await finish(client.api.getTotals())
  assert(Math.abs(client.now() - Date.parse('2026-01-31T12:59:30Z')) < 1000)
  await clock.advance(11_000)
  await finish(client.api.getTotals())
  assert.deepEqual(refreshes, [false, true])
})

test('tokens that live for less than a minute are not fetched for each request', async () => {
  const { client, refreshes, finish } = setUp([ok], { tokenSeconds: 40 })
  await finish(client.api.getTotals())
  await finish(client.api.getTotals())
  assert.deepEqual(refreshes, [false, true])
})

test('a 401 gets a new token once', async () => {
  const { client, requests, refreshes, finish } = setUp([json(401, { code: 'unauthorized', message: 'x' }), ok])
  await finish(client.api.getTotals())
  assert.deepEqual(refreshes, [false, true])
  assert.deepEqual(
    requests.map(({ token }) => token),
    ['token1', 'token2'],
  )
})

test('a second 401 is an error', async () => {
  const { client, requests, finish } = setUp([json(401, { code: 'unauthorized', message: 'x' })])
  await assert.rejects(finish(client.api.getTotals()), { name: 'ChatError', code: 'unauthorized', status: 401 })
  assert.equal(requests.length, 2)
})

test('two requests with a refused token get one new token', async () => {
  const refused = json(401, { code: 'unauthorized', message: 'x' })
  const { client, refreshes, finish } = setUp([refused, refused, ok])
  await finish(Promise.all([client.api.getTotals(), client.api.getTotals()]))
  assert.deepEqual(refreshes, [false, true])
})

test('a request that fails is repeated after 1, 2, 4 and 8 seconds', async () => {
  const { client, requests, finish } = setUp(['fails'])
  await assert.rejects(finish(client.api.getTotals()), { code: 'network', status: 0, isTransient: true })
  assert.deepEqual(
    requests.map(({ at }) => at - (requests[0]?.at ?? 0)),
    [0, 1000, 3000, 7000, 15000],
  )
})

test('the pause between attempts has a random part', async () => {
  const { client, requests, finish } = setUp(['fails', ok], { random: 0.5 })
  await finish(client.api.getTotals())
  assert.equal(Number(requests[1]?.at) - Number(requests[0]?.at), 1250)
})

test('a retry waits at least as long as Retry-After says', async () => {
  const busy = json(503, { code: 'unavailable', message: 'busy' }, { 'Retry-After': '7' })
  const { client, requests, finish } = setUp([busy, ok], { random: 0.5 })
  await finish(client.api.getTotals())
  assert.equal(Number(requests[1]?.at) - Number(requests[0]?.at), 7500)
})

test('a Retry-After of 300 seconds is not repeated in a loop', async () => {
  const { client, requests, finish } = setUp([
    json(503, { code: 'unavailable', message: 'x' }, { 'Retry-After': '300' }),
  ])
  await assert.rejects(finish(client.api.getTotals()), { code: 'unavailable', retryAfter: 300 })
  assert.equal(requests.length, 1)
})

test('an internal error is repeated twice', async () => {
  const { client, requests, finish } = setUp([json(500, { code: 'internal', message: 'x', requestId: 'r' })])
  await assert.rejects(finish(client.api.getTotals()), { code: 'internal', requestId: 'r' })
  assert.equal(requests.length, 3)
})

test('throttling by the gateway is repeated, and reaching a limit is not', async () => {
  const throttled = setUp([json(429, { message: 'Too Many Requests' }), ok])
  await throttled.finish(throttled.client.api.getTotals())
  assert.equal(throttled.requests.length, 2)
  const limited = setUp([json(429, { code: 'too_many_pending_requests', message: 'x' })])
  await assert.rejects(limited.finish(limited.client.api.getTotals()), { code: 'too_many_pending_requests' })
  assert.equal(limited.requests.length, 1)
})

test('an error without a body has the status as its code', async () => {
  const { client, finish } = setUp([new Response('<html>', { status: 404, statusText: 'Not Found' })])
  await assert.rejects(finish(client.api.getTotals()), {
    code: 'http_404',
    status: 404,
    message: 'Not Found',
    isTransient: false,
  })
})

test('all attempts to send a message have the same key', async () => {
  const { client, requests, finish } = setUp(['fails', json(503, { message: 'x' }), ok])
  await finish(client.api.sendMessage({ chatId: '17-42', body: { text: 'Hello' }, idempotencyKey: 'the-key' }))
  const keys = requests.map(({ init }) => /** @type {Record<string, string>} */ (init.headers)['Idempotency-Key'])
  assert.deepEqual(keys, ['the-key', 'the-key', 'the-key'])
})

test('a request without a response ends after 30 seconds and is repeated', async () => {
  const { client, requests, finish } = setUp(['hangs', ok])
  await finish(client.api.getTotals())
  assert.equal(Number(requests[1]?.at) - Number(requests[0]?.at), 31_000)
})

test('a response that was cut is repeated', async () => {
  const { client, requests, finish } = setUp([new Response('{"totalPend'), ok])
  assert.deepEqual(await finish(client.api.getTotals()), totals)
  assert.equal(requests.length, 2)
})

test('onTraffic gets each attempt, and no token', async () => {
  const { client, traffic, finish } = setUp(['fails', ok])
  await finish(client.api.getTotals())
  const entries = traffic.map(entry =>
    entry.kind === 'request' ? [entry.method, entry.path, entry.status, entry.body] : [],
  )
  assert.deepEqual(entries, [
    ['GET', '/totals', 0, null],
    ['GET', '/totals', 200, totals],
  ])
  const headers = traffic.map(entry => ('headers' in entry ? [...(entry.headers ?? [])] : []))
  assert(!JSON.stringify([traffic, headers]).includes('token'))
})

test('an exception of onTraffic harms nothing', async () => {
  /** @type {unknown[]} */
  const errors = []
  const listeners = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', error => errors.push(error.message))
  try {
    const { client, requests, finish } = setUp([ok], {
      onTraffic() {
        throw new Error('of the app')
      },
    })
    assert.deepEqual(await finish(client.api.getTotals()), totals)
    assert.equal(requests.length, 1)
    assert.deepEqual(errors, ['of the app'])
  } finally {
    process.removeAllListeners('uncaughtException')
    for (const listener of listeners) process.on('uncaughtException', listener)
  }
})

test('a getToken that never ends fails after 30 seconds', async () => {
  const { clock, client, finish } = setUp([ok], { getToken: () => new Promise(() => {}) })
  const start = clock.now()
  await assert.rejects(finish(client.api.getTotals({}, { attempts: 1 })), { code: 'network' })
  assert.equal(clock.now() - start, 30_000)
})

test('a ChatError of getToken is passed on, and other errors are network errors', async () => {
  for (const status of [0, 401]) {
    const error = new ChatError('unauthorized', 'signed out', { status })
    const { client, finish, requests } = setUp([ok], { getToken: () => Promise.reject(error) })
    await assert.rejects(finish(client.api.getTotals()), thrown => thrown === error)
    assert.equal(requests.length, 0)
  }
  const cause = new Error('no sign-in')
  const { client, finish } = setUp([ok], { getToken: () => Promise.reject(cause) })
  await assert.rejects(finish(client.api.getTotals()), { code: 'network', cause })
})

test('a ChatError is an Error', () => {
  assert(new ChatError('network', 'x') instanceof Error)
})
