// A short chat between the two people, and a long history. Both use the clients of the phones, as a person would.

const pause = duration => new Promise(resolve => setTimeout(resolve, duration))

/** Who says what: 0 is Ann, 1 is Ben. */
const LINES = [
  [0, 'Hi Ben 👋 Are you still coming on Saturday?'],
  [1, 'Of course! Should I bring anything?'],
  [0, 'Only the good bread. And your camera 📷'],
  [1, 'Deal. Where is it again?'],
  [0, { text: 'Behind the garden gate:', linkPreviewUrl: 'https://www.openstreetmap.org/node/240109189' }],
  [1, 'Found it. My neighbour sends her greetings: שלום לכולם, נתראה בקרוב'],
  [0, 'Tell her she is invited, too. We start at six'],
  [1, '🎉'],
]

/** Makes sure that the two have an active chat, and shows it on both phones. */
async function openChat([ann, ben]) {
  let [asking, answering] = [ann, ben]
  const ask = () => asking.client.request(answering.user.id)
  const chat = await ask().catch(error => {
    // Only the one who has declined can ask again.
    if (error.code !== 'chat_declined') throw error
    ;[asking, answering] = [ben, ann]
    return ask()
  })
  const { chatId } = chat
  if (chat.status === 'pending') {
    await pause(900)
    await answering.client.accept(chatId)
  }
  ann.open(chatId, ben.user.id)
  ben.open(chatId, ann.user.id)
  return chatId
}

export async function playSampleChat(phones) {
  const chatId = await openChat(phones)
  for (const [sender, line] of LINES) {
    const { client } = phones[sender]
    client.typing(chatId)
    await pause(1_100)
    await client.send(chatId, typeof line === 'string' ? { text: line } : line)
  }
  await pause(1_500)
  const { messages } = phones[0].client.state.conversations[chatId]
  const last = messages.findLast(({ isOwn, text }) => isOwn && text === LINES[6][1])
  if (last) await phones[0].client.edit(chatId, last.seq, { text: 'Tell her she is invited, too. We start at seven' })
}

export async function addHistory(phones) {
  const chatId = await openChat(phones)
  for (let number = 1; number <= 30; number++) {
    await phones[0].client.send(chatId, { text: `Ann counts: ${number}` })
    await phones[1].client.send(chatId, { text: `Ben counts: ${number}` })
  }
}
