// What is said of each face: one card, and a short line at its box.

import {bars} from "../answers.js"
import {element} from "../dom.js"
import {count, percent, text} from "../texts.js"
import {abstainedText, ageText, genderShort, genderText, intervalText} from "../words.js"
import {colourOf} from "./boxes.js"

export function notice(said, isProblem = false) {
  return element("p", {class: isProblem ? "notice problem" : "notice info", role: isProblem ? "alert" : "status"}, said)
}

export function shortAnswer(face) {
  if (face.abstained) return [text("device_no_answer")]
  return [count("years", Math.round(face.age)), genderShort(face)]
}

// One card a face, with its probabilities in `ranges`.
export function cards(answer, ranges) {
  return element("div", {},
    answer.faces.some(face => !face.abstained) &&
      element("p", {class: "promise"}, text("promise", {share: percent(answer.interval_coverage)})),
    element("div", {class: "face-cards"}, answer.faces.map((face, index) => card(face, face.number ?? index + 1, answer, ranges))))
}

function card(face, number, answer, ranges) {
  const title = face.abstained ? text("no_answer") : `${text("looks_about")} ${ageText(face)} ${text("years_old")}`
  const said = face.abstained ? [abstainedText(face, answer)] : [intervalText(face), genderText(face)]
  return element("article", {class: "face-card", style: `--face: ${colourOf(number)}`, "aria-label": text("face_number", {number})},
    element("header", {},
      element("h2", {}, element("span", {class: "number"}, `${number}`), ` ${title}`),
      said.map(line => element("p", {}, line))),
    !face.abstained && [element("h3", {}, text("all_ranges")), bars(face, answer, ranges)])
}
