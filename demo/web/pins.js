// Where the numbers of faces go: outside every face, as near to their own as there is room.

const ANGLES = [-90, -135, -45, 180, 0, 90, 135, 45] // degrees; above first, because chins have necks below them
const RINGS = [0, 0.6, 1.4, 2.4, 4, 6, 9] // distances from the box in radii

// boxes: [[x0, y0, x1, y1]] in pixels of a picture of width x height pixels as shown; radius: of a pin; above: room over the picture.
// -> [{ x, y }], the middles of the pins: outside every box and of each other where that can be done inside the picture, else
// at the picture's edge, outside it.
export function placePins(boxes, width, height, radius, above = 0) {
  const pins = []
  for (const box of boxes) {
    const places = RINGS.flatMap(ring => ANGLES.map(angle => around(box, angle, radius * (1.15 + ring))))
    const inside = places.filter(
      ({ x, y }) => x >= radius && y >= radius - above && x <= width - radius && y <= height - radius,
    )
    pins.push(
      inside.find(place => isFree(place, boxes, pins, radius)) ??
        besidePicture(box, width, height, boxes, pins, radius),
    )
  }
  return pins
}

export function isFree({ x, y }, boxes, pins, radius) {
  const touchesBox = boxes.some(([x0, y0, x1, y1]) => {
    const dx = Math.max(x0 - x, 0, x - x1)
    const dy = Math.max(y0 - y, 0, y - y1)
    return Math.hypot(dx, dy) < radius
  })
  return !touchesBox && pins.every(pin => Math.hypot(pin.x - x, pin.y - y) >= 2 * radius)
}

// At `distance` from the middle of the box's edge, or from its corner, in the direction of `angle`.
function around([x0, y0, x1, y1], angle, distance) {
  const radians = (angle * Math.PI) / 180
  const across = Math.round(Math.cos(radians))
  const down = Math.round(Math.sin(radians))
  return {
    x: (x0 + x1) / 2 + (across * (x1 - x0)) / 2 + distance * Math.cos(radians),
    y: (y0 + y1) / 2 + (down * (y1 - y0)) / 2 + distance * Math.sin(radians),
  }
}

// Just outside the picture, level with the face: the nearest free place on its four sides.
function besidePicture([x0, y0, x1, y1], width, height, boxes, pins, radius) {
  const x = (x0 + x1) / 2
  const y = (y0 + y1) / 2
  const out = 1.1 * radius
  const places = []
  for (let shift = 0; shift < Math.max(width, height); shift += radius / 2) {
    for (const side of [shift, -shift]) {
      places.push(
        { x: x + side, y: -out },
        { x: x + side, y: height + out },
        { x: -out, y: y + side },
        { x: width + out, y: y + side },
      )
    }
  }
  const near = places
    .filter(place => isFree(place, boxes, pins, radius))
    .map(place => ({ ...place, far: Math.hypot(place.x - x, place.y - y) }))
  const [best] = near.sort((a, b) => a.far - b.far)
  return best ? { x: best.x, y: best.y } : { x, y: -out }
}

// The end of a pin's line at its face: the nearest point of the box.
export function lineEnd({ x, y }, [x0, y0, x1, y1]) {
  return { x: Math.min(Math.max(x, x0), x1), y: Math.min(Math.max(y, y0), y1) }
}
