// Faces before a camera keep their numbers. Boxes are never averaged, or they would trail behind a moving face: between two
// detections they move on as fast as the face did. Logits are averaged, so that answers do not flicker.

const FARTHEST_WIDTHS = 2 // a face moves by at most so many of its widths between two detections
const FORGOTTEN_MS = 800 // a face that is missing for longer starts anew
const AVERAGED_MS = 770 // time constant of the moving average of logits: 0.35 for a new answer after a third of a second
const NEWEST_SPEED = 0.6 // weight of the last movement in the speed
const IMPOSSIBLE = 1e6
const FARTHEST_MS = 250 // a box moves on for at most so long

export class Tracks {
  tracks = []

  // Number the faces of a frame that was taken at `time` (milliseconds) -> the track of each.
  update(faces, time) {
    this.tracks = this.tracks.filter(track => time - track.time <= FORGOTTEN_MS)
    const known = this.#match(faces, time)
    return faces.map((face, index) => {
      const track = known[index] ?? this.#add(face, time)
      if (known[index]) move(track, face, time)
      return track
    })
  }

  // Which track each face continues, if any: the assignment with the smallest sum of squared distances. A sum of distances, or
  // the nearest track of each, would swap two faces that move side by side by the gap between them.
  #match(faces, time) {
    const {tracks} = this
    const starts = faces.map(() => FARTHEST_WIDTHS ** 2) // a column for each face that starts a track
    const costs = faces.map(face => [...tracks.map(track => cost(face, track, time)), ...starts])
    return assign(costs).map(column => tracks[column])
  }

  #add(face, time) {
    const taken = new Set(this.tracks.map(track => track.number))
    let number = 1
    while (taken.has(number)) number++
    const track = {number, face, time, speed: [0, 0], logits: null, answered: -Infinity}
    this.tracks.push(track)
    return track
  }
}

// In squared widths of the face; very large for faces too far apart or of another size. A face may go on as it moved, or stay.
function cost(face, track, time) {
  const width = (widthOf(face.box) + widthOf(track.face.box)) / 2
  const growth = widthOf(face.box) / widthOf(track.face.box)
  if (growth > 2 || growth < 0.5) return IMPOSSIBLE
  const distances = [time, track.time].map(at => {
    const [x, y] = middle(boxAt(track, at)), [u, v] = middle(face.box)
    return ((x - u) ** 2 + (y - v) ** 2) / width ** 2
  })
  const squared = Math.min(...distances)
  return squared > FARTHEST_WIDTHS ** 2 ? IMPOSSIBLE : squared
}

function move(track, face, time) {
  const passed = time - track.time
  if (passed > 0) {
    const [from, to] = [middle(track.face.box), middle(face.box)]
    track.speed = track.speed.map((speed, axis) => (1 - NEWEST_SPEED) * speed + (NEWEST_SPEED * (to[axis] - from[axis])) / passed)
  }
  track.face = face
  track.time = time
}

// Where the face is expected at `time`.
export function boxAt(track, time) {
  const passed = Math.min(Math.max(time - track.time, 0), FARTHEST_MS)
  return track.face.box.map((value, index) => value + track.speed[index % 2] * passed)
}

// Average the track's logits with those of a frame that was taken at `time`.
export function learn(track, {age, gender}, time) {
  const weight = track.logits ? 1 - Math.exp(-(time - track.answered) / AVERAGED_MS) : 1
  const average = (old, fresh) => Array.from(fresh, (value, index) => (old ? (1 - weight) * old[index] + weight * value : value))
  track.logits = {age: average(track.logits?.age, age), gender: average(track.logits?.gender, gender)}
  track.answered = time
}

const widthOf = box => box[2] - box[0]
const middle = ([x0, y0, x1, y1]) => [(x0 + x1) / 2, (y0 + y1) / 2]

// The column of each row with the smallest sum of costs; no more rows than columns. The Hungarian method, with potentials.
function assign(costs) {
  const rows = costs.length, columns = costs[0]?.length ?? 0
  const ofRow = new Float64Array(rows + 1), ofColumn = new Float64Array(columns + 1)
  const rowAt = new Int32Array(columns + 1) // counted from 1; 0 is nothing
  for (let row = 1; row <= rows; row++) {
    const least = new Float64Array(columns + 1).fill(Infinity), from = new Int32Array(columns + 1), isDone = new Uint8Array(columns + 1)
    let column = 0
    for (rowAt[0] = row; rowAt[column] !== 0; ) {
      isDone[column] = 1
      const current = rowAt[column]
      let next = 0, step = Infinity
      for (let other = 1; other <= columns; other++) {
        if (isDone[other]) continue
        const reduced = costs[current - 1][other - 1] - ofRow[current] - ofColumn[other]
        if (reduced < least[other]) [least[other], from[other]] = [reduced, column]
        if (least[other] < step) [step, next] = [least[other], other]
      }
      for (let other = 0; other <= columns; other++) {
        if (isDone[other]) [ofRow[rowAt[other]], ofColumn[other]] = [ofRow[rowAt[other]] + step, ofColumn[other] - step]
        else least[other] -= step
      }
      column = next
    }
    for (; column; column = from[column]) rowAt[column] = rowAt[from[column]]
  }
  const chosen = new Array(rows)
  for (let column = 1; column <= columns; column++) if (rowAt[column]) chosen[rowAt[column] - 1] = column - 1
  return chosen
}
