// The stage: pictures come in, are asked about sequentially, and the annotated picture takes the drop zone's place.

import { AskError } from './ask.js'
import { takePhoto } from './camera.js'
import { element, ICONS, icon, notice, replace } from './dom.js'
import { filmStrip } from './film.js'
import { chooseFiles, listen } from './intake.js'
import { createItem, forget, goesAsItIs, isBusy, keepAnswer, letGoOfPixels, readItem } from './item.js'
import { scene, toolbar } from './scenes.js'
import { startView } from './start.js'
import { facesTable } from './table.js'
import { text } from './texts.js'
import { describe } from './words.js'

// settings: { maxPictures, maxPictureMb, isOnDevice: without a server }. options: see options.js. ask: see askServer in ask.js.
export function createStage(place, settings, options, ask) {
  let items = []
  let selected = null
  let previous = [] // answered pictures that new ones replace; they come back where the new one cannot be read
  let running = null // the AbortController of the question that is out
  let problem = null // a sentence
  const status = element('p', { class: 'visually-hidden', role: 'status' })
  const main = element('div', { class: 'stage-main', tabindex: '-1' })
  const veil = element('div', { class: 'veil', hidden: true, 'aria-hidden': 'true' }, icon(ICONS.picture, 56))
  veil.append(text('drop_here'))
  options.listen(changed => (changed === 'model' ? askWhere(({ status }) => status !== 'failed') : render()))
  replace(place, main, status, veil)
  const isActive = () => place.offsetParent !== null && !document.querySelector('dialog[open]')
  const onDrag = isOver => {
    veil.hidden = !isOver
  }
  listen(files => add(files), onDrag, isActive)
  render()
  return { add }

  // way: 'new' replaces what is there, 'more' adds to it; without it one picture replaces one, and else all are added.
  function add(files, way = null) {
    const isReplaced = way === 'new' || (!way && files.length === 1 && items.length <= 1)
    const room = settings.maxPictures - (isReplaced ? 0 : items.length)
    const left = files.length - room
    problem = left > 0 ? text('too_many', { most: settings.maxPictures, left }) : null
    const fresh = files.slice(0, room).map(createItem)
    if (!fresh.length) return render()
    if (isReplaced) {
      const answered = items.filter(item => item.status === 'done')
      if (answered.length) previous = answered
      for (const item of items) if (!previous.includes(item)) forget(item)
      items = fresh
      running?.abort()
    } else items.push(...fresh)
    if (isReplaced || !selected) [selected] = fresh
    render()
    run()
  }

  async function run() {
    if (running) return
    const next = () => items.find(({ status }) => status === 'waiting')
    for (let item = next(); item; item = next()) {
      running = new AbortController()
      try {
        await answer(item, running.signal)
      } finally {
        running = null
      }
    }
  }

  // Whoever aborts has set what becomes of the item: it is stopped, waits for another question, or has left the list.
  async function answer(item, signal) {
    item.status = 'working'
    item.share = 0
    const onProgress = share => {
      item.share = share
      if (item === selected) item.progress?.(share)
    }
    const question = picture => {
      const { detect, saliency, canShow } = item
      const wishes = { detect, saliency, preview: canShow === false, model: options.chosen.model }
      return ask(picture, wishes, { signal, onProgress })
    }
    try {
      const early = item.blob || !goesAsItIs(item.file) ? null : question(item.file) // on its way while it is decoded
      early?.catch(() => {}) // told where it is awaited
      if (!item.blob) await readItem(item, settings.maxPictureMb)
      signal.throwIfAborted()
      const asked = early ?? question(item.blob)
      render()
      let found = await asked
      if (early && !item.canShow) found = await question(item.blob) // its name does not tell its kind
      signal.throwIfAborted()
      await keepAnswer(item, found)
      signal.throwIfAborted()
      item.status = 'done'
      previous.splice(0).forEach(forget)
      if (item === selected) status.textContent = describe(found)
    } catch (error) {
      const isExpected = error instanceof AskError || error.name === 'AbortError'
      if (!isExpected) reportError(error)
      if (!signal.aborted) fail(item, isExpected ? error : new AskError(text('error_server'), true))
    } finally {
      letGoOfPixels(item)
    }
    if (items.includes(item)) render()
    else forget(item) // its address was made after it left the list
  }

  function fail(item, error) {
    if (item.answer) {
      // only its maps, or another model, could not be had
      item.status = 'done'
      problem = error.message
      return
    }
    Object.assign(item, { status: 'failed', error: error.message, isRetryable: error.isRetryable })
    if (items.length > 1 || error.isRetryable) return
    goBack(text('refused_file', { name: item.name, reason: error.message }))
  }

  function cancel() {
    for (const item of items) if (isBusy(item)) item.status = 'stopped'
    if (items.length === 1 && !items[0].answer) goBack()
    running?.abort()
    render()
  }

  // To what was shown before, or to the first screen.
  function goBack(said = null) {
    items.forEach(forget)
    items = previous.splice(0)
    selected = items[0] ?? null
    problem = said
    render()
  }

  function remove(item) {
    const index = items.indexOf(item)
    items.splice(index, 1)
    if (item.status === 'working') running?.abort()
    forget(item)
    if (selected === item) selected = items[Math.min(index, items.length - 1)] ?? null
    render()
  }

  function askWhere(isAsked, change = {}) {
    const asked = items.filter(isAsked)
    if (asked.some(({ status }) => status === 'working')) running.abort()
    for (const item of asked) Object.assign(item, change, { status: 'waiting' })
    problem = null
    render()
    run()
  }

  async function addExample(name) {
    const example = await fetch(new URL(`examples/${name}.jpg`, document.baseURI)).catch(() => null)
    if (example?.ok) return add([new File([await example.blob()], `${name}.jpg`, { type: 'image/jpeg' })])
    problem = text('error_offline')
    render()
  }

  function select(item) {
    selected = item
    render()
  }

  function render() {
    const hadFocus = main.contains(document.activeElement)
    document.body.classList.toggle('has-answer', items.length > 0)
    const told = problem && notice(problem, 'problem')
    replace(main, ...(selected ? picturesView(told) : [told, firstScreen()]))
    if (hadFocus && !main.contains(document.activeElement)) main.focus({ preventScroll: true })
  }

  function firstScreen() {
    const camera = () => takePhoto(file => add([file]))
    const actions = { choose: () => chooseFiles(files => add(files)), camera, example: addExample }
    return startView(actions, settings.isOnDevice)
  }

  function picturesView(told) {
    const isOnly = items.length === 1
    const item = selected
    const { ranges } = options.chosen
    const more = () => chooseFiles(files => add(files, 'more'))
    const choose = () => chooseFiles(files => add(files, 'new'))
    const resume = () => askWhere(({ status }) => status === 'stopped')
    return [
      toolbar(item, { choose, camera: () => takePhoto(file => add([file])), more: isOnly && more }),
      told,
      !isOnly && filmStrip(items, item, { select, remove, cancel, resume, add: more }),
      scene(item, {
        caption: isOnly ? null : item.name,
        ranges,
        hasSaliency: !settings.isOnDevice,
        cancel: isOnly ? cancel : null, // else the filmstrip has it
        again: change => askWhere(one => one === item, change),
        back: isOnly ? () => goBack() : () => remove(item),
        backLabel: isOnly ? text('back') : text('remove_this'),
      }),
      !isOnly && facesTable(items, ranges),
    ]
  }
}
