package node

import (
	"io"
	"time"

	"tidegate/gateway/localapi/localclient"
)

// workDesk is jobs and files as the command line sees them.
type workDesk struct{ n *Node }

// ReadFile opens what has the name of an object.
func (d workDesk) ReadFile(bucket, key string) (io.ReadCloser, int64, error) {
	b, err := d.n.work.files.Named(bucket, key)
	if err != nil {
		return nil, 0, err
	}
	f, err := d.n.work.files.Read(b.Hash)
	if err != nil {
		return nil, 0, err
	}
	return f, b.Size, nil
}

// ExportJob prepares the payload of a signed job.
func (d workDesk) ExportJob(id string) (func(io.Writer) error, error) {
	m, err := d.n.work.bundles.Export(id)
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error { return d.n.work.bundles.Write(w, m) }, nil
}

// ImportJob takes a signed job.
func (d workDesk) ImportJob(bundle io.Reader, by string) (localclient.Imported, error) {
	x, err := d.n.work.bundles.Import(bundle, by)
	if err != nil {
		return localclient.Imported{}, err
	}
	return localclient.Imported{Job: x.Job.ID, ARN: x.Job.ARN, Status: string(x.Job.Status), Signer: x.Signer.ID(), Comment: x.Comment,
		Created: time.UnixMilli(int64(x.Job.Created))}, nil
}
