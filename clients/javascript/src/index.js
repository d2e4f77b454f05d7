export { createChatClient } from './client.js'
export { ChatError } from './errors.js'
