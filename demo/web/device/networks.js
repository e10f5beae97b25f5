// How networks run: in WebAssembly on the processor, or by WebGPU on the graphics processor where it answers the same in less time.

const MODULES = { wasm: './runtime/ort.wasm.bundle.min.mjs', webgpu: './runtime/ort.jspi.bundle.min.mjs' }
// Of two logits. Both compute in fp32, and differ in the order of their sums; a driver that is wrong differs by whole numbers.
const LARGEST_DIFFERENCE = 0.02
const TIMED_RUNS = 3

// What the runtime can use here: "webgpu" needs, beside a graphics processor, JavaScript Promise Integration, by which the
// runtime waits for it.
export async function bestEngine() {
  if (!globalThis.navigator?.gpu || !('Suspending' in WebAssembly)) return 'wasm'
  const adapter = await navigator.gpu.requestAdapter().catch(() => null)
  const isSoftware = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter
  return adapter && !isSoftware ? 'webgpu' : 'wasm'
}

export class Runtime {
  // `wasm`: the bytes of the runtime for `engine`.
  static async start(engine, wasm) {
    const runtime = await import(MODULES[engine])
    runtime.env.wasm.wasmBinary = wasm
    runtime.env.wasm.numThreads = 1 // more need a page that is isolated from other sites, which a Space inside another page is not
    runtime.env.logLevel = 'error'
    return new Runtime(runtime, engine)
  }

  constructor(runtime, engine) {
    Object.assign(this, { runtime, engine })
  }

  tensor(values, shape) {
    return new this.runtime.Tensor('float32', values, shape)
  }

  // A network that runs on the processor.
  async open(bytes) {
    return new Network(this, { wasm: await this.#session(bytes, 'wasm') })
  }

  // One that runs on the graphics processor, if that gives the processor's outputs for `values` in less time; with `isForced`,
  // however long it takes.
  async openFastest(bytes, values, shape, isForced = false) {
    const processor = await this.open(bytes)
    if (this.engine !== 'webgpu') return processor
    try {
      const graphics = new Network(this, { webgpu: await this.#session(bytes, 'webgpu') })
      const [expected, outputs] = [await processor.run(values, shape), await graphics.run(values, shape)]
      const difference = largestDifference(expected, outputs)
      if (difference > LARGEST_DIFFERENCE) throw new Error(`WebGPU's outputs differ by ${difference}`)
      const isFaster = async () => (await time(graphics, values, shape)) < (await time(processor, values, shape))
      if (isForced || (await isFaster())) return new Network(this, { ...graphics.sessions, ...processor.sessions })
      await graphics.sessions.webgpu.release()
    } catch (error) {
      if (isForced) throw error // else: no adapter in workers, too little memory, a driver's fault
    }
    return processor
  }

  #session(bytes, engine) {
    // 8-bit weights are turned into floats once, when the file is read, and not at each run
    return this.runtime.InferenceSession.create(bytes, {
      executionProviders: [engine],
      extra: { session: { disable_quant_qdq: '1' } },
    })
  }
}

class Network {
  // sessions: {webgpu, wasm}, the one that is used first; it is given up when it fails, as when a driver starts again.
  constructor(runtime, sessions) {
    Object.assign(this, { runtime, sessions })
  }

  get engine() {
    return Object.keys(this.sessions)[0]
  }

  // float32 values of this shape -> {name: output}, whose `data` are values.
  async run(values, shape) {
    const session = this.sessions[this.engine]
    try {
      return await session.run({ [session.inputNames[0]]: this.runtime.tensor(values, shape) })
    } catch (error) {
      if (Object.keys(this.sessions).length === 1) throw error
      delete this.sessions[this.engine]
      return this.run(values, shape)
    }
  }
}

// Milliseconds of the fastest of some runs. The first run, which compiles, was before.
async function time(network, values, shape) {
  let least = Infinity
  for (let run = 0; run < TIMED_RUNS; run++) {
    const start = performance.now()
    await network.run(values, shape)
    least = Math.min(least, performance.now() - start)
  }
  return least
}

function largestDifference(outputs, others) {
  const differences = Object.keys(outputs).flatMap(name =>
    Array.from(outputs[name].data, (value, index) => Math.abs(value - others[name].data[index])),
  )
  return differences.some(Number.isNaN) ? Infinity : Math.max(...differences)
}
