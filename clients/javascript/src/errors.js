/** The codes are in types/index.d.ts. */
export class ChatError extends Error {
  /**
   * @param {string} code
   * @param {string} [message]
   * @param {{ status?: number, retryAfter?: number | null, requestId?: string | null, cause?: unknown }} [details]
   */
  constructor(code, message = code, { status = 0, retryAfter = null, requestId = null, cause } = {}) {
    super(message, { cause })
    this.name = 'ChatError'
    this.code = code
    this.status = status
    this.retryAfter = retryAfter
    this.requestId = requestId
  }

  get isTransient() {
    return /^(network|stopped|http_429)$/.test(this.code) || this.status >= 500
  }
}
