// The live camera with the model on this device: the switch, the stage and the cards, as one component.
//
// The video plays by itself. Whenever the finder is free it gets the newest frame; frames that come meanwhile are dropped and
// never queued. The answerer gets the newest crops in the same way. Boxes are drawn at every refresh of the screen.

import {cards, describe, drawBoxes, layerFor, make, notice, shortAnswer} from "./answers.js"
import {Camera, CameraError} from "./camera.js"
import {RangesError} from "./decoding.js"
import {DeviceError, DeviceModel, whyUnsupported} from "./device_model.js"
import {TEXTS} from "./texts.js"
import {Tracks, boxAt, learn} from "./tracking.js"

// A fine search finds far faces but takes four times as long as a coarse one.
const COARSE_SIDE = 320, FINE_SIDE = 640
const FINE_MS = 1000 // between two fine searches while a face is in sight; else every second search is fine
const FACES_PER_ANSWER = 4
const CARDS_MS = 300 // between two changes of the cards, so that they can be read

// models: [{name, manifest, device}]: the address of a manifest, or a promise of a DeviceModel that others use too. onWhere("device" or "server"): what the visitor chose, or had to be chosen;
// without it there is no server to choose.
export function mountLive(root, {models, onWhere = null}) {
  return new Live(root, models, onWhere)
}

class Live {
  #device = null // a DeviceModel
  #loading = null // a promise of it
  #run = 0 // a number for each start, so that what belongs to an earlier one is dropped

  constructor(root, models, onWhere) {
    Object.assign(this, {root, models, onWhere})
    this.#build()
    this.camera = new Camera(this.video, reason => this.#end(notice(reason, true)))
    document.addEventListener("visibilitychange", () => this.#onVisibility())
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#listCameras())
    // Its tab of the page was opened or left.
    new ResizeObserver(() => (this.#isShown() ? this.#onShown() : this.#onHidden())).observe(root)
  }

  #build() {
    const switcher = this.onWhere && make("fieldset", {class: "device-switch"},
      make("legend", {}, TEXTS.where),
      ...[["device", TEXTS.onDevice], ["server", TEXTS.onServer]].map(([value, label]) =>
        make("label", {}, make("input", {type: "radio", name: "device-where", value, checked: value === "device", onchange: () => this.#choose(value)}), label)))
    this.note = make("p", {class: "device-note"}, TEXTS.deviceNote)
    this.video = make("video", {playsinline: true, muted: true, "aria-label": TEXTS.camera})
    this.video.muted = true
    this.layer = layerFor()
    this.startButton = make("button", {type: "button", class: "device-start primary", onclick: () => this.#start()}, TEXTS.start)
    this.progress = make("progress", {hidden: true, max: 1})
    this.status = make("p", {class: "device-status", role: "status"})
    this.cover = make("div", {class: "device-cover"}, this.startButton, this.progress, this.status)
    this.stage = make("div", {class: "device-stage"}, this.video, this.layer, this.cover)
    this.stopButton = make("button", {type: "button", class: "device-stop", hidden: true, onclick: () => this.#end()}, TEXTS.stop)
    this.cameras = make("select", {class: "device-cameras", "aria-label": TEXTS.camera, hidden: true, onchange: () => this.#start(this.cameras.value)})
    this.model = make("select", {"aria-label": TEXTS.model, hidden: this.models.length < 2, onchange: () => this.#changeModel()},
      ...this.models.map(({name}, index) => make("option", {value: index}, name)))
    const list = make("datalist", {id: "device-range-sets"})
    this.rangeSets = list
    this.ranges = make("input", {type: "text", list: list.id, class: "device-ranges", oninput: () => this.#readRanges()})
    this.problem = make("div", {})
    this.said = make("div", {class: "device-cards"})
    this.live = make("div", {class: "device-live"},
      make("div", {class: "device-left"}, this.stage, make("div", {class: "device-controls"}, this.stopButton, this.cameras, this.model)),
      make("div", {class: "device-side"},
        make("label", {}, TEXTS.ranges, this.ranges, make("small", {}, TEXTS.rangesHelp)), list, this.problem, this.said))
    this.root.replaceChildren(...[switcher, this.note, this.live].filter(Boolean))
    this.root.classList.add("device")
  }

  #isShown() {
    return this.root.isConnected && this.root.getClientRects().length > 0
  }

  #onShown() {
    const unsupported = whyUnsupported()
    if (unsupported) this.#fallBack(unsupported)
    else if (this.where !== "server") this.#load().catch(error => this.#failed(error))
  }

  #onHidden() {
    if (this.camera.isOn) this.#end()
  }

  // In the background the camera is given back; when the page is seen again it goes on.
  #onVisibility() {
    if (document.hidden && this.camera.isOn) {
      this.#end(notice(TEXTS.paused))
      this.isPaused = true
    } else if (!document.hidden && this.isPaused && this.#isShown()) this.#start(this.deviceId)
  }

  // Fetch the model when the tab is opened, once.
  #load() {
    this.#loading ??= this.#fetchModel()
    return this.#loading
  }

  async #fetchModel() {
    this.progress.hidden = false
    try {
      const {manifest, device} = this.models[Number(this.model.value)]
      this.isShared = device !== undefined
      this.#device = await (device ?? DeviceModel.load(manifest, (done, all) => {
        this.progress.value = done / all
        this.status.textContent = done < all ? TEXTS.loading(done, all) : TEXTS.preparing
      }))
    } finally {
      this.progress.hidden = true
      this.status.textContent = ""
    }
    this.rangeSets.replaceChildren(...Object.keys(this.#device.manifest.range_sets).map(value => make("option", {value})))
    this.ranges.placeholder = this.#device.manifest.default_ranges
    this.#readRanges()
  }

  #changeModel() {
    this.#end()
    this.#forgetModel()
    this.#onShown()
  }

  #forgetModel() {
    if (!this.isShared) this.#device?.close()
    this.#device = this.#loading = null
  }

  #readRanges() {
    this.problem.replaceChildren()
    try {
      if (this.#device) this.rangesRead = this.#device.readRanges(this.ranges.value)
    } catch (error) {
      if (!(error instanceof RangesError)) throw error
      this.problem.replaceChildren(notice(error.message, true)) // the ranges before stay
    }
    this.#showCards()
  }

  async #start(deviceId = null) {
    const run = ++this.#run
    this.isPaused = false
    this.deviceId = deviceId
    this.startButton.disabled = true
    this.said.replaceChildren()
    try {
      await this.#load()
      this.status.textContent = TEXTS.asking
      await this.camera.start(deviceId)
    } catch (error) {
      if (run === this.#run) this.#failed(error)
      return
    } finally {
      this.startButton.disabled = false
      this.status.textContent = ""
    }
    if (run !== this.#run || !this.#isShown()) return this.#end() // left while the browser asked
    this.tracks = new Tracks()
    this.frame = null
    this.isFinding = this.isAnswering = false
    this.searchedFinely = this.restsUntil = -Infinity
    this.wasFine = true
    this.cover.hidden = true
    this.stopButton.hidden = false
    this.stage.classList.toggle("mirrored", this.camera.isMirrored)
    this.#listCameras()
    this.#watchVideo(run)
    this.#draw(run)
  }

  // Ask for the faces of the newest frame, if the finder is free.
  #watchVideo(run) {
    this.video.requestVideoFrameCallback(now => {
      if (run !== this.#run) return
      if (!this.isFinding) this.#find(now, run)
      this.#watchVideo(run)
    })
  }

  async #find(time, run) {
    this.isFinding = true
    try {
      const bitmap = await createImageBitmap(this.video)
      const found = await this.#device.find(bitmap, {side: this.#searchSide(time)})
      if (run !== this.#run) return
      if (this.frame && (found.width !== this.frame.width || found.height !== this.frame.height)) this.tracks = new Tracks() // a turned phone
      this.frame = {...found, time, shown: this.tracks.update(found.faces, time)}
      this.#report("found", {faces: found.faces.length, ...found.milliseconds, total: performance.now() - time})
      if (!this.isAnswering) this.#answer(run)
      this.#showCards()
    } catch (error) {
      if (run === this.#run) this.#failed(error)
    } finally {
      if (run === this.#run) this.isFinding = false
    }
  }

  #searchSide(time) {
    const isInSight = this.tracks.tracks.length > 0
    const isFine = isInSight ? time - this.searchedFinely >= FINE_MS : !this.wasFine
    if (isFine) this.searchedFinely = time
    this.wasFine = isFine
    return isFine ? FINE_SIDE : COARSE_SIDE
  }

  // Answer for the faces of the newest frame that have waited longest.
  async #answer(run) {
    const {faces, crops, shown, time} = this.frame
    const chosen = shown.map((track, index) => ({track, index})).sort((one, other) => one.track.answered - other.track.answered).slice(0, FACES_PER_ANSWER)
    const isNew = chosen.some(({track}) => !track.logits)
    if (!chosen.length || (!isNew && performance.now() < this.restsUntil)) return
    this.isAnswering = true
    try {
      const bytes = crops.length / faces.length
      const part = new Uint8ClampedArray(chosen.length * bytes)
      chosen.forEach(({index}, row) => part.set(crops.subarray(index * bytes, (index + 1) * bytes), row * bytes))
      const start = performance.now()
      const logits = await this.#device.answer({faces: chosen, crops: part})
      if (run !== this.#run) return
      chosen.forEach(({track}, row) => learn(track, logits[row], time))
      const total = performance.now() - start
      this.restsUntil = performance.now() + total // at most half of a core, so that boxes and video stay smooth
      this.#report("answered", {faces: chosen.length, total})
    } catch (error) {
      if (run === this.#run) this.#failed(error)
    } finally {
      if (run === this.#run) this.isAnswering = false
    }
  }

  // For measurements: milliseconds of the stages of one frame, which stay on this page.
  #report(event, detail) {
    this.root.dispatchEvent(new CustomEvent(event, {detail, bubbles: true}))
  }

  #answered() {
    const shown = this.frame?.shown.filter(track => track.logits) ?? []
    const numbers = shown.map(track => track.number)
    const found = {...this.frame, faces: shown.map(track => track.face)}
    return {numbers, answer: this.#device.describe(found, shown.map(track => track.logits), this.rangesRead)}
  }

  // At each refresh of the screen every box lies where its face is expected by now.
  #draw(run) {
    if (run !== this.#run) return
    if (this.frame) {
      const {numbers, answer} = this.#answered()
      const lines = new Map(answer.faces.map((face, index) => [numbers[index], shortAnswer(face)]))
      const now = performance.now()
      const boxes = this.frame.shown.map(track => ({number: track.number, box: boxAt(track, now), lines: lines.get(track.number) ?? []}))
      drawBoxes(this.layer, this.frame.width, this.frame.height, boxes, this.camera.isMirrored)
      this.layer.setAttribute("aria-label", describe(numbers, answer.faces))
    }
    requestAnimationFrame(() => this.#draw(run))
  }

  #showCards() {
    if (!this.camera?.isOn || !this.frame || performance.now() - (this.cardsShown ?? 0) < CARDS_MS) return
    this.cardsShown = performance.now()
    const {numbers, answer} = this.#answered()
    if (answer.faces.length) this.said.replaceChildren(cards(numbers, answer))
    else if (!this.frame.shown.length) this.said.replaceChildren(notice(TEXTS.noFace))
  }

  async #listCameras() {
    if (!this.camera.isOn) return
    const cameras = await this.camera.list()
    this.cameras.hidden = cameras.length < 2
    this.cameras.replaceChildren(...cameras.map(({deviceId, label}, index) =>
      make("option", {value: deviceId, selected: deviceId === this.deviceId}, label || `${TEXTS.camera} ${index + 1}`)))
  }

  #failed(error) {
    if (error instanceof CameraError) return this.#end(notice(error.message, true))
    if (!(error instanceof DeviceError)) throw error
    this.#forgetModel()
    this.#fallBack(error.message)
  }

  // The server answers where this device cannot. Without a server, say why there is no answer.
  #fallBack(reason) {
    this.#end(notice(this.onWhere ? TEXTS.fallback(reason) : reason, true))
    if (this.onWhere) this.#choose("server", TEXTS.fallback(reason))
  }

  #choose(where, reason = null) {
    this.where = where
    this.#end()
    for (const input of this.root.querySelectorAll("[name=device-where]")) input.checked = input.value === where
    this.note.textContent = reason ?? (where === "device" ? TEXTS.deviceNote : TEXTS.serverNote)
    this.note.classList.toggle("problem", Boolean(reason))
    this.live.hidden = where === "server"
    this.onWhere(where)
    if (where === "device") this.#onShown()
  }

  // Turn the camera off, and say why.
  #end(why = null) {
    this.#run++
    this.isPaused = false
    this.camera?.stop()
    this.frame = null
    this.layer.replaceChildren()
    delete this.layer.dataset.faces
    this.layer.removeAttribute("aria-label")
    this.cover.hidden = false
    this.stopButton.hidden = true
    this.cameras.hidden = true
    this.said.replaceChildren(...(why ? [why] : []))
  }
}
