/** The track editor's picture: what is drawn where, and what lies under the mouse. */

import { blobRadius, pointOnWay, sampleTrack } from './tracks.js'

const COLOURS = ['#4fc3f7', '#ffb74d', '#81c784', '#f06292', '#ba68c8', '#fff176', '#4db6ac']
const MARGIN = 12 // around the frame, in CSS pixels: tracks may leave the picture
const STEPS = 24 // straight pieces that a curve between two points is drawn of
const POINT_RADIUS = 5
const REACH = 10 // how near to a point or a line the mouse has to be, in CSS pixels
const GRID = 64 // in pixels of the result
const SIGMA = 0.4 // of the blob's radius, as the model was trained with

/** Where the frame of `width` x `height` pixels lies in an area of CSS pixels. */
export function viewOf(area, { width, height }) {
  const fit = Math.min(
    (area.width - 2 * MARGIN) / width,
    (area.height - 2 * MARGIN) / height,
  )
  const scale = Math.max(fit, 0.01)
  return {
    scale,
    left: (area.width - width * scale) / 2,
    top: (area.height - height * scale) / 2,
  }
}

export const toView = (view, { x, y }) => ({
  x: view.left + x * view.scale,
  y: view.top + y * view.scale,
})

export const toFrame = (view, { x, y }) => ({
  x: Math.round((x - view.left) / view.scale),
  y: Math.round((y - view.top) / view.scale),
})

/** {track, point} under a place of the view, or null; points of the chosen track win. */
export function pointAt(view, tracks, chosen, place) {
  let found = null
  let nearest = REACH
  tracks.forEach((track, trackIndex) => {
    track.points.forEach((point, index) => {
      const shown = toView(view, point)
      const away = Math.hypot(shown.x - place.x, shown.y - place.y)
      const distance = trackIndex === chosen ? away : away + REACH / 2
      if (distance <= nearest) {
        nearest = distance
        found = { track: trackIndex, point: index }
      }
    })
  })
  return found
}

/** The index at which a point put on the line of a track belongs, or -1 beside the line. */
export function lineAt(view, track, place) {
  let found = -1
  let nearest = REACH * 0.7
  for (let index = 0; index < track.points.length - 1; index++) {
    for (let step = 0; step <= STEPS; step++) {
      const shown = toView(view, pointOnWay(track, index, step / STEPS))
      const next = toView(view, pointOnWay(track, index, Math.min((step + 1) / STEPS, 1)))
      const distance = distanceToPiece(place, shown, next)
      if (distance < nearest) {
        nearest = distance
        found = index + 1
      }
    }
  }
  return found
}

/** Draw everything; `scene` has area, size, picture, tracks, chosen, selected and time. */
export function draw(context, scene) {
  const view = viewOf(scene.area, scene.size)
  context.clearRect(0, 0, scene.area.width, scene.area.height)
  drawBackground(context, view, scene)
  scene.tracks.forEach((track, index) => {
    const colour = COLOURS[index % COLOURS.length]
    const isChosen = index === scene.chosen
    drawBlob(context, view, scene, track, colour)
    drawLine(context, view, track, colour, isChosen)
    drawPoints(context, view, track, colour, {
      isChosen,
      selected: isChosen ? scene.selected : -1,
      label: scene.tracks.length > 1 ? String(index + 1) : '',
    })
  })
}

function drawBackground(context, view, { size, picture }) {
  const [width, height] = [size.width * view.scale, size.height * view.scale]
  context.save()
  context.beginPath()
  context.rect(view.left, view.top, width, height)
  context.fillStyle = '#17181b'
  context.fill()
  context.clip()
  if (picture) {
    // Scaled to cover the frame, the centre cropped: as the node does it.
    const scale = Math.max(width / picture.naturalWidth, height / picture.naturalHeight)
    const [w, h] = [picture.naturalWidth * scale, picture.naturalHeight * scale]
    context.drawImage(picture, view.left + (width - w) / 2, view.top + (height - h) / 2, w, h)
    context.fillStyle = 'rgb(0 0 0 / 25%)'
    context.fillRect(view.left, view.top, width, height)
  } else {
    drawGrid(context, view, size)
  }
  context.restore()
  context.strokeStyle = 'rgb(255 255 255 / 30%)'
  context.lineWidth = 1
  context.strokeRect(view.left, view.top, width, height)
}

function drawGrid(context, view, { width, height }) {
  context.strokeStyle = 'rgb(255 255 255 / 9%)'
  context.lineWidth = 1
  context.beginPath()
  for (let x = GRID; x < width; x += GRID) line(context, view, { x, y: 0 }, { x, y: height })
  for (let y = GRID; y < height; y += GRID) line(context, view, { x: 0, y }, { x: width, y })
  context.stroke()
}

function drawBlob(context, view, { size, time }, track, colour) {
  const blob = sampleTrack(track, time)
  if (!blob.visible) return
  const { x, y } = toView(view, blob)
  const radius = blobRadius(track, size.width, size.height) * view.scale
  const gradient = context.createRadialGradient(x, y, 0, x, y, radius)
  for (const at of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    const height = Math.exp(-0.5 * (at / SIGMA) ** 2)
    const alpha = Math.round(height * 230).toString(16).padStart(2, '0')
    gradient.addColorStop(at, `${at < 0.2 ? '#ffffff' : colour}${alpha}`)
  }
  context.save()
  context.beginPath()
  context.rect(view.left, view.top, size.width * view.scale, size.height * view.scale)
  context.clip()
  context.fillStyle = gradient
  context.beginPath()
  context.arc(x, y, radius, 0, 2 * Math.PI)
  context.fill()
  context.setLineDash([4, 4])
  context.lineWidth = 1
  context.strokeStyle = 'rgb(255 255 255 / 70%)'
  context.stroke()
  context.restore()
}

function drawLine(context, view, track, colour, isChosen) {
  context.save()
  context.lineJoin = 'round'
  for (let index = 0; index < track.points.length - 1; index++) {
    const isHidden = track.points[index].visible === false
    context.beginPath()
    const steps = track.spline ? STEPS : 1
    for (let step = 0; step <= steps; step++) {
      const { x, y } = toView(view, pointOnWay(track, index, step / steps))
      if (step) context.lineTo(x, y)
      else context.moveTo(x, y)
    }
    context.setLineDash(isHidden ? [3, 5] : [])
    context.globalAlpha = isChosen ? 1 : 0.7
    context.strokeStyle = 'rgb(0 0 0 / 60%)'
    context.lineWidth = isChosen ? 4.5 : 3.5
    context.stroke()
    context.strokeStyle = colour
    context.lineWidth = isChosen ? 2.5 : 1.5
    context.stroke()
    if (!isHidden) drawArrow(context, view, track, index, colour)
  }
  context.restore()
}

/** Which way it goes, in the middle between two points. */
function drawArrow(context, view, track, index, colour) {
  const tip = toView(view, pointOnWay(track, index, 0.53))
  const tail = toView(view, pointOnWay(track, index, 0.47))
  const ends = [track.points[index], track.points[index + 1]].map((point) => toView(view, point))
  if (Math.hypot(ends[1].x - ends[0].x, ends[1].y - ends[0].y) < 36) return
  context.save()
  context.translate((tip.x + tail.x) / 2, (tip.y + tail.y) / 2)
  context.rotate(Math.atan2(tip.y - tail.y, tip.x - tail.x))
  context.beginPath()
  context.moveTo(7, 0)
  context.lineTo(-5, -5)
  context.lineTo(-5, 5)
  context.closePath()
  context.fillStyle = colour
  context.strokeStyle = 'rgb(0 0 0 / 60%)'
  context.lineWidth = 1
  context.fill()
  context.stroke()
  context.restore()
}

function drawPoints(context, view, track, colour, { isChosen, selected, label }) {
  track.points.forEach((point, index) => {
    const { x, y } = toView(view, point)
    const radius = POINT_RADIUS + (index === 0 ? 1.5 : 0) - (isChosen ? 0 : 1)
    context.beginPath()
    context.arc(x, y, radius, 0, 2 * Math.PI)
    context.fillStyle = point.visible === false ? 'rgb(0 0 0 / 70%)' : colour
    context.fill()
    context.lineWidth = point.visible === false ? 2 : 1.5
    context.strokeStyle = point.visible === false ? colour : 'rgb(0 0 0 / 80%)'
    context.stroke()
    if (index === selected) {
      context.beginPath()
      context.arc(x, y, radius + 3.5, 0, 2 * Math.PI)
      context.lineWidth = 2
      context.strokeStyle = '#ffffff'
      context.stroke()
    }
  })
  if (!label) return
  const { x, y } = toView(view, track.points[0])
  context.font = '600 12px Inter, Arial, sans-serif'
  context.lineWidth = 3
  context.strokeStyle = 'rgb(0 0 0 / 80%)'
  context.strokeText(label, x + 10, y - 8)
  context.fillStyle = colour
  context.fillText(label, x + 10, y - 8)
}

function line(context, view, from, to) {
  const [start, end] = [toView(view, from), toView(view, to)]
  context.moveTo(start.x, start.y)
  context.lineTo(end.x, end.y)
}

function distanceToPiece(place, start, end) {
  const [dx, dy] = [end.x - start.x, end.y - start.y]
  const square = dx * dx + dy * dy
  const along = square ? ((place.x - start.x) * dx + (place.y - start.y) * dy) / square : 0
  const share = Math.min(Math.max(along, 0), 1)
  return Math.hypot(place.x - start.x - dx * share, place.y - start.y - dy * share)
}
