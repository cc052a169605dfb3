/**
 * The editor of the tracks of one node.
 *
 * Its only state worth keeping is the text of the host's widget. `host` gives that text and takes
 * a new one, hears when a change is complete, and says the size of the video and what is behind it:
 * {readText(), writeText(text), keep(), readScene() -> {width, height, length, picture, isLinked}}.
 */

import { draw, lineAt, pointAt, toFrame, toView, viewOf } from './drawing.js'
import { makePanel, setIcon } from './panel.js'
import { formatTracks, parseTracks, timesFor, TracksError } from './tracks.js'

const FRAMES_PER_SECOND = 8
const REFRESH_MS = 150
const UNDO_STEPS = 200
const MIDDLE = 1 // the mouse button that moves the graph
const MERGE_MS = 600 // nudges that follow each other so fast are undone together
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

export class TrackEditor {
  constructor(host, texts) {
    this.host = host
    this.texts = texts
    this.panel = makePanel(texts)
    this.element = this.panel.root
    this.text = null // of the widget, as last read or written
    this.tracks = []
    this.error = ''
    this.note = '' // about the last change, until the next one
    this.chosen = 0 // a track, or the number of tracks: the next click begins a new one
    this.selected = -1 // a point of the chosen track
    this.past = []
    this.future = []
    this.lastEdit = { kind: '', at: 0 }
    this.scene = { width: 1, height: 1, length: 1, picture: null, isLinked: false }
    this.drag = null
    this.presses = [false, false] // whether the last two presses of the mouse added a point
    this.player = null
    this.watch = null
    new ResizeObserver(() => this.onResize()).observe(this.panel.canvas)
    this.listen()
  }

  /** Also called when the element comes into the page, which it may do more than once. */
  onResize() {
    this.draw()
    // Texts and sizes come from typing, links, undo and subgraphs, and the frontends tell of each
    // in another way or not at all; looking is what works in all of them.
    if (this.element.isConnected) this.watch ??= setInterval(() => this.onLook(), REFRESH_MS)
  }

  onLook() {
    if (this.element.isConnected) {
      this.refresh()
      return
    }
    clearInterval(this.watch)
    this.watch = null
    this.pause()
  }

  /** Take over what changed outside: the text, the size, the picture. */
  refresh() {
    const text = this.host.readText()
    const scene = this.host.readScene()
    const isSame = Object.keys(scene).every((key) => scene[key] === this.scene[key])
    if (text === this.text && isSame) return
    this.scene = scene
    if (text !== this.text) {
      this.read(text)
      this.past = []
      this.future = []
    }
    this.show()
  }

  get track() {
    return this.tracks[this.chosen]
  }

  get point() {
    return this.track?.points[this.selected]
  }

  get isEditable() {
    return !this.error && !this.scene.isLinked
  }

  get time() {
    return this.scene.length > 1 ? Number(this.panel.slider.value) / (this.scene.length - 1) : 0
  }

  read(text) {
    this.text = text
    this.error = ''
    try {
      this.tracks = parseTracks(text)
    } catch (error) {
      if (!(error instanceof TracksError)) throw error
      this.tracks = []
      this.error = `${this.texts[error.reason](...error.details)}\n${this.texts.untouched}`
    }
    this.choose(this.chosen, this.selected)
  }

  /** Change the tracks and write them; changes of one kind in quick succession are one undo. */
  edit(change, kind = '') {
    if (!this.isEditable) return
    const { kind: lastKind, at } = this.lastEdit
    const now = performance.now()
    const before = this.text
    change()
    this.text = formatTracks(this.tracks)
    this.choose(this.chosen, this.selected)
    if (this.text !== before) {
      if (!(kind && kind === lastKind && now - at < MERGE_MS)) this.past.push(before)
      if (this.past.length > UNDO_STEPS) this.past.shift()
      this.future = []
      this.lastEdit = { kind, at: now }
      this.host.writeText(this.text)
      if (!this.drag) this.host.keep()
    }
    this.show()
  }

  travel(from, to) {
    if (!from.length || !this.isEditable) return
    to.push(this.text)
    this.lastEdit = { kind: '', at: 0 }
    this.read(from.pop())
    this.host.writeText(this.text)
    this.host.keep()
    this.show()
  }

  choose(track, point = -1) {
    this.note = ''
    this.chosen = Math.min(track, this.tracks.length)
    this.selected = Math.min(point, (this.track?.points.length ?? 0) - 1)
  }

  select(track, point = -1) {
    this.choose(track, point)
    this.show()
  }

  addPoint(place, index = this.track?.points.length) {
    this.edit(() => {
      if (!this.track) this.tracks.push({ points: [], spline: false, size: 1 })
      const { points } = this.track
      const at = index ?? points.length
      // A new last point takes over the end of the clip.
      if (at === points.length && points[at - 1]?.t === 1) delete points[at - 1].t
      points.splice(at, 0, place)
      this.selected = at
    })
  }

  removePoint(track = this.chosen, point = this.selected) {
    if (!this.tracks[track]?.points[point]) return
    this.edit(() => {
      const { points } = this.tracks[track]
      points.splice(point, 1)
      if (!points.length) this.tracks.splice(track, 1)
      this.choose(Math.min(track, Math.max(this.tracks.length - 1, 0)), points.length ? point : -1)
    })
  }

  removeTrack() {
    if (!this.track) return
    this.edit(() => {
      this.tracks.splice(this.chosen, 1)
      this.choose(Math.max(this.chosen - 1, 0))
    })
  }

  setTime(value) {
    const { point } = this
    if (!point) return
    const limits = timesFor(this.track, this.selected)
    const wanted = Math.round(Number(value) * 1000) / 1000
    const time = limits && Math.min(Math.max(wanted, limits[0]), limits[1])
    if (value === '') this.edit(() => delete point.t)
    else if (limits) this.edit(() => (point.t = time))
    if (value !== '' && time !== wanted)
      this.note = limits ? this.texts.timeLimited(...limits) : this.texts.noTimeLeft
    this.show()
  }

  listen() {
    const { panel } = this
    panel.select.addEventListener('change', () => this.select(panel.select.selectedIndex))
    panel.addTrack.addEventListener('click', () => this.select(this.tracks.length))
    panel.removeTrack.addEventListener('click', () => this.removeTrack())
    panel.removePoint.addEventListener('click', () => this.removePoint())
    panel.undo.addEventListener('click', () => this.travel(this.past, this.future))
    panel.redo.addEventListener('click', () => this.travel(this.future, this.past))
    panel.spline.addEventListener('change', () =>
      this.edit(() => (this.track.spline = panel.spline.checked)))
    panel.size.addEventListener('change', () =>
      this.edit(() => {
        const size = Number(panel.size.value)
        if (size > 0) this.track.size = size
      }))
    panel.visible.addEventListener('change', () =>
      this.edit(() => {
        if (panel.visible.checked) delete this.point.visible
        else this.point.visible = false
      }))
    panel.time.addEventListener('change', () => this.setTime(panel.time.value))
    panel.slider.addEventListener('input', () => this.showTime())
    panel.play.addEventListener('click', () => (this.player ? this.pause() : this.play()))
    panel.keys.addEventListener('keydown', (event) => this.onKey(event))
    for (const kind of ['down', 'move', 'up', 'cancel'])
      panel.canvas.addEventListener(`pointer${kind}`, (event) => this.onPointer(kind, event))
    panel.canvas.addEventListener('mousedown', (event) => event.preventDefault())
    panel.canvas.addEventListener('dblclick', (event) => this.onDoubleClick(event))
    panel.root.addEventListener('contextmenu', (event) => event.preventDefault())
    panel.root.addEventListener('click', (event) => {
      // After a click on a button the keys still are the editor's.
      if (event.detail && event.target.closest('button, label'))
        panel.keys.focus({ preventScroll: true })
    })
    // Neither frontend may move, open or delete the node because of what happens in here.
    for (const kind of ['pointerdown', 'dblclick', 'contextmenu', 'keydown'])
      panel.root.addEventListener(kind, (event) => {
        const isGraphs = kind === 'keydown' ? !/^(Delete|Backspace)$/.test(event.key) : false
        if (!isGraphs && event.button !== MIDDLE) event.stopPropagation()
      })
  }

  /** Where the mouse is in CSS pixels of the canvas, which the graph's zoom scales. */
  placeOf(event) {
    const { canvas } = this.panel
    const box = canvas.getBoundingClientRect()
    return {
      x: ((event.clientX - box.left) * canvas.clientWidth) / box.width,
      y: ((event.clientY - box.top) * canvas.clientHeight) / box.height,
    }
  }

  get area() {
    return { width: this.panel.canvas.clientWidth, height: this.panel.canvas.clientHeight }
  }

  get view() {
    return viewOf(this.area, this.scene)
  }

  onPointer(kind, event) {
    const place = this.placeOf(event)
    if (kind === 'down') this.onPress(event, place)
    else if (kind === 'move' && this.drag) this.onDrag(place)
    else if (kind === 'move') this.onHover(place)
    else if (this.drag) {
      this.drag = null
      this.host.keep()
    }
  }

  onPress(event, place) {
    if (event.button === MIDDLE) return
    this.panel.keys.focus({ preventScroll: true })
    if (!this.isEditable) return
    const hit = pointAt(this.view, this.tracks, this.chosen, place)
    const adds = !hit && event.button === 0 && !event.altKey
    this.presses = [this.presses[1], adds]
    if (hit && (event.button === 2 || event.altKey)) {
      this.removePoint(hit.track, hit.point)
    } else if (hit) {
      this.select(hit.track, hit.point)
    } else if (adds) {
      const index = this.track ? lineAt(this.view, this.track, place) : -1
      this.addPoint(toFrame(this.view, place), index < 0 ? undefined : index)
    }
    if (event.button !== 0 || event.altKey || !this.point) return
    const shown = toView(this.view, this.point)
    this.drag = { dx: shown.x - place.x, dy: shown.y - place.y, id: `drag ${event.timeStamp}` }
    this.panel.canvas.setPointerCapture(event.pointerId)
  }

  onDrag(place) {
    const { dx, dy, id } = this.drag
    const target = toFrame(this.view, { x: place.x + dx, y: place.y + dy })
    // However long a drag takes, it is one step back.
    if (this.lastEdit.kind === id) this.lastEdit.at = performance.now()
    this.edit(() => Object.assign(this.point, target), id)
  }

  onHover(place) {
    const hit = this.isEditable && pointAt(this.view, this.tracks, this.chosen, place)
    this.panel.canvas.style.cursor = hit ? 'move' : this.isEditable ? 'crosshair' : 'default'
  }

  onDoubleClick(event) {
    const hit = pointAt(this.view, this.tracks, this.chosen, this.placeOf(event))
    // Where the first of the two clicks added the point, the second shall not remove it.
    if (hit && !this.presses[0]) this.removePoint(hit.track, hit.point)
  }

  onKey(event) {
    const key = event.key.toLowerCase()
    const isCommand = event.ctrlKey || event.metaKey
    const step = event.shiftKey ? 10 : 1
    if (isCommand && key === 'z' && !event.shiftKey) this.travel(this.past, this.future)
    else if (isCommand && (key === 'z' || key === 'y')) this.travel(this.future, this.past)
    else if (isCommand) return
    else if (event.key in ARROWS) this.nudge(...ARROWS[event.key].map((way) => way * step))
    else if (key === 'delete' || key === 'backspace') this.removePoint()
    else if (key === 'pageup') this.step(-1)
    else if (key === 'pagedown') this.step(1)
    else if (key === ' ') this.panel.play.click()
    else if (key === 'escape') this.select(this.chosen)
    else return
    event.preventDefault()
    event.stopPropagation()
  }

  nudge(dx, dy) {
    const { point } = this
    if (!point) return
    this.edit(() => {
      point.x += dx
      point.y += dy
    }, `nudge ${this.chosen} ${this.selected}`)
  }

  /** Choose the next point, over the ends of tracks. */
  step(by) {
    const all = this.tracks.flatMap(({ points }, track) => points.map((_, point) => [track, point]))
    if (!all.length) return
    const now = all.findIndex(([track, point]) => track === this.chosen && point === this.selected)
    this.select(...all[(now < 0 ? 0 : now + by + all.length) % all.length])
  }

  play() {
    if (this.panel.slider.value === this.panel.slider.max) this.panel.slider.value = 0
    setIcon(this.panel.play, 'pause', this.texts.pause)
    this.player = setInterval(() => {
      const { slider } = this.panel
      slider.value = (Number(slider.value) + 1) % this.scene.length
      this.showTime()
    }, 1000 / FRAMES_PER_SECOND)
  }

  pause() {
    clearInterval(this.player)
    this.player = null
    setIcon(this.panel.play, 'play', this.texts.play)
  }

  show() {
    const { panel, texts, track, point, isEditable, scene } = this
    const names = this.tracks.map((_, index) => texts.track(index + 1))
    if (!track && isEditable) names.push(texts.newTrack)
    if (names.join() !== [...panel.select.options].map((option) => option.text).join())
      panel.select.replaceChildren(...names.map((name) => new Option(name)))
    panel.select.selectedIndex = this.chosen
    panel.spline.checked = track?.spline ?? false
    panel.size.value = track?.size ?? 1
    panel.name.textContent = point ? texts.point(this.selected + 1) : texts.noPoint
    panel.visible.checked = point ? point.visible !== false : false
    panel.time.value = point?.t ?? ''
    panel.slider.max = scene.length - 1
    panel.keys.ariaLabel = texts.keys(
      point
        ? texts.pointSelected(this.selected + 1, this.chosen + 1, point.x, point.y)
        : texts.nothingSelected,
    )
    panel.message.textContent = scene.isLinked ? texts.linked : this.error
    panel.hint.textContent = !isEditable ? '' : this.note || (track ? texts.add : texts.start)
    panel.hint.title = panel.hint.textContent
    panel.addTrack.disabled = !isEditable || !track
    panel.select.disabled = !isEditable
    for (const each of [panel.removeTrack, panel.spline, panel.size])
      each.disabled = !isEditable || !track
    for (const each of [panel.visible, panel.time, panel.removePoint])
      each.disabled = !isEditable || !point
    panel.undo.disabled = !isEditable || !this.past.length
    panel.redo.disabled = !isEditable || !this.future.length
    this.showTime()
  }

  showTime() {
    const { slider, frame } = this.panel
    frame.textContent = `${Number(slider.value) + 1} / ${this.scene.length}`
    this.draw()
  }

  draw() {
    const { canvas } = this.panel
    const { area, scene } = this
    if (!area.width || !area.height) return
    // As sharp as the screen and the graph's zoom ask for.
    const zoom = canvas.getBoundingClientRect().width / area.width
    const ratio = Math.min(Math.max(zoom * devicePixelRatio, 1), 4)
    canvas.width = Math.round(area.width * ratio)
    canvas.height = Math.round(area.height * ratio)
    const context = canvas.getContext('2d')
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    draw(context, {
      area,
      size: scene,
      picture: scene.picture,
      tracks: scene.isLinked ? [] : this.tracks,
      chosen: this.chosen,
      selected: this.selected,
      time: this.time,
    })
  }
}
