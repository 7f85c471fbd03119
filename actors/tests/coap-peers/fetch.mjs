// Fetches `coap://host:port/path` with blocks of the given size into a file: node fetch.mjs URL SIZE FILE
// With a fourth argument it observes instead, and writes each notification's payload to its own line, in hex.
import { writeFileSync } from 'node:fs'
import coap from 'coap'

const [url, size, file, count] = process.argv.slice(2)
const { hostname, port, pathname, search } = new URL(url)
const request = coap.request({ hostname, port: Number(port), pathname, query: search.slice(1), observe: count !== undefined })
if (count === undefined) request.setOption('Block2', Buffer.of(Math.log2(Number(size)) - 4))
request.on('error', (error) => { console.error(error); process.exit(1) })
request.on('response', (response) => {
  if (!response.code.startsWith('2.')) {
    console.error(response.code)
    process.exit(1)
  }
  if (count === undefined) {
    const parts = []
    response.on('data', (part) => parts.push(part))
    response.on('end', () => { writeFileSync(file, Buffer.concat(parts)); process.exit(0) })
    return
  }
  let left = Number(count)
  response.on('data', (payload) => {
    console.log(payload.toString('hex'))
    left -= 1
    if (left === 0) { response.close(); setImmediate(() => process.exit(0)) }
  })
})
request.end()
