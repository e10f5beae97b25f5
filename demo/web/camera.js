// A snapshot with the device's camera: the live picture in a dialog, mirrored as people know themselves, and one photo of it.

import { button, element, ICONS, icon, openDialog, replace } from './dom.js'
import { chooseFiles, isPhone } from './intake.js'
import { text } from './texts.js'

// onFile: receives the photo as a File.
export async function takePhoto(onFile) {
  let stream = null
  let facing = 'user'
  const video = element('video', { autoplay: true, playsinline: true, muted: true, 'aria-label': text('camera_view') })
  video.muted = true
  const told = element('p', { role: 'status', class: 'camera-told' }, text('camera_starting'))
  const shutter = button({ class: 'main', disabled: true, onclick: shoot }, icon(ICONS.camera), text('camera_shoot'))
  const flip = button({ class: 'plain', hidden: true, onclick: turn }, icon(ICONS.flip), text('camera_flip'))
  const buttons = element(
    'div',
    { class: 'dialog-buttons' },
    shutter,
    flip,
    button({ class: 'plain', onclick: () => dialog.close() }, text('close')),
  )
  const dialog = element('dialog', { class: 'camera', 'aria-label': text('use_camera') }, told, video, buttons)
  dialog.addEventListener('close', stop)
  openDialog(dialog)
  await start()

  async function start() {
    stop()
    flip.disabled = true // a second start meanwhile would lose the first one's camera, which stays on
    try {
      if (!navigator.mediaDevices) throw new Error('not an https page')
      const started = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 960 } },
      })
      stream = started
      if (!dialog.open) return stop() // closed while the browser asked
      video.srcObject = stream
      await video.play()
      const devices = await navigator.mediaDevices.enumerateDevices()
      flip.hidden = devices.filter(({ kind }) => kind === 'videoinput').length < 2
      video.classList.toggle('mirrored', facing === 'user')
      replace(told)
      shutter.disabled = false
    } catch {
      stop()
      if (!dialog.open) return
      replace(told, text('camera_refused'))
      if (isPhone()) {
        const app = side =>
          chooseFiles(
            ([file]) => {
              dialog.close()
              onFile(file)
            },
            { multiple: false, capture: side },
          )
        shutter.replaceWith(
          button({ class: 'main', onclick: () => app('user') }, text('camera_front')),
          button({ class: 'main', onclick: () => app('environment') }, text('camera_back')),
        )
      }
    } finally {
      flip.disabled = false
    }
  }

  function turn() {
    facing = facing === 'user' ? 'environment' : 'user'
    start()
  }

  function shoot() {
    const canvas = element('canvas', { width: video.videoWidth, height: video.videoHeight })
    canvas.getContext('2d').drawImage(video, 0, 0)
    canvas.toBlob(
      blob => {
        dialog.close()
        onFile(new File([blob], 'camera.jpg', { type: 'image/jpeg' }))
      },
      'image/jpeg',
      0.92,
    )
  }

  function stop() {
    for (const track of stream?.getTracks() ?? []) track.stop()
    stream = null
  }
}
