// Boxes over a picture or video, each with its face's number and answer.

import {svg} from "../dom.js"

// Dark enough for white text at a contrast of at least 4.5 to 1 (WCAG 2.2 AA).
const COLOURS = ["#0b62c4", "#b83a06", "#15703a", "#7e22ce", "#be123c", "#0f6b64", "#8a5300", "#4338ca"]

export const colourOf = number => COLOURS[(number - 1) % COLOURS.length]

export class BoxLayer {
  #shapes = new Map() // number -> its shapes: at each frame of a video they only move

  constructor() {
    this.element = svg("svg", {class: "device-layer", role: "img", preserveAspectRatio: "xMidYMid meet"})
  }

  // Boxes of a frame of `width` x `height` pixels: [{number, box, lines}]. `isMirrored` as the video is.
  draw(width, height, boxes, isMirrored = false) {
    const view = `0 0 ${width} ${height}`
    if (this.element.getAttribute("viewBox") !== view) {
      this.clear()
      this.element.setAttribute("viewBox", view)
    }
    const gone = new Set(this.#shapes.keys())
    for (const {number, box, lines} of boxes) {
      gone.delete(number)
      place(this.#shapesOf(number, lines, height), box, width, height, isMirrored)
    }
    for (const number of gone) this.#remove(number)
    if (this.element.dataset.faces !== String(boxes.length)) this.element.dataset.faces = boxes.length
  }

  clear() {
    for (const number of [...this.#shapes.keys()]) this.#remove(number)
    delete this.element.dataset.faces
    this.element.removeAttribute("aria-label")
  }

  #remove(number) {
    this.#shapes.get(number).group.remove()
    this.#shapes.delete(number)
  }

  #shapesOf(number, lines, height) {
    const said = [[number, ...lines.slice(0, 1)].join(" · "), ...lines.slice(1)]
    const known = this.#shapes.get(number)
    if (known?.said.join() === said.join()) return known
    if (known) this.#remove(number)
    const shapes = drawShapes(number, said, height)
    this.element.append(shapes.group)
    this.#shapes.set(number, shapes)
    return shapes
  }
}

function drawShapes(number, said, height) {
  const colour = colourOf(number), em = Math.max(height / 24, 10)
  const wide = Math.max(...said.map(line => line.length)) * em * 0.55 + em, high = (said.length * 1.25 + 0.4) * em
  const edge = svg("rect", {class: "box", stroke: colour})
  const label = svg("g", {},
    svg("rect", {width: wide, height: high, rx: 4, fill: colour}),
    said.map((line, row) => svg("text", {x: em / 2, y: em * (1.05 + 1.25 * row), "font-size": em}, line)))
  return {group: svg("g", {}, edge, label), edge, label, wide, high, said}
}

// The label stands above the box, or inside the picture's edge where there is no room.
function place({edge, label, wide, high}, box, width, height, isMirrored) {
  const [x0, x1] = isMirrored ? [width - box[2], width - box[0]] : [box[0], box[2]]
  const at = {x: x0, y: box[1], width: Math.max(x1 - x0, 0), height: Math.max(box[3] - box[1], 0)}
  for (const [name, value] of Object.entries(at)) edge.setAttribute(name, value.toFixed(1))
  const x = Math.min(Math.max(0, x0), Math.max(0, width - wide))
  const y = box[1] >= high ? box[1] - high : Math.min(Math.max(0, box[1]), height - high)
  label.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`)
}
