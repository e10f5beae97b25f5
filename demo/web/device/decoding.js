// What the network's logits mean: model/decoding_age_gender.py. All of the model's own values come from its config.json.

import { rangeShares } from '../ranges.js'

const UNSURE = 'unsure'

// The pipeline's fields of one face, `age` to `genders`. `config` is the model's config.json; `ranges` are [low, high] years.
export function decode(ageLogits, genderLogits, config, ranges) {
  const years = softmax(ageLogits),
    genders = softmax(genderLogits)
  const best = indexOfMost(genders)
  const age = estimateAge(years, config.age_estimate)
  const shares = rangeShares({ age, year_probabilities: years }, ranges, config.max_age)
  return {
    age,
    age_interval: ageInterval(years, config.interval_mass),
    age_range: shares[indexOfMost(shares.map(({ share }) => share))].label, // the most probable one
    age_ranges: new Map(shares.map(({ label, share }) => [label, share])), // an object would put "5" before "0-4"
    gender: genders[best] >= config.gender_threshold ? config.gender_names[best] : UNSURE,
    genders: Object.fromEntries(config.gender_names.map((name, index) => [name, genders[index]])),
    year_probabilities: years,
  }
}

const FIELDS = ['age', 'age_interval', 'age_range', 'age_ranges', 'gender', 'genders', 'year_probabilities']
export const NO_ANSWER = Object.fromEntries(FIELDS.map(field => [field, null]))

// Why there is no answer for a face, in the pipeline's words and by the key of the page's; both are null where there is one.
export function whyAbstained({ box, isRollCertain }, config) {
  const width = box[2] - box[0]
  if (width < config.min_face_pixels) {
    const abstained = `The face is ${width.toFixed(0)} pixels wide; at least ${config.min_face_pixels} are needed.`
    return { abstained, abstained_key: 'too_small' }
  }
  if (isRollCertain) return { abstained: null, abstained_key: null }
  const abstained = 'It is not certain which way up the face is. Turn the picture upright.'
  return { abstained, abstained_key: 'which_way_up' }
}

function softmax(logits) {
  const most = logits.reduce((one, other) => Math.max(one, other))
  const exponentials = Array.from(logits, logit => Math.exp(logit - most))
  const sum = exponentials.reduce((one, other) => one + other)
  return exponentials.map(value => value / sum)
}

function estimateAge(years, estimate) {
  if (estimate === 'mean') return years.reduce((sum, share, year) => sum + share * year, 0)
  const year = quantileYear(years, 0.5)
  const below = years.slice(0, year).reduce((sum, share) => sum + share, 0)
  const age = year - 0.5 + (0.5 - below) / Math.max(years[year], 1e-9)
  return Math.min(Math.max(age, 0), years.length - 1)
}

const ageInterval = (years, mass) => [quantileYear(years, (1 - mass) / 2), quantileYear(years, (1 + mass) / 2)]

function quantileYear(years, quantile) {
  if (quantile >= 1) return years.length - 1
  let sum = 0
  const year = years.findIndex(share => {
    sum += share
    return sum >= Math.min(quantile, 1 - 1e-6)
  })
  return Math.max(year, 0)
}

const indexOfMost = values => values.indexOf(Math.max(...values))
