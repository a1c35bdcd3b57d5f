package bridge

import (
	"strconv"
	"strings"
	"time"

	"tidegate/devices"
	"tidegate/devices/manager"
)

// timeForm is RFC 3339 in UTC with milliseconds.
const timeForm = "2006-01-02T15:04:05.000Z"

// topic fills in the template for a sample.
func (c *Config) topic(s *manager.Sample) string {
	return strings.NewReplacer("{thing}", s.Thing, "{point-group}", s.Group, "{device}", s.Device).Replace(c.Topic)
}

// payload makes the message of a sample:
//
//	{"time":"2026-03-01T12:00:00.250Z","ts":1772366400250,"thing":"boiler",
//	 "points":{"supply":{"value":21.5,"unit":"°C","quality":"good"},
//	           "pump":{"value":true,"quality":"good"}}}
//
// The value is null when there is none, which is then of quality bad.
func (c *Config) payload(s *manager.Sample) []byte {
	b := c.appendTime(make([]byte, 0, 96+64*len(s.Readings)), s.At)
	b = append(b, `,"thing":`...)
	b = devices.AppendQuoted(b, s.Thing)
	b = append(b, `,"points":{`...)
	for i, r := range s.Readings {
		if i > 0 {
			b = append(b, ',')
		}
		b = devices.AppendQuoted(b, r.Point)
		b = append(b, `:{"value":`...)
		b = r.Value.AppendJSON(b)
		if u := s.Points[i].Unit; u != "" {
			b = append(b, `,"unit":`...)
			b = devices.AppendQuoted(b, string(u))
		}
		b = append(b, `,"quality":"`...)
		b = append(b, r.Quality.String()...)
		b = append(b, `"}`...)
	}
	return append(b, `}}`...)
}

// appendTime opens the object with when it was.
func (c *Config) appendTime(b []byte, t time.Time) []byte {
	b = append(b, '{')
	if c.Time != "epoch_ms" {
		b = append(b, `"time":"`...)
		b = t.UTC().AppendFormat(b, timeForm)
		b = append(b, '"')
	}
	if c.Time == "both" {
		b = append(b, ',')
	}
	if c.Time != "rfc3339" {
		b = append(b, `"ts":`...)
		b = strconv.AppendInt(b, t.UnixMilli(), 10)
	}
	return b
}

// refusal makes the message about a desired value that a device cannot take:
//
//	{"time":…,"ts":…,"thing":"boiler","point":"setpoint","desired":99,"value":21.5,
//	 "error":"invalid","message":"impossible value for setpoint: 99, expected 5 to 60"}
//
// desired is as the shadow has it, value what the device has, null when that is not known.
func (c *Config) refusal(t time.Time, thing, point, desired string, value devices.Value, code, text string) []byte {
	b := c.appendTime(nil, t)
	for _, kv := range [][2]string{{"thing", thing}, {"point", point}} {
		b = append(append(b, `,"`+kv[0]+`":`...), devices.AppendQuoted(nil, kv[1])...)
	}
	b = append(append(b, `,"desired":`...), desired...)
	b = value.AppendJSON(append(b, `,"value":`...))
	for _, kv := range [][2]string{{"error", code}, {"message", text}} {
		b = append(append(b, `,"`+kv[0]+`":`...), devices.AppendQuoted(nil, kv[1])...)
	}
	return append(b, '}')
}
