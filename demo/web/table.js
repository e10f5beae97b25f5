// All faces of several pictures as one table, and the same rows as a CSV file.

import { element, saveAs } from './dom.js'
import { rangeShares } from './ranges.js'
import { count, percent, text } from './texts.js'
import { abstainedText, ageText, genderName } from './words.js'

const COLUMNS = ['picture', 'face', 'age', 'from', 'to', 'range', 'gender', 'confidence', 'note']

// items: [{ name, answer or null, error }]; ranges: parsed.
export function facesTable(items, ranges) {
  const rows = items.flatMap(item => rowsOf(item, ranges))
  const head = COLUMNS.map(column => element('th', { scope: 'col' }, text(`column_${column}`)))
  return element(
    'section',
    { class: 'all-faces' },
    element(
      'div',
      { class: 'all-faces-head' },
      element('h2', {}, text('all_faces')),
      element(
        'button',
        { type: 'button', class: 'plain', onclick: () => saveAs(toCsv(rows), 'faces.csv') },
        text('download_csv'),
      ),
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
          rows.map(row =>
            element(
              'tr',
              {},
              row.map(cell => element('td', {}, cell)),
            ),
          ),
        ),
      ),
    ),
  )
}

function rowsOf({ name, answer, error }, ranges) {
  const note = said => [[name, ...Array(7).fill(''), said]]
  if (error) return note(error)
  if (!answer) return []
  if (!answer.faces.length) return note(count('faces_found', 0))
  return answer.faces.map((face, index) => {
    const number = String(index + 1)
    if (face.abstained) return [name, number, ...Array(6).fill(''), abstainedText(face, answer)]
    const isUnsure = face.gender === 'unsure'
    const shares = Object.entries(face.genders).map(([gender, share]) => `${genderName(gender)} ${percent(share)}`)
    const range = rangeShares(face, ranges, answer.max_age).find(({ hasAge }) => hasAge)
    return [
      name,
      number,
      ageText(face),
      ...face.age_interval.map(String),
      range.label,
      isUnsure ? text('unsure') : genderName(face.gender),
      isUnsure ? '' : percent(face.genders[face.gender]),
      answer.whole ? text('whole_answer') : isUnsure ? shares.join(', ') : '',
    ]
  })
}

// With the byte order mark by which a spreadsheet recognises UTF-8.
function toCsv(rows) {
  const lines = [COLUMNS.map(column => text(`column_${column}`)), ...rows].map(row => row.map(quoted).join(','))
  return new Blob(['\ufeff', lines.join('\r\n'), '\r\n'], { type: 'text/csv' })
}

// A spreadsheet runs no file name such as "=cmd()": https://owasp.org/www-community/attacks/CSV_Injection
// Nor does it make March 9th of the range 3-9 where that has a dash.
function quoted(cell) {
  const undated = cell.replace(/^(\d+)-(\d+)$/, '$1–$2')
  const plain = /^[=+\-@\t\r]/.test(undated) ? `'${undated}` : undated
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain
}
