/** Puts the track editor into EasyAnimate Trajectory nodes. */

import { app } from '../../../scripts/app.js'
import { api } from '../../../scripts/api.js'
import { addElement } from './element_widget.js'
import { TrackEditor } from './trajectory/editor.js'
import { pictureOf } from './trajectory/picture.js'
import { textsFor } from './trajectory/texts.js'

const NODE = 'EasyAnimateTrajectory'
const LEAST_HEIGHT = 400 // of the widget: the panel's own least height and the frontend's margins
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
  addElement(node, 'track_editor', editor.element, { leastHeight: LEAST_HEIGHT })
  const tracks = node.widgets.find(({ name }) => name === 'tracks')
  tracks.options.getMaxHeight = () => TEXT_HEIGHT // what a larger node has more goes to the picture
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
