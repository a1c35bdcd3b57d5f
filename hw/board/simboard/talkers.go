package simboard

import (
	"fmt"
	"math"
	"time"
)

// vessel goes round a buoy in the Kiel fjord, a lap in ten minutes.
type vessel struct{ begun time.Time }

const (
	centreLat = 54.3500
	centreLon = 10.1600
	radius    = 400.0 // metres
	lap       = 10 * time.Minute
)

func newVessel(now time.Time) *vessel { return &vessel{begun: now} }

// sentences gives what an NMEA 0183 receiver and a wind sensor send in a second.
func (v *vessel) sentences(now time.Time) string {
	turn := 2 * math.Pi * now.Sub(v.begun).Seconds() / lap.Seconds()
	lat := centreLat + radius*math.Cos(turn)/111_120
	lon := centreLon + radius*math.Sin(turn)/(111_120*math.Cos(centreLat*math.Pi/180))
	course := math.Mod(turn*180/math.Pi+90, 360)
	speed := 2 * math.Pi * radius / lap.Seconds() * 3600 / 1852 // knots
	windAngle := math.Mod(360+225-course+5*math.Sin(7*turn), 360)
	windSpeed := 12 + 3*math.Sin(13*turn)
	utc := now.UTC()
	clock := utc.Format("150405") + ".00"
	return sentence("GPGGA,%s,%s,%s,1,09,0.9,%.1f,M,44.1,M,,", clock, minutes(lat, 2, "N", "S"), minutes(lon, 3, "E", "W"), 2+0.3*math.Sin(31*turn)) +
		sentence("GPRMC,%s,A,%s,%s,%.1f,%.1f,%s,003.9,E,A", clock, minutes(lat, 2, "N", "S"), minutes(lon, 3, "E", "W"), speed, course, utc.Format("020106")) +
		sentence("WIMWV,%.1f,R,%.1f,N,A", windAngle, windSpeed)
}

// minutes writes degrees as (d)ddmm.mmmm with the hemisphere.
func minutes(d float64, digits int, plus, minus string) string {
	side := plus
	if d < 0 {
		d, side = -d, minus
	}
	m := math.Round(d*60*10000) / 10000
	whole := int(m / 60)
	return fmt.Sprintf("%0*d%07.4f,%s", digits, whole, m-float64(60*whole), side)
}

// sentence frames a body with $, checksum and line end.
func sentence(format string, args ...any) string {
	body := fmt.Sprintf(format, args...)
	sum := byte(0)
	for i := range len(body) {
		sum ^= body[i]
	}
	return fmt.Sprintf("$%s*%02X\r\n", body, sum)
}

// weather gives a line of the JSON sensor; a day has its warm and its cold end.
func weather(now time.Time) string {
	day := 2 * math.Pi * float64(now.UTC().Hour()*3600+now.UTC().Minute()*60+now.UTC().Second()) / 86400
	wobble := math.Sin(float64(now.Unix()%97) / 97 * 2 * math.Pi)
	return fmt.Sprintf("{\"temp\":%.1f,\"hum\":%.0f,\"baro\":{\"hpa\":%.1f}}\r\n",
		14-6*math.Cos(day-0.8)+0.3*wobble, 68+18*math.Cos(day-0.8), 1013+4*math.Sin(day/2)+0.1*wobble)
}
