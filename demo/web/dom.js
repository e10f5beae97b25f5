// Elements in one line each: element('button', { class: 'main', onclick: choose }, 'Choose photos').

const SVG = 'http://www.w3.org/2000/svg'

export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children)
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children)
}

// Functions become listeners, true an empty attribute; what is null, undefined or false is left out.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name.slice(2), value)
    else if (value === true) node.setAttribute(name, '')
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value)
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false))
  return node
}

export function icon(path, size = 20) {
  const lines = { fill: 'none', stroke: 'currentColor', 'stroke-width': 2, 'stroke-linecap': 'round' }
  return svg(
    'svg',
    { viewBox: '0 0 24 24', width: size, height: size, 'aria-hidden': 'true', ...lines },
    svg('path', { d: path, 'stroke-linejoin': 'round' }),
  )
}

export const ICONS = {
  add: 'M12 5v14M5 12h14',
  camera:
    'M4 8h3l2-3h6l2 3h3a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V9a1 1 0 0 1 1-1zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z',
  close: 'M6 6l12 12M18 6L6 18',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  enlarge: 'M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5',
  flip: 'M4 12a8 8 0 0 1 14-5l2 2M20 4v5h-5M20 12a8 8 0 0 1-14 5l-2-2M4 20v-5h5',
  picture: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01',
  share: 'M12 15V4M8 7l4-4 4 4M6 11H5v9h14v-9h-1',
  warning: 'M12 4l9 16H3zM12 10v4M12 17h.01',
}

export function replace(node, ...children) {
  node.replaceChildren(...children.flat().filter(Boolean))
  return node
}

export function button(attributes, ...children) {
  return element('button', { type: 'button', ...attributes }, ...children)
}

// A sentence that is read out when it comes, and at once if one of its kinds is 'problem'.
export function notice(said, ...kinds) {
  const role = kinds.includes('problem') ? 'alert' : 'status'
  return element('p', { class: ['notice', ...kinds].join(' '), role }, said)
}

// A button that says what it does beside its icon, or below it on narrow screens. Where style/adapting.css leaves the icon alone,
// its title says it.
export function toolButton(path, label, onclick, attributes = {}) {
  return button({ class: 'tool', title: label, onclick, ...attributes }, icon(path), element('span', {}, label))
}

export function saveAs(blob, name) {
  const url = URL.createObjectURL(blob)
  element('a', { href: url, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}

export function openDialog(dialog) {
  document.body.append(dialog)
  dialog.addEventListener('close', () => dialog.remove())
  dialog.addEventListener('click', event => event.target === dialog && dialog.close()) // beside its content
  dialog.showModal()
  return dialog
}
