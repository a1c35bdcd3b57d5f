package registry

import (
	"encoding/json"
	"time"
)

// Setting reads a setting of the account (event configurations, the indexing
// configuration, the registration code) into v. It says whether there is one.
func (r *Registry) Setting(name string, v any) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.setting(name, v)
}

func (r *Registry) setting(name string, v any) bool {
	raw := r.settings.m[name]
	return raw != nil && json.Unmarshal(*raw, v) == nil
}

// Setting is Registry.Setting within a transaction.
func (tx *Tx) Setting(name string, v any) bool { return tx.r.setting(name, v) }

// EventSetting is the setting that says which registry events are published: an
// [EventSwitches].
const EventSetting = "eventConfigurations"

// EventSwitches says which kinds of events ("THING", "JOB" …) are on.
type EventSwitches struct {
	On      map[string]bool
	Created time.Time
	Changed time.Time
}

// EventOn says whether events of a kind are published.
func (r *Registry) EventOn(kind string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var s EventSwitches
	return r.setting(EventSetting, &s) && s.On[kind]
}

// Set writes a setting of the account; nil removes it.
func (tx *Tx) Set(name string, v any) {
	if v == nil {
		set(tx, &tx.r.settings, "setting", name, nil)
		return
	}
	val, err := json.Marshal(v)
	if err != nil {
		panic("BUG: a setting that is not JSON: " + err.Error())
	}
	raw := json.RawMessage(val)
	set(tx, &tx.r.settings, "setting", name, &raw)
}
