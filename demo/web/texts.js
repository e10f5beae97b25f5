// The visitor's language: texts.json has a table for each. English where the browser asks for another one.

let words = {}
export let language = 'en'

export function useTexts(tables, wanted = navigator.languages) {
  const short = wanted.map(name => name.toLowerCase().split('-')[0])
  // The first wish alone decides, as in Gradio, so that the page does not mix languages.
  language = short[0] in tables ? short[0] : 'en'
  words = tables[language]
}

export function text(key, values = {}) {
  if (!(key in words)) throw new Error(`texts.json lacks ${key}`)
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name])
}

// 'faces' with 1 takes faces_one, with another number faces_many.
export function count(key, number) {
  return text(number === 1 ? `${key}_one` : `${key}_many`, { count: integer(number) })
}

export function percent(share) {
  return new Intl.NumberFormat(language, { style: 'percent', maximumFractionDigits: 0 }).format(share)
}

export function decimal(value) {
  return new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value)
}

export function integer(value) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: 0 }).format(value)
}

// Rounded up, so that no time is promised shorter than it is.
export function duration(seconds) {
  return seconds < 120 ? count('seconds', seconds) : count('minutes', Math.ceil(seconds / 60))
}
