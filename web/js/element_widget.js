/** Widgets of HTML in nodes, alike in all ways of drawing nodes. */

import { app } from '../../../scripts/app.js'

/** A widget that is no value: neither of the prompt nor of the workflow. */
export function addElement(node, name, element, { leastHeight }) {
  const type = `EASYANIMATE_${name.toUpperCase()}`
  const widget = node.addDOMWidget(name, type, element, {
    serialize: false, // not a value of the prompt
    hideOnZoom: false,
    hideInPanel: true, // the side panel cannot draw it and leaves an empty place
    getMinHeight: () => leastHeight,
  })
  widget.serialize = false // nor of the workflow: widgets_values stays as it is without it
  // As wide as its node. The side panel of some frontends gives it the panel's width instead, and
  // their canvas believes that.
  Object.defineProperty(widget, 'width', { get: () => undefined, set: () => {} })
  forwardToGraph(element)
  return widget
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
