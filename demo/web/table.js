// All faces of several pictures as one table, and the same rows as a CSV file.

import { button, element, saveAs } from './dom.js'
import { isBusy } from './item.js'
import { rangeShares } from './ranges.js'
import { count, percent, text } from './texts.js'
import { abstainedText, ageText, genderName } from './words.js'

const COLUMNS = ['picture', 'face', 'age', 'from', 'to', 'range', 'gender', 'confidence', 'turned', 'note']
const BOX = ['x0', 'y0', 'x1', 'y1'] // in pixels of the upright picture; in the file alone, as the ranges' probabilities are
const UNSAFE = /^(?:[\s\0]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]|\p{Nd}+[-/.]\p{Nd}+(?:[-/.]\p{Nd}+)?\n?$)/u

// items: [{ name, answer or null, error, status }]; ranges: parsed.
export function facesTable(items, ranges) {
  // A picture that is asked about again, by another model say, keeps its earlier answer until then.
  const rows = items.flatMap(item => rowsOf(item, ranges).map(row => ({ ...row, isEarlier: isBusy(item) })))
  const head = COLUMNS.map(column => element('th', { scope: 'col' }, text(`column_${column}`)))
  return element(
    'section',
    { class: 'all-faces' },
    element(
      'div',
      { class: 'all-faces-head' },
      element('h2', {}, text('all_faces')),
      button({ class: 'plain', onclick: () => saveAs(toCsv(rows), 'faces.csv') }, text('download_csv')),
    ),
    element(
      'div',
      { class: 'table', tabindex: '0', role: 'region', 'aria-label': text('all_faces') },
      element(
        'table',
        {},
        element('thead', {}, element('tr', {}, head)),
        element(
          'tbody',
          {},
          rows.map(({ cells, box, isEarlier }) =>
            element(
              'tr',
              { class: isEarlier && 'earlier' },
              box ? cells.map(cell => element('td', {}, cell)) : noteCells(cells),
            ),
          ),
        ),
      ),
    ),
  )
}

// What is said of a picture without faces reaches over the columns that would be empty.
function noteCells(cells) {
  return [element('td', {}, cells[0]), element('td', { colspan: cells.length - 1 }, cells.at(-1))]
}

// One { cells, box, shares } a face, or one for what is said of a picture without any.
function rowsOf({ name, answer, error }, ranges) {
  const note = said => [{ cells: [name, ...Array(COLUMNS.length - 2).fill(''), said] }]
  if (error) return note(error)
  if (!answer) return []
  if (!answer.faces.length) return note(count('faces_found', 0))
  return answer.faces.map((face, index) => {
    const number = String(index + 1)
    const turned = face.roll_degrees ?? ''
    if (face.abstained) {
      return { cells: [name, number, ...Array(6).fill(''), turned, abstainedText(face, answer)], box: face.box }
    }
    const isUnsure = face.gender === 'unsure'
    const genders = Object.entries(face.genders).map(([gender, share]) => `${genderName(gender)} ${percent(share)}`)
    const shares = rangeShares(face, ranges, answer.max_age)
    const cells = [
      name,
      number,
      ageText(face),
      ...face.age_interval,
      shares.find(({ hasAge }) => hasAge).label,
      isUnsure ? text('unsure') : genderName(face.gender),
      isUnsure ? '' : percent(face.genders[face.gender]),
      turned,
      answer.whole ? text('whole_answer') : isUnsure ? genders.join(', ') : '',
    ]
    return { cells, box: face.box, shares }
  })
}

// With the byte order mark by which a spreadsheet recognises UTF-8.
function toCsv(rows) {
  const labels = rows.find(({ shares }) => shares)?.shares.map(({ label }) => label) ?? []
  const header = [...COLUMNS.map(column => text(`column_${column}`)), ...BOX, ...labels.map(spelledOut)]
  const lines = rows.map(({ cells, box = [], shares = [] }) => [
    ...cells.map((cell, column) => (COLUMNS[column] === 'range' ? spelledOut(cell) : cell)),
    ...BOX.map((_, side) => box[side] ?? ''),
    ...labels.map((_, range) => (shares[range] ? Number(shares[range].share.toFixed(4)) : '')),
  ])
  const all = [header, ...lines].map(row => row.map(cell => quoted(safeCell(cell))).join(','))
  return new Blob(['\ufeff', all.join('\r\n'), '\r\n'], { type: 'text/csv' })
}

// The range 3-9 is written "3 to 9", as scripts.predict writes it: a spreadsheet would make March 9th of it.
function spelledOut(cell) {
  const [, low, high] = /^(\d+)-(\d+)$/.exec(cell) ?? []
  return low ? text('from_to', { low, high }) : cell
}

// A text that a spreadsheet would run as a formula, or take for a date, gets an apostrophe before it, by the rule of
// model_card/output_files.py: https://owasp.org/www-community/attacks/CSV_Injection. Numbers stay as they are.
export function safeCell(cell) {
  const isUnsafe = typeof cell === 'string' && UNSAFE.test(cell.replace(/^'+/, ''))
  return isUnsafe ? `'${cell}` : cell
}

function quoted(cell) {
  const plain = String(cell)
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain
}
