// The About tab's first screen: what the model gets right, for whom it fails, and where its code, card and licence are.

import { button, element, replace } from './dom.js'
import { modelLabel } from './options.js'
import { decimal, integer, percent, text } from './texts.js'

// served: what demo/about.py answers; null until the tab is opened. options: see options.js.
export function showAbout(place, served, options) {
  if (!served) return replace(place, element('p', { class: 'quiet', role: 'status' }, text('about_loading')))
  return replace(
    place,
    element('h2', {}, text('about_title')),
    options.models.length > 1 && whichModel(served, options),
    figures(served),
    served.elsewhere && figures(served.elsewhere),
    element('p', {}, text('about_limits')),
    groups(served),
    element('p', { class: 'notice problem' }, element('strong', {}, text('not_for_lead')), ' ', text('not_for')),
    links(served),
  )
}

function whichModel({ name }, { models, open }) {
  const label = modelLabel(models.find(model => model.name === name))
  const choose = button({ class: 'link', onclick: open }, text('about_choose'))
  return element('p', { class: 'which' }, text('about_of', { model: label }), ' ', choose)
}

function figures({ age_mae, within_five_years, gender_accuracy, pictures, dataset }) {
  if (age_mae == null && gender_accuracy == null) return element('p', {}, text('about_unmeasured'))
  const figure = (value, said) =>
    value !== null && element('li', {}, element('strong', {}, value), element('span', {}, said))
  return element(
    'div',
    {},
    element(
      'ul',
      { class: 'figures' },
      figure(age_mae == null ? null : decimal(age_mae), text('about_mae')),
      figure(within_five_years == null ? null : percent(within_five_years), text('about_within_five')),
      figure(gender_accuracy == null ? null : percent(gender_accuracy), text('about_gender')),
    ),
    element('p', { class: 'quiet' }, text('about_measured', { pictures: integer(pictures), dataset })),
  )
}

function groups({ by_age }) {
  if (!by_age?.length) return null
  const hasYears = by_age.some(({ age_mae }) => age_mae != null)
  const columns = ['about_column_age', hasYears && 'about_column_mae', 'about_column_gender'].filter(Boolean)
  const head = columns.map(key => element('th', { scope: 'col' }, text(key)))
  return element(
    'div',
    { class: 'table', tabindex: '0', role: 'region', 'aria-label': text('about_by_age') },
    element(
      'table',
      {},
      element('caption', {}, text('about_by_age')),
      element('thead', {}, element('tr', {}, head)),
      element(
        'tbody',
        {},
        by_age.map(({ age, age_mae, gender_accuracy }) =>
          element(
            'tr',
            {},
            element('th', { scope: 'row' }, age),
            hasYears && element('td', {}, age_mae == null ? '' : decimal(age_mae)),
            element('td', {}, gender_accuracy == null ? '' : percent(gender_accuracy)),
          ),
        ),
      ),
    ),
  )
}

function links({ name, revision, model_page, code_page, license }) {
  const link = (url, said) => (url ? element('a', { href: url, rel: 'noopener' }, said) : said)
  return element(
    'dl',
    { class: 'links' },
    element('dt', {}, text('about_served')),
    element('dd', {}, link(model_page, name), ` (${revision})`),
    element('dt', {}, text('about_license')),
    element('dd', {}, license ? link(license.link, license.name) : text('about_no_license')),
    element('dt', {}, text('about_code')),
    element('dd', {}, link(code_page, 'Apache License 2.0')),
  )
}
