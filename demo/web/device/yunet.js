// YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023): its input, and what its twelve outputs mean, as
// model/face_network.py.

import { roundHalfEven, shrink } from './geometry.js'

const STRIDES = [8, 16, 32] // pixels between the cells of each output
const NMS_OVERLAP = 0.3 // of two boxes that are the same face
const MOST_CANDIDATES = 5000

export class YuNet {
  // `network` is of networks.js; `settings` is the manifest's `detector`.
  constructor(network, settings) {
    Object.assign(this, { network, settings })
  }

  // Rows {x, y, width, height, landmarks, score} in pixels of `picture`, the best first. It never enlarges the picture.
  async detect(picture, longestSide) {
    return suppress(await this.candidates(picture, longestSide, this.settings.candidate_score))
  }

  // The same from another score on, with each face several times and in no order.
  async candidates(picture, longestSide, leastScore) {
    const small = shrink(picture, longestSide / Math.max(picture.width, picture.height))
    const [scaleX, scaleY] = [picture.width / small.width, picture.height / small.height]
    return (await this.#run(small, leastScore)).map(row => scaleRow(row, scaleX, scaleY))
  }

  // `detect` for a picture as it is, from a lower score on.
  async detectUnscaled(picture, leastScore) {
    return suppress(await this.#run(picture, leastScore))
  }

  async #run(picture, leastScore) {
    const least = this.settings.min_input_side // OpenCV computes nonsense in narrower strips
    const [width, height] = [picture.width, picture.height].map(side => Math.max(Math.ceil(side / 32) * 32, least))
    const input = new Float32Array(3 * width * height),
      plane = width * height
    for (let y = 0; y < picture.height; y++) {
      for (let x = 0; x < picture.width; x++) {
        const from = 4 * (y * picture.width + x),
          to = y * width + x
        input[to] = picture.data[from + 2] // blue, green, red
        input[plane + to] = picture.data[from + 1]
        input[2 * plane + to] = picture.data[from]
      }
    }
    const outputs = await this.network.run(input, [1, 3, height, width])
    const rows = STRIDES.flatMap(stride => decode(outputs, stride, width / stride, leastScore))
    return rows
      .filter(row => Math.min(row.width, row.height) > 1)
      .map(row => rounded(row, this.settings.steps_per_pixel))
  }
}

function decode(outputs, stride, columns, leastScore) {
  const [classes, objects, boxes, points] = ['cls', 'obj', 'bbox', 'kps'].map(name => outputs[`${name}_${stride}`].data)
  const within = value => Math.min(Math.max(value, 0), 1)
  const rows = []
  for (let index = 0; index < classes.length; index++) {
    const score = Math.sqrt(within(classes[index]) * within(objects[index]))
    if (score < leastScore) continue
    const row = Math.floor(index / columns),
      column = index % columns
    const [width, height] = [2, 3].map(k => Math.exp(boxes[4 * index + k]) * stride)
    const x = (column + boxes[4 * index]) * stride - width / 2
    const y = (row + boxes[4 * index + 1]) * stride - height / 2
    const landmarks = [0, 1, 2, 3, 4].map(k => [
      (points[10 * index + 2 * k] + column) * stride,
      (points[10 * index + 2 * k + 1] + row) * stride,
    ])
    rows.push({ x, y, width, height, landmarks, score })
  }
  return rows
}

const byScore = (one, other) => other.score - one.score

// Of each face the row with the highest score, best first.
export function suppress(rows) {
  return keepBest([...rows].sort(byScore).slice(0, MOST_CANDIDATES), row => boxOf(row).map(Math.trunc))
}

// Rows found at two scales, of each face the one with the higher score.
export function merge(rows, moreRows) {
  return keepBest([...rows, ...moreRows].sort(byScore), boxOf)
}

const boxOf = row => [row.x, row.y, row.width, row.height]

function keepBest(rows, boxOf) {
  const kept = []
  for (const row of rows) if (kept.every(other => overlap(boxOf(row), boxOf(other)) <= NMS_OVERLAP)) kept.push(row)
  return kept
}

// Whether two rows are of one face.
export const areOne = (row, other) => overlap(boxOf(row), boxOf(other)) > NMS_OVERLAP

export function scaleRow(row, scaleX, scaleY, shiftX = 0, shiftY = 0) {
  return {
    ...row,
    x: (row.x + shiftX) * scaleX,
    y: (row.y + shiftY) * scaleY,
    width: row.width * scaleX,
    height: row.height * scaleY,
    landmarks: row.landmarks.map(([x, y]) => [(x + shiftX) * scaleX, (y + shiftY) * scaleY]),
  }
}

// The row in steps of a pixel at which the outputs of engines, which differ in their last digits, agree.
function rounded({ x, y, width, height, landmarks, score }, stepsPerPixel) {
  const round = value => roundHalfEven(value * stepsPerPixel) / stepsPerPixel
  const points = landmarks.map(point => point.map(round))
  return { x: round(x), y: round(y), width: round(width), height: round(height), landmarks: points, score }
}

// Intersection over union of two [x, y, width, height].
function overlap([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const inside =
    Math.max(Math.min(ax + aw, bx + bw) - Math.max(ax, bx), 0) *
    Math.max(Math.min(ay + ah, by + bh) - Math.max(ay, by), 0)
  return inside / Math.max(aw * ah + bw * bh - inside, 1e-9)
}
