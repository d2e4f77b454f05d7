/** @type {import('../types/internal.d.ts').CreateTimers} */
export function createTimers(platform) {
  const running = new Map()

  /** @param {string} name */
  function clear(name) {
    platform.clearTimeout(running.get(name))
    running.delete(name)
  }

  return {
    has: name => running.has(name),
    clear,
    clearAll: () => [...running.keys()].forEach(clear),
    set(name, delay, callback) {
      clear(name)
      const run = () => {
        running.delete(name)
        callback()
      }
      if (!platform.isStopped) running.set(name, platform.setTimeout(run, delay))
    },
  }
}
