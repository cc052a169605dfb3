/** The track editor's elements and their look; what they do is in editor.js. */

const STYLE = `
.ea-tracks {
  position: relative; box-sizing: border-box; width: 100%; height: 100%; min-height: 380px;
  display: flex; flex-direction: column; gap: 6px; padding: 8px; overflow: hidden;
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 8px;
  background: var(--comfy-menu-bg, #202020); color: var(--input-text, #ddd);
  font: 12px/1.2 Inter, Arial, sans-serif; user-select: none; pointer-events: auto;
}
.ea-tracks-row {
  display: flex; flex-wrap: wrap; align-items: center; gap: 6px; flex: none; min-width: 0;
}
.ea-tracks-row label { display: inline-flex; align-items: center; gap: 4px; white-space: nowrap; }
.ea-tracks-row label + label { margin-left: 6px; }
.ea-tracks-space { flex: 1 1 0; min-width: 4px; }
.ea-tracks button, .ea-tracks select, .ea-tracks input[type=number] {
  box-sizing: border-box; height: 24px; margin: 0; color: inherit; font: inherit;
  border: 1px solid transparent; border-radius: 6px; background: var(--comfy-input-bg, #333);
}
.ea-tracks button {
  display: inline-flex; align-items: center; justify-content: center; flex: none;
  width: 26px; padding: 0; cursor: pointer;
}
.ea-tracks button i { font-size: 12px; }
.ea-tracks button:hover:not(:disabled) { background: var(--border-color, #4e4e4e); }
.ea-tracks select { padding: 0 2px 0 6px; min-width: 84px; max-width: 130px; }
.ea-tracks select option { background: var(--comfy-menu-bg, #202020); }
.ea-tracks input[type=number] { width: 54px; padding: 0 4px 0 6px; user-select: text; }
.ea-tracks input[type=checkbox] { margin: 0; width: 14px; height: 14px; }
.ea-tracks input { accent-color: var(--p-primary-color, #4fc3f7); }
.ea-tracks :disabled { opacity: 0.4; cursor: default; }
.ea-tracks :focus-visible { outline: 1px solid var(--p-primary-color, #4fc3f7); }
.ea-tracks-name { min-width: 52px; font-variant-numeric: tabular-nums; }
.ea-tracks-stage {
  position: relative; flex: 1 1 0; min-height: 120px; overflow: hidden;
  border: 1px solid transparent; border-radius: 6px; background: #0e0f11;
}
.ea-tracks-stage:has(.ea-tracks-keys:focus) { border-color: var(--p-primary-color, #4fc3f7); }
.ea-tracks canvas {
  position: absolute; inset: 0; width: 100%; height: 100%; cursor: crosshair; touch-action: none;
}
.ea-tracks-keys {
  position: absolute; left: 0; top: 0; width: 1px; height: 1px; padding: 0; border: 0; opacity: 0;
}
.ea-tracks-message {
  position: absolute; inset: auto 8px 8px; padding: 6px 8px; border-radius: 6px;
  background: rgb(0 0 0 / 80%); color: var(--error-text, #ff6b6b); line-height: 1.35;
  overflow-wrap: anywhere; white-space: pre-line;
}
.ea-tracks-message:empty { display: none; }
.ea-tracks-hint {
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; flex: none;
  height: 14px; color: var(--descrip-text, #999); font-size: 11px;
}
.ea-tracks-slider { flex: 1 1 0; min-width: 40px; margin: 0 4px; }
.ea-tracks-frame { min-width: 56px; text-align: right; font-variant-numeric: tabular-nums; }
`

export function makePanel(texts) {
  addStyle()
  const select = make('select', { ariaLabel: texts.chooseTrack })
  const addTrack = button('plus', texts.addTrack)
  const removeTrack = button('trash', texts.removeTrack)
  const undo = button('undo', texts.undo)
  const redo = button('refresh', texts.redo)
  const spline = make('input', { type: 'checkbox', title: texts.splineHint })
  const size = number({ min: '0.1', step: '0.1', title: texts.sizeHint })
  const name = make('span', { className: 'ea-tracks-name' })
  const visible = make('input', { type: 'checkbox', title: texts.visibleHint })
  const time = number({ min: '0', max: '1', step: '0.01', title: texts.timeHint })
  time.placeholder = texts.timeEven
  const removePoint = button('times', texts.removePoint)
  const canvas = make('canvas')
  canvas.setAttribute('aria-hidden', 'true')
  // The frontends leave keys alone while an input has the focus: Delete would remove the node and
  // Ctrl+Z undo the workflow if the canvas had it.
  const keys = make('input', { className: 'ea-tracks-keys', type: 'text', readOnly: true })
  const message = make('div', { className: 'ea-tracks-message' })
  message.setAttribute('role', 'alert')
  const hint = make('div', { className: 'ea-tracks-hint' })
  const play = button('play', texts.play)
  const slider = make('input', { className: 'ea-tracks-slider', type: 'range', min: '0', value: '0' })
  slider.ariaLabel = texts.frame
  const frame = make('span', { className: 'ea-tracks-frame' })
  const root = make('div', { className: 'ea-tracks' })
  root.setAttribute('role', 'group')
  root.ariaLabel = texts.editor
  root.append(
    row(select, addTrack, removeTrack, space(), label(spline, texts.spline),
      label(texts.size, size), undo, redo),
    row(name, label(visible, texts.visible), space(), label(texts.time, time), removePoint),
    make('div', { className: 'ea-tracks-stage' }, canvas, keys, message),
    hint,
    row(play, slider, frame),
  )
  return {
    root, select, addTrack, removeTrack, undo, redo, spline, size, name, visible, time,
    removePoint, canvas, keys, message, hint, play, slider, frame,
  }
}

export function setIcon(button, icon, title) {
  button.title = title
  button.ariaLabel = title
  button.firstChild.className = `pi pi-${icon}`
}

function button(icon, title) {
  const made = make('button', { type: 'button' }, make('i'))
  made.firstChild.ariaHidden = 'true'
  setIcon(made, icon, title)
  return made
}

const number = (properties) => make('input', { type: 'number', ...properties })
const row = (...children) => make('div', { className: 'ea-tracks-row' }, ...children)
const label = (...children) => make('label', {}, ...children)
const space = () => make('span', { className: 'ea-tracks-space' })

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

function addStyle() {
  if (document.getElementById('ea-tracks-style')) return
  document.head.append(make('style', { id: 'ea-tracks-style', textContent: STYLE }))
}
