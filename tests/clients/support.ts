// What the tests of the clients in TypeScript share.
import assert from 'node:assert/strict'

// A test fails after this time, so that a server that does not respond cannot block the run.
export const timeout = 60_000

// The largest user id. It has more than 32 bits.
export const largestUserId = 2 ** 53 - 1

function requiredEnv(name: string): string {
  const value = process.env[name]
  assert(value, `Set the environment variable ${name}`)
  return value
}

export const apiUrl = requiredEnv('API_URL')
export const laterApiUrl = requiredEnv('LATER_API_URL')
/** The access token of user 17. */
export const ann = requiredEnv('ANN')
/** The access token of user 42. */
export const ben = requiredEnv('BEN')
