// Pictures to keep and to send, drawn in the browser: the annotated picture, and the share card.

import { button, element, ICONS, openDialog, saveAs, toolButton } from './dom.js'
import { lineEnd, placePins } from './pins.js'
import { text } from './texts.js'
import { ageText, genderShort, headline, intervalText, pinAge } from './words.js'

const MOST_ZOOM = 2
const ROOM = 0.75 // around the faces, in heights of the largest
const FORMATS = { wide: [1200, 630], square: [1080, 1080] }
const FONT = 'system-ui, sans-serif'
const COLOURS = { ground: '#fafaf9', ink: '#1c1917', quiet: '#57534e', accent: '#0f766e' }

// The whole picture with its boxes and ages. -> a JPEG as a blob
export async function annotatedBlob(bitmap, answer) {
  const canvas = element('canvas', { width: bitmap.width, height: bitmap.height })
  const frame = { x: 0, y: 0, width: bitmap.width, height: bitmap.height }
  drawAnnotated(canvas.getContext('2d'), bitmap, answer, frame, { zoom: 1, hasPins: true })
  return toBlob(canvas, 'image/jpeg')
}

// -> a PNG as a blob
async function cardBlob(bitmap, answer, format) {
  const [width, height] = FORMATS[format]
  const canvas = element('canvas', { width, height })
  const context = canvas.getContext('2d')
  context.fillStyle = COLOURS.ground
  context.fillRect(0, 0, width, height)
  const isWide = format === 'wide'
  const frame = isWide ? { x: 0, y: 0, width: 720, height } : { x: 0, y: 0, width, height: 700 }
  drawAnnotated(context, bitmap, answer, frame, { zoom: MOST_ZOOM, hasPins: answer.faces.length > 1 })
  const panel = isWide ? { x: 768, y: 56, width: 384, height: 518 } : { x: 64, y: 740, width: 952, height: 290 }
  drawPanel(context, answer, panel, isWide)
  return toBlob(canvas, 'image/png')
}

function toBlob(canvas, type) {
  return new Promise(resolve => canvas.toBlob(resolve, type, 0.92))
}

// The picture fills `frame`, cut so that the faces stay in it, and up to `zoom` times larger so that they are seen.
function drawAnnotated(context, bitmap, answer, frame, { zoom, hasPins }) {
  const ratios = [frame.width / bitmap.width, frame.height / bitmap.height]
  const facesWide = extent(answer, bitmap)
  const near = Math.min(frame.width / facesWide.width, frame.height / facesWide.height)
  const fit = Math.max(Math.min(...ratios), Math.min(near, Math.max(...ratios) * zoom))
  const shift = (size, of, middle) =>
    of * fit <= size ? (size - of * fit) / 2 : Math.min(0, Math.max(size - of * fit, size / 2 - middle * fit))
  const x = shift(frame.width, bitmap.width, facesWide.x)
  const y = shift(frame.height, bitmap.height, facesWide.y)
  context.save()
  context.beginPath()
  context.rect(frame.x, frame.y, frame.width, frame.height)
  context.clip()
  drawBackdrop(context, bitmap, frame)
  context.imageSmoothingQuality = 'high'
  context.drawImage(bitmap, frame.x + x, frame.y + y, bitmap.width * fit, bitmap.height * fit)
  context.translate(frame.x, frame.y)
  const ratio = (fit * bitmap.width) / answer.size_wh[0]
  drawFaces(
    context,
    answer,
    answer.faces.map(({ box }) => box.map((value, index) => value * ratio + (index % 2 ? y : x))),
    frame,
    hasPins,
  )
  context.restore()
}

// Where the picture leaves room: the picture itself, dark and blurred by way of a few pixels.
function drawBackdrop(context, bitmap, { x, y, width, height }) {
  const few = new OffscreenCanvas(12, 8)
  few.getContext('2d').drawImage(bitmap, 0, 0, few.width, few.height)
  context.fillStyle = '#292524'
  context.fillRect(x, y, width, height)
  context.globalAlpha = 0.45
  context.drawImage(few, x, y, width, height)
  context.globalAlpha = 1
}

// What must stay in sight: all faces and some room around them, in pixels of the bitmap.
function extent(answer, bitmap) {
  const scale = bitmap.width / answer.size_wh[0]
  const all = [0, 1, 2, 3].map(side => answer.faces.map(({ box }) => box[side] * scale))
  const [x0, y0, x1, y1] = [Math.min(...all[0]), Math.min(...all[1]), Math.max(...all[2]), Math.max(...all[3])]
  const room = ROOM * Math.max(...answer.faces.map(({ box }) => (box[3] - box[1]) * scale))
  return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, width: x1 - x0 + 2 * room, height: y1 - y0 + 2 * room }
}

function drawFaces(context, answer, boxes, frame, hasPins) {
  const unit = Math.max(frame.width, frame.height) / 100
  const radius = 2.6 * unit
  const pins = hasPins ? placePins(boxes, frame.width, frame.height, radius) : []
  boxes.forEach(([x0, y0, x1, y1], index) => {
    const end = pins[index] && lineEnd(pins[index], boxes[index])
    for (const [colour, width] of [
      ['rgba(0, 0, 0, .55)', 0.75 * unit],
      ['#fff', 0.4 * unit],
    ]) {
      context.strokeStyle = colour
      context.lineWidth = Math.max(1.5, width)
      context.beginPath()
      context.roundRect(x0, y0, x1 - x0, y1 - y0, Math.min(unit, (x1 - x0) / 8))
      if (end) {
        context.moveTo(pins[index].x, pins[index].y)
        context.lineTo(end.x, end.y)
      }
      context.stroke()
    }
  })
  context.textAlign = 'center'
  context.textBaseline = 'middle'
  pins.forEach((pin, index) => {
    context.fillStyle = COLOURS.accent
    context.beginPath()
    context.arc(pin.x, pin.y, radius, 0, 2 * Math.PI)
    context.fill()
    context.fillStyle = '#fff'
    context.font = `700 ${2.4 * unit}px ${FONT}`
    context.fillText(pinAge(answer.faces[index]), pin.x, pin.y + 0.1 * unit)
  })
}

function drawPanel(context, answer, panel, isWide) {
  const { x, y } = panel
  context.textAlign = 'left'
  context.textBaseline = 'alphabetic'
  const write = (said, size, weight, colour, baseline, left = 0, room = panel.width - left) => {
    context.font = `${weight} ${size}px ${FONT}`
    while (context.measureText(said).width > room && size > 16) context.font = `${weight} ${--size}px ${FONT}`
    context.fillStyle = colour
    context.fillText(said, x + left, y + baseline)
  }
  const [face] = answer.faces
  const isHero = answer.faces.length === 1 && !face.abstained
  const big = isHero ? ageText(face) : agesText(answer)
  const lines = isHero ? [intervalText(face), genderShort(face)] : [headline(answer), '']
  if (isWide) {
    const base = isHero ? 250 : 190
    write(text('looks_about'), 34, 500, COLOURS.quiet, 60)
    write(big, isHero ? 220 : 130, 750, COLOURS.ink, base)
    write(lines[0], 36, 600, COLOURS.ink, base + 65)
    write(lines[1], 34, 500, COLOURS.quiet, base + 115)
    write(text('card_guess'), 26, 500, COLOURS.quiet, panel.height - 44)
    write(siteName(), 26, 700, COLOURS.accent, panel.height - 8)
  } else {
    write(big, 220, 750, COLOURS.ink, 180, 0, 520)
    const left = context.measureText(big).width + 40
    write(lines[0], 46, 600, COLOURS.ink, 92, left)
    write(lines[1], 42, 500, COLOURS.quiet, 156, left)
    write(text('card_guess'), 30, 500, COLOURS.quiet, 244)
    write(siteName(), 30, 700, COLOURS.accent, 286)
  }
}

function agesText(answer) {
  const ages = answer.faces.filter(face => !face.abstained).map(face => Math.round(face.age))
  if (!ages.length) return '?'
  const [low, high] = [Math.min(...ages), Math.max(...ages)]
  return low === high ? `${low}` : `${low}–${high}`
}

function siteName() {
  const isHere = ['localhost', '127.0.0.1'].includes(location.hostname)
  return isHere ? text('title') : `${text('title')} ${location.host}`
}

// The card in its two formats, with the ways to hand it on.
export function openShare(bitmap, answer) {
  const preview = element('img', { class: 'card-preview', alt: text('card_alt') })
  let blob = null
  let format = 'wide'
  const file = () => new File([blob], 'age.png', { type: 'image/png' })
  const draw = async () => {
    blob = await cardBlob(bitmap, answer, format)
    URL.revokeObjectURL(preview.src)
    preview.src = URL.createObjectURL(blob)
    send.hidden = !navigator.canShare?.({ files: [file()] })
  }
  const choice = name =>
    element(
      'label',
      { class: 'choice' },
      element('input', {
        type: 'radio',
        name: 'format',
        value: name,
        checked: name === format,
        onchange: () => {
          format = name
          draw()
        },
      }),
      element('span', {}, text(`card_${name}`)),
    )
  const send = toolButton(
    ICONS.share,
    text('share_system'),
    () => navigator.share({ files: [file()], title: text('title') }).catch(() => {}),
    { hidden: true, class: 'main' },
  )
  const told = element('span', { role: 'status', class: 'quiet' })
  const copy = async () => {
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })])
    told.textContent = text('copied')
  }
  const dialog = element(
    'dialog',
    { class: 'share', 'aria-labelledby': 'share-title' },
    element('h2', { id: 'share-title' }, text('share_title')),
    element(
      'fieldset',
      { class: 'choices' },
      element('legend', { class: 'visually-hidden' }, text('card_format')),
      choice('wide'),
      choice('square'),
    ),
    preview,
    element(
      'div',
      { class: 'dialog-buttons' },
      send,
      toolButton(ICONS.download, text('card_download'), () => saveAs(blob, 'age.png'), { class: 'main' }),
      navigator.clipboard && 'ClipboardItem' in window && button({ class: 'plain', onclick: copy }, text('copy')),
      button({ class: 'plain', onclick: () => dialog.close() }, text('close')),
      told,
    ),
  )
  openDialog(dialog)
  draw()
}
