// The visitor's camera: asked for only when it is started, given back when the page is left or goes to the background.

import { text } from '../texts.js'

const WISHES = { width: { ideal: 640 }, height: { ideal: 480 } }
const REASONS = {
  NotAllowedError: 'device_refused',
  SecurityError: 'device_refused',
  NotReadableError: 'device_taken',
  AbortError: 'device_taken',
  NotFoundError: 'device_no_camera',
  OverconstrainedError: 'device_no_camera',
}

export class CameraError extends Error {}

export class Camera {
  #stream = null
  #changes = 0 // starts and stops, so that a start that is overtaken is known

  // `onLost(reason)`: the camera stopped by itself.
  constructor(video, onLost) {
    this.video = video
    this.onLost = onLost
  }

  get isOn() {
    return this.#stream !== null
  }

  // Whether the picture is shown as in a mirror: not from a phone's back.
  get isMirrored() {
    return this.#stream?.getVideoTracks()[0]?.getSettings().facingMode !== 'environment'
  }

  // A start that is overtaken, by another one or by `stop`, gives its camera back and tells nothing. Throws `CameraError`.
  async start(deviceId = null) {
    this.stop()
    if (!navigator.mediaDevices) throw new CameraError(text('device_not_secure')) // at the http address of another computer
    const change = this.#changes
    try {
      const wishes = deviceId ? { ...WISHES, deviceId: { exact: deviceId } } : { ...WISHES, facingMode: 'user' }
      const stream = await navigator.mediaDevices.getUserMedia({ video: wishes })
      if (change !== this.#changes) return endTracks(stream)
      this.#stream = stream
      stream.getVideoTracks()[0].addEventListener('ended', () => {
        if (stream !== this.#stream) return // it was stopped here
        this.stop()
        this.onLost(text('device_unplugged'))
      })
      this.video.srcObject = stream
      await this.video.play()
    } catch (error) {
      if (change !== this.#changes) return
      this.stop()
      throw new CameraError(text(REASONS[error.name] ?? 'device_camera_fails'))
    }
  }

  stop() {
    this.#changes++
    if (this.#stream) endTracks(this.#stream)
    this.#stream = null
    this.video.srcObject = null
  }

  // The cameras of this device, once it may be used: [{deviceId, label}].
  async list() {
    const devices = await navigator.mediaDevices.enumerateDevices()
    return devices.filter(({ kind }) => kind === 'videoinput')
  }
}

function endTracks(stream) {
  for (const track of stream.getTracks()) track.stop()
}
