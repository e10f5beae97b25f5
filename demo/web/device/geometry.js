// Pictures and the matrices that cut faces out of them: model/face_alignment.py and the parts of OpenCV that it uses.
//
// A picture is {data, width, height} with RGBA bytes, as ImageData has them; the alpha is ignored. A matrix [a, b, c, d, e, f]
// maps (x, y) to (a x + b y + c, d x + e y + f); the first pixel covers 0 to 1.

const LARGEST_MULTIPLE = 16 // samples of a crop's pixel along each axis

export const roundHalfEven = value => {
  const low = Math.floor(value)
  const rest = value - low
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1
}

export const apply = ([a, b, c, d, e, f], [x, y]) => [a * x + b * y + c, d * x + e * y + f]

export function invert([a, b, c, d, e, f]) {
  const determinant = a * e - b * d
  const [ia, ib, id, ie] = [e / determinant, -b / determinant, -d / determinant, a / determinant]
  return [ia, ib, -(ia * c + ib * f), id, ie, -(id * c + ie * f)]
}

export function mean(points) {
  const sum = points.reduce(([x, y], point) => [x + point[0], y + point[1]], [0, 0])
  return [sum[0] / points.length, sum[1] / points.length]
}

// The similarity without reflection that brings points closest to others, or null if they are one point (Umeyama, 1991).
function similarity(from, to) {
  const [fromX, fromY] = mean(from)
  const [toX, toY] = mean(to)
  let spread = 0,
    real = 0,
    imaginary = 0
  from.forEach(([x, y], index) => {
    const [u, v] = [x - fromX, y - fromY]
    const [s, t] = [to[index][0] - toX, to[index][1] - toY]
    spread += u * u + v * v
    real += u * s + v * t
    imaginary += u * t - v * s
  })
  if (spread < 1e-6 || Math.hypot(real, imaginary) / spread < 1e-6) return null
  const [p, q] = [real / spread, imaginary / spread]
  return [p, -q, toX - p * fromX + q * fromY, q, p, toY - q * fromX - p * fromY]
}

// Maps the square around `center`, with `side` pixels and turned clockwise, to [0, size] in both directions.
export function squareMatrix([x, y], side, size, turnDegrees = 0) {
  const turn = (turnDegrees * Math.PI) / 180
  const [p, q] = [(size / side) * Math.cos(turn), (-size / side) * Math.sin(turn)]
  return [p, -q, size / 2 - p * x + q * y, q, p, size / 2 - q * x - p * y]
}

// Picture to crop. By the face's landmarks where it has some, else by where the training crop lies around its box.
export function cropMatrix(face, template, size, boxCrop) {
  if (face.landmarks) {
    const matrix = similarity(
      face.landmarks,
      template.map(([x, y]) => [x * size, y * size]),
    )
    if (matrix) return matrix
  }
  const [x0, y0, x1, y1] = face.box
  const [left, top, right, bottom] = boxCrop
  const [width, height] = [x1 - x0, y1 - y0]
  const center = [x0 + (width * (left + right)) / 2, y0 + (height * (top + bottom)) / 2]
  return squareMatrix(center, Math.sqrt((right - left) * width * (bottom - top) * height), size)
}

// The square crop of `size` pixels, without aliasing: each of its pixels is the mean of several samples of a large face.
// The samples are those of OpenCV's warpAffine, to a thirty-second of a pixel and rounded, so that crops equal the pipeline's.
// `border`: "replicate" repeats the edge pixels past the edge, "black" does not.
export function warpSquare(picture, matrix, size, border = 'replicate') {
  const { data, width, height } = picture
  const scale = Math.hypot(matrix[0], matrix[3])
  const multiple = scale < 1 ? Math.ceil(Math.min(1 / scale, LARGEST_MULTIPLE) - 1e-6) : 1
  const samples = size * multiple
  const [a, b, c, d, e, f] = invert(matrix)
  // From the index of a sample to that of a pixel: both have their coordinates at their middles.
  const half = 0.5 / multiple
  const startX = a * half + b * half + c - 0.5,
    startY = d * half + e * half + f - 0.5
  const fixed = value => Math.round(value * 1024)
  const acrossX = Int32Array.from({ length: samples }, (_, index) => fixed((a * index) / multiple))
  const acrossY = Int32Array.from({ length: samples }, (_, index) => fixed((d * index) / multiple))
  const isBlack = border === 'black'
  const sums = new Int32Array(size * 3)
  const crop = new Uint8ClampedArray(size * size * 4).fill(255)
  for (let row = 0; row < samples; row++) {
    const downX = fixed((b * row) / multiple + startX) + 16,
      downY = fixed((e * row) / multiple + startY) + 16
    for (let column = 0; column < samples; column++) {
      const x = (downX + acrossX[column]) >> 5,
        y = (downY + acrossY[column]) >> 5
      const left = x >> 5,
        top = y >> 5,
        right = x & 31,
        down = y & 31
      let red = 0,
        green = 0,
        blue = 0
      for (let corner = 0; corner < 4; corner++) {
        let pixelX = left + (corner & 1),
          pixelY = top + (corner >> 1)
        const weight = (corner & 1 ? right : 32 - right) * (corner >> 1 ? down : 32 - down)
        if (pixelX < 0 || pixelY < 0 || pixelX >= width || pixelY >= height) {
          if (isBlack) continue
          pixelX = pixelX < 0 ? 0 : pixelX >= width ? width - 1 : pixelX
          pixelY = pixelY < 0 ? 0 : pixelY >= height ? height - 1 : pixelY
        }
        const at = 4 * (pixelY * width + pixelX)
        red += weight * data[at]
        green += weight * data[at + 1]
        blue += weight * data[at + 2]
      }
      const to = 3 * ((column / multiple) | 0)
      sums[to] += (red + 512) >> 10
      sums[to + 1] += (green + 512) >> 10
      sums[to + 2] += (blue + 512) >> 10
    }
    if ((row + 1) % multiple) continue
    const line = 4 * size * ((row / multiple) | 0)
    for (let column = 0; column < size; column++) {
      for (let channel = 0; channel < 3; channel++) {
        crop[line + 4 * column + channel] = roundMean(
          sums[3 * column + channel] / (multiple * multiple),
          multiple === 2,
        )
      }
    }
    sums.fill(0)
  }
  return { data: crop, width: size, height: size }
}

// A picture and its halvings, each made when it is first needed: a large face is cut out of one in less time.
export class HalvedPicture {
  constructor(picture) {
    this.levels = [picture]
  }

  // As the function, with black past the edge, from the halving that has one to two pixels for each of the crop's.
  warpSquare(matrix, size) {
    const halvings = Math.max(Math.trunc(-Math.log2(Math.hypot(matrix[0], matrix[3]))), 0)
    while (this.levels.length <= halvings) this.levels.push(shrink(this.levels.at(-1), 0.5))
    const [picture, level] = [this.levels[0], this.levels[halvings]]
    const [x, y] = [picture.width / level.width, picture.height / level.height]
    const [a, b, c, d, e, f] = matrix
    return warpSquare(level, [a * x, b * y, c, d * x, e * y, f], size, 'black')
  }
}

// OpenCV's INTER_AREA rounds halves up where it averages squares of two by two, and elsewhere to even numbers.
const roundMean = (value, isOfSquares) => (isOfSquares ? Math.floor(value + 0.5) : roundHalfEven(value))

// Shrink by averaging areas, as OpenCV's INTER_AREA; a picture that is not to be shrunk is returned itself.
export function shrink(picture, scale) {
  if (scale >= 1) return picture
  const [width, height] = [picture.width, picture.height].map(side => Math.max(roundHalfEven(side * scale), 1))
  const columns = areaWeights(picture.width, width),
    rows = areaWeights(picture.height, height)
  const isOfSquares = picture.width === 2 * width && picture.height === 2 * height
  const data = new Uint8ClampedArray(width * height * 4).fill(255)
  const sums = new Float32Array(width * 3),
    line = new Float32Array(width * 3)
  for (let y = 0; y < height; y++) {
    sums.fill(0)
    for (let k = rows.starts[y]; k < rows.starts[y + 1]; k++) {
      const start = 4 * rows.indices[k] * picture.width,
        weight = rows.weights[k]
      line.fill(0)
      for (let x = 0; x < width; x++) {
        for (let m = columns.starts[x]; m < columns.starts[x + 1]; m++) {
          const at = start + 4 * columns.indices[m],
            share = columns.weights[m]
          line[3 * x] += share * picture.data[at]
          line[3 * x + 1] += share * picture.data[at + 1]
          line[3 * x + 2] += share * picture.data[at + 2]
        }
      }
      for (let i = 0; i < sums.length; i++) sums[i] += weight * line[i]
    }
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) data[4 * (y * width + x) + c] = roundMean(sums[3 * x + c], isOfSquares)
    }
  }
  return { data, width, height }
}

// Which source pixels each of `target` pixels covers, and what share of it each of them is.
function areaWeights(source, target) {
  const scale = source / target
  const starts = [0],
    indices = [],
    weights = []
  for (let pixel = 0; pixel < target; pixel++) {
    const from = pixel * scale,
      to = from + scale,
      cell = Math.min(scale, source - from)
    const last = Math.min(Math.floor(to), source - 1),
      first = Math.min(Math.ceil(from), last)
    const add = (index, weight) => {
      indices.push(index)
      weights.push(weight / cell)
    }
    if (first - from > 1e-3) add(first - 1, first - from)
    for (let index = first; index < last; index++) add(index, 1)
    if (to - last > 1e-3) add(last, Math.min(to - last, 1, cell))
    starts.push(indices.length)
  }
  return { starts, indices, weights }
}

// The picture turned clockwise by 90 degrees.
export function turnClockwise({ data, width, height }) {
  const from = new Uint32Array(data.buffer, data.byteOffset, width * height),
    to = new Uint32Array(width * height)
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) to[x * height + height - 1 - y] = from[y * width + x]
  return { data: new Uint8ClampedArray(to.buffer), width: height, height: width }
}

// The part of a picture from (x0, y0) to (x1, y1), as far as there is one.
export function crop(picture, x0, y0, x1, y1) {
  const width = Math.min(x1, picture.width) - x0,
    height = Math.min(y1, picture.height) - y0
  const data = new Uint8ClampedArray(4 * width * height)
  for (let row = 0; row < height; row++) {
    const start = 4 * ((y0 + row) * picture.width + x0)
    data.set(picture.data.subarray(start, start + 4 * width), 4 * row * width)
  }
  return { data, width, height }
}

// A black margin of so many pixels on each side.
export function pad(picture, margin) {
  const width = picture.width + 2 * margin,
    height = picture.height + 2 * margin
  const data = new Uint8ClampedArray(width * height * 4)
  for (let row = 0; row < picture.height; row++) {
    const line = picture.data.subarray(4 * row * picture.width, 4 * (row + 1) * picture.width)
    data.set(line, 4 * ((row + margin) * width + margin))
  }
  return { data, width, height }
}
