// The page of the static site: a picture or the camera, both answered on this device.

import {cards, describe, drawBoxes, layerFor, make, notice, shortAnswer} from "./device/answers.js"
import {RangesError} from "./device/decoding.js"
import {DeviceError, DeviceModel} from "./device/device_model.js"
import {mountLive} from "./device/live.js"
import {TEXTS} from "./device/texts.js"

const MANIFEST = new URL("manifest.json", location.href)
const EXAMPLE = new URL("examples/astronaut.jpg", location.href)

class PictureTab {
  #asked = 0 // only the last picture's answer is shown
  #picture = null // a Blob
  #answer = null

  device = DeviceModel.load(MANIFEST, (done, all) => this.#showProgress(done, all))

  constructor(root) {
    this.progress = make("progress", {max: 1})
    this.status = make("p", {role: "status"}, TEXTS.preparing)
    this.file = make("input", {type: "file", accept: "image/*", hidden: true, onchange: () => this.show(this.file.files[0])})
    const choose = make("button", {type: "button", class: "primary", onclick: () => this.file.click()}, TEXTS.choose)
    this.drop = make("div", {class: "site-drop"}, choose, this.file, make("p", {}, TEXTS.drop))
    const example = make("button", {type: "button", onclick: () => this.#showExample()}, TEXTS.example)
    this.ranges = make("input", {type: "text", list: "site-range-sets", oninput: () => this.#showAnswer()})
    this.sets = make("datalist", {id: "site-range-sets"})
    this.shown = make("div", {})
    this.said = make("div", {class: "device-cards"})
    root.classList.add("device")
    root.append(this.progress, this.status, make("div", {class: "device-live"},
      make("div", {class: "device-left"}, this.drop, make("div", {class: "site-example"}, example), this.shown),
      make("div", {class: "device-side"}, make("label", {}, TEXTS.ranges, this.ranges, make("small", {}, TEXTS.rangesHelp)), this.sets, this.said)))
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
    this.status.textContent = done < all ? TEXTS.loading(done, all) : TEXTS.preparing
  }

  #ready(device) {
    this.progress.hidden = true
    this.status.textContent = ""
    this.sets.append(...Object.keys(device.manifest.range_sets).map(value => make("option", {value})))
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
    this.said.replaceChildren(notice(TEXTS.working))
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
    const image = make("img", {src: URL.createObjectURL(this.#picture), alt: describe(numbersOf(answer), answer.faces)})
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), {once: true})
    const layer = layerFor()
    const boxes = answer.faces.map((face, index) => ({number: index + 1, box: face.box, lines: shortAnswer(face)}))
    drawBoxes(layer, ...answer.size_wh, boxes)
    this.shown.replaceChildren(make("figure", {class: "site-picture"}, image, layer))
  }

  async #showAnswer() {
    const answer = this.#answer
    if (!answer) return
    const device = await this.device
    const inside = []
    try {
      answer.faces = answer.faces.map(face => device.inRanges(face, device.readRanges(this.ranges.value)))
    } catch (error) {
      if (!(error instanceof RangesError)) throw error
      inside.push(notice(error.message, true))
    }
    inside.push(notice(answer.faces.length ? TEXTS.faces(answer.faces.length) : TEXTS.noFaceInPicture, !answer.faces.length))
    if (!answer.faces.length) inside.push(make("button", {type: "button", onclick: () => this.show(this.#picture, true)}, TEXTS.whole))
    this.said.replaceChildren(...inside, cards(numbersOf(answer), answer))
  }

  #tell(error) {
    if (!(error instanceof DeviceError)) throw error
    this.progress.hidden = true
    this.status.textContent = ""
    this.said.replaceChildren(notice(error.message, true))
  }
}

const numbersOf = answer => answer.faces.map((_, index) => index + 1)

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

tabs()
const {device} = new PictureTab(document.getElementById("picture"))
mountLive(document.getElementById("camera"), {models: [{name: document.title, device}]})
