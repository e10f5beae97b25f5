// Ways in for pictures: the file chooser, a drag anywhere on the page, paste anywhere.

import { element } from './dom.js'

export const isPhone = () =>
  matchMedia('(pointer: coarse)').matches || (navigator.maxTouchPoints > 0 && screen.width <= 600)

// Open the browser's file chooser. capture: 'user' or 'environment' asks a phone for its camera.
export function chooseFiles(onFiles, { multiple = true, capture = null } = {}) {
  const input = element('input', { type: 'file', accept: 'image/*,.heic,.heif,.tif,.tiff,.avif', multiple, capture })
  input.addEventListener('change', () => input.files.length && onFiles([...input.files]))
  input.click()
}

// onDrag(true) while files are held over the stage. isActive: whether the stage is on the screen. Elsewhere files are refused,
// because a browser opens a file that nobody takes, in place of the page and its answers.
export function listen(onFiles, onDrag, isActive) {
  let depth = 0
  const drag = change => {
    depth = Math.max(0, depth + change)
    onDrag(depth > 0 && isActive())
  }
  const hasFiles = event => [...(event.dataTransfer?.types ?? [])].includes('Files')
  // Before Gradio's own listeners, which would keep the browser's default of opening the file.
  document.addEventListener('dragenter', event => hasFiles(event) && drag(1), true)
  document.addEventListener('dragleave', event => hasFiles(event) && drag(-1), true)
  document.addEventListener(
    'dragover',
    event => {
      if (!hasFiles(event)) return
      event.preventDefault()
      if (!isActive()) event.dataTransfer.dropEffect = 'none' // the pointer shows it
    },
    true,
  )
  document.addEventListener(
    'drop',
    event => {
      if (!hasFiles(event)) return
      event.preventDefault()
      event.stopPropagation()
      drag(-depth)
      if (isActive() && event.dataTransfer.files.length) onFiles([...event.dataTransfer.files])
    },
    true,
  )
  document.addEventListener('paste', event => {
    const files = [...(event.clipboardData?.files ?? [])]
    if (!isActive() || !files.length) return // text pasted into a field
    event.preventDefault()
    onFiles(files)
  })
}
