/**
 * The picture that an input gets, as far as the browser knows it: the file that LoadImage names, or
 * what the node before it showed in its last run, or a preview that hangs on the same output.
 */

const ANNOTATED = /^(.*?)(?: \[(input|output|temp)\])?$/s
const PREVIEWS = ['PreviewImage', 'SaveImage']

/**
 * `current()` is the picture once it has arrived, or null. `address` makes URLs of paths, and
 * `shownBy` gives the files that a node showed in its last run: [{filename, subfolder, type}].
 */
export function pictureOf(node, inputName, { address, shownBy }) {
  let shownPath = null
  let picture = null
  return {
    current() {
      const link = linkInto(node, inputName)
      const path = link && (namedPath(link.source) ?? shownInRun(link, shownBy))
      if (path !== shownPath) {
        shownPath = path
        picture = path && load(address(path))
      }
      return picture?.complete && picture.naturalWidth ? picture : null
    },
  }
}

/** The path of the file that a LoadImage names, or null. */
export function namedPath(source) {
  const named = source?.type === 'LoadImage' && source.widgets?.find(({ name }) => name === 'image')
  if (!named || typeof named.value !== 'string' || !named.value) return null
  const [, file, type = 'input'] = ANNOTATED.exec(named.value)
  const cut = file.lastIndexOf('/')
  return viewPath({ filename: file.slice(cut + 1), subfolder: file.slice(0, Math.max(cut, 0)), type })
}

/** The path of what came out of an output in the last run, or null. */
function shownInRun({ source, slot }, shownBy) {
  const links = (source.outputs?.[slot]?.links ?? []).map((id) => source.graph.links.get(id))
  const targets = links.map((link) => link && source.graph.getNodeById(link.target_id))
  const previews = targets.filter((target) => PREVIEWS.includes(target?.type))
  const shown = [source, ...previews].map((each) => shownBy(each)?.[0]).find(Boolean)
  return shown ? viewPath(shown) : null
}

const viewPath = ({ filename, subfolder = '', type = 'output' }) =>
  `/view?${new URLSearchParams({ filename, subfolder, type })}`

/** {source, slot} of the output that feeds an input, over reroutes, or null. */
function linkInto(node, inputName) {
  let at = node
  let index = node.inputs?.findIndex((input) => input.name === inputName) ?? -1
  for (let steps = 0; steps < 50; steps++) {
    const source = index < 0 ? null : at.getInputNode(index)
    if (!source) return null
    if (source.type !== 'Reroute') return { source, slot: at.getInputLink(index)?.origin_slot ?? 0 }
    at = source
    index = 0
  }
  return null
}

function load(url) {
  const picture = new Image()
  picture.src = url
  return picture
}
