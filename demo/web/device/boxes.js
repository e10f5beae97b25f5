// Boxes over the video, each with its face's age in large type and, among several, its number.

import { svg } from '../dom.js'

const LABEL_HEIGHT = 1.9 // in ems

export class BoxLayer {
  #shapes = new Map() // number -> its shapes: at each frame of a video they only move

  constructor() {
    this.element = svg('svg', { class: 'device-layer', role: 'img', preserveAspectRatio: 'xMidYMid meet' })
  }

  // Boxes of a frame of `width` x `height` pixels: [{number, box, said: {age, words}}]. `isMirrored` as the video is.
  draw(width, height, boxes, isMirrored = false) {
    const view = `0 0 ${width} ${height}`
    if (this.element.getAttribute('viewBox') !== view) {
      this.clear()
      this.element.setAttribute('viewBox', view)
    }
    const gone = new Set(this.#shapes.keys())
    for (const { number, box, said } of boxes) {
      gone.delete(number)
      const words = { number: boxes.length > 1 ? `${number}` : '', ...said }
      place(this.#shapesOf(number, words, height), box, width, height, isMirrored)
    }
    for (const number of gone) this.#remove(number)
    if (this.element.dataset.faces !== String(boxes.length)) this.element.dataset.faces = boxes.length
  }

  clear() {
    for (const number of [...this.#shapes.keys()]) this.#remove(number)
    delete this.element.dataset.faces
    this.element.removeAttribute('aria-label')
  }

  #remove(number) {
    this.#shapes.get(number).group.remove()
    this.#shapes.delete(number)
  }

  #shapesOf(number, words, height) {
    const key = JSON.stringify(words)
    const known = this.#shapes.get(number)
    if (known?.key === key) return known
    if (known) this.#remove(number)
    const em = Math.max(height / 22, 10)
    const edges = [svg('rect', { class: 'box-edge' }), svg('rect', { class: 'box' })]
    const text = labelText(words, em)
    const ground = svg('rect', { height: LABEL_HEIGHT * em, rx: em / 2.5 })
    const label = svg('g', { class: text.childElementCount ? 'label' : 'label empty' }, ground, text)
    const group = svg('g', { 'data-number': number }, edges, label)
    this.element.append(group)
    const wide = text.getBBox().width + em
    ground.setAttribute('width', wide)
    const shapes = { key, group, edges, label, wide, high: LABEL_HEIGHT * em }
    this.#shapes.set(number, shapes)
    return shapes
  }
}

function labelText({ number, age, words }, em) {
  const parts = [
    [number, em],
    [age, 1.4 * em],
    [words, em],
  ].filter(([said]) => said)
  return svg(
    'text',
    { x: em / 2, y: 1.42 * em },
    parts.map(([said, size], index) =>
      svg('tspan', { dx: index ? 0.4 * em : 0, 'font-size': size, class: said === age ? 'age' : null }, said),
    ),
  )
}

// The label stands above the box, or inside the picture's edge where there is no room. Until there is an answer it is empty.
function place({ edges, label, wide, high }, box, width, height, isMirrored) {
  const [x0, x1] = isMirrored ? [width - box[2], width - box[0]] : [box[0], box[2]]
  const at = { x: x0, y: box[1], width: Math.max(x1 - x0, 0), height: Math.max(box[3] - box[1], 0), rx: (x1 - x0) / 12 }
  for (const edge of edges) {
    for (const [name, value] of Object.entries(at)) edge.setAttribute(name, value.toFixed(1))
  }
  const x = Math.min(Math.max(0, x0), Math.max(0, width - wide)),
    gap = high / 8
  const y = box[1] >= high + gap ? box[1] - high - gap : Math.min(Math.max(0, box[1]), height - high)
  label.setAttribute('transform', `translate(${x.toFixed(1)} ${y.toFixed(1)})`)
}
