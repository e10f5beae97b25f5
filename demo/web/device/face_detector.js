// Finds every face of a picture, once: model/face_detection.py's YuNetDetector, step by step. A face is
// {box: [x0, y0, x1, y1], score, landmarks: five points, roll: degrees, isRollCertain}, in pixels of the picture.

import { areApart, drawTurns, readTurns } from './face_orientation.js'
import { search } from './face_search.js'
import { apply, cropMatrix, HalvedPicture, invert, mean, pad, shrink, turnClockwise } from './geometry.js'
import { scaleRow } from './yunet.js'

export class FaceDetector {
  constructor(yunet, settings) {
    this.yunet = yunet
    this.settings = settings
  }

  // All faces of a still picture, from left to right.
  async detect(picture, minScore = this.settings.min_score) {
    const { rows, faint } = await search(this.yunet, picture, this.settings)
    let faces = await this.#lookClosely(picture, rows, minScore)
    if (!faces.length) faces = await this.#lookAtFaint(picture, faint, minScore)
    // Where the close look saw no face in what was found at first, a further find has to be likelier.
    const least = rows.length ? this.settings.likely_score : this.settings.candidate_score
    const likely = more => more.filter(row => row.score >= least)
    if (faces.length) return fromLeft(faces)
    const filling = await this.#detectFillingFace(picture)
    faces = await this.#lookClosely(picture, likely(filling), minScore)
    if (!faces.length)
      faces = await this.#lookClosely(picture, likely(await this.#detectInTurnedPicture(picture)), minScore)
    if (!faces.length) faces = await this.#lookOnceMore(picture, [...rows, ...filling], minScore)
    return fromLeft(faces)
  }

  // One search of a camera's frame at `side` -> candidates, the likeliest first.
  async search(picture, side) {
    return this.#candidates(await this.yunet.detect(picture, side))
  }

  // A close look at each candidate -> its face, or null where there is none, or one that is `known` or another candidate's.
  async confirm(picture, candidates, known = [], minScore = this.settings.min_score) {
    const faces = [],
      halved = new HalvedPicture(picture)
    for (const candidate of candidates) {
      const face = await this.#lookAt(halved, candidate, minScore)
      faces.push(face && isNew(face, [...known, ...faces].filter(Boolean)) ? face : null)
    }
    return faces
  }

  // Faint detections, best first -> those that are faces in one of their turns, until several are none.
  async #lookAtFaint(picture, rows, minScore) {
    const { faint_turn_score, faint_face_score, faint_failures } = this.settings
    const faces = [],
      halved = new HalvedPicture(picture)
    let failures = 0
    for (const candidate of this.#candidates(rows)) {
      const turns = await this.#detectTurns(halved, candidate)
      const isLikely = turns.length && turns[0].score >= faint_turn_score
      const face = this.#choose(isLikely ? await this.#lookAtTurns(halved, candidate, turns) : [], turns)
      if (face && face.score >= Math.max(minScore, faint_face_score)) {
        if (isNew(face, faces)) faces.push(await this.#lookAgain(halved, face))
      } else if (++failures === faint_failures) break
    }
    return faces
  }

  // First detections -> those that are faces on a close look, each once.
  async #lookClosely(picture, rows, minScore) {
    return (await this.confirm(picture, this.#candidates(rows), [], minScore)).filter(Boolean)
  }

  // A candidate is a face whose landmarks and score are those of a first detection.
  #candidates(rows) {
    const likeliest = [...rows].sort((one, other) => other.score - one.score).slice(0, this.settings.max_faces)
    return likeliest.map(({ x, y, width, height, score, landmarks }) => ({
      box: [x, y, x + width, y + height],
      score,
      landmarks,
      roll: null,
      isRollCertain: true,
    }))
  }

  async #lookAt(picture, candidate, minScore) {
    const { likely_score, other_margins } = this.settings
    let face = await this.#findUpright(picture, candidate)
    if (candidate.score >= likely_score && (!face || face.score < minScore)) {
      // Blurred faces, profiles and faces that fill the picture score higher when seen larger or smaller.
      const looks = []
      for (const margin of other_margins) looks.push(await this.#detectInCrop(picture, face ?? candidate, margin))
      face = best([...looks, face])
    }
    return face && face.score >= minScore ? face : null
  }

  // The likeliest face around the best first detections, in crops of more sizes.
  async #lookOnceMore(picture, rows, minScore) {
    const { last_margins, last_score, last_candidates } = this.settings
    const halved = new HalvedPicture(picture),
      looks = []
    for (const candidate of this.#candidates(rows).slice(0, last_candidates)) {
      for (const begin of [candidate, await this.#findUpright(halved, candidate)]) {
        if (begin) for (const margin of last_margins) looks.push(await this.#detectInCrop(halved, begin, margin))
      }
    }
    const face = best(looks)
    return face && face.score >= Math.max(minScore, last_score) ? [face] : []
  }

  // The face in its most likely orientation, and whether that is certain; null where there is none.
  async #findUpright(picture, candidate) {
    const { sure_score, upright_score, turned_score } = this.settings
    const isSure = candidate.score >= sure_score
    const tried = isSure ? await this.#lookAndSettle(picture, candidate) : []
    if (tried.length && tried[0].score >= upright_score) return this.#lookAgain(picture, tried[0])
    const turns = await this.#detectTurns(picture, candidate)
    tried.push(...(await this.#lookAtTurns(picture, candidate, turns, tried)))
    if (!isSure && Math.max(0, ...tried.map(face => face.score)) < turned_score) {
      tried.push(...(await this.#lookAndSettle(picture, candidate)))
    }
    const chosen = this.#choose(tried, turns)
    return chosen && this.#lookAgain(picture, chosen)
  }

  async #detectTurns(picture, { box }) {
    const { sheet, matrices } = drawTurns(picture, box, this.settings)
    const rows = await this.yunet.detectUnscaled(sheet, this.settings.turn_score)
    return readTurns(rows, matrices, this.settings, landmarks => this.#rollOf(landmarks))
  }

  // Close looks at the proposed turns, but for those that a face in `tried` is near.
  async #lookAtTurns(picture, candidate, turns, tried = []) {
    const faces = []
    for (const { roll, landmarks } of this.#isClear(turns) ? turns.slice(0, 1) : turns) {
      if (![...tried, ...faces].every(face => areApart(roll, face.roll, this.settings.same_roll_degrees))) continue
      faces.push(...(await this.#lookAndSettle(picture, { ...candidate, landmarks })))
    }
    return faces
  }

  // The face with the highest score, or null. Its roll is certain if the turns clearly propose it, or if its score leads.
  #choose(tried, turns) {
    if (!tried.length) return null
    const chosen = best(tried)
    const others = tried.filter(face => areApart(face.roll, chosen.roll)).map(face => face.score)
    const isProposed = this.#isClear(turns) && !(turns.length && areApart(chosen.roll, turns[0].roll))
    return { ...chosen, isRollCertain: isProposed || chosen.score - Math.max(0, ...others) >= this.settings.clear_lead }
  }

  #isClear(turns) {
    return turns.length < 2 || turns[0].score - turns[1].score >= this.settings.clear_lead
  }

  // Detect the face again in its own upright crop, until a look finds about what the one before found -> [face], or [].
  async #lookAndSettle(picture, face) {
    let last = []
    for (let look = 0; look < 3; look++) {
      const found = await this.#detectInCrop(picture, face, this.settings.close_margin)
      if (!found) break
      last = [found]
      const [turn, growth] = change(this.#matrix(face, 1), this.#matrix(found, 1))
      if (Math.abs(turn) < 8 && growth > 0.9 && growth < 1.1) break
      face = found
    }
    return last
  }

  // The face with the mean landmarks of two close looks: those of one vary by a pixel, and its age by a year.
  async #lookAgain(picture, face) {
    const again = await this.#detectInCrop(picture, face, this.settings.close_margin)
    if (!again) return face
    const landmarks = face.landmarks.map((point, index) => mean([point, again.landmarks[index]]))
    return { ...face, landmarks, roll: this.#rollOf(landmarks) }
  }

  async #detectInCrop(picture, face, margin) {
    const cropSide = this.settings.crop_side
    const side = cropSide / (1 + 2 * margin)
    const matrix = this.#matrix(face, side)
    matrix[2] += margin * side
    matrix[5] += margin * side
    const rows = await this.yunet.detect(picture.warpSquare(matrix, cropSide), cropSide)
    if (!rows.length) return null
    // By landmarks and not by boxes, because on profiles the two have different centres.
    const [templateX, templateY] = mean(this.settings.landmarks_xy)
    const expected = [(templateX + margin) * side, (templateY + margin) * side]
    const away = rows.map(row => distance(mean(row.landmarks), expected))
    const nearest = away.indexOf(Math.min(...away))
    if (away[nearest] > side / 4) return null
    const back = invert(matrix)
    const landmarks = rows[nearest].landmarks.map(point => apply(back, point))
    return { ...face, landmarks, score: rows[nearest].score, roll: this.#rollOf(landmarks) }
  }

  // How far the head is turned, in degrees clockwise as seen, -180 to 180.
  #rollOf(landmarks) {
    const matrix = this.#matrix({ landmarks, box: [0, 0, 1, 1] }, 1)
    return (-Math.atan2(matrix[3], matrix[0]) * 180) / Math.PI
  }

  #matrix(face, size) {
    return cropMatrix(face, this.settings.landmarks_xy, size, this.settings.box_crop)
  }

  // Of faces that lie on their side a quarter is not found at first.
  async #detectInTurnedPicture(picture) {
    const rows = await this.yunet.detect(turnClockwise(picture), this.settings.coarse_side)
    return rows.map(row => ({
      score: row.score,
      x: row.y,
      y: picture.height - row.x - row.width,
      width: row.height,
      height: row.width,
      landmarks: row.landmarks.map(([x, y]) => [y, picture.height - x]),
    }))
  }

  // Shrink and pad the picture: a face that fills it is too large for the network and has no surroundings.
  async #detectFillingFace(picture) {
    const half = Math.floor(this.settings.coarse_side / 2)
    const small = shrink(picture, (0.75 * this.settings.coarse_side) / 2 / Math.max(picture.width, picture.height))
    const margin = Math.floor(Math.max(small.width, small.height) / 6)
    const rows = await this.yunet.detect(pad(small, margin), half)
    return rows.map(row => scaleRow(row, picture.width / small.width, picture.height / small.height, -margin, -margin))
  }
}

const fromLeft = faces => faces.sort((one, other) => one.box[0] + one.box[2] - other.box[0] - other.box[2])

// The face with the highest score; null where all are null.
const best = faces => faces.reduce((most, face) => (face && (!most || face.score > most.score) ? face : most), null)

// Two first detections may be refined to the same face.
const isNew = (face, faces) =>
  faces.every(other => distance(mean(face.landmarks), mean(other.landmarks)) > (other.box[2] - other.box[0]) / 4)

const distance = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by)

// How far a similarity turned, in degrees, and by what factor it grew, to become the other one.
function change(before, after) {
  const turn = Math.atan2(after[3], after[0]) - Math.atan2(before[3], before[0])
  const degrees = (turn * 180) / Math.PI
  return [degrees - 360 * Math.round(degrees / 360), Math.hypot(after[0], after[3]) / Math.hypot(before[0], before[3])]
}
