// Faces as visitors see them: boxes in a layer over the picture or video, and one card a face.

import {TEXTS, percent} from "./texts.js"

const SVG = "http://www.w3.org/2000/svg"
// Dark enough for white text at a contrast of at least 4.5 to 1 (WCAG 2.2 AA).
const COLOURS = ["#0b62c4", "#b83a06", "#15703a", "#7e22ce", "#be123c", "#0f6b64", "#8a5300", "#4338ca"]

export const colourOf = number => COLOURS[(number - 1) % COLOURS.length]

// make("p", {class: "notice"}, "text", child)
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children)
}

function shape(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children)
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value)
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value)
  }
  element.append(...children.filter(child => child !== null))
  return element
}

export function notice(text, isProblem = false) {
  return make("p", {class: isProblem ? "notice problem" : "notice info", role: isProblem ? "alert" : "status"}, text)
}

export function shortAnswer(face) {
  if (face.abstained) return ["no answer"]
  return [`${face.age.toFixed(0)} years`, face.gender === "unsure" ? "gender unsure" : `looks ${face.gender}`]
}

// In words, for screen readers.
export function describe(numbers, faces) {
  return [TEXTS.faces(faces.length), ...faces.map((face, index) => `face ${numbers[index]}: ${shortAnswer(face).join(", ")}`)].join(" ")
}

// Draw the boxes of a frame of `width` x `height` pixels. `boxes`: [{number, box, lines}]; `isMirrored` as the video is.
export function drawBoxes(layer, width, height, boxes, isMirrored = false) {
  layer.setAttribute("viewBox", `0 0 ${width} ${height}`)
  layer.dataset.faces = boxes.length
  layer.replaceChildren(...boxes.flatMap(({number, box, lines}) => {
    const [x0, x1] = isMirrored ? [width - box[2], width - box[0]] : [box[0], box[2]]
    const colour = colourOf(number), em = Math.max(height / 24, 10)
    const said = [lines.length ? `${number} · ${lines[0]}` : `${number}`, ...lines.slice(1)]
    const wide = Math.max(...said.map(line => line.length)) * em * 0.55 + em, high = (said.length * 1.25 + 0.4) * em
    const x = Math.min(Math.max(0, x0), Math.max(0, width - wide))
    const y = box[1] >= high ? box[1] - high : Math.min(Math.max(0, box[1]), height - high)
    return [
      shape("rect", {class: "box", x: x0, y: box[1], width: x1 - x0, height: box[3] - box[1], stroke: colour}),
      shape("rect", {x, y, width: wide, height: high, rx: 4, fill: colour}),
      ...said.map((line, row) => shape("text", {x: x + em / 2, y: y + em * (1.05 + 1.25 * row), "font-size": em}, line)),
    ]
  }))
}

export function layerFor() {
  return shape("svg", {class: "device-layer", role: "img", preserveAspectRatio: "xMidYMid meet"})
}

// One card a face; `numbers` as in the picture.
export function cards(numbers, answer) {
  return make("div", {class: "face-cards"}, ...answer.faces.map((face, index) => card(numbers[index], face, answer)))
}

function card(number, face, answer) {
  const title = face.abstained ? TEXTS.noAnswer : TEXTS.looksAbout(face.age.toFixed(0))
  const said = face.abstained
    ? [make("p", {}, face.abstained)]
    : [make("p", {}, `${TEXTS.interval(face.age_interval)} ${TEXTS.coverage(answer.interval_coverage)}`), make("p", {}, genderText(face, answer))]
  const heading = make("h2", {}, make("span", {class: "number"}, `${number}`), ` ${title}`)
  return make("article", {class: "face-card", style: `--face: ${colourOf(number)}`, "aria-label": TEXTS.face(number)},
    make("header", {}, make("div", {}, heading, ...said)),
    ...(face.abstained ? [] : [make("h3", {}, TEXTS.rangeBars), rangeBars(face)]))
}

function genderText(face, answer) {
  if (face.gender !== "unsure") return TEXTS.looks(face.gender, face.genders[face.gender])
  const shares = Object.entries(face.genders).map(([name, share]) => `${name} ${percent(share)}`).join(", ")
  return TEXTS.unsure(shares, answer.gender_threshold)
}

function rangeBars(face) {
  return make("ul", {class: "range-bars"}, ...[...face.age_ranges].map(([label, share]) =>
    make("li", {class: label === face.age_range ? "best" : ""},
      make("span", {}, label),
      make("i", {}, make("b", {style: `width: ${(100 * share).toFixed(1)}%`})),
      make("span", {}, percent(share)))))
}
