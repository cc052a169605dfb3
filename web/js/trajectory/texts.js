/** What the track editor says, in English and Chinese. */

const ENGLISH = {
  editor: 'Track editor',
  keys: (selected) =>
    `Track editor. ${selected} Arrow keys move it by 1, with Shift by 10. Page Up and Page Down ` +
    'choose another point. Delete removes it. Control Z undoes.',
  nothingSelected: 'No point is selected.',
  pointSelected: (point, track, x, y) => `Point ${point} of track ${track} at ${x}, ${y}.`,
  track: (number) => `Track ${number}`,
  newTrack: 'New track',
  chooseTrack: 'Track',
  addTrack: 'Add a track: click where it begins',
  removeTrack: 'Remove this track',
  undo: 'Undo (Ctrl+Z)',
  redo: 'Redo (Ctrl+Shift+Z)',
  spline: 'Spline',
  splineHint: 'A smooth curve through the points, instead of straight lines',
  size: 'Size',
  sizeHint: 'Size of the blob; 1 is what the model was trained with',
  point: (number) => `Point ${number}`,
  noPoint: 'No point',
  visible: 'Visible',
  visibleHint: 'Off: hidden from this point to the next visible one',
  time: 'Time',
  timeHint: 'Share of the clip, 0 to 1, at which the point is reached; empty: evenly spread',
  timeEven: 'even',
  timeLimited: (least, most) =>
    `Times increase from point to point: this one from ${least} to ${most}.`,
  noTimeLeft: 'Times increase from point to point: none is left between the neighbours.',
  removePoint: 'Remove this point (Delete)',
  play: 'Play',
  pause: 'Pause',
  frame: 'Frame',
  start: 'Click where the track begins.',
  add: 'Click: add a point. Drag: move it. Double or right click: remove it.',
  linked: 'The tracks come from another node; disconnect tracks to edit them here.',
  untouched: 'The text stays as it is until it can be read.',
  notJson: (message) => `The tracks are not valid JSON: ${message}`,
  notAList: (value) => `The tracks are ${value}; a list of points or of tracks is needed.`,
  unknownKey: (track, key) =>
    `Track ${track} has "${key}"; only points, spline and size are known.`,
  noPoints: (track) => `Track ${track} has no list of points; at least 1 point is needed.`,
  badSpline: (track, value) => `The spline of track ${track} is ${value}; it is true or false.`,
  badSize: (track, value) => `The size of track ${track} is ${value}; it is a number above 0.`,
  badPoint: (point, track, value) =>
    `Point ${point} of track ${track} is ${value}; it must be {"x": number, "y": number}, ` +
    'with "t" from 0 to 1 and "visible" where needed.',
  timesDoNotIncrease: (point, track) =>
    `Point ${point} of track ${track} is not reached after the one in front of it; times increase ` +
    'from point to point.',
}

const CHINESE = {
  editor: '轨迹编辑器',
  keys: (selected) =>
    `轨迹编辑器。${selected}方向键移动 1 像素，加 Shift 移动 10 像素。Page Up 和 Page Down 选择其他点。` +
    'Delete 删除，Ctrl+Z 撤销。',
  nothingSelected: '没有选中的点。',
  pointSelected: (point, track, x, y) => `轨迹 ${track} 的第 ${point} 个点，位于 ${x}, ${y}。`,
  track: (number) => `轨迹 ${number}`,
  newTrack: '新轨迹',
  chooseTrack: '轨迹',
  addTrack: '添加轨迹：点击它的起点',
  removeTrack: '删除这条轨迹',
  undo: '撤销 (Ctrl+Z)',
  redo: '重做 (Ctrl+Shift+Z)',
  spline: '曲线',
  splineHint: '用平滑曲线代替直线连接各点',
  size: '大小',
  sizeHint: '光斑的大小；1 与训练时相同',
  point: (number) => `点 ${number}`,
  noPoint: '未选点',
  visible: '可见',
  visibleHint: '关闭：从这个点起隐藏，直到下一个可见的点',
  time: '时间',
  timeHint: '到达这个点的时刻，占整个长度的比例（0 到 1）；留空则均匀分布',
  timeEven: '均匀',
  timeLimited: (least, most) => `时间逐点增大：这个点可以在 ${least} 到 ${most} 之间。`,
  noTimeLeft: '时间逐点增大：相邻的点之间没有时间了。',
  removePoint: '删除这个点 (Delete)',
  play: '播放',
  pause: '暂停',
  frame: '帧',
  start: '点击轨迹的起点。',
  add: '单击添加点，拖动移动点，双击或右键删除点。',
  linked: '轨迹来自另一个节点；断开 tracks 的连接后才能在这里编辑。',
  untouched: '在能够读取之前，文本保持原样。',
  notJson: (message) => `轨迹不是有效的 JSON：${message}`,
  notAList: (value) => `轨迹是 ${value}；需要点的列表或轨迹的列表。`,
  unknownKey: (track, key) => `轨迹 ${track} 含有“${key}”；只能有 points、spline 和 size。`,
  noPoints: (track) => `轨迹 ${track} 没有点的列表；至少需要 1 个点。`,
  badSpline: (track, value) => `轨迹 ${track} 的 spline 是 ${value}；只能是 true 或 false。`,
  badSize: (track, value) => `轨迹 ${track} 的 size 是 ${value}；必须是大于 0 的数。`,
  badPoint: (point, track, value) =>
    `轨迹 ${track} 的第 ${point} 个点是 ${value}；必须是 {"x": 数字, "y": 数字}，` +
    '可以带 0 到 1 的 "t" 和 "visible"。',
  timesDoNotIncrease: (point, track) =>
    `轨迹 ${track} 的第 ${point} 个点没有晚于它前面的点；时间必须逐点增大。`,
}

export function textsFor(locale) {
  return String(locale).startsWith('zh') ? CHINESE : ENGLISH
}
