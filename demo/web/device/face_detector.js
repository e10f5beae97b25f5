// Finds every face of a picture, once: model/face_detection.py's YuNetDetector, step by step. A face is
// {box: [x0, y0, x1, y1], score, landmarks: five points}, in pixels of the picture.

import {apply, cropMatrix, invert, mean, pad, shrink, warpSquare} from "./geometry.js"
import {merge, scaleRow} from "./yunet.js"

const MIN_SCORE = 0.7 // the default of AgeGenderPipeline
const MOST_LOOKS = 3
const LOOK_MARGIN = 0.25 // around the crop of a second look, as a share of its side

export class FaceDetector {
  constructor(yunet, settings) {
    this.yunet = yunet
    this.settings = settings
  }

  // All faces of a still picture, from left to right.
  async detect(picture, minScore = MIN_SCORE) {
    const {coarse_side, fine_sides} = this.settings
    const longest = Math.max(picture.width, picture.height)
    let rows = await this.yunet.detect(picture, coarse_side)
    let previousSide = coarse_side
    for (const side of fine_sides) {
      if (longest <= previousSide) break
      rows = merge(rows, await this.yunet.detect(picture, side)) // whatever was found: a near face must not hide far ones
      previousSide = side
    }
    const faces = await this.#confirm(picture, rows, minScore)
    return faces.length ? faces : this.#confirm(picture, await this.#detectFillingFace(picture), minScore)
  }

  // The faces of a camera's frame: one search at `side`, so that the next frame need not wait.
  async detectLive(picture, side, minScore = MIN_SCORE) {
    return this.#confirm(picture, await this.yunet.detect(picture, side), minScore)
  }

  async #confirm(picture, rows, minScore) {
    const faces = []
    for (const row of [...rows].sort((one, other) => other.score - one.score).slice(0, this.settings.max_faces)) {
      const first = {box: [row.x, row.y, row.x + row.width, row.y + row.height], score: row.score, landmarks: row.landmarks}
      const face = await this.#refine(picture, first)
      if (!face || face.score < minScore) continue
      // Two first detections may be refined to the same face.
      const isNew = faces.every(other => distance(mean(face.landmarks), mean(other.landmarks)) > (other.box[2] - other.box[0]) / 4)
      if (isNew) faces.push(face)
    }
    return faces.sort((one, other) => one.box[0] + one.box[2] - other.box[0] - other.box[2])
  }

  // Detect the face again in its own upright crop, for better landmarks and score; null if it is not found there.
  async #refine(picture, face) {
    let refined = null
    for (let look = 0; look < MOST_LOOKS; look++) {
      const before = refined ?? face
      const found = await this.#detectInCrop(picture, before, LOOK_MARGIN)
      if (!found) break
      const [turn, growth] = change(this.#matrix(before, 1), this.#matrix(found, 1))
      refined = found
      if (Math.abs(turn) < 8 && growth > 0.9 && growth < 1.1) break
    }
    return refined
  }

  async #detectInCrop(picture, face, margin) {
    const cropSide = this.settings.crop_side
    const side = cropSide / (1 + 2 * margin)
    const matrix = this.#matrix(face, side)
    matrix[2] += margin * side
    matrix[5] += margin * side
    const rows = await this.yunet.detect(warpSquare(picture, matrix, cropSide, "black"), cropSide)
    if (!rows.length) return null
    // By landmarks and not by boxes, because on profiles the two have different centres.
    const [templateX, templateY] = mean(this.settings.landmarks_xy)
    const expected = [(templateX + margin) * side, (templateY + margin) * side]
    const away = rows.map(row => distance(mean(row.landmarks), expected))
    const nearest = away.indexOf(Math.min(...away))
    if (away[nearest] > side / 4) return null
    const back = invert(matrix)
    return {...face, landmarks: rows[nearest].landmarks.map(point => apply(back, point)), score: rows[nearest].score}
  }

  #matrix(face, size) {
    return cropMatrix(face, this.settings.landmarks_xy, size, this.settings.box_crop)
  }

  // Shrink and pad the picture: a face that fills it is too large for the network and has no surroundings.
  async #detectFillingFace(picture) {
    const half = Math.floor(this.settings.coarse_side / 2)
    const small = shrink(picture, (0.75 * this.settings.coarse_side) / 2 / Math.max(picture.width, picture.height))
    const margin = Math.floor(Math.max(small.width, small.height) / 6)
    const rows = await this.yunet.detect(pad(small, margin, margin, margin, margin), half)
    return rows.map(row => scaleRow(row, picture.width / small.width, picture.height / small.height, -margin, -margin))
  }
}

const distance = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by)

// How far a similarity turned, in degrees, and by what factor it grew, to become the other one.
function change(before, after) {
  const turn = Math.atan2(after[3], after[0]) - Math.atan2(before[3], before[0])
  const degrees = (turn * 180) / Math.PI
  return [degrees - 360 * Math.round(degrees / 360), Math.hypot(after[0], after[3]) / Math.hypot(before[0], before[3])]
}
