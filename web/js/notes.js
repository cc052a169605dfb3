/**
 * What a node has to say about its last run, under its widgets.
 *
 * Prompts, names of files and what files hold are shown as the text that they are. The frontends'
 * own text under a node is HTML in some versions, and is gone when the run ends in others.
 */

import { app } from '../../../scripts/app.js'
import { api } from '../../../scripts/api.js'
import { addElement } from './element_widget.js'

const EVENT = 'easyanimate-note' // as nodes/bridge/notes.py sends it
const NAME = 'note'
const LEAST_HEIGHT = 60
// By its containment a long text scrolls, and makes no node taller.
const STYLE = `
.ea-note {
  box-sizing: border-box; contain: size; width: 100%; height: 100%; min-height: 60px;
  padding: 4px 8px; overflow-y: auto; border-radius: 6px; background: var(--comfy-input-bg, #333);
  color: var(--input-text, #ddd); font: 11px/1.35 Inter, Arial, sans-serif;
  overflow-wrap: anywhere; white-space: pre-wrap; user-select: text; pointer-events: auto;
}
`

app.registerExtension({
  name: 'EasyAnimate.Notes',
  setup() {
    const style = document.createElement('style')
    style.textContent = STYLE
    document.head.append(style)
    api.addEventListener(EVENT, ({ detail }) => show(detail.node, detail.text, detail.more))
    api.addEventListener('execution_error', ({ detail }) => show(detail.node_id, ''))
    showRefusals()
  },
})

/** What a node says of a value that it refuses. Newer frontends only say that it refuses it, and
 * hide why behind two clicks. */
function showRefusals() {
  const queue = api.queuePrompt
  let refusing = []
  let messages = []
  const note = (errors) => {
    refusing.forEach((id) => show(id, ''))
    messages.forEach((message) => app.extensionManager.toast.remove(message))
    refusing = []
    messages = []
    for (const [id, { errors: found = [] }] of Object.entries(errors ?? {})) {
      const reasons = found.filter(({ type }) => type === 'custom_validation_failed').map(reason)
      if (!reasons.length) continue
      show(id, reasons.join('\n'))
      refusing.push(id)
      if (isGraphHidden()) messages.push(tell(id, reasons.join('\n')))
    }
  }
  api.queuePrompt = async function (...given) {
    try {
      const answer = await queue.apply(this, given)
      note(answer?.node_errors)
      return answer
    } catch (error) {
      note(error?.response?.node_errors)
      throw error
    }
  }
}

/** App mode shows settings and results, and no node. */
const isGraphHidden = () => !(app.canvas?.canvas?.checkVisibility?.() ?? true)

/** A message beside the page, which stays until it is closed or Run is pressed again. */
function tell(id, text) {
  const message = { severity: 'error', summary: nodeOf(id)?.title ?? 'EasyAnimate', detail: text }
  app.extensionManager.toast.add(message)
  return message
}

/** ComfyUI puts the input's name in front. */
function reason({ details, extra_info: { input_name: name } = {} }) {
  const start = `${name} - `
  return details.startsWith(start) ? details.slice(start.length) : details
}

/** Show a text on the node of an id of the run, after its own if there is `more` to say; an empty
 * text takes the note away. */
function show(id, text, more = false) {
  const node = nodeOf(id)
  if (!node?.comfyClass?.includes('EasyAnimate')) return
  const widget = node.widgets?.find(({ name }) => name === NAME)
  if (!text) {
    if (widget) node.removeWidget(widget)
  } else {
    const { element } = widget ?? addNote(node)
    element.textContent = more && element.textContent ? `${element.textContent}\n${text}` : text
    element.scrollTop = 0
  }
  node.setDirtyCanvas(true, true)
}

function addNote(node) {
  const element = document.createElement('div')
  element.className = 'ea-note'
  element.setAttribute('role', 'status')
  element.addEventListener('wheel', (event) => {
    const { scrollHeight, clientHeight } = element
    if (scrollHeight > clientHeight) event.stopImmediatePropagation() // scrolls the text
  })
  return addElement(node, NAME, element, { leastHeight: LEAST_HEIGHT })
}

/** In subgraphs the ids of the nodes around it stand in front of a node's own. */
function nodeOf(id) {
  const ids = String(id).split(':')
  const own = ids.pop()
  let graph = app.graph?.rootGraph ?? app.graph
  for (const each of ids) graph = graph?.getNodeById(each)?.subgraph
  return graph?.getNodeById(own)
}
