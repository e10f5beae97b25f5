// The order in which faces are numbered: as a page is read, row by row, and from left to right in a row.

export function inReadingOrder(faces) {
  const left = [...faces].sort((a, b) => middle(a)[1] - middle(b)[1])
  const rows = []
  for (const face of left) {
    const row = rows.at(-1)
    const height = face.box[3] - face.box[1]
    // In one row: the middle lies less than half a face's height below the mean of the row's middles.
    if (row && middle(face)[1] - row.y < 0.5 * Math.max(height, row.height)) {
      row.faces.push(face)
      row.y += (middle(face)[1] - row.y) / row.faces.length
      row.height = Math.max(row.height, height)
    } else rows.push({ faces: [face], y: middle(face)[1], height })
  }
  return rows.flatMap(row => row.faces.sort((a, b) => middle(a)[0] - middle(b)[0]))
}

function middle({ box: [x0, y0, x1, y1] }) {
  return [(x0 + x1) / 2, (y0 + y1) / 2]
}
