package broker

// HoldTable keeps subscriptions from being made until release is called.
func (b *Broker) HoldTable() (release func()) {
	b.table.mu.RLock()
	return b.table.mu.RUnlock
}

// TableAwaited says whether somebody waits for HoldTable's release in order to change the table.
func (b *Broker) TableAwaited() bool {
	if !b.table.mu.TryRLock() {
		return true
	}
	b.table.mu.RUnlock()
	return false
}
