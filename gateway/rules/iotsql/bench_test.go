package iotsql_test

import (
	"testing"

	"tidegate/gateway/rules/iotsql"
)

// telemetry is a message of the size sensors send.
const telemetry = `{"deviceid":"pump-0042","ts":1718031415926,"temp":54.98,"humidity":32.43,"pressure":1013.25,"state":"running","coords":{"latitude":47.615694,"longitude":-122.3359976},"alarms":["low_oil","vibration"],"seq":48151623}`

func bench(b *testing.B, sql string) {
	st, err := iotsql.Parse(sql, iotsql.V2016)
	if err != nil {
		b.Fatal(err)
	}
	var in iotsql.Input
	payload := []byte(telemetry)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		in.Reset("dt/pump/telemetry", payload)
		if _, err := st.Eval(&in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNoMatch(b *testing.B) { bench(b, `SELECT * FROM 'dt/#' WHERE temp > 60`) }
func BenchmarkNoMatchTwo(b *testing.B) {
	bench(b, `SELECT * FROM 'dt/#' WHERE state = 'stopped' AND temp > 60`)
}
func BenchmarkSelectAll(b *testing.B) { bench(b, `SELECT * FROM 'dt/#' WHERE temp > 50`) }
func BenchmarkSelectSome(b *testing.B) {
	bench(b, `SELECT temp, coords.latitude AS lat, topic(2) AS kind FROM 'dt/#' WHERE temp > 50`)
}
func BenchmarkSelectAllAndMore(b *testing.B) {
	bench(b, `SELECT *, topic(2) AS kind, temp * 1.8 + 32 AS f FROM 'dt/#' WHERE temp > 50`)
}
func BenchmarkRegex(b *testing.B) {
	bench(b, `SELECT * FROM 'dt/#' WHERE regexp_matches(deviceid, '^fan-[0-9]+$')`)
}

// BenchmarkFurtherRule is what each rule after the first costs: the payload is parsed.
func BenchmarkFurtherRule(b *testing.B) {
	st, err := iotsql.Parse(`SELECT * FROM 'dt/#' WHERE temp > 60`, iotsql.V2016)
	if err != nil {
		b.Fatal(err)
	}
	var in iotsql.Input
	in.Reset("dt/pump/telemetry", []byte(telemetry))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := st.Eval(&in); err != nil {
			b.Fatal(err)
		}
	}
}
