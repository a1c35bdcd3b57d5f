package registry

import "encoding/json"

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
