/** The codes are in types/index.d.ts. */
export class ChatError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ status?: number, retryAfter?: number | null, requestId?: string | null, cause?: unknown }} [details]
   */
  constructor(code, message, { status = 0, retryAfter = null, requestId = null, cause } = {}) {
    super(message, { cause })
    this.name = 'ChatError'
    this.code = code
    this.status = status
    this.retryAfter = retryAfter
    this.requestId = requestId
  }

  get isTransient() {
    return this.code === 'network' || this.code === 'http_429' || this.status >= 500
  }
}
