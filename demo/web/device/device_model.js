// The served model on this device: fetched from the demo's own address, run in two workers, answering as the pipeline does.

import { text } from '../texts.js'
import { decode, NO_ANSWER, whyAbstained } from './decoding.js'
import { roundHalfEven } from './geometry.js'
import { bestEngine } from './networks.js'

const MOST_PIXELS = 50_000_000 // of a picture, as in the pipeline
const FACES_PER_RUN = 8 // bounds the memory
const WEBGPU_MS = 20_000 // to start in: a driver may wait for ever
// What the server answers in place of a manifest, by its status.
const REFUSALS = { 401: 'error_login', 404: 'device_not_prepared' }
// A function with SIMD instructions: the runtime is built with them, and a browser that refuses these cannot run it.
const SIMD_PROBE = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]

export class DeviceError extends Error {}

// Why this browser cannot run the model, or null.
export function whyUnsupported() {
  if (typeof WebAssembly !== 'object') return text('device_no_wasm')
  if (!WebAssembly.validate(new Uint8Array(SIMD_PROBE))) return text('device_no_simd')
  if (typeof OffscreenCanvas === 'undefined' || !OffscreenCanvas.prototype.getContext) return text('device_no_canvas')
  if (typeof Worker === 'undefined') return text('device_no_workers')
  return null
}

export class DeviceModel {
  // Fetch a model. `onProgress(loaded, total)` is told the bytes. `engine`: "wasm" or "webgpu", else the fastest that works.
  // Throws `DeviceError`.
  static async load(manifestUrl, onProgress = () => {}, engine = null) {
    const unsupported = whyUnsupported()
    if (unsupported) throw new DeviceError(unsupported)
    const manifest = await fetchManifest(manifestUrl)
    const start = async used => {
      const { [`runtime_${used}`]: runtime, model, face_detector: faceDetector } = manifest.files
      const files = [runtime, model, faceDetector]
      const total = files.reduce((sum, { bytes }) => sum + bytes, 0)
      let loaded = 0
      const count = bytes => {
        loaded += bytes
        onProgress(loaded, total)
      }
      onProgress(0, total)
      const contents = await Promise.all(
        files.map(file => fetchFile(new URL(file.url, manifestUrl), file.bytes, count)),
      )
      const device = new DeviceModel(manifest)
      const limit = used === 'webgpu' && !engine && setTimeout(() => device.close(), WEBGPU_MS)
      await device.#start(used, engine !== null, contents)
      clearTimeout(limit)
      return device
    }
    const used = engine ?? (await bestEngine())
    if (engine || used === 'wasm') return start(used)
    // The runtime for graphics processors starts nothing where the browser gives it none after all.
    return start(used).catch(() => start('wasm'))
  }

  constructor(manifest) {
    this.manifest = manifest
    this.config = manifest.config
  }

  async #start(engine, isForced, [wasm, network, detector]) {
    this.finder = new RemoteTasks()
    this.answerer = new RemoteTasks()
    const parts = { engine, isForced, wasm, detector, manifest: this.manifest }
    try {
      const [, answerer] = await Promise.all([
        this.finder.call('start', parts),
        this.answerer.call('start', { ...parts, network }),
      ])
      this.engine = answerer.engine // that runs the age and gender network
    } catch (error) {
      this.close()
      throw error
    }
  }

  // The pipeline's answer for one picture, a Blob or an ImageBitmap, with its faces from left to right.
  async predict(picture, { whole = false } = {}) {
    const bitmap = picture instanceof Blob ? await readPicture(picture) : picture
    const found = await this.find(bitmap, { whole })
    const logits = await this.answer(found)
    return this.describe(found, logits, this.config.age_ranges)
  }

  // The faces of an ImageBitmap, which is used up, and their crops.
  find(bitmap, { whole = false } = {}) {
    return this.finder.call('find', { bitmap, whole }, [bitmap])
  }

  // Candidates of one search of a camera's frame, an ImageBitmap that is used up, at `side`; and the frame's pixels, for `align`.
  search(bitmap, side) {
    return this.finder.call('search', { bitmap, side }, [bitmap])
  }

  // The face of each candidate in a frame's pixels, which are used up, or null; and the crops of these faces.
  align(picture, candidates, known) {
    return this.answerer.call('align', { picture, candidates, known }, [picture.data.buffer])
  }

  // The logits {age, gender} of each face that "find" has found.
  async answer({ faces, crops }) {
    const bytes = faces.length ? crops.length / faces.length : 0
    const logits = []
    for (let start = 0; start < faces.length; start += FACES_PER_RUN) {
      const count = Math.min(FACES_PER_RUN, faces.length - start)
      const part = crops.slice(start * bytes, (start + count) * bytes)
      const { age, gender, engine } = await this.answerer.call('answer', { crops: part, count }, [part.buffer])
      this.engine = engine
      for (let index = 0; index < count; index++) logits.push({ age: age[index], gender: gender[index] })
    }
    return logits
  }

  // What the page shows of found faces, and what the model's configuration says of answers.
  describe({ faces, width, height }, logits, ranges) {
    const { max_age, interval_coverage, gender_threshold, min_face_pixels } = this.config
    const described = faces.map((face, index) => this.#describeFace(face, logits[index], [width, height], ranges))
    return { size_wh: [width, height], faces: described, max_age, interval_coverage, gender_threshold, min_face_pixels }
  }

  // The pipeline's dict of one face.
  #describeFace(face, logits, sizeWh, ranges) {
    const box = face.box.map((value, index) => Math.min(Math.max(roundHalfEven(value), 0), sizeWh[index % 2]))
    const why = whyAbstained(face, this.config)
    const fields = why.abstained ? NO_ANSWER : decode(logits.age, logits.gender, this.config, ranges)
    const roll = face.roll === null ? null : roundHalfEven(face.roll)
    return { box, detection_score: face.score, roll_degrees: roll, ...fields, ...why }
  }

  close() {
    this.finder.end()
    this.answerer.end()
  }
}

// Tasks of worker.js, as promises.
class RemoteTasks {
  #worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' })
  #waiting = new Map()
  #last = 0

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) resolve(result)
      else reject(new DeviceError(explain(error)))
    }
    this.#worker.onerror = event => this.#fail(event.message || 'its code did not load')
  }

  call(task, parts, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = ++this.#last
      this.#waiting.set(id, { resolve, reject })
      this.#worker.postMessage({ id, task, ...parts }, transfer)
    })
  }

  end() {
    this.#worker.terminate()
    this.#fail('it was ended')
  }

  #fail(reason) {
    for (const { reject } of this.#waiting.values()) reject(new DeviceError(explain(reason)))
    this.#waiting.clear()
  }
}

function explain(reason) {
  const isMemory = /memory|allocat|out of bounds|OOM|RangeError/i.test(reason)
  return isMemory ? text('device_no_memory') : text('device_fails', { reason })
}

async function fetchManifest(url) {
  let response
  try {
    response = await fetch(url, { cache: 'no-cache' })
  } catch {
    throw new DeviceError(text('device_no_connection'))
  }
  if (!response.ok)
    throw new DeviceError(text(REFUSALS[response.status] ?? 'device_refusal', { status: response.status }))
  const manifest = await response.json().catch(() => null)
  if (!manifest?.files) throw new DeviceError(text('device_no_manifest', { url }))
  return manifest
}

async function fetchFile(url, bytes, onBytes) {
  const name = url.pathname.split('/').pop()
  let response,
    read = 0
  const content = new Uint8Array(bytes)
  try {
    response = await fetch(url)
    if (!response.ok) throw new DeviceError(text('device_file_refused', { name, status: response.status }))
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read()
      if (done) break
      if (read + value.length <= bytes) content.set(value, read)
      read += value.length
      onBytes(value.length)
    }
  } catch (error) {
    if (error instanceof DeviceError) throw error
    throw new DeviceError(text('device_broken_off', { name }))
  }
  // A host that stores a pointer in place of a large file, or a proxy that cuts it off.
  if (read !== bytes) throw new DeviceError(text('device_not_whole', { name, bytes, read }))
  return content
}

async function readPicture(blob) {
  let bitmap
  try {
    bitmap = await createImageBitmap(blob)
  } catch {
    throw new DeviceError(text('device_unreadable'))
  }
  if (bitmap.width * bitmap.height > MOST_PIXELS) {
    const size = `${bitmap.width} x ${bitmap.height}`
    bitmap.close()
    throw new DeviceError(text('device_picture_too_large', { most: MOST_PIXELS / 1e6, size }))
  }
  return bitmap
}
