// The annotated picture: the picture itself, and over it a layer with a box a face and, for several, numbered pins.

import { element, replace, svg } from './dom.js'
import { lineEnd, placePins } from './pins.js'
import { text } from './texts.js'
import { describe } from './words.js'

const PIN_RADIUS = 13 // CSS pixels: readable on a phone

// shown: address of a picture that the browser can show. onFace(index, how): 'point', 'leave' or 'choose'.
// -> an element with `mark(index)`, which shows that face or, with null, none.
export function annotatedPicture(shown, answer, onFace = () => {}) {
  const image = element('img', { src: shown, alt: answer ? describe(answer) : text('your_picture'), decoding: 'sync' })
  const layer = svg('svg', { class: 'layer', 'aria-hidden': 'true' })
  const [width, height] = answer?.size_wh ?? [1, 1]
  const frame = element('div', { class: 'annotated', style: `--aspect: ${width / height}` }, image, layer)
  frame.draw = () => drawLayer(layer, answer, image.clientWidth, image.clientHeight, { onFace })
  frame.mark = index => {
    for (const group of layer.children) group.classList.toggle('marked', group.dataset.face === String(index))
  }
  if (answer) new ResizeObserver(frame.draw).observe(image)
  return frame
}

// width, height: of the layer on the screen. label(face, index): what stands in its pin; null for a face without one.
export function drawLayer(layer, answer, width, height, { onFace = () => {}, label = numberOfSeveral(answer) } = {}) {
  if (!width || !height) return
  const scale = [width / answer.size_wh[0], height / answer.size_wh[1]]
  const boxes = answer.faces.map(face => face.box.map((value, index) => value * scale[index % 2]))
  const labels = answer.faces.map(label)
  const pins = labels.some(said => said !== null) ? placePins(boxes, width, height, PIN_RADIUS) : []
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
      group.append(...boxShapes(box), ...(pins[index] ? pinShapes(pins[index], box, labels[index]) : []))
      return group
    }),
  )
}

function numberOfSeveral(answer) {
  return (face, index) => (answer.faces.length > 1 ? String(face.number ?? index + 1) : null)
}

function boxShapes([x0, y0, x1, y1]) {
  const at = { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: Math.min(8, (x1 - x0) / 8) }
  return [svg('rect', { class: 'box-edge', ...at }), svg('rect', { class: 'box', ...at })]
}

function pinShapes(pin, box, label) {
  const end = lineEnd(pin, box)
  const line = { x1: pin.x, y1: pin.y, x2: end.x, y2: end.y }
  return [
    svg('line', { class: 'box-edge', ...line }),
    svg('line', { class: 'box', ...line }),
    svg('circle', { class: 'pin', cx: pin.x, cy: pin.y, r: PIN_RADIUS }),
    svg('text', { class: 'pin-number', x: pin.x, y: pin.y }, label),
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
