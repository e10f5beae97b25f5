// Finds every face of a picture, once: model/face_detection.py's YuNetDetector, step by step. A face is
// {box: [x0, y0, x1, y1], score, landmarks: five points, roll: degrees, isRollCertain}, in pixels of the picture.

import {areApart, drawTurns, readTurns} from "./face_orientation.js"
import {search} from "./face_search.js"
import {HalvedPicture, apply, cropMatrix, invert, mean, pad, shrink, turnClockwise} from "./geometry.js"
import {scaleRow} from "./yunet.js"

const MIN_SCORE = 0.7 // the default of AgeGenderPipeline

export class FaceDetector {
  constructor(yunet, settings) {
    this.yunet = yunet
    this.settings = settings
  }

  // All faces of a still picture, from left to right.
  async detect(picture, minScore = MIN_SCORE) {
    const rows = await search(this.yunet, picture, this.settings)
    let faces = await this.#lookClosely(picture, rows, minScore)
    // Where the close look saw no face in what was found at first, a further find has to be likelier.
    const least = rows.length ? this.settings.likely_score : this.settings.candidate_score
    const likely = more => more.filter(row => row.score >= least)
    if (faces.length) return fromLeft(faces)
    const filling = await this.#detectFillingFace(picture)
    faces = await this.#lookClosely(picture, likely(filling), minScore)
    if (!faces.length) faces = await this.#lookClosely(picture, likely(await this.#detectInTurnedPicture(picture)), minScore)
    if (!faces.length) faces = await this.#lookOnceMore(picture, [...rows, ...filling], minScore)
    return fromLeft(faces)
  }

  // One search of a camera's frame at `side` -> candidates, the likeliest first.
  async search(picture, side) {
    return this.#candidates(await this.yunet.detect(picture, side))
  }

  // A close look at each candidate -> its face, or null where there is none, or one that is `known` or another candidate's.
  async confirm(picture, candidates, known = [], minScore = MIN_SCORE) {
    const faces = [], halved = new HalvedPicture(picture)
    for (const candidate of candidates) {
      const face = await this.#lookAt(halved, candidate, minScore)
      const isApart = other => distance(mean(face.landmarks), mean(other.landmarks)) > (other.box[2] - other.box[0]) / 4
      faces.push(face && [...known, ...faces].every(other => !other || isApart(other)) ? face : null)
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
    return likeliest.map(({x, y, width, height, score, landmarks}) =>
      ({box: [x, y, x + width, y + height], score, landmarks, roll: null, isRollCertain: true}))
  }

  async #lookAt(picture, candidate, minScore) {
    const {likely_score, other_margins} = this.settings
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
    const {last_margins, last_score, last_candidates} = this.settings
    const halved = new HalvedPicture(picture), looks = []
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
    const {turned_score, upright_score, turn_score, clear_lead, first_lead, same_roll_degrees} = this.settings
    let first = await this.#look(picture, candidate)
    const tried = []
    const settleFirst = async () => {
      tried.push(await this.#settle(picture, first))
      first = null
    }
    if (first && first.face.score >= turned_score) {
      await settleFirst()
      if (tried[0].score >= upright_score) return tried[0]
    }
    const {sheet, matrices} = drawTurns(picture, candidate.box, this.settings)
    const rows = await this.yunet.detectUnscaled(sheet, turn_score)
    const turns = readTurns(rows, matrices, this.settings, landmarks => this.#rollOf(landmarks))
    const isClear = turns.length < 2 || turns[0].score - turns[1].score >= clear_lead
    for (const turn of isClear ? turns.slice(0, 1) : turns) {
      if (first && !areApart(turn.roll, first.face.roll, same_roll_degrees)) await settleFirst()
      if (!tried.every(face => areApart(turn.roll, face.roll, same_roll_degrees))) continue
      const look = await this.#look(picture, {...candidate, landmarks: turn.landmarks})
      if (look) tried.push(await this.#settle(picture, look))
    }
    if (first && first.face.score > Math.max(0, ...tried.map(face => face.score)) - first_lead) await settleFirst()
    if (!tried.length) return null
    const chosen = best(tried)
    const others = tried.filter(face => areApart(face.roll, chosen.roll)).map(face => face.score)
    const isProposed = isClear && !(turns.length && areApart(chosen.roll, turns[0].roll))
    return {...chosen, isRollCertain: isProposed || chosen.score - Math.max(0, ...others) >= clear_lead}
  }

  // Detect the face again in its own upright crop -> the face, and whether another look would find about the same; or null.
  async #look(picture, face) {
    const found = await this.#detectInCrop(picture, face, this.settings.close_margin)
    if (!found) return null
    const [turn, growth] = change(this.#matrix(face, 1), this.#matrix(found, 1))
    return {face: found, isSettled: Math.abs(turn) < 8 && growth > 0.9 && growth < 1.1}
  }

  // Look again, at most twice, until a look finds about what the one before found.
  async #settle(picture, look) {
    for (let more = 0; more < 2; more++) {
      const again = look.isSettled ? null : await this.#look(picture, look.face)
      if (!again) break
      look = again
    }
    return look.face
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
    return {...face, landmarks, score: rows[nearest].score, roll: this.#rollOf(landmarks)}
  }

  // How far the head is turned, in degrees clockwise as seen, -180 to 180.
  #rollOf(landmarks) {
    const matrix = this.#matrix({landmarks, box: [0, 0, 1, 1]}, 1)
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
    const rows = await this.yunet.detect(pad(small, margin, margin, margin, margin), half)
    return rows.map(row => scaleRow(row, picture.width / small.width, picture.height / small.height, -margin, -margin))
  }
}

const fromLeft = faces => faces.sort((one, other) => one.box[0] + one.box[2] - other.box[0] - other.box[2])

// The face with the highest score; null where all are null.
const best = faces => faces.reduce((most, face) => (face && (!most || face.score > most.score) ? face : most), null)

const distance = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by)

// How far a similarity turned, in degrees, and by what factor it grew, to become the other one.
function change(before, after) {
  const turn = Math.atan2(after[3], after[0]) - Math.atan2(before[3], before[0])
  const degrees = (turn * 180) / Math.PI
  return [degrees - 360 * Math.round(degrees / 360), Math.hypot(after[0], after[3]) / Math.hypot(before[0], before[3])]
}
