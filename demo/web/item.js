// One picture on the stage, from its file to its answer.
//
// { name, file, status, share, blob, shown, image, bitmap(), thumb, crops, answer, error, detect, saliency, open, opened,
// isSeen }. The status is waiting, working, done, failed or stopped; `share` is what has been sent, null while the model is at
// work; `shown` is an address that the browser can show; `open` is the face whose row is open, `opened` names the open details
// of faces.

import { AskError } from './ask.js'
import { element } from './dom.js'
import { cropFaces, showing } from './picture.js'
import { readPicture } from './reduce.js'
import { text } from './texts.js'

export function createItem(file) {
  const name = file.name || text('pasted')
  return { file, name, status: 'waiting', share: 0, detect: true, saliency: false, opened: new Set() }
}

// It has no answer yet, or is asked about again.
export function isBusy({ status }) {
  return status === 'waiting' || status === 'working'
}

// Decode and reduce the file. Throws AskError.
export async function readItem(item, maxMegabytes) {
  if (!item.file.size) throw new AskError(text('error_empty'))
  const { blob, bitmap } = await readPicture(item.file)
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
