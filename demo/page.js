() => { // What the browser alone learns, marked on the page for page.css to tell: no camera, a picture it cannot show.
  const marks = document.body.classList
  const devices = navigator.mediaDevices // there is none at an http address of another computer
  marks.toggle('no-camera', !devices)
  if (devices) {
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
  for (const kind of ['load', 'error'])
    document.addEventListener(kind, event => {
      if (event.target.matches?.('#picture img')) event.target.toggleAttribute('data-unshown', kind === 'error')
    }, true)
}
