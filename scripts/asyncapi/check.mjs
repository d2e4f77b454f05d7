// Validates an AsyncAPI document: its structure with the parser of the AsyncAPI project, and each example with the schema
// of its message, which that parser does not check in documents of version 3. Warnings fail, too.
import { readFile } from 'node:fs/promises'
import { DiagnosticSeverity, Parser } from '@asyncapi/parser'
import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'

const file = process.argv[2]
const { document, diagnostics } = await new Parser().parse(await readFile(file, 'utf8'), { source: file })
const problems = diagnostics
  .filter(({ severity }) => severity <= DiagnosticSeverity.Warning)
  .map(({ code, message, path, range }) => `line ${range.start.line + 1}: ${code}: ${message} (${path.join('.')})`)

// Not strict: schemas have members that only describe, such as `x-extensible-enum`.
const ajv = new Ajv({ strict: false, allErrors: true })
addFormats.default(ajv)
const messages = document?.allMessages().all() ?? []
let count = 0
for (const message of messages) {
  const isValid = ajv.compile(message.payload().json())
  for (const example of message.examples().all()) {
    count += 1
    if (isValid(example.payload())) continue
    for (const { instancePath, message: problem } of isValid.errors) {
      problems.push(`message ${message.name()}, example ${example.name()}: ${instancePath} ${problem}`)
    }
  }
  if (message.examples().isEmpty()) problems.push(`message ${message.name()} has no example`)
}

for (const problem of problems) console.error(`${file}: ${problem}`)
if (!document || problems.length > 0) process.exit(1)
console.log(`${file} is valid: ${messages.length} messages, ${count} examples`)
