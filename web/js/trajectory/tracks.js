/**
 * Tracks as the widget's text says them: reading, writing, and where they are at a time.
 *
 * The text is a list of tracks. A track is a list of points, or an object
 * {"points": [...], "spline": false, "size": 1}. A point has x and y in pixels of the result, and
 * may have t, the share of the clip at which it is reached, and "visible": false, which hides the
 * track from there to the next visible point. A single list of points is one track.
 *
 * Here a track is always {points, spline, size}; texts come from elsewhere, the DOM too.
 */

const POINT_KEYS = new Set(['x', 'y', 't', 'visible'])
const TRACK_KEYS = new Set(['points', 'spline', 'size'])

/** What is wrong with a text; `reason` is a key of the texts, and `details` fill it in. */
export class TracksError extends Error {
  constructor(reason, ...details) {
    super(`${reason}: ${details.join(', ')}`)
    this.reason = reason
    this.details = details
  }
}

export function parseTracks(text) {
  if (!text.trim()) return []
  const value = parseText(text)
  if (!Array.isArray(value)) throw new TracksError('notAList', short(value))
  const isTrack = (entry) => Array.isArray(entry) || (isObject(entry) && 'points' in entry)
  return (value.every(isTrack) ? value : [value]).map(readTrack)
}

/** The simplest text that says it. */
export function formatTracks(tracks) {
  const texts = tracks.map(formatTrack)
  if (texts.length === 1 && isPlain(tracks[0])) return texts[0]
  return `[${texts.join(',\n ')}]`
}

/** When each point is reached; those without a time are spread evenly between their neighbours. */
export function pointTimes({ points }) {
  const last = points.length - 1
  const times = points.map((point) => point.t)
  times[0] ??= 0
  if (last > 0) times[last] ??= 1
  for (let start = 0, end = 1; end <= last; end++) {
    if (times[end] === undefined) continue
    for (let index = start + 1; index < end; index++) {
      const share = (index - start) / (end - start)
      times[index] = times[start] + (times[end] - times[start]) * share
    }
    start = end
  }
  return times
}

/**
 * [least, greatest] time, in thousandths, that a point may be given, after the given time before it
 * and before the one behind it; null where there is none.
 */
export function timesFor({ points }, index) {
  const last = points.length - 1
  const times = points.map(({ t }, at) => t ?? (at === 0 ? 0 : at === last ? 1 : null))
  const before = times.slice(0, index).findLast((time) => time !== null)
  const after = times.slice(index + 1).find((time) => time !== null)
  const least = before === undefined ? 0 : Math.floor(before * 1000 + 1e-6) + 1
  const most = after === undefined ? 1000 : Math.ceil(after * 1000 - 1e-6) - 1
  return least <= most ? [least / 1000, most / 1000] : null
}

/** {x, y, visible} of a track at a time between 0 and 1; it waits at its first and last point. */
export function sampleTrack(track, time) {
  const times = pointTimes(track)
  const index = Math.max(times.findLastIndex((reached) => reached <= time + 1e-9), 0)
  const { x, y, visible = true } = track.points[index]
  const length = times[index + 1] - times[index] // not a number at the last point
  const isOnTheWay = time > times[index] && length > 0
  const place = isOnTheWay ? pointOnWay(track, index, (time - times[index]) / length) : { x, y }
  return { ...place, visible }
}

/** The point at a share of the way from point `index` to the next one. */
export function pointOnWay(track, index, share) {
  const [from, to] = [track.points[index], track.points[index + 1]]
  const times = track.spline ? pointTimes(track) : []
  const between = track.spline
    ? (axis) => {
        const span = times[index + 1] - times[index]
        const [leaving, arriving] = [index, index + 1].map((at) => slope(track, times, at, axis))
        return hermite(from[axis], span * leaving, to[axis], span * arriving, share)
      }
    : (axis) => from[axis] + (to[axis] - from[axis]) * share
  return { x: between('x'), y: between('y') }
}

/** The radius of the blob that the model sees, in pixels of the result. */
export function blobRadius({ size }, width, height) {
  return 50 * Math.sqrt((width * height) / (1280 * 720)) * size
}

/** Change per time at a point: between its neighbours, at an end towards its neighbour. */
function slope({ points }, times, index, axis) {
  const before = Math.max(index - 1, 0)
  const after = Math.min(index + 1, points.length - 1)
  return (points[after][axis] - points[before][axis]) / (times[after] - times[before] || 1)
}

/** Through p at 0 and q at 1 with these slopes; with those of Catmull-Rom, the library's spline. */
function hermite(p, leaving, q, arriving, s) {
  const rest = 1 - s
  return (
    (1 + 2 * s) * rest ** 2 * p +
    s * rest ** 2 * leaving +
    s ** 2 * (3 - 2 * s) * q -
    s ** 2 * rest * arriving
  )
}

function parseText(text) {
  try {
    return JSON.parse(text)
  } catch (error) {
    try {
      return JSON.parse(fromPython(text))
    } catch {
      throw new TracksError('notJson', error.message)
    }
  }
}

/** KJNodes' spline editor writes Python: single quotes, True and False. */
function fromPython(text) {
  return text
    .replace(/'([^'"\\]*)'/g, '"$1"')
    .replace(/\bTrue\b/g, 'true')
    .replace(/\bFalse\b/g, 'false')
    .replace(/,\s*([\]}])/g, '$1')
}

function readTrack(value, index) {
  const track = Array.isArray(value) ? { points: value } : value
  const { points, spline = false, size = 1 } = track
  const unknown = Object.keys(track).find((key) => !TRACK_KEYS.has(key))
  if (unknown !== undefined) throw new TracksError('unknownKey', index + 1, unknown)
  if (!Array.isArray(points) || !points.length) throw new TracksError('noPoints', index + 1)
  if (typeof spline !== 'boolean') throw new TracksError('badSpline', index + 1, short(spline))
  if (!(isNumber(size) && size > 0)) throw new TracksError('badSize', index + 1, short(size))
  const read = { points: points.map((point, at) => readPoint(point, at, index)), spline, size }
  const times = pointTimes(read)
  const late = times.findIndex((time, at) => time <= times[at - 1])
  if (late >= 0) throw new TracksError('timesDoNotIncrease', late + 1, index + 1)
  return read
}

function readPoint(value, index, trackIndex) {
  const isPoint =
    isObject(value) &&
    Object.keys(value).every((key) => POINT_KEYS.has(key)) &&
    isNumber(value.x) &&
    isNumber(value.y) &&
    (value.t === undefined || (isNumber(value.t) && value.t >= 0 && value.t <= 1)) &&
    (value.visible === undefined || typeof value.visible === 'boolean')
  if (!isPoint) throw new TracksError('badPoint', index + 1, trackIndex + 1, short(value))
  return { ...value }
}

function formatTrack(track) {
  const points = `[${track.points.map(formatPoint).join(', ')}]`
  if (isPlain(track)) return points
  const spline = track.spline ? ', "spline": true' : ''
  const size = track.size === 1 ? '' : `, "size": ${track.size}`
  return `{"points": ${points}${spline}${size}}`
}

function formatPoint({ x, y, t, visible }) {
  const time = t === undefined ? '' : `, "t": ${t}`
  return `{"x": ${x}, "y": ${y}${time}${visible === false ? ', "visible": false' : ''}}`
}

function isPlain({ points, spline, size }) {
  const isSimple = (point) => point.t === undefined && point.visible !== false
  return !spline && size === 1 && points.every(isSimple)
}

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value)
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

function short(value) {
  const text = JSON.stringify(value) ?? String(value)
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`
}
