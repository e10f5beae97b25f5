// Which way up a face is: one picture of the face in twelve turns, which the detector searches at once. As
// model/face_orientation.py, whose `settings` these are.

import { apply, invert, squareMatrix, warpSquare } from './geometry.js'

// A HalvedPicture and a box -> the picture of all turns, and of each turn the matrix from `picture` to its cell.
export function drawTurns(picture, [x0, y0, x1, y1], settings) {
  const { turn_degrees, cell_side, columns, square_to_box, around_side, around_to_square } = settings
  const width = cell_side * columns,
    height = (cell_side * turn_degrees.length) / columns
  const data = new Uint8ClampedArray(4 * width * height)
  const side = square_to_box * Math.sqrt((x1 - x0) * (y1 - y0)),
    middle = [(x0 + x1) / 2, (y0 + y1) / 2]
  const around = picture.warpSquare(squareMatrix(middle, side * around_to_square, around_side), around_side)
  const matrices = turn_degrees.map((degrees, index) => {
    const fromAround = squareMatrix(
      [around_side / 2, around_side / 2],
      around_side / around_to_square,
      cell_side,
      degrees,
    )
    const cell = warpSquare(around, fromAround, cell_side, 'black').data
    const left = (index % columns) * cell_side,
      top = Math.floor(index / columns) * cell_side
    for (let row = 0; row < cell_side; row++) {
      data.set(cell.subarray(4 * row * cell_side, 4 * (row + 1) * cell_side), 4 * ((top + row) * width + left))
    }
    return squareMatrix(middle, side, cell_side, degrees)
  })
  return { sheet: { data, width, height }, matrices }
}

// Detections on such a picture, best first -> the likeliest turn, and the likeliest of another orientation: {score, landmarks,
// roll}, in pixels of the whole picture. `rollOf`: of landmarks.
export function readTurns(rows, matrices, { turn_degrees, cell_side, columns, max_offset, max_roll_in_cell }, rollOf) {
  const turns = []
  for (const { x, y, width, height, landmarks, score } of rows) {
    const middle = [x + width / 2, y + height / 2]
    const [column, line] = middle.map(at => Math.floor(at / cell_side))
    const matrix = column >= 0 && column < columns ? matrices[line * columns + column] : undefined
    if (!matrix) continue
    const corner = [column * cell_side, line * cell_side]
    const offset = Math.hypot(...middle.map((at, axis) => at - corner[axis] - cell_side / 2))
    const rollInCell = rollOf(landmarks),
      roll = rollInCell + turn_degrees[line * columns + column]
    if (offset > max_offset * cell_side || Math.abs(rollInCell) > max_roll_in_cell) continue
    if (turns.length && !areApart(roll, turns[0].roll)) continue
    const back = invert(matrix)
    turns.push({ score, roll, landmarks: landmarks.map(([u, v]) => apply(back, [u - corner[0], v - corner[1]])) })
    if (turns.length === 2) break
  }
  return turns
}

// Whether two rolls are two orientations, and not one measured twice.
export function areApart(first, second, least = 60) {
  const turn = (((first - second + 180) % 360) + 360) % 360
  return Math.abs(turn - 180) > least
}
