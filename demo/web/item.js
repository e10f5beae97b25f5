// One picture on the stage, from its file to its answer.
//
// { name, file, status, share, blob, shown, image, bitmap(), thumb, crops, answer, error, detect, saliency, open, opened,
// isSeen }. The status is waiting, working, done, failed or stopped; `share` is what has been sent, null while the model is at
// work; `shown` is an address that the browser can show; `open` is the face whose row is open, `opened` names the open details
// of faces.

import { AskError } from './ask.js'
import { element } from './dom.js'
import { cropFaces, showing } from './picture.js'
import { text } from './texts.js'

const LONGEST_SIDE = 2048 // pixels; the detector looks at no more than 1920
const SMALL_BYTES = 400_000 // goes as it is: a tenth of a second at 30 Mbit/s
const QUALITY = 0.88
const SHOWN_EVERYWHERE = ['image/jpeg', 'image/png', 'image/gif', 'image/webp']

export function createItem(file) {
  const name = file.name || text('pasted')
  return { file, name, status: 'waiting', share: 0, detect: true, saliency: false, opened: new Set() }
}

// It has no answer yet, or is asked about again.
export function isBusy({ status }) {
  return status === 'waiting' || status === 'working'
}

// Whether it can be sent before it is decoded: unchanged, and of a kind that every browser shows.
export function goesAsItIs(file) {
  return file.size > 0 && file.size <= SMALL_BYTES && SHOWN_EVERYWHERE.includes(file.type)
}

// Decode the file where the browser can, and reduce it. Throws AskError.
export async function readItem(item, maxMegabytes) {
  if (!item.file.size) throw new AskError(text('error_empty'))
  const { blob, bitmap } = await reduce(item.file)
  if (blob.size > maxMegabytes * 1e6) throw new AskError(text('error_too_large', { megabytes: maxMegabytes }))
  item.blob = blob
  item.canShow = bitmap !== null
  if (bitmap) {
    item.shown = URL.createObjectURL(blob)
    item.thumb = thumbnail(bitmap)
    item.decoded = bitmap // until its answer is there: a large photo is not decoded twice
  }
  item.bitmap = async () => createImageBitmap(item.canShow ? blob : await (await fetch(item.shown)).blob())
}

// A picture that is made smaller where that saves time on a slow line.
// -> { blob: what is sent, bitmap: the same picture decoded, or null where this browser cannot show its format }
async function reduce(file) {
  let bitmap
  try {
    bitmap = await createImageBitmap(file)
  } catch {
    return { blob: file, bitmap: null } // HEIC and TIFF in most browsers, or no picture: the server finds out
  }
  if (file.size <= SMALL_BYTES) return { blob: file, bitmap }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height))
  const canvas = new OffscreenCanvas(
    Math.max(1, Math.round(bitmap.width * scale)),
    Math.max(1, Math.round(bitmap.height * scale)),
  )
  const context = canvas.getContext('2d')
  context.fillStyle = '#fff' // what is transparent in a PNG
  context.fillRect(0, 0, canvas.width, canvas.height)
  context.imageSmoothingQuality = 'high'
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height)
  const reduced = await canvas.convertToBlob({ type: 'image/jpeg', quality: QUALITY })
  if (reduced.size >= file.size) return { blob: file, bitmap }
  bitmap.close()
  return { blob: reduced, bitmap: canvas.transferToImageBitmap() }
}

// The answer, and what is drawn of it; the status is the caller's to set.
export async function keepAnswer(item, answer) {
  if (answer.preview) item.shown = answer.preview
  item.answer = answer
  const bitmap = item.decoded ?? (await item.bitmap())
  item.crops = cropFaces(bitmap, answer)
  item.thumb ??= thumbnail(bitmap)
  if (bitmap !== item.decoded) bitmap.close()
}

// The element that shows it: one and the same while it waits and with its answer, so that it is decoded once for both.
export function imageOf(item) {
  if (item.image?.src !== item.shown) item.image = showing(item.shown)
  return item.image
}

export function letGoOfPixels(item) {
  item.decoded?.close()
  item.decoded = null
}

export function forget(item) {
  if (item.shown?.startsWith('blob:')) URL.revokeObjectURL(item.shown)
}

function thumbnail(bitmap) {
  const side = 128
  const cut = Math.min(bitmap.width, bitmap.height)
  const canvas = element('canvas', { width: side, height: side, 'aria-hidden': 'true' })
  const context = canvas.getContext('2d')
  context.drawImage(bitmap, (bitmap.width - cut) / 2, (bitmap.height - cut) / 2, cut, cut, 0, 0, side, side)
  return canvas
}
