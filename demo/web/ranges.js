// Age ranges: read as the server reads them, and summed from the probabilities of single years.

export class RangesError extends Error {
  // `problem` and `values` choose the sentence of texts.json.
  constructor(problem, values = {}) {
    super(problem)
    this.problem = problem
    this.values = values
  }
}

// '0-17, 18+' -> [[0, 17], [18, maxAge]]. Throws RangesError with the first mistake.
export function parseRanges(typed, maxAge) {
  const parts = typed
    .split(/[,;\n]/)
    .map(part => part.trim())
    .filter(Boolean)
  if (!parts.length) throw new RangesError('ranges_none')
  const ranges = parts.map(part => {
    const match = /^(\d+)\s*(?:[-–]\s*(\d+)|(\+))?$/.exec(part)
    if (!match) throw new RangesError('ranges_not_understood', { part })
    const low = Number(match[1])
    return [low, match[3] ? maxAge : match[2] ? Number(match[2]) : low]
  })
  let next = 0
  for (const [low, high] of ranges) {
    if (high < low) throw new RangesError('ranges_backwards', { low, high })
    if (low < next) throw new RangesError('ranges_overlap', { years: years(low, Math.min(high, next - 1)) })
    if (low > next) throw new RangesError('ranges_gap', { years: years(next, low - 1) })
    if (high > maxAge) throw new RangesError('ranges_too_high', { high, max: maxAge })
    next = high + 1
  }
  if (next <= maxAge) throw new RangesError('ranges_end', { from: next })
  return ranges
}

function years(low, high) {
  return low === high ? `${low}` : `${low}-${high}`
}

// -> [{ label, share, hasAge }]: hasAge marks the range of the face's own age, which headline and pin name too.
export function rangeShares(face, ranges, maxAge) {
  const age = Math.round(face.age)
  return ranges.map(([low, high]) => ({
    label: high === maxAge ? `${low}+` : years(low, high),
    share: face.year_probabilities.slice(low, high + 1).reduce((sum, share) => sum + share, 0),
    hasAge: low <= age && age <= high,
  }))
}
