// Writes types/api.d.ts: the types of the REST API (openapi.yaml) and of the frames of live events (asyncapi.yaml).
//
// Usage: node scripts/generate-types.js [--check]
//
// With --check nothing is written: the script fails if the file differs from the documents. The variables OPENAPI and
// ASYNCAPI name other documents.
import { readFile, writeFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import yaml from 'js-yaml'
import openapiTS, { astToString } from 'openapi-typescript'
import ts from 'typescript'

const root = new URL('../../../', import.meta.url)
const target = new URL('../types/api.d.ts', import.meta.url)

const header = `// Generated from openapi.yaml and asyncapi.yaml by scripts/generate-types.js. Do not edit.

`

/**
 * @param {string | undefined} path
 * @param {string} fallback
 */
async function load(path, fallback) {
  const document = yaml.load(await readFile(path ?? new URL(fallback, root), 'utf8'))
  return /** @type {any} */ (document)
}

const openapi = await load(process.env['OPENAPI'], 'openapi.yaml')
const asyncapi = await load(process.env['ASYNCAPI'], 'asyncapi.yaml')
const schemas = openapi.components.schemas
for (const [name, schema] of Object.entries(asyncapi.components.schemas)) {
  if (name in schemas && !isDeepStrictEqual(schemas[name], schema)) {
    throw new Error(`the schema ${name} of asyncapi.yaml differs from that of openapi.yaml`)
  }
  schemas[name] = schema
}

/**
 * A later version may add values to an extensible list: the type is a union of the known ones and any other string.
 *
 * @param {any} schema
 */
function transform(schema) {
  const values = schema['x-extensible-enum']
  if (!values) return undefined
  const literals = values.map((/** @type {string} */ value) =>
    ts.factory.createLiteralTypeNode(ts.factory.createStringLiteral(value)),
  )
  const anyString = ts.factory.createIntersectionTypeNode([
    ts.factory.createKeywordTypeNode(ts.SyntaxKind.StringKeyword),
    ts.factory.createTypeLiteralNode([]),
  ])
  return ts.factory.createUnionTypeNode([...literals, ts.factory.createParenthesizedType(anyString)])
}

const content = header + astToString(await openapiTS(openapi, { transform }))

if (process.argv.includes('--check')) {
  if (content !== (await readFile(target, 'utf8'))) {
    console.error('error: types/api.d.ts is out of date. Run `npm run types` in clients/javascript.')
    process.exit(1)
  }
} else {
  await writeFile(target, content)
}
