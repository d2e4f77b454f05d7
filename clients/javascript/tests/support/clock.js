// A clock that tests move. Nothing waits for real time.

/** Runs everything that waits for promises. */
export const flush = () => new Promise(resolve => setImmediate(resolve))

export class Clock {
  /** In milliseconds since 1970. */
  time = Date.parse('2026-01-31T12:00:00.000Z')
  #lastId = 0
  /** @type {Map<number, { at: number, callback: () => void }>} */
  #timers = new Map()

  now = () => this.time

  /** @param {() => void} callback @param {number} delay */
  setTimeout = (callback, delay) => {
    const id = ++this.#lastId
    this.#timers.set(id, { at: this.time + Math.max(0, delay), callback })
    return id
  }

  /** @param {any} id */
  clearTimeout = id => void this.#timers.delete(id)

  /** @param {number} delay @returns {Promise<void>} */
  sleep = delay => new Promise(resolve => this.setTimeout(resolve, delay))

  /** The number of milliseconds until each timer ends. */
  get delays() {
    return [...this.#timers.values()].map(({ at }) => at - this.time).sort((a, b) => a - b)
  }

  /** Moves the time, and runs the timers on the way in the order of their times. @param {number} duration */
  async advance(duration) {
    const end = this.time + duration
    await flush()
    for (;;) {
      /** @type {[number, { at: number, callback: () => void }] | undefined} */
      let next
      for (const timer of this.#timers) if (!next || timer[1].at < next[1].at) next = timer
      if (!next || next[1].at > end) break
      this.#timers.delete(next[0])
      this.time = Math.max(this.time, next[1].at)
      next[1].callback()
      await flush()
    }
    this.time = end
  }

  /** Moves the time until `condition` holds. @param {() => boolean} condition @param {number} [limit] */
  async until(condition, limit = 600_000) {
    const end = this.time + limit
    for (await flush(); !condition(); await flush()) {
      if (this.time >= end) throw new Error('the condition did not become true')
      await this.advance(Math.max(1, Math.min(this.delays[0] ?? limit, end - this.time)))
    }
  }
}

/** A generator of random numbers with a seed (mulberry32). @param {number} seed */
export function seededRandom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let value = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }
}
