/**
 * The pack's workflows in the order of their names, *Try it* first.
 *
 * ComfyUI lists the files of a pack in the order of the disk, and so does the template browser.
 */

import { api } from '../../../scripts/api.js'

const PACK = decodeURIComponent(new URL(import.meta.url).pathname).match(/\/extensions\/([^/]+)\//)?.[1]

const list = api.getWorkflowTemplates?.bind(api)
if (list)
  api.getWorkflowTemplates = async () => {
    const found = await list()
    found?.[PACK]?.sort((one, other) => one.localeCompare(other, 'en', { numeric: true }))
    return found
  }
