// One of two workers, so that the page never waits. For a live camera the first searches frames, and the second looks closely at
// what it found, aligns faces and runs the age and gender network: they run at the same time, so that boxes come at the camera's
// pace and answers at the network's. For a picture the first does all but the network.

import { FaceDetector } from './face_detector.js'
import { cropMatrix, squareMatrix, warpSquare } from './geometry.js'
import { Runtime } from './networks.js'
import { YuNet } from './yunet.js'

const BACKGROUND = 'white' // of a transparent picture, as in the pipeline

const tasks = {
  // The bytes of the runtime for `engine`, of YuNet and, for the second worker, of the age and gender network. Says what runs it.
  async start({ engine, wasm, detector, network = null, manifest, isForced = false }) {
    const runtime = await Runtime.start(engine, wasm)
    const { config, preprocessor, detector: settings } = manifest
    const yunet = new YuNet(await runtime.open(detector), settings)
    const side = config.image_size
    const trial = Float32Array.from(
      { length: 3 * side * side },
      (_, index) => Math.sin(index / 7) + Math.cos(index / 450),
    )
    const ages = network && (await runtime.openFastest(network, trial, [1, 3, side, side], isForced))
    Object.assign(state, { ages, config, preprocessor, settings, detector: new FaceDetector(yunet, settings) })
    return { engine: ages?.engine }
  },

  // A picture (an ImageBitmap) -> its faces, and their crops (N, S, S, 4) concatenated. `whole`: the picture is one face.
  async find({ bitmap, whole }) {
    const picture = pixelsOf(bitmap)
    const { width, height } = picture
    if (!whole) return { ...cut(picture, await state.detector.detect(picture)), width, height }
    const face = { box: [0, 0, width, height], score: null, landmarks: null, roll: null, isRollCertain: true }
    const { image_size } = state.config
    const matrix = squareMatrix([width / 2, height / 2], Math.min(width, height), image_size)
    return { faces: [face], crops: warpSquare(picture, matrix, image_size).data, width, height }
  },

  // A camera's frame (an ImageBitmap) -> candidates of one search at `side`, and the frame's pixels.
  async search({ bitmap, side }) {
    const start = performance.now()
    const picture = pixelsOf(bitmap)
    const drawn = performance.now()
    const candidates = await state.detector.search(picture, side)
    const { data, width, height } = picture
    return {
      candidates,
      picture: { data, width, height },
      milliseconds: { pixels: drawn - start, detect: performance.now() - drawn },
    }
  },

  // Candidates in a frame's pixels -> the face of each, or null; and the crops of the faces. `known`: faces not to be found again.
  async align({ picture, candidates, known }) {
    const start = performance.now()
    const faces = await state.detector.confirm(picture, candidates, known)
    const { crops } = cut(picture, faces.filter(Boolean))
    return { faces, crops, milliseconds: performance.now() - start }
  },

  // Crops (N, S, S, 4) -> logits of each: {age: N times max_age + 1, gender: N times two}; and what ran the network.
  async answer({ crops, count }) {
    const { ages, config } = state
    const side = config.image_size
    const outputs = await ages.run(normalise(crops, count, side, state.preprocessor), [count, 3, side, side])
    const rows = output =>
      Array.from({ length: count }, (_, index) => {
        const length = output.data.length / count
        return output.data.slice(index * length, (index + 1) * length)
      })
    return { age: rows(outputs.age_logits), gender: rows(outputs.gender_logits), engine: ages.engine }
  },
}
const state = {}

// Faces with the crops of all, concatenated.
function cut(picture, faces) {
  const { landmarks_xy, image_size } = state.config
  const bytes = 4 * image_size * image_size
  const crops = new Uint8ClampedArray(faces.length * bytes)
  faces.forEach((face, index) => {
    const matrix = cropMatrix(face, landmarks_xy, image_size, state.settings.box_crop)
    crops.set(warpSquare(picture, matrix, image_size).data, index * bytes)
  })
  return { faces, crops }
}

function pixelsOf(bitmap) {
  const { width, height } = bitmap
  state.canvas ??= new OffscreenCanvas(width, height)
  Object.assign(state.canvas, { width, height })
  const context = state.canvas.getContext('2d', { willReadFrequently: true, alpha: false })
  context.fillStyle = BACKGROUND
  context.fillRect(0, 0, width, height)
  context.drawImage(bitmap, 0, 0)
  bitmap.close()
  return context.getImageData(0, 0, width, height)
}

// (N, S, S, 4) bytes -> (N, 3, S, S) floats, as preprocessor_config.json says.
function normalise(crops, count, side, preprocessor) {
  const plane = side * side
  const values = new Float32Array(count * 3 * plane)
  const rescale = preprocessor.do_rescale ? preprocessor.rescale_factor : 1
  for (let channel = 0; channel < 3; channel++) {
    const mean = preprocessor.do_normalize ? preprocessor.image_mean[channel] : 0
    const deviation = preprocessor.do_normalize ? preprocessor.image_std[channel] : 1
    for (let face = 0; face < count; face++) {
      const to = (3 * face + channel) * plane,
        from = 4 * face * plane + channel
      for (let pixel = 0; pixel < plane; pixel++)
        values[to + pixel] = (crops[from + 4 * pixel] * rescale - mean) / deviation
    }
  }
  return values
}

async function perform({ id, task, ...parts }) {
  try {
    const result = await tasks[task](parts)
    postMessage(
      { id, result },
      [result.crops, result.picture?.data].flatMap(bytes => (bytes ? [bytes.buffer] : [])),
    )
  } catch (error) {
    postMessage({ id, error: String(error?.message ?? error) })
  }
}

// Sequentially: the runtime cannot begin a run while it waits for the graphics processor.
let last = Promise.resolve()
addEventListener('message', ({ data }) => {
  last = last.then(() => perform(data))
})
