/** Puts the track editor into EasyAnimate Trajectory nodes. */

import { app } from '../../../scripts/app.js'
import { api } from '../../../scripts/api.js'
import { TrackEditor } from './trajectory/editor.js'
import { pictureOf } from './trajectory/picture.js'
import { textsFor } from './trajectory/texts.js'

const NODE = 'EasyAnimateTrajectory'
const HEIGHT = 320
const LEAST_NODE_WIDTH = 420
const REFRESH_MS = 150

app.registerExtension({
  name: 'EasyAnimate.TrajectoryEditor',
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    try {
      addEditor(node)
    } catch (error) {
      // The node works without its editor.
      console.error('EasyAnimate: the track editor could not be made', error)
    }
  },
})

function addEditor(node) {
  const locale = app.extensionManager?.setting?.get('Comfy.Locale') ?? navigator.language
  const editor = new TrackEditor(hostOf(node), textsFor(locale))
  const widget = node.addDOMWidget('track_editor', 'EASYANIMATE_TRACK_EDITOR', editor.element, {
    serialize: false, // not a value of the prompt
    hideOnZoom: false,
    getMinHeight: () => HEIGHT,
  })
  widget.serialize = false // nor of the workflow: widgets_values stays as it is without the editor
  forwardToGraph(editor.element)
  const timer = setInterval(() => {
    // Texts and sizes come from typing, links, undo and subgraphs, and the frontends tell of each
    // in another way or not at all; looking is what works in all of them.
    if (editor.element.isConnected) editor.refresh()
  }, REFRESH_MS)
  const { onRemoved } = node
  node.onRemoved = function (...args) {
    clearInterval(timer)
    editor.remove()
    return onRemoved?.apply(this, args)
  }
  node.setSize([Math.max(node.size[0], LEAST_NODE_WIDTH), node.computeSize()[1]])
}

/** What the editor may know of its node, and how it changes it. */
function hostOf(node) {
  const widget = (name) => node.widgets.find((each) => each.name === name)
  const value = (name) => Math.max(Number(widget(name).value) || 1, 1)
  const isLinked = (name) =>
    node.inputs?.some((input) => input.widget?.name === name && input.link != null) ?? false
  const pictures = pictureOf(node, 'reference_image', (path) => api.apiURL(path))
  return {
    readText: () => String(widget('tracks').value ?? ''),
    writeText(text) {
      const tracks = widget('tracks')
      tracks.value = text
      tracks.callback?.(text)
      node.setDirtyCanvas(true, true)
    },
    keep() {
      // The workflow's undo looks at the graph between these two.
      app.canvas?.emitBeforeChange?.()
      app.canvas?.emitAfterChange?.()
    },
    readScene: () => ({
      width: value('width'),
      height: value('height'),
      length: value('length'),
      picture: pictures.current(),
      isLinked: isLinked('tracks'),
    }),
  }
}

/** The wheel and the middle button still move the graph, as over a text widget. */
function forwardToGraph(element) {
  element.addEventListener('wheel', (event) => {
    if (window.LiteGraph?.vueNodesMode) return
    event.preventDefault()
    app.canvas.processMouseWheel(event)
  })
  for (const [kind, method] of [
    ['pointerdown', 'processMouseDown'],
    ['pointermove', 'processMouseMove'],
    ['pointerup', 'processMouseUp'],
  ])
    element.addEventListener(kind, (event) => {
      if (window.LiteGraph?.vueNodesMode) return
      const isMiddle = kind === 'pointermove' ? event.buttons & 4 : event.button === 1
      if (isMiddle) app.canvas[method](event)
    })
}
