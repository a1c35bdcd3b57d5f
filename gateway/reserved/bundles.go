package reserved

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/jobs/bundle"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/logs"
	"tidegate/gateway/store"
)

// Bundles takes signed jobs in and gives jobs out to be signed: it joins the format
// (gateway/jobs/bundle) to jobs, streams and files.
type Bundles struct {
	Jobs    *Jobs
	Room    *jobs.Room
	Files   *streams.Room
	Store   jobs.Reader
	Clock   clock.Clock
	Log     *slog.Logger
	Base    string // "arn:aws:iot:REGION:ACCOUNT:"
	Spool   string // folder for what is being read
	Limits  bundle.Limits
	Signers []bundle.Signer
}

// Imported is a signed job that was taken.
type Imported struct {
	Job     jobs.JobView
	Signer  bundle.Signer
	Comment string // the trusted comment of the signature
}

// Import takes a signed job: when it returns, the job, its files and its streams are
// there, or nothing is. by is who brought it, for the log. Besides the errors of
// bundle.Open and Accept it fails as the creation of a job does.
func (b *Bundles) Import(r io.Reader, by string) (Imported, error) {
	x, err := bundle.Open(r, b.Spool, b.Limits, b.Signers)
	if err != nil {
		b.Log.Warn("signed job was refused", logs.Err(err), logs.Principal, by)
		return Imported{}, err
	}
	defer x.Close()
	out := Imported{Signer: x.Signer, Comment: x.Comment}
	err = x.Files(func(f bundle.File, content io.Reader) error {
		have, err := b.Files.Add(content)
		if err == nil && have.Hash != f.Hash {
			err = fault.New(fault.Invalid, "a file of the bundle has the hash %s and not %s", have.Hash, f.Hash)
		}
		return err
	})
	if err != nil {
		return out, err
	}
	err = b.Jobs.waitUnit(func(u *store.Unit, tell func(jobs.Notice)) error {
		if err := x.Accept(u, b.Clock.Now(), b.Clock.Trusted()); err != nil {
			return err
		}
		if err := b.bring(u, &x.Manifest); err != nil {
			return err
		}
		in := x.Manifest.Input(b.Base)
		in.Signer = x.Signer.String()
		out.Job, err = b.Room.Create(u, tell, in)
		return err
	})
	if err != nil {
		b.Log.Warn("signed job was refused", logs.Err(err), logs.Job, x.Manifest.Job.JobID, logs.Principal, by, "signer", x.Signer.ID())
		return out, err
	}
	b.Log.Info("signed job was imported", logs.Job, out.Job.ID, logs.Principal, by, "signer", x.Signer.ID(), "comment", x.Comment)
	return out, nil
}

// bring makes the objects and streams of a bundle. What is there already must be the same:
// other jobs may rely on it.
func (b *Bundles) bring(u *store.Unit, m *bundle.Manifest) error {
	sizes := map[string]int64{}
	for _, f := range m.Files {
		sizes[f.Hash] = f.Size
	}
	for _, o := range m.Objects {
		switch have, err := b.Files.Object(u, o.Bucket, o.Key); {
		case err == nil && have.Hash == o.Hash:
			continue
		case err == nil:
			return fault.New(fault.Exists, "there is an object %s/%s already, with other content", o.Bucket, o.Key)
		case !fault.Is(err, fault.NotFound):
			return err
		}
		if err := b.Files.Name(u, o.Bucket, o.Key, streams.Blob{Hash: o.Hash, Size: sizes[o.Hash]}); err != nil {
			return err
		}
	}
	for _, s := range m.Streams {
		var sources []streams.Source
		for _, f := range s.Files {
			sources = append(sources, streams.Source{ID: f.ID, Hash: f.Hash})
		}
		have, err := b.Files.Stream(u, s.ID)
		switch {
		case err == nil && !slices.EqualFunc(have.Files, s.Files, func(f streams.File, g bundle.StreamFile) bool { return f.ID == g.ID && f.Hash == g.Hash }):
			return fault.New(fault.Exists, "there is a stream %s already, with other files", s.ID)
		case err == nil:
			continue
		case !fault.Is(err, fault.NotFound):
			return err
		}
		if _, err := b.Files.Create(u, s.ID, s.Description, "", sources); err != nil {
			return err
		}
	}
	return nil
}

// Export gives a job as it can be taken to another gateway: what the manifest of a bundle
// says of it. Write writes the payload. Both fail with NotFound, and Export with
// Unavailable while the time is not known.
func (b *Bundles) Export(id string) (bundle.Manifest, error) {
	if !b.Clock.Trusted() {
		return bundle.Manifest{}, fault.New(fault.Unavailable, "the gateway does not know what time it is, and a bundle says when it was issued: set the clock first")
	}
	_, def, err := b.Room.Show(b.Store, id)
	if err != nil {
		return bundle.Manifest{}, err
	}
	selection := "SNAPSHOT"
	if def.Continuous {
		selection = "CONTINUOUS"
	}
	m := bundle.Manifest{Issued: b.Clock.Now().UTC(), Job: jobs.CreateInput{JobID: def.ID, Document: def.Document, TargetSelection: selection, Namespace: def.Namespace,
		Scheduling: def.Scheduling, Packages: def.Packages, Tags: def.Tags, Settings: def.Settings}}
	for _, arn := range def.Targets {
		t, err := bundle.Portable(b.Base, arn)
		if err != nil {
			return m, err
		}
		m.Job.Targets = append(m.Job.Targets, t)
	}
	return m, b.gather(&m)
}

// gather adds what the document refers to, as far as it is here.
func (b *Bundles) gather(m *bundle.Manifest) error {
	file := func(have streams.Blob) {
		f := bundle.File{Hash: have.Hash, Size: have.Size}
		if !slices.Contains(m.Files, f) {
			m.Files = append(m.Files, f)
		}
	}
	refs := streams.References(m.Job.Document)
	for _, o := range refs.Objects {
		have, err := b.Files.Object(b.Store, o.Bucket, o.Key)
		if err != nil {
			return fmt.Errorf("what the document refers to: %w", err)
		}
		file(have)
		m.Objects = append(m.Objects, bundle.Object{Bucket: o.Bucket, Key: o.Key, Hash: have.Hash})
	}
	for _, id := range refs.Streams {
		s, err := b.Files.Stream(b.Store, id)
		if fault.Is(err, fault.NotFound) {
			continue // a text that is called so
		}
		if err != nil {
			return err
		}
		t := bundle.Stream{ID: s.ID, Description: s.Description}
		for _, f := range s.Files {
			file(f.Blob)
			t.Files = append(t.Files, bundle.StreamFile{ID: f.ID, Hash: f.Hash})
		}
		m.Streams = append(m.Streams, t)
	}
	for _, hash := range refs.Hashes {
		have, err := b.Files.Stat(hash)
		switch {
		case err == nil && slices.Contains(m.Files, bundle.File{Hash: have.Hash, Size: have.Size}):
		case err == nil: // without a name nothing would hold it there
			file(have)
			m.Objects = append(m.Objects, bundle.Object{Bucket: "jobs", Key: m.Job.JobID + "/" + hash, Hash: hash})
		case !fault.Is(err, fault.NotFound):
			return err
		}
	}
	return nil
}

// Write writes the payload that Export has described.
func (b *Bundles) Write(w io.Writer, m bundle.Manifest) error {
	err := bundle.WritePayload(w, m, func(hash string) (io.ReadCloser, error) { return b.Files.Read(hash) })
	var f *fault.Error
	if err != nil && !errors.As(err, &f) {
		err = fault.Wrap(fault.Unavailable, err, "the bundle cannot be written")
	}
	return err
}
