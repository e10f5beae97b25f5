// The question to the server: one request that carries the picture, with progress, and its answer.

import { inReadingOrder } from './reading.js'
import { count, text } from './texts.js'

export class AskError extends Error {
  constructor(message, isOver = false) {
    super(message)
    this.isRetryable = isOver // the picture may be fine: a busy demo, a broken line
  }
}

// options: { detect, saliency, preview, model }. onProgress(share sent, or null while the model is at work).
// -> the server's answer with its faces in reading order. Throws AskError with a sentence for the visitor; AbortError.
export function askServer(blob, options, { onProgress = () => {}, signal } = {}) {
  const form = new FormData()
  for (const [name, value] of Object.entries(options)) if (value !== undefined) form.append(name, String(value))
  form.append('picture', blob, 'picture')
  const request = new XMLHttpRequest()
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted() // aborting a request that is not sent fires no event
    request.open('POST', new URL('page/answer', document.baseURI))
    request.upload.onprogress = event => onProgress(event.lengthComputable ? event.loaded / event.total : null)
    request.upload.onload = () => onProgress(null)
    request.onerror = () => reject(new AskError(text('error_offline'), true))
    request.onabort = () => reject(new DOMException('cancelled', 'AbortError'))
    request.onload = () => {
      if (request.status === 200) resolve(orderFaces(JSON.parse(request.response), options))
      else reject(refusal(request))
    }
    signal?.addEventListener('abort', () => request.abort())
    request.send(form)
  })
}

export function orderFaces(answer, options = {}) {
  return { ...answer, faces: inReadingOrder(answer.faces), whole: options.detect === false }
}

function refusal(request) {
  const answer = parsed(request.response)
  if (request.status === 429) {
    const wait_seconds = Number(request.getResponseHeader('Retry-After'))
    return new AskError(problemText({ kind: 'too_often', wait_seconds }), true)
  }
  if (request.status === 503) return new AskError(text('error_busy'), true)
  if (request.status === 401) return new AskError(text('error_login'), true)
  if (request.status === 413) return new AskError(text('error_too_large_to_send'))
  return new AskError(problemText(answer), !['picture', 'too_costly'].includes(answer.kind))
}

// What is said of a picture or a webcam's frame without an answer: { kind, wait_seconds } of the server.
export function problemText({ kind, wait_seconds }) {
  if (kind === 'too_often') return text('error_too_often', { wait: count('seconds', wait_seconds || 60) })
  if (kind === 'busy') return text('error_busy')
  if (kind === 'picture') return text('error_picture')
  if (kind === 'too_costly') return text('error_too_costly')
  return text('error_server')
}

function parsed(response) {
  try {
    return JSON.parse(response) ?? {}
  } catch {
    return {}
  }
}
