// YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023): its input, and what its twelve outputs mean.
// OpenCV's FaceDetectorYN does the same for model/face_detection.py.

import {pad, shrink} from "./geometry.js"

const STRIDES = [8, 16, 32] // pixels between the cells of each output
const NMS_OVERLAP = 0.3 // of two boxes that are the same face
const MOST_CANDIDATES = 5000

export class YuNet {
  // `runtime` is onnxruntime; `settings` is the manifest's `detector`.
  constructor(runtime, session, settings) {
    this.runtime = runtime
    this.session = session
    this.settings = settings
  }

  // Rows {x, y, width, height, landmarks, score} in pixels of `picture`, the best first. It never enlarges the picture.
  async detect(picture, longestSide) {
    const small = shrink(picture, longestSide / Math.max(picture.width, picture.height))
    const least = this.settings.min_input_side // OpenCV finds nonsense in narrower strips
    const padded = pad(small, 0, 0, Math.max(least - small.width, 0), Math.max(least - small.height, 0))
    const [scaleX, scaleY] = [picture.width / small.width, picture.height / small.height]
    return (await this.#run(padded))
      .filter(row => Math.min(row.width, row.height) > 1)
      .map(row => scaleRow(row, scaleX, scaleY))
  }

  // The same of a picture as it is, from a lower score on.
  detectUnscaled(picture, leastScore) {
    return this.#run(picture, leastScore)
  }

  async #run(picture, leastScore = this.settings.candidate_score) {
    const [width, height] = [picture.width, picture.height].map(side => Math.ceil(side / 32) * 32)
    const input = new Float32Array(3 * width * height), plane = width * height
    for (let y = 0; y < picture.height; y++) {
      for (let x = 0; x < picture.width; x++) {
        const from = 4 * (y * picture.width + x), to = y * width + x
        input[to] = picture.data[from + 2] // blue, green, red
        input[plane + to] = picture.data[from + 1]
        input[2 * plane + to] = picture.data[from]
      }
    }
    const tensor = new this.runtime.Tensor("float32", input, [1, 3, height, width])
    const outputs = await this.session.run({[this.session.inputNames[0]]: tensor})
    const rows = STRIDES.flatMap(stride => decode(outputs, stride, width / stride, leastScore))
    return suppress(rows.sort(byScore).slice(0, MOST_CANDIDATES), row => [row.x, row.y, row.width, row.height].map(Math.trunc))
  }
}

function decode(outputs, stride, columns, leastScore) {
  const [classes, objects, boxes, points] = ["cls", "obj", "bbox", "kps"].map(name => outputs[`${name}_${stride}`].data)
  const within = value => Math.min(Math.max(value, 0), 1)
  const rows = []
  for (let index = 0; index < classes.length; index++) {
    const score = Math.sqrt(within(classes[index]) * within(objects[index]))
    if (score < leastScore) continue
    const row = Math.floor(index / columns), column = index % columns
    const [width, height] = [2, 3].map(k => Math.exp(boxes[4 * index + k]) * stride)
    const x = (column + boxes[4 * index]) * stride - width / 2
    const y = (row + boxes[4 * index + 1]) * stride - height / 2
    const landmarks = [0, 1, 2, 3, 4].map(k => [
      (points[10 * index + 2 * k] + column) * stride,
      (points[10 * index + 2 * k + 1] + row) * stride,
    ])
    rows.push({x, y, width, height, landmarks, score})
  }
  return rows
}

const byScore = (one, other) => other.score - one.score

// Non-maximum suppression; `rows` come with the best score first. `boxOf` gives [x, y, width, height].
function suppress(rows, boxOf) {
  const kept = []
  for (const row of rows) if (kept.every(other => overlap(boxOf(row), boxOf(other)) <= NMS_OVERLAP)) kept.push(row)
  return kept
}

// Rows found at two scales, of each face the one with the higher score.
export function merge(rows, moreRows) {
  return suppress([...rows, ...moreRows].sort(byScore), row => [row.x, row.y, row.width, row.height])
}

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

// Intersection over union of two [x, y, width, height].
function overlap([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const inside = Math.max(Math.min(ax + aw, bx + bw) - Math.max(ax, bx), 0) * Math.max(Math.min(ay + ah, by + bh) - Math.max(ay, by), 0)
  return inside / Math.max(aw * ah + bw * bh - inside, 1e-9)
}
