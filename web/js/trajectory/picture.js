/** The picture that LoadImage gives to an input, as far as the browser can see it. */

const ANNOTATED = /^(.*?)(?: \[(input|output|temp)\])?$/s

/** `current()` is the picture once it has arrived, or null; `address` makes URLs of paths. */
export function pictureOf(node, inputName, address) {
  let shownPath = null
  let picture = null
  return {
    current() {
      const path = viewPath(sourceOf(node, inputName))
      if (path !== shownPath) {
        shownPath = path
        picture = path && load(address(path))
      }
      return picture?.complete && picture.naturalWidth ? picture : null
    },
  }
}

export function viewPath(source) {
  const named = source?.type === 'LoadImage' && source.widgets?.find(({ name }) => name === 'image')
  if (!named || typeof named.value !== 'string' || !named.value) return null
  const [, file, type = 'input'] = ANNOTATED.exec(named.value)
  const cut = file.lastIndexOf('/')
  const query = { filename: file.slice(cut + 1), subfolder: file.slice(0, Math.max(cut, 0)), type }
  return `/view?${new URLSearchParams(query)}`
}

function sourceOf(node, inputName) {
  const slot = node.inputs?.findIndex((input) => input.name === inputName) ?? -1
  let source = slot < 0 ? null : node.getInputNode(slot)
  for (let steps = 0; source?.type === 'Reroute' && steps < 50; steps++) {
    source = source.getInputNode(0)
  }
  return source
}

function load(url) {
  const picture = new Image()
  picture.src = url
  return picture
}
