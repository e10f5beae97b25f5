// The answer in words: one face with its age as the hero, several as rows that open.

import { curve } from './curve.js'
import { button, element } from './dom.js'
import { rangeShares } from './ranges.js'
import { percent, text } from './texts.js'
import { abstainedText, ageText, genderShort, genderText, headline, intervalText } from './words.js'

const LEAST_SHARE = 0.005 // ranges below it would read 0%

// options: { ranges, crops, opened: names of the details that are open, onFace(index, how), onSaliency(): null where the maps
// are there already, undefined where there are none; isLive: nothing to open }
// -> an element with `mark(index)`, `choose(index)` and `open(index)`.
export function answerView(answer, options) {
  if (answer.faces.length > 1) return groupView(answer, options)
  const nothing = () => {} // a single face has no row
  return Object.assign(singleView(answer, options), { mark: nothing, choose: nothing, open: nothing })
}

function singleView(answer, options) {
  const [face] = answer.faces
  const title = element('h2', { class: 'visually-hidden' }, headline(answer))
  if (face.abstained) {
    return element(
      'section',
      { class: 'answer single' },
      title,
      element('p', { class: 'hero-note' }, text('no_answer')),
      element('p', {}, abstainedText(face, answer)),
    )
  }
  return element(
    'section',
    { class: 'answer single' },
    title,
    answer.whole && element('p', { class: 'hero-note' }, text('whole_note')),
    element(
      'p',
      { class: 'hero' },
      element('span', { class: 'hero-lead' }, text('looks_about')),
      element('span', { class: 'hero-age' }, ageText(face)),
      element('span', { class: 'hero-lead' }, text('years_old')),
    ),
    element('p', { class: 'hero-interval' }, intervalText(face)),
    element('p', { class: 'hero-gender' }, genderText(face)),
    curve(face, answer.max_age),
    !answer.whole && promise(answer),
    options.isLive ? options.ranges && bars(face, answer, options.ranges) : details(face, answer, options),
  )
}

function groupView(answer, options) {
  const rows = answer.faces.map((face, index) => faceRow(face, index, answer, options))
  const view = element(
    'section',
    { class: 'answer group' },
    element('h2', {}, headline(answer)),
    promise(answer),
    element('ol', { class: 'faces' }, rows),
  )
  view.mark = index => {
    for (const [number, row] of rows.entries()) row.classList.toggle('marked', number === index)
  }
  view.choose = index => {
    rows[index].querySelector('button').focus({ preventScroll: true })
    const isStill = matchMedia('(prefers-reduced-motion: reduce)').matches
    rows[index].scrollIntoView({ block: 'nearest', behavior: isStill ? 'instant' : 'smooth' })
  }
  view.open = index => rows[index].querySelector('button').click()
  return view
}

function faceRow(face, index, answer, options) {
  const number = face.number ?? index + 1
  const panel = element('div', { class: 'panel', hidden: true })
  const said = face.abstained
    ? [element('span', { class: 'row-words' }, abstainedText(face, answer))]
    : [
        element('span', { class: 'row-age' }, ageText(face)),
        element(
          'span',
          { class: 'row-words' },
          element('span', {}, intervalText(face)),
          element('span', { class: 'quiet' }, genderShort(face)),
        ),
      ]
  const row = element(
    'li',
    { class: 'face' },
    button(
      {
        class: 'row',
        'aria-expanded': 'false',
        disabled: Boolean(face.abstained || options.isLive),
        'aria-label': face.abstained
          ? `${text('face_number', { number })}: ${abstainedText(face, answer)}`
          : `${text('face_number', { number })}: ${text('looks_about')} ${ageText(face)}, ${intervalText(face)}, ${genderShort(face)}`,
        onclick: event => {
          const open = panel.hidden
          if (open)
            panel.replaceChildren(
              element('p', {}, genderText(face)),
              curve(face, answer.max_age),
              details(face, answer, options),
            )
          panel.hidden = !open
          row.classList.toggle('open', open)
          event.currentTarget.setAttribute('aria-expanded', String(open))
          options.onFace(index, open ? 'open' : 'close')
        },
        onfocus: () => options.onFace(index, 'point'),
        onblur: () => options.onFace(index, 'leave'),
        onpointerenter: () => options.onFace(index, 'point'),
        onpointerleave: () => options.onFace(index, 'leave'),
      },
      element('span', { class: 'number' }, String(number)),
      options.crops?.[index],
      said,
    ),
    panel,
  )
  return row
}

function promise(answer) {
  return element('p', { class: 'quiet promise' }, text('promise', { share: percent(answer.interval_coverage) }))
}

function details(face, answer, options) {
  const { opened } = options
  const fold = (name, content) =>
    element(
      'details',
      {
        open: opened.has(name),
        ontoggle: ({ target }) => (target.open ? opened.add(name) : opened.delete(name)),
      },
      element('summary', {}, text(name)),
      content,
    )
  return element(
    'div',
    { class: 'details' },
    fold('all_ranges', bars(face, answer, options.ranges)),
    options.onSaliency !== undefined && fold('saliency', saliency(face, options)),
  )
}

export function bars(face, answer, ranges) {
  const shares = rangeShares(face, ranges, answer.max_age).filter(({ share, hasAge }) => hasAge || share >= LEAST_SHARE)
  return element(
    'ul',
    { class: 'bars' },
    shares.map(({ label, share, hasAge }) =>
      element(
        'li',
        { class: hasAge ? 'best' : '' },
        element('span', {}, label),
        element('i', {}, element('b', { style: `width: ${(100 * share).toFixed(1)}%` })),
        element('span', {}, percent(share)),
      ),
    ),
  )
}

function saliency(face, options) {
  if (face.saliency_maps) {
    const maps = Object.entries(face.saliency_maps).map(([name, url]) =>
      element(
        'figure',
        {},
        element('img', { src: url, alt: text(`saliency_${name}`) }),
        element('figcaption', {}, text(`saliency_${name}`)),
      ),
    )
    return element('div', { class: 'maps' }, maps, element('p', { class: 'quiet' }, text('saliency_help')))
  }
  if (!options.onSaliency) return element('p', { class: 'quiet' }, text('saliency_left_out'))
  return element(
    'div',
    {},
    element('p', { class: 'quiet' }, text('saliency_help')),
    button({ class: 'plain', onclick: options.onSaliency }, text('saliency_show')),
  )
}

// While the model is at work: the shape of what comes.
export function waitingView(said) {
  return element(
    'section',
    { class: 'answer single waiting', role: 'status' },
    element('p', { class: 'hero-lead' }, said),
    element('div', { class: 'ghost ghost-age' }),
    element('div', { class: 'ghost' }),
    element('div', { class: 'ghost short' }),
    element('div', { class: 'ghost ghost-curve' }),
  )
}
