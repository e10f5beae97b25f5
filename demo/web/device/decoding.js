// What the network's logits mean: model/decoding_age_gender.py. All of the model's own values come from its config.json.

const UNSURE = "unsure"

// The pipeline's fields of one face, `age` to `genders`. `config` is the model's config.json; `ranges` are [low, high] years.
export function decode(ageLogits, genderLogits, config, ranges) {
  const years = softmax(ageLogits), genders = softmax(genderLogits)
  const best = indexOfMost(genders)
  return {
    age: estimateAge(years, config.age_estimate),
    age_interval: ageInterval(years, config.interval_mass),
    ...rangeFields(years, ranges, config.max_age),
    gender: genders[best] >= config.gender_threshold ? config.gender_names[best] : UNSURE,
    genders: Object.fromEntries(config.gender_names.map((name, index) => [name, genders[index]])),
    year_probabilities: years,
  }
}

const FIELDS = ["age", "age_interval", "age_range", "age_ranges", "gender", "genders", "year_probabilities"]
export const NO_ANSWER = Object.fromEntries(FIELDS.map(field => [field, null]))

// Why there is no answer for a face, or null.
export function whyAbstained({box, isRollCertain}, config) {
  const width = box[2] - box[0]
  if (width < config.min_face_pixels) {
    return `The face is ${width.toFixed(0)} pixels wide; at least ${config.min_face_pixels} are needed.`
  }
  return isRollCertain ? null : "It is not certain which way up the face is. Turn the picture upright."
}

export function softmax(logits) {
  const most = logits.reduce((one, other) => Math.max(one, other))
  const exponentials = Array.from(logits, logit => Math.exp(logit - most))
  const sum = exponentials.reduce((one, other) => one + other)
  return exponentials.map(value => value / sum)
}

function estimateAge(years, estimate) {
  if (estimate === "mean") return years.reduce((sum, share, year) => sum + share * year, 0)
  const year = quantileYear(years, 0.5)
  const below = years.slice(0, year).reduce((sum, share) => sum + share, 0)
  const age = year - 0.5 + (0.5 - below) / Math.max(years[year], 1e-9)
  return Math.min(Math.max(age, 0), years.length - 1)
}

const ageInterval = (years, mass) => [quantileYear(years, (1 - mass) / 2), quantileYear(years, (1 + mass) / 2)]

function quantileYear(years, quantile) {
  if (quantile >= 1) return years.length - 1
  let sum = 0
  const year = years.findIndex(share => (sum += share) >= Math.min(quantile, 1 - 1e-6))
  return Math.max(year, 0)
}

// The most probable range, and a Map of all: summed years.
export function rangeFields(years, ranges, maxAge) {
  const shares = ranges.map(([low, high]) => years.slice(low, high + 1).reduce((sum, share) => sum + share, 0))
  const labels = ranges.map(([low, high]) => rangeLabel(low, high, maxAge))
  return {
    age_range: labels[indexOfMost(shares)],
    age_ranges: new Map(labels.map((label, index) => [label, shares[index]])), // an object would put "5" before "0-4"
  }
}

const indexOfMost = values => values.indexOf(Math.max(...values))

export function rangeLabel(low, high, maxAge) {
  if (high === maxAge) return `${low}+`
  return high > low ? `${low}-${high}` : `${low}`
}

export class RangesError extends Error {}

// Read "0-17, 18-39, 40+", or the name of one of `sets`, as model/configuration_age_gender.py does; throws `RangesError`.
export function parseRanges(text, maxAge, sets) {
  const parts = (Object.hasOwn(sets, text) ? sets[text] : text).split(/[,;\n]/).map(part => part.trim()).filter(Boolean)
  const ranges = parts.map(part => parseRange(part, maxAge))
  const expected = `Age ranges must cover 0 to ${maxAge} years in order, each year once`
  if (!ranges.length) throw new RangesError(`${expected}; got none.`)
  let next = 0
  for (const [low, high] of ranges) {
    if (low > high) throw new RangesError(`${expected}; ${low}-${high} runs backwards: write ${high}-${low}.`)
    if (low > next) {
      const gap = rangeLabel(next, low - 1, maxAge)
      throw new RangesError(`${expected}; ${gap} is in no range: add ${gap}.`)
    }
    if (low < next) throw new RangesError(`${expected}; ${low}-${high} overlaps the range before it: start it at ${next}.`)
    next = high + 1
  }
  if (next <= maxAge) throw new RangesError(`${expected}; the years from ${next} on are in no range: end with ${next}+.`)
  if (next > maxAge + 1) throw new RangesError(`${expected}; the last range ends at ${next - 1}: end it at ${maxAge}, or write '+'.`)
  return ranges
}

function parseRange(part, maxAge) {
  const match = /^(\d+)\s*(?:[-–]\s*(\d+)|(\+))?$/.exec(part)
  if (!match) throw new RangesError(`Age range '${part}' is not understood. Write ranges as '0-17, 18-39, 40+'.`)
  const low = Number(match[1])
  return [low, match[3] ? maxAge : match[2] ? Number(match[2]) : low]
}
