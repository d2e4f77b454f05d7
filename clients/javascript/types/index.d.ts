import type { components, operations } from './api.d.ts'

type Schemas = components['schemas']
export type Block = Schemas['Block']
export type Chat = Schemas['Chat']
export type Message = Schemas['Message']
export type Totals = Schemas['Totals']
export type Report = Schemas['Report']
export type NewReport = Schemas['NewReport']
/** What is sent: at least one of the three parts. */
export type MessageContent = Schemas['NewMessage']
/** The parts to replace; null removes one. */
export type MessageEdit = Schemas['MessageEdit']
export type ChatEvent = Schemas['Event']
export type EventFrame = Schemas['EventFrame']
export type SyncedFrame = Schemas['SyncedFrame']
export type RenewedFrame = Schemas['RenewedFrame']
export type ByeFrame = Schemas['ByeFrame']
export type ErrorFrame = Schemas['ErrorFrame']

export interface ClientOptions {
  /** The base URL of the REST API, such as `https://api.example`. Empty for the origin of the page. */
  apiUrl: string
  /** The URL for live events, such as `wss://live.example/live`. Without it the client polls. */
  liveUrl?: string | undefined
  /** The user in the tokens. */
  userId: number
  /**
   * Returns an access token. `forceRefresh` is true if the last one was refused or expires within a minute: then return
   * a new one. It may take 30 seconds. A `ChatError` that it throws is passed on.
   */
  getToken: (options: { forceRefresh: boolean }) => string | Promise<string>
  /** Is called for each request with its response, and for each frame. Tokens are left out. */
  onTraffic?: ((traffic: Traffic) => void) | undefined
  /** Replaces functions of the platform, such as `WebSocket` in Node 20, or time in tests. */
  platform?: Partial<Platform> | undefined
}

export interface Platform {
  fetch: (url: string, init: RequestInit) => Promise<Response>
  WebSocket: new (url: string, protocols: string[]) => WebSocket
  /** The time in milliseconds since 1970. */
  now: () => number
  /** A random number from 0 to 1, without 1. */
  random: () => number
  setTimeout: (callback: () => void, delay: number) => unknown
  clearTimeout: (id: any) => void
  /** A new idempotency key. */
  newKey: () => string
  /** Reports `online`, `offline` and `visibilitychange`. */
  events: Pick<EventTarget, 'addEventListener' | 'removeEventListener'> | undefined
  isHidden: () => boolean
}

export type Traffic = RequestTraffic | FrameTraffic

export interface RequestTraffic {
  kind: 'request'
  method: string
  /** The path with the query. */
  path: string
  requestBody: unknown
  /** 0 if there was no response. */
  status: number
  headers?: Headers
  body: unknown
  /** In milliseconds. */
  duration: number
}

export interface FrameTraffic {
  kind: 'frame'
  direction: 'in' | 'out'
  frame: unknown
}

/**
 * - `connecting`: live events are about to come.
 * - `online`: live events work, and everything that was missed is loaded.
 * - `polling`: live events do not work. The client loads changes every few seconds, and goes on to reconnect.
 * - `offline`: neither works.
 */
export type ConnectionState = 'connecting' | 'online' | 'polling' | 'offline'

/** `chats`: active ones. `received`: requests that the user can accept. `sent`: open requests of the user. */
export type ListName = 'chats' | 'received' | 'sent'

export interface ChatView extends Chat {
  /** The other member. */
  peerId: number
  /** Whether the other member is typing. */
  isTyping: boolean
}

export interface MessageView extends Omit<Message, 'messageId' | 'seq'> {
  /** Null until the message is stored. */
  messageId: string | null
  seq: number | null
  /** Whether the user has sent it. */
  isOwn: boolean
  state: 'sending' | 'sent' | 'failed' | 'read'
  /** The idempotency key of a message that is not among the stored ones yet, for `retry` and `discard`. */
  key: string | null
  /** Why sending has failed. */
  error: ChatError | null
}

export interface ConversationView {
  chatId: string
  /** Null until it is loaded. */
  chat: ChatView | null
  isLoaded: boolean
  /** Oldest first: the stored ones by `seq`, then those that are being sent or have failed. */
  messages: MessageView[]
  /** Whether `loadOlder` finds older messages. */
  hasOlder: boolean
  /** Why the conversation could not be loaded. */
  error: ChatError | null
}

export interface ChatState {
  userId: number
  connection: ConnectionState
  /** Why the last attempt to load in the background failed. `unauthorized`: the user must sign in again. */
  error: ChatError | null
  /** Null until they are loaded. */
  totals: Totals | null
  /** Latest activity first. */
  chats: ChatView[]
  received: ChatView[]
  sent: ChatView[]
  /** Whether `loadMore` finds more entries of a list. */
  hasMore: Record<ListName, boolean>
  /** The conversations that were opened, by `chatId`. */
  conversations: Record<string, ConversationView>
}

export interface ChatClient {
  /** The current state. Each change makes a new object. */
  readonly state: ChatState
  /** Calls `listener` after each change. Returns a function that ends this. */
  subscribe(listener: (state: ChatState) => void): () => void
  /** Loads the lists and connects. */
  start(): void
  /** Ends everything: the connection, timers, and requests, which fail with `stopped`. The state remains. */
  stop(): void
  /** The time by the clock of the service, in milliseconds since 1970. */
  now(): number

  /** Loads a conversation and keeps it up to date. */
  open(chatId: string): Promise<void>
  /** No longer keeps a conversation up to date. It stays in the state, and opening it again loads what is new. */
  close(chatId: string): void
  /** Loads older messages of a conversation. */
  loadOlder(chatId: string): Promise<void>
  /** Loads more entries of a list. */
  loadMore(list: ListName): Promise<void>

  /**
   * Shows a message at once, and sends it. Messages of a chat are sent one after another. An app that stores unsent
   * messages passes their `key`, so that none is sent twice; keys are valid for 24 hours.
   */
  send(chatId: string, content: MessageContent, options?: { key?: string }): Promise<Message>
  /** Sends a message that has failed again, with the same key. */
  retry(key: string): Promise<Message>
  /** Removes a message that has failed. */
  discard(key: string): void
  edit(chatId: string, seq: number, changes: MessageEdit): Promise<Message>
  delete(chatId: string, seq: number): Promise<Message>
  /** Marks messages as read, up to `seq` or up to the newest one that is loaded. */
  markRead(chatId: string, seq?: number): Promise<void>
  /** Tells the other member that the user is typing. Call it on each key press. */
  typing(chatId: string): void

  /** Sends a chat request to a user, or accepts that of the user. */
  request(userId: number): Promise<Chat>
  accept(chatId: string): Promise<Chat>
  decline(chatId: string): Promise<Chat>
  withdraw(chatId: string): Promise<Chat>
  block(userId: number): Promise<Block>
  unblock(userId: number): Promise<void>
  report(report: NewReport): Promise<Report>

  /** All endpoints, for everything else. They do not change the state. */
  readonly api: Api
}

export interface RequestOptions {
  /** The maximum number of attempts; 5 by default. */
  attempts?: number
  /** Is asked before each retry. If it returns false, the request fails with `superseded`. */
  isCurrent?: () => boolean
}

type Fields<T> = [NonNullable<T>] extends [never] ? {} : NonNullable<T>
type Body<O> = O extends { requestBody: { content: { 'application/json': infer B } } }
  ? { body: B }
  : O extends { requestBody?: { content: { 'application/json': infer B } } }
    ? { body?: B }
    : {}
type Key<O> = O extends { parameters: { header?: { 'Idempotency-Key'?: string } } } ? { idempotencyKey?: string } : {}
type Params<O extends { parameters: { path?: unknown; query?: unknown } }> = Fields<O['parameters']['path']> &
  Fields<O['parameters']['query']> &
  Body<O> &
  Key<O>
type Success<R> = R extends { 201: { content: { 'application/json': infer S } } }
  ? S
  : R extends { 200: { content: { 'application/json': infer S } } }
    ? S
    : never

/** The endpoints by their `operationId`. Parameters of the path and of the query are in one object. */
export type Api = {
  [O in keyof operations]: {} extends Params<operations[O]>
    ? (params?: Params<operations[O]>, options?: RequestOptions) => Promise<Success<operations[O]['responses']>>
    : (params: Params<operations[O]>, options?: RequestOptions) => Promise<Success<operations[O]['responses']>>
}

/** The codes of the service and those of the client. Later versions may add codes. */
export type ErrorCode = Schemas['ErrorCode'] | 'network' | 'superseded' | 'key_expired' | 'not_failed' | 'stopped'

/**
 * An error of the service or of the network. `code` is the service's error code, or `http_` and the status if the
 * response has none. The client adds:
 *
 * - `network`: there was no response, or `getToken` failed with another error than a `ChatError`.
 * - `superseded`: the request failed, and was not repeated because of a later action of the same kind.
 * - `key_expired`: a message that failed is too old for its key.
 * - `not_failed`: no message with this key has failed.
 * - `stopped`: the client is stopped.
 */
export declare class ChatError extends Error {
  constructor(
    code: ErrorCode,
    message?: string,
    details?: { status?: number; retryAfter?: number | null; requestId?: string | null; cause?: unknown },
  )
  code: ErrorCode
  /** The HTTP status; 0 without a response. */
  status: number
  /** Seconds to wait before a retry, if the service said so. */
  retryAfter: number | null
  /** Identifies the request in the log of the service. */
  requestId: string | null
  /** Whether the same request can succeed later. It is unknown whether it was applied. */
  get isTransient(): boolean
}

export declare function createChatClient(options: ClientOptions): ChatClient
