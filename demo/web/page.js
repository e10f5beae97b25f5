() => { // Marks on the page what only the browser knows, for page.css: that there is no camera, that it cannot show a picture.
  const marks = document.body.classList
  const devices = navigator.mediaDevices // undefined at the http address of another computer
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
  // Dropped onto a shown picture, a file would only remove it: Gradio reads the list of files after the event, when the browser
  // has emptied it. https://github.com/gradio-app/gradio/issues/10281, seen with 6.31.0.
  document.addEventListener('drop', event => {
    if (!event.isTrusted || !event.target.closest?.('#picture')) return
    event.preventDefault()
    event.stopImmediatePropagation()
    const dataTransfer = new DataTransfer()
    for (const file of event.dataTransfer.files) dataTransfer.items.add(file)
    event.target.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer}))
  }, true)
}
