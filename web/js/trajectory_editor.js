/** Puts the track editor into EasyAnimate Trajectory nodes. */

import { app } from '../../../scripts/app.js'
import { api } from '../../../scripts/api.js'
import { TrackEditor } from './trajectory/editor.js'
import { pictureOf } from './trajectory/picture.js'
import { textsFor } from './trajectory/texts.js'

const NODE = 'EasyAnimateTrajectory'
const LEAST_HEIGHT = 380 // of the widget: the panel's own least height and the frontend's margins
const NEW_NODE = { width: 480, height: 60 } // the height is beyond what the widgets need
const TEXT_HEIGHT = 90

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
    getMinHeight: () => LEAST_HEIGHT,
  })
  const tracks = node.widgets.find(({ name }) => name === 'tracks')
  tracks.options.getMaxHeight = () => TEXT_HEIGHT // what a larger node has more goes to the picture
  widget.serialize = false // nor of the workflow: widgets_values stays as it is without the editor
  forwardToGraph(editor.element)
  const [width, height] = node.computeSize()
  node.setSize([Math.max(width, NEW_NODE.width), height + NEW_NODE.height])
}

/** What the editor may know of its node, and how it changes it. */
function hostOf(node) {
  const widget = (name) => node.widgets.find((each) => each.name === name)
  const value = (name) => Math.max(Number(widget(name).value) || 1, 1)
  const isLinked = (name) =>
    node.inputs?.some((input) => input.widget?.name === name && input.link != null) ?? false
  const pictures = pictureOf(node, 'reference_image', {
    address: (path) => api.apiURL(path),
    shownBy: (each) => app.nodeOutputs?.[outputsKey(each)]?.images,
  })
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

/** Under which name the frontend keeps what a node showed: inside a subgraph with its id. */
const outputsKey = ({ id, graph }) =>
  graph && graph.rootGraph && graph !== graph.rootGraph ? `${graph.id}:${id}` : String(id)

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
