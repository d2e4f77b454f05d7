import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { minify } from 'terser'

const folder = new URL('../../src/', import.meta.url)

/** The size of all modules after `gzip -9`, in bytes. @param {(source: string) => Promise<string>} transform */
async function size(transform) {
  const sources = readdirSync(folder).map(file => readFileSync(new URL(file, folder), 'utf8'))
  return gzipSync((await Promise.all(sources.map(transform))).join('\n'), { level: 9 }).length
}

test('minified as every bundler does it, the client has at most 8 KB', async t => {
  const bytes = await size(async source => (await minify(source, { module: true })).code ?? '')
  t.diagnostic(`${bytes} bytes`)
  assert(bytes <= 8 * 1024, `${bytes} bytes`)
})

test('as it is, with comments and types, the client has at most 14 KB', async t => {
  const bytes = await size(async source => source)
  t.diagnostic(`${bytes} bytes`)
  assert(bytes <= 14 * 1024, `${bytes} bytes`)
})
