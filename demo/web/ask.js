// The question to the server: one request that carries the picture, with progress; and its answer, with the faces in order.

import { count, text } from './texts.js'

export class AskError extends Error {
  constructor(message, isRetryable = false) {
    super(message)
    this.isRetryable = isRetryable // the picture may be fine: a busy demo, a broken line
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

// The order in which faces are numbered: as a page is read, row by row, and from left to right in a row.
export function inReadingOrder(faces) {
  const left = [...faces].sort((a, b) => middle(a)[1] - middle(b)[1])
  const rows = []
  for (const face of left) {
    const row = rows.at(-1)
    const height = face.box[3] - face.box[1]
    // In one row: the middle lies less than half a face's height below the mean of the row's middles.
    if (row && middle(face)[1] - row.y < 0.5 * Math.max(height, row.height)) {
      row.faces.push(face)
      row.y += (middle(face)[1] - row.y) / row.faces.length
      row.height = Math.max(row.height, height)
    } else rows.push({ faces: [face], y: middle(face)[1], height })
  }
  return rows.flatMap(row => row.faces.sort((a, b) => middle(a)[0] - middle(b)[0]))
}

function middle({ box: [x0, y0, x1, y1] }) {
  return [(x0 + x1) / 2, (y0 + y1) / 2]
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
