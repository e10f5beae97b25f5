// The first screen: ways in, three lines that say what this is, and examples.

import { button, element, ICONS, icon } from './dom.js'
import { text } from './texts.js'

// The pictures in examples/, each with its texts example_NAME and credit_NAME. Their sources are in examples/README.md.
const EXAMPLES = ['astronaut', 'group', 'admiral', 'photographer', 'dark', 'child']

// actions: { choose(), camera(), example(name) }. isOnDevice: no picture is sent anywhere.
export function startView(actions, isOnDevice) {
  const zone = element(
    'div',
    {
      class: 'zone',
      onclick: event => event.target.closest('button') || actions.choose(), // the buttons serve the keyboard
    },
    element('div', { class: 'zone-icon' }, icon(ICONS.picture, 36)),
    element(
      'div',
      { class: 'zone-buttons' },
      button({ class: 'main big', onclick: actions.choose }, icon(ICONS.picture, 22), text('choose_photos')),
      button({ class: 'plain big', onclick: actions.camera }, icon(ICONS.camera, 22), text('use_camera')),
    ),
    element('p', { class: 'zone-hint quiet' }, text('drop_hint')),
  )
  return element('div', { class: 'start' }, zone, notes(isOnDevice), examples(actions))
}

function notes(isOnDevice) {
  const privacy = isOnDevice
    ? element('p', { class: 'quiet' }, text('site_private'))
    : element('details', {}, element('summary', {}, text('privacy_short')), element('p', {}, text('privacy_long')))
  return element(
    'div',
    { class: 'notes' },
    element('p', {}, element('strong', {}, text('not_for_lead')), ' ', text('not_for')),
    privacy,
  )
}

function examples(actions) {
  return element(
    'section',
    { class: 'examples' },
    element('h2', {}, text('examples')),
    element(
      'ul',
      {},
      EXAMPLES.map(name =>
        element(
          'li',
          {},
          button(
            { class: 'example', onclick: () => actions.example(name) },
            element('img', {
              src: new URL(`examples/small/${name}.jpg`, document.baseURI),
              alt: '',
              width: 320,
              height: 320,
            }),
            element('span', {}, text(`example_${name}`)),
          ),
          element('p', { class: 'quiet credit' }, text(`credit_${name}`)),
        ),
      ),
    ),
  )
}
