/**
 * The original pack's first workflows for V5.1 have no TeaCache: the empty text that they keep for
 * the camera's socket is then in the place of its threshold, and ComfyUI refuses to run them.
 */

import { app } from '../../../scripts/app.js'

const DEFAULT = 0.1

app.registerExtension({
  name: 'EasyAnimate.Original',
  loadedGraphNode(node) {
    if (node.comfyClass !== 'EasyAnimateV5_V2VSampler') return
    const widget = node.widgets?.find(({ name }) => name === 'teacache_threshold')
    if (widget?.value === '') widget.value = DEFAULT
  },
})
