// What stands on the stage for one picture: it is being answered, it has its answer, or there is none and why.

import { answerView, waitingView } from './answers.js'
import { annotatedBlob, openShare } from './card.js'
import { button, element, ICONS, icon, notice, openDialog, saveAs, toolButton } from './dom.js'
import { imageOf, isBusy } from './item.js'
import { annotatedPicture, showing } from './picture.js'
import { percent, text } from './texts.js'
import { pinAge } from './words.js'

// actions: { choose(), camera(), more() or null }
export function toolbar(item, actions) {
  const hasFaces = item.status === 'done' && item.answer.faces.length > 0
  const withBitmap = action => async () => action(await item.bitmap(), item.answer)
  const copyName = `${item.name.replace(/\.\w+$/, '')}-age.jpg`
  const save = async (bitmap, answer) => saveAs(await annotatedBlob(bitmap, answer), copyName)
  return element(
    'div',
    { class: 'toolbar', role: 'group', 'aria-label': text('tools') },
    toolButton(ICONS.picture, text('new_picture'), actions.choose),
    toolButton(ICONS.camera, text('use_camera'), actions.camera),
    actions.more && toolButton(ICONS.add, text('add_pictures'), actions.more),
    element('span', { class: 'gap' }),
    hasFaces && toolButton(ICONS.download, text('download'), withBitmap(save)),
    hasFaces && toolButton(ICONS.share, text('share'), withBitmap(openShare), { class: 'tool main' }),
  )
}

// options: { caption, ranges, hasSaliency, cancel() or null, again(change), back(), backLabel }
export function scene(item, options) {
  if (item.answer) return answerScene(item, options)
  const picture = item.shown ? annotatedPicture(imageOf(item), null) : blank()
  const said = item.status === 'failed' ? item.error : item.status === 'stopped' ? text('status_stopped') : null
  const side = said === null ? waiting(item, options) : problem(said, item, options)
  return element('div', { class: 'show' }, figure(options, picture), side)
}

function answerScene(item, options) {
  const { answer } = item
  // Faces in the picture and in the list show each other.
  const link = (index, how) => {
    if (how === 'choose') view.choose(index)
    if (how === 'open' || how === 'close') item.open = how === 'open' ? index : null
    const face = how === 'leave' ? null : index
    picture.mark(face)
    view.mark(face)
  }
  const picture = annotatedPicture(imageOf(item), answer, { onFace: link })
  const hasMaps = answer.faces.some(face => face.saliency_maps)
  const onSaliency = options.hasSaliency ? (hasMaps ? null : () => options.again({ saliency: true })) : undefined
  const view = answer.faces.length
    ? answerView(answer, { ranges: options.ranges, crops: item.crops, opened: item.opened, onFace: link, onSaliency })
    : noFace(options)
  if (answer.faces[item.open]) view.open(item.open)
  const waits = isBusy(item)
  const isFresh = !item.isSeen
  item.isSeen = true
  const larger = toolButton(ICONS.enlarge, text('enlarge'), () => enlarge(item), { class: 'tool enlarge' })
  return element(
    'div',
    { class: `show${answer.faces.length > 1 ? ' of-group' : ''}${isFresh ? ' fresh' : ''}` },
    figure(options, picture, larger),
    element(
      'div',
      { class: 'side', 'aria-busy': String(waits) },
      waits && element('p', { class: 'busy', role: 'status' }, text('working')),
      view,
    ),
  )
}

function figure({ caption }, ...content) {
  const line = caption && element('figcaption', { class: 'quiet' }, caption)
  return element('figure', { class: 'picture' }, content, line)
}

function blank() {
  return element('div', { class: 'blank' }, icon(ICONS.picture, 56))
}

// `item.progress(share)` moves the bar.
function waiting(item, options) {
  const meter = element('progress', { max: 1, 'aria-label': text('film_label') })
  const said = element('span', {})
  item.progress = share => {
    const isSending = share !== null && share > 0 && share < 1
    said.textContent = isSending ? text('sending', { share: percent(share) }) : text('working')
    if (isSending) meter.value = share
    else meter.removeAttribute('value')
  }
  item.progress(item.share)
  const view = waitingView(said)
  view.append(meter)
  if (options.cancel) view.append(button({ class: 'plain', onclick: options.cancel }, text('cancel')))
  return view
}

function problem(said, item, options) {
  const isRetryable = item.status === 'stopped' || item.isRetryable
  return element(
    'section',
    { class: 'answer' },
    notice(said, 'problem'),
    isRetryable && button({ class: 'main', onclick: () => options.again() }, text('try_again')),
    button({ class: 'plain', onclick: options.back }, options.backLabel),
  )
}

function noFace(options) {
  return element(
    'section',
    { class: 'answer' },
    element('h2', {}, text('no_face')),
    element('p', {}, text('no_face_help')),
    button({ class: 'plain', onclick: () => options.again({ detect: false, answer: null }) }, text('whole_ask')),
  )
}

function enlarge(item) {
  const close = event => event.currentTarget.closest('dialog').close()
  const picture = annotatedPicture(showing(item.shown), item.answer, { label: pinAge, radius: 20 })
  const closing = toolButton(ICONS.close, text('close'), close, { class: 'tool' })
  openDialog(element('dialog', { class: 'enlarged', 'aria-label': text('enlarged') }, picture, closing))
}
