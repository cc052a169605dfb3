/** The notes, titles and labels of the pack's own workflows in the language of the page. */

import { app } from '../../../scripts/app.js'

const TEXTS = 'easyanimate_texts' // as tools/workflows writes it into a workflow's `extra`

app.registerExtension({
  name: 'EasyAnimate.WorkflowLanguage',
  beforeConfigureGraph(workflow) {
    const texts = workflow?.extra?.[TEXTS]
    if (!texts) return
    delete workflow.extra[TEXTS] // what is saved keeps the titles that its user gave
    const chosen = texts[app.extensionManager.setting.get('Comfy.Locale')]
    if (!chosen) return
    for (const node of workflow.nodes ?? []) {
      const { title, text, labels } = chosen.nodes?.[node.id] ?? {}
      if (title) node.title = title
      if (text) node.widgets_values = [text]
      for (const input of node.inputs ?? []) input.label = labels?.[input.name] ?? input.label
    }
    workflow.groups?.forEach((group, index) => {
      group.title = chosen.groups?.[index] ?? group.title
    })
  },
})
