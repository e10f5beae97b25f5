// Faces before a camera keep their numbers. Boxes are never averaged, or they would trail behind a moving face: between two
// detections they move on as fast as the face did. Logits are averaged, so that answers do not flicker.

const FARTHEST_WIDTHS = 2 // a face moves by at most so many of its widths between two detections
const FORGOTTEN_MS = 800 // a face that is missing for longer starts anew
const AVERAGED_MS = 770 // time constant of the moving average of logits: 0.35 for a new answer after a third of a second
const NEWEST_SPEED = 0.6 // weight of the last movement in the speed
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
    const costs = faces.map(face => tracks.map(track => cost(face, track, time)))
    const pairs = costs.flatMap((row, face) => row.map((value, track) => ({face, track, value})))
    const trackOf = new Array(faces.length).fill(-1), faceOf = new Array(tracks.length).fill(-1)
    for (const {face, track, value} of pairs.sort((one, other) => one.value - other.value)) {
      if (value === Infinity || trackOf[face] >= 0 || faceOf[track] >= 0) continue
      trackOf[face] = track
      faceOf[track] = face
    }
    // Swap the tracks of two faces, or give a face's track to one without, as long as that is better.
    const none = FARTHEST_WIDTHS ** 2 // what a face without a track costs
    const costOf = (face, track) => (track < 0 ? none : costs[face][track])
    for (let isBetter = true; isBetter; ) {
      isBetter = false
      for (let a = 0; a < faces.length; a++) {
        for (let b = 0; b < a; b++) {
          const now = costOf(a, trackOf[a]) + costOf(b, trackOf[b])
          if (costOf(a, trackOf[b]) + costOf(b, trackOf[a]) < now - 1e-9) {
            [trackOf[a], trackOf[b]] = [trackOf[b], trackOf[a]]
            isBetter = true
          }
        }
        for (let track = 0; track < tracks.length; track++) {
          if (trackOf.includes(track) || costOf(a, track) >= costOf(a, trackOf[a]) - 1e-9) continue
          trackOf[a] = track
          isBetter = true
        }
      }
    }
    return trackOf.map(track => tracks[track])
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

// In squared widths of the face; Infinity for faces too far apart or of another size. A face may go on as it moved, or stay.
function cost(face, track, time) {
  const width = (widthOf(face.box) + widthOf(track.face.box)) / 2
  const growth = widthOf(face.box) / widthOf(track.face.box)
  if (growth > 2 || growth < 0.5) return Infinity
  const distances = [time, track.time].map(at => {
    const [x, y] = middle(boxAt(track, at)), [u, v] = middle(face.box)
    return ((x - u) ** 2 + (y - v) ** 2) / width ** 2
  })
  const squared = Math.min(...distances)
  return squared > FARTHEST_WIDTHS ** 2 ? Infinity : squared
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
