package bridge

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
)

// Config says how readings are told.
type Config struct {
	// Topic is where samples go: {thing}, {point-group} and {device} stand for names.
	Topic string `yaml:"topic"` // dt/{thing}/{point-group}
	// Errors is where desired values go that a device cannot take: {thing} stands for its name.
	Errors string `yaml:"errors"` // dt/{thing}/errors
	// Time is how samples are dated: rfc3339 (a key time), epoch_ms (a key ts), or both.
	Time string `yaml:"time"` // both
	// InFlight is how many messages may wait for the disk before the next is made.
	InFlight int `yaml:"in_flight"` // 64
}

// DefaultConfig gives the defaults.
func DefaultConfig() Config {
	return Config{Topic: "dt/{thing}/{point-group}", Errors: "dt/{thing}/errors", Time: "both", InFlight: 64}
}

var blanks = regexp.MustCompile(`\{[^{}]*\}`)

// Validate says everything that is wrong with c, each error starting with its key.
func (c Config) Validate() error {
	var errs []error
	topic := func(key, template string, allowed ...string) {
		for _, b := range blanks.FindAllString(template, -1) {
			known := false
			for _, a := range allowed {
				known = known || a == b
			}
			if !known {
				errs = append(errs, fmt.Errorf("%s: has %s, expected %s", key, b, strings.Join(allowed, ", ")))
				return
			}
		}
		plain := blanks.ReplaceAllString(template, "x")
		switch err := mqtt.ValidTopic(plain); {
		case err != nil || strings.ContainsAny(plain, "{}"):
			errs = append(errs, fmt.Errorf("%s: is %q, expected a topic without wildcards", key, template))
		case !awstopic.MayPublish(plain):
			errs = append(errs, fmt.Errorf("%s: is %q, which is reserved", key, template))
		}
	}
	topic("topic", c.Topic, "{thing}", "{point-group}", "{device}")
	topic("errors", c.Errors, "{thing}")
	if c.Time != "rfc3339" && c.Time != "epoch_ms" && c.Time != "both" {
		errs = append(errs, fmt.Errorf("time: is %q, expected rfc3339, epoch_ms or both", c.Time))
	}
	if c.InFlight < 1 || c.InFlight > 10000 {
		errs = append(errs, fmt.Errorf("in_flight: is %d, expected 1 to 10000", c.InFlight))
	}
	return errors.Join(errs...)
}
