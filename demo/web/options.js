// What a visitor may change, folded away: the age ranges and, where there are several, the model.

import { element } from './dom.js'
import { parseRanges, RangesError } from './ranges.js'
import { text } from './texts.js'

// The sets of the model's configuration by words of their own; two that are made here.
const NAMED = {
  'FairFace-9': 'ranges_ten',
  'DIT825-5': 'ranges_five',
  '14 ranges': 'ranges_narrow',
  '4 bins': 'ranges_four',
}
const CHILD = '0-17, 18+'
const OWN = 'own'

// settings: { rangeSets, defaultRanges, models, id: what its ids begin with }. onChange({ ranges, model }) with parsed ranges.
export function createOptions(settings, maxAge, onChange) {
  const chosen = { ranges: parseRanges(settings.rangeSets[settings.defaultRanges], maxAge), model: settings.models[0] }
  const id = name => (settings.id ? `${settings.id}-${name}` : name)
  const problem = element('p', { class: 'problem', role: 'alert', id: id('ranges-problem') })
  const own = element('input', {
    type: 'text',
    id: id('own-ranges'),
    placeholder: '0-17, 18-39, 40+',
    'aria-describedby': id('ranges-problem'),
    oninput: read,
  })
  const ownField = field('ranges_own_label', own)
  ownField.hidden = true
  const select = element(
    'select',
    { id: id('ranges'), onchange: read },
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
  const model = element(
    'select',
    {
      id: id('model'),
      onchange: () => {
        chosen.model = model.value
        onChange(chosen, 'model')
      },
    },
    settings.models.map(name => element('option', { value: name }, name)),
  )
  const view = element(
    'details',
    { class: 'options' },
    element('summary', {}, text('options')),
    field('age_ranges', select),
    ownField,
    problem,
    settings.models.length > 1 && field('model', model),
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
    onChange(chosen, 'ranges')
  }
  return { view, chosen }
}

function field(key, control) {
  return element('div', { class: 'field' }, element('label', { for: control.id }, text(key)), control)
}
