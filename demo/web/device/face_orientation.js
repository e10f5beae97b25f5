// Which way up a face is: one picture of the face in twelve turns, which the detector searches at once. As
// model/face_orientation.py, whose `settings` these are.

import {apply, invert, squareMatrix, warpSquare} from "./geometry.js"

// -> the picture of all turns, and of each turn the matrix from `picture` to its cell.
export function drawTurns(picture, [x0, y0, x1, y1], {turn_degrees, cell_side, columns, square_to_box}) {
  const width = cell_side * columns, height = (cell_side * turn_degrees.length) / columns
  const data = new Uint8ClampedArray(4 * width * height)
  const side = square_to_box * Math.sqrt((x1 - x0) * (y1 - y0))
  const matrices = turn_degrees.map((degrees, index) => {
    const matrix = squareMatrix([(x0 + x1) / 2, (y0 + y1) / 2], side, cell_side, degrees)
    const cell = warpSquare(picture, matrix, cell_side, "black").data
    const left = (index % columns) * cell_side, top = Math.floor(index / columns) * cell_side
    for (let row = 0; row < cell_side; row++) {
      data.set(cell.subarray(4 * row * cell_side, 4 * (row + 1) * cell_side), 4 * ((top + row) * width + left))
    }
    return matrix
  })
  return {sheet: {data, width, height}, matrices}
}

// Detections on such a picture -> [{score, landmarks}] in pixels of the whole picture, best first. `rollOf`: of landmarks.
export function readTurns(rows, matrices, {cell_side, columns, max_offset, max_roll_in_cell}, rollOf) {
  const turns = []
  for (const {x, y, width, height, landmarks, score} of rows) {
    const middle = [x + width / 2, y + height / 2]
    const [column, line] = middle.map(at => Math.floor(at / cell_side))
    const matrix = column >= 0 && column < columns ? matrices[line * columns + column] : undefined
    if (!matrix) continue
    const corner = [column * cell_side, line * cell_side]
    const offset = Math.hypot(...middle.map((at, axis) => at - corner[axis] - cell_side / 2))
    if (offset > max_offset * cell_side || Math.abs(rollOf(landmarks)) > max_roll_in_cell) continue
    const back = invert(matrix)
    turns.push({score, landmarks: landmarks.map(([u, v]) => apply(back, [u - corner[0], v - corner[1]]))})
  }
  return turns.sort((one, other) => other.score - one.score)
}

// Whether two rolls are two orientations, and not one measured twice.
export function areApart(first, second, least = 60) {
  const turn = (((first - second + 180) % 360) + 360) % 360
  return Math.abs(turn - 180) > least
}
