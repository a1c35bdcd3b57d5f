package journal

import "tidegate/gateway/metrics"

// Metrics registers the journal's and its store's numbers in m.
func (j *Journal) Metrics(m *metrics.Set) {
	m.Gauge("tidegate_journal_next", "Number that the next record gets.", func() float64 { return float64(j.Next()) })
	m.Gauge("tidegate_journal_bytes", "Bytes of records on the disk.", func() float64 { return float64(j.Stats().Bytes) })
	m.Gauge("tidegate_journal_cursors", "Cursors.", func() float64 { j.mu.Lock(); defer j.mu.Unlock(); return float64(len(j.cursors)) })
	m.Gauge("tidegate_journal_lag_max", "Records that the cursor furthest behind has not passed.", func() float64 {
		most := uint64(0)
		for _, c := range j.Cursors() {
			most = max(most, c.Lag)
		}
		return float64(most)
	})
	m.Gauge("tidegate_journal_ledger_entries", "Entries of the loss ledger.", func() float64 { j.mu.Lock(); defer j.mu.Unlock(); return float64(len(j.losses)) })
	m.Gauge("tidegate_journal_lost_records", "Records in the loss ledger.", func() float64 { return float64(j.lost.Load()) })
	m.Counter("tidegate_journal_unexplained_total", "Records that were missing without an entry in the ledger.", func() float64 { return float64(j.unexplained.Load()) })
	m.Gauge("tidegate_journal_full", "1 while new messages are refused because the journal is full.", func() float64 {
		if j.full.Load() {
			return 1
		}
		return 0
	})

	db := j.db
	m.Counter("tidegate_store_commits_total", "Entries written to the commit log, each with one sync.", func() float64 { return float64(db.Stats().Commits) })
	m.Counter("tidegate_store_units_total", "Units committed.", func() float64 { return float64(db.Stats().Units) })
	m.Counter("tidegate_store_records_total", "Records committed.", func() float64 { return float64(db.Stats().Records) })
	m.Counter("tidegate_store_log_bytes_total", "Bytes written to the commit log.", func() float64 { return float64(db.Stats().LogBytes) })
	m.Counter("tidegate_store_chunk_bytes_total", "Bytes of records written to the database.", func() float64 { return float64(db.Stats().ChunkBytes) })
	m.Counter("tidegate_store_skipped_total", "Records that never had to be written to the database.", func() float64 { return float64(db.Stats().Skipped) })
	m.Counter("tidegate_store_refused_total", "Units refused for want of room.", func() float64 { return float64(db.Stats().Refused) })
	m.Gauge("tidegate_store_pending_bytes", "Bytes committed and not yet applied.", func() float64 { return float64(db.Stats().PendingBytes) })
	m.Gauge("tidegate_store_sync_seconds", "How long the last sync of the commit log took.", func() float64 { return db.Stats().LastSync.Seconds() })
	m.Gauge("tidegate_store_damages", "Damages found at the start.", func() float64 { return float64(db.Stats().Damages) })
}
