// The live camera whose pictures the server answers: its stage over Gradio's camera, and what is said of each face beside it.

import { answerView } from './answers.js'
import { orderFaces, problemText } from './ask.js'
import { button, element, notice, replace, svg } from './dom.js'
import { drawLayer } from './picture.js'
import { duration, text } from './texts.js'
import { headline } from './words.js'

// Gradio's buttons, which gradio.css hides: the stage has one of its own for both steps of the start.
const START_STEPS = ['[title="grant webcam access"] button', '.capture-button:has([title="start recording"])']
const STOP = '.capture-button'

// overlay: an element that lies exactly over the video. options: see options.js. -> show(answer): an answer of the server,
// { ended }, { refused }, { problem, kind } or null.
export function createLive(place, overlay, { seconds, framesPerSecond, options }) {
  const layer = svg('svg', { class: 'layer', role: 'img' })
  const camera = watchCamera()
  const start = button({ class: 'main big', onclick: camera.start }, text('device_start'))
  const stop = button({ class: 'plain', onclick: camera.stop }, text('device_stop'))
  const flip = button({ class: 'plain flip', onclick: camera.flip }, text('camera_flip'))
  const controls = element('div', { class: 'server-controls' }, stop, flip)
  replace(overlay, layer, element('div', { class: 'server-cover' }, start), controls)
  const said = element('div', {})
  replace(
    place,
    notice(text('camera_refused'), 'problem', 'no-camera-told'),
    notice(text('live_busy'), 'live-busy'),
    said,
    element('p', { class: 'quiet' }, text('live_help', { frames: framesPerSecond, limit: duration(seconds) })),
  )
  let found = null
  const tellFound = () => {
    const view = { ranges: options.chosen.ranges, onFace: () => {}, isLive: true }
    replace(said, found.faces.length ? answerView(found, view) : notice(text('live_no_face')))
  }
  options.listen(changed => changed === 'ranges' && found && tellFound())
  return answer => {
    found = answer?.size_wh ? orderFaces(answer) : null
    if (!found) {
      replace(layer)
      layer.removeAttribute('data-faces')
      replace(said, tell(answer, seconds))
      return
    }
    const [width, height] = found.size_wh
    overlay.closest('#mirror').style.setProperty('--aspect', width / height) // a phone turns: the stage takes the frames' shape
    layer.dataset.faces = found.faces.length
    layer.setAttribute('aria-label', headline(found))
    drawLayer(layer, found, overlay.clientWidth, overlay.clientHeight)
    tellFound()
  }
}

function tell(answer, seconds) {
  if (answer?.refused) return notice(text('error_busy'), 'problem')
  if (answer?.ended) return notice(text('live_ended', { limit: duration(seconds) }))
  if (answer?.problem) return notice(problemText(answer), 'problem')
  return null
}

// Gradio's camera, driven by the page: { start(), stop(), flip() }. It marks on the page, for gradio.css, what only the browser
// knows: that there is no camera, or several.
function watchCamera() {
  const marks = document.body.classList
  const devices = navigator.mediaDevices // undefined at the http address of another computer
  let watcher = null
  let wanted = null // the id of the camera that Gradio's next question is for
  marks.toggle('no-camera', !devices)
  if (devices) {
    const ask = devices.getUserMedia.bind(devices)
    devices.getUserMedia = async wishes => {
      marks.remove('no-camera')
      const video = wanted ? { ...wishes.video, deviceId: { exact: wanted } } : wishes.video
      wanted = null
      try {
        const stream = await ask({ ...wishes, video })
        marks.toggle('several-cameras', (await cameras()).length > 1)
        return stream
      } catch (error) {
        marks.add('no-camera')
        throw error
      }
    }
  }

  async function cameras() {
    const all = await devices.enumerateDevices()
    return all.filter(({ kind }) => kind === 'videoinput')
  }

  const find = selector => document.querySelector(`#webcam ${selector}`)

  function start(id = null) {
    if (!devices) return // the page says so already, and Gradio's script would fail
    const steps = [...START_STEPS]
    const press = () => {
      const next = find(steps[0])
      if (!next) return
      if (steps.length === START_STEPS.length) wanted = id
      steps.shift()
      if (!steps.length) watcher.disconnect()
      next.click()
    }
    watcher?.disconnect()
    watcher = new MutationObserver(press)
    watcher.observe(document.body, { childList: true, subtree: true })
    press()
  }

  const stop = () => find(STOP)?.click()

  async function flip() {
    const ids = (await cameras()).map(({ deviceId }) => deviceId)
    const track = find('video')?.srcObject?.getVideoTracks()[0]
    const index = ids.indexOf(track?.getSettings().deviceId)
    stop()
    start(ids[(index + 1) % ids.length])
  }

  return { start: () => start(), stop, flip }
}
