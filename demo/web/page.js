// The parts of the page as Gradio loads them: each function fills one gr.HTML of demo/page.py.

import { showAbout } from './about.js'
import { askServer } from './ask.js'
import { button, element, replace } from './dom.js'
import { createLive } from './live.js'
import { createOptions } from './options.js'
import { createStage } from './stage.js'
import { duration, language, text, useTexts } from './texts.js'

useTexts(window.gradio_config.i18n_translations)
document.documentElement.lang = language
keepTitle()
new MutationObserver(keepTitle).observe(document.head, { childList: true, subtree: true, characterData: true })

// Gradio sets the title of its configuration, which knows no language, before or after this file is loaded.
function keepTitle() {
  if (document.title !== text('title')) document.title = text('title')
}

// The options, which all parts share, once the stage has drawn them up.
let shareOptions
export const options = new Promise(resolve => {
  shareOptions = resolve
})

const part = (name, root = document) => root.querySelector(`[data-part="${name}"]`)

export function header(root) {
  replace(part('header', root), element('h1', {}, text('title')), element('p', { class: 'lead' }, text('lead')))
}

export function stage(root, props) {
  const made = createOptions({
    models: props.models,
    rangeSets: props.range_sets,
    defaultRanges: props.default_ranges,
    maxAge: props.max_age,
  })
  shareOptions(made)
  const limits = { maxPictures: props.max_pictures, maxPictureMb: props.max_picture_mb }
  createStage(part('stage', root), limits, made, askServer)
}

// The value is the model's name, which the live camera sends with each picture; `select` asks for what About says of it.
export async function choices(root, props, _, trigger) {
  const { view, chosen, listen } = await options
  replace(part('choices', root), view)
  listen(changed => {
    if (changed !== 'model') return
    props.value = chosen.model
    if (document.getElementById('about')?.checkVisibility()) trigger('select')
  })
}

export async function live(root, props, watch) {
  const show = createLive(part('live', root), part('overlay'), {
    seconds: props.seconds,
    framesPerSecond: props.frames_per_second,
    options: await options,
  })
  watch('value', () => show(props.value))
}

export async function about(root, props, watch) {
  const place = part('about', root)
  const shared = await options
  const show = () => showAbout(place, props.value, shared)
  show()
  watch('value', show)
}

export function footer(root, props) {
  replace(
    part('footer', root),
    element('p', { class: 'not-for' }, element('strong', {}, text('not_for_lead')), ' ', text('not_for')),
    element('p', {}, text('privacy_programs', { keep: duration(props.keep_seconds) })),
    element('p', {}, button({ class: 'link', onclick: openApi }, text('api'))),
  )
}

// Gradio's own footer is hidden, for its words follow another table. Its button, which may be drawn later than this page's,
// opens the page for programs; the address says that Python comes first, and not MCP.
function openApi() {
  const gradios = document.querySelector('footer .show-api')
  if (!gradios) return setTimeout(openApi, 100)
  const address = new URL(location.href)
  address.searchParams.set('lang', 'python')
  history.replaceState(null, '', address)
  gradios.click()
}
