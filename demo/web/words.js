// What is said of a face: one reading for headline, row, table, pin and screen reader.

import { count, integer, percent, text } from './texts.js'

export function ageText(face) {
  return integer(Math.round(face.age))
}

// What stands in its pin on pictures to keep and to send.
export function pinAge(face) {
  return face.abstained ? '?' : ageText(face)
}

export function intervalText(face) {
  const [low, high] = face.age_interval
  return low === high ? text('likely_one', { low }) : text('likely', { low, high })
}

export function genderText(face) {
  if (face.gender === 'unsure') {
    const shares = Object.entries(face.genders).map(([name, share]) => `${genderName(name)} ${percent(share)}`)
    return text('gender_unsure', { shares: shares.join(', ') })
  }
  return text('gender_looks', { gender: genderName(face.gender), share: percent(face.genders[face.gender]) })
}

export function genderShort(face) {
  return face.gender === 'unsure' ? text('unsure') : text('looks', { gender: genderName(face.gender) })
}

// A model may name others; those stay as they are.
export function genderName(name) {
  return name === 'male' || name === 'female' ? text(name) : name
}

// Why the pipeline abstains. Whoever answered names the reason: the box, which ends at the picture's edge, would not tell it.
export function abstainedText({ abstained_key, box }, answer) {
  return text(abstained_key, { width: box[2] - box[0], least: answer.min_face_pixels })
}

// The picture in words, for screen readers.
export function describe(answer) {
  const faces = answer.faces.map((face, index) => {
    const said = face.abstained ? text('no_answer') : `${count('years', Math.round(face.age))}, ${genderShort(face)}`
    return `${text('face_number', { number: face.number ?? index + 1 })}: ${said}`
  })
  return [headline(answer), ...faces].join('. ')
}

export function headline(answer) {
  return answer.whole ? text('whole_answer') : count('faces_found', answer.faces.length)
}
