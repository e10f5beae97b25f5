// The distribution over years as a curve, with the interval shaded and the age marked.

import { svg } from './dom.js'
import { text } from './texts.js'
import { ageText, intervalText } from './words.js'

const WIDTH = 320
const HEIGHT = 84
const BASE = 62 // of the curve; the years stand below

export function curve(face, maxAge) {
  const last = Math.min(maxAge, 100)
  const x = year => (WIDTH * year) / last
  const smooth = smoothed(face.year_probabilities).slice(0, last + 1)
  const top = Math.max(...smooth)
  const points = smooth.map((share, year) => `${x(year).toFixed(1)},${(BASE - (BASE - 4) * (share / top)).toFixed(1)}`)
  const [age, low, high] = [face.age, ...face.age_interval].map(year => Math.min(year, last))
  const under = (from, to) =>
    `M${x(from).toFixed(1)},${BASE}L${points.slice(from, to + 1).join('L')}L${x(to).toFixed(1)},${BASE}Z`
  const ticks = [0, 20, 40, 60, 80, 100].filter(year => year <= last)
  return svg(
    'svg',
    {
      class: 'curve',
      viewBox: `-12 0 ${WIDTH + 24} ${HEIGHT}`,
      role: 'img',
      'aria-label': text('curve', { age: ageText(face), interval: intervalText(face) }),
    },
    svg('path', { class: 'curve-all', d: under(0, last) }),
    svg('path', { class: 'curve-likely', d: under(low, Math.max(high, Math.min(low + 1, last))) }),
    svg('path', { class: 'curve-line', d: `M${points.join('L')}` }),
    svg('line', { class: 'curve-age', x1: x(age), x2: x(age), y1: 0, y2: BASE }),
    svg('line', { class: 'curve-base', x1: 0, x2: WIDTH, y1: BASE, y2: BASE }),
    ticks.map(year => svg('text', { x: x(year), y: HEIGHT - 6, 'text-anchor': 'middle' }, String(year))),
  )
}

// Labels gather at round years, so single years jump: a mean over five neighbours shows the shape.
function smoothed(shares) {
  const weights = [1, 2, 3, 2, 1]
  return shares.map((_, year) => {
    let sum = 0
    let total = 0
    weights.forEach((weight, index) => {
      const share = shares[year + index - 2]
      if (share === undefined) return
      sum += weight * share
      total += weight
    })
    return sum / total
  })
}
