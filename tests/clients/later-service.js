// A service of a later version: the responses have new fields, new values of `status`, a new error code and
// longer texts. Clients that were generated from the document of this version must accept them. Prints its URL,
// and runs until it is stopped.
import { createServer } from 'node:http'

const time = '2026-01-31T12:00:00.250Z'
const users = { requesterId: 42, recipientId: 17 }
const counts = { unreadCount: 3, readSeq: 6, peerReadSeq: 9, rev: 2 }
const longText = '😀'.repeat(10_000)

const lastMessage = { seq: 9, senderId: 42, text: longText, createdAt: time, deleted: false, reactions: [] }
const chat = {
  chatId: '17-42',
  status: 'archived',
  ...users,
  ...counts,
  lastMessage,
  blocked: false,
  createdAt: time,
  updatedAt: time,
  labels: ['work'],
}
const message = {
  messageId: '17-42/9',
  chatId: '17-42',
  seq: 9,
  senderId: 42,
  text: longText,
  imageUrl: `https://images.example/${'x'.repeat(10_000)}`,
  linkPreviewUrl: null,
  status: 'delivered',
  createdAt: time,
  editedAt: null,
  deletedAt: null,
  reactions: ['👍'],
}
const error = {
  success: false,
  code: 'quiet_hours',
  message: 'send the message after 07:00',
  requestId: '8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e',
  retryAt: time,
}

const responses = {
  'GET /chats': [200, { chats: [chat], nextCursor: 'a new format: {42}', total: 1 }],
  'GET /chats/17-42/messages': [200, { messages: [message], nextCursor: null, rev: 12 }],
  'POST /chats/17-42/messages': [409, error],
}

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost')
  const [status, body] = responses[`${request.method} ${pathname}`] ?? [404, { message: 'Not Found' }]
  request.resume()
  request.on('end', () => {
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
  })
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
