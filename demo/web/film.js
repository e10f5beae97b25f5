// Several pictures as a filmstrip: how far each one is, one that is shown, ways to add and to remove.

import { button, element, ICONS, icon } from './dom.js'
import { isBusy } from './item.js'
import { count, percent, text } from './texts.js'

// items: see stage.js. actions: { select(item), remove(item), add(), cancel(), resume() }
export function filmStrip(items, selected, actions) {
  const done = items.filter(({ status }) => status === 'done' || status === 'failed').length
  const isRunning = items.some(isBusy)
  const isStopped = !isRunning && items.some(({ status }) => status === 'stopped')
  return element(
    'section',
    { class: 'film', 'aria-label': text('your_pictures') },
    element(
      'div',
      { class: 'film-head' },
      element('span', { role: 'status' }, text('film_progress', { done, all: items.length })),
      isRunning && element('progress', { value: done, max: items.length, 'aria-label': text('film_label') }),
      isRunning && button({ class: 'plain', onclick: actions.cancel }, text('cancel')),
      isStopped && button({ class: 'plain', onclick: actions.resume }, text('resume')),
    ),
    element(
      'ul',
      { class: 'frames' },
      items.map(item => frame(item, item === selected, actions)),
      element(
        'li',
        {},
        button(
          { class: 'frame add', onclick: actions.add },
          icon(ICONS.add, 24),
          element('span', {}, text('add_pictures')),
        ),
      ),
    ),
  )
}

function frame(item, isSelected, actions) {
  const said = state(item)
  return element(
    'li',
    { class: `film-item ${item.status}` },
    button(
      {
        class: 'frame',
        'aria-current': isSelected ? 'true' : null,
        'aria-label': `${item.name}: ${said}`,
        title: item.name,
        onclick: () => actions.select(item),
      },
      item.thumb ?? icon(ICONS.picture, 28),
      element('span', { class: 'frame-state' }, item.status === 'failed' ? icon(ICONS.warning, 16) : badge(item)),
    ),
    button(
      {
        class: 'remove',
        'aria-label': text('remove', { name: item.name }),
        title: text('remove', { name: item.name }),
        onclick: () => actions.remove(item),
      },
      icon(ICONS.close, 14),
    ),
  )
}

function badge(item) {
  if (item.status === 'done') return String(item.answer.faces.length)
  return item.status === 'working' ? '…' : ''
}

function state(item) {
  if (item.status === 'done') return count('faces_found', item.answer.faces.length)
  if (item.status === 'failed') return item.error
  if (item.status === 'working' && item.share !== null) return text('sending', { share: percent(item.share) })
  return text(`status_${item.status}`)
}
