package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// WritePayload writes the payload of a bundle; open gives the content of a file.
func WritePayload(w io.Writer, m Manifest, open func(hash string) (io.ReadCloser, error)) error {
	m.Format = Format
	text, err := json.MarshalIndent(&m, "", " ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if _, err := ParseManifest(text); err != nil { // what nobody could read is not written
		return err
	}
	archive := tar.NewWriter(w)
	if err := member(archive, m, manifestName, int64(len(text)), bytes.NewReader(text)); err != nil {
		return err
	}
	for _, f := range m.Files {
		content, err := open(f.Hash)
		if err != nil {
			return err
		}
		if err := errors.Join(member(archive, m, filePrefix+f.Hash, f.Size, content), content.Close()); err != nil {
			return err
		}
	}
	return archive.Close()
}

// Write joins a payload and its signature to a bundle.
func Write(w io.Writer, payload io.Reader, size int64, signature []byte) error {
	archive := tar.NewWriter(w)
	if err := member(archive, Manifest{}, signatureName, int64(len(signature)), bytes.NewReader(signature)); err != nil {
		return err
	}
	if err := member(archive, Manifest{}, payloadName, size, payload); err != nil {
		return err
	}
	return archive.Close()
}

// member writes a plain file. The same job gives the same bytes.
func member(archive *tar.Writer, m Manifest, name string, size int64, content io.Reader) error {
	h := &tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatUSTAR}
	if !m.Issued.IsZero() {
		h.ModTime = m.Issued.Truncate(time.Second)
	}
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(archive, content)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, expected %d", name, n, size)
	}
	return err
}
