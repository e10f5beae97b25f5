// The live camera's answers: boxes over the video, and what is said of each face beside it.

import { answerView } from './answers.js'
import { orderFaces, problemText } from './ask.js'
import { element, replace, svg } from './dom.js'
import { drawLayer } from './picture.js'
import { duration, text } from './texts.js'
import { headline } from './words.js'

// overlay: an element that lies exactly over the video. -> show(answer): an answer of the server, { ended }, { refused },
// { problem, kind } or null.
export function createLive(place, overlay, { seconds, framesPerSecond }) {
  const layer = svg('svg', { class: 'layer', role: 'img' })
  replace(overlay, layer)
  const said = element('div', {})
  replace(
    place,
    element('p', { class: 'quiet' }, text('live_help', { frames: framesPerSecond, limit: duration(seconds) })),
    element('p', { class: 'notice problem no-camera-told', role: 'alert' }, text('camera_refused')),
    element('p', { class: 'notice live-busy', role: 'status' }, text('live_busy')),
    said,
  )
  return answer => {
    const found = answer?.size_wh ? orderFaces(answer) : null
    if (!found) {
      replace(layer)
      layer.removeAttribute('data-faces')
      replace(said, tell(answer, seconds))
      return
    }
    layer.dataset.faces = found.faces.length
    layer.setAttribute('aria-label', headline(found))
    drawLayer(layer, found, overlay.clientWidth, overlay.clientHeight)
    const options = { onFace: () => {}, isLive: true }
    replace(
      said,
      found.faces.length
        ? answerView(found, options)
        : element('p', { class: 'notice', role: 'status' }, text('live_no_face')),
    )
  }
}

function tell(answer, seconds) {
  if (answer?.refused) return element('p', { class: 'notice problem', role: 'alert' }, text('error_busy'))
  if (answer?.ended)
    return element('p', { class: 'notice', role: 'status' }, text('live_ended', { limit: duration(seconds) }))
  if (answer?.problem) return element('p', { class: 'notice problem', role: 'alert' }, problemText(answer))
  return null
}

// Marks on the page, for gradio.css, what only the browser knows: that there is no camera.
export function watchCamera() {
  const marks = document.body.classList
  const devices = navigator.mediaDevices // undefined at the http address of another computer
  marks.toggle('no-camera', !devices)
  if (!devices) return
  const start = devices.getUserMedia.bind(devices)
  devices.getUserMedia = async wishes => {
    marks.remove('no-camera')
    try {
      return await start(wishes)
    } catch (error) {
      marks.add('no-camera')
      throw error
    }
  }
}
