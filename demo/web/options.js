// What a visitor may change, folded away: the age ranges and, where there are several, the model. One choice for all tabs.

import { element } from './dom.js'
import { parseRanges, RangesError } from './ranges.js'
import { decimal, percent, text } from './texts.js'

// The sets of the model's configuration by words of their own; two that are made here.
const NAMED = {
  'FairFace-9': 'ranges_ten',
  'DIT825-5': 'ranges_five',
  '14 ranges': 'ranges_narrow',
  '4 bins': 'ranges_four',
}
const CHILD = '0-17, 18+'
const OWN = 'own'
// What the models that ship are good for.
const KINDS = {
  accurate: ['model_accurate', 'model_accurate_help'],
  reusable: ['model_reusable', 'model_reusable_help'],
}

// settings: { rangeSets, defaultRanges, maxAge, models: [{ name, kind or null, measured or null }] }.
// -> { chosen: { ranges, model }, with parsed ranges; view; listen(onChange), which is told 'ranges' or 'model' }
export function createOptions(settings) {
  const { models, maxAge } = settings
  const chosen = { ranges: parseRanges(settings.rangeSets[settings.defaultRanges], maxAge), model: models[0].name }
  const listeners = []
  const tell = changed => {
    for (const listener of listeners) listener(changed)
  }
  const problem = element('p', { class: 'problem', role: 'alert', id: 'ranges-problem' })
  const own = element('input', {
    type: 'text',
    id: 'own-ranges',
    placeholder: '0-17, 18-39, 40+',
    'aria-describedby': 'ranges-problem',
    oninput: read,
  })
  const ownField = field('ranges_own_label', own)
  ownField.hidden = true
  const select = element(
    'select',
    { id: 'ranges', onchange: read },
    Object.keys(settings.rangeSets).map(name =>
      element(
        'option',
        { value: settings.rangeSets[name], selected: name === settings.defaultRanges },
        text(NAMED[name] ?? name),
      ),
    ),
    element('option', { value: CHILD }, text('ranges_child')),
    element('option', { value: OWN }, text('ranges_own')),
  )
  const help = element('p', { class: 'quiet', id: 'model-help', role: 'status' }, modelHelp(models[0]))
  const model = element(
    'select',
    {
      id: 'model',
      'aria-describedby': 'model-help',
      onchange: () => {
        chosen.model = model.value
        help.textContent = modelHelp(models[model.selectedIndex])
        tell('model')
      },
    },
    models.map(one => element('option', { value: one.name }, modelLabel(one))),
  )
  const view = element(
    'details',
    { class: models.length > 1 ? 'options' : 'options ranges-only' },
    element('summary', {}, text('options')),
    models.length > 1 && field('model', model, help),
    field('age_ranges', select),
    ownField,
    problem,
  )

  function read() {
    ownField.hidden = select.value !== OWN
    const typed = select.value === OWN ? own.value : select.value
    problem.textContent = ''
    own.removeAttribute('aria-invalid')
    if (!typed.trim()) return
    try {
      chosen.ranges = parseRanges(typed, maxAge)
    } catch (error) {
      if (!(error instanceof RangesError)) throw error
      problem.replaceChildren(text(error.problem, error.values), element('br', {}), text('ranges_kept'))
      own.setAttribute('aria-invalid', 'true')
      return // the answer stays in the ranges before
    }
    tell('ranges')
  }

  function open() {
    view.open = true
    model.focus()
  }
  return { chosen, view, models, open, listen: onChange => listeners.push(onChange) }
}

export function modelLabel({ name, kind }) {
  return kind ? text(KINDS[kind][0]) : name
}

// What it is good for, and how far off it is on pictures that all models were measured on.
function modelHelp({ kind, measured }) {
  const figures =
    measured &&
    text('model_measured', {
      dataset: measured.dataset,
      years: decimal(measured.age_mae),
      gender: percent(measured.gender_accuracy),
    })
  return [kind && text(KINDS[kind][1]), figures].filter(Boolean).join(' ')
}

function field(key, control, ...more) {
  return element('div', { class: 'field' }, element('label', { for: control.id }, text(key)), control, ...more)
}
