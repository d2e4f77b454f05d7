// Types that the modules of the client share. Apps use index.d.ts.
import type {
  Api,
  Chat,
  ChatError,
  ChatEvent,
  ChatState,
  ClientOptions,
  ConnectionState,
  ListName,
  Message,
  MessageContent,
  Platform,
  SyncedFrame,
  Totals,
  Traffic,
} from './index.d.ts'

/** The platform, and whether the client is stopped. */
export interface Device extends Platform {
  isStopped: boolean
}

export interface Token {
  value: string
  /** In milliseconds since 1970. Infinity if the token does not say it. */
  expiresAt: number
  fetchedAt: number
}

/** Sends requests with a valid token, and repeats those that can succeed later. */
export interface Http {
  /** A token that is valid for at least a minute, if `getToken` has one. It is not `rejected`. */
  accessToken(rejected?: Token): Promise<Token>
  /** The time by the clock of the service, in milliseconds since 1970. */
  serverNow(): number
  /** The endpoints as functions. `attempts` is the default of their option. */
  createApi(attempts: number): Api
  /**
   * Ends the pauses of requests that wait for their next attempt, unless the service has asked for them. `isAll`: ends
   * all pauses, and requests in flight as well.
   */
  endWaits(isAll: boolean): void
}
export type CreateHttp = (
  options: ClientOptions,
  platform: Device,
  timers: Timers,
  onTraffic: (traffic: Traffic) => void,
) => Http

/** Timers with names. Setting a timer replaces the one with the same name. A stopped client sets none. */
export interface Timers {
  has(name: string): boolean
  /** `delay` is in milliseconds. */
  set(name: string, delay: number, callback: () => void): void
  clear(name: string): void
  clearAll(): void
}
export type CreateTimers = (platform: Device) => Timers

/** The messages of a chat from `first` to `last`, without gaps. */
export interface Conversation {
  chatId: string
  /** Whether it is kept up to date. */
  isOpen: boolean
  isLoaded: boolean
  first: number
  last: number
  /** The highest `seq` that is known to exist. */
  newest: number
  /** The messages include all changes up to this one. */
  rev: number
  /** The highest `rev` that is known to exist. */
  newestRev: number
  /** When `rev` was loaded or has grown. */
  revAt: number
  /** The changes after this one are loaded again soon. Infinity: none. */
  recheckAfter: number
  /** Each message with a change that it includes for certain. */
  items: { message: Message; rev: number }[]
  /** What has arrived before the messages or changes that precede it. */
  ahead: { messages: Map<number, { message: Message; rev: number }>; revs: Set<number> }
  /** How often a gap was to be closed since there was none. */
  gaps: number
  hasOlder: boolean
  error: ChatError | null
}

/** What the client knows of the service. Each function can be called with old and repeated data. */
export interface Model {
  chats: Map<string, Chat>
  conversations: Map<string, Conversation>
  totals: Totals | null
  /** The chats of a list, latest activity first. */
  list(name: ListName): Chat[]
  /**
   * Takes a view of a chat, unless a newer one is known. `isResponse`: it is the response to a request for this chat.
   * Only such a response says whether the user has blocked the other member, because blocks change none of the values
   * that order the views. Returns whether the chat must be requested to know it.
   */
  mergeChat(chat: Chat, isResponse: boolean): boolean
  mergeTotals(totals: Totals): void
  /** The conversation of a chat, which is made if there is none. */
  conversation(chatId: string): Conversation
  /** Whether messages or changes are missing that are known to exist. */
  isBehind(conversation: Conversation): boolean
  /** Replaces the messages by a page, newest first. `rev` is one of the chat from before the page was loaded. */
  reset(conversation: Conversation, page: Message[], rev: number): void
  /** Adds the messages before the first one, newest first. */
  prepend(conversation: Conversation, page: Message[]): void
  /**
   * Adds a message or replaces it, unless it is older than the known one. If messages before it are missing, it waits
   * for them.
   * `rev` is a change that it includes for certain.
   */
  put(conversation: Conversation | undefined, message: Message, rev: number): void
}
export type CreateModel = (userId: number) => Model

/** A message that the client sends or has sent. */
export interface Entry {
  /** The idempotency key. */
  key: string
  chatId: string
  content: MessageContent
  /** By the clock of the service, in milliseconds since 1970. */
  createdAt: number
  /** By the clock of the device. The age of the key counts from here. */
  beganAt: number
  state: 'sending' | 'sent' | 'failed'
  error: ChatError | null
  /** The stored message. */
  message?: Message
  /** The last `seq` that was known before the first attempt. */
  after?: number
  promise: Promise<Message>
  resolve(message: Message): void
  reject(error: ChatError): void
}

/** Sends messages, those of a chat one after another, each with one key until there is a response. */
export interface Outbox {
  /** Ids of messages that this client has sent. */
  ownIds: Set<string>
  /** The messages of a chat that are not among the stored ones yet. */
  of(chatId: string): Entry[]
  send(chatId: string, content: MessageContent, key: string): Promise<Message>
  retry(key: string): Promise<Message>
  /** Sends again what has failed for a reason that can be gone. */
  retryTransient(): void
  discard(key: string): void
  /** The message with this key is stored: a response or an event says so. */
  settle(key: string, message: Message): void
  /** Removes the messages that are shown among the stored ones. */
  prune(isShown: (message: Message) => boolean): void
}
export type CreateOutbox = (context: {
  api: Api
  platform: Device
  serverNow: () => number
  lastSeq: (chatId: string) => number
  onSent: (message: Message) => void
  onFailed: (chatId: string) => void
  onChange: () => void
}) => Outbox

/** The connection for live events: opens it, checks that it works, renews its token, and replaces it. */
export interface Live {
  start(): void
  stop(): void
  /** The network or the page has come back. */
  wake(): void
  /** The network has gone. */
  lose(): void
  /** Leaves the frame out if there was one less than three seconds ago, or if the rate limit does not allow it. */
  typing(chatId: string): void
}
export type CreateLive = (context: {
  /** Without it, the client only polls. */
  url: string | undefined
  http: Http
  platform: Device
  /** Only for the connection: all of them end with it. */
  timers: Timers
  onTraffic: (traffic: Traffic) => void
  /** Loads over REST after the connection has opened. */
  load: () => Promise<void>
  onEvents: (events: ChatEvent[]) => void
  onSynced: (frame: SyncedFrame) => void
  onMode: (mode: Exclude<ConnectionState, 'offline'>) => void
}) => Live

/** Keeps the model up to date over REST. */
export interface Loader {
  /** The error of the last attempt in the background. */
  error: ChatError | null
  /** When everything was loaded last. 0: never, or it must be loaded again. */
  loadedAt: number
  /** When there was a new message. */
  newsAt: number
  hasMore(list: ListName): boolean
  openChats(): string[]
  /** Runs the requests of a chat one after another, so that a later response is never older. */
  inOrder<T>(chatId: string, task: () => Promise<T>): Promise<T>
  /** If it fails, everything is loaded later. */
  inBackground(promise: Promise<unknown>): void
  /** Loads everything that is shown. A call while this runs loads once more afterwards. */
  loadAll(): Promise<void>
  /** Loads everything in the background. */
  reload(): void
  loadMore(list: ListName): Promise<void>
  loadOlder(chatId: string): Promise<void>
  /** Loads a chat, and what is new in it if it is open. */
  update(chatId: string): Promise<void>
  /** Updates the open chats. An error that concerns one of them does not keep the others from being loaded. */
  updateOpen(): Promise<unknown>
  /** Loads a chat. Call it in order. Null: there is no such chat. */
  fetchChat(chatId: string): Promise<Chat | null>
  /** Takes what an event says, and loads what is missing. */
  receive(event: ChatEvent): void
  /** Loads what is missing of a chat, unless it arrives soon. */
  checkGap(chatId: string): void
  /** Loads everything again if the totals stay different from the sums of the chats: something was missed. */
  checkTotals(): void
}
export type CreateLoader = (context: {
  /** With few attempts, because everything is loaded again later. */
  api: Api
  platform: Device
  timers: Timers
  model: Model
  onLoaded: () => void
  onChange: () => void
}) => Loader

/** Makes the state that apps show from what the client knows. */
export type CreateView = (context: {
  userId: number
  model: Model
  outbox: Outbox
  /** The chats whose other member is typing. */
  typing: Set<string>
}) => (rest: Pick<ChatState, 'connection' | 'error' | 'hasMore'>) => ChatState
