// The clients that @hey-api/openapi-ts generates: without options, with the option to represent 64-bit integers
// as BigInt and times as Date, and with each of two libraries that validate requests and responses.
const client = '@hey-api/client-fetch'
const types = '@hey-api/typescript'
const variants = {
  default: [client, types, '@hey-api/sdk'],
  bigint: [
    client,
    types,
    { name: '@hey-api/transformers', bigInt: true, dates: true },
    { name: '@hey-api/sdk', transformer: true },
  ],
  zod: [client, types, 'zod', { name: '@hey-api/sdk', validator: 'zod' }],
  valibot: [client, types, 'valibot', { name: '@hey-api/sdk', validator: 'valibot' }],
}

export default Object.entries(variants).map(([name, plugins]) => ({
  input: process.env.OPENAPI,
  output: { path: `generated/hey-api/${name}`, importFileExtension: '.js' },
  logs: { level: 'warn', file: false },
  plugins,
}))
