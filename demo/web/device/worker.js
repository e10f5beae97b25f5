// One of two workers, so that the page never waits: "find" detects and aligns faces, "answer" runs the age and gender network.
// They run at the same time: boxes come at the camera's pace, answers at the network's.

import * as runtime from "./runtime/ort.wasm.bundle.min.mjs"
import {FaceDetector} from "./face_detector.js"
import {cropMatrix, squareMatrix, warpSquare} from "./geometry.js"
import {YuNet} from "./yunet.js"

const BACKGROUND = "white" // of a transparent picture, as in the pipeline

const tasks = {
  // `wasm` and `network` are the bytes of the runtime and of an ONNX file.
  async start({role, wasm, network, manifest}) {
    runtime.env.wasm.wasmBinary = wasm
    runtime.env.wasm.numThreads = 1 // more need a page that is isolated from other sites, which a Space inside another page is not
    runtime.env.logLevel = "error"
    // 8-bit weights are turned into floats once, when the file is read, and not at each run
    const options = {executionProviders: ["wasm"], extra: {session: {disable_quant_qdq: "1"}}}
    const session = await runtime.InferenceSession.create(network, options)
    const {config, preprocessor, detector} = manifest
    Object.assign(state, {session, config, preprocessor, settings: detector})
    if (role === "find") state.detector = new FaceDetector(new YuNet(runtime, session, detector), detector)
    return {}
  },

  // A picture (an ImageBitmap) -> its faces, and their crops (N, S, S, 4) one after the other.
  // `side`: search a frame of the camera at this size only. `whole`: the picture is one face.
  async find({bitmap, side, whole}) {
    const times = {start: performance.now()}
    const picture = pixelsOf(bitmap)
    times.pixels = performance.now()
    const {landmarks_xy, image_size} = state.config
    let faces, matrices
    if (whole) {
      const {width, height} = picture
      faces = [{box: [0, 0, width, height], score: null, landmarks: null, roll: null, isRollCertain: true}]
      matrices = [squareMatrix([width / 2, height / 2], Math.min(width, height), image_size)]
    } else {
      faces = await (side ? state.detector.detectLive(picture, side) : state.detector.detect(picture))
      matrices = faces.map(face => cropMatrix(face, landmarks_xy, image_size, state.settings.box_crop))
    }
    times.detected = performance.now()
    const bytes = 4 * image_size * image_size
    const crops = new Uint8ClampedArray(faces.length * bytes)
    matrices.forEach((matrix, index) => crops.set(warpSquare(picture, matrix, image_size).data, index * bytes))
    const milliseconds = {
      pixels: times.pixels - times.start,
      detect: times.detected - times.pixels,
      align: performance.now() - times.detected,
    }
    return {faces, crops, width: picture.width, height: picture.height, milliseconds}
  },

  // Crops (N, S, S, 4) -> logits of each: {age: N times max_age + 1, gender: N times two}.
  async answer({crops, count}) {
    const start = performance.now()
    const {session, config} = state
    const side = config.image_size
    const input = new runtime.Tensor("float32", normalise(crops, count, side, state.preprocessor), [count, 3, side, side])
    const outputs = await session.run({[session.inputNames[0]]: input})
    const rows = output => Array.from({length: count}, (_, index) => {
      const length = output.data.length / count
      return output.data.slice(index * length, (index + 1) * length)
    })
    const logits = {age: rows(outputs.age_logits), gender: rows(outputs.gender_logits)}
    return {...logits, milliseconds: {model: performance.now() - start}}
  },
}
const state = {}

function pixelsOf(bitmap) {
  const {width, height} = bitmap
  state.canvas ??= new OffscreenCanvas(width, height)
  Object.assign(state.canvas, {width, height})
  const context = state.canvas.getContext("2d", {willReadFrequently: true, alpha: false})
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
      const to = (3 * face + channel) * plane, from = 4 * face * plane + channel
      for (let pixel = 0; pixel < plane; pixel++) values[to + pixel] = (crops[from + 4 * pixel] * rescale - mean) / deviation
    }
  }
  return values
}

addEventListener("message", async ({data: {id, task, ...parts}}) => {
  try {
    const result = await tasks[task](parts)
    postMessage({id, result}, result.crops ? [result.crops.buffer] : [])
  } catch (error) {
    postMessage({id, error: String(error?.message ?? error)})
  }
})
