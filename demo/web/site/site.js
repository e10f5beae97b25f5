// The page of the static site: a picture or the camera, both answered on this device.

import {BoxLayer} from "./device/boxes.js"
import {cards, notice, shortAnswer} from "./device/cards.js"
import {DeviceError, DeviceModel} from "./device/device_model.js"
import {loadingText, mountLive} from "./device/live.js"
import {element} from "./dom.js"
import {RangesError} from "./ranges.js"
import {language, text, useTexts} from "./texts.js"
import {describe, headline} from "./words.js"

const MANIFEST = new URL("manifest.json", location.href)
const EXAMPLE = new URL("examples/astronaut.jpg", location.href)

class PictureTab {
  #asked = 0 // only the last picture's answer is shown
  #picture = null // a Blob
  #answer = null
  #ranges = null // in which it is shown

  device = DeviceModel.load(MANIFEST, (done, all) => this.#showProgress(done, all))

  constructor(root) {
    this.progress = element("progress", {max: 1})
    this.status = element("p", {role: "status"}, text("device_preparing"))
    this.file = element("input", {type: "file", accept: "image/*", hidden: true, onchange: () => this.show(this.file.files[0])})
    const choose = element("button", {type: "button", class: "primary", onclick: () => this.file.click()}, text("site_choose"))
    this.drop = element("div", {class: "site-drop"}, choose, this.file, element("p", {}, text("site_drop")))
    const example = element("button", {type: "button", onclick: () => this.#showExample()}, text("site_example"))
    this.ranges = element("input", {type: "text", list: "site-range-sets", oninput: () => this.#showAnswer()})
    this.sets = element("datalist", {id: "site-range-sets"})
    this.shown = element("div", {})
    this.said = element("div", {class: "device-cards"})
    root.classList.add("device")
    root.append(this.progress, this.status, element("div", {class: "device-live"},
      element("div", {class: "device-left"}, this.drop, element("div", {class: "site-example"}, example), this.shown),
      element("div", {class: "device-side"}, element("label", {}, text("age_ranges"), this.ranges, element("small", {}, text("device_ranges_help"))), this.sets, this.said)))
    this.#listen()
    this.device.then(device => this.#ready(device), error => this.#tell(error))
  }

  #listen() {
    const {drop} = this
    addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over") })
    addEventListener("dragleave", () => drop.classList.remove("over"))
    addEventListener("drop", event => {
      event.preventDefault()
      drop.classList.remove("over")
      this.show(event.dataTransfer.files[0])
    })
    addEventListener("paste", event => this.show(event.clipboardData.files[0]))
  }

  #showProgress(done, all) {
    this.progress.value = done / all
    this.status.textContent = loadingText(done, all)
  }

  #ready(device) {
    this.progress.hidden = true
    this.status.textContent = ""
    this.sets.append(...Object.keys(device.manifest.range_sets).map(value => element("option", {value})))
    this.ranges.placeholder = device.manifest.default_ranges
  }

  async #showExample() {
    this.show(await (await fetch(EXAMPLE)).blob())
  }

  async show(picture, whole = false) {
    if (!picture) return
    const asked = ++this.#asked
    this.#picture = picture
    this.#answer = null
    this.shown.replaceChildren()
    this.said.replaceChildren(notice(text("working")))
    try {
      const device = await this.device
      const answer = await device.predict(picture, device.config.age_ranges, {whole})
      if (asked !== this.#asked) return
      this.#answer = answer
      this.#showPicture(answer)
      await this.#showAnswer()
    } catch (error) {
      if (asked === this.#asked) this.#tell(error)
    }
    this.file.value = "" // so that the same file can be chosen again
  }

  #showPicture(answer) {
    const image = element("img", {src: URL.createObjectURL(this.#picture), alt: describe(answer)})
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), {once: true})
    const layer = new BoxLayer()
    layer.draw(...answer.size_wh, answer.faces.map((face, index) => ({number: index + 1, box: face.box, lines: shortAnswer(face)})))
    this.shown.replaceChildren(element("figure", {class: "site-picture"}, image, layer.element))
  }

  async #showAnswer() {
    const answer = this.#answer
    if (!answer) return
    const device = await this.device
    const inside = []
    try {
      this.#ranges = device.readRanges(this.ranges.value)
    } catch (error) {
      if (!(error instanceof RangesError)) throw error
      inside.push(notice(text(error.problem, error.values), true)) // the ranges before stay
    }
    this.#ranges ??= device.config.age_ranges
    if (answer.faces.length) inside.push(notice(headline(answer)))
    else {
      inside.push(notice(`${text("no_face")}. ${text("no_face_help")}`, true))
      inside.push(element("button", {type: "button", onclick: () => this.show(this.#picture, true)}, text("whole_ask")))
    }
    this.said.replaceChildren(...inside, cards(answer, this.#ranges))
  }

  #tell(error) {
    if (!(error instanceof DeviceError)) throw error
    this.progress.hidden = true
    this.status.textContent = ""
    this.said.replaceChildren(notice(error.message, true))
  }
}

function tabs() {
  const all = [...document.querySelectorAll("[role=tab]")]
  const open = tab => {
    for (const other of all) {
      other.setAttribute("aria-selected", other === tab)
      other.tabIndex = other === tab ? 0 : -1
      document.getElementById(other.getAttribute("aria-controls")).hidden = other !== tab
    }
    tab.focus()
  }
  all.forEach((tab, index) => {
    tab.addEventListener("click", () => open(tab))
    tab.addEventListener("keydown", ({key}) => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[key]
      if (step) open(all.at((index + step) % all.length))
    })
  })
}

useTexts(await (await fetch(new URL("texts.json", location.href))).json())
document.documentElement.lang = language
document.title = text("site_title")
for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text)
for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", text(node.dataset.label))
tabs()
const {device} = new PictureTab(document.getElementById("picture"))
mountLive(document.getElementById("camera"), {models: [{name: document.title, device}]})
