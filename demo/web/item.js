// One picture on the stage, from its file to its answer.
//
// { name, file, status, share, blob, shown, bitmap(), thumb, crops, answer, error, detect, saliency, open }. The status is
// waiting, working, done, failed or stopped; `share` is what has been sent, null while the model is at work; `shown` is an
// address that the browser can show; `open` is the face whose row is open.

import { AskError } from './ask.js'
import { element } from './dom.js'
import { cropFaces } from './picture.js'
import { readPicture } from './reduce.js'
import { text } from './texts.js'

export function createItem(file) {
  return { file, name: file.name || text('pasted'), status: 'waiting', share: 0, detect: true, saliency: false }
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
    bitmap.close()
  }
  item.bitmap = async () => createImageBitmap(item.canShow ? blob : await (await fetch(item.shown)).blob())
}

// The answer, and what is drawn of it; the status is the caller's to set.
export async function keepAnswer(item, answer) {
  if (answer.preview) item.shown = answer.preview
  item.answer = answer
  const bitmap = await item.bitmap()
  item.crops = cropFaces(bitmap, answer)
  item.thumb ??= thumbnail(bitmap)
  bitmap.close()
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
