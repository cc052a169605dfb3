// What web/js/trajectory/tracks.js reads, writes and samples; test_tracks_js.py puts it beside this.

import assert from 'node:assert/strict'
import test from 'node:test'

import {
  formatTracks, parseTracks, pointTimes, sampleTrack, timesFor, TracksError,
} from './tracks.mjs'

const PLAIN = '[{"x": 168, "y": 192}, {"x": 504, "y": 192}]'
const line = (...points) => ({ points, spline: false, size: 1 })
const close = (actual, wanted) => {
  assert.ok(Math.abs(actual.x - wanted[0]) < 1e-9, `x is ${actual.x}, not ${wanted[0]}`)
  assert.ok(Math.abs(actual.y - wanted[1]) < 1e-9, `y is ${actual.y}, not ${wanted[1]}`)
}
const refusal = (text) => {
  try {
    parseTracks(text)
  } catch (error) {
    assert.ok(error instanceof TracksError, String(error))
    return [error.reason, ...error.details]
  }
  return assert.fail(`${text} was read`)
}

test('what was written is read back, and the simplest form is written', () => {
  const texts = [
    '[]',
    PLAIN,
    '[[{"x": 1, "y": 2.5}],\n [{"x": -3, "y": 4}]]',
    '[{"points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "spline": true}]',
    '[{"points": [{"x": 1, "y": 2}], "size": 1.5},\n [{"x": 3, "y": 4}]]',
    '[{"points": [{"x": 1, "y": 2, "t": 0.25}, {"x": 3, "y": 4, "visible": false}]}]',
  ]
  for (const text of texts) assert.equal(formatTracks(parseTracks(text)), text)
  const wordy = `[{"points": [{"x": 1, "y": 2, "visible": true}], "spline": false, "size": 1.0}]`
  assert.equal(formatTracks(parseTracks(wordy)), '[{"x": 1, "y": 2}]')
  assert.equal(formatTracks(parseTracks(`[${PLAIN}]`)), PLAIN)
  assert.deepEqual(parseTracks(' \n'), [])
})

test('a list of points is one track, a list of lists several, and both kinds mix', () => {
  assert.equal(parseTracks(PLAIN).length, 1)
  const mixed = parseTracks(`[${PLAIN}, {"points": ${PLAIN}, "spline": true}]`)
  assert.deepEqual(mixed.map(({ spline }) => spline), [false, true])
  assert.deepEqual(mixed[0].points, mixed[1].points)
})

test("KJNodes' texts are read", () => {
  const kijai = "[{'x': 10, 'y': 20.5}, {'x': 30, 'y': 40},]"
  assert.deepEqual(parseTracks(kijai), [line({ x: 10, y: 20.5 }, { x: 30, y: 40 })])
  const [track] = parseTracks("[{'points': [{'x': 1, 'y': 2, 'visible': False}], 'spline': True}]")
  assert.deepEqual(track, { points: [{ x: 1, y: 2, visible: false }], spline: true, size: 1 })
})

test('what cannot be read is named', () => {
  assert.equal(refusal('[{"x": 1')[0], 'notJson')
  assert.deepEqual(refusal('{"x": 1, "y": 2}'), ['notAList', '{"x":1,"y":2}'])
  assert.deepEqual(refusal('[{"x": 1}]'), ['badPoint', 1, 1, '{"x":1}'])
  assert.deepEqual(refusal(`[${PLAIN}, [{"x": 1, "y": "2"}]]`).slice(0, 3), ['badPoint', 1, 2])
  assert.equal(refusal('[{"x": 1, "y": 2, "z": 3}]')[0], 'badPoint')
  assert.equal(refusal('[{"x": 1, "y": 2, "t": 1.5}]')[0], 'badPoint')
  assert.equal(refusal('[{"x": 1, "y": true}]')[0], 'badPoint')
  assert.deepEqual(refusal('[[]]'), ['noPoints', 1])
  assert.deepEqual(refusal(`[{"points": ${PLAIN}, "speed": 2}]`), ['unknownKey', 1, 'speed'])
  assert.equal(refusal(`[{"points": ${PLAIN}, "size": 0}]`)[0], 'badSize')
  assert.equal(refusal(`[{"points": ${PLAIN}, "spline": 1}]`)[0], 'badSpline')
  const back = '[{"x": 1, "y": 2, "t": 0.5}, {"x": 1, "y": 2, "t": 0.4}]'
  assert.deepEqual(refusal(back), ['timesDoNotIncrease', 2, 1])
  const equal = '[{"x": 1, "y": 2, "t": 0.5}, {"x": 1, "y": 2, "t": 0.5}]'
  assert.deepEqual(refusal(equal), ['timesDoNotIncrease', 2, 1])
  const full = '[{"x": 1, "y": 2}, {"x": 3, "y": 4, "t": 1}, {"x": 5, "y": 6}]'
  assert.deepEqual(refusal(full), ['timesDoNotIncrease', 3, 1])
})

test('points without a time are spread evenly between their neighbours', () => {
  const times = (...given) => pointTimes(line(...given.map((t) => ({ x: 0, y: 0, t }))))
  const none = undefined
  assert.deepEqual(times(none), [0])
  assert.deepEqual(times(none, none, none, none, none), [0, 0.25, 0.5, 0.75, 1])
  assert.deepEqual(times(none, 0.5, none, none), [0, 0.5, 0.75, 1])
  assert.deepEqual(times(0.25, none, 0.75), [0.25, 0.5, 0.75])
})

test('a time lies strictly between the given ones beside it', () => {
  const times = (index, ...given) => timesFor(line(...given.map((t) => ({ x: 0, y: 0, t }))), index)
  const none = undefined
  assert.deepEqual(times(0, none), [0, 1])
  assert.deepEqual(times(0, none, none), [0, 0.999])
  assert.deepEqual(times(1, none, none), [0.001, 1])
  assert.deepEqual(times(1, none, none, none, none), [0.001, 0.999])
  assert.deepEqual(times(1, 0.57, none, none, 0.571), null)
  assert.deepEqual(times(1, 0.57, 0.6, none, 0.59), [0.571, 0.589])
  assert.deepEqual(times(2, 0.29, none, none, 0.9994, none), [0.291, 0.999])
})

test('even timing', () => {
  const track = line({ x: 0, y: 0 }, { x: 100, y: 0 }, { x: 100, y: 50 })
  close(sampleTrack(track, 0), [0, 0])
  close(sampleTrack(track, 0.25), [50, 0])
  close(sampleTrack(track, 0.5), [100, 0])
  close(sampleTrack(track, 0.75), [100, 25])
  close(sampleTrack(track, 1), [100, 50])
  for (const time of [0, 0.3, 1]) close(sampleTrack(line({ x: 7, y: 8 }), time), [7, 8])
})

test('t says when a point is reached, and the ends wait', () => {
  const track = line({ x: 0, y: 0, t: 0.2 }, { x: 100, y: 0, t: 0.4 }, { x: 100, y: 50, t: 0.8 })
  close(sampleTrack(track, 0.1), [0, 0])
  close(sampleTrack(track, 0.3), [50, 0])
  close(sampleTrack(track, 0.4), [100, 0])
  close(sampleTrack(track, 0.6), [100, 25])
  close(sampleTrack(track, 0.9), [100, 50])
})

test('a spline goes through its points, smoothly, and a straight one stays straight', () => {
  const points = [{ x: 0, y: 0 }, { x: 100, y: 80 }, { x: 200, y: 0 }, { x: 300, y: 90 }]
  const track = { ...line(...points), spline: true }
  points.forEach(({ x, y }, index) => close(sampleTrack(track, index / 3), [x, y]))
  const step = 1e-5
  const [before, at, after] = [-step, 0, step].map((by) => sampleTrack(track, 1 / 3 + by))
  assert.ok(Math.abs(at.y - before.y - (after.y - at.y)) < 1e-5, 'a corner at a point')
  assert.notEqual(sampleTrack(track, 0.5).y, 40)
  const straight = { ...line({ x: 0, y: 0 }, { x: 10, y: 5 }, { x: 20, y: 10 }), spline: true }
  const { x, y } = sampleTrack(straight, 0.3)
  assert.ok(Math.abs(y - x / 2) < 1e-9)
})

test('hidden from a point to the next visible one', () => {
  const track = line({ x: 0, y: 0 }, { x: 1, y: 0, visible: false }, { x: 2, y: 0 })
  const seen = [0, 0.49, 0.5, 0.99, 1].map((time) => sampleTrack(track, time).visible)
  assert.deepEqual(seen, [true, true, false, false, true])
})
