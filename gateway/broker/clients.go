package broker

// Clients gives how many clients are connected now.
func (b *Broker) Clients() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns) - b.unconnected
}
