package iotsql

import (
	"strings"
	"time"
)

// zoneName prints a zone's name at a time: short as CST, or long. Where there is no name it
// is the offset.
func zoneName(t time.Time, long bool) string {
	name, _ := t.Zone()
	if name == "" || name[0] == '+' || name[0] == '-' {
		if own, ok := javaZoneName(t.Location().String(), t.IsDST()); ok {
			return own
		}
		return offsetText(t, true)
	}
	if long {
		if full, ok := longZones[name]; ok {
			return full
		}
	}
	return name
}

// longZones are the full names of zones by their short ones.
var longZones = map[string]string{
	"UTC": "Coordinated Universal Time", "GMT": "Greenwich Mean Time",
	"EST": "Eastern Standard Time", "EDT": "Eastern Daylight Time",
	"CST": "Central Standard Time", "CDT": "Central Daylight Time",
	"MST": "Mountain Standard Time", "MDT": "Mountain Daylight Time",
	"PST": "Pacific Standard Time", "PDT": "Pacific Daylight Time",
	"AKST": "Alaska Standard Time", "AKDT": "Alaska Daylight Time", "HST": "Hawaii-Aleutian Standard Time",
	"AST": "Atlantic Standard Time", "ADT": "Atlantic Daylight Time",
	"NST": "Newfoundland Standard Time", "NDT": "Newfoundland Daylight Time",
	"WET": "Western European Standard Time", "WEST": "Western European Summer Time",
	"CET": "Central European Standard Time", "CEST": "Central European Summer Time",
	"EET": "Eastern European Standard Time", "EEST": "Eastern European Summer Time",
	"BST": "British Summer Time", "MSK": "Moscow Standard Time",
	"JST": "Japan Standard Time", "KST": "Korean Standard Time", "IST": "India Standard Time",
	"AEST": "Australian Eastern Standard Time", "AEDT": "Australian Eastern Daylight Time",
	"ACST": "Australian Central Standard Time", "ACDT": "Australian Central Daylight Time",
	"AWST": "Australian Western Standard Time",
	"NZST": "New Zealand Standard Time", "NZDT": "New Zealand Daylight Time",
}

// shortZones are the zones that short names mean to the JDK in English. A summer time's
// name means its zone, whatever the season.
var shortZones = map[string]string{
	"EST": "America/New_York", "EDT": "America/New_York", "CST": "America/Chicago", "CDT": "America/Chicago",
	"MST": "America/Denver", "MDT": "America/Denver", "PST": "America/Los_Angeles", "PDT": "America/Los_Angeles",
	"AKST": "America/Anchorage", "AKDT": "America/Anchorage", "HST": "Pacific/Honolulu",
	"AST": "America/Halifax", "ADT": "America/Halifax", "NST": "America/St_Johns", "NDT": "America/St_Johns",
	"WET": "Europe/Lisbon", "WEST": "Europe/Lisbon", "CET": "Europe/Paris", "CEST": "Europe/Paris",
	"EET": "Europe/Athens", "EEST": "Europe/Athens", "BST": "Europe/London", "MSK": "Europe/Moscow",
	"JST": "Asia/Tokyo", "KST": "Asia/Seoul", "IST": "Asia/Kolkata", "SGT": "Asia/Singapore",
	"AEST": "Australia/Sydney", "AEDT": "Australia/Sydney", "ACST": "Australia/Adelaide", "ACDT": "Australia/Adelaide",
	"AWST": "Australia/Perth", "NZST": "Pacific/Auckland", "NZDT": "Pacific/Auckland",
}

type reader = func(f *timeFields, s string, at int) (int, bool)

// zoneReader reads a zone or an offset for a run of n letters c of a JDK pattern; nil when
// they mean nothing.
func zoneReader(c byte, n int) reader {
	fixed := func(forms string, zero string) reader {
		return func(f *timeFields, s string, at int) (int, bool) {
			if end, ok := readOffset(f, s, at, forms); ok {
				return end, true
			}
			if zero != "" && strings.HasPrefix(s[at:], zero) {
				f.zone = time.UTC
				return at + len(zero), true
			}
			return 0, false
		}
	}
	switch {
	case c == 'V' && n == 2:
		return readZoneID
	case c == 'z' && n <= 4:
		return func(f *timeFields, s string, at int) (int, bool) { return readZoneName(f, s, at, n == 4) }
	case c == 'O' && (n == 1 || n == 4), c == 'Z' && n == 4:
		return func(f *timeFields, s string, at int) (int, bool) { return readGMT(f, s, at, n == 4) }
	case c == 'Z' && n < 4:
		return fixed("hhmm", "")
	case c == 'Z' && n == 5:
		return fixed("hh:mm[:ss]", "Z")
	case c == 'X' || c == 'x':
		forms := [...]string{"hh[mm]", "hhmm", "hh:mm", "hhmm[ss]", "hh:mm[:ss]"}
		if n > len(forms) {
			return nil
		}
		if c == 'X' {
			return fixed(forms[n-1], "Z")
		}
		return fixed(forms[n-1], "")
	}
	return nil
}

// readOffset reads a signed offset of a form such as hh:mm[:ss].
func readOffset(f *timeFields, s string, at int, form string) (int, bool) {
	if at >= len(s) || s[at] != '+' && s[at] != '-' {
		return 0, false
	}
	negative := s[at] == '-'
	at++
	parts := [3]int{}
	need, optional, _ := strings.Cut(strings.TrimSuffix(form, "]"), "[")
	read := func(form string, at int) (int, bool) {
		for i := 0; i < len(form); {
			if form[i] == ':' {
				if at >= len(s) || s[at] != ':' {
					return 0, false
				}
				i++
				at++
				continue
			}
			if digitsEnd(s, at) < at+2 {
				return 0, false
			}
			v := int(s[at]-'0')*10 + int(s[at+1]-'0')
			which := strings.IndexByte("hms", form[i])
			if which > 0 && v > 59 {
				return 0, false
			}
			parts[which] = v
			i += 2
			at += 2
		}
		return at, true
	}
	at, ok := read(need, at)
	if !ok {
		return 0, false
	}
	if end, ok := read(optional, at); ok {
		at = end
	}
	seconds := parts[0]*3600 + parts[1]*60 + parts[2]
	if seconds > 18*3600 {
		return 0, false
	}
	if negative {
		seconds = -seconds
	}
	f.zone = time.FixedZone("", seconds)
	return at, true
}

// readGMT reads GMT+8 or, full, GMT+08:00.
func readGMT(f *timeFields, s string, at int, full bool) (int, bool) {
	if !strings.HasPrefix(s[at:], "GMT") {
		return 0, false
	}
	at += 3
	if full {
		if end, ok := readOffset(f, s, at, "hh:mm[:ss]"); ok {
			return end, true
		}
	} else if at < len(s) && (s[at] == '+' || s[at] == '-') {
		for _, form := range [...]string{"hh:mm[:ss]", "hh"} {
			if end, ok := readOffset(f, s, at, form); ok {
				return end, true
			}
		}
		if digitsEnd(s, at+1) > at+1 { // one digit of hours
			rest := s[at+2:]
			padded := s[at:at+1] + "0" + s[at+1:at+2] + rest
			for _, form := range [...]string{"hh:mm[:ss]", "hh"} {
				if end, ok := readOffset(f, padded, 0, form); ok {
					return at + end - 1, true
				}
			}
		}
		return 0, false
	}
	f.zone = time.UTC
	return at, true
}

// readZoneID reads a zone id: an offset, UTC, UT or GMT with or without one, or a name of
// the zone database.
func readZoneID(f *timeFields, s string, at int) (int, bool) {
	const form = "hh:mm[:ss]"
	if end, ok := readOffset(f, s, at, form); ok {
		return end, true
	}
	prefix := ""
	for _, p := range [...]string{"UTC", "GMT", "UT"} {
		if prefix == "" && strings.HasPrefix(s[at:], p) {
			prefix = p
		}
	}
	if prefix != "" {
		if end, ok := readOffset(f, s, at+len(prefix), form); ok {
			return end, true
		}
	}
	if word := zoneWord(s[at:]); word != "Z" && word != "EST" && word != "MST" && word != "HST" { // the JDK has no zones of these names
		if l, ok := loadZone(word); ok {
			f.zone = l
			return at + len(word), true
		}
	}
	if prefix != "" {
		f.zone = time.UTC
		return at + len(prefix), true
	}
	if strings.HasPrefix(s[at:], "Z") {
		f.zone = time.UTC
		return at + 1, true
	}
	return 0, false
}

// readZoneName reads what z stands for: a name, short or long, or a zone id.
func readZoneName(f *timeFields, s string, at int, full bool) (int, bool) {
	if full {
		for short, long := range longZones {
			if strings.HasPrefix(s[at:], long) {
				if l, ok := loadZone(zoneOf(short)); ok {
					f.zone = l
					return at + len(long), true
				}
			}
		}
		if _, known := shortZones[zoneWord(s[at:])]; known {
			return 0, false
		}
		return readZoneID(f, s, at)
	}
	word := zoneWord(s[at:])
	if id, ok := shortZones[word]; ok {
		if l, ok := loadZone(id); ok {
			f.zone = l
			return at + len(word), true
		}
	}
	return readZoneID(f, s, at)
}

func zoneOf(short string) string {
	if id, ok := shortZones[short]; ok {
		return id
	}
	return short
}

// zoneWord gives the run of characters zone names are made of, without a sign that begins
// an offset.
func zoneWord(s string) string {
	end := 0
	for end < len(s) && (isWord(s[end]) || s[end] == '/' || (s[end] == '-' || s[end] == '+') && end > 0 && strings.Contains(s[:end], "/")) {
		end++
	}
	return s[:end]
}

// loadZone finds a zone by name.
func loadZone(id string) (*time.Location, bool) {
	if id == "" || id == "Local" || len(id) > 64 {
		return nil, false
	}
	l, err := time.LoadLocation(id)
	return l, err == nil
}
