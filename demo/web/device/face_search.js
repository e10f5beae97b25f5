// First detections in a picture of any size, by searches at several scales: model/face_search.py, which says why.

import { crop, shrink } from './geometry.js'
import { areOne, merge, scaleRow, suppress } from './yunet.js'

// Rows of YuNet in pixels of `picture`, and its faint ones, best first: {rows, faint}.
export async function search(yunet, picture, settings) {
  const { coarse_side, fine_side, candidate_score, faint_score, max_faint, hint_score } = settings
  const fine = shrink(picture, fine_side / Math.max(picture.width, picture.height))
  const longest = Math.max(fine.width, fine.height)
  const isCandidate = row => row.score >= candidate_score
  let seen = await yunet.candidates(fine, coarse_side, hint_score)
  let rows = suppress(seen.filter(isCandidate))
  if (longest > 2 * coarse_side) {
    seen = await yunet.candidates(fine, Math.floor(longest / 2), hint_score)
    rows = merge(rows, suppress(seen.filter(isCandidate)))
  }
  if (longest > coarse_side) {
    const regions = findRegions(hints(seen, rows, longest, settings), fine, settings)
    rows = merge(rows, await searchRegions(yunet, fine, regions, settings))
  }
  const likeliest = suppress([...seen].sort((one, other) => other.score - one.score).slice(0, max_faint))
  const faint = likeliest.filter(row => row.score >= faint_score && !isCandidate(row))
  const inPicture = row => scaleRow(row, picture.width / fine.width, picture.height / fine.height)
  return { rows: rows.map(inPicture), faint: faint.map(inPicture) }
}

// Small faces that may be there, unless they are likely ones among `rows`.
function hints(seen, rows, longest, { coarse_side, likely_score, hint_width }) {
  const most = hint_width * (longest / Math.max(Math.floor(longest / 2), coarse_side))
  const likely = rows.filter(row => row.score >= likely_score)
  return seen.filter(
    row =>
      row.score < likely_score && Math.max(row.width, row.height) <= most && !likely.some(other => areOne(row, other)),
  )
}

// Hints -> rectangles of the picture to search, [x0, y0, x1, y1].
function findRegions(rows, picture, { block, whole_share }) {
  const [columns, lines] = [picture.width, picture.height].map(side => Math.ceil(side / block))
  const marked = new Uint8Array(columns * lines)
  const at = (value, count) => Math.min(Math.max(Math.floor(value / block), 0), count - 1)
  for (const { x, y, width, height } of rows) {
    for (const across of [0, 0.5, 1])
      for (const down of [0, 0.5, 1]) {
        const column = at(x + across * width, columns),
          line = at(y + down * height, lines)
        for (let near = Math.max(line - 1, 0); near <= Math.min(line + 1, lines - 1); near++) {
          marked.fill(
            1,
            near * columns + Math.max(column - 1, 0),
            near * columns + Math.min(column + 1, columns - 1) + 1,
          )
        }
      }
  }
  const regions = []
  for (let index = 0; index < marked.length; index++)
    if (marked[index]) regions.push(takeConnected(marked, index, columns))
  const area = regions.reduce((sum, [x0, y0, x1, y1]) => sum + (x1 - x0) * (y1 - y0), 0)
  const all = area >= whole_share * marked.length ? [[0, 0, columns, lines]] : regions
  return all.map(region => region.map(side => side * block))
}

// Unmark the blocks connected with one, along rows and columns -> the rectangle around them, in blocks.
function takeConnected(marked, start, columns) {
  const box = [Infinity, Infinity, 0, 0],
    open = [start]
  marked[start] = 0
  const take = index => {
    if (marked[index]) open.push(index)
    marked[index] = 0
  }
  while (open.length) {
    const index = open.pop(),
      x = index % columns,
      y = Math.floor(index / columns)
    box[0] = Math.min(box[0], x)
    box[1] = Math.min(box[1], y)
    box[2] = Math.max(box[2], x + 1)
    box[3] = Math.max(box[3], y + 1)
    if (x > 0) take(index - 1)
    if (x + 1 < columns) take(index + 1)
    if (y > 0) take(index - columns)
    if (index + columns < marked.length) take(index + columns)
  }
  return box
}

async function searchRegions(yunet, picture, regions, { candidate_score }) {
  const found = []
  for (const [x0, y0, x1, y1] of regions) {
    const rows = await yunet.detectUnscaled(crop(picture, x0, y0, x1, y1), candidate_score)
    found.push(...rows.map(row => scaleRow(row, 1, 1, x0, y0)))
  }
  return found
}
