// The static site: the page's stage and live camera, both answered on this device.

import { AskError, orderFaces } from './ask.js'
import { DeviceError, DeviceModel } from './device/device_model.js'
import { loadingText, mountLive } from './device/live.js'
import { element, notice, replace } from './dom.js'
import { createOptions } from './options.js'
import { createStage } from './stage.js'
import { language, text, useTexts } from './texts.js'

const MANIFEST = new URL('manifest.json', location.href)
const MOST_PICTURES = 20
const MOST_MEGABYTES = 50

// As askServer in ask.js, by the model on this device.
function askDevice(device) {
  return async (blob, options, { signal }) => {
    try {
      const model = await device
      signal.throwIfAborted()
      return orderFaces(await model.predict(blob, { whole: !options.detect }), options)
    } catch (error) {
      if (error instanceof DeviceError) throw new AskError(error.message)
      throw error
    }
  }
}

async function start() {
  const told = document.getElementById('loading')
  const progress = element('progress', { max: 1, 'aria-label': text('device_preparing') })
  const status = element('p', { role: 'status', class: 'quiet' }, text('device_preparing'))
  replace(told, status, progress)
  const device = DeviceModel.load(MANIFEST, (done, all) => {
    progress.value = done / all
    status.textContent = loadingText(done, all)
  })
  device.then(
    () => replace(told),
    error => {
      if (!(error instanceof DeviceError)) throw error
      replace(told, notice(error.message, 'problem'))
    },
  )
  const answer = await fetch(MANIFEST).catch(() => null)
  if (!answer?.ok) return // `device` says why
  const { name, range_sets, default_ranges, config } = await answer.json()
  const options = createOptions({
    models: [{ name }],
    rangeSets: range_sets,
    defaultRanges: default_ranges,
    maxAge: config.max_age,
  })
  replace(document.getElementById('options'), options.view)
  const limits = { maxPictures: MOST_PICTURES, maxPictureMb: MOST_MEGABYTES, isOnDevice: true }
  createStage(document.getElementById('picture'), limits, options, askDevice(device))
  mountLive(document.getElementById('camera'), { models: [{ name, device }], options })
}

function tabs() {
  const all = [...document.querySelectorAll('[role=tab]')]
  const open = tab => {
    for (const other of all) {
      other.setAttribute('aria-selected', other === tab)
      other.tabIndex = other === tab ? 0 : -1
      document.getElementById(other.getAttribute('aria-controls')).hidden = other !== tab
    }
    tab.focus()
  }
  all.forEach((tab, index) => {
    tab.addEventListener('click', () => open(tab))
    tab.addEventListener('keydown', ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key]
      if (step) open(all.at((index + step) % all.length))
    })
  })
}

useTexts(await (await fetch(new URL('texts.json', location.href))).json())
document.documentElement.lang = language
document.title = text('title')
document.documentElement.classList.toggle('dark', matchMedia('(prefers-color-scheme: dark)').matches)
for (const node of document.querySelectorAll('[data-text]')) node.textContent = text(node.dataset.text)
for (const node of document.querySelectorAll('[data-label]')) node.setAttribute('aria-label', text(node.dataset.label))
tabs()
start()
