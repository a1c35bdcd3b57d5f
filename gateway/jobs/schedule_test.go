package jobs

import (
	"testing"
	"time"
)

func TestCron(t *testing.T) {
	from := time.Date(2026, 6, 1, 12, 0, 1, 0, time.UTC) // a Monday
	for expr, want := range map[string]string{
		"cron(0 18 ? * MON-FRI *)":      "2026-06-01 18:00",
		"cron(0 12 * * ? *)":            "2026-06-02 12:00",
		"cron(*/15 * * * ? *)":          "2026-06-01 12:15",
		"cron(5,35 12-13 ? * 1 *)":      "2026-06-07 12:05",
		"cron(0 0 L * ? *)":             "2026-06-30 00:00",
		"cron(0 0 LW * ? *)":            "2026-06-30 00:00",
		"cron(0 0 LW MAY ? *)":          "2027-05-31 00:00",
		"cron(0 0 6W * ? *)":            "2026-06-05 00:00",
		"cron(0 0 7W * ? *)":            "2026-06-08 00:00",
		"cron(0 0 1W AUG ? *)":          "2026-08-03 00:00",
		"cron(0 0 ? * 2#1 *)":           "2026-07-06 00:00",
		"cron(0 0 ? * FRIL *)":          "2026-06-26 00:00",
		"cron(0 0 ? * L *)":             "2026-06-06 00:00",
		"cron(30 6 1 JAN,JUL ? 2027)":   "2027-01-01 06:30",
		"cron(0 0 29 2 ? *)":            "2028-02-29 00:00",
		"cron(0/20 9 ? * tue *)":        "2026-06-02 09:00",
		"cron(0 0 1 1 ? 2025)":          "",
		"cron(0 0 31 2 ? *)":            "",
		"cron(0 0 * * * *)":             "2026-06-02 00:00",
		"cron(60 0 * * ? *)":            "wrong",
		"cron(0 0 0 * ? *)":             "wrong",
		"cron(0 0 1 * 1 *)":             "wrong",
		"cron(0 0 * *)":                 "wrong",
		"cron(0 0 * * ? * *)":           "wrong",
		"0 0 * * ? *":                   "wrong",
		"cron(5-1 0 * * ? *)":           "wrong",
		"cron(*/0 0 * * ? *)":           "wrong",
		"cron(0 0 ? * 2#6 *)":           "wrong",
		"cron(-1 0 * * ? *)":            "wrong",
		"cron(1-99999999999 0 * * ? *)": "wrong",
	} {
		c, ok := parseCron(expr)
		if !ok {
			if want != "wrong" {
				t.Errorf("%s cannot be read", expr)
			}
			continue
		}
		got := ""
		if at, ok := c.next(from); ok {
			got = at.Format("2006-01-02 15:04")
		}
		if got != want {
			t.Errorf("%s: %s, want %s", expr, got, want)
		}
	}
}

func FuzzCron(f *testing.F) {
	f.Add("cron(0 18 ? * MON-FRI *)")
	f.Add("cron(*/7,1-3 L 15W JAN 2#3 2026-2030)")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := parseCron(s)
		if !ok {
			return
		}
		from := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		if at, ok := c.next(from); ok {
			if again, ok := c.next(at); at.Before(from) || !ok || !again.Equal(at) {
				t.Errorf("%q: %v, then %v", s, at, again)
			}
		}
	})
}
