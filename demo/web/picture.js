// The annotated picture: the picture itself, and over it a box a face, with its age or, for several, its number in a pin.

import { element, replace, svg } from './dom.js'
import { lineEnd, placePins } from './pins.js'
import { text } from './texts.js'
import { ageText, describe } from './words.js'

const PIN_RADIUS = 13 // CSS pixels: readable on a phone

// address: of a picture that the browser can show.
export function showing(address) {
  return element('img', { src: address, decoding: 'sync' })
}

// image: see showing; it leaves the place where it stood before. options: see drawLayer.
// -> an element with `mark(index)`, which shows that face or, with null, none.
export function annotatedPicture(image, answer, options = {}) {
  image.alt = answer ? describe(answer) : text('your_picture')
  const layer = svg('svg', { class: 'layer', 'aria-hidden': 'true' })
  const [width, height] = answer?.size_wh ?? [1, 1]
  const frame = element('div', { class: 'annotated', style: `--aspect: ${width / height}` }, image, layer)
  frame.mark = index => {
    for (const group of layer.children) group.classList.toggle('marked', group.dataset.face === String(index))
  }
  const draw = () => drawLayer(layer, answer, frame.clientWidth, frame.clientHeight, options)
  if (answer) new ResizeObserver(draw).observe(frame)
  return frame
}

// width, height: of the layer on the screen. options: onFace(index, how) with 'point', 'leave' or 'choose'; label(face, index):
// what stands in its pin, null for a face without one; radius: of a pin.
export function drawLayer(layer, answer, width, height, options = {}) {
  if (!width || !height) return
  const { onFace = () => {}, label = numberOrAge(answer), radius = PIN_RADIUS } = options
  const scale = [width / answer.size_wh[0], height / answer.size_wh[1]]
  const boxes = answer.faces.map(face => face.box.map((value, index) => value * scale[index % 2]))
  const labels = answer.faces.map(label)
  const pins = labels.some(said => said !== null) ? placePins(boxes, width, height, radius, 2 * radius) : []
  layer.setAttribute('viewBox', `0 0 ${width} ${height}`)
  replace(
    layer,
    boxes.map((box, index) => {
      const group = svg('g', {
        'data-face': index,
        onpointerenter: () => onFace(index, 'point'),
        onpointerleave: () => onFace(index, 'leave'),
        onclick: () => onFace(index, 'choose'),
      })
      group.append(...boxShapes(box), ...(pins[index] ? pinShapes(pins[index], radius, box, labels[index]) : []))
      return group
    }),
  )
}

// The number of each of several faces, by which its row is found; the age of a single one.
function numberOrAge(answer) {
  if (answer.faces.length > 1) return (face, index) => String(face.number ?? index + 1)
  return face => (face.abstained ? null : ageText(face))
}

function boxShapes([x0, y0, x1, y1]) {
  const at = { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: Math.min(8, (x1 - x0) / 8) }
  return [svg('rect', { class: 'box-edge', ...at }), svg('rect', { class: 'box', ...at })]
}

function pinShapes(pin, radius, box, label) {
  const end = lineEnd(pin, box)
  const line = { x1: pin.x, y1: pin.y, x2: end.x, y2: end.y }
  return [
    svg('line', { class: 'box-edge', ...line }),
    svg('line', { class: 'box', ...line }),
    svg('circle', { class: 'pin', cx: pin.x, cy: pin.y, r: radius }),
    svg('text', { class: 'pin-number', x: pin.x, y: pin.y, style: `font-size: ${radius}px` }, label),
  ]
}

// Small pictures of the faces, each a canvas; bitmap: the decoded picture, of any scale.
export function cropFaces(bitmap, answer, side = 112) {
  const scale = bitmap.width / answer.size_wh[0]
  return answer.faces.map(({ box: [x0, y0, x1, y1] }) => {
    const reach = 0.625 * Math.max(x1 - x0, y1 - y0, 1) * scale // a quarter more than the face
    const [x, y] = [((x0 + x1) / 2) * scale, ((y0 + y1) / 2) * scale]
    const crop = element('canvas', { width: side, height: side, class: 'crop', 'aria-hidden': 'true' })
    crop.getContext('2d').drawImage(bitmap, x - reach, y - reach, 2 * reach, 2 * reach, 0, 0, side, side)
    return crop
  })
}
