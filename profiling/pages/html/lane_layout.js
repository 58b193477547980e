/* Where lanes lie: in groups (a device, a process), each lane a stack of rows. Heights are in CSS pixels. */

export const OVERVIEW = 26; // height of the strip of the whole trace above the ticks
export const AXIS = OVERVIEW + 24;
const GROUP = 24;
const LANE_GAP = 3;
const CHART = 58;
const LABEL_LINE = 17; // on a narrow screen, labels have their own line

function rowHeight(lane, group, expanded) {
  if (expanded) return group.device ? 18 : 16;
  if (lane.rows.length > 20) return 2;
  return lane.rows.length > 4 ? 3 : 7;
}

/* `closed`: { groups, lanes }, sets of the indices of what is folded. Returns bands, one for each row that is
   drawn; labels, which stand beside them; rules, heights of lines between groups; the height of it all. */
export function layOut(timeline, closed, narrow) {
  const bands = []; // what is drawn
  const labels = []; // what stands beside it
  const rules = [];
  let y = 0;
  timeline.groups.forEach((group, index) => {
    const lanes = timeline.lanes.filter((lane) => lane.group === index);
    const open = !closed.groups.has(index);
    if (y) rules.push(y);
    labels.push({ group, index, y, height: GROUP, open, lanes: lanes.length });
    y += GROUP;
    if (!open) return;
    for (const lane of lanes) {
      const expanded = !closed.lanes.has(lane.index);
      const row = rowHeight(lane, group, expanded);
      const label = narrow ? LABEL_LINE : 0;
      const height = Math.max(row * lane.rows.length, narrow ? 0 : 16);
      labels.push({ lane, y, height: label || height, open: expanded });
      lane.rows.forEach((slices, depth) => {
        bands.push({ y: y + label + depth * row, height: row, row: slices });
      });
      y += label + height + LANE_GAP;
    }
    y += 4;
  });
  return { bands, labels, rules, height: y };
}

/* A deep host thread at full height would push everything else off the screen; it starts as a silhouette. */
export function closedAtFirst(timeline) {
  const lanes = timeline.lanes.filter((lane) => !timeline.groups[lane.group].device && lane.rows.length > 24);
  return { groups: new Set(), lanes: new Set(lanes.map((lane) => lane.index)) };
}

export function layOutCharts(timeline, narrow) {
  const label = narrow ? LABEL_LINE * 2 : 0;
  return timeline.charts.map((chart, i) => ({ chart, y: i * (CHART + label), height: CHART + label, label }));
}

export const heightOf = (bands) => bands.reduce((sum, { height }) => sum + height, 0);
