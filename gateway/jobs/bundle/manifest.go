package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"tidegate/gateway/jobs"
)

// manifest reads and judges the manifest, as far as a bundle has its own rules: those of
// the job itself are Create's.
func (b *Bundle) manifest() error {
	h, err := b.next(manifestName)
	if err != nil {
		return err
	}
	if h.Size > maxManifest {
		return invalid("the bundle's manifest has %d bytes, at most %d are allowed", h.Size, maxManifest)
	}
	text, err := io.ReadAll(b.payload)
	if err != nil {
		return damaged(err, "the bundle's payload")
	}
	b.Manifest, err = ParseManifest(text)
	return err
}

// ParseManifest reads a manifest and judges it.
func ParseManifest(text []byte) (Manifest, error) {
	var probe struct{ Format string }
	if json.Unmarshal(text, &probe) == nil && probe.Format != Format { // another one may have other members
		return Manifest{}, invalid("the bundle's format is %q, this gateway reads %s", probe.Format, Format)
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, invalid("the bundle's manifest cannot be read: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return m, invalid("something follows the bundle's manifest")
	}
	return m, m.check()
}

func (m *Manifest) check() error {
	switch {
	case m.Issued.Year() < 2000 || m.Issued.Year() > 2200:
		return invalid("the bundle's manifest does not say when it was issued")
	case m.Job.Template != "" || m.Job.DocumentSource != "":
		return invalid("the job of a bundle has its document in it, and neither jobTemplateArn nor documentSource")
	case len(m.Files) > maxFiles:
		return invalid("the bundle has %d files, at most %d are allowed", len(m.Files), maxFiles)
	}
	for _, t := range m.Job.Targets {
		if kind, name, _ := strings.Cut(t, ":"); kind != "thing" && kind != "group" || name == "" {
			return invalid("the target %q of a bundle's job is neither thing:NAME nor group:NAME", t)
		}
	}
	have := map[string]bool{}
	for _, f := range m.Files {
		if len(f.Hash) != 64 || strings.Trim(f.Hash, "0123456789abcdef") != "" || f.Size < 0 {
			return invalid("the bundle's file %q has no hash of 64 hex digits, or no size", f.Hash)
		}
		if have[f.Hash] {
			return invalid("the bundle has the file %s twice", f.Hash)
		}
		have[f.Hash] = true
	}
	for _, o := range m.Objects {
		if !have[o.Hash] {
			return invalid("the bundle's object %s/%s is of a file that the bundle does not hold", o.Bucket, o.Key)
		}
	}
	for _, s := range m.Streams {
		for _, f := range s.Files {
			if !have[f.Hash] {
				return invalid("the bundle's stream %s is of a file that the bundle does not hold", s.ID)
			}
		}
	}
	return nil
}

// Targets gives the targets as ARNs below base, "arn:aws:iot:REGION:ACCOUNT:".
func (m *Manifest) Targets(base string) []string {
	var arns []string
	for _, t := range m.Job.Targets {
		kind, name, _ := strings.Cut(t, ":")
		arns = append(arns, base+map[string]string{"thing": "thing/", "group": "thinggroup/"}[kind]+name)
	}
	return arns
}

// Portable gives an ARN below base the form that a manifest has; an ARN elsewhere is an
// error.
func Portable(base, arn string) (string, error) {
	rest, ok := strings.CutPrefix(arn, base)
	kind, name, _ := strings.Cut(rest, "/")
	switch {
	case ok && kind == "thing":
		return "thing:" + name, nil
	case ok && kind == "thinggroup":
		return "group:" + name, nil
	}
	return "", invalid("the target %s is not one of this gateway's", arn)
}

// Input gives what the job is made from here.
func (m *Manifest) Input(base string) jobs.CreateInput {
	in := m.Job
	in.Targets = m.Targets(base)
	return in
}
