// The live camera with the model on this device: the switch, the stage and the cards, as one component.
//
// The video plays by itself. Whenever the finder is free it searches the newest frame; frames that come meanwhile are dropped and
// never queued. Whenever the answerer is free it looks closely at what was found last. With each frame of the video, each box is
// drawn where its face is expected by then.

import { answerView } from '../answers.js'
import { button, element, notice } from '../dom.js'
import { decimal, text, useTexts } from '../texts.js'
import { ageText, describe, genderShort } from '../words.js'
import { BoxLayer } from './boxes.js'
import { Camera, CameraError } from './camera.js'
import { DeviceError, DeviceModel, whyUnsupported } from './device_model.js'
import { boxAt, learn, Tracks } from './tracking.js'

// A fine search finds far faces but takes four times as long as a coarse one.
const COARSE_SIDE = 320,
  FINE_SIDE = 640
// Between two fine searches while a face is in sight; else every second search is fine. A slow device has them more rarely.
const FINE_MS = 1000,
  FINE_TIMES = 10
const FACES_PER_ANSWER = 4
const SAID_MS = 300 // between two changes of what is said, so that it can be read

// models: [{name, manifest, device}]: the address of a manifest, or a promise of a DeviceModel that others use too.
// onWhere("device" or "server"): what the visitor chose, or had to; without it there is no server to choose.
// options: see options.js. texts: the tables of texts.json, unless `useTexts` has them already.
export function mountLive(root, { models, options, onWhere = null, texts = null }) {
  if (texts) useTexts(texts)
  return new Live(root, models, options, onWhere)
}

// What a model that is being fetched says of itself.
export function loadingText(done, all) {
  return done < all
    ? text('device_loading', { done: decimal(done / 1e6), all: decimal(all / 1e6) })
    : text('device_preparing')
}

class Live {
  #model = null // { device: a promise of a DeviceModel, isShared: others use it too }: the chosen one, once it is wanted
  #device = null // the DeviceModel, once it is there
  #run = 0 // a number for each start, so that what belongs to an earlier one is dropped

  constructor(root, models, options, onWhere) {
    Object.assign(this, { root, models, options, onWhere })
    this.#build()
    options.listen(changed => (changed === 'model' ? this.#changeModel() : this.#show(false)))
    this.camera = new Camera(this.video, reason => this.#end(notice(reason, 'problem')))
    document.addEventListener('visibilitychange', () => this.#onVisibility())
    navigator.mediaDevices?.addEventListener('devicechange', () => this.#listCameras())
    // Its tab of the page was opened or left.
    new ResizeObserver(() => (this.#isShown() ? this.#onShown() : this.#onHidden())).observe(root)
  }

  #build() {
    const choice = (value, label) =>
      element(
        'label',
        {},
        element('input', {
          type: 'radio',
          name: 'device-where',
          value,
          checked: value === 'device',
          onchange: () => this.#choose(value),
        }),
        label,
      )
    const switcher =
      this.onWhere &&
      element(
        'fieldset',
        { class: 'device-switch' },
        element('legend', {}, text('device_where')),
        choice('device', text('device_here')),
        choice('server', text('device_server')),
      )
    this.note = element('p', { class: 'device-note' }, text('device_note'))
    this.video = element('video', { playsinline: true, muted: true, 'aria-label': text('device_camera') })
    this.video.muted = true
    // A phone turns: the stage takes the shape of the frames.
    this.video.addEventListener('resize', () => {
      const { videoWidth, videoHeight } = this.video
      if (videoWidth && videoHeight) this.stage.style.aspectRatio = `${videoWidth} / ${videoHeight}`
    })
    this.boxes = new BoxLayer()
    this.startButton = button({ class: 'device-start main big', onclick: () => this.#start() }, text('device_start'))
    this.progress = element('progress', { hidden: true, max: 1, 'aria-label': text('film_label') })
    this.status = element('p', { class: 'device-status', role: 'status' })
    this.cover = element('div', { class: 'device-cover' }, this.startButton, this.progress, this.status)
    this.stage = element('div', { class: 'device-stage' }, this.video, this.boxes.element, this.cover)
    this.stopButton = button(
      { class: 'device-stop plain', hidden: true, onclick: () => this.#end() },
      text('device_stop'),
    )
    this.cameras = element('select', {
      class: 'device-cameras',
      'aria-label': text('device_camera'),
      hidden: true,
      onchange: () => this.#start(this.cameras.value),
    })
    this.said = element('div', { class: 'device-said' })
    this.live = element(
      'div',
      { class: 'device-live' },
      element(
        'div',
        { class: 'device-left' },
        this.stage,
        element('div', { class: 'device-controls field' }, this.stopButton, this.cameras),
      ),
      element('div', { class: 'device-side' }, this.said),
    )
    this.root.replaceChildren(...[switcher, this.note, this.live].filter(Boolean))
    this.root.classList.add('device', 'part')
  }

  #isShown() {
    return this.root.isConnected && this.root.getClientRects().length > 0
  }

  #onShown() {
    const unsupported = whyUnsupported()
    if (unsupported) this.#fallBack(unsupported)
    else if (this.where !== 'server') this.#load().catch(error => this.#failed(error))
  }

  #onHidden() {
    if (this.camera.isOn) this.#end()
  }

  // In the background the camera is given back; when the page is seen again it starts again.
  #onVisibility() {
    if (document.hidden && this.camera.isOn) {
      this.#end(notice(text('device_paused')))
      this.isPaused = true
    } else if (!document.hidden && this.isPaused && this.#isShown()) this.#start(this.deviceId)
  }

  // Fetch the model when the tab is opened, once. Of a model that is no longer wanted nobody is told whether it came.
  async #load() {
    this.#model ??= this.#fetchModel()
    const model = this.#model
    try {
      const device = await model.device
      if (model === this.#model) this.#device = device
    } catch (error) {
      if (model === this.#model) throw error
    }
  }

  #fetchModel() {
    const { manifest, device } = this.models.find(({ name }) => name === this.options.chosen.model)
    const onProgress = (done, all) => {
      if (model !== this.#model) return
      this.progress.value = done / all
      this.status.textContent = loadingText(done, all)
    }
    const model = { device: device ?? DeviceModel.load(manifest, onProgress), isShared: device !== undefined }
    const onEnd = () => model === this.#model && this.#hideProgress()
    this.progress.hidden = false
    model.device.then(onEnd, onEnd)
    return model
  }

  #hideProgress() {
    this.progress.hidden = true
    this.status.textContent = ''
  }

  #changeModel() {
    this.#end()
    this.#forgetModel()
    if (this.#isShown()) this.#onShown()
  }

  // It is closed, or will be when it comes.
  #forgetModel() {
    const model = this.#model
    this.#model = this.#device = null
    this.#hideProgress()
    if (model && !model.isShared)
      model.device.then(
        device => device.close(),
        () => {},
      )
  }

  async #start(deviceId = null) {
    const run = ++this.#run
    this.isPaused = false
    this.deviceId = deviceId
    this.startButton.disabled = true
    this.said.replaceChildren()
    try {
      await this.#load()
      if (run !== this.#run) return
      this.status.textContent = text('device_asking')
      await this.camera.start(deviceId)
      if (run !== this.#run) return
      this.#endStart()
    } catch (error) {
      if (run !== this.#run) return
      this.#endStart()
      return this.#failed(error)
    }
    if (!this.#isShown()) return this.#end() // left while the browser asked
    this.tracks = new Tracks()
    this.frame = this.answer = null
    this.isFinding = this.isAnswering = false
    this.searchedFinely = this.restsUntil = this.shownAt = -Infinity
    this.fineTook = 0
    this.wasFine = true
    this.cover.hidden = true
    this.stopButton.hidden = false
    this.stage.classList.toggle('mirrored', this.camera.isMirrored)
    this.#listCameras()
    this.#watchVideo(run)
  }

  #endStart() {
    this.startButton.disabled = false
    if (this.progress.hidden) this.status.textContent = '' // else it tells of the model that is fetched
  }

  // With each frame of the video: move the boxes, and search the frame if the finder is free.
  #watchVideo(run) {
    this.video.requestVideoFrameCallback(now => {
      if (run !== this.#run) return
      if (!this.isFinding) this.#find(now, run)
      if (this.frame) this.#draw(now)
      this.#watchVideo(run)
    })
  }

  async #find(time, run) {
    this.isFinding = true
    try {
      const bitmap = await createImageBitmap(this.video)
      if (run !== this.#run) return bitmap.close()
      const side = this.#searchSide(time)
      const { candidates, picture, milliseconds } = await this.#device.search(bitmap, side)
      if (run !== this.#run) return
      if (side === FINE_SIDE) this.fineTook = milliseconds.detect
      const { width, height } = picture
      if (this.frame && (width !== this.frame.width || height !== this.frame.height)) this.tracks = new Tracks() // a turned phone
      this.frame = { time, picture, width, height, found: this.tracks.update(candidates, time) }
      this.#report('found', { faces: this.#faces().length, ...milliseconds, total: performance.now() - time })
      if (!this.isAnswering) this.#answer(run)
      this.#show()
    } catch (error) {
      if (run === this.#run) this.#failed(error)
    } finally {
      if (run === this.#run) this.isFinding = false
    }
  }

  #searchSide(time) {
    const isDue = time - this.searchedFinely >= Math.max(FINE_MS, FINE_TIMES * this.fineTook)
    const isFine = this.#faces().length > 0 ? isDue : !this.wasFine
    if (isFine) this.searchedFinely = time
    this.wasFine = isFine
    return isFine ? FINE_SIDE : COARSE_SIDE
  }

  // The tracks of the newest frame that are faces.
  #faces() {
    return this.frame?.found.filter(track => track.face) ?? []
  }

  // Look closely at what has waited longest in the newest frame, and answer for the faces among it.
  async #answer(run) {
    const { found, picture, time } = this.frame,
      { tracks } = this
    const chosen = [...found].sort((one, other) => one.looked - other.looked).slice(0, FACES_PER_ANSWER)
    const isUrgent = chosen.some(track => track.looked === -Infinity || track.isDoubtful)
    if (!chosen.length || (!isUrgent && performance.now() < this.restsUntil)) return
    this.isAnswering = true
    try {
      const start = performance.now()
      const known = this.#faces()
        .filter(track => !chosen.includes(track))
        .map(track => track.candidate)
      const aligned = await this.#device.align(
        picture,
        chosen.map(track => track.candidate),
        known,
      )
      if (run !== this.#run) return
      chosen.forEach((track, index) => {
        tracks.confirm(track, aligned.faces[index])
        track.looked = time
      })
      const faces = chosen.filter((_, index) => aligned.faces[index])
      const logits = await this.#device.answer({ faces, crops: aligned.crops })
      if (run !== this.#run) return
      for (const [row, track] of faces.entries()) learn(track, logits[row], time)
      this.#describe()
      const total = performance.now() - start
      this.restsUntil = performance.now() + total // at most half of a core, so that boxes and video stay smooth
      this.#report('answered', { faces: faces.length, align: aligned.milliseconds, total })
    } catch (error) {
      if (run === this.#run) this.#failed(error)
    } finally {
      if (run === this.#run) this.isAnswering = false
    }
  }

  // For measurements: milliseconds of the stages of one frame, which stay on this page.
  #report(event, detail) {
    this.root.dispatchEvent(new CustomEvent(event, { detail, bubbles: true }))
  }

  // What is said of the faces, once after each answer.
  #describe() {
    const left = ({ candidate: { box } }) => box[0] + box[2]
    const answered = this.#faces()
      .filter(track => track.logits)
      .sort((one, other) => left(one) - left(other))
    const faces = answered.map(track => ({ ...track.face, box: track.candidate.box }))
    const answer = this.#device.describe(
      { ...this.frame, faces },
      answered.map(track => track.logits),
      this.options.chosen.ranges,
    )
    answered.forEach((track, index) => {
      answer.faces[index].number = track.number
      const face = answer.faces[index]
      track.said = face.abstained
        ? { words: text('device_no_answer') }
        : { age: ageText(face), words: genderShort(face) }
    })
    this.answer = answer
    this.boxes.element.setAttribute('aria-label', describe(answer))
    this.#show()
  }

  #draw(time) {
    const boxes = this.#faces().map(track => ({ number: track.number, box: boxAt(track, time), said: track.said }))
    this.boxes.draw(this.frame.width, this.frame.height, boxes, this.camera.isMirrored)
  }

  // Without `isDue` after a change of the options, at once.
  #show(isDue = true) {
    if (!this.camera.isOn || !this.frame || (isDue && performance.now() - this.shownAt < SAID_MS)) return
    const shown = new Set(this.#faces().map(track => track.number))
    const faces = this.answer?.faces.filter(face => shown.has(face.number)) ?? []
    this.shownAt = performance.now()
    const options = { ranges: this.options.chosen.ranges, onFace: () => {}, isLive: true }
    if (faces.length) this.said.replaceChildren(answerView({ ...this.answer, faces }, options))
    else if (!shown.size && !this.isAnswering) this.said.replaceChildren(notice(text('live_no_face')))
  }

  async #listCameras() {
    const cameras = await this.camera.list()
    if (!this.camera.isOn) return
    this.cameras.hidden = cameras.length < 2
    this.cameras.replaceChildren(
      ...cameras.map(({ deviceId, label }, index) =>
        element(
          'option',
          { value: deviceId, selected: deviceId === this.deviceId },
          label || `${text('device_camera')} ${index + 1}`,
        ),
      ),
    )
  }

  #failed(error) {
    if (error instanceof CameraError) return this.#end(notice(error.message, 'problem'))
    if (!(error instanceof DeviceError)) throw error
    this.#forgetModel()
    this.#fallBack(error.message)
  }

  // The server answers where this device cannot. Without a server, say why there is no answer.
  #fallBack(reason) {
    if (this.onWhere) this.#choose('server', text('device_fallback', { reason }))
    else this.#end(notice(reason, 'problem'))
  }

  #choose(where, reason = null) {
    this.where = where
    this.#end()
    for (const input of this.root.querySelectorAll('[name=device-where]')) input.checked = input.value === where
    this.note.textContent = reason ?? text(where === 'device' ? 'device_note' : 'device_server_note')
    this.note.classList.toggle('problem', Boolean(reason))
    this.live.hidden = where === 'server'
    this.onWhere(where)
    if (where === 'device') this.#onShown()
  }

  // Turn the camera off, and say why.
  #end(why = null) {
    this.#run++
    this.#endStart() // of one that is overtaken
    this.isPaused = false
    this.camera?.stop()
    this.frame = null
    this.boxes.clear()
    this.cover.hidden = false
    this.stopButton.hidden = true
    this.cameras.hidden = true
    this.said.replaceChildren(...(why ? [why] : []))
  }
}
