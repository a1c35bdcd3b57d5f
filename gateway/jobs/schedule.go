package jobs

import (
	"strconv"
	"strings"
	"time"
)

// The bounds of schedules (spec/jobs.md §2).
const (
	leastAhead  = 30 * time.Minute
	mostAhead   = 365 * 24 * time.Hour
	longest     = 2 * 365 * 24 * time.Hour
	maxWindow   = 1430 // minutes
	horizonDays = 8 * 366
)

// parseTime reads a time as schedules have it: "2006-01-02 15:04" in UTC, or ISO 8601.
func parseTime(s string) (int64, bool) {
	for _, layout := range []string{"2006-01-02 15:04", time.RFC3339, "2006-01-02T15:04", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMilli(), true
		}
	}
	return 0, false
}

// times gives when a job starts and ends, 0 where nothing is said.
func (j *Job) times() (start, end int64) {
	if s := j.Scheduling; s != nil {
		start, _ = parseTime(s.Start)
		end, _ = parseTime(s.End)
	}
	return start, end
}

// check judges a schedule. Without a date that can be trusted, what is ahead is not.
func (s *Scheduling) check(continuous bool, now time.Time, trusted bool) error {
	if s == nil {
		return nil
	}
	from := now
	if s.Start != "" {
		at, ok := parseTime(s.Start)
		if !ok {
			return invalid("startTime must be a time in UTC such as 2026-05-01 12:00")
		}
		from = time.UnixMilli(at)
		if d := from.Sub(now); trusted && (d < leastAhead || d > mostAhead) {
			return invalid("startTime must be at least 30 minutes and at most one year ahead")
		}
	}
	if s.End != "" {
		at, ok := parseTime(s.End)
		if !ok {
			return invalid("endTime must be a time in UTC such as 2026-05-01 12:00")
		}
		d := time.UnixMilli(at).Sub(from)
		if (trusted || s.Start != "") && (d < leastAhead || d > longest) {
			return invalid("endTime must be at least 30 minutes and at most two years after the start")
		}
	}
	switch s.EndBehavior {
	case "":
	case "STOP_ROLLOUT", "CANCEL", "FORCE_CANCEL":
		if s.End == "" {
			return invalid("endBehavior needs an endTime")
		}
	default:
		return invalid("endBehavior must be STOP_ROLLOUT, CANCEL or FORCE_CANCEL")
	}
	if len(s.Windows) > 0 && !continuous {
		return invalid("maintenanceWindows are for jobs with the targetSelection CONTINUOUS")
	}
	return checkWindows(s.Windows)
}

func checkWindows(list []Window) error {
	for _, w := range list {
		if _, ok := parseCron(w.Start); !ok {
			return invalid("a maintenance window's startTime must be like cron(0 18 ? * MON-FRI *)")
		}
		if w.Minutes < 1 || w.Minutes > maxWindow {
			return invalid("durationInMinutes must be 1 to %d", maxWindow)
		}
	}
	return nil
}

// open says whether a job may tell things now, and if not, when it may again. Without a
// date that can be trusted no window is open.
func (j *jobChange) open(c *change) (ok bool, until int64) {
	if j.Scheduling == nil || len(j.Scheduling.Windows) == 0 {
		return true, 0
	}
	if !c.trusted {
		return false, c.now + putOff.Milliseconds()
	}
	now := time.UnixMilli(c.now).UTC()
	var first time.Time
	for _, w := range j.Scheduling.Windows {
		cr, ok := parseCron(w.Start)
		if !ok {
			continue
		}
		// The first start that a window still open could have had.
		at, ok := cr.next(now.Add(-time.Duration(w.Minutes)*time.Minute + time.Millisecond))
		if ok && !at.After(now) {
			return true, 0
		}
		if ok && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if first.IsZero() {
		return false, c.now + (24 * time.Hour).Milliseconds()
	}
	return false, first.UnixMilli()
}

// cron is a schedule as cron(minute hour day-of-month month day-of-week year), in UTC.
type cron struct {
	minute, hour, month bits
	dom                 dayRule
	dow                 dayRule
	year                map[int]bool // nil: any
}

// bits is a set of small numbers.
type bits uint64

func (b bits) has(n int) bool { return b>>uint(n)&1 != 0 }

// dayRule is a day of a month or week.
type dayRule struct {
	any     bool // * or ?
	set     bits
	last    bool   // L: the last day, or with set the last such weekday
	nearest int    // nW: the weekday nearest to day n; -1: LW
	nth     [8]int // n#k: the k-th such weekday
}

var monthNames = strings.Fields("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
var dayNames = strings.Fields("SUN MON TUE WED THU FRI SAT")

// parseCron reads a cron expression; days of the week are 1 to 7 from Sunday on.
func parseCron(s string) (*cron, bool) {
	s, ok := strings.CutPrefix(strings.TrimSpace(s), "cron(")
	if !ok || len(s) > 256 {
		return nil, false
	}
	s, ok = strings.CutSuffix(s, ")")
	f := strings.Fields(s)
	if !ok || len(f) != 6 {
		return nil, false
	}
	var c cron
	good := true
	set := func(text string, lo, hi int, names []string) (b bits) {
		good = good && each(text, lo, hi, names, func(n int) { b |= 1 << uint(n) })
		return b
	}
	c.minute, c.hour, c.month = set(f[0], 0, 59, nil), set(f[1], 0, 23, nil), set(f[3], 1, 12, monthNames)
	var ok1, ok2 bool
	c.dom, ok1 = parseDay(f[2], 31, nil)
	c.dow, ok2 = parseDay(f[4], 7, dayNames)
	if f[5] != "*" {
		c.year = map[int]bool{}
		good = good && each(f[5], 1970, 2199, nil, func(n int) { c.year[n] = true })
	}
	if !good || !ok1 || !ok2 || c.dom.any == c.dow.any && !c.dom.any {
		return nil, false
	}
	return &c, true
}

func parseDay(s string, hi int, names []string) (d dayRule, ok bool) {
	week := names != nil
	switch n, err := strconv.Atoi(strings.TrimRight(s, "WL")); {
	case s == "*" || s == "?":
		d.any = true
		return d, true
	case s == "L" && !week:
		d.last = true
		return d, true
	case s == "L":
		d.set = 1 << 7
		return d, true
	case s == "LW" && !week:
		d.nearest = -1
		return d, true
	case strings.HasSuffix(s, "W") && !week:
		d.nearest = n
		return d, err == nil && n >= 1 && n <= 31
	case strings.HasSuffix(s, "L") && week:
		d.last = true
		return d, each(s[:len(s)-1], 1, hi, names, func(n int) { d.set |= 1 << uint(n) })
	}
	if day, k, found := strings.Cut(s, "#"); found && week {
		nth, err := strconv.Atoi(k)
		ok := each(day, 1, hi, names, func(n int) { d.nth[n] = nth })
		return d, ok && err == nil && nth >= 1 && nth <= 5
	}
	return d, each(s, 1, hi, names, func(n int) { d.set |= 1 << uint(n) })
}

// each calls f for every number of a list such as 1,5-9,*/10 or MON-FRI.
func each(s string, lo, hi int, names []string, f func(int)) bool {
	for _, part := range strings.Split(s, ",") {
		rang, step, stepped := strings.Cut(part, "/")
		by := 1
		if stepped {
			n, err := strconv.Atoi(step)
			if err != nil || n < 1 {
				return false
			}
			by = n
		}
		from, to := lo, hi
		if rang != "*" && (rang != "?" || stepped) {
			a, b, isRange := strings.Cut(rang, "-")
			var ok bool
			if from, ok = number(a, lo, hi, names); !ok {
				return false
			}
			switch {
			case isRange:
				if to, ok = number(b, lo, hi, names); !ok || to < from {
					return false
				}
			case !stepped:
				to = from
			}
		}
		for n := from; n <= to; n += by {
			f(n)
		}
	}
	return true
}

func number(s string, lo, hi int, names []string) (int, bool) {
	for i, n := range names {
		if strings.EqualFold(s, n) {
			return i + 1, true
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= lo && n <= hi
}

// day says whether the rule takes in the day of t.
func (d *dayRule) day(t time.Time, week bool) bool {
	n, last := t.Day(), time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
	if week {
		w := int(t.Weekday()) + 1
		if d.nth[w] > 0 {
			return (n+6)/7 == d.nth[w]
		}
		return d.set.has(w) && (!d.last || n+7 > last)
	}
	if d.last {
		return n == last
	}
	if d.nearest != 0 {
		want := d.nearest
		if want < 0 {
			want = last
		}
		return want <= last && n == nearest(t, want, last, d.nearest < 0)
	}
	return d.set.has(n)
}

// nearest gives the working day nearest to day n of t's month, without leaving the
// month; back looks only before it.
func nearest(t time.Time, n, last int, back bool) int {
	switch time.Date(t.Year(), t.Month(), n, 0, 0, 0, 0, time.UTC).Weekday() {
	case time.Saturday:
		if n == 1 {
			return 3
		}
		return n - 1
	case time.Sunday:
		if n == last || back {
			return n - 2
		}
		return n + 1
	}
	return n
}

// next gives the first time of the schedule that is not before t.
func (c *cron) next(t time.Time) (time.Time, bool) {
	t = t.UTC().Add(time.Minute - time.Nanosecond).Truncate(time.Minute)
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	from := t.Hour()*60 + t.Minute()
	for range horizonDays {
		if (c.year == nil || c.year[day.Year()]) && c.month.has(int(day.Month())) &&
			(c.dom.any || c.dom.day(day, false)) && (c.dow.any || c.dow.day(day, true)) {
			for m := from; m < 24*60; m++ {
				if c.hour.has(m/60) && c.minute.has(m%60) {
					return day.Add(time.Duration(m) * time.Minute), true
				}
			}
		}
		day, from = day.AddDate(0, 0, 1), 0
	}
	return time.Time{}, false
}
