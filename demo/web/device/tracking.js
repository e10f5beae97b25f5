// Faces before a camera keep their numbers. Boxes are never averaged, or they would trail behind a moving face: between two
// detections they move on as the face did, with its speed and, where detections are far apart, its acceleration. Logits are
// averaged, so that answers do not flicker.

// A face moves by at most so many of its widths between two detections, whichever is more.
const FARTHEST_WIDTHS = 2,
  FARTHEST_WIDTHS_A_SECOND = 6
const FORGOTTEN_MS = 800 // a face that is missing for longer starts anew
const AVERAGED_MS = 770 // time constant of the moving average of logits: 0.35 for a new answer after a third of a second
const NEWEST_SPEED = 0.6 // weight of the last movement in the speed
const IMPOSSIBLE = 1e6
const FARTHEST_MS = 500 // a box moves on for at most so long
// Detections further apart than this say how a speed changes; the noise of nearer ones would hide it.
const ACCELERATION_MS = 90,
  ACCELERATION_SHARE = 0.7

// What the detector finds are candidates. A track is of a face once a close look confirmed it, and gets its number then.
export class Tracks {
  tracks = []

  // Follow the candidates of a frame that was taken at `time` (milliseconds) -> the track of each.
  update(candidates, time) {
    this.tracks = this.tracks.filter(track => time - track.time <= FORGOTTEN_MS)
    const known = this.#match(candidates, time)
    return candidates.map((candidate, index) => {
      const track = known[index] ?? this.#add(candidate, time)
      if (known[index]) move(track, candidate, time)
      return track
    })
  }

  // Take in what a close look at the track's candidate found: a face, or null. One blurred frame does not end a face: it is
  // doubtful then, and ends with the next look that does not find it.
  confirm(track, face) {
    track.isDoubtful = !face && track.face !== null && !track.isDoubtful
    if (!track.isDoubtful) track.face = face
    if (face) track.number ??= this.#freeNumber()
  }

  // Which track each candidate continues, if any: the assignment with the smallest sum of squared distances. A sum of distances,
  // or the nearest track of each, would swap two faces that both move by the gap between them.
  #match(candidates, time) {
    const { tracks } = this
    const farthest = Math.max(FARTHEST_WIDTHS, ...tracks.map(track => reach(track, time)))
    const starts = candidates.map(() => farthest ** 2) // a column for each candidate that starts a track
    const costs = candidates.map(candidate => [...tracks.map(track => cost(candidate, track, time)), ...starts])
    return assign(costs).map(column => tracks[column])
  }

  #add(candidate, time) {
    const still = { speed: [0, 0], acceleration: [0, 0], lastSpeed: null, lastPassed: 0 }
    const never = { looked: -Infinity, answered: -Infinity }
    const track = { number: null, candidate, face: null, isDoubtful: false, time, ...still, logits: null, ...never }
    this.tracks.push(track)
    return track
  }

  #freeNumber() {
    const taken = new Set(this.tracks.map(track => track.number))
    let number = 1
    while (taken.has(number)) number++
    return number
  }
}

const reach = (track, time) => Math.max(FARTHEST_WIDTHS, (FARTHEST_WIDTHS_A_SECOND * (time - track.time)) / 1000)

// In squared widths of the face; very large for faces too far apart or of another size. A face may move on as it did, or stay.
function cost(candidate, track, time) {
  const width = (widthOf(candidate.box) + widthOf(track.candidate.box)) / 2
  const growth = widthOf(candidate.box) / widthOf(track.candidate.box)
  if (growth > 2 || growth < 0.5) return IMPOSSIBLE
  const distances = [time, track.time].map(at => {
    const [x, y] = middle(boxAt(track, at)),
      [u, v] = middle(candidate.box)
    return ((x - u) ** 2 + (y - v) ** 2) / width ** 2
  })
  const squared = Math.min(...distances)
  return squared > reach(track, time) ** 2 ? IMPOSSIBLE : squared
}

function move(track, candidate, time) {
  const passed = time - track.time
  if (passed > 0) {
    const [from, to] = [middle(track.candidate.box), middle(candidate.box)]
    const fresh = to.map((value, axis) => (value - from[axis]) / passed)
    // `fresh` was the speed half way between two detections: what changed since then is added.
    const isFar = passed > ACCELERATION_MS && track.lastSpeed
    const between = (passed + track.lastPassed) / 2
    track.acceleration = fresh.map((speed, axis) =>
      isFar ? (ACCELERATION_SHARE * (speed - track.lastSpeed[axis])) / between : 0,
    )
    track.speed = fresh.map((speed, axis) =>
      isFar
        ? speed + (track.acceleration[axis] * passed) / 2
        : (1 - NEWEST_SPEED) * track.speed[axis] + NEWEST_SPEED * speed,
    )
    Object.assign(track, { lastSpeed: fresh, lastPassed: passed })
  }
  Object.assign(track, { candidate, time })
}

// Where the face is expected at `time`.
export function boxAt({ candidate, time: seen, speed, acceleration }, time) {
  const passed = Math.min(Math.max(time - seen, 0), FARTHEST_MS)
  const moved = speed.map((value, axis) => value * passed + (acceleration[axis] * passed ** 2) / 2)
  return candidate.box.map((value, index) => value + moved[index % 2])
}

// Average the track's logits with those of a frame that was taken at `time`.
export function learn(track, { age, gender }, time) {
  const weight = track.logits ? 1 - Math.exp(-(time - track.answered) / AVERAGED_MS) : 1
  const average = (old, fresh) =>
    Array.from(fresh, (value, index) => (old ? (1 - weight) * old[index] + weight * value : value))
  track.logits = { age: average(track.logits?.age, age), gender: average(track.logits?.gender, gender) }
  track.answered = time
}

const widthOf = box => box[2] - box[0]
const middle = ([x0, y0, x1, y1]) => [(x0 + x1) / 2, (y0 + y1) / 2]

// The column of each row with the smallest sum of costs; no more rows than columns. The Hungarian method, with potentials.
function assign(costs) {
  const rows = costs.length,
    columns = costs[0]?.length ?? 0
  const ofRow = new Float64Array(rows + 1),
    ofColumn = new Float64Array(columns + 1)
  const rowAt = new Int32Array(columns + 1) // counted from 1; 0 is nothing
  for (let row = 1; row <= rows; row++) {
    const least = new Float64Array(columns + 1).fill(Infinity),
      from = new Int32Array(columns + 1),
      isDone = new Uint8Array(columns + 1)
    let column = 0
    for (rowAt[0] = row; rowAt[column] !== 0; ) {
      isDone[column] = 1
      const current = rowAt[column]
      let next = 0,
        step = Infinity
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
